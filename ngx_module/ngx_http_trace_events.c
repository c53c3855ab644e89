
/*
 * Events of spans while they are open: that they are, what becomes of them,
 * that they are not any more.  Each is a record in a queue of its own, so they
 * are never in the way of a span.
 *
 * A span that is announced has a place in the table behind that queue, and as
 * long as it has, room in the queue is kept for its end.
 */


#include "ngx_http_trace_module.h"
#include "ngx_http_trace_record.h"


/* of a record in the queue, beside itself and its routing; bytes */
#define NGX_HTTP_TRACE_RECORD_FRAME   64

/* of a child whose end was told, or will not be */
#define NGX_HTTP_TRACE_TOLD           ((ngx_http_trace_active_t *) -1)

/* of one that began behind a redirect, before it is known whose it is */
#define NGX_HTTP_TRACE_WAITS          ((ngx_http_trace_active_t *) -2)


/*
 * The events of a request in one pipeline.  As long as its span is not
 * announced, nothing is; what was meanwhile is told then.
 */

typedef struct {
    ngx_http_trace_active_t     *request;     /* NULL: not announced */
    ngx_str_t                    routing;
    unsigned                     refused:1;   /* there was no room for it */
    unsigned                     unsure:1;    /* a redirect; whose is it? */
    unsigned                     moved:1;     /* it is another's meanwhile */
    unsigned                     returned:1;
} ngx_http_trace_stream_t;


struct ngx_http_trace_events_s {
    ngx_http_request_t          *request;
    ngx_http_trace_stream_t      streams[NGX_HTTP_TRACE_PIPELINES];
};


typedef struct {
    ngx_http_trace_event_e       type;
    ngx_uint_t                   pipeline;
    ngx_http_trace_active_t     *span;        /* NULL: not announced */
    uint64_t                     time;

    /* of span.open; the name of span.update_name too */

    traceparent_view_t           name;
    ngx_uint_t                   kind;
    const u_char                *parent_id;   /* NULL: a root */

    /* of span.attributes: in one form or the other */

    otlp_span_t                 *encoded;
    const ngx_http_trace_api_attribute_t  *attributes;
    ngx_uint_t                   n;
    size_t                       size;        /* of all of them, at most */

    /* of span.return */

    ngx_uint_t                   status_code;

    /* of span.close */

    int                          status;
    ngx_str_t                    error;
} ngx_http_trace_event_t;


static void ngx_http_trace_events_announce(ngx_http_trace_ctx_t *ctx,
    ngx_uint_t pipeline);
static void ngx_http_trace_events_children(ngx_http_trace_ctx_t *ctx,
    ngx_uint_t pipeline, ngx_http_trace_active_t *announced);
static ngx_int_t ngx_http_trace_events_routing(ngx_http_request_t *r,
    ngx_uint_t pipeline, ngx_str_t *routing);
static ngx_uint_t ngx_http_trace_events_close_children(
    ngx_http_trace_ctx_t *ctx, ngx_uint_t pipeline, ngx_uint_t all);
static void ngx_http_trace_events_end_request(ngx_http_trace_ctx_t *ctx,
    ngx_http_trace_facts_t *facts, ngx_uint_t pipeline,
    traceparent_view_t *name);
static void ngx_http_trace_events_open_child(ngx_http_trace_ctx_t *ctx,
    ngx_http_trace_child_t *child, ngx_uint_t pipeline);
static void ngx_http_trace_events_close_child(ngx_http_trace_ctx_t *ctx,
    ngx_http_trace_child_t *child, ngx_uint_t pipeline, uint64_t time);
static void ngx_http_trace_events_child(ngx_http_trace_ctx_t *ctx,
    ngx_http_trace_child_t *child, ngx_http_trace_event_t *event);
static void ngx_http_trace_event_init(ngx_http_trace_event_t *event,
    ngx_http_trace_event_e type, ngx_uint_t pipeline,
    ngx_http_trace_active_t *span, uint64_t time);
