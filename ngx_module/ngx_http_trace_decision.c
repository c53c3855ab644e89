
/*
 * Record or not: for each request and pipeline, at the first need after the
 * rewrites, when the location is known.  A yes stays; after an internal
 * redirect the new location may make a no a yes.
 */


#include "ngx_http_trace_module.h"


static ngx_uint_t ngx_http_trace_wanted(ngx_http_request_t *r,
    ngx_http_trace_pipeline_conf_t *pcf);


/*
 * Never NULL: without memory, and where nothing is recorded, it is the shared
 * context of all untraced requests.
 */

ngx_http_trace_ctx_t *
ngx_http_trace_decide(ngx_http_request_t *r)
{
    ngx_uint_t                  i, wanted;
    ngx_http_trace_ctx_t       *ctx;
    ngx_http_trace_span_ctx_t  *sc;
    ngx_http_trace_loc_conf_t  *tlcf;

    r = r->main;

    ctx = ngx_http_trace_get_ctx(r);

    if (ctx && ctx->decided) {
        return ctx;
    }

    tlcf = ngx_http_get_module_loc_conf(r, ngx_http_trace_module);

    wanted = 0;

    for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++) {

        /*
         * Ours may go with it, and comes back when it is injected again.
         * Without memory nothing is begun that would continue it.
         */

        if (!tlcf->pipelines[i].believe_all
            && ngx_http_trace_distrust(r, &tlcf->pipelines[i]) != NGX_OK)
        {
            continue;
        }

        if (ctx && (ctx->recorded & (1 << i))) {
            continue;
        }

        if (ngx_http_trace_wanted(r, &tlcf->pipelines[i])) {
            wanted |= 1 << i;
        }
    }

    if (ctx == NULL && wanted) {
        ctx = ngx_http_trace_create_ctx(r);
    }

    if (ctx == NULL) {
        return ngx_http_trace_set_untraced(r);
    }

    ctx->decided = 1;

    if (!r->post_action) {
        ctx->loc_conf = r->loc_conf;
    }

    for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++) {

        if (!(wanted & (1 << i))) {
            continue;
        }

        sc = &ctx->pipelines[i];

        ngx_http_trace_extract(r, &tlcf->pipelines[i], sc);

        if (ngx_http_trace_ids(sc) == NGX_OK) {
            ctx->recorded |= 1 << i;
        }
    }

    if (ctx->recorded) {
        ngx_http_trace_error_log(r, ctx);

        if (r->uri_changes != ctx->node.uri_changes) {
            ngx_http_trace_hop(r, ctx, &ctx->node);
        }
    }

    return ctx;
}


/* an "if=": true is what is neither empty nor 0 */

ngx_uint_t
ngx_http_trace_condition(ngx_http_request_t *r,
    ngx_http_complex_value_t *value)
{
    ngx_str_t  text;

    return ngx_http_complex_value(r, value, &text) == NGX_OK
           && text.len
           && !(text.len == 1 && text.data[0] == '0');
}


static ngx_uint_t
ngx_http_trace_wanted(ngx_http_request_t *r,
    ngx_http_trace_pipeline_conf_t *pcf)
{
    ngx_http_variable_value_t  *v;

    if (pcf->decision != NGX_HTTP_TRACE_VALUE) {
        return pcf->decision;
    }

    v = ngx_http_get_flushed_variable(r, pcf->decision_value);

    if (v == NULL || v->not_found || v->len == 0
        || (v->len == 1 && v->data[0] == '0')
        || (v->len == 3 && ngx_strncmp(v->data, "off", 3) == 0))
    {
        return 0;
    }

    return 1;
}
