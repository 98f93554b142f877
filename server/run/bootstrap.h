/* server/run/bootstrap.h - the first start of a member: whether it founds a cluster or joins one,
 * its id and the cluster's, and who the others are. Asks them over their peer ports and waits for
 * them. */
#ifndef SERVER_RUN_BOOTSTRAP_H
#define SERVER_RUN_BOOTSTRAP_H
#include "base/status.h"
#include "raft/types.h"
#include "server/state/members.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bootstrap_options {
    const char *name;
    const char *initial_cluster;
    const char *token;
    bool is_existing;             /* --initial-cluster-state=existing */
    const char *const *peer_urls; /* advertised, sorted */
    uint32_t peer_urls_count;
};

struct bootstrap {
    raft_id member_id;
    uint64_t cluster_id;
    /* Founding: the log's first entries, owned. */
    struct raft_payload *changes[MEMBERS_MAX];
    uint32_t changes_count;
    struct members *existing; /* joining: who is there, this member too; counted. Else NULL */
};

/* why (at least 1024 bytes) gets etcd's sentence on an error. Errors: ST_INVALID (it cannot be as
 * the flags say), ST_UNSUPPORTED, ST_NO_MEMORY; out is then empty. */
CHECKED enum status bootstrap_begin(const struct bootstrap_options *options, struct bootstrap *out,
                                    char *why, size_t why_bytes);
void bootstrap_end(struct bootstrap *bootstrap); /* zeroed is fine */
#endif
