#include "tools/utl/maker.h"

#include "base/assert.h"
#include "base/rng.h"
#include "server/state/conf_state.h"
#include "tools/utl/maker_private.h"
#include "wal/disks.h"
#include "wal/wal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <libgen.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* A log directory apart is somebody else's unless it is empty or holds this: a file that names the
 * data directory which was being made with it. */
#define WAL_MARKER "member.part"
#define WHY_BYTES 1024
#define LOG_PIECE_BYTES (32U << 20)
#define FOLDERS_OPEN_MAX 16 /* by a walk that removes a part */

enum status maker_fail(struct buf *why, enum status st, const char *format, ...)
{
    char text[2 * PATH_MAX + WHY_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    enum status said = buf_printf(why, "%s", text);
    (void)said; /* the status is what counts */
    return st;
}

static enum status status_of_errno(int error)
{
    return error == ENOSPC || error == EDQUOT ? ST_NO_SPACE : ST_IO;
}

static enum status fail_errno(struct buf *why, const char *what, const char *path)
{
    int error = errno;
    return maker_fail(why, status_of_errno(error), "cannot %s '%s': %s", what, path,
                      strerror(error));
}

/* ---- is there a place? ---- */

/* Whether folder holds nothing but, perhaps, an entry of this name. Absent counts as empty. */
static bool is_empty_but(const char *folder, const char *name)
{
    DIR *dir = opendir(folder);
    if (dir == NULL)
        return errno == ENOENT;
    bool empty = true;
    for (struct dirent *entry; empty && (entry = readdir(dir)) != NULL;)
        empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
                strcmp(entry->d_name, name) == 0;
    closedir(dir);
    return empty;
}

static void marker_path(const char *wal_dir, char out[PATH_MAX + sizeof(WAL_MARKER) + 1])
{
    snprintf(out, PATH_MAX + sizeof(WAL_MARKER) + 1, "%s/%s", wal_dir, WAL_MARKER);
}

/* Whether an unfinished try for this data directory, and no other, left what is in wal_dir. */
static bool is_own_part(const char *wal_dir, const char *data_dir)
{
    char path[PATH_MAX + sizeof(WAL_MARKER) + 1], named[PATH_MAX + 1] = "", real[PATH_MAX];
    marker_path(wal_dir, path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || realpath(data_dir, real) == NULL) {
        if (fd >= 0)
            close(fd);
        return false;
    }
    ssize_t got = read(fd, named, sizeof(named) - 1);
    close(fd);
    return got > 0 && strcmp(named, real) == 0;
}

static enum status check_free(const struct maker_options *options, struct buf *why)
{
    if (!is_empty_but(options->data_dir, "member.new"))
        return maker_fail(why, ST_EXISTS, "data-dir \"%s\" not empty or could not be read",
                          options->data_dir);
    if (options->wal_dir[0] != '\0' && !is_empty_but(options->wal_dir, WAL_MARKER) &&
        !is_own_part(options->wal_dir, options->data_dir))
        return maker_fail(why, ST_EXISTS, "wal-dir \"%s\" exists", options->wal_dir);
    return ST_OK;
}

enum status maker_check(const struct maker_options *options, struct buf *why)
{
    struct datadir looked;
    enum datadir_kind kind;
    bool in_use;
    char text[WHY_BYTES] = "";
    enum status st = datadir_look(options->data_dir, options->wal_dir, &looked, &kind, &in_use,
                                  text, sizeof(text));
    if (st == ST_OK && in_use)
        return maker_fail(why, ST_BUSY, "data directory '%s' is in use by another process",
                          options->data_dir);
    if (st == ST_IO)
        return maker_fail(why, st, "%s", text);
    return check_free(options, why);
}

/* ---- the part ---- */

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *where)
{
    (void)info;
    (void)where;
    return kind == FTW_DP ? rmdir(path) : unlink(path);
}

static void remove_segments(const char *folder)
{
    DIR *dir = opendir(folder);
    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
        const char *end = strrchr(entry->d_name, '.');
        if (strcmp(entry->d_name, "probe") == 0 ||
            (end != NULL && (strcmp(end, ".wal") == 0 || strcmp(end, ".part") == 0)))
            (void)unlinkat(dirfd(dir), entry->d_name, 0);
    }
    if (dir != NULL)
        closedir(dir);
}

/* What cannot be removed here is removed by the next try. A member that is in place stays: then the
 * error was of the sync that makes its name durable. */
static void remove_part(struct maker *maker)
{
    char path[PATH_MAX + 16];
    snprintf(path, sizeof(path), "%s/member", maker->datadir.root);
    if (access(path, F_OK) == 0)
        return;
    snprintf(path, sizeof(path), "%s/member.new", maker->datadir.root);
    (void)nftw(path, remove_one, FOLDERS_OPEN_MAX, FTW_DEPTH | FTW_PHYS);
    if (maker->made_wal)
        (void)nftw(maker->datadir.wal, remove_one, FOLDERS_OPEN_MAX, FTW_DEPTH | FTW_PHYS);
    else if (maker->datadir.wal_is_apart)
        remove_segments(maker->datadir.wal);
    snprintf(path, sizeof(path), "%s", maker->datadir.root);
    for (size_t len = strlen(path); len > maker->found_len; len = strlen(path)) {
        (void)rmdir(path);
        char *slash = strrchr(path, '/');
        if (slash == NULL)
            return;
        *slash = '\0';
    }
}

