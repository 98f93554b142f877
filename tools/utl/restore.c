/* snapshot restore: etcd's checks, order and words; what is made is a Cleat member's directory. */
#include "base/clock_real.h"
#include "storage/dbfile/reader.h"
#include "tools/utl/commands.h"
#include "tools/utl/console.h"
#include "tools/utl/digest_check.h"
#include "tools/utl/founding.h"
#include "tools/utl/maker.h"
#include "tools/utl/progress.h"
#include "tools/utl/utl.h"
#include "wal/disks.h"

#include <errno.h>
#include <string.h>

#define CALLER "utl/restore.c"

struct restore {
    struct cli *cli;
    const char *path;
    struct founding founding;
    struct maker_options maker;
    struct progress progress;
    struct disk *disk;
    struct disk_file *file;
    uint64_t raise;
    bool with_digest; /* which must be right */
    struct buf why;
};

static void tell(const struct restore *r, const char *msg)
{
    struct console line;
    console_begin(&line, "info", CALLER, msg);
    console_text(&line, "path", r->path);
    console_text(&line, "wal-dir",
                 r->maker.wal_dir[0] != '\0'
                     ? r->maker.wal_dir
                     : cli_format(r->cli, "%s/member/wal", r->maker.data_dir));
    console_text(&line, "data-dir", r->maker.data_dir);
    console_text(&line, "backend", r->maker.backend);
    console_end(&line);
}

static enum status open_file(struct restore *r)
{
    errno = 0;
    enum status st = disk_open_reading(&r->disk);
    if (st == ST_OK)
        st = disk_open(r->disk, r->path, DISK_READ_ONLY, &r->file);
    if (st == ST_OK)
        return ST_OK;
    enum status said =
        buf_printf(&r->why, "open %s: %s", r->path,
                   st == ST_NOT_FOUND ? "no such file or directory" : strerror(errno));
    (void)said; /* the status is what counts */
    return st;
}

static enum status check_has_digest(struct restore *r)
{
    uint64_t size;
    enum status st = disk_size(r->file, &size);
    if (st != ST_OK || !r->with_digest || dbfile_size_has_digest(size))
        return st;
    buf_reset(&r->why);
    return utl_fail(&r->why, ST_INVALID, "snapshot missing hash but --skip-hash-check=false");
}

/* What can be told at once. */
static enum status check_file(struct restore *r)
{
    struct dbfile_reader *reader;
    enum status st = buf_printf(&r->why, "'%s': ", r->path); /* before whatever is found wrong */
    if (st == ST_OK)
        st = dbfile_reader_open(r->file, &r->why, &reader); /* is it such a file at all? */
    if (st != ST_OK)
        return st;
    progress_begin(&r->progress, clock_real(), "restoring", dbfile_reader_info(reader).size_bytes);
    dbfile_reader_close(reader);
    st = check_has_digest(r);
    if (st == ST_OK)
        buf_reset(&r->why);
    return st;
}

/* The digest's verdict comes before any other: what fails in a damaged file is damage. */
static enum status end_digest(struct restore *r, struct digest_check *check, enum status st)
{
    struct buf why;
    buf_init(&why, UTL_WHY_BYTES_MAX);
    enum status digest = digest_check_end(check, &why);
    if (digest != ST_OK) {
        buf_reset(&r->why);
        st = utl_fail(&r->why, digest, "'%s': %.*s", r->path, (int)why.len, (const char *)why.data);
    }
    buf_deinit(&why);
    return st;
}

static enum status load(struct restore *r, struct maker *maker)
{
    struct digest_check check;
    enum status st = r->with_digest ? digest_check_begin(&check, r->path) : ST_OK;
    if (st == ST_OK)
        st = maker_load(maker, r->file);
    progress_end(&r->progress);
    return r->with_digest ? end_digest(r, &check, st) : st;
}

