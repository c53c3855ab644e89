
/*
 * Calls of the C API, written in the configuration: t/api.t tests with it.
 *
 *   span WHERE CALL [ARGUMENT...];
 *
 * WHERE: post_read, server_rewrite, rewrite, preaccess, access, header, body,
 * balancer (the upstream's, in a location whose upstream has span_balancer),
 * free (that of the upstream's peer), timer (of "span WHERE wait"), log, later
 * (50 ms after "span WHERE later", when the request may be over).
 *
 * A span is kept in one of ten places, which outlive the request; it is told
 * by its digit, and - is no span.  CALL:
 *
 *   open S NAME [PIPELINES [PARENT]]      PIPELINES: a number
 *   opens N                               N of them
 *   current S [S]                         the one before goes to the second
 *   set S ATTRIBUTE...
 *   event S NAME [ATTRIBUTE...]
 *   sets S N                              N attributes, k0 and so on
 *   events S N                            N of them
 *   crowded S N                           an event with N attributes
 *   rename S NAME, status S N, close S
 *   make S HIGH LOW                       a number that nobody has given out
 *   alive S, zero S, recording, version   span_said prints what they say
 *   wait MS                               in access only
 *   later
 *
 * An ATTRIBUTE is KEY=TYPEVALUE: s and text, i and d and b and a number, x and
 * the length of a text, h and its bytes in hex, ? for a type that is none.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include <ngx_http_trace_api.h>


#define NGX_HTTP_TRACE_TEST_ATTRIBUTES  200


typedef struct {
    ngx_str_t                  where;
    ngx_str_t                  call;
    ngx_uint_t                 nargs;
    ngx_str_t                  args[8];
} ngx_http_trace_test_call_t;


typedef struct {
    ngx_array_t               *calls;     /* of ngx_http_trace_test_call_t */
} ngx_http_trace_test_loc_conf_t;


static void ngx_http_trace_test_run(ngx_http_request_t *r, char *where);
static void ngx_http_trace_test_call(ngx_http_request_t *r,
    ngx_http_trace_test_call_t *call);
static void ngx_http_trace_test_say(char *what, ngx_uint_t value);
static void ngx_http_trace_test_wait(ngx_http_request_t *r, ngx_msec_t wait);
static void ngx_http_trace_test_waited(ngx_http_request_t *r);
static void ngx_http_trace_test_later(ngx_event_t *ev);

