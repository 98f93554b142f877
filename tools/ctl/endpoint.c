/* endpoint status, endpoint hashkv: one answer of each endpoint. */
#include "tools/ctl/endpoint.h"

#include "tools/print/message.h"
#include "tools/print/table.h"
#include "tools/print/text.h"

#include <inttypes.h>
#include <string.h>

/* The answer of one endpoint. */
struct row {
    const char *endpoint;
    const void *message;
};

struct rows {
    struct row *items;
    uint32_t count;
};

/* ---- which endpoints ---- */

/* No user: member list needs none, and the password would be asked for in vain. */
static int list_members(struct ctl *ctl, const Etcdserverpb__MemberListResponse **out)
{
    static const struct ctl_method method = {"/etcdserverpb.Cluster/MemberList",
                                             &etcdserverpb__member_list_response__descriptor,
                                             .unlimited = false};
    Etcdserverpb__MemberListRequest request = ETCDSERVERPB__MEMBER_LIST_REQUEST__INIT;
    request.linearizable = true;
    const char *user = ctl->options.user;
    ctl->options.user = NULL;
    struct caller *before = ctl->caller;
    const char *error =
        ctl_connect(ctl, ctl->options.endpoints, ctl->options.endpoints_count, &ctl->caller);
    ctl->options.user = user;
    if (error != NULL) {
        ctl->caller = before;
        return cli_fail(ctl->cli, CLI_EXIT_ERROR, "%s", error);
    }
    struct ctl_answer answer = ctl_call(ctl, &method, &request.base);
    caller_close(ctl->caller);
    ctl->caller = before;
    if (answer.error != NULL)
        return cli_fail(ctl->cli, CLI_EXIT_ERROR,
                        "failed to fetch endpoints from etcd cluster member list: %s",
                        answer.error);
    *out = answer.message;
    return CLI_EXIT_OK;
}

int endpoint_list(struct ctl *ctl, char *const **out, uint32_t *count_out)
{
    *out = ctl->options.endpoints;
    *count_out = ctl->options.endpoints_count;
    if (!cli_bool(ctl->cli, "cluster"))
        return CLI_EXIT_OK;
    const Etcdserverpb__MemberListResponse *list = NULL;
    int code = list_members(ctl, &list);
    if (code != CLI_EXIT_OK)
        return code;
    size_t count = 0;
    for (size_t i = 0; i < list->n_members; i++)
        count += list->members[i]->n_clienturls;
    char **endpoints = ARENA_ARRAY(&ctl->arena, char *, count + 1);
    if (endpoints == NULL)
        return cli_fail(ctl->cli, CLI_EXIT_ERROR, "out of memory");
    *out = endpoints;
    *count_out = (uint32_t)count;
    for (size_t i = 0; i < list->n_members; i++) {
        for (size_t k = 0; k < list->members[i]->n_clienturls; k++)
            *endpoints++ = list->members[i]->clienturls[k];
    }
    return CLI_EXIT_OK;
}

/* ---- asking them ---- */

/* Asks each in turn; who does not answer is told on stderr as "Failed to get the `what` of ...".
 * *error_out is the last of these errors, NULL for none. Returns an exit code. */
static int ask_each(struct ctl *ctl, const struct ctl_method *method,
                    const ProtobufCMessage *request, const char *what, struct rows *out,
                    const char **error_out)
{
    char *const *endpoints;
    uint32_t count;
    *error_out = NULL;
    int code = endpoint_list(ctl, &endpoints, &count);
    if (code != CLI_EXIT_OK)
        return code;
    out->items = ARENA_ARRAY(&ctl->arena, struct row, count + 1);
    if (out->items == NULL)
        return cli_fail(ctl->cli, CLI_EXIT_ERROR, "out of memory");
    for (uint32_t i = 0; i < count; i++) {
        struct ctl_answer answer = ctl_call_at(ctl, endpoints[i], method, request);
        if (answer.error != NULL) {
            *error_out = answer.error;
            fprintf(ctl->cli->err, "Failed to get the %s of endpoint %s (%s)\n", what, endpoints[i],
                    answer.error);
        } else {
            out->items[out->count++] = (struct row){endpoints[i], answer.message};
        }
    }
    return CLI_EXIT_OK;
}

static void show_json(struct ctl *ctl, const struct rows *rows, const char *name)
{
    struct print_json json = print_json_to(ctl->cli->out);
    print_json_array(&json, NULL);
    for (uint32_t i = 0; i < rows->count; i++) {
        print_json_object(&json, NULL);
        print_json_text(&json, "Endpoint", rows->items[i].endpoint);
        print_json_message(&json, name, rows->items[i].message);
        print_json_object_end(&json);
    }
    print_json_array_end(&json);
}

/* ---- status ---- */

