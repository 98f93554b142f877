/* The same random KV requests to two servers, answers compared field by field. The reference is
 * Debian's etcd, the subject is cleat (or another etcd, to try this program itself). What may
 * differ: ids, the order among equal sort keys, texts for bodies that do not decode and of gRPC
 * itself. Requests that end etcd's process go to the subject alone and must get an error. */
#include "base/assert.h"
#include "base/buf.h"
#include "bench/flags.h"
#include "tests/e2e/kv_request.h"
#include "tests/e2e/message_text.h"
#include "tools/client/client.h"

#include <stdlib.h>

#define FRESH_REQUESTS 300U /* on the empty store: revision 1, nothing compacted */
#define ARENA_BYTES (64U << 20)
#define CALL_TIMEOUT_MS 20000U
#define CODES_COUNT 17U

struct side {
    const char *name;
    struct client *client;
    struct arena arena; /* of the answer at hand */
    struct client_reply reply;
    bool answered;
    struct buf text; /* the answer, to compare and to show */
};

struct run {
    struct side reference, subject;
    struct kv_generator generator;
    struct arena arena; /* of the request at hand */
    uint64_t seed, number;
    uint64_t codes[CODES_COUNT], alone_count, mangled_count, undecodable_count;
};

/* ---- calls ---- */

static void take_reply(void *context, const struct client_reply *reply)
{
    struct side *side = context;
    side->reply.code = reply->code;
    side->answered = arena_copy(&side->arena, reply->text, &side->reply.text) == ST_OK &&
                     arena_copy(&side->arena, reply->body, &side->reply.body) == ST_OK;
}

static void start(struct side *side, const struct kv_request *request)
{
    arena_reset(&side->arena);
    side->answered = false;
    struct client_request call = {.method = kv_method_path(request->method),
                                  .body = request->body,
                                  .timeout_ms = CALL_TIMEOUT_MS};
    enum status st = client_start(side->client, &call, take_reply, side);
    ASSERT(st == ST_OK);
}

static void wait_for(struct side *side)
{
    while (client_in_flight(side->client) > 0)
        client_poll(side->client, 1000);
    ASSERT(side->answered); /* no answer is larger than the arena */
}

/* ---- what may differ is made equal ---- */

static void *arena_allocator_alloc(void *context, size_t size)
{
    return arena_alloc_raw(context, size);
}

static void arena_allocator_free(void *context, void *memory)
{
    (void)context;
    (void)memory; /* ends with the arena */
}

static int by_key(const void *a, const void *b)
{
    const Mvccpb__KeyValue *left = *(Mvccpb__KeyValue *const *)a;
    const Mvccpb__KeyValue *right = *(Mvccpb__KeyValue *const *)b;
    return slice_cmp(slice_make(left->key.data, left->key.len),
                     slice_make(right->key.data, right->key.len));
}

static bool ties(const Etcdserverpb__RangeRequest *request, const Mvccpb__KeyValue *a,
                 const Mvccpb__KeyValue *b)
{
    switch (request->sort_target) {
    case ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__VERSION:
        return a->version == b->version;
    case ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__CREATE:
        return a->create_revision == b->create_revision;
    case ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__MOD:
        return a->mod_revision == b->mod_revision;
    case ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__VALUE: /* keys_only hides what it went by */
        return request->keys_only || slice_eq(slice_make(a->value.data, a->value.len),
                                              slice_make(b->value.data, b->value.len));
    default:
        return false;
    }
}

/* Leaves of a key and value only what it was sorted by. */
static void keep_sort_key(const Etcdserverpb__RangeRequest *request, Mvccpb__KeyValue *kv)
{
    Mvccpb__KeyValue kept = MVCCPB__KEY_VALUE__INIT;
    if (request->sort_target == ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__VERSION)
        kept.version = kv->version;
    else if (request->sort_target == ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__CREATE)
        kept.create_revision = kv->create_revision;
    else if (request->sort_target == ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__MOD)
        kept.mod_revision = kv->mod_revision;
    else
        kept.value = kv->value;
    *kv = kept;
}

/* etcd's sort is not stable: equal ones are put into key order, and of the last equal ones before a
 * limit only their number and what they were sorted by is kept. */