static enum status write_marker(struct maker *maker)
{
    const char *wal_dir = maker->datadir.wal;
    char path[PATH_MAX + sizeof(WAL_MARKER) + 1], real[PATH_MAX];
    if (mkdir(wal_dir, 0700) == 0)
        maker->made_wal = true;
    else if (errno != EEXIST)
        return fail_errno(maker->why, "make the log directory", wal_dir);
    if (realpath(maker->datadir.root, real) == NULL)
        return fail_errno(maker->why, "find", maker->datadir.root);
    marker_path(wal_dir, path);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return fail_errno(maker->why, "make", path);
    size_t len = strlen(real);
    errno = ENOSPC; /* a short write sets none */
    bool written = write(fd, real, len) == (ssize_t)len && fsync(fd) == 0;
    enum status st = written ? ST_OK : fail_errno(maker->why, "write", path);
    close(fd);
    return st;
}

static enum status make_part(struct maker *maker)
{
    const struct maker_options *o = &maker->options;
    struct format format = {
        .life_id = maker->life_id, .cluster_id = o->cluster_id, .member_id = o->member_id};
    snprintf(format.backend, sizeof(format.backend), "%s", o->backend);
    snprintf(format.store_name, sizeof(format.store_name), "0000000000000000%s",
             maker->ops->suffix);
    char text[WHY_BYTES] = "";
    enum status st = maker->datadir.wal_is_apart ? write_marker(maker) : ST_OK;
    if (st != ST_OK)
        return st;
    st = datadir_begin(&maker->datadir, &format, text, sizeof(text));
    return st == ST_OK ? ST_OK : maker_fail(maker->why, st, "%s", text);
}

/* Makes a directory and its name durable. */
static enum status make_durably(struct maker *maker, const char *path)
{
    char copy[PATH_MAX];
    snprintf(copy, sizeof(copy), "%s", path);
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return fail_errno(maker->why, "make the directory", path);
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum status st = fd < 0 || fsync(fd) != 0 ? fail_errno(maker->why, "sync", copy) : ST_OK;
    if (fd >= 0)
        close(fd);
    return st;
}

/* The directories above data_dir that are not there yet, as etcdutl makes them. */
static enum status make_parents(struct maker *maker)
{
    char path[PATH_MAX];
    const char *data_dir = maker->options.data_dir;
    int len = snprintf(path, sizeof(path), "%s", data_dir);
    if (len < 0 || (size_t)len >= sizeof(path))
        return ST_OK; /* datadir_open() says it */
    bool is_found = true;
    enum status st = ST_OK;
    for (size_t at = 1; at <= (size_t)len && st == ST_OK; at++) {
        if (path[at] != '/' && path[at] != '\0')
            continue;
        path[at] = '\0';
        is_found = is_found && access(path, F_OK) == 0;
        if (is_found)
            maker->found_len = at;
        else if (at < (size_t)len)
            st = make_durably(maker, path);
        path[at] = data_dir[at];
    }
    return st;
}

static enum status open_datadir(struct maker *maker)
{
    const struct maker_options *o = &maker->options;
    char text[WHY_BYTES] = "";
    enum status st = maker_check(o, maker->why);
    if (st != ST_OK)
        return st;
    st = make_parents(maker);
    if (st != ST_OK)
        return st;
    st = datadir_open(o->data_dir, o->wal_dir, &maker->datadir, text, sizeof(text));
    if (st != ST_OK)
        return maker_fail(maker->why, st, "%s", text);
    return check_free(o, maker->why); /* now that nobody else can come in */
}

static const struct backend_ops *find_backend(const char *name)
{
    if (strcmp(name, "lmdb") == 0)
        return backend_lmdb();
    return strcmp(name, "sqlite") == 0 ? backend_sqlite() : NULL;
}

/* The last word on a failure that nobody explained. */
enum status maker_explain(struct buf *why, enum status st, const char *data_dir)
{
    if (st == ST_OK || why->len > 0)
        return st;
    return maker_fail(why, st, "cannot make a member in '%s': %s", data_dir, status_str(st));
}

enum status maker_begin(const struct maker_options *options, struct buf *why, struct maker **out)
{
    *out = NULL;
    struct maker *maker = calloc(1, sizeof(*maker));
    if (maker == NULL)
        return maker_explain(why, ST_NO_MEMORY, options->data_dir);
    maker->options = *options;
    maker->why = why;
    maker->datadir.lock_fd = -1;
    maker->ops = find_backend(options->backend);
    enum status st = ST_OK;
    struct rng rng;
    if (maker->ops == NULL)
        st = maker_fail(why, ST_INVALID, "unknown backend '%s': lmdb or sqlite", options->backend);
    if (st == ST_OK)
        st = rng_seed_from_system(&rng);
    if (st == ST_OK) {
        maker->life_id = rng_next(&rng);
        st = open_datadir(maker);
    }
    if (st == ST_OK)
        st = make_part(maker);
    if (st != ST_OK) {
        maker_close(maker);
        return maker_explain(why, st, options->data_dir);
    }
    *out = maker;
    return ST_OK;
}

