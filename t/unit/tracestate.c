/*
 * Tests of tracestate.h. Rules are the numbered rules of docs/library.md, and
 * sections those of the W3C specification, Trace Context Level 2.
 */

#define _GNU_SOURCE /* MAP_ANONYMOUS */

#include <traceparent/tracestate.h>

#include "input.h"
#include "tap.h"


#define LIST "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"

#define A64  "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define A256 A64 A64 A64 A64


/*
 * The reference: a list as an array of strings "key=value", and what can be
 * done with it, as plainly as possible.
 */

#define REF_MEMBER 520

typedef struct {
    int n; /* -1 if the list is invalid */
    char members[TRACESTATE_MEMBERS_MAX + 1][REF_MEMBER];
} ref_t;


static int
ref_has_key(const char *member, const char *key, size_t len)
{
    return strncmp(member, key, len) == 0 && member[len] == '=';
}


static int
ref_is_member(const char *member, size_t len)
{
    static const char start[] = "abcdefghijklmnopqrstuvwxyz0123456789";
    static const char others[] = "abcdefghijklmnopqrstuvwxyz0123456789_*/@-";
    const char *equals = memchr(member, '=', len);
    size_t i, key_len, value_len;

    if (equals == NULL || memchr(member, '\0', len) != NULL) {
        return 0;
    }

    key_len = (size_t) (equals - member);
    value_len = len - key_len - 1;

    if (key_len < 1 || key_len > 256 || value_len < 1 || value_len > 256) {
        return 0;
    }

    for (i = 0; i < key_len; i++) {
        if (strchr(i == 0 ? start : others, member[i]) == NULL) {
            return 0;
        }
    }

    for (i = key_len + 1; i < len; i++) {
        if (member[i] < 0x20 || member[i] > 0x7e || member[i] == ','
            || member[i] == '=') {
            return 0;
        }
    }

    return member[len - 1] != ' ';
}


static void
ref_add(ref_t *ref, const char *src, size_t len)
{
    size_t start, end, next;
    int i;

    for (start = 0; ref->n >= 0 && start < len; start = next + 1) {
        for (next = start; next < len && src[next] != ','; next++) {
            /* void */
        }

        for (end = next; end > start && strchr(" \t", src[end - 1]) != NULL
                         && src[end - 1] != '\0';
             end--) {
            /* void */
        }

        while (start < end && (src[start] == ' ' || src[start] == '\t')) {
            start++;
        }

        if (start == end) {
            continue;
        }

        if (!ref_is_member(src + start, end - start) || ref->n == 32) {
            ref->n = -1;
            return;
        }

        for (i = 0; i < ref->n; i++) {
            if (ref_has_key(ref->members[i], src + start,
                    (size_t) ((const char *) memchr(
                                  src + start, '=', end - start)
                              - (src + start)))) {
                ref->n = -1;
                return;
            }
        }

        memcpy(ref->members[ref->n], src + start, end - start);
        ref->members[ref->n][end - start] = '\0';
        ref->n++;
    }
}


static void
ref_remove(ref_t *ref, int i)
{
    ref->n--;
    memmove(ref->members[i], ref->members[i + 1],
        (size_t) (ref->n - i) * REF_MEMBER);
}


static void
ref_delete(ref_t *ref, const char *key)
{
    int i;

    for (i = 0; i < ref->n; i++) {
        if (ref_has_key(ref->members[i], key, strlen(key))) {
            ref_remove(ref, i);
            return;
        }
    }
}


static void
ref_set(ref_t *ref, const char *key, const char *value)
{
    ref_delete(ref, key);
    memmove(ref->members[1], ref->members[0], 32 * REF_MEMBER);
    sprintf(ref->members[0], "%s=%s", key, value);
    ref->n = ref->n < 32 ? ref->n + 1 : 32;
}


static size_t
ref_text(const ref_t *ref, char *text)
{
    size_t len = 0;
    int i;

    text[0] = '\0';

    for (i = 0; i < ref->n; i++) {
        len += (size_t) sprintf(
            text + len, "%s%s", i > 0 ? "," : "", ref->members[i]);
    }

    return len;
}


static void
ref_shorten(ref_t *ref, size_t limit)
{
    static char text[INPUT_MAX];
    int i;

    while (ref->n > 0 && ref_text(ref, text) > limit) {
        for (i = ref->n - 1; i >= 0 && strlen(ref->members[i]) <= 128; i--) {
            /* void */
        }

        ref_remove(ref, i >= 0 ? i : ref->n - 1);
    }
}


