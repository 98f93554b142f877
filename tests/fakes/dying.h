/* tests/fakes/dying.h - a process that dies in the middle of what it does to its files. A program
 * that links dying.c sends every system call that changes a file through it, those of shared
 * libraries too; what a dead process wrote stays, as the page cache keeps it, but for the last
 * write, of which only a part may be there. Syncs are counted and not done: no power fails here.
 * Whether they were done is asked apart. Thread-safe. */
#ifndef TESTS_FAKES_DYING_H
#define TESTS_FAKES_DYING_H
#include <stdbool.h>
#include <stdint.h>

#define DYING_EXIT 99

/* The nth change from now (1: the next) of a file below dir, borrowed for good, does not happen any
 * more: the process ends with DYING_EXIT. 0: none does, but all are counted. */
void dying_arm(const char *dir, uint64_t nth);
/* The process lives on and that one change fails with this errno: after dying_arm(). */
void dying_fail_instead(int error);
uint64_t dying_count(void); /* changes since then */
/* A file whose path begins so was written, or made in its directory, since dying_arm(), and
 * not synced after that. */
bool dying_is_unsynced(const char *path_prefix);
/* Called with the path before each write, which it may forbid by ending the process. */
void dying_watch_writes(void (*watch)(const char *path));
#endif
