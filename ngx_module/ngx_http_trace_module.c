
/*
 * Directives, configuration, and the wiring of the hooks.
 */


#include "ngx_http_trace_module.h"


/* bits of all pipelines */
#define NGX_HTTP_TRACE_BOTH           ((1 << NGX_HTTP_TRACE_PIPELINES) - 1)


/* a value of "trace_attribute ... type=" */

static ngx_conf_enum_t  ngx_http_trace_types[] = {
    { ngx_string("string"), NGX_HTTP_TRACE_STRING },
    { ngx_string("int"), NGX_HTTP_TRACE_INT },
    { ngx_string("double"), NGX_HTTP_TRACE_DOUBLE },
    { ngx_string("bool"), NGX_HTTP_TRACE_BOOL },
    { ngx_null_string, 0 }
};


static ngx_conf_enum_t  ngx_http_trace_contexts[] = {
    { ngx_string("ignore"), NGX_HTTP_TRACE_IGNORE },
    { ngx_string("extract"), NGX_HTTP_TRACE_EXTRACT },
    { ngx_string("inject"), NGX_HTTP_TRACE_INJECT },
    { ngx_string("propagate"), NGX_HTTP_TRACE_PROPAGATE },
    { ngx_null_string, 0 }
};


static ngx_int_t ngx_http_trace_rewrite_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_trace_preaccess_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_trace_log_handler(ngx_http_request_t *r);

