/* A backend whose disk is full: a small tmpfs of the test's own, so only root runs it. */
#include "storage/backend.h"
#include "storage/revision.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cmocka.h>

#define DISK_OPTIONS "size=24m"
#define VALUE_BYTES 16000U
#define OPS_COUNT 32U
#define TRANSACTIONS_MAX 200

static const struct backend_ops *ops; /* under test */
static char folder[] = "/tmp/cleat-full-XXXXXX";
static struct backend *backend;
static struct backend_snapshot *snapshot; /* the newest, as the store keeps it */

static void renew_snapshot(void)
{
    ops->snapshot_close(snapshot);
    assert_int_equal(ops->snapshot_open(backend, &snapshot), ST_OK);
}

/* Appends (or deletes) the revisions of transaction n. */
static enum status write_transaction(uint64_t n, bool deletes)
{
    static uint8_t value[VALUE_BYTES];
    uint8_t keys[OPS_COUNT][TOMBSTONE_KEY_BYTES];
    struct backend_op batch[OPS_COUNT];
    for (uint32_t i = 0; i < OPS_COUNT; i++) {
        struct revision revision = {(int64_t)n, (int64_t)i};
        size_t size = revision_key_encode(revision, /* tombstone= */ false, keys[i]);
        batch[i] = (struct backend_op){.kind = deletes ? BACKEND_DELETE : BACKEND_APPEND,
                                       .bucket = BUCKET_KEY,
                                       .key = slice_make(keys[i], size)};
        if (!deletes)
            batch[i].value = slice_make(value, sizeof(value));
    }
    struct store_mark mark = {.index = n, .term = 1, .conf_state = SLICE("c")};
    uint64_t durable;
    enum status st = ops->apply(backend, batch, OPS_COUNT);
    if (st == ST_OK)
        st = ops->commit(backend, deletes ? NULL : &mark, /* full= */ false, &durable);
    if (st != ST_OK)
        return st;
    renew_snapshot();
    return ST_OK;
}

/* What the store's writer does after a step, and before it tries one again. */
static void tidy(void)
{
    bool reopen = false;
    if (ops->upkeep == NULL)
        return;
    assert_int_equal(ops->upkeep(backend, &reopen), ST_OK);
    if (!reopen)
        return;
    renew_snapshot();
    assert_int_equal(ops->upkeep(backend, &reopen), ST_OK);
}

static enum status write_with_retry(uint64_t n, bool deletes)
{
    enum status st = write_transaction(n, deletes);
    tidy();
    if (st != ST_NO_SPACE)
        return st;
    st = write_transaction(n, deletes);
    tidy();
    return st;
}

/* Another file takes whatever is left, as a log or another program would. */
static void fill_what_is_left(const char *path)
{
    static const uint8_t bytes[4096];
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    while (write(fd, bytes, sizeof(bytes)) > 0)
        continue;
    assert_int_equal(errno, ENOSPC);
    close(fd);
}

/* Fills the disk from transaction first on; gives the one that found no room. */
static uint64_t fill(uint64_t first)
{
    enum status st = ST_OK;
    uint64_t n = first;
    for (; n < first + TRANSACTIONS_MAX; n++) {
        st = write_with_retry(n, /* deletes= */ false);
        if (st != ST_OK)
            break;
    }
    assert_int_equal(st, ST_NO_SPACE);
    return n;
}

static void test_backend_deletes_on_a_full_disk_and_goes_on(void **state)
{
    (void)state;
    char path[64], other[64];
    snprintf(path, sizeof(path), "%s/store%s", folder, ops->suffix);
    snprintf(other, sizeof(other), "%s/other", folder);
    struct backend_options options = {
        .path = path, .life_id = 7, .map_bytes_max = 1 << 30, .create = true};
    assert_int_equal(ops->open(&options, &backend), ST_OK);
    assert_int_equal(ops->snapshot_open(backend, &snapshot), ST_OK);
    uint64_t oldest = 1, next = 1;
    for (uint32_t round = 0; round < 5; round++) {
        next = fill(next);
        assert_true(next > oldest + 2); /* what was deleted has made room */
        fill_what_is_left(other);
        for (; oldest < next; oldest++)
            assert_int_equal(write_with_retry(oldest, /* deletes= */ true), ST_OK);
    }
    ops->snapshot_close(snapshot);
    ops->close(backend);
    assert_int_equal(ops->remove(path), ST_OK);
    assert_int_equal(unlink(other), 0);
}

int main(void)
{
    if (mkdtemp(folder) == NULL)
        return 1;
    if (mount("tmpfs", folder, "tmpfs", 0, DISK_OPTIONS) != 0) {
        printf("SKIPPED: cannot mount a tmpfs here: %s\n", strerror(errno));
        rmdir(folder);
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_backend_deletes_on_a_full_disk_and_goes_on),
    };
    ops = backend_lmdb();
    int failed = cmocka_run_group_tests_name("lmdb", tests, NULL, NULL);
    ops = backend_sqlite();
    failed += cmocka_run_group_tests_name("sqlite", tests, NULL, NULL);
    umount2(folder, MNT_DETACH);
    rmdir(folder);
    return failed;
}
