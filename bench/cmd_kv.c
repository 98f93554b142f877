/* cleat-bench kv: puts and ranges against any etcd endpoint, by clients that each wait for their
 * answer before they ask again. */
#include "base/minmax.h"
#include "base/rng.h"
#include "bench/commands.h"
#include "bench/flags.h"
#include "bench/hist.h"
#include "bench/meter.h"
#include "bench/report.h"
#include "proto/rpc.pb-c.h"
#include "tools/client/client.h"

#include <stdint.h>

#define KV_CONNECTIONS_DEFAULT_MAX 16U
#define KV_CLIENTS_MAX 100000U
#define KV_KEY_BYTES                                                             \
    45U /* the length of Kubernetes' keys: /registry/pods/namespace/pod-xxxxxxxx \
         */

static const char help_text[] =
    "usage: cleat-bench kv --endpoint URL [OPTIONS]\n\n"
    "Drives any etcd endpoint (cleat or etcd): each of --clients has one call in flight and\n"
    "starts the next when the answer is there (closed loop). A put writes --value-bytes to one\n"
    "of --keys keys of 45 bytes; a range reads one such key, a scan all that begin with\n"
    "--prefix. With --rate calls begin when they are due, as long as a client is free, and\n"
    "their time counts from then, so that a server that stands still shows in all of them.\n";
static const char figures_text[] =
    "\nWhat the figures mean\n"
    "  per_second             calls answered OK in a second, all clients together\n"
    "  p50_us, p99_us, p999_us, max_us, mean_us\n"
    "                         time of one call as the client sees it, in microseconds: half,\n"
    "                         99 %, 99.9 %, all of them were at least as fast\n"
    "  failed                 calls answered with an error; they are not in the times\n"
    "  cpu_us_per_op          CPU of the server (--pid) for one call, user and system; the\n"
    "                         kernel counts it in steps of 10 ms, so run for some seconds\n"
    "  client_cpu_us_per_op   CPU of this program; on the same cores it slows the server\n"
    "  process_bytes_per_op   what the server gave to storage (/proc/PID/io write_bytes)\n"
    "  device_writes, _flushes, _bytes_per_op\n"
    "                         what the block device did (--device), for everybody on it; a\n"
    "                         flush is a wait for stable storage and is what slow disks charge\n"
    "  syncs_per_op, sync_disk_bytes_per_op\n"
    "                         fsync, fdatasync and O_DSYNC writes a slow test disk counted\n"
    "  rss_anon_mb, rss_mb    memory of the server at the end: its own, and with mapped files\n"
    "One thread drives all clients; above about 40000 calls a second it is the limit.\n";

enum op_kind { OP_PUT, OP_RANGE, OP_SCAN, OPS_COUNT };
static const char *const op_names[] = {"put", "range", "scan"};
#define ROWS_OF_MIXED 2U

struct kv_options {
    const char *endpoint, *op, *json, *device, *syncs_file, *prefix;
    uint64_t keys, clients, connections, value_bytes, total, seconds, rate, seed, pid, timeout_ms;
    bool serializable;
};

struct load {
    const struct kv_options *options;
    struct client *client;
    struct rng rng;
    struct hist hists[OPS_COUNT];
    uint64_t failed[OPS_COUNT];
    uint64_t started, total;       /* calls */
    uint64_t began_ns, stop_at_ns; /* UINT64_MAX: by total */
    struct slot *idle;             /* wait for a call to be due */
    uint8_t *value, *message;
    size_t message_bytes;
    uint32_t error_code;
    char error_text[200]; /* the first one */
};

/* One client: its call in flight. */
struct slot {
    struct load *load;
    struct slot *next_idle;
    uint32_t connection;
    enum op_kind op;
    uint64_t started_ns;
};

static enum op_kind next_op(const struct load *load)
{
    if (strcmp(load->options->op, "mixed") == 0)
        return load->started % 2 == 0 ? OP_PUT : OP_RANGE;
    if (strcmp(load->options->op, "scan") == 0)
        return OP_SCAN;
    return strcmp(load->options->op, "put") == 0 ? OP_PUT : OP_RANGE;
}

/* A key is the prefix, zeros and the number, KV_KEY_BYTES long (longer only with a long prefix). */
static size_t make_key(struct load *load, char key[static 256])
{
    uint64_t number = load->options->seed == 0 ? load->started % load->options->keys
                                               : rng_below(&load->rng, load->options->keys);
    int prefix_len = (int)min_size(strlen(load->options->prefix), 200);
    int digits = (int)KV_KEY_BYTES - prefix_len;
    return (size_t)snprintf(key, 256, "%.*s%0*llu", prefix_len, load->options->prefix,
                            digits < 10 ? 10 : digits, (unsigned long long)number);
}

