
/*
 * Directives, configuration, and the wiring of the hooks.
 */


#include "ngx_http_trace_module.h"


static ngx_int_t ngx_http_trace_post_read_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_trace_server_rewrite_handler(
    ngx_http_request_t *r);
static ngx_int_t ngx_http_trace_unread_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_trace_rewrite_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_trace_preaccess_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_trace_precontent_handler(ngx_http_request_t *r);
static NGX_HTTP_TRACE_APART void ngx_http_trace_enter(ngx_http_request_t *r,
    ngx_uint_t todo);
static NGX_HTTP_TRACE_APART ngx_int_t ngx_http_trace_settle(
    ngx_http_request_t *r);
static NGX_HTTP_TRACE_APART ngx_int_t ngx_http_trace_settle_place(
    ngx_http_request_t *r, ngx_http_trace_ctx_t *ctx,
    ngx_http_trace_loc_conf_t *tlcf);
static ngx_int_t ngx_http_trace_content_handler(ngx_http_request_t *r);
static NGX_HTTP_TRACE_APART ngx_int_t ngx_http_trace_send_content(
    ngx_http_request_t *r, ngx_http_trace_loc_conf_t *tlcf);
static ngx_int_t ngx_http_trace_log_handler(ngx_http_request_t *r);
static NGX_HTTP_TRACE_APART ngx_int_t ngx_http_trace_log(
    ngx_http_request_t *r);
static ngx_inline ngx_uint_t ngx_http_trace_untouched(ngx_http_request_t *r);
static ngx_inline ngx_uint_t ngx_http_trace_declined(ngx_http_request_t *r,
    ngx_http_trace_loc_conf_t *tlcf);

static void *ngx_http_trace_create_main_conf(ngx_conf_t *cf);
static void *ngx_http_trace_create_loc_conf(ngx_conf_t *cf);
static char *ngx_http_trace_merge_loc_conf(ngx_conf_t *cf, void *parent,
    void *child);
static ngx_int_t ngx_http_trace_add_location(ngx_conf_t *cf,
    ngx_http_trace_main_conf_t *tmcf, ngx_http_trace_loc_conf_t *prev,
    ngx_http_trace_loc_conf_t *conf);
static char *ngx_http_trace_check_location(ngx_conf_t *cf,
    ngx_http_trace_loc_conf_t *conf);
static void ngx_http_trace_merge_response(ngx_http_trace_main_conf_t *tmcf,
    ngx_http_trace_loc_conf_t *prev, ngx_http_trace_loc_conf_t *conf);
static void ngx_http_trace_merge_context(ngx_http_trace_pipeline_conf_t *prev,
    ngx_http_trace_pipeline_conf_t *conf);
static void ngx_http_trace_merge_trust(ngx_conf_t *cf,
    ngx_http_trace_main_conf_t *tmcf, ngx_http_trace_loc_conf_t *location,
    ngx_http_trace_pipeline_conf_t *prev, ngx_uint_t pipeline);
static void ngx_http_trace_merge_hooks(ngx_http_trace_loc_conf_t *conf);
static ngx_int_t ngx_http_trace_preconfiguration(ngx_conf_t *cf);
static ngx_int_t ngx_http_trace_postconfiguration(ngx_conf_t *cf);
static ngx_int_t ngx_http_trace_init_exporters(ngx_conf_t *cf,
    ngx_http_trace_main_conf_t *tmcf);
static ngx_int_t ngx_http_trace_init_events(ngx_conf_t *cf,
    ngx_http_trace_main_conf_t *tmcf);
static void ngx_http_trace_realip(ngx_conf_t *cf,
    ngx_http_trace_main_conf_t *tmcf);
static void ngx_http_trace_content_handlers(
    ngx_http_trace_main_conf_t *tmcf);
static ngx_int_t ngx_http_trace_handlers(ngx_conf_t *cf,
    ngx_http_trace_main_conf_t *tmcf);
static ngx_int_t ngx_http_trace_handler(ngx_conf_t *cf, ngx_uint_t phase,
    ngx_http_handler_pt handler);
static ngx_int_t ngx_http_trace_first_handler(ngx_conf_t *cf,
    ngx_uint_t phase, ngx_http_handler_pt handler);
static void ngx_http_trace_log_last(ngx_cycle_t *cycle);
static ngx_int_t ngx_http_trace_init_module(ngx_cycle_t *cycle);
static ngx_int_t ngx_http_trace_init_process(ngx_cycle_t *cycle);
static void ngx_http_trace_exit_process(ngx_cycle_t *cycle);


