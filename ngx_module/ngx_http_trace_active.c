
/*
 * The spans that are open: a table in shared memory behind each queue, which
 * says what a dead worker was about, and what all workers are about now.
 *
 * Whoever owns the queue writes to its table; others only read it.  A place is
 * used again and again: the number of its uses is odd while a span is in it, so
 * a reader sees whether what it has copied is one span's.
 *
 * A span that ends leaves its place some time after it came into the queue, and
 * notes before where it will be there: so who opens the queue of a dead worker
 * knows which of its spans are there already, and makes none twice.
 */


#include "ngx_http_trace_record.h"


#define NGX_HTTP_TRACE_NO_PLACE       NGX_MAX_UINT32_VALUE

/* bytes, of one that is made of what is in the table */
#define NGX_HTTP_TRACE_ACTIVE_SPAN    512


typedef struct {
    ngx_http_trace_active_t     *active;
    int64_t                      order;
} ngx_http_trace_orphan_t;


static int ngx_libc_cdecl ngx_http_trace_active_cmp(const void *one,
    const void *two);
static void ngx_http_trace_active_end(ngx_http_trace_ring_t *ring,
    ngx_http_trace_active_t *active, ngx_uint_t channel);
static ngx_uint_t ngx_http_trace_active_left(ngx_http_trace_ring_t *ring,
    const ngx_http_trace_active_t *active);
static ngx_http_trace_drop_e ngx_http_trace_active_export(
    ngx_http_trace_ring_t *ring, ngx_http_trace_active_t *active,
    ngx_uint_t channel);
static ngx_http_trace_drop_e ngx_http_trace_active_span(
    ngx_http_trace_ring_t *ring, ngx_http_trace_active_t *active,
    ngx_str_t *routing, uint64_t now);
static ngx_http_trace_drop_e ngx_http_trace_active_event(
    ngx_http_trace_ring_t *ring, ngx_http_trace_active_t *active,
    ngx_http_trace_active_t *request, ngx_str_t *routing, ngx_uint_t channel,
    ngx_http_trace_event_e event, uint64_t now);


static ngx_str_t  ngx_http_trace_worker_exit = ngx_string("worker_exit");


void
ngx_http_trace_active_init(ngx_http_trace_ring_t *ring,
    ngx_http_trace_active_t *table, uint64_t *places)
{
    ring->table = table;
    ring->places = places;
    ring->free = NGX_HTTP_TRACE_NO_PLACE;
}


/* a place that the caller fills now; NULL if none is free */

ngx_http_trace_active_t *
ngx_http_trace_active_open(ngx_http_trace_ring_t *ring)
{
    ngx_http_trace_active_t  *active;

    if (ring->free != NGX_HTTP_TRACE_NO_PLACE) {
        active = &ring->table[ring->free];
        ring->free = active->next;

    } else {

        if (*ring->places >= NGX_HTTP_TRACE_ACTIVE_MAX) {
            return NULL;
        }

        active = &ring->table[*ring->places];
        ++*ring->places;
    }

    active->ending = 0;
    active->request = active - ring->table;

    return active;
}


/*
 * What is too long is left out.  Whoever finds this after our death finds one
 * routing, or none.
 */

void
ngx_http_trace_active_route(ngx_http_trace_active_t *active,
    ngx_str_t *routing)
{
    __atomic_store_n(&active->routing_len, 0, __ATOMIC_SEQ_CST);

    if (routing->len && routing->len <= NGX_HTTP_TRACE_ACTIVE_ROUTING) {
        ngx_memcpy(active->routing, routing->data, routing->len);

        __atomic_store_n(&active->routing_len, routing->len,
                         __ATOMIC_RELEASE);
    }
}


/* it is filled: everybody may see it */

void
ngx_http_trace_active_opened(ngx_http_trace_active_t *active)
{
    __atomic_store_n(&active->times, (active->times + 1) | 1,
                     __ATOMIC_RELEASE);
}


void
ngx_http_trace_active_close(ngx_http_trace_ring_t *ring,
    ngx_http_trace_active_t *active)
{
    __atomic_store_n(&active->times, (active->times | 1) + 1,
                     __ATOMIC_RELEASE);

    active->next = ring->free;
    ring->free = active - ring->table;
}


/* before its record is committed; never 0, which is where it has none */

void
ngx_http_trace_active_ends(ngx_http_trace_ring_t *ring,
    ngx_http_trace_active_t *active)
{
    __atomic_store_n(&active->ending, otlp_queue_pending(&ring->queue) + 1,
                     __ATOMIC_RELEASE);
}