static char *ngx_http_trace(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
static char *ngx_http_trace_context(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static ngx_int_t ngx_http_trace_context_headers(ngx_conf_t *cf,
    ngx_http_trace_pipeline_conf_t *pcf, ngx_str_t *name);
static char *ngx_http_trace_trust(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_trace_name(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_trace_attribute(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static ngx_int_t ngx_http_trace_attribute_parameter(ngx_conf_t *cf,
    ngx_http_trace_attribute_t *attr, ngx_str_t *value);
static ngx_int_t ngx_http_trace_attribute_constant(ngx_conf_t *cf,
    ngx_http_trace_attribute_t *attr);
static ngx_int_t ngx_http_trace_add_attribute(ngx_conf_t *cf,
    ngx_http_trace_pipeline_conf_t *pcf, ngx_http_trace_attribute_t *attr);
static char *ngx_http_trace_service(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_trace_resource(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static ngx_int_t ngx_http_trace_pipelines(ngx_conf_t *cf, ngx_command_t *cmd,
    ngx_str_t *name);
static ngx_int_t ngx_http_trace_optional_pipelines(ngx_conf_t *cf,
    ngx_command_t *cmd);
static ngx_int_t ngx_http_trace_find_pipeline(ngx_str_t *name);
static ngx_int_t ngx_http_trace_attribute_name(ngx_conf_t *cf,
    ngx_command_t *cmd, ngx_str_t *name);
static ngx_conf_enum_t *ngx_http_trace_enum(ngx_conf_enum_t *e,
    ngx_str_t *name);

static void *ngx_http_trace_create_main_conf(ngx_conf_t *cf);
static void *ngx_http_trace_create_loc_conf(ngx_conf_t *cf);
static char *ngx_http_trace_merge_loc_conf(ngx_conf_t *cf, void *parent,
    void *child);
static void ngx_http_trace_merge_context(ngx_http_trace_pipeline_conf_t *prev,
    ngx_http_trace_pipeline_conf_t *conf);
static ngx_int_t ngx_http_trace_merge_attributes(ngx_conf_t *cf,
    ngx_http_trace_pipeline_conf_t *prev,
    ngx_http_trace_pipeline_conf_t *conf, ngx_uint_t pipeline);
static ngx_int_t ngx_http_trace_split_attributes(ngx_conf_t *cf,
    ngx_http_trace_pipeline_conf_t *conf);
static ngx_http_trace_attribute_t *ngx_http_trace_find_attribute(
    ngx_array_t *attributes, ngx_str_t *name);
static ngx_int_t ngx_http_trace_preconfiguration(ngx_conf_t *cf);
static ngx_int_t ngx_http_trace_postconfiguration(ngx_conf_t *cf);
static void ngx_http_trace_realip(ngx_conf_t *cf,
    ngx_http_trace_main_conf_t *tmcf);
static ngx_int_t ngx_http_trace_handler(ngx_conf_t *cf, ngx_uint_t phase,
    ngx_http_handler_pt handler);
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
                        |NGX_CONF_TAKE2,
      ngx_http_trace,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("trace_context"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_HTTP_LIF_CONF
                        |NGX_CONF_TAKE23,
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

    { ngx_string("trace_routing"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_HTTP_LIF_CONF
                        |NGX_CONF_TAKE1,
      ngx_http_set_complex_value_slot,
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


static ngx_http_trace_header_t  ngx_http_trace_default_headers[] = {
    { ngx_string("traceparent"), 0 },
    { ngx_string("tracestate"), 0 }
};


/*
 * Starts the clock where it is plain that there will be a span: a "return"
 * may follow, and then the next hook is that of the log phase, when the client
 * has its response already.  Decides nothing.
 */

static ngx_int_t
ngx_http_trace_rewrite_handler(ngx_http_request_t *r)
{
    ngx_http_trace_loc_conf_t  *tlcf;

    tlcf = ngx_http_get_module_loc_conf(r, ngx_http_trace_module);

    if ((tlcf->pipelines[NGX_HTTP_TRACE_INTERNAL].decision
         == NGX_HTTP_TRACE_ON
         || tlcf->pipelines[NGX_HTTP_TRACE_USER].decision
            == NGX_HTTP_TRACE_ON)
        && ngx_http_trace_get_ctx(r) == NULL)
    {
        (void) ngx_http_trace_create_ctx(r);
    }

    return NGX_DECLINED;
}


static ngx_int_t
ngx_http_trace_preaccess_handler(ngx_http_request_t *r)
{
    ngx_http_trace_ctx_t  *ctx;

    ctx = ngx_http_trace_decide(r);

    if (ctx->pipelines[NGX_HTTP_TRACE_INTERNAL].recorded
        || ctx->pipelines[NGX_HTTP_TRACE_USER].recorded)
    {
        /* without memory the request goes on with the headers it has */

        (void) ngx_http_trace_inject(r, ctx);
    }

    return NGX_DECLINED;
}


static ngx_int_t
ngx_http_trace_log_handler(ngx_http_request_t *r)
{
    ngx_http_trace_ctx_t  *ctx;

    /* log_subrequest */

    if (r != r->main) {
        return NGX_OK;
    }

    ctx = ngx_http_trace_decide(r);

    if (ctx->pipelines[NGX_HTTP_TRACE_INTERNAL].recorded
        || ctx->pipelines[NGX_HTTP_TRACE_USER].recorded)
    {
        ngx_http_trace_request_spans(r, ctx);
    }

    return NGX_OK;
}


static char *
ngx_http_trace(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_trace_loc_conf_t *tlcf = conf;

    ngx_str_t                         *value;
    ngx_int_t                          pipeline;
    ngx_http_trace_main_conf_t        *tmcf;
    ngx_http_trace_pipeline_conf_t    *pcf;
    ngx_http_compile_complex_value_t   ccv;

    value = cf->args->elts;

    pipeline = ngx_http_trace_pipeline(cf, cmd, &value[1]);
    if (pipeline == NGX_ERROR) {
        return NGX_CONF_ERROR;
    }

    pcf = &tlcf->pipelines[pipeline];

    if (pcf->decision != NGX_CONF_UNSET_UINT) {
        return "is duplicate";
    }

    pcf->file = cf->conf_file->file.name;
    pcf->line = cf->conf_file->line;

    if (ngx_strcmp(value[2].data, "off") == 0) {
        pcf->decision = NGX_HTTP_TRACE_OFF;
        return NGX_CONF_OK;
    }

    tmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_trace_module);
    tmcf->enabled[pipeline] = 1;

    if (ngx_strcmp(value[2].data, "on") == 0) {
        pcf->decision = NGX_HTTP_TRACE_ON;
        return NGX_CONF_OK;
    }

    if (value[2].data[0] != '$') {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid value \"%V\" in \"trace %V\", write "
                           "\"on\", \"off\" or a variable", &value[2],
                           &value[1]);
        return NGX_CONF_ERROR;
    }

    pcf->decision = NGX_HTTP_TRACE_VALUE;

    pcf->decision_value = ngx_palloc(cf->pool,
                                     sizeof(ngx_http_complex_value_t));
    if (pcf->decision_value == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_memzero(&ccv, sizeof(ngx_http_compile_complex_value_t));

    ccv.cf = cf;
    ccv.value = &value[2];
    ccv.complex_value = pcf->decision_value;

    if (ngx_http_compile_complex_value(&ccv) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_trace_context(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_trace_loc_conf_t *tlcf = conf;

    ngx_str_t                       *value, name;
    ngx_int_t                        pipeline;
    ngx_conf_enum_t                 *e;
    ngx_http_trace_pipeline_conf_t  *pcf;

    value = cf->args->elts;

    pipeline = ngx_http_trace_pipeline(cf, cmd, &value[1]);
    if (pipeline == NGX_ERROR) {
        return NGX_CONF_ERROR;
    }

    pcf = &tlcf->pipelines[pipeline];

    if (pcf->context != NGX_CONF_UNSET_UINT) {
        return "is duplicate";
    }

    e = ngx_http_trace_enum(ngx_http_trace_contexts, &value[2]);

    if (e == NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid mode \"%V\" in \"trace_context %V\", "
                           "write \"ignore\", \"extract\", \"inject\" or "
                           "\"propagate\"", &value[2], &value[1]);
        return NGX_CONF_ERROR;
    }

    pcf->context = e->value;

    if (cf->args->nelts == 3) {
        return NGX_CONF_OK;
    }

    if (ngx_strncmp(value[3].data, "header=", 7) != 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid parameter \"%V\" in \"trace_context %V\", "
                           "write \"header=x-op-traceparent\"", &value[3],
                           &value[1]);
        return NGX_CONF_ERROR;
    }

    name.data = value[3].data + 7;
    name.len = value[3].len - 7;

    if (ngx_http_trace_context_headers(cf, pcf, &name) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


/* the header that is named, and the tracestate beside it */

static ngx_int_t
ngx_http_trace_context_headers(ngx_conf_t *cf,
    ngx_http_trace_pipeline_conf_t *pcf, ngx_str_t *name)
{
    u_char      ch, *p;
    size_t      i, prefix;
    ngx_uint_t  bad;

    static ngx_str_t  parent = ngx_string("traceparent");
    static ngx_str_t  state = ngx_string("tracestate");

    bad = (name->len < parent.len
           || ngx_strncasecmp(name->data + name->len - parent.len,
                              parent.data, parent.len)
              != 0);

    for (i = 0; i < name->len; i++) {
        ch = ngx_tolower(name->data[i]);

        bad |= !((ch >= 'a' && ch <= 'z') || (ch >= '0' && ch <= '9')
                 || ch == '-');
    }

    if (bad) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid header \"%V\" in \"trace_context\", write "
                           "letters, digits and \"-\" in front of "
                           "\"traceparent\", as \"header=x-op-traceparent\"",
                           name);
        return NGX_ERROR;
    }

    prefix = name->len - parent.len;

    p = ngx_pnalloc(cf->pool, name->len + prefix + state.len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    pcf->traceparent.name.len = name->len;
    pcf->traceparent.name.data = p;
    pcf->traceparent.hash = ngx_hash_strlow(p, name->data, name->len);

    p += name->len;

    pcf->tracestate.name.len = prefix + state.len;
    pcf->tracestate.name.data = p;

    ngx_strlow(p, name->data, prefix);
    ngx_memcpy(p + prefix, state.data, state.len);

    pcf->tracestate.hash = ngx_hash_key(p, pcf->tracestate.name.len);

    return NGX_OK;
}


static char *
ngx_http_trace_trust(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_trace_loc_conf_t *tlcf = conf;

    ngx_str_t                       *value;
    ngx_int_t                        pipeline, rc;
    ngx_uint_t                       i;
    ngx_cidr_t                      *cidr;
    ngx_http_trace_pipeline_conf_t  *pcf;

    value = cf->args->elts;

    pipeline = ngx_http_trace_pipeline(cf, cmd, &value[1]);
    if (pipeline == NGX_ERROR) {
        return NGX_CONF_ERROR;
    }

    pcf = &tlcf->pipelines[pipeline];

    if (pcf->trust_all != NGX_CONF_UNSET) {
        return "is duplicate";
    }

    pcf->trust_all = 0;

    pcf->trusted = ngx_array_create(cf->pool, 4, sizeof(ngx_cidr_t));
    if (pcf->trusted == NULL) {
        return NGX_CONF_ERROR;
    }

    for (i = 2; i < cf->args->nelts; i++) {

        if (ngx_strcmp(value[i].data, "all") == 0) {
            pcf->trust_all = 1;
            continue;
        }

        cidr = ngx_array_push(pcf->trusted);
        if (cidr == NULL) {
            return NGX_CONF_ERROR;
        }

        ngx_memzero(cidr, sizeof(ngx_cidr_t));

        if (ngx_strcmp(value[i].data, "unix:") == 0) {
            cidr->family = AF_UNIX;
            continue;
        }

        rc = ngx_ptocidr(&value[i], cidr);

        if (rc == NGX_ERROR) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid address \"%V\" in \"trace_trusted\", "
                               "write an address, a network as "
                               "\"192.0.2.0/24\", \"unix:\" or \"all\"",
                               &value[i]);
            return NGX_CONF_ERROR;
        }

        if (rc == NGX_DONE) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "network \"%V\" in \"trace_trusted\" has bits "
                               "behind its mask, write the first address of "
                               "the network or a longer mask", &value[i]);
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_trace_name(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_trace_loc_conf_t *tlcf = conf;

    char           *rv;
    ngx_str_t      *value;
    ngx_int_t       mask;
    ngx_uint_t      i;
    ngx_command_t   slot;

    value = cf->args->elts;

    mask = ngx_http_trace_optional_pipelines(cf, cmd);
    if (mask == NGX_ERROR) {
        return NGX_CONF_ERROR;
    }

    /* the setter of nginx takes the value that comes first */

    value[1] = value[cf->args->nelts - 1];

    for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++) {

        if (!(mask & (1 << i))) {
            continue;
        }

        slot = *cmd;
        slot.offset = offsetof(ngx_http_trace_pipeline_conf_t, span_name);

        rv = ngx_http_set_complex_value_slot(cf, &slot, &tlcf->pipelines[i]);

        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_trace_attribute(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_trace_loc_conf_t *tlcf = conf;

    ngx_str_t                         *value;
    ngx_int_t                          mask;
    ngx_uint_t                         i;
    ngx_http_trace_attribute_t         attr;
    ngx_http_compile_complex_value_t   ccv;

    value = cf->args->elts;

    mask = ngx_http_trace_pipelines(cf, cmd, &value[1]);

    if (mask == NGX_ERROR
        || ngx_http_trace_attribute_name(cf, cmd, &value[2]) != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    ngx_memzero(&attr, sizeof(ngx_http_trace_attribute_t));

    attr.name = value[2];

    /* string arrays by the convention */

    if (ngx_strncmp(attr.name.data, "http.request.header.", 20) == 0
        || ngx_strncmp(attr.name.data, "http.response.header.", 21) == 0)
    {
        attr.type = NGX_HTTP_TRACE_STRINGS;
    }

    ngx_memzero(&ccv, sizeof(ngx_http_compile_complex_value_t));

    ccv.cf = cf;
    ccv.value = &value[3];
    ccv.complex_value = &attr.value;

    if (ngx_http_compile_complex_value(&ccv) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    for (i = 4; i < cf->args->nelts; i++) {
        if (ngx_http_trace_attribute_parameter(cf, &attr, &value[i])
            != NGX_OK)
        {
            return NGX_CONF_ERROR;
        }
    }

    if (ngx_http_trace_attribute_constant(cf, &attr) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++) {
        if ((mask & (1 << i))
            && ngx_http_trace_add_attribute(cf, &tlcf->pipelines[i], &attr)
               != NGX_OK)
        {
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_trace_attribute_parameter(ngx_conf_t *cf,
    ngx_http_trace_attribute_t *attr, ngx_str_t *value)
{
    ngx_str_t                          s;
    ngx_conf_enum_t                   *e;
    ngx_http_compile_complex_value_t   ccv;

    if (ngx_strncmp(value->data, "type=", 5) == 0) {
        s.data = value->data + 5;
        s.len = value->len - 5;

        e = ngx_http_trace_enum(ngx_http_trace_types, &s);

        if (e == NULL) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid type \"%V\" in \"trace_attribute\", "
                               "write \"string\", \"int\", \"double\" or "
                               "\"bool\"", &s);
            return NGX_ERROR;
        }

        attr->type = e->value;
        return NGX_OK;
    }

    if (ngx_strncmp(value->data, "if=", 3) != 0 || value->len == 3) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid parameter \"%V\" in \"trace_attribute\", "
                           "write \"if=$variable\" or \"type=int\"", value);
        return NGX_ERROR;
    }

    s.data = value->data + 3;
    s.len = value->len - 3;

    attr->condition = ngx_palloc(cf->pool, sizeof(ngx_http_complex_value_t));
    if (attr->condition == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(&ccv, sizeof(ngx_http_compile_complex_value_t));

    ccv.cf = cf;
    ccv.value = &s;
    ccv.complex_value = attr->condition;

    return ngx_http_compile_complex_value(&ccv);
}


/* a constant that is no number never makes an attribute of a number's type */

static ngx_int_t
ngx_http_trace_attribute_constant(ngx_conf_t *cf,
    ngx_http_trace_attribute_t *attr)
{
    double     number;
    int64_t    integer;
    ngx_int_t  rc;

    if (attr->value.lengths || attr->value.value.len == 0) {
        return NGX_OK;
    }

    switch (attr->type) {

    case NGX_HTTP_TRACE_INT:
        rc = ngx_http_trace_parse_int(&attr->value.value, &integer);
        break;

    case NGX_HTTP_TRACE_DOUBLE:
        rc = ngx_http_trace_parse_double(&attr->value.value, &number);
        break;

    default:
        return NGX_OK;
    }

    if (rc != NGX_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid value \"%V\" in \"trace_attribute\", "
                           "write %s, or leave \"type=\" out",
                           &attr->value.value,
                           attr->type == NGX_HTTP_TRACE_INT
                           ? "an integer" : "a number");
    }

    return rc;
}


static ngx_int_t
ngx_http_trace_add_attribute(ngx_conf_t *cf,
    ngx_http_trace_pipeline_conf_t *pcf, ngx_http_trace_attribute_t *attr)
{
    ngx_http_trace_attribute_t  *added;

    if (pcf->attributes == NULL) {
        pcf->attributes = ngx_array_create(cf->pool, 4,
                                          sizeof(ngx_http_trace_attribute_t));
        if (pcf->attributes == NULL) {
            return NGX_ERROR;
        }
    }

    if (ngx_http_trace_find_attribute(pcf->attributes, &attr->name)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "duplicate \"%V\" in \"trace_attribute\", leave "
                           "one of the two out", &attr->name);
        return NGX_ERROR;
    }

    added = ngx_array_push(pcf->attributes);
    if (added == NULL) {
        return NGX_ERROR;
    }

    *added = *attr;

    return NGX_OK;
}


static char *
ngx_http_trace_service(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_trace_main_conf_t *tmcf = conf;

    ngx_str_t   *value, *name;
    ngx_int_t    mask;
    ngx_uint_t   i;

    value = cf->args->elts;
    name = &value[cf->args->nelts - 1];

    mask = ngx_http_trace_optional_pipelines(cf, cmd);
    if (mask == NGX_ERROR) {
        return NGX_CONF_ERROR;
    }

    if (name->len == 0) {
        return "needs a name that is not empty";
    }

    for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++) {

        if (!(mask & (1 << i))) {
            continue;
        }

        if (tmcf->service_name[i].len) {
            return "is duplicate";
        }

        tmcf->service_name[i] = *name;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_trace_resource(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_trace_main_conf_t *tmcf = conf;

    ngx_str_t     *value, *name, *pipeline, internal;
    ngx_int_t      mask;
    ngx_uint_t     i, n;
    ngx_keyval_t  *pair;

    value = cf->args->elts;

    /* the resource is the operator's, unless said otherwise */

    ngx_str_set(&internal, "internal");

    pipeline = cf->args->nelts == 4 ? &value[1] : &internal;
    name = &value[cf->args->nelts - 2];

    mask = ngx_http_trace_pipelines(cf, cmd, pipeline);

    if (mask == NGX_ERROR
        || ngx_http_trace_attribute_name(cf, cmd, name) != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    if (ngx_strcmp(name->data, "service.name") == 0) {
        return "cannot set service.name, write \"trace_service_name\"";
    }

    for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++) {

        if (!(mask & (1 << i))) {
            continue;
        }

        pair = tmcf->resource[i].elts;

        for (n = 0; n < tmcf->resource[i].nelts; n++) {
            if (pair[n].key.len == name->len
                && ngx_strncmp(pair[n].key.data, name->data, name->len) == 0)
            {
                ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                                   "duplicate \"%V\" in \"trace_resource\", "
                                   "leave one of the two out", name);
                return NGX_CONF_ERROR;
            }
        }

        pair = ngx_array_push(&tmcf->resource[i]);
        if (pair == NULL) {
            return NGX_CONF_ERROR;
        }

        pair->key = *name;
        pair->value = value[cf->args->nelts - 1];
    }

    return NGX_CONF_OK;
}


/* the number of a pipeline, or NGX_ERROR with a message */

ngx_int_t
ngx_http_trace_pipeline(ngx_conf_t *cf, ngx_command_t *cmd, ngx_str_t *name)
{
    ngx_int_t  pipeline;

    pipeline = ngx_http_trace_find_pipeline(name);

    if (pipeline == NGX_ERROR) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid pipeline \"%V\" in \"%V\", write "
                           "\"internal\" or \"user\"", name, &cmd->name);
    }

    return pipeline;
}


/* bits of one pipeline or both, or NGX_ERROR with a message */

static ngx_int_t
ngx_http_trace_pipelines(ngx_conf_t *cf, ngx_command_t *cmd, ngx_str_t *name)
{
    ngx_int_t  pipeline;

    if (ngx_strcmp(name->data, "both") == 0) {
        return NGX_HTTP_TRACE_BOTH;
    }

    pipeline = ngx_http_trace_find_pipeline(name);

    if (pipeline == NGX_ERROR) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid pipeline \"%V\" in \"%V\", write "
                           "\"internal\", \"user\" or \"both\"",
                           name, &cmd->name);
        return NGX_ERROR;
    }

    return 1 << pipeline;
}


/* of a directive with one value behind an optional pipeline */

static ngx_int_t
ngx_http_trace_optional_pipelines(ngx_conf_t *cf, ngx_command_t *cmd)
{
    ngx_str_t  *value;

    value = cf->args->elts;

    if (cf->args->nelts > 2) {
        return ngx_http_trace_pipelines(cf, cmd, &value[1]);
    }

    if (ngx_strcmp(value[1].data, "both") == 0
        || ngx_http_trace_find_pipeline(&value[1]) != NGX_ERROR)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "no value behind \"%V\" in \"%V\", write one, or "
                           "\"both %V\" if that is the value",
                           &value[1], &cmd->name, &value[1]);
        return NGX_ERROR;
    }

    return NGX_HTTP_TRACE_BOTH;
}


static ngx_int_t
ngx_http_trace_find_pipeline(ngx_str_t *name)
{
    ngx_int_t  i;

    for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++) {
        if (name->len == ngx_http_trace_pipeline_names[i].len
            && ngx_strncmp(name->data, ngx_http_trace_pipeline_names[i].data,
                           name->len)
               == 0)
        {
            return i;
        }
    }

    return NGX_ERROR;
}


static ngx_int_t
ngx_http_trace_attribute_name(ngx_conf_t *cf, ngx_command_t *cmd,
    ngx_str_t *name)
{
    size_t  i;

    for (i = 0; i < name->len; i++) {
        if (name->data[i] < 0x21 || name->data[i] > 0x7e) {
            break;
        }
    }

    if (name->len == 0 || i < name->len) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid name \"%V\" in \"%V\", write printable "
                           "ASCII without spaces", name, &cmd->name);
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_conf_enum_t *
ngx_http_trace_enum(ngx_conf_enum_t *e, ngx_str_t *name)
{
    for ( /* void */ ; e->name.len; e++) {
        if (e->name.len == name->len
            && ngx_strncmp(e->name.data, name->data, name->len) == 0)
        {
            return e;
        }
    }

    return NULL;
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
            != NGX_OK)
        {
            return NULL;
        }
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
        tlcf->pipelines[i].decision = NGX_CONF_UNSET_UINT;
        tlcf->pipelines[i].context = NGX_CONF_UNSET_UINT;
        tlcf->pipelines[i].trust_all = NGX_CONF_UNSET;
    }

    tlcf->status = NGX_CONF_UNSET_UINT;

    return tlcf;
}


static char *
ngx_http_trace_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_http_trace_loc_conf_t *prev = parent;
    ngx_http_trace_loc_conf_t *conf = child;

    ngx_uint_t                       i;
    ngx_http_trace_pipeline_conf_t  *p, *c, *other;

    for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++) {
        p = &prev->pipelines[i];
        c = &conf->pipelines[i];

        if (c->decision == NGX_CONF_UNSET_UINT) {
            c->decision_value = p->decision_value;
            c->file = p->file;
            c->line = p->line;
        }

        ngx_conf_merge_uint_value(c->decision, p->decision,
                                  NGX_HTTP_TRACE_OFF);

        ngx_http_trace_merge_context(p, c);

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

    /* an "if" has the handler of its location */

    ngx_conf_merge_uint_value(conf->status, prev->status, 0);

    c = &conf->pipelines[NGX_HTTP_TRACE_INTERNAL];
    other = &conf->pipelines[NGX_HTTP_TRACE_USER];

    if (c->decision && other->decision
        && c->context && other->context
        && c->traceparent.name.len == other->traceparent.name.len
        && ngx_strncmp(c->traceparent.name.data, other->traceparent.name.data,
                       c->traceparent.name.len)
           == 0)
    {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"trace internal\" in %V:%ui and \"trace user\" in "
                      "%V:%ui both use the header \"%V\" in one place, write "
                      "\"trace_context internal propagate "
                      "header=x-op-traceparent\"",
                      &c->file, c->line, &other->file, other->line,
                      &c->traceparent.name);
        return NGX_CONF_ERROR;
    }

    if (other->decision && conf->routing == NULL) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"trace user\" without \"trace_routing\", write the "
                      "variable that tells whose spans they are, as "
                      "\"trace_routing $http_x_tenant\" in %V:%ui",
                      &other->file, other->line);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static void