static ngx_http_trace_active_t *ngx_http_trace_events_open_span(
    ngx_http_trace_ctx_t *ctx, const u_char *span_id,
    ngx_http_trace_event_t *event);
static void ngx_http_trace_events_close_span(ngx_http_trace_ctx_t *ctx,
    ngx_http_trace_event_t *event);
static ngx_http_trace_active_t *ngx_http_trace_events_place(
    ngx_http_trace_ctx_t *ctx, ngx_uint_t pipeline, const u_char *span_id,
    traceparent_view_t *name);
static void ngx_http_trace_events_leave(ngx_http_trace_ctx_t *ctx,
    ngx_uint_t pipeline, ngx_http_trace_active_t *span);
static ngx_int_t ngx_http_trace_events_add(ngx_http_trace_ctx_t *ctx,
    ngx_http_trace_event_t *event);
static ngx_int_t ngx_http_trace_events_queue(ngx_http_trace_stream_t *stream,
    ngx_http_trace_event_t *event, ngx_uint_t last);
static u_char *ngx_http_trace_events_room(ngx_http_trace_stream_t *stream,
    ngx_http_trace_event_t *event, ngx_uint_t last, size_t *room);
static size_t ngx_http_trace_events_kept(ngx_http_trace_stream_t *stream);
static void ngx_http_trace_event_write(otlp_span_t *record,
    ngx_http_trace_event_t *event, uint32_t lost);
static void ngx_http_trace_event_write_open(otlp_span_t *record,
    ngx_http_trace_event_t *event);
static ngx_int_t ngx_http_trace_events_header_filter(ngx_http_request_t *r);
static void ngx_http_trace_events_return(ngx_http_request_t *r,
    ngx_http_trace_ctx_t *ctx);


static ngx_http_output_header_filter_pt  ngx_http_trace_next_header_filter;


/* bytes of this worker's queues that are kept for the ends of what is open */
static size_t  ngx_http_trace_kept_room[NGX_HTTP_TRACE_PIPELINES];


/* only where a location wants events */

void
ngx_http_trace_events_init(void)
{
    ngx_http_trace_next_header_filter = ngx_http_top_header_filter;
    ngx_http_top_header_filter = ngx_http_trace_events_header_filter;
}


/*
 * Called where it is decided what is recorded, with the pipelines whose events
 * are wanted there.  The user's wait: whose they are is only known when the
 * access checks are over.
 */

void
ngx_http_trace_events_begin(ngx_http_request_t *r, ngx_http_trace_ctx_t *ctx,
    ngx_uint_t pipelines)
{
    ngx_uint_t  i;

    pipelines &= ctx->recorded & ~ctx->events;

    for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++) {
        if (!(ctx->pipelines[i].outbound.flags & TRACEPARENT_FLAG_SAMPLED)) {
            pipelines &= ~(1 << i);
        }
    }

    if (pipelines == 0) {
        return;
    }

    if (ctx->events == 0) {
        ctx->streams = ngx_pcalloc(r->pool, sizeof(ngx_http_trace_events_t));
        if (ctx->streams == NULL) {
            return;
        }

        ctx->streams->request = r;
    }

    ctx->events |= pipelines;

    if (pipelines & (1 << NGX_HTTP_TRACE_INTERNAL)) {
        ngx_http_trace_events_announce(ctx, NGX_HTTP_TRACE_INTERNAL);
    }
}


/* called when the access checks of a request are over */

void
ngx_http_trace_events_admitted(ngx_http_trace_ctx_t *ctx)
{
    if (ctx->events & (1 << NGX_HTTP_TRACE_USER)) {
        ngx_http_trace_events_announce(ctx, NGX_HTTP_TRACE_USER);
    }
}


/* where it is another's, nothing may be told before that is known */

void
ngx_http_trace_events_redirected(ngx_http_trace_ctx_t *ctx)
{
    ngx_http_trace_stream_t  *stream;

    stream = &ctx->streams->streams[NGX_HTTP_TRACE_USER];

    /* that of a post_action is whose it was */

    if (stream->request && !ctx->streams->request->post_action) {
        stream->unsure = 1;
    }
}


