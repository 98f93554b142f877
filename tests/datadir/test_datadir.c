#include "storage/datadir/datadir.h"

#include <errno.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static const struct format format = {.backend = "lmdb",
                                     .life_id = 0x1122334455667788,
                                     .cluster_id = 7,
                                     .member_id = 9,
                                     .store_name = "0000000000000000.lmdb"};

struct place {
    char top[64];  /* removed at the end */
    char root[96]; /* the data directory in it */
    char why[8192];
    struct datadir datadir;
};

static int setup(void **state)
{
    struct place *place = calloc(1, sizeof(*place));
    if (place == NULL)
        return 1;
    snprintf(place->top, sizeof(place->top), "/tmp/cleat-test-datadir-XXXXXX");
    place->datadir.lock_fd = -1;
    *state = place;
    if (mkdtemp(place->top) == NULL)
        return 1;
    snprintf(place->root, sizeof(place->root), "%s/data", place->top);
    return 0;
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *where)
{
    (void)info, (void)type, (void)where;
    return remove(path);
}

static int teardown(void **state)
{
    struct place *place = *state;
    datadir_close(&place->datadir);
    int failed = nftw(place->top, remove_one, /* nopenfd= */ 8, FTW_DEPTH | FTW_PHYS);
    free(place);
    return failed;
}

static enum status open_at(struct place *place, const char *root, const char *wal_dir)
{
    return datadir_open(root, wal_dir, &place->datadir, place->why, sizeof(place->why));
}

static void begin_or_fail(struct place *place)
{
    assert_int_equal(open_at(place, place->root, ""), ST_OK);
    assert_false(place->datadir.exists);
    assert_int_equal(datadir_begin(&place->datadir, &format, place->why, sizeof(place->why)),
                     ST_OK);
}

static void test_datadir_keeps_what_was_committed(void **state)
{
    struct place *place = *state;
    begin_or_fail(place);
    assert_int_equal(datadir_commit(&place->datadir, place->why, sizeof(place->why)), ST_OK);
    datadir_close(&place->datadir);
    assert_int_equal(open_at(place, place->root, ""), ST_OK);
    assert_true(place->datadir.exists);
    assert_int_equal(place->datadir.format.life_id, format.life_id);
    assert_string_equal(place->datadir.format.store_name, format.store_name);
    char wal[128];
    snprintf(wal, sizeof(wal), "%s/member/wal", place->root);
    assert_string_equal(place->datadir.wal, wal);
}

static void test_datadir_has_one_owner(void **state)
{
    struct place *place = *state;
    begin_or_fail(place);
    struct datadir second;
    assert_int_equal(datadir_open(place->root, "", &second, place->why, sizeof(place->why)),
                     ST_BUSY);
    assert_int_equal(second.lock_fd, -1);
    assert_non_null(strstr(place->why, "in use by another process"));
}

/* A path that would be cut off somewhere later names another directory. */
static enum status look_at(struct place *place, enum datadir_kind *kind, bool *in_use)
{
    return datadir_look(place->root, "", &place->datadir, kind, in_use, place->why,
                        sizeof(place->why));
}

static void write_file(const char *folder, const char *name)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fclose(file), 0);
}

static void test_datadir_look_changes_nothing_and_tells_who_has_it(void **state)
{
    struct place *place = *state;
    enum datadir_kind kind;
    bool in_use;
    assert_int_equal(look_at(place, &kind, &in_use), ST_NOT_FOUND);
    assert_int_not_equal(access(place->root, F_OK), 0);
    struct place owner = *place;
    begin_or_fail(&owner);
    assert_int_equal(look_at(place, &kind, &in_use), ST_OK);
    assert_int_equal(kind, DATADIR_UNFINISHED);
    assert_true(in_use);
    assert_int_equal(datadir_commit(&owner.datadir, owner.why, sizeof(owner.why)), ST_OK);
    assert_int_equal(look_at(place, &kind, &in_use), ST_OK);
    assert_int_equal(kind, DATADIR_CLEAT);
    assert_true(in_use && place->datadir.exists);
    assert_int_equal(place->datadir.format.life_id, format.life_id);
    assert_string_equal(place->datadir.wal, owner.datadir.wal);
    datadir_close(&owner.datadir);
    assert_int_equal(look_at(place, &kind, &in_use), ST_OK);
    assert_false(in_use);
    write_file(place->datadir.member, "FORMAT"); /* empty now */
    assert_int_equal(look_at(place, &kind, &in_use), ST_INVALID);
    assert_int_equal(kind, DATADIR_CLEAT);
    assert_non_null(strstr(place->why, "FORMAT"));
}

