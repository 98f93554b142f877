/* FORMAT, a line each, written last and atomically:
 *   cleat-format 1
 *   backend lmdb
 *   life-id <16 hex digits>
 *   cluster-id <16 hex digits>
 *   member-id <16 hex digits>
 *   store 0000000000000000.lmdb
 *   checksum <16 hex digits: XXH3-64 of the lines above>
 */
#include "storage/datadir/datadir.h"

#include "base/assert.h"
#include "base/hash.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdarg.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define FORMAT_VERSION 1U
#define FORMAT_BYTES_MAX 1024
#define NAMES_BYTES_MAX 128 /* of what is below a directory, with the slashes and the NUL */

static enum status explain(enum status st, char *why, size_t why_bytes, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static enum status explain(enum status st, char *why, size_t why_bytes, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(why, why_bytes, format, args);
    va_end(args);
    return st;
}

static enum status status_of_errno(int error)
{
    return error == ENOSPC || error == EDQUOT ? ST_NO_SPACE : ST_IO;
}

/* Joins folder and name; false when the result does not fit. */
static bool join(char *out, size_t out_bytes, const char *folder, const char *name)
{
    size_t folder_len = strlen(folder), name_len = strlen(name);
    if (folder_len + 1 + name_len + 1 > out_bytes)
        return false;
    memcpy(out, folder, folder_len);
    out[folder_len] = '/';
    memcpy(out + folder_len + 1, name, name_len + 1);
    return true;
}

static bool path_exists(const char *folder, const char *name)
{
    char path[PATH_MAX];
    return join(path, sizeof(path), folder, name) && access(path, F_OK) == 0;
}

static enum status sync_directory(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return status_of_errno(errno);
    int failed = fsync(fd);
    enum status st = failed == 0 ? ST_OK : status_of_errno(errno);
    close(fd);
    return st;
}

/* Makes the directory's own name durable: without it a power cut can take all that is in it. A
 * parent that we may not read is its owner's to care for. */
static enum status sync_parent(const char *path)
{
    char copy[PATH_MAX];
    snprintf(copy, sizeof(copy), "%s", path);
    const char *parent = dirname(copy);
    return access(parent, R_OK) == 0 ? sync_directory(parent) : ST_OK;
}

/* ---- FORMAT ---- */

static size_t format_encode(const struct format *format, char *text, size_t text_bytes)
{
    int length = snprintf(text, text_bytes,
                          "cleat-format %" PRIu32 "\nbackend %s\nlife-id %016" PRIx64
                          "\ncluster-id %016" PRIx64 "\nmember-id %016" PRIx64 "\nstore %s\n",
                          format->version, format->backend, format->life_id, format->cluster_id,
                          format->member_id, format->store_name);
    uint64_t checksum = hash64(slice_make(text, (size_t)length));
    length +=
        snprintf(text + length, text_bytes - (size_t)length, "checksum %016" PRIx64 "\n", checksum);
    return (size_t)length;
}

/* A FORMAT is right when encoding what was read gives the same bytes: one rule instead of a check a
 * line. */
static bool format_decode(const char *text, struct format *out)
{
    *out = (struct format){0};
    int fields = sscanf(text,
                        "cleat-format %" SCNu32 "\nbackend %15s\nlife-id %" SCNx64
                        "\ncluster-id %" SCNx64 "\nmember-id %" SCNx64 "\nstore %63s\n",
                        &out->version, out->backend, &out->life_id, &out->cluster_id,
                        &out->member_id, out->store_name);
    char again[FORMAT_BYTES_MAX];
    if (fields != 6)
        return false;
    size_t length = format_encode(out, again, sizeof(again));
    return length == strlen(text) && memcmp(again, text, length) == 0;
}

static enum status read_small_file(const char *path, char *text, size_t text_bytes)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? ST_NOT_FOUND : ST_IO;
    ssize_t got = read(fd, text, text_bytes - 1);
    close(fd);
    if (got < 0)
        return ST_IO;
    text[got] = '\0';
    return ST_OK;
}

static enum status write_durable_file(const char *path, const char *text, size_t length)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return status_of_errno(errno);
    ssize_t written = 0;
    for (size_t at = 0; at < length && written >= 0; at += (size_t)written)
        written = write(fd, text + at, length - at); /* short, then the reason, on a full disk */
    enum status st = written < 0 || fsync(fd) != 0 ? status_of_errno(errno) : ST_OK;
    close(fd);
    return st;
}

/* ---- recognising ---- */

