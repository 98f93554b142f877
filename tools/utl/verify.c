/* snapshot verify: everything that can be said of a snapshot or db file without a server. */
#include "base/buf.h"
#include "base/clock_real.h"
#include "storage/dbfile/reader.h"
#include "tools/utl/commands.h"
#include "tools/utl/format.h"
#include "tools/utl/progress.h"
#include "tools/utl/soundness.h"
#include "tools/utl/utl.h"
#include "wal/disks.h"

#include <errno.h>
#include <string.h>

struct verification {
    struct disk *disk;
    struct disk_file *file;
    struct buf why;
    struct utl_report report;
};

static void take_fault(struct verification *v, struct utl_check *check, enum status st)
{
    if (v->why.len > 0)
        utl_check_fault(check, "%.*s", (int)v->why.len, (const char *)v->why.data);
    else
        utl_check_fault(check, "%s", status_str(st));
    buf_reset(&v->why);
}

static enum status check_digest(struct verification *v)
{
    struct utl_check *check = utl_report_add(&v->report, "SHA-256");
    enum status st = dbfile_check_digest(v->file, &v->why);
    if (st == ST_NO_MEMORY)
        return st;
    check->count = st != ST_NOT_FOUND;
    check->skipped = st == ST_NOT_FOUND;
    if (st == ST_NOT_FOUND)
        utl_check_remark(check, "the file carries none: it is a member's db, or was cut off");
    else if (st != ST_OK)
        take_fault(v, check, st);
    return ST_OK;
}

/* *sound_out: the file can be looked into. */
static enum status check_pages(struct verification *v, bool *sound_out)
{
    struct utl_check *check = utl_report_add(&v->report, "pages");
    struct dbfile_reader *reader;
    struct dbfile_item item;
    enum status st = dbfile_reader_open(v->file, &v->why, &reader);
    struct progress progress;
    progress_begin(&progress, clock_real(), "checking pages",
                   st == ST_OK ? dbfile_reader_info(reader).size_bytes : 0);
    while (st == ST_OK) {
        st = dbfile_reader_next(reader, &item);
        struct dbfile_info info = dbfile_reader_info(reader);
        progress_at(&progress, info.visited_pages_count * info.page_bytes);
    }
    progress_end(&progress);
    if (reader != NULL) {
        struct dbfile_info info = dbfile_reader_info(reader);
        check->count = info.visited_pages_count;
        if (info.valid_metas_count < 2)
            utl_check_remark(check, "one of the two meta pages is not valid: what is there may be "
                                    "the transaction before the last");
    }
    dbfile_reader_close(reader);
    *sound_out = st == ST_NOT_FOUND;
    if (st == ST_NO_MEMORY)
        return st;
    if (st != ST_NOT_FOUND)
        take_fault(v, check, st);
    return ST_OK;
}

static enum status check_content(struct verification *v, const char *path)
{
    const struct utl_source_options options = {.path = path, .without_index = true};
    struct utl_source *source;
    enum status st = utl_source_open(&options, &v->why, &source);
    if (st == ST_NO_MEMORY)
        return st;
    if (st != ST_OK) {
        take_fault(v, utl_report_add(&v->report, "meta"), st);
        return ST_OK;
    }
    st = utl_check_state(source, &v->report);
    utl_source_close(source);
    return st;
}

static enum status verify(struct verification *v, const char *path)
{
    errno = 0;
    enum status st = disk_open_reading(&v->disk);
    if (st == ST_OK)
        st = disk_open(v->disk, path, DISK_READ_ONLY, &v->file);
    if (st != ST_OK)
        return buf_printf(&v->why, "open %s: %s", path,
                          st == ST_NOT_FOUND ? "no such file or directory" : strerror(errno)) ==
                       ST_OK
                   ? st
                   : ST_NO_MEMORY;
    bool sound = false;
    st = check_digest(v);
    if (st == ST_OK)
        st = check_pages(v, &sound);
    return st == ST_OK && sound ? check_content(v, path) : st;
}

static int run(struct cli *cli)
{
    enum utl_format format;
    struct verification v = {0};
    const char *path = utl_word(cli, "snapshot verify");
    if (path == NULL)
        return CLI_EXIT_BAD_ARGUMENTS;
    int code = utl_read_format(cli, &format);
    if (code != CLI_EXIT_OK)
        return code;
    buf_init(&v.why, UTL_WHY_BYTES_MAX);
    enum status st = verify(&v, path);
    if (st == ST_OK)
        st = utl_report_print(&v.report, cli->out, format);
    uint64_t faults = utl_report_faults(&v.report);
    if (st == ST_OK && faults > 0)
        code = cli_fail(cli, CLI_EXIT_ERROR, "'%s' is damaged: %llu faults", path,
                        (unsigned long long)faults);
    else
        code = utl_end(cli, st, &v.why);
    disk_close(v.file);
    disk_free(v.disk);
    buf_deinit(&v.why);
    return code;
}

const struct cli_command utl_verify_command = {
    .name = "verify",
    .usage = "<filename>",
    .brief = "Checks a snapshot or db file: its SHA-256, every page, every record, what refers to "
             "what",
    .text =
        "Exit code 0: sound. 1: damaged, or it cannot be read. bbolt's pages have no checksums: "
        "without a SHA-256\nat its end a file may be well formed and yet not what was written.",
    .run = run};
