/*
 * The queue against a model that is too simple to be wrong; copies of its
 * memory at arbitrary moments, down to single instructions; damaged memory.
 */

#define _GNU_SOURCE

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <signal.h>
#include <unistd.h>

#include <traceparent/ids.h>
#include <traceparent/otlp/queue.h>
#include <traceparent/otlp/span.h>

#include "tap.h"


#define SIZE     (OTLP_QUEUE_SIZE_MIN + 8 * 1024)
#define ROUTINGS 40
#define RECORDS  200000


enum state { UNTAKEN, TAKEN, RELEASED };

typedef struct {
    unsigned routing;
    unsigned len;
    enum state state;
} record_t;


static otlp_queue_t queue, other;
static uint8_t *memory, *copy;

/* The model: all records ever made, the first that may not be released, and
 * the routings in the order in which they wait. */
static record_t *model;
static unsigned made, oldest;
static unsigned line[ROUTINGS], lined;
static unsigned untaken[ROUTINGS];


static uint64_t
random64(void)
{
    static uint64_t state = 88172645463325252; /* of xorshift64, Marsaglia */

    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;

    return state;
}


static unsigned
random_below(unsigned n)
{
    return (unsigned) (random64() >> 32) % n;
}


/* Memory that ends where nothing may be touched. */
static uint8_t *
guarded(size_t size)
{
    size_t page, pages;
    uint8_t *mem;

    page = (size_t) sysconf(_SC_PAGESIZE);
    pages = (size + page - 1) / page * page;

    mem = mmap(NULL, pages + page, PROT_READ | PROT_WRITE,
        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (mem == MAP_FAILED || mprotect(mem + pages, page, PROT_NONE) != 0) {
        exit(1);
    }

    return mem + pages - size;
}


static size_t
routing_of(unsigned routing, uint8_t *dest)
{
    static const size_t lens[] = {0, 1, 3, 4, 5, 8, 16, 33, 36, 200, 1024};

    size_t len;

    len = routing < 11 ? lens[routing] : 36;
    memset(dest, 'r', len);

    if (routing >= 11) {
        dest[len - 1 - routing % 30] = (uint8_t) ('A' + routing);
    }

    return len;
}


static void
fill(uint8_t *dest, unsigned record, unsigned len)
{
    unsigned i;

    for (i = 0; i < len; i++) {
        dest[i] = (uint8_t) ((record * 2654435761U) >> (i % 4 * 8)) ^ (i >> 2);
    }
}


static int
is_filled(const struct iovec *iov, unsigned record)
{
    static uint8_t expected[OTLP_SPAN_MAX];

    fill(expected, record, model[record].len);

    return iov->iov_len == model[record].len
           && memcmp(iov->iov_base, expected, iov->iov_len) == 0;
}


/* The untaken record of |routing| after |record|. */
static unsigned
next_untaken(unsigned routing, unsigned record)
{
    while (model[record].routing != routing || model[record].state != UNTAKEN) {
        record++;
    }

    return record;
}


static int
put(void)
{
    size_t len, min, room;
    uint8_t *span, routing[OTLP_QUEUE_ROUTING_MAX];
    unsigned gap, r;
    otlp_queue_stat_t stat;

    r = random_below(random_below(2) ? 2 : ROUTINGS);
    len = routing_of(r, routing);
    min = random_below(8) ? random_below(2000) : random_below(30000);

    otlp_queue_stat(&queue, &stat);
    span = otlp_queue_begin(&queue, routing, len, min, &room);
    memset(routing, 0, sizeof(routing));

    if (span == NULL) {
        /* of two free pieces, one is no less than half */
        return stat.used == 0 || (stat.size - stat.used) / 2 >= 64 + len + min
                   ? -1
                   : 1;
    }

    if (room < min || room > OTLP_SPAN_MAX || span < memory
        || span + room > memory + SIZE || made == RECORDS) {
        return -1;
    }

    if (random_below(10) == 0) {
        return 0; /* begun and forgotten */
    }

    gap = random_below(10);
    gap = min < gap ? 0 : gap;

    model[made].routing = r;
    model[made].len = (unsigned) min - gap;
    model[made].state = UNTAKEN;
    fill(span + gap, made, model[made].len);

    if (untaken[r]++ == 0) {
        line[lined++] = r;
    }

    return otlp_queue_commit(&queue, span + gap, model[made++].len, 1)
                   == untaken[r]
               ? 0
               : -1;
}


static void
find_oldest(void)
{
    while (oldest < made && model[oldest].state == RELEASED) {
        oldest++;
    }
}


/* Batches that are taken and not released, at most 16. */
static otlp_queue_batch_t batches[16];
static unsigned batch_first[16];
static unsigned batched;


static int
take(void)
{
    int rc;
    size_t len;
    uint8_t routing[OTLP_QUEUE_ROUTING_MAX];
    unsigned at, bytes, i, max_bytes, max_records, r;
    struct iovec iov[64];
    otlp_queue_batch_t *batch;

    if (batched == 16) {
        return 0;
    }

    max_records = random_below(20);
    max_bytes = random_below(20000);
    batch = &batches[batched];

    rc = otlp_queue_take(&queue, batch, max_records, max_bytes);

    if (lined == 0) {
        return rc == OTLP_ERR_ROOM ? 0 : -1;
    }

    r = line[0];
    lined--;
    memmove(line, line + 1, lined * sizeof(line[0]));
    len = routing_of(r, routing);

    if (rc != 0 || batch->records == 0 || batch->records > untaken[r]
        || (batch->records > max_records && batch->records != 1)
        || batch->routing.len != len
        || memcmp(batch->routing.data, routing, len) != 0) {
        return -1;
    }

    otlp_queue_iov(&queue, batch, iov);
    bytes = 0;

    for (i = 0, at = oldest; i < batch->records; i++) {
        at = next_untaken(r, at);
        batch_first[batched] = i == 0 ? at : batch_first[batched];
        model[at].state = TAKEN;
        bytes += model[at].len;

        if (!is_filled(&iov[i], at)) {
            return -1;
        }
    }

    untaken[r] -= batch->records;
    batched++;

    if (bytes != batch->bytes || (i > 1 && bytes > max_bytes)) {
        return -1;
    }

    if (untaken[r] == 0) {
        return 0;
    }

    line[lined++] = r;
    at = next_untaken(r, oldest);

    /* one more would have been too much */
    return batch->records >= max_records || bytes + model[at].len > max_bytes
               ? 0
               : -1;
}


/* Gives a batch up; all of it must still be there. */
static int
give_up(void)
{
    unsigned at, b, bytes, good, i, r;
    struct iovec iov[64];

    if (batched == 0) {
        return 0;
    }

    b = random_below(batched);
    at = batch_first[b];
    r = model[at].routing;
    bytes = 0;
    good = 0;

    otlp_queue_iov(&queue, &batches[b], iov);

    for (i = 0; i < batches[b].records; at++) {
        if (model[at].routing == r && model[at].state == TAKEN) {
            model[at].state = RELEASED;
            bytes += model[at].len;
            good += is_filled(&iov[i++], at) != 0;
        }
    }

    good = good == batches[b].records && bytes == batches[b].bytes;

    otlp_queue_release(&queue, &batches[b]);

    batched--;
    batches[b] = batches[batched];
    batch_first[b] = batch_first[batched];
    find_oldest();

    return good ? 0 : -1;
}


/* The first record of a batch goes. */
static int
drop(unsigned b)
{
    size_t len;
    uint8_t routing[OTLP_QUEUE_ROUTING_MAX];
    unsigned at, r;

    at = batch_first[b];
    r = model[at].routing;
    len = routing_of(r, routing);
    model[at].state = RELEASED;
    otlp_queue_drop(&queue, &batches[b]);

    if (batches[b].records != 0) {
        while (model[at].routing != r || model[at].state != TAKEN) {
            at++;
        }

        batch_first[b] = at;
    }

    find_oldest();

    return batches[b].records == 0
                   || (batches[b].routing.len == len
                       && memcmp(batches[b].routing.data, routing, len) == 0)
               ? 0
               : -1;
}


/* The oldest record goes if it was taken, or is taken next; or the first of
 * any batch goes. */
static int
make_room(void)
{
    int next;
    unsigned b, i, r;
    struct iovec iov;
    otlp_queue_batch_t batch;

    if (batched != 0 && random_below(4) == 0) {
        b = random_below(batched);
        return batches[b].records != 0 ? drop(b) : 0;
    }

    next = otlp_queue_oldest_next(&queue);

    if (otlp_queue_oldest(&queue, &batch) != 0) {
        return oldest == made && next == OTLP_ERR_ROOM ? 0 : -1;
    }

    otlp_queue_iov(&queue, &batch, &iov);

    if (oldest == made || batch.records != 1 || batch.bytes != iov.iov_len
        || !is_filled(&iov, oldest)) {
        return -1;
    }

    for (b = 0; b < batched && batches[b].first != batch.first; b++) {
        /* not this one */
    }

    if (model[oldest].state == TAKEN) {
        return b < batched && batch_first[b] == oldest && next == OTLP_ERR_ROOM
                   ? drop(b)
                   : -1;
    }

    r = model[oldest].routing;

    for (i = 0; line[i] != r; i++) {
        /* before it in the line */
    }

    memmove(line + 1, line, i * sizeof(line[0]));
    line[0] = r;

    return b == batched && next == 0 ? 0 : -1;
}


static int
stat_agrees(void)
{
    unsigned i;
    uint64_t all, waiting;
    otlp_queue_stat_t stat;

    for (i = oldest, all = 0, waiting = 0; i < made; i++) {
        all += model[i].state != RELEASED;
        waiting += model[i].state == UNTAKEN;
    }

    otlp_queue_stat(&queue, &stat);

    return stat.records == all && stat.untaken == waiting
           && stat.used <= stat.size && stat.size > SIZE - 128
           && (all != 0 || stat.used == 0);
}


/* What another process finds if this one dies now. */
static int
survives(void)
{
    unsigned at[ROUTINGS], i, n, r;
    uint64_t waiting;
    struct iovec iov[64];
    otlp_queue_stat_t stat;
    otlp_queue_batch_t batch;
    uint8_t routing[OTLP_QUEUE_ROUTING_MAX];

    memcpy(copy, memory, SIZE);

    if (otlp_queue_open(&other, copy, SIZE) != 0) {
        return -1;
    }

    for (i = oldest, waiting = 0; i < made; i++) {
        waiting += model[i].state != RELEASED;
    }

    otlp_queue_stat(&other, &stat);
    if (stat.records != waiting || stat.untaken != waiting) {
        return -1;
    }

    for (r = 0; r < ROUTINGS; r++) {
        at[r] = oldest;
    }

    while (otlp_queue_take(&other, &batch, 64, 100000) == 0) {
        otlp_queue_iov(&other, &batch, iov);

        for (r = 0; r < ROUTINGS; r++) {
            if (batch.routing.len == routing_of(r, routing)
                && memcmp(batch.routing.data, routing, batch.routing.len)
                       == 0) {
                break;
            }
        }

        for (n = 0; r < ROUTINGS && n < batch.records; n++, at[r]++) {
            while (at[r] < made
                   && (model[at[r]].routing != r
                       || model[at[r]].state == RELEASED)) {
                at[r]++;
            }

            if (at[r] == made || !is_filled(&iov[n], at[r])) {
                return -1;
            }
        }

        waiting -= n;
        otlp_queue_release(&other, &batch);
    }

    otlp_queue_stat(&other, &stat);

    return waiting == 0 && stat.records == 0 && stat.used == 0 ? 0 : -1;
}


/* The queue is opened by a successor, and all that was not released waits. */
static int
reopen(void)
{
    unsigned i;

    batched = 0;
    lined = 0;
    memset(untaken, 0, sizeof(untaken));

    for (i = oldest; i < made; i++) {
        if (model[i].state != RELEASED) {
            model[i].state = UNTAKEN;

            if (untaken[model[i].routing]++ == 0) {
                line[lined++] = model[i].routing;
            }
        }
    }

    return otlp_queue_open(&queue, memory, SIZE);
}


static void
test_model(void)
{
    unsigned bad[7], full, i;

    ok(otlp_queue_create(&queue, memory, SIZE) == 0, "a queue is made");
    memset(bad, 0, sizeof(bad));
    full = 0;

    for (i = 0; i < 100000; i++) {
        switch (random_below(i / 5000 % 2 ? 6 : 5)) {
        case 0:
        case 1:
            switch (put()) {
            case 1:
                full++;
                break;
            case -1:
                bad[0]++;
            }
            break;
        case 2:
            bad[1] += take() != 0;
            break;
        case 3:
            bad[6] += make_room() != 0;
            break;
        default:
            bad[2] += give_up() != 0;
        }

        bad[3] += i % 10 == 0 && !stat_agrees();
        bad[4] += i % 25 == 0 && survives() != 0;
        bad[5] += i % 5000 == 4999 && reopen() != 0;

        if (bad[0] + bad[1] + bad[2] + bad[3] + bad[4] + bad[5] + bad[6] != 0) {
            break; /* the model is of no more use */
        }
    }

    ok(bad[0] == 0, "%u records are put, in their turn", made);
    ok(full > 100 && made > 10000, "unless the queue is full, %u times", full);
    ok(bad[1] == 0, "the routing that has waited longest leaves, whole");
    ok(bad[2] == 0, "and is still there when it is given up");
    ok(bad[6] == 0, "the oldest record is known, is taken next, and can go");
    ok(bad[3] == 0, "the numbers agree");
    ok(bad[4] == 0, "a copy at any moment holds all that was not released");
    ok(bad[5] == 0, "a successor goes on");

    while (lined != 0 || batched != 0) {
        if (take() != 0) {
            break;
        }

        give_up();
    }

    ok(lined == 0 && oldest == made && stat_agrees(),
        "in the end all is free again");
}


/* What the single-stepped child says of itself; 1: may be, 2: is. */
typedef struct {
    volatile uint32_t committed;
    volatile uint32_t begun;
    volatile uint32_t placed; /* has a position */
    volatile uint64_t position[256];
    volatile uint8_t gone[256];
} progress_t;

static progress_t *progress;


/* Sends what waits longest, or drops it one by one. */
static int
step_send(void)
{
    static unsigned turn;

    uint32_t i, n;
    struct iovec iov[4];
    otlp_queue_batch_t batch;

    if (otlp_queue_take(&queue, &batch, 4, 30000) != 0) {
        return 0;
    }

    otlp_queue_iov(&queue, &batch, iov);
    n = batch.records;

    if (++turn % 2) {
        for (i = 0; i < n; i++) {
            progress->gone[*(uint32_t *) iov[i].iov_base] = 1;
            otlp_queue_drop(&queue, &batch);
            progress->gone[*(uint32_t *) iov[i].iov_base] = 2;
        }

        return 1;
    }

    for (i = 0; i < n; i++) {
        progress->gone[*(uint32_t *) iov[i].iov_base] = 1;
    }

    otlp_queue_release(&queue, &batch);

    for (i = 0; i < n; i++) {
        progress->gone[*(uint32_t *) iov[i].iov_base] = 2;
    }

    return 1;
}


/* Puts records of which only the ends are written, and sends some, until the
 * ring has wrapped a few times; then long ones into an empty queue. */
static void
step_child(void)
{
    size_t min, room;
    uint8_t *span;
    uint32_t seq;

    for (seq = 1; seq <= 40; seq++) {
        progress->begun = seq;
        min = seq <= 30 ? 9000 : OTLP_SPAN_MAX;

        while (seq > 30 && step_send()) {
            /* until it is empty */
        }

        while ((span = otlp_queue_begin(
                    &queue, (const uint8_t *) "ab", seq % 3, min, &room))
               == NULL) {
            if (!step_send()) {
                _exit(3);
            }
        }

        progress->position[seq] = otlp_queue_pending(&queue);
        progress->placed = seq;

        span += 8 - (size_t) span % 8;
        *(uint32_t *) span = seq;
        *(uint32_t *) (span + 8800 + seq * 4) = seq;
        otlp_queue_commit(&queue, span, 8804 + seq * 4, 1);
        progress->committed = seq;
    }
}


/* Whether a copy of the memory holds what the child's progress says. */
static int
step_agrees(void)
{
    uint32_t i, seq, last;
    uint8_t seen[256];
    struct iovec iov[64];
    otlp_queue_batch_t batch;

    memcpy(copy, memory, SIZE);
    memset(seen, 0, sizeof(seen));

    if (otlp_queue_open(&other, copy, SIZE) != 0) {
        return 0;
    }

    while (otlp_queue_take(&other, &batch, 64, 1000000) == 0) {
        otlp_queue_iov(&other, &batch, iov);

        for (i = 0, last = 0; i < batch.records; i++) {
            seq = *(uint32_t *) iov[i].iov_base;

            if (seq <= last || seq > progress->begun
                || iov[i].iov_len != 8804 + seq * 4
                || *(uint32_t *) ((uint8_t *) iov[i].iov_base + iov[i].iov_len
                                  - 4)
                       != seq
                || batch.routing.len != seq % 3 || progress->gone[seq] == 2) {
                return 0;
            }

            seen[seq]++;
            last = seq;
        }

        otlp_queue_release(&other, &batch);
    }

    for (seq = 1; seq <= progress->committed; seq++) {
        if (seen[seq] != 1 && progress->gone[seq] == 0) {
            return 0;
        }
    }

    for (seq = 1; seq <= progress->placed; seq++) {
        if (otlp_queue_published(&other, progress->position[seq])
            != (seen[seq] == 1 || progress->gone[seq] != 0)) {
            return 0;
        }
    }

    return 1;
}


static void
test_each_instruction(void)
{
    int status;
    pid_t pid;
    unsigned bad, steps;

    progress = (progress_t *) guarded(sizeof(progress_t));
    otlp_queue_create(&queue, memory, SIZE);

    pid = fork();
    if (pid == 0) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0) {
            _exit(2);
        }

        raise(SIGSTOP);
        step_child();
        _exit(0);
    }

    if (pid == -1 || waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status)) {
        ok(1, "# SKIP no ptrace here");
        return;
    }

    for (steps = 0, bad = 0; WIFSTOPPED(status); steps++) {
        if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) != 0
            || waitpid(pid, &status, 0) != pid) {
            bad++;
            break;
        }

        bad += !step_agrees();
    }

    ok(bad == 0,
        "dead after any of %u instructions, no record is lost or torn, and it "
        "is known which were committed",
        steps);
    ok(steps > 5000 && progress->committed == 40 && progress->gone[1] == 2
            && WIFEXITED(status) && WEXITSTATUS(status) == 0,
        "and the ring has wrapped");
}


