#include "tests/sim/cluster.h"

#include "base/hash.h"
#include "base/lock.h"
#include "base/minmax.h"
#include "server/loops/start.h"
#include "server/state/conf_state.h"
#include "server/state/kv_request.h"
#include "server/state/machine.h"
#include "tests/fakes/backend_mem.h"
#include "tests/sim/cluster_private.h"

#include <setjmp.h>
#include <stdarg.h>
/* cmocka.h wants the two above */
#include <cmocka.h>

#define LOG_DIR "/wal"
#define TICK_NS (100 * NS_PER_MS)
#define ELECTION_TICKS 10U
#define PER_MILLION 1000000
#define FREE_BYTES (100ULL << 20) /* that a copy would save, by what the store in memory says */
#define STOP_NS (2 * NS_PER_S)    /* an orderly stop waits no longer for what is open */

static void describe(const struct cluster_member *m)
{
    struct raft_status status;
    struct wal_stat log;
    if (!m->running) {
        fprintf(stderr, "  member %u: %s\n", m->number, m->removed ? "removed" : "down");
        return;
    }
    raft_get_status(m->raft, &status);
    wal_get_stat(m->wal, &log);
    fprintf(stderr,
            "  member %u: role %d, term %llu, leader %llx, commit %llu, applied %llu, log %llu-%llu"
            " durable to %llu%s%s\n",
            m->number, (int)status.role, (unsigned long long)status.hard_state.term,
            (unsigned long long)status.leader, (unsigned long long)status.hard_state.commit,
            (unsigned long long)machine_applied(m->machine).index,
            (unsigned long long)log.first_index, (unsigned long long)log.last_index,
            (unsigned long long)log.durable_index,
            loops_log_is_full(m->loops) ? ", its log is full" : "",
            store_health(m->store) == ST_OK ? "" : ", its store is full or broken");
}

/* What a leader thinks of the others. */
static void describe_progress(const struct cluster_member *m)
{
    struct raft_progress progress;
    for (uint32_t i = 0; m->running && i < CLUSTER_MEMBERS_MAX; i++) {
        const struct cluster_member *other = &m->cluster->members[i];
        if (raft_get_progress(m->raft, other->id, &progress) == ST_OK)
            fprintf(
                stderr, "    of member %u: state %d, match %llu, next %llu, snapshot %llu, %s%s\n",
                i, (int)progress.state, (unsigned long long)progress.match,
                (unsigned long long)progress.next, (unsigned long long)progress.pending_snapshot,
                progress.recent_active ? "active" : "silent", progress.is_paused ? ", paused" : "");
    }
}

void cluster_fail(const struct cluster *cluster, const char *format, ...)
{
    char what[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof(what), format, arguments);
    va_end(arguments);
    for (uint32_t i = 0; i < CLUSTER_MEMBERS_MAX; i++) {
        if (cluster->members[i].exists)
            describe(&cluster->members[i]);
        describe_progress(&cluster->members[i]);
    }
    fail_msg("seed %llu, at %llu ms: %s", (unsigned long long)cluster->options.seed,
             (unsigned long long)(cluster->now_ns / NS_PER_MS), what);
    abort(); /* outside of a cmocka test fail_msg() has ended the process */
}

void cluster_note(struct cluster *cluster, uint64_t fact)
{
    cluster->hash = hash64_seeded(slice_make(&fact, sizeof(fact)), cluster->hash);
}

/* ---- what a member calls ---- */

uint64_t cluster_local_ns(const struct cluster_member *m)
{
    uint64_t passed = m->cluster->now_ns - m->time.base_ns;
    int64_t gained = (int64_t)passed * m->time.rate_ppm / PER_MILLION;
    return m->time.base_local_ns + passed + (uint64_t)gained;
}

/* The cluster's time at which a member's clock shows local_ns. */
static uint64_t cluster_ns_of(const struct cluster_member *m, uint64_t local_ns)
{
    if (local_ns <= m->time.base_local_ns)
        return m->time.base_ns;
    uint64_t shown = local_ns - m->time.base_local_ns;
    if (shown > UINT64_MAX / 2)
        return UINT64_MAX;
    if (m->time.rate_ppm == 0)
        return m->time.base_ns + shown;
    uint64_t speed = (uint64_t)(PER_MILLION + m->time.rate_ppm);
    uint64_t passed = shown / speed * PER_MILLION + shown % speed * PER_MILLION / speed;
    return m->time.base_ns + passed + 2; /* what the divisions dropped */
}

