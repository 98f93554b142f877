#include "tools/ctl/exec.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

#define OUT_OF_MEMORY "out of memory"

/* The four behind each other, in ctl's arena. */
static const char *join(struct ctl *ctl, const char *a, const char *b, const char *c, const char *d)
{
    char *out = arena_alloc(&ctl->arena, strlen(a) + strlen(b) + strlen(c) + strlen(d) + 1);
    if (out == NULL)
        return OUT_OF_MEMORY;
    stpcpy(stpcpy(stpcpy(stpcpy(out, a), b), c), d);
    return out;
}

static bool has_name_of(char *const *list, const char *variable)
{
    size_t len = strcspn(variable, "=") + 1;
    for (; *list != NULL; list++) {
        if (strncmp(*list, variable, len) == 0)
            return true;
    }
    return false;
}

/* Ours and the added ones, no name twice. NULL without memory. */
static char **merged_environment(struct ctl *ctl, char *const *added, bool wins)
{
    size_t count = 1;
    for (char *const *p = environ; *p != NULL; p++)
        count++;
    for (char *const *p = added; *p != NULL; p++)
        count++;
    char **out = ARENA_ARRAY(&ctl->arena, char *, count), **end = out;
    if (out == NULL)
        return NULL;
    for (char *const *p = environ; *p != NULL; p++) {
        if (!wins || !has_name_of(added, *p))
            *end++ = *p;
    }
    for (char *const *p = added; *p != NULL; p++) {
        if (wins || !has_name_of(environ, *p))
            *end++ = *p;
    }
    return out;
}

/* Go looks a name without a slash up in PATH first, and says so. */
static const char *start_error(struct ctl *ctl, const char *program, int error)
{
    char reason[128];
    snprintf(reason, sizeof(reason), "%s", strerror(error));
    reason[0] = (char)tolower(reason[0]);
    if (strchr(program, '/') != NULL)
        return join(ctl, "fork/exec ", program, ": ", reason);
    return join(ctl, "exec: \"", program,
                "\": ", error == ENOENT ? "executable file not found in $PATH" : reason);
}

const char *exec_start(struct ctl *ctl, char *const *argv, char *const *added, bool wins,
                       pid_t *out)
{
    char **environment = merged_environment(ctl, added, wins);
    if (environment == NULL)
        return OUT_OF_MEMORY;
    posix_spawn_file_actions_t actions;
    if (posix_spawn_file_actions_init(&actions) != 0)
        return OUT_OF_MEMORY;
    int error = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    fflush(ctl->cli->out); /* ours first */
    if (error == 0)
        error = posix_spawnp(out, argv[0], &actions, NULL, argv, environment);
    posix_spawn_file_actions_destroy(&actions);
    return error == 0 ? NULL : start_error(ctl, argv[0], error);
}

const char *exec_end_text(struct ctl *ctl, int wait_status)
{
    char text[64];
    if (WIFEXITED(wait_status)) {
        if (WEXITSTATUS(wait_status) == 0)
            return NULL;
        snprintf(text, sizeof(text), "exit status %d", WEXITSTATUS(wait_status));
    } else {
        snprintf(text, sizeof(text), "signal: %s", strsignal(WTERMSIG(wait_status)));
        text[8] = (char)tolower(text[8]);
    }
    bool dumped = WIFSIGNALED(wait_status) && WCOREDUMP(wait_status);
    return join(ctl, text, dumped ? " (core dumped)" : "", "", "");
}

const char *exec_run(struct ctl *ctl, char *const *argv, char *const *added, bool wins)
{
    pid_t pid;
    int wait_status = 0;
    const char *error = exec_start(ctl, argv, added, wins, &pid);
    if (error != NULL)
        return error;
    while (waitpid(pid, &wait_status, 0) < 0) {
        if (errno != EINTR)
            return join(ctl, "wait: ", strerror(errno), "", "");
    }
    return exec_end_text(ctl, wait_status);
}
