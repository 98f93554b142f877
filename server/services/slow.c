/* server/services/slow.c - where the time of a call went: measured for every write and read that
 * passed the actors, and told in one line of the log when it was long, in etcd's words with the
 * phases behind them. Runs on a poller when the answer has left. */
#include "server/loops/loops.h"
#include "server/metrics/metrics.h"
#include "server/run/log.h"
#include "server/services/services_private.h"
#include "server/state/machine.h"

#include "base/minmax.h"

#include <stdio.h>
#include <time.h>

#define SLOW_CALL_NS (300 * NS_PER_MS) /* etcd's */
#define LINES_PER_S 10U                /* what is more is counted and told with the next line */
#define SHOWN_BYTES_MAX 128U           /* of a key */

enum phase {
    PHASE_QUEUE,
    PHASE_LOG,
    PHASE_QUORUM,
    PHASE_APPLY_WAIT,
    PHASE_STORE,
    PHASE_APPLY,
    PHASE_SEND
};
static const char *const write_phases[SLOW_PHASES_COUNT] = {
    "queue", "log", "quorum", "apply_wait", "store", "apply", "send"};
static const char *const read_phases[SLOW_PHASES_COUNT] = {"queue", NULL,   "quorum", "apply_wait",
                                                           "store", "read", "send"};

void slow_init(struct slow *slow)
{
    for (uint32_t i = 0; i < SLOW_PHASES_COUNT; i++) {
        const char *pairs[] = {"kind", "write", "phase", write_phases[i], NULL};
        slow->writes[i] = metrics_histogram_child(METRIC_REQUEST_PHASE, pairs);
        if (read_phases[i] == NULL)
            continue;
        pairs[1] = "read";
        pairs[3] = read_phases[i];
        slow->reads[i] = metrics_histogram_child(METRIC_REQUEST_PHASE, pairs);
    }
}

/* ---- phases ---- */

struct spans {
    uint64_t ns[SLOW_PHASES_COUNT];
};

static uint64_t up_to(uint64_t *at_ns, uint64_t next_ns)
{
    if (next_ns <= *at_ns) /* unknown, or in the step that took the one before */
        return 0;
    uint64_t span_ns = next_ns - *at_ns;
    *at_ns = next_ns;
    return span_ns;
}

/* What a call that did not get to its end was waiting for. */
static enum phase unfinished(const struct request_times *times)
{
    if (times->taken_ns == 0)
        return PHASE_QUEUE;
    return times->committed_ns == 0 ? PHASE_QUORUM : PHASE_APPLY_WAIT;
}

static void measure(const struct rpc_call *call, const struct request *request, uint64_t now_ns,
                    struct spans *out)
{
    const struct request_times *times = &request->times;
    uint64_t at_ns = call->started_ns;
    *out = (struct spans){0};
    out->ns[PHASE_QUEUE] = up_to(&at_ns, times->taken_ns);
    out->ns[PHASE_LOG] = up_to(&at_ns, times->logged_ns);
    out->ns[PHASE_QUORUM] = up_to(&at_ns, times->committed_ns);
    uint64_t wait_ns = up_to(&at_ns, times->began_ns);
    out->ns[PHASE_STORE] = min_u64(times->full_ns, wait_ns);
    out->ns[PHASE_APPLY_WAIT] = wait_ns - out->ns[PHASE_STORE];
    out->ns[PHASE_APPLY] = up_to(&at_ns, times->ended_ns);
    out->ns[times->began_ns == 0 ? unfinished(times) : PHASE_SEND] += up_to(&at_ns, now_ns);
}

static enum phase longest(const struct spans *spans)
{
    uint32_t found = 0;
    for (uint32_t i = 1; i < SLOW_PHASES_COUNT; i++) {
        if (spans->ns[i] > spans->ns[found])
            found = i;
    }
    return (enum phase)found;
}

static void count(const struct slow *slow, const struct request *request, const struct spans *spans)
{
    bool is_read = request->kind == REQUEST_READ;
    for (uint32_t i = 0; i < SLOW_PHASES_COUNT; i++) {
        if (!is_read || read_phases[i] != NULL)
            metrics_child_observe(is_read ? slow->reads[i] : slow->writes[i], spans->ns[i]);
    }
}

/* ---- lines ---- */

/* False: there were enough this second. *left_out is what was not told since the last line. */
static bool may_tell(struct slow *slow, uint64_t now_ns, uint64_t *left_out)
{
    uint64_t second = now_ns / NS_PER_S;
    if (atomic_exchange_explicit(&slow->second, second, memory_order_relaxed) != second)
        atomic_store_explicit(&slow->lines, 0, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&slow->lines, 1, memory_order_relaxed) >= LINES_PER_S) {
        atomic_fetch_add_explicit(&slow->left_out, 1, memory_order_relaxed);
        return false;
    }
    *left_out = atomic_exchange_explicit(&slow->left_out, 0, memory_order_relaxed);
    return true;
}

static size_t show_bytes(char *out, size_t size, const char *name, struct slice bytes)
{
    size_t at = (size_t)snprintf(out, size, "%s:\"", name);
    for (size_t i = 0; i < min_size(bytes.len, SHOWN_BYTES_MAX) && at + 8 < size; i++) {
        uint8_t byte = bytes.data[i];
        if (byte >= ' ' && byte < 0x7f && byte != '"' && byte != '\\')
            out[at++] = (char)byte;
        else
            at += (size_t)snprintf(out + at, size - at, "\\%03o", byte);
    }
    return at +
           (size_t)snprintf(out + at, size - at, bytes.len > SHOWN_BYTES_MAX ? "...\" " : "\" ");
}

