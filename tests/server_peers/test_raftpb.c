#include "server/peers/raftpb.h"

#include <setjmp.h>
#include <stdarg.h>
#include <sys/uio.h>

#include <cmocka.h>

/* Everything in out, in one piece; the caller frees it. */
static uint8_t *flatten(const struct out *out)
{
    struct iovec pieces[256];
    size_t count = out_gather(out, pieces, 256), at = 0;
    uint8_t *bytes = malloc(out->bytes + 1);
    assert_non_null(bytes);
    for (size_t i = 0; i < count; i++) {
        memcpy(bytes + at, pieces[i].iov_base, pieces[i].iov_len);
        at += pieces[i].iov_len;
    }
    assert_int_equal(at, out->bytes);
    return bytes;
}

static uint8_t *encode(const struct raft_message *message, struct slice data, size_t *size_out)
{
    struct out out;
    out_init(&out);
    assert_int_equal(raftpb_put_message(&out, message, data), ST_OK);
    assert_int_equal(out.bytes, raftpb_message_size(message, data));
    uint8_t *bytes = flatten(&out);
    *size_out = out.bytes;
    out_reset(&out);
    return bytes;
}

/* The bytes an etcd 3.5 sends when a stream is idle. */
static void test_message_encodes_as_etcd_does(void **state)
{
    (void)state;
    static const uint8_t expected[30] = {
        0x08, 0x08, 0x10, 0x00, 0x18, 0x00, 0x20, 0x00, 0x28, 0x00, 0x30, 0x00, 0x40, 0x00, 0x4a,
        0x0a, 0x12, 0x08, 0x0a, 0x02, 0x28, 0x00, 0x10, 0x00, 0x18, 0x00, 0x50, 0x00, 0x58, 0x00};
    struct raft_message heartbeat = {.type = RAFT_MSG_HEARTBEAT};
    size_t size;
    uint8_t *bytes = encode(&heartbeat, SLICE_EMPTY, &size);
    assert_int_equal(size, sizeof(expected));
    assert_memory_equal(bytes, expected, size);
    free(bytes);
}

static struct raft_message make_app(struct raft_entry entries[3])
{
    entries[0] = (struct raft_entry){.term = 7, .index = 100, .payload = NULL};
    entries[1] = (struct raft_entry){
        .term = 7, .index = 101, .payload = raft_payload_copy(SLICE("put a 1"))};
    entries[2] = (struct raft_entry){.term = UINT64_MAX,
                                     .index = 102,
                                     .type = RAFT_ENTRY_CONF_CHANGE,
                                     .payload = raft_payload_new(100 * 1000)};
    memset(entries[2].payload->data, 'x', entries[2].payload->len);
    return (struct raft_message){.type = RAFT_MSG_APP,
                                 .to = 0x8e9e05c52164694d,
                                 .from = 2,
                                 .term = 7,
                                 .log_term = 6,
                                 .index = 99,
                                 .commit = 98,
                                 .entries = entries,
                                 .entries_count = 3,
                                 .reject = true,
                                 .reject_hint = 5,
                                 .context = SLICE("CampaignTransfer")};
}

static void free_app(struct raft_entry entries[3])
{
    for (int i = 0; i < 3; i++)
        raft_payload_unref(entries[i].payload);
}

static void test_message_decodes_what_was_encoded(void **state)
{
    (void)state;
    struct raft_entry entries[3];
    struct raft_message sent = make_app(entries);
    size_t size;
    uint8_t *bytes = encode(&sent, SLICE_EMPTY, &size);
    struct raftpb_message got;
    assert_int_equal(raftpb_decode_message(slice_make(bytes, size), &got), ST_OK);
    assert_int_equal(got.message.type, sent.type);
    assert_true(got.message.to == sent.to && got.message.from == sent.from);
    assert_true(got.message.term == 7 && got.message.log_term == 6 && got.message.index == 99);
    assert_true(got.message.commit == 98 && got.message.reject && got.message.reject_hint == 5);
    assert_true(slice_eq(got.message.context, sent.context));
    assert_null(got.message.snapshot);
    assert_int_equal(got.message.entries_count, 3);
    assert_null(got.entries[0].payload);
    for (int i = 0; i < 3; i++) {
        assert_true(got.entries[i].term == entries[i].term);
        assert_true(got.entries[i].index == entries[i].index);
        assert_int_equal(got.entries[i].type, entries[i].type);
        assert_true(slice_eq(raft_payload_slice(got.entries[i].payload),
                             raft_payload_slice(entries[i].payload)));
    }
    raftpb_message_deinit(&got);
    free_app(entries);
    free(bytes);
}

