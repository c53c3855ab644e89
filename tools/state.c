#define _GNU_SOURCE /* getopt_long() */

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include <traceparent/traceparent.h>
#include <traceparent/tracestate.h>

#include "command.h"
#include "input.h"


/* One list, made of all headers that were given. */
typedef struct {
    uint8_t *data;
    size_t len;
    int as_json;
    const char *name; /* of the command, for messages */
} state_t;

typedef struct {
    const char *word;
    int words; /* between it and the headers: KEY, VALUE */
    int (*run)(const state_t *state, char **words);
} action_t;


static int state_list(const state_t *state, char **words);
static int state_combine(const state_t *state, char **words);
static int state_get(const state_t *state, char **words);
static int state_set(const state_t *state, char **words);
static int state_delete(const state_t *state, char **words);


static const action_t actions[] = {
    {"list", 0, state_list},
    {"combine", 0, state_combine},
    {"get", 1, state_get},
    {"set", 2, state_set},
    {"delete", 1, state_delete},
};

static const char help[]
    = "Usage: traceparent state list [--json] [HEADER...|-]\n"
      "       traceparent state combine [HEADER...|-]\n"
      "       traceparent state get KEY [HEADER...|-]\n"
      "       traceparent state set KEY VALUE [HEADER...|-]\n"
      "       traceparent state delete KEY [HEADER...|-]\n"
      "\n"
      "Checks the values of tracestate headers. Several headers are one list,\n"
      "in order. Without a HEADER, or with - as the only one, reads them from\n"
      "standard input, one in each line.\n"
      "\n"
      "  list     print the members, one in each line as KEY=VALUE\n"
      "  combine  print the list as one header\n"
      "  get      print the value of the member KEY\n"
      "  set      print the list with the member KEY=VALUE in front\n"
      "  delete   print the list without the member KEY\n"
      "\n"
      "Options:\n"
      "  --json      list prints a JSON array of {\"key\", \"value\"}\n"
      "  -h, --help  print this\n"
      "\n"
      "Exit status: 0 success; 1 the list, KEY or VALUE is invalid, standard\n"
      "error says why; 2 usage; 3 get found no member KEY.\n"
      "\n"
      "Examples:\n"
      "  traceparent state list 'rojo=00f067aa0ba902b7,congo=t61rcWkgMzE'\n"
      "  traceparent state set ot th:0 'rojo=00f067aa0ba902b7'\n"
      "  traceparent state set -- ot -1 'rojo=00f067aa0ba902b7'\n"
      "  printf 'a=1\\nb=2\\n' | traceparent state combine\n";


static int
failed(const char *name, int err)
{
    fprintf(stderr, "%s: %s\n", name, traceparent_strerror(err));

    return err == TRACESTATE_ERR_NOT_FOUND ? COMMAND_MISSING : COMMAND_FAILED;
}


static int
system_failed(const char *name)
{
    fprintf(stderr, "%s: %s\n", name, strerror(errno));

    return COMMAND_FAILED;
}


static void
print_line(const uint8_t *data, size_t len)
{
    fwrite(data, 1, len, stdout);
    putchar('\n');
}


static int
print_json_members(const state_t *state)
{
    int rc;
    json_t *array;
    tracestate_iter_t iter = {state->data, state->data + state->len};
    tracestate_member_t member;

    array = json_array();

    while (tracestate_next(&iter, &member) == 1) {
        /* a failure shows below: nothing is appended to or printed of NULL */
        if (json_array_append_new(
                array, json_pack("{s:s%, s:s%}", "key", member.key.data,
                           member.key.len, "value", member.value.data,
                           member.value.len))
            != 0) {
            json_decref(array);
            array = NULL;
        }
    }

    rc = array == NULL ? -1 : json_dumpf(array, stdout, JSON_COMPACT);
    json_decref(array);

    if (rc != 0) {
        fprintf(stderr, "%s: cannot print JSON\n", state->name);
        return COMMAND_FAILED;
    }

    putchar('\n');

    return COMMAND_OK;
}


static int
state_list(const state_t *state, char **words)
{
    tracestate_iter_t iter = {state->data, state->data + state->len};
    tracestate_member_t member;

    (void) words;

    if (state->as_json) {
        return print_json_members(state);
    }

    while (tracestate_next(&iter, &member) == 1) {
        fwrite(member.key.data, 1, member.key.len, stdout);
        putchar('=');
        print_line(member.value.data, member.value.len);
    }

    return COMMAND_OK;
}


static int
state_combine(const state_t *state, char **words)
{
    (void) words;

    print_line(state->data, state->len);

    return COMMAND_OK;
}


static int
state_get(const state_t *state, char **words)
{
    int err;
    traceparent_view_t value;

    err = tracestate_get(&value, state->data, state->len,
        (const uint8_t *) words[0], strlen(words[0]));

    if (err != 0) {
        return failed(state->name, err);
    }

    print_line(value.data, value.len);

    return COMMAND_OK;
}


