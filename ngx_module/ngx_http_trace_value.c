
/*
 * Values of directives: a variable alone, as most are, which is read by its
 * index, or a string with variables.
 */


#include "ngx_http_trace_module.h"


/* more than most configurations have; others take memory of the pool */
#define NGX_HTTP_TRACE_VARIABLES      64


static ngx_int_t ngx_http_trace_value_names(ngx_conf_t *cf,
    ngx_str_t *directive, ngx_str_t *text, ngx_str_t *alone);
static ngx_uint_t ngx_http_trace_value_plain(ngx_str_t *name);
static ngx_int_t ngx_http_trace_value_look(ngx_http_request_t *r,
    ngx_http_trace_value_t *value, ngx_str_t *text);
static NGX_HTTP_TRACE_APART ngx_int_t ngx_http_trace_value_undo(
    ngx_http_request_t *r, ngx_http_trace_value_t *value, ngx_str_t *text);
static ngx_uint_t ngx_http_trace_value_known(ngx_http_core_main_conf_t *cmcf,
    ngx_str_t *name);


/* NGX_ERROR with a message */

ngx_int_t
ngx_http_trace_value_compile(ngx_conf_t *cf, ngx_str_t *directive,
    ngx_str_t *text, ngx_http_trace_value_t *value)
{
    ngx_str_t                         alone;
    ngx_http_compile_complex_value_t  ccv;

    if (ngx_http_trace_value_names(cf, directive, text, &alone) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_memzero(value, sizeof(ngx_http_trace_value_t));
    ngx_memzero(&ccv, sizeof(ngx_http_compile_complex_value_t));

    ccv.cf = cf;
    ccv.value = text;
    ccv.complex_value = &value->complex;

    if (ngx_http_compile_complex_value(&ccv) != NGX_OK) {
        return NGX_ERROR;
    }

    value->variable = NGX_ERROR;

    if (alone.len) {
        value->variable = ngx_http_get_variable_index(cf, &alone);

        if (value->variable == NGX_ERROR) {
            return NGX_ERROR;
        }

        value->plain = ngx_http_trace_value_plain(&alone);
    }

    return NGX_OK;
}


/* nginx's own that are read from the request, and nowhere kept */

static ngx_uint_t
ngx_http_trace_value_plain(ngx_str_t *name)
{
    ngx_uint_t  i;

    static ngx_str_t  names[] = {
        ngx_string("host"),
        ngx_string("server_name"),
        ngx_string("remote_addr"),
        ngx_string("ssl_server_name"),
        ngx_string("ssl_client_s_dn"),
        ngx_null_string
    };

    static ngx_str_t  prefixes[] = {
        ngx_string("http_"),
        ngx_string("cookie_"),
        ngx_string("arg_"),
        ngx_null_string
    };

    for (i = 0; names[i].len; i++) {
        if (name->len == names[i].len
            && ngx_strncasecmp(name->data, names[i].data, name->len) == 0)
        {
            return 1;
        }
    }

    for (i = 0; prefixes[i].len; i++) {
        if (name->len > prefixes[i].len
            && ngx_strncasecmp(name->data, prefixes[i].data, prefixes[i].len)
               == 0)
        {
            return 1;
        }
    }

    return 0;
}


/* the same in memory of its own; NULL with a message */

ngx_http_trace_value_t *
ngx_http_trace_value_new(ngx_conf_t *cf, ngx_str_t *directive,
    ngx_str_t *text)
{
    ngx_http_trace_value_t  *value;

    value = ngx_palloc(cf->pool, sizeof(ngx_http_trace_value_t));

    if (value == NULL
        || ngx_http_trace_value_compile(cf, directive, text, value) != NGX_OK)
    {
        return NULL;
    }

    return value;
}


/* the same of one that must not depend on what this module makes */

ngx_http_trace_value_t *
ngx_http_trace_value_foreign(ngx_conf_t *cf, ngx_str_t *directive,
    ngx_str_t *text)
{
    ngx_uint_t                       n;
    ngx_http_trace_value_t          *value;
    ngx_http_trace_main_conf_t      *tmcf;
    ngx_http_trace_variable_name_t  *used;

    tmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_trace_module);

    n = tmcf->variables.nelts;

    value = ngx_http_trace_value_new(cf, directive, text);
    if (value == NULL) {
        return NULL;
    }

    used = tmcf->variables.elts;

    for ( /* void */ ; n < tmcf->variables.nelts; n++) {

        if (ngx_http_trace_own_variable(&used[n].name)) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"%V\" in \"%V\" is a variable of this "
                               "module, write one that a header, a \"map\" or "
                               "a script sets", text, directive);
            return NULL;
        }
    }

    return value;
}


