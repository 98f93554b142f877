/* Fails the nth allocation for every n. A call that meets the failure says ST_NO_MEMORY, changes
 * nothing and works when it is done again; only a transaction that meets it half way is given up,
 * and then a restart finds the store as it was before. */
#include "storage/index.h"
#include "tests/fakes/memory_faults.h"
#include "tests/mvcc/key_space.h"

#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

#define ALL SLICE("\0")
#define TEXT_BYTES 65536U
#define STEPS_MAX 1000
#define KEYS 150
#ifdef __SANITIZE_ADDRESS__ /* it is slow; the release build fails every allocation */
#define STRIDE 4U
#else
#define STRIDE 1U
#endif

static struct key_space ks;

/* ---- the index alone: every allocation of every change ---- */

static void assert_same_index(const struct index *index, const struct index_stat *before)
{
    struct index_stat after;
    struct buf report;
    index_get_stat(index, &after);
    assert_int_equal(after.keys_count, before->keys_count);
    assert_int_equal(after.live_count, before->live_count);
    assert_int_equal(after.superseded_count, before->superseded_count);
    assert_int_equal(after.tombstones_count, before->tombstones_count);
    buf_init(&report, 1 << 16);
    assert_int_equal(index_check(index, &report), ST_OK);
    buf_deinit(&report);
}

/* Returns the allocations that the change took. */
static uint64_t insist_on_change(struct index *index, struct slice key, struct revision revision,
                                 bool live, bool check_all)
{
    struct index_change change;
    struct index_stat before;
    index_get_stat(index, &before);
    for (uint64_t nth = 1;; nth++) {
        memory_fail_at(nth);
        enum status st =
            index_prepare(index, key, revision, live ? revision.main : 0, live, &change);
        bool fired = memory_fault_fired();
        memory_fail_at(0);
        assert_int_equal(st, fired ? ST_NO_MEMORY : ST_OK);
        if (!fired) {
            index_commit(index, &change);
            return nth - 1;
        }
        /* The first one is the record's alone where nothing has to grow. */
        if (check_all || nth > 1)
            assert_same_index(index, &before);
    }
}

static void test_index_is_as_before_when_a_change_finds_no_memory(void **state)
{
    (void)state;
    enum { MANY = 6000, CHANGES = 9000 }; /* three levels of nodes, many chunks of history */
    struct index *index;
    for (uint64_t nth = 1; nth < 3; nth++) {
        memory_fail_at(nth);
        assert_int_equal(index_new(&index), ST_NO_MEMORY);
        assert_null(index);
    }
    memory_fail_at(0);
    assert_int_equal(index_new(&index), ST_OK);
    uint64_t most = 0;
    for (int64_t i = 0; i < CHANGES; i++) {
        char key[32];
        (void)snprintf(key, sizeof(key), "/key/%d", (int)(i * 7919 % MANY));
        uint64_t taken = insist_on_change(index, slice_from_str(key), (struct revision){i + 2, 0},
                                          i % 5 != 0, i % 100 == 0);
        most = taken > most ? taken : most;
    }
    assert_true(most >= 4); /* nodes are split, and what was split stays so when the next fails */
    index_free(index);
}

/* ---- the whole key space over a backend ---- */

/* What readers see: all keys at the oldest revision there is and at the newest, and the hash. */
static void dump(char text[static TEXT_BYTES])
{
    int64_t current, compact;
    struct mvcc_result result;
    mvcc_revisions(ks.mvcc, &current, &compact);
    assert_int_equal(
        key_space_read(&ks, "a", ALL, compact < 1 ? 1 : compact, 0, text, TEXT_BYTES, &result),
        ST_OK);
    size_t len = strlen(text);
    assert_int_equal(
        key_space_read(&ks, "a", ALL, current, 0, text + len, TEXT_BYTES - len, &result), ST_OK);
    len += strlen(text + len);
    int more = snprintf(text + len, TEXT_BYTES - len, "at %lld, compacted %lld, hash %u\n",
                        (long long)current, (long long)compact, key_space_hash(&ks, 0));
    assert_true(len + (size_t)more < TEXT_BYTES);
}

static char text_before[TEXT_BYTES], text_after[TEXT_BYTES];

/* Closes and opens; without memory it is tried again. */
static void reopen(void)
{
    key_space_close(&ks);
    enum status st = key_space_try_open(&ks);
    if (st == ST_NO_MEMORY) {
        assert_true(memory_fault_fired());
        key_space_close(&ks);
        st = key_space_try_open(&ks);
    }
    assert_int_equal(st, ST_OK);
}

