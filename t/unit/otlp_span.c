/* Everything that span.h writes, read back with protobuf-c's generated code. */

#define _GNU_SOURCE

#include <float.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <traceparent/otlp/span.h>

#include "opentelemetry/proto/trace/v1/trace.pb-c.h"
#include "otlp.h"
#include "tap.h"


#define BUFFER 262144


typedef Opentelemetry__Proto__Trace__V1__ScopeSpans scope_spans_t;
typedef Opentelemetry__Proto__Trace__V1__Span span_t;
typedef Opentelemetry__Proto__Trace__V1__Span__Event event_t;


static const uint8_t parent_id[8] = {9, 8, 7, 6, 5, 4, 3, 0};

static uint8_t buffer[BUFFER];

/* A page that may be used, in front of one that may not. */
static uint8_t *guard;
static size_t guarded;


static otlp_span_head_t
make_head(void)
{
    otlp_span_head_t head;

    memset(&head, 0, sizeof(head));
    head.trace_id = trace_id;
    head.span_id = span_id;
    head.start_time = UINT64_C(1700000000123456789);
    head.kind = OTLP_SPAN_KIND_INTERNAL;

    return head;
}


/* Unpacks a frame; NULL if it is not one span. */
static scope_spans_t *
unpack(const traceparent_view_t *frame)
{
    scope_spans_t *scope;

    scope = opentelemetry__proto__trace__v1__scope_spans__unpack(
        NULL, frame->len, frame->data);

    if (scope != NULL
        && (scope->n_spans != 1 || !is_shortest(&scope->base, frame->len))) {
        opentelemetry__proto__trace__v1__scope_spans__free_unpacked(
            scope, NULL);
        scope = NULL;
    }

    return scope;
}


static void
release(scope_spans_t *scope)
{
    if (scope != NULL) {
        opentelemetry__proto__trace__v1__scope_spans__free_unpacked(
            scope, NULL);
    }
}


static any_t *
attribute_of(const span_t *span, size_t i, const char *key)
{
    return attribute_in(span->attributes, span->n_attributes, i, key);
}


static int
is_event(const event_t *event, uint64_t time, const char *name, size_t n)
{
    return event->time_unix_nano == time && strcmp(event->name, name) == 0
           && event->n_attributes == n && event->dropped_attributes_count == 0;
}


static void
write_all(otlp_span_t *span)
{
    otlp_span_t event;
    traceparent_view_t values[3];

    values[0] = view("one");
    values[1].data = NULL;
    values[1].len = 0;
    values[2] = view("\xc3\xbc\xff");

    otlp_span_string(span, KEY("string"), (const uint8_t *) "text", 4);
    otlp_span_int(span, KEY("int"), -1);
    otlp_span_link(span, span->start, parent_id, 0x301);
    otlp_span_double(span, KEY("double"), 0.1);
    otlp_span_event(span, 1, KEY("connect"));
    otlp_span_bool(span, KEY("true"), 4096);
    otlp_span_bool(span, KEY("false"), 0);
    otlp_span_strings(span, KEY("strings"), values, 3);
    otlp_span_event_begin(&event, span, UINT64_MAX, KEY("redirect"));
    otlp_span_string(&event, KEY("route"), (const uint8_t *) "/", 1);
    otlp_span_strings(&event, KEY("strings"), values, 3);
    otlp_span_event_end(span, &event);
    otlp_span_event(span, 1, KEY("caf\xe9"));
    otlp_span_strings(span, KEY("none"), values, 0);
    otlp_span_string(span, KEY("empty"), NULL, 0);
    otlp_span_link(span, trace_id, span_id, 0);
}


