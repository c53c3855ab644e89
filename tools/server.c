#define _GNU_SOURCE /* asprintf(), strcasecmp() */

#include <ctype.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include <microhttpd.h>

#include "body.h"
#include "server.h"
#include "utf8.h"


#define CONNECTIONS_MAX 512
#define IDLE_SECONDS    60

/* A body nobody wants is read to its end, so that the client reads the answer
 * and keeps its connection; one longer than this is not, in bytes. */
#define DISCARD_MAX (64 * 1024 * 1024)

/* libmicrohttpd 0.9.75 says "at once" for ever if its buffer is full of the
 * header of one chunk. After so many runs in which no request got on, it has
 * to wait for this long. */
#define IDLE_RUNS_MAX 100
#define IDLE_WAIT_MS  10

/* Longer error messages are cut, so that their length is one byte. */
#define MESSAGE_MAX 127


struct server_s {
    struct MHD_Daemon *daemon;
    server_sink_t sink;
    void *data;
    const char *command;
    unsigned answering; /* answers that are not sent completely */
    unsigned idle_runs; /* since a request got on */
    time_t complained;
};

typedef struct {
    body_t body;
    export_kind_t kind;
    size_t received;
    unsigned status; /* of an error that the header alone shows, or 0 */
    const char *why;
    int answered;
} exchange_t;


static void
complain(server_t *server, unsigned status, const char *why)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);

    /* whoever sends garbage must not fill a log */
    if (now.tv_sec != server->complained) {
        server->complained = now.tv_sec;
        fprintf(stderr, "%s: refused a request: %u, %s\n", server->command,
            status, why);
    }
}


/*
 * The body of success is ExportTraceServiceResponse, or that of logs, with an
 * empty partial_success (field 1 of both), as a collector sends it; of an error
 * it is google.rpc.Status with its message (field 2) alone (OTLP, "Failures").
 */
static enum MHD_Result
answer(server_t *server, struct MHD_Connection *connection,
    exchange_t *exchange, unsigned status, const char *why)
{
    size_t len;
    char body[2 + MESSAGE_MAX] = {0x0a, 0x00};
    enum MHD_Result rc;
    struct MHD_Response *response;

    len = 2;

    if (status != MHD_HTTP_OK) {
        complain(server, status, why);
        len = strlen(why) < MESSAGE_MAX ? strlen(why) : MESSAGE_MAX;
        body[0] = 0x12;
        body[1] = (char) len;
        memcpy(body + 2, why, len);
        len += 2;
    }

    response
        = MHD_create_response_from_buffer(len, body, MHD_RESPMEM_MUST_COPY);

    if (response == NULL) {
        return MHD_NO;
    }

    rc = MHD_add_response_header(
        response, MHD_HTTP_HEADER_CONTENT_TYPE, "application/x-protobuf");

    if (rc == MHD_YES && status == MHD_HTTP_METHOD_NOT_ALLOWED) {
        rc = MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "POST");
    }

    if (rc == MHD_YES && status == MHD_HTTP_SERVICE_UNAVAILABLE) {
        rc = MHD_add_response_header(
            response, MHD_HTTP_HEADER_RETRY_AFTER, "1");
    }

    if (rc == MHD_YES) {
        rc = MHD_queue_response(connection, status, response);
    }

    MHD_destroy_response(response);

    if (rc == MHD_YES) {
        exchange->answered = 1;
        server->answering++;
    }

    return rc;
}


static const char *
header(struct MHD_Connection *connection, const char *name)
{
    return MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);
}


/* RFC 9110, section 8.3: parameters may follow the type. */
static int
is_protobuf(const char *value)
{
    static const char type[] = "application/x-protobuf";
    size_t len = sizeof(type) - 1;

    if (value == NULL || strncasecmp(value, type, len) != 0) {
        return 0;
    }

    value += len;
    value += strspn(value, " \t");

    return *value == '\0' || *value == ';';
}


/* Finds what is sent to the path |url|. Returns 0 or -1. */
static int
find_kind(export_kind_t *kind, const char *url)
{
    size_t i;

    static const char *const paths[] = {
        [EXPORT_SPANS] = "/v1/traces",
        [EXPORT_RECORDS] = "/v1/logs",
    };

    for (i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        if (strcmp(url, paths[i]) == 0) {
            *kind = (export_kind_t) i;
            return 0;
        }
    }

    return -1;
}


