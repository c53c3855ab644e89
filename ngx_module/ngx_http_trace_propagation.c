
/*
 * The context: in, from the headers or from a variable, and out.
 */


#include "ngx_http_trace_module.h"


static void ngx_http_trace_extract_from(ngx_http_request_t *r,
    ngx_http_trace_pipeline_conf_t *pcf, ngx_http_trace_span_ctx_t *sc);
static void ngx_http_trace_extract_tracestate(ngx_http_request_t *r,
    ngx_http_trace_header_t *name, ngx_http_trace_span_ctx_t *sc,
    ngx_uint_t n);
static void ngx_http_trace_extract_value(ngx_http_request_t *r,
    ngx_http_trace_pipeline_conf_t *pcf, ngx_http_trace_span_ctx_t *sc);
static ngx_inline ngx_uint_t ngx_http_trace_sends(
    ngx_http_trace_pipeline_conf_t *pcf, ngx_http_upstream_srv_conf_t *us);
static NGX_HTTP_TRACE_APART ngx_int_t ngx_http_trace_undo(
    ngx_http_request_t *r, ngx_http_trace_ctx_t *ctx,
    ngx_http_upstream_srv_conf_t *us);
static ngx_uint_t ngx_http_trace_to(ngx_http_trace_to_t *to,
    ngx_http_upstream_srv_conf_t *us);


/* of a name that is as long */

#define ngx_http_trace_is(h, name_)                                           \
    ((h)->hash == (name_)->hash                                               \
     && ngx_strncmp((h)->lowcase_key, (name_)->name.data,                     \
                    (name_)->name.len) == 0)


/*
 * Reads the context that a location says.  What another one has read before,
 * for a variable, counts no more, and nor do ids that were made of it.
 */

void
ngx_http_trace_extract(ngx_http_request_t *r,
    ngx_http_trace_pipeline_conf_t *pcf, ngx_http_trace_span_ctx_t *sc)
{
    unsigned       parent;
    traceparent_t  inbound;

    if (sc->extracted == pcf) {
        return;
    }

    if (sc->extracted == NULL) {
        sc->extracted = pcf;
        ngx_http_trace_extract_from(r, pcf, sc);
        return;
    }

    parent = sc->parent;
    inbound = sc->inbound;

    sc->extracted = pcf;
    sc->parent = 0;
    sc->stateless = 0;
    sc->tracestate.len = 0;

    ngx_http_trace_extract_from(r, pcf, sc);

    if (sc->parent != parent
        || (parent
            && (ngx_memcmp(sc->inbound.trace_id, inbound.trace_id,
                           TRACEPARENT_TRACE_ID_SIZE) != 0
                || sc->inbound.flags != inbound.flags)))
    {
        sc->ids = 0;
        sc->formatted = 0;
    }
}


static void
ngx_http_trace_extract_from(ngx_http_request_t *r,
    ngx_http_trace_pipeline_conf_t *pcf, ngx_http_trace_span_ctx_t *sc)
{
    size_t                   len;
    ngx_uint_t               i, n, states, possible;
    ngx_list_part_t         *part;
    ngx_table_elt_t         *h, *found, *state;
    traceparent_view_t       list;
    ngx_http_trace_names_t  *names;

    if (!(pcf->context & NGX_HTTP_TRACE_EXTRACT)) {
        return;
    }

    if (pcf->from) {
        ngx_http_trace_extract_value(r, pcf, sc);
        return;
    }

    names = pcf->names;

    n = 0;
    states = 0;
    possible = 0;
    found = NULL;
    state = NULL;

    /* "traceparent" is longer by one than "tracestate" */

    len = names->tracestate.name.len;

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (h[i].key.len - len > 1) {
                continue;
            }

            if (h[i].key.len > len) {

                if (ngx_http_trace_is(&h[i], &names->traceparent)) {
                    found = &h[i];
                    n++;
                }

                continue;
            }

            possible |= (ngx_tolower(h[i].key.data[0])
                         == names->tracestate.name.data[0]);

            if (ngx_http_trace_is(&h[i], &names->tracestate)) {
                state = &h[i];
                states++;
            }
        }
    }

    sc->stateless = !possible;

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
        ngx_http_trace_extract_tracestate(r, &names->tracestate, sc, states);
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

        if (h->key.len == name->name.len && ngx_http_trace_is(h, name)
            && h->value.len)
        {
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
 * The tracestate is the header's, and goes with that.  A variable may have
 * bytes that no header has, and that must not get into one.
 */

static void
ngx_http_trace_extract_value(ngx_http_request_t *r,
    ngx_http_trace_pipeline_conf_t *pcf, ngx_http_trace_span_ctx_t *sc)
{
    size_t     i;
    ngx_str_t  value;

    if (!(pcf->believe_all || ngx_http_trace_trusted(r, pcf))
        || ngx_http_trace_value_read(r, pcf->from, &value) != NGX_OK
        || traceparent_parse(&sc->inbound, value.data, value.len) != 0)
    {
        return;
    }

    for (i = 0; i < value.len; i++) {
        if ((value.data[i] < ' ' && value.data[i] != '\t')
            || value.data[i] == 0x7f)
        {
            return;
        }
    }

    sc->parent = 1;
    sc->received = value;
}


/*
 * Lets the upstream modules send our headers, by putting them where they copy
 * the client's from.  |us| is the upstream that will get them, or NULL if it
 * is not known.  Results as of ngx_http_trace_edit().
 */

ngx_int_t
ngx_http_trace_inject(ngx_http_request_t *r, ngx_http_trace_ctx_t *ctx,
    ngx_http_trace_node_t *node, ngx_http_upstream_srv_conf_t *us)
{
    u_char                          *text;
    ngx_int_t                        rc, set;
    ngx_uint_t                       i, n;
    ngx_http_trace_edit_t            edits[2 * NGX_HTTP_TRACE_PIPELINES];
    ngx_http_trace_span_ctx_t       *sc;
    ngx_http_trace_loc_conf_t       *tlcf;
    ngx_http_trace_pipeline_conf_t  *pcf;

    tlcf = ngx_http_get_module_loc_conf(r, ngx_http_trace_module);

    n = 0;
    rc = ctx->sent ? ngx_http_trace_undo(r, ctx, us) : NGX_OK;

    if (rc == NGX_ERROR) {
        return NGX_ERROR;
    }

    for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++) {
        sc = &ctx->pipelines[i];
        pcf = &tlcf->pipelines[i];

        if (!(ctx->ours & (1 << i)) || !ngx_http_trace_sends(pcf, us)) {
            continue;
        }

        text = ngx_http_trace_outbound(r, sc, node, i);
        if (text == NULL) {
            return NGX_ERROR;
        }

        ngx_http_trace_set_edit(&edits[n++], &pcf->names->traceparent, text,
                                TRACEPARENT_LEN);

        if (sc->tracestate.len || !sc->stateless || sc->extracted != pcf) {
            ngx_http_trace_set_edit(&edits[n++], &pcf->names->tracestate,
                                    sc->tracestate.data, sc->tracestate.len);
        }

        ctx->sent |= 1 << i;
    }

    if (n == 0) {
        return rc;
    }

    set = ngx_http_trace_edit(r, edits, n);

    return set == NGX_OK ? rc : set;
}


