/* The tests of tracestate.c with what runs where there is no SIMD. */

#define TRACEPARENT_PORTABLE 1

#include "tracestate.c"

#include "../../lib/tracestate.c"
