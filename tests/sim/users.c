#include "tests/sim/users.h"

#include "base/base64.h"
#include "base/bytes.h"
#include "base/list.h"
#include "base/minmax.h"
#include "server/state/auth.h"
#include "server/state/machine.h"
#include "tests/sim/cluster_private.h"

#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
/* cmocka.h wants the two above */
#include <cmocka.h>

#define DEADLINE_NS (7 * NS_PER_S)
#define THINK_NS_MAX (400 * NS_PER_MS)
#define SWITCH_NS_MAX (4 * NS_PER_S) /* between two switches of auth */
#define KEYS 4U                      /* that permissions are about */
#define NAME_BYTES 24U
#define PASSWORD_BYTES 60U /* of bcrypt's text */
#define BODY_BYTES_MAX 192U

enum change {
    USER_ADD,
    USER_DELETE,
    USER_PASSWORD,
    USER_GRANT,
    USER_REVOKE,
    ROLE_ADD,
    ROLE_DELETE,
    ROLE_GRANT,
    ROLE_REVOKE,
    CHANGES_COUNT,
    LOOK = CHANGES_COUNT, /* changes nothing: a linearizable look at one's own */
    SWITCH,
};

/* A user and a role that nobody else changes. */
struct owned {
    bool has_user, has_role, is_granted;
    uint64_t password;        /* its number */
    uint32_t permitted[KEYS]; /* 1 more than the type of permission; 0: none */
};

struct owner {
    struct users *users;
    uint32_t number;     /* 0: the one that switches */
    uint32_t generation; /* what became of earlier names nobody can tell */
    bool is_busy;
    uint64_t next_ns;
    struct owned owned;
    /* The change under way. */
    enum change change;
    struct owned after;
    enum api_error expected;
    bool is_stranger;
    uint64_t stretch;
    uint32_t member;
    struct proposal proposal;
    struct read_request read;
};

/* What the one that switches does next, in this order; the first ones once. */
enum switching { MAKE_ROOT, MAKE_ROOT_MIGHTY, MAKE_GUEST, SPOIL_ROOT, TURN_ON, TURN_OFF };

struct users {
    struct cluster *cluster;
    struct rng rng;
    enum switching switching;
    bool is_doubtful; /* what became of a switch nobody can tell: it may come yet */
    uint64_t stretches_count, passwords_count;
    struct users_stat stat;
    uint32_t count;
    struct owner items[];
};

static uint64_t draw(struct users *users, uint64_t bound)
{
    return rng_below(&users->rng, bound);
}

static void go_idle(struct owner *owner)
{
    struct users *users = owner->users;
    owner->is_busy = false;
    owner->next_ns =
        users->cluster->now_ns + draw(users, owner->change == SWITCH && users->switching >= TURN_ON
                                                 ? SWITCH_NS_MAX
                                                 : THINK_NS_MAX);
}

static struct cluster_member *member_of(const struct owner *owner)
{
    return &owner->users->cluster->members[owner->member];
}

static struct slice name_of(const struct owner *owner, char kind, char *out)
{
    int len = snprintf(out, NAME_BYTES, "%c%u.%u", kind, owner->number, owner->generation);
    return slice_make(out, (size_t)len);
}

/* A text of bcrypt's form; nobody logs in with it. */
static struct slice password_text(uint64_t number, char *out)
{
    int len = snprintf(out, PASSWORD_BYTES + 1, "$2a$10$N9qo8uLOickgx2ZMRZoMye%031llu",
                       (unsigned long long)number);
    assert_int_equal(len, PASSWORD_BYTES);
    return slice_make(out, PASSWORD_BYTES);
}

/* ---- what must be there ---- */

static bool has_user(const struct owner *owner, const struct auth_view *view)
{
    char name[NAME_BYTES], role[NAME_BYTES], password[PASSWORD_BYTES + 1];
    const struct owned *owned = &owner->owned;
    const struct auth_user *user = auth_find_user(view, name_of(owner, 'u', name));
    if (user == NULL || !owned->has_user)
        return (user != NULL) == owned->has_user;
    return slice_eq(user->password, password_text(owned->password, password)) &&
           user->has_options && !user->no_password && user->roles_count == owned->is_granted &&
           (!owned->is_granted || slice_eq(user->roles[0], name_of(owner, 'r', role)));
}

static struct slice key_text(uint32_t key, char *out)
{
    int len = snprintf(out, NAME_BYTES, "k%03u", key);
    return slice_make(out, (size_t)len);
}

