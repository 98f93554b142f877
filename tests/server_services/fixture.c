#include "tests/server_services/fixture.h"

#include "base/assert.h"
#include "base/list.h"
#include "base/minmax.h"
#include "server/loops/leases.h"
#include "server/state/machine.h"
#include "tests/fakes/backend_mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

/* ---- the actors ---- */

void loops_propose(struct loops *loops, struct proposal *proposal)
{
    loops->proposals++;
    loops->deadline_ns = proposal->request.deadline_ns;
    struct machine_result result = {.error = loops->refuse};
    if (loops->refuse == API_OK)
        result = harness_apply_data(loops->harness, raft_payload_slice(proposal->payload),
                                    proposal->request.call == NULL ? NULL
                                                                   : proposal->request.call->arena);
    raft_payload_unref(proposal->payload);
    proposal->done(proposal, result.error, result.response);
}

void loops_read(struct loops *loops, struct read_request *read)
{
    loops->reads++;
    loops->deadline_ns = read->request.deadline_ns;
    read->ready(read, loops->refuse, /* reader= */ 1);
}

void loops_read_local(struct loops *loops, struct read_request *read)
{
    loops->local_reads++;
    read->ready(read, API_OK, /* reader= */ 2);
}

void loops_read_long(struct loops *loops, struct read_request *read)
{
    loops->long_reads++;
    read->ready(read, API_OK, /* reader= */ LONG_READER);
}

void loops_read_whole(struct loops *loops, struct read_request *read)
{
    loops->whole_reads++;
    read->ready(read, API_OK, /* reader= */ 1);
}

bool loops_is_for_long_reads(const struct loops *loops, uint32_t reader)
{
    (void)loops;
    return reader == LONG_READER;
}

/* Changes are applied at once. */
void loops_propose_conf_change(struct loops *loops, struct conf_proposal *proposal)
{
    struct harness *h = loops->harness;
    struct raft_entry entry = {.term = h->term,
                               .index = ++h->index,
                               .type = RAFT_ENTRY_CONF_CHANGE,
                               .payload = proposal->payload};
    struct slice bytes;
    struct machine_result result;
    loops->changes++;
    assert_int_equal(machine_check_conf_change(h->machine, &entry, &bytes, &result), ST_OK);
    assert_int_equal(result.request_id, proposal->id);
    const struct raft_conf_state conf_state = {.voters = {1}, .voters_count = 1};
    assert_int_equal(machine_end_conf_change(h->machine, &entry, &conf_state), ST_OK);
    raft_payload_unref(proposal->payload);
    proposal->done(proposal, result.error);
}

void loops_transfer_leadership(struct loops *loops, struct transfer_request *transfer)
{
    loops->transfers++;
    loops->transferee = transfer->target;
    loops->deadline_ns = transfer->request.deadline_ns;
    transfer->done(transfer, loops->refuse);
}

void loops_get_progress(struct loops *loops, struct progress_request *progress)
{
    struct members *members = machine_members(loops->harness->machine);
    enum api_error error = loops->is_follower                            ? API_NOT_LEADER
                           : members_find(members, progress->id) == NULL ? API_MEMBER_NOT_FOUND
                                                                         : API_OK;
    members_unref(members);
    progress->done(progress, error, loops->match, loops->leader_match);
}

void loops_defragment(struct loops *loops, struct defragment_request *request)
{
    loops->defragments++;
    request->done(request, loops->refuse);
}

/* ---- exports: the bytes given to the fixture, in parts ---- */

static struct loops *exporting; /* one at a time */
static size_t exported_bytes;
static uint32_t exported_parts;

void loops_export(struct loops *loops, struct export_request *export)
{
    exporting = loops;
    exported_bytes = 0;
    exported_parts = 0;
    export->size = loops->export_bytes.len;
    export->hash = 0x89abcdef;
    if (export->hashes)
        export->give(export, loops->refuse, SLICE_EMPTY);
    else
        loops_export_next(export);
}

void loops_export_next(struct export_request *export)
{
    struct slice left = slice_make(exporting->export_bytes.data + exported_bytes,
                                   exporting->export_bytes.len - exported_bytes);
    left.len = min_size(left.len, export->part_bytes_max / 3 + 1);
    exported_bytes += left.len;
    if (exporting->refuse != API_OK && exported_parts++ == exporting->export_parts)
        export->give(export, exporting->refuse, SLICE_EMPTY);
    else
        export->give(export, API_OK, left);
}

void loops_export_cancel(struct export_request *export)
{
    exporting->exports_canceled++;
    export->give(export, API_CANCELED, SLICE_EMPTY);
}

/* ---- leases: the machine's, at the fixture's time ---- */

bool loops_renew_lease(struct loops *loops, struct lease_renewal *renewal)
{
    struct lessor *lessor = machine_lock_lessor(loops->harness->machine);
    bool is_ended = lessor_renew(lessor, renewal, loops->now_ns);
    machine_unlock_lessor(loops->harness->machine);
    return is_ended;
}