static ngx_command_t  ngx_http_trace_commands[] = {

    { ngx_string("trace_exporter"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_BLOCK|NGX_CONF_TAKE1,
      ngx_http_trace_exporter_block,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("trace_service_name"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE12,
      ngx_http_trace_service,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("trace_resource"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE23,
      ngx_http_trace_resource,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("trace"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_HTTP_LIF_CONF
                        |NGX_CONF_2MORE,
      ngx_http_trace,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("trace_context"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_HTTP_LIF_CONF
                        |NGX_CONF_2MORE,
      ngx_http_trace_context,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("trace_trusted"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_HTTP_LIF_CONF
                        |NGX_CONF_2MORE,
      ngx_http_trace_trust,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("trace_control_header"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_HTTP_LIF_CONF
                        |NGX_CONF_1MORE,
      ngx_http_trace_control_directive,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("trace_keep"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_HTTP_LIF_CONF
                        |NGX_CONF_TAKE1,
      ngx_http_trace_keep,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("trace_routing"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_HTTP_LIF_CONF
                        |NGX_CONF_TAKE1,
      ngx_http_trace_value_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_trace_loc_conf_t, routing),
      NULL },

    { ngx_string("trace_span_name"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_HTTP_LIF_CONF
                        |NGX_CONF_TAKE12,
      ngx_http_trace_name,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("trace_attribute"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_HTTP_LIF_CONF
                        |NGX_CONF_TAKE3|NGX_CONF_TAKE4|NGX_CONF_TAKE5,
      ngx_http_trace_attribute,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("trace_default_attributes"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_HTTP_LIF_CONF
                        |NGX_CONF_TAKE2,
      ngx_http_trace_default_attributes,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("trace_upstream"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_HTTP_LIF_CONF
                        |NGX_CONF_TAKE1,
      ngx_http_trace_pipelines_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_trace_loc_conf_t, upstream),
      NULL },

    { ngx_string("trace_subrequests"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_HTTP_LIF_CONF
                        |NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_trace_loc_conf_t, subrequests),
      NULL },

    { ngx_string("trace_span"),
      NGX_HTTP_LOC_CONF|NGX_HTTP_LIF_CONF|NGX_CONF_TAKE12,
      ngx_http_trace_span_directive,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("trace_response_header"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_HTTP_LIF_CONF
                        |NGX_CONF_TAKE12,
      ngx_http_trace_response_directive,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("trace_error_log"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_HTTP_LIF_CONF
                        |NGX_CONF_TAKE1,
      ngx_http_trace_error_log_directive,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("trace_events"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_HTTP_LIF_CONF
                        |NGX_CONF_TAKE1,
      ngx_http_trace_events_directive,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_trace_loc_conf_t, events),
      NULL },

    { ngx_string("trace_status"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS|NGX_CONF_TAKE1,
      ngx_http_trace_status_directive,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_trace_module_ctx = {
    ngx_http_trace_preconfiguration,       /* preconfiguration */
    ngx_http_trace_postconfiguration,      /* postconfiguration */

    ngx_http_trace_create_main_conf,       /* create main configuration */
    NULL,                                  /* init main configuration */

    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */

    ngx_http_trace_create_loc_conf,        /* create location configuration */
    ngx_http_trace_merge_loc_conf          /* merge location configuration */
};


ngx_module_t  ngx_http_trace_module = {
    NGX_MODULE_V1,
    &ngx_http_trace_module_ctx,            /* module context */
    ngx_http_trace_commands,               /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    ngx_http_trace_init_module,            /* init module */
    ngx_http_trace_init_process,           /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    ngx_http_trace_exit_process,           /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


ngx_str_t  ngx_http_trace_pipeline_names[] = {
    ngx_string("internal"),
    ngx_string("user")
};


static ngx_http_trace_names_t  ngx_http_trace_default_names = {
    { ngx_string("traceparent"), 0 },
    { ngx_string("tracestate"), 0 }
};


/*
 * First of all phases: headers that are not to be believed go before anything
 * sees them.
 */

static ngx_int_t
ngx_http_trace_post_read_handler(ngx_http_request_t *r)
{
    ngx_http_trace_distrust(r);

    return NGX_DECLINED;
}


/* one that nginx could not read begins here, on its way to an error page */

static ngx_int_t
ngx_http_trace_server_rewrite_handler(ngx_http_request_t *r)
{
    if (r->internal && r == r->main && ngx_http_trace_get_ctx(r) == NULL) {
        ngx_http_trace_distrust(r);
    }

    return NGX_DECLINED;
}


/* or here, if it has none; this one stands before the access log */

static ngx_int_t
ngx_http_trace_unread_handler(ngx_http_request_t *r)
{
    ngx_http_trace_distrust_unread(r);

    return NGX_OK;
}


/*
 * A request or subrequest enters a location.  Starts the clock where it is
 * plain that there will be a span: a "return" may follow, and then the next
 * hook is that of the log phase, when the client has its response already.
 * Decides nothing.
 */

static ngx_int_t
ngx_http_trace_rewrite_handler(ngx_http_request_t *r)
{
    ngx_http_trace_ctx_t       *ctx;
    ngx_http_trace_loc_conf_t  *tlcf;

    ctx = ngx_http_get_module_ctx(r, ngx_http_trace_module);
    tlcf = ngx_http_get_module_loc_conf(r, ngx_http_trace_module);

    if (ctx || tlcf->enter || r->internal) {
        ngx_http_trace_enter(r, tlcf->enter);
    }

    return NGX_DECLINED;
}


static void
ngx_http_trace_enter(ngx_http_request_t *r, ngx_uint_t todo)
{
    ngx_http_trace_ctx_t   *ctx;
    ngx_http_trace_node_t  *node;

    ctx = ngx_http_trace_get_ctx(r);

    if ((todo & NGX_HTTP_TRACE_DISTRUST) || (ctx && ctx->given_back)) {
        ngx_http_trace_distrust(r);
        ctx = ngx_http_trace_get_ctx(r);
    }

    if (ctx == NULL && (todo & NGX_HTTP_TRACE_START)) {
        ctx = ngx_http_trace_create_ctx(r);
    }

    /* what is not traced shares a context, which has no start */

    if (ctx == NULL || ctx->start == 0) {
        return;
    }

    if (r != r->main) {
        ctx = ngx_http_trace_decide(r);

        if (!ctx->recorded) {
            return;
        }
    }

    node = ngx_http_trace_node(r, ctx);

    if (node && node->uri_changes != r->uri_changes) {
        ngx_http_trace_hop(r, ctx, node);
    }
}


static ngx_int_t
ngx_http_trace_preaccess_handler(ngx_http_request_t *r)
{
    return ngx_http_trace_untouched(r) ? NGX_DECLINED
                                       : ngx_http_trace_settle(r);
}


static ngx_int_t
ngx_http_trace_settle(ngx_http_request_t *r)
{
    ngx_http_trace_ctx_t       *ctx;
    ngx_http_trace_loc_conf_t  *tlcf;

    ctx = ngx_http_trace_decide(r);
    tlcf = ngx_http_get_module_loc_conf(r, ngx_http_trace_module);

    if (!ctx->edits) {
        return NGX_DECLINED;
    }

    if (r == r->main && !r->post_action) {
        ctx->loc_conf = r->loc_conf;
    }

    return (r == r->main && tlcf->span == NULL && tlcf->handler)
           ? NGX_DECLINED : ngx_http_trace_settle_place(r, ctx, tlcf);
}


/* the user's pipeline: whoever has a say in whose it is has spoken */

static ngx_int_t
ngx_http_trace_precontent_handler(ngx_http_request_t *r)
{
    ngx_http_trace_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_trace_module);

    if (r == r->main && !r->post_action
        && ctx && (ctx->recorded & (1 << NGX_HTTP_TRACE_USER)))
    {
        ngx_http_trace_request_admitted(r, ctx);
    }

    return NGX_DECLINED;
}


/* of a subrequest, of trace_span, and of locations without our handler */

static ngx_int_t
ngx_http_trace_settle_place(ngx_http_request_t *r, ngx_http_trace_ctx_t *ctx,
    ngx_http_trace_loc_conf_t *tlcf)
{
    ngx_http_trace_node_t  *node;

    if (ctx->recorded && r != r->main) {
        ngx_http_trace_subrequest_settle(r, ctx);
    }

    if (ctx->recorded && tlcf->span) {
        node = ngx_http_trace_node(r, ctx);

        if (node) {
            ngx_http_trace_locate(r, node);
        }
    }

    /* nobody stands before the content handler */

    if (tlcf->handler == NULL) {

        ngx_http_trace_request_phase(r, ctx, NGX_HTTP_TRACE_CONTENT);

        /* a redirect has brought it from where it had one */

        if (r->content_handler) {
            ngx_http_trace_upstream_headers(r, tlcf);
        }
    }

    return NGX_DECLINED;
}


/*
 * Stands before the content handler of each location that may be traced: also
 * subrequests of the kind that runs no earlier phase come here.
 */

static ngx_int_t
ngx_http_trace_content_handler(ngx_http_request_t *r)
{
    ngx_http_trace_ctx_t       *ctx;
    ngx_http_trace_loc_conf_t  *tlcf;

    ctx = ngx_http_get_module_ctx(r->main, ngx_http_trace_module);
    tlcf = ngx_http_get_module_loc_conf(r, ngx_http_trace_module);

    return (tlcf->edits || (ctx && ctx->edits))
           ? ngx_http_trace_send_content(r, tlcf) : tlcf->handler(r);
}


static ngx_int_t
ngx_http_trace_send_content(ngx_http_request_t *r,
    ngx_http_trace_loc_conf_t *tlcf)
{
    ngx_http_trace_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_trace_module);

    if (r == r->main && ctx) {
        ngx_http_trace_request_phase(r, ctx, NGX_HTTP_TRACE_CONTENT);
    }

    ngx_http_trace_upstream_headers(r, tlcf);

    return tlcf->handler(r);
}


static ngx_int_t
ngx_http_trace_log_handler(ngx_http_request_t *r)
{
    ngx_http_trace_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_trace_module);

    /* log_subrequest */

    if (r != r->main) {
        return NGX_OK;
    }

    if (ctx ? ctx->decided && !ctx->recorded : ngx_http_trace_untouched(r)) {
        return NGX_OK;
    }

    return ngx_http_trace_log(r);
}


static ngx_int_t
ngx_http_trace_log(ngx_http_request_t *r)
{
    ngx_http_trace_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_trace_module);

    if (ctx == NULL || !ctx->decided) {
        ctx = ngx_http_trace_decide(r);
    }

    if (ctx->recorded) {
        ngx_http_trace_request_spans(r, ctx);
    }

    return NGX_OK;
}


/*
 * The short way of most requests, where nothing is on: nothing was begun, and
 * nobody but a variable is to be asked.
 */

static ngx_inline ngx_uint_t
ngx_http_trace_untouched(ngx_http_request_t *r)
{
    ngx_http_trace_loc_conf_t  *tlcf;

    tlcf = ngx_http_get_module_loc_conf(r, ngx_http_trace_module);

    return tlcf->simple && !r->internal && !r->filter_finalize
           && ngx_http_get_module_ctx(r, ngx_http_trace_module) == NULL
           && (tlcf->idle || ngx_http_trace_declined(r, tlcf));
}


/* what "set" and "map" have made is seen at once; the rest is to be asked */

static ngx_inline ngx_uint_t
ngx_http_trace_declined(ngx_http_request_t *r, ngx_http_trace_loc_conf_t *tlcf)
{
    ngx_int_t                  *ask;
    ngx_http_variable_value_t  *v;

    for (ask = tlcf->ask; *ask != NGX_ERROR; ask++) {
        v = &r->variables[*ask];

        if (!v->valid || v->no_cacheable || v->len > 1
            || (v->len == 1 && v->data[0] != '0'))
        {
            return 0;
        }
    }

    (void) ngx_http_trace_set_untraced(r);

    return 1;
}


static void *
ngx_http_trace_create_main_conf(ngx_conf_t *cf)
{
    ngx_uint_t                   i;
    ngx_http_trace_main_conf_t  *tmcf;

    tmcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_trace_main_conf_t));
    if (tmcf == NULL) {
        return NULL;
    }

    for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++) {
        if (ngx_array_init(&tmcf->resource[i], cf->pool, 4,
                           sizeof(ngx_keyval_t))
            != NGX_OK
            || ngx_array_init(&tmcf->names[i], cf->pool, 2, sizeof(void *))
               != NGX_OK)
        {
            return NULL;
        }

        *(ngx_http_trace_names_t **) ngx_array_push(&tmcf->names[i]) =
                                                &ngx_http_trace_default_names;
    }

    if (ngx_array_init(&tmcf->locations, cf->pool, 16,
                       sizeof(ngx_http_trace_location_t))
        != NGX_OK
        || ngx_array_init(&tmcf->variables, cf->pool, 16,
                          sizeof(ngx_http_trace_variable_name_t))
           != NGX_OK
        || ngx_array_init(&tmcf->tos, cf->pool, 4, sizeof(void *)) != NGX_OK
        || ngx_array_init(&tmcf->rates, cf->pool, 4, sizeof(void *))
           != NGX_OK)
    {
        return NULL;
    }

    return tmcf;
}


static void *
ngx_http_trace_create_loc_conf(ngx_conf_t *cf)
{
    ngx_uint_t                  i;
    ngx_http_trace_loc_conf_t  *tlcf;

    tlcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_trace_loc_conf_t));
    if (tlcf == NULL) {
        return NULL;
    }

    for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++) {
        tlcf->pipelines[i].decision = NGX_CONF_UNSET_PTR;
        tlcf->pipelines[i].context = NGX_CONF_UNSET_UINT;
        tlcf->pipelines[i].from = NGX_CONF_UNSET_PTR;
        tlcf->pipelines[i].to = NGX_CONF_UNSET_PTR;
        tlcf->pipelines[i].trust_all = NGX_CONF_UNSET;
        tlcf->pipelines[i].level = NGX_CONF_UNSET_UINT;
    }

    tlcf->keep = NGX_CONF_UNSET_PTR;
    tlcf->control = NGX_CONF_UNSET_PTR;
    tlcf->upstream = NGX_CONF_UNSET_UINT;
    tlcf->events = NGX_CONF_UNSET_UINT;
    tlcf->subrequests = NGX_CONF_UNSET;
    tlcf->response_header = NGX_CONF_UNSET_UINT;
    tlcf->error_log = NGX_CONF_UNSET_UINT;
    tlcf->status = NGX_CONF_UNSET_UINT;

    return tlcf;
}


static char *
ngx_http_trace_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_http_trace_loc_conf_t *prev = parent;
    ngx_http_trace_loc_conf_t *conf = child;

    ngx_uint_t                       i;
    ngx_http_core_loc_conf_t        *clcf;
    ngx_http_trace_main_conf_t      *tmcf;
    ngx_http_trace_pipeline_conf_t  *p, *c;

    tmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_trace_module);

    ngx_conf_merge_ptr_value(conf->keep, prev->keep, NULL);
    ngx_conf_merge_ptr_value(conf->control, prev->control, NULL);

    for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++) {
        p = &prev->pipelines[i];
        c = &conf->pipelines[i];

        ngx_conf_merge_ptr_value(c->decision, p->decision, NULL);

        ngx_http_trace_merge_context(p, c);
        ngx_http_trace_merge_trust(cf, tmcf, conf, p, i);

        if (c->span_name == NULL) {
            c->span_name = p->span_name;
        }

        if (ngx_http_trace_merge_attributes(cf, p, c, i) != NGX_OK) {
            return NGX_CONF_ERROR;
        }
    }

    if (conf->routing == NULL) {
        conf->routing = prev->routing;
    }

    ngx_conf_merge_uint_value(conf->upstream, prev->upstream,
                              NGX_HTTP_TRACE_BOTH);
    ngx_conf_merge_uint_value(conf->events, prev->events, 0);
    ngx_conf_merge_value(conf->subrequests, prev->subrequests, 1);
    ngx_conf_merge_uint_value(conf->error_log, prev->error_log,
                              NGX_HTTP_TRACE_PIPELINES);

    ngx_http_trace_merge_response(tmcf, prev, conf);

    /* an "if" has the handler of its location, and its span */

    ngx_conf_merge_uint_value(conf->status, prev->status, 0);

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (conf->span == NULL && clcf->noname) {
        conf->span = prev->span;
    }

    ngx_http_trace_merge_hooks(conf);

    tmcf->edits |= conf->edits;
    tmcf->events |= conf->events;

    if (ngx_http_trace_add_location(cf, tmcf, prev, conf) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    return ngx_http_trace_check_location(cf, conf);
}


/* what each hook has to do here */

static void
ngx_http_trace_merge_hooks(ngx_http_trace_loc_conf_t *conf)
{
    ngx_int_t                       *ask;
    ngx_uint_t                       i;
    ngx_http_trace_pipeline_conf_t  *pcf;

    ask = conf->ask;

    conf->to = 0;
    conf->idle = 1;
    conf->simple = 1;

    for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++) {
        pcf = &conf->pipelines[i];

        pcf->keeps = (i == NGX_HTTP_TRACE_INTERNAL && conf->keep
                      && pcf->decision);

        pcf->only_variable = (pcf->decision && !pcf->keeps
                              && pcf->decision->words
                                 == NGX_HTTP_TRACE_VARIABLE);

        if (pcf->only_variable) {
            *ask++ = pcf->decision->variable;
        }

        if (pcf->decision && !pcf->only_variable) {
            conf->enter |= NGX_HTTP_TRACE_START;
        }

        if (pcf->ask_trust && !pcf->believe_all) {
            conf->enter |= NGX_HTTP_TRACE_DISTRUST;
        }

        conf->idle &= (pcf->decision == NULL);
        conf->simple &= (!pcf->ask_trust
                         && (pcf->decision == NULL || pcf->only_variable));
        conf->to |= (pcf->to != NULL);
    }

    *ask = NGX_ERROR;

    conf->edits = (conf->to || conf->control);
    conf->idle &= (conf->simple && !conf->edits);
}


/* what stands before content handlers is put there when all are known */

static ngx_int_t
ngx_http_trace_add_location(ngx_conf_t *cf, ngx_http_trace_main_conf_t *tmcf,
    ngx_http_trace_loc_conf_t *prev, ngx_http_trace_loc_conf_t *conf)
{
    ngx_http_trace_location_t  *location;

    location = ngx_array_push(&tmcf->locations);
    if (location == NULL) {
        return NGX_ERROR;
    }

    location->clcf = ngx_http_conf_get_module_loc_conf(cf,
                                                       ngx_http_core_module);
    location->conf = conf;
    location->outer = prev;

    return NGX_OK;
}


/* contradictions */

static char *
ngx_http_trace_check_location(ngx_conf_t *cf, ngx_http_trace_loc_conf_t *conf)
{
    ngx_str_t                       *header;
    ngx_http_trace_pipeline_conf_t  *internal, *user;

    internal = &conf->pipelines[NGX_HTTP_TRACE_INTERNAL];
    user = &conf->pipelines[NGX_HTTP_TRACE_USER];

    header = &internal->names->traceparent.name;

    if (internal->decision && user->decision
        && internal->context && user->context
        && header->len == user->names->traceparent.name.len
        && ngx_strncmp(header->data, user->names->traceparent.name.data,
                       header->len)
           == 0)
    {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"trace internal\" in %V:%ui and \"trace user\" in "
                      "%V:%ui both use the header \"%V\" in one place, write "
                      "\"trace_context internal propagate "
                      "header=x-op-traceparent\"",
                      &internal->decision->file, internal->decision->line,
                      &user->decision->file, user->decision->line, header);
        return NGX_CONF_ERROR;
    }

    if (user->decision && conf->routing == NULL) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"trace user\" without \"trace_routing\", write the "
                      "variable that tells whose spans they are, as "
                      "\"trace_routing $http_x_tenant\" in %V:%ui",
                      &user->decision->file, user->decision->line);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


/* clients are the user's, if there is one */

static void
ngx_http_trace_merge_response(ngx_http_trace_main_conf_t *tmcf,
    ngx_http_trace_loc_conf_t *prev, ngx_http_trace_loc_conf_t *conf)
{
    if (conf->response_header == NGX_CONF_UNSET_UINT) {
        conf->response_header = prev->response_header;
        conf->response_pipeline = prev->response_pipeline;
    }

    if (conf->response_header == NGX_CONF_UNSET_UINT) {
        conf->response_header = 0;
    }

    if (conf->response_pipeline == NGX_ERROR) {
        conf->response_pipeline =
                               tmcf->exporters[NGX_HTTP_TRACE_USER].line
                               ? NGX_HTTP_TRACE_USER : NGX_HTTP_TRACE_INTERNAL;
    }
}


static void
ngx_http_trace_merge_context(ngx_http_trace_pipeline_conf_t *prev,
    ngx_http_trace_pipeline_conf_t *conf)
{
    ngx_conf_merge_uint_value(conf->context, prev->context,
                              NGX_HTTP_TRACE_PROPAGATE);

    /* a mode without a header changes the mode alone */

    if (conf->names == NULL) {
        conf->names = prev->names ? prev->names
                                  : &ngx_http_trace_default_names;
    }

    ngx_conf_merge_ptr_value(conf->from, prev->from, NULL);
    ngx_conf_merge_ptr_value(conf->to, prev->to, NULL);
}


static void
ngx_http_trace_merge_trust(ngx_conf_t *cf, ngx_http_trace_main_conf_t *tmcf,
    ngx_http_trace_loc_conf_t *location, ngx_http_trace_pipeline_conf_t *prev,
    ngx_uint_t pipeline)
{
    ngx_http_core_srv_conf_t        *cscf;
    ngx_http_core_loc_conf_t        *clcf;
    ngx_http_trace_loc_conf_t       *slcf;
    ngx_http_trace_pipeline_conf_t  *conf, *server;

    conf = &location->pipelines[pipeline];

    if (conf->trust_all == NGX_CONF_UNSET) {
        conf->trust_all = prev->trust_all;
        conf->trusted = prev->trusted;
        conf->trust_realip = prev->trust_realip;
        conf->trust_if = prev->trust_if;
    }

    /*
     * Everybody may send the standard's header, and nobody one that the
     * operator has named, as long as nothing else is said.  |trust_all| stays
     * unset then: a location may name another header.
     */

    if (conf->trust_all == NGX_CONF_UNSET) {
        conf->believe_all = (conf->names == &ngx_http_trace_default_names);

    } else {
        conf->believe_all = conf->trust_all;
    }

    if (!conf->believe_all) {
        tmcf->distrust = 1;
    }

    /*
     * What the server says was done when the request began, except where it
     * has begun with an error page, which may be a named location.
     */

    cscf = ngx_http_conf_get_module_srv_conf(cf, ngx_http_core_module);
    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    /* the Lua module merges again for each worker, where there is no server */

    slcf = cscf->ctx ? cscf->ctx->loc_conf[ngx_http_trace_module.ctx_index]
                     : location;

    server = &slcf->pipelines[pipeline];

    /* through an outer location comes who enters an "if" of it */

    conf->ask_trust = (prev->ask_trust
                       || conf->trust_if || conf->trust_realip
                       || conf->believe_all != server->believe_all
                       || (!conf->believe_all
                           && (conf->trusted != server->trusted
                               || conf->names != server->names
                               || (clcf->name.len
                                   && clcf->name.data[0] == '@'))));
}


static ngx_int_t
ngx_http_trace_preconfiguration(ngx_conf_t *cf)
{
    ngx_http_trace_header_t  *header;

    header = &ngx_http_trace_default_names.traceparent;
    header->hash = ngx_hash_key(header->name.data, header->name.len);

    header = &ngx_http_trace_default_names.tracestate;
    header->hash = ngx_hash_key(header->name.data, header->name.len);

    ngx_http_trace_semconv_init();

    return ngx_http_trace_add_variables(cf);
}


static ngx_int_t
ngx_http_trace_postconfiguration(ngx_conf_t *cf)
{
    ngx_http_trace_main_conf_t  *tmcf;

    tmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_trace_module);

    if (ngx_http_trace_status_init_conf(cf, tmcf) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ngx_http_trace_init_exporters(cf, tmcf) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ngx_http_trace_values_check(cf, tmcf) != NGX_OK
        || ngx_http_trace_context_init_conf(cf, tmcf) != NGX_OK
        || ngx_http_trace_rate_init_conf(cf, tmcf) != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_http_trace_realip(cf, tmcf);

    if (!tmcf->enabled[NGX_HTTP_TRACE_INTERNAL]
        && !tmcf->enabled[NGX_HTTP_TRACE_USER]
        && !tmcf->distrust && !tmcf->edits)
    {
        return NGX_OK;
    }

    if (ngx_http_trace_handlers(cf, tmcf) != NGX_OK
        || ngx_http_trace_upstream_init_conf(cf, tmcf) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (tmcf->distrust || tmcf->edits) {
        ngx_http_trace_wrap_variables(cf);
    }

    ngx_http_trace_content_handlers(tmcf);
    ngx_http_trace_subrequest_init();

    if (tmcf->response_header) {
        ngx_http_trace_response_header_init();
    }

    if (tmcf->events) {
        ngx_http_trace_events_init();
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_trace_init_exporters(ngx_conf_t *cf, ngx_http_trace_main_conf_t *tmcf)
{
    ngx_uint_t                       i;
    ngx_http_trace_exporter_conf_t  *ecf;

    for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++) {
        ecf = &tmcf->exporters[i];

        if (tmcf->enabled[i] && ecf->line == 0) {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "\"trace %V\" is on, but there is no exporter: "
                          "write \"trace_exporter %V { endpoint unix:/path; "
                          "%s}\" in the \"http\" block",
                          &ngx_http_trace_pipeline_names[i],
                          &ngx_http_trace_pipeline_names[i],
                          i == NGX_HTTP_TRACE_USER
                          ? "routing_header x-tenant; " : "");
            return NGX_ERROR;
        }

        if (ecf->line == 0) {
            continue;
        }

        if (tmcf->service_name[i].len == 0) {
            ngx_str_set(&tmcf->service_name[i], "unknown_service:nginx");
        }

        if (ngx_http_trace_exporter_init_conf(cf, ecf, &tmcf->service_name[i],
                                              &tmcf->resource[i])
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    if (tmcf->exporters[NGX_HTTP_TRACE_INTERNAL].queue_file.len
        && tmcf->exporters[NGX_HTTP_TRACE_INTERNAL].queue_file.len
           == tmcf->exporters[NGX_HTTP_TRACE_USER].queue_file.len
        && ngx_strcmp(tmcf->exporters[NGX_HTTP_TRACE_INTERNAL].queue_file.data,
                      tmcf->exporters[NGX_HTTP_TRACE_USER].queue_file.data)
           == 0)
    {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "both exporters have their \"queue\" in \"%V\", write "
                      "another file for one of them",
                      &tmcf->exporters[NGX_HTTP_TRACE_USER].queue_file);
        return NGX_ERROR;
    }

    return ngx_http_trace_init_events(cf, tmcf);
}


static ngx_int_t
ngx_http_trace_init_events(ngx_conf_t *cf, ngx_http_trace_main_conf_t *tmcf)
{
    ngx_uint_t  i;

    for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++) {

        if (!(tmcf->events & (1 << i))) {
            continue;
        }

        if (tmcf->exporters[i].line == 0) {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "\"trace_events %V\" in %V:%ui without an exporter, "
                          "write \"trace_exporter %V { endpoint unix:/path; "
                          "}\" in the \"http\" block",
                          &ngx_http_trace_pipeline_names[i],
                          &tmcf->events_file[i], tmcf->events_line[i],
                          &ngx_http_trace_pipeline_names[i]);
            return NGX_ERROR;
        }

        if (ngx_http_trace_exporter_init_events(cf,
                                  &tmcf->exporters[NGX_HTTP_TRACE_EVENTS(i)],
                                  &tmcf->exporters[i], i)
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/* an "if" that has none is left to that of its location */

static void
ngx_http_trace_content_handlers(ngx_http_trace_main_conf_t *tmcf)
{
    ngx_uint_t                  i;
    ngx_http_trace_location_t  *location;

    location = tmcf->locations.elts;

    for (i = 0; i < tmcf->locations.nelts; i++) {

        if (location[i].clcf->handler == NULL) {
            location[i].conf->handler = location[i].outer->handler;

        } else if (!location[i].conf->idle) {
            location[i].conf->handler = location[i].clcf->handler;
            location[i].clcf->handler = ngx_http_trace_content_handler;
        }
    }
}


/*
 * Whether nginx has the realip module is only known now: the module may have
 * been built with other arguments than nginx itself.  Its variables are read
 * without an index, which would cost all requests.
 */

static void
ngx_http_trace_realip(ngx_conf_t *cf, ngx_http_trace_main_conf_t *tmcf)
{
    ngx_uint_t                  i;
    ngx_hash_key_t             *key;
    ngx_http_core_main_conf_t  *cmcf;

    static ngx_str_t  addr = ngx_string("realip_remote_addr");
    static ngx_str_t  port = ngx_string("realip_remote_port");

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    key = cmcf->variables_keys->keys.elts;

    for (i = 0; i < cmcf->variables_keys->keys.nelts; i++) {

        if (key[i].key.len != addr.len) {
            continue;
        }

        if (ngx_strncmp(key[i].key.data, addr.data, addr.len) == 0) {
            tmcf->realip_addr = key[i].value;

        } else if (ngx_strncmp(key[i].key.data, port.data, port.len) == 0) {
            tmcf->realip_port = key[i].value;
        }
    }
}


/* those of phases that somebody needs */

static ngx_int_t
ngx_http_trace_handlers(ngx_conf_t *cf, ngx_http_trace_main_conf_t *tmcf)
{
    if (ngx_http_trace_handler(cf, NGX_HTTP_REWRITE_PHASE,
                               ngx_http_trace_rewrite_handler)
        != NGX_OK
        || ngx_http_trace_handler(cf, NGX_HTTP_PREACCESS_PHASE,
                                  ngx_http_trace_preaccess_handler)
           != NGX_OK
        || ngx_http_trace_handler(cf, NGX_HTTP_LOG_PHASE,
                                  ngx_http_trace_log_handler)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (tmcf->enabled[NGX_HTTP_TRACE_USER]
        && ngx_http_trace_handler(cf, NGX_HTTP_PRECONTENT_PHASE,
                                  ngx_http_trace_precontent_handler)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (tmcf->distrust
        && (ngx_http_trace_handler(cf, NGX_HTTP_POST_READ_PHASE,
                                   ngx_http_trace_post_read_handler)
            != NGX_OK
            || ngx_http_trace_handler(cf, NGX_HTTP_SERVER_REWRITE_PHASE,
                                      ngx_http_trace_server_rewrite_handler)
               != NGX_OK
            || ngx_http_trace_first_handler(cf, NGX_HTTP_LOG_PHASE,
                                            ngx_http_trace_unread_handler)
               != NGX_OK))
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_trace_handler(ngx_conf_t *cf, ngx_uint_t phase,
    ngx_http_handler_pt handler)
{
    ngx_http_handler_pt        *h;
    ngx_http_core_main_conf_t  *cmcf;

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    h = ngx_array_push(&cmcf->phases[phase].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = handler;

    return NGX_OK;
}


/* of a phase whose handlers are called in order */

static ngx_int_t
ngx_http_trace_first_handler(ngx_conf_t *cf, ngx_uint_t phase,
    ngx_http_handler_pt handler)
{
    ngx_array_t                *handlers;
    ngx_http_handler_pt        *h;
    ngx_http_core_main_conf_t  *cmcf;

    if (ngx_http_trace_handler(cf, phase, handler) != NGX_OK) {
        return NGX_ERROR;
    }

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    handlers = &cmcf->phases[phase].handlers;
    h = handlers->elts;

    ngx_memmove(h + 1, h, (handlers->nelts - 1)
                          * sizeof(ngx_http_handler_pt));
    h[0] = handler;

    return NGX_OK;
}


/* all handlers are there now, and those of the log phase may still add spans */

static void
ngx_http_trace_log_last(ngx_cycle_t *cycle)
{
    ngx_uint_t                  i;
    ngx_array_t                *handlers;
    ngx_http_handler_pt        *h;
    ngx_http_core_main_conf_t  *cmcf;

    cmcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_core_module);

    handlers = &cmcf->phases[NGX_HTTP_LOG_PHASE].handlers;
    h = handlers->elts;

    for (i = 0; i + 1 < handlers->nelts; i++) {
        if (h[i] == ngx_http_trace_log_handler) {
            h[i] = h[i + 1];
            h[i + 1] = ngx_http_trace_log_handler;
        }
    }
}


static ngx_int_t
ngx_http_trace_init_module(ngx_cycle_t *cycle)
{
    ngx_uint_t                   i;
    ngx_http_trace_main_conf_t  *tmcf;

    tmcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_trace_module);

    if (tmcf == NULL) {
        return NGX_OK;
    }

    ngx_http_trace_log_last(cycle);

    for (i = 0; i < NGX_HTTP_TRACE_CHANNELS; i++) {
        if (tmcf->exporters[i].line == 0
            || !tmcf->enabled[i % NGX_HTTP_TRACE_PIPELINES])
        {
            ngx_http_trace_store_close(i);
            continue;
        }

        if (ngx_http_trace_store_open(cycle, &tmcf->exporters[i], i)
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_trace_init_process(ngx_cycle_t *cycle)
{
    ngx_uint_t                   i;
    ngx_http_trace_main_conf_t  *tmcf;

    if (ngx_process != NGX_PROCESS_WORKER && ngx_process != NGX_PROCESS_SINGLE)
    {
        return NGX_OK;
    }

    tmcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_trace_module);

    if (tmcf == NULL) {
        return NGX_OK;
    }

    for (i = 0; i < NGX_HTTP_TRACE_CHANNELS; i++) {

        if (tmcf->exporters[i].store == NULL) {
            continue;
        }

        /* a worker that cannot export still serves */

        if (ngx_http_trace_exporter_start(cycle, &tmcf->exporters[i], i)
            != NGX_OK)
        {
            ngx_log_error(NGX_LOG_ALERT, cycle->log, 0,
                          "%V of this worker are not exported",
                          &ngx_http_trace_channel_names[i]);
        }
    }

    return NGX_OK;
}


static void
ngx_http_trace_exit_process(ngx_cycle_t *cycle)
{
    ngx_uint_t  i;

    for (i = 0; i < NGX_HTTP_TRACE_CHANNELS; i++) {
        ngx_http_trace_exporter_stop(i);
    }
}
