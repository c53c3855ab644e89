
/*
 * The trace_exporter block, and what is made of it once: the constant part of
 * the requests, the packed resource and scope.
 */


#include "ngx_http_trace_module.h"


#define NGX_HTTP_TRACE_PORT           4318
#define NGX_HTTP_TRACE_PATH           "/v1/traces"
#define NGX_HTTP_TRACE_EVENTS_PATH    "/v1/logs"

#define NGX_HTTP_TRACE_QUEUE          (4 * 1024 * 1024)
#define NGX_HTTP_TRACE_BATCH_SIZE     512
#define NGX_HTTP_TRACE_BATCH_MAX      8192
#define NGX_HTTP_TRACE_INTERVAL       1000
#define NGX_HTTP_TRACE_CONNECTIONS    1
#define NGX_HTTP_TRACE_TIMEOUT        10000
#define NGX_HTTP_TRACE_RETRY_TIME     3600000

#define NGX_HTTP_TRACE_EVENTS_INTERVAL  20


static char *ngx_http_trace_exporter_directive(ngx_conf_t *cf,
    ngx_command_t *dummy, void *conf);
static char *ngx_http_trace_exporter_invalid(ngx_conf_t *cf,
    ngx_command_t *cmd, char *error);
static char *ngx_http_trace_exporter_endpoint(ngx_conf_t *cf,
    ngx_command_t *cmd, void *conf);
static char *ngx_http_trace_exporter_header(ngx_conf_t *cf,
    ngx_command_t *cmd, void *conf);
static char *ngx_http_trace_exporter_routing_header(ngx_conf_t *cf,
    ngx_command_t *cmd, void *conf);
static char *ngx_http_trace_exporter_queue(ngx_conf_t *cf,
    ngx_command_t *cmd, void *conf);
static char *ngx_http_trace_exporter_events_path(ngx_conf_t *cf,
    ngx_command_t *cmd, void *conf);
static char *ngx_http_trace_exporter_compression(ngx_conf_t *cf,
    ngx_command_t *cmd, void *conf);
static char *ngx_http_trace_exporter_check(ngx_conf_t *cf,
    ngx_http_trace_exporter_conf_t *ecf, ngx_uint_t pipeline);
static char *ngx_http_trace_exporter_limits(ngx_conf_t *cf,
    ngx_http_trace_exporter_conf_t *ecf);
static ngx_int_t ngx_http_trace_exporter_size(ngx_conf_t *cf, char *name,
    size_t *size);
static ngx_uint_t ngx_http_trace_path(ngx_str_t *path);
static ngx_int_t ngx_http_trace_header_name(ngx_conf_t *cf, ngx_str_t *name);
static ngx_uint_t ngx_http_trace_printable(ngx_str_t *value, u_char lowest);
static ngx_int_t ngx_http_trace_request_head(ngx_conf_t *cf,
    ngx_http_trace_exporter_conf_t *ecf);
static ngx_int_t ngx_http_trace_events_url(ngx_conf_t *cf, ngx_url_t *url,
    ngx_str_t *path);
static ngx_int_t ngx_http_trace_pack(ngx_conf_t *cf,
    ngx_http_trace_exporter_conf_t *ecf, ngx_str_t *service_name,
    ngx_array_t *resource);


/* the directives of the block; their context is this block alone */

