
/*
 * Attempts: a span for each try of an upstream, whose id is the one that this
 * try sends.
 *
 * nginx asks its balancer for a peer before each try and gives it back behind
 * each; both calls come here first, as they come to the keepalive module.
 * Where no balancer is asked, since a variable named a host that is in no
 * upstream block, the attempts are told from what nginx keeps for its log.
 */


#include "ngx_http_trace_module.h"


/* a balancer that ours stands before */

typedef struct {
    ngx_http_upstream_srv_conf_t     *upstream;
    ngx_http_upstream_init_peer_pt    init;
    ngx_str_t                         url;           /* without its path */
    ngx_str_t                         url_tls;
    ngx_str_t                         attributes;    /* encoded */
    ngx_uint_t                        attributes_n;
} ngx_http_trace_balancer_t;


typedef enum {
    NGX_HTTP_TRACE_HTTP = 0,
    NGX_HTTP_TRACE_GRPC,
    NGX_HTTP_TRACE_MEMCACHED,
    NGX_HTTP_TRACE_CGI                               /* FastCGI and its like */
} ngx_http_trace_schema_e;


/* one try; an empty or negative value is not known */

typedef struct {
    ngx_http_trace_child_t            child;
    ngx_http_trace_upstream_t        *up;
    uint64_t                          connected;     /* ns since 1970, or 0 */
    uint64_t                          first_byte;
    ngx_str_t                        *peer;
    ngx_str_t                         error;         /* but for a status */
    ngx_int_t                         status;
    ngx_uint_t                        resend_count;
    unsigned                          last_byte:1;   /* it was had */
    unsigned                          gone:1;        /* the client was */
    unsigned                          connection:1;  /* there was one */
    unsigned                          reused:1;
} ngx_http_trace_attempt_t;


/* what is told of it */

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


/* what one location of a request or subrequest sends to its upstream */

struct ngx_http_trace_upstream_s {
    ngx_http_trace_upstream_t        *next;
    ngx_http_request_t               *request;
    ngx_http_trace_ctx_t             *ctx;
    ngx_http_trace_node_t            *node;
    ngx_http_trace_balancer_t        *balancer;  /* NULL: none was asked */
    ngx_uint_t                        pipelines; /* as bits */
    ngx_uint_t                        states;    /* others', before ours */
    ngx_uint_t                        settled;
    ngx_uint_t                        tries;
    ngx_http_upstream_t              *before;    /* of another location */
    ngx_http_trace_attempt_t         *attempt;   /* that goes on */
    ngx_http_trace_span_ids_t         span_id;   /* of the next attempt */
    u_char                            text[NGX_HTTP_TRACE_PIPELINES]
                                          [TRACEPARENT_LEN];
    ngx_str_t                        *cut;       /* why its response was */
    ngx_int_t                         rc;        /* nginx's, at the end */
    ngx_buf_t                        *header;    /* that is sent, or NULL */

    /* the request's, when it was asked for: an error page changes both */

    ngx_str_t                         method_name;
    ngx_str_t                         uri;

    /* of the request that is sent, see ngx_http_trace_upstream_describe() */

    ngx_http_trace_known_t           *method;
    ngx_http_trace_known_t           *protocol_version;
    ngx_str_t                         url;
    ngx_str_t                         method_original;
    ngx_str_t                         server_address;  /* without balancer */
    ngx_str_t                         protocol_name;
    ngx_str_t                         db_system;
    ngx_str_t                         db_operation;
    int64_t                           server_port;
    ngx_uint_t                        described;
    ngx_uint_t                        rare;      /* one behind |url| is set */

    /* what ours stand before */

    ngx_http_upstream_t              *upstream;
    void                             *data;
    ngx_event_get_peer_pt             get;
    ngx_event_free_peer_pt            free;
    ngx_event_notify_peer_pt          notify;
#if (NGX_SSL || NGX_COMPAT)
    ngx_event_set_peer_session_pt     set_session;
    ngx_event_save_peer_session_pt    save_session;
#endif
    ngx_output_chain_filter_pt        output_filter;
    void                             *filter_ctx;
    ngx_int_t                       (*process_header)(ngx_http_request_t *r);
    void                            (*finalize_request)(ngx_http_request_t *r,
                                          ngx_int_t rc);
};


static ngx_int_t ngx_http_trace_balancer_encode(ngx_conf_t *cf,
    ngx_http_trace_balancer_t *balancer);
static int ngx_libc_cdecl ngx_http_trace_balancer_cmp(const void *one,
    const void *two);
static ngx_http_trace_balancer_t *ngx_http_trace_balancer_find(
    ngx_http_request_t *r, ngx_http_upstream_srv_conf_t *us);

static ngx_int_t ngx_http_trace_upstream_init_peer(ngx_http_request_t *r,
    ngx_http_upstream_srv_conf_t *us);
static NGX_HTTP_TRACE_APART ngx_int_t ngx_http_trace_upstream_watch(
    ngx_http_request_t *r, ngx_http_upstream_srv_conf_t *us,
    ngx_http_trace_ctx_t *ctx);