/* What is under test, against both ends of the readable bytes. */

static int
validate(const void *src, size_t len)
{
    int rc = tracestate_validate(input_at_end(src, len), len);

    if (tracestate_validate(input_at_start(src, len), len) != rc) {
        diag("what surrounds the bytes makes a difference");
        return -1000;
    }

    return rc;
}


static void
gives(const char *src, int want, const char *name)
{
    int got = validate(src, strlen(src));

    if (!ok(got == want, "%s", name)) {
        diag("got %d, want %d", got, want);
    }
}


/* What the functions that write a list have in common. */
typedef enum { COMBINE, SET, DELETE } writer_t;


static int
call(writer_t writer, uint8_t *dest, size_t *dest_len, const uint8_t *src,
    size_t len, const char *key, const char *value)
{
    traceparent_view_t view;

    switch (writer) {
    case COMBINE:
        view.data = src;
        view.len = len;
        return tracestate_combine(dest, dest_len, &view, 1);

    case SET:
        return tracestate_set(dest, dest_len, src, len, (const uint8_t *) key,
            strlen(key), (const uint8_t *) value, strlen(value));

    default:
        return tracestate_delete(
            dest, dest_len, src, len, (const uint8_t *) key, strlen(key));
    }
}


/*
 * Calls with much room, with just enough, and with a byte too few. Returns what
 * the call returned, or -1000 if the three do not fit together; |text| gets
 * what was written, with a NUL.
 */
static int
write_list(writer_t writer, char *text, const char *src, size_t len,
    const char *key, const char *value)
{
    const uint8_t *input = input_at_end(src, len);
    size_t much = len + strlen(key) + strlen(value) + 2;
    size_t n = much;
    uint8_t *dest = output_at_end(much);
    int rc, again;

    rc = call(writer, dest, &n, input, len, key, value);

    if (dest[-1] != '#' || (rc < 0 && n != much)) {
        return -1000;
    }

    if (rc < 0) {
        return rc;
    }

    memcpy(text, dest, n);
    text[n] = '\0';
    much = n;

    dest = output_at_end(much);
    again = call(writer, dest, &n, input, len, key, value);

    if (again != rc || n != much || memcmp(dest, text, n) != 0
        || dest[-1] != '#') {
        return -1000;
    }

    if (much > 0) {
        n = much - 1;
        dest = output_at_end(n);

        if (call(writer, dest, &n, input, len, key, value)
                != TRACESTATE_ERR_SIZE
            || n != much - 1 || dest[-1] != '#') {
            return -1000;
        }
    }

    return rc;
}


static void
writes(writer_t writer, const char *src, const char *key, const char *value,
    int want, const char *want_text, const char *name)
{
    static char text[INPUT_MAX];
    int rc;

    text[0] = '\0';
    rc = write_list(writer, text, src, strlen(src), key, value);

    if (!ok(rc == want && strcmp(text, want_text) == 0, "%s", name)) {
        diag("got %d, \"%s\"", rc, text);
        diag("want %d, \"%s\"", want, want_text);
    }
}


