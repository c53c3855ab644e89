
/*
 * Subrequests: each has a span below that of the request that caused it.
 *
 * nginx tells their end to whoever waits for it, so ours stands before.  The
 * filters are only put in place when a worker sees its first subrequest.
 */


#include "ngx_http_trace_module.h"


typedef struct {
    ngx_http_trace_child_t       child;
    ngx_http_trace_node_t        node;
    ngx_http_trace_ctx_t        *ctx;
    ngx_http_request_t          *request;
    ngx_http_post_subrequest_t   ours;
    ngx_http_post_subrequest_t  *theirs;     /* may be NULL */
} ngx_http_trace_subrequest_t;


typedef struct {
    ngx_str_t                    route;
    ngx_str_t                    path;
    ngx_str_t                    error_type;
    int64_t                      status_code;
    u_char                       error[NGX_INT_T_LEN];
} ngx_http_trace_subrequest_facts_t;


static ngx_http_trace_subrequest_t *ngx_http_trace_subrequest_find(
    ngx_http_request_t *r, ngx_http_trace_ctx_t *ctx);
static ngx_http_trace_subrequest_t *ngx_http_trace_subrequest_begin(
    ngx_http_request_t *r, ngx_http_trace_ctx_t *ctx,
    ngx_http_trace_node_t *parent, ngx_uint_t pipelines);
static void ngx_http_trace_subrequest_ids(ngx_http_trace_subrequest_t *sub,
    ngx_uint_t pipelines);
static ngx_http_trace_node_t *ngx_http_trace_subrequest_without_span(
    ngx_http_request_t *r, ngx_http_trace_ctx_t *ctx,
    ngx_http_trace_node_t *parent);
static ngx_int_t ngx_http_trace_subrequest_end(ngx_http_request_t *r,
    void *data, ngx_int_t rc);
static void ngx_http_trace_subrequest_background(ngx_http_request_t *r,
    ngx_http_trace_ctx_t *ctx);
static void ngx_http_trace_subrequest_filter(void);
static void ngx_http_trace_subrequest_written(ngx_http_request_t *r);
static ngx_int_t ngx_http_trace_subrequest_header_filter(
    ngx_http_request_t *r);
static ngx_int_t ngx_http_trace_subrequest_body_filter(ngx_http_request_t *r,
    ngx_chain_t *in);
static ngx_inline ngx_uint_t ngx_http_trace_subrequest_answer(
    ngx_http_trace_subrequest_t *sub);
static void ngx_http_trace_subrequest_head(ngx_http_trace_child_t *child,
    ngx_uint_t pipeline, otlp_span_head_t *head);
static int ngx_http_trace_subrequest_status(ngx_http_trace_child_t *child,
    u_char *buf, ngx_str_t *error);
static int ngx_http_trace_subrequest_write(void *data, ngx_uint_t pipeline,
    otlp_span_t *span);


static ngx_http_trace_child_type_t  ngx_http_trace_subrequest_type = {
    ngx_http_trace_subrequest_head,
    ngx_http_trace_subrequest_status,
    ngx_http_trace_subrequest_write,
    NULL
};


static ngx_http_trace_semconv_t  ngx_http_trace_subrequest_semconvs[] = {

#define ngx_http_trace_fact(type, name, minimal, field)                       \
    ngx_http_trace_##type(name, minimal, ngx_http_trace_subrequest_facts_t,   \
                          field)

    ngx_http_trace_fact(str, "http.route", 1, route),
    ngx_http_trace_fact(str, "url.path", 0, path),
    ngx_http_trace_fact(str, "error.type", 1, error_type),

    ngx_http_trace_fact(num, "http.response.status_code", 1, status_code),

    ngx_http_trace_null_semconv

#undef ngx_http_trace_fact
};


ngx_http_trace_semconv_lists(ngx_http_trace_subrequest_lists,
                             ngx_http_trace_subrequest_semconvs);


/* NULL until a subrequest is seen */
static ngx_http_output_header_filter_pt  ngx_http_trace_next_header_filter;
static ngx_http_output_body_filter_pt    ngx_http_trace_next_body_filter;


/* called with each new configuration, which has other filters */

void
ngx_http_trace_subrequest_init(void)
{
    ngx_uint_t  i;

    ngx_http_trace_next_header_filter = NULL;
    ngx_http_trace_next_body_filter = NULL;

    for (i = 0; i < NGX_HTTP_TRACE_LEVELS; i++) {
        ngx_http_trace_semconv_list(ngx_http_trace_subrequest_lists[i],
                                    ngx_http_trace_subrequest_semconvs, i);
    }

    ngx_http_trace_semconv_table(ngx_http_trace_subrequest_semconvs);
}


