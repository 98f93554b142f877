/* snapshot save --data-dir and export: what a stopped member holds, its log's tail included, as
 * etcd's db file. For the case that no server answers any more. */
#include "base/clock_real.h"
#include "tools/utl/commands.h"
#include "tools/utl/console.h"
#include "tools/utl/held.h"
#include "tools/utl/progress.h"
#include "tools/utl/snapshot_file.h"
#include "tools/utl/utl.h"

#include <string.h>

struct saving {
    struct cli *cli;
    struct held held;
    struct buf why;
    struct snapshot_file_options file;
};

static enum status write_file(struct saving *s, uint64_t *bytes_out)
{
    struct progress progress;
    struct state_records records;
    struct utl_source *source = s->held.source;
    progress_begin(&progress, clock_real(), "saving", source->stat.in_use_bytes);
    s->file.progress = &progress;
    enum status st =
        state_records_init(&records, source->store, source->mvcc, source->lock, UTL_SOURCE_READER);
    if (st == ST_OK)
        st = snapshot_file_write(&s->file, &records.source, &s->why, bytes_out);
    state_records_deinit(&records);
    progress_end(&progress);
    return st;
}

static enum status save(struct saving *s)
{
    const struct held_options options = {.path = cli_string(s->cli, "data-dir"),
                                         .wal_dir = cli_string(s->cli, "wal-dir"),
                                         .whole_log = true,
                                         .even_damaged = cli_bool(s->cli, "even-damaged")};
    uint64_t begin_ns = clock_monotonic_ns(clock_real()), bytes;
    enum status st = held_open(&options, &s->held, &s->why);
    if (st != ST_OK)
        return st;
    held_tell(&s->held, "saving");
    if (cli_bool(s->cli, "dry-run"))
        return ST_OK;
    st = write_file(s, &bytes);
    if (st != ST_OK)
        return st;
    struct console line;
    console_begin(&line, "info", "utl/save.c", "saved");
    console_text(&line, "path", s->file.path);
    console_size(&line, "size", bytes);
    console_took(&line, "took", clock_monotonic_ns(clock_real()) - begin_ns);
    console_end(&line);
    fprintf(s->cli->out, s->file.with_digest ? "Snapshot saved at %s\n" : "Exported to %s\n",
            s->file.path);
    return ST_OK;
}

static int run(struct cli *cli, const char *command, bool with_digest)
{
    struct saving s = {.cli = cli, .held.lock_fd = -1};
    s.file =
        (struct snapshot_file_options){.path = utl_word(cli, command), .with_digest = with_digest};
    if (s.file.path == NULL)
        return CLI_EXIT_BAD_ARGUMENTS;
    buf_init(&s.why, UTL_WHY_BYTES_MAX);
    enum status st = save(&s);
    held_close(&s.held);
    int code = utl_end(cli, st, &s.why);
    buf_deinit(&s.why);
    return code;
}

static int run_save(struct cli *cli)
{
    return run(cli, "snapshot save", /* with_digest= */ true);
}

static int run_export(struct cli *cli)
{
    if (strcmp(cli_string(cli, "to"), "etcd-db") != 0)
        return cli_fail(cli, CLI_EXIT_BAD_FEATURE, "unknown format '%s': etcd-db is the only one",
                        cli_string(cli, "to"));
    return run(cli, "export", /* with_digest= */ false);
}

static const struct cli_flag save_flags[] = {HELD_FLAGS, {0}};
const struct cli_command utl_save_command = {
    .name = "save",
    .usage = "<filename> --data-dir {directory}",
    .brief = "Saves a snapshot of a stopped member, Cleat's or etcd's, from its files",
    .text =
        "For a member whose server does not start, or has no one to agree with: everything in its\n"
        "log is in the snapshot, also what was not yet known to be committed. From a running\n"
        "server take it with cleatctl or etcdctl snapshot save.",
    .flags = save_flags,
    .run = run_save,
};

static const struct cli_flag export_flags[] = {
    HELD_FLAGS, {.name = "to", .kind = CLI_STRING, .required = true, .help = "etcd-db"}, {0}};
const struct cli_command utl_export_command = {
    .name = "export",
    .usage = "<filename> --data-dir {directory} --to etcd-db",
    .brief = "Writes what a stopped member holds as the db file of an etcd",
    .flags = export_flags,
    .run = run_export,
};
