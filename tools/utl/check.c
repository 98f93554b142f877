/* check: a verdict for each part of a data directory, and what an operator can do next. */
#include "base/clock_real.h"
#include "base/minmax.h"
#include "server/state/machine.h"
#include "storage/store.h"
#include "tools/utl/agreement.h"
#include "tools/utl/commands.h"
#include "tools/utl/format.h"
#include "tools/utl/lost_format.h"
#include "tools/utl/soundness.h"
#include "tools/utl/utl.h"
#include "wal/disks.h"

#include <inttypes.h>
#include <string.h>

struct checking {
    struct cli *cli;
    const char *data_dir, *wal_dir;
    struct datadir datadir;
    enum datadir_kind kind;
    bool is_running;
    struct lost_format lost;
    struct utl_report report;
    struct buf why;
    bool store_is_damaged, log_is_damaged;
    bool are_two;           /* log and store are of different lives */
    raft_index last_good;   /* of the log; 0: not known */
    raft_index store_index; /* where the store stands */
};

static void take_fault(struct checking *c, struct utl_check *check, enum status st)
{
    if (c->why.len > 0)
        utl_check_fault(check, "%.*s", (int)c->why.len, (const char *)c->why.data);
    else
        utl_check_fault(check, "%s", status_str(st));
    buf_reset(&c->why);
}

static struct utl_source_options options_of(const struct checking *c)
{
    return (struct utl_source_options){
        .path = c->data_dir, .wal_dir = c->wal_dir, .even_without_format = true};
}

/* ---- FORMAT ---- */

/* What is gone on with instead. */
static void tell_lost(const struct checking *c, struct utl_check *check)
{
    const struct lost_format *lost = &c->lost;
    char store[192] = "no store";
    if (lost->stores_count > 0)
        snprintf(store, sizeof(store), "backend %s, store '%s'%s", lost->format.backend,
                 lost->format.store_name,
                 lost->stores_count > 1 ? ", which stands furthest of several" : "");
    utl_check_fault(check, "%s. By log and store: %s, life id %016" PRIx64, lost->why, store,
                    lost->format.life_id);
}

static void tell_lives(struct checking *c)
{
    const struct lost_format *lost = &c->lost;
    c->are_two = lost->is_lost && lost->log_life_id != 0 && lost->store_life_id != 0 &&
                 lost->log_life_id != lost->store_life_id;
    if (!c->are_two)
        return;
    struct utl_check *check = utl_report_add(&c->report, "log and store");
    check->count = 2;
    utl_check_fault(check,
                    "they are of different members: the log's life id is %016" PRIx64
                    ", the store's %016" PRIx64,
                    lost->log_life_id, lost->store_life_id);
}

static enum status check_format(struct checking *c)
{
    enum status st =
        lost_format_look(c->data_dir, c->wal_dir, &c->datadir, &c->kind, &c->is_running, &c->lost);
    if (st != ST_OK)
        return buf_printf(&c->why, "%s", c->lost.why) == ST_OK ? st : ST_NO_MEMORY;
    if (c->kind == DATADIR_NOTHING || c->kind == DATADIR_UNFINISHED)
        return buf_printf(&c->why, "'%s' holds no data of Cleat's or etcd's%s", c->data_dir,
                          c->kind == DATADIR_UNFINISHED
                              ? ", but a first start that was cut short: it can be removed"
                              : "") == ST_OK
                   ? ST_INVALID
                   : ST_NO_MEMORY;
    if (c->kind != DATADIR_CLEAT)
        return ST_OK; /* etcd has none */
    struct utl_check *check = utl_report_add(&c->report, "FORMAT");
    check->count = 1;
    if (c->lost.is_lost)
        tell_lost(c, check);
    else
        utl_check_remark(check, "backend %s, life id %016" PRIx64 ", member %" PRIx64 "%s",
                         c->datadir.format.backend, c->datadir.format.life_id,
                         c->datadir.format.member_id, c->is_running ? ", running" : "");
    tell_lives(c);
    return ST_OK;
}

/* ---- the store ---- */

static enum status check_store(struct checking *c)
{
    struct utl_check *check = utl_report_add(&c->report, "store");
    struct utl_source_options options = options_of(c);
    struct utl_source *source;
    struct buf faults;
    options.without_log = options.without_index = true;
    enum status st = utl_source_open(&options, &c->why, &source);
    if (st == ST_OK) {
        buf_init(&faults, UTL_WHY_BYTES_MAX);
        check->count = source->stat.size_bytes;
        c->store_index = source->mark.index;
        st = utl_source_check_store(source, &faults);
        const uint8_t *end = faults.len == 0 ? NULL : memchr(faults.data, '\n', faults.len);
        int len = (int)(end == NULL ? faults.len : (size_t)(end - faults.data));
        if (st == ST_CORRUPT)
            utl_check_fault(check, "store '%s': %.*s", source->store_path, len,
                            (const char *)faults.data);
        else
            utl_check_remark(check, "'%s' stands at entry %" PRIu64 " of term %" PRIu64,
                             source->store_path, source->mark.index, source->mark.term);
        buf_deinit(&faults);
        utl_source_close(source);
        st = st == ST_CORRUPT ? ST_OK : st;
    } else if (st != ST_NO_MEMORY) {
        take_fault(c, check, st);
        st = ST_OK;
    }
    c->store_is_damaged = check->faults > 0;
    return st;
}

