#include "server/loops/leases.h"

#include "base/assert.h"
#include "base/minmax.h"
#include "base/wire.h"
#include "server/loops/loops_private.h"
#include "server/metrics/metrics.h"
#include "server/state/auth.h"
#include "server/state/kv_request.h"
#include "server/state/machine.h"

#include <stdlib.h>

enum { CHECK_IDLE, CHECK_ASKED, CHECK_PASSED };

static void wake_leases(void *context)
{
    loops_wake(context, ACTOR_LEASES);
}

void leases_init(struct loops *loops)
{
    struct leases *leases = &loops->leases;
    *leases = (struct leases){.loops = loops};
    inbox_init(&leases->answered, wake_leases, loops);
}

static uint64_t request_ns(const struct loops *loops)
{
    return 5 * NS_PER_S + 2 * loops_election_ns(loops);
}

/* ---- whose time it is ---- */

/* Begins or stops counting as this member's part in the cluster has changed. A leader counts once
 * it has applied an entry of its own term: then it knows every lease that was granted or revoked
 * before. With the lessor's lock. */
static enum status follow_leadership(struct loops *loops, struct lessor *lessor, uint64_t now_ns,
                                     struct list_node *ended)
{
    struct leases *leases = &loops->leases;
    raft_term led = atomic_load_explicit(&loops->led_term, memory_order_acquire);
    if (lessor_is_primary(lessor) && leases->term != led)
        lessor_demote(lessor, ended);
    if (led == 0 || lessor_is_primary(lessor) ||
        atomic_load_explicit(&loops->applied_term, memory_order_acquire) != led)
        return ST_OK;
    lessor_set_checkpoints(lessor, loops->options.lease_checkpoint_ns);
    leases->term = led;
    return lessor_promote(lessor, now_ns, loops_election_ns(loops));
}

/* Locks it, with time running if this member is to count it. */
static struct lessor *lock_following(struct loops *loops, uint64_t now_ns, struct list_node *ended)
{
    list_init(ended);
    struct lessor *lessor = machine_lock_lessor(loops->options.machine);
    enum status st = follow_leadership(loops, lessor, now_ns, ended);
    if (st != ST_OK)
        loops_fail(loops, st, "leases");
    return lessor;
}

static void unlock(struct loops *loops, struct list_node *ended)
{
    machine_unlock_lessor(loops->options.machine);
    lease_renewals_end(ended);
}

/* ---- what the leader proposes ---- */

/* In a store with users every entry is somebody's; what the leader does may be done by root alone.
 */
static struct raft_payload *wrap(const struct loops *loops, enum internal_field field,
                                 struct slice body, uint64_t id)
{
    struct auth_view *auth = machine_auth(loops->options.machine);
    const struct auth_caller root = {.name = SLICE(AUTH_ROOT), .revision = auth_revision(auth)};
    bool is_enabled = auth_is_enabled(auth);
    auth_view_unref(auth);
    return internal_request_payload_as(field, body, id, is_enabled ? &root : NULL);
}

struct revocation {
    struct proposal proposal;
    struct leases *leases;
    struct inbox_node answered;
    enum api_error error;
};

static void revocation_done(struct proposal *proposal, enum api_error error, struct slice response)
{
    (void)response;
    struct revocation *revocation = CONTAINER_OF(proposal, struct revocation, proposal);
    revocation->error = error;
    inbox_push(&revocation->leases->answered, &revocation->answered);
}

static bool propose_revocation(struct leases *leases, lease_id id, raft_term term, uint64_t now_ns)
{
    struct loops *loops = leases->loops;
    uint8_t body[1 + VARINT_BYTES_MAX] = {1 << 3 | WIRE_VARINT};
    size_t size = 1 + put_varint(body + 1, (uint64_t)id);
    uint64_t request_id = loops_next_id(loops);
    struct revocation *revocation = calloc(1, sizeof(*revocation));
    struct raft_payload *payload =
        revocation == NULL ? NULL
                           : wrap(loops, INTERNAL_LEASE_REVOKE, slice_make(body, size), request_id);
    if (payload == NULL) {
        free(revocation);
        return false;
    }
    *revocation =
        (struct revocation){.leases = leases,
                            .proposal = {.request = {.deadline_ns = now_ns + request_ns(loops)},
                                         .payload = payload,
                                         .id = request_id,
                                         .only_term = term,
                                         .urgent = true,
                                         .done = revocation_done}};
    leases->open_count++;
    loops_propose(loops, &revocation->proposal);
    return true;
}

