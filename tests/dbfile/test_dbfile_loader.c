/* From a store under work, by way of a pin and a db file, to a store that holds the same. */
#include "storage/dbfile/conf_json.h"
#include "storage/dbfile/limits.h"
#include "storage/dbfile/loader.h"
#include "storage/dbfile/pin_source.h"
#include "tests/dbfile/db_fixture.h"
#include "tests/fakes/backend_mem.h"
#include "tests/mvcc/key_space.h"

#include "base/bytes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

#define FILE_BYTES_MAX (1ULL << 30)
#define KEYS 60
#define WRITES 600

static char folder[64];

static const struct backend_ops *backends(size_t i)
{
    switch (i) {
    case 0:
        return backend_mem();
    case 1:
        return backend_lmdb();
    default:
        return backend_sqlite();
    }
}
#define BACKENDS_COUNT 3

/* ---- a store with a past ---- */

static void write_transaction(struct key_space *ks, struct rng *rng)
{
    static uint8_t value[20000];
    char key[32];
    assert_int_equal(mvcc_write_begin(ks->mvcc), ST_OK);
    for (uint64_t ops = 1 + rng_below(rng, 4); ops > 0; ops--) {
        (void)snprintf(key, sizeof(key), "key%02u", (unsigned)rng_below(rng, KEYS));
        size_t len = rng_below(rng, 30) == 0 ? sizeof(value) : rng_below(rng, 100);
        memset(value, (int)rng_below(rng, 256), len);
        struct mvcc_range range = {slice_from_str(key), SLICE_EMPTY};
        int64_t deleted;
        if (rng_below(rng, 4) == 0)
            assert_int_equal(mvcc_write_delete(ks->mvcc, &range, NULL, NULL, &deleted), ST_OK);
        else
            assert_int_equal(mvcc_write_put(ks->mvcc, slice_from_str(key), slice_make(value, len),
                                            (int64_t)rng_below(rng, 3), NULL, NULL),
                             ST_OK);
    }
    (void)mvcc_write_end(ks->mvcc);
}

static void write_small(struct key_space *ks, struct rng *rng)
{
    static const enum bucket buckets[] = {BUCKET_AUTH_USERS, BUCKET_LEASE, BUCKET_MEMBERS,
                                          BUCKET_META,       BUCKET_ALARM, BUCKET_CLUSTER};
    static uint8_t key[BACKEND_KEY_BYTES_MAX];
    enum bucket bucket = buckets[rng_below(rng, sizeof(buckets) / sizeof(buckets[0]))];
    size_t len = rng_below(rng, 10) == 0 ? 1 + rng_below(rng, sizeof(key)) : 5;
    memset(key, 'a' + (int)rng_below(rng, 20), len);
    if (rng_below(rng, 4) == 0)
        assert_int_equal(store_delete(ks->store, bucket, slice_make(key, len)), ST_OK);
    else
        assert_int_equal(store_put(ks->store, bucket, slice_make(key, len), SLICE("some value")),
                         ST_OK);
}

static void write_some(struct key_space *ks, struct rng *rng, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        write_transaction(ks, rng);
        if (i % 4 == 0)
            write_small(ks, rng);
        key_space_end_entry(ks);
        if (rng_below(rng, 40) == 0)
            key_space_commit(ks);
    }
}

static void compact_half(struct key_space *ks)
{
    int64_t current, compact;
    mvcc_revisions(ks->mvcc, &current, &compact);
    assert_int_equal(mvcc_compact(ks->mvcc, (current + compact) / 2), ST_OK);
    key_space_end_entry(ks);
}

/* More than one read of a source gives, and than one piece of a file holds. */
static void write_leases(struct key_space *ks)
{
    for (uint32_t i = 0; i < 2 * DBFILE_STEP_RECORDS + 100; i++) {
        uint8_t key[8] = {0}, value[30] = {0};
        put_be32(key + 4, i);
        assert_int_equal(store_put(ks->store, BUCKET_LEASE, slice_make(key, sizeof(key)),
                                   slice_make(value, sizeof(value))),
                         ST_OK);
    }
    key_space_end_entry(ks);
}

/* One compaction finished, one begun. */
static void make_past(struct key_space *ks, struct rng *rng)
{
    write_leases(ks);
    write_some(ks, rng, WRITES / 2);
    compact_half(ks);
    key_space_trim(ks);
    write_some(ks, rng, WRITES / 2);
    compact_half(ks);
}