/* Uses an opened queue, which may hold anything, as a worker would. */
static void
use(otlp_queue_t *damaged)
{
    size_t j, room;
    uint8_t *span;
    uint32_t i, n;
    volatile uint8_t sum;
    otlp_queue_batch_t batch;
    static struct iovec iov[64];

    for (n = 0; n < 3; n++) {
        span = otlp_queue_begin(
            damaged, (const uint8_t *) "use", 3, 20000, &room);
        if (span != NULL) {
            memset(span, 'u', room);
            otlp_queue_commit(damaged, span + 4, room - 4, 1);
        }

        while (otlp_queue_take(damaged, &batch, 64, UINT32_MAX) == 0) {
            otlp_queue_iov(damaged, &batch, iov);

            for (i = 0; i < batch.records; i++) {
                for (j = 0, sum = 0; j < iov[i].iov_len; j++) {
                    sum ^= ((uint8_t *) iov[i].iov_base)[j];
                }
            }

            otlp_queue_release(damaged, &batch);
        }
    }
}


static void
test_damage(void)
{
    size_t at, room;
    uint8_t *span, *before;
    uint64_t word;
    unsigned changed, i, j, opened, refused;

    static const uint64_t words[] = {0, 1, 7, 8, 0x28, 0xff, 0xffff, 0xffffffff,
        0x7fffffffffffffff, 0x8000000000000000, UINT64_MAX, UINT64_MAX - 7,
        SIZE, SIZE - 64, OTLP_SPAN_MAX, 0x0003000000000008};

    before = malloc(SIZE);
    otlp_queue_create(&queue, memory, SIZE);

    for (i = 0; i < 400; i++) {
        span = otlp_queue_begin(
            &queue, (const uint8_t *) "routing", i % 8, 600, &room);

        if (span == NULL) {
            otlp_queue_batch_t batch;

            otlp_queue_take(&queue, &batch, 100, 100000);
            otlp_queue_release(&queue, &batch);
            continue;
        }

        memset(span, 's', 600);
        otlp_queue_commit(&queue, span + i % 5, 400 + i % 200, 1);
    }

    opened = 0;
    refused = 0;
    changed = 0;

    for (i = 0; i < 30000; i++) {
        memcpy(copy, memory, SIZE);

        for (j = 0; j <= i % 3; j++) {
            at = random_below(2) ? random_below(8) * 8
                                 : 64 + random_below(SIZE - 72) / 8 * 8;
            word = words[random_below(sizeof(words) / sizeof(words[0]))];

            switch (random_below(4)) {
            case 0:
                copy[at + random_below(8)] ^= (uint8_t) (1 << random_below(8));
                break;
            case 1:
                memcpy(copy + at, &word, 8);
                break;
            case 2:
                memcpy(copy + at + random_below(5), &word, 4);
                break;
            default:
                memcpy(copy + at, memory + 64 + random_below(SIZE - 72) / 8 * 8,
                    8);
            }
        }

        memcpy(before, copy, SIZE);

        if (otlp_queue_open(&other, copy, SIZE) != 0) {
            refused++;
            changed += memcmp(before, copy, SIZE) != 0;
            continue;
        }

        opened++;
        use(&other);
    }

    ok(opened > 1000 && refused > 1000,
        "of damaged queues, %u work and %u are refused", opened, refused);
    ok(changed == 0, "what is refused is not touched");
    free(before);
}