void maker_close(struct maker *maker)
{
    if (maker == NULL)
        return;
    if (maker->store != NULL)
        maker->ops->close(maker->store);
    /* Without the lock it is not ours to remove. */
    if (!maker->finished && maker->datadir.lock_fd >= 0)
        remove_part(maker);
    datadir_close(&maker->datadir);
    free(maker);
}

void maker_store_path(const struct maker *maker, char path[PATH_MAX])
{
    datadir_store_path(&maker->datadir, path, PATH_MAX);
}

struct maker_content maker_content(const struct maker *maker)
{
    ASSERT(maker->store != NULL);
    return maker->content;
}

/* ---- the end ---- */

static enum status write_mark(struct maker *maker, const struct raft_snapshot_meta *snapshot)
{
    if (snapshot->last.index == 0)
        return ST_OK;
    struct buf conf_state;
    buf_init(&conf_state, UINT32_MAX);
    uint64_t durable;
    enum status st = conf_state_encode(&snapshot->conf_state, &conf_state);
    const struct store_mark mark = {.index = snapshot->last.index,
                                    .term = snapshot->last.term,
                                    .conf_state = buf_slice(&conf_state)};
    if (st == ST_OK)
        st = maker->ops->commit(maker->store, &mark, /* full= */ true, &durable);
    buf_deinit(&conf_state);
    return st;
}

static enum status close_store(struct maker *maker, const struct raft_snapshot_meta *snapshot)
{
    enum status st = write_mark(maker, snapshot);
    maker->ops->close(maker->store);
    maker->store = NULL;
    char path[PATH_MAX];
    maker_store_path(maker, path);
    return st == ST_OK ? ST_OK
                       : maker_fail(maker->why, st, "cannot finish the store '%s': %s", path,
                                    status_str(st));
}

/* As many entries as the log holds in memory with ease, at least one of those that are left. */
static uint32_t entries_of_a_piece(const struct raft_entry *entries, uint32_t count)
{
    uint64_t bytes = 0;
    uint32_t n = 0;
    for (; n < count && bytes < LOG_PIECE_BYTES; n++)
        bytes += raft_payload_slice(entries[n].payload).len;
    return n;
}

static enum status append_log(struct wal *wal, const struct maker_log *log)
{
    enum status st = ST_OK;
    uint32_t done = 0;
    do {
        uint32_t count = entries_of_a_piece(log->entries + done, log->entries_count - done);
        struct wal_append append = {
            .entries = log->entries + done, .entries_count = count, .hard_state = &log->hard_state};
        if (done == 0 && log->snapshot.last.index > 0)
            append.snapshot = &log->snapshot;
        uint64_t ticket;
        st = wal_append(wal, &append, &ticket);
        if (st == ST_OK)
            st = wal_finish(wal);
        done += count;
    } while (st == ST_OK && done < log->entries_count);
    return st;
}

static enum status write_log(struct maker *maker, const struct maker_log *log)
{
    const char *folder = maker->datadir.wal;
    struct disk *disk;
    struct rng rng;
    char chosen[WHY_BYTES] = "";
    struct wal_report report = {0};
    enum status st = rng_seed_from_system(&rng);
    if (st == ST_OK)
        st = disk_open_real(DISK_KIND_FDATASYNC, folder, &disk, chosen, sizeof(chosen));
    if (st != ST_OK)
        return maker_fail(maker->why, st, "cannot write the log in '%s': %s", folder, chosen);
    struct wal_options options = {.disk = disk,
                                  .clock = maker->options.clock,
                                  .rng = &rng,
                                  .dir = folder,
                                  .life_id = maker->life_id,
                                  .create = true};
    struct wal *wal = NULL;
    struct wal_recovered recovered;
    st = wal_open(&options, &wal, &recovered, &report);
    if (st == ST_OK)
        st = append_log(wal, log);
    wal_close(wal);
    disk_free(disk);
    if (st != ST_OK)
        return maker_fail(maker->why, st, "cannot write the log in '%s': %s", folder,
                          report.text[0] != '\0' ? report.text : status_str(st));
    return ST_OK;
}

enum status maker_finish(struct maker *maker, const struct maker_log *log)
{
    ASSERT(maker->store != NULL);
    char text[WHY_BYTES] = "";
    enum status st = close_store(maker, &log->snapshot);
    if (st == ST_OK)
        st = write_log(maker, log);
    if (st != ST_OK)
        return st;
    st = datadir_commit(&maker->datadir, text, sizeof(text));
    if (st != ST_OK)
        return maker_fail(maker->why, st, "%s", text);
    maker->finished = true;
    if (maker->datadir.wal_is_apart) {
        char path[PATH_MAX + sizeof(WAL_MARKER) + 1];
        marker_path(maker->datadir.wal, path);
        (void)unlink(path); /* if it stays: it names a directory that is no longer empty */
    }
    return ST_OK;
}
