#include <traceparent/otlp/span.h>

#include "field.h"


/* Field numbers of opentelemetry/proto/trace/v1/trace.proto, message Span */
#define SPAN_TRACE_ID           1
#define SPAN_SPAN_ID            2
#define SPAN_TRACE_STATE        3
#define SPAN_PARENT_SPAN_ID     4
#define SPAN_NAME               5
#define SPAN_KIND               6
#define SPAN_START_TIME         7
#define SPAN_END_TIME           8
#define SPAN_ATTRIBUTES         9
#define SPAN_DROPPED_ATTRIBUTES 10
#define SPAN_EVENTS             11
#define SPAN_DROPPED_EVENTS     12
#define SPAN_LINKS              13
#define SPAN_DROPPED_LINKS      14
#define SPAN_STATUS             15
#define SPAN_FLAGS              16

/* message Event */
#define EVENT_TIME               1
#define EVENT_NAME               2
#define EVENT_ATTRIBUTES         3
#define EVENT_DROPPED_ATTRIBUTES 4

/* message Link */
#define LINK_TRACE_ID 1
#define LINK_SPAN_ID  2
#define LINK_FLAGS    6

/* message Status */
#define STATUS_CODE 3

/* message ScopeSpans */
#define SCOPE_SPANS_SPANS 2

/* opentelemetry/proto/common/v1/common.proto, message KeyValue */
#define KEY_VALUE_KEY   1
#define KEY_VALUE_VALUE 2

/* message AnyValue */
#define ANY_VALUE_STRING 1
#define ANY_VALUE_BOOL   2
#define ANY_VALUE_INT    3
#define ANY_VALUE_DOUBLE 4
#define ANY_VALUE_ARRAY  5

/* message ArrayValue */
#define ARRAY_VALUE_VALUES 1

/* What otlp_span_end() appends: three counts and a status of 4 bytes. */
#define TAIL_SIZE (3 * OTLP_COUNT_SIZE + 4)

/* An event: a tag and a length, of one byte unless it gets longer than that can
 * say; its time; and what its end may need, a longer length and a count. */
#define EVENT_FRAME_SIZE 2
#define EVENT_TIME_SIZE  9
#define EVENT_TAIL_SIZE  (2 + OTLP_COUNT_SIZE)
#define EVENT_SIZE       (EVENT_FRAME_SIZE + EVENT_TIME_SIZE + EVENT_TAIL_SIZE)

/* An attribute whose key and value are shorter than this together, or an event
 * whose name is, needs one byte for each length, and SHORT_SIZE bytes at most
 * with all of them. */
#define SHORT      117
#define SHORT_SIZE (SHORT + 13)

/* Fields of a head, tags and lengths included, without texts: trace_id,
 * span_id, parent_span_id, kind, both times, flags. */
#define HEAD_SIZE (18 + 10 + 10 + 3 + 9 + 9 + 6)


int
otlp_span_begin(
    otlp_span_t *span, uint8_t *buf, size_t size, const otlp_span_head_t *head)
{
    uint8_t *end, *end_time, *p;

    if (size > OTLP_SPAN_MAX) {
        size = OTLP_SPAN_MAX;
    }

    if (size < OTLP_FRAME_SIZE + HEAD_SIZE + TAIL_SIZE) {
        return OTLP_ERR_ROOM;
    }

    end = buf + size - TAIL_SIZE;

    p = buf + OTLP_FRAME_SIZE;
    p = otlp_field_id(
        p, SPAN_TRACE_ID, head->trace_id, TRACEPARENT_TRACE_ID_SIZE);
    p = otlp_field_id(p, SPAN_SPAN_ID, head->span_id, TRACEPARENT_SPAN_ID_SIZE);

    if (head->parent_span_id != NULL) {
        p = otlp_field_id(p, SPAN_PARENT_SPAN_ID, head->parent_span_id,
            TRACEPARENT_SPAN_ID_SIZE);
    }

    *p++ = OTLP_WIRE_VARINT(SPAN_KIND);
    p = otlp_wire_varint(p, head->kind);
    *p++ = OTLP_WIRE_FIXED64(SPAN_START_TIME);
    p = otlp_wire_fixed64(p, head->start_time);
    *p++ = OTLP_WIRE_FIXED64(SPAN_END_TIME);
    end_time = p;
    p = otlp_wire_fixed64(p, head->start_time);

    if (head->flags != 0) {
        p = otlp_wire_varint(p, OTLP_WIRE_FIXED32(SPAN_FLAGS));
        p = otlp_wire_fixed32(p, head->flags);
    }

    /* The texts come last, where the room that is left is exactly theirs. */
    p = otlp_field_text(p, end, SPAN_TRACE_STATE, &head->tracestate);
    if (p == NULL) {
        return OTLP_ERR_ROOM;
    }

    p = otlp_field_text(p, end, SPAN_NAME, &head->name);
    if (p == NULL) {
        return OTLP_ERR_ROOM;
    }

    span->start = buf;
    span->pos = p;
    span->end = end;
    span->end_time = end_time;
    span->start_time = head->start_time;
    span->dropped_attributes = 0;
    span->dropped_events = 0;
    span->dropped_links = 0;
    span->attributes = OTLP_WIRE_BYTES(SPAN_ATTRIBUTES);

    return 0;
}


