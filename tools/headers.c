#define _GNU_SOURCE /* getopt_long() */

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include <traceparent/traceparent.h>

#include "command.h"
#include "input.h"


static const char parse_help[]
    = "Usage: traceparent parse [--json] [HEADER|-]\n"
      "\n"
      "Checks the value of a traceparent header and prints its fields. "
      "Without\n"
      "an argument, or with -, reads the value from standard input.\n"
      "\n"
      "Options:\n"
      "  --json      print one JSON object\n"
      "  -h, --help  print this\n"
      "\n"
      "Exit status: 0 valid; 1 invalid, standard error says why; 2 usage.\n"
      "\n"
      "Examples:\n"
      "  traceparent parse 00-4bf92f3577b34da6a3ce929d0e0e4736-"
      "00f067aa0ba902b7-01\n"
      "  traceparent new | traceparent parse --json\n";

static const char new_help[]
    = "Usage: traceparent new [--not-sampled]\n"
      "\n"
      "Prints the traceparent header of a new trace, with random ids.\n"
      "\n"
      "Options:\n"
      "  --not-sampled  leave the sampled flag unset\n"
      "  -h, --help     print this\n"
      "\n"
      "Exit status: 0 success; 1 no random bytes; 2 usage.\n"
      "\n"
      "Examples:\n"
      "  curl -H \"traceparent: $(traceparent new)\" http://localhost/\n";

static const char child_help[]
    = "Usage: traceparent child [--sampled|--not-sampled] [PARENT|-]\n"
      "\n"
      "Prints a traceparent header that continues the trace of PARENT: the "
      "same\n"
      "trace-id, a new random parent-id, version 00. The sampled flag stays "
      "as\n"
      "it is unless told otherwise. Without an argument, or with -, reads\n"
      "PARENT from standard input.\n"
      "\n"
      "Options:\n"
      "  --sampled      set the sampled flag\n"
      "  --not-sampled  unset the sampled flag\n"
      "  -h, --help     print this\n"
      "\n"
      "Exit status: 0 success; 1 PARENT is invalid, standard error says why;\n"
      "2 usage.\n"
      "\n"
      "Examples:\n"
      "  traceparent child 00-4bf92f3577b34da6a3ce929d0e0e4736-"
      "00f067aa0ba902b7-01\n"
      "  traceparent new | traceparent child --not-sampled\n";


/* Reads and parses the one header in |argv|, or on standard input. */
static int
read_header(traceparent_t *header, const char *name, int argc, char **argv)
{
    int err;
    input_t input;

    if (argc > 1) {
        fprintf(stderr, "%s: one header, please, not %d\n", name, argc);
        return command_usage(name);
    }

    if (input_value(&input, argc == 1 ? argv[0] : "-") != 0) {
        fprintf(stderr, "%s: standard input: %s\n", name, strerror(errno));
        return COMMAND_FAILED;
    }

    err = traceparent_parse(header, input.data, input.len);
    input_free(&input);

    if (err != 0) {
        fprintf(stderr, "%s: %s\n", name, traceparent_strerror(err));
        return COMMAND_FAILED;
    }

    return COMMAND_OK;
}


static int
print_header(const char *name, int err, const traceparent_t *header)
{
    uint8_t value[TRACEPARENT_LEN];

    if (err != 0) {
        fprintf(stderr, "%s: %s\n", name, traceparent_strerror(err));
        return COMMAND_FAILED;
    }

    traceparent_format(value, header);
    printf("%.*s\n", TRACEPARENT_LEN, (const char *) value);

    return COMMAND_OK;
}


static int
print_fields(const traceparent_t *header, int as_json)
{
    int sampled, random;
    char trace_id[2 * TRACEPARENT_TRACE_ID_SIZE + 1] = "";
    char parent_id[2 * TRACEPARENT_SPAN_ID_SIZE + 1] = "";
    json_t *object;

    sampled = (header->flags & TRACEPARENT_FLAG_SAMPLED) != 0;
    random = (header->flags & TRACEPARENT_FLAG_RANDOM) != 0;
    traceparent_hex(
        (uint8_t *) trace_id, header->trace_id, sizeof(header->trace_id));
    traceparent_hex(
        (uint8_t *) parent_id, header->parent_id, sizeof(header->parent_id));

    if (!as_json) {
        printf("version: %02" PRIx8 "\n"
               "trace-id: %s\n"
               "parent-id: %s\n"
               "flags: %02" PRIx8 "\n"
               "sampled: %s\n"
               "random: %s\n",
            header->version, trace_id, parent_id, header->flags,
            sampled ? "yes" : "no", random ? "yes" : "no");

        return COMMAND_OK;
    }

    object = json_pack("{s:i, s:s, s:s, s:i, s:b, s:b}", "version",
        header->version, "trace_id", trace_id, "parent_id", parent_id, "flags",
        header->flags, "sampled", sampled, "random", random);

    if (object == NULL || json_dumpf(object, stdout, JSON_COMPACT) != 0) {
        json_decref(object);
        fprintf(stderr, "traceparent parse: cannot print JSON\n");
        return COMMAND_FAILED;
    }

    json_decref(object);
    putchar('\n');

    return COMMAND_OK;
}


int
command_parse(int argc, char **argv)
{
    int c, rc, as_json = 0;
    traceparent_t header;

    static const struct option options[] = {
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };

    while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        switch (c) {
        case 'j':
            as_json = 1;
            break;
        case 'h':
            fputs(parse_help, stdout);
            return COMMAND_OK;
        default:
            return command_usage(argv[0]);
        }
    }

    rc = read_header(&header, argv[0], argc - optind, argv + optind);

    return rc == COMMAND_OK ? print_fields(&header, as_json) : rc;
}


int
command_new(int argc, char **argv)
{
    int c, sampled = 1;
    traceparent_t header;

    static traceparent_ids_t ids;
    static const struct option options[] = {
        {"not-sampled", no_argument, NULL, 'n'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };

    while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        switch (c) {
        case 'n':
            sampled = 0;
            break;
        case 'h':
            fputs(new_help, stdout);
            return COMMAND_OK;
        default:
            return command_usage(argv[0]);
        }
    }

    if (optind != argc) {
        fprintf(stderr, "%s: takes no argument\n", argv[0]);
        return command_usage(argv[0]);
    }

    return print_header(
        argv[0], traceparent_new(&header, &ids, sampled), &header);
}


int
command_child(int argc, char **argv)
{
    int c, rc, sampled = -1;
    traceparent_t header;

    static traceparent_ids_t ids;
    static const struct option options[] = {
        {"sampled", no_argument, NULL, 's'},
        {"not-sampled", no_argument, NULL, 'n'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };

    while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        switch (c) {
        case 's':
        case 'n':
            if (sampled != -1 && sampled != (c == 's')) {
                fprintf(stderr,
                    "%s: --sampled and --not-sampled exclude each other\n",
                    argv[0]);
                return command_usage(argv[0]);
            }

            sampled = c == 's';
            break;
        case 'h':
            fputs(child_help, stdout);
            return COMMAND_OK;
        default:
            return command_usage(argv[0]);
        }
    }

    rc = read_header(&header, argv[0], argc - optind, argv + optind);

    if (rc != COMMAND_OK) {
        return rc;
    }

    if (sampled == -1) {
        sampled = (header.flags & TRACEPARENT_FLAG_SAMPLED) != 0;
    }

    return print_header(
        argv[0], traceparent_child(&header, &header, &ids, sampled), &header);
}
