
/*
 * Spans of other modules' own, and trace_span.
 *
 * What a caller holds is a place in a table of its worker and how many spans
 * have had it before, so one that is over is told from the next.
 */


#include "ngx_http_trace_module.h"


/* of attributes and events, to begin with; bytes */
#define NGX_HTTP_TRACE_CUSTOM_SIZE    256

/* of an attribute or event, beside its strings; bytes */
#define NGX_HTTP_TRACE_CUSTOM_FRAME   32


struct ngx_http_trace_custom_s {
    ngx_http_trace_child_t       child;
    ngx_http_trace_ctx_t        *ctx;
    ngx_http_request_t          *request;
    ngx_http_trace_custom_t     *next;        /* of the same request */
    ngx_http_trace_custom_t     *outer;       /* parent, if it is custom */
    u_char                      *span_id[NGX_HTTP_TRACE_PIPELINES];
                                              /* its own, or its parent's */
    uint32_t                     place;
    ngx_uint_t                   status;
    ngx_uint_t                   attributes;
    ngx_uint_t                   events;
    size_t                       size;
    otlp_span_t                  out;         /* attributes and events */
    size_t                       name_len;
    u_char                       name[NGX_HTTP_TRACE_API_NAME_MAX];
};


typedef struct {
    ngx_http_trace_custom_t     *span;        /* NULL: free, or over */
    uint32_t                     times;       /* used, from 1 */
    uint32_t                     next;        /* that is free */
} ngx_http_trace_place_t;


static ngx_http_trace_ctx_t *ngx_http_trace_api_ctx(ngx_http_request_t *r,
    ngx_uint_t *pipelines);
static ngx_int_t ngx_http_trace_place(ngx_http_trace_custom_t *custom,
    ngx_log_t *log);
static ngx_inline ngx_http_trace_custom_t *ngx_http_trace_find_span(
    ngx_http_trace_span_t span);
static ngx_inline ngx_http_trace_span_t ngx_http_trace_handle(
    ngx_http_trace_custom_t *custom);
static void ngx_http_trace_custom_parent(ngx_http_trace_custom_t *custom,
    ngx_http_trace_node_t *node, ngx_http_trace_custom_t *outer);
static void ngx_http_trace_custom_current(ngx_http_trace_node_t *node,
    ngx_http_trace_custom_t *custom);
static ngx_int_t ngx_http_trace_custom_room(ngx_http_trace_custom_t *custom,
    size_t size);
static size_t ngx_http_trace_api_size(
    const ngx_http_trace_api_attribute_t *attr);
static ngx_uint_t ngx_http_trace_api_key(
    const ngx_http_trace_api_attribute_t *attr);
static void ngx_http_trace_api_write(otlp_span_t *out,
    const ngx_http_trace_api_attribute_t *attr);
static void ngx_http_trace_custom_head(ngx_http_trace_child_t *child,
    ngx_uint_t pipeline, otlp_span_head_t *head);
static int ngx_http_trace_custom_write(void *data, ngx_uint_t pipeline,
    otlp_span_t *span);


static ngx_http_trace_child_type_t  ngx_http_trace_custom_type = {
    ngx_http_trace_custom_head,
    ngx_http_trace_custom_write
};


/* of this worker; places are never given back, only used again */

static ngx_http_trace_place_t  *ngx_http_trace_places;
static uint32_t                 ngx_http_trace_places_n;
static uint32_t                 ngx_http_trace_places_free =
                                                     NGX_MAX_UINT32_VALUE;


ngx_uint_t
ngx_http_trace_api_version(void)
{
    return NGX_HTTP_TRACE_API_VERSION;
}


ngx_uint_t
ngx_http_trace_recording(ngx_http_request_t *r)
{
    ngx_uint_t  pipelines;

    return ngx_http_trace_api_ctx(r, &pipelines) ? pipelines : 0;
}


/*
 * The context of a request that records, or may do so: before it is decided,
 * spans are kept until it is.
 */

