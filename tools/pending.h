/*
 * Spans that were announced, and have not come yet. Nobody can be relied on to
 * send one, so there is a bound: above it the oldest that is closed is
 * forgotten, or if none is, the oldest that is open.
 */

#ifndef PENDING_H
#define PENDING_H


#include <stddef.h>
#include <stdint.h>

#include "trace.h"


#define PENDING_MAX 100000


typedef struct pending_s pending_t;
typedef struct pending_span_s pending_span_t;

struct pending_span_s {
    uint8_t key[16 + 8]; /* trace-id and span-id */
    trace_span_t span;   /* its strings are those below, or constant */
    unsigned depth;      /* below its request's span */
    char name[TRACE_TEXT_SIZE];
    char service[TRACE_TEXT_SIZE];
    pending_span_t *older; /* the rest is for pending.c alone */
    pending_span_t *newer;
    uint64_t listed; /* by the how manieth pending_list() */
};


/* Returns NULL if memory is short. */
pending_t *pending_create(void);

void pending_free(pending_t *pending);

/* Adds a span that is not there, open and with empty strings, and forgets
 * another if there is no room. Returns NULL if memory is short. */
pending_span_t *pending_open(
    pending_t *pending, const uint8_t *trace_id, const uint8_t *span_id);

/* It was open until |end|. */
void pending_close(pending_t *pending, pending_span_t *span, uint64_t end);

/* Forgets it. */
void pending_remove(pending_t *pending, pending_span_t *span);

/* Returns NULL if there is none. */
pending_span_t *pending_find(
    const pending_t *pending, const uint8_t *trace_id, const uint8_t *span_id);

/* Sets |trace->pending| to what there is above its spans, up to |depth| above
 * each. The memory stays here; what is open ends |now| for the moment. */
void pending_list(
    pending_t *pending, trace_t *trace, unsigned depth, uint64_t now);


#endif
