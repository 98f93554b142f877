#include "bench/meter.h"

#include <limits.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

/* The whole of a small file of /proc or /sys. */
static enum status read_text(const char *path, char *out, size_t out_bytes)
{
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        fprintf(stderr, "cannot read %s\n", path);
        return ST_NOT_FOUND;
    }
    size_t got = fread(out, 1, out_bytes - 1, file);
    out[got] = '\0';
    fclose(file);
    return ST_OK;
}

/* The number behind a line's name ("write_bytes: 12", "syncs 12"); METER_NONE without such a line.
 */
static uint64_t named_number(const char *text, const char *name)
{
    size_t len = strlen(name);
    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, name, len) == 0 && strchr(": \t", line[len]) != NULL)
            return strtoull(line + len + strspn(line + len, ": \t"), NULL, 10);
    }
    return METER_NONE;
}

static enum status read_process(uint64_t pid, struct meter *out)
{
    char path[64], text[4096];
    snprintf(path, sizeof(path), "/proc/%llu/stat", (unsigned long long)pid);
    enum status st = read_text(path, text, sizeof(text));
    if (st != ST_OK)
        return st;
    const char *after_name = strrchr(text, ')'); /* the name may hold spaces */
    unsigned long long user = 0, system = 0;
    if (after_name == NULL ||
        sscanf(after_name + 1, "%*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu %llu", &user,
               &system) != 2)
        return ST_NOT_FOUND;
    out->cpu_ns = (user + system) * (1000000000ULL / (uint64_t)sysconf(_SC_CLK_TCK));
    snprintf(path, sizeof(path), "/proc/%llu/io", (unsigned long long)pid);
    st = read_text(path, text, sizeof(text));
    if (st != ST_OK)
        return st;
    out->write_bytes = named_number(text, "write_bytes");
    snprintf(path, sizeof(path), "/proc/%llu/status", (unsigned long long)pid);
    st = read_text(path, text, sizeof(text));
    if (st != ST_OK)
        return st;
    uint64_t anon_kib = named_number(text, "RssAnon"), kib = named_number(text, "VmRSS");
    out->rss_anon_bytes = anon_kib == METER_NONE ? METER_NONE : anon_kib * 1024;
    out->rss_bytes = kib == METER_NONE ? METER_NONE : kib * 1024;
    return ST_OK;
}

/* The fields of Documentation/block/stat.rst: the fifth counts writes, the seventh sectors of 512
 * bytes, the sixteenth flushes. */
static enum status read_device(const char *device, struct meter *out)
{
    char path[PATH_MAX], text[1024];
    snprintf(path, sizeof(path), "%s%s/stat", device[0] == '/' ? "" : "/sys/block/", device);
    enum status st = read_text(path, text, sizeof(text));
    if (st != ST_OK)
        return st;
    const char *at = text;
    char *end = NULL;
    for (uint32_t field = 1; field <= 16; field++, at = end) {
        uint64_t number = strtoull(at, &end, 10);
        if (end == at)
            break;
        if (field == 5)
            out->device_writes = number;
        else if (field == 7)
            out->device_write_bytes = number * 512;
        else if (field == 16)
            out->device_flushes = number;
    }
    return ST_OK;
}

enum status meter_read(const struct meter_source *source, struct meter *out)
{
    memset(out, 0xff, sizeof(*out)); /* METER_NONE everywhere */
    enum status st = source->pid == 0 ? ST_OK : read_process(source->pid, out);
    if (st == ST_OK && source->device != NULL)
        st = read_device(source->device, out);
    char text[4096];
    if (st == ST_OK && source->syncs_file != NULL &&
        (st = read_text(source->syncs_file, text, sizeof(text))) == ST_OK) {
        out->syncs = named_number(text, "syncs");
        out->sync_disk_bytes = named_number(text, "write_bytes");
    }
    if (st == ST_OK && source->journal != NULL &&
        (st = read_text(source->journal, text, sizeof(text))) == ST_OK)
        out->journal_commits = strtoull(text, NULL, 10); /* "12 transactions (9 requested), ..." */
    return st;
}

static uint64_t difference(uint64_t before, uint64_t after)
{
    return before == METER_NONE || after == METER_NONE ? METER_NONE : after - before;
}

struct meter meter_since(const struct meter *before, const struct meter *after)
{
    return (struct meter){
        .cpu_ns = difference(before->cpu_ns, after->cpu_ns),
        .write_bytes = difference(before->write_bytes, after->write_bytes),
        .rss_anon_bytes = after->rss_anon_bytes,
        .rss_bytes = after->rss_bytes,
        .device_writes = difference(before->device_writes, after->device_writes),
        .device_flushes = difference(before->device_flushes, after->device_flushes),
        .device_write_bytes = difference(before->device_write_bytes, after->device_write_bytes),
        .syncs = difference(before->syncs, after->syncs),
        .sync_disk_bytes = difference(before->sync_disk_bytes, after->sync_disk_bytes),
        .journal_commits = difference(before->journal_commits, after->journal_commits),
    };
}

static uint64_t sum_of(uint64_t a, uint64_t b)
{
    return a == METER_NONE || b == METER_NONE ? METER_NONE : a + b;
}

void meter_add(struct meter *sum, const struct meter *stretch)
{
    *sum = (struct meter){
        .cpu_ns = sum_of(sum->cpu_ns, stretch->cpu_ns),
        .write_bytes = sum_of(sum->write_bytes, stretch->write_bytes),
        .rss_anon_bytes = stretch->rss_anon_bytes,
        .rss_bytes = stretch->rss_bytes,
        .device_writes = sum_of(sum->device_writes, stretch->device_writes),
        .device_flushes = sum_of(sum->device_flushes, stretch->device_flushes),
        .device_write_bytes = sum_of(sum->device_write_bytes, stretch->device_write_bytes),
        .syncs = sum_of(sum->syncs, stretch->syncs),
        .sync_disk_bytes = sum_of(sum->sync_disk_bytes, stretch->sync_disk_bytes),
        .journal_commits = sum_of(sum->journal_commits, stretch->journal_commits),
    };
}

uint64_t bench_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
}

uint64_t bench_cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
}

void meter_find_device(const char *dir, char device[static 128], char journal[static 128])
{
    device[0] = journal[0] = '\0';
    struct stat at;
    if (stat(dir, &at) != 0)
        return;
    char link[64], real[PATH_MAX];
    snprintf(link, sizeof(link), "/sys/dev/block/%u:%u", major(at.st_dev), minor(at.st_dev));
    if (realpath(link, real) == NULL)
        return;
    const char *name = strrchr(real, '/') + 1; /* the device, or its partition */
    char path[PATH_MAX + 8];
    snprintf(path, sizeof(path), "%s/stat", real);
    if (access(path, R_OK) == 0 && strlen(real) < 128)
        snprintf(device, 128, "%.127s", real);
    snprintf(path, sizeof(path), "/proc/fs/jbd2/%.32s-8/info", name);
    if (access(path, R_OK) == 0)
        snprintf(journal, 128, "%.127s", path);
}