/* Of every other key it is a range. */
static struct slice range_end_of(uint32_t key)
{
    return key % 2 == 0 ? SLICE_EMPTY : SLICE("l");
}

static bool has_role(const struct owner *owner, const struct auth_view *view)
{
    char name[NAME_BYTES], text[NAME_BYTES];
    const struct owned *owned = &owner->owned;
    const struct auth_role *role = auth_find_role(view, name_of(owner, 'r', name));
    if (role == NULL || !owned->has_role)
        return (role != NULL) == owned->has_role;
    uint32_t at = 0;
    for (uint32_t key = 0; key < KEYS; key++) {
        if (owned->permitted[key] == 0)
            continue;
        const struct auth_permission *permission = &role->permissions[at];
        if (at++ == role->permissions_count ||
            (uint32_t)permission->type + 1 != owned->permitted[key] ||
            !slice_eq(permission->key, key_text(key, text)) ||
            !slice_eq(permission->range_end, range_end_of(key)))
            return false;
    }
    return at == role->permissions_count;
}

static void check_owned(const struct owner *owner, uint32_t member)
{
    struct cluster *cluster = owner->users->cluster;
    struct auth_view *view = machine_auth(cluster->members[member].machine);
    bool is_there = has_user(owner, view) && has_role(owner, view);
    auth_view_unref(view);
    if (!is_there)
        cluster_fail(cluster, "member %u has another user or role %u.%u than was acknowledged",
                     member, owner->number, owner->generation);
}

/* ---- what a change does, as its client knows ---- */

static enum api_error expect_of_user(struct owned *owned, enum change change, uint64_t password)
{
    if (change == USER_ADD) {
        if (owned->has_user)
            return API_USER_EXISTS;
        owned->has_user = true;
        owned->password = password;
        return API_OK;
    }
    if (!owned->has_user)
        return API_USER_NOT_FOUND;
    if (change == USER_PASSWORD) {
        owned->password = password;
    } else if (change == USER_GRANT) {
        if (!owned->has_role)
            return API_ROLE_NOT_FOUND;
        owned->is_granted = true;
    } else {
        if (change == USER_REVOKE && !owned->is_granted)
            return API_ROLE_NOT_GRANTED;
        owned->is_granted = false;
        owned->has_user = change != USER_DELETE;
    }
    return API_OK;
}

static enum api_error expect_of_role(struct owned *owned, enum change change, uint32_t key,
                                     uint32_t type)
{
    if (change == ROLE_ADD) {
        if (owned->has_role)
            return API_ROLE_EXISTS;
        owned->has_role = true;
        return API_OK;
    }
    if (!owned->has_role)
        return API_ROLE_NOT_FOUND;
    if (change == ROLE_GRANT) {
        owned->permitted[key] = type + 1;
    } else if (change == ROLE_REVOKE) {
        if (owned->permitted[key] == 0)
            return API_PERMISSION_NOT_GRANTED;
        owned->permitted[key] = 0;
    } else { /* everybody loses it */
        *owned = (struct owned){.has_user = owned->has_user, .password = owned->password};
    }
    return API_OK;
}

/* ---- answers ---- */

/* Nothing was changed, since it never came to the core. */
static bool never_began(enum api_error error)
{
    return error == API_TOO_MANY_REQUESTS || error == API_DISK_FULL ||
           error == API_DEADLINE_EXCEEDED;
}

/* The word of the state machine about the change itself. */
static bool is_verdict(enum api_error error)
{
    switch ((int)error) {
    case API_OK:
    case API_ROOT_USER_NOT_EXIST:
    case API_ROOT_ROLE_NOT_EXIST:
    case API_USER_EXISTS:
    case API_USER_NOT_FOUND:
    case API_ROLE_EXISTS:
    case API_ROLE_NOT_FOUND:
    case API_ROLE_NOT_GRANTED:
    case API_PERMISSION_NOT_GRANTED:
    case API_INVALID_AUTH_MANAGEMENT:
        return true;
    default:
        return false;
    }
}

/* Whether this caller may be answered so. */
static void check_caller(const struct owner *owner, enum api_error error)
{
    struct cluster *cluster = owner->users->cluster;
    bool is_certain = owner->stretch != 0 && owner->stretch == cluster->auth.stretch;
    bool is_on = is_certain && cluster->auth.is_on, is_off = is_certain && !cluster->auth.is_on;
    bool is_refused = cluster_is_refusal(error);
    if (is_refused && (is_off || (error == API_PERMISSION_DENIED && !owner->is_stranger)))
        cluster_fail(cluster, "owner %u was refused: %s", owner->number, api_error_text(error));
    if (is_on && owner->is_stranger && is_verdict(error))
        cluster_fail(cluster, "owner %u came as the guest and was let in", owner->number);
}

