/* The tests of traceparent.c with what runs where there is no SIMD. */

#define TRACEPARENT_PORTABLE 1

#include "traceparent.c"

#include "../../lib/ids.c"
#include "../../lib/traceparent.c"
