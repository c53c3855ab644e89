
/*
 * Attempts: a span for each try of an upstream, whose id is the one that this
 * try sends; from the choice of its peer to what has become of it.
 *
 * Where no balancer is asked, since a variable named a host that is in no
 * upstream block, they are told from what nginx keeps for its log.
 */


#include "ngx_http_trace_upstream.h"


static ngx_int_t ngx_http_trace_attempt_retry(ngx_http_trace_upstream_t *up);
static void ngx_http_trace_attempt_body(ngx_http_trace_attempt_t *attempt,
    ngx_connection_t *c);
static void ngx_http_trace_attempt_no_header(
    ngx_http_trace_attempt_t *attempt, ngx_connection_t *c);
static void ngx_http_trace_attempt_gone(ngx_http_trace_attempt_t *attempt);
static uint64_t ngx_http_trace_nanoseconds(ngx_msec_t ms);
static void ngx_http_trace_attempt_state(ngx_http_trace_upstream_t *up,
    ngx_http_upstream_state_t *state, uint64_t start, uint64_t end,
    ngx_uint_t last);
static void ngx_http_trace_attempt_state_body(
    ngx_http_trace_attempt_t *attempt);


ngx_http_trace_attempt_t *
ngx_http_trace_attempt_begin(ngx_http_trace_upstream_t *up)
{
    ngx_http_trace_attempt_t  *attempt;

    attempt = ngx_http_trace_child(up->request, up->ctx, up->node,
                                   up->pipelines,
                                   sizeof(ngx_http_trace_attempt_t), 0);
    if (attempt == NULL) {
        return NULL;
    }

    if (up->tries && ngx_http_trace_attempt_retry(up) != NGX_OK) {
        attempt->child.pipelines = 0;
    }

    ngx_memcpy(attempt->child.span_id, up->span_id, sizeof(up->span_id));

    attempt->child.type = &ngx_http_trace_attempt_type;
    attempt->up = up;
    attempt->status = NGX_ERROR;
    attempt->resend_count = up->tries++;

    return attempt;
}


/*
 * New ids for the next try, written over those of the one before in what nginx
 * is about to send again.  Where they are not found, as in the compressed
 * headers of gRPC, the first ones are sent again.
 */

static ngx_int_t
ngx_http_trace_attempt_retry(ngx_http_trace_upstream_t *up)
{
    u_char      *p, *text, *last;
    ngx_buf_t   *b;
    ngx_uint_t   i, found;

#define NGX_HTTP_TRACE_ID_AT  (3 + 2 * TRACEPARENT_TRACE_ID_SIZE + 1)

    if (ngx_http_trace_span_ids(up->span_id, up->pipelines) != NGX_OK) {
        return NGX_ERROR;
    }

    /* told from nginx's notes, all was sent long ago */

    if (up->balancer == NULL || up->upstream->request_bufs == NULL) {
        return NGX_OK;
    }

    b = up->upstream->request_bufs->buf;
    last = b->last;

    for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++) {

        if (!(up->pipelines & (1 << i))) {
            continue;
        }

        text = up->text[i];
        found = 0;

        for (p = b->start; /* void */ ; p += TRACEPARENT_LEN) {

            p = memmem(p, last - p, text, TRACEPARENT_LEN);
            if (p == NULL) {
                break;
            }

            traceparent_hex(p + NGX_HTTP_TRACE_ID_AT, up->span_id[i],
                            TRACEPARENT_SPAN_ID_SIZE);
            found = 1;
        }

        if (found) {
            traceparent_hex(text + NGX_HTTP_TRACE_ID_AT, up->span_id[i],
                            TRACEPARENT_SPAN_ID_SIZE);
        }
    }

    return NGX_OK;
}


