/* server/watch/events.h - changes as apply makes them, and the events that are encoded from them
 * once for all watchers. */
#ifndef SERVER_WATCH_EVENTS_H
#define SERVER_WATCH_EVENTS_H
#include "base/buf.h"
#include "base/slice.h"
#include "base/status.h"
#include "server/rpc/rpc.h"
#include "server/watch/groups.h"
#include "storage/mvcc.h"

#include <stdbool.h>
#include <stdint.h>

/* Without and with the value before the change. */
enum watch_form { WATCH_PLAIN, WATCH_WITH_VALUES, WATCH_FORMS };

/* ---- changes ---- */

struct watch_change {
    int64_t revision;
    size_t offset; /* of the record among the bytes */
    uint32_t len;
    bool tombstone; /* the record is the key alone */
    uint8_t wanted; /* bits of enum watch_form */
};

/* In order of their revisions. */
struct watch_changes {
    const uint8_t *bytes;
    struct watch_change *list;
    uint32_t count;
};

struct slice watch_change_record(const struct watch_changes *changes, uint32_t index);
/* The key of a record, which is its first field; empty where there is none. */
struct slice watch_record_key(struct slice record);

/* ---- events ---- */

struct watch_mark {
    size_t end; /* of the event among the bytes */
    int64_t revision;
};

/* An event for each change that is wanted, encoded as field 11 of a WatchResponse; the others are
 * of no bytes. Counted; any thread. */
struct watch_block {
    struct rpc_shared shared; /* must be first */
    uint32_t count;
    struct watch_mark *marks; /* count of them, behind the block */
    struct buf bytes;
};

/* Where the values before changes are read. */
struct watch_values {
    struct mvcc *mvcc;
    uint32_t reader_slot;
    bool in_memory; /* and nowhere else */
};

/* Encodes what changes hold and is wanted with the value before, or without where compaction took
 * it; values NULL: what is wanted plain. Errors: ST_NO_MEMORY, ST_TOO_BIG; ST_BUSY (of
 * values->in_memory), ST_IO, ST_CORRUPT of the read. */
CHECKED enum status watch_block_new(const struct watch_changes *changes,
                                    const struct watch_values *values, struct watch_block **out);
void watch_block_unref(struct watch_block *block); /* NULL is fine */
/* The encoded events [first, end). */
struct slice watch_block_events(const struct watch_block *block, uint32_t first, uint32_t end);
uint32_t watch_block_first_at(const struct watch_block *block,
                              int64_t revision); /* of it or later */

/* What the watchers of one group get of a block. Counted; the hub's thread, or whoever made it. */
struct watch_delivery {
    uint32_t refs;
    uint32_t runs_count;
    int64_t revision; /* of the response's header */
    struct watch_block *block;
    struct watch_run runs[];
};
/* Takes a reference of block. NULL: no memory. */
struct watch_delivery *watch_delivery_new(struct watch_block *block, const struct watch_runs *runs,
                                          int64_t revision);
void watch_delivery_unref(struct watch_delivery *delivery); /* NULL is fine */
#endif
