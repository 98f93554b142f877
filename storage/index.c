#include "storage/index.h"

#include "base/assert.h"
#include "storage/index_private.h"

enum status index_new(struct index **out)
{
    *out = NULL;
    struct index *index = calloc(1, sizeof(*index));
    if (index == NULL)
        return ST_NO_MEMORY;
    index_history_init(&index->history);
    index->root = tree_new_leaf(index);
    if (index->root == NULL) {
        free(index);
        return ST_NO_MEMORY;
    }
    *out = index;
    return ST_OK;
}

void index_free(struct index *index)
{
    if (index == NULL)
        return;
    tree_free(index->root);
    index_history_deinit(&index->history);
    free(index);
}

static const uint8_t *packed_at(const struct index_path *path)
{
    const struct index_node *leaf = path->nodes[path->depth - 1];
    uint32_t slot = path->slots[path->depth - 1];
    ASSERT(slot < leaf->count);
    return leaf->keys[slot];
}

bool index_get(const struct index *index, struct slice key, struct index_record *out)
{
    struct index_path path;
    if (!tree_descend(index, key, &path))
        return false;
    index_record_unpack(packed_at(&path), out);
    return true;
}

bool index_revision_at(const struct index *index, const struct index_record *record, int64_t at,
                       struct revision *out)
{
    if (record->newest.main <= at) {
        *out = record->newest;
        return !record->tombstone;
    }
    struct history_entry entry;
    if (!index_history_get(&index->history,
                           index_history_find(&index->history, record->previous, at), &entry))
        return false;
    *out = entry.revision;
    return !entry.tombstone;
}

bool index_find(const struct index *index, struct slice key, int64_t at, struct revision *out)
{
    struct index_record record;
    return index_get(index, key, &record) && index_revision_at(index, &record, at, out);
}

/* Moves a path that may stand behind its leaf's last slot to the next slot there is. */
static bool settle(struct index_path *path)
{
    uint32_t level = path->depth - 1;
    while (path->slots[level] >= path->nodes[level]->count) {
        if (level == 0)
            return false;
        level--;
        path->slots[level]++;
    }
    for (; level + 1 < path->depth; level++) {
        path->nodes[level + 1] = inner_of(path->nodes[level])->children[path->slots[level]];
        path->slots[level + 1] = 0;
    }
    return true;
}

/* A leaf can be empty when its neighbours were too full to join it. */
static bool settle_on_record(struct index_path *path)
{
    do {
        if (!settle(path))
            return false;
    } while (path->nodes[path->depth - 1]->count == 0);
    return true;
}

bool index_seek(const struct index *index, struct slice key, struct index_path *path)
{
    (void)tree_descend(index, key, path);
    return settle_on_record(path);
}

bool index_next(struct index_path *path)
{
    path->slots[path->depth - 1]++;
    return settle_on_record(path);
}

void index_at(const struct index_path *path, struct index_record *out)
{
    index_record_unpack(packed_at(path), out);
}

/* Live keys before key. */
static uint64_t count_before(const struct index *index, struct slice key)
{
    struct index_path path;
    uint64_t count = 0;
    (void)tree_descend(index, key, &path);
    for (uint32_t level = 0; level + 1 < path.depth; level++)
        for (uint32_t i = 0; i < path.slots[level]; i++)
            count += inner_of(path.nodes[level])->live[i];
    for (uint32_t i = 0; i < path.slots[path.depth - 1]; i++)
        count += index_record_is_live(path.nodes[path.depth - 1]->keys[i]);
    return count;
}

uint64_t index_count(const struct index *index, struct slice from, bool has_to, struct slice to)
{
    if (has_to && slice_cmp(from, to) >= 0)
        return 0;
    uint64_t end = has_to ? count_before(index, to) : index->live_count;
    return end - count_before(index, from);
}

