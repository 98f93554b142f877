#include "server/peers/frames.h"

#include "server/peers/window.h"

#include <setjmp.h>
#include <stdarg.h>
#include <sys/uio.h>

#include <cmocka.h>

#define SELF 1
#define OTHER 2

static void drain(struct out *out, struct window *into)
{
    while (out->bytes > 0) {
        struct iovec piece;
        assert_int_equal(out_gather(out, &piece, 1), 1);
        assert_int_equal(window_append(into, slice_make(piece.iov_base, piece.iov_len)), ST_OK);
        out_consume(out, piece.iov_len);
    }
}

static void put(struct frames *frames, struct window *into, const struct raft_message *message)
{
    struct out out;
    out_init(&out);
    assert_int_equal(message == NULL ? frames_put_heartbeat(frames, &out)
                                     : frames_put(frames, &out, message),
                     ST_OK);
    drain(&out, into);
    out_reset(&out);
}

static struct raft_message app(raft_term term, struct raft_log_id before, raft_index commit,
                               const struct raft_entry *entries, uint32_t count)
{
    return (struct raft_message){.type = RAFT_MSG_APP,
                                 .to = SELF,
                                 .from = OTHER,
                                 .term = term,
                                 .log_term = before.term,
                                 .index = before.index,
                                 .commit = commit,
                                 .entries = entries,
                                 .entries_count = count};
}

/* Gives the bytes one by one, as a slow network would, and expects the frame only with the last. */
static void take_slowly(struct frames *frames, struct window *bytes, bool *has_out,
                        struct raftpb_message *out, size_t frame_size)
{
    struct slice all = window_slice(bytes);
    size_t used = 0;
    for (size_t cut = 0; cut < frame_size; cut++)
        assert_int_equal(frames_take(frames, slice_make(all.data, cut), &used, has_out, out),
                         ST_TRUNCATED);
    assert_int_equal(frames_take(frames, slice_make(all.data, frame_size), &used, has_out, out),
                     ST_OK);
    assert_int_equal(used, frame_size);
}

static void test_msgapp_goes_on_where_the_last_frame_ended(void **state)
{
    (void)state;
    struct raft_payload *payload = raft_payload_copy(SLICE("value"));
    struct raft_entry entries[4];
    for (uint32_t i = 0; i < 4; i++)
        entries[i] = (struct raft_entry){.term = 5, .index = 11 + i, .payload = payload};
    struct frames writer = {.kind = STREAM_MSGAPP};
    struct frames reader = {.kind = STREAM_MSGAPP, .local = SELF, .remote = OTHER};
    struct raft_message sent[] = {
        app(5, (struct raft_log_id){10, 4}, 9, entries, 2),      /* a new stream: whole */
        app(5, (struct raft_log_id){12, 5}, 10, entries + 2, 2), /* goes on */
        app(5, (struct raft_log_id){14, 5}, 14, NULL, 0),        /* commit alone goes on, too */
        app(5, (struct raft_log_id){11, 5}, 14, entries + 1, 1), /* goes back: whole */
    };
    static const uint8_t kinds[] = {2, 1, 1, 2};
    for (size_t i = 0; i < 4; i++) {
        struct window bytes = {0};
        put(&writer, &bytes, &sent[i]);
        assert_int_equal(window_slice(&bytes).data[0], kinds[i]);
        struct raftpb_message got;
        bool has = false;
        take_slowly(&reader, &bytes, &has, &got, window_slice(&bytes).len);
        assert_true(has);
        assert_int_equal(got.message.type, RAFT_MSG_APP);
        assert_true(got.message.from == OTHER && got.message.to == SELF);
        assert_true(got.message.term == 5 && got.message.log_term == sent[i].log_term);
        assert_true(got.message.index == sent[i].index && got.message.commit == sent[i].commit);
        assert_int_equal(got.message.entries_count, sent[i].entries_count);
        for (uint32_t e = 0; e < got.message.entries_count; e++)
            assert_true(got.entries[e].index == sent[i].entries[e].index &&
                        slice_eq(raft_payload_slice(got.entries[e].payload), SLICE("value")));
        raftpb_message_deinit(&got);
        window_deinit(&bytes);
    }
    raft_payload_unref(payload);
}

static void test_heartbeats_are_no_messages(void **state)
{
    (void)state;
    for (enum stream_kind kind = STREAM_MSGAPP; kind < STREAM_KINDS; kind++) {
        struct frames frames = {.kind = kind};
        struct window bytes = {0};
        put(&frames, &bytes, NULL);
        assert_int_equal(window_slice(&bytes).len, kind == STREAM_MSGAPP ? 1 : 38);
        struct raftpb_message got;
        bool has = true;
        take_slowly(&frames, &bytes, &has, &got, window_slice(&bytes).len);
        assert_false(has);
        window_deinit(&bytes);
    }
}

static void test_message_stream_carries_one_after_the_other(void **state)
{
    (void)state;
    struct frames frames = {.kind = STREAM_MESSAGE};
    struct window bytes = {0};
    for (raft_term term = 1; term <= 3; term++)
        put(&frames, &bytes, &(struct raft_message){.type = RAFT_MSG_VOTE, .term = term});
    for (raft_term term = 1; term <= 3; term++) {
        struct raftpb_message got;
        bool has;
        size_t used;
        assert_int_equal(frames_take(&frames, window_slice(&bytes), &used, &has, &got), ST_OK);
        assert_true(has && got.message.type == RAFT_MSG_VOTE && got.message.term == term);
        raftpb_message_deinit(&got);
        window_consume(&bytes, used);
    }
    assert_int_equal(window_slice(&bytes).len, 0);
    window_deinit(&bytes);
}

static void test_lengths_over_the_limit_are_refused(void **state)
{
    (void)state;
    static const uint8_t message[] = {0, 0, 0, 0, 0x20, 0, 0, 1};
    static const uint8_t whole[] = {2, 0x7f, 0, 0, 0, 0, 0, 0, 0};
    static const uint8_t count[] = {1, 0, 0, 0, 1, 0, 0, 0, 0};
    static const uint8_t entry[] = {1, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 0, 0, 0, 0, 0};
    static const uint8_t unknown[] = {3};
    const struct {
        enum stream_kind kind;
        const uint8_t *bytes;
        size_t size;
        enum status st;
    } cases[] = {
        {STREAM_MESSAGE, message, sizeof(message), ST_TOO_BIG},
        {STREAM_MSGAPP, whole, sizeof(whole), ST_TOO_BIG},
        {STREAM_MSGAPP, count, sizeof(count), ST_TOO_BIG},
        {STREAM_MSGAPP, entry, sizeof(entry), ST_TOO_BIG},
        {STREAM_MSGAPP, unknown, sizeof(unknown), ST_INVALID},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct frames frames = {.kind = cases[i].kind};
        struct raftpb_message got;
        bool has;
        size_t used;
        assert_int_equal(
            frames_take(&frames, slice_make(cases[i].bytes, cases[i].size), &used, &has, &got),
            cases[i].st);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_msgapp_goes_on_where_the_last_frame_ended),
        cmocka_unit_test(test_heartbeats_are_no_messages),
        cmocka_unit_test(test_message_stream_carries_one_after_the_other),
        cmocka_unit_test(test_lengths_over_the_limit_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
