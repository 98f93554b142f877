/* The writer, by way of the reader: what goes in comes out, whatever the sizes. */
#include "storage/dbfile/format.h"
#include "storage/dbfile/limits.h"
#include "tests/dbfile/db_fixture.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* The metas name the last page as the root and say that no free list is kept; a node takes more
 * than a page only when it holds the least that it may hold. */
static void expect_layout(struct slice file, uint32_t page_bytes)
{
    uint64_t pages_count = file.len / page_bytes;
    for (uint64_t page = 0; page < DBFILE_METAS_COUNT; page++) {
        struct dbfile_meta meta;
        assert_int_equal(dbfile_meta_decode(file.data + page * page_bytes, &meta), ST_OK);
        assert_int_equal(meta.page_bytes, page_bytes);
        assert_int_equal(meta.root, pages_count - 1);
        assert_true(meta.free_list == DBFILE_NO_FREE_LIST);
        assert_int_equal(meta.pages_count, pages_count);
        assert_int_equal(meta.transaction, 2 - page); /* etcd's next commit goes to page 1 */
    }
    struct dbfile_page_head head;
    for (uint64_t page = DBFILE_METAS_COUNT; page < pages_count; page += head.overflow + 1) {
        dbfile_page_head_decode(file.data + page * page_bytes, &head);
        assert_int_equal(head.id, page);
        if (head.overflow > 0)
            assert_true(head.count <= (head.flags == DBFILE_LEAF ? 1 : 2));
    }
}

static void expect_round_trip(struct db_model *model, uint32_t page_bytes)
{
    struct buf file;
    buf_init(&file, SIZE_MAX / 2);
    struct dbfile_source source = db_model_source(model);
    db_write(&source, page_bytes, &file);
    db_expect(buf_slice(&file), model);
    expect_layout(buf_slice(&file), page_bytes);
    buf_deinit(&file);
}

static void test_writer_writes_empty_buckets_in_every_page_size(void **state)
{
    (void)state;
    for (uint32_t page_bytes = 512; page_bytes <= 65536; page_bytes *= 2) {
        struct db_model model = {0};
        expect_round_trip(&model, page_bytes);
    }
}

/* Around the sizes at which a leaf is just full, and at which a record takes a page more. */
static void test_writer_fills_pages_to_the_last_byte(void **state)
{
    (void)state;
    for (size_t value_bytes = 440; value_bytes < 520; value_bytes++) {
        struct db_model model = {0};
        db_model_fill(&model, BUCKET_KEY, 3, 17, value_bytes);
        expect_round_trip(&model, 512);
        db_model_deinit(&model);
    }
    for (size_t value_bytes = 0; value_bytes < 200; value_bytes++) {
        struct db_model model = {0};
        db_model_fill(&model, BUCKET_KEY, 40, 18, value_bytes);
        expect_round_trip(&model, 512);
        db_model_deinit(&model);
    }
}

static void test_writer_builds_trees_of_many_levels(void **state)
{
    (void)state;
    for (size_t count = 1; count < 30000; count = count * 7 / 4 + 1) {
        struct db_model model = {.share = 1000};
        db_model_fill(&model, BUCKET_KEY, count, 17, 3);
        expect_round_trip(&model, 512);
        db_model_deinit(&model);
    }
}

static void test_writer_takes_keys_larger_than_a_page(void **state)
{
    (void)state;
    struct db_model model = {0};
    db_model_fill(&model, BUCKET_AUTH_USERS, 40, 32768, 10); /* two children a branch */
    db_model_fill(&model, BUCKET_AUTH_ROLES, 300, 300, 10);
    expect_round_trip(&model, 512);
    expect_round_trip(&model, 4096);
    db_model_deinit(&model);
}

static void test_writer_takes_large_values(void **state)
{
    (void)state;
    struct db_model model = {0};
    db_model_fill(&model, BUCKET_KEY, 5, 17, 3 << 20);
    expect_round_trip(&model, 4096);
    expect_round_trip(&model, 65536);
    db_model_deinit(&model);
}

static void test_writer_round_trips_random_stores(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 60; seed++) {
        struct rng rng;
        rng_seed(&rng, seed);
        struct db_model model = {.share = rng_below(&rng, 50), .busy = seed % 2 == 0};
        db_model_random(&model, &rng, 150);
        expect_round_trip(&model, 512U << rng_below(&rng, 8));
        db_model_deinit(&model);
    }
}

