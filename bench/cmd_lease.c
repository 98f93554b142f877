/* cleat-bench lease: what leases cost any etcd endpoint that are kept alive: renewals over streams,
 * their time and the server's CPU, and whether any lease ended meanwhile. */
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

#define LEASES_MAX 10000000U
#define STREAMS_MAX 100000U
#define CALLS_MAX 256U /* grants or revocations at a time */
#define CALL_TIMEOUT_MS 30000U
#define GIVE_UP_NS 10000000000ULL

static const char help_text[] =
    "usage: cleat-bench lease --endpoint URL [OPTIONS]\n\n"
    "Grants --leases leases of any etcd endpoint (cleat or etcd), keeps them alive for --seconds\n"
    "over --connections connections with --streams streams each, and revokes them. Every lease\n"
    "belongs to one stream and is renewed in its turn: by default as fast as answers come, one\n"
    "renewal of a stream at a time; with --rate as many in a second, in time or not.\n"
    "With a --ttl shorter than --seconds only renewals keep them.\n";
static const char figures_text[] =
    "\nWhat the figures mean\n"
    "  per_second             grants, renewals, revocations answered in a second\n"
    "  p50_us, p99_us, p999_us, max_us, mean_us\n"
    "                         as their client sees them; of renewals with --rate: from when\n"
    "                         they were due\n"
    "  expired                renewals of a lease that had ended; any makes the exit code 1\n"
    "  cpu_us_per_op          CPU of the server (--pid), user and system; a hundredth of it is\n"
    "                         the seconds of 10,000\n"
    "  process_bytes_per_op   that the server gave to storage\n"
    "  rss_mb, rss_anon_mb    the server's resident memory afterwards\n"
    "  client_cpu_us_per_op   CPU of this program; on the same cores it slows the server\n"
    "One thread drives all clients.\n";

struct lease_options {
    const char *endpoint, *json;
    uint64_t leases, ttl_s, connections, streams, rate, seconds, pid;
};

struct lease_load;

/* The leases of a stream are every streams_count-th one from its own number on. */
struct lease_stream {
    struct lease_load *load;
    struct client_stream *stream;
    uint64_t next;
};

struct lease_load {
    const struct lease_options *options;
    struct client *client;
    struct lease_stream *streams;
    uint64_t streams_count;
    int64_t first_id;
    uint64_t *began_ns; /* of each lease: when it was asked for, 0 while nothing is under way */
    uint64_t begun, answered, expired, failed, ended;
    bool stopping;
    struct hist hist;
};

/* ---- grants and revocations ---- */

struct lease_call {
    struct lease_load *load;
    uint64_t began_ns;
};

static void on_reply(void *context, const struct client_reply *reply)
{
    struct lease_call *call = context;
    struct lease_load *load = call->load;
    load->answered++;
    /* One may end before its turn to be revoked has come. */
    if (reply->code != CLIENT_OK && reply->code != CLIENT_NOT_FOUND && load->failed++ == 0)
        fprintf(stderr, "first error: %s (%.*s)\n", client_code_name(reply->code),
                (int)reply->text.len, (const char *)reply->text.data);
    hist_add(&load->hist, bench_now_ns() - call->began_ns);
    free(call);
}

static size_t pack_call(const struct lease_load *load, bool grant, uint64_t lease, uint8_t out[32])
{
    int64_t id = load->first_id + (int64_t)lease;
    Etcdserverpb__LeaseGrantRequest granted = ETCDSERVERPB__LEASE_GRANT_REQUEST__INIT;
    Etcdserverpb__LeaseRevokeRequest revoked = ETCDSERVERPB__LEASE_REVOKE_REQUEST__INIT;
    granted.ttl = (int64_t)load->options->ttl_s;
    granted.id = revoked.id = id;
    return grant ? etcdserverpb__lease_grant_request__pack(&granted, out)
                 : etcdserverpb__lease_revoke_request__pack(&revoked, out);
}

static void start_call(struct lease_load *load, bool grant)
{
    uint8_t body[32];
    size_t size = pack_call(load, grant, load->begun, body);
    const struct client_request request = {.method = grant ? "/etcdserverpb.Lease/LeaseGrant"
                                                           : "/etcdserverpb.Lease/LeaseRevoke",
                                           .body = slice_make(body, size),
                                           .timeout_ms = CALL_TIMEOUT_MS,
                                           .connection = (uint32_t)load->begun};
    load->begun++;
    struct lease_call *call = malloc(sizeof(*call));
    if (call != NULL)
        *call = (struct lease_call){load, bench_now_ns()};
    if (call == NULL || client_start(load->client, &request, on_reply, call) != ST_OK) {
        free(call);
        load->failed++;
    }
}

static void call_for_each(struct lease_load *load, bool grant)
{
    while (load->begun < load->options->leases && load->failed == 0) {
        if (client_in_flight(load->client) < CALLS_MAX)
            start_call(load, grant);
        else
            client_poll(load->client, 1000);
    }
    while (client_in_flight(load->client) > 0)
        client_poll(load->client, 1000);
}