/*
 * A consistent copy of a place that another process may be writing to.  Returns
 * 0 if no span is in it.
 */

ngx_uint_t
ngx_http_trace_active_read(ngx_http_trace_active_t *copy,
    const ngx_http_trace_active_t *active)
{
    uint32_t  times;

    times = __atomic_load_n(&active->times, __ATOMIC_ACQUIRE);

    if (!(times & 1)) {
        return 0;
    }

    *copy = *active;

    __atomic_thread_fence(__ATOMIC_ACQUIRE);

    return __atomic_load_n(&active->times, __ATOMIC_RELAXED) == times
           && copy->name_len <= NGX_HTTP_TRACE_ACTIVE_NAME
           && copy->routing_len <= NGX_HTTP_TRACE_ACTIVE_ROUTING;
}


/*
 * Ends what the last owner of a queue has left open.  Returns how many spans
 * these were; those that there is no room for are counted.  Without memory they
 * are left to who opens the queue next.
 */

ngx_uint_t
ngx_http_trace_active_adopt(ngx_http_trace_ring_t *ring, ngx_uint_t channel,
    ngx_log_t *log)
{
    ngx_uint_t                i, n, places;
    ngx_http_trace_orphan_t  *orphans, *orphan;
    ngx_http_trace_active_t  *active;

    places = ngx_min(*ring->places, NGX_HTTP_TRACE_ACTIVE_MAX);

    if (places == 0) {
        return 0;
    }

    orphans = ngx_alloc(places * sizeof(ngx_http_trace_orphan_t), log);
    if (orphans == NULL) {
        return 0;
    }

    n = 0;

    /* before there are records of ours, in whose places theirs would be */

    for (i = 0; i < places; i++) {
        active = &ring->table[i];

        if (ngx_http_trace_active_left(ring, active)) {
            active->ending = 0;

            orphan = &orphans[n++];
            orphan->active = active;
            orphan->order = (active->request == i) ? -1
                                                   : (int64_t) active->sequence;

        } else {
            active->times = 0;
        }
    }

    ngx_qsort(orphans, n, sizeof(ngx_http_trace_orphan_t),
              ngx_http_trace_active_cmp);

    for (i = 0; i < n; i++) {
        ngx_http_trace_active_end(ring, orphans[i].active, channel);
    }

    ngx_free(orphans);

    *ring->places = 0;

    return n;
}


/* what was opened last ends first, and a request after all that it caused */

static int ngx_libc_cdecl
ngx_http_trace_active_cmp(const void *one, const void *two)
{
    int64_t  first, second;

    first = ((ngx_http_trace_orphan_t *) one)->order;
    second = ((ngx_http_trace_orphan_t *) two)->order;

    return (first < second) - (first > second);
}


/* whether a span was left open that would have been exported, and was not */

static ngx_uint_t
ngx_http_trace_active_left(ngx_http_trace_ring_t *ring,
    const ngx_http_trace_active_t *active)
{
    ngx_http_trace_active_t  copy;

    if (!ngx_http_trace_active_read(&copy, active)
        || !(copy.flags & TRACEPARENT_FLAG_SAMPLED))
    {
        return 0;
    }

    return copy.ending == 0
           || !otlp_queue_published(&ring->queue, copy.ending - 1);
}


static void
ngx_http_trace_active_end(ngx_http_trace_ring_t *ring,
    ngx_http_trace_active_t *active, ngx_uint_t channel)
{
    ngx_http_trace_drop_e  reason;

    reason = ngx_http_trace_active_export(ring, active, channel);

    if (reason != NGX_HTTP_TRACE_DROPS) {
        ring->counters->dropped[reason]++;
    }

    __atomic_store_n(&active->times, 0, __ATOMIC_RELEASE);
}


/* returns why it was not, or NGX_HTTP_TRACE_DROPS */