/* the span of a request, and what it has caused before that */

static void
ngx_http_trace_events_announce(ngx_http_trace_ctx_t *ctx, ngx_uint_t pipeline)
{
    ngx_int_t                   rc;
    ngx_str_t                   routing;
    ngx_http_request_t         *r;
    ngx_http_trace_event_t      event;
    ngx_http_trace_stream_t    *stream;
    ngx_http_trace_loc_conf_t  *tlcf;
    ngx_http_trace_span_ctx_t  *sc;

    r = ctx->streams->request;
    stream = &ctx->streams->streams[pipeline];

    rc = ngx_http_trace_events_routing(r, pipeline, &routing);

    if (stream->request) {

        /* who was told of it so far is told its end, and nothing else */

        stream->moved = (rc != NGX_OK
                         || routing.len != stream->routing.len
                         || (routing.len
                             && ngx_memcmp(routing.data, stream->routing.data,
                                           routing.len)
                                != 0));

        if (stream->unsure) {
            stream->unsure = 0;
            ngx_http_trace_events_children(ctx, pipeline,
                                           NGX_HTTP_TRACE_WAITS);
        }

        return;
    }

    if (rc != NGX_OK || stream->refused) {
        return;
    }

    sc = &ctx->pipelines[pipeline];
    tlcf = ngx_http_get_module_loc_conf(r, ngx_http_trace_module);

    if (routing.len) {
        routing.data = ngx_pstrdup(r->pool, &routing);
        if (routing.data == NULL) {
            return;
        }
    }

    stream->routing = routing;
    stream->moved = 0;
    stream->unsure = 0;
    stream->refused = 1;

    ngx_http_trace_event_init(&event, NGX_HTTP_TRACE_EVENT_OPEN, pipeline,
                              NULL, ctx->start);

    event.kind = OTLP_SPAN_KIND_SERVER;
    event.parent_id = sc->parent ? sc->inbound.parent_id : NULL;

    ngx_http_trace_first_name(r, &tlcf->pipelines[pipeline], &event.name);

    if (ngx_http_trace_events_open_span(ctx, sc->outbound.parent_id, &event)) {
        stream->refused = 0;
    }

    ngx_http_trace_events_children(ctx, pipeline, NULL);
}


/* those that were |announced| so, of which some have ended */

static void
ngx_http_trace_events_children(ngx_http_trace_ctx_t *ctx, ngx_uint_t pipeline,
    ngx_http_trace_active_t *announced)
{
    ngx_http_trace_child_t  *child;

    for (child = ctx->children; child; child = child->next) {
        if ((child->pipelines & (1 << pipeline))
            && child->announced[pipeline] == announced)
        {
            ngx_http_trace_events_open_child(ctx, child, pipeline);
        }
    }

    (void) ngx_http_trace_events_close_children(ctx, pipeline, 0);
}


static ngx_int_t
ngx_http_trace_events_routing(ngx_http_request_t *r, ngx_uint_t pipeline,
    ngx_str_t *routing)
{
    ngx_http_trace_loc_conf_t  *tlcf;

    ngx_str_null(routing);

    if (pipeline != NGX_HTTP_TRACE_USER) {
        return NGX_OK;
    }

    tlcf = ngx_http_get_module_loc_conf(r, ngx_http_trace_module);

    if (tlcf->routing == NULL
        || ngx_http_trace_value_peek(r, tlcf->routing, routing) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_trace_check_routing(routing);
}


/* the request is over: what it has caused is closed */

void
ngx_http_trace_events_end_children(ngx_http_trace_ctx_t *ctx)
{
    ngx_uint_t                i, n;
    ngx_http_trace_stream_t  *stream;

    for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++) {

        if (!(ctx->events & (1 << i))) {
            continue;
        }

        ngx_http_trace_events_announce(ctx, i);

        n = ngx_http_trace_events_close_children(ctx, i, 1);

        stream = &ctx->streams->streams[i];

        if (stream->request == NULL && !stream->refused) {

            /* an opening and an end of each */

            ngx_http_trace_exporter_drop(NGX_HTTP_TRACE_EVENTS(i),
                                         NGX_HTTP_TRACE_NO_ROUTING, 2 + 2 * n);
        }
    }
}


