#define _GNU_SOURCE /* getopt_long(), SFD_CLOEXEC */

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "command.h"
#include "export.h"
#include "json.h"
#include "listener.h"
#include "output.h"
#include "server.h"
#include "terminal.h"
#include "tree.h"


#define SETTLE_SECONDS  0.5
#define LAST_ANSWERS_MS 1000
#define SECONDS_MAX     1e9
#define COUNT_MAX       UINT64_C(1000000000000000)


typedef struct {
    const char *name; /* of the command */
    int as_json;
    uint64_t count; /* 0: no end */
    double timeout; /* 0: none */
    double settle;
    char *header;
    const char *color;
    const char *address;
} options_t;

typedef struct {
    const options_t *options;
    FILE *out;
    int signal_fd;
    server_t *server;
    tree_t *tree; /* NULL with --json */
    uint64_t n_spans;
    uint64_t n_requests;
    uint64_t deadline; /* in milliseconds, as all times here; 0: none */
    int error;         /* 1: something failed, and was told */
} receiver_t;


static const char help[]
    = "Usage: traceparent receive [--tree|--json] unix:PATH|HOST:PORT\n"
      "\n"
      "Receives spans and log records over OTLP/HTTP (POST /v1/traces and\n"
      "/v1/logs, protobuf) and prints them: each trace as a tree and each\n"
      "record, as the events of spans that are open, in a line; or both as\n"
      "lines of JSON. Listens on a Unix socket or on a loopback address; port "
      "0\n"
      "chooses a free one. Says \"listening on ...\" on standard error when "
      "it\n"
      "is ready, and removes its socket when it ends, at SIGINT, SIGTERM or\n"
      "SIGHUP.\n"
      "\n"
      "Options:\n"
      "  --tree          print trees, and log records in lines (the default)\n"
      "  --json          print one JSON object per span or record and line\n"
      "  --count N       end when N spans were received\n"
      "  --timeout S     end after S seconds\n"
      "  --settle S      print a tree when its trace was quiet for S seconds\n"
      "                  (0.5)\n"
      "  --header NAME   show this header of the export requests with the "
      "tree\n"
      "  --color WHEN    auto, always or never (auto)\n"
      "  -h, --help      print this\n"
      "\n"
      "Exit status: 0 ended by a signal, by --count, by --timeout without\n"
      "--count, or because nobody reads its output any more; 1 the address is\n"
      "in use, or another failure of the system; 2 usage; 3 --timeout came\n"
      "before --count was reached.\n"
      "\n"
      "Examples:\n"
      "  traceparent receive unix:/tmp/otlp.sock\n"
      "  traceparent receive --header x-tenant '[::1]:4318'\n"
      "  traceparent receive --json --count 2 --timeout 10 127.0.0.1:0 | jq "
      ".name\n";


static uint64_t
now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);

    return (uint64_t) now.tv_sec * 1000 + (uint64_t) now.tv_nsec / 1000000;
}


static uint64_t
count_spans(const export_t *request)
{
    uint64_t n = 0;
    export_group_t group = {0};

    while (export_next(request, &group)) {
        n += group.n_spans;
    }

    return n;
}


/* Prints the spans, or keeps them for a tree. Returns the answer's status. */
static unsigned
take(receiver_t *receiver, const export_t *request, json_t *headers,
    const char **why)
{
    int rc;

    if (receiver->tree == NULL && !json_fits(request, headers)) {
        *why = "too many of so large a resource";
        return 413;
    }

    rc = receiver->tree != NULL
             ? tree_add(receiver->tree, request, headers, now_ms())
             : json_print(receiver->out, request, headers,
                 (unsigned long) receiver->n_requests + 1);
    fflush(receiver->out);

    if (rc != 0 || output_error() != 0) {
        *why
            = rc != 0 && output_error() == 0 ? "out of memory" : "nobody reads";
        return 503;
    }

    receiver->n_requests++;
    receiver->n_spans += count_spans(request);

    return 200;
}


static unsigned
sink(void *data, export_kind_t kind, uint8_t *body, size_t len, json_t *headers,
    const char **why)
{
    unsigned status;
    export_t *request;

    request = export_decode(kind, body, len, why);

    if (request == NULL) {
        return 400;
    }

    status = take(data, request, headers, why);
    export_free(request);

    return status;
}


