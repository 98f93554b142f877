/* server/state/auth.h - users, roles, and what they may do: an immutable view of what the store's
 * buckets auth, authUsers and authRoles hold, and the questions that are asked of it.
 *
 * A view is made by machine_auth() and never changes; every change of users or roles makes a new
 * one, which shares what stayed the same. Views are counted; everything else here is borrowed from
 * its view. Any thread.
 *
 * Who refuses what. What etcd refuses when an entry is applied, the machine refuses then, with the
 * same errors in the same order: members of one cluster must do the same with every entry. Where
 * etcd lets through what it should not (what stands within a txn of a txn; prev_kv and the lease of
 * a put in a txn), a refusal at that point would set members apart. So these holes are closed in
 * front of the log: whoever proposes a Txn, or answers one that reads, asks auth_check_txn() first.
 * Reads and what is no entry (members, maintenance) are asked about where they are served. */
#ifndef SERVER_STATE_AUTH_H
#define SERVER_STATE_AUTH_H
#include "base/slice.h"
#include "base/status.h"
#include "server/state/error.h"
#include "server/state/kv_request.h"

#include <stdbool.h>
#include <stdint.h>

#define AUTH_ROOT "root" /* the user that must be, and the role that may everything */
/* Of a user or role: a key of the store must hold it. etcd's process dies of a longer one. */
#define AUTH_NAME_BYTES_MAX 32768U
#define AUTH_REVISION_FIRST 1U /* of a store in which nothing about users ever changed */

enum auth_access { AUTH_READ, AUTH_WRITE };
/* As authpb.Permission has it. etcd stores any other number, too, and it permits nothing. */
enum auth_permission_type {
    AUTH_PERMISSION_READ = 0,
    AUTH_PERMISSION_WRITE = 1,
    AUTH_PERMISSION_READWRITE = 2,
};

struct auth_permission {
    int32_t type;                /* enum auth_permission_type */
    struct slice key, range_end; /* as in requests: empty is one key, "\0" everything from key on */
};

struct auth_role {
    struct slice name;
    const struct auth_permission *permissions; /* in etcd's order: by key */
    uint32_t permissions_count;
};

struct auth_user {
    struct slice name;
    struct slice password;     /* bcrypt's text; empty: none that could match */
    const struct slice *roles; /* ascending; they need not exist */
    uint32_t roles_count;
    bool has_options; /* false: made by an etcd before 3.4 */
    bool no_password; /* comes by certificate only: Authenticate fails */
};

struct auth_view;

struct auth_view *auth_view_ref(struct auth_view *view);
void auth_view_unref(struct auth_view *view); /* NULL is fine */

bool auth_is_enabled(const struct auth_view *view);
/* Counts every change of users, roles and passwords, and each disabling. */
uint64_t auth_revision(const struct auth_view *view);

/* By name; NULL: there is none. */
const struct auth_user *auth_find_user(const struct auth_view *view, struct slice name);
const struct auth_role *auth_find_role(const struct auth_view *view, struct slice name);
/* Ascending by name. */
uint32_t auth_users_count(const struct auth_view *view);
const struct auth_user *auth_user_at(const struct auth_view *view, uint32_t index);
uint32_t auth_roles_count(const struct auth_view *view);
const struct auth_role *auth_role_at(const struct auth_view *view, uint32_t index);

bool auth_user_has_role(const struct auth_user *user, struct slice role);

/* ---- may the caller? API_OK whenever auth is off ---- */

/* struct auth_caller (kv_request.h): the name and auth revision of a token or certificate; a
 * revision of 0 is nobody. */

/* One key (range_end empty) or a range, as requests have them. In etcd's order: API_USER_EMPTY,
 * API_AUTH_OLD_REVISION, API_PERMISSION_DENIED. */
enum api_error auth_check_range(const struct auth_view *view, const struct auth_caller *caller,
                                struct slice key, struct slice range_end, enum auth_access access);
/* Has the role root: API_USER_EMPTY, API_USER_NOT_FOUND, API_PERMISSION_DENIED. The caller's
 * revision is not looked at, as in etcd. */
enum api_error auth_check_admin(const struct auth_view *view, const struct auth_caller *caller);
/* Itself or an administrator, and has the role or is one: as UserGet and RoleGet ask it. */
enum api_error auth_check_user_get(const struct auth_view *view, const struct auth_caller *caller,
                                   struct slice user);
enum api_error auth_check_role_get(const struct auth_view *view, const struct auth_caller *caller,
                                   struct slice role);

/* What is attached to a lease that a request names; for whoever may look at leases where it asks.
 * Gives ST_OK or the first other status of each. */
struct auth_leases {
    void *context;
    enum status (*each_key)(void *context, int64_t lease,
                            enum status (*each)(void *context, struct slice key),
                            void *each_context);
};

/* All of a txn, before it is proposed or read: compares and ranges READ, puts and deletes WRITE,
 * with prev_kv READ as well, both branches, and all that in the txns within it. A put that attaches
 * to a lease needs WRITE on all that is attached to it already; leases NULL leaves this out. A txn
 * of nothing needs nobody. Errors as auth_check_range(). The txn is not over_limit. */
enum api_error auth_check_txn(const struct auth_view *view, const struct auth_caller *caller,
                              const struct kv_txn *txn, const struct auth_leases *leases);
/* WRITE on each of the keys attached to a lease (LeaseRevoke, and a Put that attaches), which
 * administrators pass whatever their revision. */
enum api_error auth_check_lease(const struct auth_view *view, const struct auth_caller *caller,
                                int64_t lease, const struct auth_leases *leases);

/* ---- may it be proposed? ---- */

/* Looks at the body of an auth request that changes something (INTERNAL_AUTH_...) before it is put
 * into the log, for what etcd would store although nobody could mean it, or die of: a name over
 * AUTH_NAME_BYTES_MAX, an unknown type of permission (both API_INVALID_AUTH_MANAGEMENT), bytes that
 * are no such message (API_UNDECODABLE). Everything else is answered when it is applied. */
enum api_error auth_check_change(enum internal_field field, struct slice body);
#endif
