/* server/services/lease_keep_alive.c - LeaseKeepAlive: a stream of renewals, which may be of many
 * leases. What came in while the last batch was under way is the next one; a batch costs one look
 * at whether this member still leads, which it shares with every read of that moment. Renewals are
 * in memory, none is an entry.
 *
 * A stream belongs to whoever has its turn: a poller that brings something into an idle one, the
 * reader that renews, whoever ends the last renewal of a batch, and the poller that hears that an
 * answer has left. The others only put something into its inbox. Its memory is the call's: what a
 * message needs is used again. */
#include "base/list.h"
#include "server/loops/leases.h"
#include "server/services/lease_private.h"
#include "server/services/sending.h"
#include "server/watch/watch.h"

enum { FIELD_ID = 2, FIELD_TTL }; /* LeaseKeepAliveResponse */

#define MESSAGE_BYTES_MAX (RESPONSE_HEADER_BYTES_MAX + 2U * (1U + VARINT_BYTES_MAX))
/* Renewals of one stream that are under way or wait for their turn; above it none is read, for the
 * client may not be reading either. */
#define RENEWALS_MAX 4096U

/* What comes in from the poller. */
enum incoming_kind { INCOMING_RENEWAL, INCOMING_END, INCOMING_ERROR, INCOMING_CANCEL };

struct incoming {
    struct inbox_node node;
    enum incoming_kind kind;
    enum api_error error; /* INCOMING_ERROR */
    struct keep_alive *stream;
    struct lease_renewal renewal;
    struct leader_post post;
    uint8_t question[LEASE_RENEWAL_BYTES_MAX];
};

/* Whose turn it is: nobody's, somebody's, and then whether something came in since he looked. One
 * step gives it back, for the call may be over right after that. */
enum { TURN_FREE, TURN_TAKEN, TURN_CALLED };

/* Of a stream that would rather end than go on without a leader: the watch hub looks for one. */
struct guard {
    struct watch_stream looks;
    struct keep_alive *stream;
    struct incoming lost;
};

struct keep_alive {
    struct rpc_call *call;
    struct guard *guard; /* NULL: it does not mind */
    struct inbox inbox;  /* struct incoming */
    struct inbox unused; /* struct incoming, given back */
    atomic_bool canceled, over;
    atomic_bool held; /* the poller waits for room */
    atomic_uint renewals_count;
    atomic_int turn;
    struct sending sending;             /* the answer in flight */
    struct incoming end, error, cancel; /* each comes once at most */
    /* The poller's. */
    struct inbox_node *free_chain;
    /* Whoever's turn it is. */
    bool ending, gone;
    enum api_error end_error;
    struct read_request read;
    struct response_header header;
    struct inbox_node *batch, *next; /* struct incoming; the next to be answered */
    atomic_uint pending;             /* renewals of the batch that are not ended, and one */
};

static void run(struct keep_alive *stream);

static struct incoming *incoming_of(struct inbox_node *node)
{
    return CONTAINER_OF(node, struct incoming, node);
}

static const struct services *services_of(const struct keep_alive *stream)
{
    return stream->call->service;
}

/* ---- no more than there is room for ---- */

static bool has_room(struct keep_alive *stream)
{
    return atomic_load(&stream->renewals_count) < RENEWALS_MAX || atomic_load(&stream->over);
}

/* To be said by whoever made room. */
static void read_on(struct keep_alive *stream)
{
    if (atomic_load(&stream->held) && atomic_exchange(&stream->held, false))
        rpc_again(stream->call);
}

static void wait_for_room(struct keep_alive *stream)
{
    rpc_hold(stream->call);
    atomic_store(&stream->held, true);
    if (has_room(stream))
        read_on(stream);
}

/* ---- answers ---- */

static bool is_answer(const struct incoming *incoming)
{
    return incoming->renewal.error == API_OK || incoming->renewal.error == API_LEASE_NOT_FOUND;
}

static void end_batch(struct keep_alive *stream)
{
    uint32_t count = 0;
    for (struct inbox_node *node = stream->batch; node != NULL; node = node->next)
        count++;
    inbox_push_chain(&stream->unused, stream->batch);
    atomic_fetch_sub(&stream->renewals_count, count);
    stream->batch = stream->next = NULL;
    read_on(stream);
    run(stream);
}