/*
 * Those that have ended, or all; a child is always behind its parent, and is
 * closed before it.  Returns how many children there are.
 */

static ngx_uint_t
ngx_http_trace_events_close_children(ngx_http_trace_ctx_t *ctx,
    ngx_uint_t pipeline, ngx_uint_t all)
{
    uint64_t                 end;
    ngx_uint_t               n;
    ngx_http_trace_child_t  *child;

    n = 0;

    for (child = ctx->last_child; child; child = child->previous) {

        if (!(child->pipelines & (1 << pipeline))) {
            continue;
        }

        n++;

        if (child->end || all) {
            end = child->end ? child->end : ngx_max(ctx->end, child->start);

            ngx_http_trace_events_close_child(ctx, child, pipeline, end);
        }
    }

    return n;
}


/* and then its span, which is called as |names| say */

void
ngx_http_trace_events_end(ngx_http_trace_ctx_t *ctx,
    ngx_http_trace_facts_t *facts, traceparent_view_t *names)
{
    ngx_uint_t                i;
    ngx_http_trace_stream_t  *stream;

    for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++) {

        if (!(ctx->events & (1 << i))) {
            continue;
        }

        stream = &ctx->streams->streams[i];

        if (stream->request || stream->refused) {
            ngx_http_trace_events_end_request(ctx, facts, i, &names[i]);
        }
    }

    ctx->events = 0;
}


static void
ngx_http_trace_events_end_request(ngx_http_trace_ctx_t *ctx,
    ngx_http_trace_facts_t *facts, ngx_uint_t pipeline,
    traceparent_view_t *name)
{
    ngx_http_trace_event_t    event;
    ngx_http_trace_active_t  *span;

    span = ctx->streams->streams[pipeline].request;

    name->len = ngx_http_trace_name_cut(name->data, name->len);

    if (span
        && (name->len != span->name_len
            || ngx_memcmp(name->data, span->name, name->len) != 0))
    {
        ngx_http_trace_event_init(&event, NGX_HTTP_TRACE_EVENT_UPDATE_NAME,
                                  pipeline, span, ctx->end);
        event.name = *name;

        (void) ngx_http_trace_events_add(ctx, &event);
    }

    ngx_http_trace_event_init(&event, NGX_HTTP_TRACE_EVENT_CLOSE, pipeline,
                              span, ctx->end);

    event.status = ngx_http_trace_semconv_status(facts);
    event.error = facts->error_type;

    ngx_http_trace_events_close_span(ctx, &event);
}


/* of a span that a request has caused */

void
ngx_http_trace_events_open(ngx_http_trace_ctx_t *ctx,
    ngx_http_trace_child_t *child)
{
    ngx_uint_t  i;

    for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++) {
        if (ctx->events & child->pipelines & (1 << i)) {
            ngx_http_trace_events_open_child(ctx, child, i);
        }
    }
}


