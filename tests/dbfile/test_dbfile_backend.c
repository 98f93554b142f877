/* A db file as a backend: what is found in it is what was written, by every way of looking. */
#include "storage/dbfile/backend_dbfile.h"

#include "base/bytes.h"
#include "storage/dbfile/conf_json.h"
#include "tests/dbfile/db_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define FILE_NAME "/file"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MODELS 8U
#define DAMAGES 60U
#else
#define MODELS 24U
#define DAMAGES 250U
#endif

static enum status open_bytes(struct fake_disk *disk, struct slice bytes, struct buf *why,
                              struct backend **out)
{
    fake_disk_put(disk, FILE_NAME, bytes);
    const struct backend_options options = {
        .path = FILE_NAME, .read_only = true, .disk = fake_disk_base(disk), .why = why};
    return backend_dbfile()->open(&options, out);
}

static bool is_mark(enum bucket bucket, struct slice key)
{
    return bucket == BUCKET_META &&
           (slice_eq(key, SLICE("consistent_index")) || slice_eq(key, SLICE("term")) ||
            slice_eq(key, SLICE("confState")));
}

static void expect_record(enum status st, struct slice key, struct slice value,
                          const struct db_record *record)
{
    assert_int_equal(st, ST_OK);
    assert_true(slice_eq(key, record->key));
    assert_true(slice_eq(value, record->value));
}

/* Front to back, and each record by itself, and the places between them. */
static void expect_bucket(struct backend *backend, const struct db_model *model, enum bucket bucket)
{
    const struct backend_ops *ops = backend->ops;
    struct backend_snapshot *snapshot;
    struct backend_cursor *cursor;
    struct slice key, value;
    assert_int_equal(ops->snapshot_open(backend, &snapshot), ST_OK);
    assert_int_equal(ops->cursor_open(snapshot, bucket, &cursor), ST_OK);
    enum status st = ops->cursor_seek(cursor, SLICE_EMPTY, &key, &value);
    const struct db_record *last = NULL;
    for (size_t i = 0; i < model->count[bucket]; i++) {
        const struct db_record *record = &model->records[bucket][i];
        enum status got = ops->get(snapshot, bucket, record->key, &value);
        if (is_mark(bucket, record->key)) {
            assert_int_equal(got, ST_NOT_FOUND);
            continue;
        }
        expect_record(got, record->key, value, record);
        expect_record(st, key, record->value, record);
        last = record;
        st = ops->cursor_next(cursor, &key, &value);
    }
    assert_int_equal(st, ST_NOT_FOUND);
    assert_int_equal(ops->cursor_next(cursor, &key, &value), ST_NOT_FOUND);
    st = ops->cursor_last(cursor, &key, &value);
    if (last == NULL)
        assert_int_equal(st, ST_NOT_FOUND);
    else
        expect_record(st, key, value, last);
    ops->cursor_close(cursor);
    ops->snapshot_close(snapshot);
}

static void expect_seeks(struct backend *backend, const struct db_model *model, struct rng *rng)
{
    const struct backend_ops *ops = backend->ops;
    struct backend_snapshot *snapshot;
    struct backend_cursor *cursor;
    assert_int_equal(ops->snapshot_open(backend, &snapshot), ST_OK);
    assert_int_equal(ops->cursor_open(snapshot, BUCKET_KEY, &cursor), ST_OK);
    for (uint32_t i = 0; i < 50; i++) {
        uint8_t wanted[17];
        for (size_t j = 0; j < sizeof(wanted); j++)
            wanted[j] = (uint8_t)rng_below(rng, 256);
        size_t at = model->count[BUCKET_KEY];
        if (at > 0 && rng_below(rng, 4) > 0) { /* near one that is there */
            struct slice near = model->records[BUCKET_KEY][rng_below(rng, at)].key;
            memcpy(wanted, near.data, near.len < 16 ? near.len : 16);
        }
        struct slice key, value, from = slice_make(wanted, sizeof(wanted));
        for (at = 0; at < model->count[BUCKET_KEY] &&
                     slice_cmp(model->records[BUCKET_KEY][at].key, from) < 0;)
            at++;
        enum status st = ops->cursor_seek(cursor, from, &key, &value);
        if (at == model->count[BUCKET_KEY])
            assert_int_equal(st, ST_NOT_FOUND);
        else
            expect_record(st, key, value, &model->records[BUCKET_KEY][at]);
        st = ops->get(snapshot, BUCKET_KEY, from, &value);
        bool is_there =
            at < model->count[BUCKET_KEY] && slice_eq(model->records[BUCKET_KEY][at].key, from);
        assert_int_equal(st, is_there ? ST_OK : ST_NOT_FOUND);
    }
    ops->cursor_close(cursor);
    ops->snapshot_close(snapshot);
}

static void test_backend_gives_what_was_written(void **state)
{
    (void)state;
    static const uint32_t page_sizes[] = {512, 4096, 16384};
    struct rng rng;
    rng_seed(&rng, 3);
    for (uint32_t round = 0; round < MODELS; round++) {
        struct db_model model = {0};
        struct buf file, why;
        struct backend *backend;
        struct fake_disk *disk = fake_disk_new(round);
        buf_init(&file, 1 << 28);
        buf_init(&why, 4096);
        db_model_random(&model, &rng, round < 21 ? 200 : 2000);
        struct dbfile_source source = db_model_source(&model);
        db_write(&source, page_sizes[round % 3], &file);
        if (open_bytes(disk, buf_slice(&file), &why, &backend) != ST_OK)
            fail_msg("%.*s", (int)why.len, (const char *)why.data);
        for (enum bucket bucket = 0; bucket < BUCKETS_COUNT; bucket++)
            expect_bucket(backend, &model, bucket);
        expect_seeks(backend, &model, &rng);
        assert_int_equal(backend->ops->check(backend, &why), ST_OK);
        backend->ops->close(backend);
        fake_disk_free(disk);
        db_model_deinit(&model);
        buf_deinit(&file);
        buf_deinit(&why);
    }
}