static ngx_command_t  ngx_http_trace_exporter_commands[] = {

    { ngx_string("include"),
      NGX_CONF_TAKE1,
      ngx_conf_include,
      0,
      0,
      NULL },

    { ngx_string("endpoint"),
      NGX_CONF_TAKE1,
      ngx_http_trace_exporter_endpoint,
      0,
      0,
      NULL },

    { ngx_string("header"),
      NGX_CONF_TAKE2,
      ngx_http_trace_exporter_header,
      0,
      0,
      NULL },

    { ngx_string("routing_header"),
      NGX_CONF_TAKE1,
      ngx_http_trace_exporter_routing_header,
      0,
      0,
      NULL },

    { ngx_string("queue"),
      NGX_CONF_TAKE12,
      ngx_http_trace_exporter_queue,
      0,
      0,
      NULL },

    { ngx_string("batch_size"),
      NGX_CONF_TAKE1,
      ngx_conf_set_num_slot,
      0,
      offsetof(ngx_http_trace_exporter_conf_t, batch_size),
      NULL },

    { ngx_string("interval"),
      NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      0,
      offsetof(ngx_http_trace_exporter_conf_t, interval),
      NULL },

    { ngx_string("connections"),
      NGX_CONF_TAKE1,
      ngx_conf_set_num_slot,
      0,
      offsetof(ngx_http_trace_exporter_conf_t, connections),
      NULL },

    { ngx_string("timeout"),
      NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      0,
      offsetof(ngx_http_trace_exporter_conf_t, timeout),
      NULL },

    { ngx_string("retry_time"),
      NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      0,
      offsetof(ngx_http_trace_exporter_conf_t, retry_time),
      NULL },

    { ngx_string("compression"),
      NGX_CONF_TAKE1,
      ngx_http_trace_exporter_compression,
      0,
      0,
      NULL },

    { ngx_string("events_path"),
      NGX_CONF_TAKE1,
      ngx_http_trace_exporter_events_path,
      0,
      0,
      NULL },

    { ngx_string("events_queue"),
      NGX_CONF_TAKE1,
      ngx_conf_set_size_slot,
      0,
      offsetof(ngx_http_trace_exporter_conf_t, events_queue),
      NULL },

      ngx_null_command
};


char *
ngx_http_trace_exporter_block(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_trace_main_conf_t *tmcf = conf;

    char                            *rv;
    ngx_str_t                       *value;
    ngx_int_t                        pipeline;
    ngx_conf_t                       save;
    ngx_http_trace_exporter_conf_t  *ecf;

    value = cf->args->elts;

    pipeline = ngx_http_trace_pipeline(cf, cmd, &value[1]);

    if (pipeline == NGX_ERROR) {
        return NGX_CONF_ERROR;
    }

    ecf = &tmcf->exporters[pipeline];

    if (ecf->line) {
        return "is duplicate";
    }

    ecf->line = cf->conf_file->line;

    ecf->queue = NGX_CONF_UNSET_SIZE;
    ecf->batch_size = NGX_CONF_UNSET;
    ecf->interval = NGX_CONF_UNSET_MSEC;
    ecf->connections = NGX_CONF_UNSET;
    ecf->timeout = NGX_CONF_UNSET_MSEC;
    ecf->retry_time = NGX_CONF_UNSET_MSEC;
    ecf->gzip = NGX_CONF_UNSET_UINT;
    ecf->events_queue = NGX_CONF_UNSET_SIZE;

    if (ngx_array_init(&ecf->headers, cf->pool, 4, sizeof(ngx_keyval_t))
        != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    save = *cf;
    cf->handler = ngx_http_trace_exporter_directive;
    cf->handler_conf = (char *) ecf;

    rv = ngx_conf_parse(cf, NULL);

    *cf = save;

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    return ngx_http_trace_exporter_check(cf, ecf, pipeline);
}


static char *
ngx_http_trace_exporter_directive(ngx_conf_t *cf, ngx_command_t *dummy,
    void *conf)
{
    char           *rv;
    ngx_str_t      *value;
    ngx_uint_t      n;
    ngx_command_t  *cmd;

    value = cf->args->elts;

    for (cmd = ngx_http_trace_exporter_commands; cmd->name.len; cmd++) {

        if (cmd->name.len != value[0].len
            || ngx_strcmp(cmd->name.data, value[0].data) != 0)
        {
            continue;
        }

        n = cf->args->nelts - 1;

        if (!((cmd->type & NGX_CONF_TAKE1) && n == 1)
            && !((cmd->type & NGX_CONF_TAKE2) && n == 2))
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"%V\" in \"trace_exporter\" takes %s",
                               &cmd->name,
                               cmd->type == NGX_CONF_TAKE1 ? "1 parameter"
                               : cmd->type == NGX_CONF_TAKE2 ? "2 parameters"
                               : "1 or 2 parameters");
            return NGX_CONF_ERROR;
        }

        rv = cmd->set(cf, cmd, cf->handler_conf);

        if (rv == NGX_CONF_OK || rv == NGX_CONF_ERROR) {
            return rv;
        }

        return ngx_http_trace_exporter_invalid(cf, cmd, rv);
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "unknown directive \"%V\" in \"trace_exporter\", write "
                       "endpoint, header, routing_header, queue, batch_size, "
                       "interval, connections, timeout, retry_time, "
                       "compression, events_path, events_queue or include",
                       &value[0]);

    return NGX_CONF_ERROR;
}


