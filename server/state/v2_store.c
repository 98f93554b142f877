/* The tree, and what is left out of each node but its path (zeros, no expiry):
 *   / -> /0 -> members/<hex id>/{attributes, raftAttributes}, values as JSON
 *              removed_members/<hex id>
 *              version
 *        /1, where v2 keys would be
 * A folder has Children, if only an empty object; a value has null. The parts that a reader can do
 * without (watcher hub, statistics) are left out. */
#include "server/state/v2_store.h"

#include "base/buf.h"
#include "server/state/json_writer.h"
#include "server/state/machine.h"

#include <inttypes.h>

#define PATH_BYTES 96U
#define ATTRIBUTES_BYTES_MAX (1U << 20)

struct writer {
    struct buf *out;
    enum status status; /* sticky */
    bool is_first;      /* child of the folder that is open */
};

static const char *name_of(const char *path)
{
    return strrchr(path, '/') + 1;
}

static void put(struct writer *w, const char *text)
{
    if (w->status == ST_OK)
        w->status = buf_append(w->out, slice_from_str(text));
}

static void put_string(struct writer *w, struct slice text)
{
    if (w->status == ST_OK)
        w->status = json_put_string(w->out, text);
}

/* Everything of a node but its children. */
static void put_node(struct writer *w, const char *path, struct slice value)
{
    if (!w->is_first)
        put(w, ",");
    put_string(w, slice_from_str(name_of(path)));
    put(w, ":{\"Path\":");
    put_string(w, slice_from_str(path));
    put(w, ",\"CreatedIndex\":0,\"ModifiedIndex\":0,\"ExpireTime\":\"0001-01-01T00:00:00Z\","
           "\"Value\":");
    put_string(w, value);
    put(w, ",\"Children\":");
}

static void open_folder(struct writer *w, const char *path)
{
    put_node(w, path, SLICE_EMPTY);
    put(w, "{");
    w->is_first = true;
}

static void close_folder(struct writer *w)
{
    put(w, "}}");
    w->is_first = false;
}

static void put_value(struct writer *w, const char *path, struct slice value)
{
    put_node(w, path, value);
    put(w, "null}");
    w->is_first = false;
}

static void put_attributes(struct writer *w, const char *path, const struct member_row *row,
                           enum status (*encode)(const struct member_row *row, struct buf *out))
{
    struct buf json;
    buf_init(&json, ATTRIBUTES_BYTES_MAX);
    if (w->status == ST_OK)
        w->status = encode(row, &json);
    put_value(w, path, buf_slice(&json));
    buf_deinit(&json);
}

static void put_member(struct writer *w, const struct member_row *row)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof(path), "/0/members/%" PRIx64, row->id);
    open_folder(w, path);
    snprintf(path, sizeof(path), "/0/members/%" PRIx64 "/attributes", row->id);
    put_attributes(w, path, row, member_attributes_encode);
    snprintf(path, sizeof(path), "/0/members/%" PRIx64 "/raftAttributes", row->id);
    put_attributes(w, path, row, member_raft_attributes_encode);
    close_folder(w);
}

static void put_removed(void *context, raft_id id)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof(path), "/0/removed_members/%" PRIx64, id);
    put_value(context, path, SLICE_EMPTY);
}

enum status v2_store_encode(struct machine *machine, uint64_t index, struct buf *out)
{
    struct writer w = {.out = out, .is_first = true};
    put(&w, "{\"Root\":{\"Path\":\"/\",\"CreatedIndex\":0,\"ModifiedIndex\":0,"
            "\"ExpireTime\":\"0001-01-01T00:00:00Z\",\"Value\":\"\",\"Children\":{");
    open_folder(&w, "/0");
    open_folder(&w, "/0/members");
    struct members *members = machine_members(machine);
    for (uint32_t i = 0; i < members_count(members); i++)
        put_member(&w, members_at(members, i));
    members_unref(members);
    close_folder(&w);
    open_folder(&w, "/0/removed_members");
    machine_each_removed(machine, put_removed, &w);
    close_folder(&w);
    char version[VERSION_TEXT_BYTES];
    machine_cluster_version(machine, version);
    if (version[0] != '\0')
        put_value(&w, "/0/version", slice_from_str(version));
    close_folder(&w);
    open_folder(&w, "/1");
    close_folder(&w);
    put(&w, "}},");
    if (w.status == ST_OK)
        w.status = buf_printf(out, "\"CurrentIndex\":%" PRIu64 ",\"CurrentVersion\":2}", index);
    return w.status;
}
