#define _GNU_SOURCE /* stpcpy() */

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "draw.h"


/* A longer name moves the columns behind it, in this line only. */
#define NAME_COLUMNS    52
#define SERVICE_COLUMNS 24

#define KIND_COLUMNS 8

/* A time, and what may be in front of it. */
#define DURATION_SIZE (TERMINAL_TIME_SIZE + 16)

/* Several events share a line as long as it is no longer. */
#define LINE_COLUMNS 80


typedef struct node_s node_t;

struct node_s {
    const trace_span_t *span;
    node_t *parent;
    node_t *child;   /* the first, by start time */
    node_t *sibling; /* the next one */
    uint32_t bars;   /* bit i: a vertical line goes on at depth i */
    unsigned depth;
    int last;  /* of its siblings */
    int drawn; /* is in the order of lines */
};

typedef struct {
    const terminal_t *terminal;
    const trace_t *trace;
    node_t *nodes;  /* by start time */
    node_t **by_id; /* by span-id */
    node_t **lines; /* in the order of drawing */
    size_t n_nodes;
    size_t n_lines;
    uint64_t start; /* the earliest */
    uint64_t end;   /* the latest */
    int name_columns;
    int service_columns;
    int offset_columns;
    int duration_columns;
} drawing_t;

typedef struct {
    const char *branch;
    const char *last;
    const char *bar;
    const char *none;
    const char *link;
    const char *event;
    const char *peer;
} glyphs_t;


static const glyphs_t unicode_glyphs = {
    "\u251c\u2500 ",
    "\u2514\u2500 ",
    "\u2502  ",
    "   ",
    "\u21b3",
    "\u2022",
    " \u2192 ",
};

static const glyphs_t ascii_glyphs
    = {"|- ", "`- ", "|  ", "   ", "->", "*", " -> "};


static const glyphs_t *
glyphs(const drawing_t *drawing)
{
    return drawing->terminal->unicode ? &unicode_glyphs : &ascii_glyphs;
}


static int
compare_start(const void *a, const void *b)
{
    const node_t *left = a, *right = b;

    if (left->span->start != right->span->start) {
        return left->span->start < right->span->start ? -1 : 1;
    }

    /* an equal start is common; the longer one is more likely the outer one */
    if (left->span->end != right->span->end) {
        return left->span->end > right->span->end ? -1 : 1;
    }

    return memcmp(left->span->span_id, right->span->span_id, 8);
}


static int
compare_id(const void *a, const void *b)
{
    const node_t *const *left = a, *const *right = b;

    return memcmp((*left)->span->span_id, (*right)->span->span_id, 8);
}


static int
compare_key(const void *key, const void *element)
{
    const node_t *const *node = element;

    return memcmp(key, (*node)->span->span_id, 8);
}


/* The span with |id|, or NULL. */
static node_t *
find_node(const drawing_t *drawing, const uint8_t *id)
{
    node_t **found;

    found = bsearch(id, drawing->by_id, drawing->n_nodes,
        sizeof(*drawing->by_id), compare_key);

    return found != NULL ? *found : NULL;
}


static void
find_parents(drawing_t *drawing)
{
    size_t i, n = drawing->n_nodes;
    node_t *node, *parent;

    for (i = 0; i < n; i++) {
        drawing->by_id[i] = &drawing->nodes[i];
    }

    qsort(drawing->by_id, n, sizeof(*drawing->by_id), compare_id);

    /* from the last to the first: each becomes the first child of all so far */
    for (i = n; i-- > 0;) {
        node = &drawing->nodes[i];

        if (!node->span->has_parent) {
            continue;
        }

        parent = find_node(drawing, node->span->parent_id);

        if (parent != NULL) {
            node->parent = parent;
            node->sibling = parent->child;
            parent->child = node;
        }
    }
}


static node_t *
next_child(node_t *child)
{
    while (child != NULL && child->drawn) {
        child = child->sibling;
    }

    return child;
}


/* Gives |node| and what is below it their lines. */
static void
order_lines(
    drawing_t *drawing, node_t *node, unsigned depth, uint32_t bars, int last)
{
    node_t *child, *next;

    node->drawn = 1;
    node->depth = depth;
    node->bars = bars;
    node->last = last;
    drawing->lines[drawing->n_lines++] = node;

    if (depth + 1 == DRAW_DEPTH_MAX) {
        return;
    }

    bars |= last ? 0 : UINT32_C(1) << depth;

    for (child = next_child(node->child); child != NULL; child = next) {
        /* each has one parent, so the walk below |child| draws no sibling */
        next = next_child(child->sibling);
        order_lines(drawing, child, depth + 1, bars, next == NULL);
    }
}


