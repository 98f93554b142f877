#include "tests/utl/maker_fixture.h"

#include "base/bytes.h"
#include "base/lock.h"
#include "base/rng.h"
#include "server/loops/start.h"
#include "server/state/conf_state.h"
#include "server/state/machine.h"
#include "storage/datadir/datadir.h"
#include "storage/dbfile/limits.h"
#include "storage/mvcc.h"
#include "wal/disks.h"

#include <inttypes.h>
#include <time.h>

#define KEYS 5
#define TAIL_MAX 16U
#define VALUE "a value"

static uint64_t read_clock(void *context)
{
    struct timespec now;
    clock_gettime(context == NULL ? CLOCK_MONOTONIC : CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

const struct clock *fixture_clock(void)
{
    static const struct clock real = {read_clock, read_clock, NULL};
    return &real;
}

/* ---- the file ---- */

struct giving {
    struct slice after;
    dbfile_record_fn fn;
    void *fn_context;
    enum status st;
};

static void give(struct giving *g, struct slice key, struct slice value)
{
    if (g->st == ST_OK && slice_cmp(key, g->after) > 0)
        g->st = g->fn(g->fn_context, key, value);
}

static void give_revisions(struct giving *g)
{
    uint8_t key[TOMBSTONE_KEY_BYTES], record[128];
    for (int64_t main = 2; main <= FIXTURE_REVISION; main++) {
        char name[8];
        snprintf(name, sizeof(name), "key%d", (int)(main % KEYS));
        const struct mvcc_kv kv = {.key = slice_from_str(name),
                                   .value = SLICE(VALUE),
                                   .create_revision =
                                       main % KEYS < 2 ? KEYS + main % KEYS : main % KEYS,
                                   .mod_revision = main,
                                   .version = main < KEYS + 2 ? 1 : main / KEYS,
                                   .lease = 7};
        mvcc_kv_encode(&kv, record);
        size_t size = revision_key_encode((struct revision){main, 0}, false, key);
        give(g, slice_make(key, size), slice_make(record, mvcc_kv_encoded_size(&kv)));
    }
}

#define LEASE_BYTES 120U /* of each but the first */

static void give_leases(struct giving *g, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint8_t key[8] = {0}, value[LEASE_BYTES] = {8};
        put_be32(key + 4, i + 7);
        size_t size = 1 + put_varint(value + 1, i + 7);
        value[size++] = 16;
        value[size++] = 60;
        uint8_t filler[] = {0x7a, (uint8_t)(LEASE_BYTES - size - 2)}; /* a field nobody knows */
        if (i > 0) {
            memcpy(value + size, filler, sizeof(filler));
            size = sizeof(value);
        }
        give(g, slice_make(key, sizeof(key)), slice_make(value, size));
    }
}

static void give_meta(struct giving *g)
{
    uint8_t index[8], term[8], compact[TOMBSTONE_KEY_BYTES];
    put_be64(index, 900);
    put_be64(term, 12);
    size_t size = revision_key_encode((struct revision){FIXTURE_COMPACT, 0}, false, compact);
    give(g, SLICE("confState"), SLICE("{\"voters\":[99],\"auto_leave\":false}"));
    give(g, SLICE("consistent_index"), slice_make(index, 8));
    give(g, SLICE("scheduledCompactRev"), slice_make(compact, size));
    give(g, SLICE("term"), slice_make(term, 8));
}

static enum status read_model(void *context, enum bucket bucket, struct slice after,
                              dbfile_record_fn fn, void *fn_context, bool *end_out)
{
    struct giving g = {.after = after, .fn = fn, .fn_context = fn_context};
    if (bucket == BUCKET_KEY)
        give_revisions(&g);
    else if (bucket == BUCKET_LEASE)
        give_leases(&g, 1 + *(uint32_t *)context);
    else if (bucket == BUCKET_META)
        give_meta(&g);
    else if (bucket == BUCKET_MEMBERS)
        give(&g, SLICE("63"), SLICE("{\"id\":99,\"peerURLs\":[\"http://h:1\"],\"name\":\"old\"}"));
    else if (bucket == BUCKET_MEMBERS_REMOVED)
        give(&g, SLICE("8e9e05c52164694d"), SLICE("removed"));
    else if (bucket == BUCKET_CLUSTER)
        give(&g, SLICE("clusterVersion"), SLICE("3.5.0"));
    *end_out = g.st == ST_OK;
    return g.st;
}

struct dbfile_source fixture_source(uint32_t *records)
{
    return (struct dbfile_source){.read = read_model, .context = records};
}

void fixture_write_db(const char *path, uint32_t records)
{
    struct dbfile_source source = fixture_source(&records);
    struct dbfile_writer *writer;
    CHECK(dbfile_writer_new(&source, DBFILE_PAGE_BYTES, &writer) == ST_OK);
    for (bool done = false; !done;)
        CHECK(dbfile_writer_measure(writer, &done) == ST_OK);
    FILE *out = fopen(path, "wb");
    CHECK(out != NULL);
    struct slice bytes;
    while (dbfile_writer_next(writer, &bytes) == ST_OK)
        CHECK(fwrite(bytes.data, 1, bytes.len, out) == bytes.len);
    CHECK(fclose(out) == 0);
    dbfile_writer_free(writer);
}

struct disk_file *fixture_open_db(const char *path)
{
    char why[256];
    struct disk *disk;
    struct disk_file *file;
    CHECK(disk_open_real(DISK_KIND_FDATASYNC, "/tmp", &disk, why, sizeof(why)) == ST_OK);
    CHECK(disk_open(disk, path, DISK_READ_ONLY, &file) == ST_OK);
    return file;
}

void fixture_close_db(struct disk_file *file)
{
    struct disk *disk = file->disk;
    disk_close(file);
    disk_free(disk);
}

/* ---- making ---- */

struct maker_options fixture_options(const char *data_dir, const char *wal_dir, const char *backend)
{
    return (struct maker_options){.data_dir = data_dir,
                                  .wal_dir = wal_dir,
                                  .backend = backend,
                                  .cluster_id = FIXTURE_CLUSTER_ID,
                                  .member_id = FIXTURE_MEMBER_ID,
                                  .clock = fixture_clock()};
}

static const struct slice peer_urls[] = {{(const uint8_t *)"http://a:2380", 13},
                                         {(const uint8_t *)"http://b:2380", 13}};

static enum status set_members(struct maker *maker)
{
    const struct member_row rows[] = {
        {.id = FIXTURE_MEMBER_ID,
         .name = SLICE("a"),
         .peer_urls = &peer_urls[0],
         .peer_urls_count = 1},
        {.id = FIXTURE_OTHER_ID,
         .name = SLICE("b"),
         .peer_urls = &peer_urls[1],
         .peer_urls_count = 1},
    };
    return maker_set_members(maker, rows, 2, NULL, 0);
}

enum status fixture_make(const struct maker_options *options, struct disk_file *db, uint64_t raise,
                         struct buf *why)
{
    return fixture_make_tail(options, db, raise, /* tail= */ NULL, 0, why);
}

enum status fixture_make_tail(const struct maker_options *options, struct disk_file *db,
                              uint64_t raise, const raft_term *tail, uint32_t tail_count,
                              struct buf *why)
{
    struct raft_entry entries[TAIL_MAX];
    CHECK(tail_count <= TAIL_MAX);
    for (uint32_t i = 0; i < tail_count; i++)
        entries[i] = (struct raft_entry){.term = tail[i], .index = 3 + i};
    struct maker *maker;
    enum status st = maker_begin(options, why, &maker);
    if (st != ST_OK)
        return st;
    st = maker_load(maker, db);
    int64_t revision;
    if (st == ST_OK)
        st = set_members(maker);
    if (st == ST_OK && raise > 0)
        st = maker_raise_revision(maker, raise, &revision);
    const struct maker_log log = {
        .snapshot = {.last = {.index = 2, .term = 1},
                     .conf_state = {.voters = {FIXTURE_MEMBER_ID, FIXTURE_OTHER_ID},
                                    .voters_count = 2}},
        .hard_state = {.term = 1, .vote = FIXTURE_MEMBER_ID, .commit = 2},
        .entries = entries,
        .entries_count = tail_count};
    if (st == ST_OK)
        st = maker_finish(maker, &log);
    maker_close(maker);
    return st;
}

/* ---- what a start finds ---- */

static uint64_t expect_log(const struct maker_options *options, const struct datadir *d,
                           const struct store_mark *mark)
{
    char why[512];
    struct disk *disk;
    struct rng rng;
    rng_seed(&rng, 7);
    CHECK(disk_open_real(DISK_KIND_FDATASYNC, d->wal, &disk, why, sizeof(why)) == ST_OK);
    struct wal_options wal_options = {.disk = disk,
                                      .clock = options->clock,
                                      .rng = &rng,
                                      .dir = d->wal,
                                      .life_id = d->format.life_id,
                                      .store_mark = {mark->index, mark->term}};
    struct wal *wal;
    struct wal_recovered recovered;
    struct wal_report report;
    enum status st = wal_open(&wal_options, &wal, &recovered, &report);
    if (st != ST_OK)
        fprintf(stderr, "%s\n", report.text);
    CHECK(st == ST_OK);
    CHECK(!report.torn_tail);
    CHECK(recovered.snapshot.last.index == 2 && recovered.snapshot.last.term == 1);
    CHECK(recovered.last_index >= 2 && recovered.hard_state.commit == 2);
    CHECK(recovered.hard_state.term == 1 && recovered.hard_state.vote == FIXTURE_MEMBER_ID);
    struct loops_start start;
    CHECK(!loops_start_is_behind(&recovered, mark));
    CHECK(loops_start_init(&start, wal, &recovered, mark, /* window_entries_max= */ 5000) == ST_OK);
    CHECK(start.start.conf_state.voters_count == 2 && start.start.before_first.index == 2);
    loops_start_deinit(&start);
    wal_close(wal);
    disk_free(disk);
    return recovered.last_index;
}

static void expect_members(struct store *store, struct mvcc *mvcc)
{
    struct machine_options options = {.store = store,
                                      .mvcc = mvcc,
                                      .cluster_id = FIXTURE_CLUSTER_ID,
                                      .member_id = FIXTURE_MEMBER_ID};
    struct machine *machine;
    CHECK(machine_open(&options, &machine) == ST_OK);
    struct members *members = machine_members(machine);
    CHECK(members_count(members) == 2);
    CHECK(members_at(members, 0)->id == FIXTURE_MEMBER_ID);
    CHECK(slice_eq(members_at(members, 1)->name, SLICE("b")));
    CHECK(slice_eq(members_at(members, 1)->peer_urls[0], peer_urls[1]));
    CHECK(!machine_is_removed(machine, FIXTURE_MEMBER_ID));
    char version[VERSION_TEXT_BYTES];
    machine_cluster_version(machine, version);
    CHECK(strcmp(version, "3.5.0") == 0);
    members_unref(members);
    machine_close(machine);
}

static void expect_keys(struct mvcc *mvcc, uint64_t raise)
{
    int64_t current, compact;
    mvcc_revisions(mvcc, &current, &compact);
    CHECK(current == FIXTURE_REVISION + (int64_t)raise);
    CHECK(compact == (raise > 0 ? current : FIXTURE_COMPACT));
    struct mvcc_query every = {.range = {SLICE("\0"), SLICE("\0")}, .count_only = true};
    struct mvcc_result result;
    CHECK(mvcc_read(mvcc, 0, &every, NULL, NULL, &result) == ST_OK);
    CHECK(result.count == KEYS);
}

uint64_t fixture_expect_member(const struct maker_options *options, uint64_t raise)
{
    struct datadir d;
    char why[512], path[PATH_MAX];
    enum status st = datadir_open(options->data_dir, options->wal_dir, &d, why, sizeof(why));
    if (st != ST_OK)
        fprintf(stderr, "%s\n", why);
    CHECK(st == ST_OK && d.exists);
    CHECK(strcmp(d.format.backend, options->backend) == 0);
    CHECK(d.format.cluster_id == FIXTURE_CLUSTER_ID && d.format.member_id == FIXTURE_MEMBER_ID);
    datadir_store_path(&d, path, sizeof(path));
    struct lock *lock;
    CHECK(lock_new(/* threaded= */ false, &lock) == ST_OK);
    bool is_lmdb = strcmp(options->backend, "lmdb") == 0;
    struct store_options store_options = {
        .backend = is_lmdb ? backend_lmdb() : backend_sqlite(),
        .backend_options = {.path = path, .life_id = d.format.life_id, .map_bytes_max = 1ULL << 30},
        .lock = lock,
        .clock = options->clock,
        .readers_count = 1};
    struct store *store;
    CHECK(store_open(&store_options, &store) == ST_OK);
    struct store_mark mark = store_opened_at(store);
    CHECK(mark.index == 2 && mark.term == 1);
    uint64_t last_index = expect_log(options, &d, &mark);
    struct mvcc_options mvcc_options = {
        .store = store, .lock = lock, .life_id = d.format.life_id, .readers_count = 1};
    struct mvcc *mvcc;
    CHECK(mvcc_open(&mvcc_options, &mvcc) == ST_OK);
    expect_keys(mvcc, raise);
    expect_members(store, mvcc);
    mvcc_close(mvcc);
    store_close(store);
    lock_free(lock);
    datadir_close(&d);
    return last_index;
}
