#include "tests/dbfile/db_fixture.h"

#include "base/bytes.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define FILE_NAME "/file"
#define FILE_BYTES_MAX (1ULL << 30)

static struct slice copy(struct slice s)
{
    uint8_t *bytes = malloc(s.len + 1);
    assert_non_null(bytes);
    if (s.len > 0)
        memcpy(bytes, s.data, s.len);
    return slice_make(bytes, s.len);
}

void db_model_deinit(struct db_model *model)
{
    for (enum bucket bucket = 0; bucket < BUCKETS_COUNT; bucket++) {
        for (size_t i = 0; i < model->count[bucket]; i++) {
            free((void *)model->records[bucket][i].key.data);
            free((void *)model->records[bucket][i].value.data);
        }
        free(model->records[bucket]);
    }
    *model = (struct db_model){0};
}

void db_model_add(struct db_model *model, enum bucket bucket, struct slice key, struct slice value)
{
    size_t count = model->count[bucket];
    if ((count & (count - 1)) == 0) { /* full at each power of two */
        size_t capacity = count == 0 ? 1 : count * 2;
        struct db_record *grown =
            realloc(model->records[bucket], capacity * sizeof(struct db_record));
        assert_non_null(grown);
        model->records[bucket] = grown;
    }
    if (count > 0)
        assert_true(slice_cmp(model->records[bucket][count - 1].key, key) < 0);
    model->records[bucket][count] = (struct db_record){copy(key), copy(value)};
    model->count[bucket]++;
}

void db_model_fill(struct db_model *model, enum bucket bucket, size_t count, size_t key_bytes,
                   size_t value_bytes)
{
    uint8_t *key = calloc(key_bytes, 1), *value = malloc(value_bytes + 1);
    assert_non_null(key);
    assert_non_null(value);
    for (size_t i = 0; i < count; i++) {
        assert_true(key_bytes >= 4);
        put_be32(key, (uint32_t)i);
        memset(value, (int)i, value_bytes);
        db_model_add(model, bucket, slice_make(key, key_bytes), slice_make(value, value_bytes));
    }
    free(key);
    free(value);
}

static size_t random_size(struct rng *rng, size_t largest)
{
    switch (rng_below(rng, 20)) {
    case 0:
        return 1 + rng_below(rng, largest);
    case 1:
    case 2:
        return 1 + rng_below(rng, 600);
    default:
        return 1 + rng_below(rng, 40);
    }
}

void db_model_random(struct db_model *model, struct rng *rng, size_t records_max)
{
    static uint8_t key[BACKEND_KEY_BYTES_MAX], value[100000];
    for (enum bucket bucket = 0; bucket < BUCKETS_COUNT; bucket++) {
        size_t count = rng_below(rng, 3) == 0 ? 0 : rng_below(rng, records_max);
        for (size_t i = 0; i < count; i++) {
            size_t key_bytes = 4 + random_size(rng, sizeof(key) - 4);
            size_t value_bytes = random_size(rng, sizeof(value)) - 1;
            memset(key, (int)rng_below(rng, 256), key_bytes);
            memset(value, (int)rng_below(rng, 256), value_bytes);
            put_be32(key, (uint32_t)i);
            db_model_add(model, bucket, slice_make(key, key_bytes), slice_make(value, value_bytes));
        }
    }
}