static void
order_roots(drawing_t *drawing)
{
    size_t i;
    node_t *node, *last = NULL;

    for (i = 0; i < drawing->n_nodes; i++) {
        if (drawing->nodes[i].parent == NULL) {
            order_lines(drawing, &drawing->nodes[i], 0, 0, 0);
            last = &drawing->nodes[i];
        }
    }

    /* what is too deep, and rings of parents, also of a single span, begin
     * again at the left */
    for (i = 0; i < drawing->n_nodes; i++) {
        if (!drawing->nodes[i].drawn) {
            order_lines(drawing, &drawing->nodes[i], 0, 0, 0);
            last = &drawing->nodes[i];
        }
    }

    /* only now it is known which root has none after it */
    last->last = 1;

    for (i = drawing->n_lines; i-- > 0;) {
        node = drawing->lines[i];

        if (node == last) {
            break;
        }

        node->bars &= ~UINT32_C(1);
    }
}


/* How long after |start| it was. */
static void
format_offset(
    const drawing_t *drawing, char *text, uint64_t time, uint64_t start)
{
    if (time == start) {
        strcpy(text, "+0");
        return;
    }

    text[0] = time < start ? '-' : '+';
    terminal_time(drawing->terminal, text + 1,
        time < start ? start - time : time - start);
}


static void
format_duration(const drawing_t *drawing, char *text, const trace_span_t *span)
{
    if (span->end < span->start) {
        strcpy(text, span->end == 0 ? "no end" : "ends early");
        return;
    }

    if (span->open) {
        text = stpcpy(text, "open for ");
    }

    terminal_time(drawing->terminal, text, span->end - span->start);
}


static int
text_columns(const drawing_t *drawing, const char *text)
{
    return terminal_text(drawing->terminal, NULL, text);
}


static int
name_columns(const drawing_t *drawing, const node_t *node)
{
    int columns;
    const trace_span_t *span = node->span;

    columns = 3 * ((int) node->depth + 1) + text_columns(drawing, span->name);

    if (span->peer[0] != '\0') {
        columns += text_columns(drawing, glyphs(drawing)->peer)
                   + text_columns(drawing, span->peer);
    }

    return columns;
}


static void
widen(int *columns, int width, int limit)
{
    if (width > *columns && width <= limit) {
        *columns = width;
    }
}


static void
measure(drawing_t *drawing)
{
    size_t i;
    char text[DURATION_SIZE];
    const trace_span_t *span;

    drawing->start = drawing->nodes[0].span->start;

    for (i = 0; i < drawing->n_lines; i++) {
        span = drawing->lines[i]->span;
        drawing->end = span->end > drawing->end ? span->end : drawing->end;
        widen(&drawing->name_columns, name_columns(drawing, drawing->lines[i]),
            NAME_COLUMNS);
        widen(&drawing->service_columns, text_columns(drawing, span->service),
            SERVICE_COLUMNS);
        format_offset(drawing, text, span->start, drawing->start);
        widen(&drawing->offset_columns, text_columns(drawing, text),
            TERMINAL_TIME_SIZE);
        format_duration(drawing, text, span);
        widen(&drawing->duration_columns, text_columns(drawing, text),
            TERMINAL_TIME_SIZE);
    }
}


static void
pad(const drawing_t *drawing, int width, int columns)
{
    fprintf(drawing->terminal->out, "%*s",
        width < columns ? columns - width : 0, "");
}


static void
print_name(
    const drawing_t *drawing, terminal_style_t style, const trace_span_t *span)
{
    terminal_styled(drawing->terminal, style, span->name);

    if (span->peer[0] != '\0') {
        fputs(glyphs(drawing)->peer, drawing->terminal->out);
        terminal_text(drawing->terminal, drawing->terminal->out, span->peer);
    }
}


static void
print_bars(const drawing_t *drawing, const node_t *node)
{
    unsigned i;

    for (i = 0; i < node->depth; i++) {
        fputs(
            node->bars >> i & 1 ? glyphs(drawing)->bar : glyphs(drawing)->none,
            drawing->terminal->out);
    }
}


