
/*
 * From an encoded span or event to the receiver: configuration of an exporter,
 * the queues in shared memory, and the export itself.  Knows nothing of
 * requests.
 */


#ifndef _NGX_HTTP_TRACE_EXPORTER_H_INCLUDED_
#define _NGX_HTTP_TRACE_EXPORTER_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>

#include <traceparent/otlp/queue.h>
#include <traceparent/otlp/request.h>
#include <traceparent/otlp/span.h>


/* what most requests pass by: in line it would cost them room on the stack */
#if (__GNUC__)
#define NGX_HTTP_TRACE_APART          __attribute__((noinline))
#else
#define NGX_HTTP_TRACE_APART
#endif

/* what nobody else's code may name: it is reached without a look at a table */
#if (__GNUC__)
#define NGX_HTTP_TRACE_HIDDEN         __attribute__((visibility("hidden")))
#else
#define NGX_HTTP_TRACE_HIDDEN
#endif

#define NGX_HTTP_TRACE_INTERNAL       0
#define NGX_HTTP_TRACE_USER           1
#define NGX_HTTP_TRACE_PIPELINES      2

/* a channel has an exporter: the spans of each pipeline, then their events */
#define NGX_HTTP_TRACE_EVENTS(pipeline)                                       \
    (NGX_HTTP_TRACE_PIPELINES + (pipeline))
#define NGX_HTTP_TRACE_CHANNELS       (2 * NGX_HTTP_TRACE_PIPELINES)

#define NGX_HTTP_TRACE_VERSION        "0.1.0"
#define NGX_HTTP_TRACE_SCOPE          "ngx_http_trace_module"


/* why a span was dropped */

typedef enum {
    NGX_HTTP_TRACE_QUEUE_FULL = 0,
    NGX_HTTP_TRACE_NO_ROUTING,
    NGX_HTTP_TRACE_REJECTED,           /* by the receiver, for good */
    NGX_HTTP_TRACE_RETRY_EXPIRED,
    NGX_HTTP_TRACE_TOO_LARGE,          /* the receiver answered 413 */
    NGX_HTTP_TRACE_ENCODE,             /* longer than any span may be */
    NGX_HTTP_TRACE_DAMAGED,            /* in a queue that was */
    NGX_HTTP_TRACE_REQUEST_LIMIT,      /* one request has made too many */
    NGX_HTTP_TRACE_DROPS
} ngx_http_trace_drop_e;


/* why a request failed */

typedef enum {
    NGX_HTTP_TRACE_FAILED_CONNECT = 0,
    NGX_HTTP_TRACE_FAILED_CLOSED,      /* or reset, before an answer */
    NGX_HTTP_TRACE_FAILED_TIMEOUT,
    NGX_HTTP_TRACE_FAILED_INVALID,     /* the answer is no HTTP */
    NGX_HTTP_TRACE_FAILED_RETRYABLE,   /* 429, 502, 503, 504 */
    NGX_HTTP_TRACE_FAILED_REJECTED,    /* any other status but 2xx */
    NGX_HTTP_TRACE_FAILURES
} ngx_http_trace_failure_e;


/*
 * What is counted, in shared memory, for each queue; only its owner writes.
 * recorded = exported + all of dropped + queued.
 */

typedef struct {
    uint64_t                     recorded;
    uint64_t                     exported;
    uint64_t                     dropped[NGX_HTTP_TRACE_DROPS];
    uint64_t                     requests;    /* sent, retries included */
    uint64_t                     failed[NGX_HTTP_TRACE_FAILURES];
    uint64_t                     retries;
    uint64_t                     bytes;       /* of bodies, as they were sent */

    uint64_t                     queued;      /* spans in the queue */
    uint64_t                     queue_used;  /* bytes */
    uint64_t                     oldest;      /* ms since 1970; 0: none */
} ngx_http_trace_counters_t;


/* how many there can be at once, of a worker and pipeline */
#define NGX_HTTP_TRACE_ACTIVE_MAX     8192

/* bytes; longer names are cut, longer routings are none */
#define NGX_HTTP_TRACE_ACTIVE_NAME    64
#define NGX_HTTP_TRACE_ACTIVE_ROUTING 128


/* the stages of a request, in their order */

