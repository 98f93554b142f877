#include "server/run/gauges.h"

#include "server/config/config.h"
#include "server/metrics/metrics.h"
#include "base/clock_real.h"
#include "server/run/member.h"
#include "server/state/machine.h"

#include <inttypes.h>
#include <stddef.h>

static int64_t db_size(void *context)
{
    struct store_stat stat;
    return store_get_stat(member_store(context), &stat) == ST_OK ? (int64_t)stat.backend.size_bytes
                                                                 : 0;
}

static int64_t db_in_use(void *context)
{
    struct store_stat stat;
    return store_get_stat(member_store(context), &stat) == ST_OK
               ? (int64_t)stat.backend.in_use_bytes
               : 0;
}

static int64_t keys(void *context)
{
    struct mvcc_stat stat;
    mvcc_get_stat(member_mvcc(context), &stat);
    return (int64_t)stat.keys_count;
}

static int64_t ranges(void *context)
{
    struct mvcc_stat stat;
    mvcc_get_stat(member_mvcc(context), &stat);
    return (int64_t)stat.ranges_count;
}

static int64_t put_calls(void *context)
{
    struct mvcc_stat stat;
    mvcc_get_stat(member_mvcc(context), &stat);
    return (int64_t)stat.puts_count;
}

static int64_t deletes(void *context)
{
    struct mvcc_stat stat;
    mvcc_get_stat(member_mvcc(context), &stat);
    return (int64_t)stat.deletes_count;
}

static int64_t txns(void *context)
{
    struct mvcc_stat stat;
    mvcc_get_stat(member_mvcc(context), &stat);
    return (int64_t)stat.txns_count;
}

static int64_t put_size(void *context)
{
    struct mvcc_stat stat;
    mvcc_get_stat(member_mvcc(context), &stat);
    return (int64_t)stat.put_bytes;
}

static int64_t current_revision(void *context)
{
    int64_t current, compact;
    mvcc_revisions(member_mvcc(context), &current, &compact);
    return current;
}

static int64_t compact_revision(void *context)
{
    int64_t current, compact;
    mvcc_revisions(member_mvcc(context), &current, &compact);
    return compact;
}

static int64_t compacted_keys(void *context)
{
    struct mvcc_stat stat;
    mvcc_get_stat(member_mvcc(context), &stat);
    return (int64_t)stat.trimmed_count;
}

static int64_t users_revision(void *context)
{
    return (int64_t)machine_auth_revision(member_machine(context));
}

static int64_t log_stalled(void *context)
{
    uint64_t now_ns = clock_monotonic_ns(clock_real());
    return (int64_t)(loops_log_waits_ns(member_loops(context), now_ns) / NS_PER_S);
}

static int64_t is_learner(void *context)
{
    struct loops_status status;
    loops_get_status(member_loops(context), &status);
    return status.is_learner;
}

static const struct gauge {
    enum metric metric;
    int64_t (*value)(void *context);
} gauges[] = {
    {METRIC_IS_LEARNER, is_learner},
    {METRIC_WAL_STALLED, log_stalled},
    {METRIC_COMPACTION_KEYS, compacted_keys},
    {METRIC_MVCC_DB_TOTAL_SIZE, db_size},
    {METRIC_MVCC_DB_IN_USE, db_in_use},
    {METRIC_MVCC_KEYS, keys},
    {METRIC_MVCC_RANGES, ranges},
    {METRIC_MVCC_DEBUG_RANGES, ranges},
    {METRIC_MVCC_PUTS, put_calls},
    {METRIC_MVCC_DELETES, deletes},
    {METRIC_MVCC_TXNS, txns},
    {METRIC_MVCC_PUT_SIZE, put_size},
    {METRIC_MVCC_CURRENT_REVISION, current_revision},
    {METRIC_MVCC_COMPACT_REVISION, compact_revision},
    {METRIC_AUTH_REVISION, users_revision},
};
#define GAUGES_COUNT (sizeof(gauges) / sizeof(gauges[0]))

/* A family whose one series with value 1 says something by its label. */
static void set_label(enum metric_family family, const char *label, const char *value)
{
    const char *pairs[] = {label, value, NULL};
    metrics_child_set(metrics_child(family, pairs), 1);
}

static void set_labels(struct member *member)
{
    char id[24];
    snprintf(id, sizeof(id), "%" PRIx64, machine_member_id(member_machine(member)));
    set_label(METRIC_SERVER_ID, "server_id", id);
    set_label(METRIC_SERVER_VERSION, "server_version", CONFIG_API_VERSION);
    set_label(METRIC_WAL_DISK, "disk", member_disk_name(member));
}

void gauges_open(struct member *member, uint64_t quota_bytes)
{
    for (size_t i = 0; i < GAUGES_COUNT; i++)
        metrics_set_callback(gauges[i].metric, gauges[i].value, member);
    metrics_set(METRIC_QUOTA_BACKEND_BYTES, (int64_t)quota_bytes);
    set_labels(member);
}

void gauges_close(void)
{
    for (size_t i = 0; i < GAUGES_COUNT; i++)
        metrics_set_callback(gauges[i].metric, NULL, NULL);
}
