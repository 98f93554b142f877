/* Random schedules with a seed: work completes late, in the order of its queue; the process dies at
 * any moment, with or without the writes under way. */
#include "tests/raft/member.h"

#include "base/minmax.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <stddef.h>
#include <cmocka.h>

#define SEEDS 60U
#define STEPS 3000U

static const raft_id me = 1;

/* ---- a lone voter ---- */

struct lone {
    struct member *m;
    struct rng rng;
    struct raft_log_id acknowledged[MEMBER_ENTRIES_MAX]; /* what any life applied */
    raft_index acknowledged_last;
    raft_index read_floor[MEMBER_READS_MAX]; /* by context: acknowledged when the read began */
    uint32_t reads_begun;
    raft_term term;
};

static void check_lone(struct lone *l)
{
    struct member *m = l->m;
    raft_check(m->raft);
    member_check_durable(m);
    for (raft_index i = l->acknowledged_last + 1; i <= m->applied; i++)
        l->acknowledged[i] = m->applied_ids[i];
    l->acknowledged_last = max_u64(l->acknowledged_last, m->applied);
    for (raft_index i = m->store_applied + 1; i <= m->applied; i++)
        assert_int_equal(m->applied_ids[i].term, l->acknowledged[i].term);
    for (uint32_t i = 0; i < m->reads_count; i++)
        assert_true(m->reads[i].index >= l->read_floor[m->reads[i].context]);
    m->reads_count = m->reads_lost_count = 0;
    struct raft_status status = member_status(m);
    assert_true(status.hard_state.term >= l->term);
    l->term = status.hard_state.term;
}

static void restart(struct lone *l)
{
    member_crash_after(l->m, (uint32_t)rng_below(&l->rng, 4));
    l->m->reads_count = l->m->reads_lost_count = 0;
    l->reads_begun = 0;
    assert_int_equal(member_start(l->m), ST_OK);
    /* Terms that never reached the disk may come again. */
    l->term = member_status(l->m).hard_state.term;
    assert_true(member_status(l->m).last_index >= l->acknowledged_last);
}

static void propose(struct lone *l)
{
    struct raft_payload *payloads[8];
    uint32_t count = 1 + (uint32_t)rng_below(&l->rng, 8);
    for (uint32_t i = 0; i < count; i++) {
        payloads[i] = raft_payload_new(rng_below(&l->rng, 200));
        assert_non_null(payloads[i]);
        memset(payloads[i]->data, (int)i, payloads[i]->len);
    }
    raft_index first;
    enum status st = raft_propose(l->m->raft, payloads, count, &first);
    assert_true(st == ST_OK || st == ST_DROPPED || st == ST_TOO_BIG);
    for (uint32_t i = 0; i < count; i++)
        raft_payload_unref(payloads[i]);
}

static void begin_read(struct lone *l)
{
    if (l->reads_begun == MEMBER_READS_MAX)
        return;
    l->read_floor[l->reads_begun] = l->acknowledged_last;
    enum status st = raft_read_index(l->m->raft, l->reads_begun);
    assert_true(st == ST_OK || st == ST_DROPPED);
    l->reads_begun++;
}

static void one_step(struct lone *l)
{
    struct member *m = l->m;
    uint64_t choice = rng_below(&l->rng, 100);
    if (choice < 20)
        propose(l);
    else if (choice < 45)
        member_take_ready(m);
    else if (choice < 65)
        member_finish_append(m);
    else if (choice < 82)
        member_finish_apply(m);
    else if (choice < 88)
        begin_read(l);
    else if (choice < 92)
        raft_tick(m->raft);
    else if (choice < 95)
        member_commit_store(m);
    else if (choice < 97)
        raft_compact(m->raft, m->store_applied);
    else if (choice < 99)
        (void)!raft_campaign(m->raft);
    else
        restart(l);
    if (m->appends.count + m->applies.count > 150)
        member_settle(m);
}

static void run_lone(uint64_t seed)
{
    struct lone *l = calloc(1, sizeof(*l));
    assert_non_null(l);
    rng_seed(&l->rng, seed);
    struct raft_config config = member_config(me);
    config.pre_vote = rng_below(&l->rng, 2) == 0;
    config.apply_unstable = rng_below(&l->rng, 2) == 0;
    config.apply_bytes_max = 1 + rng_below(&l->rng, 2000);
    config.uncommitted_bytes_max = rng_below(&l->rng, 2) * 5000;
    config.window_entries_max = (uint32_t)rng_below(&l->rng, 100);
    l->m = member_new(&config, seed);
    member_found(l->m, &me, 1);
    member_lead(l->m);
    for (uint32_t i = 0; i < STEPS && l->m->disk_last + 100 < MEMBER_ENTRIES_MAX; i++) {
        one_step(l);
        check_lone(l);
    }
    /* In the end it is quiet, and everything that was proposed is applied. */
    member_settle(l->m);
    if (member_status(l->m).role != RAFT_LEADER)
        member_lead(l->m);
    check_lone(l);
    struct raft_status status = member_status(l->m);
    assert_int_equal(status.applied, status.last_index);
    assert_int_equal(status.unstable_bytes, 0);
    member_free(l->m);
    free(l);
}

