#include <traceparent/ids.h>
#include <traceparent/otlp/queue.h>
#include <traceparent/otlp/span.h>

#include <string.h>

#include "wire.h"


/*
 * Positions count bytes since the queue was created and never wrap; where they
 * are in the data is the position modulo its size. From |tail| to |head| there
 * are records without gaps. No record is split: a pad fills the end.
 */
struct otlp_queue_ring_s {
    uint64_t magic;
    uint64_t version;
    uint64_t size; /* of the data behind this */
    uint64_t head;
    uint64_t tail;
    uint64_t unused[3];
};


typedef struct {
    uint32_t size; /* with all that follows; a multiple of ALIGNMENT */
    uint16_t state;
    uint16_t routing_len;
    uint32_t span; /* from the start of the record */
    uint32_t span_len;
    uint64_t time; /* as the caller said */

    /* The rest is of the living process only. Records are named by their
     * place in the data, divided by ALIGNMENT. */
    uint32_t hash;
    uint32_t next; /* untaken record, or record of a batch, of this routing */

    /* in the oldest untaken record of a routing, which stands for all */
    uint32_t last;
    uint32_t count;
    uint32_t chain; /* another routing in the same bucket */
    uint32_t line;  /* the routing that has waited longest after this one */
} record_t;

/* the routing, then the room for the span */


/* Also the size of the shortest pad, which has no more than its state. */
#define ALIGNMENT 8

/* "[trace q"; also tells a file of another byte order */
#define MAGIC   UINT64_C(0x5b74726163652071)
#define VERSION 1

#define POSITION_MAX (UINT64_MAX / 2)

/* No zeros: what was never written is no record. */
#define STATE_LIVE     1
#define STATE_RELEASED 2
#define STATE_PAD      3

#define NONE UINT32_MAX


static inline record_t *
record_of(const otlp_queue_t *queue, uint32_t name)
{
    return (record_t *) (queue->data + (size_t) name * ALIGNMENT);
}


static inline record_t *
record_at(const otlp_queue_t *queue, uint64_t position)
{
    return (record_t *) (queue->data + position % queue->size);
}


static inline uint32_t
name_of(const otlp_queue_t *queue, const record_t *record)
{
    return (uint32_t) ((size_t) ((const uint8_t *) record - queue->data)
                       / ALIGNMENT);
}


static inline uint8_t *
routing_of(const record_t *record)
{
    return (uint8_t *) record + sizeof(record_t);
}


/*
 * Multilinear hashing (Lemire and Kaser, "Strongly universal string hashing is
 * fast", 2014) with random keys: nobody can choose routings that collide.
 */
static uint32_t
hash(const otlp_queue_t *queue, const uint8_t *routing, size_t len)
{
    size_t i;
    uint32_t word;
    uint64_t sum;
    const uint64_t *key;

    key = queue->keys;
    sum = *key++;
    sum += *key++ * len;

    for (i = 0; len - i >= sizeof(word); i += sizeof(word)) {
        memcpy(&word, routing + i, sizeof(word));
        sum += *key++ * word;
    }

    if (i < len) {
        word = 0;
        memcpy(&word, routing + i, len - i);
        sum += *key * word;
    }

    return (uint32_t) (sum >> 32);
}


/* Puts a routing at the end of the line. */
static void
line_up(otlp_queue_t *queue, record_t *record)
{
    uint32_t name;

    name = name_of(queue, record);
    record->line = NONE;

    if (queue->line_first == NONE) {
        queue->line_first = name;
    } else {
        record_of(queue, queue->line_last)->line = name;
    }

    queue->line_last = name;
}


static int
same_routing(const record_t *one, const record_t *two)
{
    return one->routing_len == two->routing_len
           && (one->routing_len == 0
               || memcmp(routing_of(one), routing_of(two), one->routing_len)
                      == 0);
}


/* Puts a record behind the others of its group. */
static uint32_t
join(otlp_queue_t *queue, record_t *group, record_t *record)
{
    uint32_t name;

    name = name_of(queue, record);

    record->hash = group->hash;
    record_of(queue, group->last)->next = name;
    group->last = name;

    return ++group->count;
}


/* The group that a record belongs to is not the recent one. Apart, so that who
 * joins that saves no registers. */
