/*
 * What the functions of libtraceparent cost; called by t/bench/run.
 *
 *     lib --list      one line for each case: name, budget, label, remark
 *     lib NAME N      runs a case N times
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <traceparent/sampler.h>
#include <traceparent/traceparent.h>
#include <traceparent/tracestate.h>


#define HEADER "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
#define LIST   "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"
#define OT     "ot=th:e666;rv:0123456789abcd," LIST


/* The input; read at run time. What the functions give goes to |sink|. */
static const uint8_t *input;
static size_t input_len;
static unsigned sink;


static void
run_parse(unsigned long n)
{
    traceparent_t tp = {{0}, {0}, 0, 0};

    while (n-- > 0) {
        sink += (unsigned) traceparent_parse(&tp, input, input_len);
    }

    sink += tp.flags;
}


static void
run_format(unsigned long n)
{
    uint8_t out[TRACEPARENT_LEN];
    traceparent_t tp;

    if (traceparent_parse(&tp, input, input_len) != 0) {
        exit(1);
    }

    while (n-- > 0) {
        traceparent_format(out, &tp);
        sink += out[0];
    }
}


static void
run_validate(unsigned long n)
{
    while (n-- > 0) {
        sink += (unsigned) tracestate_validate(input, input_len);
    }
}


static void
run_span_id(unsigned long n)
{
    static traceparent_ids_t ids;
    uint8_t id[TRACEPARENT_SPAN_ID_SIZE] = {0};

    while (n-- > 0) {
        sink += (unsigned) traceparent_ids_span(&ids, id);
    }

    sink += id[0];
}


static void
run_child(unsigned long n)
{
    static traceparent_ids_t ids;
    traceparent_t parent, child;

    if (traceparent_parse(&parent, input, input_len) != 0) {
        exit(1);
    }

    while (n-- > 0) {
        sink += (unsigned) traceparent_child(&child, &parent, &ids, 1);
    }
}


static void
run_sampler_read(unsigned long n)
{
    static const uint8_t trace_id[TRACEPARENT_TRACE_ID_SIZE] = {1};
    traceparent_sampling_t sampling;

    while (n-- > 0) {
        traceparent_sampler_read(&sampling, trace_id, input, input_len);
        sink += (unsigned) sampling.threshold;
    }
}


static void
run_sampler_write(unsigned long n)
{
    uint8_t list[TRACESTATE_LEN_MAX];
    size_t len;

    while (n-- > 0) {
        len = sizeof(list);
        sink += (unsigned) traceparent_sampler_write(
            list, &len, input, input_len, UINT64_C(0xfd70a) << 36);
    }
}


static void
run_rate_take(unsigned long n)
{
    traceparent_rate_t rate;
    uint64_t word = 0;

    if (traceparent_rate_init(&rate, 1e9, 100) != 0) {
        exit(1);
    }

    while (n-- > 0) {
        sink += (unsigned) traceparent_rate_take(&rate, &word, n);
    }
}


/* |peers| are figures of others' functions for the same work. */
static const struct {
    const char *name;
    void (*run)(unsigned long n);
    const char *input;
    unsigned budget;
    const char *label;
    const char *peers;
} cases[] = {
    {"parse", run_parse, HEADER, 80, "traceparent_parse",
        "nginx-otel 1,204 (43 ns), opentelemetry-cpp 3,991 (193 ns)"},
    {"format", run_format, HEADER, 60, "traceparent_format", ""},
    {"validate", run_validate, LIST, 250, "tracestate_validate, two members",
        "opentelemetry-cpp 27,165, traceparent included"},
    {"span-id", run_span_id, "", 70, "traceparent_ids_span", ""},
    {"child", run_child, HEADER, 110, "traceparent_child", ""},
    {"sampler-none", run_sampler_read, LIST, 130,
        "traceparent_sampler_read, no ot", ""},
    {"sampler-read", run_sampler_read, OT, 520,
        "traceparent_sampler_read, th and rv", ""},
    {"sampler-write", run_sampler_write, OT, 1500, "traceparent_sampler_write",
        ""},
    {"rate", run_rate_take, "", 30, "traceparent_rate_take", ""},
};

#define N_CASES (sizeof(cases) / sizeof(cases[0]))


int
main(int argc, char **argv)
{
    size_t i;

    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        for (i = 0; i < N_CASES; i++) {
            printf("%s\t%u\t%s\t%s\n", cases[i].name, cases[i].budget,
                cases[i].label, cases[i].peers);
        }

        return 0;
    }

    for (i = 0; i < N_CASES && argc == 3; i++) {
        if (strcmp(argv[1], cases[i].name) == 0) {
            input = (const uint8_t *) cases[i].input;
            input_len = strlen(cases[i].input);
            cases[i].run(strtoul(argv[2], NULL, 10));
            printf("%u\n", sink);

            return 0;
        }
    }

    fprintf(stderr, "usage: %s --list | NAME N\n", argv[0]);

    return 2;
}