enum status index_prepare(struct index *index, struct slice key, struct revision revision,
                          int64_t create_revision, int64_t version, struct index_change *out)
{
    ASSERT(version >= 0);
    if (key.len > UINT32_MAX || revision.main < 0 || revision.main > INDEX_MAIN_MAX ||
        revision.sub < 0 || revision.sub > INDEX_SUB_MAX)
        return ST_CORRUPT;
    enum status st = index_history_reserve(&index->history);
    if (st != ST_OK)
        return st;
    st = tree_descend_for_insert(index, key, &out->path, &out->known);
    if (st != ST_OK)
        return st;
    out->was_live = false;
    out->after = (struct index_record){.key = key,
                                       .newest = revision,
                                       .tombstone = version == 0,
                                       .create_revision = create_revision,
                                       .version = version};
    if (out->known) {
        index_record_unpack(packed_at(&out->path), &out->before);
        if (revision_cmp(revision, out->before.newest) <= 0)
            return ST_CORRUPT;
        out->was_live = !out->before.tombstone;
        out->after.previous = index_history_end(&index->history);
    }
    out->packed = malloc(index_record_size(&out->after));
    if (out->packed == NULL)
        return ST_NO_MEMORY;
    index_record_pack(&out->after, out->packed);
    return ST_OK;
}

static void supersede(struct index *index, const struct index_change *change)
{
    const struct index_record *before = &change->before;
    struct history_entry entry = {.revision = before->newest,
                                  .tombstone = before->tombstone,
                                  .superseded_by = change->after.newest.main,
                                  .previous = before->previous};
    uint64_t position = index_history_append(&index->history, &entry);
    ASSERT(position == change->after.previous);
    if (before->tombstone)
        index_history_forget_record(&index->history, before->newest);
}

void index_commit(struct index *index, struct index_change *change)
{
    bool live = !change->after.tombstone;
    if (change->known) {
        supersede(index, change);
        index->bytes -= heap_bytes(index_record_size(&change->before));
        uint8_t *old = (uint8_t *)(uintptr_t)packed_at(&change->path);
        tree_replace(&change->path, change->packed);
        free(old);
    } else {
        tree_insert(index, &change->path, change->packed);
    }
    index->bytes += heap_bytes(index_record_size(&change->after));
    if (live != change->was_live)
        tree_count_live(index, &change->path, live ? 1 : -1);
    if (!live)
        index_history_add_tombstone(&index->history, change->after.newest, change->packed);
    change->packed = NULL;
}

void index_abandon(struct index_change *change)
{
    free(change->packed);
    change->packed = NULL;
}

/* Superseded tombstones are left to the tombstones' own queue, which deletes every one below `at`;
 * only one exactly at it is dealt with here. */
static size_t peek_superseded(const struct history *history, int64_t at, size_t max,
                              struct index_dead *dead, struct index_trim *out)
{
    size_t taken = 0;
    struct history_entry entry;
    while (taken < max && out->position < index_history_end(history) &&
           index_history_get(history, out->position, &entry) && entry.superseded_by <= at) {
        if (!entry.tombstone || entry.revision.main >= at)
            dead[out->dead_count++] = (struct index_dead){entry.revision, entry.tombstone};
        out->position = index_history_next(history, out->position);
        taken++;
    }
    return taken;
}

void index_trim_peek(const struct index *index, int64_t at, size_t max, struct index_dead *dead,
                     struct index_trim *out)
{
    const struct history *history = &index->history;
    *out = (struct index_trim){.position = index_history_first(history)};
    size_t taken = peek_superseded(history, at, max, dead, out);
    size_t tombstones = index_history_tombstones_count(history);
    for (; taken < max && out->tombstones < tombstones; taken++) {
        const struct history_tombstone *t = index_history_tombstone_at(history, out->tombstones);
        if ((int64_t)t->main >= at)
            break;
        dead[out->dead_count++] =
            (struct index_dead){{(int64_t)t->main, t->sub}, /* tombstone= */ true};
        out->tombstones++;
    }
}

bool index_trim_is_empty(const struct index *index, const struct index_trim *trim)
{
    return trim->position == index_history_first(&index->history) && trim->tombstones == 0;
}

static void remove_key(struct index *index, const uint8_t *packed)
{
    struct index_path path;
    bool found = tree_descend(index, index_record_key(packed), &path);
    ASSERT(found);
    ASSERT(packed_at(&path) == packed);
    struct index_record record;
    index_record_unpack(packed, &record);
    index->bytes -= heap_bytes(index_record_size(&record));
    free(tree_remove(index, &path));
}

void index_trim_take(struct index *index, const struct index_trim *trim)
{
    index_history_drop_to(&index->history, trim->position);
    for (size_t i = 0; i < trim->tombstones; i++) {
        const struct history_tombstone *t = index_history_tombstone_at(&index->history, i);
        if (t->record != NULL)
            remove_key(index, t->record);
    }
    index_history_drop_tombstones(&index->history, trim->tombstones);
}