static void
test_all_fields(void)
{
    span_t *s;
    any_t *value;
    uint8_t linked[16];
    otlp_span_t span;
    scope_spans_t *scope;
    otlp_span_head_t head;
    traceparent_view_t frame;

    head = make_head();
    head.parent_span_id = parent_id;
    head.tracestate = view("a=1,b=2");
    head.name = view("GET /items/{id}");
    head.flags = 0x302;
    head.kind = OTLP_SPAN_KIND_SERVER;

    ok(otlp_span_begin(&span, buffer, BUFFER, &head) == 0, "a span begins");
    memcpy(linked, span.start, 16);
    write_all(&span);
    otlp_span_end(
        &span, UINT64_C(1700000001000000000), OTLP_STATUS_ERROR, &frame);

    scope = unpack(&frame);
    if (!ok(scope != NULL, "and is one span, with no byte too many")) {
        return;
    }

    s = scope->spans[0];
    ok(is_id(&s->trace_id, trace_id, 16), "trace_id");
    ok(is_id(&s->span_id, span_id, 8), "span_id");
    ok(is_id(&s->parent_span_id, parent_id, 8), "parent_span_id");
    ok(strcmp(s->trace_state, "a=1,b=2") == 0, "trace_state");
    ok(strcmp(s->name, "GET /items/{id}") == 0, "name");
    ok(s->flags == 0x302, "flags");
    ok(s->kind == 2, "kind");
    ok(s->start_time_unix_nano == UINT64_C(1700000000123456789), "start");
    ok(s->end_time_unix_nano == UINT64_C(1700000001000000000), "end");
    ok(s->status != NULL && s->status->code == 2
            && s->status->message[0] == '\0',
        "status");
    ok(s->dropped_attributes_count == 0 && s->dropped_events_count == 0
            && s->dropped_links_count == 0,
        "nothing dropped");

    ok(s->n_attributes == 8, "eight attributes");
    ok(is_string(attribute_of(s, 0, "string"), "text"), "a string");
    ok(is_int(attribute_of(s, 1, "int"), -1), "a negative int");
    ok(is_double(attribute_of(s, 2, "double"), 0.1), "a double");
    ok(is_bool(attribute_of(s, 3, "true"), 1), "true is 1");
    ok(is_bool(attribute_of(s, 4, "false"), 0), "false is there too");

    value = attribute_of(s, 5, "strings");
    ok(value != NULL && value->value_case == 5
            && value->array_value->n_values == 3
            && is_string(value->array_value->values[0], "one")
            && is_string(value->array_value->values[1], "")
            && is_string(value->array_value->values[2], "\xc3\xbc\xef\xbf\xbd"),
        "an array of three strings, one empty and one mended");
    value = attribute_of(s, 6, "none");
    ok(value != NULL && value->value_case == 5
            && value->array_value->n_values == 0,
        "an empty array");
    ok(is_string(attribute_of(s, 7, "empty"), ""), "an empty string");

    ok(s->n_events == 3, "three events");
    ok(is_event(s->events[0], 1, "connect", 0), "an event without attributes");
    ok(is_event(s->events[1], UINT64_MAX, "redirect", 2)
            && is_string(
                attribute_in(s->events[1]->attributes, 2, 0, "route"), "/"),
        "an event with attributes");
    ok(is_event(s->events[2], 1, "caf\xef\xbf\xbd", 0),
        "an event whose name is mended");

    ok(s->n_links == 2, "two links");
    ok(is_id(&s->links[0]->trace_id, linked, 16)
            && is_id(&s->links[0]->span_id, parent_id, 8)
            && s->links[0]->flags == 0x301,
        "a link with flags");
    ok(is_id(&s->links[1]->trace_id, trace_id, 16)
            && is_id(&s->links[1]->span_id, span_id, 8)
            && s->links[1]->flags == 0,
        "a link without");

    release(scope);
}


static void
test_least(void)
{
    unsigned status;
    otlp_span_t span;
    scope_spans_t *scope;
    otlp_span_head_t head;
    traceparent_view_t frame;

    head = make_head();

    for (status = 0; status < 3; status++) {
        otlp_span_begin(&span, buffer, BUFFER, &head);
        otlp_span_end(&span, head.start_time - 1, (int) status, &frame);

        scope = unpack(&frame);
        ok(scope != NULL && scope->spans[0]->parent_span_id.len == 0
                && (status == 0) == (scope->spans[0]->status == NULL)
                && (status == 0 || scope->spans[0]->status->code == status),
            "a root span of status %u has no empty fields", status);
        ok(scope != NULL
                && scope->spans[0]->end_time_unix_nano == head.start_time,
            "it does not end before it starts");
        release(scope);
    }

    otlp_span_begin(&span, buffer, BUFFER, &head);
    otlp_span_end(&span, UINT64_MAX, 0, &frame);
    scope = unpack(&frame);
    ok(scope != NULL && scope->spans[0]->end_time_unix_nano == UINT64_MAX,
        "the latest end");
    release(scope);
}


static void
test_numbers(void)
{
    size_t i;
    unsigned good;
    otlp_span_t span;
    scope_spans_t *scope;
    otlp_span_head_t head;
    traceparent_view_t frame;

    static const int64_t ints[] = {0, 1, -1, 127, 128, 129, 255, 256, 16383,
        16384, 2097151, 2097152, INT32_MAX, INT32_MIN, INT64_C(1) << 55,
        (INT64_C(1) << 56) - 1, INT64_C(1) << 56, INT64_MAX, INT64_MIN};
    static const double doubles[]
        = {0.0, -0.0, 1.5, -1e300, DBL_MIN, DBL_MAX, DBL_EPSILON};

    head = make_head();
    otlp_span_begin(&span, buffer, BUFFER, &head);

    for (i = 0; i < sizeof(ints) / sizeof(ints[0]); i++) {
        otlp_span_int(&span, KEY("i"), ints[i]);
    }

    for (i = 0; i < sizeof(doubles) / sizeof(doubles[0]); i++) {
        otlp_span_double(&span, KEY("d"), doubles[i]);
    }

    otlp_span_end(&span, 0, 0, &frame);
    scope = unpack(&frame);
    good = 0;

    for (i = 0; scope != NULL && i < scope->spans[0]->n_attributes; i++) {
        if (i < sizeof(ints) / sizeof(ints[0])) {
            good += is_int(attribute_of(scope->spans[0], i, "i"), ints[i]);
        } else {
            good += is_double(attribute_of(scope->spans[0], i, "d"),
                doubles[i - sizeof(ints) / sizeof(ints[0])]);
        }
    }

    ok(good == 26, "19 ints and 7 doubles come back as they were");
    release(scope);
}


