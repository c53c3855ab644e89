
/*
 * The module's own types: configuration, the request's context, and what each
 * file offers the others.
 */


#ifndef _NGX_HTTP_TRACE_MODULE_H_INCLUDED_
#define _NGX_HTTP_TRACE_MODULE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include <traceparent/traceparent.h>
#include <traceparent/tracestate.h>
#include <traceparent/sampler.h>
#include <traceparent/otlp/span.h>

#include "ngx_http_trace_api.h"
#include "ngx_http_trace_exporter.h"


/* bits of all pipelines */
#define NGX_HTTP_TRACE_BOTH           ((1 << NGX_HTTP_TRACE_PIPELINES) - 1)

/* a name, and its length */
#define ngx_http_trace_key(name)      name, sizeof(name) - 1

/* trace_context: what is done with the headers, as bits */
#define NGX_HTTP_TRACE_IGNORE         0
#define NGX_HTTP_TRACE_EXTRACT        1
#define NGX_HTTP_TRACE_INJECT         2
#define NGX_HTTP_TRACE_PROPAGATE      3

/* trace: the words that are written, as bits */
#define NGX_HTTP_TRACE_OFF            1
#define NGX_HTTP_TRACE_ON             2
#define NGX_HTTP_TRACE_PARENT         4
#define NGX_HTTP_TRACE_RATIO          8
#define NGX_HTTP_TRACE_RATE           16
#define NGX_HTTP_TRACE_VARIABLE       32
#define NGX_HTTP_TRACE_SAMPLING       (NGX_HTTP_TRACE_PARENT                  \
                                       |NGX_HTTP_TRACE_RATIO                  \
                                       |NGX_HTTP_TRACE_RATE)

/* trace_default_attributes */
#define NGX_HTTP_TRACE_NONE           0
#define NGX_HTTP_TRACE_MINIMAL        1
#define NGX_HTTP_TRACE_ALL            2
#define NGX_HTTP_TRACE_LEVELS         3

/* trace_response_header */
#define NGX_HTTP_TRACE_SERVER_TIMING  1
#define NGX_HTTP_TRACE_TRACERESPONSE  2

/* what is to be done where a request enters a location, as bits */
#define NGX_HTTP_TRACE_START          1
#define NGX_HTTP_TRACE_DISTRUST       2

/* why headers are taken out of a request */
#define NGX_HTTP_TRACE_NOT_BELIEVED   0
#define NGX_HTTP_TRACE_NOT_MEANT      1
#define NGX_HTTP_TRACE_REASONS        2


typedef enum {
    NGX_HTTP_TRACE_STRING = 0,
    NGX_HTTP_TRACE_STRINGS,
    NGX_HTTP_TRACE_INT,
    NGX_HTTP_TRACE_DOUBLE,
    NGX_HTTP_TRACE_BOOL,
    NGX_HTTP_TRACE_KNOWN
} ngx_http_trace_type_e;


typedef struct {
    ngx_int_t                    variable;    /* its index, if it is alone */
    ngx_uint_t                   plain;       /* and it asks no other one */
    ngx_http_complex_value_t     complex;
} ngx_http_trace_value_t;


/* a variable that some directive has named */

typedef struct {
    ngx_str_t                    name;
    ngx_str_t                    directive;
    ngx_str_t                    file;
    ngx_uint_t                   line;
} ngx_http_trace_variable_name_t;


typedef struct {
    ngx_str_t                    name;
    ngx_uint_t                   type;
    ngx_http_trace_value_t       value;
    ngx_http_trace_value_t      *condition;
} ngx_http_trace_attribute_t;


/* a header that carries a context, in lower case */

typedef struct {
    ngx_str_t                    name;
    ngx_uint_t                   hash;
} ngx_http_trace_header_t;


/* trace_span */

typedef struct {
    ngx_http_trace_value_t      *name;
    ngx_uint_t                   pipelines;   /* as bits */
} ngx_http_trace_location_span_t;


/* the two of a context */

typedef struct {
    ngx_http_trace_header_t      traceparent;
    ngx_http_trace_header_t      tracestate;
} ngx_http_trace_names_t;


/* of trace_control_header */

typedef struct {
    ngx_http_trace_header_t      header;
    ngx_str_t                    name;        /* of its $http_... */
    ngx_int_t                    variable;    /* and the index of that */
} ngx_http_trace_control_header_t;


/* in shared memory; see ngx_http_trace_rate.c */

typedef struct {
    int64_t                      interval;    /* of the rate, 0: unused */
    uint64_t                     full_at;
} ngx_http_trace_bucket_t;


/* a trace directive that is not "off" */

typedef struct {
    ngx_str_t                    file;
    ngx_uint_t                   line;
    ngx_uint_t                   words;       /* as bits */
    ngx_int_t                    variable;    /* its index */
    uint64_t                     threshold;   /* of the ratio */
    traceparent_rate_t           limit;       /* of the rate */
    ngx_http_trace_bucket_t     *bucket;
} ngx_http_trace_decision_t;


