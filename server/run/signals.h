/* server/run/signals.h - SIGINT and SIGTERM, read from a descriptor.
 *
 * While the member starts, a thread watches it: reading a long log or building a large index takes
 * its time and looks at no signal. A start needs no orderly end: no client was served yet, and it
 * may be cut off anywhere, as by a crash. So until the member serves, a signal ends the process at
 * once, with exit code 0. */
#ifndef SERVER_RUN_SIGNALS_H
#define SERVER_RUN_SIGNALS_H
#include "base/status.h"

#include <pthread.h>
#include <stdbool.h>

/* Blocks both signals in this thread and all that it starts. A descriptor that is readable once one
 * came, -1 on failure. */
int signals_open(void);
/* Waits for a signal, takes it and logs that it ends the process. */
void signals_take(int signal_fd);

struct signals_watch {
    pthread_t thread;
    int signal_fd, stop_fd;
};

/* Borrows signal_fd until signals_watch_stop(). Errors: ST_IO, ST_NO_MEMORY; nothing runs then. */
CHECKED enum status signals_watch_start(struct signals_watch *watch, int signal_fd);
/* From here on signals are the caller's to take: one that came before has ended the process or is
 * still readable. */
void signals_watch_stop(struct signals_watch *watch);
#endif
