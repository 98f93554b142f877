#include "storage/dbfile/reader.h"

#include "base/assert.h"
#include "base/digest.h"
#include "base/bytes.h"
#include "base/minmax.h"
#include "storage/dbfile/limits.h"
#include "storage/dbfile/pages.h"

#include <inttypes.h>

#define DIGEST_READ_BYTES (1U << 20)
#define SECTOR_BYTES 512U

/* A node on the path from a root to where the walk stands. */
struct frame {
    struct buf own; /* of a page's bytes; an inline bucket lies in the frame below */
    struct dbfile_node node;
};

/* What order demands of the next key of a tree. */
struct order {
    struct buf last;  /* key given last; empty: none */
    struct buf least; /* key of the branch element that led here; empty: none */
};

struct dbfile_reader {
    struct dbfile_pages pages;
    struct dbfile_window window;
    struct dbfile_info info;
    uint8_t *visited; /* a bit for each page; owned */
    struct frame frames[2 * DBFILE_LEVELS_MAX];
    uint32_t depth;
    uint32_t
        bucket_at; /* depth of the frames of the root bucket's tree, while in a bucket; else 0 */
    struct order buckets, records;
};

/* ---- opening ---- */

/* Marks a run of pages as used. */
static enum status visit(struct dbfile_reader *reader, uint64_t page, uint64_t count)
{
    for (uint64_t i = page; i < page + count; i++) {
        uint8_t *byte = &reader->visited[i / 8], bit = (uint8_t)(1U << i % 8);
        if (*byte & bit)
            return dbfile_fail(&reader->pages, ST_CORRUPT,
                               "page %" PRIu64 " (at byte %" PRIu64 ") is used twice", i,
                               i * reader->info.page_bytes);
        *byte |= bit;
    }
    reader->info.visited_pages_count += count;
    return ST_OK;
}

static enum status visit_run(struct dbfile_reader *reader, uint64_t page, struct buf *out,
                             struct dbfile_page_head *head)
{
    enum status st = dbfile_read_run(&reader->pages, page, out, head);
    return st == ST_OK ? visit(reader, page, (uint64_t)head->overflow + 1) : st;
}

static enum status check_free_list(struct dbfile_reader *reader, uint64_t page)
{
    if (page == DBFILE_NO_FREE_LIST)
        return ST_OK;
    struct dbfile_page_head head;
    enum status st = visit_run(reader, page, &reader->frames[0].own, &head);
    if (st == ST_OK && head.flags != DBFILE_FREE_LIST)
        return dbfile_fail(&reader->pages, ST_CORRUPT,
                           "page %" PRIu64 " should be the free list and is not", page);
    return st;
}

static enum status push_page(struct dbfile_reader *reader, uint64_t page, bool is_root);

static enum status open_reader(struct dbfile_reader *reader, struct disk_file *file,
                               struct buf *why)
{
    enum status st = dbfile_pages_open(file, why, &reader->pages);
    if (st != ST_OK)
        return st;
    const struct dbfile_meta *meta = &reader->pages.meta;
    reader->info = (struct dbfile_info){.page_bytes = meta->page_bytes,
                                        .size_bytes = meta->pages_count * meta->page_bytes,
                                        .transaction = meta->transaction,
                                        .valid_metas_count = reader->pages.valid_metas_count,
                                        .visited_pages_count = DBFILE_METAS_COUNT};
    reader->visited = calloc(meta->pages_count / 8 + 1, 1);
    reader->window.bytes = malloc(DBFILE_AHEAD_BYTES);
    if (reader->visited == NULL || reader->window.bytes == NULL)
        return ST_NO_MEMORY;
    reader->pages.window = &reader->window;
    st = check_free_list(reader, meta->free_list);
    return st == ST_OK ? push_page(reader, meta->root, /* is_root= */ true) : st;
}

