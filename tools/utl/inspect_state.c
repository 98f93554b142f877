/* inspect leases, members, auth, alarms. */
#include "base/bytes.h"
#include "base/clock_real.h"
#include "base/minmax.h"
#include "base/wire.h"
#include "server/state/machine.h"
#include "storage/mvcc.h"
#include "storage/store.h"
#include "tools/print/text.h"
#include "tools/utl/inspect.h"
#include "tools/utl/progress.h"

#include <inttypes.h>
#include <stdlib.h>

#define COLUMNS_COUNT(columns) ((uint32_t)(sizeof(columns) / sizeof((columns)[0])))
#define ARENA_BYTES_MAX (256U << 20)
#define TEXT_BYTES_MAX (1U << 20)

/* ---- leases ---- */

static const struct utl_column lease_columns[] = {
    {"LEASE", "ID", "ID"},
    {"TTL", "TTL", "TTL"},
    {"REMAINING AT LAST CHECKPOINT", "remaining_ttl", "RemainingTTL"},
    {"KEYS", "keys", "Keys"},
};

/* The leases of all live keys, sorted; one number for each key that has one. */
struct leased {
    int64_t *ids; /* owned */
    size_t count, capacity;
    struct progress progress;
    uint64_t read_bytes;
};

static enum status note_lease(void *context, struct slice record)
{
    struct leased *leased = context;
    struct mvcc_kv kv;
    enum status st = mvcc_kv_decode(record, &kv);
    leased->read_bytes += record.len;
    progress_at(&leased->progress, leased->read_bytes);
    if (st != ST_OK || kv.lease == 0)
        return st;
    if (leased->count == leased->capacity) {
        size_t capacity = max_size(1024, leased->capacity * 2);
        int64_t *grown = reallocarray(leased->ids, capacity, sizeof(*grown));
        if (grown == NULL)
            return ST_NO_MEMORY;
        leased->ids = grown;
        leased->capacity = capacity;
    }
    leased->ids[leased->count++] = kv.lease;
    return ST_OK;
}

