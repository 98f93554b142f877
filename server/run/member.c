#include "server/run/member.h"

#include "base/assert.h"
#include "base/minmax.h"
#include "raft/raft.h"
#include "server/run/clock.h"
#include "server/run/datadir.h"
#include "server/run/log.h"
#include "server/run/publish.h"
#include "server/run/space.h"
#include "server/run/thread.h"
#include "server/state/conf_state.h"
#include "server/state/machine.h"
#include "server/state/members.h"
#include "storage/mvcc.h"
#include "storage/store.h"
#include "wal/wal.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define WINDOW_ENTRIES_MAX 5000U
#define WINDOW_BYTES_MAX (64U << 20)
#define BACKEND_BYTES_MAX \
    (64ULL << 30) /* address space for the backend's file; costs nothing until used */
#define READ_BATCH_ENTRIES 1024U
#define READ_BATCH_BYTES (8U << 20)
#define RESERVE_BYTES_MAX (64ULL << 20) /* of a disk, for the store: four generations */
#define RESERVE_SHARE 4U                /* of a small disk at most this part */
#define PUBLISH_RETRY_MS 200
#define STOP_WAIT_NS NS_PER_S /* for requests in the log to complete */
#define ACTORS_MAX (ACTOR_READER_FIRST + 16U)

struct member {
    struct member_options options;
    struct datadir datadir;
    struct rng rng;
    raft_id member_id; /* by the flags at first, then the directory's */
    uint64_t cluster_id;
    struct disk *disk;
    struct lock *lock;
    struct store *store;
    struct mvcc *mvcc;
    struct machine *machine;
    struct wal *wal;
    struct raft *raft;
    struct loops *loops;
    struct publisher publisher;
    struct space_watch space;
    uint32_t threads_count;
    struct member_thread {
        struct thread thread;
        struct member *member;
        uint32_t actor;
    } threads[ACTORS_MAX];
};

static void wake_actor(void *context, uint32_t actor)
{
    struct member *m = context;
    thread_wake(&m->threads[actor].thread);
}

static void wake_consensus(void *context)
{
    wake_actor(context, ACTOR_CONSENSUS);
}

static void wake_applier(void *context)
{
    wake_actor(context, ACTOR_APPLIER);
}

static void wake_writer(void *context)
{
    wake_actor(context, ACTOR_WRITER);
}

static void wake_preparer(void *context)
{
    wake_actor(context, ACTOR_PREPARER);
}

static enum status explain(enum status st, char *why, size_t why_bytes, const char *what,
                           const char *where)
{
    snprintf(why, why_bytes, "cannot %s '%s': %s%s%s", what, where, status_str(st),
             errno != 0 ? ": " : "", errno != 0 ? strerror(errno) : "");
    return st;
}

/* ---- a new member ---- */

static enum status refuse_disk(const struct member *m, enum status st, const char *chosen,
                               char *why, size_t why_bytes)
{
    if (st == ST_NOT_FOUND)
        snprintf(why, why_bytes,
                 "the log directory '%s' is not there; start with the --wal-dir of the first "
                 "start, if there was one",
                 m->datadir.wal);
    else
        snprintf(why, why_bytes, "cannot write the log in '%s': %s", m->datadir.wal, chosen);
    return st;
}

static enum status open_disk(struct member *m, char *why, size_t why_bytes)
{
    char chosen[512];
    errno = 0;
    enum status st =
        disk_open_real(m->options.disk, m->datadir.wal, &m->disk, chosen, sizeof(chosen));
    if (st != ST_OK)
        return refuse_disk(m, st, chosen, why, why_bytes);
    log_info("chose how the log is written", LOG_STR("disk", disk_name(m->disk)),
             LOG_STR("why", chosen));
    return ST_OK;
}

static const struct backend_ops *find_backend(const char *name)
{
    if (strcmp(name, "lmdb") == 0)
        return backend_lmdb();
    return strcmp(name, "sqlite") == 0 ? backend_sqlite() : NULL;
}

/* Appends and waits until it is durable: only for a log that nobody else uses yet. */
static enum status append_durably(struct wal *wal, const struct wal_append *append)
{
    uint64_t ticket = 0;
    enum status st = wal_append(wal, append, &ticket);
    return st == ST_OK ? wal_finish(wal) : st;
}

/* Where log and store share a disk, the log leaves the store room for its next commits: they are
 * what frees the log. */
