#include "server/run/stores.h"

#include "base/assert.h"
#include "server/run/log.h"
#include "server/run/member_private.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

static void store_name(const struct member *m, raft_index index, char *out, size_t out_bytes)
{
    snprintf(out, out_bytes, "%016" PRIx64 "%s", index, m->store_options.backend->suffix);
}

static void store_path(void *context, raft_index index, char *out, size_t out_bytes)
{
    const struct member *m = context;
    char name[64];
    store_name(m, index, name, sizeof(name));
    int len = snprintf(out, out_bytes, "%s/store/%s", m->datadir.member, name);
    ASSERT(len > 0 && (size_t)len < out_bytes);
}

static void copy_path(void *context, raft_index index, char *out, size_t out_bytes)
{
    const struct member *m = context;
    uint32_t number = 1;
    do {
        int len = snprintf(out, out_bytes, "%s/store/%016" PRIx64 "-%" PRIu32 "%s",
                           m->datadir.member, index, number++, m->store_options.backend->suffix);
        ASSERT(len > 0 && (size_t)len < out_bytes);
    } while (access(out, F_OK) == 0);
}

static enum status store_chosen(void *context, const char *path)
{
    struct member *m = context;
    const char *name = strrchr(path, '/');
    ASSERT(name != NULL);
    enum status st = datadir_set_store(&m->datadir, name + 1);
    if (st == ST_OK)
        log_info("another file takes the place of the store", LOG_STR("path", path));
    return st;
}

static void snapshot_failed(void *context, raft_index index, enum status st, const char *why)
{
    const struct member *m = context;
    log_warn("could not make a store of a received snapshot; it is to be sent again",
             LOG_HEX("local-member-id", m->member_id), LOG_U64("index", index), LOG_STATUS(st),
             LOG_STR("problem", why));
}

struct snapshot_options stores_snapshot_options(struct member *m)
{
    return (struct snapshot_options){.disk = m->disk,
                                     .store = &m->store_options,
                                     .mvcc = &m->mvcc_options,
                                     .store_path = store_path,
                                     .copy_path = copy_path,
                                     .store_chosen = store_chosen,
                                     .failed = snapshot_failed};
}

enum status stores_choose(struct member *m, raft_index index, char *why, size_t why_bytes)
{
    char name[64];
    store_name(m, index, name, sizeof(name));
    enum status st = datadir_set_store(&m->datadir, name);
    return st == ST_OK ? ST_OK : member_explain(st, why, why_bytes, "choose the store", name);
}

void stores_clean(struct member *m)
{
    datadir_clean(&m->datadir);
}