/* the place of a subrequest that has none, or has lost it by a redirect */

ngx_http_trace_node_t *
ngx_http_trace_subrequest_node(ngx_http_request_t *r,
    ngx_http_trace_ctx_t *ctx)
{
    u_char                      **parent_id;
    ngx_http_trace_node_t        *node, *parent, light;
    ngx_http_trace_loc_conf_t    *tlcf;
    ngx_http_trace_subrequest_t  *sub;

    sub = NULL;

    if (r->uri_changes <= NGX_HTTP_MAX_URI_CHANGES || r->filter_finalize) {
        sub = ngx_http_trace_subrequest_find(r, ctx);
        ngx_http_trace_upstreams_settle(ctx, r);
    }

    if (sub == NULL) {
        parent = ngx_http_trace_node(r->parent, ctx);

        if (parent == NULL) {
            return NULL;
        }

        parent_id = ngx_http_trace_lua_parent(r, ctx);

        if (parent_id) {
            ngx_memcpy(light.parent_id, parent_id, sizeof(light.parent_id));
            parent = &light;
        }

        if (r->background) {
            ngx_http_trace_subrequest_background(r, ctx);
        }

        tlcf = ngx_http_get_module_loc_conf(r, ngx_http_trace_module);

        /* trace_span needs to be told of its end */

        if (tlcf->subrequests || tlcf->span) {
            sub = ngx_http_trace_subrequest_begin(r, ctx, parent,
                                     tlcf->subrequests ? ctx->recorded : 0);
        }

        node = sub ? &sub->node
                   : ngx_http_trace_subrequest_without_span(r, ctx,
                                                            parent);

        if (node == NULL) {
            return NULL;
        }

        node->subrequests = tlcf->subrequests;

    } else {
        node = &sub->node;
    }

    ngx_http_set_ctx(r, node, ngx_http_trace_module);

    return node;
}


/*
 * Called when the rewrites of a subrequest are over: an "if" may say otherwise
 * than the location, which was asked when the subrequest entered it.
 */

void
ngx_http_trace_subrequest_settle(ngx_http_request_t *r,
    ngx_http_trace_ctx_t *ctx)
{
    ngx_uint_t                    i;
    ngx_http_trace_node_t        *node;
    ngx_http_trace_loc_conf_t    *tlcf;
    ngx_http_trace_subrequest_t  *sub;

    node = ngx_http_get_module_ctx(r, ngx_http_trace_module);
    tlcf = ngx_http_get_module_loc_conf(r, ngx_http_trace_module);

    if (node == NULL
        || (node->subrequests == tlcf->subrequests && tlcf->span == NULL))
    {
        return;
    }

    node->subrequests = tlcf->subrequests;

    sub = ngx_http_trace_subrequest_find(r, ctx);

    if (sub == NULL) {

        if (tlcf->subrequests || tlcf->span) {
            ngx_http_set_ctx(r, NULL, ngx_http_trace_module);
        }

        return;
    }

    if (tlcf->subrequests) {

        if (sub->child.pipelines == 0) {
            ngx_http_trace_subrequest_ids(sub, ctx->recorded);

            if (ctx->events) {
                ngx_http_trace_events_open(ctx, &sub->child);
            }
        }

        return;
    }

    if (ctx->events) {
        ngx_http_trace_events_close(ctx, &sub->child,
                                    ngx_http_trace_now(ctx));
    }

    /* what hangs below it points to its ids */

    for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++) {
        if (sub->child.pipelines & (1 << i)) {
            ngx_memcpy(sub->child.span_id[i], sub->child.parent_id[i],
                       TRACEPARENT_SPAN_ID_SIZE);
        }
    }

    sub->child.pipelines = 0;
}


static ngx_http_trace_subrequest_t *
ngx_http_trace_subrequest_find(ngx_http_request_t *r,
    ngx_http_trace_ctx_t *ctx)
{
    ngx_http_trace_child_t       *child;
    ngx_http_trace_subrequest_t  *sub;

    for (child = ctx->children; child; child = child->next) {

        sub = (ngx_http_trace_subrequest_t *) child;

        if (child->type == &ngx_http_trace_subrequest_type
            && sub->request == r)
        {
            return sub;
        }
    }

    return NULL;
}


