
/*
 * trace_status: what the exporters count, for Prometheus or as JSON.
 */


#include "ngx_http_trace_status.h"


#define NGX_HTTP_TRACE_STATUS_BUFFER  4096


/* of one pipeline; |pipeline| is NULL if nothing of it is exported */

typedef struct {
    ngx_str_t                    *pipeline;
    ngx_http_trace_counters_t     counters;
    uint64_t                      queue_size;
    uint64_t                      age;        /* ms */
    uint64_t                      up;
    uint64_t                      since;      /* ms since 1970 */
    ngx_http_trace_open_spans_t   open;       /* not shown of users' */
    ngx_uint_t                    has_events;
    ngx_http_trace_counters_t     events;
} ngx_http_trace_status_t;


typedef struct {
    ngx_str_t                     name;       /* no prefix, no "_total" */
    char                         *help;
    size_t                        offset;     /* of the first uint64_t */
    ngx_str_t                    *reasons;    /* one value for each, or NULL */
    ngx_uint_t                    n;          /* values */
    unsigned                      counter:1;  /* else a gauge */
    unsigned                      msec:1;     /* is shown in seconds */
    unsigned                      ended:1;    /* only if a request has ended */
    unsigned                      open:1;     /* of the internal alone */
    unsigned                      events:1;   /* only if there are such */
} ngx_http_trace_metric_t;


static ngx_int_t ngx_http_trace_status_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_trace_status_read(ngx_http_request_t *r,
    ngx_http_trace_status_t *status);
static void ngx_http_trace_status_prometheus(ngx_http_trace_output_t *output,
    ngx_http_trace_status_t *status);
static void ngx_http_trace_status_samples(ngx_http_trace_output_t *output,
    ngx_http_trace_status_t *status, ngx_http_trace_metric_t *metric);
static void ngx_http_trace_status_json(ngx_http_trace_output_t *output,
    ngx_http_trace_status_t *status);
static void ngx_http_trace_status_object(ngx_http_trace_output_t *output,
    ngx_http_trace_status_t *status);
static void ngx_http_trace_status_value(ngx_http_trace_output_t *output,
    ngx_http_trace_status_t *status, ngx_http_trace_metric_t *metric,
    ngx_uint_t n);
static void ngx_http_trace_status_chrome(ngx_http_trace_output_t *output,
    ngx_http_trace_status_t *status);
static ngx_uint_t ngx_http_trace_status_shown(ngx_http_trace_status_t *status,
    ngx_http_trace_metric_t *metric);
static ngx_int_t ngx_http_trace_status_send(ngx_http_request_t *r,
    ngx_http_trace_output_t *output, ngx_str_t *type);


#define ngx_http_trace_status_offset(field)                                   \
    offsetof(ngx_http_trace_status_t, field)


