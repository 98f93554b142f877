/* defrag and convert: a stopped member's store is written anew beside itself, into the same backend
 * or the other, and takes its place by the one rename of FORMAT. The log stays as it is: the new
 * store stands at the same entry. */
#include "base/rng.h"
#include "storage/backend_copy.h"
#include "storage/datadir/datadir.h"
#include "tools/utl/commands.h"
#include "tools/utl/console.h"
#include "tools/utl/progress.h"
#include "tools/utl/utl.h"
#include "wal/disks.h"
#include "wal/wal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#define CALLER "utl/rewrite.c"
#define MAP_BYTES_MAX (64ULL << 30) /* as the server opens it: address space alone */
#define CONF_BYTES_MAX 65536U
#define NAME_TRIES_MAX 1000U

struct rewrite {
    struct cli *cli;
    struct buf why;
    struct datadir datadir;
    const struct backend_ops *from_ops, *to_ops;
    char from_path[PATH_MAX], to_path[PATH_MAX];
    char to_name[64];
    struct backend *from, *to; /* owned */
    struct store_mark mark;    /* without its configuration */
    uint64_t begin_ns;
};

static enum status fail(struct rewrite *r, enum status st, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static enum status fail(struct rewrite *r, enum status st, const char *format, ...)
{
    char text[PATH_MAX + 1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    enum status said = buf_printf(&r->why, "%s", text);
    (void)said; /* the status is what counts */
    return st;
}

/* ---- what is there ---- */

static enum status open_directory(struct rewrite *r)
{
    const char *path = cli_string(r->cli, "data-dir"), *wal_dir = cli_string(r->cli, "wal-dir");
    char why[1024] = "";
    enum datadir_kind kind;
    bool in_use;
    enum status st = datadir_look(path, wal_dir, &r->datadir, &kind, &in_use, why, sizeof(why));
    r->datadir.lock_fd = -1;
    if (st != ST_OK)
        return fail(r, st, "%s", why);
    if (kind == DATADIR_ETCD)
        return fail(r, ST_INVALID,
                    "data directory '%s' was written by etcd: use etcdutl on it, or "
                    "import it with: cleatutl import %s --data-dir <new directory>",
                    path, path);
    if (kind != DATADIR_CLEAT)
        return fail(r, ST_INVALID, "data directory '%s' holds no member", path);
    if (in_use)
        return fail(r, ST_BUSY, "data directory '%s' is in use by another process: stop the member",
                    path);
    st = datadir_open(path, wal_dir, &r->datadir, why, sizeof(why));
    return st == ST_OK ? ST_OK : fail(r, st, "%s", why);
}

static const struct backend_ops *find_backend(const char *name)
{
    if (strcmp(name, "lmdb") == 0)
        return backend_lmdb();
    return strcmp(name, "sqlite") == 0 ? backend_sqlite() : NULL;
}

static enum status open_from(struct rewrite *r)
{
    r->from_ops = find_backend(r->datadir.format.backend);
    if (r->from_ops == NULL)
        return fail(r, ST_UNSUPPORTED, "unknown backend '%s' in FORMAT", r->datadir.format.backend);
    datadir_store_path(&r->datadir, r->from_path, sizeof(r->from_path));
    struct backend_options options = {.path = r->from_path,
                                      .life_id = r->datadir.format.life_id,
                                      .map_bytes_max = MAP_BYTES_MAX,
                                      .read_only = true,
                                      .why = &r->why};
    struct buf conf_state;
    buf_init(&conf_state, CONF_BYTES_MAX);
    enum status st = r->from_ops->open(&options, &r->from);
    if (st == ST_OK)
        st = r->from_ops->mark(r->from, &r->mark, &conf_state);
    r->mark.conf_state = SLICE_EMPTY;
    buf_deinit(&conf_state);
    return st;
}

/* A member that stopped between a received snapshot and its switch goes on with another store. */
static enum status check_log(struct rewrite *r)
{
    struct disk *disk;
    struct rng rng;
    struct wal *wal = NULL;
    struct wal_recovered recovered;
    struct wal_report report;
    enum status st = rng_seed_from_system(&rng);
    if (st == ST_OK)
        st = disk_open_reading(&disk);
    if (st != ST_OK)
        return st;
    struct wal_options options = {.disk = disk,
                                  .clock = utl_clock(),
                                  .rng = &rng,
                                  .dir = r->datadir.wal,
                                  .life_id = r->datadir.format.life_id,
                                  .read_only = true,
                                  .mark_is_unknown = true};
    st = wal_open(&options, &wal, &recovered, &report);
    if (st != ST_OK)
        st = fail(r, st, "%s; where the log lies apart, give --wal-dir", report.text);
    else if (recovered.snapshot.last.index > r->mark.index)
        st = fail(r, ST_INVALID,
                  "the member stopped while it took a snapshot (entry %" PRIu64
                  "; its store is at %" PRIu64 "): start it, let it finish, and stop it again",
                  recovered.snapshot.last.index, r->mark.index);
    wal_close(wal);
    disk_free(disk);
    return st;
}

/* No name that a received snapshot's store could have: "<index>-<n>.lmdb", the index being that of
 * the mark. */
static enum status choose_name(struct rewrite *r)
{
    for (unsigned n = 1; n <= NAME_TRIES_MAX; n++) {
        snprintf(r->to_name, sizeof(r->to_name), "%016" PRIx64 "-%u%s", r->mark.index, n,
                 r->to_ops->suffix);
        struct datadir other = r->datadir;
        memcpy(other.format.store_name, r->to_name, sizeof(r->to_name));
        datadir_store_path(&other, r->to_path, sizeof(r->to_path));
        if (access(r->to_path, F_OK) != 0)
            return ST_OK;
        /* What an interrupted try left; the store in use has a name of FORMAT's. */
        if (strcmp(r->to_path, r->from_path) != 0)
            return r->to_ops->remove(r->to_path);
    }
    return fail(r, ST_EXISTS, "no name is left for a new store beside '%s'", r->from_path);
}

/* ---- writing ---- */

static enum status copy(struct rewrite *r, const char *what)
{
    struct backend_options options = {.path = r->to_path,
                                      .life_id = r->datadir.format.life_id,
                                      .map_bytes_max = MAP_BYTES_MAX,
                                      .create = true,
                                      .why = &r->why};
    struct backend_stat stat;
    struct progress progress;
    enum status st = r->from_ops->stat(r->from, &stat);
    if (st == ST_OK)
        st = r->to_ops->open(&options, &r->to);
    if (st != ST_OK)
        return st;
    struct backend_copy copy = backend_copy_new(r->from, r->to);
    progress_begin(&progress, utl_clock(), what, stat.in_use_bytes);
    while (st == ST_OK && !copy.at_end) {
        st = backend_copy_step(&copy);
        progress_at(&progress, copy.bytes);
    }
    progress_end(&progress);
    return st;
}

static enum status sync_folder(struct rewrite *r)
{
    char folder[PATH_MAX];
    snprintf(folder, sizeof(folder), "%s", r->to_path);
    *strrchr(folder, '/') = '\0';
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool failed = fd < 0 || fsync(fd) != 0;
    int error = errno;
    if (fd >= 0)
        close(fd);
    return failed ? fail(r, ST_IO, "cannot sync '%s': %s", folder, strerror(error)) : ST_OK;
}

static void close_stores(struct rewrite *r)
{
    if (r->from != NULL)
        r->from_ops->close(r->from);
    if (r->to != NULL)
        r->to_ops->close(r->to);
    r->from = r->to = NULL;
}

/* From the moment that FORMAT names it the new store is the member's; until then it is a file that
 * the next start removes. */
static enum status replace(struct rewrite *r, const char *what)
{
    enum status st = copy(r, what);
    struct backend_stat stat;
    if (st == ST_OK)
        st = r->to_ops->stat(r->to, &stat);
    close_stores(r);
    if (st == ST_OK)
        st = sync_folder(r);
    if (st == ST_OK) {
        struct format *format = &r->datadir.format;
        snprintf(format->backend, sizeof(format->backend), "%s", r->to_ops->name);
        st = datadir_set_store(&r->datadir, r->to_name);
        if (st == ST_OK)
            return r->from_ops->remove(r->from_path);
        return fail(r, st, "cannot write FORMAT in '%s': %s", r->datadir.member, status_str(st));
    }
    enum status removed = r->to_ops->remove(r->to_path);
    (void)removed; /* else the next start of the member does it */
    if (r->why.len == 0)
        return fail(r, st, "cannot write '%s': %s", r->to_path, status_str(st));
    return st;
}

static enum status prepare(struct rewrite *r)
{
    enum status st = open_directory(r);
    if (st == ST_OK)
        st = open_from(r);
    if (st == ST_OK)
        st = check_log(r);
    return st;
}

static int finish(struct rewrite *r, enum status st)
{
    close_stores(r);
    datadir_close(&r->datadir);
    int code = utl_end(r->cli, st, &r->why);
    buf_deinit(&r->why);
    return code;
}

static struct rewrite begin(struct cli *cli)
{
    struct rewrite r = {
        .cli = cli, .datadir.lock_fd = -1, .begin_ns = clock_monotonic_ns(utl_clock())};
    buf_init(&r.why, UTL_WHY_BYTES_MAX);
    return r;
}

/* ---- defrag ---- */

static void tell_sizes(struct console *line, const struct backend_stat *now,
                       const struct backend_stat *before)
{
    if (before != NULL)
        console_i64(line, "current-db-size-bytes-diff",
                    (int64_t)(now->size_bytes - before->size_bytes));
    console_u64(line, "current-db-size-bytes", now->size_bytes);
    console_size(line, "current-db-size", now->size_bytes);
    if (before != NULL)
        console_i64(line, "current-db-size-in-use-bytes-diff",
                    (int64_t)(now->in_use_bytes - before->in_use_bytes));
    console_u64(line, "current-db-size-in-use-bytes", now->in_use_bytes);
    console_size(line, "current-db-size-in-use", now->in_use_bytes);
}

static enum status stat_made(struct rewrite *r, struct backend_stat *out)
{
    struct backend_options options = {.path = r->to_path,
                                      .life_id = r->datadir.format.life_id,
                                      .map_bytes_max = MAP_BYTES_MAX,
                                      .read_only = true,
                                      .why = &r->why};
    enum status st = r->to_ops->open(&options, &r->to);
    return st == ST_OK ? r->to_ops->stat(r->to, out) : st;
}

static enum status defragment(struct rewrite *r)
{
    struct backend_stat before, after;
    enum status st = prepare(r);
    if (st != ST_OK)
        return st;
    r->to_ops = r->from_ops;
    st = choose_name(r);
    if (st == ST_OK)
        st = r->from_ops->stat(r->from, &before);
    if (st != ST_OK)
        return st;
    struct console line;
    bool is_real = !cli_bool(r->cli, "dry-run");
    console_begin(&line, "info", CALLER, is_real ? "defragmenting" : "would defragment");
    console_text(&line, "path", r->from_path);
    tell_sizes(&line, &before, NULL);
    console_end(&line);
    if (!is_real)
        return ST_OK;
    st = replace(r, "defragmenting");
    if (st == ST_OK)
        st = stat_made(r, &after);
    if (st != ST_OK)
        return st;
    console_begin(&line, "info", CALLER, "finished defragmenting directory");
    console_text(&line, "path", r->to_path);
    tell_sizes(&line, &after, &before);
    console_took(&line, "took", clock_monotonic_ns(utl_clock()) - r->begin_ns);
    console_end(&line);
    return ST_OK;
}

static int run_defrag(struct cli *cli)
{
    struct rewrite r = begin(cli);
    return finish(&r, defragment(&r));
}

/* ---- convert ---- */

static enum status convert(struct rewrite *r)
{
    const char *to = cli_string(r->cli, "backend");
    r->to_ops = find_backend(to);
    if (r->to_ops == NULL)
        return fail(r, ST_INVALID, "unknown backend '%s': lmdb or sqlite", to);
    enum status st = prepare(r);
    if (st != ST_OK)
        return st;
    if (r->from_ops == r->to_ops)
        return fail(r, ST_EXISTS,
                    "the store in '%s' is kept with %s already; to write it anew: cleatutl defrag",
                    r->datadir.root, to);
    st = choose_name(r);
    if (st != ST_OK)
        return st;
    struct console line;
    bool is_real = !cli_bool(r->cli, "dry-run");
    console_begin(&line, "info", CALLER,
                  is_real ? "converting the store" : "would convert the store");
    console_text(&line, "from", r->from_path);
    console_text(&line, "to", r->to_path);
    console_end(&line);
    if (!is_real)
        return ST_OK;
    st = replace(r, "converting");
    if (st != ST_OK)
        return st;
    console_begin(&line, "info", CALLER, "converted the store");
    console_text(&line, "path", r->to_path);
    console_took(&line, "took", clock_monotonic_ns(utl_clock()) - r->begin_ns);
    console_end(&line);
    return ST_OK;
}

static int run_convert(struct cli *cli)
{
    struct rewrite r = begin(cli);
    return finish(&r, convert(&r));
}

#define DIRECTORY_FLAGS                                                                    \
    {.name = "data-dir",                                                                   \
     .kind = CLI_STRING,                                                                   \
     .required = true,                                                                     \
     .help = "The stopped member's data directory"},                                       \
        {.name = "wal-dir", .kind = CLI_STRING, .help = "Its log directory, if apart"},    \
    {                                                                                      \
        .name = "dry-run", .kind = CLI_BOOL, .help = "Check everything and change nothing" \
    }

static const struct cli_flag defrag_flags[] = {DIRECTORY_FLAGS, {0}};
const struct cli_command utl_defrag_command = {
    .name = "defrag",
    .usage = "--data-dir {directory}",
    .brief = "Writes a stopped member's store anew, without its free space",
    .flags = defrag_flags,
    .run = run_defrag,
};

static const struct cli_flag convert_flags[] = {
    DIRECTORY_FLAGS,
    {.name = "backend", .kind = CLI_STRING, .required = true, .help = "lmdb or sqlite"},
    {0}};
const struct cli_command utl_convert_command = {
    .name = "convert",
    .usage = "--data-dir {directory} --backend {lmdb|sqlite}",
    .brief = "Keeps a stopped member's store with the other backend from now on",
    .flags = convert_flags,
    .run = run_convert,
};
