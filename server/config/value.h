/* server/config/value.h - the value of a flag, by its type. */
#ifndef SERVER_CONFIG_VALUE_H
#define SERVER_CONFIG_VALUE_H
#include "base/arena.h"
#include "base/status.h"
#include "server/config/flag_table.h"
#include "server/config/url.h"

#include <stdbool.h>
#include <stdint.h>

struct config;

/* The member that counts is the flag's type's. */
struct flag_value {
    const char *text; /* as given: borrowed */
    bool boolean;
    uint64_t number;
    int64_t integer; /* also a duration, in nanoseconds */
    struct config_urls urls;
};

/* Reads text (kept, borrowed) as flag's type. Errors: ST_INVALID with Go's or etcd's reason in
 * *why_out, ST_TOO_BIG (the arena's cap). */
CHECKED enum status flag_value_parse(struct arena *arena, const struct flag *flag, const char *text,
                                     struct flag_value *out, const char **why_out);
bool flag_value_eq(const struct flag *flag, const struct flag_value *a, const struct flag_value *b);
/* Puts the value into the flag's field of config, if it has one. */
void flag_value_store(const struct flag *flag, const struct flag_value *value,
                      struct config *config);
#endif
