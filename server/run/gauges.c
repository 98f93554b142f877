#include "server/run/gauges.h"

#include "server/metrics/metrics.h"
#include "server/run/member.h"

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

static const struct gauge {
    enum metric metric;
    int64_t (*value)(void *context);
} gauges[] = {
    {METRIC_MVCC_DB_TOTAL_SIZE, db_size},
    {METRIC_MVCC_DB_IN_USE, db_in_use},
    {METRIC_MVCC_KEYS, keys},
    {METRIC_MVCC_CURRENT_REVISION, current_revision},
    {METRIC_MVCC_COMPACT_REVISION, compact_revision},
};
#define GAUGES_COUNT (sizeof(gauges) / sizeof(gauges[0]))

void gauges_open(struct member *member, uint64_t quota_bytes)
{
    for (size_t i = 0; i < GAUGES_COUNT; i++)
        metrics_set_callback(gauges[i].metric, gauges[i].value, member);
    metrics_set(METRIC_QUOTA_BACKEND_BYTES, (int64_t)quota_bytes);
}

void gauges_close(void)
{
    for (size_t i = 0; i < GAUGES_COUNT; i++)
        metrics_set_callback(gauges[i].metric, NULL, NULL);
}
