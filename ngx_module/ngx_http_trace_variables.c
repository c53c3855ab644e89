
/*
 * $internal_* and $user_*: what goes to the upstream, the ids, the parent.
 * Where nothing is recorded, they show the inbound context, or are empty.
 */


#include "ngx_http_trace_module.h"


typedef enum {
    NGX_HTTP_TRACE_VAR_TRACEPARENT = 0,
    NGX_HTTP_TRACE_VAR_TRACESTATE,
    NGX_HTTP_TRACE_VAR_TRACE_ID,
    NGX_HTTP_TRACE_VAR_SPAN_ID,
    NGX_HTTP_TRACE_VAR_PARENT_ID,
    NGX_HTTP_TRACE_VAR_SAMPLED,
    NGX_HTTP_TRACE_VAR_PARENT_SAMPLED,
    NGX_HTTP_TRACE_VARS
} ngx_http_trace_var_e;


static ngx_int_t ngx_http_trace_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_http_trace_span_ctx_t *ngx_http_trace_variable_ctx(
    ngx_http_request_t *r, ngx_uint_t pipeline, ngx_uint_t ids,
    ngx_uint_t *ours);
static ngx_http_trace_node_t *ngx_http_trace_variable_node(
    ngx_http_request_t *r);
static ngx_int_t ngx_http_trace_variable_text(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, ngx_http_trace_span_ctx_t *sc,
    ngx_uint_t pipeline);
static ngx_int_t ngx_http_trace_variable_hex(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uint8_t *id, size_t size);


/* in the order of ngx_http_trace_var_e */

static ngx_str_t  ngx_http_trace_vars[] = {
    ngx_string("traceparent"),
    ngx_string("tracestate"),
    ngx_string("trace_id"),
    ngx_string("span_id"),
    ngx_string("parent_id"),
    ngx_string("sampled"),
    ngx_string("parent_sampled")
};


ngx_int_t
ngx_http_trace_add_variables(ngx_conf_t *cf)
{
    u_char               *p;
    ngx_str_t             name, *pipeline;
    ngx_uint_t            i, n;
    ngx_http_variable_t  *var;

    for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++) {
        pipeline = &ngx_http_trace_pipeline_names[i];

        for (n = 0; n < NGX_HTTP_TRACE_VARS; n++) {

            name.len = pipeline->len + 1 + ngx_http_trace_vars[n].len;

            name.data = ngx_pnalloc(cf->pool, name.len);
            if (name.data == NULL) {
                return NGX_ERROR;
            }

            p = ngx_cpymem(name.data, pipeline->data, pipeline->len);
            *p++ = '_';
            ngx_memcpy(p, ngx_http_trace_vars[n].data,
                       ngx_http_trace_vars[n].len);

            var = ngx_http_add_variable(cf, &name, NGX_HTTP_VAR_NOCACHEABLE);
            if (var == NULL) {
                return NGX_ERROR;
            }

            var->get_handler = ngx_http_trace_variable;
            var->data = i * NGX_HTTP_TRACE_VARS + n;
        }
    }

    return NGX_OK;
}


ngx_uint_t
ngx_http_trace_own_variable(ngx_str_t *name)
{
    ngx_str_t   *pipeline, *var;
    ngx_uint_t   i, n;

    for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++) {
        for (n = 0; n < NGX_HTTP_TRACE_VARS; n++) {
            pipeline = &ngx_http_trace_pipeline_names[i];
            var = &ngx_http_trace_vars[n];

            if (name->len == pipeline->len + 1 + var->len
                && ngx_strncasecmp(name->data, pipeline->data, pipeline->len)
                   == 0
                && name->data[pipeline->len] == '_'
                && ngx_strncasecmp(name->data + pipeline->len + 1, var->data,
                                   var->len)
                   == 0)
            {
                return 1;
            }
        }
    }

    return 0;
}


