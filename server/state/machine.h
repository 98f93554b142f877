/* server/state/machine.h - the replicated state machine: applies log entries to the store, in
 * order, the same way on every member. Deterministic: what an entry does depends on the entries
 * before it alone, never on time, settings of this member, or whether anybody here waits for the
 * answer.
 *
 * Entries hold etcd's InternalRaftRequest, or the legacy v2 Request in which 3.5 publishes member
 * attributes and the cluster version. What an entry changes in the small buckets and its index go
 * into the store together (store_end_entry), so an entry is never applied twice. The store's mark
 * is the only home of the applied index, its term and the configuration; etcd's records meta/
 * consistent_index, term and confState are written from it when a db file is made.
 *
 * Threads: everything is the apply actor's but what says otherwise. Nothing here logs. */
#ifndef SERVER_STATE_MACHINE_H
#define SERVER_STATE_MACHINE_H
#include "base/arena.h"
#include "base/slice.h"
#include "base/status.h"
#include "raft/types.h"
#include "server/state/error.h"
#include "server/state/members.h"

#include <stdbool.h>
#include <stdint.h>

struct auth_view;
struct lessor;
struct mvcc;
struct store;
struct machine;

struct machine_options {
    struct store *store; /* borrowed, open */
    struct mvcc *mvcc;   /* borrowed, open over that store */
    uint64_t cluster_id; /* into every response header */
    raft_id member_id;
    int64_t lease_ttl_s_min; /* one and a half election timeouts, rounded up: shorter leases are
                                raised to it. 0: 2. The same on all members */
    /* Whether what is left of a lease is written into the store as its leader tells it. */
    bool persist_checkpoints;
    bool threaded; /* false in the simulator: the locks are no-ops */
};

/* Reads members and cluster version from the store; the applied index is the store's mark. Errors:
 * ST_CORRUPT, ST_IO, ST_NO_MEMORY; *out is then NULL. */
CHECKED enum status machine_open(const struct machine_options *options, struct machine **out);
void machine_close(struct machine *machine); /* NULL is fine */
/* The store's content is a snapshot's now, which ends at applied: reads members, alarms and version
 * anew. What other threads see changes at once and as a whole. Errors as machine_open(), after
 * which the member must stop. */
CHECKED enum status machine_reload(struct machine *machine, struct raft_log_id applied);

/* What a configuration change makes of the member table. */
enum machine_change {
    MACHINE_CHANGE_NONE, /* refused, or no configuration change */
    MACHINE_CHANGE_ADD,
    MACHINE_CHANGE_PROMOTE, /* a learner becomes a voter */
    MACHINE_CHANGE_UPDATE,  /* peer URLs */
    MACHINE_CHANGE_REMOVE,  /* for good: the id is never used again */
};

/* What an entry did to a lease. */
enum machine_lease { MACHINE_LEASE_NONE, MACHINE_LEASE_GRANTED, MACHINE_LEASE_REVOKED };

struct machine_result {
    uint64_t request_id;   /* header.ID of the request; 0: none */
    enum api_error error;  /* the answer to whoever proposed it */
    struct slice response; /* API_OK: encoded, with its full header; in the arena */
    /* A physical compaction: the answer waits until mvcc_compact_is_done(). */
    bool wait_for_compaction;
    const char
        *op; /* constant: what was applied, as etcd's metrics name it; NULL: nothing to speak of */
    enum machine_change change;
    raft_id changed;   /* member that change is about: its row is in the table (or no longer in it)
                          once machine_end_conf_change() has returned */
    raft_id published; /* member whose name and client URLs this entry made known; 0: none */
    enum machine_lease lease_change;
    int64_t lease, lease_ttl_s; /* that was granted or revoked */
};

/* Applies one RAFT_ENTRY_NORMAL, whatever the fate of its call. The response is put in arena when
 * out->error is API_OK; an arena that is too small for it makes the error API_RESPONSE_TOO_LARGE,
 * never changes what is applied. arena NULL: nobody waits, no response is made.
 * Entries at or below the applied index change nothing and give API_OK with an empty response.
 * Errors, all of which must stop the member (machine_problem() says more): ST_UNSUPPORTED (an entry
 * this version cannot apply), ST_CORRUPT, ST_IO, ST_NO_MEMORY. */
CHECKED enum status machine_apply(struct machine *machine, const struct raft_entry *entry,
                                  struct arena *arena, struct machine_result *out);

/* A configuration change comes in two steps with the consensus core between them. First: is it
 * valid? *change_out is borrowed from the entry, empty when the change is refused (to be handed to
 * the core as such). out->request_id is the ConfChange's id and out->error the reason. Errors as
 * machine_apply(). */
CHECKED enum status machine_check_conf_change(struct machine *machine,
                                              const struct raft_entry *entry,
                                              struct slice *change_out, struct machine_result *out);
/* Second: changes the member table and ends the entry with the configuration that the core made of
 * it. Errors as machine_apply(). */
CHECKED enum status machine_end_conf_change(struct machine *machine, const struct raft_entry *entry,
                                            const struct raft_conf_state *conf_state);

/* ---- members as etcd's v2 store and log have them: for tools. etcd 3.5 takes its members from
 * those, and its db, which is what a machine is opened over, may say less. All of it stays in the
 * store's generations. Errors of all three: ST_TOO_BIG, ST_NO_MEMORY. ---- */

