/* What is left of a cluster, side by side: the best is the one that an election would choose, and
 * what cannot be decided is refused with the reason. */
#include "tests/utl/maker_fixture.h"
#include "tools/utl/candidates.h"

#include <setjmp.h>
#include <stdarg.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <fcntl.h>
/* cmocka.h wants some of the above */
#include <cmocka.h>

#define THIRD_ID 0xae9e05c52164694dU /* no member of the fixture's two */
#define FOLDERS_MAX 4U

static char root[64], text[16384];
static struct disk_file *db;
static struct buf why;
static struct candidates *candidates;

struct folder {
    const char *name;
    uint64_t cluster_id;
    raft_id member_id;
    uint64_t raise;
    const raft_term *tail;
    uint32_t tail_count;
};

static const char *in_root(const char *name)
{
    static char paths[16][FIXTURE_PATH_BYTES];
    static uint32_t turn;
    char *path = paths[turn++ % 16];
    snprintf(path, FIXTURE_PATH_BYTES, "%s/%s", root, name);
    return path;
}

static void make(const struct folder *folder)
{
    struct maker_options options = fixture_options(in_root(folder->name), "", "lmdb");
    options.cluster_id = folder->cluster_id;
    options.member_id = folder->member_id;
    assert_int_equal(
        fixture_make_tail(&options, db, folder->raise, folder->tail, folder->tail_count, &why),
        ST_OK);
}

/* All in one cluster unless they say otherwise. */
static const raft_term ones[] = {1, 1, 1, 1, 1, 1}, twos[] = {1, 1, 1, 2};
static const struct folder old_leader = {.name = "old-leader",
                                         .cluster_id = 7,
                                         .member_id = FIXTURE_MEMBER_ID,
                                         .tail = ones,
                                         .tail_count = 6};
static const struct folder new_leader = {.name = "new-leader",
                                         .cluster_id = 7,
                                         .member_id = FIXTURE_OTHER_ID,
                                         .tail = twos,
                                         .tail_count = 4};
static const struct folder behind = {
    .name = "behind", .cluster_id = 7, .member_id = THIRD_ID, .tail = ones, .tail_count = 2};
static const struct folder stranger = {
    .name = "stranger", .cluster_id = 8, .member_id = THIRD_ID, .tail = ones, .tail_count = 2};
static const struct folder restored = {
    .name = "restored", .cluster_id = 7, .member_id = FIXTURE_OTHER_ID, .raise = 5};
static const struct folder impossible = {.name = "impossible",
                                         .cluster_id = 7,
                                         .member_id = THIRD_ID,
                                         .tail = twos,
                                         .tail_count = 4,
                                         .raise = 9};

static int begin(void **state)
{
    (void)state;
    snprintf(root, sizeof(root), "/tmp/cleat-candidates-XXXXXX");
    assert_non_null(mkdtemp(root));
    buf_init(&why, 65536);
    fixture_write_db(in_root("file.db"), /* records= */ 0);
    db = fixture_open_db(in_root("file.db"));
    const struct folder *all[] = {&old_leader, &new_leader, &behind,
                                  &stranger,   &restored,   &impossible};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        make(all[i]);
    return 0;
}

static int end(void **state)
{
    (void)state;
    fixture_close_db(db);
    buf_deinit(&why);
    pid_t child = fork();
    if (child == 0)
        execlp("rm", "rm", "-rf", root, (char *)NULL);
    return waitpid(child, NULL, 0) == child ? 0 : -1;
}

/* Opens and chooses; text is what is said about them all. */
static enum status choose(const struct folder *const *folders, uint32_t count, const char *from,
                          struct candidate **out)
{
    char *paths[FOLDERS_MAX];
    for (uint32_t i = 0; i < count; i++)
        paths[i] = (char *)in_root(folders[i]->name);
    buf_reset(&why);
    candidates = calloc(1, sizeof(*candidates));
    assert_non_null(candidates);
    enum status st = candidates_open(candidates, paths, count, from, &why);
    if (st == ST_OK)
        st = candidates_choose(candidates, out, &why);
    FILE *said = fmemopen(text, sizeof(text), "w");
    assert_non_null(said);
    candidates_print(candidates, said);
    if (st == ST_OK)
        candidates_compare(candidates, *out, said);
    fclose(said);
    return st;
}

static void close_all(void)
{
    candidates_close(candidates);
    free(candidates);
    candidates = NULL;
}

