/*
 * UTF-8, as table 3-7 of The Unicode Standard has it: no overlong form, no
 * surrogate, nothing above U+10FFFF.
 */

#ifndef UTF8_H
#define UTF8_H


#include <stddef.h>
#include <stdint.h>


#define UTF8_REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */


/* Reads one code point of |len| bytes, of which there is at least one.
 * Returns how many bytes it took, or 0 if they are not UTF-8. */
size_t utf8_decode(uint32_t *code, const uint8_t *src, size_t len);

/* Whether |len| bytes at |src| are UTF-8. */
int utf8_valid(const uint8_t *src, size_t len);

/* Returns a copy that ends in NUL, to be freed, with U+FFFD in the place of
 * each bad byte and of each NUL; or NULL if memory is short. */
char *utf8_mend(const char *src, size_t len);


#endif
