#include <traceparent/otlp/log.h>

#include "field.h"


/* Field numbers of opentelemetry/proto/logs/v1/logs.proto, message LogRecord */
#define LOG_TIME               1
#define LOG_SEVERITY           2
#define LOG_ATTRIBUTES         6
#define LOG_DROPPED_ATTRIBUTES 7
#define LOG_FLAGS              8
#define LOG_TRACE_ID           9
#define LOG_SPAN_ID            10
#define LOG_OBSERVED_TIME      11
#define LOG_EVENT_NAME         12

/* message ScopeLogs */
#define SCOPE_LOGS_LOG_RECORDS 2

/* Fields of a head, tags and lengths included, without the name: both times,
 * severity, flags, trace_id, span_id. */
#define HEAD_SIZE (9 + 9 + 3 + 5 + 18 + 10)

/* What otlp_log_end() appends. */
#define TAIL_SIZE OTLP_COUNT_SIZE


int
otlp_log_begin(
    otlp_span_t *record, uint8_t *buf, size_t size, const otlp_log_head_t *head)
{
    uint8_t *end, *p;

    if (size > OTLP_SPAN_MAX) {
        size = OTLP_SPAN_MAX;
    }

    if (size < OTLP_FRAME_SIZE + HEAD_SIZE + TAIL_SIZE) {
        return OTLP_ERR_ROOM;
    }

    end = buf + size - TAIL_SIZE;

    p = buf + OTLP_FRAME_SIZE;
    *p++ = OTLP_WIRE_FIXED64(LOG_TIME);
    p = otlp_wire_fixed64(p, head->time);
    *p++ = OTLP_WIRE_FIXED64(LOG_OBSERVED_TIME);
    p = otlp_wire_fixed64(p, head->time);
    *p++ = OTLP_WIRE_VARINT(LOG_SEVERITY);
    p = otlp_wire_varint(p, head->severity);

    if (head->flags != 0) {
        *p++ = OTLP_WIRE_FIXED32(LOG_FLAGS);
        p = otlp_wire_fixed32(p, head->flags);
    }

    p = otlp_field_id(
        p, LOG_TRACE_ID, head->trace_id, TRACEPARENT_TRACE_ID_SIZE);
    p = otlp_field_id(p, LOG_SPAN_ID, head->span_id, TRACEPARENT_SPAN_ID_SIZE);

    /* The name comes last, where the room that is left is exactly its. */
    p = otlp_field_text(p, end, LOG_EVENT_NAME, &head->event_name);
    if (p == NULL) {
        return OTLP_ERR_ROOM;
    }

    otlp_span_attributes_begin(record, buf, size);
    record->pos = p;
    record->end = end;
    record->attributes = OTLP_WIRE_BYTES(LOG_ATTRIBUTES);

    return 0;
}


void
otlp_log_end(otlp_span_t *record, traceparent_view_t *frame)
{
    uint8_t *p;

    p = otlp_field_count(
        record->pos, LOG_DROPPED_ATTRIBUTES, record->dropped_attributes);

    otlp_field_frame(frame, SCOPE_LOGS_LOG_RECORDS, record->start, p);
}
