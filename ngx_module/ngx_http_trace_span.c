
/*
 * From the facts of a request to the bytes of a span in the queue.
 */


#include "ngx_http_trace_module.h"


#define NGX_HTTP_TRACE_SPAN_MIN       1024

/* names are to be few and short; a variable may know nothing of that */
#define NGX_HTTP_TRACE_NAME_MAX       1024


/* of the request, and what it has made of its facts for all pipelines */

typedef struct {
    ngx_http_request_t          *request;
    ngx_http_trace_ctx_t        *ctx;
    ngx_http_trace_loc_conf_t   *conf;
    ngx_http_trace_facts_t      *facts;
} ngx_http_trace_request_t;


static NGX_HTTP_TRACE_APART void ngx_http_trace_request_name(
    ngx_http_request_t *r, ngx_http_trace_active_t *active,
    ngx_http_trace_pipeline_conf_t *pcf);
static ngx_inline uint32_t ngx_http_trace_span_flags(
    ngx_http_trace_span_ctx_t *sc);
static NGX_HTTP_TRACE_APART void ngx_http_trace_request_events(
    ngx_http_trace_request_t *request);
static ngx_uint_t ngx_http_trace_kept(ngx_http_trace_request_t *request,
    ngx_uint_t pipeline);
static ngx_inline void ngx_http_trace_pipeline_spans(
    ngx_http_trace_request_t *request, ngx_uint_t pipeline);
static void ngx_http_trace_children(ngx_http_trace_request_t *request,
    ngx_uint_t pipeline, ngx_str_t *routing);
static void ngx_http_trace_drop_children(ngx_http_trace_ctx_t *ctx,
    ngx_uint_t pipeline);
static ngx_int_t ngx_http_trace_span_queue(ngx_uint_t pipeline,
    ngx_str_t *routing, otlp_span_head_t *head, uint64_t end,
    ngx_http_trace_write_pt write, void *data,
    ngx_http_trace_active_t *active);
static int ngx_http_trace_request_write(void *data, ngx_uint_t pipeline,
    otlp_span_t *span);
static ngx_int_t ngx_http_trace_routing(ngx_http_trace_request_t *request,
    ngx_uint_t pipeline, ngx_str_t *routing);
static void ngx_http_trace_span_name(ngx_http_trace_request_t *request,
    ngx_uint_t pipeline, traceparent_view_t *view);
static void ngx_http_trace_span_attributes(ngx_http_request_t *r,
    otlp_span_t *span, ngx_http_trace_pipeline_conf_t *pcf);


/* for all to see, as far as there are places for it */

void
ngx_http_trace_request_open(ngx_http_request_t *r, ngx_http_trace_ctx_t *ctx,
    ngx_http_trace_pipeline_conf_t *pcf, ngx_uint_t pipeline)
{
    ngx_http_trace_active_t    *active;
    ngx_http_trace_span_ctx_t  *sc;

    sc = &ctx->pipelines[pipeline];

    active = ngx_http_trace_exporter_open(pipeline);

    sc->active = active;

    if (active == NULL) {
        return;
    }

    ngx_memcpy(active->trace_id, sc->outbound.trace_id,
               TRACEPARENT_TRACE_ID_SIZE);
    ngx_memcpy(active->span_id, sc->outbound.parent_id,
               TRACEPARENT_SPAN_ID_SIZE);

    active->parent = sc->parent;

    if (sc->parent) {
        ngx_memcpy(active->parent_id, sc->inbound.parent_id,
                   TRACEPARENT_SPAN_ID_SIZE);
    }

    active->start = ctx->start;
    active->flags = ngx_http_trace_span_flags(sc);
    active->phase = NGX_HTTP_TRACE_ACCESS;
    active->routing_len = 0;

    if (r->method == NGX_HTTP_GET) {
        active->name_len = pcf->get_short_len;
        ngx_memcpy(active->name, pcf->get_short, NGX_HTTP_TRACE_ACTIVE_NAME);

    } else {
        ngx_http_trace_request_name(r, active, pcf);
    }

    ngx_http_trace_active_opened(active);
}


static void
ngx_http_trace_request_name(ngx_http_request_t *r,
    ngx_http_trace_active_t *active, ngx_http_trace_pipeline_conf_t *pcf)
{
    traceparent_view_t  name;

    ngx_http_trace_first_name(r, pcf, &name);

    active->name_len = ngx_http_trace_name_cut(name.data, name.len);
    ngx_memcpy(active->name, name.data, active->name_len);
}


