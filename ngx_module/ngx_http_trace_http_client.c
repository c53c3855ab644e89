
/*
 * Posts bytes over HTTP/1.1 on the event loop.  Each request ends in
 * ngx_http_trace_http_done(), once, which alone tells the caller.
 */


#include "ngx_http_trace_http_client.h"


#define NGX_HTTP_TRACE_IOVS           64


static void ngx_http_trace_http_connect(ngx_http_trace_http_client_t *client);
static void ngx_http_trace_http_write(ngx_event_t *wev);
static void ngx_http_trace_http_read(ngx_event_t *rev);
static void ngx_http_trace_http_idle(ngx_event_t *rev);
static void ngx_http_trace_http_idle_write(ngx_event_t *wev);
static void ngx_http_trace_http_timeout(ngx_event_t *ev);
static ngx_int_t ngx_http_trace_http_status(
    ngx_http_trace_http_client_t *client);
static ngx_int_t ngx_http_trace_http_headers(
    ngx_http_trace_http_client_t *client);
static ngx_int_t ngx_http_trace_http_header(
    ngx_http_trace_http_client_t *client);
static time_t ngx_http_trace_http_retry_after(ngx_str_t *value);
static ngx_int_t ngx_http_trace_http_body(
    ngx_http_trace_http_client_t *client);
static ngx_int_t ngx_http_trace_http_chunks(
    ngx_http_trace_http_client_t *client);
static void ngx_http_trace_http_eof(ngx_http_trace_http_client_t *client,
    ngx_err_t err);
static void ngx_http_trace_http_error(ngx_http_trace_http_client_t *client,
    ngx_http_trace_http_end_e end, const char *error, ngx_err_t err);
static void ngx_http_trace_http_done(ngx_http_trace_http_client_t *client,
    ngx_http_trace_http_end_e end, const char *error);
static void ngx_http_trace_http_keep(ngx_http_trace_http_client_t *client);
static void ngx_http_trace_http_close(ngx_http_trace_http_client_t *client);


ngx_int_t
ngx_http_trace_http_init(ngx_http_trace_http_client_t *client,
    ngx_pool_t *pool, ngx_log_t *log)
{
    client->parser = ngx_pcalloc(pool, sizeof(ngx_http_request_t));
    if (client->parser == NULL) {
        return NGX_ERROR;
    }

    /* what is never used of it is never touched, and takes no memory */

    client->in.start = ngx_palloc(pool, NGX_HTTP_TRACE_RESPONSE_MAX);
    if (client->in.start == NULL) {
        return NGX_ERROR;
    }

    client->in.end = client->in.start + NGX_HTTP_TRACE_RESPONSE_MAX;
    client->in.temporary = 1;

    /* a receiver that is away is the caller's to log, once and not each time */

    client->log = *log;
    client->log.log_level = NGX_LOG_ALERT;

    client->timer.handler = ngx_http_trace_http_timeout;
    client->timer.data = client;
    client->timer.log = log;

    return NGX_OK;
}


void
ngx_http_trace_http_post(ngx_http_trace_http_client_t *client,
    struct iovec *iov, ngx_uint_t n)
{
    ngx_connection_t  *c;

    client->iov = iov;
    client->iovs = n;

    client->err = 0;
    client->stale = 0;
    client->sent = 0;
    client->reused = 0;
    client->header_done = 0;
    client->retry_after = NGX_ERROR;
    client->process = ngx_http_trace_http_status;

    client->in.pos = client->in.start;
    client->in.last = client->in.start;

    ngx_memzero(client->parser, sizeof(ngx_http_request_t));
    ngx_memzero(&client->status, sizeof(ngx_http_status_t));

    client->timer.cancelable = !ngx_exiting;
    ngx_add_timer(&client->timer, client->timeout);

    c = client->peer.connection;

    if (c == NULL) {
        ngx_http_trace_http_connect(client);
        return;
    }

    client->sent = 1;
    client->reused = 1;

    c->idle = 0;
    c->read->handler = ngx_http_trace_http_read;
    c->write->handler = ngx_http_trace_http_write;

    client->parser->connection = c;

    ngx_http_trace_http_write(c->write);
}


void
ngx_http_trace_http_hold(ngx_http_trace_http_client_t *client)
{
    client->timer.cancelable = 0;
}


