/* The hub against the model, driven by a fuzzer: each byte is a choice. */
#include "tests/watch/world.h"

#include <stddef.h>

#define SCRIPT_BYTES_MAX 8192U

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size <= SCRIPT_BYTES_MAX)
        world_run(slice_make(data, size), "fuzzer", NULL);
    return 0;
}