static uint64_t store_reserve_bytes(const struct member *m)
{
    struct stat log, store;
    struct statvfs disk;
    if (stat(m->datadir.wal, &log) != 0 || stat(m->datadir.member, &store) != 0 ||
        log.st_dev != store.st_dev || statvfs(m->datadir.wal, &disk) != 0)
        return 0;
    return min_u64((uint64_t)disk.f_blocks * disk.f_frsize / RESERVE_SHARE, RESERVE_BYTES_MAX);
}

static struct wal_options log_options(struct member *m, bool create, struct raft_log_id mark)
{
    return (struct wal_options){.disk = m->disk,
                                .clock = clock_real(),
                                .rng = &m->rng,
                                .dir = m->datadir.wal,
                                .life_id = m->datadir.format.life_id,
                                .create = create,
                                .store_mark = mark,
                                .reserve_bytes = store_reserve_bytes(m)};
}

#define MEMBER_JSON_BYTES_MAX (1U << 20)

/* ConfChange{AddNode, this member} with the member as JSON in its context, as etcd's first entry.
 */
static enum status bootstrap_change(struct member *m, struct raft_payload **out)
{
    struct slice urls[MEMBER_URLS_MAX];
    uint32_t count = min_u32(m->options.peer_urls_count, MEMBER_URLS_MAX);
    for (uint32_t i = 0; i < count; i++)
        urls[i] = slice_from_str(m->options.peer_urls[i]);
    struct member_row row = {.id = m->member_id,
                             .name = slice_from_str(m->options.name),
                             .peer_urls = urls,
                             .peer_urls_count = count};
    struct buf json;
    buf_init(&json, MEMBER_JSON_BYTES_MAX);
    enum status st = member_json_encode(&row, &json);
    if (st == ST_OK) {
        struct member_change change = {
            .type = MEMBER_CHANGE_ADD_NODE, .node_id = m->member_id, .context = buf_slice(&json)};
        *out = member_change_payload(&change);
        st = *out == NULL ? ST_NO_MEMORY : ST_OK;
    }
    buf_deinit(&json);
    return st;
}

/* The first entry of a new cluster adds its only member; being there makes it committed. */
static enum status write_first_log(struct member *m, char *why, size_t why_bytes)
{
    struct wal_options options = log_options(m, /* create= */ true, (struct raft_log_id){0});
    struct wal *wal = NULL;
    struct wal_recovered recovered;
    struct wal_report report;
    errno = 0;
    enum status st = wal_open(&options, &wal, &recovered, &report);
    if (st != ST_OK)
        return explain(st, why, why_bytes, report.text[0] != '\0' ? report.text : "make the log in",
                       m->datadir.wal);
    struct raft_entry entry = {.term = 1, .index = 1, .type = RAFT_ENTRY_CONF_CHANGE};
    st = bootstrap_change(m, &entry.payload);
    if (st == ST_OK) {
        struct raft_hard_state hard_state = {.term = 1, .vote = 0, .commit = 1};
        struct wal_append append = {
            .entries = &entry, .entries_count = 1, .hard_state = &hard_state};
        st = append_durably(wal, &append);
    }
    raft_payload_unref(entry.payload);
    wal_close(wal);
    return st == ST_OK ? ST_OK
                       : explain(st, why, why_bytes, "write the first log in", m->datadir.wal);
}

static struct store_options store_options_of(struct member *m, char *path, size_t path_bytes,
                                             bool create)
{
    datadir_store_path(&m->datadir, path, path_bytes);
    return (struct store_options){
        .backend = find_backend(m->datadir.format.backend),
        .backend_options = {.path = path,
                            .life_id = m->datadir.format.life_id,
                            .map_bytes_max = BACKEND_BYTES_MAX,
                            .create = create},
        .lock = m->lock,
        .clock = clock_real(),
        .readers_count = m->options.pollers_count + m->options.readers_count + /* HTTP */ 1,
    };
}

static enum status make_first_store(struct member *m, char *why, size_t why_bytes)
{
    char path[PATH_MAX];
    struct store_options options = store_options_of(m, path, sizeof(path), /* create= */ true);
    struct store *store = NULL;
    errno = 0;
    enum status st = store_open(&options, &store);
    if (st != ST_OK)
        return explain(st, why, why_bytes, "make the store", path);
    store_close(store);
    return ST_OK;
}