static void dump_before_fault(void)
{
    if (memory_fault_fired())
        return;
    memory_faults_pause();
    dump(text_before);
    memory_faults_resume();
}

/* The call, and once more when it had no memory and therefore did nothing that a reader sees. */
#define INSIST(call)                                      \
    do {                                                  \
        dump_before_fault();                              \
        enum status insist_st = (call);                   \
        if (insist_st == ST_NO_MEMORY) {                  \
            assert_true(memory_fault_fired());            \
            dump(text_after);                             \
            assert_string_equal(text_after, text_before); \
            key_space_check(&ks);                         \
            insist_st = (call);                           \
        }                                                 \
        assert_int_equal(insist_st, ST_OK);               \
    } while (0)

static void end_entry(void)
{
    struct store_mark mark = {.index = ks.index + 1, .term = 1, .conf_state = SLICE("c")};
    INSIST(store_end_entry(ks.store, &mark));
    ks.index++;
    store_set_durable(ks.store, ks.index, 1);
}

static void commit(void)
{
    bool worked = true;
    INSIST(store_seal(ks.store, /* force= */ true));
    for (int i = 0; worked && i < STEPS_MAX; i++) {
        ks.now_ns += NS_PER_S;
        INSIST(store_writer_step(ks.store, &worked));
    }
    assert_false(worked);
}

static void put(const char *key, const char *value)
{
    assert_int_equal(mvcc_write_begin(ks.mvcc), ST_OK);
    INSIST(mvcc_write_put(ks.mvcc, slice_from_str(key), slice_from_str(value), /* lease= */ 0, NULL,
                          NULL));
    (void)mvcc_write_end(ks.mvcc);
    end_entry();
}

static void delete_one(const char *key)
{
    struct mvcc_range range = {slice_from_str(key), SLICE_EMPTY};
    int64_t deleted;
    assert_int_equal(mvcc_write_begin(ks.mvcc), ST_OK);
    INSIST(mvcc_write_delete(ks.mvcc, &range, NULL, NULL, &deleted));
    assert_int_equal(deleted, 1);
    (void)mvcc_write_end(ks.mvcc);
    end_entry();
}

static enum status ignore_record(void *context, struct slice record)
{
    (void)context;
    (void)record;
    return ST_OK;
}

static void read_some(void)
{
    struct mvcc_query query = {.range = {SLICE("a"), ALL}};
    struct mvcc_result result;
    uint32_t hash;
    int64_t current, compact;
    INSIST(mvcc_read(ks.mvcc, 0, &query, ignore_record, NULL, &result));
    INSIST(mvcc_hash_kv(ks.mvcc, 0, 0, &hash, &current, &compact));
    assert_int_equal(mvcc_write_begin(ks.mvcc), ST_OK);
    INSIST(mvcc_write_read(ks.mvcc, &query, ignore_record, NULL, &result));
    (void)mvcc_write_end(ks.mvcc);
    assert_int_equal(result.count, KEYS);
}

static void compact(int64_t revision)
{
    bool more = true;
    INSIST(mvcc_compact(ks.mvcc, revision));
    end_entry();
    for (int i = 0; i < STEPS_MAX && (more || store_forget_pending_count(ks.store) > 0); i++) {
        INSIST(mvcc_compact_step(ks.mvcc, &more));
        if (more)
            continue;
        end_entry();
        commit();
    }
    INSIST(mvcc_compact_step(ks.mvcc, &more));
    assert_true(mvcc_compact_is_done(ks.mvcc));
    end_entry();
    commit();
}

static void forget_event(void *context, struct revision revision, bool tombstone,
                         struct slice record)
{
    (void)context;
    (void)revision;
    (void)tombstone;
    (void)record;
}

/* Enough keys for nodes to split and for a read to take two chunks. */
static void put_many(void)
{
    assert_int_equal(mvcc_write_begin(ks.mvcc), ST_OK);
    for (int i = 0; i < KEYS; i++) {
        char key[16];
        (void)snprintf(key, sizeof(key), "key%03d", i);
        assert_int_equal(
            mvcc_write_put(ks.mvcc, slice_from_str(key), SLICE("1"), /* lease= */ 0, NULL, NULL),
            ST_OK);
    }
    (void)mvcc_write_end(ks.mvcc);
    key_space_end_entry(&ks);
}

