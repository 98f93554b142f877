/* server/peers/frames.h - what the two streams carry.
 *
 *   message   [8 length][raftpb.Message]
 *   msgapp    00                                            link heartbeat
 *             01 [8 n] n x ([8 length][raftpb.Entry]) [8 commit]   goes on where the last ended
 *             02 [8 length][raftpb.Message]                 anything; sets where the next goes on
 *
 * Numbers are big-endian. Frame 01 is a MsgApp whose term is the stream's and whose index is the
 * stream's, both as the frames before left them; a new stream stands at {0, 0}. */
#ifndef SERVER_PEERS_FRAMES_H
#define SERVER_PEERS_FRAMES_H
#include "base/slice.h"
#include "base/status.h"
#include "raft/raft.h"
#include "server/peers/out.h"
#include "server/peers/raftpb.h"

#include <stdbool.h>
#include <stdint.h>

enum stream_kind { STREAM_MSGAPP, STREAM_MESSAGE, STREAM_KINDS };

const char *stream_kind_path(enum stream_kind kind); /* "msgapp", "message" */
/* The stream that carries messages of a type. */
enum stream_kind stream_kind_of(enum raft_message_type type);

/* One end of a stream: where the next msgapp frame goes on. Start with {.kind = ...}. */
struct frames {
    enum stream_kind kind;
    struct raft_log_id at; /* of msgapp streams */
    raft_id local, remote; /* reading: to and from of a frame that does not say */
    /* Reading a frame 01 that has not come whole: entries looked at, and where the next begins. */
    uint64_t scanned;
    size_t scan_at;
};

/* Errors: ST_NO_MEMORY, then the stream has lost its place. */
CHECKED enum status frames_put(struct frames *frames, struct out *out,
                               const struct raft_message *message);
CHECKED enum status frames_put_heartbeat(const struct frames *frames, struct out *out);

/* Takes one frame off the front of in: *used_out is its length; *has_out says whether it was a
 * message (owned by the caller, borrowing from in) or a link heartbeat. Errors: ST_TRUNCATED (it
 * has not come whole; call again with the same bytes and more), ST_INVALID, ST_TOO_BIG,
 * ST_NO_MEMORY: the stream is of no more use. */
CHECKED enum status frames_take(struct frames *frames, struct slice in, size_t *used_out,
                                bool *has_out, struct raftpb_message *out);
#endif