static uint64_t member_now(void *context)
{
    return cluster_local_ns(context);
}

static uint64_t member_wall(void *context)
{
    const struct cluster_member *m = context;
    return cluster_local_ns(m) + (uint64_t)m->time.wall_ahead_ns;
}

static void member_fatal(void *context, enum status st, const char *what)
{
    struct cluster_member *m = context;
    m->fatal = true;
    if (!m->may_fail)
        cluster_fail(m->cluster, "member %u: %s: %s (%s)", m->number, what, status_str(st),
                     machine_problem(m->machine));
}

static void member_wake(void *context, uint32_t actor)
{
    ((struct cluster_member *)context)->woken[actor] = true;
}

static void member_removed(void *context)
{
    ((struct cluster_member *)context)->removed = true;
}

static void member_quarantined(void *context, const char *why)
{
    struct cluster_member *m = context;
    m->quarantined = true;
    if (!m->may_fail)
        cluster_fail(m->cluster, "member %u is quarantined: %s", m->number, why);
}

static void wake_consensus(void *context)
{
    member_wake(context, ACTOR_CONSENSUS);
}

static void wake_applier(void *context)
{
    member_wake(context, ACTOR_APPLIER);
}

static void wake_writer(void *context)
{
    member_wake(context, ACTOR_WRITER);
}

static void wake_preparer(void *context)
{
    member_wake(context, ACTOR_PREPARER);
}

/* ---- making a member ---- */

struct raft_payload *cluster_founding_change(const struct cluster_member *m, uint64_t id)
{
    char json[160];
    int len = snprintf(json, sizeof(json),
                       "{\"id\":%llu,\"peerURLs\":[\"http://m%u:2380\"],\"name\":\"m%u\"}",
                       (unsigned long long)m->id, m->number, m->number);
    const struct member_change change = {.id = id,
                                         .type = MEMBER_CHANGE_ADD_NODE,
                                         .node_id = m->id,
                                         .context = slice_make(json, (size_t)len)};
    struct raft_payload *payload = member_change_payload(&change);
    assert_non_null(payload);
    return payload;
}

/* False: the disk has no room for a new segment. */
static bool open_wal(struct cluster_member *m, bool create, struct raft_log_id mark,
                     struct wal_recovered *recovered)
{
    struct wal_report report;
    const struct wal_options options = {.disk = fake_disk_base(m->disk),
                                        .clock = &m->clock,
                                        .rng = &m->rng,
                                        .dir = LOG_DIR,
                                        .life_id = m->life_id,
                                        .create = create,
                                        .store_mark = mark,
                                        .segment_bytes_first = 64 << 10,
                                        .segment_bytes_max = 128 << 10};
    enum status st = wal_open(&options, &m->wal, recovered, &report);
    if (st == ST_NO_SPACE && m->may_fail)
        return false;
    if (st != ST_OK)
        cluster_fail(m->cluster, "the log of member %u: %s: %s", m->number, status_str(st),
                     report.text);
    return true;
}

/* What a first start leaves: the entries that make the founding members voters, or nothing. */
static void make_log(struct cluster_member *m, uint32_t founders)
{
    struct wal_recovered recovered;
    struct raft_entry entries[CLUSTER_MEMBERS_MAX];
    assert_true(open_wal(m, /* create= */ true, (struct raft_log_id){0}, &recovered));
    for (uint32_t i = 0; i < founders; i++)
        entries[i] =
            (struct raft_entry){.term = 1,
                                .index = i + 1,
                                .type = RAFT_ENTRY_CONF_CHANGE,
                                .payload = cluster_founding_change(&m->cluster->members[i], 0)};
    const struct raft_hard_state hard_state = {.term = 1, .commit = founders};
    const struct wal_append append = {
        .entries = entries, .entries_count = founders, .hard_state = &hard_state};
    uint64_t ticket;
    if (founders > 0)
        assert_int_equal(wal_append(m->wal, &append, &ticket), ST_OK);
    assert_int_equal(wal_finish(m->wal), ST_OK);
    wal_close(m->wal);
    for (uint32_t i = 0; i < founders; i++)
        raft_payload_unref(entries[i].payload);
}

