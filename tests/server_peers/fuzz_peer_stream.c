/* What the two streams and POST /raft bring, on foreign bytes. The first byte chooses the reader.
 * The rest comes in two runs, so that frames end in the middle; what is decoded is encoded again
 * and must decode to the same. */
#include "base/assert.h"
#include "server/peers/frames.h"
#include "server/peers/window.h"

#include <sys/uio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_again(const struct raftpb_message *message)
{
    struct out out;
    out_init(&out);
    struct window bytes = {0};
    ASSERT(raftpb_put_message(&out, &message->message, message->data) == ST_OK);
    ASSERT(out.bytes == raftpb_message_size(&message->message, message->data));
    while (out.bytes > 0) {
        struct iovec piece;
        size_t count = out_gather(&out, &piece, 1);
        ASSERT(count == 1);
        ASSERT(window_append(&bytes, slice_make(piece.iov_base, piece.iov_len)) == ST_OK);
        out_consume(&out, piece.iov_len);
    }
    struct raftpb_message again;
    ASSERT(raftpb_decode_message(window_slice(&bytes), &again) == ST_OK);
    ASSERT(again.message.term == message->message.term);
    ASSERT(again.message.entries_count == message->message.entries_count);
    ASSERT(slice_eq(again.message.context, message->message.context));
    ASSERT((again.message.snapshot == NULL) == (message->message.snapshot == NULL));
    raftpb_message_deinit(&again);
    window_deinit(&bytes);
    out_reset(&out);
}

static enum status take_all(struct frames *frames, struct window *in)
{
    for (;;) {
        struct raftpb_message message;
        bool has_message;
        size_t used;
        enum status st = frames_take(frames, window_slice(in), &used, &has_message, &message);
        if (st != ST_OK)
            return st;
        ASSERT(used > 0 && used <= window_slice(in).len);
        if (has_message) {
            check_again(&message);
            raftpb_message_deinit(&message);
        }
        window_consume(in, used);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    uint8_t choice = data[0] % 3;
    struct slice rest = slice_make(data + 2, size - 2);
    if (choice == 2) {
        struct raftpb_message message;
        if (raftpb_decode_message(rest, &message) == ST_OK) {
            check_again(&message);
            raftpb_message_deinit(&message);
        }
        return 0;
    }
    struct frames frames = {.kind = (enum stream_kind)choice, .local = 1, .remote = 2};
    struct window in = {0};
    size_t cut = rest.len * data[1] / 256;
    ASSERT(window_append(&in, slice_make(rest.data, cut)) == ST_OK);
    if (take_all(&frames, &in) == ST_TRUNCATED) {
        ASSERT(window_append(&in, slice_make(rest.data + cut, rest.len - cut)) == ST_OK);
        enum status st = take_all(&frames, &in);
        ASSERT(st != ST_OK); /* it ends where the bytes do, or at what is wrong */
    }
    window_deinit(&in);
    return 0;
}
