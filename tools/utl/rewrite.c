/* defrag and convert: a stopped member's store is written anew beside itself, into the same backend
 * or the other, and takes its place by the one rename of FORMAT. The log stays as it is: the new
 * store stands at the same entry. */
#include "base/clock_real.h"
#include "storage/backend_copy.h"
#include "tools/utl/commands.h"
#include "tools/utl/console.h"
#include "tools/utl/progress.h"
#include "tools/utl/stopped.h"
#include "tools/utl/utl.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#define CALLER "utl/rewrite.c"
#define NAME_TRIES_MAX 1000U

struct rewrite {
    struct cli *cli;
    struct buf why;
    struct stopped stopped;
    const struct backend_ops *to_ops;
    char to_path[PATH_MAX], to_name[64];
    struct backend *to; /* owned */
    uint64_t begin_ns;
};

/* No name that a received snapshot's store could have: "<index>-<n>.lmdb", the index being that of
 * the mark. */
static enum status choose_name(struct rewrite *r)
{
    for (unsigned n = 1; n <= NAME_TRIES_MAX; n++) {
        snprintf(r->to_name, sizeof(r->to_name), "%016" PRIx64 "-%u%s", r->stopped.mark.index, n,
                 r->to_ops->suffix);
        struct datadir other = r->stopped.datadir;
        memcpy(other.format.store_name, r->to_name, sizeof(r->to_name));
        datadir_store_path(&other, r->to_path, sizeof(r->to_path));
        if (access(r->to_path, F_OK) != 0)
            return ST_OK;
        /* What an interrupted try left; the store in use has a name of FORMAT's. */
        if (strcmp(r->to_path, r->stopped.store_path) != 0)
            return r->to_ops->remove(r->to_path);
    }
    return utl_fail(&r->why, ST_EXISTS, "no name is left for a new store beside '%s'",
                    r->stopped.store_path);
}

/* ---- writing ---- */

static enum status copy(struct rewrite *r, const char *what)
{
    struct backend_options options = {.path = r->to_path,
                                      .life_id = r->stopped.datadir.format.life_id,
                                      .map_bytes_max = STOPPED_MAP_BYTES_MAX,
                                      .create = true,
                                      .bulk = true,
                                      .why = &r->why};
    struct backend_stat stat;
    struct progress progress;
    enum status st = r->stopped.ops->stat(r->stopped.store, &stat);
    if (st == ST_OK)
        st = r->to_ops->open(&options, &r->to);
    if (st != ST_OK)
        return st;
    struct backend_copy copy = backend_copy_new(r->stopped.store, r->to);
    progress_begin(&progress, clock_real(), what, stat.in_use_bytes);
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
    return failed ? utl_fail(&r->why, ST_IO, "cannot sync '%s': %s", folder, strerror(error))
                  : ST_OK;
}

static void close_stores(struct rewrite *r)
{
    stopped_close_store(&r->stopped);
    if (r->to != NULL)
        r->to_ops->close(r->to);
    r->to = NULL;
}

/* From the moment that FORMAT names it the new store is the member's; until then it is a file that
 * the next start removes. */
static enum status replace(struct rewrite *r, const char *what)
{
    enum status st = copy(r, what);
    close_stores(r);
    if (st == ST_OK)
        st = sync_folder(r);
    if (st == ST_OK) {
        struct format *format = &r->stopped.datadir.format;
        snprintf(format->backend, sizeof(format->backend), "%s", r->to_ops->name);
        st = datadir_set_store(&r->stopped.datadir, r->to_name);
        if (st == ST_OK)
            return r->stopped.ops->remove(r->stopped.store_path);
        return utl_fail(&r->why, st, "cannot write FORMAT in '%s': %s", r->stopped.datadir.member,
                        status_str(st));
    }
    enum status removed = r->to_ops->remove(r->to_path);
    (void)removed; /* else the next start of the member does it */
    if (r->why.len == 0)
        return utl_fail(&r->why, st, "cannot write '%s': %s", r->to_path, status_str(st));
    return st;
}

