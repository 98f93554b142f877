/* server/run/quota.h - watches how near the store is to its quota: warns before it is reached,
 * raises this member's NOSPACE alarm when what others wrote takes it over (a client's own request
 * is refused before, server/services/admit.c), takes it back below a low-water mark if that is
 * asked for, and says in the log which alarms come and go. */
#ifndef SERVER_RUN_QUOTA_H
#define SERVER_RUN_QUOTA_H
#include "server/loops/request.h"
#include "server/state/machine.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct mvcc;
struct store;

#define QUOTA_ALARMS_SHOWN 16U /* more than that come and go without a line */

struct quota_watch {
    struct store *store; /* borrowed, as are the others */
    struct mvcc *mvcc;
    struct loops *loops;
    struct machine *machine;
    uint64_t quota_bytes;   /* UINT64_MAX: none */
    uint32_t warn_percent;  /* of the quota, from where on a warning is logged; 0: never */
    uint32_t clear_percent; /* below which the alarm is taken back; 0: by hand only */
    uint64_t timeout_ns;
    /* Its own. */
    bool is_near;
    uint64_t said_ns;
    uint64_t puts_seen;
    struct alarm alarms[QUOTA_ALARMS_SHOWN]; /* as they were at the last look */
    uint32_t alarms_count;
    struct proposal proposal;
    atomic_bool pending; /* proposal is with the actors */
};

/* Looks and acts; never waits. One thread, every quarter of a second or so. */
void quota_watch_step(struct quota_watch *watch);
#endif