#define WATCH_SLOT (2U + LOOPS_SNAPSHOT_SLOTS)

static const struct backend_ops *backend_of(const struct cluster *cluster)
{
    return cluster->options.backend == NULL ? backend_mem() : cluster->options.backend;
}

/* ---- snapshots ---- */

static void store_path(void *context, raft_index index, char *out, size_t out_bytes)
{
    struct cluster_member *m = context;
    const char *dir = m->cluster->options.backend_dir;
    snprintf(m->made_path, sizeof(m->made_path), "%s%ssim-%u-%llu%s", dir == NULL ? "" : dir,
             dir == NULL ? "" : "/", m->number, (unsigned long long)index,
             backend_of(m->cluster)->suffix);
    snprintf(out, out_bytes, "%s", m->made_path);
}

static void copy_path(void *context, raft_index index, char *out, size_t out_bytes)
{
    struct cluster_member *m = context;
    const char *dir = m->cluster->options.backend_dir;
    snprintf(out, out_bytes, "%s%ssim-%u-%llu-%u%s", dir == NULL ? "" : dir, dir == NULL ? "" : "/",
             m->number, (unsigned long long)index, ++m->copies_count,
             backend_of(m->cluster)->suffix);
}

static enum status store_chosen(void *context, const char *path)
{
    struct cluster_member *m = context;
    snprintf(m->store_path, sizeof(m->store_path), "%s", path);
    if (strcmp(path, m->made_path) == 0)
        m->installs_count++;
    return ST_OK;
}

static void snapshot_failed(void *context, raft_index index, enum status st, const char *why)
{
    const struct cluster_member *m = context;
    if (!m->may_fail)
        cluster_fail(m->cluster, "member %u cannot load the snapshot of entry %llu: %s: %s",
                     m->number, (unsigned long long)index, status_str(st), why);
}

/* ---- opening ---- */

static void open_store(struct cluster_member *m)
{
    m->store_options = (struct store_options){.backend = backend_of(m->cluster),
                                              .backend_options = {.path = m->store_path,
                                                                  .life_id = m->life_id,
                                                                  .map_bytes_max = 1 << 30,
                                                                  .create = true},
                                              .lock = m->lock,
                                              .clock = &m->clock,
                                              .readers_count = WATCH_SLOT + 1,
                                              .wake_writer = wake_writer,
                                              .wake_apply = wake_applier,
                                              .wake_context = m};
    assert_int_equal(store_open(&m->store_options, &m->store), ST_OK);
    m->mvcc_options = (struct mvcc_options){.store = m->store,
                                            .lock = m->lock,
                                            .life_id = m->life_id,
                                            .readers_count = m->store_options.readers_count};
    assert_int_equal(mvcc_open(&m->mvcc_options, &m->mvcc), ST_OK);
    mvcc_add_event_sink(m->mvcc, cluster_check_event, m);
    const struct machine_options machine = {.store = m->store,
                                            .mvcc = m->mvcc,
                                            .cluster_id = 1,
                                            .member_id = m->id,
                                            .persist_checkpoints =
                                                m->cluster->options.persist_checkpoints};
    assert_int_equal(machine_open(&machine, &m->machine), ST_OK);
}

static void close_store(struct cluster_member *m)
{
    cluster_forget_auth(m);
    machine_close(m->machine);
    mvcc_close(m->mvcc);
    store_close(m->store);
}

/* The log has the last word about which store it is. False: the disk has no room. */
static bool open_state(struct cluster_member *m, struct wal_recovered *recovered,
                       struct store_mark *out)
{
    open_store(m);
    *out = store_opened_at(m->store);
    if (!open_wal(m, /* create= */ false, (struct raft_log_id){out->index, out->term}, recovered)) {
        close_store(m);
        return false;
    }
    if (!loops_start_is_behind(recovered, out))
        return true;
    close_store(m);
    assert_int_equal(backend_of(m->cluster)->remove(m->store_path), ST_OK);
    store_path(m, recovered->snapshot.last.index, m->store_path, sizeof(m->store_path));
    open_store(m);
    *out = store_opened_at(m->store);
    assert_int_equal(out->index, recovered->snapshot.last.index);
    return true;
}

