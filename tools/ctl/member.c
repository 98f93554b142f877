/* member add, remove, update, list, promote. */
#include "tools/ctl/ctl.h"

#include "server/state/peer_url.h"
#include "tools/print/message.h"
#include "tools/print/table.h"
#include "tools/print/text.h"

#include <inttypes.h>
#include <string.h>

/* ---- peer URLs ---- */

/* Splits --peer-urls into *out. Returns an exit code. */
static int read_peer_urls(struct cli *cli, char ***out, size_t *count_out)
{
    const char *text = cli_string(cli, "peer-urls");
    if (*text == '\0')
        return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS, "member peer urls not provided");
    size_t count = 1;
    for (const char *c = text; *c != '\0'; c++)
        count += *c == ',';
    char **urls = ARENA_ARRAY(&cli->arena, char *, count);
    if (urls == NULL)
        return cli_fail(cli, CLI_EXIT_ERROR, "out of memory");
    for (size_t i = 0; i < count; i++) {
        size_t len = strcspn(text, ",");
        urls[i] = (char *)(uintptr_t)cli_format(cli, "%.*s", (int)len, text);
        text += len + 1;
    }
    *out = urls;
    *count_out = count;
    return CLI_EXIT_OK;
}

/* Asked here so that a mistyped URL is told without a cluster; the server looks again. */
static int check_peer_urls(struct cli *cli, char *const *urls, size_t count)
{
    struct slice *texts = ARENA_ARRAY(&cli->arena, struct slice, count);
    if (texts == NULL)
        return cli_fail(cli, CLI_EXIT_ERROR, "out of memory");
    for (size_t i = 0; i < count; i++)
        texts[i] = slice_from_str(urls[i]);
    const struct slice *sorted;
    const char *why = "too many URLs";
    if (peer_urls_read(texts, (uint32_t)count, &cli->arena, &sorted, &why) != ST_OK)
        return cli_fail(cli, CLI_EXIT_ERROR, "%s", why);
    return CLI_EXIT_OK;
}

static const struct cli_flag update_flags[] = {
    {.name = "peer-urls",
     .kind = CLI_STRING,
     .help = "where the other members reach it, by commas"},
    {0},
};

/* ---- add ---- */

/* The lines that the new member's etcd wants in its environment. */
static void print_environment(struct ctl *ctl, const Etcdserverpb__MemberAddResponse *response,
                              const char *name)
{
    FILE *out = ctl->cli->out;
    const char *cluster = "";
    for (size_t i = 0; i < response->n_members; i++) {
        const Etcdserverpb__Member *member = response->members[i];
        for (size_t j = 0; j < member->n_peerurls; j++)
            cluster = cli_format(ctl->cli, "%s%s%s=%s", cluster, *cluster == '\0' ? "" : ",",
                                 member->id == response->member->id ? name : member->name,
                                 member->peerurls[j]);
    }
    fputs("\nETCD_NAME=", out);
    print_quoted(out, slice_from_str(name));
    fputs("\nETCD_INITIAL_CLUSTER=", out);
    print_quoted(out, slice_from_str(cluster));
    fputs("\nETCD_INITIAL_ADVERTISE_PEER_URLS=", out);
    print_quoted(out, slice_from_str(cli_string(ctl->cli, "peer-urls")));
    fputs("\nETCD_INITIAL_CLUSTER_STATE=\"existing\"\n", out);
}

static void simple_add(struct ctl *ctl, const void *message, const void *about)
{
    const Etcdserverpb__MemberAddResponse *response = message;
    fprintf(ctl->cli->out, "Member %16" PRIx64 " added to cluster %16" PRIx64 "\n",
            response->member->id, response->header->cluster_id);
    print_environment(ctl, response, about);
}

static int run_add(struct cli *cli)
{
    static const struct ctl_method method = {"/etcdserverpb.Cluster/MemberAdd",
                                             &etcdserverpb__member_add_response__descriptor, false};
    static const struct ctl_view view = {.simple = simple_add};
    if (cli->words_count < 1)
        return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS, "member name not provided");
    if (cli->words_count > 1) {
        const char *text = "too many arguments";
        for (uint32_t i = 0; i < cli->words_count; i++) {
            if (strncasecmp(cli->words[i], "http", 4) == 0)
                text = cli_format(cli, "%s, did you mean --peer-urls=%s", text, cli->words[i]);
        }
        return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS, "%s", text);
    }
    Etcdserverpb__MemberAddRequest request = ETCDSERVERPB__MEMBER_ADD_REQUEST__INIT;
    request.islearner = cli_bool(cli, "learner");
    int code = read_peer_urls(cli, &request.peerurls, &request.n_peerurls);
    if (code == CLI_EXIT_OK)
        code = check_peer_urls(cli, request.peerurls, request.n_peerurls);
    return code == CLI_EXIT_OK ? ctl_ask(cli, &method, &request.base, &view, cli->words[0]) : code;
}