bool loops_forget_renewal(struct loops *loops, struct lease_renewal *renewal)
{
    struct lessor *lessor = machine_lock_lessor(loops->harness->machine);
    bool waited = lessor_forget(lessor, renewal);
    machine_unlock_lessor(loops->harness->machine);
    return waited;
}

enum api_error loops_look_at_lease(struct loops *loops, lease_id id, bool with_keys,
                                   struct arena *arena, struct lease_view *out)
{
    struct lessor *lessor = machine_lock_lessor(loops->harness->machine);
    const struct lease *lease = lessor_find(lessor, id);
    *out = (struct lease_view){0};
    enum api_error error = !lessor_is_primary(lessor) ? API_NOT_PRIMARY_LESSOR
                           : lease == NULL            ? API_LEASE_NOT_FOUND
                                                      : API_OK;
    if (error == API_OK) {
        out->ttl_s = lease->ttl_s;
        out->remaining_s = lessor_remaining_s(lessor, id, loops->now_ns);
    }
    if (error == API_OK && with_keys)
        error = api_error_of(lessor_keys(lessor, id, arena, &out->keys, &out->keys_count));
    machine_unlock_lessor(loops->harness->machine);
    return error;
}

static void list_lease(void *context, const struct lease *lease)
{
    lease_id **next = context;
    *(*next)++ = lease->id;
}

enum status loops_list_leases(struct loops *loops, lease_id **out, uint64_t *count_out)
{
    struct lessor *lessor = machine_lock_lessor(loops->harness->machine);
    *count_out = lessor_leases_count(lessor);
    *out = calloc(*count_out + 1, sizeof(**out));
    lease_id *next = *out;
    lessor_each(lessor, list_lease, &next);
    machine_unlock_lessor(loops->harness->machine);
    return ST_OK;
}

uint64_t loops_next_id(struct loops *loops)
{
    return ++loops->ids;
}

void loops_get_status(const struct loops *loops, struct loops_status *out)
{
    *out = (struct loops_status){.leader = loops->refuse == API_OK ? HARNESS_MEMBER_ID : 0,
                                 .is_leaderless = loops->refuse != API_OK,
                                 .term = 2,
                                 .commit = 9,
                                 .applied = loops->applied == 0 ? 8 : loops->applied,
                                 .is_leader = !loops->is_follower,
                                 .is_learner = loops->is_learner,
                                 .is_quarantined = loops->is_quarantined};
}

/* ---- a call and its end ---- */

static void note_finish(struct rpc_call *call, enum rpc_code code, const char *text,
                        struct slice message)
{
    struct fake_call *fake = CONTAINER_OF(call, struct fake_call, call);
    fake->finished++;
    fake->code = code;
    fake->message = message;
    snprintf(fake->text, sizeof(fake->text), "%s", text == NULL ? "" : text);
}

static void note_finish_later(struct rpc_call *call, enum rpc_code code, const char *text,
                              struct slice message)
{
    note_finish(call, code, text, message);
    CONTAINER_OF(call, struct fake_call, call)->later = true;
}

static enum status note_send(struct rpc_call *call, struct slice message)
{
    struct fake_call *fake = CONTAINER_OF(call, struct fake_call, call);
    assert_false(fake->in_flight);
    assert_int_equal(fake->finished, 0);
    assert_true(fake->sent_count < FAKE_MESSAGES_MAX);
    if (atomic_load(&call->canceled))
        return ST_CANCELED;
    struct arena *arena = &CONTAINER_OF(fake, struct fixture, call)->harness.arena;
    assert_int_equal(arena_copy(arena, message, &fake->sent[fake->sent_count++]), ST_OK);
    fake->in_flight = true;
    return ST_OK;
}

static const char *fake_peer(struct rpc_call *call)
{
    (void)call;
    return "127.0.0.1:1";
}

static void fake_hold(struct rpc_call *call)
{
    call->held = true;
}

static void fake_again(struct rpc_call *call)
{
    struct fake_call *fake = CONTAINER_OF(call, struct fake_call, call);
    fake->again = true;
}

static void fake_ref(struct rpc_call *call)
{
    CONTAINER_OF(call, struct fake_call, call)->refs++;
}

static void fake_unref(struct rpc_call *call)
{
    struct fake_call *fake = CONTAINER_OF(call, struct fake_call, call);
    assert_true(fake->refs-- > 0);
}

static const struct rpc_transport transport = {.finish = note_finish,
                                               .finish_later = note_finish_later,
                                               .send = note_send,
                                               .peer = fake_peer,
                                               .hold = fake_hold,
                                               .again = fake_again,
                                               .ref = fake_ref,
                                               .unref = fake_unref};

static uint64_t active_since(void *context, raft_id id)
{
    const struct fixture *f = context;
    return f->connections != NULL && id <= strlen(f->connections) && f->connections[id - 1] == '+'
               ? NS_PER_S
               : 0;
}

static void forward_promotion(void *context, struct promotion_forward *forward)
{
    struct fixture *f = context;
    f->forwards++;
    struct slice members =
        f->forward_members == NULL ? SLICE_EMPTY : slice_from_str(f->forward_members);
    forward->done(forward, f->forward_error, members);
}

