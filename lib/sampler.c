#include <string.h>

#include <traceparent/ids.h>
#include <traceparent/sampler.h>
#include <traceparent/tracestate.h>

#include "hex.h"


#define NONE TRACEPARENT_THRESHOLD_NONE

/* Hex digits of a threshold, and how many of them a ratio gets. */
#define DIGITS_MAX  14
#define DIGITS_MEAN 4

/* What a ratio may be missed by: one part of this many. */
#define ACCURACY 10000

/* "th:" or "rv:" */
#define SUB_KEY_LEN 3

/* A unit of time in shared memory is 2^-RATE_SHIFT ns. With 2^-4, a word lasts
 * for 36 years and then begins again, as differences do not mind. */
#define RATE_SHIFT 4
#define RATE_UNITS (1e9 * (1 << RATE_SHIFT))

/* The longest burst, so that sums of two stay far from overflow. */
#define RATE_FULL_MAX (INT64_C(1) << 60)

/* What is this far ahead of any burst was written before time went back. */
#define RATE_BACK ((INT64_C(60) * 1000 * 1000 * 1000) << RATE_SHIFT)


/* How often a sub-key is there, and the last value. */
typedef struct {
    traceparent_view_t value;
    int n;
} sub_key_t;


static const uint8_t ot_key[] = {'o', 't'};


int
traceparent_sampler_threshold(uint64_t *threshold, double ratio)
{
    double missed, scaled = ratio * (double) NONE;
    uint64_t kept, exact, rounded, unit;
    int digits;

    /* Not a number is none of them, either. */
    if (!(scaled == 0 || (scaled >= 1 && ratio <= 1))) {
        return TRACEPARENT_ERR_RATIO;
    }

    kept = (uint64_t) scaled;
    kept += scaled - (double) kept >= 0.5;
    exact = NONE - kept;

    if (kept == 0) {
        *threshold = NONE;
        return 0;
    }

    /* The leading f's do not count, that is, leading zeros of what is kept. The
     * 8 bits above those 56 are no digits. */
    digits = DIGITS_MEAN + (__builtin_clzll(kept) - 8) / 4;

    for (;; digits++) {
        if (digits >= DIGITS_MAX) {
            rounded = exact;
            break;
        }

        unit = UINT64_C(1) << 4 * (DIGITS_MAX - digits);
        rounded = (exact + unit / 2) & ~(unit - 1);
        missed = (double) (NONE - rounded) - scaled;

        if (missed * ACCURACY < scaled && -missed * ACCURACY < scaled) {
            break;
        }
    }

    *threshold = rounded;

    return 0;
}


/* 1 to 14 digits, as if zeros followed; NONE if it is anything else. */
static uint64_t
parse_digits(const traceparent_view_t *src)
{
    uint64_t value = 0;
    unsigned digit, all = 0;
    size_t i;

    if (src->len < 1 || src->len > DIGITS_MAX) {
        return NONE;
    }

    for (i = 0; i < src->len; i++) {
        digit = hex_digit(src->data[i]);
        all |= digit;
        value = value << 4 | digit;
    }

    return all > HEX_DIGIT_MAX ? NONE : value << 4 * (DIGITS_MAX - src->len);
}


/* Writes the digits without the zeros behind; returns the end. */
static uint8_t *
format_digits(uint8_t *dest, uint64_t threshold)
{
    int shift = 4 * DIGITS_MAX;

    do {
        shift -= 4;
        *dest++ = (uint8_t) "0123456789abcdef"[threshold >> shift & 0x0f];
    } while ((threshold & ((UINT64_C(1) << shift) - 1)) != 0);

    return dest;
}


/* The value of the member "ot"; an empty one if there is none. */
static void
find_ot(traceparent_view_t *ot, const uint8_t *list, size_t len)
{
    const uint8_t *comma;

    ot->data = NULL;
    ot->len = 0;

    while (len > 0) {
        comma = memchr(list, ',', len);

        if (len > 3 && memcmp(list, "ot=", 3) == 0) {
            ot->data = list + 3;
            ot->len = (comma != NULL ? (size_t) (comma - list) : len) - 3;
            return;
        }

        if (comma == NULL) {
            return;
        }

        len -= (size_t) (comma + 1 - list);
        list = comma + 1;
    }
}


/* Cuts |piece| off, up to the next semicolon. Returns 0 at the end. */
static int
next_piece(traceparent_view_t *piece, traceparent_view_t *rest)
{
    const uint8_t *end;

    if (rest->len == 0) {
        return 0;
    }

    end = memchr(rest->data, ';', rest->len);

    piece->data = rest->data;
    piece->len = end != NULL ? (size_t) (end - rest->data) : rest->len;

    rest->data += piece->len + (end != NULL);
    rest->len -= piece->len + (end != NULL);

    return 1;
}


static int
is_sub_key(const traceparent_view_t *piece, const char *key)
{
    return piece->len >= SUB_KEY_LEN
           && memcmp(piece->data, key, SUB_KEY_LEN) == 0;
}


static void
set_sub_key(sub_key_t *sub_key, const traceparent_view_t *piece)
{
    sub_key->value.data = piece->data + SUB_KEY_LEN;
    sub_key->value.len = piece->len - SUB_KEY_LEN;
    sub_key->n++;
}