static ngx_http_trace_metric_t  ngx_http_trace_metrics[] = {

    { ngx_string("spans_recorded"),
      "Spans of requests that have ended.",
      ngx_http_trace_status_offset(counters.recorded), NULL, 1, 1, 0, 0, 0, 0 },

    { ngx_string("spans_exported"),
      "Spans that the receiver has taken.",
      ngx_http_trace_status_offset(counters.exported), NULL, 1, 1, 0, 0, 0, 0 },

    { ngx_string("spans_dropped"),
      "Spans that are lost, by reason.",
      ngx_http_trace_status_offset(counters.dropped),
      ngx_http_trace_drop_names, NGX_HTTP_TRACE_DROPS, 1, 0, 0, 0, 0 },

    { ngx_string("export_requests"),
      "Requests sent to the receiver, retries included.",
      ngx_http_trace_status_offset(counters.requests), NULL, 1, 1, 0, 0, 0, 0 },

    { ngx_string("export_failures"),
      "Requests to the receiver that have failed, by reason.",
      ngx_http_trace_status_offset(counters.failed),
      ngx_http_trace_failure_names, NGX_HTTP_TRACE_FAILURES, 1, 0, 0, 0, 0 },

    { ngx_string("export_retries"),
      "Requests that have sent the spans of another one again.",
      ngx_http_trace_status_offset(counters.retries), NULL, 1, 1, 0, 0, 0, 0 },

    { ngx_string("export_bytes"),
      "Bytes of the bodies of requests to the receiver.",
      ngx_http_trace_status_offset(counters.bytes), NULL, 1, 1, 0, 0, 0, 0 },

    { ngx_string("export_up"),
      "Whether the last request to the receiver has succeeded.",
      ngx_http_trace_status_offset(up), NULL, 1, 0, 0, 1, 0, 0 },

    { ngx_string("export_up_changed_timestamp_seconds"),
      "When nginx_trace_export_up became what it is.",
      ngx_http_trace_status_offset(since), NULL, 1, 0, 1, 1, 0, 0 },

    { ngx_string("queue_spans"),
      "Spans in the queues.",
      ngx_http_trace_status_offset(counters.queued), NULL, 1, 0, 0, 0, 0, 0 },

    { ngx_string("queue_bytes"),
      "Bytes of the queues that are in use.",
      ngx_http_trace_status_offset(counters.queue_used),
      NULL, 1, 0, 0, 0, 0, 0 },

    { ngx_string("queue_size_bytes"),
      "Bytes of the queues of all workers.",
      ngx_http_trace_status_offset(queue_size), NULL, 1, 0, 0, 0, 0, 0 },

    { ngx_string("queue_oldest_seconds"),
      "For how long the oldest span has been in a queue.",
      ngx_http_trace_status_offset(age), NULL, 1, 0, 1, 0, 0, 0 },

    { ngx_string("open_spans"),
      "Spans of requests that have not ended.",
      ngx_http_trace_status_offset(open.n), NULL, 1, 0, 0, 0, 1, 0 },

    { ngx_string("events_recorded"),
      "Events of spans.",
      ngx_http_trace_status_offset(events.recorded), NULL, 1, 1, 0, 0, 0, 1 },

    { ngx_string("events_exported"),
      "Events that the receiver has taken.",
      ngx_http_trace_status_offset(events.exported), NULL, 1, 1, 0, 0, 0, 1 },

    { ngx_string("events_dropped"),
      "Events that are lost, by reason.",
      ngx_http_trace_status_offset(events.dropped),
      ngx_http_trace_drop_names, NGX_HTTP_TRACE_DROPS, 1, 0, 0, 0, 1 },

    { ngx_string("events_queue_events"),
      "Events in the queues.",
      ngx_http_trace_status_offset(events.queued), NULL, 1, 0, 0, 0, 0, 1 },

    { ngx_string("events_queue_bytes"),
      "Bytes of the queues of events that are in use.",
      ngx_http_trace_status_offset(events.queue_used),
      NULL, 1, 0, 0, 0, 0, 1 }
};

#define NGX_HTTP_TRACE_METRICS                                                \
    (sizeof(ngx_http_trace_metrics) / sizeof(ngx_http_trace_metrics[0]))


/* the formats of "trace_status"; the first is the default */

static struct {
    ngx_str_t    name;
    ngx_str_t    type;
    void       (*write)(ngx_http_trace_output_t *output,
                        ngx_http_trace_status_t *status);
    ngx_uint_t   lists;                       /* spans that are open */
} ngx_http_trace_status_formats[] = {
    { ngx_string("format=prometheus"),
      ngx_string("text/plain; version=0.0.4"),
      ngx_http_trace_status_prometheus, 0 },
    { ngx_string("format=json"),
      ngx_string("application/json"),
      ngx_http_trace_status_json, 1 },
    { ngx_string("format=chrome"),
      ngx_string("application/json"),
      ngx_http_trace_status_chrome, 1 }
};

#define NGX_HTTP_TRACE_STATUS_FORMATS                                         \
    (sizeof(ngx_http_trace_status_formats)                                    \
     / sizeof(ngx_http_trace_status_formats[0]))


