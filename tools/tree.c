#define _GNU_SOURCE /* tdelete() and its kin, strndup() */

#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "draw.h"
#include "live.h"
#include "pending.h"
#include "trace.h"
#include "tree.h"


typedef struct held_s held_t;

/* A trace that is kept. Its place in the list is by time of arrival. */
struct held_s {
    trace_t trace; /* first: the search tree compares its id */
    uint64_t arrived;
    size_t size; /* of all its spans */
    held_t *previous;
    held_t *next;
};

struct tree_s {
    const terminal_t *terminal;
    const char *header;
    pending_t *pending;
    uint64_t settle;
    void *by_id; /* tsearch(), whose depth nobody's choice of ids can spoil */
    held_t *first;
    held_t *last;
    size_t n_spans;
    size_t size;
    uint8_t drawn[TREE_DRAWN_MAX][16]; /* the ids, oldest at |n_drawn| */
    size_t n_drawn;
};


static int
compare(const void *a, const void *b)
{
    return memcmp(((const trace_t *) a)->id, ((const trace_t *) b)->id, 16);
}


static void
unlink_held(tree_t *tree, held_t *held)
{
    *(held->previous != NULL ? &held->previous->next : &tree->first)
        = held->next;
    *(held->next != NULL ? &held->next->previous : &tree->last)
        = held->previous;
}


static void
append_held(tree_t *tree, held_t *held)
{
    held->next = NULL;
    held->previous = tree->last;
    *(tree->last != NULL ? &tree->last->next : &tree->first) = held;
    tree->last = held;
}


static void
remove_held(tree_t *tree, held_t *held)
{
    size_t i;
    trace_span_t *span, *next;

    unlink_held(tree, held);
    tdelete(held, &tree->by_id, compare);
    tree->n_spans -= held->trace.n_spans;
    tree->size -= held->size;

    for (span = held->trace.first; span != NULL; span = next) {
        next = span->next;
        free(span);
    }

    for (i = 0; i < TRACE_HEADER_MAX; i++) {
        free(held->trace.headers[i]);
    }

    free(held);
}


static int
was_drawn(const tree_t *tree, const uint8_t *id)
{
    size_t i;

    for (i = 0; i < TREE_DRAWN_MAX; i++) {
        if (memcmp(tree->drawn[i], id, 16) == 0) {
            return 1;
        }
    }

    return 0;
}


/* In nanoseconds since 1970, as the times of spans. */
static uint64_t
now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);

    return (uint64_t) now.tv_sec * 1000000000 + (uint64_t) now.tv_nsec;
}


/* Events may come behind their span, and announce it once more. */
static void
forget_finished(pending_t *pending, const trace_t *trace)
{
    pending_span_t *announced;
    const trace_span_t *span;

    for (span = trace->first; span != NULL; span = span->next) {
        announced = pending_find(pending, trace->id, span->span_id);

        if (announced != NULL) {
            pending_remove(pending, announced);
        }
    }
}


static int
draw_first(tree_t *tree)
{
    int rc;
    held_t *held = tree->first;

    held->trace.continued = was_drawn(tree, held->trace.id);
    forget_finished(tree->pending, &held->trace);
    pending_list(tree->pending, &held->trace, DRAW_DEPTH_MAX, now_ns());
    rc = draw_trace(tree->terminal, &held->trace, tree->header);

    if (!held->trace.continued) {
        memcpy(tree->drawn[tree->n_drawn], held->trace.id, 16);
        tree->n_drawn = (tree->n_drawn + 1) % TREE_DRAWN_MAX;
    }

    remove_held(tree, held);

    return rc;
}


/* Finds the trace with |id|, or makes it. */
static held_t *
hold(tree_t *tree, const uint8_t *id)
{
    held_t *held, **found;

    held = calloc(1, sizeof(*held));

    if (held == NULL) {
        return NULL;
    }

    memcpy(held->trace.id, id, 16);
    found = tsearch(held, &tree->by_id, compare);

    if (found == NULL || *found != held) {
        free(held);
        return found == NULL ? NULL : *found;
    }

    append_held(tree, held);

    return held;
}


static int
add_header(trace_t *trace, const char *value)
{
    size_t i;

    for (i = 0; i < TRACE_HEADER_MAX; i++) {
        if (trace->headers[i] == NULL) {
            trace->headers[i] = strndup(value, TRACE_TEXT_MAX);
            return trace->headers[i] != NULL ? 0 : -1;
        }

        if (strncmp(trace->headers[i], value, TRACE_TEXT_MAX) == 0) {
            return 0;
        }
    }

    return 0;
}


static int
add_span(tree_t *tree, const span_message_t *message, const char *service,
    const char *header, uint64_t now)
{
    held_t *held;
    trace_span_t *span;

    span = trace_span_copy(message, service);

    if (span == NULL) {
        return -1;
    }

    held = hold(tree, message->trace_id.data);

    if (held == NULL) {
        free(span);
        return -1;
    }

    *(held->trace.last != NULL ? &held->trace.last->next : &held->trace.first)
        = span;
    held->trace.last = span;
    held->trace.n_spans++;
    held->size += span->size;
    held->arrived = now;
    tree->n_spans++;
    tree->size += span->size;

    unlink_held(tree, held);
    append_held(tree, held);

    return header == NULL ? 0 : add_header(&held->trace, header);
}


static int
add_group(
    tree_t *tree, const live_t *live, const export_group_t *group, uint64_t now)
{
    size_t i;

    for (i = 0; i < group->n_records; i++) {
        if (live_record(live, group->records[i]) != 0) {
            return -1;
        }
    }

    for (i = 0; i < group->n_spans; i++) {
        live_finished(live, group->spans[i]);

        if (add_span(tree, group->spans[i], group->service, live->value, now)
            != 0) {
            return -1;
        }

        if ((tree->n_spans > TREE_SPANS_MAX || tree->size > TREE_BYTES_MAX)
            && draw_first(tree) != 0) {
            return -1;
        }
    }

    return 0;
}


tree_t *
tree_create(const terminal_t *terminal, uint64_t settle, const char *header)
{
    tree_t *tree;

    tree = calloc(1, sizeof(*tree));

    if (tree == NULL) {
        return NULL;
    }

    tree->terminal = terminal;
    tree->settle = settle;
    tree->header = header;
    tree->pending = pending_create();

    if (tree->pending == NULL) {
        free(tree);
        return NULL;
    }

    return tree;
}


int
tree_add(
    tree_t *tree, const export_t *request, const json_t *headers, uint64_t now)
{
    live_t live = {tree->terminal, tree->pending, NULL, tree->header, NULL};
    export_group_t group = {0};

    if (tree->header != NULL) {
        live.value = json_string_value(json_object_get(headers, tree->header));
    }

    while (export_next(request, &group)) {
        live.service = group.service;

        if (add_group(tree, &live, &group, now) != 0) {
            return -1;
        }
    }

    return 0;
}


int64_t
tree_wait(const tree_t *tree, uint64_t now)
{
    uint64_t due;

    if (tree->first == NULL) {
        return -1;
    }

    due = tree->first->arrived + tree->settle;

    return due > now ? (int64_t) (due - now) : 0;
}


int
tree_draw(tree_t *tree, uint64_t now)
{
    int n;

    for (n = 0; tree_wait(tree, now) == 0; n++) {
        if (draw_first(tree) != 0) {
            return -1;
        }
    }

    return n;
}


void
tree_free(tree_t *tree)
{
    while (tree->first != NULL) {
        remove_held(tree, tree->first);
    }

    pending_free(tree->pending);
    free(tree);
}