/* ---- renewals ---- */

static void renew(struct lease_load *load, uint64_t lease, uint64_t began_ns)
{
    uint8_t body[32];
    Etcdserverpb__LeaseKeepAliveRequest request = ETCDSERVERPB__LEASE_KEEP_ALIVE_REQUEST__INIT;
    request.id = load->first_id + (int64_t)lease;
    size_t size = etcdserverpb__lease_keep_alive_request__pack(&request, body);
    load->began_ns[lease] = began_ns;
    load->begun++;
    if (client_stream_send(load->streams[lease % load->streams_count].stream,
                           slice_make(body, size)) != ST_OK)
        load->failed++;
}

static void renew_next(struct lease_stream *stream)
{
    struct lease_load *load = stream->load;
    uint64_t lease = stream->next;
    stream->next += load->streams_count;
    if (stream->next >= load->options->leases)
        stream->next %= load->streams_count;
    renew(load, lease, bench_now_ns());
}

/* False: it is no answer to anything. */
static bool note_renewal(struct lease_load *load, struct slice body)
{
    Etcdserverpb__LeaseKeepAliveResponse *response =
        etcdserverpb__lease_keep_alive_response__unpack(NULL, body.len, body.data);
    if (response == NULL)
        return false;
    uint64_t lease = (uint64_t)response->id - (uint64_t)load->first_id;
    bool gone = response->ttl <= 0;
    etcdserverpb__lease_keep_alive_response__free_unpacked(response, NULL);
    if (lease >= load->options->leases || load->began_ns[lease] == 0)
        return false;
    load->expired += gone;
    load->answered++;
    hist_add(&load->hist, bench_now_ns() - load->began_ns[lease]);
    load->began_ns[lease] = 0;
    return true;
}

static void on_message(void *context, struct slice body)
{
    struct lease_stream *stream = context;
    struct lease_load *load = stream->load;
    if (!note_renewal(load, body))
        load->failed++;
    else if (load->options->rate == 0 && !load->stopping)
        renew_next(stream);
}

static void on_end(void *context, const struct client_reply *reply)
{
    struct lease_stream *stream = context;
    if (stream->load->ended++ == 0 && reply->code != CLIENT_CANCELED)
        fprintf(stderr, "a stream ended: %s (%.*s)\n", client_code_name(reply->code),
                (int)reply->text.len, (const char *)reply->text.data);
    stream->stream = NULL;
}

static bool works(const struct lease_load *load)
{
    return load->failed == 0 && load->ended == 0;
}