static void take_answered(struct leases *leases)
{
    for (struct inbox_node *node = inbox_take(&leases->answered), *next; node != NULL;
         node = next) {
        next = node->next;
        struct revocation *revocation = CONTAINER_OF(node, struct revocation, answered);
        if (revocation->error == API_OK)
            metrics_add(METRIC_LEASES_EXPIRED, 1);
        leases->open_count--;
        free(revocation);
    }
}

static void revoke_ended(struct leases *leases, uint64_t now_ns)
{
    struct loops *loops = leases->loops;
    lease_id ids[LEASE_REVOCATIONS_MAX];
    struct list_node ended;
    struct lessor *lessor = lock_following(loops, now_ns, &ended);
    raft_term term = leases->term;
    uint32_t count =
        lessor_take_ended(lessor, now_ns, now_ns + request_ns(loops), ids,
                          LEASE_REVOCATIONS_MAX - leases->open_count, LEASE_REVOCATION_KEYS_MAX);
    unlock(loops, &ended);
    for (uint32_t i = 0; i < count; i++) {
        if (!propose_revocation(leases, ids[i], term, now_ns))
            return; /* no memory: they are told of again */
    }
}

/* ---- the leader must be one ---- */

static void check_answered(struct read_request *read, enum api_error error, uint32_t reader)
{
    (void)reader;
    struct leases *leases = CONTAINER_OF(read, struct leases, check);
    atomic_store_explicit(&leases->check_state, error == API_OK ? CHECK_PASSED : CHECK_IDLE,
                          memory_order_release);
    loops_wake(leases->loops, ACTOR_LEASES);
}

/* What it proposes would be dropped if it did not lead any more; but one that was deposed and does
 * not know it yet should not fill its log. */
static void ask_whether_it_leads(struct leases *leases, uint64_t now_ns)
{
    atomic_store_explicit(&leases->check_state, CHECK_ASKED, memory_order_relaxed);
    leases->check = (struct read_request){
        .request = {.deadline_ns = now_ns + request_ns(leases->loops)}, .ready = check_answered};
    loops_read(leases->loops, &leases->check);
}

/* ---- checkpoints ---- */

struct checkpoint {
    struct proposal proposal;
    struct loops *loops;
    struct lease_renewal *renewal; /* that waits for it, or NULL */
};

static void checkpoint_done(struct proposal *proposal, enum api_error error, struct slice response)
{
    (void)response;
    struct checkpoint *checkpoint = CONTAINER_OF(proposal, struct checkpoint, proposal);
    struct lease_renewal *renewal = checkpoint->renewal;
    free(checkpoint);
    if (renewal == NULL)
        return;
    renewal->error = error;
    renewal->done(renewal);
}

/* LeaseCheckpointRequest, of {ID, remaining_TTL}. */
static enum status encode_checkpoints(const struct lease *leases, uint32_t count,
                                      struct arena *arena, struct slice *out)
{
    struct wire_out body;
    wire_out_init(&body, arena, /* gap= */ 0);
    for (uint32_t i = 0; i < count; i++) {
        size_t mark = wire_open(&body, 1);
        wire_put_varint(&body, 1, (uint64_t)leases[i].id);
        wire_put_varint(&body, 2, (uint64_t)leases[i].remaining_s);
        wire_close(&body, mark);
    }
    return wire_out_finish(&body, out);
}