/* What the header alone says: an error's status, or 0. */
static unsigned
check_header(struct MHD_Connection *connection, const char *url,
    const char *method, exchange_t *exchange)
{
    int gzip;
    const char *value;

    if (find_kind(&exchange->kind, url) != 0) {
        exchange->why = "there are only /v1/traces and /v1/logs";
        return MHD_HTTP_NOT_FOUND;
    }

    if (strcmp(method, MHD_HTTP_METHOD_POST) != 0) {
        exchange->why = "there is only POST";
        return MHD_HTTP_METHOD_NOT_ALLOWED;
    }

    if (!is_protobuf(header(connection, MHD_HTTP_HEADER_CONTENT_TYPE))) {
        exchange->why = "the content-type is not application/x-protobuf";
        return MHD_HTTP_UNSUPPORTED_MEDIA_TYPE;
    }

    value = header(connection, MHD_HTTP_HEADER_CONTENT_ENCODING);
    gzip = value != NULL && strcasecmp(value, "gzip") == 0;

    if (value != NULL && !gzip && *value != '\0'
        && strcasecmp(value, "identity") != 0) {
        exchange->why = "the content-encoding is neither gzip nor identity";
        return MHD_HTTP_UNSUPPORTED_MEDIA_TYPE;
    }

    /* a failure shows in body_end() */
    (void) body_begin(&exchange->body, gzip);

    return 0;
}


static enum MHD_Result
begin(server_t *server, struct MHD_Connection *connection, const char *url,
    const char *method, void **context)
{
    exchange_t *exchange;
    const char *length;

    exchange = calloc(1, sizeof(*exchange));

    if (exchange == NULL) {
        return MHD_NO;
    }

    *context = exchange;
    exchange->status = check_header(connection, url, method, exchange);
    length = header(connection, MHD_HTTP_HEADER_CONTENT_LENGTH);

    if (length != NULL && strtoull(length, NULL, 10) > BODY_MAX) {
        return answer(server, connection, exchange, MHD_HTTP_CONTENT_TOO_LARGE,
            "the body is longer than 20 MiB");
    }

    return MHD_YES;
}


/* Adds one header of a request to the object |data|. */
static enum MHD_Result
add_header(void *data, enum MHD_ValueKind kind, const char *key, size_t key_len,
    const char *value, size_t value_len)
{
    int rc;
    size_t i;
    char *name, *text, *both;
    const char *before;

    static const char *const left_out[] = {"connection", "content-encoding",
        "content-length", "content-type", "transfer-encoding"};

    (void) kind;

    for (i = 0; i < sizeof(left_out) / sizeof(left_out[0]); i++) {
        if (strcasecmp(key, left_out[i]) == 0) {
            return MHD_YES;
        }
    }

    name = utf8_mend(key, key_len);
    text = utf8_mend(value != NULL ? value : "", value != NULL ? value_len : 0);
    rc = -1;

    if (name != NULL && text != NULL) {
        for (i = 0; name[i] != '\0'; i++) {
            name[i] = (char) tolower((unsigned char) name[i]);
        }

        before = json_string_value(json_object_get(data, name));

        /* RFC 9110, section 5.3: several of one name are one list */
        if (before == NULL) {
            rc = json_object_set_new(data, name, json_string(text));

        } else if (asprintf(&both, "%s, %s", before, text) != -1) {
            rc = json_object_set_new(data, name, json_string(both));
            free(both);
        }
    }

    free(name);
    free(text);

    return rc == 0 ? MHD_YES : MHD_NO;
}


/* Hands a complete body over. Returns the status of the answer. */
static unsigned
consume(server_t *server, struct MHD_Connection *connection,
    exchange_t *exchange, const char **why)
{
    int wanted;
    json_t *headers;
    unsigned status;

    switch (body_end(&exchange->body)) {
    case BODY_ERR_SIZE:
        *why = "the body is longer than 20 MiB";
        return MHD_HTTP_CONTENT_TOO_LARGE;
    case BODY_ERR_GZIP:
        *why = "the body is not gzip";
        return MHD_HTTP_BAD_REQUEST;
    case BODY_ERR_MEMORY:
        *why = "too many bodies at one time";
        return MHD_HTTP_SERVICE_UNAVAILABLE;
    }

    headers = json_object();
    wanted = MHD_get_connection_values(connection, MHD_HEADER_KIND, NULL, NULL);

    if (headers == NULL
        || MHD_get_connection_values_n(
               connection, MHD_HEADER_KIND, add_header, headers)
               != wanted) {
        json_decref(headers);
        *why = "out of memory";
        return MHD_HTTP_SERVICE_UNAVAILABLE;
    }

    status = server->sink(server->data, exchange->kind, exchange->body.data,
        exchange->body.len, headers, why);
    json_decref(headers);

    return status;
}


