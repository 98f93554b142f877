/* The making of a data directory is cut short at every single change of a file, by death and by an
 * error, and at every allocation. Whatever the moment: there is a whole member or none, the next
 * try makes one, and nothing of the first is left. */
#include "tests/fakes/dying.h"
#include "tests/fakes/memory_faults.h"
#include "tests/utl/maker_fixture.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/wait.h>
/* cmocka.h wants some of the above */
#include <cmocka.h>

#define ENOUGH 4 /* how a process ends in which nothing failed */
#ifdef __SANITIZE_THREAD__
#define STRIDE_USUAL 25U /* it is slow to fork */
#else
#define STRIDE_USUAL 3U
#endif
#define SPACE_STRIDE 5U /* the places are those of the other error: here only the words differ */
#define RAISE 10

static uint64_t stride;
static char root[64], db[FIXTURE_PATH_BYTES], data_dir[FIXTURE_PATH_BYTES],
    wal_dir[FIXTURE_PATH_BYTES];
static struct maker_options options;

static bool is_there(const char *folder, const char *name)
{
    char path[2 * FIXTURE_PATH_BYTES];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return access(path, F_OK) == 0;
}

static void remove_made(void)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        execlp("rm", "rm", "-rf", data_dir, wal_dir, (char *)NULL);
        _exit(127);
    }
    int how = 0;
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_int_equal(how, 0);
}

static struct disk_file *file; /* of db */

static void prepare(struct buf *why)
{
    buf_init(why, 65536);
    file = fixture_open_db(db);
}

static enum status make(struct buf *why)
{
    return fixture_make(&options, file, RAISE, why);
}

/* ---- the ways to be cut short; each ends its process ---- */

static void die_at(uint64_t at)
{
    struct buf why;
    prepare(&why);
    dying_arm(root, at);
    CHECK(make(&why) == ST_OK);
    _exit(ENOUGH);
}

/* A member that is in place by now may be whole: the error was of what makes it durable. */
static void check_nothing_is_left(void)
{
    if (is_there(data_dir, "member"))
        return;
    CHECK(!is_there(data_dir, "member.new"));
    CHECK(!is_there(root, "made"));
    CHECK(!is_there(root, "log"));
}

static void fail_at(uint64_t at, int error, enum status want)
{
    struct buf why;
    prepare(&why);
    dying_arm(root, at);
    dying_fail_instead(error);
    enum status st = make(&why);
    if (st == ST_OK)
        _exit(dying_count() < at ? ENOUGH : 0); /* what failed was the removal of a scratch file */
    CHECK(st == want || st == ST_IO);           /* a sync that failed is never a full disk */
    CHECK(why.len > 0);
    check_nothing_is_left();
    _exit(0);
}

static void fail_by_io(uint64_t at)
{
    fail_at(at, EIO, ST_IO);
}

static void fail_by_space(uint64_t at)
{
    fail_at(SPACE_STRIDE * at, ENOSPC, ST_NO_SPACE);
}

static void lack_memory(uint64_t at)
{
    struct buf why;
    prepare(&why);
    memory_fail_at(at);
    enum status st = make(&why);
    bool fired = memory_fault_fired();
    memory_fail_at(0);
    /* The probe of a disk and the preparing of a segment have their own words for it. */
    CHECK(st == ST_OK || st == ST_NO_MEMORY || st == ST_UNSUPPORTED || st == ST_NO_SPACE);
    if (st != ST_OK)
        check_nothing_is_left();
    _exit(fired ? 0 : ENOUGH);
}

static void look(uint64_t at)
{
    (void)at;
    CHECK(fixture_expect_member(&options, RAISE) == 2);
    _exit(0);
}

static void make_again(uint64_t at)
{
    (void)at;
    struct buf why;
    prepare(&why);
    enum status st = make(&why);
    if (st != ST_OK)
        fprintf(stderr, "%.*s\n", (int)why.len, (const char *)why.data);
    CHECK(st == ST_OK);
    look(0);
}

