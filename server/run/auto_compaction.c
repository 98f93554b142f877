#include "server/run/auto_compaction.h"

#include "server/loops/loops.h"
#include "base/clock_real.h"
#include "server/run/log.h"
#include "server/run/propose.h"
#include "server/state/machine.h"
#include "storage/mvcc.h"

static int64_t newest(const struct auto_compaction *a)
{
    int64_t current, compacted;
    mvcc_revisions(a->mvcc, &current, &compacted);
    return current;
}

static bool leads(const struct auto_compaction *a)
{
    struct loops_status status;
    loops_get_status(a->loops, &status);
    return status.is_leader;
}

/* What the log says is etcd's, by mode. */
struct words {
    const char *starting, *completed, *failed;
};

static struct log_field retention_field(const struct auto_compaction *a)
{
    if (a->by_revision)
        return LOG_U64("revision-compaction-retention", a->retention);
    return LOG_DURATION("compact-period", a->retention);
}

static bool compact(const struct auto_compaction *a, int64_t revision)
{
    static const struct words words[] = {
        {"starting auto periodic compaction", "completed auto periodic compaction",
         "failed auto periodic compaction"},
        {"starting auto revision compaction", "completed auto revision compaction",
         "failed auto revision compaction"}};
    const struct words *say = &words[a->by_revision];
    log_info(say->starting, LOG_I64("revision", revision), retention_field(a));
    uint64_t began_ns = clock_monotonic_ns(clock_real());
    uint64_t id = loops_next_id(a->loops);
    enum api_error error =
        propose_and_wait(a->loops, machine_compaction_payload(id, revision), id, a->timeout_ns);
    uint64_t took_ns = clock_monotonic_ns(clock_real()) - began_ns;
    if (error == API_OK || error == API_COMPACTED)
        log_info(say->completed, LOG_I64("revision", revision), retention_field(a),
                 LOG_DURATION("took", took_ns));
    else
        log_warn(say->failed, LOG_I64("revision", revision), retention_field(a),
                 LOG_DURATION("retry-interval", a->compactor.interval_ns),
                 LOG_STR("error", api_error_text(error)));
    return error == API_OK || error == API_COMPACTED;
}

static uint64_t step(void *context, uint64_t now_ns)
{
    struct auto_compaction *a = context;
    if (now_ns < a->next_ns)
        return a->next_ns;
    int64_t revision = compactor_step(&a->compactor, now_ns, newest(a), leads(a));
    if (revision != 0) {
        bool ok = compact(a, revision);
        compactor_done(&a->compactor, clock_monotonic_ns(clock_real()), newest(a), ok);
    }
    a->next_ns = clock_monotonic_ns(clock_real()) + a->compactor.interval_ns;
    return a->next_ns;
}

enum status auto_compaction_start(struct auto_compaction *a)
{
    if (a->retention == 0)
        return ST_OK;
    enum status st = compactor_init(&a->compactor, a->by_revision, a->retention);
    if (st == ST_OK)
        st = thread_init(&a->thread, "compactor", clock_real(), step, a);
    return st == ST_OK ? thread_start(&a->thread) : st;
}

void auto_compaction_stop(struct auto_compaction *a)
{
    if (a->retention == 0 || a->loops == NULL)
        return;
    if (a->thread.running) {
        thread_stop(&a->thread);
        thread_deinit(&a->thread);
    }
    compactor_deinit(&a->compactor);
}
