/* server/state/machine_members.c - the member table and the cluster version: in memory, in their
 * buckets, and in the entries that change them. */
#include "base/assert.h"
#include "server/state/machine_private.h"

#include "proto/membership.pb-c.h"
#include "proto/request.pb-c.h"

#include <inttypes.h>
#include <stdlib.h>

#define CLUSTER_VERSION_KEY SLICE("clusterVersion")
#define MEMBER_KEY_BYTES 16U /* 64 bits in hex */

/* ---- in memory ---- */

struct members *machine_members(struct machine *machine)
{
    lock_acquire(machine->lock);
    struct members *members = members_ref(machine->members);
    lock_release(machine->lock);
    return members;
}

void machine_cluster_version(struct machine *machine, char *out)
{
    lock_acquire(machine->lock);
    memcpy(out, machine->version, sizeof(machine->version));
    lock_release(machine->lock);
}

static enum status set_member(struct machine *machine, const struct member_row *row)
{
    struct members *next, *before;
    enum status st = members_with(machine->members, row, &next);
    if (st != ST_OK)
        return st;
    lock_acquire(machine->lock);
    before = machine->members;
    machine->members = next;
    lock_release(machine->lock);
    members_unref(before);
    return ST_OK;
}

/* "3.5.0": digits and points. */
static bool set_version(struct machine *machine, struct slice version)
{
    if (version.len == 0 || version.len >= VERSION_TEXT_BYTES)
        return false;
    for (size_t i = 0; i < version.len; i++) {
        if (version.data[i] != '.' && (version.data[i] < '0' || version.data[i] > '9'))
            return false;
    }
    lock_acquire(machine->lock);
    memcpy(machine->version, version.data, version.len);
    machine->version[version.len] = '\0';
    lock_release(machine->lock);
    return true;
}

/* ---- in the store ---- */

static enum status load_member(void *context, struct slice key, struct slice value)
{
    struct machine *machine = context;
    struct member_row row;
    enum status st = member_json_decode(value, &machine->scratch, &row);
    if (st == ST_OK && row.id == 0)
        st = ST_INVALID;
    if (st == ST_OK)
        st = set_member(machine, &row);
    if (st == ST_INVALID || st == ST_TOO_BIG)
        return machine_fail(machine, ST_CORRUPT, "the store's record of member '%.*s' is damaged",
                            (int)key.len, (const char *)key.data);
    return st;
}

enum status machine_load_members(struct machine *machine)
{
    enum status st = store_each(machine->store, BUCKET_MEMBERS, load_member, machine);
    struct slice version = SLICE_EMPTY;
    if (st == ST_OK)
        st = store_get(machine->store, BUCKET_CLUSTER, CLUSTER_VERSION_KEY, &machine->scratch,
                       &version);
    if (st == ST_OK && !set_version(machine, version))
        st = machine_fail(machine, ST_CORRUPT, "the store's cluster version is damaged");
    arena_reset(&machine->scratch);
    return st == ST_NOT_FOUND ? ST_OK : st;
}

enum status machine_put_member(struct machine *machine, const struct member_row *row)
{
    char key[MEMBER_KEY_BYTES + 1];
    int len = snprintf(key, sizeof(key), "%" PRIx64, row->id);
    struct buf json;
    buf_init(&json, UINT32_MAX);
    enum status st = member_json_encode(row, &json);
    if (st == ST_OK)
        st = store_put(machine->store, BUCKET_MEMBERS, slice_make(key, (size_t)len),
                       buf_slice(&json));
    buf_deinit(&json);
    return st == ST_OK ? set_member(machine, row) : st;
}

/* ---- entries ---- */

static enum status put_version(struct application *a, struct slice version)
{
    if (!set_version(a->machine, version)) {
        a->result->error = API_UNDECODABLE;
        return ST_OK;
    }
    return store_put(a->machine->store, BUCKET_CLUSTER, CLUSTER_VERSION_KEY, version);
}

/* A member that is not in the table has been removed meanwhile: nothing to do. */
static enum status put_attributes(struct application *a, raft_id id,
                                  const struct member_row *attributes)
{
    const struct member_row *before = members_find(a->machine->members, id);
    if (before == NULL) {
        a->result->error = API_MEMBER_NOT_FOUND;
        return ST_OK;
    }
    struct member_row row = *before;
    row.name = attributes->name;
    row.client_urls = attributes->client_urls;
    row.client_urls_count = attributes->client_urls_count;
    a->result->published = id;
    return machine_put_member(a->machine, &row);
}

/* "/0/members/<hex id>/attributes" */
static bool parse_attributes_path(struct slice path, raft_id *id_out)
{
    const struct slice head = SLICE("/0/members/"), tail = SLICE("/attributes");
    if (!slice_has_prefix(path, head) || path.len <= head.len + tail.len)
        return false;
    size_t digits = path.len - head.len - tail.len;
    if (digits > MEMBER_KEY_BYTES ||
        !slice_eq(slice_make(path.data + path.len - tail.len, tail.len), tail))
        return false;
    char text[MEMBER_KEY_BYTES + 1];
    memcpy(text, path.data + head.len, digits);
    text[digits] = '\0';
    if (strspn(text, "0123456789abcdefABCDEF") != digits)
        return false;
    *id_out = strtoull(text, NULL, 16);
    return true;
}