/* How long poll() may wait, in milliseconds. */
static int
wait_ms(const receiver_t *receiver)
{
    int64_t wait, other;
    uint64_t now = now_ms();

    wait = server_timeout(receiver->server);

    if (receiver->tree != NULL) {
        other = tree_wait(receiver->tree, now);
        wait = wait == -1 || (other != -1 && other < wait) ? other : wait;
    }

    if (receiver->deadline != 0) {
        other = receiver->deadline > now ? (int64_t) (receiver->deadline - now)
                                         : 0;
        wait = wait == -1 || other < wait ? other : wait;
    }

    return wait > 60000 ? 60000 : (int) wait;
}


static int
counted(const receiver_t *receiver)
{
    return receiver->options->count != 0
           && receiver->n_spans >= receiver->options->count;
}


static void
out_of_memory(receiver_t *receiver)
{
    fprintf(stderr, "%s: out of memory\n", receiver->options->name);
    receiver->error = 1;
}


static int
draw_due(receiver_t *receiver)
{
    int n = tree_draw(receiver->tree, now_ms());

    if (n == -1) {
        out_of_memory(receiver);
        return -1;
    }

    if (n > 0) {
        fflush(receiver->out);
    }

    return 0;
}


/* Serves until there is a reason to end. */
static void
serve(receiver_t *receiver)
{
    struct pollfd fds[3] = {{server_fd(receiver->server), POLLIN, 0},
        {receiver->signal_fd, POLLIN, 0}, {STDOUT_FILENO, 0, 0}};

    while (!counted(receiver) && output_error() == 0) {
        if (poll(fds, 3, wait_ms(receiver)) == -1 && errno != EINTR) {
            fprintf(stderr, "%s: poll: %s\n", receiver->options->name,
                strerror(errno));
            receiver->error = 1;
            return;
        }

        /* a reader that left is noticed before there is something to write */
        if (fds[1].revents != 0 || (fds[2].revents & POLLERR) != 0) {
            return;
        }

        server_run(receiver->server);

        if (receiver->tree != NULL && draw_due(receiver) != 0) {
            return;
        }

        if (receiver->deadline != 0 && now_ms() >= receiver->deadline) {
            return;
        }
    }
}


/* Prints what is left. Returns what the command exits with. */
static int
finish(receiver_t *receiver)
{
    if (receiver->tree != NULL) {
        if (tree_draw(receiver->tree, UINT64_MAX) == -1) {
            out_of_memory(receiver);
        }

        tree_free(receiver->tree);
    }

    fclose(receiver->out);

    if (output_error() != 0 && output_error() != EPIPE) {
        fprintf(stderr, "%s: write error: %s\n", receiver->options->name,
            strerror(output_error()));
        receiver->error = 1;
    }

    if (receiver->error) {
        return COMMAND_FAILED;
    }

    if (receiver->deadline != 0 && now_ms() >= receiver->deadline
        && receiver->options->count != 0 && !counted(receiver)) {
        fprintf(stderr, "%s: %" PRIu64 " of %" PRIu64 " spans came in time\n",
            receiver->options->name, receiver->n_spans,
            receiver->options->count);
        return COMMAND_MISSING;
    }

    return COMMAND_OK;
}


/* Ends by signals are read from a descriptor, so that none comes between the
 * look and the wait. */
static int
open_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);

    if (sigprocmask(SIG_BLOCK, &set, NULL) == -1
        || signal(SIGPIPE, SIG_IGN) == SIG_ERR) {
        return -1;
    }

    return signalfd(-1, &set, SFD_CLOEXEC);
}


/* Listens, serves and ends, with |receiver|'s output and signals set up. */
static int
run(receiver_t *receiver, const terminal_t *terminal)
{
    int rc;
    listener_t listener;
    const options_t *options = receiver->options;

    rc = listener_open(&listener, options->address, options->name);

    if (rc != COMMAND_OK) {
        return rc == COMMAND_USAGE ? command_usage(options->name) : rc;
    }

    if (!options->as_json) {
        receiver->tree = tree_create(
            terminal, (uint64_t) (options->settle * 1000), options->header);
    }

    receiver->server = server_start(listener.fd, sink, receiver, options->name);

    if (receiver->server == NULL
        || (!options->as_json && receiver->tree == NULL)) {
        listener_remove(&listener);
        fprintf(stderr, "%s: cannot start the server\n", options->name);
        return COMMAND_FAILED;
    }

    if (options->timeout > 0) {
        receiver->deadline = now_ms() + (uint64_t) (options->timeout * 1000);
    }

    fprintf(stderr, "listening on %s\n", listener.name);
    serve(receiver);

    listener_remove(&listener);
    server_stop(receiver->server, LAST_ANSWERS_MS);

    return finish(receiver);
}


