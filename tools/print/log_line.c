#include "tools/print/log_line.h"

#include <time.h>

const char *print_time_now(char out[PRINT_TIME_TEXT_MAX])
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    struct tm utc;
    gmtime_r(&now.tv_sec, &utc);
    char seconds[24];
    strftime(seconds, sizeof(seconds), "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(out, PRINT_TIME_TEXT_MAX, "%s.%06uZ", seconds,
             (unsigned)(now.tv_nsec / 1000) % 1000000U);
    return out;
}

void print_log_begin(struct print_json *json, FILE *out, const char *level, const char *logger,
                     const char *caller, const char *msg)
{
    char now[PRINT_TIME_TEXT_MAX];
    *json = print_json_to(out);
    print_json_object(json, NULL);
    print_json_text(json, "level", level);
    print_json_text(json, "ts", print_time_now(now));
    if (logger != NULL)
        print_json_text(json, "logger", logger);
    print_json_text(json, "caller", caller);
    print_json_text(json, "msg", msg);
}

void print_log_end(struct print_json *json)
{
    print_json_object_end(json);
    fputc('\n', json->out);
    fflush(json->out);
}
