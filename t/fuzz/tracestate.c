/*
 * All functions of tracestate.h. A line feed in the input separates headers;
 * the first two bytes choose how much a list is shortened.
 */

#include <stdlib.h>
#include <string.h>

#include <traceparent/tracestate.h>

#include "check.h"


#define HEADERS_MAX 8


static size_t
split_lines(traceparent_view_t *views, const uint8_t *data, size_t size)
{
    const uint8_t *end;
    size_t n = 0;

    while (n < HEADERS_MAX && size > 0) {
        end = memchr(data, '\n', size);
        views[n].data = data;
        views[n].len = end != NULL ? (size_t) (end - data) : size;

        size -= views[n].len + (end != NULL);
        data += views[n].len + (end != NULL);
        n++;
    }

    return n;
}


static int
count(const uint8_t *list, size_t len)
{
    tracestate_iter_t iter = {list, list + len};
    tracestate_member_t member;
    int rc, n = 0;

    while ((rc = tracestate_next(&iter, &member)) == 1) {
        CHECK(member.key.len >= 1 && member.key.len <= TRACESTATE_KEY_MAX);
        CHECK(
            member.value.len >= 1 && member.value.len <= TRACESTATE_VALUE_MAX);
        CHECK(member.key.data >= list);
        CHECK(member.value.data == member.key.data + member.key.len + 1);
        CHECK(member.value.data + member.value.len <= list + len);
        n++;
    }

    return rc < 0 ? rc : n;
}


/* Memory of exactly this size, so that a byte more is noticed. */
static uint8_t *
room(size_t len)
{
    uint8_t *p = malloc(len + (len == 0));

    CHECK(p != NULL);

    return p;
}


/* Every member of the shorter list is a whole one of the longer, in order. */
static void
check_shorter(const uint8_t *list, size_t len, const uint8_t *whole, size_t n)
{
    tracestate_iter_t a = {list, list + len};
    tracestate_iter_t b = {whole, whole + n};
    tracestate_member_t x, y;

    while (tracestate_next(&a, &x) == 1) {
        do {
            CHECK(tracestate_next(&b, &y) == 1);
        } while (x.key.len != y.key.len
                 || memcmp(x.key.data, y.key.data, x.key.len) != 0);

        CHECK(x.value.len == y.value.len);
        CHECK(memcmp(x.value.data, y.value.data, x.value.len) == 0);
    }
}


/* A view is what tracestate_combine() has made of it, or there is none. */
static void
check_view(
    const traceparent_view_t *header, const uint8_t *list, size_t len, int rc)
{
    traceparent_view_t view;
    int n = tracestate_view(&view, header->data, header->len);

    if (n >= 0) {
        CHECK(n == rc && view.data == header->data && view.len == len);
        CHECK(len == 0 || memcmp(view.data, list, len) == 0);

    } else if (n == TRACESTATE_ERR_COPY) {
        CHECK(rc >= 0 && len < header->len);

    } else {
        CHECK(n == rc);
    }
}


/* |list| is what tracestate_combine() wrote, of |n| members. */
static void
check_list(const uint8_t *list, size_t len, int n, size_t limit)
{
    static const uint8_t key[] = "fuzz";
    traceparent_view_t value = {NULL, 0};
    uint8_t *copy, *changed;
    size_t room_len, short_len;
    int before;

    CHECK(len <= TRACESTATE_LEN_MAX);
    CHECK(tracestate_validate(list, len) == n && count(list, len) == n);

    before = tracestate_get(&value, list, len, key, 4);

    room_len = len + 4 + 1 + 2;
    changed = room(room_len);
    CHECK(tracestate_set(changed, &room_len, list, len, key, 4, key, 1) == 0);
    CHECK(tracestate_validate(changed, room_len)
          == (n == TRACESTATE_MEMBERS_MAX || before == 0 ? n : n + 1));
    CHECK(memcmp(changed, "fuzz=f", 6) == 0);
    CHECK(tracestate_get(&value, changed, room_len, key, 4) == 0);
    CHECK(value.data == changed + 5 && value.len == 1);
    free(changed);

    room_len = len;
    changed = room(room_len);
    CHECK(tracestate_delete(changed, &room_len, list, len, key, 4) == 0);
    CHECK(tracestate_validate(changed, room_len) == n - (before == 0));
    free(changed);

    copy = room(len);
    memcpy(copy, list, len);
    short_len = tracestate_shorten(copy, len, limit);
    CHECK(short_len <= limit && short_len <= len);
    CHECK(short_len == len || len > limit);
    CHECK(tracestate_validate(copy, short_len) >= 0);
    CHECK(short_len == 0 || copy[short_len - 1] != ',');
    check_shorter(copy, short_len, list, len);
    free(copy);
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    traceparent_view_t headers[HEADERS_MAX];
    uint8_t *list;
    size_t n, limit, len, room_len;
    int rc;

    if (size < 2) {
        return 0;
    }

    limit = (size_t) (data[0] | (data[1] & 3) << 8);
    n = split_lines(headers, data + 2, size - 2);

    room_len = size - 2 + n;
    list = room(room_len);
    len = room_len;
    rc = tracestate_combine(list, &len, headers, n);

    if (rc >= 0) {
        check_list(list, len, rc, limit);

    } else {
        CHECK(rc <= TRACESTATE_ERR_KEY && rc >= TRACESTATE_ERR_DUPLICATE);
        CHECK(len == room_len);
    }

    if (n == 1) {
        CHECK(tracestate_validate(headers[0].data, headers[0].len) == rc);
        check_view(headers, list, len, rc);
    }

    free(list);

    return 0;
}
