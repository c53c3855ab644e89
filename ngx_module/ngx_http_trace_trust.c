
/*
 * Whose headers are believed.  What is not goes away before anything sees it,
 * and comes back where a location believes more than its server does.
 */


#include "ngx_http_trace_module.h"


static ngx_int_t ngx_http_trace_http_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_uint_t ngx_http_trace_present(ngx_http_request_t *r,
    ngx_http_trace_pipeline_conf_t *pcf);
static ngx_uint_t ngx_http_trace_trusted_address(ngx_http_request_t *r,
    ngx_http_trace_pipeline_conf_t *pcf);


static ngx_http_get_variable_pt  ngx_http_trace_next_variable;


/*
 * At the start of a request, or of its location, where only addresses are
 * known: realip's may still come, and so may variables.
 */

void
ngx_http_trace_distrust(ngx_http_request_t *r)
{
    ngx_uint_t                       i;
    ngx_http_trace_loc_conf_t       *tlcf;
    ngx_http_trace_pipeline_conf_t  *pcf;

    tlcf = ngx_http_get_module_loc_conf(r, ngx_http_trace_module);

    for (i = 0; i < NGX_HTTP_TRACE_PIPELINES; i++) {
        pcf = &tlcf->pipelines[i];

        if (!pcf->believe_all
            && (pcf->trust_realip
                || !ngx_http_trace_trusted_address(r, pcf)))
        {
            (void) ngx_http_trace_withhold(r, pcf, i,
                                           NGX_HTTP_TRACE_NOT_BELIEVED);
        }
    }
}


/*
 * A request that nginx could not read has no phases, but an error page with
 * variables, and a log.
 */

void
ngx_http_trace_distrust_unread(ngx_http_request_t *r)
{
    if (r->phase_handler == 0 && !r->internal) {
        ngx_http_trace_distrust(r);
    }
}


/* so $http_... asks first, and tells of what is only taken out for upstreams */

void
ngx_http_trace_wrap_variables(ngx_conf_t *cf)
{
    ngx_uint_t                  i;
    ngx_http_variable_t        *v;
    ngx_http_core_main_conf_t  *cmcf;

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    v = cmcf->prefix_variables.elts;

    for (i = 0; i < cmcf->prefix_variables.nelts; i++) {

        if (v[i].name.len == sizeof("http_") - 1
            && ngx_strncmp(v[i].name.data, "http_", v[i].name.len) == 0)
        {
            ngx_http_trace_next_variable = v[i].get_handler;
            v[i].get_handler = ngx_http_trace_http_variable;
        }
    }
}


static ngx_int_t
ngx_http_trace_http_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t *name = (ngx_str_t *) data;

    ngx_uint_t                        i;
    ngx_http_variable_value_t        *kept;
    ngx_http_trace_loc_conf_t        *tlcf;
    ngx_http_trace_control_header_t  *control;

    ngx_http_trace_distrust_unread(r);

    tlcf = ngx_http_get_module_loc_conf(r, ngx_http_trace_module);

    if (tlcf->control) {
        control = tlcf->control->elts;

        for (i = 0; i < tlcf->control->nelts; i++) {
            kept = &r->variables[control[i].variable];

            if (kept->valid
                && control[i].name.len == name->len
                && ngx_strncmp(control[i].name.data, name->data, name->len)
                   == 0)
            {
                *v = *kept;
                return NGX_OK;
            }
        }
    }

    return ngx_http_trace_next_variable(r, v, data);
}


/*
 * The answer that counts.  NGX_ERROR without memory: then nothing is to be
 * begun that would continue what is not believed.
 */

