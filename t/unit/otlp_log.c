/* Everything that log.h writes, read back with protobuf-c's generated code. */

#define _GNU_SOURCE

#include <stdlib.h>
#include <string.h>

#include <traceparent/otlp/log.h>
#include <traceparent/otlp/request.h>

#include "input.h"
#include "opentelemetry/proto/collector/logs/v1/logs_service.pb-c.h"
#include "otlp.h"
#include "tap.h"


/* names that are too long for a line */
#define COLLECTOR(name) opentelemetry__proto__collector__logs__v1__##name


typedef Opentelemetry__Proto__Collector__Logs__V1__ExportLogsPartialSuccess
    partial_success_t;
typedef Opentelemetry__Proto__Collector__Logs__V1__ExportLogsServiceRequest
    request_t;
typedef Opentelemetry__Proto__Collector__Logs__V1__ExportLogsServiceResponse
    response_t;
typedef Opentelemetry__Proto__Logs__V1__ScopeLogs scope_logs_t;
typedef Opentelemetry__Proto__Logs__V1__LogRecord record_t;


static uint8_t buffer[4 * OTLP_SPAN_MAX];


static otlp_log_head_t
make_head(const char *name)
{
    otlp_log_head_t head;

    memset(&head, 0, sizeof(head));
    head.trace_id = trace_id;
    head.span_id = span_id;
    head.event_name = view(name);
    head.time = UINT64_C(1700000000123456789);
    head.severity = OTLP_SEVERITY_INFO;

    return head;
}


/* Unpacks a frame; NULL if it is not one record. */
static scope_logs_t *
unpack(const traceparent_view_t *frame)
{
    scope_logs_t *scope;

    scope = opentelemetry__proto__logs__v1__scope_logs__unpack(
        NULL, frame->len, frame->data);

    if (scope != NULL
        && (scope->n_log_records != 1
            || !is_shortest(&scope->base, frame->len))) {
        opentelemetry__proto__logs__v1__scope_logs__free_unpacked(scope, NULL);
        scope = NULL;
    }

    return scope;
}


static void
release(scope_logs_t *scope)
{
    if (scope != NULL) {
        opentelemetry__proto__logs__v1__scope_logs__free_unpacked(scope, NULL);
    }
}


static any_t *
attribute_of(const record_t *record, size_t i, const char *key)
{
    return attribute_in(record->attributes, record->n_attributes, i, key);
}


/* Without a body, and without what is said when something is missing. */
static int
is_event(const record_t *record, const otlp_log_head_t *head, const char *name)
{
    return is_id(&record->trace_id, head->trace_id, 16)
           && is_id(&record->span_id, head->span_id, 8)
           && strcmp(record->event_name, name) == 0
           && record->time_unix_nano == head->time
           && record->observed_time_unix_nano == head->time
           && record->flags == head->flags
           && record->severity_number == head->severity
           && record->severity_text[0] == '\0' && record->body == NULL;
}


#define ATTRIBUTES 9

static void
write_all(otlp_span_t *record)
{
    otlp_key_t key;
    traceparent_view_t values[2];

    values[0] = view("one");
    values[1] = view("\xc3\xbc\xff");
    otlp_key_init(&key, KEY("span.sequence"));

    otlp_span_key_int(record, &key, 300);
    otlp_key_init(&key, KEY("span.pipeline"));
    otlp_span_key_string(record, &key, (const uint8_t *) "internal", 8);
    otlp_span_string(record, KEY("string"), (const uint8_t *) "text", 4);
    otlp_span_string(record, KEY("bad"), (const uint8_t *) "caf\xe9", 4);
    otlp_span_int(record, KEY("int"), INT64_MIN);
    otlp_span_double(record, KEY("double"), 0.1);
    otlp_span_bool(record, KEY("false"), 0);
    otlp_span_strings(record, KEY("strings"), values, 2);
    otlp_span_string(record, KEY("empty"), NULL, 0);
}


