#include "server/state/machine.h"
#include "storage/mvcc.h"
#include "tests/sim/cluster_private.h"

#include <setjmp.h>
#include <stdarg.h>
/* cmocka.h wants the two above */
#include <cmocka.h>

#include <stdlib.h>

/* Grows a table of 64-bit facts so that index is in it; new ones are 0: not known. */
static void reserve(uint64_t **table, uint64_t *count, uint64_t index)
{
    if (index < *count)
        return;
    uint64_t wanted = (index + 1) * 2;
    uint64_t *grown = realloc(*table, wanted * sizeof(*grown));
    assert_non_null(grown);
    for (uint64_t i = *count; i < wanted; i++)
        grown[i] = 0;
    *table = grown;
    *count = wanted;
}

static void check_leader(struct cluster_member *m, const struct raft_status *status)
{
    struct cluster_history *history = &m->cluster->history;
    raft_term term = status->hard_state.term;
    if (status->role != RAFT_LEADER)
        return;
    reserve(&history->leader_of_term, &history->terms_count, term);
    raft_id *leader = &history->leader_of_term[term];
    if (*leader != 0 && *leader != m->id)
        fail_msg("seed %u: two leaders in term %u", (unsigned)m->cluster->options.seed,
                 (unsigned)term);
    *leader = m->id;
}

/* The term says which entry it is: a leader never has two at one index. */
static void check_applied(struct cluster_member *m)
{
    struct cluster_history *history = &m->cluster->history;
    struct raft_log_id applied = machine_applied(m->machine);
    if (applied.index == 0)
        return;
    assert_true(applied.index >= m->applied_seen.index);
    m->applied_seen = applied;
    reserve(&history->term_of_index, &history->indexes_count, applied.index);
    raft_term *term = &history->term_of_index[applied.index];
    if (*term != 0 && *term != applied.term)
        fail_msg("seed %u: member %u applied entry %u of term %u, others that of term %u",
                 (unsigned)m->cluster->options.seed, m->number, (unsigned)applied.index,
                 (unsigned)applied.term, (unsigned)*term);
    *term = applied.term;
}

void cluster_check_step(struct cluster_member *m)
{
    struct raft_status status;
    raft_get_status(m->raft, &status);
    if (m->cluster->steps_count % 16 == 0)
        raft_check(m->raft);
    check_leader(m, &status);
    check_applied(m);
}

/* ---- at rest ---- */

static bool all_applied_alike(struct cluster *cluster, void *context)
{
    (void)context;
    raft_index index = 0;
    for (uint32_t i = 0; i < CLUSTER_MEMBERS_MAX; i++) {
        const struct cluster_member *m = &cluster->members[i];
        if (!m->running || m->removed)
            continue;
        raft_index applied = machine_applied(m->machine).index;
        if (applied == 0 || (index != 0 && applied != index))
            return false;
        index = applied;
    }
    return true;
}

static void compare_states(struct cluster *cluster)
{
    bool first = true;
    uint32_t expected = 0;
    for (uint32_t i = 0; i < CLUSTER_MEMBERS_MAX; i++) {
        struct cluster_member *m = &cluster->members[i];
        if (!m->running || m->removed)
            continue;
        uint32_t hash;
        int64_t current, compact;
        assert_int_equal(mvcc_hash_kv(m->mvcc, 0, 0, &hash, &current, &compact), ST_OK);
        if (!first && hash != expected)
            fail_msg("seed %u: member %u holds another state", (unsigned)cluster->options.seed, i);
        expected = hash;
        first = false;
        cluster_check_puts(m, UINT64_MAX);
    }
}

/* A client that does not give up: what it is refused it sends again. */
static void put_through(struct cluster *cluster, uint32_t member)
{
    uint64_t until_ns = cluster->now_ns + 60 * NS_PER_S;
    for (;;) {
        struct operation *put = cluster_put(cluster, member);
        while (put->state == OPERATION_OPEN)
            if (!cluster_step(cluster, until_ns))
                fail_msg("seed %u: no put through member %u succeeds",
                         (unsigned)cluster->options.seed, member);
        if (put->state == OPERATION_DONE)
            return;
    }
}

void cluster_settle(struct cluster *cluster)
{
    for (uint32_t i = 0; i < CLUSTER_MEMBERS_MAX; i++) {
        struct cluster_member *m = &cluster->members[i];
        for (uint32_t j = 0; j < CLUSTER_MEMBERS_MAX; j++) {
            struct network_link *link = network_link(cluster->network, i, j);
            link->cut = false;
            link->loss_permille = 0;
        }
        m->stall_until_ns = 0;
        if (m->exists && !m->running && !m->removed)
            cluster_start(cluster, i);
    }
    for (uint32_t i = 0; i < CLUSTER_MEMBERS_MAX; i++) {
        if (cluster->members[i].running && !cluster->members[i].removed)
            put_through(cluster, i);
    }
    cluster_until(cluster, all_applied_alike, NULL, 60 * NS_PER_S, "all members apply the same");
    compare_states(cluster);
}