void
otlp_span_attributes_begin(otlp_span_t *span, uint8_t *buf, size_t size)
{
    memset(span, 0, sizeof(otlp_span_t));

    span->start = buf;
    span->pos = buf;
    span->end = buf + size;
    span->attributes = OTLP_WIRE_BYTES(SPAN_ATTRIBUTES);
}


void
otlp_span_move(otlp_span_t *span, uint8_t *buf, size_t size)
{
    size_t len;

    len = (size_t) (span->pos - span->start);
    memcpy(buf, span->start, len);

    span->start = buf;
    span->pos = buf + len;
    span->end = buf + size;
}


/*
 * Writes an attribute up to the |len| bytes of its value, which are to be
 * written at the returned address; |tag| says which of AnyValue it is. Returns
 * NULL, and counts, if the whole does not fit. The caller moves span->pos when
 * the value is there.
 */
static uint8_t *
attribute(
    otlp_span_t *span, const char *key, size_t key_len, uint8_t tag, size_t len)
{
    int delimited;
    size_t size, value_size;
    uint8_t *p;

    /* so that no sum can overflow */
    if (key_len > OTLP_SPAN_MAX || len > OTLP_SPAN_MAX) {
        span->dropped_attributes++;
        return NULL;
    }

    delimited = OTLP_WIRE_IS_BYTES(tag);
    value_size = delimited ? otlp_wire_bytes_size(len) : 1 + len;
    size = otlp_wire_bytes_size(key_len) + otlp_wire_bytes_size(value_size);

    if (otlp_wire_bytes_size(size) > (size_t) (span->end - span->pos)) {
        span->dropped_attributes++;
        return NULL;
    }

    p = span->pos;
    *p++ = span->attributes;
    p = otlp_wire_varint(p, size);
    p = otlp_wire_bytes(p, KEY_VALUE_KEY, key_len);
    otlp_wire_copy(p, (const uint8_t *) key, key_len);
    p = otlp_wire_bytes(p + key_len, KEY_VALUE_VALUE, value_size);
    *p++ = tag;

    return delimited ? otlp_wire_varint(p, len) : p;
}


/*
 * The same in a third of the time for nearly all attributes: those of which
 * each length takes one byte, while there is room to spare. Returns NULL for
 * others, which are attribute()'s.
 */
static inline uint8_t *
short_attribute(
    otlp_span_t *span, const char *key, size_t key_len, uint8_t tag, size_t len)
{
    size_t value_size;
    uint8_t *p;

    /* lengths of what is in memory: their sum cannot overflow */
    if (key_len + len >= SHORT || span->end - span->pos < SHORT_SIZE) {
        return NULL;
    }

    value_size = OTLP_WIRE_IS_BYTES(tag) ? 2 + len : 1 + len;

    p = span->pos;
    *p++ = span->attributes;
    *p++ = (uint8_t) (2 + key_len + 2 + value_size);
    *p++ = OTLP_WIRE_BYTES(KEY_VALUE_KEY);
    *p++ = (uint8_t) key_len;
    otlp_wire_copy(p, (const uint8_t *) key, key_len);
    p += key_len;
    *p++ = OTLP_WIRE_BYTES(KEY_VALUE_VALUE);
    *p++ = (uint8_t) value_size;
    *p++ = tag;

    if (OTLP_WIRE_IS_BYTES(tag)) {
        *p++ = (uint8_t) len;
    }

    return p;
}


