/* cleat-bench backend: what the stores below the key space cost. */
#include "base/minmax.h"
#include "base/rng.h"
#include "bench/commands.h"
#include "bench/disk_loop.h"
#include "bench/flags.h"
#include "bench/hist.h"
#include "bench/report.h"
#include "storage/backend.h"
#include "storage/revision.h"

#include <limits.h>
#include <unistd.h>

#define BATCH 100U /* records in one apply, as the store's writer hands them over */

static const char help_text[] =
    "usage: cleat-bench backend --dir DIR [OPTIONS]\n\n"
    "Fills a new store in DIR with revisions as the server does (appended in order, one commit\n"
    "for many), reads them back, and deletes the older half as a compaction does. The store is\n"
    "removed at the end.\n";
static const char figures_text[] =
    "\nWhat the rows mean\n"
    "  append         one record into the open transaction; times are means over 100 records\n"
    "  commit of N    the end of a transaction: what makes it durable, in its own thread in the\n"
    "                 server, never on the way of a client's call\n"
    "  get            one record by its revision, at random, in a snapshot\n"
    "  scan           all records in order; times are means over 100 records\n"
    "  delete         one record, oldest first; times are means over 100 records\n"
    "What the figures mean\n"
    "  per_second, p50_us, p99_us, p999_us, max_us, mean_us, cpu_us_per_op\n"
    "                 of one record, or of one commit\n"
    "  syncs_per_op   flushes the store asked for\n"
    "  device_*       what the block device did, for everybody on it; of the commit row: the\n"
    "                 appends before it included\n"
    "  file_bytes_per_byte, written_bytes_per_byte\n"
    "                 size of the file, and bytes the device wrote, for each byte of key and\n"
    "                 value put in\n";

struct backend_options_bench {
    const char *dir, *json, *only;
    uint64_t records, per_commit, value_bytes, gets;
};

struct bench {
    const struct backend_options_bench *options;
    const struct backend_ops *ops;
    struct backend *backend;
    struct report *report;
    struct rng rng;
    uint8_t *value;
    char path[PATH_MAX];
};

static struct row *add_row(struct bench *b, const char *what, uint64_t count,
                           const struct hist *hist, uint64_t elapsed_ns, uint64_t cpu_ns)
{
    char name[96];
    snprintf(name, sizeof(name), "%s %s", b->ops->name, what);
    return report_timed_row(b->report, name, count, hist, elapsed_ns, cpu_ns);
}

/* One batch of appends or deletions of the revisions from first on. */
static enum status apply_batch(struct bench *b, enum backend_op_kind kind, uint64_t first,
                               uint64_t count)
{
    struct backend_op ops[BATCH];
    uint8_t keys[BATCH][TOMBSTONE_KEY_BYTES];
    for (uint64_t i = 0; i < count; i++) {
        struct revision revision = {.main = (int64_t)(first + i) + 2};
        size_t len = revision_key_encode(revision, false, keys[i]);
        ops[i] = (struct backend_op){.kind = kind,
                                     .bucket = BUCKET_KEY,
                                     .key = slice_make(keys[i], len),
                                     .value = slice_make(b->value, b->options->value_bytes)};
        if (kind == BACKEND_DELETE)
            ops[i].value = SLICE_EMPTY;
    }
    return b->ops->apply(b->backend, ops, count);
}

/* Times of one pass of batches and commits over records [0, end). */
struct pass {
    struct hist applies, commits;
    uint64_t apply_ns, commit_ns, apply_cpu_ns, commit_cpu_ns, commits_count;
};

static enum status run_pass(struct bench *b, enum backend_op_kind kind, uint64_t end,
                            struct pass *pass)
{
    enum status st = ST_OK;
    for (uint64_t at = 0; st == ST_OK && at < end;) {
        uint64_t stop = min_u64(end, at + b->options->per_commit);
        uint64_t cpu_ns = bench_cpu_ns(), start_ns = bench_now_ns();
        while (st == ST_OK && at < stop) {
            uint64_t count = min_u64(BATCH, stop - at), before_ns = bench_now_ns();
            st = apply_batch(b, kind, at, count);
            hist_add(&pass->applies, (bench_now_ns() - before_ns) / count);
            at += count;
        }
        uint64_t middle_ns = bench_now_ns(), middle_cpu_ns = bench_cpu_ns(), durable;
        struct store_mark mark = {.index = at + (kind == BACKEND_DELETE ? b->options->records : 0),
                                  .term = 1};
        if (st == ST_OK)
            st = b->ops->commit(b->backend, &mark, /* full= */ false, &durable);
        uint64_t end_ns = bench_now_ns();
        hist_add(&pass->commits, end_ns - middle_ns);
        pass->apply_ns += middle_ns - start_ns;
        pass->commit_ns += end_ns - middle_ns;
        pass->apply_cpu_ns += middle_cpu_ns - cpu_ns;
        pass->commit_cpu_ns += bench_cpu_ns() - middle_cpu_ns;
        pass->commits_count++;
    }
    return st;
}

