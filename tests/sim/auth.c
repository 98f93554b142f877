/* Users and roles as the members hold them, and those who call as one of them. */
#include "server/state/auth.h"

#include "base/hash.h"
#include "server/state/machine.h"
#include "tests/sim/cluster_private.h"

/* ---- callers ---- */

static struct auth_caller caller_of(const struct cluster_member *m, struct slice name)
{
    struct auth_caller caller = {0};
    if (!machine_auth_enabled(m->machine))
        return caller;
    struct auth_view *view = machine_auth(m->machine);
    caller = (struct auth_caller){.name = name, .revision = auth_revision(view)};
    auth_view_unref(view);
    return caller;
}

struct auth_caller cluster_root(const struct cluster_member *m)
{
    return caller_of(m, SLICE(AUTH_ROOT));
}

struct auth_caller cluster_guest(const struct cluster_member *m)
{
    return caller_of(m, SLICE("guest"));
}

bool cluster_is_refusal(enum api_error error)
{
    return error == API_USER_EMPTY || error == API_AUTH_OLD_REVISION ||
           error == API_PERMISSION_DENIED;
}

/* ---- the same everywhere ---- */

static uint64_t mix_number(uint64_t hash, uint64_t number)
{
    return hash64_seeded(slice_make(&number, sizeof(number)), hash);
}

static uint64_t mix_text(uint64_t hash, struct slice text)
{
    return hash64_seeded(text, mix_number(hash, text.len));
}

static uint64_t mix_user(uint64_t hash, const struct auth_user *user)
{
    hash = mix_text(mix_text(hash, user->name), user->password);
    hash = mix_number(hash, user->has_options + 2U * user->no_password);
    hash = mix_number(hash, user->roles_count);
    for (uint32_t i = 0; i < user->roles_count; i++)
        hash = mix_text(hash, user->roles[i]);
    return hash;
}

static uint64_t mix_role(uint64_t hash, const struct auth_role *role)
{
    hash = mix_number(mix_text(hash, role->name), role->permissions_count);
    for (uint32_t i = 0; i < role->permissions_count; i++) {
        const struct auth_permission *permission = &role->permissions[i];
        hash = mix_number(hash, (uint64_t)permission->type);
        hash = mix_text(mix_text(hash, permission->key), permission->range_end);
    }
    return hash;
}

static uint64_t hash_of(const struct auth_view *view)
{
    uint64_t hash = mix_number(auth_is_enabled(view), auth_revision(view));
    hash = mix_number(hash, auth_users_count(view));
    for (uint32_t i = 0; i < auth_users_count(view); i++)
        hash = mix_user(hash, auth_user_at(view, i));
    for (uint32_t i = 0; i < auth_roles_count(view); i++)
        hash = mix_role(hash, auth_role_at(view, i));
    return hash;
}

static void check_same(struct cluster_member *m, raft_index index)
{
    struct cluster_history *history = &m->cluster->history;
    cluster_reserve_facts(&history->auth_of_index, &history->auths_count, index);
    uint64_t *known = &history->auth_of_index[index];
    if (*known != 0 && *known != m->auth_hash)
        cluster_fail(m->cluster, "member %u has other users and roles at entry %llu", m->number,
                     (unsigned long long)index);
    *known = m->auth_hash;
}

/* With the index it only grows, whoever is asked. */
static void check_revision(struct cluster_member *m, raft_index index, uint64_t revision)
{
    struct cluster_history *history = &m->cluster->history;
    bool is_newer = index >= history->auth_index;
    if (is_newer ? revision < history->auth_revision : revision > history->auth_revision)
        cluster_fail(m->cluster,
                     "auth of member %u is at revision %llu at entry %llu, it is %llu "
                     "at entry %llu",
                     m->number, (unsigned long long)revision, (unsigned long long)index,
                     (unsigned long long)history->auth_revision,
                     (unsigned long long)history->auth_index);
    if (is_newer) {
        history->auth_index = index;
        history->auth_revision = revision;
    }
}

/* A view that is still the same was so at all entries since. */
void cluster_check_auth(struct cluster_member *m)
{
    struct auth_view *view = machine_auth(m->machine);
    raft_index applied = machine_applied(m->machine).index;
    bool is_new = view != m->auth_seen;
    if (is_new) {
        cluster_forget_auth(m);
        m->auth_seen = auth_view_ref(view);
        m->auth_hash = hash_of(view);
    }
    for (raft_index i = is_new ? applied : m->auth_upto + 1; i <= applied; i++)
        check_same(m, i);
    if (is_new || applied != m->auth_upto)
        check_revision(m, applied, auth_revision(view));
    if (machine_auth_enabled(m->machine) != auth_is_enabled(view) ||
        machine_auth_revision(m->machine) != auth_revision(view))
        cluster_fail(m->cluster, "member %u tells of auth what its users and roles do not",
                     m->number);
    m->auth_upto = applied;
    auth_view_unref(view);
}

void cluster_forget_auth(struct cluster_member *m)
{
    auth_view_unref(m->auth_seen);
    m->auth_seen = NULL;
}
