/* One whole member in one thread: consensus, log, apply and store as the server has them, over a
 * disk and a backend that fake power cuts, stepped in an order that follows from a seed. */
#include "server/loops/loops.h"

#include "base/lock.h"
#include "server/state/conf_state.h"
#include "server/state/kv_request.h"
#include "server/state/machine.h"
#include "tests/fakes/backend_mem.h"
#include "tests/fakes/fake_disk.h"

#include <setjmp.h>
#include <stdarg.h>
/* cmocka.h wants the two above */
#include <cmocka.h>

#define STORE_PATH "loops.mem"
#define LOG_DIR "/wal"
#define LIFE_ID 7U
#define MEMBER_ID 0x8e9e05c52164694dU
#define KEYS 8U
#define PROPOSALS_MAX 4096U
#define ENTRIES_MAX 8192U
#define LIVES 3U
#define READERS 4U /* two for short reads, and the others */
#define ACTORS (ACTOR_READER_FIRST + READERS)
#define STEPS 400U
#define SEEDS 500U

struct world;

struct write {
    struct proposal proposal;
    struct world *world;
    uint64_t number;
};

struct world {
    struct rng rng;
    uint64_t now_ns;
    struct clock clock;
    struct fake_disk *disk;
    struct lock *lock;
    struct store *store;
    struct mvcc *mvcc;
    struct machine *machine;
    struct wal *wal;
    struct raft *raft;
    struct loops *loops;
    bool fatal;
    struct write writes[PROPOSALS_MAX];
    uint64_t sent, acknowledged; /* numbers; 0: none */
    uint64_t acknowledged_of[KEYS], open_count;
    struct raft_entry entries[ENTRIES_MAX];
    struct read_request read;
    bool read_done;
};

static uint64_t world_now(void *context)
{
    return ((struct world *)context)->now_ns;
}

static void world_fatal(void *context, enum status st, const char *what)
{
    (void)st;
    (void)what;
    ((struct world *)context)->fatal = true;
}

/* ---- opening ---- */

static void open_store(struct world *w)
{
    const struct store_options store = {.backend = backend_mem(),
                                        .backend_options = {.path = STORE_PATH,
                                                            .life_id = LIFE_ID,
                                                            .map_bytes_max = 1 << 30,
                                                            .create = true},
                                        .lock = w->lock,
                                        .clock = &w->clock,
                                        .readers_count = 1 + READERS};
    assert_int_equal(store_open(&store, &w->store), ST_OK);
    const struct mvcc_options mvcc = {
        .store = w->store, .lock = w->lock, .life_id = LIFE_ID, .readers_count = 1 + READERS};
    assert_int_equal(mvcc_open(&mvcc, &w->mvcc), ST_OK);
    const struct machine_options machine = {
        .store = w->store, .mvcc = w->mvcc, .cluster_id = 1, .member_id = MEMBER_ID};
    assert_int_equal(machine_open(&machine, &w->machine), ST_OK);
}

static void open_wal(struct world *w, bool create, struct raft_log_id mark,
                     struct wal_recovered *recovered)
{
    struct wal_report report;
    const struct wal_options options = {.disk = fake_disk_base(w->disk),
                                        .clock = &w->clock,
                                        .rng = &w->rng,
                                        .dir = LOG_DIR,
                                        .life_id = LIFE_ID,
                                        .create = create,
                                        .store_mark = mark,
                                        .segment_bytes_first = 64 << 10,
                                        .segment_bytes_max = 128 << 10};
    enum status st = wal_open(&options, &w->wal, recovered, &report);
    if (st != ST_OK)
        fail_msg("the log: %s: %s", status_str(st), report.text);
}

/* What a first start leaves: the entry that makes this member the only voter. */
static void found_cluster(struct world *w)
{
    struct wal_recovered recovered;
    open_wal(w, /* create= */ true, (struct raft_log_id){0}, &recovered);
    const struct member_change change = {.type = MEMBER_CHANGE_ADD_NODE,
                                         .node_id = MEMBER_ID,
                                         .context =
                                             SLICE("{\"id\":10276657743932975437,\"peerURLs\":["
                                                   "\"http://localhost:2380\"],\"name\":\"a\"}")};
    struct raft_entry entry = {.term = 1,
                               .index = 1,
                               .type = RAFT_ENTRY_CONF_CHANGE,
                               .payload = member_change_payload(&change)};
    assert_non_null(entry.payload);
    const struct raft_hard_state hard_state = {.term = 1, .commit = 1};
    const struct wal_append append = {
        .entries = &entry, .entries_count = 1, .hard_state = &hard_state};
    uint64_t ticket;
    assert_int_equal(wal_append(w->wal, &append, &ticket), ST_OK);
    assert_int_equal(wal_finish(w->wal), ST_OK);
    wal_close(w->wal);
    raft_payload_unref(entry.payload);
}

