#include "server/run/forward.h"

#include "base/list.h"
#include "base/minmax.h"
#include "server/loops/loops.h"
#include "server/peers/fetch.h"
#include "base/clock_real.h"
#include "server/services/services.h"
#include "server/state/machine.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>

#define AGAIN_MS 100 /* between two tries */

/* API_LEADER_CHANGED: nobody has said yes or no yet. */
static enum api_error ask(const struct promotion_forward *forward, struct slice url,
                          uint32_t timeout_ms, struct peer_fetched *out)
{
    char text[MEMBER_TEXT_MAX + 1], path[64];
    snprintf(text, sizeof(text), "%.*s", (int)url.len, (const char *)url.data);
    snprintf(path, sizeof(path), "/members/promote/%" PRIu64, forward->id);
    const struct peer_fetch fetch = {
        .url = text, .method = "POST", .path = path, .timeout_ms = timeout_ms};
    if (peer_fetch(&fetch, out) != ST_OK)
        return API_LEADER_CHANGED;
    return promotion_error_of(out->status, buf_slice(&out->body));
}

static enum api_error ask_leader(struct forwarder *f, const struct promotion_forward *forward,
                                 uint64_t now_ns, struct peer_fetched *out)
{
    struct loops_status status;
    loops_get_status(f->loops, &status);
    struct members *members = machine_members(f->machine);
    const struct member_row *leader = members_find(members, status.leader);
    enum api_error error = API_LEADER_CHANGED;
    uint32_t timeout_ms = (uint32_t)((forward->deadline_ns - now_ns) / NS_PER_MS) + 1;
    for (uint32_t i = 0; leader != NULL && i < leader->peer_urls_count; i++) {
        buf_deinit(&out->body);
        *out = (struct peer_fetched){0};
        error = ask(forward, leader->peer_urls[i], timeout_ms, out);
        if (error != API_LEADER_CHANGED)
            break;
    }
    members_unref(members);
    return error;
}

static void carry(struct forwarder *f, struct promotion_forward *forward)
{
    struct peer_fetched fetched = {0};
    enum api_error error = API_LEADER_CHANGED;
    for (;;) {
        uint64_t now_ns = clock_monotonic_ns(clock_real());
        if (now_ns >= forward->deadline_ns || atomic_load(&f->thread.stop))
            break;
        error = ask_leader(f, forward, now_ns, &fetched);
        if (error != API_LEADER_CHANGED)
            break;
        poll(NULL, 0, AGAIN_MS);
    }
    forward->done(forward, error == API_LEADER_CHANGED ? API_TIMEOUT : error,
                  buf_slice(&fetched.body));
    buf_deinit(&fetched.body);
}

static uint64_t step(void *context, uint64_t now_ns)
{
    (void)now_ns;
    struct forwarder *f = context;
    for (struct inbox_node *node = inbox_take(&f->inbox), *next; node != NULL; node = next) {
        next = node->next;
        carry(f, CONTAINER_OF(node, struct promotion_forward, node));
    }
    return UINT64_MAX;
}

static void wake(void *context)
{
    struct forwarder *f = context;
    thread_wake(&f->thread);
}

enum status forwarder_start(struct forwarder *f, struct loops *loops, struct machine *machine)
{
    f->loops = loops;
    f->machine = machine;
    inbox_init(&f->inbox, wake, f);
    enum status st = thread_init(&f->thread, "forward", clock_real(), step, f);
    return st == ST_OK ? thread_start(&f->thread) : st;
}

void forwarder_give(struct forwarder *f, struct promotion_forward *forward)
{
    inbox_push(&f->inbox, &forward->node);
}

void forwarder_stop(struct forwarder *f)
{
    if (f->loops == NULL)
        return;
    thread_stop(&f->thread);
    atomic_store(&f->thread.stop, true);
    step(f, 0);
    thread_deinit(&f->thread);
}