static void
test_grammar(void)
{
    gives(LIST, 2, "rule 15: two members");
    gives("", 0, "rule 14: an empty list");
    gives(" \t ", 0, "rule 14: white space alone");
    gives(",", 0, "rule 14: empty members alone");
    gives("a=1,,b=2,", 2, "rule 14: empty members");
    gives(", \t,a=1,\t,", 1, "rule 14: empty members with white space");
    gives(" \ta=1\t , b=2 ", 2, "rule 15: white space around members");
    gives("a = 1", TRACESTATE_ERR_KEY, "rule 15: none behind a key");
    gives("a=1 \t 2", TRACESTATE_ERR_VALUE, "rule 15: no tab in a value");
    gives("a= \t", TRACESTATE_ERR_VALUE, "rule 15: a value of white space");
    gives("a= ", TRACESTATE_ERR_VALUE, "rule 15: a value of a space");
    gives("a=\t1", TRACESTATE_ERR_VALUE, "rule 15: a tab before a value");
    gives("a= 1", 1, "rule 15: a space before a value is part of it");
    gives("a=1 2", 1, "rule 15: a space in a value");
    gives("a", TRACESTATE_ERR_KEY, "rule 15: no value");
    gives("a,b=1", TRACESTATE_ERR_KEY, "rule 15: no value, and more members");
    gives("a=", TRACESTATE_ERR_VALUE, "rule 15: an empty value");
    gives("a=,b=1", TRACESTATE_ERR_VALUE, "rule 15: an empty value in front");
    gives("=1", TRACESTATE_ERR_KEY, "rule 15: no key");
    gives("a=1=2", TRACESTATE_ERR_VALUE, "rule 15: no '=' in a value");
    gives("a==1", TRACESTATE_ERR_VALUE, "rule 15: a value starting with '='");
    gives("0=1", 1, "rule 15: a key may start with a digit");
    gives("_a=1", TRACESTATE_ERR_KEY, "rule 15: a key starting with '_'");
    gives("@a=1", TRACESTATE_ERR_KEY, "rule 15: a key starting with '@'");
    gives("a_*/@-9@@=1", 1, "rule 15: all that a key may have");
    gives("A=1", TRACESTATE_ERR_KEY, "rule 15: a key in upper case");
    gives("aB=1", TRACESTATE_ERR_KEY, "rule 15: a key in mixed case");
    gives("a.b=1", TRACESTATE_ERR_KEY, "rule 15: a key with a period");
    gives("a=\x7f", TRACESTATE_ERR_VALUE, "rule 15: DEL in a value");
    gives("a=\xc3\xa4", TRACESTATE_ERR_VALUE, "rule 15: UTF-8 in a value");
    gives("a=1,b", TRACESTATE_ERR_KEY, "rule 15: one bad member is enough");
    gives("a=1;b=2", TRACESTATE_ERR_VALUE, "rule 15: ';' does not separate");
    gives("a=1,a=1", TRACESTATE_ERR_DUPLICATE, "rule 15: a key twice");
    gives("a=1,b=2,a=3", TRACESTATE_ERR_DUPLICATE, "rule 15: a key again");
    gives("a=1,aa=2,aaa=3", 3, "rule 15: keys that start alike");

    gives(A256 "=1", 1, "rule 15: a key of 256");
    gives(A256 "a=1", TRACESTATE_ERR_KEY, "rule 15: a key of 257");
    gives("a=" A256, 1, "rule 15: a value of 256");
    gives("a=" A256 " \t ", 1, "rule 15: a value of 256, white space behind");
    gives("a=" A256 "a", TRACESTATE_ERR_VALUE, "rule 15: a value of 257");
    gives("a= " A256, TRACESTATE_ERR_VALUE,
        "rule 15: a value of 257, with the space in front");
    gives(A256 "=" A256, 1, "rule 15: the longest member");
    ok(tracestate_validate(NULL, 0) == 0, "rule 14: nothing is an empty list");
}


/* "a00=1,a01=1,..." */
static size_t
many(char *text, int n)
{
    size_t len = 0;
    int i;

    for (i = 0; i < n; i++) {
        len += (size_t) sprintf(text + len, "%sa%02d=1", i > 0 ? "," : "", i);
    }

    return len;
}


static void
test_members(void)
{
    static char text[INPUT_MAX], longest[INPUT_MAX];
    size_t len;
    int i;

    ok(validate(text, many(text, 32)) == 32, "rule 15: 32 members");
    ok(validate(text, many(text, 33)) == TRACESTATE_ERR_MEMBERS,
        "rule 15: 33 members");

    len = many(text, 32);
    strcpy(text + len, ",,,");
    ok(validate(text, len + 3) == 32,
        "rule 15: 32 members, empty ones do not count");

    strcpy(text + len, ",a31=2");
    ok(validate(text, len + 6) == TRACESTATE_ERR_MEMBERS,
        "rule 15: a 33rd member that is a duplicate");

    for (i = 0, len = 0; i < 32; i++) {
        len += (size_t) sprintf(
            longest + len, "%s%.254s%02d=%s", i > 0 ? "," : "", A256, i, A256);
    }

    ok(len + 1 == TRACESTATE_LEN_MAX && validate(longest, len) == 32,
        "TRACESTATE_LEN_MAX is enough for the longest list");
    ok(write_list(COMBINE, text, longest, len, "", "") == 32
            && memcmp(text, longest, len) == 0,
        "the longest list is combined");

    memset(text, ',', INPUT_MAX);
    ok(validate(text, INPUT_MAX) == 0, "64 kB of commas");
    memset(text, 'a', INPUT_MAX);
    ok(validate(text, INPUT_MAX) == TRACESTATE_ERR_KEY, "a key of 64 kB");
    text[1] = '=';
    ok(validate(text, INPUT_MAX) == TRACESTATE_ERR_VALUE, "a value of 64 kB");
    memset(text + 2, ' ', INPUT_MAX - 2);
    ok(validate(text, INPUT_MAX) == TRACESTATE_ERR_VALUE, "64 kB of spaces");
}


