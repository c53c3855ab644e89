#define _GNU_SOURCE /* getrandom(), O_CLOEXEC */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include <traceparent/ids.h>

#include "hex.h"


/* Never 0, which is what a zeroed stock has. Changes only in a new process,
 * while that has a single thread. */
static unsigned generation = 1;

static pthread_once_t watch_once = PTHREAD_ONCE_INIT;
static int watch_error;


static void
forked(void)
{
    generation++;

    if (generation == 0) {
        generation = 1;
    }
}


static void
watch_forks(void)
{
    watch_error = pthread_atfork(NULL, NULL, forked);
}


/* For kernels without getrandom(2), and sandboxes that hide it. */
static int
read_urandom(uint8_t *dest, size_t len)
{
    ssize_t n;
    int fd;

    fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);

    if (fd == -1) {
        return TRACEPARENT_ERR_RANDOM;
    }

    while (len > 0) {
        n = read(fd, dest, len);

        if (n > 0) {
            dest += n;
            len -= (size_t) n;

        } else if (n == 0 || errno != EINTR) {
            break;
        }
    }

    close(fd);

    return len == 0 ? 0 : TRACEPARENT_ERR_RANDOM;
}


static int
read_random(uint8_t *dest, size_t len)
{
    ssize_t n;

    while (len > 0) {
        n = getrandom(dest, len, 0);

        if (n >= 0) {
            dest += n;
            len -= (size_t) n;

        } else if (errno == ENOSYS) {
            return read_urandom(dest, len);

        } else if (errno != EINTR) {
            return TRACEPARENT_ERR_RANDOM;
        }
    }

    return 0;
}


/* Apart: who takes an id saves no registers for what is rarely needed. */
static __attribute__((cold, noinline)) int
fill(traceparent_ids_t *ids)
{
    int err;

    ids->left = 0;

    /* Without the watch a child would repeat its parent's ids. */
    if (pthread_once(&watch_once, watch_forks) != 0 || watch_error != 0) {
        return TRACEPARENT_ERR_RANDOM;
    }

    err = read_random((uint8_t *) ids->words, sizeof(ids->words));

    if (err != 0) {
        return err;
    }

    ids->left = sizeof(ids->words) / sizeof(ids->words[0]);
    ids->generation = generation;

    return 0;
}


static inline int
take(uint64_t *dest, traceparent_ids_t *ids)
{
    int err;

    if (ids->left == 0 || ids->generation != generation) {
        err = fill(ids);

        if (err != 0) {
            return err;
        }
    }

    *dest = ids->words[--ids->left];

    return 0;
}


int
traceparent_ids_trace(traceparent_ids_t *ids, uint8_t *dest)
{
    uint64_t words[2];

    do {
        if (take(&words[0], ids) != 0 || take(&words[1], ids) != 0) {
            return TRACEPARENT_ERR_RANDOM;
        }
    } while ((words[0] | words[1]) == 0);

    memcpy(dest, words, sizeof(words));

    return 0;
}


int
traceparent_ids_span(traceparent_ids_t *ids, uint8_t *dest)
{
    uint64_t word;

    do {
        if (take(&word, ids) != 0) {
            return TRACEPARENT_ERR_RANDOM;
        }
    } while (word == 0);

    memcpy(dest, &word, sizeof(word));

    return 0;
}


void
traceparent_hex(uint8_t *dest, const uint8_t *src, size_t len)
{
    for (; len >= 16; len -= 16) {
        hex_encode_16(dest, src);
        dest += 32;
        src += 16;
    }

    if (len >= 8) {
        hex_encode_8(dest, src);
        dest += 16;
        src += 8;
        len -= 8;
    }

    hex_encode(dest, src, len);
}
