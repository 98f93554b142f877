/* cleat-bench watch: what watches cost any etcd endpoint: idle ones their memory, an event for many
 * its time and CPU, and puts under watch their rate. */
#include "base/minmax.h"
#include "bench/commands.h"
#include "bench/flags.h"
#include "bench/hist.h"
#include "bench/meter.h"
#include "bench/report.h"
#include "proto/rpc.pb-c.h"
#include "tools/client/client.h"

#include <stdint.h>
#include <stdlib.h>

#define STREAMS_MAX 1000000U
#define SETTLE_NS 1000000000ULL /* for the server to come to rest before its memory is read */
#define GIVE_UP_NS 60000000000ULL

static const char help_text[] =
    "usage: cleat-bench watch --endpoint URL [OPTIONS]\n\n"
    "Opens --streams streams with a watcher each, over --connections connections, of any etcd\n"
    "endpoint (cleat or etcd).\n"
    "  --op idle    every watcher has a key of its own, and nothing happens: their memory\n"
    "  --op fanout  all watch one key; --events puts, each when all have seen the one before,\n"
    "               at most --rate a second\n"
    "  --op put     all watch one prefix; --rate puts a second for --seconds, in time or not\n";
static const char figures_text[] =
    "\nWhat the figures mean\n"
    "  rss_kib_per_stream     how much the server's (--pid) resident memory grew by a stream,\n"
    "                         its share of a connection included\n"
    "  open_us_per_stream     from the first stream to the last answer, for each\n"
    "  per_second             events seen (fanout), puts answered (put) in a second\n"
    "  p50_us, p99_us, p999_us, max_us, mean_us\n"
    "                         fanout: from a put until the last watcher has its event;\n"
    "                         put: of one put as its client sees it\n"
    "  event_p50_us, event_p99_us, event_max_us\n"
    "                         put: from a put until a watcher has its event, of all events\n"
    "  events_per_put         that watchers had seen when the puts were over, by puts; with\n"
    "                         all of them it is the number of streams\n"
    "  behind_ms              from the last answer of a put to the last event\n"
    "  messages_per_event     below 1 where a slow watcher got several events at a time\n"
    "  cpu_us_per_op          CPU of the server for one event seen, user and system\n"
    "  cpu_percent            CPU of the server in the time of all this; 100 is one processor\n"
    "  client_cpu_us_per_op   CPU of this program; on the same cores it slows the server\n"
    "One thread drives all clients; above about 100000 events a second it is the limit.\n";

struct watch_options {
    const char *endpoint, *op, *json;
    uint64_t streams, connections, events, rate, seconds, value_bytes, pid;
    bool prev_kv;
};

struct watch_load {
    const struct watch_options *options;
    struct client *client;
    struct client_stream **streams;
    uint64_t created, events, messages, ended, failed;
    uint64_t puts, puts_answered;
    uint64_t last_event_ns;
    struct hist hist, event_hist;
    uint8_t *value, *message;
};

/* ---- streams ---- */

static bool is_put(const struct watch_load *load)
{
    return strcmp(load->options->op, "put") == 0;
}

/* A put's value begins with the time when it was begun. */
static void time_events(struct watch_load *load, const Etcdserverpb__WatchResponse *response)
{
    uint64_t began_ns;
    for (size_t i = 0; i < response->n_events; i++) {
        const Mvccpb__KeyValue *kv = response->events[i]->kv;
        if (kv == NULL || kv->value.len < sizeof(began_ns))
            continue;
        memcpy(&began_ns, kv->value.data, sizeof(began_ns));
        hist_add(&load->event_hist, load->last_event_ns - began_ns);
    }
}

static void on_message(void *context, struct slice body)
{
    struct watch_load *load = context;
    Etcdserverpb__WatchResponse *response =
        etcdserverpb__watch_response__unpack(NULL, body.len, body.data);
    if (response == NULL) {
        load->failed++;
        return;
    }
    load->created += response->created != 0;
    load->failed += response->canceled != 0;
    load->events += response->n_events;
    load->messages += response->n_events > 0;
    if (response->n_events > 0)
        load->last_event_ns = bench_now_ns();
    if (is_put(load))
        time_events(load, response);
    etcdserverpb__watch_response__free_unpacked(response, NULL);
}

static void on_end(void *context, const struct client_reply *reply)
{
    struct watch_load *load = context;
    if (load->ended++ == 0 && reply->code != CLIENT_CANCELED)
        fprintf(stderr, "a stream ended: %s (%.*s)\n", client_code_name(reply->code),
                (int)reply->text.len, (const char *)reply->text.data);
}

