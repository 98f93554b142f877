#include "server/peers/raftpb.h"

#include "base/assert.h"
#include "base/wire.h"
#include "server/peers/limits.h"

#define TAG_BYTES(number) ((uint8_t)((uint32_t)(number) << 3 | WIRE_BYTES))
#define TAG_VARINT(number) ((uint8_t)((uint32_t)(number) << 3 | WIRE_VARINT))
#define FIELD_BYTES_MAX (1 + VARINT_BYTES_MAX) /* a varint field, or the head of a bytes field */

/* ---- sizes ---- */

static size_t field_size(uint64_t value)
{
    return 1 + varint_size(value);
}

static size_t bytes_size(size_t len)
{
    return 1 + varint_size(len) + len;
}

static size_t ids_size(const raft_id *ids, uint32_t count)
{
    size_t size = 0;
    for (uint32_t i = 0; i < count; i++)
        size += field_size(ids[i]);
    return size;
}

static size_t conf_state_size(const struct raft_conf_state *cs)
{
    return ids_size(cs->voters, cs->voters_count) + ids_size(cs->learners, cs->learners_count) +
           ids_size(cs->voters_outgoing, cs->voters_outgoing_count) +
           ids_size(cs->learners_next, cs->learners_next_count) + 2;
}

static size_t meta_size(const struct raft_snapshot_meta *meta)
{
    return bytes_size(conf_state_size(&meta->conf_state)) + field_size(meta->last.index) +
           field_size(meta->last.term);
}

static size_t snapshot_size(const struct raft_snapshot_meta *meta, struct slice data)
{
    return (data.len > 0 ? bytes_size(data.len) : 0) + bytes_size(meta_size(meta));
}

static size_t entry_head_size(const struct raft_entry *entry)
{
    return field_size((uint64_t)entry->type) + field_size(entry->term) + field_size(entry->index);
}

size_t raftpb_entry_size(const struct raft_entry *entry)
{
    return entry_head_size(entry) + (entry->payload == NULL ? 0 : bytes_size(entry->payload->len));
}

static const struct raft_snapshot_meta no_snapshot;

size_t raftpb_message_size(const struct raft_message *m, struct slice data)
{
    size_t size = field_size((uint64_t)m->type) + field_size(m->to) + field_size(m->from) +
                  field_size(m->term) + field_size(m->log_term) + field_size(m->index) +
                  field_size(m->commit) + 2 + field_size(m->reject_hint);
    for (uint32_t i = 0; i < m->entries_count; i++)
        size += bytes_size(raftpb_entry_size(&m->entries[i]));
    size += bytes_size(snapshot_size(m->snapshot == NULL ? &no_snapshot : m->snapshot, data));
    return size + (m->context.len > 0 ? bytes_size(m->context.len) : 0);
}

/* ---- writing ---- */

static uint8_t *put_field(uint8_t *p, uint8_t number, uint64_t value)
{
    *p++ = TAG_VARINT(number);
    return p + put_varint(p, value);
}

static uint8_t *put_head(uint8_t *p, uint8_t number, size_t len)
{
    *p++ = TAG_BYTES(number);
    return p + put_varint(p, len);
}

static uint8_t *put_ids(uint8_t *p, uint8_t number, const raft_id *ids, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        p = put_field(p, number, ids[i]);
    return p;
}

static uint8_t *put_meta(uint8_t *p, const struct raft_snapshot_meta *meta)
{
    const struct raft_conf_state *cs = &meta->conf_state;
    p = put_head(p, 1, conf_state_size(cs));
    p = put_ids(p, 1, cs->voters, cs->voters_count);
    p = put_ids(p, 2, cs->learners, cs->learners_count);
    p = put_ids(p, 3, cs->voters_outgoing, cs->voters_outgoing_count);
    p = put_ids(p, 4, cs->learners_next, cs->learners_next_count);
    p = put_field(p, 5, cs->auto_leave ? 1 : 0);
    p = put_field(p, 2, meta->last.index);
    return put_field(p, 3, meta->last.term);
}

static enum status put_entry(struct out *out, const struct raft_entry *entry, size_t framed_size)
{
    uint8_t *begin = out_reserve(out, 5 * FIELD_BYTES_MAX);
    if (begin == NULL)
        return ST_NO_MEMORY;
    uint8_t *p = begin;
    if (framed_size > 0)
        p = put_head(p, 7, framed_size);
    p = put_field(p, 1, (uint64_t)entry->type);
    p = put_field(p, 2, entry->term);
    p = put_field(p, 3, entry->index);
    if (entry->payload != NULL)
        p = put_head(p, 4, entry->payload->len);
    out_commit(out, (size_t)(p - begin));
    return entry->payload == NULL ? ST_OK : out_payload(out, entry->payload);
}

enum status raftpb_put_entry(struct out *out, const struct raft_entry *entry)
{
    return put_entry(out, entry, 0);
}

