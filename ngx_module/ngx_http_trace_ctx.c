
/*
 * The request's context: found, created, found again after an internal
 * redirect; its clock, its ids, its place in the tree and its children.
 */


#include "ngx_http_trace_module.h"


/* contexts kept for later, and whether there is room in them for the rest */
#if (NGX_DEBUG_PALLOC)
#define NGX_HTTP_TRACE_FREE_MAX       0
#define NGX_HTTP_TRACE_IN_CTX         0
#else
#define NGX_HTTP_TRACE_FREE_MAX       512
#define NGX_HTTP_TRACE_IN_CTX         1
#endif


static ngx_http_trace_ctx_t *ngx_http_trace_new_ctx(ngx_http_request_t *r);
static void ngx_http_trace_cleanup(void *data);
static ngx_uint_t ngx_http_trace_hop_status(ngx_http_request_t *r,
    ngx_http_trace_node_t *node);
static void ngx_http_trace_answered(ngx_http_request_t *r,
    ngx_http_trace_ctx_t *ctx);
static uint64_t ngx_http_trace_clock(clockid_t id);


/* what a request has that records nothing: decided, shared, never written */
ngx_http_trace_ctx_t  ngx_http_trace_untraced = { .decided = 1 };

static traceparent_ids_t     ngx_http_trace_random;

/* contexts of requests that are over, to be used again */
static ngx_http_trace_ctx_t  *ngx_http_trace_free;
static ngx_uint_t             ngx_http_trace_free_n;


ngx_http_trace_ctx_t *
ngx_http_trace_get_ctx(ngx_http_request_t *r)
{
    ngx_http_trace_ctx_t  *ctx;

    r = r->main;

    ctx = ngx_http_get_module_ctx(r, ngx_http_trace_module);

    if (ctx == NULL && (r->internal || r->filter_finalize)) {

        /*
         * An internal redirect has cleared the module contexts.  What was not
         * to be recorded is asked again in the new location, as it is where
         * there was nothing to find again.
         */

        ctx = ngx_http_trace_find_ctx(r);

        if (ctx) {
            ctx->decided = 0;
            ngx_http_set_ctx(r, ctx, ngx_http_trace_module);
        }
    }

    return ctx;
}


/* the cleanup knows it, whatever has become of the module contexts */

ngx_http_trace_ctx_t *
ngx_http_trace_find_ctx(ngx_http_request_t *r)
{
    ngx_pool_cleanup_t  *cln;

    for (cln = r->pool->cleanup; cln; cln = cln->next) {
        if (cln->handler == ngx_http_trace_cleanup) {
            return cln->data;
        }
    }

    return NULL;
}


ngx_http_trace_ctx_t *
ngx_http_trace_create_ctx(ngx_http_request_t *r)
{
    uint64_t                    now, monotonic;
    ngx_uint_t                  i;
    ngx_time_t                 *tp;
    ngx_http_trace_ctx_t       *ctx;
    ngx_http_trace_span_ctx_t  *sc;

    r = r->main;

    ctx = ngx_http_trace_new_ctx(r);
    if (ctx == NULL) {
        return NULL;
    }

    /* most of it is only read with a flag that says that it was written */

    ctx->decided = 0;
    ctx->settled = 0;
    ctx->ours = 0;
    ctx->sent = 0;
    ctx->edits = 0;
    ctx->recorded = 0;
    ctx->events = 0;
    ctx->withheld[NGX_HTTP_TRACE_NOT_BELIEVED] = 0;
    ctx->withheld[NGX_HTTP_TRACE_NOT_MEANT] = 0;
    ctx->given_back = 0;
    ctx->background = 0;
    ctx->end = 0;
    ctx->children = NULL;
    ctx->last_child = NULL;
    ctx->children_n = 0;
    ctx->upstreams = NULL;
    ctx->customs = NULL;
    ctx->custom_size = 0;
    ctx->lua = NULL;
    ctx->log_handler = NULL;
    ctx->used = 0;
    ctx->loc_conf = r->loc_conf;
    ctx->facts = NULL;

    ngx_http_trace_init_node(&ctx->node);

    for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++) {
        sc = &ctx->pipelines[i];

        ctx->too_many[i] = 0;

        sc->extracted = NULL;
        sc->active = NULL;
        sc->parent = 0;
        sc->stateless = 0;
        sc->ids = 0;
        sc->formatted = 0;
        sc->queued = 0;
        sc->tracestate.len = 0;

        ctx->node.span_id[i] = sc->outbound.parent_id;
        ctx->node.parent_id[i] = sc->outbound.parent_id;
    }

    /* in this order: a pause between the two makes no span end too early */

    monotonic = ngx_http_trace_clock(CLOCK_MONOTONIC);
    now = ngx_http_trace_clock(CLOCK_REALTIME);

    ctx->start = now;
    ctx->clock = now - monotonic;

    /*
     * nginx's own time stands still within a turn of the event loop: it is
     * only better than ours if the request began in an earlier turn
     */

    tp = ngx_timeofday();

    if (r->start_sec != tp->sec || r->start_msec != tp->msec) {
        ctx->start = (uint64_t) r->start_sec * 1000000000
                     + (uint64_t) r->start_msec * 1000000;
        ctx->start = ngx_min(ctx->start, now);
    }

    ngx_http_set_ctx(r, ctx, ngx_http_trace_module);

    return ctx;
}


