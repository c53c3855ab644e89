#define _GNU_SOURCE /* fopencookie() */

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <unistd.h>

#include "output.h"


#define LAST_WAIT_MS 1000


static int out_fd;
static int out_stop_fd;
static int out_error;


/* Waits until PIPE_BUF bytes can be written. Returns 0 or an error number. */
static int
wait_writable(void)
{
    int n;
    struct pollfd fds[2] = {{out_fd, POLLOUT, 0}, {out_stop_fd, POLLIN, 0}};

    do {
        n = poll(fds, 2, -1);

        if (n > 0 && fds[0].revents == 0) {
            n = poll(fds, 1, LAST_WAIT_MS);
        }
    } while (n == -1 && errno == EINTR);

    return n > 0 ? 0 : n == 0 ? ETIMEDOUT : errno;
}


static ssize_t
write_some(void *cookie, const char *data, size_t len)
{
    size_t done;
    ssize_t n;

    (void) cookie;

    for (done = 0; done < len && out_error == 0;) {
        out_error = wait_writable();

        if (out_error != 0) {
            break;
        }

        /* as much as a writable pipe takes without making us wait */
        n = write(
            out_fd, data + done, len - done < PIPE_BUF ? len - done : PIPE_BUF);

        if (n >= 0) {
            done += (size_t) n;

        } else if (errno != EAGAIN && errno != EINTR) {
            out_error = errno;
        }
    }

    return out_error == 0 ? (ssize_t) done : 0;
}


FILE *
output_open(int fd, int stop_fd)
{
    cookie_io_functions_t functions = {NULL, write_some, NULL, NULL};

    out_fd = fd;
    out_stop_fd = stop_fd;
    out_error = 0;

    return fopencookie(NULL, "w", functions);
}


int
output_error(void)
{
    return out_error;
}