static ngx_http_trace_subrequest_t *
ngx_http_trace_subrequest_begin(ngx_http_request_t *r,
    ngx_http_trace_ctx_t *ctx, ngx_http_trace_node_t *parent,
    ngx_uint_t pipelines)
{
    ngx_http_trace_subrequest_t  *sub;

    sub = ngx_http_trace_child(r, ctx, parent, pipelines,
                               sizeof(ngx_http_trace_subrequest_t), 0);
    if (sub == NULL) {
        return NULL;
    }

    sub->child.type = &ngx_http_trace_subrequest_type;

    ngx_http_trace_init_node(&sub->node);
    ngx_http_trace_subrequest_ids(sub, pipelines);

    sub->ctx = ctx;
    sub->request = r;

    ngx_http_trace_subrequest_filter();

    sub->theirs = r->post_subrequest;

    sub->ours.handler = ngx_http_trace_subrequest_end;
    sub->ours.data = sub;

    r->post_subrequest = &sub->ours;

    if (ctx->events) {
        ngx_http_trace_events_open(ctx, &sub->child);
    }

    return sub;
}


/* those of a span in these pipelines; in others, the parent's stand for them */

static void
ngx_http_trace_subrequest_ids(ngx_http_trace_subrequest_t *sub,
    ngx_uint_t pipelines)
{
    ngx_uint_t  i;

    if (ngx_http_trace_span_ids(sub->child.span_id, pipelines) != NGX_OK) {
        pipelines = 0;
    }

    sub->child.pipelines = pipelines;

    for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++) {
        sub->node.span_id[i] = (pipelines & (1 << i))
                               ? sub->child.span_id[i]
                               : sub->child.parent_id[i];

        if (sub->node.current == NULL) {
            sub->node.parent_id[i] = sub->node.span_id[i];
        }
    }
}


/* what it causes hangs below what has caused it */

static ngx_http_trace_node_t *
ngx_http_trace_subrequest_without_span(ngx_http_request_t *r,
    ngx_http_trace_ctx_t *ctx, ngx_http_trace_node_t *parent)
{
    ngx_http_trace_node_t  *node;

    node = ngx_http_trace_alloc(r, ctx, sizeof(ngx_http_trace_node_t));
    if (node == NULL) {
        return NULL;
    }

    ngx_http_trace_init_node(node);
    ngx_memcpy(node->span_id, parent->parent_id, sizeof(node->span_id));
    ngx_memcpy(node->parent_id, parent->parent_id, sizeof(node->parent_id));

    return node;
}


/* may be called more than once: an error page follows the first time */

static ngx_int_t
ngx_http_trace_subrequest_end(ngx_http_request_t *r, void *data, ngx_int_t rc)
{
    ngx_http_trace_subrequest_t *sub = data;

    sub->child.end = ngx_http_trace_now(sub->ctx);

    if (sub->node.upstream) {
        ngx_http_trace_upstream_settle(sub->node.upstream);
    }

    if (sub->node.located) {
        ngx_http_trace_name_location(r, &sub->node);
    }

    if (sub->ctx->customs) {
        ngx_http_trace_customs_close(sub->ctx, r, sub->child.end);
        sub->node.located = NGX_HTTP_TRACE_NO_SPAN;
    }

    /* a special response is still to come, and a second end with it */

    if (sub->ctx->events
        && rc < NGX_HTTP_SPECIAL_RESPONSE
        && rc != NGX_HTTP_CREATED && rc != NGX_HTTP_NO_CONTENT)
    {
        ngx_http_trace_events_close(sub->ctx, &sub->child, sub->child.end);
    }

    if (sub->theirs) {
        return sub->theirs->handler(r, sub->theirs->data, rc);
    }

    return rc;
}


/*
 * nginx ends the request only when its last background subrequest has ended.
 * Its span ends with its response, which is written by then or still has to
 * pass the body filters.
 */

static void
ngx_http_trace_subrequest_background(ngx_http_request_t *r,
    ngx_http_trace_ctx_t *ctx)
{
    if (ctx->background) {
        return;
    }

    ctx->background = 1;

    if (r->main->request_complete) {

        /* a post_action's: its response has ended, and the time is known */

        if (ctx->end == 0) {
            ctx->end = ngx_http_trace_now(ctx);
        }

        return;
    }

    ngx_http_trace_subrequest_filter();

    if (ngx_http_trace_next_body_filter == NULL) {
        ngx_http_trace_next_body_filter = ngx_http_top_body_filter;
        ngx_http_top_body_filter = ngx_http_trace_subrequest_body_filter;
    }
}


static ngx_int_t
ngx_http_trace_subrequest_body_filter(ngx_http_request_t *r, ngx_chain_t *in)
{
    ngx_int_t  rc;

    rc = ngx_http_trace_next_body_filter(r, in);

    ngx_http_trace_subrequest_written(r);

    return rc;
}


static void
ngx_http_trace_subrequest_filter(void)
{
    if (ngx_http_trace_next_header_filter == NULL) {
        ngx_http_trace_next_header_filter = ngx_http_top_header_filter;
        ngx_http_top_header_filter = ngx_http_trace_subrequest_header_filter;
    }
}