static void expect_word(const char *word)
{
    if (strstr(text, word) == NULL)
        fail_msg("'%s' is not in:\n%s", word, text);
}

static void test_candidates_an_election_would_choose_the_same(void **state)
{
    (void)state;
    const struct folder *all[] = {&old_leader, &new_leader, &behind};
    struct candidate *best;
    assert_int_equal(choose(all, 3, "", &best), ST_OK);
    assert_string_equal(best->path, in_root("new-leader"));
    assert_int_equal(best->last.index, 6);
    assert_int_equal(best->last.term, 2);
    expect_word("old-leader' ends in entries of an older term");
    expect_word("2 voting members; the files of 2 are here. Every acknowledged write is in");
    close_all();
}

static void test_candidates_say_what_may_be_lost(void **state)
{
    (void)state;
    const struct folder *alone[] = {&behind};
    struct candidate *best;
    assert_int_equal(choose(alone, 1, "", &best), ST_OK);
    expect_word("2 voting members; the files of 0 are here. The last writes");
    close_all();
    /* One of two is not enough to know; neither is another than the best. */
    const struct folder *one[] = {&new_leader};
    assert_int_equal(choose(one, 1, "", &best), ST_OK);
    expect_word("the files of 1 are here. Every acknowledged write is in");
    close_all();
    const struct folder *both[] = {&old_leader, &new_leader};
    assert_int_equal(choose(both, 2, in_root("old-leader"), &best), ST_OK);
    assert_string_equal(best->path, in_root("old-leader"));
    expect_word("new-leader' holds revisions up to 42 that it LACKS");
    expect_word("The last writes before the end may be lost");
    close_all();
}

static void expect_refused(const struct folder *one, const struct folder *other, const char *word)
{
    const struct folder *both[] = {one, other};
    struct candidate *best;
    assert_int_equal(choose(both, 2, "", &best), ST_INVALID);
    assert_int_equal(buf_append(&why, SLICE("\0")), ST_OK);
    if (strstr((const char *)why.data, word) == NULL)
        fail_msg("'%s' is not in: %s", word, (const char *)why.data);
    close_all();
    /* With a word from the operator it is decided. */
    assert_int_equal(choose(both, 2, in_root(one->name), &best), ST_OK);
    assert_string_equal(best->path, in_root(one->name));
    close_all();
}

static void test_candidates_that_cannot_be_decided_are_refused(void **state)
{
    (void)state;
    expect_refused(&new_leader, &stranger, "they are of different clusters");
    expect_refused(&new_leader, &restored, "the same member");
    expect_refused(&new_leader, &impossible, "the same entry with different revisions");
}

/* A snapshot of entry 900; a directory that was restored from it, and went on, counts from 1. */
static void test_candidates_restored_from_a_file_given_with_it_are_refused(void **state)
{
    (void)state;
    const struct folder file = {.name = "file.db"};
    expect_refused(&file, &restored, "one may have been restored from the other");
    const struct folder *both[] = {&behind, &file};
    struct candidate *best;
    assert_int_equal(choose(both, 2, "", &best), ST_OK);
    assert_string_equal(best->path, in_root("file.db"));
    expect_word("a snapshot, entry 900 of term 12");
    close_all();
}

static void test_candidates_of_no_use_are_named(void **state)
{
    (void)state;
    const struct folder nothing = {.name = "nothing"};
    const struct folder *all[] = {&nothing, &behind};
    struct candidate *best;
    assert_int_equal(choose(all, 2, "", &best), ST_OK);
    assert_string_equal(best->path, in_root("behind"));
    expect_word("nothing: cannot be read: ");
    close_all();
    assert_int_equal(choose(all, 1, "", &best), ST_NOT_FOUND);
    close_all();
    assert_int_equal(choose(all, 2, "/none/of/them", &best), ST_INVALID);
    close_all();
    int fd = open(in_root("behind"), O_RDONLY | O_DIRECTORY);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    assert_int_equal(choose(all, 2, "", &best), ST_BUSY);
    close_all();
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_candidates_an_election_would_choose_the_same),
        cmocka_unit_test(test_candidates_say_what_may_be_lost),
        cmocka_unit_test(test_candidates_that_cannot_be_decided_are_refused),
        cmocka_unit_test(test_candidates_restored_from_a_file_given_with_it_are_refused),
        cmocka_unit_test(test_candidates_of_no_use_are_named),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