static void owned_changed(struct proposal *proposal, enum api_error error, struct slice response)
{
    (void)response;
    struct owner *owner = CONTAINER_OF(proposal, struct owner, proposal);
    struct users *users = owner->users;
    check_caller(owner, error);
    go_idle(owner);
    if (is_verdict(error)) {
        if (error != owner->expected)
            cluster_fail(users->cluster, "change %d of %u.%u was answered: %s, not: %s",
                         owner->change, owner->number, owner->generation, api_error_text(error),
                         api_error_text(owner->expected));
        if (error == API_OK)
            owner->owned = owner->after;
        users->stat.changes_count += error == API_OK;
        check_owned(owner, owner->member);
    } else if (cluster_is_refusal(error)) {
        users->stat.refused_count++;
        check_owned(owner, owner->member);
    } else if (!never_began(error)) {
        owner->generation++;
        owner->owned = (struct owned){0};
    }
}

static void looked(struct read_request *read, enum api_error error, uint32_t reader)
{
    (void)reader;
    struct owner *owner = CONTAINER_OF(read, struct owner, read);
    go_idle(owner);
    if (error != API_OK)
        return;
    check_owned(owner, owner->member);
    owner->users->stat.looks_count++;
}

static void auth_is(struct users *users, bool is_on)
{
    users->stat.switches_count++;
    users->switching = is_on ? SPOIL_ROOT : TURN_ON;
    if (!users->is_doubtful)
        users->cluster->auth = (struct cluster_auth){++users->stretches_count, is_on};
}

static void switched(struct proposal *proposal, enum api_error error, struct slice response)
{
    (void)response;
    struct owner *owner = CONTAINER_OF(proposal, struct owner, proposal);
    struct users *users = owner->users;
    check_caller(owner, error);
    if (is_verdict(error)) {
        /* What nobody could tell of may have made them. */
        bool is_made = users->switching < SPOIL_ROOT && error == API_USER_EXISTS;
        if (error != owner->expected && !is_made)
            cluster_fail(users->cluster, "switch %d was answered: %s", users->switching,
                         api_error_text(error));
        if (users->switching >= TURN_ON)
            auth_is(users, users->switching == TURN_ON);
        else
            users->switching = users->switching == SPOIL_ROOT   ? TURN_OFF
                               : users->switching == MAKE_GUEST ? TURN_ON
                                                                : users->switching + 1;
    } else if (!cluster_is_refusal(error) && !never_began(error) && users->switching >= TURN_ON) {
        users->is_doubtful = true;
        users->cluster->auth.stretch = 0;
    }
    go_idle(owner);
}

/* ---- requests ---- */

struct body {
    uint8_t bytes[BODY_BYTES_MAX];
    size_t size;
};

static void put_text(struct body *body, uint32_t field, struct slice text)
{
    if (text.len == 0)
        return;
    assert_true(text.len < 128 && body->size + 2 + text.len <= sizeof(body->bytes));
    body->bytes[body->size++] = (uint8_t)(field << 3 | 2);
    body->bytes[body->size++] = (uint8_t)text.len;
    memcpy(body->bytes + body->size, text.data, text.len);
    body->size += text.len;
}

static void put_password(struct body *body, uint32_t field, uint64_t number)
{
    char text[PASSWORD_BYTES + 1];
    uint8_t encoded[PASSWORD_BYTES * 2];
    struct slice password = password_text(number, text);
    base64_encode(BASE64_STANDARD, password, encoded);
    put_text(body, field,
             slice_make(encoded, base64_encoded_size(BASE64_STANDARD, PASSWORD_BYTES)));
}

static void put_permission(struct body *body, uint32_t key, uint32_t type)
{
    struct body permission = {.bytes = {1 << 3, (uint8_t)type}, .size = 2};
    char text[NAME_BYTES];
    put_text(&permission, 2, key_text(key, text));
    put_text(&permission, 3, range_end_of(key));
    put_text(body, 2, slice_make(permission.bytes, permission.size));
}

