#include "server/run/member.h"

#include "base/assert.h"
#include "base/list.h"
#include "raft/raft.h"
#include "server/config/config.h"
#include "server/loops/transport.h"
#include "server/metrics/metrics.h"
#include "base/clock_real.h"
#include "server/run/log.h"
#include "server/run/member_private.h"
#include "server/run/peer_port.h"
#include "server/run/stores.h"
#include "server/services/services.h"
#include "server/state/machine.h"
#include "storage/mvcc.h"
#include "wal/disks.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define PUBLISH_RETRY_MS 200
#define VERSION_LOOK_MS 5       /* while the cluster's version is all that lacks */
#define ALONE_NS (5 * NS_PER_S) /* without a leader, until a member serves what it can alone */
#define LEASE_CHECKPOINT_NS (300 * NS_PER_S)
#define STOP_WAIT_NS NS_PER_S /* for requests in the log to complete */

void member_wake_actor(void *context, uint32_t actor)
{
    struct member *m = context;
    thread_wake(&m->threads[actor].thread);
}

static void wake_consensus(void *context)
{
    member_wake_actor(context, ACTOR_CONSENSUS);
}

static void wake_preparer(void *context)
{
    member_wake_actor(context, ACTOR_PREPARER);
}

enum status member_explain(enum status st, char *why, size_t why_bytes, const char *what,
                           const char *where)
{
    snprintf(why, why_bytes, "cannot %s '%s': %s%s%s", what, where, status_str(st),
             errno != 0 ? ": " : "", errno != 0 ? strerror(errno) : "");
    return st;
}

/* ---- threads ---- */

static uint64_t step_actor(void *context, uint64_t now_ns)
{
    struct member_thread *t = context;
    return loops_step(t->member->loops, t->actor, now_ns);
}

