
/*
 * What is told of an attempt: its peer, what was sent, what came back.
 */


#include "ngx_http_trace_upstream.h"


typedef enum {
    NGX_HTTP_TRACE_HTTP = 0,
    NGX_HTTP_TRACE_GRPC,
    NGX_HTTP_TRACE_MEMCACHED,
    NGX_HTTP_TRACE_CGI                               /* FastCGI and its like */
} ngx_http_trace_schema_e;


/* an empty or negative value is not known */

typedef struct {
    ngx_http_trace_known_t           *method;
    ngx_http_trace_known_t           *protocol_version;
    ngx_http_trace_known_t           *reused;
    ngx_str_t                         url;
    ngx_str_t                         error_type;
    ngx_str_t                         peer_address;
    int64_t                           status_code;
    int64_t                           resend_count;
    int64_t                           peer_port;
    u_char                            error[NGX_INT_T_LEN];
} ngx_http_trace_attempt_facts_t;


static void ngx_http_trace_attempt_head(ngx_http_trace_child_t *child,
    ngx_uint_t pipeline, otlp_span_head_t *head);
static int ngx_http_trace_attempt_write(void *data, ngx_uint_t pipeline,
    otlp_span_t *span);
static int ngx_http_trace_attempt_status(ngx_http_trace_child_t *child,
    u_char *buf, ngx_str_t *error);
static int ngx_http_trace_attempt_facts(ngx_http_trace_attempt_t *attempt,
    ngx_http_trace_attempt_facts_t *facts);
static void ngx_http_trace_attempt_peer(ngx_str_t *name,
    ngx_http_trace_attempt_facts_t *facts);
static void ngx_http_trace_upstream_describe(ngx_http_trace_upstream_t *up);
static void ngx_http_trace_upstream_rare(ngx_http_trace_upstream_t *up);
static ngx_http_trace_schema_e ngx_http_trace_upstream_schema(
    ngx_http_trace_upstream_t *up);
static void ngx_http_trace_upstream_line(ngx_http_trace_upstream_t *up);
static void ngx_http_trace_upstream_url(ngx_http_trace_upstream_t *up);
static NGX_HTTP_TRACE_APART ngx_int_t ngx_http_trace_upstream_resolved_url(
    ngx_http_trace_upstream_t *up, ngx_uint_t tls, ngx_str_t *prefix);


ngx_http_trace_child_type_t  ngx_http_trace_attempt_type = {
    ngx_http_trace_attempt_head,
    ngx_http_trace_attempt_status,
    ngx_http_trace_attempt_write,
    NULL
};


static ngx_http_trace_semconv_t  ngx_http_trace_attempt_semconvs[] = {

#define ngx_http_trace_fact(type, name, minimal, field)                       \
    ngx_http_trace_##type(name, minimal, ngx_http_trace_attempt_facts_t, field)

    ngx_http_trace_fact(known, "http.request.method", 1, method),
    ngx_http_trace_fact(known, "network.protocol.version", 0,
                        protocol_version),
    ngx_http_trace_fact(known, "nginx.upstream.connection_reused", 0, reused),

    ngx_http_trace_fact(str, "url.full", 0, url),
    ngx_http_trace_fact(str, "error.type", 1, error_type),
    ngx_http_trace_fact(str, "network.peer.address", 0, peer_address),

    ngx_http_trace_fact(num, "http.response.status_code", 1, status_code),
    ngx_http_trace_fact(num, "http.request.resend_count", 1, resend_count),
    ngx_http_trace_fact(num, "network.peer.port", 0, peer_port),

    ngx_http_trace_null_semconv

#undef ngx_http_trace_fact
};


/* what most upstreams do not have */

static ngx_http_trace_semconv_t  ngx_http_trace_rare_semconvs[] = {

#define ngx_http_trace_fact(type, name, minimal, field)                       \
    ngx_http_trace_##type(name, minimal, ngx_http_trace_upstream_t, field)

    ngx_http_trace_fact(str, "http.request.method_original", 1,
                        method_original),
    ngx_http_trace_fact(str, "server.address", 0, server_address),
    ngx_http_trace_fact(str, "network.protocol.name", 0, protocol_name),
    ngx_http_trace_fact(str, "db.system.name", 0, db_system),
    ngx_http_trace_fact(str, "db.operation.name", 0, db_operation),

    ngx_http_trace_fact(num, "server.port", 0, server_port),

    ngx_http_trace_null_semconv

#undef ngx_http_trace_fact
};


