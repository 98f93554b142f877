/* log truncate: the way on for a member whose log is damaged in the middle and that has nobody to
 * get the entries from. A new log is written beside the old one: the store's mark, the entries that
 * can be trusted up to the one named, the newest vote that can be read. Then the two change places
 * in one step; the old one stays beside it under another name, so nothing is lost by the command
 * itself. */
#include "base/clock_real.h"
#include "server/state/conf_state.h"
#include "tools/utl/commands.h"
#include "tools/utl/console.h"
#include "tools/utl/stopped.h"
#include "tools/utl/utl.h"
#include "wal/disks.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CALLER "utl/log_truncate.c"
#define PIECE_ENTRIES 256U
#define PIECE_BYTES (16U << 20)
#define OLD_NAMES_MAX 1000U

struct truncation {
    struct cli *cli;
    struct buf why;
    struct stopped stopped;
    raft_index after;
    char part[PATH_MAX + 16],
        old[PATH_MAX + 32]; /* the new log while it is made; the old one after */
};

/* ---- what it would do ---- */

static enum status check(struct truncation *t)
{
    const struct stopped *s = &t->stopped;
    if (t->after < s->mark.index)
        return utl_fail(&t->why, ST_INVALID,
                        "the store has applied entry %" PRIu64
                        ": the log cannot end before it. To go on from what the store holds, make "
                        "a new cluster of it: cleatutl recover %s",
                        s->mark.index, s->datadir.root);
    raft_index last =
        s->recovered.last_index > s->mark.index ? s->recovered.last_index : s->mark.index;
    if (t->after > last)
        return utl_fail(&t->why, ST_INVALID,
                        "the log can be trusted up to entry %" PRIu64 " alone: --after %" PRIu64
                        " is beyond it",
                        last, t->after);
    if (t->after == last && s->report.verdict == ST_OK)
        return utl_fail(&t->why, ST_INVALID,
                        "the log is sound and ends at entry %" PRIu64 ": there is nothing to cut",
                        last);
    return ST_OK;
}

static void tell(const struct truncation *t)
{
    const struct stopped *s = &t->stopped;
    struct console line;
    if (s->report.text[0] != '\0') {
        console_begin(&line, "warn", CALLER, s->report.text);
        console_end(&line);
    }
    console_begin(&line, "warn", CALLER, "every entry behind this one is lost");
    console_u64(&line, "after", t->after);
    if (s->recovered.last_index > t->after) {
        console_u64(&line, "readable-entries-lost", s->recovered.last_index - t->after);
        console_u64(&line, "last-readable-entry", s->recovered.last_index);
    }
    if (s->report.damage_first > 0) {
        console_u64(&line, "damaged-from-entry", s->report.damage_first);
        console_u64(&line, "damaged-to-entry-at-least", s->report.damage_last);
    }
    console_u64(&line, "known-committed", s->recovered.hard_state.commit);
    console_u64(&line, "store-at-entry", s->mark.index);
    console_end(&line);
    console_begin(
        &line, "warn", CALLER,
        "acknowledged writes may be among them. A member of a cluster with others must not "
        "be cut: it could break what it promised them; remove it and add it again");
    console_end(&line);
}

/* ---- the new log ---- */

static enum status append(struct wal *wal, const struct wal_append *append)
{
    uint64_t ticket;
    enum status st = wal_append(wal, append, &ticket);
    return st == ST_OK ? wal_finish(wal) : st;
}

static enum status copy_entries(struct truncation *t, struct wal *to,
                                const struct raft_hard_state *hard_state)
{
    struct raft_entry entries[PIECE_ENTRIES];
    enum status st = ST_OK;
    for (raft_index next = t->stopped.mark.index + 1; st == ST_OK && next <= t->after;) {
        uint32_t count = 0;
        raft_index last = next + PIECE_ENTRIES - 1 < t->after ? next + PIECE_ENTRIES - 1 : t->after;
        st = wal_read(t->stopped.wal, next, last, PIECE_BYTES, entries, &count);
        const struct wal_append piece = {
            .entries = entries, .entries_count = count, .hard_state = hard_state};
        if (st == ST_OK)
            st = append(to, &piece);
        for (uint32_t i = 0; i < count; i++)
            raft_payload_unref(entries[i].payload);
        next += count;
    }
    return st;
}

static enum status fill(struct truncation *t, struct wal *to)
{
    const struct stopped *s = &t->stopped;
    struct raft_snapshot_meta snapshot = {.last = {s->mark.index, s->mark.term}};
    struct raft_hard_state hard_state = s->recovered.hard_state;
    if (hard_state.commit > t->after)
        hard_state.commit = t->after;
    enum status st = conf_state_decode(s->mark.conf_state, &snapshot.conf_state);
    const struct wal_append first = {.hard_state = &hard_state,
                                     .snapshot = s->mark.index > 0 ? &snapshot : NULL};
    if (st == ST_OK)
        st = append(to, &first);
    return st == ST_OK ? copy_entries(t, to, &hard_state) : st;
}

