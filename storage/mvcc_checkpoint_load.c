/* Everything in the file is foreign: it may be of another store, cut short or damaged. */
#include "base/assert.h"
#include "base/bytes.h"
#include "base/hash.h"
#include "storage/mvcc_checkpoint.h"
#include "storage/mvcc_private.h"

struct loader {
    struct mvcc *mvcc;
    FILE *file;
    uint64_t hash;
    struct buf block;
    struct buf key; /* the last one read */
    int64_t revision, trim_started, trimmed;
    uint64_t first, count; /* history positions */
    uint64_t keys_count;
    struct revision *fetch; /* of keys whose life is to be read from the store */
    size_t fetch_count, fetch_capacity;
};

/* The next block's payload without its kind. */
static enum status next_block(struct loader *l, char *kind_out, struct slice *out)
{
    uint8_t length_bytes[4], hash_bytes[8], *room;
    if (fread(length_bytes, 1, sizeof(length_bytes), l->file) != sizeof(length_bytes))
        return ST_TRUNCATED;
    uint32_t length = get_le32(length_bytes);
    if (length == 0 || length > CHECKPOINT_BLOCK_BYTES_MAX)
        return ST_CORRUPT;
    buf_reset(&l->block);
    enum status st = buf_extend(&l->block, length, &room);
    if (st != ST_OK)
        return st;
    if (fread(room, 1, length, l->file) != length ||
        fread(hash_bytes, 1, sizeof(hash_bytes), l->file) != sizeof(hash_bytes))
        return ST_TRUNCATED;
    l->hash = hash64_seeded(slice_make(room, length), l->hash);
    if (l->hash != get_le64(hash_bytes))
        return ST_CORRUPT;
    *kind_out = (char)room[0];
    *out = slice_make(room + 1, length - 1U);
    return ST_OK;
}

static enum status load_header(struct loader *l)
{
    char kind;
    struct slice s;
    enum status st = next_block(l, &kind, &s);
    if (st != ST_OK)
        return st;
    if (kind != 'H' || s.len != CHECKPOINT_HEADER_BYTES - 1 ||
        memcmp(s.data, CHECKPOINT_MAGIC, CHECKPOINT_MAGIC_BYTES) != 0 ||
        get_le64(s.data + 8) != l->mvcc->life_id)
        return ST_INVALID;
    l->revision = (int64_t)get_le64(s.data + 16);
    l->trim_started = (int64_t)get_le64(s.data + 24);
    l->trimmed = (int64_t)get_le64(s.data + 32);
    l->first = get_le64(s.data + 40);
    l->count = get_le64(s.data + 48);
    if (l->revision < 1 || l->revision > INDEX_MAIN_MAX || l->first == 0 ||
        l->first > UINT64_MAX / 4 || l->count > UINT64_MAX / 4)
        return ST_CORRUPT;
    return ST_OK;
}

static enum status load_items(struct loader *l, struct slice s)
{
    struct history *history = index_history(l->mvcc->index);
    if (s.len % CHECKPOINT_ITEM_BYTES != 0)
        return ST_CORRUPT;
    for (; s.len > 0; s.data += CHECKPOINT_ITEM_BYTES, s.len -= CHECKPOINT_ITEM_BYTES) {
        struct history_item item = {.main_and_flags = get_le64(s.data),
                                    .sub = get_le32(s.data + 8),
                                    .age = get_le32(s.data + 12),
                                    .previous = get_le32(s.data + 16),
                                    .jump = get_le32(s.data + 20)};
        enum status st = index_history_reserve(history);
        if (st != ST_OK)
            return st;
        index_history_load_item(history, &item);
    }
    return ST_OK;
}

static enum status check_items(const struct loader *l)
{
    const struct history *history = index_history(l->mvcc->index);
    if (index_history_end(history) - l->first != l->count)
        return ST_CORRUPT;
    uint64_t position = l->first;
    while (position < index_history_end(history))
        position = index_history_next(history, position);
    return position == index_history_end(history) ? ST_OK : ST_CORRUPT;
}

static enum status take_number(struct slice *in, uint64_t most, uint64_t *out)
{
    if (take_varint(in, out) != ST_OK || *out > most)
        return ST_CORRUPT;
    return ST_OK;
}

static enum status take_key(struct loader *l, struct slice *in)
{
    uint64_t shared, rest;
    if (take_number(in, l->key.len, &shared) != ST_OK || take_varint(in, &rest) != ST_OK ||
        rest > in->len)
        return ST_CORRUPT;
    l->key.len = (size_t)shared;
    enum status st = buf_append(&l->key, slice_make(in->data, (size_t)rest));
    *in = slice_make(in->data + rest, in->len - (size_t)rest);
    return st;
}

