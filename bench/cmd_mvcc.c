/* cleat-bench mvcc: what the key space costs above a store: puts, reads, compaction, restart. */
#include "base/arena.h"
#include "base/clock.h"
#include "base/lock.h"
#include "base/rng.h"
#include "bench/commands.h"
#include "bench/disk_loop.h"
#include "bench/flags.h"
#include "bench/hist.h"
#include "bench/report.h"
#include "storage/backend.h"
#include "storage/mvcc.h"
#include "storage/store.h"

#include <limits.h>
#include <unistd.h>

#define RANGE_KEYS 100 /* in one range */
#define ARENA_BYTES (1U << 20)

static const char help_text[] =
    "usage: cleat-bench mvcc --dir DIR [OPTIONS]\n\n"
    "Puts into a new key space over a store in DIR, as the server's apply thread does (without\n"
    "log and network), reads it, compacts it, and opens it again. Files are removed at the end.\n";
static const char figures_text[] =
    "\nWhat the rows mean\n"
    "  put              one transaction with one put of one of --keys keys of 45 bytes\n"
    "  commit           what the backend writer does now and then beside it, in its own thread\n"
    "                   in the server; here between two puts and not in their times\n"
    "  get, range       a read of one key, or of up to 100 neighbouring ones\n"
    "  compact          dropping everything superseded; times are of one bounded step, between\n"
    "                   which the server applies other entries\n"
    "  restart, ...     opening store and index again: with the index checkpoint of a clean stop,\n"
    "                   and by a scan of every revision; one figure each\n"
    "What the figures mean\n"
    "  per_second, p50_us, p99_us, p999_us, max_us, mean_us, cpu_us_per_op\n"
    "                   of one operation\n"
    "  index_bytes_per_key  memory of the index for each live key, the key itself included\n"
    "  file_bytes_per_put   size of the store's file for each put\n"
    "  superseded           revisions that the compaction dropped\n"
    "  rss_anon_mb          memory of this program after the puts\n";

struct mvcc_bench {
    const char *dir, *json, *backend_name;
    uint64_t keys, puts, value_bytes, reads, seed;
    const struct backend_ops *backend;
    struct lock *lock;
    struct store *store;
    struct mvcc *mvcc;
    struct rng rng;
    struct arena arena;
    uint8_t *value;
    uint64_t index; /* of the last entry */
    bool writer_woken;
    struct hist commits;
    uint64_t commit_ns, commit_cpu_ns;
    char path[PATH_MAX], checkpoint_path[PATH_MAX];
    struct report report;
};

static uint64_t monotonic_ns(void *context)
{
    (void)context;
    return bench_now_ns();
}

static const struct clock real_clock = {.monotonic_ns = monotonic_ns, .wall_ns = monotonic_ns};

static void wake_writer(void *context)
{
    struct mvcc_bench *b = context;
    b->writer_woken = true;
}

static size_t make_key(uint64_t number, char key[static 64])
{
    return (size_t)snprintf(key, 64, "/registry/pods/namespace-%03llu/pod-%012llu",
                            (unsigned long long)(number % 1000), (unsigned long long)number);
}

static enum status open_all(struct mvcc_bench *b)
{
    struct store_options store = {
        .backend = b->backend,
        .backend_options = {.path = b->path,
                            .life_id = 1,
                            .map_bytes_max = 64ULL << 30,
                            .create = true},
        .lock = b->lock,
        .clock = &real_clock,
        .readers_count = 1,
        .wake_writer = wake_writer,
        .wake_context = b,
    };
    enum status st = store_open(&store, &b->store);
    if (st != ST_OK)
        return st;
    struct mvcc_options mvcc = {.store = b->store,
                                .lock = b->lock,
                                .checkpoint_path = b->checkpoint_path,
                                .life_id = 1,
                                .readers_count = 1};
    return mvcc_open(&mvcc, &b->mvcc);
}

