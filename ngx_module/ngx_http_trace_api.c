
/*
 * Spans of other modules' own, and trace_span.
 *
 * What a caller holds is a place in a table of its worker and how many spans
 * have had it before, so one that is over is told from the next.
 */


#include "ngx_http_trace_module.h"


/* for attributes and events, to begin with; bytes */
#define NGX_HTTP_TRACE_CUSTOM_SIZE    256

/* of an attribute or event, beside its strings; bytes */
#define NGX_HTTP_TRACE_CUSTOM_FRAME   32


struct ngx_http_trace_custom_s {
    ngx_http_trace_child_t       child;
    ngx_http_trace_ctx_t        *ctx;
    ngx_http_request_t          *request;
    ngx_http_trace_custom_t     *next;        /* of the same request */
    ngx_http_trace_custom_t     *outer;       /* parent, if it is custom */
    ngx_http_trace_node_t       *nodes;       /* where it is current */
    u_char                      *span_id[NGX_HTTP_TRACE_PIPELINES];
                                              /* its own, or its parent's */
    uint32_t                     place;
    ngx_uint_t                   status;
    ngx_uint_t                   attributes;
    ngx_uint_t                   events;
    size_t                       size;
    otlp_span_t                  out;         /* attributes and events */
    otlp_span_t                 *exception;   /* of each pipeline, or NULL */
    size_t                       name_len;

    /* what is not zero to begin with */

    u_char                       name[NGX_HTTP_TRACE_API_NAME_MAX];
    u_char                       room[NGX_HTTP_TRACE_CUSTOM_SIZE];
};


typedef struct {
    ngx_http_trace_custom_t     *span;        /* NULL: free, or over */
    uint32_t                     times;       /* used, from 1 */
    uint32_t                     next;        /* that is free */
} ngx_http_trace_place_t;


static NGX_HTTP_TRACE_APART ngx_uint_t ngx_http_trace_may_record(
    ngx_http_request_t *r);
static NGX_HTTP_TRACE_APART ngx_http_trace_span_t ngx_http_trace_custom_open(
    ngx_http_request_t *r, ngx_http_trace_span_t parent, const u_char *name,
    size_t len, ngx_uint_t pipelines);
static ngx_int_t ngx_http_trace_place(ngx_http_trace_custom_t *custom,
    ngx_log_t *log);
static NGX_HTTP_TRACE_APART void ngx_http_trace_more_places(ngx_log_t *log);
static ngx_inline ngx_http_trace_custom_t *ngx_http_trace_find_span(
    ngx_http_trace_span_t span);
static ngx_inline ngx_http_trace_span_t ngx_http_trace_handle(
    ngx_http_trace_custom_t *custom);
static void ngx_http_trace_custom_parent(ngx_http_trace_custom_t *custom,
    ngx_http_trace_node_t *node, ngx_http_trace_custom_t *outer);
static void ngx_http_trace_custom_current(ngx_http_trace_node_t *node,
    ngx_http_trace_custom_t *custom);
static void ngx_http_trace_custom_name(ngx_http_trace_custom_t *custom,
    const u_char *name, size_t len);
static ngx_inline void ngx_http_trace_custom_room(
    ngx_http_trace_custom_t *custom, size_t size);
static NGX_HTTP_TRACE_APART void ngx_http_trace_custom_grow(
    ngx_http_trace_custom_t *custom, size_t size);
static NGX_HTTP_TRACE_APART void ngx_http_trace_close_now(
    ngx_http_trace_span_t span);
static void ngx_http_trace_custom_close(ngx_http_trace_custom_t *custom,
    uint64_t end);
static ngx_inline ngx_uint_t ngx_http_trace_custom_set(
    ngx_http_trace_custom_t *custom,
    const ngx_http_trace_api_attribute_t *attr);
static NGX_HTTP_TRACE_APART void ngx_http_trace_custom_set_announced(
    ngx_http_trace_custom_t *custom,
    const ngx_http_trace_api_attribute_t *attributes, ngx_uint_t n);
static size_t ngx_http_trace_api_size(
    const ngx_http_trace_api_attribute_t *attr);
static ngx_inline ngx_uint_t ngx_http_trace_api_key(
    const ngx_http_trace_api_attribute_t *attr);