/* Everything once, from the opening of a new store on. */
static void live_a_life(void)
{
    reopen();
    mvcc_add_event_sink(ks.mvcc, forget_event, NULL);
    memory_faults_pause();
    put_many(); /* 2 */
    memory_faults_resume();
    read_some();
    put("key010", "2");   /* 3 */
    delete_one("key020"); /* 4 */
    delete_one("key030"); /* 5 */
    put("key020", "3");   /* 6 */
    commit();
    INSIST(mvcc_checkpoint(ks.mvcc));
    put("key040", "4"); /* 7 */
    commit();
    reopen();
    compact(5);
    put("key050", "5"); /* 8 */
    commit();
    reopen();
    (void)unlink(ks.checkpoint_path);
    reopen();
}

/* In memory where there is a file system for it: a thousand stores are made and synced. */
static void set_up_key_space(const struct backend_ops *ops)
{
    const char *dir = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    char path[64];
    (void)snprintf(path, sizeof(path), "%s/cleat-test-memory.%d%s", dir, (int)getpid(),
                   ops->suffix);
    key_space_init(&ks, ops, path);
    (void)snprintf(ks.checkpoint_path, sizeof(ks.checkpoint_path), "%s/cleat-test-memory.%d.ckpt",
                   dir, (int)getpid());
}

/* Every step-th allocation of a life fails in one. */
static void fail_in_a_life(const struct backend_ops *ops, uint64_t step)
{
    static char want[TEXT_BYTES];
    bool fired = true;
    for (uint64_t nth = 0; fired; nth += step) { /* 0: none fails */
        set_up_key_space(ops);
        memory_fail_at(nth);
        live_a_life();
        fired = memory_fault_fired() || nth == 0;
        memory_fail_at(0);
        key_space_check(&ks);
        dump(nth == 0 ? want : text_after);
        if (nth > 0)
            assert_string_equal(text_after, want);
        key_space_deinit(&ks);
    }
}

static void test_mvcc_goes_on_after_any_failed_allocation(void **state)
{
    (void)state;
    fail_in_a_life(backend_lmdb(), /* step= */ STRIDE);
    fail_in_a_life(backend_sqlite(), /* step= */ 5 * STRIDE); /* all but a few are the same ones */
}

/* ---- a transaction half done ---- */

static enum status transact(void)
{
    struct mvcc_range range = {SLICE("key0"), SLICE("key140")};
    int64_t deleted;
    struct arena arena;
    struct slice previous;
    arena_init(&arena, 1 << 16);
    enum status st = mvcc_write_begin(ks.mvcc);
    if (st == ST_OK)
        st = mvcc_write_put(ks.mvcc, SLICE("key001"), SLICE("2"), 0, &arena, &previous);
    if (st == ST_OK)
        st = mvcc_write_delete(ks.mvcc, &range, ignore_record, NULL, &deleted);
    if (st == ST_OK)
        st = mvcc_write_put(ks.mvcc, SLICE("key002"), SLICE("3"), 0, &arena, &previous);
    if (st == ST_OK)
        (void)mvcc_write_end(ks.mvcc);
    arena_deinit(&arena);
    return st;
}

/* The member must stop then. Readers never saw any of it, nothing of it can reach the store on
 * disk, and the restart applies the entry from the log again. */
static void test_mvcc_restarts_before_a_transaction_that_found_no_memory(void **state)
{
    (void)state;
    bool fired = true;
    set_up_key_space(backend_lmdb());
    ks.checkpoint_path[0] = '\0';
    key_space_open(&ks);
    put_many();
    key_space_commit(&ks);
    dump(text_before);
    uint64_t nth = 0;
    while (fired) {
        bool worked = false;
        mvcc_add_event_sink(ks.mvcc, forget_event, NULL);
        memory_fail_at(++nth);
        enum status st = transact();
        fired = memory_fault_fired();
        memory_fail_at(0);
        assert_int_equal(st, fired ? ST_NO_MEMORY : ST_OK);
        if (!fired)
            break;
        dump(text_after);
        assert_string_equal(text_after, text_before);
        assert_int_equal(store_seal(ks.store, /* force= */ true), ST_OK);
        assert_int_equal(store_writer_step(ks.store, &worked), ST_OK);
        assert_false(worked);
        key_space_close(&ks);
        key_space_open(&ks);
        key_space_check(&ks);
        dump(text_after);
        assert_string_equal(text_after, text_before);
    }
    assert_true(nth > 140); /* each deletion allocates */
    key_space_end_entry(&ks);
    key_space_check(&ks);
    key_space_deinit(&ks);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_index_is_as_before_when_a_change_finds_no_memory),
        cmocka_unit_test(test_mvcc_goes_on_after_any_failed_allocation),
        cmocka_unit_test(test_mvcc_restarts_before_a_transaction_that_found_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
