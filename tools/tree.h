/*
 * Traces on their way to be drawn: spans are kept until nothing more of their
 * trace has come for a while, or there are too many of them. Log records are
 * printed at once, and a trace is drawn with those of its spans that are open.
 */

#ifndef TREE_H
#define TREE_H


#include <stdint.h>

#include <jansson.h>

#include "export.h"
#include "terminal.h"


/* When more is kept, the trace that has been quiet the longest is drawn. */
#define TREE_SPANS_MAX 100000
#define TREE_BYTES_MAX (64 * 1024 * 1024)

/* How many traces are remembered as drawn before, at least in part. */
#define TREE_DRAWN_MAX 1024


typedef struct tree_s tree_t;


/*
 * |settle| is how long a trace must be quiet, in milliseconds, as all times
 * here. |header| is the lower-case name of the header to show, or NULL. Keeps
 * both pointers. Returns NULL if memory is short.
 */
tree_t *tree_create(
    const terminal_t *terminal, uint64_t settle, const char *header);

/* Prints |request|'s records, takes copies of its spans, and draws what there
 * is no room for. Returns 0, or -1 if memory is short. */
int tree_add(
    tree_t *tree, const export_t *request, const json_t *headers, uint64_t now);

/* How long until a trace is due; -1 if there is none. */
int64_t tree_wait(const tree_t *tree, uint64_t now);

/* Draws the traces that are due at |now|; UINT64_MAX draws all. Returns how
 * many, or -1 if memory was short for one. */
int tree_draw(tree_t *tree, uint64_t now);

/* Forgets what was not drawn. */
void tree_free(tree_t *tree);


#endif
