#include "tools/ctl/load.h"

#include "base/clock.h"
#include "base/minmax.h"
#include "base/rng.h"
#include "tools/print/progress.h"
#include "tools/print/text.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define POLL_MS 1U
#define CATCH_UP_NS (10 * NS_PER_MS) /* what a late wake-up may make good */
#define AFTERWARDS_MS 30000U

/* One client. */
struct worker {
    struct load *load;
    struct worker *next; /* idle ones */
    uint32_t connection;
    uint64_t began_ns;
};

struct load {
    struct ctl *ctl;
    const struct load_options *options;
    struct load_result *result;
    struct worker *workers, *idle;
    uint64_t begun, ended; /* puts */
    uint64_t queued;       /* due, but every client is busy */
    uint64_t next_ns;      /* when the next is due */
    double sum_s, sum_of_squares;
    struct rng rng;
    uint8_t *key, *value; /* key: the prefix, then the random part */
    size_t key_len;
    uint8_t *packed_room;
};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

/* ---- puts ---- */

/* A number's variable-length form over the beginning of what was there: keys differ. */
static void next_key(struct load *load)
{
    uint64_t number = rng_next(&load->rng) & ~UINT64_C(1); /* a positive one, zigzag */
    uint8_t *at = load->key + strlen(load->options->prefix);
    for (; number >= 0x80; number >>= 7)
        *at++ = (uint8_t)(number | 0x80);
    *at = (uint8_t)number;
}

static void count_error(struct load *load, const struct client_reply *reply)
{
    struct load_result *result = load->result;
    ctl_log_failure(load->ctl, reply);
    const char *text = caller_error_text(reply, &load->ctl->arena);
    uint32_t i = 0;
    while (i < result->errors_count && strcmp(result->errors[i].text, text) != 0)
        i++;
    if (i == result->errors_count && i < LOAD_ERRORS_MAX) {
        result->errors[i].text = cli_format(load->ctl->cli, "%s", text);
        result->errors_count++;
    }
    result->errors[min_u32(i, LOAD_ERRORS_MAX - 1)].count++;
    arena_reset(&load->ctl->arena);
}

static void on_done(void *context, const struct client_reply *reply)
{
    struct worker *worker = context;
    struct load *load = worker->load;
    double took_s = (double)(now_ns() - worker->began_ns) / NS_PER_S;
    worker->next = load->idle;
    load->idle = worker;
    load->ended++;
    if (reply->code != CLIENT_OK) {
        count_error(load, reply);
        return;
    }
    load->result->count++;
    load->sum_s += took_s;
    load->sum_of_squares += took_s * took_s;
    if (took_s > load->result->slowest_s)
        load->result->slowest_s = took_s;
}

static enum status begin_put(struct load *load)
{
    Etcdserverpb__PutRequest put = ETCDSERVERPB__PUT_REQUEST__INIT;
    next_key(load);
    put.key = (ProtobufCBinaryData){.len = load->key_len, .data = load->key};
    put.value = (ProtobufCBinaryData){.len = load->options->value_bytes, .data = load->value};
    size_t len = etcdserverpb__put_request__pack(&put, load->packed_room);
    struct worker *worker = load->idle;
    struct client_request request = {.method = "/etcdserverpb.KV/Put",
                                     .body = slice_make(load->packed_room, len),
                                     .connection = worker->connection};
    load->idle = worker->next;
    worker->began_ns = now_ns();
    load->begun++;
    return caller_start(load->ctl->caller, &request, on_done, worker);
}

/* What is due now is queued, as far as there is room: as many again as clients. */
static void queue_due(struct load *load, uint64_t began_ns)
{
    const struct load_options *options = load->options;
    uint64_t now = now_ns();
    uint64_t end_ns = options->seconds > 0 ? began_ns + options->seconds * NS_PER_S : UINT64_MAX;
    if (now >= end_ns || ctl_stop != 0)
        return;
    while (load->queued < options->clients &&
           (options->puts == 0 || load->begun + load->queued < options->puts) &&
           (options->per_second == 0 || load->next_ns <= now)) {
        load->queued++;
        if (options->per_second > 0)
            load->next_ns =
                max_u64(load->next_ns, now - CATCH_UP_NS) + NS_PER_S / options->per_second;
    }
}

static bool is_over(const struct load *load, uint64_t began_ns)
{
    const struct load_options *options = load->options;
    if (load->queued > 0 || load->ended < load->begun)
        return false;
    if (ctl_stop != 0 || (options->puts > 0 && load->begun == options->puts))
        return true;
    return options->seconds > 0 && now_ns() >= began_ns + options->seconds * NS_PER_S;
}

