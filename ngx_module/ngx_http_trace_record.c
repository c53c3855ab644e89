
/*
 * The record of a span's event, as it is in the queue.  Knows nothing of
 * requests: a dead worker's spans are ended with it, too.
 */


#include "ngx_http_trace_record.h"


#define ngx_http_trace_record_string(record, key, value, len)                 \
    otlp_span_string(record, key, sizeof(key) - 1, value, len)


static traceparent_view_t  ngx_http_trace_event_names[] = {

#define ngx_http_trace_event_name(name)                                       \
    { (u_char *) name, sizeof(name) - 1 }

    ngx_http_trace_event_name("span.open"),
    ngx_http_trace_event_name("span.update_name"),
    ngx_http_trace_event_name("span.attributes"),
    ngx_http_trace_event_name("span.return"),
    ngx_http_trace_event_name("span.close"),
    ngx_http_trace_event_name("span.dropped")

#undef ngx_http_trace_event_name
};


/* NGX_ERROR if there is not even room for what all have */

ngx_int_t
ngx_http_trace_record_begin(otlp_span_t *record, u_char *buf, size_t room,
    ngx_http_trace_event_e event, ngx_uint_t pipeline,
    ngx_http_trace_active_t *request, const u_char *span_id, uint64_t time)
{
    otlp_log_head_t   head;
    ngx_str_t        *name;

    head.trace_id = request->trace_id;
    head.span_id = span_id;
    head.event_name = ngx_http_trace_event_names[event];
    head.time = time;
    head.flags = request->flags & TRACEPARENT_FLAGS_KNOWN;
    head.severity = OTLP_SEVERITY_INFO;

    if (otlp_log_begin(record, buf, room, &head) != 0) {
        return NGX_ERROR;
    }

    otlp_span_int(record, "span.sequence", sizeof("span.sequence") - 1,
                  request->sequence);

    name = &ngx_http_trace_pipeline_names[pipeline];

    ngx_http_trace_record_string(record, "span.pipeline", name->data,
                                 name->len);
    ngx_http_trace_record_id(record, "span.request_id",
                             sizeof("span.request_id") - 1, request->span_id);

    return NGX_OK;
}


void
ngx_http_trace_record_id(otlp_span_t *record, const char *key, size_t len,
    const u_char *span_id)
{
    u_char  text[2 * TRACEPARENT_SPAN_ID_SIZE];

    traceparent_hex(text, span_id, TRACEPARENT_SPAN_ID_SIZE);
    otlp_span_string(record, key, len, text, sizeof(text));
}


/* of a span.close; |error| may be empty */

void
ngx_http_trace_record_status(otlp_span_t *record, int status, ngx_str_t *error)
{
    static ngx_str_t  names[] = {
        ngx_string("UNSET"),
        ngx_string("OK"),
        ngx_string("ERROR")
    };

    ngx_http_trace_record_string(record, "span.status", names[status].data,
                                 names[status].len);

    if (error->len) {
        ngx_http_trace_record_string(record, "error.type", error->data,
                                     error->len);
    }
}


/* of a span.dropped */

void
ngx_http_trace_record_lost(otlp_span_t *record, uint32_t lost)
{
    otlp_span_int(record, "span.dropped_count",
                  sizeof("span.dropped_count") - 1, lost);
}
