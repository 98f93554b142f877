/* server/services/admit.c - whether the store can take more. The quota is judged by the space that
 * is in use, not by the size of the file, so that a compaction alone makes room; the file never
 * outgrows the most that was ever in use. A request that would go over it is refused before it is
 * proposed, and raises this member's NOSPACE alarm, which refuses the others' when they are applied
 * and stays until it is taken back. */
#include "server/services/services_private.h"
#include "server/state/machine.h"
#include "storage/store.h"

static void fetch_figures(struct services *services, uint64_t now_ns)
{
    struct store_figures *figures = &services->figures;
    uint64_t fetched_ns = atomic_load_explicit(&figures->fetched_ns, memory_order_relaxed);
    if (fetched_ns != 0 && now_ns - fetched_ns < STORE_FIGURES_AGE_NS)
        return;
    /* Whoever sets the time fetches. */
    if (!atomic_compare_exchange_strong_explicit(&figures->fetched_ns, &fetched_ns, now_ns,
                                                 memory_order_relaxed, memory_order_relaxed))
        return;
    struct store_stat stat;
    if (store_get_stat(services->options.store, &stat) != ST_OK)
        return; /* the store's own health says what is wrong */
    atomic_store_explicit(&figures->used_bytes, stat.backend.in_use_bytes + stat.generation_bytes,
                          memory_order_relaxed);
    atomic_store_explicit(&figures->size_bytes, stat.backend.size_bytes, memory_order_relaxed);
    atomic_store_explicit(&figures->room_bytes, stat.room_bytes, memory_order_relaxed);
}

static enum status health(const struct services *services)
{
    enum status st = store_health(services->options.store);
    if (st == ST_OK && services->options.health != NULL)
        st = services->options.health(services->options.health_context);
    return st;
}

/* What is acknowledged must find room in the store later: a store that cannot commit cannot delete
 * either, and a compaction is the way out that needs nobody else. */
static bool take_room(struct store_figures *figures, uint64_t bytes)
{
    uint64_t room = atomic_load_explicit(&figures->room_bytes, memory_order_relaxed);
    while (room >= bytes) {
        if (atomic_compare_exchange_weak_explicit(&figures->room_bytes, &room, room - bytes,
                                                  memory_order_relaxed, memory_order_relaxed))
            return true;
    }
    return false;
}

enum api_error admit_write(struct services *services, uint64_t cost)
{
    enum status st = health(services);
    if (st == ST_NO_SPACE && cost > 0)
        return API_DISK_FULL;
    if (st != ST_OK && st != ST_NO_SPACE)
        return API_STOPPED;
    if (cost == 0)
        return API_OK;
    fetch_figures(services, clock_monotonic_ns(services->options.clock));
    uint64_t used = atomic_load_explicit(&services->figures.used_bytes, memory_order_relaxed);
    if (used + cost >= services->options.quota_bytes)
        return API_NO_SPACE;
    uint64_t room = atomic_load_explicit(&services->figures.room_bytes, memory_order_relaxed);
    return room < cost ? API_DISK_FULL : API_OK;
}

enum api_error charge_write(struct services *services, uint64_t cost)
{
    if (cost == 0)
        return API_OK;
    if (!take_room(&services->figures, cost))
        return API_DISK_FULL;
    atomic_fetch_add_explicit(&services->figures.used_bytes, cost, memory_order_relaxed);
    return API_OK;
}

/* ---- the alarm ---- */

static void alarm_done(struct proposal *proposal, enum api_error error, struct slice response)
{
    (void)error; /* the request is refused all the same; the next one raises it again */
    (void)response;
    struct rpc_call *call = proposal->request.call;
    struct services *services = call->service;
    atomic_store_explicit(&services->alarm_pending, false, memory_order_release);
    finish_later(call, API_NO_SPACE, SLICE_EMPTY);
}

/* The answer waits until the alarm is there, so that whoever gets it finds the alarm. */
static void raise_nospace(struct rpc_call *call)
{
    struct services *services = call->service;
    struct machine *machine = services->options.machine;
    const struct alarm own = {.member = machine_member_id(machine), .type = ALARM_NOSPACE};
    if (machine_is_alarm_active(machine, &own) ||
        atomic_exchange_explicit(&services->alarm_pending, true, memory_order_acquire)) {
        finish_error(call, API_NO_SPACE);
        return;
    }
    uint64_t id = loops_next_id(services->options.loops);
    struct proposal *proposal = ARENA_NEW(call->arena, struct proposal);
    struct raft_payload *payload =
        proposal == NULL ? NULL
                         : machine_alarm_payload(id, ALARM_ACTIVATE, own.member, ALARM_NOSPACE);
    if (payload == NULL) {
        atomic_store_explicit(&services->alarm_pending, false, memory_order_release);
        finish_error(call, API_NO_SPACE);
        return;
    }
    *proposal = (struct proposal){.request = {.kind = REQUEST_PROPOSAL,
                                              .deadline_ns = request_deadline_ns(services),
                                              .call = call},
                                  .payload = payload,
                                  .id = id,
                                  .urgent = true,
                                  .done = alarm_done};
    loops_propose(services->options.loops, proposal);
}

void refuse_write(struct rpc_call *call, enum api_error error)
{
    if (error == API_NO_SPACE)
        raise_nospace(call);
    else
        finish_error(call, error);
}

bool reads_stay_in_memory(struct services *services)
{
    if (services->options.memory_bytes == 0)
        return true;
    fetch_figures(services, clock_monotonic_ns(services->options.clock));
    uint64_t size = atomic_load_explicit(&services->figures.size_bytes, memory_order_relaxed);
    return size <= services->options.memory_bytes / 2;
}
