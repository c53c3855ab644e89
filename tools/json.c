#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <traceparent/ids.h>

#include "json.h"


/* What is the same for several lines. */
typedef struct {
    FILE *out;
    json_t *headers;
    json_t *resource;
    json_t *scope;
    unsigned long ordinal;
} context_t;


static json_t *any_value(const any_value_t *value);


static json_t *
base64(const ProtobufCBinaryData *bytes)
{
    size_t i;
    char *text, *p;
    json_t *string;
    uint32_t group;

    static const char digits[]
        = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    text = malloc((bytes->len + 2) / 3 * 4 + 1);

    if (text == NULL) {
        return NULL;
    }

    for (p = text, i = 0; i < bytes->len; i += 3) {
        group = (uint32_t) bytes->data[i] << 16;
        group |= i + 1 < bytes->len ? (uint32_t) bytes->data[i + 1] << 8 : 0;
        group |= i + 2 < bytes->len ? bytes->data[i + 2] : 0;

        *p++ = digits[group >> 18];
        *p++ = digits[group >> 12 & 63];
        *p++ = i + 1 < bytes->len ? digits[group >> 6 & 63] : '=';
        *p++ = i + 2 < bytes->len ? digits[group & 63] : '=';
    }

    string = json_stringn(text, (size_t) (p - text));
    free(text);

    return string;
}


/* JSON has no such numbers; their names are those of protobuf's JSON. */
static json_t *
real(double value)
{
    if (isnan(value)) {
        return json_string("NaN");
    }

    if (isinf(value)) {
        return json_string(value > 0 ? "Infinity" : "-Infinity");
    }

    return json_real(value);
}


static json_t *
array(const Opentelemetry__Proto__Common__V1__ArrayValue *values)
{
    size_t i;
    json_t *list;

    list = json_array();

    for (i = 0; i < values->n_values; i++) {
        if (json_array_append_new(list, any_value(values->values[i])) != 0) {
            json_decref(list);
            return NULL;
        }
    }

    return list;
}


static json_t *
attributes(size_t n, key_value_t *const *list)
{
    size_t i;
    json_t *object;

    object = json_object();

    for (i = 0; i < n; i++) {
        if (json_object_set_new(object, list[i]->key, any_value(list[i]->value))
            != 0) {
            json_decref(object);
            return NULL;
        }
    }

    return object;
}


static json_t *
any_value(const any_value_t *value)
{
    if (value == NULL) {
        return json_null();
    }

    switch ((int) value->value_case) {
    case ANY_VALUE(STRING):
        return json_string(value->string_value);
    case ANY_VALUE(BOOL):
        return json_boolean(value->bool_value);
    case ANY_VALUE(INT):
        return json_integer(value->int_value);
    case ANY_VALUE(DOUBLE):
        return real(value->double_value);
    case ANY_VALUE(ARRAY):
        return array(value->array_value);
    case ANY_VALUE(KVLIST):
        return attributes(
            value->kvlist_value->n_values, value->kvlist_value->values);
    case ANY_VALUE(BYTES):
        return base64(&value->bytes_value);
    default:
        return json_null();
    }
}


static json_t *
hex(const ProtobufCBinaryData *id)
{
    uint8_t text[2 * TRACEPARENT_TRACE_ID_SIZE];

    traceparent_hex(text, id->data, id->len);

    return json_stringn((const char *) text, 2 * id->len);
}


static json_t *
nanoseconds(uint64_t time)
{
    char text[24];

    snprintf(text, sizeof(text), "%" PRIu64, time);

    return json_string(text);
}


/* The name of an enumeration's |value| without what all of them begin with;
 * one that is not known is its number. */
static json_t *
enum_name(const ProtobufCEnumDescriptor *type, int value, const char *prefix)
{
    char text[16];
    const ProtobufCEnumValue *known;

    known = protobuf_c_enum_descriptor_get_value(type, value);

    if (known != NULL) {
        return json_string(known->name + strlen(prefix));
    }

    snprintf(text, sizeof(text), "%d", value);

    return json_string(text);
}


static json_t *
events(const span_message_t *span)
{
    size_t i;
    json_t *list;
    const event_message_t *event;

    list = json_array();

    for (i = 0; i < span->n_events; i++) {
        event = span->events[i];

        if (json_array_append_new(
                list, json_pack("{s:o, s:s, s:o, s:I}", "time_unix_nano",
                          nanoseconds(event->time_unix_nano), "name",
                          event->name, "attributes",
                          attributes(event->n_attributes, event->attributes),
                          "dropped_attributes_count",
                          (json_int_t) event->dropped_attributes_count))
            != 0) {
            json_decref(list);
            return NULL;
        }
    }

    return list;
}


static json_t *
links(const span_message_t *span)
{
    size_t i;
    json_t *list;
    const link_message_t *link;

    list = json_array();

    for (i = 0; i < span->n_links; i++) {
        link = span->links[i];

        if (json_array_append_new(
                list, json_pack("{s:o, s:o, s:I, s:s, s:o, s:I}", "trace_id",
                          hex(&link->trace_id), "span_id", hex(&link->span_id),
                          "flags", (json_int_t) link->flags, "trace_state",
                          link->trace_state, "attributes",
                          attributes(link->n_attributes, link->attributes),
                          "dropped_attributes_count",
                          (json_int_t) link->dropped_attributes_count))
            != 0) {
            json_decref(list);
            return NULL;
        }
    }

    return list;
}


