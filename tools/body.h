/*
 * A request's body as it arrives in pieces: kept in memory, decompressed on
 * the way, and bounded whatever it expands to.
 */

#ifndef BODY_H
#define BODY_H


#include <stddef.h>
#include <stdint.h>

#include <zlib.h>


/* One body, decompressed, in bytes. */
#define BODY_MAX (20 * 1024 * 1024)

/* All bodies that are being received at one time, in bytes. */
#define BODY_ALL_MAX (160 * 1024 * 1024)

#define BODY_ERR_SIZE   -1 /* longer than BODY_MAX */
#define BODY_ERR_MEMORY -2 /* others take what there is, for the moment */
#define BODY_ERR_GZIP   -3 /* not what gzip writes, or cut off */


typedef struct {
    uint8_t *data;
    size_t len;
    size_t size; /* allocated */
    int err;     /* the first; what comes after it is passed over */
    int gzip;
    int ended; /* the gzip member is complete, another one may follow */
    z_stream stream;
} body_t;


/* Begins a body in zeroed memory. Returns 0 or BODY_ERR_MEMORY. */
int body_begin(body_t *body, int gzip);

/* Adds |len| bytes as received. An error is kept in body->err, and frees what
 * was received. */
void body_add(body_t *body, const void *src, size_t len);

/* The last byte was received. Returns 0, or the error of the body. */
int body_end(body_t *body);

/* May be called at any time, and more than once. */
void body_free(body_t *body);


#endif
