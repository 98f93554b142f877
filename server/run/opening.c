#include "base/assert.h"
#include "base/minmax.h"
#include "raft/raft.h"
#include "server/loops/start.h"
#include "base/clock_real.h"
#include "server/run/force_new.h"
#include "server/run/log.h"
#include "server/run/member_private.h"
#include "server/run/stores.h"
#include "server/state/machine.h"
#include "storage/mvcc.h"
#include "wal/disks.h"

#include <errno.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#define WINDOW_ENTRIES_MAX 5000U
#define WINDOW_BYTES_MAX (64U << 20)
#define BACKEND_BYTES_MAX \
    (64ULL << 30) /* address space for the backend's file; costs nothing until used */
#define UNCOMMITTED_BYTES_MAX (64U << 20) /* beyond it proposals wait */
#define FOLLOWER_BYTES_MAX (64U << 20)
#define STALL_BYTES_MAX (32U << 20)
#define STALL_MS_MIN 5000U
#define STALL_ELECTIONS 5U
#define RESERVE_BYTES_MAX (64ULL << 20) /* of a disk, for the store: four generations */
#define RESERVE_SHARE 4U                /* of a small disk at most this part */

static void wake_applier(void *context)
{
    member_wake_actor(context, ACTOR_APPLIER);
}

static void wake_writer(void *context)
{
    member_wake_actor(context, ACTOR_WRITER);
}

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

enum status member_open_disk(struct member *m, char *why, size_t why_bytes)
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

/* Appends and waits until it is durable: only for a log that nobody else uses yet. */
enum status member_append_durably(struct wal *wal, const struct wal_append *append)
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

struct wal_options member_log_options(struct member *m, bool create, struct raft_log_id mark)
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

static const struct backend_ops *find_backend(const char *name)
{
    if (strcmp(name, "lmdb") == 0)
        return backend_lmdb();
    return strcmp(name, "sqlite") == 0 ? backend_sqlite() : NULL;
}

struct store_options member_store_options(struct member *m, char *path, size_t path_bytes,
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
        .readers_count = m->options.pollers_count + m->options.readers_count + /* HTTP */ 3 +
                         LOOPS_SNAPSHOT_SLOTS + /* the watch hub */ 1,
    };
}

static enum status open_store(struct member *m, char *why, size_t why_bytes)
{
    m->store_options =
        member_store_options(m, m->store_path, sizeof(m->store_path), /* create= */ false);
    m->store_options.wake_writer = wake_writer;
    m->store_options.wake_apply = wake_applier;
    m->store_options.wake_context = m;
    datadir_checkpoint_path(&m->datadir, m->checkpoint_path, sizeof(m->checkpoint_path));
    errno = 0;
    enum status st = store_open(&m->store_options, &m->store);
    if (st != ST_OK)
        return member_explain(st, why, why_bytes, "open the store", m->store_path);
    m->mvcc_options = (struct mvcc_options){.store = m->store,
                                            .lock = m->lock,
                                            .checkpoint_path = m->checkpoint_path,
                                            .life_id = m->datadir.format.life_id,
                                            .readers_count = m->store_options.readers_count};
    return ST_OK;
}

/* etcd's rule: a lease must outlive an election. */
static int64_t lease_ttl_s_min(const struct member *m)
{
    uint64_t ticks = m->options.election_ms / m->options.heartbeat_ms;
    return (int64_t)((ticks * 3 / 2 * m->options.heartbeat_ms + 999) / 1000);
}

/* The index and the state machine over the store that was opened. */
static enum status open_state(struct member *m, char *why, size_t why_bytes)
{
    enum status st = mvcc_open(&m->mvcc_options, &m->mvcc);
    if (st != ST_OK)
        return member_explain(st, why, why_bytes, "build the index of the store", m->store_path);
    struct machine_options machine = {.store = m->store,
                                      .mvcc = m->mvcc,
                                      .cluster_id = m->cluster_id,
                                      .member_id = m->member_id,
                                      .lease_ttl_s_min = lease_ttl_s_min(m),
                                      .persist_checkpoints = m->options.lease_checkpoint_persist,
                                      .threaded = true};
    st = machine_open(&machine, &m->machine);
    return st == ST_OK ? ST_OK
                       : member_explain(st, why, why_bytes, "read the members from the store",
                                        m->store_path);
}

static void log_raft(void *context, enum raft_log_level level, const char *text)
{
    (void)context;
    static const enum log_level levels[] = {[RAFT_LOG_DEBUG] = LOG_LEVEL_DEBUG,
                                            [RAFT_LOG_ROUTINE] = LOG_LEVEL_DEBUG,
                                            [RAFT_LOG_INFO] = LOG_LEVEL_INFO,
                                            [RAFT_LOG_WARN] = LOG_LEVEL_WARN,
                                            [RAFT_LOG_ERROR] = LOG_LEVEL_ERROR};
    LOG_AT(levels[level], text);
}