ngx_http_trace_merge_context(ngx_http_trace_pipeline_conf_t *prev,
    ngx_http_trace_pipeline_conf_t *conf)
{
    ngx_conf_merge_uint_value(conf->context, prev->context,
                              NGX_HTTP_TRACE_PROPAGATE);

    /* a mode without a header changes the mode alone */

    if (conf->traceparent.name.len == 0) {
        conf->traceparent = prev->traceparent;
        conf->tracestate = prev->tracestate;
    }

    if (conf->traceparent.name.len == 0) {
        conf->traceparent = ngx_http_trace_default_headers[0];
        conf->tracestate = ngx_http_trace_default_headers[1];
    }

    if (conf->trust_all == NGX_CONF_UNSET) {
        conf->trust_all = prev->trust_all;
        conf->trusted = prev->trusted;
    }

    /*
     * Everybody may send the standard's header, and nobody one that the
     * operator has named, as long as nothing else is said.  |trust_all| stays
     * unset then: a location may name another header.
     */

    if (conf->trust_all == NGX_CONF_UNSET) {
        conf->believe_all =
                       (conf->traceparent.name.len
                        == ngx_http_trace_default_headers[0].name.len);

    } else {
        conf->believe_all = conf->trust_all;
    }
}


/* those of the outer level, and then ours, which replace what has their name */

