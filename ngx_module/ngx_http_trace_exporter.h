
/*
 * From an encoded span to the receiver: configuration of an exporter, the
 * queues in shared memory, and the export itself.  Knows nothing of requests.
 */


#ifndef _NGX_HTTP_TRACE_EXPORTER_H_INCLUDED_
#define _NGX_HTTP_TRACE_EXPORTER_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>

#include <traceparent/otlp/queue.h>
#include <traceparent/otlp/request.h>


#define NGX_HTTP_TRACE_INTERNAL       0
#define NGX_HTTP_TRACE_USER           1
#define NGX_HTTP_TRACE_PIPELINES      2

#define NGX_HTTP_TRACE_VERSION        "0.1.0"
#define NGX_HTTP_TRACE_SCOPE          "ngx_http_trace_module"


/* why a span was dropped */

typedef enum {
    NGX_HTTP_TRACE_QUEUE_FULL = 0,
    NGX_HTTP_TRACE_NO_ROUTING,
    NGX_HTTP_TRACE_REJECTED,
    NGX_HTTP_TRACE_FAILED,
    NGX_HTTP_TRACE_DROPS
} ngx_http_trace_drop_e;


typedef struct {
    ngx_str_t                    file;        /* of the configuration */
    ngx_uint_t                   line;        /* 0: not configured */

    ngx_url_t                    url;         /* host, port, addresses, path */
    ngx_array_t                  headers;     /* of ngx_keyval_t */
    ngx_str_t                    routing_header;
    size_t                       queue;       /* bytes, for each worker */
    ngx_int_t                    batch_size;  /* spans */
    ngx_msec_t                   interval;
    ngx_int_t                    connections;
    ngx_msec_t                   timeout;

    /* made of the above, when the configuration is complete */
    ngx_str_t                    request_head;
    ngx_str_t                    resource;    /* packed */
    ngx_str_t                    scope;       /* packed */

    u_char                      *memory;      /* of all workers' queues */
    ngx_uint_t                   workers;
} ngx_http_trace_exporter_conf_t;


/* what is counted in each worker's part of the shared memory */

typedef struct {
    uint64_t                     recorded;
    uint64_t                     exported;
    uint64_t                     dropped[NGX_HTTP_TRACE_DROPS];
} ngx_http_trace_counters_t;


/* ngx_http_trace_conf_exporter.c */

char *ngx_http_trace_exporter_block(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
ngx_int_t ngx_http_trace_exporter_init_conf(ngx_conf_t *cf,
    ngx_http_trace_exporter_conf_t *ecf, ngx_str_t *service_name,
    ngx_array_t *resource);


/* ngx_http_trace_queue.c */

ngx_int_t ngx_http_trace_queue_map(ngx_cycle_t *cycle,
    ngx_http_trace_exporter_conf_t *ecf);
ngx_int_t ngx_http_trace_queue_open(ngx_http_trace_exporter_conf_t *ecf,
    otlp_queue_t *queue, ngx_http_trace_counters_t **counters,
    ngx_log_t *log);


/* ngx_http_trace_exporter.c */

ngx_int_t ngx_http_trace_exporter_start(ngx_cycle_t *cycle,
    ngx_http_trace_exporter_conf_t *ecf, ngx_uint_t pipeline);
void ngx_http_trace_exporter_stop(ngx_uint_t pipeline);
u_char *ngx_http_trace_exporter_begin(ngx_uint_t pipeline, ngx_str_t *routing,
    size_t min, size_t *room);
void ngx_http_trace_exporter_commit(ngx_uint_t pipeline, const uint8_t *span,
    size_t len);
void ngx_http_trace_exporter_recorded(ngx_uint_t pipeline);
void ngx_http_trace_exporter_drop(ngx_uint_t pipeline,
    ngx_http_trace_drop_e reason, ngx_uint_t n);


extern ngx_str_t  ngx_http_trace_pipeline_names[];


#endif /* _NGX_HTTP_TRACE_EXPORTER_H_INCLUDED_ */
