/* mvccpb.Event: 1 type, 2 kv, 3 prev_kv; zeros are left out. A deletion's kv is its key and
 * mod_revision. */
#include "server/watch/events.h"

#include "base/assert.h"
#include "base/bytes.h"
#include "base/list.h"

#include <stdlib.h>

enum { TAG_EVENTS = 11 << 3 | 2, TAG_TYPE = 1 << 3, TAG_KV = 2 << 3 | 2, TAG_PREV_KV = 3 << 3 | 2 };
enum { TAG_KEY = 1 << 3 | 2, TAG_MOD_REVISION = 3 << 3 };
enum { TYPE_DELETE = 1 };
#define HEAD_BYTES_MAX (2U * (1U + VARINT_BYTES_MAX) + 2U) /* Events, type, kv */

struct slice watch_change_record(const struct watch_changes *changes, uint32_t index)
{
    const struct watch_change *change = &changes->list[index];
    return slice_make(changes->bytes + change->offset, change->len);
}

struct slice watch_record_key(struct slice record)
{
    uint64_t len;
    if (record.len == 0 || record.data[0] != TAG_KEY)
        return SLICE_EMPTY;
    struct slice rest = slice_make(record.data + 1, record.len - 1);
    if (take_varint(&rest, &len) != ST_OK || len > rest.len)
        return SLICE_EMPTY;
    return slice_make(rest.data, (size_t)len);
}

/* ---- encoding ---- */

struct encoding {
    const struct watch_values *values; /* NULL: none are wanted */
    struct buf before;                 /* the record before a change */
    struct watch_block *block;
};

static enum status keep_record(void *context, struct slice record)
{
    struct buf *kept = context;
    return buf_append(kept, record);
}

/* Leaves e->before empty where there was nothing, or nothing is left. */
static enum status read_before(struct encoding *e, struct slice record, int64_t revision)
{
    buf_reset(&e->before);
    if (e->values == NULL)
        return ST_OK;
    const struct mvcc_query query = {.range = {.key = watch_record_key(record)},
                                     .revision = revision - 1,
                                     .in_memory = e->values->in_memory};
    struct mvcc_result result;
    if (query.revision < 1)
        return ST_OK;
    enum status st = mvcc_read(e->values->mvcc, e->values->reader_slot, &query, keep_record,
                               &e->before, &result);
    return st == ST_COMPACTED ? ST_OK : st;
}

static size_t field_size(size_t size)
{
    return size == 0 ? 0 : 1 + varint_size(size) + size;
}

static uint8_t *put_head(uint8_t *at, uint8_t tag, size_t size)
{
    *at++ = tag;
    return at + put_varint(at, size);
}

static uint8_t *put_field(uint8_t *at, uint8_t tag, struct slice bytes)
{
    if (bytes.len == 0)
        return at;
    at = put_head(at, tag, bytes.len);
    memcpy(at, bytes.data, bytes.len);
    return at + bytes.len;
}

static enum status encode(struct encoding *e, const struct watch_change *change,
                          struct slice record)
{
    enum status st = read_before(e, record, change->revision);
    if (st != ST_OK)
        return st;
    size_t revision_size = change->tombstone ? 1 + varint_size((uint64_t)change->revision) : 0;
    size_t kv_size = record.len + revision_size;
    size_t event_size =
        (change->tombstone ? 2 : 0) + field_size(kv_size) + field_size(e->before.len);
    uint8_t *room;
    st = buf_extend(&e->block->bytes, 1 + varint_size(event_size) + event_size, &room);
    if (st != ST_OK)
        return st;
    const uint8_t *began = room;
    room = put_head(room, TAG_EVENTS, event_size);
    if (change->tombstone) {
        *room++ = TAG_TYPE;
        *room++ = TYPE_DELETE;
    }
    if (kv_size > 0)
        room = put_head(room, TAG_KV, kv_size);
    memcpy(room, record.data, record.len);
    room += record.len;
    if (change->tombstone) {
        *room++ = TAG_MOD_REVISION;
        room += put_varint(room, (uint64_t)change->revision);
    }
    room = put_field(room, TAG_PREV_KV, buf_slice(&e->before));
    ASSERT((size_t)(room - began) == 1 + varint_size(event_size) + event_size);
    return ST_OK;
}