void
ngx_http_trace_attempt_end(ngx_http_trace_upstream_t *up,
    ngx_http_trace_attempt_t *attempt, ngx_peer_connection_t *pc,
    ngx_uint_t state)
{
    ngx_http_upstream_t  *u;

    u = up->upstream;

    attempt->child.end = ngx_http_trace_now(up->ctx);

    /* the header may have been all of the response */

    if (up->ctx->background && up->request == up->request->main
        && !up->request->request_complete)
    {
        up->ctx->end = attempt->child.end;
    }

    attempt->peer = u->state->peer;
    attempt->connection = 1;
    attempt->reused = pc->cached;

    if (u->state->header_time != (ngx_msec_t) -1) {

        /* from a cache that is stale, the header is another one */

        attempt->status = u->state->status ? u->state->status
                                           : u->headers_in.status_n;

        if (state == 0 && u->header_sent) {
            ngx_http_trace_attempt_body(attempt, pc->connection);
        }

    } else if (state == 0
               && (up->rc == NGX_DONE
                   || (up->rc >= NGX_HTTP_BAD_REQUEST
                       && up->rc < NGX_HTTP_INTERNAL_SERVER_ERROR)))
    {
        ngx_http_trace_attempt_gone(attempt);

    } else {
        ngx_http_trace_attempt_no_header(attempt, pc->connection);
    }
}


/* of a response that was passed on: whether it came to its end */

static void
ngx_http_trace_attempt_body(ngx_http_trace_attempt_t *attempt,
    ngx_connection_t *c)
{
    ngx_http_request_t  *r;

    r = attempt->up->request;

    switch (attempt->up->rc) {

    case NGX_OK:
        attempt->last_byte = 1;
        return;

    case NGX_DECLINED:
        return;

    case NGX_ERROR:

        if (r->connection->error || r->connection->timedout) {
            ngx_http_trace_attempt_gone(attempt);
            return;
        }

        /* fall through */

    case NGX_HTTP_BAD_GATEWAY:
    case NGX_HTTP_GATEWAY_TIME_OUT:

        if (c && (c->read->timedout || c->write->timedout)) {
            ngx_str_set(&attempt->error, "timeout");

        } else {
            ngx_str_set(&attempt->error, "reset");
        }

        attempt->up->cut = &attempt->error;
        return;

    default:
        ngx_http_trace_attempt_gone(attempt);
    }
}


static void
ngx_http_trace_attempt_no_header(ngx_http_trace_attempt_t *attempt,
    ngx_connection_t *c)
{
    ngx_str_t  *error;

    error = &attempt->error;

    if (c && (c->read->timedout || c->write->timedout)) {
        ngx_str_set(error, "timeout");
        return;
    }

    if (attempt->first_byte == 0 && attempt->reused) {
        ngx_str_set(error, "keepalive_race");
        return;
    }

    if (attempt->connected == 0) {

#if (NGX_SSL)
        if (c && c->ssl) {
            ngx_str_set(error, "tls");
            return;
        }
#endif

        ngx_str_set(error, "connect");
        return;
    }

    if (attempt->first_byte == 0 || c == NULL || c->error
               || c->read->eof || c->read->error)
    {
        ngx_str_set(error, "reset");

    } else {
        ngx_str_set(error, "invalid_header");
    }
}


static void
ngx_http_trace_attempt_gone(ngx_http_trace_attempt_t *attempt)
{
    attempt->gone = 1;
    ngx_http_trace_gone(attempt->up->request, &attempt->error);
}


/*
 * Called when nginx is done with a location's upstream: makes attempts of what
 * nginx has noted where no balancer was asked.  nginx counts milliseconds from
 * the start of each, and the last one's start is the only time that it keeps.
 */

