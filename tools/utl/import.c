/* import: a stopped member of etcd's (or one of ours), or a snapshot, becomes a Cleat data
 * directory. Without flags that name a cluster the member goes on as who it was: its id, its
 * cluster's, its term and vote, and what its log holds above the known commit, so that it can take
 * its place among members that went on as etcd. With them it founds a new cluster, as after a
 * restore. */
#include "base/clock_real.h"
#include "server/state/conf_state.h"
#include "server/state/machine.h"
#include "storage/store.h"
#include "tools/utl/commands.h"
#include "tools/utl/console.h"
#include "tools/utl/founding.h"
#include "tools/utl/held.h"
#include "tools/utl/progress.h"
#include "tools/utl/snapshot_file.h"
#include "tools/utl/utl.h"

#include <stdlib.h>

#define CALLER "utl/import.c"
#define REMOVED_MAX 65536U /* ids of a cluster's former members */

struct importing {
    struct cli *cli;
    struct held held;
    struct buf why;
    struct maker_options maker;
    struct progress progress;
    struct founding founding; /* of a new cluster */
    bool is_new;
    struct maker_log log;       /* else: how it goes on */
    struct raft_entry *entries; /* owned, with their payloads; the log's tail */
    uint32_t entries_count;
    struct raft_id_list {
        raft_id ids[REMOVED_MAX];
        uint32_t count;
    } * removed; /* owned */
};

/* ---- who it was ---- */

static enum status note_entry(void *context, const struct raft_entry *entry)
{
    struct importing *m = context;
    struct raft_entry *grown = realloc(m->entries, (m->entries_count + 1) * sizeof(*m->entries));
    if (grown == NULL)
        return ST_NO_MEMORY;
    m->entries = grown;
    m->entries[m->entries_count] = *entry;
    m->entries[m->entries_count++].payload =
        entry->payload == NULL ? NULL : raft_payload_ref(entry->payload);
    return ST_OK;
}

static void note_removed(void *context, raft_id id)
{
    struct importing *m = context;
    if (m->removed->count < REMOVED_MAX)
        m->removed->ids[m->removed->count++] = id;
}

static bool has_id(const raft_id *ids, uint32_t count, raft_id id)
{
    bool found = false;
    for (uint32_t i = 0; i < count; i++)
        found |= ids[i] == id;
    return found;
}

/* etcd before 3.5 keeps no configuration in its db: it is that of the member table. */
static enum status read_configuration(struct importing *m, struct slice bytes)
{
    struct raft_conf_state *conf = &m->log.snapshot.conf_state;
    enum status st = conf_state_decode(bytes, conf);
    if (st != ST_OK || conf->voters_count > 0)
        return st;
    struct members *members = machine_members(m->held.source->machine);
    for (uint32_t i = 0; i < members_count(members); i++) {
        const struct member_row *row = members_at(members, i);
        if (row->is_learner)
            conf->learners[conf->learners_count++] = row->id;
        else
            conf->voters[conf->voters_count++] = row->id;
    }
    members_unref(members);
    return ST_OK;
}

static enum status read_log(struct importing *m, struct slice conf_state)
{
    struct utl_source *s = m->held.source;
    m->log.hard_state = s->hard_state;
    m->log.hard_state.commit = s->applied;
    enum status st = held_last(&m->held, &m->log.snapshot.last);
    if (st == ST_OK)
        st = read_configuration(m, conf_state);
    if (st == ST_OK && s->log_last > s->applied)
        st = utl_source_entries(s, s->applied + 1, s->log_last, note_entry, m);
    if (st == ST_OK && m->log.snapshot.last.term == 0)
        return utl_fail(&m->why, ST_INVALID,
                        "neither the db nor the log in '%s' says in which term its last entry was "
                        "made: give --name, --initial-cluster and --initial-advertise-peer-urls "
                        "for a new cluster",
                        s->log_path);
    m->log.entries = m->entries;
    m->log.entries_count = m->entries_count;
    if (st == ST_OK && m->log.hard_state.term < m->log.snapshot.last.term)
        m->log.hard_state =
            (struct raft_hard_state){.term = m->log.snapshot.last.term, .commit = s->applied};
    return st;
}