static void
test_refused(void)
{
    uint8_t byte;
    size_t room;
    unsigned bad, i;

    ok(otlp_queue_create(&queue, memory, OTLP_QUEUE_SIZE_MIN - 1)
                == OTLP_ERR_ROOM
            && otlp_queue_create(
                   &queue, memory, (size_t) OTLP_QUEUE_SIZE_MAX + 1)
                   == OTLP_ERR_ROOM,
        "a size out of bounds");

    memset(memory, 0, SIZE);
    ok(otlp_queue_open(&queue, memory, SIZE) == OTLP_ERR_QUEUE,
        "zeroed memory is no queue");

    otlp_queue_create(&queue, memory, SIZE);
    ok(otlp_queue_open(&other, memory, SIZE) == 0, "an empty queue");
    ok(otlp_queue_open(&other, memory, SIZE - 64) == OTLP_ERR_QUEUE
            && otlp_queue_open(&other, memory, 1) == OTLP_ERR_QUEUE,
        "another size than it was made with");

    for (i = 0, bad = 0; i < 40; i++) {
        byte = memory[i];
        memory[i] ^= 1;
        bad += otlp_queue_open(&other, memory, SIZE) != OTLP_ERR_QUEUE;
        memory[i] = byte;
    }

    ok(bad == 0, "a wrong bit in any byte of the header");

    ok(otlp_queue_begin(&queue, memory, OTLP_QUEUE_ROUTING_MAX + 1, 1, &room)
                == NULL
            && otlp_queue_begin(&queue, memory, 1, OTLP_SPAN_MAX + 1, &room)
                   == NULL,
        "a routing or a span that is too long");
}