/* by method and route: variables are only asked at the end */

void
ngx_http_trace_first_name(ngx_http_request_t *r,
    ngx_http_trace_pipeline_conf_t *pcf, traceparent_view_t *view)
{
    ngx_str_t                name;
    ngx_http_trace_known_t  *method;

    method = ngx_http_trace_method(r->method, &r->method_name);

    if (ngx_http_trace_semconv_name(r, method, pcf, &name) != NGX_OK) {
        ngx_str_null(&name);
    }

    view->data = name.data;
    view->len = name.len;
}


/* the access checks are over, and whose the user's span is was decided */

void
ngx_http_trace_request_admitted(ngx_http_request_t *r,
    ngx_http_trace_ctx_t *ctx)
{
    ngx_str_t                   routing;
    ngx_http_trace_active_t    *active;
    ngx_http_trace_loc_conf_t  *tlcf;

    if (ctx->events) {
        ngx_http_trace_events_admitted(ctx);
    }

    active = ctx->pipelines[NGX_HTTP_TRACE_USER].active;
    tlcf = ngx_http_get_module_loc_conf(r, ngx_http_trace_module);

    if (active && tlcf->routing
        && ngx_http_trace_value_peek(r, tlcf->routing, &routing) == NGX_OK)
    {
        ngx_http_trace_active_route(active, &routing);
    }
}


/* how far the request has come, for the operator */

void
ngx_http_trace_request_phase(ngx_http_request_t *r, ngx_http_trace_ctx_t *ctx,
    ngx_http_trace_phase_e phase)
{
    ngx_http_trace_active_t  *active;

    active = ctx->pipelines[NGX_HTTP_TRACE_INTERNAL].active;

    if (active && r == r->main) {
        active->phase = phase;
    }
}


/* the user's first: the internal span links to it if it was queued */

void
ngx_http_trace_request_spans(ngx_http_request_t *r, ngx_http_trace_ctx_t *ctx)
{
    ngx_uint_t                  i;
    ngx_http_trace_facts_t      facts;
    ngx_http_trace_request_t    request;
    void                      **loc_conf;

    ngx_http_trace_upstreams_settle(ctx, NULL);

    if (ctx->end == 0) {
        ctx->end = ngx_http_trace_now(ctx);
    }

    if (ctx->node.located) {
        ngx_http_trace_name_location(r, &ctx->node);
    }

    if (ctx->events) {
        ngx_http_trace_events_end_children(ctx);
    }

    if (ctx->customs) {
        ngx_http_trace_customs_close(ctx, NULL, ctx->end);
    }

    /* that of a post_action is not what has answered */

    loc_conf = r->loc_conf;

    if (r->post_action) {
        r->loc_conf = ctx->loc_conf;
    }

    request.request = r;
    request.ctx = ctx;
    request.conf = ngx_http_get_module_loc_conf(r, ngx_http_trace_module);
    request.facts = ctx->facts;

    if (request.facts == NULL) {
        request.facts = &facts;
        ngx_http_trace_facts(r, ctx, &facts);
    }

    if (ctx->events) {
        ngx_http_trace_request_events(&request);
    }

    for (i = NGX_HTTP_TRACE_PIPELINES; i-- > 0; /* void */) {
        if ((ctx->recorded & (1 << i)) && ngx_http_trace_kept(&request, i)) {
            ngx_http_trace_pipeline_spans(&request, i);
        }
    }

    r->loc_conf = loc_conf;
}


/* the last ones */

static void
ngx_http_trace_request_events(ngx_http_trace_request_t *request)
{
    ngx_uint_t             i;
    ngx_http_trace_ctx_t  *ctx;
    traceparent_view_t     names[NGX_HTTP_TRACE_PIPELINES];

    ctx = request->ctx;

    for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++) {
        if (ctx->events & (1 << i)) {
            ngx_http_trace_span_name(request, i, &names[i]);
        }
    }

    ngx_http_trace_events_end(ctx, request->facts, names);
}


/* trace_keep: what was not sampled may be worth it in the end */

static ngx_uint_t
ngx_http_trace_kept(ngx_http_trace_request_t *request, ngx_uint_t pipeline)
{
    ngx_http_trace_value_t  *keep;

    if (request->ctx->pipelines[pipeline].outbound.flags
        & TRACEPARENT_FLAG_SAMPLED)
    {
        return 1;
    }

    keep = request->conf->keep;

    return keep && ngx_http_trace_value_true(request->request, keep);
}


