/* watch: prints what happens to keys, one command line or many lines of standard input. */
#include "tools/ctl/exec.h"

#include "tools/client/watches.h"
#include "tools/ctl/words.h"
#include "tools/print/message.h"
#include "tools/print/text.h"

#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINE_BYTES_MAX (4U << 20)
#define STDIN_POLL_MS 20U /* how late a line may be noticed */

static const char wrong_count[] = "bad number of arguments";
static const char wrong_count_env[] = "bad number of arguments (found conflicting environment key)";
static const char wrong_count_dashes[] =
    "bad number of arguments (found separator --, but no commands)";

struct watch_session {
    struct ctl ctl;
    struct watches *watches;
    uint32_t active;    /* watchers that have not ended */
    int code;           /* set when the command is to end */
    bool ends;          /* at once, with code */
    bool progress_flag; /* --progress-notify of the command line, for lines too */
};

/* One watcher: what its command line or line asked for. */
struct watch {
    struct watch_session *session;
    struct watcher *watcher;
    char **command; /* to run for each event, ended by NULL; NULL: none */
};

/* ---- writers ---- */

/* etcdctl shows neither id nor reason. */
static Etcdserverpb__WatchResponse shown_part(const Etcdserverpb__WatchResponse *response)
{
    static Etcdserverpb__ResponseHeader none = ETCDSERVERPB__RESPONSE_HEADER__INIT;
    Etcdserverpb__WatchResponse part = ETCDSERVERPB__WATCH_RESPONSE__INIT;
    part.header = response->header != NULL ? response->header : &none;
    part.events = response->events;
    part.n_events = response->n_events;
    part.compact_revision = response->compact_revision;
    part.canceled = response->canceled;
    part.created = response->created;
    return part;
}

static const char *type_name(const Mvccpb__Event *event)
{
    return event->type == MVCCPB__EVENT__EVENT_TYPE__PUT ? "PUT" : "DELETE";
}

static void simple(struct ctl *ctl, const void *message, const void *about)
{
    (void)about;
    const Etcdserverpb__WatchResponse *response = message;
    for (size_t i = 0; i < response->n_events; i++) {
        const Mvccpb__Event *event = response->events[i];
        fprintf(ctl->cli->out, "%s\n", type_name(event));
        if (event->prev_kv != NULL)
            ctl_simple_kv(ctl, event->prev_kv);
        ctl_simple_kv(ctl, event->kv);
    }
}

static void fields(struct ctl *ctl, const void *message, const void *about)
{
    (void)about;
    const Etcdserverpb__WatchResponse *response = message;
    ctl_fields_header(ctl, response->header);
    for (size_t i = 0; i < response->n_events; i++) {
        const Mvccpb__Event *event = response->events[i];
        print_field_bare(ctl->cli->out, "Type", type_name(event));
        if (event->prev_kv != NULL)
            ctl_fields_kv(ctl, "Prev", event->prev_kv);
        ctl_fields_kv(ctl, "", event->kv);
    }
}

static void json(struct ctl *ctl, const void *message, const void *about)
{
    const bool *without_events = about;
    const Etcdserverpb__WatchResponse *response = message;
    struct print_json out = print_json_to(ctl->cli->out);
    print_json_object(&out, NULL);
    print_json_message(&out, "Header", &response->header->base);
    if (*without_events) {
        print_json_null(&out, "Events");
    } else {
        print_json_array(&out, "Events");
        for (size_t i = 0; i < response->n_events; i++)
            print_json_message(&out, NULL, &response->events[i]->base);
        print_json_array_end(&out);
    }
    print_json_i64(&out, "CompactRevision", response->compact_revision);
    print_json_bool(&out, "Canceled", response->canceled);
    print_json_bool(&out, "Created", response->created);
    print_json_object_end(&out);
}

/* A response that is the server's has a list of events, be it empty; one that tells of a broken
 * stream is made here and has none. */
static void show(struct watch_session *session, const Etcdserverpb__WatchResponse *response,
                 bool is_servers)
{
    static const struct ctl_view view = {.simple = simple, .fields = fields, .json = json};
    Etcdserverpb__WatchResponse part = shown_part(response);
    bool without_events = !is_servers;
    int code = ctl_show(&session->ctl, &view, &part, &without_events);
    fflush(session->ctl.cli->out);
    if (code != CLI_EXIT_OK) {
        session->ends = true;
        session->code = code;
    }
}

/* ---- the program that is run for events ---- */

static char *quoted_variable(struct ctl *ctl, const char *name, struct slice value)
{
    size_t name_len = strlen(name);
    char *out = arena_alloc(&ctl->arena, name_len + print_quoted_size(value) + 2);
    if (out != NULL)
        print_quoted_write(value, stpcpy(stpcpy(out, name), "="));
    return out;
}