/* An empty queue holds the longest record, wherever its head is. */
static void
test_longest(void)
{
    size_t len, room;
    uint8_t *span;
    unsigned bad, i;
    otlp_queue_stat_t stat;
    otlp_queue_batch_t batch;

    bad = 0;
    otlp_queue_create(&queue, memory, OTLP_QUEUE_SIZE_MIN);

    for (i = 0; i < 20000 && bad == 0; i++) {
        len = i % 4 == 0 ? OTLP_SPAN_MAX : random_below(30000);
        span = otlp_queue_begin(
            &queue, copy, i % 4 == 0 ? OTLP_QUEUE_ROUTING_MAX : 0, len, &room);
        if (span == NULL) {
            bad++;
            break;
        }

        otlp_queue_commit(&queue, span, len, 1);
        otlp_queue_take(&queue, &batch, 1, 1);
        bad += batch.bytes != len;
        otlp_queue_release(&queue, &batch);
        otlp_queue_stat(&queue, &stat);
        bad += stat.used != 0 || stat.records != 0;
    }

    ok(bad == 0, "an empty queue holds the longest record");
}


/* Where the format, version 1, has what. */
#define HEAD        24
#define TAIL        32
#define DATA        64
#define SPAN_SIZE   0
#define STATE       4
#define ROUTING_LEN 6
#define SPAN        8
#define SPAN_LEN    12
#define HEADER      48