/* The table becomes these rows; whoever falls out of it does not count as removed. */
CHECKED enum status machine_replace_members(struct machine *machine, const struct member_row *rows,
                                            uint32_t count);
/* The id of a member that was removed. */
CHECKED enum status machine_note_removed(struct machine *machine, raft_id id);
/* Does again to the member table, and to nothing else, what an entry did to it that the store has
 * already: they must be given in order, from the one on that the table stands at. */
CHECKED enum status machine_replay_members(struct machine *machine, const struct raft_entry *entry);

/* What stands behind the last error of the verbs above, for the log: a sentence, never NULL. */
const char *machine_problem(const struct machine *machine);

/* Last entry applied. */
struct raft_log_id machine_applied(const struct machine *machine);

/* Simple tokens are made known to every member by the log, but are no part of the replicated state:
 * they live in memory, end by time, and are lost when a member stops. Whoever holds them is told,
 * by apply, in the order of the log. What is handed over is borrowed for the call, which must not
 * call the machine. */
struct auth_token_sink {
    void *context;
    /* Authenticate was applied: the token is this user's, beside those it has. It is what the
     * entry brings, a dot, and the index before the entry's (in a cluster of version 3.4 a second
     * one with the entry's own, as those members have it). An entry that brings nothing belongs to
     * signed tokens: nobody is told, and the response holds no token; its proposer adds one. */
    void (*learn)(void *context, struct slice user, struct slice token);
    /* The user was deleted or has another password: none of its tokens is good any more. */
    void (*forget_user)(void *context, struct slice user);
    /* Auth was turned off, or a snapshot took the place of the entries that would tell. */
    void (*forget_all)(void *context);
};
/* Before the first entry is applied. Copied; NULL: nobody is told (tools, tests). */
void machine_set_token_sink(struct machine *machine, const struct auth_token_sink *sink);

/* ---- any thread ---- */

uint64_t machine_cluster_id(const struct machine *machine);
raft_id machine_member_id(const struct machine *machine);
/* The member table as of now, counted: members_unref() it. It never changes; a change makes a new
 * one. */
struct members *machine_members(struct machine *machine);
/* Whether the member was once in the cluster and removed from it. */
bool machine_is_removed(struct machine *machine, raft_id id);
/* All of them, ascending; each must not call the machine. */
void machine_each_removed(struct machine *machine, void (*each)(void *context, raft_id id),
                          void *context);
/* "3.5.0", or "" while it is not decided. out has room for VERSION_TEXT_BYTES. */
#define VERSION_TEXT_BYTES 32U
void machine_cluster_version(struct machine *machine, char *out);
/* Whether it is known and below 3.5: an etcd 3.4 may be among the members. */
bool machine_is_cluster_old(struct machine *machine);

/* Users and roles as of now, counted: auth_view_unref() it (server/state/auth.h). */
struct auth_view *machine_auth(struct machine *machine);
/* Whether callers must be users: auth_is_enabled() of that view, without taking it. */
bool machine_auth_enabled(const struct machine *machine);
/* And its auth_revision(): a view that is taken afterwards is no older, and what was read in the
 * store before is from before any later one. */
uint64_t machine_auth_revision(const struct machine *machine);

/* Whether a downgrade of the cluster, asked for through an etcd member, is under way. */
bool machine_downgrade_enabled(struct machine *machine);

enum alarm_type { ALARM_NONE = 0, ALARM_NOSPACE = 1, ALARM_CORRUPT = 2 };
struct alarm {
    raft_id member; /* that raised it or that it is about; 0: not known, or all */
    uint32_t type;  /* enum alarm_type */
};
enum alarm_action { ALARM_GET = 0, ALARM_ACTIVATE = 1, ALARM_DEACTIVATE = 2 };
/* Any member's. */
bool machine_has_alarm(struct machine *machine, enum alarm_type type);
/* This one. */
bool machine_is_alarm_active(struct machine *machine, const struct alarm *alarm);
/* The active alarms, in arena. Errors: ST_TOO_BIG (the arena's cap). */
CHECKED enum status machine_alarms(struct machine *machine, struct arena *arena,
                                   const struct alarm **out, uint32_t *count_out);

/* The leases, for looking at them and for their time (server/state/lessor.h); until unlock nobody
 * else changes them, apply waits. Only apply's thread grants, drops and attaches. */
struct lessor *machine_lock_lessor(struct machine *machine);
void machine_unlock_lessor(struct machine *machine);

/* ---- entries that a member proposes for itself; payloads are owned by the caller ---- */

/* This member's name and client URLs as 3.5's v2 Request; id is the request's. NULL without memory
 * or over MEMBER_URLS_MAX. */
struct raft_payload *machine_publish_payload(const struct machine *machine, uint64_t id,
                                             const char *name, const char *const *client_urls,
                                             uint32_t urls_count);
/* The cluster version ("3.5.0") likewise. */
struct raft_payload *machine_version_payload(uint64_t id, const char *version);
/* An AlarmRequest and a CompactionRequest; NULL without memory. */
struct raft_payload *machine_alarm_payload(uint64_t id, enum alarm_action action, raft_id member,
                                           enum alarm_type type);
struct raft_payload *machine_compaction_payload(uint64_t id, int64_t revision);
#endif
