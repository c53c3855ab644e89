/*
 * For the C tests of what is written as OTLP bytes and read back with
 * protobuf-c's generated code.
 */

#ifndef OTLP_H
#define OTLP_H


#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <traceparent/tracestate.h>

#include "opentelemetry/proto/common/v1/common.pb-c.h"


/* A key, or a name, and its length. */
#define KEY(s) (s), sizeof(s) - 1

#define VALUE(name) OPENTELEMETRY__PROTO__COMMON__V1__ANY_VALUE__VALUE_##name


typedef Opentelemetry__Proto__Common__V1__AnyValue any_t;
typedef Opentelemetry__Proto__Common__V1__KeyValue key_value_t;


static const uint8_t trace_id[16]
    = {0x4b, 0xf9, 0, 0x35, 0x77, 0xb3, 0x4d, 0xa6, 0xa3, 1, 2, 3, 4, 5, 6, 7};
static const uint8_t span_id[8] = {0, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 2, 0xb7};


static inline traceparent_view_t
view(const char *text)
{
    traceparent_view_t v;

    v.data = (const uint8_t *) text;
    v.len = strlen(text);

    return v;
}


/* How many unknown fields a message has, those of its parts included. */
static inline unsigned
unknown_fields(const ProtobufCMessage *message)
{
    size_t j, n;
    unsigned i, count;
    const void *at;
    const ProtobufCFieldDescriptor *field;

    count = message->n_unknown_fields;

    for (i = 0; i < message->descriptor->n_fields; i++) {
        field = &message->descriptor->fields[i];
        at = (const char *) message + field->offset;

        if (field->type != PROTOBUF_C_TYPE_MESSAGE) {
            continue;
        }

        if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0
            && *(const uint32_t *) ((const char *) message
                                    + field->quantifier_offset)
                   != field->id) {
            continue;
        }

        if (field->label != PROTOBUF_C_LABEL_REPEATED) {
            if (*(ProtobufCMessage *const *) at != NULL) {
                count += unknown_fields(*(ProtobufCMessage *const *) at);
            }

            continue;
        }

        n = *(
            const size_t *) ((const char *) message + field->quantifier_offset);

        for (j = 0; j < n; j++) {
            count
                += unknown_fields((*(ProtobufCMessage *const *const *) at)[j]);
        }
    }

    return count;
}


/* protobuf-c's own encoding of a message is as short as can be, so ours has to
 * be exactly as long. */
static inline int
is_shortest(const ProtobufCMessage *message, size_t len)
{
    return unknown_fields(message) == 0
           && protobuf_c_message_get_packed_size(message) == len;
}


/* The value of attribute |i| if it has |key|. */
static inline any_t *
attribute_in(key_value_t **attributes, size_t n, size_t i, const char *key)
{
    if (i >= n || strcmp(attributes[i]->key, key) != 0) {
        return NULL;
    }

    return attributes[i]->value;
}


static inline int
is_string(const any_t *value, const char *expected)
{
    return value != NULL && value->value_case == VALUE(STRING_VALUE)
           && strcmp(value->string_value, expected) == 0;
}


static inline int
is_int(const any_t *value, int64_t expected)
{
    return value != NULL && value->value_case == VALUE(INT_VALUE)
           && value->int_value == expected;
}


static inline int
is_bool(const any_t *value, int expected)
{
    return value != NULL && value->value_case == VALUE(BOOL_VALUE)
           && value->bool_value == expected;
}


static inline int
is_double(const any_t *value, double expected)
{
    return value != NULL && value->value_case == VALUE(DOUBLE_VALUE)
           && memcmp(&value->double_value, &expected, sizeof(double)) == 0;
}


static inline int
is_id(const ProtobufCBinaryData *id, const uint8_t *expected, size_t len)
{
    return id->len == len && memcmp(id->data, expected, len) == 0;
}


#endif
