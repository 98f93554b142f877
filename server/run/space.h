/* server/run/space.h - says in the log when the disk is full and when it no longer is. */
#ifndef SERVER_RUN_SPACE_H
#define SERVER_RUN_SPACE_H
#include <stdbool.h>
#include <stdint.h>

struct loops;
struct store;

struct space_watch {
    struct store *store; /* borrowed, as are the others */
    struct loops *loops;
    const char *data_dir;
    bool is_full;
    uint64_t said_ns;
};

/* Looks, tells the actors, and logs a change at once, a disk that stays full every now and then.
 * One thread. */
void space_watch_step(struct space_watch *watch);
#endif
