/* Tests of sampler.h. Pages are those of the OpenTelemetry specification that
 * it names. */

#define _GNU_SOURCE /* MAP_ANONYMOUS, INFINITY, NAN, fork() */

#include <math.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <traceparent/sampler.h>
#include <traceparent/traceparent.h>
#include <traceparent/tracestate.h>

#include "input.h"
#include "tap.h"


#define NONE   TRACEPARENT_THRESHOLD_NONE
#define SECOND UINT64_C(1000000000)

#define A16  "aaaaaaaaaaaaaaaa"
#define A240 A16 A16 A16 A16 A16 A16 A16 A16 A16 A16 A16 A16 A16 A16 A16


/* Its right-most 56 bits are 0xa1000000000007. */
static const uint8_t trace_id[TRACEPARENT_TRACE_ID_SIZE]
    = {1, 2, 3, 4, 5, 6, 7, 8, 0xff, 0xa1, 0, 0, 0, 0, 0, 7};

#define RANDOMNESS UINT64_C(0xa1000000000007)


static uint64_t
threshold_of(double ratio)
{
    uint64_t threshold = 12345;

    if (traceparent_sampler_threshold(&threshold, ratio) != 0) {
        diag("no threshold of %g", ratio);
        return 12345;
    }

    return threshold;
}


/*
 * Writes with much room, with just enough and with a byte too few. |text| gets
 * the list that is to be sent, with a NUL. Returns what the calls returned, or
 * -1000 if they do not fit together.
 */
static int
write_list(char *text, const char *src, uint64_t threshold)
{
    size_t len = strlen(src), much = len + TRACEPARENT_THRESHOLD_ROOM, n = much;
    const uint8_t *list = input_at_end(src, len);
    uint8_t *dest = output_at_end(much);
    int rc = traceparent_sampler_write(dest, &n, list, len, threshold);

    if (dest[-1] != '#' || (rc != 1 && n != much)) {
        return -1000;
    }

    if (rc != 1) {
        memcpy(text, src, len + 1);
        return rc;
    }

    memcpy(text, dest, n);
    text[n] = '\0';
    much = n;

    dest = output_at_end(much);

    if (traceparent_sampler_write(dest, &n, list, len, threshold) != 1
        || n != much || memcmp(dest, text, n) != 0 || dest[-1] != '#') {
        return -1000;
    }

    if (much > 0) {
        n = much - 1;
        dest = output_at_end(n);

        if (traceparent_sampler_write(dest, &n, list, len, threshold)
                != TRACESTATE_ERR_SIZE
            || n != much - 1 || dest[-1] != '#') {
            return -1000;
        }
    }

    return rc;
}


static void
writes(const char *src, uint64_t threshold, int want, const char *want_text,
    const char *name)
{
    char text[INPUT_MAX] = "";
    int rc = write_list(text, src, threshold);

    if (!ok(rc == want && strcmp(text, want_text) == 0, "%s", name)) {
        diag("got %d, \"%s\"", rc, text);
        diag("want %d, \"%s\"", want, want_text);
    }
}


static void
reads(
    const char *list, uint64_t threshold, uint64_t randomness, const char *name)
{
    traceparent_sampling_t got;
    size_t len = strlen(list);

    traceparent_sampler_read(&got, trace_id, input_at_end(list, len), len);

    if (!ok(got.threshold == threshold && got.randomness == randomness,
            "\"%s\": %s", list, name)) {
        diag("got %llx, %llx", (unsigned long long) got.threshold,
            (unsigned long long) got.randomness);
    }
}


static void
has_text(double ratio, const char *want)
{
    char text[INPUT_MAX];

    write_list(text, "", threshold_of(ratio));

    if (!ok(strcmp(text, want) == 0, "ratio %.9g is \"%s\"", ratio, want)) {
        diag("got \"%s\"", text);
    }
}


