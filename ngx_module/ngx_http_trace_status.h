
/*
 * What the files of trace_status share: a response, as it grows.
 */


#ifndef _NGX_HTTP_TRACE_STATUS_H_INCLUDED_
#define _NGX_HTTP_TRACE_STATUS_H_INCLUDED_


#include "ngx_http_trace_module.h"


typedef struct {
    ngx_pool_t                   *pool;
    ngx_chain_t                  *out;
    ngx_chain_t                 **last;
    ngx_buf_t                    *buf;
    off_t                         size;
    ngx_int_t                     rc;         /* NGX_ERROR: no memory */
} ngx_http_trace_output_t;


/* the spans that are open, the oldest first */

typedef struct {
    ngx_http_trace_active_t       span;
    ngx_pid_t                     worker;
    ngx_uint_t                    place;      /* in its table */
} ngx_http_trace_open_span_t;


typedef struct {
    ngx_array_t                   spans;      /* of these, as many as shown */
    ngx_uint_t                    listed;     /* else they are only counted */
    uint64_t                      n;          /* all of them */
    ngx_uint_t                    failed;     /* no memory */
} ngx_http_trace_open_spans_t;


/* ngx_http_trace_status.c */

void ngx_http_trace_status_write(ngx_http_trace_output_t *output,
    const char *fmt, ...);


/* ngx_http_trace_open_spans.c */

ngx_int_t ngx_http_trace_open_spans_read(ngx_pool_t *pool,
    ngx_http_trace_store_t *store, ngx_http_trace_open_spans_t *open);
void ngx_http_trace_open_spans_json(ngx_http_trace_output_t *output,
    ngx_http_trace_open_spans_t *open);
void ngx_http_trace_open_spans_chrome(ngx_http_trace_output_t *output,
    ngx_http_trace_open_spans_t *open);


#endif /* _NGX_HTTP_TRACE_STATUS_H_INCLUDED_ */
