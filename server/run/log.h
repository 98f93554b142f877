/* server/run/log.h - the program's log: one JSON object a line, in etcd's shape, so that its users'
 * pipelines keep working:
 *   {"level":"info","ts":"2024-07-19T10:00:00.000000Z","caller":"run/main.c:12","msg":"...",
 * fields} Callers write log_info("serving client traffic", LOG_STR("address", address),
 * LOG_U64("revision", revision)); Thread-safe; a line is one write(2) to each output, so lines of
 * several threads never mix. Before log_open() and after log_close() lines go to stderr at level
 * info. Nothing here allocates. */
#ifndef SERVER_RUN_LOG_H
#define SERVER_RUN_LOG_H
#include "base/slice.h"
#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOG_LINE_BYTES_MAX 8192U /* a field that does not fit is left out, and the line says so */
#define LOG_OUTPUTS_MAX 8U

enum log_level {
    LOG_LEVEL_DEBUG,
    LOG_LEVEL_INFO,
    LOG_LEVEL_WARN,
    LOG_LEVEL_ERROR,
    LOG_LEVEL_DPANIC,
    LOG_LEVEL_PANIC,
    LOG_LEVEL_FATAL,
};

enum log_kind {
    LOG_KIND_STR,
    LOG_KIND_SLICE,
    LOG_KIND_STRS,
    LOG_KIND_I64,
    LOG_KIND_U64,
    LOG_KIND_HEX,
    LOG_KIND_BOOL,
    LOG_KIND_DURATION,
};

/* One field; everything in it is borrowed for the call. */
struct log_field {
    const char *key;
    enum log_kind kind;
    union {
        const char *str; /* NULL is logged as "" */
        struct slice slice;
        struct {
            const char *const *items;
            size_t count;
        } strs;
        int64_t i64;
        uint64_t u64;
        bool boolean;
    };
};

#define LOG_STR(k, v) ((struct log_field){.key = (k), .kind = LOG_KIND_STR, .str = (v)})
#define LOG_SLICE(k, v) ((struct log_field){.key = (k), .kind = LOG_KIND_SLICE, .slice = (v)})
#define LOG_STRS(k, v, n) \
    ((struct log_field){.key = (k), .kind = LOG_KIND_STRS, .strs = {.items = (v), .count = (n)}})
#define LOG_I64(k, v) ((struct log_field){.key = (k), .kind = LOG_KIND_I64, .i64 = (v)})
#define LOG_U64(k, v) ((struct log_field){.key = (k), .kind = LOG_KIND_U64, .u64 = (v)})
/* Ids, as etcd prints them: lowercase hex in quotes. */
#define LOG_HEX(k, v) ((struct log_field){.key = (k), .kind = LOG_KIND_HEX, .u64 = (v)})
#define LOG_BOOL(k, v) ((struct log_field){.key = (k), .kind = LOG_KIND_BOOL, .boolean = (v)})
/* Nanoseconds, printed as Go does ("1.5s"). */
#define LOG_DURATION(k, ns) \
    ((struct log_field){.key = (k), .kind = LOG_KIND_DURATION, .i64 = (int64_t)(ns)})
#define LOG_STATUS(st) LOG_STR("error", status_str(st))
#define LOG_ERRNO(number) LOG_STR("error", strerrordesc_np(number))

/* The fields follow msg. Below the level in force their expressions are not evaluated. */
#define LOG_AT(level, msg, ...)                                                    \
    do {                                                                           \
        if (log_enabled(level)) {                                                  \
            const struct log_field log_fields_[] = {{.key = NULL}, ##__VA_ARGS__}; \
            log_write((level), __FILE__, __LINE__, (msg), log_fields_ + 1,         \
                      sizeof(log_fields_) / sizeof(log_fields_[0]) - 1);           \
        }                                                                          \
    } while (0)
#define log_debug(...) LOG_AT(LOG_LEVEL_DEBUG, __VA_ARGS__)
#define log_info(...) LOG_AT(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_warn(...) LOG_AT(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_error(...) LOG_AT(LOG_LEVEL_ERROR, __VA_ARGS__)
/* Says why the process is about to end; the caller ends it. */
#define log_fatal(...) LOG_AT(LOG_LEVEL_FATAL, __VA_ARGS__)

/* Sends lines of level and above to the outputs from now on: "default" and "stderr", "stdout", or
 * the path of a file, appended to. Called once at start, before other threads log. Errors: ST_IO
 * with errno set (a file does not open; *failed_out, if not NULL, is its name), ST_TOO_BIG (over
 * LOG_OUTPUTS_MAX); the log is then as before. */
CHECKED enum status log_open(enum log_level level, const char *const *outputs, size_t outputs_count,
                             const char **failed_out);
void log_close(void);

/* Errors: ST_INVALID (not one of etcd's level names). */
CHECKED enum status log_level_parse(const char *name, enum log_level *out);
bool log_enabled(enum log_level level);
/* Use the macros above. file is shortened to its folder and name. */
void log_write(enum log_level level, const char *file, int line, const char *msg,
               const struct log_field *fields, size_t fields_count);
#endif
