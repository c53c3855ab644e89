
/*
 * The spans that are open now, of all workers, as trace_status shows them.
 */


#include "ngx_http_trace_status.h"


/* that are shown; in the reading there are up to twice as many */
#define NGX_HTTP_TRACE_OPEN_SPANS_MAX  1000

/* a character as \u0000 */
#define NGX_HTTP_TRACE_ESCAPED        6

#define NGX_HTTP_TRACE_OPEN_TEXT                                              \
    (NGX_HTTP_TRACE_ESCAPED * NGX_HTTP_TRACE_ACTIVE_NAME)


static void ngx_http_trace_open_spans_add(void *data, ngx_pid_t worker,
    ngx_uint_t place, const ngx_http_trace_active_t *active);
static void ngx_http_trace_open_spans_cut(ngx_http_trace_open_spans_t *open);
static int ngx_libc_cdecl ngx_http_trace_open_spans_cmp(const void *one,
    const void *two);
static void ngx_http_trace_open_spans_ids(ngx_http_trace_output_t *output,
    ngx_http_trace_active_t *span);
static ngx_uint_t ngx_http_trace_open_spans_workers(
    ngx_http_trace_output_t *output, ngx_http_trace_open_spans_t *open);
static u_char *ngx_http_trace_open_spans_text(u_char *dst, u_char *src,
    size_t len);
static uint64_t ngx_http_trace_open_spans_age(ngx_http_trace_active_t *span);


static ngx_str_t  ngx_http_trace_phase_names[] = {
    ngx_string("access"),
    ngx_string("content"),
    ngx_string("upstream"),
    ngx_string("response")
};


/* NGX_ERROR without memory */

