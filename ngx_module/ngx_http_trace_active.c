
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


#include "ngx_http_trace_exporter.h"

#include <traceparent/traceparent.h>


#define NGX_HTTP_TRACE_NO_PLACE       NGX_MAX_UINT32_VALUE

/* bytes, of one that is made of what is in the table */
#define NGX_HTTP_TRACE_ACTIVE_SPAN    512


static ngx_uint_t ngx_http_trace_active_left(ngx_http_trace_ring_t *ring,
    const ngx_http_trace_active_t *active);
static ngx_http_trace_drop_e ngx_http_trace_active_export(
    ngx_http_trace_ring_t *ring, ngx_http_trace_active_t *active,
    ngx_uint_t channel);


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

        if (*ring->places == NGX_HTTP_TRACE_ACTIVE_MAX) {
            return NULL;
        }

        active = &ring->table[*ring->places];
        ++*ring->places;
    }

    active->ending = 0;

    return active;
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
 * these were; those that there is no room for are counted.
 */

ngx_uint_t
ngx_http_trace_active_adopt(ngx_http_trace_ring_t *ring, ngx_uint_t channel)
{
    ngx_uint_t                i, n, places;
    ngx_http_trace_drop_e     reason;
    ngx_http_trace_active_t  *active;

    n = 0;
    places = ngx_min(*ring->places, NGX_HTTP_TRACE_ACTIVE_MAX);

    for (i = 0; i < places; i++) {
        active = &ring->table[i];

        if (ngx_http_trace_active_left(ring, active)) {
            reason = ngx_http_trace_active_export(ring, active, channel);

            if (reason != NGX_HTTP_TRACE_DROPS) {
                ring->counters->dropped[reason]++;
            }

            n++;
        }

        __atomic_store_n(&active->times, 0, __ATOMIC_RELEASE);
    }

    *ring->places = 0;

    return n;
}


/* whether a span was left open that would have been exported, and was not */

static ngx_uint_t
ngx_http_trace_active_left(ngx_http_trace_ring_t *ring,
    const ngx_http_trace_active_t *active)
{
    ngx_http_trace_active_t  copy;

    return ngx_http_trace_active_read(&copy, active)
           && (copy.flags & TRACEPARENT_FLAG_SAMPLED)
           && !(copy.ending
                && otlp_queue_published(&ring->queue, copy.ending - 1));
}


/* returns why it was not, or NGX_HTTP_TRACE_DROPS */

static ngx_http_trace_drop_e
ngx_http_trace_active_export(ngx_http_trace_ring_t *ring,
    ngx_http_trace_active_t *active, ngx_uint_t channel)
{
    size_t               room;
    u_char              *buf;
    uint64_t             now;
    ngx_str_t            routing;
    otlp_span_t          span;
    struct timespec      ts;
    otlp_span_head_t     head;
    traceparent_view_t   frame;

    static u_char  error[] = "worker_exit";

    routing.data = active->routing;
    routing.len = active->routing_len;

    if (channel == NGX_HTTP_TRACE_USER
        && ngx_http_trace_check_routing(&routing) != NGX_OK)
    {
        return NGX_HTTP_TRACE_NO_ROUTING;
    }

    buf = otlp_queue_begin(&ring->queue, routing.data, routing.len,
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

    otlp_span_string(&span, "error.type", sizeof("error.type") - 1, error,
                     sizeof(error) - 1);

    (void) clock_gettime(CLOCK_REALTIME, &ts);

    now = (uint64_t) ts.tv_sec * 1000000000 + ts.tv_nsec;

    otlp_span_end(&span, ngx_max(now, active->start), OTLP_STATUS_ERROR,
                  &frame);

    ngx_http_trace_active_ends(ring, active);

    (void) otlp_queue_commit(&ring->queue, frame.data, frame.len,
                             now / 1000000);

    return NGX_HTTP_TRACE_DROPS;
}