static enum status take_record(struct loader *l, struct slice *in, uint8_t *flags_out,
                               struct index_record *out)
{
    uint64_t main, sub, previous = 0, create = 0, version = 0;
    enum status st = take_key(l, in);
    if (st != ST_OK)
        return st;
    if (in->len == 0)
        return ST_CORRUPT;
    uint8_t flags = in->data[0];
    *in = slice_make(in->data + 1, in->len - 1);
    st = take_number(in, (uint64_t)l->revision, &main);
    if (st == ST_OK)
        st = take_number(in, (uint64_t)INDEX_SUB_MAX, &sub);
    if (st == ST_OK && (flags & CHECKPOINT_HISTORY) != 0)
        st = take_number(in, l->first + l->count - 1, &previous);
    if (st == ST_OK && (flags & CHECKPOINT_LIFE) != 0) {
        st = take_number(in, main, &create);
        if (st == ST_OK)
            st = take_number(in, INT64_MAX, &version);
    }
    if (st != ST_OK)
        return st;
    *flags_out = flags;
    *out = (struct index_record){.key = buf_slice(&l->key),
                                 .newest = {(int64_t)main, (int64_t)sub},
                                 .tombstone = (flags & CHECKPOINT_TOMBSTONE) != 0,
                                 .previous = previous,
                                 .create_revision = (int64_t)create,
                                 .version = (int64_t)version};
    return ST_OK;
}

static enum status remember_fetch(struct loader *l, struct revision revision)
{
    if (l->fetch_count == l->fetch_capacity) {
        size_t capacity = l->fetch_capacity == 0 ? 64 : l->fetch_capacity * 2;
        struct revision *grown = realloc(l->fetch, capacity * sizeof(*grown));
        if (grown == NULL)
            return ST_NO_MEMORY;
        l->fetch = grown;
        l->fetch_capacity = capacity;
    }
    l->fetch[l->fetch_count++] = revision;
    return ST_OK;
}

static enum status load_keys(struct loader *l, struct slice s)
{
    buf_reset(&l->key);
    while (s.len > 0) {
        struct index_record record;
        uint8_t flags;
        enum status st = take_record(l, &s, &flags, &record);
        if (st == ST_OK)
            st = index_load(l->mvcc->index, &record);
        if (st == ST_OK && (flags & CHECKPOINT_FETCH) != 0)
            st = remember_fetch(l, record.newest);
        if (st != ST_OK)
            return st;
        l->keys_count++;
    }
    return ST_OK;
}

static enum status load_blocks(struct loader *l)
{
    index_history_start_at(index_history(l->mvcc->index), l->first);
    for (;;) {
        char kind;
        struct slice s;
        enum status st = next_block(l, &kind, &s);
        if (st != ST_OK)
            return st;
        if (kind == 'E')
            return s.len == 8 && get_le64(s.data) == l->keys_count ? check_items(l) : ST_CORRUPT;
        if (kind == 'I')
            st = load_items(l, s);
        else if (kind == 'K')
            st = load_keys(l, s);
        else
            st = ST_CORRUPT;
        if (st != ST_OK)
            return st;
    }
}

/* Reads the records of keys that were changed while the file was written. */
static enum status fetch_lives(struct loader *l)
{
    struct mvcc *mvcc = l->mvcc;
    lock_acquire(mvcc->lock);
    struct store_view *view = store_view_acquire(mvcc->store, mvcc_apply_slot(mvcc));
    lock_release(mvcc->lock);
    enum status st = ST_OK;
    for (size_t i = 0; i < l->fetch_count && st == ST_OK; i++) {
        struct slice record;
        struct mvcc_kv kv;
        st = mvcc_fetch(view, l->fetch[i], &record);
        if (st == ST_OK)
            st = mvcc_kv_decode(record, &kv);
        if (st == ST_OK)
            st = index_set_life(mvcc->index, kv.key, kv.create_revision, kv.version);
    }
    store_view_release(view);
    return st;
}

static enum status stop_at_first(void *context, struct revision revision, bool tombstone,
                                 struct slice record)
{
    (void)context;
    (void)revision;
    (void)tombstone;
    (void)record;
    return ST_EXISTS;
}

/* Whether the file is of this store's past, and not of one it has lost or deleted from since. */
static enum status check_fit(const struct loader *l, int64_t compact)
{
    struct mvcc *mvcc = l->mvcc;
    if (l->trim_started > mvcc->finished_revision || compact > l->revision)
        return ST_INVALID;
    if (compact == l->revision)
        return ST_OK;
    enum status st = mvcc_walk(mvcc, mvcc_apply_slot(mvcc), (struct revision){l->revision, 0},
                               stop_at_first, NULL);
    return st == ST_EXISTS ? ST_OK : ST_INVALID;
}

enum status mvcc_checkpoint_load(struct mvcc *mvcc, int64_t compact, int64_t *revision_out)
{
    struct loader l = {.mvcc = mvcc};
    l.file = fopen(mvcc->checkpoint_path, "rbe");
    if (l.file == NULL)
        return ST_NOT_FOUND;
    buf_init(&l.block, CHECKPOINT_BLOCK_BYTES_MAX);
    buf_init(&l.key, CHECKPOINT_BLOCK_BYTES_MAX);
    enum status st = load_header(&l);
    if (st == ST_OK)
        st = check_fit(&l, compact);
    if (st == ST_OK)
        st = load_blocks(&l);
    if (st == ST_OK)
        st = fetch_lives(&l);
    if (st == ST_OK)
        st = index_load_tombstones(mvcc->index, l.trimmed);
    (void)fclose(l.file);
    buf_deinit(&l.block);
    buf_deinit(&l.key);
    free(l.fetch);
    *revision_out = l.revision;
    return st;
}
