/*
 * Input for the C tests: bytes with an unreadable page right behind or right
 * before them, so that reading one byte too far crashes, and pseudo-random
 * numbers that are the same in every run.
 */

#ifndef INPUT_H
#define INPUT_H


#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>


/* Room for one input, or one output; a multiple of any page size. */
#define INPUT_MAX (64 * 1024)


/* Two rooms with unreadable ones before, between and behind them. */
static inline uint8_t *
input_room(unsigned i)
{
    static uint8_t *all;

    if (all == NULL) {
        all = mmap(
            NULL, 5 * INPUT_MAX, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (all == MAP_FAILED
            || mprotect(all + INPUT_MAX, INPUT_MAX, PROT_READ | PROT_WRITE) != 0
            || mprotect(all + 3 * INPUT_MAX, INPUT_MAX, PROT_READ | PROT_WRITE)
                   != 0) {
            perror("mmap");
            exit(2);
        }
    }

    return all + (1 + 2 * i) * INPUT_MAX;
}


/* A copy whose last byte is the last before an unreadable page. Valid until
 * the next call of one of these two; NULL data need |len| 0. */
static inline uint8_t *
input_at_end(const void *data, size_t len)
{
    uint8_t *copy = input_room(0) + INPUT_MAX - len;

    if (len != 0) {
        memmove(copy, data, len);
    }

    return copy;
}


/* A copy whose first byte is the first behind an unreadable page. */
static inline uint8_t *
input_at_start(const void *data, size_t len)
{
    if (len != 0) {
        memmove(input_room(0), data, len);
    }

    return input_room(0);
}


/* Room for an output of |len| bytes, the last before an unreadable page, with a
 * '#' in front. Valid until the next call. */
static inline uint8_t *
output_at_end(size_t len)
{
    uint8_t *dest = input_room(1) + INPUT_MAX - len;

    memset(input_room(1), '#', INPUT_MAX);

    return dest;
}


/* xorshift64 */
static inline uint64_t
input_random(void)
{
    static uint64_t state = 0x9e3779b97f4a7c15;

    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;

    return state;
}


/* 0 to n - 1 */
static inline unsigned
input_below(unsigned n)
{
    return (unsigned) ((input_random() >> 32) % n);
}


#endif
