#define _GNU_SOURCE /* strnlen() */

#include <stdlib.h>
#include <string.h>

#include "trace.h"


static const any_value_t *
find(const char *name, size_t n, key_value_t *const *attributes)
{
    size_t i;

    for (i = 0; i < n; i++) {
        if (strcmp(attributes[i]->key, name) == 0) {
            return attributes[i]->value;
        }
    }

    return NULL;
}


const char *
trace_attribute(const char *name, size_t n, key_value_t *const *attributes)
{
    const any_value_t *value = find(name, n, attributes);

    if (value == NULL || value->value_case != ANY_VALUE(STRING)) {
        return "";
    }

    return value->string_value;
}


static int
http_status(const span_message_t *message)
{
    const any_value_t *value = find("http.response.status_code",
        message->n_attributes, message->attributes);

    if (value == NULL || value->value_case != ANY_VALUE(INT)
        || value->int_value < 0 || value->int_value > 999) {
        return 0;
    }

    return (int) value->int_value;
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
    char *pos;
    size_t i, n_events, n_links, size;
    const char *error_type, *description;
    trace_span_t *span;

    error_type = trace_attribute(
        "error.type", message->n_attributes, message->attributes);
    description = message->status != NULL ? message->status->message : "";
    n_events = message->n_events < TRACE_LIST_MAX ? message->n_events
                                                  : TRACE_LIST_MAX;
    n_links
        = message->n_links < TRACE_LIST_MAX ? message->n_links : TRACE_LIST_MAX;

    size = sizeof(*span) + n_events * sizeof(trace_event_t)
           + n_links * sizeof(trace_link_t) + room(message->name)
           + room(service) + room(error_type) + room(description);

    for (i = 0; i < n_events; i++) {
        size += room(message->events[i]->name);
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
    span->http_status = http_status(message);
    span->start = message->start_time_unix_nano;
    span->end = message->end_time_unix_nano;
    span->n_events = n_events;
    span->more_events = message->n_events - n_events;
    span->n_links = n_links;
    span->more_links = message->n_links - n_links;

    /* the strings are behind both arrays, events have the wider alignment */
    span->events = (trace_event_t *) (void *) (span + 1);
    span->links = (trace_link_t *) (void *) (span->events + n_events);
    pos = (char *) (span->links + n_links);

    copy_links(span, message);
    span->name = put(&pos, message->name);
    span->service = put(&pos, service);
    span->error_type = put(&pos, error_type);
    span->message = put(&pos, description);

    for (i = 0; i < n_events; i++) {
        span->events[i].time = message->events[i]->time_unix_nano;
        span->events[i].name = put(&pos, message->events[i]->name);
    }

    return span;
}
