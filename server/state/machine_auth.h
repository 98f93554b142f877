/* server/state/machine_auth.h - what the entries about users and roles share. Inside of the
 * machine: machine_auth.c, machine_users.c, machine_roles.c. */
#ifndef SERVER_STATE_MACHINE_AUTH_H
#define SERVER_STATE_MACHINE_AUTH_H
#include "server/state/auth_private.h"
#include "server/state/machine_private.h"

#define AUTH_FIELD_LIST 2 /* of names and permissions, in the responses that have one */

/* Requests hold texts or messages; here by their number less one. */
#define AUTH_TEXTS_MAX 4U
struct auth_texts {
    struct slice field[AUTH_TEXTS_MAX];
};
/* The first count fields; borrowed. Errors: ST_INVALID. */
CHECKED enum status auth_take_texts(struct slice body, uint32_t count, struct auth_texts *out);
/* Hands each message that stands in this field to take, the later into what the earlier left. */
CHECKED enum status auth_take_messages(struct slice body, uint32_t number,
                                       enum status (*take)(struct slice message, void *out),
                                       void *out);
/* The answer is this error: gives ST_OK. */
CHECKED enum status auth_refuse(struct application *a, enum api_error error);

/* Ends a change that went well so far (st), one revision on; takes the draft. */
CHECKED enum status auth_end_change(struct application *a, struct auth_draft *draft,
                                    enum status st);
/* Into the store and into the draft. */
CHECKED enum status auth_store_user(struct machine *machine, struct auth_draft *draft,
                                    const struct auth_user *user);
/* A change that is a user's record alone. */
CHECKED enum status auth_change_user(struct application *a, const struct auth_user *user);
/* The user without the role, in the machine's scratch memory. Errors: ST_NO_MEMORY. */
CHECKED enum status auth_without_role(struct machine *machine, const struct auth_user *from,
                                      struct slice role, struct auth_user *out);
void machine_forget_tokens_of(struct machine *machine, struct slice user);

CHECKED enum status apply_user_add(struct application *a, struct slice body);
CHECKED enum status apply_user_delete(struct application *a, struct slice body);
CHECKED enum status apply_user_change_password(struct application *a, struct slice body);
CHECKED enum status apply_user_grant_role(struct application *a, struct slice body);
CHECKED enum status apply_user_revoke_role(struct application *a, struct slice body);
CHECKED enum status apply_user_get(struct application *a, struct slice body);
CHECKED enum status apply_user_list(struct application *a);
CHECKED enum status apply_role_add(struct application *a, struct slice body);
CHECKED enum status apply_role_delete(struct application *a, struct slice body);
CHECKED enum status apply_role_grant_permission(struct application *a, struct slice body);
CHECKED enum status apply_role_revoke_permission(struct application *a, struct slice body);
CHECKED enum status apply_role_get(struct application *a, struct slice body);
CHECKED enum status apply_role_list(struct application *a);

#endif