/* the setters of nginx say what is wrong, and not what would be right */

static char *
ngx_http_trace_exporter_invalid(ngx_conf_t *cf, ngx_command_t *cmd,
    char *error)
{
    char       *example;
    ngx_str_t  *value;

    value = cf->args->elts;

    if (ngx_strcmp(error, "is duplicate") == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" in \"trace_exporter\" is duplicate",
                           &cmd->name);
        return NGX_CONF_ERROR;
    }

    if (cmd->set == ngx_conf_set_msec_slot) {
        example = "a time, as \"1s\"";

    } else if (cmd->set == ngx_http_trace_exporter_queue
               || cmd->set == ngx_conf_set_size_slot)
    {
        example = "a size, as \"4m\"";

    } else {
        example = "a number";
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid %V \"%V\" in \"trace_exporter\", write %s",
                       &cmd->name, &value[1], example);

    return NGX_CONF_ERROR;
}


static char *
ngx_http_trace_exporter_endpoint(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_trace_exporter_conf_t *ecf = conf;

    ngx_str_t  *value, url;

    value = cf->args->elts;
    url = value[1];

    if (ecf->url.url.len) {
        return "is duplicate";
    }

    if (url.len > 7
        && ngx_strncasecmp(url.data, (u_char *) "http://", 7) == 0)
    {
        ecf->url.url.data = url.data + 7;
        ecf->url.url.len = url.len - 7;

    } else if (url.len > 5
               && ngx_strncasecmp(url.data, (u_char *) "unix:/", 6) == 0)
    {
        ecf->url.url = url;

    } else {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid endpoint \"%V\" in \"trace_exporter\", "
                           "write \"unix:/path\" or \"http://host:port\"; "
                           "for https, let a collector beside nginx send it "
                           "on", &url);
        return NGX_CONF_ERROR;
    }

    ecf->url.default_port = NGX_HTTP_TRACE_PORT;
    ecf->url.uri_part = 1;

    if (ngx_parse_url(cf->pool, &ecf->url) != NGX_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "%s in endpoint \"%V\" of \"trace_exporter\", "
                           "write %s",
                           ecf->url.err ? ecf->url.err : "no address", &url,
                           ecf->url.url.data == url.data
                           ? "a shorter one"
                           : "a host that has an address when nginx starts, "
                             "and a port of 1 to 65535");
        return NGX_CONF_ERROR;
    }

    if (ecf->url.uri.len == 0) {
        ngx_str_set(&ecf->url.uri, NGX_HTTP_TRACE_PATH);
    }

    if (!ngx_http_trace_path(&ecf->url.uri)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid path \"%V\" in endpoint \"%V\" of "
                           "\"trace_exporter\", write one that starts with "
                           "\"/\", as \"/v1/traces\"", &ecf->url.uri, &url);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_trace_exporter_header(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_trace_exporter_conf_t *ecf = conf;

    ngx_str_t     *value;
    ngx_keyval_t  *header;

    value = cf->args->elts;

    if (ngx_http_trace_header_name(cf, &value[1]) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    if (!ngx_http_trace_printable(&value[2], 0x20)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid value of header \"%V\" in "
                           "\"trace_exporter\", write printable ASCII on one "
                           "line", &value[1]);
        return NGX_CONF_ERROR;
    }

    header = ngx_array_push(&ecf->headers);
    if (header == NULL) {
        return NGX_CONF_ERROR;
    }

    header->key = value[1];
    header->value = value[2];

    return NGX_CONF_OK;
}