static int finish(struct rewrite *r, enum status st)
{
    close_stores(r);
    stopped_close(&r->stopped);
    int code = utl_end(r->cli, st, &r->why);
    buf_deinit(&r->why);
    return code;
}

static struct rewrite begin(struct cli *cli)
{
    struct rewrite r = {
        .cli = cli, .stopped.datadir.lock_fd = -1, .begin_ns = clock_monotonic_ns(clock_real())};
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
                                      .life_id = r->stopped.datadir.format.life_id,
                                      .map_bytes_max = STOPPED_MAP_BYTES_MAX,
                                      .read_only = true,
                                      .why = &r->why};
    enum status st = r->to_ops->open(&options, &r->to);
    return st == ST_OK ? r->to_ops->stat(r->to, out) : st;
}

static enum status defragment(struct rewrite *r)
{
    struct backend_stat before, after;
    enum status st = stopped_open(r->cli, &r->stopped, &r->why);
    if (st != ST_OK)
        return st;
    r->to_ops = r->stopped.ops;
    st = choose_name(r);
    if (st == ST_OK)
        st = r->stopped.ops->stat(r->stopped.store, &before);
    if (st != ST_OK)
        return st;
    struct console line;
    bool is_real = !cli_bool(r->cli, "dry-run");
    console_begin(&line, "info", CALLER, is_real ? "defragmenting" : "would defragment");
    console_text(&line, "path", r->stopped.store_path);
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
    console_took(&line, "took", clock_monotonic_ns(clock_real()) - r->begin_ns);
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
    r->to_ops = stopped_find_backend(to);
    if (r->to_ops == NULL)
        return utl_fail(&r->why, ST_INVALID, "unknown backend '%s': lmdb or sqlite", to);
    enum status st = stopped_open(r->cli, &r->stopped, &r->why);
    if (st != ST_OK)
        return st;
    if (r->stopped.ops == r->to_ops)
        return utl_fail(
            &r->why, ST_EXISTS,
            "the store in '%s' is kept with %s already; to write it anew: cleatutl defrag",
            r->stopped.datadir.root, to);
    st = choose_name(r);
    if (st != ST_OK)
        return st;
    struct console line;
    bool is_real = !cli_bool(r->cli, "dry-run");
    console_begin(&line, "info", CALLER,
                  is_real ? "converting the store" : "would convert the store");
    console_text(&line, "from", r->stopped.store_path);
    console_text(&line, "to", r->to_path);
    console_end(&line);
    if (!is_real)
        return ST_OK;
    st = replace(r, "converting");
    if (st != ST_OK)
        return st;
    console_begin(&line, "info", CALLER, "converted the store");
    console_text(&line, "path", r->to_path);
    console_took(&line, "took", clock_monotonic_ns(clock_real()) - r->begin_ns);
    console_end(&line);
    return ST_OK;
}

static int run_convert(struct cli *cli)
{
    struct rewrite r = begin(cli);
    return finish(&r, convert(&r));
}

static const struct cli_flag defrag_flags[] = {STOPPED_FLAGS, {0}};
const struct cli_command utl_defrag_command = {
    .name = "defrag",
    .usage = "--data-dir {directory}",
    .brief = "Writes a stopped member's store anew, without its free space",
    .flags = defrag_flags,
    .run = run_defrag,
};

static const struct cli_flag convert_flags[] = {
    STOPPED_FLAGS,
    {.name = "backend", .kind = CLI_STRING, .required = true, .help = "lmdb or sqlite"},
    {0}};
const struct cli_command utl_convert_command = {
    .name = "convert",
    .usage = "--data-dir {directory} --backend {lmdb|sqlite}",
    .brief = "Keeps a stopped member's store with the other backend from now on",
    .flags = convert_flags,
    .run = run_convert,
};