static void close_all(struct mvcc_bench *b)
{
    mvcc_close(b->mvcc);
    b->mvcc = NULL;
    store_close(b->store);
    b->store = NULL;
}

/* ---- puts ---- */

static enum status put_one(struct mvcc_bench *b)
{
    char key[64];
    size_t key_len = make_key(rng_below(&b->rng, b->keys), key);
    memcpy(b->value, &b->index, sizeof(b->index));
    arena_reset(&b->arena);
    enum status st = mvcc_write_begin(b->mvcc);
    if (st != ST_OK)
        return st;
    st = mvcc_write_put(b->mvcc, slice_make(key, key_len), slice_make(b->value, b->value_bytes),
                        /* lease= */ 0, &b->arena, NULL);
    mvcc_write_end(b->mvcc);
    return st;
}

static enum status end_entry(struct mvcc_bench *b)
{
    struct store_mark mark = {.index = ++b->index, .term = 1};
    enum status st = store_end_entry(b->store, &mark);
    if (st == ST_OK)
        store_set_durable(b->store, mark.index, mark.term); /* as if the log were */
    return st == ST_OK ? store_seal(b->store, /* force= */ false) : st;
}

/* The backend writer's turn, when it was woken. */
static enum status run_writer(struct mvcc_bench *b)
{
    if (!b->writer_woken)
        return ST_OK;
    b->writer_woken = false;
    uint64_t cpu_ns = bench_cpu_ns(), start_ns = bench_now_ns();
    bool worked = false;
    enum status st = store_writer_step(b->store, &worked);
    if (worked) {
        uint64_t elapsed_ns = bench_now_ns() - start_ns;
        hist_add(&b->commits, elapsed_ns);
        b->commit_ns += elapsed_ns;
        b->commit_cpu_ns += bench_cpu_ns() - cpu_ns;
    }
    return st;
}

/* Everything applied is in the store on disk, as after a clean stop. */
static enum status commit_all(struct mvcc_bench *b)
{
    struct store_stat stat = {0};
    enum status st = ST_OK;
    while (st == ST_OK && stat.committed_index < b->index) {
        bool worked;
        st = store_seal(b->store, /* force= */ true);
        if (st == ST_OK)
            st = store_writer_step(b->store, &worked);
        if (st == ST_OK)
            st = store_get_stat(b->store, &stat);
    }
    return st == ST_OK ? store_writer_flush(b->store) : st;
}

static enum status bench_put(struct mvcc_bench *b)
{
    static struct hist hist;
    enum status st = ST_OK;
    uint64_t cpu_ns = bench_cpu_ns(), start_ns = bench_now_ns();
    for (uint64_t i = 0; st == ST_OK && i < b->puts; i++) {
        uint64_t before_ns = bench_now_ns();
        st = put_one(b);
        if (st == ST_OK)
            st = end_entry(b);
        hist_add(&hist, bench_now_ns() - before_ns);
        if (st == ST_OK)
            st = run_writer(b);
    }
    cpu_ns = bench_cpu_ns() - cpu_ns - b->commit_cpu_ns;
    uint64_t elapsed_ns = bench_now_ns() - start_ns - b->commit_ns;
    if (st == ST_OK)
        st = commit_all(b);
    struct store_stat stat;
    if (st == ST_OK)
        st = store_get_stat(b->store, &stat);
    if (st != ST_OK)
        return st;
    struct row *row = report_timed_row(&b->report, "put", hist.count, &hist, elapsed_ns, cpu_ns);
    struct mvcc_stat index;
    mvcc_get_stat(b->mvcc, &index);
    row_figure(row, "index_bytes_per_key", (double)index.index_bytes / (double)index.keys_count);
    row_figure(row, "file_bytes_per_put", (double)stat.backend.size_bytes / (double)b->puts);
    struct meter_source source = {.pid = (uint64_t)getpid()};
    struct meter now;
    if (meter_read(&source, &now) == ST_OK && now.rss_anon_bytes != METER_NONE)
        row_figure(row, "rss_anon_mb", (double)now.rss_anon_bytes / 1e6);
    report_timed_row(&b->report, "commit, beside", b->commits.count, &b->commits, b->commit_ns,
                     b->commit_cpu_ns);
    return ST_OK;
}

