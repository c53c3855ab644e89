/*
 * What is kept of a span until its trace is drawn. Long strings and lists are
 * cut, so that a span is never larger than some kilobytes.
 */

#ifndef TRACE_H
#define TRACE_H


#include <stddef.h>
#include <stdint.h>

#include "export.h"


/* Of a string, in bytes; what is longer ends in "..." */
#define TRACE_TEXT_MAX 200

/* Room for such a string. */
#define TRACE_TEXT_SIZE (TRACE_TEXT_MAX + 4)

/* Of a span's events, and of its links. */
#define TRACE_LIST_MAX 16

/* Different values of the header of --header in one trace. */
#define TRACE_HEADER_MAX 4


typedef struct {
    uint64_t time; /* nanoseconds since 1970, as all times here */
    const char *name;
    const char *attributes; /* as "route=/a  status_code=502" */
} trace_event_t;

typedef struct {
    uint8_t trace_id[16];
    uint8_t span_id[8];
} trace_link_t;

typedef struct trace_span_s trace_span_t;

struct trace_span_s {
    trace_span_t *next; /* in order of arrival, if it is over */
    size_t size;        /* of this memory, which has the strings too */
    uint8_t span_id[8];
    uint8_t parent_id[8];
    int has_parent;
    int open; /* it was announced, and is not over: |end| is now */
    int kind;
    int status;
    int http_status; /* 0 if there is none, as the next */
    int resend_count;
    uint64_t start;
    uint64_t end;
    const char *name;
    const char *peer; /* of a client's span: the other end, or "" */
    const char *service;
    const char *cache_status;
    const char *error_type;
    const char *message;
    trace_event_t *events;
    size_t n_events;
    size_t more_events; /* that are not kept, or did not come */
    trace_link_t *links;
    size_t n_links;
    size_t more_links;
};

typedef struct {
    uint8_t id[16];
    trace_span_t *first;
    trace_span_t *last;
    size_t n_spans;
    trace_span_t *pending; /* announced spans above them, in no order */
    size_t n_pending;
    size_t n_open;                   /* of these */
    char *headers[TRACE_HEADER_MAX]; /* distinct values, as they came */
    int continued;                   /* another part of it was drawn before */
} trace_t;


/* Copies the beginning of |text| to |dest|, TRACE_TEXT_SIZE bytes. */
void trace_cut(char *dest, const char *text);

/* Writes a value as far as it is of interest, in TRACE_TEXT_SIZE bytes. */
void trace_value(char *text, const any_value_t *value);

/*
 * The same for attributes, as "route=/a  status_code=502": of a key what
 * follows its last dot. The names in |left_out|, which ends in NULL, are not
 * among them.
 */
void trace_attributes(char *text, size_t n, key_value_t *const *attributes,
    const char *const *left_out);

/* "SERVER" and its like; "" and 0 are the kind that is not told. */
const char *trace_kind_name(int kind);
int trace_kind(const char *name);

/* Returns a copy of |message|, to be freed with free(), or NULL. |service| is
 * the name of its resource. */
trace_span_t *trace_span_copy(
    const span_message_t *message, const char *service);


#endif
