/* recover: what is left of a lost cluster, looked at together. Every directory and snapshot is
 * opened with all that its log holds; the one that knows the most by Raft's own rule (the term of
 * the last entry, then its index) is the best, and what the others hold beyond it is said. After
 * --yes a new cluster is made of the best one. What cannot be decided is refused with the reason,
 * and --from decides. Nothing of what was looked at is changed. */
#include "base/clock_real.h"
#include "base/minmax.h"
#include "server/state/machine.h"
#include "storage/store.h"
#include "tools/utl/candidates.h"
#include "tools/utl/commands.h"
#include "tools/utl/console.h"
#include "tools/utl/founding.h"
#include "tools/utl/progress.h"
#include "tools/utl/snapshot_file.h"
#include "tools/utl/utl.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define CALLER "utl/recover.c"

struct recovery {
    struct cli *cli;
    struct candidates candidates;
    struct candidate *best; /* among them */
    struct maker_options maker;
    struct founding founding;
    struct progress progress;
    struct buf why;
};

/* ---- the new cluster ---- */

/* "name=url,name=url" of the best one's own row, or NULL when it does not know who it is. */
static bool own_words(struct recovery *r, struct founding_words *words)
{
    const struct utl_source *s = r->best->held.source;
    struct members *members = machine_members(s->machine);
    const struct member_row *row = members_find(members, s->member_id);
    if (row == NULL || row->peer_urls_count == 0) {
        members_unref(members);
        return false;
    }
    const char *cluster = "", *urls = "";
    const char *name = row->name.len == 0 ? "default"
                                          : cli_format(r->cli, "%.*s", (int)row->name.len,
                                                       (const char *)row->name.data);
    for (uint32_t i = 0; i < row->peer_urls_count; i++) {
        const char *comma = i == 0 ? "" : ",";
        int len = (int)row->peer_urls[i].len;
        const char *url = (const char *)row->peer_urls[i].data;
        cluster = cli_format(r->cli, "%s%s%s=%.*s", cluster, comma, name, len, url);
        urls = cli_format(r->cli, "%s%s%.*s", urls, comma, len, url);
    }
    members_unref(members);
    words->name = name;
    words->initial_cluster = cluster;
    words->advertised = urls;
    return true;
}

static enum status found(struct recovery *r)
{
    struct founding_words words = founding_flags(r->cli);
    bool is_alone = !cli_given(r->cli, "initial-cluster");
    if (is_alone && !cli_given(r->cli, "name") && !own_words(r, &words))
        return utl_fail(&r->why, ST_INVALID,
                        "'%s' does not say which member it was of: give --name, --initial-cluster "
                        "and --initial-advertise-peer-urls",
                        r->best->path);
    /* The lost members must never be taken for members of the new cluster, so it needs other ids.
     * Members that are made apart must be given one token, though. */
    if (!cli_given(r->cli, "initial-cluster-token") && is_alone)
        words.token = cli_format(r->cli, "recovered-%" PRIu64,
                                 (uint64_t)(clock_wall_ns(clock_real()) / NS_PER_S));
    enum status st = founding_read(&words, &r->founding, &r->why);
    if (st != ST_OK)
        return st;
    r->maker.cluster_id = r->founding.cluster->cluster_id;
    r->maker.member_id = r->founding.self->id;
    for (uint32_t i = 0; i < r->candidates.count; i++) {
        if (candidate_cluster_id(&r->candidates.all[i]) == r->maker.cluster_id)
            return utl_fail(
                &r->why, ST_INVALID,
                "the new cluster would have the id of the lost one, whose members, should "
                "one come back, would then take part in it: give a token of its own "
                "with --initial-cluster-token");
    }
    return ST_OK;
}

static enum status make(struct recovery *r)
{
    struct maker *maker;
    struct state_records records;
    struct utl_source *s = r->best->held.source;
    enum status st = maker_begin(&r->maker, &r->why, &maker);
    if (st != ST_OK)
        return st;
    st = state_records_init(&records, s->store, s->mvcc, s->lock, UTL_SOURCE_READER);
    progress_begin(&r->progress, clock_real(), "recovering", s->stat.in_use_bytes);
    if (st == ST_OK)
        st = maker_copy(maker, &records.source);
    progress_end(&r->progress);
    state_records_deinit(&records);
    if (st == ST_OK)
        st = founding_finish(&r->founding, maker, cli_uint(r->cli, "bump-revision"));
    maker_close(maker);
    return st;
}

