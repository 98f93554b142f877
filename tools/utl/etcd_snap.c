/* A file is snappb.Snapshot {crc = 1: CRC-32C of data, data = 2: raftpb.Snapshot}; that one is
 * {data = 1: JSON, metadata = 2: {conf_state = 1, index = 2, term = 3}}. The JSON is a tree of
 * nodes {"Path":..,"Value":"text","Children":{"name":node,..}}:
 *   "Root" -> "0" -> "members" -> <hex id> -> "attributes", "raftAttributes"
 *                    "removed_members" -> <hex id> */
#include "tools/utl/etcd_snap.h"

#include "base/hash.h"
#include "base/minmax.h"
#include "base/wire.h"
#include "server/state/json_reader.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define NAME_BYTES 39U /* <16 hex>-<16 hex>.snap and the NUL */
#define PATH_BYTES 4096U
#define FILES_MAX 4096U
#define FILE_BYTES_MAX (512U << 20)
#define TEXT_BYTES_MAX 4096U
#define ID_DIGITS_MAX 16U

void etcd_snap_init(struct etcd_snap *out)
{
    *out = (struct etcd_snap){0};
    arena_init(&out->arena, FILE_BYTES_MAX);
    buf_init(&out->text, TEXT_BYTES_MAX);
}

void etcd_snap_deinit(struct etcd_snap *snap)
{
    arena_deinit(&snap->arena);
    buf_deinit(&snap->text);
}

/* What one file gave, before another is tried. */
static void forget(struct etcd_snap *snap)
{
    arena_reset(&snap->arena);
    snap->last = (struct raft_log_id){0};
    snap->rows_count = snap->removed_count = snap->removed_capacity = 0;
}

/* ---- JSON ---- */

/* A node on its way: what to do with its children and its value, either may be NULL. */
struct node {
    struct etcd_snap *snap;
    json_field_fn child; /* gets the snap */
    struct slice *value_out;
};

static enum status read_node_field(void *context, struct json_reader *r, struct slice key)
{
    const struct node *node = context;
    if (json_key_is(key, "Value") && node->value_out != NULL)
        return json_read_string(r, node->value_out);
    if (json_key_is(key, "Children") && node->child != NULL && json_peek(r) == '{')
        return json_read_object(r, node->child, node->snap);
    return json_skip(r);
}

static enum status read_folder(struct etcd_snap *snap, struct json_reader *r, json_field_fn child)
{
    struct node node = {.snap = snap, .child = child};
    return json_read_object(r, read_node_field, &node);
}

static bool parse_id(struct slice text, raft_id *out)
{
    *out = 0;
    if (text.len == 0 || text.len > ID_DIGITS_MAX)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.data[i];
        bool is_digit = c >= '0' && c <= '9';
        if (!is_digit && (c < 'a' || c > 'f'))
            return false;
        *out = *out << 4 | (raft_id)(is_digit ? c - '0' : c - 'a' + 10);
    }
    return *out != 0;
}

static enum status read_attributes(void *context, struct json_reader *r, struct slice key)
{
    struct etcd_snap *snap = context;
    struct member_row *row = &snap->rows[snap->rows_count], read;
    struct slice value = SLICE_EMPTY;
    struct node node = {.value_out = &value};
    enum status st = json_read_object(r, read_node_field, &node);
    bool is_plain = json_key_is(key, "attributes"), is_raft = json_key_is(key, "raftAttributes");
    if (st != ST_OK || (!is_plain && !is_raft) || value.len == 0)
        return st;
    st = member_json_decode(value, &snap->arena, &read);
    if (st != ST_OK)
        return st;
    if (is_plain) {
        row->name = read.name;
        row->client_urls = read.client_urls;
        row->client_urls_count = read.client_urls_count;
    } else {
        row->peer_urls = read.peer_urls;
        row->peer_urls_count = read.peer_urls_count;
        row->is_learner = read.is_learner;
    }
    return ST_OK;
}

