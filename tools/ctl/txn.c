/* txn: comparisons and operations from the lines of standard input. */
#include "tools/ctl/ctl.h"
#include "tools/ctl/kv.h"
#include "tools/ctl/words.h"

#include <string.h>

#define LINES_MAX                                                                   \
    65536U /* of one part; servers refuse over 128 operations unless told otherwise \
            */

/* Room for one more item in an array that doubles; NULL without memory or over LINES_MAX. */
static void *grow(struct cli *cli, void *items, size_t count, size_t size)
{
    if (count != 0 && (count & (count - 1)) != 0)
        return items;
    if (count > LINES_MAX)
        return NULL;
    void *grown = arena_alloc_array(&cli->arena, count == 0 ? 1 : count * 2, size);
    if (grown != NULL && count > 0)
        memcpy(grown, items, count * size);
    return grown;
}

static int no_room(struct cli *cli)
{
    return cli_fail(cli, CLI_EXIT_INVALID_INPUT, "out of memory, or over %u lines", LINES_MAX);
}

/* ---- comparisons ---- */

static int malformed(struct cli *cli, const char *line, const char *why)
{
    return cli_fail(cli, CLI_EXIT_INVALID_INPUT, "malformed comparison: %s%s", line, why);
}

static bool is_one_of(struct slice text, const char *a, const char *b)
{
    return slice_eq(text, slice_from_str(a)) || slice_eq(text, slice_from_str(b));
}

static int set_number(struct cli *cli, const char *line, struct slice text, int64_t *out)
{
    const char *error;
    const char *number = cli_format(cli, "%.*s", (int)text.len, (const char *)text.data);
    if (cli_parse_int(cli, number, 10, out, &error) == ST_OK)
        return CLI_EXIT_OK;
    return cli_fail(cli, CLI_EXIT_INVALID_INPUT, "invalid txn compare request: %s", line);
}

/* Compares what `target` names with value. Returns an exit code. */
static int set_target(struct cli *cli, const char *line, struct slice target, struct slice value,
                      Etcdserverpb__Compare *out)
{
    if (is_one_of(target, "val", "value")) {
        out->target = ETCDSERVERPB__COMPARE__COMPARE_TARGET__VALUE;
        out->target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_VALUE;
        out->value =
            (ProtobufCBinaryData){.len = value.len, .data = (uint8_t *)(uintptr_t)value.data};
        return CLI_EXIT_OK;
    }
    if (is_one_of(target, "ver", "version")) {
        out->target = ETCDSERVERPB__COMPARE__COMPARE_TARGET__VERSION;
        out->target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_VERSION;
        return set_number(cli, line, value, &out->version);
    }
    if (is_one_of(target, "c", "create")) {
        out->target = ETCDSERVERPB__COMPARE__COMPARE_TARGET__CREATE;
        out->target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_CREATE_REVISION;
        return set_number(cli, line, value, &out->create_revision);
    }
    if (is_one_of(target, "m", "mod")) {
        out->target = ETCDSERVERPB__COMPARE__COMPARE_TARGET__MOD;
        out->target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_MOD_REVISION;
        return set_number(cli, line, value, &out->mod_revision);
    }
    if (is_one_of(target, "lease", "lease"))
        return malformed(cli, line, " (leases cannot be compared here)");
    return malformed(
        cli, line,
        cli_format(cli, " (unknown target %.*s)", (int)target.len, (const char *)target.data));
}

static int set_operator(struct cli *cli, const char *line, struct slice text,
                        Etcdserverpb__Compare *out)
{
    static const char *const names[] = {"=", ">", "<", "!="}; /* by the enum's numbers */
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (slice_eq(text, slice_from_str(names[i]))) {
            out->result = (Etcdserverpb__Compare__CompareResult)i;
            return CLI_EXIT_OK;
        }
    }
    return malformed(
        cli, line,
        cli_format(cli, " (unknown operator %.*s)", (int)text.len, (const char *)text.data));
}

/* mod("key") > "0" */
static int read_compare(struct cli *cli, const char *line, Etcdserverpb__Compare *out)
{
    struct words_compare parts;
    if (words_read_compare(cli, line, &parts) != ST_OK)
        return no_room(cli);
    if (!parts.bracket)
        return malformed(cli, line, "");
    if (parts.found < WORDS_COMPARE_PARTS)
        return malformed(cli, line, words_compare_got(cli, &parts));
    int code = set_target(cli, line, parts.target, parts.value, out);
    out->key =
        (ProtobufCBinaryData){.len = parts.key.len, .data = (uint8_t *)(uintptr_t)parts.key.data};
    return code == CLI_EXIT_OK ? set_operator(cli, line, parts.operation, out) : code;
}

