#include "base/assert.h"
#include "base/minmax.h"
#include "server/loops/consensus_private.h"
#include "server/metrics/metrics.h"

/* Reads that wait for one confirmation of leadership (ReadIndex: section 6.4 of Ongaro's
 * dissertation). A follower asks its leader and may have to ask again; the answer to any question
 * put after the reads came serves them. One to an earlier life of this member may still be on its
 * way, and says less. */
struct read_round {
    struct list_node node;
    uint64_t context_first, context_last; /* of its own questions; contexts count up */
    uint64_t asked_ns;                    /* 0: to be asked again now */
    uint64_t until_ns;                    /* nobody can be asked: not waited for beyond */
    struct list_node reads;               /* struct read_request by request.waiting */
};

static struct read_request *read_of(struct list_node *node)
{
    return CONTAINER_OF(node, struct read_request, request.waiting);
}

static struct read_round *round_of(struct list_node *node)
{
    return CONTAINER_OF(node, struct read_round, node);
}

static void fail_read(struct consensus *c, struct read_request *read, enum api_error error)
{
    list_remove(&read->request.waiting);
    atomic_fetch_sub_explicit(&c->loops->reads_waiting, 1, memory_order_relaxed);
    metrics_add(METRIC_READ_INDEXES_FAILED, 1);
    read->ready(read, error, /* reader= */ 0);
}

void rounds_fail_reads(struct consensus *c, struct list_node *reads, enum api_error error)
{
    while (!list_is_empty(reads))
        fail_read(c, read_of(reads->next), error);
}

static void free_round(struct read_round *round)
{
    list_remove(&round->node);
    free(round);
}

void rounds_fail(struct consensus *c, enum api_error error)
{
    while (!list_is_empty(&c->rounds)) {
        struct read_round *round = round_of(c->rounds.next);
        rounds_fail_reads(c, &round->reads, error);
        free_round(round);
    }
}

static void expire_reads(struct consensus *c, struct list_node *reads, uint64_t now_ns)
{
    while (!list_is_empty(reads) && read_of(reads->next)->request.deadline_ns <= now_ns)
        fail_read(c, read_of(reads->next), API_TIMEOUT);
}

void rounds_expire(struct consensus *c, uint64_t now_ns)
{
    expire_reads(c, &c->reads, now_ns);
    for (struct list_node *node = c->rounds.next, *next; node != &c->rounds; node = next) {
        next = node->next;
        expire_reads(c, &round_of(node)->reads, now_ns);
        if (round_of(node)->until_ns <= now_ns)
            rounds_fail_reads(c, &round_of(node)->reads, API_LEADER_CHANGED);
        if (list_is_empty(&round_of(node)->reads))
            free_round(round_of(node));
    }
}

/* False: the core takes none now; the reads wait. */
static bool ask(struct consensus *c, struct read_round *round, uint64_t now_ns)
{
    if (raft_read_index(c->raft, c->round_next) != ST_OK)
        return false;
    round->context_last = c->round_next++;
    round->asked_ns = now_ns;
    round->until_ns = UINT64_MAX;
    return true;
}

static void begin_round(struct consensus *c, uint64_t now_ns)
{
    struct read_round *round = malloc(sizeof(*round));
    if (round == NULL)
        return; /* they wait for the next step */
    round->context_first = c->round_next;
    if (!ask(c, round, now_ns)) {
        free(round);
        return;
    }
    list_init(&round->reads);
    while (!list_is_empty(&c->reads)) {
        struct list_node *read = list_pop_front(&c->reads);
        read_of(read)->request.times.taken_ns = now_ns;
        list_push_back(&round->reads, read);
    }
    list_push_back(&c->rounds, &round->node);
}

/* A leader's core answers every round; a follower's question or its answer may be lost. */
static uint64_t ask_again(struct consensus *c, uint64_t now_ns)
{
    uint64_t again_ns = UINT64_MAX;
    LIST_FOREACH(node, &c->rounds)
    {
        struct read_round *round = round_of(node);
        if (c->was_leader && round->asked_ns != 0)
            continue;
        if (round->asked_ns == 0 || round->asked_ns + READ_RETRY_NS <= now_ns) {
            if (round->asked_ns != 0)
                metrics_add(METRIC_READ_INDEXES_SLOW, 1);
            if (!ask(c, round, now_ns))
                return now_ns + READ_RETRY_NS;
        }
        again_ns = min_u64(again_ns, round->asked_ns + READ_RETRY_NS);
    }
    return again_ns;
}

uint64_t rounds_start(struct consensus *c, uint64_t now_ns)
{
    if (c->leader_seen == 0)
        return UINT64_MAX;
    if (!list_is_empty(&c->reads))
        begin_round(c, now_ns);
    return ask_again(c, now_ns);
}

void rounds_leader_moved(struct consensus *c)
{
    LIST_FOREACH(node, &c->rounds)
    round_of(node)->asked_ns = 0;
}

static struct read_round *find_asked(struct consensus *c, uint64_t context)
{
    LIST_FOREACH(node, &c->rounds)
    {
        if (round_of(node)->context_last == context)
            return round_of(node);
    }
    return NULL;
}

void rounds_lost(struct consensus *c, const struct raft_ready *ready)
{
    for (uint32_t i = 0; i < ready->reads_lost_count; i++) {
        struct read_round *round = find_asked(c, ready->reads_lost[i]);
        if (round != NULL)
            round->asked_ns = 0;
    }
}

void rounds_leader_lost(struct consensus *c, uint64_t now_ns)
{
    LIST_FOREACH(node, &c->rounds)
    {
        round_of(node)->asked_ns = 0;
        round_of(node)->until_ns = now_ns + loops_election_ns(c->loops);
    }
}

/* Confirmed reads: those to be given to the readers now, and those that wait for apply. */
struct confirmed {
    struct inbox_node *now, **now_tail, *later, **later_tail;
    uint64_t now_count, now_ns;
};

static void confirm(struct read_round *round, raft_index index, raft_index applied,
                    struct confirmed *confirmed)
{
    while (!list_is_empty(&round->reads)) {
        struct read_request *read = read_of(list_pop_front(&round->reads));
        struct inbox_node *node = &read->request.node;
        read->request.index = index;
        read->request.times.committed_ns = confirmed->now_ns;
        node->next = NULL;
        struct inbox_node ***tail =
            index <= applied ? &confirmed->now_tail : &confirmed->later_tail;
        **tail = node;
        *tail = &node->next;
        confirmed->now_count += index <= applied;
    }
    free_round(round);
}

struct inbox_node *rounds_take_confirmed(struct consensus *c, const struct raft_ready *ready)
{
    raft_index applied = atomic_load_explicit(&c->loops->applied_index, memory_order_acquire);
    struct confirmed confirmed = {.now_ns = c->now_ns};
    confirmed.now_tail = &confirmed.now;
    confirmed.later_tail = &confirmed.later;
    for (uint32_t i = 0; i < ready->read_states_count; i++) {
        const struct raft_read_state *state = &ready->read_states[i];
        if (state->context >= c->round_next)
            continue; /* not asked in this life */
        /* A round that began later has a context above it. */
        while (!list_is_empty(&c->rounds) &&
               round_of(c->rounds.next)->context_first <= state->context)
            confirm(round_of(c->rounds.next), state->index, applied, &confirmed);
    }
    atomic_fetch_sub_explicit(&c->loops->reads_waiting, confirmed.now_count, memory_order_relaxed);
    readers_give(c->loops, confirmed.now);
    return confirmed.later;
}
