#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "input.h"


static int
read_stdin(input_t *input)
{
    /* one byte too many tells that there is more */
    input->data = malloc(INPUT_MAX + 1);

    if (input->data == NULL) {
        return -1;
    }

    errno = 0;
    input->len = fread(input->data, 1, INPUT_MAX + 1, stdin);

    if (ferror(stdin) || input->len > INPUT_MAX) {
        errno = ferror(stdin) ? errno : EFBIG;
        input_free(input);
        return -1;
    }

    if (input->len > 0 && input->data[input->len - 1] == '\n') {
        input->len--;

        if (input->len > 0 && input->data[input->len - 1] == '\r') {
            input->len--;
        }
    }

    return 0;
}


int
input_value(input_t *input, const char *argument)
{
    if (strcmp(argument, "-") == 0) {
        return read_stdin(input);
    }

    input->len = strlen(argument);
    input->data = malloc(input->len + 1);

    if (input->data == NULL) {
        return -1;
    }

    memcpy(input->data, argument, input->len + 1);

    return 0;
}


void
input_free(input_t *input)
{
    free(input->data);
    input->data = NULL;
    input->len = 0;
}