static void test_random_lone_voter_keeps_what_it_acknowledged(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        print_message("seed %llu\r", (unsigned long long)seed);
        run_lone(seed);
    }
}

/* ---- a follower under changing leaders, whose logs truncate its own ---- */

#define TRUTH_MAX 6000U

struct leaders {
    struct member *m;
    struct rng rng;
    raft_term terms[TRUTH_MAX]; /* of the leader's log, by index */
    raft_index last, committed;
    raft_term term;
    raft_id leader;
};

static void new_leader(struct leaders *l)
{
    l->term = max_u64(l->term, member_status(l->m).hard_state.term) + 1;
    l->leader = 2 + rng_below(&l->rng, 2);
    l->last = l->committed + rng_below(&l->rng, l->last - l->committed + 1);
    l->terms[++l->last] = l->term;
}

static void extend(struct leaders *l)
{
    for (uint64_t i = rng_below(&l->rng, 4); i > 0; i--)
        l->terms[++l->last] = l->term;
}

static void send_append(struct leaders *l)
{
    raft_index low = l->committed > 3 ? l->committed - 3 : 0;
    raft_index prev = low + rng_below(&l->rng, l->last - low + 1);
    uint32_t count = (uint32_t)rng_below(&l->rng, min_u64(l->last - prev, 6) + 1);
    struct raft_entry entries[6];
    struct raft_payload *payload = raft_payload_copy(SLICE("x"));
    assert_non_null(payload);
    for (uint32_t i = 0; i < count; i++) {
        entries[i] = (struct raft_entry){
            .index = prev + 1 + i, .term = l->terms[prev + 1 + i], .payload = payload};
        if (entries[i].index == 1)
            entries[i].payload = NULL;
    }
    struct raft_message message = {
        .type = RAFT_MSG_APP,
        .from = l->leader,
        .to = me,
        .term = l->term,
        .index = prev,
        .log_term = l->terms[prev],
        .entries = entries,
        .entries_count = count,
        .commit = l->committed,
    };
    assert_int_equal(raft_step(l->m->raft, &message), ST_OK);
    raft_payload_unref(payload);
}

static void ask_for_vote(struct leaders *l)
{
    struct raft_message message = {
        .type = RAFT_MSG_VOTE,
        .from = 2 + rng_below(&l->rng, 2),
        .to = me,
        .term = l->term + rng_below(&l->rng, 2),
        .index = l->last,
        .log_term = l->terms[l->last],
    };
    if (message.term > 0)
        assert_int_equal(raft_step(l->m->raft, &message), ST_OK);
}

static void follower_step(struct leaders *l)
{
    struct member *m = l->m;
    uint64_t choice = rng_below(&l->rng, 100);
    if (choice < 5)
        new_leader(l);
    else if (choice < 15)
        extend(l);
    else if (choice < 40)
        send_append(l);
    else if (choice < 45)
        l->committed += rng_below(&l->rng, l->last - l->committed + 1);
    else if (choice < 48)
        ask_for_vote(l);
    else if (choice < 65)
        member_take_ready(m);
    else if (choice < 80)
        member_finish_append(m);
    else if (choice < 92)
        member_finish_apply(m);
    else if (choice < 95)
        member_commit_store(m);
    else if (choice < 97)
        raft_compact(m->raft, m->store_applied);
    else if (choice < 98)
        raft_tick(m->raft);
    else if (choice < 99) {
        member_crash_after(m, (uint32_t)rng_below(&l->rng, 4));
        assert_int_equal(member_start(m), ST_OK);
    }
    if (m->appends.count + m->applies.count > 150)
        member_settle(m);
}

static void run_follower(uint64_t seed)
{
    struct leaders *l = calloc(1, sizeof(*l));
    assert_non_null(l);
    rng_seed(&l->rng, seed);
    struct raft_config config = member_config(me);
    config.apply_unstable = seed % 2 == 0;
    config.check_quorum = seed % 3 == 0;
    config.window_entries_max = (uint32_t)rng_below(&l->rng, 50);
    l->m = member_new(&config, seed);
    l->m->store_conf_state = (struct raft_conf_state){.voters = {1, 2, 3}, .voters_count = 3};
    assert_int_equal(member_start(l->m), ST_OK);
    new_leader(l);
    for (uint32_t i = 0; i < STEPS && l->last + 10 < TRUTH_MAX; i++) {
        follower_step(l);
        raft_check(l->m->raft);
        member_check_durable(l->m);
        /* What is applied is what the leaders committed. */
        assert_true(l->m->applied <= l->committed);
        for (raft_index at = l->m->store_applied + 1; at <= l->m->applied; at++)
            assert_int_equal(l->m->applied_ids[at].term, l->terms[at]);
    }
    member_settle(l->m);
    assert_int_equal(member_status(l->m).unstable_bytes, 0);
    member_free(l->m);
    free(l);
}

static void test_random_follower_keeps_its_durable_id_true(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        print_message("seed %llu\r", (unsigned long long)seed);
        run_follower(seed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_lone_voter_keeps_what_it_acknowledged),
        cmocka_unit_test(test_random_follower_keeps_its_durable_id_true),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
