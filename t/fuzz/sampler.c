/*
 * What sampler.h does with a tracestate. The first 16 bytes are the trace-id,
 * the next 8 the threshold to write; the rest is a tracestate header.
 */

#include <string.h>

#include <traceparent/ids.h>
#include <traceparent/sampler.h>
#include <traceparent/tracestate.h>

#include "check.h"


#define NONE TRACEPARENT_THRESHOLD_NONE

static const uint8_t ot[] = "ot";


/* Memory of exactly this size, so that a byte more is noticed. */
static uint8_t *
room(size_t len)
{
    uint8_t *p = malloc(len + (len == 0));

    CHECK(p != NULL);

    return p;
}


/* All other members of |a| are in |b|, in order, but at most |left| at the
 * end. */
static void
check_others(
    const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len, int left)
{
    tracestate_iter_t from = {a, a + a_len}, to = {b, b + b_len};
    tracestate_member_t x, y = {{NULL, 0}, {NULL, 0}};
    traceparent_view_t value;

    if (tracestate_get(&value, b, b_len, ot, 2) == 0) {
        CHECK(tracestate_next(&to, &y) == 1);
        CHECK(value.data == y.value.data);
    }

    while (tracestate_next(&from, &x) == 1) {
        if (x.key.len == 2 && memcmp(x.key.data, ot, 2) == 0) {
            continue;
        }

        if (tracestate_next(&to, &y) != 1) {
            CHECK(left-- > 0);
            continue;
        }

        CHECK(x.key.len == y.key.len && x.value.len == y.value.len);
        CHECK(memcmp(x.key.data, y.key.data, x.key.len) == 0);
        CHECK(memcmp(x.value.data, y.value.data, x.value.len) == 0);
    }

    CHECK(tracestate_next(&to, &y) == 0);
}


static void
check_write(const uint8_t *id, const uint8_t *list, size_t len, int n,
    uint64_t threshold)
{
    traceparent_sampling_t before, after;
    size_t dest_len = len + TRACEPARENT_THRESHOLD_ROOM;
    uint8_t *dest = room(dest_len);
    traceparent_view_t value;
    int rc, n_after;

    traceparent_sampler_read(&before, id, list, len);
    CHECK(before.randomness < NONE && before.threshold <= NONE);

    rc = traceparent_sampler_write(dest, &dest_len, list, len, threshold);
    CHECK(rc == 0 || rc == 1);

    if (rc == 0) {
        /* or there was no room for it in a long value */
        CHECK(before.threshold == threshold
              || (tracestate_get(&value, list, len, ot, 2) == 0
                  && value.len > TRACESTATE_VALUE_MAX - 18));
        CHECK(dest_len == len + TRACEPARENT_THRESHOLD_ROOM);
        free(dest);
        return;
    }

    n_after = tracestate_validate(dest, dest_len);
    CHECK(n_after >= n - 1 && n_after <= n + 1);
    check_others(list, len, dest, dest_len, n == TRACESTATE_MEMBERS_MAX);

    traceparent_sampler_read(&after, id, dest, dest_len);
    CHECK(after.threshold == threshold
          || (after.threshold == NONE
              && tracestate_get(&value, list, len, ot, 2) == 0
              && value.len > TRACESTATE_VALUE_MAX - 18));
    CHECK(after.randomness == before.randomness);

    /* once is enough */
    CHECK(traceparent_sampler_write(
              NULL, &dest_len, dest, dest_len, after.threshold)
          == 0);
    free(dest);
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    traceparent_view_t header;
    uint64_t threshold;
    uint8_t *list, *copy;
    size_t len;
    int n;

    if (size < 24) {
        return 0;
    }

    memcpy(&threshold, data + 16, sizeof(threshold));
    threshold >>= 8;

    header.data = data + 24;
    header.len = size - 24;
    len = header.len + 1;
    list = room(len);
    n = tracestate_combine(list, &len, &header, 1);

    if (n >= 0) {
        /* of exactly its size */
        copy = room(len);
        memcpy(copy, list, len);
        check_write(data, copy, len, n, threshold);
        check_write(data, copy, len, n, threshold & 0xff);
        check_write(data, copy, len, n, NONE);
        free(copy);
    }

    free(list);

    return 0;
}
