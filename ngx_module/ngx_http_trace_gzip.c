
/*
 * Compresses a request's body.  The fastest level: spans repeat themselves so
 * much that the others gain little, and a worker has other things to do.
 */


#include "ngx_http_trace_gzip.h"


/* with gzip's header */
#define NGX_HTTP_TRACE_GZIP_WBITS     (MAX_WBITS + 16)
#define NGX_HTTP_TRACE_GZIP_MEMLEVEL  8


ngx_int_t
ngx_http_trace_gzip(ngx_http_trace_gzip_t *gzip, struct iovec *in,
    ngx_uint_t n, struct iovec *out, ngx_log_t *log)
{
    int         rc;
    size_t      size;
    z_stream   *zs;
    ngx_uint_t  i;

    zs = &gzip->stream;

    if (!gzip->ready) {
        rc = deflateInit2(zs, Z_BEST_SPEED, Z_DEFLATED,
                          NGX_HTTP_TRACE_GZIP_WBITS,
                          NGX_HTTP_TRACE_GZIP_MEMLEVEL, Z_DEFAULT_STRATEGY);
        if (rc != Z_OK) {
            return NGX_ERROR;
        }

        gzip->ready = 1;
    }

    (void) deflateReset(zs);

    size = 0;

    for (i = 0; i < n; i++) {
        size += in[i].iov_len;
    }

    size = deflateBound(zs, size);

    ngx_http_trace_gzip_free(gzip);

    gzip->out = ngx_alloc(size, log);
    if (gzip->out == NULL) {
        return NGX_ERROR;
    }

    zs->next_out = gzip->out;
    zs->avail_out = size;

    for (i = 0; i < n; i++) {
        zs->next_in = in[i].iov_base;
        zs->avail_in = in[i].iov_len;

        rc = deflate(zs, i == n - 1 ? Z_FINISH : Z_NO_FLUSH);

        if (rc != (i == n - 1 ? Z_STREAM_END : Z_OK)) {
            return NGX_ERROR;
        }
    }

    out->iov_base = gzip->out;
    out->iov_len = size - zs->avail_out;

    return NGX_OK;
}


void
ngx_http_trace_gzip_free(ngx_http_trace_gzip_t *gzip)
{
    if (gzip->out) {
        ngx_free(gzip->out);
        gzip->out = NULL;
    }
}
