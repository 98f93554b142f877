/* server/run/stall.h - tells the operator of a disk that hangs: a write of the log that is not done
 * after a second. */
#ifndef SERVER_RUN_STALL_H
#define SERVER_RUN_STALL_H
#include <stdbool.h>
#include <stdint.h>

struct loops;

struct stall_watch {
    struct loops *loops; /* borrowed, as is the other */
    const char *wal_dir;
    bool is_stalled;
    uint64_t waited_ns; /* the longest seen of this stall */
    uint64_t said_ns;
};

/* Looks, counts, and logs a stall when it is one, now and then while it lasts, and its end. One
 * thread, to be called several times a second. */
void stall_watch_step(struct stall_watch *watch);
#endif
