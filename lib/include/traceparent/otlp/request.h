/*
 * The envelope around spans, and the receiver's answer: OTLP/HTTP with binary
 * protobuf (opentelemetry.io/docs/specs/otlp, "OTLP/HTTP").
 *
 * What is the same for every request of an exporter, the resource and the
 * scope, is packed once; a request is then a short frame in front of any
 * number of spans from span.h. All of this serves the records of log.h as well:
 * the messages around both, and the answers to both, have the same fields.
 */

#ifndef TRACEPARENT_OTLP_REQUEST_H
#define TRACEPARENT_OTLP_REQUEST_H


#include <stddef.h>
#include <stdint.h>

#include <traceparent/tracestate.h>

#ifdef __cplusplus
extern "C" {
#endif


/* The most that a request's body may be; collectors refuse more than 20 MiB. */
#define OTLP_REQUEST_MAX              (4 * 1024 * 1024)

/* Bytes of a frame beside the packed resource and scope, at most. */
#define OTLP_REQUEST_FRAME_MAX        32

/* The most that a response's body may be, in bytes. */
#define OTLP_RESPONSE_MAX             (64 * 1024)

/* The longest message kept of a partial success, in bytes. */
#define OTLP_RESPONSE_MESSAGE_MAX     256

#define OTLP_ERR_MEMORY              -41  /* malloc() failed while packing */
#define OTLP_ERR_RESPONSE            -42  /* not the expected message */
/* also OTLP_ERR_ROOM of span.h */


typedef struct {
    traceparent_view_t  key;               /* both are strings that contain */
    traceparent_view_t  value;             /* no NUL, made UTF-8 if not */
} otlp_attribute_t;


/*
 * Packs a Resource with |n| attributes, or an InstrumentationScope, whose
 * strings are UTF-8, into |dest|. |*dest_len| is the room before, and the
 * length after the call. Slow; for configuration time.
 * Returns 0, OTLP_ERR_ROOM or OTLP_ERR_MEMORY.
 */
int otlp_resource_pack(uint8_t *dest, size_t *dest_len,
    const otlp_attribute_t *attributes, size_t n);
int otlp_scope_pack(uint8_t *dest, size_t *dest_len, const char *name,
    const char *version);


/*
 * Writes what goes in front of |spans_len| bytes of spans, so that both
 * together are one ExportTraceServiceRequest with one ResourceSpans and one
 * ScopeSpans; all of it is less than 4 GiB. |resource| and |scope| may be
 * empty. |dest| has room for OTLP_REQUEST_FRAME_MAX + resource->len +
 * scope->len bytes. Returns the bytes written.
 */
size_t otlp_request_frame(uint8_t *dest, const traceparent_view_t *resource,
    const traceparent_view_t *scope, size_t spans_len);


/* What a receiver's status code asks for. */
#define OTLP_EXPORTED                 0    /* 2xx: done, see the body */
#define OTLP_RETRY                    1    /* 429, 502, 503, 504: send again */
#define OTLP_REJECTED                 2    /* anything else: drop */

int otlp_response_verdict(unsigned status);


typedef struct {
    uint64_t            rejected_spans;    /* 0 and no message: full success */
    size_t              message_len;
    uint8_t             message[OTLP_RESPONSE_MESSAGE_MAX];
                                           /* for a log: printable ASCII only,
                                              other bytes became '?' */
} otlp_response_t;


/*
 * Decodes the body of a 2xx answer, an ExportTraceServiceResponse. An empty
 * body, and an empty partial_success, are full success. A negative number of
 * rejected spans counts as 0.
 * Returns 0, OTLP_ERR_MEMORY, or OTLP_ERR_RESPONSE if it is no such message or
 * longer than OTLP_RESPONSE_MAX; |dest| is written only with 0.
 */
int otlp_response_decode(otlp_response_t *dest, const uint8_t *src,
    size_t len);


#ifdef __cplusplus
}
#endif

#endif
