
/*
 * The headers: in, believed or not, and out.
 */


#include "ngx_http_trace_module.h"


/* a header that headers_in is to have once, or not at all if value is empty */

typedef struct {
    ngx_http_trace_header_t  *header;
    ngx_str_t                 value;
    ngx_uint_t                hash;
    ngx_table_elt_t          *found;
    ngx_uint_t                n;
} ngx_http_trace_edit_t;


static void ngx_http_trace_extract_tracestate(ngx_http_request_t *r,
    ngx_http_trace_header_t *name, ngx_http_trace_span_ctx_t *sc,
    ngx_uint_t n);
static ngx_uint_t ngx_http_trace_trusted(ngx_http_request_t *r,
    ngx_http_trace_pipeline_conf_t *pcf);
static ngx_inline void ngx_http_trace_set_edit(ngx_http_trace_edit_t *edit,
    ngx_http_trace_header_t *header);
static ngx_int_t ngx_http_trace_edit(ngx_http_request_t *r,
    ngx_http_trace_edit_t *edits, ngx_uint_t n);
static ngx_http_trace_edit_t *ngx_http_trace_edited(ngx_table_elt_t *h,
    ngx_http_trace_edit_t *edits, ngx_uint_t n);
static ngx_int_t ngx_http_trace_rebuild(ngx_http_request_t *r,
    ngx_http_trace_edit_t *edits, ngx_uint_t n);
static ngx_int_t ngx_http_trace_push(ngx_http_request_t *r,
    ngx_http_trace_edit_t *edit);


#define ngx_http_trace_is(h, name_)                                           \
    ((h)->hash == (name_)->hash                                               \
     && (h)->key.len == (name_)->name.len                                     \
     && ngx_strncmp((h)->lowcase_key, (name_)->name.data,                     \
                    (name_)->name.len) == 0)


void
ngx_http_trace_extract(ngx_http_request_t *r,
    ngx_http_trace_pipeline_conf_t *pcf, ngx_http_trace_span_ctx_t *sc)
{
    ngx_uint_t           i, n, states;
    ngx_list_part_t     *part;
    ngx_table_elt_t     *h, *found, *state;
    traceparent_view_t   list;

    if (sc->extracted) {
        return;
    }

    sc->extracted = 1;

    if (!(pcf->context & NGX_HTTP_TRACE_EXTRACT)) {
        return;
    }

    n = 0;
    states = 0;
    found = NULL;
    state = NULL;

    part = &r->headers_in.headers.part;
    i = 0;

    while ((h = ngx_http_trace_next_header(&part, &i)) != NULL) {

        if (ngx_http_trace_is(h, &pcf->traceparent)) {
            found = h;
            n++;

        } else if (ngx_http_trace_is(h, &pcf->tracestate)) {
            state = h;
            states++;
        }
    }

    /* several are as none: W3C Trace Context, section 3.2.1 */

    if (n != 1
        || traceparent_parse(&sc->inbound, found->value.data,
                             found->value.len)
           != 0)
    {
        return;
    }

    sc->parent = 1;
    sc->received = found->value;

    if (states == 1
        && state->value.len <= TRACESTATE_FORWARD_MIN
        && tracestate_view(&list, state->value.data, state->value.len) >= 0)
    {
        sc->tracestate = state->value;

    } else if (states) {
        ngx_http_trace_extract_tracestate(r, &pcf->tracestate, sc, states);
    }
}


/* of |n| headers, which may be more than a list has members: some are empty */

static void
ngx_http_trace_extract_tracestate(ngx_http_request_t *r,
    ngx_http_trace_header_t *name, ngx_http_trace_span_ctx_t *sc, ngx_uint_t n)
{
    size_t               len;
    u_char              *p;
    ngx_uint_t           i, states;
    ngx_list_part_t     *part;
    ngx_table_elt_t     *h;
    traceparent_view_t  *values;

    values = ngx_palloc(r->pool, n * sizeof(traceparent_view_t));
    if (values == NULL) {
        return;
    }

    len = 0;
    states = 0;

    part = &r->headers_in.headers.part;
    i = 0;

    while ((h = ngx_http_trace_next_header(&part, &i)) != NULL) {

        if (ngx_http_trace_is(h, name) && h->value.len) {
            values[states].data = h->value.data;
            values[states].len = h->value.len;
            states++;

            len += h->value.len + 1;
        }
    }

    if (states == 0) {
        return;
    }

    p = ngx_pnalloc(r->pool, len);
    if (p == NULL) {
        return;
    }

    if (tracestate_combine(p, &len, values, states) < 0) {
        return;
    }

    sc->tracestate.data = p;
    sc->tracestate.len = tracestate_shorten(p, len, TRACESTATE_FORWARD_MIN);
}