/* nginx.upstream.connection_reused, a boolean */
static ngx_http_trace_known_t  ngx_http_trace_reused[2];

/* events */
static otlp_known_t  ngx_http_trace_connect;
static otlp_known_t  ngx_http_trace_first_byte;
static otlp_known_t  ngx_http_trace_last_byte;


ngx_http_trace_semconv_lists(ngx_http_trace_attempt_lists,
                             ngx_http_trace_attempt_semconvs);
ngx_http_trace_semconv_lists(ngx_http_trace_rare_lists,
                             ngx_http_trace_rare_semconvs);


void
ngx_http_trace_attempt_init(void)
{
    ngx_uint_t  i;

    for (i = 0; i < 2; i++) {
        (void) otlp_known_bool(&ngx_http_trace_reused[i].attribute,
                   ngx_http_trace_key("nginx.upstream.connection_reused"), i);
    }

    for (i = 0; i < NGX_HTTP_TRACE_LEVELS; i++) {
        ngx_http_trace_semconv_list(ngx_http_trace_attempt_lists[i],
                                    ngx_http_trace_attempt_semconvs, i);
        ngx_http_trace_semconv_list(ngx_http_trace_rare_lists[i],
                                    ngx_http_trace_rare_semconvs, i);
    }

    (void) otlp_known_event(&ngx_http_trace_connect,
                            ngx_http_trace_key("connect"));
    (void) otlp_known_event(&ngx_http_trace_first_byte,
                            ngx_http_trace_key("first_byte"));
    (void) otlp_known_event(&ngx_http_trace_last_byte,
                            ngx_http_trace_key("last_byte"));

    ngx_http_trace_semconv_table(ngx_http_trace_attempt_semconvs);
    ngx_http_trace_semconv_table(ngx_http_trace_rare_semconvs);
}


static void
ngx_http_trace_attempt_head(ngx_http_trace_child_t *child, ngx_uint_t pipeline,
    otlp_span_head_t *head)
{
    ngx_http_trace_attempt_t *attempt = (ngx_http_trace_attempt_t *) child;

    ngx_str_t                   name;
    ngx_http_trace_upstream_t  *up;

    up = attempt->up;

    if (!up->described) {
        ngx_http_trace_upstream_describe(up);
    }

    head->kind = OTLP_SPAN_KIND_CLIENT;

    if (up->method) {
        ngx_http_trace_name_method(up->method, &name);

    } else {
        ngx_str_set(&name, "get");
    }

    head->name.data = name.data;
    head->name.len = name.len;
}


static int
ngx_http_trace_attempt_write(void *data, ngx_uint_t pipeline,
    otlp_span_t *span)
{
    ngx_http_trace_attempt_t *attempt = data;

    int                               status;
    ngx_uint_t                        level;
    ngx_http_trace_balancer_t        *balancer;
    ngx_http_trace_attempt_facts_t    facts;

    level = attempt->up->ctx->level[pipeline];

    status = ngx_http_trace_attempt_facts(attempt, &facts);

    ngx_http_trace_semconv(ngx_http_trace_attempt_lists[level], &facts, span);

    if (attempt->up->rare) {
        ngx_http_trace_semconv(ngx_http_trace_rare_lists[level], attempt->up,
                               span);
    }

    balancer = attempt->up->balancer;

    if (balancer && level == NGX_HTTP_TRACE_ALL) {
        otlp_span_encoded(span, balancer->attributes.data,
                          balancer->attributes.len, balancer->attributes_n);
    }

    if (attempt->connected && !attempt->reused) {
        otlp_span_known_event(span, &ngx_http_trace_connect,
                              attempt->connected);
    }

    if (attempt->first_byte) {
        otlp_span_known_event(span, &ngx_http_trace_first_byte,
                              attempt->first_byte);
    }

    if (attempt->last_byte) {
        otlp_span_known_event(span, &ngx_http_trace_last_byte,
                              attempt->child.end);
    }

    return status;
}