/* etcd keeps its database in member/snap/db and its log as <seq>-<index>.wal. */
static bool is_etcd(const char *member)
{
    return path_exists(member, "snap/db") || path_exists(member, "wal/0.tmp") ||
           path_exists(member, "wal/0000000000000000-0000000000000000.wal");
}

static enum status read_format(struct datadir *d, char *why, size_t why_bytes)
{
    char path[PATH_MAX], text[FORMAT_BYTES_MAX];
    if (!join(path, sizeof(path), d->member, "FORMAT"))
        return explain(ST_INVALID, why, why_bytes, "the path of data directory '%s' is too long",
                       d->root);
    enum status st = read_small_file(path, text, sizeof(text));
    if (st == ST_NOT_FOUND && is_etcd(d->member))
        return explain(
            ST_INVALID, why, why_bytes,
            "data directory '%s' was written by etcd; import it into a new directory with: "
            "cleatutl import %s --data-dir <new directory>",
            d->root, d->root);
    if (st == ST_NOT_FOUND)
        return explain(ST_INVALID, why, why_bytes,
                       "'%s' has no FORMAT file: it is not Cleat's, or the file was lost; choose "
                       "another --data-dir, or "
                       "inspect this one with: cleatutl check --data-dir %s",
                       d->member, d->root);
    if (st != ST_OK)
        return explain(st, why, why_bytes, "cannot read '%s': %s", path, strerror(errno));
    if (!format_decode(text, &d->format))
        return explain(ST_INVALID, why, why_bytes,
                       "'%s' is damaged or of another program: it does not match its checksum",
                       path);
    if (d->format.version != FORMAT_VERSION)
        return explain(ST_UNSUPPORTED, why, why_bytes,
                       "'%s' has format %" PRIu32 ", this cleat knows format %u only", path,
                       d->format.version, FORMAT_VERSION);
    return ST_OK;
}

static enum status lock_root(struct datadir *d, char *why, size_t why_bytes)
{
    if (mkdir(d->root, 0700) != 0 && errno != EEXIST)
        return explain(status_of_errno(errno), why, why_bytes,
                       "cannot make data directory '%s': %s", d->root, strerror(errno));
    d->lock_fd = open(d->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (d->lock_fd < 0)
        return explain(ST_IO, why, why_bytes, "cannot open data directory '%s': %s", d->root,
                       strerror(errno));
    if (flock(d->lock_fd, LOCK_EX | LOCK_NB) != 0)
        return explain(errno == EWOULDBLOCK ? ST_BUSY : ST_IO, why, why_bytes,
                       errno == EWOULDBLOCK
                           ? "data directory '%s' is in use by another process (%s)"
                           : "cannot lock data directory '%s': %s",
                       d->root, errno == EWOULDBLOCK ? "flock" : strerror(errno));
    struct stat info;
    if (fstat(d->lock_fd, &info) == 0 && (info.st_mode & 077) != 0)
        snprintf(why, why_bytes,
                 "directory \"%s\" exists, but its permission is %04o; the recommended permission "
                 "is 0700 to prevent "
                 "possible unprivileged access to the data",
                 d->root, (unsigned)info.st_mode & 07777U);
    return ST_OK;
}

static enum status set_paths(const char *path, const char *wal_dir, struct datadir *d, char *why,
                             size_t why_bytes)
{
    *d = (struct datadir){.lock_fd = -1, .wal_is_apart = wal_dir[0] != '\0'};
    why[0] = '\0';
    if (strlen(path) >= sizeof(d->root) - NAMES_BYTES_MAX ||
        !join(d->member, sizeof(d->member), path, "member") ||
        !join(d->snap, sizeof(d->snap), d->member, "snap") ||
        !join(d->wal, sizeof(d->wal), d->member, "wal"))
        return explain(ST_INVALID, why, why_bytes, "the path of data directory '%s' is too long",
                       path);
    if (strlen(wal_dir) >= sizeof(d->wal) - NAMES_BYTES_MAX)
        return explain(ST_INVALID, why, why_bytes, "the path of log directory '%s' is too long",
                       wal_dir);
    snprintf(d->root, sizeof(d->root), "%s", path);
    if (d->wal_is_apart)
        snprintf(d->wal, sizeof(d->wal), "%s", wal_dir);
    return ST_OK;
}

enum status datadir_open(const char *path, const char *wal_dir, struct datadir *out, char *why,
                         size_t why_bytes)
{
    enum status st = set_paths(path, wal_dir, out, why, why_bytes);
    if (st == ST_OK)
        st = lock_root(out, why, why_bytes);
    if (st != ST_OK)
        goto fail;
    out->exists = path_exists(out->root, "member");
    if (out->exists) {
        st = read_format(out, why, why_bytes);
        if (st != ST_OK)
            goto fail;
    }
    return ST_OK;
fail:
    datadir_close(out);
    return st;
}

/* The lock is asked for shared and given back at once: there is no other way to learn of it that
 * works across containers. */
static enum status look_at_root(const char *root, bool *in_use_out, char *why, size_t why_bytes)
{
    int fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return explain(errno == ENOENT    ? ST_NOT_FOUND
                       : errno == ENOTDIR ? ST_INVALID
                                          : ST_IO,
                       why, why_bytes, "cannot open data directory '%s': %s", root,
                       strerror(errno));
    *in_use_out = flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    close(fd);
    return ST_OK;
}

enum status datadir_look(const char *path, const char *wal_dir, struct datadir *out,
                         enum datadir_kind *kind_out, bool *in_use_out, char *why, size_t why_bytes)
{
    *kind_out = DATADIR_NOTHING;
    *in_use_out = false;
    enum status st = set_paths(path, wal_dir, out, why, why_bytes);
    if (st == ST_OK)
        st = look_at_root(out->root, in_use_out, why, why_bytes);
    if (st != ST_OK)
        return st;
    out->exists = path_exists(out->root, "member");
    if (!out->exists) {
        *kind_out = path_exists(out->root, "member.new") ? DATADIR_UNFINISHED : DATADIR_NOTHING;
        return ST_OK;
    }
    *kind_out = DATADIR_ETCD;
    if (!path_exists(out->member, "FORMAT") && is_etcd(out->member))
        return ST_OK;
    *kind_out = DATADIR_CLEAT;
    return read_format(out, why, why_bytes);
}

void datadir_close(struct datadir *datadir)
{
    if (datadir->lock_fd >= 0)
        close(datadir->lock_fd);
    datadir->lock_fd = -1;
}

/* ---- making a member ---- */

static bool is_segment(const char *name)
{
    size_t length = strlen(name);
    return length > 4 && strcmp(name + length - 4, ".wal") == 0;
}

/* Removes what an interrupted first start left in folder: nothing in it was ever acknowledged,
 * since member.new was not yet renamed. Only files, and in a separate log directory only segments.
 */
static enum status clear_folder(const char *folder, bool segments_only)
{
    DIR *dir = opendir(folder);
    if (dir == NULL)
        return errno == ENOENT ? ST_OK : ST_IO;
    enum status st = ST_OK;
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        if (entry->d_type == DT_DIR || (segments_only && !is_segment(entry->d_name)))
            continue;
        if (unlinkat(dirfd(dir), entry->d_name, 0) != 0)
            st = ST_IO;
    }
    closedir(dir);
    return st;
}