static enum status make_member(struct member *m, char *why, size_t why_bytes)
{
    const char *backend = m->options.backend[0] != '\0' ? m->options.backend : "lmdb";
    struct format format = {
        .life_id = rng_next(&m->rng), .cluster_id = m->cluster_id, .member_id = m->member_id};
    snprintf(format.backend, sizeof(format.backend), "%s", backend);
    snprintf(format.store_name, sizeof(format.store_name), "0000000000000000.%s", backend);
    enum status st = datadir_begin(&m->datadir, &format, why, why_bytes);
    if (st == ST_OK)
        st = open_disk(m, why, why_bytes);
    if (st == ST_OK)
        st = write_first_log(m, why, why_bytes);
    disk_free(m->disk); /* bound to a folder that is about to be renamed */
    m->disk = NULL;
    if (st == ST_OK)
        st = make_first_store(m, why, why_bytes);
    if (st == ST_OK)
        st = datadir_commit(&m->datadir, why, why_bytes);
    if (st == ST_OK)
        log_info("made a new member", LOG_STR("data-dir", m->datadir.root),
                 LOG_STR("backend", backend), LOG_HEX("member-id", format.member_id),
                 LOG_HEX("cluster-id", format.cluster_id));
    return st;
}

/* ---- opening what is there ---- */

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
    /* As with etcd, the initial-* flags are only for the first start: what the directory says
     * counts. */
    if (format->member_id != m->member_id || format->cluster_id != m->cluster_id)
        log_warn("the data directory belongs to another member or cluster than the flags describe; "
                 "its own ids count",
                 LOG_HEX("member-id", format->member_id), LOG_HEX("cluster-id", format->cluster_id),
                 LOG_HEX("member-id-by-flags", m->member_id),
                 LOG_HEX("cluster-id-by-flags", m->cluster_id));
    m->member_id = format->member_id;
    m->cluster_id = format->cluster_id;
    return ST_OK;
}

static enum status open_store(struct member *m, char *why, size_t why_bytes)
{
    char path[PATH_MAX], checkpoint[PATH_MAX];
    struct store_options options = store_options_of(m, path, sizeof(path), /* create= */ false);
    options.wake_writer = wake_writer;
    options.wake_apply = wake_applier;
    options.wake_context = m;
    errno = 0;
    enum status st = store_open(&options, &m->store);
    if (st != ST_OK)
        return explain(st, why, why_bytes, "open the store", path);
    datadir_checkpoint_path(&m->datadir, checkpoint, sizeof(checkpoint));
    struct mvcc_options mvcc = {.store = m->store,
                                .lock = m->lock,
                                .checkpoint_path = checkpoint,
                                .life_id = m->datadir.format.life_id,
                                .readers_count = options.readers_count};
    st = mvcc_open(&mvcc, &m->mvcc);
    if (st != ST_OK)
        return explain(st, why, why_bytes, "build the index of the store", path);
    struct machine_options machine = {.store = m->store,
                                      .mvcc = m->mvcc,
                                      .cluster_id = m->cluster_id,
                                      .member_id = m->member_id,
                                      .threaded = true};
    st = machine_open(&machine, &m->machine);
    return st == ST_OK ? ST_OK
                       : explain(st, why, why_bytes, "read the members from the store", path);
}

/* Entries read back for the core, each with a reference; given up again once the core has its own.
 */
struct entries {
    struct raft_entry *items;
    uint32_t count, capacity;
};

static void entries_free(struct entries *entries)
{
    for (uint32_t i = 0; i < entries->count; i++)
        raft_payload_unref(entries->items[i].payload);
    free(entries->items);
}

static enum status read_entries(struct wal *wal, raft_index first, raft_index last,
                                struct entries *out)
{
    *out = (struct entries){0};
    while (first <= last) {
        if (out->capacity - out->count < READ_BATCH_ENTRIES) {
            uint32_t capacity = out->capacity * 2 + READ_BATCH_ENTRIES;
            struct raft_entry *grown = realloc(out->items, capacity * sizeof(*grown));
            if (grown == NULL)
                return ST_NO_MEMORY;
            out->items = grown;
            out->capacity = capacity;
        }
        uint32_t got = 0;
        raft_index end = min_u64(last, first + READ_BATCH_ENTRIES - 1);
        enum status st = wal_read(wal, first, end, READ_BATCH_BYTES, out->items + out->count, &got);
        if (st != ST_OK)
            return st;
        out->count += got;
        first += got;
    }
    return ST_OK;
}

