/* server/peers/fetch.h - one request to a member's peer port, waited for: what a member asks before
 * it runs (GET /members, GET /version), and what is forwarded to the leader (promote, leases). For
 * threads that may wait. */
#ifndef SERVER_PEERS_FETCH_H
#define SERVER_PEERS_FETCH_H
#include "base/buf.h"
#include "base/slice.h"
#include "base/status.h"
#include "server/peers/byte_stream.h"

#include <stdbool.h>
#include <stdint.h>

struct peer_fetch {
    const char *url;          /* a member's peer URL: "http://10.0.0.1:2380" */
    const char *method;       /* "GET", "POST" */
    const char *path;         /* "/members" */
    const char *content_type; /* of body; NULL: none */
    struct slice body;
    uint64_t cluster_id;                       /* sent as X-Etcd-Cluster-Id unless 0 */
    uint32_t timeout_ms;                       /* of the whole */
    const struct byte_stream_factory *streams; /* NULL: plain TCP */
};

struct peer_fetched {
    uint32_t status; /* HTTP's */
    bool has_cluster_id;
    uint64_t cluster_id; /* X-Etcd-Cluster-Id of the answer */
    struct buf body;     /* at most PEER_FETCH_BYTES_MAX; owned: buf_deinit() */
};

/* Errors: ST_INVALID (the URL, or an answer that is no HTTP), ST_NOT_FOUND (no such host), ST_BUSY
 * (refused, or time is over), ST_TRUNCATED (cut off), ST_UNSUPPORTED (https without such streams),
 * ST_TOO_BIG, ST_NO_MEMORY; out is then empty.
 */
CHECKED enum status peer_fetch(const struct peer_fetch *fetch, struct peer_fetched *out);

/* Requests one after another over one connection, which stays open between them; for requests that
 * do no harm when they come twice. One thread at a time. */
struct peer_line;
CHECKED enum status peer_line_new(struct peer_line **out); /* ST_NO_MEMORY */
void peer_line_free(struct peer_line *line);               /* NULL is fine */
/* As peer_fetch(), to any URL; another one than the last ends that connection. */
CHECKED enum status peer_line_fetch(struct peer_line *line, const struct peer_fetch *fetch,
                                    struct peer_fetched *out);
#endif
