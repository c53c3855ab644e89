
/*
 * From this worker's queues to the receiver: when to send, what, and what the
 * answer means.
 *
 * A batch is taken from a queue, sent by one of the senders, and released when
 * it is acknowledged or given up.  One that is to be tried again waits with a
 * timer of its own, and lets others pass; but as long as the receiver gives no
 * good answer at all, one request at a time finds out whether it is back.
 *
 * Of a routing that the receiver does not want now, one batch at a time finds
 * out whether it does again, and the others are held behind it.  Since room in
 * a queue is free only when all that is older is gone, a full one drops what is
 * held as long as it is the oldest: nobody else's spans have to go for it.
 *
 * Where the order counts, the one sender has a batch of a routing only when no
 * older one of the same routing is left: those that nobody holds stand first
 * in |ready|, and go before what was never sent.
 */


#include "ngx_http_trace_exporter.h"
#include "ngx_http_trace_gzip.h"
#include "ngx_http_trace_http_client.h"


#define NGX_HTTP_TRACE_LOG_INTERVAL   60000    /* ms between lines of a kind */
#define NGX_HTTP_TRACE_EXIT_INTERVAL  10       /* ms, of a worker that exits */
#define NGX_HTTP_TRACE_ADOPT_INTERVAL 1000     /* ms, of looking for orphans */

/* full jitter: a wait is anything up to these, doubled each time */
#define NGX_HTTP_TRACE_BACKOFF_MIN    100      /* ms */
#define NGX_HTTP_TRACE_BACKOFF_MAX    5000     /* ms */

#define NGX_HTTP_TRACE_RETRY_AFTER_MAX  86400  /* s, of what is believed */

/* free while a routing on hold is tried again, if what is held can go for it */
#define NGX_HTTP_TRACE_RESERVE(size)                                          \
    ngx_min((size) / 4, 4 * 1024 * 1024)

/* in front of the spans: constant header, this request's header, envelope */
#define NGX_HTTP_TRACE_HEAD_IOVS      3


typedef struct ngx_http_trace_exporter_s  ngx_http_trace_exporter_t;


typedef struct ngx_http_trace_batch_s  ngx_http_trace_batch_t;


/* a routing that the receiver does not want now */

typedef struct {
    ngx_str_node_t                   node;
    ngx_http_trace_batch_t          *batch;    /* holds; may be empty */
    ngx_queue_t                      batches;  /* behind it */
} ngx_http_trace_hold_t;


struct ngx_http_trace_batch_s {
    ngx_queue_t                      link;     /* in waiting, ready or a hold */
    ngx_event_t                      timer;    /* of the next try */
    ngx_http_trace_exporter_t       *exporter;
    ngx_http_trace_ring_t           *ring;
    otlp_queue_batch_t               spans;
    ngx_http_trace_hold_t           *hold;     /* of its routing, or NULL */
    ngx_uint_t                       tries;
    ngx_msec_t                       taken;    /* from the queue */
};


/* one connection to the receiver, and the batch that is under way on it */

typedef struct {
    ngx_http_trace_http_client_t     client;
    ngx_http_trace_exporter_t       *exporter;
    ngx_http_trace_batch_t          *batch;    /* NULL: free */
    struct iovec                    *iov;
    u_char                          *header;
    u_char                          *envelope;
    ngx_http_trace_gzip_t            gzip;
} ngx_http_trace_sender_t;


struct ngx_http_trace_exporter_s {
    ngx_http_trace_exporter_conf_t  *conf;
    ngx_http_trace_ring_t           *ring;     /* written to */
    ngx_http_trace_ring_t           *adopted;  /* of a dead worker, or NULL */
    ngx_http_trace_sender_t         *senders;

    ngx_queue_t                      waiting;  /* for their time */
    ngx_queue_t                      ready;    /* for a sender */
    ngx_rbtree_t                     holds;    /* by routing */
    ngx_rbtree_node_t                sentinel;

    uint64_t                         due;      /* records of ring to send */
    uint32_t                         spans_max;    /* bytes in a request */
    ngx_uint_t                       failures; /* in a row, for the backoff */
    ngx_uint_t                       failed;   /* since the last success */
    ngx_event_t                      timer;    /* of the interval */
    ngx_event_t                      pause;    /* of a receiver that is away */
    ngx_event_t                      orphans;  /* of the look for them */
    ngx_event_t                      run;
    ngx_connection_t                *watcher;  /* of a graceful exit */
    ngx_msec_t                       deadline; /* of the exit */

    ngx_uint_t                       channel;
    ngx_log_t                       *log;

    uint64_t                         lost;     /* since the last log line */
    ngx_msec_t                       lost_logged;
    ngx_msec_t                       message_logged;
    ngx_msec_t                       refused_logged;

    unsigned                         exiting:1;
    unsigned                         fresh:1;      /* before what is ready */
    unsigned                         failing:1;    /* and logged */
    unsigned                         lost_once:1;
    unsigned                         message_once:1;
    unsigned                         refused_once:1;
};


static ngx_int_t ngx_http_trace_sender_init(
    ngx_http_trace_exporter_t *exporter, ngx_http_trace_sender_t *sender,
    ngx_cycle_t *cycle);
static void ngx_http_trace_exporter_event(ngx_http_trace_exporter_t *exporter,
    ngx_event_t *ev, ngx_event_handler_pt handler);
static ngx_int_t ngx_http_trace_exporter_watch(
    ngx_http_trace_exporter_t *exporter, ngx_cycle_t *cycle);
static void ngx_http_trace_exporter_exit(ngx_event_t *ev);
static ngx_http_trace_batch_t *ngx_http_trace_exporter_held(
    ngx_http_trace_exporter_t *exporter, otlp_queue_batch_t *oldest);
static void ngx_http_trace_exporter_dropped(
    ngx_http_trace_exporter_t *exporter, ngx_http_trace_ring_t *ring,
    ngx_http_trace_drop_e reason, ngx_uint_t n);
