
/*
 * trace_span: a span for the time that a request or subrequest is in a
 * location.
 */


#include "ngx_http_trace_module.h"


char *
ngx_http_trace_span_directive(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_trace_loc_conf_t *tlcf = conf;

    ngx_str_t                       *value;
    ngx_int_t                        pipelines;
    ngx_http_trace_location_span_t  *span;

    if (tlcf->span) {
        return "is duplicate";
    }

    value = cf->args->elts;

    pipelines = NGX_HTTP_TRACE_BOTH;

    if (cf->args->nelts == 3) {
        pipelines = ngx_http_trace_pipelines(cf, cmd, &value[2]);

        if (pipelines == NGX_ERROR) {
            return NGX_CONF_ERROR;
        }
    }

    if (value[1].len == 0) {
        return "needs a name that is not empty";
    }

    span = ngx_palloc(cf->pool, sizeof(ngx_http_trace_location_span_t));
    if (span == NULL) {
        return NGX_CONF_ERROR;
    }

    span->pipelines = pipelines;
    span->name = ngx_http_trace_value_new(cf, &cmd->name, &value[1]);

    if (span->name == NULL) {
        return NGX_CONF_ERROR;
    }

    tlcf->span = span;

    return NGX_CONF_OK;
}


/* called when it is decided what is recorded, and where */

void
ngx_http_trace_locate(ngx_http_request_t *r, ngx_http_trace_node_t *node)
{
    ngx_str_t                   name;
    ngx_http_trace_ctx_t       *ctx;
    ngx_http_trace_loc_conf_t  *tlcf;

    tlcf = ngx_http_get_module_loc_conf(r, ngx_http_trace_module);

    if (tlcf->span == NULL || node->located) {
        return;
    }

    /* what it is called before its end matters to events alone */

    ctx = ngx_http_trace_get_ctx(r);

    if (ctx->events == 0
        || ngx_http_trace_value_peek(r, tlcf->span->name, &name) != NGX_OK
        || name.len == 0)
    {
        ngx_str_set(&name, "location");
    }

    node->located = ngx_http_trace_span_open(r, NGX_HTTP_TRACE_NO_SPAN,
                                             name.data, name.len,
                                             tlcf->span->pipelines);

    if (node->located) {
        node->location = tlcf->span;
        (void) ngx_http_trace_span_current(r, node->located);
    }
}


void
ngx_http_trace_leave(ngx_http_request_t *r, ngx_http_trace_node_t *node)
{
    ngx_http_trace_name_location(r, node);
    ngx_http_trace_span_close(node->located);

    node->located = NGX_HTTP_TRACE_NO_SPAN;
}


/* called at the end, when its variables are known */

void
ngx_http_trace_name_location(ngx_http_request_t *r,
    ngx_http_trace_node_t *node)
{
    ngx_str_t  name;

    if (ngx_http_trace_value_read(r, node->location->name, &name) == NGX_OK) {
        ngx_http_trace_span_rename(node->located, name.data, name.len);
    }
}
