#include "server/run/corruption_watch.h"

#include "base/list.h"
#include "base/minmax.h"
#include "server/loops/loops.h"
#include "server/run/ask.h"
#include "base/clock_real.h"
#include "server/run/log.h"
#include "server/run/propose.h"
#include "server/state/corruption.h"
#include "server/state/machine.h"
#include "storage/mvcc.h"

#include <inttypes.h>
#include <semaphore.h>
#include <stdio.h>

#define ASK_MS 10000U /* a member hashes its whole store for the answer */

/* ---- what the actors do, waited for ---- */

struct awaited_read {
    struct read_request read;
    sem_t done;
    enum api_error error;
    struct mvcc *mvcc; /* NULL: the turn is all that is wanted */
    int64_t revision;
    struct hash_answer *hash;
};

static void read_turn(struct read_request *read, enum api_error error, uint32_t reader)
{
    struct awaited_read *awaited = CONTAINER_OF(read, struct awaited_read, read);
    struct hash_answer *hash = awaited->hash;
    if (error == API_OK && awaited->mvcc != NULL)
        error = api_error_of(mvcc_hash_kv(awaited->mvcc, reader, awaited->revision, &hash->hash,
                                          &hash->current_revision, &hash->compact_revision));
    awaited->error = error;
    sem_post(&awaited->done);
}

static void wait_for(sem_t *done)
{
    while (sem_wait(done) != 0)
        continue;
    sem_destroy(done);
}

static enum api_error own_hash(void *context, int64_t revision, struct hash_answer *out)
{
    struct corruption_watch *w = context;
    *out = (struct hash_answer){.member = w->member_id};
    struct awaited_read awaited = {
        .read = {.ready = read_turn}, .mvcc = w->mvcc, .revision = revision, .hash = out};
    sem_init(&awaited.done, /* pshared= */ 0, 0);
    loops_read_whole(w->loops, &awaited.read);
    wait_for(&awaited.done);
    out->error = awaited.error;
    return awaited.error;
}

static enum api_error catch_up(void *context)
{
    struct corruption_watch *w = context;
    struct awaited_read awaited = {
        .read = {.request.deadline_ns = clock_monotonic_ns(clock_real()) + w->timeout_ns,
                 .ready = read_turn}};
    sem_init(&awaited.done, /* pshared= */ 0, 0);
    loops_read(w->loops, &awaited.read);
    wait_for(&awaited.done);
    return awaited.error;
}

static uint32_t others_hash(void *context, int64_t revision, struct hash_answer out[MEMBERS_MAX])
{
    struct corruption_watch *w = context;
    struct members *members = machine_members(w->machine);
    uint32_t count = 0;
    for (uint32_t i = 0; i < members_count(members); i++) {
        const struct member_row *row = members_at(members, i);
        if (row->id == w->member_id || atomic_load(&w->thread.stop))
            continue;
        ask_hash(row, w->cluster_id, revision, ASK_MS, &out[count]);
        if (out[count].error != API_OK)
            log_warn("failed hash kv request", LOG_HEX("remote-peer-id", row->id),
                     LOG_I64("requested-revision", revision),
                     LOG_STR("error", api_error_text(out[count].error)));
        count++;
    }
    members_unref(members);
    return count;
}

static struct corruption_source source_of(struct corruption_watch *w)
{
    return (struct corruption_source){
        .own = own_hash, .others = others_hash, .catch_up = catch_up, .context = w};
}

/* ---- alarms ---- */

static void raise_alarm(struct corruption_watch *w, raft_id member, const char *why)
{
    log_error("found data corruption; raising an alarm", LOG_HEX("member-id", member),
              LOG_STR("error", why));
    uint64_t id = loops_next_id(w->loops);
    enum api_error error =
        propose_and_wait(w->loops, machine_alarm_payload(id, ALARM_ACTIVATE, member, ALARM_CORRUPT),
                         id, w->timeout_ns);
    if (error != API_OK)
        log_warn("failed to raise the alarm", LOG_HEX("member-id", member),
                 LOG_STR("error", api_error_text(error)));
}

/* ---- checks ---- */