static __attribute__((noinline)) uint32_t
add_elsewhere(otlp_queue_t *queue, record_t *record)
{
    uint32_t name, *place;
    record_t *group;

    record->hash = hash(queue, routing_of(record), record->routing_len);

    place = &queue->buckets[record->hash % OTLP_QUEUE_BUCKETS];

    while (*place != NONE) {
        group = record_of(queue, *place);

        if (group->hash == record->hash && same_routing(group, record)) {
            queue->recent = *place;
            return join(queue, group, record);
        }

        place = &group->chain;
    }

    name = name_of(queue, record);

    *place = name;
    queue->recent = name;
    record->last = name;
    record->count = 1;
    record->chain = NONE;
    line_up(queue, record);

    return 1;
}


/* Makes a whole record one of the untaken. */
static uint32_t
add(otlp_queue_t *queue, record_t *record)
{
    record_t *group;

    record->next = NONE;

    queue->records++;
    queue->untaken++;

    /* Spans of one request come one after the other, with one routing. */
    if (queue->recent != NONE) {
        group = record_of(queue, queue->recent);

        if (same_routing(group, record)) {
            return join(queue, group, record);
        }
    }

    return add_elsewhere(queue, record);
}


/* Records up to |head| are there from now on, whatever happens to us. */
static void
publish_head(otlp_queue_t *queue, uint64_t head)
{
    queue->head = head;
    __atomic_store_n(&queue->ring->head, head, __ATOMIC_RELEASE);
}


/* Frees the room of the oldest records, as far as they are released. */
static void
advance_tail(otlp_queue_t *queue)
{
    uint64_t tail;
    const record_t *record;

    for (tail = queue->tail; tail != queue->head; tail += record->size) {
        record = record_at(queue, tail);

        if (record->state == STATE_LIVE) {
            break;
        }
    }

    queue->tail = tail;
    __atomic_store_n(&queue->ring->tail, tail, __ATOMIC_RELEASE);
}


/* There is one. */
static record_t *
oldest_of(const otlp_queue_t *queue)
{
    record_t *oldest;

    oldest = record_at(queue, queue->tail);

    if (oldest->state == STATE_PAD) {
        oldest = record_at(queue, queue->tail + oldest->size);
    }

    return oldest;
}


/* Fills what is left of the data behind the head; not yet published. */
static uint64_t
pad(otlp_queue_t *queue)
{
    uint64_t size;
    record_t *record;

    size = queue->size - queue->head % queue->size;

    record = record_at(queue, queue->head);
    record->size = (uint32_t) size;
    record->state = STATE_PAD;
    record->routing_len = 0;

    return size;
}


static int
draw_keys(otlp_queue_t *queue)
{
    int rc;
    size_t i;
    uint8_t key[TRACEPARENT_SPAN_ID_SIZE];
    traceparent_ids_t ids;

    memset(&ids, 0, sizeof(ids));

    for (i = 0; i < OTLP_QUEUE_KEYS; i++) {
        rc = traceparent_ids_span(&ids, key);
        if (rc != 0) {
            return rc;
        }

        memcpy(&queue->keys[i], key, sizeof(queue->keys[i]));
    }

    return 0;
}


static int
set_up(otlp_queue_t *queue, void *mem, size_t size)
{
    queue->ring = mem;
    queue->data = (uint8_t *) mem + sizeof(struct otlp_queue_ring_s);
    queue->size
        = (size - sizeof(struct otlp_queue_ring_s)) / ALIGNMENT * ALIGNMENT;
    queue->head = 0;
    queue->tail = 0;
    queue->pending = 0;
    queue->records = 0;
    queue->untaken = 0;
    queue->line_first = NONE;
    queue->line_last = NONE;
    queue->recent = NONE;

    memset(queue->buckets, 0xff, sizeof(queue->buckets)); /* all NONE */

    return draw_keys(queue);
}


int
otlp_queue_create(otlp_queue_t *queue, void *mem, size_t size)
{
    int rc;

    if (size < OTLP_QUEUE_SIZE_MIN || size > OTLP_QUEUE_SIZE_MAX) {
        return OTLP_ERR_ROOM;
    }

    rc = set_up(queue, mem, size);
    if (rc != 0) {
        return rc;
    }

    /* It is a queue only when all of this has been written. */
    __atomic_store_n(&queue->ring->magic, 0, __ATOMIC_RELEASE);

    queue->ring->version = VERSION;
    queue->ring->size = queue->size;
    queue->ring->head = 0;
    queue->ring->tail = 0;
    memset(queue->ring->unused, 0, sizeof(queue->ring->unused));

    __atomic_store_n(&queue->ring->magic, MAGIC, __ATOMIC_RELEASE);

    return 0;
}


/* Whether |record| can be one that starts |left| bytes before the head and
 * |to_end| before the end of the data. */