static ngx_int_t
ngx_http_trace_status_handler(ngx_http_request_t *r)
{
    ngx_int_t                   rc;
    ngx_http_trace_output_t     output;
    ngx_http_trace_status_t     status[NGX_HTTP_TRACE_PIPELINES];
    ngx_http_trace_loc_conf_t  *tlcf;

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
        return NGX_HTTP_NOT_ALLOWED;
    }

    rc = ngx_http_discard_request_body(r);

    if (rc != NGX_OK) {
        return rc;
    }

    tlcf = ngx_http_get_module_loc_conf(r, ngx_http_trace_module);

    ngx_memzero(&output, sizeof(ngx_http_trace_output_t));

    output.pool = r->pool;
    output.last = &output.out;

    if (ngx_http_trace_status_read(r, status) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_http_trace_status_formats[tlcf->status].write(&output, status);

    if (output.rc != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_trace_status_send(r, &output,
                           &ngx_http_trace_status_formats[tlcf->status].type);
}


static ngx_int_t
ngx_http_trace_status_read(ngx_http_request_t *r,
    ngx_http_trace_status_t *status)
{
    uint64_t                         now;
    ngx_uint_t                       i;
    ngx_http_trace_summary_t         summary;
    ngx_http_trace_loc_conf_t       *tlcf;
    ngx_http_trace_main_conf_t      *tmcf;
    ngx_http_trace_exporter_conf_t  *ecf;

    tlcf = ngx_http_get_module_loc_conf(r, ngx_http_trace_module);
    tmcf = ngx_http_get_module_main_conf(r, ngx_http_trace_module);
    now = ngx_http_trace_msec();

    for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++, status++) {
        ngx_memzero(status, sizeof(ngx_http_trace_status_t));

        ecf = &tmcf->exporters[i];

        if (ecf->store == NULL) {
            continue;
        }

        ngx_http_trace_store_sum(ecf, &summary);

        status->pipeline = &ngx_http_trace_pipeline_names[i];
        status->counters = summary.counters;
        status->queue_size = summary.queue_size;
        status->up = summary.up;
        status->since = summary.since;

        /* another worker's clock may be a little ahead of ours */

        if (summary.counters.oldest && summary.counters.oldest < now) {
            status->age = now - summary.counters.oldest;
        }

        status->open.listed = ngx_http_trace_status_formats[tlcf->status].lists;

        if (i == NGX_HTTP_TRACE_INTERNAL
            && ngx_http_trace_open_spans_read(r->pool, ecf->store,
                                              &status->open)
               != NGX_OK)
        {
            return NGX_ERROR;
        }

        ecf = &tmcf->exporters[NGX_HTTP_TRACE_EVENTS(i)];

        if (ecf->store) {
            ngx_http_trace_store_sum(ecf, &summary);

            status->has_events = 1;
            status->events = summary.counters;
        }
    }

    return NGX_OK;
}


/* https://prometheus.io/docs/instrumenting/exposition_formats/, text 0.0.4 */

static void
ngx_http_trace_status_prometheus(ngx_http_trace_output_t *output,
    ngx_http_trace_status_t *status)
{
    ngx_uint_t                i, n;
    ngx_http_trace_metric_t  *metric;

    for (n = 0; n < NGX_HTTP_TRACE_METRICS; n++) {
        metric = &ngx_http_trace_metrics[n];

        if (!ngx_http_trace_status_shown(&status[0], metric)
            && !ngx_http_trace_status_shown(&status[1], metric))
        {
            continue;
        }

        ngx_http_trace_status_write(output,
                                    "# HELP nginx_trace_%V%s %s\n"
                                    "# TYPE nginx_trace_%V%s %s\n",
                                    &metric->name,
                                    metric->counter ? "_total" : "",
                                    metric->help, &metric->name,
                                    metric->counter ? "_total" : "",
                                    metric->counter ? "counter" : "gauge");

        for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++) {
            ngx_http_trace_status_samples(output, &status[i], metric);
        }
    }
}


