/* A snapshot file is there whole, or not at all, whatever fails; and nothing is overwritten. */
#include "storage/dbfile/reader.h"
#include "tests/fakes/dying.h"
#include "tests/utl/maker_fixture.h"
#include "tools/utl/snapshot_file.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/wait.h>
/* cmocka.h wants some of the above */
#include <cmocka.h>

#define ENOUGH 4 /* how a process ends in which nothing failed */
#define RECORDS 5000

static char root[64], path[FIXTURE_PATH_BYTES], part[FIXTURE_PATH_BYTES + 8];

static enum status write_it(bool with_digest, struct buf *why, uint64_t *bytes_out)
{
    uint32_t records = RECORDS;
    const struct snapshot_file_options options = {.path = path, .with_digest = with_digest};
    const struct dbfile_source source = fixture_source(&records);
    buf_init(why, 4096);
    return snapshot_file_write(&options, &source, why, bytes_out);
}

static void expect_whole(enum status digest)
{
    struct disk_file *file = fixture_open_db(path);
    struct dbfile_reader *reader;
    struct dbfile_item item;
    uint64_t count = 0;
    assert_int_equal(dbfile_check_digest(file, NULL), digest);
    assert_int_equal(dbfile_reader_open(file, NULL, &reader), ST_OK);
    while (dbfile_reader_next(reader, &item) == ST_OK)
        count += item.kind == DBFILE_ITEM_RECORD;
    assert_in_range(count, RECORDS, RECORDS + 100);
    dbfile_reader_close(reader);
    fixture_close_db(file);
}

static void test_snapshot_file_is_whole_and_overwrites_nothing(void **state)
{
    (void)state;
    struct buf why;
    uint64_t bytes;
    struct stat info;
    assert_int_equal(write_it(/* with_digest= */ true, &why, &bytes), ST_OK);
    expect_whole(ST_OK);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_size, bytes);
    buf_deinit(&why);
    assert_int_equal(write_it(/* with_digest= */ true, &why, &bytes), ST_EXISTS);
    assert_true(why.len > 0);
    buf_deinit(&why);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(write_it(/* with_digest= */ false, &why, &bytes), ST_OK);
    expect_whole(ST_NOT_FOUND);
    assert_int_equal(unlink(path), 0);
    buf_deinit(&why);
}

static void die_at(uint64_t at)
{
    struct buf why;
    uint64_t bytes;
    dying_arm(root, at);
    CHECK(write_it(true, &why, &bytes) == ST_OK);
    CHECK(!dying_is_unsynced(path));
    _exit(ENOUGH);
}

static void fail_at(uint64_t at)
{
    struct buf why;
    uint64_t bytes;
    dying_arm(root, at);
    dying_fail_instead(at % 2 == 0 ? ENOSPC : EIO);
    enum status st = write_it(true, &why, &bytes);
    if (st == ST_OK)
        _exit(ENOUGH);
    CHECK(st == ST_IO || st == ST_NO_SPACE);
    CHECK(why.len > 0);
    CHECK(access(part, F_OK) != 0);
    _exit(0);
}

static void cut_short_everywhere(void (*way)(uint64_t at))
{
    uint32_t count = 0;
    for (uint64_t at = 1;; at++, count++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0)
            way(at);
        int how = 0;
        assert_int_equal(waitpid(child, &how, 0), child);
        assert_true(WIFEXITED(how) && WEXITSTATUS(how) != 1);
        struct buf why;
        uint64_t bytes;
        if (access(path, F_OK) != 0)
            assert_int_equal(write_it(true, &why, &bytes), ST_OK);
        expect_whole(ST_OK);
        assert_int_not_equal(access(part, F_OK), 0);
        assert_int_equal(unlink(path), 0);
        if (WEXITSTATUS(how) == ENOUGH)
            break;
    }
    assert_in_range(count, 6, 1000);
}

static void test_snapshot_file_is_cut_short_at_every_change(void **state)
{
    (void)state;
    cut_short_everywhere(die_at);
    cut_short_everywhere(fail_at);
}

static int begin(void **state)
{
    (void)state;
    snprintf(root, sizeof(root), "/tmp/cleat-file-XXXXXX");
    assert_non_null(mkdtemp(root));
    snprintf(path, sizeof(path), "%s/file.db", root);
    snprintf(part, sizeof(part), "%s.part", path);
    return 0;
}

static int end(void **state)
{
    (void)state;
    return rmdir(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_snapshot_file_is_whole_and_overwrites_nothing),
        cmocka_unit_test(test_snapshot_file_is_cut_short_at_every_change),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
