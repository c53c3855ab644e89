/*
 * Tests of traceparent.h. Rules are the numbered rules of docs/library.md, and
 * sections those of the W3C specification, Trace Context Level 2.
 */

#define _GNU_SOURCE /* MAP_ANONYMOUS */

#include <traceparent/sampler.h>
#include <traceparent/traceparent.h>
#include <traceparent/tracestate.h>

#include "input.h"
#include "tap.h"


#define TRACE  "0af7651916cd43dd8448eb211c80319c"
#define PARENT "b7ad6b7169203331"
#define VALID  "00-" TRACE "-" PARENT "-01"
#define FUTURE "cc-" TRACE "-" PARENT "-01"

static const traceparent_t valid = {
    {0x0a, 0xf7, 0x65, 0x19, 0x16, 0xcd, 0x43, 0xdd, 0x84, 0x48, 0xeb, 0x21,
        0x1c, 0x80, 0x31, 0x9c},
    {0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31},
    0,
    1,
};


static int
same(const traceparent_t *a, const traceparent_t *b)
{
    return memcmp(a->trace_id, b->trace_id, sizeof(a->trace_id)) == 0
           && memcmp(a->parent_id, b->parent_id, sizeof(a->parent_id)) == 0
           && a->version == b->version && a->flags == b->flags;
}


/*
 * Parses against both ends of the readable bytes; 1 if |dest| says the same
 * both times, and is untouched after an error.
 */
static int
parse(int *err, traceparent_t *dest, const void *src, size_t len)
{
    traceparent_t before, other;

    memset(&before, 0xa5, sizeof(before));
    other = before;
    *dest = before;

    *err = traceparent_parse(dest, input_at_end(src, len), len);

    if (traceparent_parse(&other, input_at_start(src, len), len) != *err) {
        return 0;
    }

    return same(dest, &other) && (*err == 0 || same(dest, &before));
}


static void
accepts(const char *src, uint8_t version, uint8_t flags, const char *name)
{
    traceparent_t dest;
    traceparent_t want = valid;
    int consistent, err;

    want.version = version;
    want.flags = flags;
    consistent = parse(&err, &dest, src, strlen(src));

    ok(consistent && err == 0 && same(&dest, &want), "%s", name);
}


static void
refuses(const char *src, int want, const char *name)
{
    traceparent_t dest;
    int consistent, err;

    consistent = parse(&err, &dest, src, strlen(src));

    if (!ok(consistent && err == want, "%s", name)) {
        diag("got %d, want %d", err, want);
    }
}


static void
test_version(void)
{
    accepts(VALID, 0, 1, "rule 2: version 00");
    accepts(FUTURE, 0xcc, 1, "rule 2: version cc");
    refuses("ff-" TRACE "-" PARENT "-01", TRACEPARENT_ERR_VERSION,
        "rule 2: version ff is invalid");
    refuses("ff-" TRACE "-" PARENT "-01-more", TRACEPARENT_ERR_VERSION,
        "rule 2: version ff is invalid, with more fields too");
    refuses("0A-" TRACE "-" PARENT "-01", TRACEPARENT_ERR_VERSION,
        "rule 2: a version in upper case");
    refuses("0x-" TRACE "-" PARENT "-01", TRACEPARENT_ERR_VERSION,
        "rule 2: a version that is not hex");
}


