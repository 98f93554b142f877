#include "tools/utl/entry_text.h"

#include "base/arena.h"
#include "base/minmax.h"
#include "base/wire.h"
#include "server/state/conf_state.h"
#include "server/state/kv_request.h"
#include "tools/print/text.h"

#include <inttypes.h>

#define TEXT_SHOWN_BYTES 128U /* of a key, a path or bytes in hexadecimal */
#define TXN_ARENA_BYTES_MAX (256U << 20)
#define TXN_OPS_SHOWN 8U

const char *utl_entry_type(enum raft_entry_type type)
{
    switch (type) {
    case RAFT_ENTRY_NORMAL:
        return "normal";
    case RAFT_ENTRY_CONF_CHANGE:
        return "conf change";
    case RAFT_ENTRY_CONF_CHANGE_V2:
        return "conf change v2";
    }
    return "?";
}

static enum status append_quoted(struct buf *out, struct slice s)
{
    struct slice shown = slice_make(s.data, min_size(s.len, TEXT_SHOWN_BYTES));
    uint8_t *room;
    enum status st = buf_extend(out, print_quoted_size(shown) + 1, &room);
    if (st != ST_OK)
        return st;
    print_quoted_write(shown, (char *)room);
    out->len--; /* its NUL */
    return shown.len < s.len ? buf_printf(out, "...") : ST_OK;
}

static enum status append_hex(struct buf *out, struct slice s)
{
    enum status st = ST_OK;
    for (size_t i = 0; i < min_size(s.len, TEXT_SHOWN_BYTES) && st == ST_OK; i++)
        st = buf_printf(out, "%02x", s.data[i]);
    return st == ST_OK && s.len > TEXT_SHOWN_BYTES ? buf_printf(out, "...") : st;
}

static enum status append_unknown(struct buf *out, const char *what, struct slice bytes)
{
    enum status st = buf_printf(out, "%s, %zu bytes: ", what, bytes.len);
    return st == ST_OK ? append_hex(out, bytes) : st;
}

/* "[a, b)", or just the key. */
static enum status append_range(struct buf *out, struct slice key, struct slice end)
{
    enum status st = append_quoted(out, key);
    if (st == ST_OK && end.len > 0)
        st = buf_printf(out, " to ");
    return st == ST_OK && end.len > 0 ? append_quoted(out, end) : st;
}

/* ---- requests of the key space ---- */

static enum status append_put(struct buf *out, const struct kv_put *put)
{
    enum status st = buf_printf(out, "put ");
    if (st == ST_OK)
        st = append_quoted(out, put->key);
    if (st == ST_OK)
        st = buf_printf(out, " (%zu bytes", put->value.len);
    if (st == ST_OK && put->lease != 0)
        st = buf_printf(out, ", lease %" PRIx64, (uint64_t)put->lease);
    return st == ST_OK ? buf_printf(out, ")") : st;
}

static enum status append_delete(struct buf *out, const struct kv_delete *del)
{
    enum status st = buf_printf(out, "delete ");
    return st == ST_OK ? append_range(out, del->key, del->range_end) : st;
}

static enum status append_op(struct buf *out, const struct kv_op *op)
{
    switch (op->kind) {
    case KV_OP_PUT:
        return append_put(out, op->put);
    case KV_OP_DELETE:
        return append_delete(out, op->del);
    case KV_OP_RANGE: {
        enum status st = buf_printf(out, "get ");
        return st == ST_OK ? append_range(out, op->range->key, op->range->range_end) : st;
    }
    case KV_OP_TXN:
        return buf_printf(out, "txn");
    case KV_OP_NONE:
        break;
    }
    return buf_printf(out, "nothing");
}