enum status corruption_watch_check_initial(struct corruption_watch *w, char *why, size_t why_bytes)
{
    struct corruption found;
    struct corruption_source source = source_of(w);
    log_info("starting initial corruption check", LOG_HEX("local-member-id", w->member_id));
    enum api_error error = corruption_check_initial(&source, &found);
    if (error != API_OK) {
        snprintf(why, why_bytes, "cannot hash the store for the initial corruption check: %s",
                 api_error_text(error));
        return ST_IO;
    }
    if (found.odd_count > 0) {
        snprintf(why, why_bytes, "%" PRIx64 " found data inconsistency with peers", w->member_id);
        return ST_CORRUPT;
    }
    log_info("initial corruption checking passed; no corruption",
             LOG_HEX("local-member-id", w->member_id),
             LOG_U64("members-compared", found.compared_count));
    return ST_OK;
}

static int64_t compact_revision(const struct corruption_watch *w)
{
    int64_t current, compacted;
    mvcc_revisions(w->mvcc, &current, &compacted);
    return compacted;
}

static uint32_t others_count(const struct corruption_watch *w)
{
    struct members *members = machine_members(w->machine);
    uint32_t count = members_count(members) - 1;
    members_unref(members);
    return count;
}

static void check(struct corruption_watch *w)
{
    struct corruption found;
    struct corruption_source source = source_of(w);
    int64_t compacted = compact_revision(w);
    enum api_error error = corruption_check_periodic(&source, &found);
    if (error != API_OK) {
        log_warn("failed to check hash KV", LOG_STR("error", api_error_text(error)));
        return;
    }
    for (uint32_t i = 0; i < found.odd_count; i++)
        raise_alarm(w, found.odd[i], found.why);
    log_info("finished peer corruption check",
             LOG_U64("number-of-peers-checked", found.compared_count));
    if (found.compared_count == others_count(w))
        w->compared_compact_revision = compacted;
}

/* ---- the thread ---- */

static bool is_due(const struct corruption_timer *timer, uint64_t now_ns)
{
    return timer->interval_ns != 0 && now_ns >= timer->next_ns;
}

static uint64_t rewind_timer(struct corruption_timer *timer, uint64_t now_ns)
{
    if (timer->interval_ns == 0)
        return UINT64_MAX;
    if (is_due(timer, now_ns))
        timer->next_ns = now_ns + timer->interval_ns;
    return timer->next_ns;
}

static uint64_t step(void *context, uint64_t now_ns)
{
    struct corruption_watch *w = context;
    struct loops_status status;
    loops_get_status(w->loops, &status);
    bool is_wanted =
        is_due(&w->always, now_ns) ||
        (is_due(&w->compacted, now_ns) && compact_revision(w) > w->compared_compact_revision);
    if (status.is_leader && is_wanted)
        check(w);
    now_ns = clock_monotonic_ns(clock_real());
    uint64_t always_ns = rewind_timer(&w->always, now_ns);
    return min_u64(always_ns, rewind_timer(&w->compacted, now_ns));
}

static bool has_thread(const struct corruption_watch *w)
{
    return w->always.interval_ns != 0 || w->compacted.interval_ns != 0;
}

enum status corruption_watch_start(struct corruption_watch *w)
{
    if (!has_thread(w))
        return ST_OK;
    log_info("enabled corruption checking", LOG_HEX("local-member-id", w->member_id),
             LOG_DURATION("interval", w->always.interval_ns),
             LOG_DURATION("compact-check-time-interval", w->compacted.interval_ns));
    uint64_t now_ns = clock_monotonic_ns(clock_real());
    w->always.next_ns = now_ns + w->always.interval_ns;
    w->compacted.next_ns = now_ns + w->compacted.interval_ns;
    enum status st = thread_init(&w->thread, "corruption", clock_real(), step, w);
    return st == ST_OK ? thread_start(&w->thread) : st;
}

void corruption_watch_stop(struct corruption_watch *w)
{
    if (!has_thread(w) || w->loops == NULL)
        return;
    thread_stop(&w->thread);
    thread_deinit(&w->thread);
}
