
/*
 * Setters of the directives, and what they share.
 */


#include "ngx_http_trace_module.h"


static ngx_uint_t ngx_http_trace_word(ngx_str_t *name);
static ngx_int_t ngx_http_trace_context_headers(ngx_conf_t *cf,
    ngx_http_trace_pipeline_conf_t *pcf, ngx_str_t *name);
static ngx_int_t ngx_http_trace_trust_if(ngx_conf_t *cf,
    ngx_http_trace_pipeline_conf_t *pcf, ngx_str_t *param);
static ngx_int_t ngx_http_trace_optional_pipelines(ngx_conf_t *cf,
    ngx_command_t *cmd);
static ngx_int_t ngx_http_trace_find_pipeline(ngx_str_t *name);


static ngx_conf_enum_t  ngx_http_trace_contexts[] = {
    { ngx_string("ignore"), NGX_HTTP_TRACE_IGNORE },
    { ngx_string("extract"), NGX_HTTP_TRACE_EXTRACT },
    { ngx_string("inject"), NGX_HTTP_TRACE_INJECT },
    { ngx_string("propagate"), NGX_HTTP_TRACE_PROPAGATE },
    { ngx_null_string, 0 }
};


static ngx_conf_enum_t  ngx_http_trace_levels[] = {
    { ngx_string("none"), NGX_HTTP_TRACE_NONE },
    { ngx_string("minimal"), NGX_HTTP_TRACE_MINIMAL },
    { ngx_string("all"), NGX_HTTP_TRACE_ALL },
    { ngx_null_string, 0 }
};


static ngx_conf_enum_t  ngx_http_trace_upstreams[] = {
    { ngx_string("off"), 0 },
    { ngx_string("internal"), 1 << NGX_HTTP_TRACE_INTERNAL },
    { ngx_string("user"), 1 << NGX_HTTP_TRACE_USER },
    { ngx_string("both"), NGX_HTTP_TRACE_BOTH },
    { ngx_null_string, 0 }
};


static ngx_conf_enum_t  ngx_http_trace_response_headers[] = {
    { ngx_string("off"), NGX_HTTP_TRACE_OFF },
    { ngx_string("server-timing"), NGX_HTTP_TRACE_SERVER_TIMING },
    { ngx_string("traceresponse"), NGX_HTTP_TRACE_TRACERESPONSE },
    { ngx_null_string, 0 }
};


