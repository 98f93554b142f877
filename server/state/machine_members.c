/* server/state/machine_members.c - the member table and the cluster version: in memory, in their
 * buckets, and in the entries that change them. */
#include "base/assert.h"
#include "server/state/cluster_version.h"
#include "server/state/machine_private.h"

#include "proto/membership.pb-c.h"
#include "proto/request.pb-c.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>

#define CLUSTER_VERSION_KEY SLICE("clusterVersion")
#define DOWNGRADE_KEY SLICE("downgrade")
#define DOWNGRADE_ENABLED SLICE("\"enabled\":true}")
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

bool machine_is_cluster_old(struct machine *machine)
{
    char text[VERSION_TEXT_BYTES];
    struct version version;
    machine_cluster_version(machine, text);
    return version_parse(slice_from_str(text), &version) == ST_OK &&
           version_compare(version, (struct version){3, 5, 0}) < 0;
}

bool machine_downgrade_enabled(struct machine *machine)
{
    lock_acquire(machine->lock);
    bool enabled = machine->downgrade_enabled;
    lock_release(machine->lock);
    return enabled;
}

static void replace_members(struct machine *machine, struct members *next)
{
    lock_acquire(machine->lock);
    struct members *before = machine->members;
    machine->members = next;
    lock_release(machine->lock);
    members_unref(before);
}

static enum status set_member(struct machine *machine, const struct member_row *row)
{
    struct members *next;
    enum status st = members_with(machine->members, row, &next);
    if (st == ST_OK)
        replace_members(machine, next);
    return st;
}

