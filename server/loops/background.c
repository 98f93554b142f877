/* The two actors that write to the disk behind the log's back: the backend writer and the segment
 * preparer. Neither syncs within one commit time of the other, so that a commit of the log meets at
 * most one foreign flush. */
#include "server/loops/snapshots.h"

#include "base/minmax.h"
#include "server/metrics/metrics.h"

#define WRITER_RETRY_NS (200 * NS_PER_MS) /* after a refusal that passes: no space, busy */
#define CHECKPOINT_BYTES (64ULL << 20)    /* of applied entries between two index checkpoints */

/* When the caller may sync: now, or a commit time after the other one did. */
static uint64_t next_turn_ns(struct loops *loops, uint64_t other_sync_ns, uint64_t now_ns)
{
    uint64_t commit_ns = atomic_load_explicit(&loops->commit_ns, memory_order_relaxed);
    return other_sync_ns == 0 ? now_ns : max_u64(other_sync_ns + commit_ns, now_ns);
}

/* The index is saved now and then so that a restart after a crash scans little. A failure costs
 * nothing but that. */
static void checkpoint_if_due(struct loops *loops)
{
    uint64_t applied = atomic_load_explicit(&loops->applied_bytes, memory_order_relaxed);
    if (applied - loops->checkpoint_bytes < CHECKPOINT_BYTES)
        return;
    enum status ignored = mvcc_checkpoint(loops->options.mvcc);
    (void)ignored;
    loops->checkpoint_bytes = applied;
}

/* What the store itself has to do; when to go on. */
static uint64_t store_step(struct loops *loops, uint64_t now_ns)
{
    struct store *store = loops->options.store;
    uint64_t turn_ns = next_turn_ns(
        loops, atomic_load_explicit(&loops->preparer_sync_ns, memory_order_relaxed), now_ns);
    if (turn_ns > now_ns)
        return turn_ns;
    bool worked = false;
    enum status st = store_writer_step(store, &worked);
    if (st == ST_NO_SPACE || st == ST_NO_MEMORY || st == ST_BUSY) /* a tool locks it */
        return now_ns + WRITER_RETRY_NS;
    if (st != ST_OK) {
        loops_fail(loops, st, "backend writer");
        return UINT64_MAX;
    }
    /* A full disk waits for the log to shrink, the log for the store to be durable: no time for one
     * commit more. */
    if (loops_is_short(loops)) {
        st = store_writer_flush(store);
        if (status_is_fatal(st)) {
            loops_fail(loops, st, "backend writer");
            return UINT64_MAX;
        }
    }
    if (!worked)
        return store_writer_deadline_ns(store);
    uint64_t end_ns = clock_monotonic_ns(loops->options.clock);
    atomic_store_explicit(&loops->writer_sync_ns, end_ns, memory_order_relaxed);
    metrics_observe(METRIC_BACKEND_COMMIT, end_ns - now_ns);
    checkpoint_if_due(loops);
    return now_ns; /* there may be more: scheduled deletions, the next sealed generation */
}

uint64_t writer_step(struct loops *loops, uint64_t now_ns)
{
    enum status adopted = install_step_writer(loops);
    if (adopted != ST_OK) {
        loops_fail(loops, adopted, "switch to a received state");
        return UINT64_MAX;
    }
    uint64_t again_ns = store_step(loops, now_ns);
    return min_u64(again_ns, defragments_step(loops, now_ns));
}

uint64_t preparer_step(struct loops *loops, uint64_t now_ns)
{
    uint64_t turn_ns = next_turn_ns(
        loops, atomic_load_explicit(&loops->writer_sync_ns, memory_order_relaxed), now_ns);
    if (turn_ns > now_ns)
        return turn_ns;
    uint64_t again_ns = wal_preparer_step(loops->options.wal, now_ns);
    /* A step that took about as long as a commit was a sync; writing a chunk of zeros takes less.
     */
    uint64_t end_ns = clock_monotonic_ns(loops->options.clock);
    if ((end_ns - now_ns) * 2 >= atomic_load_explicit(&loops->commit_ns, memory_order_relaxed))
        atomic_store_explicit(&loops->preparer_sync_ns, end_ns, memory_order_relaxed);
    return again_ns;
}
