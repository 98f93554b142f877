/* What the real backends make of files: damage, foreign files, crashes, reading without a trace. */
#include "storage/backend.h"
#include "storage/revision.h"
#include "storage/store.h"

#include "base/bytes.h"
#include "base/rng.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define LIFE 7
#define VALUE_MARK "find me: the value that is damaged"

static const struct backend_ops *ops; /* under test */
static char folder[] = "/tmp/cleat-files-XXXXXX";
static char path[64];

static int setup(void **state)
{
    (void)state;
    snprintf(path, sizeof(path), "%s/store%s", folder, ops->suffix);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    return ops->remove(path) == ST_OK ? 0 : -1;
}

static enum status try_open(bool create, bool read_only, struct buf *why, struct backend **out)
{
    struct backend_options options = {.path = path,
                                      .life_id = LIFE,
                                      .map_bytes_max = 1 << 30,
                                      .create = create,
                                      .read_only = read_only,
                                      .why = why};
    return ops->open(&options, out);
}

static struct backend *must_open(bool read_only)
{
    struct backend *backend;
    assert_int_equal(try_open(!read_only, read_only, NULL, &backend), ST_OK);
    return backend;
}

/* Transaction number n: revisions (n, 0) to (n, n % 7), a counter, the mark; one of n - 5 goes. */
static enum status write_transaction(struct backend *backend, uint64_t n)
{
    uint8_t keys[8][TOMBSTONE_KEY_BYTES];
    struct backend_op transaction[10];
    size_t count = 0;
    for (uint64_t sub = 0; sub <= n % 7; sub++) {
        struct revision revision = {(int64_t)n, (int64_t)sub};
        size_t size = revision_key_encode(revision, false, keys[sub]);
        transaction[count++] = (struct backend_op){.kind = BACKEND_APPEND,
                                                   .bucket = BUCKET_KEY,
                                                   .key = slice_make(keys[sub], size),
                                                   .value = SLICE(VALUE_MARK)};
    }
    transaction[count++] = (struct backend_op){.kind = BACKEND_PUT,
                                               .bucket = BUCKET_META,
                                               .key = SLICE("counter"),
                                               .value = slice_make(&n, sizeof(n))};
    if (n > 5) {
        size_t size = revision_key_encode((struct revision){(int64_t)n - 5, 0}, false, keys[7]);
        transaction[count++] = (struct backend_op){
            .kind = BACKEND_DELETE, .bucket = BUCKET_KEY, .key = slice_make(keys[7], size)};
    }
    enum status st = ops->apply(backend, transaction, count);
    struct store_mark mark = {.index = n, .term = 1, .conf_state = SLICE("c")};
    uint64_t durable;
    return st == ST_OK ? ops->commit(backend, &mark, n % 16 == 0, &durable) : st;
}

/* The store holds exactly the transactions 1 to some n, whole; gives n. */
static uint64_t expect_whole(struct backend *backend)
{
    struct buf conf_state;
    buf_init(&conf_state, 64);
    struct store_mark mark;
    assert_int_equal(ops->mark(backend, &mark, &conf_state), ST_OK);
    buf_deinit(&conf_state);
    struct backend_snapshot *snapshot;
    struct backend_cursor *cursor;
    assert_int_equal(ops->snapshot_open(backend, &snapshot), ST_OK);
    struct slice key, value;
    if (mark.index > 0) {
        assert_int_equal(ops->get(snapshot, BUCKET_META, SLICE("counter"), &value), ST_OK);
        assert_int_equal(get_le64(value.data), mark.index);
    }
    assert_int_equal(ops->cursor_open(snapshot, BUCKET_KEY, &cursor), ST_OK);
    enum status st = ops->cursor_seek(cursor, SLICE_EMPTY, &key, &value);
    for (uint64_t n = 1; n <= mark.index; n++) {
        for (uint64_t sub = n + 5 <= mark.index ? 1 : 0; sub <= n % 7; sub++) {
            struct revision revision;
            bool tombstone;
            assert_int_equal(st, ST_OK);
            assert_int_equal(revision_key_decode(key, &revision, &tombstone), ST_OK);
            assert_int_equal(revision.main, n);
            assert_int_equal(revision.sub, sub);
            st = ops->cursor_next(cursor, &key, &value);
        }
    }
    assert_int_equal(st, ST_NOT_FOUND);
    ops->cursor_close(cursor);
    ops->snapshot_close(snapshot);
    return mark.index;
}

/* ---- crashes ---- */

