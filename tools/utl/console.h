/* tools/utl/console.h - a log line as etcdutl writes it to stderr:
 *   2024-07-19T10:00:00Z<tab>info<tab>caller<tab>message<tab>{"path": "a.db", "revision": 8}
 *
 *     struct console line;
 *     console_begin(&line, "info", "utl/restore.c", "restored snapshot");
 *     console_text(&line, "path", path);
 *     console_end(&line); */
#ifndef TOOLS_UTL_CONSOLE_H
#define TOOLS_UTL_CONSOLE_H
#include "base/slice.h"
#include "tools/print/json.h"

struct console {
    FILE *out;
    uint32_t fields_count;
};

void console_begin(struct console *line, const char *level, const char *caller, const char *msg);
void console_text(struct console *line, const char *key, const char *value);
void console_u64(struct console *line, const char *key, uint64_t value);
void console_i64(struct console *line, const char *key, int64_t value);
void console_hex(struct console *line, const char *key, uint64_t value); /* "8e9e..", no zeros */
void console_list(struct console *line, const char *key, const struct slice *values,
                  uint32_t count);
void console_size(struct console *line, const char *key, uint64_t bytes);       /* "2.1 MB" */
void console_took(struct console *line, const char *key, uint64_t nanoseconds); /* "5.5ms" */
void console_end(struct console *line);
#endif