/*
 * The inbound headers of a pipeline that are not believed go away before
 * anything continues or forwards them.
 */

ngx_int_t
ngx_http_trace_distrust(ngx_http_request_t *r,
    ngx_http_trace_pipeline_conf_t *pcf)
{
    ngx_http_trace_edit_t  edits[2];

    ngx_memzero(edits, sizeof(edits));

    if (ngx_http_trace_trusted(r, pcf)) {
        return NGX_OK;
    }

    ngx_http_trace_set_edit(&edits[0], &pcf->traceparent);
    ngx_http_trace_set_edit(&edits[1], &pcf->tracestate);

    return ngx_http_trace_edit(r, edits, 2);
}


static ngx_uint_t
ngx_http_trace_trusted(ngx_http_request_t *r,
    ngx_http_trace_pipeline_conf_t *pcf)
{
    ngx_str_t         text;
    ngx_addr_t        addr;
    struct sockaddr  *sa;

    if (pcf->trusted == NULL) {
        return 0;
    }

    if (pcf->trust_if && ngx_http_trace_condition(r, pcf->trust_if)) {
        return 1;
    }

    sa = r->connection->sockaddr;

    if (!pcf->trust_realip
        && ngx_http_trace_socket_peer(r, &text, NULL) == NGX_DONE)
    {
        /* realip has put the client in the place of the connection's peer */

        if (text.len >= 5 && ngx_strncmp(text.data, "unix:", 5) == 0) {
            static struct sockaddr  local = { .sa_family = AF_UNIX };

            sa = &local;

        } else if (ngx_parse_addr(r->pool, &addr, text.data, text.len)
                   == NGX_OK)
        {
            sa = addr.sockaddr;

        } else {
            return 0;
        }
    }

    return ngx_cidr_match(sa, pcf->trusted) == NGX_OK;
}


/*
 * Lets the upstream modules send our headers, by putting them where they copy
 * the client's from.
 */

ngx_int_t
ngx_http_trace_inject(ngx_http_request_t *r, ngx_http_trace_ctx_t *ctx,
    ngx_http_trace_node_t *node)
{
    u_char                          *text;
    ngx_uint_t                       i, n;
    ngx_http_trace_edit_t            edits[2 * NGX_HTTP_TRACE_PIPELINES];
    ngx_http_trace_span_ctx_t       *sc;
    ngx_http_trace_loc_conf_t       *tlcf;
    ngx_http_trace_pipeline_conf_t  *pcf;

    tlcf = ngx_http_get_module_loc_conf(r, ngx_http_trace_module);

    n = 0;

    for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++) {
        sc = &ctx->pipelines[i];
        pcf = &tlcf->pipelines[i];

        if (!(ctx->recorded & (1 << i))
            || !(pcf->context & NGX_HTTP_TRACE_INJECT))
        {
            continue;
        }

        text = ngx_http_trace_outbound(r, sc, node, i);
        if (text == NULL) {
            return NGX_ERROR;
        }

        ngx_http_trace_set_edit(&edits[n], &pcf->traceparent);
        edits[n].value.data = text;
        edits[n].value.len = TRACEPARENT_LEN;
        n++;

        ngx_http_trace_set_edit(&edits[n], &pcf->tracestate);
        edits[n].value = sc->tracestate;
        n++;
    }

    return n ? ngx_http_trace_edit(r, edits, n) : NGX_OK;
}


/*
 * The traceparent that an upstream of the request is sent: its attempt's, or
 * where attempts have no span that of the request or subrequest.  NULL without
 * memory.
 */

u_char *
ngx_http_trace_outbound(ngx_http_request_t *r, ngx_http_trace_span_ctx_t *sc,
    ngx_http_trace_node_t *node, ngx_uint_t pipeline)
{
    u_char  *text;

    if (node->upstream) {
        text = ngx_http_trace_upstream_text(node->upstream, pipeline);

        if (text) {
            return text;
        }
    }

    return ngx_http_trace_node_text(r, sc, node, pipeline);
}


