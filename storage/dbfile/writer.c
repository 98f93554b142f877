#include "storage/dbfile/writer.h"

#include "base/assert.h"
#include "base/buf.h"
#include "base/bytes.h"
#include "storage/dbfile/format.h"
#include "storage/dbfile/limits.h"

#define TRANSACTION 2U  /* even: etcd's next commit then goes to the other meta page */
#define CHILDREN_MIN 2U /* of a branch, so that each level is at most half of the one below */

/* A node under construction. While the first pass measures, it holds no data. */
struct node {
    struct dbfile_element *elements; /* owned; position: of the key in data */
    struct buf data;                 /* keys and values */
    struct buf first_key;
    uint32_t count;
    size_t data_bytes; /* that data holds, or would */
};

struct dbfile_writer {
    struct dbfile_source source;
    uint32_t page_bytes;
    uint32_t elements_max;                 /* of a node */
    struct node levels[DBFILE_LEVELS_MAX]; /* of the tree under construction, leaves first */

    /* The pass under way. */
    bool giving; /* the second */
    bool done;
    bool enough;        /* the source was asked to stop */
    enum bucket bucket; /* the one being read; BUCKETS_COUNT: all are done */
    struct buf after;   /* last key of it */
    struct buf from;    /* the same when the step began: what the source was given */
    uint64_t roots[BUCKETS_COUNT];
    uint64_t next_page;
    struct buf out; /* the step's bytes */

    /* What the first pass found. */
    uint64_t root, pages_count;
};

enum status dbfile_writer_new(const struct dbfile_source *source, uint32_t page_bytes,
                              struct dbfile_writer **out)
{
    ASSERT(dbfile_page_bytes_are_legal(page_bytes));
    *out = NULL;
    struct dbfile_writer *writer = calloc(1, sizeof(*writer));
    if (writer == NULL)
        return ST_NO_MEMORY;
    writer->source = *source;
    writer->page_bytes = page_bytes;
    writer->elements_max = page_bytes / (DBFILE_ELEMENT_BYTES + 1);
    writer->next_page = DBFILE_METAS_COUNT;
    buf_init(&writer->after, BACKEND_KEY_BYTES_MAX);
    buf_init(&writer->from, BACKEND_KEY_BYTES_MAX);
    buf_init(&writer->out, SIZE_MAX / 2);
    for (uint32_t i = 0; i < DBFILE_LEVELS_MAX; i++) {
        buf_init(&writer->levels[i].data, DBFILE_RUN_BYTES_MAX);
        buf_init(&writer->levels[i].first_key, BACKEND_KEY_BYTES_MAX);
    }
    *out = writer;
    return ST_OK;
}

void dbfile_writer_free(struct dbfile_writer *writer)
{
    if (writer == NULL)
        return;
    for (uint32_t i = 0; i < DBFILE_LEVELS_MAX; i++) {
        free(writer->levels[i].elements);
        buf_deinit(&writer->levels[i].data);
        buf_deinit(&writer->levels[i].first_key);
    }
    buf_deinit(&writer->after);
    buf_deinit(&writer->from);
    buf_deinit(&writer->out);
    free(writer);
}

/* ---- nodes ---- */

static size_t node_bytes(const struct node *node)
{
    return DBFILE_PAGE_HEAD_BYTES + node->count * DBFILE_ELEMENT_BYTES + node->data_bytes;
}

static enum status write_bytes(struct dbfile_writer *writer, const struct node *node,
                               const struct dbfile_page_head *head, size_t run_bytes)
{
    uint8_t *p;
    enum status st = buf_extend(&writer->out, run_bytes, &p);
    if (st != ST_OK)
        return st;
    uint8_t *end = p + run_bytes;
    dbfile_page_head_encode(head, p);
    p += DBFILE_PAGE_HEAD_BYTES;
    for (uint32_t i = 0; i < node->count; i++, p += DBFILE_ELEMENT_BYTES) {
        struct dbfile_element element = node->elements[i];
        element.position += (node->count - i) * DBFILE_ELEMENT_BYTES;
        if (head->flags == DBFILE_LEAF)
            dbfile_leaf_element_encode(&element, p);
        else
            dbfile_branch_element_encode(&element, p);
    }
    ASSERT(node->data.len == node->data_bytes);
    if (node->data.len > 0)
        memcpy(p, node->data.data, node->data.len);
    p += node->data.len;
    memset(p, 0, (size_t)(end - p));
    return ST_OK;
}