/* ---- the log ---- */

static void tell_log(struct checking *c, struct utl_check *check, raft_index first, raft_index last,
                     enum status verdict, const char *text, bool torn_tail)
{
    check->count = last >= first ? last - first + 1 : 0;
    c->last_good = last;
    if (verdict == ST_CORRUPT) {
        utl_check_fault(check, "the last good entry is %" PRIu64 ". %s", last, text);
        c->log_is_damaged = true;
    } else if (last >= first) {
        utl_check_remark(check, "entries %" PRIu64 " to %" PRIu64 "%s", first, last,
                         torn_tail ? "; a torn tail follows, as after any crash" : "");
    } else {
        utl_check_remark(check, "no entries behind %" PRIu64, last);
    }
}

/* Without a store to measure it by. */
static enum status check_lone_log(struct checking *c, struct utl_check *check)
{
    struct disk *disk;
    struct wal *wal;
    struct wal_recovered recovered;
    struct wal_report report;
    struct rng rng;
    uint64_t life_id = c->lost.is_lost ? c->lost.log_life_id : c->datadir.format.life_id;
    rng_seed(&rng, 1); /* for segments that are never made */
    enum status st = disk_open_reading(&disk);
    if (st != ST_OK)
        return st;
    const struct wal_options options = {.disk = disk,
                                        .clock = clock_real(),
                                        .rng = &rng,
                                        .dir = c->datadir.wal,
                                        .life_id = life_id,
                                        .read_only = true,
                                        .mark_is_unknown = true};
    st = wal_open(&options, &wal, &recovered, &report);
    if (st == ST_OK)
        tell_log(c, check, recovered.first_index, recovered.last_index, report.verdict, report.text,
                 report.torn_tail);
    else if (st != ST_NO_MEMORY)
        utl_check_fault(check, "%s", report.text);
    wal_close(wal);
    disk_free(disk);
    return st == ST_NO_MEMORY ? st : ST_OK;
}

static enum status check_lone_etcd_log(struct checking *c, struct utl_check *check)
{
    struct disk *disk;
    struct etcd_wal wal;
    enum status st = disk_open_reading(&disk);
    if (st != ST_OK)
        return st;
    st = etcd_wal_read(disk, c->datadir.wal, /* after= */ 0, &wal, &c->why);
    if (st == ST_OK && buf_append(&wal.text, slice_make("", 1)) == ST_OK)
        tell_log(c, check, wal.first_index, wal.last_index, wal.verdict,
                 (const char *)wal.text.data, wal.torn_tail);
    else if (st != ST_NO_MEMORY && st != ST_OK)
        take_fault(c, check, st);
    etcd_wal_deinit(&wal);
    disk_free(disk);
    return st == ST_NO_MEMORY ? st : ST_OK;
}

/* The log's tail, applied over the store as a start would. */
static void tell_replay(struct utl_report *report, const struct utl_source *source)
{
    struct utl_check *check = utl_report_add(report, "the log's tail over the store");
    check->count = source->applied - source->mark.index;
    check->skipped = source->apply_status == ST_UNSUPPORTED;
    if (check->skipped)
        utl_check_remark(check, "%.*s", (int)source->apply_text.len,
                         (const char *)source->apply_text.data);
    else if (source->apply_text.len > 0)
        utl_check_fault(check, "%.*s", (int)source->apply_text.len,
                        (const char *)source->apply_text.data);
    else
        utl_check_remark(check,
                         "entries up to %" PRIu64 " apply; committed as far as is known: "
                         "%" PRIu64,
                         source->applied, source->committed);
}

/* Of an etcd's directory: whom it starts with. */
static void tell_snapshots(struct utl_report *report, const struct utl_source *source)
{
    if (source->kind != UTL_SOURCE_ETCD)
        return;
    struct utl_check *check = utl_report_add(report, "members of the v2 store");
    struct members *members = machine_members(source->machine);
    check->count = members_count(members);
    members_unref(members);
    if (source->snap_text.len > 0)
        utl_check_fault(check, "%.*s", (int)source->snap_text.len,
                        (const char *)source->snap_text.data);
}

/* The store as it is, without what the log has more. */
static enum status compare(struct checking *c)
{
    struct utl_source_options options = options_of(c);
    struct utl_source *source;
    options.without_index = true;
    enum status st = utl_source_open(&options, &c->why, &source);
    if (st == ST_OK && source->has_log && source->mark.index > 0)
        st = utl_check_agreement(source, &c->report);
    if (st == ST_OK)
        utl_source_close(source);
    buf_reset(&c->why);
    return st == ST_NO_MEMORY ? st : ST_OK;
}