struct history *index_history(struct index *index)
{
    return &index->history;
}

enum status index_load(struct index *index, const struct index_record *record)
{
    struct index_path path;
    bool found;
    enum status st = tree_descend_for_insert(index, record->key, &path, &found);
    if (st != ST_OK)
        return st;
    if (found)
        return ST_CORRUPT;
    size_t size = index_record_size(record);
    uint8_t *packed = malloc(size);
    if (packed == NULL)
        return ST_NO_MEMORY;
    index_record_pack(record, packed);
    tree_insert(index, &path, packed);
    index->bytes += heap_bytes(size);
    if (!record->tombstone)
        tree_count_live(index, &path, 1);
    return ST_OK;
}

static int compare_tombstones(const void *a, const void *b)
{
    const struct history_tombstone *x = a, *y = b;
    return revision_cmp((struct revision){(int64_t)x->main, x->sub},
                        (struct revision){(int64_t)y->main, y->sub});
}

/* Tombstones still in the history from trimmed on, and deleted keys. *found may have room for
 * none: then they are only counted. */
static size_t collect_tombstones(const struct index *index, int64_t trimmed,
                                 struct history_tombstone *found)
{
    size_t count = 0;
    const struct history *history = &index->history;
    struct history_entry entry;
    for (uint64_t p = index_history_first(history); p < index_history_end(history);
         p = index_history_next(history, p)) {
        if (!index_history_get(history, p, &entry) || !entry.tombstone ||
            entry.revision.main < trimmed)
            continue;
        if (found != NULL)
            found[count] = (struct history_tombstone){.main = (uint64_t)entry.revision.main,
                                                      .sub = (uint32_t)entry.revision.sub};
        count++;
    }
    struct index_path path;
    for (bool more = index_seek(index, SLICE_EMPTY, &path); more; more = index_next(&path)) {
        struct index_record record;
        index_at(&path, &record);
        if (!record.tombstone)
            continue;
        if (found != NULL)
            found[count] = (struct history_tombstone){
                .main = (uint64_t)record.newest.main,
                .sub = (uint32_t)record.newest.sub,
                .record = path.nodes[path.depth - 1]->keys[path.slots[path.depth - 1]]};
        count++;
    }
    return count;
}

enum status index_load_tombstones(struct index *index, int64_t trimmed)
{
    ASSERT(index_history_tombstones_count(&index->history) == 0);
    size_t count = collect_tombstones(index, trimmed, NULL);
    if (count == 0)
        return ST_OK;
    struct history_tombstone *found = calloc(count, sizeof(*found));
    if (found == NULL)
        return ST_NO_MEMORY;
    (void)collect_tombstones(index, trimmed, found);
    qsort(found, count, sizeof(*found), compare_tombstones);
    enum status st = ST_OK;
    for (size_t i = 0; i < count && st == ST_OK; i++) {
        st = index_history_reserve(&index->history);
        if (st == ST_OK)
            index_history_add_tombstone(&index->history,
                                        (struct revision){(int64_t)found[i].main, found[i].sub},
                                        found[i].record);
    }
    free(found);
    return st;
}

enum status index_set_life(struct index *index, struct slice key, int64_t create_revision,
                           int64_t version)
{
    struct index_path path;
    if (!tree_descend(index, key, &path))
        return ST_NOT_FOUND;
    uint8_t *old = (uint8_t *)(uintptr_t)packed_at(&path);
    struct index_record record;
    index_record_unpack(old, &record);
    if (record.tombstone || version < 1 || create_revision < 1 ||
        create_revision > record.newest.main)
        return ST_CORRUPT;
    uint64_t bytes_before = heap_bytes(index_record_size(&record));
    record.create_revision = create_revision;
    record.version = version;
    size_t size = index_record_size(&record);
    uint8_t *packed = malloc(size);
    if (packed == NULL)
        return ST_NO_MEMORY;
    index_record_pack(&record, packed);
    tree_replace(&path, packed);
    index->bytes += heap_bytes(size) - bytes_before;
    free(old);
    return ST_OK;
}

void index_get_stat(const struct index *index, struct index_stat *out)
{
    const struct history *history = &index->history;
    out->keys_count = index->keys_count;
    out->live_count = index->live_count;
    out->superseded_count = index_history_end(history) - index_history_first(history);
    out->tombstones_count = index_history_tombstones_count(history);
    out->bytes = index->bytes + index_history_bytes(history);
}