/* Index of the first removed id that is not below id. */
static uint32_t removed_position(const struct machine *machine, raft_id id)
{
    uint32_t low = 0, high = machine->removed.count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (machine->removed.ids[middle] < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

bool machine_is_removed(struct machine *machine, raft_id id)
{
    lock_acquire(machine->lock);
    uint32_t at = removed_position(machine, id);
    bool found = at < machine->removed.count && machine->removed.ids[at] == id;
    lock_release(machine->lock);
    return found;
}

void machine_each_removed(struct machine *machine, void (*each)(void *context, raft_id id),
                          void *context)
{
    lock_acquire(machine->lock);
    for (uint32_t i = 0; i < machine->removed.count; i++)
        each(context, machine->removed.ids[i]);
    lock_release(machine->lock);
}

static enum status add_removed_locked(struct machine *machine, raft_id id)
{
    uint32_t count = machine->removed.count, at = removed_position(machine, id);
    if (count == machine->removed.capacity) {
        uint32_t capacity = count == 0 ? 16 : count * 2;
        raft_id *ids = realloc(machine->removed.ids, capacity * sizeof(*ids));
        if (ids == NULL)
            return ST_NO_MEMORY;
        machine->removed.ids = ids;
        machine->removed.capacity = capacity;
    }
    raft_id *ids = machine->removed.ids;
    memmove(ids + at + 1, ids + at, (count - at) * sizeof(*ids));
    ids[at] = id;
    machine->removed.count++;
    return ST_OK;
}

static enum status add_removed(struct machine *machine, raft_id id)
{
    if (machine_is_removed(machine, id))
        return ST_OK;
    lock_acquire(machine->lock);
    enum status st = add_removed_locked(machine, id);
    lock_release(machine->lock);
    return st;
}

/* "3.5.0": digits and points. */
static bool is_version(struct slice version)
{
    if (version.len == 0 || version.len >= VERSION_TEXT_BYTES)
        return false;
    for (size_t i = 0; i < version.len; i++) {
        if (version.data[i] != '.' && (version.data[i] < '0' || version.data[i] > '9'))
            return false;
    }
    return true;
}

static bool set_version(struct machine *machine, struct slice version)
{
    if (!is_version(version))
        return false;
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

/* 1 to 16 hexadecimal digits. */
static bool parse_id(struct slice text, raft_id *out)
{
    char digits[MEMBER_KEY_BYTES + 1];
    if (text.len == 0 || text.len > MEMBER_KEY_BYTES)
        return false;
    memcpy(digits, text.data, text.len);
    digits[text.len] = '\0';
    if (strspn(digits, "0123456789abcdefABCDEF") != text.len)
        return false;
    *out = strtoull(digits, NULL, 16);
    return true;
}

static enum status load_removed(void *context, struct slice key, struct slice value)
{
    (void)value; /* "removed" */
    struct machine *machine = context;
    raft_id id;
    if (!parse_id(key, &id))
        return machine_fail(machine, ST_CORRUPT,
                            "the store's record of the removed member '%.*s' is damaged",
                            (int)key.len, (const char *)key.data);
    return add_removed(machine, id);
}

static bool ends_with(struct slice s, struct slice tail)
{
    return s.len >= tail.len && slice_eq(slice_make(s.data + s.len - tail.len, tail.len), tail);
}

static enum status load_downgrade(struct machine *machine)
{
    struct slice json;
    enum status st =
        store_get(machine->store, BUCKET_CLUSTER, DOWNGRADE_KEY, &machine->scratch, &json);
    if (st == ST_OK)
        machine->downgrade_enabled = ends_with(json, DOWNGRADE_ENABLED);
    return st == ST_NOT_FOUND ? ST_OK : st;
}

enum status machine_load_members(struct machine *machine)
{
    enum status st = store_each(machine->store, BUCKET_MEMBERS, load_member, machine);
    if (st == ST_OK)
        st = store_each(machine->store, BUCKET_MEMBERS_REMOVED, load_removed, machine);
    if (st == ST_OK)
        st = load_downgrade(machine);
    struct slice version = SLICE_EMPTY;
    if (st == ST_OK)
        st = store_get(machine->store, BUCKET_CLUSTER, CLUSTER_VERSION_KEY, &machine->scratch,
                       &version);
    if (st == ST_OK && !set_version(machine, version))
        st = machine_fail(machine, ST_CORRUPT, "the store's cluster version is damaged");
    arena_reset(&machine->scratch);
    return st == ST_NOT_FOUND ? ST_OK : st;
}

static struct slice member_key(raft_id id, char text[MEMBER_KEY_BYTES + 1])
{
    int len = snprintf(text, MEMBER_KEY_BYTES + 1, "%" PRIx64, id);
    return slice_make(text, (size_t)len);
}

static enum status put(struct machine *machine, enum bucket bucket, struct slice key,
                       struct slice value)
{
    return machine->is_replaying ? store_note(machine->store, bucket, key, value)
                                 : store_put(machine->store, bucket, key, value);
}

enum status machine_put_member(struct machine *machine, const struct member_row *row)
{
    char key[MEMBER_KEY_BYTES + 1];
    struct slice id = member_key(row->id, key);
    struct buf json;
    buf_init(&json, UINT32_MAX);
    enum status st = member_json_encode(row, &json);
    if (st == ST_OK)
        st = put(machine, BUCKET_MEMBERS, id, buf_slice(&json));
    buf_deinit(&json);
    return st == ST_OK ? set_member(machine, row) : st;
}

static enum status drop_member(struct machine *machine, raft_id id)
{
    char text[MEMBER_KEY_BYTES + 1];
    struct slice key = member_key(id, text);
    struct members *next;
    enum status st = machine->is_replaying ? store_note_deleted(machine->store, BUCKET_MEMBERS, key)
                                           : store_delete(machine->store, BUCKET_MEMBERS, key);
    if (st == ST_OK)
        st = members_without(machine->members, id, &next);
    if (st == ST_OK)
        replace_members(machine, next);
    return st;
}

static enum status put_removed(struct machine *machine, raft_id id)
{
    char text[MEMBER_KEY_BYTES + 1];
    enum status st = put(machine, BUCKET_MEMBERS_REMOVED, member_key(id, text), SLICE("removed"));
    return st == ST_OK ? add_removed(machine, id) : st;
}

enum status machine_remove_member(struct machine *machine, raft_id id)
{
    enum status st = put_removed(machine, id);
    return st == ST_OK ? drop_member(machine, id) : st;
}

/* ---- replaying ---- */

static bool is_among(const struct member_row *rows, uint32_t count, raft_id id)
{
    bool found = false;
    for (uint32_t i = 0; i < count; i++)
        found |= rows[i].id == id;
    return found;
}

enum status machine_replace_members(struct machine *machine, const struct member_row *rows,
                                    uint32_t count)
{
    struct members *before = machine_members(machine);
    enum status st = ST_OK;
    machine->is_replaying = true;
    for (uint32_t i = 0; i < members_count(before) && st == ST_OK; i++) {
        raft_id id = members_at(before, i)->id;
        st = is_among(rows, count, id) ? ST_OK : drop_member(machine, id);
    }
    for (uint32_t i = 0; i < count && st == ST_OK; i++)
        st = machine_put_member(machine, &rows[i]);
    machine->is_replaying = false;
    members_unref(before);
    return st;
}

enum status machine_note_removed(struct machine *machine, raft_id id)
{
    machine->is_replaying = true;
    enum status st = put_removed(machine, id);
    machine->is_replaying = false;
    return st;
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
    return slice_eq(slice_make(path.data + path.len - tail.len, tail.len), tail) &&
           parse_id(slice_make(path.data + head.len, digits), id_out);
}

/* The v2 store is not kept: of its requests only the two that 3.5 makes of itself mean something.
 */
enum status apply_legacy(struct application *a, const struct internal_request *request)
{
    if (!slice_eq(request->method, SLICE("PUT")))
        return ST_OK;
    a->result->op = "PUT";
    if (slice_eq(request->path, SLICE("/0/version")))
        return put_version(a, request->value);
    raft_id id;
    if (!parse_attributes_path(request->path, &id))
        return ST_OK;
    struct member_row attributes;
    enum status st = member_json_decode(request->value, &a->machine->scratch, &attributes);
    return st == ST_OK ? put_attributes(a, id, &attributes) : st;
}

enum status apply_attributes_alone(struct application *a)
{
    struct internal_request request;
    struct slice data = raft_payload_slice(a->entry->payload);
    enum status st = data.len == 0 ? ST_NOT_FOUND : internal_request_decode(data, &request);
    if (st != ST_OK)
        return st;
    if (!request.is_legacy)
        return request.field == INTERNAL_MEMBER_ATTR_SET ? apply_member_attributes(a, request.body)
                                                         : ST_OK;
    return slice_eq(request.path, SLICE("/0/version")) ? ST_OK : apply_legacy(a, &request);
}

/* What 3.6 makes of them. */
enum status apply_cluster_version(struct application *a, struct slice body)
{
    struct slice version = SLICE_EMPTY;
    const struct wire_slot slots[] = {{WIRE_SLOT_BYTES, 0}};
    enum status st = wire_decode(body, slots, 1, &version);
    return st == ST_OK ? put_version(a, version) : st;
}

struct downgrade_info {
    bool enabled;
    struct slice version;
};
static const struct wire_slot downgrade_slots[] = {
    {WIRE_SLOT_BOOL, offsetof(struct downgrade_info, enabled)},
    {WIRE_SLOT_BYTES, offsetof(struct downgrade_info, version)},
};

/* Only an etcd member of a mixed cluster proposes it: it is kept, for them and for /downgrade/
 * enabled, and changes nothing here. */
enum status apply_downgrade_info(struct application *a, struct slice body)
{
    struct downgrade_info info = {0};
    enum status st = wire_decode(body, downgrade_slots, 2, &info);
    if (st != ST_OK)
        return st;
    struct buf json;
    buf_init(&json, UINT32_MAX);
    struct slice version = info.enabled ? info.version : SLICE_EMPTY;
    if (!is_version(version) && version.len > 0)
        st = ST_INVALID;
    if (st == ST_OK)
        st = buf_printf(&json, "{\"target-version\":\"%.*s\",\"enabled\":%s}", (int)version.len,
                        (const char *)version.data, info.enabled ? "true" : "false");
    if (st == ST_OK)
        st = store_put(a->machine->store, BUCKET_CLUSTER, DOWNGRADE_KEY, buf_slice(&json));
    buf_deinit(&json);
    if (st != ST_OK)
        return st;
    lock_acquire(a->machine->lock);
    a->machine->downgrade_enabled = info.enabled;
    lock_release(a->machine->lock);
    return ST_OK;
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