ngx_int_t
ngx_http_trace_believe(ngx_http_request_t *r,
    ngx_http_trace_pipeline_conf_t *pcf, ngx_uint_t pipeline)
{
    ngx_int_t                   rc;
    ngx_http_trace_ctx_t       *ctx;
    ngx_http_trace_span_ctx_t  *sc;

    if (pcf->believe_all || ngx_http_trace_trusted(r, pcf)) {
        rc = ngx_http_trace_give_back(r, pcf, pipeline,
                                      NGX_HTTP_TRACE_NOT_BELIEVED);

        if (rc == NGX_DONE) {
            ngx_http_trace_get_ctx(r)->given_back |= 1 << pipeline;
        }

    } else {
        ctx = ngx_http_trace_get_ctx(r);

        if (ctx && ctx->withheld[NGX_HTTP_TRACE_NOT_MEANT]) {

            /* believed until now, and not to come back for another reason */

            ctx->withheld[NGX_HTTP_TRACE_NOT_MEANT] &= ~(1 << pipeline);
        }

        rc = ngx_http_trace_withhold(r, pcf, pipeline,
                                     NGX_HTTP_TRACE_NOT_BELIEVED);

        if (ctx && rc != NGX_ERROR) {
            ctx->given_back &= ~(1 << pipeline);
        }
    }

    ctx = ngx_http_trace_get_ctx(r);

    if (ctx && (rc == NGX_DONE || pcf->from)) {

        /* what was read before is to be read anew */

        sc = &ctx->pipelines[pipeline];

        if (sc->extracted) {
            sc->extracted = NGX_CONF_UNSET_PTR;
        }
    }

    return rc;
}


ngx_uint_t
ngx_http_trace_trusted(ngx_http_request_t *r,
    ngx_http_trace_pipeline_conf_t *pcf)
{
    if (pcf->trust_if && ngx_http_trace_value_true(r, pcf->trust_if)) {
        return 1;
    }

    return ngx_http_trace_trusted_address(r, pcf);
}


static ngx_uint_t
ngx_http_trace_trusted_address(ngx_http_request_t *r,
    ngx_http_trace_pipeline_conf_t *pcf)
{
    ngx_str_t         text;
    ngx_addr_t        addr;
    struct sockaddr  *sa;

    if (pcf->trusted == NULL || pcf->trusted->nelts == 0) {
        return 0;
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
 * Takes the headers of a pipeline out of the request, for one of two reasons;
 * results as of ngx_http_trace_edit().  Without memory it is noted that they
 * are to go, so that nothing is begun with them.
 */

ngx_int_t
ngx_http_trace_withhold(ngx_http_request_t *r,
    ngx_http_trace_pipeline_conf_t *pcf, ngx_uint_t pipeline,
    ngx_uint_t reason)
{
    ngx_int_t               rc;
    ngx_uint_t              before;
    ngx_list_t              received;
    ngx_http_trace_ctx_t   *ctx;
    ngx_http_trace_edit_t   edits[2];

    if (!ngx_http_trace_present(r, pcf)) {
        return NGX_OK;
    }

    ctx = ngx_http_trace_own_ctx(r);
    if (ctx == NULL) {
        return NGX_ERROR;
    }

    before = ctx->withheld[reason];
    received = r->headers_in.headers;

    ctx->withheld[reason] |= 1 << pipeline;

    ngx_http_trace_removals(edits, pcf->names, 0);

    rc = ngx_http_trace_edit(r, edits, 2);

    /* what we have written can be written again */

    if (rc == NGX_OK || (rc == NGX_DONE && (ctx->sent & (1 << pipeline)))) {
        ctx->withheld[reason] = before;

    } else if (rc == NGX_DONE) {
        ctx->received[reason][pipeline] = received;
        ctx->edits = 1;
    }

    return rc;
}


/* as most requests have none, a look at lengths and first letters does it */

static ngx_uint_t
ngx_http_trace_present(ngx_http_request_t *r,
    ngx_http_trace_pipeline_conf_t *pcf)
{
    size_t            len;
    u_char            ch;
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    len = pcf->names->tracestate.name.len;
    ch = pcf->names->tracestate.name.data[0];

    /* "traceparent" is longer by one */

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {
            if (h[i].key.len - len <= 1
                && ngx_tolower(h[i].key.data[0]) == ch)
            {
                return 1;
            }
        }
    }

    return 0;
}


ngx_int_t
ngx_http_trace_give_back(ngx_http_request_t *r,
    ngx_http_trace_pipeline_conf_t *pcf, ngx_uint_t pipeline,
    ngx_uint_t reason)
{
    ngx_http_trace_ctx_t   *ctx;
    ngx_http_trace_edit_t   edits[2];

    ctx = ngx_http_trace_get_ctx(r);

    if (ctx == NULL || !(ctx->withheld[reason] & (1 << pipeline))
        || (ctx->sent & (1 << pipeline)))
    {
        return NGX_OK;
    }

    ngx_http_trace_removals(edits, pcf->names, 0);

    return ngx_http_trace_restore(r, &ctx->received[reason][pipeline], edits,
                                  2);
}