static int
ngx_http_trace_attempt_status(ngx_http_trace_child_t *child, u_char *buf,
    ngx_str_t *error)
{
    ngx_http_trace_attempt_t *attempt = (ngx_http_trace_attempt_t *) child;

    *error = attempt->error;

    /* one of nginx's own making tells nothing of memcached */

    if (error->len == 0 && attempt->status >= 400 && attempt->up->method) {
        ngx_http_trace_status_error(attempt->status, buf, error);
    }

    return error->len && !attempt->gone ? OTLP_STATUS_ERROR
                                        : OTLP_STATUS_UNSET;
}


static int
ngx_http_trace_attempt_facts(ngx_http_trace_attempt_t *attempt,
    ngx_http_trace_attempt_facts_t *facts)
{
    ngx_http_trace_upstream_t  *up;

    up = attempt->up;

    facts->method = up->method;
    facts->protocol_version = up->protocol_version;
    facts->url = up->url;
    facts->reused = attempt->connection
                    ? &ngx_http_trace_reused[attempt->reused] : NULL;
    facts->resend_count = attempt->resend_count
                          ? (int64_t) attempt->resend_count : NGX_ERROR;
    facts->status_code = up->method ? attempt->status : NGX_ERROR;

    ngx_http_trace_attempt_peer(attempt->peer, facts);

    return ngx_http_trace_attempt_status(&attempt->child, facts->error,
                                         &facts->error_type);
}


/* "address:port", "[address]:port", or "unix:path" */

static void
ngx_http_trace_attempt_peer(ngx_str_t *name,
    ngx_http_trace_attempt_facts_t *facts)
{
    u_char     *p, *last;
    ngx_str_t  *address;

    address = &facts->peer_address;
    address->len = 0;

    facts->peer_port = NGX_ERROR;

    if (name == NULL) {
        return;
    }

    *address = *name;

    if (name->len > 5 && ngx_memcmp(name->data, "unix:", 5) == 0) {
        address->data += 5;
        address->len -= 5;
        return;
    }

    last = name->data + name->len;

    for (p = last; p > name->data && p[-1] >= '0' && p[-1] <= '9'; p--) {
        /* void */
    }

    if (p > name->data && p < last && p[-1] == ':') {
        facts->peer_port = ngx_atoi(p, last - p);
        address->len = p - 1 - name->data;
    }

    ngx_http_trace_unbracket(address);
}


/* what was sent, which is the same in all attempts */

static void
ngx_http_trace_upstream_describe(ngx_http_trace_upstream_t *up)
{
    up->described = 1;
    up->method = NULL;
    up->protocol_version = NULL;
    up->url.len = 0;
    up->rare = 0;

    if (up->balancer == NULL && up->upstream->resolved) {
        ngx_http_trace_upstream_rare(up);
        up->server_address = up->upstream->resolved->host;
        up->server_port = up->upstream->resolved->port;
    }

    switch (ngx_http_trace_upstream_schema(up)) {

    case NGX_HTTP_TRACE_HTTP:
        ngx_http_trace_upstream_line(up);
        ngx_http_trace_upstream_url(up);
        break;

    case NGX_HTTP_TRACE_GRPC:
        up->protocol_version = ngx_http_trace_version(NGX_HTTP_VERSION_20);
        ngx_http_trace_upstream_url(up);
        break;

    case NGX_HTTP_TRACE_MEMCACHED:
        ngx_http_trace_upstream_rare(up);
        ngx_str_set(&up->db_system, "memcached");
        ngx_str_set(&up->db_operation, "get");
        return;

    default: /* FastCGI, SCGI, uwsgi */
        break;
    }

    up->method = ngx_http_trace_method(0, &up->method_name);

    if (up->method->value.data[0] == '_') {
        ngx_http_trace_upstream_rare(up);
        up->method_original = up->method_name;
    }
}


static void
ngx_http_trace_upstream_rare(ngx_http_trace_upstream_t *up)
{
    if (up->rare) {
        return;
    }

    up->rare = 1;
    up->method_original.len = 0;
    up->server_address.len = 0;
    up->protocol_name.len = 0;
    up->db_system.len = 0;
    up->db_operation.len = 0;
    up->server_port = NGX_ERROR;
}


