/*
 * The writer of spans and log records, in a buffer of exactly the size that the
 * input says, told by the input what to write. What comes out is one of them
 * that protobuf-c unpacks and finds as short as it can be, and all its strings
 * are UTF-8.
 */

#include <string.h>

#include <traceparent/otlp/log.h>

#include "check.h"
#include "opentelemetry/proto/logs/v1/logs.pb-c.h"
#include "opentelemetry/proto/trace/v1/trace.pb-c.h"


typedef Opentelemetry__Proto__Logs__V1__LogRecord record_t;
typedef Opentelemetry__Proto__Logs__V1__ScopeLogs scope_logs_t;
typedef Opentelemetry__Proto__Trace__V1__ScopeSpans scope_spans_t;
typedef Opentelemetry__Proto__Trace__V1__Span span_t;
typedef Opentelemetry__Proto__Trace__V1__Span__Event event_t;
typedef Opentelemetry__Proto__Common__V1__KeyValue key_value_t;
typedef Opentelemetry__Proto__Common__V1__AnyValue any_value_t;


/* What was written, or dropped; of the span itself. */
typedef struct {
    unsigned attributes;
    unsigned events;
    unsigned links;
} written_t;


typedef struct {
    const uint8_t *data;
    size_t size;
    int nul; /* was in a text, where protobuf-c's strings end */
} input_t;


static uint8_t
next_byte(input_t *input)
{
    if (input->size == 0) {
        return 0;
    }

    input->size--;

    return *input->data++;
}


/* Bytes of their own, so that the sanitizer knows where they end. */
static traceparent_view_t
next_view(input_t *input)
{
    uint8_t *copy;
    traceparent_view_t view;

    view.len = next_byte(input);

    if (view.len > 250) {
        view.len *= 256; /* about as long as a span may be */
    }

    copy = malloc(view.len);
    CHECK(copy != NULL || view.len == 0);

    if (view.len > input->size) {
        memset(copy, 'p', view.len);
    } else if (view.len > 0) {
        memcpy(copy, input->data, view.len);
        input->nul |= memchr(copy, '\0', view.len) != NULL;
        input->data += view.len;
        input->size -= view.len;
    }

    view.data = copy;

    return view;
}


static void
release(traceparent_view_t *view)
{
    free((void *) view->data);
}


/* Decodes by the definition of UTF-8 (RFC 3629, section 3), not by its table
 * of bytes as the writer does. */
static int
is_utf8(const char *text)
{
    uint32_t code;
    unsigned i, n;
    const uint8_t *p;

    static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};

    for (p = (const uint8_t *) text; *p != '\0'; p += n + 1) {
        n = *p < 0x80 ? 0 : *p >> 5 == 6 ? 1 : *p >> 4 == 14 ? 2 : 3;
        code = n == 0 ? *p : *p & (0x3f >> n);

        if (n == 3 && *p >> 3 != 30) {
            return 0;
        }

        for (i = 1; i <= n; i++) {
            if (p[i] >> 6 != 2) {
                return 0;
            }

            code = code << 6 | (p[i] & 0x3f);
        }

        if (code < least[n] || code > 0x10ffff || code >> 11 == 0x1b) {
            return 0;
        }
    }

    return 1;
}


static void
check_value(const any_value_t *value)
{
    size_t i;

    if (value->value_case
        == OPENTELEMETRY__PROTO__COMMON__V1__ANY_VALUE__VALUE_STRING_VALUE) {
        CHECK(is_utf8(value->string_value));
    }

    if (value->value_case
        == OPENTELEMETRY__PROTO__COMMON__V1__ANY_VALUE__VALUE_ARRAY_VALUE) {
        for (i = 0; i < value->array_value->n_values; i++) {
            check_value(value->array_value->values[i]);
        }
    }
}


static void
check_attributes(key_value_t **attributes, size_t n)
{
    size_t i;

    for (i = 0; i < n; i++) {
        CHECK(attributes[i]->value != NULL);
        check_value(attributes[i]->value);
    }
}


static void
check_span(const traceparent_view_t *frame, const written_t *written, int nul)
{
    size_t i;
    event_t *event;
    span_t *span;
    scope_spans_t *scope;

    scope = opentelemetry__proto__trace__v1__scope_spans__unpack(
        NULL, frame->len, frame->data);

    CHECK(frame->len <= OTLP_SPAN_MAX);
    CHECK(scope != NULL && scope->n_spans == 1);
    CHECK(opentelemetry__proto__trace__v1__scope_spans__get_packed_size(scope)
              == frame->len
          || nul);

    span = scope->spans[0];
    CHECK(span->base.n_unknown_fields == 0);
    CHECK(span->end_time_unix_nano >= span->start_time_unix_nano);
    CHECK(span->n_attributes + span->dropped_attributes_count
          == written->attributes);
    CHECK(span->n_events + span->dropped_events_count == written->events);
    CHECK(span->n_links + span->dropped_links_count == written->links);
    CHECK(is_utf8(span->name) && is_utf8(span->trace_state));
    check_attributes(span->attributes, span->n_attributes);

    for (i = 0; i < span->n_events; i++) {
        event = span->events[i];
        CHECK(event->base.n_unknown_fields == 0);
        CHECK(event->n_attributes + event->dropped_attributes_count + 1
              == event->time_unix_nano);
        CHECK(is_utf8(event->name));
        check_attributes(event->attributes, event->n_attributes);
    }

    opentelemetry__proto__trace__v1__scope_spans__free_unpacked(scope, NULL);
}