static uint64_t
get(size_t at, size_t size)
{
    uint64_t value;

    value = 0;
    memcpy(&value, memory + at, size); /* little-endian, like the test */

    return value;
}


static void
add(size_t at, size_t size, uint64_t value)
{
    value += get(at, size);
    memcpy(memory + at, &value, size);
}


static void
put_one(size_t routing_len, size_t len)
{
    size_t room;
    uint8_t *span;

    span = otlp_queue_begin(&queue, copy, routing_len, len, &room);
    otlp_queue_commit(&queue, span, len, 1);
}


static void
send_one(void)
{
    otlp_queue_batch_t batch;

    otlp_queue_take(&queue, &batch, 1, 1);
    otlp_queue_release(&queue, &batch);
}


/* Two records of this size, but for what the caller does to them. */
#define RECORD (HEADER + 8 + 600)

static void
make_two(void)
{
    otlp_queue_create(&queue, memory, SIZE);
    put_one(8, 600);
    put_one(8, 600);
}


static int
opens(void)
{
    return otlp_queue_open(&other, memory, SIZE);
}


/* Records that are as sound as can be but for one thing each. */
static void
test_unsound(void)
{
    static const size_t second = DATA + RECORD;

    make_two();
    ok(opens() == 0 && get(second + STATE, 2) == 1, "two records");

    add(DATA + SPAN_SIZE, 4, -(uint64_t) RECORD);
    ok(opens() == OTLP_ERR_QUEUE, "a record of no size");

    make_two();
    memset(memory + second, 0, 8);
    add(second + STATE, 2, 3);
    ok(opens() == OTLP_ERR_QUEUE, "a pad of no size");

    make_two();
    add(DATA + STATE, 2, 2);
    ok(opens() == OTLP_ERR_QUEUE, "a pad before the end");

    make_two();
    add(DATA + STATE, 2, 3);
    ok(opens() == OTLP_ERR_QUEUE, "an unknown state");

    make_two();
    add(second + SPAN_SIZE, 4, 8);
    add(second + SPAN_LEN, 4, 8);
    ok(opens() == OTLP_ERR_QUEUE, "a record over the head");

    make_two();
    add(HEAD, 8, (uint64_t) -4);
    add(second + SPAN_SIZE, 4, (uint64_t) -4);
    add(second + SPAN_LEN, 4, (uint64_t) -4);
    ok(opens() == OTLP_ERR_QUEUE, "a head that is not aligned");

    make_two();
    memmove(memory + second + 4, memory + second, RECORD - 4);
    add(DATA + SPAN_SIZE, 4, 4);
    add(DATA + SPAN_LEN, 4, 4);
    add(second + 4 + SPAN_SIZE, 4, (uint64_t) -4);
    add(second + 4 + SPAN_LEN, 4, (uint64_t) -4);
    ok(opens() == OTLP_ERR_QUEUE, "a record that is not aligned");

    make_two();
    add(DATA + ROUTING_LEN, 2, 8);
    ok(opens() == OTLP_ERR_QUEUE, "a routing into the span");

    make_two();
    add(DATA + SPAN_LEN, 4, (uint64_t) -8);
    ok(opens() == OTLP_ERR_QUEUE, "a record longer than its span");

    make_two();
    add(DATA + SPAN_LEN, 4, 8);
    ok(opens() == OTLP_ERR_QUEUE, "a span longer than its record");

    make_two();
    add(DATA + SPAN, 4, 8);
    add(DATA + SPAN_LEN, 4, 0xfffffff8);
    ok(opens() == 0, "a span at another place");
    add(DATA + SPAN, 4, 0xffffff00);
    add(DATA + SPAN_LEN, 4, 0x100);
    ok(opens() == OTLP_ERR_QUEUE, "a span before its record");

    otlp_queue_create(&queue, memory, SIZE);
    put_one(1024, 8);
    add(DATA + ROUTING_LEN, 2, 1);
    add(DATA + SPAN, 4, 1);
    add(DATA + SPAN_LEN, 4, (uint64_t) -1);
    ok(opens() == OTLP_ERR_QUEUE, "a routing that is too long");

    otlp_queue_create(&queue, memory, SIZE);
    put_one(8, OTLP_SPAN_MAX);
    add(DATA + ROUTING_LEN, 2, (uint64_t) -8);
    ok(opens() == 0, "the longest span");
    add(DATA + SPAN, 4, (uint64_t) -1);
    add(DATA + SPAN_LEN, 4, 1);
    ok(opens() == OTLP_ERR_QUEUE, "a longer one");
}