static void
ngx_http_trace_status_samples(ngx_http_trace_output_t *output,
    ngx_http_trace_status_t *status, ngx_http_trace_metric_t *metric)
{
    ngx_uint_t  n;

    if (status->pipeline == NULL
        || !ngx_http_trace_status_shown(status, metric)
        || (metric->ended && status->since == 0))
    {
        return;
    }

    for (n = 0; n < metric->n; n++) {
        ngx_http_trace_status_write(output,
                                    "nginx_trace_%V%s{pipeline=\"%V\"",
                                    &metric->name,
                                    metric->counter ? "_total" : "",
                                    status->pipeline);

        if (metric->reasons) {
            ngx_http_trace_status_write(output, ",reason=\"%V\"",
                                        &metric->reasons[n]);
        }

        ngx_http_trace_status_write(output, "} ");
        ngx_http_trace_status_value(output, status, metric, n);
        ngx_http_trace_status_write(output, "\n");
    }
}


/* what users have open is theirs */

static ngx_uint_t
ngx_http_trace_status_shown(ngx_http_trace_status_t *status,
    ngx_http_trace_metric_t *metric)
{
    if (metric->open) {
        return status->pipeline
               == &ngx_http_trace_pipeline_names[NGX_HTTP_TRACE_INTERNAL];
    }

    return !metric->events || status->has_events;
}


static void
ngx_http_trace_status_json(ngx_http_trace_output_t *output,
    ngx_http_trace_status_t *status)
{
    char        *separator;
    ngx_uint_t   i;

    separator = "{\n";

    for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++) {
        if (status[i].pipeline) {
            ngx_http_trace_status_write(output, "%s  \"%V\": ", separator,
                                        status[i].pipeline);
            ngx_http_trace_status_object(output, &status[i]);
            separator = ",\n";
        }
    }

    ngx_http_trace_status_write(output, "%s",
                                *separator == '{' ? "{}\n" : "\n}\n");
}


static void
ngx_http_trace_status_chrome(ngx_http_trace_output_t *output,
    ngx_http_trace_status_t *status)
{
    ngx_http_trace_open_spans_chrome(output,
                                     &status[NGX_HTTP_TRACE_INTERNAL].open);
}


static void
ngx_http_trace_status_object(ngx_http_trace_output_t *output,
    ngx_http_trace_status_t *status)
{
    ngx_uint_t                i, n;
    ngx_http_trace_metric_t  *metric;

    for (i = 0; i < NGX_HTTP_TRACE_METRICS; i++) {
        metric = &ngx_http_trace_metrics[i];

        if (!ngx_http_trace_status_shown(status, metric)) {
            continue;
        }

        ngx_http_trace_status_write(output, "%s    \"%V%s\": ",
                                    i ? ",\n" : "{\n", &metric->name,
                                    metric->open ? "_total" : "");

        if (metric->open) {
            ngx_http_trace_status_value(output, status, metric, 0);
            ngx_http_trace_status_write(output, ",\n    \"%V\": ",
                                        &metric->name);
            ngx_http_trace_open_spans_json(output, &status->open);
            continue;
        }

        if (metric->ended && status->since == 0) {
            ngx_http_trace_status_write(output, "null");
            continue;
        }

        if (metric->reasons == NULL) {
            ngx_http_trace_status_value(output, status, metric, 0);
            continue;
        }

        for (n = 0; n < metric->n; n++) {
            ngx_http_trace_status_write(output, "%s\"%V\": ", n ? ", " : "{",
                                        &metric->reasons[n]);
            ngx_http_trace_status_value(output, status, metric, n);
        }

        ngx_http_trace_status_write(output, "}");
    }

    ngx_http_trace_status_write(output, "\n  }");
}


static void
ngx_http_trace_status_value(ngx_http_trace_output_t *output,
    ngx_http_trace_status_t *status, ngx_http_trace_metric_t *metric,
    ngx_uint_t n)
{
    uint64_t  value;

    value = ((uint64_t *) ((u_char *) status + metric->offset))[n];

    if (metric->msec) {
        ngx_http_trace_status_write(output, "%uL.%03uL", value / 1000,
                                    value % 1000);
        return;
    }

    ngx_http_trace_status_write(output, "%uL", value);
}


