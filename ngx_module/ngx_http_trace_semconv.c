
/*
 * The attributes of a request span by the OpenTelemetry semantic conventions
 * for HTTP servers, in one table; and what follows from the same facts: the
 * span's default name and its status.
 */


#include "ngx_http_trace_module.h"


typedef struct {
    ngx_str_t      name;
    ngx_uint_t     minimal;        /* tells nothing of the inside */
    void         (*write)(ngx_http_request_t *r, otlp_span_t *span,
                       ngx_str_t *name, ngx_uint_t pipeline);
} ngx_http_trace_semconv_t;


static void ngx_http_trace_method(ngx_http_request_t *r, otlp_span_t *span,
    ngx_str_t *name, ngx_uint_t pipeline);
static void ngx_http_trace_method_original(ngx_http_request_t *r,
    otlp_span_t *span, ngx_str_t *name, ngx_uint_t pipeline);
static void ngx_http_trace_path(ngx_http_request_t *r, otlp_span_t *span,
    ngx_str_t *name, ngx_uint_t pipeline);
static void ngx_http_trace_query(ngx_http_request_t *r, otlp_span_t *span,
    ngx_str_t *name, ngx_uint_t pipeline);
static void ngx_http_trace_scheme(ngx_http_request_t *r, otlp_span_t *span,
    ngx_str_t *name, ngx_uint_t pipeline);
static void ngx_http_trace_server_address(ngx_http_request_t *r,
    otlp_span_t *span, ngx_str_t *name, ngx_uint_t pipeline);
static void ngx_http_trace_server_port(ngx_http_request_t *r,
    otlp_span_t *span, ngx_str_t *name, ngx_uint_t pipeline);
static void ngx_http_trace_route(ngx_http_request_t *r, otlp_span_t *span,
    ngx_str_t *name, ngx_uint_t pipeline);
static void ngx_http_trace_status_code(ngx_http_request_t *r,
    otlp_span_t *span, ngx_str_t *name, ngx_uint_t pipeline);
static void ngx_http_trace_error_type(ngx_http_request_t *r,
    otlp_span_t *span, ngx_str_t *name, ngx_uint_t pipeline);
static void ngx_http_trace_client_address(ngx_http_request_t *r,
    otlp_span_t *span, ngx_str_t *name, ngx_uint_t pipeline);
static void ngx_http_trace_peer_address(ngx_http_request_t *r,
    otlp_span_t *span, ngx_str_t *name, ngx_uint_t pipeline);
static void ngx_http_trace_peer_port(ngx_http_request_t *r,
    otlp_span_t *span, ngx_str_t *name, ngx_uint_t pipeline);
static void ngx_http_trace_protocol_version(ngx_http_request_t *r,
    otlp_span_t *span, ngx_str_t *name, ngx_uint_t pipeline);
static void ngx_http_trace_user_agent(ngx_http_request_t *r,
    otlp_span_t *span, ngx_str_t *name, ngx_uint_t pipeline);
static void ngx_http_trace_request_size(ngx_http_request_t *r,
    otlp_span_t *span, ngx_str_t *name, ngx_uint_t pipeline);
static void ngx_http_trace_response_size(ngx_http_request_t *r,
    otlp_span_t *span, ngx_str_t *name, ngx_uint_t pipeline);

static ngx_uint_t ngx_http_trace_method_name(ngx_http_request_t *r,
    ngx_str_t *name);
static ngx_str_t *ngx_http_trace_location(ngx_http_request_t *r,
    ngx_uint_t pipeline);
static ngx_uint_t ngx_http_trace_status(ngx_http_request_t *r);
static ngx_uint_t ngx_http_trace_redact(ngx_str_t *query, u_char *dst,
    size_t *len);