static ngx_inline void
ngx_http_trace_set_edit(ngx_http_trace_edit_t *edit,
    ngx_http_trace_header_t *header)
{
    edit->header = header;
    edit->hash = header->hash;
    edit->found = NULL;
    edit->n = 0;
}


static ngx_int_t
ngx_http_trace_edit(ngx_http_request_t *r, ngx_http_trace_edit_t *edits,
    ngx_uint_t n)
{
    ngx_uint_t              i, changes, removals;
    ngx_list_part_t        *part;
    ngx_table_elt_t        *h;
    ngx_http_trace_edit_t  *e;

    changes = 0;
    removals = 0;

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {
            e = ngx_http_trace_edited(&h[i], edits, n);

            if (e) {
                e->found = &h[i];
                e->n++;
            }
        }
    }

    for (i = 0; i < n; i++) {
        e = &edits[i];

        if (e->value.len == 0) {
            removals += e->n;

        } else if (e->n != 1 || e->found->value.data != e->value.data) {
            changes++;
            removals += (e->n > 1);
        }
    }

    if (changes + removals == 0) {
        return NGX_OK;
    }

    /* what is shared with a subrequest is changed only in a copy */

    if (removals || r != r->main || r->main->count > 1) {

        if (ngx_http_trace_rebuild(r, edits, n) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    for (i = 0; i < n; i++) {
        e = &edits[i];

        if (e->value.len == 0) {
            continue;
        }

        if (e->found) {
            e->found->key = e->header->name;
            e->found->value = e->value;

        } else if (ngx_http_trace_push(r, e) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_http_trace_edit_t *
ngx_http_trace_edited(ngx_table_elt_t *h, ngx_http_trace_edit_t *edits,
    ngx_uint_t n)
{
    ngx_uint_t  i;

    for (i = 0; i < n; i++) {
        if (h->hash == edits[i].hash
            && ngx_http_trace_is(h, edits[i].header))
        {
            return &edits[i];
        }
    }

    return NULL;
}


/*
 * Gives the request a list of its own, without the headers that are edited.
 * The typed pointers of headers_in stay where they are: none is to ours.
 */

static ngx_int_t
ngx_http_trace_rebuild(ngx_http_request_t *r, ngx_http_trace_edit_t *edits,
    ngx_uint_t n)
{
    ngx_list_t        list;
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h, *copy;

    if (ngx_list_init(&list, r->pool, 20, sizeof(ngx_table_elt_t)) != NGX_OK) {
        return NGX_ERROR;
    }

    part = &r->headers_in.headers.part;
    i = 0;

    while ((h = ngx_http_trace_next_header(&part, &i)) != NULL) {

        if (ngx_http_trace_edited(h, edits, n)) {
            continue;
        }

        copy = ngx_list_push(&list);
        if (copy == NULL) {
            return NGX_ERROR;
        }

        *copy = *h;
    }

    r->headers_in.headers = list;

    if (list.last == &list.part) {
        r->headers_in.headers.last = &r->headers_in.headers.part;
    }

    for (i = 0; i < n; i++) {
        edits[i].found = NULL;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_trace_push(ngx_http_request_t *r, ngx_http_trace_edit_t *edit)
{
    ngx_table_elt_t  *h;

    /* HTTP/0.9 has no list */

    if (r->headers_in.headers.last == NULL
        && ngx_list_init(&r->headers_in.headers, r->pool, 4,
                         sizeof(ngx_table_elt_t))
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    h = ngx_list_push(&r->headers_in.headers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(h, sizeof(ngx_table_elt_t));

    h->hash = edit->header->hash;
    h->key = edit->header->name;
    h->lowcase_key = edit->header->name.data;
    h->value = edit->value;

    return NGX_OK;
}


/* of a list of headers: |*part| is its first part and |*i| 0 to begin with */

ngx_table_elt_t *
ngx_http_trace_next_header(ngx_list_part_t **part, ngx_uint_t *i)
{
    ngx_table_elt_t  *h;

    while (*i >= (*part)->nelts) {

        if ((*part)->next == NULL) {
            return NULL;
        }

        *part = (*part)->next;
        *i = 0;
    }

    h = (*part)->elts;

    return &h[(*i)++];
}