/* The core gets what lies above the store's mark and, below it, what a follower may still ask for.
 */
static enum status make_raft(struct member *m, const struct wal_recovered *recovered,
                             struct raft_log_id mark, const struct raft_conf_state *conf_state)
{
    raft_index floor = mark.index > WINDOW_ENTRIES_MAX ? mark.index - WINDOW_ENTRIES_MAX : 1;
    raft_index first = max_u64(recovered->first_index, floor);
    struct entries entries;
    enum status st = read_entries(m->wal, first, recovered->last_index, &entries);
    struct raft_start start = {.hard_state = recovered->hard_state,
                               .conf_state = *conf_state,
                               .entries = entries.items,
                               .entries_count = entries.count,
                               .applied = mark.index};
    if (first > 1 && entries.count > 0) { /* the first one only says what came before the others */
        start.before_first = (struct raft_log_id){.index = first, .term = entries.items[0].term};
        start.entries++;
        start.entries_count--;
    }
    struct raft_config config = {.id = m->member_id,
                                 .election_ticks = m->options.election_ms / m->options.heartbeat_ms,
                                 .heartbeat_ticks = 1,
                                 .message_bytes_max = 1U << 20,
                                 .inflight_messages_max = 512,
                                 .inflight_bytes_max = 8U << 20,
                                 .apply_bytes_max = 8U << 20,
                                 .window_entries_max = WINDOW_ENTRIES_MAX,
                                 .window_bytes_max = WINDOW_BYTES_MAX,
                                 .check_quorum = true,
                                 .pre_vote = true,
                                 .step_down_on_removal = true,
                                 .apply_unstable = true,
                                 .rng = &m->rng};
    if (st == ST_OK)
        st = raft_new(&config, &start, &m->raft);
    entries_free(&entries);
    return st;
}

static enum status open_log(struct member *m, char *why, size_t why_bytes)
{
    struct store_mark mark = store_opened_at(m->store);
    struct raft_log_id applied = {.index = mark.index, .term = mark.term};
    struct raft_conf_state conf_state;
    enum status st = conf_state_decode(mark.conf_state, &conf_state);
    if (st != ST_OK)
        return explain(st, why, why_bytes, "read the configuration in the store of",
                       m->datadir.member);
    struct wal_options options = log_options(m, /* create= */ false, applied);
    struct wal_recovered recovered;
    struct wal_report report;
    errno = 0;
    st = wal_open(&options, &m->wal, &recovered, &report);
    if (st != ST_OK) {
        if (report.text[0] == '\0')
            return explain(st, why, why_bytes, "open the log", m->datadir.wal);
        snprintf(why, why_bytes, "%s", report.text);
        return st;
    }
    if (report.torn_tail)
        log_info(
            "cut the torn tail of the log; normal after a crash, nothing acknowledged was in it",
            LOG_U64("last-index", recovered.last_index));
    log_info("opened the log", LOG_U64("first-index", recovered.first_index),
             LOG_U64("last-index", recovered.last_index), LOG_U64("applied-index", applied.index),
             LOG_U64("segments", report.segments_count));
    st = make_raft(m, &recovered, applied, &conf_state);
    return st == ST_OK ? ST_OK
                       : explain(st, why, why_bytes, "start consensus on the log", m->datadir.wal);
}

/* ---- threads ---- */

static uint64_t step_actor(void *context, uint64_t now_ns)
{
    struct member_thread *t = context;
    return loops_step(t->member->loops, t->actor, now_ns);
}

static enum status init_threads(struct member *m)
{
    static const char *const names[] = {"consensus", "apply", "backend", "preparer"};
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
        .applied = mark.index,
        .member_id = m->member_id,
        .id_start = rng_next(&m->rng),
        .tick_ns = m->options.heartbeat_ms * NS_PER_MS,
        .readers_count = m->options.readers_count,
        .reader_slot_first = m->options.pollers_count,
        .election_ticks = m->options.election_ms / m->options.heartbeat_ms,
        .waves = m->options.waves,
        .wake = wake_actor,
        .fatal = die,
        .context = m,
    };
    enum status st = loops_new(&options, &m->loops);
    if (st != ST_OK)
        return st;
    wal_set_owner_wake(m->wal, wake_consensus, m);
    wal_set_preparer_wake(m->wal, wake_preparer, m);
    return disk_set_event_fd(m->disk, m->threads[ACTOR_CONSENSUS].thread.event_fd);
}

