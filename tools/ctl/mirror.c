/* make-mirror: copies keys into another cluster, then every change as it happens. */
#include "tools/ctl/ctl.h"

#include "base/clock.h"
#include "tools/client/watches.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

#define PAGE_KEYS 1000
#define REPORT_S 30U

struct mirror {
    struct ctl from, to; /* to has its own caller and arena, and shares the cli */
    struct slice prefix, to_prefix;
    int64_t revision;
    int64_t copied;
    uint64_t next_report_ns;
    const char *error; /* of a write while watching, in the cli's arena; NULL: none */
    bool is_over;
};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

/* How many keys have been written so far, every 30 s. */
static void report(struct mirror *mirror)
{
    if (now_ns() < mirror->next_report_ns)
        return;
    mirror->next_report_ns += REPORT_S * NS_PER_S;
    fprintf(mirror->from.cli->out, "%" PRId64 "\n", mirror->copied);
    fflush(mirror->from.cli->out);
}

/* The key with its first prefix replaced; in to's arena. Data is NULL without memory. */
static ProtobufCBinaryData moved_key(struct mirror *mirror, ProtobufCBinaryData key)
{
    struct slice prefix = mirror->prefix, to = mirror->to_prefix;
    size_t before = 0;
    if (prefix.len > 0) {
        const uint8_t *found = memmem(key.data, key.len, prefix.data, prefix.len);
        if (found == NULL)
            return key;
        before = (size_t)(found - key.data);
    }
    ProtobufCBinaryData out = {.len = key.len - prefix.len + to.len};
    out.data = arena_alloc(&mirror->to.arena, out.len + 1);
    if (out.data == NULL)
        return out;
    if (before > 0)
        memcpy(out.data, key.data, before);
    if (to.len > 0)
        memcpy(out.data + before, to.data, to.len);
    memcpy(out.data + before + to.len, key.data + before + prefix.len,
           key.len - before - prefix.len);
    return out;
}

/* ---- what is there ---- */

static const struct ctl_method range_method = {
    "/etcdserverpb.KV/Range", &etcdserverpb__range_response__descriptor, .unlimited = true};

static const char *find_revision(struct mirror *mirror)
{
    Etcdserverpb__RangeRequest request = ETCDSERVERPB__RANGE_REQUEST__INIT;
    request.key = mirror->prefix.len > 0
                      ? ctl_bytes((const char *)mirror->prefix.data)
                      : ctl_bytes("foo"); /* any key will do: it is the header that counts */
    struct ctl_answer answer = ctl_call(&mirror->from, &range_method, &request.base);
    if (answer.error != NULL)
        return answer.error;
    const Etcdserverpb__RangeResponse *response = answer.message;
    mirror->revision = response->header != NULL ? response->header->revision : 0;
    return NULL;
}

static const char *put(struct mirror *mirror, const Mvccpb__KeyValue *kv)
{
    static const struct ctl_method method = {
        "/etcdserverpb.KV/Put", &etcdserverpb__put_response__descriptor, .unlimited = true};
    Etcdserverpb__PutRequest request = ETCDSERVERPB__PUT_REQUEST__INIT;
    request.key = moved_key(mirror, kv->key);
    request.value = kv->value;
    if (request.key.data == NULL)
        return "out of memory";
    const char *error = ctl_call(&mirror->to, &method, &request.base).error;
    if (error != NULL)
        return cli_format(mirror->from.cli, "%s", error);
    arena_reset(&mirror->to.arena);
    mirror->copied++;
    report(mirror);
    return NULL;
}

/* All keys as of mirror->revision, page by page. */
static const char *copy_all(struct mirror *mirror, ProtobufCBinaryData key,
                            ProtobufCBinaryData range_end)
{
    bool more = true;
    while (more) {
        Etcdserverpb__RangeRequest request = ETCDSERVERPB__RANGE_REQUEST__INIT;
        request.key = key;
        request.range_end = range_end;
        request.limit = PAGE_KEYS;
        request.revision = mirror->revision;
        struct ctl_answer answer = ctl_call(&mirror->from, &range_method, &request.base);
        if (answer.error != NULL)
            return answer.error;
        const Etcdserverpb__RangeResponse *page = answer.message;
        for (size_t i = 0; i < page->n_kvs; i++) {
            const char *error = put(mirror, page->kvs[i]);
            if (error != NULL)
                return error;
        }
        more = page->more && page->n_kvs > 0;
        if (!more)
            break;
        /* On behind the last one, whose bytes end with the page. */
        ProtobufCBinaryData last = page->kvs[page->n_kvs - 1]->key;
        uint8_t *next = arena_alloc(&mirror->from.cli->arena, last.len + 1);
        if (next == NULL)
            return "out of memory";
        memcpy(next, last.data, last.len);
        key = (ProtobufCBinaryData){.len = last.len + 1, .data = next};
        arena_reset(&mirror->from.arena);
    }
    return NULL;
}