/* ---- reads ---- */

static enum status count_record(void *context, struct slice record)
{
    *(uint64_t *)context += record.len;
    return ST_OK;
}

static enum status bench_read(struct mvcc_bench *b, const char *name, int64_t limit)
{
    static struct hist hist;
    hist = (struct hist){0};
    enum status st = ST_OK;
    uint64_t bytes = 0, cpu_ns = bench_cpu_ns(), start_ns = bench_now_ns(), now_ns = start_ns;
    for (uint64_t i = 0; st == ST_OK && i < b->reads / (uint64_t)limit; i++) {
        /* Keys a thousand numbers apart are neighbours in one namespace. */
        uint64_t number = rng_below(&b->rng, b->keys);
        char key[64], end[64];
        size_t key_len = make_key(number, key);
        size_t end_len = make_key(number + 1000 * (uint64_t)limit, end);
        struct mvcc_query query = {
            .range = {.key = slice_make(key, key_len),
                      .end = limit == 1 ? SLICE_EMPTY : slice_make(end, end_len)},
            .limit = limit};
        struct mvcc_result result;
        st = mvcc_read(b->mvcc, 0, &query, count_record, &bytes, &result);
        uint64_t done_ns = bench_now_ns();
        hist_add(&hist, done_ns - now_ns);
        now_ns = done_ns;
    }
    if (st == ST_OK)
        report_timed_row(&b->report, name, hist.count, &hist, now_ns - start_ns,
                         bench_cpu_ns() - cpu_ns);
    return st;
}

/* ---- compaction, restart ---- */

static enum status bench_compact(struct mvcc_bench *b)
{
    static struct hist hist;
    struct mvcc_stat before;
    mvcc_get_stat(b->mvcc, &before);
    enum status st = mvcc_compact(b->mvcc, before.current_revision);
    uint64_t cpu_ns = bench_cpu_ns(), start_ns = bench_now_ns();
    for (bool more = true; st == ST_OK && more;) {
        uint64_t before_ns = bench_now_ns();
        st = mvcc_compact_step(b->mvcc, &more);
        hist_add(&hist, bench_now_ns() - before_ns);
    }
    uint64_t elapsed_ns = bench_now_ns() - start_ns;
    cpu_ns = bench_cpu_ns() - cpu_ns;
    if (st == ST_OK)
        st = end_entry(b);
    if (st == ST_OK)
        st = commit_all(b);
    if (st == ST_OK)
        row_figure(
            report_timed_row(&b->report, "compact, a step", hist.count, &hist, elapsed_ns, cpu_ns),
            "superseded", (double)before.superseded_count);
    return st;
}

static enum status bench_restart(struct mvcc_bench *b, const char *name)
{
    static struct hist hist;
    hist = (struct hist){0};
    close_all(b);
    uint64_t cpu_ns = bench_cpu_ns(), start_ns = bench_now_ns();
    enum status st = open_all(b);
    uint64_t elapsed_ns = bench_now_ns() - start_ns;
    hist_add(&hist, elapsed_ns);
    if (st == ST_OK)
        report_timed_row(&b->report, name, hist.count, &hist, elapsed_ns, bench_cpu_ns() - cpu_ns);
    return st;
}

static enum status run_all(struct mvcc_bench *b)
{
    enum status st = open_all(b);
    if (st == ST_OK)
        st = bench_put(b);
    if (st == ST_OK)
        st = bench_read(b, "get", 1);
    if (st == ST_OK)
        st = bench_read(b, "range of 100", RANGE_KEYS);
    if (st == ST_OK)
        st = mvcc_checkpoint(b->mvcc);
    if (st == ST_OK)
        st = bench_restart(b, "restart, with checkpoint");
    unlink(b->checkpoint_path);
    if (st == ST_OK)
        st = bench_restart(b, "restart, by scan");
    if (st == ST_OK)
        st = bench_compact(b);
    return st;
}

