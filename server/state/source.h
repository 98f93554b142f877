/* server/state/source.h - where a request reads from: a reader's instant, or the open write
 * transaction of apply, which sees its own writes. */
#ifndef SERVER_STATE_SOURCE_H
#define SERVER_STATE_SOURCE_H
#include "storage/mvcc.h"

#define SOURCE_WRITING UINT32_MAX

struct source {
    struct mvcc *mvcc;
    uint32_t reader; /* slot, between mvcc_read_begin() and _end(); SOURCE_WRITING: in apply */
    int64_t current_revision, compact_revision; /* when the instant or transaction began */
    const struct lessor *lessor;                /* of apply; NULL where nothing is put */
    size_t bytes_max; /* of records that one answer may go through; 0: as many as there are */
};

/* Errors: as mvcc_read(). */
CHECKED static inline enum status source_read(const struct source *source,
                                              const struct mvcc_query *query, mvcc_record_fn fn,
                                              void *context, struct mvcc_result *result)
{
    if (source->reader == SOURCE_WRITING)
        return mvcc_write_read(source->mvcc, query, fn, context, result);
    return mvcc_read(source->mvcc, source->reader, query, fn, context, result);
}
#endif
