/* server/services/auth_login.c - what has to do with passwords: Authenticate, UserAdd,
 * UserChangePassword. Hashing takes a tenth of a second by design, so it is given away
 * (services_auth.give), and only so many wait for it at a time. A plain password gets into the log
 * only while there may be members of 3.4, which know no other. */
#include "server/state/auth_bcrypt.h"
#include "server/services/auth_jwt.h"
#include "server/services/auth_simple.h"
#include "server/services/services_private.h"
#include "server/state/auth.h"
#include "server/state/machine.h"

#include "base/base64.h"
#include "base/list.h"

#include <stddef.h>

/* Passwords to be hashed or compared; at a cost of 10 a processor does some 15 a second. */
#define PASSWORDS_PENDING_MAX 256U

/* ---- work given away ---- */

static void run_now(void *context, struct slow_work *work)
{
    (void)context;
    work->run(work, /* stopping= */ false);
}

static void give(struct services *services, struct slow_work *work)
{
    const struct services_auth *auth = &services->options.auth;
    (auth->give == NULL ? run_now : auth->give)(auth->context, work);
}

/* With a password; what it was for is over when pending_end() is called. */
static bool pending_begin(struct services *services)
{
    if (atomic_fetch_add(&services->passwords_pending, 1) < PASSWORDS_PENDING_MAX)
        return true;
    atomic_fetch_sub(&services->passwords_pending, 1);
    return false;
}

static void pending_end(struct services *services)
{
    atomic_fetch_sub(&services->passwords_pending, 1);
}

/* Who has waited in vain does not get a tenth of a second more. */
static enum api_error check_time(const struct rpc_call *call, bool stopping)
{
    const struct services *services = call->service;
    if (stopping)
        return API_STOPPED;
    return clock_monotonic_ns(services->options.clock) >= call->deadline_ns ? API_DEADLINE_EXCEEDED
                                                                            : API_OK;
}

/* ---- UserAdd, UserChangePassword ---- */

struct new_password {
    struct read_request read;
    struct slow_work work;
    enum internal_field field;
    struct slice name, password, options;
    bool no_password;
};

enum { USER_NAME = 1, USER_PASSWORD, USER_OPTIONS, USER_HASHED };
enum { CHANGE_HASHED = 3 }; /* name and password as above */

static enum api_error hash(struct rpc_call *call, struct slice password, struct slice *out)
{
    const struct services *services = call->service;
    const struct services_auth *auth = &services->options.auth;
    uint8_t salt[BCRYPT_SALT_BYTES];
    char text[BCRYPT_HASH_BYTES];
    size_t size = base64_encoded_size(BASE64_STANDARD, sizeof(text));
    uint8_t *encoded = arena_alloc_raw(call->arena, size);
    enum status st = encoded == NULL ? ST_NO_MEMORY : ST_OK;
    if (st == ST_OK)
        st = auth->draw(auth->context, salt, sizeof(salt));
    if (st != ST_OK)
        return api_error_of(st);
    uint32_t cost = auth->bcrypt_cost == 0 ? BCRYPT_COST_DEFAULT : auth->bcrypt_cost;
    st = bcrypt_hash(password, cost, salt, text);
    if (st == ST_TOO_BIG)
        return API_PASSWORD_TOO_LONG;
    if (st == ST_INVALID)
        return API_PASSWORD_UNUSABLE;
    if (st != ST_OK)
        return api_error_of(st);
    base64_encode(BASE64_STANDARD, slice_make(text, sizeof(text)), encoded);
    *out = slice_make(encoded, size);
    return API_OK;
}

/* A member of 3.4 passes over the hash and would take the password for empty; one of 3.5, and this
 * one, take the hash where there are both. */
static bool is_plain_needed(struct rpc_call *call)
{
    const struct services *services = call->service;
    return machine_is_cluster_old(services->options.machine);
}

