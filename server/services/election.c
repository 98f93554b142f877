/* server/services/election.c - v3electionpb.Election, but for Observe (observe.c). */
#include "base/list.h"
#include "server/services/election_private.h"

enum { FIELD_HEADER = 1, FIELD_SECOND };                        /* of every answer */
enum { LEADER_NAME = 1, LEADER_KEY, LEADER_REV, LEADER_LEASE }; /* LeaderKey */
enum { CAMPAIGN_NAME = 1, CAMPAIGN_LEASE, CAMPAIGN_VALUE };

struct campaign {
    struct contender contender;
    struct slice value;
    struct slice header; /* of the first txn: what the answer shows */
};

static void answer_header(struct rpc_call *call, struct slice header)
{
    struct wire_out out;
    wire_out_init(&out, call->arena, /* gap= */ 0);
    wire_put_bytes(&out, FIELD_HEADER, header);
    finish_message(call, &out);
}

/* ---- Campaign ---- */

static struct campaign *campaign_of(struct inner_call *inner)
{
    return CONTAINER_OF(inner, struct campaign, contender.inner);
}

static void won(struct contender *contender)
{
    struct campaign *campaign = CONTAINER_OF(contender, struct campaign, contender);
    struct wire_out out;
    wire_out_init(&out, contender->call->arena, /* gap= */ 0);
    wire_put_bytes(&out, FIELD_HEADER, campaign->header);
    size_t leader = wire_open(&out, FIELD_SECOND);
    if (contender->name.len > 0)
        wire_put_bytes(&out, LEADER_NAME, contender->name);
    wire_put_bytes(&out, LEADER_KEY, contender->key);
    wire_put_varint(&out, LEADER_REV, (uint64_t)contender->revision);
    wire_put_varint(&out, LEADER_LEASE, (uint64_t)contender->lease);
    wire_close(&out, leader);
    finish_message(contender->call, &out);
}

/* It stood for election already, with another value. */
static void value_changed(struct inner_call *inner, enum rpc_code code, const char *text,
                          struct slice message)
{
    struct campaign *campaign = campaign_of(inner);
    struct inner_answer read;
    if (contender_gives_up(&campaign->contender, code, text))
        return;
    if (inner_read(message, /* is_txn= */ true, &read) != ST_OK)
        finish_error(campaign->contender.call, API_STORE_CORRUPT);
    else if (!read.succeeded)
        finish_error(campaign->contender.call, API_ELECTION_NOT_LEADER);
    else
        contender_wait(&campaign->contender);
}

static void change_value(struct campaign *campaign)
{
    struct contender *contender = &campaign->contender;
    contender->inner.done = value_changed;
    inner_start(&contender->inner, contender->call, "/etcdserverpb.KV/Txn",
                inner_txn(contender->call->arena, contender->key, contender->revision,
                          &campaign->value, contender->lease, NULL));
}

static void entered(struct inner_call *inner, enum rpc_code code, const char *text,
                    struct slice message)
{
    struct campaign *campaign = campaign_of(inner);
    struct contender *contender = &campaign->contender;
    struct inner_answer read;
    if (code != RPC_OK) {
        finish_inner_error(contender->call, code, text);
        return;
    }
    if (inner_read(message, /* is_txn= */ true, &read) != ST_OK) {
        finish_error(contender->call, API_STORE_CORRUPT);
        return;
    }
    campaign->header = read.header;
    contender->revision = read.succeeded ? read.revision : read.kv.create_revision;
    if (!read.succeeded && !slice_eq(read.kv.value, campaign->value))
        change_value(campaign);
    else
        contender_wait(contender);
}

static void enter(struct contender *contender)
{
    struct campaign *campaign = CONTAINER_OF(contender, struct campaign, contender);
    contender->inner.done = entered;
    inner_start(&contender->inner, contender->call, "/etcdserverpb.KV/Txn",
                inner_txn(contender->call->arena, contender->key, /* create_revision= */ 0,
                          &campaign->value, contender->lease, NULL));
}

