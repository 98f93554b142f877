#include "server/run/cluster_watch.h"

#include "base/list.h"
#include "server/config/config.h"
#include "server/metrics/metrics.h"
#include "server/run/ask.h"
#include "base/clock_real.h"
#include "server/run/log.h"
#include "server/state/cluster_version.h"
#include "server/state/machine.h"

#include <inttypes.h>
#include <stdio.h>

#define INTERVAL_NS (4 * NS_PER_S) /* etcd's */
#define ASK_MS 2000U
#define ARENA_BYTES_MAX (1U << 20)

static bool leads(const struct cluster_watch *w)
{
    struct loops_status status;
    loops_get_status(w->loops, &status);
    return status.is_leader;
}

static void version_proposed(struct proposal *proposal, enum api_error error, struct slice response)
{
    (void)response;
    struct cluster_watch *w = CONTAINER_OF(proposal, struct cluster_watch, proposal);
    if (error != API_OK && error != API_STOPPED)
        log_warn("failed to update cluster version; trying again",
                 LOG_STR("error", api_error_text(error)));
    atomic_store(&w->is_proposing, false);
}

static void propose(struct cluster_watch *w, const char *current, const char *version)
{
    uint64_t id = loops_next_id(w->loops);
    struct raft_payload *payload = machine_version_payload(id, version);
    if (payload == NULL)
        return; /* no memory: the next look tries again */
    if (current[0] == '\0')
        log_info("setting up initial cluster version using v2 API",
                 LOG_STR("cluster-version", version));
    else
        log_info("updating cluster version using v2 API", LOG_STR("from", current),
                 LOG_STR("to", version));
    atomic_store(&w->is_proposing, true);
    w->proposal = (struct proposal){
        .request = {.kind = REQUEST_PROPOSAL,
                    .deadline_ns = clock_monotonic_ns(clock_real()) + w->timeout_ns},
        .payload = payload,
        .id = id,
        .done = version_proposed};
    loops_propose(w->loops, &w->proposal);
}

/* "etcdserver" of every member, "" where it does not answer. */
static uint32_t ask_servers(struct cluster_watch *w, struct arena *arena, struct slice *servers)
{
    struct members *members = machine_members(w->machine);
    uint32_t count = members_count(members);
    for (uint32_t i = 0; i < count; i++) {
        const struct member_row *row = members_at(members, i);
        struct asked_version version = {.server = SLICE(CONFIG_API_VERSION)};
        if (row->id != w->member_id && ask_version(row, ASK_MS, arena, &version) != ST_OK)
            log_warn("failed to get version of remote peer", LOG_HEX("remote-peer-id", row->id));
        servers[i] = version.server;
    }
    members_unref(members);
    return count;
}

static void look_at_versions(struct cluster_watch *w)
{
    char current[VERSION_TEXT_BYTES], version[VERSION_TEXT_BYTES];
    struct slice servers[MEMBERS_MAX];
    struct arena arena;
    arena_init(&arena, ARENA_BYTES_MAX);
    uint32_t count = ask_servers(w, &arena, servers);
    machine_cluster_version(w->machine, current);
    if (cluster_version_decide(servers, count, current, version) && leads(w))
        propose(w, current, version);
    arena_deinit(&arena);
}

static uint64_t step(void *context, uint64_t now_ns)
{
    struct cluster_watch *w = context;
    if (!leads(w))
        return UINT64_MAX;
    if (!atomic_load(&w->is_proposing))
        look_at_versions(w);
    return now_ns + INTERVAL_NS;
}

enum status cluster_watch_start(struct cluster_watch *w)
{
    enum status st = thread_init(&w->thread, "cluster-watch", clock_real(), step, w);
    return st == ST_OK ? thread_start(&w->thread) : st;
}

/* etcd's words, but for the term, which is that of the look. */
static void log_leader(const struct cluster_watch *w, const struct loops_status *status)
{
    char text[160];
    if (w->leader_seen == 0)
        snprintf(text, sizeof(text),
                 "raft.node: %" PRIx64 " elected leader %" PRIx64 " at term %" PRIu64, w->member_id,
                 status->leader, status->term);
    else if (status->leader == 0)
        snprintf(text, sizeof(text),
                 "raft.node: %" PRIx64 " lost leader %" PRIx64 " at term %" PRIu64, w->member_id,
                 w->leader_seen, status->term);
    else
        snprintf(text, sizeof(text),
                 "raft.node: %" PRIx64 " changed leader from %" PRIx64 " to %" PRIx64
                 " at term %" PRIu64,
                 w->member_id, w->leader_seen, status->leader, status->term);
    log_info(text);
}

/* The series of the version in force is 1, the one before goes to 0. */
static void show_version(const char *version, int64_t value)
{
    char label[VERSION_TEXT_BYTES];
    snprintf(label, sizeof(label), "%s", version);
    char *patch = strrchr(label, '.'); /* "3.5.0" is shown as "3.5" */
    if (patch == NULL)
        return;
    *patch = '\0';
    const char *pairs[] = {"cluster_version", label, NULL};
    metrics_child_set(metrics_child(METRIC_CLUSTER_VERSION, pairs), value);
}

static void look_at_version(struct cluster_watch *w)
{
    char version[VERSION_TEXT_BYTES];
    machine_cluster_version(w->machine, version);
    if (strcmp(version, w->version_seen) == 0)
        return;
    if (w->version_seen[0] == '\0')
        log_info("set initial cluster version", LOG_STR("cluster-version", version));
    else
        log_info("updated cluster version", LOG_STR("from", w->version_seen),
                 LOG_STR("to", version));
    show_version(w->version_seen, 0);
    show_version(version, 1);
    memcpy(w->version_seen, version, sizeof(version));
}

static void look_at_auth(struct cluster_watch *w)
{
    bool enabled = machine_auth_enabled(w->machine);
    if (enabled != w->auth_seen)
        log_info(enabled ? "enabled authentication" : "disabled authentication");
    w->auth_seen = enabled;
}

void cluster_watch_look(struct cluster_watch *w)
{
    struct loops_status status;
    loops_get_status(w->loops, &status);
    if (status.is_leader && !w->was_leader)
        thread_wake(&w->thread);
    if (status.leader != w->leader_seen)
        log_leader(w, &status);
    look_at_version(w);
    look_at_auth(w);
    w->was_leader = status.is_leader;
    w->leader_seen = status.leader;
}

void cluster_watch_stop(struct cluster_watch *w)
{
    if (w->loops == NULL)
        return;
    thread_stop(&w->thread);
    thread_deinit(&w->thread);
}
