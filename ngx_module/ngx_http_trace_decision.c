
/*
 * Record or not: for each request and pipeline, at the first need after the
 * rewrites, when the location is known.  A yes stays, and so does what was
 * sampled; the no of "off" and of a variable is asked again where an internal
 * redirect goes.
 */


#include "ngx_http_trace_module.h"


static ngx_inline ngx_http_trace_ctx_t *ngx_http_trace_decide_now(
    ngx_http_request_t *r);
static ngx_uint_t ngx_http_trace_wanted(ngx_http_request_t *r,
    ngx_http_trace_pipeline_conf_t *pcf);
static void ngx_http_trace_begin(ngx_http_request_t *r,
    ngx_http_trace_ctx_t *ctx, ngx_http_trace_pipeline_conf_t *pcf,
    ngx_uint_t pipeline);
static ngx_uint_t ngx_http_trace_sample(ngx_http_request_t *r,
    ngx_http_trace_ctx_t *ctx, ngx_http_trace_decision_t *decision,
    ngx_http_trace_span_ctx_t *sc, uint64_t *threshold);
static void ngx_http_trace_threshold(ngx_http_request_t *r,
    ngx_http_trace_span_ctx_t *sc, uint64_t threshold);


static ngx_http_request_t  *ngx_http_trace_deciding;


/*
 * Never NULL: without memory, and where nothing is recorded, it is the shared
 * context of all untraced requests.
 */

ngx_http_trace_ctx_t *
ngx_http_trace_decide(ngx_http_request_t *r)
{
    ngx_http_trace_ctx_t  *ctx;

    r = r->main;

    ctx = ngx_http_trace_get_ctx(r);

    if (ctx && ctx->decided) {
        return ctx;
    }

    /* a variable that is asked may ask for one of ours in turn */

    if (ngx_http_trace_deciding == r) {
        ctx = ngx_http_trace_own_ctx(r);
        return ctx ? ctx : &ngx_http_trace_untraced;
    }

    ngx_http_trace_deciding = r;

    ctx = ngx_http_trace_decide_now(r);

    ngx_http_trace_deciding = NULL;

    return ctx;
}


static ngx_inline ngx_http_trace_ctx_t *
ngx_http_trace_decide_now(ngx_http_request_t *r)
{
    ngx_uint_t                       i, wanted, returned;
    ngx_http_trace_ctx_t            *ctx;
    ngx_http_trace_loc_conf_t       *tlcf;
    ngx_http_trace_pipeline_conf_t  *pcf;

    ctx = ngx_http_get_module_ctx(r, ngx_http_trace_module);
    tlcf = ngx_http_get_module_loc_conf(r, ngx_http_trace_module);

    wanted = 0;
    returned = ctx ? ctx->given_back : 0;

    for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++) {
        pcf = &tlcf->pipelines[i];

        if (pcf->ask_trust || returned) {

            if (ngx_http_trace_believe(r, pcf, i) == NGX_ERROR) {
                continue;
            }

            ctx = ngx_http_get_module_ctx(r, ngx_http_trace_module);
        }

        if (pcf->decision
            && !(ctx && (ctx->settled & (1 << i)))
            && ngx_http_trace_wanted(r, pcf))
        {
            wanted |= 1 << i;
        }
    }

    ctx = ngx_http_get_module_ctx(r, ngx_http_trace_module);

    if (ctx == NULL && wanted) {
        ctx = ngx_http_trace_create_ctx(r);
    }

    if (ctx == NULL) {
        return ngx_http_trace_set_untraced(r);
    }

    if (!r->post_action) {
        ctx->loc_conf = r->loc_conf;
    }

    for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++) {
        if (wanted & (1 << i)) {
            ngx_http_trace_begin(r, ctx, &tlcf->pipelines[i], i);
        }
    }

    ctx->decided = 1;

    if (tlcf->events) {
        ngx_http_trace_events_begin(r, ctx, tlcf->events);
    }

    if (ctx->recorded) {
        ngx_http_trace_error_log(r, ctx);

        if (r->uri_changes != ctx->node.uri_changes) {
            ngx_http_trace_hop(r, ctx, &ctx->node);
        }
    }

    return ctx;
}


/* the rewrites are over and the location is known, or a status ended them */

ngx_uint_t
ngx_http_trace_late(ngx_http_request_t *r)
{
    ngx_http_phase_handler_t   *ph;
    ngx_http_core_main_conf_t  *cmcf;

    if (r->headers_out.status || r->err_status) {
        return 1;
    }

    cmcf = ngx_http_get_module_main_conf(r, ngx_http_core_module);

    if ((ngx_uint_t) r->phase_handler
        < cmcf->phase_engine.location_rewrite_index)
    {
        return 0;
    }

    ph = &cmcf->phase_engine.handlers[r->phase_handler];

    return ph->checker != ngx_http_core_rewrite_phase
           && ph->checker != ngx_http_core_post_rewrite_phase;
}


/* whether there is anything to begin: a variable alone that says no is "off" */

