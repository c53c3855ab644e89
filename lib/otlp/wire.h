/*
 * The protobuf wire format, written forwards (protobuf.dev/programming-guides/
 * encoding). Each function writes at |dest|, has no bounds of its own, and
 * returns the address behind what it wrote.
 */

#ifndef OTLP_WIRE_H
#define OTLP_WIRE_H


#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__SSE2__) && !defined(TRACEPARENT_PORTABLE)
#define OTLP_WIRE_SSE2 1
#include <emmintrin.h>
#endif


/* The tag of a field. Those above 15 take two bytes; see otlp_wire_varint(). */
#define OTLP_WIRE_VARINT(field)  ((field) << 3)
#define OTLP_WIRE_FIXED64(field) ((field) << 3 | 1)
#define OTLP_WIRE_BYTES(field)   ((field) << 3 | 2)
#define OTLP_WIRE_FIXED32(field) ((field) << 3 | 5)

#define OTLP_WIRE_IS_BYTES(tag) (((tag) &7) == 2)

/* The highest bit of each byte. */
#define OTLP_WIRE_NOT_ASCII UINT64_C(0x8080808080808080)


static inline size_t
otlp_wire_varint_size(uint64_t value)
{
    size_t size;

    for (size = 1; value >= 0x80; size++) {
        value >>= 7;
    }

    return size;
}


static inline uint8_t *
otlp_wire_varint(uint8_t *dest, uint64_t value)
{
    while (value >= 0x80) {
        *dest++ = (uint8_t) (value | 0x80);
        value >>= 7;
    }

    *dest++ = (uint8_t) value;

    return dest;
}


/* Compilers make one store of each of the next two. */

static inline uint8_t *
otlp_wire_fixed32(uint8_t *dest, uint32_t value)
{
    dest[0] = (uint8_t) value;
    dest[1] = (uint8_t) (value >> 8);
    dest[2] = (uint8_t) (value >> 16);
    dest[3] = (uint8_t) (value >> 24);

    return dest + 4;
}


static inline uint8_t *
otlp_wire_fixed64(uint8_t *dest, uint64_t value)
{
    dest[0] = (uint8_t) value;
    dest[1] = (uint8_t) (value >> 8);
    dest[2] = (uint8_t) (value >> 16);
    dest[3] = (uint8_t) (value >> 24);
    dest[4] = (uint8_t) (value >> 32);
    dest[5] = (uint8_t) (value >> 40);
    dest[6] = (uint8_t) (value >> 48);
    dest[7] = (uint8_t) (value >> 56);

    return dest + 8;
}


#if (OTLP_WIRE_SSE2)

static inline uint64_t
otlp_wire_copy_long(uint8_t *dest, const uint8_t *src, size_t len)
{
    __m128i bits, block;
    size_t i;

    bits = _mm_loadu_si128((const __m128i *) (src + len - 16));
    _mm_storeu_si128((__m128i *) (dest + len - 16), bits);

    for (i = 0; i + 16 < len; i += 16) {
        block = _mm_loadu_si128((const __m128i *) (src + i));
        _mm_storeu_si128((__m128i *) (dest + i), block);
        bits = _mm_or_si128(bits, block);
    }

    return (uint64_t) _mm_movemask_epi8(bits);
}

#else

static inline uint64_t
otlp_wire_copy_long(uint8_t *dest, const uint8_t *src, size_t len)
{
    uint64_t bits, word;
    size_t i;

    memcpy(&bits, src + len - 8, 8);
    memcpy(dest + len - 8, &bits, 8);

    for (i = 0; i + 8 < len; i += 8) {
        memcpy(&word, src + i, 8);
        memcpy(dest + i, &word, 8);
        bits |= word;
    }

    return bits & OTLP_WIRE_NOT_ASCII;
}

#endif


/*
 * memcpy() for what is mostly short: its fixed sizes become single moves, of
 * which the last overlaps the one before. |src| may be NULL if |len| is 0.
 * Returns 0 if all bytes are ASCII, for those who ask.
 */
static inline uint64_t
otlp_wire_copy(uint8_t *dest, const uint8_t *src, size_t len)
{
    uint32_t half, last_half;
    uint64_t word, last;
    if (len >= 16) {
        return otlp_wire_copy_long(dest, src, len);
    }

    if (len >= 8) {
        memcpy(&word, src, 8);
        memcpy(&last, src + len - 8, 8);
        memcpy(dest, &word, 8);
        memcpy(dest + len - 8, &last, 8);

    } else if (len >= 4) {
        memcpy(&half, src, 4);
        memcpy(&last_half, src + len - 4, 4);
        memcpy(dest, &half, 4);
        memcpy(dest + len - 4, &last_half, 4);
        word = half;
        last = last_half;

    } else if (len > 0) {
        dest[0] = src[0];
        dest[len / 2] = src[len / 2];
        dest[len - 1] = src[len - 1];
        word = dest[0] | dest[len / 2];
        last = dest[len - 1];

    } else {
        return 0;
    }

    return (word | last) & OTLP_WIRE_NOT_ASCII;
}


/* A field of bytes, without its content. */
static inline uint8_t *
otlp_wire_bytes(uint8_t *dest, unsigned field, size_t len)
{
    *dest++ = (uint8_t) OTLP_WIRE_BYTES(field);

    return otlp_wire_varint(dest, len);
}


static inline size_t
otlp_wire_bytes_size(size_t len)
{
    return 1 + otlp_wire_varint_size(len) + len;
}


#endif
