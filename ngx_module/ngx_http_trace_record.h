
/*
 * The record of a span's event.
 */


#ifndef _NGX_HTTP_TRACE_RECORD_H_INCLUDED_
#define _NGX_HTTP_TRACE_RECORD_H_INCLUDED_


#include "ngx_http_trace_exporter.h"

#include <traceparent/traceparent.h>
#include <traceparent/otlp/log.h>


/*
 * What a record takes at most, without attributes of others' and its routing:
 * any, and one of those that come last.
 */
#define NGX_HTTP_TRACE_RECORD_SIZE     512
#define NGX_HTTP_TRACE_RECORD_LAST     320


typedef enum {
    NGX_HTTP_TRACE_EVENT_OPEN = 0,
    NGX_HTTP_TRACE_EVENT_UPDATE_NAME,
    NGX_HTTP_TRACE_EVENT_ATTRIBUTES,
    NGX_HTTP_TRACE_EVENT_RETURN,
    NGX_HTTP_TRACE_EVENT_CLOSE,
    NGX_HTTP_TRACE_EVENT_DROPPED
} ngx_http_trace_event_e;


ngx_int_t ngx_http_trace_record_begin(otlp_span_t *record, u_char *buf,
    size_t room, ngx_http_trace_event_e event, ngx_uint_t pipeline,
    ngx_http_trace_active_t *request, const u_char *span_id, uint64_t time);
void ngx_http_trace_record_id(otlp_span_t *record, const char *key, size_t len,
    const u_char *span_id);
void ngx_http_trace_record_status(otlp_span_t *record, int status,
    ngx_str_t *error);
void ngx_http_trace_record_lost(otlp_span_t *record, uint32_t lost);


#endif /* _NGX_HTTP_TRACE_RECORD_H_INCLUDED_ */
