
/*
 * The directives about the headers of a context: trace_context, trace_trusted
 * and trace_control_header.
 */


#include "ngx_http_trace_module.h"


typedef struct {
    ngx_str_t       name;
    ngx_int_t     (*set)(ngx_conf_t *cf, ngx_uint_t pipeline,
                        ngx_http_trace_pipeline_conf_t *pcf, ngx_str_t *value);
    ngx_uint_t      bit;
} ngx_http_trace_context_word_t;


static ngx_int_t ngx_http_trace_context_word(ngx_conf_t *cf,
    ngx_uint_t pipeline, ngx_http_trace_pipeline_conf_t *pcf, ngx_uint_t i,
    ngx_uint_t *given);
static ngx_int_t ngx_http_trace_context_header(ngx_conf_t *cf,
    ngx_uint_t pipeline, ngx_http_trace_pipeline_conf_t *pcf,
    ngx_str_t *value);
static ngx_int_t ngx_http_trace_context_from(ngx_conf_t *cf,
    ngx_uint_t pipeline, ngx_http_trace_pipeline_conf_t *pcf,
    ngx_str_t *value);
static ngx_int_t ngx_http_trace_context_to(ngx_conf_t *cf,
    ngx_uint_t pipeline, ngx_http_trace_pipeline_conf_t *pcf,
    ngx_str_t *value);
static ngx_int_t ngx_http_trace_trust_word(ngx_conf_t *cf,
    ngx_http_trace_pipeline_conf_t *pcf, ngx_str_t *word);
static ngx_int_t ngx_http_trace_trust_if(ngx_conf_t *cf,
    ngx_http_trace_pipeline_conf_t *pcf, ngx_str_t *param);
static ngx_int_t ngx_http_trace_control_header(ngx_conf_t *cf,
    ngx_array_t *headers, ngx_str_t *name);
static ngx_uint_t ngx_http_trace_header_name(ngx_str_t *name);


static ngx_conf_enum_t  ngx_http_trace_contexts[] = {
    { ngx_string("ignore"), NGX_HTTP_TRACE_IGNORE },
    { ngx_string("extract"), NGX_HTTP_TRACE_EXTRACT },
    { ngx_string("inject"), NGX_HTTP_TRACE_INJECT },
    { ngx_string("propagate"), NGX_HTTP_TRACE_PROPAGATE },
    { ngx_null_string, 0 }
};


/* the bit of a mode is 1 */

static ngx_http_trace_context_word_t  ngx_http_trace_context_words[] = {
    { ngx_string("header="), ngx_http_trace_context_header, 2 },
    { ngx_string("from="), ngx_http_trace_context_from, 4 },
    { ngx_string("to="), ngx_http_trace_context_to, 8 },
    { ngx_null_string, NULL, 0 }
};


char *
ngx_http_trace_context(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_trace_loc_conf_t *tlcf = conf;

    ngx_str_t                       *value;
    ngx_int_t                        pipeline;
    ngx_uint_t                       i, given;
    ngx_http_trace_pipeline_conf_t  *pcf;

    value = cf->args->elts;

    pipeline = ngx_http_trace_pipeline(cf, cmd, &value[1]);
    if (pipeline == NGX_ERROR) {
        return NGX_CONF_ERROR;
    }

    pcf = &tlcf->pipelines[pipeline];

    if (pcf->context_given) {
        return "is duplicate";
    }

    given = 0;

    for (i = 2; i < cf->args->nelts; i++) {
        if (ngx_http_trace_context_word(cf, pipeline, pcf, i, &given)
            != NGX_OK)
        {
            return NGX_CONF_ERROR;
        }
    }

    pcf->context_given = given;

    /* the header is read where it is named */

    if (pcf->from == NGX_CONF_UNSET_PTR && pcf->names) {
        pcf->from = NULL;
    }

    if (pcf->from != NGX_CONF_UNSET_PTR && pcf->from
        && pcf->context != NGX_CONF_UNSET_UINT
        && !(pcf->context & NGX_HTTP_TRACE_EXTRACT))
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"from=%V\" in \"trace_context %V\" beside \"%s\", "
                           "which reads nothing, write \"propagate\" or leave "
                           "it out", &pcf->from->complex.value, &value[1],
                           pcf->context == NGX_HTTP_TRACE_INJECT
                           ? "inject" : "ignore");
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_trace_context_word(ngx_conf_t *cf, ngx_uint_t pipeline,
    ngx_http_trace_pipeline_conf_t *pcf, ngx_uint_t i, ngx_uint_t *given)
{
    ngx_str_t                      *args, *word, value;
    ngx_uint_t                      bit;
    ngx_conf_enum_t                *mode;
    ngx_http_trace_context_word_t  *w;

    args = cf->args->elts;
    word = &args[i];

    mode = ngx_http_trace_enum(ngx_http_trace_contexts, word);

    for (w = ngx_http_trace_context_words; w->name.len; w++) {
        if (ngx_strncmp(word->data, w->name.data, w->name.len) == 0) {
            break;
        }
    }

    if (mode == NULL && w->name.len == 0) {

        if (i == 2) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid mode \"%V\" in \"trace_context %V\", "
                               "write \"ignore\", \"extract\", \"inject\" or "
                               "\"propagate\"", word, &args[1]);

        } else {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"%V\" in \"trace_context "
                               "%V\", write \"header=x-op-traceparent\", "
                               "\"from=$variable\" or \"to=name\"", word,
                               &args[1]);
        }

        return NGX_ERROR;
    }

    bit = mode ? 1 : w->bit;

    if (*given & bit) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "duplicate \"%V\" in \"trace_context %V\", leave "
                           "it out", word, &args[1]);
        return NGX_ERROR;
    }

    *given |= bit;

    if (mode) {
        pcf->context = mode->value;
        return NGX_OK;
    }

    value.data = word->data + w->name.len;
    value.len = word->len - w->name.len;

    return w->set(cf, pipeline, pcf, &value);
}


