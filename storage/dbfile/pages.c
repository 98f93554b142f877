#include "storage/dbfile/pages.h"

#include "base/assert.h"
#include "storage/dbfile/limits.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#define PAGE_BYTES_MIN 512U
#define PAGE_BYTES_MAX 65536U

enum status dbfile_fail(const struct dbfile_pages *pages, enum status st, const char *format, ...)
{
    ASSERT(st != ST_OK);
    if (pages->why == NULL)
        return st;
    char line[DBFILE_WHY_BYTES_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    /* A sentence that finds no room is lost; the status is what counts. */
    enum status said = buf_printf(pages->why, "db file: %s", line);
    (void)said;
    return st;
}

enum status dbfile_fail_at(const struct dbfile_pages *pages, const struct dbfile_node *node,
                           const char *what)
{
    uint64_t offset = node->page * pages->meta.page_bytes;
    if (node->next < node->count)
        return dbfile_fail(pages, ST_CORRUPT,
                           "page %" PRIu64 " (at byte %" PRIu64 "), %selement %u of %u: %s",
                           node->page, offset, node->is_inline ? "inline bucket, " : "", node->next,
                           node->count, what);
    return dbfile_fail(pages, ST_CORRUPT, "page %" PRIu64 " (at byte %" PRIu64 ")%s: %s",
                       node->page, offset, node->is_inline ? ", inline bucket" : "", what);
}

/* Whether the window has them; where they go on from the last ones, it is filled first. */
static bool take_ahead(const struct dbfile_pages *pages, uint64_t offset, uint8_t *out, size_t len)
{
    struct dbfile_window *w = pages->window;
    if (w == NULL || len > DBFILE_AHEAD_BYTES)
        return false;
    bool follows = offset == w->next;
    w->next = offset + len;
    bool is_inside = offset >= w->offset && offset + len <= w->offset + w->len;
    if (!is_inside && follows) {
        w->offset = offset;
        if (disk_read(pages->file, offset, w->bytes, DBFILE_AHEAD_BYTES, &w->len) != ST_OK)
            w->len = 0; /* the error is said of the bytes that were asked for */
        is_inside = w->len >= len;
    }
    if (is_inside)
        memcpy(out, w->bytes + (offset - w->offset), len);
    return is_inside;
}

enum status dbfile_read_exactly(const struct dbfile_pages *pages, uint64_t offset, uint8_t *out,
                                size_t len)
{
    if (take_ahead(pages, offset, out, len))
        return ST_OK;
    size_t got = 0;
    enum status st = disk_read(pages->file, offset, out, len, &got);
    if (st != ST_OK)
        return dbfile_fail(pages, st, "cannot be read at byte %" PRIu64 ": %s", offset,
                           status_str(st));
    if (got < len)
        return dbfile_fail(pages, ST_CORRUPT, "ends at byte %" PRIu64 ", within a page",
                           offset + got);
    return ST_OK;
}

/* ---- opening ---- */

struct found_meta {
    struct dbfile_meta meta;
    uint32_t valid_count;
    bool later_version;
};

/* Looks for meta page id at offset; a page of another size than expected (0: any) is none. */
static enum status look_for_meta(const struct dbfile_pages *pages, uint64_t id, uint64_t offset,
                                 uint32_t page_bytes, struct found_meta *found)
{
    uint8_t bytes[DBFILE_META_BYTES];
    size_t got = 0;
    enum status st = disk_read(pages->file, offset, bytes, sizeof(bytes), &got);
    if (st != ST_OK)
        return dbfile_fail(pages, st, "cannot be read: %s", status_str(st));
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

static enum status find_meta(const struct dbfile_pages *pages, struct found_meta *found)
{
    *found = (struct found_meta){0};
    enum status st = look_for_meta(pages, 0, 0, /* page_bytes= */ 0, found);
    if (st == ST_OK && found->valid_count == 1)
        return look_for_meta(pages, 1, found->meta.page_bytes, found->meta.page_bytes, found);
    /* The first is damaged: the second is wherever the first page ends. */
    for (uint32_t size = PAGE_BYTES_MIN;
         size <= PAGE_BYTES_MAX && st == ST_OK && found->valid_count == 0; size *= 2)
        st = look_for_meta(pages, 1, size, size, found);
    return st;
}

static enum status check_meta(const struct dbfile_pages *pages, const struct dbfile_meta *meta)
{
    uint64_t size;
    enum status st = disk_size(pages->file, &size);
    if (st != ST_OK)
        return dbfile_fail(pages, st, "has no size: %s", status_str(st));
    if (meta->pages_count > DBFILE_PAGES_MAX)
        return dbfile_fail(pages, ST_TOO_BIG, "has %" PRIu64 " pages", meta->pages_count);
    if (meta->pages_count * meta->page_bytes > size)
        return dbfile_fail(pages, ST_CORRUPT,
                           "is cut off: %" PRIu64 " bytes, but %" PRIu64 " pages of %" PRIu32, size,
                           meta->pages_count, meta->page_bytes);
    return ST_OK;
}

enum status dbfile_pages_open(struct disk_file *file, struct buf *why, struct dbfile_pages *out)
{
    *out = (struct dbfile_pages){.file = file, .why = why};
    struct found_meta found;
    enum status st = find_meta(out, &found);
    if (st != ST_OK)
        return st;
    if (found.valid_count == 0 && found.later_version)
        return dbfile_fail(out, ST_UNSUPPORTED, "has another version than 2");
    if (found.valid_count == 0)
        return dbfile_fail(out, ST_CORRUPT, "has no valid meta page: foreign or damaged");
    out->meta = found.meta;
    out->valid_metas_count = found.valid_count;
    return check_meta(out, &found.meta);
}

/* ---- runs ---- */

/* Reads the head of the node at page. Keeps to the bounds of the file. */
static enum status begin_run(const struct dbfile_pages *pages, uint64_t page, uint8_t *bytes,
                             struct dbfile_page_head *head)
{
    uint64_t offset = page * pages->meta.page_bytes;
    *head = (struct dbfile_page_head){0};
    if (page < DBFILE_METAS_COUNT || page >= pages->meta.pages_count)
        return dbfile_fail(pages, ST_CORRUPT,
                           "page %" PRIu64 " is referred to, but there are %" PRIu64, page,
                           pages->meta.pages_count);
    enum status st = dbfile_read_exactly(pages, offset, bytes, pages->meta.page_bytes);
    if (st != ST_OK)
        return st;
    dbfile_page_head_decode(bytes, head);
    if (head->id != page)
        return dbfile_fail(pages, ST_CORRUPT,
                           "page %" PRIu64 " (at byte %" PRIu64 ") calls itself page %" PRIu64,
                           page, offset, head->id);
    if (head->overflow >= pages->meta.pages_count - page)
        return dbfile_fail(pages, ST_CORRUPT,
                           "page %" PRIu64 " (at byte %" PRIu64 ") goes on for %" PRIu32
                           " pages, past the last",
                           page, offset, head->overflow);
    return ST_OK;
}

enum status dbfile_read_run(const struct dbfile_pages *pages, uint64_t page, struct buf *out,
                            struct dbfile_page_head *head_out)
{
    uint32_t page_bytes = pages->meta.page_bytes;
    uint8_t *room;
    buf_reset(out);
    enum status st = buf_extend(out, page_bytes, &room);
    if (st == ST_OK)
        st = begin_run(pages, page, room, head_out);
    if (st != ST_OK)
        return st;
    uint64_t more = (uint64_t)head_out->overflow * page_bytes;
    if (more > DBFILE_RUN_BYTES_MAX - page_bytes)
        return dbfile_fail(pages, ST_TOO_BIG, "page %" PRIu64 " goes on for %" PRIu32 " pages",
                           page, head_out->overflow);
    if (more == 0)
        return ST_OK;
    st = buf_extend(out, (size_t)more, &room);
    return st == ST_OK ? dbfile_read_exactly(pages, (page + 1) * page_bytes, room, (size_t)more)
                       : st;
}

/* ---- nodes ---- */

static enum status begin_node(const struct dbfile_pages *pages, const struct dbfile_page_head *head,
                              bool is_root, struct dbfile_node *node)
{
    node->count = head->count;
    node->next = head->count; /* so far it is the node that dbfile_fail_at() speaks of */
    node->is_leaf = head->flags == DBFILE_LEAF;
    node->data_at = DBFILE_PAGE_HEAD_BYTES + (uint64_t)head->count * DBFILE_ELEMENT_BYTES;
    if (head->flags != DBFILE_LEAF && head->flags != DBFILE_BRANCH)
        return dbfile_fail_at(pages, node, "neither branch nor leaf");
    if (node->data_at > node->bytes.len)
        return dbfile_fail_at(pages, node, "more elements than it has room for");
    if (head->count == 0 && !(is_root && node->is_leaf))
        return dbfile_fail_at(pages, node, "no element");
    node->next = 0;
    return ST_OK;
}

enum status dbfile_node_begin(const struct dbfile_pages *pages, struct slice bytes, uint64_t page,
                              bool is_root, struct dbfile_node *out)
{
    *out = (struct dbfile_node){.bytes = bytes, .page = page};
    struct dbfile_page_head head;
    dbfile_page_head_decode(bytes.data, &head);
    return begin_node(pages, &head, is_root, out);
}

enum status dbfile_node_begin_inline(const struct dbfile_pages *pages, struct slice bytes,
                                     uint64_t page, struct dbfile_node *out)
{
    *out = (struct dbfile_node){.bytes = bytes, .page = page, .is_inline = true};
    struct dbfile_page_head head = {.flags = DBFILE_LEAF};
    if (bytes.len >= DBFILE_PAGE_HEAD_BYTES)
        dbfile_page_head_decode(bytes.data, &head);
    enum status st = begin_node(pages, &head, /* is_root= */ true, out);
    if (st == ST_OK && (!out->is_leaf || head.id != 0 || head.overflow != 0))
        return dbfile_fail_at(pages, out, "not the head of an inline bucket");
    return st;
}

static uint64_t decode_element(const struct dbfile_node *node, uint32_t index,
                               struct dbfile_element *element)
{
    uint64_t at = DBFILE_PAGE_HEAD_BYTES + (uint64_t)index * DBFILE_ELEMENT_BYTES;
    if (node->is_leaf)
        dbfile_leaf_element_decode(node->bytes.data + at, element);
    else
        dbfile_branch_element_decode(node->bytes.data + at, element);
    return at + element->position;
}

enum status dbfile_node_take(const struct dbfile_pages *pages, struct dbfile_node *node,
                             struct dbfile_element *element, struct slice *key_out,
                             struct slice *value_out)
{
    uint64_t key_at = decode_element(node, node->next, element);
    uint64_t value_at = key_at + element->key_bytes;
    uint64_t end = value_at + element->value_bytes;
    if (element->key_bytes == 0 || element->key_bytes > DBFILE_KEY_BYTES_MAX)
        return dbfile_fail_at(pages, node, "a key of no legal size");
    if (key_at != node->data_at)
        return dbfile_fail_at(pages, node, "its key does not begin where what is before it ends");
    if (end > node->bytes.len)
        return dbfile_fail_at(pages, node, "its key or value ends outside of the page");
    node->data_at = end;
    *key_out = slice_make(node->bytes.data + key_at, element->key_bytes);
    *value_out = slice_make(node->bytes.data + value_at, element->value_bytes);
    return ST_OK;
}

void dbfile_node_at(const struct dbfile_node *node, uint32_t index, struct dbfile_element *element,
                    struct slice *key_out, struct slice *value_out)
{
    ASSERT(index < node->count);
    uint64_t key_at = decode_element(node, index, element);
    *key_out = slice_make(node->bytes.data + key_at, element->key_bytes);
    *value_out = slice_make(node->bytes.data + key_at + element->key_bytes, element->value_bytes);
}
