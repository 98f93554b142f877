/* The reader and the loader of db files on foreign bytes. The first byte chooses how much is made
 * right before, so that what lies behind it is reached too: nothing; the metas; the metas and every
 * page's id; or the rest is a configuration in JSON. Everything ends in a status, damage is named,
 * and what the reader calls sound it reads the same way again. */
#include "base/bytes.h"
#include "storage/dbfile/backend_dbfile.h"
#include "storage/dbfile/conf_json.h"
#include "storage/dbfile/format.h"
#include "storage/dbfile/loader.h"
#include "storage/dbfile/reader.h"
#include "tests/fakes/backend_mem.h"
#include "tests/fakes/fake_disk.h"

#define FILE_NAME "/file"
#define STORE_NAME "store"
#define FILE_BYTES_MAX (64U << 10)
#define PAGE 512U
#define WHY_BYTES_MAX 4096U

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
    if (!ok)
        abort();
}

/* A hash of all items, in order. */
static enum status walk(struct disk_file *file, struct buf *why, uint64_t *hash_out)
{
    struct dbfile_reader *reader;
    struct dbfile_item item;
    enum status st = dbfile_reader_open(file, why, &reader);
    *hash_out = 0;
    while (st == ST_OK && (st = dbfile_reader_next(reader, &item)) == ST_OK) {
        for (size_t i = 0; i < item.key.len; i++)
            *hash_out = *hash_out * 31 + item.key.data[i];
        for (size_t i = 0; item.kind == DBFILE_ITEM_RECORD && i < item.value.len; i++)
            *hash_out = *hash_out * 31 + item.value.data[i];
    }
    dbfile_reader_close(reader);
    return st;
}

static enum status load(struct disk_file *file, struct buf *why)
{
    struct dbfile_load_options options = {
        .file = file,
        .backend = backend_mem(),
        .target = {.path = STORE_NAME, .life_id = 1, .create = true, .why = why},
    };
    struct dbfile_loader *loader;
    enum status st = dbfile_loader_open(&options, &loader);
    for (bool done = false; st == ST_OK && !done;)
        st = dbfile_loader_step(loader, &done);
    dbfile_loader_close(loader);
    must(backend_mem()->remove(STORE_NAME) == ST_OK);
    return st;
}

/* By the backend: ends, and finds again by key whatever it gives. A hash of the records of all
 * buckets but meta, whose mark it hides. */
static enum status look(struct disk *disk, struct buf *why, uint64_t *hash_out)
{
    const struct backend_options options = {
        .path = FILE_NAME, .read_only = true, .disk = disk, .why = why};
    const struct backend_ops *ops = backend_dbfile();
    struct backend *backend;
    struct backend_snapshot *snapshot = NULL;
    *hash_out = 0;
    enum status st = ops->open(&options, &backend);
    if (st != ST_OK)
        return st;
    must(ops->snapshot_open(backend, &snapshot) == ST_OK);
    for (enum bucket bucket = 0; bucket < BUCKETS_COUNT && st == ST_OK; bucket++) {
        struct backend_cursor *cursor;
        struct slice key, value, found;
        must(ops->cursor_open(snapshot, bucket, &cursor) == ST_OK);
        st = ops->cursor_seek(cursor, SLICE_EMPTY, &key, &value);
        while (st == ST_OK) {
            for (size_t i = 0; bucket != BUCKET_META && i < key.len; i++)
                *hash_out = *hash_out * 31 + key.data[i];
            must(ops->get(snapshot, bucket, key, &found) == ST_OK && slice_eq(found, value));
            st = ops->cursor_next(cursor, &key, &value);
        }
        st = st == ST_NOT_FOUND ? ST_OK : st;
        ops->cursor_close(cursor);
    }
    ops->snapshot_close(snapshot);
    ops->close(backend);
    return st;
}

static void try_file(struct slice bytes)
{
    struct fake_disk *disk = fake_disk_new(/* seed= */ 1);
    struct disk_file *file;
    struct buf why;
    uint64_t hash, again;
    fake_disk_put(disk, FILE_NAME, bytes);
    buf_init(&why, WHY_BYTES_MAX);
    must(disk_open(fake_disk_base(disk), FILE_NAME, DISK_READ_ONLY, &file) == ST_OK);
    enum status st = walk(file, &why, &hash);
    must(st == ST_NOT_FOUND || why.len > 0);
    must(st == walk(file, NULL, &again) && hash == again);
    buf_reset(&why);
    enum status loaded = load(file, &why);
    must(loaded == ST_OK || why.len > 0);
    must(st == ST_NOT_FOUND || loaded != ST_OK); /* only what is sound is loaded */
    buf_reset(&why);
    enum status looked = look(fake_disk_base(disk), &why, &hash);
    must(loaded != ST_OK || looked == ST_OK); /* a sound file can be looked into */
    must(looked == look(fake_disk_base(disk), NULL, &again) && hash == again);
    (void)!dbfile_check_digest(file, &why);
    disk_close(file);
    buf_deinit(&why);
    fake_disk_free(disk);
}

/* Two metas in front of pages, the first of which is the root; ids made right if asked. */
static void try_pages(struct slice pages, bool with_ids)
{
    static uint8_t bytes[FILE_BYTES_MAX];
    size_t count = DBFILE_METAS_COUNT + pages.len / PAGE;
    if (count > FILE_BYTES_MAX / PAGE)
        return;
    struct dbfile_meta meta = {.page_bytes = PAGE,
                               .root = DBFILE_METAS_COUNT,
                               .free_list = DBFILE_NO_FREE_LIST,
                               .pages_count = count,
                               .transaction = 2};
    memset(bytes, 0, DBFILE_METAS_COUNT * PAGE);
    for (uint64_t id = 0; id < DBFILE_METAS_COUNT; id++)
        dbfile_meta_encode(&meta, id, bytes + id * PAGE);
    if (pages.len > 0)
        memcpy(bytes + DBFILE_METAS_COUNT * PAGE, pages.data, pages.len / PAGE * PAGE);
    for (size_t id = DBFILE_METAS_COUNT; id < count && with_ids; id++)
        put_le64(bytes + id * PAGE, id);
    try_file(slice_make(bytes, count * PAGE));
}

static void try_json(struct slice json)
{
    struct buf message, text, again;
    buf_init(&message, FILE_BYTES_MAX);
    buf_init(&text, FILE_BYTES_MAX * 4);
    buf_init(&again, FILE_BYTES_MAX);
    if (dbfile_conf_from_json(json, &message) == ST_OK) {
        must(dbfile_conf_to_json(buf_slice(&message), &text) == ST_OK);
        must(dbfile_conf_from_json(buf_slice(&text), &again) == ST_OK);
        buf_reset(&message);
        must(dbfile_conf_to_json(buf_slice(&again), &message) == ST_OK);
        must(slice_eq(buf_slice(&message), buf_slice(&text)));
    }
    buf_reset(&text);
    (void)!dbfile_conf_to_json(json, &text);
    buf_deinit(&message);
    buf_deinit(&text);
    buf_deinit(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct slice rest = slice_make(data + 1, size - 1);
    switch (data[0] % 4) {
    case 0:
        try_file(rest);
        break;
    case 1:
    case 2:
        try_pages(rest, /* with_ids= */ data[0] % 4 == 2);
        break;
    default:
        try_json(rest);
        break;
    }
    return 0;
}
