/*
 * The export requests of OTLP, of spans and of log records. Both have the same
 * form: groups of one resource and one scope each, with the messages in them.
 */

#ifndef EXPORT_H
#define EXPORT_H


#include <stddef.h>
#include <stdint.h>

#include "opentelemetry/proto/collector/logs/v1/logs_service.pb-c.h"
#include "opentelemetry/proto/collector/trace/v1/trace_service.pb-c.h"


typedef Opentelemetry__Proto__Resource__V1__Resource resource_message_t;
typedef Opentelemetry__Proto__Common__V1__InstrumentationScope scope_message_t;
typedef Opentelemetry__Proto__Trace__V1__Span span_message_t;
typedef Opentelemetry__Proto__Trace__V1__Span__Event event_message_t;
typedef Opentelemetry__Proto__Trace__V1__Span__Link link_message_t;
typedef Opentelemetry__Proto__Logs__V1__LogRecord record_message_t;
typedef Opentelemetry__Proto__Common__V1__KeyValue key_value_t;
typedef Opentelemetry__Proto__Common__V1__AnyValue any_value_t;

#define ANY_VALUE(kind)                                                        \
    OPENTELEMETRY__PROTO__COMMON__V1__ANY_VALUE__VALUE_##kind##_VALUE

#define KIND_CLIENT                                                            \
    OPENTELEMETRY__PROTO__TRACE__V1__SPAN__SPAN_KIND__SPAN_KIND_CLIENT

#define STATUS_ERROR                                                           \
    OPENTELEMETRY__PROTO__TRACE__V1__STATUS__STATUS_CODE__STATUS_CODE_ERROR


typedef enum {
    EXPORT_SPANS,
    EXPORT_RECORDS,
} export_kind_t;

/* A request of either kind. */
typedef ProtobufCMessage export_t;

typedef struct {
    const resource_message_t *resource; /* NULL if there is none, as the next */
    const scope_message_t *scope;
    span_message_t *const *spans;
    size_t n_spans;
    record_message_t *const *records;
    size_t n_records;
    const char *service;  /* the resource's name, or "" */
    size_t resource_size; /* encoded, in bytes, as the next */
    size_t scope_size;
    size_t next_resource; /* for export_next() alone, as the next */
    size_t next_scope;
} export_group_t;


/* Decodes a request, as decode() does, and checks what OTLP demands of ids. */
export_t *export_decode(
    export_kind_t kind, uint8_t *body, size_t len, const char **why);

void export_free(export_t *request);

/* Sets |group|, which begins as zeros, to the next one of |request|, whose
 * memory it shows. Returns 0 if there is none. */
int export_next(const export_t *request, export_group_t *group);


/* The value of the first attribute |name|, or NULL. */
const any_value_t *export_attribute(
    const char *name, size_t n, key_value_t *const *attributes);

/* The same if it is a string, else "". */
const char *export_string(
    const char *name, size_t n, key_value_t *const *attributes);

/* The same if it is an int from 0 to |max|, else 0. */
int64_t export_number(
    const char *name, size_t n, key_value_t *const *attributes, int64_t max);


#endif