/* ---- out of it ---- */

struct exported {
    struct store_pin *pin;
    int64_t current, compact;
    uint32_t hash;
    struct buf file;
};

/* Takes the pin; then works on in the store between the steps of the export. */
static void export(struct key_space *ks, struct rng *rng, bool busy, struct exported *out)
{
    mvcc_revisions(ks->mvcc, &out->current, &out->compact);
    out->hash = key_space_hash(ks, 0);
    assert_int_equal(store_pin(ks->store, &out->pin), ST_OK);
    struct dbfile_pin_options options = {.store = ks->store,
                                         .lock = ks->lock,
                                         .reader = 0,
                                         .pin = out->pin,
                                         .revision = out->current};
    struct dbfile_pin_source source;
    assert_int_equal(dbfile_pin_source_init(&source, &options), ST_OK);
    struct dbfile_source records = dbfile_pin_source(&source);
    struct dbfile_writer *writer;
    assert_int_equal(dbfile_writer_new(&records, DBFILE_PAGE_BYTES, &writer), ST_OK);
    for (bool done = false; !done;) {
        assert_int_equal(dbfile_writer_measure(writer, &done), ST_OK);
        if (busy)
            write_some(ks, rng, 5);
    }
    if (busy)
        compact_half(ks);
    buf_init(&out->file, FILE_BYTES_MAX);
    for (enum status st = ST_OK; st == ST_OK;) {
        struct slice bytes;
        st = dbfile_writer_next(writer, &bytes);
        if (st == ST_OK)
            assert_int_equal(buf_append(&out->file, bytes), ST_OK);
        bool more;
        assert_int_equal(mvcc_compact_step(ks->mvcc, &more), ST_OK);
        if (busy)
            write_some(ks, rng, 5);
        key_space_commit(ks);
    }
    assert_int_equal(out->file.len, dbfile_writer_size(writer));
    dbfile_writer_free(writer);
    dbfile_pin_source_deinit(&source);
}

static void exported_deinit(struct key_space *ks, struct exported *exported)
{
    store_unpin(ks->store, exported->pin);
    buf_deinit(&exported->file);
}

/* ---- into another ---- */

static void target_path(char *out, size_t size, const struct backend_ops *ops)
{
    (void)snprintf(out, size, "%s/target%s", folder, ops->suffix);
}

static enum status load(struct slice file, const struct backend_ops *ops, const char *path,
                        const struct store_mark *expected, struct dbfile_loaded *out,
                        struct buf *why)
{
    struct db_open open;
    db_open(&open, file);
    struct dbfile_load_options options = {.file = open.file,
                                          .backend = ops,
                                          .target = {.path = path,
                                                     .life_id = KEY_SPACE_LIFE_ID,
                                                     .map_bytes_max = 4ULL << 30,
                                                     .create = true,
                                                     .why = why},
                                          .expected = expected};
    struct dbfile_loader *loader;
    enum status st = dbfile_loader_open(&options, &loader);
    for (bool done = false; st == ST_OK && !done;)
        st = dbfile_loader_step(loader, &done);
    if (st == ST_OK)
        *out = dbfile_loader_result(loader);
    out->mark.conf_state = SLICE_EMPTY; /* ends with the loader */
    dbfile_loader_close(loader);
    db_open_deinit(&open);
    return st;
}

static void expect_same(const struct exported *exported, const struct backend_ops *ops)
{
    struct key_space to;
    char path[256];
    target_path(path, sizeof(path), ops);
    struct dbfile_loaded loaded = {0};
    struct buf why;
    buf_init(&why, 4096);
    struct store_mark mark = store_pin_mark(exported->pin);
    enum status st = load(buf_slice(&exported->file), ops, path, &mark, &loaded, &why);
    if (st != ST_OK)
        fail_msg("%.*s", (int)why.len, (const char *)why.data);
    assert_int_equal(loaded.mark.index, mark.index);
    assert_int_equal(loaded.mark.term, mark.term);
    assert_int_equal(loaded.revision, exported->current);
    assert_int_equal(loaded.compact_revision, exported->compact);
    assert_int_equal(loaded.size_bytes, exported->file.len);

    key_space_init(&to, ops, path);
    key_space_open(&to);
    struct store_mark opened = store_opened_at(to.store);
    assert_int_equal(opened.index, mark.index);
    assert_int_equal(opened.term, mark.term);
    assert_true(slice_eq(opened.conf_state, mark.conf_state));
    key_space_check(&to);
    struct rng unused;
    rng_seed(&unused, 0);
    struct exported again;
    export(&to, &unused, /* busy= */ false, &again);
    assert_int_equal(again.current, exported->current);
    assert_int_equal(again.compact, exported->compact);
    assert_int_equal(again.hash, exported->hash);
    /* All of it, then: the same state makes the same file. */
    assert_true(slice_eq(buf_slice(&again.file), buf_slice(&exported->file)));
    exported_deinit(&to, &again);
    key_space_deinit(&to);
    if (ops == backend_mem())
        assert_int_equal(ops->remove(path), ST_OK);
    buf_deinit(&why);
}