static void tell_failed(struct ctl *ctl, char *const *command, const char *error)
{
    fputs("command [", ctl->cli->err);
    for (char *const *word = command; *word != NULL; word++) {
        if (word != command)
            fputc(' ', ctl->cli->err);
        print_quoted(ctl->cli->err, slice_from_str(*word));
    }
    fprintf(ctl->cli->err, "] error (%s)\n", error);
}

static bool run_for_event(struct ctl *ctl, char *const *command, int64_t revision,
                          const Mvccpb__Event *event)
{
    char revision_text[64];
    snprintf(revision_text, sizeof(revision_text), "ETCD_WATCH_REVISION=%" PRId64, revision);
    char *variables[] = {
        revision_text,
        quoted_variable(ctl, "ETCD_WATCH_EVENT_TYPE", slice_from_str(type_name(event))),
        quoted_variable(ctl, "ETCD_WATCH_KEY", ctl_slice(event->kv->key)),
        quoted_variable(ctl, "ETCD_WATCH_VALUE", ctl_slice(event->kv->value)),
        NULL,
    };
    bool has_memory = variables[1] != NULL && variables[2] != NULL && variables[3] != NULL;
    const char *error =
        has_memory ? exec_run(ctl, command, variables, /* wins= */ true) : "out of memory";
    if (error != NULL)
        tell_failed(ctl, command, error);
    arena_reset(&ctl->arena);
    return error == NULL;
}

/* ---- events of a watcher ---- */

static void on_response(void *context, const Etcdserverpb__WatchResponse *response)
{
    struct watch *watch = context;
    struct watch_session *session = watch->session;
    struct ctl *ctl = &session->ctl;
    int64_t revision = response->header != NULL ? response->header->revision : 0;
    if (session->ends)
        return;
    if (response->canceled)
        fputs("watch was canceled (etcdserver: mvcc: required revision has been compacted)\n",
              ctl->cli->err);
    else if (response->n_events == 0 && revision != 0)
        fprintf(ctl->cli->out, "progress notify: %" PRId64 "\n", revision);
    show(session, response, /* is_servers= */ true);
    for (size_t i = 0; watch->command != NULL && !session->ends && i < response->n_events; i++) {
        if (!run_for_event(ctl, watch->command, revision, response->events[i])) {
            session->ends = true;
            session->code = CLI_EXIT_ERROR;
        }
    }
}

static void on_ended(void *context, const char *error)
{
    struct watch *watch = context;
    struct watch_session *session = watch->session;
    session->active--;
    if (error == NULL || session->ends)
        return;
    fprintf(session->ctl.cli->err, "watch was canceled (%s)\n", error);
    Etcdserverpb__WatchResponse canceled = ETCDSERVERPB__WATCH_RESPONSE__INIT;
    canceled.canceled = true;
    show(session, &canceled, /* is_servers= */ false);
}

/* ---- what is asked for ---- */

/* Key and end from words that are no flags. Returns what is wrong, NULL for nothing. */
static const char *read_range(struct cli *cli, const struct cli *line, char *const *words,
                              uint32_t count, struct watcher_options *out)
{
    if (count == 0)
        return wrong_count;
    ProtobufCBinaryData key = ctl_bytes(words[0]), end = {.len = 0};
    bool prefix = cli_bool(line, "prefix");
    if (count == 2) {
        if (prefix)
            return "`range_end` and `--prefix` are mutually exclusive";
        end = ctl_bytes(words[1]);
    }
    if (prefix && key.len == 0) {
        key = (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t) "", .len = 1};
        end = key;
    } else if (prefix && ctl_prefix_end(cli, key, &end) != ST_OK) {
        return "out of memory";
    }
    out->key = ctl_slice(key);
    out->range_end = ctl_slice(end);
    return NULL;
}

/* The words before "--", headed by those of the environment. */
struct asked {
    char *words[4]; /* more than two do not matter, but count */
    uint32_t count;
    char **command;
};

static const char *read_words(const struct cli *line, struct asked *out)
{
    const char *key = getenv("ETCDCTL_WATCH_KEY"), *end = getenv("ETCDCTL_WATCH_RANGE_END");
    bool has_key = key != NULL && *key != '\0', has_end = end != NULL && *end != '\0';
    uint32_t own_count = line->words_before_dashes;
    *out = (struct asked){.count = 0};
    if (line->dashes && line->words_count == own_count)
        return wrong_count_dashes;
    if (!line->dashes && line->words_count == 0 && !has_key)
        return wrong_count;
    if (has_key && own_count > 0)
        return wrong_count_env;
    if (has_key)
        out->words[out->count++] = (char *)(uintptr_t)key;
    if (has_key && has_end)
        out->words[out->count++] = (char *)(uintptr_t)end;
    for (uint32_t i = 0; i < own_count && out->count < 4; i++)
        out->words[out->count++] = line->words[i];
    if (line->dashes)
        out->command = line->words + own_count;
    return NULL;
}

