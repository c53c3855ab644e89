/* Header values from the command line or from standard input. */

#ifndef INPUT_H
#define INPUT_H


#include <stddef.h>
#include <stdint.h>


/* A longer standard input is refused, in bytes. */
#define INPUT_MAX (1024 * 1024)


typedef struct {
    uint8_t *data;
    size_t len;
} input_t;


/*
 * Copies |argument|, or, if it is "-", reads standard input to its end, without
 * the newline that ends it. Returns 0 with |input| to be freed, or -1 with
 * errno set, EFBIG for too long an input.
 */
int input_value(input_t *input, const char *argument);

void input_free(input_t *input);


#endif
