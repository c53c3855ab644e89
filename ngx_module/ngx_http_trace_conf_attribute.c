
/*
 * The trace_attribute directive: set, inherited, and encoded as far as no
 * variable is in it.
 */


#include "ngx_http_trace_module.h"


/* bytes of an attribute beside its name and value, at most; of a number, all */
#define NGX_HTTP_TRACE_ATTRIBUTE_SIZE  64


static ngx_int_t ngx_http_trace_attribute_parameter(ngx_conf_t *cf,
    ngx_http_trace_attribute_t *attr, ngx_str_t *value);
static ngx_int_t ngx_http_trace_attribute_constant(ngx_conf_t *cf,
    ngx_http_trace_attribute_t *attr);
static ngx_int_t ngx_http_trace_add_attribute(ngx_conf_t *cf,
    ngx_http_trace_pipeline_conf_t *pcf, ngx_http_trace_attribute_t *attr);
static ngx_int_t ngx_http_trace_route(ngx_conf_t *cf,
    ngx_http_trace_pipeline_conf_t *conf, ngx_uint_t pipeline);
static void ngx_http_trace_short_name(ngx_http_trace_pipeline_conf_t *conf);
static ngx_int_t ngx_http_trace_split_attributes(ngx_conf_t *cf,
    ngx_http_trace_pipeline_conf_t *conf);
static ngx_http_trace_attribute_t *ngx_http_trace_find_attribute(
    ngx_array_t *attributes, ngx_str_t *name);


/* a value of "trace_attribute ... type=" */

static ngx_conf_enum_t  ngx_http_trace_types[] = {
    { ngx_string("string"), NGX_HTTP_TRACE_STRING },
    { ngx_string("int"), NGX_HTTP_TRACE_INT },
    { ngx_string("double"), NGX_HTTP_TRACE_DOUBLE },
    { ngx_string("bool"), NGX_HTTP_TRACE_BOOL },
    { ngx_null_string, 0 }
};