typedef enum {
    NGX_HTTP_TRACE_ACCESS = 0,
    NGX_HTTP_TRACE_CONTENT,
    NGX_HTTP_TRACE_UPSTREAM,
    NGX_HTTP_TRACE_RESPONSE,
    NGX_HTTP_TRACE_PHASES
} ngx_http_trace_phase_e;


/* a span that is open, in shared memory, see ngx_http_trace_active.c */

typedef struct {
    uint32_t                     times;       /* opened and closed */
    uint32_t                     next;        /* place that is free */
    uint64_t                     ending;      /* position in the queue + 1 */
    uint64_t                     start;       /* ns since 1970 */
    u_char                       trace_id[TRACEPARENT_TRACE_ID_SIZE];
    u_char                       span_id[TRACEPARENT_SPAN_ID_SIZE];
    u_char                       parent_id[TRACEPARENT_SPAN_ID_SIZE];
    uint32_t                     flags;       /* as in otlp_span_head_t */
    uint32_t                     request;     /* place of the request's */
    uint32_t                     sequence;    /* of its next event; of
                                                 others, where they opened */
    uint32_t                     lost;        /* events before that */
    uint8_t                      parent;      /* there is one */
    uint8_t                      phase;
    uint8_t                      name_len;
    uint8_t                      routing_len;
    u_char                       name[NGX_HTTP_TRACE_ACTIVE_NAME];
    u_char                       routing[NGX_HTTP_TRACE_ACTIVE_ROUTING];
} ngx_http_trace_active_t;


typedef void (*ngx_http_trace_active_pt)(void *data, ngx_pid_t worker,
    ngx_uint_t place, const ngx_http_trace_active_t *active);


/* the queues of one exporter, see ngx_http_trace_queue.c */

typedef struct ngx_http_trace_store_s  ngx_http_trace_store_t;


/* a queue that this process owns */

typedef struct {
    otlp_queue_t                 queue;
    ngx_http_trace_counters_t   *counters;
    u_char                      *memory;
    ngx_uint_t                   n;           /* in the store */
    ngx_http_trace_active_t     *table;       /* of open spans */
    uint64_t                    *places;      /* of it that were ever used */
    uint32_t                     free;        /* one of them, or none */
} ngx_http_trace_ring_t;


typedef struct {
    ngx_uint_t                   line;        /* 0: not configured */

    ngx_url_t                    url;         /* host, port, addresses, path */
    ngx_array_t                  headers;     /* of ngx_keyval_t */
    ngx_str_t                    routing_header;
    size_t                       queue;       /* bytes, for each worker */
    ngx_str_t                    queue_file;  /* empty: memory alone */
    ngx_int_t                    batch_size;  /* spans */
    ngx_msec_t                   interval;
    ngx_int_t                    connections;
    ngx_msec_t                   timeout;
    ngx_msec_t                   retry_time;
    ngx_uint_t                   gzip;
    ngx_str_t                    events_path; /* empty: made of the url's */
    size_t                       events_queue;

    /* made of the above, when the configuration is complete */
    ngx_str_t                    request_head;
    ngx_str_t                    resource;    /* packed */
    ngx_str_t                    scope;       /* packed */
    ngx_uint_t                   ordered;     /* batches, by routing */

    ngx_http_trace_store_t      *store;
    ngx_uint_t                   workers;
} ngx_http_trace_exporter_conf_t;


/* of one channel, summed over the queues */

typedef struct {
    ngx_http_trace_counters_t    counters;
    uint64_t                     queue_size;  /* bytes, of all workers */
    ngx_uint_t                   up;          /* the last request succeeded */
    uint64_t                     since;       /* ms since 1970; 0: no request
                                                 has ended yet */
} ngx_http_trace_summary_t;


/* ngx_http_trace_conf_exporter.c */