static void
test_ratio(void)
{
    static const double bad[] = {-1, -0.1, -1e-300, 0x1p-57, 0x1.fffp-57,
        5e-324, 1.0000001, 2, 1e300, INFINITY, -INFINITY, NAN};
    uint64_t threshold = 77;
    unsigned i, accepted = 0;

    /* the table of "Converting floating-point probability to threshold value",
     * with the precision of 4 */
    has_text(1, "ot=th:0");
    has_text(1 / 2., "ot=th:8");
    has_text(1 / 3., "ot=th:aaab");
    has_text(1 / 4., "ot=th:c");
    has_text(1 / 5., "ot=th:cccd");
    has_text(1 / 8., "ot=th:e");
    has_text(1 / 10., "ot=th:e666");
    has_text(1 / 16., "ot=th:f");
    has_text(1 / 100., "ot=th:fd70a");
    has_text(1 / 1000., "ot=th:ffbe77");
    has_text(1 / 10000., "ot=th:fff9724");
    has_text(1 / 100000., "ot=th:ffff583a");
    has_text(1 / 1000000., "ot=th:ffffef39");

    has_text(0.06, "ot=th:f0a3d");
    has_text(0.07, "ot=th:ee148");
    has_text(0.07 / 16, "ot=th:fee148");
    has_text(0.9999, "ot=th:0007");
    has_text(0.999999, "ot=th:0");
    has_text(0x1p-55, "ot=th:fffffffffffffe");
    has_text(0x1p-56, "ot=th:ffffffffffffff");
    has_text(1.6 * 0x1p-56, "ot=th:fffffffffffffe");
    has_text(0, "");
    has_text(-0.0, "");

    ok(threshold_of(0) == NONE && threshold_of(1) == 0,
        "ratio 0 is above, and ratio 1 not above any randomness");

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        accepted += traceparent_sampler_threshold(&threshold, bad[i])
                        != TRACEPARENT_ERR_RATIO
                    || threshold != 77;
    }

    ok(accepted == 0, "other ratios are refused, and nothing is written");
}


/* How many hex digits a list has whose only member is th. */
static int
digits_of(uint64_t threshold)
{
    char text[INPUT_MAX];

    write_list(text, "", threshold);

    return (int) (strlen(text) - strlen("ot=th:"));
}


static double
random_ratio(void)
{
    double fraction = (double) (input_random() >> 11) * 0x1p-53;

    /* all magnitudes down to 10^-12 */
    return ldexp(0.5 + fraction / 2, -(int) input_below(39));
}


static void
test_accuracy(void)
{
    enum { N = 100000 };
    uint64_t a, b;
    double ratio, other, got;
    unsigned i, missed = 0, disordered = 0, longer = 0, too_long = 0;
    int exponent, digits;

    for (i = 0; i < N; i++) {
        ratio = random_ratio();
        a = threshold_of(ratio);
        got = (double) (NONE - a) * 0x1p-56;
        missed += got / ratio - 1 >= 1e-4 || got / ratio - 1 <= -1e-4;

        other = i % 2 ? random_ratio() : ratio * (1 - 1e-5);
        b = threshold_of(other);
        disordered += ratio > other ? a > b : a < b;

        frexp(ratio, &exponent);
        digits = digits_of(a) - (4 + -exponent / 4);
        longer += digits == 1;
        too_long += digits > 1;
    }

    ok(missed == 0, "ratios are held to better than 1 in 10,000");
    ok(disordered == 0, "of two ratios the higher has no higher threshold");
    ok(too_long == 0 && longer > 0 && longer < N / 20,
        "few ratios need more than 4 digits behind the f's, and then one");
}