static enum status bench_fill(struct bench *b)
{
    static struct pass pass;
    pass = (struct pass){0};
    struct meter_source source = disk_loop_meter(b->options->dir);
    struct meter before, after;
    struct backend_stat old, now;
    enum status st = b->ops->stat(b->backend, &old);
    if (st == ST_OK)
        st = meter_read(&source, &before);
    if (st == ST_OK)
        st = run_pass(b, BACKEND_APPEND, b->options->records, &pass);
    if (st == ST_OK)
        st = meter_read(&source, &after);
    if (st == ST_OK)
        st = b->ops->stat(b->backend, &now);
    if (st != ST_OK)
        return st;
    struct meter spent = meter_since(&before, &after);
    add_row(b, "append", b->options->records, &pass.applies, pass.apply_ns, pass.apply_cpu_ns);
    char name[64];
    snprintf(name, sizeof(name), "commit of %llu", (unsigned long long)b->options->per_commit);
    struct row *row =
        add_row(b, name, pass.commits_count, &pass.commits, pass.commit_ns, pass.commit_cpu_ns);
    row_figure(row, "syncs_per_op",
               (double)(now.syncs_count - old.syncs_count) / (double)pass.commits_count);
    row_costs(row, &spent);
    double logical =
        (double)b->options->records * (double)(REVISION_KEY_BYTES + b->options->value_bytes);
    row_figure(row, "file_bytes_per_byte", (double)now.size_bytes / logical);
    if (spent.device_write_bytes != METER_NONE)
        row_figure(row, "written_bytes_per_byte", (double)spent.device_write_bytes / logical);
    return ST_OK;
}

static enum status bench_get(struct bench *b)
{
    static struct hist hist;
    hist = (struct hist){0};
    struct backend_snapshot *snapshot = NULL;
    enum status st = b->ops->snapshot_open(b->backend, &snapshot);
    uint64_t cpu_ns = bench_cpu_ns(), start_ns = bench_now_ns(), now_ns = start_ns;
    for (uint64_t i = 0; st == ST_OK && i < b->options->gets; i++) {
        uint8_t key[TOMBSTONE_KEY_BYTES];
        struct revision revision = {.main = (int64_t)rng_below(&b->rng, b->options->records) + 2};
        size_t len = revision_key_encode(revision, false, key);
        struct slice value;
        st = b->ops->get(snapshot, BUCKET_KEY, slice_make(key, len), &value);
        uint64_t done_ns = bench_now_ns();
        hist_add(&hist, done_ns - now_ns);
        now_ns = done_ns;
    }
    b->ops->snapshot_close(snapshot);
    if (st == ST_OK)
        add_row(b, "get", hist.count, &hist, now_ns - start_ns, bench_cpu_ns() - cpu_ns);
    return st;
}

static enum status bench_scan(struct bench *b)
{
    static struct hist hist;
    hist = (struct hist){0};
    struct backend_snapshot *snapshot = NULL;
    struct backend_cursor *cursor = NULL;
    struct slice key, value;
    enum status st = b->ops->snapshot_open(b->backend, &snapshot);
    if (st == ST_OK)
        st = b->ops->cursor_open(snapshot, BUCKET_KEY, &cursor);
    uint64_t cpu_ns = bench_cpu_ns(), start_ns = bench_now_ns(), batch_ns = start_ns, count = 0;
    if (st == ST_OK)
        st = b->ops->cursor_seek(cursor, SLICE_EMPTY, &key, &value);
    while (st == ST_OK) {
        if (++count % BATCH == 0) {
            uint64_t now_ns = bench_now_ns();
            hist_add(&hist, (now_ns - batch_ns) / BATCH);
            batch_ns = now_ns;
        }
        st = b->ops->cursor_next(cursor, &key, &value);
    }
    if (st == ST_NOT_FOUND)
        st = ST_OK; /* the end */
    if (st == ST_OK)
        add_row(b, "scan", count, &hist, bench_now_ns() - start_ns, bench_cpu_ns() - cpu_ns);
    b->ops->cursor_close(cursor);
    b->ops->snapshot_close(snapshot);
    return st;
}

