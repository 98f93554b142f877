/* tests/wal/fixture.h - a log on a fake disk under a clock of the test's. */
#ifndef TESTS_WAL_FIXTURE_H
#define TESTS_WAL_FIXTURE_H
#include "tests/fakes/fake_disk.h"
#include "wal/wal.h"

#include <setjmp.h>
#include <stdarg.h>
/* cmocka.h wants the three above */
#include <cmocka.h>

#define LIFE_ID 0x1234567890abcdefULL
#define DIR "/wal"

struct fixture {
    struct fake_disk *disk; /* owned */
    uint64_t now_ns;
    struct clock clock;
    struct rng rng;
    struct wal_options options;
    struct wal *wal; /* owned */
    struct wal_recovered recovered;
    struct wal_report report;
    uint64_t ticket, durable_ticket;
};

/* A fixture with nothing open; segments of segment_bytes. */
void fixture_init(struct fixture *f, uint64_t seed, uint64_t segment_bytes);
void fixture_deinit(struct fixture *f);
CHECKED enum status fixture_try_open(struct fixture *f, bool create);
void fixture_open(struct fixture *f,
                  bool create);        /* asserts ST_OK, with the report in the message */
void fixture_close(struct fixture *f); /* as kill -9 does: nothing is finished */

/* Entry `index` of `term` holds bytes that follow from both: entry_len() of them. */
struct raft_payload *entry_payload(raft_term term, raft_index index, size_t len);
size_t entry_len(raft_term term, raft_index index);

/* Stages entries [first, last] of one term, with the hard state {term, 1, commit}. */
CHECKED enum status fixture_stage(struct fixture *f, raft_term term, raft_index first,
                                  raft_index last, raft_index commit);
/* One entry of its own length, in its own batch. */
CHECKED enum status fixture_stage_len(struct fixture *f, raft_term term, raft_index index,
                                      size_t len);
/* Polls, with steps of the preparer between, until all is durable. */
CHECKED enum status fixture_settle(struct fixture *f);
void fixture_append(struct fixture *f, raft_term term, raft_index first, raft_index last);
void fixture_step_preparer(struct fixture *f); /* until it has nothing to do, time passing */

/* Reads [first, last] back and compares with term_of(index). */
void fixture_check(struct fixture *f, raft_index first, raft_index last,
                   raft_term (*term_of)(raft_index index));
raft_term term_is_one(raft_index index);
#endif
