/* server/loops/waves.h - when the leader releases what its inbox holds. Without any wait
 * closed-loop clients fall into two cohorts that take turns, and a round costs two syncs instead of
 * one (docs/architecture.md, "waves"). So on a slow disk one wave is in flight at a time, and after
 * a wave is committed the next one waits for as many calls as were just answered: those clients are
 * about to come back. Pure: time is handed in. */
#ifndef SERVER_LOOPS_WAVES_H
#define SERVER_LOOPS_WAVES_H
#include <stdbool.h>
#include <stdint.h>

#define WAVE_SAMPLES 9 /* propose-to-commit times whose median is C */

struct waves {
    uint64_t samples_ns[WAVE_SAMPLES];
    uint32_t samples_count, sample_next;
    uint64_t commit_ns; /* C: the median of the samples */

    uint64_t sample_index; /* the release being timed ends at this log index; 0: none is */
    uint64_t sample_start_ns;

    uint64_t wave_index; /* log index at which everything released so far is committed; 0: it is */
    uint64_t wave_count; /* calls in it */

    uint64_t wanted;  /* calls to come since the last commit before the next release; 0: none */
    uint64_t arrived; /* of them, so far */
    uint64_t wait_until_ns;
    bool enabled; /* false: everything goes at once (measurements) */
};

void waves_init(struct waves *waves, bool enabled);

/* count more calls came into the queue. */
void waves_arrived(struct waves *waves, uint64_t count);
/* May the queue be released now? If not, *again_ns is when to ask at the latest (UINT64_MAX: at the
 * next commit). local_sync_ns: the median of our own disk; a commit that waits for the network more
 * than for the disk is not held. */
bool waves_may_release(const struct waves *waves, uint64_t now_ns, uint64_t local_sync_ns,
                       uint64_t *again_ns);
/* The queue's count calls were proposed; the last one is entry last_index. */
void waves_released(struct waves *waves, uint64_t now_ns, uint64_t count, uint64_t last_index);
/* The commit index is now commit_index; queued calls wait. */
void waves_committed(struct waves *waves, uint64_t now_ns, uint64_t commit_index, uint64_t queued);
/* Leadership was lost: nothing is in flight any more. */
void waves_reset(struct waves *waves);
#endif