/* Gives the node at level its page, or pages, and writes them in the second pass. */
static enum status write_node(struct dbfile_writer *writer, uint32_t level, uint64_t *page_out)
{
    struct node *node = &writer->levels[level];
    size_t pages = (node_bytes(node) + writer->page_bytes - 1) / writer->page_bytes;
    uint64_t page = writer->next_page;
    uint64_t pages_max = writer->giving ? writer->pages_count : DBFILE_PAGES_MAX;
    if (pages > pages_max - page)
        return writer->giving ? ST_INVALID : ST_TOO_BIG;
    struct dbfile_page_head head = {.id = page,
                                    .flags = level == 0 ? DBFILE_LEAF : DBFILE_BRANCH,
                                    .count = (uint16_t)node->count,
                                    .overflow = (uint32_t)(pages - 1)};
    enum status st = ST_OK;
    if (writer->giving)
        st = write_bytes(writer, node, &head, pages * writer->page_bytes);
    writer->next_page += pages;
    *page_out = page;
    return st;
}

static void empty_node(struct node *node)
{
    buf_reset(&node->data);
    buf_reset(&node->first_key);
    node->count = 0;
    node->data_bytes = 0;
}

static bool has_room(const struct dbfile_writer *writer, const struct node *node, uint32_t level,
                     size_t bytes)
{
    if (node->count < (level == 0 ? 1 : CHILDREN_MIN))
        return true;
    return node_bytes(node) + DBFILE_ELEMENT_BYTES + bytes <= writer->page_bytes;
}

static enum status fill_element(struct dbfile_writer *writer, struct node *node,
                                struct dbfile_element element, struct slice key, struct slice value)
{
    if (node->elements == NULL) {
        node->elements = calloc(writer->elements_max, sizeof(*node->elements));
        if (node->elements == NULL)
            return ST_NO_MEMORY;
    }
    ASSERT(node->count < writer->elements_max);
    element.position = (uint32_t)node->data_bytes;
    element.key_bytes = (uint32_t)key.len;
    element.value_bytes = (uint32_t)value.len;
    node->elements[node->count] = element;
    enum status st = buf_append(&node->data, key);
    return st == ST_OK ? buf_append(&node->data, value) : st;
}

static enum status add(struct dbfile_writer *writer, uint32_t level, struct dbfile_element element,
                       struct slice key, struct slice value);

/* Writes the node at level and tells the one above; empties it. */
static enum status close_node(struct dbfile_writer *writer, uint32_t level)
{
    struct node *node = &writer->levels[level];
    struct dbfile_element above = {0};
    enum status st = write_node(writer, level, &above.child);
    if (st == ST_OK)
        st = add(writer, level + 1, above, buf_slice(&node->first_key), SLICE_EMPTY);
    empty_node(node);
    return st;
}

/* Adds one element to the node at level. Calls itself for the level above when that node is full:
 * as deep as the tree is high. */
static enum status add(struct dbfile_writer *writer, uint32_t level, struct dbfile_element element,
                       struct slice key, struct slice value)
{
    ASSERT(level < DBFILE_LEVELS_MAX); /* DBFILE_PAGES_MAX halved so often is one */
    struct node *node = &writer->levels[level];
    enum status st = ST_OK;
    if (!has_room(writer, node, level, key.len + value.len))
        st = close_node(writer, level);
    if (st == ST_OK && node->count == 0)
        st = buf_append(&node->first_key, key);
    if (st == ST_OK && writer->giving)
        st = fill_element(writer, node, element, key, value);
    node->count++;
    node->data_bytes += key.len + value.len;
    return st;
}

/* Writes what is unfinished of the tree, from its leaves up; the last page written is its root. */
static enum status end_tree(struct dbfile_writer *writer, uint64_t *root_out)
{
    enum status st = ST_OK;
    uint32_t level = 0;
    for (; st == ST_OK && writer->levels[level + 1].count > 0; level++)
        st = close_node(writer, level);
    if (st == ST_OK)
        st = write_node(writer, level, root_out);
    empty_node(&writer->levels[level]);
    return st;
}

/* ---- passes ---- */

