/*
 * Log records as they come, a line each: above all the events of spans, which
 * are kept in mind until they come themselves.
 */

#ifndef LIVE_H
#define LIVE_H


#include "export.h"
#include "pending.h"
#include "terminal.h"


/* What is the same for all records of a group. */
typedef struct {
    const terminal_t *terminal;
    pending_t *pending;
    const char *service;
    const char *header; /* the name of --header */
    const char *value;  /* of this header, or NULL */
} live_t;


/* Prints |record|'s line, and opens or closes its span. Returns 0, or -1 if
 * memory is short. */
int live_record(const live_t *live, const record_message_t *record);

/* Here is the finished span: if it is still open that is closed. */
void live_finished(const live_t *live, const span_message_t *message);


#endif