static ngx_http_trace_ctx_t *
ngx_http_trace_api_ctx(ngx_http_request_t *r, ngx_uint_t *pipelines)
{
    ngx_uint_t                  i;
    ngx_http_trace_ctx_t       *ctx;
    ngx_http_trace_loc_conf_t  *tlcf;

    ctx = ngx_http_get_module_ctx(r->main, ngx_http_trace_module);

    if (ctx == NULL || !ctx->decided) {

        r = r->main;

        if (ngx_http_trace_late(r)) {
            ctx = ngx_http_trace_decide(r);

        } else {
            tlcf = ngx_http_get_module_loc_conf(r, ngx_http_trace_module);

            *pipelines = 0;

            for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++) {
                if (tlcf->pipelines[i].decision) {
                    *pipelines |= 1 << i;
                }
            }

            return *pipelines ? ngx_http_trace_own_ctx(r) : NULL;
        }
    }

    *pipelines = ctx->recorded;

    return ctx->recorded ? ctx : NULL;
}


ngx_http_trace_span_t
ngx_http_trace_span_open(ngx_http_request_t *r, ngx_http_trace_span_t parent,
    const u_char *name, size_t len, ngx_uint_t pipelines)
{
    ngx_uint_t                possible;
    ngx_http_trace_ctx_t     *ctx;
    ngx_http_trace_node_t    *node;
    ngx_http_trace_custom_t  *custom, *outer;

    ctx = ngx_http_trace_api_ctx(r, &possible);

    if (ctx == NULL || (pipelines & possible) == 0) {
        return NGX_HTTP_TRACE_NO_SPAN;
    }

    node = ngx_http_trace_node(r, ctx);
    if (node == NULL) {
        return NGX_HTTP_TRACE_NO_SPAN;
    }

    outer = parent ? ngx_http_trace_find_span(parent) : node->current;

    if (parent && (outer == NULL || outer->ctx != ctx)) {
        outer = node->current;
    }

    custom = ngx_http_trace_child(r, ctx, node, pipelines & possible,
                                  sizeof(ngx_http_trace_custom_t));
    if (custom == NULL) {
        return NGX_HTTP_TRACE_NO_SPAN;
    }

    custom->child.type = &ngx_http_trace_custom_type;
    custom->ctx = ctx;
    custom->request = r;

    if (ngx_http_trace_span_ids(custom->child.span_id, custom->child.pipelines)
        != NGX_OK
        || ngx_http_trace_place(custom, r->connection->log) != NGX_OK)
    {
        custom->child.pipelines = 0;
        return NGX_HTTP_TRACE_NO_SPAN;
    }

    ngx_http_trace_custom_parent(custom, node, outer);

    custom->next = ctx->customs;
    ctx->customs = custom;

    ngx_http_trace_span_rename(ngx_http_trace_handle(custom), name, len);

    return ngx_http_trace_handle(custom);
}


/* a place in the table, which grows with the spans that are open at once */

static ngx_int_t
ngx_http_trace_place(ngx_http_trace_custom_t *custom, ngx_log_t *log)
{
    uint32_t                 i, n;
    ngx_http_trace_place_t  *place, *grown;

    if (ngx_http_trace_places_free == NGX_MAX_UINT32_VALUE) {

        n = ngx_http_trace_places_n ? 2 * ngx_http_trace_places_n : 64;

        grown = ngx_alloc(n * sizeof(ngx_http_trace_place_t), log);
        if (grown == NULL) {
            return NGX_ERROR;
        }

        if (ngx_http_trace_places) {
            ngx_memcpy(grown, ngx_http_trace_places,
                       ngx_http_trace_places_n
                       * sizeof(ngx_http_trace_place_t));
            ngx_free(ngx_http_trace_places);
        }

        for (i = ngx_http_trace_places_n; i < n; i++) {
            grown[i].span = NULL;
            grown[i].times = 0;
            grown[i].next = (i + 1 < n) ? i + 1 : NGX_MAX_UINT32_VALUE;
        }

        ngx_http_trace_places_free = ngx_http_trace_places_n;
        ngx_http_trace_places = grown;
        ngx_http_trace_places_n = n;
    }

    custom->place = ngx_http_trace_places_free;

    place = &ngx_http_trace_places[custom->place];

    ngx_http_trace_places_free = place->next;

    place->span = custom;
    place->times++;

    return NGX_OK;
}