static void
find_sub_keys(sub_key_t *th, sub_key_t *rv, const traceparent_view_t *ot)
{
    traceparent_view_t piece, rest = *ot;

    th->n = 0;
    rv->n = 0;

    while (next_piece(&piece, &rest)) {
        if (is_sub_key(&piece, "th:")) {
            set_sub_key(th, &piece);

        } else if (is_sub_key(&piece, "rv:")) {
            set_sub_key(rv, &piece);
        }
    }
}


static uint32_t
big_endian(const uint8_t *p)
{
    return (uint32_t) p[0] << 24 | (uint32_t) p[1] << 16 | (uint32_t) p[2] << 8
           | p[3];
}


void
traceparent_sampler_read(traceparent_sampling_t *dest, const uint8_t *trace_id,
    const uint8_t *list, size_t len)
{
    traceparent_view_t ot;
    sub_key_t th, rv;
    uint64_t explicit;

    dest->randomness = (uint64_t) (big_endian(trace_id + 8) & 0xffffff) << 32
                       | big_endian(trace_id + 12);
    dest->threshold = NONE;

    find_ot(&ot, list, len);

    if (ot.len == 0) {
        return;
    }

    find_sub_keys(&th, &rv, &ot);

    if (th.n == 1) {
        dest->threshold = parse_digits(&th.value);
    }

    if (rv.n == 1 && rv.value.len == DIGITS_MAX) {
        explicit = parse_digits(&rv.value);

        if (explicit != NONE) {
            dest->randomness = explicit;
        }
    }
}


uint64_t
traceparent_sampler_follow(const traceparent_sampling_t *sampling, int sampled)
{
    int would_be = sampling->randomness >= sampling->threshold;

    return would_be == (sampled != 0) ? sampling->threshold : NONE;
}


/* Copies all but "th", and nothing that is empty; returns the end. */
static uint8_t *
copy_others(uint8_t *dest, const traceparent_view_t *ot)
{
    traceparent_view_t piece, rest = *ot;
    uint8_t *start = dest;

    while (next_piece(&piece, &rest)) {
        if (piece.len == 0 || is_sub_key(&piece, "th:")) {
            continue;
        }

        if (dest != start) {
            *dest++ = ';';
        }

        memcpy(dest, piece.data, piece.len);
        dest += piece.len;
    }

    return dest;
}


int
traceparent_sampler_write(uint8_t *dest, size_t *dest_len, const uint8_t *list,
    size_t len, uint64_t threshold)
{
    uint8_t value[TRACESTATE_VALUE_MAX], text[1 + SUB_KEY_LEN + DIGITS_MAX];
    uint8_t *end, *start = text;
    traceparent_view_t ot;
    sub_key_t th, rv;
    size_t text_len;
    int err;

    find_ot(&ot, list, len);
    find_sub_keys(&th, &rv, &ot);

    if (threshold >= NONE ? th.n == 0
                          : th.n == 1 && parse_digits(&th.value) == threshold) {
        return 0;
    }

    if (ot.len > TRACESTATE_VALUE_MAX) {
        return TRACESTATE_ERR_VALUE;
    }

    end = copy_others(value, &ot);

    if (threshold < NONE) {
        memcpy(text, ";th:", 1 + SUB_KEY_LEN);
        start += end == value;
        text_len = (size_t) (format_digits(text + 1 + SUB_KEY_LEN, threshold)
                             - start);

        if ((size_t) (end - value) + text_len <= sizeof(value)) {
            memcpy(end, start, text_len);
            end += text_len;

        } else if (th.n == 0) {
            return 0;
        }
    }

    /* What "th" came behind may end in a space, but no value may. */
    if (end > value && end[-1] == ' ') {
        *end++ = ';';
    }

    if (end == value) {
        err = tracestate_delete(
            dest, dest_len, list, len, ot_key, sizeof(ot_key));
    } else {
        err = tracestate_set(dest, dest_len, list, len, ot_key, sizeof(ot_key),
            value, (size_t) (end - value));
    }

    return err != 0 ? err : 1;
}


int
traceparent_rate_init(
    traceparent_rate_t *rate, double per_second, unsigned burst)
{
    double interval = RATE_UNITS / per_second;

    if (!(per_second > 0 && per_second <= TRACEPARENT_RATE_MAX)) {
        return TRACEPARENT_ERR_RATE;
    }

    if (burst == 0 || interval * burst > (double) RATE_FULL_MAX) {
        return TRACEPARENT_ERR_BURST;
    }

    rate->interval = (int64_t) (interval + 0.5);
    rate->full = rate->interval * burst;

    return 0;
}


/* A token bucket as the time when it will be full again: the generic cell rate
 * algorithm. Times are compared by their difference, which may be negative. */
int
traceparent_rate_take(
    const traceparent_rate_t *rate, uint64_t *shared, uint64_t now_ns)
{
    uint64_t now = now_ns << RATE_SHIFT;
    uint64_t full_at = __atomic_load_n(shared, __ATOMIC_RELAXED);
    uint64_t next;
    int64_t ahead, last = rate->full - rate->interval;

    do {
        ahead = (int64_t) (full_at - now);

        if (ahead > last) {
            if (ahead <= rate->full + RATE_BACK) {
                return 0;
            }

            ahead = last;

        } else if (ahead < 0) {
            ahead = 0;
        }

        next = now + (uint64_t) (ahead + rate->interval);

    } while (!__atomic_compare_exchange_n(
        shared, &full_at, next, 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED));

    return 1;
}