static void
ngx_http_trace_events_open_child(ngx_http_trace_ctx_t *ctx,
    ngx_http_trace_child_t *child, ngx_uint_t pipeline)
{
    otlp_span_t              *out;
    otlp_span_head_t          head;
    ngx_http_trace_event_t    event;
    ngx_http_trace_stream_t  *stream;

    stream = &ctx->streams->streams[pipeline];

    /* who is asked before us may have seen the redirect first */

    if (pipeline == NGX_HTTP_TRACE_USER
        && ctx->streams->request->uri_changes != ctx->node.uri_changes)
    {
        ngx_http_trace_events_redirected(ctx);
    }

    if (stream->unsure || stream->moved) {
        child->announced[pipeline] = stream->unsure ? NGX_HTTP_TRACE_WAITS
                                                    : NGX_HTTP_TRACE_TOLD;
        return;
    }

    child->type->head(child, pipeline, &head);

    ngx_http_trace_event_init(&event, NGX_HTTP_TRACE_EVENT_OPEN, pipeline,
                              NULL, child->start);

    event.name = head.name;
    event.kind = head.kind;
    event.parent_id = child->parent_id[pipeline];

    child->announced[pipeline] =
              ngx_http_trace_events_open_span(ctx, child->span_id[pipeline],
                                              &event);

    /* what was set before it could be announced */

    out = child->type->attributes ? child->type->attributes(child) : NULL;

    if (out && out->pos != out->start) {
        ngx_http_trace_event_init(&event, NGX_HTTP_TRACE_EVENT_ATTRIBUTES,
                                  pipeline, child->announced[pipeline],
                                  child->end ? child->end
                                             : ngx_http_trace_now(ctx));
        event.encoded = out;
        event.size = out->pos - out->start;

        (void) ngx_http_trace_events_add(ctx, &event);
    }
}


/* a second time is not told of */

void
ngx_http_trace_events_close(ngx_http_trace_ctx_t *ctx,
    ngx_http_trace_child_t *child, uint64_t time)
{
    ngx_uint_t  i;

    for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++) {
        if (ctx->events & child->pipelines & (1 << i)) {
            ngx_http_trace_events_close_child(ctx, child, i, time);
        }
    }
}


static void
ngx_http_trace_events_close_child(ngx_http_trace_ctx_t *ctx,
    ngx_http_trace_child_t *child, ngx_uint_t pipeline, uint64_t time)
{
    u_char                    buf[NGX_INT_T_LEN];
    ngx_http_trace_event_t    event;
    ngx_http_trace_stream_t  *stream;

    stream = &ctx->streams->streams[pipeline];

    if (child->announced[pipeline] == NGX_HTTP_TRACE_TOLD
        || child->announced[pipeline] == NGX_HTTP_TRACE_WAITS
        || (stream->request == NULL && !stream->refused))
    {
        return;
    }

    ngx_http_trace_event_init(&event, NGX_HTTP_TRACE_EVENT_CLOSE, pipeline,
                              child->announced[pipeline], time);

    event.status = child->type->status(child, buf, &event.error);

    ngx_http_trace_events_close_span(ctx, &event);

    child->announced[pipeline] = NGX_HTTP_TRACE_TOLD;
}


void
ngx_http_trace_events_rename(ngx_http_trace_ctx_t *ctx,
    ngx_http_trace_child_t *child, traceparent_view_t *name)
{
    ngx_http_trace_event_t  event;

    ngx_http_trace_event_init(&event, NGX_HTTP_TRACE_EVENT_UPDATE_NAME, 0,
                              NULL, ngx_http_trace_now(ctx));
    event.name = *name;

    ngx_http_trace_events_child(ctx, child, &event);
}


/* |size| is what they take when they are encoded, at most */

void
ngx_http_trace_events_attributes(ngx_http_trace_ctx_t *ctx,
    ngx_http_trace_child_t *child,
    const ngx_http_trace_api_attribute_t *attributes, ngx_uint_t n,
    size_t size)
{
    ngx_http_trace_event_t  event;

    ngx_http_trace_event_init(&event, NGX_HTTP_TRACE_EVENT_ATTRIBUTES, 0,
                              NULL, ngx_http_trace_now(ctx));
    event.attributes = attributes;
    event.n = n;
    event.size = size;

    ngx_http_trace_events_child(ctx, child, &event);
}


/* in all pipelines that it is in */

static void
ngx_http_trace_events_child(ngx_http_trace_ctx_t *ctx,
    ngx_http_trace_child_t *child, ngx_http_trace_event_t *event)
{
    ngx_uint_t  i;

    for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++) {
        if ((ctx->events & child->pipelines & (1 << i))
            && child->announced[i] != NGX_HTTP_TRACE_TOLD
            && child->announced[i] != NGX_HTTP_TRACE_WAITS)
        {
            event->pipeline = i;
            event->span = child->announced[i];

            (void) ngx_http_trace_events_add(ctx, event);
        }
    }
}


