/* Random work on a disk that fails some call and then loses power, several lives a seed. The one
 * promise of a log: what a start finds is the state after some of the appends, in order, and at
 * least after all that were acknowledged. It also never takes a crash for damage. */
#include "tests/wal/fixture.h"

#include "base/minmax.h"

#if defined(__SANITIZE_THREAD__)
#define SEEDS_DEFAULT 100 /* one thread: nothing for it to find */
#elif defined(__SANITIZE_ADDRESS__)
#define SEEDS_DEFAULT 1000
#else
#define SEEDS_DEFAULT 10000
#endif
#define LIVES 4
#define APPENDS_MAX 40
#define INDEX_MAX 512

/* What the log says after some append. */
struct contents {
    raft_index last, snapshot;
    raft_term term; /* of the hard state */
    raft_term terms[INDEX_MAX + 1];
};

struct model {
    struct contents states[APPENDS_MAX + 1]; /* [n]: after n appends of this life */
    uint32_t staged, acknowledged;
    struct raft_log_id mark; /* the store's: acknowledged, never truncated */
};

static uint64_t seeds_count(void)
{
    const char *text = getenv("CLEAT_FAULT_SEEDS");
    return text == NULL ? SEEDS_DEFAULT : strtoull(text, NULL, 10);
}

static struct contents *newest(struct model *model)
{
    return &model->states[model->staged];
}

/* Stages something random; the model learns of it only when it was taken. */
static enum status stage_something(struct fixture *f, struct model *model, struct rng *rng)
{
    struct contents *next = &model->states[model->staged + 1];
    *next = *newest(model);
    next->term += rng_below(rng, 8) == 0;
    next->term = max_u64(next->term, 1);
    raft_index low = max_u64(model->mark.index, next->snapshot);
    if (rng_below(rng, 20) == 0 && next->last + 20 < INDEX_MAX) {
        struct raft_snapshot_meta meta = {
            .last = {.index = next->last + 1 + rng_below(rng, 5), .term = next->term}};
        struct wal_append append = {.snapshot = &meta};
        enum status st = wal_append(f->wal, &append, &f->ticket);
        if (st != ST_OK)
            return st;
        next->last = next->snapshot = meta.last.index;
        next->term = newest(model)->term; /* no hard state went along */
        model->staged++;
        return ST_OK;
    }
    raft_index first = next->last + 1;
    if (next->term > newest(model)->term && next->last > low)
        first = low + 1 + rng_below(rng, next->last - low);
    raft_index last = min_u64(first + rng_below(rng, 12), INDEX_MAX);
    if (first > last)
        return ST_OK;
    enum status st = fixture_stage(f, next->term, first, last, model->mark.index);
    if (st != ST_OK)
        return st;
    for (raft_index i = first; i <= last; i++)
        next->terms[i] = next->term;
    next->last = last;
    model->staged++;
    return ST_OK;
}

static void learn_acknowledged(struct fixture *f, struct model *model)
{
    model->acknowledged = max_u32(model->acknowledged, (uint32_t)f->durable_ticket);
}

/* The store applies, and commits its mark, only what is durable and will not be truncated. */
static void move_mark(struct fixture *f, struct model *model, struct rng *rng)
{
    const struct contents *durable = &model->states[model->acknowledged];
    raft_index low = max_u64(model->mark.index, durable->snapshot);
    /* What a later append of this life has truncated was not committed. */
    raft_index high = durable->last;
    for (uint32_t n = model->acknowledged; n <= model->staged; n++) {
        const struct contents *later = &model->states[n];
        if (later->snapshot > durable->snapshot)
            return;
        high = min_u64(high, later->last);
        for (raft_index i = low + 1; i <= high; i++) {
            if (later->terms[i] != durable->terms[i])
                high = i - 1;
        }
    }
    if (high <= low)
        return;
    model->mark.index = low + 1 + rng_below(rng, high - low);
    model->mark.term = durable->terms[model->mark.index];
    f->options.store_mark = model->mark;
    wal_release(f->wal, model->mark.index);
}