static void
test_unsound_positions(void)
{
    size_t last;
    uint64_t size;
    otlp_queue_stat_t stat;

    make_two();
    otlp_queue_stat(&queue, &stat);
    size = stat.size;
    add(HEAD, 8, size * 3);
    add(TAIL, 8, size * 3);
    ok(opens() == 0, "positions are modulo the size");
    add(HEAD, 8, (UINT64_MAX / 2 / size - 3) * size);
    add(TAIL, 8, (UINT64_MAX / 2 / size - 3) * size);
    ok(opens() == 0 || get(HEAD, 8) > UINT64_MAX / 2, "up to half of all");
    add(HEAD, 8, size);
    add(TAIL, 8, size);
    ok(opens() == OTLP_ERR_QUEUE, "but not so far that they could wrap");

    make_two();
    add(TAIL, 8, 2 * RECORD);
    ok(opens() == 0, "a tail at the head");
    add(HEAD, 8, -(uint64_t) RECORD);
    ok(opens() == OTLP_ERR_QUEUE, "a tail after the head");

    /* full to the last byte */
    otlp_queue_create(&queue, memory, SIZE);
    put_one(0, OTLP_SPAN_MAX);
    put_one(0, 60000);
    last = size - OTLP_SPAN_MAX - 60000 - 3 * HEADER;
    put_one(0, last);
    ok(opens() == 0 && get(HEAD, 8) == size, "a queue that is full");
    add(HEAD, 8, HEADER + OTLP_SPAN_MAX);
    ok(opens() == OTLP_ERR_QUEUE, "more than full: its first record again");
    add(HEAD, 8, 0 - (uint64_t) (HEADER + OTLP_SPAN_MAX + 8));
    ok(opens() == OTLP_ERR_QUEUE, "a head inside of the last of many records");

    /* of what is left at the end, 8 bytes */
    otlp_queue_create(&queue, memory, SIZE);
    put_one(0, OTLP_SPAN_MAX);
    put_one(0, 60000);
    put_one(0, last - 8);
    send_one();
    put_one(0, 2000);
    ok(opens() == 0 && get(DATA + size - 8, 8) == UINT64_C(0x0000000300000008),
        "the shortest pad");
    add(DATA + size - 8 + STATE, 2, (uint64_t) -2);
    ok(opens() == OTLP_ERR_QUEUE, "a record of which the rest is outside");

    /* the last one leaves 600 bytes at the end, and the next wraps */
    otlp_queue_create(&queue, memory, SIZE);
    put_one(0, OTLP_SPAN_MAX);
    put_one(0, 60000);
    put_one(0, last - 600);
    send_one();
    put_one(0, 2000);
    send_one();
    ok(opens() == 0 && get(DATA + size - 600 + STATE, 2) == 3
            && get(DATA + size - 600, 4) == 600,
        "a pad at the end");
    add(DATA + size - 600 + STATE, 2, (uint64_t) -2);
    add(DATA + size - 600, 4, HEADER + 2000);
    add(DATA + size - 600 + SPAN, 4, HEADER - get(DATA + size - 600 + SPAN, 4));
    add(DATA + size - 600 + SPAN_LEN, 4,
        2600 - get(DATA + size - 600 + SPAN_LEN, 4));
    ok(opens() == OTLP_ERR_QUEUE, "a record over the end");
}