static void
ngx_http_trace_http_connect(ngx_http_trace_http_client_t *client)
{
    ngx_int_t               rc;
    ngx_addr_t             *addr;
    ngx_connection_t       *c;
    ngx_peer_connection_t  *pc;

    addr = &client->url->addrs[client->address];

    pc = &client->peer;

    ngx_memzero(pc, sizeof(ngx_peer_connection_t));

    pc->sockaddr = addr->sockaddr;
    pc->socklen = addr->socklen;
    pc->name = &addr->name;
    pc->get = ngx_event_get_peer;
    pc->log = &client->log;
    pc->log_error = NGX_ERROR_ERR;

    ngx_set_errno(0);

    rc = ngx_event_connect_peer(pc);

    if (rc != NGX_OK && rc != NGX_AGAIN) {
        ngx_http_trace_http_error(client, NGX_HTTP_TRACE_HTTP_CONNECT,
                                  "connect() failed", ngx_socket_errno);
        return;
    }

    c = pc->connection;

    c->data = client;
    c->log = &client->log;
    c->read->log = c->log;
    c->write->log = c->log;

    c->read->handler = ngx_http_trace_http_read;
    c->write->handler = ngx_http_trace_http_write;

    client->parser->connection = c;

    if (rc == NGX_OK) {
        ngx_http_trace_http_write(c->write);
    }
}


static void
ngx_http_trace_http_write(ngx_event_t *wev)
{
    ssize_t                        n;
    ngx_err_t                      err;
    ngx_connection_t              *c;
    ngx_http_trace_http_client_t  *client;

    c = wev->data;
    client = c->data;

    while (client->iovs) {

        n = writev(c->fd, client->iov,
                   ngx_min(client->iovs, NGX_HTTP_TRACE_IOVS));

        if (n == -1) {
            err = ngx_socket_errno;

            if (err == NGX_EINTR) {
                continue;
            }

            if (err == NGX_EAGAIN) {
                wev->ready = 0;
                break;
            }

            ngx_http_trace_http_eof(client, err);
            return;
        }

        client->sent = 1;

        while (client->iovs && (size_t) n >= client->iov->iov_len) {
            n -= client->iov->iov_len;
            client->iov++;
            client->iovs--;
        }

        if (client->iovs) {
            client->iov->iov_base = (u_char *) client->iov->iov_base + n;
            client->iov->iov_len -= n;
        }
    }

    if (ngx_handle_write_event(wev, 0) != NGX_OK
        || ngx_handle_read_event(c->read, 0) != NGX_OK)
    {
        ngx_http_trace_http_error(client, NGX_HTTP_TRACE_HTTP_CLOSED,
                                  "event failed", 0);
    }
}


static void
ngx_http_trace_http_read(ngx_event_t *rev)
{
    ssize_t                        n;
    ngx_int_t                      rc;
    ngx_connection_t              *c;
    ngx_http_trace_http_client_t  *client;

    c = rev->data;
    client = c->data;

    if (c->close) {
        ngx_http_trace_http_error(client, NGX_HTTP_TRACE_HTTP_TIMEOUT,
                                  "worker has no more time", 0);
        return;
    }

    for ( ;; ) {

        if (client->in.last == client->in.end) {
            ngx_http_trace_http_error(client, NGX_HTTP_TRACE_HTTP_INVALID,
                                      "response is too long", 0);
            return;
        }

        n = c->recv(c, client->in.last, client->in.end - client->in.last);

        if (n == NGX_AGAIN) {

            if (ngx_handle_read_event(rev, 0) != NGX_OK) {
                ngx_http_trace_http_error(client, NGX_HTTP_TRACE_HTTP_CLOSED,
                                  "event failed", 0);
            }

            return;
        }

        if (n == 0 || n == NGX_ERROR) {
            ngx_http_trace_http_eof(client, n ? ngx_socket_errno : 0);
            return;
        }

        client->in.last += n;

        rc = client->process(client);

        if (rc == NGX_ERROR) {
            ngx_http_trace_http_error(client, NGX_HTTP_TRACE_HTTP_INVALID,
                                      "response is invalid", 0);
            return;
        }

        if (rc == NGX_OK) {
            ngx_http_trace_http_done(client, NGX_HTTP_TRACE_HTTP_OK, NULL);
            return;
        }
    }
}


/* what waits for the next request: closed when anything happens to it */

