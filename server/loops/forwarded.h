/* server/loops/forwarded.h - proposals whose place in our log is not known: handed to the leader by
 * this member as a follower, or taken over by the next leader in an orderly hand-over. They are
 * recognised by their id when an entry with it is committed. Ordered by arrival, so by deadline;
 * found by a table whose chains run through the proposals. */
#ifndef SERVER_LOOPS_FORWARDED_H
#define SERVER_LOOPS_FORWARDED_H
#include "base/list.h"
#include "server/loops/limits.h"
#include "server/loops/request.h"

#include <stdbool.h>
#include <stdint.h>

struct forwarded {
    struct list_node requests; /* struct request by waiting: proposals and conf proposals */
    uint32_t proposals_count;  /* of them, those in the table */
    uint32_t changes_count;    /* of them, conf proposals: few, found by a walk */
    struct proposal *buckets[FORWARDED_BUCKETS_COUNT];
};

void forwarded_init(struct forwarded *forwarded);
void forwarded_add(struct forwarded *forwarded, struct request *request);
void forwarded_remove(struct forwarded *forwarded, struct request *request);
/* The proposal whose request is in an entry, or NULL. The payload is decoded only while there is
 * something to be found. */
struct request *forwarded_find(const struct forwarded *forwarded, const struct raft_entry *entry);
static inline bool forwarded_is_empty(const struct forwarded *forwarded)
{
    return forwarded->proposals_count == 0 && forwarded->changes_count == 0;
}
#endif