/* etcd 3.5 does not always write a promotion to its db: the configuration knows. */
static enum status keep_members(struct importing *m, struct maker *maker)
{
    const struct raft_conf_state *conf = &m->log.snapshot.conf_state;
    struct machine *machine = m->held.source->machine;
    struct member_row rows[MEMBERS_MAX];
    struct members *members = machine_members(machine);
    uint32_t count = members_count(members);
    for (uint32_t i = 0; i < count; i++) {
        rows[i] = *members_at(members, i);
        rows[i].is_learner = has_id(conf->learners, conf->learners_count, rows[i].id);
    }
    m->removed = calloc(1, sizeof(*m->removed));
    enum status st = m->removed == NULL ? ST_NO_MEMORY : ST_OK;
    if (st == ST_OK) {
        machine_each_removed(machine, note_removed, m);
        st = maker_set_members(maker, rows, count, m->removed->ids, m->removed->count);
    }
    members_unref(members);
    return st;
}

/* ---- making ---- */

static enum status fill(struct importing *m, struct maker *maker)
{
    struct utl_source *s = m->held.source;
    struct state_records records;
    enum status st = state_records_init(&records, s->store, s->mvcc, s->lock, UTL_SOURCE_READER);
    progress_begin(&m->progress, clock_real(), "importing", s->stat.in_use_bytes);
    if (st == ST_OK)
        st = maker_copy(maker, &records.source);
    progress_end(&m->progress);
    if (st == ST_OK && !m->is_new)
        st = read_log(m, store_pin_mark(records.pin).conf_state);
    state_records_deinit(&records);
    return st;
}

static enum status make(struct importing *m)
{
    struct maker *maker;
    enum status st = maker_begin(&m->maker, &m->why, &maker);
    if (st != ST_OK)
        return st;
    st = fill(m, maker);
    if (st == ST_OK && m->is_new)
        st = founding_finish(&m->founding, maker, cli_uint(m->cli, "bump-revision"));
    else if (st == ST_OK)
        st = keep_members(m, maker);
    if (st == ST_OK && !m->is_new)
        st = maker_finish(maker, &m->log);
    maker_close(maker);
    return st;
}

/* ---- the command ---- */

static enum status decide(struct importing *m)
{
    m->is_new = founding_is_given(m->cli) || cli_uint(m->cli, "bump-revision") > 0;
    if (m->is_new) {
        const struct founding_words words = founding_flags(m->cli);
        enum status st = founding_read(&words, &m->founding, &m->why);
        if (st != ST_OK)
            return st;
        m->maker.cluster_id = m->founding.cluster->cluster_id;
        m->maker.member_id = m->founding.self->id;
    }
    return maker_check(&m->maker, &m->why);
}

static enum status identify(struct importing *m)
{
    const struct utl_source *s = m->held.source;
    if (m->is_new)
        return ST_OK;
    if (s->kind == UTL_SOURCE_FILE)
        return utl_fail(&m->why, ST_INVALID,
                        "'%s' is a file, which does not say whose member it was: give --name, "
                        "--initial-cluster and --initial-advertise-peer-urls for a new cluster",
                        s->options.path);
    if (s->member_id == 0 || s->cluster_id == 0)
        return utl_fail(&m->why, ST_INVALID, "the log in '%s' does not say whose it is",
                        s->log_path);
    m->maker.cluster_id = s->cluster_id;
    m->maker.member_id = s->member_id;
    return ST_OK;
}

static void tell(const struct importing *m, const char *msg)
{
    struct console line;
    console_begin(&line, "info", CALLER, msg);
    console_text(&line, "data-dir", m->maker.data_dir);
    console_text(&line, "backend", m->maker.backend);
    console_hex(&line, "cluster-id", m->maker.cluster_id);
    console_hex(&line, "member-id", m->maker.member_id);
    console_text(&line, "ids", m->is_new ? "of a new cluster" : "kept");
    if (!m->is_new)
        console_u64(&line, "uncommitted-entries-kept",
                    m->held.source->log_last - m->held.source->applied);
    console_end(&line);
}

