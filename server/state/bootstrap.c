#include "server/state/bootstrap.h"

#include "base/assert.h"
#include "base/buf.h"
#include "server/state/conf_state.h"
#include "server/state/peer_url.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define NO_ROOM "the sentence about --initial-cluster has no room"

/* ---- sentences ---- */

/* Formats into arena. A sentence that finds no room is told by another. */
static const char *format_text(struct arena *arena, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static const char *format_text(struct arena *arena, const char *format, ...)
{
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int size = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    char *text = size < 0 ? NULL : arena_alloc(arena, (size_t)size + 1);
    if (text != NULL)
        vsnprintf(text, (size_t)size + 1, format, again);
    va_end(again);
    return text == NULL ? NO_ROOM : text;
}

/* %.*s */
#define TEXT(s) (int)(s).len, (const char *)(s).data

static const char *join_urls(struct arena *arena, const struct slice *urls, uint32_t count,
                             const char *between)
{
    const char *joined = "";
    for (uint32_t i = 0; i < count; i++)
        joined = format_text(arena, "%s%s%.*s", joined, i == 0 ? "" : between, TEXT(urls[i]));
    return joined;
}

static int compare_rows_by_name(const void *a, const void *b)
{
    return slice_cmp((*(const struct member_row *const *)a)->name,
                     (*(const struct member_row *const *)b)->name);
}

/* "a=http://..,b=http://..", by name. */
static const char *describe(const struct initial_cluster *cluster, struct arena *arena)
{
    const struct member_row *rows[MEMBERS_MAX];
    for (uint32_t i = 0; i < cluster->count; i++)
        rows[i] = &cluster->rows[i];
    qsort(rows, cluster->count, sizeof(rows[0]), compare_rows_by_name);
    const char *text = "";
    for (uint32_t i = 0; i < cluster->count; i++) {
        for (uint32_t j = 0; j < rows[i]->peer_urls_count; j++)
            text = format_text(arena, "%s%s%.*s=%.*s", text, *text == '\0' ? "" : ",",
                               TEXT(rows[i]->name), TEXT(rows[i]->peer_urls[j]));
    }
    return text;
}

/* ---- reading ---- */

/* One member of the text while it is gathered. */
struct gathered {
    struct slice name;
    struct slice urls[MEMBER_URLS_MAX];
    uint32_t urls_count;
};

static struct slice take_part(struct slice *rest)
{
    const uint8_t *comma = rest->len == 0 ? NULL : memchr(rest->data, ',', rest->len);
    size_t len = comma == NULL ? rest->len : (size_t)(comma - rest->data);
    struct slice part = slice_make(rest->data, len);
    size_t taken = len + (comma != NULL);
    *rest = slice_make(rest->data + taken, rest->len - taken);
    return part;
}

static struct gathered *gather_into(struct gathered *all, uint32_t *count, struct slice name)
{
    for (uint32_t i = 0; i < *count; i++) {
        if (slice_eq(all[i].name, name))
            return &all[i];
    }
    if (*count == MEMBERS_MAX)
        return NULL;
    all[*count].name = name;
    return &all[(*count)++];
}

static enum status gather(struct slice text, struct gathered *all, uint32_t *count_out,
                          const char **why_out)
{
    *count_out = 0;
    for (struct slice rest = text; rest.len > 0;) {
        struct slice part = take_part(&rest), url = SLICE_EMPTY;
        if (part.len == 0)
            continue;
        const uint8_t *equals = memchr(part.data, '=', part.len);
        struct slice name = part;
        if (equals != NULL) {
            name.len = (size_t)(equals - part.data);
            url = slice_make(equals + 1, part.len - name.len - 1);
        }
        struct gathered *member = gather_into(all, count_out, name);
        *why_out = "--initial-cluster names too many members or URLs, or one is too long";
        if (member == NULL || member->urls_count == MEMBER_URLS_MAX || name.len > MEMBER_TEXT_MAX)
            return ST_TOO_BIG;
        member->urls[member->urls_count++] = url;
    }
    return ST_OK;
}

static int compare_rows_by_id(const void *a, const void *b)
{
    raft_id x = ((const struct member_row *)a)->id, y = ((const struct member_row *)b)->id;
    return x < y ? -1 : x > y;
}

/* The rows in their order, with the id of the cluster they found. */
static enum status finish(struct initial_cluster *cluster, struct arena *arena,
                          const char **why_out)
{
    raft_id ids[MEMBERS_MAX];
    qsort(cluster->rows, cluster->count, sizeof(cluster->rows[0]), compare_rows_by_id);
    for (uint32_t i = 0; i < cluster->count; i++) {
        ids[i] = cluster->rows[i].id;
        if (i > 0 && ids[i] == ids[i - 1]) {
            *why_out = format_text(arena, "member exists with identical ID %" PRIx64, ids[i]);
            return ST_INVALID;
        }
    }
    return cluster_id_compute(ids, cluster->count, &cluster->cluster_id);
}

static enum status make_row(const struct gathered *member, struct slice token, struct arena *arena,
                            struct member_row *out, const char **why_out)
{
    *out = (struct member_row){.name = member->name, .peer_urls_count = member->urls_count};
    enum status st =
        peer_urls_read(member->urls, member->urls_count, arena, &out->peer_urls, why_out);
    if (st == ST_OK)
        st = arena_copy(arena, member->name, &out->name);
    if (st == ST_OK)
        st = member_id_compute(out->peer_urls, out->peer_urls_count, token, &out->id);
    return st;
}

enum status initial_cluster_parse(struct slice text, struct slice token, struct arena *arena,
                                  struct initial_cluster *out, const char **why_out)
{
    *out = (struct initial_cluster){0};
    struct gathered *all = ARENA_ARRAY(arena, struct gathered, MEMBERS_MAX);
    *why_out = "--initial-cluster is too long";
    if (all == NULL)
        return ST_TOO_BIG;
    enum status st = gather(text, all, &out->count, why_out);
    for (uint32_t i = 0; i < out->count && st == ST_OK; i++)
        st = make_row(&all[i], token, arena, &out->rows[i], why_out);
    if (st != ST_OK)
        return st;
    *why_out = "initial cluster unset and no discovery URL found";
    if (out->count == 0)
        return ST_INVALID;
    return finish(out, arena, why_out);
}

const struct member_row *initial_cluster_find(const struct initial_cluster *cluster,
                                              struct slice name)
{
    for (uint32_t i = 0; i < cluster->count; i++) {
        if (slice_eq(cluster->rows[i].name, name))
            return &cluster->rows[i];
    }
    return NULL;
}

/* ---- checking ---- */

static bool has_url(const struct slice *urls, uint32_t count, struct slice url)
{
    for (uint32_t i = 0; i < count; i++) {
        if (slice_eq(urls[i], url))
            return true;
    }
    return false;
}

static bool urls_are_equal(const struct slice *a, uint32_t a_count, const struct slice *b,
                           uint32_t b_count, const struct url_resolver *resolver, char *why)
{
    snprintf(why, BOOTSTRAP_WHY_BYTES, "%" PRIu32 " and %" PRIu32 " URLs", a_count, b_count);
    if (a_count != b_count)
        return false;
    uint32_t same = 0;
    while (same < a_count && slice_eq(a[same], b[same]))
        same++;
    if (same == a_count)
        return true;
    snprintf(why, BOOTSTRAP_WHY_BYTES, "resolved urls: \"%.*s\" != \"%.*s\"", TEXT(a[same]),
             TEXT(b[same]));
    return resolver != NULL && resolver->equal != NULL &&
           resolver->equal(resolver->context, a, b, a_count, why, BOOTSTRAP_WHY_BYTES);
}

/* etcd's advertiseMatchesCluster. */
static const char *check_advertised(const struct member_row *row, const struct slice *advertised,
                                    uint32_t count, const struct url_resolver *resolver,
                                    struct arena *arena)
{
    char why[BOOTSTRAP_WHY_BYTES];
    if (urls_are_equal(advertised, count, row->peer_urls, row->peer_urls_count, resolver, why))
        return NULL;
    const char *missing = "", *joined = join_urls(arena, advertised, count, ",");
    for (uint32_t i = 0; i < row->peer_urls_count; i++) {
        if (!has_url(advertised, count, row->peer_urls[i]))
            missing = format_text(arena, "%s%s%.*s=%.*s", missing, *missing == '\0' ? "" : ",",
                                  TEXT(row->name), TEXT(row->peer_urls[i]));
    }
    if (*missing != '\0')
        return format_text(arena,
                           "--initial-cluster has %s but missing from "
                           "--initial-advertise-peer-urls=%s (%s)",
                           missing, joined, why);
    for (uint32_t i = 0; i < count; i++) {
        if (!has_url(row->peer_urls, row->peer_urls_count, advertised[i]))
            missing = format_text(arena, "%s%s%.*s", missing, *missing == '\0' ? "" : ",",
                                  TEXT(advertised[i]));
    }
    return format_text(arena,
                       "--initial-advertise-peer-urls has %s but missing from "
                       "--initial-cluster=%.*s=%s",
                       missing, TEXT(row->name), joined);
}

static bool has_repeated_url(const struct initial_cluster *cluster)
{
    for (uint32_t i = 0; i < cluster->count; i++) {
        const struct member_row *row = &cluster->rows[i];
        for (uint32_t j = 0; j < row->peer_urls_count; j++) {
            if (has_url(row->peer_urls, j, row->peer_urls[j]))
                return true;
            for (uint32_t k = 0; k < i; k++) {
                const struct member_row *other = &cluster->rows[k];
                if (has_url(other->peer_urls, other->peer_urls_count, row->peer_urls[j]))
                    return true;
            }
        }
    }
    return false;
}

const char *initial_cluster_check(const struct initial_cluster *cluster, struct slice name,
                                  const struct slice *advertised, uint32_t advertised_count,
                                  bool is_new, const struct url_resolver *resolver,
                                  struct arena *arena)
{
    const struct member_row *row = initial_cluster_find(cluster, name);
    if (row == NULL)
        return format_text(arena,
                           "couldn't find local name \"%.*s\" in the initial cluster "
                           "configuration",
                           TEXT(name));
    const char *why =
        is_new ? check_advertised(row, advertised, advertised_count, resolver, arena) : NULL;
    if (why == NULL && has_repeated_url(cluster))
        why = format_text(arena, "initial cluster %s has duplicate url", describe(cluster, arena));
    return why;
}

static int compare_slices(const void *a, const void *b)
{
    return slice_cmp(*(const struct slice *)a, *(const struct slice *)b);
}

enum status initial_cluster_remote_urls(const struct initial_cluster *cluster, struct slice name,
                                        struct arena *arena, const struct slice **out,
                                        uint32_t *count_out)
{
    uint32_t count = 0;
    struct slice *urls = ARENA_ARRAY(arena, struct slice, MEMBERS_MAX * MEMBER_URLS_MAX);
    if (urls == NULL)
        return ST_TOO_BIG;
    for (uint32_t i = 0; i < cluster->count; i++) {
        const struct member_row *row = &cluster->rows[i];
        for (uint32_t j = 0; !slice_eq(row->name, name) && j < row->peer_urls_count; j++)
            urls[count++] = row->peer_urls[j];
    }
    qsort(urls, count, sizeof(urls[0]), compare_slices);
    *out = urls;
    *count_out = count;
    return ST_OK;
}

/* ---- founding ---- */

static enum status make_change(const struct member_row *row, struct raft_payload **out)
{
    struct buf json;
    buf_init(&json, UINT32_MAX);
    enum status st = member_json_encode(row, &json);
    *out = NULL;
    if (st == ST_OK) {
        const struct member_change change = {
            .type = MEMBER_CHANGE_ADD_NODE, .node_id = row->id, .context = buf_slice(&json)};
        *out = member_change_payload(&change);
    }
    buf_deinit(&json);
    return *out == NULL ? ST_NO_MEMORY : ST_OK;
}

enum status initial_cluster_changes(const struct initial_cluster *cluster,
                                    struct raft_payload *out[MEMBERS_MAX])
{
    for (uint32_t i = 0; i < cluster->count; i++) {
        enum status st = make_change(&cluster->rows[i], &out[i]);
        if (st == ST_OK)
            continue;
        while (i > 0)
            raft_payload_unref(out[--i]);
        return st;
    }
    return ST_OK;
}

const char *initial_cluster_already_ran(const struct initial_cluster *cluster, struct slice name,
                                        const struct members *existing, struct arena *arena)
{
    const struct member_row *local = initial_cluster_find(cluster, name);
    const struct member_row *known = local == NULL ? NULL : members_find(existing, local->id);
    if (known == NULL || known->client_urls_count == 0)
        return NULL;
    return format_text(arena, "member %" PRIx64 " has already been bootstrapped", local->id);
}

/* ---- joining ---- */

/* etcd looks at the local members in the order of their own ids, for each existing one anew. */
static const struct member_row *find_local(const struct initial_cluster *cluster,
                                           const struct member_row *existing,
                                           const struct url_resolver *resolver, char *why)
{
    for (uint32_t i = 0; i < cluster->count; i++) {
        const struct member_row *row = &cluster->rows[i];
        if (urls_are_equal(existing->peer_urls, existing->peer_urls_count, row->peer_urls,
                           row->peer_urls_count, resolver, why))
            return row;
    }
    return NULL;
}

const char *initial_cluster_assign_ids(struct initial_cluster *cluster,
                                       const struct members *existing, uint64_t cluster_id,
                                       const struct url_resolver *resolver, struct arena *arena)
{
    raft_id ids[MEMBERS_MAX] = {0};
    bool is_learner[MEMBERS_MAX] = {0};
    if (members_count(existing) != cluster->count)
        return "member count is unequal";
    for (uint32_t i = 0; i < cluster->count; i++) {
        const struct member_row *known = members_at(existing, i);
        char why[BOOTSTRAP_WHY_BYTES] = "";
        const struct member_row *local = find_local(cluster, known, resolver, why);
        if (local == NULL || ids[local - cluster->rows] != 0)
            return format_text(
                arena,
                "PeerURLs: no match found for existing member (%" PRIx64
                ", [%s]), last resolver error (%s)",
                known->id, join_urls(arena, known->peer_urls, known->peer_urls_count, " "), why);
        ids[local - cluster->rows] = known->id;
        is_learner[local - cluster->rows] = known->is_learner;
    }
    for (uint32_t i = 0; i < cluster->count; i++) {
        cluster->rows[i].id = ids[i];
        cluster->rows[i].is_learner = is_learner[i];
    }
    qsort(cluster->rows, cluster->count, sizeof(cluster->rows[0]), compare_rows_by_id);
    cluster->cluster_id = cluster_id;
    return NULL;
}
