/* tests/history/history.h - what clients did and saw, and whether one store, one operation at a
 * time, could have answered so (linearizability; Herlihy and Wing 1990). Written by the simulator
 * and by the load of the end-to-end tests.
 *
 * Two ways to decide. By revision: every answer names one, so the order of the writes is known and
 * each read has its place; n log n. By search (Wing and Gong 1993, with Lowe's memory of visited
 * states), by values alone and for each set of connected keys by itself: where writes whose outcome
 * nobody knows leave the first way undecided, and as a second opinion.
 *
 * Keys are small numbers. Every put writes a value that no other put writes; 0 stands for absent,
 * so a write of 0 is a delete. Not thread-safe. */
#ifndef TESTS_HISTORY_HISTORY_H
#define TESTS_HISTORY_HISTORY_H
#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HISTORY_OP_KEYS_MAX 4U
#define HISTORY_NEVER UINT64_MAX

struct history_key {
    uint32_t key;
    uint64_t value;       /* to write, or seen */
    int64_t mod_revision; /* seen by a read; 0: absent */
};

struct history_op {
    uint32_t client; /* for the report */
    bool is_write;
    /* A write that happens only while key `guard_key` holds `guard_value`. */
    bool has_guard;
    uint32_t guard_key;
    uint64_t guard_value;
    uint32_t keys_count;
    struct history_key keys[HISTORY_OP_KEYS_MAX];

    uint64_t call, end; /* end: HISTORY_NEVER when no answer, or none that decides, came */
    int64_t revision;   /* the answer's header */
    bool changed;       /* a write that happened; not: its guard did not hold, or nothing was there
                           to delete */
};

struct history {
    struct history_op *ops;
    uint32_t count, capacity;
    uint32_t keys_count; /* keys are below this */
    bool has_others; /* somebody else writes other keys: revisions may pass that nobody here made */
};

void history_init(struct history *history, uint32_t keys_count);
void history_deinit(struct history *history);
/* Begins an operation at time op->call; *id_out names it. Errors: ST_NO_MEMORY. */
CHECKED enum status history_call(struct history *history, const struct history_op *op,
                                 uint32_t *id_out);
/* The answer of a write. One that is never given stays open: it may have happened or not. */
void history_wrote(struct history *history, uint32_t id, uint64_t now, int64_t revision,
                   bool changed);
/* The answer of a read: what it saw, in the order of the operation's keys. */
void history_read(struct history *history, uint32_t id, uint64_t now, int64_t revision,
                  const struct history_key *seen);

enum verdict { HISTORY_GOOD, HISTORY_BROKEN, HISTORY_UNDECIDED };

/* Both ways as far as needed: by revision, then by search where that is open. `why` tells what
 * contradicts what; empty when good. Errors: ST_NO_MEMORY. */
CHECKED enum status history_check(const struct history *history, enum verdict *out, char *why,
                                  size_t why_bytes);
/* Each by itself. */
CHECKED enum status history_check_by_revision(const struct history *history, enum verdict *out,
                                              char *why, size_t why_bytes);
/* steps_max: tried operations for each set of connected keys, then undecided. */
CHECKED enum status history_check_by_search(const struct history *history, uint64_t steps_max,
                                            enum verdict *out, char *why, size_t why_bytes);
/* One operation in words. */
void history_describe(const struct history_op *op, char *text, size_t text_bytes);
#endif
