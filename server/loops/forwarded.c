#include "server/loops/forwarded.h"

#include "base/assert.h"
#include "server/state/kv_request.h"
#include "server/state/conf_state.h"

void forwarded_init(struct forwarded *forwarded)
{
    *forwarded = (struct forwarded){0};
    list_init(&forwarded->requests);
}

/* Ids count up, so neighbours in time get buckets of their own. */
static uint32_t bucket_of(uint64_t id)
{
    return (uint32_t)id % FORWARDED_BUCKETS_COUNT;
}

static struct proposal *proposal_of(struct request *request)
{
    return CONTAINER_OF(request, struct proposal, request);
}

void forwarded_add(struct forwarded *forwarded, struct request *request)
{
    request->index = 0;
    list_push_back(&forwarded->requests, &request->waiting);
    if (request->kind == REQUEST_CONF_CHANGE) {
        forwarded->changes_count++;
        return;
    }
    ASSERT(request->kind == REQUEST_PROPOSAL);
    struct proposal *proposal = proposal_of(request);
    struct proposal **bucket = &forwarded->buckets[bucket_of(proposal->id)];
    proposal->same_bucket = *bucket;
    *bucket = proposal;
    forwarded->proposals_count++;
}

void forwarded_remove(struct forwarded *forwarded, struct request *request)
{
    list_remove(&request->waiting);
    if (request->kind == REQUEST_CONF_CHANGE) {
        forwarded->changes_count--;
        return;
    }
    struct proposal *proposal = proposal_of(request);
    struct proposal **link = &forwarded->buckets[bucket_of(proposal->id)];
    while (*link != proposal)
        link = &(*link)->same_bucket;
    *link = proposal->same_bucket;
    forwarded->proposals_count--;
}

static struct request *find_change(const struct forwarded *forwarded,
                                   const struct raft_entry *entry)
{
    struct member_change change;
    if (forwarded->changes_count == 0 || entry->type != RAFT_ENTRY_CONF_CHANGE ||
        member_change_decode(raft_payload_slice(entry->payload), &change) != ST_OK)
        return NULL;
    LIST_FOREACH(node, &forwarded->requests)
    {
        struct request *request = CONTAINER_OF(node, struct request, waiting);
        if (request->kind == REQUEST_CONF_CHANGE &&
            CONTAINER_OF(request, struct conf_proposal, request)->id == change.id)
            return request;
    }
    return NULL;
}

struct request *forwarded_find(const struct forwarded *forwarded, const struct raft_entry *entry)
{
    if (entry->type != RAFT_ENTRY_NORMAL)
        return find_change(forwarded, entry);
    struct internal_request request;
    if (forwarded->proposals_count == 0 || entry->payload == NULL ||
        internal_request_decode(raft_payload_slice(entry->payload), &request) != ST_OK)
        return NULL;
    for (struct proposal *proposal = forwarded->buckets[bucket_of(request.id)]; proposal != NULL;
         proposal = proposal->same_bucket) {
        if (proposal->id == request.id)
            return &proposal->request;
    }
    return NULL;
}