static void
test_read(void)
{
    reads("", NONE, RANDOMNESS, "nothing is known");
    reads("ot=th:8", UINT64_C(8) << 52, RANDOMNESS, "zeros follow");
    reads("ot=th:08", UINT64_C(8) << 48, RANDOMNESS, "zeros in front count");
    reads("ot=th:0", 0, RANDOMNESS, "all traces");
    reads("ot=th:80000", UINT64_C(8) << 52, RANDOMNESS, "zeros behind");
    reads("ot=th:00000000000000", 0, RANDOMNESS, "14 zeros");
    reads("ot=th:0123456789abcd", UINT64_C(0x0123456789abcd), RANDOMNESS,
        "14 digits");
    reads("ot=th:ffffffffffffff", NONE - 1, RANDOMNESS, "the highest");
    reads("ot=th:efef", UINT64_C(0xefef) << 40, RANDOMNESS, "letters");

    reads("ot=th:", NONE, RANDOMNESS, "no digit");
    reads("ot=th:000000000000000", NONE, RANDOMNESS, "15 digits");
    reads("ot=th:8g", NONE, RANDOMNESS, "a letter that is no digit");
    reads("ot=th:A", NONE, RANDOMNESS, "upper case");
    reads("ot=th:0x8", NONE, RANDOMNESS, "0x");
    reads("ot=th:-8", NONE, RANDOMNESS, "a sign");
    reads("ot=th: 8", NONE, RANDOMNESS, "a space");
    reads("ot= th:8", NONE, RANDOMNESS, "a space before it");
    reads("ot=th", NONE, RANDOMNESS, "no value");
    reads("ot=th8", NONE, RANDOMNESS, "no colon");
    reads("ot=TH:8", NONE, RANDOMNESS, "a key in upper case");
    reads("ot=xth:8", NONE, RANDOMNESS, "a part of a key");
    reads("ot=th:8;th:8", NONE, RANDOMNESS, "twice");
    reads("ot=th:8;th:", NONE, RANDOMNESS, "twice, once without digits");

    reads("ot=rv:0123456789abcd", NONE, UINT64_C(0x0123456789abcd),
        "the randomness in full");
    reads("ot=rv:00000000000000", NONE, 0, "the lowest randomness");
    reads("ot=rv:ffffffffffffff", NONE, NONE - 1, "the highest randomness");
    reads("ot=rv:0123456789abc", NONE, RANDOMNESS, "13 digits");
    reads("ot=rv:0123456789abcde", NONE, RANDOMNESS, "15 digits");
    reads("ot=rv:0123456789abcg", NONE, RANDOMNESS, "not all are digits");
    reads("ot=rv:0123456789ABCD", NONE, RANDOMNESS, "upper case");
    reads("ot=rv:", NONE, RANDOMNESS, "no digit");
    reads("ot=rv:0123456789abcd;rv:0123456789abcd", NONE, RANDOMNESS, "twice");

    reads("ot=th:c;rv:0123456789abcd", UINT64_C(0xc) << 52,
        UINT64_C(0x0123456789abcd), "both");
    reads("ot=rv:0123456789abcd;th:c", UINT64_C(0xc) << 52,
        UINT64_C(0x0123456789abcd), "both, the other way round");
    reads("ot=rv:x;th:c", UINT64_C(0xc) << 52, RANDOMNESS,
        "th does not suffer from rv");
    reads("ot=th:x;rv:0123456789abcd", NONE, UINT64_C(0x0123456789abcd),
        "rv does not suffer from th");
    reads("ot=p:8;th:c;r:62", UINT64_C(0xc) << 52, RANDOMNESS, "among others");
    reads("ot=;;th:c;", UINT64_C(0xc) << 52, RANDOMNESS, "among empty ones");

    reads("a=1,ot=th:c", UINT64_C(0xc) << 52, RANDOMNESS, "the last member");
    reads("ot=th:c,a=1", UINT64_C(0xc) << 52, RANDOMNESS, "the first member");
    reads("a=1,ot=th:c,b=2", UINT64_C(0xc) << 52, RANDOMNESS, "in between");
    reads("a=th:c", NONE, RANDOMNESS, "another's member");
    reads("t@ot=th:c,aot=th:4,ota=k:1;th:8", NONE, RANDOMNESS, "like keys");
    reads("a=ot=th:c", NONE, RANDOMNESS, "another's value");
    reads("ot", NONE, RANDOMNESS, "no list at all");
    reads("a=1,", NONE, RANDOMNESS, "a comma at the end");
}