static void
print_status(const drawing_t *drawing, const trace_span_t *span)
{
    int error;
    char code[16] = "";
    FILE *out = drawing->terminal->out;
    terminal_style_t style;

    error = span->status == STATUS_ERROR;
    style = error ? TERMINAL_BAD : TERMINAL_GOOD;

    if (span->http_status != 0) {
        snprintf(code, sizeof(code), "%d", span->http_status);
        fputs("  ", out);
        terminal_styled(drawing->terminal, style, code);
    }

    if (error) {
        fputs("  ", out);
        terminal_styled(drawing->terminal, style, "ERROR");
    }

    if (span->error_type[0] != '\0' && strcmp(span->error_type, code) != 0) {
        fputs("  ", out);
        terminal_styled(
            drawing->terminal, error ? style : TERMINAL_WARN, span->error_type);
    }

    if (span->resend_count != 0) {
        fprintf(out, "  retry %d", span->resend_count);
    }

    if (span->cache_status[0] != '\0') {
        fputs("  cache ", out);
        terminal_text(drawing->terminal, out, span->cache_status);
    }

    if (span->message[0] != '\0') {
        fputs("  ", out);
        terminal_styled(drawing->terminal, TERMINAL_DIM, span->message);
    }
}


/* Where a span that is drawn like a root has its parent. */
static void
print_parent(const drawing_t *drawing, const node_t *node)
{
    FILE *out = drawing->terminal->out;

    if (node->depth > 0 || !node->span->has_parent) {
        return;
    }

    terminal_style(drawing->terminal, TERMINAL_DIM);
    fputs("  (parent ", out);
    terminal_id(drawing->terminal, node->span->parent_id, 8);
    fputs(node->parent == NULL ? " elsewhere)" : " in this trace)", out);
    terminal_style(drawing->terminal, TERMINAL_PLAIN);
}


static void
print_span(const drawing_t *drawing, const node_t *node)
{
    char offset[DURATION_SIZE], duration[DURATION_SIZE];
    FILE *out = drawing->terminal->out;
    const trace_span_t *span = node->span;

    format_offset(drawing, offset, span->start, drawing->start);
    format_duration(drawing, duration, span);

    terminal_style(drawing->terminal, TERMINAL_DIM);
    print_bars(drawing, node);
    fputs(node->last ? glyphs(drawing)->last : glyphs(drawing)->branch, out);
    terminal_style(drawing->terminal, TERMINAL_PLAIN);

    print_name(drawing, TERMINAL_BOLD, span);
    pad(drawing, name_columns(drawing, node), drawing->name_columns);
    fputs("  ", out);

    terminal_styled(drawing->terminal, TERMINAL_MARK, span->service);
    pad(drawing, text_columns(drawing, span->service),
        drawing->service_columns);

    terminal_style(drawing->terminal, TERMINAL_DIM);
    fprintf(out, "  %-*s  ", KIND_COLUMNS, trace_kind_name(span->kind));
    pad(drawing, text_columns(drawing, offset), drawing->offset_columns);
    fputs(offset, out);
    terminal_style(drawing->terminal, TERMINAL_PLAIN);

    fputs("  ", out);
    pad(drawing, text_columns(drawing, duration), drawing->duration_columns);
    terminal_styled(drawing->terminal,
        span->open ? TERMINAL_WARN : TERMINAL_PLAIN, duration);

    print_status(drawing, span);
    print_parent(drawing, node);
    putc('\n', out);
}


/* Begins a line of what belongs to |node|'s span. */
static void
begin_detail(const drawing_t *drawing, const node_t *node, const char *glyph)
{
    const node_t *child;
    FILE *out = drawing->terminal->out;

    terminal_style(drawing->terminal, TERMINAL_DIM);
    print_bars(drawing, node);
    fputs(node->last ? glyphs(drawing)->none : glyphs(drawing)->bar, out);

    /* the line to the children starts at the name */
    for (child = node->child; child != NULL; child = child->sibling) {
        if (child->depth == node->depth + 1) {
            break;
        }
    }

    fputs(child != NULL ? glyphs(drawing)->bar : glyphs(drawing)->none, out);
    terminal_style(drawing->terminal, TERMINAL_PLAIN);
    fprintf(out, "%s ", glyph);
}


/* Those without attributes share lines. */
static void
print_events(const drawing_t *drawing, const node_t *node)
{
    size_t i;
    int alone, column = LINE_COLUMNS, columns;
    char offset[DURATION_SIZE];
    FILE *out = drawing->terminal->out;
    const trace_span_t *span = node->span;
    const trace_event_t *event;

    for (i = 0; i < span->n_events; i++) {
        event = &span->events[i];
        alone = event->attributes[0] != '\0';
        format_offset(drawing, offset, event->time, span->start);
        columns = text_columns(drawing, offset) + 1
                  + text_columns(drawing, event->name);

        if (!alone && column + 2 + columns <= LINE_COLUMNS) {
            fputs("  ", out);
            column += 2 + columns;

        } else {
            fputs(i > 0 ? "\n" : "", out);
            begin_detail(drawing, node, glyphs(drawing)->event);
            column = 3 * ((int) node->depth + 2) + 2 + columns;
        }

        terminal_styled(drawing->terminal, TERMINAL_DIM, offset);
        putc(' ', out);
        terminal_text(drawing->terminal, out, event->name);

        if (alone) {
            fputs("  ", out);
            terminal_styled(drawing->terminal, TERMINAL_DIM, event->attributes);
            column = LINE_COLUMNS;
        }
    }

    fputs(span->n_events > 0 ? "\n" : "", out);

    if (span->more_events > 0) {
        begin_detail(drawing, node, glyphs(drawing)->event);
        fprintf(out, "%zu more event%s\n", span->more_events,
            span->more_events == 1 ? "" : "s");
    }
}


