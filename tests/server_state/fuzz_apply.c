/* Entries of any content, applied one after another to a machine over an empty store: a member that
 * meets one it cannot apply must say so and stop, never crash. The input is a list of entries, each
 * headed by its length in two bytes, big-endian. */
#include "base/assert.h"
#include "tests/server_state/harness.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum status apply(struct harness *harness, struct slice data)
{
    const struct raft_entry entry = {
        .term = 2, .index = ++harness->index, .payload = raft_payload_copy(data)};
    struct machine_result result;
    enum status st = machine_apply(harness->machine, &entry, &harness->arena, &result);
    raft_payload_unref(entry.payload);
    ASSERT(st != ST_OK || result.error < API_ERRORS_COUNT);
    ASSERT(st == ST_OK || machine_problem(harness->machine)[0] != '\0');
    return st;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct harness harness;
    harness_init(&harness);
    enum status st = ST_OK;
    while (size >= 2 && st == ST_OK) {
        size_t len = (size_t)data[0] << 8 | data[1];
        data += 2;
        size -= 2;
        if (len > size)
            len = size;
        st = apply(&harness, slice_make(data, len));
        data += len;
        size -= len;
    }
    harness_deinit(&harness);
    return 0;
}
