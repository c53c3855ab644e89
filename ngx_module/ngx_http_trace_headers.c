
/*
 * The list of a request's headers: what is set in it, taken out of it, and
 * brought back.
 */


#include "ngx_http_trace_module.h"


static ngx_http_trace_edit_t *ngx_http_trace_edited(ngx_table_elt_t *h,
    ngx_http_trace_edit_t *edits, ngx_uint_t n);
static NGX_HTTP_TRACE_APART ngx_int_t ngx_http_trace_rebuild(
    ngx_http_request_t *r, ngx_http_trace_edit_t *edits, ngx_uint_t n);
static ngx_list_part_t *ngx_http_trace_cut_part(ngx_http_request_t *r,
    ngx_list_t *list, ngx_table_elt_t *h);
static ngx_int_t ngx_http_trace_push(ngx_http_request_t *r,
    ngx_http_trace_edit_t *edit);


/* a header that the request is to have once; without a value, not at all */

void
ngx_http_trace_set_edit(ngx_http_trace_edit_t *edit,
    ngx_http_trace_header_t *header, u_char *value, size_t len)
{
    edit->header = header;
    edit->value.data = value;
    edit->value.len = len;
    edit->own = 0;
    edit->found = NULL;
    edit->n = 0;
}


/*
 * Two edits: both headers of a context are to go; with |own|, those that we
 * have written, and none that came in.
 */

void
ngx_http_trace_removals(ngx_http_trace_edit_t *edits,
    ngx_http_trace_names_t *names, ngx_uint_t own)
{
    ngx_http_trace_set_edit(&edits[0], &names->traceparent, NULL, 0);
    ngx_http_trace_set_edit(&edits[1], &names->tracestate, NULL, 0);

    edits[0].own = own;
    edits[1].own = own;
}


/* NGX_OK if all was so already, NGX_DONE if it is now, NGX_ERROR */

ngx_int_t
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
            e->found->hash = e->header->hash;
            e->found->key = e->header->name;
            e->found->lowcase_key = e->header->name.data;
            e->found->value = e->value;

        } else if (ngx_http_trace_push(r, e) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    return NGX_DONE;
}


/*
 * Brings back what |edits| take out and |list| has, unless the request has it
 * by now: the same results.
 */

ngx_int_t
ngx_http_trace_restore(ngx_http_request_t *r, ngx_list_t *list,
    ngx_http_trace_edit_t *edits, ngx_uint_t n)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h, *copy;

    part = &r->headers_in.headers.part;
    i = 0;

    while ((h = ngx_http_trace_next_header(&part, &i)) != NULL) {
        if (ngx_http_trace_edited(h, edits, n)) {
            return NGX_OK;
        }
    }

    if (ngx_http_trace_rebuild(r, edits, n) != NGX_OK) {
        return NGX_ERROR;
    }

    part = &list->part;
    i = 0;

    while ((h = ngx_http_trace_next_header(&part, &i)) != NULL) {

        if (ngx_http_trace_edited(h, edits, n) == NULL) {
            continue;
        }

        copy = ngx_list_push(&r->headers_in.headers);
        if (copy == NULL) {
            return NGX_ERROR;
        }

        *copy = *h;
    }

    return NGX_DONE;
}


/*
 * Whatever the case of a name, and with "_" for "-": for $http_..., FastCGI and
 * its like the two are one.
 */

static ngx_http_trace_edit_t *
ngx_http_trace_edited(ngx_table_elt_t *h, ngx_http_trace_edit_t *edits,
    ngx_uint_t n)
{
    u_char      ch;
    size_t      k;
    ngx_uint_t  i;
    ngx_str_t  *name;

    for (i = 0; i < n; i++) {
        name = &edits[i].header->name;

        if (h->key.len != name->len
            || (h->key.data[0] | 0x20) != name->data[0]
            || (edits[i].own && h->key.data != name->data))
        {
            continue;
        }

        for (k = 0; k < name->len; k++) {
            ch = ngx_tolower(h->key.data[k]);

            if (ch != name->data[k] && !(ch == '_' && name->data[k] == '-')) {
                break;
            }
        }

        if (k == name->len) {
            return &edits[i];
        }
    }

    return NULL;
}


/*
 * Gives the request a list of its own, without the headers that are edited.
 * The others stay where they are, in parts that are cut anew: what is changed
 * by a typed pointer of headers_in is what is sent.
 */

static ngx_int_t
ngx_http_trace_rebuild(ngx_http_request_t *r, ngx_http_trace_edit_t *edits,
    ngx_uint_t n)
{
    ngx_list_t        list;
    ngx_uint_t        i;
    ngx_list_part_t  *part, *cut;
    ngx_table_elt_t  *h;

    ngx_memzero(&list, sizeof(ngx_list_t));

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        h = part->elts;
        cut = NULL;

        for (i = 0; i < part->nelts; i++) {

            if (ngx_http_trace_edited(&h[i], edits, n)) {
                cut = NULL;
                continue;
            }

            if (cut == NULL) {
                cut = ngx_http_trace_cut_part(r, &list, &h[i]);

                if (cut == NULL) {
                    return NGX_ERROR;
                }
            }

            cut->nelts++;
        }
    }

    for (i = 0; i < n; i++) {
        edits[i].found = NULL;
    }

    if (list.last == NULL) {
        return ngx_list_init(&r->headers_in.headers, r->pool, 4,
                             sizeof(ngx_table_elt_t));
    }

    /* full: what is added has a part of its own */

    list.nalloc = list.last->nelts;
    list.size = sizeof(ngx_table_elt_t);
    list.pool = r->pool;

    r->headers_in.headers = list;

    if (list.last == &list.part) {
        r->headers_in.headers.last = &r->headers_in.headers.part;
    }

    return NGX_OK;
}


/* one more, that begins with |h| and is empty yet */

static ngx_list_part_t *
ngx_http_trace_cut_part(ngx_http_request_t *r, ngx_list_t *list,
    ngx_table_elt_t *h)
{
    ngx_list_part_t  *cut;

    cut = &list->part;

    if (list->last) {
        cut = ngx_palloc(r->pool, sizeof(ngx_list_part_t));
        if (cut == NULL) {
            return NULL;
        }

        list->last->next = cut;
    }

    cut->elts = h;
    cut->nelts = 0;
    cut->next = NULL;

    list->last = cut;

    return cut;
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
