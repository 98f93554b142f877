/* tools/ctl/exec.h - programs that watch and lock start. */
#ifndef TOOLS_CTL_EXEC_H
#define TOOLS_CTL_EXEC_H
#include "tools/ctl/ctl.h"

#include <sys/types.h>

/* Starts argv[0], looked for in PATH, with our outputs, no input, and the variables added
 * ("NAME=x", ended by NULL): `wins` says whether they or those of the same name that we have
 * ourselves count. Returns NULL, or what Go would say, in ctl->arena. */
const char *exec_start(struct ctl *ctl, char *const *argv, char *const *added, bool wins,
                       pid_t *out);
/* NULL for a wait status of success, else "exit status 3" or "signal: killed", in ctl->arena. */
const char *exec_end_text(struct ctl *ctl, int wait_status);
/* Starts and waits. Returns NULL on success, or either's text. */
const char *exec_run(struct ctl *ctl, char *const *argv, char *const *added, bool wins);
#endif
