#include "tools/utl/held.h"

#include "storage/mvcc.h"
#include "storage/store.h"
#include "tools/utl/console.h"
#include "tools/utl/utl.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define CALLER "utl/held.c"

static enum status refuse_running(const char *path, struct buf *why)
{
    return utl_fail(why, ST_BUSY,
                    "'%s' is in use by a server: stop it, or take a snapshot from it with: etcdctl "
                    "snapshot save",
                    path);
}

/* From now on no server can start on the directory. */
static enum status take_lock(struct held *held, const char *path, struct buf *why)
{
    struct stat info;
    if (stat(path, &info) != 0 || !S_ISDIR(info.st_mode))
        return ST_OK;
    held->lock_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (held->lock_fd < 0)
        return utl_fail(why, ST_IO, "cannot open '%s': %s", path, strerror(errno));
    if (flock(held->lock_fd, LOCK_SH | LOCK_NB) == 0)
        return ST_OK;
    return errno == EWOULDBLOCK
               ? refuse_running(path, why)
               : utl_fail(why, ST_IO, "cannot lock '%s': %s", path, strerror(errno));
}

static enum status judge(const struct held *held, struct buf *why)
{
    const struct utl_source *s = held->source;
    bool is_damaged = s->has_log && s->log_verdict != ST_OK;
    if (is_damaged)
        return utl_fail(why, ST_CORRUPT,
                        "%.*s To take what comes before it, and lose the rest, give --even-damaged",
                        (int)s->log_text.len, (const char *)s->log_text.data);
    if (s->apply_text.len > 0)
        return utl_fail(why, ST_CORRUPT, "%.*s. To leave it out for good, give --even-damaged",
                        (int)s->apply_text.len, (const char *)s->apply_text.data);
    return ST_OK;
}

enum status held_open(const struct held_options *options, struct held *out, struct buf *why)
{
    *out = (struct held){.lock_fd = -1};
    const struct utl_source_options source = {.path = options->path,
                                              .wal_dir = options->wal_dir,
                                              .whole_log = options->whole_log,
                                              .even_without_format = options->even_damaged};
    enum status st = utl_source_open(&source, why, &out->source);
    if (st != ST_OK)
        return st;
    if (out->source->is_running)
        return refuse_running(options->path, why);
    st = take_lock(out, options->path, why);
    return st == ST_OK && !options->even_damaged ? judge(out, why) : st;
}

void held_close(struct held *held)
{
    utl_source_close(held->source);
    if (held->lock_fd >= 0)
        close(held->lock_fd);
    *held = (struct held){.lock_fd = -1};
}

static const char *kind_of(const struct utl_source *s)
{
    switch (s->kind) {
    case UTL_SOURCE_CLEAT:
        return "Cleat's data directory";
    case UTL_SOURCE_ETCD:
        return "etcd's data directory";
    case UTL_SOURCE_FILE:
        return "a db file";
    }
    return "";
}

static void tell_text(const struct buf *text)
{
    struct console line;
    if (text->len == 0)
        return;
    char copy[2048];
    snprintf(copy, sizeof(copy), "%.*s", (int)text->len, (const char *)text->data);
    console_begin(&line, "warn", CALLER, copy);
    console_end(&line);
}

void held_tell(const struct held *held, const char *msg)
{
    const struct utl_source *s = held->source;
    struct console line;
    int64_t current, compact;
    mvcc_revisions(s->mvcc, &current, &compact);
    console_begin(&line, "info", CALLER, msg);
    console_text(&line, "from", s->options.path);
    console_text(&line, "kind", kind_of(s));
    console_i64(&line, "revision", current);
    console_u64(&line, "store-at-entry", s->mark.index);
    if (s->has_log) {
        console_u64(&line, "known-committed", s->hard_state.commit);
        console_u64(&line, "last-entry", s->log_last);
    }
    console_u64(&line, "applied", s->applied);
    console_end(&line);
    tell_text(&s->format_text);
    tell_text(&s->log_text);
    tell_text(&s->snap_text);
    tell_text(&s->apply_text);
}

static enum status note_id(void *context, const struct raft_entry *entry)
{
    *(struct raft_log_id *)context = (struct raft_log_id){entry->index, entry->term};
    return ST_OK;
}

enum status held_last(const struct held *held, struct raft_log_id *out)
{
    struct utl_source *s = held->source;
    *out = (struct raft_log_id){s->mark.index, s->mark.term};
    if (s->applied == s->mark.index && s->mark.term > 0)
        return ST_OK;
    /* etcd before 3.5 keeps no term in its db; its log has it. */
    out->index = s->applied;
    if (s->snapshot.index == s->applied)
        out->term = s->snapshot.term;
    return utl_source_entries(s, s->applied, s->applied, note_id, out);
}