/* Every byte of |src| replaced by every other. */
static void
test_every_byte(const char *src, const char *name)
{
    static ref_t ref;
    char mutated[128];
    size_t i, len = strlen(src);
    unsigned c, bad = 0, n_valid = 0;
    int got;

    for (i = 0; i < len; i++) {
        memcpy(mutated, src, len);

        for (c = 0; c < 256; c++) {
            mutated[i] = (char) c;
            ref.n = 0;
            ref_add(&ref, mutated, len);
            got = validate(mutated, len);

            if ((got < 0 ? -1 : got) != ref.n) {
                diag("byte %d = %02x: got %d, want %d", (int) i, c, got, ref.n);
                bad++;
            }

            n_valid += got >= 0;
        }
    }

    ok(bad == 0, "every byte replaced by every other, in %s", name);
    ok(n_valid > len * 30 && n_valid < len * 120, "many of these are invalid");
}


static void
test_iterate(void)
{
    static const char text[] = " ,a=1 ,\tb= 2 3\t,,c=x";
    static const char *const want[] = {"a", "1", "b", " 2 3", "c", "x"};
    tracestate_member_t member;
    tracestate_iter_t iter;
    unsigned i, bad = 0;

    iter.pos = (const uint8_t *) text;
    iter.end = iter.pos + strlen(text);

    for (i = 0; i < 6; i += 2) {
        bad += tracestate_next(&iter, &member) != 1
               || member.key.len != strlen(want[i])
               || memcmp(member.key.data, want[i], member.key.len) != 0
               || member.value.len != strlen(want[i + 1])
               || memcmp(member.value.data, want[i + 1], member.value.len) != 0;
        bad += (const char *) member.key.data < text
               || (const char *) member.value.data >= text + sizeof(text);
    }

    ok(bad == 0, "members come in order, and are views into the list");
    ok(tracestate_next(&iter, &member) == 0
            && tracestate_next(&iter, &member) == 0,
        "the end stays the end");

    iter.pos = (const uint8_t *) "a=1,b,c=3";
    iter.end = iter.pos + 9;
    ok(tracestate_next(&iter, &member) == 1
            && tracestate_next(&iter, &member) == TRACESTATE_ERR_KEY
            && tracestate_next(&iter, &member) == 0,
        "after a bad key the iteration is over");

    iter.pos = (const uint8_t *) "a=1,b=,c=3";
    iter.end = iter.pos + 10;
    ok(tracestate_next(&iter, &member) == 1
            && tracestate_next(&iter, &member) == TRACESTATE_ERR_VALUE
            && tracestate_next(&iter, &member) == 0,
        "after a bad value the iteration is over");

    iter.pos = iter.end = NULL;
    ok(tracestate_next(&iter, &member) == 0, "nothing has no member");
}


static void
test_combine(void)
{
    static const traceparent_view_t views[] = {
        {(const uint8_t *) "a=1 ", 4},
        {NULL, 0},
        {(const uint8_t *) " ,", 2},
        {(const uint8_t *) "b=2,,\tc= 3", 10},
        {(const uint8_t *) "a=4", 3},
        {(const uint8_t *) "d", 1},
    };
    uint8_t *dest = output_at_end(64);
    size_t n = 64;

    ok(tracestate_combine(dest, &n, views, 4) == 3 && n == 12
            && memcmp(dest, "a=1,b=2,c= 3", n) == 0,
        "rule 14: several headers are one list, in order");

    n = 64;
    ok(tracestate_combine(dest, &n, views, 5) == TRACESTATE_ERR_DUPLICATE
            && n == 64,
        "rule 15: a key in two headers");

    n = 64;
    ok(tracestate_combine(dest, &n, views + 3, 3) == TRACESTATE_ERR_KEY
            && n == 64,
        "rule 15: one bad header spoils all");

    n = 64;
    ok(tracestate_combine(dest, &n, views + 1, 2) == 0 && n == 0,
        "rule 14: empty headers give nothing to send");

    n = 0;
    ok(tracestate_combine(NULL, &n, NULL, 0) == 0 && n == 0,
        "rule 14: no header gives nothing to send");

    writes(COMBINE, LIST, "", "", 2, LIST, "rule 16: byte for byte");
    writes(COMBINE, ", a=  x y z!~ ,,\tb=@ ,", "", "", 2, "a=  x y z!~,b=@",
        "rules 14 and 16: byte for byte, empty members and OWS aside");
}


