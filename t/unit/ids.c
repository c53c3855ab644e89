/*
 * Tests of ids.h. getrandom(2) is replaced here, so that the kernel can be made
 * to answer as it rarely does.
 */

#define _GNU_SOURCE /* syscall(), MAP_ANONYMOUS */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <traceparent/traceparent.h>

#include "input.h"
#include "tap.h"


#define N_WORDS (sizeof(((traceparent_ids_t *) NULL)->words) / 8)


static enum { WHOLE, SHORT, INTERRUPTED, NO_SYSTEM_CALL, DENIED } kernel;

static unsigned calls;


ssize_t
getrandom(void *buf, size_t len, unsigned flags)
{
    calls++;

    switch (kernel) {
    case NO_SYSTEM_CALL:
        errno = ENOSYS;
        return -1;

    case DENIED:
        errno = EPERM;
        return -1;

    case INTERRUPTED:
        if (calls % 2) {
            errno = EINTR;
            return -1;
        }
        break;

    case SHORT:
        len = len < 7 ? len : 7;
        break;

    default:
        break;
    }

    return syscall(SYS_getrandom, buf, len, flags);
}


static int
compare(const void *a, const void *b)
{
    return memcmp(a, b, TRACEPARENT_SPAN_ID_SIZE);
}


/* 1 if all |n| ids at |ids| differ; puts them into order. */
static int
all_differ(uint8_t (*ids)[TRACEPARENT_SPAN_ID_SIZE], size_t n)
{
    size_t i;

    qsort(ids, n, sizeof(*ids), compare);

    for (i = 1; i < n; i++) {
        if (compare(ids[i - 1], ids[i]) == 0) {
            return 0;
        }
    }

    return 1;
}


/* Draws with the kernel answering as |how|; 1 if all went well. */
static int
draws(int how)
{
    enum { N = 300 };
    static uint8_t drawn[N][TRACEPARENT_SPAN_ID_SIZE];
    traceparent_ids_t ids;
    unsigned i, failed = 0;

    memset(&ids, 0, sizeof(ids));
    calls = 0;
    kernel = how;

    for (i = 0; i < N; i++) {
        failed += traceparent_ids_span(&ids, drawn[i]) != 0;
    }

    kernel = WHOLE;

    return failed == 0 && calls > 0 && all_differ(drawn, N);
}


static void
test_kernel(void)
{
    ok(draws(WHOLE), "rule 12: all ids differ");
    ok(draws(SHORT), "the kernel gives few bytes at a time");
    ok(calls > 300, "and is asked often");
    ok(draws(INTERRUPTED), "the kernel is interrupted");
    ok(draws(NO_SYSTEM_CALL), "the kernel has no getrandom");
}


/* In a child, since what it takes away does not come back. */
static void
test_no_urandom(void)
{
    static const struct rlimit none = {0, 0};
    traceparent_ids_t ids;
    uint8_t id[TRACEPARENT_TRACE_ID_SIZE];
    int status, bad = 0;
    pid_t pid;

    pid = fork();

    if (pid == 0) {
        memset(&ids, 0, sizeof(ids));
        memset(id, 0xa5, sizeof(id));
        kernel = NO_SYSTEM_CALL;
        bad = setrlimit(RLIMIT_NOFILE, &none) != 0;
        bad |= traceparent_ids_span(&ids, id) != TRACEPARENT_ERR_RANDOM;
        bad |= id[0] != 0xa5 || id[7] != 0xa5;
        _exit(bad);
    }

    ok(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0,
        "neither getrandom nor a device to read: an error");
}


static int
untouched(const void *data, size_t len)
{
    const uint8_t *p = data;

    while (len > 0 && *p == 0xa5) {
        p++;
        len--;
    }

    return len == 0;
}


static void
test_errors(void)
{
    traceparent_ids_t ids;
    traceparent_t tp, parent;
    uint8_t id[TRACEPARENT_TRACE_ID_SIZE];

    memset(&ids, 0, sizeof(ids));
    memset(&tp, 0xa5, sizeof(tp));
    memset(&parent, 0x11, sizeof(parent));
    memset(id, 0xa5, sizeof(id));
    kernel = DENIED;

    ok(traceparent_ids_span(&ids, id) == TRACEPARENT_ERR_RANDOM
            && traceparent_ids_trace(&ids, id) == TRACEPARENT_ERR_RANDOM
            && untouched(id, sizeof(id)),
        "no random bytes: no id, and none written");
    ok(traceparent_new(&tp, &ids, 1) == TRACEPARENT_ERR_RANDOM
            && untouched(&tp, sizeof(tp)),
        "no random bytes: no new trace, and nothing written");
    ok(traceparent_child(&tp, &parent, &ids, 1) == TRACEPARENT_ERR_RANDOM
            && untouched(&tp, sizeof(tp)),
        "no random bytes: no child, and nothing written");

    kernel = WHOLE;
    traceparent_ids_span(&ids, id);
    ids.left = 1;
    memset(id, 0xa5, sizeof(id));
    kernel = DENIED;
    ok(traceparent_ids_trace(&ids, id) == TRACEPARENT_ERR_RANDOM
            && untouched(id, sizeof(id)),
        "random bytes for half an id: none written");

    ids.left = 2;
    ok(traceparent_new(&tp, &ids, 1) == TRACEPARENT_ERR_RANDOM
            && untouched(&tp, sizeof(tp)),
        "random bytes for a trace-id alone: nothing written");

    kernel = WHOLE;
    ok(traceparent_ids_trace(&ids, id) == 0 && !untouched(id, sizeof(id)),
        "the kernel has recovered");
}


