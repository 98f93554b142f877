/* In memory: records one after the other, each with its length (4 bytes, in this machine's order)
 * in front, and an array of their offsets. In the file: runs of the same, each sorted. */
#include "tools/utl/sort.h"

#include "base/assert.h"
#include "base/minmax.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define HEAD_BYTES 4U
#define RUN_BUFFER_BYTES (32U << 10)
#define WRITE_BYTES (1U << 20)
#define ROOM_FIRST (64U << 10)

/* A run of the file while it is merged. */
struct run {
    uint64_t offset, end; /* of what is not in the buffer yet */
    uint8_t *bytes;       /* owned */
    size_t capacity, len, at;
    struct slice record; /* the one to give next */
};

struct utl_sort {
    size_t memory_bytes;
    utl_compare_fn compare;
    uint8_t *bytes; /* owned */
    size_t len, capacity;
    size_t *offsets; /* owned */
    size_t count, offsets_capacity, given;
    int fd; /* -1: none yet */
    uint64_t file_bytes;
    struct run *runs; /* owned */
    uint32_t runs_count, runs_capacity;
    uint32_t *heap; /* of runs that have a record, the smallest first; owned */
    uint32_t heap_count;
    bool merging, started;
};

static struct slice record_at(const uint8_t *bytes)
{
    uint32_t len;
    memcpy(&len, bytes, sizeof(len));
    return slice_make(bytes + HEAD_BYTES, len);
}

enum status utl_sort_new(size_t memory_bytes, utl_compare_fn compare, struct utl_sort **out)
{
    *out = calloc(1, sizeof(**out));
    if (*out == NULL)
        return ST_NO_MEMORY;
    (*out)->memory_bytes = memory_bytes;
    (*out)->compare = compare;
    (*out)->fd = -1;
    return ST_OK;
}

void utl_sort_free(struct utl_sort *sort)
{
    if (sort == NULL)
        return;
    for (uint32_t i = 0; i < sort->runs_count; i++)
        free(sort->runs[i].bytes);
    free(sort->runs);
    free(sort->heap);
    free(sort->bytes);
    free(sort->offsets);
    if (sort->fd >= 0)
        close(sort->fd);
    free(sort);
}

/* ---- the file ---- */

static enum status open_file(struct utl_sort *sort)
{
    const char *folder = getenv("TMPDIR");
    if (folder == NULL || folder[0] == '\0')
        folder = "/tmp";
    sort->fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (sort->fd >= 0)
        return ST_OK;
    char path[4096]; /* a file system without nameless files */
    if ((size_t)snprintf(path, sizeof(path), "%s/cleatutl-XXXXXX", folder) >= sizeof(path))
        return ST_IO;
    sort->fd = mkostemp(path, O_CLOEXEC);
    if (sort->fd < 0)
        return errno == ENOSPC ? ST_NO_SPACE : ST_IO;
    return unlink(path) == 0 ? ST_OK : ST_IO;
}

static enum status write_all(struct utl_sort *sort, const uint8_t *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = pwrite(sort->fd, bytes, len, (off_t)sort->file_bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == ENOSPC || errno == EDQUOT ? ST_NO_SPACE : ST_IO;
        bytes += n;
        len -= (size_t)n;
        sort->file_bytes += (uint64_t)n;
    }
    return ST_OK;
}

/* ---- in memory ---- */

static int compare_offsets(const void *a, const void *b, void *context)
{
    const struct utl_sort *sort = context;
    return sort->compare(record_at(sort->bytes + *(const size_t *)a),
                         record_at(sort->bytes + *(const size_t *)b));
}

static void sort_memory(struct utl_sort *sort)
{
    if (sort->count > 0)
        qsort_r(sort->offsets, sort->count, sizeof(*sort->offsets), compare_offsets, sort);
}