/* Whether the record at |position| is published: 1, or 0, or -1 if a successor
 * of this moment thinks otherwise. */
static int
is_published(uint64_t position)
{
    int rc;

    memcpy(copy, memory, SIZE);
    rc = otlp_queue_published(&queue, position);

    return otlp_queue_open(&other, copy, SIZE) == 0
                   && otlp_queue_published(&other, position) == rc
               ? rc
               : -1;
}


/* Commits a record of |len| bytes, and returns its position, or UINT64_MAX if
 * it is published too early or too late. */
static uint64_t
publish_one(size_t len)
{
    int before;
    size_t room;
    uint8_t *span;
    uint64_t position;

    span = otlp_queue_begin(&queue, NULL, 0, len, &room);
    position = otlp_queue_pending(&queue);
    before = is_published(position);
    otlp_queue_commit(&queue, span, len, 1);

    return before == 0 && is_published(position) == 1 ? position : UINT64_MAX;
}


static void
test_positions(void)
{
    uint64_t position, size;
    otlp_queue_stat_t stat;

    otlp_queue_create(&queue, memory, SIZE);
    otlp_queue_stat(&queue, &stat);
    size = stat.size;

    ok(publish_one(OTLP_SPAN_MAX) == 0,
        "a record is published when it is committed, also to a successor");
    ok(publish_one(60000) == HEADER + OTLP_SPAN_MAX, "and the next one");
    send_one();
    ok(publish_one(20000) == size, "one behind a pad");
    send_one();
    send_one();
    ok(is_published(size) == 1, "and it still is when it has been sent");
    position = publish_one(60000);
    send_one();
    ok(position == size + HEADER + 20000
            && publish_one(OTLP_SPAN_MAX) == 2 * size,
        "one that has an empty queue for itself, behind a pad");
    otlp_queue_open(&queue, memory, SIZE);
    ok(is_published(position) == 1
            && publish_one(1000) == 2 * size + HEADER + OTLP_SPAN_MAX,
        "a successor goes on with the positions");
}


