#include "storage/index_private.h"

#include "base/assert.h"

struct check {
    const struct index *index;
    struct buf *report;
    const uint8_t *last; /* record before, in key order */
    uint64_t keys, chained;
    uint64_t deleted;
    bool failed;
};

static void fault(struct check *c, const char *what, struct slice key)
{
    c->failed = true;
    /* A report that is full says enough. */
    (void)!buf_printf(c->report, "index: %s at key '%.*s'\n", what, (int)key.len,
                      key.len > 0 ? (const char *)key.data : "");
}

/* The whole chain of a key: revisions fall, positions fall. */
static void check_chain(struct check *c, const struct index_record *record)
{
    struct revision above = record->newest;
    uint64_t position = record->previous;
    struct history_entry entry;
    while (index_history_get(&c->index->history, position, &entry)) {
        c->chained++;
        if (revision_cmp(entry.revision, above) >= 0)
            fault(c, "revisions out of order", record->key);
        if (entry.superseded_by != above.main)
            fault(c, "wrong superseding revision", record->key);
        if (entry.previous >= position)
            fault(c, "link leads forward", record->key);
        if (index_history_find(&c->index->history, record->previous, entry.revision.main) == 0)
            fault(c, "revision cannot be found", record->key);
        above = entry.revision;
        position = entry.previous;
    }
}

static void check_record(struct check *c, const uint8_t *packed)
{
    struct index_record record;
    index_record_unpack(packed, &record);
    if (c->last != NULL && slice_cmp(index_record_key(c->last), record.key) >= 0)
        fault(c, "keys out of order", record.key);
    if (!record.tombstone && (record.version < 1 || record.create_revision > record.newest.main))
        fault(c, "impossible life", record.key);
    c->last = packed;
    c->keys++;
    c->deleted += record.tombstone;
    check_chain(c, &record);
}

static uint64_t check_node(struct check *c, const struct index_node *node, struct slice low,
                           const struct slice *high)
{
    uint64_t live = 0;
    if (node->count > NODE_KEYS)
        fault(c, "node over its size", low);
    for (uint32_t i = 0; i < node->count; i++) {
        struct slice key = index_record_key(node->keys[i]);
        if (i >= node_low(node)) {
            if (node->slices[i] != tree_slice(key, node->prefix_bytes))
                fault(c, "wrong slice", key);
            if (key.len < node->prefix_bytes)
                fault(c, "key shorter than its node's prefix", key);
        }
        if (slice_cmp(key, low) < 0 || (high != NULL && slice_cmp(key, *high) >= 0))
            fault(c, "key outside its node", key);
        if (node->leaf) {
            check_record(c, node->keys[i]);
            live += index_record_is_live(node->keys[i]);
            continue;
        }
        struct slice next = SLICE_EMPTY;
        bool last = i + 1U == node->count;
        if (!last)
            next = index_record_key(node->keys[i + 1]);
        uint64_t below = check_node(c, inner_of(node)->children[i], key, last ? high : &next);
        if (below != inner_of(node)->live[i])
            fault(c, "wrong count of live keys below", key);
        live += below;
    }
    return live;
}

static void check_tombstones(struct check *c)
{
    const struct history *history = &c->index->history;
    uint64_t with_record = 0;
    struct revision above = {-1, 0};
    for (size_t i = 0; i < index_history_tombstones_count(history); i++) {
        const struct history_tombstone *t = index_history_tombstone_at(history, i);
        struct revision revision = {(int64_t)t->main, t->sub};
        if (revision_cmp(revision, above) <= 0)
            fault(c, "tombstones out of order", SLICE_EMPTY);
        above = revision;
        if (t->record == NULL)
            continue;
        with_record++;
        struct index_record record;
        index_record_unpack(t->record, &record);
        if (!record.tombstone || revision_cmp(record.newest, revision) != 0)
            fault(c, "tombstone of another revision", record.key);
    }
    if (with_record != c->deleted)
        fault(c, "deleted keys and tombstones differ in number", SLICE_EMPTY);
}

static uint64_t items_in_history(const struct history *history)
{
    uint64_t count = 0;
    for (uint64_t p = index_history_first(history); p < index_history_end(history);
         p = index_history_next(history, p))
        count++;
    return count;
}

enum status index_check(const struct index *index, struct buf *report)
{
    struct check c = {.index = index, .report = report};
    uint64_t live = check_node(&c, index->root, SLICE_EMPTY, NULL);
    if (live != index->live_count)
        fault(&c, "wrong count of live keys", SLICE_EMPTY);
    if (c.keys != index->keys_count)
        fault(&c, "wrong count of keys", SLICE_EMPTY);
    if (c.chained > items_in_history(&index->history))
        fault(&c, "more revisions in chains than in the history", SLICE_EMPTY);
    check_tombstones(&c);
    return c.failed ? ST_CORRUPT : ST_OK;
}