static ngx_http_trace_semconv_t  ngx_http_trace_semconvs[] = {

    { ngx_string("http.request.method"), 1, ngx_http_trace_method },
    { ngx_string("http.request.method_original"), 1,
      ngx_http_trace_method_original },
    { ngx_string("url.path"), 1, ngx_http_trace_path },
    { ngx_string("url.query"), 1, ngx_http_trace_query },
    { ngx_string("url.scheme"), 1, ngx_http_trace_scheme },
    { ngx_string("server.address"), 1, ngx_http_trace_server_address },
    { ngx_string("server.port"), 1, ngx_http_trace_server_port },
    { ngx_string("http.route"), 1, ngx_http_trace_route },
    { ngx_string("http.response.status_code"), 1,
      ngx_http_trace_status_code },
    { ngx_string("error.type"), 1, ngx_http_trace_error_type },
    { ngx_string("client.address"), 0, ngx_http_trace_client_address },
    { ngx_string("network.peer.address"), 0, ngx_http_trace_peer_address },
    { ngx_string("network.peer.port"), 0, ngx_http_trace_peer_port },
    { ngx_string("network.protocol.version"), 1,
      ngx_http_trace_protocol_version },
    { ngx_string("user_agent.original"), 1, ngx_http_trace_user_agent },
    { ngx_string("http.request.body.size"), 1, ngx_http_trace_request_size },
    { ngx_string("http.response.body.size"), 1,
      ngx_http_trace_response_size },

    { ngx_null_string, 0, NULL }
};


/* parameters whose values are secrets, by the convention of url.query */

static ngx_str_t  ngx_http_trace_secrets[] = {
    ngx_string("sig"),
    ngx_string("Signature"),
    ngx_string("X-Goog-Signature"),
    ngx_string("AWSAccessKeyId"),
    ngx_null_string
};


static ngx_str_t  ngx_http_trace_redacted = ngx_string("REDACTED");


ngx_uint_t
ngx_http_trace_semconv_minimal(void)
{
    ngx_uint_t  i, mask;

    mask = 0;

    for (i = 0; ngx_http_trace_semconvs[i].write; i++) {
        if (ngx_http_trace_semconvs[i].minimal) {
            mask |= (ngx_uint_t) 1 << i;
        }
    }

    return mask;
}


/* the bit of an attribute, 0 if the convention has no such name */

ngx_uint_t
ngx_http_trace_semconv_bit(ngx_str_t *name)
{
    ngx_uint_t  i;

    for (i = 0; ngx_http_trace_semconvs[i].write; i++) {
        if (ngx_http_trace_semconvs[i].name.len == name->len
            && ngx_strncmp(ngx_http_trace_semconvs[i].name.data, name->data,
                           name->len)
               == 0)
        {
            return (ngx_uint_t) 1 << i;
        }
    }

    return 0;
}


void
ngx_http_trace_semconv(ngx_http_request_t *r, otlp_span_t *span,
    ngx_uint_t pipeline, ngx_uint_t mask)
{
    ngx_http_trace_semconv_t  *sc;

    for (sc = ngx_http_trace_semconvs; sc->write; sc++, mask >>= 1) {
        if (mask & 1) {
            sc->write(r, span, &sc->name, pipeline);
        }
    }
}


/* "{method} {http.route}", or "{method}", or "HTTP" for unknown methods */