static void open_raft(struct cluster_member *m, const struct wal_recovered *recovered,
                      const struct store_mark *mark)
{
    uint32_t window = m->cluster->options.window_entries_max;
    window = window == 0 ? 100 : window;
    struct loops_start start;
    assert_int_equal(loops_start_init(&start, m->wal, recovered, mark, window), ST_OK);
    cluster_check_recovered(m, recovered, start.entries, start.count);
    const struct raft_config config = {.id = m->id,
                                       .election_ticks = ELECTION_TICKS,
                                       .heartbeat_ticks = 1,
                                       .message_bytes_max = 16 << 10,
                                       .inflight_messages_max = 64,
                                       .inflight_bytes_max = 1 << 20,
                                       .apply_bytes_max = 1 << 20,
                                       .window_entries_max = window,
                                       .window_bytes_max = 1 << 20,
                                       .stall_ticks_max = 5 * ELECTION_TICKS,
                                       .stall_bytes_max = 32 << 20,
                                       .follower_bytes_max = 64 << 20,
                                       .check_quorum = true,
                                       .pre_vote = true,
                                       .step_down_on_removal = true,
                                       .apply_unstable = true,
                                       .rng = &m->rng};
    assert_int_equal(raft_new(&config, &start.start, &m->raft), ST_OK);
    loops_start_deinit(&start);
}

/* ---- watches ---- */

static void wake_watch(void *context)
{
    member_wake(context, CLUSTER_WATCH);
}

static void run_watch_read(struct read_request *request, enum api_error error, uint32_t reader)
{
    (void)error;
    watch_read_run(CONTAINER_OF(request, struct cluster_read, request)->read, reader);
}

static void give_watch_read(void *context, struct watch_read *read, uint32_t number)
{
    struct cluster_member *m = context;
    m->watch_reads[number] =
        (struct cluster_read){.request = {.ready = run_watch_read}, .read = read};
    loops_read_local(m->loops, &m->watch_reads[number].request);
}

static bool watch_has_leader(void *context)
{
    const struct cluster_member *m = context;
    struct loops_status status;
    loops_get_status(m->loops, &status);
    return status.leader != 0;
}

static void open_watch(struct cluster_member *m)
{
    const struct watch_hub_options options = {.mvcc = m->mvcc,
                                              .reader_slot = WATCH_SLOT,
                                              .seed = rng_next(&m->rng),
                                              .progress_interval_ns = 2 * NS_PER_S,
                                              .election_ns = ELECTION_TICKS * TICK_NS,
                                              .message_bytes_max = 2U << 20,
                                              .wake = wake_watch,
                                              .read = give_watch_read,
                                              .has_leader = watch_has_leader,
                                              .context = m};
    assert_int_equal(watch_hub_new(&options, &m->watch), ST_OK);
}

/* ---- starting ---- */

bool cluster_try_start(struct cluster *cluster, uint32_t member)
{
    struct cluster_member *m = &cluster->members[member];
    assert_true(m->exists && !m->running);
    fake_disk_set_auto(m->disk, true); /* starting waits for the disk */
    struct wal_recovered recovered;
    struct store_mark mark;
    if (!open_state(m, &recovered, &mark))
        return false;
    open_raft(m, &recovered, &mark);
    const struct loops_options options = {.clock = &m->clock,
                                          .raft = m->raft,
                                          .wal = m->wal,
                                          .store = m->store,
                                          .mvcc = m->mvcc,
                                          .machine = m->machine,
                                          .transport = network_transport(cluster->network, member),
                                          .applied = mark.index,
                                          .member_id = m->id,
                                          .id_start = rng_next(&m->rng),
                                          .tick_ns = TICK_NS,
                                          .readers_count = 1,
                                          .reader_slot_first = 1,
                                          .snapshot_slot_first = 2,
                                          .snapshots = {.disk = fake_disk_base(m->disk),
                                                        .store = &m->store_options,
                                                        .mvcc = &m->mvcc_options,
                                                        .store_path = store_path,
                                                        .copy_path = copy_path,
                                                        .store_chosen = store_chosen,
                                                        .failed = snapshot_failed},
                                          .election_ticks = ELECTION_TICKS,
                                          .lease_checkpoint_ns =
                                              cluster->options.lease_checkpoint_ns,
                                          .waves = true,
                                          .wake = member_wake,
                                          .fatal = member_fatal,
                                          .removed = member_removed,
                                          .quarantined = member_quarantined,
                                          .context = m};
    assert_int_equal(loops_new(&options, &m->loops), ST_OK);
    open_watch(m);
    wal_set_owner_wake(m->wal, wake_consensus, m);
    wal_set_preparer_wake(m->wal, wake_preparer, m);
    fake_disk_set_auto(m->disk, false);
    m->applied_seen = (struct raft_log_id){mark.index, mark.term};
    m->committed_seen = mark.index;
    m->durable_seen = recovered.last_index;
    cluster_note_lead(m);
    m->sync_due_ns = 0;
    m->running = true;
    m->fatal = false;
    m->lives_count++;
    m->paused_until_ns = 0;
    for (uint32_t i = 0; i < CLUSTER_ACTORS; i++)
        m->woken[i] = true;
    return true;
}

