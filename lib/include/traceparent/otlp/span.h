/*
 * Writes one span as OTLP bytes: the field "spans" of a ScopeSpans message,
 * tag and length included, so that any number of them in a row, behind the
 * envelope of request.h, is an ExportTraceServiceRequest.
 *
 * The writer only appends. It allocates nothing, keeps no pointer that it was
 * given, and never writes outside the caller's buffer: what does not fit is
 * left out whole and counted, as the fields dropped_attributes_count,
 * dropped_events_count and dropped_links_count say
 * (opentelemetry/proto/trace/v1).
 *
 * Strings are bytes; those that are not UTF-8 are written with U+FFFD in the
 * place of each bad sequence, since one bad string makes a decoder refuse the
 * whole request.
 *
 * Order of calls: otlp_span_begin(), any number of attributes, events and links
 * in any order, otlp_span_end().
 */

#ifndef TRACEPARENT_OTLP_SPAN_H
#define TRACEPARENT_OTLP_SPAN_H


#include <stddef.h>
#include <stdint.h>

#include <traceparent/ids.h>
#include <traceparent/tracestate.h>

#ifdef __cplusplus
extern "C" {
#endif


/* SpanKind */
#define OTLP_SPAN_KIND_INTERNAL       1
#define OTLP_SPAN_KIND_SERVER         2
#define OTLP_SPAN_KIND_CLIENT         3

/* Status.StatusCode */
#define OTLP_STATUS_UNSET             0
#define OTLP_STATUS_OK                1
#define OTLP_STATUS_ERROR             2

/* Span.flags and Link.flags; bits 0 to 7 are the W3C trace-flags */
#define OTLP_FLAG_HAS_IS_REMOTE       0x100
#define OTLP_FLAG_IS_REMOTE           0x200

/* A span and its frame are never longer, whatever room there is; bytes */
#define OTLP_SPAN_MAX                 65536

#define OTLP_ERR_ROOM                -40  /* the buffer is too small */


/* What every span has. Views may be empty; nothing is kept after begin. */
typedef struct {
    const uint8_t      *trace_id;          /* 16 bytes */
    const uint8_t      *span_id;           /* 8 bytes */
    const uint8_t      *parent_span_id;    /* 8 bytes, or NULL for a root */
    traceparent_view_t  tracestate;
    traceparent_view_t  name;
    uint64_t            start_time;        /* ns since 1970 */
    uint32_t            flags;
    uint8_t             kind;              /* OTLP_SPAN_KIND_* */
} otlp_span_head_t;


/* All fields are the writer's own. */
typedef struct {
    uint8_t            *start;             /* of the buffer */
    uint8_t            *pos;
    uint8_t            *end;               /* room for the tail lies behind */
    uint8_t            *end_time;          /* where it is written */
    uint64_t            start_time;
    uint32_t            dropped_attributes;
    uint32_t            dropped_events;
    uint32_t            dropped_links;
    uint8_t             attributes;        /* the tag of one */
} otlp_span_t;


/* The longest name of a key; bytes */
#define OTLP_KEY_NAME_MAX             40

/*
 * The name of an attribute that many spans have, encoded beforehand: writing
 * the attribute takes little more than half the instructions then. All fields
 * are the writer's own.
 */
typedef struct {
    uint8_t             bytes[OTLP_KEY_NAME_MAX + 8];
    uint8_t             name_len;
} otlp_key_t;


/* The longest attribute or event that is known; bytes */
#define OTLP_KNOWN_MAX                48

/*
 * An attribute whose value is known beforehand as well, or an event without
 * attributes, encoded whole. All fields are the writer's own.
 */
typedef struct {
    uint8_t             bytes[OTLP_KNOWN_MAX];
    uint8_t             len;
} otlp_known_t;


/*
 * Begins a span in the |size| bytes at |buf|. Returns 0, or OTLP_ERR_ROOM if
 * not even an attribute-less span fits: then nothing else may be called.
 */
int otlp_span_begin(otlp_span_t *span, uint8_t *buf, size_t size,
    const otlp_span_head_t *head);

/*
 * Attributes. The caller sees to it that a key comes once. |key| is ASCII.
 * One that does not fit is counted as dropped.
 */
void otlp_span_string(otlp_span_t *span, const char *key, size_t key_len,
    const uint8_t *value, size_t len);
void otlp_span_int(otlp_span_t *span, const char *key, size_t key_len,
    int64_t value);
void otlp_span_double(otlp_span_t *span, const char *key, size_t key_len,
    double value);
void otlp_span_bool(otlp_span_t *span, const char *key, size_t key_len,
    int value);
void otlp_span_strings(otlp_span_t *span, const char *key, size_t key_len,
    const traceparent_view_t *values, size_t n);

/*
 * The same as otlp_span_string() and otlp_span_int(), with a key. Of its |len|
 * bytes of |name|, which are ASCII, otlp_key_init() keeps a copy. It returns 0,
 * or OTLP_ERR_ROOM if they are more than OTLP_KEY_NAME_MAX.
 */
int otlp_key_init(otlp_key_t *key, const char *name, size_t len);
void otlp_span_key_string(otlp_span_t *span, const otlp_key_t *key,
    const uint8_t *value, size_t len);
void otlp_span_key_int(otlp_span_t *span, const otlp_key_t *key,
    int64_t value);

/*
 * An attribute that is known beforehand; not for events nor for the records of
 * log.h, whose attributes have another tag. The first two return 0, or
 * OTLP_ERR_ROOM if it is longer than OTLP_KNOWN_MAX when it is encoded.
 */
int otlp_known_string(otlp_known_t *known, const char *key, size_t key_len,
    const uint8_t *value, size_t len);
int otlp_known_bool(otlp_known_t *known, const char *key, size_t key_len,
    int value);
void otlp_span_known(otlp_span_t *span, const otlp_known_t *known);

/* Copies what was written before (see otlp_span_attributes_begin()), all or
 * nothing of it; |n| is how many attributes are in it. Not for events nor for
 * log records either. */
void otlp_span_encoded(otlp_span_t *span, const uint8_t *src, size_t len,
    uint32_t n);

/*
 * Writes attributes and events alone, to be used later: begin with this instead
 * of otlp_span_begin(), then use the functions for these. The bytes, those from
 * |buf| to span->pos, are for otlp_span_encoded(), or all of it is for
 * otlp_span_append(). |dropped_attributes| and |dropped_events| tell what did
 * not fit.
 */
void otlp_span_attributes_begin(otlp_span_t *span, uint8_t *buf, size_t size);

/* Goes on with these in a larger buffer, where what was written is copied. */
void otlp_span_move(otlp_span_t *span, uint8_t *buf, size_t size);

/*
 * Copies the attributes and events of |from|, which was begun with
 * otlp_span_attributes_begin(): those that fit. The others are counted, and so
 * is what |from| has dropped.
 */
void otlp_span_append(otlp_span_t *span, const otlp_span_t *from);

/*
 * Copies the attributes of |from| alone, which was begun with the same, into a
 * span, an event or a log record: those that fit. The others are counted.
 */
void otlp_span_append_attributes(otlp_span_t *span, const otlp_span_t *from);

/*
 * Takes an attribute out that was written since otlp_span_attributes_begin(),
 * so that its key can come again. Returns 1, or 0 if there is none.
 */
int otlp_span_forget(otlp_span_t *span, const char *key, size_t key_len);

/*
 * An event, without attributes. |time| in ns since 1970; |name| is not empty.
 * Its order among the others is that of the calls.
 */
void otlp_span_event(otlp_span_t *span, uint64_t time, const char *name,
    size_t name_len);

/*
 * The same of an event whose name is known beforehand. The first returns 0, or
 * OTLP_ERR_ROOM if the event is longer than OTLP_KNOWN_MAX when it is encoded.
 */
int otlp_known_event(otlp_known_t *known, const char *name, size_t name_len);
void otlp_span_known_event(otlp_span_t *span, const otlp_known_t *known,
    uint64_t time);

/*
 * An event with attributes. Write them into |event| with the functions above,
 * all but otlp_span_encoded(), and leave |span| alone until the end. One that
 * does not fit is counted as dropped from the event; an event whose time and
 * name do not fit takes its attributes with it.
 */
void otlp_span_event_begin(otlp_span_t *event, const otlp_span_t *span,
    uint64_t time, const char *name, size_t name_len);
void otlp_span_event_end(otlp_span_t *span, const otlp_span_t *event);

/* A link to another span. |flags| as in Span.flags. */
void otlp_span_link(otlp_span_t *span, const uint8_t *trace_id,
    const uint8_t *span_id, uint32_t flags);

/*
 * Ends the span. |*frame| becomes the whole field, somewhere in the buffer;
 * bytes of the buffer in front of it and behind it are undefined.
 * |end_time| in ns since 1970, |status| one of OTLP_STATUS_*.
 * This cannot fail.
 */
void otlp_span_end(otlp_span_t *span, uint64_t end_time, int status,
    traceparent_view_t *frame);


#ifdef __cplusplus
}
#endif

#endif