/* More routings than buckets, in turn, so that chains are long. */
static void
test_many_routings(void)
{
    size_t room, size;
    uint8_t *big, *span;
    uint32_t i, name, routings;
    unsigned bad;
    struct iovec iov[8];
    otlp_queue_batch_t batch;

    size = 16 * 1024 * 1024;
    routings = 3 * OTLP_QUEUE_BUCKETS;
    big = guarded(size);
    bad = 0;
    otlp_queue_create(&queue, big, size);

    for (i = 0; i < 3 * routings; i++) {
        name = i % routings;
        span = otlp_queue_begin(&queue, (const uint8_t *) &name, 4, 4, &room);
        memcpy(span, &i, 4);
        bad += otlp_queue_commit(&queue, span, 4, 1) != i / routings + 1;
    }

    ok(bad == 0, "each of %u routings has its own count", routings);

    for (i = 0; i < 2 * routings; i++) {
        bad += otlp_queue_oldest_next(&queue) != 0
               || otlp_queue_take(&queue, &batch, i < routings ? 2 : 8, 100)
                      != 0
               || batch.records != (i < routings ? 2 : 1);
        otlp_queue_iov(&queue, &batch, iov);
        memcpy(&name, iov[0].iov_base, 4);
        bad += name != (i < routings ? i : i + routings);
        memcpy(&name, batch.routing.data, 4);
        bad += name != i % routings;
        otlp_queue_release(&queue, &batch);
    }

    ok(bad == 0 && otlp_queue_take(&queue, &batch, 1, 1) == OTLP_ERR_ROOM,
        "and leaves in its turn, the rest at the end of the line");
}


int
main(void)
{
    memory = guarded(SIZE);
    copy = guarded(SIZE);
    model = calloc(RECORDS + 1, sizeof(record_t));
    if (model == NULL) {
        return 1;
    }

    test_refused();
    test_model();
    test_each_instruction();
    test_damage();
    test_longest();
    test_unsound();
    test_unsound_positions();
    test_positions();
    test_many_routings();

    free(model);

    return done_testing();
}