ngx_int_t
ngx_http_trace_semconv_name(ngx_http_request_t *r, ngx_uint_t pipeline,
    ngx_str_t *name)
{
    u_char     *p;
    ngx_str_t   method, *route;

    if (!ngx_http_trace_method_name(r, &method)) {
        ngx_str_set(&method, "HTTP");
    }

    route = ngx_http_trace_location(r, pipeline);

    if (route == NULL) {
        *name = method;
        return NGX_OK;
    }

    p = ngx_pnalloc(r->pool, method.len + 1 + route->len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    name->data = p;

    p = ngx_cpymem(p, method.data, method.len);
    *p++ = ' ';
    p = ngx_cpymem(p, route->data, route->len);

    name->len = p - name->data;

    return NGX_OK;
}


int
ngx_http_trace_semconv_status(ngx_http_request_t *r)
{
    return ngx_http_trace_status(r) >= 500 ? OTLP_STATUS_ERROR
                                           : OTLP_STATUS_UNSET;
}


static void
ngx_http_trace_attr_str(otlp_span_t *span, ngx_str_t *name, ngx_str_t *value)
{
    if (value->len) {
        otlp_span_string(span, (char *) name->data, name->len, value->data,
                         value->len);
    }
}


static void
ngx_http_trace_attr_int(otlp_span_t *span, ngx_str_t *name, int64_t value)
{
    otlp_span_int(span, (char *) name->data, name->len, value);
}


static void
ngx_http_trace_method(ngx_http_request_t *r, otlp_span_t *span,
    ngx_str_t *name, ngx_uint_t pipeline)
{
    ngx_str_t  method;

    if (!ngx_http_trace_method_name(r, &method)) {
        ngx_str_set(&method, "_OTHER");
    }

    ngx_http_trace_attr_str(span, name, &method);
}


static void
ngx_http_trace_method_original(ngx_http_request_t *r, otlp_span_t *span,
    ngx_str_t *name, ngx_uint_t pipeline)
{
    ngx_str_t  method;

    if (!ngx_http_trace_method_name(r, &method)) {
        ngx_http_trace_attr_str(span, name, &method);
    }
}


static void
ngx_http_trace_path(ngx_http_request_t *r, otlp_span_t *span, ngx_str_t *name,
    ngx_uint_t pipeline)
{
    u_char     *p;
    ngx_str_t   path;

    path = r->unparsed_uri;

    p = ngx_strlchr(path.data, path.data + path.len, '?');

    if (p) {
        path.len = p - path.data;
    }

    ngx_http_trace_attr_str(span, name, &path);
}


static void
ngx_http_trace_query(ngx_http_request_t *r, otlp_span_t *span,
    ngx_str_t *name, ngx_uint_t pipeline)
{
    size_t      len;
    u_char     *p, *last;
    ngx_str_t   query;

    last = r->unparsed_uri.data + r->unparsed_uri.len;

    p = ngx_strlchr(r->unparsed_uri.data, last, '?');

    if (p == NULL) {
        return;
    }

    query.data = p + 1;
    query.len = last - query.data;

    if (ngx_http_trace_redact(&query, NULL, &len)) {

        p = ngx_pnalloc(r->pool, len);
        if (p == NULL) {
            return;
        }

        (void) ngx_http_trace_redact(&query, p, &len);

        query.data = p;
        query.len = len;
    }

    ngx_http_trace_attr_str(span, name, &query);
}


/*
 * Copies a query to |dst|, if there is one, with REDACTED in the place of
 * secrets.  Returns how many there are, with the length of the copy in |len|.
 */

static ngx_uint_t
ngx_http_trace_redact(ngx_str_t *query, u_char *dst, size_t *len)
{
    u_char      *p, *end, *eq, *last;
    ngx_str_t    value;
    ngx_str_t   *secret;
    ngx_uint_t   n;

    n = 0;
    *len = 0;

    p = query->data;
    last = query->data + query->len;

    while (p < last) {
        end = ngx_strlchr(p, last, '&');
        end = end ? end + 1 : last;

        eq = ngx_strlchr(p, end, '=');

        value.data = eq ? eq + 1 : end;
        value.len = end - value.data - (eq && end[-1] == '&');

        for (secret = ngx_http_trace_secrets; secret->len; secret++) {
            if (eq
                && (size_t) (eq - p) == secret->len
                && ngx_strncmp(p, secret->data, secret->len) == 0)
            {
                n++;
                break;
            }
        }

        if (eq == NULL || secret->len == 0) {
            *len += end - p;

            if (dst) {
                dst = ngx_cpymem(dst, p, end - p);
            }

        } else {
            *len += (end - p) - value.len + ngx_http_trace_redacted.len;

            if (dst) {
                dst = ngx_cpymem(dst, p, value.data - p);
                dst = ngx_cpymem(dst, ngx_http_trace_redacted.data,
                                 ngx_http_trace_redacted.len);
                dst = ngx_cpymem(dst, value.data + value.len,
                                 end - value.data - value.len);
            }
        }

        p = end;
    }

    return n;
}


static void
ngx_http_trace_scheme(ngx_http_request_t *r, otlp_span_t *span,
    ngx_str_t *name, ngx_uint_t pipeline)
{
    ngx_str_t  scheme = ngx_string("http");

#if (NGX_HTTP_SSL)
    if (r->connection->ssl) {
        ngx_str_set(&scheme, "https");
    }
#endif

    ngx_http_trace_attr_str(span, name, &scheme);
}


static void
ngx_http_trace_server_address(ngx_http_request_t *r, otlp_span_t *span,
    ngx_str_t *name, ngx_uint_t pipeline)
{
    ngx_str_t  host;

    host = r->headers_in.server;

    /* the brackets of an IPv6 address belong to the URI, not to the address */

    if (host.len > 2 && host.data[0] == '[' && host.data[host.len - 1] == ']') {
        host.data++;
        host.len -= 2;
    }

    ngx_http_trace_attr_str(span, name, &host);
}


/* the port that the client wrote, or that its scheme stands for */

static void
ngx_http_trace_server_port(ngx_http_request_t *r, otlp_span_t *span,
    ngx_str_t *name, ngx_uint_t pipeline)
{
    u_char     *p, *first, *last;
    ngx_int_t   port;

    if (r->headers_in.server.len == 0) {
        return;
    }

    first = NULL;
    last = NULL;

    if (r->host_end && r->http_version < NGX_HTTP_VERSION_20) {

        /* an absolute request line counts, and not Host: RFC 9112, 3.2.2 */

        first = r->host_start;
        last = r->host_end;

        if (*last == ':') {
            while (last[1] >= '0' && last[1] <= '9') {
                last++;
            }

            last++;
        }

    } else if (r->headers_in.host) {
        first = r->headers_in.host->value.data;
        last = first + r->headers_in.host->value.len;
    }

    p = last;

    while (p > first && p[-1] >= '0' && p[-1] <= '9') {
        p--;
    }

    port = NGX_ERROR;

    if (p > first && p[-1] == ':') {
        port = ngx_atoi(p, last - p);
    }

    if (port == NGX_ERROR) {
        port = 80;

#if (NGX_HTTP_SSL)
        if (r->connection->ssl) {
            port = 443;
        }
#endif
    }

    ngx_http_trace_attr_int(span, name, port);
}


static void
ngx_http_trace_route(ngx_http_request_t *r, otlp_span_t *span,
    ngx_str_t *name, ngx_uint_t pipeline)
{
    ngx_str_t  *route;

    route = ngx_http_trace_location(r, pipeline);

    if (route) {
        ngx_http_trace_attr_str(span, name, route);
    }
}


static void
ngx_http_trace_status_code(ngx_http_request_t *r, otlp_span_t *span,
    ngx_str_t *name, ngx_uint_t pipeline)
{
    ngx_uint_t  status;

    status = ngx_http_trace_status(r);

    /* only if it was sent: HTTP/0.9 has no status line */

    if (status && r->header_sent && r->http_version >= NGX_HTTP_VERSION_10) {
        ngx_http_trace_attr_int(span, name, status);
    }
}


static void
ngx_http_trace_error_type(ngx_http_request_t *r, otlp_span_t *span,
    ngx_str_t *name, ngx_uint_t pipeline)
{
    u_char      buf[NGX_INT_T_LEN];
    ngx_str_t   type;
    ngx_uint_t  status;

    status = ngx_http_trace_status(r);

    if (status == NGX_HTTP_CLIENT_CLOSED_REQUEST) {
        ngx_str_set(&type, "client_closed");

    } else if (status >= 500) {
        type.data = buf;
        type.len = ngx_sprintf(buf, "%ui", status) - buf;

    } else {
        return;
    }

    ngx_http_trace_attr_str(span, name, &type);
}


/* the client's as far as nginx knows it: realip's, if that has set it */

static void
ngx_http_trace_client_address(ngx_http_request_t *r, otlp_span_t *span,
    ngx_str_t *name, ngx_uint_t pipeline)
{
    if (r->connection->sockaddr->sa_family != AF_UNIX) {
        ngx_http_trace_attr_str(span, name, &r->connection->addr_text);
    }
}


static void
ngx_http_trace_peer_address(ngx_http_request_t *r, otlp_span_t *span,
    ngx_str_t *name, ngx_uint_t pipeline)
{
    ngx_str_t  addr;

    (void) ngx_http_trace_socket_peer(r, &addr, NULL);

    /* the peer of a Unix socket has seldom a name */

    if (addr.len == 5 && ngx_strncmp(addr.data, "unix:", 5) == 0) {
        return;
    }

    ngx_http_trace_attr_str(span, name, &addr);
}


static void
ngx_http_trace_peer_port(ngx_http_request_t *r, otlp_span_t *span,
    ngx_str_t *name, ngx_uint_t pipeline)
{
    ngx_int_t  port;
    ngx_str_t  addr;

    port = 0;

    (void) ngx_http_trace_socket_peer(r, &addr, &port);

    if (port > 0) {
        ngx_http_trace_attr_int(span, name, port);
    }
}


static void
ngx_http_trace_protocol_version(ngx_http_request_t *r, otlp_span_t *span,
    ngx_str_t *name, ngx_uint_t pipeline)
{
    ngx_str_t  version;

    switch (r->http_version) {

    case NGX_HTTP_VERSION_9:
        ngx_str_set(&version, "0.9");
        break;

    case NGX_HTTP_VERSION_10:
        ngx_str_set(&version, "1.0");
        break;

    case NGX_HTTP_VERSION_11:
        ngx_str_set(&version, "1.1");
        break;

    case NGX_HTTP_VERSION_20:
        ngx_str_set(&version, "2");
        break;

#if (NGX_HTTP_V3)
    case NGX_HTTP_VERSION_30:
        ngx_str_set(&version, "3");
        break;
#endif

    default:
        return;
    }

    ngx_http_trace_attr_str(span, name, &version);
}


static void
ngx_http_trace_user_agent(ngx_http_request_t *r, otlp_span_t *span,
    ngx_str_t *name, ngx_uint_t pipeline)
{
    if (r->headers_in.user_agent) {
        ngx_http_trace_attr_str(span, name, &r->headers_in.user_agent->value);
    }
}


static void
ngx_http_trace_request_size(ngx_http_request_t *r, otlp_span_t *span,
    ngx_str_t *name, ngx_uint_t pipeline)
{
    off_t  size;

    /* content_length_n counts down while a body is discarded */

    if (r->headers_in.content_length) {
        size = ngx_atoof(r->headers_in.content_length->value.data,
                         r->headers_in.content_length->value.len);

    } else {
        size = r->headers_in.content_length_n;
    }

    if (size >= 0) {
        ngx_http_trace_attr_int(span, name, size);
    }
}


static void
ngx_http_trace_response_size(ngx_http_request_t *r, otlp_span_t *span,
    ngx_str_t *name, ngx_uint_t pipeline)
{
    off_t  size;

    if (!r->header_sent) {
        return;
    }

    size = r->connection->sent - r->header_size;

    ngx_http_trace_attr_int(span, name, ngx_max(size, 0));
}


/*
 * The method as it was sent, also of a request whose line was too long to be
 * read to its end.  Returns whether it is one of RFC 9110, PATCH or QUERY.
 */

static ngx_uint_t
ngx_http_trace_method_name(ngx_http_request_t *r, ngx_str_t *name)
{
    *name = r->method_name;

    if (name->len == 0 && r->method_end) {
        name->data = r->request_start;
        name->len = r->method_end + 1 - r->request_start;
    }

    if (r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD|NGX_HTTP_POST|NGX_HTTP_PUT
                     |NGX_HTTP_DELETE|NGX_HTTP_OPTIONS|NGX_HTTP_PATCH
                     |NGX_HTTP_TRACE))
    {
        return name->len != 0;
    }

    switch (name->len) {

    case 5:
        return ngx_strncmp(name->data, "QUERY", 5) == 0;

    case 7:
        return ngx_strncmp(name->data, "CONNECT", 7) == 0;

    default:
        return 0;
    }
}


/*
 * The pattern of the location that has answered; NULL if none has, and for
 * the user pipeline also if the location is not to be reached from outside.
 */

static ngx_str_t *
ngx_http_trace_location(ngx_http_request_t *r, ngx_uint_t pipeline)
{
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    if (clcf->name.len == 0
        || (pipeline == NGX_HTTP_TRACE_USER
            && (clcf->internal || clcf->named)))
    {
        return NULL;
    }

    return &clcf->name;
}


static ngx_uint_t
ngx_http_trace_status(ngx_http_request_t *r)
{
    return r->err_status ? r->err_status : r->headers_out.status;
}