/* A copy of the command that lives as long as the cli. */
static char **kept_command(struct cli *cli, char *const *command, uint32_t count)
{
    char **out = ARENA_ARRAY(&cli->arena, char *, count + 1);
    for (uint32_t i = 0; out != NULL && i < count; i++)
        out[i] = (char *)(uintptr_t)cli_format(cli, "%s", command[i]);
    return out;
}

/* Adds the watcher that line asks for. Returns what is wrong, NULL for nothing. */
static const char *add_watch(struct watch_session *session, const struct cli *line,
                             const struct asked *asked)
{
    struct cli *cli = session->ctl.cli;
    struct watcher_options options = {.start_revision = cli_int(line, "rev"),
                                      .prev_kv = cli_bool(line, "prev-kv"),
                                      .progress_notify = session->progress_flag};
    const char *error = read_range(cli, line, asked->words, asked->count, &options);
    if (error != NULL)
        return error;
    struct watch *watch = ARENA_NEW(&cli->arena, struct watch);
    if (watch == NULL)
        return "out of memory";
    watch->session = session;
    if (asked->command != NULL)
        watch->command =
            kept_command(cli, asked->command, line->words_count - line->words_before_dashes);
    struct watcher_events events = {on_response, on_ended, watch};
    enum status st = watches_add(session->watches, &options, &events, &watch->watcher);
    if (st != ST_OK)
        return status_str(st);
    session->active++;
    return NULL;
}

/* ---- one watch, of the command line ---- */

static int step(struct watch_session *session, uint64_t timeout_ms)
{
    enum status st = watches_poll(session->watches, timeout_ms);
    if (st == ST_OK)
        return CLI_EXIT_OK;
    return cli_fail(session->ctl.cli, CLI_EXIT_ERROR, "%s", status_str(st));
}

static int run_single(struct watch_session *session, const struct asked *asked)
{
    struct cli *cli = session->ctl.cli;
    const char *error = add_watch(session, cli, asked);
    if (error != NULL)
        return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS, "%s", error);
    int code = CLI_EXIT_OK;
    while (code == CLI_EXIT_OK && !session->ends && session->active > 0)
        code = step(session, WATCHES_STEP_MS);
    if (code != CLI_EXIT_OK)
        return code;
    if (session->ends)
        return session->code;
    return cli_fail(cli, CLI_EXIT_INTERRUPTED, "watch is canceled by the server");
}

/* ---- many, of lines ---- */

struct input {
    char *bytes; /* in the cli's arena */
    size_t len;
    bool ended;
};

/* Takes what standard input has, without waiting. */
static void fill(struct input *input)
{
    struct pollfd ready = {.fd = STDIN_FILENO, .events = POLLIN};
    if (input->ended || poll(&ready, 1, 0) <= 0)
        return;
    ssize_t got = read(STDIN_FILENO, input->bytes + input->len, LINE_BYTES_MAX - input->len);
    if (got <= 0)
        input->ended = true; /* a line that has no end is none */
    else
        input->len += (size_t)got;
}

/* The next whole line, without its end, NUL-terminated, in the cli's arena; NULL when there is none
 * yet. */
static const char *next_line(struct cli *cli, struct input *input)
{
    char *end = memchr(input->bytes, '\n', input->len);
    if (end == NULL)
        return NULL;
    size_t len = (size_t)(end - input->bytes);
    const char *line = cli_format(cli, "%.*s", (int)len, input->bytes);
    input->len -= len + 1;
    memmove(input->bytes, end + 1, input->len);
    return line;
}

/* "watch ..." with the words after it. Returns an exit code; a line that only cannot be watched is
 * told and passed over. */
static int obey_watch(struct watch_session *session, const char *text, char **words, uint32_t count)
{
    struct cli *cli = session->ctl.cli, line;
    struct asked asked;
    const char *error = NULL;
    enum status st = cli_read(&ctl_watch_command, count, words, &line);
    if (st == ST_OK)
        error = read_words(&line, &asked);
    else
        error = st == ST_INVALID ? line.error : status_str(st);
    int code = CLI_EXIT_OK;
    if (error != NULL) {
        code = cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS, "%s", error);
    } else {
        error = add_watch(session, &line, &asked);
        if (error != NULL)
            fprintf(cli->err, "Invalid command %s (%s)\n", text, error);
    }
    cli_deinit(&line);
    return code;
}