static ngx_inline void
ngx_http_trace_pipeline_spans(ngx_http_trace_request_t *request,
    ngx_uint_t pipeline)
{
    ngx_str_t                   routing;
    otlp_span_head_t            head;
    ngx_http_trace_ctx_t       *ctx;
    ngx_http_trace_span_ctx_t  *sc;

    ctx = request->ctx;
    sc = &ctx->pipelines[pipeline];

    if (ctx->too_many[pipeline]) {
        ngx_http_trace_exporter_drop(pipeline, NGX_HTTP_TRACE_REQUEST_LIMIT,
                                     ctx->too_many[pipeline]);
    }

    if (ngx_http_trace_routing(request, pipeline, &routing) != NGX_OK) {
        ngx_http_trace_exporter_drop(pipeline, NGX_HTTP_TRACE_NO_ROUTING, 1);
        ngx_http_trace_drop_children(ctx, pipeline);
        return;
    }

    head.trace_id = sc->outbound.trace_id;
    head.span_id = sc->outbound.parent_id;
    head.parent_span_id = sc->parent ? sc->inbound.parent_id : NULL;
    head.tracestate.data = sc->tracestate.data;
    head.tracestate.len = sc->tracestate.len;
    head.start_time = ctx->start;
    head.flags = ngx_http_trace_span_flags(sc);
    head.kind = OTLP_SPAN_KIND_SERVER;

    ngx_http_trace_span_name(request, pipeline, &head.name);

    if (ngx_http_trace_span_queue(pipeline, &routing, &head, ctx->end,
                                  ngx_http_trace_request_write, request,
                                  sc->active)
        == NGX_OK)
    {
        sc->queued = 1;
    }

    if (ctx->children) {
        ngx_http_trace_children(request, pipeline, &routing);
    }
}


static ngx_inline uint32_t
ngx_http_trace_span_flags(ngx_http_trace_span_ctx_t *sc)
{
    return (sc->outbound.flags & TRACEPARENT_FLAGS_KNOWN)
           | OTLP_FLAG_HAS_IS_REMOTE
           | (sc->parent ? OTLP_FLAG_IS_REMOTE : 0);
}


static void
ngx_http_trace_children(ngx_http_trace_request_t *request, ngx_uint_t pipeline,
    ngx_str_t *routing)
{
    otlp_span_head_t            head;
    ngx_http_trace_ctx_t       *ctx;
    ngx_http_trace_child_t     *child;
    ngx_http_trace_span_ctx_t  *sc;

    ctx = request->ctx;
    sc = &ctx->pipelines[pipeline];

    ctx->level[pipeline] = request->conf->pipelines[pipeline].level;

    head.trace_id = sc->outbound.trace_id;
    head.tracestate.data = sc->tracestate.data;
    head.tracestate.len = sc->tracestate.len;
    head.flags = (sc->outbound.flags & TRACEPARENT_FLAGS_KNOWN)
                 | OTLP_FLAG_HAS_IS_REMOTE;

    for (child = ctx->children; child; child = child->next) {

        if (!(child->pipelines & (1 << pipeline))) {
            continue;
        }

        /* whatever goes on was ended with the request */

        if (child->end == 0) {
            child->end = ngx_max(ctx->end, child->start);
        }

        head.span_id = child->span_id[pipeline];
        head.parent_span_id = child->parent_id[pipeline];
        head.start_time = child->start;

        child->type->head(child, pipeline, &head);

        (void) ngx_http_trace_span_queue(pipeline, routing, &head, child->end,
                                         child->type->write, child, NULL);
    }
}


static void
ngx_http_trace_drop_children(ngx_http_trace_ctx_t *ctx, ngx_uint_t pipeline)
{
    ngx_http_trace_child_t  *child;

    for (child = ctx->children; child; child = child->next) {
        if (child->pipelines & (1 << pipeline)) {
            ngx_http_trace_exporter_drop(pipeline, NGX_HTTP_TRACE_NO_ROUTING,
                                         1);
        }
    }
}


