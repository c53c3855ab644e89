
/*
 * trace_error_log: the ids of a request, or of its subrequest, in the lines
 * that nginx writes to the error log for it.
 */


#include "ngx_http_trace_module.h"


/* ", trace_id: {32}, span_id: {16}", and the line feed for which nginx cuts */
#define NGX_HTTP_TRACE_LOG_LEN                                                \
    (sizeof(", trace_id: , span_id: ") - 1                                    \
     + 2 * TRACEPARENT_TRACE_ID_SIZE + 2 * TRACEPARENT_SPAN_ID_SIZE           \
     + NGX_LINEFEED_SIZE)


static u_char *ngx_http_trace_log_error_handler(ngx_http_request_t *r,
    ngx_http_request_t *sr, u_char *buf, size_t len);


/* called when it is decided that a request is recorded */

void
ngx_http_trace_error_log(ngx_http_request_t *r, ngx_http_trace_ctx_t *ctx)
{
    ngx_http_trace_main_conf_t  *tmcf;

    tmcf = ngx_http_get_module_main_conf(r, ngx_http_trace_module);

    if (tmcf->error_log && ctx->log_handler == NULL) {
        ctx->log_handler = r->log_handler;
        r->log_handler = ngx_http_trace_log_error_handler;
    }
}


/* a long line is cut, but not its ids */

static u_char *
ngx_http_trace_log_error_handler(ngx_http_request_t *r,
    ngx_http_request_t *sr, u_char *buf, size_t len)
{
    u_char                     *p;
    ngx_uint_t                  pipeline;
    ngx_http_trace_ctx_t       *ctx;
    ngx_http_trace_node_t      *node;
    ngx_http_trace_loc_conf_t  *tlcf;

    ctx = ngx_http_trace_find_ctx(r);

    tlcf = ngx_http_get_module_loc_conf(sr, ngx_http_trace_module);

    pipeline = tlcf->error_log;

    if (pipeline == NGX_HTTP_TRACE_PIPELINES
        || !(ctx->recorded & (1 << pipeline))
        || len < NGX_HTTP_TRACE_LOG_LEN)
    {
        return ctx->log_handler(r, sr, buf, len);
    }

    p = ctx->log_handler(r, sr, buf, len - NGX_HTTP_TRACE_LOG_LEN);

    node = (sr == r) ? &ctx->node
                     : ngx_http_get_module_ctx(sr, ngx_http_trace_module);

    if (node == NULL) {
        node = &ctx->node;
    }

    p = ngx_cpymem(p, ", trace_id: ", sizeof(", trace_id: ") - 1);
    traceparent_hex(p, ctx->pipelines[pipeline].outbound.trace_id,
                    TRACEPARENT_TRACE_ID_SIZE);
    p += 2 * TRACEPARENT_TRACE_ID_SIZE;

    p = ngx_cpymem(p, ", span_id: ", sizeof(", span_id: ") - 1);
    traceparent_hex(p, node->span_id[pipeline], TRACEPARENT_SPAN_ID_SIZE);

    return p + 2 * TRACEPARENT_SPAN_ID_SIZE;
}
