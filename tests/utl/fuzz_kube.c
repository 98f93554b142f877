/* The decoders for people on foreign bytes: Kubernetes' keys and objects, and entries of the log.
 */
#include "tools/utl/entry_text.h"
#include "tools/utl/kube.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_entry(struct slice bytes, enum raft_entry_type type)
{
    struct buf text;
    struct raft_entry entry = {.term = 1, .index = 1, .type = type};
    buf_init(&text, 1 << 20);
    entry.payload = bytes.len > 0 ? raft_payload_copy(bytes) : NULL;
    if (utl_entry_text(&entry, &text) == ST_OK && text.len == 0)
        abort();
    raft_payload_unref(entry.payload);
    buf_deinit(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena;
    struct kube_object object;
    struct kube_key key;
    struct slice bytes = slice_make(data, size);
    arena_init(&arena, 1 << 20);
    if (kube_object_read(bytes, &arena, &object) && object.form == KUBE_NONE)
        abort();
    if (kube_key_read(bytes, &key) && key.name.len == 0)
        abort();
    arena_deinit(&arena);
    try_entry(bytes, RAFT_ENTRY_NORMAL);
    try_entry(bytes, RAFT_ENTRY_CONF_CHANGE);
    return 0;
}