/* one that is free, or a new one; the cleanup gives it back */

static ngx_http_trace_ctx_t *
ngx_http_trace_new_ctx(ngx_http_request_t *r)
{
    ngx_pool_cleanup_t    *cln;
    ngx_http_trace_ctx_t  *ctx;

    cln = ngx_pool_cleanup_add(r->pool, 0);
    if (cln == NULL) {
        return NULL;
    }

    ctx = ngx_http_trace_free;

    if (ctx) {
        ngx_http_trace_free = ctx->free;
        ngx_http_trace_free_n--;

    } else {
        ctx = ngx_alloc(sizeof(ngx_http_trace_ctx_t), r->connection->log);
        if (ctx == NULL) {
            return NULL;
        }
    }

    cln->handler = ngx_http_trace_cleanup;
    cln->data = ctx;

    return ctx;
}


ngx_http_trace_ctx_t *
ngx_http_trace_set_untraced(ngx_http_request_t *r)
{
    ngx_http_set_ctx(r->main, &ngx_http_trace_untraced, ngx_http_trace_module);

    return &ngx_http_trace_untraced;
}


ngx_http_trace_ctx_t *
ngx_http_trace_own_ctx(ngx_http_request_t *r)
{
    ngx_uint_t             decided;
    ngx_http_trace_ctx_t  *ctx;

    ctx = ngx_http_trace_get_ctx(r);

    if (ctx && ctx != &ngx_http_trace_untraced) {
        return ctx;
    }

    decided = (ctx != NULL);

    ctx = ngx_http_trace_create_ctx(r);

    if (ctx) {
        ctx->decided = decided;
    }

    return ctx;
}


void
ngx_http_trace_init_node(ngx_http_trace_node_t *node)
{
    node->current = NULL;
    node->located = NGX_HTTP_TRACE_NO_SPAN;
    node->upstream = NULL;
    node->hops = NULL;
    node->last_hop = &node->hops;
    node->uri_changes = NGX_HTTP_MAX_URI_CHANGES + 1;
    node->err_status = 0;
}


/* of a recorded request; NULL without memory */

ngx_http_trace_node_t *
ngx_http_trace_node(ngx_http_request_t *r, ngx_http_trace_ctx_t *ctx)
{
    ngx_http_trace_node_t  *node;

    if (r == r->main) {
        return &ctx->node;
    }

    node = ngx_http_get_module_ctx(r, ngx_http_trace_module);

    return node ? node : ngx_http_trace_subrequest_node(r, ctx);
}


/* notes that a request has entered its location by a redirect */

void
ngx_http_trace_hop(ngx_http_request_t *r, ngx_http_trace_ctx_t *ctx,
    ngx_http_trace_node_t *node)
{
    ngx_http_trace_hop_t  *hop;

    node->uri_changes = r->uri_changes;

    /* a cycle that nginx has refused to follow further */

    if (r->uri_changes == 0) {
        return;
    }

    ngx_http_trace_upstreams_settle(ctx, r);

    if (node->located) {
        ngx_http_trace_leave(r, node);
    }

    if (ctx->events && r == r->main) {
        ngx_http_trace_events_redirected(ctx);
    }

    if (r->post_action && r == r->main && ctx->facts == NULL) {
        ngx_http_trace_answered(r, ctx);
    }

    hop = ngx_http_trace_alloc(r, ctx, sizeof(ngx_http_trace_hop_t));
    if (hop == NULL) {
        return;
    }

    hop->next = NULL;
    hop->location = ngx_http_get_module_loc_conf(r, ngx_http_trace_module);
    hop->path = r->uri;
    hop->status = ngx_http_trace_hop_status(r, node);
    hop->time = r->post_action ? ctx->end : ngx_http_trace_now(ctx);

    *node->last_hop = hop;
    node->last_hop = &hop->next;
}


