/*
 * From the body of a request to the messages in it. The bytes come from
 * anybody, so they are checked before protobuf-c sees them: its decoder
 * recurses as deep as they say, and does not look at UTF-8.
 */

#ifndef DECODE_H
#define DECODE_H


#include <stddef.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>


/* Messages within messages; more is refused, as by protobuf's own decoders. */
#define DECODE_DEPTH_MAX 100

/* What all messages of one request may take in memory, in bytes. */
#define DECODE_MEMORY_MAX (256 * 1024 * 1024)


/*
 * Decodes |len| bytes at |body| as a message of |type|. A NUL in a string is
 * made U+001A (SUBSTITUTE) in |body|, since the decoded strings end in NUL.
 *
 * Returns the message, to be freed with protobuf_c_message_free_unpacked(), or
 * NULL with |*why| a static sentence without a period.
 */
ProtobufCMessage *decode(const ProtobufCMessageDescriptor *type, uint8_t *body,
    size_t len, const char **why);


#endif