static enum status put_snapshot(struct out *out, const struct raft_snapshot_meta *meta,
                                struct slice data)
{
    uint8_t *begin = out_reserve(out, 2 * FIELD_BYTES_MAX);
    if (begin == NULL)
        return ST_NO_MEMORY;
    uint8_t *p = put_head(begin, 9, snapshot_size(meta, data));
    if (data.len > 0)
        p = put_head(p, 1, data.len);
    out_commit(out, (size_t)(p - begin));
    if (out_append(out, data) != ST_OK)
        return ST_NO_MEMORY;
    begin = out_reserve(out, FIELD_BYTES_MAX + meta_size(meta));
    if (begin == NULL)
        return ST_NO_MEMORY;
    p = put_meta(put_head(begin, 2, meta_size(meta)), meta);
    out_commit(out, (size_t)(p - begin));
    return ST_OK;
}

enum status raftpb_put_message(struct out *out, const struct raft_message *m, struct slice data)
{
    uint8_t *begin = out_reserve(out, 6 * FIELD_BYTES_MAX);
    if (begin == NULL)
        return ST_NO_MEMORY;
    uint8_t *p = put_field(begin, 1, (uint64_t)m->type);
    p = put_field(p, 2, m->to);
    p = put_field(p, 3, m->from);
    p = put_field(p, 4, m->term);
    p = put_field(p, 5, m->log_term);
    p = put_field(p, 6, m->index);
    out_commit(out, (size_t)(p - begin));
    for (uint32_t i = 0; i < m->entries_count; i++) {
        if (put_entry(out, &m->entries[i], raftpb_entry_size(&m->entries[i])) != ST_OK)
            return ST_NO_MEMORY;
    }
    begin = out_reserve(out, FIELD_BYTES_MAX);
    if (begin == NULL)
        return ST_NO_MEMORY;
    out_commit(out, (size_t)(put_field(begin, 8, m->commit) - begin));
    if (put_snapshot(out, m->snapshot == NULL ? &no_snapshot : m->snapshot, data) != ST_OK)
        return ST_NO_MEMORY;
    begin = out_reserve(out, 3 * FIELD_BYTES_MAX);
    if (begin == NULL)
        return ST_NO_MEMORY;
    p = put_field(begin, 10, m->reject ? 1 : 0);
    p = put_field(p, 11, m->reject_hint);
    if (m->context.len > 0)
        p = put_head(p, 12, m->context.len);
    out_commit(out, (size_t)(p - begin));
    return out_append(out, m->context);
}

/* ---- reading ---- */

/* A known field must come in its own wire type. */
static bool is_of(const struct wire_field *f, bool is_bytes)
{
    return f->type == (is_bytes ? WIRE_BYTES : WIRE_VARINT);
}

enum status raftpb_decode_entry(struct slice in, struct raft_entry *out)
{
    *out = (struct raft_entry){0};
    bool has_data = false;
    struct slice data = SLICE_EMPTY;
    while (in.len > 0) {
        struct wire_field f;
        if (wire_next(&in, &f) != ST_OK)
            return ST_INVALID;
        if (f.number >= 1 && f.number <= 4 && !is_of(&f, f.number == 4))
            return ST_INVALID;
        if (f.number == 1 && f.value > RAFT_ENTRY_CONF_CHANGE_V2)
            return ST_INVALID;
        if (f.number == 1)
            out->type = (enum raft_entry_type)f.value;
        else if (f.number == 2)
            out->term = f.value;
        else if (f.number == 3)
            out->index = f.value;
        else if (f.number == 4) {
            has_data = true;
            data = f.bytes;
        }
    }
    if (!has_data)
        return ST_OK;
    if (data.len > UINT32_MAX)
        return ST_INVALID;
    out->payload = raft_payload_copy(data);
    return out->payload == NULL ? ST_NO_MEMORY : ST_OK;
}

static enum status add_id(raft_id *ids, uint32_t *count, uint64_t id)
{
    if (*count == RAFT_MEMBERS_MAX)
        return ST_INVALID;
    ids[(*count)++] = id;
    return ST_OK;
}

/* Repeated numbers come one by one, or, from proto3's writers, packed into one field. */
static enum status add_ids(raft_id *ids, uint32_t *count, const struct wire_field *f)
{
    if (f->type == WIRE_VARINT)
        return add_id(ids, count, f->value);
    if (f->type != WIRE_BYTES)
        return ST_INVALID;
    struct slice in = f->bytes;
    while (in.len > 0) {
        uint64_t id;
        if (take_varint(&in, &id) != ST_OK || add_id(ids, count, id) != ST_OK)
            return ST_INVALID;
    }
    return ST_OK;
}

