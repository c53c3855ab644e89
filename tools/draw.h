/* One trace as a tree, for people. */

#ifndef DRAW_H
#define DRAW_H


#include "terminal.h"
#include "trace.h"


/* Spans deeper than this begin again at the left. */
#define DRAW_DEPTH_MAX 32


/* Draws |trace|; |header| is the name of its header values. Returns 0, or -1
 * if memory is short. */
int draw_trace(
    const terminal_t *terminal, const trace_t *trace, const char *header);


#endif