/* the header that is named, and the tracestate beside it */

static ngx_int_t
ngx_http_trace_context_header(ngx_conf_t *cf, ngx_uint_t pipeline,
    ngx_http_trace_pipeline_conf_t *pcf, ngx_str_t *name)
{
    u_char                       *p;
    size_t                        prefix;
    ngx_uint_t                    i;
    ngx_http_trace_names_t       *names, **all, **added;
    ngx_http_trace_main_conf_t   *tmcf;

    static ngx_str_t  parent = ngx_string("traceparent");
    static ngx_str_t  state = ngx_string("tracestate");

    if (!ngx_http_trace_header_name(name)
        || name->len < parent.len
        || ngx_strncasecmp(name->data + name->len - parent.len, parent.data,
                           parent.len)
           != 0)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid header \"%V\" in \"trace_context\", write "
                           "letters, digits and \"-\" in front of "
                           "\"traceparent\", as \"header=x-op-traceparent\"",
                           name);
        return NGX_ERROR;
    }

    tmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_trace_module);

    /* the same names are the same memory, by which ours are told from others */

    all = tmcf->names[pipeline].elts;

    for (i = 0; i < tmcf->names[pipeline].nelts; i++) {
        if (all[i]->traceparent.name.len == name->len
            && ngx_strncasecmp(all[i]->traceparent.name.data, name->data,
                               name->len)
               == 0)
        {
            pcf->names = all[i];
            return NGX_OK;
        }
    }

    prefix = name->len - parent.len;

    names = ngx_palloc(cf->pool, sizeof(ngx_http_trace_names_t));
    added = ngx_array_push(&tmcf->names[pipeline]);
    p = ngx_pnalloc(cf->pool, name->len + prefix + state.len);

    if (names == NULL || added == NULL || p == NULL) {
        return NGX_ERROR;
    }

    names->traceparent.name.len = name->len;
    names->traceparent.name.data = p;
    names->traceparent.hash = ngx_hash_strlow(p, name->data, name->len);

    p += name->len;

    names->tracestate.name.len = prefix + state.len;
    names->tracestate.name.data = p;

    ngx_strlow(p, name->data, prefix);
    ngx_memcpy(p + prefix, state.data, state.len);

    names->tracestate.hash = ngx_hash_key(p, names->tracestate.name.len);

    *added = names;
    pcf->names = names;

    return NGX_OK;
}


static ngx_int_t
ngx_http_trace_context_from(ngx_conf_t *cf, ngx_uint_t pipeline,
    ngx_http_trace_pipeline_conf_t *pcf, ngx_str_t *value)
{
    ngx_str_t  *name;

    static ngx_str_t  directive = ngx_string("trace_context");

    name = &ngx_http_trace_pipeline_names[pipeline];

    if (ngx_http_script_variables_count(value) == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid parameter \"from=%V\" in \"trace_context "
                           "%V\", write a variable, as "
                           "\"from=$http_x_user_context\"", value, name);
        return NGX_ERROR;
    }

    pcf->from = ngx_http_trace_value_foreign(cf, &directive, value);

    return pcf->from ? NGX_OK : NGX_ERROR;
}


/* which upstreams there are is known when all has been read */