static char *ngx_http_trace_test_directive(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_trace_test_said(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_trace_test_balancer(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static void *ngx_http_trace_test_create_loc_conf(ngx_conf_t *cf);
static char *ngx_http_trace_test_merge_loc_conf(ngx_conf_t *cf, void *parent,
    void *child);
static ngx_int_t ngx_http_trace_test_init(ngx_conf_t *cf);


static ngx_command_t  ngx_http_trace_test_commands[] = {

    { ngx_string("span"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_HTTP_LIF_CONF
                        |NGX_CONF_2MORE,
      ngx_http_trace_test_directive,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("span_said"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS,
      ngx_http_trace_test_said,
      0,
      0,
      NULL },

    { ngx_string("span_balancer"),
      NGX_HTTP_UPS_CONF|NGX_CONF_NOARGS,
      ngx_http_trace_test_balancer,
      0,
      0,
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_trace_test_module_ctx = {
    NULL,                                  /* preconfiguration */
    ngx_http_trace_test_init,              /* postconfiguration */

    NULL,                                  /* create main configuration */
    NULL,                                  /* init main configuration */

    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */

    ngx_http_trace_test_create_loc_conf,   /* create location configuration */
    ngx_http_trace_test_merge_loc_conf     /* merge location configuration */
};


ngx_module_t  ngx_http_trace_test_module = {
    NGX_MODULE_V1,
    &ngx_http_trace_test_module_ctx,       /* module context */
    ngx_http_trace_test_commands,          /* module directives */
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


static ngx_http_trace_span_t             ngx_http_trace_test_spans[10];

static u_char                            ngx_http_trace_test_text[4096];
static size_t                            ngx_http_trace_test_len;

/* of one request at a time */
static ngx_event_t                       ngx_http_trace_test_event;
static ngx_connection_t                  ngx_http_trace_test_none;
static ngx_http_trace_test_loc_conf_t   *ngx_http_trace_test_late_conf;
static ngx_http_request_t               *ngx_http_trace_test_asks;
static ngx_event_free_peer_pt            ngx_http_trace_test_free_peer;

static ngx_http_upstream_init_pt         ngx_http_trace_test_init_upstream;
static ngx_http_upstream_init_peer_pt    ngx_http_trace_test_init_peer;

static ngx_http_output_header_filter_pt  ngx_http_trace_test_next_header;
static ngx_http_output_body_filter_pt    ngx_http_trace_test_next_body;


static void
ngx_http_trace_test_calls(ngx_http_request_t *r,
    ngx_http_trace_test_loc_conf_t *conf, char *where)
{
    ngx_uint_t                   i;
    ngx_http_trace_test_call_t  *call;

    if (conf->calls == NULL) {
        return;
    }

    call = conf->calls->elts;

    for (i = 0; i < conf->calls->nelts; i++) {
        if (ngx_strcmp(call[i].where.data, where) == 0) {
            ngx_http_trace_test_call(r, &call[i]);
        }
    }
}


static void
ngx_http_trace_test_run(ngx_http_request_t *r, char *where)
{
    ngx_http_trace_test_calls(r,
        ngx_http_get_module_loc_conf(r, ngx_http_trace_test_module), where);
}


static ngx_http_trace_span_t *
ngx_http_trace_test_span(ngx_str_t *arg)
{
    static ngx_http_trace_span_t  none;

    none = NGX_HTTP_TRACE_NO_SPAN;

    return arg->data[0] == '-' ? &none
                               : &ngx_http_trace_test_spans[arg->data[0] - '0'];
}


static ngx_uint_t
ngx_http_trace_test_attributes(ngx_http_request_t *r,
    ngx_http_trace_api_attribute_t *attributes, ngx_str_t *args, ngx_uint_t n)
{
    u_char                          *p, *text;
    ngx_uint_t                       i, j;
    ngx_http_trace_api_attribute_t  *attr;

    ngx_memzero(attributes, n * sizeof(ngx_http_trace_api_attribute_t));

    for (i = 0; i < n; i++) {
        attr = &attributes[i];
        p = (u_char *) ngx_strchr(args[i].data, '=');

        attr->key = args[i].data;
        attr->key_len = p - args[i].data;
        attr->type = p[1] == 'i' ? NGX_HTTP_TRACE_API_INT
                     : p[1] == 'd' ? NGX_HTTP_TRACE_API_DOUBLE
                     : p[1] == 'b' ? NGX_HTTP_TRACE_API_BOOL
                     : p[1] == '?' ? 99 : NGX_HTTP_TRACE_API_STRING;
        attr->boolean = attr->integer = atoll((char *) p + 2);
        attr->number = strtod((char *) p + 2, NULL);
        attr->string = p + 2;
        attr->string_len = ngx_strlen(p + 2);

        if (p[1] == 'x') {
            text = ngx_palloc(r->pool, attr->integer);
            ngx_memset(text, 'x', attr->integer);
            attr->string = text;
            attr->string_len = attr->integer;

        } else if (p[1] == 'h') {
            text = ngx_palloc(r->pool, attr->string_len);
            attr->string_len /= 2;

            for (j = 0; j < attr->string_len; j++) {
                text[j] = ngx_hextoi(p + 2 + 2 * j, 2);
            }

            attr->string = text;
        }
    }

    return n;
}


static ngx_uint_t
ngx_http_trace_test_numbered(ngx_http_request_t *r,
    ngx_http_trace_api_attribute_t *attributes, ngx_uint_t n)
{
    ngx_uint_t  i;

    ngx_memzero(attributes, n * sizeof(ngx_http_trace_api_attribute_t));

    for (i = 0; i < n; i++) {
        attributes[i].key = ngx_pnalloc(r->pool, NGX_INT_T_LEN);
        attributes[i].key_len = ngx_sprintf((u_char *) attributes[i].key,
                                            "k%ui", i) - attributes[i].key;
        attributes[i].type = NGX_HTTP_TRACE_API_INT;
        attributes[i].integer = i;
    }

    return n;
}


static void
ngx_http_trace_test_call(ngx_http_request_t *r,
    ngx_http_trace_test_call_t *call)
{
    ngx_str_t                       *arg;
    ngx_uint_t                       n, number[8];
    ngx_http_trace_span_t           *span, before;
    ngx_http_trace_api_attribute_t   attr[NGX_HTTP_TRACE_TEST_ATTRIBUTES];

#define is(name)  (ngx_strcmp(call->call.data, name) == 0)

    arg = call->args;
    span = ngx_http_trace_test_span(&arg[0]);

    for (n = 0; n < call->nargs; n++) {
        number[n] = atoll((char *) arg[n].data);
    }

    if (is("open")) {
        *span = ngx_http_trace_span_open(r,
                    n > 3 ? *ngx_http_trace_test_span(&arg[3])
                          : NGX_HTTP_TRACE_NO_SPAN,
                    arg[1].data, arg[1].len,
                    n > 2 ? number[2] : NGX_HTTP_TRACE_API_BOTH);

    } else if (is("opens")) {

        for (n = 0; n < number[0]; n++) {
            ngx_http_trace_span_close(ngx_http_trace_span_open(r, 0,
                                               (u_char *) "one of many", 11,
                                               NGX_HTTP_TRACE_API_BOTH));
        }

    } else if (is("current")) {
        before = ngx_http_trace_span_current(r, *span);

        if (n > 1) {
            *ngx_http_trace_test_span(&arg[1]) = before;
        }

    } else if (is("set")) {
        n = ngx_http_trace_test_attributes(r, attr, &arg[1], n - 1);
        ngx_http_trace_span_set(*span, attr, n);

    } else if (is("sets")) {
        n = ngx_http_trace_test_numbered(r, attr, number[1]);
        ngx_http_trace_span_set(*span, attr, n);

    } else if (is("event")) {
        n = ngx_http_trace_test_attributes(r, attr, &arg[2], n - 2);
        ngx_http_trace_span_event(*span, arg[1].data, arg[1].len, attr, n);

    } else if (is("crowded")) {
        n = ngx_http_trace_test_numbered(r, attr, number[1]);
        ngx_http_trace_span_event(*span, (u_char *) "crowded", 7, attr, n);

    } else if (is("events")) {

        for (n = 0; n < number[1]; n++) {
            ngx_http_trace_span_event(*span, (u_char *) "e", 1, NULL, 0);
        }

    } else if (is("rename")) {
        ngx_http_trace_span_rename(*span, arg[1].data, arg[1].len);

    } else if (is("status")) {
        ngx_http_trace_span_status(*span, number[1]);

    } else if (is("close")) {
        ngx_http_trace_span_close(*span);

    } else if (is("make")) {
        *span = (uint64_t) number[1] << 32 | number[2];

    } else if (is("alive")) {
        ngx_http_trace_test_say("alive", ngx_http_trace_span_alive(r, *span));

    } else if (is("zero")) {
        ngx_http_trace_test_say("zero", *span == NGX_HTTP_TRACE_NO_SPAN);

    } else if (is("recording")) {
        ngx_http_trace_test_say("recording", ngx_http_trace_recording(r));

    } else if (is("version")) {
        ngx_http_trace_test_say("version", ngx_http_trace_api_version());

    } else if (is("wait")) {
        ngx_http_trace_test_wait(r, number[0]);

    } else if (is("later")) {
        ngx_http_trace_test_late_conf =
            ngx_http_get_module_loc_conf(r, ngx_http_trace_test_module);
        ngx_http_trace_test_event.handler = ngx_http_trace_test_later;
        ngx_http_trace_test_event.data = &ngx_http_trace_test_none;
        ngx_http_trace_test_event.log = ngx_cycle->log;
        ngx_add_timer(&ngx_http_trace_test_event, 50);

    } else {
        ngx_log_error(NGX_LOG_ALERT, r->connection->log, 0,
                      "no call \"%V\"", &call->call);
    }

#undef is
}


static void
ngx_http_trace_test_say(char *what, ngx_uint_t value)
{
    u_char  *p;

    p = ngx_http_trace_test_text + ngx_http_trace_test_len;
    p = ngx_snprintf(p, sizeof(ngx_http_trace_test_text)
                        - ngx_http_trace_test_len,
                     "%s=%ui ", what, value);

    ngx_http_trace_test_len = p - ngx_http_trace_test_text;
}


static void
ngx_http_trace_test_wait(ngx_http_request_t *r, ngx_msec_t wait)
{
    r->read_event_handler = ngx_http_test_reading;
    r->write_event_handler = ngx_http_trace_test_waited;

    (void) ngx_handle_read_event(r->connection->read, 0);

    r->connection->write->delayed = 1;
    ngx_add_timer(r->connection->write, wait);
}


static void
ngx_http_trace_test_waited(ngx_http_request_t *r)
{
    if (r->connection->write->delayed) {
        (void) ngx_handle_write_event(r->connection->write, 0);
        return;
    }

    ngx_http_trace_test_run(r, "timer");

    r->read_event_handler = ngx_http_block_reading;
    r->write_event_handler = ngx_http_core_run_phases;
    r->phase_handler++;

    ngx_http_core_run_phases(r);
}


static void
ngx_http_trace_test_later(ngx_event_t *ev)
{
    ngx_http_trace_test_calls(NULL, ngx_http_trace_test_late_conf, "later");
}


static ngx_int_t
ngx_http_trace_test_post_read(ngx_http_request_t *r)
{
    ngx_http_trace_test_run(r, "post_read");
    return NGX_DECLINED;
}


static ngx_int_t
ngx_http_trace_test_server_rewrite(ngx_http_request_t *r)
{
    ngx_http_trace_test_run(r, "server_rewrite");
    return NGX_DECLINED;
}


static ngx_int_t
ngx_http_trace_test_rewrite(ngx_http_request_t *r)
{
    ngx_http_trace_test_run(r, "rewrite");
    return NGX_DECLINED;
}


static ngx_int_t
ngx_http_trace_test_preaccess(ngx_http_request_t *r)
{
    ngx_http_trace_test_run(r, "preaccess");
    return NGX_DECLINED;
}


static ngx_int_t
ngx_http_trace_test_access(ngx_http_request_t *r)
{
    ngx_http_trace_test_run(r, "access");
    return r->connection->write->delayed ? NGX_AGAIN : NGX_DECLINED;
}


static ngx_int_t
ngx_http_trace_test_log(ngx_http_request_t *r)
{
    ngx_http_trace_test_run(r, "log");
    return NGX_OK;
}


static ngx_int_t
ngx_http_trace_test_header_filter(ngx_http_request_t *r)
{
    ngx_http_trace_test_run(r, "header");
    return ngx_http_trace_test_next_header(r);
}


static ngx_int_t
ngx_http_trace_test_body_filter(ngx_http_request_t *r, ngx_chain_t *in)
{
    ngx_http_trace_test_run(r, "body");
    return ngx_http_trace_test_next_body(r, in);
}


static void
ngx_http_trace_test_free(ngx_peer_connection_t *pc, void *data,
    ngx_uint_t state)
{
    ngx_http_trace_test_run(ngx_http_trace_test_asks, "free");
    ngx_http_trace_test_free_peer(pc, data, state);
}


static ngx_int_t
ngx_http_trace_test_peer(ngx_http_request_t *r,
    ngx_http_upstream_srv_conf_t *us)
{
    if (ngx_http_trace_test_init_peer(r, us) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_http_trace_test_asks = r;
    ngx_http_trace_test_free_peer = r->upstream->peer.free;
    r->upstream->peer.free = ngx_http_trace_test_free;

    ngx_http_trace_test_run(r, "balancer");

    return NGX_OK;
}


static ngx_int_t
ngx_http_trace_test_upstream(ngx_conf_t *cf, ngx_http_upstream_srv_conf_t *us)
{
    if (ngx_http_trace_test_init_upstream(cf, us) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_http_trace_test_init_peer = us->peer.init;
    us->peer.init = ngx_http_trace_test_peer;

    return NGX_OK;
}


static char *
ngx_http_trace_test_balancer(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_upstream_srv_conf_t  *us;

    us = ngx_http_conf_get_module_srv_conf(cf, ngx_http_upstream_module);

    ngx_http_trace_test_init_upstream = us->peer.init_upstream
                                        ? us->peer.init_upstream
                                        : ngx_http_upstream_init_round_robin;
    us->peer.init_upstream = ngx_http_trace_test_upstream;

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_trace_test_print(ngx_http_request_t *r)
{
    ngx_str_t                 type = ngx_string("text/plain");
    ngx_http_complex_value_t  text;

    ngx_memzero(&text, sizeof(ngx_http_complex_value_t));
    text.value.data = ngx_http_trace_test_text;
    text.value.len = ngx_http_trace_test_len;

    return ngx_http_send_response(r, NGX_HTTP_OK, &type, &text);
}


static char *
ngx_http_trace_test_said(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
    clcf->handler = ngx_http_trace_test_print;

    return NGX_CONF_OK;
}


static char *
ngx_http_trace_test_directive(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_trace_test_loc_conf_t *tlcf = conf;

    ngx_str_t                   *value;
    ngx_http_trace_test_call_t  *call;

    if (tlcf->calls == NULL) {
        tlcf->calls = ngx_array_create(cf->pool, 8,
                                       sizeof(ngx_http_trace_test_call_t));
        if (tlcf->calls == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    call = ngx_array_push(tlcf->calls);
    if (call == NULL) {
        return NGX_CONF_ERROR;
    }

    value = cf->args->elts;

    ngx_memzero(call, sizeof(ngx_http_trace_test_call_t));

    call->where = value[1];
    call->call = value[2];
    call->nargs = cf->args->nelts - 3;

    if (call->nargs > 8) {
        return "has too many arguments";
    }

    ngx_memcpy(call->args, &value[3], call->nargs * sizeof(ngx_str_t));

    if (call->nargs == 0) {
        ngx_str_set(&call->args[0], "-");
    }

    return NGX_CONF_OK;
}


static void *
ngx_http_trace_test_create_loc_conf(ngx_conf_t *cf)
{
    return ngx_pcalloc(cf->pool, sizeof(ngx_http_trace_test_loc_conf_t));
}


static char *
ngx_http_trace_test_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_http_trace_test_loc_conf_t *prev = parent;
    ngx_http_trace_test_loc_conf_t *conf = child;

    if (conf->calls == NULL) {
        conf->calls = prev->calls;
    }

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_trace_test_init(ngx_conf_t *cf)
{
    ngx_uint_t                  i;
    ngx_http_handler_pt        *h;
    ngx_http_core_main_conf_t  *cmcf;

    static const struct {
        ngx_uint_t              phase;
        ngx_http_handler_pt     handler;
    } handlers[] = {
        { NGX_HTTP_POST_READ_PHASE, ngx_http_trace_test_post_read },
        { NGX_HTTP_SERVER_REWRITE_PHASE, ngx_http_trace_test_server_rewrite },
        { NGX_HTTP_REWRITE_PHASE, ngx_http_trace_test_rewrite },
        { NGX_HTTP_PREACCESS_PHASE, ngx_http_trace_test_preaccess },
        { NGX_HTTP_ACCESS_PHASE, ngx_http_trace_test_access },
        { NGX_HTTP_LOG_PHASE, ngx_http_trace_test_log }
    };

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    for (i = 0; i < sizeof(handlers) / sizeof(handlers[0]); i++) {
        h = ngx_array_push(&cmcf->phases[handlers[i].phase].handlers);
        if (h == NULL) {
            return NGX_ERROR;
        }

        *h = handlers[i].handler;
    }

    ngx_http_trace_test_next_header = ngx_http_top_header_filter;
    ngx_http_top_header_filter = ngx_http_trace_test_header_filter;

    ngx_http_trace_test_next_body = ngx_http_top_body_filter;
    ngx_http_top_body_filter = ngx_http_trace_test_body_filter;

    return NGX_OK;
}
