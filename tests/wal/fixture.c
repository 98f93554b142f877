#include "tests/wal/fixture.h"

#include "base/minmax.h"

#define STEPS_MAX 100000

static uint64_t fixture_now(void *context)
{
    return ((struct fixture *)context)->now_ns;
}

void fixture_init(struct fixture *f, uint64_t seed, uint64_t segment_bytes)
{
    memset(f, 0, sizeof(*f));
    f->disk = fake_disk_new(seed);
    f->now_ns = NS_PER_S;
    f->clock = (struct clock){fixture_now, fixture_now, f};
    rng_seed(&f->rng, seed);
    f->options = (struct wal_options){
        .disk = fake_disk_base(f->disk),
        .clock = &f->clock,
        .rng = &f->rng,
        .dir = DIR,
        .life_id = LIFE_ID,
        .segment_bytes_first = segment_bytes,
        .segment_bytes_max = segment_bytes,
    };
}

void fixture_close(struct fixture *f)
{
    wal_close(f->wal);
    f->wal = NULL;
}

void fixture_deinit(struct fixture *f)
{
    fixture_close(f);
    fake_disk_free(f->disk);
}

enum status fixture_try_open(struct fixture *f, bool create)
{
    f->options.create = create;
    f->options.disk = fake_disk_base(f->disk);
    f->options.clock = &f->clock;
    f->options.rng = &f->rng;
    f->ticket = f->durable_ticket = 0;
    return wal_open(&f->options, &f->wal, &f->recovered, &f->report);
}

void fixture_open(struct fixture *f, bool create)
{
    enum status st = fixture_try_open(f, create);
    if (st != ST_OK)
        fail_msg("%s: %s", status_str(st), f->report.text);
}

size_t entry_len(raft_term term, raft_index index)
{
    return (size_t)((term * 131 + index * 71) % 900);
}

struct raft_payload *entry_payload(raft_term term, raft_index index, size_t len)
{
    if (len == 0)
        return NULL;
    struct raft_payload *payload = raft_payload_new(len);
    assert_non_null(payload);
    uint64_t state = term * 1000003 + index;
    for (size_t i = 0; i < len; i++) {
        state = state * 6364136223846793005ULL + 1442695040888963407ULL;
        payload->data[i] = (uint8_t)(state >> 56);
    }
    return payload;
}

enum status fixture_stage(struct fixture *f, raft_term term, raft_index first, raft_index last,
                          raft_index commit)
{
    uint32_t count = (uint32_t)(last - first + 1);
    struct raft_entry *entries = calloc(count, sizeof(*entries));
    assert_non_null(entries);
    for (uint32_t i = 0; i < count; i++) {
        raft_index index = first + i;
        entries[i] = (struct raft_entry){
            .term = term,
            .index = index,
            .payload = entry_payload(term, index, entry_len(term, index)),
        };
    }
    struct raft_hard_state hard_state = {.term = term, .vote = 1, .commit = commit};
    struct wal_append append = {
        .entries = entries, .entries_count = count, .hard_state = &hard_state};
    enum status st = wal_append(f->wal, &append, &f->ticket);
    for (uint32_t i = 0; i < count; i++)
        raft_payload_unref(entries[i].payload);
    free(entries);
    return st;
}

enum status fixture_stage_len(struct fixture *f, raft_term term, raft_index index, size_t len)
{
    struct raft_entry entry = {
        .term = term, .index = index, .payload = entry_payload(term, index, len)};
    struct wal_append append = {.entries = &entry, .entries_count = 1};
    enum status st = wal_append(f->wal, &append, &f->ticket);
    raft_payload_unref(entry.payload);
    return st;
}

enum status fixture_settle(struct fixture *f)
{
    for (uint32_t i = 0; i < STEPS_MAX; i++) {
        enum status st = wal_poll(f->wal, &f->durable_ticket);
        if (st != ST_OK || f->durable_ticket >= f->ticket)
            return st;
        f->now_ns += NS_PER_MS;
        disk_wait(fake_disk_base(f->disk));
        wal_preparer_step(f->wal, f->now_ns);
    }
    fail_msg("the log does not settle");
    return ST_IO;
}

void fixture_append(struct fixture *f, raft_term term, raft_index first, raft_index last)
{
    assert_int_equal(fixture_stage(f, term, first, last, first - 1), ST_OK);
    assert_int_equal(fixture_settle(f), ST_OK);
}

void fixture_step_preparer(struct fixture *f)
{
    for (uint32_t i = 0; i < STEPS_MAX; i++) {
        uint64_t due_ns = wal_preparer_step(f->wal, f->now_ns);
        if (due_ns == UINT64_MAX)
            return;
        f->now_ns = max_u64(f->now_ns, due_ns);
    }
    fail_msg("the preparer does not come to rest");
}

raft_term term_is_one(raft_index index)
{
    (void)index;
    return 1;
}

static void check_entry(const struct raft_entry *entry, raft_index index, raft_term term)
{
    assert_int_equal(entry->index, index);
    assert_int_equal(entry->term, term);
    struct raft_payload *expected = entry_payload(term, index, entry_len(term, index));
    assert_true(slice_eq(raft_payload_slice(entry->payload), raft_payload_slice(expected)));
    raft_payload_unref(expected);
}

void fixture_check(struct fixture *f, raft_index first, raft_index last,
                   raft_term (*term_of)(raft_index index))
{
    struct raft_entry entries[64];
    for (raft_index next = first; next <= last;) {
        uint32_t count = 0;
        raft_index until = min_u64(last, next + 63);
        assert_int_equal(wal_read(f->wal, next, until, 8192, entries, &count), ST_OK);
        assert_true(count > 0);
        for (uint32_t i = 0; i < count; i++) {
            check_entry(&entries[i], next + i, term_of(next + i));
            raft_payload_unref(entries[i].payload);
        }
        next += count;
    }
}
