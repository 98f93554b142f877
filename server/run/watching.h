/* server/run/watching.h - the watch hub of a member: its thread, and its way to the reader threads.
 */
#ifndef SERVER_RUN_WATCHING_H
#define SERVER_RUN_WATCHING_H
#include "server/loops/request.h"
#include "server/run/thread.h"
#include "server/watch/watch.h"

struct loops;
struct mvcc;

struct watching_options {
    struct mvcc *mvcc; /* borrowed */
    struct loops *loops;
    uint32_t reader_slot;
    uint64_t seed;
    uint64_t progress_interval_ns, election_ns;
    size_t message_bytes_max;
};

struct watching {
    struct watch_hub *hub; /* NULL: it was never made */
    struct loops *loops;
    struct thread thread;
    struct watching_read {
        struct read_request request;
        struct watch_read *read;
    } reads[WATCH_READS_MAX];
};

/* Errors: ST_NO_MEMORY, ST_IO. */
CHECKED enum status watching_start(struct watching *watching,
                                   const struct watching_options *options);
/* Ends the streams; new ones end at once. */
void watching_end(struct watching *watching);
void watching_stop(struct watching *watching); /* the thread */
/* After the loops have ended, which may still hold a read. */
void watching_free(struct watching *watching);
#endif