static void post_to_leader(void *context, struct leader_post *post)
{
    struct fixture *f = context;
    f->posts++;
    if (f->post_status == 0)
        post->error = f->post_error;
    else
        assert_true(post->judge(post, f->post_status, f->post_body));
    post->done(post);
}

static enum status fake_health(void *context)
{
    return ((struct fixture *)context)->health;
}

void open_services(struct fixture *f, uint64_t quota_bytes, uint64_t memory_bytes)
{
    const struct services_options options = {.loops = &f->loops,
                                             .machine = f->harness.machine,
                                             .mvcc = f->harness.mvcc,
                                             .store = f->harness.store,
                                             .watch = f->watch,
                                             .clock = &f->harness.clock,
                                             .api_version = "3.5.15",
                                             .request_timeout_ns = 7 * NS_PER_S,
                                             .request_bytes_max = 1536U << 10,
                                             .txn_ops_max = 128,
                                             .strict_reconfig = f->strict_reconfig,
                                             .peers = {.active_since_ns = active_since,
                                                       .forward_promotion = forward_promotion,
                                                       .post_to_leader = post_to_leader,
                                                       .context = f},
                                             .auth = f->auth,
                                             .quota_bytes = quota_bytes,
                                             .memory_bytes = memory_bytes,
                                             .health = fake_health,
                                             .health_context = f};
    services_free(f->services);
    assert_int_equal(services_new(&options, &f->services), ST_OK);
}

/* The same for the same test. */
static enum status draw(void *context, void *out, size_t bytes)
{
    struct fixture *f = context;
    for (size_t i = 0; i < bytes; i++)
        ((uint8_t *)out)[i] = (uint8_t)(rng_next(&f->rng) >> 11);
    return ST_OK;
}

void fixture_init(struct fixture *f)
{
    *f = (struct fixture){.auth = {.bcrypt_cost = 4, .draw = draw, .context = f}};
    rng_seed(&f->rng, 1);
    harness_init(&f->harness);
    f->loops.harness = &f->harness;
    open_services(f, 0, 0);
}

void fixture_deinit(struct fixture *f)
{
    arena_deinit(&f->call.arena);
    services_free(f->services);
    harness_deinit(&f->harness);
}

int fixture_setup(void **state)
{
    static struct fixture fixture;
    fixture_init(&fixture);
    *state = &fixture;
    return 0;
}

int fixture_teardown(void **state)
{
    fixture_deinit(*state);
    return 0;
}

const struct rpc_method *find_method(const struct fixture *f, const char *path, void **service_out)
{
    uint32_t count;
    const struct rpc_service *table = services_table(f->services, &count);
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t j = 0; j < table[i].methods_count; j++) {
            *service_out = table[i].service;
            if (strcmp(table[i].methods[j].path, path) == 0)
                return &table[i].methods[j];
        }
    }
    fail_msg("no method %s", path);
    return NULL;
}

struct fake_call *call(struct fixture *f, const char *path, struct slice message)
{
    arena_deinit(&f->call.arena);
    f->call = (struct fake_call){0};
    arena_init(&f->call.arena, f->arena_bytes == 0 ? 64U << 20 : f->arena_bytes);
    struct rpc_call *c = &f->call.call;
    c->transport = &transport;
    c->arena = &f->call.arena;
    c->message = message;
    c->poller = 0;
    c->deadline_ns = UINT64_MAX;
    c->metadata = &f->metadata;
    c->metadata_count = f->metadata.key.len > 0;
    c->method = find_method(f, path, &c->service);
    if (c->method->client_streams)
        c->method->on_open(c);
    if (f->call.finished > 0 || (c->method->client_streams && message.data == NULL))
        return &f->call; /* the caller says what comes */
    do {
        c->repeated = f->call.again;
        f->call.again = c->held = false;
        if (c->method->on_message != NULL)
            c->method->on_message(c, message);
        else
            c->method->on_call(c);
    } while (f->call.again);
    let_leave(f);
    if (f->call.finished == 0 && c->method->server_streams)
        cancel(f);
    assert_int_equal(f->call.finished, 1);
    return &f->call;
}

void let_leave(struct fixture *f)
{
    while (f->call.in_flight && f->call.finished == 0) {
        f->call.in_flight = false;
        f->call.call.method->on_sent(&f->call.call);
    }
}

void cancel(struct fixture *f)
{
    atomic_store(&f->call.call.canceled, true);
    f->call.call.method->on_cancel(&f->call.call);
}

void assert_error(const struct fake_call *got, enum api_error error)
{
    assert_string_equal(got->text, api_error_text(error));
    assert_int_equal(got->code, api_error_code(error));
}

const void *decode(struct fixture *f, const ProtobufCMessageDescriptor *descriptor)
{
    assert_int_equal(f->call.code, RPC_OK);
    ProtobufCAllocator allocator = harness_allocator(&f->harness.arena);
    const void *message = protobuf_c_message_unpack(descriptor, &allocator, f->call.message.len,
                                                    f->call.message.data);
    assert_non_null(message);
    return message;
}
