/* The tests of otlp_span.c with what runs where there is no SSE2. */

#define TRACEPARENT_PORTABLE 1

#include "otlp_span.c"

#include "../../lib/otlp/span.c"
#include "../../lib/otlp/text.c"
