#include "server/loops/loops_private.h"

#include "base/minmax.h"
#include "server/metrics/metrics.h"

#define WRITER_RETRY_NS (200 * NS_PER_MS) /* after "no space": room may have been made */
#define WRITER_POLL_NS (1 * NS_PER_S)

/* The backend writer has no state of its own here: the store keeps it. */
uint64_t writer_step(struct loops *loops, uint64_t now_ns)
{
    struct store *store = loops->options.store;
    bool worked = false;
    enum status st = store_writer_step(store, &worked);
    if (st == ST_NO_SPACE)
        return now_ns + WRITER_RETRY_NS;
    if (st != ST_OK) {
        loops_fail(loops, st, "backend writer");
        return UINT64_MAX;
    }
    if (!worked)
        return now_ns + WRITER_POLL_NS;
    metrics_observe(METRIC_BACKEND_COMMIT, clock_monotonic_ns(loops->options.clock) - now_ns);
    return now_ns; /* there may be more: scheduled deletions, the next sealed generation */
}