/* notes the variables; |alone| is the one that is all of the text, or empty */

static ngx_int_t
ngx_http_trace_value_names(ngx_conf_t *cf, ngx_str_t *directive,
    ngx_str_t *text, ngx_str_t *alone)
{
    u_char                          *p, *last;
    ngx_str_t                        name;
    ngx_uint_t                       bracket;
    ngx_http_trace_main_conf_t      *tmcf;
    ngx_http_trace_variable_name_t  *used;

    ngx_str_null(alone);

    tmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_trace_module);

    last = text->data + text->len;

    for (p = text->data; p < last; /* void */) {

        if (*p++ != '$') {
            continue;
        }

        bracket = (p < last && *p == '{');
        p += bracket;

        name.data = p;

        while (p < last
               && ((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z')
                   || (*p >= '0' && *p <= '9') || *p == '_'))
        {
            p++;
        }

        name.len = p - name.data;
        p += bracket;

        if (name.len == 0) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "no name behind \"$\" in \"%V\" of \"%V\", "
                               "write that of a variable", text, directive);
            return NGX_ERROR;
        }

        /* captures have none */

        if (name.data[0] >= '1' && name.data[0] <= '9') {
            continue;
        }

        used = ngx_array_push(&tmcf->variables);
        if (used == NULL) {
            return NGX_ERROR;
        }

        used->name = name;
        used->directive = *directive;
        used->file = cf->conf_file->file.name;
        used->line = cf->conf_file->line;

        if (name.data == text->data + 1 && p == last) {
            *alone = name;
        }
    }

    return NGX_OK;
}


/*
 * nginx itself finds a variable that does not exist, but tells nothing of
 * where it was written.
 */

