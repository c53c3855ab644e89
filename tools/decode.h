/*
 * From the body of an export request to the messages in it. The bytes come
 * from anybody, so they are checked before protobuf-c sees them: its decoder
 * recurses as deep as they say, and does not look at UTF-8.
 */

#ifndef DECODE_H
#define DECODE_H


#include <stddef.h>
#include <stdint.h>

#include "opentelemetry/proto/collector/trace/v1/trace_service.pb-c.h"


/* Messages within messages; more is refused, as by protobuf's own decoders. */
#define DECODE_DEPTH_MAX 100

/* What all messages of one request may take in memory, in bytes. */
#define DECODE_MEMORY_MAX (256 * 1024 * 1024)


typedef Opentelemetry__Proto__Collector__Trace__V1__ExportTraceServiceRequest
    export_request_t;

typedef Opentelemetry__Proto__Trace__V1__ResourceSpans resource_spans_t;
typedef Opentelemetry__Proto__Trace__V1__ScopeSpans scope_spans_t;
typedef Opentelemetry__Proto__Trace__V1__Span span_message_t;
typedef Opentelemetry__Proto__Trace__V1__Span__Event event_message_t;
typedef Opentelemetry__Proto__Trace__V1__Span__Link link_message_t;
typedef Opentelemetry__Proto__Common__V1__KeyValue key_value_t;
typedef Opentelemetry__Proto__Common__V1__AnyValue any_value_t;

#define ANY_VALUE(kind)                                                        \
    OPENTELEMETRY__PROTO__COMMON__V1__ANY_VALUE__VALUE_##kind##_VALUE

#define KIND_CLIENT                                                            \
    OPENTELEMETRY__PROTO__TRACE__V1__SPAN__SPAN_KIND__SPAN_KIND_CLIENT

#define STATUS_ERROR                                                           \
    OPENTELEMETRY__PROTO__TRACE__V1__STATUS__STATUS_CODE__STATUS_CODE_ERROR


/*
 * Decodes |len| bytes at |body|, and checks what OTLP demands of ids. A NUL in
 * a string is made U+001A (SUBSTITUTE) in |body|, since the decoded strings
 * end in NUL.
 *
 * Returns the request, to be freed with decode_free(), or NULL with |*why|
 * a static sentence without a period.
 */
export_request_t *decode_request(uint8_t *body, size_t len, const char **why);

void decode_free(export_request_t *request);


#endif
