#define _GNU_SOURCE /* tdelete() and its kin */

#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "pending.h"


typedef struct {
    pending_span_t *oldest;
    pending_span_t *newest;
} list_t;

struct pending_s {
    void *by_key; /* tsearch() stays shallow whatever is put in */
    list_t closed;
    list_t open;
    size_t n_spans;
    uint64_t n_lists;
};


static int
compare(const void *a, const void *b)
{
    const pending_span_t *left = a, *right = b;

    return memcmp(left->key, right->key, sizeof(left->key));
}


static void
set_key(pending_span_t *span, const uint8_t *trace_id, const uint8_t *span_id)
{
    memcpy(span->key, trace_id, 16);
    memcpy(span->key + 16, span_id, 8);
}


static void
append(list_t *list, pending_span_t *span)
{
    span->newer = NULL;
    span->older = list->newest;
    *(list->newest != NULL ? &list->newest->newer : &list->oldest) = span;
    list->newest = span;
}


/* Takes |span| off its list. */
static void
unlink_span(pending_t *pending, pending_span_t *span)
{
    list_t *list = span->span.open ? &pending->open : &pending->closed;

    *(span->older != NULL ? &span->older->newer : &list->oldest) = span->newer;
    *(span->newer != NULL ? &span->newer->older : &list->newest) = span->older;
}


static pending_span_t *
oldest(const pending_t *pending)
{
    return pending->closed.oldest != NULL ? pending->closed.oldest
                                          : pending->open.oldest;
}


pending_t *
pending_create(void)
{
    return calloc(1, sizeof(pending_t));
}


void
pending_free(pending_t *pending)
{
    while (oldest(pending) != NULL) {
        pending_remove(pending, oldest(pending));
    }

    free(pending);
}


pending_span_t *
pending_open(
    pending_t *pending, const uint8_t *trace_id, const uint8_t *span_id)
{
    pending_span_t *added;

    if (pending->n_spans == PENDING_MAX) {
        pending_remove(pending, oldest(pending));
    }

    added = calloc(1, sizeof(*added));

    if (added == NULL) {
        return NULL;
    }

    set_key(added, trace_id, span_id);

    if (tsearch(added, &pending->by_key, compare) == NULL) {
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

    append(&pending->open, added);
    pending->n_spans++;

    return added;
}


void
pending_close(pending_t *pending, pending_span_t *span, uint64_t end)
{
    unlink_span(pending, span);
    span->span.open = 0;
    span->span.end = end;
    append(&pending->closed, span);
}


void
pending_remove(pending_t *pending, pending_span_t *span)
{
    unlink_span(pending, span);
    tdelete(span, &pending->by_key, compare);
    pending->n_spans--;
    free(span);
}


pending_span_t *
pending_find(
    const pending_t *pending, const uint8_t *trace_id, const uint8_t *span_id)
{
    pending_span_t key, **found;

    set_key(&key, trace_id, span_id);
    found = tfind(&key, &pending->by_key, compare);

    return found != NULL ? *found : NULL;
}


static void
list_span(trace_t *trace, trace_span_t *span, uint64_t now)
{
    if (span->open) {
        span->end = now > span->start ? now : span->start;
        trace->n_open++;
    }

    span->next = trace->pending;
    trace->pending = span;
    trace->n_pending++;
}


void
pending_list(pending_t *pending, trace_t *trace, unsigned depth, uint64_t now)
{
    unsigned i;
    pending_span_t *above;
    const trace_span_t *span, *child;

    pending->n_lists++;

    for (span = trace->first; span != NULL; span = span->next) {
        for (child = span, i = 0; child->has_parent && i < depth; i++) {
            above = pending_find(pending, trace->id, child->parent_id);

            if (above == NULL || above->listed == pending->n_lists) {
                break;
            }

            above->listed = pending->n_lists;
            list_span(trace, &above->span, now);
            child = &above->span;
        }
    }
}
