#include "tests/sim/actors.h"

#include "base/arena.h"
#include "base/list.h"
#include "base/minmax.h"
#include "base/wire.h"
#include "server/rpc/rpc.h"
#include "server/state/kv_request.h"
#include "server/state/machine.h"
#include "storage/mvcc.h"
#include "tests/history/history.h"
#include "tests/server_state/messages.h"
#include "tests/sim/cluster_private.h"

#include <setjmp.h>
#include <stdarg.h>
/* cmocka.h wants the two above */
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#define ARENA_BYTES_MAX (1U << 20)
#define CALL_NS (7 * NS_PER_S) /* the server's own limit */
#define NOBODY_NS (50 * NS_PER_MS)
#define FINISH_NS (120 * NS_PER_S)
#define COMPACT_KEEP 50
#define KEY_TEXT_BYTES 8U

enum action_kind {
    ACTION_PUT,
    ACTION_DELETE,
    ACTION_TXN,
    ACTION_READ,
    ACTION_LOCAL,
    ACTION_COMPACT
};

static const char *const kind_names[] = {
    [ACTION_PUT] = "a put",   [ACTION_DELETE] = "a delete",    [ACTION_TXN] = "a transaction",
    [ACTION_READ] = "a read", [ACTION_LOCAL] = "a local read", [ACTION_COMPACT] = "a compaction",
};

struct client {
    struct actors *actors;
    uint32_t number;
    bool is_busy;
    uint64_t next_ns; /* when not busy */
    /* The operation under way. */
    enum action_kind kind;
    bool is_stranger; /* whoever it is in whose name it writes, it may not */
    uint64_t auth_stretch;
    uint32_t member;
    uint64_t life, began_ns, deadline_ns;
    raft_index commit_needed; /* known to some member when it began */
    uint32_t history_id;
    struct history_op op;
    struct arena arena;
    struct rpc_call call;
    struct proposal proposal;
    struct read_request read;
};

/* What else is known of a write. */
struct write_note {
    bool is_refused;
    uint64_t forbidden_stretch; /* of auth, in which it may not happen; 0: it may */
};

struct actors {
    struct cluster *cluster;
    struct actors_options options;
    struct client clients[ACTORS_CLIENTS_MAX];
    struct history history;
    struct write_note *notes; /* by operation of the history */
    uint32_t notes_capacity;
    uint64_t *seen; /* last value a client read, by key */
    uint64_t values_count;
    struct actors_stat stat;
    bool is_finishing;
};

static struct cluster_member *member_of(const struct client *client)
{
    return &client->actors->cluster->members[client->member];
}

static struct slice key_text(struct arena *arena, uint32_t key)
{
    char text[KEY_TEXT_BYTES];
    struct slice copy;
    int len = snprintf(text, sizeof(text), "k%03u", key);
    assert_int_equal(arena_copy(arena, slice_make(text, (size_t)len), &copy), ST_OK);
    return copy;
}

/* The number in front of spaces. */
static struct slice value_text(struct client *client, uint64_t value)
{
    struct actors *actors = client->actors;
    size_t pad = rng_below(&actors->cluster->rng, actors->options.value_bytes_max + 1);
    size_t room = 24 + pad;
    char *text = arena_alloc_raw(&client->arena, room);
    assert_non_null(text);
    int len = snprintf(text, room, "%llu ", (unsigned long long)value);
    memset(text + len, 'v', pad);
    return slice_make(text, (size_t)len + pad);
}

/* ---- the end of an operation ---- */

static void go_idle(struct client *client)
{
    struct actors *actors = client->actors;
    client->is_busy = false;
    client->next_ns = actors->cluster->now_ns +
                      rng_below(&actors->cluster->rng, actors->options.think_ns_max + 1);
    arena_reset(&client->arena);
}

