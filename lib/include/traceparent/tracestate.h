/*
 * tracestate: the list of vendor members beside traceparent, W3C Trace Context
 * Level 2, section 3.3.
 *
 * A list is 0 to 32 members "key=value" with commas between them. Empty
 * members, and spaces and tabs around members, are accepted and never sent on.
 *
 *   key    [a-z0-9][a-z0-9_*\/@-]{0,255}
 *   value  1 to 256 of 0x20 to 0x7e except ',' and '=', not ending in a space;
 *          spaces in front are part of it
 *
 * One bad member, a key that comes twice, or a 33rd member makes the whole
 * list invalid. Nothing here allocates or keeps a pointer that it was given;
 * views point into the caller's bytes.
 */

#ifndef TRACEPARENT_TRACESTATE_H
#define TRACEPARENT_TRACESTATE_H


#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif


#define TRACESTATE_MEMBERS_MAX        32
#define TRACESTATE_KEY_MAX            256   /* bytes */
#define TRACESTATE_VALUE_MAX          256   /* bytes */

/* What a proxy forwards at least (section 3.3.1.5), in bytes. */
#define TRACESTATE_FORWARD_MIN        512

/* Members longer than this leave first when a list is shortened. */
#define TRACESTATE_LONG_MEMBER        128

/* Enough for any list that the functions below write. */
#define TRACESTATE_LEN_MAX                                                    \
    (TRACESTATE_MEMBERS_MAX                                                   \
     * (TRACESTATE_KEY_MAX + 1 + TRACESTATE_VALUE_MAX + 1))

#define TRACESTATE_ERR_KEY           -30  /* a key breaks the grammar */
#define TRACESTATE_ERR_VALUE         -31  /* a value breaks the grammar */
#define TRACESTATE_ERR_MEMBERS       -32  /* more than 32 members */
#define TRACESTATE_ERR_DUPLICATE     -33  /* a key comes twice */
#define TRACESTATE_ERR_SIZE          -34  /* |dest| is too small */
#define TRACESTATE_ERR_NOT_FOUND     -35  /* no member has that key */
#define TRACESTATE_ERR_COPY          -36  /* not without a copy */


/* Bytes of somebody else, without a NUL. */
typedef struct {
    const uint8_t  *data;
    size_t          len;
} traceparent_view_t;


typedef struct {
    traceparent_view_t  key;
    traceparent_view_t  value;
} tracestate_member_t;


/* Where an iteration is. Set |pos| and |end| to the list's ends to begin. */
typedef struct {
    const uint8_t  *pos;
    const uint8_t  *end;
} tracestate_iter_t;


/*
 * Steps to the next member. Empty members are passed over. Checks the grammar
 * of what it passes, but neither the number of members nor duplicates.
 * Returns 1 with |member| set, 0 at the end, or TRACESTATE_ERR_KEY or
 * TRACESTATE_ERR_VALUE; after an error the iteration is over.
 */
int tracestate_next(tracestate_iter_t *iter, tracestate_member_t *member);


/* Returns how many members the list has, 0 to 32, or the error that makes the
 * whole of it invalid: _KEY, _VALUE, _MEMBERS or _DUPLICATE. */
int tracestate_validate(const uint8_t *src, size_t len);


/*
 * Makes one list of |n| headers' values, in order (section 3.3.1.1), without
 * empty members and without white space around members. |*dest_len| is the
 * room at |dest| before, and the list's length after the call; 0 means that
 * there is nothing to send. |dest| may overlap no source.
 * Returns the number of members, or the error that makes the whole list
 * invalid, or TRACESTATE_ERR_SIZE; then |*dest_len| is untouched and the
 * bytes at |dest| are undefined.
 * As much room as the values are long together, plus |n|, is always enough.
 */
int tracestate_combine(uint8_t *dest, size_t *dest_len,
    const traceparent_view_t *values, size_t n);


/*
 * As tracestate_combine() of one value, without a copy: |list| becomes a view
 * of the value, if that is already what tracestate_combine() would write.
 * Returns the number of members, the error that makes the whole list invalid,
 * or TRACESTATE_ERR_COPY if something would have to be left out; |list| is
 * written only without an error.
 */
int tracestate_view(traceparent_view_t *list, const uint8_t *src, size_t len);


/*
 * Finds the member with |key|. Returns 0 with |value| set,
 * TRACESTATE_ERR_NOT_FOUND, or the error that makes the whole list invalid.
 */
int tracestate_get(traceparent_view_t *value, const uint8_t *src, size_t len,
    const uint8_t *key, size_t key_len);


/*
 * Copies the list with |key|=|value| in front, and without the member that had
 * this key before (section 3.5); with 32 others, the right-most leaves. White
 * space and empty members are dropped. |*dest_len| is the room before, and the
 * length after the call. |dest| may overlap no source.
 * Returns 0, or _KEY or _VALUE (the new member's too), _MEMBERS, _DUPLICATE,
 * _SIZE; then |*dest_len| is untouched and the bytes at |dest| are undefined.
 * |len| + |key_len| + |value_len| + 2 bytes are always enough.
 */
int tracestate_set(uint8_t *dest, size_t *dest_len, const uint8_t *src,
    size_t len, const uint8_t *key, size_t key_len, const uint8_t *value,
    size_t value_len);


/* Copies the list without the member |key|; an absent key is no error.
 * Otherwise as tracestate_set(); |len| bytes are always enough. */
int tracestate_delete(uint8_t *dest, size_t *dest_len, const uint8_t *src,
    size_t len, const uint8_t *key, size_t key_len);


/*
 * Shortens a list to at most |limit| bytes, in place, by whole members: those
 * longer than TRACESTATE_LONG_MEMBER from the right, then others from the
 * right (section 3.3.1.5). The list must be what tracestate_combine(), _set()
 * or _delete() wrote. Returns its new length, 0 if nothing could stay.
 */
size_t tracestate_shorten(uint8_t *list, size_t len, size_t limit);


#ifdef __cplusplus
}
#endif

#endif
