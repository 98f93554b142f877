/* server/state/response_header.h - etcd's ResponseHeader, field 1 of every response. */
#ifndef SERVER_STATE_RESPONSE_HEADER_H
#define SERVER_STATE_RESPONSE_HEADER_H
#include "base/wire.h"

struct response_header {
    uint64_t cluster_id, member_id;
    int64_t revision;
    uint64_t raft_term;
};
#define RESPONSE_HEADER_BYTES_MAX 48U
/* The header as field 1 of a response; returns its size. */
size_t response_header_encode(const struct response_header *header,
                              uint8_t out[RESPONSE_HEADER_BYTES_MAX]);
void wire_put_header(struct wire_out *out, const struct response_header *header);
/* Writes the header into the gap that wire_out_init() left (RESPONSE_HEADER_BYTES_MAX), for headers
 * that are known last. */
void wire_prepend_header(struct wire_out *out, const struct response_header *header);
#endif
