/* tools/client/watches.h - watchers of keys, over one stream of a caller, that outlive the stream:
 * when it breaks they continue on another one where they were, so each event comes once and in
 * order.
 *
 * Threads: as client.h. The owner polls, and calls watches_step() after each poll, at least every
 * WATCHES_STEP_MS; it may wait that long for a connection. */
#ifndef TOOLS_CLIENT_WATCHES_H
#define TOOLS_CLIENT_WATCHES_H
#include "proto/rpc.pb-c.h"
#include "tools/client/caller.h"

#define WATCHES_STEP_MS 100U

struct watches;
struct watcher;

struct watcher_options {
    struct slice key, range_end; /* copied */
    int64_t start_revision;      /* 0: from now */
    bool prev_kv, progress_notify;
};

/* Called from polls and from watches_step(); neither may poll or step. */
struct watcher_events {
    /* Events, progress, or a cancellation for a compacted revision, after which `ended` follows;
     * not the response to the creation. Borrowed for the call. */
    void (*response)(void *context, const Etcdserverpb__WatchResponse *response);
    /* The last, exactly once, unless the owner ends it; the watcher is gone when it returns. error:
     * why the watcher or its stream was refused, in etcdctl's words; NULL: the server ended it. */
    void (*ended)(void *context, const char *error);
    void *context;
};

/* With require_leader a server without a leader ends the watchers; else they hold on. The caller is
 * borrowed and outlives it. NULL: no memory. */
struct watches *watches_new(struct caller *caller, bool require_leader);
void watches_free(struct watches *watches); /* ends every watcher, without `ended`; NULL is fine */

/* Errors: ST_NO_MEMORY. */
CHECKED enum status watches_add(struct watches *watches, const struct watcher_options *options,
                                const struct watcher_events *events, struct watcher **out);
void watches_remove(struct watches *watches, struct watcher *watcher);
/* Asks how far the stream is: a response without events to every watcher. Errors: ST_NO_MEMORY. */
CHECKED enum status watches_request_progress(struct watches *watches);

/* Whether the server has confirmed every watcher. */
bool watches_are_confirmed(const struct watches *watches);

/* Opens what is to be opened, and asks for what is to be watched. Errors: ST_NO_MEMORY, ST_TOO_BIG.
 */
CHECKED enum status watches_step(struct watches *watches);
/* Polls, then steps: one turn of a loop. */
CHECKED enum status watches_poll(struct watches *watches, uint64_t timeout_ms);
#endif
