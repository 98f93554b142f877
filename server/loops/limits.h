/* server/loops/limits.h - bounds of the actors' queues. */
#ifndef SERVER_LOOPS_LIMITS_H
#define SERVER_LOOPS_LIMITS_H

#define INBOX_CALLS_MAX 10000U /* proposals waiting to be proposed; beyond: "too many requests" */
#define INBOX_URGENT_MAX 1000U /* urgent ones that are let in beyond that */
#define INBOX_BYTES_MAX (32U << 20) /* of their payloads */
#define READS_WAITING_MAX 100000U   /* linearizable reads waiting for a round or for apply */
#define APPLY_GAP_MAX 5000U /* committed - applied; beyond: "too many requests", etcd's limit */
#define PROPOSE_BATCH_MAX \
    4096U /* proposals in one raft_propose(): bounds the step, not the group commit */
#define APPLY_STEP_ENTRIES_MAX 512U   /* entries between two looks at the clock and the inbox */
#define FORWARDED_BUCKETS_COUNT 4096U /* 32 KiB; a chain each of at most three in a full inbox */
#define MESSAGES_MAX 8192U /* of members, not stepped yet; beyond they are lost, and sent again */
#define MESSAGES_BYTES_MAX (64U << 20)      /* of the entries in them */
#define FETCH_ENTRIES_MAX 1024U             /* read back from the log at a time, for one member */
#define V2_STORE_BYTES_MAX (16U << 20)      /* the member list beside a snapshot, as JSON */
#define SETTLE_RETRY_NS (10 * NS_PER_MS)    /* a pin waits for a commit with deletions to end */
#define DEFRAGMENT_GAIN_BYTES (64ULL << 10) /* less is not worth a copy, */
#define DEFRAGMENT_GAIN_SHARE 16U           /* nor is less than this part of the file */
#define DEFRAGMENT_ROOM_BYTES (64ULL << 20) /* that must stay free beside the copy */
#define DEFRAGMENT_WAIT_NS (3 * NS_PER_S)   /* for deletions that make no progress */
#define DEFRAGMENT_LOOK_NS (10 * NS_PER_MS) /* how often they are looked at */
#define EXPORT_NS (120 * NS_PER_S)          /* an export holds up deletions at least so long */
#define EXPORT_BYTES_PER_S_MIN (1ULL << 20) /* what its reader must manage; a slow link does */
#define EXPORT_BYTES_PER_S_MAX                                                               \
    (64ULL << 20) /* each: half of a gigabit link, as for members; the disk and a core do it \
                     beside their work */
#define EXPORT_REST_NS_MAX (5 * NS_PER_MS)   /* between two steps of counting */
#define EXPORT_SPARE_NS (20 * NS_PER_MS)     /* of that speed, which may be made up for */
#define READ_RETRY_NS (500 * NS_PER_MS)      /* a follower asks its leader again; etcd's interval */
#define STALL_PATIENCE_NS (1500 * NS_PER_MS) /* of calls through a follower whose disk hangs */
#define READERS_MAX 16U                      /* reader threads */
#define ANSWERS_NOW_MAX \
    4U /* answers that apply sends itself; each is about 7 us, a wake-up 5 to 50 */
#define LEASE_LOOK_NS (500 * NS_PER_MS) /* how often a leader looks for leases that have ended */
#define LEASE_REVOCATIONS_MAX 500U      /* proposed at a time */
#define LEASE_REVOCATION_KEYS_MAX \
    10000U /* of those behind the first: what is applied in one go holds up the puts behind it */
#define LEASE_CHECKPOINTS_MAX 1000U /* in one entry */
#define LEASE_CHECKPOINT_BYTES_MAX (256U << 10)
#define SEAL_CHECK_NS \
    (100 * NS_PER_MS) /* how often an idle applier asks whether its generation is old enough */
#endif
