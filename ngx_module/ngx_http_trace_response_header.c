
/*
 * trace_response_header: tells the client its trace.
 */


#include "ngx_http_trace_module.h"


static ngx_int_t ngx_http_trace_response_header_filter(ngx_http_request_t *r);
static ngx_int_t ngx_http_trace_response_header(ngx_http_request_t *r,
    ngx_http_trace_span_ctx_t *sc, ngx_uint_t format);
static void ngx_http_trace_response_clear(ngx_http_request_t *r,
    ngx_str_t *name);


static ngx_http_output_header_filter_pt  ngx_http_trace_next_header_filter;


/* only where a location wants it */

void
ngx_http_trace_response_header_init(void)
{
    ngx_http_trace_next_header_filter = ngx_http_top_header_filter;
    ngx_http_top_header_filter = ngx_http_trace_response_header_filter;
}


static ngx_int_t
ngx_http_trace_response_header_filter(ngx_http_request_t *r)
{
    ngx_http_trace_ctx_t       *ctx;
    ngx_http_trace_loc_conf_t  *tlcf;

    tlcf = ngx_http_get_module_loc_conf(r, ngx_http_trace_module);

    if (r == r->main && tlcf->response_header) {

        ctx = ngx_http_trace_decide(r);

        if (ctx->recorded & (1 << tlcf->response_pipeline)
            && ngx_http_trace_response_header(r,
                                   &ctx->pipelines[tlcf->response_pipeline],
                                   tlcf->response_header)
               != NGX_OK)
        {
            /* without memory the response goes without it */

            ngx_log_debug0(NGX_LOG_DEBUG_HTTP, r->connection->log, 0,
                           "trace: no memory for a response header");
        }
    }

    return ngx_http_trace_next_header_filter(r);
}


static ngx_int_t
ngx_http_trace_response_header(ngx_http_request_t *r,
    ngx_http_trace_span_ctx_t *sc, ngx_uint_t format)
{
    u_char           *p;
    ngx_table_elt_t  *h;

    static ngx_str_t  timing = ngx_string("Server-Timing");
    static ngx_str_t  traceresponse = ngx_string("traceresponse");

    p = ngx_pnalloc(r->pool, sizeof("trace;desc=\"\"") + TRACEPARENT_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    /* an upstream may have its own: of these, only one can be the client's */

    if (format == NGX_HTTP_TRACE_TRACERESPONSE) {
        ngx_http_trace_response_clear(r, &traceresponse);
    }

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(h, sizeof(ngx_table_elt_t));

    h->hash = 1;
    h->value.data = p;

    if (format == NGX_HTTP_TRACE_TRACERESPONSE) {
        h->key = traceresponse;
        p = ngx_cpymem(p, ngx_http_trace_text(sc), TRACEPARENT_LEN);

    } else {
        h->key = timing;
        p = ngx_cpymem(p, "trace;desc=\"", sizeof("trace;desc=\"") - 1);
        p = ngx_cpymem(p, ngx_http_trace_text(sc), TRACEPARENT_LEN);
        *p++ = '"';
    }

    h->value.len = p - h->value.data;

    return NGX_OK;
}


static void
ngx_http_trace_response_clear(ngx_http_request_t *r, ngx_str_t *name)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    part = &r->headers_out.headers.part;
    i = 0;

    while ((h = ngx_http_trace_next_header(&part, &i)) != NULL) {

        if (h->key.len == name->len
            && ngx_strncasecmp(h->key.data, name->data, name->len) == 0)
        {
            h->hash = 0;
        }
    }
}
