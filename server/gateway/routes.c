#include "server/gateway/routes.h"

#include "base/assert.h"
#include "base/slice.h"
#include "proto/election.pb-c.h"
#include "proto/lock.pb-c.h"
#include "proto/rpc.pb-c.h"

#define KV(path, name)                                                             \
    {                                                                              \
        "/v3/" path, "/etcdserverpb.KV/" name, &etcdserverpb__kv__descriptor, NULL \
    }
#define LEASE(path, name)                                                                \
    {                                                                                    \
        "/v3/" path, "/etcdserverpb.Lease/" name, &etcdserverpb__lease__descriptor, NULL \
    }
#define CLUSTER(path, name)                                                                     \
    {                                                                                           \
        "/v3/cluster/" path, "/etcdserverpb.Cluster/" name, &etcdserverpb__cluster__descriptor, \
            NULL                                                                                \
    }
#define MAINTENANCE(path, name)                                     \
    {                                                               \
        "/v3/maintenance/" path, "/etcdserverpb.Maintenance/" name, \
            &etcdserverpb__maintenance__descriptor, NULL            \
    }
#define AUTH(path, name)                                                                    \
    {                                                                                       \
        "/v3/auth/" path, "/etcdserverpb.Auth/" name, &etcdserverpb__auth__descriptor, NULL \
    }
#define LOCK(path, name)                                                            \
    {                                                                               \
        "/v3/lock/" path, "/v3lockpb.Lock/" name, &v3lockpb__lock__descriptor, NULL \
    }
#define ELECTION(path, name)                                                                       \
    {                                                                                              \
        "/v3/election/" path, "/v3electionpb.Election/" name, &v3electionpb__election__descriptor, \
            NULL                                                                                   \
    }

static const struct route routes[] = {
    KV("kv/range", "Range"),
    KV("kv/put", "Put"),
    KV("kv/deleterange", "DeleteRange"),
    KV("kv/txn", "Txn"),
    KV("kv/compaction", "Compact"),
    {"/v3/watch", "/etcdserverpb.Watch/Watch", &etcdserverpb__watch__descriptor, NULL},
    LEASE("lease/grant", "LeaseGrant"),
    LEASE("lease/revoke", "LeaseRevoke"),
    LEASE("kv/lease/revoke", "LeaseRevoke"),
    LEASE("lease/keepalive", "LeaseKeepAlive"),
    LEASE("lease/timetolive", "LeaseTimeToLive"),
    LEASE("kv/lease/timetolive", "LeaseTimeToLive"),
    LEASE("lease/leases", "LeaseLeases"),
    LEASE("kv/lease/leases", "LeaseLeases"),
    CLUSTER("member/add", "MemberAdd"),
    CLUSTER("member/remove", "MemberRemove"),
    CLUSTER("member/update", "MemberUpdate"),
    CLUSTER("member/list", "MemberList"),
    CLUSTER("member/promote", "MemberPromote"),
    MAINTENANCE("alarm", "Alarm"),
    MAINTENANCE("status", "Status"),
    MAINTENANCE("defragment", "Defragment"),
    MAINTENANCE("hash", "Hash"),
    MAINTENANCE("hashkv", "HashKV"),
    MAINTENANCE("snapshot", "Snapshot"),
    MAINTENANCE("transfer-leadership", "MoveLeader"),
    MAINTENANCE("downgrade", "Downgrade"),
    AUTH("enable", "AuthEnable"),
    AUTH("disable", "AuthDisable"),
    AUTH("status", "AuthStatus"),
    AUTH("authenticate", "Authenticate"),
    AUTH("user/add", "UserAdd"),
    AUTH("user/get", "UserGet"),
    AUTH("user/list", "UserList"),
    AUTH("user/delete", "UserDelete"),
    AUTH("user/changepw", "UserChangePassword"),
    AUTH("user/grant", "UserGrantRole"),
    AUTH("user/revoke", "UserRevokeRole"),
    AUTH("role/add", "RoleAdd"),
    AUTH("role/get", "RoleGet"),
    AUTH("role/list", "RoleList"),
    AUTH("role/delete", "RoleDelete"),
    AUTH("role/grant", "RoleGrantPermission"),
    AUTH("role/revoke", "RoleRevokePermission"),
    LOCK("lock", "Lock"),
    LOCK("unlock", "Unlock"),
    ELECTION("campaign", "Campaign"),
    ELECTION("proclaim", "Proclaim"),
    ELECTION("leader", "Leader"),
    ELECTION("observe", "Observe"),
    ELECTION("resign", "Resign"),
};
#define ROUTES_COUNT ((uint32_t)(sizeof(routes) / sizeof(routes[0])))

uint32_t routes_fill(struct route *out)
{
    for (uint32_t i = 0; out != NULL && i < ROUTES_COUNT; i++) {
        out[i] = routes[i];
        const char *name = strrchr(routes[i].method, '/') + 1;
        out[i].messages = protobuf_c_service_descriptor_get_method_by_name(routes[i].service, name);
        ASSERT(out[i].messages != NULL);
    }
    return ROUTES_COUNT;
}
