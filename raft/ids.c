#include "raft/ids.h"

static uint32_t position_of(const struct id_set *set, raft_id id)
{
    uint32_t at = 0;
    while (at < set->count && set->ids[at] < id)
        at++;
    return at;
}

bool id_set_has(const struct id_set *set, raft_id id)
{
    uint32_t at = position_of(set, id);
    return at < set->count && set->ids[at] == id;
}

bool id_set_add(struct id_set *set, raft_id id)
{
    uint32_t at = position_of(set, id);
    if (at < set->count && set->ids[at] == id)
        return true;
    if (set->count == RAFT_MEMBERS_MAX)
        return false;
    memmove(&set->ids[at + 1], &set->ids[at], (set->count - at) * sizeof(set->ids[0]));
    set->ids[at] = id;
    set->count++;
    return true;
}

void id_set_remove(struct id_set *set, raft_id id)
{
    uint32_t at = position_of(set, id);
    if (at == set->count || set->ids[at] != id)
        return;
    set->count--;
    memmove(&set->ids[at], &set->ids[at + 1], (set->count - at) * sizeof(set->ids[0]));
}