static enum status bench_delete(struct bench *b)
{
    static struct pass pass;
    pass = (struct pass){0};
    enum status st = run_pass(b, BACKEND_DELETE, b->options->records / 2, &pass);
    if (st == ST_OK)
        add_row(b, "delete", b->options->records / 2, &pass.applies, pass.apply_ns,
                pass.apply_cpu_ns);
    return st;
}

static enum status measure(struct bench *b)
{
    snprintf(b->path, sizeof(b->path), "%s/cleat-bench.%d%s", b->options->dir, (int)getpid(),
             b->ops->suffix);
    rng_seed(&b->rng, 1);
    for (uint64_t i = 0; i < b->options->value_bytes; i++)
        b->value[i] = (uint8_t)rng_below(&b->rng, 256);
    struct buf why;
    buf_init(&why, 4096);
    struct backend_options options = {
        .path = b->path, .life_id = 1, .map_bytes_max = 64ULL << 30, .create = true, .why = &why};
    enum status st = b->ops->open(&options, &b->backend);
    if (st == ST_OK)
        st = bench_fill(b);
    if (st == ST_OK)
        st = bench_get(b);
    if (st == ST_OK)
        st = bench_scan(b);
    if (st == ST_OK)
        st = bench_delete(b);
    if (st != ST_OK)
        fprintf(stderr, "%s in '%s': %s %.*s\n", b->ops->name, b->options->dir, status_str(st),
                (int)why.len, (const char *)why.data);
    if (b->backend != NULL)
        b->ops->close(b->backend);
    if (b->ops->remove(b->path) != ST_OK)
        fprintf(stderr, "cannot remove '%s'\n", b->path);
    buf_deinit(&why);
    return st;
}

static int measure_all(const struct backend_options_bench *options)
{
    static struct report report;
    snprintf(report.command, sizeof(report.command), "backend");
    snprintf(report.note, sizeof(report.note), "%s, %llu records of %llu B", options->dir,
             (unsigned long long)options->records, (unsigned long long)options->value_bytes);
    const struct backend_ops *const backends[] = {backend_lmdb(), backend_sqlite()};
    uint8_t *value = malloc(options->value_bytes + 1);
    bool ok = value != NULL, any = false;
    for (size_t i = 0; ok && i < sizeof(backends) / sizeof(backends[0]); i++) {
        if (options->only != NULL && strcmp(options->only, backends[i]->name) != 0)
            continue;
        struct bench b = {
            .options = options, .ops = backends[i], .report = &report, .value = value};
        any = true;
        ok = measure(&b) == ST_OK;
    }
    if (!any)
        fprintf(stderr, "there is no backend '%s'\n", options->only);
    free(value);
    ok = report_give(&report, ok ? options->json : NULL) == ST_OK && ok;
    return ok && any ? 0 : 1;
}

int command_backend(int argc, char **argv)
{
    struct backend_options_bench options = {
        .records = 100000, .per_commit = 1000, .value_bytes = 300, .gets = 100000};
    const struct flag flags[] = {
        {"dir", FLAG_TEXT, &options.dir, "DIR", "a directory on the disk"},
        {"backend", FLAG_TEXT, &options.only, "NAME", "this one only"},
        {"records", FLAG_NUMBER, &options.records, "N", "how many"},
        {"per-commit", FLAG_NUMBER, &options.per_commit, "N", "records in a transaction"},
        {"value-bytes", FLAG_NUMBER, &options.value_bytes, "N", "size of a record's value"},
        {"gets", FLAG_NUMBER, &options.gets, "N", "random reads"},
        {"json", FLAG_TEXT, &options.json, "FILE", "the figures, one JSON object a line"},
    };
    const struct flags_command command = {help_text, figures_text, flags,
                                          sizeof(flags) / sizeof(flags[0])};
    int ended;
    if (!flags_begin(&command, argc, argv, &ended))
        return ended;
    if (options.dir == NULL || options.records < 2 || options.per_commit == 0 ||
        options.value_bytes == 0 || options.value_bytes > BENCH_VALUE_BYTES_MAX)
        return flags_refuse(&command);
    return measure_all(&options);
}
