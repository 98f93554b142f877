/* tests/history/watch_record.h - what one watcher saw, over all the streams it had, and whether
 * that is what happened, where all that happened is known: in the simulator. history_watch.h judges
 * without that, from the answers of clients. Judged are etcd's promises: events come in order
 * (ordered), none twice (unique), none is left out (reliable), those of one revision come together
 * (atomic), a watch goes on where the one before ended (resumable), a notification of progress
 * means that everything up to it was there (bookmarkable), and the value before a change is the one
 * before it. Not thread-safe.
 */
#ifndef TESTS_HISTORY_WATCH_RECORD_H
#define TESTS_HISTORY_WATCH_RECORD_H
#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A change of a key: numbers stand for keys and values, 0 for a deleted one. */
struct watch_change_seen {
    int64_t revision;
    uint64_t key, value;
    bool has_previous; /* a watcher got the value before */
    uint64_t previous;
};

enum watch_sight_kind {
    WATCH_SIGHT_OPEN, /* it asks for everything from revision on */
    WATCH_SIGHT_EVENT,
    WATCH_SIGHT_END,       /* of a response with events */
    WATCH_SIGHT_PROGRESS,  /* to revision */
    WATCH_SIGHT_COMPACTED, /* nothing below revision is left */
};
struct watch_sight {
    enum watch_sight_kind kind;
    struct watch_change_seen change; /* of an event; else its revision alone */
};

struct watch_record {
    struct watch_sight *sights; /* owned */
    size_t count, capacity;
    uint64_t key; /* the only one that is watched; 0: all */
    bool wants_previous;
};

void watch_record_init(struct watch_record *record, uint64_t key, bool wants_previous);
void watch_record_deinit(struct watch_record *record);
/* Errors: ST_NO_MEMORY. */
CHECKED enum status watch_record_add(struct watch_record *record, enum watch_sight_kind kind,
                                     const struct watch_change_seen *change);

/* All changes that there were, in order. */
struct watch_truth {
    const struct watch_change_seen *changes;
    size_t count;
    int64_t compact_revision; /* the highest there was */
};
/* False: why says what is wrong. complete: everything must have come by now. */
bool watch_record_is_true(const struct watch_record *record, const struct watch_truth *truth,
                          bool complete, char *why, size_t why_bytes);
#endif