static enum MHD_Result
handle(void *data, struct MHD_Connection *connection, const char *url,
    const char *method, const char *version, const char *upload,
    size_t *upload_size, void **context)
{
    server_t *server = data;
    exchange_t *exchange = *context;
    const char *why;
    unsigned status;

    (void) version;

    server->idle_runs = 0;

    if (exchange == NULL) {
        return begin(server, connection, url, method, context);
    }

    if (*upload_size > 0) {
        exchange->received += *upload_size;

        if (exchange->status == 0) {
            body_add(&exchange->body, upload, *upload_size);
        }

        *upload_size = 0;

        return exchange->received > DISCARD_MAX ? MHD_NO : MHD_YES;
    }

    if (exchange->answered) {
        return MHD_YES;
    }

    status = exchange->status;
    why = exchange->why;

    if (status == 0) {
        status = consume(server, connection, exchange, &why);
    }

    /* an answer that waits to be read needs no body */
    body_free(&exchange->body);

    return answer(server, connection, exchange, status, why);
}


static void
completed(void *data, struct MHD_Connection *connection, void **context,
    enum MHD_RequestTerminationCode code)
{
    server_t *server = data;
    exchange_t *exchange = *context;

    (void) connection;
    (void) code;

    server->idle_runs = 0;

    if (exchange == NULL) {
        return;
    }

    server->answering -= exchange->answered != 0;
    body_free(&exchange->body);
    free(exchange);
    *context = NULL;
}


server_t *
server_start(int fd, server_sink_t sink, void *data, const char *command)
{
    server_t *server;

    server = calloc(1, sizeof(*server));

    if (server == NULL) {
        return NULL;
    }

    server->sink = sink;
    server->data = data;
    server->command = command;
    server->complained = -1;
    server->daemon = MHD_start_daemon(MHD_USE_EPOLL, 0, NULL, NULL, handle,
        server, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned) CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned) IDLE_SECONDS, MHD_OPTION_NOTIFY_COMPLETED, completed, server,
        MHD_OPTION_END);

    if (server->daemon == NULL) {
        free(server);
        return NULL;
    }

    return server;
}


int
server_fd(const server_t *server)
{
    const union MHD_DaemonInfo *info;

    info = MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD);

    return info == NULL ? -1 : info->epoll_fd;
}


int
server_timeout(const server_t *server)
{
    MHD_UNSIGNED_LONG_LONG timeout;

    if (MHD_get_timeout(server->daemon, &timeout) != MHD_YES) {
        return -1;
    }

    if (timeout < IDLE_WAIT_MS && server->idle_runs > IDLE_RUNS_MAX) {
        return IDLE_WAIT_MS;
    }

    return timeout < INT_MAX ? (int) timeout : INT_MAX;
}


void
server_run(server_t *server)
{
    if (server->idle_runs <= IDLE_RUNS_MAX) {
        server->idle_runs++;
    }

    (void) MHD_run(server->daemon);
}


static int64_t
now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);

    return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}


void
server_stop(server_t *server, int timeout_ms)
{
    int fd, wait, left;
    int64_t end;
    struct pollfd pollfd;

    fd = MHD_quiesce_daemon(server->daemon);
    end = now_ms() + timeout_ms;

    while (server->answering > 0 && (left = (int) (end - now_ms())) > 0) {
        wait = server_timeout(server);
        pollfd.fd = server_fd(server);
        pollfd.events = POLLIN;
        (void) poll(&pollfd, 1, wait == -1 || wait > left ? left : wait);
        server_run(server);
    }

    MHD_stop_daemon(server->daemon);

    if (fd != -1) {
        close(fd);
    }

    free(server);
}
