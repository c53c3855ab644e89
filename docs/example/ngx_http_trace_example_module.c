
/*
 * An example of spans of one's own: requests wait before they go on.
 *
 *   example_wait TIME;         http, server, location
 *
 * It must be loaded behind ngx_http_trace_module, which it needs.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include <ngx_http_trace_api.h>


typedef struct {
    ngx_msec_t                 wait;
} ngx_http_trace_example_loc_conf_t;


typedef struct {
    ngx_http_trace_span_t      span;
} ngx_http_trace_example_ctx_t;


static ngx_int_t ngx_http_trace_example_handler(ngx_http_request_t *r);
static ngx_http_trace_span_t ngx_http_trace_example_open(
    ngx_http_request_t *r, ngx_msec_t wait);
static void ngx_http_trace_example_over(ngx_http_request_t *r);

static void *ngx_http_trace_example_create_loc_conf(ngx_conf_t *cf);
static char *ngx_http_trace_example_merge_loc_conf(ngx_conf_t *cf,
    void *parent, void *child);
static ngx_int_t ngx_http_trace_example_init(ngx_conf_t *cf);


static ngx_command_t  ngx_http_trace_example_commands[] = {

    { ngx_string("example_wait"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_trace_example_loc_conf_t, wait),
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_trace_example_module_ctx = {
    NULL,                                  /* preconfiguration */
    ngx_http_trace_example_init,           /* postconfiguration */

    NULL,                                  /* create main configuration */
    NULL,                                  /* init main configuration */

    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */

    ngx_http_trace_example_create_loc_conf,
                                           /* create location configuration */
    ngx_http_trace_example_merge_loc_conf  /* merge location configuration */
};


ngx_module_t  ngx_http_trace_example_module = {
    NGX_MODULE_V1,
    &ngx_http_trace_example_module_ctx,    /* module context */
    ngx_http_trace_example_commands,       /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    NULL,                                  /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    NULL,                                  /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


static ngx_int_t
ngx_http_trace_example_handler(ngx_http_request_t *r)
{
    ngx_http_trace_span_t               span;
    ngx_http_trace_example_ctx_t       *ctx;
    ngx_http_trace_example_loc_conf_t  *elcf;

    elcf = ngx_http_get_module_loc_conf(r, ngx_http_trace_example_module);

    if (elcf->wait == NGX_CONF_UNSET_MSEC
        || ngx_http_get_module_ctx(r, ngx_http_trace_example_module))
    {
        return NGX_DECLINED;
    }

    span = ngx_http_trace_example_open(r, elcf->wait);

    if (elcf->wait == 0) {
        ngx_http_trace_span_close(span);
        return NGX_DECLINED;
    }

    ctx = ngx_palloc(r->pool, sizeof(ngx_http_trace_example_ctx_t));
    if (ctx == NULL) {
        return NGX_ERROR;
    }

    ctx->span = span;

    ngx_http_set_ctx(r, ctx, ngx_http_trace_example_module);

    /* a client that leaves ends the request, which closes the span */

    if (ngx_handle_read_event(r->connection->read, 0) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    r->read_event_handler = ngx_http_test_reading;
    r->write_event_handler = ngx_http_trace_example_over;

    r->connection->write->delayed = 1;
    ngx_add_timer(r->connection->write, elcf->wait);

    return NGX_AGAIN;
}


/* 0 if nothing records the request; all that is done with it is nothing then */

static ngx_http_trace_span_t
ngx_http_trace_example_open(ngx_http_request_t *r, ngx_msec_t wait)
{
    ngx_http_trace_span_t  span;

    static u_char  name[] = "wait";

    span = ngx_http_trace_span_open(r, NGX_HTTP_TRACE_NO_SPAN, name,
                                    sizeof(name) - 1,
                                    NGX_HTTP_TRACE_API_BOTH);

    if (span) {
        ngx_http_trace_api_attribute_t  attributes[] = {
            ngx_http_trace_api_int("example.wait", wait),
            ngx_http_trace_api_string("example.method", r->method_name.data,
                                      r->method_name.len)
        };

        ngx_http_trace_span_set(span, attributes, 2);
    }

    return span;
}


static void
ngx_http_trace_example_over(ngx_http_request_t *r)
{
    ngx_event_t                   *wev;
    ngx_http_trace_example_ctx_t  *ctx;

    wev = r->connection->write;

    if (wev->delayed) {

        if (ngx_handle_write_event(wev, 0) != NGX_OK) {
            ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
        }

        return;
    }

    ctx = ngx_http_get_module_ctx(r, ngx_http_trace_example_module);

    ngx_http_trace_span_close(ctx->span);

    r->read_event_handler = ngx_http_block_reading;
    r->write_event_handler = ngx_http_core_run_phases;

    ngx_http_core_run_phases(r);
}


static void *
ngx_http_trace_example_create_loc_conf(ngx_conf_t *cf)
{
    ngx_http_trace_example_loc_conf_t  *conf;

    conf = ngx_palloc(cf->pool, sizeof(ngx_http_trace_example_loc_conf_t));
    if (conf == NULL) {
        return NULL;
    }

    conf->wait = NGX_CONF_UNSET_MSEC;

    return conf;
}


static char *
ngx_http_trace_example_merge_loc_conf(ngx_conf_t *cf, void *parent,
    void *child)
{
    ngx_http_trace_example_loc_conf_t *prev = parent;
    ngx_http_trace_example_loc_conf_t *conf = child;

    ngx_conf_merge_msec_value(conf->wait, prev->wait, NGX_CONF_UNSET_MSEC);

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_trace_example_init(ngx_conf_t *cf)
{
    ngx_http_handler_pt        *h;
    ngx_http_core_main_conf_t  *cmcf;

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    h = ngx_array_push(&cmcf->phases[NGX_HTTP_ACCESS_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_http_trace_example_handler;

    return NGX_OK;
}
