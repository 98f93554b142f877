/* cleat-bench wal: our log, one batch at a time, beside the barest durable write there is. */
#include "base/clock.h"
#include "base/disk.h"
#include "base/rng.h"
#include "bench/commands.h"
#include "bench/disk_loop.h"
#include "bench/flags.h"
#include "bench/report.h"
#include "raft/types.h"
#include "wal/disks.h"
#include "wal/wal.h"

#include <dirent.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#define SLICE_NS (NS_PER_S / 4)
#define RELEASE_ENTRIES 4096U /* the store's mark follows in steps of this many entries */

static const char help_text[] =
    "usage: cleat-bench wal --dir DIR [OPTIONS]\n\n"
    "Appends entries to cleat's own log in DIR, each made durable before the next, and measures\n"
    "a loop of bare pwritev2(O_DIRECT, RWF_DSYNC) on a written file in turns with it: the log can\n"
    "at best be as fast. The log is removed at the end.\n";
static const char figures_text[] =
    "\nWhat the rows mean\n"
    "  bare pwritev2            the device's limit: 4 KiB at a time into written blocks\n"
    "  log                      one entry a batch, a batch padded to 4 KiB, by the disk named\n"
    "What the figures mean\n"
    "  per_second, p50_us, p99_us, p999_us, max_us, mean_us, cpu_us_per_op\n"
    "                           of one durable batch\n"
    "  ratio_to_bare            the log's rate divided by the bare loop's\n"
    "  device_writes, _flushes, _bytes_per_op\n"
    "                           what the block device did for a batch, for everybody on it; one\n"
    "                           write and one flush is the least (a flush can show as a write)\n"
    "  journal_commits_per_op   commits of the file system's journal: the log should cause none\n"
    "  prepared_bytes_per_op    zeros written ahead into the next segments, at a limited rate\n"
    "                           and not waited for; part of the device's bytes\n";

static uint64_t monotonic_ns(void *context)
{
    (void)context;
    return bench_now_ns();
}

static const struct clock real_clock = {.monotonic_ns = monotonic_ns, .wall_ns = monotonic_ns};

struct wal_bench {
    const char *dir, *json, *disk_name;
    uint64_t seconds, entry_bytes;
    char path[PATH_MAX];
    struct rng rng;
    struct disk *disk;
    struct wal *wal;
    int event_fd;
    /* The preparer's thread: sleeps until its time or until it is woken. */
    pthread_t preparer;
    bool has_preparer;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool woken, stopping; /* under mutex */
};

/* ---- the preparer's thread ---- */

static void wake_preparer(void *context)
{
    struct wal_bench *b = context;
    pthread_mutex_lock(&b->mutex);
    b->woken = true;
    pthread_cond_signal(&b->changed);
    pthread_mutex_unlock(&b->mutex);
}

static void wake_owner(void *context)
{
    struct wal_bench *b = context;
    eventfd_write(b->event_fd, 1);
}

static void *prepare(void *context)
{
    struct wal_bench *b = context;
    pthread_mutex_lock(&b->mutex);
    while (!b->stopping) {
        b->woken = false;
        pthread_mutex_unlock(&b->mutex);
        uint64_t next_ns = wal_preparer_step(b->wal, bench_now_ns());
        pthread_mutex_lock(&b->mutex);
        while (!b->woken && !b->stopping && bench_now_ns() < next_ns) {
            struct timespec until = {.tv_sec = (time_t)(next_ns / NS_PER_S),
                                     .tv_nsec = (long)(next_ns % NS_PER_S)};
            if (next_ns == UINT64_MAX)
                pthread_cond_wait(&b->changed, &b->mutex);
            else
                pthread_cond_timedwait(&b->changed, &b->mutex, &until);
        }
    }
    pthread_mutex_unlock(&b->mutex);
    return NULL;
}

static void stop_preparer(struct wal_bench *b)
{
    if (!b->has_preparer)
        return;
    pthread_mutex_lock(&b->mutex);
    b->stopping = true;
    pthread_cond_signal(&b->changed);
    pthread_mutex_unlock(&b->mutex);
    pthread_join(b->preparer, NULL);
    b->has_preparer = false;
}

/* ---- the log ---- */

static enum status disk_kind_of(const char *name, enum disk_kind *out)
{
    static const struct {
        const char *name;
        enum disk_kind kind;
    } kinds[] = {{"auto", DISK_KIND_AUTO},
                 {"io_uring", DISK_KIND_URING},
                 {"pwritev2", DISK_KIND_PWRITEV2},
                 {"fdatasync", DISK_KIND_FDATASYNC}};
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (strcmp(kinds[i].name, name) == 0) {
            *out = kinds[i].kind;
            return ST_OK;
        }
    fprintf(stderr, "--disk is auto, io_uring, pwritev2 or fdatasync\n");
    return ST_INVALID;
}

