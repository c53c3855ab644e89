
/*
 * What resty.trace needs beside the API; it calls these functions by FFI.
 *
 * A light thread is told by the address of its context in Lua's module, which
 * no other thread of the request has.  The thread that handles a phase has the
 * current span of the request or subrequest; each that is begun in another has
 * its own.
 */


#include "ngx_http_trace_module.h"


/* ngx_http_trace_lua_open(): what becomes of the span */
#define NGX_HTTP_TRACE_LUA_START      0
#define NGX_HTTP_TRACE_LUA_ACTIVATE   1
#define NGX_HTTP_TRACE_LUA_ENTER      2


typedef struct ngx_http_trace_lua_thread_s  ngx_http_trace_lua_thread_t;
typedef struct ngx_http_trace_lua_scope_s  ngx_http_trace_lua_scope_t;
typedef struct ngx_http_trace_lua_capture_s  ngx_http_trace_lua_capture_t;


struct ngx_http_trace_lua_thread_s {
    ngx_http_trace_lua_thread_t     *next;
    void                            *thread;
    ngx_http_trace_span_t            current;
};


/* a function that runs in a span */

struct ngx_http_trace_lua_scope_s {
    ngx_http_trace_lua_scope_t      *next;
    ngx_http_request_t              *request;
    void                            *thread;
    ngx_http_trace_span_t            span;
    ngx_http_trace_span_t            before;
};


/* a subrequest that has not begun, and what it will hang below */

struct ngx_http_trace_lua_capture_s {
    ngx_http_trace_lua_capture_t    *next;
    ngx_http_request_t              *request;
    u_char                          *parent_id[NGX_HTTP_TRACE_PIPELINES];
};


struct ngx_http_trace_lua_s {
    ngx_http_trace_lua_thread_t     *threads;
    ngx_http_trace_lua_thread_t     *ended;      /* to be used again */
    ngx_uint_t                       threads_n;
    ngx_http_trace_lua_scope_t      *scopes;
    ngx_http_trace_lua_capture_t    *captures;
    ngx_http_request_t              *request;    /* whose next subrequests */
    u_char                          *parent_id[NGX_HTTP_TRACE_PIPELINES];
                                                 /* hang below that */
};


static ngx_http_trace_lua_t *ngx_http_trace_lua(ngx_http_request_t *r);
static ngx_http_trace_lua_t *ngx_http_trace_lua_own(ngx_http_request_t *r);
static ngx_http_trace_lua_thread_t *ngx_http_trace_lua_thread(
    ngx_http_request_t *r, void *thread);
static ngx_http_trace_span_t ngx_http_trace_lua_switch(ngx_http_request_t *r,
    void *thread, ngx_http_trace_span_t span);
static void ngx_http_trace_lua_keep(ngx_http_request_t *r,
    ngx_http_trace_ctx_t *ctx);
static void ngx_http_trace_lua_keep_one(ngx_http_request_t *sr,
    ngx_http_trace_ctx_t *ctx);


/* NULL if no light thread of the request has used it */

static ngx_http_trace_lua_t *
ngx_http_trace_lua(ngx_http_request_t *r)
{
    ngx_http_trace_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r->main, ngx_http_trace_module);

    return ctx ? ctx->lua : NULL;
}


static ngx_http_trace_lua_t *
ngx_http_trace_lua_own(ngx_http_request_t *r)
{
    ngx_http_trace_ctx_t  *ctx;

    ctx = ngx_http_trace_own_ctx(r);

    if (ctx == NULL) {
        return NULL;
    }

    if (ctx->lua == NULL) {
        ctx->lua = ngx_pcalloc(r->pool, sizeof(ngx_http_trace_lua_t));
    }

    return ctx->lua;
}


static ngx_http_trace_lua_thread_t *
ngx_http_trace_lua_thread(ngx_http_request_t *r, void *thread)
{
    ngx_http_trace_lua_t         *lua;
    ngx_http_trace_lua_thread_t  *t;

    lua = ngx_http_trace_lua(r);

    if (lua == NULL) {
        return NULL;
    }

    for (t = lua->threads; t; t = t->next) {
        if (t->thread == thread) {
            return t;
        }
    }

    return NULL;
}


/* makes a span current in a thread, and returns the one that was */

