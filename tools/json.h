/* Spans and log records as lines of JSON; docs/command.md describes them. */

#ifndef JSON_H
#define JSON_H


#include <stdio.h>

#include <jansson.h>

#include "export.h"


/* What a request's spans or records have in common is printed with each of
 * them; more than this much of it in all is refused, in bytes. */
#define JSON_COMMON_MAX (512 * 1024 * 1024)


/* Whether |request| is within that bound. */
int json_fits(const export_t *request, const json_t *headers);

/* Prints a line for each span or record of |request|, the |ordinal|th one,
 * which came with |headers|. Returns 0, or -1 if memory is short. */
int json_print(
    FILE *out, const export_t *request, json_t *headers, unsigned long ordinal);


#endif