static ngx_inline ngx_http_trace_custom_t *
ngx_http_trace_find_span(ngx_http_trace_span_t span)
{
    uint32_t                 i;
    ngx_http_trace_place_t  *place;

    i = (uint32_t) span;

    if (span == NGX_HTTP_TRACE_NO_SPAN || i >= ngx_http_trace_places_n) {
        return NULL;
    }

    place = &ngx_http_trace_places[i];

    return place->times == span >> 32 ? place->span : NULL;
}


static ngx_inline ngx_http_trace_span_t
ngx_http_trace_handle(ngx_http_trace_custom_t *custom)
{
    return (uint64_t) ngx_http_trace_places[custom->place].times << 32
           | custom->place;
}


/* in a pipeline that a span is not in, its parent stands for it */

static void
ngx_http_trace_custom_parent(ngx_http_trace_custom_t *custom,
    ngx_http_trace_node_t *node, ngx_http_trace_custom_t *outer)
{
    ngx_uint_t  i;
    u_char     *parent_id;

    custom->outer = outer;

    for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++) {
        parent_id = outer ? outer->span_id[i] : node->span_id[i];

        custom->child.parent_id[i] = parent_id;
        custom->span_id[i] = (custom->child.pipelines & (1 << i))
                             ? custom->child.span_id[i] : parent_id;
    }
}


ngx_http_trace_span_t
ngx_http_trace_span_current(ngx_http_request_t *r, ngx_http_trace_span_t span)
{
    ngx_http_trace_ctx_t     *ctx;
    ngx_http_trace_node_t    *node;
    ngx_http_trace_custom_t  *custom, *before;

    ctx = ngx_http_get_module_ctx(r->main, ngx_http_trace_module);

    if (ctx == NULL || ctx->customs == NULL) {
        return NGX_HTTP_TRACE_NO_SPAN;
    }

    node = ngx_http_trace_node(r, ctx);
    custom = ngx_http_trace_find_span(span);

    if (node == NULL || (custom && custom->ctx != ctx)) {
        return NGX_HTTP_TRACE_NO_SPAN;
    }

    before = node->current;

    ngx_http_trace_custom_current(node, custom);

    return before ? ngx_http_trace_handle(before) : NGX_HTTP_TRACE_NO_SPAN;
}


static void
ngx_http_trace_custom_current(ngx_http_trace_node_t *node,
    ngx_http_trace_custom_t *custom)
{
    while (custom && custom->child.end) {
        custom = custom->outer;
    }

    node->current = custom;

    ngx_memcpy(node->parent_id, custom ? custom->span_id : node->span_id,
               sizeof(node->parent_id));
}


void
ngx_http_trace_span_set(ngx_http_trace_span_t span,
    const ngx_http_trace_api_attribute_t *attributes, ngx_uint_t n)
{
    ngx_uint_t                             i;
    ngx_http_trace_custom_t               *custom;
    const ngx_http_trace_api_attribute_t  *attr;

    custom = ngx_http_trace_find_span(span);

    if (custom == NULL || custom->child.end) {
        return;
    }

    for (i = 0; i < n; i++) {
        attr = &attributes[i];

        if (ngx_http_trace_api_key(attr)
            && custom->attributes
            && otlp_span_forget(&custom->out, (const char *) attr->key,
                                attr->key_len))
        {
            custom->attributes--;
        }

        if (!ngx_http_trace_api_key(attr)
            || custom->attributes == NGX_HTTP_TRACE_API_ATTRIBUTES_MAX
            || ngx_http_trace_custom_room(custom,
                                          ngx_http_trace_api_size(attr))
               != NGX_OK)
        {
            custom->out.dropped_attributes++;
            continue;
        }

        ngx_http_trace_api_write(&custom->out, attr);

        custom->attributes++;
    }
}


