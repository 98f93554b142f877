#include "raft/conf_change.h"

#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void test_conf_change_bytes_are_those_of_etcd(void **state)
{
    (void)state;
    struct conf_change_single add = {.type = CONF_CHANGE_ADD_LEARNER, .node_id = 300};
    struct raft_payload *payload = conf_change_encode_v1(5, add, SLICE("ctx"));
    assert_true(slice_eq(raft_payload_slice(payload), SLICE("\x08\x05\x10\x03\x18\xac\x02"
                                                            "\x22\x03"
                                                            "ctx")));
    raft_payload_unref(payload);
    payload = conf_change_encode_v1(0, (struct conf_change_single){.node_id = 1}, SLICE_EMPTY);
    assert_true(slice_eq(raft_payload_slice(payload), SLICE("\x08\x00\x10\x00\x18\x01")));
    raft_payload_unref(payload);
}

static void test_conf_change_decode_of_both_versions(void **state)
{
    (void)state;
    struct conf_change change;
    assert_int_equal(conf_change_decode(RAFT_ENTRY_CONF_CHANGE,
                                        SLICE("\x08\x05\x10\x01\x18\x07\x22\x01z\x28\x09"),
                                        &change),
                     ST_OK); /* field 5 is skipped */
    assert_int_equal(change.id, 5);
    assert_int_equal(change.changes_count, 1);
    assert_int_equal(change.changes[0].type, CONF_CHANGE_REMOVE_NODE);
    assert_int_equal(change.changes[0].node_id, 7);
    assert_true(slice_eq(change.context, SLICE("z")));
    assert_false(conf_change_is_enter(&change));

    assert_int_equal(conf_change_decode(RAFT_ENTRY_CONF_CHANGE_V2,
                                        SLICE("\x08\x01\x12\x04\x08\x03\x10\x02\x12\x02\x10\x03"),
                                        &change),
                     ST_OK);
    assert_int_equal(change.transition, CONF_CHANGE_JOINT_IMPLICIT);
    assert_int_equal(change.changes_count, 2);
    assert_int_equal(change.changes[0].type, CONF_CHANGE_ADD_LEARNER);
    assert_int_equal(change.changes[1].node_id, 3);
    assert_true(conf_change_is_enter(&change));

    assert_int_equal(conf_change_decode(RAFT_ENTRY_CONF_CHANGE_V2, SLICE_EMPTY, &change), ST_OK);
    assert_true(conf_change_is_leave(&change));
}

static void test_conf_change_decode_refuses_what_is_none(void **state)
{
    (void)state;
    struct conf_change change;
    static const char *const bad[] = {
        "\x08",          /* ends early */
        "\x10\x09",      /* no such type */
        "\x22\x7fshort", /* longer than the rest */
        "\x0f\x01",      /* no such wire type */
        "\x1a\x01x",     /* a number as bytes */
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(
            conf_change_decode(RAFT_ENTRY_CONF_CHANGE, slice_from_str(bad[i]), &change),
            ST_INVALID);
    assert_int_equal(conf_change_decode(RAFT_ENTRY_CONF_CHANGE_V2, SLICE("\x08\x03"), &change),
                     ST_INVALID);
    assert_int_equal(conf_change_decode(RAFT_ENTRY_NORMAL, SLICE_EMPTY, &change), ST_INVALID);
    uint8_t many[2 * (CONF_CHANGES_MAX + 1)];
    for (size_t i = 0; i < sizeof(many); i += 2) {
        many[i] = 0x12;
        many[i + 1] = 0;
    }
    assert_int_equal(
        conf_change_decode(RAFT_ENTRY_CONF_CHANGE_V2, slice_make(many, sizeof(many)), &change),
        ST_INVALID);
}

static void test_changer_refuses_more_members_than_there_is_room_for(void **state)
{
    (void)state;
    static struct tracker tracker;
    tracker = (struct tracker){0};
    const char *why = NULL;
    for (raft_id id = 1; id <= RAFT_MEMBERS_MAX + 1 && why == NULL; id++) {
        struct conf_change_single change = {
            .type = id == 1 ? CONF_CHANGE_ADD_NODE : CONF_CHANGE_ADD_LEARNER, .node_id = id};
        struct tracker changed = tracker;
        why = changer_simple(&changed, &change, 1, 0);
        if (why == NULL)
            tracker = changed;
        else
            assert_int_equal(id, RAFT_MEMBERS_MAX + 1);
    }
    assert_non_null(why);
    tracker_check(&tracker);
}

static bool same_set(const raft_id *a, uint32_t a_count, const raft_id *b, uint32_t b_count)
{
    return a_count == b_count && memcmp(a, b, a_count * sizeof(*a)) == 0;
}

/* Random changes, legal or not; what is restored from any conf state is that very configuration. */
static void test_changer_restores_every_configuration_it_makes(void **state)
{
    (void)state;
    struct rng rng;
    rng_seed(&rng, /* seed= */ 7);
    static struct tracker tracker;
    tracker = (struct tracker){0};
    uint32_t joint_count = 0;
    for (uint32_t round = 0; round < 5000; round++) {
        struct conf_change change = {
            .transition = (enum conf_change_transition)rng_below(&rng, 3),
            .changes_count = (uint32_t)rng_below(&rng, 4),
        };
        for (uint32_t i = 0; i < change.changes_count; i++)
            change.changes[i] = (struct conf_change_single){
                .type = (enum conf_change_type)rng_below(&rng, 4),
                .node_id = rng_below(&rng, 6),
            };
        struct tracker changed = tracker;
        if (changer_apply(&changed, &change, round) != NULL)
            continue;
        tracker = changed;
        tracker_check(&tracker);
        joint_count += tracker_is_joint(&tracker);
        struct raft_conf_state before, after;
        tracker_conf_state(&tracker, &before);
        struct tracker restored = {0};
        assert_null(changer_restore(&restored, &before, round));
        tracker_check(&restored);
        tracker_conf_state(&restored, &after);
        assert_true(same_set(before.voters, before.voters_count, after.voters, after.voters_count));
        assert_true(
            same_set(before.learners, before.learners_count, after.learners, after.learners_count));
        assert_true(same_set(before.voters_outgoing, before.voters_outgoing_count,
                             after.voters_outgoing, after.voters_outgoing_count));
        assert_true(same_set(before.learners_next, before.learners_next_count, after.learners_next,
                             after.learners_next_count));
        assert_int_equal(before.auto_leave, after.auto_leave);
    }
    assert_true(joint_count > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conf_change_bytes_are_those_of_etcd),
        cmocka_unit_test(test_conf_change_decode_of_both_versions),
        cmocka_unit_test(test_conf_change_decode_refuses_what_is_none),
        cmocka_unit_test(test_changer_refuses_more_members_than_there_is_room_for),
        cmocka_unit_test(test_changer_restores_every_configuration_it_makes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