/* Inlined, it would make every call of otlp_span_string() save registers. */
static void string_attribute(otlp_span_t *, const char *, size_t,
    const uint8_t *, size_t) __attribute__((noinline));


/* A string of any length and of any bytes. */
static void
string_attribute(otlp_span_t *span, const char *key, size_t key_len,
    const uint8_t *value, size_t len)
{
    uint8_t *p;

    if (len > OTLP_SPAN_MAX) {
        span->dropped_attributes++;
        return;
    }

    p = attribute(span, key, key_len, OTLP_WIRE_BYTES(ANY_VALUE_STRING),
        otlp_text_size(value, len));
    if (p != NULL) {
        span->pos = otlp_text_write(p, value, len);
    }
}


void
otlp_span_string(otlp_span_t *span, const char *key, size_t key_len,
    const uint8_t *value, size_t len)
{
    uint8_t *p;

    p = short_attribute(
        span, key, key_len, OTLP_WIRE_BYTES(ANY_VALUE_STRING), len);

    if (p != NULL && otlp_wire_copy(p, value, len) == 0) {
        span->pos = p + len;
        return;
    }

    string_attribute(span, key, key_len, value, len);
}


/* A value whose |len| bytes the caller knows how to write. */
static inline uint8_t *
number_attribute(
    otlp_span_t *span, const char *key, size_t key_len, uint8_t tag, size_t len)
{
    uint8_t *p;

    p = short_attribute(span, key, key_len, tag, len);

    return p != NULL ? p : attribute(span, key, key_len, tag, len);
}


void
otlp_span_int(otlp_span_t *span, const char *key, size_t key_len, int64_t value)
{
    uint8_t *p;

    p = number_attribute(span, key, key_len, OTLP_WIRE_VARINT(ANY_VALUE_INT),
        otlp_wire_varint_size((uint64_t) value));
    if (p == NULL) {
        return;
    }

    span->pos = otlp_wire_varint(p, (uint64_t) value);
}


/* Where a key has its parts: sizes that depend on the value are between. */
#define KEY_NAME       4
#define KEY_VALUE_SIZE 1
#define KEY_VALUE_TAG  2
#define KEY_SIZE       3


int
otlp_key_init(otlp_key_t *key, const char *name, size_t len)
{
    if (len > OTLP_KEY_NAME_MAX) {
        return OTLP_ERR_ROOM;
    }

    memset(key, 0, sizeof(otlp_key_t));

    key->bytes[2] = OTLP_WIRE_BYTES(KEY_VALUE_KEY);
    key->bytes[3] = (uint8_t) len;
    memcpy(key->bytes + KEY_NAME, name, len);
    key->bytes[KEY_NAME + len] = OTLP_WIRE_BYTES(KEY_VALUE_VALUE);
    key->name_len = (uint8_t) len;

    return 0;
}


/* short_attribute() with a key, of which it copies all bytes in any case. */
static inline uint8_t *
key_attribute(otlp_span_t *span, const otlp_key_t *key, uint8_t tag, size_t len)
{
    size_t value_size;
    uint8_t *p, *value;

    if (len >= SHORT - OTLP_KEY_NAME_MAX
        || span->end - span->pos < SHORT_SIZE) {
        return NULL;
    }

    value_size = OTLP_WIRE_IS_BYTES(tag) ? 2 + len : 1 + len;

    p = span->pos;
    memcpy(p, key->bytes, sizeof(key->bytes));
    p[0] = span->attributes;
    p[1] = (uint8_t) (2 + key->name_len + 2 + value_size);

    value = p + KEY_NAME + key->name_len;
    value[KEY_VALUE_SIZE] = (uint8_t) value_size;
    value[KEY_VALUE_TAG] = tag;

    if (OTLP_WIRE_IS_BYTES(tag)) {
        value[KEY_SIZE] = (uint8_t) len;
        value++;
    }

    return value + KEY_SIZE;
}


void
otlp_span_key_string(
    otlp_span_t *span, const otlp_key_t *key, const uint8_t *value, size_t len)
{
    uint8_t *p;

    p = key_attribute(span, key, OTLP_WIRE_BYTES(ANY_VALUE_STRING), len);

    if (p != NULL && otlp_wire_copy(p, value, len) == 0) {
        span->pos = p + len;
        return;
    }

    string_attribute(
        span, (const char *) key->bytes + KEY_NAME, key->name_len, value, len);
}


