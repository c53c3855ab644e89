
/*
 * From the worker's queues to the receivers: when to send, what, and what the
 * answer means.
 */


#include "ngx_http_trace_exporter.h"
#include "ngx_http_trace_http_client.h"


#define NGX_HTTP_TRACE_LOG_INTERVAL   60000    /* ms between lines of a kind */
#define NGX_HTTP_TRACE_EXIT_INTERVAL  10       /* ms, of a worker that exits */

/* in front of the spans: constant header, this request's header, envelope */
#define NGX_HTTP_TRACE_HEAD_IOVS      3


typedef struct ngx_http_trace_exporter_s  ngx_http_trace_exporter_t;


/* one connection to the receiver, and the batch that is under way on it */

typedef struct {
    ngx_http_trace_http_client_t     client;
    ngx_http_trace_exporter_t       *exporter;
    otlp_queue_batch_t               batch;
    struct iovec                    *iov;
    u_char                          *header;
    u_char                          *envelope;
    unsigned                         busy:1;
} ngx_http_trace_sender_t;


struct ngx_http_trace_exporter_s {
    ngx_http_trace_exporter_conf_t  *conf;
    ngx_http_trace_counters_t       *counters;
    otlp_queue_t                     queue;
    ngx_http_trace_sender_t         *senders;

    uint64_t                         due;      /* records to send now */
    uint32_t                         spans_max;    /* bytes in a request */
    ngx_event_t                      timer;
    ngx_event_t                      run;
    ngx_connection_t                *watcher;  /* of a graceful exit */
    ngx_msec_t                       deadline; /* of the exit */

    ngx_uint_t                       pipeline;
    ngx_log_t                       *log;

    uint64_t                         lost;     /* since the last log line */
    ngx_msec_t                       lost_logged;
    ngx_msec_t                       message_logged;

    unsigned                         open:1;
    unsigned                         exiting:1;
    unsigned                         failing:1;
    unsigned                         lost_once:1;
    unsigned                         message_once:1;
};


static ngx_int_t ngx_http_trace_sender_init(
    ngx_http_trace_exporter_t *exporter, ngx_http_trace_sender_t *sender,
    ngx_cycle_t *cycle);
static ngx_int_t ngx_http_trace_exporter_watch(
    ngx_http_trace_exporter_t *exporter, ngx_cycle_t *cycle);
static void ngx_http_trace_exporter_exit(ngx_event_t *ev);
static void ngx_http_trace_exporter_tick(ngx_event_t *ev);
static void ngx_http_trace_exporter_run(ngx_event_t *ev);
static void ngx_http_trace_exporter_send(ngx_http_trace_sender_t *sender);
static void ngx_http_trace_exporter_done(ngx_http_trace_http_client_t *client,
    ngx_uint_t status, ngx_str_t *body, const char *error);
static void ngx_http_trace_exporter_succeeded(
    ngx_http_trace_sender_t *sender, ngx_str_t *body);
static void ngx_http_trace_exporter_failed(ngx_http_trace_sender_t *sender,
    ngx_uint_t status, const char *error);
static ngx_uint_t ngx_http_trace_exporter_may_log(ngx_msec_t *logged,
    ngx_uint_t once);


static ngx_http_trace_exporter_t
    ngx_http_trace_exporters[NGX_HTTP_TRACE_PIPELINES];


static char  *ngx_http_trace_drop_reasons[] = {
    "the queue is full",
    "\"trace_routing\" has no usable value",
    "the receiver rejected them",
    "the receiver could not be reached"
};