char *
ngx_http_trace(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_trace_loc_conf_t *tlcf = conf;

    ngx_str_t                       *value, name;
    ngx_int_t                        pipeline;
    ngx_http_trace_main_conf_t      *tmcf;
    ngx_http_trace_pipeline_conf_t  *pcf;

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

    name.data = value[2].data + 1;
    name.len = value[2].len ? value[2].len - 1 : 0;

    if (value[2].data[0] != '$' || !ngx_http_trace_word(&name)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid value \"%V\" in \"trace %V\", write "
                           "\"on\", \"off\" or a variable", &value[2],
                           &value[1]);
        return NGX_CONF_ERROR;
    }

    pcf->decision = NGX_HTTP_TRACE_VALUE;
    pcf->decision_value = ngx_http_get_variable_index(cf, &name);

    if (pcf->decision_value == NGX_ERROR) {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


/* the name of a variable, as nginx reads it in a string */

static ngx_uint_t
ngx_http_trace_word(ngx_str_t *name)
{
    u_char  ch;
    size_t  i;

    for (i = 0; i < name->len; i++) {
        ch = ngx_tolower(name->data[i]);

        if (!((ch >= 'a' && ch <= 'z') || (ch >= '0' && ch <= '9')
              || ch == '_'))
        {
            return 0;
        }
    }

    return name->len != 0;
}


char *
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


/* a variable alone, as it mostly is, is read without a string around it */

char *
ngx_http_trace_routing_directive(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_trace_loc_conf_t *tlcf = conf;

    char       *rv;
    ngx_str_t  *value, name;

    value = cf->args->elts;

    rv = ngx_http_set_complex_value_slot(cf, cmd, conf);

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    tlcf->routing_variable = NGX_ERROR;

    name.data = value[1].data + 1;
    name.len = value[1].len ? value[1].len - 1 : 0;

    if (value[1].data[0] == '$' && ngx_http_trace_word(&name)
        && !(name.data[0] >= '1' && name.data[0] <= '9'))
    {
        tlcf->routing_variable = ngx_http_get_variable_index(cf, &name);

        if (tlcf->routing_variable == NGX_ERROR) {
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


char *
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

        if (ngx_strcmp(value[i].data, "realip") == 0) {
            pcf->trust_realip = 1;
            continue;
        }

        if (ngx_strncmp(value[i].data, "if=", 3) == 0) {
            if (ngx_http_trace_trust_if(cf, pcf, &value[i]) != NGX_OK) {
                return NGX_CONF_ERROR;
            }

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
                               "\"192.0.2.0/24\", \"unix:\", \"all\" or "
                               "\"if=$variable\"",
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

    if (pcf->trust_realip && pcf->trusted->nelts == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "no address before \"realip\" in "
                           "\"trace_trusted\", write the networks of the "
                           "clients that are believed");
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_trace_trust_if(ngx_conf_t *cf, ngx_http_trace_pipeline_conf_t *pcf,
    ngx_str_t *param)
{
    if (pcf->trust_if
        || ngx_strlchr(param->data, param->data + param->len, '$') == NULL)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid parameter \"%V\" in \"trace_trusted\", "
                           "write one \"if=$variable\"", param);
        return NGX_ERROR;
    }

    return ngx_http_trace_if(cf, param, &pcf->trust_if);
}


/* what is behind "if=", for ngx_http_trace_condition() */

ngx_int_t
ngx_http_trace_if(ngx_conf_t *cf, ngx_str_t *param,
    ngx_http_complex_value_t **condition)
{
    ngx_str_t                          value;
    ngx_http_compile_complex_value_t   ccv;

    value.data = param->data + 3;
    value.len = param->len - 3;

    *condition = ngx_palloc(cf->pool, sizeof(ngx_http_complex_value_t));
    if (*condition == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(&ccv, sizeof(ngx_http_compile_complex_value_t));

    ccv.cf = cf;
    ccv.value = &value;
    ccv.complex_value = *condition;

    return ngx_http_compile_complex_value(&ccv);
}


char *
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


char *
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


char *
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


char *
ngx_http_trace_default_attributes(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_trace_loc_conf_t *tlcf = conf;

    ngx_str_t        *value;
    ngx_int_t         pipeline;
    ngx_conf_enum_t  *e;

    value = cf->args->elts;

    pipeline = ngx_http_trace_pipeline(cf, cmd, &value[1]);
    if (pipeline == NGX_ERROR) {
        return NGX_CONF_ERROR;
    }

    if (tlcf->pipelines[pipeline].level != NGX_CONF_UNSET_UINT) {
        return "is duplicate";
    }

    e = ngx_http_trace_enum(ngx_http_trace_levels, &value[2]);

    if (e == NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid value \"%V\" in "
                           "\"trace_default_attributes %V\", write \"all\", "
                           "\"minimal\" or \"none\"", &value[2], &value[1]);
        return NGX_CONF_ERROR;
    }

    tlcf->pipelines[pipeline].level = e->value;

    return NGX_CONF_OK;
}


char *
ngx_http_trace_upstream_directive(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_trace_loc_conf_t *tlcf = conf;

    ngx_str_t        *value;
    ngx_conf_enum_t  *e;

    value = cf->args->elts;

    if (tlcf->upstream != NGX_CONF_UNSET_UINT) {
        return "is duplicate";
    }

    e = ngx_http_trace_enum(ngx_http_trace_upstreams, &value[1]);

    if (e == NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid value \"%V\" in \"trace_upstream\", "
                           "write \"both\", \"internal\", \"user\" or "
                           "\"off\"", &value[1]);
        return NGX_CONF_ERROR;
    }

    tlcf->upstream = e->value;

    return NGX_CONF_OK;
}


char *
ngx_http_trace_response_directive(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_trace_loc_conf_t *tlcf = conf;

    ngx_str_t                   *value;
    ngx_conf_enum_t             *e;
    ngx_http_trace_main_conf_t  *tmcf;

    value = cf->args->elts;

    if (tlcf->response_header != NGX_CONF_UNSET_UINT) {
        return "is duplicate";
    }

    e = ngx_http_trace_enum(ngx_http_trace_response_headers, &value[1]);

    if (e == NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid value \"%V\" in "
                           "\"trace_response_header\", write \"off\", "
                           "\"server-timing\" or \"traceresponse\"",
                           &value[1]);
        return NGX_CONF_ERROR;
    }

    tlcf->response_header = e->value;
    tlcf->response_pipeline = NGX_ERROR;

    if (cf->args->nelts == 3) {
        tlcf->response_pipeline = ngx_http_trace_pipeline(cf, cmd, &value[2]);

        if (tlcf->response_pipeline == NGX_ERROR) {
            return NGX_CONF_ERROR;
        }
    }

    tmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_trace_module);
    tmcf->response_header |= e->value;

    return NGX_CONF_OK;
}


char *
ngx_http_trace_error_log_directive(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_trace_loc_conf_t *tlcf = conf;

    ngx_str_t                   *value;
    ngx_int_t                    pipeline;
    ngx_http_trace_main_conf_t  *tmcf;

    value = cf->args->elts;

    if (tlcf->error_log != NGX_CONF_UNSET_UINT) {
        return "is duplicate";
    }

    if (ngx_strcmp(value[1].data, "off") == 0) {
        tlcf->error_log = NGX_HTTP_TRACE_PIPELINES;
        return NGX_CONF_OK;
    }

    pipeline = ngx_http_trace_find_pipeline(&value[1]);

    if (pipeline == NGX_ERROR) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid value \"%V\" in \"trace_error_log\", "
                           "write \"internal\", \"user\" or \"off\"",
                           &value[1]);
        return NGX_CONF_ERROR;
    }

    tlcf->error_log = pipeline;

    tmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_trace_module);
    tmcf->error_log = 1;

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

ngx_int_t
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


ngx_int_t
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


ngx_conf_enum_t *
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