static void
test_fields(void)
{
    refuses("00-0af7651916cd43dd8448EB211c80319c-" PARENT "-01",
        TRACEPARENT_ERR_TRACE_ID, "rule 3: a trace-id in upper case");
    refuses("00-0af7651916cd43dd8448.b211c80319c-" PARENT "-01",
        TRACEPARENT_ERR_TRACE_ID, "rule 3: a trace-id that is not hex");
    refuses("00-00000000000000000000000000000000-" PARENT "-01",
        TRACEPARENT_ERR_ZERO_ID, "rule 3: a trace-id of zeros");
    refuses("00-" TRACE "-b7ad6b716920333F-01", TRACEPARENT_ERR_PARENT_ID,
        "rule 3: a parent-id in upper case");
    refuses("00-" TRACE "-b7ad6b716920333g-01", TRACEPARENT_ERR_PARENT_ID,
        "rule 3: a parent-id that is not hex");
    refuses("00-" TRACE "-0000000000000000-01", TRACEPARENT_ERR_ZERO_ID,
        "rule 3: a parent-id of zeros");
    refuses("cc-" TRACE "-0000000000000000-01", TRACEPARENT_ERR_ZERO_ID,
        "rule 3: a parent-id of zeros in a higher version");
    refuses("00-" TRACE "-" PARENT "-0A", TRACEPARENT_ERR_FLAGS,
        "rule 3: flags in upper case");
    refuses("00-" TRACE "-" PARENT "-g1", TRACEPARENT_ERR_FLAGS,
        "rule 3: flags that are not hex");
    refuses("00_" TRACE "-" PARENT "-01", TRACEPARENT_ERR_DELIMITER,
        "no delimiter behind the version");
    refuses("00-" TRACE "=" PARENT "-01", TRACEPARENT_ERR_DELIMITER,
        "no delimiter behind the trace-id");
    refuses("00-" TRACE "-" PARENT "001", TRACEPARENT_ERR_DELIMITER,
        "no delimiter behind the parent-id");
}


static void
test_zero_halves(void)
{
    char src[] = VALID;
    traceparent_t dest;
    unsigned i, bad = 0;
    int err;

    /* Ids with a single digit that is not 0 are not all zero. */
    for (i = 3; i < 52; i++) {
        memcpy(src, VALID, sizeof(src));

        if (i < 35) {
            memset(src + 3, '0', 32);
        } else if (i > 35) {
            memset(src + 36, '0', 16);
        } else {
            continue;
        }

        src[i] = '1';
        bad += !parse(&err, &dest, src, TRACEPARENT_LEN) || err != 0;
    }

    ok(bad == 0, "rule 3: one digit that is not 0 makes an id, anywhere");
}


static void
test_length(void)
{
    traceparent_t dest;
    unsigned bad = 0;
    size_t len;
    int err;

    refuses(VALID "-extra", TRACEPARENT_ERR_LENGTH,
        "rule 4: version 00 with one field more");
    refuses(VALID ".", TRACEPARENT_ERR_LENGTH,
        "rule 4: version 00 with one byte more");
    refuses(VALID "-", TRACEPARENT_ERR_LENGTH,
        "rule 4: version 00 with a delimiter more");

    for (len = 0; len < TRACEPARENT_LEN; len++) {
        bad += !parse(&err, &dest, VALID, len) || err != TRACEPARENT_ERR_LENGTH;
        bad += !parse(&err, &dest, FUTURE, len)
               || err != TRACEPARENT_ERR_LENGTH;
    }

    ok(bad == 0, "rules 4 and 5: every prefix is too short");
    ok(traceparent_parse(&dest, NULL, 0) == TRACEPARENT_ERR_LENGTH,
        "rule 4: nothing is too short");
}


static void
test_future(void)
{
    static char src[INPUT_MAX];
    traceparent_t dest;
    int consistent, err;

    accepts("01-" TRACE "-" PARENT "-01", 1, 1,
        "rule 5: a higher version of 55 bytes");
    accepts(FUTURE "-", 0xcc, 1, "rule 5: a higher version, empty field");
    accepts(FUTURE "-what the future, will be", 0xcc, 1,
        "rule 5: a higher version, more fields");
    accepts("fe-" TRACE "-" PARENT "-ff-01", 0xfe, 0xff, "rule 5: version fe");
    refuses(FUTURE ".x", TRACEPARENT_ERR_DELIMITER,
        "rule 5: a higher version, what follows is not '-'");
    refuses(FUTURE "0-", TRACEPARENT_ERR_DELIMITER,
        "rule 5: a higher version, flags of three digits");

    memset(src, '-', sizeof(src));
    memcpy(src, FUTURE, TRACEPARENT_LEN);
    consistent = parse(&err, &dest, src, sizeof(src));
    ok(consistent && err == 0, "rule 5: a higher version of 64 kB");
}


