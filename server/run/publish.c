#include "server/run/publish.h"

#include "base/list.h"
#include "base/clock_real.h"
#include "server/run/log.h"
#include "server/state/machine.h"

#include <unistd.h>

static void set_state(struct publisher *p, enum publisher_state state)
{
    atomic_store(&p->state, (int)state);
    uint64_t one = 1;
    ssize_t written = write(p->event_fd, &one, sizeof(one));
    (void)written; /* a full counter is readable all the same */
}

/* On the apply or the consensus actor: it only notes what happened, the next step acts on it. */
static void proposal_done(struct proposal *proposal, enum api_error error, struct slice response)
{
    (void)response;
    struct publisher *p = CONTAINER_OF(proposal, struct publisher, proposal);
    if (error == API_OK) {
        log_info("published local member to cluster through raft",
                 LOG_HEX("local-member-id", machine_member_id(p->machine)));
        set_state(p, PUBLISHER_DONE);
        return;
    }
    if (error != API_STOPPED)
        log_warn("failed to publish local member to cluster through raft; trying again",
                 LOG_STR("error", api_error_text(error)));
    set_state(p, PUBLISHER_IDLE);
}

void publisher_step(struct publisher *p)
{
    if (atomic_load(&p->state) != PUBLISHER_IDLE)
        return;
    uint64_t id = loops_next_id(p->loops);
    struct raft_payload *payload =
        machine_publish_payload(p->machine, id, p->name, p->client_urls, p->client_urls_count);
    if (payload == NULL)
        return; /* no memory: tried again at the next step */
    atomic_store(&p->state, PUBLISHER_PROPOSED);
    p->proposal = (struct proposal){
        .request = {.kind = REQUEST_PROPOSAL,
                    .deadline_ns = clock_monotonic_ns(clock_real()) + p->timeout_ns},
        .payload = payload,
        .id = id,
        .urgent = true,
        .done = proposal_done};
    loops_propose(p->loops, &p->proposal);
}
