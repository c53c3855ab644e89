/*
 * Strings as OTLP wants them: UTF-8. Bytes that are not UTF-8 are mended on
 * the way: each maximal bad subsequence becomes one U+FFFD (The Unicode
 * Standard, section 3.9, "U+FFFD Substitution of Maximal Subparts"), which
 * may make a string up to three times as long, and never shorter.
 */

#ifndef OTLP_TEXT_H
#define OTLP_TEXT_H


#include <stddef.h>
#include <stdint.h>


/* How many bytes |len| bytes at |src| become when they are written. */
size_t otlp_text_size(const uint8_t *src, size_t len);

/* Writes them, and returns the address behind. */
uint8_t *otlp_text_write(uint8_t *dest, const uint8_t *src, size_t len);


#endif