static void live(struct fixture *f, struct model *model, struct rng *rng)
{
    for (uint32_t step = 0; step < 200; step++) {
        enum status st = ST_OK;
        switch (rng_below(rng, 6)) {
        case 0:
        case 1:
            if (model->staged < APPENDS_MAX)
                st = stage_something(f, model, rng);
            break;
        case 2:
            fake_disk_complete(f->disk);
            break;
        case 3:
            wal_preparer_step(f->wal, f->now_ns);
            f->now_ns += rng_below(rng, 100) * NS_PER_MS;
            break;
        case 4:
            st = wal_poll(f->wal, &f->durable_ticket);
            learn_acknowledged(f, model);
            break;
        default:
            if (rng_below(rng, 4) == 0)
                wal_idle(f->wal, f->now_ns);
            if (rng_below(rng, 4) == 0)
                move_mark(f, model, rng);
        }
        if (status_is_fatal(st))
            return;
    }
    if (rng_below(rng, 3) == 0 && wal_finish(f->wal) == ST_OK)
        model->acknowledged = model->staged;
}

static bool is_same(struct fixture *f, const struct contents *found, const struct contents *wanted)
{
    if (found->last != wanted->last || found->term != wanted->term ||
        found->snapshot != wanted->snapshot)
        return false;
    for (raft_index i = f->recovered.first_index; i <= found->last; i++) {
        if (found->terms[i] != wanted->terms[i])
            return false;
    }
    return true;
}

static void read_contents(struct fixture *f, struct contents *out)
{
    memset(out, 0, sizeof(*out));
    out->last = f->recovered.last_index;
    out->snapshot = f->recovered.snapshot.last.index;
    out->term = f->recovered.hard_state.term;
    assert_in_range(out->last, 0, INDEX_MAX);
    static struct raft_entry entries[INDEX_MAX];
    for (raft_index next = f->recovered.first_index; next <= out->last;) {
        uint32_t count = 0;
        assert_int_equal(wal_read(f->wal, next, out->last, UINT64_MAX, entries, &count), ST_OK);
        for (uint32_t i = 0; i < count; i++) {
            raft_term term = entries[i].term;
            assert_int_equal(entries[i].index, next + i);
            struct raft_payload *sent = entry_payload(term, next + i, entry_len(term, next + i));
            assert_true(slice_eq(raft_payload_slice(sent), raft_payload_slice(entries[i].payload)));
            raft_payload_unref(sent);
            raft_payload_unref(entries[i].payload);
            out->terms[next + i] = term;
        }
        next += count;
    }
}

/* Finds the state that the log is in among the possible ones, and goes on from there. */
static void check_and_adopt(struct fixture *f, struct model *model, uint64_t seed)
{
    static struct contents found;
    read_contents(f, &found);
    for (uint32_t n = model->acknowledged; n <= model->staged; n++) {
        if (!is_same(f, &found, &model->states[n]))
            continue;
        model->states[0] = model->states[n];
        model->staged = model->acknowledged = 0;
        return;
    }
    fail_msg("seed %llu: after %u acknowledged of %u appends the log ends at %llu",
             (unsigned long long)seed, model->acknowledged, model->staged,
             (unsigned long long)found.last);
}

static void run_seed(uint64_t seed)
{
    static struct model model;
    memset(&model, 0, sizeof(model));
    struct rng rng;
    rng_seed(&rng, seed);
    struct fixture f;
    fixture_init(&f, seed, (uint64_t)(16 + 16 * rng_below(&rng, 3)) << 10);
    fake_disk_set_auto(f.disk, rng_below(&rng, 2) == 0);
    fixture_open(&f, /* create= */ true);
    for (uint32_t i = 0; i < LIVES; i++) {
        if (rng_below(&rng, 4) != 0)
            fake_disk_fail_at(f.disk, rng_below(&rng, 120),
                              rng_below(&rng, 4) == 0 ? ST_NO_SPACE : ST_IO);
        if (f.wal != NULL)
            live(&f, &model, &rng);
        fake_disk_power_cut(f.disk);
        fixture_close(&f);
        if (rng_below(&rng, 3) == 0) { /* and again, while starting */
            fake_disk_fail_at(f.disk, rng_below(&rng, 30), ST_IO);
            enum status st = fixture_try_open(&f, /* create= */ false);
            if (st == ST_CORRUPT)
                fail_msg("seed %llu: %s", (unsigned long long)seed, f.report.text);
            fake_disk_power_cut(f.disk);
            fixture_close(&f);
        }
        enum status st = fixture_try_open(&f, /* create= */ false);
        if (st != ST_OK)
            fail_msg("seed %llu: %s: %s", (unsigned long long)seed, status_str(st), f.report.text);
        check_and_adopt(&f, &model, seed);
    }
    fixture_deinit(&f);
}