/* The first record above key. */
static size_t position_above(const struct db_model *model, enum bucket bucket, struct slice key)
{
    size_t low = 0, high = model->count[bucket];
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (slice_cmp(model->records[bucket][middle].key, key) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static enum status read_model(void *context, enum bucket bucket, struct slice after,
                              dbfile_record_fn fn, void *fn_context, bool *end_out)
{
    struct db_model *model = context;
    *end_out = false;
    if (model->busy && model->reads_count++ % 2 == 0)
        return ST_BUSY;
    size_t first = position_above(model, bucket, after);
    for (size_t i = first; i < model->count[bucket]; i++) {
        if (model->share > 0 && i - first == model->share)
            return ST_OK;
        const struct db_record *record = &model->records[bucket][i];
        enum status st = fn(fn_context, record->key, record->value);
        if (st != ST_OK)
            return st;
    }
    *end_out = true;
    return ST_OK;
}

struct dbfile_source db_model_source(struct db_model *model)
{
    return (struct dbfile_source){.read = read_model, .context = model};
}

void db_write(const struct dbfile_source *source, uint32_t page_bytes, struct buf *out)
{
    struct dbfile_writer *writer;
    assert_int_equal(dbfile_writer_new(source, page_bytes, &writer), ST_OK);
    for (bool done = false; !done;) {
        enum status st = dbfile_writer_measure(writer, &done);
        assert_true(st == ST_OK || st == ST_BUSY);
    }
    uint64_t size = dbfile_writer_size(writer);
    for (enum status st = ST_OK; st != ST_NOT_FOUND;) {
        struct slice bytes;
        st = dbfile_writer_next(writer, &bytes);
        assert_true(st == ST_OK || st == ST_BUSY || st == ST_NOT_FOUND);
        if (st == ST_OK)
            assert_int_equal(buf_append(out, bytes), ST_OK);
    }
    assert_int_equal(out->len, size);
    dbfile_writer_free(writer);
}

void db_open(struct db_open *open, struct slice bytes)
{
    open->disk = fake_disk_new(/* seed= */ 1);
    fake_disk_put(open->disk, FILE_NAME, bytes);
    buf_init(&open->why, 4096);
    assert_int_equal(disk_open(fake_disk_base(open->disk), FILE_NAME, DISK_READ_ONLY, &open->file),
                     ST_OK);
}

void db_open_deinit(struct db_open *open)
{
    disk_close(open->file);
    buf_deinit(&open->why);
    fake_disk_free(open->disk);
}

enum status db_read(struct db_open *open, uint64_t *items_out)
{
    *items_out = 0;
    struct dbfile_reader *reader;
    enum status st = dbfile_reader_open(open->file, &open->why, &reader);
    if (st != ST_OK)
        return st;
    struct dbfile_item item;
    for (st = dbfile_reader_next(reader, &item); st == ST_OK;
         st = dbfile_reader_next(reader, &item))
        ++*items_out;
    open->visited_pages_count = dbfile_reader_info(reader).visited_pages_count;
    dbfile_reader_close(reader);
    return st == ST_NOT_FOUND ? ST_OK : st;
}

static void expect_bucket(struct dbfile_reader *reader, const struct db_model *model,
                          enum bucket bucket)
{
    struct dbfile_item item;
    assert_int_equal(dbfile_reader_next(reader, &item), ST_OK);
    assert_int_equal(item.kind, DBFILE_ITEM_BUCKET);
    assert_true(slice_eq(item.key, slice_from_str(backend_bucket_name(bucket))));
    for (size_t i = 0; i < model->count[bucket]; i++) {
        assert_int_equal(dbfile_reader_next(reader, &item), ST_OK);
        assert_int_equal(item.kind, DBFILE_ITEM_RECORD);
        assert_true(slice_eq(item.key, model->records[bucket][i].key));
        assert_true(slice_eq(item.value, model->records[bucket][i].value));
    }
}

void db_expect(struct slice file, const struct db_model *model)
{
    struct db_open open;
    db_open(&open, file);
    struct dbfile_reader *reader;
    enum status st = dbfile_reader_open(open.file, &open.why, &reader);
    if (st != ST_OK)
        fail_msg("%.*s", (int)open.why.len, (const char *)open.why.data);
    for (enum bucket bucket = 0; bucket < BUCKETS_COUNT; bucket++)
        expect_bucket(reader, model, bucket);
    struct dbfile_item item;
    assert_int_equal(dbfile_reader_next(reader, &item), ST_NOT_FOUND);
    struct dbfile_info info = dbfile_reader_info(reader);
    assert_int_equal(info.size_bytes, file.len);
    assert_int_equal(info.valid_metas_count, 2);
    assert_int_equal(info.visited_pages_count * info.page_bytes,
                     info.size_bytes); /* none is lost */
    dbfile_reader_close(reader);
    db_open_deinit(&open);
}