/* not what a post_action writes, when the response has ended */

static void
ngx_http_trace_subrequest_written(ngx_http_request_t *r)
{
    ngx_http_trace_ctx_t  *ctx;

    if (r != r->main || r->post_action) {
        return;
    }

    ctx = ngx_http_get_module_ctx(r, ngx_http_trace_module);

    if (ctx && ctx->background) {
        ctx->end = ngx_http_trace_now(ctx);
    }
}


/*
 * The Lua module knows a capture that has lost its context by who waits for
 * its end, and looks there in a header filter: it has to see itself.
 */

static ngx_int_t
ngx_http_trace_subrequest_header_filter(ngx_http_request_t *r)
{
    ngx_int_t                     rc;
    ngx_http_trace_subrequest_t  *sub;

    if (r == r->main || r->post_subrequest == NULL
        || r->post_subrequest->handler != ngx_http_trace_subrequest_end)
    {
        rc = ngx_http_trace_next_header_filter(r);

        ngx_http_trace_subrequest_written(r);

        return rc;
    }

    sub = r->post_subrequest->data;

    r->post_subrequest = sub->theirs;

    rc = ngx_http_trace_next_header_filter(r);

    if (r->post_subrequest == sub->theirs) {
        r->post_subrequest = &sub->ours;
    }

    return rc;
}


static void
ngx_http_trace_subrequest_head(ngx_http_trace_child_t *child,
    ngx_uint_t pipeline, otlp_span_head_t *head)
{
    ngx_http_trace_subrequest_t *sub = (ngx_http_trace_subrequest_t *) child;

    u_char                     *p;
    ngx_str_t                  *route;
    ngx_http_trace_loc_conf_t  *tlcf;

    static u_char  name[] = "subrequest";

    head->kind = OTLP_SPAN_KIND_INTERNAL;
    head->name.data = name;
    head->name.len = sizeof(name) - 1;

    tlcf = ngx_http_get_module_loc_conf(sub->request, ngx_http_trace_module);
    route = &tlcf->pipelines[pipeline].route;

    if (route->len == 0) {
        return;
    }

    p = ngx_pnalloc(sub->request->pool, sizeof(name) + route->len);
    if (p == NULL) {
        return;
    }

    head->name.data = p;
    head->name.len = ngx_sprintf(p, "%s %V", name, route) - p;
}


static int
ngx_http_trace_subrequest_status(ngx_http_trace_child_t *child, u_char *buf,
    ngx_str_t *error)
{
    ngx_http_trace_subrequest_t *sub = (ngx_http_trace_subrequest_t *) child;

    ngx_uint_t  status;

    status = ngx_http_trace_subrequest_answer(sub);

    if (status == NGX_HTTP_CLIENT_CLOSED_REQUEST) {
        ngx_http_trace_gone(sub->request, error);

    } else if (status >= 500) {
        ngx_http_trace_status_error(status, buf, error);
    }

    return status >= 500 ? OTLP_STATUS_ERROR : OTLP_STATUS_UNSET;
}


static ngx_inline ngx_uint_t
ngx_http_trace_subrequest_answer(ngx_http_trace_subrequest_t *sub)
{
    ngx_http_request_t  *r;

    r = sub->request;

    return r->err_status ? r->err_status : r->headers_out.status;
}


static int
ngx_http_trace_subrequest_write(void *data, ngx_uint_t pipeline,
    otlp_span_t *span)
{
    ngx_http_trace_subrequest_t *sub = data;

    int                                 failed;
    ngx_uint_t                          status, level;
    ngx_http_request_t                 *r;
    ngx_http_trace_loc_conf_t          *tlcf;
    ngx_http_trace_subrequest_facts_t   facts;

    r = sub->request;
    level = sub->ctx->level[pipeline];

    tlcf = ngx_http_get_module_loc_conf(r, ngx_http_trace_module);

    status = ngx_http_trace_subrequest_answer(sub);

    facts.route = tlcf->pipelines[pipeline].route;
    facts.path = r->uri;

    if (facts.route.len == 0 && pipeline == NGX_HTTP_TRACE_USER) {
        ngx_str_null(&facts.path);
    }

    facts.status_code = status ? (int64_t) status : NGX_ERROR;
    facts.error_type.len = 0;

    failed = ngx_http_trace_subrequest_status(&sub->child, facts.error,
                                              &facts.error_type);

    ngx_http_trace_semconv(ngx_http_trace_subrequest_lists[level], &facts,
                           span);

    ngx_http_trace_span_hops(span, &sub->node, pipeline, level);

    return failed;
}