static void
test_white_space(void)
{
    static char src[INPUT_MAX];
    traceparent_t dest;
    int consistent, err;

    accepts(" " VALID, 0, 1, "rule 6: a space before");
    accepts(VALID " ", 0, 1, "rule 6: a space behind");
    accepts("\t" VALID "\t", 0, 1, "rule 6: tabs around");
    accepts(" \t \t" VALID "\t\t  ", 0, 1, "rule 6: much around");
    accepts("\t " FUTURE "-x y \t", 0xcc, 1, "rule 6: around a higher version");
    refuses("\n" VALID, TRACEPARENT_ERR_VERSION, "rule 6: not a line feed");
    refuses(
        VALID "\r", TRACEPARENT_ERR_LENGTH, "rule 6: not a carriage return");
    refuses("00- " TRACE "-" PARENT "-01", TRACEPARENT_ERR_LENGTH,
        "rule 6: not inside");
    refuses("          " VALID " x          ", TRACEPARENT_ERR_LENGTH,
        "rule 6: not before something else");
    refuses("                                                        ",
        TRACEPARENT_ERR_LENGTH, "rule 6: white space alone");

    memset(src, ' ', sizeof(src));
    memcpy(src + sizeof(src) / 2, VALID, TRACEPARENT_LEN);
    consistent = parse(&err, &dest, src, sizeof(src));
    ok(consistent && err == 0, "rule 6: 64 kB of it");
}


static void
test_flags(void)
{
    char src[] = VALID;
    uint8_t out[TRACEPARENT_LEN];
    traceparent_t dest;
    unsigned flags, bad = 0, bad_out = 0;
    int err;

    for (flags = 0; flags < 256; flags++) {
        snprintf(src + 53, 3, "%02x", flags);

        bad += !parse(&err, &dest, src, TRACEPARENT_LEN) || err != 0
               || dest.flags != flags;

        traceparent_format(out, &dest);
        bad_out += memcmp(out, src, 53) != 0 || out[53] != '0'
                   || out[54] != (uint8_t) ('0' + (flags & 3));
    }

    ok(bad == 0, "rule 8: all flags are read as they came");
    ok(bad_out == 0, "rule 8: only sampled and random are sent");
}


/* The grammar, as slowly and plainly as it can be said. */
static int
reference(const uint8_t *src, size_t len)
{
    static const char grammar[]
        = "hh-"
          "hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh-hhhhhhhhhhhhhhhh-hh";
    int zero;
    size_t i;

    if (len < 55) {
        return 0;
    }

    for (i = 0; i < 55; i++) {
        if (grammar[i] == 'h') {
            if (src[i] == '\0' || strchr("0123456789abcdef", src[i]) == NULL) {
                return 0;
            }

        } else if (src[i] != '-') {
            return 0;
        }
    }

    if (src[0] == 'f' && src[1] == 'f') {
        return 0;
    }

    if (len > 55 && ((src[0] == '0' && src[1] == '0') || src[55] != '-')) {
        return 0;
    }

    for (i = 3, zero = 1; i < 35; i++) {
        zero = zero && src[i] == '0';
    }

    if (zero) {
        return 0;
    }

    for (i = 36, zero = 1; i < 52; i++) {
        zero = zero && src[i] == '0';
    }

    return !zero;
}


/* Every byte of |src| replaced by every other. */
static void
test_every_byte(const char *src, const char *name)
{
    uint8_t mutated[128];
    size_t i, len = strlen(src);
    unsigned c, bad = 0, n_valid = 0;
    traceparent_t dest;
    int consistent, err;

    for (i = 0; i < len; i++) {
        memcpy(mutated, src, len);

        for (c = 0; c < 256; c++) {
            mutated[i] = (uint8_t) c;
            consistent = parse(&err, &dest, mutated, len);

            if (!consistent || (err == 0) != reference(mutated, len)) {
                diag("byte %d = %02x: %d", (int) i, c, err);
                bad++;
            }

            n_valid += err == 0;
        }
    }

    ok(bad == 0, "every byte replaced by every other, in %s", name);
    ok(n_valid >= 50 * 15 && n_valid < len * 256, "most of these are invalid");
}