static void test_writer_gives_bounded_pieces(void **state)
{
    (void)state;
    struct db_model model = {0};
    db_model_fill(&model, BUCKET_KEY, 50000, 17, 100);
    struct dbfile_source source = db_model_source(&model);
    struct dbfile_writer *writer;
    assert_int_equal(dbfile_writer_new(&source, DBFILE_PAGE_BYTES, &writer), ST_OK);
    for (bool done = false; !done;)
        assert_int_equal(dbfile_writer_measure(writer, &done), ST_OK);
    enum status st;
    struct slice bytes;
    uint64_t given = 0;
    for (st = dbfile_writer_next(writer, &bytes); st == ST_OK;
         st = dbfile_writer_next(writer, &bytes)) {
        assert_true(bytes.len <= DBFILE_CHUNK_BYTES + DBFILE_PAGE_BYTES * DBFILE_LEVELS_MAX);
        given += bytes.len;
    }
    assert_int_equal(st, ST_NOT_FOUND);
    assert_int_equal(given, dbfile_writer_size(writer));
    dbfile_writer_free(writer);
    db_model_deinit(&model);
}

/* The first pass over the model, the second over the other one. */
static enum status write_other(struct db_model *model, const struct db_model *other)
{
    struct dbfile_source source = db_model_source(model);
    struct dbfile_writer *writer;
    assert_int_equal(dbfile_writer_new(&source, DBFILE_PAGE_BYTES, &writer), ST_OK);
    for (bool done = false; !done;)
        assert_int_equal(dbfile_writer_measure(writer, &done), ST_OK);
    struct db_model kept = *model;
    *model = *other;
    enum status st = ST_OK;
    struct slice bytes;
    uint64_t given = 0;
    while (st == ST_OK) {
        st = dbfile_writer_next(writer, &bytes);
        given += st == ST_OK ? bytes.len : 0;
    }
    assert_true(given <= dbfile_writer_size(writer)); /* no byte above what was promised */
    dbfile_writer_free(writer);
    *model = kept;
    return st;
}

static void test_writer_refuses_a_source_that_changes(void **state)
{
    (void)state;
    static const enum bucket buckets[] = {BUCKET_ALARM, BUCKET_KEY, BUCKET_META};
    for (size_t i = 0; i < sizeof(buckets) / sizeof(buckets[0]); i++) {
        struct db_model model = {0}, more = {0};
        db_model_fill(&model, BUCKET_KEY, 100, 17, 10);
        db_model_fill(&more, BUCKET_KEY, i == 1 ? 90 : 100, 17, 10);
        db_model_fill(&more, buckets[i] == BUCKET_KEY ? BUCKET_LEASE : buckets[i], 10, 17, 1000);
        assert_int_equal(write_other(&model, &more), ST_INVALID);
        assert_int_equal(write_other(&more, &model), ST_INVALID);
        assert_int_equal(write_other(&more, &more), ST_NOT_FOUND);
        db_model_deinit(&model);
        db_model_deinit(&more);
    }
}

struct bad_record {
    struct slice key, value;
};

static enum status read_bad(void *context, enum bucket bucket, struct slice after,
                            dbfile_record_fn fn, void *fn_context, bool *end_out)
{
    const struct bad_record *record = context;
    (void)bucket, (void)after;
    *end_out = true;
    enum status st = fn(fn_context, SLICE("m"), SLICE_EMPTY);
    return st == ST_OK ? fn(fn_context, record->key, record->value) : st;
}

static void test_writer_refuses_what_no_db_file_holds(void **state)
{
    (void)state;
    static uint8_t long_key[BACKEND_KEY_BYTES_MAX + 1] = "z";
    struct bad_record records[] = {
        {SLICE("m"), SLICE_EMPTY}, /* twice */
        {SLICE("a"), SLICE_EMPTY}, /* out of order */
        {SLICE_EMPTY, SLICE_EMPTY},
        {{long_key, sizeof(long_key)}, SLICE_EMPTY},
        {SLICE("n"), {long_key, (size_t)DBFILE_VALUE_BYTES_MAX + 1}}, /* not looked at */
    };
    for (size_t i = 0; i < sizeof(records) / sizeof(records[0]); i++) {
        struct dbfile_source source = {.read = read_bad, .context = &records[i]};
        struct dbfile_writer *writer;
        bool done;
        assert_int_equal(dbfile_writer_new(&source, DBFILE_PAGE_BYTES, &writer), ST_OK);
        assert_int_equal(dbfile_writer_measure(writer, &done), ST_INVALID);
        dbfile_writer_free(writer);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_writer_writes_empty_buckets_in_every_page_size),
        cmocka_unit_test(test_writer_fills_pages_to_the_last_byte),
        cmocka_unit_test(test_writer_builds_trees_of_many_levels),
        cmocka_unit_test(test_writer_takes_keys_larger_than_a_page),
        cmocka_unit_test(test_writer_takes_large_values),
        cmocka_unit_test(test_writer_round_trips_random_stores),
        cmocka_unit_test(test_writer_gives_bounded_pieces),
        cmocka_unit_test(test_writer_refuses_a_source_that_changes),
        cmocka_unit_test(test_writer_refuses_what_no_db_file_holds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