static ngx_http_trace_upstream_t *ngx_http_trace_upstream_next(
    ngx_http_request_t *r, ngx_http_trace_ctx_t *ctx);
static ngx_int_t ngx_http_trace_upstream_get(ngx_peer_connection_t *pc,
    void *data);
static void ngx_http_trace_upstream_free(ngx_peer_connection_t *pc,
    void *data, ngx_uint_t state);
static void ngx_http_trace_upstream_notify(ngx_peer_connection_t *pc,
    void *data, ngx_uint_t type);
#if (NGX_SSL || NGX_COMPAT)
static ngx_int_t ngx_http_trace_upstream_set_session(
    ngx_peer_connection_t *pc, void *data);
static void ngx_http_trace_upstream_save_session(ngx_peer_connection_t *pc,
    void *data);
#endif
static ngx_int_t ngx_http_trace_upstream_output(void *data, ngx_chain_t *in);
static ngx_int_t ngx_http_trace_upstream_process_header(
    ngx_http_request_t *r);
static void ngx_http_trace_upstream_finalize(ngx_http_request_t *r,
    ngx_int_t rc);
static ngx_http_trace_upstream_t *ngx_http_trace_upstream_of(
    ngx_http_request_t *r);

static ngx_http_trace_attempt_t *ngx_http_trace_attempt_begin(
    ngx_http_trace_upstream_t *up);
static ngx_int_t ngx_http_trace_attempt_retry(ngx_http_trace_upstream_t *up);
static void ngx_http_trace_attempt_end(ngx_http_trace_upstream_t *up,
    ngx_http_trace_attempt_t *attempt, ngx_peer_connection_t *pc,
    ngx_uint_t state);
static void ngx_http_trace_attempt_body(ngx_http_trace_attempt_t *attempt,
    ngx_connection_t *c);
static void ngx_http_trace_attempt_no_header(
    ngx_http_trace_attempt_t *attempt, ngx_connection_t *c);
static void ngx_http_trace_attempt_gone(ngx_http_trace_attempt_t *attempt);
static uint64_t ngx_http_trace_nanoseconds(ngx_msec_t ms);
static void ngx_http_trace_attempt_state(ngx_http_trace_upstream_t *up,
    ngx_http_upstream_state_t *state, uint64_t start, uint64_t end,
    ngx_uint_t last);
static void ngx_http_trace_attempt_state_body(
    ngx_http_trace_attempt_t *attempt);

static void ngx_http_trace_attempt_head(ngx_http_trace_child_t *child,
    ngx_uint_t pipeline, otlp_span_head_t *head);
static int ngx_http_trace_attempt_write(void *data, ngx_uint_t pipeline,
    otlp_span_t *span);
static void ngx_http_trace_attempt_facts(ngx_http_trace_attempt_t *attempt,
    ngx_http_trace_attempt_facts_t *facts);
static void ngx_http_trace_attempt_peer(ngx_str_t *name,
    ngx_http_trace_attempt_facts_t *facts);
static void ngx_http_trace_upstream_describe(ngx_http_trace_upstream_t *up);
static void ngx_http_trace_upstream_rare(ngx_http_trace_upstream_t *up);
static ngx_http_trace_schema_e ngx_http_trace_upstream_schema(
    ngx_http_trace_upstream_t *up);
static void ngx_http_trace_upstream_line(ngx_http_trace_upstream_t *up,
    ngx_str_t *method, ngx_str_t *uri);
static void ngx_http_trace_upstream_url(ngx_http_trace_upstream_t *up,
    ngx_str_t *uri);
static ngx_int_t ngx_http_trace_upstream_resolved_url(
    ngx_http_trace_upstream_t *up, ngx_uint_t tls, ngx_str_t *prefix);