/* Nothing is left to a deadline, but what a pause of the process keeps. */
static void check_in_time(const struct client *client)
{
    const struct cluster_member *m = member_of(client);
    if (m->lives_count > client->life || m->last_paused_ns > client->began_ns ||
        cluster_local_ns(m) <= client->deadline_ns + NS_PER_S)
        return;
    cluster_fail(m->cluster, "member %u answered %s of client %u %llu ms after its deadline",
                 client->member, kind_names[client->kind], client->number,
                 (unsigned long long)((cluster_local_ns(m) - client->deadline_ns) / NS_PER_MS));
}

/* Errors of calls that never came to the core, and of those who may not. */
static bool surely_nothing_happened(enum api_error error)
{
    return cluster_is_refusal(error) || error == API_TOO_MANY_REQUESTS || error == API_DISK_FULL ||
           error == API_DEADLINE_EXCEEDED;
}

static struct write_note *note_of(struct actors *actors, uint32_t id)
{
    if (id >= actors->notes_capacity) {
        uint32_t wanted = 2 * id + 64;
        actors->notes = realloc(actors->notes, wanted * sizeof(actors->notes[0]));
        assert_non_null(actors->notes);
        for (uint32_t i = actors->notes_capacity; i < wanted; i++)
            actors->notes[i] = (struct write_note){0};
        actors->notes_capacity = wanted;
    }
    return &actors->notes[id];
}

/* Root may everything, everybody may while auth is off. */
static void check_refusal(const struct client *client, enum api_error error)
{
    struct cluster *cluster = client->actors->cluster;
    bool is_off = client->auth_stretch != 0 && client->auth_stretch == cluster->auth.stretch &&
                  !cluster->auth.is_on;
    if (is_off || (error == API_PERMISSION_DENIED && !client->is_stranger))
        cluster_fail(cluster, "%s of client %u was refused: %s", kind_names[client->kind],
                     client->number, api_error_text(error));
}

static void note_error(struct client *client, enum api_error error)
{
    struct actors *actors = client->actors;
    if (cluster_is_refusal(error))
        check_refusal(client, error);
    if (surely_nothing_happened(error)) {
        actors->stat.refused_count++;
        if (client->op.is_write)
            note_of(actors, client->history_id)->is_refused = true;
    } else {
        actors->stat.open_count++;
    }
}

/* Revision of an answer's header, and its second field: a count or whether a txn succeeded. */
static int64_t read_answer(struct slice response, uint64_t *second_out)
{
    int64_t revision = 0;
    struct wire_field field, inner;
    *second_out = 0;
    while (response.len > 0) {
        assert_int_equal(wire_next(&response, &field), ST_OK);
        if (field.number == 2)
            *second_out = field.value;
        while (field.number == 1 && field.bytes.len > 0) {
            assert_int_equal(wire_next(&field.bytes, &inner), ST_OK);
            if (inner.number == 3)
                revision = (int64_t)inner.value;
        }
    }
    return revision;
}

static void write_done(struct proposal *proposal, enum api_error error, struct slice response)
{
    struct client *client = CONTAINER_OF(proposal, struct client, proposal);
    struct actors *actors = client->actors;
    check_in_time(client);
    if (client->kind != ACTION_COMPACT) {
        if (error == API_OK) {
            uint64_t second;
            int64_t revision = read_answer(response, &second);
            bool changed = client->kind == ACTION_PUT || second != 0;
            history_wrote(&actors->history, client->history_id, actors->cluster->steps_count,
                          revision, changed);
            actors->stat.writes_count++;
        } else {
            note_error(client, error);
        }
    }
    go_idle(client);
}

/* ---- reads ---- */

struct sight {
    struct history_key keys[HISTORY_OP_KEYS_MAX];
    uint32_t count;
};

static enum status see(void *context, struct slice record)
{
    struct sight *sight = context;
    struct mvcc_kv kv;
    char text[KEY_TEXT_BYTES] = {0};
    char number[24] = {0};
    assert_int_equal(mvcc_kv_decode(record, &kv), ST_OK);
    memcpy(text, kv.key.data, min_size(kv.key.len, sizeof(text) - 1));
    memcpy(number, kv.value.data, min_size(kv.value.len, sizeof(number) - 1));
    uint32_t key = (uint32_t)strtoul(text + 1, NULL, 10);
    for (uint32_t i = 0; i < sight->count; i++) {
        if (sight->keys[i].key == key) {
            sight->keys[i].value = strtoull(number, NULL, 10);
            sight->keys[i].mod_revision = kv.mod_revision;
        }
    }
    return ST_OK;
}

