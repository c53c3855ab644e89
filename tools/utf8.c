#include <stdlib.h>
#include <string.h>

#include "utf8.h"


size_t
utf8_decode(uint32_t *code, const uint8_t *src, size_t len)
{
    size_t i, need;
    uint32_t c, min;

    c = src[0];

    if (c < 0x80) {
        *code = c;
        return 1;
    }

    if (c < 0xc2 || c > 0xf4) {
        return 0;
    }

    need = c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
    min = need == 2 ? 0x80 : need == 3 ? 0x800 : 0x10000;

    if (len < need) {
        return 0;
    }

    c &= 0x7fu >> need;

    for (i = 1; i < need; i++) {
        if ((src[i] & 0xc0) != 0x80) {
            return 0;
        }

        c = c << 6 | (src[i] & 0x3f);
    }

    if (c < min || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff)) {
        return 0;
    }

    *code = c;

    return need;
}


int
utf8_valid(const uint8_t *src, size_t len)
{
    size_t i, n;
    uint32_t code;

    for (i = 0; i < len; i += n) {
        n = utf8_decode(&code, src + i, len - i);

        if (n == 0) {
            return 0;
        }
    }

    return 1;
}


char *
utf8_mend(const char *src, size_t len)
{
    char *dest, *p;
    size_t i, n;
    uint32_t code;

    if (len > (SIZE_MAX - 1) / 3) {
        return NULL;
    }

    dest = malloc(3 * len + 1);

    if (dest == NULL) {
        return NULL;
    }

    for (p = dest, i = 0; i < len; i += n) {
        n = utf8_decode(&code, (const uint8_t *) src + i, len - i);

        if (n == 0 || code == 0) {
            memcpy(p, UTF8_REPLACEMENT, 3);
            p += 3;
            n = 1;

        } else {
            memcpy(p, src + i, n);
            p += n;
        }
    }

    *p = '\0';

    return dest;
}