static void propose_password(struct rpc_call *call, const struct new_password *new,
                             struct slice hashed)
{
    bool adds = new->field == INTERNAL_AUTH_USER_ADD;
    struct wire_out out;
    struct slice body;
    wire_out_init(&out, call->arena, /* gap= */ 0);
    if (new->name.len > 0)
        wire_put_bytes(&out, USER_NAME, new->name);
    if (hashed.len > 0 && new->password.len > 0 && is_plain_needed(call))
        wire_put_bytes(&out, USER_PASSWORD, new->password);
    if (adds && new->options.data != NULL)
        wire_put_bytes(&out, USER_OPTIONS, new->options);
    if (hashed.len > 0)
        wire_put_bytes(&out, adds ? USER_HASHED : CHANGE_HASHED, hashed);
    enum api_error error = api_error_of(wire_out_finish(&out, &body));
    if (error == API_OK)
        error = auth_check_change(new->field, body);
    if (error != API_OK)
        finish_error(call, error);
    else
        propose_body(call, new->field, body);
}

static void run_hash(struct slow_work *work, bool stopping)
{
    struct new_password *new = CONTAINER_OF(work, struct new_password, work);
    struct rpc_call *call = new->read.request.call;
    struct services *services = call->service;
    struct slice hashed;
    enum api_error error = check_time(call, stopping);
    if (error == API_OK)
        error = hash(call, new->password, &hashed);
    pending_end(services);
    if (error != API_OK)
        finish_error(call, error);
    else
        propose_password(call, new, hashed);
}

static void hash_elsewhere(struct rpc_call *call, struct new_password *new)
{
    if (!pending_begin(call->service)) {
        finish_error(call, API_TOO_MANY_REQUESTS);
        return;
    }
    new->work.run = run_hash;
    give(call->service, &new->work);
}

/* Apply judges the caller; here nobody's password is hashed for nothing. */
static void may_set(struct read_request *read, enum api_error error, uint32_t reader)
{
    (void)reader;
    struct new_password *new = CONTAINER_OF(read, struct new_password, read);
    if (error != API_OK) {
        finish_later(read->request.call, error, SLICE_EMPTY);
        return;
    }
    error = auth_is_root(read->request.call);
    if (error != API_OK)
        finish_error(read->request.call, error);
    else
        hash_elsewhere(read->request.call, new);
}

static void set_password(struct rpc_call *call, struct new_password *new)
{
    struct services *services = call->service;
    new->read = (struct read_request){.request = {.kind = REQUEST_READ,
                                                  .deadline_ns = request_deadline_ns(services),
                                                  .call = call},
                                      .ready = may_set};
    /* As etcd 3.5 has it, a change to the empty password leaves none that could match. */
    bool takes_away = new->field == INTERNAL_AUTH_USER_CHANGE_PASSWORD &&new->password.len == 0;
    if (new->no_password || takes_away)
        propose_password(call, new, SLICE_EMPTY);
    else if (machine_auth_enabled(services->options.machine))
        loops_read(services->options.loops, &new->read);
    else
        hash_elsewhere(call, new);
}

static bool read_options(struct new_password *new)
{
    struct options {
        bool no_password;
    } options = {0};
    static const struct wire_slot slots[] = {
        {WIRE_SLOT_BOOL, offsetof(struct options, no_password)}};
    if (wire_decode(new->options, slots, METHODS_OF(slots), &options) != ST_OK)
        return false;
    new->no_password = options.no_password;
    return true;
}

static void on_password(struct rpc_call *call, enum internal_field field)
{
    static const struct wire_slot slots[] = {
        {WIRE_SLOT_BYTES, offsetof(struct new_password, name)},
        {WIRE_SLOT_BYTES, offsetof(struct new_password, password)},
        {WIRE_SLOT_BYTES, offsetof(struct new_password, options)}};
    bool adds = field == INTERNAL_AUTH_USER_ADD;
    struct new_password *new = ARENA_NEW(call->arena, struct new_password);
    if (new == NULL) {
        finish_error(call, API_NO_MEMORY);
        return;
    }
    new->field = field;
    enum api_error error = admit_write(call->service, /* cost= */ 0);
    if (error == API_OK &&
        (wire_decode(call->message, slots, adds ? 3 : 2, new) != ST_OK || !read_options(new)))
        error = API_UNDECODABLE;
    if (error != API_OK)
        finish_error(call, error);
    else
        set_password(call, new);
}