/* |expected| is how many members a view has, or the error. */
static void
views(const char *text, int expected, const char *name)
{
    traceparent_view_t list = {NULL, 1};
    const uint8_t *src = input_at_end(text, strlen(text));
    int rc = tracestate_view(&list, src, strlen(text));

    ok(rc == expected
            && (rc < 0 ? list.data == NULL && list.len == 1
                       : list.data == src && list.len == strlen(text)),
        "a view of \"%s\": %s", text, name);
}


static void
test_view(void)
{
    traceparent_view_t list;

    views("a=1", 1, "as it is");
    views("a= 1,b=2,c/d=x y", 3, "spaces inside of values");
    views("a=1 ", TRACESTATE_ERR_COPY, "white space behind");
    views("\ta=1", TRACESTATE_ERR_COPY, "white space in front");
    views("a=1 ,b=2", TRACESTATE_ERR_COPY, "white space before a comma");
    views("a=1,\tb=2", TRACESTATE_ERR_COPY, "white space behind a comma");
    views("a=1,,b=2", TRACESTATE_ERR_COPY, "an empty member");
    views(",a=1", TRACESTATE_ERR_COPY, "an empty member in front");
    views("a=1,", TRACESTATE_ERR_COPY, "an empty member behind");
    views(",", TRACESTATE_ERR_COPY, "nothing but empty members");
    views("a=1,a=2", TRACESTATE_ERR_DUPLICATE, "a key twice");
    views("a", TRACESTATE_ERR_KEY, "no member");
    views("a=", TRACESTATE_ERR_VALUE, "no value");
    ok(tracestate_view(&list, NULL, 0) == 0 && list.len == 0,
        "a view of nothing is empty");
}


static void
test_combine_members(void)
{
    static char text[INPUT_MAX];
    traceparent_view_t views[33];
    uint8_t *dest;
    size_t n;
    unsigned i;

    many(text, 33);

    for (i = 0; i < 33; i++) {
        views[i].data = (const uint8_t *) text + 6 * i;
        views[i].len = 5;
    }

    n = 32 * 6 - 1;
    dest = output_at_end(n);
    ok(tracestate_combine(dest, &n, views, 32) == 32 && n == 32 * 6 - 1
            && memcmp(dest, text, n) == 0,
        "rule 15: 32 headers of one member");
    ok(tracestate_combine(dest, &n, views, 33) == TRACESTATE_ERR_MEMBERS,
        "rule 15: 33 headers of one member");
}


static void
test_get(void)
{
    static const uint8_t list[] = LIST;
    traceparent_view_t value = {NULL, 77};
    const size_t len = sizeof(list) - 1;

    ok(tracestate_get(&value, list, len, (const uint8_t *) "congo", 5) == 0
            && value.data == list + 28 && value.len == 11,
        "get gives a view into the list");

    value.len = 77;
    ok(tracestate_get(&value, list, len, (const uint8_t *) "cong", 4)
                == TRACESTATE_ERR_NOT_FOUND
            && value.len == 77,
        "get does not find a part of a key");
    ok(tracestate_get(&value, list, len, NULL, 0) == TRACESTATE_ERR_NOT_FOUND,
        "get does not find the empty key");
    ok(tracestate_get(&value, NULL, 0, (const uint8_t *) "a", 1)
            == TRACESTATE_ERR_NOT_FOUND,
        "get finds nothing in nothing");
    ok(tracestate_get(&value, (const uint8_t *) "a=1,B=2", 7,
           (const uint8_t *) "a",
           1) == TRACESTATE_ERR_KEY
            && value.len == 77,
        "get finds nothing in an invalid list");
}


