#include "server/run/quota.h"

#include "base/list.h"
#include "server/loops/loops.h"
#include "server/metrics/metrics.h"
#include "base/clock_real.h"
#include "server/run/log.h"
#include "storage/mvcc.h"
#include "storage/store.h"

#define REPEAT_NS (600 * NS_PER_S)

static const char *alarm_name(uint32_t type)
{
    static const char *const names[] = {"NONE", "NOSPACE", "CORRUPT"};
    return type < 3 ? names[type] : "UNKNOWN";
}

/* ---- what comes and goes ---- */

static bool is_among(const struct alarm *alarm, const struct alarm *alarms, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (alarms[i].member == alarm->member && alarms[i].type == alarm->type)
            return true;
    }
    return false;
}

static void tell_alarms(struct quota_watch *w)
{
    struct arena arena;
    const struct alarm *now;
    uint32_t count;
    arena_init(&arena, 1U << 20);
    if (machine_alarms(w->machine, &arena, &now, &count) == ST_OK) {
        metrics_set(METRIC_ALARMS, count);
        count = count > QUOTA_ALARMS_SHOWN ? QUOTA_ALARMS_SHOWN : count;
        for (uint32_t i = 0; i < count; i++) {
            if (!is_among(&now[i], w->alarms, w->alarms_count))
                log_warn("alarm raised", LOG_STR("alarm", alarm_name(now[i].type)),
                         LOG_HEX("from", now[i].member));
        }
        for (uint32_t i = 0; i < w->alarms_count; i++) {
            if (!is_among(&w->alarms[i], now, count))
                log_warn("alarm disarmed", LOG_STR("alarm", alarm_name(w->alarms[i].type)),
                         LOG_HEX("from", w->alarms[i].member));
        }
        memcpy(w->alarms, now, count * sizeof(now[0]));
        w->alarms_count = count;
    }
    arena_deinit(&arena);
}

/* ---- our own alarm ---- */

static void proposal_done(struct proposal *proposal, enum api_error error, struct slice response)
{
    (void)response;
    (void)error; /* the next look sees what became of it */
    struct quota_watch *w = CONTAINER_OF(proposal, struct quota_watch, proposal);
    atomic_store_explicit(&w->pending, false, memory_order_release);
}

static void propose(struct quota_watch *w, enum alarm_action action)
{
    if (atomic_load_explicit(&w->pending, memory_order_acquire))
        return;
    uint64_t id = loops_next_id(w->loops);
    struct raft_payload *payload =
        machine_alarm_payload(id, action, machine_member_id(w->machine), ALARM_NOSPACE);
    if (payload == NULL)
        return; /* no memory: the next look tries again */
    atomic_store_explicit(&w->pending, true, memory_order_relaxed);
    w->proposal = (struct proposal){
        .request = {.kind = REQUEST_PROPOSAL,
                    .deadline_ns = clock_monotonic_ns(clock_real()) + w->timeout_ns},
        .payload = payload,
        .id = id,
        .urgent = true,
        .done = proposal_done};
    loops_propose(w->loops, &w->proposal);
}

static uint64_t percent_of(uint64_t bytes, uint32_t percent)
{
    return bytes / 100 * percent + bytes % 100 * percent / 100;
}

/* As in etcd only a write raises it: an alarm that was disarmed by hand stays away until then. */
static void judge_alarm(struct quota_watch *w, uint64_t used, bool wrote)
{
    const struct alarm own = {.member = machine_member_id(w->machine), .type = ALARM_NOSPACE};
    bool is_active = machine_is_alarm_active(w->machine, &own);
    if (!is_active && wrote && used >= w->quota_bytes) {
        propose(w, ALARM_ACTIVATE);
    } else if (is_active && w->clear_percent > 0 &&
               used < percent_of(w->quota_bytes, w->clear_percent)) {
        log_info("the store is well below its quota again; taking back the alarm",
                 LOG_U64("quota-bytes-used", used), LOG_U64("quota-size-bytes", w->quota_bytes));
        propose(w, ALARM_DEACTIVATE);
    }
}

/* ---- before it comes to that ---- */

static void judge_warning(struct quota_watch *w, uint64_t used)
{
    bool is_near = w->warn_percent > 0 && used >= percent_of(w->quota_bytes, w->warn_percent);
    uint64_t now_ns = clock_monotonic_ns(clock_real());
    if (is_near && (!w->is_near || now_ns - w->said_ns >= REPEAT_NS)) {
        w->said_ns = now_ns;
        log_warn("the store comes near its quota: at the quota writes are refused; compact old "
                 "revisions, delete keys, or start with a larger --quota-backend-bytes",
                 LOG_U64("quota-bytes-used", used), LOG_U64("quota-size-bytes", w->quota_bytes),
                 LOG_U64("percent", used / (w->quota_bytes / 100 + 1)));
    } else if (!is_near && w->is_near) {
        log_info("the store is away from its quota again", LOG_U64("quota-bytes-used", used),
                 LOG_U64("quota-size-bytes", w->quota_bytes));
    }
    w->is_near = is_near;
    metrics_set(METRIC_QUOTA_WARNING, is_near);
}

void quota_watch_step(struct quota_watch *w)
{
    tell_alarms(w);
    struct store_stat stat;
    struct mvcc_stat calls;
    if (store_get_stat(w->store, &stat) != ST_OK)
        return; /* the store's own health says what is wrong */
    mvcc_get_stat(w->mvcc, &calls);
    uint64_t used = stat.backend.in_use_bytes + stat.generation_bytes;
    metrics_set(METRIC_QUOTA_USED_BYTES, (int64_t)used);
    bool wrote = calls.puts_count != w->puts_seen;
    w->puts_seen = calls.puts_count;
    if (w->quota_bytes == UINT64_MAX)
        return;
    judge_alarm(w, used, wrote);
    judge_warning(w, used);
}
