#include "server/run/thread_list.h"

#include <dirent.h>
#include <stdlib.h>
#include <unistd.h>

#define STAT_BYTES_MAX 1024U

struct thread_facts {
    char name[16]; /* the kernel keeps no more */
    char state;
    double cpu_s;
};

/* proc(5): "id (name) state ...", where the name may hold anything; the two times are the 14th and
 * the 15th field. */
static bool read_thread(const char *id, struct thread_facts *out)
{
    char path[64], text[STAT_BYTES_MAX];
    snprintf(path, sizeof(path), "/proc/self/task/%s/stat", id);
    FILE *file = fopen(path, "re");
    size_t len = file == NULL ? 0 : fread(text, 1, sizeof(text) - 1, file);
    if (file != NULL)
        fclose(file);
    text[len] = '\0';
    const char *begin = strchr(text, '('), *end = strrchr(text, ')');
    unsigned long long user, system;
    if (begin == NULL || end == NULL || end < begin ||
        sscanf(end + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &out->state, &user,
               &system) != 3)
        return false;
    snprintf(out->name, sizeof(out->name), "%.*s", (int)(end - begin - 1), begin + 1);
    out->cpu_s = (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
    return true;
}

/* Names are this program's and gRPC's; what would need escaping in JSON becomes '?'. */
static enum status put_thread(struct buf *out, struct thread_facts *facts, bool is_first)
{
    for (char *c = facts->name; *c != '\0'; c++) {
        if (*c < ' ' || *c > '~' || *c == '"' || *c == '\\')
            *c = '?';
    }
    return buf_printf(out, "%s{\"name\":\"%s\",\"state\":\"%c\",\"cpu_seconds\":%.2f}",
                      is_first ? "" : ",", facts->name, facts->state, facts->cpu_s);
}

enum status put_threads(struct buf *out)
{
    bool is_first = true;
    enum status st = buf_append(out, SLICE("\"threads\": ["));
    DIR *dir = opendir("/proc/self/task");
    for (struct dirent *entry; dir != NULL && st == ST_OK && (entry = readdir(dir)) != NULL;) {
        struct thread_facts facts;
        if (entry->d_name[0] == '.' || !read_thread(entry->d_name, &facts))
            continue; /* or it has ended meanwhile */
        st = put_thread(out, &facts, is_first);
        is_first = false;
    }
    if (dir != NULL)
        closedir(dir);
    return st == ST_OK ? buf_append(out, SLICE("],\n")) : st;
}