static ngx_int_t
ngx_http_trace_merge_attributes(ngx_conf_t *cf,
    ngx_http_trace_pipeline_conf_t *prev,
    ngx_http_trace_pipeline_conf_t *conf, ngx_uint_t pipeline)
{
    ngx_uint_t                   i;
    ngx_array_t                 *merged;
    ngx_http_trace_attribute_t  *attr, *added;

    conf->semconv = (pipeline == NGX_HTTP_TRACE_USER)
                    ? ngx_http_trace_semconv_minimal()
                    : NGX_HTTP_TRACE_SEMCONV_ALL;

    if (conf->attributes == NULL) {
        conf->attributes = prev->attributes;

    } else if (prev->attributes) {

        merged = ngx_array_create(cf->pool, prev->attributes->nelts
                                            + conf->attributes->nelts,
                                  sizeof(ngx_http_trace_attribute_t));
        if (merged == NULL) {
            return NGX_ERROR;
        }

        attr = prev->attributes->elts;

        for (i = 0; i < prev->attributes->nelts; i++) {

            if (ngx_http_trace_find_attribute(conf->attributes, &attr[i].name))
            {
                continue;
            }

            added = ngx_array_push(merged);
            *added = attr[i];
        }

        attr = conf->attributes->elts;

        for (i = 0; i < conf->attributes->nelts; i++) {
            added = ngx_array_push(merged);
            *added = attr[i];
        }

        conf->attributes = merged;
    }

    return conf->attributes ? ngx_http_trace_split_attributes(cf, conf)
                            : NGX_OK;
}