static enum status init_threads(struct member *m)
{
    static const char *const names[] = {"consensus", "apply",     "backend",
                                        "preparer",  "snapshots", "leases"};
    m->threads_count = ACTOR_READER_FIRST + m->options.readers_count;
    ASSERT(m->threads_count <= ACTORS_MAX);
    for (uint32_t i = 0; i < m->threads_count; i++) {
        struct member_thread *t = &m->threads[i];
        char name[24];
        if (i < ACTOR_READER_FIRST)
            snprintf(name, sizeof(name), "%s", names[i]);
        else
            snprintf(name, sizeof(name), "reader-%u", i - ACTOR_READER_FIRST);
        t->member = m;
        t->actor = i;
        enum status st = thread_init(&t->thread, name, clock_real(), step_actor, t);
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}

static enum status start_threads(struct member *m)
{
    for (uint32_t i = 0; i < m->threads_count; i++) {
        enum status st = thread_start(&m->threads[i].thread);
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}

static void stop_threads(struct member *m)
{
    for (uint32_t i = 0; i < m->threads_count; i++)
        thread_stop(&m->threads[i].thread);
}

/* The log's disk belongs to the consensus thread (an io_uring takes no one else), so that one ends
 * last. */
static enum status finish_log(struct member *m)
{
    for (uint32_t i = 0; i < m->threads_count; i++) {
        if (m->threads[i].actor != ACTOR_CONSENSUS)
            thread_stop(&m->threads[i].thread);
    }
    loops_finish_log(m->loops);
    enum status st = ST_OK;
    if (!m->threads[ACTOR_CONSENSUS].thread.running)
        return st; /* never started: nothing was staged */
    while (!loops_log_is_finished(m->loops, &st))
        poll(NULL, 0, /* timeout= */ 1);
    return st;
}

/* A member that cannot trust its disk or its memory any more must not acknowledge anything: it ends
 * here, at once. */
static void die(void *context, enum status st, const char *what)
{
    struct member *m = context;
    log_fatal("the member stops: it can no longer keep its promises", LOG_STR("where", what),
              LOG_STATUS(st), LOG_STR("problem", machine_problem(m->machine)),
              LOG_STR("data-dir", m->datadir.root));
    _exit(1);
}

static void note_removed(void *context)
{
    struct member *m = context;
    atomic_store(&m->is_removed, true);
}

static void note_quarantine(void *context, const char *why)
{
    struct member *m = context;
    metrics_set(METRIC_QUARANTINED, 1);
    log_error("this member is quarantined: it takes no part in the cluster any more, since what it "
              "promised is gone; remove it from the cluster and add it again with an empty data "
              "directory",
              LOG_HEX("local-member-id", m->member_id), LOG_STR("error", why),
              LOG_STR("data-dir", m->datadir.root));
}

static enum status make_loops(struct member *m)
{
    struct store_mark mark = store_opened_at(m->store);
    struct loops_options options = {
        .clock = clock_real(),
        .raft = m->raft,
        .wal = m->wal,
        .store = m->store,
        .mvcc = m->mvcc,
        .machine = m->machine,
        .transport = peer_port_transport(m->peer_port),
        .applied = mark.index,
        .member_id = m->member_id,
        .id_start = rng_next(&m->rng),
        .tick_ns = m->options.heartbeat_ms * NS_PER_MS,
        .readers_count = m->options.readers_count,
        .reader_slot_first = m->options.pollers_count,
        .snapshot_slot_first = member_metrics_slot(m) + 1,
        .snapshots = stores_snapshot_options(m),
        .election_ticks = m->options.election_ms / m->options.heartbeat_ms,
        .lease_checkpoint_ns = m->options.lease_checkpoint ? LEASE_CHECKPOINT_NS : 0,
        .slow_apply_ns = m->options.warning_apply_ns,
        .waves = m->options.waves,
        .wake = member_wake_actor,
        .fatal = die,
        .removed = note_removed,
        .quarantined = note_quarantine,
        .context = m,
    };
    enum status st = loops_new(&options, &m->loops);
    if (st != ST_OK)
        return st;
    wal_set_owner_wake(m->wal, wake_consensus, m);
    wal_set_preparer_wake(m->wal, wake_preparer, m);
    return disk_set_event_fd(m->disk, m->threads[ACTOR_CONSENSUS].thread.event_fd);
}

static enum status check_identity(struct member *m, char *why, size_t why_bytes)
{
    const struct format *format = &m->datadir.format;
    if (m->options.backend[0] != '\0' && strcmp(m->options.backend, format->backend) != 0) {
        snprintf(why, why_bytes,
                 "data directory '%s' was made with --backend=%s; start with that, or change it "
                 "with: cleatutl convert "
                 "--data-dir %s --backend %s",
                 m->datadir.root, format->backend, m->datadir.root, m->options.backend);
        return ST_INVALID;
    }
    /* As with etcd, the initial-* flags are only for the first start. */
    m->member_id = format->member_id;
    m->cluster_id = format->cluster_id;
    return ST_OK;
}

/* ---- life ---- */

uint64_t member_request_timeout_ns(const struct member *m)
{
    return 5 * NS_PER_S + 2 * m->options.election_ms * NS_PER_MS;
}

/* The first start needs to know of the others; so does one that has joined and not heard of the
 * leader yet. */
static enum status begin_bootstrap(struct member *m, bool is_existing, char *why, size_t why_bytes)
{
    const struct bootstrap_options options = {
        .name = m->options.name,
        .initial_cluster = m->options.initial_cluster,
        .token = m->options.cluster_token,
        .is_existing = is_existing,
        .peer_urls = m->options.peer_urls,
        .peer_urls_count = m->options.peer_urls_count,
    };
    return bootstrap_begin(&options, &m->bootstrap, why, why_bytes);
}

/* A member that joins knows the others by this alone until it has heard of the leader; without it
 * they still find it. */
static void begin_again(struct member *m)
{
    char why[1024];
    if (begin_bootstrap(m, /* is_existing= */ true, why, sizeof(why)) != ST_OK) {
        log_warn("cannot ask the cluster for its members; waiting for them", LOG_STR("error", why));
        return;
    }
    if (m->bootstrap.member_id != m->member_id || m->bootstrap.cluster_id != m->cluster_id) {
        log_warn("--initial-cluster describes another member or cluster than the data directory; "
                 "waiting for the leader",
                 LOG_HEX("local-member-id", m->member_id), LOG_HEX("cluster-id", m->cluster_id));
        bootstrap_end(&m->bootstrap);
    }
}

static enum status begin_new(struct member *m, char *why, size_t why_bytes)
{
    enum status st = begin_bootstrap(m, m->options.initial_cluster_exists, why, why_bytes);
    if (st != ST_OK)
        return st;
    m->member_id = m->bootstrap.member_id;
    m->cluster_id = m->bootstrap.cluster_id;
    return member_make(m, why, why_bytes);
}

static enum status open_all(struct member *m, char *why, size_t why_bytes)
{
    enum status st =
        datadir_open(m->options.data_dir, m->options.wal_dir, &m->datadir, why, why_bytes);
    if (st != ST_OK)
        return st;
    if (why[0] != '\0')
        log_warn("check file permission", LOG_STR("error", why));
    st = m->datadir.exists ? check_identity(m, why, why_bytes) : begin_new(m, why, why_bytes);
    if (st == ST_OK)
        st = member_open_disk(m, why, why_bytes);
    if (st == ST_OK)
        st = member_open_data(m, why, why_bytes);
    if (st == ST_OK && m->log_is_empty && m->bootstrap.existing == NULL)
        begin_again(m);
    return st;
}

/* ---- parts that need the loops ---- */

static uint64_t memory_bytes(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    return pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size : 0;
}

static uint64_t active_since_ns(void *context, raft_id id)
{
    const struct member *m = context;
    return peer_port_active_since_ns(m->peer_port, id);
}

static void forward_promotion(void *context, struct promotion_forward *forward)
{
    struct member *m = context;
    forwarder_give(&m->forwarder, forward);
}

static enum status start_watching(struct member *m)
{
    const struct watching_options options = {
        .mvcc = m->mvcc,
        .loops = m->loops,
        .reader_slot = member_metrics_slot(m) + 1 + LOOPS_SNAPSHOT_SLOTS,
        .seed = rng_next(&m->rng),
        .progress_interval_ns = m->options.watch_progress_every_ns,
        .election_ns = m->options.election_ms * NS_PER_MS,
        .message_bytes_max = m->options.request_bytes_max + REQUEST_OVERHEAD_BYTES,
    };
    return watching_start(&m->watching, &options);
}

static void post_to_leader(void *context, struct leader_post *post)
{
    struct member *m = context;
    leader_posts_give(&m->leader_posts, post);
}

static enum status make_services(struct member *m)
{
    struct services_auth auth = m->options.auth;
    auth.give = workers_give;
    auth.context = &m->workers;
    const struct services_options services = {
        .loops = m->loops,
        .machine = m->machine,
        .mvcc = m->mvcc,
        .store = m->store,
        .watch = m->watching.hub,
        .clock = clock_real(),
        .api_version = CONFIG_API_VERSION,
        .request_timeout_ns = member_request_timeout_ns(m),
        .request_bytes_max = m->options.request_bytes_max,
        .txn_ops_max = m->options.txn_ops_max,
        .quota_bytes = m->options.quota_bytes,
        .memory_bytes = memory_bytes(),
        .warning_apply_ns = m->options.warning_apply_ns,
        .strict_reconfig = m->options.strict_reconfig,
        .peers = {.active_since_ns = active_since_ns,
                  .forward_promotion = forward_promotion,
                  .post_to_leader = post_to_leader,
                  .context = m},
        .auth = auth,
    };
    return services_new(&services, &m->services);
}

static void make_publisher(struct member *m)
{
    m->publisher = (struct publisher){.loops = m->loops,
                                      .machine = m->machine,
                                      .name = m->options.name,
                                      .client_urls = m->options.client_urls,
                                      .client_urls_count = m->options.client_urls_count,
                                      .timeout_ns = member_request_timeout_ns(m),
                                      .event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    m->cluster_watch.loops = m->loops;
    m->cluster_watch.machine = m->machine;
    m->cluster_watch.member_id = m->member_id;
    m->cluster_watch.timeout_ns = member_request_timeout_ns(m);
    m->corruption_watch =
        (struct corruption_watch){.loops = m->loops,
                                  .machine = m->machine,
                                  .mvcc = m->mvcc,
                                  .member_id = m->member_id,
                                  .cluster_id = m->cluster_id,
                                  .timeout_ns = member_request_timeout_ns(m),
                                  .always = {m->options.check_corruption_every_ns, 0},
                                  .compacted = {m->options.check_compactions_every_ns, 0}};
    m->auto_compaction = (struct auto_compaction){.loops = m->loops,
                                                  .mvcc = m->mvcc,
                                                  .by_revision = m->options.compact_by_revision,
                                                  .retention = m->options.compact_retention,
                                                  .timeout_ns = member_request_timeout_ns(m)};
    m->quota = (struct quota_watch){.store = m->store,
                                    .mvcc = m->mvcc,
                                    .loops = m->loops,
                                    .machine = m->machine,
                                    .quota_bytes = m->options.quota_bytes,
                                    .warn_percent = m->options.quota_warn_percent,
                                    .clear_percent = m->options.quota_clear_percent,
                                    .timeout_ns = member_request_timeout_ns(m)};
    m->stall = (struct stall_watch){.loops = m->loops, .wal_dir = m->datadir.wal};
    m->space =
        (struct space_watch){.store = m->store, .loops = m->loops, .data_dir = m->options.data_dir};
}

/* The peer port tells them so when they come. */
static void tell_removed(void *context, raft_id id)
{
    struct member *m = context;
    struct transport *transport = peer_port_transport(m->peer_port);
    transport->remove_peer(transport, id);
}

static enum status start_all(struct member *m, char *why, size_t why_bytes)
{
    enum status st = peer_port_new(m, &m->peer_port);
    if (st == ST_OK)
        st = make_loops(m);
    if (st == ST_OK)
        st = start_watching(m);
    if (st == ST_OK)
        st = make_services(m);
    if (st == ST_OK)
        make_publisher(m);
    if (st == ST_OK)
        machine_each_removed(m->machine, tell_removed, m);
    if (st == ST_OK && m->bootstrap.existing != NULL)
        peer_port_add(m->peer_port, m->bootstrap.existing);
    if (st == ST_OK)
        st = start_threads(m);
    if (st == ST_OK)
        st = forwarder_start(&m->forwarder, m->loops, m->machine);
    if (st == ST_OK)
        st = leader_posts_start(&m->leader_posts, m->loops, m->machine);
    if (st == ST_OK)
        st = workers_start(&m->workers);
    if (st == ST_OK)
        st = cluster_watch_start(&m->cluster_watch);
    if (st == ST_OK)
        st = peer_port_start(m->peer_port);
    if (st == ST_OK && m->options.check_corruption_first) {
        st = corruption_watch_check_initial(&m->corruption_watch, why, why_bytes);
        if (st != ST_OK)
            return st;
    }
    if (st == ST_OK)
        st = corruption_watch_start(&m->corruption_watch);
    if (st == ST_OK)
        st = auto_compaction_start(&m->auto_compaction);
    return st == ST_OK
               ? ST_OK
               : member_explain(st, why, why_bytes, "start the threads of", m->options.name);
}

enum status member_open(const struct member_options *options, struct member **out, char *why,
                        size_t why_bytes)
{
    *out = NULL;
    why[0] = '\0';
    errno = 0;
    struct member *m = calloc(1, sizeof(*m));
    if (m == NULL)
        return member_explain(ST_NO_MEMORY, why, why_bytes, "start", options->name);
    m->options = *options;
    m->datadir.lock_fd = -1;
    enum status st = rng_seed_from_system(&m->rng);
    if (st == ST_OK)
        st = lock_new(/* threaded= */ true, &m->lock);
    if (st == ST_OK)
        st = init_threads(m);
    if (st == ST_OK)
        st = open_all(m, why, why_bytes);
    if (st == ST_OK)
        st = start_all(m, why, why_bytes);
    bootstrap_end(&m->bootstrap);
    if (st != ST_OK) {
        member_close(m);
        return st;
    }
    *out = m;
    return ST_OK;
}

/* ---- running ---- */

/* Whether clients may come: all is well, or nothing has been for too long. */
static bool may_serve(struct member *m, uint64_t now_ns, uint64_t *alone_since_ns)
{
    struct loops_status status;
    char version[VERSION_TEXT_BYTES];
    loops_get_status(m->loops, &status);
    machine_cluster_version(m->machine, version);
    if (status.leader != 0)
        *alone_since_ns = now_ns;
    if (now_ns - *alone_since_ns >= ALONE_NS) {
        log_warn("no leader yet: status, health, the member list and serializable reads are served "
                 "meanwhile",
                 LOG_HEX("local-member-id", m->member_id));
        return true;
    }
    return atomic_load(&m->publisher.state) == PUBLISHER_DONE && version[0] != '\0';
}

static void take_event(const struct member *m)
{
    uint64_t count;
    ssize_t got = read(m->publisher.event_fd, &count, sizeof(count));
    (void)got; /* empty: the time was up */
}

void member_wait_ready(struct member *m)
{
    struct pollfd event = {.fd = m->publisher.event_fd, .events = POLLIN};
    const struct clock *clock = clock_real();
    uint64_t alone_since_ns = clock_monotonic_ns(clock);
    while (!may_serve(m, clock_monotonic_ns(clock), &alone_since_ns)) {
        if (!member_watch(m)) /* on a full disk the publication waits too */
            return;
        bool done = atomic_load(&m->publisher.state) == PUBLISHER_DONE;
        poll(&event, 1, done ? VERSION_LOOK_MS : PUBLISH_RETRY_MS);
        take_event(m);
        /* Back where it was: it failed. A full disk is not asked again at once. */
        if (atomic_load(&m->publisher.state) == PUBLISHER_IDLE)
            poll(NULL, 0, PUBLISH_RETRY_MS);
    }
}

bool member_watch(struct member *m)
{
    space_watch_step(&m->space);
    quota_watch_step(&m->quota);
    stall_watch_step(&m->stall);
    publisher_step(&m->publisher);
    cluster_watch_look(&m->cluster_watch);
    return !atomic_load(&m->is_removed);
}

/* ---- the end ---- */

static void handed_over(struct transfer_request *transfer, enum api_error error)
{
    struct member *m = CONTAINER_OF(transfer, struct member, hand_over);
    m->hand_over_error = error;
    atomic_store(&m->is_handed_over, true);
}

void member_hand_over(struct member *m)
{
    struct loops_status status;
    loops_get_status(m->loops, &status);
    if (!status.is_leader) {
        log_info("skipped leadership transfer; local server is not leader",
                 LOG_HEX("local-member-id", m->member_id),
                 LOG_HEX("current-leader-member-id", status.leader));
        return;
    }
    uint64_t began_ns = clock_monotonic_ns(clock_real());
    m->hand_over = (struct transfer_request){
        .request = {.kind = REQUEST_TRANSFER,
                    .deadline_ns = began_ns + m->options.election_ms * NS_PER_MS},
        .done = handed_over};
    loops_transfer_leadership(m->loops, &m->hand_over);
    while (!atomic_load(&m->is_handed_over))
        poll(NULL, 0, /* timeout= */ 1);
    uint64_t took_ns = clock_monotonic_ns(clock_real()) - began_ns;
    if (m->hand_over_error == API_OK)
        log_info("leadership transfer finished", LOG_HEX("local-member-id", m->member_id),
                 LOG_HEX("transferee-member-id", m->hand_over.target),
                 LOG_DURATION("took", took_ns));
    else if (m->hand_over_error == API_BAD_LEADER_TRANSFEREE)
        log_info("skipped leadership transfer for single voting member cluster",
                 LOG_HEX("local-member-id", m->member_id));
    else
        log_warn("leadership transfer failed", LOG_HEX("local-member-id", m->member_id),
                 LOG_STR("error", api_error_text(m->hand_over_error)));
}

/* Requests that are in the log complete, for a while; then the store takes what was applied, so
 * that the next start has little to replay. None of it is needed for durability. */
static void finish_work(struct member *m)
{
    loops_stop_requests(m->loops);
    const struct clock *clock = clock_real();
    uint64_t until_ns = clock_monotonic_ns(clock) + STOP_WAIT_NS;
    while (!loops_is_idle(m->loops) && clock_monotonic_ns(clock) < until_ns)
        poll(NULL, 0, /* timeout= */ 1);
    enum status st = finish_log(m);
    stop_threads(m);
    if (st == ST_OK)
        st = store_seal(m->store, /* force= */ true);
    bool worked = true;
    while (st == ST_OK && worked)
        st = store_writer_step(m->store, &worked);
    if (st == ST_OK)
        st = store_writer_flush(m->store);
    if (st == ST_OK)
        st = mvcc_checkpoint(m->mvcc);
    if (st != ST_OK)
        log_warn("could not flush everything at the end; the next start replays the log",
                 LOG_STATUS(st));
}

void member_end_watches(struct member *m)
{
    watching_end(&m->watching);
}

void member_close(struct member *m)
{
    if (m == NULL)
        return;
    auto_compaction_stop(&m->auto_compaction);
    corruption_watch_stop(&m->corruption_watch);
    cluster_watch_stop(&m->cluster_watch);
    forwarder_stop(&m->forwarder);
    leader_posts_stop(&m->leader_posts);
    watching_stop(&m->watching);
    if (m->loops != NULL)
        finish_work(m);
    stop_threads(m);
    workers_stop(&m->workers); /* after the actors, which give it work */
    peer_port_stop(m->peer_port);
    loops_free(m->loops);
    if (!m->services_left)
        watching_free(&m->watching);
    peer_port_free(m->peer_port);
    services_free(m->services);
    raft_free(m->raft);
    wal_close(m->wal);
    machine_close(m->machine);
    mvcc_close(m->mvcc);
    store_close(m->store);
    disk_free(m->disk);
    lock_free(m->lock);
    for (uint32_t i = 0; i < m->threads_count; i++)
        thread_deinit(&m->threads[i].thread);
    if (m->publisher.event_fd > 0)
        close(m->publisher.event_fd);
    for (uint32_t i = 0; i < m->options.peer_listeners_count; i++)
        close(m->options.peer_listeners[i]);
    datadir_close(&m->datadir);
    free(m);
}

struct loops *member_loops(struct member *member)
{
    return member->loops;
}

struct machine *member_machine(struct member *member)
{
    return member->machine;
}

struct mvcc *member_mvcc(struct member *member)
{
    return member->mvcc;
}

struct store *member_store(struct member *member)
{
    return member->store;
}

const char *member_disk_name(const struct member *member)
{
    return disk_name(member->disk);
}

uint32_t member_http_slot(const struct member *member)
{
    return member->options.pollers_count + member->options.readers_count;
}

uint32_t member_keeper_slot(const struct member *member)
{
    return member_http_slot(member) + 1;
}

uint32_t member_metrics_slot(const struct member *member)
{
    return member_http_slot(member) + 2;
}

struct services *member_services(struct member *member)
{
    return member->services;
}

void member_leave_services(struct member *member)
{
    member->services = NULL;
    member->services_left = true;
}