/* what does not fit into a buffer goes to the start of the next one, whole */

void
ngx_http_trace_status_write(ngx_http_trace_output_t *output,
    const char *fmt, ...)
{
    u_char     *p;
    va_list     args;
    ngx_buf_t  *b;

    for (b = output->buf; output->rc == NGX_OK; b = output->buf) {

        if (b) {
            va_start(args, fmt);
            p = ngx_vslprintf(b->last, b->end, fmt, args);
            va_end(args);

            if (p < b->end) {
                output->size += p - b->last;
                b->last = p;
                return;
            }
        }

        output->rc = NGX_ERROR;

        if (b && b->last == b->pos) {
            return;
        }

        b = ngx_create_temp_buf(output->pool, NGX_HTTP_TRACE_STATUS_BUFFER);
        if (b == NULL) {
            return;
        }

        *output->last = ngx_alloc_chain_link(output->pool);
        if (*output->last == NULL) {
            return;
        }

        (*output->last)->buf = b;
        (*output->last)->next = NULL;

        output->last = &(*output->last)->next;
        output->buf = b;
        output->rc = NGX_OK;
    }
}


static ngx_int_t
ngx_http_trace_status_send(ngx_http_request_t *r,
    ngx_http_trace_output_t *output, ngx_str_t *type)
{
    ngx_int_t  rc;

    r->headers_out.status = NGX_HTTP_OK;
    r->headers_out.content_length_n = output->size;
    r->headers_out.content_type = *type;
    r->headers_out.content_type_len = type->len;
    r->headers_out.content_type_lowcase = NULL;

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    output->buf->last_buf = (r == r->main);
    output->buf->last_in_chain = 1;

    return ngx_http_output_filter(r, output->out);
}


char *
ngx_http_trace_status_directive(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_trace_loc_conf_t *tlcf = conf;

    ngx_str_t                   *value, *format;
    ngx_uint_t                   i;
    ngx_http_core_loc_conf_t    *clcf;
    ngx_http_trace_main_conf_t  *tmcf;

    if (tlcf->status != NGX_CONF_UNSET_UINT) {
        return "is duplicate";
    }

    value = cf->args->elts;
    format = (cf->args->nelts > 1) ? &value[1]
                                   : &ngx_http_trace_status_formats[0].name;

    for (i = 0; i < NGX_HTTP_TRACE_STATUS_FORMATS; i++) {
        if (ngx_strcmp(format->data,
                       ngx_http_trace_status_formats[i].name.data)
            == 0)
        {
            tlcf->status = i;
        }
    }

    if (tlcf->status == NGX_CONF_UNSET_UINT) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid parameter \"%V\" in \"trace_status\", "
                           "write \"format=prometheus\", \"format=json\" "
                           "or \"format=chrome\"",
                           format);
        return NGX_CONF_ERROR;
    }

    tmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_trace_module);

    tmcf->status_file = cf->conf_file->file.name;
    tmcf->status_line = cf->conf_file->line;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
    clcf->handler = ngx_http_trace_status_handler;

    return NGX_CONF_OK;
}


ngx_int_t
ngx_http_trace_status_init_conf(ngx_conf_t *cf,
    ngx_http_trace_main_conf_t *tmcf)
{
    if (tmcf->status_line == 0
        || tmcf->exporters[NGX_HTTP_TRACE_INTERNAL].line
        || tmcf->exporters[NGX_HTTP_TRACE_USER].line)
    {
        return NGX_OK;
    }

    ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                  "\"trace_status\" in %V:%ui without \"trace_exporter\", "
                  "write \"trace_exporter internal { endpoint unix:/path; }\" "
                  "in the \"http\" block",
                  &tmcf->status_file, tmcf->status_line);

    return NGX_ERROR;
}