/* The v2 store is not kept: of its requests only the two that 3.5 makes of itself mean something.
 */
enum status apply_legacy(struct application *a, const struct internal_request *request)
{
    if (!slice_eq(request->method, SLICE("PUT")))
        return ST_OK;
    if (slice_eq(request->path, SLICE("/0/version")))
        return put_version(a, request->value);
    raft_id id;
    if (!parse_attributes_path(request->path, &id))
        return ST_OK;
    struct member_row attributes;
    enum status st = member_json_decode(request->value, &a->machine->scratch, &attributes);
    return st == ST_OK ? put_attributes(a, id, &attributes) : st;
}

/* What 3.6 makes of them. */
enum status apply_cluster_version(struct application *a, struct slice body)
{
    struct slice version = SLICE_EMPTY;
    const struct wire_slot slots[] = {{WIRE_SLOT_BYTES, 0}};
    enum status st = wire_decode(body, slots, 1, &version);
    return st == ST_OK ? put_version(a, version) : st;
}

static enum status attributes_of(const Membershippb__ClusterMemberAttrSetRequest *message,
                                 struct arena *arena, struct member_row *out)
{
    *out = (struct member_row){0};
    const Membershippb__Attributes *attributes = message->member_attributes;
    if (attributes == NULL)
        return ST_OK;
    if (attributes->n_client_urls > MEMBER_URLS_MAX)
        return ST_TOO_BIG;
    struct slice *urls = ARENA_ARRAY(arena, struct slice, attributes->n_client_urls);
    if (urls == NULL)
        return ST_NO_MEMORY;
    out->name = slice_from_str(attributes->name);
    out->client_urls = urls;
    out->client_urls_count = (uint32_t)attributes->n_client_urls;
    for (size_t i = 0; i < attributes->n_client_urls; i++)
        urls[i] = slice_from_str(attributes->client_urls[i]);
    return ST_OK;
}

enum status apply_member_attributes(struct application *a, struct slice body)
{
    Membershippb__ClusterMemberAttrSetRequest *message =
        membershippb__cluster_member_attr_set_request__unpack(NULL, body.len, body.data);
    if (message == NULL)
        return ST_INVALID;
    struct member_row attributes;
    enum status st = attributes_of(message, &a->machine->scratch, &attributes);
    if (st == ST_OK)
        st = put_attributes(a, message->member_id, &attributes);
    membershippb__cluster_member_attr_set_request__free_unpacked(message, NULL);
    return st;
}

/* ---- entries of our own ---- */

/* With every field that etcd writes even when it is empty. */
static struct raft_payload *legacy_payload(uint64_t id, const char *path, const char *value)
{
    Etcdserverpb__Request request = ETCDSERVERPB__REQUEST__INIT;
    char method[] = "PUT", nothing[] = "";
    request.has_id = 1;
    request.id = id;
    request.method = method;
    request.path = (char *)path;
    request.val = (char *)value;
    request.has_dir = 1;
    request.prevvalue = nothing;
    request.has_previndex = request.has_expiration = request.has_wait = request.has_since = 1;
    request.has_recursive = request.has_sorted = request.has_quorum = 1;
    request.has_time = request.has_stream = 1;
    struct raft_payload *payload =
        raft_payload_new(etcdserverpb__request__get_packed_size(&request));
    if (payload != NULL)
        etcdserverpb__request__pack(&request, payload->data);
    return payload;
}

struct raft_payload *machine_publish_payload(const struct machine *machine, uint64_t id,
                                             const char *name, const char *const *client_urls,
                                             uint32_t urls_count)
{
    struct slice urls[MEMBER_URLS_MAX];
    if (urls_count > MEMBER_URLS_MAX)
        return NULL;
    for (uint32_t i = 0; i < urls_count; i++)
        urls[i] = slice_from_str(client_urls[i]);
    const struct member_row row = {
        .name = slice_from_str(name), .client_urls = urls, .client_urls_count = urls_count};
    char path[64];
    snprintf(path, sizeof(path), "/0/members/%" PRIx64 "/attributes", machine->member_id);
    struct buf json;
    buf_init(&json, UINT32_MAX);
    struct raft_payload *payload = NULL;
    enum status st = member_attributes_encode(&row, &json);
    if (st == ST_OK)
        st = buf_append(&json, slice_make("", 1)); /* the NUL */
    if (st == ST_OK)
        payload = legacy_payload(id, path, (const char *)json.data);
    buf_deinit(&json);
    return payload;
}

struct raft_payload *machine_version_payload(uint64_t id, const char *version)
{
    return legacy_payload(id, "/0/version", version);
}