/* what is spoken; sets the name of what is not HTTP */

static ngx_http_trace_schema_e
ngx_http_trace_upstream_schema(ngx_http_trace_upstream_t *up)
{
    ngx_str_t  schema;

    schema = up->upstream->schema;

    if (schema.len < sizeof("s://") - 1) {
        return NGX_HTTP_TRACE_CGI;
    }

    schema.len -= sizeof("://") - 1;

    switch (schema.data[0] | 0x20) {

    case 'h':
        return NGX_HTTP_TRACE_HTTP;

    case 'g':
        return NGX_HTTP_TRACE_GRPC;

    case 'm':
        return NGX_HTTP_TRACE_MEMCACHED;

    default:

        /* "suwsgi" is uwsgi over TLS */

        if (schema.len == 6 && schema.data[1] == 'u') {
            schema.data++;
            schema.len--;
        }

        ngx_http_trace_upstream_rare(up);
        up->protocol_name = schema;
        return NGX_HTTP_TRACE_CGI;
    }
}


/* as the request line says, if there is one in what was sent */

static void
ngx_http_trace_upstream_line(ngx_http_trace_upstream_t *up)
{
    u_char               *minor;
    ngx_buf_t            *b;
    ngx_http_upstream_t  *u;

    u = up->upstream;
    b = up->header;

    minor = u->uri.data + u->uri.len + sizeof(" HTTP/1.") - 1;

    if (b == NULL || u->uri.data <= b->start || minor >= b->last
        || u->uri.data[-1] != ' ')
    {
        return;
    }

    up->uri = u->uri;

    up->method_name.data = b->start;
    up->method_name.len = u->uri.data - 1 - b->start;

    up->protocol_version = ngx_http_trace_version(*minor == '0'
                                                  ? NGX_HTTP_VERSION_10
                                                  : NGX_HTTP_VERSION_11);
}


/* "{scheme}://{host}{uri}", with secrets in its query redacted */

static void
ngx_http_trace_upstream_url(ngx_http_trace_upstream_t *up)
{
    u_char               *p;
    ngx_str_t             prefix, path, query;
    ngx_uint_t            tls;
    ngx_http_upstream_t  *u;

    u = up->upstream;

    tls = ((u->schema.data[u->schema.len - sizeof("s://") + 1] | 0x20) == 's');

    if (up->balancer) {
        prefix = tls ? up->balancer->url_tls : up->balancer->url;

    } else if (ngx_http_trace_upstream_resolved_url(up, tls, &prefix)
               != NGX_OK)
    {
        return;
    }

    path = up->uri;
    query.len = 0;

    p = memchr(path.data, '?', path.len);

    if (p) {
        query.data = p + 1;
        query.len = path.data + path.len - query.data;
        path.len = query.data - path.data;

        ngx_http_trace_redact(up->request, &query);
    }

    p = ngx_http_trace_alloc(up->request, up->ctx, prefix.len + path.len
                                                   + query.len);
    if (p == NULL) {
        return;
    }

    up->url.data = p;
    up->url.len = prefix.len + path.len + query.len;

    p = ngx_cpymem(p, prefix.data, prefix.len);
    p = ngx_cpymem(p, path.data, path.len);

    if (query.len) {
        ngx_memcpy(p, query.data, query.len);
    }
}


/* of a host that a variable has named */

static ngx_int_t
ngx_http_trace_upstream_resolved_url(ngx_http_trace_upstream_t *up,
    ngx_uint_t tls, ngx_str_t *prefix)
{
    u_char                        *p;
    ngx_http_upstream_resolved_t  *resolved;

    resolved = up->upstream->resolved;

    if (resolved == NULL) {
        return NGX_ERROR;
    }

    p = ngx_http_trace_alloc(up->request, up->ctx,
                             sizeof("https://:65535") + resolved->host.len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    prefix->data = p;

    p = ngx_sprintf(p, "http%s://%V", tls ? "s" : "", &resolved->host);

    if (!resolved->no_port) {
        p = ngx_sprintf(p, ":%ui", (ngx_uint_t) resolved->port);
    }

    prefix->len = p - prefix->data;

    return NGX_OK;
}
