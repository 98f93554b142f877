/* server/state/limits.h - bounds of the state machine, with their reasons. */
#ifndef SERVER_STATE_LIMITS_H
#define SERVER_STATE_LIMITS_H

#define TXN_OPS_MAX_DEFAULT 128U /* operations in one Txn; etcd's default of --max-txn-ops */
/* Txns within txns. Each level takes one operation of the budget above, so no allowed request comes
 * near it; it bounds the stack of every walk over a txn: 1024 frames are under 1 MiB. */
#define TXN_DEPTH_MAX 1024U
#define REQUEST_BYTES_MAX_DEFAULT (1536U << 10) /* of an encoded entry; etcd's default */
#define QUOTA_BYTES_DEFAULT (2ULL << 30)        /* etcd's default of --quota-backend-bytes */
#define MEMBERS_MAX 64U       /* rows of the member table; RAFT_MEMBERS_MAX is the same */
#define MEMBER_URLS_MAX 64U   /* of one kind, of one member */
#define MEMBER_TEXT_MAX 4096U /* bytes of a name or URL */
/* etcd 3.5's constant, and a rule of apply: a setting would let members disagree. */
#define LEARNERS_MAX 1U
#define LEASE_TTL_S_MIN_DEFAULT 2 /* for an election timeout of 1 s */
/* Alarms that may be active before another activation is refused; there is one for each member and
 * kind, but any id is taken as a member's. */
#define ALARMS_MAX 1024U
/* Scratch memory that the machine keeps between entries; larger pieces are given back. */
#define MACHINE_SCRATCH_KEPT_BYTES (256U << 10)
#endif