enum status dbfile_reader_open(struct disk_file *file, struct buf *why, struct dbfile_reader **out)
{
    *out = NULL;
    struct dbfile_reader *reader = calloc(1, sizeof(*reader));
    if (reader == NULL)
        return ST_NO_MEMORY;
    for (uint32_t i = 0; i < 2 * DBFILE_LEVELS_MAX; i++)
        buf_init(&reader->frames[i].own, DBFILE_RUN_BYTES_MAX);
    buf_init(&reader->buckets.last, DBFILE_KEY_BYTES_MAX);
    buf_init(&reader->buckets.least, DBFILE_KEY_BYTES_MAX);
    buf_init(&reader->records.last, DBFILE_KEY_BYTES_MAX);
    buf_init(&reader->records.least, DBFILE_KEY_BYTES_MAX);
    enum status st = open_reader(reader, file, why);
    if (st != ST_OK) {
        dbfile_reader_close(reader);
        return st;
    }
    *out = reader;
    return ST_OK;
}

void dbfile_reader_close(struct dbfile_reader *reader)
{
    if (reader == NULL)
        return;
    for (uint32_t i = 0; i < 2 * DBFILE_LEVELS_MAX; i++)
        buf_deinit(&reader->frames[i].own);
    buf_deinit(&reader->buckets.last);
    buf_deinit(&reader->buckets.least);
    buf_deinit(&reader->records.last);
    buf_deinit(&reader->records.least);
    free(reader->window.bytes);
    free(reader->visited);
    free(reader);
}

struct dbfile_info dbfile_reader_info(const struct dbfile_reader *reader)
{
    return reader->info;
}

/* ---- the path ---- */

static enum status push_page(struct dbfile_reader *reader, uint64_t page, bool is_root)
{
    if (reader->depth - reader->bucket_at >= DBFILE_LEVELS_MAX)
        return dbfile_fail(&reader->pages, ST_CORRUPT, "page %" PRIu64 " lies too deep", page);
    struct frame *frame = &reader->frames[reader->depth];
    struct dbfile_page_head head;
    enum status st = visit_run(reader, page, &frame->own, &head);
    if (st == ST_OK)
        st = dbfile_node_begin(&reader->pages, buf_slice(&frame->own), page, is_root, &frame->node);
    if (st == ST_OK)
        reader->depth++;
    return st;
}

static enum status push_inline(struct dbfile_reader *reader, struct slice bytes)
{
    const struct frame *holder = &reader->frames[reader->depth - 1];
    struct frame *frame = &reader->frames[reader->depth];
    enum status st =
        dbfile_node_begin_inline(&reader->pages, bytes, holder->node.page, &frame->node);
    if (st == ST_OK)
        reader->depth++;
    return st;
}

/* ---- elements ---- */

/* Keys rise through the whole tree, and a branch's key stands between the child before it and what
 * is below it. */
static enum status check_order(struct dbfile_reader *reader, const struct dbfile_node *node,
                               struct order *order, struct slice key)
{
    if (slice_cmp(buf_slice(&order->last), key) >= 0)
        return dbfile_fail_at(&reader->pages, node, "its key is not above the one before");
    if (slice_cmp(buf_slice(&order->least), key) > 0)
        return dbfile_fail_at(&reader->pages, node, "its key is below that of the branch");
    struct buf *kept = node->is_leaf ? &order->last : &order->least;
    if (node->is_leaf)
        buf_reset(&order->least);
    buf_reset(kept);
    return buf_append(kept, key);
}

/* The value of a record in the root bucket's tree. */
static enum status enter_bucket(struct dbfile_reader *reader, const struct dbfile_node *node,
                                const struct dbfile_element *element, struct slice value)
{
    if (element->flags != DBFILE_LEAF_IS_BUCKET)
        return dbfile_fail_at(&reader->pages, node, "a record outside of any bucket");
    if (value.len < DBFILE_BUCKET_BYTES)
        return dbfile_fail_at(&reader->pages, node, "a bucket without its head");
    uint64_t root = get_le64(value.data);
    if (root != 0 && value.len != DBFILE_BUCKET_BYTES)
        return dbfile_fail_at(&reader->pages, node, "a bucket with a page and content of its own");
    reader->bucket_at = reader->depth;
    buf_reset(&reader->records.last);
    buf_reset(&reader->records.least);
    if (root != 0)
        return push_page(reader, root, /* is_root= */ true);
    return push_inline(
        reader, slice_make(value.data + DBFILE_BUCKET_BYTES, value.len - DBFILE_BUCKET_BYTES));
}

