#include "storage/generation.h"

#include "base/assert.h"

struct generation *generation_new(uint64_t number)
{
    struct generation *generation = calloc(1, sizeof(*generation));
    if (generation == NULL)
        return NULL;
    generation->number = number;
    arena_init(&generation->arena, GENERATION_ARENA_BYTES_MAX);
    rng_seed(&generation->rng, number);
    return generation;
}

void generation_free(struct generation *generation)
{
    if (generation == NULL)
        return;
    for (size_t i = 0; i < GENERATION_CHUNKS_MAX; i++)
        free(generation->chunks[i]);
    arena_deinit(&generation->arena);
    free(generation);
}

/* ---- revisions ---- */

enum status generation_append(struct generation *generation, struct revision revision,
                              bool tombstone, struct slice record)
{
    ASSERT(record.len <= UINT32_MAX);
    size_t count = atomic_load_explicit(&generation->records_count, memory_order_relaxed);
    ASSERT(count == 0 ||
           revision_cmp(generation_at(generation, count - 1)->revision, revision) < 0);
    size_t chunk = count / GENERATION_CHUNK_RECORDS;
    if (chunk == GENERATION_CHUNKS_MAX)
        return ST_NO_MEMORY;
    if (generation->chunks[chunk] == NULL) {
        generation->chunks[chunk] =
            malloc(GENERATION_CHUNK_RECORDS * sizeof(struct generation_record));
        if (generation->chunks[chunk] == NULL)
            return ST_NO_MEMORY;
    }
    uint8_t *data = arena_alloc_raw(&generation->arena, record.len);
    if (data == NULL)
        return ST_NO_MEMORY;
    if (record.len > 0)
        memcpy(data, record.data, record.len);
    generation->chunks[chunk][count % GENERATION_CHUNK_RECORDS] = (struct generation_record){
        .revision = revision, .data = data, .len = (uint32_t)record.len, .tombstone = tombstone};
    generation->bytes += record.len + GENERATION_RECORD_BYTES;
    generation->ops_count++;
    /* Release: whoever counts the record sees it, its chunk and its bytes. */
    atomic_store_explicit(&generation->records_count, count + 1, memory_order_release);
    return ST_OK;
}

size_t generation_count(const struct generation *generation)
{
    return atomic_load_explicit(&generation->records_count, memory_order_acquire);
}

const struct generation_record *generation_at(const struct generation *generation, size_t index)
{
    return &generation->chunks[index / GENERATION_CHUNK_RECORDS][index % GENERATION_CHUNK_RECORDS];
}

size_t generation_lower_bound(const struct generation *generation, struct revision revision)
{
    size_t low = 0, high = generation_count(generation);
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (revision_cmp(generation_at(generation, middle)->revision, revision) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const struct generation_record *generation_find(const struct generation *generation,
                                                struct revision revision)
{
    size_t count = generation_count(generation);
    if (count == 0 || revision_cmp(revision, generation_at(generation, 0)->revision) < 0)
        return NULL;
    size_t index = generation_lower_bound(generation, revision);
    if (index >= count)
        return NULL;
    const struct generation_record *record = generation_at(generation, index);
    return revision_cmp(record->revision, revision) == 0 ? record : NULL;
}

/* ---- small buckets: a skip list each (Pugh 1990), a quarter of the nodes on the next level ----
 */

static struct small_node *node_new(struct generation *generation, uint32_t levels, struct slice key)
{
    size_t links_bytes = levels * sizeof(struct small_node *);
    struct small_node *node = arena_alloc(&generation->arena, sizeof(*node) + links_bytes);
    if (node == NULL || arena_copy(&generation->arena, key, &node->key) != ST_OK)
        return NULL;
    return node;
}

/* Last node before key on every level; the head when none is. */
static void find_before(const struct small_map *map, struct slice key,
                        struct small_node *before_out[SMALL_MAP_LEVELS])
{
    struct small_node *node = map->head;
    for (uint32_t level = SMALL_MAP_LEVELS; level-- > 0;) {
        while (node->next[level] != NULL && slice_cmp(node->next[level]->key, key) < 0)
            node = node->next[level];
        before_out[level] = node;
    }
}

static uint32_t random_levels(struct rng *rng)
{
    uint64_t bits = rng_next(rng);
    uint32_t levels = 1;
    for (; levels < SMALL_MAP_LEVELS && (bits & 3) == 0; bits >>= 2)
        levels++;
    return levels;
}

static struct small_node *node_insert(struct generation *generation,
                                      struct small_node *before[SMALL_MAP_LEVELS], struct slice key)
{
    uint32_t levels = random_levels(&generation->rng);
    struct small_node *node = node_new(generation, levels, key);
    if (node == NULL)
        return NULL;
    for (uint32_t level = 0; level < levels; level++) {
        node->next[level] = before[level]->next[level];
        before[level]->next[level] = node;
    }
    generation->bytes += sizeof(*node) + key.len;
    return node;
}

static enum status node_set(struct generation *generation, struct small_node *node,
                            struct slice value)
{
    if (value.len > node->value_capacity) {
        uint8_t *data = arena_alloc_raw(&generation->arena, value.len);
        if (data == NULL)
            return ST_NO_MEMORY;
        node->value = data;
        node->value_capacity = value.len;
        generation->bytes += value.len;
    }
    if (value.len > 0)
        memcpy(node->value, value.data, value.len);
    node->value_len = value.len;
    return ST_OK;
}

enum status generation_change(struct generation *generation, enum bucket bucket, struct slice key,
                              struct slice value, bool deleted)
{
    ASSERT(bucket < BUCKETS_COUNT);
    ASSERT(bucket != BUCKET_KEY);
    struct small_map *map = &generation->small[bucket];
    if (map->head == NULL) {
        map->head = node_new(generation, SMALL_MAP_LEVELS, SLICE_EMPTY);
        if (map->head == NULL)
            return ST_NO_MEMORY;
    }
    struct small_node *before[SMALL_MAP_LEVELS];
    find_before(map, key, before);
    struct small_node *node = before[0]->next[0];
    if (node == NULL || !slice_eq(node->key, key)) {
        node = node_insert(generation, before, key);
        if (node == NULL)
            return ST_NO_MEMORY;
        node->deleted = true; /* until it has a value */
    }
    if (!deleted) {
        enum status st = node_set(generation, node, value);
        if (st != ST_OK)
            return st;
    }
    node->deleted = deleted;
    generation->ops_count++;
    return ST_OK;
}

const struct small_node *generation_small(const struct generation *generation, enum bucket bucket,
                                          struct slice key)
{
    const struct small_map *map = &generation->small[bucket];
    if (map->head == NULL)
        return NULL;
    struct small_node *before[SMALL_MAP_LEVELS];
    find_before(map, key, before);
    const struct small_node *node = before[0]->next[0];
    return node != NULL && slice_eq(node->key, key) ? node : NULL;
}

const struct small_node *generation_small_first(const struct generation *generation,
                                                enum bucket bucket)
{
    const struct small_node *head = generation->small[bucket].head;
    return head == NULL ? NULL : head->next[0];
}