/* Whatever a member shows at a revision is what the first one to apply it had there. */
static void check_sight(const struct client *client, const struct sight *sight, int64_t revision)
{
    struct cluster *cluster = client->actors->cluster;
    char text[KEY_TEXT_BYTES];
    for (uint32_t i = 0; i < sight->count; i++) {
        int len = snprintf(text, sizeof(text), "k%03u", sight->keys[i].key);
        const struct cluster_event *event =
            cluster_event_at(cluster, slice_make(text, (size_t)len), revision);
        uint64_t value = event == NULL ? 0 : event->value;
        if (sight->keys[i].value != value ||
            (value != 0 && sight->keys[i].mod_revision != event->revision))
            cluster_fail(cluster, "member %u shows %s = %llu at revision %lld, it is %llu",
                         client->member, text, (unsigned long long)sight->keys[i].value,
                         (long long)revision, (unsigned long long)value);
    }
}

static void look(struct client *client, uint32_t reader)
{
    struct actors *actors = client->actors;
    struct sight sight = {.count = client->op.keys_count};
    for (uint32_t i = 0; i < sight.count; i++)
        sight.keys[i].key = client->op.keys[i].key;
    struct mvcc_query query = {.range = {.key = SLICE("k"), .end = SLICE("l")}};
    struct mvcc_result result;
    enum status st = mvcc_read(member_of(client)->mvcc, reader, &query, see, &sight, &result);
    if (st == ST_IO && member_of(client)->may_fail)
        return; /* its answer is an error */
    assert_int_equal(st, ST_OK);
    check_sight(client, &sight, result.current_revision);
    for (uint32_t i = 0; i < sight.count; i++)
        actors->seen[sight.keys[i].key] = sight.keys[i].value;
    if (client->kind == ACTION_LOCAL) {
        actors->stat.local_reads_count++;
        return;
    }
    history_read(&actors->history, client->history_id, actors->cluster->steps_count,
                 result.current_revision, sight.keys);
    actors->stat.reads_count++;
}

static void read_ready(struct read_request *read, enum api_error error, uint32_t reader)
{
    struct client *client = CONTAINER_OF(read, struct client, read);
    check_in_time(client);
    if (error == API_OK) {
        raft_index applied = machine_applied(member_of(client)->machine).index;
        if (client->kind == ACTION_READ && applied < client->commit_needed)
            cluster_fail(client->actors->cluster,
                         "a read through member %u at entry %llu, %llu was committed before it",
                         client->member, (unsigned long long)applied,
                         (unsigned long long)client->commit_needed);
        look(client, reader);
    } else {
        note_error(client, error);
    }
    go_idle(client);
}

/* ---- the beginning ---- */

static uint64_t draw(struct client *client, uint64_t bound)
{
    return rng_below(&client->actors->cluster->rng, bound);
}

/* Different keys, in no order. */
static void draw_keys(struct client *client, uint32_t count)
{
    struct history_op *op = &client->op;
    uint32_t keys_count = client->actors->options.keys_count;
    uint32_t first = (uint32_t)draw(client, keys_count);
    op->keys_count = min_u32(count, keys_count);
    for (uint32_t i = 0; i < op->keys_count; i++)
        op->keys[i] = (struct history_key){.key = (first + i) % keys_count};
}

static struct kv_compare guard_of(struct client *client)
{
    const struct history_op *op = &client->op;
    struct kv_compare compare = {.key = key_text(&client->arena, op->guard_key)};
    if (op->guard_value == 0) { /* absent */
        compare.target = compare.given = COMPARE_VERSION;
        return compare;
    }
    const struct cluster_event *event =
        cluster_event_of_value(client->actors->cluster, op->guard_value);
    assert_non_null(event);
    compare.target = compare.given = COMPARE_MOD;
    compare.number = event->revision;
    return compare;
}

