/* Which member's data is not that of the others. */
#include "server/state/corruption.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

struct cluster {
    struct hash_answer own[2]; /* before and after catching up */
    struct hash_answer others[MEMBERS_MAX];
    uint32_t others_count, own_calls;
    enum api_error own_error, catch_up_error;
    int64_t asked_revision;
};

static enum api_error own(void *context, int64_t revision, struct hash_answer *out)
{
    struct cluster *c = context;
    assert_int_equal(revision, 0);
    *out = c->own[c->own_calls++];
    return c->own_error;
}

static uint32_t others(void *context, int64_t revision, struct hash_answer out[MEMBERS_MAX])
{
    struct cluster *c = context;
    c->asked_revision = revision;
    memcpy(out, c->others, c->others_count * sizeof(out[0]));
    return c->others_count;
}

static enum api_error catch_up(void *context)
{
    return ((struct cluster *)context)->catch_up_error;
}

static struct hash_answer answer(raft_id member, uint32_t hash)
{
    return (struct hash_answer){
        .member = member, .hash = hash, .current_revision = 10, .compact_revision = 5};
}

/* Member 1 is the one that asks; hashes of 1, 2, ... */
static struct cluster cluster_of(const uint32_t *hashes, uint32_t count)
{
    struct cluster c = {.others_count = count - 1};
    c.own[0] = c.own[1] = answer(1, hashes[0]);
    for (uint32_t i = 1; i < count; i++)
        c.others[i - 1] = answer(i + 1, hashes[i]);
    return c;
}

static struct corruption_source source_of(struct cluster *c)
{
    return (struct corruption_source){
        .own = own, .others = others, .catch_up = catch_up, .context = c};
}

static struct corruption periodic(struct cluster *c)
{
    struct corruption_source source = source_of(c);
    struct corruption found;
    assert_int_equal(corruption_check_periodic(&source, &found), API_OK);
    assert_int_equal(c->asked_revision, 10);
    assert_int_equal(found.why != NULL, found.odd_count > 0);
    return found;
}

static void test_equal_members_are_sound(void **state)
{
    (void)state;
    struct cluster c = cluster_of((uint32_t[]){7, 7, 7}, 3);
    struct corruption found = periodic(&c);
    assert_int_equal(found.odd_count, 0);
    assert_int_equal(found.compared_count, 2);
}

static void test_minority_is_odd(void **state)
{
    (void)state;
    static const struct {
        uint32_t hashes[5], count;
        raft_id odd[3];
        uint32_t odd_count;
    } cases[] = {
        {{7, 7, 8}, 3, {3}, 1},    {{8, 7, 7}, 3, {1}, 1}, /* the asker itself */
        {{7, 8, 9}, 3, {0}, 1},                            /* nobody can say */
        {{7, 8}, 2, {0}, 1},       {{7, 7, 7, 8, 9}, 5, {4, 5}, 2},
        {{7, 7, 8, 8}, 4, {0}, 1}, {{7, 8, 8, 8}, 4, {1}, 1},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct cluster c = cluster_of(cases[i].hashes, cases[i].count);
        struct corruption found = periodic(&c);
        assert_int_equal(found.odd_count, cases[i].odd_count);
        for (uint32_t j = 0; j < found.odd_count; j++)
            assert_int_equal(found.odd[j], cases[i].odd[j]);
    }
}

static void test_what_cannot_be_compared_is_not_judged(void **state)
{
    (void)state;
    struct cluster c = cluster_of((uint32_t[]){7, 8, 9}, 3);
    c.others[0].error = API_FUTURE_REVISION; /* it is behind */
    c.others[1].compact_revision = 4;
    struct corruption found = periodic(&c);
    assert_int_equal(found.odd_count, 0);
    assert_int_equal(found.compared_count, 0);
    /* One of five that differs from another one: three are out of reach. */
    c = cluster_of((uint32_t[]){7, 8, 7, 7, 7}, 5);
    c.others[1].error = c.others[2].error = c.others[3].error = API_UNHEALTHY;
    found = periodic(&c);
    assert_int_equal(found.odd_count, 1);
    assert_int_equal(found.odd[0], 0);
}

static void test_nobody_is_ahead_of_the_leader(void **state)
{
    (void)state;
    struct cluster c = cluster_of((uint32_t[]){7, 7, 7}, 3);
    c.others[1].current_revision = 11;
    struct corruption found = periodic(&c);
    assert_int_equal(found.odd_count, 1);
    assert_int_equal(found.odd[0], 3);
    c = cluster_of((uint32_t[]){7, 7, 7}, 3);
    c.others[1].current_revision = 11;
    c.own[1].current_revision = 11; /* so is the leader by now */
    assert_int_equal(periodic(&c).odd_count, 0);
    c = cluster_of((uint32_t[]){7, 7, 7}, 3);
    c.others[0].compact_revision = 6;
    assert_int_equal(periodic(&c).odd[0], 2);
}

