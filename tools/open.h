/*
 * Spans that were announced and are not over. Nobody can be relied on to say
 * that one is, so there is a bound: above it the oldest is forgotten.
 */

#ifndef OPEN_H
#define OPEN_H


#include <stddef.h>
#include <stdint.h>

#include "trace.h"


#define OPEN_SPANS_MAX 100000


typedef struct open_s open_t;
typedef struct open_span_s open_span_t;

struct open_span_s {
    uint8_t key[16 + 8]; /* trace-id and span-id */
    trace_span_t span;   /* its strings are those below, or constant */
    unsigned depth;      /* below its request's span */
    char name[TRACE_TEXT_SIZE];
    char service[TRACE_TEXT_SIZE];
    open_span_t *older; /* the rest is for open.c alone */
    open_span_t *newer;
    uint64_t listed; /* by the how manieth open_list() */
};


/* Returns NULL if memory is short. */
open_t *open_create(void);

void open_free(open_t *open);

/* Adds a span that is not there, with empty strings, and forgets the oldest if
 * there is no room. Returns NULL if memory is short. */
open_span_t *open_add(
    open_t *open, const uint8_t *trace_id, const uint8_t *span_id);

/* Returns NULL if there is none. */
open_span_t *open_find(
    const open_t *open, const uint8_t *trace_id, const uint8_t *span_id);

void open_remove(open_t *open, open_span_t *span);

/* Sets |trace->open| to what is open above its spans, up to |depth| of them
 * above each. They end at |now| for the moment, and their memory stays here. */
void open_list(open_t *open, trace_t *trace, unsigned depth, uint64_t now);


#endif
