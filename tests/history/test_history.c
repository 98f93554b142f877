/* The judge of histories: what it must accept, what it must refuse, by hand and by generated runs
 * of a store that is right or wrong in a known way. */
#include "tests/history/history.h"

#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define KEYS 6U
#define STEPS_MAX 2000000U

static enum verdict judge(const struct history *h, enum verdict *by_search)
{
    char why[512];
    enum verdict verdict;
    assert_int_equal(history_check(h, &verdict, why, sizeof(why)), ST_OK);
    assert_int_equal(history_check_by_search(h, STEPS_MAX, by_search, why, sizeof(why)), ST_OK);
    return verdict;
}

static void expect(struct history *h, enum verdict whole, enum verdict by_search)
{
    enum verdict search;
    assert_int_equal(judge(h, &search), whole);
    assert_int_equal(search, by_search);
    history_deinit(h);
}

static uint32_t put(struct history *h, uint64_t call, uint32_t key, uint64_t value)
{
    struct history_op op = {
        .is_write = true, .call = call, .keys_count = 1, .keys = {{.key = key, .value = value}}};
    uint32_t id;
    assert_int_equal(history_call(h, &op, &id), ST_OK);
    return id;
}

static void put_done(struct history *h, uint64_t call, uint64_t end, uint32_t key, uint64_t value,
                     int64_t revision)
{
    history_wrote(h, put(h, call, key, value), end, revision, true);
}

static void get_done(struct history *h, uint64_t call, uint64_t end, struct history_key seen,
                     int64_t revision)
{
    struct history_op op = {.call = call, .keys_count = 1, .keys = {{.key = seen.key}}};
    uint32_t id;
    assert_int_equal(history_call(h, &op, &id), ST_OK);
    history_read(h, id, end, revision, &seen);
}

static void put_if(struct history *h, uint64_t call, uint64_t end, struct history_key wanted,
                   uint64_t guard_value, int64_t revision, bool changed)
{
    struct history_op op = {.is_write = true,
                            .call = call,
                            .has_guard = true,
                            .guard_key = wanted.key,
                            .guard_value = guard_value,
                            .keys_count = 1,
                            .keys = {wanted}};
    uint32_t id;
    assert_int_equal(history_call(h, &op, &id), ST_OK);
    history_wrote(h, id, end, revision, changed);
}

#define SEEN(k, v, r) ((struct history_key){.key = (k), .value = (v), .mod_revision = (r)})

static void test_reads_see_the_newest_write(void **state)
{
    (void)state;
    struct history h;
    history_init(&h, KEYS);
    put_done(&h, 1, 2, 0, 10, 2);
    put_done(&h, 3, 4, 0, 11, 3);
    get_done(&h, 5, 6, SEEN(0, 11, 3), 3);
    expect(&h, HISTORY_GOOD, HISTORY_GOOD);
}

static void test_a_stale_read_is_found(void **state)
{
    (void)state;
    struct history h;
    history_init(&h, KEYS);
    put_done(&h, 1, 2, 0, 10, 2);
    put_done(&h, 3, 4, 0, 11, 3);
    get_done(&h, 5, 6, SEEN(0, 10, 2), 2); /* honest about its revision: too old for its time */
    expect(&h, HISTORY_BROKEN, HISTORY_BROKEN);
    history_init(&h, KEYS);
    put_done(&h, 1, 2, 0, 10, 2);
    put_done(&h, 3, 4, 0, 11, 3);
    get_done(&h, 5, 6, SEEN(0, 10, 2), 3); /* not even that */
    expect(&h, HISTORY_BROKEN, HISTORY_BROKEN);
}

static void test_a_lost_write_is_found(void **state)
{
    (void)state;
    struct history h;
    history_init(&h, KEYS);
    put_done(&h, 1, 2, 0, 10, 2);
    get_done(&h, 3, 4, SEEN(0, 0, 0), 2);
    expect(&h, HISTORY_BROKEN, HISTORY_BROKEN);
}

static void test_reads_do_not_go_back(void **state)
{
    (void)state;
    struct history h;
    history_init(&h, KEYS);
    (void)put(&h, 1, 0, 10); /* never answered */
    get_done(&h, 2, 3, SEEN(0, 10, 2), 2);
    get_done(&h, 4, 5, SEEN(0, 0, 0), 1);
    expect(&h, HISTORY_BROKEN, HISTORY_BROKEN);
}

static void test_an_unanswered_write_may_happen_late_or_never(void **state)
{
    (void)state;
    struct history h;
    history_init(&h, KEYS);
    (void)put(&h, 1, 0, 10);
    (void)put(&h, 1, 0, 12);
    get_done(&h, 2, 3, SEEN(0, 0, 0), 1);
    get_done(&h, 4, 5, SEEN(0, 10, 2), 2);
    expect(&h, HISTORY_GOOD, HISTORY_GOOD);
    history_init(&h, KEYS); /* but not before it was called */
    get_done(&h, 1, 2, SEEN(0, 10, 2), 2);
    (void)put(&h, 3, 0, 10);
    expect(&h, HISTORY_BROKEN, HISTORY_BROKEN);
}