static json_t *
status(const span_message_t *span)
{
    int code = 0;
    const char *message = "";

    if (span->status != NULL) {
        code = span->status->code;
        message = span->status->message;
    }

    return json_pack("{s:o, s:s}", "code",
        enum_name(
            &opentelemetry__proto__trace__v1__status__status_code__descriptor,
            code, "STATUS_CODE_"),
        "message", message);
}


static json_t *
span(const context_t *context, const span_message_t *span)
{
    return json_pack("{s:O, s:O, s:O, s:o, s:o, s:o, s:s, s:I, s:s, s:o, s:o,"
                     " s:o, s:o, s:I, s:o, s:I, s:o, s:I, s:o, s:I}",
        "resource", context->resource, "scope", context->scope, "headers",
        context->headers, "trace_id", hex(&span->trace_id), "span_id",
        hex(&span->span_id), "parent_span_id", hex(&span->parent_span_id),
        "trace_state", span->trace_state, "flags", (json_int_t) span->flags,
        "name", span->name, "kind",
        enum_name(&opentelemetry__proto__trace__v1__span__span_kind__descriptor,
            span->kind, "SPAN_KIND_"),
        "start_time_unix_nano", nanoseconds(span->start_time_unix_nano),
        "end_time_unix_nano", nanoseconds(span->end_time_unix_nano),
        "attributes", attributes(span->n_attributes, span->attributes),
        "dropped_attributes_count", (json_int_t) span->dropped_attributes_count,
        "events", events(span), "dropped_events_count",
        (json_int_t) span->dropped_events_count, "links", links(span),
        "dropped_links_count", (json_int_t) span->dropped_links_count, "status",
        status(span), "request", (json_int_t) context->ordinal);
}


static json_t *
record(const context_t *context, const record_message_t *record)
{
    return json_pack("{s:O, s:O, s:O, s:s, s:o, s:o, s:o, s:o, s:I, s:I, s:s,"
                     " s:o, s:o, s:I, s:I}",
        "resource", context->resource, "scope", context->scope, "headers",
        context->headers, "event_name", record->event_name, "trace_id",
        hex(&record->trace_id), "span_id", hex(&record->span_id), "time",
        nanoseconds(record->time_unix_nano), "observed_time",
        nanoseconds(record->observed_time_unix_nano), "flags",
        (json_int_t) record->flags, "severity",
        (json_int_t) record->severity_number, "severity_text",
        record->severity_text, "body", any_value(record->body), "attributes",
        attributes(record->n_attributes, record->attributes),
        "dropped_attributes_count",
        (json_int_t) record->dropped_attributes_count, "request",
        (json_int_t) context->ordinal);
}


/* Prints |object|, which it frees, in a line. */
static int
print_line(FILE *out, json_t *object)
{
    int rc;

    if (object == NULL) {
        return -1;
    }

    /* ASCII, because a terminal obeys U+009B and its like */
    rc = json_dumpf(object, out, JSON_COMPACT | JSON_ENSURE_ASCII);
    json_decref(object);
    putc('\n', out);

    return rc;
}


static int
print_group(context_t *context, const export_group_t *group)
{
    int rc;
    size_t i;
    const scope_message_t *scope = group->scope;
    const resource_message_t *resource = group->resource;

    context->resource = resource == NULL ? json_object()
                                         : attributes(resource->n_attributes,
                                             resource->attributes);
    context->scope
        = json_pack("{s:s, s:s}", "name", scope != NULL ? scope->name : "",
            "version", scope != NULL ? scope->version : "");
    rc = context->resource == NULL || context->scope == NULL ? -1 : 0;

    for (i = 0; rc == 0 && i < group->n_spans; i++) {
        rc = print_line(context->out, span(context, group->spans[i]));
    }

    for (i = 0; rc == 0 && i < group->n_records; i++) {
        rc = print_line(context->out, record(context, group->records[i]));
    }

    json_decref(context->resource);
    json_decref(context->scope);

    return rc;
}


int
json_print(
    FILE *out, const export_t *request, json_t *headers, unsigned long ordinal)
{
    int rc = 0;
    context_t context = {out, headers, NULL, NULL, ordinal};
    export_group_t group = {0};

    while (rc == 0 && export_next(request, &group)) {
        /* an empty one is not worth reading a large resource */
        if (group.n_spans + group.n_records > 0) {
            rc = print_group(&context, &group);
        }
    }

    return rc;
}


int
json_fits(const export_t *request, const json_t *headers)
{
    size_t common;
    uint64_t total = 0;
    export_group_t group = {0};

    common = json_dumpb(headers, NULL, 0, JSON_COMPACT | JSON_ENSURE_ASCII);

    while (export_next(request, &group)) {
        total += (uint64_t) (common + group.resource_size + group.scope_size)
                 * (group.n_spans + group.n_records);
    }

    return total <= JSON_COMMON_MAX;
}