static void open_raft(struct world *w, const struct wal_recovered *recovered,
                      const struct store_mark *mark)
{
    struct raft_start start = {.hard_state = recovered->hard_state,
                               .before_first = {.index = recovered->first_index - 1},
                               .entries = w->entries,
                               .applied = mark->index};
    assert_int_equal(conf_state_decode(mark->conf_state, &start.conf_state), ST_OK);
    for (raft_index next = recovered->first_index; next <= recovered->last_index;) {
        uint32_t got = 0;
        assert_true(recovered->last_index - next < ENTRIES_MAX - start.entries_count);
        assert_int_equal(wal_read(w->wal, next, recovered->last_index, 1 << 20,
                                  w->entries + start.entries_count, &got),
                         ST_OK);
        start.entries_count += got;
        next += got;
    }
    uint32_t read_count = start.entries_count;
    if (recovered->first_index > 1) {
        start.before_first = (struct raft_log_id){w->entries[0].index, w->entries[0].term};
        start.entries++;
        start.entries_count--;
    }
    const struct raft_config config = {.id = MEMBER_ID,
                                       .election_ticks = 10,
                                       .heartbeat_ticks = 1,
                                       .message_bytes_max = 1 << 20,
                                       .inflight_messages_max = 64,
                                       .apply_bytes_max = 1 << 20,
                                       .window_entries_max = 100,
                                       .window_bytes_max = 1 << 20,
                                       .check_quorum = true,
                                       .pre_vote = true,
                                       .apply_unstable = true,
                                       .rng = &w->rng};
    assert_int_equal(raft_new(&config, &start, &w->raft), ST_OK);
    for (uint32_t i = 0; i < read_count; i++)
        raft_payload_unref(w->entries[i].payload);
}

static void open_world(struct world *w)
{
    open_store(w);
    struct store_mark mark = store_opened_at(w->store);
    struct wal_recovered recovered;
    open_wal(w, /* create= */ false, (struct raft_log_id){mark.index, mark.term}, &recovered);
    open_raft(w, &recovered, &mark);
    const struct loops_options options = {.clock = &w->clock,
                                          .raft = w->raft,
                                          .wal = w->wal,
                                          .store = w->store,
                                          .mvcc = w->mvcc,
                                          .machine = w->machine,
                                          .applied = mark.index,
                                          .member_id = MEMBER_ID,
                                          .id_start = 1,
                                          .tick_ns = 100 * NS_PER_MS,
                                          .readers_count = READERS,
                                          .reader_slot_first = 1,
                                          .election_ticks = 10,
                                          .waves = true,
                                          .fatal = world_fatal,
                                          .context = w};
    assert_int_equal(loops_new(&options, &w->loops), ST_OK);
}

static void close_world(struct world *w)
{
    loops_free(w->loops);
    raft_free(w->raft);
    wal_close(w->wal);
    machine_close(w->machine);
    mvcc_close(w->mvcc);
    store_close(w->store);
}

/* ---- load ---- */

static void write_done(struct proposal *proposal, enum api_error error, struct slice response)
{
    (void)response;
    struct write *write = CONTAINER_OF(proposal, struct write, proposal);
    struct world *w = write->world;
    w->open_count--;
    if (error != API_OK)
        return; /* its fate is open */
    assert_false(w->fatal);
    w->acknowledged = write->number;
    w->acknowledged_of[write->number % KEYS] = write->number;
}

/* Put of key number % KEYS; the value is the number. */
static void send_one(struct world *w, bool urgent)
{
    if (w->sent + 1 == PROPOSALS_MAX)
        return;
    struct write *write = &w->writes[++w->sent];
    char key = (char)('a' + w->sent % KEYS), body[32];
    int digits = snprintf(body + 5, sizeof(body) - 5, "%u", (unsigned)w->sent);
    body[0] = 0x0a;
    body[1] = 1;
    body[2] = key;
    body[3] = 0x12;
    body[4] = (char)digits;
    *write = (struct write){.world = w, .number = w->sent};
    write->proposal =
        (struct proposal){.request.deadline_ns = w->now_ns + 7 * NS_PER_S,
                          .id = loops_next_id(w->loops),
                          .payload = internal_request_payload(
                              INTERNAL_PUT, slice_make(body, (size_t)digits + 5), w->sent),
                          .urgent = urgent,
                          .done = write_done};
    assert_non_null(write->proposal.payload);
    w->open_count++;
    loops_propose(w->loops, &write->proposal);
}