void
otlp_span_key_int(otlp_span_t *span, const otlp_key_t *key, int64_t value)
{
    size_t len;
    uint8_t *p;

    /* Most numbers have two of these digits. */
    len = (uint64_t) value - 0x80 < 0x4000 - 0x80
              ? 2
              : otlp_wire_varint_size((uint64_t) value);

    p = key_attribute(span, key, OTLP_WIRE_VARINT(ANY_VALUE_INT), len);

    if (p != NULL && len == 2) {
        p[0] = (uint8_t) (value | 0x80);
        p[1] = (uint8_t) (value >> 7);
        span->pos = p + 2;
        return;
    }

    if (p != NULL) {
        span->pos = otlp_wire_varint(p, (uint64_t) value);
        return;
    }

    otlp_span_int(
        span, (const char *) key->bytes + KEY_NAME, key->name_len, value);
}


void
otlp_span_double(
    otlp_span_t *span, const char *key, size_t key_len, double value)
{
    uint8_t *p;
    uint64_t bits;

    p = attribute(
        span, key, key_len, OTLP_WIRE_FIXED64(ANY_VALUE_DOUBLE), sizeof(bits));
    if (p == NULL) {
        return;
    }

    memcpy(&bits, &value, sizeof(bits));

    span->pos = otlp_wire_fixed64(p, bits);
}


void
otlp_span_bool(otlp_span_t *span, const char *key, size_t key_len, int value)
{
    uint8_t *p;

    p = number_attribute(
        span, key, key_len, OTLP_WIRE_VARINT(ANY_VALUE_BOOL), 1);
    if (p == NULL) {
        return;
    }

    *p++ = value != 0;
    span->pos = p;
}


void
otlp_span_strings(otlp_span_t *span, const char *key, size_t key_len,
    const traceparent_view_t *values, size_t n)
{
    size_t i, size;
    uint8_t *p;

    size = 0;

    for (i = 0; i < n && size <= OTLP_SPAN_MAX; i++) {
        if (values[i].len > OTLP_SPAN_MAX) {
            span->dropped_attributes++;
            return;
        }

        size += otlp_wire_bytes_size(otlp_wire_bytes_size(
            otlp_text_size(values[i].data, values[i].len)));
    }

    p = attribute(span, key, key_len, OTLP_WIRE_BYTES(ANY_VALUE_ARRAY), size);
    if (p == NULL) {
        return;
    }

    for (i = 0; i < n; i++) {
        size = otlp_text_size(values[i].data, values[i].len);
        p = otlp_wire_bytes(p, ARRAY_VALUE_VALUES, otlp_wire_bytes_size(size));
        p = otlp_wire_bytes(p, ANY_VALUE_STRING, size);
        p = otlp_text_write(p, values[i].data, values[i].len);
    }

    span->pos = p;
}


/* What the writer has written into |known|. */
static int
known_end(otlp_known_t *known, const otlp_span_t *span)
{
    known->len = (uint8_t) (span->pos - known->bytes);

    return span->dropped_attributes == 0 ? 0 : OTLP_ERR_ROOM;
}


int
otlp_known_string(otlp_known_t *known, const char *key, size_t key_len,
    const uint8_t *value, size_t len)
{
    otlp_span_t span;

    otlp_span_attributes_begin(&span, known->bytes, OTLP_KNOWN_MAX);
    otlp_span_string(&span, key, key_len, value, len);

    return known_end(known, &span);
}


int
otlp_known_bool(otlp_known_t *known, const char *key, size_t key_len, int value)
{
    otlp_span_t span;

    otlp_span_attributes_begin(&span, known->bytes, OTLP_KNOWN_MAX);
    otlp_span_bool(&span, key, key_len, value);

    return known_end(known, &span);
}


void
otlp_span_known(otlp_span_t *span, const otlp_known_t *known)
{
    if (span->end - span->pos < OTLP_KNOWN_MAX) {
        otlp_span_encoded(span, known->bytes, known->len, 1);
        return;
    }

    memcpy(span->pos, known->bytes, OTLP_KNOWN_MAX);
    span->pos += known->len;
}


void
otlp_span_encoded(otlp_span_t *span, const uint8_t *src, size_t len, uint32_t n)
{
    if (len > (size_t) (span->end - span->pos)) {
        span->dropped_attributes += n;
        return;
    }

    otlp_wire_copy(span->pos, src, len);
    span->pos += len;
}


