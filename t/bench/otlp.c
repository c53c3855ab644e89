/*
 * What a span costs. Run by t/bench/run, which counts instructions:
 *   otlp --list   prints name, budget, label and remark of each case
 *   otlp NAME N   runs a case N times
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <traceparent/otlp/queue.h>
#include <traceparent/otlp/span.h>


#define TEXT(s) (const uint8_t *) (s), sizeof(s) - 1
#define KEY(s)  (s), sizeof(s) - 1


typedef struct {
    const char *name;
    const char *budget;
    const char *label;
    const char *remark;
    void (*run)(unsigned long n);
} bench_t;


static const uint8_t ids[24]
    = {0x4b, 0xf9, 0x2f, 0x35, 0x77, 0xb3, 0x4d, 0xa6, 0xa3, 0xce, 0x92, 0x9d,
        0x0e, 0x0e, 0x47, 0x36, 0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7};


static const uint64_t start_time = UINT64_C(1700000000000000000);


static void
begin_span(otlp_span_t *span, uint8_t *buf, size_t size)
{
    otlp_span_head_t head;

    memset(&head, 0, sizeof(head));
    head.trace_id = ids;
    head.span_id = ids + 16;
    head.parent_span_id = ids + 8;
    head.name.data = (const uint8_t *) "GET /api/v1/items";
    head.name.len = sizeof("GET /api/v1/items") - 1;
    head.start_time = start_time;
    head.flags = 0x301;
    head.kind = OTLP_SPAN_KIND_SERVER;

    if (otlp_span_begin(span, buf, size, &head) != 0) {
        abort();
    }
}


/* The request span of an ordinary GET: 13 attributes. */
static void
write_span(uint8_t *buf, size_t size, traceparent_view_t *frame)
{
    otlp_span_t span;

    begin_span(&span, buf, size);
    otlp_span_string(&span, KEY("http.request.method"), TEXT("GET"));
    otlp_span_string(&span, KEY("url.path"), TEXT("/api/v1/items/123456"));
    otlp_span_string(&span, KEY("url.scheme"), TEXT("https"));
    otlp_span_string(&span, KEY("url.query"), TEXT("page=2&sort=name"));
    otlp_span_string(&span, KEY("server.address"), TEXT("shop.example.com"));
    otlp_span_int(&span, KEY("server.port"), 443);
    otlp_span_string(&span, KEY("http.route"), TEXT("/api/v1/items"));
    otlp_span_int(&span, KEY("http.response.status_code"), 200);
    otlp_span_string(&span, KEY("client.address"), TEXT("203.0.113.195"));
    otlp_span_string(&span, KEY("network.peer.address"), TEXT("10.20.30.40"));
    otlp_span_int(&span, KEY("network.peer.port"), 51234);
    otlp_span_string(&span, KEY("network.protocol.version"), TEXT("1.1"));
    otlp_span_string(&span, KEY("user_agent.original"),
        TEXT("Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 "
             "Firefox/128.0 (example)"));

    otlp_span_end(&span, start_time + 1000000, OTLP_STATUS_UNSET, frame);
}


static void
span_13(unsigned long n)
{
    static uint8_t buf[4096];

    traceparent_view_t frame;

    while (n-- != 0) {
        write_span(buf, sizeof(buf), &frame);
    }
}


/* Events of one span after the other, a thousand of each. */
static void
event_0(unsigned long n)
{
    otlp_span_t span;
    unsigned long i;
    static uint8_t buf[OTLP_SPAN_MAX];

    for (i = 0; i < n; i++) {
        if (i % 1000 == 0) {
            begin_span(&span, buf, sizeof(buf));
        }

        otlp_span_event(&span, start_time + i, KEY("first_byte"));
    }
}


static void
event_2(unsigned long n)
{
    otlp_span_t event, span;
    unsigned long i;
    static uint8_t buf[OTLP_SPAN_MAX];

    for (i = 0; i < n; i++) {
        if (i % 500 == 0) {
            begin_span(&span, buf, sizeof(buf));
        }

        otlp_span_event_begin(&event, &span, start_time + i, KEY("redirect"));
        otlp_span_string(&event, KEY("http.route"), TEXT("/api/v1/items"));
        otlp_span_string(&event, KEY("url.path"), TEXT("/api/v1/items/123456"));
        otlp_span_event_end(&span, &event);
    }
}


/* A queue of 16 MiB. */
static otlp_queue_t queue;


static void
make_queue(void)
{
    static uint64_t mem[2 * 1024 * 1024] __attribute__((aligned(64)));

    if (otlp_queue_create(&queue, mem, sizeof(mem)) != 0) {
        abort();
    }
}


/* A span of a usual length. Returns 0 if the queue is full. */
static int
put(const char *routing, size_t len)
{
    size_t room;
    uint8_t *span;

    span = otlp_queue_begin(&queue, (const uint8_t *) routing, len, 512, &room);
    if (span == NULL) {
        return 0;
    }

    otlp_queue_commit(&queue, span + 4, 450, 1);

    return 1;
}


static int
send_batch(void)
{
    otlp_queue_batch_t batch;
    static struct iovec iov[512];

    if (otlp_queue_take(&queue, &batch, 512, 4 * 1024 * 1024) != 0) {
        return 0;
    }

    otlp_queue_iov(&queue, &batch, iov);
    otlp_queue_release(&queue, &batch);

    return 1;
}


static void
queue_1(unsigned long n)
{
    unsigned long i;

    make_queue();

    for (i = 1; i <= n; i++) {
        if (!put("tenant-00000000", 15)) {
            abort();
        }

        if (i % 512 == 0) {
            send_batch();
        }
    }

    send_batch();
}


/* 10,000 routings wait all the time, each for a batch of its own. */
static void
queue_10000(unsigned long n)
{
    unsigned long i;
    static char names[10000][16];

    make_queue();

    for (i = 0; i < 10000; i++) {
        snprintf(names[i], sizeof(names[i]), "tenant-%08lu", i);
        put(names[i], 15);
    }

    for (i = 0; i < n; i++) {
        if (!send_batch() || !put(names[i % 10000], 15)) {
            abort();
        }
    }
}


static const bench_t benches[] = {
    {"span-13", "1200", "span of 13 attributes, written",
        "protobuf-c's pack takes 18,000", span_13},
    {"event-0", "50", "event of no attributes, written", "", event_0},
    {"event-2", "300", "event of 2 attributes, written", "", event_2},
    {"queue-1", "350", "record through queue, 512 a batch", "", queue_1},
    {"queue-10000", "450", "record of 10,000 routings, 1 a batch", "",
        queue_10000},
};


int
main(int argc, char **argv)
{
    size_t i;

    for (i = 0; i < sizeof(benches) / sizeof(benches[0]); i++) {
        if (argc == 2 && strcmp(argv[1], "--list") == 0) {
            printf("%s\t%s\t%s\t%s\n", benches[i].name, benches[i].budget,
                benches[i].label, benches[i].remark);

        } else if (argc == 3 && strcmp(argv[1], benches[i].name) == 0) {
            benches[i].run(strtoul(argv[2], NULL, 10));
            return 0;
        }
    }

    return argc == 2 && strcmp(argv[1], "--list") == 0 ? 0 : 2;
}
