/* server/services/auth_caller.c - who calls, and what they may. A store that lets in only users is
 * not served yet, so nobody may anything in it. */
#include "server/services/services_private.h"
#include "server/state/machine.h"

static enum api_error judge(const struct rpc_call *call)
{
    const struct services *services = call->service;
    return machine_auth_enabled(services->options.machine) ? API_AUTH_UNSUPPORTED : API_OK;
}

enum api_error auth_may_read(struct rpc_call *call, struct slice key, struct slice range_end)
{
    (void)key;
    (void)range_end;
    return judge(call);
}

enum api_error auth_may_watch(struct rpc_call *call, struct slice key, struct slice range_end)
{
    return auth_may_read(call, key, range_end);
}

enum api_error auth_is_user(struct rpc_call *call)
{
    return judge(call);
}

enum api_error auth_is_root(struct rpc_call *call)
{
    return judge(call);
}
