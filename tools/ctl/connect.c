/* From global flags to a client, and calls on it. */
#include "tools/ctl/ctl.h"

#include "base/buf.h"
#include "base/duration.h"
#include "base/minmax.h"
#include "tools/print/log_line.h"

#include <string.h>

#define MS_NS 1000000
/* Answers of up to 2 GiB, gRPC's limit, as they came and decoded. */
#define ANSWERS_BYTES_MAX (UINT64_C(8) << 30)

/* Nanoseconds of a flag, rounded up so that no timeout becomes none. */
static uint64_t flag_ms(const struct cli *cli, const char *name)
{
    int64_t ns = cli_duration_ns(cli, name);
    return ns <= 0 ? 0 : ((uint64_t)ns + MS_NS - 1) / MS_NS;
}

static int read_writer(struct cli *cli, enum ctl_writer *out)
{
    static const char *const names[] = {
        [CTL_SIMPLE] = "simple",     [CTL_FIELDS] = "fields", [CTL_JSON] = "json",
        [CTL_PROTOBUF] = "protobuf", [CTL_TABLE] = "table",
    };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(cli_string(cli, "write-out"), names[i]) == 0) {
            *out = (enum ctl_writer)i;
            return CLI_EXIT_OK;
        }
    }
    return cli_fail(cli, CLI_EXIT_BAD_FEATURE, "unsupported output format");
}

/* The flag whose name comes next after `name`; NULL at the end. */
static const struct cli_flag *next_flag(const struct cli *cli, const char *name)
{
    const struct cli_flag *next = NULL;
    for (const struct cli_flag *flag = cli->program->flags; flag->name != NULL; flag++) {
        if (strcmp(flag->name, name) > 0 && (next == NULL || strcmp(flag->name, next->name) < 0))
            next = flag;
    }
    return next;
}

/* As it was understood, not as it was typed. */
static void tell_value(struct cli *cli, const struct cli_flag *flag)
{
    char duration[DURATION_TEXT_MAX];
    uint32_t count;
    switch (flag->kind) {
    case CLI_BOOL:
        fputs(cli_bool(cli, flag->name) ? "true" : "false", cli->err);
        break;
    case CLI_DURATION:
        fputs(duration_format(cli_duration_ns(cli, flag->name), duration), cli->err);
        break;
    case CLI_LIST: {
        char *const *items = cli_list(cli, flag->name, &count);
        for (uint32_t i = 0; i < count; i++)
            fprintf(cli->err, "%s%s", i == 0 ? "[" : ",", items[i]);
        fputs(count == 0 ? "[]" : "]", cli->err);
        break;
    }
    case CLI_STRING:
    case CLI_INT:
    case CLI_UINT:
        fputs(cli_text(cli, flag->name), cli->err);
    }
}

/* Variables and values, as a user who hunts for one wants to see them. */
static void tell_flags(struct cli *cli)
{
    const struct cli_flag *flag = next_flag(cli, "");
    for (; flag != NULL; flag = next_flag(cli, flag->name)) {
        fputs(cli->program->environment, cli->err);
        for (const char *c = flag->name; *c != '\0'; c++)
            fputc(*c == '-' ? '_' : *c >= 'a' && *c <= 'z' ? *c - 'a' + 'A' : *c, cli->err);
        fputc('=', cli->err);
        tell_value(cli, flag);
        fputc('\n', cli->err);
    }
}

int ctl_read_user(struct cli *cli, const char *prefix, const char *prompt, struct ctl_options *out)
{
    const char *user = cli_string(cli, cli_format(cli, "%suser", prefix));
    out->user = NULL;
    if (*user == '\0')
        return CLI_EXIT_OK;
    out->user = user;
    out->password = cli_string(cli, cli_format(cli, "%spassword", prefix));
    if (*out->password != '\0')
        return CLI_EXIT_OK;
    const char *colon = strchr(user, ':');
    if (colon != NULL) {
        out->user = cli_format(cli, "%.*s", (int)(colon - user), user);
        out->password = colon + 1;
        return CLI_EXIT_OK;
    }
    if (ctl_ask_password(cli, prompt, &out->password) != ST_OK)
        return cli_fail(cli, CLI_EXIT_ERROR, "out of memory");
    return CLI_EXIT_OK;
}

/* --endpoints without the blanks around them. */
static int trim_endpoints(struct cli *cli, struct ctl_options *out)
{
    uint32_t count;
    char *const *endpoints = cli_list(cli, "endpoints", &count);
    char **trimmed = ARENA_ARRAY(&cli->arena, char *, count + 1);
    if (trimmed == NULL)
        return cli_fail(cli, CLI_EXIT_ERROR, "out of memory");
    for (uint32_t i = 0; i < count; i++) {
        char *text = endpoints[i] + strspn(endpoints[i], " \t\n");
        size_t len = strlen(text);
        while (len > 0 && strchr(" \t\n", text[len - 1]) != NULL)
            len--;
        text[len] = '\0';
        trimmed[i] = text;
    }
    out->endpoints = trimmed;
    out->endpoints_count = count;
    return CLI_EXIT_OK;
}