/* what has no variable in it is encoded now, and only copied later */

static ngx_int_t
ngx_http_trace_split_attributes(ngx_conf_t *cf,
    ngx_http_trace_pipeline_conf_t *conf)
{
    u_char                       *buf;
    ngx_uint_t                    i;
    otlp_span_t                   span;
    ngx_http_trace_attribute_t   *attr, **variable;

    buf = ngx_palloc(cf->temp_pool, OTLP_SPAN_MAX);
    if (buf == NULL) {
        return NGX_ERROR;
    }

    conf->variable_attributes = ngx_array_create(cf->pool,
                                             conf->attributes->nelts,
                                             sizeof(void *));
    if (conf->variable_attributes == NULL) {
        return NGX_ERROR;
    }

    otlp_span_attributes_begin(&span, buf, OTLP_SPAN_MAX);

    attr = conf->attributes->elts;

    for (i = 0; i < conf->attributes->nelts; i++) {

        conf->semconv &= ~ngx_http_trace_semconv_bit(&attr[i].name);

        if (attr[i].condition || attr[i].value.lengths) {
            variable = ngx_array_push(conf->variable_attributes);
            *variable = &attr[i];
            continue;
        }

        buf = span.pos;

        ngx_http_trace_span_attribute(&span, &attr[i], &attr[i].value.value);

        conf->constant_attributes_n += (span.pos != buf);
    }

    if (span.dropped_attributes) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "values in \"trace_attribute\" are too long, write "
                           "less than %d bytes in all", OTLP_SPAN_MAX);
        return NGX_ERROR;
    }

    conf->constant_attributes.len = span.pos - span.start;
    conf->constant_attributes.data = ngx_pnalloc(cf->pool,
                                            conf->constant_attributes.len);
    if (conf->constant_attributes.data == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(conf->constant_attributes.data, span.start,
               conf->constant_attributes.len);

    return NGX_OK;
}


