
/*
 * The queues' memory: one shared mapping for each exporter, made by the
 * master, with one part for each worker.  So it outlives a worker, and the
 * one that takes the place of a dead one goes on with its spans.
 */


#include "ngx_http_trace_exporter.h"


/* in front of a worker's ring */

#define NGX_HTTP_TRACE_COUNTERS_SIZE  ngx_align(                              \
                               sizeof(ngx_http_trace_counters_t), 64)


static void ngx_http_trace_queue_unmap(void *data);


ngx_int_t
ngx_http_trace_queue_map(ngx_cycle_t *cycle,
    ngx_http_trace_exporter_conf_t *ecf)
{
    ngx_core_conf_t     *ccf;
    ngx_pool_cleanup_t  *cln;

    ccf = (ngx_core_conf_t *) ngx_get_conf(cycle->conf_ctx, ngx_core_module);

    cln = ngx_pool_cleanup_add(cycle->pool, 0);
    if (cln == NULL) {
        return NGX_ERROR;
    }

    ecf->workers = ngx_max(ccf->worker_processes, 1);
    ecf->memory = mmap(NULL, ecf->workers * ecf->queue, PROT_READ|PROT_WRITE,
                       MAP_SHARED|MAP_ANONYMOUS, -1, 0);

    if (ecf->memory == MAP_FAILED) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, ngx_errno,
                      "mmap() of %ui queues of %uz bytes for spans failed, "
                      "write a smaller \"queue\"", ecf->workers, ecf->queue);
        ecf->memory = NULL;
        return NGX_ERROR;
    }

    cln->handler = ngx_http_trace_queue_unmap;
    cln->data = ecf;

    return NGX_OK;
}


static void
ngx_http_trace_queue_unmap(void *data)
{
    ngx_http_trace_exporter_conf_t  *ecf = data;

    if (munmap(ecf->memory, ecf->workers * ecf->queue) == -1) {
        ngx_log_error(NGX_LOG_ALERT, ngx_cycle->log, ngx_errno,
                      "munmap() of the queues for spans failed");
    }
}


/* this worker's queue, with what a dead predecessor has left in it */

ngx_int_t
ngx_http_trace_queue_open(ngx_http_trace_exporter_conf_t *ecf,
    otlp_queue_t *queue, ngx_http_trace_counters_t **counters, ngx_log_t *log)
{
    size_t   size;
    u_char  *p;

    if (ngx_worker >= ecf->workers) {
        return NGX_ERROR;
    }

    p = ecf->memory + ngx_worker * ecf->queue;

    *counters = (ngx_http_trace_counters_t *) p;

    p += NGX_HTTP_TRACE_COUNTERS_SIZE;
    size = ecf->queue - NGX_HTTP_TRACE_COUNTERS_SIZE;

    if (otlp_queue_open(queue, p, size) == 0) {
        return NGX_OK;
    }

    if (otlp_queue_create(queue, p, size) == 0) {
        return NGX_OK;
    }

    ngx_log_error(NGX_LOG_ALERT, log, 0,
                  "a queue of %uz bytes for spans cannot be made", size);

    return NGX_ERROR;
}