static enum status make_folder(const char *parent, const char *name, bool segments_only)
{
    char path[PATH_MAX];
    if (!join(path, sizeof(path), parent, name))
        return ST_INVALID;
    enum status st = clear_folder(path, segments_only);
    if (st == ST_OK && mkdir(path, 0700) != 0 && errno != EEXIST)
        st = status_of_errno(errno);
    return st;
}

enum status datadir_begin(struct datadir *d, const struct format *format, char *why,
                          size_t why_bytes)
{
    bool unfinished = path_exists(d->root, "member.new");
    if (!join(d->member, sizeof(d->member), d->root, "member.new"))
        return explain(ST_INVALID, why, why_bytes, "the path of data directory '%s' is too long",
                       d->root);
    d->format = *format;
    d->format.version = FORMAT_VERSION;
    enum status st = make_folder(d->root, "member.new", false);
    if (st == ST_OK)
        st = make_folder(d->member, "store", false);
    if (st == ST_OK)
        st = make_folder(d->member, "snap", false);
    if (st == ST_OK && !join(d->snap, sizeof(d->snap), d->member, "snap"))
        st = ST_INVALID;
    if (st == ST_OK && !d->wal_is_apart) {
        st = make_folder(d->member, "wal", false);
        if (st == ST_OK && !join(d->wal, sizeof(d->wal), d->member, "wal"))
            st = ST_INVALID;
    } else if (st == ST_OK) {
        st = mkdir(d->wal, 0700) == 0 || errno == EEXIST ? ST_OK : status_of_errno(errno);
        if (st == ST_OK && unfinished)
            st = clear_folder(d->wal, true);
    }
    if (st != ST_OK)
        return explain(st, why, why_bytes, "cannot make a new member in '%s': %s", d->root,
                       strerror(errno));
    return sync_directory(d->root);
}