/* The child tells by a pipe which transaction it has committed. */
static void run_until_killed(int pipe_fd)
{
    struct backend *backend;
    if (try_open(true, false, NULL, &backend) != ST_OK)
        _exit(1);
    struct buf conf_state;
    buf_init(&conf_state, 64);
    struct store_mark mark;
    if (ops->mark(backend, &mark, &conf_state) != ST_OK)
        _exit(2);
    for (uint64_t n = mark.index + 1;; n++) {
        if (write_transaction(backend, n) != ST_OK)
            _exit(3);
        if (write(pipe_fd, &n, sizeof(n)) != sizeof(n))
            _exit(4);
    }
}

static void test_backend_is_whole_after_a_kill_at_any_moment(void **state)
{
    (void)state;
    struct rng rng;
    rng_seed(&rng, 5);
    uint64_t least = 0;
    for (uint32_t round = 0; round < 12; round++) {
        int ends[2];
        assert_int_equal(pipe(ends), 0);
        pid_t child = fork();
        if (child == 0) {
            close(ends[0]);
            run_until_killed(ends[1]);
        }
        assert_true(child > 0);
        close(ends[1]);
        uint64_t wanted = 1 + rng_below(&rng, 30), said = least;
        for (uint64_t i = 0; i < wanted; i++)
            assert_int_equal(read(ends[0], &said, sizeof(said)), sizeof(said));
        for (volatile uint64_t spin = rng_below(&rng, 300000); spin > 0; spin--)
            ; /* some way into the next transaction */
        kill(child, SIGKILL);
        while (read(ends[0], &said, sizeof(said)) == sizeof(said))
            ;
        close(ends[0]);
        int how;
        assert_int_equal(waitpid(child, &how, 0), child);
        assert_true(WIFSIGNALED(how));
        struct backend *backend = must_open(/* read_only= */ round % 2 == 1);
        least = expect_whole(backend);
        assert_true(least >= said);
        struct buf report;
        buf_init(&report, 4096);
        assert_int_equal(ops->check(backend, &report), ST_OK);
        buf_deinit(&report);
        ops->close(backend);
    }
}

/* ---- damage ---- */

static void fill(uint64_t transactions)
{
    struct backend *backend = must_open(false);
    for (uint64_t n = 1; n <= transactions; n++)
        assert_int_equal(write_transaction(backend, n), ST_OK);
    ops->close(backend);
}

/* Flips a bit in the middle of the first value found in any of the store's files. */
static void damage_a_value(void)
{
    static const char *const suffixes[] = {"", "-wal"};
    static uint8_t bytes[32 << 20];
    uint32_t damaged = 0;
    for (size_t i = 0; i < 2; i++) {
        char file[80];
        snprintf(file, sizeof(file), "%s%s", path, suffixes[i]);
        int fd = open(file, O_RDWR);
        if (fd < 0)
            continue;
        ssize_t size = pread(fd, bytes, sizeof(bytes), 0);
        assert_true(size >= 0 && (size_t)size < sizeof(bytes));
        uint8_t *at = memmem(bytes, (size_t)size, VALUE_MARK, strlen(VALUE_MARK));
        while (at != NULL) {
            at[5] ^= 4;
            assert_int_equal(pwrite(fd, at + 5, 1, at + 5 - bytes), 1);
            damaged++;
            at = memmem(at, (size_t)(bytes + size - at), VALUE_MARK, strlen(VALUE_MARK));
        }
        close(fd);
    }
    assert_true(damaged > 0);
}

static void checkpoint(void)
{
    /* Moves SQLite's WAL into its file, so that the damage meets no checksum but ours. */
    struct backend *backend = must_open(false);
    bool reopen;
    static uint8_t filler[4 << 20];
    for (uint64_t n = 0; n < 6 && ops->upkeep != NULL; n++) {
        struct backend_op op = {.kind = BACKEND_PUT,
                                .bucket = BUCKET_LEASE,
                                .key = SLICE("filler"),
                                .value = slice_make(filler, sizeof(filler))};
        uint64_t durable;
        assert_int_equal(ops->apply(backend, &op, 1), ST_OK);
        assert_int_equal(ops->commit(backend, NULL, true, &durable), ST_OK);
        assert_int_equal(ops->upkeep(backend, &reopen), ST_OK);
    }
    ops->close(backend);
    char wal[80];
    snprintf(wal, sizeof(wal), "%s-wal", path);
    if (ops->upkeep != NULL) /* the newest commits of the filler are in there, nothing else */
        assert_int_equal(unlink(wal), 0);
}