static void test_a_store_goes_through_a_file_whatever_the_backends(void **state)
{
    (void)state;
    for (size_t i = 0; i < BACKENDS_COUNT; i++) {
        struct rng rng;
        rng_seed(&rng, i);
        struct key_space ks;
        char path[256];
        (void)snprintf(path, sizeof(path), "%s/source%s", folder, backends(i)->suffix);
        key_space_init(&ks, backends(i), path);
        key_space_open(&ks);
        make_past(&ks, &rng);
        struct exported exported;
        export(&ks, &rng, /* busy= */ true, &exported);
        for (size_t j = 0; j < BACKENDS_COUNT; j++)
            expect_same(&exported, backends(j));
        exported_deinit(&ks, &exported);
        key_space_deinit(&ks);
    }
    backend_mem_clear();
}

static void test_an_empty_store_goes_through_a_file(void **state)
{
    (void)state;
    struct key_space ks;
    struct rng rng;
    rng_seed(&rng, 1);
    key_space_init(&ks, backend_mem(), "empty");
    key_space_open(&ks);
    struct exported exported;
    export(&ks, &rng, /* busy= */ false, &exported);
    struct dbfile_loaded loaded = {0};
    assert_int_equal(load(buf_slice(&exported.file), backend_mem(), "other", NULL, &loaded, NULL),
                     ST_OK);
    assert_int_equal(loaded.mark.index, 0);
    assert_int_equal(loaded.revision, 1);
    assert_int_equal(loaded.compact_revision, -1);
    exported_deinit(&ks, &exported);
    key_space_deinit(&ks);
    backend_mem_clear();
}

/* A deletion that was under way when the pin was taken must not fall between the two passes. */
static void test_a_source_waits_for_deletions_to_end(void **state)
{
    (void)state;
    struct key_space ks;
    key_space_init(&ks, backend_mem(), "settle");
    key_space_open(&ks);
    (void)key_space_put(&ks, "a", "1");
    (void)key_space_put(&ks, "a", "2");
    key_space_commit(&ks);
    struct store_dead dead = {.revision = {2, 0}};
    assert_int_equal(store_forget(ks.store, &dead, 1), ST_OK);
    key_space_end_entry(&ks);
    assert_int_equal(store_seal(ks.store, /* force= */ true), ST_OK);
    /* The deletion, the commit; then no snapshot of it. */
    backend_mem_fail_at("settle", 3, ST_NO_MEMORY, /* lands= */ false);
    bool worked, done;
    assert_int_equal(store_writer_step(ks.store, &worked), ST_NO_MEMORY);
    struct store_pin *pin;
    assert_int_equal(store_pin(ks.store, &pin), ST_OK);
    struct dbfile_pin_options options = {
        .store = ks.store, .lock = ks.lock, .pin = pin, .revision = 3};
    struct dbfile_pin_source source;
    assert_int_equal(dbfile_pin_source_init(&source, &options), ST_OK);
    struct dbfile_source records = dbfile_pin_source(&source);
    struct dbfile_writer *writer;
    assert_int_equal(dbfile_writer_new(&records, DBFILE_PAGE_BYTES, &writer), ST_OK);
    assert_int_equal(dbfile_writer_measure(writer, &done), ST_BUSY);
    assert_int_equal(store_writer_step(ks.store, &worked), ST_OK);
    assert_int_equal(dbfile_writer_measure(writer, &done), ST_OK);
    dbfile_writer_free(writer);
    dbfile_pin_source_deinit(&source);
    store_unpin(ks.store, pin);
    key_space_deinit(&ks);
    backend_mem_clear();
}