static ngx_uint_t ngx_http_trace_api_short_key(
    const ngx_http_trace_api_attribute_t *attr);
static void ngx_http_trace_api_write(otlp_span_t *out,
    const ngx_http_trace_api_attribute_t *attr);
static void ngx_http_trace_custom_head(ngx_http_trace_child_t *child,
    ngx_uint_t pipeline, otlp_span_head_t *head);
static otlp_span_t *ngx_http_trace_custom_out(ngx_http_trace_child_t *child);
static int ngx_http_trace_custom_status(ngx_http_trace_child_t *child,
    u_char *buf, ngx_str_t *error);
static int ngx_http_trace_custom_write(void *data, ngx_uint_t pipeline,
    otlp_span_t *span);


static ngx_http_trace_child_type_t  ngx_http_trace_custom_type = {
    ngx_http_trace_custom_head,
    ngx_http_trace_custom_status,
    ngx_http_trace_custom_write,
    ngx_http_trace_custom_out
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
    ngx_http_trace_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r->main, ngx_http_trace_module);

    return (ctx && ctx->decided) ? ctx->recorded
                                 : ngx_http_trace_may_record(r);
}


/* before it is decided, spans are kept until it is */

static ngx_uint_t
ngx_http_trace_may_record(ngx_http_request_t *r)
{
    ngx_uint_t                  i, pipelines;
    ngx_http_trace_ctx_t       *ctx;
    ngx_http_trace_loc_conf_t  *tlcf;

    /* a subrequest needs to know whether it has a span */

    if (r != r->main || ngx_http_trace_late(r)) {
        return ngx_http_trace_decide(r)->recorded;
    }

    ctx = ngx_http_trace_get_ctx(r);
    tlcf = ngx_http_get_module_loc_conf(r, ngx_http_trace_module);

    pipelines = ctx ? ctx->recorded : 0;

    for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++) {
        if (tlcf->pipelines[i].decision
            && !(ctx && (ctx->settled & (1 << i))))
        {
            pipelines |= 1 << i;
        }
    }

    return pipelines;
}


/* where nothing is recorded, this is all that there is */

ngx_http_trace_span_t
ngx_http_trace_span_open(ngx_http_request_t *r, ngx_http_trace_span_t parent,
    const u_char *name, size_t len, ngx_uint_t pipelines)
{
    ngx_http_trace_ctx_t       *ctx;
    ngx_http_trace_loc_conf_t  *tlcf;

    tlcf = ngx_http_get_module_loc_conf(r->main, ngx_http_trace_module);

    /* it has been nowhere else */

    if (tlcf->idle && !r->main->internal) {
        return NGX_HTTP_TRACE_NO_SPAN;
    }

    ctx = ngx_http_get_module_ctx(r->main, ngx_http_trace_module);

    if (ctx && ctx->decided && ctx->recorded == 0) {
        return NGX_HTTP_TRACE_NO_SPAN;
    }

    return ngx_http_trace_custom_open(r, parent, name, len, pipelines);
}