static void test_backend_notices_a_flipped_bit_in_a_value(void **state)
{
    (void)state;
    fill(1);
    checkpoint();
    damage_a_value();
    struct backend *backend = must_open(false);
    struct backend_snapshot *snapshot;
    assert_int_equal(ops->snapshot_open(backend, &snapshot), ST_OK);
    uint8_t key[TOMBSTONE_KEY_BYTES];
    size_t size = revision_key_encode((struct revision){1, 0}, false, key);
    struct slice value, found;
    assert_int_equal(ops->get(snapshot, BUCKET_KEY, slice_make(key, size), &value), ST_CORRUPT);
    struct backend_cursor *cursor;
    assert_int_equal(ops->cursor_open(snapshot, BUCKET_KEY, &cursor), ST_OK);
    assert_int_equal(ops->cursor_seek(cursor, SLICE_EMPTY, &found, &value), ST_CORRUPT);
    ops->cursor_close(cursor);
    ops->snapshot_close(snapshot);
    struct buf report;
    buf_init(&report, 1 << 20);
    assert_int_equal(ops->check(backend, &report), ST_CORRUPT);
    assert_non_null(memmem(report.data, report.len, "bucket key", 10));
    buf_deinit(&report);
    ops->close(backend);
}

/* ---- foreign files ---- */

static void expect_refusal(enum status expected, const char *words)
{
    for (int read_only = 0; read_only < 2; read_only++) {
        struct buf why;
        buf_init(&why, 4096);
        struct backend *backend;
        assert_int_equal(try_open(read_only == 0, read_only == 1, &why, &backend), expected);
        assert_null(backend);
        assert_non_null(memmem(why.data, why.len, words, strlen(words)));
        assert_non_null(memmem(why.data, why.len, path, strlen(path)));
        buf_deinit(&why);
    }
}

static void write_file(const void *data, size_t size)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static void test_backend_refuses_foreign_files_in_words(void **state)
{
    (void)state;
    static uint8_t noise[20000];
    memset(noise, 'x', sizeof(noise));
    write_file(noise, sizeof(noise));
    expect_refusal(ST_CORRUPT, "damaged");
    write_file(noise, 10);
    expect_refusal(ST_CORRUPT, "damaged");
    /* The file of the other backend. */
    const struct backend_ops *mine = ops;
    assert_int_equal(ops->remove(path), ST_OK);
    ops = mine == backend_lmdb() ? backend_sqlite() : backend_lmdb();
    fill(3);
    ops = mine;
    expect_refusal(ST_CORRUPT, "damaged");
    assert_int_equal(backend_lmdb()->remove(path), ST_OK);
    assert_int_equal(backend_sqlite()->remove(path), ST_OK);
    assert_int_equal(mkdir(path, 0700), 0);
    struct backend *backend;
    assert_int_equal(try_open(true, false, NULL, &backend), ST_CORRUPT);
    assert_int_equal(rmdir(path), 0);
}

/* ---- traces ---- */

struct folder_state {
    uint32_t files_count;
    uint64_t bytes_hash;
};

static struct folder_state look_at_folder(void)
{
    struct folder_state state = {0};
    static uint8_t bytes[8 << 20];
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        if (entry->d_name[0] == '.')
            continue;
        char file[400];
        snprintf(file, sizeof(file), "%s/%s", folder, entry->d_name);
        struct stat info;
        assert_int_equal(stat(file, &info), 0);
        assert_int_equal(info.st_mode & 0777, 0600);
        int fd = open(file, O_RDONLY);
        ssize_t size = pread(fd, bytes, sizeof(bytes), 0);
        close(fd);
        assert_true(size >= 0);
        state.files_count++;
        for (ssize_t i = 0; i < size; i++) /* order of files does not matter */
            state.bytes_hash += (uint64_t)bytes[i] * (uint64_t)(i + 1);
    }
    closedir(dir);
    return state;
}

static void test_backend_read_only_leaves_no_trace(void **state)
{
    (void)state;
    struct backend *backend;
    assert_int_equal(try_open(true, true, NULL, &backend), ST_NOT_FOUND);
    assert_int_equal(look_at_folder().files_count, 0);
    fill(20);
    struct folder_state before = look_at_folder();
    assert_int_equal(chmod(folder, 0500), 0);
    backend = must_open(true);
    assert_int_equal(expect_whole(backend), 20); /* what is in SQLite's WAL counts too */
    struct buf report;
    buf_init(&report, 4096);
    assert_int_equal(ops->check(backend, &report), ST_OK);
    buf_deinit(&report);
    struct backend_stat stat;
    assert_int_equal(ops->stat(backend, &stat), ST_OK);
    struct backend_op op = {
        .kind = BACKEND_PUT, .bucket = BUCKET_META, .key = SLICE("a"), .value = SLICE("1")};
    assert_int_not_equal(ops->apply(backend, &op, 1), ST_OK);
    ops->close(backend);
    assert_int_equal(chmod(folder, 0700), 0);
    struct folder_state after = look_at_folder();
    assert_int_equal(before.files_count, after.files_count);
    assert_int_equal(before.bytes_hash, after.bytes_hash);
}

