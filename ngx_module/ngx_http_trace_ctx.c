
/*
 * The request's context: found, created, found again after an internal
 * redirect; its clock and its ids.
 */


#include "ngx_http_trace_module.h"


static void ngx_http_trace_cleanup(void *data);
static uint64_t ngx_http_trace_clock(clockid_t id);


/* what a request has that records nothing: decided, shared, never written */
static ngx_http_trace_ctx_t  ngx_http_trace_untraced = { .decided = 1 };

static traceparent_ids_t     ngx_http_trace_random;


ngx_http_trace_ctx_t *
ngx_http_trace_get_ctx(ngx_http_request_t *r)
{
    ngx_pool_cleanup_t    *cln;
    ngx_http_trace_ctx_t  *ctx;

    r = r->main;

    ctx = ngx_http_get_module_ctx(r, ngx_http_trace_module);

    if (ctx == NULL && (r->internal || r->filter_finalize)) {

        /*
         * An internal redirect has cleared the module contexts, the cleanup
         * still knows it.  What was not to be recorded is asked again in the
         * new location, as it is where there was nothing to find again.
         */

        for (cln = r->pool->cleanup; cln; cln = cln->next) {
            if (cln->handler == ngx_http_trace_cleanup) {
                ctx = cln->data;
                ctx->decided = 0;
                ngx_http_set_ctx(r, ctx, ngx_http_trace_module);
                break;
            }
        }
    }

    return ctx;
}


ngx_http_trace_ctx_t *
ngx_http_trace_create_ctx(ngx_http_request_t *r)
{
    uint64_t                    now, monotonic;
    ngx_uint_t                  i;
    ngx_time_t                 *tp;
    ngx_pool_cleanup_t         *cln;
    ngx_http_trace_ctx_t       *ctx;
    ngx_http_trace_span_ctx_t  *sc;

    r = r->main;

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_http_trace_ctx_t));
    if (cln == NULL) {
        return NULL;
    }

    cln->handler = ngx_http_trace_cleanup;

    ctx = cln->data;

    /* most of it is only read with a flag that says that it was written */

    ctx->decided = 0;
    ctx->recorded = 0;

    for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++) {
        sc = &ctx->pipelines[i];

        sc->extracted = 0;
        sc->parent = 0;
        sc->ids = 0;
        sc->formatted = 0;
        sc->queued = 0;
        sc->tracestate.len = 0;
    }

    /* in this order: a pause between the two makes no span end too early */

    monotonic = ngx_http_trace_clock(CLOCK_MONOTONIC);
    now = ngx_http_trace_clock(CLOCK_REALTIME);

    ctx->start = now;
    ctx->clock = now - monotonic;

    /*
     * nginx's own time stands still within a turn of the event loop: it is
     * only better than ours if the request began in an earlier turn
     */

    tp = ngx_timeofday();

    if (r->start_sec != tp->sec || r->start_msec != tp->msec) {
        ctx->start = (uint64_t) r->start_sec * 1000000000
                     + (uint64_t) r->start_msec * 1000000;
        ctx->start = ngx_min(ctx->start, now);
    }

    ngx_http_set_ctx(r, ctx, ngx_http_trace_module);

    return ctx;
}


ngx_http_trace_ctx_t *
ngx_http_trace_set_untraced(ngx_http_request_t *r)
{
    ngx_http_set_ctx(r->main, &ngx_http_trace_untraced, ngx_http_trace_module);

    return &ngx_http_trace_untraced;
}


ngx_http_trace_ctx_t *
ngx_http_trace_own_ctx(ngx_http_request_t *r)
{
    ngx_uint_t             decided;
    ngx_http_trace_ctx_t  *ctx;

    ctx = ngx_http_trace_get_ctx(r);

    if (ctx && ctx != &ngx_http_trace_untraced) {
        return ctx;
    }

    decided = (ctx != NULL);

    ctx = ngx_http_trace_create_ctx(r);

    if (ctx) {
        ctx->decided = decided;
    }

    return ctx;
}


uint64_t
ngx_http_trace_now(ngx_http_trace_ctx_t *ctx)
{
    return ctx->clock + ngx_http_trace_clock(CLOCK_MONOTONIC);
}


ngx_int_t
ngx_http_trace_ids(ngx_http_trace_span_ctx_t *sc)
{
    int  rc;

    if (sc->ids) {
        return NGX_OK;
    }

    if (sc->parent) {
        rc = traceparent_child(&sc->outbound, &sc->inbound,
                               &ngx_http_trace_random, 1);

    } else {
        rc = traceparent_new(&sc->outbound, &ngx_http_trace_random, 1);
    }

    if (rc != 0) {
        return NGX_ERROR;
    }

    sc->ids = 1;

    return NGX_OK;
}


/* the traceparent that goes out: TRACEPARENT_LEN bytes, always the same ones */

u_char *
ngx_http_trace_text(ngx_http_trace_span_ctx_t *sc)
{
    if (!sc->formatted) {
        traceparent_format(sc->text, &sc->outbound);
        sc->formatted = 1;
    }

    return sc->text;
}


/*
 * The address of the connection's peer, and its port if |port| is not NULL,
 * also where realip has put the client's in their place; then NGX_DONE is
 * returned, else NGX_OK.
 */

ngx_int_t
ngx_http_trace_socket_peer(ngx_http_request_t *r, ngx_str_t *addr,
    ngx_int_t *port)
{
    ngx_http_variable_t         *vars;
    ngx_http_variable_value_t    v;
    ngx_http_core_main_conf_t   *cmcf;
    ngx_http_trace_main_conf_t  *tmcf;

    cmcf = ngx_http_get_module_main_conf(r, ngx_http_core_module);
    tmcf = ngx_http_get_module_main_conf(r, ngx_http_trace_module);

    vars = cmcf->variables.elts;

    /* not as a variable of the request: a value kept now may be old later */

    if (tmcf->realip
        && vars[tmcf->realip_addr].get_handler(r, &v,
                                               vars[tmcf->realip_addr].data)
           == NGX_OK
        && v.data != r->connection->addr_text.data)
    {
        addr->len = v.len;
        addr->data = v.data;

        if (port
            && vars[tmcf->realip_port].get_handler(r, &v,
                                                vars[tmcf->realip_port].data)
               == NGX_OK)
        {
            *port = ngx_atoi(v.data, v.len);
        }

        return NGX_DONE;
    }

    *addr = r->connection->addr_text;

    if (port) {
        *port = ngx_inet_get_port(r->connection->sockaddr);
    }

    return NGX_OK;
}


static void
ngx_http_trace_cleanup(void *data)
{
    /* only to be found again */
}


static uint64_t
ngx_http_trace_clock(clockid_t id)
{
    struct timespec  ts;

    (void) clock_gettime(id, &ts);

    return (uint64_t) ts.tv_sec * 1000000000 + ts.tv_nsec;
}