static int add_compare(struct cli *cli, const char *line, Etcdserverpb__TxnRequest *out)
{
    Etcdserverpb__Compare **grown =
        grow(cli, out->compare, out->n_compare, sizeof(Etcdserverpb__Compare *));
    Etcdserverpb__Compare *compare = ARENA_NEW(&cli->arena, Etcdserverpb__Compare);
    if (grown == NULL || compare == NULL)
        return no_room(cli);
    etcdserverpb__compare__init(compare);
    out->compare = grown;
    out->compare[out->n_compare++] = compare;
    return read_compare(cli, line, compare);
}

/* ---- operations ---- */

static int read_put(struct cli *line, Etcdserverpb__RequestOp *out)
{
    Etcdserverpb__PutRequest *request = ARENA_NEW(&line->arena, Etcdserverpb__PutRequest);
    if (request == NULL)
        return no_room(line);
    etcdserverpb__put_request__init(request);
    out->request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT;
    out->request_put = request;
    return kv_read_put(line, /* may_read_stdin= */ false, request);
}

static int read_get(struct cli *line, Etcdserverpb__RequestOp *out)
{
    Etcdserverpb__RangeRequest *request = ARENA_NEW(&line->arena, Etcdserverpb__RangeRequest);
    if (request == NULL)
        return no_room(line);
    etcdserverpb__range_request__init(request);
    out->request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_RANGE;
    out->request_range = request;
    return kv_read_get(line, request);
}

static int read_del(struct cli *line, Etcdserverpb__RequestOp *out)
{
    Etcdserverpb__DeleteRangeRequest *request =
        ARENA_NEW(&line->arena, Etcdserverpb__DeleteRangeRequest);
    if (request == NULL)
        return no_room(line);
    etcdserverpb__delete_range_request__init(request);
    out->request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_DELETE_RANGE;
    out->request_delete_range = request;
    return kv_read_del(line, request);
}

static const struct {
    const struct cli_command *command;
    int (*read)(struct cli *line, Etcdserverpb__RequestOp *out);
} operations[] = {
    {&ctl_put_command, read_put},
    {&ctl_get_command, read_get},
    {&ctl_del_command, read_del},
};

#define OPERATIONS (sizeof(operations) / sizeof(operations[0]))

/* put k v, get k, del k with their flags. The line's cli, which what was read borrows from, is kept
 * in the list of *lines until the end of the run. */
struct line {
    struct cli cli;
    struct line *next;
};

static int read_operation(struct cli *cli, const char *text, Etcdserverpb__RequestOp *out,
                          struct line **lines)
{
    char **words;
    uint32_t count;
    const char *error = NULL;
    if (words_split(cli, text, &words, &count, &error) != ST_OK)
        return cli_fail(cli, CLI_EXIT_INVALID_INPUT, "%s", error);
    if (count < 2)
        return cli_fail(cli, CLI_EXIT_INVALID_INPUT, "invalid txn compare request: %s", text);
    for (size_t i = 0; i < OPERATIONS; i++) {
        /* Shortened names work as on the command line; these three differ in their first letter. */
        if (words[0][0] == '\0' ||
            strncmp(operations[i].command->name, words[0], strlen(words[0])) != 0)
            continue;
        struct line *line = ARENA_NEW(&cli->arena, struct line);
        if (line == NULL)
            return no_room(cli);
        enum status st = cli_read(operations[i].command, count - 1, words + 1, &line->cli);
        line->next = *lines;
        *lines = line;
        line->cli.out = cli->out;
        line->cli.err = cli->err;
        if (st == ST_OK)
            return operations[i].read(&line->cli, out);
        break;
    }
    return cli_fail(cli, CLI_EXIT_INVALID_INPUT, "invalid txn request: %s", text);
}

static int add_operation(struct cli *cli, const char *text, struct line **lines,
                         Etcdserverpb__RequestOp ***operations_out, size_t *count)
{
    Etcdserverpb__RequestOp **grown =
        grow(cli, *operations_out, *count, sizeof(Etcdserverpb__RequestOp *));
    Etcdserverpb__RequestOp *operation = ARENA_NEW(&cli->arena, Etcdserverpb__RequestOp);
    if (grown == NULL || operation == NULL)
        return no_room(cli);
    etcdserverpb__request_op__init(operation);
    *operations_out = grown;
    grown[(*count)++] = operation;
    return read_operation(cli, text, operation, lines);
}

/* ---- the three parts ---- */

enum part { COMPARES, SUCCESS, FAILURE, PARTS };

static int add_line(struct cli *cli, enum part part, const char *text, struct line **lines,
                    Etcdserverpb__TxnRequest *out)
{
    switch (part) {
    case COMPARES:
        return add_compare(cli, text, out);
    case SUCCESS:
        return add_operation(cli, text, lines, &out->success, &out->n_success);
    case FAILURE:
    case PARTS:
        break;
    }
    return add_operation(cli, text, lines, &out->failure, &out->n_failure);
}