static void
test_all_fields(void)
{
    any_t *value;
    record_t *r;
    otlp_span_t record;
    scope_logs_t *scope;
    otlp_log_head_t head;
    traceparent_view_t frame;

    head = make_head("span.open");
    head.flags = 0x03;

    ok(otlp_log_begin(&record, buffer, sizeof(buffer), &head) == 0,
        "a record begins");
    write_all(&record);
    otlp_log_end(&record, &frame);

    scope = unpack(&frame);
    if (!ok(scope != NULL, "and is one record, with no byte too many")) {
        return;
    }

    r = scope->log_records[0];
    ok(is_event(r, &head, "span.open"), "its head is what it began with");
    ok(r->n_attributes == ATTRIBUTES && r->dropped_attributes_count == 0,
        "all attributes");
    ok(is_int(attribute_of(r, 0, "span.sequence"), 300), "an int with a key");
    ok(is_string(attribute_of(r, 1, "span.pipeline"), "internal"),
        "a string with a key");
    ok(is_string(attribute_of(r, 2, "string"), "text"), "a string");
    ok(is_string(attribute_of(r, 3, "bad"), "caf\xef\xbf\xbd"),
        "a string that is mended");
    ok(is_int(attribute_of(r, 4, "int"), INT64_MIN), "an int");
    ok(is_double(attribute_of(r, 5, "double"), 0.1), "a double");
    ok(is_bool(attribute_of(r, 6, "false"), 0), "a bool");

    value = attribute_of(r, 7, "strings");
    ok(value != NULL && value->value_case == VALUE(ARRAY_VALUE)
            && value->array_value->n_values == 2
            && is_string(value->array_value->values[0], "one")
            && is_string(value->array_value->values[1], "\xc3\xbc\xef\xbf\xbd"),
        "an array of strings");
    ok(is_string(attribute_of(r, 8, "empty"), ""), "an empty string");

    release(scope);
}


/* Whether a record of just this head comes back as it was written. */
static int
head_comes_back(const otlp_log_head_t *head, const char *name)
{
    int rc;
    otlp_span_t record;
    scope_logs_t *scope;
    traceparent_view_t frame;

    if (otlp_log_begin(&record, buffer, sizeof(buffer), head) != 0) {
        return 0;
    }

    otlp_log_end(&record, &frame);
    scope = unpack(&frame);
    rc = scope != NULL && is_event(scope->log_records[0], head, name)
         && scope->log_records[0]->n_attributes == 0;
    release(scope);

    return rc;
}


static void
test_heads(void)
{
    char *name;
    size_t len;
    unsigned bad, i, tried;
    otlp_log_head_t head;

    static const uint32_t flags[] = {0, 1, 0xff, 0x100, UINT32_MAX};
    static const uint64_t times[] = {1, 255, UINT32_MAX, UINT64_MAX};

    head = make_head("");
    ok(head_comes_back(&head, ""), "a record without a name and flags");

    bad = 0;
    head = make_head("span.close");

    for (i = 1; i <= 255; i++) {
        head.severity = (uint8_t) i;
        head.flags = flags[i % 5];
        head.time = times[i % 4];
        bad += !head_comes_back(&head, "span.close");
    }

    ok(bad == 0, "severities, flags and times");

    name = malloc(20000);
    bad = 0;
    tried = 0;

    for (len = 0; len < 16500; len = len == 300 ? 16300 : len + 1) {
        memset(name, 'n', len);
        name[len] = '\0';
        head = make_head(name);
        bad += !head_comes_back(&head, name);
        tried++;
    }

    ok(bad == 0 && tried == 501, "names of %u lengths", tried);
    free(name);

    head = make_head("caf\xe9");
    ok(head_comes_back(&head, "caf\xef\xbf\xbd"), "a name that is mended");
}


/* A record in |size| bytes that end where nothing may be written. Returns -1
 * if something is wrong, else how many attributes are dropped; 100 if no record
 * fits. */
static int
bounded(size_t size)
{
    int dropped;
    uint8_t *dest;
    record_t *r;
    otlp_span_t record;
    scope_logs_t *scope;
    otlp_log_head_t head;
    traceparent_view_t frame;

    head = make_head("n\xff");
    head.flags = 1;
    dest = output_at_end(size);

    if (otlp_log_begin(&record, dest, size, &head) != 0) {
        return 100;
    }

    write_all(&record);
    otlp_log_end(&record, &frame);
    scope = unpack(&frame);

    if (scope == NULL || frame.data < dest
        || frame.data + frame.len > dest + size || dest[-1] != '#') {
        release(scope);
        return -1;
    }

    r = scope->log_records[0];
    dropped = (int) r->dropped_attributes_count;

    if (r->n_attributes + r->dropped_attributes_count != ATTRIBUTES
        || !is_event(r, &head, "n\xef\xbf\xbd")) {
        dropped = -1;
    }

    release(scope);

    return dropped;
}