static struct kv_op operation_of(struct client *client, const struct history_key *key)
{
    struct slice text = key_text(&client->arena, key->key);
    if (key->value == 0) {
        struct kv_delete *del = ARENA_NEW(&client->arena, struct kv_delete);
        assert_non_null(del);
        del->key = text;
        return (struct kv_op){.kind = KV_OP_DELETE, .del = del};
    }
    struct kv_put *put = ARENA_NEW(&client->arena, struct kv_put);
    assert_non_null(put);
    *put = (struct kv_put){.key = text, .value = value_text(client, key->value)};
    return (struct kv_op){.kind = KV_OP_PUT, .put = put};
}

static struct slice encode_all(struct client *client)
{
    const struct history_op *op = &client->op;
    struct kv_op ops[HISTORY_OP_KEYS_MAX];
    for (uint32_t i = 0; i < op->keys_count; i++)
        ops[i] = operation_of(client, &op->keys[i]);
    struct kv_txn txn = {.success = {ops, op->keys_count}};
    struct kv_compare guard;
    if (op->has_guard) {
        guard = guard_of(client);
        txn.compares = &guard;
        txn.compares_count = 1;
    }
    return encode_txn(&client->arena, &txn);
}

/* A delete comes with a put: by its value one can tell later whether both happened. */
static struct slice draw_write(struct client *client, enum internal_field *field_out)
{
    static const uint32_t keys_max[] = {[ACTION_PUT] = 1, [ACTION_DELETE] = 2, [ACTION_TXN] = 3};
    struct actors *actors = client->actors;
    struct history_op *op = &client->op;
    op->is_write = true;
    uint32_t keys_count = keys_max[client->kind];
    draw_keys(client,
              client->kind == ACTION_TXN ? 1 + (uint32_t)draw(client, keys_count) : keys_count);
    for (uint32_t i = client->kind == ACTION_DELETE; i < op->keys_count; i++)
        op->keys[i].value = ++actors->values_count;
    if (client->kind == ACTION_PUT) {
        *field_out = INTERNAL_PUT;
        return encode_put(&client->arena, operation_of(client, &op->keys[0]).put);
    }
    if (client->kind == ACTION_TXN) {
        op->has_guard = true;
        op->guard_key = op->keys[0].key;
        op->guard_value = actors->seen[op->guard_key];
    }
    *field_out = INTERNAL_TXN;
    return encode_all(client);
}

static struct slice draw_compaction(struct client *client)
{
    int64_t current, compact;
    mvcc_revisions(member_of(client)->mvcc, &current, &compact);
    const struct kv_compact request = {.revision = current - COMPACT_KEEP,
                                       .physical = draw(client, 2) == 0};
    return encode_compact(&client->arena, &request);
}

/* Mostly root; sometimes one that must be refused: a user without any role, or root as it was known
 * before the newest change of users and roles. */
static struct auth_caller draw_caller(struct client *client)
{
    struct cluster_member *m = member_of(client);
    struct auth_caller caller = cluster_root(m);
    client->is_stranger = caller.revision != 0 && draw(client, 20) == 0;
    if (!client->is_stranger)
        return caller;
    if (draw(client, 2) == 0)
        return cluster_guest(m);
    caller.revision--;
    return caller;
}

static void begin_write(struct client *client)
{
    enum internal_field field = INTERNAL_COMPACTION;
    struct slice body =
        client->kind == ACTION_COMPACT ? draw_compaction(client) : draw_write(client, &field);
    struct loops *loops = member_of(client)->loops;
    if (client->kind != ACTION_COMPACT)
        assert_int_equal(history_call(&client->actors->history, &client->op, &client->history_id),
                         ST_OK);
    const struct auth_caller caller = draw_caller(client);
    const struct cluster_auth *auth = &client->actors->cluster->auth;
    if (client->is_stranger && client->kind != ACTION_COMPACT && auth->is_on)
        note_of(client->actors, client->history_id)->forbidden_stretch = auth->stretch;
    uint64_t id = loops_next_id(loops);
    client->call = (struct rpc_call){.arena = &client->arena};
    client->proposal =
        (struct proposal){.request = {.deadline_ns = client->deadline_ns, .call = &client->call},
                          .id = id,
                          .payload = internal_request_payload_as(field, body, id, &caller),
                          .done = write_done};
    assert_non_null(client->proposal.payload);
    loops_propose(loops, &client->proposal);
}

