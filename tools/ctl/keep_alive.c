/* lease keep-alive */
#include "tools/ctl/ctl.h"

#include "tools/client/keepalive.h"
#include "tools/print/text.h"

#include <inttypes.h>

#define MS_IN_S 1000U
#define LONG_MS (UINT64_C(1) << 40) /* for ever, some thirty years */

struct renewing {
    struct ctl ctl;
    bool once;
    bool is_done; /* once, and it was */
    int code;     /* of showing */
};

static void simple(struct ctl *ctl, const void *message, const void *about)
{
    (void)about;
    const Etcdserverpb__LeaseKeepAliveResponse *response = message;
    fprintf(ctl->cli->out, "lease %016" PRIx64 " keepalived with TTL(%" PRId64 ")\n",
            (uint64_t)response->id, response->ttl);
}

static void fields(struct ctl *ctl, const void *message, const void *about)
{
    (void)about;
    const Etcdserverpb__LeaseKeepAliveResponse *response = message;
    ctl_fields_header(ctl, response->header);
    print_field_i64(ctl->cli->out, "ID", response->id);
    print_field_i64(ctl->cli->out, "TTL", response->ttl);
}

static void json(struct ctl *ctl, const void *message, const void *about)
{
    (void)about;
    const Etcdserverpb__LeaseKeepAliveResponse *response = message;
    struct print_json out = print_json_to(ctl->cli->out);
    print_json_object(&out, NULL);
    ctl_json_header(&out, response->header);
    print_json_i64(&out, "ID", response->id);
    print_json_i64(&out, "TTL", response->ttl);
    print_json_object_end(&out);
}

static void protobuf(struct ctl *ctl, const void *message, const void *about)
{
    (void)about;
    const Etcdserverpb__LeaseKeepAliveResponse *response = message;
    if (response->header != NULL)
        ctl_protobuf(ctl, &response->header->base);
}

static void on_renewed(void *context, const Etcdserverpb__LeaseKeepAliveResponse *response)
{
    static const struct ctl_view view = {
        .simple = simple, .fields = fields, .json = json, .protobuf = protobuf};
    struct renewing *renewing = context;
    if (renewing->is_done || renewing->code != CLI_EXIT_OK)
        return;
    renewing->code = ctl_show(&renewing->ctl, &view, response, NULL);
    fflush(renewing->ctl.cli->out);
    renewing->is_done = renewing->once;
}

/* Until the lease is gone, or has been renewed once. Returns an exit code. */
static int renew(struct renewing *renewing, struct keepalive *keepalive, int64_t lease)
{
    struct cli *cli = renewing->ctl.cli;
    while (!renewing->is_done && renewing->code == CLI_EXIT_OK && !keepalive_is_over(keepalive)) {
        enum status st = keepalive_step(keepalive);
        if (st != ST_OK)
            return cli_fail(cli, CLI_EXIT_ERROR, "%s", status_str(st));
        if (renewing->once && keepalive_refusal(keepalive) != NULL)
            return cli_fail(cli, CLI_EXIT_BAD_CONNECTION, "%s", keepalive_refusal(keepalive));
        client_wait(caller_client(renewing->ctl.caller), KEEPALIVE_STEP_MS);
    }
    if (renewing->is_done || renewing->code != CLI_EXIT_OK)
        return renewing->code;
    if (renewing->once)
        return cli_fail(cli, CLI_EXIT_BAD_CONNECTION, "etcdserver: requested lease not found");
    if (renewing->ctl.writer == CTL_SIMPLE)
        fprintf(cli->out, "lease %016" PRIx64 " expired or revoked.\n", (uint64_t)lease);
    return CLI_EXIT_OK;
}

static int run_keep_alive(struct cli *cli)
{
    if (cli->words_count != 1)
        return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS,
                        "lease keep-alive command needs lease ID as argument");
    int64_t lease;
    int code = ctl_lease_argument(cli, cli->words[0], &lease);
    if (code != CLI_EXIT_OK)
        return code;
    struct renewing renewing = {.once = cli_bool(cli, "once")};
    struct keepalive *keepalive = NULL;
    code = ctl_open(cli, &renewing.ctl);
    if (code == CLI_EXIT_OK) {
        uint64_t first_ms = renewing.ctl.options.dial_timeout_ms + MS_IN_S;
        keepalive = keepalive_new(renewing.ctl.caller, lease, renewing.once ? LONG_MS : first_ms,
                                  on_renewed, &renewing);
        code = keepalive == NULL ? cli_fail(cli, CLI_EXIT_ERROR, "out of memory")
                                 : renew(&renewing, keepalive, lease);
    }
    keepalive_free(keepalive);
    ctl_close(&renewing.ctl);
    return code;
}

static const struct cli_flag flags[] = {
    {.name = "once", .kind = CLI_BOOL, .help = "renew it once and end"},
    {0},
};

const struct cli_command ctl_lease_keep_alive_command = {
    .name = "keep-alive",
    .usage = "[options] <leaseID>",
    .brief = "Keeps a lease from expiring",
    .flags = flags,
    .run = run_keep_alive,
};
