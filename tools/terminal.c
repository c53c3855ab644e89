#define _GNU_SOURCE /* wcwidth() */

#include <langinfo.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>

#include <traceparent/ids.h>

#include "terminal.h"
#include "utf8.h"


/* Marks that order text, which wcwidth() takes for printable: what follows
 * them is not where it seems to be. Line ends of Unicode as well. */
static int
is_mark(uint32_t c)
{
    return (c >= 0x200b && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e)
           || (c >= 0x2060 && c <= 0x206f) || c == 0x061c || c == 0xfeff;
}


/* The columns of |c|, or -1 if it must be escaped. */
static int
columns(const terminal_t *terminal, uint32_t c)
{
    if (c < 0x80) {
        return c >= 0x20 && c != 0x7f && c != '\\' ? 1 : -1;
    }

    if (!terminal->unicode || is_mark(c)) {
        return -1;
    }

    return wcwidth((wchar_t) c);
}


static int
escape(FILE *out, uint32_t c)
{
    char text[16];
    int len;

    if (c == '\\') {
        len = snprintf(text, sizeof(text), "\\\\");

    } else if (c < 0x80) {
        len = snprintf(text, sizeof(text), "\\x%02x", (unsigned) c);

    } else if (c < 0x10000) {
        len = snprintf(text, sizeof(text), "\\u%04x", (unsigned) c);

    } else {
        len = snprintf(text, sizeof(text), "\\U%08x", (unsigned) c);
    }

    if (out != NULL) {
        fputs(text, out);
    }

    return len;
}


int
terminal_text(const terminal_t *terminal, FILE *out, const char *text)
{
    int width, total = 0;
    size_t n, len;
    uint32_t c;

    for (len = strlen(text); len > 0; text += n, len -= n) {
        n = utf8_decode(&c, (const uint8_t *) text, len);

        if (n == 0) {
            n = 1;
            total += escape(out, 0xfffd);
            continue;
        }

        width = columns(terminal, c);

        if (width < 0) {
            total += escape(out, c);
            continue;
        }

        if (out != NULL) {
            fwrite(text, 1, n, out);
        }

        total += width;
    }

    return total;
}


void
terminal_style(const terminal_t *terminal, terminal_style_t style)
{
    static const char *const codes[] = {
        [TERMINAL_PLAIN] = "\033[0m",
        [TERMINAL_BOLD] = "\033[1m",
        [TERMINAL_DIM] = "\033[2m",
        [TERMINAL_GOOD] = "\033[32m",
        [TERMINAL_WARN] = "\033[33m",
        [TERMINAL_BAD] = "\033[1;31m",
        [TERMINAL_MARK] = "\033[36m",
    };

    if (terminal->color) {
        fputs(codes[style], terminal->out);
    }
}


void
terminal_styled(
    const terminal_t *terminal, terminal_style_t style, const char *text)
{
    if (style == TERMINAL_PLAIN) {
        terminal_text(terminal, terminal->out, text);
        return;
    }

    terminal_style(terminal, style);
    terminal_text(terminal, terminal->out, text);
    terminal_style(terminal, TERMINAL_PLAIN);
}


void
terminal_id(const terminal_t *terminal, const uint8_t *id, size_t len)
{
    uint8_t text[2 * TRACEPARENT_TRACE_ID_SIZE];

    traceparent_hex(text, id, len);
    fwrite(text, 1, 2 * len, terminal->out);
}


void
terminal_header(const terminal_t *terminal, const char *name, const char *value)
{
    fputs("  [", terminal->out);
    terminal_text(terminal, terminal->out, name);
    fputs(": ", terminal->out);
    terminal_styled(terminal, TERMINAL_MARK, value);
    putc(']', terminal->out);
}


void
terminal_time(const terminal_t *terminal, char *text, uint64_t ns)
{
    size_t i;
    double value;

    const struct {
        double size;
        const char *name;
    } units[] = {{1, "ns"}, {1e3, terminal->unicode ? "\u00b5s" : "us"},
        {1e6, "ms"}, {1e9, "s"}, {60e9, "min"}, {3600e9, "h"}};

    /* to the next unit just below 1,000, or 100 where 60 make one */
    for (i = 0; i < 5; i++) {
        if ((double) ns / units[i].size < (i < 3 ? 999.5 : 99.95)) {
            break;
        }
    }

    value = (double) ns / units[i].size;

    snprintf(text, TERMINAL_TIME_SIZE, "%.*f %s",
        i == 0 || value >= 99.95 ? 0
        : value >= 9.995         ? 1
                                 : 2,
        value, units[i].name);
}


int
terminal_init(terminal_t *terminal, FILE *out, int fd, const char *when)
{
    const char *no_color;

    no_color = getenv("NO_COLOR");
    terminal->out = out;
    terminal->unicode = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;

    if (strcmp(when, "auto") == 0) {
        terminal->color
            = isatty(fd) && (no_color == NULL || no_color[0] == '\0');

    } else if (strcmp(when, "always") == 0 || strcmp(when, "never") == 0) {
        terminal->color = when[0] == 'a';

    } else {
        return -1;
    }

    return 0;
}
