#define _GNU_SOURCE /* SOCK_CLOEXEC */

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command.h"
#include "listener.h"


static int
complain(const char *command, const char *address, const char *what)
{
    fprintf(stderr, "%s: %s: %s\n", command, address, what);

    return COMMAND_FAILED;
}


/*
 * What is at |path|: 0 nothing, or nothing any more; else an error number,
 * EADDRINUSE if somebody listens there, ENOTSOCK if it is another kind of file.
 */
static int
clear_path(const struct sockaddr_un *sun)
{
    int fd, err;
    struct stat st;

    if (lstat(sun->sun_path, &st) == -1) {
        return errno == ENOENT ? 0 : errno;
    }

    if (!S_ISSOCK(st.st_mode)) {
        return ENOTSOCK;
    }

    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd == -1) {
        return errno;
    }

    err = connect(fd, (const struct sockaddr *) sun, sizeof(*sun)) == -1
              ? errno
              : EADDRINUSE;
    close(fd);

    /* somebody listens, and has no time at the moment; or listens to another
     * kind of socket */
    if (err == EAGAIN || err == EPROTOTYPE) {
        return EADDRINUSE;
    }

    if (err != ECONNREFUSED) {
        return err;
    }

    return unlink(sun->sun_path) == -1 ? errno : 0;
}


static int
open_unix(listener_t *listener, const char *address, const char *command)
{
    int err;
    mode_t mask;
    const char *path;
    struct stat st;
    struct sockaddr_un sun;

    path = address + strlen("unix:");
    memset(&sun, 0, sizeof(sun));
    sun.sun_family = AF_UNIX;

    if (path[0] == '\0' || strlen(path) >= sizeof(sun.sun_path)) {
        fprintf(stderr, "%s: %s: the path is %s\n", command, address,
            path[0] == '\0' ? "missing" : "longer than 107 bytes");
        return COMMAND_USAGE;
    }

    strcpy(sun.sun_path, path);
    err = clear_path(&sun);

    if (err != 0) {
        return complain(command, address,
            err == EADDRINUSE ? "is in use"
            : err == ENOTSOCK ? "exists and is not a socket"
                              : strerror(err));
    }

    listener->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (listener->fd == -1) {
        return complain(command, address, strerror(errno));
    }

    mask = umask(0111);
    err = bind(listener->fd, (const struct sockaddr *) &sun, sizeof(sun));
    err = err == 0 ? 0 : errno;
    umask(mask);

    if (err != 0) {
        close(listener->fd);
        return complain(
            command, address, err == EADDRINUSE ? "is in use" : strerror(err));
    }

    snprintf(listener->name, sizeof(listener->name), "unix:%s", path);
    listener->path = listener->name + strlen("unix:");

    if (lstat(path, &st) == 0) {
        listener->device = st.st_dev;
        listener->inode = st.st_ino;
    }

    return COMMAND_OK;
}


/* Splits "HOST:PORT" or "[HOST]:PORT", in place. Returns 0 or -1. */
static int
split_address(char *address, char **host, char **port)
{
    char *colon, *end;
    long number;

    colon = strrchr(address, ':');

    if (colon == NULL || colon == address || colon[1] < '0' || colon[1] > '9') {
        return -1;
    }

    number = strtol(colon + 1, &end, 10);

    if (*end != '\0' || number > 65535) {
        return -1;
    }

    *colon = '\0';
    *host = address;
    *port = colon + 1;

    if (address[0] == '[') {
        if (colon[-1] != ']') {
            return -1;
        }

        colon[-1] = '\0';
        *host = address + 1;

        return 0;
    }

    return strchr(address, ':') == NULL ? 0 : -1;
}


static int
is_loopback(const struct sockaddr *addr)
{
    const struct sockaddr_in *sin;
    const struct sockaddr_in6 *sin6;

    if (addr->sa_family == AF_INET) {
        sin = (const struct sockaddr_in *) (const void *) addr;
        return ntohl(sin->sin_addr.s_addr) >> 24 == 127;
    }

    if (addr->sa_family == AF_INET6) {
        sin6 = (const struct sockaddr_in6 *) (const void *) addr;
        return IN6_IS_ADDR_LOOPBACK(&sin6->sin6_addr);
    }

    return 0;
}


/* Binds to |info|, and names what came of it. Returns 0 or -1. */
static int
bind_tcp(listener_t *listener, const struct addrinfo *info)
{
    int one = 1;
    char host[NI_MAXHOST], port[NI_MAXSERV];
    socklen_t len;
    struct sockaddr_storage bound;

    listener->fd
        = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP);

    if (listener->fd == -1) {
        return -1;
    }

    len = sizeof(bound);

    if (setsockopt(listener->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one))
            == -1
        || bind(listener->fd, info->ai_addr, info->ai_addrlen) == -1
        || getsockname(listener->fd, (struct sockaddr *) &bound, &len) == -1
        || getnameinfo((struct sockaddr *) &bound, len, host, sizeof(host),
               port, sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV)
               != 0) {
        close(listener->fd);
        return -1;
    }

    snprintf(listener->name, sizeof(listener->name),
        bound.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
    listener->path = NULL;

    return 0;
}


static int
open_tcp(listener_t *listener, const char *address, const char *command)
{
    int rc;
    char *copy, *host, *port;
    struct addrinfo hints, *list, *info;

    copy = strdup(address);

    if (copy == NULL) {
        return complain(command, address, strerror(errno));
    }

    if (split_address(copy, &host, &port) != 0) {
        free(copy);
        fprintf(stderr, "%s: %s: neither unix:PATH nor HOST:PORT\n", command,
            address);
        return COMMAND_USAGE;
    }

    memset(&hints, 0, sizeof(hints));
    hints.ai_socktype = SOCK_STREAM;
    rc = getaddrinfo(host, port, &hints, &list);
    free(copy);

    if (rc != 0) {
        return complain(command, address, gai_strerror(rc));
    }

    info = list;

    while (info != NULL && !is_loopback(info->ai_addr)) {
        info = info->ai_next;
    }

    if (info == NULL) {
        rc = complain(command, address, "is not a loopback address");

    } else if (bind_tcp(listener, info) == -1) {
        rc = complain(command, address,
            errno == EADDRINUSE ? "is in use" : strerror(errno));
    }

    freeaddrinfo(list);

    return rc;
}


int
listener_open(listener_t *listener, const char *address, const char *command)
{
    int rc;

    rc = strncmp(address, "unix:", 5) == 0
             ? open_unix(listener, address, command)
             : open_tcp(listener, address, command);

    if (rc != COMMAND_OK) {
        return rc;
    }

    if (listen(listener->fd, SOMAXCONN) == -1) {
        rc = complain(command, address, strerror(errno));
        listener_remove(listener);
        close(listener->fd);
    }

    return rc;
}


void
listener_remove(listener_t *listener)
{
    struct stat st;

    if (listener->path != NULL && lstat(listener->path, &st) == 0
        && st.st_dev == listener->device && st.st_ino == listener->inode) {
        unlink(listener->path);
    }

    listener->path = NULL;
}
