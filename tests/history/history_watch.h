/* tests/history/history_watch.h - what watchers saw of the writes of a history: each event of its
 * keys once, in order, whatever happened to its stream meanwhile; and what leases did.
 * watch_record.h judges one watcher where all that happened is known.
 *
 * Not thread-safe. */
#ifndef TESTS_HISTORY_HISTORY_WATCH_H
#define TESTS_HISTORY_HISTORY_WATCH_H
#include "tests/history/history.h"

struct history_event {
    int64_t revision;
    uint32_t key;
    uint64_t value; /* 0: deleted */
};

/* What one watcher was shown, streams that broke and resumed included. */
struct history_watcher {
    uint32_t key, keys_end; /* watches keys from key on, below keys_end */
    int64_t from, upto;     /* must have been shown all of these revisions, both included */
    struct history_event *events;
    uint32_t count, capacity;
};

void history_watcher_init(struct history_watcher *watcher, uint32_t key, uint32_t keys_end,
                          int64_t from);
void history_watcher_deinit(struct history_watcher *watcher);
/* In the order of their arrival. Errors: ST_NO_MEMORY. */
CHECKED enum status history_saw(struct history_watcher *watcher, const struct history_event *event);
/* All up to a revision has been shown, says the server: a progress notification, or the head of a
 * response. */
void history_saw_upto(struct history_watcher *watcher, int64_t revision);

/* Whether each watcher saw what the answers say, what the others saw, and nothing that nobody
 * wrote. Reads prove writes whose own answer never came. `why` as history_check().
 * Errors: ST_NO_MEMORY. */
CHECKED enum status history_check_watchers(const struct history *history,
                                           const struct history_watcher *watchers,
                                           uint32_t watchers_count, enum verdict *out, char *why,
                                           size_t why_bytes);

/* ---- leases ---- */

/* The life of one lease with keys of its own. Times as in history_op, in one unit. */
struct history_lease {
    int64_t id;
    uint64_t ttl;          /* as granted */
    uint64_t renewed_call; /* of the last grant or renewal that was answered with time left: when it
                              was asked for, so it was renewed at this moment or later */
    uint64_t denied_end;   /* when a renewal was answered "unknown"; 0: never */
    bool may_be_revoked;   /* somebody asked for it */
    uint32_t keys_count;   /* attached, and acknowledged */
    uint32_t gone_count;   /* of them, whose deletion was seen */
    uint64_t gone_at;      /* when the first was */
    int64_t gone_revision; /* of that; 0: none yet */
    bool gone_apart;       /* another went at another revision */
};

/* Nobody's key goes before its time is over unless somebody revokes it; all go, at once. is_over:
 * so long after the last renewal that all must be gone. */
enum verdict history_check_lease(const struct history_lease *lease, bool is_over, char *why,
                                 size_t why_bytes);
#endif