static void
ngx_http_trace_event_init(ngx_http_trace_event_t *event,
    ngx_http_trace_event_e type, ngx_uint_t pipeline,
    ngx_http_trace_active_t *span, uint64_t time)
{
    ngx_memzero(event, sizeof(ngx_http_trace_event_t));

    event->type = type;
    event->pipeline = pipeline;
    event->span = span;
    event->time = time;
}


/* NULL if it is not announced */

static ngx_http_trace_active_t *
ngx_http_trace_events_open_span(ngx_http_trace_ctx_t *ctx,
    const u_char *span_id, ngx_http_trace_event_t *event)
{
    event->name.len = ngx_http_trace_name_cut(event->name.data,
                                              event->name.len);

    event->span = ngx_http_trace_events_place(ctx, event->pipeline, span_id,
                                              &event->name);

    if (ngx_http_trace_events_add(ctx, event) == NGX_OK) {
        return event->span;
    }

    if (event->span) {
        ngx_http_trace_events_leave(ctx, event->pipeline, event->span);
    }

    return NULL;
}


static void
ngx_http_trace_events_close_span(ngx_http_trace_ctx_t *ctx,
    ngx_http_trace_event_t *event)
{
    ngx_http_trace_loc_conf_t  *tlcf;

    tlcf = ngx_http_get_module_loc_conf(ctx->streams->request,
                                        ngx_http_trace_module);

    if (tlcf->pipelines[event->pipeline].level == NGX_HTTP_TRACE_NONE) {
        event->error.len = 0;
    }

    if (ctx->streams->streams[event->pipeline].moved) {
        event->status = OTLP_STATUS_UNSET;
        event->error.len = 0;
    }

    (void) ngx_http_trace_events_add(ctx, event);

    if (event->span) {
        ngx_http_trace_events_leave(ctx, event->pipeline, event->span);
    }
}


/* the first one of a request is its own */

static ngx_http_trace_active_t *
ngx_http_trace_events_place(ngx_http_trace_ctx_t *ctx, ngx_uint_t pipeline,
    const u_char *span_id, traceparent_view_t *name)
{
    ngx_http_trace_active_t    *span;
    ngx_http_trace_stream_t    *stream;
    ngx_http_trace_span_ctx_t  *sc;

    sc = &ctx->pipelines[pipeline];
    stream = &ctx->streams->streams[pipeline];

    if (stream->request == NULL && span_id != sc->outbound.parent_id) {
        return NULL;
    }

    span = ngx_http_trace_exporter_open(NGX_HTTP_TRACE_EVENTS(pipeline));
    if (span == NULL) {
        return NULL;
    }

    ngx_memcpy(span->trace_id, sc->outbound.trace_id,
               TRACEPARENT_TRACE_ID_SIZE);
    ngx_memcpy(span->span_id, span_id, TRACEPARENT_SPAN_ID_SIZE);
    ngx_memcpy(span->name, name->data, name->len);

    span->name_len = name->len;
    span->flags = sc->outbound.flags;
    span->lost = 0;

    ngx_http_trace_active_route(span, &stream->routing);

    if (stream->request == NULL) {
        stream->request = span;
        span->sequence = 0;

    } else {
        span->request = stream->request->request;
        span->sequence = stream->request->sequence;
    }

    ngx_http_trace_kept_room[pipeline] += ngx_http_trace_events_kept(stream);

    ngx_http_trace_active_opened(span);

    return span;
}


static void
ngx_http_trace_events_leave(ngx_http_trace_ctx_t *ctx, ngx_uint_t pipeline,
    ngx_http_trace_active_t *span)
{
    ngx_http_trace_stream_t  *stream;

    stream = &ctx->streams->streams[pipeline];

    ngx_http_trace_kept_room[pipeline] -= ngx_http_trace_events_kept(stream);

    if (stream->request == span) {
        stream->request = NULL;
    }

    ngx_http_trace_exporter_close(NGX_HTTP_TRACE_EVENTS(pipeline), span);
}


