/* tests/e2e/crash_load.c - the load of the crash tests, and the check after a crash.
 *
 *   crash_load write --endpoint URL --state FILE [--writers N] [--seconds N] [--value-bytes N]
 *   crash_load check --endpoint URL --state FILE
 *
 * Each writer sends one request after the other: number n puts its key, every third n is a
 * transaction that puts two keys. `write` ends when the server is gone (or after the seconds) and
 * leaves in FILE what each writer had acknowledged and what it had sent. `check` asks the server
 * that came back: every acknowledged write is there, nothing that was never sent is, a transaction
 * is there whole or not at all, and revisions went on. */
#include "base/arena.h"
#include "proto/rpc.pb-c.h"
#include "tools/client/client.h"

#include <inttypes.h>
#include <stdint.h>

#define WRITERS_MAX 256U
#define VALUE_BYTES_MAX 65536U
#define REQUEST_BYTES_MAX (2 * VALUE_BYTES_MAX + 1024U)
#define ARENA_BYTES_MAX (64U << 20)
#define CALL_TIMEOUT_MS 20000U
#define PAIR_EVERY 3U

struct writer {
    struct load *load;
    uint32_t number;
    /* Sequence numbers; 0: none. What was sent and never answered may come true much later, when a
     * full disk has room again: sent is the highest ever. */
    uint64_t acked, sent;
    uint64_t at;      /* in flight */
    int64_t revision; /* of the newest acknowledged write */
};

struct load {
    struct client *client;
    struct writer writers[WRITERS_MAX];
    uint32_t writers_count;
    uint32_t running;
    uint64_t acked_count;
    uint32_t value_bytes;
    bool stop;
    char refusal[256]; /* what ended the first writer that ended */
};

struct settings {
    const char *command, *endpoint, *state;
    uint32_t writers, seconds, value_bytes;
};

/* ---- state file: "writer acked sent revision", a line each ---- */

static void read_state(struct load *load, const char *path)
{
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return;
    uint32_t number;
    uint64_t acked, sent;
    int64_t revision;
    while (fscanf(file, "%" SCNu32 " %" SCNu64 " %" SCNu64 " %" SCNd64, &number, &acked, &sent,
                  &revision) == 4) {
        if (number >= WRITERS_MAX)
            continue;
        load->writers[number].acked = acked;
        load->writers[number].sent = sent;
        load->writers[number].revision = revision;
        if (number + 1 > load->writers_count)
            load->writers_count = number + 1;
    }
    fclose(file);
}

static bool write_state(const struct load *load, const char *path)
{
    FILE *file = fopen(path, "w");
    if (file == NULL)
        return false;
    for (uint32_t i = 0; i < load->writers_count; i++) {
        const struct writer *w = &load->writers[i];
        fprintf(file, "%" PRIu32 " %" PRIu64 " %" PRIu64 " %" PRId64 "\n", i, w->acked, w->sent,
                w->revision);
    }
    return fclose(file) == 0;
}

/* ---- requests ---- */

static ProtobufCBinaryData bytes_of(char *text)
{
    return (ProtobufCBinaryData){strlen(text), (uint8_t *)text};
}

static void send_next(struct writer *w);

static int64_t revision_of(const struct writer *w, struct slice body)
{
    int64_t revision = 0;
    if (w->at % PAIR_EVERY == 0) {
        Etcdserverpb__TxnResponse *r =
            etcdserverpb__txn_response__unpack(NULL, body.len, body.data);
        revision = r != NULL && r->header != NULL ? r->header->revision : 0;
        if (r != NULL)
            etcdserverpb__txn_response__free_unpacked(r, NULL);
        return revision;
    }
    Etcdserverpb__PutResponse *r = etcdserverpb__put_response__unpack(NULL, body.len, body.data);
    revision = r != NULL && r->header != NULL ? r->header->revision : 0;
    if (r != NULL)
        etcdserverpb__put_response__free_unpacked(r, NULL);
    return revision;
}

static void on_reply(void *context, const struct client_reply *reply)
{
    struct writer *w = context;
    if (reply->code != CLIENT_OK) {
        /* Sent, and nobody knows whether it happened: it may be there or not. */
        struct load *load = w->load;
        if (load->refusal[0] == '\0')
            snprintf(load->refusal, sizeof(load->refusal), "%s: %.*s",
                     client_code_name(reply->code), (int)reply->text.len, reply->text.data);
        load->running--;
        return;
    }
    w->revision = revision_of(w, reply->body);
    w->acked = w->at;
    w->load->acked_count++;
    if (w->load->stop) {
        w->load->running--;
        return;
    }
    send_next(w);
}