static enum status decode_conf_state(struct slice in, struct raft_conf_state *cs)
{
    while (in.len > 0) {
        struct wire_field f;
        enum status st = wire_next(&in, &f);
        if (st != ST_OK)
            return st;
        if (f.number == 1)
            st = add_ids(cs->voters, &cs->voters_count, &f);
        else if (f.number == 2)
            st = add_ids(cs->learners, &cs->learners_count, &f);
        else if (f.number == 3)
            st = add_ids(cs->voters_outgoing, &cs->voters_outgoing_count, &f);
        else if (f.number == 4)
            st = add_ids(cs->learners_next, &cs->learners_next_count, &f);
        else if (f.number == 5 && f.type != WIRE_VARINT)
            st = ST_INVALID;
        else if (f.number == 5)
            cs->auto_leave = f.value != 0;
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}

static enum status decode_meta(struct slice in, struct raft_snapshot_meta *meta)
{
    while (in.len > 0) {
        struct wire_field f;
        enum status st = wire_next(&in, &f);
        if (st != ST_OK || (f.number >= 1 && f.number <= 3 && !is_of(&f, f.number == 1)))
            return ST_INVALID;
        if (f.number == 1)
            st = decode_conf_state(f.bytes, &meta->conf_state);
        else if (f.number == 2)
            meta->last.index = f.value;
        else if (f.number == 3)
            meta->last.term = f.value;
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}

static enum status decode_snapshot(struct slice in, struct raftpb_message *out)
{
    if (out->snapshot != NULL)
        return ST_INVALID; /* twice: nobody writes that */
    struct raft_snapshot_meta *meta = calloc(1, sizeof(*meta));
    if (meta == NULL)
        return ST_NO_MEMORY;
    enum status st = ST_OK;
    while (in.len > 0 && st == ST_OK) {
        struct wire_field f;
        st = wire_next(&in, &f);
        if (st == ST_OK && (f.number == 1 || f.number == 2) && f.type != WIRE_BYTES)
            st = ST_INVALID;
        else if (st == ST_OK && f.number == 1)
            out->data = f.bytes;
        else if (st == ST_OK && f.number == 2)
            st = decode_meta(f.bytes, meta);
    }
    if (st == ST_OK && meta->last.index > 0) {
        out->snapshot = meta;
        out->message.snapshot = meta;
        out->bytes += sizeof(*meta);
        return ST_OK;
    }
    free(meta);
    out->data = SLICE_EMPTY;
    return st;
}

/* From a peer come only the messages that members send each other. */
static enum status set_type(struct raft_message *m, uint64_t value)
{
    if (value > RAFT_MSG_PRE_VOTE_RESP)
        return ST_INVALID;
    m->type = (enum raft_message_type)value;
    return ST_OK;
}

static enum status set_scalar(struct raft_message *m, const struct wire_field *f)
{
    switch (f->number) {
    case 1:
        return set_type(m, f->value);
    case 2:
        m->to = f->value;
        return ST_OK;
    case 3:
        m->from = f->value;
        return ST_OK;
    case 4:
        m->term = f->value;
        return ST_OK;
    case 5:
        m->log_term = f->value;
        return ST_OK;
    case 6:
        m->index = f->value;
        return ST_OK;
    case 8:
        m->commit = f->value;
        return ST_OK;
    case 10:
        m->reject = f->value != 0;
        return ST_OK;
    case 11:
        m->reject_hint = f->value;
        return ST_OK;
    default:
        return ST_OK;
    }
}

static bool is_bytes_field(uint32_t number)
{
    return number == 7 || number == 9 || number == 12;
}

static enum status count_entries(struct slice in, uint32_t *out)
{
    *out = 0;
    while (in.len > 0) {
        struct wire_field f;
        if (wire_next(&in, &f) != ST_OK)
            return ST_INVALID;
        if (f.number >= 1 && f.number <= 12 && !is_of(&f, is_bytes_field(f.number)))
            return ST_INVALID;
        if (f.number == 7 && (*out)++ == UINT32_MAX)
            return ST_INVALID;
    }
    return ST_OK;
}

static enum status set_field(struct raftpb_message *out, const struct wire_field *f)
{
    if (f->type != WIRE_BYTES)
        return set_scalar(&out->message, f);
    if (f->number == 9)
        return decode_snapshot(f->bytes, out);
    if (f->number == 12)
        out->message.context = f->bytes;
    if (f->number != 7)
        return ST_OK;
    struct raft_entry *entry = &out->entries[out->message.entries_count];
    enum status st = raftpb_decode_entry(f->bytes, entry);
    if (st != ST_OK)
        return st;
    out->message.entries_count++;
    out->bytes += sizeof(*entry) +
                  (entry->payload == NULL ? 0 : sizeof(*entry->payload) + entry->payload->len);
    return ST_OK;
}

enum status raftpb_decode_message(struct slice in, struct raftpb_message *out)
{
    *out = (struct raftpb_message){0};
    uint32_t count;
    enum status st = count_entries(in, &count);
    if (st != ST_OK)
        return st;
    if (count > 0) {
        out->entries = calloc(count, sizeof(*out->entries));
        if (out->entries == NULL)
            return ST_NO_MEMORY;
        out->message.entries = out->entries;
    }
    while (in.len > 0 && st == ST_OK) {
        struct wire_field f;
        st = wire_next(&in, &f);
        if (st == ST_OK)
            st = set_field(out, &f);
    }
    if (st != ST_OK)
        raftpb_message_deinit(out);
    return st;
}

void raftpb_message_deinit(struct raftpb_message *message)
{
    for (uint32_t i = 0; i < message->message.entries_count; i++)
        raft_payload_unref(message->entries[i].payload);
    free(message->entries);
    free(message->snapshot);
    *message = (struct raftpb_message){0};
}