static int compare_ids(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

static size_t count_below(const struct leased *leased, int64_t id, bool with_equal)
{
    size_t low = 0, high = leased->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (leased->ids[middle] < id || (with_equal && leased->ids[middle] == id))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct leases {
    struct utl_rows rows;
    struct leased leased;
};

static enum status put_lease(void *context, struct slice key, struct slice value)
{
    struct leases *leases = context;
    int64_t numbers[3] = {0}; /* ID, TTL, RemainingTTL */
    while (value.len > 0) {
        struct wire_field field;
        if (wire_next(&value, &field) != ST_OK)
            return ST_CORRUPT;
        if (field.type == WIRE_VARINT && field.number <= 3)
            numbers[field.number - 1] = (int64_t)field.value;
    }
    int64_t id = key.len == 8 ? (int64_t)get_be64(key.data) : numbers[0];
    utl_rows_hex(&leases->rows, (uint64_t)id);
    utl_rows_i64(&leases->rows, numbers[1]);
    utl_rows_i64(&leases->rows, numbers[2]);
    utl_rows_u64(&leases->rows,
                 count_below(&leases->leased, id, true) - count_below(&leases->leased, id, false));
    return ST_OK;
}

static enum status list_leases(struct inspect *i)
{
    struct leases leases = {0};
    static const uint8_t zero = 0;
    const struct mvcc_query all = {
        .range = {.key = slice_make(&zero, 1), .end = slice_make(&zero, 1)}};
    struct mvcc_result result;
    progress_begin(&leases.leased.progress, clock_real(), "reading", i->source->stat.in_use_bytes);
    enum status st =
        mvcc_read(i->source->mvcc, UTL_SOURCE_READER, &all, note_lease, &leases.leased, &result);
    progress_end(&leases.leased.progress);
    if (st == ST_OK) {
        if (leases.leased.count > 0)
            qsort(leases.leased.ids, leases.leased.count, sizeof(int64_t), compare_ids);
        utl_rows_begin(&leases.rows, i->cli->out, i->format, lease_columns,
                       COLUMNS_COUNT(lease_columns));
        st = store_each(i->source->store, BUCKET_LEASE, put_lease, &leases);
        enum status ended = utl_rows_end(&leases.rows);
        st = st == ST_OK ? ended : st;
    }
    free(leases.leased.ids);
    return st;
}

static int run_leases(struct cli *cli)
{
    return inspect_run(cli, 1, INSPECT_STATE, list_leases);
}

static const struct cli_flag plain_flags[] = {INSPECT_FLAGS, {0}};
const struct cli_command inspect_leases_command = {
    .name = "leases",
    .usage = "<source>",
    .brief = "Lists leases with their time to live and how many keys they hold",
    .flags = plain_flags,
    .run = run_leases};

/* ---- members ---- */

static const struct utl_column member_columns[] = {
    {"ID", "ID", "ID"},
    {"STATUS", "status", "Status"},
    {"NAME", "name", "Name"},
    {"PEER ADDRS", "peerURLs", "PeerURLs"},
    {"CLIENT ADDRS", "clientURLs", "ClientURLs"},
    {"IS LEARNER", "isLearner", "IsLearner"},
};

static void put_joined(struct utl_rows *rows, struct buf *text, const struct slice *items,
                       uint32_t count)
{
    buf_reset(text);
    enum status st = ST_OK;
    for (uint32_t i = 0; i < count && st == ST_OK; i++) {
        if (i > 0)
            st = buf_append(text, SLICE(","));
        if (st == ST_OK)
            st = buf_append(text, items[i]);
    }
    if (st == ST_OK)
        st = buf_append(text, slice_make("", 1));
    utl_rows_text(rows, st == ST_OK ? (const char *)text->data : "");
}

static void put_member(struct utl_rows *rows, struct buf *text, const struct member_row *row)
{
    utl_rows_hex(rows, row->id);
    utl_rows_text(rows, row->name.len > 0 ? "started" : "unstarted");
    put_joined(rows, text, &row->name, 1);
    put_joined(rows, text, row->peer_urls, row->peer_urls_count);
    put_joined(rows, text, row->client_urls, row->client_urls_count);
    utl_rows_bool(rows, row->is_learner);
}

struct removed {
    struct utl_rows *rows;
    struct buf *text;
};

static void put_removed(void *context, raft_id id)
{
    const struct removed *removed = context;
    utl_rows_hex(removed->rows, id);
    utl_rows_text(removed->rows, "removed");
    put_joined(removed->rows, removed->text, NULL, 0);
    put_joined(removed->rows, removed->text, NULL, 0);
    put_joined(removed->rows, removed->text, NULL, 0);
    utl_rows_bool(removed->rows, false);
}

static enum status list_members(struct inspect *i)
{
    struct utl_rows rows;
    struct buf text;
    struct members *members = machine_members(i->source->machine);
    buf_init(&text, TEXT_BYTES_MAX);
    utl_rows_begin(&rows, i->cli->out, i->format, member_columns, COLUMNS_COUNT(member_columns));
    for (uint32_t at = 0; at < members_count(members); at++)
        put_member(&rows, &text, members_at(members, at));
    struct removed removed = {&rows, &text};
    machine_each_removed(i->source->machine, put_removed, &removed);
    members_unref(members);
    enum status st = utl_rows_end(&rows);
    buf_deinit(&text);
    return st;
}

static int run_members(struct cli *cli)
{
    return inspect_run(cli, 1, INSPECT_STATE, list_members);
}

const struct cli_command inspect_members_command = {
    .name = "members",
    .usage = "<source>",
    .brief = "Lists the members of the cluster, and those that were removed",
    .flags = plain_flags,
    .run = run_members};

/* ---- auth ---- */

static const struct utl_column auth_columns[] = {
    {"WHAT", "what", "What"},
    {"NAME", "name", "Name"},
    {"DETAILS", "details", "Details"},
};

struct auth {
    struct utl_rows rows;
    struct buf text;
};

static void put_auth(struct auth *auth, const char *what, struct slice name)
{
    utl_rows_text(&auth->rows, what);
    utl_rows_bytes(&auth->rows, name);
    if (buf_append(&auth->text, slice_make("", 1)) != ST_OK)
        buf_reset(&auth->text);
    utl_rows_text(&auth->rows, auth->text.len > 0 ? (const char *)auth->text.data : "");
}

static enum status put_setting(void *context, struct slice key, struct slice value)
{
    struct auth *auth = context;
    buf_reset(&auth->text);
    enum status st = ST_OK;
    if (slice_eq(key, SLICE("authEnabled")) && value.len == 1)
        st = buf_printf(&auth->text, "%s", value.data[0] == 1 ? "true" : "false");
    else if (slice_eq(key, SLICE("authRevision")) && value.len == 8)
        st = buf_printf(&auth->text, "%" PRIu64, get_be64(value.data));
    put_auth(auth, "setting", key);
    return st;
}

static enum status append_quoted(struct buf *out, struct slice s)
{
    uint8_t *room;
    size_t size = print_quoted_size(s);
    enum status st = buf_extend(out, size + 1, &room);
    if (st != ST_OK)
        return st;
    print_quoted_write(s, (char *)room);
    out->len--; /* its NUL */
    return ST_OK;
}

static enum status put_user(void *context, struct slice key, struct slice value)
{
    struct auth *auth = context;
    bool has_password = false;
    buf_reset(&auth->text);
    enum status st = buf_printf(&auth->text, "roles:");
    while (value.len > 0 && st == ST_OK) {
        struct wire_field field;
        if (wire_next(&value, &field) != ST_OK)
            return ST_CORRUPT;
        has_password = has_password || (field.number == 2 && field.bytes.len > 0);
        if (field.number != 3)
            continue;
        st = buf_append(&auth->text, SLICE(" "));
        if (st == ST_OK)
            st = append_quoted(&auth->text, field.bytes);
    }
    if (st == ST_OK && !has_password)
        st = buf_printf(&auth->text, " (no password)");
    put_auth(auth, "user", key);
    return st;
}

/* authpb.Permission{permType=1, key=2, range_end=3}. */
static enum status append_permission(struct buf *out, struct slice permission)
{
    static const char *const types[] = {"READ", "WRITE", "READWRITE"};
    uint64_t type = 0;
    struct slice key = SLICE_EMPTY, end = SLICE_EMPTY;
    while (permission.len > 0) {
        struct wire_field field;
        if (wire_next(&permission, &field) != ST_OK)
            return ST_CORRUPT;
        if (field.number == 1 && field.type == WIRE_VARINT)
            type = field.value;
        else if (field.number == 2)
            key = field.bytes;
        else if (field.number == 3)
            end = field.bytes;
    }
    enum status st = buf_printf(out, " %s [", type < 3 ? types[type] : "?");
    if (st == ST_OK)
        st = append_quoted(out, key);
    if (st == ST_OK && end.len > 0)
        st = buf_printf(out, ", ");
    if (st == ST_OK && end.len > 0)
        st = append_quoted(out, end);
    return st == ST_OK ? buf_printf(out, end.len > 0 ? ")" : "]") : st;
}

static enum status put_role(void *context, struct slice key, struct slice value)
{
    struct auth *auth = context;
    buf_reset(&auth->text);
    enum status st = buf_printf(&auth->text, "permissions:");
    while (value.len > 0 && st == ST_OK) {
        struct wire_field field;
        if (wire_next(&value, &field) != ST_OK)
            return ST_CORRUPT;
        if (field.number == 2 && field.type == WIRE_BYTES)
            st = append_permission(&auth->text, field.bytes);
    }
    put_auth(auth, "role", key);
    return st;
}

static enum status list_auth(struct inspect *i)
{
    struct auth auth;
    buf_init(&auth.text, TEXT_BYTES_MAX);
    utl_rows_begin(&auth.rows, i->cli->out, i->format, auth_columns, COLUMNS_COUNT(auth_columns));
    enum status st = store_each(i->source->store, BUCKET_AUTH, put_setting, &auth);
    if (st == ST_OK)
        st = store_each(i->source->store, BUCKET_AUTH_USERS, put_user, &auth);
    if (st == ST_OK)
        st = store_each(i->source->store, BUCKET_AUTH_ROLES, put_role, &auth);
    enum status ended = utl_rows_end(&auth.rows);
    buf_deinit(&auth.text);
    return st == ST_OK ? ended : st;
}

static int run_auth(struct cli *cli)
{
    return inspect_run(cli, 1, INSPECT_STATE, list_auth);
}

const struct cli_command inspect_auth_command = {
    .name = "auth",
    .usage = "<source>",
    .brief = "Lists whether authentication is on, users with their roles, roles and permissions",
    .flags = plain_flags,
    .run = run_auth};

/* ---- alarms ---- */

static const struct utl_column alarm_columns[] = {
    {"MEMBER", "memberID", "MemberID"},
    {"ALARM", "alarm", "Alarm"},
};

static enum status list_alarms(struct inspect *i)
{
    struct arena arena;
    struct utl_rows rows;
    const struct alarm *alarms;
    uint32_t count = 0;
    arena_init(&arena, ARENA_BYTES_MAX);
    enum status st = machine_alarms(i->source->machine, &arena, &alarms, &count);
    utl_rows_begin(&rows, i->cli->out, i->format, alarm_columns, COLUMNS_COUNT(alarm_columns));
    for (uint32_t at = 0; st == ST_OK && at < count; at++) {
        utl_rows_hex(&rows, alarms[at].member);
        utl_rows_text(&rows, alarms[at].type == ALARM_NOSPACE   ? "NOSPACE"
                             : alarms[at].type == ALARM_CORRUPT ? "CORRUPT"
                                                                : "?");
    }
    enum status ended = utl_rows_end(&rows);
    arena_deinit(&arena);
    return st == ST_OK ? ended : st;
}

static int run_alarms(struct cli *cli)
{
    return inspect_run(cli, 1, INSPECT_STATE, list_alarms);
}

const struct cli_command inspect_alarms_command = {.name = "alarms",
                                                   .usage = "<source>",
                                                   .brief = "Lists the alarms that are raised",
                                                   .flags = plain_flags,
                                                   .run = run_alarms};
