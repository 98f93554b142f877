/* put, get, del, compaction. */
#include "tools/ctl/kv.h"

#include "base/buf.h"
#include "tools/ctl/ctl.h"
#include "tools/print/text.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define STDIN_BYTES_MAX (32U << 20) /* etcd refuses requests over 1.5 MiB unless told otherwise */
#define STDIN_STEP_BYTES 65536U

static uint8_t zero_key[1] = {0};

static ProtobufCBinaryData zero(void)
{
    return (ProtobufCBinaryData){.len = 1, .data = zero_key};
}

/* ---- put ---- */

#define PUT_ARGUMENTS "put command needs 1 argument and input from stdin or 2 arguments"

/* All of standard input, into the cli's arena. Errors: ST_NOT_FOUND (nothing there), ST_TOO_BIG,
 * ST_IO, ST_NO_MEMORY. */
static enum status read_stdin(struct cli *cli, ProtobufCBinaryData *out)
{
    struct buf buf;
    buf_init(&buf, STDIN_BYTES_MAX);
    enum status st = ST_OK;
    ssize_t got = 1;
    while (st == ST_OK && got != 0) {
        uint8_t *room;
        st = buf_extend(&buf, STDIN_STEP_BYTES, &room);
        if (st != ST_OK)
            break;
        got = read(STDIN_FILENO, room, STDIN_STEP_BYTES);
        buf.len -= got > 0 ? STDIN_STEP_BYTES - (size_t)got : STDIN_STEP_BYTES;
        if (got < 0 && errno != EINTR)
            st = ST_IO;
    }
    struct slice copy = SLICE_EMPTY;
    if (st == ST_OK)
        st = buf.len == 0 ? ST_NOT_FOUND : arena_copy(&cli->arena, buf_slice(&buf), &copy);
    buf_deinit(&buf);
    *out = (ProtobufCBinaryData){.len = copy.len, .data = (uint8_t *)(uintptr_t)copy.data};
    return st;
}

static int put_value(struct cli *line, bool may_read_stdin, Etcdserverpb__PutRequest *out)
{
    if (line->words_count > 1) {
        out->value = ctl_bytes(line->words[1]);
        return CLI_EXIT_OK;
    }
    enum status st = may_read_stdin ? read_stdin(line, &out->value) : ST_NOT_FOUND;
    if (st == ST_TOO_BIG)
        return cli_fail(line, CLI_EXIT_BAD_ARGUMENTS, "the value is over %u bytes",
                        STDIN_BYTES_MAX);
    if (st != ST_OK)
        return cli_fail(line, CLI_EXIT_BAD_ARGUMENTS, PUT_ARGUMENTS);
    return CLI_EXIT_OK;
}

int kv_read_put(struct cli *line, bool may_read_stdin, Etcdserverpb__PutRequest *out)
{
    if (line->words_count == 0)
        return cli_fail(line, CLI_EXIT_BAD_ARGUMENTS, PUT_ARGUMENTS);
    out->key = ctl_bytes(line->words[0]);
    out->ignore_value = cli_bool(line, "ignore-value");
    out->ignore_lease = cli_bool(line, "ignore-lease");
    out->prev_kv = cli_bool(line, "prev-kv");
    if (out->ignore_value && line->words_count > 1)
        return cli_fail(line, CLI_EXIT_BAD_ARGUMENTS,
                        "put command needs only 1 argument when 'ignore-value' is set");
    int code = out->ignore_value ? CLI_EXIT_OK : put_value(line, may_read_stdin, out);
    if (code != CLI_EXIT_OK)
        return code;
    const char *error;
    if (cli_parse_int(line, cli_string(line, "lease"), 16, &out->lease, &error) != ST_OK)
        return cli_fail(line, CLI_EXIT_BAD_ARGUMENTS, "bad lease ID (%s), expecting ID in Hex",
                        error);
    return CLI_EXIT_OK;
}

