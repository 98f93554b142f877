/* Who belongs to the cluster of an etcd's directory. etcd 3.5 starts with the members of its v2
 * store, which it keeps in .snap files and, since the newest of those, in its log; what it writes
 * of them to its db is not all of it (names, client URLs and promotions of members that are there
 * already are left out, and former members may stay). So the table is made as etcd makes it, where
 * the log reaches back to the snapshot; else what the db lacks is taken from what there is. */
#include "server/state/conf_state.h"
#include "server/state/machine.h"
#include "storage/store.h"
#include "tools/utl/etcd_snap.h"
#include "tools/utl/source.h"

struct replay {
    struct machine *machine;
    bool attributes_alone; /* what is known of changes begins in the middle: the db has them */
};

static enum status replay(void *context, const struct raft_entry *entry)
{
    const struct replay *replay = context;
    if (replay->attributes_alone && entry->type != RAFT_ENTRY_NORMAL)
        return ST_OK;
    return machine_replay_members(replay->machine, entry);
}

/* Whether the log has every entry from the snapshot on to the one where the db stands. */
static bool is_whole(const struct utl_source *s, const struct etcd_snap *snap)
{
    return snap->last.index == s->mark.index ||
           (s->log_first <= snap->last.index + 1 && s->log_last >= s->mark.index);
}

static void complete(struct member_row *row, const struct member_row *from)
{
    if (from == NULL)
        return;
    if (row->name.len == 0)
        row->name = from->name;
    if (row->client_urls_count == 0) {
        row->client_urls = from->client_urls;
        row->client_urls_count = from->client_urls_count;
    }
}

static const struct member_row *find_row(const struct etcd_snap *snap, raft_id id)
{
    const struct member_row *found = NULL;
    for (uint32_t i = 0; i < snap->rows_count; i++)
        found = snap->rows[i].id == id ? &snap->rows[i] : found;
    return found;
}

/* Every row of table, completed by that of other, or of snap, takes its place. */
static enum status complete_all(struct machine *machine, const struct members *other,
                                const struct etcd_snap *snap)
{
    struct member_row rows[MEMBERS_MAX];
    struct members *table = machine_members(machine);
    uint32_t count = members_count(table);
    for (uint32_t i = 0; i < count; i++) {
        rows[i] = *members_at(table, i);
        complete(&rows[i],
                 other != NULL ? members_find(other, rows[i].id) : find_row(snap, rows[i].id));
    }
    enum status st = machine_replace_members(machine, rows, count);
    members_unref(table);
    return st;
}

static enum status take_snapshot(struct utl_source *s, const struct etcd_snap *snap, bool whole)
{
    enum status st = whole ? machine_replace_members(s->machine, snap->rows, snap->rows_count)
                           : complete_all(s->machine, NULL, snap);
    for (uint32_t i = 0; i < snap->removed_count && st == ST_OK; i++)
        st = machine_note_removed(s->machine, snap->removed[i]);
    return st;
}

/* etcd before 3.5 keeps no configuration in its db: it is that of the member table. */
static enum status derive_configuration(struct utl_source *s)
{
    struct raft_conf_state conf = {0};
    struct members *members = machine_members(s->machine);
    if (s->mark.conf_state.len > 0 || members_count(members) == 0) {
        members_unref(members);
        return ST_OK;
    }
    for (uint32_t i = 0; i < members_count(members); i++) {
        const struct member_row *row = members_at(members, i);
        if (row->is_learner)
            conf.learners[conf.learners_count++] = row->id;
        else
            conf.voters[conf.voters_count++] = row->id;
    }
    members_unref(members);
    enum status st = conf_state_encode(&conf, &s->conf_state);
    if (st == ST_OK)
        s->mark.conf_state = buf_slice(&s->conf_state);
    return st;
}

enum status utl_source_find_members(struct utl_source *s)
{
    struct etcd_snap snap;
    struct members *of_db = machine_members(s->machine);
    enum status st = etcd_snap_read(s->disk, s->datadir.snap, s->mark.index, &snap, s->why);
    bool whole = is_whole(s, &snap);
    struct replay context = {.machine = s->machine, .attributes_alone = !whole};
    if (st == ST_OK)
        st = take_snapshot(s, &snap, whole);
    if (st == ST_OK)
        st = utl_source_entries(s, snap.last.index + 1, s->mark.index, replay, &context);
    if (st == ST_OK && whole)
        st = complete_all(s->machine, of_db, NULL);
    if (st == ST_OK)
        st = derive_configuration(s);
    if (st == ST_OK && snap.text.len > 0)
        st = buf_printf(&s->snap_text, "%.*s", (int)snap.text.len, (const char *)snap.text.data);
    members_unref(of_db);
    etcd_snap_deinit(&snap);
    return st;
}
