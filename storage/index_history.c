#include "storage/index_history.h"

#include "base/assert.h"
#include "base/minmax.h"

#define CHUNK_ITEMS 1024U /* 24 KiB a chunk: small beside any store, large beside a pointer */
#define ITEM_BYTES 24U
#define CHUNKS_MIN 16U
#define FLAG_TOMBSTONE 1U
#define CLASS_SHIFT 1U
#define CLASS_MAX 31U
#define MAIN_SHIFT 6U
#define AGE_IN_NEXT UINT32_MAX

_Static_assert(sizeof(struct history_item) == ITEM_BYTES, "the queue's item size");
_Static_assert(sizeof(struct history_tombstone) == ITEM_BYTES, "the queue's item size");
_Static_assert(INDEX_MAIN_MAX <= (INT64_MAX >> (MAIN_SHIFT - 1)), "main and flags share 64 bits");

static void queue_init(struct chunk_queue *q)
{
    *q = (struct chunk_queue){.first = 1, .end = 1};
}

static void queue_deinit(struct chunk_queue *q)
{
    for (size_t i = 0; i < q->count; i++)
        free(q->chunks[i]);
    free(q->chunks);
    queue_init(q);
}

static void *queue_at(const struct chunk_queue *q, uint64_t position)
{
    ASSERT(position >= q->first);
    ASSERT(position < q->end);
    uint8_t *chunk = q->chunks[position / CHUNK_ITEMS - q->first_chunk];
    return chunk + (position % CHUNK_ITEMS) * ITEM_BYTES;
}

static size_t queue_length(const struct chunk_queue *q)
{
    return (size_t)(q->end - q->first);
}

static enum status queue_reserve(struct chunk_queue *q, size_t items)
{
    uint64_t last_chunk = (q->end + items - 1) / CHUNK_ITEMS;
    while (q->first_chunk + q->count <= last_chunk) {
        if (q->count == q->capacity) {
            size_t capacity = max_size(q->capacity * 2, CHUNKS_MIN);
            uint8_t **grown = realloc(q->chunks, capacity * sizeof(*grown));
            if (grown == NULL)
                return ST_NO_MEMORY;
            q->chunks = grown;
            q->capacity = capacity;
        }
        uint8_t *chunk = malloc((size_t)CHUNK_ITEMS * ITEM_BYTES);
        if (chunk == NULL)
            return ST_NO_MEMORY;
        q->chunks[q->count++] = chunk;
    }
    return ST_OK;
}

static void *queue_push(struct chunk_queue *q)
{
    ASSERT(q->end / CHUNK_ITEMS < q->first_chunk + q->count);
    q->end++;
    return queue_at(q, q->end - 1);
}

/* Frees the chunks that lie wholly before position. The directory moves down by what was freed: 8
 * bytes for each 24 KiB. */
static void queue_drop_to(struct chunk_queue *q, uint64_t position)
{
    ASSERT(position >= q->first);
    ASSERT(position <= q->end);
    q->first = position;
    size_t gone = min_size((size_t)(position / CHUNK_ITEMS - q->first_chunk), q->count);
    if (gone == 0)
        return;
    for (size_t i = 0; i < gone; i++)
        free(q->chunks[i]);
    q->count -= gone;
    memmove(q->chunks, q->chunks + gone, q->count * sizeof(*q->chunks));
    q->first_chunk += gone;
}

static size_t queue_bytes(const struct chunk_queue *q)
{
    return q->capacity * sizeof(*q->chunks) + q->count * (CHUNK_ITEMS * (size_t)ITEM_BYTES);
}

void index_history_init(struct history *history)
{
    queue_init(&history->superseded);
    queue_init(&history->tombstones);
}

void index_history_deinit(struct history *history)
{
    queue_deinit(&history->superseded);
    queue_deinit(&history->tombstones);
}

size_t index_history_bytes(const struct history *history)
{
    return queue_bytes(&history->superseded) + queue_bytes(&history->tombstones);
}

enum status index_history_reserve(struct history *history)
{
    enum status st = queue_reserve(&history->superseded, /* items= */ 2);
    if (st != ST_OK)
        return st;
    return queue_reserve(&history->tombstones, /* items= */ 1);
}

/* Link by distance: positions never repeat, and what lies more than 2^32 items back was dropped. */
static uint32_t distance(uint64_t from, uint64_t to)
{
    return to == 0 || from - to > UINT32_MAX ? 0 : (uint32_t)(from - to);
}

/* Position of the linked item, 0 when there is none or it was dropped. */
static uint64_t follow(const struct history *h, uint64_t position, uint32_t back)
{
    if (back == 0 || back >= position)
        return 0;
    return position - back >= h->superseded.first ? position - back : 0;
}

static const struct history_item *item_at(const struct history *h, uint64_t position)
{
    return queue_at(&h->superseded, position);
}

static uint32_t class_of(const struct history_item *item)
{
    return (uint32_t)(item->main_and_flags >> CLASS_SHIFT) & CLASS_MAX;
}

static int64_t main_of(const struct history_item *item)
{
    return (int64_t)(item->main_and_flags >> MAIN_SHIFT);
}

/* Jumps have lengths 2^class - 1, as the digits of a skew-binary number: two equal neighbours merge
 * into one jump over both. */
