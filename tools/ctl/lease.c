/* lease grant, revoke, timetolive, list. */
#include "tools/ctl/ctl.h"

#include "tools/print/text.h"

#include <inttypes.h>

/* ---- grant ---- */

static void simple_grant(struct ctl *ctl, const void *message, const void *about)
{
    const Etcdserverpb__LeaseGrantResponse *response = message;
    (void)about;
    fprintf(ctl->cli->out, "lease %016" PRIx64 " granted with TTL(%" PRId64 "s)\n",
            (uint64_t)response->id, response->ttl);
}

static void fields_grant(struct ctl *ctl, const void *message, const void *about)
{
    const Etcdserverpb__LeaseGrantResponse *response = message;
    (void)about;
    ctl_fields_header(ctl, response->header);
    print_field_i64(ctl->cli->out, "ID", response->id);
    print_field_i64(ctl->cli->out, "TTL", response->ttl);
}

static void json_grant(struct ctl *ctl, const void *message, const void *about)
{
    const Etcdserverpb__LeaseGrantResponse *response = message;
    (void)about;
    struct print_json json = print_json_to(ctl->cli->out);
    print_json_object(&json, NULL);
    ctl_json_header(&json, response->header);
    print_json_i64(&json, "ID", response->id);
    print_json_i64(&json, "TTL", response->ttl);
    print_json_text(&json, "Error", response->error);
    print_json_object_end(&json);
}

static void protobuf_grant(struct ctl *ctl, const void *message, const void *about)
{
    const Etcdserverpb__LeaseGrantResponse *response = message;
    (void)about;
    ctl_protobuf(ctl, &response->header->base);
}

static int grant_lease(struct ctl *ctl, const Etcdserverpb__LeaseGrantRequest *request)
{
    static const struct ctl_method method = {
        "/etcdserverpb.Lease/LeaseGrant", &etcdserverpb__lease_grant_response__descriptor, false};
    static const struct ctl_view view = {.simple = simple_grant,
                                         .fields = fields_grant,
                                         .json = json_grant,
                                         .protobuf = protobuf_grant};
    struct ctl_answer answer = ctl_call(ctl, &method, &request->base);
    if (answer.error != NULL)
        return cli_fail(ctl->cli, CLI_EXIT_ERROR, "failed to grant lease (%s)", answer.error);
    return ctl_show(ctl, &view, answer.message, NULL);
}

static int run_grant(struct cli *cli)
{
    if (cli->words_count != 1)
        return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS, "lease grant command needs TTL argument");
    Etcdserverpb__LeaseGrantRequest request = ETCDSERVERPB__LEASE_GRANT_REQUEST__INIT;
    const char *error;
    if (cli_parse_int(cli, cli->words[0], 10, &request.ttl, &error) != ST_OK)
        return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS, "bad TTL (%s)", error);
    struct ctl ctl;
    int code = ctl_open(cli, &ctl);
    if (code == CLI_EXIT_OK)
        code = grant_lease(&ctl, &request);
    ctl_close(&ctl);
    return code;
}

const struct cli_command ctl_lease_grant_command = {
    .name = "grant",
    .usage = "<ttl>",
    .brief = "Makes a lease of so many seconds",
    .run = run_grant,
};

/* ---- revoke ---- */

static int revoke_lease(struct ctl *ctl, const Etcdserverpb__LeaseRevokeRequest *request)
{
    static const struct ctl_method method = {
        "/etcdserverpb.Lease/LeaseRevoke", &etcdserverpb__lease_revoke_response__descriptor, false};
    struct ctl_view view = ctl_header_view;
    view.no_protobuf = "marshal unsupported for type clientv3.LeaseRevokeResponse";
    struct ctl_answer answer = ctl_call(ctl, &method, &request->base);
    if (answer.error != NULL)
        return cli_fail(ctl->cli, CLI_EXIT_ERROR, "failed to revoke lease (%s)", answer.error);
    return ctl_show(ctl, &view, answer.message,
                    cli_format(ctl->cli, "lease %016" PRIx64 " revoked", (uint64_t)request->id));
}

