#include <stdlib.h>
#include <string.h>

#include "decode.h"
#include "utf8.h"


#define WIRE_VARINT 0
#define WIRE_64     1
#define WIRE_LEN    2
#define WIRE_32     5

#define NUL_STANDS_FOR 0x1a


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


ProtobufCMessage *
decode(const ProtobufCMessageDescriptor *type, uint8_t *body, size_t len,
    const char **why)
{
    size_t left = DECODE_MEMORY_MAX;
    bytes_t bytes;
    ProtobufCMessage *message;
    ProtobufCAllocator allocator = {take_memory, give_memory, &left};

    /* an empty body may have no address */
    bytes.pos = body;
    bytes.end = len > 0 ? body + len : body;

    if (check_message(type, bytes, 1, why) != 0) {
        return NULL;
    }

    message = protobuf_c_message_unpack(type, &allocator, len, body);

    if (message == NULL) {
        *why = malformed;
    }

    return message;
}