static ngx_int_t
ngx_http_trace_context_to(ngx_conf_t *cf, ngx_uint_t pipeline,
    ngx_http_trace_pipeline_conf_t *pcf, ngx_str_t *value)
{
    u_char                       *p, *last, *comma;
    ngx_str_t                    *name;
    ngx_http_trace_to_t          *to, **added;
    ngx_http_trace_main_conf_t   *tmcf;

    if (ngx_strcmp(value->data, "all") == 0) {
        pcf->to = NULL;
        return NGX_OK;
    }

    tmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_trace_module);

    to = ngx_palloc(cf->pool, sizeof(ngx_http_trace_to_t));
    added = ngx_array_push(&tmcf->tos);

    if (to == NULL || added == NULL
        || ngx_array_init(&to->names, cf->pool, 2, sizeof(ngx_str_t))
           != NGX_OK
        || ngx_array_init(&to->upstreams, cf->pool, 2,
                          sizeof(ngx_http_upstream_srv_conf_t *))
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    to->file = cf->conf_file->file.name;
    to->line = cf->conf_file->line;
    to->pipeline = pipeline;

    *added = to;

    last = value->data + value->len;

    for (p = value->data; p <= last; p = comma + 1) {

        comma = ngx_strlchr(p, last, ',');
        comma = comma ? comma : last;

        if (p == comma) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"to=%V\" in "
                               "\"trace_context %V\", write names of "
                               "upstreams, as \"to=backend\", or \"to=all\"",
                               value,
                               &ngx_http_trace_pipeline_names[pipeline]);
            return NGX_ERROR;
        }

        name = ngx_array_push(&to->names);
        if (name == NULL) {
            return NGX_ERROR;
        }

        name->data = p;
        name->len = comma - p;
    }

    pcf->to = to;

    return NGX_OK;
}


/* finds the upstreams that to= names */

ngx_int_t
ngx_http_trace_context_init_conf(ngx_conf_t *cf,
    ngx_http_trace_main_conf_t *tmcf)
{
    ngx_str_t                        *name;
    ngx_uint_t                        i, n, k;
    ngx_http_trace_to_t             **to;
    ngx_http_upstream_srv_conf_t    **uscf, **added;
    ngx_http_upstream_main_conf_t    *umcf;

    umcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_upstream_module);
    uscf = umcf->upstreams.elts;

    to = tmcf->tos.elts;

    for (i = 0; i < tmcf->tos.nelts; i++) {
        name = to[i]->names.elts;

        for (n = 0; n < to[i]->names.nelts; n++) {

            for (k = 0; k < umcf->upstreams.nelts; k++) {
                if (uscf[k]->srv_conf
                    && uscf[k]->host.len == name[n].len
                    && ngx_strncasecmp(uscf[k]->host.data, name[n].data,
                                       name[n].len)
                       == 0)
                {
                    break;
                }
            }

            if (k == umcf->upstreams.nelts) {
                ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                              "no upstream \"%V\" for \"to=\" of "
                              "\"trace_context %V\" in %V:%ui, write the name "
                              "of an \"upstream\" block, or \"all\"",
                              &name[n],
                              &ngx_http_trace_pipeline_names[to[i]->pipeline],
                              &to[i]->file, to[i]->line);
                return NGX_ERROR;
            }

            added = ngx_array_push(&to[i]->upstreams);
            if (added == NULL) {
                return NGX_ERROR;
            }

            *added = uscf[k];
        }
    }

    return NGX_OK;
}