static enum status append_ops(struct buf *out, const char *word, const struct kv_ops *ops)
{
    enum status st = buf_printf(out, " %s {", word);
    for (uint32_t i = 0; i < min_u32(ops->count, TXN_OPS_SHOWN) && st == ST_OK; i++) {
        st = buf_printf(out, "%s", i == 0 ? "" : "; ");
        if (st == ST_OK)
            st = append_op(out, &ops->items[i]);
    }
    if (st == ST_OK && ops->count > TXN_OPS_SHOWN)
        st = buf_printf(out, "; and %" PRIu32 " more", ops->count - TXN_OPS_SHOWN);
    return st == ST_OK ? buf_printf(out, "}") : st;
}

static enum status append_branches(struct buf *out, const struct kv_txn *txn)
{
    enum status st = buf_printf(out, "txn if %" PRIu32 " compares", txn->compares_count);
    if (txn->success.count > 0 && st == ST_OK)
        st = append_ops(out, "then", &txn->success);
    if (txn->failure.count > 0 && st == ST_OK)
        st = append_ops(out, "else", &txn->failure);
    return st;
}

static enum status append_txn(struct buf *out, struct slice body)
{
    struct arena arena;
    struct kv_txn txn;
    arena_init(&arena, TXN_ARENA_BYTES_MAX);
    enum status st = kv_txn_decode(body, UINT32_MAX, &arena, &txn);
    if (st == ST_OK && !txn.over_limit)
        st = append_branches(out, &txn);
    else if (st == ST_OK || st == ST_INVALID)
        st = append_unknown(out, "txn that does not decode", body);
    arena_deinit(&arena);
    return st;
}

static enum status append_kv(struct buf *out, const struct internal_request *request)
{
    union {
        struct kv_put put;
        struct kv_delete del;
        struct kv_range range;
        struct kv_compact compact;
    } u;
    switch (request->field) {
    case INTERNAL_PUT:
        if (kv_put_decode(request->body, &u.put) == ST_OK)
            return append_put(out, &u.put);
        break;
    case INTERNAL_DELETE_RANGE:
        if (kv_delete_decode(request->body, &u.del) == ST_OK)
            return append_delete(out, &u.del);
        break;
    case INTERNAL_COMPACTION:
        if (kv_compact_decode(request->body, &u.compact) == ST_OK)
            return buf_printf(out, "compact at %" PRId64 "%s", u.compact.revision,
                              u.compact.physical ? ", physically" : "");
        break;
    case INTERNAL_RANGE:
        if (kv_range_decode(request->body, &u.range) == ST_OK) {
            enum status st = buf_printf(out, "get ");
            return st == ST_OK ? append_range(out, u.range.key, u.range.range_end) : st;
        }
        break;
    default:
        return append_txn(out, request->body);
    }
    return append_unknown(out, "a request that does not decode", request->body);
}

/* ---- everything else: its name, and its fields by number ---- */

static const char *request_name(uint32_t field)
{
    static const struct {
        uint32_t field;
        const char *name;
    } names[] = {{8, "lease grant"},
                 {9, "lease revoke"},
                 {10, "alarm"},
                 {11, "lease checkpoint"},
                 {1000, "auth enable"},
                 {1011, "auth disable"},
                 {1012, "authenticate"},
                 {1013, "auth status"},
                 {1100, "user add"},
                 {1101, "user delete"},
                 {1102, "user get"},
                 {1103, "user change password"},
                 {1104, "user grant role"},
                 {1105, "user revoke role"},
                 {1106, "user list"},
                 {1107, "role list"},
                 {1200, "role add"},
                 {1201, "role delete"},
                 {1202, "role get"},
                 {1203, "role grant permission"},
                 {1204, "role revoke permission"},
                 {1300, "cluster version"},
                 {1301, "member attributes"},
                 {1302, "downgrade info"}};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (names[i].field == field)
            return names[i].name;
    }
    return NULL;
}

static enum status append_fields(struct buf *out, struct slice body)
{
    enum status st = ST_OK;
    while (body.len > 0 && st == ST_OK) {
        struct wire_field field;
        if (wire_next(&body, &field) != ST_OK)
            return append_unknown(out, " and what does not decode", body);
        st = buf_printf(out, " %" PRIu32 ":", field.number);
        if (st != ST_OK)
            return st;
        if (field.type == WIRE_BYTES)
            st = append_quoted(out, field.bytes);
        else
            st = buf_printf(out, "%" PRIu64, field.value);
    }
    return st;
}