static void test_datadir_look_knows_etcds(void **state)
{
    struct place *place = *state;
    enum datadir_kind kind;
    bool in_use;
    char folder[128];
    assert_int_equal(mkdir(place->root, 0700), 0);
    assert_int_equal(look_at(place, &kind, &in_use), ST_OK);
    assert_int_equal(kind, DATADIR_NOTHING);
    static const char *const folders[] = {"member", "member/snap"};
    for (size_t i = 0; i < 2; i++) {
        snprintf(folder, sizeof(folder), "%s/%s", place->root, folders[i]);
        assert_int_equal(mkdir(folder, 0700), 0);
    }
    write_file(folder, "db");
    assert_int_equal(look_at(place, &kind, &in_use), ST_OK);
    assert_int_equal(kind, DATADIR_ETCD);
    assert_int_equal(open_at(place, place->root, ""), ST_INVALID);
    snprintf(place->root + strlen(place->root), 16, "/member/snap/db");
    assert_int_equal(look_at(place, &kind, &in_use), ST_INVALID);
}

static void test_datadir_refuses_paths_without_room_for_its_names(void **state)
{
    struct place *place = *state;
    static const char *const what[] = {"data directory", "log directory"};
    for (int apart = 0; apart < 2; apart++) {
        for (size_t len = PATH_MAX - 256; len < PATH_MAX + 256; len++) {
            char path[PATH_MAX + 256];
            memset(path, '/', len); /* the root directory, however many there are */
            memcpy(path, "/no/such", 8);
            path[len] = '\0';
            enum status st = open_at(place, apart ? place->root : path, apart ? path : "");
            bool fits = len < PATH_MAX - 128;
            assert_int_equal(st, fits && apart ? ST_OK : fits ? ST_IO : ST_INVALID);
            if (!fits)
                assert_non_null(strstr(place->why, what[apart]));
            assert_true(st == ST_OK || place->datadir.lock_fd == -1);
            datadir_close(&place->datadir);
        }
    }
}

/* The limit on the size of files stands for a disk that takes only a part of FORMAT. */
static void test_datadir_tells_why_format_was_cut_short(void **state)
{
    struct place *place = *state;
    begin_or_fail(place);
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    struct rlimit small = {.rlim_cur = 40, .rlim_max = before.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    errno = 0;
    enum status st = datadir_commit(&place->datadir, place->why, sizeof(place->why));
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_DFL);
    assert_int_equal(st, ST_IO);
    assert_non_null(strstr(place->why, "File too large"));
    datadir_close(&place->datadir);
    assert_int_equal(open_at(place, place->root, ""), ST_OK);
    assert_false(place->datadir.exists);
}

static void test_datadir_refuses_every_changed_byte_of_format(void **state)
{
    struct place *place = *state;
    begin_or_fail(place);
    assert_int_equal(datadir_commit(&place->datadir, place->why, sizeof(place->why)), ST_OK);
    datadir_close(&place->datadir);
    char path[128], text[1024];
    snprintf(path, sizeof(path), "%s/member/FORMAT", place->root);
    FILE *file = fopen(path, "r+");
    assert_non_null(file);
    size_t len = fread(text, 1, sizeof(text), file);
    for (size_t at = 0; at < len; at++) {
        fseek(file, (long)at, SEEK_SET);
        fputc(text[at] ^ 1, file);
        fflush(file);
        assert_int_equal(open_at(place, place->root, ""), ST_INVALID);
        fseek(file, (long)at, SEEK_SET);
        fputc(text[at], file);
        fflush(file);
    }
    fclose(file);
    assert_int_equal(open_at(place, place->root, ""), ST_OK);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_datadir_keeps_what_was_committed),
        TEST(test_datadir_has_one_owner),
        TEST(test_datadir_look_changes_nothing_and_tells_who_has_it),
        TEST(test_datadir_look_knows_etcds),
        TEST(test_datadir_refuses_paths_without_room_for_its_names),
        TEST(test_datadir_tells_why_format_was_cut_short),
        TEST(test_datadir_refuses_every_changed_byte_of_format),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