static void begin_read(struct client *client)
{
    draw_keys(client, 1 + (uint32_t)draw(client, HISTORY_OP_KEYS_MAX));
    client->read =
        (struct read_request){.request.deadline_ns = client->deadline_ns, .ready = read_ready};
    if (client->kind == ACTION_LOCAL) {
        loops_read_local(member_of(client)->loops, &client->read);
        return;
    }
    client->commit_needed = client->actors->cluster->history.commit_max;
    assert_int_equal(history_call(&client->actors->history, &client->op, &client->history_id),
                     ST_OK);
    loops_read(member_of(client)->loops, &client->read);
}

static enum action_kind draw_kind(struct client *client)
{
    uint64_t chance = draw(client, 100);
    if (client->actors->options.compacts && chance < 2)
        return ACTION_COMPACT;
    return chance < 35   ? ACTION_PUT
           : chance < 45 ? ACTION_DELETE
           : chance < 65 ? ACTION_TXN
           : chance < 95 ? ACTION_READ
                         : ACTION_LOCAL;
}

static void begin(struct client *client)
{
    struct cluster *cluster = client->actors->cluster;
    client->member = (uint32_t)draw(client, CLUSTER_MEMBERS_MAX);
    for (uint32_t i = 0; i < CLUSTER_MEMBERS_MAX && !member_of(client)->running; i++)
        client->member = (client->member + 1) % CLUSTER_MEMBERS_MAX;
    if (!member_of(client)->running) {
        client->next_ns = cluster->now_ns + NOBODY_NS;
        return;
    }
    client->is_busy = true;
    client->kind = draw_kind(client);
    client->auth_stretch = cluster->auth.stretch;
    client->life = member_of(client)->lives_count;
    client->began_ns = cluster->now_ns;
    client->deadline_ns = cluster_local_ns(member_of(client)) + CALL_NS;
    client->op = (struct history_op){.client = client->number, .call = cluster->steps_count};
    if (client->kind == ACTION_READ || client->kind == ACTION_LOCAL)
        begin_read(client);
    else
        begin_write(client);
}

void actors_step(struct actors *actors)
{
    for (uint32_t i = 0; i < actors->options.clients_count; i++) {
        struct client *client = &actors->clients[i];
        if (!client->is_busy && !actors->is_finishing && client->next_ns <= actors->cluster->now_ns)
            begin(client);
    }
}

uint64_t actors_next_ns(const struct actors *actors)
{
    uint64_t next_ns = UINT64_MAX;
    for (uint32_t i = 0; i < actors->options.clients_count; i++) {
        const struct client *client = &actors->clients[i];
        if (!client->is_busy && !actors->is_finishing)
            next_ns = min_u64(next_ns, client->next_ns);
    }
    return next_ns;
}

/* ---- life ---- */

struct actors *actors_new(struct cluster *cluster, const struct actors_options *options)
{
    struct actors *actors = calloc(1, sizeof(*actors));
    assert_non_null(actors);
    assert_in_range(options->clients_count, 1, ACTORS_CLIENTS_MAX);
    actors->cluster = cluster;
    actors->options = *options;
    actors->seen = calloc(options->keys_count, sizeof(uint64_t));
    assert_non_null(actors->seen);
    history_init(&actors->history, options->keys_count);
    for (uint32_t i = 0; i < options->clients_count; i++) {
        actors->clients[i] = (struct client){.actors = actors, .number = i};
        arena_init(&actors->clients[i].arena, ARENA_BYTES_MAX);
        go_idle(&actors->clients[i]);
    }
    return actors;
}