static enum status read_member(void *context, struct json_reader *r, struct slice key)
{
    struct etcd_snap *snap = context;
    if (snap->rows_count == MEMBERS_MAX)
        return ST_TOO_BIG;
    struct member_row *row = &snap->rows[snap->rows_count];
    *row = (struct member_row){0};
    if (!parse_id(key, &row->id))
        return ST_INVALID;
    enum status st = read_folder(snap, r, read_attributes);
    if (st == ST_OK)
        snap->rows_count++;
    return st;
}

static enum status read_removed(void *context, struct json_reader *r, struct slice key)
{
    struct etcd_snap *snap = context;
    raft_id id;
    if (!parse_id(key, &id))
        return ST_INVALID;
    if (snap->removed_count == snap->removed_capacity) {
        uint32_t capacity = max_u32(16, snap->removed_capacity * 2);
        raft_id *grown = ARENA_ARRAY(&snap->arena, raft_id, capacity);
        if (grown == NULL)
            return ST_NO_MEMORY;
        if (snap->removed_count > 0)
            memcpy(grown, snap->removed, snap->removed_count * sizeof(*grown));
        snap->removed = grown;
        snap->removed_capacity = capacity;
    }
    snap->removed[snap->removed_count++] = id;
    return json_skip(r);
}

static enum status read_zero_child(void *context, struct json_reader *r, struct slice key)
{
    if (slice_eq(key, SLICE("members")))
        return read_folder(context, r, read_member);
    if (slice_eq(key, SLICE("removed_members")))
        return read_folder(context, r, read_removed);
    return json_skip(r);
}

/* What follows, above all the keys of v2's clients and their events, is not looked at: ST_EXISTS
 * ends the reading. */
static enum status read_root_child(void *context, struct json_reader *r, struct slice key)
{
    if (!slice_eq(key, SLICE("0")))
        return json_skip(r);
    enum status st = read_folder(context, r, read_zero_child);
    return st == ST_OK ? ST_EXISTS : st;
}

static enum status read_top(void *context, struct json_reader *r, struct slice key)
{
    return slice_eq(key, SLICE("Root")) ? read_folder(context, r, read_root_child) : json_skip(r);
}

/* ---- one file ---- */

/* Field `number` of a message, if it is of bytes, and other fields through numbers[]. */
static enum status find_fields(struct slice message, uint32_t bytes_number, struct slice *bytes_out,
                               uint64_t numbers[4])
{
    *bytes_out = SLICE_EMPTY;
    memset(numbers, 0, 4 * sizeof(numbers[0]));
    while (message.len > 0) {
        struct wire_field field;
        if (wire_next(&message, &field) != ST_OK)
            return ST_CORRUPT;
        if (field.number == bytes_number && field.type == WIRE_BYTES)
            *bytes_out = field.bytes;
        else if (field.number < 4 && field.type == WIRE_VARINT)
            numbers[field.number] = field.value;
    }
    return ST_OK;
}

enum status etcd_snap_decode(struct slice file, struct etcd_snap *out)
{
    struct slice snapshot, json, metadata, unused;
    uint64_t numbers[4];
    enum status st = find_fields(file, 2, &snapshot, numbers);
    if (st == ST_OK && (snapshot.len == 0 || crc32c(0, snapshot) != (uint32_t)numbers[1]))
        st = ST_CORRUPT;
    if (st == ST_OK)
        st = find_fields(snapshot, 1, &json, numbers);
    if (st == ST_OK)
        st = find_fields(snapshot, 2, &metadata, numbers);
    if (st == ST_OK)
        st = find_fields(metadata, 1, &unused, numbers);
    if (st != ST_OK)
        return st;
    struct json_reader reader = json_reader_of(json, &out->arena);
    st = json_read_object(&reader, read_top, out);
    if (st != ST_EXISTS)
        return st == ST_OK ? ST_INVALID : st;
    out->last = (struct raft_log_id){.index = numbers[2], .term = numbers[3]};
    return ST_OK;
}

/* ---- the directory ---- */

struct found {
    struct raft_log_id *ids; /* owned */
    uint32_t count, capacity;
    raft_index index_max;
    enum status status;
};