static char *
ngx_http_trace_exporter_routing_header(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_trace_exporter_conf_t *ecf = conf;

    ngx_str_t  *value;

    value = cf->args->elts;

    if (ecf->routing_header.len) {
        return "is duplicate";
    }

    if (ngx_http_trace_header_name(cf, &value[1]) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    ecf->routing_header = value[1];

    return NGX_CONF_OK;
}


static char *
ngx_http_trace_exporter_queue(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_trace_exporter_conf_t *ecf = conf;

    ngx_str_t  *value;

    value = cf->args->elts;

    if (ecf->queue != NGX_CONF_UNSET_SIZE) {
        return "is duplicate";
    }

    ecf->queue = ngx_parse_size(&value[1]);

    if (ecf->queue == (size_t) NGX_ERROR) {
        return "invalid value";
    }

    if (cf->args->nelts == 2) {
        return NGX_CONF_OK;
    }

    if (ngx_strncmp(value[2].data, "file=", 5) != 0 || value[2].len == 5) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid parameter \"%V\" of queue in "
                           "\"trace_exporter\", write \"file=/path\"",
                           &value[2]);
        return NGX_CONF_ERROR;
    }

    ecf->queue_file.data = value[2].data + 5;
    ecf->queue_file.len = value[2].len - 5;

    if (ngx_conf_full_name(cf->cycle, &ecf->queue_file, 0) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_trace_exporter_events_path(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_trace_exporter_conf_t *ecf = conf;

    ngx_str_t  *value;

    value = cf->args->elts;

    if (ecf->events_path.len) {
        return "is duplicate";
    }

    if (!ngx_http_trace_path(&value[1])) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid events_path \"%V\" in "
                           "\"trace_exporter\", write one that starts with "
                           "\"/\", as \"/v1/logs\"", &value[1]);
        return NGX_CONF_ERROR;
    }

    ecf->events_path = value[1];

    return NGX_CONF_OK;
}


static char *
ngx_http_trace_exporter_compression(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_trace_exporter_conf_t *ecf = conf;

    ngx_str_t  *value;

    value = cf->args->elts;

    if (ecf->gzip != NGX_CONF_UNSET_UINT) {
        return "is duplicate";
    }

    ecf->gzip = (ngx_strcmp(value[1].data, "gzip") == 0);

    if (!ecf->gzip && ngx_strcmp(value[1].data, "off") != 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid compression \"%V\" in "
                           "\"trace_exporter\", write \"off\" or \"gzip\"",
                           &value[1]);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_trace_exporter_check(ngx_conf_t *cf,
    ngx_http_trace_exporter_conf_t *ecf, ngx_uint_t pipeline)
{
    ngx_uint_t     i;
    ngx_keyval_t  *header;

    if (ecf->url.url.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "no endpoint in \"trace_exporter %V\", write "
                           "\"endpoint unix:/path;\"",
                           &ngx_http_trace_pipeline_names[pipeline]);
        return NGX_CONF_ERROR;
    }

    if (pipeline == NGX_HTTP_TRACE_USER && ecf->routing_header.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "no routing_header in \"trace_exporter user\", "
                           "write the name of the header that is to tell the "
                           "receiver whose spans it gets, as "
                           "\"routing_header x-tenant;\"");
        return NGX_CONF_ERROR;
    }

    if (pipeline == NGX_HTTP_TRACE_INTERNAL && ecf->routing_header.len) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "routing_header in \"trace_exporter internal\": "
                           "only user spans have a routing, write a "
                           "\"header\" instead");
        return NGX_CONF_ERROR;
    }

    header = ecf->headers.elts;

    for (i = 0; i < ecf->headers.nelts; i++) {
        if (header[i].key.len == ecf->routing_header.len
            && ngx_strncasecmp(header[i].key.data, ecf->routing_header.data,
                               header[i].key.len)
               == 0)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "header \"%V\" in \"trace_exporter user\" is "
                               "the routing_header too, leave it out",
                               &header[i].key);
            return NGX_CONF_ERROR;
        }
    }

    return ngx_http_trace_exporter_limits(cf, ecf);
}