char *
ngx_http_trace_attribute(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_trace_loc_conf_t *tlcf = conf;

    ngx_str_t                   *value;
    ngx_int_t                    mask;
    ngx_uint_t                   i;
    ngx_http_trace_attribute_t   attr;

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

    if (ngx_http_trace_value_compile(cf, &cmd->name, &value[3], &attr.value)
        != NGX_OK)
    {
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
    ngx_str_t         s;
    ngx_conf_enum_t  *e;

    static ngx_str_t  directive = ngx_string("trace_attribute");

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

    attr->condition = ngx_http_trace_value_new(cf, &directive, &s);

    return attr->condition ? NGX_OK : NGX_ERROR;
}


/* a constant that is no number never makes an attribute of a number's type */

static ngx_int_t
ngx_http_trace_attribute_constant(ngx_conf_t *cf,
    ngx_http_trace_attribute_t *attr)
{
    double     number;
    int64_t    integer;
    ngx_int_t  rc;

    if (attr->value.complex.lengths || attr->value.complex.value.len == 0) {
        return NGX_OK;
    }

    switch (attr->type) {

    case NGX_HTTP_TRACE_INT:
        rc = ngx_http_trace_parse_int(&attr->value.complex.value, &integer);
        break;

    case NGX_HTTP_TRACE_DOUBLE:
        rc = ngx_http_trace_parse_double(&attr->value.complex.value, &number);
        break;

    default:
        return NGX_OK;
    }

    if (rc != NGX_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid value \"%V\" in \"trace_attribute\", "
                           "write %s, or leave \"type=\" out",
                           &attr->value.complex.value,
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


/* those of the outer level, and then ours, which replace what has their name */

ngx_int_t
ngx_http_trace_merge_attributes(ngx_conf_t *cf,
    ngx_http_trace_pipeline_conf_t *prev,
    ngx_http_trace_pipeline_conf_t *conf, ngx_uint_t pipeline)
{
    ngx_uint_t                   i;
    ngx_array_t                 *merged;
    ngx_http_trace_attribute_t  *attr, *added;

    ngx_conf_merge_uint_value(conf->level, prev->level,
                              pipeline == NGX_HTTP_TRACE_USER
                              ? NGX_HTTP_TRACE_MINIMAL : NGX_HTTP_TRACE_ALL);

    conf->semconv = ngx_http_trace_semconv_request(cf->pool, conf->level);
    if (conf->semconv == NULL) {
        return NGX_ERROR;
    }

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

    if (ngx_http_trace_route(cf, conf, pipeline) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_trace_split_attributes(cf, conf);
}


/*
 * The pattern of the location, in the attribute and in the names of spans.
 * One that is not to be reached from outside is no tenant's business.
 */

static ngx_int_t
ngx_http_trace_route(ngx_conf_t *cf, ngx_http_trace_pipeline_conf_t *conf,
    ngx_uint_t pipeline)
{
    u_char                    *p;
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (clcf->name.len
        && (pipeline != NGX_HTTP_TRACE_USER
            || !(clcf->internal || clcf->name.data[0] == '@')))
    {
        conf->route = clcf->name;
    }

    ngx_str_set(&conf->get, "GET");

    if (conf->route.len == 0) {
        ngx_http_trace_short_name(conf);
        return NGX_OK;
    }

    p = ngx_pnalloc(cf->pool, sizeof("GET ") + conf->route.len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    conf->get.data = p;
    conf->get.len = ngx_sprintf(p, "GET %V", &conf->route) - p;

    ngx_http_trace_short_name(conf);

    return NGX_OK;
}


static void
ngx_http_trace_short_name(ngx_http_trace_pipeline_conf_t *conf)
{
    conf->get_short_len = ngx_http_trace_name_cut(conf->get.data,
                                                  conf->get.len);
    ngx_memcpy(conf->get_short, conf->get.data, conf->get_short_len);
}


/* what has no variable in it is encoded now, and only copied later */

static ngx_int_t
ngx_http_trace_split_attributes(ngx_conf_t *cf,
    ngx_http_trace_pipeline_conf_t *conf)
{
    size_t                        size;
    u_char                       *pos;
    ngx_uint_t                    i, n;
    otlp_span_t                   span;
    ngx_http_trace_attribute_t   *attr, **variable, route;

    n = conf->attributes ? conf->attributes->nelts : 0;
    attr = conf->attributes ? conf->attributes->elts : NULL;

    ngx_memzero(&route, sizeof(ngx_http_trace_attribute_t));

    ngx_str_set(&route.name, "http.route");
    route.type = NGX_HTTP_TRACE_STRING;

    /* what is not UTF-8 grows to three times its length at most */

    size = NGX_HTTP_TRACE_ATTRIBUTE_SIZE + 3 * conf->route.len;

    for (i = 0; i < n; i++) {
        size += NGX_HTTP_TRACE_ATTRIBUTE_SIZE + attr[i].name.len
                + 3 * attr[i].value.complex.value.len;
    }

    size = ngx_min(size, OTLP_SPAN_MAX);

    conf->constant_attributes.data = ngx_pnalloc(cf->pool, size);
    if (conf->constant_attributes.data == NULL) {
        return NGX_ERROR;
    }

    conf->variable_attributes = ngx_array_create(cf->pool, n + 1,
                                                 sizeof(void *));
    if (conf->variable_attributes == NULL) {
        return NGX_ERROR;
    }

    otlp_span_attributes_begin(&span, conf->constant_attributes.data, size);

    if (conf->level != NGX_HTTP_TRACE_NONE
        && (n == 0
            || ngx_http_trace_find_attribute(conf->attributes, &route.name)
               == NULL))
    {
        ngx_http_trace_span_attribute(&span, &route, &conf->route);
        conf->constant_attributes_n += (conf->route.len != 0);
    }

    for (i = 0; i < n; i++) {

        ngx_http_trace_semconv_remove(conf->semconv, &attr[i].name);

        if (attr[i].condition || attr[i].value.complex.lengths) {
            variable = ngx_array_push(conf->variable_attributes);
            *variable = &attr[i];
            continue;
        }

        pos = span.pos;

        ngx_http_trace_span_attribute(&span, &attr[i],
                                      &attr[i].value.complex.value);

        conf->constant_attributes_n += (span.pos != pos);
    }

    if (span.dropped_attributes) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "values in \"trace_attribute\" are too long, write "
                           "less than %d bytes in all", OTLP_SPAN_MAX);
        return NGX_ERROR;
    }

    conf->constant_attributes.len = span.pos - span.start;

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
