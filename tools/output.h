/*
 * Standard output for a program that must still end when told to, although
 * nobody reads: waiting to write is also waiting for the signal to end.
 */

#ifndef OUTPUT_H
#define OUTPUT_H


#include <stdio.h>


/*
 * Returns a stream that writes to |fd|, or NULL. While |stop_fd| is readable
 * it gives up what cannot be written within a second. After an error it takes
 * no more, and output_error() is the error's number. There is one stream only.
 */
FILE *output_open(int fd, int stop_fd);

int output_error(void);


#endif