/* A lease that is not there has a TTL of 0. */
static size_t encode(const struct keep_alive *stream, const struct incoming *incoming,
                     uint8_t out[MESSAGE_BYTES_MAX])
{
    size_t size = response_header_encode(&stream->header, out);
    if (incoming->renewal.id != 0) {
        out[size++] = FIELD_ID << 3 | WIRE_VARINT;
        size += put_varint(out + size, (uint64_t)incoming->renewal.id);
    }
    int64_t ttl_s = incoming->renewal.error == API_OK ? incoming->renewal.ttl_s : 0;
    if (ttl_s != 0) {
        out[size++] = FIELD_TTL << 3 | WIRE_VARINT;
        size += put_varint(out + size, (uint64_t)ttl_s);
    }
    return size;
}

/* Answers the batch, one after another; returns while one is on its way. */
static void send_rest(struct keep_alive *stream)
{
    while (stream->next != NULL && !atomic_load(&stream->canceled)) {
        struct incoming *incoming = incoming_of(stream->next);
        stream->next = incoming->node.next;
        if (!is_answer(incoming)) {
            stream->end_error = incoming->renewal.error;
            break;
        }
        uint8_t message[MESSAGE_BYTES_MAX];
        size_t size = encode(stream, incoming, message);
        sending_begin(&stream->sending);
        enum status st = rpc_send(stream->call, slice_make(message, size));
        if (sending_waits(&stream->sending, st == ST_OK))
            return; /* on_sent goes on, or on_cancel */
        if (st != ST_OK) {
            if (st != ST_CANCELED)
                stream->end_error = api_error_of(st);
            break;
        }
    }
    end_batch(stream);
}

/* The answer in flight has left, or never will. */
static void send_over(struct keep_alive *stream)
{
    if (sending_over(&stream->sending))
        send_rest(stream);
}

/* ---- renewals ---- */

static void one_less(struct keep_alive *stream)
{
    if (atomic_fetch_sub(&stream->pending, 1) == 1)
        send_rest(stream);
}

static bool judge(struct leader_post *post, uint32_t http_status, struct slice body)
{
    struct incoming *incoming = CONTAINER_OF(post, struct incoming, post);
    return lease_renewal_answered(http_status, body, incoming->renewal.id, &incoming->renewal.ttl_s,
                                  &post->error);
}

static void posted(struct leader_post *post)
{
    struct incoming *incoming = CONTAINER_OF(post, struct incoming, post);
    incoming->renewal.error = post->error;
    one_less(incoming->stream);
}

static void forward(struct incoming *incoming)
{
    struct keep_alive *stream = incoming->stream;
    size_t size = lease_renewal_question(incoming->renewal.id, incoming->question);
    incoming->post = (struct leader_post){.path = LEASE_RENEWAL_PATH,
                                          .body = slice_make(incoming->question, size),
                                          .deadline_ns = stream->read.request.deadline_ns,
                                          .judge = judge,
                                          .done = posted};
    post_to_leader(services_of(stream), &incoming->post);
}

static void renewed(struct incoming *incoming)
{
    if (lease_asks_again(incoming->renewal.error) && !atomic_load(&incoming->stream->canceled))
        forward(incoming);
    else
        one_less(incoming->stream);
}

static void renewal_done(struct lease_renewal *renewal)
{
    renewed(CONTAINER_OF(renewal, struct incoming, renewal));
}

static void forget(struct incoming *incoming)
{
    struct loops *loops = services_of(incoming->stream)->options.loops;
    if (!loops_forget_renewal(loops, &incoming->renewal))
        return;
    incoming->renewal.error = API_CANCELED;
    one_less(incoming->stream);
}

