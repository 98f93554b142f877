#include "server/run/stall.h"

#include "server/loops/loops.h"
#include "server/metrics/metrics.h"
#include "base/clock_real.h"
#include "server/run/log.h"

#define STALL_NS NS_PER_S /* etcd calls a sync slow from here on */
#define REPEAT_NS (60 * NS_PER_S)

static void begin(struct stall_watch *watch)
{
    watch->waited_ns = 0;
    watch->said_ns = 0;
    metrics_add(METRIC_WAL_STALLS, 1);
}

static void tell(struct stall_watch *watch, uint64_t now_ns)
{
    if (watch->said_ns != 0 && now_ns - watch->said_ns < REPEAT_NS)
        return;
    watch->said_ns = now_ns;
    log_warn("slow fdatasync: the disk of the log hangs, a write is not done yet",
             LOG_DURATION("took", watch->waited_ns), LOG_DURATION("expected-duration", STALL_NS),
             LOG_STR("wal-dir", watch->wal_dir));
}

void stall_watch_step(struct stall_watch *watch)
{
    uint64_t now_ns = clock_monotonic_ns(clock_real());
    uint64_t waits_ns = loops_log_waits_ns(watch->loops, now_ns);
    bool stalled = waits_ns >= STALL_NS;
    if (stalled && !watch->is_stalled)
        begin(watch);
    if (stalled) {
        watch->waited_ns = waits_ns > watch->waited_ns ? waits_ns : watch->waited_ns;
        tell(watch, now_ns);
    } else if (watch->is_stalled) {
        log_info("the disk of the log answers again", LOG_DURATION("took", watch->waited_ns),
                 LOG_STR("wal-dir", watch->wal_dir));
    }
    watch->is_stalled = stalled;
}
