#include "tools/utl/console.h"

#include "base/duration.h"
#include "tools/print/text.h"

#include <inttypes.h>
#include <time.h>

void console_begin(struct console *line, const char *level, const char *caller, const char *msg)
{
    *line = (struct console){.out = stderr};
    time_t now = time(NULL);
    struct tm utc;
    char text[32];
    gmtime_r(&now, &utc);
    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &utc);
    fprintf(line->out, "%s\t%s\t%s\t%s", text, level, caller, msg);
}

/* The place of the next value. */
static struct print_json next(struct console *line, const char *key)
{
    fprintf(line->out, "%s\"%s\": ", line->fields_count++ == 0 ? "\t{" : ", ", key);
    return print_json_to(line->out);
}

void console_text(struct console *line, const char *key, const char *value)
{
    struct print_json json = next(line, key);
    print_json_text(&json, NULL, value);
}

void console_u64(struct console *line, const char *key, uint64_t value)
{
    struct print_json json = next(line, key);
    print_json_u64(&json, NULL, value);
}

void console_i64(struct console *line, const char *key, int64_t value)
{
    struct print_json json = next(line, key);
    print_json_i64(&json, NULL, value);
}

void console_hex(struct console *line, const char *key, uint64_t value)
{
    struct print_json json = next(line, key);
    print_json_hex(&json, NULL, value);
}

void console_list(struct console *line, const char *key, const struct slice *values, uint32_t count)
{
    struct print_json json = next(line, key);
    fputc('[', line->out);
    for (uint32_t i = 0; i < count; i++) {
        if (i > 0)
            fputs(", ", line->out);
        json.comma = false;
        print_json_string(&json, NULL, values[i]);
    }
    fputc(']', line->out);
}

void console_size(struct console *line, const char *key, uint64_t bytes)
{
    char text[PRINT_SIZE_TEXT_MAX];
    console_text(line, key, print_size(bytes, text));
}

void console_took(struct console *line, const char *key, uint64_t nanoseconds)
{
    char text[DURATION_TEXT_MAX];
    console_text(line, key, duration_format((int64_t)nanoseconds, text));
}

void console_end(struct console *line)
{
    fputs(line->fields_count > 0 ? "}\n" : "\n", line->out);
    fflush(line->out);
}