struct campaign_request {
    struct slice name, value;
    lease_id lease;
};

static void on_campaign(struct rpc_call *call)
{
    static const struct wire_slot slots[] = {
        {WIRE_SLOT_BYTES, offsetof(struct campaign_request, name)},
        {WIRE_SLOT_INT64, offsetof(struct campaign_request, lease)},
        {WIRE_SLOT_BYTES, offsetof(struct campaign_request, value)}};
    struct campaign_request request = {0};
    struct campaign *campaign = ARENA_NEW(call->arena, struct campaign);
    enum api_error error = campaign == NULL ? API_NO_MEMORY : API_OK;
    if (error == API_OK && wire_decode(call->message, slots, METHODS_OF(slots), &request) != ST_OK)
        error = API_UNDECODABLE;
    if (error != API_OK) {
        finish_error(call, error);
        return;
    }
    campaign->value = request.value;
    campaign->contender.won = won;
    call->state = &campaign->contender;
    contender_begin(&campaign->contender, call, request.name, request.lease, enter);
}

static void on_campaign_cancel(struct rpc_call *call)
{
    if (call->state != NULL)
        contender_cancel(call->state);
}

/* ---- Leader ---- */

void election_answer_leader(struct wire_out *out, struct slice header, const struct mvcc_kv *kv)
{
    wire_put_bytes(out, FIELD_HEADER, header);
    uint8_t *room = NULL;
    struct slice encoded = SLICE_EMPTY;
    size_t size = mvcc_kv_encoded_size(kv);
    room = arena_alloc_raw(out->arena, size);
    if (room == NULL) {
        out->failed = true;
        return;
    }
    mvcc_kv_encode(kv, room);
    encoded = slice_make(room, size);
    wire_put_bytes(out, FIELD_SECOND, encoded);
}

static void leader_read(struct inner_call *inner, enum rpc_code code, const char *text,
                        struct slice message)
{
    struct rpc_call *call = inner->outer;
    struct inner_answer read;
    if (code != RPC_OK) {
        finish_inner_error(call, code, text);
        return;
    }
    if (inner_read(message, /* is_txn= */ false, &read) != ST_OK) {
        finish_error(call, API_STORE_CORRUPT);
        return;
    }
    if (!read.found) {
        finish_error(call, API_ELECTION_NO_LEADER);
        return;
    }
    struct wire_out out;
    wire_out_init(&out, call->arena, /* gap= */ 0);
    election_answer_leader(&out, read.header, &read.kv);
    finish_message(call, &out);
}

enum status election_prefix(struct rpc_call *call, struct slice *out)
{
    static const struct wire_slot slots[] = {{WIRE_SLOT_BYTES, 0}};
    struct slice name = SLICE_EMPTY;
    void *room;
    if (wire_decode(call->message, slots, METHODS_OF(slots), &name) != ST_OK)
        return ST_INVALID;
    enum status st = arena_take(call->arena, name.len + 1, &room);
    if (st != ST_OK)
        return st;
    uint8_t *prefix = room;
    if (name.len > 0)
        memcpy(prefix, name.data, name.len);
    prefix[name.len] = '/';
    *out = slice_make(prefix, name.len + 1);
    return ST_OK;
}

static void on_leader(struct rpc_call *call)
{
    struct slice prefix;
    struct inner_call *inner = ARENA_NEW(call->arena, struct inner_call);
    enum status st = inner == NULL ? ST_NO_MEMORY : election_prefix(call, &prefix);
    if (st != ST_OK) {
        finish_error(call, st == ST_INVALID ? API_UNDECODABLE : API_NO_MEMORY);
        return;
    }
    inner->done = leader_read;
    inner_start(inner, call, "/etcdserverpb.KV/Range",
                inner_range_first(call->arena, prefix, INNER_OLDEST, /* max_create= */ 0));
}

/* ---- Proclaim and Resign ---- */

struct leader_key {
    struct slice name, key;
    int64_t revision;
    lease_id lease;
};