static ngx_http_trace_child_type_t  ngx_http_trace_attempt_type = {
    ngx_http_trace_attempt_head,
    ngx_http_trace_attempt_write
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


/* the one that was asked last; forgotten with each new configuration */

static struct {
    ngx_http_upstream_srv_conf_t     *upstream;
    ngx_http_upstream_init_peer_pt    init;
} ngx_http_trace_balancer_last;


/* what each pipeline's attempts tell */
static ngx_uint_t  ngx_http_trace_attempt_masks[NGX_HTTP_TRACE_PIPELINES];
static ngx_uint_t  ngx_http_trace_rare_masks[NGX_HTTP_TRACE_PIPELINES];


ngx_int_t
ngx_http_trace_upstream_init_conf(ngx_conf_t *cf,
    ngx_http_trace_main_conf_t *tmcf)
{
    ngx_uint_t                        i;
    ngx_http_trace_balancer_t        *balancer;
    ngx_http_upstream_srv_conf_t    **uscf;
    ngx_http_upstream_main_conf_t    *umcf;

    for (i = 0; i < 2; i++) {
        (void) otlp_known_bool(&ngx_http_trace_reused[i].attribute,
                   ngx_http_trace_key("nginx.upstream.connection_reused"), i);
    }

    for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++) {
        ngx_http_trace_attempt_masks[i] =
                   ngx_http_trace_semconv_mask(ngx_http_trace_attempt_semconvs,
                                               i);
        ngx_http_trace_rare_masks[i] =
                   ngx_http_trace_semconv_mask(ngx_http_trace_rare_semconvs,
                                               i);
    }

    (void) otlp_known_event(&ngx_http_trace_connect,
                            ngx_http_trace_key("connect"));
    (void) otlp_known_event(&ngx_http_trace_first_byte,
                            ngx_http_trace_key("first_byte"));
    (void) otlp_known_event(&ngx_http_trace_last_byte,
                            ngx_http_trace_key("last_byte"));

    ngx_http_trace_semconv_table(ngx_http_trace_attempt_semconvs);
    ngx_http_trace_semconv_table(ngx_http_trace_rare_semconvs);

    ngx_http_trace_balancer_last.upstream = NULL;

    umcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_upstream_module);
    uscf = umcf->upstreams.elts;

    if (ngx_array_init(&tmcf->upstreams, cf->pool, umcf->upstreams.nelts + 1,
                       sizeof(ngx_http_trace_balancer_t))
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    for (i = 0; i < umcf->upstreams.nelts; i++) {

        balancer = ngx_array_push(&tmcf->upstreams);

        balancer->upstream = uscf[i];
        balancer->init = uscf[i]->peer.init;

        if (ngx_http_trace_balancer_encode(cf, balancer) != NGX_OK) {
            return NGX_ERROR;
        }

        uscf[i]->peer.init = ngx_http_trace_upstream_init_peer;
    }

    ngx_qsort(tmcf->upstreams.elts, tmcf->upstreams.nelts,
              sizeof(ngx_http_trace_balancer_t), ngx_http_trace_balancer_cmp);

    return NGX_OK;
}


/* what is the same in all attempts at an upstream */

static ngx_int_t
ngx_http_trace_balancer_encode(ngx_conf_t *cf,
    ngx_http_trace_balancer_t *balancer)
{
    u_char                        *p;
    size_t                         size;
    ngx_str_t                      host;
    ngx_uint_t                     local;
    otlp_span_t                    span;
    ngx_http_upstream_srv_conf_t  *us;

    us = balancer->upstream;
    host = us->host;

    /* a Unix socket: nginx sends "localhost" as the host */

    local = (host.len && host.data[0] == '/');

    size = 128 + 3 * host.len;

    p = ngx_pnalloc(cf->pool, 3 * size);
    if (p == NULL) {
        return NGX_ERROR;
    }

    balancer->url_tls.data = p + size;
    balancer->url_tls.len =
        (local ? ngx_sprintf(p + size, "https://localhost")
         : us->port && !us->no_port
         ? ngx_sprintf(p + size, "https://%V:%ui", &host,
                       (ngx_uint_t) us->port)
         : ngx_sprintf(p + size, "https://%V", &host))
        - (p + size);

    balancer->url.data = p + 2 * size;
    balancer->url.len = ngx_sprintf(p + 2 * size, "http%*s",
                                    balancer->url_tls.len - 5,
                                    balancer->url_tls.data + 5)
                        - (p + 2 * size);

    /* the brackets of an IPv6 address belong to the URL */

    if (host.len > 2 && host.data[0] == '[' && host.data[host.len - 1] == ']')
    {
        host.data++;
        host.len -= 2;
    }

    otlp_span_attributes_begin(&span, p, size);

    otlp_span_string(&span, ngx_http_trace_key("server.address"), host.data,
                     host.len);
    balancer->attributes_n = 1;

    if (us->port && !local) {
        otlp_span_int(&span, ngx_http_trace_key("server.port"), us->port);
        balancer->attributes_n++;
    }

    if (us->srv_conf) {
        otlp_span_string(&span, ngx_http_trace_key("nginx.upstream.name"),
                         host.data, host.len);
        balancer->attributes_n++;
    }

    balancer->attributes.data = span.start;
    balancer->attributes.len = span.pos - span.start;

    return NGX_OK;
}


static int ngx_libc_cdecl
ngx_http_trace_balancer_cmp(const void *one, const void *two)
{
    const ngx_http_trace_balancer_t  *first = one;
    const ngx_http_trace_balancer_t  *second = two;

    return first->upstream < second->upstream ? -1
           : first->upstream > second->upstream;
}


static ngx_http_trace_balancer_t *
ngx_http_trace_balancer_find(ngx_http_request_t *r,
    ngx_http_upstream_srv_conf_t *us)
{
    ngx_uint_t                   left, right, middle;
    ngx_http_trace_balancer_t   *balancer;
    ngx_http_trace_main_conf_t  *tmcf;

    tmcf = ngx_http_get_module_main_conf(r, ngx_http_trace_module);

    balancer = tmcf->upstreams.elts;
    left = 0;
    right = tmcf->upstreams.nelts - 1;

    while (left < right) {
        middle = (left + right) / 2;

        if (balancer[middle].upstream < us) {
            left = middle + 1;

        } else {
            right = middle;
        }
    }

    return &balancer[left];
}


