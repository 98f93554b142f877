/* Fails the nth allocation for every n: a db file that cannot be written, read or loaded for want
 * of memory ends in ST_NO_MEMORY, leaks nothing, and works the next time. */
#include "storage/dbfile/limits.h"
#include "storage/dbfile/loader.h"
#include "tests/dbfile/db_fixture.h"
#include "tests/fakes/memory_faults.h"

#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

#define FILE_BYTES_MAX (1ULL << 30)

static char folder[64];

/* Several levels, keys and values above a page, and our mark. */
static void make_model(struct db_model *model)
{
    *model = (struct db_model){.share = 100};
    db_model_fill(model, BUCKET_AUTH_USERS, 5, 1000, 10);
    db_model_fill(model, BUCKET_LEASE, 400, 8, 5);
    db_model_fill(model, BUCKET_MEMBERS, 3, 8, 3000);
    db_model_add(model, BUCKET_META, SLICE("confState"), SLICE("{\"voters\":[1]}"));
    db_model_add(model, BUCKET_META, SLICE("consistent_index"), SLICE("\0\0\0\0\0\0\0\1"));
}

static enum status write_all(const struct dbfile_source *source, struct buf *out)
{
    struct dbfile_writer *writer;
    enum status st = dbfile_writer_new(source, /* page_bytes= */ 512, &writer);
    for (bool done = false; st == ST_OK && !done;)
        st = dbfile_writer_measure(writer, &done);
    while (st == ST_OK) {
        struct slice bytes;
        st = dbfile_writer_next(writer, &bytes);
        memory_faults_pause();
        if (st == ST_OK)
            assert_int_equal(buf_append(out, bytes), ST_OK);
        memory_faults_resume();
    }
    dbfile_writer_free(writer);
    return st == ST_NOT_FOUND ? ST_OK : st;
}

static enum status load_all(struct disk_file *file, const struct backend_ops *ops, const char *path)
{
    struct dbfile_load_options options = {
        .file = file,
        .backend = ops,
        .target = {.path = path, .life_id = 1, .map_bytes_max = 1ULL << 30, .create = true},
    };
    struct dbfile_loader *loader;
    enum status st = dbfile_loader_open(&options, &loader);
    for (bool done = false; st == ST_OK && !done;)
        st = dbfile_loader_step(loader, &done);
    if (st == ST_OK)
        assert_int_equal(dbfile_loader_result(loader).mark.index, 1);
    dbfile_loader_close(loader);
    return st;
}

/* True when the failure had come. */
static bool came(enum status st)
{
    bool fired = memory_fault_fired();
    memory_fail_at(0);
    assert_int_equal(st, fired ? ST_NO_MEMORY : ST_OK);
    return fired;
}

static void test_writer_without_memory(void **state)
{
    (void)state;
    struct db_model model;
    struct buf file;
    make_model(&model);
    struct dbfile_source source = db_model_source(&model);
    uint64_t nth = 0;
    bool fired = true;
    while (fired) {
        buf_init(&file, FILE_BYTES_MAX);
        memory_fail_at(++nth);
        fired = came(write_all(&source, &file));
        if (!fired)
            db_expect(buf_slice(&file), &model);
        buf_deinit(&file);
    }
    assert_true(nth > 20);
    db_model_deinit(&model);
}

static void with_file(struct db_model *model, struct db_open *open)
{
    struct buf file;
    make_model(model);
    struct dbfile_source source = db_model_source(model);
    buf_init(&file, FILE_BYTES_MAX);
    db_write(&source, 512, &file);
    db_open(open, buf_slice(&file));
    buf_deinit(&file);
}

static void test_reader_without_memory(void **state)
{
    (void)state;
    struct db_model model;
    struct db_open open;
    with_file(&model, &open);
    uint64_t nth = 0, items;
    do
        memory_fail_at(++nth);
    while (came(db_read(&open, &items)));
    assert_true(nth > 5);
    db_open_deinit(&open);
    db_model_deinit(&model);
}

static void test_loader_without_memory(void **state)
{
    (void)state;
    struct db_model model;
    struct db_open open;
    with_file(&model, &open);
    static const struct backend_ops *(*const backends[])(void) = {backend_lmdb, backend_sqlite};
    for (size_t i = 0; i < 2; i++) {
        const struct backend_ops *ops = backends[i]();
        char path[128];
        (void)snprintf(path, sizeof(path), "%s/store%s", folder, ops->suffix);
        uint64_t nth = 0;
        bool fired = true;
        while (fired) {
            memory_fail_at(++nth);
            fired = came(load_all(open.file, ops, path));
            assert_int_equal(ops->remove(path), ST_OK);
        }
        assert_true(nth > 5);
    }
    db_open_deinit(&open);
    db_model_deinit(&model);
}

int main(void)
{
    (void)snprintf(folder, sizeof(folder), "/tmp/cleat-dbmemory-XXXXXX");
    if (mkdtemp(folder) == NULL)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_writer_without_memory),
        cmocka_unit_test(test_reader_without_memory),
        cmocka_unit_test(test_loader_without_memory),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return rmdir(folder) != 0 || failed > 0;
}
