#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "command.h"


#ifndef TRACEPARENT_VERSION
#define TRACEPARENT_VERSION "0.1.0"
#endif


typedef struct {
    const char *word;
    char *name; /* for messages */
    int (*run)(int argc, char **argv);
} command_t;


static char parse_name[] = "traceparent parse";
static char new_name[] = "traceparent new";
static char child_name[] = "traceparent child";
static char state_name[] = "traceparent state";
static char receive_name[] = "traceparent receive";

static const command_t commands[] = {
    {"parse", parse_name, command_parse},
    {"new", new_name, command_new},
    {"child", child_name, command_child},
    {"state", state_name, command_state},
    {"receive", receive_name, command_receive},
};

static const char help[]
    = "Usage: traceparent COMMAND [ARGUMENT...]\n"
      "\n"
      "The headers of W3C Trace Context at a prompt and in scripts, and a\n"
      "receiver that shows traces as they arrive.\n"
      "\n"
      "Commands:\n"
      "  parse    check a traceparent header, print its fields\n"
      "  new      print the traceparent of a new trace\n"
      "  child    print a traceparent that continues a trace\n"
      "  state    check, list and change tracestate headers\n"
      "  receive  receive spans over OTLP/HTTP, print them\n"
      "\n"
      "`traceparent COMMAND --help` explains each of them.\n"
      "\n"
      "Options:\n"
      "  -h, --help     print this\n"
      "  -V, --version  print the version\n"
      "\n"
      "Exit status: 0 success; 1 invalid input or a failure of the system;\n"
      "2 the command line makes no sense; 3 what was asked for is not there.\n"
      "\n"
      "Examples:\n"
      "  curl -H \"traceparent: $(traceparent new)\" http://localhost/\n"
      "  traceparent receive unix:/tmp/otlp.sock\n";


int
command_usage(const char *name)
{
    fprintf(stderr, "Try `%s --help`.\n", name);

    return COMMAND_USAGE;
}


/*
 * A descriptor below 3 that was closed would be given to the next socket, and
 * output meant for people would go there. The direction is the wrong one on
 * purpose, so that using it is an error, as with a closed one.
 */
static void
occupy_standard_streams(void)
{
    int fd;

    for (fd = 0; fd <= 2; fd++) {
        if (fcntl(fd, F_GETFD) == -1 && errno == EBADF) {
            (void) open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY);
        }
    }
}


static int
dispatch(int argc, char **argv)
{
    size_t i;

    if (argc < 2) {
        fprintf(stderr, "traceparent: which command?\n");
        return command_usage("traceparent");
    }

    if (strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "--help") == 0) {
        fputs(help, stdout);
        return COMMAND_OK;
    }

    if (strcmp(argv[1], "-V") == 0 || strcmp(argv[1], "--version") == 0) {
        puts("traceparent " TRACEPARENT_VERSION);
        return COMMAND_OK;
    }

    for (i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(argv[1], commands[i].word) == 0) {
            argv[1] = commands[i].name;
            return commands[i].run(argc - 1, argv + 1);
        }
    }

    fprintf(stderr, "traceparent: there is no command \"%s\"\n", argv[1]);

    return command_usage("traceparent");
}


int
main(int argc, char **argv)
{
    int status;

    occupy_standard_streams();
    setlocale(LC_CTYPE, "");

    status = dispatch(argc, argv);

    /* A full disk may show only now. */
    if (fclose(stdout) != 0 && status == COMMAND_OK) {
        fprintf(stderr, "traceparent: write error: %s\n", strerror(errno));
        return COMMAND_FAILED;
    }

    return status;
}