static void
test_change(void)
{
    static char full[INPUT_MAX], want[INPUT_MAX];

    writes(SET, LIST, "new", "1", 0, "new=1," LIST,
        "rule 16: a new member goes to the front");
    writes(SET, LIST, "congo", "1", 0, "congo=1,rojo=00f067aa0ba902b7",
        "rule 16: a changed member goes to the front, and comes once");
    writes(SET, LIST, "rojo", "1", 0, "rojo=1,congo=t61rcWkgMzE",
        "rule 16: the first member is changed");
    writes(SET, "", "a", " 1", 0, "a= 1", "set in an empty list");
    writes(SET, " , \t", "a", "1", 0, "a=1", "set in a list of nothing");
    writes(SET, "b=2 ,, c=3", "a", "1", 0, "a=1,b=2,c=3",
        "rule 14: set sends no empty members on");

    many(full, 32);
    sprintf(want, "new=1,%.185s", full);
    writes(SET, full, "new", "1", 0, want,
        "rule 16: of 33 members the right-most leaves");
    sprintf(want, "a31=2,%.185s", full);
    writes(SET, full, "a31", "2", 0, want,
        "rule 16: of 32 none leaves when one is changed");
    many(full, 33);
    writes(SET, full, "new", "1", TRACESTATE_ERR_MEMBERS, "",
        "rule 15: nothing is set in 33 members");

    writes(SET, LIST, "", "1", TRACESTATE_ERR_KEY, "", "set no key");
    writes(SET, LIST, "A", "1", TRACESTATE_ERR_KEY, "", "set a bad key");
    writes(SET, LIST, A256 "a", "1", TRACESTATE_ERR_KEY, "", "a long key");
    writes(SET, LIST, A256, A256, 0, A256 "=" A256 "," LIST, "the longest");
    writes(SET, LIST, "a ", "1", TRACESTATE_ERR_KEY, "", "a key and a space");
    writes(SET, LIST, "a", "", TRACESTATE_ERR_VALUE, "", "set no value");
    writes(SET, LIST, "a", "1 ", TRACESTATE_ERR_VALUE, "", "a space behind");
    writes(SET, LIST, "a", "1,b=2", TRACESTATE_ERR_VALUE, "", "two members");
    writes(SET, LIST, "a", A256 "a", TRACESTATE_ERR_VALUE, "", "a long value");
    writes(SET, "a=1,b", "c", "1", TRACESTATE_ERR_KEY, "", "set, bad key");
    writes(SET, "a=1,b=", "c", "1", TRACESTATE_ERR_VALUE, "", "set, bad value");
    writes(SET, "a=1,a=2", "a", "1", TRACESTATE_ERR_DUPLICATE, "",
        "set does not mend a duplicate");

    writes(
        DELETE, LIST, "rojo", "", 0, "congo=t61rcWkgMzE", "delete the first");
    writes(DELETE, LIST, "congo", "", 0, "rojo=00f067aa0ba902b7",
        "delete the last");
    writes(DELETE, "a=1,b=2,c=3", "b", "", 0, "a=1,c=3", "delete in between");
    writes(DELETE, "a=1", "a", "", 0, "", "delete the only one");
    writes(DELETE, " a=1,, b=2 ", "c", "", 0, "a=1,b=2", "delete none");
    writes(DELETE, "", "a", "", 0, "", "delete in an empty list");
    writes(DELETE, LIST, "", "", 0, LIST, "delete the empty key");
    writes(DELETE, "a=1,b", "b", "", TRACESTATE_ERR_KEY, "",
        "delete does not mend a bad list");
}


static void
shortens(const char *src, size_t limit, const char *want, const char *name)
{
    size_t len = strlen(src);
    uint8_t *list = input_at_end(src, len);
    size_t got = tracestate_shorten(list, len, limit);

    if (!ok(got == strlen(want) && memcmp(list, want, got) == 0, "%s", name)) {
        diag("got \"%.*s\"", (int) got, (const char *) list);
    }
}


/* Members of 128 and 129 bytes. */
#define M128(key)                                                              \
    key "=" A64 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" \
        "aa"
#define M129(key) M128(key) "x"