/*
 * The status that error_page answers with, if it has made this redirect and
 * not one before.
 */

static ngx_uint_t
ngx_http_trace_hop_status(ngx_http_request_t *r, ngx_http_trace_node_t *node)
{
    if (r->err_status == node->err_status) {
        return 0;
    }

    node->err_status = r->err_status;

    return r->err_status >= NGX_HTTP_SPECIAL_RESPONSE ? r->err_status : 0;
}


/* post_action: the client has its response, and the request goes on */

static void
ngx_http_trace_answered(ngx_http_request_t *r, ngx_http_trace_ctx_t *ctx)
{
    ngx_uint_t  version;

    if (ctx->end == 0) {
        ctx->end = ngx_http_trace_now(ctx);
    }

    ctx->facts = ngx_palloc(r->pool, sizeof(ngx_http_trace_facts_t));
    if (ctx->facts == NULL) {
        return;
    }

    /* nginx has written another over it, to have no header sent again */

    version = r->http_version;

    if (r->http_protocol.len == sizeof("HTTP/1.1") - 1) {
        r->http_version = (r->http_protocol.data[5] - '0') * 1000
                          + r->http_protocol.data[7] - '0';
    }

    ngx_http_trace_facts(r, ctx, ctx->facts);

    r->http_version = version;
}


/*
 * A span below that of |parent|, begun now: |size| bytes, of which the first
 * are a ngx_http_trace_child_t, and the others are zero, and |room| bytes more.
 * The caller gives it its ids and its type.  NULL without memory, and where
 * there are too many.
 */

void *
ngx_http_trace_child(ngx_http_request_t *r, ngx_http_trace_ctx_t *ctx,
    ngx_http_trace_node_t *parent, ngx_uint_t pipelines, size_t size,
    size_t room)
{
    ngx_uint_t               i;
    ngx_http_trace_child_t  *child;

    if (ctx->children_n == NGX_HTTP_TRACE_CHILDREN_MAX) {
        ngx_http_trace_drop_child(ctx, pipelines);
        return NULL;
    }

    child = ngx_http_trace_alloc(r, ctx, size + room);
    if (child == NULL) {
        return NULL;
    }

    ngx_memzero(child + 1, size - sizeof(ngx_http_trace_child_t));

    for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++) {
        child->parent_id[i] = parent->parent_id[i];
        child->announced[i] = NULL;
    }

    child->next = NULL;
    child->pipelines = pipelines;
    child->start = ngx_http_trace_now(ctx);
    child->end = 0;

    child->previous = ctx->last_child;

    if (ctx->last_child) {
        ctx->last_child->next = child;

    } else {
        ctx->children = child;
    }

    ctx->last_child = child;
    ctx->children_n++;

    return child;
}


uint64_t
ngx_http_trace_now(ngx_http_trace_ctx_t *ctx)
{
    return ctx->clock + ngx_http_trace_clock(CLOCK_MONOTONIC);
}


ngx_int_t
ngx_http_trace_ids(ngx_http_trace_span_ctx_t *sc)
{
    int  rc;

    if (sc->ids) {
        return NGX_OK;
    }

    if (sc->parent) {
        rc = traceparent_child(&sc->outbound, &sc->inbound,
                               &ngx_http_trace_random, 1);

    } else {
        rc = traceparent_new(&sc->outbound, &ngx_http_trace_random, 1);
    }

    if (rc != 0) {
        return NGX_ERROR;
    }

    sc->ids = 1;

    return NGX_OK;
}


/* one that is too much: counted with the request's spans, if it has any */

void
ngx_http_trace_drop_child(ngx_http_trace_ctx_t *ctx, ngx_uint_t pipelines)
{
    ngx_uint_t  i;

    for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++) {
        if (pipelines & (1 << i)) {
            ctx->too_many[i]++;
        }
    }
}


/* new ids for these pipelines' spans */