/* trace_context ... to= */

typedef struct {
    ngx_str_t                    file;
    ngx_uint_t                   line;
    ngx_uint_t                   pipeline;
    ngx_array_t                  names;       /* of ngx_str_t */
    ngx_array_t                  upstreams;
                                      /* of ngx_http_upstream_srv_conf_t * */
} ngx_http_trace_to_t;


typedef struct ngx_http_trace_semconv_s  ngx_http_trace_semconv_t;


typedef struct {
    ngx_http_trace_decision_t   *decision;    /* NULL: off */
    ngx_uint_t                   only_variable;    /* it has but that */
    ngx_uint_t                   keeps;       /* may be kept at the end */

    ngx_uint_t                   context_given;    /* words, as bits */
    ngx_uint_t                   context;
    ngx_http_trace_names_t      *names;
    ngx_http_trace_value_t      *from;        /* NULL: the header */
    ngx_http_trace_to_t         *to;          /* NULL: all */

    ngx_flag_t                   trust_all;        /* may stay unset */
    ngx_uint_t                   believe_all;
    ngx_uint_t                   ask_trust;   /* other than the server's */
    ngx_array_t                 *trusted;          /* of ngx_cidr_t */
    ngx_uint_t                   trust_realip;     /* its address counts */
    ngx_http_trace_value_t      *trust_if;

    ngx_http_trace_value_t      *span_name;
    ngx_str_t                    route;       /* empty: not to be told */
    ngx_str_t                    get;         /* default name of a GET */
    u_char                       get_short[NGX_HTTP_TRACE_ACTIVE_NAME];
    uint8_t                      get_short_len;    /* the same, cut */

    ngx_array_t                 *attributes;
                                        /* of ngx_http_trace_attribute_t */
    ngx_array_t                 *variable_attributes;
                                        /* of ngx_http_trace_attribute_t * */
    ngx_str_t                    constant_attributes;    /* encoded */
    ngx_uint_t                   constant_attributes_n;
    ngx_uint_t                   level;       /* trace_default_attributes */
    ngx_http_trace_semconv_t   **semconv;     /* of requests, a list */
} ngx_http_trace_pipeline_conf_t;


typedef struct {
    ngx_http_trace_pipeline_conf_t  pipelines[NGX_HTTP_TRACE_PIPELINES];
    ngx_http_trace_value_t         *routing;
    ngx_http_trace_value_t         *keep;     /* NULL: off */
    ngx_http_trace_location_span_t  *span;    /* NULL: none */
    ngx_array_t                    *control;
                                /* of ngx_http_trace_control_header_t */
    ngx_http_handler_pt             handler;  /* that ours stands before */
    ngx_uint_t                      enter;    /* what is to be done then */
    ngx_uint_t                      idle;     /* off, with no headers to edit */
    ngx_uint_t                      simple;   /* at most variables to ask */
    ngx_int_t                       ask[NGX_HTTP_TRACE_PIPELINES + 1];
                                              /* these; the last: NGX_ERROR */
    ngx_uint_t                      to;       /* some upstreams only */
    ngx_http_upstream_srv_conf_t   *to_upstream;   /* the one that is asked */
    ngx_uint_t                      edits;    /* headers, recorded or not */
    ngx_uint_t                      upstream; /* trace_upstream, as bits */
    ngx_uint_t                      events;   /* the same of trace_events */
    ngx_flag_t                      subrequests;
    ngx_uint_t                      response_header;
    ngx_int_t                       response_pipeline;
                                        /* NGX_ERROR: was not named */
    ngx_uint_t                      error_log;  /* a pipeline; none of them:
                                                   off */
    ngx_uint_t                      status;   /* format of trace_status */
} ngx_http_trace_loc_conf_t;


/* a location's configuration, and what it is merged with */

typedef struct {
    ngx_http_core_loc_conf_t       *clcf;
    ngx_http_trace_loc_conf_t      *conf;
    ngx_http_trace_loc_conf_t      *outer;
} ngx_http_trace_location_t;