void on_user_add(struct rpc_call *call)
{
    on_password(call, INTERNAL_AUTH_USER_ADD);
}

void on_user_change_password(struct rpc_call *call)
{
    on_password(call, INTERNAL_AUTH_USER_CHANGE_PASSWORD);
}

/* ---- Authenticate ---- */

struct login {
    struct read_request read;
    struct slow_work work;
    struct slice name, password;
    struct slice hash; /* of the user's password as of users_revision; in the arena */
    uint64_t users_revision;
    uint64_t deadline_ns;
    struct slice response; /* of apply: the header, and the simple token */
};

enum { LOGIN_NAME = 1, LOGIN_SIMPLE_TOKEN = 3 }; /* InternalAuthenticateRequest */
enum { LOGIN_TOKEN = 2 };                        /* AuthenticateResponse */

static void begin_login(struct login *login);

static void log_in(struct login *login, enum api_error error, bool later)
{
    struct rpc_call *call = login->read.request.call;
    pending_end(call->service);
    if (later)
        finish_later(call, error, login->response);
    else
        rpc_finish(call, (enum rpc_code)api_error_code(error), api_error_text(error),
                   login->response);
}

static struct login *login_of(const struct slow_work *work)
{
    return CONTAINER_OF(work, struct login, work);
}

/* A token of etcd's other kind: only its proposer has it signed. */
static void run_sign(struct slow_work *work, bool stopping)
{
    struct login *login = login_of(work);
    struct rpc_call *call = login->read.request.call;
    const struct services *services = call->service;
    int64_t now_s = (int64_t)(clock_wall_ns(services->options.clock) / NS_PER_S);
    struct slice token;
    enum api_error error = check_time(call, stopping);
    if (error == API_OK)
        error = api_error_of(jwt_sign(services->options.auth.jwt, login->name,
                                      login->users_revision, now_s, call->arena, &token));
    struct wire_out out;
    wire_out_init(&out, call->arena, /* gap= */ 0);
    if (error == API_OK) {
        uint8_t *room = wire_reserve(&out, login->response.len);
        if (room != NULL && login->response.len > 0)
            memcpy(room, login->response.data, login->response.len);
        wire_put_bytes(&out, LOGIN_TOKEN, token);
        error = api_error_of(wire_out_finish(&out, &login->response));
    }
    log_in(login, error, /* later= */ false);
}

static struct login *login_of_call(struct rpc_call *call)
{
    return call->state;
}

/* Somebody may have changed the password since it was compared: then it is compared once more. */
static void login_applied(struct proposal *proposal, enum api_error error, struct slice response)
{
    struct rpc_call *call = proposal->request.call;
    struct login *login = login_of_call(call);
    struct services *services = call->service;
    if (error != API_OK) {
        log_in(login, error, /* later= */ true);
        return;
    }
    bool is_current = machine_auth_revision(services->options.machine) == login->users_revision;
    login->response = response;
    if (!is_current) {
        begin_login(login);
    } else if (services->options.auth.jwt != NULL) {
        login->work.run = run_sign;
        give(services, &login->work);
    } else {
        log_in(login, API_OK, /* later= */ true);
    }
}

static enum api_error draw_token(struct rpc_call *call, struct wire_out *out)
{
    const struct services *services = call->service;
    const struct services_auth *auth = &services->options.auth;
    uint8_t random[SIMPLE_TOKEN_LETTERS];
    char letters[SIMPLE_TOKEN_LETTERS];
    if (services->tokens == NULL)
        return API_OK;
    enum status st = auth->draw(auth->context, random, sizeof(random));
    if (st != ST_OK)
        return api_error_of(st);
    simple_token_letters(random, letters);
    wire_put_bytes(out, LOGIN_SIMPLE_TOKEN, slice_make(letters, sizeof(letters)));
    return API_OK;
}