static enum status check_log(struct checking *c)
{
    struct utl_check *check = utl_report_add(&c->report, "log");
    struct utl_source_options options = options_of(c);
    struct utl_source *source;
    if (c->store_is_damaged || c->are_two)
        return c->kind == DATADIR_CLEAT ? check_lone_log(c, check) : check_lone_etcd_log(c, check);
    enum status st = utl_source_open(&options, &c->why, &source);
    if (st == ST_NO_MEMORY)
        return st;
    if (st != ST_OK) {
        take_fault(c, check, st);
        return ST_OK;
    }
    struct utl_source *s = source;
    tell_log(c, check, s->log_first, s->log_last, s->log_verdict,
             buf_append(&s->log_text, slice_make("", 1)) == ST_OK ? (const char *)s->log_text.data
                                                                  : "",
             s->torn_tail);
    tell_snapshots(&c->report, s);
    tell_replay(&c->report, s);
    st = compare(c);
    if (st == ST_OK)
        st = utl_check_state(s, &c->report);
    utl_source_close(s);
    return st;
}

/* ---- what to do ---- */

/* FORMAT cannot be written anew: the ids stood nowhere else. */
static void advise_without_format(const struct checking *c)
{
    FILE *out = c->cli->err;
    const char *equals = c->wal_dir[0] != '\0' ? "=" : "";
    if (c->are_two)
        fprintf(out,
                "If it is the only one: find the log or the store that belongs to the other, or "
                "restore a snapshot with 'cleatutl snapshot restore'. What the store alone holds "
                "is shown by: cleatutl inspect keys --store-only %s\n",
                c->data_dir);
    else if (c->store_is_damaged)
        fprintf(out, "If it is the only one: restore a snapshot with 'cleatutl snapshot "
                     "restore'.\n");
    else
        fprintf(out,
                "If it is the only one: a new cluster can be made of what is here, up to entry "
                "%" PRIu64 ", with: cleatutl recover %s%s%s --data-dir <new directory> --yes\n",
                max_u64(c->last_good, c->store_index), c->data_dir, equals, c->wal_dir);
}

static void advise(const struct checking *c)
{
    FILE *out = c->cli->err;
    if (c->kind == DATADIR_ETCD) {
        fprintf(out,
                "What can be done: start etcd from another member's or a snapshot's data; what "
                "is sound here can be shown with: cleatutl inspect keys %s\n",
                c->data_dir);
        return;
    }
    fprintf(out, "What can be done: if the other members have a quorum, remove this member and add "
                 "it again with an empty data directory. ");
    if (c->lost.is_lost)
        advise_without_format(c);
    else if (c->log_is_damaged && !c->store_is_damaged)
        fprintf(out,
                "If it is the only one: the log can be cut behind entry %" PRIu64 " with 'cleatutl "
                "log truncate' (what follows is lost), or the store alone can be shown with: "
                "cleatutl inspect keys --store-only %s\n",
                c->last_good, c->data_dir);
    else
        fprintf(out, "If it is the only one: restore a snapshot with 'cleatutl snapshot "
                     "restore'.\n");
}

static enum status check_all(struct checking *c)
{
    enum status st = check_format(c);
    if (st == ST_OK)
        st = check_store(c);
    return st == ST_OK ? check_log(c) : st;
}

static int run(struct cli *cli)
{
    enum utl_format format;
    struct checking c = {
        .cli = cli, .data_dir = cli_string(cli, "data-dir"), .wal_dir = cli_string(cli, "wal-dir")};
    if (cli->words_count != 0)
        return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS, "check takes no arguments");
    int code = utl_read_format(cli, &format);
    if (code != CLI_EXIT_OK)
        return code;
    buf_init(&c.why, UTL_WHY_BYTES_MAX);
    enum status st = check_all(&c);
    if (st == ST_OK)
        st = utl_report_print(&c.report, cli->out, format);
    if (st == ST_OK && utl_report_faults(&c.report) > 0) {
        code = cli_fail(cli, CLI_EXIT_ERROR, "'%s' is damaged: %" PRIu64 " faults", c.data_dir,
                        utl_report_faults(&c.report));
        advise(&c);
    } else {
        code = utl_end(cli, st, &c.why);
    }
    buf_deinit(&c.why);
    return code;
}

static const struct cli_flag flags[] = {
    {.name = "data-dir",
     .kind = CLI_STRING,
     .required = true,
     .initial = "",
     .help = "the data directory, of a running member too"},
    {.name = "wal-dir",
     .kind = CLI_STRING,
     .initial = "",
     .help = "the directory of the log, if it is not in the data directory"},
    {0},
};
const struct cli_command utl_check_command = {
    .name = "check",
    .brief = "Checks a data directory: its log, its store, and whether they go together",
    .text = "Exit code 0: sound. 1: damaged, or it cannot be read. Nothing is changed.",
    .flags = flags,
    .run = run};