static int64_t progress_of(const struct load *load, uint64_t began_ns)
{
    if (!load->options->shows_seconds)
        return (int64_t)load->ended;
    return (int64_t)min_u64((now_ns() - began_ns) / NS_PER_S, load->options->seconds);
}

static enum status drive(struct load *load)
{
    uint64_t began_ns = now_ns();
    int64_t total = load->options->shows_seconds ? (int64_t)load->options->seconds
                                                 : (int64_t)load->options->puts;
    struct print_progress progress;
    print_progress_begin(&progress, load->ctl->cli->out, total, began_ns);
    load->next_ns = began_ns;
    enum status st = ST_OK;
    while (st == ST_OK && !is_over(load, began_ns)) {
        queue_due(load, began_ns);
        for (; st == ST_OK && load->queued > 0 && load->idle != NULL; load->queued--)
            st = begin_put(load);
        client_wait(caller_client(load->ctl->caller), POLL_MS);
        print_progress_turn(&progress, progress_of(load, began_ns), now_ns());
    }
    load->result->seconds = (double)(now_ns() - began_ns) / NS_PER_S;
    print_progress_end(&progress, progress_of(load, began_ns), now_ns());
    return st;
}

static enum status load_init(struct load *load)
{
    const struct load_options *options = load->options;
    struct arena *arena = &load->ctl->cli->arena;
    load->key_len = strlen(options->prefix) + options->key_bytes;
    load->key = arena_alloc(arena, load->key_len);
    load->value = arena_alloc(arena, options->value_bytes);
    load->packed_room = arena_alloc(arena, load->key_len + options->value_bytes + 64);
    load->workers = ARENA_ARRAY(arena, struct worker, options->clients);
    if (load->key == NULL || load->value == NULL || load->packed_room == NULL ||
        load->workers == NULL)
        return ST_NO_MEMORY;
    memcpy(load->key, options->prefix, strlen(options->prefix));
    for (uint32_t i = 0; i < options->clients; i++) {
        load->workers[i] = (struct worker){.load = load, .next = load->idle, .connection = i};
        load->idle = &load->workers[i];
    }
    return rng_seed_from_system(&load->rng);
}

int load_run(struct ctl *ctl, const struct load_options *options, struct load_result *out)
{
    *out = (struct load_result){.count = 0};
    struct load load = {.ctl = ctl, .options = options, .result = out};
    enum status st = load_init(&load);
    if (st == ST_OK)
        st = drive(&load);
    /* Calls that are still in flight after an error would tell a load that is gone. */
    client_cancel_calls(caller_client(ctl->caller));
    while (client_in_flight(caller_client(ctl->caller)) > 0)
        client_poll(caller_client(ctl->caller), POLL_MS);
    if (st != ST_OK)
        return cli_fail(ctl->cli, CLI_EXIT_ERROR, "%s", status_str(st));
    if (out->count > 0) {
        double mean_s = load.sum_s / (double)out->count;
        double variance = load.sum_of_squares / (double)out->count - mean_s * mean_s;
        out->stddev_s = variance > 0 ? sqrt(variance) : 0;
    }
    return CLI_EXIT_OK;
}

void load_print_errors(struct ctl *ctl, const struct load_result *result)
{
    fputs("FAIL: too many errors\n", ctl->cli->out);
    for (uint32_t i = 0; i < result->errors_count; i++)
        fprintf(ctl->cli->out, "FAIL: ERROR(%s) -> %" PRIu64 "\n", result->errors[i].text,
                result->errors[i].count);
}

/* ---- before and after ---- */

int load_model(const char *name)
{
    static const char *const names[] = {"s", "m", "l", "xl", "small", "medium", "large", "xLarge"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(name, names[i]) == 0)
            return (int)(i % 4);
    }
    return -1;
}