/* The core gets what lies above the store's mark and, below it, what a follower may still ask for.
 */
static enum status make_raft(struct member *m, const struct wal_recovered *recovered)
{
    struct store_mark mark = store_opened_at(m->store);
    struct loops_start start;
    enum status st = loops_start_init(&start, m->wal, recovered, &mark, WINDOW_ENTRIES_MAX);
    uint32_t stall_ms = max_u32(STALL_ELECTIONS * m->options.election_ms, STALL_MS_MIN);
    struct raft_config config = {.id = m->member_id,
                                 .election_ticks = m->options.election_ms / m->options.heartbeat_ms,
                                 .heartbeat_ticks = 1,
                                 .message_bytes_max = 1U << 20,
                                 .inflight_messages_max = 512,
                                 .inflight_bytes_max = 8U << 20,
                                 .apply_bytes_max = 8U << 20,
                                 .uncommitted_bytes_max = UNCOMMITTED_BYTES_MAX,
                                 .window_entries_max = WINDOW_ENTRIES_MAX,
                                 .window_bytes_max = WINDOW_BYTES_MAX,
                                 .stall_ticks_max = stall_ms / m->options.heartbeat_ms,
                                 .stall_bytes_max = STALL_BYTES_MAX,
                                 .follower_bytes_max = FOLLOWER_BYTES_MAX,
                                 .log = log_raft,
                                 .check_quorum = true,
                                 .pre_vote = m->options.pre_vote,
                                 .step_down_on_removal = true,
                                 .apply_unstable = true,
                                 .rng = &m->rng};
    if (st == ST_OK)
        st = raft_new(&config, &start.start, &m->raft);
    loops_start_deinit(&start);
    return st;
}

static enum status open_log(struct member *m, struct wal_recovered *recovered, char *why,
                            size_t why_bytes)
{
    struct store_mark mark = store_opened_at(m->store);
    struct wal_options options = member_log_options(
        m, /* create= */ false, (struct raft_log_id){.index = mark.index, .term = mark.term});
    struct wal_report report;
    errno = 0;
    enum status st = wal_open(&options, &m->wal, recovered, &report);
    if (st != ST_OK) {
        if (report.text[0] == '\0')
            return member_explain(st, why, why_bytes, "open the log", m->datadir.wal);
        snprintf(why, why_bytes, "%s", report.text);
        return st;
    }
    if (report.torn_tail)
        log_info(
            "cut the torn tail of the log; normal after a crash, nothing acknowledged was in it",
            LOG_U64("last-index", recovered->last_index));
    log_info("opened the log", LOG_U64("first-index", recovered->first_index),
             LOG_U64("last-index", recovered->last_index), LOG_U64("applied-index", mark.index),
             LOG_U64("segments", report.segments_count));
    return ST_OK;
}

/* The log has the last word about which store it is: the member may have stopped between the record
 * of a received snapshot and the switch to it. */
static enum status follow_log(struct member *m, const struct wal_recovered *recovered, char *why,
                              size_t why_bytes)
{
    struct store_mark mark = store_opened_at(m->store);
    if (!loops_start_is_behind(recovered, &mark))
        return ST_OK;
    raft_index index = recovered->snapshot.last.index;
    log_info("the log ends in a received snapshot; going on with the store that was made of it",
             LOG_U64("index", index), LOG_U64("store-index", mark.index));
    store_close(m->store);
    m->store = NULL;
    enum status st = stores_choose(m, index, why, why_bytes);
    if (st == ST_OK)
        st = open_store(m, why, why_bytes);
    if (st != ST_OK)
        return st;
    mark = store_opened_at(m->store);
    if (mark.index >= index)
        return ST_OK;
    snprintf(why, why_bytes, "the store '%s' is not that of the snapshot which the log names",
             m->store_path);
    return ST_CORRUPT;
}

enum status member_open_data(struct member *m, char *why, size_t why_bytes)
{
    struct wal_recovered recovered;
    enum status st = open_store(m, why, why_bytes);
    if (st == ST_OK)
        st = open_log(m, &recovered, why, why_bytes);
    if (st == ST_OK)
        st = follow_log(m, &recovered, why, why_bytes);
    if (st == ST_OK)
        st = open_state(m, why, why_bytes);
    if (st != ST_OK)
        return st;
    stores_clean(m);
    struct store_mark mark = store_opened_at(m->store);
    if (m->options.force_new_cluster) {
        st = force_new_cluster(m, &recovered, &mark, why, why_bytes);
        if (st != ST_OK)
            return st;
    }
    m->log_is_empty = recovered.last_index == 0 && mark.index == 0;
    st = make_raft(m, &recovered);
    return st == ST_OK
               ? ST_OK
               : member_explain(st, why, why_bytes, "start consensus on the log", m->datadir.wal);
}