/*
 * Called before a location's content handler: an upstream will be sent the
 * headers as they are then, so the first attempt has its ids already.
 */

void
ngx_http_trace_upstream_prepare(ngx_http_request_t *r,
    ngx_http_trace_ctx_t *ctx, ngx_http_trace_node_t *node)
{
    ngx_uint_t                  i, pipelines;
    ngx_http_trace_upstream_t  *up;
    ngx_http_trace_loc_conf_t  *tlcf;

    if (node->upstream) {
        ngx_http_trace_upstream_settle(node->upstream);
        node->upstream = NULL;
    }

    tlcf = ngx_http_get_module_loc_conf(r, ngx_http_trace_module);

    pipelines = ctx->recorded & tlcf->upstream;

    if (pipelines == 0) {
        return;
    }

    /* an id that is sent is that of a span */

    if (ctx->children_n == NGX_HTTP_TRACE_CHILDREN_MAX) {
        return;
    }

    up = ngx_http_trace_alloc(r, ctx, sizeof(ngx_http_trace_upstream_t));
    if (up == NULL) {
        return;
    }

    if (ngx_http_trace_span_ids(up->span_id, pipelines) != NGX_OK) {
        return;
    }

    for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++) {
        if (pipelines & (1 << i)) {
            ngx_http_trace_format(&ctx->pipelines[i], up->span_id[i],
                                  up->text[i]);
        }
    }

    up->request = r;
    up->ctx = ctx;
    up->node = node;
    up->balancer = NULL;
    up->upstream = NULL;
    up->pipelines = pipelines;
    up->states = r->upstream_states ? r->upstream_states->nelts : 0;
    up->settled = 0;
    up->tries = 0;
    up->before = r->upstream;
    up->attempt = NULL;
    up->cut = NULL;
    up->rc = NGX_OK;
    up->header = NULL;
    up->method_name = r->method_name;
    up->uri = r->valid_unparsed_uri ? r->unparsed_uri : r->uri;
    up->described = 0;

    up->next = ctx->upstreams;
    ctx->upstreams = up;

    node->upstream = up;
}


/* what the attempt sends that goes on, or the one that comes next, or NULL */

u_char *
ngx_http_trace_upstream_text(ngx_http_trace_upstream_t *up,
    ngx_uint_t pipeline)
{
    return (up->pipelines & (1 << pipeline)) ? up->text[pipeline] : NULL;
}


/* it is being asked, or was */

ngx_uint_t
ngx_http_trace_upstream_asked(ngx_http_trace_upstream_t *up)
{
    return up->request->upstream != up->before;
}


/* why a response that was begun did not come to its end, or NULL */

ngx_str_t *
ngx_http_trace_upstream_cut(ngx_http_trace_upstream_t *up)
{
    return up->cut;
}


/* the short way for most requests: finds the balancer, and leaves it alone */

static ngx_int_t
ngx_http_trace_upstream_init_peer(ngx_http_request_t *r,
    ngx_http_upstream_srv_conf_t *us)
{
    ngx_http_trace_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r->main, ngx_http_trace_module);

    if (us == ngx_http_trace_balancer_last.upstream
        && (ctx == NULL || !ctx->recorded))
    {
        return ngx_http_trace_balancer_last.init(r, us);
    }

    return ngx_http_trace_upstream_watch(r, us, ctx);
}


static ngx_int_t
ngx_http_trace_upstream_watch(ngx_http_request_t *r,
    ngx_http_upstream_srv_conf_t *us, ngx_http_trace_ctx_t *ctx)
{
    ngx_http_upstream_t        *u;
    ngx_http_trace_balancer_t  *balancer;
    ngx_http_trace_upstream_t  *up;
    ngx_http_trace_loc_conf_t  *tlcf;

    balancer = ngx_http_trace_balancer_find(r, us);

    ngx_http_trace_balancer_last.upstream = us;
    ngx_http_trace_balancer_last.init = balancer->init;

    if (balancer->init(r, us) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ctx == NULL || !ctx->recorded) {
        return NGX_OK;
    }

    up = ngx_http_trace_upstream_next(r, ctx);

    if (up == NULL) {

        if (ctx->children_n == NGX_HTTP_TRACE_CHILDREN_MAX) {
            tlcf = ngx_http_get_module_loc_conf(r, ngx_http_trace_module);
            ngx_http_trace_drop_child(ctx->recorded & tlcf->upstream);
        }

        return NGX_OK;
    }

    u = r->upstream;

    up->balancer = balancer;
    up->upstream = u;
    up->settled = 1;

    up->data = u->peer.data;
    up->get = u->peer.get;
    up->free = u->peer.free;
    up->notify = u->peer.notify;

    u->peer.data = up;
    u->peer.get = ngx_http_trace_upstream_get;
    u->peer.free = ngx_http_trace_upstream_free;

    if (up->notify) {
        u->peer.notify = ngx_http_trace_upstream_notify;
    }

#if (NGX_SSL || NGX_COMPAT)
    up->set_session = u->peer.set_session;
    up->save_session = u->peer.save_session;

    u->peer.set_session = ngx_http_trace_upstream_set_session;
    u->peer.save_session = ngx_http_trace_upstream_save_session;
#endif

    up->output_filter = u->output.output_filter;
    up->filter_ctx = u->output.filter_ctx;

    up->finalize_request = u->finalize_request;
    u->finalize_request = ngx_http_trace_upstream_finalize;

    return NGX_OK;
}