typedef struct {
    ngx_http_trace_exporter_conf_t  exporters[NGX_HTTP_TRACE_CHANNELS];
    ngx_str_t                       service_name[NGX_HTTP_TRACE_PIPELINES];
    ngx_array_t                     resource[NGX_HTTP_TRACE_PIPELINES];
                                                      /* of ngx_keyval_t */
    ngx_uint_t                      enabled[NGX_HTTP_TRACE_PIPELINES];
                                         /* some location is not "off" */
    ngx_uint_t                      events;     /* in some location: bits */
    ngx_str_t                       events_file[NGX_HTTP_TRACE_PIPELINES];
    ngx_uint_t                      events_line[NGX_HTTP_TRACE_PIPELINES];
                                         /* of the last that said so */
    ngx_str_t                       status_file;    /* of a trace_status */
    ngx_uint_t                      status_line;    /* 0: there is none */
    ngx_array_t                     variables;
                                    /* of ngx_http_trace_variable_name_t */
    ngx_array_t                     tos;
                                    /* of ngx_http_trace_to_t * */
    ngx_array_t                     rates;
                                    /* of ngx_http_trace_decision_t * */
    ngx_http_trace_bucket_t        *buckets;
    ngx_uint_t                      buckets_n;
    ngx_array_t                     names[NGX_HTTP_TRACE_PIPELINES];
                                    /* of ngx_http_trace_names_t *, all */
    ngx_uint_t                      distrust;       /* somebody, somewhere */
    ngx_uint_t                      edits;          /* the same of headers */
    ngx_array_t                     locations;
                                         /* of ngx_http_trace_location_t */
    ngx_array_t                     upstreams;
                                         /* see ngx_http_trace_upstream.c */
    ngx_uint_t                      response_header;   /* it is used */
    ngx_uint_t                      error_log;
    ngx_http_variable_t            *realip_addr;    /* NULL without realip */
    ngx_http_variable_t            *realip_port;
} ngx_http_trace_main_conf_t;


/* one pipeline's part of a request */

typedef struct {
    traceparent_t                inbound;     /* with |parent| */
    traceparent_t                outbound;    /* with |ids| */
    ngx_str_t                    received;    /* the header, with |parent| */
    ngx_str_t                    tracestate;  /* valid, or empty */
    ngx_http_trace_pipeline_conf_t  *extracted;    /* |inbound| by this one */
    ngx_http_trace_active_t     *active;      /* while it is open, or NULL */
    u_char                       text[TRACEPARENT_LEN];
                                              /* see ngx_http_trace_text() */

    unsigned                     parent:1;    /* there is an inbound context */
    unsigned                     stateless:1; /* with no tracestate at all */
    unsigned                     ids:1;
    unsigned                     formatted:1;
    unsigned                     queued:1;
} ngx_http_trace_span_ctx_t;


typedef struct ngx_http_trace_ctx_s  ngx_http_trace_ctx_t;
typedef struct ngx_http_trace_hop_s  ngx_http_trace_hop_t;
typedef struct ngx_http_trace_node_s  ngx_http_trace_node_t;
typedef struct ngx_http_trace_child_s  ngx_http_trace_child_t;
typedef struct ngx_http_trace_upstream_s  ngx_http_trace_upstream_t;
typedef struct ngx_http_trace_facts_s  ngx_http_trace_facts_t;
typedef struct ngx_http_trace_custom_s  ngx_http_trace_custom_t;
typedef struct ngx_http_trace_lua_s  ngx_http_trace_lua_t;
typedef struct ngx_http_trace_events_s  ngx_http_trace_events_t;


typedef u_char  ngx_http_trace_span_ids_t[NGX_HTTP_TRACE_PIPELINES]
                                         [TRACEPARENT_SPAN_ID_SIZE];


/* a redirect inside of nginx, to another location or to the same again */

struct ngx_http_trace_hop_s {
    ngx_http_trace_hop_t        *next;
    ngx_http_trace_loc_conf_t   *location;
    ngx_str_t                    path;
    ngx_uint_t                   status;      /* error_page's, or 0 */
    uint64_t                     time;
};


/* where a request or subrequest stands in the tree */

struct ngx_http_trace_node_s {
    u_char                      *span_id[NGX_HTTP_TRACE_PIPELINES];
    u_char                      *parent_id[NGX_HTTP_TRACE_PIPELINES];
                                              /* of what is below */
    ngx_http_trace_custom_t     *current;     /* whose ids these are, or NULL */
    ngx_http_trace_node_t       *next;        /* that has the same */
    ngx_http_trace_location_span_t  *location;
    ngx_http_trace_span_t        located;     /* of |location|, or 0 */
    ngx_http_trace_upstream_t   *upstream;    /* the last one, or NULL */
    ngx_http_trace_hop_t        *hops;
    ngx_http_trace_hop_t       **last_hop;
    ngx_uint_t                   uri_changes;   /* nginx's, when last seen */
    ngx_uint_t                   err_status;
    ngx_flag_t                   subrequests; /* what its location has said */
};


/* writes what is behind the head of a span, and returns its status */

typedef int (*ngx_http_trace_write_pt)(void *data, ngx_uint_t pipeline,
    otlp_span_t *span);


/*
 * What makes the span of a child: |head| sets its name and kind, |status| its
 * error, for which there is room for a number in |buf|.
 */

typedef struct {
    void                       (*head)(ngx_http_trace_child_t *child,
                                   ngx_uint_t pipeline,
                                   otlp_span_head_t *head);
    int                        (*status)(ngx_http_trace_child_t *child,
                                   u_char *buf, ngx_str_t *error);
    ngx_http_trace_write_pt      write;
    otlp_span_t               *(*attributes)(ngx_http_trace_child_t *child);
                                              /* set so far, or NULL */
} ngx_http_trace_child_type_t;