/* Everything of it was synced before the rename that puts it in place. */
static void watch_syncs(uint64_t at)
{
    struct buf why;
    char parent[2 * FIXTURE_PATH_BYTES];
    prepare(&why);
    dying_arm(root, at);
    CHECK(make(&why) == ST_OK);
    snprintf(parent, sizeof(parent), "%s/member", data_dir);
    CHECK(!dying_is_unsynced(parent));
    snprintf(parent, sizeof(parent), "%s/0", wal_dir);
    CHECK(!dying_is_unsynced(parent));
    snprintf(parent, sizeof(parent), "%s/member.new", data_dir);
    CHECK(!dying_is_unsynced(parent));
    _exit(0);
}

static int end_of(void (*way)(uint64_t at), uint64_t at)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        way(at);
    int how = 0;
    assert_int_equal(waitpid(child, &how, 0), child);
    if (!WIFEXITED(how) || WEXITSTATUS(how) == 1)
        fail_msg("%s, change %llu: ended with %s %d", options.backend, (unsigned long long)at,
                 WIFEXITED(how) ? "status" : "signal",
                 WIFEXITED(how) ? WEXITSTATUS(how) : WTERMSIG(how));
    return WEXITSTATUS(how);
}

static void cut_short_everywhere(void (*way)(uint64_t at), uint32_t least)
{
    uint32_t count = 0;
    for (uint64_t at = 1;; at += stride) {
        remove_made();
        if (end_of(way, at) == ENOUGH)
            break;
        count++;
        bool is_made = is_there(data_dir, "member");
        (void)end_of(is_made ? look : make_again, 0);
        assert_false(is_there(data_dir, "member.new"));
    }
    print_message("%s: %u places\n", options.backend, count);
    assert_in_range(count, least / stride, 100000);
    remove_made();
}

static void run(void (*way)(uint64_t at), uint32_t least)
{
    options = fixture_options(data_dir, "", "sqlite");
    cut_short_everywhere(way, least);
    options = fixture_options(data_dir, wal_dir, "lmdb");
    cut_short_everywhere(way, least);
}

static void test_maker_dies_at_every_change(void **state)
{
    (void)state;
    run(die_at, 20);
}

static void test_maker_fails_at_every_change(void **state)
{
    (void)state;
    run(fail_by_io, 20);
    run(fail_by_space, 10);
}

static void test_maker_lacks_memory_at_every_allocation(void **state)
{
    (void)state;
    options = fixture_options(data_dir, wal_dir, "lmdb");
    cut_short_everywhere(lack_memory, 20);
}

static void test_maker_syncs_before_it_names(void **state)
{
    (void)state;
    options = fixture_options(data_dir, wal_dir, "lmdb");
    (void)end_of(watch_syncs, 0);
    remove_made();
    options.backend = "sqlite";
    (void)end_of(watch_syncs, 0);
    remove_made();
}

static int begin(void **state)
{
    (void)state;
    const char *full = getenv("CLEAT_TEST_FULL"); /* every place, then */
    stride = full != NULL && *full == '1' ? 1 : STRIDE_USUAL;
    const char *fast = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(root, sizeof(root), "%s/cleat-maker-XXXXXX", fast);
    assert_non_null(mkdtemp(root));
    snprintf(db, sizeof(db), "%s/file.db", root);
    snprintf(data_dir, sizeof(data_dir), "%s/made", root);
    snprintf(wal_dir, sizeof(wal_dir), "%s/log", root);
    fixture_write_db(db, /* records= */ 0);
    return 0;
}

static int end(void **state)
{
    (void)state;
    remove_made();
    return unlink(db) == 0 && rmdir(root) == 0 ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_maker_dies_at_every_change),
        cmocka_unit_test(test_maker_fails_at_every_change),
        cmocka_unit_test(test_maker_lacks_memory_at_every_allocation),
        cmocka_unit_test(test_maker_syncs_before_it_names),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
