/*
 * traceparent_parse() of anything. What it accepts must survive being sent and
 * read again.
 */

#include <string.h>

#include <traceparent/traceparent.h>

#include "check.h"


static int
is_zero(const uint8_t *id, size_t len)
{
    while (len > 0 && id[len - 1] == 0) {
        len--;
    }

    return len == 0;
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static traceparent_ids_t ids;
    uint8_t out[TRACEPARENT_LEN];
    traceparent_t tp, back, child;
    int err;

    memset(&tp, 0xa5, sizeof(tp));
    back = tp;
    err = traceparent_parse(&tp, data, size);

    if (err != 0) {
        CHECK(err <= TRACEPARENT_ERR_LENGTH && err >= TRACEPARENT_ERR_ZERO_ID);
        CHECK(memcmp(&tp, &back, sizeof(tp)) == 0);

        return 0;
    }

    CHECK(tp.version != 0xff);
    CHECK(!is_zero(tp.trace_id, sizeof(tp.trace_id)));
    CHECK(!is_zero(tp.parent_id, sizeof(tp.parent_id)));

    traceparent_format(out, &tp);
    CHECK(memcmp(out, "00-", 3) == 0);
    CHECK(traceparent_parse(&back, out, sizeof(out)) == 0);

    tp.version = 0;
    tp.flags &= TRACEPARENT_FLAGS_KNOWN;
    CHECK(memcmp(&back, &tp, sizeof(tp)) == 0);

    CHECK(traceparent_child(&child, &tp, &ids, size % 2 != 0) == 0);
    CHECK(memcmp(child.trace_id, tp.trace_id, sizeof(tp.trace_id)) == 0);
    CHECK(memcmp(child.parent_id, tp.parent_id, sizeof(tp.parent_id)) != 0);

    return 0;
}