/* Lengths around those at which a length takes another byte. */
static void
test_lengths(void)
{
    char *text;
    size_t key, len;
    unsigned bad, tried;
    otlp_span_t span;
    scope_spans_t *scope;
    otlp_span_head_t head;
    traceparent_view_t frame;

    static const char keys[]
        = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnop"
          "qrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdef"
          "ghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz";

    text = malloc(70000);
    head = make_head();
    bad = 0;
    tried = 0;

    for (len = 0; len < 16500; len = len == 300 ? 16300 : len + 1) {
        memset(text, 'x', len);
        text[len] = '\0';
        key = 1 + len % (sizeof(keys) - 1);

        head.name.data = (const uint8_t *) text;
        head.name.len = len;
        head.tracestate.data = head.name.data;
        head.tracestate.len = len % 256; /* all together have to fit */
        otlp_span_begin(&span, buffer, BUFFER, &head);
        otlp_span_string(&span, keys, key, (const uint8_t *) text, len);
        otlp_span_strings(&span, keys, key, &head.name, 1);
        otlp_span_end(&span, 0, 0, &frame);

        scope = unpack(&frame);
        tried++;
        bad += scope == NULL || scope->spans[0]->n_attributes != 2
               || strcmp(scope->spans[0]->name, text) != 0
               || strlen(scope->spans[0]->trace_state) != len % 256
               || strlen(scope->spans[0]->attributes[0]->key) != key
               || strncmp(scope->spans[0]->attributes[0]->key, keys, key) != 0
               || !is_string(scope->spans[0]->attributes[0]->value, text)
               || !is_string(scope->spans[0]
                                 ->attributes[1]
                                 ->value->array_value->values[0],
                   text);
        release(scope);
    }

    ok(bad == 0 && tried == 501, "texts of %u lengths", tried);
    free(text);
}


/* The decoder of the WHATWG Encoding Standard, section 8.1.1, step by step,
 * to have something to compare with. */
static size_t
reference(uint8_t *dest, const uint8_t *src, size_t len)
{
    size_t from, i, n;
    unsigned needed, seen, lower, upper;

    for (i = 0, n = 0, needed = 0, seen = 0, from = 0, lower = 0x80,
        upper = 0xbf;
         i <= len; i++) {
        if (needed != 0 && (i == len || src[i] < lower || src[i] > upper)) {
            memcpy(dest + n, "\xef\xbf\xbd", 3);
            n += 3;
            needed = 0;
            lower = 0x80;
            upper = 0xbf;
        }

        if (i == len) {
            break;
        }

        if (needed != 0) {
            lower = 0x80;
            upper = 0xbf;

            if (++seen == needed) {
                memcpy(dest + n, src + from, needed + 1);
                n += needed + 1;
                needed = 0;
            }

            continue;
        }

        from = i;
        seen = 0;

        if (src[i] <= 0x7f) {
            dest[n++] = src[i];

        } else if (src[i] >= 0xc2 && src[i] <= 0xdf) {
            needed = 1;

        } else if (src[i] >= 0xe0 && src[i] <= 0xef) {
            lower = src[i] == 0xe0 ? 0xa0 : 0x80;
            upper = src[i] == 0xed ? 0x9f : 0xbf;
            needed = 2;

        } else if (src[i] >= 0xf0 && src[i] <= 0xf4) {
            lower = src[i] == 0xf0 ? 0x90 : 0x80;
            upper = src[i] == 0xf4 ? 0x8f : 0xbf;
            needed = 3;

        } else {
            memcpy(dest + n, "\xef\xbf\xbd", 3);
            n += 3;
        }
    }

    return n;
}


/* Writes bytes, which end at the guard page, as attributes alone, and compares
 * all of what is written with what it should be. */
static int
mends(const uint8_t *src, size_t len)
{
    size_t size;
    uint8_t expected[1024];
    otlp_span_t span;

    memcpy(guard - len, src, len);
    otlp_span_attributes_begin(&span, buffer, BUFFER);
    otlp_span_string(&span, KEY("k"), guard - len, len);

    size = reference(expected + 9, src, len);
    memcpy(expected, "\x4a_\x0a\x01k\x12_\x0a_", 9);
    expected[1] = (uint8_t) (size + 7);
    expected[6] = (uint8_t) (size + 2);
    expected[8] = (uint8_t) size;

    return size < 100 && span.dropped_attributes == 0
           && span.pos == buffer + 9 + size
           && memcmp(buffer, expected, 9 + size) == 0;
}


static void
test_mending(void)
{
    size_t i, j, len;
    uint8_t text[33];
    unsigned bad;

    static const uint8_t edges[] = {0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0,
        0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xec, 0xed, 0xee, 0xef, 0xf0,
        0xf1, 0xf3, 0xf4, 0xf5, 0xff};

    ok(mends((const uint8_t *) "\xff", 1) && buffer[9] == 0xef
            && buffer[10] == 0xbf && buffer[11] == 0xbd,
        "a bad byte becomes U+FFFD");

    bad = 0;

    for (i = 0; i < 0x10000; i++) {
        text[0] = (uint8_t) (i >> 8);
        text[1] = (uint8_t) i;
        bad += !mends(text, 2);
    }

    ok(bad == 0, "all pairs of bytes");

    for (i = 0; i < 24 * 24 * 24 * 24; i++) {
        text[0] = edges[i % 24];
        text[1] = edges[i / 24 % 24];
        text[2] = edges[i / 24 / 24 % 24];
        text[3] = edges[i / 24 / 24 / 24];
        bad += !mends(text, 4);
    }

    ok(bad == 0, "sequences of four bytes at the edges of UTF-8's ranges");

    for (len = 1; len <= 33; len++) {
        for (i = 0; i < len; i++) {
            memset(text, 'a', len);
            bad += !mends(text, len);
            text[i] = 0x80;
            bad += !mends(text, len);

            for (j = i; j < len && j < i + 4; j++) {
                text[j] = (uint8_t) "\xf0\x9f\x98\x80"[j - i];
            }

            bad += !mends(text, len);
        }
    }

    ok(bad == 0, "one bad byte, or one emoji, anywhere in 1 to 33 bytes");
}