/* Of what was written here. */
static const uint8_t *
read_len(const uint8_t *p, size_t *len)
{
    unsigned shift = 0;

    for (*len = 0; *p >= 0x80; p++, shift += 7) {
        *len |= (size_t) (*p & 0x7f) << shift;
    }

    *len |= (size_t) *p << shift;

    return p + 1;
}


void
otlp_span_append(otlp_span_t *span, const otlp_span_t *from)
{
    size_t len, size;
    const uint8_t *frame, *next;

    span->dropped_attributes += from->dropped_attributes;
    span->dropped_events += from->dropped_events;

    size = (size_t) (from->pos - from->start);

    if (size <= (size_t) (span->end - span->pos)) {
        otlp_span_encoded(span, from->start, size, 0);
        return;
    }

    for (frame = from->start; frame < from->pos; frame = next) {
        next = read_len(frame + 1, &len) + len;

        if (next - frame <= span->end - span->pos) {
            otlp_span_encoded(span, frame, (size_t) (next - frame), 0);

        } else if (*frame == from->attributes) {
            span->dropped_attributes++;

        } else {
            span->dropped_events++;
        }
    }
}


void
otlp_span_append_attributes(otlp_span_t *span, const otlp_span_t *from)
{
    size_t len, size;
    const uint8_t *frame, *next;

    for (frame = from->start; frame < from->pos; frame = next) {
        next = read_len(frame + 1, &len) + len;

        if (*frame != from->attributes) {
            continue;
        }

        size = (size_t) (next - frame);

        if (size > (size_t) (span->end - span->pos)) {
            span->dropped_attributes++;
            continue;
        }

        memcpy(span->pos, frame, size);
        *span->pos = span->attributes;
        span->pos += size;
    }
}


int
otlp_span_forget(otlp_span_t *span, const char *key, size_t key_len)
{
    size_t len;
    uint8_t *frame, *next;
    const uint8_t *p;

    for (frame = span->start; frame < span->pos; frame = next) {
        p = read_len(frame + 1, &len);
        next = frame + (p - frame) + len;

        if (*frame != span->attributes) {
            continue;
        }

        /* A KeyValue begins with its key. */
        p = read_len(p + 1, &len);

        if (len == key_len && memcmp(p, key, key_len) == 0) {
            memmove(frame, next, (size_t) (span->pos - next));
            span->pos -= next - frame;
            return 1;
        }
    }

    return 0;
}


static inline uint8_t *
put_event_time(uint8_t *p, uint64_t time)
{
    *p++ = OTLP_WIRE_FIXED64(EVENT_TIME);

    return otlp_wire_fixed64(p, time);
}


/* Not inlined, as string_attribute(). */
static void any_event(otlp_span_t *, uint64_t, const char *, size_t)
    __attribute__((noinline));


/* An event of any name. */
static void
any_event(otlp_span_t *span, uint64_t time, const char *name, size_t name_len)
{
    otlp_span_t event;

    otlp_span_event_begin(&event, span, time, name, name_len);
    otlp_span_event_end(span, &event);
}


void
otlp_span_event(
    otlp_span_t *span, uint64_t time, const char *name, size_t name_len)
{
    uint8_t *p;

    p = span->pos;

    /* 1 to SHORT - 1 */
    if (name_len - 1 < SHORT - 1 && span->end - p >= SHORT_SIZE) {
        *p++ = OTLP_WIRE_BYTES(SPAN_EVENTS);
        *p++ = (uint8_t) (EVENT_TIME_SIZE + 2 + name_len);
        p = put_event_time(p, time);
        *p++ = OTLP_WIRE_BYTES(EVENT_NAME);
        *p++ = (uint8_t) name_len;

        if (otlp_wire_copy(p, (const uint8_t *) name, name_len) == 0) {
            span->pos = p + name_len;
            return;
        }
    }

    any_event(span, time, name, name_len);
}


/* Where a short event has its time: behind its tag and length, and a tag. */
#define KNOWN_EVENT_TIME 3


int
otlp_known_event(otlp_known_t *known, const char *name, size_t name_len)
{
    otlp_span_t span;
    uint8_t bytes[OTLP_KNOWN_MAX + SHORT_SIZE];

    if (name_len > OTLP_KNOWN_MAX) {
        return OTLP_ERR_ROOM;
    }

    otlp_span_attributes_begin(&span, bytes, sizeof(bytes));
    otlp_span_event(&span, 0, name, name_len);

    known->len = (uint8_t) (span.pos - bytes);
    memcpy(known->bytes, bytes, OTLP_KNOWN_MAX);

    return known->len <= OTLP_KNOWN_MAX ? 0 : OTLP_ERR_ROOM;
}


