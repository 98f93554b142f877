#include "tests/fakes/backend_mem.h"

#include "base/assert.h"
#include "base/list.h"
#include "storage/backend_private.h"

#include <pthread.h>

#define ALIVE UINT64_MAX
#define PURGE_COUNT_MIN 64U

/* One value of one key, visible to snapshots numbered born <= n < died. */
struct version {
    uint64_t born, died;
    struct slice key, value; /* both in bytes */
    uint8_t bytes[];
};

struct table {
    struct version **versions; /* ordered by key, then born */
    size_t count, capacity, dead_count;
};

struct saved_mark {
    uint64_t born; /* 0: none */
    struct store_mark mark;
    uint8_t *conf_state; /* owned */
};

struct mem_file {
    struct list_node node;
    char *path;
    pthread_mutex_t mutex;
    bool exists, is_open, writing, full;
    uint64_t free_bytes; /* as told by the test */
    uint64_t life_id, bytes, bytes_max;
    uint64_t committed, durable; /* numbers of commits */
    uint64_t commits_count, syncs_count;
    struct table tables[BUCKETS_COUNT];
    struct saved_mark mark, mark_before; /* newest, and the one to fall back to */
    struct list_node snapshots;
    uint64_t fail_in; /* calls until the fault; 0: none */
    enum status fail_status;
    bool fail_lands, fired;
};

struct mem_backend {
    struct backend base;
    struct mem_file *file;
};

struct mem_snapshot {
    struct backend_snapshot base;
    struct list_node node;
    uint64_t number;
};

struct mem_cursor {
    struct backend_cursor base;
    struct table *table;
    const struct version *at; /* NULL: past the end or not placed */
};

static pthread_mutex_t files_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct list_node files = {&files, &files};

static struct mem_file *file_at(const char *path)
{
    pthread_mutex_lock(&files_mutex);
    struct mem_file *found = NULL;
    LIST_FOREACH(node, &files)
    {
        struct mem_file *file = CONTAINER_OF(node, struct mem_file, node);
        if (strcmp(file->path, path) == 0)
            found = file;
    }
    if (found == NULL) {
        found = calloc(1, sizeof(*found));
        ASSERT(found != NULL);
        found->path = strdup(path);
        ASSERT(found->path != NULL);
        pthread_mutex_init(&found->mutex, NULL);
        list_init(&found->snapshots);
        list_push_back(&files, &found->node);
    }
    pthread_mutex_unlock(&files_mutex);
    return found;
}

static struct mem_file *file_of(struct backend *backend)
{
    return CONTAINER_OF(backend, struct mem_backend, base)->file;
}

static enum status count_call(struct mem_file *file)
{
    if (file->fail_in == 0 || --file->fail_in > 0)
        return ST_OK;
    file->fired = true;
    return file->fail_status;
}