/*
 * What was prepared for this upstream.  A content handler that did not come
 * through ours, or that asks a second upstream, has not prepared any.
 */

static ngx_http_trace_upstream_t *
ngx_http_trace_upstream_next(ngx_http_request_t *r, ngx_http_trace_ctx_t *ctx)
{
    ngx_http_trace_node_t  *node;

    node = ngx_http_trace_node(r, ctx);

    if (node == NULL) {
        return NULL;
    }

    if (node->upstream == NULL || node->upstream->upstream) {
        ngx_http_trace_upstream_prepare(r, ctx, node);
    }

    return node->upstream;
}


static ngx_int_t
ngx_http_trace_upstream_get(ngx_peer_connection_t *pc, void *data)
{
    ngx_http_trace_upstream_t *up = data;

    ngx_int_t                  rc;
    ngx_http_upstream_t       *u;
    ngx_http_trace_attempt_t  *attempt;

    attempt = ngx_http_trace_attempt_begin(up);

    rc = up->get(pc, up->data);

    if (attempt == NULL) {
        return rc;
    }

    if (rc != NGX_OK && rc != NGX_DONE) {

        /* no peer, which will not be given back then */

        if (rc == NGX_BUSY) {
            ngx_str_set(&attempt->error, "no_live_upstream");

        } else {
            ngx_str_set(&attempt->error, "balancer");
        }

        attempt->child.end = ngx_http_trace_now(up->ctx);

        return rc;
    }

    /* a balancer may have had the request made anew */

    u = up->upstream;

    if (u->request_bufs) {
        up->header = u->request_bufs->buf;
    }

    up->attempt = attempt;

    u->output.output_filter = ngx_http_trace_upstream_output;
    u->output.filter_ctx = up;

    return rc;
}


static void
ngx_http_trace_upstream_free(ngx_peer_connection_t *pc, void *data,
    ngx_uint_t state)
{
    ngx_http_trace_upstream_t *up = data;

    ngx_http_upstream_t       *u;
    ngx_http_trace_attempt_t  *attempt;

    attempt = up->attempt;

    if (attempt) {
        up->attempt = NULL;
        u = up->upstream;

        if (u->output.output_filter == ngx_http_trace_upstream_output) {
            u->output.output_filter = up->output_filter;
            u->output.filter_ctx = up->filter_ctx;
        }

        if (u->process_header == ngx_http_trace_upstream_process_header) {
            u->process_header = up->process_header;
        }

        ngx_http_trace_attempt_end(up, attempt, pc, state);
    }

    up->free(pc, up->data, state);
}


static void
ngx_http_trace_upstream_notify(ngx_peer_connection_t *pc, void *data,
    ngx_uint_t type)
{
    ngx_http_trace_upstream_t *up = data;

    up->notify(pc, up->data, type);
}


#if (NGX_SSL || NGX_COMPAT)

static ngx_int_t
ngx_http_trace_upstream_set_session(ngx_peer_connection_t *pc, void *data)
{
    ngx_http_trace_upstream_t *up = data;

    return up->set_session(pc, up->data);
}


static void
ngx_http_trace_upstream_save_session(ngx_peer_connection_t *pc, void *data)
{
    ngx_http_trace_upstream_t *up = data;

    up->save_session(pc, up->data);
}

#endif


/* the first bytes go out: the connection is there, TLS included */

static ngx_int_t
ngx_http_trace_upstream_output(void *data, ngx_chain_t *in)
{
    ngx_http_trace_upstream_t *up = data;

    ngx_http_upstream_t  *u;

    u = up->upstream;

    /* a kept connection has been for long: that is no event */

    up->attempt->connected = u->peer.cached ? up->attempt->child.start
                                            : ngx_http_trace_now(up->ctx);

    u->output.output_filter = up->output_filter;
    u->output.filter_ctx = up->filter_ctx;

    /* only now: nginx sets it anew when it prepares a retry */

    up->process_header = u->process_header;
    u->process_header = ngx_http_trace_upstream_process_header;

    return up->output_filter(up->filter_ctx, in);
}