void cluster_start(struct cluster *cluster, uint32_t member)
{
    assert_true(cluster_try_start(cluster, member));
}

/* The other members, by the flags of a first start: until its own log says so. */
static void introduce(struct cluster *cluster, uint32_t member)
{
    struct transport *transport = network_transport(cluster->network, member);
    for (uint32_t i = 0; i < CLUSTER_MEMBERS_MAX; i++) {
        if (i != member && cluster->members[i].exists)
            transport->add_peer(transport, cluster->members[i].id, NULL, 0);
    }
}

static void make_member(struct cluster *cluster, uint32_t member, uint32_t founders)
{
    struct cluster_member *m = &cluster->members[member];
    m->life_id = rng_next(&m->rng);
    m->disk = fake_disk_new(rng_next(&m->rng));
    const char *dir = cluster->options.backend_dir;
    snprintf(m->store_path, sizeof(m->store_path), "%s%ssim-%u%s", dir == NULL ? "" : dir,
             dir == NULL ? "" : "/", member, backend_of(cluster)->suffix);
    make_log(m, founders);
    m->exists = true;
}

void cluster_join(struct cluster *cluster, uint32_t member)
{
    make_member(cluster, member, /* founders= */ 0);
    introduce(cluster, member);
    cluster_start(cluster, member);
}

static void stop_member(struct cluster_member *m)
{
    m->running = false;
    watch_hub_stop(m->watch);
    watch_step(m->watch, cluster_local_ns(m));
    loops_free(m->loops); /* a read that waits is done now */
    watch_hub_free(m->watch);
    raft_free(m->raft);
    wal_close(m->wal);
    close_store(m);
    m->loops = NULL;
    network_forget_peers(m->cluster->network, m->number);
}

/* Its host refuses connections at once, and most of those who can reach it notice. */
static void tell_of_its_end(struct cluster_member *m)
{
    struct cluster *cluster = m->cluster;
    for (uint32_t i = 0; i < CLUSTER_MEMBERS_MAX; i++) {
        struct cluster_member *other = &cluster->members[i];
        if (other->running && !network_link(cluster->network, i, m->number)->cut &&
            !network_link(cluster->network, m->number, i)->cut && rng_below(&cluster->rng, 8) > 0)
            loops_peer_gone(other->loops, m->id);
    }
}

void cluster_crash(struct cluster *cluster, uint32_t member)
{
    struct cluster_member *m = &cluster->members[member];
    assert_true(m->running);
    fake_disk_power_cut(m->disk);
    stop_member(m);
    if (cluster->options.backend == NULL) {
        backend_mem_power_cut(m->store_path, rng_next(&cluster->rng));
        if (m->made_path[0] != '\0' && strcmp(m->made_path, m->store_path) != 0)
            backend_mem_power_cut(m->made_path, rng_next(&cluster->rng));
    }
    cluster_note(cluster, member);
}

void cluster_kill(struct cluster *cluster, uint32_t member)
{
    assert_true(cluster->members[member].running);
    stop_member(&cluster->members[member]);
    tell_of_its_end(&cluster->members[member]);
    cluster_note(cluster, member);
}

