/*
 * traceparent: the header of W3C Trace Context, Level 2.
 *
 * Nothing here allocates, prints or keeps a pointer that it was given.
 * "section" is a section of the specification, w3c.github.io/trace-context.
 */

#ifndef TRACEPARENT_TRACEPARENT_H
#define TRACEPARENT_TRACEPARENT_H


#include <stddef.h>
#include <stdint.h>

#include <traceparent/ids.h>

#ifdef __cplusplus
extern "C" {
#endif


/* Length of the value in version 00, the only version that is ever sent. */
#define TRACEPARENT_LEN               55

/* trace-flags are bits and are never compared as a number (section 3.2.2.5). */
#define TRACEPARENT_FLAG_SAMPLED      0x01
#define TRACEPARENT_FLAG_RANDOM       0x02
#define TRACEPARENT_FLAGS_KNOWN                                               \
    (TRACEPARENT_FLAG_SAMPLED | TRACEPARENT_FLAG_RANDOM)

/* The errors of this header. All of them mean: as if it had not been sent. */
#define TRACEPARENT_ERR_LENGTH       -1  /* < 55 bytes, or > 55 in version 00 */
#define TRACEPARENT_ERR_VERSION      -2  /* version ff, or not lower-case hex */
#define TRACEPARENT_ERR_DELIMITER    -3  /* a field does not end in '-' */
#define TRACEPARENT_ERR_TRACE_ID     -4  /* trace-id is not lower-case hex */
#define TRACEPARENT_ERR_PARENT_ID    -5  /* parent-id is not lower-case hex */
#define TRACEPARENT_ERR_FLAGS        -6  /* flags are not lower-case hex */
#define TRACEPARENT_ERR_ZERO_ID      -7  /* trace-id or parent-id is all zero */


typedef struct {
    uint8_t  trace_id[TRACEPARENT_TRACE_ID_SIZE];
    uint8_t  parent_id[TRACEPARENT_SPAN_ID_SIZE];
    uint8_t  version;    /* as received; traceparent_format() writes 00 */
    uint8_t  flags;      /* as received, unknown bits included */
} traceparent_t;


/*
 * Parses |len| bytes at |src|, which need not end in NUL, as the value of a
 * traceparent header (section 3.2). Spaces and tabs around the value are not
 * part of it (RFC 9110, section 5.5). A version above 00 is read by
 * position, and what follows its flags must be the end or '-' (section 3.2.4).
 *
 * |dest| is written only on success, and owns nothing.
 * Returns 0, or one of TRACEPARENT_ERR_* above.
 */
int traceparent_parse(traceparent_t *dest, const uint8_t *src, size_t len);


/*
 * Writes exactly TRACEPARENT_LEN bytes at |dest|, without a NUL: version 00,
 * lower-case hex, and of the flags only TRACEPARENT_FLAGS_KNOWN (section
 * 3.2.2.5: other bits are zero on the way out).
 */
void traceparent_format(uint8_t *dest, const traceparent_t *src);


/*
 * Starts a trace (section 3.2.2.3): |dest| gets a random trace-id, a random
 * parent-id, and the random flag; TRACEPARENT_FLAG_SAMPLED as |sampled| says.
 *
 * Returns 0, or TRACEPARENT_ERR_RANDOM (see ids.h) with |dest| untouched.
 */
int traceparent_new(traceparent_t *dest, traceparent_ids_t *ids, int sampled);


/*
 * Continues the trace of |parent|: |dest| gets its trace-id, a new random
 * parent-id, its random flag set or unset as it was (section 3.2.2.5.2), and
 * TRACEPARENT_FLAG_SAMPLED as |sampled| says. |dest| may be |parent|.
 *
 * Returns 0, or TRACEPARENT_ERR_RANDOM with |dest| untouched.
 */
int traceparent_child(traceparent_t *dest, const traceparent_t *parent,
    traceparent_ids_t *ids, int sampled);


/* A static sentence, without a final period, that explains a negative |err|
 * of any function of libtraceparent. Never NULL. */
const char *traceparent_strerror(int err);


#ifdef __cplusplus
}
#endif

#endif
