/* server/state/kv_request.h - the KV requests as they are after decoding, and the log entry they
 * travel in. Keys and values are borrowed from the message; arrays of a txn are in an arena. */
#ifndef SERVER_STATE_KV_REQUEST_H
#define SERVER_STATE_KV_REQUEST_H
#include "base/arena.h"
#include "base/slice.h"
#include "base/status.h"
#include "raft/types.h"

#include <stdbool.h>
#include <stdint.h>

enum sort_order { SORT_NONE = 0, SORT_ASCEND = 1, SORT_DESCEND = 2 };
enum sort_target {
    SORT_BY_KEY = 0,
    SORT_BY_VERSION = 1,
    SORT_BY_CREATE = 2,
    SORT_BY_MOD = 3,
    SORT_BY_VALUE = 4,
};

struct kv_range {
    struct slice key, range_end;
    int64_t limit, revision;
    int32_t sort_order, sort_target; /* any number may come */
    bool serializable, keys_only, count_only;
    int64_t min_mod_revision, max_mod_revision, min_create_revision, max_create_revision;
};

struct kv_put {
    struct slice key, value;
    int64_t lease;
    bool prev_kv, ignore_value, ignore_lease;
};

struct kv_delete {
    struct slice key, range_end;
    bool prev_kv;
};

struct kv_compact {
    int64_t revision;
    bool physical;
};

enum compare_result { COMPARE_EQUAL, COMPARE_GREATER, COMPARE_LESS, COMPARE_NOT_EQUAL };
enum compare_target { COMPARE_VERSION, COMPARE_CREATE, COMPARE_MOD, COMPARE_VALUE, COMPARE_LEASE };

struct kv_compare {
    int32_t result, target; /* any number may come */
    struct slice key, range_end;
    /* The oneof. given is the target it belongs to, which need not be the one above; -1: none. */
    int32_t given;
    int64_t number;
    struct slice value;
};

enum kv_op_kind { KV_OP_NONE, KV_OP_RANGE, KV_OP_PUT, KV_OP_DELETE, KV_OP_TXN };

struct kv_txn;

struct kv_op {
    enum kv_op_kind kind;
    union {
        struct kv_range *range;
        struct kv_put *put;
        struct kv_delete *del;
        struct kv_txn *txn;
    };
};

struct kv_ops {
    struct kv_op *items;
    uint32_t count;
};

struct kv_txn {
    struct kv_compare *compares;
    uint32_t compares_count;
    struct kv_ops success, failure;
    /* It has more operations than it may, or lies deeper than TXN_DEPTH_MAX: it is not decoded
     * further and must not be run. */
    bool over_limit;
    /* Of the outermost: somewhere within it one was over the limit, even if in the end that one did
     * not count. */
    bool passed_over;
    bool succeeded; /* set when the compares are evaluated */
};

/* All: the request is zeroed first. Errors: ST_INVALID (not such a message). */
CHECKED enum status kv_range_decode(struct slice message, struct kv_range *out);
CHECKED enum status kv_put_decode(struct slice message, struct kv_put *out);
CHECKED enum status kv_delete_decode(struct slice message, struct kv_delete *out);
CHECKED enum status kv_compact_decode(struct slice message, struct kv_compact *out);
/* ops_max: what max(compares, success, failure) may come to; a txn within a txn has what its
 * parent's operations leave of it. Also ST_TOO_BIG (the arena's cap). */
CHECKED enum status kv_txn_decode(struct slice message, uint32_t ops_max, struct arena *arena,
                                  struct kv_txn *out);

/* Only ranges in both branches: no entry is needed. */
bool kv_txn_is_read_only(const struct kv_txn *txn);
/* All of them serializable (also when there is none). */
bool kv_txn_is_serializable(const struct kv_txn *txn);

/* ---- the entry ---- */

/* Field numbers of InternalRaftRequest that this version knows. */
enum internal_field {
    INTERNAL_NONE = 0,
    INTERNAL_RANGE = 3,
    INTERNAL_PUT = 4,
    INTERNAL_DELETE_RANGE = 5,
    INTERNAL_TXN = 6,
    INTERNAL_COMPACTION = 7,
    INTERNAL_LEASE_GRANT = 8,
    INTERNAL_LEASE_REVOKE = 9,
    INTERNAL_ALARM = 10,
    INTERNAL_LEASE_CHECKPOINT = 11,
    INTERNAL_HEADER = 100,
    INTERNAL_AUTH_ENABLE = 1000,
    INTERNAL_AUTH_DISABLE = 1011,
    INTERNAL_AUTHENTICATE = 1012,
    INTERNAL_AUTH_STATUS = 1013,
    INTERNAL_AUTH_USER_ADD = 1100,
    INTERNAL_AUTH_USER_DELETE = 1101,
    INTERNAL_AUTH_USER_GET = 1102,
    INTERNAL_AUTH_USER_CHANGE_PASSWORD = 1103,
    INTERNAL_AUTH_USER_GRANT_ROLE = 1104,
    INTERNAL_AUTH_USER_REVOKE_ROLE = 1105,
    INTERNAL_AUTH_USER_LIST = 1106,
    INTERNAL_AUTH_ROLE_LIST = 1107,
    INTERNAL_AUTH_ROLE_ADD = 1200,
    INTERNAL_AUTH_ROLE_DELETE = 1201,
    INTERNAL_AUTH_ROLE_GET = 1202,
    INTERNAL_AUTH_ROLE_GRANT_PERMISSION = 1203,
    INTERNAL_AUTH_ROLE_REVOKE_PERMISSION = 1204,
    INTERNAL_CLUSTER_VERSION_SET = 1300,
    INTERNAL_MEMBER_ATTR_SET = 1301,
    INTERNAL_DOWNGRADE_INFO_SET = 1302,
};

/* On whose behalf a request is made, as every member judges it when it is applied. */
struct auth_caller {
    struct slice name; /* of the user */
    uint64_t revision; /* of users and roles, as the caller was recognised; 0: nobody */
};

struct internal_request {
    uint64_t id;               /* header.ID */
    struct auth_caller caller; /* header.username and auth_revision; borrowed from the entry */
    uint32_t field;            /* the request it holds, by its field number; INTERNAL_NONE: none */
    struct slice body;         /* borrowed from the entry */
    bool is_legacy;            /* a v2 Request: */
    struct slice method, path, value;
};

/* Errors: ST_INVALID (neither InternalRaftRequest nor Request, or more than one request). */
CHECKED enum status internal_request_decode(struct slice data, struct internal_request *out);
/* Size of the entry that internal_request_payload() makes. */
size_t internal_request_size(enum internal_field field, size_t body_bytes, uint64_t id);
/* Wraps an encoded request, byte for byte. Owned by whoever asked; NULL without memory. */
struct raft_payload *internal_request_payload(enum internal_field field, struct slice body,
                                              uint64_t id);
/* The same on somebody's behalf; NULL or a revision of 0: nobody's, as while auth is off. */
size_t internal_request_size_as(enum internal_field field, size_t body_bytes, uint64_t id,
                                const struct auth_caller *caller);
struct raft_payload *internal_request_payload_as(enum internal_field field, struct slice body,
                                                 uint64_t id, const struct auth_caller *caller);
#endif