/* Reads one part, which ends with an empty line. Returns an exit code. */
static int read_part(struct cli *cli, enum part part, struct line **lines,
                     Etcdserverpb__TxnRequest *out)
{
    static const char *const prompts[] = {
        [COMPARES] = "compares:",
        [SUCCESS] = "success requests (get, put, del):",
        [FAILURE] = "failure requests (get, put, del):",
    };
    if (cli_bool(cli, "interactive")) {
        fprintf(cli->out, "%s\n", prompts[part]);
        fflush(cli->out);
    }
    for (;;) {
        const char *text;
        enum status st = words_read_line(cli, stdin, &text);
        if (st != ST_OK)
            return cli_fail(cli, CLI_EXIT_INVALID_INPUT, "%s",
                            st == ST_NOT_FOUND ? "EOF" : status_str(st));
        if (*text == '\0')
            return CLI_EXIT_OK;
        int code = add_line(cli, part, text, lines, out);
        if (code != CLI_EXIT_OK)
            return code;
    }
}

/* ---- the answer ---- */

static void simple_response(struct ctl *ctl, const Etcdserverpb__ResponseOp *response)
{
    fputc('\n', ctl->cli->out);
    switch (response->response_case) {
    case ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_PUT:
        kv_simple_put(ctl, response->response_put);
        break;
    case ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_RANGE:
        kv_simple_get(ctl, response->response_range);
        break;
    case ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_DELETE_RANGE:
        kv_simple_del(ctl, response->response_delete_range);
        break;
    default:
        fputs("unexpected response\n", ctl->cli->out);
    }
}

static void simple_txn(struct ctl *ctl, const void *message, const void *about)
{
    const Etcdserverpb__TxnResponse *response = message;
    (void)about;
    fputs(response->succeeded ? "SUCCESS\n" : "FAILURE\n", ctl->cli->out);
    for (size_t i = 0; i < response->n_responses; i++)
        simple_response(ctl, response->responses[i]);
}

static void fields_txn(struct ctl *ctl, const void *message, const void *about)
{
    const Etcdserverpb__TxnResponse *response = message;
    (void)about;
    ctl_fields_header(ctl, response->header);
    fprintf(ctl->cli->out, "\"Succeeded\" : %s\n", response->succeeded ? "true" : "false");
    for (size_t i = 0; i < response->n_responses; i++) {
        const Etcdserverpb__ResponseOp *op = response->responses[i];
        if (op->response_case == ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_PUT)
            kv_fields_put(ctl, op->response_put);
        else if (op->response_case == ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_RANGE)
            kv_fields_get(ctl, op->response_range);
        else if (op->response_case == ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_DELETE_RANGE)
            kv_fields_del(ctl, op->response_delete_range);
    }
}

static int commit(struct ctl *ctl, struct line **lines)
{
    static const struct ctl_method method = {"/etcdserverpb.KV/Txn",
                                             &etcdserverpb__txn_response__descriptor, true};
    static const struct ctl_view view = {.simple = simple_txn, .fields = fields_txn};
    Etcdserverpb__TxnRequest request = ETCDSERVERPB__TXN_REQUEST__INIT;
    int code = CLI_EXIT_OK;
    for (int part = COMPARES; part < PARTS && code == CLI_EXIT_OK; part++)
        code = read_part(ctl->cli, (enum part)part, lines, &request);
    if (code != CLI_EXIT_OK)
        return code;
    struct ctl_answer answer = ctl_call(ctl, &method, &request.base);
    if (answer.error != NULL)
        return cli_fail(ctl->cli, CLI_EXIT_ERROR, "%s", answer.error);
    return ctl_show(ctl, &view, answer.message, NULL);
}

static int run_txn(struct cli *cli)
{
    if (cli->words_count != 0)
        return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS, "txn command does not accept argument");
    struct ctl ctl;
    struct line *lines = NULL;
    int code = ctl_open(cli, &ctl);
    if (code == CLI_EXIT_OK)
        code = commit(&ctl, &lines);
    for (; lines != NULL; lines = lines->next)
        cli_deinit(&lines->cli);
    ctl_close(&ctl);
    return code;
}

static const struct cli_flag txn_flags[] = {
    {.name = "interactive",
     .letter = 'i',
     .kind = CLI_BOOL,
     .help = "say what is read next: comparisons, then requests"},
    {0},
};

const struct cli_command ctl_txn_command = {
    .name = "txn",
    .usage = "[options]",
    .brief = "Does several requests as one, if comparisons hold",
    .text = "Reads from standard input three parts, each ended by an empty line: comparisons, the\n"
            "requests if all of them hold, the requests if not.\n\n"
            "$ cleatctl txn <<END\n"
            "mod(\"key1\") > \"0\"\n"
            "value(\"key2\") = \"x\"\n\n"
            "put key1 \"a new value\"\n"
            "get key2\n\n"
            "del key1 --prefix\n\n"
            "END\n\n"
            "Compared can be value, version, create and mod by =, !=, < and >.",
    .flags = txn_flags,
    .run = run_txn,
};