void kv_simple_put(struct ctl *ctl, const Etcdserverpb__PutResponse *response)
{
    fputs("OK\n", ctl->cli->out);
    if (response->prev_kv != NULL)
        ctl_simple_kv(ctl, response->prev_kv);
}

void kv_fields_put(struct ctl *ctl, const Etcdserverpb__PutResponse *response)
{
    ctl_fields_header(ctl, response->header);
    if (response->prev_kv != NULL)
        ctl_fields_kv(ctl, "Prev", response->prev_kv);
}

static void simple_put(struct ctl *ctl, const void *message, const void *about)
{
    (void)about;
    kv_simple_put(ctl, message);
}

static void fields_put(struct ctl *ctl, const void *message, const void *about)
{
    (void)about;
    kv_fields_put(ctl, message);
}

static int run_put(struct cli *cli)
{
    static const struct ctl_method method = {"/etcdserverpb.KV/Put",
                                             &etcdserverpb__put_response__descriptor, false};
    static const struct ctl_view view = {.simple = simple_put, .fields = fields_put};
    Etcdserverpb__PutRequest request = ETCDSERVERPB__PUT_REQUEST__INIT;
    int code = kv_read_put(cli, /* may_read_stdin= */ true, &request);
    return code == CLI_EXIT_OK ? ctl_ask(cli, &method, &request.base, &view, NULL) : code;
}

static const struct cli_flag put_flags[] = {
    {.name = "lease",
     .kind = CLI_STRING,
     .initial = "0",
     .help = "attach the key to the lease with this ID (hexadecimal)"},
    {.name = "prev-kv", .kind = CLI_BOOL, .help = "also print the pair that was there before"},
    {.name = "ignore-value", .kind = CLI_BOOL, .help = "keep the key's value, change the rest"},
    {.name = "ignore-lease", .kind = CLI_BOOL, .help = "keep the key's lease, change the rest"},
    {0},
};

const struct cli_command ctl_put_command = {
    .name = "put",
    .usage = "[options] <key> <value> (<value> can also be given from stdin)",
    .brief = "Stores a value under a key",
    .text = "Without a value on the command line (and without --ignore-value) the value is what\n"
            "standard input holds, its last line end included:\n\n"
            "$ put <key> < file\n\n"
            "A key or value that begins with '-' goes behind '--', or it is taken for a flag:\n\n"
            "$ put <key> -- <value>\n"
            "$ put -- <key> <value>",
    .flags = put_flags,
    .run = run_put,
};

/* ---- ranges ---- */

#define PREFIX_OR_FROM "`--prefix` and `--from-key` cannot be set at the same time, choose one"
#define ONE_WITH_PREFIX \
    "too many arguments, only accept one argument when `--prefix` or `--from-key` is set"

/* <key> [range_end] with --prefix and --from-key. Returns an exit code. */
static int read_range(struct cli *line, ProtobufCBinaryData *key, ProtobufCBinaryData *end)
{
    bool prefix = cli_bool(line, "prefix"), from_key = cli_bool(line, "from-key");
    *key = ctl_bytes(line->words[0]);
    if (line->words_count > 1) {
        if (prefix || from_key)
            return cli_fail(line, CLI_EXIT_BAD_ARGUMENTS, ONE_WITH_PREFIX);
        *end = ctl_bytes(line->words[1]);
    }
    if ((prefix || from_key) && key->len == 0)
        *key = *end = zero(); /* every key */
    else if (from_key)
        *end = zero();
    else if (prefix && ctl_prefix_end(line, *key, end) != ST_OK)
        return cli_fail(line, CLI_EXIT_ERROR, "out of memory");
    return CLI_EXIT_OK;
}

/* ---- get ---- */

/* The row of names that text is, letters in either case alike; -1 for none. */
static int find_name(const char *const *names, size_t count, const char *text)
{
    for (size_t i = 0; i < count; i++) {
        if (strcasecmp(names[i], text) == 0)
            return (int)i;
    }
    return -1;
}

