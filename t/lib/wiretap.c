/*
 * Preloaded into nginx, notes every byte that goes over its sockets: what it
 * sends, and what its clients send to it. Of TLS, what is encrypted there.
 * Leak.pm reads that. In other programs it does nothing.
 *
 * WIRETAP names a directory. Each process has a file there, named by its pid,
 * of records: type, connection, length, and so many bytes behind them.
 *
 *   'a'   a client has connected
 *   'c'   nginx connects
 *   's'   sent
 *   'r'   received from a client
 */

#define _GNU_SOURCE

#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define MAX_FDS 65536
#define MAX_IOV 64

/* the function that is stood in front of */
#define REAL(name)                                                             \
    static __typeof__(name) *real;                                             \
    if (real == NULL)                                                          \
    *(void **) &real = dlsym(RTLD_NEXT, #name)

typedef struct ssl_st SSL;

int SSL_get_fd(const SSL *ssl) __attribute__((weak));
int SSL_read(SSL *ssl, void *buf, int num);
int SSL_write(SSL *ssl, const void *buf, int num);

struct connection {
    uint32_t type; /* 'a', 'c', or 0 for what is not tapped */
    uint32_t number;
};

static const char *directory;
static struct connection connections[MAX_FDS];
static uint32_t last_number;

__attribute__((constructor)) static void
begin(void)
{
    const char *name = getenv("WIRETAP");

    /* a copy, since nginx writes its title over the environment */
    if (name != NULL && dlsym(RTLD_DEFAULT, "ngx_cycle") != NULL)
        directory = strdup(name);
}

/* of this process: nginx forks */
static int
log_file(void)
{
    static int fd = -1;
    static pid_t owner;
    char name[4096];
    pid_t pid = getpid();

    if (owner != pid) {
        if (fd != -1)
            syscall(SYS_close, fd);

        snprintf(name, sizeof(name), "%s/%d", directory, (int) pid);
        fd = open(name, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
        owner = pid;
    }

    return fd;
}

/* in one write, which a kill does not part */
static void
note(uint32_t type, uint32_t number, const struct iovec *iov, int n, size_t len)
{
    uint32_t head[3] = {type, number, 0};
    struct iovec out[MAX_IOV + 1] = {{head, sizeof(head)}};
    size_t room = len;
    int i;

    for (i = 0; i < n && i < MAX_IOV && room > 0; i++) {
        out[i + 1] = iov[i];
        if (out[i + 1].iov_len > room)
            out[i + 1].iov_len = room;
        room -= out[i + 1].iov_len;
    }

    head[2] = (uint32_t) (len - room);
    syscall(SYS_writev, log_file(), out, i + 1);

    if (room > 0 && i == MAX_IOV)
        note(type, number, iov + i, n - i, room);
}

static void
note_bytes(int fd, uint32_t type, const void *bytes, ssize_t len)
{
    struct iovec iov = {(void *) (uintptr_t) bytes, 0};

    if (len <= 0 || fd < 0 || fd >= MAX_FDS || connections[fd].type == 0)
        return;

    iov.iov_len = (size_t) len;
    note(type, connections[fd].number, &iov, 1, iov.iov_len);
}

static void
open_connection(int fd, uint32_t type)
{
    if (directory == NULL || fd < 0 || fd >= MAX_FDS)
        return;

    connections[fd].type = type;
    connections[fd].number = ++last_number;
    note(type, last_number, NULL, 0, 0);
}

int
accept(int s, struct sockaddr *addr, socklen_t *len)
{
    int fd;
    REAL(accept);

    fd = real(s, addr, len);
    open_connection(fd, 'a');
    return fd;
}

int
accept4(int s, struct sockaddr *addr, socklen_t *len, int flags)
{
    int fd;
    REAL(accept4);

    fd = real(s, addr, len, flags);
    open_connection(fd, 'a');
    return fd;
}

int
connect(int fd, const struct sockaddr *addr, socklen_t len)
{
    REAL(connect);

    open_connection(fd, 'c');
    return real(fd, addr, len);
}

int
close(int fd)
{
    REAL(close);

    if (fd >= 0 && fd < MAX_FDS)
        connections[fd].type = 0;
    return real(fd);
}

ssize_t
send(int fd, const void *buf, size_t len, int flags)
{
    ssize_t n;
    REAL(send);

    n = real(fd, buf, len, flags);
    note_bytes(fd, 's', buf, n);
    return n;
}

ssize_t
writev(int fd, const struct iovec *iov, int iovcnt)
{
    ssize_t n;
    REAL(writev);

    n = real(fd, iov, iovcnt);
    if (n > 0 && fd < MAX_FDS && connections[fd].type != 0)
        note('s', connections[fd].number, iov, iovcnt, (size_t) n);
    return n;
}

ssize_t
sendfile64(int fd, int in, off64_t *offset, size_t count)
{
    off64_t start = *offset;
    ssize_t n, part;
    char buf[16384];
    REAL(sendfile64);

    n = real(fd, in, offset, count);
    for (ssize_t done = 0; done < n; done += part) {
        part = pread64(in, buf, sizeof(buf), start + done);
        if (part <= 0)
            break;
        note_bytes(fd, 's', buf, part < n - done ? part : n - done);
    }
    return n;
}

ssize_t
recv(int fd, void *buf, size_t len, int flags)
{
    ssize_t n;
    REAL(recv);

    n = real(fd, buf, len, flags);
    if (fd >= 0 && fd < MAX_FDS && connections[fd].type == 'a'
        && !(flags & MSG_PEEK))
        note_bytes(fd, 'r', buf, n);
    return n;
}

int
SSL_read(SSL *ssl, void *buf, int num)
{
    int n, fd = SSL_get_fd(ssl);
    REAL(SSL_read);

    n = real(ssl, buf, num);
    if (fd >= 0 && fd < MAX_FDS && connections[fd].type == 'a')
        note_bytes(fd, 'r', buf, n);
    return n;
}

int
SSL_write(SSL *ssl, const void *buf, int num)
{
    int n;
    REAL(SSL_write);

    n = real(ssl, buf, num);
    note_bytes(SSL_get_fd(ssl), 's', buf, n);
    return n;
}
