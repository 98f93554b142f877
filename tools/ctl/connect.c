/* From global flags to a client, and calls on it. */
#include "tools/ctl/ctl.h"

#include "base/buf.h"
#include "base/minmax.h"

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

/* Variables and values, as a user who hunts for one wants to see them. */
static void tell_flags(struct cli *cli)
{
    for (const struct cli_flag *flag = cli->program->flags; flag->name != NULL; flag++) {
        fputs(cli->program->environment, cli->err);
        for (const char *c = flag->name; *c != '\0'; c++)
            fputc(*c == '-' ? '_' : *c >= 'a' && *c <= 'z' ? *c - 'a' + 'A' : *c, cli->err);
        fprintf(cli->err, "=%s\n", cli_text(cli, flag->name));
    }
}

static int read_tls(struct cli *cli, struct ctl_options *out)
{
    static const char *const names[] = {"cert", "key", "cacert"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (cli_given(cli, names[i]) && *cli_string(cli, names[i]) == '\0')
            return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS, "empty string is passed to --%s option",
                            names[i]);
    }
    out->cert = cli_string(cli, "cert");
    out->key = cli_string(cli, "key");
    out->cacert = cli_string(cli, "cacert");
    out->insecure_transport = cli_bool(cli, "insecure-transport");
    out->insecure_skip_verify = cli_bool(cli, "insecure-skip-tls-verify");
    return CLI_EXIT_OK;
}

/* --user name[:password], --password. */
static int read_user(struct cli *cli, struct ctl_options *out)
{
    const char *user = cli_string(cli, "user");
    if (*user == '\0')
        return CLI_EXIT_OK;
    out->user = user;
    out->password = cli_string(cli, "password");
    if (*out->password != '\0')
        return CLI_EXIT_OK;
    const char *colon = strchr(user, ':');
    if (colon != NULL) {
        out->user = cli_format(cli, "%.*s", (int)(colon - user), user);
        out->password = colon + 1;
        return CLI_EXIT_OK;
    }
    if (ctl_ask_password(cli, "Password: ", &out->password) != ST_OK)
        return cli_fail(cli, CLI_EXIT_ERROR, "EOF");
    return CLI_EXIT_OK;
}

/* The endpoints without the blanks around them. */
static int read_endpoints(struct cli *cli, struct ctl_options *out)
{
    if (*cli_string(cli, "discovery-srv") != '\0')
        return cli_fail(cli, CLI_EXIT_ERROR,
                        "--discovery-srv is not supported, name the members by --endpoints");
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

int ctl_read_flags(struct cli *cli, struct ctl *out)
{
    *out = (struct ctl){.cli = cli};
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
        code = read_tls(cli, &out->options);
    if (code == CLI_EXIT_OK)
        code = read_user(cli, &out->options);
    return code == CLI_EXIT_OK ? read_writer(cli, &out->writer) : code;
}

int ctl_dial(struct ctl *ctl, char *const *endpoints, uint32_t count)
{
    struct cli *cli = ctl->cli;
    client_close(ctl->client);
    ctl->client = NULL;
    if (count == 0)
        return cli_fail(cli, CLI_EXIT_BAD_CONNECTION, "etcdclient: no available endpoints");
    const char *joined = endpoints[0];
    for (uint32_t i = 1; i < count; i++)
        joined = cli_format(cli, "%s,%s", joined, endpoints[i]);
    struct client_options options = {.endpoints = joined, .wait_for_ready = true};
    enum status st = client_open(&options, &ctl->client);
    if (st == ST_OK)
        return CLI_EXIT_OK;
    return cli_fail(cli, CLI_EXIT_BAD_CONNECTION, "cannot use the endpoints '%s': %s", joined,
                    status_str(st));
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
    client_close(ctl->client);
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
    if (slice_has_prefix(reply->text, SLICE("etcdserver: ")))
        return cli_format(ctl->cli, "%.*s", (int)reply->text.len, (const char *)reply->text.data);
    if (reply->code == CLIENT_DEADLINE_EXCEEDED)
        return "context deadline exceeded";
    return cli_format(ctl->cli, "rpc error: code = %s desc = %.*s", client_code_name(reply->code),
                      (int)reply->text.len, (const char *)reply->text.data);
}

struct ctl_answer ctl_call(struct ctl *ctl, const struct ctl_method *method,
                           const ProtobufCMessage *request, uint32_t endpoint)
{
    struct client_request call = {
        .method = method->path,
        .timeout_ms = method->unlimited ? 0 : ctl->timeout_ms,
        .connection = endpoint == CTL_ANY_ENDPOINT ? 0 : endpoint,
    };
    struct client_reply reply;
    enum status st = ctl_pack(ctl, request, &call.body);
    if (st == ST_OK)
        st = client_call(ctl->client, &call, &ctl->arena, &reply);
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