/* ---- beside a member that runs ---- */

static uint64_t stand_still(void *context)
{
    (void)context;
    return 1;
}

/* What is seen is one commit: the mark's, whole, and sound. Gives its index. */
static uint64_t look_beside(struct lock *lock, const struct clock *clock)
{
    struct store_options options = {.backend = ops,
                                    .backend_options = {.path = path,
                                                        .life_id = LIFE,
                                                        .map_bytes_max = 1 << 30,
                                                        .read_only = true,
                                                        .shared = true},
                                    .lock = lock,
                                    .clock = clock,
                                    .readers_count = 1};
    struct store *store;
    struct arena arena;
    struct slice value;
    struct buf report;
    arena_init(&arena, 4096);
    buf_init(&report, 4096);
    assert_int_equal(store_open(&options, &store), ST_OK);
    uint64_t index = store_opened_at(store).index;
    if (index > 0) {
        assert_int_equal(store_get(store, BUCKET_META, SLICE("counter"), &arena, &value), ST_OK);
        assert_int_equal(get_le64(value.data), index);
    }
    assert_int_equal(store_check(store, &report), ST_OK);
    store_close(store);
    buf_deinit(&report);
    arena_deinit(&arena);
    return index;
}

static void test_backend_is_read_beside_a_running_writer(void **state)
{
    (void)state;
    struct lock *lock;
    const struct clock clock = {.monotonic_ns = stand_still};
    assert_int_equal(lock_new(/* threaded= */ false, &lock), ST_OK);
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        close(ends[0]);
        run_until_killed(ends[1]);
    }
    assert_true(child > 0);
    close(ends[1]);
    uint64_t said = 0, seen = 0;
    for (uint32_t round = 0; round < 15; round++) {
        assert_int_equal(read(ends[0], &said, sizeof(said)), sizeof(said));
        uint64_t index = look_beside(lock, &clock);
        assert_true(index >= seen && index >= said);
        seen = index;
    }
    kill(child, SIGKILL);
    int how;
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFSIGNALED(how));
    close(ends[0]);
    assert_true(look_beside(lock, &clock) >= seen); /* and what the dead one left behind */
    lock_free(lock);
}

/* ---- damaged pages ---- */

#define DAMAGES_A_PAGE 2U /* of the kinds below, in turn */

/* Opens and checks in a child, so that a signal is a result; true when it was found sound. */
static bool child_finds_it_sound(bool read_only)
{
    pid_t child = fork();
    if (child == 0) {
        struct backend *backend;
        enum status st = try_open(false, read_only, NULL, &backend);
        if (st == ST_OK) {
            struct buf report;
            buf_init(&report, 1 << 20);
            st = ops->check(backend, &report);
            if ((st == ST_CORRUPT) != (report.len > 0))
                st = ST_IO; /* a verdict without words, or words without one */
            buf_deinit(&report);
            ops->close(backend);
        }
        _exit(st == ST_OK ? 0 : st == ST_CORRUPT ? 1 : 2);
    }
    assert_true(child > 0);
    int how;
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFEXITED(how)); /* not by a signal */
    assert_in_range(WEXITSTATUS(how), 0, 1);
    return WEXITSTATUS(how) == 0;
}

/* Enough of all kinds of pages: branches, overflow runs, free lists. */
static void fill_for_damage(void)
{
    static uint8_t large[20000];
    struct backend *backend = must_open(false);
    for (uint64_t n = 1; n <= 60; n++) {
        assert_int_equal(write_transaction(backend, n), ST_OK);
        struct backend_op op = {.kind = BACKEND_PUT,
                                .bucket = BUCKET_LEASE,
                                .key = slice_make(&n, n % 3 + 1),
                                .value = slice_make(large, n * 250)};
        uint64_t durable;
        assert_int_equal(ops->apply(backend, &op, 1), ST_OK);
        assert_int_equal(ops->commit(backend, NULL, false, &durable), ST_OK);
    }
    ops->close(backend);
}