static const char *const status_header[] = {
    "ENDPOINT",           "ID",         "VERSION",   "DB SIZE",
    "IS LEADER",          "IS LEARNER", "RAFT TERM", "RAFT INDEX",
    "RAFT APPLIED INDEX", "ERRORS",
};

static const char *joined_errors(struct ctl *ctl, const Etcdserverpb__StatusResponse *status,
                                 const char *separator)
{
    const char *out = "";
    for (size_t i = 0; i < status->n_errors; i++)
        out = cli_format(ctl->cli, "%s%s%s", out, i > 0 ? separator : "", status->errors[i]);
    return out;
}

static enum status add_status(struct ctl *ctl, struct print_table *table, const struct row *row)
{
    static const Etcdserverpb__ResponseHeader none = ETCDSERVERPB__RESPONSE_HEADER__INIT;
    const Etcdserverpb__StatusResponse *status = row->message;
    const Etcdserverpb__ResponseHeader *header = status->header != NULL ? status->header : &none;
    char size[PRINT_SIZE_TEXT_MAX], term[24], index[24], applied[24], id[24];
    snprintf(id, sizeof(id), "%" PRIx64, header->member_id);
    snprintf(term, sizeof(term), "%" PRIu64, status->raftterm);
    snprintf(index, sizeof(index), "%" PRIu64, status->raftindex);
    snprintf(applied, sizeof(applied), "%" PRIu64, status->raftappliedindex);
    const char *cells[] = {
        row->endpoint,
        id,
        status->version,
        print_size((uint64_t)status->dbsize, size),
        status->leader == header->member_id ? "true" : "false",
        status->islearner ? "true" : "false",
        term,
        index,
        applied,
        joined_errors(ctl, status, ", "),
    };
    return print_table_add(table, cells);
}

/* Simple and table are the same rows. */
static void status_rows(struct ctl *ctl, const struct rows *rows,
                        void (*print)(struct ctl *ctl, const struct print_table *table))
{
    struct print_table table;
    print_table_init(&table, status_header, sizeof(status_header) / sizeof(status_header[0]));
    enum status st = ST_OK;
    for (uint32_t i = 0; i < rows->count && st == ST_OK; i++)
        st = add_status(ctl, &table, &rows->items[i]);
    if (st == ST_OK)
        print(ctl, &table);
    else
        fprintf(ctl->cli->err, "%s\n", status_str(st));
    print_table_deinit(&table);
}

static void print_box(struct ctl *ctl, const struct print_table *table)
{
    print_table_print(table, ctl->cli->out);
}

static void status_simple(struct ctl *ctl, const void *message, const void *about)
{
    (void)about;
    status_rows(ctl, message, ctl_rows_simple);
}

static void status_table(struct ctl *ctl, const void *message, const void *about)
{
    (void)about;
    status_rows(ctl, message, print_box);
}

static void status_json(struct ctl *ctl, const void *message, const void *about)
{
    (void)about;
    show_json(ctl, message, "Status");
}

static void status_fields(struct ctl *ctl, const void *message, const void *about)
{
    (void)about;
    const struct rows *rows = message;
    FILE *out = ctl->cli->out;
    for (uint32_t i = 0; i < rows->count; i++) {
        const Etcdserverpb__StatusResponse *status = rows->items[i].message;
        ctl_fields_header(ctl, status->header);
        print_field_quoted(out, "Version", slice_from_str(status->version));
        print_field_i64(out, "DBSize", status->dbsize);
        print_field_u64(out, "Leader", status->leader);
        print_field_bool(out, "IsLearner", status->islearner);
        print_field_u64(out, "RaftIndex", status->raftindex);
        print_field_u64(out, "RaftTerm", status->raftterm);
        print_field_u64(out, "RaftAppliedIndex", status->raftappliedindex);
        print_field_bare(out, "Errors",
                         cli_format(ctl->cli, "[%s]", joined_errors(ctl, status, " ")));
        print_field_quoted(out, "Endpoint", slice_from_str(rows->items[i].endpoint));
        fputc('\n', out);
    }
}

static int run_status(struct cli *cli)
{
    static const struct ctl_method method = {"/etcdserverpb.Maintenance/Status",
                                             &etcdserverpb__status_response__descriptor,
                                             .unlimited = false};
    static const struct ctl_view view = {.simple = status_simple,
                                         .fields = status_fields,
                                         .table = status_table,
                                         .json = status_json,
                                         .no_protobuf = "protobuf not supported as output format"};
    Etcdserverpb__StatusRequest request = ETCDSERVERPB__STATUS_REQUEST__INIT;
    struct ctl ctl;
    struct rows rows = {.count = 0};
    const char *error = NULL;
    int code = ctl_open(cli, &ctl);
    if (code == CLI_EXIT_OK)
        code = ask_each(&ctl, &method, &request.base, "status", &rows, &error);
    if (code == CLI_EXIT_OK)
        code = ctl_show(&ctl, &view, &rows, NULL);
    ctl_close(&ctl);
    return code == CLI_EXIT_OK && error != NULL ? CLI_EXIT_ERROR : code;
}

