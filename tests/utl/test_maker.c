/* A data directory made from a db file or from records is one that a member starts on; a directory
 * that is somebody's is refused and stays as it is. */
#include "tests/utl/maker_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <fcntl.h>
/* cmocka.h wants some of the above */
#include <cmocka.h>

static char root[64];
static struct disk_file *db;
static struct buf why;

static int begin(void **state)
{
    (void)state;
    snprintf(root, sizeof(root), "/tmp/cleat-maker-XXXXXX");
    assert_non_null(mkdtemp(root));
    char path[FIXTURE_PATH_BYTES];
    snprintf(path, sizeof(path), "%s/file.db", root);
    fixture_write_db(path, /* records= */ 100);
    db = fixture_open_db(path);
    buf_init(&why, 65536);
    return 0;
}

static int end(void **state)
{
    (void)state;
    buf_deinit(&why);
    fixture_close_db(db);
    pid_t child = fork();
    if (child == 0)
        execlp("rm", "rm", "-rf", root, (char *)NULL);
    return waitpid(child, NULL, 0) == child ? 0 : -1;
}

static const char *in_root(const char *name)
{
    static char paths[8][FIXTURE_PATH_BYTES];
    static uint32_t turn;
    char *path = paths[turn++ % 8];
    snprintf(path, FIXTURE_PATH_BYTES, "%s/%s", root, name);
    return path;
}

static void expect_made(const struct maker_options *options, uint64_t raise)
{
    enum status st = fixture_make(options, db, raise, &why);
    if (st != ST_OK)
        fail_msg("%.*s", (int)why.len, (const char *)why.data);
    assert_int_equal(fixture_expect_member(options, raise), 2);
}

static void test_maker_makes_a_member_of_a_db_file(void **state)
{
    (void)state;
    static const char *const backends[] = {"lmdb", "sqlite"};
    for (size_t i = 0; i < 2; i++) {
        char name[16];
        snprintf(name, sizeof(name), "plain-%zu", i);
        struct maker_options options = fixture_options(in_root(name), "", backends[i]);
        expect_made(&options, /* raise= */ 0);
        snprintf(name, sizeof(name), "raised-%zu", i);
        options.data_dir = in_root(name);
        expect_made(&options, /* raise= */ 1000);
    }
}

static void test_maker_puts_the_log_where_it_is_told(void **state)
{
    (void)state;
    struct maker_options options = fixture_options(in_root("apart"), in_root("log"), "lmdb");
    expect_made(&options, 0);
    assert_int_not_equal(access(in_root("log/member.part"), F_OK), 0);
    assert_int_not_equal(access(in_root("apart/member/wal"), F_OK), 0);
    /* An empty directory will do: a disk that was mounted for it. */
    assert_int_equal(mkdir(in_root("mounted"), 0700), 0);
    options = fixture_options(in_root("other"), in_root("mounted"), "lmdb");
    expect_made(&options, 0);
}

static void test_maker_makes_the_directories_above(void **state)
{
    (void)state;
    struct maker_options options = fixture_options(in_root("not/there/yet"), "", "lmdb");
    expect_made(&options, 0);
    options.data_dir = in_root("not/this/either");
    assert_int_equal(fixture_make(&options, db, UINT64_MAX, &why), ST_INVALID);
    buf_reset(&why);
    assert_int_not_equal(access(in_root("not/this"), F_OK), 0);
    assert_int_equal(access(in_root("not/there"), F_OK), 0);
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void expect_refused(const struct maker_options *options, enum status want, const char *text)
{
    buf_reset(&why);
    assert_int_equal(maker_check(options, &why), want);
    buf_reset(&why);
    assert_int_equal(fixture_make(options, db, 0, &why), want);
    assert_int_equal(why.len, strlen(text));
    assert_memory_equal(why.data, text, why.len);
    buf_reset(&why);
}

static void test_maker_refuses_what_is_somebodys(void **state)
{
    (void)state;
    char text[512];
    assert_int_equal(mkdir(in_root("used"), 0700), 0);
    write_file(in_root("used/mine"), "x");
    struct maker_options options = fixture_options(in_root("used"), "", "lmdb");
    snprintf(text, sizeof(text), "data-dir \"%s\" not empty or could not be read", in_root("used"));
    expect_refused(&options, ST_EXISTS, text);
    assert_int_equal(access(in_root("used/mine"), F_OK), 0);

    assert_int_equal(mkdir(in_root("their-log"), 0700), 0);
    write_file(in_root("their-log/0000000000000001.wal"), "x");
    options = fixture_options(in_root("new"), in_root("their-log"), "lmdb");
    snprintf(text, sizeof(text), "wal-dir \"%s\" exists", in_root("their-log"));
    expect_refused(&options, ST_EXISTS, text);
    /* Also when a try for another directory was cut short there. */
    write_file(in_root("their-log/member.part"), "/somewhere/else");
    expect_refused(&options, ST_EXISTS, text);
    assert_int_equal(access(in_root("their-log/0000000000000001.wal"), F_OK), 0);
    assert_int_not_equal(access(in_root("new"), F_OK), 0);

    assert_int_equal(mkdir(in_root("busy"), 0700), 0);
    int fd = open(in_root("busy"), O_RDONLY | O_DIRECTORY);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    options = fixture_options(in_root("busy"), "", "lmdb");
    snprintf(text, sizeof(text), "data directory '%s' is in use by another process",
             in_root("busy"));
    expect_refused(&options, ST_BUSY, text);
    close(fd);
}

static void test_maker_refuses_more_revisions_than_there_are(void **state)
{
    (void)state;
    struct maker_options options = fixture_options(in_root("far"), "", "lmdb");
    assert_int_equal(fixture_make(&options, db, UINT64_MAX, &why), ST_INVALID);
    assert_int_not_equal(access(in_root("far"), F_OK), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_maker_makes_a_member_of_a_db_file),
        cmocka_unit_test(test_maker_makes_the_directories_above),
        cmocka_unit_test(test_maker_puts_the_log_where_it_is_told),
        cmocka_unit_test(test_maker_refuses_what_is_somebodys),
        cmocka_unit_test(test_maker_refuses_more_revisions_than_there_are),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