static void
test_mended_head(void)
{
    otlp_span_t span;
    scope_spans_t *scope;
    otlp_span_head_t head;
    traceparent_view_t frame;

    head = make_head();
    head.name = view("caf\xe9");
    head.tracestate = view("\xf0\x9f\x98");

    ok(otlp_span_begin(&span, buffer, BUFFER, &head) == 0, "a bad name");
    otlp_span_end(&span, 0, 0, &frame);
    scope = unpack(&frame);
    ok(scope != NULL && strcmp(scope->spans[0]->name, "caf\xef\xbf\xbd") == 0,
        "name is mended");
    ok(scope != NULL
            && strcmp(scope->spans[0]->trace_state, "\xef\xbf\xbd") == 0,
        "trace_state is mended, also where that leaves its length");
    release(scope);

    head.name = view("");
    head.tracestate = view("");
    head.name.data = buffer;
    head.name.len = OTLP_SPAN_MAX / 2;
    memset(guard - guarded, 0, guarded);
    memset(buffer, 0xff, BUFFER / 2);
    ok(otlp_span_begin(&span, buffer + BUFFER / 2, BUFFER / 2, &head)
            == OTLP_ERR_ROOM,
        "a name that fits only unmended");
}


/* A span in |size| bytes that end where nothing may be written. Returns -1 if
 * something is wrong, else how much was dropped; 100 if no span fits. */
static int
bounded(size_t size)
{
    int dropped;
    size_t i, n;
    span_t *s;
    event_t *event;
    uint8_t text[115];
    otlp_span_t span;
    scope_spans_t *scope;
    otlp_span_head_t head;
    traceparent_view_t frame;

    head = make_head();
    head.parent_span_id = parent_id;
    head.name = view("n\xff");
    head.tracestate = view("a=1");
    head.flags = 0x301;

    memset(guard - guarded, 0x55, guarded);

    if (otlp_span_begin(&span, guard - size, size, &head) != 0) {
        return 100;
    }

    write_all(&span);
    otlp_span_string(&span, KEY("bad"), (const uint8_t *) "\xe2\x82\xff", 3);
    memset(text, 'z', sizeof(text));
    otlp_span_string(&span, KEY("long"), text, sizeof(text));
    otlp_span_end(&span, UINT64_MAX, OTLP_STATUS_ERROR, &frame);

    if (span.pos > span.end || frame.data < guard - size
        || frame.data + frame.len > guard
        || (size < guarded && guard[-1 - (ptrdiff_t) size] != 0x55)) {
        return -1;
    }

    scope = unpack(&frame);
    if (scope == NULL) {
        return -1;
    }

    s = scope->spans[0];
    dropped = (int) (s->dropped_attributes_count + s->dropped_events_count
                     + s->dropped_links_count);

    if (s->n_attributes + s->dropped_attributes_count != 10
        || s->n_events + s->dropped_events_count != 3
        || s->n_links + s->dropped_links_count != 2) {
        dropped = -1;
    }

    for (i = 0; dropped >= 0 && i < s->n_events; i++) {
        event = s->events[i];
        n = strcmp(event->name, "redirect") == 0 ? 2 : 0;
        dropped += (int) event->dropped_attributes_count;

        if (event->n_attributes + event->dropped_attributes_count != n) {
            dropped = -1;
        }
    }

    release(scope);

    return dropped;
}


static void
test_bounds(void)
{
    int dropped, last;
    size_t size;
    unsigned begun, bad;

    begun = 0;
    bad = 0;
    last = 100;

    for (size = 0; size < 700; size++) {
        dropped = bounded(size);
        bad += dropped < 0;
        bad += begun && dropped == 100;
        begun += dropped != 100;
        last = dropped;
    }

    ok(bad == 0, "buffers of 0 to 700 bytes are kept to");
    ok(begun > 500 && begun < 700, "some are too small for any span");
    ok(last == 0, "700 bytes hold all");
}


/* The longest head without texts, and the longest tail, in buffers that end
 * where nothing may be written. */
static void
test_longest_ends(void)
{
    size_t len, size;
    unsigned bad, begun;
    otlp_span_t span;
    scope_spans_t *scope;
    otlp_span_head_t head;
    traceparent_view_t frame;

    head = make_head();
    head.parent_span_id = parent_id;
    head.flags = UINT32_MAX;
    head.kind = 255;
    memset(buffer, 'v', 2000);
    bad = 0;
    begun = 0;

    for (size = 0; size < 200; size++) {
        if (otlp_span_begin(&span, guard - size, size, &head) != 0) {
            continue;
        }

        len = (size_t) (span.end - span.pos);
        otlp_span_attributes_begin(&span, buffer, len);
        otlp_span_string(
            &span, KEY("k"), buffer + 1000, len > 11 ? len - 9 : 1);
        len = (size_t) (span.pos - buffer);
        otlp_span_begin(&span, guard - size, size, &head);
        otlp_span_encoded(&span, buffer, len, 1);
        otlp_span_encoded(&span, buffer, BUFFER, UINT32_MAX);
        span.dropped_events = UINT32_MAX;
        span.dropped_links = UINT32_MAX;
        otlp_span_end(&span, UINT64_MAX, OTLP_STATUS_ERROR, &frame);

        scope = unpack(&frame);
        bad += scope == NULL || frame.data + frame.len > guard
               || frame.data < guard - size
               || scope->spans[0]->dropped_attributes_count != UINT32_MAX
               || scope->spans[0]->dropped_events_count != UINT32_MAX
               || scope->spans[0]->dropped_links_count != UINT32_MAX;
        begun += len > 11;
        release(scope);
    }

    ok(bad == 0 && begun > 90, "the longest head and tail, to the last byte");
}