/* ---- life ---- */

static enum status compute_ids(struct member *m, char *why, size_t why_bytes)
{
    struct slice urls[MEMBER_URLS_MAX];
    uint32_t count = min_u32(m->options.peer_urls_count, MEMBER_URLS_MAX);
    for (uint32_t i = 0; i < count; i++)
        urls[i] = slice_from_str(m->options.peer_urls[i]);
    enum status st =
        member_id_compute(urls, count, slice_from_str(m->options.cluster_token), &m->member_id);
    if (st == ST_OK)
        st = cluster_id_compute(&m->member_id, 1, &m->cluster_id);
    return st == ST_OK ? ST_OK
                       : explain(st, why, why_bytes, "compute the member id of", m->options.name);
}

static enum status open_all(struct member *m, char *why, size_t why_bytes)
{
    enum status st =
        datadir_open(m->options.data_dir, m->options.wal_dir, &m->datadir, why, why_bytes);
    if (st != ST_OK)
        return st;
    if (why[0] != '\0')
        log_warn("check file permission", LOG_STR("error", why));
    st = m->datadir.exists ? check_identity(m, why, why_bytes) : make_member(m, why, why_bytes);
    if (st == ST_OK)
        st = open_disk(m, why, why_bytes);
    if (st == ST_OK)
        st = open_store(m, why, why_bytes);
    if (st == ST_OK)
        st = open_log(m, why, why_bytes);
    if (st != ST_OK)
        return st;
    st = make_loops(m);
    if (st == ST_OK)
        st = start_threads(m);
    return st == ST_OK ? ST_OK
                       : explain(st, why, why_bytes, "start the threads of", m->options.name);
}

enum status member_open(const struct member_options *options, struct member **out, char *why,
                        size_t why_bytes)
{
    *out = NULL;
    why[0] = '\0';
    errno = 0;
    struct member *m = calloc(1, sizeof(*m));
    if (m == NULL)
        return explain(ST_NO_MEMORY, why, why_bytes, "start", options->name);
    m->options = *options;
    m->datadir.lock_fd = -1;
    enum status st = rng_seed_from_system(&m->rng);
    if (st == ST_OK)
        st = lock_new(/* threaded= */ true, &m->lock);
    if (st == ST_OK)
        st = init_threads(m);
    if (st == ST_OK)
        st = compute_ids(m, why, why_bytes);
    if (st == ST_OK)
        st = open_all(m, why, why_bytes);
    if (st != ST_OK) {
        member_close(m);
        return st;
    }
    m->publisher =
        (struct publisher){.loops = m->loops,
                           .machine = m->machine,
                           .name = options->name,
                           .client_urls = options->client_urls,
                           .client_urls_count = options->client_urls_count,
                           .timeout_ns = 5 * NS_PER_S + 2 * options->election_ms * NS_PER_MS,
                           .event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    m->space =
        (struct space_watch){.store = m->store, .loops = m->loops, .data_dir = options->data_dir};
    *out = m;
    return ST_OK;
}

void member_watch_space(struct member *member)
{
    space_watch_step(&member->space);
}

void member_wait_ready(struct member *member)
{
    struct publisher *p = &member->publisher;
    struct pollfd event = {.fd = p->event_fd, .events = POLLIN};
    for (;;) {
        uint64_t count;
        ssize_t got = read(p->event_fd, &count, sizeof(count));
        (void)got; /* empty: the time was up */
        if (atomic_load(&p->state) == PUBLISHER_DONE)
            return;
        publisher_step(p);
        member_watch_space(member); /* on a full disk the publication waits too */
        poll(&event, 1, PUBLISH_RETRY_MS);
        /* Back where it was: it failed. A full disk is not asked again at once. */
        if (atomic_load(&p->state) == PUBLISHER_IDLE)
            poll(NULL, 0, PUBLISH_RETRY_MS);
    }
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

void member_close(struct member *m)
{
    if (m == NULL)
        return;
    if (m->loops != NULL)
        finish_work(m);
    stop_threads(m);
    loops_free(m->loops);
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
