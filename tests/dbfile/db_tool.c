/* Makes and reads db files for etcd_tools.py, which holds them against etcd's own programs.
 *   db_tool make FILE SEED   a store with a past, exported with its digest, as `snapshot save` does
 *   db_tool read FILE        what is in it, after loading it into a store
 *   db_tool fill FILE COUNT BYTES   a store of COUNT keys with values of that size, for
 * measurements All print one line of JSON. */
#include "base/bytes.h"
#include "base/digest.h"
#include "base/hash.h"
#include "base/rng.h"
#include "storage/dbfile/limits.h"
#include "storage/dbfile/loader.h"
#include "storage/dbfile/pin_source.h"
#include "storage/dbfile/reader.h"
#include "tests/fakes/backend_mem.h"
#include "tests/mvcc/key_space.h"
#include "wal/disks.h"

#include <inttypes.h>
#include <libgen.h>

#define WRITES 3000
#define STORE_NAME "store"

static void must(enum status st, const char *what)
{
    if (st == ST_OK)
        return;
    (void)fprintf(stderr, "%s: %s\n", what, status_str(st));
    exit(1);
}

/* ---- make ---- */

static void put_small(struct key_space *ks, enum bucket bucket, struct slice key,
                      struct slice value)
{
    must(store_put(ks->store, bucket, key, value), "store_put");
}

/* What a member of a cluster of one has besides its keys. */
static void write_small_buckets(struct key_space *ks)
{
    put_small(ks, BUCKET_CLUSTER, SLICE("clusterVersion"), SLICE("3.5.0"));
    put_small(ks, BUCKET_MEMBERS, SLICE("1"),
              SLICE("{\"id\":1,\"peerURLs\":[\"http://127.0.0.1:2380\"],\"name\":\"a\"}"));
    put_small(ks, BUCKET_MEMBERS_REMOVED, SLICE("2"), SLICE("removed"));
    put_small(ks, BUCKET_AUTH, SLICE("authRevision"), SLICE("\0\0\0\0\0\0\0\1"));
    for (uint8_t id = 1; id < 100; id++) {
        uint8_t key[8] = {0}, lease[] = {0x08, id, 0x10, 0x90, 0x4e}; /* 10000 s */
        key[7] = id;
        put_small(ks, BUCKET_LEASE, slice_make(key, sizeof(key)), slice_make(lease, sizeof(lease)));
    }
    key_space_end_entry(ks);
}

static void write_transaction(struct key_space *ks, struct rng *rng)
{
    static uint8_t value[200000];
    must(mvcc_write_begin(ks->mvcc), "begin");
    for (uint64_t ops = 1 + rng_below(rng, 3); ops > 0; ops--) {
        char key[32];
        (void)snprintf(key, sizeof(key), "/registry/%03u", (unsigned)rng_below(rng, 400));
        struct mvcc_range range = {slice_from_str(key), SLICE_EMPTY};
        size_t len = rng_below(rng, 200) == 0 ? rng_below(rng, sizeof(value)) : rng_below(rng, 300);
        int64_t deleted;
        memset(value, 'a' + (int)rng_below(rng, 26), len);
        if (rng_below(rng, 5) == 0)
            must(mvcc_write_delete(ks->mvcc, &range, NULL, NULL, &deleted), "delete");
        else
            must(mvcc_write_put(ks->mvcc, range.key, slice_make(value, len),
                                (int64_t)rng_below(rng, 100), NULL, NULL),
                 "put");
    }
    (void)mvcc_write_end(ks->mvcc);
    key_space_end_entry(ks);
}

static void write_file(struct key_space *ks, FILE *file)
{
    struct store_pin *pin;
    must(store_pin(ks->store, &pin), "pin");
    struct dbfile_pin_options options = {.store = ks->store, .lock = ks->lock, .pin = pin};
    int64_t compact;
    mvcc_revisions(ks->mvcc, &options.revision, &compact);
    struct dbfile_pin_source source;
    must(dbfile_pin_source_init(&source, &options), "source");
    struct dbfile_source records = dbfile_pin_source(&source);
    struct dbfile_writer *writer;
    struct sha256 *digest;
    must(dbfile_writer_new(&records, DBFILE_PAGE_BYTES, &writer), "writer");
    must(sha256_new(&digest), "digest");
    for (bool done = false; !done;)
        must(dbfile_writer_measure(writer, &done), "measure");
    struct slice bytes;
    enum status st;
    while ((st = dbfile_writer_next(writer, &bytes)) == ST_OK) {
        must(sha256_add(digest, bytes), "digest");
        if (fwrite(bytes.data, 1, bytes.len, file) != bytes.len)
            must(ST_IO, "write");
    }
    must(st == ST_NOT_FOUND ? ST_OK : st, "next");
    uint8_t sum[SHA256_BYTES];
    must(sha256_end(digest, sum), "digest");
    if (fwrite(sum, 1, sizeof(sum), file) != sizeof(sum) || fclose(file) != 0)
        must(ST_IO, "write");
    sha256_free(digest);
    dbfile_writer_free(writer);
    dbfile_pin_source_deinit(&source);
    store_unpin(ks->store, pin);
}

static void print_key_space(struct key_space *ks)
{
    int64_t current, compact;
    uint32_t hash;
    must(mvcc_hash_kv(ks->mvcc, 0, 0, &hash, &current, &compact), "hash");
    (void)printf("\"revision\":%" PRId64 ",\"compact_revision\":%" PRId64 ",\"hash_kv\":%" PRIu32,
                 current, compact, hash);
}