/* a span that a request has caused, beside its own: an attempt, a subrequest */

struct ngx_http_trace_child_s {
    ngx_http_trace_child_t      *next;
    ngx_http_trace_child_t      *previous;
    ngx_http_trace_child_type_t *type;
    ngx_uint_t                   pipelines;   /* as bits */
    u_char                      *parent_id[NGX_HTTP_TRACE_PIPELINES];
    ngx_http_trace_span_ids_t    span_id;
    uint64_t                     start;       /* ns since 1970 */
    uint64_t                     end;         /* 0: it goes on */
    ngx_http_trace_active_t     *announced[NGX_HTTP_TRACE_PIPELINES];
                                              /* see ..._events.c */
};


/* of one request; more are dropped and counted */
#define NGX_HTTP_TRACE_CHILDREN_MAX   1000


/* for one attempt and what belongs to it; see ngx_http_trace_alloc() */
#define NGX_HTTP_TRACE_ROOM           896


/* of a main request, for its subrequests as well */

struct ngx_http_trace_ctx_s {
    ngx_http_trace_span_ctx_t    pipelines[NGX_HTTP_TRACE_PIPELINES];
    ngx_http_trace_node_t        node;
    ngx_http_trace_child_t      *children;
    ngx_http_trace_child_t      *last_child;
    ngx_uint_t                   children_n;
    ngx_uint_t                   too_many[NGX_HTTP_TRACE_PIPELINES];
    ngx_http_trace_upstream_t   *upstreams;
    ngx_http_trace_custom_t     *customs;
    size_t                       custom_size;    /* of what they have */
    ngx_http_trace_lua_t        *lua;
    ngx_http_log_handler_pt      log_handler;   /* that ours stands before */
    void                       **loc_conf;    /* of what has answered */
    ngx_http_trace_facts_t      *facts;       /* if it is not over then */
    ngx_uint_t                   level[NGX_HTTP_TRACE_PIPELINES];
                                              /* of attributes, at the end */
    uint64_t                     start;       /* ns since 1970 */
    uint64_t                     end;         /* 0: that of the request */
    uint64_t                     clock;       /* add to monotonic time */
    ngx_uint_t                   withheld[NGX_HTTP_TRACE_REASONS];
                                              /* pipelines, as bits */
    ngx_uint_t                   given_back;  /* the same, by who believes */
    ngx_list_t                   received[NGX_HTTP_TRACE_REASONS]
                                         [NGX_HTTP_TRACE_PIPELINES];
                                              /* headers as they were then */
    ngx_uint_t                   settled;     /* not to be asked again */
    ngx_uint_t                   ours;        /* with ids of their own */
    ngx_uint_t                   sent;        /* which headers have had */
    ngx_uint_t                   recorded;    /* with spans, maybe to keep */
    ngx_uint_t                   edits;       /* there are headers to send */
    ngx_uint_t                   events;      /* pipelines with these */
    ngx_http_trace_events_t     *streams;     /* if there are any */
    unsigned                     decided:1;
    unsigned                     background:1;  /* subrequests may outlive it */

    ngx_http_trace_ctx_t        *free;        /* the next one that is */
    size_t                       used;        /* of |room| */
    u_char                       room[NGX_HTTP_TRACE_ROOM];
};


/* a value that is known beforehand, and the attribute with it */

typedef struct {
    ngx_str_t                    value;
    ngx_uint_t                   number;      /* nginx's for it, or 0 */
    otlp_known_t                 attribute;
} ngx_http_trace_known_t;


/*
 * What is known of a request at its end.  An empty string, a number below 0,
 * and NULL is not known.
 */

struct ngx_http_trace_facts_s {
    ngx_http_trace_known_t      *method;      /* never NULL */
    ngx_http_trace_known_t      *scheme;
    ngx_http_trace_known_t      *protocol_version;

    ngx_str_t                    method_original;
    ngx_str_t                    path;
    ngx_str_t                    query;
    ngx_str_t                    server_address;
    ngx_str_t                    error_type;
    ngx_str_t                    client_address;
    ngx_str_t                    peer_address;
    ngx_str_t                    user_agent;
    ngx_str_t                    cache_status;

    int64_t                      server_port;
    int64_t                      status_code;
    int64_t                      peer_port;
    int64_t                      request_size;
    int64_t                      response_size;

    ngx_uint_t                   status;      /* sent or not */
    ngx_uint_t                   cut;         /* the upstream's response */
    u_char                       error[NGX_INT_T_LEN];
};


/* an attribute, and where among the facts of a span its value is */

struct ngx_http_trace_semconv_s {
    ngx_str_t                    name;
    ngx_uint_t                   minimal;     /* tells nothing of the inside */
    ngx_uint_t                   type;
    ngx_uint_t                   offset;
    otlp_key_t                   key;         /* see ..._semconv_table() */
};


