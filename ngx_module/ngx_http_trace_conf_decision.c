
/*
 * The directives that decide what is recorded: trace and trace_keep.
 */


#include "ngx_http_trace_module.h"


/* of trace: with |set|, a prefix of a value */

typedef struct {
    ngx_str_t       name;
    ngx_uint_t      word;
    ngx_int_t     (*set)(ngx_conf_t *cf, ngx_http_trace_decision_t *decision,
                        ngx_str_t *value);
} ngx_http_trace_word_t;


static ngx_int_t ngx_http_trace_decision_word(ngx_conf_t *cf,
    ngx_http_trace_decision_t *decision, ngx_uint_t pipeline, ngx_str_t *text);
static ngx_http_trace_word_t *ngx_http_trace_find_word(ngx_str_t *text,
    ngx_str_t *value);
static ngx_int_t ngx_http_trace_decision_ratio(ngx_conf_t *cf,
    ngx_http_trace_decision_t *decision, ngx_str_t *value);
static ngx_int_t ngx_http_trace_decision_rate(ngx_conf_t *cf,
    ngx_http_trace_decision_t *decision, ngx_str_t *value);
static ngx_int_t ngx_http_trace_decision_variable(ngx_conf_t *cf,
    ngx_http_trace_decision_t *decision, ngx_str_t *value);


static ngx_http_trace_word_t  ngx_http_trace_words[] = {
    { ngx_string("off"), NGX_HTTP_TRACE_OFF, NULL },
    { ngx_string("on"), NGX_HTTP_TRACE_ON, NULL },
    { ngx_string("parent"), NGX_HTTP_TRACE_PARENT, NULL },
    { ngx_string("ratio="), NGX_HTTP_TRACE_RATIO,
      ngx_http_trace_decision_ratio },
    { ngx_string("rate="), NGX_HTTP_TRACE_RATE,
      ngx_http_trace_decision_rate },
    { ngx_string("$"), NGX_HTTP_TRACE_VARIABLE,
      ngx_http_trace_decision_variable },
    { ngx_null_string, 0, NULL }
};


char *
ngx_http_trace(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_trace_loc_conf_t *tlcf = conf;

    ngx_str_t                       *value;
    ngx_int_t                        pipeline;
    ngx_uint_t                       i;
    ngx_http_trace_decision_t       *decision;
    ngx_http_trace_main_conf_t      *tmcf;
    ngx_http_trace_pipeline_conf_t  *pcf;

    value = cf->args->elts;

    pipeline = ngx_http_trace_pipeline(cf, cmd, &value[1]);
    if (pipeline == NGX_ERROR) {
        return NGX_CONF_ERROR;
    }

    pcf = &tlcf->pipelines[pipeline];

    if (pcf->decision != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    decision = ngx_pcalloc(cf->pool, sizeof(ngx_http_trace_decision_t));
    if (decision == NULL) {
        return NGX_CONF_ERROR;
    }

    decision->file = cf->conf_file->file.name;
    decision->line = cf->conf_file->line;
    decision->variable = NGX_ERROR;

    for (i = 2; i < cf->args->nelts; i++) {
        if (ngx_http_trace_decision_word(cf, decision, pipeline, &value[i])
            != NGX_OK)
        {
            return NGX_CONF_ERROR;
        }
    }

    if (decision->words == NGX_HTTP_TRACE_OFF) {
        pcf->decision = NULL;
        return NGX_CONF_OK;
    }

    tmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_trace_module);
    tmcf->enabled[pipeline] = 1;

    pcf->decision = decision;

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_trace_decision_word(ngx_conf_t *cf,
    ngx_http_trace_decision_t *decision, ngx_uint_t pipeline, ngx_str_t *text)
{
    ngx_int_t               rc;
    ngx_str_t               value, *name, *args;
    ngx_http_trace_word_t  *word;

    name = &ngx_http_trace_pipeline_names[pipeline];

    word = ngx_http_trace_find_word(text, &value);

    if (word == NULL) {
        goto invalid;
    }

    if (pipeline == NGX_HTTP_TRACE_USER
        && (word->word & NGX_HTTP_TRACE_SAMPLING))
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid value \"%V\" in \"trace %V\": what users "
                           "ask for is not sampled, write \"on\", \"off\" or "
                           "a variable", text, name);
        return NGX_ERROR;
    }

    if (decision->words & word->word) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "duplicate \"%V\" in \"trace %V\", leave it out",
                           text, name);
        return NGX_ERROR;
    }

    if ((word->word & (NGX_HTTP_TRACE_OFF|NGX_HTTP_TRACE_ON))
        && cf->args->nelts > 3)
    {
        args = cf->args->elts;

        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" in \"trace %V\" stands alone, leave it or "
                           "\"%V\" out", text, name,
                           &args[text == &args[2] ? 3 : 2]);
        return NGX_ERROR;
    }

    decision->words |= word->word;

    if (word->set == NULL) {
        return NGX_OK;
    }

    rc = word->set(cf, decision, &value);

    if (rc != NGX_DECLINED) {
        return rc;
    }