static ngx_http_trace_span_t
ngx_http_trace_lua_switch(ngx_http_request_t *r, void *thread,
    ngx_http_trace_span_t span)
{
    ngx_http_trace_span_t         before;
    ngx_http_trace_lua_thread_t  *t;

    t = ngx_http_trace_lua_thread(r, thread);

    if (t == NULL) {
        return ngx_http_trace_span_current(r, span);
    }

    before = t->current;
    t->current = span;

    return before;
}


/*
 * Opens a span below the current one of a thread.  If it is entered, it is
 * current until ngx_http_trace_lua_leave(); if it is activated, until closed.
 */

ngx_http_trace_span_t
ngx_http_trace_lua_open(ngx_http_request_t *r, void *thread,
    const u_char *name, size_t len, ngx_uint_t pipelines, ngx_uint_t how)
{
    ngx_http_trace_lua_t         *lua;
    ngx_http_trace_span_t         span, before;
    ngx_http_trace_lua_scope_t   *scope;
    ngx_http_trace_lua_thread_t  *t;

    t = ngx_http_trace_lua_thread(r, thread);

    if (t) {
        before = ngx_http_trace_span_current(r, t->current);
        span = ngx_http_trace_span_open(r, NGX_HTTP_TRACE_NO_SPAN, name, len,
                                        pipelines);
        (void) ngx_http_trace_span_current(r, before);

    } else {
        span = ngx_http_trace_span_open(r, NGX_HTTP_TRACE_NO_SPAN, name, len,
                                        pipelines);
    }

    if (span == NGX_HTTP_TRACE_NO_SPAN || how == NGX_HTTP_TRACE_LUA_START) {
        return span;
    }

    before = ngx_http_trace_lua_switch(r, thread, span);

    if (how == NGX_HTTP_TRACE_LUA_ACTIVATE) {
        return span;
    }

    lua = ngx_http_trace_lua_own(r);
    scope = lua ? ngx_palloc(r->pool, sizeof(ngx_http_trace_lua_scope_t))
                : NULL;

    if (scope == NULL) {
        ngx_http_trace_span_close(span);
        return NGX_HTTP_TRACE_NO_SPAN;
    }

    scope->request = r;
    scope->thread = thread;
    scope->span = span;
    scope->before = before;

    scope->next = lua->scopes;
    lua->scopes = scope;

    return span;
}


/*
 * Closes a span that was entered, and makes that current again which was; with
 * 0, all of them: the threads of |r| end here.
 */

void
ngx_http_trace_lua_leave(ngx_http_request_t *r, ngx_http_trace_span_t span)
{
    ngx_http_trace_lua_t         *lua;
    ngx_http_trace_lua_scope_t  **next, *scope;

    lua = ngx_http_trace_lua(r);

    if (lua == NULL) {
        return;
    }

    for (next = &lua->scopes; *next; /* void */) {

        scope = *next;

        if (scope->request == r
            && (span == NGX_HTTP_TRACE_NO_SPAN || scope->span == span))
        {
            *next = scope->next;

            ngx_http_trace_span_close(scope->span);
            (void) ngx_http_trace_lua_switch(r, scope->thread, scope->before);

            continue;
        }

        next = &scope->next;
    }
}


/* the current span of a thread */

ngx_http_trace_span_t
ngx_http_trace_lua_current(ngx_http_request_t *r, void *thread)
{
    ngx_http_trace_span_t  span;

    span = ngx_http_trace_lua_switch(r, thread, NGX_HTTP_TRACE_NO_SPAN);

    (void) ngx_http_trace_lua_switch(r, thread, span);

    return span;
}


/* a thread that was begun where |span| was current */

void
ngx_http_trace_lua_begin(ngx_http_request_t *r, void *thread,
    ngx_http_trace_span_t span)
{
    ngx_http_trace_lua_t         *lua;
    ngx_http_trace_lua_thread_t  *t;

    lua = ngx_http_trace_lua_own(r);

    /* a request has no more spans than that */

    if (lua == NULL || lua->threads_n == NGX_HTTP_TRACE_CHILDREN_MAX) {
        return;
    }

    t = lua->ended;

    if (t) {
        lua->ended = t->next;

    } else {
        t = ngx_palloc(r->pool, sizeof(ngx_http_trace_lua_thread_t));
        if (t == NULL) {
            return;
        }
    }

    lua->threads_n++;

    t->thread = thread;
    t->current = span;

    t->next = lua->threads;
    lua->threads = t;
}


