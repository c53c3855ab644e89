/*
 * The Test Anything Protocol for the C tests, so that prove(1) runs them.
 *
 *     #include "tap.h"
 *
 *     int
 *     main(void)
 *     {
 *         ok(1 + 1 == 2, "one and %s", "one");
 *         return done_testing();
 *     }
 */

#ifndef TAP_H
#define TAP_H


#include <stdarg.h>
#include <stdio.h>


/* One test: passed if |cond| is not 0. The rest is its name, as for printf().
 * Gives 1 if it passed, else 0. */
#define ok(cond, ...) tap_ok((cond) != 0, __FILE__, __LINE__, __VA_ARGS__)


static int tap_count;
static int tap_failed;


/* A remark for the reader of the output. */
static inline void
diag(const char *fmt, ...)
{
    va_list args;

    printf("# ");
    va_start(args, fmt);
    vprintf(fmt, args);
    va_end(args);
    printf("\n");
    fflush(stdout);
}


static inline int
tap_ok(int passed, const char *file, int line, const char *fmt, ...)
{
    va_list args;

    printf("%s %d - ", passed ? "ok" : "not ok", ++tap_count);
    va_start(args, fmt);
    vprintf(fmt, args);
    va_end(args);
    printf("\n");

    if (!passed) {
        tap_failed++;
        printf("# failed at %s:%d\n", file, line);
    }

    /* What is still in the buffer at a fork() would be printed twice. */
    fflush(stdout);

    return passed;
}


/* Ends the output. Returns what main() is to return. */
static inline int
done_testing(void)
{
    printf("1..%d\n", tap_count);

    return tap_failed != 0 || tap_count == 0;
}


#endif