ngx_int_t
ngx_http_trace_exporter_start(ngx_cycle_t *cycle,
    ngx_http_trace_exporter_conf_t *ecf, ngx_uint_t pipeline)
{
    ngx_int_t                   i;
    otlp_queue_stat_t           stat;
    ngx_http_trace_exporter_t  *exporter;

    exporter = &ngx_http_trace_exporters[pipeline];

    exporter->conf = ecf;
    exporter->pipeline = pipeline;
    exporter->log = cycle->log;
    exporter->spans_max = OTLP_REQUEST_MAX - OTLP_REQUEST_FRAME_MAX
                          - ecf->resource.len - ecf->scope.len;

    if (ngx_http_trace_queue_open(ecf, &exporter->queue, &exporter->counters,
                                  cycle->log)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    exporter->senders = ngx_pcalloc(cycle->pool, ecf->connections
                                    * sizeof(ngx_http_trace_sender_t));
    if (exporter->senders == NULL) {
        return NGX_ERROR;
    }

    for (i = 0; i < ecf->connections; i++) {
        if (ngx_http_trace_sender_init(exporter, &exporter->senders[i], cycle)
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    exporter->timer.handler = ngx_http_trace_exporter_tick;
    exporter->timer.data = exporter;
    exporter->timer.log = cycle->log;
    exporter->timer.cancelable = 1;

    exporter->run.handler = ngx_http_trace_exporter_run;
    exporter->run.data = exporter;
    exporter->run.log = cycle->log;

    if (ngx_http_trace_exporter_watch(exporter, cycle) != NGX_OK) {
        return NGX_ERROR;
    }

    exporter->open = 1;

    /* a worker that died may have left something */

    otlp_queue_stat(&exporter->queue, &stat);

    if (stat.untaken) {
        ngx_add_timer(&exporter->timer, ecf->interval);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_trace_sender_init(ngx_http_trace_exporter_t *exporter,
    ngx_http_trace_sender_t *sender, ngx_cycle_t *cycle)
{
    size_t                           size;
    ngx_http_trace_exporter_conf_t  *ecf;

    ecf = exporter->conf;

    sender->exporter = exporter;

    sender->iov = ngx_palloc(cycle->pool,
                             (NGX_HTTP_TRACE_HEAD_IOVS + ecf->batch_size)
                             * sizeof(struct iovec));
    if (sender->iov == NULL) {
        return NGX_ERROR;
    }

    size = ecf->routing_header.len + sizeof(": \r\n") - 1
           + OTLP_QUEUE_ROUTING_MAX
           + sizeof("Content-Length: \r\n\r\n") - 1 + NGX_SIZE_T_LEN;

    sender->header = ngx_palloc(cycle->pool, size);
    if (sender->header == NULL) {
        return NGX_ERROR;
    }

    sender->envelope = ngx_palloc(cycle->pool, OTLP_REQUEST_FRAME_MAX
                                  + ecf->resource.len + ecf->scope.len);
    if (sender->envelope == NULL) {
        return NGX_ERROR;
    }

    sender->client.url = &ecf->url;
    sender->client.done = ngx_http_trace_exporter_done;
    sender->client.data = sender;

    return ngx_http_trace_http_init(&sender->client, cycle->pool, cycle->log);
}


/*
 * A worker that is told to exit calls the handlers of its idle connections:
 * this one is there only for that, and has no socket.
 */

static ngx_int_t
ngx_http_trace_exporter_watch(ngx_http_trace_exporter_t *exporter,
    ngx_cycle_t *cycle)
{
    ngx_connection_t  *c;

    c = ngx_get_connection(0, cycle->log);
    if (c == NULL) {
        return NGX_ERROR;
    }

    c->data = exporter;
    c->idle = 1;
    c->read->handler = ngx_http_trace_exporter_exit;
    c->read->log = cycle->log;

    exporter->watcher = c;

    return NGX_OK;
}


static void
ngx_http_trace_exporter_exit(ngx_event_t *ev)
{
    ngx_int_t                   i;
    ngx_connection_t           *c;
    ngx_http_trace_exporter_t  *exporter;

    c = ev->data;
    exporter = c->data;

    c->close = 0;
    c->idle = 0;

    if (exporter->exiting) {

        /* "worker_shutdown_timeout" */

        exporter->deadline = ngx_current_msec;
        return;
    }

    exporter->exiting = 1;
    exporter->deadline = ngx_current_msec + exporter->conf->timeout;

    for (i = 0; i < exporter->conf->connections; i++) {
        ngx_http_trace_http_hold(&exporter->senders[i].client);
    }

    if (exporter->timer.timer_set) {
        ngx_del_timer(&exporter->timer);
    }

    exporter->timer.cancelable = 0;

    /* not as a posted event: without a timer the worker would be gone first */

    ngx_http_trace_exporter_tick(&exporter->timer);
}


/* what is left when the worker leaves is lost, and said to be */

void
ngx_http_trace_exporter_stop(ngx_uint_t pipeline)
{
    otlp_queue_stat_t           stat;
    ngx_http_trace_exporter_t  *exporter;

    exporter = &ngx_http_trace_exporters[pipeline];

    if (!exporter->open) {
        return;
    }

    if (exporter->watcher) {
        ngx_free_connection(exporter->watcher);
        exporter->watcher->fd = (ngx_socket_t) -1;
        exporter->watcher = NULL;
    }

    otlp_queue_stat(&exporter->queue, &stat);

    if (stat.records) {
        ngx_log_error(NGX_LOG_ERR, exporter->log, 0,
                      "%uL %V spans were not exported before the exit",
                      stat.records,
                      &ngx_http_trace_pipeline_names[pipeline]);
    }
}


void
ngx_http_trace_exporter_recorded(ngx_uint_t pipeline)
{
    if (ngx_http_trace_exporters[pipeline].open) {
        ngx_http_trace_exporters[pipeline].counters->recorded++;
    }
}


/* room for a span in the queue, NULL if there is none: see otlp_queue_begin */

u_char *
ngx_http_trace_exporter_begin(ngx_uint_t pipeline, ngx_str_t *routing,
    size_t min, size_t *room)
{
    ngx_http_trace_exporter_t  *exporter;

    exporter = &ngx_http_trace_exporters[pipeline];

    if (!exporter->open) {
        return NULL;
    }

    return otlp_queue_begin(&exporter->queue, routing->data, routing->len, min,
                            room);
}


void
ngx_http_trace_exporter_commit(ngx_uint_t pipeline, const uint8_t *span,
    size_t len)
{
    uint32_t                    n, batch_size;
    ngx_http_trace_exporter_t  *exporter;

    exporter = &ngx_http_trace_exporters[pipeline];
    batch_size = exporter->conf->batch_size;

    n = otlp_queue_commit(&exporter->queue, span, len);

    if (exporter->exiting) {
        exporter->deadline = ngx_current_msec + exporter->conf->timeout;
    }

    if (n % batch_size == 0) {
        exporter->due += batch_size;
        ngx_post_event(&exporter->run, &ngx_posted_events);

    } else if (!exporter->timer.timer_set) {
        ngx_add_timer(&exporter->timer,
                      exporter->exiting ? NGX_HTTP_TRACE_EXIT_INTERVAL
                                        : exporter->conf->interval);
    }
}


void
ngx_http_trace_exporter_drop(ngx_uint_t pipeline,
    ngx_http_trace_drop_e reason, ngx_uint_t n)
{
    ngx_http_trace_exporter_t  *exporter;

    exporter = &ngx_http_trace_exporters[pipeline];

    if (!exporter->open) {
        return;
    }

    exporter->counters->dropped[reason] += n;
    exporter->lost += n;

    if (ngx_http_trace_exporter_may_log(&exporter->lost_logged,
                                        exporter->lost_once))
    {
        ngx_log_error(NGX_LOG_WARN, exporter->log, 0,
                      "%uL %V spans were dropped, lastly because %s",
                      exporter->lost,
                      &ngx_http_trace_pipeline_names[pipeline],
                      ngx_http_trace_drop_reasons[reason]);

        exporter->lost = 0;
        exporter->lost_once = 1;
    }
}


static void
ngx_http_trace_exporter_tick(ngx_event_t *ev)
{
    otlp_queue_stat_t           stat;
    ngx_http_trace_exporter_t  *exporter;

    exporter = ev->data;

    otlp_queue_stat(&exporter->queue, &stat);

    exporter->due = stat.untaken;

    ngx_http_trace_exporter_run(&exporter->run);
}


/* sends what is due, as far as there are senders to do so */

static void
ngx_http_trace_exporter_run(ngx_event_t *ev)
{
    ngx_int_t                        i;
    ngx_http_trace_sender_t         *sender;
    ngx_http_trace_exporter_t       *exporter;
    ngx_http_trace_exporter_conf_t  *ecf;

    exporter = ev->data;
    ecf = exporter->conf;

    for (i = 0; i < ecf->connections; i++) {
        sender = &exporter->senders[i];

        /* a sender that fails at once is free again at once */

        while (exporter->due && !sender->busy) {

            if (exporter->exiting
                && (ngx_msec_int_t) (exporter->deadline - ngx_current_msec)
                   <= 0)
            {
                return;
            }

            if (otlp_queue_take(&exporter->queue, &sender->batch,
                                ecf->batch_size, exporter->spans_max)
                != 0)
            {
                exporter->due = 0;
                return;
            }

            exporter->due -= ngx_min(exporter->due, sender->batch.records);

            sender->busy = 1;
            ngx_http_trace_exporter_send(sender);
        }
    }
}


static void
ngx_http_trace_exporter_send(ngx_http_trace_sender_t *sender)
{
    u_char                          *p;
    traceparent_view_t               resource, scope;
    ngx_http_trace_exporter_conf_t  *ecf;

    ecf = sender->exporter->conf;

    resource.data = ecf->resource.data;
    resource.len = ecf->resource.len;
    scope.data = ecf->scope.data;
    scope.len = ecf->scope.len;

    sender->iov[0].iov_base = ecf->request_head.data;
    sender->iov[0].iov_len = ecf->request_head.len;

    sender->iov[2].iov_base = sender->envelope;
    sender->iov[2].iov_len = otlp_request_frame(sender->envelope, &resource,
                                                &scope, sender->batch.bytes);

    p = sender->header;

    if (sender->batch.routing.len) {
        p = ngx_cpymem(p, ecf->routing_header.data, ecf->routing_header.len);
        *p++ = ':';
        *p++ = ' ';
        p = ngx_cpymem(p, sender->batch.routing.data,
                       sender->batch.routing.len);
        *p++ = CR;
        *p++ = LF;
    }

    p = ngx_sprintf(p, "Content-Length: %uz" CRLF CRLF,
                    sender->iov[2].iov_len + sender->batch.bytes);

    sender->iov[1].iov_base = sender->header;
    sender->iov[1].iov_len = p - sender->header;

    otlp_queue_iov(&sender->exporter->queue, &sender->batch,
                   sender->iov + NGX_HTTP_TRACE_HEAD_IOVS);

    sender->client.timeout = ecf->timeout;

    if (sender->exporter->exiting) {
        sender->client.timeout = ngx_min(ecf->timeout,
                                         sender->exporter->deadline
                                         - ngx_current_msec);
    }

    ngx_http_trace_http_post(&sender->client, sender->iov,
                             NGX_HTTP_TRACE_HEAD_IOVS
                             + sender->batch.records);
}


static void
ngx_http_trace_exporter_done(ngx_http_trace_http_client_t *client,
    ngx_uint_t status, ngx_str_t *body, const char *error)
{
    ngx_http_trace_sender_t    *sender;
    ngx_http_trace_exporter_t  *exporter;

    sender = client->data;
    exporter = sender->exporter;

    if (client->stale) {
        ngx_http_trace_exporter_send(sender);
        return;
    }

    if (status && otlp_response_verdict(status) == OTLP_EXPORTED) {
        ngx_http_trace_exporter_succeeded(sender, body);

    } else {
        ngx_http_trace_exporter_failed(sender, status, error);
    }

    otlp_queue_release(&exporter->queue, &sender->batch);
    sender->busy = 0;

    if (exporter->due) {
        ngx_post_event(&exporter->run, &ngx_posted_events);
    }
}


static void
ngx_http_trace_exporter_succeeded(ngx_http_trace_sender_t *sender,
    ngx_str_t *body)
{
    uint64_t                    rejected;
    otlp_response_t             response;
    ngx_http_trace_exporter_t  *exporter;

    exporter = sender->exporter;
    rejected = 0;

    if (exporter->failing) {
        exporter->failing = 0;

        ngx_log_error(NGX_LOG_WARN, exporter->log, 0,
                      "%V spans are exported to %V again",
                      &ngx_http_trace_pipeline_names[exporter->pipeline],
                      &exporter->conf->url.url);
    }

    if (otlp_response_decode(&response, body->data, body->len) == 0) {
        rejected = ngx_min(response.rejected_spans, sender->batch.records);

        if (response.message_len
            && ngx_http_trace_exporter_may_log(&exporter->message_logged,
                                               exporter->message_once))
        {
            ngx_log_error(NGX_LOG_WARN, exporter->log, 0,
                          "receiver %V says of %V spans: \"%*s\"",
                          &exporter->conf->url.url,
                          &ngx_http_trace_pipeline_names[exporter->pipeline],
                          response.message_len, response.message);

            exporter->message_once = 1;
        }
    }

    exporter->counters->exported += sender->batch.records - rejected;

    if (rejected) {
        ngx_http_trace_exporter_drop(exporter->pipeline,
                                     NGX_HTTP_TRACE_REJECTED, rejected);
    }
}


static void
ngx_http_trace_exporter_failed(ngx_http_trace_sender_t *sender,
    ngx_uint_t status, const char *error)
{
    ngx_uint_t                  rejected;
    ngx_http_trace_exporter_t  *exporter;

    exporter = sender->exporter;

    rejected = status && otlp_response_verdict(status) == OTLP_REJECTED;

    if (!exporter->failing) {
        exporter->failing = 1;

        if (status) {
            ngx_log_error(NGX_LOG_ERR, exporter->log, 0,
                          "receiver %V answers %V spans with status %ui",
                          &exporter->conf->url.url,
                          &ngx_http_trace_pipeline_names[exporter->pipeline],
                          status);

        } else {
            ngx_log_error(NGX_LOG_ERR, exporter->log, sender->client.err,
                          "export of %V spans to %V failed: %s",
                          &ngx_http_trace_pipeline_names[exporter->pipeline],
                          &exporter->conf->url.url, error);
        }
    }

    ngx_http_trace_exporter_drop(exporter->pipeline,
                                 rejected ? NGX_HTTP_TRACE_REJECTED
                                          : NGX_HTTP_TRACE_FAILED,
                                 sender->batch.records);
}


static ngx_uint_t
ngx_http_trace_exporter_may_log(ngx_msec_t *logged, ngx_uint_t once)
{
    if (once && ngx_current_msec - *logged < NGX_HTTP_TRACE_LOG_INTERVAL) {
        return 0;
    }

    *logged = ngx_current_msec;

    return 1;
}