/* ---- files that are well formed and wrong ---- */

static void expect_refused(struct db_model *model, const struct store_mark *expected,
                           enum status want, const char *word)
{
    struct buf file, why;
    buf_init(&file, FILE_BYTES_MAX);
    buf_init(&why, 4096);
    struct dbfile_source source = db_model_source(model);
    db_write(&source, 512, &file);
    struct dbfile_loaded loaded = {0};
    assert_int_equal(load(buf_slice(&file), backend_mem(), "refused", expected, &loaded, &why),
                     want);
    assert_int_equal(buf_append(&why, SLICE("\0")), ST_OK);
    if (strstr((const char *)why.data, word) == NULL)
        fail_msg("'%s' says nothing of '%s'", (const char *)why.data, word);
    assert_int_equal(backend_mem()->remove("refused"), ST_OK);
    buf_deinit(&file);
    buf_deinit(&why);
    db_model_deinit(model);
}

static void add_revision(struct db_model *model, struct revision revision, bool tombstone,
                         const struct mvcc_kv *kv)
{
    uint8_t key[TOMBSTONE_KEY_BYTES], record[256];
    size_t size = revision_key_encode(revision, tombstone, key);
    mvcc_kv_encode(kv, record);
    db_model_add(model, BUCKET_KEY, slice_make(key, size),
                 slice_make(record, mvcc_kv_encoded_size(kv)));
}

static void test_loader_refuses_records_that_are_none_of_etcds(void **state)
{
    (void)state;
    static const struct mvcc_kv good = {
        .key = {(const uint8_t *)"k", 1}, .create_revision = 2, .mod_revision = 2, .version = 1};
    struct db_model model = {0};
    db_model_add(&model, BUCKET_KEY, SLICE("not a revision"), SLICE("x"));
    expect_refused(&model, NULL, ST_CORRUPT, "no revision");

    add_revision(&model, (struct revision){2, 0}, false, &good);
    add_revision(&model, (struct revision){3, 0}, false, &good); /* mod_revision is 2 */
    expect_refused(&model, NULL, ST_CORRUPT, "revision 3.0");

    add_revision(&model, (struct revision){2, 0}, false, &good);
    add_revision(&model, (struct revision){2, 0}, true, &good); /* the same revision twice */
    expect_refused(&model, NULL, ST_CORRUPT, "revision 2.0");

    struct mvcc_kv far = good;
    far.mod_revision = INT64_MAX;
    add_revision(&model, (struct revision){INT64_MAX, 0}, false, &far);
    expect_refused(&model, NULL, ST_CORRUPT, "revision 9223372036854775807.0");

    uint8_t key[TOMBSTONE_KEY_BYTES];
    size_t size = revision_key_encode((struct revision){2, 0}, false, key);
    db_model_add(&model, BUCKET_KEY, slice_make(key, size), SLICE("\x0a\x7f"));
    expect_refused(&model, NULL, ST_CORRUPT, "revision 2.0");

    db_model_add(&model, BUCKET_META, SLICE("consistent_index"), SLICE("1"));
    expect_refused(&model, NULL, ST_CORRUPT, "consistent_index");
    db_model_add(&model, BUCKET_META, SLICE("finishedCompactRev"), SLICE("1"));
    expect_refused(&model, NULL, ST_CORRUPT, "finishedCompactRev");
    db_model_add(&model, BUCKET_META, SLICE("confState"), SLICE("{\"voters\":1}"));
    expect_refused(&model, NULL, ST_CORRUPT, "confState");
}

/* ---- what etcdutl's --bump-revision leaves ---- */

static void add_put(struct db_model *model, const char *key, const char *value, int64_t revision)
{
    struct mvcc_kv kv = {.key = slice_from_str(key),
                         .value = slice_from_str(value),
                         .create_revision = revision,
                         .mod_revision = revision,
                         .version = 1};
    add_revision(model, (struct revision){revision, 0}, /* tombstone= */ false, &kv);
}

/* A snapshot that was restored with a jump to revision 108: a record without a byte stands there.
 */
