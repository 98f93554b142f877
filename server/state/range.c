#include "server/state/range.h"

#include "base/assert.h"
#include "base/minmax.h"

#include <stdlib.h>

#define FIELD_KVS 2
#define FIELD_MORE 3
#define FIELD_COUNT 4

static struct mvcc_query query_of(const struct kv_range *range)
{
    return (struct mvcc_query){.range = {.key = range->key, .end = range->range_end},
                               .revision = range->revision,
                               .limit = range->limit,
                               .count_only = range->count_only};
}

/* Counts what the answer goes through. */
struct tally {
    size_t bytes, bytes_max;
};

static struct tally tally_of(const struct source *source, const struct wire_out *out)
{
    return (struct tally){.bytes = out->len, .bytes_max = source->bytes_max};
}

static bool has_enough(struct tally *tally, struct slice record)
{
    tally->bytes += record.len;
    return tally->bytes_max > 0 && tally->bytes > tally->bytes_max;
}

/* ---- in key order, straight into the response ---- */

struct answer {
    struct wire_out *out;
    struct tally tally;
};

static enum status append_record(void *context, struct slice record)
{
    struct answer *answer = context;
    if (has_enough(&answer->tally, record))
        return ST_CANCELED;
    wire_put_bytes(answer->out, FIELD_KVS, record);
    return answer->out->failed ? ST_TOO_BIG : ST_OK;
}

static enum status append_without_value(void *context, struct slice record)
{
    struct answer *answer = context;
    if (has_enough(&answer->tally, record))
        return ST_CANCELED;
    struct mvcc_kv kv;
    enum status st = mvcc_kv_decode(record, &kv);
    if (st != ST_OK)
        return st;
    kv.value = SLICE_EMPTY;
    size_t size = mvcc_kv_encoded_size(&kv);
    uint8_t *p = wire_reserve(answer->out, 1 + varint_size(size) + size);
    if (p == NULL)
        return ST_TOO_BIG;
    *p++ = FIELD_KVS << 3 | WIRE_BYTES;
    p += put_varint(p, size);
    mvcc_kv_encode(&kv, p);
    return ST_OK;
}

static enum status encode_in_key_order(const struct source *source, const struct kv_range *range,
                                       struct wire_out *out)
{
    struct mvcc_query query = query_of(range);
    struct mvcc_result result;
    mvcc_record_fn fn = range->keys_only ? append_without_value : append_record;
    struct answer answer = {.out = out, .tally = tally_of(source, out)};
    enum status st = source_read(source, &query, fn, &answer, &result);
    if (st != ST_OK)
        return st;
    bool more = !range->count_only && range->limit > 0 && result.count > range->limit;
    wire_put_varint(out, FIELD_MORE, more);
    wire_put_varint(out, FIELD_COUNT, (uint64_t)result.count);
    return out->failed ? ST_TOO_BIG : ST_OK;
}

/* ---- filtered or sorted: collected first ---- */

struct row {
    struct row *next;
    struct slice record; /* in the arena */
    struct mvcc_kv kv;   /* borrowed from record */
};

struct rows {
    const struct kv_range *range;
    struct arena *arena;
    struct tally tally;
    struct row *first, **end;
    size_t count;
};

static bool is_filtered(const struct kv_range *range, const struct mvcc_kv *kv)
{
    return (range->max_mod_revision != 0 && kv->mod_revision > range->max_mod_revision) ||
           (range->min_mod_revision != 0 && kv->mod_revision < range->min_mod_revision) ||
           (range->max_create_revision != 0 && kv->create_revision > range->max_create_revision) ||
           (range->min_create_revision != 0 && kv->create_revision < range->min_create_revision);
}

static enum status collect(void *context, struct slice record)
{
    struct rows *rows = context;
    if (has_enough(&rows->tally, record))
        return ST_CANCELED;
    struct mvcc_kv kv;
    enum status st = mvcc_kv_decode(record, &kv);
    if (st != ST_OK || is_filtered(rows->range, &kv))
        return st;
    struct row *row = ARENA_NEW(rows->arena, struct row);
    if (row == NULL)
        return ST_TOO_BIG;
    st = arena_copy(rows->arena, record, &row->record);
    if (st == ST_OK)
        st = mvcc_kv_decode(row->record, &row->kv);
    if (st != ST_OK)
        return st;
    *rows->end = row;
    rows->end = &row->next;
    rows->count++;
    return ST_OK;
}

static int compare_numbers(int64_t a, int64_t b)
{
    return a < b ? -1 : a > b;
}

static int by_version(const void *a, const void *b)
{
    return compare_numbers((*(struct row *const *)a)->kv.version,
                           (*(struct row *const *)b)->kv.version);
}

static int by_create(const void *a, const void *b)
{
    return compare_numbers((*(struct row *const *)a)->kv.create_revision,
                           (*(struct row *const *)b)->kv.create_revision);
}