static int measure(struct mvcc_bench *b)
{
    snprintf(b->report.command, sizeof(b->report.command), "mvcc");
    snprintf(b->report.note, sizeof(b->report.note), "%s, %llu puts of %llu B over %llu keys",
             b->backend->name, (unsigned long long)b->puts, (unsigned long long)b->value_bytes,
             (unsigned long long)b->keys);
    snprintf(b->path, sizeof(b->path), "%s/cleat-bench.%d%s", b->dir, (int)getpid(),
             b->backend->suffix);
    snprintf(b->checkpoint_path, sizeof(b->checkpoint_path), "%s/cleat-bench.%d.ckpt", b->dir,
             (int)getpid());
    rng_seed(&b->rng, b->seed);
    arena_init(&b->arena, ARENA_BYTES);
    b->value = malloc(b->value_bytes + sizeof(b->index));
    enum status st = b->value == NULL ? ST_NO_MEMORY : lock_new(/* threaded= */ true, &b->lock);
    if (st == ST_OK) {
        memset(b->value, 'v', b->value_bytes);
        st = run_all(b);
    }
    close_all(b);
    lock_free(b->lock);
    arena_deinit(&b->arena);
    free(b->value);
    unlink(b->checkpoint_path);
    if (b->backend->remove(b->path) != ST_OK)
        fprintf(stderr, "cannot remove '%s'\n", b->path);
    if (st != ST_OK)
        fprintf(stderr, "cleat-bench mvcc: %s\n", status_str(st));
    enum status given = report_give(&b->report, st == ST_OK ? b->json : NULL);
    return st == ST_OK && given == ST_OK ? 0 : 1;
}

int command_mvcc(int argc, char **argv)
{
    static struct mvcc_bench b = {.backend_name = "lmdb",
                                  .keys = 150000,
                                  .puts = 300000,
                                  .value_bytes = 256,
                                  .reads = 100000,
                                  .seed = 1};
    const struct flag flags[] = {
        {"dir", FLAG_TEXT, &b.dir, "DIR", "a directory on the disk"},
        {"backend", FLAG_TEXT, &b.backend_name, "NAME", "lmdb or sqlite"},
        {"keys", FLAG_NUMBER, &b.keys, "N", "how many different keys"},
        {"puts", FLAG_NUMBER, &b.puts, "N", "how many"},
        {"value-bytes", FLAG_NUMBER, &b.value_bytes, "N", "size of a value"},
        {"reads", FLAG_NUMBER, &b.reads, "N", "keys read, one by one and in ranges"},
        {"seed", FLAG_NUMBER, &b.seed, "N", "of the keys' order"},
        {"json", FLAG_TEXT, &b.json, "FILE", "the figures, one JSON object a line"},
    };
    const struct flags_command command = {help_text, figures_text, flags,
                                          sizeof(flags) / sizeof(flags[0])};
    int ended;
    if (!flags_begin(&command, argc, argv, &ended))
        return ended;
    if (b.dir == NULL || b.keys == 0 || b.puts == 0 || b.value_bytes < sizeof(b.index) ||
        b.value_bytes > BENCH_VALUE_BYTES_MAX)
        return flags_refuse(&command);
    const struct backend_ops *const backends[] = {backend_lmdb(), backend_sqlite()};
    for (size_t i = 0; i < sizeof(backends) / sizeof(backends[0]); i++)
        if (strcmp(b.backend_name, backends[i]->name) == 0)
            b.backend = backends[i];
    if (b.backend == NULL) {
        fprintf(stderr, "there is no backend '%s'\n", b.backend_name);
        return 2;
    }
    return measure(&b);
}