static uint8_t *read_store(size_t *size_out)
{
    int fd = open(path, O_RDONLY);
    struct stat file;
    assert_int_equal(fstat(fd, &file), 0);
    *size_out = (size_t)file.st_size;
    uint8_t *bytes = malloc(*size_out);
    assert_non_null(bytes);
    assert_int_equal(pread(fd, bytes, *size_out, 0), (ssize_t)*size_out);
    close(fd);
    while (*size_out > 0 && bytes[*size_out - 1] == 0) /* the file is allocated far ahead */
        (*size_out)--;
    size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    *size_out = (*size_out + page_bytes - 1) / page_bytes * page_bytes;
    return bytes;
}

enum damage { ZEROED, FLIPPED_HEAD, FLIPPED_NODE, FAR_POINTER, NOISE, DAMAGES_COUNT };

static void damage_page(uint8_t *page, size_t size, enum damage how, struct rng *rng)
{
    switch (how) {
    case ZEROED:
        memset(page, 0, size);
        break;
    case FLIPPED_HEAD:
        page[rng_below(rng, 32)] ^= (uint8_t)(1U << rng_below(rng, 8));
        break;
    case FLIPPED_NODE: { /* where the first node is */
        size_t at = get_le16(page + 16) % (size - 8);
        page[at + rng_below(rng, 8)] ^= (uint8_t)(1U << rng_below(rng, 8));
        break;
    }
    case FAR_POINTER:
        for (size_t at = size - 128; at + 8 <= size; at += 16)
            put_le64(page + at, 1ULL << 40);
        break;
    case NOISE:
        for (size_t at = 16; at < size; at++)
            page[at] = (uint8_t)rng_below(rng, 256);
        break;
    case DAMAGES_COUNT:
        break;
    }
}

static void test_backend_survives_every_page_damaged(void **state)
{
    (void)state;
    fill_for_damage();
    size_t size, page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *bytes = read_store(&size), *page = malloc(page_bytes);
    struct rng rng;
    rng_seed(&rng, 11);
    uint32_t found = 0;
    assert_true(child_finds_it_sound(true));
    for (size_t i = 0; i < size / page_bytes * DAMAGES_A_PAGE; i++) {
        size_t at = i / DAMAGES_A_PAGE * page_bytes;
        memcpy(page, bytes + at, page_bytes);
        damage_page(page, page_bytes, (enum damage)(i % DAMAGES_COUNT), &rng);
        int fd = open(path, O_RDWR);
        assert_int_equal(pwrite(fd, page, page_bytes, (off_t)at), (ssize_t)page_bytes);
        found += child_finds_it_sound(true) ? 0 : 1;
        assert_int_equal(pwrite(fd, bytes + at, page_bytes, (off_t)at), (ssize_t)page_bytes);
        close(fd);
    }
    assert_true(found > size / page_bytes / 2); /* the rest hit free pages, or free bytes */
    assert_true(child_finds_it_sound(true));
    free(page);
    free(bytes);
}

static void test_backend_survives_a_cut_at_every_page(void **state)
{
    (void)state;
    fill_for_damage();
    size_t size, page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    free(read_store(&size));
    uint32_t found = 0, cuts = 0;
    for (size_t left = size; left > page_bytes; left -= page_bytes) {
        assert_int_equal(truncate(path, (off_t)(left - page_bytes)), 0);
        found += child_finds_it_sound(true) ? 0 : 1;
        cuts++;
    }
    assert_true(found > cuts / 2);
    assert_int_equal(truncate(path, 100), 0);
    assert_false(child_finds_it_sound(true));
}

int main(void)
{
#define WITH_FILES(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        WITH_FILES(test_backend_is_whole_after_a_kill_at_any_moment),
        WITH_FILES(test_backend_notices_a_flipped_bit_in_a_value),
        WITH_FILES(test_backend_refuses_foreign_files_in_words),
        WITH_FILES(test_backend_read_only_leaves_no_trace),
        WITH_FILES(test_backend_is_read_beside_a_running_writer),
    };
    if (mkdtemp(folder) == NULL)
        return 1;
    const struct CMUnitTest damaged[] = {
        WITH_FILES(test_backend_survives_every_page_damaged),
        WITH_FILES(test_backend_survives_a_cut_at_every_page),
    };
    const struct backend_ops *const all[] = {backend_lmdb(), backend_sqlite()};
    int failed = 0;
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        ops = all[i];
        failed += cmocka_run_group_tests_name(ops->name, tests, NULL, NULL);
    }
    ops = backend_lmdb();
    failed += cmocka_run_group_tests_name("lmdb, damaged", damaged, NULL, NULL);
    rmdir(folder);
    return failed;
}