static void settle_range(const Etcdserverpb__RangeRequest *request,
                         Etcdserverpb__RangeResponse *response)
{
    for (size_t first = 0, end; first < response->n_kvs; first = end) {
        end = first + 1;
        while (end < response->n_kvs && ties(request, response->kvs[first], response->kvs[end]))
            end++;
        if (end == response->n_kvs && response->more &&
            request->sort_target != ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__KEY)
            for (size_t i = first; i < end; i++)
                keep_sort_key(request, response->kvs[i]);
        else if (end - first > 1)
            qsort(&response->kvs[first], end - first, sizeof(Mvccpb__KeyValue *), by_key);
    }
}

static void settle_txn(const Etcdserverpb__TxnRequest *request, Etcdserverpb__TxnResponse *response)
{
    Etcdserverpb__RequestOp **ops = response->succeeded ? request->success : request->failure;
    size_t ops_count = response->succeeded ? request->n_success : request->n_failure;
    for (size_t i = 0; i < response->n_responses && i < ops_count; i++) {
        Etcdserverpb__ResponseOp *answer = response->responses[i];
        if ((int)ops[i]->request_case != (int)answer->response_case)
            continue; /* the texts will differ */
        if (ops[i]->request_case == ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_RANGE)
            settle_range(ops[i]->request_range, answer->response_range);
        else if (ops[i]->request_case == ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_TXN)
            settle_txn(ops[i]->request_txn, answer->response_txn);
    }
}

/* Makes the side's answer into text. A mangled body may still decode, but then into what the
 * server made of it, not into the request at hand: its sort order is unknown here. */
static void make_text(struct side *side, const struct kv_request *request)
{
    buf_reset(&side->text);
    enum status st = buf_printf(&side->text, "%s %.*s", client_code_name(side->reply.code),
                                (int)side->reply.text.len, (const char *)side->reply.text.data);
    ProtobufCAllocator allocator = {.alloc = arena_allocator_alloc,
                                    .free = arena_allocator_free,
                                    .allocator_data = &side->arena};
    if (st == ST_OK && side->reply.code == CLIENT_OK) {
        ProtobufCMessage *message =
            protobuf_c_message_unpack(kv_method_response(request->method), &allocator,
                                      side->reply.body.len, side->reply.body.data);
        if (message == NULL)
            st = buf_printf(&side->text, "an answer that does not decode");
        else {
            if (request->method == KV_RANGE)
                settle_range((const Etcdserverpb__RangeRequest *)request->message,
                             (Etcdserverpb__RangeResponse *)message);
            else if (request->method == KV_TXN)
                settle_txn((const Etcdserverpb__TxnRequest *)request->message,
                           (Etcdserverpb__TxnResponse *)message);
            st = message_text(message, &side->text);
        }
    }
    ASSERT(st == ST_OK);
}

/* ---- a run ---- */

static bool answers_agree(struct run *run, const struct kv_request *request)
{
    const struct client_reply *reference = &run->reference.reply, *subject = &run->subject.reply;
    if (request->stops_etcd)
        return subject->code != CLIENT_OK && subject->code != CLIENT_UNAVAILABLE;
    if (request->mangled && reference->code == CLIENT_INTERNAL) {
        run->undecodable_count++;
        return subject->code != CLIENT_OK && subject->code != CLIENT_UNAVAILABLE;
    }
    if (slice_has_prefix(reference->text, SLICE("grpc: "))) /* its own limits: the code alone */
        return subject->code == reference->code;
    return slice_eq(buf_slice(&run->reference.text), buf_slice(&run->subject.text));
}

static void show_difference(const struct run *run, const struct kv_request *request)
{
    struct buf text;
    buf_init(&text, 64U << 20);
    enum status st = message_text(request->message, &text);
    ASSERT(st == ST_OK);
    printf("seed %llu, request %llu, at revision %lld (compacted %lld): the answers differ\n"
           "%s %.*s\n",
           (unsigned long long)run->seed, (unsigned long long)run->number,
           (long long)run->generator.revision, (long long)run->generator.compact_revision,
           kv_method_path(request->method), (int)text.len, (const char *)text.data);
    if (request->mangled) {
        printf("the body, mangled:");
        for (size_t i = 0; i < request->body.len && i < 400; i++)
            printf(" %02x", request->body.data[i]);
        printf("\n");
    }
    if (!request->stops_etcd)
        printf("%s: %.*s\n", run->reference.name, (int)run->reference.text.len,
               (const char *)run->reference.text.data);
    printf("%s: %.*s\n", run->subject.name, (int)run->subject.text.len,
           (const char *)run->subject.text.data);
    buf_deinit(&text);
}