/* ---- hashkv ---- */

static void hash_rows(struct ctl *ctl, const struct rows *rows,
                      void (*print)(struct ctl *ctl, const struct print_table *table))
{
    static const char *const header[] = {"ENDPOINT", "HASH"};
    struct print_table table;
    print_table_init(&table, header, 2);
    enum status st = ST_OK;
    for (uint32_t i = 0; i < rows->count && st == ST_OK; i++) {
        const Etcdserverpb__HashKVResponse *hash = rows->items[i].message;
        char text[24];
        snprintf(text, sizeof(text), "%" PRIu32, hash->hash);
        const char *cells[] = {rows->items[i].endpoint, text};
        st = print_table_add(&table, cells);
    }
    if (st == ST_OK)
        print(ctl, &table);
    else
        fprintf(ctl->cli->err, "%s\n", status_str(st));
    print_table_deinit(&table);
}

static void hash_simple(struct ctl *ctl, const void *message, const void *about)
{
    (void)about;
    hash_rows(ctl, message, ctl_rows_simple);
}

static void hash_table(struct ctl *ctl, const void *message, const void *about)
{
    (void)about;
    hash_rows(ctl, message, print_box);
}

static void hash_json(struct ctl *ctl, const void *message, const void *about)
{
    (void)about;
    show_json(ctl, message, "HashKV");
}

static void hash_fields(struct ctl *ctl, const void *message, const void *about)
{
    (void)about;
    const struct rows *rows = message;
    for (uint32_t i = 0; i < rows->count; i++) {
        const Etcdserverpb__HashKVResponse *hash = rows->items[i].message;
        ctl_fields_header(ctl, hash->header);
        print_field_quoted(ctl->cli->out, "Endpoint", slice_from_str(rows->items[i].endpoint));
        print_field_u64(ctl->cli->out, "Hash", hash->hash);
        fputc('\n', ctl->cli->out);
    }
}

static int run_hashkv(struct cli *cli)
{
    static const struct ctl_method method = {"/etcdserverpb.Maintenance/HashKV",
                                             &etcdserverpb__hash_kvresponse__descriptor,
                                             .unlimited = false};
    static const struct ctl_view view = {.simple = hash_simple,
                                         .fields = hash_fields,
                                         .table = hash_table,
                                         .json = hash_json,
                                         .no_protobuf = "protobuf not supported as output format"};
    Etcdserverpb__HashKVRequest request = ETCDSERVERPB__HASH_KVREQUEST__INIT;
    request.revision = cli_int(cli, "rev");
    struct ctl ctl;
    struct rows rows = {.count = 0};
    const char *error = NULL;
    int code = ctl_open(cli, &ctl);
    if (code == CLI_EXIT_OK)
        code = ask_each(&ctl, &method, &request.base, "hash", &rows, &error);
    if (code == CLI_EXIT_OK)
        code = ctl_show(&ctl, &view, &rows, NULL);
    if (code == CLI_EXIT_OK && error != NULL)
        code = cli_fail(cli, CLI_EXIT_ERROR, "%s", error);
    ctl_close(&ctl);
    return code;
}

/* ---- the group ---- */

#define CLUSTER_FLAG                                                    \
    {                                                                   \
        .name = "cluster", .kind = CLI_BOOL,                            \
        .help = "ask every member of the cluster, not only --endpoints" \
    }

const struct cli_flag endpoint_cluster_flags[] = {CLUSTER_FLAG, {0}};

static const struct cli_command status_command = {
    .name = "status",
    .brief = "Prints what each endpoint says of itself",
    .text = "The simple output is, by commas: endpoint, ID, version, size of the store, is it the\n"
            "leader, is it a learner, raft term, raft index, applied raft index, errors.",
    .flags = endpoint_cluster_flags,
    .run = run_status,
};

static const struct cli_flag hashkv_flags[] = {
    CLUSTER_FLAG,
    {.name = "rev", .kind = CLI_INT, .help = "hash what was there at this revision (0: now)"},
    {0},
};

static const struct cli_command hashkv_command = {
    .name = "hashkv",
    .brief = "Prints the hash over the keys and their history of each endpoint",
    .flags = hashkv_flags,
    .run = run_hashkv,
};

static const struct cli_command *const commands[] = {&endpoint_health_command, &status_command,
                                                     &hashkv_command, NULL};

const struct cli_command ctl_endpoint_command = {
    .name = "endpoint",
    .usage = "<subcommand>",
    .brief = "Tells how single endpoints are",
    .commands = commands,
};