char *
ngx_http_trace_trust(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_trace_loc_conf_t *tlcf = conf;

    ngx_str_t                       *value;
    ngx_int_t                        pipeline;
    ngx_uint_t                       i;
    ngx_http_trace_pipeline_conf_t  *pcf;

    value = cf->args->elts;

    pipeline = ngx_http_trace_pipeline(cf, cmd, &value[1]);
    if (pipeline == NGX_ERROR) {
        return NGX_CONF_ERROR;
    }

    pcf = &tlcf->pipelines[pipeline];

    if (pcf->trust_all != NGX_CONF_UNSET) {
        return "is duplicate";
    }

    pcf->trust_all = 0;

    pcf->trusted = ngx_array_create(cf->pool, 4, sizeof(ngx_cidr_t));
    if (pcf->trusted == NULL) {
        return NGX_CONF_ERROR;
    }

    for (i = 2; i < cf->args->nelts; i++) {
        if (ngx_http_trace_trust_word(cf, pcf, &value[i]) != NGX_OK) {
            return NGX_CONF_ERROR;
        }
    }

    if (pcf->trust_realip && pcf->trusted->nelts == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "no address before \"realip\" in "
                           "\"trace_trusted\", write the networks of the "
                           "clients that are believed");
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_trace_trust_word(ngx_conf_t *cf, ngx_http_trace_pipeline_conf_t *pcf,
    ngx_str_t *word)
{
    ngx_int_t    rc;
    ngx_cidr_t  *cidr;

    if (ngx_strcmp(word->data, "all") == 0) {
        pcf->trust_all = 1;
        return NGX_OK;
    }

    if (ngx_strcmp(word->data, "realip") == 0) {
        pcf->trust_realip = 1;
        return NGX_OK;
    }

    if (ngx_strncmp(word->data, "if=", 3) == 0) {
        return ngx_http_trace_trust_if(cf, pcf, word);
    }

    cidr = ngx_array_push(pcf->trusted);
    if (cidr == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(cidr, sizeof(ngx_cidr_t));

    if (ngx_strcmp(word->data, "unix:") == 0) {
        cidr->family = AF_UNIX;
        return NGX_OK;
    }

    rc = ngx_ptocidr(word, cidr);

    if (rc == NGX_ERROR) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid address \"%V\" in \"trace_trusted\", "
                           "write an address, a network as "
                           "\"192.0.2.0/24\", \"unix:\", \"all\" or "
                           "\"if=$variable\"", word);
        return NGX_ERROR;
    }

    if (rc == NGX_DONE) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "network \"%V\" in \"trace_trusted\" has bits "
                           "behind its mask, write the first address of "
                           "the network or a longer mask", word);
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_trace_trust_if(ngx_conf_t *cf, ngx_http_trace_pipeline_conf_t *pcf,
    ngx_str_t *param)
{
    ngx_str_t  value;

    static ngx_str_t  directive = ngx_string("trace_trusted");

    value.data = param->data + 3;
    value.len = param->len - 3;

    if (pcf->trust_if || ngx_http_script_variables_count(&value) == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid parameter \"%V\" in \"trace_trusted\", "
                           "write one \"if=$variable\"", param);
        return NGX_ERROR;
    }

    pcf->trust_if = ngx_http_trace_value_foreign(cf, &directive, &value);

    return pcf->trust_if ? NGX_OK : NGX_ERROR;
}


char *
ngx_http_trace_control_directive(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_trace_loc_conf_t *tlcf = conf;

    ngx_str_t   *value;
    ngx_uint_t   i;

    if (tlcf->control != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {
        if (cf->args->nelts > 2 && ngx_strcmp(value[i].data, "off") == 0) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"off\" in \"trace_control_header\" stands "
                               "alone, leave it or \"%V\" out",
                               &value[i == 1 ? 2 : 1]);
            return NGX_CONF_ERROR;
        }
    }

    if (ngx_strcmp(value[1].data, "off") == 0) {
        tlcf->control = NULL;
        return NGX_CONF_OK;
    }

    tlcf->control = ngx_array_create(cf->pool, cf->args->nelts - 1,
                                     sizeof(ngx_http_trace_control_header_t));
    if (tlcf->control == NULL) {
        return NGX_CONF_ERROR;
    }

    for (i = 1; i < cf->args->nelts; i++) {
        if (ngx_http_trace_control_header(cf, tlcf->control, &value[i])
            != NGX_OK)
        {
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_trace_control_header(ngx_conf_t *cf, ngx_array_t *headers,
    ngx_str_t *name)
{
    u_char                           *p;
    size_t                            i;
    ngx_http_trace_control_header_t  *control;

    if (!ngx_http_trace_header_name(name)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid header \"%V\" in "
                           "\"trace_control_header\", write letters and "
                           "digits, with \"-\" between them", name);
        return NGX_ERROR;
    }

    control = ngx_array_push(headers);
    if (control == NULL) {
        return NGX_ERROR;
    }

    p = ngx_pnalloc(cf->pool, name->len + sizeof("http_") - 1 + name->len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    control->header.name.data = p;
    control->header.name.len = name->len;
    control->header.hash = ngx_hash_strlow(p, name->data, name->len);

    control->name.data = p + name->len;
    control->name.len = sizeof("http_") - 1 + name->len;

    p = ngx_cpymem(control->name.data, "http_", sizeof("http_") - 1);

    for (i = 0; i < name->len; i++) {
        p[i] = control->header.name.data[i];

        if (p[i] == '-') {
            p[i] = '_';
        }
    }

    control->variable = ngx_http_get_variable_index(cf, &control->name);

    return control->variable == NGX_ERROR ? NGX_ERROR : NGX_OK;
}


/* as nginx takes it from clients by default */

static ngx_uint_t
ngx_http_trace_header_name(ngx_str_t *name)
{
    u_char  ch;
    size_t  i;

    for (i = 0; i < name->len; i++) {
        ch = ngx_tolower(name->data[i]);

        if (!((ch >= 'a' && ch <= 'z') || (ch >= '0' && ch <= '9')
              || ch == '-'))
        {
            return 0;
        }
    }

    return name->len != 0 && name->data[0] != '-';
}
