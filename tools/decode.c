#include <stdlib.h>
#include <string.h>

#include "decode.h"
#include "utf8.h"


#define WIRE_VARINT 0
#define WIRE_64     1
#define WIRE_LEN    2
#define WIRE_32     5

#define NUL_STANDS_FOR 0x1a

#define COLLECTOR(name) opentelemetry__proto__collector__trace__v1__##name


typedef struct {
    uint8_t *pos;
    uint8_t *end;
} bytes_t;


static const char malformed[] = "the body is not an export request";


static int
read_varint(bytes_t *bytes, uint64_t *value)
{
    unsigned shift;

    *value = 0;

    for (shift = 0; shift < 70 && bytes->pos < bytes->end; shift += 7) {
        *value |= (uint64_t) (*bytes->pos & 0x7f) << shift;

        if (*bytes->pos++ < 0x80) {
            return 0;
        }
    }

    return -1;
}


/* Steps over one field's value; |value| is set to it if it has a length. */
static int
read_value(bytes_t *bytes, unsigned wire_type, bytes_t *value)
{
    uint64_t n;

    switch (wire_type) {
    case WIRE_VARINT:
        return read_varint(bytes, &n);
    case WIRE_64:
        n = 8;
        break;
    case WIRE_32:
        n = 4;
        break;
    case WIRE_LEN:
        if (read_varint(bytes, &n) != 0) {
            return -1;
        }
        break;
    default:
        return -1;
    }

    if (n > (uint64_t) (bytes->end - bytes->pos)) {
        return -1;
    }

    value->pos = bytes->pos;
    value->end = bytes->pos + n;
    bytes->pos = value->end;

    return 0;
}


static int
check_string(bytes_t string, const char **why)
{
    size_t len = (size_t) (string.end - string.pos);
    uint8_t *nul;

    if (!utf8_valid(string.pos, len)) {
        *why = "a string is not UTF-8";
        return -1;
    }

    while ((nul = memchr(string.pos, 0, len)) != NULL) {
        *nul = NUL_STANDS_FOR;
        string.pos = nul + 1;
        len = (size_t) (string.end - string.pos);
    }

    return 0;
}


/* Checks one message of |type| and those within it. */
static int
check_message(const ProtobufCMessageDescriptor *type, bytes_t message,
    unsigned depth, const char **why)
{
    uint64_t tag;
    bytes_t value;
    const ProtobufCFieldDescriptor *field;

    if (depth > DECODE_DEPTH_MAX) {
        *why = "messages are nested too deep";
        return -1;
    }

    while (message.pos < message.end) {
        if (read_varint(&message, &tag) != 0 || tag > UINT32_MAX || tag < 8
            || read_value(&message, (unsigned) tag & 7, &value) != 0) {
            *why = malformed;
            return -1;
        }

        field = protobuf_c_message_descriptor_get_field(
            type, (unsigned) (tag >> 3));

        if (field == NULL || (tag & 7) != WIRE_LEN) {
            continue;
        }

        if (field->type == PROTOBUF_C_TYPE_STRING
            && check_string(value, why) != 0) {
            return -1;
        }

        if (field->type == PROTOBUF_C_TYPE_MESSAGE
            && check_message(field->descriptor, value, depth + 1, why) != 0) {
            return -1;
        }
    }

    return 0;
}


/* A request of many empty messages is some hundred times as large decoded. */
static void *
take_memory(void *data, size_t size)
{
    size_t *left = data;

    if (size > *left) {
        return NULL;
    }

    *left -= size;

    return malloc(size);
}


static void
give_memory(void *data, void *memory)
{
    (void) data;

    free(memory);
}


/* "All zeroes or of length other than 16 (8) bytes is considered invalid",
 * opentelemetry/proto/trace/v1/trace.proto. */
static int
is_id(const ProtobufCBinaryData *id, size_t len)
{
    static const uint8_t zeros[16];

    return id->len == len && memcmp(id->data, zeros, len) != 0;
}


static const char *
wrong_id(const span_message_t *span)
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


static const char *
wrong_ids(const export_request_t *request)
{
    size_t i, j, k;
    const char *why;
    const scope_spans_t *scope_spans;
    const resource_spans_t *resource_spans;

    for (i = 0; i < request->n_resource_spans; i++) {
        resource_spans = request->resource_spans[i];

        for (j = 0; j < resource_spans->n_scope_spans; j++) {
            scope_spans = resource_spans->scope_spans[j];

            for (k = 0; k < scope_spans->n_spans; k++) {
                why = wrong_id(scope_spans->spans[k]);

                if (why != NULL) {
                    return why;
                }
            }
        }
    }

    return NULL;
}


export_request_t *
decode_request(uint8_t *body, size_t len, const char **why)
{
    size_t left = DECODE_MEMORY_MAX;
    bytes_t message;
    export_request_t *request;
    ProtobufCMessage *unpacked;
    ProtobufCAllocator allocator = {take_memory, give_memory, &left};

    static const ProtobufCMessageDescriptor *type
        = &COLLECTOR(export_trace_service_request__descriptor);

    /* an empty body may have no address */
    message.pos = body;
    message.end = len > 0 ? body + len : body;

    if (check_message(type, message, 1, why) != 0) {
        return NULL;
    }

    unpacked = protobuf_c_message_unpack(type, &allocator, len, body);

    if (unpacked == NULL) {
        *why = malformed;
        return NULL;
    }

    request = (export_request_t *) unpacked;
    *why = wrong_ids(request);

    if (*why != NULL) {
        decode_free(request);
        return NULL;
    }

    return request;
}


void
decode_free(export_request_t *request)
{
    protobuf_c_message_free_unpacked((ProtobufCMessage *) request, NULL);
}