ngx_int_t
ngx_http_trace_values_check(ngx_conf_t *cf, ngx_http_trace_main_conf_t *tmcf)
{
    ngx_uint_t                       i;
    ngx_http_core_main_conf_t       *cmcf;
    ngx_http_trace_variable_name_t  *used;

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    used = tmcf->variables.elts;

    for (i = 0; i < tmcf->variables.nelts; i++) {

        if (!ngx_http_trace_value_known(cmcf, &used[i].name)) {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "unknown variable \"%V\" in \"%V\" in %V:%ui, write "
                          "one that nginx has, or define it with \"map\" or "
                          "\"set\"", &used[i].name, &used[i].directive,
                          &used[i].file, used[i].line);
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_uint_t
ngx_http_trace_value_known(ngx_http_core_main_conf_t *cmcf, ngx_str_t *name)
{
    ngx_uint_t            i;
    ngx_hash_key_t       *key;
    ngx_http_variable_t  *prefix;

    key = cmcf->variables_keys->keys.elts;

    for (i = 0; i < cmcf->variables_keys->keys.nelts; i++) {
        if (key[i].key.len == name->len
            && ngx_strncasecmp(key[i].key.data, name->data, name->len) == 0)
        {
            return 1;
        }
    }

    prefix = cmcf->prefix_variables.elts;

    for (i = 0; i < cmcf->prefix_variables.nelts; i++) {
        if (prefix[i].name.len <= name->len
            && ngx_strncasecmp(prefix[i].name.data, name->data,
                               prefix[i].name.len)
               == 0)
        {
            return 1;
        }
    }

    return 0;
}


/* NGX_ERROR without memory; a variable that is not found is empty */

ngx_int_t
ngx_http_trace_value_read(ngx_http_request_t *r, ngx_http_trace_value_t *value,
    ngx_str_t *text)
{
    ngx_http_variable_value_t  *v;

    if (value->variable == NGX_ERROR) {
        return ngx_http_complex_value(r, &value->complex, text);
    }

    v = ngx_http_get_flushed_variable(r, value->variable);

    if (v == NULL) {
        return NGX_ERROR;
    }

    text->len = v->not_found ? 0 : v->len;
    text->data = v->data;

    return NGX_OK;
}


/*
 * The value of this moment, of one that is to be read later: what variables
 * are asked for it is forgotten, since they may have other values then.
 */

ngx_int_t
ngx_http_trace_value_peek(ngx_http_request_t *r, ngx_http_trace_value_t *value,
    ngx_str_t *text)
{
    ngx_http_variable_value_t  *v;

    if (value->variable == NGX_ERROR) {

        if (value->complex.lengths == NULL) {
            *text = value->complex.value;
            return NGX_OK;
        }

    } else {
        v = &r->variables[value->variable];

        if (v->valid && !v->no_cacheable) {
            text->len = v->len;
            text->data = v->data;
            return NGX_OK;
        }

        if (value->plain) {
            return ngx_http_trace_value_look(r, value, text);
        }
    }

    return ngx_http_trace_value_undo(r, value, text);
}


static ngx_int_t
ngx_http_trace_value_look(ngx_http_request_t *r, ngx_http_trace_value_t *value,
    ngx_str_t *text)
{
    ngx_http_variable_t        *var;
    ngx_http_variable_value_t   v;
    ngx_http_core_main_conf_t  *cmcf;

    cmcf = ngx_http_get_module_main_conf(r, ngx_http_core_module);
    var = cmcf->variables.elts;
    var += value->variable;

    ngx_memzero(&v, sizeof(ngx_http_variable_value_t));

    if (var->get_handler(r, &v, var->data) != NGX_OK) {
        return NGX_ERROR;
    }

    text->len = v.not_found ? 0 : v.len;
    text->data = v.data;

    return NGX_OK;
}


static ngx_int_t
ngx_http_trace_value_undo(ngx_http_request_t *r, ngx_http_trace_value_t *value,
    ngx_str_t *text)
{
    int                        *captures;
    u_char                     *captures_data;
    size_t                      size;
    ngx_int_t                   rc;
    ngx_uint_t                  ncaptures;
    ngx_http_variable_value_t   few[NGX_HTTP_TRACE_VARIABLES];
    ngx_http_variable_value_t  *variables;
    ngx_http_core_main_conf_t  *cmcf;

    cmcf = ngx_http_get_module_main_conf(r, ngx_http_core_module);

    size = cmcf->variables.nelts * sizeof(ngx_http_variable_value_t);

    variables = few;

    if (size > sizeof(few)) {
        variables = ngx_palloc(r->pool, size);
        if (variables == NULL) {
            return NGX_ERROR;
        }
    }

    /* "map" may match an expression, whose captures are the request's */

    captures = r->captures;
    ncaptures = r->ncaptures;
    captures_data = r->captures_data;

    if (captures) {
        r->captures = ngx_palloc(r->pool, cmcf->ncaptures * sizeof(int));

        if (r->captures == NULL) {
            r->captures = captures;
            return NGX_ERROR;
        }

        ngx_memcpy(r->captures, captures, cmcf->ncaptures * sizeof(int));
    }

    ngx_memcpy(variables, r->variables, size);

    rc = ngx_http_trace_value_read(r, value, text);

    ngx_memcpy(r->variables, variables, size);

    r->captures = captures;
    r->ncaptures = ncaptures;
    r->captures_data = captures_data;

    return rc;
}


/* of an "if=" and the like: what is neither empty nor 0 */

ngx_uint_t
ngx_http_trace_value_true(ngx_http_request_t *r, ngx_http_trace_value_t *value)
{
    ngx_str_t  text;

    return ngx_http_trace_value_read(r, value, &text) == NGX_OK
           && text.len
           && !(text.len == 1 && text.data[0] == '0');
}