static int run_revoke(struct cli *cli)
{
    if (cli->words_count != 1)
        return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS, "lease revoke command needs 1 argument");
    Etcdserverpb__LeaseRevokeRequest request = ETCDSERVERPB__LEASE_REVOKE_REQUEST__INIT;
    int code = ctl_lease_argument(cli, cli->words[0], &request.id);
    if (code != CLI_EXIT_OK)
        return code;
    struct ctl ctl;
    code = ctl_open(cli, &ctl);
    if (code == CLI_EXIT_OK)
        code = revoke_lease(&ctl, &request);
    ctl_close(&ctl);
    return code;
}

const struct cli_command ctl_lease_revoke_command = {
    .name = "revoke",
    .usage = "<leaseID>",
    .brief = "Ends a lease and deletes its keys",
    .run = run_revoke,
};

/* ---- timetolive ---- */

static void simple_ttl(struct ctl *ctl, const void *message, const void *about)
{
    const Etcdserverpb__LeaseTimeToLiveResponse *response = message;
    (void)about;
    FILE *out = ctl->cli->out;
    if (response->grantedttl == 0 && response->ttl == -1) {
        fprintf(out, "lease %016" PRIx64 " already expired\n", (uint64_t)response->id);
        return;
    }
    fprintf(out, "lease %016" PRIx64 " granted with TTL(%" PRId64 "s), remaining(%" PRId64 "s)",
            (uint64_t)response->id, response->grantedttl, response->ttl);
    if (cli_bool(ctl->cli, "keys")) {
        fputs(", attached keys([", out);
        for (size_t i = 0; i < response->n_keys; i++) {
            fputs(i > 0 ? " " : "", out);
            print_slice(out, ctl_slice(response->keys[i]));
        }
        fputs("])", out);
    }
    fputc('\n', out);
}

static void fields_ttl(struct ctl *ctl, const void *message, const void *about)
{
    const Etcdserverpb__LeaseTimeToLiveResponse *response = message;
    (void)about;
    FILE *out = ctl->cli->out;
    ctl_fields_header(ctl, response->header);
    print_field_i64(out, "ID", response->id);
    print_field_i64(out, "TTL", response->ttl);
    print_field_i64(out, "GrantedTTL", response->grantedttl);
    for (size_t i = 0; i < response->n_keys; i++)
        print_field_quoted(out, "Key", ctl_slice(response->keys[i]));
}

static void json_ttl(struct ctl *ctl, const void *message, const void *about)
{
    const Etcdserverpb__LeaseTimeToLiveResponse *response = message;
    (void)about;
    struct print_json json = print_json_to(ctl->cli->out);
    print_json_object(&json, NULL);
    ctl_json_header(&json, response->header);
    print_json_i64(&json, "id", response->id);
    print_json_i64(&json, "ttl", response->ttl);
    print_json_i64(&json, "granted-ttl", response->grantedttl);
    if (response->n_keys == 0) {
        print_json_null(&json, "keys");
    } else {
        print_json_array(&json, "keys");
        for (size_t i = 0; i < response->n_keys; i++)
            print_json_bytes(&json, NULL, ctl_slice(response->keys[i]));
        print_json_array_end(&json);
    }
    print_json_object_end(&json);
}

static void protobuf_ttl(struct ctl *ctl, const void *message, const void *about)
{
    const Etcdserverpb__LeaseTimeToLiveResponse *response = message;
    (void)about;
    ctl_protobuf(ctl, &response->header->base);
}

/* Like ctl_ask(), with the exit code of a bad connection for every error. */
static int ask_without_limit(struct cli *cli, const struct ctl_method *method,
                             const ProtobufCMessage *request, const struct ctl_view *view)
{
    struct ctl ctl;
    int code = ctl_open(cli, &ctl);
    if (code == CLI_EXIT_OK) {
        struct ctl_answer answer = ctl_call(&ctl, method, request);
        code = answer.error != NULL ? cli_fail(cli, CLI_EXIT_BAD_CONNECTION, "%s", answer.error)
                                    : ctl_show(&ctl, view, answer.message, NULL);
    }
    ctl_close(&ctl);
    return code;
}

