/*
 * Text for people: strings of strangers, made harmless for a terminal, and the
 * width they take there.
 */

#ifndef TERMINAL_H
#define TERMINAL_H


#include <stdint.h>
#include <stdio.h>


#define TERMINAL_TIME_SIZE 32


typedef enum {
    TERMINAL_PLAIN,
    TERMINAL_BOLD,
    TERMINAL_DIM,
    TERMINAL_GOOD,
    TERMINAL_WARN,
    TERMINAL_BAD,
    TERMINAL_MARK,
} terminal_style_t;

typedef struct {
    FILE *out;
    int color;
    int unicode; /* what is printed may be more than ASCII */
} terminal_t;


/*
 * Sets up what is printed on |out|, which ends at descriptor |fd|. |when| is
 * "always", "never" or "auto": where |fd| is a terminal, and NO_COLOR is unset
 * or empty (no-color.org). Returns 0, or -1 if |when| is none of these.
 */
int terminal_init(terminal_t *terminal, FILE *out, int fd, const char *when);

/*
 * Prints the UTF-8 string |text|. Characters that change what a terminal does
 * or how it orders text are escaped, as \x1b or \u202e; those that are not
 * ASCII too, where the locale is not UTF-8. Returns the columns it takes; with
 * |out| NULL it prints nothing.
 */
int terminal_text(const terminal_t *terminal, FILE *out, const char *text);

/* Begins and ends a style; TERMINAL_PLAIN ends. */
void terminal_style(const terminal_t *terminal, terminal_style_t style);

/* Prints |text|, as terminal_text() does, in |style|. */
void terminal_styled(
    const terminal_t *terminal, terminal_style_t style, const char *text);

/* Prints |len| bytes, up to 16, as hex digits. */
void terminal_id(const terminal_t *terminal, const uint8_t *id, size_t len);

/* Prints "  [name: value]". */
void terminal_header(
    const terminal_t *terminal, const char *name, const char *value);

/* Writes |ns| nanoseconds in a unit that leaves three digits or so, in up to
 * TERMINAL_TIME_SIZE bytes. */
void terminal_time(const terminal_t *terminal, char *text, uint64_t ns);


#endif