static void
test_shorten(void)
{
    static char text[INPUT_MAX];
    size_t len;

    ok(strlen(M128("a")) == TRACESTATE_LONG_MEMBER, "M128 is not yet long");

    shortens("a=1,b=2,c=3", 11, "a=1,b=2,c=3", "rule 17: it fits exactly");
    shortens("a=1,b=2,c=3", 10, "a=1,b=2", "rule 17: from the right");
    shortens("a=1,b=2,c=3", 7, "a=1,b=2", "rule 17: no comma stays behind");
    shortens("a=1,b=2,c=3", 6, "a=1", "rule 17: whole members");
    shortens("a=1,b=2,c=3", 2, "", "rule 17: nothing could stay");
    shortens("a=1,b=2,c=3", 0, "", "rule 17: no room at all");
    shortens("", 0, "", "rule 17: an empty list");
    shortens(M129("a") ",b=1,c=2", 20, "b=1,c=2",
        "rule 17: a long member leaves first, from the left end");
    shortens("b=1," M129("a") ",c=2", 20, "b=1,c=2",
        "rule 17: a long member leaves first, from the middle");
    shortens("b=1,c=2," M129("a"), 20, "b=1,c=2",
        "rule 17: a long member leaves first, from the right end");
    shortens(M128("a") ",b=1,c=2", 135, M128("a") ",b=1",
        "rule 17: a member of 128 is not long");
    shortens(M129("a") "," M129("b") ",c=2", 133, M129("a") ",c=2",
        "rule 17: of two long members the right one leaves first");
    shortens(M129("a") "," M129("b") ",c=2", 132, "c=2",
        "rule 17: then the left one");
    shortens(M129("a") ",b=1," M129("c") ",d=1", 4, "b=1",
        "rule 17: then others, from the right");
    shortens(M129("a"), 128, "", "rule 17: a long member alone");

    len = many(text, 32);
    text[TRACESTATE_FORWARD_MIN] = '\0';
    ok(len < TRACESTATE_FORWARD_MIN
            && tracestate_shorten((uint8_t *) text, len, TRACESTATE_FORWARD_MIN)
                   == len,
        "rule 17: up to 512 bytes stay as they are");
}


/* Random lists, many of them invalid, with few enough keys for duplicates. */

static size_t
random_piece(char *dest, const char *bytes, unsigned max)
{
    static const unsigned lengths[]
        = {1, 1, 2, 15, 16, 17, 31, 33, 127, 255, 256, 257};
    unsigned len = lengths[input_below(12)];
    unsigned i;

    len = len > max ? max : len;

    for (i = 0; i < len; i++) {
        dest[i] = bytes[input_below((unsigned) strlen(bytes))];
    }

    return len;
}


static size_t
random_list(char *dest)
{
    static const char *const between[]
        = {",", ",", ",", ",", ", ", " ,", "\t,\t", ",,", " , ,"};
    unsigned n = input_below(8) == 0 ? 28 + input_below(6) : input_below(6);
    unsigned longest = input_below(3) == 0 ? 300 : 20;
    size_t len = 0;

    while (n-- > 0) {
        len += random_piece(dest + len, "abc", 1);
        len += random_piece(dest + len, "abcdefghxyz0189_*/@-", longest);
        dest[len++] = '=';
        len += random_piece(dest + len, " abzABZ019!~;:@<>", longest);
        dest[len++] = 'v';
        len += (size_t) sprintf(dest + len, "%s", between[input_below(9)]);
    }

    if (len > 0 && input_below(2) == 0) {
        dest[input_below((unsigned) len)] = (char) input_random();
    }

    return len;
}


/* A key that is in the list, if it has any; or another. */
static void
random_key(char *dest, const ref_t *ref)
{
    const char *member;

    if (ref->n > 0 && input_below(2) == 0) {
        member = ref->members[input_below((unsigned) ref->n)];
        sprintf(dest, "%.*s", (int) (strchr(member, '=') - member), member);
    } else {
        sprintf(dest, "new%u", input_below(1000));
    }
}