static void start(struct writer *w, const char *method, uint8_t *body, size_t size)
{
    struct client_request request = {.method = method,
                                     .body = slice_make(body, size),
                                     .timeout_ms = CALL_TIMEOUT_MS,
                                     .connection = w->number};
    enum status st = client_start(w->load->client, &request, on_reply, w);
    if (st != ST_OK)
        w->load->running--;
}

static void send_next(struct writer *w)
{
    w->at++;
    w->sent = w->at > w->sent ? w->at : w->sent;
    char key[64], other[64];
    static char value[VALUE_BYTES_MAX + 1]; /* one thread sends */
    static uint8_t body[REQUEST_BYTES_MAX];
    memset(value, '.', w->load->value_bytes);
    value[w->load->value_bytes] = '\0';
    int length = snprintf(value, sizeof(value), "%" PRIu64, w->at);
    value[length] = '.';
    snprintf(key, sizeof(key), "crash/a/%03u", w->number);
    snprintf(other, sizeof(other), "crash/b/%03u", w->number);
    Etcdserverpb__PutRequest put = ETCDSERVERPB__PUT_REQUEST__INIT;
    put.key = bytes_of(key);
    put.value = bytes_of(value);
    if (w->at % PAIR_EVERY != 0) {
        start(w, "/etcdserverpb.KV/Put", body, etcdserverpb__put_request__pack(&put, body));
        return;
    }
    Etcdserverpb__PutRequest put2 = put;
    put2.key = bytes_of(other);
    Etcdserverpb__RequestOp op1 = ETCDSERVERPB__REQUEST_OP__INIT,
                            op2 = ETCDSERVERPB__REQUEST_OP__INIT;
    op1.request_case = op2.request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT;
    op1.request_put = &put;
    op2.request_put = &put2;
    Etcdserverpb__RequestOp *ops[] = {&op1, &op2};
    Etcdserverpb__TxnRequest txn = ETCDSERVERPB__TXN_REQUEST__INIT;
    txn.n_success = 2;
    txn.success = ops;
    start(w, "/etcdserverpb.KV/Txn", body, etcdserverpb__txn_request__pack(&txn, body));
}

static int run_writers(struct load *load, const struct settings *settings)
{
    load->writers_count = settings->writers;
    load->value_bytes = settings->value_bytes;
    for (uint32_t i = 0; i < load->writers_count; i++) {
        struct writer *w = &load->writers[i];
        *w = (struct writer){.load = load,
                             .number = i,
                             .acked = w->acked,
                             .sent = w->sent,
                             .at = w->acked,
                             .revision = w->revision};
        load->running++;
        send_next(w);
    }
    time_t end = time(NULL) + (time_t)settings->seconds;
    while (load->running > 0) {
        client_poll(load->client, /* timeout_ms= */ 100);
        load->stop = load->stop || (settings->seconds > 0 && time(NULL) >= end);
    }
    if (load->refusal[0] != '\0')
        printf("ended by %s\n", load->refusal);
    printf("acknowledged %" PRIu64 "\n", load->acked_count);
    return write_state(load, settings->state) ? 0 : 2;
}

/* ---- check ---- */

struct found {
    uint64_t a, b; /* sequence numbers of the two keys; 0: absent */
    int64_t a_revision, b_revision;
};

static bool read_all(struct load *load, struct found *found, int64_t *revision_out)
{
    struct arena arena;
    arena_init(&arena, ARENA_BYTES_MAX);
    uint8_t body[256];
    Etcdserverpb__RangeRequest range = ETCDSERVERPB__RANGE_REQUEST__INIT;
    char from[] = "crash/", to[] = "crash0";
    range.key = bytes_of(from);
    range.range_end = bytes_of(to);
    struct client_request request = {
        .method = "/etcdserverpb.KV/Range",
        .body = slice_make(body, etcdserverpb__range_request__pack(&range, body)),
        .timeout_ms = CALL_TIMEOUT_MS};
    struct client_reply reply;
    bool ok =
        client_call(load->client, &request, &arena, &reply) == ST_OK && reply.code == CLIENT_OK;
    if (!ok)
        printf("cannot read back: %s %.*s\n", client_code_name(reply.code), (int)reply.text.len,
               reply.text.data);
    Etcdserverpb__RangeResponse *r =
        ok ? etcdserverpb__range_response__unpack(NULL, reply.body.len, reply.body.data) : NULL;
    for (size_t i = 0; r != NULL && i < r->n_kvs; i++) {
        Mvccpb__KeyValue *kv = r->kvs[i];
        char text[32] = {0}, kind = 0;
        uint32_t number = WRITERS_MAX;
        memcpy(text, kv->key.data, kv->key.len < sizeof(text) ? kv->key.len : sizeof(text) - 1);
        if (sscanf(text, "crash/%c/%" SCNu32, &kind, &number) != 2 || number >= WRITERS_MAX ||
            kv->value.len == 0)
            continue;
        uint64_t sequence =
            strtoull((const char *)kv->value.data, NULL, 10); /* ends at the first dot */
        *(kind == 'a' ? &found[number].a : &found[number].b) = sequence;
        *(kind == 'a' ? &found[number].a_revision : &found[number].b_revision) = kv->mod_revision;
    }
    ok = r != NULL && r->header != NULL;
    *revision_out = ok ? r->header->revision : 0;
    if (r != NULL)
        etcdserverpb__range_response__free_unpacked(r, NULL);
    arena_deinit(&arena);
    return ok;
}

