
/*
 * Upstreams: what a location sends to one, and the hooks that see each try.
 *
 * nginx asks its balancer for a peer before each try and gives it back behind
 * each; both calls come here first, as they come to the keepalive module.
 */


#include "ngx_http_trace_upstream.h"


static ngx_int_t ngx_http_trace_balancer_encode(ngx_conf_t *cf,
    ngx_http_trace_balancer_t *balancer);
static int ngx_libc_cdecl ngx_http_trace_balancer_cmp(const void *one,
    const void *two);
static ngx_http_trace_balancer_t *ngx_http_trace_balancer_find(
    ngx_http_request_t *r, ngx_http_upstream_srv_conf_t *us);

static ngx_inline void ngx_http_trace_upstream_prepare(ngx_http_request_t *r,
    ngx_http_trace_ctx_t *ctx, ngx_http_trace_node_t *node);
static NGX_HTTP_TRACE_APART void ngx_http_trace_upstream_unprepared(
    ngx_http_request_t *r, ngx_http_trace_ctx_t *ctx,
    ngx_http_trace_node_t *node);
static ngx_int_t ngx_http_trace_upstream_init_peer(ngx_http_request_t *r,
    ngx_http_upstream_srv_conf_t *us);
static NGX_HTTP_TRACE_APART ngx_int_t ngx_http_trace_upstream_watch(
    ngx_http_request_t *r, ngx_http_upstream_srv_conf_t *us,
    ngx_http_trace_ctx_t *ctx);
static ngx_int_t ngx_http_trace_upstream_address(ngx_http_request_t *r,
    ngx_http_upstream_srv_conf_t *us);
static ngx_http_trace_upstream_t *ngx_http_trace_upstream_next(
    ngx_http_request_t *r, ngx_http_trace_ctx_t *ctx);
static NGX_HTTP_TRACE_APART void ngx_http_trace_upstream_announce(
    ngx_http_trace_upstream_t *up, ngx_http_trace_attempt_t *attempt);
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


/* the one that was asked last; forgotten with each new configuration */

static struct {
    ngx_http_upstream_srv_conf_t     *upstream;
    ngx_http_upstream_init_peer_pt    init;
} ngx_http_trace_balancer_last;


