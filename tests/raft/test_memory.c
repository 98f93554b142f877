/* Fails the nth allocation for every n: the call that meets it changes nothing, and done again it
 * works; in the end all is as if there had been memory all along, and nothing is lost or leaked. */
#include "tests/raft/member.h"

#include "base/assert.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

struct failing {
    uint32_t countdown; /* allocations until the one that fails */
    bool fired;
    int64_t live;
};

static void *failing_resize(void *context, void *old, size_t size)
{
    struct failing *f = context;
    if (size == 0) {
        f->live -= old != NULL;
        free(old);
        return NULL;
    }
    if (!f->fired && f->countdown-- == 0) {
        f->fired = true;
        return NULL;
    }
    f->live += old == NULL;
    return realloc(old, size);
}

struct scene {
    struct member *m;
    struct failing failing;
    struct raft_memory memory;
};

static struct scene *scene_new(uint32_t fail_at, const struct raft_conf_state *conf_state)
{
    struct scene *s = calloc(1, sizeof(*s));
    assert_non_null(s);
    s->failing.countdown = fail_at;
    s->memory = (struct raft_memory){.resize = failing_resize, .context = &s->failing};
    struct raft_config config = member_config(1);
    config.memory = &s->memory;
    config.pre_vote = false;
    config.window_entries_max = 0; /* raft_compact() leaves nothing */
    s->m = member_new(&config, /* seed= */ 1);
    s->m->store_conf_state = *conf_state;
    enum status st = member_start(s->m);
    if (st == ST_NO_MEMORY)
        st = member_start(s->m);
    assert_int_equal(st, ST_OK);
    return s;
}

/* True when the failure had come, or there was none left to come. */
static bool scene_end(struct scene *s)
{
    bool fired = s->failing.fired;
    member_free(s->m);
    assert_int_equal(s->failing.live, 0);
    free(s);
    return fired;
}

static void assert_unchanged(const struct raft_status *a, const struct raft_status *b)
{
    assert_int_equal(a->hard_state.term, b->hard_state.term);
    assert_int_equal(a->hard_state.vote, b->hard_state.vote);
    assert_int_equal(a->hard_state.commit, b->hard_state.commit);
    assert_int_equal(a->role, b->role);
    assert_int_equal(a->leader, b->leader);
    assert_int_equal(a->applied, b->applied);
    assert_int_equal(a->last_index, b->last_index);
    assert_int_equal(a->durable.index, b->durable.index);
    assert_int_equal(a->window_bytes, b->window_bytes);
}

/* The call, and once more if there was no memory the first time. */
#define INSIST(s, call)                                                \
    do {                                                               \
        struct raft_status before = member_status((s)->m);             \
        bool had_ready = raft_has_ready((s)->m->raft);                 \
        enum status insist_st = (call);                                \
        if (insist_st == ST_NO_MEMORY) {                               \
            struct raft_status after = member_status((s)->m);          \
            assert_unchanged(&before, &after);                         \
            assert_int_equal(raft_has_ready((s)->m->raft), had_ready); \
            raft_check((s)->m->raft);                                  \
            insist_st = (call);                                        \
        }                                                              \
        assert_int_equal(insist_st, ST_OK);                            \
        raft_check((s)->m->raft);                                      \
    } while (0)