static bool is_idle(struct cluster *cluster, uint32_t member)
{
    const struct cluster_member *m = &cluster->members[member];
    return !m->running || loops_is_idle(m->loops);
}

void cluster_stop(struct cluster *cluster, uint32_t member)
{
    struct cluster_member *m = &cluster->members[member];
    uint64_t until_ns = cluster->now_ns + STOP_NS;
    loops_stop_requests(m->loops);
    while (!is_idle(cluster, member) && cluster_step(cluster, until_ns))
        continue;
    if (!m->running)
        return; /* it failed meanwhile */
    loops_finish_log(m->loops);
    loops_step(m->loops, ACTOR_CONSENSUS, cluster_local_ns(m));
    enum status st;
    assert_true(loops_log_is_finished(m->loops, &st));
    if (st != ST_OK && !m->may_fail)
        cluster_fail(cluster, "member %u cannot close its log: %s", member, status_str(st));
    cluster_kill(cluster, member);
}

void cluster_pause(struct cluster *cluster, uint32_t member, uint64_t for_ns)
{
    struct cluster_member *m = &cluster->members[member];
    m->paused_until_ns = m->last_paused_ns = cluster->now_ns + for_ns;
}

static void copied(struct defragment_request *request, enum api_error error)
{
    struct cluster_member *m = CONTAINER_OF(request, struct cluster_member, copy);
    if (error != API_OK && error != API_STOPPED && !m->may_fail)
        cluster_fail(m->cluster, "member %u cannot copy its store: %s", m->number,
                     api_error_text(error));
    m->is_copying = false;
}

void cluster_defragment(struct cluster *cluster, uint32_t member)
{
    struct cluster_member *m = &cluster->members[member];
    if (m->is_copying)
        return;
    if (cluster->options.backend == NULL)
        backend_mem_set_free(m->store_path, FREE_BYTES);
    m->is_copying = true;
    m->copy = (struct defragment_request){.done = copied};
    loops_defragment(m->loops, &m->copy);
}

void cluster_set_clock_rate(struct cluster *cluster, uint32_t member, int64_t rate_ppm)
{
    struct cluster_member *m = &cluster->members[member];
    m->time.base_local_ns = cluster_local_ns(m);
    m->time.base_ns = cluster->now_ns;
    m->time.rate_ppm = rate_ppm;
}

void cluster_stall_disk(struct cluster *cluster, uint32_t member, uint64_t for_ns)
{
    cluster->members[member].stall_until_ns = cluster->now_ns + for_ns;
}

/* ---- the network's ends ---- */

static struct cluster_member *member_of(struct cluster *cluster, raft_id id)
{
    for (uint32_t i = 0; i < CLUSTER_MEMBERS_MAX; i++) {
        if (cluster->members[i].id == id)
            return &cluster->members[i];
    }
    return NULL;
}

/* A peer port refuses those that were removed, and tells them why. */
static bool is_refused(struct cluster *cluster, struct cluster_member *m, raft_id from)
{
    if (!machine_is_removed(m->machine, from))
        return false;
    struct cluster_member *sender = member_of(cluster, from);
    if (sender->running && !network_link(cluster->network, m->number, sender->number)->cut)
        loops_removed_from_cluster(sender->loops);
    return true;
}

static void deliver(void *context, uint32_t to, struct peer_message *message, struct slice snapshot)
{
    struct cluster *cluster = context;
    struct cluster_member *m = &cluster->members[to];
    cluster_note(cluster, message->message.index ^ (uint64_t)message->message.type << 56);
    if (!m->running || is_refused(cluster, m, message->message.from)) {
        message->release(message);
        return;
    }
    if (message->message.type == RAFT_MSG_SNAP) { /* received whole, and synced */
        char path[32];
        snprintf(path, sizeof(path), "/snap-%llu", (unsigned long long)++m->snapshots_received);
        fake_disk_put(m->disk, path, snapshot);
        message->snapshot_path = strdup(path);
    }
    message->node.next = NULL;
    loops_receive(m->loops, message);
}

static void snapshot_sent(void *context, uint32_t from, raft_id to, bool succeeded)
{
    struct cluster_member *m = &((struct cluster *)context)->members[from];
    if (m->running)
        loops_peer_snapshot_sent(m->loops, to, succeeded);
}