/* Each renewal of the batch is ended once; the batch is not before all were begun. */
static void renew_batch(struct keep_alive *stream, bool here)
{
    for (struct inbox_node *node = stream->batch; node != NULL; node = node->next)
        atomic_fetch_add(&stream->pending, 1);
    for (struct inbox_node *node = stream->batch; node != NULL; node = node->next) {
        struct incoming *incoming = incoming_of(node);
        if (!here)
            forward(incoming);
        else if (loops_renew_lease(services_of(stream)->options.loops, &incoming->renewal))
            renewed(incoming);
        else if (atomic_load(&stream->canceled))
            forget(incoming); /* on_cancel may have been too early to see it wait */
    }
    one_less(stream);
}

/* A leader that cannot reach the others says so at once, so that its clients ask another member. */
static void batch_ready(struct read_request *read, enum api_error error, uint32_t reader)
{
    (void)reader;
    struct keep_alive *stream = CONTAINER_OF(read, struct keep_alive, read);
    if (error == API_OK || error == API_LEADER_CHANGED) {
        renew_batch(stream, error == API_OK);
        return;
    }
    stream->end_error = error == API_TIMEOUT ? API_NOT_PRIMARY_LESSOR : error;
    stream->next = NULL;
    one_less(stream);
}

/* What the header says is what was before the renewal. */
static void begin_batch(struct keep_alive *stream)
{
    const struct services *services = services_of(stream);
    stream->header = header_now(services, current_revision(services));
    stream->next = stream->batch;
    atomic_store(&stream->pending, 1);
    stream->read = (struct read_request){.request = {.deadline_ns = request_deadline_ns(services)},
                                         .ready = batch_ready};
    if (leads(services))
        loops_read(services->options.loops, &stream->read);
    else
        renew_batch(stream, /* here= */ false);
}

/* ---- the stream ---- */

static void take_one(struct keep_alive *stream, struct incoming *incoming,
                     struct inbox_node ***tail)
{
    switch (incoming->kind) {
    case INCOMING_RENEWAL:
        incoming->node.next = NULL;
        **tail = &incoming->node;
        *tail = &incoming->node.next;
        break;
    case INCOMING_END:
        stream->ending = true;
        break;
    case INCOMING_ERROR:
        stream->end_error = incoming->error;
        break;
    case INCOMING_CANCEL:
        stream->gone = true;
        break;
    }
}

static void take_incoming(struct keep_alive *stream)
{
    struct inbox_node **tail = &stream->batch;
    for (struct inbox_node *node = inbox_take(&stream->inbox), *next; node != NULL; node = next) {
        next = node->next;
        take_one(stream, incoming_of(node), &tail);
    }
}

static void finish(struct keep_alive *stream)
{
    if (stream->guard != NULL)
        watch_stream_close(&stream->guard->looks);
    atomic_store(&stream->over, true);
    read_on(stream);
    if (stream->end_error == API_OK)
        rpc_finish(stream->call, RPC_OK, NULL, SLICE_EMPTY);
    else
        finish_error(stream->call, stream->end_error);
}

/* Goes on with an idle stream, or ends it; then the turn stays taken, and nobody comes any more. */
static void run(struct keep_alive *stream)
{
    for (;;) {
        atomic_exchange(&stream->turn, TURN_TAKEN);
        take_incoming(stream);
        if (stream->gone)
            stream->end_error = API_CANCELED;
        if (stream->end_error == API_OK && stream->batch != NULL) {
            begin_batch(stream);
            return;
        }
        if (stream->end_error != API_OK || stream->ending) {
            finish(stream);
            return;
        }
        int taken = TURN_TAKEN;
        if (atomic_compare_exchange_strong(&stream->turn, &taken, TURN_FREE))
            return;
    }
}

static void bring(struct keep_alive *stream, struct incoming *incoming)
{
    inbox_push(&stream->inbox, &incoming->node);
    if (atomic_exchange(&stream->turn, TURN_CALLED) == TURN_FREE)
        run(stream);
}

/* ---- without a leader ---- */

static struct guard *guard_of(struct watch_stream *looks)
{
    return CONTAINER_OF(looks, struct guard, looks);
}

/* What is under way ends first; without a leader it does so with the same error. */
static void guard_ends(struct watch_stream *looks, enum watch_end why)
{
    struct guard *guard = guard_of(looks);
    if (why == WATCH_END_NO_LEADER)
        bring(guard->stream, &guard->lost);
}

