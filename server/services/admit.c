/* server/services/admit.c - whether the store can take more. The quota is judged by the space that
 * is in use, not by the size of the file, so that it opens again by itself once a compaction has
 * freed enough; the file never outgrows the most that was ever in use. */
#include "server/services/services_private.h"
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
    if (!take_room(&services->figures, cost))
        return API_DISK_FULL;
    atomic_fetch_add_explicit(&services->figures.used_bytes, cost, memory_order_relaxed);
    return API_OK;
}

bool reads_stay_in_memory(struct services *services)
{
    if (services->options.memory_bytes == 0)
        return true;
    fetch_figures(services, clock_monotonic_ns(services->options.clock));
    uint64_t size = atomic_load_explicit(&services->figures.size_bytes, memory_order_relaxed);
    return size <= services->options.memory_bytes / 2;
}