void
ngx_http_trace_lua_end(ngx_http_request_t *r, void *thread)
{
    ngx_http_trace_lua_t          *lua;
    ngx_http_trace_lua_thread_t  **next, *t;

    lua = ngx_http_trace_lua(r);

    if (lua == NULL) {
        return;
    }

    for (next = &lua->threads; *next; next = &t->next) {

        t = *next;

        if (t->thread == thread) {
            *next = t->next;

            t->next = lua->ended;
            lua->ended = t;
            lua->threads_n--;

            return;
        }
    }
}


/*
 * Called before a thread begins subrequests (|begin|), and when they are over.
 * They begin when it has yielded, and perhaps others have run meanwhile.
 */

void
ngx_http_trace_lua_capture(ngx_http_request_t *r, void *thread,
    ngx_uint_t begin)
{
    ngx_http_trace_lua_t         *lua;
    ngx_http_trace_ctx_t         *ctx;
    ngx_http_trace_span_t         before;
    ngx_http_trace_node_t        *node;
    ngx_http_trace_lua_thread_t  *t;

    lua = ngx_http_trace_lua(r);

    if (lua == NULL) {
        return;
    }

    ctx = ngx_http_get_module_ctx(r->main, ngx_http_trace_module);

    if (ctx->decided && !ctx->recorded) {
        return;
    }

    ngx_http_trace_lua_keep(r, ctx);

    lua->request = NULL;

    t = ngx_http_trace_lua_thread(r, thread);
    node = ngx_http_trace_node(r, ctx);

    if (!begin || t == NULL || node == NULL) {
        return;
    }

    before = ngx_http_trace_span_current(r, t->current);

    lua->request = r;
    ngx_memcpy(lua->parent_id, node->parent_id, sizeof(node->parent_id));

    (void) ngx_http_trace_span_current(r, before);
}


/* what will be the parent of subrequests that are about to begin */

static void
ngx_http_trace_lua_keep(ngx_http_request_t *r, ngx_http_trace_ctx_t *ctx)
{
    ngx_http_posted_request_t  *posted;

    for (posted = r->main->posted_requests; posted; posted = posted->next) {

        if (posted->request != r->main
            && ngx_http_get_module_ctx(posted->request, ngx_http_trace_module)
               == NULL)
        {
            ngx_http_trace_lua_keep_one(posted->request, ctx);
        }
    }
}


static void
ngx_http_trace_lua_keep_one(ngx_http_request_t *sr, ngx_http_trace_ctx_t *ctx)
{
    u_char                        **parent_id;
    ngx_http_trace_node_t          *node;
    ngx_http_trace_lua_capture_t   *capture;

    for (capture = ctx->lua->captures; capture; capture = capture->next) {
        if (capture->request == sr) {
            return;
        }
    }

    parent_id = ngx_http_trace_lua_parent(sr, ctx);

    if (parent_id == NULL) {
        node = ngx_http_trace_node(sr->parent, ctx);

        if (node == NULL) {
            return;
        }

        parent_id = node->parent_id;
    }

    capture = ngx_palloc(sr->pool, sizeof(ngx_http_trace_lua_capture_t));
    if (capture == NULL) {
        return;
    }

    capture->request = sr;
    ngx_memcpy(capture->parent_id, parent_id, sizeof(capture->parent_id));

    capture->next = ctx->lua->captures;
    ctx->lua->captures = capture;
}


/* the parent of a subrequest that begins, or NULL: what is current */

u_char **
ngx_http_trace_lua_parent(ngx_http_request_t *sr, ngx_http_trace_ctx_t *ctx)
{
    ngx_http_trace_lua_t          *lua;
    ngx_http_trace_lua_capture_t  *capture;

    lua = ctx->lua;

    if (lua == NULL) {
        return NULL;
    }

    for (capture = lua->captures; capture; capture = capture->next) {
        if (capture->request == sr) {
            return capture->parent_id;
        }
    }

    return lua->request == sr->parent ? lua->parent_id : NULL;
}
