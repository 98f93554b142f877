/* What changes a member's own directory - defrag, convert, log truncate - is cut short at every
 * change of a file, by death and by errors. Whatever the moment: the member starts and holds what
 * it held, with the old store or the new one, and the command given again goes through. */
#include "storage/datadir/datadir.h"
#include "tests/fakes/dying.h"
#include "tests/utl/maker_fixture.h"
#include "tools/utl/commands.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/wait.h>
/* cmocka.h wants some of the above */
#include <cmocka.h>

#define ENOUGH 4 /* how a process ends in which nothing failed */
#define RECORDS 50
#ifdef __SANITIZE_THREAD__
#define STRIDE_USUAL 25U /* it is slow to fork */
#else
#define STRIDE_USUAL 3U
#endif

static uint64_t stride;
static char root[64], db[FIXTURE_PATH_BYTES], original[FIXTURE_PATH_BYTES],
    data_dir[FIXTURE_PATH_BYTES];
static char *words[10]; /* the command under test */
static int words_count;
static uint64_t last_index_least = 8, last_index_most = 8; /* of the log, after it */

static const struct cli_command *const commands[] = {&utl_defrag_command, &utl_convert_command,
                                                     &utl_log_truncate_command, NULL};
static const struct cli_program program = {.name = "cleatutl", .brief = "", .commands = commands};

static int run_command(void)
{
    int quiet = open("/dev/null", O_WRONLY | O_CLOEXEC);
    int loud = dup(STDERR_FILENO);
    CHECK(quiet >= 0 && dup2(quiet, STDERR_FILENO) >= 0);
    int code = cli_main(&program, NULL, words_count, words);
    CHECK(dup2(loud, STDERR_FILENO) >= 0);
    return code;
}

static void run_tool(const char *const *tool)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        execvp(tool[0], (char *const *)tool);
        _exit(127);
    }
    int how = 0;
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_int_equal(how, 0);
}

static void begin_again(void)
{
    const char *const removal[] = {"rm", "-rf", data_dir, NULL};
    const char *const copy[] = {"cp", "-r", "--sparse=always", original, data_dir, NULL};
    run_tool(removal);
    run_tool(copy);
}

/* ---- lives; each ends its process ---- */

static void die_at(uint64_t at)
{
    dying_arm(data_dir, at);
    _exit(run_command() == 0 ? ENOUGH : 1);
}

static void fail_at(uint64_t at)
{
    dying_arm(data_dir, at);
    dying_fail_instead(at % 2 == 0 ? ENOSPC : EIO);
    int code = run_command();
    if (code == 0)
        _exit(dying_count() < at ? ENOUGH : 0); /* what failed was the removal of the old */
    _exit(0);
}

static void look(uint64_t at)
{
    (void)at;
    struct datadir d;
    enum datadir_kind kind;
    bool in_use;
    char why[512];
    CHECK(datadir_look(data_dir, "", &d, &kind, &in_use, why, sizeof(why)) == ST_OK);
    CHECK(kind == DATADIR_CLEAT);
    struct maker_options options = fixture_options(data_dir, "", d.format.backend);
    uint64_t last_index = fixture_expect_member(&options, 0);
    CHECK(last_index >= last_index_least && last_index <= last_index_most);
    _exit(0);
}

static void run_again(uint64_t at)
{
    (void)at;
    _exit(run_command() == 0 ? ENOUGH : 0); /* refused where it is done already */
}

static int end_of(void (*life)(uint64_t at), uint64_t at)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        life(at);
    int how = 0;
    assert_int_equal(waitpid(child, &how, 0), child);
    if (!WIFEXITED(how) || WEXITSTATUS(how) == 1)
        fail_msg("%s, change %llu: ended with %s %d", words[1], (unsigned long long)at,
                 WIFEXITED(how) ? "status" : "signal",
                 WIFEXITED(how) ? WEXITSTATUS(how) : WTERMSIG(how));
    return WEXITSTATUS(how);
}

static void cut_short_everywhere(void (*way)(uint64_t at))
{
    uint32_t count = 0;
    for (uint64_t at = 1;; at += stride, count++) {
        begin_again();
        int end = end_of(way, at);
        (void)end_of(look, 0);
        (void)end_of(run_again, 0);
        (void)end_of(look, 0);
        if (end == ENOUGH)
            break;
    }
    print_message("%s: %u places\n", words[1], count);
    assert_in_range(count, 10 / stride, 10000);
}

static void use(const char *first, const char *second, const char *third)
{
    static char copies[10][FIXTURE_PATH_BYTES];
    const char *all[] = {"cleatutl", first, "--data-dir", data_dir, second, third};
    words_count = 0;
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        if (all[i] == NULL)
            continue;
        snprintf(copies[i], sizeof(copies[i]), "%s", all[i]);
        words[words_count++] = copies[i];
    }
}

static void test_rewriting_a_store_is_cut_short_at_every_change(void **state)
{
    (void)state;
    use("convert", "--backend", "sqlite");
    cut_short_everywhere(die_at);
    cut_short_everywhere(fail_at);
    use("defrag", NULL, NULL);
    cut_short_everywhere(die_at);
}

/* ---- the log ---- */

static void test_cutting_a_log_is_cut_short_at_every_change(void **state)
{
    (void)state;
    use("truncate", "--after", "5");
    words[words_count++] = "--yes";
    last_index_least = 5;
    cut_short_everywhere(die_at);
    cut_short_everywhere(fail_at);
    begin_again();
    assert_int_equal(run_command(), 0);
    last_index_most = 5;
    (void)end_of(look, 0);
}

static void test_cutting_behind_the_end_is_refused(void **state)
{
    (void)state;
    begin_again();
    use("truncate", "--after", "8"); /* the last one: nothing is to be cut */
    words[words_count++] = "--yes";
    last_index_least = last_index_most = 8;
    assert_int_not_equal(run_command(), 0);
    use("truncate", "--after", "9");
    words[words_count++] = "--yes";
    assert_int_not_equal(run_command(), 0);
    use("truncate", "--after", "1"); /* the store has applied 2 */
    words[words_count++] = "--yes";
    assert_int_not_equal(run_command(), 0);
    (void)end_of(look, 0);
}

static int begin(void **state)
{
    (void)state;
    const char *full = getenv("CLEAT_TEST_FULL"); /* every place, then */
    stride = full != NULL && *full == '1' ? 1 : STRIDE_USUAL;
    const char *fast = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    struct buf why;
    buf_init(&why, 65536);
    snprintf(root, sizeof(root), "%s/cleat-changes-XXXXXX", fast);
    assert_non_null(mkdtemp(root));
    snprintf(db, sizeof(db), "%s/file.db", root);
    snprintf(original, sizeof(original), "%s/original", root);
    snprintf(data_dir, sizeof(data_dir), "%s/changed", root);
    fixture_write_db(db, RECORDS);
    static const raft_term tail[] = {1, 1, 1, 1, 1, 1};
    struct maker_options options = fixture_options(original, "", "lmdb");
    struct disk_file *file = fixture_open_db(db);
    assert_int_equal(fixture_make_tail(&options, file, 0, tail, 6, &why), ST_OK);
    fixture_close_db(file);
    buf_deinit(&why);
    return 0;
}

static int end(void **state)
{
    (void)state;
    const char *const removal[] = {"rm", "-rf", root, NULL};
    run_tool(removal);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rewriting_a_store_is_cut_short_at_every_change),
        cmocka_unit_test(test_cutting_a_log_is_cut_short_at_every_change),
        cmocka_unit_test(test_cutting_behind_the_end_is_refused),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
