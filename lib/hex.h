/*
 * Bytes from lower-case hex digits and back, internal to libtraceparent.
 *
 * Three ways to do the same: SSE2 and NEON where they belong to the compiler
 * target's baseline, and portable C for all others. -DTRACEPARENT_PORTABLE
 * chooses the last of them anywhere. None reads a byte more than it is told.
 */

#ifndef HEX_H
#define HEX_H


#include <stddef.h>
#include <stdint.h>

#if !defined(TRACEPARENT_PORTABLE) && defined(__SSE2__)
#define HEX_SSE2
#include <emmintrin.h>
#elif !defined(TRACEPARENT_PORTABLE) && defined(__AARCH64EL__)                 \
    && defined(__ARM_NEON)
#define HEX_NEON
#include <arm_neon.h>
#endif


/* What hex_digit() and hex_byte() return is more than this for other input. */
#define HEX_DIGIT_MAX 0x0f
#define HEX_BYTE_MAX  0xff


static inline unsigned
hex_digit(uint8_t c)
{
    unsigned digit = c - (unsigned) '0';
    unsigned letter = c - (unsigned) 'a';

    return digit < 10 ? digit : letter < 6 ? letter + 10 : HEX_BYTE_MAX + 1;
}


/* The byte of two digits. */
static inline unsigned
hex_byte(const uint8_t *src)
{
    return hex_digit(src[0]) << 4 | hex_digit(src[1]);
}


/* Writes |n| bytes from 2 * |n| digits; 0, or -1 if one of them is none. */
static inline int
hex_decode(uint8_t *dest, const uint8_t *src, size_t n)
{
    size_t i;
    unsigned all = 0;
    unsigned byte;

    for (i = 0; i < n; i++) {
        byte = hex_byte(src + 2 * i);
        all |= byte;
        dest[i] = (uint8_t) byte;
    }

    return all > HEX_BYTE_MAX ? -1 : 0;
}


/* Writes 2 * |n| digits. */
static inline void
hex_encode(uint8_t *dest, const uint8_t *src, size_t n)
{
    size_t i;

    for (i = 0; i < n; i++) {
        dest[2 * i] = (uint8_t) "0123456789abcdef"[src[i] >> 4];
        dest[2 * i + 1] = (uint8_t) "0123456789abcdef"[src[i] & 0x0f];
    }
}


/*
 * hex_decode_24() writes 24 bytes: 16 from the 32 digits at |src16|, 8 from the
 * 16 at |src8|. Returns 0, or -1 if one of them is no digit.
 * hex_encode_16() and hex_encode_8() write the digits of 16 and 8 bytes.
 */

#if defined(HEX_SSE2)


/* The value of each digit; of any other byte, something above 15. */
static inline __m128i
hex_sse2_digits(const uint8_t *src)
{
    __m128i c = _mm_loadu_si128((const __m128i *) (const void *) src);
    __m128i digit, letter;

    /* Digits go to the top of the range; saturation keeps a gap of 10 below
     * them, which the letters' values fit in when 0 to 9 are at the bottom. */
    digit = _mm_add_epi8(c, _mm_set1_epi8((char) (0xff - '9')));
    digit = _mm_subs_epu8(digit, _mm_set1_epi8(10));
    digit = _mm_sub_epi8(digit, _mm_set1_epi8((char) (0xff - 9 - 10)));

    /* Letters go to the bottom, saturation keeps others above it. */
    letter = _mm_sub_epi8(c, _mm_set1_epi8('a'));
    letter = _mm_adds_epu8(letter, _mm_set1_epi8(10));

    return _mm_min_epu8(digit, letter);
}


/* One byte in each 16-bit lane. A lane of digits is high + 256 * low, times
 * |by| it has 16 * high + low in its upper half. */
static inline __m128i
hex_sse2_bytes(__m128i digits, __m128i by)
{
    return _mm_srli_epi16(_mm_mullo_epi16(digits, by), 8);
}


static inline int
hex_decode_24(uint8_t *dest, const uint8_t *src16, const uint8_t *src8)
{
    __m128i a = hex_sse2_digits(src16);
    __m128i b = hex_sse2_digits(src16 + 16);
    __m128i c = hex_sse2_digits(src8);
    __m128i all = _mm_or_si128(_mm_or_si128(a, b), c);
    __m128i by = _mm_set1_epi16(16 * 256 + 1);

    /* Hides the value, or gcc makes three instructions of each product. */
    __asm__("" : "+x"(by));

    if (_mm_movemask_epi8(_mm_adds_epu8(all, _mm_set1_epi8(0x70))) != 0) {
        return -1;
    }

    a = _mm_packus_epi16(hex_sse2_bytes(a, by), hex_sse2_bytes(b, by));
    c = _mm_packus_epi16(hex_sse2_bytes(c, by), c);
    _mm_storeu_si128((__m128i *) (void *) dest, a);
    _mm_storel_epi64((__m128i *) (void *) (dest + 16), c);

    return 0;
}