enum status datadir_commit(struct datadir *d, char *why, size_t why_bytes)
{
    char text[FORMAT_BYTES_MAX], path[PATH_MAX], final[PATH_MAX];
    size_t length = format_encode(&d->format, text, sizeof(text));
    if (!join(path, sizeof(path), d->member, "FORMAT") ||
        !join(final, sizeof(final), d->root, "member"))
        return explain(ST_INVALID, why, why_bytes, "the path of data directory '%s' is too long",
                       d->root);
    enum status st = sync_parent(d->root);
    if (st == ST_OK && d->wal_is_apart)
        st = sync_parent(d->wal);
    if (st == ST_OK)
        st = write_durable_file(path, text, length);
    if (st == ST_OK)
        st = sync_directory(d->member);
    if (st == ST_OK && rename(d->member, final) != 0)
        st = status_of_errno(errno);
    if (st == ST_OK)
        st = sync_directory(d->root);
    if (st != ST_OK)
        return explain(st, why, why_bytes, "cannot finish the new member in '%s': %s", d->root,
                       strerror(errno));
    memcpy(d->member, final, sizeof(final));
    if (!d->wal_is_apart)
        (void)join(d->wal, sizeof(d->wal), d->member, "wal");
    (void)join(d->snap, sizeof(d->snap), d->member, "snap");
    d->exists = true;
    return ST_OK;
}

void datadir_store_path(const struct datadir *datadir, char *out, size_t out_bytes)
{
    char folder[PATH_MAX];
    bool fits = join(folder, sizeof(folder), datadir->member, "store") &&
                join(out, out_bytes, folder, datadir->format.store_name);
    ASSERT(fits); /* datadir_open() leaves room */
}

void datadir_checkpoint_path(const struct datadir *datadir, char *out, size_t out_bytes)
{
    bool fits = join(out, out_bytes, datadir->member, "store/index.ckpt");
    ASSERT(fits);
}

/* ---- another store ---- */

static enum status replace_format(const struct datadir *d)
{
    char text[FORMAT_BYTES_MAX], path[PATH_MAX], next[PATH_MAX];
    size_t length = format_encode(&d->format, text, sizeof(text));
    if (!join(path, sizeof(path), d->member, "FORMAT") ||
        !join(next, sizeof(next), d->member, "FORMAT.new"))
        return ST_INVALID;
    enum status st = write_durable_file(next, text, length);
    if (st == ST_OK && rename(next, path) != 0)
        st = status_of_errno(errno);
    return st == ST_OK ? sync_directory(d->member) : st;
}

enum status datadir_set_store(struct datadir *d, const char *store_name)
{
    char checkpoint[PATH_MAX], folder[PATH_MAX];
    datadir_checkpoint_path(d, checkpoint, sizeof(checkpoint));
    if (!join(folder, sizeof(folder), d->member, "store") ||
        strlen(store_name) >= sizeof(d->format.store_name))
        return ST_INVALID;
    if (unlink(checkpoint) != 0 && errno != ENOENT)
        return status_of_errno(errno);
    enum status st = sync_directory(folder);
    if (st != ST_OK)
        return st;
    snprintf(d->format.store_name, sizeof(d->format.store_name), "%s", store_name);
    return replace_format(d);
}

static bool has_prefix(const char *name, const char *prefix)
{
    return strncmp(name, prefix, strlen(prefix)) == 0;
}

static bool has_suffix(const char *name, const char *suffix)
{
    size_t length = strlen(name), suffix_length = strlen(suffix);
    return length >= suffix_length && strcmp(name + length - suffix_length, suffix) == 0;
}

/* A file that cannot be removed is in nobody's way but the disk's. */
void datadir_clean(const struct datadir *d)
{
    char folder[PATH_MAX];
    DIR *dir = join(folder, sizeof(folder), d->member, "store") ? opendir(folder) : NULL;
    for (struct dirent *entry = dir == NULL ? NULL : readdir(dir); entry != NULL;
         entry = readdir(dir)) {
        if (entry->d_name[0] != '.' && !has_prefix(entry->d_name, d->format.store_name) &&
            !has_prefix(entry->d_name, "index.ckpt"))
            (void)unlinkat(dirfd(dir), entry->d_name, 0);
    }
    if (dir != NULL)
        closedir(dir);
    dir = opendir(d->snap);
    for (struct dirent *entry = dir == NULL ? NULL : readdir(dir); entry != NULL;
         entry = readdir(dir)) {
        if (has_suffix(entry->d_name, ".part"))
            (void)unlinkat(dirfd(dir), entry->d_name, 0);
    }
    if (dir != NULL)
        closedir(dir);
}
