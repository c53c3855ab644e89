/*
 * Writes one log record as OTLP bytes: the field "log_records" of a ScopeLogs
 * message, tag and length included, so that any number of them in a row, behind
 * the envelope of request.h, is an ExportLogsServiceRequest
 * (opentelemetry/proto/logs/v1).
 *
 * A record is an event of a span: it has a name and attributes, and no body.
 * What span.h says of its writer and of its strings holds here too.
 *
 * Order of calls: otlp_log_begin(), any number of attributes, otlp_log_end().
 */

#ifndef TRACEPARENT_OTLP_LOG_H
#define TRACEPARENT_OTLP_LOG_H


#include <traceparent/otlp/span.h>

#ifdef __cplusplus
extern "C" {
#endif


/* SeverityNumber */
#define OTLP_SEVERITY_INFO            9


/* What every record has. The view may be empty; nothing is kept after begin. */
typedef struct {
    const uint8_t      *trace_id;          /* 16 bytes */
    const uint8_t      *span_id;           /* 8 bytes */
    traceparent_view_t  event_name;
    uint64_t            time;              /* ns since 1970; also when it was
                                              observed */
    uint32_t            flags;             /* bits 0 to 7: W3C trace-flags */
    uint8_t             severity;          /* SeverityNumber, 1 to 24 */
} otlp_log_head_t;


/*
 * Begins a record in the |size| bytes at |buf|; with its frame it is never
 * longer than OTLP_SPAN_MAX. Returns 0, or OTLP_ERR_ROOM if not even a record
 * without attributes fits: then nothing else may be called.
 */
int otlp_log_begin(otlp_span_t *record, uint8_t *buf, size_t size,
    const otlp_log_head_t *head);

/*
 * Attributes are written with otlp_span_string(), otlp_span_int(),
 * otlp_span_double(), otlp_span_bool(), otlp_span_strings(),
 * otlp_span_key_string(), otlp_span_key_int() and
 * otlp_span_append_attributes(). Nothing else of span.h is for a log record:
 * events and links it has none, and what was encoded beforehand is of a span.
 */

/*
 * Ends the record. |*frame| becomes the whole field, somewhere in the buffer;
 * bytes of the buffer in front of it and behind it are undefined.
 * This cannot fail.
 */
void otlp_log_end(otlp_span_t *record, traceparent_view_t *frame);


#ifdef __cplusplus
}
#endif

#endif
