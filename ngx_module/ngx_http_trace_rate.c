
/*
 * rate= of trace: limits that all workers share, also those of before and
 * after a reload.
 */


#include "ngx_http_trace_module.h"


#define NGX_HTTP_TRACE_BUCKETS_MIN    256


static ngx_int_t ngx_http_trace_rate_init_zone(ngx_shm_zone_t *zone,
    void *data);
static ngx_http_trace_bucket_t *ngx_http_trace_rate_bucket(
    ngx_http_trace_main_conf_t *tmcf, ngx_uint_t taken, int64_t interval);


ngx_int_t
ngx_http_trace_rate_init_conf(ngx_conf_t *cf, ngx_http_trace_main_conf_t *tmcf)
{
    ngx_uint_t       n;
    ngx_shm_zone_t  *zone;

    static ngx_str_t  name = ngx_string("ngx_http_trace_rate");

    if (tmcf->rates.nelts == 0) {
        return NGX_OK;
    }

    /* few sizes: a zone of the same size is kept through a reload */

    for (n = NGX_HTTP_TRACE_BUCKETS_MIN; n < 2 * tmcf->rates.nelts; n *= 2) {
        /* void */
    }

    tmcf->buckets_n = n;

    zone = ngx_shared_memory_add(cf, &name,
                        8 * ngx_pagesize
                        + 2 * n * sizeof(ngx_http_trace_bucket_t),
                        &ngx_http_trace_module);
    if (zone == NULL) {
        return NGX_ERROR;
    }

    zone->init = ngx_http_trace_rate_init_zone;
    zone->data = tmcf;

    return NGX_OK;
}


static ngx_int_t
ngx_http_trace_rate_init_zone(ngx_shm_zone_t *zone, void *data)
{
    ngx_http_trace_main_conf_t *old = data;

    ngx_uint_t                    i;
    ngx_slab_pool_t              *shpool;
    ngx_http_trace_main_conf_t   *tmcf;
    ngx_http_trace_decision_t   **decision;

    tmcf = zone->data;
    shpool = (ngx_slab_pool_t *) zone->shm.addr;

    if (old) {
        tmcf->buckets = old->buckets;

    } else if (zone->shm.exists) {
        tmcf->buckets = shpool->data;

    } else {
        tmcf->buckets = ngx_slab_calloc(shpool, tmcf->buckets_n
                                          * sizeof(ngx_http_trace_bucket_t));
        if (tmcf->buckets == NULL) {
            return NGX_ERROR;
        }

        shpool->data = tmcf->buckets;
    }

    decision = tmcf->rates.elts;

    for (i = 0; i < tmcf->rates.nelts; i++) {
        decision[i]->bucket = ngx_http_trace_rate_bucket(tmcf, i,
                                                 decision[i]->limit.interval);
    }

    return NGX_OK;
}


/*
 * One of the same rate, which the directive had before a reload or might have
 * had; else one that was never used, or that nobody uses any more.  |taken|
 * directives have theirs.
 */

static ngx_http_trace_bucket_t *
ngx_http_trace_rate_bucket(ngx_http_trace_main_conf_t *tmcf, ngx_uint_t taken,
    int64_t interval)
{
    ngx_uint_t                    i, n;
    ngx_http_trace_bucket_t      *bucket, *unused, *left;
    ngx_http_trace_decision_t   **decision;

    decision = tmcf->rates.elts;

    unused = NULL;
    left = NULL;

    for (i = 0; i < tmcf->buckets_n; i++) {
        bucket = &tmcf->buckets[i];

        for (n = 0; n < taken && decision[n]->bucket != bucket; n++) {
            /* void */
        }

        if (n < taken) {
            continue;
        }

        if (bucket->interval == interval) {
            return bucket;
        }

        if (bucket->interval == 0 && unused == NULL) {
            unused = bucket;
        }

        left = bucket;
    }

    bucket = unused ? unused : left;

    bucket->interval = interval;
    bucket->full_at = 0;

    return bucket;
}


ngx_uint_t
ngx_http_trace_rate_take(ngx_http_trace_ctx_t *ctx,
    ngx_http_trace_decision_t *decision)
{
    return traceparent_rate_take(&decision->limit, &decision->bucket->full_at,
                                 ngx_http_trace_now(ctx) - ctx->clock);
}
