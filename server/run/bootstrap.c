#include "server/run/bootstrap.h"

#include "base/arena.h"
#include "server/config/config.h"
#include "server/run/ask.h"
#include "server/run/log.h"
#include "server/run/same_address.h"
#include "server/state/bootstrap.h"
#include "server/state/cluster_version.h"

#include <stdio.h>
#include <stdlib.h>

#define BOOTSTRAP_ARENA_BYTES_MAX (16U << 20)
#define ASK_FOUNDING_MS 1000U /* each; most are not there yet */
#define ASK_JOINING_MS 10000U

/* What is needed while it is decided. */
struct deciding {
    const struct bootstrap_options *options;
    struct slice name;
    struct arena arena;
    struct initial_cluster *cluster;
    struct url_resolver resolver;
    const char *problem; /* NULL: none */
};

static enum status refuse(struct deciding *d, const char *problem)
{
    d->problem = problem;
    return problem == NULL ? ST_OK : ST_INVALID;
}

static enum status read_cluster(struct deciding *d)
{
    const struct bootstrap_options *o = d->options;
    struct slice urls[MEMBER_URLS_MAX];
    uint32_t count = o->peer_urls_count < MEMBER_URLS_MAX ? o->peer_urls_count : MEMBER_URLS_MAX;
    for (uint32_t i = 0; i < count; i++)
        urls[i] = slice_from_str(o->peer_urls[i]);
    enum status st =
        initial_cluster_parse(slice_from_str(o->initial_cluster), slice_from_str(o->token),
                              &d->arena, d->cluster, &d->problem);
    if (st != ST_OK)
        return st;
    return refuse(d, initial_cluster_check(d->cluster, d->name, urls, count, !o->is_existing,
                                           &d->resolver, &d->arena));
}

/* ---- founding ---- */

/* Others that run may know this member as one that has run before: its log is lost, and founding
 * the cluster again would let it forget what it promised. */
static enum status check_never_ran(struct deciding *d)
{
    const struct slice *urls;
    uint32_t count;
    struct members *members;
    uint64_t cluster_id;
    enum status st = initial_cluster_remote_urls(d->cluster, d->name, &d->arena, &urls, &count);
    if (st == ST_OK)
        st = ask_members(urls, count, ASK_FOUNDING_MS, /* quiet= */ true, &members, &cluster_id);
    if (st == ST_NOT_FOUND)
        return ST_OK;
    if (st == ST_OK)
        st = refuse(d, initial_cluster_already_ran(d->cluster, d->name, members, &d->arena));
    members_unref(members);
    return st;
}

static enum status found(struct deciding *d, struct bootstrap *out)
{
    enum status st = check_never_ran(d);
    if (st == ST_OK)
        st = initial_cluster_changes(d->cluster, out->changes);
    if (st == ST_OK)
        out->changes_count = d->cluster->count;
    return st;
}

/* ---- joining ---- */

static enum status check_version(struct deciding *d, const struct members *existing)
{
    struct version own;
    struct slice clusters[MEMBERS_MAX];
    uint32_t count = 0;
    bool downgrade = false, asked = false;
    enum status st = version_parse(SLICE(CONFIG_API_VERSION), &own);
    for (uint32_t i = 0; i < members_count(existing) && st == ST_OK; i++) {
        const struct member_row *row = members_at(existing, i);
        const struct member_row *self = initial_cluster_find(d->cluster, d->name);
        struct asked_version version;
        if (self != NULL && self->id == row->id)
            continue;
        st = ask_version(row, ASK_FOUNDING_MS, &d->arena, &version);
        if (st == ST_OK && !asked)
            asked = ask_downgrade(row, ASK_FOUNDING_MS, &downgrade) == ST_OK;
        if (st == ST_NOT_FOUND) {
            log_warn("failed to get version of remote peer", LOG_HEX("remote-peer-id", row->id));
            st = ST_OK;
        }
        clusters[count++] = version.cluster;
    }
    if (st == ST_OK && !cluster_version_is_joinable(clusters, count, own, downgrade))
        st = refuse(d, "incompatible with current running cluster");
    return st;
}

/* "[http://..,http://..]", as far as it fits. */
static const char *list(struct deciding *d, const struct slice *urls, uint32_t count)
{
    size_t size = 3;
    for (uint32_t i = 0; i < count; i++)
        size += urls[i].len + 1;
    char *text = arena_alloc(&d->arena, size), *end = text;
    if (text == NULL)
        return "";
    for (uint32_t i = 0; i < count; i++)
        end += snprintf(end, size - (size_t)(end - text), "%s%.*s", i == 0 ? "" : " ",
                        (int)urls[i].len, (const char *)urls[i].data);
    return text;
}

static enum status adopt(struct deciding *d, const struct members *existing, uint64_t cluster_id,
                         const struct slice *urls, uint32_t count)
{
    const char *why =
        initial_cluster_assign_ids(d->cluster, existing, cluster_id, &d->resolver, &d->arena);
    if (why == NULL)
        return check_version(d, existing);
    size_t size = strlen(why) + MEMBER_TEXT_MAX;
    char *text = arena_alloc(&d->arena, size);
    if (text == NULL)
        return refuse(d, why);
    snprintf(text, size, "error validating peerURLs {ClusterID:%llx PeerURLs:[%s]}: %s",
             (unsigned long long)cluster_id, list(d, urls, count), why);
    return refuse(d, text);
}

static enum status join(struct deciding *d, struct bootstrap *out)
{
    const struct slice *urls;
    uint32_t count;
    uint64_t cluster_id;
    enum status st = initial_cluster_remote_urls(d->cluster, d->name, &d->arena, &urls, &count);
    if (st == ST_OK)
        st = ask_members(urls, count, ASK_JOINING_MS, /* quiet= */ false, &out->existing,
                         &cluster_id);
    if (st == ST_NOT_FOUND)
        return refuse(d, "cannot fetch cluster info from peer urls: could not retrieve cluster "
                         "information from the given URLs");
    return st == ST_OK ? adopt(d, out->existing, cluster_id, urls, count) : st;
}

/* ---- both ---- */

static enum status decide(struct deciding *d, struct bootstrap *out)
{
    enum status st = read_cluster(d);
    if (st == ST_OK)
        st = d->options->is_existing ? join(d, out) : found(d, out);
    if (st == ST_OK) {
        out->member_id = initial_cluster_find(d->cluster, d->name)->id;
        out->cluster_id = d->cluster->cluster_id;
    }
    return st;
}

enum status bootstrap_begin(const struct bootstrap_options *options, struct bootstrap *out,
                            char *why, size_t why_bytes)
{
    *out = (struct bootstrap){0};
    struct deciding d = {.options = options,
                         .name = slice_from_str(options->name),
                         .resolver = {.equal = same_addresses}};
    arena_init(&d.arena, BOOTSTRAP_ARENA_BYTES_MAX);
    d.cluster = ARENA_NEW(&d.arena, struct initial_cluster);
    enum status st = d.cluster == NULL ? ST_NO_MEMORY : decide(&d, out);
    if (st != ST_OK) {
        snprintf(why, why_bytes, "%s", d.problem != NULL ? d.problem : status_str(st));
        bootstrap_end(out);
    }
    arena_deinit(&d.arena);
    return st;
}

void bootstrap_end(struct bootstrap *bootstrap)
{
    for (uint32_t i = 0; i < bootstrap->changes_count; i++)
        raft_payload_unref(bootstrap->changes[i]);
    members_unref(bootstrap->existing);
    *bootstrap = (struct bootstrap){0};
}
