/*
 * Which traces to record: consistent probability sampling, and a limit of the
 * rate over all processes.
 *
 * "Probability sampling" is a page of the OpenTelemetry specification,
 * trace/tracestate-probability-sampling.md; "TraceState" is the page
 * trace/tracestate-handling.md. Nothing here allocates or keeps a pointer that
 * it was given.
 *
 * A trace has a randomness, 56 bits that are the same on every hop. A ratio is
 * turned into a threshold, and a trace is sampled if
 *
 *     randomness >= threshold
 *
 * so hops with one ratio pick the same traces, and a hop with a lower one picks
 * some of these. The hop that decides writes its threshold into the tracestate,
 * as sub-key "th" of the member "ot", so that whoever counts the spans knows
 * how many traces each of them stands for:
 *
 *     traceparent_sampler_read(&sampling, trace_id, list, list_len);
 *     sampled = sampling.randomness >= threshold;
 *     rc = traceparent_sampler_write(dest, &dest_len, list, list_len,
 *              sampled ? threshold : TRACEPARENT_THRESHOLD_NONE);
 *
 * What to write is, for a decision of
 *
 *     a ratio         its threshold if sampled, whatever came in; else none
 *     the parent      what traceparent_sampler_follow() returns
 *     both at once    the larger threshold of the two if sampled; else none
 *     anything else   none: a rate, a path or a cookie has no probability
 */

#ifndef TRACEPARENT_SAMPLER_H
#define TRACEPARENT_SAMPLER_H


#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif


/* No threshold; as one, it is more than any randomness: never sampled. */
#define TRACEPARENT_THRESHOLD_NONE    (UINT64_C(1) << 56)

/* How much longer than before a list with a threshold can be: "ot=th:", 14
 * digits and a comma. */
#define TRACEPARENT_THRESHOLD_ROOM    21

/* Above it a limit would not be exact. */
#define TRACEPARENT_RATE_MAX          1e9

#define TRACEPARENT_ERR_RATIO        -40  /* neither 0 nor 2^-56 to 1 */
#define TRACEPARENT_ERR_RATE         -41  /* not above 0, or too much */
#define TRACEPARENT_ERR_BURST        -42  /* 0, or takes years to fill */


/* What is known of a trace when it is decided. */
typedef struct {
    uint64_t  randomness;    /* 56 bits */
    uint64_t  threshold;     /* th as received, 56 bits, or _NONE */
} traceparent_sampling_t;


/*
 * Turns a ratio into a threshold ("Probability sampling", "Converting
 * floating-point probability to threshold value"). |ratio| is 0, for never, or
 * 2^-56 to 1.
 *
 * The threshold has 4 hex digits behind its leading f's, as SDKs are
 * recommended to have, so both pick the same traces. Where that misses the
 * ratio by 1 in 10,000 or more (as with 0.07, and with others from 0.0625 to
 * 0.0763, or that much times 16^-n), it has one digit more. Ratios from 10^-12
 * are thus held to better than 1 in 10,000 of themselves; smaller ones, down to
 * a single value of 2^56, as well as 56 bits can.
 *
 * Returns 0, or TRACEPARENT_ERR_RATIO with |threshold| untouched.
 */
int traceparent_sampler_threshold(uint64_t *threshold, double ratio);


/*
 * Reads what the tracestate says of sampling. |trace_id| has 16 bytes. |list|
 * must be what tracestate_view() accepted or another function of tracestate.h
 * wrote; |len| is 0 if there is none, as in a new trace.
 *
 * The randomness is the sub-key "rv", exactly 14 hex digits, or else the
 * right-most 56 bits of the trace-id ("Probability sampling", "Randomness
 * value"). The threshold is the sub-key "th", 1 to 14 hex digits ("TraceState",
 * "Sampling threshold value"). A sub-key that is not so, that has upper case,
 * or that comes twice is as if it were not there.
 */
void traceparent_sampler_read(traceparent_sampling_t *dest,
    const uint8_t *trace_id, const uint8_t *list, size_t len);


/*
 * The threshold to send of a hop that does as its parent did: what was
 * received if it fits the parent's decision |sampled|, not 0 for yes, or
 * TRACEPARENT_THRESHOLD_NONE ("Probability sampling", "Parent-based threshold"
 * and "General requirements").
 */
uint64_t traceparent_sampler_follow(
    const traceparent_sampling_t *sampling, int sampled);


/*
 * Copies |list| with |threshold| as the sub-key "th" of "ot", or without that
 * sub-key if it is TRACEPARENT_THRESHOLD_NONE. Other sub-keys and other members
 * stay; "ot" goes to the front, and leaves if nothing is left in it. Where "ot"
 * would get longer than TRACESTATE_VALUE_MAX, "th" is taken out instead: better
 * none than a wrong one.
 *
 * |list| is as for traceparent_sampler_read(). |*dest_len| is the room before,
 * and the length after the call; 0 means that there is nothing to send. |len| +
 * TRACEPARENT_THRESHOLD_ROOM bytes are always enough. |dest| may overlap no
 * source.
 *
 * Returns 1 if the new list is at |dest|; 0 if |list| is as it should be: send
 * that, |dest| and |*dest_len| are untouched; or TRACESTATE_ERR_SIZE, or what
 * tracestate_set() returns for a list that is not valid: then |*dest_len| is
 * untouched and the bytes at |dest| are undefined.
 */
int traceparent_sampler_write(uint8_t *dest, size_t *dest_len,
    const uint8_t *list, size_t len, uint64_t threshold);


/*
 * A limit: at most |burst| at once, and |per_second| in the long run. It is
 * constant; what changes is one word in memory that all processes share,
 * zeroed when it is made, and aligned as a uint64_t is. There are no locks, so
 * a process may die at any point.
 */
typedef struct {
    int64_t  interval;    /* of one, in units of 2^-4 ns */
    int64_t  full;        /* of a whole burst */
} traceparent_rate_t;


/*
 * Sets a limit up. |per_second| is above 0 and at most TRACEPARENT_RATE_MAX;
 * it is held to 1 in 1,000 up to 3 * 10^7, and to 4 in 100 up to the maximum.
 * |burst| is 1 or more, and |burst| / |per_second| at most 7 * 10^7 seconds.
 * What a pause leaves unused is kept for as long as |burst| takes to fill, so a
 * burst of a tenth of a second's worth bridges pauses of that length.
 *
 * Returns 0, TRACEPARENT_ERR_RATE or TRACEPARENT_ERR_BURST; |rate| is untouched
 * then.
 */
int traceparent_rate_init(
    traceparent_rate_t *rate, double per_second, unsigned burst);


/*
 * Takes one. |now_ns| is the time in nanoseconds, of a clock that is the same
 * for all processes and does not go back, such as CLOCK_MONOTONIC. In any span
 * of time no more than |burst| and the rate times that span is given, over all
 * processes. One that comes with an older time is counted as the others are;
 * if all time has gone back by more than a minute, the limit starts again with
 * the burst used up.
 *
 * Returns 1, or 0 if the limit is reached.
 */
int traceparent_rate_take(
    const traceparent_rate_t *rate, uint64_t *shared, uint64_t now_ns);


#ifdef __cplusplus
}
#endif

#endif
