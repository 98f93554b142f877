/* lock: holds a named lock until a signal comes or a program has ended. */
#include "tools/ctl/exec.h"
#include "tools/ctl/kv.h"
#include "tools/ctl/session.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/wait.h>

#define CHILD_POLL_MS 10U /* how late the program's end may be noticed */

/* Where the lock was acquired: the revision of the answer that said so. */
struct hold {
    struct session session;
    int64_t revision;
};

static bool is_owner(const struct session *session, const Etcdserverpb__TxnResponse *answer)
{
    const Etcdserverpb__RangeResponse *owner = session_range_answer(answer, 1);
    return owner == NULL || owner->n_kvs == 0 ||
           owner->kvs[0]->create_revision == session->revision;
}

static const char *acquire(struct hold *hold)
{
    struct session *session = &hold->session;
    const Etcdserverpb__TxnResponse *answer;
    const char *error = session_put_key(session, "", /* with_owner= */ true, &answer);
    if (error != NULL)
        return error;
    hold->revision = answer->header != NULL ? answer->header->revision : 0;
    if (is_owner(session, answer))
        return NULL;
    const Etcdserverpb__RangeResponse *own = NULL;
    error = session_wait_turn(session);
    if (error == NULL)
        error = session_get(session, &own);
    if (error != NULL) {
        const char *kept = cli_format(session->ctl->cli, "%s", error);
        (void)session_delete_key(session, /* exactly= */ false); /* the first error is told */
        return kept;
    }
    if (own->n_kvs == 0)
        return "mutex: session is expired";
    hold->revision = own->header != NULL ? own->header->revision : 0;
    return NULL;
}

/* ---- with a program ---- */

/* Waits for the child; the lease lives on meanwhile. */
static const char *wait_for_child(struct hold *hold, pid_t pid, int *status_out)
{
    for (;;) {
        pid_t ended = waitpid(pid, status_out, WNOHANG);
        if (ended == pid)
            return NULL;
        if (ended < 0 && errno != EINTR)
            return "cannot wait for the command";
        ctl_stop = 0; /* a signal is the program's matter */
        const char *error = session_turn(&hold->session, CHILD_POLL_MS);
        if (error != NULL)
            return error;
    }
}

static int run_locked(struct hold *hold, char *const *command)
{
    struct session *session = &hold->session;
    struct cli *cli = session->ctl->cli;
    char *variables[] = {
        (char *)(uintptr_t)cli_format(cli, "ETCD_LOCK_KEY=%s", session->key),
        (char *)(uintptr_t)cli_format(cli, "ETCD_LOCK_REV=%" PRId64, hold->revision), NULL};
    pid_t pid;
    int wait_status = 0, code = CLI_EXIT_ERROR;
    const char *error = exec_start(session->ctl, command, variables, /* wins= */ false, &pid);
    if (error == NULL)
        error = wait_for_child(hold, pid, &wait_status);
    if (error == NULL) {
        error = exec_end_text(session->ctl, wait_status);
        code = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : UINT8_MAX;
    }
    if (error != NULL)
        error = cli_format(cli, "%s", error);
    const char *unlock_error = session_delete_key(session, /* exactly= */ false);
    if (error != NULL)
        return cli_fail(cli, code, "%s", error);
    return unlock_error == NULL ? CLI_EXIT_OK : cli_fail(cli, CLI_EXIT_ERROR, "%s", unlock_error);
}

/* ---- until a signal ---- */

static int hold_on(struct hold *hold)
{
    struct session *session = &hold->session;
    struct cli *cli = session->ctl->cli;
    const Etcdserverpb__RangeResponse *own;
    const char *error = session_get(session, &own);
    if (error != NULL)
        return cli_fail(cli, CLI_EXIT_ERROR, "%s", error);
    if (own->n_kvs == 0)
        return cli_fail(cli, CLI_EXIT_ERROR, "lock lost on init");
    int code = ctl_show(session->ctl, &kv_get_view, own, NULL);
    fflush(cli->out);
    if (code != CLI_EXIT_OK)
        return code;
    while (error == NULL && ctl_stop == 0 && !session_is_over(session))
        error = session_turn(session, KEEPALIVE_STEP_MS);
    if (error == NULL && ctl_stop == 0)
        error = "session expired";
    else if (error == NULL)
        error = session_delete_key(session, /* exactly= */ false);
    return error == NULL ? CLI_EXIT_OK : cli_fail(cli, CLI_EXIT_ERROR, "%s", error);
}

static int lock(struct ctl *ctl)
{
    struct cli *cli = ctl->cli;
    struct hold hold;
    int64_t ttl_s = cli_int(cli, "ttl");
    const char *error = session_open(ctl, cli->words[0], ttl_s > 0 ? ttl_s : 60, &hold.session);
    if (error == NULL) {
        session_catch_signals();
        error = acquire(&hold);
    }
    int code;
    if (error != NULL)
        code = cli_fail(cli, CLI_EXIT_ERROR, "%s", error);
    else
        code = cli->words_count > 1 ? run_locked(&hold, cli->words + 1) : hold_on(&hold);
    session_close(&hold.session);
    return code;
}

static int run_lock(struct cli *cli)
{
    if (cli->words_count == 0)
        return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS,
                        "lock takes a lock name argument and an optional command to execute");
    struct ctl ctl;
    int code = ctl_open(cli, &ctl);
    if (code == CLI_EXIT_OK)
        code = lock(&ctl);
    ctl_close(&ctl);
    return code;
}

static const struct cli_flag flags[] = {
    {.name = "ttl",
     .kind = CLI_INT,
     .initial = "10",
     .help = "seconds after which others get the lock when we are gone"},
    {0},
};

const struct cli_command ctl_lock_command = {
    .name = "lock",
    .usage = "<lockname> [exec-command arg1 arg2 ...]",
    .brief = "Waits for a named lock and holds it",
    .text = "Without a command the lock is held until a signal comes. A command finds\n"
            "ETCD_LOCK_KEY and ETCD_LOCK_REV in its environment; its exit code is ours.",
    .flags = flags,
    .run = run_lock,
};
