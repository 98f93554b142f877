#include "server/loops/waves.h"

#include "base/clock.h"
#include "base/minmax.h"

#include <string.h>

#define WAVE_COMMIT_NS_MIN NS_PER_MS /* below it a wait costs more than a sync */
#define WAVE_WAIT_NS_MAX \
    (10 * NS_PER_MS) /* clients that need longer to come back are not waited for */

void waves_init(struct waves *waves, bool enabled)
{
    *waves = (struct waves){.enabled = enabled};
}

void waves_arrived(struct waves *waves, uint64_t count)
{
    waves->arrived += count;
}

/* On a fast disk, or a link slower than it, every call goes at once and the log groups what queues
 * behind a write. */
static bool is_holding(const struct waves *waves, uint64_t local_sync_ns)
{
    return waves->enabled && waves->commit_ns >= WAVE_COMMIT_NS_MIN &&
           local_sync_ns * 2 >= waves->commit_ns;
}

bool waves_may_release(const struct waves *waves, uint64_t now_ns, uint64_t local_sync_ns,
                       uint64_t *again_ns)
{
    *again_ns = UINT64_MAX;
    if (!is_holding(waves, local_sync_ns))
        return true;
    if (waves->wave_index != 0)
        return false;
    if (waves->arrived >= waves->wanted || now_ns >= waves->wait_until_ns)
        return true;
    *again_ns = waves->wait_until_ns;
    return false;
}

void waves_released(struct waves *waves, uint64_t now_ns, uint64_t count, uint64_t last_index)
{
    if (waves->sample_index == 0) {
        waves->sample_index = last_index;
        waves->sample_start_ns = now_ns;
    }
    if (waves->wave_index == 0)
        waves->wave_count = 0;
    waves->wave_index = last_index;
    waves->wave_count += count;
    waves->wanted = 0;
}

static uint64_t median(const uint64_t *samples, uint32_t count)
{
    uint64_t sorted[WAVE_SAMPLES];
    memcpy(sorted, samples, count * sizeof(*samples));
    for (uint32_t i = 1; i < count; i++) {
        uint64_t value = sorted[i];
        uint32_t at = i;
        for (; at > 0 && sorted[at - 1] > value; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = value;
    }
    return sorted[count / 2];
}

static void take_sample(struct waves *waves, uint64_t took_ns)
{
    waves->samples_ns[waves->sample_next] = took_ns;
    waves->sample_next = (waves->sample_next + 1) % WAVE_SAMPLES;
    waves->samples_count = min_u32(waves->samples_count + 1, WAVE_SAMPLES);
    waves->commit_ns = median(waves->samples_ns, waves->samples_count);
    waves->sample_index = 0;
}

void waves_committed(struct waves *waves, uint64_t now_ns, uint64_t commit_index, uint64_t queued)
{
    if (waves->sample_index != 0 && commit_index >= waves->sample_index)
        take_sample(waves, now_ns - waves->sample_start_ns);
    if (waves->wave_index == 0 || commit_index < waves->wave_index)
        return;
    waves->wave_index = 0;
    waves->arrived = 0;
    /* Counting arrivals since the answer, not what is queued: two half-size cohorts would lock each
     * other for good. */
    waves->wanted = waves->wave_count + queued >= 2 ? waves->wave_count : 0;
    waves->wait_until_ns = now_ns + min_u64(waves->commit_ns / 2, WAVE_WAIT_NS_MAX);
}

void waves_reset(struct waves *waves)
{
    waves->sample_index = 0;
    waves->wave_index = 0;
    waves->wanted = 0;
}