static char *
ngx_http_trace_exporter_limits(ngx_conf_t *cf,
    ngx_http_trace_exporter_conf_t *ecf)
{
    ngx_conf_init_size_value(ecf->queue, NGX_HTTP_TRACE_QUEUE);
    ngx_conf_init_value(ecf->batch_size, NGX_HTTP_TRACE_BATCH_SIZE);
    ngx_conf_init_msec_value(ecf->interval, NGX_HTTP_TRACE_INTERVAL);
    ngx_conf_init_value(ecf->connections, NGX_HTTP_TRACE_CONNECTIONS);
    ngx_conf_init_msec_value(ecf->timeout, NGX_HTTP_TRACE_TIMEOUT);
    ngx_conf_init_msec_value(ecf->retry_time, NGX_HTTP_TRACE_RETRY_TIME);
    ngx_conf_init_uint_value(ecf->gzip, 0);
    ngx_conf_init_size_value(ecf->events_queue, NGX_HTTP_TRACE_QUEUE);

    if (ngx_http_trace_exporter_size(cf, "queue", &ecf->queue) != NGX_OK
        || ngx_http_trace_exporter_size(cf, "events_queue", &ecf->events_queue)
           != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    if (ecf->batch_size < 1 || ecf->batch_size > NGX_HTTP_TRACE_BATCH_MAX) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid batch_size %i in \"trace_exporter\", "
                           "write 1 to %d", ecf->batch_size,
                           NGX_HTTP_TRACE_BATCH_MAX);
        return NGX_CONF_ERROR;
    }

    if (ecf->connections < 1 || ecf->connections > 64) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid connections %i in \"trace_exporter\", "
                           "write 1 to 64", ecf->connections);
        return NGX_CONF_ERROR;
    }

    if (ecf->interval == 0 || ecf->timeout == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid %s 0 in \"trace_exporter\", write a time "
                           "above 0, as \"1s\"",
                           ecf->interval ? "timeout" : "interval");
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_trace_exporter_size(ngx_conf_t *cf, char *name, size_t *size)
{
    if (*size < 2 * OTLP_QUEUE_SIZE_MIN || *size > OTLP_QUEUE_SIZE_MAX) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid %s of %uz bytes in \"trace_exporter\", "
                           "write 256k to 1024m", name, *size);
        return NGX_ERROR;
    }

    *size = ngx_align(*size, ngx_pagesize);

    return NGX_OK;
}


static ngx_uint_t
ngx_http_trace_path(ngx_str_t *path)
{
    return path->len && path->data[0] == '/'
           && ngx_http_trace_printable(path, 0x21);
}


/* a token of RFC 9110, 5.6.2, that is not a header of the client's own */

