#include <string.h>

#include <traceparent/sampler.h>
#include <traceparent/traceparent.h>
#include <traceparent/tracestate.h>

#include "hex.h"


/* Where the fields of version 00 are (section 3.2.2). */
#define TRACE_ID  3
#define PARENT_ID 36
#define FLAGS     53

#define VERSION_INVALID 0xff

/* Keeps the usual path short: no registers are saved for the other one. */
#define COLD __attribute__((cold, noinline))

#define IDS_SIZE (TRACEPARENT_TRACE_ID_SIZE + TRACEPARENT_SPAN_ID_SIZE)


static int
is_ows(uint8_t c)
{
    return c == ' ' || c == '\t';
}


/* |ids| is the trace-id and the parent-id (sections 3.2.2.3 and 3.2.2.4). */
static inline int
has_zero_id(const uint8_t *ids)
{
    uint64_t words[IDS_SIZE / sizeof(uint64_t)];

    memcpy(words, ids, sizeof(words));

    return (words[0] | words[1]) == 0 || words[2] == 0;
}


static inline void
set(traceparent_t *dest, const uint8_t *ids, unsigned version, unsigned flags)
{
    memcpy(dest->trace_id, ids, sizeof(dest->trace_id));
    memcpy(
        dest->parent_id, ids + sizeof(dest->trace_id), sizeof(dest->parent_id));
    dest->version = (uint8_t) version;
    dest->flags = (uint8_t) flags;
}


/*
 * Parses what nearly all callers send: version 00, no white space, flags below
 * 0a. Returns 0, or -1 with |dest| untouched: then it may still be valid.
 */
static inline int
parse_usual(traceparent_t *dest, const uint8_t *src)
{
    uint8_t ids[IDS_SIZE];
    uint8_t flags = (uint8_t) (src[FLAGS + 1] - '0');

    if (memcmp(src, "00-", 3) != 0 || src[PARENT_ID - 1] != '-'
        || memcmp(src + FLAGS - 1, "-0", 2) != 0 || flags > 9
        || hex_decode_24(ids, src + TRACE_ID, src + PARENT_ID) != 0
        || has_zero_id(ids)) {
        return -1;
    }

    set(dest, ids, 0, flags);

    return 0;
}


/* Takes every header, and names what is wrong with it. */
static COLD int
parse_any(traceparent_t *dest, const uint8_t *src, size_t len)
{
    uint8_t ids[IDS_SIZE];
    unsigned version, flags;

    while (len > 0 && is_ows(src[len - 1])) {
        len--;
    }

    while (len > 0 && is_ows(src[0])) {
        src++;
        len--;
    }

    if (len < TRACEPARENT_LEN) {
        return TRACEPARENT_ERR_LENGTH;
    }

    version = hex_byte(src);

    if (version >= VERSION_INVALID) {
        return TRACEPARENT_ERR_VERSION;
    }

    /* A higher version may have more fields (section 3.2.4). */
    if (len > TRACEPARENT_LEN) {
        if (version == 0) {
            return TRACEPARENT_ERR_LENGTH;
        }

        if (src[TRACEPARENT_LEN] != '-') {
            return TRACEPARENT_ERR_DELIMITER;
        }
    }

    if (src[TRACE_ID - 1] != '-' || src[PARENT_ID - 1] != '-'
        || src[FLAGS - 1] != '-') {
        return TRACEPARENT_ERR_DELIMITER;
    }

    if (hex_decode(ids, src + TRACE_ID, TRACEPARENT_TRACE_ID_SIZE) != 0) {
        return TRACEPARENT_ERR_TRACE_ID;
    }

    if (hex_decode(ids + TRACEPARENT_TRACE_ID_SIZE, src + PARENT_ID,
            TRACEPARENT_SPAN_ID_SIZE)
        != 0) {
        return TRACEPARENT_ERR_PARENT_ID;
    }

    flags = hex_byte(src + FLAGS);

    if (flags > HEX_BYTE_MAX) {
        return TRACEPARENT_ERR_FLAGS;
    }

    if (has_zero_id(ids)) {
        return TRACEPARENT_ERR_ZERO_ID;
    }

    set(dest, ids, version, flags);

    return 0;
}


