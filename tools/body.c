#include <stdlib.h>
#include <string.h>

#include "body.h"


#define BODY_SIZE_MIN (16 * 1024)


/* What the bodies of all requests have allocated. */
static size_t allocated;


static int
grow(body_t *body, size_t need)
{
    size_t size;
    uint8_t *data;

    for (size = body->size > 0 ? body->size : BODY_SIZE_MIN; size < need;) {
        size *= 2;
    }

    if (size == body->size) {
        return 0;
    }

    if (allocated + (size - body->size) > BODY_ALL_MAX) {
        return BODY_ERR_MEMORY;
    }

    data = realloc(body->data, size);

    if (data == NULL) {
        return BODY_ERR_MEMORY;
    }

    allocated += size - body->size;
    body->data = data;
    body->size = size;

    return 0;
}


static int
append(body_t *body, const uint8_t *src, size_t len)
{
    int err;

    if (len > BODY_MAX - body->len) {
        return BODY_ERR_SIZE;
    }

    err = grow(body, body->len + len);

    if (err == 0 && len > 0) {
        memcpy(body->data + body->len, src, len);
        body->len += len;
    }

    return err;
}


static int
decompress(body_t *body, const uint8_t *src, size_t len)
{
    int rc, err;
    uint8_t out[16384];
    z_stream *stream = &body->stream;

    /* zlib takes no const pointer, and changes nothing behind it */
    stream->next_in = (Bytef *) (uintptr_t) src;
    stream->avail_in = (uInt) len;

    do {
        /* RFC 1952, section 2.2: members follow each other */
        if (body->ended) {
            if (stream->avail_in == 0) {
                break;
            }

            inflateReset(stream);
            body->ended = 0;
        }

        stream->next_out = out;
        stream->avail_out = sizeof(out);
        rc = inflate(stream, Z_NO_FLUSH);

        if (rc != Z_OK && rc != Z_STREAM_END && rc != Z_BUF_ERROR) {
            return rc == Z_MEM_ERROR ? BODY_ERR_MEMORY : BODY_ERR_GZIP;
        }

        err = append(body, out, sizeof(out) - stream->avail_out);

        if (err != 0) {
            return err;
        }

        body->ended = rc == Z_STREAM_END;
    } while (stream->avail_in > 0 || stream->avail_out == 0);

    return 0;
}


int
body_begin(body_t *body, int gzip)
{
    /* 16: a gzip header and trailer, and nothing else (zlib.h) */
    if (gzip && inflateInit2(&body->stream, 16 + MAX_WBITS) != Z_OK) {
        body->err = BODY_ERR_MEMORY;
        return body->err;
    }

    body->gzip = gzip;

    return 0;
}


void
body_add(body_t *body, const void *src, size_t len)
{
    if (body->err != 0) {
        return;
    }

    body->err
        = body->gzip ? decompress(body, src, len) : append(body, src, len);

    if (body->err != 0) {
        body_free(body);
    }
}


int
body_end(body_t *body)
{
    if (body->err == 0 && body->gzip && !body->ended) {
        body->err = BODY_ERR_GZIP;
    }

    return body->err;
}


void
body_free(body_t *body)
{
    if (body->gzip) {
        inflateEnd(&body->stream);
        body->gzip = 0;
    }

    free(body->data);
    allocated -= body->size;
    body->data = NULL;
    body->len = 0;
    body->size = 0;
}
