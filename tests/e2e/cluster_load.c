/* tests/e2e/cluster_load.c - clients over all endpoints of a cluster, while somebody breaks things.
 *
 *   cluster_load --endpoints URL,URL,... [--clients N] [--seconds N] [--keys N] [--value-bytes N]
 *                [--rate N] [--stay] [--timeout-ms N] [--seed N] [--watchers N] [--leases N]
 *
 * Puts, deletes, pairs of puts in a transaction, compare-and-put, linearizable reads of one key and
 * of pairs. It ends after the seconds or at SIGTERM, reads what every endpoint says at the end,
 * judges the whole history (tests/history/) and prints one JSON object: what was acknowledged, the
 * gaps without an acknowledged write, the slowest and the failed calls of each endpoint, the
 * verdict. Exit code 0 when the history is linearizable and watchers and leases (cluster_watch.h)
 * were shown what it says. Times are milliseconds of CLOCK_MONOTONIC.
 */
#include "base/arena.h"
#include "base/rng.h"
#include "proto/rpc.pb-c.h"
#include "tests/e2e/cluster_watch.h"
#include "tests/history/history.h"
#include "tools/client/client.h"

#include <inttypes.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CLIENTS_MAX 1024U
#define ENDPOINTS_MAX 9U
#define KEYS_MAX 10000U
#define KEY_BYTES 40U
#define VALUE_BYTES_MAX 16384U
#define BODY_BYTES_MAX (3 * VALUE_BYTES_MAX + 1024U)
#define RETRY_MS 20U /* a client whose call failed waits so long */
#define GAP_MS 100U  /* gaps from here on are listed */
#define GAPS_MAX 200U
#define LAST_READ_TRIES 1000U
#define REASONS_MAX 12U

enum kind { PUT, DELETE, PAIR, COMPARE_PUT, GET, GET_PAIR, KINDS_COUNT };

struct settings {
    const char *endpoints;
    uint64_t clients, seconds, keys, value_bytes, rate, timeout_ms, seed, watchers, leases;
    bool stay; /* a client keeps to its endpoint when a call fails */
};

struct load;

struct client_actor {
    struct load *load;
    uint32_t number, endpoint;
    enum kind kind;
    uint32_t op; /* in the history */
    uint32_t key;
    uint64_t value;
    uint64_t called_ns, not_before_ns;
    bool is_busy;
};

struct endpoint_stats {
    uint64_t answered, failed;
    double slowest_ms;
};

struct reason {
    char text[120];
    uint64_t count;
};

struct load {
    struct settings settings;
    struct client *client;
    struct cluster_watch *watch; /* NULL: neither watchers nor leases */
    int64_t revision_last;       /* of all answers */
    uint32_t endpoints_count;
    struct history history;
    struct rng rng;
    struct client_actor actors[CLIENTS_MAX];
    struct endpoint_stats stats[ENDPOINTS_MAX];
    struct reason reasons[REASONS_MAX];
    uint64_t value_last;
    uint64_t newest[KEYS_MAX]; /* value a client saw last: what a compare asks for */
    uint64_t started, writes_acked, reads_answered, unknown;
    uint64_t began_ns, ack_last_ns, gap_longest_ns;
    struct {
        uint64_t at_ms, gap_ms;
    } gaps[GAPS_MAX];
    uint32_t gaps_count, busy_count;
};

static volatile sig_atomic_t stop_wanted;

