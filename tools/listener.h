/* The socket that the receiver listens on, from its name to its removal. */

#ifndef LISTENER_H
#define LISTENER_H


#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/un.h>


typedef struct {
    int fd;
    char name[sizeof(((struct sockaddr_un *) NULL)->sun_path) + 8];
    const char *path; /* in |name|; NULL if it is not a Unix socket */
    dev_t device;     /* of the socket file */
    ino_t inode;
} listener_t;


/*
 * Listens on |address|, "unix:PATH" or "HOST:PORT" with a loopback address,
 * and sets |listener|: its |name| is what a client connects to, with the port
 * that the system chose instead of 0.
 *
 * A socket file nobody listens on is replaced; anything else in its place is
 * left alone, and an error. Everybody on the machine may connect (mode 0666).
 *
 * Returns 0, COMMAND_USAGE for an address that makes no sense, or
 * COMMAND_FAILED. Errors are told on stderr, beginning with |command|.
 */
int listener_open(
    listener_t *listener, const char *address, const char *command);

/* Removes the socket file, unless another one has taken its place. The
 * descriptor stays open: it is the server's. */
void listener_remove(listener_t *listener);


#endif
