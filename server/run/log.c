#include "server/run/log.h"

#include "base/assert.h"
#include "base/duration.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *const level_names[] = {"debug",  "info",  "warn", "error",
                                          "dpanic", "panic", "fatal"};

/* Written by log_open() and log_close() while no other thread logs; read by all. The level is
 * relaxed: it orders nothing. */
static struct {
    _Atomic int level;
    int fds[LOG_OUTPUTS_MAX];
    bool owned[LOG_OUTPUTS_MAX];
    size_t count;
} log_state = {.level = LOG_LEVEL_INFO, .fds = {STDERR_FILENO}, .count = 1};

/* A line under construction. Room for the end is kept back, so that whatever is left out the line
 * stays one JSON object. */
static const char cut_end[] = ",\"cut\":true}\n";
#define LINE_ROOM (LOG_LINE_BYTES_MAX - sizeof(cut_end))

struct line {
    char bytes[LOG_LINE_BYTES_MAX];
    size_t len;
    bool full;
};

static void add_bytes(struct line *line, const char *bytes, size_t len)
{
    if (line->full || len > LINE_ROOM - line->len) {
        line->full = true;
        return;
    }
    memcpy(line->bytes + line->len, bytes, len);
    line->len += len;
}

static void add(struct line *line, const char *text)
{
    add_bytes(line, text, strlen(text));
}

/* Length of the valid UTF-8 sequence at the front of s (RFC 3629), 0 if there is none. */
static size_t utf8_length(struct slice s)
{
    uint8_t first = s.data[0];
    size_t len = first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    if (len == 0 || first > 0xf4 || len > s.len)
        return 0;
    for (size_t i = 1; i < len; i++) {
        if ((s.data[i] & 0xc0) != 0x80)
            return 0;
    }
    bool overlong = (first == 0xe0 && s.data[1] < 0xa0) || (first == 0xf0 && s.data[1] < 0x90);
    bool beyond = (first == 0xed && s.data[1] > 0x9f) || (first == 0xf4 && s.data[1] > 0x8f);
    return overlong || beyond ? 0 : len;
}

static void add_escaped(struct line *line, struct slice s, size_t len)
{
    char text[8];
    switch (s.data[0]) {
    case '"':
        add(line, "\\\"");
        break;
    case '\\':
        add(line, "\\\\");
        break;
    case '\n':
        add(line, "\\n");
        break;
    case '\r':
        add(line, "\\r");
        break;
    case '\t':
        add(line, "\\t");
        break;
    default:
        if (s.data[0] < 0x20) {
            (void)snprintf(text, sizeof(text), "\\u%04x", s.data[0]);
            add(line, text);
        } else {
            add_bytes(line, (const char *)s.data, len);
        }
    }
}

static void add_quoted(struct line *line, struct slice s)
{
    add(line, "\"");
    while (s.len > 0 && !line->full) {
        size_t len = utf8_length(s);
        if (len == 0)
            add(line, "\\ufffd"); /* as zap does: the line stays valid for every reader */
        else
            add_escaped(line, s, len);
        len += len == 0;
        s = slice_make(s.data + len, s.len - len);
    }
    add(line, "\"");
}

static void add_quoted_str(struct line *line, const char *text)
{
    add_quoted(line, text == NULL ? SLICE_EMPTY : slice_from_str(text));
}

static void add_strs(struct line *line, const struct log_field *field)
{
    add(line, "[");
    for (size_t i = 0; i < field->strs.count; i++) {
        if (i > 0)
            add(line, ",");
        add_quoted_str(line, field->strs.items[i]);
    }
    add(line, "]");
}

static void add_value(struct line *line, const struct log_field *field)
{
    char text[DURATION_TEXT_MAX];
    switch (field->kind) {
    case LOG_KIND_STR:
        add_quoted_str(line, field->str);
        return;
    case LOG_KIND_SLICE:
        add_quoted(line, field->slice);
        return;
    case LOG_KIND_STRS:
        add_strs(line, field);
        return;
    case LOG_KIND_I64:
        (void)snprintf(text, sizeof(text), "%" PRId64, field->i64);
        break;
    case LOG_KIND_U64:
        (void)snprintf(text, sizeof(text), "%" PRIu64, field->u64);
        break;
    case LOG_KIND_HEX:
        (void)snprintf(text, sizeof(text), "\"%" PRIx64 "\"", field->u64);
        break;
    case LOG_KIND_BOOL:
        add(line, field->boolean ? "true" : "false");
        return;
    case LOG_KIND_DURATION:
        add_quoted_str(line, duration_format(field->i64, text));
        return;
    }
    add(line, text);
}

/* A field is in the line whole or not at all. */
static void add_field(struct line *line, const struct log_field *field)
{
    size_t before = line->len;
    add(line, ",");
    add_quoted_str(line, field->key);
    add(line, ":");
    add_value(line, field);
    if (line->full)
        line->len = before;
}

