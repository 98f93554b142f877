/* server/services/lease_forward.c - both ends of a question about a lease that goes from a member
 * to its leader: etcd's /leases and /leases/internal. */
#include "base/list.h"
#include "server/services/lease_private.h"

#include <stdlib.h>

enum { FIELD_ID = 2, FIELD_TTL, FIELD_GRANTED_TTL, FIELD_KEYS };
enum { FIELD_INNER = 1, FIELD_QUESTION_ID = 1, FIELD_QUESTION_KEYS = 2 };

bool leads(const struct services *services)
{
    struct loops_status status;
    loops_get_status(services->options.loops, &status);
    return status.is_leader;
}

void post_to_leader(const struct services *services, struct leader_post *post)
{
    const struct services_peers *peers = &services->options.peers;
    if (peers->post_to_leader != NULL) {
        peers->post_to_leader(peers->context, post);
        return;
    }
    post->error = API_NO_LEADER;
    post->done(post);
}

bool lease_asks_again(enum api_error error)
{
    return error == API_NOT_PRIMARY_LESSOR || error == API_LEADER_CHANGED;
}

/* ---- questions ---- */

/* leasepb.LeaseInternalRequest */
enum status lease_ttl_question(lease_id id, bool keys, struct arena *arena, struct slice *out)
{
    struct wire_out message;
    wire_out_init(&message, arena, /* gap= */ 0);
    size_t mark = wire_open(&message, FIELD_INNER);
    wire_put_varint(&message, FIELD_QUESTION_ID, (uint64_t)id);
    wire_put_varint(&message, FIELD_QUESTION_KEYS, keys);
    wire_close(&message, mark);
    return wire_out_finish(&message, out);
}

size_t lease_renewal_question(lease_id id, uint8_t out[LEASE_RENEWAL_BYTES_MAX])
{
    out[0] = FIELD_QUESTION_ID << 3 | WIRE_VARINT;
    return 1 + put_varint(out + 1, (uint64_t)id);
}

/* ---- answers, read ---- */

static enum status keep_key(struct slice key, struct arena *arena, struct lease_view *out,
                            uint64_t *capacity)
{
    if (out->keys_count == *capacity) {
        uint64_t grown = *capacity == 0 ? 16 : *capacity * 2;
        void *room;
        enum status st = arena_take(arena, grown * sizeof(struct slice), &room);
        if (st != ST_OK)
            return st;
        if (out->keys_count > 0)
            memcpy(room, out->keys, out->keys_count * sizeof(struct slice));
        out->keys = room;
        *capacity = grown;
    }
    return arena_copy(arena, key, &out->keys[out->keys_count++]);
}

/* A KeepAlive's or TimeToLive's answer; keys are taken where there is an arena. */
static enum status read_answer(struct slice body, struct arena *arena, lease_id *id_out,
                               struct lease_view *out)
{
    uint64_t capacity = 0;
    enum status st = ST_OK;
    while (body.len > 0 && st == ST_OK) {
        struct wire_field field;
        st = wire_next(&body, &field);
        if (st != ST_OK)
            break;
        bool is_number = field.type == WIRE_VARINT;
        if (field.number == FIELD_ID && is_number)
            *id_out = (lease_id)field.value;
        else if (field.number == FIELD_TTL && is_number)
            out->remaining_s = (int64_t)field.value;
        else if (field.number == FIELD_GRANTED_TTL && is_number)
            out->ttl_s = (int64_t)field.value;
        else if (field.number == FIELD_KEYS && field.type == WIRE_BYTES && arena != NULL)
            st = keep_key(field.bytes, arena, out, &capacity);
    }
    return st;
}

static bool answered_without(uint32_t status, enum api_error *error)
{
    *error = API_LEASE_NOT_FOUND;
    return status == 404;
}

bool lease_ttl_answered(uint32_t status, struct slice body, lease_id id, struct arena *arena,
                        struct lease_view *out, enum api_error *error)
{
    lease_id answered = 0;
    struct wire_field inner;
    if (status != 200)
        return answered_without(status, error);
    if (body.len == 0 || wire_next(&body, &inner) != ST_OK || inner.number != FIELD_INNER ||
        inner.type != WIRE_BYTES)
        return false;
    enum status st = read_answer(inner.bytes, arena, &answered, out);
    *error = api_error_of(st);
    return st != ST_INVALID && (st != ST_OK || answered == id);
}

bool lease_renewal_answered(uint32_t status, struct slice body, lease_id id, int64_t *ttl_s_out,
                            enum api_error *error)
{
    lease_id answered = 0;
    struct lease_view view = {0};
    if (status != 200)
        return answered_without(status, error);
    if (read_answer(body, NULL, &answered, &view) != ST_OK || answered != id)
        return false;
    *ttl_s_out = view.remaining_s;
    *error = API_OK;
    return true;
}

/* ---- the leader's end ---- */

#define ANSWER_BYTES_MAX (64U << 20) /* of the keys of one lease, twice */

