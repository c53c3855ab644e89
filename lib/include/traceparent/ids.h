/*
 * Random trace-ids and span-ids, and their form in hex.
 *
 * Ids come from the kernel's generator (getrandom(2)), some hundred bytes at a
 * time, so they are never made from a predictable state, and cost a few
 * instructions each (W3C Trace Context Level 2, section 3.2.2.3, and
 * "Considerations for trace-id field generation").
 */

#ifndef TRACEPARENT_IDS_H
#define TRACEPARENT_IDS_H


#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif


#define TRACEPARENT_TRACE_ID_SIZE     16  /* bytes; twice as many hex digits */
#define TRACEPARENT_SPAN_ID_SIZE      8

#define TRACEPARENT_ERR_RANDOM       -20  /* the kernel gave no random bytes */


/*
 * A stock of random bytes. The caller provides the memory, one for each thread
 * that makes ids, zeroed before the first use, and not shared with another
 * process. A process that was forked notices, and throws away what it
 * inherited; one made by _Fork(3) or the bare clone(2) does not, and must zero
 * its stocks before it makes ids. There is nothing to free.
 */
typedef struct {
    uint64_t  words[64];
    unsigned  left;          /* words not yet used */
    unsigned  generation;    /* of forks, when the words were drawn */
} traceparent_ids_t;


/*
 * Writes a random id, never all zero. All 64 bits of a span-id, and all 128 of
 * a trace-id, the right-most 56 included, are uniformly distributed.
 *
 * Returns 0, or TRACEPARENT_ERR_RANDOM with |dest| untouched.
 */
int traceparent_ids_trace(traceparent_ids_t *ids, uint8_t *dest);
int traceparent_ids_span(traceparent_ids_t *ids, uint8_t *dest);


/* Writes 2 * |len| lower-case hex digits at |dest|, without a NUL. */
void traceparent_hex(uint8_t *dest, const uint8_t *src, size_t len);


#ifdef __cplusplus
}
#endif

#endif