void
ngx_http_trace_span_event(ngx_http_trace_span_t span, const u_char *name,
    size_t len, const ngx_http_trace_api_attribute_t *attributes, ngx_uint_t n)
{
    size_t                    size;
    ngx_uint_t                i;
    otlp_span_t               event;
    ngx_http_trace_custom_t  *custom;

    custom = ngx_http_trace_find_span(span);

    if (custom == NULL || custom->child.end) {
        return;
    }

    size = 2 * NGX_HTTP_TRACE_CUSTOM_FRAME + 3 * len;

    for (i = 0; i < n && i < NGX_HTTP_TRACE_API_ATTRIBUTES_MAX; i++) {
        size += ngx_http_trace_api_size(&attributes[i]);
    }

    if (len == 0
        || len > NGX_HTTP_TRACE_API_SIZE_MAX
        || custom->events == NGX_HTTP_TRACE_API_EVENTS_MAX
        || ngx_http_trace_custom_room(custom, size) != NGX_OK)
    {
        custom->out.dropped_events++;
        return;
    }

    otlp_span_event_begin(&event, &custom->out, ngx_http_trace_now(custom->ctx),
                          (const char *) name,
                          ngx_min(len, NGX_HTTP_TRACE_API_NAME_MAX));

    for (i = 0; i < n; i++) {

        if (i < NGX_HTTP_TRACE_API_ATTRIBUTES_MAX
            && ngx_http_trace_api_key(&attributes[i]))
        {
            ngx_http_trace_api_write(&event, &attributes[i]);

        } else {
            event.dropped_attributes++;
        }
    }

    otlp_span_event_end(&custom->out, &event);

    custom->events++;
}


/* for |size| bytes more */

static ngx_int_t
ngx_http_trace_custom_room(ngx_http_trace_custom_t *custom, size_t size)
{
    size_t       used, grown;
    u_char      *p;
    otlp_span_t  out;

    if (size <= (size_t) (custom->out.end - custom->out.pos)) {
        return NGX_OK;
    }

    used = custom->out.pos - custom->out.start;

    grown = custom->size ? 2 * custom->size : NGX_HTTP_TRACE_CUSTOM_SIZE;

    while (grown < used + size && grown < NGX_HTTP_TRACE_API_SIZE_MAX) {
        grown *= 2;
    }

    if (used + size > grown
        || custom->ctx->custom_size + grown > NGX_HTTP_TRACE_API_REQUEST_MAX)
    {
        return NGX_DECLINED;
    }

    p = ngx_http_trace_alloc(custom->request, custom->ctx, grown);
    if (p == NULL) {
        return NGX_ERROR;
    }

    custom->ctx->custom_size += grown;
    custom->size = grown;

    out = custom->out;

    otlp_span_attributes_begin(&custom->out, p, grown);

    if (used) {
        ngx_memcpy(p, out.start, used);
    }

    custom->out.pos += used;
    custom->out.dropped_attributes = out.dropped_attributes;
    custom->out.dropped_events = out.dropped_events;

    return NGX_OK;
}


/* a byte that is not UTF-8 becomes three */

static size_t
ngx_http_trace_api_size(const ngx_http_trace_api_attribute_t *attr)
{
    return NGX_HTTP_TRACE_CUSTOM_FRAME + attr->key_len
           + (attr->type == NGX_HTTP_TRACE_API_STRING
              ? 3 * ngx_min(attr->string_len, NGX_HTTP_TRACE_API_SIZE_MAX)
              : 0);
}


static ngx_uint_t
ngx_http_trace_api_key(const ngx_http_trace_api_attribute_t *attr)
{
    size_t  i;

    if (attr->key_len == 0 || attr->key_len > NGX_HTTP_TRACE_API_KEY_MAX) {
        return 0;
    }

    for (i = 0; i < attr->key_len; i++) {
        if (attr->key[i] < 0x21 || attr->key[i] > 0x7e) {
            return 0;
        }
    }

    return 1;
}


