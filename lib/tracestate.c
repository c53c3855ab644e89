#include <string.h>

#include <traceparent/tracestate.h>

#if !defined(TRACEPARENT_PORTABLE) && defined(__SSE2__)
#define TRACESTATE_SSE2
#include <emmintrin.h>
#endif


/* Saves a tenth of tracestate_validate(). */
#define ALWAYS_INLINE inline __attribute__((always_inline))

/* For the members of a list, and the one that is too many. */
#define ROOM (TRACESTATE_MEMBERS_MAX + 1)


/* What a byte may be part of (section 3.3.1.3). */
enum { NONE = 0, VALUE = 1, KEY = 2, KEY_START = 4 };

/* clang-format off */
#define N NONE
#define V VALUE
#define K (VALUE | KEY)
#define S (VALUE | KEY | KEY_START)

static const uint8_t classes[256] = {
    N, N, N, N, N, N, N, N, N, N, N, N, N, N, N, N,
    N, N, N, N, N, N, N, N, N, N, N, N, N, N, N, N,
    V, V, V, V, V, V, V, V, V, V, K, V, N, K, V, K, /*  !"#$%&'()*+,-./ */
    S, S, S, S, S, S, S, S, S, S, V, V, V, N, V, V, /* 0123456789:;<=>? */
    K, V, V, V, V, V, V, V, V, V, V, V, V, V, V, V, /* @ABCDEFGHIJKLMNO */
    V, V, V, V, V, V, V, V, V, V, V, V, V, V, V, K, /* PQRSTUVWXYZ[\]^_ */
    V, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, /* `abcdefghijklmno */
    S, S, S, S, S, S, S, S, S, S, S, V, V, V, V, N  /* pqrstuvwxyz{|}~  */
};

#undef N
#undef V
#undef K
#undef S
/* clang-format on */


static int
is_ows(uint8_t c)
{
    return c == ' ' || c == '\t';
}


/* The first byte that is not of the class. */
static inline const uint8_t *
skip_class(const uint8_t *p, const uint8_t *end, unsigned class)
{
    /* One test of the end for four bytes. */
    for (; end - p >= 4; p += 4) {
        if ((classes[p[0]] & class) == 0) {
            return p;
        }

        if ((classes[p[1]] & class) == 0) {
            return p + 1;
        }

        if ((classes[p[2]] & class) == 0) {
            return p + 2;
        }

        if ((classes[p[3]] & class) == 0) {
            return p + 3;
        }
    }

    while (p != end && (classes[*p] & class) != 0) {
        p++;
    }

    return p;
}


#ifdef TRACESTATE_SSE2


/* One bit for each of 16 bytes, set if it cannot be in a value. */
static inline unsigned
not_value(const uint8_t *src)
{
    __m128i c = _mm_loadu_si128((const __m128i *) (const void *) src);
    __m128i delimiter, printable;

    delimiter = _mm_or_si128(_mm_cmpeq_epi8(c, _mm_set1_epi8(',')),
        _mm_cmpeq_epi8(c, _mm_set1_epi8('=')));

    /* As signed numbers, with one added, DEL and what is above it are below a
     * space, too. */
    c = _mm_add_epi8(c, _mm_set1_epi8(1));
    printable = _mm_cmpgt_epi8(c, _mm_set1_epi8(' '));

    return 0xffff
           ^ (unsigned) _mm_movemask_epi8(
               _mm_andnot_si128(delimiter, printable));
}


/* skip_class() for values; bytes may be read from |begin| on. */
static inline const uint8_t *
skip_value(const uint8_t *begin, const uint8_t *p, const uint8_t *end)
{
    unsigned bad;

    while (end - p >= 16) {
        bad = not_value(p);

        if (bad != 0) {
            return p + (unsigned) __builtin_ctz(bad);
        }

        p += 16;

        /* Span-ids are common, and 16 bytes long. */
        if (p == end || *p == ',') {
            return p;
        }
    }

    if (end - begin < 16) {
        return skip_class(p, end, VALUE);
    }

    /* The last 16 bytes, without those before |p|. */
    bad = not_value(end - 16) >> (16 - (end - p));

    return bad != 0 ? p + (unsigned) __builtin_ctz(bad) : end;
}


#else


static inline const uint8_t *
skip_value(const uint8_t *begin, const uint8_t *p, const uint8_t *end)
{
    (void) begin;

    return skip_class(p, end, VALUE);
}