static void
test_bounds(void)
{
    int dropped, last;
    size_t size;
    unsigned bad, begun, different;

    bad = 0;
    begun = 0;
    different = 0;
    last = 100;

    for (size = 0; size < 400; size++) {
        dropped = bounded(size);
        bad += dropped < 0 || (begun && dropped == 100);
        begun += dropped != 100;
        different += dropped != last;
        last = dropped;
    }

    ok(bad == 0, "buffers of 0 to 400 bytes are kept to");
    ok(begun > 300 && begun < 340, "some are too small for any record");
    ok(different >= ATTRIBUTES && last == 0,
        "what does not fit is left out and counted; 400 bytes hold all");
}


/* The longest head and tail, filled to the last byte, in buffers that end where
 * nothing may be written. */
static void
test_longest_tail(void)
{
    size_t len, size;
    uint8_t *dest;
    unsigned bad, full;
    otlp_span_t record;
    scope_logs_t *scope;
    otlp_log_head_t head;
    traceparent_view_t frame;

    head = make_head("");
    head.flags = UINT32_MAX;
    head.severity = 255;
    memset(buffer, 'v', 200);
    bad = 0;
    full = 0;

    for (size = 0; size < 200; size++) {
        dest = output_at_end(size);

        if (otlp_log_begin(&record, dest, size, &head) != 0) {
            continue;
        }

        /* with its tag, key and lengths it takes all that is left */
        len = (size_t) (record.end - record.pos);
        otlp_span_string(&record, KEY("k"), buffer, len > 9 ? len - 9 : len);
        full += record.pos == record.end;
        record.dropped_attributes = UINT32_MAX;
        otlp_log_end(&record, &frame);

        scope = unpack(&frame);
        bad += scope == NULL || frame.data + frame.len > dest + size
               || frame.data < dest
               || scope->log_records[0]->dropped_attributes_count != UINT32_MAX;
        release(scope);
    }

    ok(bad == 0 && full > 100, "the longest head and tail, to the last byte");
}


static void
test_limit(void)
{
    uint8_t *text;
    size_t len;
    unsigned bad, whole;
    otlp_span_t record;
    scope_logs_t *scope;
    otlp_log_head_t head;
    traceparent_view_t frame;

    text = malloc(OTLP_SPAN_MAX);
    memset(text, 'y', OTLP_SPAN_MAX);
    head = make_head("span.attributes");
    bad = 0;
    whole = 0;

    for (len = OTLP_SPAN_MAX - 200; len < OTLP_SPAN_MAX; len++) {
        otlp_log_begin(&record, buffer, sizeof(buffer), &head);
        otlp_span_string(&record, KEY("k"), text, len);
        otlp_log_end(&record, &frame);
        scope = unpack(&frame);
        bad += scope == NULL || frame.len > OTLP_SPAN_MAX
               || scope->log_records[0]->n_attributes
                          + scope->log_records[0]->dropped_attributes_count
                      != 1;
        whole += scope != NULL && scope->log_records[0]->n_attributes == 1;
        release(scope);
    }

    ok(bad == 0, "no record is longer than OTLP_SPAN_MAX");
    ok(whole > 80 && whole < 180, "one may be nearly that long: %u", whole);

    head.event_name.data = text;
    head.event_name.len = OTLP_SPAN_MAX;
    ok(otlp_log_begin(&record, buffer, sizeof(buffer), &head) == OTLP_ERR_ROOM,
        "a name that is too long");

    memset(text, 0xff, OTLP_SPAN_MAX);
    head.event_name.len = OTLP_SPAN_MAX / 2;
    ok(otlp_log_begin(&record, buffer, sizeof(buffer), &head) == OTLP_ERR_ROOM,
        "a name that fits only unmended");
    free(text);
}