static bool parse_name(const char *name, struct raft_log_id *out)
{
    char again[NAME_BYTES];
    if (strlen(name) != NAME_BYTES - 1 ||
        sscanf(name, "%16" SCNx64 "-%16" SCNx64 ".snap", &out->term, &out->index) != 2)
        return false;
    snprintf(again, sizeof(again), "%016" PRIx64 "-%016" PRIx64 ".snap", out->term, out->index);
    return strcmp(name, again) == 0;
}

static void note_name(void *context, const char *name)
{
    struct found *found = context;
    struct raft_log_id id;
    if (!parse_name(name, &id) || id.index > found->index_max || found->status != ST_OK ||
        found->count == FILES_MAX)
        return;
    if (found->count == found->capacity) {
        uint32_t capacity = max_u32(16, found->capacity * 2);
        struct raft_log_id *grown = reallocarray(found->ids, capacity, sizeof(*grown));
        if (grown == NULL) {
            found->status = ST_NO_MEMORY;
            return;
        }
        found->ids = grown;
        found->capacity = capacity;
    }
    found->ids[found->count++] = id;
}

static int newest_first(const void *a, const void *b)
{
    const struct raft_log_id *x = a, *y = b;
    if (x->index != y->index)
        return x->index > y->index ? -1 : 1;
    return x->term > y->term ? -1 : x->term < y->term;
}

static enum status read_file(struct disk *disk, const char *path, struct buf *bytes)
{
    struct disk_file *file = NULL;
    uint64_t size = 0;
    size_t got = 0;
    uint8_t *room;
    buf_reset(bytes);
    enum status st = disk_open(disk, path, DISK_READ_ONLY, &file);
    if (st == ST_OK)
        st = disk_size(file, &size);
    if (st == ST_OK && (size == 0 || size > FILE_BYTES_MAX))
        st = size == 0 ? ST_CORRUPT : ST_TOO_BIG;
    if (st == ST_OK)
        st = buf_extend(bytes, (size_t)size, &room);
    if (st == ST_OK)
        st = disk_read(file, 0, room, (size_t)size, &got);
    disk_close(file);
    return st == ST_OK && got < size ? ST_CORRUPT : st;
}

static void tell_damaged(struct etcd_snap *snap, const char *path, enum status st)
{
    enum status said = buf_printf(&snap->text, "%s'%s' cannot be read (%s)",
                                  snap->text.len > 0 ? ", " : "", path, status_str(st));
    (void)said; /* enough of them are named */
}

static enum status try_files(struct disk *disk, const char *dir, const struct found *found,
                             struct etcd_snap *out)
{
    struct buf bytes;
    enum status st = ST_NOT_FOUND;
    buf_init(&bytes, FILE_BYTES_MAX);
    for (uint32_t i = 0; i < found->count && st != ST_OK && st != ST_NO_MEMORY; i++) {
        char path[PATH_BYTES];
        snprintf(path, sizeof(path), "%s/%016" PRIx64 "-%016" PRIx64 ".snap", dir,
                 found->ids[i].term, found->ids[i].index);
        st = read_file(disk, path, &bytes);
        if (st == ST_OK)
            st = etcd_snap_decode(buf_slice(&bytes), out);
        if (st == ST_OK && out->last.index != found->ids[i].index)
            st = ST_CORRUPT;
        if (st == ST_OK)
            break;
        tell_damaged(out, path, st);
        forget(out);
    }
    buf_deinit(&bytes);
    return st == ST_NO_MEMORY ? st : ST_OK;
}

enum status etcd_snap_read(struct disk *disk, const char *dir, raft_index index_max,
                           struct etcd_snap *out, struct buf *why)
{
    etcd_snap_init(out);
    struct found found = {.index_max = index_max};
    enum status st = disk_list(disk, dir, note_name, &found);
    if (st == ST_OK)
        st = found.status;
    if (st != ST_OK) {
        enum status said = buf_printf(why, "cannot list '%s': %s", dir, status_str(st));
        (void)said; /* the status is what counts */
    }
    if (st == ST_OK && found.count > 0) {
        qsort(found.ids, found.count, sizeof(*found.ids), newest_first);
        st = try_files(disk, dir, &found, out);
    }
    free(found.ids);
    return st;
}