static size_t pack_put(struct load *load, char *key, size_t key_len)
{
    Etcdserverpb__PutRequest put = ETCDSERVERPB__PUT_REQUEST__INIT;
    put.key = (ProtobufCBinaryData){.data = (uint8_t *)key, .len = key_len};
    put.value = (ProtobufCBinaryData){.data = load->value, .len = load->options->value_bytes};
    /* Every value differs from the one before, so that nothing can be saved on equal ones. */
    memcpy(load->value, &load->started, min_size(sizeof(load->started), put.value.len));
    return etcdserverpb__put_request__pack(&put, load->message);
}

static size_t pack_range(struct load *load, char *key, size_t key_len)
{
    Etcdserverpb__RangeRequest range = ETCDSERVERPB__RANGE_REQUEST__INIT;
    range.key = (ProtobufCBinaryData){.data = (uint8_t *)key, .len = key_len};
    range.serializable = load->options->serializable;
    return etcdserverpb__range_request__pack(&range, load->message);
}

/* Everything that begins with the prefix: up to the prefix with its last byte raised. */
static size_t pack_scan(struct load *load)
{
    char key[201], end[201];
    size_t len = (size_t)snprintf(key, sizeof(key), "%.200s", load->options->prefix);
    memcpy(end, key, len);
    end[len - 1]++;
    Etcdserverpb__RangeRequest range = ETCDSERVERPB__RANGE_REQUEST__INIT;
    range.key = (ProtobufCBinaryData){.data = (uint8_t *)key, .len = len};
    range.range_end = (ProtobufCBinaryData){.data = (uint8_t *)end, .len = len};
    range.serializable = load->options->serializable;
    return etcdserverpb__range_request__pack(&range, load->message);
}

static size_t pack_next(struct load *load, enum op_kind op)
{
    char key[256];
    size_t key_len = make_key(load, key);
    if (op == OP_SCAN)
        return pack_scan(load);
    return op == OP_PUT ? pack_put(load, key, key_len) : pack_range(load, key, key_len);
}

static void on_done(void *context, const struct client_reply *reply);

/* Notes from when the time of the next call counts; false: there is none for this client, or not
 * yet. */
static bool may_start(struct slot *slot)
{
    struct load *load = slot->load;
    slot->started_ns = bench_now_ns();
    if (load->started >= load->total || slot->started_ns >= load->stop_at_ns)
        return false;
    if (load->options->rate == 0)
        return true;
    uint64_t due_ns = load->began_ns + load->started * 1000000000U / load->options->rate;
    if (slot->started_ns < due_ns) {
        slot->next_idle = load->idle;
        load->idle = slot;
        return false;
    }
    slot->started_ns = due_ns;
    return true;
}

static void start_next(struct slot *slot)
{
    struct load *load = slot->load;
    if (!may_start(slot))
        return;
    slot->op = next_op(load);
    size_t len = pack_next(load, slot->op);
    struct client_request request = {
        .method = slot->op == OP_PUT ? "/etcdserverpb.KV/Put" : "/etcdserverpb.KV/Range",
        .body = slice_make(load->message, len),
        .timeout_ms = load->options->timeout_ms,
        .connection = slot->connection,
    };
    load->started++;
    if (client_start(load->client, &request, on_done, slot) != ST_OK)
        load->failed[slot->op]++;
}

static void on_done(void *context, const struct client_reply *reply)
{
    struct slot *slot = context;
    struct load *load = slot->load;
    if (reply->code == CLIENT_OK) {
        hist_add(&load->hists[slot->op], bench_now_ns() - slot->started_ns);
    } else {
        load->failed[slot->op]++;
        if (load->error_text[0] == '\0') {
            load->error_code = reply->code;
            snprintf(load->error_text, sizeof(load->error_text), "%.*s", (int)reply->text.len,
                     (const char *)reply->text.data);
        }
    }
    start_next(slot);
}

/* One untimed read on each connection: opens it, and shows that the endpoint answers. */
static enum status warm_up(struct load *load)
{
    struct arena arena;
    arena_init(&arena, 16U << 20);
    size_t len = pack_range(load, (char[]){"x"}, 1);
    enum status st = ST_OK;
    for (uint32_t i = 0; st == ST_OK && i < client_connections_count(load->client); i++) {
        struct client_request request = {.method = "/etcdserverpb.KV/Range",
                                         .body = slice_make(load->message, len),
                                         .timeout_ms = 10000,
                                         .connection = i};
        struct client_reply reply;
        st = client_call(load->client, &request, &arena, &reply);
        if (st == ST_OK && reply.code != CLIENT_OK) {
            fprintf(stderr, "%s does not answer: %s (%.*s)\n", load->options->endpoint,
                    client_code_name(reply.code), (int)reply.text.len,
                    (const char *)reply.text.data);
            st = ST_IO;
        }
        arena_reset(&arena);
    }
    arena_deinit(&arena);
    return st;
}

