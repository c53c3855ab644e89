/* Requests, read back with protobuf-c's generated code, and responses. */

#include <stdlib.h>
#include <string.h>

#include "tap.h"


/* How many calls of malloc() succeed from now on. */
static unsigned allocations = 1000000;
static size_t allocated;


static void *
counted_malloc(size_t size)
{
    if (allocations == 0) {
        return NULL;
    }

    allocations--;
    allocated += size;

    return malloc(size);
}


#define malloc counted_malloc
#include "../../lib/otlp/request.c"
#undef malloc


typedef Opentelemetry__Proto__Collector__Trace__V1__ExportTraceServiceRequest
    request_t;
typedef Opentelemetry__Proto__Trace__V1__ResourceSpans resource_spans_t;
typedef Opentelemetry__Proto__Trace__V1__ScopeSpans scope_spans_t;


#define VALUE(name) OPENTELEMETRY__PROTO__COMMON__V1__ANY_VALUE__VALUE_##name


static uint8_t buffer[1024 * 1024];


static traceparent_view_t
view(const char *text)
{
    traceparent_view_t v;

    v.data = (const uint8_t *) text;
    v.len = strlen(text);

    return v;
}


static int
is_pair(const key_value_t *pair, const char *key, const char *value)
{
    return strcmp(pair->key, key) == 0
           && pair->value->value_case == VALUE(STRING_VALUE)
           && strcmp(pair->value->string_value, value) == 0;
}


static void
test_resource(void)
{
    size_t full, len, size;
    unsigned bad;
    resource_t *resource;
    otlp_attribute_t attributes[3];

    attributes[0].key = view("service.name");
    attributes[0].value = view("shop");
    attributes[1].key = view("b\xffg");
    attributes[1].value = view("\xe9t\xc3\xa9");
    attributes[2].key = view("empty");
    attributes[2].value.data = NULL;
    attributes[2].value.len = 0;

    full = sizeof(buffer);
    ok(otlp_resource_pack(buffer, &full, attributes, 3) == 0,
        "a resource is packed");

    resource = (resource_t *) protobuf_c_message_unpack(
        &opentelemetry__proto__resource__v1__resource__descriptor, NULL, full,
        buffer);
    ok(resource != NULL && resource->n_attributes == 3
            && is_pair(resource->attributes[0], "service.name", "shop")
            && is_pair(resource->attributes[1], "b\xef\xbf\xbdg",
                "\xef\xbf\xbdt\xc3\xa9")
            && is_pair(resource->attributes[2], "empty", ""),
        "its attributes, those in Latin-1 mended");
    protobuf_c_message_free_unpacked(&resource->base, NULL);

    bad = 0;

    for (size = 0; size < full; size++) {
        len = size;
        memset(buffer, 0x55, full + 1);
        bad += otlp_resource_pack(buffer, &len, attributes, 3) != OTLP_ERR_ROOM
               || len != size || buffer[size] != 0x55;
    }

    ok(bad == 0, "less room than its %u bytes is OTLP_ERR_ROOM",
        (unsigned) full);

    len = full;
    ok(otlp_resource_pack(buffer, &len, attributes, 3) == 0 && len == full
            && buffer[full] == 0x55,
        "as much room is enough");

    len = 0;
    ok(otlp_resource_pack(buffer, &len, NULL, 0) == 0 && len == 0,
        "no attributes, no bytes");

    allocations = 0;
    len = sizeof(buffer);
    ok(otlp_resource_pack(buffer, &len, attributes, 3) == OTLP_ERR_MEMORY
            && len == sizeof(buffer),
        "no memory");
    allocations = 1000000;
}


static request_t *
unpack(size_t len)
{
    return (request_t *) protobuf_c_message_unpack(
        &COLLECTOR(export_trace_service_request__descriptor), NULL, len,
        buffer);
}