/* the tables of them: those of a type stand together, in this order */

#define ngx_http_trace_semconv_of(type, name, minimal, facts, field)          \
    { ngx_string(name), minimal, type, offsetof(facts, field),                \
      { { 0 }, 0 } }

#define ngx_http_trace_known(name, minimal, facts, field)                     \
    ngx_http_trace_semconv_of(NGX_HTTP_TRACE_KNOWN, name, minimal, facts,     \
                              field)

#define ngx_http_trace_str(name, minimal, facts, field)                       \
    ngx_http_trace_semconv_of(NGX_HTTP_TRACE_STRING, name, minimal, facts,    \
                              field)

#define ngx_http_trace_num(name, minimal, facts, field)                       \
    ngx_http_trace_semconv_of(NGX_HTTP_TRACE_INT, name, minimal, facts, field)

#define ngx_http_trace_null_semconv                                           \
    { ngx_null_string, 0, NGX_HTTP_TRACE_BOOL, 0, { { 0 }, 0 } }


/* what of a table spans have, for each level of default attributes */

#define ngx_http_trace_semconv_lists(lists, table)                            \
    static ngx_http_trace_semconv_t                                           \
        *lists[NGX_HTTP_TRACE_LEVELS][sizeof(table) / sizeof(table[0])]


#define ngx_http_trace_value(value, number)                                   \
    { ngx_string(value), number, { { 0 }, 0 } }


#define ngx_http_trace_null_value                                             \
    { ngx_null_string, 0, { { 0 }, 0 } }


/* ngx_http_trace_conf.c */