/* Takes every batch and finishes it, insisting at each call that may find no memory. */
static void settle(struct scene *s)
{
    while (raft_has_ready(s->m->raft)) {
        struct raft_ready *ready = NULL;
        INSIST(s, raft_ready(s->m->raft, &ready));
        const struct raft_append_work *append = &ready->append;
        for (uint32_t i = 0; i < append->responses_count; i++) {
            if (append->responses[i].to == 1)
                INSIST(s, raft_step(s->m->raft, &append->responses[i]));
        }
        for (uint32_t i = 0; i < ready->apply.entries_count; i++) {
            const struct raft_entry *entry = &ready->apply.entries[i];
            s->m->applied = entry->index;
            if (entry->type == RAFT_ENTRY_NORMAL)
                continue;
            struct slice change = raft_payload_slice(entry->payload);
            INSIST(s, raft_apply_conf_change(s->m->raft, entry->type, &change, &s->m->conf_state));
        }
        if (ready->apply.entries_count > 0)
            INSIST(s, raft_step(s->m->raft, &ready->apply.response));
        s->m->reads_count += ready->read_states_count;
        s->m->sent_count += ready->messages_count;
        for (uint32_t i = 0; i < ready->messages_count; i++)
            s->m->last_sent = ready->messages[i];
        for (uint32_t i = 0; i < ready->fetches_count; i++)
            s->m->fetches[s->m->fetches_count++] = ready->fetches[i];
        if (append->snapshot != NULL)
            s->m->applied = append->snapshot->last.index;
        raft_ready_release(ready);
    }
}

static void propose_many(struct scene *s, uint32_t count)
{
    struct raft_payload *payloads[200];
    ASSERT(count <= 200);
    for (uint32_t i = 0; i < count; i++) {
        payloads[i] = raft_payload_copy(SLICE("payload"));
        assert_non_null(payloads[i]);
    }
    raft_index first;
    INSIST(s, raft_propose(s->m->raft, payloads, count, &first));
    for (uint32_t i = 0; i < count; i++) {
        assert_true(atomic_load(&payloads[i]->references) >= 2);
        raft_payload_unref(payloads[i]);
    }
}

static void test_memory_failure_of_a_lone_voter_changes_nothing(void **state)
{
    (void)state;
    struct conf_change_single self = {.type = CONF_CHANGE_ADD_NODE, .node_id = 1};
    struct conf_change_single learner = {.type = CONF_CHANGE_ADD_LEARNER, .node_id = 2};
    struct raft_payload *found = conf_change_encode_v1(0, self, SLICE_EMPTY);
    struct raft_payload *add = conf_change_encode_v1(0, learner, SLICE_EMPTY);
    uint32_t fail_at = 0;
    do {
        struct scene *s = scene_new(fail_at++, &(struct raft_conf_state){0});
        raft_index index;
        INSIST(s, raft_bootstrap(s->m->raft, &found, 1));
        settle(s);
        INSIST(s, raft_campaign(s->m->raft));
        settle(s);
        propose_many(s, 3);
        INSIST(s, raft_read_index(s->m->raft, 1));
        settle(s);
        propose_many(s, 200);
        settle(s);
        INSIST(s, raft_propose_conf_change(s->m->raft, RAFT_ENTRY_CONF_CHANGE, add, &index));
        settle(s);
        raft_tick(s->m->raft);
        settle(s);
        assert_int_equal(s->m->applied, 206);
        assert_int_equal(s->m->reads_count, 1);
        assert_int_equal(s->m->conf_state.learners_count, 1);
        if (!scene_end(s))
            break;
    } while (true);
    assert_true(fail_at > 10);
    raft_payload_unref(found);
    raft_payload_unref(add);
}

static void receive(struct scene *s, struct raft_message message)
{
    message.to = 1;
    message.term = message.term != 0 ? message.term : member_status(s->m).hard_state.term;
    INSIST(s, raft_step(s->m->raft, &message));
}

/* An append to a peer that finds no memory is lost as on a network; the peer's next answer brings
 * it again, so in the end the peer has been sent everything. */