static void propose(struct owner *owner, enum internal_field field, const struct body *body,
                    void (*done)(struct proposal *, enum api_error, struct slice))
{
    struct cluster_member *m = member_of(owner);
    uint64_t id = loops_next_id(m->loops);
    const struct auth_caller caller = owner->is_stranger ? cluster_guest(m) : cluster_root(m);
    owner->stretch = owner->users->cluster->auth.stretch;
    owner->proposal =
        (struct proposal){.request.deadline_ns = cluster_local_ns(m) + DEADLINE_NS,
                          .id = id,
                          .payload = internal_request_payload_as(
                              field, slice_make(body->bytes, body->size), id, &caller),
                          .done = done};
    assert_non_null(owner->proposal.payload);
    loops_propose(m->loops, &owner->proposal);
}

static void begin_look(struct owner *owner)
{
    struct cluster_member *m = member_of(owner);
    owner->read = (struct read_request){.request.deadline_ns = cluster_local_ns(m) + DEADLINE_NS,
                                        .ready = looked};
    loops_read(m->loops, &owner->read);
}

static void begin_of_user(struct owner *owner)
{
    static const enum internal_field fields[] = {
        [USER_ADD] = INTERNAL_AUTH_USER_ADD,
        [USER_DELETE] = INTERNAL_AUTH_USER_DELETE,
        [USER_PASSWORD] = INTERNAL_AUTH_USER_CHANGE_PASSWORD,
        [USER_GRANT] = INTERNAL_AUTH_USER_GRANT_ROLE,
        [USER_REVOKE] = INTERNAL_AUTH_USER_REVOKE_ROLE,
    };
    char name[NAME_BYTES];
    struct body body = {.size = 0};
    uint64_t password = ++owner->users->passwords_count;
    put_text(&body, 1, name_of(owner, 'u', name));
    if (owner->change == USER_ADD)
        put_password(&body, 4, password);
    else if (owner->change == USER_PASSWORD)
        put_password(&body, 3, password);
    else if (owner->change != USER_DELETE)
        put_text(&body, 2, name_of(owner, 'r', name));
    owner->expected = expect_of_user(&owner->after, owner->change, password);
    propose(owner, fields[owner->change], &body, owned_changed);
}

static void begin_of_role(struct owner *owner)
{
    static const enum internal_field fields[] = {
        [ROLE_ADD] = INTERNAL_AUTH_ROLE_ADD,
        [ROLE_DELETE] = INTERNAL_AUTH_ROLE_DELETE,
        [ROLE_GRANT] = INTERNAL_AUTH_ROLE_GRANT_PERMISSION,
        [ROLE_REVOKE] = INTERNAL_AUTH_ROLE_REVOKE_PERMISSION,
    };
    char name[NAME_BYTES], text[NAME_BYTES];
    struct body body = {.size = 0};
    uint32_t key = (uint32_t)draw(owner->users, KEYS), type = (uint32_t)draw(owner->users, 3);
    put_text(&body, 1, name_of(owner, 'r', name));
    if (owner->change == ROLE_GRANT) {
        put_permission(&body, key, type);
    } else if (owner->change == ROLE_REVOKE) {
        put_text(&body, 2, key_text(key, text));
        put_text(&body, 3, range_end_of(key));
    }
    owner->expected = expect_of_role(&owner->after, owner->change, key, type);
    propose(owner, fields[owner->change], &body, owned_changed);
}

/* Mostly what can be done; what cannot has its answer, too. */
static enum change draw_change(struct owner *owner)
{
    const struct owned *owned = &owner->owned;
    uint64_t chance = draw(owner->users, 10);
    if (chance == 0)
        return (enum change)draw(owner->users, CHANGES_COUNT);
    if (chance < 3)
        return LOOK;
    if (!owned->has_user)
        return USER_ADD;
    if (!owned->has_role)
        return ROLE_ADD;
    if (!owned->is_granted)
        return USER_GRANT;
    static const enum change others[] = {USER_PASSWORD, ROLE_GRANT,  ROLE_GRANT, ROLE_REVOKE,
                                         USER_REVOKE,   USER_DELETE, ROLE_DELETE};
    return others[draw(owner->users, sizeof(others) / sizeof(others[0]))];
}