static void on_signal(int number)
{
    (void)number;
    stop_wanted = 1;
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

/* ---- keys and values ---- */

/* Each seed has keys of its own, which it finds absent. */
static ProtobufCBinaryData key_bytes(const struct load *load, uint32_t key, char *text)
{
    int len = snprintf(text, KEY_BYTES, "hist/%" PRIu64 "/%06u", load->settings.seed, key);
    return (ProtobufCBinaryData){(size_t)len, (uint8_t *)text};
}

static ProtobufCBinaryData value_bytes(const struct load *load, uint64_t value, char *text)
{
    size_t len = (size_t)snprintf(text, 32, "%" PRIu64, value);
    if (len < load->settings.value_bytes) {
        memset(text + len, '.', load->settings.value_bytes - len);
        len = load->settings.value_bytes;
    }
    return (ProtobufCBinaryData){len, (uint8_t *)text};
}

static struct history_key seen_of(const Mvccpb__KeyValue *kv)
{
    char text[KEY_BYTES] = {0};
    uint32_t key = 0;
    memcpy(text, kv->key.data, kv->key.len < sizeof(text) ? kv->key.len : sizeof(text) - 1);
    if (sscanf(text, "hist/%*u/%" SCNu32, &key) != 1)
        key = KEYS_MAX;
    memset(text, 0, sizeof(text));
    memcpy(text, kv->value.data, kv->value.len < sizeof(text) ? kv->value.len : sizeof(text) - 1);
    return (struct history_key){key, strtoull(text, NULL, 10), kv->mod_revision};
}

/* ---- answers ---- */

static void note_reason(struct load *load, const struct client_reply *reply)
{
    char text[120];
    snprintf(text, sizeof(text), "%s: %.*s", client_code_name(reply->code),
             (int)(reply->text.len < 90 ? reply->text.len : 90), (const char *)reply->text.data);
    for (char *c = text; *c != '\0'; c++)
        if (*c == '"' || *c == '\\' || (unsigned char)*c < ' ')
            *c = '\'';
    for (uint32_t i = 0; i < REASONS_MAX; i++) {
        struct reason *r = &load->reasons[i];
        if (r->count == 0)
            snprintf(r->text, sizeof(r->text), "%s", text);
        if (strcmp(r->text, text) == 0 || i == REASONS_MAX - 1) {
            r->count++;
            return;
        }
    }
}

static void note_acked_write(struct load *load, uint64_t now)
{
    load->writes_acked++;
    uint64_t gap = now - load->ack_last_ns;
    if (gap > load->gap_longest_ns)
        load->gap_longest_ns = gap;
    if (gap >= GAP_MS * 1000000ULL && load->gaps_count < GAPS_MAX) {
        load->gaps[load->gaps_count].at_ms = load->ack_last_ns / 1000000;
        load->gaps[load->gaps_count++].gap_ms = gap / 1000000;
    }
    load->ack_last_ns = now;
}

static void note_revision(struct load *load, int64_t revision)
{
    if (revision > load->revision_last)
        load->revision_last = revision;
}

static void take_write(struct client_actor *a, uint64_t now, int64_t revision, bool changed)
{
    struct load *load = a->load;
    note_revision(load, revision);
    history_wrote(&load->history, a->op, now, revision, changed);
    if (changed)
        load->newest[a->key] = a->value;
    note_acked_write(load, now);
}

static bool take_range(struct load *load, uint32_t op, uint64_t now, struct slice body)
{
    Etcdserverpb__RangeResponse *r =
        etcdserverpb__range_response__unpack(NULL, body.len, body.data);
    if (r == NULL || r->header == NULL)
        return false;
    struct history_op *asked = &load->history.ops[op];
    struct history_key seen[HISTORY_OP_KEYS_MAX];
    for (uint32_t k = 0; k < asked->keys_count; k++) {
        seen[k] = (struct history_key){.key = asked->keys[k].key};
        for (size_t i = 0; i < r->n_kvs; i++) {
            struct history_key found = seen_of(r->kvs[i]);
            if (found.key == seen[k].key)
                seen[k] = found;
        }
        load->newest[seen[k].key] = seen[k].value;
    }
    note_revision(load, r->header->revision);
    history_read(&load->history, op, now, r->header->revision, seen);
    etcdserverpb__range_response__free_unpacked(r, NULL);
    return true;
}

static bool take_txn(struct client_actor *a, uint64_t now, struct slice body)
{
    Etcdserverpb__TxnResponse *r = etcdserverpb__txn_response__unpack(NULL, body.len, body.data);
    if (r == NULL || r->header == NULL)
        return false;
    take_write(a, now, r->header->revision, r->succeeded != 0);
    etcdserverpb__txn_response__free_unpacked(r, NULL);
    return true;
}

static bool take_answer(struct client_actor *a, uint64_t now, struct slice body)
{
    if (a->kind == GET || a->kind == GET_PAIR) {
        a->load->reads_answered++;
        return take_range(a->load, a->op, now, body);
    }
    if (a->kind == PAIR || a->kind == COMPARE_PUT)
        return take_txn(a, now, body);
    if (a->kind == DELETE) {
        Etcdserverpb__DeleteRangeResponse *r =
            etcdserverpb__delete_range_response__unpack(NULL, body.len, body.data);
        if (r == NULL || r->header == NULL)
            return false;
        take_write(a, now, r->header->revision, r->deleted > 0);
        etcdserverpb__delete_range_response__free_unpacked(r, NULL);
        return true;
    }
    Etcdserverpb__PutResponse *r = etcdserverpb__put_response__unpack(NULL, body.len, body.data);
    if (r == NULL || r->header == NULL)
        return false;
    take_write(a, now, r->header->revision, /* changed= */ true);
    etcdserverpb__put_response__free_unpacked(r, NULL);
    return true;
}

static void on_reply(void *context, const struct client_reply *reply)
{
    struct client_actor *a = context;
    struct load *load = a->load;
    uint64_t now = now_ns();
    struct endpoint_stats *stats = &load->stats[a->endpoint];
    double took_ms = (double)(now - a->called_ns) / 1e6;
    if (took_ms > stats->slowest_ms)
        stats->slowest_ms = took_ms;
    a->is_busy = false;
    load->busy_count--;
    if (reply->code == CLIENT_OK && take_answer(a, now, reply->body)) {
        stats->answered++;
        return;
    }
    stats->failed++;
    load->unknown++; /* it may have happened, or happen yet */
    note_reason(load, reply);
    a->not_before_ns = now + RETRY_MS * 1000000ULL;
    if (!load->settings.stay)
        a->endpoint = (a->endpoint + 1) % load->endpoints_count;
}

/* ---- requests ---- */

static size_t pack_range(const struct load *load, uint32_t key, uint32_t keys_count, uint8_t *body)
{
    char from[KEY_BYTES], to[KEY_BYTES];
    Etcdserverpb__RangeRequest range = ETCDSERVERPB__RANGE_REQUEST__INIT;
    range.key = key_bytes(load, key, from);
    if (keys_count > 1)
        range.range_end = key_bytes(load, key + keys_count, to);
    return etcdserverpb__range_request__pack(&range, body);
}

static size_t pack_txn(struct client_actor *a, const struct history_op *op, uint8_t *body)
{
    static char values[2][VALUE_BYTES_MAX], compared[VALUE_BYTES_MAX]; /* one thread sends */
    char keys[2][KEY_BYTES], guard[KEY_BYTES];
    Etcdserverpb__PutRequest puts[2] = {ETCDSERVERPB__PUT_REQUEST__INIT,
                                        ETCDSERVERPB__PUT_REQUEST__INIT};
    Etcdserverpb__RequestOp ops[2] = {ETCDSERVERPB__REQUEST_OP__INIT,
                                      ETCDSERVERPB__REQUEST_OP__INIT};
    Etcdserverpb__RequestOp *success[2] = {&ops[0], &ops[1]};
    for (uint32_t k = 0; k < op->keys_count; k++) {
        puts[k].key = key_bytes(a->load, op->keys[k].key, keys[k]);
        puts[k].value = value_bytes(a->load, op->keys[k].value, values[k]);
        ops[k].request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT;
        ops[k].request_put = &puts[k];
    }
    Etcdserverpb__Compare compare = ETCDSERVERPB__COMPARE__INIT, *compares[] = {&compare};
    Etcdserverpb__TxnRequest txn = ETCDSERVERPB__TXN_REQUEST__INIT;
    txn.n_success = op->keys_count;
    txn.success = success;
    if (op->has_guard) {
        compare.result = ETCDSERVERPB__COMPARE__COMPARE_RESULT__EQUAL;
        compare.key = key_bytes(a->load, op->guard_key, guard);
        if (op->guard_value == 0) { /* absent */
            compare.target = ETCDSERVERPB__COMPARE__COMPARE_TARGET__CREATE;
            compare.target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_CREATE_REVISION;
        } else {
            compare.target = ETCDSERVERPB__COMPARE__COMPARE_TARGET__VALUE;
            compare.target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_VALUE;
            compare.value = value_bytes(a->load, op->guard_value, compared);
        }
        txn.n_compare = 1;
        txn.compare = compares;
    }
    return etcdserverpb__txn_request__pack(&txn, body);
}

static const char *pack_op(struct client_actor *a, const struct history_op *op, uint8_t *body,
                           size_t *size)
{
    static char value[VALUE_BYTES_MAX];
    char key[KEY_BYTES];
    if (a->kind == GET || a->kind == GET_PAIR) {
        *size = pack_range(a->load, op->keys[0].key, op->keys_count, body);
        return "/etcdserverpb.KV/Range";
    }
    if (a->kind == PAIR || a->kind == COMPARE_PUT) {
        *size = pack_txn(a, op, body);
        return "/etcdserverpb.KV/Txn";
    }
    if (a->kind == DELETE) {
        Etcdserverpb__DeleteRangeRequest request = ETCDSERVERPB__DELETE_RANGE_REQUEST__INIT;
        request.key = key_bytes(a->load, op->keys[0].key, key);
        *size = etcdserverpb__delete_range_request__pack(&request, body);
        return "/etcdserverpb.KV/DeleteRange";
    }
    Etcdserverpb__PutRequest put = ETCDSERVERPB__PUT_REQUEST__INIT;
    put.key = key_bytes(a->load, op->keys[0].key, key);
    put.value = value_bytes(a->load, op->keys[0].value, value);
    *size = etcdserverpb__put_request__pack(&put, body);
    return "/etcdserverpb.KV/Put";
}

static enum kind choose_kind(struct load *load)
{
    static const enum kind kinds[] = {PUT,  PUT,         PUT,         PUT, PUT, PAIR,
                                      PAIR, COMPARE_PUT, COMPARE_PUT, GET, GET, GET_PAIR};
    if (rng_below(&load->rng, 40) == 0)
        return DELETE;
    return kinds[rng_below(&load->rng, sizeof(kinds) / sizeof(kinds[0]))];
}

static struct history_op choose_op(struct client_actor *a)
{
    struct load *load = a->load;
    a->kind = choose_kind(load);
    bool is_pair = a->kind == PAIR || a->kind == GET_PAIR;
    a->key = (uint32_t)rng_below(&load->rng, load->settings.keys / 2) * 2;
    if (!is_pair)
        a->key += (uint32_t)rng_below(&load->rng, 2);
    struct history_op op = {.client = a->number,
                            .is_write = a->kind != GET && a->kind != GET_PAIR,
                            .keys_count = is_pair ? 2 : 1,
                            .call = now_ns()};
    for (uint32_t k = 0; k < op.keys_count; k++) {
        op.keys[k].key = a->key + k;
        op.keys[k].value = op.is_write && a->kind != DELETE ? ++load->value_last : 0;
    }
    a->value = op.keys[0].value;
    if (a->kind == COMPARE_PUT) {
        op.has_guard = true;
        op.guard_key = a->key;
        op.guard_value = load->newest[a->key];
    }
    return op;
}

static enum status start_op(struct client_actor *a)
{
    static uint8_t body[BODY_BYTES_MAX];
    struct load *load = a->load;
    struct history_op op = choose_op(a);
    enum status st = history_call(&load->history, &op, &a->op);
    if (st != ST_OK)
        return st;
    size_t size = 0;
    const char *method = pack_op(a, &op, body, &size);
    struct client_request request = {.method = method,
                                     .body = slice_make(body, size),
                                     .timeout_ms = load->settings.timeout_ms,
                                     .connection = a->endpoint};
    a->called_ns = op.call;
    a->is_busy = true;
    load->busy_count++;
    load->started++;
    return client_start(load->client, &request, on_reply, a);
}

/* Lets idle clients begin, as many as the rate allows by now. */
static enum status start_idle(struct load *load, uint64_t now)
{
    uint64_t allowed = UINT64_MAX;
    if (load->settings.rate > 0)
        allowed = (now - load->began_ns) / 1000 * load->settings.rate / 1000000;
    for (uint32_t i = 0; i < load->settings.clients && load->started < allowed; i++) {
        struct client_actor *a = &load->actors[i];
        if (a->is_busy || a->not_before_ns > now)
            continue;
        enum status st = start_op(a);
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}

static enum status run_clients(struct load *load)
{
    load->began_ns = load->ack_last_ns = now_ns();
    for (uint32_t i = 0; i < load->settings.clients; i++)
        load->actors[i] =
            (struct client_actor){.load = load, .number = i, .endpoint = i % load->endpoints_count};
    uint64_t end = load->settings.seconds == 0
                       ? UINT64_MAX
                       : load->began_ns + load->settings.seconds * 1000000000ULL;
    for (;;) {
        uint64_t now = now_ns();
        bool is_over = stop_wanted || now >= end;
        if (is_over && load->busy_count == 0)
            return ST_OK;
        if (!is_over) {
            enum status st = start_idle(load, now);
            if (st != ST_OK)
                return st;
        }
        client_poll(load->client, /* timeout_ms= */ 2);
        enum status st = load->watch == NULL ? ST_OK : cluster_watch_step(load->watch);
        if (st != ST_OK)
            return st;
    }
}

/* ---- the end ---- */

/* Reads every pair through one endpoint: what is left must agree with all that was seen. */
static bool read_back(struct load *load, uint32_t endpoint)
{
    uint8_t body[2 * KEY_BYTES + 16];
    for (uint32_t key = 0; key + 1 < load->settings.keys; key += 2) {
        bool is_read = false;
        for (uint32_t tries = 0; !is_read && tries < LAST_READ_TRIES; tries++) {
            struct history_op op = {.client = CLIENTS_MAX + endpoint,
                                    .keys_count = 2,
                                    .keys = {{.key = key}, {.key = key + 1}},
                                    .call = now_ns()};
            uint32_t id;
            struct arena arena;
            arena_init(&arena, 1U << 20);
            struct client_request request = {.method = "/etcdserverpb.KV/Range",
                                             .body =
                                                 slice_make(body, pack_range(load, key, 2, body)),
                                             .timeout_ms = load->settings.timeout_ms,
                                             .connection = endpoint};
            struct client_reply reply;
            if (history_call(&load->history, &op, &id) != ST_OK ||
                client_call(load->client, &request, &arena, &reply) != ST_OK)
                tries = LAST_READ_TRIES;
            else
                is_read = reply.code == CLIENT_OK && take_range(load, id, now_ns(), reply.body);
            if (!is_read)
                client_wait(load->client, RETRY_MS);
            arena_deinit(&arena);
        }
        if (!is_read)
            return false;
    }
    return true;
}

static void print_report(const struct load *load, enum verdict verdict, bool is_complete,
                         const char *why)
{
    static const char *const names[] = {"linearizable", "broken", "undecided"};
    printf("{\"verdict\": \"%s\", \"read_back\": %s, \"why\": \"%s\", \"operations\": %u, "
           "\"writes_acked\": %" PRIu64 ", \"reads\": %" PRIu64 ", \"unknown\": %" PRIu64
           ", \"seconds\": %.3f, \"gap_longest_ms\": %" PRIu64 ",\n \"endpoints\": [",
           names[verdict], is_complete ? "true" : "false", why, load->history.count,
           load->writes_acked, load->reads_answered, load->unknown,
           (double)(load->ack_last_ns - load->began_ns) / 1e9, load->gap_longest_ns / 1000000);
    for (uint32_t i = 0; i < load->endpoints_count; i++)
        printf("%s{\"answered\": %" PRIu64 ", \"failed\": %" PRIu64 ", \"slowest_ms\": %.1f}",
               i == 0 ? "" : ", ", load->stats[i].answered, load->stats[i].failed,
               load->stats[i].slowest_ms);
    if (load->watch != NULL)
        printf("],\n \"watched\": {\"events\": %" PRIu64 ", \"leases\": %" PRIu64
               ", \"renewals\": %" PRIu64 "},\n \"reasons\": {",
               cluster_watch_events(load->watch), cluster_watch_leases(load->watch),
               cluster_watch_renewals(load->watch));
    else
        printf("],\n \"reasons\": {");
    for (uint32_t i = 0; i < REASONS_MAX && load->reasons[i].count > 0; i++)
        printf("%s\"%s\": %" PRIu64, i == 0 ? "" : ", ", load->reasons[i].text,
               load->reasons[i].count);
    printf("},\n \"gaps\": [");
    for (uint32_t i = 0; i < load->gaps_count; i++)
        printf("%s{\"at_ms\": %" PRIu64 ", \"gap_ms\": %" PRIu64 "}", i == 0 ? "" : ", ",
               load->gaps[i].at_ms, load->gaps[i].gap_ms);
    printf("]}\n");
}

static int judge(struct load *load)
{
    bool is_complete = true;
    for (uint32_t i = 0; i < load->endpoints_count; i++)
        is_complete = read_back(load, i) && is_complete;
    enum verdict verdict = HISTORY_UNDECIDED;
    char why[600] = "";
    enum status st = history_check(&load->history, &verdict, why, sizeof(why));
    if (st == ST_OK && verdict == HISTORY_GOOD && load->watch != NULL)
        st = cluster_watch_judge(load->watch, load->revision_last, &verdict, why, sizeof(why));
    if (st != ST_OK) {
        verdict = HISTORY_UNDECIDED;
        snprintf(why, sizeof(why), "%s", status_str(st));
    }
    print_report(load, verdict, is_complete, why);
    return verdict == HISTORY_GOOD && is_complete ? 0 : 1;
}

static bool set_number(struct settings *s, const char *name, uint64_t value)
{
    const struct {
        const char *name;
        uint64_t *value, max;
    } numbers[] = {{"--clients", &s->clients, CLIENTS_MAX},
                   {"--seconds", &s->seconds, 1000000},
                   {"--keys", &s->keys, KEYS_MAX},
                   {"--value-bytes", &s->value_bytes, VALUE_BYTES_MAX},
                   {"--rate", &s->rate, 10000000},
                   {"--timeout-ms", &s->timeout_ms, 1000000},
                   {"--seed", &s->seed, UINT64_MAX},
                   {"--watchers", &s->watchers, 64},
                   {"--leases", &s->leases, 64}};
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        if (strcmp(name, numbers[i].name) == 0 && value <= numbers[i].max) {
            *numbers[i].value = value;
            return true;
        }
    }
    return false;
}

static bool parse(int argc, char **argv, struct settings *out)
{
    *out = (struct settings){
        .clients = 32, .keys = 200, .value_bytes = 100, .timeout_ms = 10000, .seed = 1};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--stay") == 0) {
            out->stay = true;
            continue;
        }
        if (i + 1 == argc)
            return false;
        if (strcmp(argv[i], "--endpoints") == 0)
            out->endpoints = argv[i + 1];
        else if (!set_number(out, argv[i], strtoull(argv[i + 1], NULL, 10)))
            return false;
        i++;
    }
    return out->endpoints != NULL && out->clients > 0 && out->keys >= 2;
}