static enum status write_sorted(struct utl_sort *sort, uint8_t *room)
{
    size_t filled = 0;
    enum status st = ST_OK;
    for (size_t i = 0; i < sort->count && st == ST_OK; i++) {
        const uint8_t *record = sort->bytes + sort->offsets[i];
        size_t len = HEAD_BYTES + record_at(record).len;
        if (filled + len > WRITE_BYTES) {
            st = write_all(sort, room, filled);
            filled = 0;
        }
        if (len > WRITE_BYTES) {
            if (st == ST_OK)
                st = write_all(sort, record, len);
            continue;
        }
        memcpy(room + filled, record, len);
        filled += len;
    }
    return st == ST_OK ? write_all(sort, room, filled) : st;
}

/* What is in memory becomes a run of the file. */
static enum status spill(struct utl_sort *sort)
{
    if (sort->count == 0)
        return ST_OK;
    enum status st = sort->fd < 0 ? open_file(sort) : ST_OK;
    if (st != ST_OK)
        return st;
    if (sort->runs_count == sort->runs_capacity) {
        uint32_t capacity = max_u32(16, sort->runs_capacity * 2);
        struct run *grown = reallocarray(sort->runs, capacity, sizeof(*grown));
        if (grown == NULL)
            return ST_NO_MEMORY;
        sort->runs = grown;
        sort->runs_capacity = capacity;
    }
    uint8_t *room = malloc(WRITE_BYTES);
    if (room == NULL)
        return ST_NO_MEMORY;
    sort_memory(sort);
    struct run run = {.offset = sort->file_bytes};
    st = write_sorted(sort, room);
    free(room);
    if (st != ST_OK)
        return st;
    run.end = sort->file_bytes;
    sort->runs[sort->runs_count++] = run;
    sort->len = sort->count = 0;
    return ST_OK;
}

static enum status make_room(struct utl_sort *sort, size_t len)
{
    if (sort->capacity - sort->len < len) {
        size_t capacity =
            min_size(max_size(ROOM_FIRST, max_size(sort->capacity * 2, sort->len + len)),
                     max_size(sort->memory_bytes, len));
        uint8_t *grown = realloc(sort->bytes, capacity);
        if (grown == NULL)
            return ST_NO_MEMORY;
        sort->bytes = grown;
        sort->capacity = capacity;
    }
    if (sort->count < sort->offsets_capacity)
        return ST_OK;
    size_t capacity = max_size(1024, sort->offsets_capacity * 2);
    size_t *grown = reallocarray(sort->offsets, capacity, sizeof(*grown));
    if (grown == NULL)
        return ST_NO_MEMORY;
    sort->offsets = grown;
    sort->offsets_capacity = capacity;
    return ST_OK;
}

enum status utl_sort_add(struct utl_sort *sort, struct slice record)
{
    ASSERT(!sort->started);
    if (record.len > UINT32_MAX || HEAD_BYTES + record.len > sort->memory_bytes)
        return ST_TOO_BIG;
    size_t len = HEAD_BYTES + record.len;
    size_t used = sort->len + sort->count * sizeof(*sort->offsets);
    enum status st = used + len > sort->memory_bytes ? spill(sort) : ST_OK;
    if (st == ST_OK)
        st = make_room(sort, len);
    if (st != ST_OK)
        return st;
    uint32_t head = (uint32_t)record.len;
    memcpy(sort->bytes + sort->len, &head, HEAD_BYTES);
    if (record.len > 0)
        memcpy(sort->bytes + sort->len + HEAD_BYTES, record.data, record.len);
    sort->offsets[sort->count++] = sort->len;
    sort->len += len;
    return ST_OK;
}

/* ---- merging ---- */