static void begin_switch(struct owner *owner)
{
    struct users *users = owner->users;
    struct body body = {.size = 0};
    enum internal_field field = INTERNAL_AUTH_ENABLE;
    owner->change = SWITCH;
    owner->expected = API_OK;
    switch (users->switching) {
    case MAKE_ROOT:
    case MAKE_GUEST:
        field = INTERNAL_AUTH_USER_ADD;
        put_text(&body, 1, users->switching == MAKE_ROOT ? SLICE(AUTH_ROOT) : SLICE("guest"));
        put_password(&body, 4, /* number= */ 0);
        break;
    case MAKE_ROOT_MIGHTY:
    case SPOIL_ROOT:
        field = users->switching == SPOIL_ROOT ? INTERNAL_AUTH_USER_REVOKE_ROLE
                                               : INTERNAL_AUTH_USER_GRANT_ROLE;
        owner->expected = users->switching == SPOIL_ROOT ? API_INVALID_AUTH_MANAGEMENT : API_OK;
        put_text(&body, 1, SLICE(AUTH_ROOT));
        put_text(&body, 2, SLICE(AUTH_ROOT));
        break;
    case TURN_ON:
    case TURN_OFF:
        users->cluster->auth.stretch = 0;
        field = users->switching == TURN_ON ? INTERNAL_AUTH_ENABLE : INTERNAL_AUTH_DISABLE;
        break;
    }
    propose(owner, field, &body, switched);
}

/* Any that runs. */
static bool choose_member(struct owner *owner)
{
    owner->member = (uint32_t)draw(owner->users, CLUSTER_MEMBERS_MAX);
    for (uint32_t i = 0; i < CLUSTER_MEMBERS_MAX && !member_of(owner)->running; i++)
        owner->member = (owner->member + 1) % CLUSTER_MEMBERS_MAX;
    return member_of(owner)->running && !member_of(owner)->quarantined;
}

static void begin(struct owner *owner)
{
    struct users *users = owner->users;
    if (!choose_member(owner)) {
        go_idle(owner);
        return;
    }
    owner->is_busy = true;
    owner->is_stranger = false;
    if (owner->number == 0) {
        begin_switch(owner);
        return;
    }
    owner->after = owner->owned;
    owner->change = draw_change(owner);
    owner->is_stranger = owner->change != LOOK && draw(users, 10) == 0 &&
                         machine_auth_enabled(member_of(owner)->machine);
    if (owner->change == LOOK)
        begin_look(owner);
    else if (owner->change < ROLE_ADD)
        begin_of_user(owner);
    else
        begin_of_role(owner);
}

void users_step(struct users *users)
{
    for (uint32_t i = 0; i < users->count; i++) {
        struct owner *owner = &users->items[i];
        if (!owner->is_busy && owner->next_ns <= users->cluster->now_ns)
            begin(owner);
    }
}

uint64_t users_next_ns(const struct users *users)
{
    uint64_t next_ns = UINT64_MAX;
    for (uint32_t i = 0; i < users->count; i++) {
        if (!users->items[i].is_busy)
            next_ns = min_u64(next_ns, users->items[i].next_ns);
    }
    return next_ns;
}

/* ---- life ---- */

struct users *users_new(struct cluster *cluster, uint32_t count)
{
    struct users *users = calloc(1, sizeof(*users) + (count + 1) * sizeof(struct owner));
    assert_non_null(users);
    users->cluster = cluster;
    users->count = count + 1;
    rng_seed(&users->rng, cluster->options.seed ^ 0x05e25);
    for (uint32_t i = 0; i < users->count; i++) {
        users->items[i].users = users;
        users->items[i].number = i;
        go_idle(&users->items[i]);
    }
    cluster->auth = (struct cluster_auth){++users->stretches_count, /* is_on= */ false};
    return users;
}

void users_free(struct users *users)
{
    free(users);
}

static bool are_answered(struct cluster *cluster, void *context)
{
    (void)cluster;
    const struct users *users = context;
    for (uint32_t i = 0; i < users->count; i++) {
        if (users->items[i].is_busy)
            return false;
    }
    return true;
}

void users_finish(struct users *users)
{
    cluster_until(users->cluster, are_answered, users, 60 * NS_PER_S, "answers about users");
}

void users_judge(struct users *users)
{
    for (uint32_t member = 0; member < CLUSTER_MEMBERS_MAX; member++) {
        if (!cluster_takes_part(users->cluster, member))
            continue;
        for (uint32_t i = 1; i < users->count; i++)
            check_owned(&users->items[i], member);
        const struct cluster_auth *auth = &users->cluster->auth;
        bool is_on = machine_auth_enabled(users->cluster->members[member].machine);
        if (auth->stretch != 0 && auth->is_on != is_on)
            cluster_fail(users->cluster, "auth of member %u is %s", member, is_on ? "on" : "off");
    }
}

void users_get_stat(const struct users *users, struct users_stat *out)
{
    *out = users->stat;
}
