#include "server/loops/apply_metrics.h"

#include <stddef.h>

static const struct apply_series *find(struct apply_metrics *metrics, const char *op, bool success)
{
    for (uint32_t i = 0; i < metrics->count; i++) {
        if (metrics->series[i].op == op && metrics->series[i].success == success)
            return &metrics->series[i];
    }
    if (metrics->count == APPLY_OPS_MAX)
        return NULL;
    /* The one operation of etcd's v2 store that is left. */
    const char *version = strcmp(op, "PUT") == 0 ? "v2" : "v3";
    const char *pairs[] = {"op",      op,      "success", success ? "true" : "false",
                           "version", version, NULL};
    struct apply_series *series = &metrics->series[metrics->count++];
    *series = (struct apply_series){.op = op,
                                    .success = success,
                                    .child = metrics_histogram_child(METRIC_APPLY_DURATION, pairs)};
    return series;
}

void apply_metrics_add(struct apply_metrics *metrics, const char *op, bool success,
                       uint64_t took_ns)
{
    const struct apply_series *series = op == NULL ? NULL : find(metrics, op, success);
    if (series != NULL)
        metrics_child_observe(series->child, took_ns);
    if (metrics->slow_ns != 0 && took_ns > metrics->slow_ns)
        metrics_add(METRIC_SLOW_APPLIES, 1);
}
