
/*
 * Attempts at upstreams: the types that their files share.
 */


#ifndef _NGX_HTTP_TRACE_UPSTREAM_H_INCLUDED_
#define _NGX_HTTP_TRACE_UPSTREAM_H_INCLUDED_


#include "ngx_http_trace_module.h"


/* a balancer that ours stands before */

typedef struct {
    ngx_http_upstream_srv_conf_t     *upstream;
    ngx_http_upstream_init_peer_pt    init;
    ngx_str_t                         url;           /* without its path */
    ngx_str_t                         url_tls;
    ngx_str_t                         attributes;    /* encoded */
    ngx_uint_t                        attributes_n;
} ngx_http_trace_balancer_t;


/* one try; an empty or negative value is not known */

typedef struct {
    ngx_http_trace_child_t            child;
    ngx_http_trace_upstream_t        *up;
    uint64_t                          connected;     /* ns since 1970, or 0 */
    uint64_t                          first_byte;
    ngx_str_t                        *peer;
    ngx_str_t                         error;         /* but for a status */
    ngx_int_t                         status;
    ngx_uint_t                        resend_count;
    unsigned                          last_byte:1;   /* it was had */
    unsigned                          gone:1;        /* the client was */
    unsigned                          connection:1;  /* there was one */
    unsigned                          reused:1;
} ngx_http_trace_attempt_t;


/* what one location of a request or subrequest sends to its upstream */

struct ngx_http_trace_upstream_s {
    ngx_http_trace_upstream_t        *next;
    ngx_http_request_t               *request;
    ngx_http_trace_ctx_t             *ctx;
    ngx_http_trace_node_t            *node;
    ngx_http_trace_balancer_t        *balancer;  /* NULL: none was asked */
    ngx_uint_t                        pipelines; /* as bits */
    ngx_uint_t                        states;    /* others', before ours */
    ngx_uint_t                        settled;
    ngx_uint_t                        tries;
    ngx_http_upstream_t              *before;    /* of another location */
    ngx_http_trace_attempt_t         *attempt;   /* that goes on */
    ngx_http_trace_span_ids_t         span_id;   /* of the next attempt */
    u_char                            text[NGX_HTTP_TRACE_PIPELINES]
                                          [TRACEPARENT_LEN];
    ngx_str_t                        *cut;       /* why its response was */
    ngx_int_t                         rc;        /* nginx's, at the end */
    ngx_buf_t                        *header;    /* that is sent, or NULL */

    /*
     * the request's, when it was asked for: an error page changes both; then
     * those that were sent
     */

    ngx_str_t                         method_name;
    ngx_str_t                         uri;

    /* of the request that is sent, see ngx_http_trace_upstream_describe() */

    ngx_http_trace_known_t           *method;
    ngx_http_trace_known_t           *protocol_version;
    ngx_str_t                         url;
    ngx_str_t                         method_original;
    ngx_str_t                         server_address;  /* without balancer */
    ngx_str_t                         protocol_name;
    ngx_str_t                         db_system;
    ngx_str_t                         db_operation;
    int64_t                           server_port;
    ngx_uint_t                        described;
    ngx_uint_t                        rare;      /* one behind |url| is set */

    /* what ours stand before */

    ngx_http_upstream_t              *upstream;
    void                             *data;
    ngx_event_get_peer_pt             get;
    ngx_event_free_peer_pt            free;
    ngx_event_notify_peer_pt          notify;
#if (NGX_SSL || NGX_COMPAT)
    ngx_event_set_peer_session_pt     set_session;
    ngx_event_save_peer_session_pt    save_session;
#endif
    ngx_output_chain_filter_pt        output_filter;
    void                             *filter_ctx;
    ngx_int_t                       (*process_header)(ngx_http_request_t *r);
    void                            (*finalize_request)(ngx_http_request_t *r,
                                          ngx_int_t rc);
};


/* ngx_http_trace_attempt.c */

ngx_http_trace_attempt_t *ngx_http_trace_attempt_begin(
    ngx_http_trace_upstream_t *up);
void ngx_http_trace_attempt_end(ngx_http_trace_upstream_t *up,
    ngx_http_trace_attempt_t *attempt, ngx_peer_connection_t *pc,
    ngx_uint_t state);


/* ngx_http_trace_attempt_span.c */

void ngx_http_trace_attempt_init(void);


extern ngx_http_trace_child_type_t  ngx_http_trace_attempt_type;


#endif /* _NGX_HTTP_TRACE_UPSTREAM_H_INCLUDED_ */
