/* tests/server_state/harness.h - a state machine over a store in memory, to which a test applies
 * entries directly. */
#ifndef TESTS_SERVER_STATE_HARNESS_H
#define TESTS_SERVER_STATE_HARNESS_H
#include "base/arena.h"
#include "base/clock.h"
#include "proto/rpc.pb-c.h"
#include "server/state/kv_request.h"
#include "server/state/machine.h"
#include "storage/mvcc.h"
#include "storage/store.h"

#define HARNESS_CLUSTER_ID 0xc1U
#define HARNESS_MEMBER_ID 0x8e9e05c52164694dU
#define HARNESS_READERS 4U

struct harness {
    struct clock clock;
    struct lock *lock;
    struct store *store;
    struct mvcc *mvcc;
    struct machine *machine;
    struct arena arena; /* of requests and responses; reset by the test */
    uint64_t index, term, next_id;
};

void harness_init(struct harness *harness);
/* Commits what is applied, closes and opens again. */
void harness_reopen(struct harness *harness);
void harness_deinit(struct harness *harness);

/* Applies an entry with these bytes; the machine must not fail. */
struct machine_result harness_apply_data(struct harness *harness, struct slice data,
                                         struct arena *arena);
/* Wraps an encoded request and applies it; its id must come back. */
struct machine_result harness_apply(struct harness *harness, enum internal_field field,
                                    struct slice body);
/* The same on somebody's behalf. */
struct machine_result harness_apply_as(struct harness *harness, enum internal_field field,
                                       struct slice body, const struct auth_caller *caller);

/* Apply and decode; the response ends with harness->arena. error_out may be NULL: then API_OK is
 * asserted. On an error they give NULL. */
const Etcdserverpb__PutResponse *harness_put(struct harness *harness, const struct kv_put *put,
                                             enum api_error *error_out);
const Etcdserverpb__DeleteRangeResponse *
harness_delete(struct harness *harness, const struct kv_delete *del, enum api_error *error_out);
const Etcdserverpb__TxnResponse *harness_txn(struct harness *harness, const struct kv_txn *txn,
                                             enum api_error *error_out);
const Etcdserverpb__CompactionResponse *harness_compact(struct harness *harness, int64_t revision,
                                                        enum api_error *error_out);
/* By reader 0. */
const Etcdserverpb__RangeResponse *
harness_range(struct harness *harness, const struct kv_range *range, enum api_error *error_out);
const Etcdserverpb__TxnResponse *harness_read_txn(struct harness *harness, struct kv_txn *txn,
                                                  enum api_error *error_out);

/* Puts without options; gives the revision. */
int64_t harness_set(struct harness *harness, const char *key, const char *value);
int64_t harness_revision(struct harness *harness);
/* "value", or NULL when the key is not there. */
const char *harness_get(struct harness *harness, const char *key);

/* An allocator for protobuf-c that takes from the arena. */
ProtobufCAllocator harness_allocator(struct arena *arena);
#endif
