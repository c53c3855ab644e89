#include <traceparent/otlp/request.h>
#include <traceparent/otlp/span.h>

#include <stdlib.h>

#include "opentelemetry/proto/collector/trace/v1/trace_service.pb-c.h"
#include "text.h"
#include "wire.h"


/* ExportTraceServiceRequest */
#define REQUEST_RESOURCE_SPANS 1

/* opentelemetry/proto/trace/v1/trace.proto, message ResourceSpans */
#define RESOURCE_SPANS_RESOURCE    1
#define RESOURCE_SPANS_SCOPE_SPANS 2

/* message ScopeSpans; its field 2, "spans", is in front of each span already */
#define SCOPE_SPANS_SCOPE 1


typedef Opentelemetry__Proto__Common__V1__AnyValue any_value_t;
typedef Opentelemetry__Proto__Common__V1__InstrumentationScope scope_t;
typedef Opentelemetry__Proto__Common__V1__KeyValue key_value_t;
typedef Opentelemetry__Proto__Resource__V1__Resource resource_t;
typedef Opentelemetry__Proto__Collector__Trace__V1__ExportTracePartialSuccess
    partial_success_t;
typedef Opentelemetry__Proto__Collector__Trace__V1__ExportTraceServiceResponse
    response_t;


/* names that are too long for a line */
#define COLLECTOR(name) opentelemetry__proto__collector__trace__v1__##name


static int
pack(uint8_t *dest, size_t *dest_len, const ProtobufCMessage *message)
{
    size_t size;

    size = protobuf_c_message_get_packed_size(message);

    if (size > *dest_len) {
        return OTLP_ERR_ROOM;
    }

    *dest_len = protobuf_c_message_pack(message, dest);

    return 0;
}


/* Makes a C string of |text| at |*pos|, and moves |*pos| behind it. */
static char *
c_string(uint8_t **pos, const traceparent_view_t *text)
{
    char *start;

    start = (char *) *pos;
    *pos = otlp_text_write(*pos, text->data, text->len);
    *(*pos)++ = '\0';

    return start;
}


static size_t
c_string_size(const traceparent_view_t *text)
{
    return otlp_text_size(text->data, text->len) + 1;
}


int
otlp_resource_pack(uint8_t *dest, size_t *dest_len,
    const otlp_attribute_t *attributes, size_t n)
{
    int rc;
    size_t i, size;
    uint8_t *text;
    key_value_t **pointers, *pairs;
    any_value_t *values;
    resource_t resource = OPENTELEMETRY__PROTO__RESOURCE__V1__RESOURCE__INIT;

    size = 1; /* malloc(0) may be NULL */

    for (i = 0; i < n; i++) {
        size += sizeof(*pairs) + sizeof(*values) + sizeof(*pointers)
                + c_string_size(&attributes[i].key)
                + c_string_size(&attributes[i].value);
    }

    pairs = malloc(size);
    if (pairs == NULL) {
        return OTLP_ERR_MEMORY;
    }

    values = (any_value_t *) (pairs + n);
    pointers = (key_value_t **) (values + n);
    text = (uint8_t *) (pointers + n);

    for (i = 0; i < n; i++) {
        opentelemetry__proto__common__v1__any_value__init(&values[i]);
        values[i].value_case
            = OPENTELEMETRY__PROTO__COMMON__V1__ANY_VALUE__VALUE_STRING_VALUE;
        values[i].string_value = c_string(&text, &attributes[i].value);

        opentelemetry__proto__common__v1__key_value__init(&pairs[i]);
        pairs[i].key = c_string(&text, &attributes[i].key);
        pairs[i].value = &values[i];

        pointers[i] = &pairs[i];
    }

    resource.n_attributes = n;
    resource.attributes = pointers;

    rc = pack(dest, dest_len, &resource.base);

    free(pairs);

    return rc;
}


int
otlp_scope_pack(
    uint8_t *dest, size_t *dest_len, const char *name, const char *version)
{
    scope_t scope
        = OPENTELEMETRY__PROTO__COMMON__V1__INSTRUMENTATION_SCOPE__INIT;

    /* which protobuf-c does not change */
    scope.name = (char *) name;
    scope.version = (char *) version;

    return pack(dest, dest_len, &scope.base);
}


/* A field of bytes; none at all if there are none. */
static uint8_t *
put_packed(uint8_t *p, unsigned field, const traceparent_view_t *packed)
{
    if (packed->len == 0) {
        return p;
    }

    p = otlp_wire_bytes(p, field, packed->len);
    otlp_wire_copy(p, packed->data, packed->len);

    return p + packed->len;
}


static size_t
packed_size(const traceparent_view_t *packed)
{
    return packed->len == 0 ? 0 : otlp_wire_bytes_size(packed->len);
}


size_t
otlp_request_frame(uint8_t *dest, const traceparent_view_t *resource,
    const traceparent_view_t *scope, size_t spans_len)
{
    size_t resource_spans, scope_spans;
    uint8_t *p;

    scope_spans = packed_size(scope) + spans_len;
    resource_spans = packed_size(resource) + otlp_wire_bytes_size(scope_spans);

    p = otlp_wire_bytes(dest, REQUEST_RESOURCE_SPANS, resource_spans);
    p = put_packed(p, RESOURCE_SPANS_RESOURCE, resource);
    p = otlp_wire_bytes(p, RESOURCE_SPANS_SCOPE_SPANS, scope_spans);
    p = put_packed(p, SCOPE_SPANS_SCOPE, scope);

    return (size_t) (p - dest);
}


int
otlp_response_verdict(unsigned status)
{
    if (status >= 200 && status < 300) {
        return OTLP_EXPORTED;
    }

    /* opentelemetry.io/docs/specs/otlp, "Retryable Response Codes" */
    switch (status) {
    case 429:
    case 502:
    case 503:
    case 504:
        return OTLP_RETRY;
    default:
        return OTLP_REJECTED;
    }
}


/* protobuf-c says only that it failed; |data| remembers whether for want of
 * memory. */
static void *
allocate(void *data, size_t size)
{
    void *p;

    p = malloc(size);

    if (p == NULL) {
        *(int *) data = OTLP_ERR_MEMORY;
    }

    return p;
}


static void
deallocate(void *data, void *p)
{
    (void) data;

    free(p);
}


int
otlp_response_decode(otlp_response_t *dest, const uint8_t *src, size_t len)
{
    int rc;
    size_t i;
    const char *message;
    response_t *response;
    const partial_success_t *partial;
    ProtobufCAllocator allocator = {allocate, deallocate, NULL};

    if (len > OTLP_RESPONSE_MAX) {
        return OTLP_ERR_RESPONSE;
    }

    rc = OTLP_ERR_RESPONSE;
    allocator.allocator_data = &rc;

    response = (response_t *) protobuf_c_message_unpack(
        &COLLECTOR(export_trace_service_response__descriptor), &allocator, len,
        src);
    if (response == NULL) {
        return rc;
    }

    memset(dest, 0, sizeof(otlp_response_t));
    partial = response->partial_success;

    if (partial != NULL) {
        if (partial->rejected_spans > 0) {
            dest->rejected_spans = (uint64_t) partial->rejected_spans;
        }

        message = partial->error_message;

        for (i = 0; i < OTLP_RESPONSE_MESSAGE_MAX && message[i] != '\0'; i++) {
            dest->message[i] = message[i] >= ' ' && message[i] <= '~'
                                   ? (uint8_t) message[i]
                                   : '?';
        }

        dest->message_len = i;
    }

    protobuf_c_message_free_unpacked(&response->base, &allocator);

    return 0;
}