static int read_sort(struct cli *line, Etcdserverpb__RangeRequest *out)
{
    static const char *const orders[] = {"", "ASCEND", "DESCEND"}; /* by the enum's numbers */
    static const char *const targets[] = {"KEY", "VERSION", "CREATE", "MODIFY", "VALUE"};
    const char *order_text = cli_string(line, "order"), *target_text = cli_string(line, "sort-by");
    int order = find_name(orders, 3, order_text);
    if (order < 0)
        return cli_fail(line, CLI_EXIT_BAD_FEATURE, "bad sort order %s", order_text);
    int target = *target_text == '\0' ? 0 : find_name(targets, 5, target_text);
    if (target < 0)
        return cli_fail(line, CLI_EXIT_BAD_FEATURE, "bad sort target %s", target_text);
    out->sort_order = (Etcdserverpb__RangeRequest__SortOrder)order;
    out->sort_target = (Etcdserverpb__RangeRequest__SortTarget)target;
    /* Keys come in ascending order anyway; asked to sort, the server would fetch all of them first.
     */
    if (target == 0 && order == 1)
        out->sort_order = ETCDSERVERPB__RANGE_REQUEST__SORT_ORDER__NONE;
    return CLI_EXIT_OK;
}

int kv_read_get(struct cli *line, Etcdserverpb__RangeRequest *out)
{
    if (line->words_count == 0)
        return cli_fail(
            line, CLI_EXIT_BAD_ARGUMENTS,
            "get command needs one argument as key and an optional argument as range_end");
    if (cli_bool(line, "prefix") && cli_bool(line, "from-key"))
        return cli_fail(line, CLI_EXIT_BAD_ARGUMENTS, PREFIX_OR_FROM);
    out->keys_only = cli_bool(line, "keys-only");
    out->count_only = cli_bool(line, "count-only");
    if (out->keys_only && out->count_only)
        return cli_fail(
            line, CLI_EXIT_BAD_ARGUMENTS,
            "`--keys-only` and `--count-only` cannot be set at the same time, choose one");
    const char *consistency = cli_string(line, "consistency");
    out->serializable = strcmp(consistency, "s") == 0;
    if (!out->serializable && strcmp(consistency, "l") != 0) {
        char *quoted =
            arena_alloc_raw(&line->arena, print_quoted_size(slice_from_str(consistency)) + 1);
        if (quoted != NULL)
            print_quoted_write(slice_from_str(consistency), quoted);
        return cli_fail(line, CLI_EXIT_BAD_FEATURE, "unknown consistency flag %s",
                        quoted == NULL ? "" : quoted);
    }
    int code = read_range(line, &out->key, &out->range_end);
    if (code != CLI_EXIT_OK)
        return code;
    out->limit = cli_int(line, "limit");
    out->revision = cli_int(line, "rev") > 0 ? cli_int(line, "rev") : 0;
    return read_sort(line, out);
}

void kv_simple_get(struct ctl *ctl, const Etcdserverpb__RangeResponse *response)
{
    for (size_t i = 0; i < response->n_kvs; i++)
        ctl_simple_kv(ctl, response->kvs[i]);
}

void kv_fields_get(struct ctl *ctl, const Etcdserverpb__RangeResponse *response)
{
    ctl_fields_header(ctl, response->header);
    for (size_t i = 0; i < response->n_kvs; i++)
        ctl_fields_kv(ctl, "", response->kvs[i]);
    print_field_bool(ctl->cli->out, "More", response->more);
    print_field_i64(ctl->cli->out, "Count", response->count);
}

static void simple_get(struct ctl *ctl, const void *message, const void *about)
{
    (void)about;
    kv_simple_get(ctl, message);
}

static void fields_get(struct ctl *ctl, const void *message, const void *about)
{
    (void)about;
    kv_fields_get(ctl, message);
}

const struct ctl_view kv_get_view = {.simple = simple_get, .fields = fields_get};