static void ngx_http_trace_exporter_tick(ngx_event_t *ev);
static void ngx_http_trace_exporter_orphans(ngx_event_t *ev);
static void ngx_http_trace_exporter_ready(ngx_event_t *ev);
static void ngx_http_trace_exporter_run(ngx_event_t *ev);
static ngx_uint_t ngx_http_trace_exporter_over(
    ngx_http_trace_exporter_t *exporter);
static ngx_http_trace_batch_t *ngx_http_trace_exporter_next(
    ngx_http_trace_exporter_t *exporter);
static ngx_uint_t ngx_http_trace_exporter_ready_first(
    ngx_http_trace_exporter_t *exporter);
static ngx_http_trace_batch_t *ngx_http_trace_exporter_fresh(
    ngx_http_trace_exporter_t *exporter);
static ngx_http_trace_batch_t *ngx_http_trace_exporter_take(
    ngx_http_trace_exporter_t *exporter, ngx_http_trace_ring_t *ring);
static void ngx_http_trace_exporter_send(ngx_http_trace_sender_t *sender);
static void ngx_http_trace_exporter_done(ngx_http_trace_http_client_t *client,
    ngx_http_trace_http_end_e end, const char *error);
static void ngx_http_trace_exporter_answered(ngx_http_trace_sender_t *sender);
static void ngx_http_trace_exporter_succeeded(
    ngx_http_trace_sender_t *sender);
static void ngx_http_trace_exporter_rejected(
    ngx_http_trace_sender_t *sender);
static void ngx_http_trace_exporter_retry(ngx_http_trace_sender_t *sender,
    ngx_uint_t answered);
static void ngx_http_trace_exporter_again(
    ngx_http_trace_exporter_t *exporter, ngx_http_trace_batch_t *batch,
    ngx_msec_t wait);
static void ngx_http_trace_exporter_failing(ngx_http_trace_sender_t *sender,
    ngx_http_trace_failure_e failure, const char *error);
static void ngx_http_trace_exporter_refused(ngx_http_trace_sender_t *sender,
    ngx_http_trace_failure_e failure);
static void ngx_http_trace_exporter_release(
    ngx_http_trace_exporter_t *exporter, ngx_http_trace_batch_t *batch);
static ngx_http_trace_hold_t *ngx_http_trace_exporter_hold_of(
    ngx_http_trace_exporter_t *exporter, traceparent_view_t *routing);
static ngx_uint_t ngx_http_trace_exporter_behind(
    ngx_http_trace_exporter_t *exporter, ngx_http_trace_batch_t *batch);
static ngx_uint_t ngx_http_trace_exporter_empty(
    ngx_http_trace_exporter_t *exporter, ngx_http_trace_batch_t *batch);
static void ngx_http_trace_exporter_hold(ngx_http_trace_exporter_t *exporter,
    ngx_http_trace_batch_t *batch);
static void ngx_http_trace_exporter_unhold(
    ngx_http_trace_exporter_t *exporter, ngx_http_trace_batch_t *batch);
static ngx_msec_t ngx_http_trace_exporter_backoff(ngx_uint_t tries);
static ngx_uint_t ngx_http_trace_exporter_may_log(ngx_msec_t *logged,
    ngx_uint_t once);


static ngx_http_trace_exporter_t
    ngx_http_trace_exporters[NGX_HTTP_TRACE_CHANNELS];


ngx_str_t  ngx_http_trace_channel_names[] = {
    ngx_string("internal spans"),
    ngx_string("user spans"),
    ngx_string("internal events"),
    ngx_string("user events")
};


ngx_str_t  ngx_http_trace_drop_names[] = {
    ngx_string("queue_full"),
    ngx_string("no_routing"),
    ngx_string("rejected"),
    ngx_string("retry_expired"),
    ngx_string("too_large"),
    ngx_string("encode"),
    ngx_string("damaged"),
    ngx_string("request_limit")
};


ngx_str_t  ngx_http_trace_failure_names[] = {
    ngx_string("connect"),
    ngx_string("closed"),
    ngx_string("timeout"),
    ngx_string("invalid"),
    ngx_string("retryable"),
    ngx_string("rejected")
};


