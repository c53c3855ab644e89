
/* Compresses a request's body: "compression gzip". */


#ifndef _NGX_HTTP_TRACE_GZIP_H_INCLUDED_
#define _NGX_HTTP_TRACE_GZIP_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include <zlib.h>


typedef struct {
    z_stream    stream;
    u_char     *out;         /* of the last body, until free */
    unsigned    ready:1;
} ngx_http_trace_gzip_t;


/*
 * Compresses the |n| pieces at |in| into one, |out|, which is the gzip's own
 * until ngx_http_trace_gzip_free().  NGX_ERROR if there is no memory.
 */
ngx_int_t ngx_http_trace_gzip(ngx_http_trace_gzip_t *gzip, struct iovec *in,
    ngx_uint_t n, struct iovec *out, ngx_log_t *log);
void ngx_http_trace_gzip_free(ngx_http_trace_gzip_t *gzip);


#endif /* _NGX_HTTP_TRACE_GZIP_H_INCLUDED_ */