static void
test_write(void)
{
    const uint64_t th = UINT64_C(0xfd70a) << 36;

    writes("", th, 1, "ot=th:fd70a", "a new list");
    writes("a=1,b=2", th, 1, "ot=th:fd70a,a=1,b=2", "a new member is in front");
    writes("a=1,ot=th:8,b=2", th, 1, "ot=th:fd70a,a=1,b=2",
        "a changed member goes to the front");
    writes("a=1,ot=th:fd70a,b=2", th, 0, "a=1,ot=th:fd70a,b=2",
        "what is so already does not change");
    writes("ot=th:fd70a0000", th, 0, "ot=th:fd70a0000",
        "nor what says the same in more digits");
    writes("ot=th:ff", 0, 1, "ot=th:0", "a threshold of 0");
    writes("ot=th:0", NONE - 1, 1, "ot=th:ffffffffffffff", "all 14 digits");
    writes("ot=th:0", 1, 1, "ot=th:00000000000001", "the lowest above 0");
    writes("ot=th:0", UINT64_C(0x00f00) << 36, 1, "ot=th:00f",
        "zeros in front stay, those behind are cut");

    writes("ot=p:8;th:c;r:62,a=1", th, 1, "ot=p:8;r:62;th:fd70a,a=1",
        "other sub-keys stay");
    writes("ot=rv:0123456789abcd", th, 1, "ot=rv:0123456789abcd;th:fd70a",
        "rv stays");
    writes("ot=rv:nonsense;what ever;xth:1", th, 1,
        "ot=rv:nonsense;what ever;xth:1;th:fd70a",
        "what cannot be understood stays");
    writes("ot=th:nonsense", th, 1, "ot=th:fd70a", "a bad th does not");
    writes("ot=th:fd70a;k:1;th:fd70a", th, 1, "ot=k:1;th:fd70a",
        "nor one that comes twice");
    writes("ot=;;k:1;;th:c;", th, 1, "ot=k:1;th:fd70a", "nor empty ones");

    writes("", NONE, 0, "", "nothing to remove from nothing");
    writes("a=1,ot=k:1", NONE, 0, "a=1,ot=k:1", "no th to remove");
    writes("ot=th:8", NONE, 1, "", "no member is left");
    writes("a=1,ot=th:8,b=2", NONE, 1, "a=1,b=2", "no sub-key is left");
    writes("a=1,ot=k:1;th:8", NONE, 1, "ot=k:1,a=1", "a sub-key is left");
    writes("a=1,ot=th:nonsense", NONE, 1, "a=1", "a bad th is removed");
    writes("ot=th:8;th:8", NONE, 1, "", "th is removed twice");
    writes("ot=th:8", NONE + 1, 1, "", "more than none is none");
    writes(
        "a=1", NONE + 1, 0, "a=1", "and changes nothing where there is none");
    writes("a=1,ot=rv:0123456789abcd ;th:8", NONE, 1,
        "ot=rv:0123456789abcd ;,a=1", "no value ends in a space");
    writes("ot=rv:0123456789abcd ;th:8;rv:0123456789abcd", th, 1,
        "ot=rv:0123456789abcd ;rv:0123456789abcd;th:fd70a",
        "what is no rv does not become one");
}


static void
test_write_limits(void)
{
    const uint64_t th = UINT64_C(0xfd70a) << 36;
    char list[INPUT_MAX], want[INPUT_MAX];
    size_t n;

    for (n = 0; n < 32; n++) {
        sprintf(list + 6 * n, "a%02d=1,", (int) n);
    }

    list[6 * n - 1] = '\0';

    sprintf(want, "ot=th:fd70a,%.*s", (int) strlen(list) - 6, list);
    writes(list, th, 1, want, "of 33 members the right-most leaves");

    memcpy(list + strlen(list) - 5, "ot=th", 5);
    strcat(list, ":8");
    writes(list, th, 1, want, "of 32 members none leaves");

    writes("ot=" A240 "1234567", th, 1, "ot=" A240 "1234567;th:fd70a",
        "a value of 256");
    writes("ot=" A240 "12345678", th, 0, "ot=" A240 "12345678",
        "nothing is done for a value of 257");
    writes("a=1,ot=" A240 "12345678;th:0", th, 1, "ot=" A240 "12345678,a=1",
        "th is removed rather than a value of 257 or a wrong th");
    writes("ot=" A240 "1234567890123456", th, 0, "ot=" A240 "1234567890123456",
        "nothing is done for a value that is full already");

    writes("ot=" A240 A16 "a", th, TRACESTATE_ERR_VALUE, "ot=" A240 A16 "a",
        "a list with a value of 257");
    writes("ot=k:1,b", th, TRACESTATE_ERR_KEY, "ot=k:1,b", "a list with a key");
    writes("a=1,a=1", th, TRACESTATE_ERR_DUPLICATE, "a=1,a=1",
        "a list with a key twice");
    writes("ot=th:8,b", NONE, TRACESTATE_ERR_KEY, "ot=th:8,b",
        "a list with a key, when th is removed");
}


static void
follows(const char *list, int sampled, uint64_t want, const char *name)
{
    traceparent_sampling_t sampling;

    traceparent_sampler_read(
        &sampling, trace_id, (const uint8_t *) list, strlen(list));
    ok(traceparent_sampler_follow(&sampling, sampled) == want, "\"%s\", %s",
        list, name);
}