static void guard_ref(struct watch_stream *looks)
{
    rpc_ref(guard_of(looks)->stream->call);
}

static void guard_unref(struct watch_stream *looks)
{
    rpc_unref(guard_of(looks)->stream->call);
}

static const struct watch_sink guard_sink = {
    .end = guard_ends, .ref = guard_ref, .unref = guard_unref};

static bool open_guard(struct keep_alive *stream)
{
    struct watch_hub *hub = services_of(stream)->options.watch;
    if (!wants_leader(stream->call))
        return true;
    stream->guard = ARENA_NEW(stream->call->arena, struct guard);
    if (stream->guard == NULL)
        return false;
    stream->guard->stream = stream;
    stream->guard->lost = (struct incoming){.kind = INCOMING_ERROR, .error = API_NO_LEADER};
    watch_stream_open(hub, &stream->guard->looks, &guard_sink, /* wants_leader= */ true);
    return true;
}

/* ---- what the client says ---- */

static void init(struct keep_alive *stream, struct rpc_call *call)
{
    stream->call = call;
    inbox_init(&stream->inbox, NULL, NULL);
    inbox_init(&stream->unused, NULL, NULL);
    stream->end.kind = INCOMING_END;
    stream->error.kind = INCOMING_ERROR;
    stream->cancel.kind = INCOMING_CANCEL;
}

void on_keep_alive_open(struct rpc_call *call)
{
    struct keep_alive *stream = ARENA_NEW(call->arena, struct keep_alive);
    if (stream != NULL)
        init(stream, call);
    call->state = stream;
    if (stream == NULL || !open_guard(stream))
        finish_error(call, API_NO_MEMORY);
}

static struct incoming *new_incoming(struct keep_alive *stream)
{
    if (stream->free_chain == NULL)
        stream->free_chain = inbox_take(&stream->unused);
    if (stream->free_chain != NULL) {
        struct incoming *incoming = incoming_of(stream->free_chain);
        stream->free_chain = incoming->node.next;
        return incoming;
    }
    return ARENA_NEW(stream->call->arena, struct incoming);
}

static void break_off(struct keep_alive *stream, enum api_error error)
{
    if (stream->error.error != API_OK)
        return;
    stream->error.error = error;
    bring(stream, &stream->error);
}

static void bring_renewal(struct keep_alive *stream, struct slice message)
{
    static const struct wire_slot slots[] = {{WIRE_SLOT_INT64, 0}};
    lease_id id = 0;
    if (wire_decode(message, slots, METHODS_OF(slots), &id) != ST_OK) {
        break_off(stream, API_UNDECODABLE);
        return;
    }
    struct incoming *incoming = new_incoming(stream);
    if (incoming == NULL) {
        break_off(stream, API_NO_MEMORY);
        return;
    }
    atomic_fetch_add(&stream->renewals_count, 1);
    incoming->kind = INCOMING_RENEWAL;
    incoming->stream = stream;
    incoming->renewal = (struct lease_renewal){.id = id, .done = renewal_done};
    bring(stream, incoming);
}

void on_keep_alive_message(struct rpc_call *call, struct slice message)
{
    struct keep_alive *stream = call->state;
    if (message.data == NULL)
        bring(stream, &stream->end);
    else if (!has_room(stream))
        wait_for_room(stream);
    else
        bring_renewal(stream, message);
}

void on_keep_alive_sent(struct rpc_call *call)
{
    send_over(call->state);
}

/* Renewals that wait for the end of their lease may do so for long. */
static void forget_batch(struct keep_alive *stream)
{
    unsigned pending = atomic_load(&stream->pending);
    while (pending > 0 && !atomic_compare_exchange_weak(&stream->pending, &pending, pending + 1))
        continue;
    if (pending == 0)
        return;
    for (struct inbox_node *node = stream->batch; node != NULL; node = node->next)
        forget(incoming_of(node));
    one_less(stream);
}

void on_keep_alive_cancel(struct rpc_call *call)
{
    struct keep_alive *stream = call->state;
    atomic_store(&stream->canceled, true);
    forget_batch(stream);
    send_over(stream);
    bring(stream, &stream->cancel);
}
