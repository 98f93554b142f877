#include "base/assert.h"
#include "server/run/log.h"
#include "server/run/member_private.h"

#include <errno.h>
#include <limits.h>

/* The first entries of a new cluster add its members, the same on each of them; being there makes
 * them committed. The log of a member that joins is empty: the leader fills it. */
static enum status write_founding(struct wal *wal, const struct bootstrap *bootstrap)
{
    struct raft_entry entries[MEMBERS_MAX];
    uint32_t count = bootstrap->changes_count;
    for (uint32_t i = 0; i < count; i++)
        entries[i] = (struct raft_entry){.term = 1,
                                         .index = i + 1,
                                         .type = RAFT_ENTRY_CONF_CHANGE,
                                         .payload = bootstrap->changes[i]};
    const struct raft_hard_state hard_state = {.term = 1, .vote = 0, .commit = count};
    const struct wal_append append = {
        .entries = entries, .entries_count = count, .hard_state = &hard_state};
    return member_append_durably(wal, &append);
}

static enum status write_first_log(struct member *m, char *why, size_t why_bytes)
{
    struct wal_options options = member_log_options(m, /* create= */ true, (struct raft_log_id){0});
    struct wal *wal = NULL;
    struct wal_recovered recovered;
    struct wal_report report;
    errno = 0;
    enum status st = wal_open(&options, &wal, &recovered, &report);
    if (st != ST_OK)
        return member_explain(st, why, why_bytes,
                              report.text[0] != '\0' ? report.text : "make the log in",
                              m->datadir.wal);
    if (m->bootstrap.changes_count > 0)
        st = write_founding(wal, &m->bootstrap);
    wal_close(wal);
    return st == ST_OK
               ? ST_OK
               : member_explain(st, why, why_bytes, "write the first log in", m->datadir.wal);
}

static enum status make_first_store(struct member *m, char *why, size_t why_bytes)
{
    char path[PATH_MAX];
    struct store_options options = member_store_options(m, path, sizeof(path), /* create= */ true);
    struct store *store = NULL;
    errno = 0;
    enum status st = store_open(&options, &store);
    if (st != ST_OK)
        return member_explain(st, why, why_bytes, "make the store", path);
    store_close(store);
    return ST_OK;
}

enum status member_make(struct member *m, char *why, size_t why_bytes)
{
    const char *backend = m->options.backend[0] != '\0' ? m->options.backend : "lmdb";
    struct format format = {
        .life_id = rng_next(&m->rng), .cluster_id = m->cluster_id, .member_id = m->member_id};
    snprintf(format.backend, sizeof(format.backend), "%s", backend);
    snprintf(format.store_name, sizeof(format.store_name), "0000000000000000.%s", backend);
    enum status st = datadir_begin(&m->datadir, &format, why, why_bytes);
    if (st == ST_OK)
        st = member_open_disk(m, why, why_bytes);
    if (st == ST_OK)
        st = write_first_log(m, why, why_bytes);
    disk_free(m->disk); /* bound to a folder that is about to be renamed */
    m->disk = NULL;
    if (st == ST_OK)
        st = make_first_store(m, why, why_bytes);
    if (st == ST_OK)
        st = datadir_commit(&m->datadir, why, why_bytes);
    if (st == ST_OK)
        log_info("made a new member", LOG_STR("data-dir", m->datadir.root),
                 LOG_STR("backend", backend), LOG_HEX("member-id", format.member_id),
                 LOG_HEX("cluster-id", format.cluster_id));
    return st;
}