#endif


static int
is_key(const uint8_t *key, size_t len)
{
    return len >= 1 && len <= TRACESTATE_KEY_MAX
           && (classes[key[0]] & KEY_START) != 0
           && skip_class(key, key + len, KEY) == key + len;
}


static int
is_value(const uint8_t *value, size_t len)
{
    return len >= 1 && len <= TRACESTATE_VALUE_MAX && value[len - 1] != ' '
           && skip_class(value, value + len, VALUE) == value + len;
}


/* Sets |view| to the bytes from |data| to |end|. */
static void
set_view(traceparent_view_t *view, const uint8_t *data, const uint8_t *end)
{
    view->data = data;
    view->len = (size_t) (end - data);
}


static int
has_key(const tracestate_member_t *member, const uint8_t *key, size_t len)
{
    return member->key.len == len && memcmp(member->key.data, key, len) == 0;
}


/* tracestate_next(); |*pos| stands for the iterator's. */
static ALWAYS_INLINE int
next(const uint8_t **pos, const uint8_t *end, tracestate_member_t *member)
{
    const uint8_t *p = *pos;
    const uint8_t *begin = p;
    const uint8_t *start, *last;

    /* Until all of a member is found to be good, there is no more. */
    *pos = end;

    for (;; p++) {
        if (p == end) {
            return 0;
        }

        if ((classes[*p] & KEY_START) != 0) {
            break;
        }

        if (*p != ',' && !is_ows(*p)) {
            return TRACESTATE_ERR_KEY;
        }
    }

    start = p;
    p = skip_class(p + 1, end, KEY);
    set_view(&member->key, start, p);

    if (p == end || *p != '=' || member->key.len > TRACESTATE_KEY_MAX) {
        return TRACESTATE_ERR_KEY;
    }

    start = ++p;
    p = skip_value(begin, p, end);
    last = p;

    /* Spaces in front belong to the value, those behind are OWS. The '=' is
     * in front of all of them. */
    while (last[-1] == ' ') {
        last--;
    }

    set_view(&member->value, start, last);

    if (member->value.len - 1 >= TRACESTATE_VALUE_MAX) {
        return TRACESTATE_ERR_VALUE;
    }

    while (p != end && *p != ',') {
        if (!is_ows(*p)) {
            return TRACESTATE_ERR_VALUE;
        }

        p++;
    }

    *pos = p;

    return 1;
}


int
tracestate_next(tracestate_iter_t *iter, tracestate_member_t *member)
{
    return next(&iter->pos, iter->end, member);
}


/* Appends the members of a list to the |n| that |members| has, which has ROOM.
 * Returns how many there are then, or an error. */
static int
split(tracestate_member_t *members, int n, const uint8_t *src, size_t len)
{
    const uint8_t *end;
    tracestate_member_t *member;
    int i, rc;

    /* |src| may be NULL. */
    if (len == 0) {
        return n;
    }

    for (end = src + len;; n++) {
        member = &members[n];
        rc = next(&src, end, member);

        if (rc <= 0) {
            return rc == 0 ? n : rc;
        }

        if (n == TRACESTATE_MEMBERS_MAX) {
            return TRACESTATE_ERR_MEMBERS;
        }

        for (i = 0; i < n; i++) {
            if (has_key(&members[i], member->key.data, member->key.len)) {
                return TRACESTATE_ERR_DUPLICATE;
            }
        }
    }
}


/* Takes the member with |key| out, if there is one; returns how many stay. */
static int
take_out(tracestate_member_t *members, int n, const uint8_t *key, size_t len)
{
    int i;

    for (i = 0; i < n; i++) {
        if (has_key(&members[i], key, len)) {
            n--;
            memmove(&members[i], &members[i + 1],
                (size_t) (n - i) * sizeof(*members));
            break;
        }
    }

    return n;
}


static uint8_t *
append(uint8_t *dest, const traceparent_view_t *src)
{
    memcpy(dest, src->data, src->len);

    return dest + src->len;
}


/* Writes a list; |*dest_len| is the room before, the length after. */
static int
join(uint8_t *dest, size_t *dest_len, const tracestate_member_t *members, int n)
{
    size_t len = 0;
    int i;

    for (i = 0; i < n; i++) {
        len += (i > 0) + members[i].key.len + 1 + members[i].value.len;
    }

    if (len > *dest_len) {
        return TRACESTATE_ERR_SIZE;
    }

    for (i = 0; i < n; i++) {
        if (i > 0) {
            *dest++ = ',';
        }

        dest = append(dest, &members[i].key);
        *dest++ = '=';
        dest = append(dest, &members[i].value);
    }

    *dest_len = len;

    return 0;
}