static const struct cli_flag add_flags[] = {
    {.name = "peer-urls",
     .kind = CLI_STRING,
     .help = "where the other members reach it, by commas"},
    {.name = "learner", .kind = CLI_BOOL, .help = "add it without a vote"},
    {0},
};

const struct cli_command ctl_member_add_command = {
    .name = "add",
    .usage = "<memberName> [options]",
    .brief = "Adds a member to the cluster",
    .flags = add_flags,
    .run = run_add,
};

/* ---- remove, update, promote: an id, and a sentence about it ---- */

/* What is printed: "Member <id> removed from cluster <cluster>". */
struct change {
    uint64_t id;
    const char *what;
};

static int read_id(struct cli *cli, uint64_t *out)
{
    if (cli->words_count != 1)
        return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS, "member ID is not provided");
    return ctl_member_argument(cli, cli->words[0], out);
}

static void print_change(struct ctl *ctl, const struct change *change,
                         const Etcdserverpb__ResponseHeader *header)
{
    fprintf(ctl->cli->out, "Member %16" PRIx64 " %s cluster %16" PRIx64 "\n", change->id,
            change->what, header == NULL ? 0 : header->cluster_id);
}

static void simple_remove(struct ctl *ctl, const void *message, const void *about)
{
    print_change(ctl, about, ((const Etcdserverpb__MemberRemoveResponse *)message)->header);
}

static int run_remove(struct cli *cli)
{
    static const struct ctl_method method = {"/etcdserverpb.Cluster/MemberRemove",
                                             &etcdserverpb__member_remove_response__descriptor,
                                             false};
    static const struct ctl_view view = {.simple = simple_remove};
    struct change change = {.what = "removed from"};
    int code = read_id(cli, &change.id);
    Etcdserverpb__MemberRemoveRequest request = ETCDSERVERPB__MEMBER_REMOVE_REQUEST__INIT;
    request.id = change.id;
    return code == CLI_EXIT_OK ? ctl_ask(cli, &method, &request.base, &view, &change) : code;
}

const struct cli_command ctl_member_remove_command = {
    .name = "remove",
    .usage = "<memberID>",
    .brief = "Removes a member from the cluster",
    .run = run_remove,
};

static void simple_update(struct ctl *ctl, const void *message, const void *about)
{
    print_change(ctl, about, ((const Etcdserverpb__MemberUpdateResponse *)message)->header);
}

static int run_update(struct cli *cli)
{
    static const struct ctl_method method = {"/etcdserverpb.Cluster/MemberUpdate",
                                             &etcdserverpb__member_update_response__descriptor,
                                             false};
    static const struct ctl_view view = {.simple = simple_update};
    struct change change = {.what = "updated in"};
    Etcdserverpb__MemberUpdateRequest request = ETCDSERVERPB__MEMBER_UPDATE_REQUEST__INIT;
    int code = read_id(cli, &change.id);
    request.id = change.id;
    if (code == CLI_EXIT_OK)
        code = read_peer_urls(cli, &request.peerurls, &request.n_peerurls);
    if (code == CLI_EXIT_OK)
        code = check_peer_urls(cli, request.peerurls, request.n_peerurls);
    return code == CLI_EXIT_OK ? ctl_ask(cli, &method, &request.base, &view, &change) : code;
}

const struct cli_command ctl_member_update_command = {
    .name = "update",
    .usage = "<memberID> [options]",
    .brief = "Changes where the other members reach a member",
    .flags = update_flags,
    .run = run_update,
};

static void simple_promote(struct ctl *ctl, const void *message, const void *about)
{
    print_change(ctl, about, ((const Etcdserverpb__MemberPromoteResponse *)message)->header);
}

static int run_promote(struct cli *cli)
{
    static const struct ctl_method method = {"/etcdserverpb.Cluster/MemberPromote",
                                             &etcdserverpb__member_promote_response__descriptor,
                                             false};
    static const struct ctl_view view = {.simple = simple_promote};
    struct change change = {.what = "promoted in"};
    int code = read_id(cli, &change.id);
    Etcdserverpb__MemberPromoteRequest request = ETCDSERVERPB__MEMBER_PROMOTE_REQUEST__INIT;
    request.id = change.id;
    return code == CLI_EXIT_OK ? ctl_ask(cli, &method, &request.base, &view, &change) : code;
}

const struct cli_command ctl_member_promote_command = {
    .name = "promote",
    .usage = "<memberID>",
    .brief = "Gives a learner its vote",
    .run = run_promote,
};

/* ---- list ---- */

static const char *const list_header[] = {"ID",         "STATUS",       "NAME",
                                          "PEER ADDRS", "CLIENT ADDRS", "IS LEARNER"};

static const char *join(struct cli *cli, char *const *texts, size_t count)
{
    const char *joined = count == 0 ? "" : texts[0];
    for (size_t i = 1; i < count; i++)
        joined = cli_format(cli, "%s,%s", joined, texts[i]);
    return joined;
}