static ngx_int_t
ngx_http_trace_header_name(ngx_conf_t *cf, ngx_str_t *name)
{
    size_t      i;
    ngx_str_t  *own;

    static ngx_str_t  owned[] = {
        ngx_string("host"),
        ngx_string("connection"),
        ngx_string("content-type"),
        ngx_string("content-length"),
        ngx_string("content-encoding"),
        ngx_string("transfer-encoding"),
        ngx_string("user-agent"),
        ngx_string("expect"),
        ngx_string("upgrade"),
        ngx_null_string
    };

    for (i = 0; i < name->len; i++) {
        if (ngx_strchr("()<>@,;:\\\"/[]?={}", name->data[i]) != NULL) {
            break;
        }
    }

    if (name->len == 0 || i < name->len
        || !ngx_http_trace_printable(name, 0x21))
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid header name \"%V\" in \"trace_exporter\", "
                           "write letters, digits and \"-\"", name);
        return NGX_ERROR;
    }

    for (own = owned; own->len; own++) {
        if (own->len == name->len
            && ngx_strncasecmp(own->data, name->data, name->len) == 0)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "header \"%V\" in \"trace_exporter\" is the "
                               "exporter's own, leave it out", name);
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_uint_t
ngx_http_trace_printable(ngx_str_t *value, u_char lowest)
{
    size_t  i;

    for (i = 0; i < value->len; i++) {
        if (value->data[i] < lowest || value->data[i] > 0x7e) {
            return 0;
        }
    }

    return 1;
}


ngx_int_t
ngx_http_trace_exporter_init_conf(ngx_conf_t *cf,
    ngx_http_trace_exporter_conf_t *ecf, ngx_str_t *service_name,
    ngx_array_t *resource)
{
    if (ngx_http_trace_request_head(cf, ecf) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_trace_pack(cf, ecf, service_name, resource);
}


/* what a pipeline's events have of its |spans|, which are complete */

ngx_int_t
ngx_http_trace_exporter_init_events(ngx_conf_t *cf,
    ngx_http_trace_exporter_conf_t *ecf, ngx_http_trace_exporter_conf_t *spans,
    ngx_uint_t pipeline)
{
    *ecf = *spans;

    ecf->queue = spans->events_queue;
    ecf->interval = NGX_HTTP_TRACE_EVENTS_INTERVAL;
    ecf->connections = 1;
    ecf->ordered = 1;

    ngx_str_null(&ecf->queue_file);

    switch (ngx_http_trace_events_url(cf, &ecf->url, &spans->events_path)) {

    case NGX_OK:
        return ngx_http_trace_request_head(cf, ecf);

    case NGX_DECLINED:
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"trace_events\" needs the path that logs go to: write "
                      "\"events_path " NGX_HTTP_TRACE_EVENTS_PATH ";\" in "
                      "\"trace_exporter %V\"",
                      &ngx_http_trace_pipeline_names[pipeline]);
        return NGX_ERROR;

    default: /* NGX_ERROR */
        return NGX_ERROR;
    }
}


/* the given path, or what the end of the spans' path makes of it */