/*
 * What is lost is told by the next one that there is room for.  NGX_DECLINED
 * is what is not to be told, or not yet.
 */

static ngx_int_t
ngx_http_trace_events_add(ngx_http_trace_ctx_t *ctx,
    ngx_http_trace_event_t *event)
{
    ngx_uint_t                last;
    ngx_http_trace_event_t    lost;
    ngx_http_trace_active_t  *request;
    ngx_http_trace_stream_t  *stream;

    stream = &ctx->streams->streams[event->pipeline];
    request = stream->request;

    last = (event->type == NGX_HTTP_TRACE_EVENT_CLOSE);

    if ((request == NULL && !stream->refused)
        || ((stream->moved || stream->unsure) && !last))
    {
        return NGX_DECLINED;
    }

    if (event->span && request->lost) {
        ngx_http_trace_event_init(&lost, NGX_HTTP_TRACE_EVENT_DROPPED,
                                  event->pipeline, request, event->time);

        if (ngx_http_trace_events_queue(stream, &lost, last) == NGX_OK) {
            request->lost = 0;
        }
    }

    if (event->span && request->lost == 0
        && ngx_http_trace_events_queue(stream, event, last) == NGX_OK)
    {
        return NGX_OK;
    }

    if (request) {
        request->sequence++;
        request->lost++;
    }

    ngx_http_trace_exporter_drop(NGX_HTTP_TRACE_EVENTS(event->pipeline),
                                 NGX_HTTP_TRACE_QUEUE_FULL, 1);

    return NGX_ERROR;
}