static void test_an_unseen_write_leaves_the_answer_to_the_search(void **state)
{
    (void)state;
    struct history h;
    history_init(&h, KEYS);
    put_done(&h, 1, 2, 0, 10, 2);
    (void)put(&h, 3, 0, 11); /* happened at 3, nobody read it */
    put_if(&h, 4, 5, SEEN(0, 12, 0), /* guard_value= */ 10, 3, /* changed= */ false);
    enum verdict by_revision;
    char why[256];
    assert_int_equal(history_check_by_revision(&h, &by_revision, why, sizeof(why)), ST_OK);
    assert_int_equal(by_revision, HISTORY_UNDECIDED);
    expect(&h, HISTORY_GOOD, HISTORY_GOOD);
}

static void test_guards(void **state)
{
    (void)state;
    struct history h;
    history_init(&h, KEYS);
    put_done(&h, 1, 2, 0, 10, 2);
    put_if(&h, 3, 4, SEEN(0, 11, 0), 10, 3, true);
    put_if(&h, 5, 6, SEEN(0, 12, 0), 10, 3, false);
    get_done(&h, 7, 8, SEEN(0, 11, 3), 3);
    expect(&h, HISTORY_GOOD, HISTORY_GOOD);
    history_init(&h, KEYS); /* two that both held on one value */
    put_done(&h, 1, 2, 0, 10, 2);
    put_if(&h, 3, 4, SEEN(0, 11, 0), 10, 3, true);
    put_if(&h, 3, 4, SEEN(0, 12, 0), 10, 4, true);
    expect(&h, HISTORY_BROKEN, HISTORY_BROKEN);
}

static void test_revisions_are_used_once_and_without_holes(void **state)
{
    (void)state;
    struct history h;
    history_init(&h, KEYS);
    put_done(&h, 1, 2, 0, 10, 2);
    put_done(&h, 3, 4, 1, 11, 2);
    expect(&h, HISTORY_BROKEN, HISTORY_GOOD);
    history_init(&h, KEYS);
    put_done(&h, 1, 2, 0, 10, 2);
    put_done(&h, 3, 4, 1, 11, 4); /* somebody else's write, of nobody */
    expect(&h, HISTORY_BROKEN, HISTORY_GOOD);
}

static void test_revisions_keep_to_real_time(void **state)
{
    (void)state;
    struct history h;
    history_init(&h, KEYS);
    put_done(&h, 1, 2, 0, 10, 3);
    put_done(&h, 3, 4, 1, 11, 2);
    expect(&h, HISTORY_BROKEN, HISTORY_GOOD);
}

static void test_an_invented_value_is_found(void **state)
{
    (void)state;
    struct history h;
    history_init(&h, KEYS);
    get_done(&h, 1, 2, SEEN(0, 99, 2), 2);
    expect(&h, HISTORY_BROKEN, HISTORY_BROKEN);
}

/* ---- generated runs ---- */

enum planted { RIGHT, STALE_READ, LOST_WRITE, TORN_PAIR };

struct store {
    struct history_key keys[KEYS], before[KEYS];
    int64_t revision, before_revision;
};

struct client {
    uint32_t id; /* of its open operation */
    struct history_op op;
    bool is_busy, is_applied, is_silent; /* silent: its answer will never come */
    int64_t revision;
    bool changed;
    struct history_key seen[HISTORY_OP_KEYS_MAX];
};

struct run {
    struct rng rng;
    struct history history;
    struct store store;
    struct client clients[5];
    enum planted planted;
    uint64_t value, now;
};

static void begin_op(struct run *r, struct client *c)
{
    struct history_op *op = &c->op;
    *op = (struct history_op){.client = (uint32_t)(c - r->clients), .call = r->now};
    op->is_write = rng_below(&r->rng, 2) == 0;
    uint32_t pair = (uint32_t)rng_below(&r->rng, KEYS / 2) * 2;
    op->keys_count = rng_below(&r->rng, 3) == 0 ? 2 : 1;
    for (uint32_t k = 0; k < op->keys_count; k++) {
        op->keys[k].key = pair + k;
        op->keys[k].value = op->is_write ? ++r->value : 0;
    }
    if (op->is_write && op->keys_count == 1 && rng_below(&r->rng, 4) == 0)
        op->keys[0].value = 0;
    if (op->is_write && op->keys_count == 1 && rng_below(&r->rng, 3) == 0) {
        op->has_guard = true;
        op->guard_key = pair;
        op->guard_value = r->store.keys[pair].value;
    }
    c->is_busy = true;
    c->is_applied = false;
    c->is_silent = rng_below(&r->rng, 12) == 0;
    assert_int_equal(history_call(&r->history, op, &c->id), ST_OK);
}

static void write_keys(struct run *r, struct client *c)
{
    struct store *s = &r->store;
    memcpy(s->before, s->keys, sizeof(s->keys));
    s->before_revision = s->revision++;
    for (uint32_t k = 0; k < c->op.keys_count; k++) {
        bool torn = r->planted == TORN_PAIR && k == 1 && rng_below(&r->rng, 3) == 0;
        bool is_there = c->op.keys[k].value != 0;
        if (!torn)
            s->keys[c->op.keys[k].key] = (struct history_key){
                c->op.keys[k].key, c->op.keys[k].value, is_there ? s->revision : 0};
    }
}