static int get(struct ctl *ctl, const Etcdserverpb__RangeRequest *request)
{
    static const struct ctl_method method = {"/etcdserverpb.KV/Range",
                                             &etcdserverpb__range_response__descriptor, false};
    struct ctl_answer answer = ctl_call(ctl, &method, &request->base);
    if (answer.error != NULL)
        return cli_fail(ctl->cli, CLI_EXIT_ERROR, "%s", answer.error);
    if (request->count_only && ctl->writer != CTL_FIELDS)
        return cli_fail(ctl->cli, CLI_EXIT_BAD_ARGUMENTS,
                        "--count-only is only for `--write-out=fields`");
    ctl->value_only = cli_bool(ctl->cli, "print-value-only");
    if (ctl->value_only && ctl->writer != CTL_SIMPLE)
        return cli_fail(ctl->cli, CLI_EXIT_BAD_ARGUMENTS,
                        "print-value-only is only for `--write-out=simple`");
    return ctl_show(ctl, &kv_get_view, answer.message, NULL);
}

static int run_get(struct cli *cli)
{
    Etcdserverpb__RangeRequest request = ETCDSERVERPB__RANGE_REQUEST__INIT;
    int code = kv_read_get(cli, &request);
    if (code != CLI_EXIT_OK)
        return code;
    struct ctl ctl;
    code = ctl_open(cli, &ctl);
    if (code == CLI_EXIT_OK)
        code = get(&ctl, &request);
    ctl_close(&ctl);
    return code;
}

static const struct cli_flag get_flags[] = {
    {.name = "consistency",
     .kind = CLI_STRING,
     .initial = "l",
     .help = "l: linearizable, what the cluster agreed on; s: serializable, what the member has"},
    {.name = "order", .kind = CLI_STRING, .help = "ASCEND or DESCEND (ASCEND if not given)"},
    {.name = "sort-by",
     .kind = CLI_STRING,
     .help = "what to order by: CREATE, KEY, MODIFY, VALUE or VERSION"},
    {.name = "limit", .kind = CLI_INT, .help = "print at most so many; 0: all"},
    {.name = "prefix", .kind = CLI_BOOL, .help = "all keys that begin with <key>"},
    {.name = "from-key", .kind = CLI_BOOL, .help = "<key> and all keys behind it, bytewise"},
    {.name = "rev", .kind = CLI_INT, .help = "as of this revision; 0: the newest"},
    {.name = "keys-only", .kind = CLI_BOOL, .help = "no values"},
    {.name = "count-only", .kind = CLI_BOOL, .help = "only the number of keys"},
    {.name = "print-value-only",
     .kind = CLI_BOOL,
     .help = "only the values, with the \"simple\" output format"},
    {0},
};

const struct cli_command ctl_get_command = {
    .name = "get",
    .usage = "[options] <key> [range_end]",
    .brief = "Prints a key or a range of keys",
    .flags = get_flags,
    .run = run_get,
};

/* ---- del ---- */

int kv_read_del(struct cli *line, Etcdserverpb__DeleteRangeRequest *out)
{
    if (line->words_count == 0 || line->words_count > 2)
        return cli_fail(
            line, CLI_EXIT_BAD_ARGUMENTS,
            "del command needs one argument as key and an optional argument as range_end");
    if (cli_bool(line, "prefix") && cli_bool(line, "from-key"))
        return cli_fail(line, CLI_EXIT_BAD_ARGUMENTS, PREFIX_OR_FROM);
    int code = read_range(line, &out->key, &out->range_end);
    if (code != CLI_EXIT_OK)
        return code;
    if (line->words_count > 1 && !cli_bool(line, "range"))
        fputs("In etcd v3.6, the operation will be suspended for a few seconds to provide the user "
              "time to verify range.\n",
              line->err);
    out->prev_kv = cli_bool(line, "prev-kv");
    return CLI_EXIT_OK;
}

