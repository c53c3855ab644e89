
/*
 * What is known of a request, gathered once for all of its spans, and the
 * attributes that the OpenTelemetry semantic conventions for HTTP servers make
 * of it, in one table; with the span's default name and its status.
 */


#include "ngx_http_trace_module.h"


static void ngx_http_trace_semconv_encode(char *name,
    ngx_http_trace_known_t *known);
static void ngx_http_trace_method_facts(ngx_http_request_t *r,
    ngx_http_trace_facts_t *facts);
static void ngx_http_trace_url_facts(ngx_http_request_t *r,
    ngx_http_trace_facts_t *facts);
static ngx_uint_t ngx_http_trace_redacted_copy(ngx_str_t *query, u_char *dst,
    size_t *len);
static void ngx_http_trace_server_facts(ngx_http_request_t *r,
    ngx_http_trace_facts_t *facts);
static ngx_int_t ngx_http_trace_server_port(ngx_http_request_t *r);
static void ngx_http_trace_peer_facts(ngx_http_request_t *r,
    ngx_http_trace_facts_t *facts);
static void ngx_http_trace_body_facts(ngx_http_request_t *r,
    ngx_http_trace_facts_t *facts);
static void ngx_http_trace_status_facts(ngx_http_request_t *r,
    ngx_http_trace_ctx_t *ctx, ngx_http_trace_facts_t *facts);
static void ngx_http_trace_cache_facts(ngx_http_request_t *r,
    ngx_http_trace_facts_t *facts);


static ngx_http_trace_semconv_t  ngx_http_trace_semconvs[] = {

#define ngx_http_trace_fact(type, name, minimal, field)                       \
    ngx_http_trace_##type(name, minimal, ngx_http_trace_facts_t, field)

    ngx_http_trace_fact(known, "http.request.method", 1, method),
    ngx_http_trace_fact(known, "url.scheme", 1, scheme),
    ngx_http_trace_fact(known, "network.protocol.version", 1,
                        protocol_version),

    ngx_http_trace_fact(str, "http.request.method_original", 1,
                        method_original),
    ngx_http_trace_fact(str, "url.path", 1, path),
    ngx_http_trace_fact(str, "url.query", 1, query),
    ngx_http_trace_fact(str, "server.address", 1, server_address),
    ngx_http_trace_fact(str, "error.type", 1, error_type),
    ngx_http_trace_fact(str, "client.address", 0, client_address),
    ngx_http_trace_fact(str, "network.peer.address", 0, peer_address),
    ngx_http_trace_fact(str, "user_agent.original", 1, user_agent),
    ngx_http_trace_fact(str, "nginx.cache.status", 0, cache_status),

    ngx_http_trace_fact(num, "server.port", 1, server_port),
    ngx_http_trace_fact(num, "http.response.status_code", 1, status_code),
    ngx_http_trace_fact(num, "network.peer.port", 0, peer_port),
    ngx_http_trace_fact(num, "http.request.body.size", 1, request_size),
    ngx_http_trace_fact(num, "http.response.body.size", 1, response_size),

    ngx_http_trace_null_semconv

#undef ngx_http_trace_fact
};


/* values that there are few of: encoded once, and only copied later */

static ngx_http_trace_known_t  ngx_http_trace_methods[] = {
    ngx_http_trace_value("GET", NGX_HTTP_GET),
    ngx_http_trace_value("HEAD", NGX_HTTP_HEAD),
    ngx_http_trace_value("POST", NGX_HTTP_POST),
    ngx_http_trace_value("PUT", NGX_HTTP_PUT),
    ngx_http_trace_value("DELETE", NGX_HTTP_DELETE),
    ngx_http_trace_value("OPTIONS", NGX_HTTP_OPTIONS),
    ngx_http_trace_value("PATCH", NGX_HTTP_PATCH),
    ngx_http_trace_value("TRACE", NGX_HTTP_TRACE),
    ngx_http_trace_value("CONNECT", 0),
    ngx_http_trace_value("QUERY", 0),
    ngx_http_trace_value("_OTHER", 0),
    ngx_http_trace_null_value
};


static ngx_http_trace_known_t  ngx_http_trace_schemes[] = {
    ngx_http_trace_value("http", 0),
    ngx_http_trace_value("https", 0),
    ngx_http_trace_null_value
};


static ngx_http_trace_known_t  ngx_http_trace_versions[] = {
    ngx_http_trace_value("1.1", NGX_HTTP_VERSION_11),
    ngx_http_trace_value("2", NGX_HTTP_VERSION_20),
    ngx_http_trace_value("3", 3000),
    ngx_http_trace_value("1.0", NGX_HTTP_VERSION_10),
    ngx_http_trace_value("0.9", NGX_HTTP_VERSION_9),
    ngx_http_trace_null_value
};