static void message_leaves(void *context, uint32_t from, const struct raft_message *message)
{
    cluster_check_message(&((struct cluster *)context)->members[from], message);
}

static void message_lost(void *context, uint32_t from, raft_id to)
{
    struct cluster_member *m = &((struct cluster *)context)->members[from];
    if (m->running)
        loops_peer_unreachable(m->loops, to);
}

/* ---- life ---- */

struct cluster *cluster_new(const struct cluster_options *options)
{
    struct cluster *cluster = calloc(1, sizeof(*cluster));
    assert_non_null(cluster);
    cluster->options = *options;
    rng_seed(&cluster->rng, options->seed);
    cluster->now_ns = NS_PER_S;
    cluster->network =
        network_new(&cluster->rng, &cluster->now_ns, deliver, snapshot_sent, cluster);
    network_watch(cluster->network, message_leaves, message_lost);
    backend_mem_clear();
    for (uint32_t i = 0; i < CLUSTER_MEMBERS_MAX; i++) {
        struct cluster_member *m = &cluster->members[i];
        m->cluster = cluster;
        m->number = i;
        m->id = 0x8e9e05c52164694dU + i * 0x1111111111111111U;
        m->clock = (struct clock){member_now, member_wall, m};
        m->time = (struct cluster_clock){cluster->now_ns, cluster->now_ns, 0, 0};
        m->sync_ns_min = options->sync_ns_min;
        m->sync_ns_max = options->sync_ns_max;
        rng_seed(&m->rng, rng_next(&cluster->rng));
        network_name(cluster->network, i, m->id);
        assert_int_equal(lock_new(/* threaded= */ false, &m->lock), ST_OK);
    }
    for (uint32_t i = 0; i < options->members_count; i++)
        make_member(cluster, i, options->members_count);
    for (uint32_t i = 0; i < options->members_count; i++) {
        introduce(cluster, i);
        cluster_start(cluster, i);
    }
    return cluster;
}

void cluster_free(struct cluster *cluster)
{
    for (uint32_t i = 0; i < CLUSTER_MEMBERS_MAX; i++) {
        struct cluster_member *m = &cluster->members[i];
        if (m->running)
            stop_member(m);
        lock_free(m->lock);
    }
    network_free(cluster->network);
    for (uint32_t i = 0; i < CLUSTER_MEMBERS_MAX; i++)
        fake_disk_free(cluster->members[i].disk);
    backend_mem_clear();
    cluster_free_operations(cluster);
    free(cluster->others_revisions);
    cluster_free_history(&cluster->history);
    free(cluster);
}

/* ---- what can happen ---- */

struct event {
    struct cluster_member *member; /* NULL: the network delivers */
    uint32_t actor;                /* CLUSTER_ACTORS: the disk completes a write */
};

#define EVENTS_MAX (CLUSTER_MEMBERS_MAX * (CLUSTER_ACTORS + 1) + 1)

static uint64_t disk_due_ns(struct cluster_member *m)
{
    struct cluster *cluster = m->cluster;
    if (!fake_disk_is_writing(m->disk)) {
        m->sync_due_ns = 0;
        return UINT64_MAX;
    }
    if (m->sync_due_ns == 0)
        m->sync_due_ns = cluster->now_ns + m->sync_ns_min +
                         rng_below(&cluster->rng, m->sync_ns_max - m->sync_ns_min + 1);
    return max_u64(m->sync_due_ns, m->stall_until_ns);
}

static void consider(struct event *events, uint32_t *count, struct cluster_member *m,
                     uint32_t actor, uint64_t due_ns, uint64_t *next_ns, uint64_t now_ns)
{
    if (due_ns <= now_ns)
        events[(*count)++] = (struct event){m, actor};
    else
        *next_ns = min_u64(*next_ns, due_ns);
}