invalid:

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       pipeline == NGX_HTTP_TRACE_USER
                       ? "invalid value \"%V\" in \"trace %V\", write "
                         "\"on\", \"off\" or a variable"
                       : "invalid value \"%V\" in \"trace %V\", write "
                         "\"on\", \"off\", \"parent\", \"ratio=0.1\", "
                         "\"rate=100r/s\" or a variable", text, name);

    return NGX_ERROR;
}


static ngx_http_trace_word_t *
ngx_http_trace_find_word(ngx_str_t *text, ngx_str_t *value)
{
    ngx_http_trace_word_t  *word;

    for (word = ngx_http_trace_words; word->name.len; word++) {

        if (text->len < word->name.len
            || (text->len == 1 && word->word == NGX_HTTP_TRACE_VARIABLE)
            || (text->len > word->name.len && word->set == NULL)
            || ngx_strncmp(text->data, word->name.data, word->name.len) != 0)
        {
            continue;
        }

        value->data = text->data + word->name.len;
        value->len = text->len - word->name.len;

        return word;
    }

    return NULL;
}


static ngx_int_t
ngx_http_trace_decision_ratio(ngx_conf_t *cf,
    ngx_http_trace_decision_t *decision, ngx_str_t *value)
{
    double  ratio;

    if (value->len == 0
        || ngx_http_trace_parse_double(value, &ratio) != NGX_OK
        || traceparent_sampler_threshold(&decision->threshold, ratio) != 0)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid ratio \"%V\" in \"trace internal\", write "
                           "a number from 0 to 1, as \"ratio=0.1\"", value);
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* a burst of a tenth of a second keeps the limit exact, and bridges pauses */

static ngx_int_t
ngx_http_trace_decision_rate(ngx_conf_t *cf,
    ngx_http_trace_decision_t *decision, ngx_str_t *value)
{
    double                        per_second;
    u_char                       *unit;
    ngx_int_t                     n;
    ngx_http_trace_main_conf_t   *tmcf;
    ngx_http_trace_decision_t   **added;

    n = NGX_ERROR;
    unit = value->data + value->len - 3;

    if (value->len > 3 && unit[0] == 'r' && unit[1] == '/'
        && (unit[2] == 's' || unit[2] == 'm'))
    {
        n = ngx_atoi(value->data, value->len - 3);
    }

    per_second = n == NGX_ERROR ? 0 : unit[2] == 's' ? n : n / 60.0;

    if (traceparent_rate_init(&decision->limit, per_second,
                              ngx_max((unsigned) (per_second / 10), 1))
        != 0)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid rate \"%V\" in \"trace internal\", write "
                           "requests a second or a minute, as "
                           "\"rate=100r/s\" or \"rate=10r/m\"", value);
        return NGX_ERROR;
    }

    tmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_trace_module);

    added = ngx_array_push(&tmcf->rates);
    if (added == NULL) {
        return NGX_ERROR;
    }

    *added = decision;

    return NGX_OK;
}


static ngx_int_t
ngx_http_trace_decision_variable(ngx_conf_t *cf,
    ngx_http_trace_decision_t *decision, ngx_str_t *value)
{
    ngx_str_t               text;
    ngx_http_trace_value_t  variable;

    static ngx_str_t  directive = ngx_string("trace");

    text.data = value->data - 1;
    text.len = value->len + 1;

    if (ngx_http_trace_value_compile(cf, &directive, &text, &variable)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    decision->variable = variable.variable;

    return decision->variable == NGX_ERROR ? NGX_DECLINED : NGX_OK;
}


char *
ngx_http_trace_keep(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_trace_loc_conf_t *tlcf = conf;

    ngx_str_t  *value;

    if (tlcf->keep != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "off") == 0) {
        tlcf->keep = NULL;
        return NGX_CONF_OK;
    }

    if (ngx_http_script_variables_count(&value[1]) == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid value \"%V\" in \"trace_keep\", write a "
                           "variable, as \"trace_keep $failed\", or \"off\"",
                           &value[1]);
        return NGX_CONF_ERROR;
    }

    tlcf->keep = ngx_http_trace_value_new(cf, &cmd->name, &value[1]);

    return tlcf->keep ? NGX_CONF_OK : NGX_CONF_ERROR;
}
