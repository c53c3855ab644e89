/*
 * Writes an ExportTraceServiceRequest to stdout, or an ExportLogsServiceRequest
 * if its argument is "logs", that uses everything that the library can write:
 * official-proto decodes it, and
 *
 *   curl --unix-socket SOCKET --data-binary @FILE \
 *       -H 'Content-Type: application/x-protobuf' http://localhost/v1/traces
 *
 * shows what a collector thinks of it.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <traceparent/otlp/log.h>
#include <traceparent/otlp/request.h>
#include <traceparent/otlp/span.h>


#define KEY(s)  (s), sizeof(s) - 1
#define TEXT(s) (const uint8_t *) (s), sizeof(s) - 1
#define START   UINT64_C(1700000000123456789)

#define TRACE_ID                                                               \
    (const uint8_t *) "\x4b\xf9\x2f\x35\x77\xb3\x4d\xa6"                       \
                      "\xa3\xce\x92\x9d\x0e\x0e\x47\x36"
#define SPAN_ID   (const uint8_t *) "\x00\xf0\x67\xaa\x0b\xa9\x02\xb7"
#define PARENT_ID (const uint8_t *) "\xb7\x02\xa9\x0b\xaa\x67\xf0\x00"


static uint8_t frames[65536];
static size_t frames_len;


static traceparent_view_t
view(const char *text)
{
    traceparent_view_t v;

    v.data = (const uint8_t *) text;
    v.len = strlen(text);

    return v;
}


static void
add(const traceparent_view_t *frame)
{
    memcpy(frames + frames_len, frame->data, frame->len);
    frames_len += frame->len;
}


static void
add_span(otlp_span_t *span, int status)
{
    traceparent_view_t frame;

    otlp_span_end(span, START + 987654321, status, &frame);
    add(&frame);
}


static void
add_record(otlp_span_t *record)
{
    traceparent_view_t frame;

    otlp_log_end(record, &frame);
    add(&frame);
}


static otlp_span_head_t
make_head(uint8_t kind)
{
    otlp_span_head_t head;

    memset(&head, 0, sizeof(head));
    head.trace_id = TRACE_ID;
    head.span_id = SPAN_ID;
    head.start_time = START;
    head.kind = kind;

    return head;
}


/* Of a span, or of a log record. */
static void
write_attributes(otlp_span_t *span)
{
    traceparent_view_t values[3];

    values[0] = view("text/html");
    values[1] = view("");
    values[2] = view("\xff*/*");

    otlp_span_string(span, KEY("url.path"), TEXT("/items/caf\xe9"));
    otlp_span_string(span, KEY("url.query"), TEXT("q=\xe2\x82\xac"));
    otlp_span_int(span, KEY("negative"), INT64_MIN);
    otlp_span_double(span, KEY("double"), -0.125);
    otlp_span_bool(span, KEY("true"), 1);
    otlp_span_bool(span, KEY("false"), 0);
    otlp_span_strings(span, KEY("http.request.header.accept"), values, 3);
    otlp_span_strings(span, KEY("none"), values, 0);
}


static void
add_server(void)
{
    uint8_t buf[4096], constant[256];
    otlp_span_t attributes, span;
    otlp_span_head_t head;

    head = make_head(OTLP_SPAN_KIND_SERVER);
    head.parent_span_id = PARENT_ID;
    head.tracestate = view("ot=th:8,vendor=value");
    head.name = view("GET /items/{id}");
    head.flags = OTLP_FLAG_HAS_IS_REMOTE | OTLP_FLAG_IS_REMOTE | 3;

    otlp_span_attributes_begin(&attributes, constant, sizeof(constant));
    otlp_span_string(&attributes, KEY("url.scheme"), TEXT("https"));
    otlp_span_int(&attributes, KEY("server.port"), 443);

    if (otlp_span_begin(&span, buf, sizeof(buf), &head) != 0) {
        abort();
    }

    otlp_span_encoded(&span, constant, (size_t) (attributes.pos - constant), 2);
    write_attributes(&span);
    otlp_span_link(&span, head.trace_id, head.parent_span_id, 0x301);
    otlp_span_link(&span, head.trace_id, head.span_id, 0);

    add_span(&span, OTLP_STATUS_ERROR);
}


