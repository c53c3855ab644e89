/*
 * The queue of finished spans: a ring of bytes in memory that the caller
 * provides, which may be shared memory or a mapped file, with an index by
 * routing. One writer and one reader, both the same process, so no lock.
 *
 * A record is a routing (an opaque string, may be empty) and the bytes of one
 * span from span.h. Records leave in batches of one routing each, oldest
 * routing first. Bytes are sent from the ring without being copied; a batch
 * stays in the ring until it is released, in any order. Everything is
 * constant work per record, whatever the number of routings.
 *
 * The position behind the last record is published after the record is whole,
 * with a release store: a process that dies at any instruction leaves only
 * whole records. otlp_queue_open() on the memory of a dead process finds all
 * records that were not released, also those that were taken.
 *
 * What the ring holds is trusted only as far as otlp_queue_open() has checked
 * it.
 */

#ifndef TRACEPARENT_OTLP_QUEUE_H
#define TRACEPARENT_OTLP_QUEUE_H


#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include <traceparent/tracestate.h>

#ifdef __cplusplus
extern "C" {
#endif


/* Bounds of the memory of a queue, in bytes, its header included. */
#define OTLP_QUEUE_SIZE_MIN           (128 * 1024)
#define OTLP_QUEUE_SIZE_MAX           (1024 * 1024 * 1024)

/* The longest routing, in bytes. */
#define OTLP_QUEUE_ROUTING_MAX        1024

#define OTLP_ERR_QUEUE               -43  /* not a queue, or a damaged one */
/* also OTLP_ERR_ROOM of span.h */


/* A process's handle. Its fields are the queue's own. */
typedef struct otlp_queue_s  otlp_queue_t;

/* A batch that was taken. |bytes| and |records| may be read. */
typedef struct {
    uint32_t            first;             /* the queue's name of a record */
    uint32_t            records;
    uint32_t            bytes;             /* of all spans together */
    traceparent_view_t  routing;           /* in the ring, until release */
} otlp_queue_batch_t;

/* Queue's public numbers; all are of this moment. */
typedef struct {
    size_t              size;              /* bytes that records can use */
    size_t              used;              /* bytes that records do use */
    uint64_t            records;           /* not released */
    uint64_t            untaken;           /* neither taken nor released */
    uint64_t            oldest;            /* time of the oldest, 0 if none */
} otlp_queue_stat_t;


/*
 * Makes a new, empty queue in |size| bytes of |mem|, which is aligned to 64.
 * Returns 0, OTLP_ERR_ROOM if |size| is out of bounds, or
 * TRACEPARENT_ERR_RANDOM of ids.h; then |mem| is untouched.
 */
int otlp_queue_create(otlp_queue_t *queue, void *mem, size_t size);

/*
 * Opens a queue that this or another process has created in |mem|, and indexes
 * its records again; all of them are untaken then.
 * Returns 0, OTLP_ERR_QUEUE if the memory does not hold a sound queue of this
 * size and of this version of the format, or TRACEPARENT_ERR_RANDOM of ids.h;
 * then |mem| is untouched.
 */
int otlp_queue_open(otlp_queue_t *queue, void *mem, size_t size);


/*
 * Begins a record: |*room| becomes the bytes at the returned address that its
 * span may use, at most OTLP_SPAN_MAX, and at least |min|. NULL if there is no
 * such room: the queue is full, or |routing_len| or |min| is out of range.
 * A second call without a commit between forgets the first. If the span turns
 * out not to fit into |*room|, another call with a greater |min| may find more.
 */
uint8_t *otlp_queue_begin(otlp_queue_t *queue, const uint8_t *routing,
    size_t routing_len, size_t min, size_t *room);

/* Publishes the record: its span is the |len| bytes at |span|, which lie in
 * the room of the last begin. |time| is kept with it, for otlp_queue_stat(), in
 * whatever unit the caller counts. Returns how many records of this routing are
 * untaken now, this one included. */
uint32_t otlp_queue_commit(otlp_queue_t *queue, const uint8_t *span,
    size_t len, uint64_t time);

/*
 * For a caller that remembers, in shared memory too, what it is about to
 * commit: a process that opens the queue after its death can tell from the
 * position whether it was committed.
 *
 * The first returns the position of the record that was begun last and is not
 * committed yet. The second returns whether the record that was begun at
 * |position|, of this or an earlier process, was committed; it may have left
 * since. The position of one that was begun and forgotten tells nothing: others
 * take its place. Positions only grow, but a queue that is created anew, as
 * over a damaged one, starts at 0: the caller must not ask it for old ones.
 */
uint64_t otlp_queue_pending(const otlp_queue_t *queue);
int otlp_queue_published(const otlp_queue_t *queue, uint64_t position);


/*
 * Takes up to |max_records| untaken records of the routing that has waited
 * longest, oldest first, whose spans are at most |max_bytes| together (but
 * always one). What is left of this routing goes to the end of the line.
 * Returns 0 with |batch| written, or OTLP_ERR_ROOM if no record is untaken.
 */
int otlp_queue_take(otlp_queue_t *queue, otlp_queue_batch_t *batch,
    uint32_t max_records, uint32_t max_bytes);

/* Describes the spans of a batch; |iov| has room for batch->records. */
void otlp_queue_iov(const otlp_queue_t *queue,
    const otlp_queue_batch_t *batch, struct iovec *iov);

/* Gives the records of a batch up: sent, or dropped. The room is free again
 * as soon as all older records are released too. */
void otlp_queue_release(otlp_queue_t *queue, const otlp_queue_batch_t *batch);


/*
 * For a queue that is full: what its oldest record is, and how it goes.
 *
 * Describes the oldest record, taken or not, as a batch of one; a batch that
 * was taken begins with it if its |first| is the same.
 * Returns 0 with |oldest| written, or OTLP_ERR_ROOM if there is no record.
 */
int otlp_queue_oldest(const otlp_queue_t *queue, otlp_queue_batch_t *oldest);

/* Lets the routing of the oldest record be the next that is taken; this looks
 * through the line. Returns 0, or OTLP_ERR_ROOM if that record is not untaken.
 */
int otlp_queue_oldest_next(otlp_queue_t *queue);

/* Gives up the first record of a batch, which has one at least; the batch goes
 * on with the others. One without a record begins with none. */
void otlp_queue_drop(otlp_queue_t *queue, otlp_queue_batch_t *batch);


void otlp_queue_stat(const otlp_queue_t *queue, otlp_queue_stat_t *stat);


/* In the header only so that its size is known: about 66 KiB. */

/* As many as keep 10,000 routings apart. */
#define OTLP_QUEUE_BUCKETS            16384

/* One for each 4 bytes of a routing, one for its length, one to start with. */
#define OTLP_QUEUE_KEYS               (OTLP_QUEUE_ROUTING_MAX / 4 + 2)

struct otlp_queue_s {
    struct otlp_queue_ring_s  *ring;       /* the shared part, in |mem| */
    uint8_t                   *data;
    uint64_t                   size;       /* of the data */
    uint64_t                   head;       /* position behind all records */
    uint64_t                   tail;       /* position of the oldest record */
    uint64_t                   pending;    /* position of the begun record */
    uint64_t                   records;
    uint64_t                   untaken;
    uint32_t                   line_first; /* routings in the order they wait */
    uint32_t                   line_last;
    uint32_t                   recent;     /* routing that was added to last */
    uint64_t                   keys[OTLP_QUEUE_KEYS];
    uint32_t                   buckets[OTLP_QUEUE_BUCKETS];
};


#ifdef __cplusplus
}
#endif

#endif