/* All that can happen now; *next_ns_out is when more can. */
static uint32_t collect_events(struct cluster *cluster, struct event *events, uint64_t *next_ns_out)
{
    uint32_t count = 0;
    uint64_t now_ns = cluster->now_ns;
    *next_ns_out = UINT64_MAX;
    for (uint32_t i = 0; i < CLUSTER_MEMBERS_MAX; i++) {
        struct cluster_member *m = &cluster->members[i];
        if (!m->running)
            continue;
        for (uint32_t actor = 0; actor < CLUSTER_ACTORS; actor++) {
            uint64_t due_ns = m->woken[actor] ? now_ns : cluster_ns_of(m, m->due_ns[actor]);
            consider(events, &count, m, actor, max_u64(due_ns, m->paused_until_ns), next_ns_out,
                     now_ns);
        }
        consider(events, &count, m, CLUSTER_ACTORS, disk_due_ns(m), next_ns_out, now_ns);
    }
    consider(events, &count, NULL, 0, network_next_ns(cluster->network), next_ns_out, now_ns);
    return count;
}

static void happen(struct cluster *cluster, const struct event *event)
{
    struct cluster_member *m = event->member;
    if (m == NULL) {
        network_step(cluster->network);
    } else if (event->actor == CLUSTER_ACTORS) {
        fake_disk_complete(m->disk);
        m->sync_due_ns = 0;
        m->woken[ACTOR_CONSENSUS] = true;
    } else {
        m->woken[event->actor] = false;
        m->due_ns[event->actor] = event->actor == CLUSTER_WATCH
                                      ? watch_step(m->watch, cluster_local_ns(m))
                                      : loops_step(m->loops, event->actor, cluster_local_ns(m));
        cluster_check_step(m);
        if (event->actor == ACTOR_WRITER)
            cluster_check_store(m);
    }
    cluster->steps_count++;
    cluster_note(cluster, cluster->now_ns ^ (uint64_t)event->actor << 60 ^
                              (uint64_t)(m == NULL ? CLUSTER_MEMBERS_MAX : m->number) << 52);
}

/* One that failed ends its process, one that was removed too. */
static void reap(struct cluster *cluster)
{
    for (uint32_t i = 0; i < CLUSTER_MEMBERS_MAX; i++) {
        struct cluster_member *m = &cluster->members[i];
        if (!m->running || (!m->fatal && !m->removed))
            continue;
        if (m->removed && cluster->on_removed != NULL)
            cluster->on_removed(cluster, i);
        if (m->fatal && rng_below(&cluster->rng, 2) == 0)
            cluster_crash(cluster, i);
        else
            cluster_kill(cluster, i);
    }
}

bool cluster_step(struct cluster *cluster, uint64_t until_ns)
{
    struct event events[EVENTS_MAX];
    uint64_t next_ns;
    uint32_t count = collect_events(cluster, events, &next_ns);
    if (count > 0) {
        happen(cluster, &events[rng_below(&cluster->rng, count)]);
        reap(cluster);
        return true;
    }
    if (next_ns > until_ns) {
        cluster->now_ns = max_u64(cluster->now_ns, until_ns);
        return false;
    }
    cluster->now_ns = next_ns;
    return true;
}

void cluster_run(struct cluster *cluster, uint64_t for_ns)
{
    uint64_t until_ns = cluster->now_ns + for_ns;
    while (cluster_step(cluster, until_ns))
        continue;
}

void cluster_until(struct cluster *cluster,
                   bool (*condition)(struct cluster *cluster, void *context), void *context,
                   uint64_t limit_ns, const char *what)
{
    uint64_t until_ns = cluster->now_ns + limit_ns;
    while (!condition(cluster, context)) {
        if (!cluster_step(cluster, until_ns))
            cluster_fail(cluster, "not within %u ms: %s", (unsigned)(limit_ns / NS_PER_MS), what);
    }
}

uint32_t cluster_leader(struct cluster *cluster)
{
    uint32_t leader = CLUSTER_MEMBERS_MAX;
    raft_term term = 0;
    for (uint32_t i = 0; i < CLUSTER_MEMBERS_MAX; i++) {
        if (!cluster->members[i].running)
            continue;
        struct loops_status status;
        loops_get_status(cluster->members[i].loops, &status);
        if (status.is_leader && status.term > term) {
            leader = i;
            term = status.term;
        }
    }
    return leader;
}

static bool has_leader(struct cluster *cluster, void *context)
{
    (void)context;
    return cluster_leader(cluster) != CLUSTER_MEMBERS_MAX;
}

void cluster_wait_for_leader(struct cluster *cluster)
{
    cluster_until(cluster, has_leader, NULL, 30 * NS_PER_S, "a leader");
}