/* parameters whose values are secrets, by the convention of url.query */

static ngx_str_t  ngx_http_trace_secrets[] = {
    ngx_string("sig"),
    ngx_string("Signature"),
    ngx_string("X-Goog-Signature"),
    ngx_string("AWSAccessKeyId"),
    ngx_null_string
};


static ngx_str_t  ngx_http_trace_redacted = ngx_string("REDACTED");


void
ngx_http_trace_semconv_init(void)
{
    ngx_http_trace_semconv_encode("http.request.method",
                                  ngx_http_trace_methods);
    ngx_http_trace_semconv_encode("url.scheme", ngx_http_trace_schemes);
    ngx_http_trace_semconv_encode("network.protocol.version",
                                  ngx_http_trace_versions);

    ngx_http_trace_semconv_table(ngx_http_trace_semconvs);
}


/* encodes the names of a table, before its first use */

void
ngx_http_trace_semconv_table(ngx_http_trace_semconv_t *table)
{
    for ( /* void */ ; table->name.len; table++) {
        (void) otlp_key_init(&table->key, (char *) table->name.data,
                             table->name.len);
    }
}


static void
ngx_http_trace_semconv_encode(char *name, ngx_http_trace_known_t *known)
{
    for ( /* void */ ; known->value.len; known++) {
        (void) otlp_known_string(&known->attribute, name, ngx_strlen(name),
                                 known->value.data, known->value.len);
    }
}


/* what of a table spans have by default; the table's end is the list's, too */

void
ngx_http_trace_semconv_list(ngx_http_trace_semconv_t **list,
    ngx_http_trace_semconv_t *table, ngx_uint_t level)
{
    for ( /* void */ ; table->name.len; table++) {
        if (level == NGX_HTTP_TRACE_ALL
            || (level == NGX_HTTP_TRACE_MINIMAL && table->minimal))
        {
            *list++ = table;
        }
    }

    *list = table;
}


/* those of requests, or NULL without memory */

ngx_http_trace_semconv_t **
ngx_http_trace_semconv_request(ngx_pool_t *pool, ngx_uint_t level)
{
    ngx_http_trace_semconv_t  **list;

    list = ngx_palloc(pool, sizeof(ngx_http_trace_semconvs)
                            / sizeof(ngx_http_trace_semconvs[0])
                            * sizeof(ngx_http_trace_semconv_t *));

    if (list) {
        ngx_http_trace_semconv_list(list, ngx_http_trace_semconvs, level);
    }

    return list;
}


void
ngx_http_trace_semconv_remove(ngx_http_trace_semconv_t **list,
    ngx_str_t *name)
{
    for ( /* void */ ; (*list)->name.len; list++) {
        if ((*list)->name.len == name->len
            && ngx_strncmp((*list)->name.data, name->data, name->len) == 0)
        {
            break;
        }
    }

    for ( /* void */ ; (*list)->name.len; list++) {
        list[0] = list[1];
    }
}


void
ngx_http_trace_semconv(ngx_http_trace_semconv_t **list, void *facts,
    otlp_span_t *span)
{
    int64_t                    number;
    ngx_str_t                 *string;
    ngx_http_trace_known_t    *known;
    ngx_http_trace_semconv_t  *entry;

#define ngx_http_trace_fact(type)                                             \
    ((type *) ((u_char *) facts + entry->offset))

    for (entry = *list; entry->type == NGX_HTTP_TRACE_KNOWN; entry = *++list) {
        known = *ngx_http_trace_fact(ngx_http_trace_known_t *);

        if (known) {
            otlp_span_known(span, &known->attribute);
        }
    }

    for ( /* void */ ; entry->type == NGX_HTTP_TRACE_STRING; entry = *++list) {
        string = ngx_http_trace_fact(ngx_str_t);

        if (string->len) {
            otlp_span_key_string(span, &entry->key, string->data,
                                 string->len);
        }
    }

    for ( /* void */ ; entry->type == NGX_HTTP_TRACE_INT; entry = *++list) {
        number = *ngx_http_trace_fact(int64_t);

        if (number >= 0) {
            otlp_span_key_int(span, &entry->key, number);
        }
    }
}


/* the method as it stands in a span's name */

void
ngx_http_trace_name_method(ngx_http_trace_known_t *method, ngx_str_t *name)
{
    *name = method->value;

    if (name->data[0] == '_') {
        ngx_str_set(name, "HTTP");
    }
}