static void send_write(struct world *w)
{
    send_one(w, /* urgent= */ false);
}

/* One thing happens. */
static void step_world(struct world *w)
{
    uint64_t choice = rng_below(&w->rng, ACTORS + 7);
    if (choice < ACTORS)
        loops_step(w->loops, (uint32_t)choice, w->now_ns);
    else if (choice < ACTORS + 2)
        fake_disk_complete(w->disk);
    else if (choice < ACTORS + 5)
        send_write(w);
    else
        w->now_ns += rng_below(&w->rng, 20 * NS_PER_MS);
}

/* Until a write of now is acknowledged: all that the log holds is committed and applied then. */
static void settle(struct world *w)
{
    fake_disk_set_auto(w->disk, true);
    uint64_t wanted = 0;
    for (uint32_t i = 0; i < 20000; i++) {
        struct loops_status status;
        loops_get_status(w->loops, &status);
        if (wanted == 0 && status.is_leader) {
            send_write(w);
            wanted = w->sent;
        }
        if (wanted != 0 && w->acknowledged == wanted)
            return;
        for (uint32_t actor = ACTOR_CONSENSUS; actor < ACTORS; actor++)
            loops_step(w->loops, actor, w->now_ns);
        w->now_ns += NS_PER_MS;
    }
    fail_msg("the member does not come to rest");
}

/* ---- checks ---- */

static enum status note_value(void *context, struct slice record)
{
    struct mvcc_kv kv;
    assert_int_equal(mvcc_kv_decode(record, &kv), ST_OK);
    char text[24] = {0};
    memcpy(text, kv.value.data, kv.value.len);
    *(uint64_t *)context = strtoull(text, NULL, 10);
    return ST_OK;
}

static void check_acknowledged(struct world *w)
{
    for (uint32_t i = 0; i < KEYS; i++) {
        uint8_t key = (uint8_t)('a' + i);
        uint64_t found = 0;
        struct mvcc_query query = {.range = {.key = slice_make(&key, 1)}};
        struct mvcc_result result;
        assert_int_equal(mvcc_read(w->mvcc, 0, &query, note_value, &found, &result), ST_OK);
        assert_in_range(found, w->acknowledged_of[i], w->sent);
        w->acknowledged_of[i] = found; /* what was there once stays */
    }
}

static void run_seed(uint64_t seed)
{
    struct world *w = calloc(1, sizeof(*w));
    assert_non_null(w);
    rng_seed(&w->rng, seed);
    w->now_ns = NS_PER_S;
    w->clock = (struct clock){world_now, world_now, w};
    w->disk = fake_disk_new(seed);
    assert_int_equal(lock_new(/* threaded= */ false, &w->lock), ST_OK);
    backend_mem_clear();
    found_cluster(w);
    for (uint32_t life = 0; life < LIVES; life++) {
        open_world(w);
        settle(w);
        check_acknowledged(w);
        fake_disk_set_auto(w->disk, false);
        for (uint32_t i = 0; i < STEPS; i++)
            step_world(w);
        assert_false(w->fatal);
        fake_disk_power_cut(w->disk);
        close_world(w);
        backend_mem_power_cut(STORE_PATH, seed + life);
        w->open_count = 0;
    }
    open_world(w);
    settle(w);
    check_acknowledged(w);
    close_world(w);
    backend_mem_clear();
    lock_free(w->lock);
    fake_disk_free(w->disk);
    free(w);
}

static void test_loops_keep_what_was_acknowledged_through_power_cuts(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++)
        run_seed(seed);
}

/* ---- one promise at a time ---- */

static struct world *one_world(void)
{
    struct world *w = calloc(1, sizeof(*w));
    assert_non_null(w);
    rng_seed(&w->rng, 1);
    w->now_ns = NS_PER_S;
    w->clock = (struct clock){world_now, world_now, w};
    w->disk = fake_disk_new(1);
    assert_int_equal(lock_new(/* threaded= */ false, &w->lock), ST_OK);
    backend_mem_clear();
    found_cluster(w);
    open_world(w);
    settle(w);
    fake_disk_set_auto(w->disk, false);
    return w;
}

static void end_world(struct world *w)
{
    close_world(w);
    backend_mem_clear();
    lock_free(w->lock);
    fake_disk_free(w->disk);
    free(w);
}

static void step_all(struct world *w)
{
    for (uint32_t round = 0; round < 10; round++) {
        for (uint32_t actor = ACTOR_CONSENSUS; actor < ACTORS; actor++)
            loops_step(w->loops, actor, w->now_ns);
        w->now_ns += NS_PER_MS;
    }
}