/* Before the first write. */
static enum status open_watch(struct load *load)
{
    if (load->settings.watchers + load->settings.leases == 0)
        return ST_OK;
    struct cluster_watch_options options = {.endpoints = load->settings.endpoints,
                                            .history = &load->history,
                                            .seed = load->settings.seed,
                                            .keys_count = (uint32_t)load->settings.keys,
                                            .watchers_count = (uint32_t)load->settings.watchers,
                                            .leases_count = (uint32_t)load->settings.leases};
    return cluster_watch_new(&options, &load->watch);
}

int main(int argc, char **argv)
{
    struct load *load = calloc(1, sizeof(*load));
    if (load == NULL || !parse(argc, argv, &load->settings)) {
        fprintf(stderr, "usage: cluster_load --endpoints URL,URL,... [--clients N] [--seconds N] "
                        "[--keys N] [--value-bytes N]\n"
                        "                    [--rate N] [--stay] [--timeout-ms N] [--seed N] "
                        "[--watchers N] [--leases N]\n");
        free(load);
        return 2;
    }
    struct client_options options = {.endpoints = load->settings.endpoints};
    if (client_open(&options, &load->client) != ST_OK) {
        fprintf(stderr, "cannot open %s\n", load->settings.endpoints);
        free(load);
        return 2;
    }
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    load->endpoints_count = client_connections_count(load->client);
    history_init(&load->history, (uint32_t)load->settings.keys);
    load->history.has_others = load->settings.leases > 0;
    rng_seed(&load->rng, load->settings.seed);
    int code = 2;
    if (load->endpoints_count > ENDPOINTS_MAX || open_watch(load) != ST_OK)
        fprintf(stderr, "cannot watch %s\n", load->settings.endpoints);
    else if (run_clients(load) == ST_OK)
        code = judge(load);
    cluster_watch_free(load->watch);
    client_close(load->client);
    history_deinit(&load->history);
    free(load);
    return code;
}
