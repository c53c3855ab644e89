
/*
 * Spans of one's own, for other modules of nginx, and by FFI for scripts.
 *
 * A span is a child of the current span of its request or subrequest, which is
 * the request's (or subrequest's) span itself to begin with.  What a request
 * does while a span of one's own is current hangs below that: further spans,
 * subrequests, tries of upstreams.
 *
 * All calls may be made wherever nginx handles the request: in each phase, in
 * filters, upstream callbacks, and timers; up to the log phase, behind whose
 * handlers spans are written.  They never fail a request.  What is over a limit
 * is left out and counted in the span: dropped_..._count of OpenTelemetry.
 *
 * The module of the caller must be loaded behind this one.
 */


#ifndef _NGX_HTTP_TRACE_API_H_INCLUDED_
#define _NGX_HTTP_TRACE_API_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


/* raised when something that is here changes its meaning, or goes */
#define NGX_HTTP_TRACE_API_VERSION    1

/* of pipelines, as bits */
#define NGX_HTTP_TRACE_API_INTERNAL   1
#define NGX_HTTP_TRACE_API_USER       2
#define NGX_HTTP_TRACE_API_BOTH       3

/* a name is cut there, at the start of a character; bytes */
#define NGX_HTTP_TRACE_API_NAME_MAX        64

/* of an attribute; bytes */
#define NGX_HTTP_TRACE_API_KEY_MAX         255

/* of one span, and of one event */
#define NGX_HTTP_TRACE_API_ATTRIBUTES_MAX  128
#define NGX_HTTP_TRACE_API_EVENTS_MAX      64

/* attributes and events of one span, and of all of a request; bytes */
#define NGX_HTTP_TRACE_API_SIZE_MAX        65536
#define NGX_HTTP_TRACE_API_REQUEST_MAX     1048576

/* Status.StatusCode of OpenTelemetry */
#define NGX_HTTP_TRACE_API_UNSET      0
#define NGX_HTTP_TRACE_API_OK         1
#define NGX_HTTP_TRACE_API_ERROR      2


/*
 * A span.  It may be kept, copied, and compared.  What is done with one that is
 * closed, whose request is over, or that is 0, is nothing.
 */

typedef uint64_t  ngx_http_trace_span_t;

#define NGX_HTTP_TRACE_NO_SPAN        0


/* the version that is loaded: NGX_HTTP_TRACE_API_VERSION of its header */

ngx_uint_t ngx_http_trace_api_version(void);


/*
 * Which pipelines record the request of |r|, as bits; before that is decided,
 * which may.  0: spans of it cost next to nothing, and attributes need not be
 * made for them.
 */

ngx_uint_t ngx_http_trace_recording(ngx_http_request_t *r);


/*
 * Opens a span that begins now, in those of |pipelines| that record the
 * request.  Its parent is |parent|, a span of the same request, open or closed;
 * any other number means the current span.  |name| is copied; it should be one
 * of few.  0 if nothing records, without memory, and beyond 1,000 spans of a
 * request.
 */

ngx_http_trace_span_t ngx_http_trace_span_open(ngx_http_request_t *r,
    ngx_http_trace_span_t parent, const u_char *name, size_t len,
    ngx_uint_t pipelines);


/*
 * Makes a span the current one of |r|, its request or a subrequest of that; 0
 * is the request's or subrequest's own.  Returns the one that was, to be made
 * current again.  A span that is closed is current no more: then its parent is.
 * A span that is not one of the same request changes nothing.
 */

ngx_http_trace_span_t ngx_http_trace_span_current(ngx_http_request_t *r,
    ngx_http_trace_span_t span);


/* An attribute; see the macros below. */

#define NGX_HTTP_TRACE_API_STRING     0
#define NGX_HTTP_TRACE_API_INT        1
#define NGX_HTTP_TRACE_API_DOUBLE     2
#define NGX_HTTP_TRACE_API_BOOL       3

typedef struct {
    const u_char  *key;                /* printable ASCII, without spaces */
    size_t         key_len;            /* 1 to NGX_HTTP_TRACE_API_KEY_MAX */
    uint32_t       type;
    uint32_t       boolean;
    int64_t        integer;
    double         number;
    const u_char  *string;             /* any bytes; see below */
    size_t         string_len;
} ngx_http_trace_api_attribute_t;

/* initializers: of a string literal as the key, and a value */

#define ngx_http_trace_api_string(key, data, len)                             \
    { (const u_char *) key, sizeof(key) - 1, NGX_HTTP_TRACE_API_STRING,       \
      0, 0, 0, data, len }
#define ngx_http_trace_api_int(key, value)                                    \
    { (const u_char *) key, sizeof(key) - 1, NGX_HTTP_TRACE_API_INT,          \
      0, value, 0, NULL, 0 }
#define ngx_http_trace_api_double(key, value)                                 \
    { (const u_char *) key, sizeof(key) - 1, NGX_HTTP_TRACE_API_DOUBLE,       \
      0, 0, value, NULL, 0 }
#define ngx_http_trace_api_bool(key, value)                                   \
    { (const u_char *) key, sizeof(key) - 1, NGX_HTTP_TRACE_API_BOOL,         \
      (value) != 0, 0, 0, NULL, 0 }


/*
 * Sets |n| attributes.  Keys and values are copied.  A key that the span has
 * gets the new value.  Bytes of a string that are not UTF-8 are replaced by
 * U+FFFD.
 */

void ngx_http_trace_span_set(ngx_http_trace_span_t span,
    const ngx_http_trace_api_attribute_t *attributes, ngx_uint_t n);


/*
 * An event, now, with |n| attributes, of which each key should come once.  Its
 * name is cut like that of a span, and must not be empty.
 */

void ngx_http_trace_span_event(ngx_http_trace_span_t span,
    const u_char *name, size_t len,
    const ngx_http_trace_api_attribute_t *attributes, ngx_uint_t n);


/* The name from now on, if it is not empty. */

void ngx_http_trace_span_rename(ngx_http_trace_span_t span,
    const u_char *name, size_t len);


/* NGX_HTTP_TRACE_API_UNSET, _OK or _ERROR. */

void ngx_http_trace_span_status(ngx_http_trace_span_t span, ngx_uint_t status);


/*
 * Closes the span.  One that is left open is closed when its request or
 * subrequest ends.
 */

void ngx_http_trace_span_close(ngx_http_trace_span_t span);


/*
 * Whether the span is open, and one of the request of |r|: for callers that
 * keep spans where they may outlive their request.
 */

ngx_uint_t ngx_http_trace_span_alive(ngx_http_request_t *r,
    ngx_http_trace_span_t span);


#endif /* _NGX_HTTP_TRACE_API_H_INCLUDED_ */
