
/*
 * Posts bytes over HTTP/1.1 on the event loop, one request at a time on one
 * connection that is kept alive.  Knows nothing of spans.
 */


#ifndef _NGX_HTTP_TRACE_HTTP_CLIENT_H_INCLUDED_
#define _NGX_HTTP_TRACE_HTTP_CLIENT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <ngx_http.h>


/* a response is never longer, its header included; bytes */
#define NGX_HTTP_TRACE_RESPONSE_MAX   65536


typedef struct ngx_http_trace_http_client_s  ngx_http_trace_http_client_t;

/* how a request ended */

typedef enum {
    NGX_HTTP_TRACE_HTTP_OK = 0,            /* with a response */
    NGX_HTTP_TRACE_HTTP_CONNECT,           /* no connection */
    NGX_HTTP_TRACE_HTTP_CLOSED,            /* or reset, before a response */
    NGX_HTTP_TRACE_HTTP_TIMEOUT,
    NGX_HTTP_TRACE_HTTP_INVALID            /* what came is no response */
} ngx_http_trace_http_end_e;


/*
 * Called once for each request.  With NGX_HTTP_TRACE_HTTP_OK there are
 * client->status.code, client->body (empty if it did not come whole) and
 * client->retry_after until the return; else |error| says more, for a log,
 * with client->err as its errno or 0.  May post again at once.
 */
typedef void (*ngx_http_trace_http_done_pt)(
    ngx_http_trace_http_client_t *client, ngx_http_trace_http_end_e end,
    const char *error);


struct ngx_http_trace_http_client_s {

    /* set by the caller */
    ngx_url_t                    *url;
    ngx_msec_t                    timeout;    /* of a whole request */
    ngx_http_trace_http_done_pt   done;
    void                         *data;

    /* may be read by the caller, in |done| */
    ngx_http_status_t             status;
    ngx_str_t                     body;
    time_t                        retry_after;      /* s; NGX_ERROR: none */
    ngx_err_t                     err;
    unsigned                      stale:1;    /* the connection was an old one
                                                 and closed without a byte:
                                                 try again at once */

    /* the client's own */
    unsigned                      sent:1;     /* something, so connected */
    unsigned                      reused:1;
    unsigned                      keepalive:1;
    unsigned                      chunked:1;
    unsigned                      header_done:1;
    ngx_uint_t                    address;    /* of url->addrs, in use */
    ngx_log_t                     log;
    ngx_event_t                   timer;
    ngx_peer_connection_t         peer;
    struct iovec                 *iov;        /* not yet sent */
    ngx_uint_t                    iovs;
    ngx_int_t                   (*process)(
                                       ngx_http_trace_http_client_t *client);
    ngx_buf_t                     in;
    ngx_http_request_t           *parser;     /* state of nginx's parsers */
    ngx_http_chunked_t            chunk;
    off_t                         content_length;       /* -1: not told */
};


ngx_int_t ngx_http_trace_http_init(ngx_http_trace_http_client_t *client,
    ngx_pool_t *pool, ngx_log_t *log);

/*
 * Sends the |n| pieces at |iov|, a whole request with its header.  The client
 * changes them as it goes, and they must stay until |done| is called, which
 * may be before the return.
 */
void ngx_http_trace_http_post(ngx_http_trace_http_client_t *client,
    struct iovec *iov, ngx_uint_t n);

/* A worker that wants to exit waits for the request that is under way. */
void ngx_http_trace_http_hold(ngx_http_trace_http_client_t *client);


#endif /* _NGX_HTTP_TRACE_HTTP_CLIENT_H_INCLUDED_ */