static int
state_set(const state_t *state, char **words)
{
    int err;
    size_t len;
    uint8_t *list;

    len = state->len + strlen(words[0]) + strlen(words[1]) + 2;
    list = malloc(len);

    if (list == NULL) {
        return system_failed(state->name);
    }

    err = tracestate_set(list, &len, state->data, state->len,
        (const uint8_t *) words[0], strlen(words[0]),
        (const uint8_t *) words[1], strlen(words[1]));

    if (err == 0) {
        print_line(list, len);
    }

    free(list);

    return err == 0 ? COMMAND_OK : failed(state->name, err);
}


static int
state_delete(const state_t *state, char **words)
{
    int err;
    size_t len;
    uint8_t *list;

    len = state->len;
    list = malloc(len + 1);

    if (list == NULL) {
        return system_failed(state->name);
    }

    err = tracestate_delete(list, &len, state->data, state->len,
        (const uint8_t *) words[0], strlen(words[0]));

    if (err == 0) {
        print_line(list, len);
    }

    free(list);

    return err == 0 ? COMMAND_OK : failed(state->name, err);
}


/* The lines of |input| as views. Returns how many, -1 if memory is short. */
static int
split_lines(traceparent_view_t **views, const input_t *input)
{
    int n;
    size_t i;
    traceparent_view_t *view;

    for (n = 1, i = 0; i < input->len; i++) {
        n += input->data[i] == '\n';
    }

    view = malloc((size_t) n * sizeof(*view));

    if (view == NULL) {
        return -1;
    }

    *views = view;
    view->data = input->data;

    for (i = 0; i < input->len; i++) {
        if (input->data[i] == '\n') {
            view->len = (size_t) (input->data + i - view->data);
            view++;
            view->data = input->data + i + 1;
        }
    }

    view->len = (size_t) (input->data + input->len - view->data);

    return n;
}


static int
argument_views(traceparent_view_t **views, int argc, char **argv)
{
    int i;

    *views = malloc((size_t) argc * sizeof(**views));

    if (*views == NULL) {
        return -1;
    }

    for (i = 0; i < argc; i++) {
        (*views)[i].data = (const uint8_t *) argv[i];
        (*views)[i].len = strlen(argv[i]);
    }

    return argc;
}


/* Sets |state|'s list from the headers in |argv| or on standard input. */
static int
read_list(state_t *state, int argc, char **argv)
{
    int i, n, err;
    input_t input = {NULL, 0};
    traceparent_view_t *views;

    if (argc == 0 || (argc == 1 && strcmp(argv[0], "-") == 0)) {
        if (input_value(&input, "-") != 0) {
            return system_failed(state->name);
        }

        n = split_lines(&views, &input);

    } else {
        n = argument_views(&views, argc, argv);
    }

    if (n == -1) {
        input_free(&input);
        return system_failed(state->name);
    }

    for (state->len = (size_t) n, i = 0; i < n; i++) {
        state->len += views[i].len;
    }

    state->data = malloc(state->len);
    err = 0;

    if (state->data != NULL) {
        err = tracestate_combine(state->data, &state->len, views, (size_t) n);
    }

    free(views);
    input_free(&input);

    if (state->data == NULL) {
        return system_failed(state->name);
    }

    return err < 0 ? failed(state->name, err) : COMMAND_OK;
}


static int
run_action(state_t *state, int argc, char **argv)
{
    int rc;
    size_t i;
    const action_t *action;

    action = NULL;

    for (i = 0; argc > 0 && i < sizeof(actions) / sizeof(actions[0]); i++) {
        if (strcmp(argv[0], actions[i].word) == 0) {
            action = &actions[i];
        }
    }

    if (action == NULL) {
        fprintf(
            stderr, "%s: list, combine, get, set or delete?\n", state->name);
        return command_usage(state->name);
    }

    if (state->as_json && action->run != state_list) {
        fprintf(stderr, "%s: only list takes --json\n", state->name);
        return command_usage(state->name);
    }

    if (argc - 1 < action->words) {
        fprintf(stderr, "%s: %s needs KEY%s\n", state->name, action->word,
            action->words == 2 ? " and VALUE" : "");
        return command_usage(state->name);
    }

    rc = read_list(state, argc - 1 - action->words, argv + 1 + action->words);

    if (rc == COMMAND_OK) {
        rc = action->run(state, argv + 1);
    }

    free(state->data);

    return rc;
}


int
command_state(int argc, char **argv)
{
    int c;
    state_t state = {NULL, 0, 0, argv[0]};

    static const struct option options[] = {
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };

    while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        switch (c) {
        case 'j':
            state.as_json = 1;
            break;
        case 'h':
            fputs(help, stdout);
            return COMMAND_OK;
        default:
            return command_usage(argv[0]);
        }
    }

    return run_action(&state, argc - optind, argv + optind);
}