static void fill(const char *path, uint64_t count, uint64_t value_bytes)
{
    struct key_space ks;
    struct rng rng;
    rng_seed(&rng, 1);
    key_space_init(&ks, backend_mem(), STORE_NAME);
    key_space_open(&ks);
    write_small_buckets(&ks);
    uint8_t *value = calloc(1, value_bytes + sizeof(uint64_t));
    must(value == NULL ? ST_NO_MEMORY : ST_OK, "value");
    for (uint64_t i = 0; i < count; i++) {
        char key[32];
        int len = snprintf(key, sizeof(key), "/registry/%012" PRIu64, i);
        for (uint64_t at = 0; at < value_bytes; at += sizeof(uint64_t))
            put_le64(value + at, rng_next(&rng));
        must(mvcc_write_begin(ks.mvcc), "begin");
        must(mvcc_write_put(ks.mvcc, slice_make(key, (size_t)len), slice_make(value, value_bytes),
                            0, NULL, NULL),
             "put");
        (void)mvcc_write_end(ks.mvcc);
        key_space_end_entry(&ks);
        if (i % 1000 == 0)
            key_space_commit(&ks);
    }
    free(value);
    FILE *file = fopen(path, "wb");
    must(file == NULL ? ST_IO : ST_OK, path);
    write_file(&ks, file);
    (void)printf("{");
    print_key_space(&ks);
    (void)printf("}\n");
    key_space_close(&ks);
    backend_mem_clear();
}

static void make(const char *path, uint64_t seed)
{
    struct key_space ks;
    struct rng rng;
    rng_seed(&rng, seed);
    key_space_init(&ks, backend_mem(), STORE_NAME);
    key_space_open(&ks);
    write_small_buckets(&ks);
    for (uint32_t i = 0; i < WRITES; i++)
        write_transaction(&ks, &rng);
    must(mvcc_compact(ks.mvcc, WRITES / 3), "compact");
    key_space_end_entry(&ks);
    key_space_trim(&ks);
    FILE *file = fopen(path, "wb");
    must(file == NULL ? ST_IO : ST_OK, path);
    write_file(&ks, file);
    (void)printf("{");
    print_key_space(&ks);
    (void)printf(",\"index\":%" PRIu64 "}\n", ks.index);
    key_space_close(&ks);
    backend_mem_clear();
}

/* ---- read ---- */

/* etcdutl's hash of a snapshot, from the reader. */
static void print_status(struct disk_file *file, struct buf *why)
{
    struct dbfile_reader *reader;
    struct dbfile_item item;
    uint32_t hash = 0;
    uint64_t count = 0;
    enum status st = dbfile_reader_open(file, why, &reader);
    while (st == ST_OK && (st = dbfile_reader_next(reader, &item)) == ST_OK) {
        hash = crc32c(hash, item.key);
        if (item.kind == DBFILE_ITEM_RECORD) {
            hash = crc32c(hash, item.value);
            count++;
        }
    }
    if (st != ST_NOT_FOUND)
        (void)fprintf(stderr, "%.*s\n", (int)why->len, (const char *)why->data);
    must(st == ST_NOT_FOUND ? ST_OK : st, "read");
    struct dbfile_info info = dbfile_reader_info(reader);
    (void)printf("\"hash\":%" PRIu32 ",\"totalKey\":%" PRIu64 ",\"totalSize\":%" PRIu64
                 ",\"metas\":%" PRIu32,
                 hash, count, info.size_bytes, info.valid_metas_count);
    dbfile_reader_close(reader);
}

static void load(struct disk_file *file, struct buf *why)
{
    struct dbfile_load_options options = {
        .file = file,
        .backend = backend_mem(),
        .target = {.path = STORE_NAME, .life_id = KEY_SPACE_LIFE_ID, .create = true, .why = why}};
    struct dbfile_loader *loader;
    enum status st = dbfile_loader_open(&options, &loader);
    for (bool done = false; st == ST_OK && !done;)
        st = dbfile_loader_step(loader, &done);
    if (st != ST_OK)
        (void)fprintf(stderr, "%.*s\n", (int)why->len, (const char *)why->data);
    must(st, "load");
    struct dbfile_loaded loaded = dbfile_loader_result(loader);
    (void)printf(",\"index\":%" PRIu64 ",\"term\":%" PRIu64 ",\"conf_state_bytes\":%zu,",
                 loaded.mark.index, loaded.mark.term, loaded.mark.conf_state.len);
    dbfile_loader_close(loader);
}

static void read_all(const char *path)
{
    char copy[4096], said[256];
    (void)snprintf(copy, sizeof(copy), "%s", path);
    struct disk *disk;
    struct disk_file *file;
    struct buf why;
    buf_init(&why, 4096);
    must(disk_open_real(DISK_KIND_FDATASYNC, dirname(copy), &disk, said, sizeof(said)), said);
    must(disk_open(disk, path, DISK_READ_ONLY, &file), path);
    (void)printf("{");
    print_status(file, &why);
    enum status digest = dbfile_check_digest(file, &why);
    (void)printf(",\"digest\":\"%s\"", status_str(digest));
    load(file, &why);
    disk_close(file);
    disk_free(disk);
    buf_deinit(&why);
    struct key_space ks;
    key_space_init(&ks, backend_mem(), STORE_NAME);
    key_space_open(&ks);
    print_key_space(&ks);
    (void)printf("}\n");
    key_space_close(&ks);
    backend_mem_clear();
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "make") == 0)
        make(argv[2], strtoull(argv[3], NULL, 10));
    else if (argc == 3 && strcmp(argv[1], "read") == 0)
        read_all(argv[2]);
    else if (argc == 5 && strcmp(argv[1], "fill") == 0)
        fill(argv[2], strtoull(argv[3], NULL, 10), strtoull(argv[4], NULL, 10));
    else
        return 2;
    return 0;
}
