/* What the fuzz targets of libFuzzer share. */

#ifndef CHECK_H
#define CHECK_H


#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>


/* Ends a target that has found a mistake; libFuzzer keeps the input. */
#define CHECK(condition)                                                       \
    do {                                                                       \
        if (!(condition)) {                                                    \
            abort();                                                           \
        }                                                                      \
    } while (0)


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


#endif