/* The rows of simple and table. The caller ends *out. */
static void list_rows(struct ctl *ctl, const Etcdserverpb__MemberListResponse *response,
                      struct print_table *out)
{
    print_table_init(out, list_header, 6);
    for (size_t i = 0; i < response->n_members; i++) {
        const Etcdserverpb__Member *member = response->members[i];
        const char *cells[] = {
            cli_format(ctl->cli, "%" PRIx64, member->id),
            *member->name == '\0' ? "unstarted" : "started",
            member->name,
            join(ctl->cli, member->peerurls, member->n_peerurls),
            join(ctl->cli, member->clienturls, member->n_clienturls),
            member->islearner ? "true" : "false",
        };
        if (print_table_add(out, cells) != ST_OK)
            fputs("out of memory\n", ctl->cli->err);
    }
}

static void simple_list(struct ctl *ctl, const void *message, const void *about)
{
    (void)about;
    struct print_table rows;
    list_rows(ctl, message, &rows);
    ctl_rows_simple(ctl, &rows);
    print_table_deinit(&rows);
}

static void table_list(struct ctl *ctl, const void *message, const void *about)
{
    (void)about;
    struct print_table rows;
    list_rows(ctl, message, &rows);
    print_table_print(&rows, ctl->cli->out);
    print_table_deinit(&rows);
}

static void fields_list(struct ctl *ctl, const void *message, const void *about)
{
    const Etcdserverpb__MemberListResponse *response = message;
    (void)about;
    FILE *out = ctl->cli->out;
    ctl_fields_header(ctl, response->header);
    for (size_t i = 0; i < response->n_members; i++) {
        const Etcdserverpb__Member *member = response->members[i];
        print_field_u64(out, "ID", member->id);
        print_field_quoted(out, "Name", slice_from_str(member->name));
        for (size_t j = 0; j < member->n_peerurls; j++)
            print_field_quoted(out, "PeerURL", slice_from_str(member->peerurls[j]));
        for (size_t j = 0; j < member->n_clienturls; j++)
            print_field_quoted(out, "ClientURL", slice_from_str(member->clienturls[j]));
        print_field_bool(out, "IsLearner", member->islearner);
        fputc('\n', out);
    }
}

static void json_texts(struct print_json *json, const char *key, char *const *texts, size_t count)
{
    if (count == 0) {
        print_json_null(json, key);
        return;
    }
    print_json_array(json, key);
    for (size_t i = 0; i < count; i++)
        print_json_text(json, NULL, texts[i]);
    print_json_array_end(json);
}

/* etcdctl writes this form by hand: ids as hexadecimal texts, "clientURLS", no isLearner. */
static void json_list_hex(struct ctl *ctl, const Etcdserverpb__MemberListResponse *response)
{
    struct print_json json = print_json_to(ctl->cli->out);
    print_json_object(&json, NULL);
    print_json_object(&json, "header");
    print_json_hex(&json, "cluster_id", response->header->cluster_id);
    print_json_hex(&json, "member_id", response->header->member_id);
    print_json_u64(&json, "raft_term", response->header->raft_term);
    print_json_object_end(&json);
    if (response->n_members > 0)
        print_json_array(&json, "members");
    for (size_t i = 0; i < response->n_members; i++) {
        const Etcdserverpb__Member *member = response->members[i];
        print_json_object(&json, NULL);
        print_json_hex(&json, "ID", member->id);
        print_json_text(&json, "name", member->name);
        json_texts(&json, "peerURLs", member->peerurls, member->n_peerurls);
        json_texts(&json, "clientURLS", member->clienturls, member->n_clienturls);
        print_json_object_end(&json);
    }
    if (response->n_members > 0)
        print_json_array_end(&json);
    print_json_object_end(&json);
}

static void json_list(struct ctl *ctl, const void *message, const void *about)
{
    (void)about;
    struct print_json json = print_json_to(ctl->cli->out);
    if (ctl->hex)
        json_list_hex(ctl, message);
    else
        print_json_message(&json, NULL, message);
}

static const struct ctl_method list_method = {
    "/etcdserverpb.Cluster/MemberList", &etcdserverpb__member_list_response__descriptor, false};

static int run_list(struct cli *cli)
{
    static const struct ctl_view view = {
        .simple = simple_list, .fields = fields_list, .table = table_list, .json = json_list};
    Etcdserverpb__MemberListRequest request = ETCDSERVERPB__MEMBER_LIST_REQUEST__INIT;
    request.linearizable = true;
    return ctl_ask(cli, &list_method, &request.base, &view, NULL);
}

const struct cli_command ctl_member_list_command = {
    .name = "list",
    .brief = "Lists the members of the cluster",
    .text = "The simple form has a line for each: ID, status, name, peer addresses, client\n"
            "addresses, whether it is a learner.",
    .run = run_list,
};
