/*
 * The HTTP side of an OTLP/HTTP receiver: POST /v1/traces and /v1/logs with
 * protobuf, and for everything else the answer that a collector gives. One
 * thread, which waits outside: on server_fd(), for as long as server_timeout()
 * says.
 */

#ifndef SERVER_H
#define SERVER_H


#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "export.h"


typedef struct server_s server_t;

/*
 * Takes the decompressed body of one export request of |kind|, which it may
 * change, and the request's |headers|: a JSON object of lower-case names and
 * values, without those that only say how the body is sent. Returns 200, or
 * the status of an error with |*why| a static sentence without a period.
 */
typedef unsigned (*server_sink_t)(void *data, export_kind_t kind, uint8_t *body,
    size_t len, json_t *headers, const char **why);


/* Serves on the listening |fd|, which it will close. Refusals are told on
 * stderr, after |command|. Returns NULL if it cannot. */
server_t *server_start(
    int fd, server_sink_t sink, void *data, const char *command);

/* Readable when server_run() has something to do. */
int server_fd(const server_t *server);

/* How long to wait for that, in milliseconds; -1 is for ever. */
int server_timeout(const server_t *server);

/* Does what can be done without waiting. */
void server_run(server_t *server);

/* Takes no more connections, waits up to |timeout_ms| until what was answered
 * is sent, closes everything and frees |server|. */
void server_stop(server_t *server, int timeout_ms);


#endif