static ngx_int_t
ngx_http_trace_upstream_process_header(ngx_http_request_t *r)
{
    ngx_http_upstream_t        *u;
    ngx_http_trace_upstream_t  *up;

    u = r->upstream;
    up = ngx_http_trace_upstream_of(r);

    if (up->attempt) {
        up->attempt->first_byte = ngx_http_trace_now(up->ctx);
    }

    u->process_header = up->process_header;

    return u->process_header(r);
}


static void
ngx_http_trace_upstream_finalize(ngx_http_request_t *r, ngx_int_t rc)
{
    ngx_http_trace_upstream_t  *up;

    up = ngx_http_trace_upstream_of(r);

    up->rc = rc;

    r->upstream->finalize_request = up->finalize_request;
    up->finalize_request(r, rc);
}


/* never NULL where ours was called; others may stand before it */

static ngx_http_trace_upstream_t *
ngx_http_trace_upstream_of(ngx_http_request_t *r)
{
    ngx_http_upstream_t        *u;
    ngx_http_trace_upstream_t  *up;

    u = r->upstream;

    if (u->peer.free == ngx_http_trace_upstream_free) {
        return u->peer.data;
    }

    up = ngx_http_trace_find_ctx(r->main)->upstreams;

    while (up->upstream != u) {
        up = up->next;
    }

    return up;
}


static ngx_http_trace_attempt_t *
ngx_http_trace_attempt_begin(ngx_http_trace_upstream_t *up)
{
    ngx_http_trace_attempt_t  *attempt;

    attempt = ngx_http_trace_child(up->request, up->ctx, up->node,
                                   up->pipelines,
                                   sizeof(ngx_http_trace_attempt_t));
    if (attempt == NULL) {
        return NULL;
    }

    if (up->tries && ngx_http_trace_attempt_retry(up) != NGX_OK) {
        attempt->child.pipelines = 0;
    }

    ngx_memcpy(attempt->child.span_id, up->span_id, sizeof(up->span_id));

    attempt->child.type = &ngx_http_trace_attempt_type;
    attempt->up = up;
    attempt->status = NGX_ERROR;
    attempt->resend_count = up->tries++;

    return attempt;
}


/*
 * New ids for the next try, written over those of the one before in what nginx
 * is about to send again.  Where they are not found, as in the compressed
 * headers of gRPC, the first ones are sent again.
 */

static ngx_int_t
ngx_http_trace_attempt_retry(ngx_http_trace_upstream_t *up)
{
    u_char      *p, *text, *last;
    ngx_buf_t   *b;
    ngx_uint_t   i, found;

#define NGX_HTTP_TRACE_ID_AT  (3 + 2 * TRACEPARENT_TRACE_ID_SIZE + 1)

    if (ngx_http_trace_span_ids(up->span_id, up->pipelines) != NGX_OK) {
        return NGX_ERROR;
    }

    /* told from nginx's notes, all was sent long ago */

    if (up->balancer == NULL || up->upstream->request_bufs == NULL) {
        return NGX_OK;
    }

    b = up->upstream->request_bufs->buf;
    last = b->last;

    for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++) {

        if (!(up->pipelines & (1 << i))) {
            continue;
        }

        text = up->text[i];
        found = 0;

        for (p = b->start; /* void */ ; p += TRACEPARENT_LEN) {

            p = memmem(p, last - p, text, TRACEPARENT_LEN);
            if (p == NULL) {
                break;
            }

            traceparent_hex(p + NGX_HTTP_TRACE_ID_AT, up->span_id[i],
                            TRACEPARENT_SPAN_ID_SIZE);
            found = 1;
        }

        if (found) {
            traceparent_hex(text + NGX_HTTP_TRACE_ID_AT, up->span_id[i],
                            TRACEPARENT_SPAN_ID_SIZE);
        }
    }

    return NGX_OK;
}


static void
ngx_http_trace_attempt_end(ngx_http_trace_upstream_t *up,
    ngx_http_trace_attempt_t *attempt, ngx_peer_connection_t *pc,
    ngx_uint_t state)
{
    ngx_http_upstream_t  *u;

    u = up->upstream;

    attempt->child.end = ngx_http_trace_now(up->ctx);

    attempt->peer = u->state->peer;
    attempt->connection = 1;
    attempt->reused = pc->cached;

    if (u->state->header_time != (ngx_msec_t) -1) {

        /* from a cache that is stale, the header is another one */

        attempt->status = u->state->status ? u->state->status
                                           : u->headers_in.status_n;

        if (state == 0 && u->header_sent) {
            ngx_http_trace_attempt_body(attempt, pc->connection);
        }

    } else if (state == 0
               && (up->rc == NGX_DONE
                   || (up->rc >= NGX_HTTP_BAD_REQUEST
                       && up->rc < NGX_HTTP_INTERNAL_SERVER_ERROR)))
    {
        ngx_http_trace_attempt_gone(attempt);

    } else {
        ngx_http_trace_attempt_no_header(attempt, pc->connection);
    }
}


/* of a response that was passed on: whether it came to its end */