static ngx_int_t
ngx_http_trace_variable(ngx_http_request_t *r, ngx_http_variable_value_t *v,
    uintptr_t data)
{
    ngx_uint_t                  ours, n, parent, pipeline;
    ngx_http_trace_node_t      *node;
    ngx_http_trace_span_ctx_t  *sc;

    static u_char  digits[] = "01";

    /* not to be kept: it changes with attempts, and between subrequests */

    v->valid = 0;
    v->no_cacheable = 1;
    v->not_found = 0;

    n = data % NGX_HTTP_TRACE_VARS;

    pipeline = data / NGX_HTTP_TRACE_VARS;

    parent = (n == NGX_HTTP_TRACE_VAR_PARENT_ID
              || n == NGX_HTTP_TRACE_VAR_PARENT_SAMPLED);

    sc = ngx_http_trace_variable_ctx(r, pipeline, !parent, &ours);

    if (sc == NULL) {
        return NGX_ERROR;
    }

    if ((parent && !sc->parent)
        || (!ours && (!sc->parent || n == NGX_HTTP_TRACE_VAR_SPAN_ID)))
    {
        v->len = 0;
        v->not_found = 1;
        return NGX_OK;
    }

    switch (n) {

    case NGX_HTTP_TRACE_VAR_TRACEPARENT:
        if (ours) {
            return ngx_http_trace_variable_text(r, v, sc, pipeline);
        }

        v->data = sc->received.data;
        v->len = sc->received.len;
        return NGX_OK;

    case NGX_HTTP_TRACE_VAR_TRACESTATE:
        v->data = sc->tracestate.data;
        v->len = sc->tracestate.len;
        return NGX_OK;

    case NGX_HTTP_TRACE_VAR_TRACE_ID:
        return ngx_http_trace_variable_hex(r, v,
                                           ours ? sc->outbound.trace_id
                                                : sc->inbound.trace_id,
                                           TRACEPARENT_TRACE_ID_SIZE);

    case NGX_HTTP_TRACE_VAR_SPAN_ID:
        node = ngx_http_trace_variable_node(r);

        return ngx_http_trace_variable_hex(r, v,
                                           node ? node->span_id[pipeline]
                                                : sc->outbound.parent_id,
                                           TRACEPARENT_SPAN_ID_SIZE);

    case NGX_HTTP_TRACE_VAR_PARENT_ID:
        return ngx_http_trace_variable_hex(r, v, sc->inbound.parent_id,
                                           TRACEPARENT_SPAN_ID_SIZE);

    default: /* NGX_HTTP_TRACE_VAR_SAMPLED, _PARENT_SAMPLED */
        n = (ours && !parent) ? sc->outbound.flags : sc->inbound.flags;

        v->data = &digits[n & TRACEPARENT_FLAG_SAMPLED];
        v->len = 1;
        return NGX_OK;
    }
}


/*
 * The context to show, with |ours| set if it has ids of ours.  Where the
 * decision is still to come, the ids are made now, and kept if it is a yes.
 * Without |ids| none are asked for, as by the decision itself.
 */

static ngx_http_trace_span_ctx_t *
ngx_http_trace_variable_ctx(ngx_http_request_t *r, ngx_uint_t pipeline,
    ngx_uint_t ids, ngx_uint_t *ours)
{
    ngx_http_trace_ctx_t             *ctx;
    ngx_http_trace_span_ctx_t        *sc;
    ngx_http_trace_loc_conf_t        *tlcf;
    ngx_http_trace_main_conf_t       *tmcf;
    ngx_http_trace_pipeline_conf_t   *pcf;

    r = r->main;

    ngx_http_trace_distrust_unread(r);

    if (ids && ngx_http_trace_late(r)) {
        (void) ngx_http_trace_decide(r);
    }

    ctx = ngx_http_trace_own_ctx(r);
    if (ctx == NULL) {
        return NULL;
    }

    sc = &ctx->pipelines[pipeline];

    if (!(ctx->settled & (1 << pipeline))) {
        tlcf = ngx_http_get_module_loc_conf(r, ngx_http_trace_module);
        pcf = &tlcf->pipelines[pipeline];

        if ((pcf->ask_trust || ctx->given_back)
            && ngx_http_trace_believe(r, pcf, pipeline) == NGX_ERROR)
        {
            return NULL;
        }

        ngx_http_trace_extract(r, pcf, sc);
    }

    if (!ctx->decided) {
        tmcf = ngx_http_get_module_main_conf(r, ngx_http_trace_module);

        if (tmcf->enabled[pipeline] && ngx_http_trace_ids(sc) != NGX_OK) {
            return NULL;
        }
    }

    *ours = ctx->decided ? (ctx->ours >> pipeline) & 1 : sc->ids;

    return sc;
}


/* the request's place in the tree, if it has one by now */

static ngx_http_trace_node_t *
ngx_http_trace_variable_node(ngx_http_request_t *r)
{
    ngx_http_trace_ctx_t  *ctx;

    ctx = ngx_http_trace_get_ctx(r);

    return (ctx && ctx->recorded) ? ngx_http_trace_node(r, ctx) : NULL;
}


/*
 * While an upstream is asked, and later, what is or was sent to it; else that
 * of the request or subrequest.
 */

static ngx_int_t
ngx_http_trace_variable_text(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, ngx_http_trace_span_ctx_t *sc,
    ngx_uint_t pipeline)
{
    u_char                 *text;
    ngx_http_trace_node_t  *node;

    node = ngx_http_trace_variable_node(r);

    if (node == NULL) {
        text = ngx_http_trace_text(sc);

    } else if (node->upstream && ngx_http_trace_upstream_asked(node->upstream))
    {
        text = ngx_http_trace_outbound(r, sc, node, pipeline);

    } else {
        text = ngx_http_trace_node_text(r, sc, node, pipeline);
    }

    if (text == NULL) {
        return NGX_ERROR;
    }

    v->len = TRACEPARENT_LEN;

    v->data = ngx_pnalloc(r->pool, v->len);
    if (v->data == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(v->data, text, v->len);

    return NGX_OK;
}


static ngx_int_t
ngx_http_trace_variable_hex(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uint8_t *id, size_t size)
{
    v->len = 2 * size;

    v->data = ngx_pnalloc(r->pool, v->len);
    if (v->data == NULL) {
        return NGX_ERROR;
    }

    traceparent_hex(v->data, id, size);

    return NGX_OK;
}
