/* elect: takes part in an election, or watches who wins it. */
#include "tools/ctl/kv.h"
#include "tools/ctl/session.h"

#include <string.h>

#define SESSION_TTL_S 60

/* ---- taking part ---- */

static const char *win(struct session *session, const char *value)
{
    const Etcdserverpb__TxnResponse *answer;
    const char *error = session_put_key(session, value, /* with_owner= */ false, &answer);
    if (error != NULL)
        return error;
    error = session_wait_turn(session);
    if (error != NULL && ctl_stop != 0)
        (void)session_delete_key(session, /* exactly= */ true); /* the first error is told */
    return error;
}

static const char *campaign(struct session *session, const char *value, int *code_out)
{
    const Etcdserverpb__RangeResponse *own = NULL;
    const char *error = win(session, value);
    if (error == NULL)
        error = session_get(session, &own);
    if (error != NULL)
        return error;
    *code_out = ctl_show(session->ctl, &kv_get_view, own, NULL);
    fflush(session->ctl->cli->out);
    if (*code_out != CLI_EXIT_OK)
        return NULL;
    while (error == NULL && ctl_stop == 0 && !session_is_over(session))
        error = session_turn(session, KEEPALIVE_STEP_MS);
    if (error != NULL)
        return error;
    return ctl_stop == 0 ? "elect: session expired"
                         : session_delete_key(session, /* exactly= */ true);
}

/* ---- watching ---- */

struct observer {
    struct session *session;
    struct watcher *watcher;
    bool is_over;    /* the watcher is of no more use */
    bool has_leader; /* it is the leader's key that is watched, else all keys below the name */
    bool has_failed;
    int code;
    bool more; /* of the last read: etcdctl shows them with every later change, too */
    int64_t count;
    uint8_t *key; /* the leader's, owned */
    size_t key_len;
    int64_t next_revision;
};

static void show_leader(struct observer *observer, Etcdserverpb__ResponseHeader *header,
                        Mvccpb__KeyValue *kv, bool more, int64_t count)
{
    Etcdserverpb__RangeResponse shown = ETCDSERVERPB__RANGE_RESPONSE__INIT;
    shown.header = header;
    shown.kvs = &kv;
    shown.n_kvs = 1;
    shown.more = more;
    shown.count = count;
    observer->code = ctl_show(observer->session->ctl, &kv_get_view, &shown, NULL);
    fflush(observer->session->ctl->cli->out);
    if (observer->code != CLI_EXIT_OK)
        observer->is_over = true;
}

/* Takes a new leader, known from a read or from the first key that came. */
static void take_leader(struct observer *observer, Etcdserverpb__ResponseHeader *header,
                        Mvccpb__KeyValue *kv, int64_t revision)
{
    free(observer->key);
    observer->key = malloc(kv->key.len + 1);
    if (observer->key == NULL) {
        observer->has_failed = true;
        return;
    }
    memcpy(observer->key, kv->key.data, kv->key.len);
    observer->key_len = kv->key.len;
    observer->has_leader = true;
    observer->next_revision = revision + 1;
    show_leader(observer, header, kv, /* more= */ false, /* count= */ 0);
}

static void on_response(void *context, const Etcdserverpb__WatchResponse *response)
{
    struct observer *observer = context;
    for (size_t i = 0; i < response->n_events && !observer->is_over; i++) {
        const Mvccpb__Event *event = response->events[i];
        bool is_put = event->type == MVCCPB__EVENT__EVENT_TYPE__PUT;
        if (!observer->has_leader && is_put) {
            Etcdserverpb__ResponseHeader header = *response->header;
            header.revision = event->kv->mod_revision;
            observer->is_over = true;
            take_leader(observer, &header, event->kv, header.revision);
        } else if (observer->has_leader && is_put) {
            show_leader(observer, response->header, event->kv, observer->more, observer->count);
        } else if (observer->has_leader) {
            observer->is_over = true;
            observer->has_leader = false;
        }
    }
    observer->has_failed |= response->canceled;
}