/* ---- what happens ---- */

/* The changes of one revision, as one transaction. */
static const char *commit(struct mirror *mirror, Mvccpb__Event **events, size_t count)
{
    static const struct ctl_method method = {
        "/etcdserverpb.KV/Txn", &etcdserverpb__txn_response__descriptor, .unlimited = true};
    struct arena *arena = &mirror->to.arena;
    Etcdserverpb__RequestOp *ops = ARENA_ARRAY(arena, Etcdserverpb__RequestOp, count);
    Etcdserverpb__RequestOp **list = ARENA_ARRAY(arena, Etcdserverpb__RequestOp *, count);
    Etcdserverpb__PutRequest *puts = ARENA_ARRAY(arena, Etcdserverpb__PutRequest, count);
    Etcdserverpb__DeleteRangeRequest *deletes =
        ARENA_ARRAY(arena, Etcdserverpb__DeleteRangeRequest, count);
    if (ops == NULL || list == NULL || puts == NULL || deletes == NULL)
        return "out of memory";
    for (size_t i = 0; i < count; i++) {
        list[i] = &ops[i];
        etcdserverpb__request_op__init(&ops[i]);
        etcdserverpb__put_request__init(&puts[i]);
        etcdserverpb__delete_range_request__init(&deletes[i]);
        ProtobufCBinaryData key = moved_key(mirror, events[i]->kv->key);
        if (key.data == NULL)
            return "out of memory";
        if (events[i]->type == MVCCPB__EVENT__EVENT_TYPE__PUT) {
            puts[i].key = key;
            puts[i].value = events[i]->kv->value;
            ops[i].request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT;
            ops[i].request_put = &puts[i];
        } else {
            deletes[i].key = key;
            ops[i].request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_DELETE_RANGE;
            ops[i].request_delete_range = &deletes[i];
        }
    }
    Etcdserverpb__TxnRequest request = ETCDSERVERPB__TXN_REQUEST__INIT;
    request.success = list;
    request.n_success = count;
    return ctl_call(&mirror->to, &method, &request.base).error;
}

static void on_response(void *context, const Etcdserverpb__WatchResponse *response)
{
    struct mirror *mirror = context;
    if (mirror->is_over)
        return;
    if (response->compact_revision != 0)
        mirror->error = "etcdserver: mvcc: required revision has been compacted";
    size_t begin = 0;
    for (size_t i = 1; mirror->error == NULL && i <= response->n_events; i++) {
        if (i < response->n_events &&
            response->events[i]->kv->mod_revision == response->events[begin]->kv->mod_revision)
            continue;
        const char *error = commit(mirror, response->events + begin, i - begin);
        if (error != NULL)
            mirror->error = cli_format(mirror->from.cli, "%s", error);
        mirror->copied += (int64_t)(i - begin);
        begin = i;
        arena_reset(&mirror->to.arena);
        report(mirror);
    }
    mirror->is_over = mirror->error != NULL;
}

static void on_ended(void *context, const char *error)
{
    struct mirror *mirror = context;
    if (mirror->error == NULL)
        mirror->error = error != NULL ? cli_format(mirror->from.cli, "%s", error)
                                      : "watch is canceled by the server";
    mirror->is_over = true;
}

static const char *follow(struct mirror *mirror, ProtobufCBinaryData key,
                          ProtobufCBinaryData range_end)
{
    struct watches *watches = watches_new(mirror->from.caller, /* require_leader= */ false);
    if (watches == NULL)
        return "out of memory";
    struct watcher_options options = {.key = ctl_slice(key),
                                      .range_end = ctl_slice(range_end),
                                      .start_revision = mirror->revision + 1};
    struct watcher_events events = {on_response, on_ended, mirror};
    struct watcher *watcher;
    enum status st = watches_add(watches, &options, &events, &watcher);
    while (st == ST_OK && !mirror->is_over) {
        st = watches_poll(watches, WATCHES_STEP_MS);
        report(mirror);
    }
    watches_free(watches);
    return st == ST_OK ? mirror->error : status_str(st);
}

