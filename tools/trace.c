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


/* The int attribute |name|, or 0 if there is none or it is over |max|. */
static int
number_of(const span_message_t *message, const char *name, int max)
{
    const any_value_t *value
        = export_attribute(name, message->n_attributes, message->attributes);

    if (value == NULL || value->value_case != ANY_VALUE(INT)
        || value->int_value < 0 || value->int_value > max) {
        return 0;
    }

    return (int) value->int_value;
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


static void
write_value(char *text, const any_value_t *value)
{
    switch (value != NULL ? (int) value->value_case : 0) {
    case ANY_VALUE(STRING):
        snprintf(
            text, TEXT_SIZE, "%.*s", TRACE_TEXT_MAX + 1, value->string_value);
        break;
    case ANY_VALUE(BOOL):
        strcpy(text, value->bool_value ? "true" : "false");
        break;
    case ANY_VALUE(INT):
        snprintf(text, TEXT_SIZE, "%" PRId64, value->int_value);
        break;
    case ANY_VALUE(DOUBLE):
        snprintf(text, TEXT_SIZE, "%g", value->double_value);
        break;
    default:
        strcpy(text, "...");
    }
}


/* Writes an event's attributes; of a key what follows its last dot. */
static void
write_attributes(char *text, const event_message_t *event)
{
    size_t i, len;
    char value[TEXT_SIZE];
    const char *dot, *key;

    text[0] = '\0';

    for (i = 0, len = 0; i < event->n_attributes && len < TEXT_SIZE; i++) {
        key = event->attributes[i]->key;
        dot = strrchr(key, '.');
        write_value(value, event->attributes[i]->value);
        len += (size_t) snprintf(text + len, TEXT_SIZE - len, "%s%.*s=%s",
            i == 0 ? "" : "  ", TRACE_TEXT_MAX, dot != NULL ? dot + 1 : key,
            value);
    }
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


/* Copies |text| to |*pos|, which moves on. Returns the copy. */
static const char *
put(char **pos, const char *text)
{
    char *copy = *pos;
    size_t len = kept(text);

    memcpy(copy, text, len);
    strcpy(copy + len, text[len] == '\0' ? "" : "...");
    *pos += room(text);

    return copy;
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
    char *pos, peer[TEXT_SIZE], text[TEXT_SIZE];
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
        write_attributes(text, message->events[i]);
        size += room(message->events[i]->name) + room(text);
    }

    span = calloc(1, size);

    if (span == NULL) {
        return NULL;
    }

    span->size = size;
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

    for (i = 0; i < n_events; i++) {
        span->events[i].time = message->events[i]->time_unix_nano;
        span->events[i].name = put(&pos, message->events[i]->name);
        write_attributes(text, message->events[i]);
        span->events[i].attributes = put(&pos, text);
    }

    return span;
}