ngx_int_t
ngx_http_trace_span_ids(ngx_http_trace_span_ids_t ids, ngx_uint_t pipelines)
{
    ngx_uint_t  i;

    for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++) {
        if ((pipelines & (1 << i))
            && traceparent_ids_span(&ngx_http_trace_random, ids[i]) != 0)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/* the request span's: TRACEPARENT_LEN bytes, always the same ones */

u_char *
ngx_http_trace_text(ngx_http_trace_span_ctx_t *sc)
{
    if (!sc->formatted) {
        traceparent_format(sc->text, &sc->outbound);
        sc->formatted = 1;
    }

    return sc->text;
}


/* the same of what is current in it or a subrequest; NULL without memory */

u_char *
ngx_http_trace_node_text(ngx_http_request_t *r, ngx_http_trace_span_ctx_t *sc,
    ngx_http_trace_node_t *node, ngx_uint_t pipeline)
{
    u_char  *text;

    if (node->parent_id[pipeline] == sc->outbound.parent_id) {
        return ngx_http_trace_text(sc);
    }

    text = ngx_pnalloc(r->pool, TRACEPARENT_LEN);

    if (text) {
        ngx_http_trace_format(sc, node->parent_id[pipeline], text);
    }

    return text;
}


/* the request span's with another span of the trace */

void
ngx_http_trace_format(ngx_http_trace_span_ctx_t *sc, u_char *span_id,
    u_char *text)
{
    traceparent_t  traceparent;

    traceparent = sc->outbound;
    ngx_memcpy(traceparent.parent_id, span_id, TRACEPARENT_SPAN_ID_SIZE);

    traceparent_format(text, &traceparent);
}


/*
 * The address of the connection's peer, and its port if |port| is not NULL,
 * also where realip has put the client's in their place; then NGX_DONE is
 * returned, else NGX_OK.
 */

ngx_int_t
ngx_http_trace_socket_peer(ngx_http_request_t *r, ngx_str_t *addr,
    ngx_int_t *port)
{
    ngx_http_variable_t         *var;
    ngx_http_variable_value_t    v;
    ngx_http_trace_main_conf_t  *tmcf;

    tmcf = ngx_http_get_module_main_conf(r, ngx_http_trace_module);
    var = tmcf->realip_addr;

    /* not as a variable of the request: a value kept now may be old later */

    if (var && var->get_handler(r, &v, var->data) == NGX_OK
        && v.data != r->connection->addr_text.data)
    {
        addr->len = v.len;
        addr->data = v.data;

        var = tmcf->realip_port;

        if (port && var->get_handler(r, &v, var->data) == NGX_OK) {
            *port = ngx_atoi(v.data, v.len);
        }

        return NGX_DONE;
    }

    *addr = r->connection->addr_text;

    if (port) {
        *port = ngx_inet_get_port(r->connection->sockaddr);
    }

    return NGX_OK;
}


/*
 * Memory that lives as long as the request.  What most requests need has its
 * place in the context, and takes nothing of nginx's pool.  NULL without
 * memory.
 */

void *
ngx_http_trace_alloc(ngx_http_request_t *r, ngx_http_trace_ctx_t *ctx,
    size_t size)
{
    u_char  *p;

    /* a sanitizer is to see what is used too late, or one byte too far */

    if (!NGX_HTTP_TRACE_IN_CTX) {
        return ngx_palloc(r->pool, size);
    }

    size = ngx_align(size, NGX_ALIGNMENT);

    if (size > sizeof(ctx->room) - ctx->used) {
        return ngx_palloc(r->pool, size);
    }

    p = ctx->room + ctx->used;
    ctx->used += size;

    return p;
}


/* also what the context is found by, see ngx_http_trace_find_ctx() */

static void
ngx_http_trace_cleanup(void *data)
{
    ngx_http_trace_ctx_t *ctx = data;

    ngx_uint_t                i;
    ngx_http_trace_active_t  *active;

    for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++) {
        active = ctx->pipelines[i].active;

        if (active) {
            ngx_http_trace_exporter_close(i, active);
        }
    }

    if (ctx->customs) {
        ngx_http_trace_customs_end(ctx);
    }

    if (ngx_http_trace_free_n == NGX_HTTP_TRACE_FREE_MAX) {
        ngx_free(ctx);
        return;
    }

    ctx->free = ngx_http_trace_free;
    ngx_http_trace_free = ctx;
    ngx_http_trace_free_n++;
}


static uint64_t
ngx_http_trace_clock(clockid_t id)
{
    /* on the stack, it would have all that read the clock guard theirs */

    static struct timespec  ts;

    (void) clock_gettime(id, &ts);

    return (uint64_t) ts.tv_sec * 1000000000 + ts.tv_nsec;
}