static int by_mod(const void *a, const void *b)
{
    return compare_numbers((*(struct row *const *)a)->kv.mod_revision,
                           (*(struct row *const *)b)->kv.mod_revision);
}

static int by_value(const void *a, const void *b)
{
    return slice_cmp((*(struct row *const *)a)->kv.value, (*(struct row *const *)b)->kv.value);
}

/* Rows come in key order, and stay so for a target that check_range() refuses: it can only come
 * from an entry that another program proposed, and every member has to read it alike. */
static void sort_rows(struct row **rows, size_t count, int32_t target)
{
    int (*compare)(const void *, const void *) = NULL;
    switch ((enum sort_target)target) {
    case SORT_BY_KEY:
        return;
    case SORT_BY_VERSION:
        compare = by_version;
        break;
    case SORT_BY_CREATE:
        compare = by_create;
        break;
    case SORT_BY_MOD:
        compare = by_mod;
        break;
    case SORT_BY_VALUE:
        compare = by_value;
        break;
    }
    if (compare != NULL)
        qsort(rows, count, sizeof(struct row *), compare);
}

static bool has_filters(const struct kv_range *range)
{
    return range->min_mod_revision != 0 || range->max_mod_revision != 0 ||
           range->min_create_revision != 0 || range->max_create_revision != 0;
}

/* Order NONE with a target other than the key sorts upwards by it. An unknown order leaves the
 * order of keys. */
static bool is_sorted_by_target(const struct kv_range *range)
{
    return range->sort_order == SORT_NONE || range->sort_order == SORT_ASCEND ||
           range->sort_order == SORT_DESCEND;
}

/* Order and filters need every key of the range. Without them etcd fetches one more than the limit
 * and sorts just these, so that is what a target without an order means. */
static int64_t fetch_limit(const struct kv_range *range)
{
    if (range->sort_order != SORT_NONE || has_filters(range) || range->limit <= 0)
        return 0;
    return range->limit == INT64_MAX ? 0 : range->limit + 1;
}

static enum status encode_rows(struct row *const *rows, size_t count, size_t shown,
                               const struct kv_range *range, struct wire_out *out)
{
    mvcc_record_fn append = range->keys_only ? append_without_value : append_record;
    struct answer answer = {.out = out};
    for (size_t i = 0; i < shown; i++) {
        size_t at = range->sort_order == SORT_DESCEND ? count - 1 - i : i;
        enum status st = append(&answer, rows[at]->record);
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}

static enum status encode_collected(const struct source *source, const struct kv_range *range,
                                    struct wire_out *out)
{
    struct rows rows = {.range = range, .arena = out->arena, .tally = tally_of(source, out)};
    rows.end = &rows.first;
    struct mvcc_query query = query_of(range);
    query.limit = fetch_limit(range);
    struct mvcc_result result;
    enum status st = source_read(source, &query, collect, &rows, &result);
    if (st != ST_OK)
        return st;
    struct row **array = ARENA_ARRAY(out->arena, struct row *, rows.count);
    if (array == NULL)
        return ST_TOO_BIG;
    size_t count = 0;
    for (struct row *row = rows.first; row != NULL; row = row->next)
        array[count++] = row;
    ASSERT(count == rows.count);
    if (is_sorted_by_target(range))
        sort_rows(array, count, range->sort_target);
    size_t shown = range->limit > 0 ? (size_t)min_u64(count, (uint64_t)range->limit) : count;
    st = encode_rows(array, count, shown, range, out);
    if (st != ST_OK)
        return st;
    wire_put_varint(out, FIELD_MORE, shown < count);
    wire_put_varint(out, FIELD_COUNT, (uint64_t)result.count);
    return out->failed ? ST_TOO_BIG : ST_OK;
}

enum status range_encode(const struct source *source, const struct kv_range *range,
                         struct wire_out *out)
{
    bool in_key_order = range->sort_order != SORT_DESCEND &&
                        (range->sort_target == SORT_BY_KEY || !is_sorted_by_target(range));
    if (range->count_only || (in_key_order && !has_filters(range)))
        return encode_in_key_order(source, range, out);
    return encode_collected(source, range, out);
}

enum status range_answer(struct mvcc *mvcc, uint32_t reader, const struct kv_range *range,
                         size_t bytes_max, struct response_header *header, struct arena *arena,
                         struct slice *response_out)
{
    struct source source = {.mvcc = mvcc, .reader = reader, .bytes_max = bytes_max};
    enum status st =
        mvcc_read_begin(mvcc, reader, &source.current_revision, &source.compact_revision);
    if (st != ST_OK)
        return st;
    header->revision = source.current_revision;
    struct wire_out out;
    wire_out_init(&out, arena, /* gap= */ 0);
    wire_put_header(&out, header);
    st = range_encode(&source, range, &out);
    mvcc_read_end(mvcc, reader);
    return st != ST_OK ? st : wire_out_finish(&out, response_out);
}