static enum status propose_checkpoints(struct loops *loops, const struct lease *leases,
                                       uint32_t count, raft_term term,
                                       struct lease_renewal *renewal)
{
    struct arena arena;
    struct slice body;
    arena_init(&arena, LEASE_CHECKPOINT_BYTES_MAX);
    uint64_t id = loops_next_id(loops);
    struct checkpoint *checkpoint = calloc(1, sizeof(*checkpoint));
    struct raft_payload *payload = NULL;
    if (checkpoint != NULL && encode_checkpoints(leases, count, &arena, &body) == ST_OK)
        payload = wrap(loops, INTERNAL_LEASE_CHECKPOINT, body, id);
    arena_deinit(&arena);
    if (payload == NULL) {
        free(checkpoint);
        return ST_NO_MEMORY;
    }
    uint64_t now_ns = clock_monotonic_ns(loops->options.clock);
    *checkpoint =
        (struct checkpoint){.loops = loops,
                            .renewal = renewal,
                            .proposal = {.request = {.deadline_ns = now_ns + request_ns(loops)},
                                         .payload = payload,
                                         .id = id,
                                         .only_term = term,
                                         .urgent = true,
                                         .done = checkpoint_done}};
    loops_propose(loops, &checkpoint->proposal);
    return ST_OK;
}

static void tell_checkpoints(struct leases *leases, uint64_t now_ns)
{
    struct loops *loops = leases->loops;
    if (loops->options.lease_checkpoint_ns == 0)
        return;
    struct lease *due = calloc(LEASE_CHECKPOINTS_MAX, sizeof(*due));
    if (due == NULL)
        return;
    struct list_node ended;
    struct lessor *lessor = lock_following(loops, now_ns, &ended);
    raft_term term = leases->term;
    uint32_t count = lessor_take_checkpoints(lessor, now_ns, due, LEASE_CHECKPOINTS_MAX);
    if (count > 0) {
        enum status ignored = propose_checkpoints(loops, due, count, term, NULL);
        (void)ignored; /* they come again after another interval */
    }
    unlock(loops, &ended);
    free(due);
}

/* ---- the actor ---- */

uint64_t leases_step(struct loops *loops, uint64_t now_ns)
{
    struct leases *leases = &loops->leases;
    struct list_node ended;
    take_answered(leases);
    struct lessor *lessor = lock_following(loops, now_ns, &ended);
    bool counts = lessor_is_primary(lessor) && lessor_leases_count(lessor) > 0;
    bool due = counts && lessor_next_end_ns(lessor) <= now_ns;
    unlock(loops, &ended);
    int check = atomic_load_explicit(&leases->check_state, memory_order_acquire);
    if (check == CHECK_PASSED) {
        atomic_store_explicit(&leases->check_state, CHECK_IDLE, memory_order_relaxed);
        revoke_ended(leases, now_ns);
    }
    if (!counts)
        return UINT64_MAX; /* woken when this member leads, and by the first lease */
    if (now_ns < leases->next_ns)
        return leases->next_ns;
    leases->next_ns = now_ns + LEASE_LOOK_NS;
    if (due && check == CHECK_IDLE && leases->open_count < LEASE_REVOCATIONS_MAX)
        ask_whether_it_leads(leases, now_ns);
    tell_checkpoints(leases, now_ns);
    return leases->next_ns;
}

void leases_deinit(struct loops *loops)
{
    struct leases *leases = &loops->leases;
    struct list_node ended;
    list_init(&ended);
    struct lessor *lessor = machine_lock_lessor(loops->options.machine);
    if (lessor_is_primary(lessor))
        lessor_demote(lessor, &ended);
    unlock(loops, &ended);
    take_answered(leases);
    ASSERT(leases->open_count == 0);
}

enum status leases_note_applied(struct loops *loops, const struct machine_result *result,
                                uint64_t now_ns)
{
    if (result->lease_change == MACHINE_LEASE_REVOKED)
        metrics_add(METRIC_LEASES_REVOKED, 1);
    if (result->lease_change != MACHINE_LEASE_GRANTED)
        return ST_OK;
    metrics_add(METRIC_LEASES_GRANTED, 1);
    metrics_observe(METRIC_LEASE_TTLS, (uint64_t)result->lease_ttl_s);
    struct lessor *lessor = machine_lock_lessor(loops->options.machine);
    enum status st = lessor_start(lessor, result->lease, now_ns);
    bool is_first = lessor_leases_count(lessor) == 1;
    machine_unlock_lessor(loops->options.machine);
    if (is_first)
        loops_wake(loops, ACTOR_LEASES);
    return st;
}