static enum status open_log(struct wal_bench *b)
{
    snprintf(b->path, sizeof(b->path), "%s/cleat-bench.%d", b->dir, (int)getpid());
    if (mkdir(b->path, 0700) != 0) {
        fprintf(stderr, "cannot create '%s'\n", b->path);
        return ST_INVALID;
    }
    enum disk_kind kind;
    char why[512] = "";
    enum status st = disk_kind_of(b->disk_name, &kind);
    if (st == ST_OK)
        st = disk_open_real(kind, b->path, &b->disk, why, sizeof(why));
    if (st != ST_OK) {
        fprintf(stderr, "%s\n", why);
        return st;
    }
    b->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    st = disk_set_event_fd(b->disk, b->event_fd);
    struct wal_options options = {.disk = b->disk,
                                  .clock = &real_clock,
                                  .rng = &b->rng,
                                  .dir = b->path,
                                  .life_id = 1,
                                  .create = true};
    struct wal_recovered recovered;
    static struct wal_report report;
    if (st == ST_OK)
        st = wal_open(&options, &b->wal, &recovered, &report);
    if (st != ST_OK) {
        fprintf(stderr, "cannot open the log: %s %s\n", status_str(st), report.text);
        return st;
    }
    wal_set_preparer_wake(b->wal, wake_preparer, b);
    wal_set_owner_wake(b->wal, wake_owner, b);
    b->has_preparer = pthread_create(&b->preparer, NULL, prepare, b) == 0;
    return b->has_preparer ? ST_OK : ST_NO_MEMORY;
}

static void remove_log(struct wal_bench *b)
{
    DIR *dir = opendir(b->path);
    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;)
        unlinkat(dirfd(dir), entry->d_name, 0);
    if (dir != NULL)
        closedir(dir);
    rmdir(b->path);
}

static void close_log(struct wal_bench *b)
{
    stop_preparer(b);
    wal_close(b->wal);
    disk_free(b->disk);
    if (b->event_fd > 0)
        close(b->event_fd);
    if (b->path[0] != '\0')
        remove_log(b);
}

/* Until ticket is durable, asleep on the eventfd like the server's consensus thread. */
static enum status wait_durable(struct wal_bench *b, uint64_t ticket)
{
    for (;;) {
        uint64_t durable = 0;
        enum status st = wal_poll(b->wal, &durable);
        if (st != ST_OK && st != ST_NO_SPACE)
            return st;
        if (durable >= ticket)
            return ST_OK;
        struct pollfd wait = {.fd = b->event_fd, .events = POLLIN};
        eventfd_t count;
        if (poll(&wait, 1, 10000) == 0) {
            fprintf(stderr, "nothing became durable for 10 s\n");
            return ST_IO;
        }
        eventfd_read(b->event_fd, &count);
    }
}

static enum status append_one(struct wal_bench *b, raft_index index, struct raft_payload *payload)
{
    struct raft_entry entry = {
        .term = 1, .index = index, .type = RAFT_ENTRY_NORMAL, .payload = payload};
    struct raft_hard_state hard_state = {.term = 1, .vote = 1, .commit = index - 1};
    struct wal_append append = {.entries = &entry, .entries_count = 1, .hard_state = &hard_state};
    uint64_t ticket = 0;
    enum status st = wal_append(b->wal, &append, &ticket);
    return st == ST_OK ? wait_durable(b, ticket) : st;
}

/* What the log did in all its slices. */
struct log_result {
    struct hist hist;
    uint64_t elapsed_ns, prepared_bytes, log_bytes;
    struct meter spent;
    raft_index next_index;
};

static enum status write_log(struct wal_bench *b, struct raft_payload *payload,
                             struct log_result *result)
{
    uint64_t start_ns = bench_now_ns(), now_ns = start_ns;
    while (now_ns - start_ns < SLICE_NS) {
        enum status st = append_one(b, result->next_index, payload);
        if (st != ST_OK)
            return st;
        if (result->next_index % RELEASE_ENTRIES == 0)
            wal_release(b->wal, result->next_index);
        result->next_index++;
        uint64_t done_ns = bench_now_ns();
        hist_add(&result->hist, done_ns - now_ns);
        now_ns = done_ns;
    }
    result->elapsed_ns += now_ns - start_ns;
    return ST_OK;
}