static ngx_inline ngx_uint_t
ngx_http_trace_sends(ngx_http_trace_pipeline_conf_t *pcf,
    ngx_http_upstream_srv_conf_t *us)
{
    return (pcf->context & NGX_HTTP_TRACE_INJECT)
           && (pcf->to == NULL || ngx_http_trace_to(pcf->to, us));
}


/*
 * What other locations have written does not leave from this one, which writes
 * its own or nothing.  Results as of ngx_http_trace_edit().
 */

static ngx_int_t
ngx_http_trace_undo(ngx_http_request_t *r, ngx_http_trace_ctx_t *ctx,
    ngx_http_upstream_srv_conf_t *us)
{
    ngx_int_t                         rc, changed;
    ngx_uint_t                        i, n;
    ngx_http_trace_edit_t             edits[2];
    ngx_http_trace_names_t          **names;
    ngx_http_trace_loc_conf_t        *tlcf;
    ngx_http_trace_main_conf_t       *tmcf;
    ngx_http_trace_pipeline_conf_t   *pcf;

    tmcf = ngx_http_get_module_main_conf(r, ngx_http_trace_module);
    tlcf = ngx_http_get_module_loc_conf(r, ngx_http_trace_module);

    changed = NGX_OK;

    for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++) {
        pcf = &tlcf->pipelines[i];

        if (!(ctx->sent & (1 << i))) {
            continue;
        }

        names = tmcf->names[i].elts;

        for (n = 0; n < tmcf->names[i].nelts; n++) {

            if (names[n] == pcf->names && ngx_http_trace_sends(pcf, us)) {
                continue;
            }

            ngx_http_trace_removals(edits, names[n], 1);

            rc = ngx_http_trace_edit(r, edits, 2);

            if (rc == NGX_ERROR) {
                return NGX_ERROR;
            }

            if (rc == NGX_DONE) {
                changed = NGX_DONE;
            }
        }
    }

    return changed;
}


/*
 * trace_context ... to=: takes out of the request what |us| is not meant to
 * have, and gives back what it is.  Results as of ngx_http_trace_edit().
 */

ngx_int_t
ngx_http_trace_address(ngx_http_request_t *r, ngx_http_upstream_srv_conf_t *us)
{
    ngx_int_t                        rc, changed;
    ngx_uint_t                       i;
    ngx_http_trace_loc_conf_t       *tlcf;
    ngx_http_trace_pipeline_conf_t  *pcf;

    tlcf = ngx_http_get_module_loc_conf(r, ngx_http_trace_module);

    changed = NGX_OK;

    for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++) {
        pcf = &tlcf->pipelines[i];

        if (pcf->to == NULL || ngx_http_trace_to(pcf->to, us)) {
            rc = ngx_http_trace_give_back(r, pcf, i, NGX_HTTP_TRACE_NOT_MEANT);

        } else {
            rc = ngx_http_trace_withhold(r, pcf, i, NGX_HTTP_TRACE_NOT_MEANT);
        }

        if (rc == NGX_ERROR) {
            return NGX_ERROR;
        }

        if (rc == NGX_DONE) {
            changed = NGX_DONE;
        }
    }

    return changed;
}


static ngx_uint_t
ngx_http_trace_to(ngx_http_trace_to_t *to, ngx_http_upstream_srv_conf_t *us)
{
    ngx_uint_t                      i;
    ngx_http_upstream_srv_conf_t  **named;

    named = to->upstreams.elts;

    for (i = 0; i < to->upstreams.nelts; i++) {
        if (named[i] == us) {
            return 1;
        }
    }

    return 0;
}


/* trace_control_header: $http_... keeps what it is to show */

void
ngx_http_trace_control(ngx_http_request_t *r, ngx_array_t *headers)
{
    ngx_uint_t                         i;
    ngx_http_trace_edit_t              edit;
    ngx_http_trace_control_header_t   *control;

    control = headers->elts;

    for (i = 0; i < headers->nelts; i++) {

        (void) ngx_http_get_indexed_variable(r, control[i].variable);

        ngx_http_trace_set_edit(&edit, &control[i].header, NULL, 0);

        (void) ngx_http_trace_edit(r, &edit, 1);
    }
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