static int
random_get(const ref_t *ref, const char *src, size_t len, const char *key)
{
    traceparent_view_t value = {NULL, 0};
    const uint8_t *input = input_at_end(src, len);
    const char *want;
    int i, rc;

    rc = tracestate_get(&value, input, len, (const uint8_t *) key, strlen(key));

    if (ref->n < 0) {
        return rc < 0 && rc != TRACESTATE_ERR_NOT_FOUND;
    }

    for (i = 0; i < ref->n; i++) {
        if (ref_has_key(ref->members[i], key, strlen(key))) {
            want = ref->members[i] + strlen(key) + 1;

            return rc == 0 && value.len == strlen(want)
                   && memcmp(value.data, want, value.len) == 0
                   && value.data > input
                   && value.data + value.len <= input + len;
        }
    }

    return rc == TRACESTATE_ERR_NOT_FOUND;
}


static int
random_write(writer_t writer, const ref_t *before, const ref_t *after,
    const char *src, size_t len, const char *key)
{
    static char text[INPUT_MAX], want[INPUT_MAX];
    int rc = write_list(writer, text, src, len, key, "value");

    if (before->n < 0) {
        return rc < 0 && rc != TRACESTATE_ERR_SIZE && rc != -1000;
    }

    ref_text(after, want);

    return rc == (writer == COMBINE ? after->n : 0) && strcmp(text, want) == 0;
}


static void
test_random(void)
{
    enum { N = 20000 };
    static char src[INPUT_MAX], text[INPUT_MAX], want[INPUT_MAX];
    static ref_t ref, changed;
    char key[REF_MEMBER];
    unsigned i, bad[6] = {0}, n_valid = 0;
    size_t len, limit;
    uint8_t *list;
    int got;

    for (i = 0; i < N; i++) {
        len = random_list(src);
        ref.n = 0;
        ref_add(&ref, src, len);
        random_key(key, &ref);
        n_valid += ref.n >= 0;

        got = validate(src, len);
        bad[0] += (got < 0 ? -1 : got) != ref.n;
        bad[1] += !random_get(&ref, src, len, key);
        bad[2] += !random_write(COMBINE, &ref, &ref, src, len, "");

        changed = ref;
        ref_set(&changed, key, "value");
        bad[3] += !random_write(SET, &ref, &changed, src, len, key);

        changed = ref;
        ref_delete(&changed, key);
        bad[4] += !random_write(DELETE, &ref, &changed, src, len, key);

        if (ref.n > 0) {
            len = ref_text(&ref, text);
            limit = input_below((unsigned) len + 2);
            list = input_at_end(text, len);
            len = tracestate_shorten(list, len, limit);
            ref_shorten(&ref, limit);
            bad[5]
                += len != ref_text(&ref, want) || memcmp(list, want, len) != 0;
        }
    }

    ok(n_valid > N / 4 && n_valid < N * 3 / 4,
        "of random lists, some are valid");
    ok(bad[0] == 0, "random lists: validate agrees with the reference");
    ok(bad[1] == 0, "random lists: get agrees with the reference");
    ok(bad[2] == 0, "random lists: combine agrees with the reference");
    ok(bad[3] == 0, "random lists: set agrees with the reference");
    ok(bad[4] == 0, "random lists: delete agrees with the reference");
    ok(bad[5] == 0, "random lists: shorten agrees with the reference");
}


/* Values of all lengths at all distances from the ends of the list. */
static void
test_blocks(void)
{
    char src[128];
    size_t before, len, after;
    unsigned bad = 0;
    size_t n;

    for (before = 0; before < 20; before++) {
        for (len = 1; len < 50; len++) {
            for (after = 0; after < 20; after++) {
                memset(src, ' ', sizeof(src));
                memcpy(src + before, "k=", 2);
                memset(src + before + 2, 'v', len);
                n = before + 2 + len + after;
                bad += validate(src, n) != 1;

                /* A bad byte at its end, and behind it. */
                src[before + 1 + len] = '=';
                bad += validate(src, n) != TRACESTATE_ERR_VALUE;
                src[before + 1 + len] = 'v';

                if (after > 0) {
                    src[n - 1] = '\x80';
                    bad += validate(src, n) != TRACESTATE_ERR_VALUE;
                }
            }
        }
    }

    ok(bad == 0, "values of 1 to 49 bytes at all distances from the ends");
}


int
main(void)
{
    test_grammar();
    test_members();
    test_every_byte(LIST, "a list");
    test_every_byte("a=1 ,\tb= 2", "a list with white space");
    test_blocks();
    test_iterate();
    test_combine();
    test_view();
    test_combine_members();
    test_get();
    test_change();
    test_shorten();
    test_random();

    return done_testing();
}
