/* server/state/member_json.c - a member as Go's encoding/json writes and reads it. */
#include "base/arena.h"
#include "base/buf.h"
#include "server/state/json_reader.h"
#include "server/state/json_writer.h"
#include "server/state/members.h"

#include <inttypes.h>

/* ---- writing ---- */

static enum status append_strings(struct buf *out, const struct slice *strings, uint32_t count)
{
    enum status st = buf_append(out, SLICE("["));
    for (uint32_t i = 0; i < count && st == ST_OK; i++) {
        if (i > 0)
            st = buf_append(out, SLICE(","));
        if (st == ST_OK)
            st = json_put_string(out, strings[i]);
    }
    return st == ST_OK ? buf_append(out, SLICE("]")) : st;
}

static enum status append_key(struct buf *out, enum status before, const char *text)
{
    return before == ST_OK ? buf_append(out, slice_from_str(text)) : before;
}

enum status member_json_encode(const struct member_row *row, struct buf *out)
{
    enum status st = buf_printf(out, "{\"id\":%" PRIu64 ",\"peerURLs\":", row->id);
    if (st == ST_OK)
        st = append_strings(out, row->peer_urls, row->peer_urls_count);
    if (row->is_learner)
        st = append_key(out, st, ",\"isLearner\":true");
    if (row->name.len > 0) {
        st = append_key(out, st, ",\"name\":");
        if (st == ST_OK)
            st = json_put_string(out, row->name);
    }
    if (row->client_urls_count > 0) {
        st = append_key(out, st, ",\"clientURLs\":");
        if (st == ST_OK)
            st = append_strings(out, row->client_urls, row->client_urls_count);
    }
    return append_key(out, st, "}");
}

enum status member_attributes_encode(const struct member_row *row, struct buf *out)
{
    enum status st = buf_append(out, SLICE("{"));
    if (row->name.len > 0) {
        st = append_key(out, st, "\"name\":");
        if (st == ST_OK)
            st = json_put_string(out, row->name);
    }
    if (row->client_urls_count > 0) {
        st = append_key(out, st, row->name.len > 0 ? ",\"clientURLs\":" : "\"clientURLs\":");
        if (st == ST_OK)
            st = append_strings(out, row->client_urls, row->client_urls_count);
    }
    return append_key(out, st, "}");
}

enum status member_raft_attributes_encode(const struct member_row *row, struct buf *out)
{
    enum status st = append_key(out, ST_OK, "{\"peerURLs\":");
    if (st == ST_OK)
        st = append_strings(out, row->peer_urls, row->peer_urls_count);
    return append_key(out, st, row->is_learner ? ",\"isLearner\":true}" : "}");
}

enum status members_json_encode(const struct members *members, struct buf *out)
{
    enum status st = buf_append(out, SLICE("["));
    for (uint32_t i = 0; i < members_count(members) && st == ST_OK; i++) {
        if (i > 0)
            st = buf_append(out, SLICE(","));
        if (st == ST_OK)
            st = member_json_encode(members_at(members, i), out);
    }
    return append_key(out, st, "]");
}

/* ---- reading ---- */

static enum status read_strings(struct json_reader *r, const struct slice **out,
                                uint32_t *count_out)
{
    struct slice strings[MEMBER_URLS_MAX];
    uint32_t count = 0;
    *out = NULL;
    *count_out = 0;
    if (json_take_word(r, "null"))
        return ST_OK;
    if (!json_take(r, '['))
        return ST_INVALID;
    while (!json_take(r, ']')) {
        if (count > 0 && !json_take(r, ','))
            return ST_INVALID;
        if (count == MEMBER_URLS_MAX)
            return ST_TOO_BIG;
        enum status st = json_read_string(r, &strings[count]);
        if (st != ST_OK)
            return st;
        count++;
    }
    void *copy;
    enum status st = arena_take(r->arena, count * sizeof(strings[0]), &copy);
    if (st != ST_OK)
        return st;
    memcpy(copy, strings, count * sizeof(strings[0]));
    *out = copy;
    *count_out = count;
    return ST_OK;
}

static enum status read_field(void *context, struct json_reader *r, struct slice key)
{
    struct member_row *out = context;
    if (json_key_is(key, "id"))
        return json_read_u64(r, &out->id);
    if (json_key_is(key, "name"))
        return json_take_word(r, "null") ? ST_OK : json_read_string(r, &out->name);
    if (json_key_is(key, "peerURLs"))
        return read_strings(r, &out->peer_urls, &out->peer_urls_count);
    if (json_key_is(key, "clientURLs"))
        return read_strings(r, &out->client_urls, &out->client_urls_count);
    if (json_key_is(key, "isLearner"))
        return json_read_bool(r, &out->is_learner);
    if (json_key_is(key, "isPromote"))
        return json_read_bool(r, &out->is_promote);
    return json_skip(r);
}

static enum status read_member(struct json_reader *r, struct member_row *out)
{
    *out = (struct member_row){0};
    return json_read_object(r, read_field, out);
}

enum status member_json_decode(struct slice json, struct arena *arena, struct member_row *out)
{
    struct json_reader r = json_reader_of(json, arena);
    *out = (struct member_row){0};
    if (json.len == 0)
        return ST_INVALID;
    enum status st = read_member(&r, out);
    return st == ST_OK && !json_is_at_end(&r) ? ST_INVALID : st;
}

static enum status read_members(struct json_reader *r, struct members **table)
{
    if (!json_take(r, '['))
        return ST_INVALID;
    for (bool first = true; !json_take(r, ']'); first = false) {
        struct member_row row;
        struct members *next;
        if (!first && !json_take(r, ','))
            return ST_INVALID;
        enum status st = read_member(r, &row);
        if (st == ST_OK && (row.id == 0 || members_find(*table, row.id) != NULL))
            st = ST_INVALID;
        if (st == ST_OK)
            st = members_with(*table, &row, &next);
        if (st != ST_OK)
            return st;
        members_unref(*table);
        *table = next;
    }
    return json_is_at_end(r) ? ST_OK : ST_INVALID;
}

enum status members_json_decode(struct slice json, struct arena *arena, struct members **out)
{
    struct json_reader r = json_reader_of(json, arena);
    struct members *table = NULL;
    enum status st = json.len == 0 ? ST_INVALID : read_members(&r, &table);
    if (st != ST_OK) {
        members_unref(table);
        table = NULL;
    }
    *out = table;
    return st;
}
