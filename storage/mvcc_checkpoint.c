#include "storage/mvcc_checkpoint.h"

#include "base/assert.h"
#include "base/bytes.h"
#include "base/hash.h"
#include "base/minmax.h"
#include "storage/mvcc_private.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define PATH_BYTES_MAX 4096U

struct writer {
    struct mvcc *mvcc;
    int fd;
    uint64_t hash;       /* of the block before */
    struct buf block;    /* length, payload */
    struct buf last_key; /* of the block being filled */
    int64_t revision, trim_started, trimmed;
    uint64_t first, end; /* history positions as of revision */
    uint64_t keys_count;
};

static enum status status_of_errno(void)
{
    return errno == ENOSPC || errno == EDQUOT ? ST_NO_SPACE : ST_IO;
}

static enum status write_all(int fd, struct slice s)
{
    while (s.len > 0) {
        ssize_t written = write(fd, s.data, s.len);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return status_of_errno();
        s = slice_make(s.data + written, s.len - (size_t)written);
    }
    return ST_OK;
}

static enum status begin_block(struct writer *w, char kind)
{
    uint8_t *room;
    buf_reset(&w->block);
    buf_reset(&w->last_key);
    enum status st = buf_extend(&w->block, 5, &room);
    if (st == ST_OK)
        room[4] = (uint8_t)kind;
    return st;
}

static enum status end_block(struct writer *w)
{
    uint8_t *room;
    struct slice payload = slice_make(w->block.data + 4, w->block.len - 4);
    put_le32(w->block.data, (uint32_t)payload.len);
    w->hash = hash64_seeded(payload, w->hash);
    enum status st = buf_extend(&w->block, 8, &room);
    if (st != ST_OK)
        return st;
    put_le64(room, w->hash);
    return write_all(w->fd, buf_slice(&w->block));
}

static enum status put_u64(struct buf *buf, uint64_t value)
{
    uint8_t *room;
    enum status st = buf_extend(buf, 8, &room);
    if (st == ST_OK)
        put_le64(room, value);
    return st;
}

static enum status write_header(struct writer *w)
{
    const uint64_t fields[] = {
        w->mvcc->life_id, (uint64_t)w->revision, (uint64_t)w->trim_started, (uint64_t)w->trimmed,
        w->first,         w->end - w->first};
    enum status st = begin_block(w, 'H');
    if (st == ST_OK)
        st = buf_append(&w->block, SLICE(CHECKPOINT_MAGIC));
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]) && st == ST_OK; i++)
        st = put_u64(&w->block, fields[i]);
    return st == ST_OK ? end_block(w) : st;
}

static void put_item(uint8_t *p, const struct history_item *item)
{
    put_le64(p, item->main_and_flags);
    put_le32(p + 8, item->sub);
    put_le32(p + 12, item->age);
    put_le32(p + 16, item->previous);
    put_le32(p + 20, item->jump);
}