ngx_int_t
ngx_http_trace_upstream_init_conf(ngx_conf_t *cf,
    ngx_http_trace_main_conf_t *tmcf)
{
    ngx_uint_t                        i;
    ngx_http_trace_balancer_t        *balancer;
    ngx_http_upstream_srv_conf_t    **uscf;
    ngx_http_upstream_main_conf_t    *umcf;

    ngx_http_trace_attempt_init();

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

    ngx_http_trace_unbracket(&host);

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
 * Called before a location's content handler: makes the headers what an
 * upstream is to be sent.  Without memory the request goes on as it is.
 */

void
ngx_http_trace_upstream_headers(ngx_http_request_t *r,
    ngx_http_trace_loc_conf_t *tlcf)
{
    ngx_http_trace_ctx_t   *ctx;
    ngx_http_trace_node_t  *node;

    ctx = ngx_http_get_module_ctx(r->main, ngx_http_trace_module);

    if (tlcf->edits || ctx->withheld[NGX_HTTP_TRACE_NOT_MEANT]) {

        if (tlcf->control) {
            ngx_http_trace_control(r, tlcf->control);
        }

        (void) ngx_http_trace_address(r, tlcf->to_upstream);

        ctx = ngx_http_get_module_ctx(r->main, ngx_http_trace_module);
    }

    if (ctx == NULL || !ctx->ours) {
        return;
    }

    node = &ctx->node;

    if (ctx->recorded) {
        node = ngx_http_trace_node(r, ctx);

        if (node == NULL) {
            return;
        }

        ngx_http_trace_upstream_prepare(r, ctx, node);
    }

    (void) ngx_http_trace_inject(r, ctx, node, tlcf->to_upstream);
}


/* the first attempt has its ids when the headers go out */

static ngx_inline void
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
    ngx_http_upstream_t         *u;
    ngx_http_trace_balancer_t   *balancer;
    ngx_http_trace_upstream_t   *up;
    ngx_http_trace_loc_conf_t   *tlcf;
    ngx_http_trace_main_conf_t  *tmcf;

    balancer = ngx_http_trace_balancer_find(r, us);
    tmcf = ngx_http_get_module_main_conf(r, ngx_http_trace_module);
    tlcf = ngx_http_get_module_loc_conf(r, ngx_http_trace_module);

    if (tlcf->to && ngx_http_trace_upstream_address(r, us) != NGX_OK) {
        return NGX_ERROR;
    }

    /* where headers are for some upstreams only, there is no short way */

    if (tmcf->tos.nelts == 0) {
        ngx_http_trace_balancer_last.upstream = us;
        ngx_http_trace_balancer_last.init = balancer->init;
    }

    if (balancer->init(r, us) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ctx == NULL || !ctx->recorded) {
        return NGX_OK;
    }

    up = ngx_http_trace_upstream_next(r, ctx);

    if (up == NULL) {

        if (ctx->children_n == NGX_HTTP_TRACE_CHILDREN_MAX) {
            ngx_http_trace_drop_child(ctx, ctx->recorded & tlcf->upstream);
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
 * trace_context ... to=: only now it is sure who is asked.  The request is made
 * again if it was made for another one; for a location that always asks the
 * same, that is the first time only.
 */

static ngx_int_t
ngx_http_trace_upstream_address(ngx_http_request_t *r,
    ngx_http_upstream_srv_conf_t *us)
{
    ngx_int_t                   rc, changed;
    ngx_http_upstream_t        *u;
    ngx_http_trace_ctx_t       *ctx;
    ngx_http_trace_node_t      *node;
    ngx_http_trace_loc_conf_t  *tlcf;

    u = r->upstream;
    tlcf = ngx_http_get_module_loc_conf(r, ngx_http_trace_module);

    if (u->resolved == NULL) {
        tlcf->to_upstream = us;
    }

    changed = ngx_http_trace_address(r, us);

    ctx = ngx_http_get_module_ctx(r->main, ngx_http_trace_module);

    if (ctx && ctx->ours) {
        node = ctx->recorded ? ngx_http_trace_node(r, ctx) : &ctx->node;

        rc = node ? ngx_http_trace_inject(r, ctx, node, us) : NGX_ERROR;

        changed = (rc == NGX_OK || changed == NGX_ERROR) ? changed : rc;
    }

    if (changed != NGX_DONE) {
        return changed;
    }

    u->request_bufs = r->request_body ? r->request_body->bufs : NULL;

    return u->create_request(r);
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
        ngx_http_trace_upstream_unprepared(r, ctx, node);
    }

    return node->upstream;
}


/* apart, so that what all requests do is in line */

static void
ngx_http_trace_upstream_unprepared(ngx_http_request_t *r,
    ngx_http_trace_ctx_t *ctx, ngx_http_trace_node_t *node)
{
    ngx_http_trace_upstream_prepare(r, ctx, node);
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

        if (up->ctx->events) {
            ngx_http_trace_upstream_announce(up, attempt);
            ngx_http_trace_events_close(up->ctx, &attempt->child,
                                        attempt->child.end);
        }

        return rc;
    }

    /* a balancer may have had the request made anew */

    u = up->upstream;

    if (u->request_bufs) {
        up->header = u->request_bufs->buf;
    }

    up->attempt = attempt;

    ngx_http_trace_request_phase(up->request, up->ctx,
                                 NGX_HTTP_TRACE_UPSTREAM);

    u->output.output_filter = ngx_http_trace_upstream_output;
    u->output.filter_ctx = up;

    if (up->ctx->events) {
        ngx_http_trace_upstream_announce(up, attempt);
    }

    return rc;
}


/* what is sent is not all there yet: it is to be described again */

static void
ngx_http_trace_upstream_announce(ngx_http_trace_upstream_t *up,
    ngx_http_trace_attempt_t *attempt)
{
    ngx_http_trace_events_open(up->ctx, &attempt->child);

    up->described = 0;
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
        ngx_http_trace_request_phase(up->request, up->ctx,
                                     NGX_HTTP_TRACE_RESPONSE);

        if (up->ctx->events) {
            ngx_http_trace_events_close(up->ctx, &attempt->child,
                                        attempt->child.end);
        }
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