struct lease_turn {
    struct lease_question *question;
    struct services *services;
    struct read_request read;
    struct lease_renewal renewal;
    struct arena arena;
    bool is_ttl, keys;
};

static void end(struct lease_turn *turn, uint32_t status, const char *text, struct slice body)
{
    struct lease_question *question = turn->question;
    question->done(question, status, status == 200 ? body : slice_from_str(text));
    arena_deinit(&turn->arena);
    free(turn);
}

static void end_with_error(struct lease_turn *turn, enum api_error error)
{
    switch (error) {
    case API_LEASE_NOT_FOUND:
        end(turn, 404, "lease not found\n", SLICE_EMPTY);
        return;
    case API_TIMEOUT_APPLIED_INDEX:
        end(turn, 408, "waiting for node to catch up its applied index has timed out\n",
            SLICE_EMPTY);
        return;
    default: /* ask again, there may be another leader */
        end(turn, 400, "not a primary lessor\n", SLICE_EMPTY);
    }
}

static void end_with_message(struct lease_turn *turn, struct wire_out *out)
{
    struct slice body;
    if (wire_out_finish(out, &body) != ST_OK)
        end(turn, 500, "the answer is too large\n", SLICE_EMPTY);
    else
        end(turn, 200, NULL, body);
}

static void end_renewal(struct lease_turn *turn)
{
    struct wire_out out;
    if (turn->renewal.error != API_OK) {
        end_with_error(turn, turn->renewal.error);
        return;
    }
    wire_out_init(&out, &turn->arena, /* gap= */ 0);
    wire_put_varint(&out, FIELD_ID, (uint64_t)turn->renewal.id);
    wire_put_varint(&out, FIELD_TTL, (uint64_t)turn->renewal.ttl_s);
    end_with_message(turn, &out);
}

static void renewal_done(struct lease_renewal *renewal)
{
    end_renewal(CONTAINER_OF(renewal, struct lease_turn, renewal));
}

static void end_ttl(struct lease_turn *turn)
{
    struct lease_view view;
    enum api_error error = loops_look_at_lease(turn->services->options.loops, turn->renewal.id,
                                               turn->keys, &turn->arena, &view);
    if (error != API_OK) {
        end_with_error(turn, error);
        return;
    }
    struct wire_out out;
    wire_out_init(&out, &turn->arena, /* gap= */ 0);
    size_t mark = wire_open(&out, FIELD_INNER);
    wire_put_bytes(&out, /* the header, empty */ 1, SLICE_EMPTY);
    wire_put_varint(&out, FIELD_ID, (uint64_t)turn->renewal.id);
    wire_put_varint(&out, FIELD_TTL, (uint64_t)view.remaining_s);
    wire_put_varint(&out, FIELD_GRANTED_TTL, (uint64_t)view.ttl_s);
    for (uint64_t i = 0; i < view.keys_count; i++)
        wire_put_bytes(&out, FIELD_KEYS, view.keys[i]);
    wire_close(&out, mark);
    end_with_message(turn, &out);
}

static void take_turn(struct read_request *read, enum api_error error, uint32_t reader)
{
    (void)reader;
    struct lease_turn *turn = CONTAINER_OF(read, struct lease_turn, read);
    if (error != API_OK)
        end_with_error(turn, error);
    else if (turn->is_ttl)
        end_ttl(turn);
    else if (loops_renew_lease(turn->services->options.loops, &turn->renewal))
        end_renewal(turn);
}

static enum status decode(struct lease_turn *turn, struct slice body)
{
    static const struct wire_slot slots[] = {
        {WIRE_SLOT_INT64, offsetof(struct lease_turn, renewal.id)},
        {WIRE_SLOT_BOOL, offsetof(struct lease_turn, keys)}};
    struct wire_field inner;
    if (!turn->is_ttl)
        return wire_decode(body, slots, 1, turn);
    while (body.len > 0) {
        enum status st = wire_next(&body, &inner);
        if (st == ST_OK && inner.number == FIELD_INNER)
            st = inner.type == WIRE_BYTES ? wire_decode(inner.bytes, slots, 2, turn) : ST_INVALID;
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}

void services_ask_lease(struct services *services, struct lease_question *question)
{
    struct lease_turn *turn = calloc(1, sizeof(*turn));
    if (turn == NULL) {
        question->done(question, 500, SLICE("no memory\n"));
        return;
    }
    turn->question = question;
    turn->services = services;
    turn->is_ttl = question->is_ttl;
    turn->renewal.done = renewal_done;
    arena_init(&turn->arena, ANSWER_BYTES_MAX);
    if (decode(turn, question->body) != ST_OK) {
        end(turn, 400, "error unmarshalling request\n", SLICE_EMPTY);
        return;
    }
    if (!leads(services)) {
        end_with_error(turn, API_NOT_PRIMARY_LESSOR);
        return;
    }
    turn->read = (struct read_request){.request = {.deadline_ns = request_deadline_ns(services)},
                                       .ready = take_turn};
    loops_read(services->options.loops, &turn->read);
}
