/* server/state/auth_private.h - how views of users and roles are made, and what of them is stored.
 * Shared by auth*.c and machine_auth.c. */
#ifndef SERVER_STATE_AUTH_PRIVATE_H
#define SERVER_STATE_AUTH_PRIVATE_H
#include "base/arena.h"
#include "server/state/auth.h"

#include <stdatomic.h>

struct wire_out;

/* ---- what a user may: unions of intervals ---- */

struct auth_interval {
    struct slice begin, end; /* an empty end lies behind every key */
};
/* The same as etcd has it, for the one question that only its shape answers (auth_tree.c). */
struct auth_tree_node {
    struct slice begin, end;
    uint32_t left, right; /* 0: none */
    uint32_t last;        /* of the branch from here down, the node that ends last */
};
struct auth_tree {
    const struct auth_tree_node *nodes; /* from 1 to count */
    uint32_t count, root;
};
struct auth_union {
    const struct auth_interval *items; /* ascending, apart from each other */
    uint32_t count;
    struct auth_tree tree;
};

/* Order of where intervals begin and end. */
int auth_compare_ends(struct slice a, struct slice b);
/* Inserts them in this order. Everything is in arena but the texts. Errors: ST_TOO_BIG (the arena's
 * cap). */
CHECKED enum status auth_tree_make(const struct auth_interval *intervals, uint32_t count,
                                   struct arena *arena, struct auth_tree *out);
bool auth_tree_covers(const struct auth_tree *tree, struct slice begin, struct slice end);

/* Whether key, or all from key to range_end, is in it. A range whose end is not above its key holds
 * no key; etcd permits it to some who may its key, and this does so to the same. */
bool auth_union_covers(const struct auth_union *of, struct slice key, struct slice range_end);
/* The union of what these permissions give for this access; those that hold no key give nothing.
 * Everything is in arena, keys may be borrowed from the permissions. Errors: ST_TOO_BIG (the
 * arena's cap). */
CHECKED enum status auth_union_make(const struct auth_permission *const *permissions,
                                    uint32_t count, enum auth_access access, struct arena *arena,
                                    struct auth_union *out);

/* ---- a view ---- */

struct auth_user_node {
    atomic_uint references;
    struct auth_user user;
    struct auth_union may[2]; /* by enum auth_access */
};
struct auth_role_node {
    atomic_uint references;
    struct auth_role role;
};

struct auth_view {
    atomic_uint references;
    bool enabled;
    uint64_t revision;
    struct auth_user_node **users; /* ascending by name, like roles */
    struct auth_role_node **roles;
    uint32_t users_count, roles_count;
};

const struct auth_user_node *auth_find_node(const struct auth_view *view, struct slice name);

/* A view in the making. */
struct auth_draft {
    struct auth_view *view; /* nobody else's yet */
    uint32_t users_capacity, roles_capacity;
    struct arena scratch;
};

/* A draft that holds what from does; NULL: nothing, at the first revision. Errors: ST_NO_MEMORY. */
CHECKED enum status auth_draft_begin(const struct auth_view *from, struct auth_draft *out);
/* Adds it or replaces the one of its name; everything is copied. What a user may is made of the
 * roles that are in the draft by then. Errors: ST_NO_MEMORY. */
CHECKED enum status auth_draft_put_user(struct auth_draft *draft, const struct auth_user *user);
void auth_draft_drop_user(struct auth_draft *draft, struct slice name);
/* Neither changes what users may, before auth_draft_refresh() of that role. */
CHECKED enum status auth_draft_put_role(struct auth_draft *draft, const struct auth_role *role);
void auth_draft_drop_role(struct auth_draft *draft, struct slice name);
CHECKED enum status auth_draft_refresh(struct auth_draft *draft, struct slice role);
/* Gives the view; what is left of the draft needs no end. */
struct auth_view *auth_draft_end(struct auth_draft *draft);
void auth_draft_cancel(struct auth_draft *draft);

/* In the order in which etcd keeps the permissions of a role, after one was put behind the others.
 * (auth_sort.c) */
void auth_sort_permissions(struct auth_permission *permissions, uint32_t count);

/* etcd lists users and roles from "\0" up to "\xff": what is named beyond is found by its name
 * alone. */
bool auth_is_listed(struct slice name);

/* ---- auth_wire.c: as they are stored, authpb.User and authpb.Role ---- */

/* Names and keys are borrowed from the message, arrays are in arena. Errors: ST_INVALID, ST_TOO_BIG
 * (the arena's cap). */
CHECKED enum status auth_user_decode(struct slice message, struct arena *arena,
                                     struct auth_user *out);
CHECKED enum status auth_role_decode(struct slice message, struct arena *arena,
                                     struct auth_role *out);
void auth_user_encode(const struct auth_user *user, struct wire_out *out);
void auth_role_encode(const struct auth_role *role, struct wire_out *out);
void auth_permission_encode(const struct auth_permission *permission, struct wire_out *out);
/* A Permission message into what was decoded of it before. Errors: ST_INVALID. */
CHECKED enum status auth_permission_decode(struct slice message, struct auth_permission *out);

/* ---- auth_check.c ---- */

/* What etcd looks at of a txn when it is applied: the first level, without what puts add. */
enum api_error auth_check_txn_applied(const struct auth_view *view,
                                      const struct auth_caller *caller, const struct kv_txn *txn);

#endif
