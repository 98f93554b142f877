#include "server/run/publish.h"

#include "base/list.h"
#include "server/run/clock.h"
#include "server/run/log.h"
#include "server/state/machine.h"

#include <unistd.h>

#define CLUSTER_VERSION "3.5.0"

static void propose(struct publisher *p, struct proposal *proposal, struct raft_payload *payload,
                    void (*done)(struct proposal *, enum api_error, struct slice))
{
    *proposal = (struct proposal){
        .request = {.kind = REQUEST_PROPOSAL,
                    .deadline_ns = clock_monotonic_ns(clock_real()) + p->timeout_ns},
        .payload = payload,
        .done = done};
    loops_propose(p->loops, proposal);
}

static void propose_version(struct publisher *p);
static void propose_publish(struct publisher *p);

static void version_done(struct proposal *proposal, enum api_error error, struct slice response)
{
    (void)response;
    struct publisher *p = CONTAINER_OF(proposal, struct publisher, version);
    if (error != API_OK && error != API_STOPPED)
        propose_version(p);
}

static void propose_version(struct publisher *p)
{
    char version[VERSION_TEXT_BYTES];
    machine_cluster_version(p->machine, version);
    if (strcmp(version, CLUSTER_VERSION) == 0)
        return;
    struct raft_payload *payload =
        machine_version_payload(loops_next_id(p->loops), CLUSTER_VERSION);
    if (payload != NULL)
        propose(p, &p->version, payload, version_done);
}

static void publish_done(struct proposal *proposal, enum api_error error, struct slice response)
{
    (void)response;
    struct publisher *p = CONTAINER_OF(proposal, struct publisher, publish);
    if (error == API_STOPPED)
        return;
    if (error != API_OK) {
        log_warn("failed to publish local member to cluster through raft; trying again",
                 LOG_STR("error", api_error_text(error)));
        propose_publish(p);
        return;
    }
    atomic_store_explicit(&p->published, true, memory_order_release);
    uint64_t one = 1;
    ssize_t written = write(p->done_fd, &one, sizeof(one));
    (void)written;
    propose_version(p);
}

static void propose_publish(struct publisher *p)
{
    struct raft_payload *payload = machine_publish_payload(
        p->machine, loops_next_id(p->loops), p->name, p->client_urls, p->client_urls_count);
    if (payload != NULL)
        propose(p, &p->publish, payload, publish_done);
}

void publisher_start(struct publisher *publisher)
{
    propose_publish(publisher);
}