/* As much of the request as helps to find who sent it; no values. */
static void show_request(const struct rpc_call *call, char *out, size_t size)
{
    struct kv_put put;
    struct kv_range range;
    struct kv_delete del;
    const char *method = strrchr(call->method->path, '/') + 1;
    out[0] = '\0';
    if (strcmp(method, "Put") == 0 && kv_put_decode(call->message, &put) == ST_OK) {
        size_t at = show_bytes(out, size, "key", put.key);
        snprintf(out + at, size - at, "value_size:%zu ", put.value.len);
    } else if (strcmp(method, "Range") == 0 && kv_range_decode(call->message, &range) == ST_OK) {
        size_t at = show_bytes(out, size, "key", range.key);
        if (range.range_end.len > 0)
            show_bytes(out + at, size - at, "range_end", range.range_end);
    } else if (strcmp(method, "DeleteRange") == 0 &&
               kv_delete_decode(call->message, &del) == ST_OK) {
        size_t at = show_bytes(out, size, "key", del.key);
        if (del.range_end.len > 0)
            show_bytes(out + at, size - at, "range_end", del.range_end);
    }
}

static void show_time(uint64_t wall_ns, char out[40])
{
    time_t seconds = (time_t)(wall_ns / NS_PER_S);
    struct tm parts;
    char text[24] = "";
    if (gmtime_r(&seconds, &parts) != NULL)
        strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(out, 40, "%s.%06uZ", text, (unsigned)(wall_ns % NS_PER_S / 1000));
}

static void name_of(const struct services *services, raft_id id, char *out, size_t size)
{
    struct members *members = machine_members(services->options.machine);
    const struct member_row *row = members_find(members, id);
    snprintf(out, size, "%.*s", row == NULL ? 0 : (int)row->name.len,
             row == NULL ? "" : (const char *)row->name.data);
    members_unref(members);
}

/* etcd's line and its fields, then where the time went. */
static void tell_phases(struct services *services, struct rpc_call *call,
                        const struct request *request, const struct spans *spans, uint64_t now_ns,
                        size_t answer_bytes)
{
    uint64_t left_out;
    if (!may_tell(&services->slow, now_ns, &left_out))
        return;
    char began[40], content[700], slowest[64];
    uint64_t took_ns = now_ns - call->started_ns;
    const struct request_times *times = &request->times;
    bool is_read = request->kind == REQUEST_READ;
    show_time(clock_wall_ns(services->options.clock) - took_ns, began);
    show_request(call, content, sizeof(content));
    name_of(services, times->slowest, slowest, sizeof(slowest));
    log_warn("request stats", LOG_STR("start time", began), LOG_DURATION("time spent", took_ns),
             LOG_STR("remote", rpc_peer(call)), LOG_STR("response type", call->method->path),
             LOG_U64("request size", call->message.len), LOG_U64("response size", answer_bytes),
             LOG_STR("request content", content),
             LOG_STR("slowest-phase", (is_read ? read_phases : write_phases)[longest(spans)]),
             LOG_DURATION("queue", spans->ns[PHASE_QUEUE]),
             LOG_DURATION("log", spans->ns[PHASE_LOG]),
             LOG_DURATION("quorum", spans->ns[PHASE_QUORUM]),
             LOG_DURATION("apply-wait", spans->ns[PHASE_APPLY_WAIT]),
             LOG_DURATION("store", spans->ns[PHASE_STORE]),
             LOG_DURATION(is_read ? "read" : "apply", spans->ns[PHASE_APPLY]),
             LOG_DURATION("send", spans->ns[PHASE_SEND]), LOG_HEX("quorum-by", times->committed_by),
             LOG_HEX("slowest-peer", times->slowest), LOG_STR("slowest-peer-name", slowest),
             LOG_U64("slowest-peer-behind", times->slowest_behind), LOG_U64("not-told", left_out));
}

static void tell_apply(struct services *services, struct rpc_call *call,
                       const struct request *request, uint64_t took_ns, uint64_t now_ns,
                       enum rpc_code code, size_t answer_bytes)
{
    uint64_t left_out;
    bool is_read = request->kind == REQUEST_READ;
    if (is_read)
        metrics_add(METRIC_SLOW_APPLIES, 1);
    if (!may_tell(&services->slow, now_ns, &left_out))
        return;
    char content[700], response[40];
    bool is_txn = strcmp(call->method->path, "/etcdserverpb.KV/Txn") == 0;
    show_request(call, content, sizeof(content));
    snprintf(response, sizeof(response), "size:%zu", answer_bytes);
    log_warn("apply request took too long", LOG_DURATION("took", took_ns),
             LOG_DURATION("expected-duration", services->options.warning_apply_ns),
             LOG_STR("prefix", !is_read ? ""
                               : is_txn ? "read-only txn "
                                        : "read-only range "),
             LOG_STR("request", content), LOG_STR("response", response),
             LOG_U64("grpc-code", (uint64_t)code), LOG_U64("not-told", left_out));
}

void services_call_ended(void *context, struct rpc_call *call, enum rpc_code code,
                         size_t answer_bytes)
{
    struct services *services = context;
    const struct request *request = call->trace;
    if (request == NULL)
        return;
    uint64_t now_ns = clock_monotonic_ns(services->options.clock);
    struct spans spans;
    measure(call, request, now_ns, &spans);
    count(&services->slow, request, &spans);
    if (spans.ns[PHASE_APPLY] > services->options.warning_apply_ns)
        tell_apply(services, call, request, spans.ns[PHASE_APPLY], now_ns, code, answer_bytes);
    if (now_ns - call->started_ns > SLOW_CALL_NS)
        tell_phases(services, call, request, &spans, now_ns, answer_bytes);
}
