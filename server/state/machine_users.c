/* Entries about users. A user's record is written whole; what etcd keeps of it is kept. */
#include "base/base64.h"
#include "base/bytes.h"
#include "base/digest.h"
#include "server/state/auth_bcrypt.h"
#include "server/state/machine_auth.h"

#include <stddef.h>
#include <stdlib.h>

/* etcds up to 3.4 log the password itself, and each member hashes it with a salt of its own. Ours
 * comes of the entry, so that members agree: a salt need not be secret, but another one for each
 * password. One that bcrypt cannot be given as a whole is cut as Go cut it then; one with a NUL in
 * it nobody could log in with, and none is stored. */
static enum status hash_plain(struct application *a, struct slice name, struct slice plain,
                              struct slice *out)
{
    uint8_t seed[16], digest[SHA256_BYTES];
    put_be64(seed, a->entry->index);
    put_be64(seed + 8, a->entry->term);
    struct sha256 *sha = NULL;
    enum status st = sha256_new(&sha);
    if (st == ST_OK)
        st = sha256_add(sha, slice_make(seed, sizeof(seed)));
    if (st == ST_OK)
        st = sha256_add(sha, name);
    if (st == ST_OK)
        st = sha256_end(sha, digest);
    sha256_free(sha);
    char *text = arena_alloc_raw(&a->machine->scratch, BCRYPT_HASH_BYTES);
    if (st != ST_OK || text == NULL)
        return st != ST_OK ? st : ST_NO_MEMORY;
    if (plain.len > BCRYPT_PASSWORD_BYTES_MAX)
        plain.len = BCRYPT_PASSWORD_BYTES_MAX;
    st = bcrypt_hash(plain, BCRYPT_COST_DEFAULT, digest, text);
    if (st == ST_OK)
        *out = slice_make(text, BCRYPT_HASH_BYTES);
    return st == ST_INVALID ? ST_OK : st;
}

/* The text that is stored: what a member made of the password before it proposed the change. */
static enum status take_password(struct application *a, struct slice name, struct slice plain,
                                 struct slice hashed, struct slice *out)
{
    *out = SLICE_EMPTY;
    if (plain.len > 0 && hashed.len == 0)
        return hash_plain(a, name, plain, out);
    uint8_t *text = arena_alloc_raw(&a->machine->scratch, base64_decoded_size_max(hashed.len));
    size_t size;
    if (text == NULL)
        return ST_NO_MEMORY;
    if (base64_decode(BASE64_STANDARD, hashed, text, &size) != ST_OK)
        return auth_refuse(a, API_NO_PASSWORD_USER);
    *out = slice_make(text, size);
    return ST_OK;
}

static enum status take_options(struct slice message, void *out)
{
    static const struct wire_slot slots[] = {
        {WIRE_SLOT_BOOL, offsetof(struct auth_user, no_password)}};
    return wire_decode(message, slots, 1, out);
}

enum status apply_user_add(struct application *a, struct slice body)
{
    enum { NAME, PASSWORD, OPTIONS, HASHED };
    struct auth_texts texts;
    struct auth_user user = {.has_options = true};
    enum status st = auth_take_texts(body, 4, &texts);
    if (st == ST_OK)
        st = auth_take_messages(body, OPTIONS + 1, take_options, &user);
    if (st != ST_OK)
        return st;
    user.name = texts.field[NAME];
    if (user.name.len == 0)
        return auth_refuse(a, API_USER_EMPTY);
    if (auth_find_user(a->machine->auth, user.name) != NULL)
        return auth_refuse(a, API_USER_EXISTS);
    if (user.name.len > AUTH_NAME_BYTES_MAX)
        return ST_TOO_BIG;
    if (!user.no_password)
        st = take_password(a, texts.field[NAME], texts.field[PASSWORD], texts.field[HASHED],
                           &user.password);
    return st == ST_OK && a->result->error == API_OK ? auth_change_user(a, &user) : st;
}

enum status apply_user_delete(struct application *a, struct slice body)
{
    struct machine *machine = a->machine;
    struct auth_texts texts;
    enum status st = auth_take_texts(body, 1, &texts);
    if (st != ST_OK)
        return st;
    struct slice name = texts.field[0];
    if (machine->auth->enabled && slice_eq(name, SLICE(AUTH_ROOT)))
        return auth_refuse(a, API_INVALID_AUTH_MANAGEMENT);
    if (auth_find_user(machine->auth, name) == NULL)
        return auth_refuse(a, API_USER_NOT_FOUND);
    struct auth_draft draft;
    st = auth_draft_begin(machine->auth, &draft);
    if (st != ST_OK)
        return st;
    auth_draft_drop_user(&draft, name);
    st = auth_end_change(a, &draft, store_delete(machine->store, BUCKET_AUTH_USERS, name));
    machine_forget_tokens_of(machine, name);
    return st;
}

