#include "tools/utl/lost_format.h"

#include "storage/backend.h"
#include "wal/disks.h"
#include "wal/wal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MAP_BYTES_MAX (64ULL << 30) /* as the server opens it: address space alone */
#define CONF_BYTES_MAX 65536U

bool lost_format_is_shared(const char *store_path, const char *backend_name, bool is_running)
{
    char path[PATH_MAX + 8];
    if (is_running)
        return true;
    snprintf(path, sizeof(path), "%s-lock", store_path);
    return strcmp(backend_name, "lmdb") == 0 && access(path, R_OK | W_OK) == 0;
}

/* ---- the store ---- */

struct finding {
    const struct datadir *datadir;
    bool is_running;
    struct lost_format *lost;
    uint64_t mark_index; /* of the one taken */
    enum status st;
};

static const struct backend_ops *backend_of(const char *name)
{
    const struct backend_ops *all[] = {backend_lmdb(), backend_sqlite()};
    size_t len = strlen(name);
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        size_t suffix_len = strlen(all[i]->suffix);
        if (len > suffix_len && strcmp(name + len - suffix_len, all[i]->suffix) == 0)
            return all[i];
    }
    return NULL;
}

/* Life id and index of the mark; ST_NOT_FOUND when it does not say. */
static enum status ask(const struct finding *f, const struct backend_ops *ops, const char *path,
                       uint64_t *life_id_out, uint64_t *index_out)
{
    struct backend *backend;
    struct store_mark mark;
    struct buf conf_state;
    const struct backend_options options = {
        .path = path,
        .map_bytes_max = MAP_BYTES_MAX,
        .read_only = true,
        .shared = lost_format_is_shared(path, ops->name, f->is_running),
        .life_id_out = life_id_out};
    enum status st = ops->open(&options, &backend);
    if (st != ST_OK)
        return st == ST_NO_MEMORY ? st : ST_NOT_FOUND;
    buf_init(&conf_state, CONF_BYTES_MAX);
    st = ops->mark(backend, &mark, &conf_state);
    *index_out = st == ST_OK ? mark.index : 0;
    buf_deinit(&conf_state);
    ops->close(backend);
    return st == ST_NO_MEMORY ? st : ST_OK;
}

static void take(struct finding *f, const struct backend_ops *ops, const char *name,
                 uint64_t life_id, uint64_t mark_index)
{
    struct format *format = &f->lost->format;
    snprintf(format->backend, sizeof(format->backend), "%s", ops->name);
    snprintf(format->store_name, sizeof(format->store_name), "%s", name);
    f->lost->store_life_id = life_id;
    f->mark_index = mark_index;
}

/* Rather one of the log's life, then one that can be read, then the one that stands furthest. */
static bool is_better(const struct finding *f, uint64_t life_id, uint64_t mark_index)
{
    uint64_t taken = f->lost->store_life_id, wanted = f->lost->log_life_id;
    if (f->lost->stores_count == 1)
        return true;
    if ((life_id == wanted) != (taken == wanted))
        return life_id == wanted;
    if ((life_id != 0) != (taken != 0))
        return life_id != 0;
    return mark_index > f->mark_index;
}

static void look_at(void *context, const char *name)
{
    struct finding *f = context;
    const struct backend_ops *ops = backend_of(name);
    char path[PATH_MAX];
    uint64_t life_id = 0, mark_index = 0;
    if (ops == NULL || strlen(name) >= sizeof(f->lost->format.store_name) || f->st != ST_OK)
        return;
    int len = snprintf(path, sizeof(path), "%s/store/%s", f->datadir->member, name);
    if (len < 0 || (size_t)len >= sizeof(path))
        return;
    f->lost->stores_count++;
    enum status st = ask(f, ops, path, &life_id, &mark_index);
    if (st == ST_NO_MEMORY)
        f->st = st;
    else if (is_better(f, life_id, mark_index))
        take(f, ops, name, life_id, mark_index);
}

static enum status find_store(struct disk *disk, const struct datadir *d, bool is_running,
                              struct lost_format *lost)
{
    struct finding f = {.datadir = d, .is_running = is_running, .lost = lost};
    char folder[PATH_MAX];
    int len = snprintf(folder, sizeof(folder), "%s/store", d->member);
    if (len < 0 || (size_t)len >= sizeof(folder))
        return ST_INVALID;
    enum status st = disk_list(disk, folder, look_at, &f);
    if (f.st != ST_OK)
        return f.st;
    return st == ST_NO_MEMORY ? st : ST_OK; /* no folder, no store */
}

/* ---- all of it ---- */

/* Of a FORMAT that reads well: whether the log and the store both are of another life. */
static bool is_anothers(const struct lost_format *lost, const struct format *format)
{
    return lost->log_life_id != format->life_id && lost->store_life_id != 0 &&
           lost->store_life_id != format->life_id;
}

static void tell_another(struct lost_format *lost, const struct datadir *d)
{
    snprintf(lost->why, sizeof(lost->why),
             "'%.*s/FORMAT' is of another member: its life id is %016" PRIx64
             ", the log's is %016" PRIx64 ", the store's %016" PRIx64,
             (int)sizeof(lost->why) / 2, d->member, d->format.life_id, lost->log_life_id,
             lost->store_life_id);
}

static enum status find(struct disk *disk, const struct datadir *d, bool is_running,
                        struct lost_format *lost)
{
    enum status st = wal_find_life(disk, d->wal, &lost->log_life_id);
    if (st == ST_NO_MEMORY)
        return st;
    bool is_readable = !lost->is_lost;
    if (is_readable && (st != ST_OK || lost->log_life_id == d->format.life_id))
        return ST_OK;
    st = find_store(disk, d, is_running, lost);
    if (st != ST_OK)
        return st;
    if (is_readable && is_anothers(lost, &d->format)) {
        lost->is_lost = true;
        tell_another(lost, d);
    }
    lost->format.life_id = lost->store_life_id != 0 ? lost->store_life_id : lost->log_life_id;
    return ST_OK;
}

enum status lost_format_look(const char *path, const char *wal_dir, struct datadir *datadir_out,
                             enum datadir_kind *kind_out, bool *in_use_out, struct lost_format *out)
{
    struct disk *disk;
    *out = (struct lost_format){0};
    enum status st =
        datadir_look(path, wal_dir, datadir_out, kind_out, in_use_out, out->why, sizeof(out->why));
    if (*kind_out != DATADIR_CLEAT || (st != ST_OK && st != ST_INVALID && st != ST_IO))
        return st;
    out->is_lost = st != ST_OK;
    st = disk_open_reading(&disk);
    if (st != ST_OK)
        return st;
    st = find(disk, datadir_out, *in_use_out, out);
    disk_free(disk);
    return st;
}