/* First position whose key is >= key (or > key when after is set). */
static size_t position_of(const struct table *table, struct slice key, bool after)
{
    size_t low = 0, high = table->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = slice_cmp(table->versions[middle]->key, key);
        if (order < 0 || (after && order == 0))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static const struct version *visible_from(const struct table *table, size_t position,
                                          uint64_t number)
{
    for (; position < table->count; position++) {
        const struct version *version = table->versions[position];
        if (version->born <= number && number < version->died)
            return version;
    }
    return NULL;
}

static struct version *version_new(const struct backend_op *op, uint64_t born)
{
    struct version *version = malloc(sizeof(*version) + op->key.len + op->value.len);
    ASSERT(version != NULL);
    version->born = born;
    version->died = ALIVE;
    memcpy(version->bytes, op->key.data, op->key.len);
    if (op->value.len > 0)
        memcpy(version->bytes + op->key.len, op->value.data, op->value.len);
    version->key = slice_make(version->bytes, op->key.len);
    version->value = slice_make(version->bytes + op->key.len, op->value.len);
    return version;
}

static uint64_t version_bytes(const struct version *version)
{
    return sizeof(*version) + version->key.len + version->value.len;
}

static void table_insert(struct table *table, size_t position, struct version *version)
{
    if (table->count == table->capacity) {
        table->capacity = table->capacity == 0 ? 64 : table->capacity * 2;
        table->versions = realloc(table->versions, table->capacity * sizeof(struct version *));
        ASSERT(table->versions != NULL);
    }
    memmove(table->versions + position + 1, table->versions + position,
            (table->count - position) * sizeof(struct version *));
    table->versions[position] = version;
    table->count++;
}

static void table_remove(struct mem_file *file, struct table *table, size_t position)
{
    file->bytes -= version_bytes(table->versions[position]);
    free(table->versions[position]);
    table->count--;
    memmove(table->versions + position, table->versions + position + 1,
            (table->count - position) * sizeof(struct version *));
}

/* Ends the living version of the key, if any; number is that of the open transaction. */
static void end_living(struct mem_file *file, struct table *table, struct slice key,
                       uint64_t number)
{
    size_t position = position_of(table, key, /* after= */ true);
    if (position == 0)
        return;
    struct version *last = table->versions[position - 1];
    if (!slice_eq(last->key, key) || last->died != ALIVE)
        return;
    if (last->born == number) {
        table_remove(file, table, position - 1);
    } else {
        last->died = number;
        table->dead_count++;
    }
}

/* Keeps the versions for which the rule holds; used to undo, to purge and to fall back. */
static void table_sweep(struct mem_file *file, struct table *table, uint64_t horizon,
                        uint64_t newest)
{
    size_t kept = 0;
    table->dead_count = 0;
    for (size_t i = 0; i < table->count; i++) {
        struct version *version = table->versions[i];
        if (version->born > newest || version->died <= horizon) {
            file->bytes -= version_bytes(version);
            free(version);
            continue;
        }
        if (version->died != ALIVE && version->died > newest)
            version->died = ALIVE;
        table->dead_count += version->died != ALIVE;
        table->versions[kept++] = version;
    }
    table->count = kept;
}

static void sweep_all(struct mem_file *file, uint64_t horizon, uint64_t newest)
{
    for (size_t i = 0; i < BUCKETS_COUNT; i++)
        table_sweep(file, &file->tables[i], horizon, newest);
}

static void undo(struct mem_file *file)
{
    if (file->writing)
        sweep_all(file, /* horizon= */ 0, file->committed);
    file->writing = false;
}

static void purge(struct mem_file *file)
{
    uint64_t horizon = file->durable;
    LIST_FOREACH(node, &file->snapshots)
    {
        uint64_t number = CONTAINER_OF(node, struct mem_snapshot, node)->number;
        horizon = number < horizon ? number : horizon;
    }
    for (size_t i = 0; i < BUCKETS_COUNT; i++) {
        struct table *table = &file->tables[i];
        if (table->dead_count > PURGE_COUNT_MIN && table->dead_count > table->count / 2)
            table_sweep(file, table, horizon, file->committed);
    }
}

static enum status mem_open(const struct backend_options *options, struct backend **out)
{
    *out = NULL;
    struct mem_file *file = file_at(options->path);
    pthread_mutex_lock(&file->mutex);
    enum status st = count_call(file);
    if (st == ST_OK && !file->exists && !options->create)
        st = ST_NOT_FOUND;
    if (st == ST_OK && file->exists && options->life_id_out == NULL &&
        file->life_id != options->life_id)
        st = ST_INVALID;
    if (st == ST_OK && file->is_open)
        st = ST_BUSY;
    if (st != ST_OK) {
        pthread_mutex_unlock(&file->mutex);
        return open_fails(options, st, "%s", status_str(st));
    }
    file->exists = true;
    file->is_open = true;
    if (options->life_id_out != NULL)
        *options->life_id_out = file->life_id;
    else
        file->life_id = options->life_id;
    file->bytes_max = options->map_bytes_max;
    file->commits_count = file->syncs_count = 0;
    pthread_mutex_unlock(&file->mutex);
    struct mem_backend *backend = calloc(1, sizeof(*backend));
    ASSERT(backend != NULL);
    backend->base.ops = backend_mem();
    backend->file = file;
    *out = &backend->base;
    return ST_OK;
}

static void mem_close(struct backend *backend)
{
    if (backend == NULL)
        return;
    struct mem_file *file = file_of(backend);
    pthread_mutex_lock(&file->mutex);
    ASSERT(list_is_empty(&file->snapshots));
    undo(file);
    file->is_open = false;
    pthread_mutex_unlock(&file->mutex);
    free(CONTAINER_OF(backend, struct mem_backend, base));
}

static enum status apply_one(struct mem_file *file, const struct backend_op *op)
{
    if (!op_is_legal(op))
        return ST_INVALID;
    uint64_t number = file->committed + 1;
    struct table *table = &file->tables[op->bucket];
    end_living(file, table, op->key, number);
    if (op->kind == BACKEND_DELETE)
        return ST_OK;
    struct version *version = version_new(op, number);
    if (file->bytes_max != 0 && file->bytes + version_bytes(version) > file->bytes_max) {
        free(version);
        return ST_NO_SPACE;
    }
    size_t position = position_of(table, op->key, /* after= */ true);
    ASSERT(op->kind != BACKEND_APPEND || position == table->count);
    file->bytes += version_bytes(version);
    table_insert(table, position, version);
    return ST_OK;
}

static enum status mem_apply(struct backend *backend, const struct backend_op *ops, size_t count)
{
    struct mem_file *file = file_of(backend);
    pthread_mutex_lock(&file->mutex);
    enum status st = count_call(file);
    if (st == ST_OK && file->full)
        st = ST_NO_SPACE;
    file->writing = true;
    for (size_t i = 0; i < count && st == ST_OK; i++)
        st = apply_one(file, &ops[i]);
    if (st != ST_OK)
        undo(file);
    pthread_mutex_unlock(&file->mutex);
    return st;
}

static void saved_mark_free(struct saved_mark *saved)
{
    free(saved->conf_state);
    *saved = (struct saved_mark){0};
}

static struct saved_mark saved_mark_copy(const struct store_mark *mark, uint64_t born)
{
    struct saved_mark saved = {.born = born, .mark = *mark};
    saved.conf_state = malloc(mark->conf_state.len + 1);
    ASSERT(saved.conf_state != NULL);
    if (mark->conf_state.len > 0)
        memcpy(saved.conf_state, mark->conf_state.data, mark->conf_state.len);
    saved.mark.conf_state.data = saved.conf_state;
    return saved;
}

static void land_commit(struct mem_file *file, const struct store_mark *mark, bool full)
{
    saved_mark_free(&file->mark_before);
    file->mark_before = file->mark;
    file->mark =
        saved_mark_copy(mark != NULL ? mark : &file->mark_before.mark, file->committed + 1);
    file->durable = full ? file->committed + 1 : file->committed;
    file->committed++;
    file->commits_count++;
    file->syncs_count += full ? 2 : 1;
    file->writing = false;
    purge(file);
}

static enum status mem_commit(struct backend *backend, const struct store_mark *mark, bool full,
                              uint64_t *durable_out)
{
    struct mem_file *file = file_of(backend);
    pthread_mutex_lock(&file->mutex);
    enum status st = count_call(file);
    if (st == ST_OK && file->full)
        st = ST_NO_SPACE;
    if (st == ST_OK || (status_is_fatal(st) && file->fail_lands))
        land_commit(file, mark, full);
    else
        undo(file);
    *durable_out = full ? file->mark.mark.index : file->mark_before.mark.index;
    pthread_mutex_unlock(&file->mutex);
    return st;
}

static void mem_abort(struct backend *backend)
{
    struct mem_file *file = file_of(backend);
    pthread_mutex_lock(&file->mutex);
    undo(file);
    pthread_mutex_unlock(&file->mutex);
}

static enum status mem_mark(struct backend *backend, struct store_mark *out, struct buf *conf_state)
{
    struct mem_file *file = file_of(backend);
    pthread_mutex_lock(&file->mutex);
    *out = file->mark.mark;
    size_t start = conf_state->len;
    enum status st = buf_append(conf_state, file->mark.mark.conf_state);
    out->conf_state = SLICE_EMPTY;
    if (conf_state->len > start) /* the buffer may have no memory yet */
        out->conf_state = slice_make(conf_state->data + start, conf_state->len - start);
    pthread_mutex_unlock(&file->mutex);
    return st;
}

static enum status mem_snapshot_open(struct backend *backend, struct backend_snapshot **out)
{
    *out = NULL;
    struct mem_file *file = file_of(backend);
    pthread_mutex_lock(&file->mutex);
    enum status st = count_call(file);
    if (st == ST_OK) {
        struct mem_snapshot *snapshot = calloc(1, sizeof(*snapshot));
        ASSERT(snapshot != NULL);
        snapshot->base.backend = backend;
        snapshot->number = file->committed;
        list_push_back(&file->snapshots, &snapshot->node);
        *out = &snapshot->base;
    }
    pthread_mutex_unlock(&file->mutex);
    return st;
}

static void mem_snapshot_close(struct backend_snapshot *base)
{
    if (base == NULL)
        return;
    struct mem_snapshot *snapshot = CONTAINER_OF(base, struct mem_snapshot, base);
    struct mem_file *file = file_of(base->backend);
    pthread_mutex_lock(&file->mutex);
    list_remove(&snapshot->node);
    pthread_mutex_unlock(&file->mutex);
    free(snapshot);
}

static enum status mem_get(struct backend_snapshot *base, enum bucket bucket, struct slice key,
                           struct slice *value_out)
{
    struct mem_snapshot *snapshot = CONTAINER_OF(base, struct mem_snapshot, base);
    struct mem_file *file = file_of(base->backend);
    pthread_mutex_lock(&file->mutex);
    enum status st = count_call(file);
    if (st == ST_OK) {
        struct table *table = &file->tables[bucket];
        size_t end = position_of(table, key, /* after= */ true);
        st = ST_NOT_FOUND;
        for (size_t i = end; i > 0 && slice_eq(table->versions[i - 1]->key, key); i--) {
            const struct version *version = table->versions[i - 1];
            if (version->born <= snapshot->number && snapshot->number < version->died) {
                *value_out = version->value;
                st = ST_OK;
            }
        }
    }
    pthread_mutex_unlock(&file->mutex);
    return st;
}

static enum status mem_cursor_open(struct backend_snapshot *snapshot, enum bucket bucket,
                                   struct backend_cursor **out)
{
    *out = NULL;
    struct mem_file *file = file_of(snapshot->backend);
    pthread_mutex_lock(&file->mutex);
    enum status st = count_call(file);
    pthread_mutex_unlock(&file->mutex);
    if (st != ST_OK)
        return st;
    struct mem_cursor *cursor = calloc(1, sizeof(*cursor));
    ASSERT(cursor != NULL);
    cursor->base.snapshot = snapshot;
    cursor->table = &file->tables[bucket];
    *out = &cursor->base;
    return ST_OK;
}

static enum status cursor_gives(struct mem_cursor *cursor, struct slice *key_out,
                                struct slice *value_out)
{
    if (cursor->at == NULL)
        return ST_NOT_FOUND;
    *key_out = cursor->at->key;
    *value_out = cursor->at->value;
    return ST_OK;
}

enum move { MOVE_SEEK, MOVE_NEXT, MOVE_LAST };

static enum status cursor_move(struct backend_cursor *base, enum move move, struct slice key,
                               struct slice *key_out, struct slice *value_out)
{
    struct mem_cursor *cursor = CONTAINER_OF(base, struct mem_cursor, base);
    struct mem_file *file = file_of(base->snapshot->backend);
    uint64_t number = CONTAINER_OF(base->snapshot, struct mem_snapshot, base)->number;
    pthread_mutex_lock(&file->mutex);
    enum status st = count_call(file);
    const struct table *table = cursor->table;
    if (st != ST_OK)
        goto out;
    if (move == MOVE_SEEK) {
        cursor->at = visible_from(table, position_of(table, key, /* after= */ false), number);
    } else if (move == MOVE_NEXT) {
        if (cursor->at != NULL)
            cursor->at =
                visible_from(table, position_of(table, cursor->at->key, /* after= */ true), number);
    } else {
        cursor->at = NULL;
        for (size_t i = table->count; i > 0 && cursor->at == NULL; i--) {
            const struct version *version = table->versions[i - 1];
            if (version->born <= number && number < version->died)
                cursor->at = version;
        }
    }
    st = cursor_gives(cursor, key_out, value_out);
out:
    pthread_mutex_unlock(&file->mutex);
    return st;
}

static enum status mem_cursor_seek(struct backend_cursor *cursor, struct slice key,
                                   struct slice *key_out, struct slice *value_out)
{
    return cursor_move(cursor, MOVE_SEEK, key, key_out, value_out);
}

static enum status mem_cursor_next(struct backend_cursor *cursor, struct slice *key_out,
                                   struct slice *value_out)
{
    return cursor_move(cursor, MOVE_NEXT, SLICE_EMPTY, key_out, value_out);
}

static enum status mem_cursor_last(struct backend_cursor *cursor, struct slice *key_out,
                                   struct slice *value_out)
{
    return cursor_move(cursor, MOVE_LAST, SLICE_EMPTY, key_out, value_out);
}

static void mem_cursor_close(struct backend_cursor *cursor)
{
    if (cursor != NULL)
        free(CONTAINER_OF(cursor, struct mem_cursor, base));
}

static enum status mem_stat(struct backend *backend, struct backend_stat *out)
{
    struct mem_file *file = file_of(backend);
    pthread_mutex_lock(&file->mutex);
    *out = (struct backend_stat){.size_bytes = file->bytes + file->free_bytes,
                                 .in_use_bytes = file->bytes,
                                 .free_bytes = file->free_bytes,
                                 .room_bytes = UINT64_MAX,
                                 .commits_count = file->commits_count,
                                 .syncs_count = file->syncs_count};
    pthread_mutex_unlock(&file->mutex);
    return ST_OK;
}

static enum status mem_check(struct backend *backend, struct buf *report)
{
    (void)backend;
    (void)report;
    return ST_OK;
}

static void file_erase(struct mem_file *file)
{
    ASSERT(!file->is_open);
    for (size_t i = 0; i < BUCKETS_COUNT; i++) {
        struct table *table = &file->tables[i];
        for (size_t v = 0; v < table->count; v++)
            free(table->versions[v]);
        free(table->versions);
        *table = (struct table){0};
    }
    saved_mark_free(&file->mark);
    saved_mark_free(&file->mark_before);
    file->exists = false;
    file->bytes = file->committed = file->durable = 0;
}

static enum status mem_remove(const char *path)
{
    struct mem_file *file = file_at(path);
    pthread_mutex_lock(&file->mutex);
    file_erase(file);
    pthread_mutex_unlock(&file->mutex);
    return ST_OK;
}

const struct backend_ops *backend_mem(void)
{
    static const struct backend_ops ops = {
        .name = "mem",
        .suffix = ".mem",
        .values_are_stable = true,
        .open = mem_open,
        .close = mem_close,
        .apply = mem_apply,
        .commit = mem_commit,
        .abort = mem_abort,
        .mark = mem_mark,
        .snapshot_open = mem_snapshot_open,
        .snapshot_close = mem_snapshot_close,
        .get = mem_get,
        .cursor_open = mem_cursor_open,
        .cursor_seek = mem_cursor_seek,
        .cursor_next = mem_cursor_next,
        .cursor_last = mem_cursor_last,
        .cursor_close = mem_cursor_close,
        .stat = mem_stat,
        .check = mem_check,
        .remove = mem_remove,
    };
    return &ops;
}

void backend_mem_fail_at(const char *path, uint64_t nth, enum status st, bool lands)
{
    struct mem_file *file = file_at(path);
    pthread_mutex_lock(&file->mutex);
    file->fail_in = nth;
    file->fail_status = st;
    file->fail_lands = lands;
    file->fired = false;
    pthread_mutex_unlock(&file->mutex);
}

bool backend_mem_fault_fired(const char *path)
{
    struct mem_file *file = file_at(path);
    pthread_mutex_lock(&file->mutex);
    bool fired = file->fired;
    pthread_mutex_unlock(&file->mutex);
    return fired;
}

void backend_mem_set_full(const char *path, bool full)
{
    struct mem_file *file = file_at(path);
    pthread_mutex_lock(&file->mutex);
    file->full = full;
    pthread_mutex_unlock(&file->mutex);
}

void backend_mem_set_free(const char *path, uint64_t bytes)
{
    struct mem_file *file = file_at(path);
    pthread_mutex_lock(&file->mutex);
    file->free_bytes = bytes;
    pthread_mutex_unlock(&file->mutex);
}

void backend_mem_power_cut(const char *path, uint64_t seed)
{
    struct mem_file *file = file_at(path);
    pthread_mutex_lock(&file->mutex);
    ASSERT(!file->is_open);
    if (seed % 2 == 1 && file->durable < file->committed) {
        sweep_all(file, /* horizon= */ 0, file->durable);
        file->committed = file->durable;
        saved_mark_free(&file->mark);
        file->mark = file->mark_before;
        file->mark_before = (struct saved_mark){0};
    }
    pthread_mutex_unlock(&file->mutex);
}

uint64_t backend_mem_snapshots_count(const char *path)
{
    struct mem_file *file = file_at(path);
    uint64_t count = 0;
    pthread_mutex_lock(&file->mutex);
    LIST_FOREACH(node, &file->snapshots) count++;
    pthread_mutex_unlock(&file->mutex);
    return count;
}

void backend_mem_clear(void)
{
    pthread_mutex_lock(&files_mutex);
    for (struct list_node *node = list_pop_front(&files); node != NULL;
         node = list_pop_front(&files)) {
        struct mem_file *file = CONTAINER_OF(node, struct mem_file, node);
        file_erase(file);
        pthread_mutex_destroy(&file->mutex);
        free(file->path);
        free(file);
    }
    pthread_mutex_unlock(&files_mutex);
}