static void test_loops_acknowledge_nothing_before_the_disk_has_it(void **state)
{
    (void)state;
    struct world *w = one_world();
    send_write(w);
    step_all(w);
    assert_int_equal(w->open_count, 1);
    assert_int_equal(w->acknowledged, w->sent - 1);
    assert_true(fake_disk_complete(w->disk));
    step_all(w);
    assert_int_equal(w->acknowledged, w->sent);
    end_world(w);
}

static void read_ready(struct read_request *read, enum api_error error, uint32_t reader)
{
    (void)reader;
    assert_int_equal(error, API_OK);
    CONTAINER_OF(read, struct world, read)->read_done = true;
}

static void test_loops_answer_reads_while_the_disk_hangs(void **state)
{
    (void)state;
    struct world *w = one_world();
    send_write(w);
    step_all(w);
    w->read =
        (struct read_request){.request.deadline_ns = w->now_ns + NS_PER_S, .ready = read_ready};
    loops_read(w->loops, &w->read);
    step_all(w);
    assert_true(w->read_done);
    assert_int_equal(w->acknowledged, w->sent - 1);
    end_world(w);
}

struct long_read {
    struct read_request read;
    bool is_done;
    uint32_t reader;
};

static void long_ready(struct read_request *read, enum api_error error, uint32_t reader)
{
    struct long_read *long_read = CONTAINER_OF(read, struct long_read, read);
    assert_int_equal(error, API_OK);
    long_read->is_done = true;
    long_read->reader = reader;
}

/* Of the readers only `reader` gets on. */
static void step_reader(struct world *w, uint32_t reader)
{
    loops_step(w->loops, ACTOR_READER_FIRST + reader, w->now_ns);
}

static void test_loops_reads_wait_for_no_longer_ones(void **state)
{
    (void)state;
    struct world *w = one_world();
    struct long_read whole = {.read.ready = long_ready}, large = whole, small[2] = {whole, whole};
    loops_read_whole(w->loops, &whole.read);
    loops_read_long(w->loops, &large.read);
    for (uint32_t i = 0; i < 2; i++) {
        loops_read_local(w->loops, &small[i].read);
        step_reader(w, 0);
        step_reader(w, 1);
        assert_true(small[i].is_done);
        assert_false(loops_is_for_long_reads(w->loops, small[i].reader));
    }
    assert_false(large.is_done);
    step_reader(w, 2);
    assert_true(large.is_done && loops_is_for_long_reads(w->loops, large.reader));
    assert_false(whole.is_done);
    step_reader(w, 3);
    assert_true(whole.is_done && !loops_is_for_long_reads(w->loops, whole.reader));
    end_world(w);
}

static void test_loops_write_one_batch_for_all_that_waits(void **state)
{
    (void)state;
    struct world *w = one_world();
    struct fake_disk_stat before, after;
    send_write(w);
    step_all(w);
    fake_disk_get_stat(w->disk, &before);
    for (uint32_t i = 0; i < 50; i++)
        send_write(w);
    step_all(w);
    while (fake_disk_complete(w->disk))
        step_all(w);
    fake_disk_get_stat(w->disk, &after);
    assert_int_equal(w->acknowledged, w->sent);
    assert_int_equal(after.durable_writes_count - before.durable_writes_count, 2);
    end_world(w);
}

/* It goes with the next batch, before what came before it, however much that is. */
static void test_loops_write_what_is_urgent_first(void **state)
{
    (void)state;
    struct world *w = one_world();
    send_write(w);
    step_all(w); /* its disk write hangs */
    uint64_t first = w->sent + 1;
    for (uint32_t i = 0; i < 20; i++)
        send_write(w);
    send_one(w, /* urgent= */ true);
    uint64_t urgent = w->sent;
    step_all(w);
    w->acknowledged = 0;
    while (w->acknowledged != urgent && fake_disk_complete(w->disk)) {
        loops_step(w->loops, ACTOR_CONSENSUS, w->now_ns);
        loops_step(w->loops, ACTOR_APPLIER, w->now_ns);
        assert_true(w->acknowledged < first || w->acknowledged == urgent || w->open_count == 0);
    }
    step_all(w);
    assert_int_equal(w->open_count, 0);
    assert_int_equal(w->acknowledged, urgent - 1); /* the last of the others */
    end_world(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loops_acknowledge_nothing_before_the_disk_has_it),
        cmocka_unit_test(test_loops_answer_reads_while_the_disk_hangs),
        cmocka_unit_test(test_loops_reads_wait_for_no_longer_ones),
        cmocka_unit_test(test_loops_write_one_batch_for_all_that_waits),
        cmocka_unit_test(test_loops_write_what_is_urgent_first),
        cmocka_unit_test(test_loops_keep_what_was_acknowledged_through_power_cuts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
