#include "server/run/log_entries.h"

#include "base/minmax.h"
#include "wal/wal.h"

#include <stdlib.h>

#define READ_BATCH_ENTRIES 1024U
#define READ_BATCH_BYTES (8U << 20)

void log_entries_free(struct log_entries *entries)
{
    for (uint32_t i = 0; i < entries->count; i++)
        raft_payload_unref(entries->items[i].payload);
    free(entries->items);
    *entries = (struct log_entries){0};
}

static enum status make_room(struct log_entries *entries)
{
    if (entries->capacity - entries->count >= READ_BATCH_ENTRIES)
        return ST_OK;
    uint32_t capacity = entries->capacity * 2 + READ_BATCH_ENTRIES;
    struct raft_entry *grown = realloc(entries->items, capacity * sizeof(*grown));
    if (grown == NULL)
        return ST_NO_MEMORY;
    entries->items = grown;
    entries->capacity = capacity;
    return ST_OK;
}

enum status log_entries_read(struct wal *wal, raft_index first, raft_index last,
                             struct log_entries *out)
{
    *out = (struct log_entries){0};
    while (first <= last) {
        uint32_t got = 0;
        raft_index end = min_u64(last, first + READ_BATCH_ENTRIES - 1);
        enum status st = make_room(out);
        if (st == ST_OK)
            st = wal_read(wal, first, end, READ_BATCH_BYTES, out->items + out->count, &got);
        if (st != ST_OK)
            return st;
        out->count += got;
        first += got;
    }
    return ST_OK;
}