static enum status make(struct restore *r)
{
    struct maker *maker;
    enum status st = maker_begin(&r->maker, &r->why, &maker);
    if (st != ST_OK)
        return st;
    st = load(r, maker);
    if (st == ST_OK)
        st = founding_finish(&r->founding, maker, r->raise);
    maker_close(maker);
    return st;
}

/* --dry-run: the digest, where there is one. */
static enum status only_check(struct restore *r)
{
    struct digest_check check;
    if (!r->with_digest)
        return ST_OK;
    enum status st = digest_check_begin(&check, r->path);
    return end_digest(r, &check, st);
}

static enum status restore(struct restore *r)
{
    const struct founding_words words = founding_flags(r->cli);
    enum status st = founding_read(&words, &r->founding, &r->why);
    if (st != ST_OK)
        return st;
    r->maker.cluster_id = r->founding.cluster->cluster_id;
    r->maker.member_id = r->founding.self->id;
    st = maker_check(&r->maker, &r->why);
    if (st != ST_OK)
        return st;
    bool is_real = !cli_bool(r->cli, "dry-run");
    tell(r, is_real ? "restoring snapshot" : "would restore snapshot; the file is only checked");
    st = open_file(r);
    if (st == ST_OK)
        st = check_file(r);
    if (st == ST_OK)
        st = is_real ? make(r) : only_check(r);
    if (st == ST_OK && is_real)
        tell(r, "restored snapshot");
    return st;
}

static int run(struct cli *cli)
{
    struct restore r = {.cli = cli, .path = utl_word(cli, "snapshot restore")};
    if (r.path == NULL)
        return CLI_EXIT_BAD_ARGUMENTS;
    r.raise = cli_uint(cli, "bump-revision");
    r.with_digest = !cli_bool(cli, "skip-hash-check");
    if ((r.raise > 0) != cli_bool(cli, "mark-compacted"))
        return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS,
                        "--mark-compacted required if --revision-bump > 0");
    r.maker = (struct maker_options){.data_dir = cli_string(cli, "data-dir"),
                                     .wal_dir = cli_string(cli, "wal-dir"),
                                     .backend = cli_string(cli, "backend"),
                                     .clock = clock_real(),
                                     .progress = &r.progress};
    buf_init(&r.why, UTL_WHY_BYTES_MAX);
    enum status st = restore(&r);
    int code = utl_end(cli, st, &r.why);
    disk_close(r.file);
    disk_free(r.disk);
    founding_deinit(&r.founding);
    buf_deinit(&r.why);
    return code;
}

static const struct cli_flag flags[] = {
    {.name = "data-dir",
     .kind = CLI_STRING,
     .required = true,
     .help = "Path to the output data directory"},
    {.name = "wal-dir",
     .kind = CLI_STRING,
     .help = "Path to the WAL directory (use --data-dir if none given)"},
    FOUNDING_FLAGS,
    {.name = "skip-hash-check",
     .kind = CLI_BOOL,
     .help = "Ignore snapshot integrity hash value (required if copied from data directory)"},
    {.name = "initial-memory-map-size",
     .kind = CLI_UINT,
     .hidden = true,
     .initial = "0",
     .help = "Accepted for etcdutl's sake: no database is mapped"},
    {.name = "bump-revision",
     .kind = CLI_UINT,
     .initial = "0",
     .help = "How much to increase the latest revision after restore"},
    {.name = "mark-compacted",
     .kind = CLI_BOOL,
     .help = "Mark the latest revision after restore as the point of scheduled compaction "
             "(required if --bump-revision > 0, disallowed otherwise)"},
    {.name = "backend",
     .kind = CLI_STRING,
     .initial = "lmdb",
     .help = "How the store is kept: lmdb or sqlite"},
    {.name = "dry-run", .kind = CLI_BOOL, .help = "Check everything and change nothing"},
    {0},
};

const struct cli_command utl_restore_command = {
    .name = "restore",
    .usage = "<filename> --data-dir {output dir} [options]",
    .brief = "Restores an etcd member snapshot to a Cleat directory",
    .flags = flags,
    .run = run,
};