/* Names and attributes around those lengths at which a length takes another
 * byte, also that of the event. */
static void
test_event_lengths(void)
{
    char *text;
    size_t len;
    unsigned bad, tried;
    event_t **events;
    otlp_span_t event, span;
    scope_spans_t *scope;
    otlp_span_head_t head;
    traceparent_view_t frame;

    text = malloc(16400);
    head = make_head();
    bad = 0;
    tried = 0;

    for (len = 0; len < 16400; len = len == 300 ? 16300 : len + 1) {
        memset(text, 'x', len);
        text[len] = '\0';

        otlp_span_begin(&span, buffer, BUFFER, &head);
        otlp_span_event(&span, len + 1, text, len);
        otlp_span_event_begin(&event, &span, len + 2, KEY("e"));
        otlp_span_string(&event, KEY("k"), (const uint8_t *) text, len);
        otlp_span_event_end(&span, &event);
        otlp_span_event(&span, len + 3, KEY("first_byte"));
        otlp_span_end(&span, 0, 0, &frame);

        scope = unpack(&frame);
        tried++;

        if (scope == NULL || scope->spans[0]->n_events != 3) {
            bad++;
            release(scope);
            continue;
        }

        events = scope->spans[0]->events;
        bad += !is_event(events[0], len + 1, text, 0)
               || !is_event(events[1], len + 2, "e", 1)
               || !is_string(
                   attribute_in(events[1]->attributes, 1, 0, "k"), text)
               || !is_event(events[2], len + 3, "first_byte", 0);
        release(scope);
    }

    ok(bad == 0 && tried == 401, "events of %u lengths", tried);
    free(text);
}


/* What there is no room for, in a buffer that ends where nothing may be
 * written. */
static void
test_dropped_events(void)
{
    span_t *s;
    unsigned bad, i;
    size_t size;
    otlp_span_t event, span;
    scope_spans_t *scope;
    otlp_span_head_t head;
    traceparent_view_t frame;

    head = make_head();
    memset(buffer, 'v', 2000);

    otlp_span_begin(&span, guard - 500, 500, &head);
    otlp_span_event_begin(&event, &span, 1, KEY("first"));
    otlp_span_string(&event, KEY("k"), buffer, 1000);
    otlp_span_int(&event, KEY("i"), 1);
    otlp_span_event_end(&span, &event);
    otlp_span_event(&span, 1, (const char *) buffer, 1000);
    otlp_span_event(&span, 1, (const char *) buffer, SIZE_MAX);
    otlp_span_event_begin(&event, &span, 1, (const char *) buffer, 1000);
    otlp_span_int(&event, KEY("i"), 1);
    otlp_span_event_end(&span, &event);
    otlp_span_event(&span, 2, KEY("last"));
    otlp_span_end(&span, 0, 0, &frame);

    scope = unpack(&frame);
    s = scope != NULL ? scope->spans[0] : NULL;
    ok(s != NULL && s->n_events == 2 && s->dropped_events_count == 3
            && is_event(s->events[1], 2, "last", 0),
        "events that do not fit are left out whole and counted");
    ok(s != NULL && s->n_events == 2 && s->events[0]->n_attributes == 1
            && s->events[0]->dropped_attributes_count == 1
            && s->dropped_attributes_count == 0,
        "an attribute that does not fit is counted on its event");
    release(scope);

    bad = 0;

    for (size = 100; size < 400; size++) {
        otlp_span_begin(&span, guard - size, size, &head);
        otlp_span_event_begin(&event, &span, 1, KEY("e"));

        for (i = 0; event.end - event.pos > 0 && i < 300; i++) {
            otlp_span_string(&event, NULL, 0, NULL, 0);
        }

        event.dropped_attributes = UINT32_MAX;
        otlp_span_event_end(&span, &event);
        bad += event.pos > event.end || span.pos > span.end;
        otlp_span_event(&span, 1, KEY("last"));
        span.dropped_attributes = UINT32_MAX;
        otlp_span_link(&span, trace_id, span_id, UINT32_MAX);
        otlp_span_end(&span, UINT64_MAX, OTLP_STATUS_ERROR, &frame);

        scope = opentelemetry__proto__trace__v1__scope_spans__unpack(
            NULL, frame.len, frame.data);
        bad += scope == NULL || frame.data + frame.len > guard
               || scope->spans[0]->n_events
                          + scope->spans[0]->dropped_events_count
                      != 2;
        release(scope);
    }

    ok(bad == 0, "the longest end of an event, to the last byte");
}


/* Around the border between the short and the long way of an attribute. */
static void
test_short_and_long(void)
{
    char text[200];
    size_t key, len;
    unsigned bad;
    otlp_span_t span;
    scope_spans_t *scope;
    otlp_span_head_t head;
    traceparent_view_t frame;

    memset(text, 'k', sizeof(text));
    head = make_head();
    bad = 0;

    for (key = 1; key < 136; key++) {
        otlp_span_begin(&span, buffer, BUFFER, &head);

        for (len = key < 100 ? 100 - key : 0; key + len < 136; len++) {
            otlp_span_string(&span, text, key, (const uint8_t *) text, len);
            otlp_span_int(&span, text, key, INT64_MIN >> (len % 64));
            otlp_span_double(&span, text, key, 1.0);
        }

        otlp_span_end(&span, 0, 0, &frame);
        scope = unpack(&frame);
        bad += scope == NULL || scope->spans[0]->n_attributes < 3
               || scope->spans[0]->n_attributes % 3 != 0
               || scope->spans[0]->dropped_attributes_count != 0;
        release(scope);
    }

    ok(bad == 0, "attributes whose length is about what one byte can say");
}


