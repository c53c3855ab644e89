#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <traceparent/ids.h>

#include "json.h"


/* What is the same for several spans. */
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


static int
print_span(const context_t *context, const span_message_t *span)
{
    int rc;
    json_t *object;

    object = json_pack("{s:O, s:O, s:O, s:o, s:o, s:o, s:s, s:I, s:s, s:o, s:o,"
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

    if (object == NULL) {
        return -1;
    }

    /* ASCII, because a terminal obeys U+009B and its like */
    rc = json_dumpf(object, context->out, JSON_COMPACT | JSON_ENSURE_ASCII);
    json_decref(object);
    putc('\n', context->out);

    return rc;
}


static int
print_scope(context_t *context, const scope_spans_t *scope_spans)
{
    int rc;
    size_t i;
    const Opentelemetry__Proto__Common__V1__InstrumentationScope *scope;

    scope = scope_spans->scope;
    context->scope
        = json_pack("{s:s, s:s}", "name", scope != NULL ? scope->name : "",
            "version", scope != NULL ? scope->version : "");
    rc = context->scope == NULL ? -1 : 0;

    for (i = 0; rc == 0 && i < scope_spans->n_spans; i++) {
        rc = print_span(context, scope_spans->spans[i]);
    }

    json_decref(context->scope);

    return rc;
}


int
json_print(FILE *out, const export_request_t *request, json_t *headers,
    unsigned long ordinal)
{
    int rc = 0;
    size_t i, j;
    context_t context = {out, headers, NULL, NULL, ordinal};
    const resource_spans_t *group;

    for (i = 0; rc == 0 && i < request->n_resource_spans; i++) {
        group = request->resource_spans[i];
        context.resource = group->resource == NULL
                               ? json_object()
                               : attributes(group->resource->n_attributes,
                                   group->resource->attributes);
        rc = context.resource == NULL ? -1 : 0;

        for (j = 0; rc == 0 && j < group->n_scope_spans; j++) {
            rc = print_scope(&context, group->scope_spans[j]);
        }

        json_decref(context.resource);
    }

    return rc;
}


int
json_fits(const export_request_t *request, const json_t *headers)
{
    size_t i, j, common, head, scope;
    uint64_t total = 0;
    const scope_spans_t *spans;
    const resource_spans_t *group;

    head = json_dumpb(headers, NULL, 0, JSON_COMPACT | JSON_ENSURE_ASCII);

    for (i = 0; i < request->n_resource_spans; i++) {
        group = request->resource_spans[i];
        common = head;

        if (group->resource != NULL) {
            common
                += protobuf_c_message_get_packed_size(&group->resource->base);
        }

        for (j = 0; j < group->n_scope_spans; j++) {
            spans = group->scope_spans[j];
            scope = spans->scope == NULL ? 0
                                         : protobuf_c_message_get_packed_size(
                                             &spans->scope->base);
            total += (uint64_t) (common + scope) * spans->n_spans;
        }
    }

    return total <= JSON_COMMON_MAX;
}