/* "{method} {http.route}", or "{method}" */

ngx_int_t
ngx_http_trace_semconv_name(ngx_http_request_t *r,
    ngx_http_trace_known_t *method, ngx_http_trace_pipeline_conf_t *pcf,
    ngx_str_t *name)
{
    u_char     *p;
    ngx_str_t   word;

    if (method->number == NGX_HTTP_GET) {
        *name = pcf->get;
        return NGX_OK;
    }

    ngx_http_trace_name_method(method, &word);

    if (pcf->route.len == 0) {
        *name = word;
        return NGX_OK;
    }

    p = ngx_pnalloc(r->pool, word.len + 1 + pcf->route.len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    name->data = p;
    name->len = ngx_sprintf(p, "%V %V", &word, &pcf->route) - p;

    return NGX_OK;
}


int
ngx_http_trace_semconv_status(ngx_http_trace_facts_t *facts)
{
    return facts->status >= 500 || facts->cut ? OTLP_STATUS_ERROR
                                              : OTLP_STATUS_UNSET;
}


void
ngx_http_trace_facts(ngx_http_request_t *r, ngx_http_trace_ctx_t *ctx,
    ngx_http_trace_facts_t *facts)
{
    ngx_http_trace_method_facts(r, facts);
    ngx_http_trace_url_facts(r, facts);
    ngx_http_trace_server_facts(r, facts);
    ngx_http_trace_peer_facts(r, facts);
    ngx_http_trace_body_facts(r, facts);
    ngx_http_trace_status_facts(r, ctx, facts);
    ngx_http_trace_cache_facts(r, facts);

    facts->protocol_version = ngx_http_trace_version(r->http_version);

    facts->user_agent.len = 0;

    if (r->headers_in.user_agent) {
        facts->user_agent = r->headers_in.user_agent->value;
    }
}


static void
ngx_http_trace_method_facts(ngx_http_request_t *r,
    ngx_http_trace_facts_t *facts)
{
    u_char      *end;
    ngx_str_t   *name;
    ngx_uint_t   method;

    name = &facts->method_original;

    *name = r->method_name;

    /* nginx names no method where the line was too long to read to its end */

    if (name->len == 0 && r->method_end) {
        name->data = r->request_start;
        name->len = r->method_end + 1 - r->request_start;
    }

    method = r->method;

    /* an error page is asked for with GET, whatever the client has written */

    if (r->internal && r->request_line.len) {
        end = ngx_strlchr(r->request_line.data,
                          r->request_line.data + r->request_line.len, ' ');

        if (end) {
            name->data = r->request_line.data;
            name->len = end - r->request_line.data;
            method = 0;
        }
    }

    facts->method = ngx_http_trace_method(method, name);

    if (facts->method->value.data[0] != '_') {
        name->len = 0;
    }
}


/* |method| is nginx's number of it, or 0 if |name| is all that there is */

ngx_http_trace_known_t *
ngx_http_trace_method(ngx_uint_t method, ngx_str_t *name)
{
    ngx_http_trace_known_t  *known;

    if (method && name->len) {
        for (known = ngx_http_trace_methods; known->number; known++) {
            if (known->number == method) {
                return known;
            }
        }
    }

    for (known = ngx_http_trace_methods; known[1].value.len; known++) {
        if (name->len == known->value.len
            && ngx_memcmp(name->data, known->value.data, name->len) == 0)
        {
            break;
        }
    }

    return known;
}


static void
ngx_http_trace_url_facts(ngx_http_request_t *r, ngx_http_trace_facts_t *facts)
{
    u_char  *p;

    facts->scheme = &ngx_http_trace_schemes[0];

#if (NGX_HTTP_SSL)
    if (r->connection->ssl) {
        facts->scheme = &ngx_http_trace_schemes[1];
    }
#endif

    facts->path = r->unparsed_uri;
    facts->query.len = 0;

    /* no "?", or a request line that was refused and has left no URI */

    if (r->args_start == NULL || facts->path.len == 0) {
        return;
    }

    p = ngx_strlchr(facts->path.data, facts->path.data + facts->path.len, '?');

    if (p) {
        facts->query.data = p + 1;
        facts->query.len = facts->path.data + facts->path.len - (p + 1);
        facts->path.len = p - facts->path.data;

        ngx_http_trace_redact(r, &facts->query);
    }
}


/* writes REDACTED in the place of a query's secrets, in a copy if need be */

void
ngx_http_trace_redact(ngx_http_request_t *r, ngx_str_t *query)
{
    size_t   len;
    u_char  *p;

    if (ngx_http_trace_redacted_copy(query, NULL, &len) == 0) {
        return;
    }

    p = ngx_pnalloc(r->pool, len);

    if (p) {
        (void) ngx_http_trace_redacted_copy(query, p, &len);
    }

    query->data = p;
    query->len = p ? len : 0;
}


/*
 * Copies a query to |dst|, if there is one, with REDACTED in the place of
 * secrets.  Returns how many there are, with the length of the copy in |len|.
 */

static ngx_uint_t
ngx_http_trace_redacted_copy(ngx_str_t *query, u_char *dst, size_t *len)
{
    u_char      *p, *end, *eq, *last;
    ngx_str_t    value;
    ngx_str_t   *secret;
    ngx_uint_t   n;

    n = 0;
    *len = 0;

    p = query->data;
    last = query->data + query->len;

    while (p < last) {
        end = ngx_strlchr(p, last, '&');
        end = end ? end + 1 : last;

        eq = ngx_strlchr(p, end, '=');

        value.data = eq ? eq + 1 : end;
        value.len = end - value.data - (eq && end[-1] == '&');

        for (secret = ngx_http_trace_secrets; secret->len; secret++) {
            if (eq
                && (size_t) (eq - p) == secret->len
                && ngx_strncmp(p, secret->data, secret->len) == 0)
            {
                n++;
                break;
            }
        }

        if (eq == NULL || secret->len == 0) {
            *len += end - p;

            if (dst) {
                dst = ngx_cpymem(dst, p, end - p);
            }

        } else {
            *len += (end - p) - value.len + ngx_http_trace_redacted.len;

            if (dst) {
                dst = ngx_cpymem(dst, p, value.data - p);
                dst = ngx_cpymem(dst, ngx_http_trace_redacted.data,
                                 ngx_http_trace_redacted.len);
                dst = ngx_cpymem(dst, value.data + value.len,
                                 end - value.data - value.len);
            }
        }

        p = end;
    }

    return n;
}


static void
ngx_http_trace_server_facts(ngx_http_request_t *r,
    ngx_http_trace_facts_t *facts)
{
    ngx_str_t  *host;

    facts->server_address = r->headers_in.server;
    facts->server_port = NGX_ERROR;

    host = &facts->server_address;

    if (host->len == 0) {
        return;
    }

    facts->server_port = ngx_http_trace_server_port(r);

    ngx_http_trace_unbracket(host);
}


/* the port that the client wrote, or that its scheme stands for */

static ngx_int_t
ngx_http_trace_server_port(ngx_http_request_t *r)
{
    u_char     *p, *first, *last;
    ngx_int_t   port;

    first = NULL;
    last = NULL;

    if (r->host_end && r->http_version < NGX_HTTP_VERSION_20) {

        /* an absolute request line counts, and not Host: RFC 9112, 3.2.2 */

        first = r->host_start;
        last = r->host_end;

        if (*last == ':') {
            while (last[1] >= '0' && last[1] <= '9') {
                last++;
            }

            last++;
        }

    } else if (r->headers_in.host) {
        first = r->headers_in.host->value.data;
        last = first + r->headers_in.host->value.len;
    }

    p = last;

    while (p > first && p[-1] >= '0' && p[-1] <= '9') {
        p--;
    }

    port = NGX_ERROR;

    if (p > first && p[-1] == ':') {
        port = ngx_atoi(p, last - p);
    }

    if (port != NGX_ERROR) {
        return port;
    }

#if (NGX_HTTP_SSL)
    if (r->connection->ssl) {
        return 443;
    }
#endif

    return 80;
}


/*
 * The client is who nginx thinks it is: realip's, if that has set it.  The
 * peer of a Unix socket has no name.
 */

static void
ngx_http_trace_peer_facts(ngx_http_request_t *r,
    ngx_http_trace_facts_t *facts)
{
    ngx_int_t  port;

    facts->client_address.len = 0;

    if (r->connection->sockaddr->sa_family != AF_UNIX) {
        facts->client_address = r->connection->addr_text;
    }

    (void) ngx_http_trace_socket_peer(r, &facts->peer_address, &port);

    facts->peer_port = port ? port : NGX_ERROR;

    if (facts->peer_address.len == 5
        && ngx_memcmp(facts->peer_address.data, "unix:", 5) == 0)
    {
        ngx_str_null(&facts->peer_address);
    }
}


ngx_http_trace_known_t *
ngx_http_trace_version(ngx_uint_t version)
{
    ngx_http_trace_known_t  *known;

    for (known = ngx_http_trace_versions; known->value.len; known++) {
        if (known->number == version) {
            return known;
        }
    }

    return NULL;
}


static void
ngx_http_trace_body_facts(ngx_http_request_t *r,
    ngx_http_trace_facts_t *facts)
{
    /* content_length_n counts down while a body is discarded */

    if (r->headers_in.content_length) {
        facts->request_size =
                           ngx_atoof(r->headers_in.content_length->value.data,
                                     r->headers_in.content_length->value.len);

    } else {
        facts->request_size = r->headers_in.content_length_n;
    }

    facts->response_size = NGX_ERROR;

    if (r->header_sent) {
        facts->response_size = ngx_max(r->connection->sent
                                       - (off_t) r->header_size, 0);
    }
}


static void
ngx_http_trace_status_facts(ngx_http_request_t *r, ngx_http_trace_ctx_t *ctx,
    ngx_http_trace_facts_t *facts)
{
    ngx_str_t         *error;
    ngx_uint_t         sent;
    ngx_connection_t  *c;

    c = r->connection;

    facts->status = r->err_status ? r->err_status : r->headers_out.status;
    facts->cut = 0;

    /*
     * Only if it was sent: nginx may have held the header back, and HTTP/0.9
     * has no status line.
     */

    sent = (r->header_sent && c->sent > 0);

    facts->status_code = NGX_ERROR;

    if (facts->status && sent && r->http_version >= NGX_HTTP_VERSION_10) {
        facts->status_code = facts->status;
    }

    error = &facts->error_type;
    error->len = 0;

    if (facts->status >= 500) {
        ngx_http_trace_status_error(facts->status, facts->error, error);

    } else if (facts->status == NGX_HTTP_CLIENT_CLOSED_REQUEST) {
        ngx_http_trace_gone(r, error);

    } else if (ctx->node.upstream
               && ngx_http_trace_upstream_cut(ctx->node.upstream))
    {
        *error = *ngx_http_trace_upstream_cut(ctx->node.upstream);
        facts->cut = 1;

    } else if (sent && ngx_http_trace_cut(r)) {
        ngx_str_set(error, "reset");
        facts->cut = 1;

    } else if (r->request_complete || r->filter_finalize
               || facts->status == NGX_HTTP_CLOSE)
    {
        return;

    } else if (c->timedout) {
        ngx_str_set(error, "timeout");

    } else if (c->error) {
        ngx_http_trace_gone(r, error);
    }
}


/* a status as error.type, written into NGX_INT_T_LEN bytes at |buf| */

void
ngx_http_trace_status_error(ngx_uint_t status, u_char *buf, ngx_str_t *error)
{
    error->data = buf;
    error->len = ngx_sprintf(buf, "%ui", status) - buf;
}


/* the brackets of an IPv6 address belong to the URI, not to the address */

void
ngx_http_trace_unbracket(ngx_str_t *host)
{
    if (host->len > 2 && host->data[0] == '['
        && host->data[host->len - 1] == ']')
    {
        host->data++;
        host->len -= 2;
    }
}


/* why there is nobody any more to answer to */

void
ngx_http_trace_gone(ngx_http_request_t *r, ngx_str_t *error)
{
    ngx_connection_t  *c;

    c = r->connection;

#if (NGX_HTTP_V2)
    if (r->stream) {
        c = r->stream->connection->connection;
    }
#endif

    /* worker_shutdown_timeout */

    if (ngx_exiting && c->close) {
        ngx_str_set(error, "worker_shutdown");
        return;
    }

    ngx_str_set(error, "client_closed");
}


/* a response that was begun has not been had from the upstream to its end */

ngx_uint_t
ngx_http_trace_cut(ngx_http_request_t *r)
{
    ngx_event_pipe_t     *p;
    ngx_http_upstream_t  *u;

    u = r->upstream;

    if (u == NULL || !u->header_sent || u->upgrade
        || r->connection->error || r->connection->timedout)
    {
        return 0;
    }

    if (!u->buffering) {
        return u->length > 0;
    }

    p = u->pipe;

    return p && !p->upstream_done
           && (p->upstream_error || (p->upstream_eof && p->length > 0));
}


static void
ngx_http_trace_cache_facts(ngx_http_request_t *r,
    ngx_http_trace_facts_t *facts)
{
    facts->cache_status.len = 0;

#if (NGX_HTTP_CACHE)

    if (r->upstream && r->upstream->cache_status) {
        facts->cache_status =
                         ngx_http_cache_status[r->upstream->cache_status - 1];
    }

#endif
}
