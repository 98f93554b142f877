/* server/state/range.h - evaluates a Range and encodes its answer: records go from the store into
 * the response as they are. */
#ifndef SERVER_STATE_RANGE_H
#define SERVER_STATE_RANGE_H
#include "base/wire.h"
#include "server/state/kv_request.h"
#include "server/state/response_header.h"
#include "server/state/source.h"

/* Appends fields 2 to 4 of RangeResponse (kvs, more, count); the header is the caller's. The range
 * must have passed check_range(). A negative revision is the current one. Memory is bounded by the
 * arena of out alone (etcd has no limit either). Errors: ST_COMPACTED, ST_FUTURE, ST_TOO_BIG (the
 * arena's cap), ST_CANCELED (the source's bytes_max), ST_IO, ST_CORRUPT; what was appended is then
 * of no use. */
CHECKED enum status range_encode(const struct source *source, const struct kv_range *range,
                                 struct wire_out *out);

/* A whole RangeResponse by a reader with this slot, from at most bytes_max bytes of records (0: no
 * matter how many). header->revision is set to the store's. Errors as above. */
CHECKED enum status range_answer(struct mvcc *mvcc, uint32_t reader, const struct kv_range *range,
                                 size_t bytes_max, struct response_header *header,
                                 struct arena *arena, struct slice *response_out);
#endif