void kv_simple_del(struct ctl *ctl, const Etcdserverpb__DeleteRangeResponse *response)
{
    fprintf(ctl->cli->out, "%" PRId64 "\n", response->deleted);
    for (size_t i = 0; i < response->n_prev_kvs; i++)
        ctl_simple_kv(ctl, response->prev_kvs[i]);
}

void kv_fields_del(struct ctl *ctl, const Etcdserverpb__DeleteRangeResponse *response)
{
    ctl_fields_header(ctl, response->header);
    print_field_i64(ctl->cli->out, "Deleted", response->deleted);
    for (size_t i = 0; i < response->n_prev_kvs; i++)
        ctl_fields_kv(ctl, "Prev", response->prev_kvs[i]);
}

static void simple_del(struct ctl *ctl, const void *message, const void *about)
{
    (void)about;
    kv_simple_del(ctl, message);
}

static void fields_del(struct ctl *ctl, const void *message, const void *about)
{
    (void)about;
    kv_fields_del(ctl, message);
}

static int run_del(struct cli *cli)
{
    static const struct ctl_method method = {
        "/etcdserverpb.KV/DeleteRange", &etcdserverpb__delete_range_response__descriptor, false};
    static const struct ctl_view view = {.simple = simple_del, .fields = fields_del};
    Etcdserverpb__DeleteRangeRequest request = ETCDSERVERPB__DELETE_RANGE_REQUEST__INIT;
    int code = kv_read_del(cli, &request);
    return code == CLI_EXIT_OK ? ctl_ask(cli, &method, &request.base, &view, NULL) : code;
}

static const struct cli_flag del_flags[] = {
    {.name = "prefix", .kind = CLI_BOOL, .help = "all keys that begin with <key>"},
    {.name = "prev-kv", .kind = CLI_BOOL, .help = "also print what is deleted"},
    {.name = "from-key", .kind = CLI_BOOL, .help = "<key> and all keys behind it, bytewise"},
    {.name = "range", .kind = CLI_BOOL, .help = "delete from <key> up to [range_end], no warning"},
    {0},
};

const struct cli_command ctl_del_command = {
    .name = "del",
    .usage = "[options] <key> [range_end]",
    .brief = "Deletes a key or a range of keys, [range_end] left out",
    .flags = del_flags,
    .run = run_del,
};

/* ---- compaction ---- */

static int compact(struct ctl *ctl, const Etcdserverpb__CompactionRequest *request)
{
    static const struct ctl_method method = {"/etcdserverpb.KV/Compact",
                                             &etcdserverpb__compaction_response__descriptor, false};
    struct ctl_answer answer = ctl_call(ctl, &method, &request->base);
    if (answer.error != NULL)
        return cli_fail(ctl->cli, CLI_EXIT_ERROR, "%s", answer.error);
    fprintf(ctl->cli->out, "compacted revision %" PRId64 "\n", request->revision);
    return CLI_EXIT_OK;
}

static int run_compaction(struct cli *cli)
{
    if (cli->words_count != 1)
        return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS, "compaction command needs 1 argument");
    Etcdserverpb__CompactionRequest request = ETCDSERVERPB__COMPACTION_REQUEST__INIT;
    request.physical = cli_bool(cli, "physical");
    const char *error;
    if (cli_parse_int(cli, cli->words[0], 10, &request.revision, &error) != ST_OK)
        return cli_fail(cli, CLI_EXIT_ERROR, "%s", error);
    struct ctl ctl;
    int code = ctl_open(cli, &ctl);
    if (code == CLI_EXIT_OK)
        code = compact(&ctl, &request);
    ctl_close(&ctl);
    return code;
}

static const struct cli_flag compaction_flags[] = {
    {.name = "physical",
     .kind = CLI_BOOL,
     .help = "wait until the old revisions are gone from the disk as well"},
    {0},
};

const struct cli_command ctl_compaction_command = {
    .name = "compaction",
    .usage = "[options] <revision>",
    .brief = "Forgets the history before a revision",
    .flags = compaction_flags,
    .run = run_compaction,
};