static int
is_sound(const record_t *record, uint64_t left, uint64_t to_end)
{
    uint64_t span_end;

    if (record->size % ALIGNMENT != 0 || record->size > left
        || record->size > to_end) {
        return 0;
    }

    if (record->state == STATE_PAD) {
        return record->size == to_end;
    }

    if (record->state != STATE_LIVE && record->state != STATE_RELEASED) {
        return 0;
    }

    /* first, so that the rest of it is in the data */
    if (record->size < sizeof(record_t)) {
        return 0;
    }

    if (record->routing_len > OTLP_QUEUE_ROUTING_MAX
        || record->span_len > OTLP_SPAN_MAX
        || record->span < sizeof(record_t) + record->routing_len) {
        return 0;
    }

    span_end = (uint64_t) record->span + record->span_len;

    return span_end <= record->size && record->size - span_end < ALIGNMENT;
}


int
otlp_queue_open(otlp_queue_t *queue, void *mem, size_t size)
{
    int rc;
    uint64_t position;
    record_t *record;

    if (size < OTLP_QUEUE_SIZE_MIN || size > OTLP_QUEUE_SIZE_MAX) {
        return OTLP_ERR_QUEUE;
    }

    rc = set_up(queue, mem, size);
    if (rc != 0) {
        return rc;
    }

    queue->head = __atomic_load_n(&queue->ring->head, __ATOMIC_ACQUIRE);
    queue->tail = queue->ring->tail;

    if (queue->ring->magic != MAGIC || queue->ring->version != VERSION
        || queue->ring->size != queue->size || queue->head > POSITION_MAX
        || queue->head - queue->tail > queue->size
        || queue->tail % ALIGNMENT != 0) {
        return OTLP_ERR_QUEUE;
    }

    for (position = queue->tail; position != queue->head;
         position += record->size) {
        record = record_at(queue, position);

        if (!is_sound(record, queue->head - position,
                queue->size - position % queue->size)) {
            return OTLP_ERR_QUEUE;
        }
    }

    for (position = queue->tail; position != queue->head;
         position += record->size) {
        record = record_at(queue, position);

        if (record->state == STATE_LIVE) {
            add(queue, record);
        }
    }

    advance_tail(queue);

    return 0;
}


uint8_t *
otlp_queue_begin(otlp_queue_t *queue, const uint8_t *routing,
    size_t routing_len, size_t min, size_t *room)
{
    size_t before;
    uint64_t left, position, to_end;
    record_t *record;

    if (routing_len > OTLP_QUEUE_ROUTING_MAX || min > OTLP_SPAN_MAX) {
        return NULL;
    }

    before = sizeof(record_t) + routing_len;
    to_end = queue->size - queue->head % queue->size;

    if (queue->head == queue->tail && before + min > to_end) {
        /* An empty queue has all of its data for one record. */
        publish_head(queue, queue->head + pad(queue));
        advance_tail(queue);
        to_end = queue->size;
    }

    position = queue->head;
    left = queue->size - (queue->head - queue->tail);

    if (before + min > (left < to_end ? left : to_end)) {
        if (left < to_end || before + min > left - to_end) {
            return NULL;
        }

        position += pad(queue);
        left -= to_end;
        to_end = queue->size;
    }

    if (left > to_end) {
        left = to_end;
    }

    record = record_at(queue, position);
    record->routing_len = (uint16_t) routing_len;
    otlp_wire_copy(routing_of(record), routing, routing_len);

    queue->pending = position;

    *room = (size_t) left - before;

    if (*room > OTLP_SPAN_MAX) {
        *room = OTLP_SPAN_MAX;
    }

    return routing_of(record) + routing_len;
}