static inline __m128i
hex_sse2_ascii(__m128i digits)
{
    __m128i letters = _mm_cmpgt_epi8(digits, _mm_set1_epi8(9));

    letters = _mm_and_si128(letters, _mm_set1_epi8('a' - '0' - 10));

    return _mm_add_epi8(_mm_add_epi8(digits, _mm_set1_epi8('0')), letters);
}


static inline void
hex_encode_16(uint8_t *dest, const uint8_t *src)
{
    __m128i mask = _mm_set1_epi8(0x0f);
    __m128i v = _mm_loadu_si128((const __m128i *) (const void *) src);
    __m128i high = hex_sse2_ascii(_mm_and_si128(_mm_srli_epi16(v, 4), mask));
    __m128i low = hex_sse2_ascii(_mm_and_si128(v, mask));

    _mm_storeu_si128((__m128i *) (void *) dest, _mm_unpacklo_epi8(high, low));
    _mm_storeu_si128(
        (__m128i *) (void *) (dest + 16), _mm_unpackhi_epi8(high, low));
}


static inline void
hex_encode_8(uint8_t *dest, const uint8_t *src)
{
    __m128i mask = _mm_set1_epi8(0x0f);
    __m128i v = _mm_loadl_epi64((const __m128i *) (const void *) src);
    __m128i both = _mm_unpacklo_epi8(_mm_srli_epi16(v, 4), v);

    _mm_storeu_si128(
        (__m128i *) (void *) dest, hex_sse2_ascii(_mm_and_si128(both, mask)));
}


#elif defined(HEX_NEON)


/* The value of each digit; of any other byte, something above 15. */
static inline uint8x16_t
hex_neon_digits(uint8x16_t c)
{
    uint8x16_t digit, letter;

    /* As with SSE2. */
    digit = vaddq_u8(c, vdupq_n_u8(0xff - '9'));
    digit = vqsubq_u8(digit, vdupq_n_u8(10));
    digit = vsubq_u8(digit, vdupq_n_u8(0xff - 9 - 10));

    letter = vsubq_u8(c, vdupq_n_u8('a'));
    letter = vqaddq_u8(letter, vdupq_n_u8(10));

    return vminq_u8(digit, letter);
}


static inline int
hex_decode_24(uint8_t *dest, const uint8_t *src16, const uint8_t *src8)
{
    uint8x16x2_t a = vld2q_u8(src16);
    uint8x8x2_t b = vld2_u8(src8);
    uint8x16_t high = hex_neon_digits(a.val[0]);
    uint8x16_t low = hex_neon_digits(a.val[1]);
    uint8x16_t rest = hex_neon_digits(vcombine_u8(b.val[0], b.val[1]));
    uint8x16_t all = vmaxq_u8(vmaxq_u8(high, low), rest);

    if (vmaxvq_u8(all) > HEX_DIGIT_MAX) {
        return -1;
    }

    vst1q_u8(dest, vsliq_n_u8(low, high, 4));
    vst1_u8(dest + 16, vsli_n_u8(vget_high_u8(rest), vget_low_u8(rest), 4));

    return 0;
}


static inline uint8x16_t
hex_neon_ascii(uint8x16_t digits)
{
    return vqtbl1q_u8(vld1q_u8((const uint8_t *) "0123456789abcdef"), digits);
}


static inline void
hex_encode_16(uint8_t *dest, const uint8_t *src)
{
    uint8x16_t v = vld1q_u8(src);
    uint8x16x2_t digits;

    digits.val[0] = hex_neon_ascii(vshrq_n_u8(v, 4));
    digits.val[1] = hex_neon_ascii(vandq_u8(v, vdupq_n_u8(0x0f)));
    vst2q_u8(dest, digits);
}


static inline void
hex_encode_8(uint8_t *dest, const uint8_t *src)
{
    uint8x8_t v = vld1_u8(src);
    uint8x8x2_t both = vzip_u8(vshr_n_u8(v, 4), vand_u8(v, vdup_n_u8(0x0f)));

    vst1q_u8(dest, hex_neon_ascii(vcombine_u8(both.val[0], both.val[1])));
}


#else


static inline int
hex_decode_24(uint8_t *dest, const uint8_t *src16, const uint8_t *src8)
{
    int err16 = hex_decode(dest, src16, 16);
    int err8 = hex_decode(dest + 16, src8, 8);

    return err16 | err8;
}


static inline void
hex_encode_16(uint8_t *dest, const uint8_t *src)
{
    hex_encode(dest, src, 16);
}


static inline void
hex_encode_8(uint8_t *dest, const uint8_t *src)
{
    hex_encode(dest, src, 8);
}


#endif


#endif