/* ---- the command ---- */

/* Ends only with an error. */
static const char *run(struct mirror *mirror)
{
    ProtobufCBinaryData key = ctl_bytes((const char *)mirror->prefix.data), end;
    mirror->next_report_ns = now_ns() + REPORT_S * NS_PER_S;
    if (key.len == 0) { /* everything: from the least key on */
        key = (ProtobufCBinaryData){.len = 1, .data = (uint8_t *)(uintptr_t) "\0"};
        end = key;
    } else if (ctl_prefix_end(mirror->from.cli, key, &end) != ST_OK) {
        return "out of memory";
    }
    const char *error = find_revision(mirror);
    if (error == NULL)
        error = copy_all(mirror, key, end);
    if (error == NULL)
        error = follow(mirror, key, end);
    return error;
}

static int read_destination(struct mirror *mirror)
{
    struct cli *cli = mirror->from.cli;
    struct ctl *to = &mirror->to;
    *to = mirror->from;
    to->caller = NULL;
    arena_init(&to->arena, mirror->from.arena.bytes_max);
    to->options.endpoints = cli->words;
    to->options.endpoints_count = 1;
    int code = ctl_read_tls(cli, "dest-", &to->options);
    if (code == CLI_EXIT_OK)
        code = ctl_read_user(cli, "dest-", "Destination Password: ", &to->options);
    if (code == CLI_EXIT_OK)
        code = ctl_dial(to, to->options.endpoints, 1);
    return code;
}

static int read_prefixes(struct mirror *mirror)
{
    struct cli *cli = mirror->from.cli;
    mirror->prefix = slice_from_str(cli_string(cli, "prefix"));
    mirror->to_prefix = slice_from_str(cli_string(cli, "dest-prefix"));
    bool none = cli_bool(cli, "no-dest-prefix");
    if (none && mirror->to_prefix.len > 0)
        return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS,
                        "`--dest-prefix` and `--no-dest-prefix` cannot be set at the same time, "
                        "choose one");
    if (!none && mirror->to_prefix.len == 0)
        mirror->to_prefix = mirror->prefix;
    return CLI_EXIT_OK;
}

static int run_mirror(struct cli *cli)
{
    if (cli->words_count != 1)
        return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS, "make-mirror takes one destination argument");
    struct mirror mirror = {.copied = 0};
    int code = ctl_read_flags(cli, &mirror.from);
    if (code == CLI_EXIT_OK)
        code = read_destination(&mirror);
    if (code == CLI_EXIT_OK)
        code = ctl_dial(&mirror.from, mirror.from.options.endpoints,
                        mirror.from.options.endpoints_count);
    if (code == CLI_EXIT_OK)
        code = read_prefixes(&mirror);
    if (code == CLI_EXIT_OK)
        code = cli_fail(cli, CLI_EXIT_ERROR, "%s", run(&mirror));
    ctl_close(&mirror.to);
    ctl_close(&mirror.from);
    return code;
}

static const struct cli_flag flags[] = {
    {.name = "prefix", .kind = CLI_STRING, .help = "copy only keys that begin with it"},
    {.name = "dest-prefix", .kind = CLI_STRING, .help = "what they begin with over there"},
    {.name = "no-dest-prefix", .kind = CLI_BOOL, .help = "leave --prefix out over there"},
    {.name = "dest-cert", .kind = CLI_STRING, .help = "client certificate for the destination"},
    {.name = "dest-key", .kind = CLI_STRING, .help = "its key"},
    {.name = "dest-cacert",
     .kind = CLI_STRING,
     .help = "certificates that may sign the destination's"},
    {.name = "dest-insecure-transport",
     .kind = CLI_BOOL,
     .initial = "true",
     .help = "no TLS to the destination unless another option asks for it"},
    {.name = "dest-user",
     .kind = CLI_STRING,
     .help = "name[:password] to log in with at the destination"},
    {.name = "dest-password",
     .kind = CLI_STRING,
     .help = "the password, when --dest-user is only a name"},
    {0},
};

const struct cli_command ctl_make_mirror_command = {
    .name = "make-mirror",
    .usage = "[options] <destination>",
    .brief = "Copies keys into another cluster, and every change of them",
    .text = "Prints every 30 s how many keys have been written. Ends only with an error.",
    .flags = flags,
    .run = run_mirror,
};