static void make_bumped(struct buf *file)
{
    struct db_model model = {0};
    static const char keys[][3] = {"k1", "k2", "k3", "k4", "k5", "k6"};
    static const char values[][3] = {"v1", "v2", "v3", "v4", "v5", "v6"};
    for (int64_t i = 0; i < 6; i++)
        add_put(&model, keys[i], values[i], i + 2);
    struct mvcc_kv deleted = {.key = SLICE("k2")};
    add_revision(&model, (struct revision){8, 0}, /* tombstone= */ true, &deleted);
    uint8_t bumped[TOMBSTONE_KEY_BYTES];
    size_t size = revision_key_encode((struct revision){108, 0}, /* tombstone= */ false, bumped);
    db_model_add(&model, BUCKET_KEY, slice_make(bumped, size), SLICE_EMPTY);
    db_model_add(&model, BUCKET_META, SLICE("scheduledCompactRev"), slice_make(bumped, size));
    struct dbfile_source source = db_model_source(&model);
    db_write(&source, 512, file);
    db_model_deinit(&model);
}

/* The hashes are etcd 3.5.15's own, of the same snapshot. */
static void expect_bumped(struct key_space *ks)
{
    int64_t current, compact;
    mvcc_revisions(ks->mvcc, &current, &compact);
    assert_int_equal(current, 108);
    assert_int_equal(compact, 108);
    assert_int_equal(key_space_hash(ks, 0), 2641247956U);
    char text[256];
    struct mvcc_result result;
    assert_int_equal(key_space_read(ks, "k2", SLICE("l"), 0, 0, text, sizeof(text), &result),
                     ST_OK);
    assert_int_equal(result.count, 4);
    struct mvcc_query every = {.range = {SLICE("\0"), SLICE("\0")}, .count_only = true};
    assert_int_equal(mvcc_read(ks->mvcc, 0, &every, NULL, NULL, &result), ST_OK);
    assert_int_equal(result.count, 5);
    key_space_check(ks);
}

static void test_a_jump_of_the_revision_is_as_etcd_sees_it(void **state)
{
    (void)state;
    struct buf file;
    buf_init(&file, FILE_BYTES_MAX);
    make_bumped(&file);
    struct dbfile_loaded loaded = {0};
    char path[256], checkpoint[256];
    target_path(path, sizeof(path), backend_lmdb());
    (void)snprintf(checkpoint, sizeof(checkpoint), "%s/bumped.ckpt", folder);
    assert_int_equal(load(buf_slice(&file), backend_lmdb(), path, NULL, &loaded, NULL), ST_OK);
    assert_int_equal(loaded.revision, 108);
    struct key_space ks;
    key_space_init(&ks, backend_lmdb(), path);
    (void)snprintf(ks.checkpoint_path, sizeof(ks.checkpoint_path), "%s", checkpoint);
    key_space_open(&ks);
    expect_bumped(&ks);
    key_space_trim(&ks);
    expect_bumped(&ks);
    assert_int_equal(mvcc_checkpoint(ks.mvcc), ST_OK);
    key_space_close(&ks);
    key_space_open(&ks);
    expect_bumped(&ks);
    (void)key_space_put(&ks, "a", "b");
    assert_int_equal(mvcc_compact(ks.mvcc, 109), ST_OK);
    key_space_end_entry(&ks);
    key_space_trim(&ks);
    assert_int_equal(key_space_hash(&ks, 0), 1279820716U);
    key_space_deinit(&ks);
    buf_deinit(&file);
}

static void add_mark(struct db_model *model, uint64_t index, uint64_t term)
{
    uint8_t bytes[8];
    put_be64(bytes, index);
    db_model_add(model, BUCKET_META, SLICE("consistent_index"), slice_make(bytes, 8));
    put_be64(bytes, term);
    if (term > 0)
        db_model_add(model, BUCKET_META, SLICE("term"), slice_make(bytes, 8));
}