static enum status run_slice(struct wal_bench *b, struct raft_payload *payload,
                             struct log_result *result)
{
    struct meter_source source = disk_loop_meter(b->dir);
    struct meter before, after;
    struct wal_stat old, now;
    enum status st = meter_read(&source, &before);
    if (st != ST_OK)
        return st;
    wal_get_stat(b->wal, &old);
    uint64_t cpu_ns = bench_cpu_ns();
    st = write_log(b, payload, result);
    cpu_ns = bench_cpu_ns() - cpu_ns;
    wal_get_stat(b->wal, &now);
    if (st == ST_OK)
        st = meter_read(&source, &after);
    if (st != ST_OK)
        return st;
    struct meter spent = meter_since(&before, &after);
    spent.cpu_ns = cpu_ns;
    meter_add(&result->spent, &spent);
    result->prepared_bytes += now.prepared_bytes - old.prepared_bytes;
    result->log_bytes += now.bytes - old.bytes;
    return ST_OK;
}

/* Bare loop and log take turns, so that what else the machine does meets both alike. */
static enum status run_both(struct wal_bench *b, struct disk_loop *bare, struct log_result *result)
{
    struct raft_payload *payload = raft_payload_new(b->entry_bytes);
    if (payload == NULL)
        return ST_NO_MEMORY;
    memset(payload->data, 'c', payload->len);
    enum status st = append_one(b, 1, payload); /* the first commit opens the segment */
    result->next_index = 2;
    for (uint64_t ns = 0; st == ST_OK && ns < b->seconds * NS_PER_S; ns += SLICE_NS) {
        st = disk_loop_run(bare, SLICE_NS);
        if (st == ST_OK)
            st = run_slice(b, payload, result);
    }
    raft_payload_unref(payload);
    return st;
}

static void make_report(const struct wal_bench *b, struct report *report,
                        const struct disk_loop *bare, const struct log_result *result)
{
    snprintf(report->command, sizeof(report->command), "wal");
    snprintf(report->note, sizeof(report->note), "%s", b->dir);
    struct row *bare_row = disk_loop_row(report, "bare pwritev2", bare);
    char name[96];
    snprintf(name, sizeof(name), "log by %s", disk_name(b->disk));
    struct row *row = report_row(report, name);
    row->count = result->hist.count;
    row_latency(row, &result->hist, result->elapsed_ns);
    row_costs(row, &result->spent);
    row_figure(row, "log_bytes_per_op", (double)result->log_bytes / (double)row->count);
    row_figure(row, "prepared_bytes_per_op", (double)result->prepared_bytes / (double)row->count);
    row_figure(row, "ratio_to_bare", row_get(row, "per_second") / row_get(bare_row, "per_second"));
}

static int measure(struct wal_bench *b)
{
    static struct report report;
    static struct log_result result;
    static struct disk_loop bare;
    bare = (struct disk_loop){
        .dir = b->dir, .file = FILE_WRITTEN, .sync = SYNC_PWRITEV2, .write_bytes = 4096};
    enum status st = disk_loop_open(&bare);
    if (st == ST_OK)
        st = open_log(b);
    if (st == ST_OK)
        st = run_both(b, &bare, &result);
    if (st == ST_OK)
        make_report(b, &report, &bare, &result);
    close_log(b);
    disk_loop_close(&bare);
    if (st != ST_OK) {
        fprintf(stderr, "cleat-bench wal: %s\n", status_str(st));
        return 1;
    }
    return report_give(&report, b->json) == ST_OK ? 0 : 1;
}

int command_wal(int argc, char **argv)
{
    static struct wal_bench b = {.disk_name = "auto", .seconds = 3, .entry_bytes = 3000};
    const struct flag flags[] = {
        {"dir", FLAG_TEXT, &b.dir, "DIR", "a directory on the disk"},
        {"seconds", FLAG_NUMBER, &b.seconds, "N", "for each row"},
        {"entry-bytes", FLAG_NUMBER, &b.entry_bytes, "N", "of one entry, one to a batch"},
        {"disk", FLAG_TEXT, &b.disk_name, "KIND", "auto, io_uring, pwritev2 or fdatasync"},
        {"json", FLAG_TEXT, &b.json, "FILE", "the figures, one JSON object a line"},
    };
    const struct flags_command command = {help_text, figures_text, flags,
                                          sizeof(flags) / sizeof(flags[0])};
    int ended;
    if (!flags_begin(&command, argc, argv, &ended))
        return ended;
    if (b.dir == NULL || b.seconds == 0 || b.entry_bytes > 64U << 20)
        return flags_refuse(&command);
    rng_seed(&b.rng, 1);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&b.changed, &monotonic);
    pthread_mutex_init(&b.mutex, NULL);
    return measure(&b);
}