static ngx_int_t
ngx_http_trace_events_queue(ngx_http_trace_stream_t *stream,
    ngx_http_trace_event_t *event, ngx_uint_t last)
{
    size_t                    room;
    u_char                   *buf;
    otlp_span_t               record;
    traceparent_view_t        frame;
    ngx_http_trace_active_t  *request;

    buf = ngx_http_trace_events_room(stream, event, last, &room);
    if (buf == NULL) {
        return NGX_ERROR;
    }

    request = stream->request;

    if (ngx_http_trace_record_begin(&record, buf, room, event->type,
                                    event->pipeline, request,
                                    event->span->span_id, event->time)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_http_trace_event_write(&record, event, request->lost);

    otlp_log_end(&record, &frame);

    request->sequence++;

    ngx_http_trace_exporter_commit(NGX_HTTP_TRACE_EVENTS(event->pipeline),
                                   frame.data, frame.len,
                                   event->type == NGX_HTTP_TRACE_EVENT_CLOSE
                                   ? event->span : NULL);

    return NGX_OK;
}


/* only the last that is told of a span may have what is kept for it */

static u_char *
ngx_http_trace_events_room(ngx_http_trace_stream_t *stream,
    ngx_http_trace_event_t *event, ngx_uint_t last, size_t *room)
{
    u_char      *buf;
    size_t       size, frame, needed;
    ngx_uint_t   channel;

    channel = NGX_HTTP_TRACE_EVENTS(event->pipeline);
    frame = NGX_HTTP_TRACE_RECORD_FRAME + stream->routing.len;

    if (last) {
        size = NGX_HTTP_TRACE_RECORD_LAST;
        needed = size + frame;

    } else {
        size = NGX_HTTP_TRACE_RECORD_SIZE + event->size;
        size = ngx_min(size, OTLP_SPAN_MAX);

        /* where it does not fit at the end of the ring it leaves a gap there */

        needed = 2 * (size + frame) + ngx_http_trace_kept_room[event->pipeline];
    }

    do {
        if (ngx_http_trace_exporter_room(channel) >= needed) {
            buf = ngx_http_trace_exporter_begin(channel, &stream->routing,
                                                size, room);
            if (buf) {
                return buf;
            }
        }

    } while (ngx_http_trace_exporter_evict(channel));

    return NULL;
}


/* for the end of a span, and for telling what was lost before that */

static size_t
ngx_http_trace_events_kept(ngx_http_trace_stream_t *stream)
{
    return 2 * (NGX_HTTP_TRACE_RECORD_LAST + NGX_HTTP_TRACE_RECORD_FRAME
                + stream->routing.len);
}


static void
ngx_http_trace_event_write(otlp_span_t *record, ngx_http_trace_event_t *event,
    uint32_t lost)
{
    switch (event->type) {

    case NGX_HTTP_TRACE_EVENT_OPEN:
        ngx_http_trace_event_write_open(record, event);
        break;

    case NGX_HTTP_TRACE_EVENT_UPDATE_NAME:
        otlp_span_string(record, ngx_http_trace_key("span.name"),
                         event->name.data, event->name.len);
        break;

    case NGX_HTTP_TRACE_EVENT_ATTRIBUTES:

        if (event->encoded) {
            otlp_span_append_attributes(record, event->encoded);

        } else {
            ngx_http_trace_custom_attributes(record, event->attributes,
                                             event->n);
        }

        break;

    case NGX_HTTP_TRACE_EVENT_RETURN:

        if (event->status_code) {
            otlp_span_int(record,
                          ngx_http_trace_key("http.response.status_code"),
                          event->status_code);
        }

        break;

    case NGX_HTTP_TRACE_EVENT_CLOSE:
        ngx_http_trace_record_status(record, event->status, &event->error);
        break;

    default: /* NGX_HTTP_TRACE_EVENT_DROPPED */
        ngx_http_trace_record_lost(record, lost);
    }
}


static void
ngx_http_trace_event_write_open(otlp_span_t *record,
    ngx_http_trace_event_t *event)
{
    ngx_str_t  *kind;

    static ngx_str_t  kinds[] = {
        ngx_null_string,
        ngx_string("INTERNAL"),
        ngx_string("SERVER"),
        ngx_string("CLIENT")
    };

    kind = &kinds[event->kind];

    otlp_span_string(record, ngx_http_trace_key("span.name"), event->name.data,
                     event->name.len);
    otlp_span_string(record, ngx_http_trace_key("span.kind"), kind->data,
                     kind->len);

    if (event->parent_id) {
        ngx_http_trace_record_id(record, ngx_http_trace_key("span.parent_id"),
                                 event->parent_id);
    }
}


/* what is sent is known when all others have had their say */

static ngx_int_t
ngx_http_trace_events_header_filter(ngx_http_request_t *r)
{
    ngx_int_t              rc;
    ngx_http_trace_ctx_t  *ctx;

    rc = ngx_http_trace_next_header_filter(r);

    ctx = (r == r->main) ? ngx_http_trace_get_ctx(r) : NULL;

    if (ctx && ctx->events) {
        ngx_http_trace_events_return(r, ctx);
    }

    return rc;
}


static void
ngx_http_trace_events_return(ngx_http_request_t *r, ngx_http_trace_ctx_t *ctx)
{
    ngx_uint_t                  i;
    ngx_http_trace_event_t      event;
    ngx_http_trace_stream_t    *stream;
    ngx_http_trace_loc_conf_t  *tlcf;

    tlcf = ngx_http_get_module_loc_conf(r, ngx_http_trace_module);

    for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++) {
        stream = &ctx->streams->streams[i];

        if (!(ctx->events & (1 << i)) || stream->returned) {
            continue;
        }

        /* answered before the access checks of its location were over */

        if (stream->unsure) {
            ngx_http_trace_events_announce(ctx, i);
        }

        ngx_http_trace_event_init(&event, NGX_HTTP_TRACE_EVENT_RETURN, i,
                                  stream->request, ngx_http_trace_now(ctx));

        if (tlcf->pipelines[i].level != NGX_HTTP_TRACE_NONE) {
            event.status_code = r->headers_out.status;
        }

        if (ngx_http_trace_events_add(ctx, &event) != NGX_DECLINED) {
            stream->returned = 1;
        }
    }
}
