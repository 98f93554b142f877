/* The keys that entries touch: those of any request that may read or change one, and no others. */
#include "tools/utl/touched.h"

#include "base/buf.h"
#include "base/rng.h"
#include "server/state/kv_request.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void put_bytes(struct buf *out, uint8_t number, struct slice bytes)
{
    assert_true(bytes.len < 128);
    const uint8_t head[2] = {(uint8_t)(number << 3 | 2), (uint8_t)bytes.len};
    assert_int_equal(buf_append(out, slice_make(head, 2)), ST_OK);
    assert_int_equal(buf_append(out, bytes), ST_OK);
}

static void add(struct utl_touched *touched, enum internal_field field, struct slice body)
{
    struct raft_entry entry = {.index = 1,
                               .term = 1,
                               .type = RAFT_ENTRY_NORMAL,
                               .payload = internal_request_payload(field, body, /* id= */ 1)};
    assert_non_null(entry.payload);
    assert_int_equal(utl_touched_add(touched, &entry), ST_OK);
    raft_payload_unref(entry.payload);
}

/* Put, DeleteRange and Compare have their key in different fields. */
static void add_range(struct utl_touched *touched, enum internal_field field, uint8_t key_number,
                      struct slice key, uint8_t end_number, struct slice end)
{
    struct buf body;
    buf_init(&body, 4096);
    put_bytes(&body, key_number, key);
    if (end.len > 0)
        put_bytes(&body, end_number, end);
    add(touched, field, buf_slice(&body));
    buf_deinit(&body);
}

static struct utl_touched *new_touched(void)
{
    struct utl_touched *touched;
    assert_int_equal(utl_touched_new(&touched), ST_OK);
    return touched;
}

#define HAS(touched, key) utl_touched_has(touched, SLICE(key))

static void test_touched_has_what_requests_name(void **state)
{
    (void)state;
    struct utl_touched *t = new_touched();
    add_range(t, INTERNAL_PUT, 1, SLICE("b"), 0, SLICE_EMPTY);
    add_range(t, INTERNAL_DELETE_RANGE, 1, SLICE("d"), 2, SLICE("f"));
    add_range(t, INTERNAL_DELETE_RANGE, 1, SLICE("z"), 2, SLICE("a")); /* nothing */
    add_range(t, INTERNAL_RANGE, 1, SLICE("k"), 0, SLICE_EMPTY);       /* changes nothing */
    add(t, INTERNAL_PUT, SLICE("\xff"));                               /* is not applied */
    utl_touched_seal(t);
    assert_true(HAS(t, "b") && HAS(t, "d") && HAS(t, "d!") && HAS(t, "e~"));
    assert_false(HAS(t, "a") || HAS(t, "ba") || HAS(t, "f") || HAS(t, "c") || HAS(t, "k"));
    assert_false(HAS(t, "z") || HAS(t, ""));
    utl_touched_free(t);
}

static void test_touched_looks_into_transactions(void **state)
{
    (void)state;
    struct buf compare, put, op, inner, outer;
    struct buf *all[] = {&compare, &put, &op, &inner, &outer};
    for (int i = 0; i < 5; i++)
        buf_init(all[i], 4096);
    put_bytes(&compare, 3, SLICE("compared"));
    put_bytes(&put, 1, SLICE("put"));
    put_bytes(&op, 2, buf_slice(&put));        /* RequestOp.request_put */
    put_bytes(&inner, 1, buf_slice(&compare)); /* TxnRequest.compare */
    put_bytes(&inner, 3, buf_slice(&op));      /* failure */
    buf_reset(&op);
    put_bytes(&op, 4, buf_slice(&inner)); /* request_txn */
    put_bytes(&outer, 2, buf_slice(&op)); /* success */
    struct utl_touched *t = new_touched();
    add(t, INTERNAL_TXN, buf_slice(&outer));
    utl_touched_seal(t);
    assert_true(HAS(t, "compared") && HAS(t, "put"));
    assert_false(HAS(t, "other"));
    utl_touched_free(t);
    for (int i = 0; i < 5; i++)
        buf_deinit(all[i]);
}

static void test_touched_has_the_keys_of_revoked_leases(void **state)
{
    (void)state;
    struct utl_touched *t = new_touched();
    assert_false(utl_touched_revokes(t));
    add(t, INTERNAL_LEASE_REVOKE, SLICE("\x08\x07"));
    add(t, INTERNAL_LEASE_REVOKE, SLICE("\x08\x05"));
    assert_true(utl_touched_revokes(t));
    for (int64_t lease = 0; lease < 10; lease++) {
        uint8_t key = (uint8_t)('0' + lease);
        const struct mvcc_kv kv = {.key = slice_make(&key, 1), .lease = lease};
        assert_int_equal(utl_touched_add_record(t, &kv), ST_OK);
    }
    utl_touched_seal(t);
    assert_true(HAS(t, "5") && HAS(t, "7"));
    assert_false(HAS(t, "0") || HAS(t, "4") || HAS(t, "6") || HAS(t, "8"));
    utl_touched_free(t);
}

#define KEYS 200U

/* Overlapping ranges, open ones too, against a list of marks. */
static void test_touched_joins_ranges(void **state)
{
    (void)state;
    struct rng rng;
    rng_seed(&rng, 1);
    for (int round = 0; round < 200; round++) {
        bool want[KEYS] = {false};
        struct utl_touched *t = new_touched();
        for (uint64_t i = rng_below(&rng, 12); i > 0; i--) {
            uint8_t from = (uint8_t)(1 + rng_below(&rng, KEYS - 1)),
                    to = (uint8_t)rng_below(&rng, KEYS);
            uint64_t last = to == 0 ? KEYS : to; /* one zero byte: all from it on */
            add_range(t, INTERNAL_DELETE_RANGE, 1, slice_make(&from, 1), 2, slice_make(&to, 1));
            for (uint64_t key = from; key < last; key++)
                want[key] = true;
        }
        utl_touched_seal(t);
        for (uint32_t key = 0; key < KEYS; key++) {
            uint8_t byte = (uint8_t)key;
            assert_int_equal(utl_touched_has(t, slice_make(&byte, 1)), want[key]);
        }
        utl_touched_free(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_touched_has_what_requests_name),
        cmocka_unit_test(test_touched_looks_into_transactions),
        cmocka_unit_test(test_touched_has_the_keys_of_revoked_leases),
        cmocka_unit_test(test_touched_joins_ranges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