static void apply_op(struct run *r, struct client *c)
{
    struct store *s = &r->store;
    c->is_applied = true;
    c->changed = false;
    if (!c->op.is_write) {
        bool stale = r->planted == STALE_READ && rng_below(&r->rng, 4) == 0;
        for (uint32_t k = 0; k < c->op.keys_count; k++) {
            uint32_t key = c->op.keys[k].key;
            c->seen[k] = stale ? s->before[key] : s->keys[key];
            c->seen[k].key = key;
        }
        c->revision = stale && rng_below(&r->rng, 2) == 0 ? s->before_revision : s->revision;
        return;
    }
    bool holds = !c->op.has_guard || s->keys[c->op.guard_key].value == c->op.guard_value;
    bool is_delete = c->op.keys[0].value == 0;
    c->changed = holds && (!is_delete || s->keys[c->op.keys[0].key].value != 0);
    /* A guarded delete that held and found nothing cannot be told from one that did not hold. */
    if (c->op.has_guard && is_delete && holds && !c->changed)
        c->is_silent = true;
    bool is_lost = r->planted == LOST_WRITE && c->changed && rng_below(&r->rng, 8) == 0;
    if (c->changed && !is_lost)
        write_keys(r, c);
    c->revision = s->revision;
    if (is_lost)
        c->revision = ++s->revision;
}

static void finish_op(struct run *r, struct client *c)
{
    c->is_busy = false;
    if (c->is_silent)
        return;
    if (c->op.is_write)
        history_wrote(&r->history, c->id, r->now, c->revision, c->changed);
    else
        history_read(&r->history, c->id, r->now, c->revision, c->seen);
}

static void run_clients(struct run *r, uint64_t seed, enum planted planted, uint32_t steps)
{
    memset(r, 0, sizeof(*r));
    rng_seed(&r->rng, seed);
    history_init(&r->history, KEYS);
    r->store.revision = 1;
    r->planted = planted;
    for (uint32_t i = 0; i < steps; i++) {
        r->now++;
        struct client *c = &r->clients[rng_below(&r->rng, 5)];
        if (!c->is_busy)
            begin_op(r, c);
        else if (!c->is_applied && c->is_silent && rng_below(&r->rng, 2) == 0)
            c->is_busy = false; /* lost on the way there */
        else if (!c->is_applied)
            apply_op(r, c);
        else
            finish_op(r, c);
    }
    for (uint32_t k = 0; k < KEYS; k++) { /* what was left behind */
        r->now += 2;
        struct history_key seen = r->store.keys[k];
        seen.key = k;
        get_done(&r->history, r->now - 1, r->now, seen, r->store.revision);
    }
}

static void test_right_stores_are_accepted(void **state)
{
    (void)state;
    static struct run r;
    uint32_t undecided = 0;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        run_clients(&r, seed, RIGHT, 400);
        enum verdict by_search, verdict = judge(&r.history, &by_search);
        if (verdict == HISTORY_BROKEN || by_search == HISTORY_BROKEN)
            fail_msg("seed %llu was refused", (unsigned long long)seed);
        undecided += verdict == HISTORY_UNDECIDED;
        history_deinit(&r.history);
    }
    assert_true(undecided <= 3);
}

static void test_wrong_stores_are_refused(void **state)
{
    (void)state;
    static struct run r;
    for (enum planted planted = STALE_READ; planted <= TORN_PAIR; planted++) {
        uint32_t found = 0, found_by_search = 0;
        for (uint64_t seed = 1; seed <= 100; seed++) {
            run_clients(&r, seed, planted, 400);
            enum verdict by_search, verdict = judge(&r.history, &by_search);
            found += verdict == HISTORY_BROKEN;
            found_by_search += by_search == HISTORY_BROKEN;
            history_deinit(&r.history);
        }
        print_message("planted %d: found %u and by search %u of 100\n", (int)planted, found,
                      found_by_search);
        /* A fault that the next write covers is none that a client could see. */
        assert_true(found >= 90);
        assert_true(found_by_search >= 70);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_see_the_newest_write),
        cmocka_unit_test(test_a_stale_read_is_found),
        cmocka_unit_test(test_a_lost_write_is_found),
        cmocka_unit_test(test_reads_do_not_go_back),
        cmocka_unit_test(test_an_unanswered_write_may_happen_late_or_never),
        cmocka_unit_test(test_an_unseen_write_leaves_the_answer_to_the_search),
        cmocka_unit_test(test_guards),
        cmocka_unit_test(test_revisions_are_used_once_and_without_holes),
        cmocka_unit_test(test_revisions_keep_to_real_time),
        cmocka_unit_test(test_an_invented_value_is_found),
        cmocka_unit_test(test_right_stores_are_accepted),
        cmocka_unit_test(test_wrong_stores_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
