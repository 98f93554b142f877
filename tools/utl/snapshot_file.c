#include "tools/utl/snapshot_file.h"

#include "base/digest.h"
#include "storage/dbfile/limits.h"
#include "tools/utl/progress.h"
#include "tools/utl/utl.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum status state_records_init(struct state_records *records, struct store *store,
                               struct mvcc *mvcc, struct lock *lock, uint32_t reader)
{
    *records = (struct state_records){.store = store};
    buf_init(&records->pinned.conf_state, 0); /* until it is made */
    enum status st = store_pin(store, &records->pin);
    if (st != ST_OK)
        return st;
    int64_t current, compact;
    mvcc_revisions(mvcc, &current, &compact);
    const struct dbfile_pin_options options = {
        .store = store, .lock = lock, .reader = reader, .pin = records->pin, .revision = current};
    st = dbfile_pin_source_init(&records->pinned, &options);
    records->source = dbfile_pin_source(&records->pinned);
    return st;
}

void state_records_deinit(struct state_records *records)
{
    if (records->store == NULL)
        return;
    dbfile_pin_source_deinit(&records->pinned);
    store_unpin(records->store, records->pin);
}

/* ---- the file ---- */

struct output {
    const struct snapshot_file_options *options;
    struct buf *why;
    char part[PATH_MAX];
    int fd;
    struct sha256 *digest; /* owned; NULL: none wanted */
    uint64_t bytes;
};

static enum status fail(const struct output *o, const char *what, const char *path)
{
    int error = errno;
    enum status st = error == ENOSPC || error == EDQUOT ? ST_NO_SPACE : ST_IO;
    return utl_fail(o->why, st, "cannot %s '%s': %s", what, path, strerror(error));
}

static enum status write_all(struct output *o, struct slice bytes)
{
    for (size_t at = 0; at < bytes.len;) {
        ssize_t got = write(o->fd, bytes.data + at, bytes.len - at);
        if (got < 0 && errno != EINTR)
            return fail(o, "write", o->part);
        at += got > 0 ? (size_t)got : 0;
    }
    o->bytes += bytes.len;
    progress_at(o->options->progress, o->bytes);
    return ST_OK;
}

static enum status write_digest(struct output *o)
{
    uint8_t sum[SHA256_BYTES];
    if (o->digest == NULL)
        return ST_OK;
    enum status st = sha256_end(o->digest, sum);
    return st == ST_OK ? write_all(o, slice_make(sum, sizeof(sum))) : st;
}

static enum status write_pages(struct output *o, struct dbfile_writer *writer)
{
    enum status st = ST_OK;
    while (st == ST_OK) {
        struct slice bytes;
        st = dbfile_writer_next(writer, &bytes);
        if (st == ST_OK && o->digest != NULL)
            st = sha256_add(o->digest, bytes);
        if (st == ST_OK)
            st = write_all(o, bytes);
    }
    return st == ST_NOT_FOUND ? write_digest(o) : st;
}

static enum status write_file(struct output *o, const struct dbfile_source *source)
{
    struct dbfile_writer *writer;
    enum status st = dbfile_writer_new(source, DBFILE_PAGE_BYTES, &writer);
    for (bool done = false; st == ST_OK && !done;)
        st = dbfile_writer_measure(writer, &done);
    if (st == ST_OK && o->options->progress != NULL)
        o->options->progress->total_bytes = dbfile_writer_size(writer);
    if (st == ST_OK)
        st = write_pages(o, writer);
    dbfile_writer_free(writer);
    if (st == ST_OK && fsync(o->fd) != 0)
        st = fail(o, "sync", o->part);
    return st;
}

static enum status sync_folder(struct output *o)
{
    char folder[PATH_MAX];
    snprintf(folder, sizeof(folder), "%s", o->options->path);
    char *slash = strrchr(folder, '/');
    if (slash == NULL)
        snprintf(folder, sizeof(folder), ".");
    else
        slash[slash == folder] = '\0';
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum status st = fd < 0 || fsync(fd) != 0 ? fail(o, "sync", folder) : ST_OK;
    if (fd >= 0)
        close(fd);
    return st;
}

static enum status refuse_existing(const struct output *o)
{
    return utl_fail(o->why, ST_EXISTS, "'%s' exists already: choose another name, or remove it",
                    o->options->path);
}

/* Nothing that came there meanwhile is overwritten: a link is made where there is no such rename.
 */
static enum status put_in_place(struct output *o)
{
    const char *path = o->options->path;
    int failed = renameat2(AT_FDCWD, o->part, AT_FDCWD, path, RENAME_NOREPLACE);
    if (failed != 0 && (errno == EINVAL || errno == ENOSYS)) {
        failed = link(o->part, path);
        if (failed == 0)
            (void)unlink(o->part);
    }
    if (failed != 0)
        return errno == EEXIST ? refuse_existing(o) : fail(o, "make", path);
    return sync_folder(o);
}

enum status snapshot_file_write(const struct snapshot_file_options *options,
                                const struct dbfile_source *source, struct buf *why,
                                uint64_t *bytes_out)
{
    struct output o = {.options = options, .why = why, .fd = -1};
    if (access(options->path, F_OK) == 0)
        return refuse_existing(&o);
    int len = snprintf(o.part, sizeof(o.part), "%s.part", options->path);
    if (len < 0 || (size_t)len >= sizeof(o.part))
        return utl_fail(why, ST_INVALID, "the path '%s' is too long", options->path);
    enum status st = options->with_digest ? sha256_new(&o.digest) : ST_OK;
    if (st == ST_OK) {
        o.fd = open(o.part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        st = o.fd < 0 ? fail(&o, "make", o.part) : write_file(&o, source);
    }
    if (o.fd >= 0)
        close(o.fd);
    sha256_free(o.digest);
    if (st == ST_OK)
        st = put_in_place(&o);
    if (st != ST_OK && o.fd >= 0)
        (void)unlink(o.part);
    if (st != ST_OK && why->len == 0)
        return utl_fail(why, st, "cannot write '%s': %s", options->path, status_str(st));
    *bytes_out = o.bytes;
    return st;
}
