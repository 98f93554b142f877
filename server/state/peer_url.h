/* server/state/peer_url.h - the addresses that members give each other: scheme and host:port and
 * nothing else, so that equal addresses are equal texts. */
#ifndef SERVER_STATE_PEER_URL_H
#define SERVER_STATE_PEER_URL_H
#include "base/arena.h"
#include "base/slice.h"
#include "base/status.h"

#include <stdint.h>

/* Reads count URLs (1 to MEMBER_URLS_MAX) as etcd does: surrounding space goes, the scheme becomes
 * lower case, the list is sorted by text. *out is in arena. Errors: ST_INVALID (one is no such URL;
 * *why_out, in arena, says which and why in etcd's words), ST_TOO_BIG (limits.h, the arena). */
CHECKED enum status peer_urls_read(const struct slice *texts, uint32_t count, struct arena *arena,
                                   const struct slice **out, const char **why_out);
#endif