ngx_int_t
ngx_http_trace_open_spans_read(ngx_pool_t *pool,
    ngx_http_trace_store_t *store, ngx_http_trace_open_spans_t *open)
{
    open->n = 0;
    open->failed = 0;

    if (ngx_array_init(&open->spans, pool, 16,
                       sizeof(ngx_http_trace_open_span_t))
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_http_trace_store_open_spans(store, ngx_http_trace_open_spans_add,
                                    open);
    ngx_http_trace_open_spans_cut(open);

    return open->failed ? NGX_ERROR : NGX_OK;
}


static void
ngx_http_trace_open_spans_add(void *data, ngx_pid_t worker, ngx_uint_t place,
    const ngx_http_trace_active_t *active)
{
    ngx_http_trace_open_spans_t *open = data;

    ngx_http_trace_active_t      span;
    ngx_http_trace_open_span_t  *added;

    if (!ngx_http_trace_active_read(&span, active)) {
        return;
    }

    open->n++;

    if (!open->listed) {
        return;
    }

    if (open->spans.nelts == 2 * NGX_HTTP_TRACE_OPEN_SPANS_MAX) {
        ngx_http_trace_open_spans_cut(open);
    }

    added = ngx_array_push(&open->spans);
    if (added == NULL) {
        open->failed = 1;
        return;
    }

    added->span = span;
    added->worker = worker;
    added->place = place;
}


static void
ngx_http_trace_open_spans_cut(ngx_http_trace_open_spans_t *open)
{
    ngx_qsort(open->spans.elts, open->spans.nelts,
              sizeof(ngx_http_trace_open_span_t),
              ngx_http_trace_open_spans_cmp);

    open->spans.nelts = ngx_min(open->spans.nelts,
                                NGX_HTTP_TRACE_OPEN_SPANS_MAX);
}


static int ngx_libc_cdecl
ngx_http_trace_open_spans_cmp(const void *one, const void *two)
{
    uint64_t  first, second;

    first = ((ngx_http_trace_open_span_t *) one)->span.start;
    second = ((ngx_http_trace_open_span_t *) two)->span.start;

    return (first > second) - (first < second);
}


void
ngx_http_trace_open_spans_json(ngx_http_trace_output_t *output,
    ngx_http_trace_open_spans_t *open)
{
    u_char                       text[NGX_HTTP_TRACE_OPEN_TEXT], *last;
    ngx_tm_t                     tm;
    uint64_t                     age, msec;
    ngx_uint_t                   i;
    ngx_http_trace_active_t     *span;
    ngx_http_trace_open_span_t  *spans;

    spans = open->spans.elts;

    ngx_http_trace_status_write(output, "[");

    for (i = 0; i < open->spans.nelts; i++) {
        span = &spans[i].span;

        last = ngx_http_trace_open_spans_text(text, span->name,
                                              span->name_len);

        msec = span->start / 1000000;
        age = ngx_http_trace_open_spans_age(span) / 1000000;

        ngx_gmtime(msec / 1000, &tm);

        ngx_http_trace_status_write(output, "%s      { ", i ? ",\n" : "\n");
        ngx_http_trace_open_spans_ids(output, span);
        ngx_http_trace_status_write(output,
                        ", \"name\": \"%*s\", "
                        "\"start\": \"%4d-%02d-%02dT%02d:%02d:%02d.%03uLZ\", "
                        "\"age\": %uL.%03uL, \"worker\": %P }",
                        (size_t) (last - text), text,
                        tm.ngx_tm_year, tm.ngx_tm_mon, tm.ngx_tm_mday,
                        tm.ngx_tm_hour, tm.ngx_tm_min, tm.ngx_tm_sec,
                        msec % 1000, age / 1000, age % 1000,
                        spans[i].worker);
    }

    ngx_http_trace_status_write(output, open->spans.nelts ? "\n    ]" : "]");
}


/*
 * The "Trace Event Format" of Chrome: a row for each place of a worker, whose
 * spans do not overlap.
 */

void
ngx_http_trace_open_spans_chrome(ngx_http_trace_output_t *output,
    ngx_http_trace_open_spans_t *open)
{
    u_char                       text[NGX_HTTP_TRACE_OPEN_TEXT], *last;
    uint64_t                     age;
    ngx_uint_t                   i, n;
    ngx_http_trace_active_t     *span;
    ngx_http_trace_open_span_t  *spans;

    spans = open->spans.elts;

    ngx_http_trace_status_write(output, "{ \"displayTimeUnit\": \"ms\", "
                                        "\"traceEvents\": [");

    n = ngx_http_trace_open_spans_workers(output, open);

    for (i = 0; i < open->spans.nelts; i++) {
        span = &spans[i].span;

        last = ngx_http_trace_open_spans_text(text, span->name,
                                              span->name_len);

        age = ngx_http_trace_open_spans_age(span);

        ngx_http_trace_status_write(output,
                       "%s  { \"name\": \"%*s\", \"cat\": \"internal\", "
                       "\"ph\": \"X\", \"ts\": %uL.%03uL, "
                       "\"dur\": %uL.%03uL, \"pid\": %P, \"tid\": %ui, "
                       "\"args\": { ", n++ ? ",\n" : "\n",
                       (size_t) (last - text), text,
                       span->start / 1000, span->start % 1000,
                       age / 1000, age % 1000,
                       spans[i].worker, spans[i].place);
        ngx_http_trace_open_spans_ids(output, span);
        ngx_http_trace_status_write(output, " } }");
    }

    ngx_http_trace_status_write(output, "\n] }\n");
}


/* the rows of a worker have its name above them; returns how many these are */

static ngx_uint_t
ngx_http_trace_open_spans_workers(ngx_http_trace_output_t *output,
    ngx_http_trace_open_spans_t *open)
{
    ngx_uint_t                   i, j, n;
    ngx_http_trace_open_span_t  *spans;

    spans = open->spans.elts;
    n = 0;

    for (i = 0; i < open->spans.nelts; i++) {

        for (j = 0; spans[j].worker != spans[i].worker; j++) { /* void */ }

        if (j == i) {
            ngx_http_trace_status_write(output,
                          "%s  { \"name\": \"process_name\", \"ph\": \"M\", "
                          "\"pid\": %P, \"tid\": 0, "
                          "\"args\": { \"name\": \"nginx worker\" } }",
                          n++ ? ",\n" : "\n", spans[i].worker);
        }
    }

    return n;
}


/* what both formats tell, as members of an object */

static void
ngx_http_trace_open_spans_ids(ngx_http_trace_output_t *output,
    ngx_http_trace_active_t *span)
{
    u_char      trace_id[2 * TRACEPARENT_TRACE_ID_SIZE];
    u_char      span_id[2 * TRACEPARENT_SPAN_ID_SIZE];
    u_char      parent_id[2 * TRACEPARENT_SPAN_ID_SIZE];
    ngx_uint_t  phase;

    traceparent_hex(trace_id, span->trace_id, TRACEPARENT_TRACE_ID_SIZE);
    traceparent_hex(span_id, span->span_id, TRACEPARENT_SPAN_ID_SIZE);

    ngx_http_trace_status_write(output,
                                "\"trace_id\": \"%*s\", "
                                "\"span_id\": \"%*s\", ",
                                sizeof(trace_id), trace_id,
                                sizeof(span_id), span_id);

    if (span->parent) {
        traceparent_hex(parent_id, span->parent_id, TRACEPARENT_SPAN_ID_SIZE);

        ngx_http_trace_status_write(output, "\"parent_span_id\": \"%*s\", ",
                                    sizeof(parent_id), parent_id);

    } else {
        ngx_http_trace_status_write(output, "\"parent_span_id\": null, ");
    }

    phase = ngx_min(span->phase, NGX_HTTP_TRACE_PHASES - 1);

    ngx_http_trace_status_write(output,
                                "\"phase\": \"%V\", \"sampled\": %s",
                                &ngx_http_trace_phase_names[phase],
                                (span->flags & TRACEPARENT_FLAG_SAMPLED)
                                ? "true" : "false");
}


/*
 * Of a JSON string, in ASCII: so it is valid, whatever ngx_utf8_decode() takes
 * for UTF-8.
 */

static u_char *
ngx_http_trace_open_spans_text(u_char *dst, u_char *src, size_t len)
{
    u_char    *start, *last;
    uint32_t   code;

    last = src + len;

    while (src < last) {
        start = src;

        if (*src < 0x80) {
            code = *src++;

        } else {
            code = ngx_utf8_decode(&src, last - src);
        }

        if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) {
            code = 0xfffd;
            src = start + 1;
        }

        if (code >= 0x10000) {
            code -= 0x10000;
            dst = ngx_sprintf(dst, "\\u%04xD\\u%04xD", 0xd800 + (code >> 10),
                              0xdc00 + (code & 0x3ff));

        } else if (code < 0x20 || code == '"' || code == '\\' || code >= 0x7f) {
            dst = ngx_sprintf(dst, "\\u%04xD", code);

        } else {
            *dst++ = (u_char) code;
        }
    }

    return dst;
}


/* ns; another worker's clock may be a little ahead of ours */

static uint64_t
ngx_http_trace_open_spans_age(ngx_http_trace_active_t *span)
{
    uint64_t  now;

    now = ngx_http_trace_msec() * 1000000;

    return now > span->start ? now - span->start : 0;
}