enum status apply_user_change_password(struct application *a, struct slice body)
{
    enum { NAME, PASSWORD, HASHED };
    struct auth_texts texts;
    enum status st = auth_take_texts(body, 3, &texts);
    if (st != ST_OK)
        return st;
    const struct auth_user *before = auth_find_user(a->machine->auth, texts.field[NAME]);
    if (before == NULL)
        return auth_refuse(a, API_USER_NOT_FOUND);
    struct auth_user user = *before;
    user.password = SLICE_EMPTY;
    if (!user.no_password)
        st = take_password(a, texts.field[NAME], texts.field[PASSWORD], texts.field[HASHED],
                           &user.password);
    if (st != ST_OK || a->result->error != API_OK)
        return st;
    st = auth_change_user(a, &user);
    machine_forget_tokens_of(a->machine, texts.field[NAME]);
    return st;
}

static int compare_texts(const void *a, const void *b)
{
    return slice_cmp(*(const struct slice *)a, *(const struct slice *)b);
}

enum status apply_user_grant_role(struct application *a, struct slice body)
{
    enum { USER, ROLE };
    struct auth_texts texts;
    enum status st = auth_take_texts(body, 2, &texts);
    if (st != ST_OK)
        return st;
    const struct auth_user *before = auth_find_user(a->machine->auth, texts.field[USER]);
    if (before == NULL)
        return auth_refuse(a, API_USER_NOT_FOUND);
    struct slice role = texts.field[ROLE];
    if (!slice_eq(role, SLICE(AUTH_ROOT)) && auth_find_role(a->machine->auth, role) == NULL)
        return auth_refuse(a, API_ROLE_NOT_FOUND);
    if (auth_user_has_role(before, role))
        return ST_OK;
    struct slice *roles =
        ARENA_ARRAY(&a->machine->scratch, struct slice, (size_t)before->roles_count + 1);
    if (roles == NULL)
        return ST_NO_MEMORY;
    if (before->roles_count > 0)
        memcpy(roles, before->roles, before->roles_count * sizeof(roles[0]));
    roles[before->roles_count] = role;
    struct auth_user user = *before;
    user.roles = roles;
    user.roles_count = before->roles_count + 1;
    qsort(roles, user.roles_count, sizeof(roles[0]), compare_texts);
    return auth_change_user(a, &user);
}

enum status auth_without_role(struct machine *machine, const struct auth_user *from,
                              struct slice role, struct auth_user *out)
{
    struct slice *roles = ARENA_ARRAY(&machine->scratch, struct slice, from->roles_count);
    if (roles == NULL)
        return ST_NO_MEMORY;
    *out = *from;
    out->roles = roles;
    out->roles_count = 0;
    for (uint32_t i = 0; i < from->roles_count; i++) {
        if (!slice_eq(from->roles[i], role))
            roles[out->roles_count++] = from->roles[i];
    }
    return ST_OK;
}

enum status apply_user_revoke_role(struct application *a, struct slice body)
{
    enum { USER, ROLE };
    const struct auth_view *view = a->machine->auth;
    struct auth_texts texts;
    enum status st = auth_take_texts(body, 2, &texts);
    if (st != ST_OK)
        return st;
    if (view->enabled && slice_eq(texts.field[USER], SLICE(AUTH_ROOT)) &&
        slice_eq(texts.field[ROLE], SLICE(AUTH_ROOT)))
        return auth_refuse(a, API_INVALID_AUTH_MANAGEMENT);
    const struct auth_user *before = auth_find_user(view, texts.field[USER]);
    if (before == NULL)
        return auth_refuse(a, API_USER_NOT_FOUND);
    if (!auth_user_has_role(before, texts.field[ROLE]))
        return auth_refuse(a, API_ROLE_NOT_GRANTED);
    struct auth_user user;
    st = auth_without_role(a->machine, before, texts.field[ROLE], &user);
    return st == ST_OK ? auth_change_user(a, &user) : st;
}

enum status apply_user_get(struct application *a, struct slice body)
{
    struct auth_texts texts;
    enum status st = auth_take_texts(body, 1, &texts);
    if (st != ST_OK)
        return st;
    enum api_error error = auth_check_user_get(a->machine->auth, a->caller, texts.field[0]);
    if (error != API_OK)
        return auth_refuse(a, error);
    const struct auth_user *user = auth_find_user(a->machine->auth, texts.field[0]);
    if (user == NULL)
        return auth_refuse(a, API_USER_NOT_FOUND);
    for (uint32_t i = 0; i < user->roles_count; i++)
        wire_put_bytes(a->out, AUTH_FIELD_LIST, user->roles[i]);
    return ST_OK;
}

enum status apply_user_list(struct application *a)
{
    const struct auth_view *view = a->machine->auth;
    for (uint32_t i = 0; i < view->users_count; i++) {
        if (auth_is_listed(view->users[i]->user.name))
            wire_put_bytes(a->out, AUTH_FIELD_LIST, view->users[i]->user.name);
    }
    return ST_OK;
}