static void
test_limit(void)
{
    char *text;
    size_t len;
    unsigned bad, whole;
    otlp_span_t span;
    scope_spans_t *scope;
    otlp_span_head_t head;
    traceparent_view_t frame;

    text = malloc(2 * OTLP_SPAN_MAX);
    memset(text, 'y', 2 * OTLP_SPAN_MAX);
    head = make_head();
    bad = 0;
    whole = 0;

    for (len = OTLP_SPAN_MAX - 200; len < OTLP_SPAN_MAX + 3; len++) {
        otlp_span_begin(&span, buffer, BUFFER, &head);
        otlp_span_string(&span, KEY("k"), (const uint8_t *) text, len);
        otlp_span_end(&span, 0, OTLP_STATUS_OK, &frame);
        scope = unpack(&frame);
        bad += scope == NULL || frame.len > OTLP_SPAN_MAX
               || scope->spans[0]->n_attributes
                          + scope->spans[0]->dropped_attributes_count
                      != 1;
        whole += scope != NULL && scope->spans[0]->n_attributes == 1;
        release(scope);
    }

    ok(bad == 0, "no span is longer than OTLP_SPAN_MAX");
    ok(whole > 80 && whole < 180, "one may be nearly that long: %u", whole);

    otlp_span_begin(&span, buffer, BUFFER, &head);
    otlp_span_string(&span, text, 2 * OTLP_SPAN_MAX, (const uint8_t *) text, 1);
    otlp_span_string(
        &span, KEY("k"), (const uint8_t *) text, 2 * OTLP_SPAN_MAX);
    otlp_span_int(&span, text, OTLP_SPAN_MAX, 1);
    otlp_span_encoded(&span, (uint8_t *) text, OTLP_SPAN_MAX, 2000000000);
    otlp_span_end(&span, 0, 0, &frame);
    scope = unpack(&frame);
    ok(scope != NULL && scope->spans[0]->n_attributes == 0
            && scope->spans[0]->dropped_attributes_count == 2000000003,
        "what is too long is left out and counted");
    release(scope);

    head.name.data = (uint8_t *) text;
    head.name.len = OTLP_SPAN_MAX;
    ok(otlp_span_begin(&span, buffer, BUFFER, &head) == OTLP_ERR_ROOM,
        "a name that is too long");
    free(text);
}


static void
test_encoded(void)
{
    size_t len;
    uint8_t constant[64];
    otlp_span_t attributes, span;
    scope_spans_t *scope;
    otlp_span_head_t head;
    traceparent_view_t frame;

    otlp_span_attributes_begin(&attributes, constant, sizeof(constant));
    otlp_span_string(&attributes, KEY("a"), (const uint8_t *) "b", 1);
    otlp_span_int(&attributes, KEY("c"), 300);
    len = (size_t) (attributes.pos - constant);
    ok(attributes.dropped_attributes == 0 && len == 20, "attributes alone");

    otlp_span_string(&attributes, KEY("d"), buffer, 100);
    ok(attributes.dropped_attributes == 1 && attributes.pos == constant + len,
        "one that does not fit");

    head = make_head();
    otlp_span_begin(&span, buffer, BUFFER, &head);
    otlp_span_encoded(&span, constant, len, 2);
    otlp_span_encoded(&span, NULL, 0, 0);
    otlp_span_encoded(&span, constant, len, 2);
    otlp_span_end(&span, 0, 0, &frame);
    scope = unpack(&frame);
    ok(scope != NULL && scope->spans[0]->n_attributes == 4
            && is_string(attribute_of(scope->spans[0], 2, "a"), "b")
            && is_int(attribute_of(scope->spans[0], 3, "c"), 300),
        "are copied, here twice");
    release(scope);

    otlp_span_begin(&span, buffer, 110, &head);
    len = (size_t) (span.end - span.pos);
    otlp_span_encoded(&span, buffer, len + 1, 7);
    ok(span.dropped_attributes == 7 && span.pos + len == span.end,
        "or all of them dropped");
    memset(buffer + 1000, 0, 16);
    otlp_span_end(&span, 0, 0, &frame);
    scope = unpack(&frame);
    ok(scope != NULL && scope->spans[0]->dropped_attributes_count == 7,
        "and counted");
    release(scope);
}


/* How many attributes and events the |room| of a span has taken of |from|. */
static int
appended(const otlp_span_t *from, size_t room, unsigned attributes,
    unsigned dropped_attributes, unsigned events, unsigned dropped_events)
{
    int rc;
    span_t *s;
    otlp_span_t span;
    scope_spans_t *scope;
    otlp_span_head_t head;
    traceparent_view_t frame;

    head = make_head();
    otlp_span_begin(&span, buffer, BUFFER, &head);
    span.end = span.pos + room;
    otlp_span_append(&span, from);
    rc = span.pos <= span.end;
    otlp_span_end(&span, 0, 0, &frame);
    scope = unpack(&frame);

    if (scope == NULL) {
        return 0;
    }

    s = scope->spans[0];
    rc = rc && s->n_attributes == attributes && s->n_events == events
         && s->dropped_attributes_count == dropped_attributes
         && s->dropped_events_count == dropped_events;
    release(scope);

    return rc;
}


