#define _GNU_SOURCE /* strnlen() */

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trace.h"


/* Room for a text that is made of several; it may be cut where put() cuts. */
#define TEXT_SIZE (TRACE_TEXT_MAX + 16)


static const char *
string_of(const span_message_t *message, const char *name)
{
    return export_string(name, message->n_attributes, message->attributes);
}


static int
number_of(const span_message_t *message, const char *name, int max)
{
    return (int) export_number(
        name, message->n_attributes, message->attributes, max);
}


static const char *const kind_names[]
    = {"", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"};

#define KINDS ((int) (sizeof(kind_names) / sizeof(kind_names[0])))


const char *
trace_kind_name(int kind)
{
    return kind >= 0 && kind < KINDS ? kind_names[kind] : "?";
}


int
trace_kind(const char *name)
{
    int kind;

    for (kind = KINDS - 1; kind > 0; kind--) {
        if (strcmp(name, kind_names[kind]) == 0) {
            break;
        }
    }

    return kind;
}


/* How much of |text| is kept: whole characters only. */
static size_t
kept(const char *text)
{
    size_t len = strnlen(text, TRACE_TEXT_MAX + 1);

    if (len <= TRACE_TEXT_MAX) {
        return len;
    }

    for (len = TRACE_TEXT_MAX; len > 0 && (text[len] & 0xc0) == 0x80; len--) {
    }

    return len;
}


static size_t
room(const char *text)
{
    return kept(text) + sizeof("...");
}


void
trace_cut(char *dest, const char *text)
{
    size_t len = kept(text);

    memcpy(dest, text, len);
    strcpy(dest + len, text[len] == '\0' ? "" : "...");
}


void
trace_value(char *text, const any_value_t *value)
{
    char number[32] = "...";
    const char *whole = number;

    switch (value != NULL ? (int) value->value_case : 0) {
    case ANY_VALUE(STRING):
        whole = value->string_value;
        break;
    case ANY_VALUE(BOOL):
        whole = value->bool_value ? "true" : "false";
        break;
    case ANY_VALUE(INT):
        snprintf(number, sizeof(number), "%" PRId64, value->int_value);
        break;
    case ANY_VALUE(DOUBLE):
        snprintf(number, sizeof(number), "%g", value->double_value);
        break;
    default:
        break;
    }

    trace_cut(text, whole);
}


static int
is_among(const char *name, const char *const *names)
{
    for (; *names != NULL; names++) {
        if (strcmp(name, *names) == 0) {
            return 1;
        }
    }

    return 0;
}


void
trace_attributes(char *text, size_t n, key_value_t *const *attributes,
    const char *const *left_out)
{
    size_t i, len;
    char all[TEXT_SIZE] = "", value[TRACE_TEXT_SIZE];
    const char *dot, *key;

    for (i = 0, len = 0; i < n && len < sizeof(all); i++) {
        key = attributes[i]->key;

        if (is_among(key, left_out)) {
            continue;
        }

        dot = strrchr(key, '.');
        trace_value(value, attributes[i]->value);
        len += (size_t) snprintf(all + len, sizeof(all) - len, "%s%.*s=%s",
            len == 0 ? "" : "  ", TRACE_TEXT_MAX, dot != NULL ? dot + 1 : key,
            value);
    }

    trace_cut(text, all);
}


/* Writes where a client's span went, or was to go if it found nobody. */
static void
write_peer(char *text, const span_message_t *message)
{
    int port;
    const char *address;

    text[0] = '\0';

    if (message->kind != KIND_CLIENT) {
        return;
    }

    address = string_of(message, "network.peer.address");
    port = number_of(message, "network.peer.port", 65535);

    if (address[0] == '\0') {
        address = string_of(message, "server.address");
        port = number_of(message, "server.port", 65535);
    }

    if (port == 0) {
        snprintf(text, TEXT_SIZE, "%.*s", TRACE_TEXT_MAX + 1, address);

    } else {
        snprintf(text, TEXT_SIZE,
            strchr(address, ':') != NULL ? "[%.*s]:%d" : "%.*s:%d",
            TRACE_TEXT_MAX, address, port);
    }
}


/* Copies |text| to |*pos|, which moves on. Returns the copy. */
static const char *
put(char **pos, const char *text)
{
    char *copy = *pos;

    trace_cut(copy, text);
    *pos += room(text);

    return copy;
}


static void
event_attributes(char *text, const event_message_t *event)
{
    static const char *const none[] = {NULL};

    trace_attributes(text, event->n_attributes, event->attributes, none);
}


static void
copy_numbers(trace_span_t *span, const span_message_t *message)
{
    memcpy(span->span_id, message->span_id.data, 8);
    span->has_parent = message->parent_span_id.len == 8;

    if (span->has_parent) {
        memcpy(span->parent_id, message->parent_span_id.data, 8);
    }

    span->kind = message->kind;
    span->status = message->status != NULL ? message->status->code : 0;
    span->http_status = number_of(message, "http.response.status_code", 999);
    span->resend_count
        = number_of(message, "http.request.resend_count", INT_MAX);
    span->start = message->start_time_unix_nano;
    span->end = message->end_time_unix_nano;
}


/* Their strings go to |pos|. */
static void
copy_events(trace_span_t *span, const span_message_t *message, char *pos)
{
    size_t i;
    char text[TRACE_TEXT_SIZE];

    for (i = 0; i < span->n_events; i++) {
        span->events[i].time = message->events[i]->time_unix_nano;
        span->events[i].name = put(&pos, message->events[i]->name);
        event_attributes(text, message->events[i]);
        span->events[i].attributes = put(&pos, text);
    }
}


static void
copy_links(trace_span_t *span, const span_message_t *message)
{
    size_t i;

    for (i = 0; i < span->n_links; i++) {
        memcpy(span->links[i].trace_id, message->links[i]->trace_id.data, 16);
        memcpy(span->links[i].span_id, message->links[i]->span_id.data, 8);
    }
}


trace_span_t *
trace_span_copy(const span_message_t *message, const char *service)
{
    char *pos, peer[TEXT_SIZE], text[TRACE_TEXT_SIZE];
    size_t i, n_events, n_links, size;
    const char *cache_status, *error_type, *description;
    trace_span_t *span;

    write_peer(peer, message);
    cache_status = string_of(message, "nginx.cache.status");
    error_type = string_of(message, "error.type");
    description = message->status != NULL ? message->status->message : "";
    n_events = message->n_events < TRACE_LIST_MAX ? message->n_events
                                                  : TRACE_LIST_MAX;
    n_links
        = message->n_links < TRACE_LIST_MAX ? message->n_links : TRACE_LIST_MAX;

    size = sizeof(*span) + n_events * sizeof(trace_event_t)
           + n_links * sizeof(trace_link_t) + room(message->name) + room(peer)
           + room(service) + room(cache_status) + room(error_type)
           + room(description);

    for (i = 0; i < n_events; i++) {
        event_attributes(text, message->events[i]);
        size += room(message->events[i]->name) + room(text);
    }

    span = calloc(1, size);

    if (span == NULL) {
        return NULL;
    }

    span->size = size;
    copy_numbers(span, message);
    span->n_events = n_events;
    span->more_events
        = message->n_events - n_events + message->dropped_events_count;
    span->n_links = n_links;
    span->more_links
        = message->n_links - n_links + message->dropped_links_count;

    /* the strings are behind both arrays, events have the wider alignment */
    span->events = (trace_event_t *) (void *) (span + 1);
    span->links = (trace_link_t *) (void *) (span->events + n_events);
    pos = (char *) (span->links + n_links);

    copy_links(span, message);
    span->name = put(&pos, message->name);
    span->peer = put(&pos, peer);
    span->service = put(&pos, service);
    span->cache_status = put(&pos, cache_status);
    span->error_type = put(&pos, error_type);
    span->message = put(&pos, description);

    copy_events(span, message, pos);

    return span;
}
