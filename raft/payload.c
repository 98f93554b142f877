/* raft/payload.c - the bytes of an entry: immutable once shared, counted, freed with the last
 * reference. The threads that share one (consensus, the log's disk, apply) drop theirs in any
 * order. */
#include "raft/types.h"

#include "base/assert.h"

#include <stdlib.h>

struct raft_payload *raft_payload_new(size_t len)
{
    if (len > UINT32_MAX)
        return NULL;
    struct raft_payload *payload = malloc(sizeof(*payload) + len);
    if (payload == NULL)
        return NULL;
    atomic_init(&payload->references, 1);
    payload->len = (uint32_t)len;
    return payload;
}

struct raft_payload *raft_payload_copy(struct slice data)
{
    struct raft_payload *payload = raft_payload_new(data.len);
    if (payload != NULL && data.len > 0)
        memcpy(payload->data, data.data, data.len);
    return payload;
}

struct raft_payload *raft_payload_ref(struct raft_payload *payload)
{
    if (payload == NULL)
        return NULL;
    /* Relaxed: whoever adds a reference holds one, so the object cannot go meanwhile. */
    unsigned before = atomic_fetch_add_explicit(&payload->references, 1, memory_order_relaxed);
    ASSERT(before > 0 && before < UINT32_MAX);
    return payload;
}

void raft_payload_unref(struct raft_payload *payload)
{
    if (payload == NULL)
        return;
    /* Release: our reads of the bytes happen before the free. Acquire: the others' do too. */
    unsigned before = atomic_fetch_sub_explicit(&payload->references, 1, memory_order_acq_rel);
    ASSERT(before > 0);
    if (before == 1)
        free(payload);
}