static void
test_append(void)
{
    size_t len;
    uint8_t bytes[256], small[20];
    otlp_span_t event, from;

    otlp_span_attributes_begin(&from, small, sizeof(small));
    ok(appended(&from, 0, 0, 0, 0, 0), "nothing is appended");

    memset(buffer, 'x', sizeof(bytes));
    otlp_span_bool(&from, KEY("first"), 1);
    otlp_span_move(&from, bytes, sizeof(bytes));
    memset(small, 0, sizeof(small));
    otlp_span_string(&from, KEY("a"), buffer, 130);
    otlp_span_event(&from, 1, KEY("e"));
    otlp_span_int(&from, KEY("b"), 1);
    otlp_span_string(&from, KEY("long"), buffer, sizeof(bytes));
    otlp_span_event_begin(&event, &from, 2, (char *) buffer, sizeof(bytes));
    otlp_span_event_end(&from, &event);
    len = (size_t) (from.pos - from.start);

    ok(appended(&from, len, 3, 1, 1, 1),
        "all that was written is appended, before and after the buffer grew");
    ok(appended(&from, len - 1, 2, 2, 1, 1),
        "what does not fit is left out and counted: the last attribute");
    ok(appended(&from, 45, 2, 2, 1, 1),
        "one that is too long, and not what fits behind it");
    ok(appended(&from, 5, 0, 4, 0, 2), "an event");
}


/* What is left of |from| has as many attributes, of which |key| is |value|. */
static int
left(const otlp_span_t *from, unsigned n, const char *key, int64_t value)
{
    int rc;
    otlp_span_t span;
    scope_spans_t *scope;
    otlp_span_head_t head;
    traceparent_view_t frame;

    head = make_head();
    otlp_span_begin(&span, buffer, BUFFER, &head);
    otlp_span_append(&span, from);
    otlp_span_end(&span, 0, 0, &frame);
    scope = unpack(&frame);
    rc = scope != NULL && scope->spans[0]->n_attributes == n
         && scope->spans[0]->n_events == 1
         && (n == 0
             || is_int(attribute_of(scope->spans[0], n - 1, key), value));
    release(scope);

    return rc;
}


static void
test_forget(void)
{
    uint8_t *start;
    uint8_t bytes[600];
    otlp_span_t event, span;

    otlp_span_attributes_begin(&span, bytes, sizeof(bytes));
    ok(!otlp_span_forget(&span, KEY("a")), "of nothing, nothing is forgotten");

    memset(buffer, 'x', 200);
    otlp_span_string(&span, KEY("long"), buffer, 200);
    /* Its time looks like the key that is looked for. */
    otlp_span_event_begin(&event, &span, 1 | 'a' << 8, KEY("e"));
    otlp_span_int(&event, KEY("a"), 7);
    otlp_span_event_end(&span, &event);
    otlp_span_int(&span, KEY("ab"), 1);
    otlp_span_int(&span, KEY("a"), 2);
    start = span.pos;

    ok(!otlp_span_forget(&span, KEY("b")) && !otlp_span_forget(&span, KEY("e"))
            && !otlp_span_forget(&span, KEY("abc")) && span.pos == start,
        "a key that there is not is not forgotten, nor an event");
    ok(otlp_span_forget(&span, KEY("a")) && left(&span, 2, "ab", 1),
        "a key is forgotten: not a longer one, nor the same of an event");
    ok(!otlp_span_forget(&span, KEY("a")), "and only once");
    otlp_span_int(&span, KEY("a"), 3);
    ok(left(&span, 3, "a", 3), "its next value comes last");
    ok(otlp_span_forget(&span, KEY("long")) && left(&span, 2, "a", 3),
        "what is behind one that is forgotten moves up");
    ok(otlp_span_forget(&span, KEY("ab")) && otlp_span_forget(&span, KEY("a"))
            && left(&span, 0, NULL, 0),
        "all are forgotten, and the event is left");
}


/* Writes the same attribute with its name as a key, and as it is. */
static int
same_as_without_key(size_t name_len, size_t len, int64_t number, size_t room)
{
    static uint8_t bytes[2][1024];
    static const char name[] = "0123456789abcdefghijklmnopqrstuvwxyz.-_!";
    otlp_key_t key;
    otlp_span_t span[2];

    memset(bytes, 0x55, sizeof(bytes));

    if (otlp_key_init(&key, name, name_len) != 0) {
        return 0;
    }

    otlp_span_attributes_begin(&span[0], bytes[0], room);
    otlp_span_attributes_begin(&span[1], bytes[1], room);

    otlp_span_string(&span[0], name, name_len, buffer, len);
    otlp_span_key_string(&span[1], &key, buffer, len);
    otlp_span_int(&span[0], name, name_len, number);
    otlp_span_key_int(&span[1], &key, number);

    len = (size_t) (span[0].pos - bytes[0]);

    return (size_t) (span[1].pos - bytes[1]) == len
           && memcmp(bytes[0], bytes[1], len) == 0
           && span[0].dropped_attributes == span[1].dropped_attributes
           && bytes[1][room] == 0x55;
}


