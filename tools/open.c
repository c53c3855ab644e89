#define _GNU_SOURCE /* tdelete() and its kin */

#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "open.h"


struct open_s {
    void *by_key; /* tsearch() stays shallow whatever is put in */
    open_span_t *oldest;
    open_span_t *newest;
    size_t n_spans;
    uint64_t n_lists;
};


static int
compare(const void *a, const void *b)
{
    const open_span_t *left = a, *right = b;

    return memcmp(left->key, right->key, sizeof(left->key));
}


static void
set_key(open_span_t *span, const uint8_t *trace_id, const uint8_t *span_id)
{
    memcpy(span->key, trace_id, 16);
    memcpy(span->key + 16, span_id, 8);
}


open_t *
open_create(void)
{
    return calloc(1, sizeof(open_t));
}


void
open_free(open_t *open)
{
    while (open->oldest != NULL) {
        open_remove(open, open->oldest);
    }

    free(open);
}


open_span_t *
open_add(open_t *open, const uint8_t *trace_id, const uint8_t *span_id)
{
    open_span_t *added;

    if (open->n_spans == OPEN_SPANS_MAX) {
        open_remove(open, open->oldest);
    }

    added = calloc(1, sizeof(*added));

    if (added == NULL) {
        return NULL;
    }

    set_key(added, trace_id, span_id);

    if (tsearch(added, &open->by_key, compare) == NULL) {
        free(added);
        return NULL;
    }

    memcpy(added->span.span_id, span_id, 8);
    added->span.open = 1;
    added->span.name = added->name;
    added->span.service = added->service;
    added->span.peer = "";
    added->span.cache_status = "";
    added->span.error_type = "";
    added->span.message = "";

    added->older = open->newest;
    *(open->newest != NULL ? &open->newest->newer : &open->oldest) = added;
    open->newest = added;
    open->n_spans++;

    return added;
}


open_span_t *
open_find(const open_t *open, const uint8_t *trace_id, const uint8_t *span_id)
{
    open_span_t key, **found;

    set_key(&key, trace_id, span_id);
    found = tfind(&key, &open->by_key, compare);

    return found != NULL ? *found : NULL;
}


void
open_remove(open_t *open, open_span_t *span)
{
    *(span->older != NULL ? &span->older->newer : &open->oldest) = span->newer;
    *(span->newer != NULL ? &span->newer->older : &open->newest) = span->older;

    tdelete(span, &open->by_key, compare);
    open->n_spans--;
    free(span);
}


void
open_list(open_t *open, trace_t *trace, unsigned depth, uint64_t now)
{
    unsigned i;
    open_span_t *above;
    const trace_span_t *span, *child;

    open->n_lists++;

    for (span = trace->first; span != NULL; span = span->next) {
        for (child = span, i = 0; child->has_parent && i < depth; i++) {
            above = open_find(open, trace->id, child->parent_id);

            if (above == NULL || above->listed == open->n_lists) {
                break;
            }

            above->listed = open->n_lists;
            above->span.end = now > above->span.start ? now : above->span.start;
            above->span.next = trace->open;
            trace->open = &above->span;
            trace->n_open++;
            child = &above->span;
        }
    }
}