static int
receive(const options_t *options)
{
    terminal_t terminal;
    receiver_t receiver = {.options = options};

    receiver.signal_fd = open_signals();

    if (receiver.signal_fd == -1) {
        fprintf(stderr, "%s: signals: %s\n", options->name, strerror(errno));
        return COMMAND_FAILED;
    }

    receiver.out = output_open(STDOUT_FILENO, receiver.signal_fd);

    if (receiver.out == NULL) {
        fprintf(stderr, "%s: %s\n", options->name, strerror(errno));
        return COMMAND_FAILED;
    }

    if (terminal_init(&terminal, receiver.out, STDOUT_FILENO, options->color)
        != 0) {
        fprintf(stderr, "%s: --color is auto, always or never, not \"%s\"\n",
            options->name, options->color);
        return command_usage(options->name);
    }

    return run(&receiver, &terminal);
}


/* Reads a number of seconds above 0. Returns 0 or -1. */
static int
read_seconds(const options_t *options, const char *option, const char *text,
    double *seconds)
{
    char *end;

    *seconds = strtod(text, &end);

    if (end == text || *end != '\0' || !isfinite(*seconds) || *seconds < 0.001
        || *seconds > SECONDS_MAX) {
        fprintf(stderr,
            "%s: %s takes seconds, 0.001 to 1000000000, not \"%s\"\n",
            options->name, option, text);
        return -1;
    }

    return 0;
}


static int
read_count(options_t *options, const char *text)
{
    char *end;

    errno = 0;
    options->count = strtoull(text, &end, 10);

    if (!isdigit((unsigned char) text[0]) || *end != '\0' || errno != 0
        || options->count == 0 || options->count > COUNT_MAX) {
        fprintf(stderr, "%s: --count takes a number above 0, not \"%s\"\n",
            options->name, text);
        return -1;
    }

    return 0;
}


static int
read_header_name(options_t *options, char *text)
{
    char *p;

    if (text[0] == '\0') {
        fprintf(stderr, "%s: --header takes a name\n", options->name);
        return -1;
    }

    for (p = text; *p != '\0'; p++) {
        *p = (char) tolower((unsigned char) *p);
    }

    options->header = text;

    return 0;
}


/* Takes one option. Returns 0, or -1 if it makes no sense. */
static int
read_option(options_t *options, int option, char *value)
{
    switch (option) {
    case 'j':
    case 't':
        options->as_json = option == 'j';
        return 0;
    case 'n':
        return read_count(options, value);
    case 'w':
        return read_seconds(options, "--timeout", value, &options->timeout);
    case 's':
        return read_seconds(options, "--settle", value, &options->settle);
    case 'H':
        return read_header_name(options, value);
    case 'c':
        options->color = value;
        return 0;
    default:
        return -1;
    }
}


int
command_receive(int argc, char **argv)
{
    int c;
    options_t options
        = {.name = argv[0], .settle = SETTLE_SECONDS, .color = "auto"};

    static const struct option known[] = {
        {"tree", no_argument, NULL, 't'},
        {"json", no_argument, NULL, 'j'},
        {"count", required_argument, NULL, 'n'},
        {"timeout", required_argument, NULL, 'w'},
        {"settle", required_argument, NULL, 's'},
        {"header", required_argument, NULL, 'H'},
        {"color", required_argument, NULL, 'c'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };

    while ((c = getopt_long(argc, argv, "h", known, NULL)) != -1) {
        if (c == 'h') {
            fputs(help, stdout);
            return COMMAND_OK;
        }

        if (read_option(&options, c, optarg) != 0) {
            return command_usage(argv[0]);
        }
    }

    if (argc - optind != 1) {
        fprintf(stderr, "%s: one address to listen on, please\n", argv[0]);
        return command_usage(argv[0]);
    }

    options.address = argv[optind];

    return receive(&options);
}