static ngx_http_trace_span_t
ngx_http_trace_custom_open(ngx_http_request_t *r, ngx_http_trace_span_t parent,
    const u_char *name, size_t len, ngx_uint_t pipelines)
{
    ngx_http_trace_ctx_t     *ctx;
    ngx_http_trace_node_t    *node;
    ngx_http_trace_custom_t  *custom, *outer;

    pipelines &= ngx_http_trace_recording(r);

    if (pipelines == 0) {
        return NGX_HTTP_TRACE_NO_SPAN;
    }

    ctx = ngx_http_get_module_ctx(r->main, ngx_http_trace_module);

    if (ctx == NULL) {
        ctx = ngx_http_trace_own_ctx(r);

        if (ctx == NULL) {
            return NGX_HTTP_TRACE_NO_SPAN;
        }
    }

    node = ngx_http_trace_node(r, ctx);
    if (node == NULL) {
        return NGX_HTTP_TRACE_NO_SPAN;
    }

    custom = ngx_http_trace_child(r, ctx, node, pipelines,
                                  offsetof(ngx_http_trace_custom_t, name),
                                  sizeof(ngx_http_trace_custom_t)
                                  - offsetof(ngx_http_trace_custom_t, name));
    if (custom == NULL) {
        return NGX_HTTP_TRACE_NO_SPAN;
    }

    custom->child.type = &ngx_http_trace_custom_type;
    custom->ctx = ctx;
    custom->request = r;

    otlp_span_attributes_begin(&custom->out, custom->room,
                               NGX_HTTP_TRACE_CUSTOM_SIZE);
    custom->size = NGX_HTTP_TRACE_CUSTOM_SIZE;

    if (ngx_http_trace_span_ids(custom->child.span_id, pipelines) != NGX_OK
        || ngx_http_trace_place(custom, r->connection->log) != NGX_OK)
    {
        custom->child.pipelines = 0;
        return NGX_HTTP_TRACE_NO_SPAN;
    }

    outer = ngx_http_trace_find_span(parent);

    if (outer == NULL || outer->ctx != ctx) {
        outer = node->current;
    }

    ngx_http_trace_custom_parent(custom, node, outer);
    ngx_http_trace_custom_name(custom, name, len);

    custom->next = ctx->customs;
    ctx->customs = custom;

    if (ctx->events) {
        ngx_http_trace_events_open(ctx, &custom->child);
    }

    return ngx_http_trace_handle(custom);
}


/* a place in the table, which grows with the spans that are open at once */

static ngx_int_t
ngx_http_trace_place(ngx_http_trace_custom_t *custom, ngx_log_t *log)
{
    ngx_http_trace_place_t  *place;

    if (ngx_http_trace_places_free == NGX_MAX_UINT32_VALUE) {
        ngx_http_trace_more_places(log);

        if (ngx_http_trace_places_free == NGX_MAX_UINT32_VALUE) {
            return NGX_ERROR;
        }
    }

    custom->place = ngx_http_trace_places_free;

    place = &ngx_http_trace_places[custom->place];

    ngx_http_trace_places_free = place->next;

    place->span = custom;
    place->times++;

    return NGX_OK;
}