static ngx_int_t
ngx_http_trace_events_url(ngx_conf_t *cf, ngx_url_t *url, ngx_str_t *path)
{
    size_t      kept, written;
    u_char     *p;
    ngx_str_t   spans, endpoint;

    static ngx_str_t  traces = ngx_string(NGX_HTTP_TRACE_PATH);
    static ngx_str_t  logs = ngx_string(NGX_HTTP_TRACE_EVENTS_PATH);

    spans = url->uri;
    endpoint = url->url;
    kept = 0;

    if (path->len == 0) {

        if (spans.len < traces.len
            || ngx_strncmp(spans.data + spans.len - traces.len, traces.data,
                           traces.len)
               != 0)
        {
            return NGX_DECLINED;
        }

        kept = spans.len - traces.len;
        path = &logs;
    }

    /* the endpoint, which messages show, has a path only if one was written */

    written = (spans.data + spans.len == endpoint.data + endpoint.len)
              ? spans.len : 0;

    endpoint.len -= written;

    p = ngx_pnalloc(cf->pool, endpoint.len + kept + path->len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    url->uri.data = p + endpoint.len;
    url->uri.len = kept + path->len;

    url->url.data = p;
    url->url.len = endpoint.len + (written ? url->uri.len : 0);

    p = ngx_cpymem(p, endpoint.data, endpoint.len);
    p = ngx_cpymem(p, spans.data, kept);
    ngx_memcpy(p, path->data, path->len);

    return NGX_OK;
}


static ngx_int_t
ngx_http_trace_request_head(ngx_conf_t *cf,
    ngx_http_trace_exporter_conf_t *ecf)
{
    size_t         len;
    u_char        *p;
    ngx_str_t      host;
    ngx_uint_t     i;
    ngx_keyval_t  *header;

    static u_char  constant[] =
        "Content-Type: application/x-protobuf" CRLF
        "User-Agent: OTel-OTLP-Exporter-C/" NGX_HTTP_TRACE_VERSION CRLF;

    if (ecf->url.family == AF_UNIX) {
        ngx_str_set(&host, "localhost");

    } else {
        p = ngx_strlchr(ecf->url.url.data,
                        ecf->url.url.data + ecf->url.url.len, '/');

        host.data = ecf->url.url.data;
        host.len = p ? (size_t) (p - host.data) : ecf->url.url.len;
    }

    header = ecf->headers.elts;

    len = sizeof("POST  HTTP/1.1" CRLF "Host: " CRLF) - 1 + ecf->url.uri.len
          + host.len + sizeof(constant) - 1;

    for (i = 0; i < ecf->headers.nelts; i++) {
        len += header[i].key.len + header[i].value.len + sizeof(": " CRLF) - 1;
    }

    p = ngx_pnalloc(cf->pool, len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    ecf->request_head.data = p;

    p = ngx_sprintf(p, "POST %V HTTP/1.1" CRLF "Host: %V" CRLF "%s",
                    &ecf->url.uri, &host, constant);

    for (i = 0; i < ecf->headers.nelts; i++) {
        p = ngx_sprintf(p, "%V: %V" CRLF, &header[i].key, &header[i].value);
    }

    ecf->request_head.len = p - ecf->request_head.data;

    return NGX_OK;
}


static ngx_int_t
ngx_http_trace_pack(ngx_conf_t *cf, ngx_http_trace_exporter_conf_t *ecf,
    ngx_str_t *service_name, ngx_array_t *resource)
{
    size_t             len;
    ngx_uint_t         i;
    ngx_keyval_t      *pair;
    otlp_attribute_t  *attrs;

    pair = resource->elts;
    len = 64 + 3 * service_name->len;

    attrs = ngx_palloc(cf->temp_pool,
                       (resource->nelts + 1) * sizeof(otlp_attribute_t));
    if (attrs == NULL) {
        return NGX_ERROR;
    }

    attrs[0].key.data = (u_char *) "service.name";
    attrs[0].key.len = sizeof("service.name") - 1;
    attrs[0].value.data = service_name->data;
    attrs[0].value.len = service_name->len;

    for (i = 0; i < resource->nelts; i++) {
        attrs[i + 1].key.data = pair[i].key.data;
        attrs[i + 1].key.len = pair[i].key.len;
        attrs[i + 1].value.data = pair[i].value.data;
        attrs[i + 1].value.len = pair[i].value.len;

        /* what is not UTF-8 grows to three times its length at most */

        len += 32 + pair[i].key.len + 3 * pair[i].value.len;
    }

    ecf->resource.data = ngx_pnalloc(cf->pool, len);
    if (ecf->resource.data == NULL) {
        return NGX_ERROR;
    }

    ecf->resource.len = len;

    if (otlp_resource_pack(ecf->resource.data, &ecf->resource.len, attrs,
                           resource->nelts + 1)
        != 0)
    {
        return NGX_ERROR;
    }

    len = 64 + sizeof(NGX_HTTP_TRACE_SCOPE NGX_HTTP_TRACE_VERSION);

    ecf->scope.data = ngx_pnalloc(cf->pool, len);
    if (ecf->scope.data == NULL) {
        return NGX_ERROR;
    }

    ecf->scope.len = len;

    if (otlp_scope_pack(ecf->scope.data, &ecf->scope.len, NGX_HTTP_TRACE_SCOPE,
                        NGX_HTTP_TRACE_VERSION)
        != 0)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}
