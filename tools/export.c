#include <string.h>

#include "decode.h"
#include "export.h"


#define COLLECTOR(name) opentelemetry__proto__collector__##name

/* The same in both kinds: a request is a list of resources, which are lists of
 * scopes, which are lists of spans or records. */
#define FIELD_RESOURCES 1
#define FIELD_COMMON    1
#define FIELD_LIST      2


/* "All zeroes or of length other than 16 (8) bytes is considered invalid",
 * opentelemetry/proto/trace/v1/trace.proto. */
static int
is_id(const ProtobufCBinaryData *id, size_t len)
{
    static const uint8_t zeros[16];

    return id->len == len && memcmp(id->data, zeros, len) != 0;
}


static const char *
wrong_span(const span_message_t *span)
{
    size_t i;

    if (!is_id(&span->trace_id, 16)) {
        return "a trace_id is not 16 bytes, or all zero";
    }

    if (!is_id(&span->span_id, 8)) {
        return "a span_id is not 8 bytes, or all zero";
    }

    if (span->parent_span_id.len != 0 && span->parent_span_id.len != 8) {
        return "a parent_span_id is neither 8 bytes nor empty";
    }

    for (i = 0; i < span->n_links; i++) {
        if (!is_id(&span->links[i]->trace_id, 16)
            || !is_id(&span->links[i]->span_id, 8)) {
            return "the trace_id or span_id of a link is invalid";
        }
    }

    return NULL;
}


/* A record may belong to no trace, or to no span. */
static const char *
wrong_record(const record_message_t *record)
{
    if (record->trace_id.len != 0 && !is_id(&record->trace_id, 16)) {
        return "a trace_id is neither 16 bytes nor empty, or all zero";
    }

    if (record->span_id.len != 0 && !is_id(&record->span_id, 8)) {
        return "a span_id is neither 8 bytes nor empty, or all zero";
    }

    return NULL;
}


static const char *
wrong_ids(const export_t *request)
{
    size_t i;
    const char *why;
    export_group_t group = {0};

    while (export_next(request, &group)) {
        for (i = 0; i < group.n_spans; i++) {
            why = wrong_span(group.spans[i]);

            if (why != NULL) {
                return why;
            }
        }

        for (i = 0; i < group.n_records; i++) {
            why = wrong_record(group.records[i]);

            if (why != NULL) {
                return why;
            }
        }
    }

    return NULL;
}


export_t *
export_decode(export_kind_t kind, uint8_t *body, size_t len, const char **why)
{
    export_t *request;

    static const ProtobufCMessageDescriptor *const types[] = {
        [EXPORT_SPANS]
        = &COLLECTOR(trace__v1__export_trace_service_request__descriptor),
        [EXPORT_RECORDS]
        = &COLLECTOR(logs__v1__export_logs_service_request__descriptor),
    };

    request = decode(types[kind], body, len, why);

    if (request == NULL) {
        return NULL;
    }

    *why = wrong_ids(request);

    if (*why != NULL) {
        export_free(request);
        return NULL;
    }

    return request;
}


void
export_free(export_t *request)
{
    protobuf_c_message_free_unpacked(request, NULL);
}


/* What a field refers to: a message or NULL, or the |*n| ones of a list. */
static void *
field_of(const ProtobufCMessage *message, unsigned number, size_t *n)
{
    void *value;
    const char *start = (const char *) message;
    const ProtobufCFieldDescriptor *field;

    field
        = protobuf_c_message_descriptor_get_field(message->descriptor, number);
    memcpy(&value, start + field->offset, sizeof(value));

    if (n != NULL) {
        memcpy(n, start + field->quantifier_offset, sizeof(*n));
    }

    return value;
}


static void
begin_resource(export_group_t *group, const ProtobufCMessage *message)
{
    group->resource = field_of(message, FIELD_COMMON, NULL);
    group->service = "";
    group->resource_size = 0;

    if (group->resource != NULL) {
        group->service = export_string("service.name",
            group->resource->n_attributes, group->resource->attributes);
        group->resource_size
            = protobuf_c_message_get_packed_size(&group->resource->base);
    }
}


static void
begin_scope(export_group_t *group, const ProtobufCMessage *message)
{
    group->scope = field_of(message, FIELD_COMMON, NULL);
    group->scope_size
        = group->scope == NULL
              ? 0
              : protobuf_c_message_get_packed_size(&group->scope->base);

    if (message->descriptor
        == &opentelemetry__proto__logs__v1__scope_logs__descriptor) {
        group->records = field_of(message, FIELD_LIST, &group->n_records);

    } else {
        group->spans = field_of(message, FIELD_LIST, &group->n_spans);
    }
}


int
export_next(const export_t *request, export_group_t *group)
{
    size_t n_resources, n_scopes;
    ProtobufCMessage **resources, **scopes;

    resources = field_of(request, FIELD_RESOURCES, &n_resources);

    while (group->next_resource < n_resources) {
        if (group->next_scope == 0) {
            begin_resource(group, resources[group->next_resource]);
        }

        scopes
            = field_of(resources[group->next_resource], FIELD_LIST, &n_scopes);

        if (group->next_scope < n_scopes) {
            begin_scope(group, scopes[group->next_scope++]);
            return 1;
        }

        group->next_resource++;
        group->next_scope = 0;
    }

    return 0;
}


const any_value_t *
export_attribute(const char *name, size_t n, key_value_t *const *attributes)
{
    size_t i;

    for (i = 0; i < n; i++) {
        if (strcmp(attributes[i]->key, name) == 0) {
            return attributes[i]->value;
        }
    }

    return NULL;
}


const char *
export_string(const char *name, size_t n, key_value_t *const *attributes)
{
    const any_value_t *value = export_attribute(name, n, attributes);

    if (value == NULL || value->value_case != ANY_VALUE(STRING)) {
        return "";
    }

    return value->string_value;
}


int64_t
export_number(
    const char *name, size_t n, key_value_t *const *attributes, int64_t max)
{
    const any_value_t *value = export_attribute(name, n, attributes);

    if (value == NULL || value->value_case != ANY_VALUE(INT)
        || value->int_value < 0 || value->int_value > max) {
        return 0;
    }

    return value->int_value;
}