static void
ngx_http_trace_http_idle(ngx_event_t *rev)
{
    int                            n;
    u_char                         byte;
    ngx_connection_t              *c;
    ngx_http_trace_http_client_t  *client;

    c = rev->data;
    client = c->data;

    if (!c->close) {
        n = recv(c->fd, &byte, 1, MSG_PEEK);

        if (n == -1 && ngx_socket_errno == NGX_EAGAIN) {
            rev->ready = 0;

            if (ngx_handle_read_event(rev, 0) == NGX_OK) {
                return;
            }
        }
    }

    ngx_http_trace_http_close(client);
}


static void
ngx_http_trace_http_idle_write(ngx_event_t *wev)
{
    /* an edge that means nothing */
}


static void
ngx_http_trace_http_timeout(ngx_event_t *ev)
{
    ngx_http_trace_http_error(ev->data, NGX_HTTP_TRACE_HTTP_TIMEOUT,
                              "timed out", NGX_ETIMEDOUT);
}


static ngx_int_t
ngx_http_trace_http_status(ngx_http_trace_http_client_t *client)
{
    ngx_int_t  rc;

    rc = ngx_http_parse_status_line(client->parser, &client->in,
                                    &client->status);

    if (rc != NGX_OK) {
        return rc;
    }

    client->body.len = 0;
    client->chunked = 0;
    client->content_length = -1;
    client->keepalive = (client->status.http_version > 1000);

    client->process = ngx_http_trace_http_headers;

    return ngx_http_trace_http_headers(client);
}


static ngx_int_t
ngx_http_trace_http_headers(ngx_http_trace_http_client_t *client)
{
    ngx_int_t  rc;

    for ( ;; ) {
        rc = ngx_http_parse_header_line(client->parser, &client->in, 1);

        if (rc == NGX_OK) {

            if (ngx_http_trace_http_header(client) != NGX_OK) {
                return NGX_ERROR;
            }

            continue;
        }

        if (rc == NGX_AGAIN) {
            return NGX_AGAIN;
        }

        if (rc == NGX_HTTP_PARSE_HEADER_DONE) {
            break;
        }

        return NGX_ERROR;
    }

    if (client->status.code < 200) {

        /* 100 and its like come before the response */

        ngx_memzero(&client->status, sizeof(ngx_http_status_t));
        client->parser->state = 0;
        client->process = ngx_http_trace_http_status;

        return ngx_http_trace_http_status(client);
    }

    client->header_done = 1;
    client->body.data = client->in.pos;
    client->process = ngx_http_trace_http_body;

    if (client->status.code == 204 || client->status.code == 304) {
        client->content_length = 0;
        client->chunked = 0;
    }

    if (client->chunked) {
        ngx_memzero(&client->chunk, sizeof(ngx_http_chunked_t));
        client->process = ngx_http_trace_http_chunks;
    }

    return client->process(client);
}


static ngx_int_t
ngx_http_trace_http_header(ngx_http_trace_http_client_t *client)
{
    off_t                length;
    ngx_str_t            name, value;
    ngx_http_request_t  *p;

    p = client->parser;

    name.data = p->header_name_start;
    name.len = p->header_name_end - p->header_name_start;

    value.data = p->header_start;
    value.len = p->header_end - p->header_start;

    if (name.len == 14
        && ngx_strncasecmp(name.data, (u_char *) "Content-Length", 14) == 0)
    {
        length = ngx_atoof(value.data, value.len);

        if (length == NGX_ERROR
            || (client->content_length != -1
                && client->content_length != length))
        {
            return NGX_ERROR;
        }

        client->content_length = length;

    } else if (name.len == 17
               && ngx_strncasecmp(name.data, (u_char *) "Transfer-Encoding",
                                  17)
                  == 0)
    {
        if (value.len != 7
            || ngx_strncasecmp(value.data, (u_char *) "chunked", 7) != 0)
        {
            return NGX_ERROR;
        }

        client->chunked = 1;

    } else if (name.len == 10
               && ngx_strncasecmp(name.data, (u_char *) "Connection", 10) == 0
               && ngx_strlcasestrn(value.data, value.data + value.len,
                                   (u_char *) "close", 5 - 1))
    {
        client->keepalive = 0;

    } else if (name.len == 11
               && ngx_strncasecmp(name.data, (u_char *) "Retry-After", 11)
                  == 0)
    {
        client->retry_after = ngx_http_trace_http_retry_after(&value);
    }

    return NGX_OK;
}


/* seconds, or a date: RFC 9110, 10.2.3 */