static void test_hash_that_changes_alone_is_odd(void **state)
{
    (void)state;
    struct cluster c = cluster_of((uint32_t[]){7, 7, 7}, 3);
    c.own[1].hash = 8;
    struct corruption found = periodic(&c);
    assert_int_equal(found.odd_count, 1);
    assert_int_equal(found.odd[0], 1);
    c = cluster_of((uint32_t[]){7, 7, 7}, 3);
    c.own[1].hash = 8;
    c.own[1].compact_revision = 9;
    assert_int_equal(periodic(&c).odd_count, 0); /* a compaction came between */
}

static void test_check_without_a_hash_judges_nobody(void **state)
{
    (void)state;
    struct cluster c = cluster_of((uint32_t[]){7, 8}, 2);
    struct corruption_source source = source_of(&c);
    struct corruption found;
    c.catch_up_error = API_TIMEOUT;
    assert_int_equal(corruption_check_periodic(&source, &found), API_TIMEOUT);
    assert_int_equal(found.odd_count, 0);
    c.own_calls = 0;
    c.own_error = API_IO;
    assert_int_equal(corruption_check_periodic(&source, &found), API_IO);
    assert_int_equal(corruption_check_initial(&source, &found), API_IO);
}

static void test_initial_check_compares_at_its_own_revision(void **state)
{
    (void)state;
    struct cluster c = cluster_of((uint32_t[]){7, 8, 8}, 3);
    struct corruption_source source = source_of(&c);
    struct corruption found;
    assert_int_equal(corruption_check_initial(&source, &found), API_OK);
    assert_int_equal(found.odd[0], 1);
    c.others[1].current_revision = 99; /* others go on meanwhile */
    c.others[0].hash = c.others[1].hash = 7;
    c.own_calls = 0;
    assert_int_equal(corruption_check_initial(&source, &found), API_OK);
    assert_int_equal(found.odd_count, 0);
}

/* ---- over HTTP ---- */

static void test_hash_answers_are_etcds_json(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, 1 << 20);
    struct buf json;
    buf_init(&json, 4096);
    struct hash_answer sent = {.hash = 3628877040U, .current_revision = 2, .compact_revision = -1};
    assert_int_equal(hash_answer_encode(&sent, &json), ST_OK);
    assert_true(slice_eq(buf_slice(&json), SLICE("{\"header\":{\"revision\":2},"
                                                 "\"hash\":3628877040,\"compact_revision\":-1}")));
    struct hash_answer got = {.member = 4};
    hash_answer_decode(200, buf_slice(&json), &arena, &got);
    assert_int_equal(got.error, API_OK);
    assert_int_equal(got.hash, sent.hash);
    assert_int_equal(got.current_revision, 2);
    assert_int_equal(got.compact_revision, -1);
    assert_int_equal(got.member, 4);
    hash_answer_decode(200,
                       SLICE("{\"header\":{\"cluster_id\":18446744073709551615,\"revision\":9"
                             "},\"compact_revision\":3}"),
                       &arena, &got);
    assert_int_equal(got.error, API_OK);
    assert_int_equal(got.hash, 0);
    int64_t revision;
    buf_reset(&json);
    assert_int_equal(hash_request_encode(-7, &json), ST_OK);
    assert_int_equal(hash_request_decode(buf_slice(&json), &arena, &revision), ST_OK);
    assert_int_equal(revision, -7);
    static const char *const bad[] = {
        "",    "[]", "{\"revision\":}", "{\"revision\":1.5}", "{\"revision\":9223372036854775808}",
        "{} x"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(hash_request_decode(slice_from_str(bad[i]), &arena, &revision),
                         ST_INVALID);
    buf_deinit(&json);
    arena_deinit(&arena);
}

static void test_hash_errors_are_told_by_their_text(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, 1 << 20);
    static const enum api_error errors[] = {API_FUTURE_REVISION, API_COMPACTED, API_IO};
    static const enum api_error read[] = {API_FUTURE_REVISION, API_COMPACTED, API_UNHEALTHY};
    struct hash_answer got = {0};
    for (size_t i = 0; i < 3; i++) {
        hash_answer_decode(400, slice_from_str(hash_error_text(errors[i])), &arena, &got);
        assert_int_equal(got.error, read[i]);
    }
    hash_answer_decode(412, SLICE("x"), &arena, &got);
    assert_int_equal(got.error, API_CLUSTER_ID_MISMATCH);
    hash_answer_decode(200, SLICE("{\"hash\":4294967296}"), &arena, &got);
    assert_int_equal(got.error, API_UNHEALTHY);
    hash_answer_decode(200, SLICE_EMPTY, &arena, &got);
    assert_int_equal(got.error, API_UNHEALTHY);
    arena_deinit(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equal_members_are_sound),
        cmocka_unit_test(test_minority_is_odd),
        cmocka_unit_test(test_what_cannot_be_compared_is_not_judged),
        cmocka_unit_test(test_nobody_is_ahead_of_the_leader),
        cmocka_unit_test(test_hash_that_changes_alone_is_odd),
        cmocka_unit_test(test_check_without_a_hash_judges_nobody),
        cmocka_unit_test(test_initial_check_compares_at_its_own_revision),
        cmocka_unit_test(test_hash_answers_are_etcds_json),
        cmocka_unit_test(test_hash_errors_are_told_by_their_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