static void link_back(const struct history *h, uint64_t position, uint64_t previous,
                      struct history_item *item)
{
    item->previous = item->jump = 0;
    if (previous < h->superseded.first || previous == 0)
        return;
    item->previous = item->jump = distance(position, previous);
    uint32_t class = 1;
    const struct history_item *before = item_at(h, previous);
    uint64_t over = follow(h, previous, before->jump);
    if (over != 0 && class_of(item_at(h, over)) == class_of(before)) {
        uint64_t target = follow(h, over, item_at(h, over)->jump);
        if (target != 0 && class_of(before) < CLASS_MAX) {
            item->jump = distance(position, target);
            class = class_of(before) + 1;
        }
    }
    item->main_and_flags |= (uint64_t) class << CLASS_SHIFT;
}

uint64_t index_history_append(struct history *history, const struct history_entry *entry)
{
    ASSERT(entry->revision.main >= 0 && entry->revision.main <= INDEX_MAIN_MAX);
    ASSERT(entry->revision.sub >= 0 && entry->revision.sub <= INDEX_SUB_MAX);
    ASSERT(entry->superseded_by >= entry->revision.main);
    uint64_t position = history->superseded.end;
    uint64_t age = (uint64_t)(entry->superseded_by - entry->revision.main);
    struct history_item *item = queue_push(&history->superseded);
    item->main_and_flags =
        (uint64_t)entry->revision.main << MAIN_SHIFT | (entry->tombstone ? FLAG_TOMBSTONE : 0);
    item->sub = (uint32_t)entry->revision.sub;
    item->age = age < AGE_IN_NEXT ? (uint32_t)age : AGE_IN_NEXT;
    link_back(history, position, entry->previous, item);
    if (item->age == AGE_IN_NEXT) {
        struct history_item *extension = queue_push(&history->superseded);
        *extension =
            (struct history_item){.main_and_flags = (uint64_t)entry->superseded_by << MAIN_SHIFT};
    }
    return position;
}

bool index_history_get(const struct history *history, uint64_t position, struct history_entry *out)
{
    if (position < history->superseded.first || position == 0)
        return false;
    const struct history_item *item = item_at(history, position);
    out->revision = (struct revision){main_of(item), item->sub};
    out->tombstone = (item->main_and_flags & FLAG_TOMBSTONE) != 0;
    out->superseded_by = item->age == AGE_IN_NEXT ? main_of(item_at(history, position + 1))
                                                  : main_of(item) + item->age;
    out->previous = follow(history, position, item->previous);
    return true;
}

uint64_t index_history_find(const struct history *history, uint64_t position, int64_t main)
{
    if (position < history->superseded.first)
        return 0;
    while (position != 0) {
        const struct history_item *item = item_at(history, position);
        if (main_of(item) <= main)
            return position;
        uint64_t jump = follow(history, position, item->jump);
        if (jump != 0 && main_of(item_at(history, jump)) > main)
            position = jump;
        else
            position = follow(history, position, item->previous);
    }
    return 0;
}

uint64_t index_history_first(const struct history *history)
{
    return history->superseded.first;
}

uint64_t index_history_end(const struct history *history)
{
    return history->superseded.end;
}

uint64_t index_history_next(const struct history *history, uint64_t position)
{
    return position + (item_at(history, position)->age == AGE_IN_NEXT ? 2 : 1);
}

void index_history_drop_to(struct history *history, uint64_t position)
{
    queue_drop_to(&history->superseded, position);
}

const struct history_item *index_history_item_at(const struct history *history, uint64_t position)
{
    return item_at(history, position);
}

void index_history_start_at(struct history *history, uint64_t first)
{
    ASSERT(history->superseded.count == 0);
    ASSERT(first > 0);
    history->superseded.first = history->superseded.end = first;
    history->superseded.first_chunk = first / CHUNK_ITEMS;
}

void index_history_load_item(struct history *history, const struct history_item *item)
{
    struct history_item *room = queue_push(&history->superseded);
    *room = *item;
}

void index_history_add_tombstone(struct history *history, struct revision revision, uint8_t *record)
{
    struct history_tombstone *t = queue_push(&history->tombstones);
    *t = (struct history_tombstone){
        .main = (uint64_t)revision.main, .sub = (uint32_t)revision.sub, .record = record};
}

static int tombstone_cmp(const struct history_tombstone *t, struct revision revision)
{
    return revision_cmp((struct revision){(int64_t)t->main, t->sub}, revision);
}

void index_history_forget_record(struct history *history, struct revision revision)
{
    uint64_t low = history->tombstones.first, high = history->tombstones.end;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        struct history_tombstone *t = queue_at(&history->tombstones, middle);
        int order = tombstone_cmp(t, revision);
        if (order == 0) {
            t->record = NULL;
            return;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
}

size_t index_history_tombstones_count(const struct history *history)
{
    return queue_length(&history->tombstones);
}

const struct history_tombstone *index_history_tombstone_at(const struct history *history, size_t i)
{
    return queue_at(&history->tombstones, history->tombstones.first + i);
}

void index_history_drop_tombstones(struct history *history, size_t count)
{
    queue_drop_to(&history->tombstones, history->tombstones.first + count);
}