static void
ngx_http_trace_more_places(ngx_log_t *log)
{
    uint32_t                 i, n;
    ngx_http_trace_place_t  *grown;

    n = ngx_http_trace_places_n ? 2 * ngx_http_trace_places_n : 64;

    grown = ngx_alloc(n * sizeof(ngx_http_trace_place_t), log);
    if (grown == NULL) {
        return;
    }

    if (ngx_http_trace_places) {
        ngx_memcpy(grown, ngx_http_trace_places,
                   ngx_http_trace_places_n * sizeof(ngx_http_trace_place_t));
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
    ngx_http_trace_span_t     before;
    ngx_http_trace_custom_t  *custom;

    ctx = ngx_http_trace_get_ctx(r);

    if (ctx == NULL || ctx->customs == NULL) {
        return NGX_HTTP_TRACE_NO_SPAN;
    }

    if (r != r->main) {
        (void) ngx_http_trace_decide(r);
    }

    node = ngx_http_trace_node(r, ctx);
    if (node == NULL) {
        return NGX_HTTP_TRACE_NO_SPAN;
    }

    before = node->current ? ngx_http_trace_handle(node->current)
                           : NGX_HTTP_TRACE_NO_SPAN;

    custom = ngx_http_trace_find_span(span);

    if (span == NGX_HTTP_TRACE_NO_SPAN || (custom && custom->ctx == ctx)) {
        ngx_http_trace_custom_current(node, custom);
    }

    return before;
}


static void
ngx_http_trace_custom_current(ngx_http_trace_node_t *node,
    ngx_http_trace_custom_t *custom)
{
    ngx_http_trace_node_t  **n;

    while (custom && custom->child.end) {
        custom = custom->outer;
    }

    if (node->current) {
        for (n = &node->current->nodes; *n != node; n = &(*n)->next) {
            /* void */
        }

        *n = node->next;
    }

    node->current = custom;

    if (custom) {
        node->next = custom->nodes;
        custom->nodes = node;
    }

    ngx_memcpy(node->parent_id, custom ? custom->span_id : node->span_id,
               sizeof(node->parent_id));
}


void
ngx_http_trace_span_set(ngx_http_trace_span_t span,
    const ngx_http_trace_api_attribute_t *attributes, ngx_uint_t n)
{
    ngx_uint_t                i;
    ngx_http_trace_custom_t  *custom;

    custom = ngx_http_trace_find_span(span);

    if (custom == NULL || custom->child.end) {
        return;
    }

    if (custom->ctx->events) {
        ngx_http_trace_custom_set_announced(custom, attributes, n);
        return;
    }

    for (i = 0; i < n; i++) {
        (void) ngx_http_trace_custom_set(custom, &attributes[i]);
    }
}


/* returns 1, or 0 for one that is dropped */

static ngx_inline ngx_uint_t
ngx_http_trace_custom_set(ngx_http_trace_custom_t *custom,
    const ngx_http_trace_api_attribute_t *attr)
{
    u_char  *pos;

    if (!ngx_http_trace_api_key(attr)) {
        custom->out.dropped_attributes++;
        return 0;
    }

    if (custom->attributes
        && otlp_span_forget(&custom->out, (const char *) attr->key,
                            attr->key_len))
    {
        custom->attributes--;
    }

    if (custom->attributes == NGX_HTTP_TRACE_API_ATTRIBUTES_MAX) {
        custom->out.dropped_attributes++;
        return 0;
    }

    ngx_http_trace_custom_room(custom, ngx_http_trace_api_size(attr));

    pos = custom->out.pos;
    ngx_http_trace_api_write(&custom->out, attr);

    if (custom->out.pos == pos) {
        return 0;
    }

    custom->attributes++;

    return 1;
}


static void
ngx_http_trace_custom_set_announced(ngx_http_trace_custom_t *custom,
    const ngx_http_trace_api_attribute_t *attributes, ngx_uint_t n)
{
    size_t                          size;
    ngx_uint_t                      i, set;
    ngx_http_trace_api_attribute_t  accepted[
                                           NGX_HTTP_TRACE_API_ATTRIBUTES_MAX];

    size = 0;
    set = 0;

    for (i = 0; i < n; i++) {
        if (ngx_http_trace_custom_set(custom, &attributes[i])
            && set < NGX_HTTP_TRACE_API_ATTRIBUTES_MAX)
        {
            accepted[set++] = attributes[i];
            size += ngx_http_trace_api_size(&attributes[i]);
        }
    }

    if (set) {
        ngx_http_trace_events_attributes(custom->ctx, &custom->child, accepted,
                                         set, size);
    }
}


/* those whose names are right */

void
ngx_http_trace_custom_attributes(otlp_span_t *record,
    const ngx_http_trace_api_attribute_t *attributes, ngx_uint_t n)
{
    ngx_uint_t  i;

    for (i = 0; i < n; i++) {

        if (i < NGX_HTTP_TRACE_API_ATTRIBUTES_MAX
            && ngx_http_trace_api_key(&attributes[i]))
        {
            ngx_http_trace_api_write(record, &attributes[i]);

        } else {
            record->dropped_attributes++;
        }
    }
}


void
ngx_http_trace_span_event(ngx_http_trace_span_t span, const u_char *name,
    size_t len, const ngx_http_trace_api_attribute_t *attributes, ngx_uint_t n)
{
    size_t                    size;
    u_char                   *pos;
    ngx_uint_t                i;
    otlp_span_t               event;
    ngx_http_trace_custom_t  *custom;

    custom = ngx_http_trace_find_span(span);

    if (custom == NULL || custom->child.end) {
        return;
    }

    if (len == 0 || custom->events == NGX_HTTP_TRACE_API_EVENTS_MAX) {
        custom->out.dropped_events++;
        return;
    }

    len = ngx_http_trace_name_cut(name, len);

    size = 2 * NGX_HTTP_TRACE_CUSTOM_FRAME + 3 * len;

    for (i = 0; i < n && i < NGX_HTTP_TRACE_API_ATTRIBUTES_MAX; i++) {
        size += ngx_http_trace_api_size(&attributes[i]);
    }

    ngx_http_trace_custom_room(custom, size);

    pos = custom->out.pos;

    otlp_span_event_begin(&event, &custom->out, ngx_http_trace_now(custom->ctx),
                          (const char *) name, len);

    ngx_http_trace_custom_attributes(&event, attributes, n);

    otlp_span_event_end(&custom->out, &event);

    if (custom->out.pos != pos) {
        custom->events++;
    }
}


/*
 * For resty.trace: an event with these attributes, of which users get to know
 * the first one.
 */

void
ngx_http_trace_lua_exception(ngx_http_trace_span_t span,
    const ngx_http_trace_api_attribute_t *attributes, ngx_uint_t n)
{
    size_t                    size;
    u_char                   *p;
    uint64_t                  now;
    ngx_uint_t                i, j;
    otlp_span_t               event, *out;
    ngx_http_trace_custom_t  *custom;

    custom = ngx_http_trace_find_span(span);

    if (custom == NULL || custom->child.end) {
        return;
    }

    size = 2 * NGX_HTTP_TRACE_CUSTOM_FRAME;

    for (i = 0; i < n; i++) {
        size += ngx_http_trace_api_size(&attributes[i]);
    }

    if (custom->ctx->custom_size + size > NGX_HTTP_TRACE_API_REQUEST_MAX) {
        custom->out.dropped_events++;
        return;
    }

    out = ngx_palloc(custom->request->pool,
                     NGX_HTTP_TRACE_PIPELINES * (sizeof(otlp_span_t) + size));
    if (out == NULL) {
        return;
    }

    custom->ctx->custom_size += size;

    p = (u_char *) &out[NGX_HTTP_TRACE_PIPELINES];
    now = ngx_http_trace_now(custom->ctx);

    for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++) {

        otlp_span_attributes_begin(&out[i], p + i * size, size);
        otlp_span_event_begin(&event, &out[i], now,
                              ngx_http_trace_key("exception"));

        for (j = 0; j < (i == NGX_HTTP_TRACE_USER ? 1 : n); j++) {
            ngx_http_trace_api_write(&event, &attributes[j]);
        }

        otlp_span_event_end(&out[i], &event);
    }

    custom->exception = out;
}