/* A request of |n| spans with long names. */
static size_t
make_request(const traceparent_view_t *resource,
    const traceparent_view_t *scope, size_t n)
{
    size_t frame_len, i, spans_len;
    uint8_t *pos;
    otlp_span_t span;
    otlp_span_head_t head;
    traceparent_view_t frame;
    static uint8_t room[2048], spans[sizeof(buffer) / 2];

    memset(&head, 0, sizeof(head));
    head.trace_id = buffer;
    head.span_id = buffer;
    head.kind = 1;
    head.name.data = (const uint8_t *) "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"
                                       "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn";
    head.name.len = 76;

    for (i = 0, pos = spans; i < n; i++) {
        head.start_time = i + 1;
        otlp_span_begin(&span, room, sizeof(room), &head);
        otlp_span_end(&span, 0, 0, &frame);
        memcpy(pos, frame.data, frame.len);
        pos += frame.len;
    }

    spans_len = (size_t) (pos - spans);
    frame_len = otlp_request_frame(buffer, resource, scope, spans_len);

    if (frame_len > OTLP_REQUEST_FRAME_MAX + resource->len + scope->len) {
        return 0;
    }

    memcpy(buffer + frame_len, spans, spans_len);

    return frame_len + spans_len;
}


static void
test_request(void)
{
    size_t i, j, n, len;
    unsigned bad;
    request_t *request;
    scope_spans_t *spans;
    resource_spans_t *resources;
    otlp_attribute_t attribute;
    traceparent_view_t resource, scope;
    static char long_value[20000];
    static uint8_t resource_bytes[20100], scope_bytes[64];

    static const size_t counts[] = {0, 1, 2, 3, 100, 200, 3000};

    len = sizeof(scope_bytes);
    ok(otlp_scope_pack(scope_bytes, &len, "traceparent", "0.1") == 0,
        "a scope is packed");
    scope.data = scope_bytes;
    scope.len = len;
    len = 3;
    ok(otlp_scope_pack(scope_bytes + 60, &len, "traceparent", "0.1")
            == OTLP_ERR_ROOM,
        "or has no room");

    bad = 0;

    for (i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        for (j = 0; j < 20000; j = 2 * j + 1) {
            memset(long_value, 'v', j);
            long_value[j] = '\0';
            attribute.key = view("k");
            attribute.value = view(long_value);
            resource.data = resource_bytes;
            resource.len = sizeof(resource_bytes);
            otlp_resource_pack(resource_bytes, &resource.len, &attribute, 1);

            len = make_request(&resource, &scope, counts[i]);
            request = unpack(len);

            if (request == NULL || request->n_resource_spans != 1
                || request->resource_spans[0]->n_scope_spans != 1
                || protobuf_c_message_get_packed_size(&request->base) != len) {
                bad++;
                protobuf_c_message_free_unpacked(&request->base, NULL);
                continue;
            }

            resources = request->resource_spans[0];
            spans = resources->scope_spans[0];
            bad += strcmp(spans->scope->name, "traceparent") != 0
                   || strcmp(spans->scope->version, "0.1") != 0
                   || !is_pair(
                       resources->resource->attributes[0], "k", long_value)
                   || spans->n_spans != counts[i];

            for (n = 0; n < spans->n_spans; n++) {
                bad += spans->spans[n]->start_time_unix_nano != n + 1;
            }

            protobuf_c_message_free_unpacked(&request->base, NULL);
        }
    }

    ok(bad == 0, "frames around 0 to 3,000 spans, resources of many sizes");

    resource.len = 0;
    scope.len = 0;
    len = make_request(&resource, &scope, 2);
    request = unpack(len);
    ok(request != NULL && request->resource_spans[0]->resource == NULL
            && request->resource_spans[0]->scope_spans[0]->scope == NULL
            && request->resource_spans[0]->scope_spans[0]->n_spans == 2,
        "without resource and scope");
    protobuf_c_message_free_unpacked(&request->base, NULL);
}


static void
test_longest_frame(void)
{
    traceparent_view_t none;

    none.data = NULL;
    none.len = 0;

    ok(otlp_request_frame(buffer, &none, &none, 0xfffffff0) == 12,
        "the frame of 4 GiB");
}


static void
test_verdict(void)
{
    unsigned good, status;

    for (status = 0, good = 0; status < 700; status++) {
        switch (otlp_response_verdict(status)) {
        case OTLP_EXPORTED:
            good += status / 100 == 2;
            break;
        case OTLP_RETRY:
            good += status == 429 || (status >= 502 && status <= 504);
            break;
        case OTLP_REJECTED:
            good += status / 100 != 2 && status != 429
                    && (status < 502 || status > 504);
            break;
        }
    }

    ok(good == 700, "what each status asks for");
}