char *ngx_http_trace_value_slot(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_trace_name(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_trace_service(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_trace_resource(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_trace_pipelines_slot(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_trace_events_directive(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_trace_default_attributes(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_trace_response_directive(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_trace_error_log_directive(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
ngx_int_t ngx_http_trace_pipelines(ngx_conf_t *cf, ngx_command_t *cmd,
    ngx_str_t *name);
ngx_int_t ngx_http_trace_attribute_name(ngx_conf_t *cf,
    ngx_command_t *cmd, ngx_str_t *name);
ngx_conf_enum_t *ngx_http_trace_enum(ngx_conf_enum_t *e,
    ngx_str_t *name);
ngx_int_t ngx_http_trace_pipeline(ngx_conf_t *cf, ngx_command_t *cmd,
    ngx_str_t *name);


/* ngx_http_trace_conf_decision.c */

char *ngx_http_trace(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_trace_keep(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);


/* ngx_http_trace_conf_context.c */

char *ngx_http_trace_context(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_trace_trust(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_trace_control_directive(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
ngx_int_t ngx_http_trace_context_init_conf(ngx_conf_t *cf,
    ngx_http_trace_main_conf_t *tmcf);


/* ngx_http_trace_conf_attribute.c */

char *ngx_http_trace_attribute(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
ngx_int_t ngx_http_trace_merge_attributes(ngx_conf_t *cf,
    ngx_http_trace_pipeline_conf_t *prev,
    ngx_http_trace_pipeline_conf_t *conf, ngx_uint_t pipeline);


/* ngx_http_trace_ctx.c */

extern ngx_http_trace_ctx_t  ngx_http_trace_untraced;

ngx_http_trace_ctx_t *ngx_http_trace_get_ctx(ngx_http_request_t *r);
ngx_http_trace_ctx_t *ngx_http_trace_own_ctx(ngx_http_request_t *r);
ngx_http_trace_ctx_t *ngx_http_trace_find_ctx(ngx_http_request_t *r);
NGX_HTTP_TRACE_APART ngx_http_trace_ctx_t *ngx_http_trace_create_ctx(
    ngx_http_request_t *r);
ngx_http_trace_ctx_t *ngx_http_trace_set_untraced(ngx_http_request_t *r);
void *ngx_http_trace_alloc(ngx_http_request_t *r, ngx_http_trace_ctx_t *ctx,
    size_t size);
void ngx_http_trace_init_node(ngx_http_trace_node_t *node);
ngx_http_trace_node_t *ngx_http_trace_node(ngx_http_request_t *r,
    ngx_http_trace_ctx_t *ctx);
NGX_HTTP_TRACE_APART void ngx_http_trace_hop(ngx_http_request_t *r,
    ngx_http_trace_ctx_t *ctx, ngx_http_trace_node_t *node);
void *ngx_http_trace_child(ngx_http_request_t *r, ngx_http_trace_ctx_t *ctx,
    ngx_http_trace_node_t *parent, ngx_uint_t pipelines, size_t size,
    size_t room);
void ngx_http_trace_drop_child(ngx_http_trace_ctx_t *ctx,
    ngx_uint_t pipelines);
uint64_t ngx_http_trace_now(ngx_http_trace_ctx_t *ctx);
ngx_int_t ngx_http_trace_ids(ngx_http_trace_span_ctx_t *sc);
ngx_int_t ngx_http_trace_span_ids(ngx_http_trace_span_ids_t ids,
    ngx_uint_t pipelines);
u_char *ngx_http_trace_text(ngx_http_trace_span_ctx_t *sc);
u_char *ngx_http_trace_node_text(ngx_http_request_t *r,
    ngx_http_trace_span_ctx_t *sc, ngx_http_trace_node_t *node,
    ngx_uint_t pipeline);
void ngx_http_trace_format(ngx_http_trace_span_ctx_t *sc, u_char *span_id,
    u_char *text);
ngx_int_t ngx_http_trace_socket_peer(ngx_http_request_t *r, ngx_str_t *addr,
    ngx_int_t *port);


/* ngx_http_trace_decision.c */

NGX_HTTP_TRACE_APART ngx_http_trace_ctx_t *ngx_http_trace_decide(
    ngx_http_request_t *r);
ngx_uint_t ngx_http_trace_variable_true(ngx_http_request_t *r,
    ngx_int_t index);
ngx_uint_t ngx_http_trace_late(ngx_http_request_t *r);


/* ngx_http_trace_rate.c */

ngx_int_t ngx_http_trace_rate_init_conf(ngx_conf_t *cf,
    ngx_http_trace_main_conf_t *tmcf);
ngx_uint_t ngx_http_trace_rate_take(ngx_http_trace_ctx_t *ctx,
    ngx_http_trace_decision_t *decision);


/* ngx_http_trace_value.c */

ngx_int_t ngx_http_trace_value_compile(ngx_conf_t *cf, ngx_str_t *directive,
    ngx_str_t *text, ngx_http_trace_value_t *value);
ngx_http_trace_value_t *ngx_http_trace_value_new(ngx_conf_t *cf,
    ngx_str_t *directive, ngx_str_t *text);
ngx_http_trace_value_t *ngx_http_trace_value_foreign(ngx_conf_t *cf,
    ngx_str_t *directive, ngx_str_t *text);
ngx_int_t ngx_http_trace_values_check(ngx_conf_t *cf,
    ngx_http_trace_main_conf_t *tmcf);
ngx_int_t ngx_http_trace_value_read(ngx_http_request_t *r,
    ngx_http_trace_value_t *value, ngx_str_t *text);
ngx_int_t ngx_http_trace_value_peek(ngx_http_request_t *r,
    ngx_http_trace_value_t *value, ngx_str_t *text);
ngx_uint_t ngx_http_trace_value_true(ngx_http_request_t *r,
    ngx_http_trace_value_t *value);


/* ngx_http_trace_headers.c */

/* what is to be done with a header, and what was found */

typedef struct {
    ngx_http_trace_header_t     *header;
    ngx_str_t                    value;
    ngx_uint_t                   own;
    ngx_table_elt_t             *found;
    ngx_uint_t                   n;
} ngx_http_trace_edit_t;

void ngx_http_trace_set_edit(ngx_http_trace_edit_t *edit,
    ngx_http_trace_header_t *header, u_char *value, size_t len);
void ngx_http_trace_removals(ngx_http_trace_edit_t *edits,
    ngx_http_trace_names_t *names, ngx_uint_t own);
ngx_int_t ngx_http_trace_edit(ngx_http_request_t *r,
    ngx_http_trace_edit_t *edits, ngx_uint_t n);
ngx_int_t ngx_http_trace_restore(ngx_http_request_t *r, ngx_list_t *list,
    ngx_http_trace_edit_t *edits, ngx_uint_t n);
ngx_table_elt_t *ngx_http_trace_next_header(ngx_list_part_t **part,
    ngx_uint_t *i);


/* ngx_http_trace_trust.c */

void ngx_http_trace_distrust(ngx_http_request_t *r);
void ngx_http_trace_distrust_unread(ngx_http_request_t *r);
void ngx_http_trace_wrap_variables(ngx_conf_t *cf);
ngx_int_t ngx_http_trace_believe(ngx_http_request_t *r,
    ngx_http_trace_pipeline_conf_t *pcf, ngx_uint_t pipeline);
ngx_uint_t ngx_http_trace_trusted(ngx_http_request_t *r,
    ngx_http_trace_pipeline_conf_t *pcf);
ngx_int_t ngx_http_trace_withhold(ngx_http_request_t *r,
    ngx_http_trace_pipeline_conf_t *pcf, ngx_uint_t pipeline,
    ngx_uint_t reason);
ngx_int_t ngx_http_trace_give_back(ngx_http_request_t *r,
    ngx_http_trace_pipeline_conf_t *pcf, ngx_uint_t pipeline,
    ngx_uint_t reason);


/* ngx_http_trace_propagation.c */

void ngx_http_trace_extract(ngx_http_request_t *r,
    ngx_http_trace_pipeline_conf_t *pcf, ngx_http_trace_span_ctx_t *sc);
ngx_int_t ngx_http_trace_inject(ngx_http_request_t *r,
    ngx_http_trace_ctx_t *ctx, ngx_http_trace_node_t *node,
    ngx_http_upstream_srv_conf_t *us);
ngx_int_t ngx_http_trace_address(ngx_http_request_t *r,
    ngx_http_upstream_srv_conf_t *us);
void ngx_http_trace_control(ngx_http_request_t *r, ngx_array_t *headers);
u_char *ngx_http_trace_outbound(ngx_http_request_t *r,
    ngx_http_trace_span_ctx_t *sc, ngx_http_trace_node_t *node,
    ngx_uint_t pipeline);


/* ngx_http_trace_span.c */

void ngx_http_trace_first_name(ngx_http_request_t *r,
    ngx_http_trace_pipeline_conf_t *pcf, traceparent_view_t *name);
void ngx_http_trace_request_open(ngx_http_request_t *r,
    ngx_http_trace_ctx_t *ctx, ngx_http_trace_pipeline_conf_t *pcf,
    ngx_uint_t pipeline);
NGX_HTTP_TRACE_APART void ngx_http_trace_request_admitted(
    ngx_http_request_t *r, ngx_http_trace_ctx_t *ctx);
void ngx_http_trace_request_phase(ngx_http_request_t *r,
    ngx_http_trace_ctx_t *ctx, ngx_http_trace_phase_e phase);
NGX_HTTP_TRACE_APART void ngx_http_trace_request_spans(ngx_http_request_t *r,
    ngx_http_trace_ctx_t *ctx);
void ngx_http_trace_span_hops(otlp_span_t *span, ngx_http_trace_node_t *node,
    ngx_uint_t pipeline, ngx_uint_t level);
void ngx_http_trace_span_attribute(otlp_span_t *span,
    ngx_http_trace_attribute_t *attr, ngx_str_t *value);
ngx_int_t ngx_http_trace_parse_int(ngx_str_t *value, int64_t *integer);
ngx_int_t ngx_http_trace_parse_double(ngx_str_t *value, double *number);


/* ngx_http_trace_semconv.c */

void ngx_http_trace_semconv_init(void);
void ngx_http_trace_semconv_table(ngx_http_trace_semconv_t *table);
void ngx_http_trace_semconv_list(ngx_http_trace_semconv_t **list,
    ngx_http_trace_semconv_t *table, ngx_uint_t level);
ngx_http_trace_semconv_t **ngx_http_trace_semconv_request(ngx_pool_t *pool,
    ngx_uint_t level);
void ngx_http_trace_semconv_remove(ngx_http_trace_semconv_t **list,
    ngx_str_t *name);
void ngx_http_trace_semconv(ngx_http_trace_semconv_t **list, void *facts,
    otlp_span_t *span);
void ngx_http_trace_facts(ngx_http_request_t *r, ngx_http_trace_ctx_t *ctx,
    ngx_http_trace_facts_t *facts);
ngx_http_trace_known_t *ngx_http_trace_method(ngx_uint_t method,
    ngx_str_t *name);
ngx_http_trace_known_t *ngx_http_trace_version(ngx_uint_t version);
void ngx_http_trace_name_method(ngx_http_trace_known_t *method,
    ngx_str_t *name);
ngx_int_t ngx_http_trace_semconv_name(ngx_http_request_t *r,
    ngx_http_trace_known_t *method, ngx_http_trace_pipeline_conf_t *pcf,
    ngx_str_t *name);
int ngx_http_trace_semconv_status(ngx_http_trace_facts_t *facts);
NGX_HTTP_TRACE_APART void ngx_http_trace_redact(ngx_http_request_t *r,
    ngx_str_t *query);
void ngx_http_trace_status_error(ngx_uint_t status, u_char *buf,
    ngx_str_t *error);
void ngx_http_trace_unbracket(ngx_str_t *host);
void ngx_http_trace_gone(ngx_http_request_t *r, ngx_str_t *error);
ngx_uint_t ngx_http_trace_cut(ngx_http_request_t *r);


/* ngx_http_trace_upstream.c */

ngx_int_t ngx_http_trace_upstream_init_conf(ngx_conf_t *cf,
    ngx_http_trace_main_conf_t *tmcf);
NGX_HTTP_TRACE_APART void ngx_http_trace_upstream_headers(
    ngx_http_request_t *r, ngx_http_trace_loc_conf_t *tlcf);
u_char *ngx_http_trace_upstream_text(ngx_http_trace_upstream_t *up,
    ngx_uint_t pipeline);
void ngx_http_trace_upstream_settle(ngx_http_trace_upstream_t *up);
void ngx_http_trace_upstreams_settle(ngx_http_trace_ctx_t *ctx,
    ngx_http_request_t *r);
ngx_uint_t ngx_http_trace_upstream_asked(ngx_http_trace_upstream_t *up);
ngx_str_t *ngx_http_trace_upstream_cut(ngx_http_trace_upstream_t *up);


/* ngx_http_trace_subrequest.c */

void ngx_http_trace_subrequest_init(void);
void ngx_http_trace_subrequest_settle(ngx_http_request_t *r,
    ngx_http_trace_ctx_t *ctx);
NGX_HTTP_TRACE_APART ngx_http_trace_node_t *ngx_http_trace_subrequest_node(
    ngx_http_request_t *r, ngx_http_trace_ctx_t *ctx);


/* ngx_http_trace_events.c */

void ngx_http_trace_events_init(void);
NGX_HTTP_TRACE_APART void ngx_http_trace_events_begin(ngx_http_request_t *r,
    ngx_http_trace_ctx_t *ctx, ngx_uint_t pipelines);
NGX_HTTP_TRACE_APART void ngx_http_trace_events_admitted(
    ngx_http_trace_ctx_t *ctx);
void ngx_http_trace_events_redirected(ngx_http_trace_ctx_t *ctx);
NGX_HTTP_TRACE_APART void ngx_http_trace_events_end_children(
    ngx_http_trace_ctx_t *ctx);
void ngx_http_trace_events_end(ngx_http_trace_ctx_t *ctx,
    ngx_http_trace_facts_t *facts, traceparent_view_t *names);
NGX_HTTP_TRACE_APART void ngx_http_trace_events_open(
    ngx_http_trace_ctx_t *ctx, ngx_http_trace_child_t *child);
NGX_HTTP_TRACE_APART void ngx_http_trace_events_close(
    ngx_http_trace_ctx_t *ctx, ngx_http_trace_child_t *child, uint64_t time);
NGX_HTTP_TRACE_APART void ngx_http_trace_events_rename(
    ngx_http_trace_ctx_t *ctx, ngx_http_trace_child_t *child,
    traceparent_view_t *name);
NGX_HTTP_TRACE_APART void ngx_http_trace_events_attributes(
    ngx_http_trace_ctx_t *ctx, ngx_http_trace_child_t *child,
    const ngx_http_trace_api_attribute_t *attributes, ngx_uint_t n,
    size_t size);


/* ngx_http_trace_api.c */

size_t ngx_http_trace_name_cut(const u_char *name, size_t len);
void ngx_http_trace_custom_attributes(otlp_span_t *record,
    const ngx_http_trace_api_attribute_t *attributes, ngx_uint_t n);
void ngx_http_trace_customs_close(ngx_http_trace_ctx_t *ctx,
    ngx_http_request_t *r, uint64_t end);
void ngx_http_trace_customs_end(ngx_http_trace_ctx_t *ctx);
void ngx_http_trace_lua_exception(ngx_http_trace_span_t span,
    const ngx_http_trace_api_attribute_t *attributes, ngx_uint_t n);


/* ngx_http_trace_lua.c */

ngx_http_trace_span_t ngx_http_trace_lua_open(ngx_http_request_t *r,
    void *thread, const u_char *name, size_t len, ngx_uint_t pipelines,
    ngx_uint_t how);
void ngx_http_trace_lua_leave(ngx_http_request_t *r,
    ngx_http_trace_span_t span);
ngx_http_trace_span_t ngx_http_trace_lua_current(ngx_http_request_t *r,
    void *thread);
void ngx_http_trace_lua_begin(ngx_http_request_t *r, void *thread,
    ngx_http_trace_span_t span);
void ngx_http_trace_lua_end(ngx_http_request_t *r, void *thread);
void ngx_http_trace_lua_capture(ngx_http_request_t *r, void *thread,
    ngx_uint_t begin);
u_char **ngx_http_trace_lua_parent(ngx_http_request_t *sr,
    ngx_http_trace_ctx_t *ctx);


/* ngx_http_trace_location.c */

char *ngx_http_trace_span_directive(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
void ngx_http_trace_locate(ngx_http_request_t *r,
    ngx_http_trace_node_t *node);
void ngx_http_trace_leave(ngx_http_request_t *r, ngx_http_trace_node_t *node);
void ngx_http_trace_name_location(ngx_http_request_t *r,
    ngx_http_trace_node_t *node);


/* ngx_http_trace_response_header.c */

void ngx_http_trace_response_header_init(void);


/* ngx_http_trace_error_log.c */

void ngx_http_trace_error_log(ngx_http_request_t *r,
    ngx_http_trace_ctx_t *ctx);


/* ngx_http_trace_status.c */

char *ngx_http_trace_status_directive(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
ngx_int_t ngx_http_trace_status_init_conf(ngx_conf_t *cf,
    ngx_http_trace_main_conf_t *tmcf);


/* ngx_http_trace_variables.c */

ngx_int_t ngx_http_trace_add_variables(ngx_conf_t *cf);
ngx_uint_t ngx_http_trace_own_variable(ngx_str_t *name);


extern NGX_HTTP_TRACE_HIDDEN ngx_module_t  ngx_http_trace_module;


#endif /* _NGX_HTTP_TRACE_MODULE_H_INCLUDED_ */
