/* A backend whose disk is full: a small tmpfs of the test's own, so only root runs it. */
#include "storage/backend.h"
#include "storage/revision.h"

#include <errno.h>
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
    ops->snapshot_close(snapshot);
    bool reopen = false;
    assert_int_equal(ops->snapshot_open(backend, &snapshot), ST_OK);
    return ops->upkeep == NULL ? ST_OK : ops->upkeep(backend, &reopen);
}

/* Fills the disk from transaction first on; gives the one that found no room. */
static uint64_t fill(uint64_t first)
{
    enum status st = ST_OK;
    uint64_t n = first;
    for (; n < first + TRANSACTIONS_MAX; n++) {
        st = write_transaction(n, /* deletes= */ false);
        if (st != ST_OK)
            break;
    }
    assert_int_equal(st, ST_NO_SPACE);
    return n;
}

static void test_backend_deletes_on_a_full_disk_and_goes_on(void **state)
{
    (void)state;
    char path[64];
    snprintf(path, sizeof(path), "%s/store%s", folder, ops->suffix);
    struct backend_options options = {
        .path = path, .life_id = 7, .map_bytes_max = 1 << 30, .create = true};
    assert_int_equal(ops->open(&options, &backend), ST_OK);
    assert_int_equal(ops->snapshot_open(backend, &snapshot), ST_OK);
    uint64_t oldest = 1, next = 1;
    for (uint32_t round = 0; round < 5; round++) {
        next = fill(next);
        assert_true(next > oldest + 2); /* what was deleted has made room */
        for (; oldest < next; oldest++)
            assert_int_equal(write_transaction(oldest, /* deletes= */ true), ST_OK);
    }
    ops->snapshot_close(snapshot);
    ops->close(backend);
    assert_int_equal(ops->remove(path), ST_OK);
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
    umount2(folder, MNT_DETACH);
    rmdir(folder);
    return failed;
}
