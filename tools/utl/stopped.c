#include "tools/utl/stopped.h"

#include "base/clock_real.h"
#include "tools/utl/utl.h"
#include "wal/disks.h"

#include <inttypes.h>
#include <string.h>

#define CONF_BYTES_MAX 65536U

static enum status open_directory(struct cli *cli, struct datadir *d, struct buf *why)
{
    const char *path = cli_string(cli, "data-dir"), *wal_dir = cli_string(cli, "wal-dir");
    char text[1024] = "";
    enum datadir_kind kind;
    bool in_use;
    enum status st = datadir_look(path, wal_dir, d, &kind, &in_use, text, sizeof(text));
    d->lock_fd = -1;
    if (st != ST_OK)
        return utl_fail(why, st, "%s", text);
    if (kind == DATADIR_ETCD)
        return utl_fail(why, ST_INVALID,
                        "data directory '%s' was written by etcd: use etcdutl on it, or import it "
                        "with: cleatutl import %s --data-dir <new directory>",
                        path, path);
    if (kind != DATADIR_CLEAT)
        return utl_fail(why, ST_INVALID, "data directory '%s' holds no member", path);
    if (in_use)
        return utl_fail(why, ST_BUSY,
                        "data directory '%s' is in use by another process: stop the member", path);
    st = datadir_open(path, wal_dir, d, text, sizeof(text));
    return st == ST_OK ? ST_OK : utl_fail(why, st, "%s", text);
}

const struct backend_ops *stopped_find_backend(const char *name)
{
    if (strcmp(name, "lmdb") == 0)
        return backend_lmdb();
    return strcmp(name, "sqlite") == 0 ? backend_sqlite() : NULL;
}

static enum status open_store(struct stopped *s, struct buf *why)
{
    s->ops = stopped_find_backend(s->datadir.format.backend);
    if (s->ops == NULL)
        return utl_fail(why, ST_UNSUPPORTED, "unknown backend '%s' in FORMAT",
                        s->datadir.format.backend);
    datadir_store_path(&s->datadir, s->store_path, sizeof(s->store_path));
    struct backend_options options = {.path = s->store_path,
                                      .life_id = s->datadir.format.life_id,
                                      .map_bytes_max = STOPPED_MAP_BYTES_MAX,
                                      .read_only = true,
                                      .why = why};
    enum status st = s->ops->open(&options, &s->store);
    return st == ST_OK ? s->ops->mark(s->store, &s->mark, &s->conf_state) : st;
}

static enum status open_log(struct stopped *s, struct buf *why)
{
    enum status st = rng_seed_from_system(&s->rng);
    if (st == ST_OK)
        st = disk_open_reading(&s->disk);
    if (st != ST_OK)
        return st;
    const struct wal_options options = {.disk = s->disk,
                                        .clock = clock_real(),
                                        .rng = &s->rng,
                                        .dir = s->datadir.wal,
                                        .life_id = s->datadir.format.life_id,
                                        .store_mark = {s->mark.index, s->mark.term},
                                        .read_only = true};
    st = wal_open(&options, &s->wal, &s->recovered, &s->report);
    if (st == ST_NOT_FOUND)
        return utl_fail(why, st, "%s; where the log lies apart, give --wal-dir", s->report.text);
    if (st != ST_OK)
        return utl_fail(why, st, "%s", s->report.text);
    /* A member that stopped between a received snapshot and its switch goes on with another store.
     */
    if (s->recovered.snapshot.last.index > s->mark.index)
        return utl_fail(why, ST_INVALID,
                        "the member stopped while it took a snapshot (entry %" PRIu64
                        "; its store is at %" PRIu64
                        "): start it, let it finish, and stop it again",
                        s->recovered.snapshot.last.index, s->mark.index);
    return ST_OK;
}

enum status stopped_open(struct cli *cli, struct stopped *out, struct buf *why)
{
    *out = (struct stopped){.datadir.lock_fd = -1};
    buf_init(&out->conf_state, CONF_BYTES_MAX);
    enum status st = open_directory(cli, &out->datadir, why);
    if (st == ST_OK)
        st = open_store(out, why);
    if (st == ST_OK)
        st = open_log(out, why);
    return st;
}

void stopped_close_store(struct stopped *s)
{
    if (s->store != NULL)
        s->ops->close(s->store);
    s->store = NULL;
}

void stopped_close(struct stopped *s)
{
    stopped_close_store(s);
    wal_close(s->wal);
    disk_free(s->disk);
    buf_deinit(&s->conf_state);
    datadir_close(&s->datadir);
}