static enum status load_init(struct load *load, const struct kv_options *options)
{
    *load = (struct load){.options = options, .stop_at_ns = UINT64_MAX, .total = options->total};
    rng_seed(&load->rng, options->seed);
    if (options->seconds > 0)
        load->total = options->total > 0 ? options->total : UINT64_MAX;
    else if (options->total == 0)
        load->total = options->keys;
    load->message_bytes = options->value_bytes + 1024;
    load->message = malloc(load->message_bytes);
    load->value = malloc(options->value_bytes + 1);
    if (load->message == NULL || load->value == NULL)
        return ST_NO_MEMORY;
    for (uint64_t i = 0; i < options->value_bytes; i++)
        load->value[i] = (uint8_t)('!' + rng_below(&load->rng, 94));
    struct client_options client = {.endpoints = options->endpoint,
                                    .connections_per_endpoint = (uint32_t)options->connections,
                                    .wait_for_ready = true};
    enum status st = client_open(&client, &load->client);
    if (st != ST_OK)
        fprintf(stderr, "cannot use endpoint '%s': %s\n", options->endpoint, status_str(st));
    return st;
}

static void load_deinit(struct load *load)
{
    client_close(load->client);
    free(load->message);
    free(load->value);
}

static void start_idle(struct load *load)
{
    struct slot *slot = load->idle;
    load->idle = NULL;
    while (slot != NULL) {
        struct slot *next = slot->next_idle;
        start_next(slot);
        slot = next;
    }
}

static void run_load(struct load *load, struct slot *slots)
{
    load->began_ns = bench_now_ns();
    if (load->options->seconds > 0)
        load->stop_at_ns = load->began_ns + load->options->seconds * 1000000000ULL;
    for (uint32_t i = 0; i < load->options->clients; i++) {
        slots[i] = (struct slot){.load = load, .connection = i};
        start_next(&slots[i]);
    }
    while (client_in_flight(load->client) > 0 || load->idle != NULL) {
        client_wait(load->client, load->options->rate == 0 ? 1000 : 1);
        start_idle(load);
    }
}

static struct row *op_row(struct report *report, const struct load *load, enum op_kind op,
                          uint64_t elapsed_ns)
{
    char name[96];
    snprintf(name, sizeof(name), "%s%s %llu clients %llu B %llu keys", op_names[op],
             op != OP_PUT && load->options->serializable ? " serializable" : "",
             (unsigned long long)load->options->clients,
             (unsigned long long)load->options->value_bytes,
             (unsigned long long)load->options->keys);
    struct row *row = report_row(report, name);
    row->count = load->hists[op].count;
    row->failed = load->failed[op];
    row_latency(row, &load->hists[op], elapsed_ns);
    return row;
}

/* Costs belong to all calls together, so a mixed run gets a row of its own for them. */
static void make_report(struct report *report, const struct load *load, uint64_t elapsed_ns,
                        uint64_t client_cpu_ns, const struct meter *spent)
{
    struct row *row = NULL;
    uint64_t count = 0;
    for (enum op_kind op = 0; op < OPS_COUNT; op++) {
        if (load->hists[op].count + load->failed[op] == 0)
            continue;
        row = op_row(report, load, op, elapsed_ns);
        count += row->count;
    }
    if (report->rows_count == ROWS_OF_MIXED) {
        row = report_row(report, "mixed, all calls");
        row->count = count;
    }
    if (row == NULL)
        return;
    row_costs(row, spent);
    row_figure(row, "client_cpu_us_per_op",
               (double)client_cpu_ns / 1e3 / (double)max_u64(count, 1));
    row_figure(row, "elapsed_s", (double)elapsed_ns / 1e9);
}