static void
test_never_zero(void)
{
    static const uint8_t zeros[TRACEPARENT_TRACE_ID_SIZE];
    traceparent_ids_t ids;
    uint8_t id[TRACEPARENT_TRACE_ID_SIZE];

    memset(&ids, 0, sizeof(ids));
    traceparent_ids_span(&ids, id);

    /* As if the kernel had given zeros. */
    memset(ids.words, 0, sizeof(ids.words));
    ok(traceparent_ids_span(&ids, id) == 0 && memcmp(id, zeros, 8) != 0,
        "rule 12: a span-id is never zero");

    memset(ids.words, 0, sizeof(ids.words));
    ok(traceparent_ids_trace(&ids, id) == 0 && memcmp(id, zeros, 16) != 0,
        "rule 12: a trace-id is never zero");

    memset(ids.words, 0, sizeof(ids.words));
    ids.words[N_WORDS - 3] = 1;
    ids.left = N_WORDS;
    ok(traceparent_ids_trace(&ids, id) == 0 && ids.left == N_WORDS - 4,
        "one half of a trace-id may be zero");
}


/*
 * Ids made by a process, by two of its children and by a grandchild, all with
 * the stock that they inherited.
 */
static void
test_fork(void)
{
    enum { N = 4 * N_WORDS };
    static traceparent_ids_t ids;
    uint8_t(*drawn)[TRACEPARENT_SPAN_ID_SIZE];
    size_t size = 4 * N * sizeof(*drawn);
    unsigned i, who = 0;
    pid_t first, second;

    drawn = mmap(
        NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (!ok(drawn != MAP_FAILED, "memory for ids of all processes")) {
        return;
    }

    traceparent_ids_span(&ids, drawn[0]);

    first = fork();

    if (first == 0) {
        who = 1;

        /* Some of its own, so that its child inherits from it. */
        for (i = 0; i < 5; i++) {
            traceparent_ids_span(&ids, drawn[who * N + i]);
        }

        if (fork() == 0) {
            who = 2;
        }
    }

    second = first != 0 ? fork() : -1;

    if (second == 0) {
        who = 3;
    }

    for (i = who == 1 ? 5 : 0; i < N; i++) {
        traceparent_ids_span(&ids, drawn[who * N + i]);
    }

    if (who != 0) {
        while (wait(NULL) > 0) {
        }
        _exit(0);
    }

    while (wait(NULL) > 0) {
    }

    ok(first > 0 && second > 0 && all_differ(drawn, 4 * N),
        "rule 12: a fork never repeats the ids of another process");

    munmap(drawn, size);
}


/*
 * How often each bit is set in 65,536 ids: half of the times, with a standard
 * deviation of 128. Six of them are exceeded once in 2.6 million runs, with
 * 192 bits tested.
 */
static void
test_uniform(void)
{
    enum { N = 65536, SIGMA = 128 };
    static unsigned set[192];
    traceparent_ids_t ids;
    uint8_t id[24];
    unsigned i, bit, bad = 0;

    memset(&ids, 0, sizeof(ids));

    for (i = 0; i < N; i++) {
        traceparent_ids_trace(&ids, id);
        traceparent_ids_span(&ids, id + 16);

        for (bit = 0; bit < 192; bit++) {
            set[bit] += id[bit / 8] >> (bit % 8) & 1;
        }
    }

    for (bit = 0; bit < 192; bit++) {
        if (set[bit] < N / 2 - 6 * SIGMA || set[bit] > N / 2 + 6 * SIGMA) {
            diag("bit %u is set %u times", bit, set[bit]);
            bad++;
        }
    }

    ok(bad == 0, "rule 9: every bit of an id is set in half of them");
}


int
main(void)
{
    test_kernel();
    test_no_urandom();
    test_errors();
    test_never_zero();
    test_fork();
    test_uniform();

    return done_testing();
}