/* ---- users and roles ---- */

static bool is_auth(uint32_t request)
{
    return request >= INTERNAL_AUTH_ENABLE && request <= INTERNAL_AUTH_ROLE_REVOKE_PERMISSION;
}

/* authpb.Permission{permType=1, key=2, range_end=3}. */
static enum status append_permission(struct buf *out, struct slice message)
{
    static const char *const types[] = {"READ", "WRITE", "READWRITE"};
    uint64_t type = 0;
    struct slice key = SLICE_EMPTY, end = SLICE_EMPTY;
    while (message.len > 0) {
        struct wire_field field;
        if (wire_next(&message, &field) != ST_OK)
            return append_unknown(out, " and what does not decode", message);
        if (field.number == 1 && field.type == WIRE_VARINT)
            type = field.value;
        if (field.number == 2 && field.type == WIRE_BYTES)
            key = field.bytes;
        if (field.number == 3 && field.type == WIRE_BYTES)
            end = field.bytes;
    }
    enum status st = buf_printf(out, " %s ", type < 3 ? types[type] : "?");
    return st == ST_OK ? append_range(out, key, end) : st;
}

/* Names are shown; passwords, their hashes and tokens are left out. */
static enum status append_auth_field(struct buf *out, uint32_t request,
                                     const struct wire_field *field, struct slice *key)
{
    if (field->type != WIRE_BYTES)
        return ST_OK;
    if (request == INTERNAL_AUTH_ROLE_GRANT_PERMISSION && field->number == 2)
        return append_permission(out, field->bytes);
    if (request == INTERNAL_AUTH_USER_ADD && field->number == 3)
        return field->bytes.len == 0 ? ST_OK : buf_printf(out, " without a password");
    if (request == INTERNAL_AUTH_ROLE_REVOKE_PERMISSION && field->number == 2) {
        *key = field->bytes;
        return ST_OK;
    }
    bool is_role = field->number == 2 && (request == INTERNAL_AUTH_USER_GRANT_ROLE ||
                                          request == INTERNAL_AUTH_USER_REVOKE_ROLE);
    if (field->number != 1 && !is_role)
        return ST_OK;
    enum status st = buf_append(out, SLICE(" "));
    return st == ST_OK ? append_quoted(out, field->bytes) : st;
}

static enum status append_auth(struct buf *out, uint32_t request, struct slice body)
{
    struct slice key = SLICE_EMPTY, end = SLICE_EMPTY;
    enum status st = ST_OK;
    while (body.len > 0 && st == ST_OK) {
        struct wire_field field;
        if (wire_next(&body, &field) != ST_OK)
            return buf_printf(out, " and what does not decode");
        if (field.number == 3 && field.type == WIRE_BYTES)
            end = field.bytes;
        st = append_auth_field(out, request, &field, &key);
    }
    if (st != ST_OK || request != INTERNAL_AUTH_ROLE_REVOKE_PERMISSION)
        return st;
    st = buf_append(out, SLICE(" "));
    return st == ST_OK ? append_range(out, key, end) : st;
}

/* LeaseGrantRequest{TTL=1, ID=2}; LeaseRevokeRequest{ID=1}. */
static enum status append_lease(struct buf *out, uint32_t request, struct slice body)
{
    uint64_t numbers[2] = {0};
    while (body.len > 0) {
        struct wire_field field;
        if (wire_next(&body, &field) != ST_OK)
            return append_unknown(out, "a lease request that does not decode", body);
        if (field.type == WIRE_VARINT && field.number <= 2)
            numbers[field.number - 1] = field.value;
    }
    if (request == 8)
        return buf_printf(out, "lease grant %" PRIx64 " (%" PRIu64 " s)", numbers[1], numbers[0]);
    return buf_printf(out, "lease revoke %" PRIx64, numbers[0]);
}

