/* server/peers/out.h - bytes on their way out of one connection: small ones are collected in
 * chunks, large payloads are sent from where they are. Not thread-safe. */
#ifndef SERVER_PEERS_OUT_H
#define SERVER_PEERS_OUT_H
#include "base/list.h"
#include "base/slice.h"
#include "base/status.h"
#include "raft/types.h"
#include "server/peers/byte_stream.h"

struct out {
    struct list_node pieces;
    size_t bytes; /* not written yet */
};

void out_init(struct out *out);
void out_reset(struct out *out); /* drops everything and its memory */

/* Room for size bytes at the end; the caller fills at most that many and says how many by
 * out_commit(). NULL: no memory. */
uint8_t *out_reserve(struct out *out, size_t size);
void out_commit(struct out *out, size_t size);
/* Errors of both: ST_NO_MEMORY; then the stream has lost its place and is of no more use. */
CHECKED enum status out_append(struct out *out, struct slice bytes);
CHECKED enum status out_payload(struct out *out, struct raft_payload *payload); /* counted */

/* Writes what the stream takes. *size_out is how much it was. Errors: ST_BUSY (it takes no more
 * now), ST_IO. */
CHECKED enum status out_write(struct out *out, struct byte_stream *stream, size_t *size_out);
/* The first pieces, at most count_max of them; returns how many. */
size_t out_gather(const struct out *out, struct iovec *pieces, size_t count_max);
/* Drops the first size bytes: they are written. */
void out_consume(struct out *out, size_t size);
#endif