static enum status fill(struct utl_sort *sort, struct run *run, size_t wanted)
{
    if (wanted > run->capacity) {
        size_t capacity = max_size(RUN_BUFFER_BYTES, wanted);
        uint8_t *grown = malloc(capacity);
        if (grown == NULL)
            return ST_NO_MEMORY;
        if (run->len > run->at)
            memcpy(grown, run->bytes + run->at, run->len - run->at);
        free(run->bytes);
        run->bytes = grown;
        run->capacity = capacity;
    } else if (run->at > 0) {
        memmove(run->bytes, run->bytes + run->at, run->len - run->at);
    }
    run->len -= run->at;
    run->at = 0;
    size_t room = (size_t)min_u64(run->capacity - run->len, run->end - run->offset);
    while (run->len < wanted && room > 0) {
        ssize_t n = pread(sort->fd, run->bytes + run->len, room, (off_t)run->offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return ST_IO;
        run->len += (size_t)n;
        run->offset += (uint64_t)n;
        room -= (size_t)n;
    }
    return run->len < wanted ? ST_IO : ST_OK;
}

/* The run's next record; ST_NOT_FOUND at its end. */
static enum status advance(struct utl_sort *sort, struct run *run)
{
    if (run->at == run->len && run->offset == run->end)
        return ST_NOT_FOUND;
    enum status st = run->len - run->at < HEAD_BYTES ? fill(sort, run, HEAD_BYTES) : ST_OK;
    if (st != ST_OK)
        return st;
    uint32_t len;
    memcpy(&len, run->bytes + run->at, HEAD_BYTES);
    if (run->len - run->at < HEAD_BYTES + (size_t)len)
        st = fill(sort, run, HEAD_BYTES + (size_t)len);
    if (st != ST_OK)
        return st;
    run->record = record_at(run->bytes + run->at);
    run->at += HEAD_BYTES + len;
    return ST_OK;
}

static bool is_before(const struct utl_sort *sort, uint32_t a, uint32_t b)
{
    return sort->compare(sort->runs[a].record, sort->runs[b].record) < 0;
}

static void sift_down(struct utl_sort *sort, uint32_t at)
{
    for (;;) {
        uint32_t least = at, left = 2 * at + 1;
        for (uint32_t child = left; child < left + 2 && child < sort->heap_count; child++)
            least = is_before(sort, sort->heap[child], sort->heap[least]) ? child : least;
        if (least == at)
            return;
        uint32_t run = sort->heap[at];
        sort->heap[at] = sort->heap[least];
        sort->heap[least] = run;
        at = least;
    }
}

static enum status begin_merge(struct utl_sort *sort)
{
    enum status st = spill(sort);
    free(sort->bytes);
    free(sort->offsets);
    sort->bytes = NULL;
    sort->offsets = NULL;
    if (st != ST_OK)
        return st;
    sort->heap = calloc(sort->runs_count, sizeof(*sort->heap));
    if (sort->heap == NULL)
        return ST_NO_MEMORY;
    for (uint32_t i = 0; i < sort->runs_count; i++) {
        st = advance(sort, &sort->runs[i]);
        if (st != ST_OK)
            return st == ST_NOT_FOUND ? ST_IO : st;
        sort->heap[sort->heap_count++] = i;
    }
    for (uint32_t i = sort->heap_count / 2; i-- > 0;)
        sift_down(sort, i);
    return ST_OK;
}

enum status utl_sort_finish(struct utl_sort *sort)
{
    ASSERT(!sort->started);
    sort->started = true;
    if (sort->runs_count > 0) {
        sort->merging = true;
        return begin_merge(sort);
    }
    sort_memory(sort);
    return ST_OK;
}

/* The run whose record was given goes on only now: the record lies in its buffer. */
static enum status merge_next(struct utl_sort *sort, struct slice *out)
{
    if (sort->given > 0 && sort->heap_count > 0) {
        enum status st = advance(sort, &sort->runs[sort->heap[0]]);
        if (st == ST_NOT_FOUND)
            sort->heap[0] = sort->heap[--sort->heap_count];
        else if (st != ST_OK)
            return st;
        sift_down(sort, 0);
    }
    if (sort->heap_count == 0)
        return ST_NOT_FOUND;
    sort->given = 1;
    *out = sort->runs[sort->heap[0]].record;
    return ST_OK;
}

enum status utl_sort_next(struct utl_sort *sort, struct slice *out)
{
    ASSERT(sort->started);
    if (sort->merging)
        return merge_next(sort, out);
    if (sort->given == sort->count)
        return ST_NOT_FOUND;
    *out = record_at(sort->bytes + sort->offsets[sort->given++]);
    return ST_OK;
}
