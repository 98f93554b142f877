/* server/services/auth_caller.c - who calls, by the token in the call's metadata, and what they may
 * by this member's view of users and roles. */
#include "base/clock.h"
#include "server/run/log.h"
#include "server/services/auth_jwt.h"
#include "server/services/auth_simple.h"
#include "server/services/services_private.h"
#include "server/state/auth.h"
#include "server/state/lessor.h"
#include "server/state/machine.h"

#include <sys/random.h>

/* A simple token that names an index this far ahead of what this member knows is made up. */
#define TOKEN_AHEAD_MAX 100000U

/* ---- simple tokens, as apply tells of them ---- */

static void learn(void *context, struct slice user, struct slice token)
{
    struct services *services = context;
    uint64_t now_ns = clock_monotonic_ns(services->options.clock);
    if (simple_tokens_add(services->tokens, token, user, now_ns) != ST_OK)
        log_warn("cannot keep a token; its user has to authenticate again here",
                 LOG_STR("error", "out of memory"));
}

static void forget_user(void *context, struct slice user)
{
    struct services *services = context;
    simple_tokens_drop_user(services->tokens, user);
}

static void forget_all(void *context)
{
    struct services *services = context;
    simple_tokens_drop_all(services->tokens);
}

static enum status system_random(void *context, void *out, size_t bytes)
{
    (void)context;
    return getrandom(out, bytes, 0) == (ssize_t)bytes ? ST_OK : ST_IO;
}

enum status auth_open(struct services *services)
{
    struct services_auth *auth = &services->options.auth;
    if (auth->draw == NULL)
        auth->draw = system_random;
    if (auth->jwt != NULL || auth->no_tokens)
        return ST_OK;
    uint64_t ttl_s = auth->token_ttl_s == 0 ? SIMPLE_TOKEN_TTL_S_DEFAULT : auth->token_ttl_s;
    struct simple_tokens_options options = {.ttl_ns = ttl_s * NS_PER_S, .threaded = true};
    enum status st = auth->draw(auth->context, &options.seed, sizeof(options.seed));
    if (st == ST_OK)
        st = simple_tokens_new(&options, &services->tokens);
    if (st != ST_OK)
        return st;
    const struct auth_token_sink sink = {
        .context = services, .learn = learn, .forget_user = forget_user, .forget_all = forget_all};
    machine_set_token_sink(services->options.machine, &sink);
    return ST_OK;
}

/* Nothing is applied any more, so that nobody is told of tokens. */
void auth_close(struct services *services)
{
    simple_tokens_free(services->tokens);
}

/* ---- who calls ---- */

static bool token_of(const struct rpc_call *call, struct slice *out)
{
    return rpc_metadata_get(call, "token", out) == ST_OK ||
           rpc_metadata_get(call, "authorization", out) == ST_OK;
}

/* A simple token is as good as users and roles are now; a signed one knows those of its day. */
static enum status find(struct rpc_call *call, const struct auth_view *view, struct slice token,
                        struct auth_caller *out)
{
    const struct services *services = call->service;
    const struct clock *clock = services->options.clock;
    const struct jwt *jwt = services->options.auth.jwt;
    if (jwt != NULL)
        return jwt_verify(jwt, token, (int64_t)(clock_wall_ns(clock) / NS_PER_S), call->arena,
                          &out->name, &out->revision);
    if (services->tokens == NULL)
        return ST_NOT_FOUND;
    enum status st = simple_tokens_find(services->tokens, token, clock_monotonic_ns(clock),
                                        call->arena, &out->name);
    if (st == ST_OK)
        out->revision = auth_revision(view);
    return st;
}

/* Who has no token is nobody. (The name in a client's certificate comes here, once there are
 * connections with such.) */
static enum api_error recognise(struct rpc_call *call, const struct auth_view *view,
                                struct auth_caller *out)
{
    struct slice token;
    *out = (struct auth_caller){0};
    if (!auth_is_enabled(view) || !token_of(call, &token))
        return API_OK;
    enum status st = find(call, view, token, out);
    if (st == ST_OK)
        return API_OK;
    *out = (struct auth_caller){0};
    return st == ST_NO_MEMORY || st == ST_TOO_BIG ? api_error_of(st) : API_INVALID_AUTH_TOKEN;
}

/* ---- questions ---- */

struct question {
    struct auth_view *view; /* NULL: auth is off */
    struct auth_caller caller;
};

static enum api_error begin(struct rpc_call *call, struct question *question)
{
    const struct services *services = call->service;
    *question = (struct question){0};
    if (!machine_auth_enabled(services->options.machine))
        return API_OK;
    question->view = machine_auth(services->options.machine);
    return recognise(call, question->view, &question->caller);
}

static enum api_error end(struct question *question, enum api_error error)
{
    auth_view_unref(question->view);
    return error;
}

enum api_error auth_caller_of(struct rpc_call *call, struct auth_caller *out)
{
    struct question question;
    enum api_error error = begin(call, &question);
    *out = question.caller;
    return end(&question, error);
}