/* Two bytes at a time: pairs of neighbours share a vector's lane. */
static void
test_pairs(void)
{
    static const uint8_t bytes[] = {0x00, 0x0a, ' ', '/', '0', '9', ':', '?',
        '@', 'A', 'F', 'W', '`', 'a', 'f', 'g', 0x7f, 0x80, 0xb0, 0xe1, 0xff};
    uint8_t mutated[TRACEPARENT_LEN];
    unsigned i, j, k, bad = 0;
    traceparent_t dest;
    int err;

    for (i = 0; i + 1 < sizeof(mutated); i++) {
        memcpy(mutated, VALID, sizeof(mutated));

        for (j = 0; j < sizeof(bytes); j++) {
            for (k = 0; k < sizeof(bytes); k++) {
                mutated[i] = bytes[j];
                mutated[i + 1] = bytes[k];

                err = traceparent_parse(&dest, mutated, sizeof(mutated));

                /* Trimmed, it is too short. */
                if ((err == 0) != reference(mutated, sizeof(mutated))) {
                    diag("byte %u = %02x %02x: %d", i, bytes[j], bytes[k], err);
                    bad++;
                }
            }
        }
    }

    ok(bad == 0, "every pair of neighbours replaced by critical bytes");
}


static void
random_bytes(uint8_t *dest, size_t len)
{
    while (len-- > 0) {
        *dest++ = (uint8_t) input_random();
    }
}


static void
test_round_trip(void)
{
    char want[TRACEPARENT_LEN + 1];
    uint8_t *out;
    traceparent_t tp, back;
    unsigned i, j, n, bad = 0;
    int err;

    for (i = 0; i < 20000; i++) {
        random_bytes(tp.trace_id, sizeof(tp.trace_id));
        random_bytes(tp.parent_id, sizeof(tp.parent_id));
        tp.parent_id[0] |= 1;
        tp.trace_id[15] |= 1;
        tp.flags = (uint8_t) input_below(4);
        tp.version = (uint8_t) input_below(255);

        n = (unsigned) sprintf(want, "00-");

        for (j = 0; j < sizeof(tp.trace_id); j++) {
            n += (unsigned) sprintf(want + n, "%02x", tp.trace_id[j]);
        }

        n += (unsigned) sprintf(want + n, "-");

        for (j = 0; j < sizeof(tp.parent_id); j++) {
            n += (unsigned) sprintf(want + n, "%02x", tp.parent_id[j]);
        }

        sprintf(want + n, "-%02x", tp.flags);

        /* One byte too many would hit the unreadable page. */
        out = output_at_end(TRACEPARENT_LEN);
        traceparent_format(out, &tp);
        bad += memcmp(out, want, TRACEPARENT_LEN) != 0 || out[-1] != '#';

        tp.version = 0;
        bad += !parse(&err, &back, want, TRACEPARENT_LEN) || err != 0
               || !same(&tp, &back);
    }

    ok(bad == 0, "what is formatted is parsed to the same, 20,000 times");
}


static void
test_new(void)
{
    static traceparent_ids_t ids;
    traceparent_t a, b;
    unsigned i, bad = 0;

    memset(&a, 0, sizeof(a));
    memset(&b, 0, sizeof(b));

    ok(traceparent_new(&a, &ids, 1) == 0
            && a.flags == (TRACEPARENT_FLAG_RANDOM | TRACEPARENT_FLAG_SAMPLED)
            && a.version == 0,
        "rule 9: a new trace has the random bit, and is sampled");
    ok(traceparent_new(&b, &ids, 0) == 0 && b.flags == TRACEPARENT_FLAG_RANDOM,
        "rule 9: a new trace has the random bit, and is not sampled");
    ok(memcmp(a.trace_id, b.trace_id, 16) != 0
            && memcmp(a.parent_id, b.parent_id, 8) != 0,
        "rule 12: new traces differ");

    for (i = 0; i < 256; i++) {
        a = valid;
        a.version = (uint8_t) i;
        a.flags = (uint8_t) i;

        bad += traceparent_child(&b, &a, &ids, i & 4) != 0 || b.version != 0
               || b.flags != ((i & 2) | (i & 4 ? 1 : 0))
               || memcmp(b.trace_id, a.trace_id, 16) != 0
               || memcmp(b.parent_id, a.parent_id, 8) == 0;
    }

    ok(bad == 0, "rules 9 and 10: a child keeps trace-id and random bit, and "
                 "has its own parent-id and sampled bit");

    b = a;
    ok(traceparent_child(&b, &b, &ids, 0) == 0
            && memcmp(b.trace_id, a.trace_id, 16) == 0
            && memcmp(b.parent_id, a.parent_id, 8) != 0
            && b.flags == TRACEPARENT_FLAG_RANDOM,
        "a child in the place of its parent");
}


