/* raft/ids.h - a small set of member ids, kept ascending: iteration order is the same everywhere.
 */
#ifndef RAFT_IDS_H
#define RAFT_IDS_H
#include "raft/types.h"

struct id_set {
    uint32_t count;
    raft_id ids[RAFT_MEMBERS_MAX];
};

bool id_set_has(const struct id_set *set, raft_id id);
/* False: no room. Adding a member again changes nothing. */
CHECKED bool id_set_add(struct id_set *set, raft_id id);
void id_set_remove(struct id_set *set, raft_id id); /* no-op when absent */
#endif