static void tell_plan(struct recovery *r)
{
    FILE *out = r->cli->out;
    fprintf(out,
            "\nTo be made in '%s' (%s): member %" PRIx64 ", cluster %" PRIx64 ", %" PRIu32
            " member%s, from '%s'.\n",
            r->maker.data_dir, r->maker.backend, r->maker.member_id, r->maker.cluster_id,
            r->founding.cluster->count, r->founding.cluster->count == 1 ? "" : "s", r->best->path);
    if (cli_uint(r->cli, "bump-revision") > 0)
        fprintf(out,
                "Revisions go on %" PRIu64
                " above the last one, and all before are compacted: every "
                "watcher and cache is told, and lists anew.\n",
                cli_uint(r->cli, "bump-revision"));
    fflush(out);
}

static enum status recover(struct recovery *r)
{
    enum status st = candidates_open(&r->candidates, r->cli->words, r->cli->words_count,
                                     cli_string(r->cli, "from"), &r->why);
    if (st != ST_OK)
        return st;
    candidates_print(&r->candidates, r->cli->out);
    st = candidates_choose(&r->candidates, &r->best, &r->why);
    if (st != ST_OK)
        return st;
    candidates_compare(&r->candidates, r->best, r->cli->out);
    if (r->maker.data_dir[0] == '\0') {
        fprintf(r->cli->out, "\nTo make a new cluster of it, give --data-dir and --yes.\n");
        return ST_OK;
    }
    st = found(r);
    if (st == ST_OK)
        st = maker_check(&r->maker, &r->why);
    if (st != ST_OK)
        return st;
    tell_plan(r);
    if (cli_bool(r->cli, "dry-run"))
        return ST_OK;
    if (!cli_bool(r->cli, "yes"))
        return utl_fail(&r->why, ST_CANCELED,
                        "nothing was made: to do it, give the command again with --yes");
    st = make(r);
    if (st != ST_OK)
        return st;
    struct console line;
    console_begin(&line, "info", CALLER, "recovered; start it with this name and these peer URLs");
    console_text(&line, "data-dir", r->maker.data_dir);
    console_list(&line, "name", &r->founding.self->name, 1);
    console_list(&line, "peer-urls", r->founding.self->peer_urls,
                 r->founding.self->peer_urls_count);
    console_end(&line);
    return ST_OK;
}

static int run(struct cli *cli)
{
    struct recovery r = {.cli = cli};
    if (cli->words_count == 0)
        return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS,
                        "recover requires the data directories and snapshots that are left");
    r.maker = (struct maker_options){.data_dir = cli_string(cli, "data-dir"),
                                     .wal_dir = cli_string(cli, "wal-dir"),
                                     .backend = cli_string(cli, "backend"),
                                     .clock = clock_real(),
                                     .progress = &r.progress};
    buf_init(&r.why, UTL_WHY_BYTES_MAX);
    enum status st = recover(&r);
    int code = utl_end(cli, st, &r.why);
    candidates_close(&r.candidates);
    founding_deinit(&r.founding);
    buf_deinit(&r.why);
    return code;
}

static const struct cli_flag flags[] = {
    {.name = "data-dir",
     .kind = CLI_STRING,
     .help = "The new data directory; without it nothing is made"},
    {.name = "wal-dir", .kind = CLI_STRING, .help = "Its log directory, to have that apart"},
    {.name = "backend",
     .kind = CLI_STRING,
     .initial = "lmdb",
     .help = "How the store is kept: lmdb or sqlite"},
    {.name = "from", .kind = CLI_STRING, .help = "Which of those given is to be taken"},
    FOUNDING_FLAGS,
    {.name = "bump-revision",
     .kind = CLI_UINT,
     .initial = "1000000000",
     .help = "How much to increase the latest revision; 0: not at all"},
    {.name = "yes", .kind = CLI_BOOL, .help = "Make it"},
    {.name = "dry-run", .kind = CLI_BOOL, .help = "Check everything and change nothing"},
    {0},
};

const struct cli_command utl_recover_command = {
    .name = "recover",
    .usage = "<data directory or snapshot>... [--data-dir {new directory} --yes]",
    .brief = "Makes a new cluster of what is left of a lost one",
    .text =
        "Looks at all that is given, says what each holds that the others lack, and takes the one\n"
        "that knows the most. A directory whose log is apart is given as <directory>=<log>.\n"
        "Without --initial-cluster the new cluster is one member, of the name and the peer URLs\n"
        "that the best one had; others are added to it as to any cluster.",
    .flags = flags,
    .run = run,
};