static size_t pack_create(const struct watch_load *load, uint64_t number, uint8_t out[512])
{
    char key[64];
    Etcdserverpb__WatchRequest request = ETCDSERVERPB__WATCH_REQUEST__INIT;
    Etcdserverpb__WatchCreateRequest create = ETCDSERVERPB__WATCH_CREATE_REQUEST__INIT;
    bool idle = strcmp(load->options->op, "idle") == 0;
    bool prefix = is_put(load);
    int len = idle ? snprintf(key, sizeof(key), "/bench/idle/%llu", (unsigned long long)number)
                   : snprintf(key, sizeof(key), "/bench/watch");
    create.key = (ProtobufCBinaryData){(size_t)len, (uint8_t *)key};
    if (prefix)
        create.range_end = (ProtobufCBinaryData){12, (uint8_t *)"/bench/watci"};
    create.prev_kv = load->options->prev_kv;
    request.request_union_case = ETCDSERVERPB__WATCH_REQUEST__REQUEST_UNION_CREATE_REQUEST;
    request.create_request = &create;
    return etcdserverpb__watch_request__pack(&request, out);
}

static enum status open_streams(struct watch_load *load)
{
    const struct client_stream_events events = {
        .message = on_message, .ended = on_end, .context = load};
    for (uint64_t i = 0; i < load->options->streams; i++) {
        const struct client_request request = {.method = "/etcdserverpb.Watch/Watch",
                                               .connection = (uint32_t)i};
        uint8_t body[512];
        enum status st = client_stream_open(load->client, &request, &events, &load->streams[i]);
        if (st == ST_OK)
            st = client_stream_send(load->streams[i], slice_make(body, pack_create(load, i, body)));
        if (st != ST_OK)
            return st;
        client_poll(load->client, 0);
    }
    uint64_t until_ns = bench_now_ns() + GIVE_UP_NS;
    while (load->created < load->options->streams && load->ended == 0 && load->failed == 0 &&
           bench_now_ns() < until_ns)
        client_wait(load->client, 100);
    return load->created == load->options->streams ? ST_OK : ST_IO;
}

/* ---- puts ---- */

struct put {
    struct watch_load *load;
    uint64_t began_ns;
};

static void on_put(void *context, const struct client_reply *reply)
{
    struct put *put = context;
    put->load->failed += reply->code != CLIENT_OK;
    put->load->puts_answered++;
    hist_add(&put->load->hist, bench_now_ns() - put->began_ns);
    free(put);
}

static void start_put(struct watch_load *load)
{
    struct put *put = malloc(sizeof(*put));
    if (put == NULL)
        return;
    Etcdserverpb__PutRequest request = ETCDSERVERPB__PUT_REQUEST__INIT;
    char key[64];
    int len = is_put(load) ? snprintf(key, sizeof(key), "/bench/watch/%05llu",
                                      (unsigned long long)(load->puts % 10000))
                           : snprintf(key, sizeof(key), "/bench/watch");
    *put = (struct put){load, bench_now_ns()};
    memcpy(load->value, &put->began_ns,
           min_size(sizeof(put->began_ns), load->options->value_bytes));
    request.key = (ProtobufCBinaryData){(size_t)len, (uint8_t *)key};
    request.value = (ProtobufCBinaryData){load->options->value_bytes, load->value};
    const struct client_request call = {
        .method = "/etcdserverpb.KV/Put",
        .body = slice_make(load->message, etcdserverpb__put_request__pack(&request, load->message)),
        .timeout_ms = 30000,
        .connection = (uint32_t)load->puts};
    load->puts++;
    if (client_start(load->client, &call, on_put, put) != ST_OK)
        load->failed++;
}

static bool wait_for_events(struct watch_load *load, uint64_t wanted)
{
    uint64_t until_ns = bench_now_ns() + GIVE_UP_NS;
    while (load->events < wanted && load->ended == 0 && bench_now_ns() < until_ns)
        client_wait(load->client, 1000);
    return load->events >= wanted;
}

/* The histogram is of the events here, not of the puts. */
static bool fan_out(struct watch_load *load)
{
    static struct hist times;
    times = (struct hist){0};
    uint64_t first_ns = bench_now_ns();
    for (uint64_t i = 0; i < load->options->events; i++) {
        while (bench_now_ns() - first_ns < i * 1000000000U / load->options->rate)
            client_poll(load->client, 1);
        uint64_t began_ns = bench_now_ns();
        start_put(load);
        if (!wait_for_events(load, (i + 1) * load->options->streams))
            return false;
        hist_add(&times, load->last_event_ns - began_ns);
        while (load->puts_answered < load->puts)
            client_poll(load->client, 1000);
    }
    load->hist = times;
    return true;
}

