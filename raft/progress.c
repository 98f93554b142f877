#include "raft/progress.h"

#include "base/assert.h"
#include "base/minmax.h"

bool inflights_is_full(const struct inflights *inflights, const struct flow_limits *limits)
{
    return inflights->count >= limits->messages_max ||
           (limits->bytes_max != 0 && inflights->bytes >= limits->bytes_max);
}

static void inflights_clear(struct inflights *inflights)
{
    inflights->start = inflights->count = 0;
    inflights->bytes = 0;
}

static void inflights_add(struct inflights *inflights, struct inflight one)
{
    ASSERT(inflights->count < inflights->capacity);
    inflights->ring[(inflights->start + inflights->count) % inflights->capacity] = one;
    inflights->count++;
    inflights->bytes += one.bytes;
}

void progress_reset(struct progress *progress, raft_index match, raft_index next)
{
    ASSERT(match < next);
    struct inflights inflights = progress->inflights;
    inflights_clear(&inflights);
    *progress = (struct progress){
        .id = progress->id,
        .is_learner = progress->is_learner,
        .match = match,
        .next = next,
        .inflights = inflights,
    };
}

static void reset_state(struct progress *progress, enum progress_state state)
{
    progress->state = state;
    progress->flow_paused = false;
    progress->pending_snapshot = 0;
    progress->fetch = FETCH_NONE;
    inflights_clear(&progress->inflights);
}

void progress_become_probe(struct progress *progress)
{
    raft_index next = progress->match + 1;
    /* The snapshot may have arrived although its acknowledgement did not. */
    if (progress->state == PROGRESS_SNAPSHOT)
        next = max_u64(next, progress->pending_snapshot + 1);
    reset_state(progress, PROGRESS_PROBE);
    progress->next = next;
    progress->sent_commit = min_u64(progress->sent_commit, progress->next - 1);
}

void progress_become_replicate(struct progress *progress)
{
    reset_state(progress, PROGRESS_REPLICATE);
    progress->next = progress->match + 1;
}

void progress_become_snapshot(struct progress *progress, raft_index index)
{
    reset_state(progress, PROGRESS_SNAPSHOT);
    progress->pending_snapshot = index;
    progress->next = index + 1;
    progress->sent_commit = index;
}

bool progress_is_paused(const struct progress *progress)
{
    return progress->state == PROGRESS_SNAPSHOT || progress->flow_paused ||
           progress->fetch != FETCH_NONE;
}

enum status progress_reserve(struct progress *progress, const struct raft_memory *memory)
{
    struct inflights *in = &progress->inflights;
    if (in->count < in->capacity)
        return ST_OK;
    uint32_t capacity = in->capacity == 0 ? 8 : in->capacity * 2;
    struct inflight *ring = raft_memory_resize(memory, NULL, capacity * sizeof(*ring));
    if (ring == NULL)
        return ST_NO_MEMORY;
    for (uint32_t i = 0; i < in->count; i++)
        ring[i] = in->ring[(in->start + i) % in->capacity];
    raft_memory_free(memory, in->ring);
    in->ring = ring;
    in->start = 0;
    in->capacity = capacity;
    return ST_OK;
}

void progress_sent_entries(struct progress *progress, uint32_t count, uint64_t bytes,
                           const struct flow_limits *limits)
{
    ASSERT(progress->state != PROGRESS_SNAPSHOT);
    if (progress->state == PROGRESS_PROBE) {
        if (count > 0)
            progress->flow_paused = true;
        return;
    }
    if (count > 0) {
        progress->next += count;
        inflights_add(&progress->inflights,
                      (struct inflight){.last = progress->next - 1, .bytes = bytes});
    }
    progress->flow_paused = inflights_is_full(&progress->inflights, limits);
}

bool progress_maybe_update(struct progress *progress, raft_index index)
{
    if (index <= progress->match)
        return false;
    progress->match = index;
    if (progress->next <= index) {
        progress->next = index + 1;
        progress->fetch = FETCH_NONE; /* what was asked for is no longer what it lacks */
    }
    progress->flow_paused = false;
    return true;
}

bool progress_maybe_decrease(struct progress *progress, raft_index rejected, raft_index hint)
{
    if (progress->state == PROGRESS_REPLICATE) {
        if (rejected <= progress->match)
            return false;
        progress->next = progress->match + 1;
    } else {
        if (progress->next - 1 != rejected)
            return false;
        /* Never below match + 1, whatever a late or foreign answer says. */
        raft_index wanted = hint == UINT64_MAX ? rejected : min_u64(rejected, hint + 1);
        progress->next = max_u64(wanted, progress->match + 1);
        progress->flow_paused = false;
    }
    progress->fetch = FETCH_NONE;
    progress->sent_commit = min_u64(progress->sent_commit, progress->next - 1);
    return true;
}

void progress_free_inflights(struct progress *progress, raft_index acknowledged)
{
    struct inflights *in = &progress->inflights;
    while (in->count > 0 && in->ring[in->start].last <= acknowledged) {
        in->bytes -= in->ring[in->start].bytes;
        in->start = (in->start + 1) % in->capacity;
        in->count--;
    }
}

bool progress_can_bump_commit(const struct progress *progress, raft_index commit)
{
    return commit > progress->sent_commit && progress->sent_commit < progress->next - 1;
}

void progress_deinit(struct progress *progress, const struct raft_memory *memory)
{
    raft_memory_free(memory, progress->inflights.ring);
    progress->inflights = (struct inflights){0};
}

void progress_check(const struct progress *progress)
{
    ASSERT(progress->id != 0);
    ASSERT(progress->match < progress->next);
    const struct inflights *in = &progress->inflights;
    uint64_t bytes = 0;
    raft_index last = 0;
    for (uint32_t i = 0; i < in->count; i++) {
        const struct inflight *one = &in->ring[(in->start + i) % in->capacity];
        ASSERT(one->last > last);
        last = one->last;
        bytes += one->bytes;
    }
    ASSERT(bytes == in->bytes);
    ASSERT(in->count == 0 || last < progress->next);
}
