/* Whether a change of membership may be proposed, and which version a cluster runs as. */
#include "server/state/cluster_version.h"
#include "server/state/reconfig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define NOW_NS 100000000000ULL

/* A table by a text: one character a member, ids from 1. S: a started voter, u: an unstarted one, L
 * and l: learners likewise. */
static struct members *table(const char *text)
{
    struct members *members = NULL;
    for (raft_id id = 1; *text != '\0'; id++, text++) {
        const struct member_row row = {.id = id,
                                       .name =
                                           *text == 'S' || *text == 'L' ? SLICE("n") : SLICE_EMPTY,
                                       .is_learner = (*text | 0x20) == 'l'};
        struct members *next;
        assert_int_equal(members_with(members, &row, &next), ST_OK);
        members_unref(members);
        members = next;
    }
    return members;
}

/* One character a member: '+' connected well, '~' for less than 5 s, '-' not at all. */
static uint64_t active_since(void *context, raft_id id)
{
    const char *text = context;
    assert_true(id != 1); /* self */
    if (id > strlen(text) || text[id - 1] == '-')
        return 0;
    return text[id - 1] == '+' ? NOW_NS - RECONFIG_CONNECTED_NS - 1 : NOW_NS - 4000000000ULL;
}

static struct reconfig_peers peers_of(const char *connections)
{
    return (struct reconfig_peers){.self = 1,
                                   .now_ns = NOW_NS,
                                   .active_since_ns = active_since,
                                   .context = (void *)(uintptr_t)connections};
}

struct add_case {
    const char *members, *connections;
    bool learner;
    enum api_error wanted;
};

static void test_add_is_checked_as_etcd_does(void **state)
{
    (void)state;
    static const struct add_case cases[] = {
        {"uuu", "+++", false, API_NOT_ENOUGH_STARTED},
        {"Su", "++", false, API_NOT_ENOUGH_STARTED},
        {"Suu", "+++", false, API_NOT_ENOUGH_STARTED},
        {"S", "+", false, API_OK}, /* how a lost cluster is rebuilt */
        {"SSu", "+++", false, API_NOT_ENOUGH_STARTED},
        {"SSS", "+++", false, API_OK},
        {"SSSu", "++++", false, API_OK},
        {"", "", false, API_NOT_ENOUGH_STARTED},
        {"SSll", "++--", false, API_OK},
        {"SuLL", "++++", false, API_NOT_ENOUGH_STARTED},
        {"SSS", "++-", false, API_UNHEALTHY},
        {"SSS", "++~", false, API_UNHEALTHY},
        {"SSS", "+--", true, API_UNHEALTHY},
        {"Su", "++", true, API_OK},
        {"Su", "+-", true, API_UNHEALTHY},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct members *members = table(cases[i].members);
        struct reconfig_peers peers = peers_of(cases[i].connections);
        assert_int_equal(reconfig_check_add(members, cases[i].learner, &peers), cases[i].wanted);
        members_unref(members);
    }
}

static void test_remove_is_checked_as_etcd_does(void **state)
{
    (void)state;
    static const struct {
        const char *members, *connections;
        raft_id id;
        enum api_error wanted;
    } cases[] = {
        {"S", "+", 1, API_NOT_ENOUGH_STARTED},
        {"uuu", "+++", 1, API_NOT_ENOUGH_STARTED},
        {"Su", "+-", 2, API_OK},
        {"SSu", "+++", 2, API_NOT_ENOUGH_STARTED},
        {"SSS", "+++", 3, API_OK},
        {"SSSu", "++++", 3, API_OK},
        {"SSSu", "++++", 4, API_OK},
        {"SL", "++", 1, API_NOT_ENOUGH_STARTED},
        {"SuL", "+++", 1, API_NOT_ENOUGH_STARTED},
        {"Sul", "+--", 2, API_OK},
        {"SSl", "+--", 3, API_OK}, /* learners are nobody's quorum */
        {"SSS", "++-", 3, API_OK}, /* it is down anyway */
        {"SSS", "++-", 2, API_UNHEALTHY},
        {"SSS", "++-", 1, API_UNHEALTHY},
        {"SSS", "++~", 3, API_UNHEALTHY},
        {"SSSSS", "++++-", 2, API_OK},
        {"SSSSS", "+++--", 2, API_UNHEALTHY},
        {"SSS", "+++", 9, API_OK}, /* apply says that it is not there */
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct members *members = table(cases[i].members);
        struct reconfig_peers peers = peers_of(cases[i].connections);
        assert_int_equal(reconfig_check_remove(members, cases[i].id, &peers), cases[i].wanted);
        members_unref(members);
    }
}