uint32_t
otlp_queue_commit(
    otlp_queue_t *queue, const uint8_t *span, size_t len, uint64_t time)
{
    size_t size;
    record_t *record;

    record = record_at(queue, queue->pending);
    size = (size_t) (span - (const uint8_t *) record) + len;

    record->state = STATE_LIVE;
    record->span = (uint32_t) (size - len);
    record->span_len = (uint32_t) len;
    record->time = time;
    record->size = (uint32_t) ((size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);

    publish_head(queue, queue->pending + record->size);

    return add(queue, record);
}


uint64_t
otlp_queue_pending(const otlp_queue_t *queue)
{
    return queue->pending;
}


int
otlp_queue_published(const otlp_queue_t *queue, uint64_t position)
{
    return queue->head > position;
}


/* What a batch that begins with this record says of it. */
static void
begin_with(const otlp_queue_t *queue, otlp_queue_batch_t *batch, uint32_t name)
{
    const record_t *record;

    record = record_of(queue, name);

    batch->first = name;
    batch->routing.data = routing_of(record);
    batch->routing.len = record->routing_len;
}


int
otlp_queue_take(otlp_queue_t *queue, otlp_queue_batch_t *batch,
    uint32_t max_records, uint32_t max_bytes)
{
    uint32_t name, next, *place, records;
    uint64_t bytes;
    record_t *group, *rest;

    name = queue->line_first;

    if (name == NONE) {
        return OTLP_ERR_ROOM;
    }

    group = record_of(queue, name);
    queue->line_first = group->line;
    queue->recent = NONE;

    records = 1;
    bytes = group->span_len;
    next = group->next;

    while (records < group->count && records < max_records
           && bytes + record_of(queue, next)->span_len <= max_bytes) {
        records++;
        bytes += record_of(queue, next)->span_len;
        next = record_of(queue, next)->next;
    }

    place = &queue->buckets[group->hash % OTLP_QUEUE_BUCKETS];

    while (*place != name) {
        place = &record_of(queue, *place)->chain;
    }

    if (records == group->count) {
        *place = group->chain;

    } else {
        rest = record_of(queue, next);
        rest->last = group->last;
        rest->count = group->count - records;
        rest->chain = group->chain;
        *place = next;
        line_up(queue, rest);
    }

    queue->untaken -= records;

    begin_with(queue, batch, name);
    batch->records = records;
    batch->bytes = (uint32_t) bytes;

    return 0;
}


void
otlp_queue_iov(const otlp_queue_t *queue, const otlp_queue_batch_t *batch,
    struct iovec *iov)
{
    uint32_t i, name;
    record_t *record;

    for (i = 0, name = batch->first; i < batch->records; i++) {
        record = record_of(queue, name);
        iov[i].iov_base = (uint8_t *) record + record->span;
        iov[i].iov_len = record->span_len;
        name = record->next;
    }
}


void
otlp_queue_release(otlp_queue_t *queue, const otlp_queue_batch_t *batch)
{
    uint32_t i, name;
    record_t *record;

    for (i = 0, name = batch->first; i < batch->records; i++) {
        record = record_of(queue, name);
        record->state = STATE_RELEASED;
        name = record->next;
    }

    queue->records -= batch->records;

    advance_tail(queue);
}


int
otlp_queue_oldest(const otlp_queue_t *queue, otlp_queue_batch_t *oldest)
{
    const record_t *record;

    if (queue->records == 0) {
        return OTLP_ERR_ROOM;
    }

    record = oldest_of(queue);

    begin_with(queue, oldest, name_of(queue, record));
    oldest->records = 1;
    oldest->bytes = record->span_len;

    return 0;
}


int
otlp_queue_oldest_next(otlp_queue_t *queue)
{
    uint32_t before, name, *place;
    record_t *group;

    if (queue->records == 0) {
        return OTLP_ERR_ROOM;
    }

    /* If it is untaken, it is the first of its group. */
    group = oldest_of(queue);
    name = name_of(queue, group);
    place = &queue->buckets[group->hash % OTLP_QUEUE_BUCKETS];

    while (*place != name) {
        if (*place == NONE) {
            return OTLP_ERR_ROOM;
        }

        place = &record_of(queue, *place)->chain;
    }

    before = NONE;
    place = &queue->line_first;

    while (*place != name) {
        before = *place;
        place = &record_of(queue, before)->line;
    }

    if (before != NONE) {
        *place = group->line;

        if (queue->line_last == name) {
            queue->line_last = before;
        }

        group->line = queue->line_first;
        queue->line_first = name;
    }

    return 0;
}


void
otlp_queue_drop(otlp_queue_t *queue, otlp_queue_batch_t *batch)
{
    record_t *record;

    record = record_of(queue, batch->first);

    batch->records--;
    batch->bytes -= record->span_len;

    if (batch->records != 0) {
        begin_with(queue, batch, record->next);

    } else {
        batch->first = NONE;
        batch->routing.data = NULL;
        batch->routing.len = 0;
    }

    record->state = STATE_RELEASED;
    queue->records--;

    advance_tail(queue);
}


void
otlp_queue_stat(const otlp_queue_t *queue, otlp_queue_stat_t *stat)
{
    stat->size = queue->size;
    stat->used = (size_t) (queue->head - queue->tail);
    stat->records = queue->records;
    stat->untaken = queue->untaken;
    stat->oldest = queue->records ? oldest_of(queue)->time : 0;
}