void
ngx_http_trace_upstream_settle(ngx_http_trace_upstream_t *up)
{
    uint64_t                    now, start, end;
    ngx_uint_t                  i;
    ngx_http_upstream_t        *u;
    ngx_http_request_t         *r;
    ngx_http_upstream_state_t  *state, *last;

    if (up->settled) {
        return;
    }

    up->settled = 1;

    r = up->request;
    u = r->upstream;

    if (u == NULL || r->upstream_states == NULL
        || r->upstream_states->nelts == up->states)
    {
        return;
    }

    up->upstream = u;
    up->header = u->request_bufs ? u->request_bufs->buf : NULL;

    state = r->upstream_states->elts;
    last = &state[r->upstream_states->nelts - 1];
    state += up->states;

    now = ngx_http_trace_now(up->ctx);

    start = now - (uint64_t) (ngx_current_msec - u->start_time) * 1000000;

    for (i = 0; &state[i] < last; i++) {
        start -= ngx_http_trace_nanoseconds(state[i].response_time);
    }

    start = ngx_max(start, up->ctx->start);

    for ( /* void */ ; state <= last; state++) {

        if (state->peer == NULL) {
            continue;
        }

        end = start + ngx_http_trace_nanoseconds(state->response_time);
        end = ngx_min(end, now);

        ngx_http_trace_attempt_state(up, state, start, end, state == last);

        start = end;
    }
}


/* those of one request or subrequest, or of all */

void
ngx_http_trace_upstreams_settle(ngx_http_trace_ctx_t *ctx,
    ngx_http_request_t *r)
{
    ngx_http_trace_upstream_t  *up;

    for (up = ctx->upstreams; up; up = up->next) {
        if (!up->settled && (r == NULL || up->request == r)) {
            ngx_http_trace_upstream_settle(up);
        }
    }
}


/* 0 if nginx has not come so far as to know */

static uint64_t
ngx_http_trace_nanoseconds(ngx_msec_t ms)
{
    return ms == (ngx_msec_t) -1 ? 0 : (uint64_t) ms * 1000000;
}


static void
ngx_http_trace_attempt_state(ngx_http_trace_upstream_t *up,
    ngx_http_upstream_state_t *state, uint64_t start, uint64_t end,
    ngx_uint_t last)
{
    ngx_http_trace_attempt_t  *attempt;

    attempt = ngx_http_trace_attempt_begin(up);
    if (attempt == NULL) {
        return;
    }

    attempt->child.start = start;
    attempt->child.end = end;
    attempt->peer = state->peer;

    if (state->connect_time != (ngx_msec_t) -1) {
        attempt->connected = start
                             + ngx_http_trace_nanoseconds(state->connect_time);
        attempt->connected = ngx_min(attempt->connected, end);
    }

    if (state->header_time != (ngx_msec_t) -1) {
        attempt->first_byte = start
                              + ngx_http_trace_nanoseconds(state->header_time);
        attempt->first_byte = ngx_min(attempt->first_byte, end);
        attempt->status = state->status;

        if (last && up->upstream->header_sent) {
            ngx_http_trace_attempt_state_body(attempt);
        }

    } else if (state->status == NGX_HTTP_GATEWAY_TIME_OUT) {
        ngx_str_set(&attempt->error, "timeout");

    } else if (state->status == 0) {
        ngx_http_trace_attempt_gone(attempt);

    } else if (attempt->connected) {
        ngx_str_set(&attempt->error, "reset");

    } else {
        ngx_str_set(&attempt->error, "connect");
    }

    if (up->ctx->events) {
        ngx_http_trace_events_open(up->ctx, &attempt->child);
        ngx_http_trace_events_close(up->ctx, &attempt->child,
                                        attempt->child.end);
    }
}


static void
ngx_http_trace_attempt_state_body(ngx_http_trace_attempt_t *attempt)
{
    ngx_http_request_t  *r;

    r = attempt->up->request;

    if (ngx_http_trace_cut(r)) {
        ngx_str_set(&attempt->error, "reset");

    } else if (r->connection->error && !r->main->request_complete) {
        ngx_http_trace_attempt_gone(attempt);

    } else {
        attempt->last_byte = 1;
    }
}