/* A span too small for what it should hold, so that it counts. */
static void
add_small(void)
{
    uint8_t buf[140], text[3000];
    otlp_span_t span;
    otlp_span_head_t head;

    head = make_head(OTLP_SPAN_KIND_CLIENT);
    head.name = view("GET");

    if (otlp_span_begin(&span, buf, sizeof(buf), &head) != 0) {
        abort();
    }

    memset(text, 'x', sizeof(text));
    otlp_span_string(&span, KEY("long"), text, sizeof(text));
    otlp_span_string(&span, KEY("fits"), text, 40);
    otlp_span_link(&span, head.trace_id, head.span_id, 0x101);

    add_span(&span, OTLP_STATUS_OK);
}


static void
add_long(void)
{
    static uint8_t buf[OTLP_SPAN_MAX], text[20000];

    otlp_span_t span;
    otlp_span_head_t head;

    head = make_head(OTLP_SPAN_KIND_INTERNAL);

    if (otlp_span_begin(&span, buf, sizeof(buf), &head) != 0) {
        abort();
    }

    memset(text, 'y', sizeof(text));
    otlp_span_string(&span, KEY("long"), text, sizeof(text));

    add_span(&span, OTLP_STATUS_UNSET);
}


/* A record with a name and these flags, in |size| bytes. */
static void
begin_record(otlp_span_t *record, uint8_t *buf, size_t size, const char *name,
    uint32_t flags)
{
    otlp_log_head_t head;

    memset(&head, 0, sizeof(head));
    head.trace_id = TRACE_ID;
    head.span_id = SPAN_ID;
    head.event_name = view(name);
    head.time = START;
    head.flags = flags;
    head.severity = OTLP_SEVERITY_INFO;

    if (otlp_log_begin(record, buf, size, &head) != 0) {
        abort();
    }
}


static void
add_records(void)
{
    static uint8_t buf[OTLP_SPAN_MAX], text[20000];

    otlp_key_t sequence;
    otlp_span_t record;

    memset(text, 'y', sizeof(text));
    otlp_key_init(&sequence, KEY("span.sequence"));

    begin_record(&record, buf, sizeof(buf), "span.attributes", 3);
    otlp_span_key_int(&record, &sequence, 300);
    write_attributes(&record);
    add_record(&record);

    /* too small for what it should hold, so that it counts */
    begin_record(&record, buf, 120, "caf\xe9", 0);
    otlp_span_string(&record, KEY("long"), text, sizeof(text));
    otlp_span_string(&record, KEY("fits"), text, 4);
    add_record(&record);

    begin_record(&record, buf, sizeof(buf), "", 1);
    otlp_span_string(&record, KEY("long"), text, sizeof(text));
    add_record(&record);
}


static void
add_spans(void)
{
    add_server();
    add_small();
    add_long();
}


int
main(int argc, char **argv)
{
    size_t len;
    uint8_t frame[1024], resource[512], scope[128];
    otlp_attribute_t attributes[2];
    traceparent_view_t resource_view, scope_view;

    attributes[0].key = view("service.name");
    attributes[0].value = view("sample");
    attributes[1].key = view("host.name");
    attributes[1].value = view("\xfc"
                               "ber");

    resource_view.data = resource;
    resource_view.len = sizeof(resource);
    scope_view.data = scope;
    scope_view.len = sizeof(scope);

    if (otlp_resource_pack(resource, &resource_view.len, attributes, 2) != 0
        || otlp_scope_pack(scope, &scope_view.len, "traceparent", "0.1") != 0) {
        return 1;
    }

    if (argc > 1 && strcmp(argv[1], "logs") == 0) {
        add_records();
    } else {
        add_spans();
    }

    len = otlp_request_frame(frame, &resource_view, &scope_view, frames_len);

    return fwrite(frame, 1, len, stdout) != len
           || fwrite(frames, 1, frames_len, stdout) != frames_len;
}