static void test_message_carries_a_snapshot(void **state)
{
    (void)state;
    static struct raft_snapshot_meta meta = {.last = {.index = 77, .term = 3},
                                             .conf_state = {.voters = {1, 2, UINT64_MAX},
                                                            .voters_count = 3,
                                                            .learners = {9},
                                                            .learners_count = 1,
                                                            .voters_outgoing = {4},
                                                            .voters_outgoing_count = 1,
                                                            .learners_next = {5},
                                                            .learners_next_count = 1,
                                                            .auto_leave = true}};
    struct raft_message sent = {.type = RAFT_MSG_SNAP, .to = 1, .from = 2, .snapshot = &meta};
    size_t size;
    uint8_t *bytes = encode(&sent, SLICE("{\"Root\":{}}"), &size);
    struct raftpb_message got;
    assert_int_equal(raftpb_decode_message(slice_make(bytes, size), &got), ST_OK);
    assert_non_null(got.message.snapshot);
    assert_memory_equal(got.message.snapshot, &meta, sizeof(meta));
    assert_true(slice_eq(got.data, SLICE("{\"Root\":{}}")));
    raftpb_message_deinit(&got);
    free(bytes);
}

/* Fields may be left out, and unknown ones are passed over. */
static void test_message_decodes_a_short_one(void **state)
{
    (void)state;
    static const uint8_t bytes[] = {0x08, 0x08, 0x68, 0x05, 0x72, 0x01, 0x00};
    struct raftpb_message got;
    assert_int_equal(raftpb_decode_message(slice_make(bytes, sizeof(bytes)), &got), ST_OK);
    assert_int_equal(got.message.type, RAFT_MSG_HEARTBEAT);
    assert_true(got.message.term == 0 && got.message.snapshot == NULL);
    raftpb_message_deinit(&got);
}

static void test_message_refuses_types_that_no_peer_sends(void **state)
{
    (void)state;
    for (uint8_t type = RAFT_MSG_STORAGE_APPEND; type < 0x80; type++) {
        uint8_t bytes[] = {0x08, type};
        struct raftpb_message got;
        assert_int_equal(raftpb_decode_message(slice_make(bytes, 2), &got), ST_INVALID);
    }
}

/* A cut either falls between two fields, and the rest is a message, or is refused. */
static void test_message_survives_every_truncation(void **state)
{
    (void)state;
    struct raft_entry entries[3];
    struct raft_message sent = make_app(entries);
    sent.entries_count = 2;
    size_t size;
    uint8_t *bytes = encode(&sent, SLICE_EMPTY, &size);
    for (size_t cut = 0; cut < size; cut++) {
        uint8_t *copy = malloc(cut + 1); /* so that a sanitizer sees the end */
        memcpy(copy, bytes, cut);
        struct raftpb_message got;
        enum status st = raftpb_decode_message(slice_make(copy, cut), &got);
        assert_true(st == ST_OK || st == ST_INVALID);
        raftpb_message_deinit(&got);
        free(copy);
    }
    free_app(entries);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_message_encodes_as_etcd_does),
        cmocka_unit_test(test_message_decodes_what_was_encoded),
        cmocka_unit_test(test_message_carries_a_snapshot),
        cmocka_unit_test(test_message_decodes_a_short_one),
        cmocka_unit_test(test_message_refuses_types_that_no_peer_sends),
        cmocka_unit_test(test_message_survives_every_truncation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
