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


/* Room for one input; a multiple of any page size. */
#define INPUT_MAX (64 * 1024)


/* INPUT_MAX bytes between two unreadable regions. */
static inline uint8_t *
input_room(void)
{
    static uint8_t *room;
    uint8_t *all;

    if (room == NULL) {
        all = mmap(
            NULL, 3 * INPUT_MAX, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (all == MAP_FAILED
            || mprotect(all + INPUT_MAX, INPUT_MAX, PROT_READ | PROT_WRITE)
                   != 0) {
            perror("mmap");
            exit(2);
        }

        room = all + INPUT_MAX;
    }

    return room;
}


/* A copy whose last byte is the last before an unreadable page. Valid until
 * the next call of one of these two; NULL data need |len| 0. */
static inline uint8_t *
input_at_end(const void *data, size_t len)
{
    uint8_t *copy = input_room() + INPUT_MAX - len;

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
        memmove(input_room(), data, len);
    }

    return input_room();
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