static ngx_int_t
ngx_http_trace_span_queue(ngx_uint_t pipeline, ngx_str_t *routing,
    otlp_span_head_t *head, uint64_t end, ngx_http_trace_write_pt write,
    void *data, ngx_http_trace_active_t *active)
{
    int                  status;
    size_t               min, room;
    u_char              *buf;
    otlp_span_t          span;
    traceparent_view_t   frame;

    /* what does not fit here may fit at the start of the ring */

    for (min = NGX_HTTP_TRACE_SPAN_MIN; ; min = OTLP_SPAN_MAX) {

        for ( ;; ) {
            buf = ngx_http_trace_exporter_begin(pipeline, routing, min, &room);

            if (buf) {
                break;
            }

            if (!ngx_http_trace_exporter_evict(pipeline)) {
                ngx_http_trace_exporter_drop(pipeline,
                                             NGX_HTTP_TRACE_QUEUE_FULL, 1);
                return NGX_ERROR;
            }
        }

        if (otlp_span_begin(&span, buf, room, head) != 0) {

            if (room >= OTLP_SPAN_MAX) {
                ngx_http_trace_exporter_drop(pipeline, NGX_HTTP_TRACE_ENCODE,
                                             1);
                return NGX_ERROR;
            }

            continue;
        }

        status = write(data, pipeline, &span);

        if (room >= OTLP_SPAN_MAX
            || (span.dropped_attributes | span.dropped_links
                | span.dropped_events) == 0)
        {
            break;
        }
    }

    otlp_span_end(&span, end, status, &frame);

    ngx_http_trace_exporter_commit(pipeline, frame.data, frame.len, active);

    return NGX_OK;
}


static int
ngx_http_trace_request_write(void *data, ngx_uint_t pipeline,
    otlp_span_t *span)
{
    ngx_http_trace_request_t *request = data;

    ngx_http_trace_ctx_t            *ctx;
    ngx_http_trace_span_ctx_t       *user;
    ngx_http_trace_pipeline_conf_t  *pcf;

    ctx = request->ctx;
    pcf = &request->conf->pipelines[pipeline];

    ngx_http_trace_semconv(pcf->semconv, request->facts, span);
    ngx_http_trace_span_attributes(request->request, span, pcf);

    if (ctx->node.hops) {
        ngx_http_trace_span_hops(span, &ctx->node, pipeline, pcf->level);
    }

    if (pipeline == NGX_HTTP_TRACE_INTERNAL) {
        user = &ctx->pipelines[NGX_HTTP_TRACE_USER];

        if (user->queued) {
            otlp_span_link(span, user->outbound.trace_id,
                           user->outbound.parent_id,
                           (user->outbound.flags & TRACEPARENT_FLAGS_KNOWN)
                           | OTLP_FLAG_HAS_IS_REMOTE);
        }
    }

    return ngx_http_trace_semconv_status(request->facts);
}


/* an event for each redirect; it tells no more than the span does */

void
ngx_http_trace_span_hops(otlp_span_t *span, ngx_http_trace_node_t *node,
    ngx_uint_t pipeline, ngx_uint_t level)
{
    ngx_str_t             *route;
    otlp_span_t            event;
    ngx_http_trace_hop_t  *hop;

    for (hop = node->hops; hop; hop = hop->next) {

        otlp_span_event_begin(&event, span, hop->time,
                              ngx_http_trace_key("redirect"));

        route = &hop->location->pipelines[pipeline].route;

        if (route->len && level >= NGX_HTTP_TRACE_MINIMAL) {
            otlp_span_string(&event, ngx_http_trace_key("http.route"),
                             route->data, route->len);
        }

        /* who may not know the location's name may not know its path */

        if (hop->path.len && level == NGX_HTTP_TRACE_ALL
            && (route->len || pipeline != NGX_HTTP_TRACE_USER))
        {
            otlp_span_string(&event, ngx_http_trace_key("url.path"),
                             hop->path.data, hop->path.len);
        }

        if (hop->status && level >= NGX_HTTP_TRACE_MINIMAL) {
            otlp_span_int(&event,
                          ngx_http_trace_key("http.response.status_code"),
                          hop->status);
        }

        otlp_span_event_end(span, &event);
    }
}


