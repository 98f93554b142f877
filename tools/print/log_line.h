/* tools/print/log_line.h - one JSON log line in the shape of etcd's tools:
 *   {"level":"warn","ts":"2024-07-19T10:00:00.000000Z","logger":"etcd-client","caller":"...","msg":"..."
 * and what the caller adds by print_json_*():
 *
 *     struct print_json json;
 *     print_log_begin(&json, stderr, "warn", "etcd-client", "client/retry.c", "call failed");
 *     print_json_text(&json, "target", target);
 *     print_log_end(&json); */
#ifndef TOOLS_PRINT_LOG_LINE_H
#define TOOLS_PRINT_LOG_LINE_H
#include "tools/print/json.h"

/* logger may be NULL: left out. */
void print_log_begin(struct print_json *json, FILE *out, const char *level, const char *logger,
                     const char *caller, const char *msg);
void print_log_end(struct print_json *json); /* and flushes */

#define PRINT_TIME_TEXT_MAX 32
/* Now, in UTC, as "2024-07-19T10:00:00.123456Z"; returns out. */
const char *print_time_now(char out[PRINT_TIME_TEXT_MAX]);
#endif