static void block_free(struct rpc_shared *shared)
{
    struct watch_block *block = CONTAINER_OF(shared, struct watch_block, shared);
    buf_deinit(&block->bytes);
    free(block);
}

static struct watch_block *block_alloc(uint32_t count)
{
    struct watch_block *block =
        calloc(1, sizeof(*block) + (size_t)count * sizeof(struct watch_mark));
    if (block == NULL)
        return NULL;
    atomic_init(&block->shared.refs, 1);
    block->shared.free = block_free;
    block->count = count;
    block->marks = (struct watch_mark *)(block + 1);
    buf_init(&block->bytes, SIZE_MAX);
    return block;
}

static bool is_wanted(const struct encoding *e, const struct watch_change *change)
{
    enum watch_form form = e->values == NULL ? WATCH_PLAIN : WATCH_WITH_VALUES;
    return (change->wanted >> form & 1) != 0;
}

/* All at once, where nothing unknown comes on top. */
static enum status reserve(struct encoding *e, const struct watch_changes *changes)
{
    size_t size = 0;
    for (uint32_t i = 0; i < changes->count; i++) {
        if (is_wanted(e, &changes->list[i]))
            size += changes->list[i].len + HEAD_BYTES_MAX + VARINT_BYTES_MAX;
    }
    uint8_t *room;
    enum status st = buf_extend(&e->block->bytes, size, &room);
    e->block->bytes.len = 0;
    return st;
}

enum status watch_block_new(const struct watch_changes *changes, const struct watch_values *values,
                            struct watch_block **out)
{
    *out = NULL;
    struct encoding e = {.values = values, .block = block_alloc(changes->count)};
    if (e.block == NULL)
        return ST_NO_MEMORY;
    buf_init(&e.before, SIZE_MAX);
    enum status st = reserve(&e, changes);
    for (uint32_t i = 0; i < changes->count && st == ST_OK; i++) {
        const struct watch_change *change = &changes->list[i];
        if (is_wanted(&e, change))
            st = encode(&e, change, watch_change_record(changes, i));
        e.block->marks[i] = (struct watch_mark){e.block->bytes.len, change->revision};
    }
    buf_deinit(&e.before);
    if (st == ST_OK)
        *out = e.block;
    else
        watch_block_unref(e.block);
    return st;
}

void watch_block_unref(struct watch_block *block)
{
    if (block != NULL)
        rpc_shared_unref(&block->shared);
}

struct slice watch_block_events(const struct watch_block *block, uint32_t first, uint32_t end)
{
    ASSERT(first <= end && end <= block->count);
    size_t begin = first == 0 ? 0 : block->marks[first - 1].end;
    size_t past = end == 0 ? 0 : block->marks[end - 1].end;
    return slice_make(block->bytes.data + begin, past - begin);
}

uint32_t watch_block_first_at(const struct watch_block *block, int64_t revision)
{
    uint32_t low = 0, high = block->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (block->marks[middle].revision < revision)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* ---- deliveries ---- */

struct watch_delivery *watch_delivery_new(struct watch_block *block, const struct watch_runs *runs,
                                          int64_t revision)
{
    size_t runs_bytes = runs->count * sizeof(struct watch_run);
    struct watch_delivery *delivery = malloc(sizeof(*delivery) + runs_bytes);
    if (delivery == NULL)
        return NULL;
    *delivery = (struct watch_delivery){
        .refs = 1, .runs_count = runs->count, .revision = revision, .block = block};
    memcpy(delivery->runs, runs->list, runs_bytes);
    rpc_shared_ref(&block->shared);
    return delivery;
}

void watch_delivery_unref(struct watch_delivery *delivery)
{
    if (delivery == NULL || --delivery->refs > 0)
        return;
    watch_block_unref(delivery->block);
    free(delivery);
}