void
otlp_span_known_event(
    otlp_span_t *span, const otlp_known_t *known, uint64_t time)
{
    uint8_t *p;

    p = span->pos;

    if (span->end - p < known->len) {
        span->dropped_events++;
        return;
    }

    if (span->end - p < OTLP_KNOWN_MAX) {
        memcpy(p, known->bytes, known->len);

    } else {
        memcpy(p, known->bytes, OTLP_KNOWN_MAX);
    }

    otlp_wire_fixed64(p + KNOWN_EVENT_TIME, time);
    span->pos = p + known->len;
}


void
otlp_span_event_begin(otlp_span_t *event, const otlp_span_t *span,
    uint64_t time, const char *name, size_t name_len)
{
    uint8_t *end, *p;
    traceparent_view_t view;

    otlp_span_attributes_begin(event, span->pos, 0);
    event->start = NULL;
    event->attributes = OTLP_WIRE_BYTES(EVENT_ATTRIBUTES);

    if (span->end - span->pos < EVENT_SIZE) {
        return;
    }

    end = span->end - EVENT_TAIL_SIZE;

    view.data = (const uint8_t *) name;
    view.len = name_len;

    p = put_event_time(span->pos + EVENT_FRAME_SIZE, time);
    p = otlp_field_text(p, end, EVENT_NAME, &view);
    if (p == NULL) {
        return;
    }

    event->start = span->pos + EVENT_FRAME_SIZE;
    event->pos = p;
    event->end = end;
}


void
otlp_span_event_end(otlp_span_t *span, const otlp_span_t *event)
{
    size_t len;
    uint8_t *p;

    if (event->start == NULL) {
        span->dropped_events++;
        return;
    }

    p = otlp_field_count(
        event->pos, EVENT_DROPPED_ATTRIBUTES, event->dropped_attributes);
    len = (size_t) (p - event->start);
    p = span->pos + 1 + otlp_wire_varint_size(len);

    if (p != event->start) {
        memmove(p, event->start, len);
    }

    otlp_wire_bytes(span->pos, SPAN_EVENTS, len);
    span->pos = p + len;
}


void
otlp_span_link(otlp_span_t *span, const uint8_t *trace_id,
    const uint8_t *span_id, uint32_t flags)
{
    size_t size;
    uint8_t *p;

    size = otlp_wire_bytes_size(TRACEPARENT_TRACE_ID_SIZE)
           + otlp_wire_bytes_size(TRACEPARENT_SPAN_ID_SIZE)
           + (flags != 0 ? 1 + sizeof(flags) : 0);

    if (otlp_wire_bytes_size(size) > (size_t) (span->end - span->pos)) {
        span->dropped_links++;
        return;
    }

    p = otlp_wire_bytes(span->pos, SPAN_LINKS, size);
    p = otlp_field_id(p, LINK_TRACE_ID, trace_id, TRACEPARENT_TRACE_ID_SIZE);
    p = otlp_field_id(p, LINK_SPAN_ID, span_id, TRACEPARENT_SPAN_ID_SIZE);

    if (flags != 0) {
        *p++ = OTLP_WIRE_FIXED32(LINK_FLAGS);
        p = otlp_wire_fixed32(p, flags);
    }

    span->pos = p;
}


void
otlp_span_end(
    otlp_span_t *span, uint64_t end_time, int status, traceparent_view_t *frame)
{
    uint8_t *p;

    if (end_time > span->start_time) {
        otlp_wire_fixed64(span->end_time, end_time);
    }

    p = span->pos;
    p = otlp_field_count(p, SPAN_DROPPED_ATTRIBUTES, span->dropped_attributes);
    p = otlp_field_count(p, SPAN_DROPPED_EVENTS, span->dropped_events);
    p = otlp_field_count(p, SPAN_DROPPED_LINKS, span->dropped_links);

    if (status != OTLP_STATUS_UNSET) {
        p = otlp_wire_bytes(p, SPAN_STATUS, 2);
        *p++ = OTLP_WIRE_VARINT(STATUS_CODE);
        *p++ = (uint8_t) status;
    }

    otlp_field_frame(frame, SCOPE_SPANS_SPANS, span->start, p);
}