static void
test_follow(void)
{
    const uint64_t th8 = UINT64_C(8) << 52, thc = UINT64_C(0xc) << 52;

    follows("ot=th:8", 1, th8, "sampled: kept");
    follows("ot=th:8", TRACEPARENT_FLAG_RANDOM, th8, "any bit is yes");
    follows("ot=th:8", 0, NONE, "not sampled: removed");
    follows("ot=th:c", 1, NONE, "sampled: removed");
    follows("ot=th:c", 0, thc, "not sampled: kept");
    follows("ot=th:c;rv:c0000000000000", 1, thc, "sampled: kept");
    follows("ot=th:c;rv:c0000000000000", 0, NONE, "not sampled: removed");
    follows("ot=th:8;rv:7fffffffffffff", 1, NONE, "sampled: removed");
    follows("ot=th:a1000000000007", 1, UINT64_C(0xa1000000000007),
        "sampled: the randomness itself is enough");
    follows("ot=th:a1000000000008", 1, NONE, "sampled: and one more is not");
    follows("", 1, NONE, "sampled: nothing to keep");
    follows("", 0, NONE, "not sampled: nothing to keep");
}


/* A hop with a ratio: decides, and changes the list. */
static int
hop(char *list, const uint8_t *id, double ratio)
{
    char sent[INPUT_MAX];
    traceparent_sampling_t sampling;
    uint64_t threshold = threshold_of(ratio);
    int sampled;

    traceparent_sampler_read(
        &sampling, id, (const uint8_t *) list, strlen(list));
    sampled = sampling.randomness >= threshold;

    if (write_list(sent, list, sampled ? threshold : NONE) < 0) {
        diag("a hop cannot write");
        exit(2);
    }

    strcpy(list, sent);

    return sampled;
}


static void
test_hops(const char *received, const char *name)
{
    enum { N = 100000 };
    static traceparent_ids_t ids;
    uint8_t id[TRACEPARENT_TRACE_ID_SIZE];
    char list[INPUT_MAX];
    int first, second, lower;
    unsigned i, n_first = 0, n_lower = 0, different = 0, outside = 0, wrong = 0;

    for (i = 0; i < N; i++) {
        if (traceparent_ids_trace(&ids, id) != 0) {
            exit(2);
        }

        sprintf(list, received, (unsigned long long) (input_random() >> 8));

        first = hop(list, id, 0.1);
        wrong += (strstr(list, "th:e666") != NULL) != first;
        second = hop(list, id, 0.1);
        lower = hop(list, id, 0.02);
        wrong += (strstr(list, "th:fae14") != NULL) != lower;

        n_first += first;
        n_lower += lower;
        different += first != second;
        outside += lower && !first;
    }

    /* 5 standard deviations, of 95 and 44 */
    ok(n_first > 10000 - 475 && n_first < 10000 + 475,
        "%s: ratio 0.1 picks %u of 100,000 traces", name, n_first);
    ok(n_lower > 2000 - 221 && n_lower < 2000 + 221,
        "%s: ratio 0.02 picks %u of 100,000 traces", name, n_lower);
    ok(different == 0, "%s: a second hop with one ratio picks the same", name);
    ok(outside == 0, "%s: a hop with a lower ratio picks some of these", name);
    ok(wrong == 0, "%s: th is that of the last that has sampled", name);
}


/* How many of |n| that come at the same time are given. */
static unsigned
take(const traceparent_rate_t *rate, uint64_t *word, uint64_t now, unsigned n)
{
    unsigned given = 0;
    int rc;

    while (n-- > 0) {
        rc = traceparent_rate_take(rate, word, now);

        if (rc != 0 && rc != 1) {
            return 1000000;
        }

        given += (unsigned) rc;
    }

    return given;
}


/* How many are given in |seconds|, one being asked for every |step| ns. */
static double
given_in(double per_second, unsigned burst, double seconds, uint64_t step)
{
    traceparent_rate_t rate;
    uint64_t word = 0, start = 5 * SECOND, now;
    double given = 0;

    if (traceparent_rate_init(&rate, per_second, burst) != 0) {
        return -1;
    }

    for (now = start; (double) (now - start) < seconds * 1e9; now += step) {
        given += traceparent_rate_take(&rate, &word, now);
    }

    return given;
}