ngx_int_t
ngx_http_trace_exporter_start(ngx_cycle_t *cycle,
    ngx_http_trace_exporter_conf_t *ecf, ngx_uint_t channel)
{
    ngx_int_t                   i;
    ngx_core_conf_t            *ccf;
    ngx_http_trace_exporter_t  *exporter;

    exporter = &ngx_http_trace_exporters[channel];

    exporter->conf = ecf;
    exporter->channel = channel;
    exporter->log = cycle->log;
    exporter->spans_max = OTLP_REQUEST_MAX - OTLP_REQUEST_FRAME_MAX
                          - ecf->resource.len - ecf->scope.len;

    ngx_queue_init(&exporter->waiting);
    ngx_queue_init(&exporter->ready);

    ngx_rbtree_init(&exporter->holds, &exporter->sentinel,
                    ngx_str_rbtree_insert_value);

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

    ngx_http_trace_exporter_event(exporter, &exporter->timer,
                                  ngx_http_trace_exporter_tick);
    ngx_http_trace_exporter_event(exporter, &exporter->pause,
                                  ngx_http_trace_exporter_run);
    ngx_http_trace_exporter_event(exporter, &exporter->orphans,
                                  ngx_http_trace_exporter_orphans);
    ngx_http_trace_exporter_event(exporter, &exporter->run,
                                  ngx_http_trace_exporter_run);

    if (ngx_http_trace_exporter_watch(exporter, cycle) != NGX_OK) {
        return NGX_ERROR;
    }

    /* what a dead worker has left in it goes with the first interval */

    exporter->ring = ngx_http_trace_ring_claim(ecf, cycle->log);
    if (exporter->ring == NULL) {
        return NGX_ERROR;
    }

    if (exporter->ring->counters->queued) {
        ngx_add_timer(&exporter->timer, ecf->interval);
    }

    /* a worker that is the only one, and has found no other's, watches none */

    ccf = (ngx_core_conf_t *) ngx_get_conf(cycle->conf_ctx, ngx_core_module);

    if (ccf->worker_processes > 1
        || ngx_http_trace_ring_others(ecf, exporter->ring))
    {
        ngx_add_timer(&exporter->orphans, NGX_HTTP_TRACE_ADOPT_INTERVAL);
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

    size = ecf->routing_header.len + sizeof(": " CRLF) - 1
           + OTLP_QUEUE_ROUTING_MAX
           + sizeof("Content-Encoding: gzip" CRLF) - 1
           + sizeof("Content-Length: " CRLF CRLF) - 1 + NGX_SIZE_T_LEN;

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


static void
ngx_http_trace_exporter_event(ngx_http_trace_exporter_t *exporter,
    ngx_event_t *ev, ngx_event_handler_pt handler)
{
    ev->handler = handler;
    ev->data = exporter;
    ev->log = exporter->log;
    ev->cancelable = 1;
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


/* from here on every timer holds the worker, until the deadline is over */

static void
ngx_http_trace_exporter_exit(ngx_event_t *ev)
{
    ngx_int_t                   i;
    ngx_queue_t                *q;
    ngx_connection_t           *c;
    ngx_http_trace_batch_t     *batch;
    ngx_http_trace_exporter_t  *exporter;

    c = ev->data;
    exporter = c->data;

    c->close = 0;
    c->idle = 0;

    if (exporter->exiting || exporter->ring == NULL) {

        /* "worker_shutdown_timeout" */

        exporter->deadline = ngx_current_msec;
        return;
    }

    exporter->exiting = 1;
    exporter->deadline = ngx_current_msec + exporter->conf->timeout;

    for (i = 0; i < exporter->conf->connections; i++) {
        ngx_http_trace_http_hold(&exporter->senders[i].client);

        if (exporter->senders[i].batch && !exporter->conf->ordered) {
            ngx_http_trace_exporter_unhold(exporter,
                                           exporter->senders[i].batch);
        }
    }

    if (exporter->orphans.timer_set) {
        ngx_del_timer(&exporter->orphans);
    }

    if (exporter->timer.timer_set) {
        ngx_del_timer(&exporter->timer);
    }

    if (exporter->pause.timer_set) {
        ngx_del_timer(&exporter->pause);
    }

    exporter->timer.cancelable = 0;
    exporter->pause.cancelable = 0;

    while (!ngx_queue_empty(&exporter->waiting)) {
        q = ngx_queue_head(&exporter->waiting);
        batch = ngx_queue_data(q, ngx_http_trace_batch_t, link);

        ngx_del_timer(&batch->timer);

        ngx_queue_remove(q);
        ngx_queue_insert_tail(&exporter->ready, q);

        if (!exporter->conf->ordered) {
            ngx_http_trace_exporter_unhold(exporter, batch);
        }
    }

    /* not as a posted event: without a timer the worker would be gone first */

    ngx_http_trace_exporter_tick(&exporter->timer);
}


/* what is left stays in the queue, for who opens that next */

void
ngx_http_trace_exporter_stop(ngx_uint_t channel)
{
    ngx_http_trace_exporter_t  *exporter;

    exporter = &ngx_http_trace_exporters[channel];

    if (exporter->watcher) {
        ngx_free_connection(exporter->watcher);
        exporter->watcher->fd = (ngx_socket_t) -1;
        exporter->watcher = NULL;
    }

    if (exporter->ring && exporter->ring->counters->queued) {
        ngx_log_error(NGX_LOG_WARN, exporter->log, 0,
                      "%uL %V were not exported before the exit, %s",
                      exporter->ring->counters->queued,
                      &ngx_http_trace_channel_names[channel],
                      exporter->conf->queue_file.len
                      ? "they stay in the file"
                      : "they are lost unless another worker is there");
    }
}


/* a routing becomes a header's value, so it must be fit for that */

ngx_int_t
ngx_http_trace_check_routing(ngx_str_t *routing)
{
    size_t  i;

    if (routing->len == 0
        || routing->len > OTLP_QUEUE_ROUTING_MAX
        || routing->data[0] == ' '
        || routing->data[routing->len - 1] == ' ')
    {
        return NGX_ERROR;
    }

    for (i = 0; i < routing->len; i++) {
        if (routing->data[i] < 0x20 || routing->data[i] > 0x7e) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/* bytes that a queue could take now, those of its own beside records too */

size_t
ngx_http_trace_exporter_room(ngx_uint_t channel)
{
    otlp_queue_stat_t           stat;
    ngx_http_trace_exporter_t  *exporter;

    exporter = &ngx_http_trace_exporters[channel];

    if (exporter->ring == NULL) {
        return 0;
    }

    otlp_queue_stat(&exporter->ring->queue, &stat);

    return stat.size - stat.used;
}


/* room for one in the queue, NULL if there is none: see otlp_queue_begin */

u_char *
ngx_http_trace_exporter_begin(ngx_uint_t channel, ngx_str_t *routing,
    size_t min, size_t *room)
{
    ngx_http_trace_exporter_t  *exporter;

    exporter = &ngx_http_trace_exporters[channel];

    if (exporter->ring == NULL) {
        return NULL;
    }

    return otlp_queue_begin(&exporter->ring->queue, routing->data,
                            routing->len, min, room);
}


/*
 * When there is no room: drops the oldest span, if its routing is on hold and
 * it is not under way.  Returns 1 if it did, and another try may find room.
 */

ngx_uint_t
ngx_http_trace_exporter_evict(ngx_uint_t channel)
{
    otlp_queue_batch_t          oldest;
    ngx_http_trace_ring_t      *ring;
    ngx_http_trace_batch_t     *batch;
    ngx_http_trace_exporter_t  *exporter;

    exporter = &ngx_http_trace_exporters[channel];
    ring = exporter->ring;

    if (ring == NULL
        || exporter->holds.root == &exporter->sentinel
        || otlp_queue_oldest(&ring->queue, &oldest) != 0)
    {
        return 0;
    }

    batch = ngx_http_trace_exporter_held(exporter, &oldest);
    if (batch == NULL) {
        return 0;
    }

    ngx_http_trace_exporter_dropped(exporter, ring, NGX_HTTP_TRACE_QUEUE_FULL,
                                    1);

    otlp_queue_drop(&ring->queue, &batch->spans);
    ngx_http_trace_ring_update(ring);

    /* one that holds goes on doing that, until its time */

    if (batch->spans.records == 0 && batch->hold == NULL) {
        ngx_queue_remove(&batch->link);
        ngx_free(batch);
    }

    return 1;
}


/* the batch that begins with the oldest record, if it waits and is held */

static ngx_http_trace_batch_t *
ngx_http_trace_exporter_held(ngx_http_trace_exporter_t *exporter,
    otlp_queue_batch_t *oldest)
{
    ngx_int_t                i;
    ngx_queue_t             *q;
    ngx_http_trace_hold_t   *hold;
    ngx_http_trace_batch_t  *batch;

    hold = ngx_http_trace_exporter_hold_of(exporter, &oldest->routing);
    if (hold == NULL) {
        return NULL;
    }

    for (i = 0; i < exporter->conf->connections; i++) {
        batch = exporter->senders[i].batch;

        if (batch && batch->ring == exporter->ring
            && batch->spans.first == oldest->first)
        {
            return NULL;
        }
    }

    batch = hold->batch;

    if (batch->ring == exporter->ring && batch->spans.first == oldest->first) {
        return batch;
    }

    /* but for what was adopted, or was under way when the hold began, they are
     * in the order of their age */

    for (q = ngx_queue_head(&hold->batches);
         q != ngx_queue_sentinel(&hold->batches);
         q = ngx_queue_next(q))
    {
        batch = ngx_queue_data(q, ngx_http_trace_batch_t, link);

        if (batch->ring == exporter->ring
            && batch->spans.first == oldest->first)
        {
            return batch;
        }
    }

    if (otlp_queue_oldest_next(&exporter->ring->queue) != 0) {
        return NULL;
    }

    batch = ngx_http_trace_exporter_take(exporter, exporter->ring);

    if (batch) {
        ngx_queue_insert_tail(&hold->batches, &batch->link);
    }

    return batch;
}


/* a place in the table of open spans, NULL if there is none */

ngx_http_trace_active_t *
ngx_http_trace_exporter_open(ngx_uint_t channel)
{
    ngx_http_trace_ring_t  *ring;

    ring = ngx_http_trace_exporters[channel].ring;

    return ring ? ngx_http_trace_active_open(ring) : NULL;
}


void
ngx_http_trace_exporter_close(ngx_uint_t channel,
    ngx_http_trace_active_t *active)
{
    ngx_http_trace_active_close(ngx_http_trace_exporters[channel].ring,
                                active);
}


/* the record ends |active|, if that is not NULL */

void
ngx_http_trace_exporter_commit(ngx_uint_t channel, const uint8_t *record,
    size_t len, ngx_http_trace_active_t *active)
{
    uint32_t                    n;
    ngx_http_trace_exporter_t  *exporter;

    exporter = &ngx_http_trace_exporters[channel];

    if (active) {
        ngx_http_trace_active_ends(exporter->ring, active);
    }

    n = otlp_queue_commit(&exporter->ring->queue, record, len,
                          ngx_http_trace_msec());

    ngx_http_trace_ring_added(exporter->ring);

    if (exporter->exiting) {
        exporter->deadline = ngx_current_msec + exporter->conf->timeout;
    }

    if (n % exporter->conf->batch_size == 0) {
        exporter->due += exporter->conf->batch_size;
        ngx_post_event(&exporter->run, &ngx_posted_events);

    } else if (!exporter->timer.timer_set) {
        ngx_add_timer(&exporter->timer,
                      exporter->exiting ? NGX_HTTP_TRACE_EXIT_INTERVAL
                                        : exporter->conf->interval);
    }
}


/* for spans that never came into the queue */

void
ngx_http_trace_exporter_drop(ngx_uint_t channel,
    ngx_http_trace_drop_e reason, ngx_uint_t n)
{
    ngx_http_trace_exporter_t  *exporter;

    exporter = &ngx_http_trace_exporters[channel];

    if (exporter->ring == NULL) {
        return;
    }

    ngx_http_trace_exporter_dropped(exporter, exporter->ring, reason, n);

    /* last: if we die before, who settles the counters counts up, not down */

    exporter->ring->counters->recorded += n;
    ngx_http_trace_ring_update(exporter->ring);
}


static void
ngx_http_trace_exporter_dropped(ngx_http_trace_exporter_t *exporter,
    ngx_http_trace_ring_t *ring, ngx_http_trace_drop_e reason, ngx_uint_t n)
{
    ring->counters->dropped[reason] += n;
    exporter->lost += n;

    if (ngx_http_trace_exporter_may_log(&exporter->lost_logged,
                                        exporter->lost_once))
    {
        ngx_log_error(NGX_LOG_WARN, exporter->log, 0,
                      "%uL %V were dropped, the last for \"%V\"",
                      exporter->lost,
                      &ngx_http_trace_channel_names[exporter->channel],
                      &ngx_http_trace_drop_names[reason]);

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

    ngx_http_trace_ring_update(exporter->ring);
    otlp_queue_stat(&exporter->ring->queue, &stat);

    exporter->due = stat.untaken;

    ngx_http_trace_exporter_run(&exporter->run);
}


/* one queue at a time that has lost its owner, until it is empty */

static void
ngx_http_trace_exporter_orphans(ngx_event_t *ev)
{
    ngx_http_trace_ring_t      *ring;
    ngx_http_trace_exporter_t  *exporter;

    exporter = ev->data;

    ngx_add_timer(ev, NGX_HTTP_TRACE_ADOPT_INTERVAL);

    if (exporter->adopted) {
        return;
    }

    for ( ;; ) {
        ring = ngx_http_trace_ring_adopt(exporter->conf, exporter->ring,
                                         exporter->log);
        if (ring == NULL) {
            return;
        }

        if (ring->counters->queued) {
            break;
        }

        ngx_http_trace_ring_leave(exporter->conf->store, ring);
    }

    exporter->adopted = ring;

    ngx_log_error(NGX_LOG_NOTICE, exporter->log, 0,
                  "%uL %V of another worker are adopted",
                  exporter->adopted->counters->queued,
                  &ngx_http_trace_channel_names[exporter->channel]);

    ngx_http_trace_exporter_run(&exporter->run);
}


static void
ngx_http_trace_exporter_ready(ngx_event_t *ev)
{
    ngx_http_trace_batch_t  *batch;

    batch = ev->data;

    ngx_queue_remove(&batch->link);
    ngx_queue_insert_tail(&batch->exporter->ready, &batch->link);

    ngx_http_trace_exporter_run(&batch->exporter->run);
}


/* gives free senders what there is to send */

static void
ngx_http_trace_exporter_run(ngx_event_t *ev)
{
    ngx_int_t                   i, busy;
    ngx_http_trace_sender_t    *sender;
    ngx_http_trace_exporter_t  *exporter;

    exporter = ev->data;
    busy = 0;

    for (i = 0; i < exporter->conf->connections; i++) {
        busy += (exporter->senders[i].batch != NULL);
    }

    for (i = 0; i < exporter->conf->connections; i++) {
        sender = &exporter->senders[i];

        /* a sender that fails at once is free again at once, and has paused */

        while (sender->batch == NULL) {

            if (exporter->pause.timer_set
                || (exporter->failures && busy)
                || ngx_http_trace_exporter_over(exporter))
            {
                return;
            }

            sender->batch = ngx_http_trace_exporter_next(exporter);

            if (sender->batch == NULL) {
                return;
            }

            ngx_http_trace_exporter_send(sender);
        }

        busy++;
    }
}


static ngx_uint_t
ngx_http_trace_exporter_over(ngx_http_trace_exporter_t *exporter)
{
    return exporter->exiting
           && (ngx_msec_int_t) (exporter->deadline - ngx_current_msec) <= 0;
}


/*
 * What waited for its time and what was never sent take turns: neither can be
 * so much that the other does not go.  In an exit what was never sent may be
 * sent once at least.
 */

static ngx_http_trace_batch_t *
ngx_http_trace_exporter_next(ngx_http_trace_exporter_t *exporter)
{
    ngx_queue_t             *q;
    ngx_http_trace_batch_t  *batch;

    exporter->fresh = exporter->exiting || !exporter->fresh;

    do {
        batch = NULL;

        if (exporter->fresh && !ngx_http_trace_exporter_ready_first(exporter))
        {
            batch = ngx_http_trace_exporter_fresh(exporter);
        }

        if (batch == NULL && !ngx_queue_empty(&exporter->ready)) {
            q = ngx_queue_head(&exporter->ready);
            ngx_queue_remove(q);

            batch = ngx_queue_data(q, ngx_http_trace_batch_t, link);
        }

        if (batch == NULL) {
            batch = ngx_http_trace_exporter_fresh(exporter);
        }

    } while (batch
             && (ngx_http_trace_exporter_behind(exporter, batch)
                 || ngx_http_trace_exporter_empty(exporter, batch)));

    return batch;
}


/* whether a fresh batch would pass an older one that nobody holds */

static ngx_uint_t
ngx_http_trace_exporter_ready_first(ngx_http_trace_exporter_t *exporter)
{
    ngx_http_trace_batch_t  *batch;

    if (!exporter->conf->ordered || ngx_queue_empty(&exporter->ready)) {
        return 0;
    }

    batch = ngx_queue_data(ngx_queue_head(&exporter->ready),
                           ngx_http_trace_batch_t, link);

    return batch->hold == NULL;
}


/* orphans have waited longer than our own */

static ngx_http_trace_batch_t *
ngx_http_trace_exporter_fresh(ngx_http_trace_exporter_t *exporter)
{
    ngx_http_trace_batch_t  *batch;

    if (exporter->adopted) {
        batch = ngx_http_trace_exporter_take(exporter, exporter->adopted);

        if (batch) {
            return batch;
        }

        if (exporter->adopted->counters->queued == 0) {
            ngx_http_trace_ring_leave(exporter->conf->store,
                                      exporter->adopted);
            exporter->adopted = NULL;
        }
    }

    if (exporter->due == 0) {
        return NULL;
    }

    return ngx_http_trace_exporter_take(exporter, exporter->ring);
}


static ngx_http_trace_batch_t *
ngx_http_trace_exporter_take(ngx_http_trace_exporter_t *exporter,
    ngx_http_trace_ring_t *ring)
{
    otlp_queue_batch_t       spans;
    ngx_http_trace_batch_t  *batch;

    batch = ngx_calloc(sizeof(ngx_http_trace_batch_t), exporter->log);
    if (batch == NULL) {
        return NULL;
    }

    if (otlp_queue_take(&ring->queue, &spans, exporter->conf->batch_size,
                        exporter->spans_max)
        != 0)
    {
        ngx_free(batch);
        return NULL;
    }

    if (ring == exporter->ring) {
        exporter->due -= ngx_min(exporter->due, spans.records);
    }

    batch->exporter = exporter;
    batch->ring = ring;
    batch->spans = spans;
    batch->taken = ngx_current_msec;
    batch->timer.handler = ngx_http_trace_exporter_ready;
    batch->timer.data = batch;
    batch->timer.log = exporter->log;

    return batch;
}


static void
ngx_http_trace_exporter_send(ngx_http_trace_sender_t *sender)
{
    size_t                           len;
    u_char                          *p;
    ngx_uint_t                       n;
    otlp_queue_batch_t              *spans;
    traceparent_view_t               resource, scope;
    ngx_http_trace_counters_t       *counters;
    ngx_http_trace_exporter_t       *exporter;
    ngx_http_trace_exporter_conf_t  *ecf;

    exporter = sender->exporter;
    ecf = exporter->conf;
    spans = &sender->batch->spans;

    resource.data = ecf->resource.data;
    resource.len = ecf->resource.len;
    scope.data = ecf->scope.data;
    scope.len = ecf->scope.len;

    sender->iov[0].iov_base = ecf->request_head.data;
    sender->iov[0].iov_len = ecf->request_head.len;

    sender->iov[2].iov_base = sender->envelope;
    sender->iov[2].iov_len = otlp_request_frame(sender->envelope, &resource,
                                                &scope, spans->bytes);

    otlp_queue_iov(&sender->batch->ring->queue, spans,
                   sender->iov + NGX_HTTP_TRACE_HEAD_IOVS);

    n = NGX_HTTP_TRACE_HEAD_IOVS + spans->records;

    p = sender->header;

    if (spans->routing.len) {
        p = ngx_cpymem(p, ecf->routing_header.data, ecf->routing_header.len);
        *p++ = ':';
        *p++ = ' ';
        p = ngx_cpymem(p, spans->routing.data, spans->routing.len);
        *p++ = CR;
        *p++ = LF;
    }

    len = sender->iov[2].iov_len + spans->bytes;

    if (ecf->gzip
        && ngx_http_trace_gzip(&sender->gzip, sender->iov + 2, n - 2,
                               &sender->iov[2], exporter->log)
           == NGX_OK)
    {
        n = NGX_HTTP_TRACE_HEAD_IOVS;
        len = sender->iov[2].iov_len;
        p = ngx_sprintf(p, "Content-Encoding: gzip" CRLF);
    }

    p = ngx_sprintf(p, "Content-Length: %uz" CRLF CRLF, len);

    sender->iov[1].iov_base = sender->header;
    sender->iov[1].iov_len = p - sender->header;

    sender->client.timeout = ecf->timeout;

    if (exporter->exiting) {
        sender->client.timeout = ngx_min(ecf->timeout,
                                         exporter->deadline
                                         - ngx_current_msec);
    }

    counters = exporter->ring->counters;

    counters->requests++;
    counters->bytes += len;

    if (sender->batch->tries++) {
        counters->retries++;
    }

    ngx_http_trace_http_post(&sender->client, sender->iov, n);
}


static void
ngx_http_trace_exporter_done(ngx_http_trace_http_client_t *client,
    ngx_http_trace_http_end_e end, const char *error)
{
    ngx_http_trace_sender_t    *sender;
    ngx_http_trace_exporter_t  *exporter;

    /* in the order of ngx_http_trace_http_end_e */

    static ngx_http_trace_failure_e  failures[] = {
        NGX_HTTP_TRACE_FAILURES,
        NGX_HTTP_TRACE_FAILED_CONNECT,
        NGX_HTTP_TRACE_FAILED_CLOSED,
        NGX_HTTP_TRACE_FAILED_TIMEOUT,
        NGX_HTTP_TRACE_FAILED_INVALID
    };

    sender = client->data;
    exporter = sender->exporter;

    if (client->stale && !ngx_http_trace_exporter_over(exporter)) {
        ngx_http_trace_exporter_send(sender);
        return;
    }

    if (end == NGX_HTTP_TRACE_HTTP_OK) {
        ngx_http_trace_exporter_answered(sender);

    } else {
        ngx_http_trace_exporter_failing(sender, failures[end], error);
        ngx_http_trace_exporter_retry(sender, 0);
    }

    sender->batch = NULL;
    ngx_http_trace_gzip_free(&sender->gzip);

    ngx_post_event(&exporter->run, &ngx_posted_events);
}


static void
ngx_http_trace_exporter_answered(ngx_http_trace_sender_t *sender)
{
    ngx_http_trace_exporter_t  *exporter;

    exporter = sender->exporter;

    switch (otlp_response_verdict(sender->client.status.code)) {

    case OTLP_EXPORTED:
        ngx_http_trace_exporter_succeeded(sender);
        break;

    case OTLP_RETRY:
        if (sender->batch->spans.routing.len) {
            ngx_http_trace_exporter_refused(sender,
                                            NGX_HTTP_TRACE_FAILED_RETRYABLE);

        } else {
            ngx_http_trace_exporter_failing(sender,
                                            NGX_HTTP_TRACE_FAILED_RETRYABLE,
                                            NULL);
        }

        ngx_http_trace_exporter_retry(sender, 1);
        return;

    default: /* OTLP_REJECTED */
        ngx_http_trace_exporter_rejected(sender);
    }

    ngx_http_trace_exporter_release(exporter, sender->batch);
}


static void
ngx_http_trace_exporter_succeeded(ngx_http_trace_sender_t *sender)
{
    uint64_t                    rejected;
    otlp_response_t             response;
    ngx_http_trace_batch_t     *batch;
    ngx_http_trace_exporter_t  *exporter;

    exporter = sender->exporter;
    batch = sender->batch;
    rejected = 0;

    if (exporter->failing) {
        exporter->failing = 0;

        ngx_log_error(NGX_LOG_WARN, exporter->log, 0,
                      "%V are exported to %V again, after %ui failed "
                      "requests, with %uL in the queue",
                      &ngx_http_trace_channel_names[exporter->channel],
                      &exporter->conf->url.url, exporter->failed,
                      exporter->ring->counters->queued);
    }

    exporter->failures = 0;
    exporter->failed = 0;

    ngx_http_trace_store_up(exporter->conf->store, 1);

    if (otlp_response_decode(&response, sender->client.body.data,
                             sender->client.body.len)
        == 0)
    {
        rejected = ngx_min(response.rejected_spans, batch->spans.records);

        if (response.message_len
            && ngx_http_trace_exporter_may_log(&exporter->message_logged,
                                               exporter->message_once))
        {
            ngx_log_error(NGX_LOG_WARN, exporter->log, 0,
                          "receiver %V says of %V: \"%*s\"",
                          &exporter->conf->url.url,
                          &ngx_http_trace_channel_names[exporter->channel],
                          response.message_len, response.message);

            exporter->message_once = 1;
        }
    }

    batch->ring->counters->exported += batch->spans.records - rejected;

    if (rejected) {
        ngx_http_trace_exporter_dropped(exporter, batch->ring,
                                        NGX_HTTP_TRACE_REJECTED, rejected);
    }
}


static void
ngx_http_trace_exporter_rejected(ngx_http_trace_sender_t *sender)
{
    ngx_http_trace_drop_e  reason;

    ngx_http_trace_exporter_refused(sender, NGX_HTTP_TRACE_FAILED_REJECTED);

    reason = (sender->client.status.code == NGX_HTTP_REQUEST_ENTITY_TOO_LARGE)
             ? NGX_HTTP_TRACE_TOO_LARGE : NGX_HTTP_TRACE_REJECTED;

    ngx_http_trace_exporter_dropped(sender->exporter, sender->batch->ring,
                                    reason, sender->batch->spans.records);
}


/* the batch waits for its next try, or has been tried for too long */

static void
ngx_http_trace_exporter_retry(ngx_http_trace_sender_t *sender,
    ngx_uint_t answered)
{
    ngx_msec_t                  wait, age;
    ngx_http_trace_batch_t     *batch;
    ngx_http_trace_exporter_t  *exporter;

    exporter = sender->exporter;
    batch = sender->batch;

    wait = ngx_http_trace_exporter_backoff(batch->tries);

    if (sender->client.header_done && sender->client.retry_after > 0) {
        wait = (ngx_msec_t) ngx_min(sender->client.retry_after,
                                    NGX_HTTP_TRACE_RETRY_AFTER_MAX) * 1000;
    }

    age = ngx_current_msec - batch->taken;

    if (!exporter->exiting && age + wait > exporter->conf->retry_time) {
        ngx_http_trace_exporter_dropped(exporter, batch->ring,
                                        NGX_HTTP_TRACE_RETRY_EXPIRED,
                                        batch->spans.records);
        ngx_http_trace_exporter_release(exporter, batch);
        return;
    }

    if (answered && batch->spans.routing.len
        && (!exporter->exiting || exporter->conf->ordered))
    {
        if (ngx_http_trace_exporter_behind(exporter, batch)) {
            return;
        }

        ngx_http_trace_exporter_hold(exporter, batch);
    }

    ngx_http_trace_exporter_again(exporter, batch, wait);
}


/*
 * Where the order counts, a batch that holds its routing lets those of others
 * pass, also in an exit, and another one is the next.
 */

static void
ngx_http_trace_exporter_again(ngx_http_trace_exporter_t *exporter,
    ngx_http_trace_batch_t *batch, ngx_msec_t wait)
{
    ngx_uint_t  first;

    first = (exporter->conf->ordered && batch->hold == NULL);

    if (!exporter->exiting && !first) {
        batch->timer.cancelable = 1;
        ngx_add_timer(&batch->timer, wait);
        ngx_queue_insert_tail(&exporter->waiting, &batch->link);
        return;
    }

    if (exporter->exiting) {

        /* the deadline comes first, and then what is left stays where it is */

        wait = NGX_HTTP_TRACE_EXIT_INTERVAL;

    } else if (exporter->pause.timer_set) {

        /* nginx does not move a timer to a time that is near */

        ngx_del_timer(&exporter->pause);
    }

    if (!exporter->pause.timer_set) {
        ngx_add_timer(&exporter->pause, wait);
    }

    if (first) {
        ngx_queue_insert_head(&exporter->ready, &batch->link);

    } else {
        ngx_queue_insert_tail(&exporter->ready, &batch->link);
    }
}


static void
ngx_http_trace_exporter_failing(ngx_http_trace_sender_t *sender,
    ngx_http_trace_failure_e failure, const char *error)
{
    ngx_msec_t                  wait;
    ngx_http_trace_exporter_t  *exporter;

    exporter = sender->exporter;

    exporter->ring->counters->failed[failure]++;
    exporter->failed++;

    ngx_http_trace_store_up(exporter->conf->store, 0);

    /* a receiver that is away, or overwhelmed, is left in peace for a while */

    wait = ngx_http_trace_exporter_backoff(++exporter->failures);

    if (exporter->exiting) {
        wait = ngx_min(wait, NGX_HTTP_TRACE_BACKOFF_MIN);
    }

    if (!exporter->pause.timer_set) {
        ngx_add_timer(&exporter->pause, wait);
    }

    if (exporter->failing) {
        return;
    }

    exporter->failing = 1;

    if (error) {
        ngx_log_error(NGX_LOG_ERR, exporter->log, sender->client.err,
                      "export of %V to %V failed: %s",
                      &ngx_http_trace_channel_names[exporter->channel],
                      &exporter->conf->url.url, error);

    } else {
        ngx_log_error(NGX_LOG_ERR, exporter->log, 0,
                      "export of %V to %V failed: status %ui",
                      &ngx_http_trace_channel_names[exporter->channel],
                      &exporter->conf->url.url, sender->client.status.code);
    }
}


/*
 * The receiver is there, and wants others, but not these: the next may do.
 * This has no end to tell of.
 */

static void
ngx_http_trace_exporter_refused(ngx_http_trace_sender_t *sender,
    ngx_http_trace_failure_e failure)
{
    ngx_http_trace_exporter_t  *exporter;

    exporter = sender->exporter;

    exporter->failures = 0;
    exporter->ring->counters->failed[failure]++;

    if (!ngx_http_trace_exporter_may_log(&exporter->refused_logged,
                                         exporter->refused_once))
    {
        return;
    }

    exporter->refused_once = 1;

    ngx_log_error(NGX_LOG_ERR, exporter->log, 0,
                  "receiver %V rejects %V: status %ui",
                  &exporter->conf->url.url,
                  &ngx_http_trace_channel_names[exporter->channel],
                  sender->client.status.code);
}


static void
ngx_http_trace_exporter_release(ngx_http_trace_exporter_t *exporter,
    ngx_http_trace_batch_t *batch)
{
    ngx_http_trace_exporter_unhold(exporter, batch);

    otlp_queue_release(&batch->ring->queue, &batch->spans);
    ngx_http_trace_ring_update(batch->ring);

    ngx_free(batch);
}


static ngx_http_trace_hold_t *
ngx_http_trace_exporter_hold_of(ngx_http_trace_exporter_t *exporter,
    traceparent_view_t *routing)
{
    ngx_str_t  str;

    str.data = (u_char *) routing->data;
    str.len = routing->len;

    return (ngx_http_trace_hold_t *)
               ngx_str_rbtree_lookup(&exporter->holds, &str,
                                     ngx_crc32_short(str.data, str.len));
}


/* whether another batch holds this one's routing, and this goes behind it */

static ngx_uint_t
ngx_http_trace_exporter_behind(ngx_http_trace_exporter_t *exporter,
    ngx_http_trace_batch_t *batch)
{
    ngx_http_trace_hold_t  *hold;

    if (exporter->holds.root == &exporter->sentinel || batch->hold) {
        return 0;
    }

    hold = ngx_http_trace_exporter_hold_of(exporter, &batch->spans.routing);
    if (hold == NULL) {
        return 0;
    }

    ngx_queue_insert_tail(&hold->batches, &batch->link);

    return 1;
}


/*
 * Before a batch is sent: whether nothing is left of it.  One that holds makes
 * room for what comes while it is under way and cannot go, and if it is empty
 * takes the spans of the first one behind it.
 */

static ngx_uint_t
ngx_http_trace_exporter_empty(ngx_http_trace_exporter_t *exporter,
    ngx_http_trace_batch_t *batch)
{
    ngx_queue_t             *q;
    otlp_queue_stat_t        stat;
    ngx_http_trace_batch_t  *next;

    if (batch->hold && batch->ring == exporter->ring) {

        do {
            otlp_queue_stat(&batch->ring->queue, &stat);

        } while (stat.size - stat.used < NGX_HTTP_TRACE_RESERVE(stat.size)
                 && ngx_http_trace_exporter_evict(exporter->channel));
    }

    if (batch->spans.records) {
        return 0;
    }

    if (batch->hold == NULL || ngx_queue_empty(&batch->hold->batches)) {
        ngx_http_trace_exporter_release(exporter, batch);
        return 1;
    }

    q = ngx_queue_head(&batch->hold->batches);
    ngx_queue_remove(q);

    next = ngx_queue_data(q, ngx_http_trace_batch_t, link);

    batch->ring = next->ring;
    batch->spans = next->spans;
    batch->taken = next->taken;

    ngx_free(next);

    return 0;
}


/* without memory for it the others go their own ways */

static void
ngx_http_trace_exporter_hold(ngx_http_trace_exporter_t *exporter,
    ngx_http_trace_batch_t *batch)
{
    ngx_http_trace_hold_t  *hold;

    if (batch->hold) {
        return;
    }

    hold = ngx_alloc(sizeof(ngx_http_trace_hold_t) + batch->spans.routing.len,
                     exporter->log);
    if (hold == NULL) {
        return;
    }

    hold->batch = batch;
    ngx_queue_init(&hold->batches);

    hold->node.str.data = (u_char *) hold + sizeof(ngx_http_trace_hold_t);
    hold->node.str.len = batch->spans.routing.len;
    ngx_memcpy(hold->node.str.data, batch->spans.routing.data,
               batch->spans.routing.len);
    hold->node.node.key = ngx_crc32_short(hold->node.str.data,
                                          hold->node.str.len);

    ngx_rbtree_insert(&exporter->holds, &hold->node.node);

    batch->hold = hold;
}


static void
ngx_http_trace_exporter_unhold(ngx_http_trace_exporter_t *exporter,
    ngx_http_trace_batch_t *batch)
{
    ngx_queue_t  *q, *batches;

    if (batch->hold == NULL) {
        return;
    }

    ngx_rbtree_delete(&exporter->holds, &batch->hold->node.node);

    batches = &batch->hold->batches;

    while (exporter->conf->ordered && !ngx_queue_empty(batches)) {
        q = ngx_queue_last(batches);
        ngx_queue_remove(q);
        ngx_queue_insert_head(&exporter->ready, q);
    }

    if (!ngx_queue_empty(batches)) {
        ngx_queue_add(&exporter->ready, batches);
    }

    ngx_free(batch->hold);
    batch->hold = NULL;
}


static ngx_msec_t
ngx_http_trace_exporter_backoff(ngx_uint_t tries)
{
    ngx_msec_t  max;

    max = NGX_HTTP_TRACE_BACKOFF_MIN << ngx_min(tries - 1, 16);
    max = ngx_min(max, NGX_HTTP_TRACE_BACKOFF_MAX);

    return 1 + ngx_random() % max;
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
