/* server/state/error.h - every error a client can get: etcd's exact texts, by which client
 * libraries recognise them, and their gRPC codes. This list and api_error_of() are the one place
 * where a status becomes something a client sees. */
#ifndef SERVER_STATE_ERROR_H
#define SERVER_STATE_ERROR_H
#include "base/status.h"

#include <stdint.h>

/* X(code, number of the gRPC code, text). "Unknown" (2) where etcd 3.5 puts it on the wire. */
#define API_ERROR_MAP(X)                                                                           \
    X(API_OK, 0, "")                                                                               \
    /* keys and values */                                                                          \
    X(API_KEY_EMPTY, 3, "etcdserver: key is not provided")                                         \
    X(API_KEY_NOT_FOUND, 3, "etcdserver: key not found")                                           \
    X(API_VALUE_PROVIDED, 3, "etcdserver: value is provided")                                      \
    X(API_LEASE_PROVIDED, 3, "etcdserver: lease is provided")                                      \
    X(API_TOO_MANY_OPS, 3, "etcdserver: too many operations in txn request")                       \
    X(API_DUPLICATE_KEY, 3, "etcdserver: duplicate key given in txn request")                      \
    X(API_INVALID_SORT_OPTION, 3, "etcdserver: invalid sort option")                               \
    X(API_COMPACTED, 11, "etcdserver: mvcc: required revision has been compacted")                 \
    X(API_FUTURE_REVISION, 11, "etcdserver: mvcc: required revision is a future revision")         \
    X(API_NO_SPACE, 8, "etcdserver: mvcc: database space exceeded")                                \
    /* leases and watches */                                                                       \
    X(API_LEASE_NOT_FOUND, 5, "etcdserver: requested lease not found")                             \
    X(API_LEASE_EXISTS, 9, "etcdserver: lease already exists")                                     \
    X(API_LEASE_TTL_TOO_LARGE, 11, "etcdserver: too large lease TTL")                              \
    X(API_NOT_PRIMARY_LESSOR, 2, "not a primary lessor")                                           \
    X(API_WATCH_CANCELED, 1, "etcdserver: watch canceled")                                         \
    /* members */                                                                                  \
    X(API_MEMBER_EXISTS, 9, "etcdserver: member ID already exist")                                 \
    X(API_PEER_URL_EXISTS, 9, "etcdserver: Peer URLs already exists")                              \
    X(API_NOT_ENOUGH_STARTED, 2,                                                                   \
      "etcdserver: re-configuration failed due to not enough started members")                     \
    X(API_BAD_MEMBER_URLS, 3, "etcdserver: given member URLs are invalid")                         \
    X(API_MEMBER_NOT_FOUND, 5, "etcdserver: member not found")                                     \
    X(API_MEMBER_NOT_LEARNER, 9, "etcdserver: can only promote a learner member")                  \
    X(API_LEARNER_NOT_READY, 9,                                                                    \
      "etcdserver: can only promote a learner member which is in sync with leader")                \
    X(API_TOO_MANY_LEARNERS, 9, "etcdserver: too many learner members in cluster")                 \
    X(API_CLUSTER_ID_MISMATCH, 9, "etcdserver: cluster ID mismatch")                               \
    /* limits */                                                                                   \
    X(API_REQUEST_TOO_LARGE, 3, "etcdserver: request is too large")                                \
    X(API_TOO_MANY_REQUESTS, 2, "etcdserver: too many requests")                                   \
    /* users and roles */                                                                          \
    X(API_ROOT_USER_NOT_EXIST, 9, "etcdserver: root user does not exist")                          \
    X(API_ROOT_ROLE_NOT_EXIST, 9, "etcdserver: root user does not have root role")                 \
    X(API_USER_EXISTS, 9, "etcdserver: user name already exists")                                  \
    X(API_USER_EMPTY, 3, "etcdserver: user name is empty")                                         \
    X(API_USER_NOT_FOUND, 9, "etcdserver: user name not found")                                    \
    X(API_ROLE_EXISTS, 9, "etcdserver: role name already exists")                                  \
    X(API_ROLE_NOT_FOUND, 9, "etcdserver: role name not found")                                    \
    X(API_ROLE_EMPTY, 3, "etcdserver: role name is empty")                                         \
    X(API_AUTH_FAILED, 3, "etcdserver: authentication failed, invalid user ID or password")        \
    X(API_PERMISSION_NOT_GIVEN, 3, "etcdserver: permission not given")                             \
    X(API_PERMISSION_DENIED, 7, "etcdserver: permission denied")                                   \
    X(API_ROLE_NOT_GRANTED, 9, "etcdserver: role is not granted to the user")                      \
    X(API_PERMISSION_NOT_GRANTED, 9, "etcdserver: permission is not granted to the role")          \
    X(API_AUTH_NOT_ENABLED, 9, "etcdserver: authentication is not enabled")                        \
    X(API_INVALID_AUTH_TOKEN, 16, "etcdserver: invalid auth token")                                \
    X(API_INVALID_AUTH_MANAGEMENT, 3, "etcdserver: invalid auth management")                       \
    X(API_AUTH_OLD_REVISION, 3, "etcdserver: revision of auth store is old")                       \
    X(API_NO_PASSWORD_USER, 2,                                                                     \
      "auth: authentication failed, password was given for no password user")                      \
    X(API_PASSWORD_TOO_LONG, 2, "bcrypt: password length exceeds 72 bytes")                        \
    X(API_VERIFY_ONLY, 2, "auth: token signing attempted with verify-only key")                    \
    /* Defragment, Snapshot, Hash and HashKV do not map their auth errors. */                      \
    X(API_RAW_USER_EMPTY, 2, "auth: user name is empty")                                           \
    X(API_RAW_USER_NOT_FOUND, 2, "auth: user not found")                                           \
    X(API_RAW_PERMISSION_DENIED, 2, "auth: permission denied")                                     \
    X(API_RAW_INVALID_AUTH_TOKEN, 2, "auth: invalid auth token")                                   \
    /* the cluster */                                                                              \
    X(API_NO_LEADER, 14, "etcdserver: no leader")                                                  \
    X(API_NOT_LEADER, 9, "etcdserver: not leader")                                                 \
    X(API_LEADER_CHANGED, 14, "etcdserver: leader changed")                                        \
    X(API_NOT_CAPABLE, 14, "etcdserver: not capable")                                              \
    X(API_STOPPED, 14, "etcdserver: server stopped")                                               \
    X(API_TIMEOUT, 14, "etcdserver: request timed out")                                            \
    X(API_TIMEOUT_LEADER_FAILURE, 14,                                                              \
      "etcdserver: request timed out, possibly due to previous leader failure")                    \
    X(API_TIMEOUT_CONNECTION_LOST, 14,                                                             \
      "etcdserver: request timed out, possibly due to connection lost")                            \
    X(API_TIMEOUT_APPLIED_INDEX, 14,                                                               \
      "etcdserver: request timed out, waiting for the applied index took too long")                \
    X(API_TIMEOUT_LEADER_TRANSFER, 2,                                                              \
      "etcdserver: request timed out, leader transfer took too long")                              \
    X(API_UNHEALTHY, 14, "etcdserver: unhealthy cluster")                                          \
    X(API_CORRUPT_CLUSTER, 15, "etcdserver: corrupt cluster")                                      \
    X(API_LEARNER_NOT_SUPPORTED, 14, "etcdserver: rpc not supported for learner")                  \
    X(API_BAD_LEADER_TRANSFEREE, 9, "etcdserver: bad leader transferee")                           \
    X(API_CLUSTER_VERSION_NOT_FOUND, 14, "etcdserver: cluster version not found during downgrade") \
    X(API_BAD_DOWNGRADE_FORMAT, 3, "etcdserver: wrong downgrade target version format")            \
    X(API_BAD_DOWNGRADE_TARGET, 3, "etcdserver: invalid downgrade target version")                 \
    X(API_DOWNGRADE_IN_PROGRESS, 9, "etcdserver: cluster has a downgrade job in progress")         \
    X(API_NO_DOWNGRADE, 9, "etcdserver: no inflight downgrade job")                                \
    X(API_UNKNOWN_METHOD, 2, "etcdserver: unknown method")                                         \
    /* the call's own end */                                                                       \
    X(API_CANCELED, 1, "context canceled")                                                         \
    X(API_REQUEST_CANCELED, 1, "etcdserver: request canceled")                                     \
    X(API_REQUEST_CANCELLED, 2, "etcdserver: request cancelled")                                   \
    X(API_DEADLINE_EXCEEDED, 4, "context deadline exceeded")                                       \
    /* locks and elections */                                                                      \
    X(API_LEADER_KEY_MISSING, 2, "\"leader\" field must be provided")                              \
    X(API_ELECTION_NOT_LEADER, 2, "election: not leader")                                          \
    X(API_ELECTION_NO_LEADER, 2, "election: no leader")                                            \
    X(API_SESSION_EXPIRED, 2, "mutex: session is expired")                                         \
    /* ours: etcd has no words for these */                                                        \
    X(API_UNDECODABLE, 13, "etcdserver: the request is not a valid message of its type")           \
    X(API_RESPONSE_TOO_LARGE, 8,                                                                   \
      "etcdserver: the answer is too large to be sent; ask for less at a time (limit, keys_only)") \
    X(API_DISK_FULL, 8, "etcdserver: no space left on this member's disk, writes are refused")     \
    X(API_PASSWORD_UNUSABLE, 3, "etcdserver: a password cannot have a NUL byte in it")             \
    X(API_NO_ROOM_FOR_COPY, 8,                                                                     \
      "etcdserver: defragmentation copies what the store holds, and this member's disk has no "    \
      "room for that")                                                                             \
    X(API_SNAPSHOT_TOO_SLOW, 10,                                                                   \
      "etcdserver: the snapshot was given up: it was read too slowly, and this member can delete " \
      "nothing from its store meanwhile")                                                          \
    X(API_NO_MEMORY, 8, "etcdserver: this member is out of memory")                                \
    X(API_IO, 13, "etcdserver: this member cannot read its store")                                 \
    X(API_STORE_CORRUPT, 15, "etcdserver: stored data of this member is corrupt")

#define API_ERROR_ENUM(code, number, text) code,
enum api_error { API_ERROR_MAP(API_ERROR_ENUM) API_ERRORS_COUNT };
#undef API_ERROR_ENUM

/* Static strings, never freed. The number is gRPC's (enum rpc_code has the same). */
const char *api_error_text(enum api_error error);
uint32_t api_error_code(enum api_error error);
/* What a status of the store or of an arena means to the client whose request met it. */
enum api_error api_error_of(enum status st);
#endif