static void test_loader_refuses_a_file_of_another_moment(void **state)
{
    (void)state;
    struct store_mark expected = {.index = 7, .term = 3, .conf_state = KEY_SPACE_CONF_STATE};
    struct db_model model = {0};
    add_mark(&model, 6, 3);
    expect_refused(&model, &expected, ST_INVALID, "entry 6 of term 3, not at 7 of term 3");
    add_mark(&model, 7, 2);
    expect_refused(&model, &expected, ST_INVALID, "entry 7 of term 2, not at 7 of term 3");
    expect_refused(&model, &expected, ST_INVALID, "entry 0");

    /* etcd before 3.5 named no term. */
    struct buf file;
    struct dbfile_loaded loaded = {0};
    buf_init(&file, FILE_BYTES_MAX);
    add_mark(&model, 7, 0);
    struct dbfile_source source = db_model_source(&model);
    db_write(&source, 512, &file);
    assert_int_equal(load(buf_slice(&file), backend_mem(), "fits", &expected, &loaded, NULL),
                     ST_OK);
    assert_int_equal(loaded.mark.term, 3);
    /* A store that is there is not added to. */
    assert_int_equal(load(buf_slice(&file), backend_mem(), "fits", &expected, &loaded, NULL),
                     ST_EXISTS);
    buf_deinit(&file);
    db_model_deinit(&model);
    backend_mem_clear();
}

static void test_loader_refuses_a_bucket_that_is_not_etcds(void **state)
{
    (void)state;
    struct db_model model = {0};
    struct buf file, why;
    buf_init(&file, FILE_BYTES_MAX);
    buf_init(&why, 4096);
    struct dbfile_source source = db_model_source(&model);
    db_write(&source, 512, &file);
    uint8_t *name = memmem(file.data, file.len, "cluster", 7);
    assert_non_null(name);
    name[6] = 's';
    struct dbfile_loaded loaded = {0};
    assert_int_equal(load(buf_slice(&file), backend_mem(), "other", NULL, &loaded, &why),
                     ST_UNSUPPORTED);
    assert_non_null(memmem(why.data, why.len, "clustes", 7));
    buf_deinit(&file);
    buf_deinit(&why);
    backend_mem_clear();
}

static struct backend_ops counting;
static uint32_t commits_count;

static enum status count_commit(struct backend *backend, const struct store_mark *mark, bool full,
                                uint64_t *durable_out)
{
    commits_count++;
    assert_int_equal(full, mark != NULL); /* only the last one says that the store is whole */
    return backend->ops->commit(backend, mark, full, durable_out);
}

static void test_loader_commits_a_large_file_in_parts(void **state)
{
    (void)state;
    counting = *backend_mem();
    counting.commit = count_commit;
    commits_count = 0;
    struct db_model model = {0};
    struct buf file;
    buf_init(&file, FILE_BYTES_MAX);
    db_model_fill(&model, BUCKET_LEASE, 5 * DBFILE_LOAD_COMMIT_BYTES / 2 >> 20, 8, 1 << 20);
    add_mark(&model, 5, 1);
    struct dbfile_source source = db_model_source(&model);
    db_write(&source, DBFILE_PAGE_BYTES, &file);
    struct dbfile_loaded loaded = {0};
    assert_int_equal(load(buf_slice(&file), &counting, "large", NULL, &loaded, NULL), ST_OK);
    assert_int_equal(commits_count, 3);
    buf_deinit(&file);
    db_model_deinit(&model);
    backend_mem_clear();
}

static void test_loader_takes_the_higher_compact_revision(void **state)
{
    (void)state;
    struct db_model model = {0};
    struct buf file;
    uint8_t key[TOMBSTONE_KEY_BYTES];
    buf_init(&file, FILE_BYTES_MAX);
    size_t size = revision_key_encode((struct revision){9, 0}, false, key);
    db_model_add(&model, BUCKET_META, SLICE("finishedCompactRev"), slice_make(key, size));
    size = revision_key_encode((struct revision){5, 0}, false, key);
    db_model_add(&model, BUCKET_META, SLICE("scheduledCompactRev"), slice_make(key, size));
    struct dbfile_source source = db_model_source(&model);
    db_write(&source, 512, &file);
    struct dbfile_loaded loaded = {0};
    assert_int_equal(load(buf_slice(&file), backend_mem(), "compact", NULL, &loaded, NULL), ST_OK);
    assert_int_equal(loaded.compact_revision, 9);
    assert_int_equal(loaded.revision, 9);
    buf_deinit(&file);
    db_model_deinit(&model);
    backend_mem_clear();
}

/* ---- a backend that fails ---- */