static enum status take_record(void *context, struct slice key, struct slice value)
{
    struct dbfile_writer *writer = context;
    if (key.len == 0 || key.len > BACKEND_KEY_BYTES_MAX || value.len > DBFILE_VALUE_BYTES_MAX ||
        slice_cmp(buf_slice(&writer->after), key) >= 0)
        return ST_INVALID;
    buf_reset(&writer->after);
    enum status st = buf_append(&writer->after, key);
    if (st == ST_OK)
        st = add(writer, /* level= */ 0, (struct dbfile_element){0}, key, value);
    if (st != ST_OK)
        return st;
    writer->enough = writer->out.len >= DBFILE_CHUNK_BYTES;
    return writer->enough ? ST_BUSY : ST_OK;
}

static enum status write_metas(struct dbfile_writer *writer)
{
    struct dbfile_meta meta = {.page_bytes = writer->page_bytes,
                               .root = writer->root,
                               .free_list = DBFILE_NO_FREE_LIST,
                               .pages_count = writer->pages_count};
    for (uint64_t id = 0; id < DBFILE_METAS_COUNT; id++) {
        uint8_t *page;
        enum status st = buf_extend(&writer->out, writer->page_bytes, &page);
        if (st != ST_OK)
            return st;
        memset(page, 0, writer->page_bytes);
        meta.transaction = TRANSACTION - id;
        dbfile_meta_encode(&meta, id, page);
    }
    return ST_OK;
}

/* The tree of the buckets, last of all. */
static enum status end_pass(struct dbfile_writer *writer)
{
    enum status st = ST_OK;
    for (enum bucket bucket = 0; bucket < BUCKETS_COUNT && st == ST_OK; bucket++) {
        uint8_t value[DBFILE_BUCKET_BYTES] = {0};
        put_le64(value, writer->roots[bucket]);
        struct dbfile_element element = {.flags = DBFILE_LEAF_IS_BUCKET};
        st = add(writer, /* level= */ 0, element, slice_from_str(backend_bucket_name(bucket)),
                 slice_make(value, sizeof(value)));
    }
    uint64_t root = 0;
    if (st == ST_OK)
        st = end_tree(writer, &root);
    if (st != ST_OK)
        return st;
    if (writer->giving && (root != writer->root || writer->next_page != writer->pages_count))
        return ST_INVALID;
    writer->root = root;
    writer->pages_count = writer->next_page;
    writer->done = true;
    return ST_OK;
}

static enum status step(struct dbfile_writer *writer)
{
    if (writer->bucket == BUCKETS_COUNT)
        return end_pass(writer);
    bool end = false;
    writer->enough = false;
    buf_reset(&writer->from);
    enum status st = buf_append(&writer->from, buf_slice(&writer->after));
    if (st != ST_OK)
        return st;
    st = writer->source.read(writer->source.context, writer->bucket, buf_slice(&writer->from),
                             take_record, writer, &end);
    if (st == ST_BUSY && writer->enough)
        return ST_OK;
    if (st != ST_OK || !end)
        return st;
    st = end_tree(writer, &writer->roots[writer->bucket]);
    writer->bucket++;
    buf_reset(&writer->after);
    return st;
}

enum status dbfile_writer_measure(struct dbfile_writer *writer, bool *done_out)
{
    ASSERT(!writer->giving && !writer->done);
    enum status st = step(writer);
    *done_out = st == ST_OK && writer->done;
    return st;
}

uint64_t dbfile_writer_size(const struct dbfile_writer *writer)
{
    ASSERT(writer->pages_count > 0);
    return writer->pages_count * writer->page_bytes;
}

enum status dbfile_writer_next(struct dbfile_writer *writer, struct slice *bytes_out)
{
    ASSERT(writer->pages_count > 0);
    buf_reset(&writer->out);
    enum status st;
    if (!writer->giving) {
        writer->giving = true;
        writer->done = false;
        writer->bucket = 0;
        writer->next_page = DBFILE_METAS_COUNT;
        st = write_metas(writer);
    } else if (writer->done) {
        return ST_NOT_FOUND;
    } else {
        st = step(writer);
        if (st == ST_BUSY && writer->out.len > 0)
            st = ST_OK; /* what came before it is not to be lost */
    }
    *bytes_out = buf_slice(&writer->out);
    return st;
}