static void test_promote_counts_the_learner_as_started(void **state)
{
    (void)state;
    static const struct {
        const char *members;
        enum api_error wanted;
    } cases[] = {{"SL", API_OK},
                 {"Sul", API_OK},
                 {"Suul", API_NOT_ENOUGH_STARTED},
                 {"ul", API_NOT_ENOUGH_STARTED}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct members *members = table(cases[i].members);
        assert_int_equal(reconfig_check_promote(members), cases[i].wanted);
        members_unref(members);
    }
    assert_true(reconfig_learner_is_ready(90, 100));
    assert_false(reconfig_learner_is_ready(89, 100));
    assert_true(reconfig_learner_is_ready(1000000, 1000000));
    assert_false(reconfig_learner_is_ready(0, 1));
}

/* ---- versions ---- */

static void test_version_is_read(void **state)
{
    (void)state;
    struct version version;
    assert_int_equal(version_parse(SLICE("3.5.15"), &version), ST_OK);
    assert_int_equal(version.patch, 15);
    assert_int_equal(version_parse(SLICE("3.6.0-rc.1"), &version), ST_OK);
    assert_int_equal(version.minor, 6);
    static const char *const bad[] = {"", "3", "3.5", "3.5.", "a.b.c", "3.5.1x", "999999.1.1"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(version_parse(slice_from_str(bad[i]), &version), ST_INVALID);
    assert_int_equal(version_parse_target(SLICE("3.4"), &version), ST_OK);
    assert_int_equal(version_parse_target(SLICE("3.4.9"), &version), ST_OK);
    assert_int_equal(version.patch, 0);
    assert_int_equal(version_parse_target(SLICE("3"), &version), ST_INVALID);
    assert_int_equal(version_parse_target(SLICE("3.4.0.1"), &version), ST_INVALID);
}

static const char *decide(const char *const *servers, const char *current)
{
    static char out[VERSION_TEXT_BYTES];
    struct slice texts[4];
    uint32_t count = 0;
    for (; servers[count] != NULL; count++)
        texts[count] = slice_from_str(servers[count]);
    return cluster_version_decide(texts, count, current, out) ? out : NULL;
}

static void test_cluster_version_is_the_lowest_of_the_members(void **state)
{
    (void)state;
    static const char *const equal[] = {"3.5.15", "3.5.9", NULL};
    static const char *const mixed[] = {"3.6.1", "3.5.15", "3.6.0", NULL};
    static const char *const unknown[] = {"3.5.15", "", NULL};
    static const char *const old[] = {"3.4.30", "3.5.15", NULL};
    static const char *const older[] = {"3.3.0", NULL};
    assert_string_equal(decide(equal, ""), "3.5.0");
    assert_string_equal(decide(mixed, ""), "3.5.0");
    assert_string_equal(decide(unknown, ""), CLUSTER_VERSION_MIN);
    assert_null(decide(unknown, "3.4.0"));
    assert_null(decide(equal, "3.5.0"));
    assert_string_equal(decide(equal, "3.4.0"), "3.5.0");
    assert_string_equal(decide(equal, "3.0.0"), "3.5.0");
    assert_string_equal(decide(old, "3.5.0"), "3.4.0"); /* the end of a downgrade */
    assert_null(decide(older, "3.5.0"));
}

static void test_cluster_is_joined_by_its_version(void **state)
{
    (void)state;
    const struct version own = {3, 5, 15};
    const struct slice fine[] = {SLICE("not_decided"), SLICE("3.5.0"), SLICE_EMPTY};
    assert_true(cluster_version_is_joinable(fine, 3, own, false));
    assert_false(cluster_version_is_joinable(fine, 1, own, false)); /* nothing is known */
    const struct slice high[] = {SLICE("3.5.0"), SLICE("3.6.0")};
    assert_false(cluster_version_is_joinable(high, 2, own, false));
    assert_true(cluster_version_is_joinable(high + 1, 1, own, true));
    assert_false(cluster_version_is_joinable(high, 1, own, true));
    const struct slice low[] = {SLICE("2.3.0")};
    assert_false(cluster_version_is_joinable(low, 1, own, false));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_add_is_checked_as_etcd_does),
        cmocka_unit_test(test_remove_is_checked_as_etcd_does),
        cmocka_unit_test(test_promote_counts_the_learner_as_started),
        cmocka_unit_test(test_version_is_read),
        cmocka_unit_test(test_cluster_version_is_the_lowest_of_the_members),
        cmocka_unit_test(test_cluster_is_joined_by_its_version),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