/* Puts begin when they are due, whether those before are answered or not. */
static void put_at_rate(struct watch_load *load)
{
    uint64_t began_ns = bench_now_ns();
    uint64_t total = load->options->rate * load->options->seconds;
    while (load->puts < total) {
        uint64_t due = (bench_now_ns() - began_ns) * load->options->rate / 1000000000U;
        while (load->puts < min_u64(due, total))
            start_put(load);
        client_poll(load->client, 1);
    }
    while (load->puts_answered < load->puts)
        client_poll(load->client, 1000);
}

/* ---- rows ---- */

static void row_cpu(struct row *row, const struct meter *spent, uint64_t client_cpu_ns,
                    uint64_t events, uint64_t elapsed_ns)
{
    double count = (double)max_u64(events, 1);
    if (spent->cpu_ns != METER_NONE) {
        row_figure(row, "cpu_us_per_op", (double)spent->cpu_ns / 1e3 / count);
        row_figure(row, "cpu_percent", (double)spent->cpu_ns * 100 / (double)elapsed_ns);
    }
    row_figure(row, "client_cpu_us_per_op", (double)client_cpu_ns / 1e3 / count);
}

static bool run_idle(struct watch_load *load, const struct meter_source *source,
                     struct report *report)
{
    struct meter before, after;
    const struct watch_options *options = load->options;
    if (meter_read(source, &before) != ST_OK)
        return false;
    uint64_t began_ns = bench_now_ns();
    if (open_streams(load) != ST_OK)
        return false;
    uint64_t opened_ns = bench_now_ns() - began_ns;
    while (bench_now_ns() - began_ns < opened_ns + SETTLE_NS)
        client_wait(load->client, 100);
    if (meter_read(source, &after) != ST_OK)
        return false;
    char name[96];
    snprintf(name, sizeof(name), "idle %llu streams %llu connections",
             (unsigned long long)options->streams, (unsigned long long)options->connections);
    struct row *row = report_row(report, name);
    row->count = options->streams;
    row_figure(row, "open_us_per_stream", (double)opened_ns / 1e3 / (double)options->streams);
    if (after.rss_bytes != METER_NONE)
        row_figure(row, "rss_kib_per_stream",
                   ((double)after.rss_bytes - (double)before.rss_bytes) / 1024 /
                       (double)options->streams);
    return true;
}

static bool run_busy(struct watch_load *load, const struct meter_source *source,
                     struct report *report)
{
    struct meter before, after;
    const struct watch_options *options = load->options;
    bool ok = true;
    if (open_streams(load) != ST_OK || meter_read(source, &before) != ST_OK)
        return false;
    uint64_t cpu_ns = bench_cpu_ns(), began_ns = bench_now_ns();
    if (is_put(load))
        put_at_rate(load);
    else
        ok = fan_out(load);
    uint64_t elapsed_ns = bench_now_ns() - began_ns, seen = load->events;
    ok = ok && wait_for_events(load, load->puts * options->streams);
    uint64_t behind_ns = bench_now_ns() - began_ns - elapsed_ns;
    cpu_ns = bench_cpu_ns() - cpu_ns;
    if (!ok || meter_read(source, &after) != ST_OK)
        return false;
    struct meter spent = meter_since(&before, &after);
    char name[96];
    snprintf(name, sizeof(name), "%s %llu streams %llu connections %llu B%s", options->op,
             (unsigned long long)options->streams, (unsigned long long)options->connections,
             (unsigned long long)options->value_bytes, options->prev_kv ? " prev" : "");
    struct row *row = report_row(report, name);
    row->count = is_put(load) ? load->puts : load->events;
    row->failed = load->failed;
    row_latency(row, &load->hist, elapsed_ns);
    if (load->event_hist.count > 0) {
        row_figure(row, "event_p50_us", (double)hist_permille(&load->event_hist, 500) / 1e3);
        row_figure(row, "event_p99_us", (double)hist_permille(&load->event_hist, 990) / 1e3);
        row_figure(row, "event_max_us", (double)load->event_hist.max_ns / 1e3);
    }
    row_figure(row, "events_per_put", (double)seen / (double)max_u64(load->puts, 1));
    row_figure(row, "behind_ms", (double)behind_ns / 1e6);
    row_figure(row, "messages_per_event",
               (double)load->messages / (double)max_u64(load->events, 1));
    row_cpu(row, &spent, cpu_ns, load->events, elapsed_ns + behind_ns);
    return true;
}