/* One element of the top frame. *given_out: it is an item. */
static enum status step(struct dbfile_reader *reader, struct dbfile_item *out, bool *given_out)
{
    struct dbfile_node *node = &reader->frames[reader->depth - 1].node;
    bool in_bucket = reader->bucket_at > 0;
    struct dbfile_element element;
    *given_out = false;
    enum status st = dbfile_node_take(&reader->pages, node, &element, &out->key, &out->value);
    if (st == ST_OK)
        st = check_order(reader, node, in_bucket ? &reader->records : &reader->buckets, out->key);
    if (st != ST_OK)
        return st;
    if (!node->is_leaf) {
        node->next++;
        return push_page(reader, element.child, /* is_root= */ false);
    }
    if (in_bucket && element.flags != 0)
        return dbfile_fail_at(&reader->pages, node, "a bucket within a bucket, which etcd has not");
    if (!in_bucket)
        st = enter_bucket(reader, node, &element, out->value);
    node->next++;
    *given_out = true;
    out->kind = in_bucket ? DBFILE_ITEM_RECORD : DBFILE_ITEM_BUCKET;
    return st;
}

enum status dbfile_reader_next(struct dbfile_reader *reader, struct dbfile_item *out)
{
    bool given = false;
    enum status st = ST_OK;
    while (st == ST_OK && !given) {
        if (reader->depth == 0)
            return ST_NOT_FOUND;
        const struct dbfile_node *node = &reader->frames[reader->depth - 1].node;
        if (node->next < node->count) {
            st = step(reader, out, &given);
            continue;
        }
        reader->depth--;
        if (reader->depth == reader->bucket_at)
            reader->bucket_at = 0;
    }
    return st;
}

/* ---- digest ---- */

static enum status hash_file(const struct dbfile_pages *pages, uint64_t size, uint8_t *room,
                             struct sha256 *digest)
{
    enum status st = ST_OK;
    for (uint64_t at = 0; at < size && st == ST_OK; at += DIGEST_READ_BYTES) {
        size_t len = (size_t)min_u64(DIGEST_READ_BYTES, size - at);
        st = dbfile_read_exactly(pages, at, room, len);
        if (st == ST_OK)
            st = sha256_add(digest, slice_make(room, len));
    }
    return st;
}

/* In etcdutl's words, which scripts look for. */
static enum status fail_digest(const struct dbfile_pages *pages, uint64_t size, const uint8_t *want,
                               const uint8_t *got)
{
    char texts[2][2 * SHA256_BYTES + 1];
    for (size_t i = 0; i < SHA256_BYTES; i++) {
        snprintf(texts[0] + 2 * i, 3, "%02x", want[i]);
        snprintf(texts[1] + 2 * i, 3, "%02x", got[i]);
    }
    return dbfile_fail(pages, ST_CORRUPT, "expected sha256 %s (behind byte %" PRIu64 "), got %s",
                       texts[0], size, texts[1]);
}

static enum status compare_digest(const struct dbfile_pages *pages, uint64_t size, uint8_t *room,
                                  struct sha256 *digest)
{
    uint8_t want[SHA256_BYTES] = {0}, got[SHA256_BYTES] = {0};
    enum status st = hash_file(pages, size, room, digest);
    if (st == ST_OK)
        st = sha256_end(digest, got);
    if (st == ST_OK)
        st = dbfile_read_exactly(pages, size, want, sizeof(want));
    if (st == ST_OK && memcmp(want, got, sizeof(want)) != 0)
        return fail_digest(pages, size, want, got);
    return st;
}

bool dbfile_size_has_digest(uint64_t size_bytes)
{
    return size_bytes % SECTOR_BYTES == SHA256_BYTES;
}

enum status dbfile_check_digest(struct disk_file *file, struct buf *why)
{
    const struct dbfile_pages pages = {.file = file, .why = why};
    uint64_t size;
    enum status st = disk_size(file, &size);
    if (st != ST_OK)
        return st;
    if (!dbfile_size_has_digest(size))
        return ST_NOT_FOUND;
    struct sha256 *digest;
    uint8_t *room = malloc(DIGEST_READ_BYTES);
    st = sha256_new(&digest);
    if (st == ST_OK && room == NULL)
        st = ST_NO_MEMORY;
    if (st == ST_OK)
        st = compare_digest(&pages, size - SHA256_BYTES, room, digest);
    sha256_free(digest);
    free(room);
    return st;
}