static ngx_uint_t
ngx_http_trace_wanted(ngx_http_request_t *r,
    ngx_http_trace_pipeline_conf_t *pcf)
{
    return !pcf->only_variable
           || ngx_http_trace_variable_true(r, pcf->decision->variable);
}


/* whether a variable asks for a trace */

ngx_uint_t
ngx_http_trace_variable_true(ngx_http_request_t *r, ngx_int_t index)
{
    ngx_http_variable_value_t  *v;

    v = ngx_http_get_flushed_variable(r, index);

    return v && !v->not_found && v->len
           && !(v->len == 1 && v->data[0] == '0')
           && !(v->len == 3 && ngx_strncmp(v->data, "off", 3) == 0);
}


static void
ngx_http_trace_begin(ngx_http_request_t *r, ngx_http_trace_ctx_t *ctx,
    ngx_http_trace_pipeline_conf_t *pcf, ngx_uint_t pipeline)
{
    uint64_t                    threshold;
    ngx_uint_t                  bit, sampled;
    ngx_http_trace_span_ctx_t  *sc;

    bit = 1 << pipeline;
    sc = &ctx->pipelines[pipeline];

    ctx->settled |= bit;

    ngx_http_trace_extract(r, pcf, sc);

    if (ngx_http_trace_ids(sc) != NGX_OK) {
        return;
    }

    sampled = ngx_http_trace_sample(r, ctx, pcf->decision, sc, &threshold);

    /* one that takes no part changes nothing: W3C Trace Context, 3.4 */

    if (!sampled && sc->parent && !pcf->keeps) {
        return;
    }

    if (!sampled) {
        sc->outbound.flags &= ~TRACEPARENT_FLAG_SAMPLED;
        sc->formatted = 0;
    }

    /* nothing to tell, but what is sampled by us now was not by what is told */

    if (threshold != TRACEPARENT_THRESHOLD_NONE
        || (sc->tracestate.len
            && ((pcf->decision->words & NGX_HTTP_TRACE_SAMPLING)
                || !(sc->inbound.flags & TRACEPARENT_FLAG_SAMPLED))))
    {
        ngx_http_trace_threshold(r, sc, threshold);
    }

    ctx->ours |= bit;
    ctx->edits = 1;

    if (sampled || pcf->keeps) {
        ctx->recorded |= bit;
        ngx_http_trace_request_open(r, ctx, pcf, pipeline);
    }
}


/* |*threshold| is to be sent, see traceparent/sampler.h */

static ngx_uint_t
ngx_http_trace_sample(ngx_http_request_t *r, ngx_http_trace_ctx_t *ctx,
    ngx_http_trace_decision_t *decision, ngx_http_trace_span_ctx_t *sc,
    uint64_t *threshold)
{
    ngx_uint_t              sampled;
    traceparent_sampling_t  sampling;

    *threshold = TRACEPARENT_THRESHOLD_NONE;

    if (decision->words & NGX_HTTP_TRACE_ON) {
        return 1;
    }

    if ((decision->words & NGX_HTTP_TRACE_VARIABLE)
        && ngx_http_trace_variable_true(r, decision->variable))
    {
        sampled = 1;

    } else if ((decision->words & NGX_HTTP_TRACE_PARENT) && sc->parent) {

        sampled = sc->inbound.flags & TRACEPARENT_FLAG_SAMPLED;

        traceparent_sampler_read(&sampling, sc->outbound.trace_id,
                                 sc->tracestate.data, sc->tracestate.len);

        *threshold = traceparent_sampler_follow(&sampling, sampled);

    } else if (decision->words & NGX_HTTP_TRACE_RATIO) {

        traceparent_sampler_read(&sampling, sc->outbound.trace_id,
                                 sc->tracestate.data, sc->tracestate.len);

        sampled = (sampling.randomness >= decision->threshold);

        if (sampled) {
            *threshold = decision->threshold;
        }

    } else {
        sampled = ((decision->words & NGX_HTTP_TRACE_RATE) != 0);
    }

    if (decision->words & NGX_HTTP_TRACE_RATE) {
        *threshold = TRACEPARENT_THRESHOLD_NONE;

        sampled = sampled && ngx_http_trace_rate_take(ctx, decision);
    }

    return sampled;
}


/* without memory better none than one that is wrong */

static void
ngx_http_trace_threshold(ngx_http_request_t *r, ngx_http_trace_span_ctx_t *sc,
    uint64_t threshold)
{
    int      rc;
    size_t   len;
    u_char  *p;

    len = sc->tracestate.len + TRACEPARENT_THRESHOLD_ROOM;

    p = ngx_pnalloc(r->pool, len);
    if (p == NULL) {
        sc->tracestate.len = 0;
        return;
    }

    rc = traceparent_sampler_write(p, &len, sc->tracestate.data,
                                   sc->tracestate.len, threshold);

    if (rc == 1) {
        sc->tracestate.data = p;
        sc->tracestate.len = tracestate_shorten(p, len, TRACESTATE_FORWARD_MIN);

    } else if (rc < 0) {
        sc->tracestate.len = 0;
    }
}