/* Newest pair at or below sequence. */
static uint64_t pair_below(uint64_t sequence)
{
    return sequence - sequence % PAIR_EVERY;
}

static uint32_t check_writer(const struct writer *w, const struct found *f, int64_t revision)
{
    uint32_t faults = 0;
    if (f->a < w->acked || f->a > w->sent) {
        printf("writer %u: key a holds %" PRIu64 ", acknowledged %" PRIu64 ", sent %" PRIu64 "\n",
               w->number, f->a, w->acked, w->sent);
        faults++;
    }
    if (f->b != pair_below(f->a)) {
        printf("writer %u: half a transaction: key a holds %" PRIu64 ", key b %" PRIu64 "\n",
               w->number, f->a, f->b);
        faults++;
    }
    if (f->a == f->b && f->a != 0 && f->a_revision != f->b_revision) {
        printf("writer %u: a transaction with two revisions, %" PRId64 " and %" PRId64 "\n",
               w->number, f->a_revision, f->b_revision);
        faults++;
    }
    if (f->a == w->acked && f->a != 0 && f->a_revision != w->revision) {
        printf("writer %u: %" PRIu64 " was acknowledged at revision %" PRId64 ", is at %" PRId64
               "\n",
               w->number, f->a, w->revision, f->a_revision);
        faults++;
    }
    if (revision < w->revision) {
        printf("writer %u: revision %" PRId64 " was seen, the store is at %" PRId64 "\n", w->number,
               w->revision, revision);
        faults++;
    }
    return faults;
}

static int check(struct load *load, const struct settings *settings)
{
    struct found *found = calloc(WRITERS_MAX, sizeof(*found));
    int64_t revision = 0;
    if (found == NULL || !read_all(load, found, &revision)) {
        free(found);
        return 2;
    }
    uint32_t faults = 0;
    for (uint32_t i = 0; i < load->writers_count; i++) {
        struct writer *w = &load->writers[i];
        w->number = i;
        faults += check_writer(w, &found[i], revision);
        w->acked = found[i].a; /* what the next round goes on from */
        w->revision = found[i].a_revision;
    }
    free(found);
    printf("checked %u writers at revision %" PRId64 ": %u faults\n", load->writers_count, revision,
           faults);
    if (!write_state(load, settings->state))
        return 2;
    return faults == 0 ? 0 : 1;
}

static bool parse(int argc, char **argv, struct settings *out)
{
    *out = (struct settings){.command = argc > 1 ? argv[1] : "", .writers = 32, .value_bytes = 200};
    for (int i = 2; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--endpoint") == 0)
            out->endpoint = argv[i + 1];
        else if (strcmp(argv[i], "--state") == 0)
            out->state = argv[i + 1];
        else if (strcmp(argv[i], "--writers") == 0)
            out->writers = (uint32_t)strtoul(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--seconds") == 0)
            out->seconds = (uint32_t)strtoul(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--value-bytes") == 0)
            out->value_bytes = (uint32_t)strtoul(argv[i + 1], NULL, 10);
        else
            return false;
    }
    return out->endpoint != NULL && out->state != NULL && out->writers > 0 &&
           out->writers <= WRITERS_MAX;
}

int main(int argc, char **argv)
{
    struct settings settings;
    if (!parse(argc, argv, &settings)) {
        fprintf(stderr, "usage: crash_load write|check --endpoint URL --state FILE [--writers N] "
                        "[--seconds N]\n");
        return 2;
    }
    struct load *load = calloc(1, sizeof(*load));
    struct client_options options = {.endpoints = settings.endpoint, .connections_per_endpoint = 4};
    if (load == NULL || client_open(&options, &load->client) != ST_OK) {
        fprintf(stderr, "cannot open %s\n", settings.endpoint);
        free(load);
        return 2;
    }
    read_state(load, settings.state);
    int result = strcmp(settings.command, "check") == 0 ? check(load, &settings)
                                                        : run_writers(load, &settings);
    client_close(load->client);
    free(load);
    return result;
}