/* etcd's time: microseconds and the local zone as +0200, "Z" for UTC. */
static void add_time(struct line *line)
{
    struct timespec now;
    struct tm tm;
    char seconds[32];
    char zone[8];
    char text[64];
    if (clock_gettime(CLOCK_REALTIME, &now) != 0 || localtime_r(&now.tv_sec, &tm) == NULL)
        return;
    (void)strftime(seconds, sizeof(seconds), "%Y-%m-%dT%H:%M:%S", &tm);
    (void)strftime(zone, sizeof(zone), "%z", &tm);
    (void)snprintf(text, sizeof(text), "%s.%06ld%s", seconds, now.tv_nsec / 1000,
                   tm.tm_gmtoff == 0 ? "Z" : zone);
    add(line, text);
}

/* "/src/server/run/main.c" as "run/main.c". */
static const char *short_name(const char *file)
{
    const char *shortened = file;
    const char *last = file;
    for (const char *p = file; *p != '\0'; p++) {
        if (*p == '/') {
            shortened = last;
            last = p + 1;
        }
    }
    return shortened;
}

static void add_head(struct line *line, enum log_level level, const char *file, int number,
                     const char *msg)
{
    char caller_line[16];
    add(line, "{\"level\":\"");
    add(line, level_names[level]);
    add(line, "\",\"ts\":\"");
    add_time(line);
    add(line, "\",\"caller\":\"");
    add(line, short_name(file));
    (void)snprintf(caller_line, sizeof(caller_line), ":%d", number);
    add(line, caller_line);
    add(line, "\",\"msg\":");
    ASSERT(!line->full);
    size_t before = line->len;
    add_quoted_str(line, msg);
    if (line->full) {
        line->full = false;
        line->len = before;
        add(line, "\"(message too long)\"");
    }
}

static void write_all(int fd, const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t written = write(fd, bytes, len);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return; /* a log that cannot be written has nowhere to say so */
        bytes += written;
        len -= (size_t)written;
    }
}

bool log_enabled(enum log_level level)
{
    return (int)level >= atomic_load_explicit(&log_state.level, memory_order_relaxed);
}

void log_write(enum log_level level, const char *file, int line_number, const char *msg,
               const struct log_field *fields, size_t fields_count)
{
    int saved_errno = errno;
    struct line line;
    line.len = 0;
    line.full = false;
    add_head(&line, level, file, line_number, msg);
    for (size_t i = 0; i < fields_count && !line.full; i++)
        add_field(&line, &fields[i]);
    const char *end = line.full ? cut_end : "}\n";
    memcpy(line.bytes + line.len, end, strlen(end));
    line.len += strlen(end);
    for (size_t i = 0; i < log_state.count; i++)
        write_all(log_state.fds[i], line.bytes, line.len);
    errno = saved_errno;
}

enum status log_level_parse(const char *name, enum log_level *out)
{
    for (size_t i = 0; i < sizeof(level_names) / sizeof(level_names[0]); i++) {
        if (strcmp(name, level_names[i]) == 0) {
            *out = (enum log_level)i;
            return ST_OK;
        }
    }
    return ST_INVALID;
}

/* Opens one output; *owned_out says whether log_close() has to close it. -1 on failure. */
static int open_output(const char *name, bool *owned_out)
{
    *owned_out = false;
    if (strcmp(name, "default") == 0 || strcmp(name, "stderr") == 0)
        return STDERR_FILENO;
    if (strcmp(name, "stdout") == 0)
        return STDOUT_FILENO;
    *owned_out = true;
    return open(name, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
}

static void close_outputs(const int *fds, const bool *owned, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (owned[i])
            (void)close(fds[i]);
    }
}

enum status log_open(enum log_level level, const char *const *outputs, size_t outputs_count,
                     const char **failed_out)
{
    int fds[LOG_OUTPUTS_MAX];
    bool owned[LOG_OUTPUTS_MAX];
    if (outputs_count > LOG_OUTPUTS_MAX)
        return ST_TOO_BIG;
    for (size_t i = 0; i < outputs_count; i++) {
        fds[i] = open_output(outputs[i], &owned[i]);
        if (fds[i] < 0) {
            int saved_errno = errno;
            close_outputs(fds, owned, i);
            errno = saved_errno;
            if (failed_out != NULL)
                *failed_out = outputs[i];
            return ST_IO;
        }
    }
    log_close();
    memcpy(log_state.fds, fds, sizeof(fds[0]) * outputs_count);
    memcpy(log_state.owned, owned, sizeof(owned[0]) * outputs_count);
    log_state.count = outputs_count;
    atomic_store_explicit(&log_state.level, (int)level, memory_order_relaxed);
    return ST_OK;
}

void log_close(void)
{
    close_outputs(log_state.fds, log_state.owned, log_state.count);
    log_state.fds[0] = STDERR_FILENO;
    log_state.owned[0] = false;
    log_state.count = 1;
    atomic_store_explicit(&log_state.level, LOG_LEVEL_INFO, memory_order_relaxed);
}