static void
is_near(double got, double want, double tolerance, const char *name)
{
    if (!ok(got >= want * (1 - tolerance) && got <= want * (1 + tolerance),
            "%s", name)) {
        diag("got %g, want %g", got, want);
    }
}


static void
test_rate_init(void)
{
    static const double bad[] = {0, -0.0, -1, 1e9 + 1, INFINITY, NAN};
    traceparent_rate_t rate = {77, 78};
    unsigned i, accepted = 0;

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        accepted
            += traceparent_rate_init(&rate, bad[i], 1) != TRACEPARENT_ERR_RATE;
    }

    ok(accepted == 0, "a rate of 0, below 0, above 10^9 or no number");
    ok(traceparent_rate_init(&rate, 5, 0) == TRACEPARENT_ERR_BURST,
        "a burst of 0");
    ok(traceparent_rate_init(&rate, 1e-8, 1) == TRACEPARENT_ERR_BURST
            && traceparent_rate_init(&rate, 5e-324, 1) == TRACEPARENT_ERR_BURST
            && traceparent_rate_init(&rate, 10, 1000000000)
                   == TRACEPARENT_ERR_BURST,
        "a burst that takes years to fill");
    ok(rate.interval == 77 && rate.full == 78,
        "nothing is written in these cases");
    ok(traceparent_rate_init(&rate, 1. / 70000000, 1) == 0
            && traceparent_rate_init(&rate, 1e9, UINT32_MAX) == 0
            && traceparent_rate_init(&rate, 70, UINT32_MAX) == 0,
        "the longest burst, and the most");
}


static void
test_rate(void)
{
    traceparent_rate_t rate;
    uint64_t word = 0, now = 1000 * SECOND;
    unsigned i, given;

    traceparent_rate_init(&rate, 10, 5);

    ok(take(&rate, &word, now, 100) == 5, "at first there is a whole burst");
    ok(take(&rate, &word, now + SECOND / 10 - 1, 9) == 0
            && take(&rate, &word, now + SECOND / 10, 9) == 1,
        "then one after each interval");
    ok(take(&rate, &word, now + SECOND / 2, 9) == 4,
        "what is not used is kept");
    ok(take(&rate, &word, now + 1000 * SECOND, 100) == 5,
        "but no more than a burst");
    now += 1000 * SECOND;
    ok(take(&rate, &word, now + 15 * SECOND * 3600 * 24 * 365, 100) == 5,
        "even after 15 years");

    traceparent_rate_init(&rate, 1, 1);
    word = 0;
    ok(take(&rate, &word, now, 9) == 1
            && take(&rate, &word, now + SECOND - 1, 9) == 0
            && take(&rate, &word, now + SECOND, 9) == 1,
        "a burst of one");

    word = 0;
    ok(take(&rate, &word, 0, 9) == 1 && take(&rate, &word, SECOND, 9) == 1,
        "time may begin at 0");

    /* past the end of what a word can tell, and of time */
    traceparent_rate_init(&rate, 10, 5);
    now = (UINT64_MAX >> 4) - SECOND / 2;
    word = 0;
    take(&rate, &word, now - 100 * SECOND, 9);

    for (i = 0, given = 0; i < 100; i++) {
        given += take(&rate, &word, now + i * (SECOND / 100), 9);
    }

    ok(given >= 14 && given <= 15, "a word that wraps makes no difference");

    now = UINT64_MAX;
    word = 0;
    given = take(&rate, &word, now, 9);
    ok(given >= 1 && given <= 5 && take(&rate, &word, now, 9) == 0,
        "the end of time is a time, too");
}


static void
test_rate_back(void)
{
    traceparent_rate_t rate;
    uint64_t word = 0, now = 1000 * SECOND, then;
    unsigned i, given;

    traceparent_rate_init(&rate, 10, 5);
    take(&rate, &word, now, 100);

    ok(take(&rate, &word, now - SECOND / 1000, 9) == 0
            && take(&rate, &word, now - 59 * SECOND, 9) == 0,
        "an older time gives nothing that the newer would not");

    for (i = 0, given = 0; i < 1000; i++) {
        then = now + i * (SECOND / 1000);
        given += take(&rate, &word, then, 1);
        given += take(&rate, &word, then - SECOND / 50, 1);
    }

    ok(given >= 9 && given <= 10, "one clock late, one not: the rate holds");

    now += 900 * SECOND;
    take(&rate, &word, now, 100);
    now -= 500 * SECOND;

    given = take(&rate, &word, now, 100);
    ok(given == 1, "time that has gone back far leaves no burst");

    for (i = 1; i <= 1000; i++) {
        given += take(&rate, &word, now + i * (SECOND / 100), 1);
    }

    ok(given >= 100 && given <= 101, "and the rate holds from there on");

    traceparent_rate_init(&rate, 1e-6, 1);
    word = 0;
    ok(take(&rate, &word, now, 9) == 1
            && take(&rate, &word, now + 999999 * SECOND, 9) == 0
            && take(&rate, &word, now + 1000000 * SECOND, 9) == 1,
        "a long wait is not taken for time that has gone back");
}