void actors_free(struct actors *actors)
{
    if (actors == NULL)
        return;
    for (uint32_t i = 0; i < actors->options.clients_count; i++) {
        assert_false(actors->clients[i].is_busy); /* everyone was answered */
        arena_deinit(&actors->clients[i].arena);
    }
    history_deinit(&actors->history);
    free(actors->notes);
    free(actors->seen);
    free(actors);
}

static bool are_answered(struct cluster *cluster, void *context)
{
    (void)cluster;
    const struct actors *actors = context;
    for (uint32_t i = 0; i < actors->options.clients_count; i++) {
        if (actors->clients[i].is_busy)
            return false;
    }
    return true;
}

void actors_finish(struct actors *actors)
{
    actors->is_finishing = true;
    cluster_until(actors->cluster, are_answered, actors, FINISH_NS, "every client is answered");
}

/* ---- the judgement ---- */

/* What became of a write, by what the members applied. An open one that nobody applied until the
 * end has not happened. */
static const struct cluster_event *find_write(const struct actors *actors,
                                              const struct history_op *op)
{
    for (uint32_t k = 0; k < op->keys_count; k++) {
        if (op->keys[k].value != 0)
            return cluster_event_of_value(actors->cluster, op->keys[k].value);
    }
    return NULL;
}

static void judge_write(const struct actors *actors, uint32_t id, const struct cluster_event *event)
{
    const struct history_op *op = &actors->history.ops[id];
    bool is_answered = op->end != HISTORY_NEVER;
    const struct write_note note =
        id < actors->notes_capacity ? actors->notes[id] : (struct write_note){0};
    if (event != NULL && note.forbidden_stretch != 0 &&
        note.forbidden_stretch == event->auth_stretch)
        cluster_fail(actors->cluster, "a write of client %u happened, and nobody may do it",
                     op->client);
    if (event != NULL && (note.is_refused || (is_answered && !op->changed)))
        cluster_fail(actors->cluster, "a write of client %u was refused, and happened", op->client);
    if (is_answered && op->changed && (event == NULL || event->revision != op->revision))
        cluster_fail(actors->cluster,
                     "a write of client %u was acknowledged at revision %lld, it is at %lld",
                     op->client, (long long)op->revision,
                     event == NULL ? 0LL : (long long)event->revision);
}

/* The operation as it is judged: an open write that happened gets the revision it has. */
static void add_judged(const struct cluster *cluster, struct history *judged,
                       const struct history_op *op, int64_t revision)
{
    uint32_t id;
    bool is_answered = op->end != HISTORY_NEVER;
    if (!is_answered && revision == 0)
        return;
    struct history_op own = *op;
    own.revision = cluster_own_revision(cluster, op->revision);
    for (uint32_t i = 0; i < own.keys_count; i++)
        own.keys[i].mod_revision = cluster_own_revision(cluster, own.keys[i].mod_revision);
    assert_int_equal(history_call(judged, &own, &id), ST_OK);
    if (!own.is_write)
        history_read(judged, id, own.end, own.revision, own.keys);
    else if (is_answered)
        history_wrote(judged, id, own.end, own.revision, own.changed);
    else
        history_wrote(judged, id, HISTORY_NEVER - 1, cluster_own_revision(cluster, revision),
                      /* changed= */ true);
}

void actors_judge(struct actors *actors)
{
    struct history judged;
    history_init(&judged, actors->options.keys_count);
    for (uint32_t i = 0; i < actors->history.count; i++) {
        const struct history_op *op = &actors->history.ops[i];
        const struct cluster_event *event = op->is_write ? find_write(actors, op) : NULL;
        if (op->is_write)
            judge_write(actors, i, event);
        add_judged(actors->cluster, &judged, op, event == NULL ? 0 : event->revision);
    }
    enum verdict verdict;
    char why[512] = "";
    assert_int_equal(history_check(&judged, &verdict, why, sizeof(why)), ST_OK);
    if (verdict != HISTORY_GOOD)
        cluster_fail(actors->cluster, "%s: %s",
                     verdict == HISTORY_BROKEN ? "not linearizable" : "undecided", why);
    history_deinit(&judged);
}

void actors_get_stat(const struct actors *actors, struct actors_stat *out)
{
    *out = actors->stat;
}