static int read_endpoints(struct cli *cli, struct ctl_options *out)
{
    if (*cli_string(cli, "discovery-srv") != '\0') {
        int code = ctl_discover(cli, &out->endpoints, &out->endpoints_count);
        if (code != CLI_EXIT_OK || out->endpoints_count > 0)
            return code;
    }
    return trim_endpoints(cli, out);
}

/* Where DNS is not trusted, what it names has to show that it belongs to the domain. */
static void demand_domain(struct cli *cli, struct ctl_options *out)
{
    const char *domain = cli_string(cli, "discovery-srv");
    if (*domain == '\0' || cli_bool(cli, "insecure-discovery"))
        return;
    out->tls.server_name = domain;
    out->has_tls = true;
}

int ctl_read_flags(struct cli *cli, struct ctl *out)
{
    *out = (struct ctl){.cli = cli, .logger = "etcd-client"};
    arena_init(&out->arena, ANSWERS_BYTES_MAX);
    static const char *const also[] = {"ETCDCTL_WATCH_KEY", "ETCDCTL_WATCH_RANGE_END", NULL};
    bool watches = strcmp(cli->command->name, "watch") == 0;
    int code = cli_environment(cli, watches ? also : NULL);
    if (code != CLI_EXIT_OK)
        return code;
    if (cli_bool(cli, "debug"))
        tell_flags(cli);
    out->options.dial_timeout_ms = flag_ms(cli, "dial-timeout");
    out->options.keepalive_time_ms = flag_ms(cli, "keepalive-time");
    out->options.keepalive_timeout_ms = flag_ms(cli, "keepalive-timeout");
    out->timeout_ms = flag_ms(cli, "command-timeout");
    out->hex = cli_bool(cli, "hex");
    code = read_endpoints(cli, &out->options);
    if (code == CLI_EXIT_OK)
        code = ctl_read_tls(cli, "", &out->options);
    demand_domain(cli, &out->options);
    if (code == CLI_EXIT_OK)
        code = ctl_read_user(cli, "", "Password: ", &out->options);
    return code == CLI_EXIT_OK ? read_writer(cli, &out->writer) : code;
}

/* ---- the caller ---- */

volatile sig_atomic_t ctl_stop;

/* etcd's client logs each failed attempt, whoever it was for. */
static void log_failure(void *context, const struct caller_failure *failure)
{
    struct ctl *ctl = context;
    char target[400];
    snprintf(target, sizeof(target), "etcd-endpoints://%p/%s", (void *)ctl,
             ctl->log_target != NULL ? ctl->log_target : failure->target);
    flockfile(ctl->cli->err); /* endpoint health calls from many threads */
    struct print_json json;
    print_log_begin(&json, ctl->cli->err, "warn", ctl->logger, "client/caller.c",
                    failure->token ? "retrying of unary invoker failed to fetch new auth token"
                                   : "retrying of unary invoker failed");
    print_json_text(&json, "target", target);
    if (!failure->token)
        print_json_u64(&json, "attempt", failure->attempt);
    print_json_string(&json, "error", failure->error);
    print_log_end(&json);
    funlockfile(ctl->cli->err);
}

void ctl_log_failure(struct ctl *ctl, const struct client_reply *reply)
{
    struct caller_failure failure = {.target = caller_target(ctl->options.endpoints[0]),
                                     .error =
                                         slice_from_str(caller_rpc_error_text(reply, &ctl->arena))};
    log_failure(ctl, &failure);
}

static const char *joined(struct ctl *ctl, char *const *endpoints, uint32_t count)
{
    size_t len = 1;
    for (uint32_t i = 0; i < count; i++)
        len += strlen(endpoints[i]) + 1;
    char *out = arena_alloc(&ctl->arena, len), *end = out;
    for (uint32_t i = 0; out != NULL && i < count; i++)
        end += snprintf(end, len - (size_t)(end - out), "%s%s", i > 0 ? "," : "", endpoints[i]);
    return out;
}

const char *ctl_connect(struct ctl *ctl, char *const *endpoints, uint32_t count,
                        struct caller **out)
{
    *out = NULL;
    if (count == 0)
        return "etcdclient: no available endpoints";
    const struct ctl_options *from = &ctl->options;
    struct caller_options options = {
        .client = {.endpoints = joined(ctl, endpoints, count),
                   .tls = from->has_tls ? &from->tls : NULL,
                   .connections_per_endpoint = ctl->connections_per_endpoint,
                   .keepalive_time_ms = (uint32_t)min_u64(from->keepalive_time_ms, INT32_MAX),
                   .keepalive_timeout_ms =
                       (uint32_t)min_u64(from->keepalive_timeout_ms, INT32_MAX)},
        .user = from->user,
        .password = from->password,
        .dial_timeout_ms = from->dial_timeout_ms,
        .failed = log_failure,
        .context = ctl,
        .stop = &ctl_stop,
    };
    if (options.client.endpoints == NULL)
        return status_str(ST_NO_MEMORY);
    struct client_reply reply;
    enum status st = caller_open(&options, &ctl->arena, &reply, out);
    if (st == ST_INVALID)
        return "cannot read the endpoints: each has to be host:port or a URL";
    if (st != ST_OK)
        return status_str(st);
    return reply.code == CLIENT_OK ? NULL : caller_error_text(&reply, &ctl->arena);
}

