#include "storage/dbfile/reader.h"

#include "base/assert.h"
#include "base/digest.h"
#include "base/bytes.h"
#include "base/minmax.h"
#include "storage/dbfile/format.h"
#include "storage/dbfile/limits.h"

#include <inttypes.h>
#include <stdarg.h>

#define KEY_BYTES_MAX 32768U /* bbolt's */
#define PAGE_BYTES_MIN 512U
#define PAGE_BYTES_MAX 65536U
#define DIGEST_READ_BYTES (1U << 20)

/* A node on the path from a root to where the walk stands. */
struct frame {
    struct buf own;     /* of a page's bytes */
    struct slice bytes; /* own, or an inline bucket in the frame below */
    uint64_t page;      /* that the bytes are in */
    bool is_inline;
    bool is_leaf;
    uint32_t count, next; /* elements; the next one to look at */
    uint64_t data_at;     /* keys and values before it are used */
};

/* What order demands of the next key of a tree. */
struct order {
    struct buf last;  /* key given last; empty: none */
    struct buf least; /* key of the branch element that led here; empty: none */
};

struct dbfile_reader {
    struct disk_file *file; /* borrowed */
    struct buf *why;        /* borrowed, or NULL */
    struct dbfile_info info;
    uint64_t pages_count;
    uint8_t *visited; /* a bit for each page; owned */
    struct frame frames[2 * DBFILE_LEVELS_MAX];
    uint32_t depth;
    uint32_t
        bucket_at; /* depth of the frames of the root bucket's tree, while in a bucket; else 0 */
    struct order buckets, records;
};