static void test_memory_failure_of_a_leader_loses_no_entry(void **state)
{
    (void)state;
    struct raft_conf_state three = {.voters = {1, 2, 3}, .voters_count = 3};
    uint32_t fail_at = 0;
    do {
        struct scene *s = scene_new(fail_at++, &three);
        INSIST(s, raft_campaign(s->m->raft));
        settle(s);
        receive(s, (struct raft_message){.type = RAFT_MSG_VOTE_RESP, .from = 2});
        settle(s);
        receive(s, (struct raft_message){.type = RAFT_MSG_APP_RESP, .from = 2, .index = 1});
        INSIST(s, raft_read_index(s->m->raft, 1));
        settle(s);
        propose_many(s, 100);
        settle(s);
        receive(s, (struct raft_message){.type = RAFT_MSG_HEARTBEAT_RESP, .from = 2});
        settle(s);
        receive(s, (struct raft_message){.type = RAFT_MSG_APP_RESP, .from = 2, .index = 101});
        settle(s);
        assert_int_equal(s->m->applied, 101);
        assert_true(s->m->sent_count >= 4);
        if (!scene_end(s))
            break;
    } while (true);
    assert_true(fail_at > 10);
}

static void test_memory_failure_of_a_follower_changes_nothing(void **state)
{
    (void)state;
    struct raft_conf_state three = {.voters = {1, 2, 3}, .voters_count = 3};
    struct raft_entry entries[100];
    uint32_t fail_at = 0;
    do {
        struct scene *s = scene_new(fail_at++, &three);
        for (uint32_t i = 0; i < 100; i++)
            entries[i] = (struct raft_entry){.term = 1 + i / 10, .index = i + 1};
        receive(s, (struct raft_message){.type = RAFT_MSG_APP,
                                         .from = 2,
                                         .term = 20,
                                         .entries = entries,
                                         .entries_count = 100});
        settle(s);
        receive(s, (struct raft_message){
                       .type = RAFT_MSG_HEARTBEAT, .from = 2, .context = SLICE("12345678")});
        /* A new leader's, with more context than fits what is there. */
        static const uint8_t context[5000];
        receive(s, (struct raft_message){.type = RAFT_MSG_HEARTBEAT,
                                         .from = 3,
                                         .term = 21,
                                         .context = slice_make(context, sizeof(context))});
        settle(s);
        for (uint32_t i = 0; i < 50; i++)
            entries[i] = (struct raft_entry){.term = 21, .index = 51 + i};
        receive(s, (struct raft_message){.type = RAFT_MSG_APP,
                                         .from = 3,
                                         .term = 21,
                                         .index = 50,
                                         .log_term = 5,
                                         .entries = entries,
                                         .entries_count = 50,
                                         .commit = 60});
        settle(s);
        assert_int_equal(member_status(s->m).last_index, 100);
        assert_int_equal(s->m->applied, 60);
        propose_many(s, 2); /* forwarded */
        settle(s);
        if (!scene_end(s))
            break;
    } while (true);
    assert_true(fail_at > 10);
}

static void insist_read(struct scene *s, enum raft_message_type type, raft_id from)
{
    struct raft_entry entry = {.payload = raft_payload_copy(SLICE("\7\0\0\0\0\0\0\0"))};
    assert_non_null(entry.payload);
    raft_term term = type == RAFT_MSG_READ_INDEX ? 0 : member_status(s->m).hard_state.term;
    struct raft_message message = {
        .type = type, .from = from, .to = 1, .term = term, .entries = &entry, .entries_count = 1};
    INSIST(s, raft_step(s->m->raft, &message));
    raft_payload_unref(entry.payload);
}