static enum status open_streams(struct lease_load *load)
{
    for (uint64_t i = 0; i < load->streams_count; i++) {
        struct lease_stream *stream = &load->streams[i];
        const struct client_stream_events events = {
            .message = on_message, .ended = on_end, .context = stream};
        const struct client_request request = {.method = "/etcdserverpb.Lease/LeaseKeepAlive",
                                               .connection = (uint32_t)i};
        *stream = (struct lease_stream){.load = load, .next = i};
        enum status st = client_stream_open(load->client, &request, &events, &stream->stream);
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}

/* A lease whose renewal before is not answered yet holds up those behind it. */
static void renew_due(struct lease_load *load, uint64_t start_ns)
{
    uint64_t period_ns = 1000000000U / load->options->rate;
    uint64_t due = (bench_now_ns() - start_ns) / period_ns;
    while (load->begun < due && works(load)) {
        uint64_t lease = load->begun % load->options->leases;
        if (load->began_ns[lease] != 0)
            return;
        renew(load, lease, start_ns + load->begun * period_ns);
    }
}

static void keep_alive(struct lease_load *load)
{
    uint64_t start_ns = bench_now_ns();
    uint64_t end_ns = start_ns + load->options->seconds * 1000000000U;
    for (uint64_t i = 0; load->options->rate == 0 && i < load->streams_count && works(load); i++)
        renew_next(&load->streams[i]);
    while (bench_now_ns() < end_ns && works(load)) {
        if (load->options->rate != 0)
            renew_due(load, start_ns);
        client_wait(load->client, 1);
    }
    load->stopping = true;
    while (load->answered < load->begun && works(load) && bench_now_ns() < end_ns + GIVE_UP_NS)
        client_wait(load->client, 100);
    if (load->answered < load->begun)
        fprintf(stderr, "%llu renewals were not answered\n",
                (unsigned long long)(load->begun - load->answered));
}

/* ---- rows ---- */

struct stage {
    const char *name;
    void (*run)(struct lease_load *load);
};

static void grant_all(struct lease_load *load)
{
    call_for_each(load, /* grant= */ true);
}

static void revoke_all(struct lease_load *load)
{
    call_for_each(load, /* grant= */ false);
}

static bool run_stage(struct lease_load *load, const struct stage *stage,
                      const struct meter_source *source, struct report *report)
{
    struct meter before, after;
    char name[96];
    load->begun = load->answered = 0;
    load->hist = (struct hist){0};
    if (meter_read(source, &before) != ST_OK)
        return false;
    uint64_t cpu_ns = bench_cpu_ns(), began_ns = bench_now_ns();
    stage->run(load);
    uint64_t elapsed_ns = bench_now_ns() - began_ns;
    cpu_ns = bench_cpu_ns() - cpu_ns;
    if (meter_read(source, &after) != ST_OK)
        return false;
    struct meter spent = meter_since(&before, &after);
    snprintf(name, sizeof(name), "%s %llu leases", stage->name,
             (unsigned long long)load->options->leases);
    struct row *row = report_row(report, name);
    row->count = load->answered;
    row->failed = load->failed;
    row_latency(row, &load->hist, elapsed_ns);
    row_figure(row, "expired", (double)load->expired);
    row_costs(row, &spent);
    row_figure(row, "client_cpu_us_per_op",
               (double)cpu_ns / 1e3 / (double)max_u64(load->answered, 1));
    return works(load) && load->answered == load->begun;
}

/* What stopped half-way is not in the report, but for its failures. */
static bool run_all(struct lease_load *load, const struct meter_source *source,
                    struct report *report)
{
    static const struct stage stages[] = {
        {"grant", grant_all}, {"keep alive", keep_alive}, {"revoke", revoke_all}};
    for (size_t i = 0; i < sizeof(stages) / sizeof(stages[0]); i++) {
        if (!run_stage(load, &stages[i], source, report))
            return false;
        if (i == 0 && open_streams(load) != ST_OK)
            return false;
    }
    if (load->expired > 0)
        fprintf(stderr, "%llu times a lease had ended\n", (unsigned long long)load->expired);
    return load->expired == 0;
}

static int measure(const struct lease_options *options)
{
    static struct lease_load load;
    static struct report report;
    uint64_t streams_count = options->connections * options->streams;
    /* No other run's, should that have left some. */
    int64_t first_id = (int64_t)(bench_now_ns() >> 10 << 24 & INT64_MAX >> 1) + 1;
    load = (struct lease_load){.options = options,
                               .first_id = first_id,
                               .streams_count = streams_count,
                               .streams = calloc(streams_count, sizeof(*load.streams)),
                               .began_ns = calloc(options->leases, sizeof(*load.began_ns))};
    const struct meter_source source = {.pid = options->pid};
    const struct client_options client = {.endpoints = options->endpoint,
                                          .connections_per_endpoint =
                                              (uint32_t)options->connections,
                                          .wait_for_ready = true};
    bool ok = load.streams != NULL && load.began_ns != NULL;
    if (ok && client_open(&client, &load.client) != ST_OK) {
        fprintf(stderr, "cannot use endpoint '%s'\n", options->endpoint);
        ok = false;
    }
    if (ok) {
        ok = run_all(&load, &source, &report);
        snprintf(report.command, sizeof(report.command), "lease");
        snprintf(report.note, sizeof(report.note), "%s", options->endpoint);
        ok = report_give(&report, options->json) == ST_OK && ok;
    }
    client_close(load.client);
    free(load.streams);
    free(load.began_ns);
    return ok ? 0 : 1;
}

static const char *refusal(const struct lease_options *options)
{
    if (options->endpoint == NULL)
        return "--endpoint is missing";
    if (options->leases == 0 || options->leases > LEASES_MAX)
        return "--leases is 1 to 10000000";
    if (options->connections == 0 || options->connections > CLIENT_CONNECTIONS_MAX)
        return "--connections is 1 to 1024";
    if (options->streams == 0 || options->streams > STREAMS_MAX / options->connections)
        return "--streams is 1 to 100000 over all connections";
    if (options->connections * options->streams > options->leases)
        return "--leases is at least one for each stream";
    if (options->rate > 1000000000U)
        return "--rate is at most 1000000000";
    if (options->ttl_s == 0 || options->seconds == 0)
        return "--ttl and --seconds must be at least 1";
    return NULL;
}

int command_lease(int argc, char **argv)
{
    struct lease_options options = {
        .leases = 10000, .ttl_s = 10, .connections = 10, .streams = 10, .seconds = 15};
    const struct flag flags[] = {
        {"endpoint", FLAG_TEXT, &options.endpoint, "URL", "host:port or http://host:port"},
        {"leases", FLAG_NUMBER, &options.leases, "N", "that are kept alive"},
        {"ttl", FLAG_NUMBER, &options.ttl_s, "SECONDS", "of each lease"},
        {"connections", FLAG_NUMBER, &options.connections, "N", "to the endpoint"},
        {"streams", FLAG_NUMBER, &options.streams, "N", "of each connection"},
        {"rate", FLAG_NUMBER, &options.rate, "N", "renewals a second; 0: as fast as they go"},
        {"seconds", FLAG_NUMBER, &options.seconds, "N", "for which they are renewed"},
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
        fprintf(stderr, "cleat-bench lease: %s\n", why);
        return 2;
    }
    return measure(&options);
}