struct leader_call {
    struct contender session; /* for a lease, where the leader key has none */
    struct inner_call inner;
    struct leader_key leader;
    struct slice value;
    bool resigns;
};

static void leader_done(struct inner_call *inner, enum rpc_code code, const char *text,
                        struct slice message)
{
    struct leader_call *leader = CONTAINER_OF(inner, struct leader_call, inner);
    struct rpc_call *call = inner->outer;
    struct inner_answer read;
    if (code != RPC_OK)
        finish_inner_error(call, code, text);
    else if (inner_read(message, /* is_txn= */ true, &read) != ST_OK)
        finish_error(call, API_STORE_CORRUPT);
    else if (!read.succeeded && !leader->resigns)
        finish_error(call, API_ELECTION_NOT_LEADER);
    else
        answer_header(call, read.header);
}

static void do_as_leader(struct contender *session)
{
    struct leader_call *leader = CONTAINER_OF(session, struct leader_call, session);
    struct rpc_call *call = session->call;
    leader->inner.done = leader_done;
    inner_start(&leader->inner, call, "/etcdserverpb.KV/Txn",
                inner_txn(call->arena, leader->leader.key, leader->leader.revision,
                          leader->resigns ? NULL : &leader->value, session->lease, NULL));
}

/* {leader, value}; false: no leader is given. */
static enum status decode_leader(struct rpc_call *call, struct leader_call *out, bool *given_out)
{
    static const struct wire_slot slots[] = {
        {WIRE_SLOT_BYTES, offsetof(struct leader_key, name)},
        {WIRE_SLOT_BYTES, offsetof(struct leader_key, key)},
        {WIRE_SLOT_INT64, offsetof(struct leader_key, revision)},
        {WIRE_SLOT_INT64, offsetof(struct leader_key, lease)}};
    struct slice rest = call->message;
    *given_out = false;
    while (rest.len > 0) {
        struct wire_field field;
        enum status st = wire_next(&rest, &field);
        if (st == ST_OK && field.number == 1) {
            *given_out = true;
            st = field.type == WIRE_BYTES
                     ? wire_decode(field.bytes, slots, METHODS_OF(slots), &out->leader)
                     : ST_INVALID;
        } else if (st == ST_OK && field.number == 2 && !out->resigns) {
            out->value = field.bytes;
        }
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}

static void start_as_leader(struct rpc_call *call, bool resigns)
{
    bool given = false;
    struct leader_call *leader = ARENA_NEW(call->arena, struct leader_call);
    enum api_error error = leader == NULL ? API_NO_MEMORY : API_OK;
    if (error == API_OK) {
        leader->resigns = resigns;
        if (decode_leader(call, leader, &given) != ST_OK)
            error = API_UNDECODABLE;
        else if (!given)
            error = API_LEADER_KEY_MISSING;
    }
    if (error != API_OK) {
        finish_error(call, error);
        return;
    }
    contender_begin(&leader->session, call, leader->leader.name, leader->leader.lease,
                    do_as_leader);
}

static void on_proclaim(struct rpc_call *call)
{
    start_as_leader(call, /* resigns= */ false);
}

static void on_resign(struct rpc_call *call)
{
    start_as_leader(call, /* resigns= */ true);
}

static const struct rpc_method methods[] = {
    {.path = "/v3electionpb.Election/Campaign",
     .on_call = on_campaign,
     .on_cancel = on_campaign_cancel},
    {.path = "/v3electionpb.Election/Proclaim", .on_call = on_proclaim},
    {.path = "/v3electionpb.Election/Leader", .on_call = on_leader},
    {.path = "/v3electionpb.Election/Resign", .on_call = on_resign},
    {.path = "/v3electionpb.Election/Observe",
     .server_streams = true,
     .on_call = on_observe,
     .on_cancel = on_observe_cancel,
     .on_sent = on_observe_sent},
};
const struct rpc_service election_service = {.methods = methods,
                                             .methods_count = METHODS_OF(methods)};
