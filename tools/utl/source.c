#include "tools/utl/source.h"

#include "base/clock.h"
#include "base/clock_real.h"
#include "base/lock.h"
#include "base/minmax.h"
#include "server/state/machine.h"
#include "storage/dbfile/backend_dbfile.h"
#include "storage/mvcc.h"
#include "storage/store.h"
#include "tools/utl/lost_format.h"
#include "tools/utl/touched.h"
#include "wal/disks.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAP_BYTES_MAX (64ULL << 30) /* as the server opens it: address space alone */
#define RUNNING_TRIES 8             /* while a member changes what is read */
#define TEXT_BYTES_MAX 8192U
#define READ_ENTRIES 1024U
#define READ_BYTES (8U << 20)

static enum status say(struct buf *text, enum status st, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static enum status say(struct buf *text, enum status st, const char *format, ...)
{
    char line[PATH_MAX + 1024];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    enum status said = buf_printf(text, "%s", line);
    (void)said; /* the status is what counts */
    return st;
}

static enum status set_path(struct utl_source *s, char out[PATH_MAX], const char *folder,
                            const char *name)
{
    int len = snprintf(out, PATH_MAX, "%s/%s", folder, name);
    if (len > 0 && len < PATH_MAX)
        return ST_OK;
    return say(s->why, ST_INVALID, "the path '%s/%s' is too long", folder, name);
}

/* ---- progress ---- */

static void show(struct utl_source *s, const char *what, uint64_t done_bytes, uint64_t total_bytes)
{
    if (s->progress_of != what || done_bytes < s->progress_bytes) {
        utl_source_end_progress(s);
        progress_begin(&s->progress, clock_real(), what, total_bytes);
        s->progress_of = what;
    }
    s->progress_bytes = done_bytes;
    progress_at(&s->progress, done_bytes);
}

static void show_check(void *context, uint64_t done_bytes, uint64_t total_bytes)
{
    show(context, "checking the store", done_bytes, total_bytes);
}

static void show_walk(void *context, uint64_t done_bytes, uint64_t total_bytes)
{
    struct utl_source *s = context;
    (void)total_bytes; /* the key space does not know */
    show(s, s->mvcc == NULL ? "building the index" : "reading", done_bytes, s->stat.in_use_bytes);
}

void utl_source_end_progress(struct utl_source *s)
{
    if (s->progress_of != NULL)
        progress_end(&s->progress);
    s->progress_of = NULL;
    s->progress_bytes = 0;
}

enum status utl_source_check_store(struct utl_source *s, struct buf *report)
{
    enum status st = store_check(s->store, report);
    utl_source_end_progress(s);
    return st;
}

/* ---- the store ---- */

static enum status open_store(struct utl_source *s, const struct backend_ops *ops)
{
    s->backend_name = ops->name;
    struct store_options options = {
        .backend = ops,
        .backend_options = {.path = s->store_path,
                            .life_id = s->life_id,
                            .map_bytes_max = MAP_BYTES_MAX,
                            .read_only = true,
                            .shared =
                                lost_format_is_shared(s->store_path, ops->name, s->is_running),
                            .disk = s->disk,
                            .watch = &s->store_watch,
                            .why = s->why},
        .lock = s->lock,
        .clock = clock_real(),
        .readers_count = UTL_SOURCE_READER + 1};
    bool is_dbfile = ops == backend_dbfile(); /* whose sentences do not name it */
    if (is_dbfile)
        say(s->why, ST_OK, "'%s': ", s->store_path);
    size_t before = s->why->len;
    enum status st = store_open(&options, &s->store);
    utl_source_end_progress(s);
    if (st != ST_OK && s->why->len == before)
        return say(s->why, st, "%s: cannot be opened: %s", is_dbfile ? "db file" : s->store_path,
                   status_str(st));
    if (st != ST_OK)
        return st;
    buf_reset(s->why);
    struct store_stat stat;
    s->mark = store_opened_at(s->store);
    st = store_get_stat(s->store, &stat);
    if (st == ST_OK)
        s->stat = stat.backend;
    return st;
}

static const struct backend_ops *find_backend(const char *name)
{
    return strcmp(name, "sqlite") == 0 ? backend_sqlite() : backend_lmdb();
}

/* Why a walk over the store failed, in the words of a check of all of it. */
static enum status explain_store(struct utl_source *s, enum status st, const char *what)
{
    if (st != ST_CORRUPT)
        return say(s->why, st, "store '%s': %s: %s", s->store_path, what, status_str(st));
    say(s->why, st, "store '%s': %s: %s. ", s->store_path, what, status_str(st));
    if (utl_source_check_store(s, s->why) == ST_OK)
        say(s->why, st, "Its structure is sound; a record in it is not");
    return st;
}

static enum status open_state(struct utl_source *s)
{
    char checkpoint[PATH_MAX];
    struct mvcc_options options = {.store = s->store,
                                   .lock = s->lock,
                                   .life_id = s->life_id,
                                   .readers_count = UTL_SOURCE_READER + 1,
                                   .watch = &s->index_watch};
    if (s->options.touched_alone) {
        enum status found = utl_source_find_touched(s);
        if (found != ST_OK)
            return explain_store(s, found, "what the log touches cannot be found");
        options.wants = utl_touched_has;
        options.wants_context = s->touched;
    } else if (s->kind == UTL_SOURCE_CLEAT) {
        datadir_checkpoint_path(&s->datadir, checkpoint, sizeof(checkpoint));
        options.checkpoint_path = checkpoint;
    }
    enum status st = mvcc_open(&options, &s->mvcc);
    utl_source_end_progress(s);
    if (st != ST_OK)
        return explain_store(s, st, "the index of its keys cannot be built");
    struct machine_options machine = {
        .store = s->store, .mvcc = s->mvcc, .cluster_id = s->cluster_id, .member_id = s->member_id};
    st = machine_open(&machine, &s->machine);
    if (st != ST_OK)
        return explain_store(s, st, "its members cannot be read");
    return s->kind == UTL_SOURCE_ETCD && s->has_log ? utl_source_find_members(s) : ST_OK;
}

/* ---- what the log says ---- */

static enum status read_cleat_log(struct utl_source *s)
{
    struct wal_options options = {.disk = s->disk,
                                  .clock = clock_real(),
                                  .dir = s->datadir.wal,
                                  .life_id = s->life_id,
                                  .read_only = true,
                                  .store_mark = {.index = s->mark.index, .term = s->mark.term}};
    struct wal_recovered recovered;
    struct wal_report report;
    struct rng rng;
    rng_seed(&rng, 1); /* for segments that are never made */
    options.rng = &rng;
    enum status st = wal_open(&options, &s->wal, &recovered, &report);
    if (st != ST_OK)
        return say(s->why, st, "%s", report.text);
    s->has_log = true;
    snprintf(s->log_path, sizeof(s->log_path), "%s", s->datadir.wal);
    s->log_first = recovered.first_index;
    s->log_last = recovered.last_index;
    s->hard_state = recovered.hard_state;
    s->snapshot = recovered.snapshot.last;
    s->log_verdict = report.verdict;
    s->torn_tail = report.torn_tail;
    s->damage_first = report.damage_first;
    s->damage_last = report.damage_last;
    say(&s->log_text, ST_OK, "%s", report.text);
    return ST_OK;
}

/* ---- a data directory of ours ---- */

/* The log ends in a received snapshot: the store made of it is the one that counts, whatever FORMAT
 * still says. */
static enum status follow_log(struct utl_source *s)
{
    if (s->snapshot.index <= s->mark.index)
        return ST_OK;
    char name[64];
    const struct backend_ops *ops = find_backend(s->datadir.format.backend);
    snprintf(name, sizeof(name), "store/%016" PRIx64 "%s", s->snapshot.index, ops->suffix);
    store_close(s->store);
    s->store = NULL;
    enum status st = set_path(s, s->store_path, s->datadir.member, name);
    if (st == ST_OK)
        st = open_store(s, ops);
    return st;
}

static enum status open_cleat(struct utl_source *s)
{
    if (s->datadir.format.store_name[0] == '\0')
        return say(s->why, ST_NOT_FOUND, "there is no store in '%s/store'", s->datadir.member);
    s->life_id = s->datadir.format.life_id;
    s->cluster_id = s->datadir.format.cluster_id;
    s->member_id = s->datadir.format.member_id;
    datadir_store_path(&s->datadir, s->store_path, sizeof(s->store_path));
    enum status st = open_store(s, find_backend(s->datadir.format.backend));
    if (st == ST_OK && !s->options.without_log)
        st = read_cleat_log(s);
    if (st == ST_OK && !s->options.without_log)
        st = follow_log(s);
    if (st == ST_OK && s->format_text.len > 0)
        st = utl_source_guess_member(s);
    return st;
}

/* ---- a data directory of etcd's ---- */

/* bbolt holds its file's lock as long as etcd runs. */
static enum status refuse_running_etcd(struct utl_source *s)
{
    int fd = open(s->store_path, O_RDONLY | O_CLOEXEC);
    bool is_locked = fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    if (fd >= 0)
        close(fd);
    if (!is_locked)
        return ST_OK;
    return say(s->why, ST_INVALID,
               "'%s' is in use by a running etcd, whose pages change while they are read: stop it, "
               "or save a snapshot ('cleatctl snapshot save') and look into that",
               s->store_path);
}

static void take_etcd_log(struct utl_source *s)
{
    const struct etcd_wal *wal = &s->etcd_wal;
    s->has_log = true;
    s->member_id = wal->node_id;
    s->cluster_id = wal->cluster_id;
    s->log_first = wal->first_index;
    s->log_last = wal->last_index;
    s->hard_state = wal->hard_state;
    s->snapshot = etcd_wal_snapshot(wal);
    s->log_verdict = wal->verdict;
    s->torn_tail = wal->torn_tail;
    say(&s->log_text, ST_OK, "%.*s", (int)wal->text.len, (const char *)wal->text.data);
}

/* A received snapshot waits beside the db until etcd has taken it for its own. */
static enum status follow_etcd_log(struct utl_source *s)
{
    char name[64], path[PATH_MAX];
    if (s->snapshot.index <= s->mark.index)
        return ST_OK;
    snprintf(name, sizeof(name), "%016" PRIx64 ".snap.db", s->snapshot.index);
    enum status st = set_path(s, path, s->datadir.snap, name);
    if (st != ST_OK || access(path, F_OK) != 0)
        return st;
    store_close(s->store);
    s->store = NULL;
    snprintf(s->store_path, sizeof(s->store_path), "%s", path);
    return open_store(s, backend_dbfile());
}

static enum status open_etcd(struct utl_source *s)
{
    enum status st = set_path(s, s->store_path, s->datadir.snap, "db");
    if (st == ST_OK)
        st = refuse_running_etcd(s);
    if (st == ST_OK)
        st = open_store(s, backend_dbfile());
    if (st != ST_OK || s->options.without_log)
        return st;
    snprintf(s->log_path, sizeof(s->log_path), "%s", s->datadir.wal);
    st = etcd_wal_read(s->disk, s->log_path, /* after= */ 0, &s->etcd_wal, s->why);
    if (st != ST_OK)
        return st;
    take_etcd_log(s);
    return follow_etcd_log(s);
}

/* ---- opening ---- */

static enum status look(struct utl_source *s, enum datadir_kind *kind_out)
{
    const char *wal_dir = s->options.wal_dir == NULL ? "" : s->options.wal_dir;
    struct lost_format lost = {0};
    enum status st = s->options.even_without_format
                         ? lost_format_look(s->options.path, wal_dir, &s->datadir, kind_out,
                                            &s->is_running, &lost)
                         : datadir_look(s->options.path, wal_dir, &s->datadir, kind_out,
                                        &s->is_running, lost.why, sizeof(lost.why));
    if (st != ST_OK)
        return say(s->why, st, "%s", lost.why);
    if (!lost.is_lost)
        return ST_OK;
    s->datadir.format = lost.format;
    return say(&s->format_text, ST_OK, "%s", lost.why);
}

static enum status open_directory(struct utl_source *s)
{
    enum datadir_kind kind;
    enum status st = look(s, &kind);
    if (st != ST_OK)
        return st;
    switch (kind) {
    case DATADIR_CLEAT:
        s->kind = UTL_SOURCE_CLEAT;
        return open_cleat(s);
    case DATADIR_ETCD:
        s->kind = UTL_SOURCE_ETCD;
        return open_etcd(s);
    case DATADIR_UNFINISHED:
        return say(s->why, ST_INVALID,
                   "'%s' holds a first start that was cut short: nothing was acknowledged in it",
                   s->options.path);
    case DATADIR_NOTHING:
        break;
    }
    return say(s->why, ST_INVALID, "'%s' holds no data of Cleat's or etcd's", s->options.path);
}

static enum status open_file(struct utl_source *s)
{
    s->kind = UTL_SOURCE_FILE;
    snprintf(s->store_path, sizeof(s->store_path), "%s", s->options.path);
    enum status st = refuse_running_etcd(s);
    return st == ST_OK ? open_store(s, backend_dbfile()) : st;
}

static enum status open_any(struct utl_source *s)
{
    struct stat info;
    if (strlen(s->options.path) >= PATH_MAX)
        return say(s->why, ST_INVALID, "the path is too long");
    if (stat(s->options.path, &info) != 0)
        return say(s->why, errno == ENOENT ? ST_NOT_FOUND : ST_IO, "cannot open '%s': %s",
                   s->options.path, strerror(errno));
    buf_init(&s->format_text, TEXT_BYTES_MAX);
    buf_init(&s->log_text, TEXT_BYTES_MAX);
    buf_init(&s->apply_text, TEXT_BYTES_MAX);
    buf_init(&s->snap_text, TEXT_BYTES_MAX);
    buf_init(&s->conf_state, TEXT_BYTES_MAX);
    enum status st = disk_open_reading(&s->disk);
    if (st == ST_OK)
        st = lock_new(/* threaded= */ false, &s->lock);
    if (st == ST_OK)
        st = S_ISDIR(info.st_mode) ? open_directory(s) : open_file(s);
    s->applied = s->committed = s->mark.index;
    if (st == ST_OK && !s->options.without_index)
        st = open_state(s); /* which may tell the configuration that the next step needs */
    if (st == ST_OK && s->has_log)
        st = utl_source_find_committed(s);
    if (st == ST_OK && s->machine != NULL && s->has_log)
        st = utl_source_apply_tail(s);
    return st;
}

/* What a running member's own work may explain; a second look tells. */
static bool is_worth_another_look(const struct utl_source *s, enum status st)
{
    if (!s->is_running)
        return false;
    return st == ST_BUSY || st == ST_CORRUPT || st == ST_NOT_FOUND || st == ST_COMPACTED ||
           (st == ST_OK && s->log_verdict == ST_CORRUPT);
}

enum status utl_source_open(const struct utl_source_options *options, struct buf *why,
                            struct utl_source **out)
{
    *out = NULL;
    for (int tries = 1;; tries++) {
        struct utl_source *s = calloc(1, sizeof(*s));
        if (s == NULL)
            return ST_NO_MEMORY;
        s->options = *options;
        s->why = why;
        s->store_watch = (struct backend_watch){show_check, s};
        s->index_watch = (struct backend_watch){show_walk, s};
        buf_reset(why);
        enum status st = open_any(s);
        if (tries < RUNNING_TRIES && is_worth_another_look(s, st)) {
            utl_source_close(s);
            continue;
        }
        s->why = NULL;
        if (st == ST_OK)
            *out = s;
        else
            utl_source_close(s);
        return st;
    }
}

void utl_source_close(struct utl_source *s)
{
    if (s == NULL)
        return;
    machine_close(s->machine);
    mvcc_close(s->mvcc);
    store_close(s->store);
    wal_close(s->wal);
    etcd_wal_deinit(&s->etcd_wal);
    utl_touched_free(s->touched);
    lock_free(s->lock);
    disk_free(s->disk);
    buf_deinit(&s->format_text);
    buf_deinit(&s->log_text);
    buf_deinit(&s->apply_text);
    buf_deinit(&s->snap_text);
    buf_deinit(&s->conf_state);
    free(s);
}

/* ---- entries ---- */

static enum status give_cleat(struct utl_source *s, raft_index first, raft_index last,
                              utl_entry_fn fn, void *context)
{
    struct raft_entry *entries = calloc(READ_ENTRIES, sizeof(*entries));
    enum status st = entries == NULL ? ST_NO_MEMORY : ST_OK;
    while (st == ST_OK && first <= last) {
        uint32_t count = 0;
        st = wal_read(s->wal, first, min_u64(last, first + READ_ENTRIES - 1), READ_BYTES, entries,
                      &count);
        for (uint32_t i = 0; i < count; i++) {
            if (st == ST_OK)
                st = fn(context, &entries[i]);
            raft_payload_unref(entries[i].payload);
        }
        first += count;
    }
    free(entries);
    return st;
}

enum status utl_source_entries(struct utl_source *s, raft_index first, raft_index last,
                               utl_entry_fn fn, void *context)
{
    first = max_u64(first, s->log_first);
    last = min_u64(last, s->log_last);
    if (!s->has_log || first > last)
        return ST_OK;
    if (s->wal != NULL)
        return give_cleat(s, first, last, fn, context);
    enum status st = ST_OK;
    for (raft_index i = first; i <= last && st == ST_OK; i++)
        st = fn(context, &s->etcd_wal.entries[i - s->etcd_wal.first_index]);
    return st;
}