/* for |size| bytes more; without it, what is written is dropped and counted */

static ngx_inline void
ngx_http_trace_custom_room(ngx_http_trace_custom_t *custom, size_t size)
{
    if (size > (size_t) (custom->out.end - custom->out.pos)) {
        ngx_http_trace_custom_grow(custom, size);
    }
}


static void
ngx_http_trace_custom_grow(ngx_http_trace_custom_t *custom, size_t size)
{
    size_t   used, grown;
    u_char  *p, *start;

    used = custom->out.pos - custom->out.start;

    grown = 2 * custom->size;

    while (grown < used + size && grown < NGX_HTTP_TRACE_API_SIZE_MAX) {
        grown *= 2;
    }

    if (grown > NGX_HTTP_TRACE_API_SIZE_MAX
        || custom->ctx->custom_size + grown - custom->size
           > NGX_HTTP_TRACE_API_REQUEST_MAX)
    {
        return;
    }

    p = ngx_http_trace_alloc(custom->request, custom->ctx, grown);
    if (p == NULL) {
        return;
    }

    start = custom->out.start;

    otlp_span_move(&custom->out, p, grown);

    if (start != custom->room) {
        (void) ngx_pfree(custom->request->pool, start);
    }

    custom->ctx->custom_size += grown - custom->size;
    custom->size = grown;
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


static ngx_inline ngx_uint_t
ngx_http_trace_api_key(const ngx_http_trace_api_attribute_t *attr)
{
    size_t    i, last;
    uint64_t  bytes, wrong;

    if (attr->key_len < 8 || attr->key_len > NGX_HTTP_TRACE_API_KEY_MAX) {
        return ngx_http_trace_api_short_key(attr);
    }

    /* eight bytes at a time, the last eight in any case */

    last = attr->key_len - 8;
    wrong = 0;
    i = 0;

    for ( ;; ) {
        ngx_memcpy(&bytes, attr->key + i, 8);

        /* a byte below 0x21 borrows from its top bit, 0x7f carries into it */

        wrong |= (bytes - 0x2121212121212121) | (bytes + 0x0101010101010101)
                 | bytes;

        if (i == last) {
            break;
        }

        i = ngx_min(i + 8, last);
    }

    return (wrong & 0x8080808080808080) == 0;
}


static ngx_uint_t
ngx_http_trace_api_short_key(const ngx_http_trace_api_attribute_t *attr)
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


void
ngx_http_trace_span_rename(ngx_http_trace_span_t span, const u_char *name,
    size_t len)
{
    traceparent_view_t        view;
    ngx_http_trace_custom_t  *custom;

    custom = ngx_http_trace_find_span(span);

    if (custom == NULL || custom->child.end) {
        return;
    }

    view.data = name;
    view.len = ngx_http_trace_name_cut(name, len);

    if (view.len == 0
        || (view.len == custom->name_len
            && ngx_memcmp(view.data, custom->name, view.len) == 0))
    {
        return;
    }

    ngx_http_trace_custom_name(custom, name, len);

    if (custom->ctx->events) {
        ngx_http_trace_events_rename(custom->ctx, &custom->child, &view);
    }
}


static void
ngx_http_trace_custom_name(ngx_http_trace_custom_t *custom, const u_char *name,
    size_t len)
{
    if (len) {
        custom->name_len = ngx_http_trace_name_cut(name, len);
        ngx_memcpy(custom->name, name, custom->name_len);
    }
}


/* not in the middle of a character */

size_t
ngx_http_trace_name_cut(const u_char *name, size_t len)
{
    if (len <= NGX_HTTP_TRACE_API_NAME_MAX) {
        return len;
    }

    len = NGX_HTTP_TRACE_API_NAME_MAX;

    while (len > NGX_HTTP_TRACE_API_NAME_MAX - 3 && (name[len] & 0xc0) == 0x80)
    {
        len--;
    }

    return len;
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
    if (span != NGX_HTTP_TRACE_NO_SPAN) {
        ngx_http_trace_close_now(span);
    }
}


static void
ngx_http_trace_close_now(ngx_http_trace_span_t span)
{
    ngx_http_trace_custom_t  *custom;

    custom = ngx_http_trace_find_span(span);

    if (custom == NULL || custom->child.end) {
        return;
    }

    ngx_http_trace_custom_close(custom, ngx_http_trace_now(custom->ctx));
}


static void
ngx_http_trace_custom_close(ngx_http_trace_custom_t *custom, uint64_t end)
{
    custom->child.end = end;

    if (custom->ctx->events) {
        ngx_http_trace_events_close(custom->ctx, &custom->child, end);
    }

    while (custom->nodes) {
        ngx_http_trace_custom_current(custom->nodes, custom->outer);
    }
}


/* what a request or subrequest has left open when it ended; NULL: all */

void
ngx_http_trace_customs_close(ngx_http_trace_ctx_t *ctx, ngx_http_request_t *r,
    uint64_t end)
{
    ngx_http_trace_custom_t  *custom;

    for (custom = ctx->customs; custom; custom = custom->next) {

        if (custom->child.end == 0 && (r == NULL || custom->request == r)) {
            ngx_http_trace_custom_close(custom, end);
        }
    }
}


ngx_uint_t
ngx_http_trace_span_alive(ngx_http_request_t *r, ngx_http_trace_span_t span)
{
    ngx_http_trace_custom_t  *custom;

    custom = ngx_http_trace_find_span(span);

    return custom && !custom->child.end
           && custom->ctx == ngx_http_trace_get_ctx(r);
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


static otlp_span_t *
ngx_http_trace_custom_out(ngx_http_trace_child_t *child)
{
    ngx_http_trace_custom_t *custom = (ngx_http_trace_custom_t *) child;

    return custom->attributes ? &custom->out : NULL;
}


static int
ngx_http_trace_custom_status(ngx_http_trace_child_t *child, u_char *buf,
    ngx_str_t *error)
{
    ngx_http_trace_custom_t *custom = (ngx_http_trace_custom_t *) child;

    return custom->status;
}


static int
ngx_http_trace_custom_write(void *data, ngx_uint_t pipeline,
    otlp_span_t *span)
{
    ngx_http_trace_custom_t *custom = data;

    otlp_span_append(span, &custom->out);

    if (custom->exception) {
        otlp_span_append(span, &custom->exception[pipeline]);
    }

    return custom->status;
}