static void
test_rate_extremes(void)
{
    is_near(given_in(0.01, 1, 100000, SECOND / 10), 1000, 0.001, "0.01/s");
    is_near(given_in(0.3, 1, 10000, SECOND / 1000), 3000, 0.001, "0.3/s");
    is_near(given_in(7, 3, 1000, SECOND / 1000), 7003, 0.001, "7/s");
    is_near(given_in(3333, 100, 100, 10000), 333400, 0.001, "3,333/s");
    is_near(given_in(1e7, 100, 0.1, 50), 1e6, 0.001, "10^7/s");
    is_near(given_in(2.97e7, 100, 0.01, 10), 297000, 0.001, "2.97 * 10^7/s");
    is_near(given_in(6.9e8, 100, 0.0005, 1), 345000, 0.04, "6.9 * 10^8/s");
    is_near(given_in(9.7e8, 100, 0.0005, 1), 485000, 0.04, "9.7 * 10^8/s");
    is_near(given_in(1e9, 1, 0.0005, 1), 500000, 0.0001, "10^9/s");
    is_near(given_in(1000, 1, 1, SECOND / 500), 500, 0, "half of a rate");
}


static uint64_t
now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);

    return (uint64_t) now.tv_sec * SECOND + (uint64_t) now.tv_nsec;
}


#define PROCESSES 4

/* What the processes share. */
typedef struct {
    uint64_t word;
    uint64_t given[PROCESSES];
    uint64_t last[PROCESSES];
} shared_t;


static void
take_until(
    shared_t *shared, int i, const traceparent_rate_t *rate, uint64_t end)
{
    uint64_t now;

    while ((now = now_ns()) < end) {
        shared->given[i]
            += (uint64_t) traceparent_rate_take(rate, &shared->word, now);
        shared->last[i] = now;
    }

    _exit(0);
}


/* Four processes take what they can for half a second. */
static void
test_processes(double per_second, unsigned burst, const char *name)
{
    shared_t *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    traceparent_rate_t rate;
    uint64_t start, last = 0;
    double most, given = 0, seconds;
    int i, status, failed = 0;
    pid_t pids[PROCESSES];

    if (shared == MAP_FAILED) {
        exit(2);
    }

    traceparent_rate_init(&rate, per_second, burst);
    start = now_ns();

    for (i = 0; i < PROCESSES; i++) {
        pids[i] = fork();

        if (pids[i] == 0) {
            take_until(shared, i, &rate, start + SECOND / 2);
        }
    }

    for (i = 0; i < PROCESSES; i++) {
        failed |= pids[i] == -1 || waitpid(pids[i], &status, 0) == -1
                  || status != 0;
        given += (double) shared->given[i];
        last = shared->last[i] > last ? shared->last[i] : last;
    }

    munmap(shared, sizeof(*shared));

    seconds = (double) (last - start) / 1e9;
    most = per_second * seconds + burst;
    diag("%.0f given in %.3f s", given, seconds);

    ok(!failed && given <= most * 1.001 + 1, "%s: no more than is allowed",
        name);
    ok(given >= most * 0.95, "%s: hardly less", name);
}


int
main(void)
{
    test_ratio();
    test_accuracy();
    test_read();
    test_write();
    test_write_limits();
    test_follow();
    test_hops("", "by the trace-id");
    test_hops("a=1,ot=rv:%014llx;k:1", "by rv");
    test_rate_init();
    test_rate();
    test_rate_back();
    test_rate_extremes();
    test_processes(1000, 100, "1,000/s of 4 processes");
    test_processes(20000, 2000, "20,000/s of 4 processes");

    return done_testing();
}