static int run_ttl(struct cli *cli)
{
    static const struct ctl_method method = {"/etcdserverpb.Lease/LeaseTimeToLive",
                                             &etcdserverpb__lease_time_to_live_response__descriptor,
                                             true};
    static const struct ctl_view view = {
        .simple = simple_ttl, .fields = fields_ttl, .json = json_ttl, .protobuf = protobuf_ttl};
    if (cli->words_count != 1)
        return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS,
                        "lease timetolive command needs lease ID as argument");
    Etcdserverpb__LeaseTimeToLiveRequest request = ETCDSERVERPB__LEASE_TIME_TO_LIVE_REQUEST__INIT;
    request.keys = cli_bool(cli, "keys");
    int code = ctl_lease_argument(cli, cli->words[0], &request.id);
    return code == CLI_EXIT_OK ? ask_without_limit(cli, &method, &request.base, &view) : code;
}

static const struct cli_flag ttl_flags[] = {
    {.name = "keys", .kind = CLI_BOOL, .help = "also print the keys attached to the lease"},
    {0},
};

const struct cli_command ctl_lease_timetolive_command = {
    .name = "timetolive",
    .usage = "<leaseID> [options]",
    .brief = "Tells how long a lease has to live",
    .flags = ttl_flags,
    .run = run_ttl,
};

/* ---- list ---- */

static void simple_list(struct ctl *ctl, const void *message, const void *about)
{
    const Etcdserverpb__LeaseLeasesResponse *response = message;
    (void)about;
    fprintf(ctl->cli->out, "found %zu leases\n", response->n_leases);
    for (size_t i = 0; i < response->n_leases; i++)
        fprintf(ctl->cli->out, "%016" PRIx64 "\n", (uint64_t)response->leases[i]->id);
}

static void fields_list(struct ctl *ctl, const void *message, const void *about)
{
    const Etcdserverpb__LeaseLeasesResponse *response = message;
    (void)about;
    ctl_fields_header(ctl, response->header);
    for (size_t i = 0; i < response->n_leases; i++)
        print_field_i64(ctl->cli->out, "ID", response->leases[i]->id);
}

static void json_list(struct ctl *ctl, const void *message, const void *about)
{
    const Etcdserverpb__LeaseLeasesResponse *response = message;
    (void)about;
    struct print_json json = print_json_to(ctl->cli->out);
    print_json_object(&json, NULL);
    ctl_json_header(&json, response->header);
    print_json_array(&json, "leases");
    for (size_t i = 0; i < response->n_leases; i++) {
        print_json_object(&json, NULL);
        print_json_i64(&json, "id", response->leases[i]->id);
        print_json_object_end(&json);
    }
    print_json_array_end(&json);
    print_json_object_end(&json);
}

static void protobuf_list(struct ctl *ctl, const void *message, const void *about)
{
    const Etcdserverpb__LeaseLeasesResponse *response = message;
    (void)about;
    ctl_protobuf(ctl, &response->header->base);
}

static int run_list(struct cli *cli)
{
    static const struct ctl_method method = {
        "/etcdserverpb.Lease/LeaseLeases", &etcdserverpb__lease_leases_response__descriptor, true};
    static const struct ctl_view view = {
        .simple = simple_list, .fields = fields_list, .json = json_list, .protobuf = protobuf_list};
    Etcdserverpb__LeaseLeasesRequest request = ETCDSERVERPB__LEASE_LEASES_REQUEST__INIT;
    return ask_without_limit(cli, &method, &request.base, &view);
}

const struct cli_command ctl_lease_list_command = {
    .name = "list",
    .brief = "Lists the leases that are alive",
    .run = run_list,
};