static enum status write_new(struct truncation *t)
{
    struct disk *disk = NULL;
    struct wal *wal = NULL;
    struct wal_recovered recovered;
    struct wal_report report = {0};
    char why[512] = "";
    if (mkdir(t->part, 0700) != 0 && errno != EEXIST)
        return utl_fail(&t->why, ST_IO, "cannot make '%s': %s", t->part, strerror(errno));
    enum status st = disk_open_real(DISK_KIND_FDATASYNC, t->part, &disk, why, sizeof(why));
    if (st != ST_OK)
        return utl_fail(&t->why, st, "cannot write a log in '%s': %s", t->part, why);
    const struct wal_options options = {.disk = disk,
                                        .clock = clock_real(),
                                        .rng = &t->stopped.rng,
                                        .dir = t->part,
                                        .life_id = t->stopped.datadir.format.life_id,
                                        .create = true};
    st = wal_open(&options, &wal, &recovered, &report);
    if (st == ST_OK)
        st = fill(t, wal);
    wal_close(wal);
    disk_free(disk);
    if (st != ST_OK)
        return utl_fail(&t->why, st, "cannot write a log in '%s': %s", t->part,
                        report.text[0] != '\0' ? report.text : status_str(st));
    return ST_OK;
}

/* ---- the change of places ---- */

static void remove_part(const char *folder)
{
    DIR *dir = opendir(folder);
    if (dir == NULL)
        return;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        (void)unlinkat(dirfd(dir), entry->d_name, 0); /* a log's directory holds files alone */
    closedir(dir);
    (void)rmdir(folder);
}

static enum status sync_above(struct truncation *t)
{
    char folder[PATH_MAX + 16];
    snprintf(folder, sizeof(folder), "%s", t->part);
    char *slash = strrchr(folder, '/');
    if (slash == NULL)
        snprintf(folder, sizeof(folder), ".");
    else
        slash[slash == folder] = '\0';
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool failed = fd < 0 || fsync(fd) != 0;
    int error = errno;
    if (fd >= 0)
        close(fd);
    return failed ? utl_fail(&t->why, ST_IO, "cannot sync '%s': %s", folder, strerror(error))
                  : ST_OK;
}

static enum status swap(struct truncation *t)
{
    const char *log = t->stopped.datadir.wal;
    unsigned n = 1;
    do
        snprintf(t->old, sizeof(t->old), "%s.cut-%u", log, n++);
    while (access(t->old, F_OK) == 0 && n < OLD_NAMES_MAX);
    enum status st = sync_above(t); /* the new one's name */
    if (st != ST_OK)
        return st;
    if (renameat2(AT_FDCWD, t->part, AT_FDCWD, log, RENAME_EXCHANGE) != 0)
        return utl_fail(&t->why, ST_IO,
                        "cannot put '%s' in the place of '%s': %s. Nothing was changed", t->part,
                        log, strerror(errno));
    st = sync_above(t);
    if (st == ST_OK && rename(t->part, t->old) != 0)
        st = utl_fail(&t->why, ST_IO, "the log is cut, but the old one stays at '%s': %s", t->part,
                      strerror(errno));
    return st == ST_OK ? sync_above(t) : st;
}

/* ---- the command ---- */

static enum status truncate_log(struct truncation *t)
{
    enum status st = stopped_open(t->cli, &t->stopped, &t->why);
    if (st == ST_OK)
        st = check(t);
    if (st != ST_OK)
        return st;
    tell(t);
    if (cli_bool(t->cli, "dry-run"))
        return ST_OK;
    if (!cli_bool(t->cli, "yes"))
        return utl_fail(&t->why, ST_CANCELED,
                        "nothing was changed: to do it, give the command again with --yes");
    snprintf(t->part, sizeof(t->part), "%s.new", t->stopped.datadir.wal);
    remove_part(t->part);
    st = write_new(t);
    if (st == ST_OK)
        st = swap(t);
    if (st != ST_OK)
        return st;
    struct console line;
    console_begin(&line, "info", CALLER,
                  "the log is cut; the old one is kept, remove it when all is well");
    console_u64(&line, "last-index", t->after);
    console_text(&line, "log", t->stopped.datadir.wal);
    console_text(&line, "old-log", t->old);
    console_end(&line);
    return ST_OK;
}

static int run(struct cli *cli)
{
    struct truncation t = {.cli = cli, .after = cli_uint(cli, "after")};
    buf_init(&t.why, UTL_WHY_BYTES_MAX);
    enum status st = truncate_log(&t);
    stopped_close(&t.stopped);
    int code = utl_end(cli, st, &t.why);
    buf_deinit(&t.why);
    return code;
}

static const struct cli_flag flags[] = {
    STOPPED_FLAGS,
    {.name = "after",
     .kind = CLI_UINT,
     .required = true,
     .help = "The last entry to keep; the refusal of the damaged log names the first that is bad"},
    {.name = "yes", .kind = CLI_BOOL, .help = "Do it: what comes behind that entry is lost"},
    {0}};

const struct cli_command utl_log_truncate_command = {
    .name = "truncate",
    .usage = "--data-dir {directory} --after {entry} --yes",
    .brief = "Cuts a stopped member's damaged log behind an entry",
    .flags = flags,
    .run = run,
};
