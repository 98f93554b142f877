/* server/state/machine_private.h - the state machine's inside, shared by machine*.c. */
#ifndef SERVER_STATE_MACHINE_PRIVATE_H
#define SERVER_STATE_MACHINE_PRIVATE_H
#include "base/buf.h"
#include "base/lock.h"
#include "base/wire.h"
#include "server/state/kv_request.h"
#include "server/state/machine.h"
#include "storage/mvcc.h"
#include "storage/store.h"

#include <stdatomic.h>

#define MACHINE_PROBLEM_BYTES 256U

struct machine {
    struct store *store;
    struct mvcc *mvcc;
    uint64_t cluster_id;
    raft_id member_id;
    struct raft_log_id applied;
    struct arena scratch; /* of one entry; its cap is none that an entry could reach */
    char problem[MACHINE_PROBLEM_BYTES];
    struct lock *lessor_lock; /* held for every change of the lessor, and by other threads */
    struct lessor *lessor;    /* to look at it apply needs no lock: nobody else adds or removes */
    int64_t lease_ttl_s_min;
    bool persist_checkpoints;
    enum status attach_status; /* why a key could not be attached to its lease; else ST_OK */
    struct auth_token_sink tokens;
    struct lock *lock; /* guards what is below, which readers of any thread look at */
    struct members *members;
    struct {
        raft_id *ids; /* ascending */
        uint32_t count, capacity;
    } removed;
    struct {
        struct alarm *items; /* by type, then member */
        uint32_t count, capacity;
    } alarms;
    char version[VERSION_TEXT_BYTES];
    bool downgrade_enabled;
    bool is_replaying; /* machine_replay_members(): what is changed belongs to no entry to come */
    struct auth_view *auth; /* apply reads it without the lock */
    /* Of that view, or of the one before it; read without the lock. */
    atomic_bool auth_enabled;
    _Atomic uint64_t auth_revision;
};

/* One entry on its way through the machine. */
struct application {
    struct machine *machine;
    const struct raft_entry *entry;
    const struct auth_caller *caller;
    struct machine_result *result;
    struct wire_out *out; /* the response; failed from the start when nobody waits for it */
};

/* Records why the member must stop and gives st back. */
enum status machine_fail(struct machine *machine, enum status st, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

CHECKED enum status machine_end_entry(struct machine *machine, const struct raft_entry *entry,
                                      struct slice conf_state);
void machine_reset_scratch(struct machine *machine);
/* Heads the response that was written to application->out. */
void application_finish(struct application *application, int64_t revision);

/* ---- machine_kv.c: each fills result->error and, on API_OK, the response. Fatal statuses only. */
CHECKED enum status apply_put(struct application *application, struct slice body);
CHECKED enum status apply_delete(struct application *application, struct slice body);
CHECKED enum status apply_txn(struct application *application, struct slice body);
CHECKED enum status apply_compaction(struct application *application, struct slice body);

/* ---- machine_members.c ---- */
/* Reads the table and the cluster version at start. */
CHECKED enum status machine_load_members(struct machine *machine);
/* Adds or replaces a member, in the store and in memory. */
CHECKED enum status machine_put_member(struct machine *machine, const struct member_row *row);
/* Takes a member out of the table, for good: its id cannot come back. */
CHECKED enum status machine_remove_member(struct machine *machine, raft_id id);
CHECKED enum status apply_legacy(struct application *application,
                                 const struct internal_request *request);
CHECKED enum status apply_cluster_version(struct application *application, struct slice body);
CHECKED enum status apply_member_attributes(struct application *application, struct slice body);
CHECKED enum status apply_downgrade_info(struct application *application, struct slice body);
/* Of an entry, only what it says of a member's name and client URLs. */
CHECKED enum status apply_attributes_alone(struct application *application);

/* ---- machine_leases.c ---- */
/* Reads the leases, and from the keys which belong to them; the key space has no open transaction.
 */
CHECKED enum status machine_load_leases(struct machine *machine);
/* The other one takes the place of the machine's, whose time stops if it ran. */
void machine_swap_lessor(struct machine *machine, struct lessor **other);
/* From now on transactions attach and detach keys. */
void machine_watch_leases(struct machine *machine);
CHECKED enum status apply_lease_grant(struct application *application, struct slice body);
CHECKED enum status apply_lease_revoke(struct application *application, struct slice body);
CHECKED enum status apply_lease_checkpoint(struct application *application, struct slice body);

/* ---- machine_alarms.c ---- */
CHECKED enum status machine_load_alarms(struct machine *machine);
CHECKED enum status apply_alarm(struct application *application, struct slice body);
/* What an alarm makes of a request by its kind alone; apply_txn() looks at the puts of a txn. */
enum api_error machine_alarm_refuses(struct machine *machine, uint32_t internal_field);

/* ---- machine_auth.c ---- */
CHECKED enum status machine_load_auth(struct machine *machine);
void machine_forget_tokens(struct machine *machine);
bool machine_is_auth_request(uint32_t internal_field);
CHECKED enum status apply_auth(struct application *application, uint32_t internal_field,
                               struct slice body);
/* What the caller may not, of requests about keys; API_OK while auth is off. */
enum api_error machine_auth_refuses_put(const struct application *application,
                                        const struct kv_put *put);
enum api_error machine_auth_refuses_delete(const struct application *application,
                                           const struct kv_delete *del);
enum api_error machine_auth_refuses_txn(const struct application *application,
                                        const struct kv_txn *txn);
enum api_error machine_auth_refuses_lease_revoke(const struct application *application,
                                                 int64_t lease);

#endif