static int measure(const struct kv_options *options)
{
    static struct load load;
    static struct report report;
    struct meter_source source = {
        .pid = options->pid, .device = options->device, .syncs_file = options->syncs_file};
    struct meter before, after;
    struct slot *slots = calloc(options->clients, sizeof(*slots));
    bool ok = slots != NULL && load_init(&load, options) == ST_OK && warm_up(&load) == ST_OK &&
              meter_read(&source, &before) == ST_OK;
    if (ok) {
        uint64_t cpu_ns = bench_cpu_ns(), start_ns = bench_now_ns();
        run_load(&load, slots);
        uint64_t elapsed_ns = bench_now_ns() - start_ns;
        cpu_ns = bench_cpu_ns() - cpu_ns;
        ok = meter_read(&source, &after) == ST_OK;
        struct meter spent = meter_since(&before, &after);
        snprintf(report.command, sizeof(report.command), "kv");
        snprintf(report.note, sizeof(report.note), "%s", options->endpoint);
        make_report(&report, &load, elapsed_ns, cpu_ns, &spent);
        ok = report_give(&report, options->json) == ST_OK && ok;
        if (load.error_text[0] != '\0')
            fprintf(stderr, "first error: %s (%s)\n", client_code_name(load.error_code),
                    load.error_text);
        ok = ok && load.failed[OP_PUT] + load.failed[OP_RANGE] + load.failed[OP_SCAN] == 0;
    }
    load_deinit(&load);
    free(slots);
    return ok ? 0 : 1;
}

/* Says what is wrong with the options; NULL when nothing is. */
static const char *refusal(const struct kv_options *options)
{
    if (options->endpoint == NULL)
        return "--endpoint is missing";
    if (strcmp(options->op, "put") != 0 && strcmp(options->op, "range") != 0 &&
        strcmp(options->op, "mixed") != 0 && strcmp(options->op, "scan") != 0)
        return "--op is put, range, scan or mixed";
    if (options->prefix[0] == '\0')
        return "--prefix is empty";
    if (options->keys == 0 || options->clients == 0 || options->clients > KV_CLIENTS_MAX)
        return "--keys and --clients must be at least 1, --clients at most 100000";
    if (options->connections > CLIENT_CONNECTIONS_MAX)
        return "--connections is at most 1024";
    if (options->value_bytes > BENCH_VALUE_BYTES_MAX)
        return "--value-bytes is at most 64 MiB";
    if (options->rate > 1000000U)
        return "--rate is at most 1000000";
    return NULL;
}

int command_kv(int argc, char **argv)
{
    struct kv_options options = {.keys = 10000,
                                 .clients = 1,
                                 .value_bytes = 256,
                                 .op = "put",
                                 .prefix = "/bench/",
                                 .timeout_ms = 30000};
    const struct flag flags[] = {
        {"endpoint", FLAG_TEXT, &options.endpoint, "URL", "host:port or http://host:port"},
        {"op", FLAG_TEXT, &options.op, "OP",
         "put, range, scan, or mixed (puts and ranges, half of each)"},
        {"keys", FLAG_NUMBER, &options.keys, "N", "how many different keys"},
        {"clients", FLAG_NUMBER, &options.clients, "N", "calls in flight"},
        {"connections", FLAG_NUMBER, &options.connections, "N",
         "connections they share; 0: one each, at most 16"},
        {"value-bytes", FLAG_NUMBER, &options.value_bytes, "N", "size of a value"},
        {"total", FLAG_NUMBER, &options.total, "N", "stop after N calls; 0: after --keys"},
        {"seconds", FLAG_NUMBER, &options.seconds, "N", "stop after N seconds"},
        {"rate", FLAG_NUMBER, &options.rate, "N", "calls a second; 0: as fast as they go"},
        {"seed", FLAG_NUMBER, &options.seed, "N", "0: keys in order; else random by this seed"},
        {"serializable", FLAG_SWITCH, &options.serializable, NULL, "ranges from local state"},
        {"prefix", FLAG_TEXT, &options.prefix, "TEXT", "what keys begin with"},
        {"timeout-ms", FLAG_NUMBER, &options.timeout_ms, "N", "of one call"},
        {"pid", FLAG_NUMBER, &options.pid, "PID", "the server, for CPU, bytes and memory"},
        {"device", FLAG_TEXT, &options.device, "DEV", "its disk: vda or /sys/block/vda"},
        {"syncs-file", FLAG_TEXT, &options.syncs_file, "FILE", "control file of a slow disk"},
        {"json", FLAG_TEXT, &options.json, "FILE", "the figures, one JSON object a line"},
    };
    const struct flags_command command = {help_text, figures_text, flags,
                                          sizeof(flags) / sizeof(flags[0])};
    int ended;
    if (!flags_begin(&command, argc, argv, &ended))
        return ended;
    const char *why = refusal(&options);
    if (why != NULL) {
        fprintf(stderr, "cleat-bench kv: %s\n", why);
        return 2;
    }
    if (options.connections == 0)
        options.connections = min_u64(options.clients, KV_CONNECTIONS_DEFAULT_MAX);
    return measure(&options);
}