char *ngx_http_trace_exporter_block(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
ngx_int_t ngx_http_trace_exporter_init_conf(ngx_conf_t *cf,
    ngx_http_trace_exporter_conf_t *ecf, ngx_str_t *service_name,
    ngx_array_t *resource);
ngx_int_t ngx_http_trace_exporter_init_events(ngx_conf_t *cf,
    ngx_http_trace_exporter_conf_t *ecf, ngx_http_trace_exporter_conf_t *spans,
    ngx_uint_t pipeline);


/* ngx_http_trace_queue.c */

ngx_int_t ngx_http_trace_store_open(ngx_cycle_t *cycle,
    ngx_http_trace_exporter_conf_t *ecf, ngx_uint_t channel);
void ngx_http_trace_store_close(ngx_uint_t channel);
void ngx_http_trace_store_up(ngx_http_trace_store_t *store, ngx_uint_t up);
void ngx_http_trace_store_sum(ngx_http_trace_exporter_conf_t *ecf,
    ngx_http_trace_summary_t *summary);
void ngx_http_trace_store_open_spans(ngx_http_trace_store_t *store,
    ngx_http_trace_active_pt handler, void *data);
ngx_http_trace_ring_t *ngx_http_trace_ring_claim(
    ngx_http_trace_exporter_conf_t *ecf, ngx_log_t *log);
ngx_uint_t ngx_http_trace_ring_others(ngx_http_trace_exporter_conf_t *ecf,
    ngx_http_trace_ring_t *own);
ngx_http_trace_ring_t *ngx_http_trace_ring_adopt(
    ngx_http_trace_exporter_conf_t *ecf, ngx_http_trace_ring_t *own,
    ngx_log_t *log);
void ngx_http_trace_ring_leave(ngx_http_trace_store_t *store,
    ngx_http_trace_ring_t *ring);
void ngx_http_trace_ring_added(ngx_http_trace_ring_t *ring);
void ngx_http_trace_ring_update(ngx_http_trace_ring_t *ring);
uint64_t ngx_http_trace_msec(void);


/* ngx_http_trace_active.c */

void ngx_http_trace_active_init(ngx_http_trace_ring_t *ring,
    ngx_http_trace_active_t *table, uint64_t *places);
ngx_http_trace_active_t *ngx_http_trace_active_open(
    ngx_http_trace_ring_t *ring);
void ngx_http_trace_active_opened(ngx_http_trace_active_t *active);
void ngx_http_trace_active_close(ngx_http_trace_ring_t *ring,
    ngx_http_trace_active_t *active);
void ngx_http_trace_active_ends(ngx_http_trace_ring_t *ring,
    ngx_http_trace_active_t *active);
void ngx_http_trace_active_route(ngx_http_trace_active_t *active,
    ngx_str_t *routing);
ngx_uint_t ngx_http_trace_active_read(ngx_http_trace_active_t *copy,
    const ngx_http_trace_active_t *active);
ngx_uint_t ngx_http_trace_active_adopt(ngx_http_trace_ring_t *ring,
    ngx_uint_t channel, ngx_log_t *log);


/* ngx_http_trace_exporter.c */

ngx_int_t ngx_http_trace_exporter_start(ngx_cycle_t *cycle,
    ngx_http_trace_exporter_conf_t *ecf, ngx_uint_t channel);
void ngx_http_trace_exporter_stop(ngx_uint_t channel);
ngx_int_t ngx_http_trace_check_routing(ngx_str_t *routing);
u_char *ngx_http_trace_exporter_begin(ngx_uint_t channel, ngx_str_t *routing,
    size_t min, size_t *room);
NGX_HTTP_TRACE_APART ngx_uint_t ngx_http_trace_exporter_evict(
    ngx_uint_t channel);
ngx_http_trace_active_t *ngx_http_trace_exporter_open(ngx_uint_t channel);
void ngx_http_trace_exporter_close(ngx_uint_t channel,
    ngx_http_trace_active_t *active);
void ngx_http_trace_exporter_commit(ngx_uint_t channel, const uint8_t *record,
    size_t len, ngx_http_trace_active_t *active);
void ngx_http_trace_exporter_drop(ngx_uint_t channel,
    ngx_http_trace_drop_e reason, ngx_uint_t n);
size_t ngx_http_trace_exporter_room(ngx_uint_t channel);


extern ngx_str_t  ngx_http_trace_pipeline_names[];
extern ngx_str_t  ngx_http_trace_channel_names[];
extern ngx_str_t  ngx_http_trace_drop_names[];
extern ngx_str_t  ngx_http_trace_failure_names[];


#endif /* _NGX_HTTP_TRACE_EXPORTER_H_INCLUDED_ */
