/* server/config/url.h - the URL lists of etcd's flags: parsed and checked, nothing resolved. */
#ifndef SERVER_CONFIG_URL_H
#define SERVER_CONFIG_URL_H
#include "base/arena.h"
#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

#define CONFIG_URLS_MAX 64U /* in one list; etcd has no limit, nobody has so many addresses */

struct config_url {
    const char *scheme; /* "http", "https", "unix", "unixs" */
    const char *host;   /* without the brackets of an IPv6 address; of a unix URL the whole rest */
    uint16_t port;      /* 0 if empty */
};

/* Sorted by text and without repeats, as etcd keeps them. */
struct config_urls {
    const char *const *texts;       /* "http://127.0.0.1:2379" */
    const struct config_url *items; /* the same, taken apart */
    uint32_t count;
};

/* Reads a comma-separated list into arena. Errors: ST_INVALID with etcd's sentence in *why_out (in
 * arena), ST_TOO_BIG (the arena's cap, or over CONFIG_URLS_MAX; *why_out says so too). */
CHECKED enum status config_urls_parse(struct arena *arena, const char *text,
                                      struct config_urls *out, const char **why_out);
bool config_urls_eq(const struct config_urls *a, const struct config_urls *b);
/* The texts joined by commas, in arena. */
const char *config_urls_join(struct arena *arena, const struct config_urls *urls);
/* NULL if every URL can be bound (an address or "localhost"), else etcd's sentence in arena. */
const char *config_urls_check_bind(struct arena *arena, const struct config_urls *urls);
/* NULL if every URL has a host, else etcd's sentence in arena. */
const char *config_urls_check_host(struct arena *arena, const struct config_urls *urls);
#endif
