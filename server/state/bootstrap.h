/* server/state/bootstrap.h - who founds a cluster, and how a member that joins one learns who it
 * is: --initial-cluster read and checked in etcd's words. Pure: what must be fetched from other
 * members, or resolved, is the caller's. */
#ifndef SERVER_STATE_BOOTSTRAP_H
#define SERVER_STATE_BOOTSTRAP_H
#include "base/arena.h"
#include "base/slice.h"
#include "base/status.h"
#include "server/state/members.h"

#include <stdbool.h>
#include <stdint.h>

/* The members by the flags, ascending by id. */
struct initial_cluster {
    struct member_row rows[MEMBERS_MAX]; /* id, name, peer URLs; everything in the arena */
    uint32_t count;
    uint64_t cluster_id; /* of a cluster founded by them */
};

/* Whether two lists of URLs lead to the same places though their texts differ (host names
 * resolved); both are sorted and of one length. equal NULL: only equal texts do. why, of
 * BOOTSTRAP_WHY_BYTES, gets the reason why not. */
#define BOOTSTRAP_WHY_BYTES 1024U
struct url_resolver {
    bool (*equal)(void *context, const struct slice *a, const struct slice *b, uint32_t count,
                  char *why, size_t why_bytes);
    void *context;
};

/* Reads "a=http://h:2380,a=http://h2:2380,b=..."; ids by etcd's recipe with the token. Errors:
 * ST_INVALID (*why_out, in arena or constant, is etcd's sentence), ST_TOO_BIG (likewise; limits.h,
 * the arena), ST_NO_MEMORY, ST_UNSUPPORTED (no SHA-1). */
CHECKED enum status initial_cluster_parse(struct slice text, struct slice token,
                                          struct arena *arena, struct initial_cluster *out,
                                          const char **why_out);
const struct member_row *initial_cluster_find(const struct initial_cluster *cluster,
                                              struct slice name); /* or NULL */

/* Whether a member of this name may found (is_new) or join a cluster as described. advertised are
 * its --initial-advertise-peer-urls, sorted. NULL, or etcd's sentence. */
const char *initial_cluster_check(const struct initial_cluster *cluster, struct slice name,
                                  const struct slice *advertised, uint32_t advertised_count,
                                  bool is_new, const struct url_resolver *resolver,
                                  struct arena *arena);

/* The peer URLs of all members but the one of this name, sorted: whom to ask, in etcd's order. In
 * arena. Errors: ST_TOO_BIG. */
CHECKED enum status initial_cluster_remote_urls(const struct initial_cluster *cluster,
                                                struct slice name, struct arena *arena,
                                                const struct slice **out, uint32_t *count_out);

/* Founding: the payloads of the first entries, one ConfChange a member, in the order of their ids,
 * the same bytes on every member. Owned by the caller. Errors: ST_NO_MEMORY (none is given). */
CHECKED enum status initial_cluster_changes(const struct initial_cluster *cluster,
                                            struct raft_payload *out[MEMBERS_MAX]);
/* Founding: the sentence with which a member refuses that others know as one that has run before
 * (existing: their GET /members), or NULL. */
const char *initial_cluster_already_ran(const struct initial_cluster *cluster, struct slice name,
                                        const struct members *existing, struct arena *arena);

/* Joining: gives every member of cluster the id it has among the members of the running cluster,
 * found by its peer URLs (etcd's ValidateClusterAndAssignIDs), and cluster->cluster_id theirs.
 * NULL, or etcd's sentence; cluster is then unchanged. */
const char *initial_cluster_assign_ids(struct initial_cluster *cluster,
                                       const struct members *existing, uint64_t cluster_id,
                                       const struct url_resolver *resolver, struct arena *arena);
#endif
