/* server/peers/link.h - a connection for a thread that may wait: snapshots and single requests. */
#ifndef SERVER_PEERS_LINK_H
#define SERVER_PEERS_LINK_H
#include "base/slice.h"
#include "base/status.h"
#include "server/peers/byte_stream.h"
#include "server/peers/dial.h"
#include "server/peers/http1.h"
#include "server/peers/out.h"
#include "server/peers/window.h"

#include <stdatomic.h>
#include <stdint.h>

struct link {
    struct byte_stream *stream;     /* owned */
    struct window in;               /* read and not used */
    uint64_t silence_ns;            /* a call that moves no byte for so long fails */
    uint64_t deadline_ns;           /* every call fails then; UINT64_MAX: never */
    const atomic_bool *is_stopping; /* every call fails soon after it is set; NULL: never */
};

uint64_t link_now_ns(void);
/* Resolves and connects, one address after the other. Errors: ST_NOT_FOUND (the host), ST_BUSY (no
 * connection in time). */
CHECKED enum status link_connect(struct link *link, const struct peer_url *url,
                                 const struct byte_stream_factory *streams);
void link_close(struct link *link); /* takes its memory too */

/* Errors of all: ST_BUSY (silence or deadline), ST_TRUNCATED (the other side ended), ST_IO,
 * ST_CANCELED, ST_NO_MEMORY. */
CHECKED enum status link_write(struct link *link, struct out *out); /* all of it */
CHECKED enum status link_read(struct link *link);                   /* some bytes more in `in` */
/* Reads a whole head of an answer; it is taken off `in` by the caller (head->size), which it
 * borrows from. Errors: those and http1_parse_answer()'s. */
CHECKED enum status link_read_answer(struct link *link, struct http1_head *out);
#endif