/* ---- any thread ---- */

bool loops_renew_lease(struct loops *loops, struct lease_renewal *renewal)
{
    struct list_node ended;
    uint64_t now_ns = clock_monotonic_ns(loops->options.clock);
    bool is_ended = lessor_renew(lock_following(loops, now_ns, &ended), renewal, now_ns);
    raft_term term = loops->leases.term;
    unlock(loops, &ended);
    if (!is_ended)
        return false;
    if (renewal->error == API_OK)
        metrics_add(METRIC_LEASES_RENEWED, 1);
    if (renewal->error != API_OK || !renewal->outdates_checkpoint)
        return true;
    const struct lease whole = {.id = renewal->id};
    enum status st = propose_checkpoints(loops, &whole, 1, term, renewal);
    renewal->error = api_error_of(st);
    return st != ST_OK;
}

bool loops_forget_renewal(struct loops *loops, struct lease_renewal *renewal)
{
    struct lessor *lessor = machine_lock_lessor(loops->options.machine);
    bool waited = lessor_forget(lessor, renewal);
    machine_unlock_lessor(loops->options.machine);
    return waited;
}

enum api_error loops_look_at_lease(struct loops *loops, lease_id id, bool with_keys,
                                   struct arena *arena, struct lease_view *out)
{
    struct list_node ended;
    uint64_t now_ns = clock_monotonic_ns(loops->options.clock);
    struct lessor *lessor = lock_following(loops, now_ns, &ended);
    const struct lease *lease = lessor_find(lessor, id);
    enum api_error error = API_OK;
    *out = (struct lease_view){0};
    if (!lessor_is_primary(lessor)) {
        error = API_NOT_PRIMARY_LESSOR;
    } else if (lease == NULL) {
        error = API_LEASE_NOT_FOUND;
    } else {
        out->ttl_s = lease->ttl_s;
        out->remaining_s = lessor_remaining_s(lessor, id, now_ns);
    }
    if (error == API_OK && with_keys)
        error = api_error_of(lessor_keys(lessor, id, arena, &out->keys, &out->keys_count));
    unlock(loops, &ended);
    return error;
}

struct listed {
    lease_id id;
    uint64_t end_ns;
};

struct listing {
    const struct lessor *lessor;
    struct listed *items;
    uint64_t count;
};

static void list_one(void *context, const struct lease *lease)
{
    struct listing *listing = context;
    listing->items[listing->count++] =
        (struct listed){lease->id, lessor_end_ns(listing->lessor, lease->id)};
}

static int compare_listed(const void *a, const void *b)
{
    const struct listed *x = a, *y = b;
    if (x->end_ns != y->end_ns)
        return x->end_ns < y->end_ns ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

enum status loops_list_leases(struct loops *loops, lease_id **out, uint64_t *count_out)
{
    struct lessor *lessor = machine_lock_lessor(loops->options.machine);
    uint64_t count = lessor_leases_count(lessor);
    struct listing listing = {.lessor = lessor, .items = calloc(count + 1, sizeof(struct listed))};
    if (listing.items != NULL)
        lessor_each(lessor, list_one, &listing);
    machine_unlock_lessor(loops->options.machine);
    *out = listing.items == NULL ? NULL : calloc(count + 1, sizeof(**out));
    *count_out = listing.count;
    if (*out != NULL) {
        qsort(listing.items, listing.count, sizeof(listing.items[0]), compare_listed);
        for (uint64_t i = 0; i < listing.count; i++)
            (*out)[i] = listing.items[i].id;
    }
    free(listing.items);
    return *out == NULL ? ST_NO_MEMORY : ST_OK;
}