static void
ngx_http_trace_attempt_body(ngx_http_trace_attempt_t *attempt,
    ngx_connection_t *c)
{
    ngx_http_request_t  *r;

    r = attempt->up->request;

    switch (attempt->up->rc) {

    case NGX_OK:
        attempt->last_byte = 1;
        return;

    case NGX_DECLINED:
        return;

    case NGX_ERROR:

        if (r->connection->error || r->connection->timedout) {
            ngx_http_trace_attempt_gone(attempt);
            return;
        }

        /* fall through */

    case NGX_HTTP_BAD_GATEWAY:
    case NGX_HTTP_GATEWAY_TIME_OUT:

        if (c && (c->read->timedout || c->write->timedout)) {
            ngx_str_set(&attempt->error, "timeout");

        } else {
            ngx_str_set(&attempt->error, "reset");
        }

        attempt->up->cut = &attempt->error;
        return;

    default:
        ngx_http_trace_attempt_gone(attempt);
    }
}


static void
ngx_http_trace_attempt_no_header(ngx_http_trace_attempt_t *attempt,
    ngx_connection_t *c)
{
    ngx_str_t  *error;

    error = &attempt->error;

    if (c && (c->read->timedout || c->write->timedout)) {
        ngx_str_set(error, "timeout");
        return;
    }

    if (attempt->first_byte == 0 && attempt->reused) {
        ngx_str_set(error, "keepalive_race");
        return;
    }

    if (attempt->connected == 0) {

#if (NGX_SSL)
        if (c && c->ssl) {
            ngx_str_set(error, "tls");
            return;
        }
#endif

        ngx_str_set(error, "connect");
        return;
    }

    if (attempt->first_byte == 0 || c == NULL || c->error
               || c->read->eof || c->read->error)
    {
        ngx_str_set(error, "reset");

    } else {
        ngx_str_set(error, "invalid_header");
    }
}


static void
ngx_http_trace_attempt_gone(ngx_http_trace_attempt_t *attempt)
{
    attempt->gone = 1;
    ngx_http_trace_gone(attempt->up->request, &attempt->error);
}


/*
 * Called when nginx is done with a location's upstream: makes attempts of what
 * nginx has noted where no balancer was asked.  nginx counts milliseconds from
 * the start of each, and the last one's start is the only time that it keeps.
 */

void
ngx_http_trace_upstream_settle(ngx_http_trace_upstream_t *up)
{
    uint64_t                    now, start, end;
    ngx_uint_t                  i;
    ngx_http_upstream_t        *u;
    ngx_http_request_t         *r;
    ngx_http_upstream_state_t  *state, *last;

    if (up->settled) {
        return;
    }

    up->settled = 1;

    r = up->request;
    u = r->upstream;

    if (u == NULL || r->upstream_states == NULL
        || r->upstream_states->nelts == up->states)
    {
        return;
    }

    up->upstream = u;
    up->header = u->request_bufs ? u->request_bufs->buf : NULL;

    state = r->upstream_states->elts;
    last = &state[r->upstream_states->nelts - 1];
    state += up->states;

    now = ngx_http_trace_now(up->ctx);

    start = now - (uint64_t) (ngx_current_msec - u->start_time) * 1000000;

    for (i = 0; &state[i] < last; i++) {
        start -= ngx_http_trace_nanoseconds(state[i].response_time);
    }

    start = ngx_max(start, up->ctx->start);

    for ( /* void */ ; state <= last; state++) {

        if (state->peer == NULL) {
            continue;
        }

        end = start + ngx_http_trace_nanoseconds(state->response_time);
        end = ngx_min(end, now);

        ngx_http_trace_attempt_state(up, state, start, end, state == last);

        start = end;
    }
}


/* those of one request or subrequest, or of all */

void
ngx_http_trace_upstreams_settle(ngx_http_trace_ctx_t *ctx,
    ngx_http_request_t *r)
{
    ngx_http_trace_upstream_t  *up;

    for (up = ctx->upstreams; up; up = up->next) {
        if (!up->settled && (r == NULL || up->request == r)) {
            ngx_http_trace_upstream_settle(up);
        }
    }
}


/* 0 if nginx has not come so far as to know */

static uint64_t
ngx_http_trace_nanoseconds(ngx_msec_t ms)
{
    return ms == (ngx_msec_t) -1 ? 0 : (uint64_t) ms * 1000000;
}