/* The pin keeps items from being dropped, and those before end never change. */
static enum status write_history(struct writer *w)
{
    const struct history *history = index_history(w->mvcc->index);
    for (uint64_t position = w->first; position < w->end;) {
        size_t count = min_size((size_t)(w->end - position), MVCC_TRIM_ITEMS);
        uint8_t *room;
        enum status st = begin_block(w, 'I');
        if (st == ST_OK)
            st = buf_extend(&w->block, count * CHECKPOINT_ITEM_BYTES, &room);
        if (st != ST_OK)
            return st;
        lock_acquire(w->mvcc->lock);
        for (size_t i = 0; i < count; i++, position++)
            put_item(room + i * CHECKPOINT_ITEM_BYTES, index_history_item_at(history, position));
        lock_release(w->mvcc->lock);
        st = end_block(w);
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}

/* Takes the record back to what it was at the checkpoint's revision. False: it was not there. */
static bool as_of(const struct writer *w, struct index_record *record, uint8_t *flags_out)
{
    const struct history *history = index_history(w->mvcc->index);
    struct history_entry entry;
    *flags_out = 0;
    if (record->newest.main > w->revision) {
        if (!index_history_get(history, index_history_find(history, record->previous, w->revision),
                               &entry))
            return false;
        record->newest = entry.revision;
        record->tombstone = entry.tombstone;
        record->previous = entry.previous;
        *flags_out = CHECKPOINT_FETCH;
    } else {
        *flags_out = CHECKPOINT_LIFE;
    }
    if (record->tombstone)
        *flags_out = CHECKPOINT_TOMBSTONE;
    if (record->previous >= w->first)
        *flags_out |= CHECKPOINT_HISTORY;
    return true;
}

static size_t shared_bytes(struct slice a, struct slice b)
{
    size_t most = min_size(a.len, b.len), i = 0;
    while (i < most && a.data[i] == b.data[i])
        i++;
    return i;
}

static enum status add_key(struct writer *w, const struct index_record *record, uint8_t flags)
{
    uint8_t *room, *p;
    size_t shared = shared_bytes(buf_slice(&w->last_key), record->key);
    size_t rest = record->key.len - shared, before = w->block.len;
    enum status st = buf_extend(&w->block, 7 * VARINT_BYTES_MAX + 1 + rest, &room);
    if (st != ST_OK)
        return st;
    p = room + put_varint(room, shared);
    p += put_varint(p, rest);
    if (rest > 0)
        memcpy(p, record->key.data + shared, rest);
    p += rest;
    *p++ = flags;
    p += put_varint(p, (uint64_t)record->newest.main);
    p += put_varint(p, (uint64_t)record->newest.sub);
    if ((flags & CHECKPOINT_HISTORY) != 0)
        p += put_varint(p, record->previous);
    if ((flags & CHECKPOINT_LIFE) != 0) {
        p += put_varint(p, (uint64_t)record->create_revision);
        p += put_varint(p, (uint64_t)record->version);
    }
    w->block.len = before + (size_t)(p - room);
    w->keys_count++;
    buf_reset(&w->last_key);
    return buf_append(&w->last_key, record->key);
}

/* Adds the next keys to the block until it is full; with the lock held. */
static enum status add_chunk(struct writer *w, struct buf *resume, bool *more_out)
{
    struct index_path path;
    struct index_record record;
    uint8_t flags;
    bool more = index_seek(w->mvcc->index, buf_slice(resume), &path);
    for (uint32_t visited = 0;
         more && visited < MVCC_CHUNK_KEYS && w->block.len < CHECKPOINT_BLOCK_BYTES; visited++) {
        index_at(&path, &record);
        if (as_of(w, &record, &flags)) {
            enum status st = add_key(w, &record, flags);
            if (st != ST_OK)
                return st;
        }
        more = index_next(&path);
    }
    *more_out = more;
    if (!more)
        return ST_OK;
    index_at(&path, &record);
    buf_reset(resume);
    return buf_append(resume, record.key);
}

static enum status write_keys(struct writer *w)
{
    struct buf *resume = &w->mvcc->readers[mvcc_checkpoint_slot(w->mvcc)].resume;
    buf_reset(resume);
    bool more = true;
    enum status st = begin_block(w, 'K');
    while (more && st == ST_OK) {
        lock_acquire(w->mvcc->lock);
        st = add_chunk(w, resume, &more);
        lock_release(w->mvcc->lock);
        if (st == ST_OK && (w->block.len >= CHECKPOINT_BLOCK_BYTES || !more)) {
            st = end_block(w);
            if (st == ST_OK)
                st = begin_block(w, more ? 'K' : 'E');
        }
    }
    if (st == ST_OK)
        st = put_u64(&w->block, w->keys_count);
    return st == ST_OK ? end_block(w) : st;
}

/* Durable under its name, or not there at all. */
static enum status put_in_place(const struct writer *w, const char *temporary, const char *path)
{
    char directory[PATH_BYTES_MAX];
    (void)snprintf(directory, sizeof(directory), "%s", path);
    char *slash = strrchr(directory, '/');
    if (slash == NULL)
        (void)snprintf(directory, sizeof(directory), ".");
    else if (slash != directory)
        *slash = '\0';
    if (fsync(w->fd) != 0 || rename(temporary, path) != 0)
        return status_of_errno();
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return ST_IO;
    int failed = fsync(fd);
    (void)close(fd);
    return failed == 0 ? ST_OK : ST_IO;
}

static enum status write_file(struct writer *w)
{
    char temporary[PATH_BYTES_MAX];
    const char *path = w->mvcc->checkpoint_path;
    int length = snprintf(temporary, sizeof(temporary), "%s.tmp", path);
    if (length < 0 || (size_t)length >= sizeof(temporary))
        return ST_TOO_BIG;
    w->fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (w->fd < 0)
        return status_of_errno();
    enum status st = write_header(w);
    if (st == ST_OK)
        st = write_history(w);
    if (st == ST_OK)
        st = write_keys(w);
    if (st == ST_OK)
        st = put_in_place(w, temporary, path);
    if (close(w->fd) != 0 && st == ST_OK)
        st = ST_IO;
    if (st != ST_OK)
        (void)unlink(temporary);
    return st;
}

enum status mvcc_checkpoint(struct mvcc *mvcc)
{
    if (mvcc->checkpoint_path == NULL)
        return ST_OK;
    struct writer w = {.mvcc = mvcc};
    buf_init(&w.block, CHECKPOINT_BLOCK_BYTES_MAX);
    buf_init(&w.last_key, CHECKPOINT_BLOCK_BYTES_MAX);
    struct mvcc_reader *slot = &mvcc->readers[mvcc_checkpoint_slot(mvcc)];
    lock_acquire(mvcc->lock);
    w.revision = atomic_load_explicit(&mvcc->current_revision, memory_order_relaxed);
    w.trim_started = mvcc->trim_started;
    w.trimmed = mvcc->trimmed;
    w.first = index_history_first(index_history(mvcc->index));
    w.end = mvcc->published_history_end;
    mvcc_pin(slot, mvcc->trimmed); /* nothing more is trimmed while this goes on */
    lock_release(mvcc->lock);
    /* Room enough before the lock is taken again: only a huge key makes it grow under it. */
    uint8_t *room;
    enum status st = buf_extend(&w.block, (size_t)CHECKPOINT_BLOCK_BYTES * 2, &room);
    if (st == ST_OK)
        st = write_file(&w);
    mvcc_unpin(slot);
    buf_deinit(&w.block);
    buf_deinit(&w.last_key);
    return st;
}