enum api_error auth_may_read(struct rpc_call *call, struct slice key, struct slice range_end)
{
    struct question question;
    enum api_error error = begin(call, &question);
    if (error == API_OK && question.view != NULL)
        error = auth_check_range(question.view, &question.caller, key, range_end, AUTH_READ);
    return end(&question, error);
}

enum api_error auth_may_watch(struct rpc_call *call, struct slice key, struct slice range_end)
{
    return auth_may_read(call, key, range_end);
}

static enum status each_attached(void *context, int64_t lease,
                                 enum status (*each)(void *context, struct slice key),
                                 void *each_context)
{
    struct rpc_call *call = context;
    const struct services *services = call->service;
    struct slice *keys = NULL;
    uint64_t count = 0;
    struct lessor *lessor = machine_lock_lessor(services->options.machine);
    enum status st = lessor_keys(lessor, lease, call->arena, &keys, &count);
    machine_unlock_lessor(services->options.machine);
    if (st == ST_NOT_FOUND) /* so says apply */
        return ST_OK;
    for (uint64_t i = 0; st == ST_OK && i < count; i++)
        st = each(each_context, keys[i]);
    return st;
}

enum api_error auth_may_txn(struct rpc_call *call, const struct kv_txn *txn)
{
    struct question question;
    const struct auth_leases leases = {.context = call, .each_key = each_attached};
    enum api_error error = begin(call, &question);
    if (error == API_OK && question.view != NULL)
        error = auth_check_txn(question.view, &question.caller, txn, &leases);
    return end(&question, error);
}

enum api_error auth_is_user(struct rpc_call *call)
{
    struct question question;
    enum api_error error = begin(call, &question);
    if (error == API_OK && question.view != NULL && auth_is_enabled(question.view)) {
        if (question.caller.revision == 0)
            error = API_USER_EMPTY;
        else if (auth_find_user(question.view, question.caller.name) == NULL)
            error = API_PERMISSION_DENIED;
    }
    return end(&question, error);
}

enum api_error auth_is_root(struct rpc_call *call)
{
    struct question question;
    enum api_error error = begin(call, &question);
    if (error == API_OK && question.view != NULL)
        error = auth_check_admin(question.view, &question.caller);
    return end(&question, error);
}

enum api_error auth_raw(enum api_error error)
{
    switch (error) {
    case API_USER_EMPTY:
        return API_RAW_USER_EMPTY;
    case API_USER_NOT_FOUND:
        return API_RAW_USER_NOT_FOUND;
    case API_PERMISSION_DENIED:
        return API_RAW_PERMISSION_DENIED;
    case API_INVALID_AUTH_TOKEN:
        return API_RAW_INVALID_AUTH_TOKEN;
    default:
        return error;
    }
}

uint64_t auth_revision_before(const struct rpc_call *call)
{
    const struct services *services = call->service;
    const struct machine *machine = services->options.machine;
    return machine_auth_enabled(machine) ? machine_auth_revision(machine) : 0;
}

enum api_error auth_is_unchanged(const struct rpc_call *call, uint64_t revision)
{
    const struct services *services = call->service;
    return revision == 0 || machine_auth_revision(services->options.machine) == revision
               ? API_OK
               : API_AUTH_OLD_REVISION;
}

/* ---- what this member does not know yet ---- */

static void caught_up(struct read_request *read, enum api_error error, uint32_t reader)
{
    (void)reader;
    (void)error; /* then it is judged by what is known */
    rpc_again(read->request.call);
}

/* False: it cannot be tried. */
static bool catch_up(struct rpc_call *call)
{
    struct services *services = call->service;
    struct loops_status status;
    loops_get_status(services->options.loops, &status);
    if (call->repeated || status.leader == 0)
        return false;
    struct read_request *read = ARENA_NEW(call->arena, struct read_request);
    if (read == NULL)
        return false;
    *read = (struct read_request){.request = {.kind = REQUEST_READ,
                                              .deadline_ns = request_deadline_ns(services),
                                              .call = call},
                                  .ready = caught_up};
    rpc_hold(call);
    loops_read(services->options.loops, read);
    return true;
}

void refuse_caller(struct rpc_call *call, enum api_error error)
{
    bool may_change = error == API_PERMISSION_DENIED || error == API_USER_NOT_FOUND ||
                      error == API_RAW_PERMISSION_DENIED || error == API_RAW_USER_NOT_FOUND;
    if (!may_change || !catch_up(call))
        finish_error(call, error);
}

/* The entry that made the token known is the one behind the index that it names. A token that is
 * not known once this member has caught up with the cluster is none, whatever it says. */
static bool may_be_ahead(const struct services *services, struct slice token)
{
    uint64_t index;
    struct loops_status status;
    if (simple_token_index(token, &index) != ST_OK)
        return false;
    loops_get_status(services->options.loops, &status);
    return index >= status.applied && index - status.applied < TOKEN_AHEAD_MAX;
}

bool auth_waits(struct rpc_call *call)
{
    const struct services *services = call->service;
    struct slice token;
    return services->tokens != NULL && !call->repeated && token_of(call, &token) &&
           may_be_ahead(services, token) && catch_up(call);
}