static int obey(struct watch_session *session, const char *text)
{
    struct cli *cli = session->ctl.cli;
    char **words;
    uint32_t count;
    const char *error;
    if (words_split(cli, text, &words, &count, &error) != ST_OK || count == 0) {
        fprintf(cli->err, "Invalid command: %s (watch and progress supported)\n", text);
    } else if (strcmp(words[0], "progress") == 0) {
        enum status st = watches_request_progress(session->watches);
        if (st != ST_OK)
            return cli_fail(cli, CLI_EXIT_ERROR, "%s", status_str(st));
    } else if (strcmp(words[0], "watch") != 0) {
        fprintf(cli->err, "Invalid command %s (only support watch)\n", text);
    } else {
        const char *key = getenv("ETCDCTL_WATCH_KEY");
        if (count > 1 || (key != NULL && *key != '\0'))
            return obey_watch(session, text, words + 1, count - 1);
        fprintf(cli->err, "Invalid command %s (command type or key is not provided)\n", text);
    }
    return CLI_EXIT_OK;
}

static int run_interactive(struct watch_session *session)
{
    struct cli *cli = session->ctl.cli;
    struct input input = {.bytes = arena_alloc_raw(&cli->arena, LINE_BYTES_MAX)};
    if (input.bytes == NULL)
        return cli_fail(cli, CLI_EXIT_ERROR, "out of memory");
    int code = CLI_EXIT_OK;
    while (code == CLI_EXIT_OK && !session->ends) {
        /* The next line waits until what the last one asked for is being watched. */
        bool is_settled = watches_are_confirmed(session->watches);
        const char *line = NULL;
        if (is_settled) {
            fill(&input);
            line = next_line(cli, &input);
        }
        if (line != NULL)
            code = obey(session, line);
        else if (is_settled && (input.ended || input.len == LINE_BYTES_MAX))
            return cli_fail(cli, CLI_EXIT_INVALID_INPUT, "error reading watch request line: %s",
                            input.ended ? "EOF" : "it is too long");
        if (code == CLI_EXIT_OK)
            code = step(session, line != NULL ? 0 : STDIN_POLL_MS);
    }
    return session->ends ? session->code : code;
}

/* ---- the command ---- */

static int run_watch(struct cli *cli)
{
    const char *key = getenv("ETCDCTL_WATCH_KEY"), *end = getenv("ETCDCTL_WATCH_RANGE_END");
    if ((key == NULL || *key == '\0') && end != NULL && *end != '\0') {
        fputs("Error: ETCDCTL_WATCH_KEY is empty but got ETCDCTL_WATCH_RANGE_END=", cli->err);
        print_quoted(cli->err, slice_from_str(end));
        fputc('\n', cli->err);
        return CLI_EXIT_BAD_ARGUMENTS;
    }
    bool interactive = cli_bool(cli, "interactive");
    struct asked asked = {.count = 0};
    const char *error = interactive ? NULL : read_words(cli, &asked);
    if (error != NULL)
        return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS, "%s", error);
    struct watch_session session = {.progress_flag = cli_bool(cli, "progress-notify")};
    int code = ctl_open(cli, &session.ctl);
    if (code == CLI_EXIT_OK) {
        session.watches = watches_new(session.ctl.caller, /* require_leader= */ true);
        if (session.watches == NULL)
            code = cli_fail(cli, CLI_EXIT_ERROR, "out of memory");
        else
            code = interactive ? run_interactive(&session) : run_single(&session, &asked);
    }
    watches_free(session.watches);
    ctl_close(&session.ctl);
    return code;
}

static const struct cli_flag flags[] = {
    {.name = "interactive", .letter = 'i', .kind = CLI_BOOL, .help = "read watches from stdin"},
    {.name = "prefix", .kind = CLI_BOOL, .help = "watch all keys that begin with the key"},
    {.name = "rev", .kind = CLI_INT, .help = "first revision to tell of (0: what is to come)"},
    {.name = "prev-kv", .kind = CLI_BOOL, .help = "also tell what was there before"},
    {.name = "progress-notify",
     .kind = CLI_BOOL,
     .help = "tell from time to time how far the server is"},
    {0},
};

const struct cli_command ctl_watch_command = {
    .name = "watch",
    .usage = "[options] [key or prefix] [range_end] [--] [exec-command arg1 arg2 ...]",
    .brief = "Prints what happens to keys",
    .text = "A command behind -- is run for each event, with ETCD_WATCH_REVISION,\n"
            "ETCD_WATCH_EVENT_TYPE, ETCD_WATCH_KEY and ETCD_WATCH_VALUE in its environment.\n"
            "ETCDCTL_WATCH_KEY and ETCDCTL_WATCH_RANGE_END stand for the arguments.\n"
            "With -i each line of standard input is a watch like a command line, or `progress`.",
    .flags = flags,
    .run = run_watch,
};
