#include "text.h"
#include "wire.h"


/*
 * The length of the well-formed sequence at |p| (The Unicode Standard, table
 * 3-7), of which |left| bytes, at least one, are there. With |*valid| 0 it is
 * the length of the maximal subpart of one, or 1 if there is none.
 */
static size_t
sequence(const uint8_t *p, size_t left, int *valid)
{
    uint8_t low, high;
    size_t n, need;

    *valid = p[0] < 0x80;

    if (p[0] < 0xc2 || p[0] > 0xf4) {
        return 1;
    }

    need = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;

    /* what the lead byte leaves of the second one: no overlong form, no
     * surrogate, nothing above U+10FFFF */
    low = p[0] == 0xe0 ? 0xa0 : p[0] == 0xf0 ? 0x90 : 0x80;
    high = p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : 0xbf;

    for (n = 1; n < need; n++) {
        if (n == left || p[n] < low || p[n] > high) {
            return n;
        }

        low = 0x80;
        high = 0xbf;
    }

    *valid = 1;

    return need;
}


/* Writes, or only counts if |dest| is NULL. */
static size_t
mend(uint8_t *dest, const uint8_t *src, size_t len)
{
    int valid;
    size_t i, n, size;
    const uint8_t *from;

    static const uint8_t replacement[3] = {0xef, 0xbf, 0xbd};

    for (i = 0, size = 0; i < len; i += n) {
        n = sequence(src + i, len - i, &valid);
        from = valid ? src + i : replacement;

        if (dest != NULL) {
            memcpy(dest + size, from, valid ? n : sizeof(replacement));
        }

        size += valid ? n : sizeof(replacement);
    }

    return size;
}


size_t
otlp_text_size(const uint8_t *src, size_t len)
{
    size_t i;
    uint64_t word;

    /* most strings are ASCII to their end */
    for (i = 0; len - i >= sizeof(word); i += sizeof(word)) {
        memcpy(&word, src + i, sizeof(word));

        if ((word & OTLP_WIRE_NOT_ASCII) != 0) {
            break;
        }
    }

    return i < len ? i + mend(NULL, src + i, len - i) : len;
}


uint8_t *
otlp_text_write(uint8_t *dest, const uint8_t *src, size_t len)
{
    if (otlp_wire_copy(dest, src, len) == 0) {
        return dest + len;
    }

    return dest + mend(dest, src, len);
}
