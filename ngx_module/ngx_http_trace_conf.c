
/*
 * Setters of the directives, and what they share.
 */


#include "ngx_http_trace_module.h"


static ngx_int_t ngx_http_trace_optional_pipelines(ngx_conf_t *cf,
    ngx_command_t *cmd);
static ngx_int_t ngx_http_trace_find_pipeline(ngx_str_t *name);


static ngx_conf_enum_t  ngx_http_trace_levels[] = {
    { ngx_string("none"), NGX_HTTP_TRACE_NONE },
    { ngx_string("minimal"), NGX_HTTP_TRACE_MINIMAL },
    { ngx_string("all"), NGX_HTTP_TRACE_ALL },
    { ngx_null_string, 0 }
};


static ngx_conf_enum_t  ngx_http_trace_pipeline_words[] = {
    { ngx_string("off"), 0 },
    { ngx_string("internal"), 1 << NGX_HTTP_TRACE_INTERNAL },
    { ngx_string("user"), 1 << NGX_HTTP_TRACE_USER },
    { ngx_string("both"), NGX_HTTP_TRACE_BOTH },
    { ngx_null_string, 0 }
};


static ngx_conf_enum_t  ngx_http_trace_response_headers[] = {
    { ngx_string("off"), 0 },
    { ngx_string("server-timing"), NGX_HTTP_TRACE_SERVER_TIMING },
    { ngx_string("traceresponse"), NGX_HTTP_TRACE_TRACERESPONSE },
    { ngx_null_string, 0 }
};


/* a value with variables; |offset| is of a ngx_http_trace_value_t * */

char *
ngx_http_trace_value_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char *p = conf;

    ngx_str_t                *value;
    ngx_http_trace_value_t  **field;

    field = (ngx_http_trace_value_t **) (p + cmd->offset);

    if (*field != NULL) {
        return "is duplicate";
    }

    value = cf->args->elts;

    *field = ngx_http_trace_value_new(cf, &cmd->name, &value[1]);

    return *field ? NGX_CONF_OK : NGX_CONF_ERROR;
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

    /* the setter takes the value that comes first */

    value[1] = value[cf->args->nelts - 1];

    for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++) {

        if (!(mask & (1 << i))) {
            continue;
        }

        slot = *cmd;
        slot.offset = offsetof(ngx_http_trace_pipeline_conf_t, span_name);

        rv = ngx_http_trace_value_slot(cf, &slot, &tlcf->pipelines[i]);

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


/* some pipelines; |offset| is of a ngx_uint_t, for their bits */

char *
ngx_http_trace_pipelines_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char *p = conf;

    ngx_str_t        *value;
    ngx_uint_t       *field;
    ngx_conf_enum_t  *e;

    field = (ngx_uint_t *) (p + cmd->offset);

    if (*field != NGX_CONF_UNSET_UINT) {
        return "is duplicate";
    }

    value = cf->args->elts;

    e = ngx_http_trace_enum(ngx_http_trace_pipeline_words, &value[1]);

    if (e == NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid value \"%V\" in \"%V\", write "
                           "\"internal\", \"user\", \"both\" or \"off\"",
                           &value[1], &cmd->name);
        return NGX_CONF_ERROR;
    }

    *field = e->value;

    return NGX_CONF_OK;
}


char *
ngx_http_trace_events_directive(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_trace_loc_conf_t *tlcf = conf;

    char                        *rv;
    ngx_uint_t                   i;
    ngx_http_trace_main_conf_t  *tmcf;

    rv = ngx_http_trace_pipelines_slot(cf, cmd, conf);

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    tmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_trace_module);

    for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++) {
        if (tlcf->events & (1 << i)) {
            tmcf->events_file[i] = cf->conf_file->file.name;
            tmcf->events_line[i] = cf->conf_file->line;
        }
    }

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