static void
print_links(const drawing_t *drawing, const node_t *node)
{
    size_t i;
    FILE *out = drawing->terminal->out;
    const node_t *linked;
    const trace_link_t *link;
    const trace_span_t *span = node->span;

    for (i = 0; i < span->n_links; i++) {
        link = &span->links[i];
        linked = NULL;
        begin_detail(drawing, node, glyphs(drawing)->link);
        fputs("link to ", out);

        if (memcmp(link->trace_id, drawing->trace->id, 16) != 0) {
            fputs("trace ", out);
            terminal_id(drawing->terminal, link->trace_id, 16);
            putc(' ', out);

        } else {
            linked = find_node(drawing, link->span_id);
        }

        fputs("span ", out);
        terminal_id(drawing->terminal, link->span_id, 8);

        if (linked != NULL) {
            fputs("  ", out);
            print_name(drawing, TERMINAL_PLAIN, linked->span);
        }

        putc('\n', out);
    }

    if (span->more_links > 0) {
        begin_detail(drawing, node, glyphs(drawing)->link);
        fprintf(out, "%zu more link%s\n", span->more_links,
            span->more_links == 1 ? "" : "s");
    }
}


static void
print_title(const drawing_t *drawing, const char *header)
{
    size_t i;
    char text[TERMINAL_TIME_SIZE];
    FILE *out = drawing->terminal->out;
    const trace_t *trace = drawing->trace;

    fputs("trace ", out);
    terminal_style(drawing->terminal, TERMINAL_BOLD);
    terminal_id(drawing->terminal, trace->id, 16);
    terminal_style(drawing->terminal, TERMINAL_PLAIN);
    fprintf(out, "%s  %zu span%s", trace->continued ? " (continued)" : "",
        drawing->n_nodes, drawing->n_nodes == 1 ? "" : "s");

    if (drawing->end >= drawing->start) {
        terminal_time(drawing->terminal, text, drawing->end - drawing->start);
        fprintf(out, " in %s", text);
    }

    if (trace->n_open > 0) {
        fprintf(out, ", %zu open", trace->n_open);
    }

    for (i = 0; i < TRACE_HEADER_MAX && trace->headers[i] != NULL; i++) {
        terminal_header(drawing->terminal, header, trace->headers[i]);
    }

    putc('\n', out);
}


/* Takes the spans of the trace, by start time. */
static void
take_spans(drawing_t *drawing)
{
    size_t n = 0;
    const trace_span_t *span;

    for (span = drawing->trace->first; span != NULL; span = span->next) {
        drawing->nodes[n++].span = span;
    }

    for (span = drawing->trace->pending; span != NULL; span = span->next) {
        drawing->nodes[n++].span = span;
    }

    qsort(drawing->nodes, n, sizeof(*drawing->nodes), compare_start);
}


int
draw_trace(const terminal_t *terminal, const trace_t *trace, const char *header)
{
    int rc = -1;
    size_t i, n = trace->n_spans + trace->n_pending;
    drawing_t drawing = {.terminal = terminal, .trace = trace, .n_nodes = n};

    drawing.nodes = calloc(n, sizeof(*drawing.nodes));
    drawing.by_id = calloc(n, sizeof(*drawing.by_id));
    drawing.lines = calloc(n, sizeof(*drawing.lines));

    if (drawing.nodes != NULL && drawing.by_id != NULL
        && drawing.lines != NULL) {
        take_spans(&drawing);
        find_parents(&drawing);
        order_roots(&drawing);
        measure(&drawing);
        print_title(&drawing, header);

        for (i = 0; i < drawing.n_lines; i++) {
            print_span(&drawing, drawing.lines[i]);
            print_events(&drawing, drawing.lines[i]);
            print_links(&drawing, drawing.lines[i]);
        }

        putc('\n', terminal->out);
        rc = 0;
    }

    free(drawing.nodes);
    free(drawing.by_id);
    free(drawing.lines);

    return rc;
}
