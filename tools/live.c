#include <inttypes.h>
#include <string.h>

#include "draw.h"
#include "live.h"


/* Digits of a trace-id, at its beginning and at its end. */
#define ID_HEAD 8
#define ID_TAIL 4

/* What may be on the wire as the status of a response. */
#define HTTP_STATUS_MAX 999


typedef struct {
    const char *unicode;
    const char *ascii;
    const char *word;
} mark_t;

typedef struct {
    const live_t *live;
    const record_message_t *record;
    pending_span_t *span; /* NULL if it was not announced */
} event_t;


static const mark_t opens = {"\u25b6", ">", "open    "};
static const mark_t renames = {"=", "=", "rename  "};
static const mark_t sets = {"+", "+", "set     "};
static const mark_t returns = {"\u25c0", "<", "return  "};
static const mark_t closes = {"\u25a0", "#", "close   "};
static const mark_t loses = {"!", "!", ""};
static const mark_t logs = {"\u2022", "*", "log     "};

/* Attributes that are shown otherwise, or not worth it. */
static const char *const own_attributes[]
    = {"span.sequence", "span.pipeline", "span.request_id", NULL};


static const char *
string_of(const event_t *event, const char *name)
{
    return export_string(
        name, event->record->n_attributes, event->record->attributes);
}


static int64_t
number_of(const event_t *event, const char *name, int64_t max)
{
    return export_number(
        name, event->record->n_attributes, event->record->attributes, max);
}


/* Prints a string, of which there may be much. */
static void
print(const live_t *live, terminal_style_t style, const char *text)
{
    char cut[TRACE_TEXT_SIZE];

    trace_cut(cut, text);
    terminal_styled(live->terminal, style, cut);
}


/* Prints what is not empty behind a gap. */
static void
print_more(const live_t *live, terminal_style_t style, const char *text)
{
    if (text[0] != '\0') {
        fputs("  ", live->terminal->out);
        print(live, style, text);
    }
}


/* Begins a line: the trace, what happened, and the indentation of |depth|. */
static void
begin_line(const live_t *live, const ProtobufCBinaryData *trace_id,
    const mark_t *mark, unsigned depth)
{
    FILE *out = live->terminal->out;
    int unicode = live->terminal->unicode;

    terminal_style(live->terminal, TERMINAL_DIM);

    if (trace_id->len != 0) {
        terminal_id(live->terminal, trace_id->data, ID_HEAD / 2);
        fputs(unicode ? "\u2026" : "..", out);
        terminal_id(live->terminal,
            trace_id->data + trace_id->len - ID_TAIL / 2, ID_TAIL / 2);

    } else {
        fprintf(out, "%*s", ID_HEAD + ID_TAIL + (unicode ? 1 : 2), "");
    }

    fputs("  ", out);
    terminal_style(live->terminal, TERMINAL_PLAIN);
    terminal_styled(
        live->terminal, TERMINAL_MARK, unicode ? mark->unicode : mark->ascii);
    fprintf(out, " %s%*s", mark->word, 3 * (int) depth, "");
}


static void
end_line(const live_t *live)
{
    char cut[TRACE_TEXT_SIZE];

    if (live->value != NULL) {
        trace_cut(cut, live->value);
        terminal_header(live->terminal, live->header, cut);
    }

    putc('\n', live->terminal->out);
}


/* Begins an event's line with the name of its span, or its id. */
static void
begin_event(const event_t *event, const mark_t *mark)
{
    const live_t *live = event->live;
    const record_message_t *record = event->record;

    begin_line(live, &record->trace_id, mark,
        event->span != NULL ? event->span->depth : 0);

    if (event->span != NULL) {
        print(live, TERMINAL_BOLD, event->span->name);

    } else {
        fputs("span ", live->terminal->out);
        terminal_id(live->terminal, record->span_id.data, record->span_id.len);
    }
}


/* Ends a line about |span| with how long after its start it was. */
static void
end_after(const live_t *live, const pending_span_t *span, uint64_t time)
{
    char text[TERMINAL_TIME_SIZE];

    if (span != NULL && time >= span->span.start) {
        terminal_time(live->terminal, text, time - span->span.start);
        fputs("  after ", live->terminal->out);
        terminal_text(live->terminal, live->terminal->out, text);
    }

    end_line(live);
}


/* Prints what |span| ends with. */
static void
end_close(const live_t *live, pending_span_t *span, int error,
    const char *error_type, uint64_t time)
{
    if (error) {
        print_more(live, TERMINAL_BAD, "ERROR");
    }

    print_more(live, error ? TERMINAL_BAD : TERMINAL_WARN, error_type);
    end_after(live, span, time);
}


/* Reads an id of hex digits. Returns whether it is one. */
static int
read_id(uint8_t *id, const char *text)
{
    size_t i;
    unsigned byte;

    if (strlen(text) != 16 || strspn(text, "0123456789abcdef") != 16) {
        return 0;
    }

    for (i = 0; i < 8; i++) {
        sscanf(text + 2 * i, "%2x", &byte);
        id[i] = (uint8_t) byte;
    }

    return 1;
}


/* A span is below its parent, if that was announced, or else the request. */
static unsigned
depth_of(const event_t *event, const trace_span_t *span)
{
    uint8_t request_id[8];
    const pending_span_t *parent = NULL;

    if (span->has_parent) {
        parent = pending_find(event->live->pending,
            event->record->trace_id.data, span->parent_id);
    }

    if (parent != NULL) {
        return parent->depth + 1 < DRAW_DEPTH_MAX ? parent->depth + 1
                                                  : parent->depth;
    }

    return read_id(request_id, string_of(event, "span.request_id"))
           && memcmp(request_id, span->span_id, 8) != 0;
}