int
tracestate_validate(const uint8_t *src, size_t len)
{
    tracestate_member_t members[ROOM];

    return split(members, 0, src, len);
}


int
tracestate_combine(
    uint8_t *dest, size_t *dest_len, const traceparent_view_t *values, size_t n)
{
    tracestate_member_t members[ROOM];
    size_t i;
    int err, n_members = 0;

    for (i = 0; i < n; i++) {
        n_members = split(members, n_members, values[i].data, values[i].len);

        if (n_members < 0) {
            return n_members;
        }
    }

    err = join(dest, dest_len, members, n_members);

    return err != 0 ? err : n_members;
}


int
tracestate_view(traceparent_view_t *list, const uint8_t *src, size_t len)
{
    tracestate_member_t members[ROOM];
    const uint8_t *pos = src;
    int i, n;

    n = split(members, 0, src, len);

    /* one comma between members, and nothing else */

    for (i = 0; i < n; i++) {
        if (members[i].key.data != pos + (i > 0)) {
            return TRACESTATE_ERR_COPY;
        }

        pos = members[i].value.data + members[i].value.len;
    }

    if (n < 0) {
        return n;
    }

    if ((size_t) (pos - src) != len) {
        return TRACESTATE_ERR_COPY;
    }

    list->data = src;
    list->len = len;

    return n;
}


int
tracestate_get(traceparent_view_t *value, const uint8_t *src, size_t len,
    const uint8_t *key, size_t key_len)
{
    tracestate_member_t members[ROOM];
    int i, n;

    n = split(members, 0, src, len);

    if (n < 0) {
        return n;
    }

    for (i = 0; i < n; i++) {
        if (has_key(&members[i], key, key_len)) {
            *value = members[i].value;

            return 0;
        }
    }

    return TRACESTATE_ERR_NOT_FOUND;
}


int
tracestate_set(uint8_t *dest, size_t *dest_len, const uint8_t *src, size_t len,
    const uint8_t *key, size_t key_len, const uint8_t *value, size_t value_len)
{
    tracestate_member_t members[1 + ROOM];
    int n;

    if (!is_key(key, key_len)) {
        return TRACESTATE_ERR_KEY;
    }

    if (!is_value(value, value_len)) {
        return TRACESTATE_ERR_VALUE;
    }

    n = split(members + 1, 0, src, len);

    if (n < 0) {
        return n;
    }

    members[0].key.data = key;
    members[0].key.len = key_len;
    members[0].value.data = value;
    members[0].value.len = value_len;

    n = 1 + take_out(members + 1, n, key, key_len);

    /* The right-most leaves (section 3.5). */
    if (n > TRACESTATE_MEMBERS_MAX) {
        n = TRACESTATE_MEMBERS_MAX;
    }

    return join(dest, dest_len, members, n);
}


int
tracestate_delete(uint8_t *dest, size_t *dest_len, const uint8_t *src,
    size_t len, const uint8_t *key, size_t key_len)
{
    tracestate_member_t members[ROOM];
    int n;

    n = split(members, 0, src, len);

    if (n < 0) {
        return n;
    }

    n = take_out(members, n, key, key_len);

    return join(dest, dest_len, members, n);
}


/* Takes members of |shortest| bytes and more out, from the right, until the
 * list has at most |limit|. Returns its new length. */
static size_t
drop(uint8_t *list, size_t len, size_t limit, size_t shortest)
{
    size_t start, end;

    for (end = len; len > limit; end = start - 1) {
        for (start = end; start > 0 && list[start - 1] != ','; start--) {
            /* void */
        }

        if (end - start >= shortest) {
            /* With the comma behind it, or, if it is the last, in front. */
            if (end < len) {
                memmove(list + start, list + end + 1, len - end - 1);
                len -= end + 1 - start;
            } else {
                len = start > 0 ? start - 1 : 0;
            }
        }

        if (start == 0) {
            break;
        }
    }

    return len;
}


size_t
tracestate_shorten(uint8_t *list, size_t len, size_t limit)
{
    len = drop(list, len, limit, TRACESTATE_LONG_MEMBER + 1);

    return drop(list, len, limit, 0);
}
