/* server/run/thread_list.h - this process' threads and the processor time of each: which of them is
 * busy, or hangs in the kernel for its disk (state D), without a debugger. Any thread. */
#ifndef SERVER_RUN_THREAD_LIST_H
#define SERVER_RUN_THREAD_LIST_H
#include "base/buf.h"

/* Appends "threads": [...] of a JSON object, and a comma. Errors: buf_append()'s. */
CHECKED enum status put_threads(struct buf *out);
#endif