static time_t
ngx_http_trace_http_retry_after(ngx_str_t *value)
{
    time_t  t;

    t = ngx_atotm(value->data, value->len);

    if (t != NGX_ERROR) {
        return t;
    }

    t = ngx_parse_http_time(value->data, value->len);

    if (t == NGX_ERROR) {
        return NGX_ERROR;
    }

    return ngx_max(t - ngx_time(), 0);
}


static ngx_int_t
ngx_http_trace_http_body(ngx_http_trace_http_client_t *client)
{
    client->body.len = client->in.last - client->body.data;

    if (client->content_length == -1) {

        /* until the connection is closed */

        client->keepalive = 0;
        return NGX_AGAIN;
    }

    if ((off_t) client->body.len < client->content_length) {
        return NGX_AGAIN;
    }

    client->body.len = (size_t) client->content_length;
    client->in.pos = client->body.data + client->body.len;

    return NGX_OK;
}


/* the chunks are moved together, so that the body is in one piece */

static ngx_int_t
ngx_http_trace_http_chunks(ngx_http_trace_http_client_t *client)
{
    size_t      n;
    ngx_int_t   rc;
    ngx_buf_t  *b;

    b = &client->in;

    for ( ;; ) {

#if (nginx_version >= 1027002)
        rc = ngx_http_parse_chunked(client->parser, b, &client->chunk, 0);
#else
        rc = ngx_http_parse_chunked(client->parser, b, &client->chunk);
#endif

        if (rc == NGX_DONE) {
            return NGX_OK;
        }

        if (rc != NGX_OK) {
            return rc;
        }

        n = ngx_min((off_t) (b->last - b->pos), client->chunk.size);

        ngx_memmove(client->body.data + client->body.len, b->pos, n);

        client->body.len += n;
        client->chunk.size -= n;
        b->pos += n;

        if (b->pos == b->last) {
            return NGX_AGAIN;
        }
    }
}


static void
ngx_http_trace_http_eof(ngx_http_trace_http_client_t *client, ngx_err_t err)
{
    if (client->header_done && client->content_length == -1
        && !client->chunked && err == 0)
    {
        ngx_http_trace_http_done(client, NGX_HTTP_TRACE_HTTP_OK, NULL);
        return;
    }

    client->stale = client->reused && client->in.last == client->in.start;

    if (client->sent) {
        ngx_http_trace_http_error(client, NGX_HTTP_TRACE_HTTP_CLOSED,
                                  "connection was closed", err);
        return;
    }

    ngx_http_trace_http_error(client, NGX_HTTP_TRACE_HTTP_CONNECT,
                              "connect() failed", err);
}


/* a status that has come counts, whatever happened to the body behind it */

static void
ngx_http_trace_http_error(ngx_http_trace_http_client_t *client,
    ngx_http_trace_http_end_e end, const char *error, ngx_err_t err)
{
    client->err = err;
    client->keepalive = 0;

    if (client->header_done) {
        client->body.len = 0;
        ngx_http_trace_http_done(client, NGX_HTTP_TRACE_HTTP_OK, NULL);
        return;
    }

    if (client->url->naddrs > 1 && !client->stale) {
        client->address = (client->address + 1) % client->url->naddrs;
    }

    ngx_http_trace_http_done(client, end, error);
}


static void
ngx_http_trace_http_done(ngx_http_trace_http_client_t *client,
    ngx_http_trace_http_end_e end, const char *error)
{
    if (client->timer.timer_set) {
        ngx_del_timer(&client->timer);
    }

    /* a request or a response with something left over ends the connection */

    if (client->keepalive && client->iovs == 0
        && client->in.pos == client->in.last
        && !ngx_exiting)
    {
        ngx_http_trace_http_keep(client);

    } else {
        ngx_http_trace_http_close(client);
    }

    client->done(client, end, error);
}


static void
ngx_http_trace_http_keep(ngx_http_trace_http_client_t *client)
{
    ngx_connection_t  *c;

    c = client->peer.connection;

    c->idle = 1;
    c->read->handler = ngx_http_trace_http_idle;
    c->write->handler = ngx_http_trace_http_idle_write;

    if (ngx_handle_read_event(c->read, 0) != NGX_OK) {
        ngx_http_trace_http_close(client);
    }
}


static void
ngx_http_trace_http_close(ngx_http_trace_http_client_t *client)
{
    if (client->peer.connection) {
        ngx_close_connection(client->peer.connection);
        client->peer.connection = NULL;
    }
}