static enum api_error propose_login(struct login *login)
{
    struct rpc_call *call = login->read.request.call;
    struct wire_out out;
    struct slice body;
    wire_out_init(&out, call->arena, /* gap= */ 0);
    wire_put_bytes(&out, LOGIN_NAME, login->name);
    enum api_error error = draw_token(call, &out);
    if (error == API_OK)
        error = api_error_of(wire_out_finish(&out, &body));
    if (error == API_OK)
        error = propose_as(call, INTERNAL_AUTHENTICATE, body, /* caller= */ NULL, /* cost= */ 0,
                           login_applied);
    return error;
}

static enum api_error compare(const struct login *login)
{
    enum status st = bcrypt_compare(login->password, login->hash);
    if (st == ST_INVALID)
        return API_AUTH_FAILED;
    return api_error_of(st);
}

static enum api_error check_provider(const struct services *services)
{
    const struct services_auth *auth = &services->options.auth;
    if (auth->no_tokens)
        return API_AUTH_FAILED;
    return auth->jwt != NULL && !jwt_can_sign(auth->jwt) ? API_VERIFY_ONLY : API_OK;
}

static void run_compare(struct slow_work *work, bool stopping)
{
    struct login *login = login_of(work);
    struct rpc_call *call = login->read.request.call;
    enum api_error error = check_time(call, stopping);
    if (error == API_OK)
        error = compare(login);
    if (error == API_OK)
        error = check_provider(call->service);
    if (error == API_OK)
        error = propose_login(login);
    if (error != API_OK)
        log_in(login, error, /* later= */ false);
}

static enum api_error find_hash(struct login *login, const struct auth_view *view)
{
    if (!auth_is_enabled(view))
        return API_AUTH_NOT_ENABLED;
    const struct auth_user *user = auth_find_user(view, login->name);
    if (user == NULL)
        return API_AUTH_FAILED;
    if (user->has_options && user->no_password)
        return API_NO_PASSWORD_USER;
    login->users_revision = auth_revision(view);
    return api_error_of(arena_copy(login->read.request.call->arena, user->password, &login->hash));
}

static void login_ready(struct read_request *read, enum api_error error, uint32_t reader)
{
    (void)reader;
    struct login *login = CONTAINER_OF(read, struct login, read);
    struct services *services = read->request.call->service;
    if (error == API_OK) {
        struct auth_view *view = machine_auth(services->options.machine);
        error = find_hash(login, view);
        auth_view_unref(view);
    }
    if (error != API_OK) {
        log_in(login, error, /* later= */ true);
        return;
    }
    login->work.run = run_compare;
    give(services, &login->work);
}

static void begin_login(struct login *login)
{
    struct rpc_call *call = login->read.request.call;
    struct services *services = call->service;
    login->response = SLICE_EMPTY;
    login->read = (struct read_request){
        .request = {.kind = REQUEST_READ, .deadline_ns = login->deadline_ns, .call = call},
        .ready = login_ready};
    loops_read(services->options.loops, &login->read);
}

void on_authenticate(struct rpc_call *call)
{
    static const struct wire_slot slots[] = {{WIRE_SLOT_BYTES, offsetof(struct login, name)},
                                             {WIRE_SLOT_BYTES, offsetof(struct login, password)}};
    struct services *services = call->service;
    struct login *login = ARENA_NEW(call->arena, struct login);
    enum api_error error = login == NULL ? API_NO_MEMORY : API_OK;
    if (error == API_OK && wire_decode(call->message, slots, METHODS_OF(slots), login) != ST_OK)
        error = API_UNDECODABLE;
    if (error == API_OK && !pending_begin(services))
        error = API_TOO_MANY_REQUESTS;
    if (error != API_OK) {
        finish_error(call, error);
        return;
    }
    call->state = login;
    login->read.request.call = call;
    login->deadline_ns = request_deadline_ns(services);
    begin_login(login);
}