static enum status import(struct importing *m, const char *path)
{
    enum status st = decide(m);
    const struct held_options options = {.path = path,
                                         .wal_dir = cli_string(m->cli, "source-wal-dir"),
                                         .whole_log = m->is_new,
                                         .even_damaged = cli_bool(m->cli, "even-damaged")};
    if (st == ST_OK)
        st = held_open(&options, &m->held, &m->why);
    if (st == ST_OK)
        st = identify(m);
    if (st != ST_OK)
        return st;
    held_tell(&m->held, "importing");
    bool is_real = !cli_bool(m->cli, "dry-run");
    tell(m, is_real ? "making a data directory" : "would make a data directory");
    if (!is_real)
        return ST_OK;
    st = make(m);
    if (st != ST_OK)
        return st;
    struct console line;
    console_begin(&line, "info", CALLER,
                  "imported; never start the member that it was again beside it");
    console_text(&line, "data-dir", m->maker.data_dir);
    console_end(&line);
    return ST_OK;
}

static int run(struct cli *cli)
{
    struct importing m = {.cli = cli, .held.lock_fd = -1};
    const char *path = utl_word(cli, "import");
    if (path == NULL)
        return CLI_EXIT_BAD_ARGUMENTS;
    if ((cli_uint(cli, "bump-revision") > 0) != cli_bool(cli, "mark-compacted"))
        return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS,
                        "--mark-compacted required if --revision-bump > 0");
    m.maker = (struct maker_options){.data_dir = cli_string(cli, "data-dir"),
                                     .wal_dir = cli_string(cli, "wal-dir"),
                                     .backend = cli_string(cli, "backend"),
                                     .clock = clock_real(),
                                     .progress = &m.progress};
    buf_init(&m.why, UTL_WHY_BYTES_MAX);
    enum status st = import(&m, path);
    int code = utl_end(cli, st, &m.why);
    for (uint32_t i = 0; i < m.entries_count; i++)
        raft_payload_unref(m.entries[i].payload);
    free(m.entries);
    free(m.removed);
    held_close(&m.held);
    founding_deinit(&m.founding);
    buf_deinit(&m.why);
    return code;
}

static const struct cli_flag flags[] = {
    {.name = "data-dir", .kind = CLI_STRING, .required = true, .help = "The new data directory"},
    {.name = "wal-dir", .kind = CLI_STRING, .help = "Its log directory, to have that apart"},
    {.name = "source-wal-dir",
     .kind = CLI_STRING,
     .help = "The log directory of the imported member, where that is apart"},
    {.name = "backend",
     .kind = CLI_STRING,
     .initial = "lmdb",
     .help = "How the store is kept: lmdb or sqlite"},
    FOUNDING_FLAGS,
    {.name = "bump-revision",
     .kind = CLI_UINT,
     .initial = "0",
     .help = "For a new cluster: how much to increase the latest revision"},
    {.name = "mark-compacted",
     .kind = CLI_BOOL,
     .help = "Mark the latest revision as compacted (required if --bump-revision > 0)"},
    {.name = "even-damaged",
     .kind = CLI_BOOL,
     .help = "Take what comes before the damage in its log"},
    {.name = "dry-run", .kind = CLI_BOOL, .help = "Check everything and change nothing"},
    {0},
};

const struct cli_command utl_import_command = {
    .name = "import",
    .usage = "<etcd data directory or snapshot> --data-dir {new directory}",
    .brief = "Makes a Cleat data directory of a stopped etcd member, or of a snapshot",
    .text =
        "Without --name, --initial-cluster and the like the member goes on as who it was, among\n"
        "the others of its cluster; with them it is the first of a new cluster.",
    .flags = flags,
    .run = run,
};