static void on_ended(void *context, const char *error)
{
    struct observer *observer = context;
    (void)error;
    observer->watcher = NULL;
    observer->has_failed = true;
}

/* Watches what options say until the watcher is of no more use. */
static void watch(struct observer *observer, const struct watcher_options *options)
{
    struct session *session = observer->session;
    struct watcher_events events = {on_response, on_ended, observer};
    observer->is_over = false;
    if (watches_add(session->watches, options, &events, &observer->watcher) != ST_OK)
        observer->has_failed = true;
    while (!observer->is_over && !observer->has_failed && ctl_stop == 0) {
        if (session_turn(session, KEEPALIVE_STEP_MS) != NULL)
            observer->has_failed = true;
    }
    if (observer->watcher != NULL)
        watches_remove(session->watches, observer->watcher);
    observer->watcher = NULL;
}

static void find_leader(struct observer *observer)
{
    struct session *session = observer->session;
    const Etcdserverpb__RangeResponse *oldest;
    if (session_get_oldest(session, &oldest) != NULL || oldest->header == NULL) {
        observer->has_failed = true;
        return;
    }
    observer->more = oldest->more;
    observer->count = oldest->count;
    if (oldest->n_kvs > 0) {
        take_leader(observer, oldest->header, oldest->kvs[0], oldest->header->revision);
        return;
    }
    ProtobufCBinaryData prefix = ctl_bytes(session->prefix), end;
    if (ctl_prefix_end(session->ctl->cli, prefix, &end) != ST_OK) {
        observer->has_failed = true;
        return;
    }
    struct watcher_options options = {.key = ctl_slice(prefix),
                                      .range_end = ctl_slice(end),
                                      .start_revision = oldest->header->revision};
    watch(observer, &options);
}

static const char *observe(struct session *session, int *code_out)
{
    struct observer observer = {.session = session};
    while (!observer.has_failed && observer.code == CLI_EXIT_OK && ctl_stop == 0) {
        if (!observer.has_leader) {
            find_leader(&observer);
        } else {
            struct watcher_options options = {.key = slice_make(observer.key, observer.key_len),
                                              .start_revision = observer.next_revision};
            watch(&observer, &options);
        }
        arena_reset(&session->ctl->arena);
    }
    free(observer.key);
    *code_out = observer.code;
    return observer.has_failed && ctl_stop == 0 ? "elect: observer lost" : NULL;
}

/* ---- the command ---- */

static int elect(struct ctl *ctl)
{
    struct cli *cli = ctl->cli;
    struct session session;
    int code = CLI_EXIT_OK;
    const char *error = session_open(ctl, cli->words[0], SESSION_TTL_S, &session);
    if (error == NULL) {
        session_catch_signals();
        error = cli->words_count == 1 ? observe(&session, &code)
                                      : campaign(&session, cli->words[1], &code);
    }
    if (error != NULL)
        code = cli_fail(cli, CLI_EXIT_ERROR, "%s", error);
    session_close(&session);
    return code;
}

static int run_elect(struct cli *cli)
{
    bool listen = cli_bool(cli, "listen");
    if (cli->words_count != 1 && cli->words_count != 2)
        return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS,
                        "elect takes one election name argument and an optional proposal argument");
    struct ctl ctl;
    int code = ctl_open(cli, &ctl);
    if (code == CLI_EXIT_OK && cli->words_count == 1 && !listen)
        code = cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS, "no proposal argument but -l not set");
    else if (code == CLI_EXIT_OK && cli->words_count == 2 && listen)
        code = cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS, "proposal given but -l is set");
    else if (code == CLI_EXIT_OK)
        code = elect(&ctl);
    ctl_close(&ctl);
    return code;
}

static const struct cli_flag flags[] = {
    {.name = "listen", .letter = 'l', .kind = CLI_BOOL, .help = "only tell who leads"},
    {0},
};

const struct cli_command ctl_elect_command = {
    .name = "elect",
    .usage = "<election-name> [proposal]",
    .brief = "Takes part in an election, or watches it",
    .flags = flags,
    .run = run_elect,
};