static int
decode(otlp_response_t *dest, const char *src, size_t len)
{
    int rc;
    uint8_t *copy;

    /* of the exact size, for the address sanitizer */
    copy = malloc(len + (len == 0));
    memcpy(copy, src, len);
    rc = otlp_response_decode(dest, copy, len);
    free(copy);

    return rc;
}


static void
test_response(void)
{
    int rc;
    size_t i;
    char text[400];
    unsigned bad;
    otlp_response_t response;

    memset(&response, 0x55, sizeof(response));
    ok(otlp_response_decode(&response, NULL, 0) == 0
            && response.rejected_spans == 0 && response.message_len == 0,
        "an empty body is success");

    memset(&response, 0x55, sizeof(response));
    ok(decode(&response, "\x0a\x00", 2) == 0 && response.rejected_spans == 0
            && response.message_len == 0,
        "an empty partial_success is success");

    ok(decode(&response,
           "\x0a\x08\x08\xac\x02\x12\x03"
           "bad",
           10) == 0
            && response.rejected_spans == 300 && response.message_len == 3
            && memcmp(response.message, "bad", 3) == 0,
        "300 rejected spans with a message");

    ok(decode(&response, "\x0a\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
           13) == 0
            && response.rejected_spans == 0,
        "a negative number counts as 0");

    ok(decode(&response, "\x0a\x07\x12\x05\x1b\x7f\xc3\xa9~", 9) == 0
            && response.message_len == 5
            && memcmp(response.message, "????~", 5) == 0,
        "only printable ASCII is left of a message");

    memcpy(text, "\x0a\xaf\x02\x12\xac\x02", 6);
    memset(text + 6, 'm', 300);
    ok(decode(&response, text, 306) == 0
            && response.message_len == OTLP_RESPONSE_MESSAGE_MAX
            && response.message[255] == 'm',
        "a long message is cut");

    bad = 0;

    for (i = 1; i < 306; i++) {
        memset(&response, 0x55, sizeof(response));
        bad += decode(&response, text, i) != OTLP_ERR_RESPONSE
               || response.message_len != 0x5555555555555555;
    }

    ok(bad == 0, "a response that was cut is an error, and writes nothing");

    ok(decode(&response, "<html>", 6) == OTLP_ERR_RESPONSE, "HTML is an error");
    ok(decode(&response, "\x50\x01\x0a\x02\x08\x07", 6) == 0
            && response.rejected_spans == 7,
        "unknown fields are skipped");

    bad = 0;
    rc = OTLP_ERR_MEMORY;

    for (i = 0; rc == OTLP_ERR_MEMORY && i < 100; i++) {
        allocations = (unsigned) i;
        rc = decode(&response, text, 306);
        bad += rc != OTLP_ERR_MEMORY && rc != 0;
    }

    ok(bad == 0 && rc == 0 && i > 2, "no memory, at each allocation");
    allocations = 1000000;
}


/* Pairs of bytes that each cost the decoder as much as they can. */
static void
test_expensive(void)
{
    int rc;
    size_t i, n;
    otlp_response_t response;

    static const char *pairs[] = {"\x0a\x00", "\x50\x01", "\x7a\x00"};

    for (n = 0; n < 3; n++) {
        for (i = 0; i < OTLP_RESPONSE_MAX + 2; i++) {
            buffer[i] = (uint8_t) pairs[n][i % 2];
        }

        allocated = 0;
        rc = otlp_response_decode(&response, buffer, OTLP_RESPONSE_MAX);
        ok(rc == 0 && allocated < 8 * 1024 * 1024,
            "64 KiB of small fields take %u KiB",
            (unsigned) (allocated / 1024));
    }

    ok(otlp_response_decode(&response, buffer, OTLP_RESPONSE_MAX + 2)
            == OTLP_ERR_RESPONSE,
        "more is not looked at");
}


int
main(void)
{
    test_resource();
    test_request();
    test_longest_frame();
    test_verdict();
    test_response();
    test_expensive();

    return done_testing();
}
