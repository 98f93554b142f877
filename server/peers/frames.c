#include "server/peers/frames.h"

#include "base/assert.h"
#include "base/bytes.h"
#include "server/peers/limits.h"

#define FRAME_HEARTBEAT 0U
#define FRAME_ENTRIES 1U
#define FRAME_MESSAGE 2U
#define LENGTH_BYTES 8U
#define ENTRIES_HEAD_BYTES (1 + LENGTH_BYTES)

const char *stream_kind_path(enum stream_kind kind)
{
    return kind == STREAM_MSGAPP ? "msgapp" : "message";
}

enum stream_kind stream_kind_of(enum raft_message_type type)
{
    return type == RAFT_MSG_APP ? STREAM_MSGAPP : STREAM_MESSAGE;
}

/* ---- writing ---- */

static enum status put_u64(struct out *out, uint64_t value)
{
    uint8_t *room = out_reserve(out, LENGTH_BYTES);
    if (room == NULL)
        return ST_NO_MEMORY;
    put_be64(room, value);
    out_commit(out, LENGTH_BYTES);
    return ST_OK;
}

static enum status put_whole(struct out *out, const struct raft_message *message)
{
    enum status st = put_u64(out, raftpb_message_size(message, SLICE_EMPTY));
    return st != ST_OK ? st : raftpb_put_message(out, message, SLICE_EMPTY);
}

/* It goes on exactly where the stream stands: etcd's rule. */
static bool goes_on(const struct frames *frames, const struct raft_message *m)
{
    return m->index == frames->at.index && m->log_term == frames->at.term && m->log_term == m->term;
}

static enum status put_entries(struct frames *frames, struct out *out, const struct raft_message *m)
{
    enum status st = out_append(out, slice_make(&(uint8_t){FRAME_ENTRIES}, 1));
    if (st == ST_OK)
        st = put_u64(out, m->entries_count);
    for (uint32_t i = 0; i < m->entries_count && st == ST_OK; i++) {
        st = put_u64(out, raftpb_entry_size(&m->entries[i]));
        if (st == ST_OK)
            st = raftpb_put_entry(out, &m->entries[i]);
    }
    frames->at.index += m->entries_count;
    return st != ST_OK ? st : put_u64(out, m->commit);
}

/* After a whole message the stream stands at its last entry. */
static void stand_after(struct frames *frames, const struct raft_message *m)
{
    frames->at.term = m->term;
    frames->at.index = m->entries_count > 0 ? m->entries[m->entries_count - 1].index : m->index;
}

enum status frames_put(struct frames *frames, struct out *out, const struct raft_message *message)
{
    ASSERT(message->type != RAFT_MSG_SNAP);
    if (frames->kind == STREAM_MESSAGE)
        return put_whole(out, message);
    ASSERT(message->type == RAFT_MSG_APP);
    if (goes_on(frames, message))
        return put_entries(frames, out, message);
    stand_after(frames, message);
    enum status st = out_append(out, slice_make(&(uint8_t){FRAME_MESSAGE}, 1));
    return st != ST_OK ? st : put_whole(out, message);
}

enum status frames_put_heartbeat(const struct frames *frames, struct out *out)
{
    if (frames->kind == STREAM_MSGAPP)
        return out_append(out, slice_make(&(uint8_t){FRAME_HEARTBEAT}, 1));
    struct raft_message heartbeat = {.type = RAFT_MSG_HEARTBEAT};
    return put_whole(out, &heartbeat);
}

/* ---- reading ---- */

/* [8 length][bytes] at `at`; *end_out is the offset behind it. */
static enum status take_lengthed(struct slice in, size_t at, struct slice *out, size_t *end_out)
{
    if (in.len - at < LENGTH_BYTES)
        return ST_TRUNCATED;
    uint64_t len = get_be64(in.data + at);
    if (len > FRAME_BYTES_MAX)
        return ST_TOO_BIG;
    if (in.len - at - LENGTH_BYTES < len)
        return ST_TRUNCATED;
    *out = slice_make(in.data + at + LENGTH_BYTES, (size_t)len);
    *end_out = at + LENGTH_BYTES + (size_t)len;
    return ST_OK;
}