static void
ngx_http_trace_api_write(otlp_span_t *out,
    const ngx_http_trace_api_attribute_t *attr)
{
    const char  *key;

    key = (const char *) attr->key;

    switch (attr->type) {

    case NGX_HTTP_TRACE_API_STRING:
        otlp_span_string(out, key, attr->key_len, attr->string,
                         attr->string_len);
        break;

    case NGX_HTTP_TRACE_API_INT:
        otlp_span_int(out, key, attr->key_len, attr->integer);
        break;

    case NGX_HTTP_TRACE_API_DOUBLE:
        otlp_span_double(out, key, attr->key_len, attr->number);
        break;

    case NGX_HTTP_TRACE_API_BOOL:
        otlp_span_bool(out, key, attr->key_len, attr->boolean != 0);
        break;

    default:
        out->dropped_attributes++;
    }
}


/* not in the middle of a character */

void
ngx_http_trace_span_rename(ngx_http_trace_span_t span, const u_char *name,
    size_t len)
{
    ngx_http_trace_custom_t  *custom;

    custom = ngx_http_trace_find_span(span);

    if (custom == NULL || custom->child.end || len == 0) {
        return;
    }

    if (len > NGX_HTTP_TRACE_API_NAME_MAX) {
        len = NGX_HTTP_TRACE_API_NAME_MAX;

        while (len > NGX_HTTP_TRACE_API_NAME_MAX - 3
               && (name[len] & 0xc0) == 0x80)
        {
            len--;
        }
    }

    ngx_memcpy(custom->name, name, len);
    custom->name_len = len;
}


void
ngx_http_trace_span_status(ngx_http_trace_span_t span, ngx_uint_t status)
{
    ngx_http_trace_custom_t  *custom;

    custom = ngx_http_trace_find_span(span);

    if (custom && !custom->child.end && status <= NGX_HTTP_TRACE_API_ERROR) {
        custom->status = status;
    }
}


void
ngx_http_trace_span_close(ngx_http_trace_span_t span)
{
    ngx_http_trace_node_t    *node;
    ngx_http_trace_custom_t  *custom;

    custom = ngx_http_trace_find_span(span);

    if (custom == NULL || custom->child.end) {
        return;
    }

    custom->child.end = ngx_http_trace_now(custom->ctx);

    node = ngx_http_trace_node(custom->request, custom->ctx);

    if (node && node->current == custom) {
        ngx_http_trace_custom_current(node, custom->outer);
    }
}


ngx_uint_t
ngx_http_trace_span_alive(ngx_http_request_t *r, ngx_http_trace_span_t span)
{
    ngx_http_trace_custom_t  *custom;

    custom = ngx_http_trace_find_span(span);

    return custom && !custom->child.end
           && custom->ctx == ngx_http_get_module_ctx(r->main,
                                                     ngx_http_trace_module);
}


/* called when a request is over: whoever has its spans has none any more */

void
ngx_http_trace_customs_end(ngx_http_trace_ctx_t *ctx)
{
    ngx_http_trace_place_t   *place;
    ngx_http_trace_custom_t  *custom;

    for (custom = ctx->customs; custom; custom = custom->next) {
        place = &ngx_http_trace_places[custom->place];

        place->span = NULL;
        place->next = ngx_http_trace_places_free;

        ngx_http_trace_places_free = custom->place;
    }
}


static void
ngx_http_trace_custom_head(ngx_http_trace_child_t *child, ngx_uint_t pipeline,
    otlp_span_head_t *head)
{
    ngx_http_trace_custom_t *custom = (ngx_http_trace_custom_t *) child;

    head->kind = OTLP_SPAN_KIND_INTERNAL;
    head->name.data = custom->name;
    head->name.len = custom->name_len;
}


static int
ngx_http_trace_custom_write(void *data, ngx_uint_t pipeline,
    otlp_span_t *span)
{
    ngx_http_trace_custom_t *custom = data;

    if (custom->size) {
        otlp_span_encoded(span, custom->out.start,
                          custom->out.pos - custom->out.start,
                          custom->attributes);
    }

    span->dropped_attributes += custom->out.dropped_attributes;
    span->dropped_events += custom->out.dropped_events;

    return custom->status;
}