int
traceparent_parse(traceparent_t *dest, const uint8_t *src, size_t len)
{
    if (len == TRACEPARENT_LEN && parse_usual(dest, src) == 0) {
        return 0;
    }

    return parse_any(dest, src, len);
}


void
traceparent_format(uint8_t *dest, const traceparent_t *src)
{
    memcpy(dest, "00-", 3);
    hex_encode_16(dest + TRACE_ID, src->trace_id);
    dest[PARENT_ID - 1] = '-';
    hex_encode_8(dest + PARENT_ID, src->parent_id);
    memcpy(dest + FLAGS - 1, "-0", 2);
    dest[FLAGS + 1] = (uint8_t) ('0' + (src->flags & TRACEPARENT_FLAGS_KNOWN));
}


int
traceparent_new(traceparent_t *dest, traceparent_ids_t *ids, int sampled)
{
    uint8_t trace_id[TRACEPARENT_TRACE_ID_SIZE];
    int err;

    err = traceparent_ids_trace(ids, trace_id);

    if (err == 0) {
        err = traceparent_ids_span(ids, dest->parent_id);
    }

    if (err != 0) {
        return err;
    }

    memcpy(dest->trace_id, trace_id, sizeof(trace_id));
    dest->version = 0;
    dest->flags = TRACEPARENT_FLAG_RANDOM;

    if (sampled) {
        dest->flags |= TRACEPARENT_FLAG_SAMPLED;
    }

    return 0;
}


int
traceparent_child(traceparent_t *dest, const traceparent_t *parent,
    traceparent_ids_t *ids, int sampled)
{
    uint8_t flags = parent->flags & TRACEPARENT_FLAG_RANDOM;
    int err;

    err = traceparent_ids_span(ids, dest->parent_id);

    if (err != 0) {
        return err;
    }

    /* memmove() since |dest| may be |parent|. */
    memmove(dest->trace_id, parent->trace_id, sizeof(dest->trace_id));
    dest->version = 0;
    dest->flags = flags;

    if (sampled) {
        dest->flags |= TRACEPARENT_FLAG_SAMPLED;
    }

    return 0;
}


const char *
traceparent_strerror(int err)
{
    switch (err) {
    case 0:
        return "no error";
    case TRACEPARENT_ERR_LENGTH:
        return "traceparent is shorter than 55 bytes, or longer in version 00";
    case TRACEPARENT_ERR_VERSION:
        return "the version is ff, or not two lower-case hex digits";
    case TRACEPARENT_ERR_DELIMITER:
        return "a field does not end in '-'";
    case TRACEPARENT_ERR_TRACE_ID:
        return "the trace-id is not 32 lower-case hex digits";
    case TRACEPARENT_ERR_PARENT_ID:
        return "the parent-id is not 16 lower-case hex digits";
    case TRACEPARENT_ERR_FLAGS:
        return "the trace-flags are not two lower-case hex digits";
    case TRACEPARENT_ERR_ZERO_ID:
        return "the trace-id or the parent-id is all zero";
    case TRACEPARENT_ERR_RANDOM:
        return "the kernel gave no random bytes";
    case TRACESTATE_ERR_KEY:
        return "a tracestate key breaks the grammar";
    case TRACESTATE_ERR_VALUE:
        return "a tracestate value breaks the grammar";
    case TRACESTATE_ERR_MEMBERS:
        return "tracestate has more than 32 members";
    case TRACESTATE_ERR_DUPLICATE:
        return "a tracestate key comes twice";
    case TRACESTATE_ERR_SIZE:
        return "the destination is too small for the tracestate";
    case TRACESTATE_ERR_NOT_FOUND:
        return "no tracestate member has that key";
    case TRACESTATE_ERR_COPY:
        return "a list with empty members or white space around members";
    case TRACEPARENT_ERR_RATIO:
        return "the ratio is neither 0 nor from 2^-56 to 1";
    case TRACEPARENT_ERR_RATE:
        return "the rate is not above 0, or above 10^9 per second";
    case TRACEPARENT_ERR_BURST:
        return "the burst is 0, or takes more than two years to fill";
    default:
        return "unknown error";
    }
}