static int measure(const struct watch_options *options)
{
    static struct watch_load load;
    static struct report report;
    load = (struct watch_load){.options = options,
                               .streams = calloc(options->streams, sizeof(*load.streams)),
                               .value = calloc(1, options->value_bytes + 1),
                               .message = malloc(options->value_bytes + 1024)};
    const struct meter_source source = {.pid = options->pid};
    const struct client_options client = {.endpoints = options->endpoint,
                                          .connections_per_endpoint =
                                              (uint32_t)options->connections,
                                          .wait_for_ready = true};
    bool ok = load.streams != NULL && load.value != NULL && load.message != NULL;
    if (ok && client_open(&client, &load.client) != ST_OK) {
        fprintf(stderr, "cannot use endpoint '%s'\n", options->endpoint);
        ok = false;
    }
    if (ok)
        ok = strcmp(options->op, "idle") == 0 ? run_idle(&load, &source, &report)
                                              : run_busy(&load, &source, &report);
    if (ok) {
        snprintf(report.command, sizeof(report.command), "watch");
        snprintf(report.note, sizeof(report.note), "%s", options->endpoint);
        ok = report_give(&report, options->json) == ST_OK && load.failed == 0;
    } else {
        fprintf(stderr, "%s does not do it: %llu watchers there, %llu events seen, %llu failures\n",
                options->endpoint, (unsigned long long)load.created,
                (unsigned long long)load.events, (unsigned long long)load.failed);
    }
    client_close(load.client);
    free(load.streams);
    free(load.value);
    free(load.message);
    return ok ? 0 : 1;
}

static const char *refusal(const struct watch_options *options)
{
    if (options->endpoint == NULL)
        return "--endpoint is missing";
    if (strcmp(options->op, "idle") != 0 && strcmp(options->op, "fanout") != 0 &&
        strcmp(options->op, "put") != 0)
        return "--op is idle, fanout or put";
    if (options->streams == 0 || options->streams > STREAMS_MAX)
        return "--streams is 1 to 1000000";
    if (options->connections == 0 || options->connections > CLIENT_CONNECTIONS_MAX)
        return "--connections is 1 to 1024";
    if (options->events == 0 || options->rate == 0 || options->seconds == 0)
        return "--events, --rate and --seconds must be at least 1";
    if (options->value_bytes > BENCH_VALUE_BYTES_MAX)
        return "--value-bytes is at most 64 MiB";
    return NULL;
}

int command_watch(int argc, char **argv)
{
    struct watch_options options = {.op = "fanout",
                                    .streams = 1000,
                                    .connections = 10,
                                    .events = 20,
                                    .rate = 5000,
                                    .seconds = 5,
                                    .value_bytes = 256};
    const struct flag flags[] = {
        {"endpoint", FLAG_TEXT, &options.endpoint, "URL", "host:port or http://host:port"},
        {"op", FLAG_TEXT, &options.op, "OP", "idle, fanout or put"},
        {"streams", FLAG_NUMBER, &options.streams, "N", "with a watcher each"},
        {"connections", FLAG_NUMBER, &options.connections, "N", "that they share"},
        {"events", FLAG_NUMBER, &options.events, "N", "puts of fanout"},
        {"rate", FLAG_NUMBER, &options.rate, "N",
         "puts a second of put, at most so many of fanout"},
        {"seconds", FLAG_NUMBER, &options.seconds, "N", "of put"},
        {"value-bytes", FLAG_NUMBER, &options.value_bytes, "N", "size of a value"},
        {"prev-kv", FLAG_SWITCH, &options.prev_kv, NULL, "events with the value before"},
        {"pid", FLAG_NUMBER, &options.pid, "PID", "the server, for CPU and memory"},
        {"json", FLAG_TEXT, &options.json, "FILE", "the figures, one JSON object a line"},
    };
    const struct flags_command command = {help_text, figures_text, flags,
                                          sizeof(flags) / sizeof(flags[0])};
    int ended;
    if (!flags_begin(&command, argc, argv, &ended))
        return ended;
    const char *why = refusal(&options);
    if (why != NULL) {
        fprintf(stderr, "cleat-bench watch: %s\n", why);
        return 2;
    }
    return measure(&options);
}
