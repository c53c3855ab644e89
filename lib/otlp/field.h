/*
 * The fields that spans and log records have in common, and the frame that
 * makes one of them a field itself. As in wire.h, each function writes at |p|
 * and returns the address behind what it wrote.
 *
 * The longer ones are not "inline": gcc would have them everywhere, and then
 * no room for otlp_span_begin() in its caller, which costs a span more.
 */

#ifndef OTLP_FIELD_H
#define OTLP_FIELD_H


#include <traceparent/tracestate.h>

#include "text.h"
#include "wire.h"


/* What otlp_field_frame() puts in front: a tag, and a length of up to 3
 * bytes. */
#define OTLP_FRAME_SIZE 4

/* A count of what was dropped: a tag, and a number of up to 5 bytes. */
#define OTLP_COUNT_SIZE 6


static inline uint8_t *
otlp_field_id(uint8_t *p, unsigned field, const uint8_t *id, size_t len)
{
    p = otlp_wire_bytes(p, field, len);
    otlp_wire_copy(p, id, len);

    return p + len;
}


/* A text, or nothing if it is empty. Returns NULL if it does not fit. */
static uint8_t *
otlp_field_text(uint8_t *p, const uint8_t *end, unsigned field,
    const traceparent_view_t *text)
{
    size_t room, size;
    uint8_t *start;

    if (text->len == 0) {
        return p;
    }

    room = (size_t) (end - p);

    if (text->len > room || otlp_wire_bytes_size(text->len) > room) {
        return NULL;
    }

    start = otlp_wire_bytes(p, field, text->len);

    if (otlp_wire_copy(start, text->data, text->len) == 0) {
        return start + text->len;
    }

    size = otlp_text_size(text->data, text->len);

    if (otlp_wire_bytes_size(size) > room) {
        return NULL;
    }

    start = otlp_wire_bytes(p, field, size);

    return otlp_text_write(start, text->data, text->len);
}


static uint8_t *
otlp_field_count(uint8_t *p, unsigned field, uint32_t count)
{
    if (count == 0) {
        return p;
    }

    *p++ = (uint8_t) OTLP_WIRE_VARINT(field);

    return otlp_wire_varint(p, count);
}


/*
 * Makes a field of the bytes from |start|, where the room for the frame is, to
 * |end|. Their length is known only now, and is right-aligned before them, so
 * that it is no longer than it needs to be.
 */
static inline void
otlp_field_frame(traceparent_view_t *frame, unsigned field,
    const uint8_t *start, uint8_t *end)
{
    size_t len;
    uint8_t *dest;

    len = (size_t) (end - start) - OTLP_FRAME_SIZE;

    frame->len = otlp_wire_bytes_size(len);
    dest = end - frame->len;
    frame->data = dest;

    otlp_wire_bytes(dest, field, len);
}


#endif
