#include "server/metrics/process.h"

#include <dirent.h>
#include <inttypes.h>
#include <sys/resource.h>
#include <unistd.h>

struct process_facts {
    double cpu_s, start_s;
    uint64_t resident_bytes, virtual_bytes;
};

static bool read_file(const char *path, char *text, size_t size)
{
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    size_t n = fread(text, 1, size - 1, file);
    fclose(file);
    text[n] = '\0';
    return n > 0;
}

/* Seconds since 1970 at which the machine started, from /proc/stat. */
static double boot_s(void)
{
    FILE *file = fopen("/proc/stat", "re");
    if (file == NULL)
        return 0;
    char line[256];
    unsigned long long at = 0;
    while (at == 0 && fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, "btime ", 6) == 0)
            at = strtoull(line + 6, NULL, 10);
    }
    fclose(file);
    return (double)at;
}

/* proc(5): the fields after the name, which may hold anything, so count from the last ')'. */
static bool read_facts(struct process_facts *out)
{
    char text[1024];
    if (!read_file("/proc/self/stat", text, sizeof(text)))
        return false;
    const char *rest = strrchr(text, ')');
    unsigned long long user, system, start, bytes;
    long long pages;
    if (rest == NULL ||
        sscanf(rest + 1,
               " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d %*d %*d "
               "%llu %llu %lld",
               &user, &system, &start, &bytes, &pages) != 5)
        return false;
    double ticks = (double)sysconf(_SC_CLK_TCK);
    *out = (struct process_facts){
        .cpu_s = (double)(user + system) / ticks,
        .start_s = boot_s() + (double)start / ticks,
        .resident_bytes = (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE),
        .virtual_bytes = bytes,
    };
    return true;
}

static uint64_t count_files(void)
{
    DIR *dir = opendir("/proc/self/fd");
    if (dir == NULL)
        return 0;
    uint64_t count = 0;
    while (readdir(dir) != NULL)
        count++;
    closedir(dir);
    return count < 3 ? 0 : count - 3; /* ".", ".." and the directory itself */
}

static enum status line(struct buf *out, const char *name, const char *kind, const char *help,
                        double value)
{
    return buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n%s %.17g\n", name, help, name, kind, name,
                      value);
}

static enum status render_files(struct buf *out, double used, double limit)
{
    enum status st = line(out, "os_fd_limit", "gauge", "The file descriptor limit.", limit);
    if (st == ST_OK)
        st = line(out, "os_fd_used", "gauge", "The number of used file descriptors.", used);
    if (st == ST_OK)
        st = line(out, "process_max_fds", "gauge", "Maximum number of open file descriptors.",
                  limit);
    if (st == ST_OK)
        st = line(out, "process_open_fds", "gauge", "Number of open file descriptors.", used);
    return st;
}

/* None is the largest number, as Prometheus' own library says it. */
static double max_memory(void)
{
    struct rlimit limit = {.rlim_cur = RLIM_INFINITY};
    getrlimit(RLIMIT_AS, &limit);
    return limit.rlim_cur == RLIM_INFINITY ? (double)UINT64_MAX : (double)limit.rlim_cur;
}

enum status process_render(struct buf *out)
{
    struct rlimit limit = {0};
    getrlimit(RLIMIT_NOFILE, &limit);
    enum status st = render_files(out, (double)count_files(), (double)limit.rlim_cur);
    struct process_facts facts;
    if (st != ST_OK || !read_facts(&facts))
        return st;
    st = line(out, "process_cpu_seconds_total", "counter",
              "Total user and system CPU time spent in seconds.", facts.cpu_s);
    if (st == ST_OK)
        st = line(out, "process_resident_memory_bytes", "gauge", "Resident memory size in bytes.",
                  (double)facts.resident_bytes);
    if (st == ST_OK)
        st = line(out, "process_start_time_seconds", "gauge",
                  "Start time of the process since unix epoch in seconds.", facts.start_s);
    if (st == ST_OK)
        st = line(out, "process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.",
                  (double)facts.virtual_bytes);
    if (st == ST_OK)
        st = line(out, "process_virtual_memory_max_bytes", "gauge",
                  "Maximum amount of virtual memory available in bytes.", max_memory());
    return st;
}
