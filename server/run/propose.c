#include "server/run/propose.h"

#include "base/list.h"
#include "server/loops/request.h"
#include "base/clock_real.h"

#include <semaphore.h>

struct awaited {
    struct proposal proposal;
    sem_t done;
    enum api_error error;
};

static void note_done(struct proposal *proposal, enum api_error error, struct slice response)
{
    (void)response;
    struct awaited *awaited = CONTAINER_OF(proposal, struct awaited, proposal);
    awaited->error = error;
    sem_post(&awaited->done);
}

enum api_error propose_and_wait(struct loops *loops, struct raft_payload *payload, uint64_t id,
                                uint64_t timeout_ns)
{
    if (payload == NULL)
        return API_NO_MEMORY;
    struct awaited awaited = {
        .proposal = {.request = {.kind = REQUEST_PROPOSAL,
                                 .deadline_ns = clock_monotonic_ns(clock_real()) + timeout_ns},
                     .payload = payload,
                     .id = id,
                     .urgent = true,
                     .done = note_done}};
    sem_init(&awaited.done, /* pshared= */ 0, 0);
    loops_propose(loops, &awaited.proposal);
    while (sem_wait(&awaited.done) != 0)
        continue;
    sem_destroy(&awaited.done);
    return awaited.error;
}