static int
take_open(event_t *event)
{
    const live_t *live = event->live;
    pending_span_t *span;
    const char *kind = string_of(event, "span.kind");

    /* a batch whose answer was lost comes again */
    if (event->span != NULL) {
        return 0;
    }

    span = pending_open(live->pending, event->record->trace_id.data,
        event->record->span_id.data);

    if (span == NULL) {
        return -1;
    }

    span->span.has_parent
        = read_id(span->span.parent_id, string_of(event, "span.parent_id"));
    span->span.kind = trace_kind(kind);
    span->span.start = event->record->time_unix_nano;
    span->depth = depth_of(event, &span->span);
    trace_cut(span->name, string_of(event, "span.name"));
    trace_cut(span->service, live->service);
    event->span = span;

    begin_event(event, &opens);
    print_more(live, TERMINAL_MARK, span->service);
    fputs("  (", live->terminal->out);
    print(live, TERMINAL_PLAIN, kind);
    fputs(", ", live->terminal->out);
    print(live, TERMINAL_PLAIN, string_of(event, "span.pipeline"));
    putc(')', live->terminal->out);
    end_line(live);

    return 0;
}


static int
take_rename(event_t *event)
{
    const char *name = string_of(event, "span.name");

    begin_event(event, &renames);
    fputs(event->live->terminal->unicode ? " \u2192 " : " -> ",
        event->live->terminal->out);
    print(event->live, TERMINAL_BOLD, name);
    end_line(event->live);

    if (event->span != NULL) {
        trace_cut(event->span->name, name);
    }

    return 0;
}


static int
take_attributes(event_t *event)
{
    char text[TRACE_TEXT_SIZE];

    trace_attributes(text, event->record->n_attributes,
        event->record->attributes, own_attributes);

    begin_event(event, &sets);
    print_more(event->live, TERMINAL_DIM, text);
    end_line(event->live);

    return 0;
}


static int
take_return(event_t *event)
{
    int status;
    char text[16];

    status
        = (int) number_of(event, "http.response.status_code", HTTP_STATUS_MAX);
    snprintf(text, sizeof(text), "%d", status);

    begin_event(event, &returns);
    print_more(event->live, status < 500 ? TERMINAL_GOOD : TERMINAL_BAD, text);
    end_after(event->live, event->span, event->record->time_unix_nano);

    if (event->span != NULL) {
        event->span->span.http_status = status;
    }

    return 0;
}


/* Of a span that is not open it was said before, or nobody knows it. */
static int
take_close(event_t *event)
{
    int error = strcmp(string_of(event, "span.status"), "ERROR") == 0;
    uint64_t end = event->record->time_unix_nano;

    if (event->span == NULL || !event->span->span.open) {
        return 0;
    }

    begin_event(event, &closes);
    end_close(
        event->live, event->span, error, string_of(event, "error.type"), end);
    event->span->span.status = error ? STATUS_ERROR : 0;
    pending_close(event->live->pending, event->span, end);

    return 0;
}


static int
take_dropped(event_t *event)
{
    int64_t n = number_of(event, "span.dropped_count", INT64_MAX);

    begin_line(event->live, &event->record->trace_id, &loses, 0);
    fprintf(event->live->terminal->out, "%" PRId64 " event%s lost", n,
        n == 1 ? "" : "s");
    end_line(event->live);

    return 0;
}


/* A record of somebody else. */
static int
take_log(event_t *event)
{
    char text[TRACE_TEXT_SIZE];
    const live_t *live = event->live;
    const record_message_t *record = event->record;

    begin_line(live, &record->trace_id, &logs,
        event->span != NULL ? event->span->depth : 0);
    print(live, TERMINAL_BOLD, record->event_name);

    if (record->body != NULL) {
        trace_value(text, record->body);
        fputs(record->event_name[0] != '\0' ? "  " : "", live->terminal->out);
        terminal_styled(live->terminal, TERMINAL_PLAIN, text);
    }

    trace_attributes(
        text, record->n_attributes, record->attributes, own_attributes);
    print_more(live, TERMINAL_DIM, text);
    end_line(live);

    return 0;
}


int
live_record(const live_t *live, const record_message_t *record)
{
    size_t i;
    event_t event = {live, record, NULL};

    static const struct {
        const char *name;
        int (*take)(event_t *event);
    } events[] = {
        {"span.open", take_open},
        {"span.update_name", take_rename},
        {"span.attributes", take_attributes},
        {"span.return", take_return},
        {"span.close", take_close},
        {"span.dropped", take_dropped},
    };

    if (record->trace_id.len == 0 || record->span_id.len == 0) {
        return take_log(&event);
    }

    event.span = pending_find(
        live->pending, record->trace_id.data, record->span_id.data);

    for (i = 0; i < sizeof(events) / sizeof(events[0]); i++) {
        if (strcmp(record->event_name, events[i].name) == 0) {
            return events[i].take(&event);
        }
    }

    return take_log(&event);
}


void
live_finished(const live_t *live, const span_message_t *message)
{
    pending_span_t *span;

    span = pending_find(
        live->pending, message->trace_id.data, message->span_id.data);

    if (span == NULL) {
        return;
    }

    if (span->span.open) {
        begin_line(live, &message->trace_id, &closes, span->depth);
        print(live, TERMINAL_BOLD, span->name);
        end_close(live, span,
            message->status != NULL && message->status->code == STATUS_ERROR,
            export_string(
                "error.type", message->n_attributes, message->attributes),
            message->end_time_unix_nano);
    }

    pending_remove(live->pending, span);
}