int ctl_dial(struct ctl *ctl, char *const *endpoints, uint32_t count)
{
    caller_close(ctl->caller);
    const char *error = ctl_connect(ctl, endpoints, count, &ctl->caller);
    return error == NULL ? CLI_EXIT_OK : cli_fail(ctl->cli, CLI_EXIT_BAD_CONNECTION, "%s", error);
}

int ctl_open(struct cli *cli, struct ctl *out)
{
    int code = ctl_read_flags(cli, out);
    if (code == CLI_EXIT_OK)
        code = ctl_dial(out, out->options.endpoints, out->options.endpoints_count);
    return code;
}

void ctl_close(struct ctl *ctl)
{
    caller_close(ctl->caller);
    arena_deinit(&ctl->arena);
}

enum status ctl_pack(struct ctl *ctl, const ProtobufCMessage *message, struct slice *out)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    void *bytes;
    enum status st = arena_take(&ctl->arena, size, &bytes);
    if (st == ST_OK)
        *out = slice_make(bytes, protobuf_c_message_pack(message, bytes));
    return st;
}

static void *allocate(void *context, size_t size)
{
    return arena_alloc_raw(context, size);
}

static void release(void *context, void *memory)
{
    (void)context;
    (void)memory; /* the arena's */
}

ProtobufCMessage *ctl_unpack(struct ctl *ctl, const ProtobufCMessageDescriptor *type,
                             struct slice bytes)
{
    ProtobufCAllocator allocator = {
        .alloc = allocate, .free = release, .allocator_data = &ctl->arena};
    return protobuf_c_message_unpack(type, &allocator, bytes.len, bytes.data);
}

const char *ctl_error_text(struct ctl *ctl, const struct client_reply *reply)
{
    return caller_error_text(reply, &ctl->arena);
}

/* With no time at all nothing is sent, as by etcd's client. */
static struct ctl_answer answer_too_late(struct ctl *ctl)
{
    struct caller_failure failure = {
        .target = caller_target(ctl->options.endpoints[0]),
        .error = SLICE("rpc error: code = DeadlineExceeded desc = context deadline exceeded")};
    log_failure(ctl, &failure);
    return (struct ctl_answer){.error = "context deadline exceeded",
                               .code = CLIENT_DEADLINE_EXCEEDED};
}

static struct ctl_answer call_by(struct ctl *ctl, struct caller *caller,
                                 const struct ctl_method *method, const ProtobufCMessage *request)
{
    if (!method->unlimited && ctl->timeout_ms == 0)
        return answer_too_late(ctl);
    struct client_request call = {.method = method->path,
                                  .timeout_ms = method->unlimited ? 0 : ctl->timeout_ms};
    struct client_reply reply;
    enum status st = ctl_pack(ctl, request, &call.body);
    if (st == ST_OK)
        st = caller_call(caller, &call, &ctl->arena, &reply);
    if (st != ST_OK)
        return (struct ctl_answer){.error = status_str(st), .code = CLIENT_INTERNAL};
    if (reply.code != CLIENT_OK)
        return (struct ctl_answer){.error = ctl_error_text(ctl, &reply), .code = reply.code};
    const ProtobufCMessage *message = ctl_unpack(ctl, method->response, reply.body);
    if (message == NULL)
        return (struct ctl_answer){.error = "the server's answer is not a message of its type",
                                   .code = CLIENT_INTERNAL};
    return (struct ctl_answer){.message = message};
}

struct ctl_answer ctl_call(struct ctl *ctl, const struct ctl_method *method,
                           const ProtobufCMessage *request)
{
    return call_by(ctl, ctl->caller, method, request);
}

struct ctl_answer ctl_call_at(struct ctl *ctl, const char *endpoint,
                              const struct ctl_method *method, const ProtobufCMessage *request)
{
    char *const endpoints[] = {(char *)(uintptr_t)endpoint};
    struct ctl_answer answer = {.code = CLIENT_UNKNOWN};
    struct caller *caller;
    /* etcd's client logs its own first endpoint, wherever it calls. */
    ctl->log_target = caller_target(ctl->options.endpoints[0]);
    answer.error = ctl_connect(ctl, endpoints, 1, &caller);
    if (answer.error == NULL)
        answer = call_by(ctl, caller, method, request);
    caller_close(caller);
    ctl->log_target = NULL;
    return answer;
}
