/* server/metrics/metrics.h - the numbers a member shows, under etcd's names, as Prometheus text.
 * One registry for the process, like Prometheus' own. Counting costs one uncontended atomic
 * addition: every thread has a shard. Any thread, at any time. */
#ifndef SERVER_METRICS_METRICS_H
#define SERVER_METRICS_METRICS_H
#include "base/buf.h"
#include "base/status.h"
#include "server/metrics/table.h"

#include <stdint.h>

enum metric { METRICS_SCALARS(METRICS_ENUM) METRICS_SCALARS_COUNT };
enum metric_histogram { METRICS_HISTOGRAMS(METRICS_HISTOGRAM_ENUM) METRICS_HISTOGRAMS_COUNT };
enum metric_family { METRICS_FAMILIES(METRICS_FAMILY_ENUM) METRICS_FAMILIES_COUNT };
enum metric_histogram_family {
    METRICS_HISTOGRAM_FAMILIES(METRICS_HISTOGRAM_ENUM) METRICS_HISTOGRAM_FAMILIES_COUNT
};

/* Counters, and gauges that go up and down. A gauge is either added to or set, never both. */
void metrics_add(enum metric metric, int64_t delta);
void metrics_set(enum metric metric, int64_t value);
/* A gauge whose value is somebody else's: asked at each render, on the rendering thread. NULL takes
 * the callback away; it is not running any more when the call returns. */
void metrics_set_callback(enum metric metric, int64_t (*value)(void *context), void *context);
/* One duration, whatever the unit that the histogram shows. */
void metrics_observe(enum metric_histogram histogram, uint64_t ns);

/* One set of label values in a labelled family: a number to keep and count with. */
struct metric_child {
    uint32_t slot;
    uint32_t histogram; /* which family, of a histogram */
};
/* Finds or makes the child; pairs holds name, value, ..., NULL, copied. Takes a lock: look it up
 * once and keep it, or use it on rare events. A registry that is full gives a child that is not
 * shown. */
struct metric_child metrics_child(enum metric_family family, const char *const *pairs);
struct metric_child metrics_histogram_child(enum metric_histogram_family family,
                                            const char *const *pairs);
void metrics_child_add(struct metric_child child, int64_t delta);
void metrics_child_set(struct metric_child child, int64_t value);
void metrics_child_observe(struct metric_child child, uint64_t ns); /* of a histogram family */

/* Appends everything in Prometheus' text format 0.0.4, and the process_* and os_fd_* numbers of
 * this moment. A labelled family without children does not appear. Errors: buf_append()'s. */
CHECKED enum status metrics_render(struct buf *out);
/* Forgets every number, child and callback: for tests. No other thread may be counting. */
void metrics_reset(void);
#endif