static void test_loader_ends_with_what_the_backend_says(void **state)
{
    (void)state;
    static const enum status faults[] = {ST_IO, ST_NO_SPACE, ST_NO_MEMORY};
    struct db_model model = {0};
    struct buf file, why;
    buf_init(&file, FILE_BYTES_MAX);
    buf_init(&why, 4096);
    db_model_fill(&model, BUCKET_LEASE, 20, 8, 10);
    struct dbfile_source source = db_model_source(&model);
    db_write(&source, 512, &file);
    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
        bool fired = true;
        uint64_t nth = 2; /* the first is the look whether there is a store */
        for (; fired; nth++) {
            struct dbfile_loaded loaded = {0};
            backend_mem_fail_at("failing", nth, faults[i], /* lands= */ false);
            enum status st = load(buf_slice(&file), backend_mem(), "failing", NULL, &loaded, &why);
            fired = backend_mem_fault_fired("failing");
            assert_int_equal(st, fired ? faults[i] : ST_OK);
            backend_mem_fail_at("failing", 0, ST_OK, false);
            assert_int_equal(backend_mem()->remove("failing"), ST_OK);
            buf_reset(&why);
        }
        assert_true(nth > 20);
    }
    buf_deinit(&file);
    buf_deinit(&why);
    db_model_deinit(&model);
    backend_mem_clear();
}

/* ---- configurations ---- */

static void expect_json(struct slice message, const char *json)
{
    struct buf text, back;
    buf_init(&text, 4096);
    buf_init(&back, 4096);
    assert_int_equal(dbfile_conf_to_json(message, &text), ST_OK);
    assert_int_equal(text.len, strlen(json));
    assert_memory_equal(text.data, json, text.len);
    assert_int_equal(dbfile_conf_from_json(buf_slice(&text), &back), ST_OK);
    if (message.len > 0)
        assert_true(slice_eq(buf_slice(&back), message));
    buf_deinit(&text);
    buf_deinit(&back);
}

static void test_configurations_as_go_writes_them(void **state)
{
    (void)state;
    expect_json(SLICE_EMPTY, "{\"auto_leave\":false}");
    expect_json(KEY_SPACE_CONF_STATE, "{\"voters\":[1],\"auto_leave\":false}");
    expect_json(SLICE("\x08\x01\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x10\x05\x18\x02\x20\x07"
                      "\x28\x01"),
                "{\"voters\":[1,18446744073709551615],\"learners\":[5],\"voters_outgoing\":[2],"
                "\"learners_next\":[7],\"auto_leave\":true}");
    static const char *const wrong[] = {
        "",
        "{",
        "[]",
        "{\"voters\":[1,]}",
        "{\"voters\":[1}",
        "{\"voters\":[-1]}",
        "{\"voters\":[18446744073709551616]}",
        "{\"voters\"[1]}",
        "{\"auto_leave\":1}",
        "{\"others\":[1]}",
        "{\"voters\":[1]}x",
        "{\"voters\":[1] \"learners\":[2]}",
    };
    struct buf out;
    buf_init(&out, 4096);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_int_equal(dbfile_conf_from_json(slice_from_str(wrong[i]), &out), ST_CORRUPT);
    assert_int_equal(dbfile_conf_to_json(SLICE("c"), &out), ST_CORRUPT);
    assert_int_equal(dbfile_conf_to_json(SLICE("\x08"), &out), ST_CORRUPT);
    assert_int_equal(dbfile_conf_to_json(SLICE("\x30\x01"), &out), ST_CORRUPT);
    buf_deinit(&out);
}

int main(void)
{
    (void)snprintf(folder, sizeof(folder), "/tmp/cleat-dbfile-XXXXXX");
    if (mkdtemp(folder) == NULL)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_store_goes_through_a_file_whatever_the_backends),
        cmocka_unit_test(test_an_empty_store_goes_through_a_file),
        cmocka_unit_test(test_a_source_waits_for_deletions_to_end),
        cmocka_unit_test(test_loader_commits_a_large_file_in_parts),
        cmocka_unit_test(test_loader_takes_the_higher_compact_revision),
        cmocka_unit_test(test_a_jump_of_the_revision_is_as_etcd_sees_it),
        cmocka_unit_test(test_loader_refuses_records_that_are_none_of_etcds),
        cmocka_unit_test(test_loader_refuses_a_file_of_another_moment),
        cmocka_unit_test(test_loader_refuses_a_bucket_that_is_not_etcds),
        cmocka_unit_test(test_loader_ends_with_what_the_backend_says),
        cmocka_unit_test(test_configurations_as_go_writes_them),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return rmdir(folder) != 0 || failed > 0;
}