static ngx_int_t
ngx_http_trace_routing(ngx_http_trace_request_t *request, ngx_uint_t pipeline,
    ngx_str_t *routing)
{
    ngx_http_trace_value_t  *value;

    if (pipeline != NGX_HTTP_TRACE_USER) {
        ngx_str_null(routing);
        return NGX_OK;
    }

    value = request->conf->routing;

    if (value == NULL
        || ngx_http_trace_value_read(request->request, value, routing)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_trace_check_routing(routing);
}


static void
ngx_http_trace_span_name(ngx_http_trace_request_t *request,
    ngx_uint_t pipeline, traceparent_view_t *view)
{
    ngx_str_t                        name;
    ngx_http_request_t              *r;
    ngx_http_trace_pipeline_conf_t  *pcf;

    r = request->request;
    pcf = &request->conf->pipelines[pipeline];

    ngx_str_null(&name);

    if (pcf->span_name
        && ngx_http_trace_value_read(r, pcf->span_name, &name) != NGX_OK)
    {
        ngx_str_null(&name);
    }

    if (name.len == 0
        && ngx_http_trace_semconv_name(r, request->facts->method, pcf, &name)
           != NGX_OK)
    {
        ngx_str_null(&name);
    }

    view->data = name.data;
    view->len = ngx_min(name.len, NGX_HTTP_TRACE_NAME_MAX);
}


static void
ngx_http_trace_span_attributes(ngx_http_request_t *r, otlp_span_t *span,
    ngx_http_trace_pipeline_conf_t *pcf)
{
    ngx_str_t                     value;
    ngx_uint_t                    i;
    ngx_http_trace_attribute_t  **attr;

    if (pcf->constant_attributes_n) {
        otlp_span_encoded(span, pcf->constant_attributes.data,
                          pcf->constant_attributes.len,
                          pcf->constant_attributes_n);
    }

    if (pcf->variable_attributes == NULL) {
        return;
    }

    attr = pcf->variable_attributes->elts;

    for (i = 0; i < pcf->variable_attributes->nelts; i++) {

        if (attr[i]->condition
            && !ngx_http_trace_value_true(r, attr[i]->condition))
        {
            continue;
        }

        if (ngx_http_trace_value_read(r, &attr[i]->value, &value) == NGX_OK) {
            ngx_http_trace_span_attribute(span, attr[i], &value);
        }
    }
}


/*
 * Used for the constant ones too, at configuration time.  An empty value, and
 * one that is no number where a number is asked for, makes no attribute.
 */

void
ngx_http_trace_span_attribute(otlp_span_t *span,
    ngx_http_trace_attribute_t *attr, ngx_str_t *value)
{
    char                *name;
    double               number;
    int64_t              integer;
    traceparent_view_t   view;

    name = (char *) attr->name.data;

    if (value->len == 0) {
        return;
    }

    switch (attr->type) {

    case NGX_HTTP_TRACE_STRINGS:
        view.data = value->data;
        view.len = value->len;
        otlp_span_strings(span, name, attr->name.len, &view, 1);
        return;

    case NGX_HTTP_TRACE_INT:
        if (ngx_http_trace_parse_int(value, &integer) == NGX_OK) {
            otlp_span_int(span, name, attr->name.len, integer);
        }

        return;

    case NGX_HTTP_TRACE_DOUBLE:
        if (ngx_http_trace_parse_double(value, &number) == NGX_OK) {
            otlp_span_double(span, name, attr->name.len, number);
        }

        return;

    case NGX_HTTP_TRACE_BOOL:
        otlp_span_bool(span, name, attr->name.len,
                       !(value->len == 1 && value->data[0] == '0')
                       && !(value->len == 3
                            && ngx_strncmp(value->data, "off", 3) == 0)
                       && !(value->len == 5
                            && ngx_strncmp(value->data, "false", 5) == 0));
        return;

    default: /* NGX_HTTP_TRACE_STRING */
        otlp_span_string(span, name, attr->name.len, value->data, value->len);
    }
}


ngx_int_t
ngx_http_trace_parse_int(ngx_str_t *value, int64_t *integer)
{
    ngx_int_t   n;
    ngx_uint_t  minus;

    minus = (value->data[0] == '-');

    n = ngx_atoi(value->data + minus, value->len - minus);

    if (n == NGX_ERROR) {
        return NGX_ERROR;
    }

    *integer = minus ? -(int64_t) n : n;

    return NGX_OK;
}


/* strtod() wants a NUL, and would take words and hex as well */

ngx_int_t
ngx_http_trace_parse_double(ngx_str_t *value, double *number)
{
    u_char  buf[64], *last;
    size_t  i;

    if (value->len >= sizeof(buf)) {
        return NGX_ERROR;
    }

    for (i = 0; i < value->len; i++) {
        if (ngx_strchr("0123456789+-.eE", value->data[i]) == NULL
            || value->data[i] == '\0')
        {
            return NGX_ERROR;
        }
    }

    last = ngx_cpymem(buf, value->data, value->len);
    *last = '\0';

    *number = strtod((char *) buf, (char **) &last);

    return (last == buf + value->len) ? NGX_OK : NGX_ERROR;
}
