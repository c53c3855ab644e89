/* The answer of a receiver, which may send anything. */

#include <string.h>

#include <traceparent/otlp/request.h>

#include "check.h"


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int rc;
    size_t i;
    otlp_response_t response, untouched;

    memset(&response, 0x55, sizeof(response));
    memset(&untouched, 0x55, sizeof(untouched));

    rc = otlp_response_decode(&response, data, size);

    if (rc != 0) {
        CHECK(rc == OTLP_ERR_RESPONSE);
        CHECK(memcmp(&response, &untouched, sizeof(response)) == 0);
        return 0;
    }

    CHECK(response.rejected_spans <= INT64_MAX);
    CHECK(response.message_len <= OTLP_RESPONSE_MESSAGE_MAX);

    for (i = 0; i < response.message_len; i++) {
        CHECK(response.message[i] >= ' ' && response.message[i] <= '~');
    }

    return 0;
}