int load_prepare(struct ctl *ctl, const struct load_options *options, const char *hint)
{
    static const struct ctl_method method = {
        "/etcdserverpb.KV/Range", &etcdserverpb__range_response__descriptor, .unlimited = true};
    struct cli *cli = ctl->cli;
    uint32_t endpoints = max_u32(ctl->options.endpoints_count, 1);
    ctl->connections_per_endpoint = (options->clients + endpoints - 1) / endpoints;
    int code = ctl_dial(ctl, ctl->options.endpoints, ctl->options.endpoints_count);
    if (code != CLI_EXIT_OK)
        return code;
    Etcdserverpb__RangeRequest request = ETCDSERVERPB__RANGE_REQUEST__INIT;
    request.key = ctl_bytes(options->prefix);
    request.limit = 1;
    if (ctl_prefix_end(cli, request.key, &request.range_end) != ST_OK)
        return cli_fail(cli, CLI_EXIT_ERROR, "out of memory");
    struct ctl_answer answer = ctl_call(ctl, &method, &request.base);
    if (answer.error != NULL)
        return cli_fail(cli, CLI_EXIT_ERROR, "%s", answer.error);
    const Etcdserverpb__RangeResponse *response = answer.message;
    if (response->n_kvs == 0)
        return CLI_EXIT_OK;
    fputs("Error: prefix ", cli->err);
    print_quoted(cli->err, slice_from_str(options->prefix));
    fprintf(cli->err, " has keys. Delete with %s first\n", hint);
    return CLI_EXIT_INVALID_INPUT;
}

const char *load_delete(struct ctl *ctl, const char *prefix, uint64_t timeout_ms,
                        int64_t *revision_out)
{
    const struct ctl_method method = {"/etcdserverpb.KV/DeleteRange",
                                      &etcdserverpb__delete_range_response__descriptor,
                                      .unlimited = timeout_ms == 0};
    Etcdserverpb__DeleteRangeRequest request = ETCDSERVERPB__DELETE_RANGE_REQUEST__INIT;
    request.key = ctl_bytes(prefix);
    if (ctl_prefix_end(ctl->cli, request.key, &request.range_end) != ST_OK)
        return "out of memory";
    ctl->timeout_ms = timeout_ms;
    struct ctl_answer answer = ctl_call(ctl, &method, &request.base);
    if (answer.error != NULL)
        return answer.error;
    const Etcdserverpb__DeleteRangeResponse *response = answer.message;
    *revision_out = response->header != NULL ? response->header->revision : 0;
    return NULL;
}

static int compact_to(struct ctl *ctl, int64_t revision)
{
    static const struct ctl_method method = {"/etcdserverpb.KV/Compact",
                                             &etcdserverpb__compaction_response__descriptor,
                                             .unlimited = false};
    Etcdserverpb__CompactionRequest request = ETCDSERVERPB__COMPACTION_REQUEST__INIT;
    request.revision = revision;
    request.physical = true;
    ctl->timeout_ms = AFTERWARDS_MS;
    fprintf(ctl->cli->out, "Compacting with revision %" PRId64 "\n", revision);
    fflush(ctl->cli->out);
    struct ctl_answer answer = ctl_call(ctl, &method, &request.base);
    if (answer.error != NULL)
        return cli_fail(ctl->cli, CLI_EXIT_ERROR, "%s", answer.error);
    fprintf(ctl->cli->out, "Compacted with revision %" PRId64 "\n", revision);
    return CLI_EXIT_OK;
}

static int defragment(struct ctl *ctl)
{
    static const struct ctl_method method = {"/etcdserverpb.Maintenance/Defragment",
                                             &etcdserverpb__defragment_response__descriptor,
                                             .unlimited = false};
    Etcdserverpb__DefragmentRequest request = ETCDSERVERPB__DEFRAGMENT_REQUEST__INIT;
    FILE *out = ctl->cli->out;
    ctl->timeout_ms = AFTERWARDS_MS;
    ctl->connections_per_endpoint = 1;
    for (uint32_t i = 0; i < ctl->options.endpoints_count; i++) {
        const char *endpoint = ctl->options.endpoints[i];
        fputs("Defragmenting ", out);
        print_quoted(out, slice_from_str(endpoint));
        fputc('\n', out);
        fflush(out);
        struct ctl_answer answer = ctl_call_at(ctl, endpoint, &method, &request.base);
        if (answer.error != NULL)
            return cli_fail(ctl->cli, CLI_EXIT_ERROR, "%s", answer.error);
        fputs("Defragmented ", out);
        print_quoted(out, slice_from_str(endpoint));
        fputc('\n', out);
    }
    return CLI_EXIT_OK;
}

int load_tidy(struct ctl *ctl, int64_t revision)
{
    int code = CLI_EXIT_OK;
    if (revision > 0 && cli_bool(ctl->cli, "auto-compact"))
        code = compact_to(ctl, revision);
    if (code == CLI_EXIT_OK && cli_bool(ctl->cli, "auto-defrag"))
        code = defragment(ctl);
    return code;
}