static ngx_http_trace_attribute_t *
ngx_http_trace_find_attribute(ngx_array_t *attributes, ngx_str_t *name)
{
    ngx_uint_t                   i;
    ngx_http_trace_attribute_t  *attr;

    attr = attributes->elts;

    for (i = 0; i < attributes->nelts; i++) {
        if (attr[i].name.len == name->len
            && ngx_strncmp(attr[i].name.data, name->data, name->len) == 0)
        {
            return &attr[i];
        }
    }

    return NULL;
}


static ngx_int_t
ngx_http_trace_preconfiguration(ngx_conf_t *cf)
{
    ngx_uint_t                i;
    ngx_http_trace_header_t  *header;

    for (i = 0; i < 2; i++) {
        header = &ngx_http_trace_default_headers[i];
        header->hash = ngx_hash_key(header->name.data, header->name.len);
    }

    return ngx_http_trace_add_variables(cf);
}


static ngx_int_t
ngx_http_trace_postconfiguration(ngx_conf_t *cf)
{
    ngx_uint_t                       i;
    ngx_http_trace_main_conf_t      *tmcf;
    ngx_http_trace_exporter_conf_t  *ecf;

    tmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_trace_module);

    if (ngx_http_trace_status_init_conf(cf, tmcf) != NGX_OK) {
        return NGX_ERROR;
    }

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

    ngx_http_trace_realip(cf, tmcf);

    if (!tmcf->enabled[NGX_HTTP_TRACE_INTERNAL]
        && !tmcf->enabled[NGX_HTTP_TRACE_USER])
    {
        return NGX_OK;
    }

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

    return NGX_OK;
}