/* The body of the request that has no reader of its own: InternalRaftRequest's other field. */
static bool find_request(struct slice data, uint32_t *field_out, struct slice *body_out)
{
    *field_out = 0;
    *body_out = SLICE_EMPTY;
    while (data.len > 0) {
        struct wire_field field;
        if (wire_next(&data, &field) != ST_OK)
            return false;
        if (field.number == 1 || field.number == INTERNAL_HEADER)
            continue;
        if (field.type != WIRE_BYTES || *field_out != 0)
            return false;
        *field_out = field.number;
        *body_out = field.bytes;
    }
    return true;
}

static enum status append_other(struct buf *out, struct slice data)
{
    uint32_t field;
    struct slice body;
    if (!find_request(data, &field, &body))
        return append_unknown(out, "unknown", data);
    if (field == 0)
        return buf_printf(out, "nothing");
    if (field == 8 || field == 9)
        return append_lease(out, field, body);
    const char *name = request_name(field);
    if (name == NULL)
        return append_unknown(out, "unknown request", data);
    enum status st = buf_printf(out, "%s", name);
    if (st != ST_OK)
        return st;
    return is_auth(field) ? append_auth(out, field, body) : append_fields(out, body);
}

static enum status append_legacy(struct buf *out, const struct internal_request *request)
{
    enum status st = buf_printf(out, "v2 ");
    if (st == ST_OK)
        st = buf_append(out, request->method);
    if (st == ST_OK)
        st = buf_append(out, SLICE(" "));
    if (st == ST_OK)
        st = append_quoted(out, request->path);
    if (st == ST_OK && request->value.len > 0)
        st = buf_append(out, SLICE(" = "));
    return st == ST_OK && request->value.len > 0 ? append_quoted(out, request->value) : st;
}

static enum status append_normal(struct buf *out, struct slice data)
{
    struct internal_request request;
    if (data.len == 0)
        return buf_printf(out, "empty: a leader's first");
    enum status st = internal_request_decode(data, &request);
    if (st != ST_OK)
        return append_other(out, data);
    if (request.is_legacy)
        return append_legacy(out, &request);
    bool is_kv = request.field >= INTERNAL_RANGE && request.field <= INTERNAL_COMPACTION;
    st = is_kv ? append_kv(out, &request) : append_other(out, data);
    if (st != ST_OK || request.caller.name.len == 0)
        return st;
    st = buf_append(out, SLICE(", as "));
    return st == ST_OK ? append_quoted(out, request.caller.name) : st;
}

/* ---- configuration changes ---- */

static enum status append_change(struct buf *out, const struct raft_entry *entry)
{
    static const char *const types[] = {
        [MEMBER_CHANGE_ADD_NODE] = "add voter",
        [MEMBER_CHANGE_REMOVE_NODE] = "remove member",
        [MEMBER_CHANGE_UPDATE_NODE] = "update member",
        [MEMBER_CHANGE_ADD_LEARNER] = "add learner",
    };
    struct member_change change;
    struct slice bytes = raft_payload_slice(entry->payload);
    if (entry->type != RAFT_ENTRY_CONF_CHANGE || member_change_decode(bytes, &change) != ST_OK ||
        change.type >= sizeof(types) / sizeof(types[0]))
        return append_unknown(out, "a change that does not decode", bytes);
    enum status st = buf_printf(out, "%s %" PRIx64, types[change.type], change.node_id);
    if (st != ST_OK || change.context.len == 0)
        return st;
    st = buf_append(out, SLICE(" "));
    return st == ST_OK ? append_quoted(out, change.context) : st;
}

enum status utl_entry_text(const struct raft_entry *entry, struct buf *out)
{
    if (entry->type != RAFT_ENTRY_NORMAL)
        return append_change(out, entry);
    return append_normal(out, raft_payload_slice(entry->payload));
}