static void test_wal_keeps_acknowledged_entries_across_any_fault(void **state)
{
    (void)state;
    const char *only = getenv("CLEAT_FAULT_SEED");
    if (only != NULL) {
        run_seed(strtoull(only, NULL, 10));
        return;
    }
    uint64_t count = seeds_count();
    for (uint64_t seed = 1; seed <= count; seed++)
        run_seed(seed);
}

/* The same short life with the nth call failing, for every n. */
static void test_wal_stops_at_the_nth_fault(void **state)
{
    (void)state;
    bool fired = true;
    for (uint64_t fault_at = 0; fired; fault_at++) {
        struct fixture f;
        fixture_init(&f, fault_at, 16 << 10);
        fake_disk_fail_at(f.disk, fault_at, ST_IO);
        raft_index acknowledged = 0;
        enum status st = fixture_try_open(&f, /* create= */ true);
        while (st == ST_OK && acknowledged < 20) {
            st = fixture_stage(&f, 1, acknowledged + 1, acknowledged + 1, 0);
            if (st == ST_OK)
                st = fixture_settle(&f);
            acknowledged += st == ST_OK;
        }
        fired = fake_disk_fault_fired(f.disk);
        fake_disk_power_cut(f.disk);
        fixture_close(&f);
        st = fixture_try_open(&f, /* create= */ false);
        if (st == ST_NOT_FOUND) {
            assert_int_equal(acknowledged, 0);
        } else {
            assert_int_equal(st, ST_OK);
            assert_in_range(f.recovered.last_index, acknowledged, 20);
            fixture_check(&f, 1, f.recovered.last_index, term_is_one);
        }
        fixture_deinit(&f);
    }
}

/* Makes the file at path what it is on another disk, but only in the page cache. */
static void copy_unsynced(struct fake_disk *to, struct fake_disk *from, const char *path)
{
    struct disk_file *file;
    size_t len;
    const uint8_t *bytes = fake_disk_bytes(from, path, &len);
    assert_non_null(bytes);
    assert_int_equal(disk_open(fake_disk_base(to), path, 0, &file), ST_OK);
    assert_int_equal(disk_write_at(file, 0, slice_make(bytes, len)), ST_OK);
    disk_close(file);
}

/* A process is killed between its write and the flush; the next one reads what it wrote and acts on
 * it; then the power fails. What was handed over must be there again. */
static void test_wal_keeps_what_it_found_in_the_page_cache(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct fixture f;
        fixture_init(&f, seed, 16 << 10);
        fixture_open(&f, /* create= */ true);
        fixture_append(&f, 1, 1, 3);
        struct fake_disk *written = f.disk, *disk = fake_disk_clone(written, seed);
        fixture_append(&f, 1, 4, 6);
        fixture_close(&f);
        f.disk = disk;
        copy_unsynced(disk, written, DIR "/0000000000000001.wal");
        fake_disk_free(written);

        fixture_open(&f, /* create= */ false);
        assert_int_equal(f.recovered.last_index, 6);
        fake_disk_power_cut(disk);
        fixture_close(&f);
        fixture_open(&f, /* create= */ false);
        assert_int_equal(f.recovered.last_index, 6);
        fixture_check(&f, 1, 6, term_is_one);
        fixture_deinit(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wal_stops_at_the_nth_fault),
        cmocka_unit_test(test_wal_keeps_what_it_found_in_the_page_cache),
        cmocka_unit_test(test_wal_keeps_acknowledged_entries_across_any_fault),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