/* Every response begins with its header. */
static void follow(struct run *run, const struct kv_request *request)
{
    if (run->reference.reply.code != CLIENT_OK)
        return;
    struct slice body = run->reference.reply.body;
    Etcdserverpb__CompactionResponse *head = etcdserverpb__compaction_response__unpack(
        NULL, body.len, body.data); /* of the others it sees the header too */
    ASSERT(head != NULL && head->header != NULL);
    run->generator.revision = head->header->revision;
    etcdserverpb__compaction_response__free_unpacked(head, NULL);
    if (request->method == KV_COMPACT && !request->mangled)
        run->generator.compact_revision =
            ((const Etcdserverpb__CompactionRequest *)request->message)->revision;
}

static bool step(struct run *run)
{
    arena_reset(&run->arena);
    run->generator.fresh = run->number < FRESH_REQUESTS;
    struct kv_request request = kv_request_next(&run->generator, &run->arena);
    start(&run->subject, &request);
    if (!request.stops_etcd) {
        start(&run->reference, &request);
        wait_for(&run->reference);
        make_text(&run->reference, &request);
        run->codes[run->reference.reply.code % CODES_COUNT]++;
    }
    wait_for(&run->subject);
    make_text(&run->subject, &request);
    run->alone_count += request.stops_etcd;
    run->mangled_count += request.mangled;
    if (!answers_agree(run, &request)) {
        show_difference(run, &request);
        return false;
    }
    if (!request.stops_etcd)
        follow(run, &request);
    return true;
}

static bool side_init(struct side *side, const char *name, const char *endpoint)
{
    side->name = name;
    arena_init(&side->arena, ARENA_BYTES);
    buf_init(&side->text, ARENA_BYTES);
    struct client_options options = {.endpoints = endpoint, .wait_for_ready = true};
    if (endpoint != NULL && client_open(&options, &side->client) == ST_OK)
        return true;
    fprintf(stderr, "--%s wants an endpoint\n", name);
    return false;
}

static void side_deinit(struct side *side)
{
    client_close(side->client);
    arena_deinit(&side->arena);
    buf_deinit(&side->text);
}

static void show_summary(const struct run *run)
{
    printf("seed %llu: %llu requests, revision %lld, %llu for one side alone, %llu mangled (%llu "
           "undecodable);",
           (unsigned long long)run->seed, (unsigned long long)run->number,
           (long long)run->generator.revision, (unsigned long long)run->alone_count,
           (unsigned long long)run->mangled_count, (unsigned long long)run->undecodable_count);
    for (uint32_t code = 0; code < CODES_COUNT; code++)
        if (run->codes[code] > 0)
            printf(" %s %llu", client_code_name(code), (unsigned long long)run->codes[code]);
    printf("\n");
}

int main(int argc, char **argv)
{
    const char *reference = NULL, *subject = NULL;
    uint64_t requests = 20000;
    bool spare_subject = false, ok = true;
    static struct run run = {.seed = 1};
    const struct flag flags[] = {
        {"reference", FLAG_TEXT, &reference, "ENDPOINT", "etcd, on an empty store"},
        {"subject", FLAG_TEXT, &subject, "ENDPOINT", "cleat, on an empty store"},
        {"seed", FLAG_NUMBER, &run.seed, "N", "of the requests"},
        {"requests", FLAG_NUMBER, &requests, "N", "how many"},
        {"spare-subject", FLAG_SWITCH, &spare_subject, NULL,
         "the subject is an etcd as well: leave out what ends its process"},
    };
    int positional = 0;
    if (flags_parse(flags, sizeof(flags) / sizeof(flags[0]), argc - 1, argv + 1, &positional) !=
            ST_OK ||
        positional != 0)
        return 2;
    arena_init(&run.arena, ARENA_BYTES);
    kv_generator_init(&run.generator, run.seed);
    run.generator.spare_subject = spare_subject;
    ok = side_init(&run.reference, "reference", reference) &&
         side_init(&run.subject, "subject", subject);
    while (ok && run.number < requests) {
        ok = step(&run);
        run.number++;
    }
    if (ok)
        show_summary(&run);
    side_deinit(&run.reference);
    side_deinit(&run.subject);
    arena_deinit(&run.arena);
    return ok ? 0 : 1;
}