static ngx_http_trace_drop_e
ngx_http_trace_active_export(ngx_http_trace_ring_t *ring,
    ngx_http_trace_active_t *active, ngx_uint_t channel)
{
    uint64_t                  now;
    ngx_str_t                 routing;
    struct timespec           ts;
    ngx_http_trace_active_t  *request;

    ngx_str_null(&routing);

    if (channel % NGX_HTTP_TRACE_PIPELINES == NGX_HTTP_TRACE_USER) {
        routing.data = active->routing;
        routing.len = active->routing_len;

        if (ngx_http_trace_check_routing(&routing) != NGX_OK) {
            return NGX_HTTP_TRACE_NO_ROUTING;
        }
    }

    (void) clock_gettime(CLOCK_REALTIME, &ts);

    now = (uint64_t) ts.tv_sec * 1000000000 + ts.tv_nsec;

    if (channel < NGX_HTTP_TRACE_PIPELINES) {
        return ngx_http_trace_active_span(ring, active, &routing, now);
    }

    if (active->request >= NGX_HTTP_TRACE_ACTIVE_MAX) {
        return NGX_HTTP_TRACE_DAMAGED;
    }

    request = &ring->table[active->request];

    if (request->lost
        && ngx_http_trace_active_event(ring, active, request, &routing, channel,
                                       NGX_HTTP_TRACE_EVENT_DROPPED, now)
           == NGX_HTTP_TRACE_DROPS)
    {
        request->lost = 0;
    }

    return ngx_http_trace_active_event(ring, active, request, &routing, channel,
                                       NGX_HTTP_TRACE_EVENT_CLOSE, now);
}


static ngx_http_trace_drop_e
ngx_http_trace_active_span(ngx_http_trace_ring_t *ring,
    ngx_http_trace_active_t *active, ngx_str_t *routing, uint64_t now)
{
    size_t               room;
    u_char              *buf;
    otlp_span_t          span;
    otlp_span_head_t     head;
    traceparent_view_t   frame;

    buf = otlp_queue_begin(&ring->queue, routing->data, routing->len,
                           NGX_HTTP_TRACE_ACTIVE_SPAN, &room);
    if (buf == NULL) {
        return NGX_HTTP_TRACE_QUEUE_FULL;
    }

    ngx_memzero(&head, sizeof(otlp_span_head_t));

    head.trace_id = active->trace_id;
    head.span_id = active->span_id;
    head.parent_span_id = active->parent ? active->parent_id : NULL;
    head.name.data = active->name;
    head.name.len = active->name_len;
    head.start_time = active->start;
    head.flags = active->flags;
    head.kind = OTLP_SPAN_KIND_SERVER;

    if (otlp_span_begin(&span, buf, room, &head) != 0) {
        return NGX_HTTP_TRACE_ENCODE;
    }

    otlp_span_string(&span, "error.type", sizeof("error.type") - 1,
                     ngx_http_trace_worker_exit.data,
                     ngx_http_trace_worker_exit.len);

    otlp_span_end(&span, ngx_max(now, active->start), OTLP_STATUS_ERROR,
                  &frame);

    ngx_http_trace_active_ends(ring, active);

    (void) otlp_queue_commit(&ring->queue, frame.data, frame.len,
                             now / 1000000);

    return NGX_HTTP_TRACE_DROPS;
}


/* the end of |active|, or before that how many events of |request| were lost */

static ngx_http_trace_drop_e
ngx_http_trace_active_event(ngx_http_trace_ring_t *ring,
    ngx_http_trace_active_t *active, ngx_http_trace_active_t *request,
    ngx_str_t *routing, ngx_uint_t channel, ngx_http_trace_event_e event,
    uint64_t now)
{
    size_t               room;
    u_char              *buf;
    otlp_span_t          record;
    traceparent_view_t   frame;

    buf = otlp_queue_begin(&ring->queue, routing->data, routing->len,
                           NGX_HTTP_TRACE_RECORD_LAST, &room);
    if (buf == NULL) {
        return NGX_HTTP_TRACE_QUEUE_FULL;
    }

    if (ngx_http_trace_record_begin(&record, buf, room, event,
                                    channel - NGX_HTTP_TRACE_PIPELINES,
                                    request,
                                    event == NGX_HTTP_TRACE_EVENT_CLOSE
                                    ? active->span_id : request->span_id, now)
        != NGX_OK)
    {
        return NGX_HTTP_TRACE_ENCODE;
    }

    if (event == NGX_HTTP_TRACE_EVENT_CLOSE) {
        ngx_http_trace_record_status(&record, OTLP_STATUS_ERROR,
                                     &ngx_http_trace_worker_exit);
        ngx_http_trace_active_ends(ring, active);

    } else {
        ngx_http_trace_record_lost(&record, request->lost);
    }

    otlp_log_end(&record, &frame);

    request->sequence++;

    (void) otlp_queue_commit(&ring->queue, frame.data, frame.len,
                             now / 1000000);

    return NGX_HTTP_TRACE_DROPS;
}