static enum status fail(struct dbfile_reader *reader, enum status st, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static enum status fail(struct dbfile_reader *reader, enum status st, const char *format, ...)
{
    ASSERT(st != ST_OK);
    if (reader->why == NULL)
        return st;
    char line[DBFILE_WHY_BYTES_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    /* A sentence that finds no room is lost; the status is what counts. */
    enum status said = buf_printf(reader->why, "db file: %s", line);
    (void)said;
    return st;
}

/* About element `at` of a frame, or about the node itself when there is none. */
static enum status fail_at(struct dbfile_reader *reader, const struct frame *frame,
                           const char *what)
{
    uint64_t offset = frame->page * reader->info.page_bytes;
    if (frame->next < frame->count)
        return fail(reader, ST_CORRUPT,
                    "page %" PRIu64 " (at byte %" PRIu64 "), %selement %u of %u: %s", frame->page,
                    offset, frame->is_inline ? "inline bucket, " : "", frame->next, frame->count,
                    what);
    return fail(reader, ST_CORRUPT, "page %" PRIu64 " (at byte %" PRIu64 ")%s: %s", frame->page,
                offset, frame->is_inline ? ", inline bucket" : "", what);
}

static enum status read_exactly(struct dbfile_reader *reader, uint64_t offset, uint8_t *out,
                                size_t len)
{
    size_t got = 0;
    enum status st = disk_read(reader->file, offset, out, len, &got);
    if (st != ST_OK)
        return fail(reader, st, "cannot be read at byte %" PRIu64 ": %s", offset, status_str(st));
    if (got < len)
        return fail(reader, ST_CORRUPT, "ends at byte %" PRIu64 ", within a page", offset + got);
    return ST_OK;
}

/* ---- opening ---- */

struct found_meta {
    struct dbfile_meta meta;
    uint32_t valid_count;
    bool later_version;
};

/* Looks for meta page id at offset; a page of another size than expected (0: any) is none. */
static enum status look_for_meta(struct dbfile_reader *reader, uint64_t id, uint64_t offset,
                                 uint32_t page_bytes, struct found_meta *found)
{
    uint8_t bytes[DBFILE_META_BYTES];
    size_t got = 0;
    enum status st = disk_read(reader->file, offset, bytes, sizeof(bytes), &got);
    if (st != ST_OK)
        return fail(reader, st, "cannot be read: %s", status_str(st));
    if (got < sizeof(bytes))
        return ST_OK;
    struct dbfile_page_head head;
    struct dbfile_meta meta;
    dbfile_page_head_decode(bytes, &head);
    st = dbfile_meta_decode(bytes, &meta);
    found->later_version = found->later_version || st == ST_UNSUPPORTED;
    if (st != ST_OK || head.id != id || head.flags != DBFILE_META || head.count != 0 ||
        head.overflow != 0 || (page_bytes != 0 && meta.page_bytes != page_bytes))
        return ST_OK;
    if (found->valid_count == 0 || meta.transaction > found->meta.transaction)
        found->meta = meta;
    found->valid_count++;
    return ST_OK;
}

static enum status find_meta(struct dbfile_reader *reader, struct found_meta *found)
{
    *found = (struct found_meta){0};
    enum status st = look_for_meta(reader, 0, 0, /* page_bytes= */ 0, found);
    if (st == ST_OK && found->valid_count == 1)
        return look_for_meta(reader, 1, found->meta.page_bytes, found->meta.page_bytes, found);
    /* The first is damaged: the second is wherever the first page ends. */
    for (uint32_t size = PAGE_BYTES_MIN;
         size <= PAGE_BYTES_MAX && st == ST_OK && found->valid_count == 0; size *= 2)
        st = look_for_meta(reader, 1, size, size, found);
    return st;
}

static enum status check_meta(struct dbfile_reader *reader, const struct dbfile_meta *meta)
{
    uint64_t size;
    enum status st = disk_size(reader->file, &size);
    if (st != ST_OK)
        return fail(reader, st, "has no size: %s", status_str(st));
    if (meta->pages_count > DBFILE_PAGES_MAX)
        return fail(reader, ST_TOO_BIG, "has %" PRIu64 " pages", meta->pages_count);
    if (meta->pages_count * meta->page_bytes > size)
        return fail(reader, ST_CORRUPT,
                    "is cut off: %" PRIu64 " bytes, but %" PRIu64 " pages of %" PRIu32, size,
                    meta->pages_count, meta->page_bytes);
    return ST_OK;
}

/* Marks a run of pages as used. */
static enum status visit(struct dbfile_reader *reader, uint64_t page, uint64_t count)
{
    for (uint64_t i = page; i < page + count; i++) {
        uint8_t *byte = &reader->visited[i / 8], bit = (uint8_t)(1U << i % 8);
        if (*byte & bit)
            return fail(reader, ST_CORRUPT, "page %" PRIu64 " (at byte %" PRIu64 ") is used twice",
                        i, i * reader->info.page_bytes);
        *byte |= bit;
    }
    reader->info.visited_pages_count += count;
    return ST_OK;
}

/* Reads the head of the node at page and marks its pages. Keeps to the bounds of the file. */
static enum status begin_run(struct dbfile_reader *reader, uint64_t page, uint8_t *bytes,
                             struct dbfile_page_head *head)
{
    uint64_t offset = page * reader->info.page_bytes;
    *head = (struct dbfile_page_head){0};
    if (page < DBFILE_METAS_COUNT || page >= reader->pages_count)
        return fail(reader, ST_CORRUPT, "page %" PRIu64 " is referred to, but there are %" PRIu64,
                    page, reader->pages_count);
    enum status st = read_exactly(reader, offset, bytes, reader->info.page_bytes);
    if (st != ST_OK)
        return st;
    dbfile_page_head_decode(bytes, head);
    if (head->id != page)
        return fail(reader, ST_CORRUPT,
                    "page %" PRIu64 " (at byte %" PRIu64 ") calls itself page %" PRIu64, page,
                    offset, head->id);
    if (head->overflow >= reader->pages_count - page)
        return fail(reader, ST_CORRUPT,
                    "page %" PRIu64 " (at byte %" PRIu64 ") goes on for %" PRIu32
                    " pages, past the last",
                    page, offset, head->overflow);
    return visit(reader, page, (uint64_t)head->overflow + 1);
}

static enum status check_free_list(struct dbfile_reader *reader, uint64_t page)
{
    if (page == DBFILE_NO_FREE_LIST)
        return ST_OK;
    uint8_t bytes[PAGE_BYTES_MAX];
    struct dbfile_page_head head;
    enum status st = begin_run(reader, page, bytes, &head);
    if (st == ST_OK && head.flags != DBFILE_FREE_LIST)
        return fail(reader, ST_CORRUPT, "page %" PRIu64 " should be the free list and is not",
                    page);
    return st;
}

static enum status push_page(struct dbfile_reader *reader, uint64_t page, bool is_root);

static enum status open_reader(struct dbfile_reader *reader)
{
    struct found_meta found;
    enum status st = find_meta(reader, &found);
    if (st != ST_OK)
        return st;
    if (found.valid_count == 0 && found.later_version)
        return fail(reader, ST_UNSUPPORTED, "has another version than 2");
    if (found.valid_count == 0)
        return fail(reader, ST_CORRUPT, "has no valid meta page: foreign or damaged");
    st = check_meta(reader, &found.meta);
    if (st != ST_OK)
        return st;
    reader->pages_count = found.meta.pages_count;
    reader->info =
        (struct dbfile_info){.page_bytes = found.meta.page_bytes,
                             .size_bytes = found.meta.pages_count * found.meta.page_bytes,
                             .transaction = found.meta.transaction,
                             .valid_metas_count = found.valid_count,
                             .visited_pages_count = DBFILE_METAS_COUNT};
    reader->visited = calloc(reader->pages_count / 8 + 1, 1);
    if (reader->visited == NULL)
        return ST_NO_MEMORY;
    st = check_free_list(reader, found.meta.free_list);
    return st == ST_OK ? push_page(reader, found.meta.root, /* is_root= */ true) : st;
}

enum status dbfile_reader_open(struct disk_file *file, struct buf *why, struct dbfile_reader **out)
{
    *out = NULL;
    struct dbfile_reader *reader = calloc(1, sizeof(*reader));
    if (reader == NULL)
        return ST_NO_MEMORY;
    reader->file = file;
    reader->why = why;
    for (uint32_t i = 0; i < 2 * DBFILE_LEVELS_MAX; i++)
        buf_init(&reader->frames[i].own, DBFILE_RUN_BYTES_MAX);
    buf_init(&reader->buckets.last, KEY_BYTES_MAX);
    buf_init(&reader->buckets.least, KEY_BYTES_MAX);
    buf_init(&reader->records.last, KEY_BYTES_MAX);
    buf_init(&reader->records.least, KEY_BYTES_MAX);
    enum status st = open_reader(reader);
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
    free(reader->visited);
    free(reader);
}

struct dbfile_info dbfile_reader_info(const struct dbfile_reader *reader)
{
    return reader->info;
}

/* ---- the path ---- */

/* Takes the head of a node whose bytes are all there. An empty one is in place only as the root of
 * a tree without keys. */
static enum status enter_node(struct dbfile_reader *reader, struct frame *frame,
                              const struct dbfile_page_head *head, bool is_root)
{
    frame->count = head->count;
    frame->next = head->count; /* so far it is the node that fail_at() speaks of */
    frame->is_leaf = head->flags == DBFILE_LEAF;
    frame->data_at = DBFILE_PAGE_HEAD_BYTES + (uint64_t)head->count * DBFILE_ELEMENT_BYTES;
    if (head->flags != DBFILE_LEAF && head->flags != DBFILE_BRANCH)
        return fail_at(reader, frame, "neither branch nor leaf");
    if (frame->data_at > frame->bytes.len)
        return fail_at(reader, frame, "more elements than it has room for");
    if (head->count == 0 && !(is_root && frame->is_leaf))
        return fail_at(reader, frame, "no element");
    frame->next = 0;
    reader->depth++;
    return ST_OK;
}

static enum status push_page(struct dbfile_reader *reader, uint64_t page, bool is_root)
{
    if (reader->depth - reader->bucket_at >= DBFILE_LEVELS_MAX)
        return fail(reader, ST_CORRUPT, "page %" PRIu64 " lies too deep", page);
    struct frame *frame = &reader->frames[reader->depth];
    uint32_t page_bytes = reader->info.page_bytes;
    uint8_t *room;
    buf_reset(&frame->own);
    enum status st = buf_extend(&frame->own, page_bytes, &room);
    if (st != ST_OK)
        return st;
    struct dbfile_page_head head;
    st = begin_run(reader, page, room, &head);
    if (st != ST_OK)
        return st;
    uint64_t more = (uint64_t)head.overflow * page_bytes;
    if (more > DBFILE_RUN_BYTES_MAX - page_bytes)
        return fail(reader, ST_TOO_BIG, "page %" PRIu64 " goes on for %" PRIu32 " pages", page,
                    head.overflow);
    if (more > 0) {
        st = buf_extend(&frame->own, (size_t)more, &room);
        if (st == ST_OK)
            st = read_exactly(reader, (page + 1) * page_bytes, room, (size_t)more);
        if (st != ST_OK)
            return st;
    }
    frame->bytes = buf_slice(&frame->own);
    frame->page = page;
    frame->is_inline = false;
    return enter_node(reader, frame, &head, is_root);
}

static enum status push_inline(struct dbfile_reader *reader, struct slice bytes)
{
    const struct frame *holder = &reader->frames[reader->depth - 1];
    struct frame *frame = &reader->frames[reader->depth];
    frame->bytes = bytes;
    frame->page = holder->page;
    frame->is_inline = true;
    struct dbfile_page_head head = {.flags = DBFILE_LEAF};
    if (bytes.len >= DBFILE_PAGE_HEAD_BYTES)
        dbfile_page_head_decode(bytes.data, &head);
    enum status st = enter_node(reader, frame, &head, /* is_root= */ true);
    if (st == ST_OK && (!frame->is_leaf || head.id != 0 || head.overflow != 0))
        return fail_at(reader, frame, "not the head of an inline bucket");
    return st;
}

/* ---- elements ---- */

/* Decodes the frame's next element and checks that it lies in the node, right behind the one before
 * as bbolt packs them: a count of elements that is too low shows as a gap in front of the first. */
static enum status take_element(struct dbfile_reader *reader, struct frame *frame,
                                struct dbfile_element *element, struct slice *key_out,
                                struct slice *value_out)
{
    uint64_t at = DBFILE_PAGE_HEAD_BYTES + (uint64_t)frame->next * DBFILE_ELEMENT_BYTES;
    if (frame->is_leaf)
        dbfile_leaf_element_decode(frame->bytes.data + at, element);
    else
        dbfile_branch_element_decode(frame->bytes.data + at, element);
    uint64_t key_at = at + element->position;
    uint64_t value_at = key_at + element->key_bytes;
    uint64_t end = value_at + element->value_bytes;
    if (element->key_bytes == 0 || element->key_bytes > KEY_BYTES_MAX)
        return fail_at(reader, frame, "a key of no legal size");
    if (key_at != frame->data_at)
        return fail_at(reader, frame, "its key does not begin where what is before it ends");
    if (end > frame->bytes.len)
        return fail_at(reader, frame, "its key or value ends outside of the page");
    frame->data_at = end;
    *key_out = slice_make(frame->bytes.data + key_at, element->key_bytes);
    *value_out = slice_make(frame->bytes.data + value_at, element->value_bytes);
    return ST_OK;
}

/* Keys rise through the whole tree, and a branch's key stands between the child before it and what
 * is below it. */
static enum status check_order(struct dbfile_reader *reader, const struct frame *frame,
                               struct order *order, struct slice key)
{
    if (slice_cmp(buf_slice(&order->last), key) >= 0)
        return fail_at(reader, frame, "its key is not above the one before");
    if (slice_cmp(buf_slice(&order->least), key) > 0)
        return fail_at(reader, frame, "its key is below that of the branch");
    struct buf *kept = frame->is_leaf ? &order->last : &order->least;
    if (frame->is_leaf)
        buf_reset(&order->least);
    buf_reset(kept);
    return buf_append(kept, key);
}

/* The value of a record in the root bucket's tree. */
static enum status enter_bucket(struct dbfile_reader *reader, const struct frame *frame,
                                const struct dbfile_element *element, struct slice value)
{
    if (element->flags != DBFILE_LEAF_IS_BUCKET)
        return fail_at(reader, frame, "a record outside of any bucket");
    if (value.len < DBFILE_BUCKET_BYTES)
        return fail_at(reader, frame, "a bucket without its head");
    uint64_t root = get_le64(value.data);
    if (root != 0 && value.len != DBFILE_BUCKET_BYTES)
        return fail_at(reader, frame, "a bucket with a page and content of its own");
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
    struct frame *frame = &reader->frames[reader->depth - 1];
    bool in_bucket = reader->bucket_at > 0;
    struct dbfile_element element;
    *given_out = false;
    enum status st = take_element(reader, frame, &element, &out->key, &out->value);
    if (st == ST_OK)
        st = check_order(reader, frame, in_bucket ? &reader->records : &reader->buckets, out->key);
    if (st != ST_OK)
        return st;
    if (!frame->is_leaf) {
        frame->next++;
        return push_page(reader, element.child, /* is_root= */ false);
    }
    if (in_bucket && element.flags != 0)
        return fail_at(reader, frame, "a bucket within a bucket, which etcd has not");
    if (!in_bucket)
        st = enter_bucket(reader, frame, &element, out->value);
    frame->next++;
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
        const struct frame *frame = &reader->frames[reader->depth - 1];
        if (frame->next < frame->count) {
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

static enum status hash_file(struct dbfile_reader *reader, uint64_t size, uint8_t *room,
                             struct sha256 *digest)
{
    enum status st = ST_OK;
    for (uint64_t at = 0; at < size && st == ST_OK; at += DIGEST_READ_BYTES) {
        size_t len = (size_t)min_u64(DIGEST_READ_BYTES, size - at);
        st = read_exactly(reader, at, room, len);
        if (st == ST_OK)
            st = sha256_add(digest, slice_make(room, len));
    }
    return st;
}

static enum status compare_digest(struct dbfile_reader *reader, uint64_t size, uint8_t *room,
                                  struct sha256 *digest)
{
    uint8_t want[SHA256_BYTES] = {0}, got[SHA256_BYTES] = {0};
    enum status st = hash_file(reader, size, room, digest);
    if (st == ST_OK)
        st = sha256_end(digest, got);
    if (st == ST_OK)
        st = read_exactly(reader, size, want, sizeof(want));
    if (st == ST_OK && memcmp(want, got, sizeof(want)) != 0)
        return fail(reader, ST_CORRUPT,
                    "the SHA-256 at its end, behind byte %" PRIu64 ", is not that of its content",
                    size);
    return st;
}

enum status dbfile_check_digest(struct disk_file *file, struct buf *why)
{
    struct dbfile_reader reader = {.file = file, .why = why};
    uint64_t size;
    enum status st = disk_size(file, &size);
    if (st != ST_OK)
        return st;
    if (size % PAGE_BYTES_MIN != SHA256_BYTES)
        return ST_NOT_FOUND;
    struct sha256 *digest;
    uint8_t *room = malloc(DIGEST_READ_BYTES);
    st = sha256_new(&digest);
    if (st == ST_OK && room == NULL)
        st = ST_NO_MEMORY;
    if (st == ST_OK)
        st = compare_digest(&reader, size - SHA256_BYTES, room, digest);
    sha256_free(digest);
    free(room);
    return st;
}
