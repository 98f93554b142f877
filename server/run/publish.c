#include "server/run/publish.h"

#include "base/list.h"
#include "server/run/clock.h"
#include "server/run/log.h"
#include "server/state/machine.h"

#include <unistd.h>

#define CLUSTER_VERSION "3.5.0"

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
        bool versioned = atomic_load(&p->state) == PUBLISHER_VERSIONED;
        set_state(p, versioned ? PUBLISHER_DONE : PUBLISHER_PUBLISHED);
        return;
    }
    if (error != API_STOPPED)
        log_warn("failed to publish local member to cluster through raft; trying again",
                 LOG_STR("error", api_error_text(error)));
    set_state(p, PUBLISHER_IDLE);
}

static void propose(struct publisher *p, enum publisher_state state, struct raft_payload *payload)
{
    if (payload == NULL)
        return; /* no memory: tried again at the next step */
    atomic_store(&p->state, (int)state);
    p->proposal = (struct proposal){
        .request = {.kind = REQUEST_PROPOSAL,
                    .deadline_ns = clock_monotonic_ns(clock_real()) + p->timeout_ns},
        .payload = payload,
        .done = proposal_done};
    loops_propose(p->loops, &p->proposal);
}

void publisher_step(struct publisher *p)
{
    int state = atomic_load(&p->state);
    uint64_t id = loops_next_id(p->loops);
    char version[VERSION_TEXT_BYTES];
    if (state == PUBLISHER_IDLE)
        propose(
            p, PUBLISHER_PROPOSED,
            machine_publish_payload(p->machine, id, p->name, p->client_urls, p->client_urls_count));
    if (state != PUBLISHER_PUBLISHED)
        return;
    machine_cluster_version(p->machine, version);
    if (strcmp(version, CLUSTER_VERSION) == 0)
        set_state(p, PUBLISHER_DONE);
    else
        propose(p, PUBLISHER_VERSIONED, machine_version_payload(id, CLUSTER_VERSION));
}