static void
test_strerror(void)
{
    static const int errors[] = {TRACEPARENT_ERR_LENGTH,
        TRACEPARENT_ERR_VERSION, TRACEPARENT_ERR_DELIMITER,
        TRACEPARENT_ERR_TRACE_ID, TRACEPARENT_ERR_PARENT_ID,
        TRACEPARENT_ERR_FLAGS, TRACEPARENT_ERR_ZERO_ID, TRACEPARENT_ERR_RANDOM,
        TRACESTATE_ERR_KEY, TRACESTATE_ERR_VALUE, TRACESTATE_ERR_MEMBERS,
        TRACESTATE_ERR_DUPLICATE, TRACESTATE_ERR_SIZE, TRACESTATE_ERR_NOT_FOUND,
        TRACESTATE_ERR_COPY, TRACEPARENT_ERR_RATIO, TRACEPARENT_ERR_RATE,
        TRACEPARENT_ERR_BURST};
    const char *unknown = traceparent_strerror(-12345);
    const char *text;
    unsigned i, j, bad = 0;

    for (i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        text = traceparent_strerror(errors[i]);
        bad += strcmp(text, unknown) == 0 || text[strlen(text) - 1] == '.';

        for (j = 0; j < i; j++) {
            bad += strcmp(text, traceparent_strerror(errors[j])) == 0;
        }
    }

    ok(bad == 0, "every error has a sentence of its own");
    ok(strlen(unknown) > 0 && strlen(traceparent_strerror(1)) > 0,
        "an unknown error has one too");
}


static void
test_hex(void)
{
    uint8_t src[64], *dest;
    char want[129];
    size_t i, len;
    unsigned bad = 0;

    for (i = 0; i < sizeof(src); i++) {
        src[i] = (uint8_t) input_random();
    }

    for (len = 0; len <= sizeof(src); len++) {
        for (i = 0; i < len; i++) {
            sprintf(want + 2 * i, "%02x", src[i]);
        }

        dest = output_at_end(2 * len);
        traceparent_hex(dest, src, len);
        bad += memcmp(dest, want, 2 * len) != 0 || dest[-1] != '#';
    }

    ok(bad == 0, "hex of 0 to 64 bytes");

    for (i = 0, bad = 0; i < 256; i++) {
        memset(src, (int) i, 24);
        sprintf(want, "%02x%02x", (unsigned) i, (unsigned) i);
        dest = output_at_end(48);
        traceparent_hex(dest, src, 24);
        bad += memcmp(dest, want, 4) != 0 || memcmp(dest + 44, want, 4) != 0;
    }

    ok(bad == 0, "hex of every byte");
}


int
main(void)
{
    test_version();
    test_fields();
    test_zero_halves();
    test_length();
    test_future();
    test_white_space();
    test_flags();
    test_every_byte(VALID, "version 00");
    test_every_byte(FUTURE, "a higher version");
    test_every_byte(FUTURE "-x", "a higher version with more fields");
    test_every_byte(
        "00-ffffffffffffffffffffffffffffffff-ffffffffffffffff-09", "letters");
    test_pairs();
    test_round_trip();
    test_hex();
    test_new();
    test_strerror();

    return done_testing();
}