static void
check_record(const traceparent_view_t *frame, unsigned attributes, int nul)
{
    record_t *record;
    scope_logs_t *scope;

    scope = opentelemetry__proto__logs__v1__scope_logs__unpack(
        NULL, frame->len, frame->data);

    CHECK(frame->len <= OTLP_SPAN_MAX);
    CHECK(scope != NULL && scope->n_log_records == 1);
    CHECK(opentelemetry__proto__logs__v1__scope_logs__get_packed_size(scope)
              == frame->len
          || nul);

    record = scope->log_records[0];
    CHECK(record->base.n_unknown_fields == 0);
    CHECK(record->time_unix_nano == record->observed_time_unix_nano);
    CHECK(
        record->n_attributes + record->dropped_attributes_count == attributes);
    CHECK(is_utf8(record->event_name));
    check_attributes(record->attributes, record->n_attributes);

    opentelemetry__proto__logs__v1__scope_logs__free_unpacked(scope, NULL);
}


static void
write_attribute(otlp_span_t *span, input_t *input, uint8_t op)
{
    size_t key_len;
    int64_t value;
    traceparent_view_t views[3];

    static const char key[] = "http.request.header.content-type";

    key_len = 1 + op / 8;
    views[0] = next_view(input);

    switch (op % 8) {
    case 0:
    case 1:
        otlp_span_string(span, key, key_len, views[0].data, views[0].len);
        break;
    case 2:
        value = 0;
        memcpy(&value, views[0].data, views[0].len < 8 ? views[0].len : 8);
        otlp_span_int(span, key, key_len, value);
        break;
    case 3:
        otlp_span_double(span, key, key_len, (double) views[0].len / 7);
        break;
    case 4:
        views[1] = next_view(input);
        views[2] = next_view(input);
        otlp_span_strings(span, key, key_len, views, op / 8 % 4);
        release(&views[1]);
        release(&views[2]);
        break;
    default:
        otlp_span_bool(span, key, key_len, (int) views[0].len);
    }

    release(&views[0]);
}


/* An event with |n| attributes; its time says how many. */
static void
write_event(otlp_span_t *span, input_t *input, unsigned n)
{
    unsigned i;
    otlp_span_t event;
    traceparent_view_t name;

    name = next_view(input);

    if (n == 0) {
        otlp_span_event(span, 1, (const char *) name.data, name.len);
        release(&name);
        return;
    }

    otlp_span_event_begin(
        &event, span, n + 1, (const char *) name.data, name.len);
    release(&name);

    for (i = 0; i < n; i++) {
        write_attribute(&event, input, next_byte(input));
    }

    otlp_span_event_end(span, &event);
}


/* Writes what the next bytes say. */
static void
write_next(otlp_span_t *span, input_t *input, written_t *written)
{
    uint8_t op;

    op = next_byte(input);

    switch (op % 8) {
    case 6:
        otlp_span_link(span, (const uint8_t *) "0123456789abcdef",
            (const uint8_t *) "01234567", op / 8);
        written->links++;
        break;
    case 7:
        write_event(span, input, op / 8);
        written->events++;
        break;
    default:
        write_attribute(span, input, op);
        written->attributes++;
    }
}


static int
write_span(
    input_t *input, uint8_t *buf, size_t buf_size, traceparent_view_t *frame)
{
    int rc;
    written_t written;
    otlp_span_t span;
    otlp_span_head_t head;

    head.trace_id = (const uint8_t *) "0123456789abcdef";
    head.span_id = (const uint8_t *) "01234567";
    head.kind = next_byte(input) | 1; /* 0 is no kind */
    head.parent_span_id = head.kind % 4 == 1 ? head.span_id : NULL;
    head.flags = head.kind % 3;
    head.start_time = 1 + head.kind;
    head.name = next_view(input);
    head.tracestate = next_view(input);

    rc = otlp_span_begin(&span, buf, buf_size, &head);

    release(&head.name);
    release(&head.tracestate);

    if (rc != 0) {
        return rc;
    }

    memset(&written, 0, sizeof(written));

    while (input->size > 0) {
        write_next(&span, input, &written);
    }

    otlp_span_end(&span, 128, head.kind % 3, frame);
    check_span(frame, &written, input->nul);

    return 0;
}


static int
write_record(
    input_t *input, uint8_t *buf, size_t buf_size, traceparent_view_t *frame)
{
    int rc;
    unsigned attributes;
    otlp_span_t record;
    otlp_log_head_t head;

    head.trace_id = (const uint8_t *) "0123456789abcdef";
    head.span_id = (const uint8_t *) "01234567";
    head.severity = next_byte(input) | 1; /* 0 is no severity */
    head.flags = head.severity % 3;
    head.time = head.severity;
    head.event_name = next_view(input);

    rc = otlp_log_begin(&record, buf, buf_size, &head);

    release(&head.event_name);

    if (rc != 0) {
        return rc;
    }

    for (attributes = 0; input->size > 0; attributes++) {
        write_attribute(&record, input, next_byte(input));
    }

    otlp_log_end(&record, frame);
    check_record(frame, attributes, input->nul);

    return 0;
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int rc;
    size_t buf_size;
    uint8_t *buf;
    input_t input;
    traceparent_view_t frame;

    input.data = data;
    input.size = size;
    input.nul = 0;
    buf_size = next_byte(&input);
    buf_size = buf_size * buf_size + next_byte(&input);
    buf = malloc(buf_size);

    rc = next_byte(&input) % 4 == 0
             ? write_record(&input, buf, buf_size, &frame)
             : write_span(&input, buf, buf_size, &frame);

    CHECK(rc != 0
          || (frame.data >= buf && frame.data + frame.len <= buf + buf_size));

    free(buf);

    return 0;
}
