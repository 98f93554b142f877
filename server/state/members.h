/* server/state/members.h - who belongs to the cluster: ids by etcd's recipe, the member table, and
 * the JSON in which etcd keeps a member in its db and in configuration changes. */
#ifndef SERVER_STATE_MEMBERS_H
#define SERVER_STATE_MEMBERS_H
#include "base/slice.h"
#include "base/status.h"
#include "raft/types.h"
#include "server/state/limits.h"

#include <stdbool.h>
#include <stdint.h>

struct buf;
struct arena;

/* One member. Text is borrowed from whatever the member stands in; not NUL-terminated. */
struct member_row {
    raft_id id;
    struct slice name; /* empty: not started yet */
    const struct slice *peer_urls, *client_urls;
    uint32_t peer_urls_count, client_urls_count;
    bool is_learner;
    bool is_promote; /* only in the context of a configuration change */
};

/* ---- ids ---- */

/* Id of a bootstrap member: SHA-1 over its peer URLs, sorted and joined, and the cluster token; the
 * first 8 bytes, big-endian. Errors: ST_INVALID (no URL, too many), ST_NO_MEMORY, ST_UNSUPPORTED
 * (no SHA-1 in this system's policy). */
CHECKED enum status member_id_compute(const struct slice *peer_urls, uint32_t count,
                                      struct slice cluster_token, raft_id *out);
/* Id of a cluster: SHA-1 over its first members' ids, ascending, 8 bytes big-endian each. */
CHECKED enum status cluster_id_compute(const raft_id *member_ids, uint32_t count, uint64_t *out);

/* ---- JSON ---- */

/* {"id":N,"peerURLs":[..],"isLearner":true?,"name":".."?,"clientURLs":[..]?} as Go writes it.
 * Appends. Errors: ST_TOO_BIG, ST_NO_MEMORY. */
CHECKED enum status member_json_encode(const struct member_row *row, struct buf *out);
/* {"name":"..","clientURLs":[..]} */
CHECKED enum status member_attributes_encode(const struct member_row *row, struct buf *out);
/* {"peerURLs":[..],"isLearner":true?} */
CHECKED enum status member_raft_attributes_encode(const struct member_row *row, struct buf *out);
/* Reads both shapes; unknown keys are passed over. Arrays and texts are in arena. Errors:
 * ST_INVALID (not such JSON), ST_TOO_BIG (limits.h, the arena), ST_NO_MEMORY. */
CHECKED enum status member_json_decode(struct slice json, struct arena *arena,
                                       struct member_row *out);

/* ---- the table: immutable, counted, sorted by id ---- */

struct members;

uint32_t members_count(const struct members *members);
const struct member_row *members_at(const struct members *members, uint32_t index); /* borrowed */
const struct member_row *members_find(const struct members *members, raft_id id);   /* or NULL */
/* Members, not counting exempt, of which url is a peer URL; NULL: none. */
const struct member_row *members_find_peer_url(const struct members *members, struct slice url,
                                               raft_id exempt);
/* The whole table as GET /members gives it: [{member},...], ascending by id. Appends. Errors:
 * ST_TOO_BIG, ST_NO_MEMORY. */
CHECKED enum status members_json_encode(const struct members *members, struct buf *out);
/* Reads it; *out is counted, NULL when there is none in it. arena is used meanwhile. Errors:
 * ST_INVALID, ST_TOO_BIG, ST_NO_MEMORY. */
CHECKED enum status members_json_decode(struct slice json, struct arena *arena,
                                        struct members **out);
/* A new table with row added, or in place of the one with its id. from may be NULL (empty). Errors:
 * ST_TOO_BIG (MEMBERS_MAX), ST_NO_MEMORY. */
CHECKED enum status members_with(const struct members *from, const struct member_row *row,
                                 struct members **out);
/* The same without the member of this id. Errors: ST_NO_MEMORY. */
CHECKED enum status members_without(const struct members *from, raft_id id, struct members **out);
struct members *members_ref(struct members *members);
void members_unref(struct members *members); /* NULL is fine */
#endif