static enum status take_message(struct slice in, size_t at, size_t *used_out,
                                struct raftpb_message *out)
{
    struct slice bytes;
    enum status st = take_lengthed(in, at, &bytes, used_out);
    return st != ST_OK ? st : raftpb_decode_message(bytes, out);
}

/* Walks on over the entries that have come; ST_OK: the frame is whole and ends at *used_out. */
static enum status scan_entries(struct frames *frames, struct slice in, size_t *used_out)
{
    if (in.len < ENTRIES_HEAD_BYTES)
        return ST_TRUNCATED;
    uint64_t count = get_be64(in.data + 1);
    if (count > FRAME_BYTES_MAX / LENGTH_BYTES)
        return ST_TOO_BIG;
    if (frames->scan_at == 0)
        frames->scan_at = ENTRIES_HEAD_BYTES;
    for (; frames->scanned < count; frames->scanned++) {
        struct slice entry;
        enum status st = take_lengthed(in, frames->scan_at, &entry, &frames->scan_at);
        if (st != ST_OK)
            return in.len > FRAME_BYTES_MAX ? ST_TOO_BIG : st;
    }
    if (in.len - frames->scan_at < LENGTH_BYTES)
        return ST_TRUNCATED;
    *used_out = frames->scan_at + LENGTH_BYTES;
    return ST_OK;
}

static enum status decode_entries(struct slice in, uint64_t count, struct raftpb_message *out)
{
    size_t at = ENTRIES_HEAD_BYTES;
    for (uint64_t i = 0; i < count; i++) {
        struct slice bytes;
        struct raft_entry *entry = &out->entries[i];
        enum status st = take_lengthed(in, at, &bytes, &at);
        ASSERT(st == ST_OK); /* scan_entries() has been here */
        st = raftpb_decode_entry(bytes, entry);
        if (st != ST_OK)
            return st;
        out->message.entries_count++;
        out->bytes += sizeof(*entry) + bytes.len;
    }
    out->message.commit = get_be64(in.data + at);
    return ST_OK;
}

static enum status take_entries(struct frames *frames, struct slice in, size_t *used_out,
                                struct raftpb_message *out)
{
    enum status st = scan_entries(frames, in, used_out);
    if (st != ST_OK)
        return st;
    uint64_t count = frames->scanned;
    frames->scanned = 0;
    frames->scan_at = 0;
    *out = (struct raftpb_message){.message = {.type = RAFT_MSG_APP,
                                               .to = frames->local,
                                               .from = frames->remote,
                                               .term = frames->at.term,
                                               .log_term = frames->at.term,
                                               .index = frames->at.index}};
    if (count > 0) {
        out->entries = calloc((size_t)count, sizeof(*out->entries));
        if (out->entries == NULL)
            return ST_NO_MEMORY;
        out->message.entries = out->entries;
    }
    st = decode_entries(in, count, out);
    if (st != ST_OK)
        raftpb_message_deinit(out);
    frames->at.index += count;
    return st;
}

static enum status take_msgapp(struct frames *frames, struct slice in, size_t *used_out,
                               bool *has_out, struct raftpb_message *out)
{
    switch (in.data[0]) {
    case FRAME_HEARTBEAT:
        *used_out = 1;
        *has_out = false;
        return ST_OK;
    case FRAME_ENTRIES:
        return take_entries(frames, in, used_out, out);
    case FRAME_MESSAGE: {
        enum status st = take_message(in, 1, used_out, out);
        if (st == ST_OK)
            stand_after(frames, &out->message);
        return st;
    }
    default:
        return ST_INVALID;
    }
}

enum status frames_take(struct frames *frames, struct slice in, size_t *used_out, bool *has_out,
                        struct raftpb_message *out)
{
    if (in.len == 0)
        return ST_TRUNCATED;
    *has_out = true;
    if (frames->kind == STREAM_MSGAPP)
        return take_msgapp(frames, in, used_out, has_out, out);
    enum status st = take_message(in, 0, used_out, out);
    if (st == ST_OK && out->message.type == RAFT_MSG_HEARTBEAT && out->message.from == 0 &&
        out->message.to == 0) {
        raftpb_message_deinit(out);
        *has_out = false;
    }
    return st;
}