static void test_backend_finds_the_mark_and_hides_its_records(void **state)
{
    (void)state;
    struct db_model model = {0};
    struct buf file, conf_state, expected;
    struct backend *backend;
    struct store_mark mark;
    struct fake_disk *disk = fake_disk_new(1);
    uint8_t index[8], term[8];
    put_be64(index, 77);
    put_be64(term, 5);
    buf_init(&file, 1 << 20);
    buf_init(&conf_state, 4096);
    buf_init(&expected, 4096);
    struct slice json = SLICE("{\"voters\":[1,9],\"auto_leave\":false}");
    db_model_add(&model, BUCKET_META, SLICE("confState"), json);
    db_model_add(&model, BUCKET_META, SLICE("consistent_index"), slice_make(index, 8));
    db_model_add(&model, BUCKET_META, SLICE("finishedCompactRev"), SLICE("f"));
    db_model_add(&model, BUCKET_META, SLICE("term"), slice_make(term, 8));
    struct dbfile_source source = db_model_source(&model);
    db_write(&source, 4096, &file);
    assert_int_equal(open_bytes(disk, buf_slice(&file), NULL, &backend), ST_OK);
    assert_int_equal(dbfile_conf_from_json(json, &expected), ST_OK);
    assert_int_equal(backend->ops->mark(backend, &mark, &conf_state), ST_OK);
    assert_int_equal(mark.index, 77);
    assert_int_equal(mark.term, 5);
    assert_true(slice_eq(mark.conf_state, buf_slice(&expected)));
    expect_bucket(backend, &model, BUCKET_META);
    uint64_t durable;
    const struct backend_op op = {
        .kind = BACKEND_PUT, .bucket = BUCKET_META, .key = SLICE("a"), .value = SLICE("b")};
    assert_int_equal(backend->ops->apply(backend, &op, 1), ST_UNSUPPORTED);
    assert_int_equal(backend->ops->commit(backend, &mark, true, &durable), ST_UNSUPPORTED);
    backend->ops->close(backend);
    fake_disk_free(disk);
    db_model_deinit(&model);
    buf_deinit(&file);
    buf_deinit(&conf_state);
    buf_deinit(&expected);
}

/* Looks at all there is; ends, and ends in a status. */
static enum status look_everywhere(struct backend *backend)
{
    const struct backend_ops *ops = backend->ops;
    struct backend_snapshot *snapshot;
    enum status worst = ST_OK;
    assert_int_equal(ops->snapshot_open(backend, &snapshot), ST_OK);
    for (enum bucket bucket = 0; bucket < BUCKETS_COUNT; bucket++) {
        struct backend_cursor *cursor;
        struct slice key, value, found;
        assert_int_equal(ops->cursor_open(snapshot, bucket, &cursor), ST_OK);
        enum status st = ops->cursor_seek(cursor, SLICE_EMPTY, &key, &value);
        while (st == ST_OK) {
            assert_int_equal(ops->get(snapshot, bucket, key, &found), ST_OK);
            st = ops->cursor_next(cursor, &key, &value);
        }
        worst = st == ST_NOT_FOUND ? worst : st;
        ops->cursor_close(cursor);
    }
    ops->snapshot_close(snapshot);
    return worst;
}

static void test_backend_survives_every_kind_of_damage(void **state)
{
    (void)state;
    struct rng rng;
    struct db_model model = {0};
    struct buf file, why;
    rng_seed(&rng, 9);
    buf_init(&file, 1 << 28);
    buf_init(&why, 4096);
    db_model_random(&model, &rng, 300);
    struct dbfile_source source = db_model_source(&model);
    db_write(&source, 512, &file);
    uint32_t noticed = 0;
    for (uint32_t round = 0; round < DAMAGES; round++) {
        struct fake_disk *disk = fake_disk_new(round);
        size_t at = rng_below(&rng, file.len), len = 1 + rng_below(&rng, 8);
        uint8_t before[8];
        len = at + len > file.len ? file.len - at : len;
        memcpy(before, file.data + at, len);
        for (size_t i = 0; i < len; i++)
            file.data[at + i] = round % 3 == 0 ? 0 : (uint8_t)rng_below(&rng, 256);
        struct backend *backend = NULL;
        buf_reset(&why);
        enum status st = open_bytes(disk, buf_slice(&file), &why, &backend);
        assert_true(st == ST_OK || why.len > 0);
        if (st == ST_OK)
            st = look_everywhere(backend);
        noticed += st != ST_OK;
        if (st != ST_OK && backend != NULL) {
            buf_reset(&why);
            assert_int_not_equal(backend->ops->check(backend, &why), ST_OK);
            assert_true(why.len > 0);
        }
        if (backend != NULL)
            backend->ops->close(backend);
        memcpy(file.data + at, before, len);
        fake_disk_free(disk);
    }
    assert_true(noticed > DAMAGES / 12);
    db_model_deinit(&model);
    buf_deinit(&file);
    buf_deinit(&why);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_backend_gives_what_was_written),
        cmocka_unit_test(test_backend_finds_the_mark_and_hides_its_records),
        cmocka_unit_test(test_backend_survives_every_kind_of_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