/*
 * Whether nginx has the realip module is only known now: the module may have
 * been built with other arguments than nginx itself.
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

        if (key[i].key.len == addr.len
            && ngx_strncmp(key[i].key.data, addr.data, addr.len) == 0)
        {
            tmcf->realip_addr = ngx_http_get_variable_index(cf, &addr);
            tmcf->realip_port = ngx_http_get_variable_index(cf, &port);
            tmcf->realip = 1;
            return;
        }
    }
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


static ngx_int_t
ngx_http_trace_init_module(ngx_cycle_t *cycle)
{
    ngx_uint_t                   i;
    ngx_http_trace_main_conf_t  *tmcf;

    tmcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_trace_module);

    if (tmcf == NULL) {
        return NGX_OK;
    }

    for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++) {
        if (tmcf->exporters[i].line == 0 || !tmcf->enabled[i]) {
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

    for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++) {

        if (tmcf->exporters[i].store == NULL) {
            continue;
        }

        /* a worker that cannot export still serves */

        if (ngx_http_trace_exporter_start(cycle, &tmcf->exporters[i], i)
            != NGX_OK)
        {
            ngx_log_error(NGX_LOG_ALERT, cycle->log, 0,
                          "%V spans of this worker are not exported",
                          &ngx_http_trace_pipeline_names[i]);
        }
    }

    return NGX_OK;
}


static void
ngx_http_trace_exit_process(ngx_cycle_t *cycle)
{
    ngx_uint_t  i;

    for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++) {
        ngx_http_trace_exporter_stop(i);
    }
}
