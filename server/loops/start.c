#include "server/loops/start.h"

#include "base/minmax.h"
#include "server/state/conf_state.h"

#include <stdlib.h>

#define READ_BATCH_ENTRIES 1024U
#define READ_BATCH_BYTES (8U << 20)

static enum status make_room(struct loops_start *start)
{
    if (start->capacity - start->count >= READ_BATCH_ENTRIES)
        return ST_OK;
    uint32_t capacity = start->capacity * 2 + READ_BATCH_ENTRIES;
    struct raft_entry *grown = realloc(start->entries, capacity * sizeof(*grown));
    if (grown == NULL)
        return ST_NO_MEMORY;
    start->entries = grown;
    start->capacity = capacity;
    return ST_OK;
}

static enum status read_entries(struct loops_start *start, struct wal *wal, raft_index first,
                                raft_index last)
{
    while (first <= last) {
        uint32_t got = 0;
        enum status st = make_room(start);
        if (st == ST_OK)
            st = wal_read(wal, first, min_u64(last, first + READ_BATCH_ENTRIES - 1),
                          READ_BATCH_BYTES, start->entries + start->count, &got);
        if (st != ST_OK)
            return st;
        start->count += got;
        first += got;
    }
    return ST_OK;
}

enum status loops_start_init(struct loops_start *start, struct wal *wal,
                             const struct wal_recovered *recovered, const struct store_mark *mark,
                             uint32_t window_entries_max)
{
    *start = (struct loops_start){
        .start = {.hard_state = recovered->hard_state, .applied = mark->index}};
    struct raft_start *out = &start->start;
    enum status st = conf_state_decode(mark->conf_state, &out->conf_state);
    raft_index floor = mark->index > window_entries_max ? mark->index - window_entries_max : 1;
    raft_index first = max_u64(recovered->first_index, floor);
    if (st == ST_OK)
        st = read_entries(start, wal, first, recovered->last_index);
    out->entries = start->entries;
    out->entries_count = start->count;
    if (first == recovered->snapshot.last.index + 1) {
        out->before_first = recovered->snapshot.last;
    } else if (first > 1 && start->count > 0) { /* the first one only says what the others follow */
        out->before_first = (struct raft_log_id){start->entries[0].index, start->entries[0].term};
        out->entries++;
        out->entries_count--;
    }
    return st;
}

void loops_start_deinit(struct loops_start *start)
{
    for (uint32_t i = 0; i < start->count; i++)
        raft_payload_unref(start->entries[i].payload);
    free(start->entries);
}