static void
ngx_http_trace_attempt_state(ngx_http_trace_upstream_t *up,
    ngx_http_upstream_state_t *state, uint64_t start, uint64_t end,
    ngx_uint_t last)
{
    ngx_http_trace_attempt_t  *attempt;

    attempt = ngx_http_trace_attempt_begin(up);
    if (attempt == NULL) {
        return;
    }

    attempt->child.start = start;
    attempt->child.end = end;
    attempt->peer = state->peer;

    if (state->connect_time != (ngx_msec_t) -1) {
        attempt->connected = start
                             + ngx_http_trace_nanoseconds(state->connect_time);
        attempt->connected = ngx_min(attempt->connected, end);
    }

    if (state->header_time != (ngx_msec_t) -1) {
        attempt->first_byte = start
                              + ngx_http_trace_nanoseconds(state->header_time);
        attempt->first_byte = ngx_min(attempt->first_byte, end);
        attempt->status = state->status;

        if (last && up->upstream->header_sent) {
            ngx_http_trace_attempt_state_body(attempt);
        }

    } else if (state->status == NGX_HTTP_GATEWAY_TIME_OUT) {
        ngx_str_set(&attempt->error, "timeout");

    } else if (state->status == 0) {
        ngx_http_trace_attempt_gone(attempt);

    } else if (attempt->connected) {
        ngx_str_set(&attempt->error, "reset");

    } else {
        ngx_str_set(&attempt->error, "connect");
    }
}


static void
ngx_http_trace_attempt_state_body(ngx_http_trace_attempt_t *attempt)
{
    ngx_http_request_t  *r;

    r = attempt->up->request;

    if (ngx_http_trace_cut(r)) {
        ngx_str_set(&attempt->error, "reset");

    } else if (r->connection->error && !r->main->request_complete) {
        ngx_http_trace_attempt_gone(attempt);

    } else {
        attempt->last_byte = 1;
    }
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

    ngx_uint_t                        mask;
    ngx_http_trace_balancer_t        *balancer;
    ngx_http_trace_attempt_facts_t    facts;

    mask = ngx_http_trace_attempt_masks[pipeline];

    ngx_http_trace_attempt_facts(attempt, &facts);

    ngx_http_trace_semconv(ngx_http_trace_attempt_semconvs, &facts, span,
                           mask);

    if (attempt->up->rare) {
        ngx_http_trace_semconv(ngx_http_trace_rare_semconvs, attempt->up, span,
                               ngx_http_trace_rare_masks[pipeline]);
    }

    balancer = attempt->up->balancer;

    if (balancer && mask == NGX_HTTP_TRACE_SEMCONV_ALL) {
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

    return facts.error_type.len && !attempt->gone ? OTLP_STATUS_ERROR
                                                  : OTLP_STATUS_UNSET;
}


static void
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
    facts->status_code = NGX_ERROR;
    facts->error_type = attempt->error;

    /* one of nginx's own making tells nothing of memcached */

    if (attempt->status != NGX_ERROR && up->method) {
        facts->status_code = attempt->status;

        if (attempt->status >= 400 && facts->error_type.len == 0) {
            facts->error_type.data = facts->error;
            facts->error_type.len = ngx_sprintf(facts->error, "%i",
                                                attempt->status)
                                    - facts->error;
        }
    }

    ngx_http_trace_attempt_peer(attempt->peer, facts);
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

    if (name->len > 5 && ngx_strncmp(name->data, "unix:", 5) == 0) {
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

    if (address->len > 2 && address->data[0] == '[') {
        address->data++;
        address->len -= 2;
    }
}


/* what was sent, which is the same in all attempts */

static void
ngx_http_trace_upstream_describe(ngx_http_trace_upstream_t *up)
{
    ngx_str_t  method, uri;

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

    method = up->method_name;
    uri = up->uri;

    switch (ngx_http_trace_upstream_schema(up)) {

    case NGX_HTTP_TRACE_HTTP:
        ngx_http_trace_upstream_line(up, &method, &uri);
        ngx_http_trace_upstream_url(up, &uri);
        break;

    case NGX_HTTP_TRACE_GRPC:
        up->protocol_version = ngx_http_trace_version(NGX_HTTP_VERSION_20);
        ngx_http_trace_upstream_url(up, &uri);
        break;

    case NGX_HTTP_TRACE_MEMCACHED:
        ngx_http_trace_upstream_rare(up);
        ngx_str_set(&up->db_system, "memcached");
        ngx_str_set(&up->db_operation, "get");
        return;

    default: /* FastCGI, SCGI, uwsgi */
        break;
    }

    up->method = ngx_http_trace_method(0, &method);

    if (up->method->value.data[0] == '_') {
        ngx_http_trace_upstream_rare(up);
        up->method_original = method;
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
ngx_http_trace_upstream_line(ngx_http_trace_upstream_t *up, ngx_str_t *method,
    ngx_str_t *uri)
{
    u_char               *minor;
    size_t                len;
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

    *uri = u->uri;

    len = u->uri.data - 1 - b->start;

    if (len != method->len || ngx_memcmp(b->start, method->data, len) != 0) {
        method->data = b->start;
        method->len = len;
    }

    up->protocol_version = ngx_http_trace_version(*minor == '0'
                                                  ? NGX_HTTP_VERSION_10
                                                  : NGX_HTTP_VERSION_11);
}


/* "{scheme}://{host}{uri}", with secrets in its query redacted */

static void
ngx_http_trace_upstream_url(ngx_http_trace_upstream_t *up, ngx_str_t *uri)
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

    path = *uri;
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