/* The same envelope as that of spans: their messages have the same numbers. */
static void
test_request(void)
{
    size_t i, len, resource_len, scope_len, size;
    uint8_t bytes[2][64];
    record_t **records;
    request_t *request;
    otlp_span_t record;
    otlp_log_head_t head;
    otlp_attribute_t attribute;
    traceparent_view_t frame, resource, scope;
    static uint8_t body[1024], row[512];

    head = make_head("span.open");

    for (i = 0, len = 0; i < 3; i++, len += frame.len) {
        head.flags = (uint32_t) i;
        otlp_log_begin(&record, buffer, sizeof(buffer), &head);
        otlp_span_int(&record, KEY("span.sequence"), (int64_t) i);
        otlp_log_end(&record, &frame);
        memcpy(row + len, frame.data, frame.len);
    }

    attribute.key = view("service.name");
    attribute.value = view("shop");
    resource_len = sizeof(bytes[0]);
    scope_len = sizeof(bytes[1]);
    otlp_resource_pack(bytes[0], &resource_len, &attribute, 1);
    otlp_scope_pack(bytes[1], &scope_len, "traceparent", "1");
    resource.data = bytes[0];
    resource.len = resource_len;
    scope.data = bytes[1];
    scope.len = scope_len;

    size = otlp_request_frame(body, &resource, &scope, len);
    memcpy(body + size, row, len);
    request = COLLECTOR(export_logs_service_request__unpack)(
        NULL, size + len, body);

    if (!ok(request != NULL && is_shortest(&request->base, size + len)
                && request->n_resource_logs == 1
                && request->resource_logs[0]->n_scope_logs == 1,
            "records in a row, in the envelope, are a request")) {
        return;
    }

    ok(attribute_in(request->resource_logs[0]->resource->attributes, 1, 0,
           "service.name")
                != NULL
            && strcmp(request->resource_logs[0]->scope_logs[0]->scope->name,
                   "traceparent")
                   == 0,
        "with its resource and scope");

    records = request->resource_logs[0]->scope_logs[0]->log_records;
    ok(request->resource_logs[0]->scope_logs[0]->n_log_records == 3
            && is_int(attribute_of(records[0], 0, "span.sequence"), 0)
            && is_event(records[2], &head, "span.open")
            && is_int(attribute_of(records[2], 0, "span.sequence"), 2),
        "and the records in their order");

    COLLECTOR(export_logs_service_request__free_unpacked)(request, NULL);
}


/* What is copied into a record with |room| bytes for it. */
static int
copied(
    const otlp_span_t *from, size_t room, unsigned attributes, unsigned dropped)
{
    int rc;
    otlp_span_t record;
    scope_logs_t *scope;
    traceparent_view_t frame;
    otlp_log_head_t head = make_head("span.attributes");

    otlp_log_begin(&record, buffer, OTLP_SPAN_MAX, &head);
    record.end = record.pos + room;
    otlp_span_append_attributes(&record, from);
    otlp_log_end(&record, &frame);

    scope = unpack(&frame);
    rc = scope != NULL && scope->log_records[0]->n_attributes == attributes
         && scope->log_records[0]->dropped_attributes_count == dropped
         && (attributes == 0
             || (strcmp(scope->log_records[0]->attributes[0]->key, "a") == 0
                 && scope->log_records[0]->attributes[0]->value->int_value
                        == 7));

    if (scope != NULL) {
        opentelemetry__proto__logs__v1__scope_logs__free_unpacked(scope, NULL);
    }

    return rc;
}


static void
test_append_attributes(void)
{
    size_t first, len;
    uint8_t buf[64];
    otlp_span_t from;

    otlp_span_attributes_begin(&from, buf, sizeof(buf));
    ok(copied(&from, 0, 0, 0), "of nothing, nothing is copied");

    otlp_span_int(&from, KEY("a"), 7);
    first = (size_t) (from.pos - from.start);
    otlp_span_event(&from, 1, KEY("event"));
    otlp_span_string(&from, KEY("b"), (const uint8_t *) "text", 4);
    len = first + 4 + 4 + 5 + 2;

    ok(copied(&from, len, 2, 0), "attributes are copied, events are not");
    ok(copied(&from, first, 1, 1), "one that does not fit is counted");
    ok(copied(&from, first - 1, 0, 2), "the same of all");
}


static void
test_response(void)
{
    size_t len;
    uint8_t bytes[64];
    response_t response;
    otlp_response_t decoded;
    partial_success_t partial;

    COLLECTOR(export_logs_partial_success__init)(&partial);
    COLLECTOR(export_logs_service_response__init)(&response);
    partial.rejected_log_records = 3;
    partial.error_message = "no";
    response.partial_success = &partial;
    len = COLLECTOR(export_logs_service_response__pack)(&response, bytes);

    ok(otlp_response_decode(&decoded, bytes, len) == 0
            && decoded.rejected_spans == 3 && decoded.message_len == 2
            && memcmp(decoded.message, "no", 2) == 0,
        "the answer says how many records are rejected, and why");
}


int
main(void)
{
    test_all_fields();
    test_heads();
    test_bounds();
    test_longest_tail();
    test_limit();
    test_request();
    test_append_attributes();
    test_response();

    return done_testing();
}