static void test_memory_failure_while_a_member_catches_up_changes_nothing(void **state)
{
    (void)state;
    struct raft_conf_state three = {.voters = {1, 2, 3}, .voters_count = 3};
    struct raft_snapshot_meta snapshot = {.last = {.index = 11, .term = 1}, .conf_state = three};
    const struct raft_entry entries[2] = {{.term = 1, .index = 1}, {.term = 1, .index = 2}};
    uint32_t fail_at = 0;
    do {
        struct scene *s = scene_new(fail_at++, &three);
        INSIST(s, raft_campaign(s->m->raft));
        settle(s);
        receive(s, (struct raft_message){.type = RAFT_MSG_VOTE_RESP, .from = 2});
        settle(s);
        propose_many(s, 10);
        settle(s);
        receive(s, (struct raft_message){.type = RAFT_MSG_APP_RESP, .from = 2, .index = 11});
        settle(s);
        assert_int_equal(s->m->applied, 11);
        raft_compact(s->m->raft, 11);
        receive(s, (struct raft_message){.type = RAFT_MSG_HEARTBEAT_RESP, .from = 3});
        settle(s);
        assert_int_equal(s->m->fetches_count, 1);
        INSIST(s, raft_entries_read(s->m->raft, 3, (struct raft_log_id){0}, entries, 2));
        settle(s);
        assert_int_equal(s->m->last_sent.entries_count, 2);
        receive(s, (struct raft_message){.type = RAFT_MSG_APP_RESP, .from = 3, .index = 2});
        settle(s);
        assert_int_equal(s->m->fetches_count, 2);
        assert_int_equal(s->m->fetches[1].first, 3);
        INSIST(s, raft_entries_read(s->m->raft, 3, (struct raft_log_id){0}, NULL, 0));
        settle(s);
        assert_int_equal(s->m->fetches[2].kind, RAFT_FETCH_SNAPSHOT);
        INSIST(s, raft_snapshot_offer(s->m->raft, 3, &snapshot));
        settle(s);
        assert_int_equal(s->m->last_sent.type, RAFT_MSG_SNAP);
        insist_read(s, RAFT_MSG_READ_INDEX, 2);
        settle(s);
        INSIST(s, raft_transfer_leader(s->m->raft, 2));
        settle(s);
        assert_int_equal(s->m->last_sent.type, RAFT_MSG_TIMEOUT_NOW);
        if (!scene_end(s))
            break;
    } while (true);
    assert_true(fail_at > 10);
}

static void test_memory_failure_while_a_snapshot_is_installed_changes_nothing(void **state)
{
    (void)state;
    struct raft_conf_state three = {.voters = {1, 2, 3}, .voters_count = 3};
    struct raft_snapshot_meta snapshot = {.last = {.index = 11, .term = 1}, .conf_state = three};
    const struct raft_entry old = {.term = 1, .index = 1}, next = {.term = 2, .index = 12};
    uint32_t fail_at = 0;
    do {
        struct scene *s = scene_new(fail_at++, &three);
        receive(
            s,
            (struct raft_message){
                .type = RAFT_MSG_APP, .from = 2, .term = 2, .entries = &old, .entries_count = 1});
        settle(s);
        receive(s, (struct raft_message){
                       .type = RAFT_MSG_SNAP, .from = 2, .term = 2, .snapshot = &snapshot});
        settle(s);
        assert_int_equal(s->m->applied, 11);
        receive(s, (struct raft_message){.type = RAFT_MSG_APP,
                                         .from = 2,
                                         .term = 2,
                                         .index = 11,
                                         .log_term = 1,
                                         .entries = &next,
                                         .entries_count = 1,
                                         .commit = 12});
        settle(s);
        assert_int_equal(s->m->applied, 12);
        INSIST(s, raft_read_index(s->m->raft, 7));
        settle(s);
        assert_int_equal(s->m->last_sent.type, RAFT_MSG_READ_INDEX);
        insist_read(s, RAFT_MSG_READ_INDEX_RESP, 2);
        settle(s);
        assert_int_equal(s->m->reads_count, 1);
        INSIST(s, raft_transfer_leader(s->m->raft, 3));
        settle(s);
        if (!scene_end(s))
            break;
    } while (true);
    assert_true(fail_at > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_failure_of_a_lone_voter_changes_nothing),
        cmocka_unit_test(test_memory_failure_of_a_leader_loses_no_entry),
        cmocka_unit_test(test_memory_failure_of_a_follower_changes_nothing),
        cmocka_unit_test(test_memory_failure_while_a_member_catches_up_changes_nothing),
        cmocka_unit_test(test_memory_failure_while_a_snapshot_is_installed_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