static void
test_keys(void)
{
    otlp_key_t key;
    size_t len, name_len, room;
    unsigned bad;

    bad = 0;
    memset(buffer, 'v', 300);

    for (name_len = 1; name_len <= OTLP_KEY_NAME_MAX; name_len++) {
        for (len = 0; len < 300; len++) {
            bad += !same_as_without_key(
                name_len, len, INT64_MIN >> (len % 64), 1000);
        }
    }

    ok(bad == 0, "a key makes the same attributes as its name");
    bad = 0;

    for (room = 0; room < 300; room++) {
        bad += !same_as_without_key(19, 60, -1, room);
    }

    ok(bad == 0, "and drops the same where there is little room");
    bad = 0;

    for (len = 1; len < 150; len++) {
        buffer[len - 1] = 0xff;
        bad += !same_as_without_key(9, len, (int64_t) len, 1000);
        buffer[len - 1] = 'v';
    }

    ok(bad == 0, "and mends the same");
    ok(otlp_key_init(&key, (const char *) buffer, OTLP_KEY_NAME_MAX + 1)
            == OTLP_ERR_ROOM,
        "a name that is too long for a key");
}


/* Tags and lengths of an event and its name, and its time. */
#define EVENT_OVERHEAD 13


static void
test_known(void)
{
    static uint8_t bytes[2][256];
    otlp_known_t known[2];
    otlp_span_t span[2];
    size_t room;
    unsigned bad;

    ok(otlp_known_string(&known[0], "key", 3, (const uint8_t *) "value", 5) == 0
            && otlp_known_bool(&known[1], "flag", 4, 1) == 0,
        "attributes that are known");
    bad = 0;

    for (room = 0; room < 128; room++) {
        memset(bytes, 0x55, sizeof(bytes));
        otlp_span_attributes_begin(&span[0], bytes[0], room);
        otlp_span_attributes_begin(&span[1], bytes[1], room);
        otlp_span_string(&span[0], "key", 3, (const uint8_t *) "value", 5);
        otlp_span_bool(&span[0], "flag", 4, 1);
        otlp_span_known(&span[1], &known[0]);
        otlp_span_known(&span[1], &known[1]);

        bad += span[0].pos - bytes[0] != span[1].pos - bytes[1]
               || memcmp(bytes[0], bytes[1], (size_t) (span[0].pos - bytes[0]))
                      != 0
               || span[0].dropped_attributes != span[1].dropped_attributes
               || bytes[1][room] != 0x55;
    }

    ok(bad == 0, "are the same as written then, where there is room and where "
                 "there is none");
    ok(otlp_known_string(&known[0], "key", 3, buffer, OTLP_KNOWN_MAX)
            == OTLP_ERR_ROOM,
        "one that is too long to be known");

    otlp_span_attributes_begin(&span[0], bytes[0], sizeof(bytes[0]));
    otlp_span_attributes_begin(&span[1], bytes[1], sizeof(bytes[1]));
    otlp_span_event(&span[0], UINT64_C(0x0102030405060708), "connect", 7);
    ok(otlp_known_event(&known[0], "connect", 7) == 0, "a known event");
    otlp_span_known_event(&span[1], &known[0], UINT64_C(0x0102030405060708));
    ok(span[0].pos - bytes[0] == span[1].pos - bytes[1]
            && memcmp(bytes[0], bytes[1], (size_t) (span[0].pos - bytes[0]))
                   == 0,
        "is the same as written then");

    bad = 0;

    for (room = 0; room < OTLP_KNOWN_MAX; room++) {
        memset(bytes[1], 0x55, sizeof(bytes[1]));
        otlp_span_attributes_begin(&span[1], bytes[1], room);
        otlp_span_known_event(&span[1], &known[0], 1);
        bad += span[1].dropped_events != (room < known[0].len)
               || span[1].pos - bytes[1]
                      != (room < known[0].len ? 0 : known[0].len)
               || bytes[1][room] != 0x55;
    }

    ok(bad == 0, "or dropped where there is too little room");
    ok(otlp_known_event(
           &known[0], (const char *) buffer, OTLP_KNOWN_MAX - EVENT_OVERHEAD)
                == 0
            && otlp_known_event(&known[0], (const char *) buffer,
                   OTLP_KNOWN_MAX - EVENT_OVERHEAD + 1)
                   == OTLP_ERR_ROOM,
        "a name that is too long for one");
}


static void
test_row(void)
{
    otlp_span_t span;
    scope_spans_t *scope;
    otlp_span_head_t head;
    traceparent_view_t frame;
    static uint8_t row[1024];
    size_t i, len;

    head = make_head();
    len = 0;

    for (i = 0; i < 3; i++) {
        head.flags = (uint32_t) i;
        otlp_span_begin(&span, buffer, BUFFER, &head);
        otlp_span_end(&span, 0, 0, &frame);
        memcpy(row + len, frame.data, frame.len);
        len += frame.len;
    }

    scope
        = opentelemetry__proto__trace__v1__scope_spans__unpack(NULL, len, row);
    ok(scope != NULL && scope->n_spans == 3 && scope->spans[2]->flags == 2,
        "frames in a row are spans of one ScopeSpans");
    release(scope);
}


int
main(void)
{
    uint8_t *pages;

    guarded = (size_t) sysconf(_SC_PAGESIZE);
    pages = mmap(NULL, 2 * guarded, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED
        || mprotect(pages + guarded, guarded, PROT_NONE) != 0) {
        return 1;
    }

    guard = pages + guarded;

    test_all_fields();
    test_least();
    test_numbers();
    test_lengths();
    test_mending();
    test_mended_head();
    test_bounds();
    test_longest_ends();
    test_event_lengths();
    test_dropped_events();
    test_short_and_long();
    test_limit();
    test_encoded();
    test_append();
    test_forget();
    test_keys();
    test_known();
    test_row();

    return done_testing();
}
