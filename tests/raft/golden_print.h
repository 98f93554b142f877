/* tests/raft/golden_print.h - the printed forms of golden scripts. */
#ifndef TESTS_RAFT_GOLDEN_PRINT_H
#define TESTS_RAFT_GOLDEN_PRINT_H
#include "raft/raft.h"
#include "tests/raft/datadriven.h"

const char *print_role(enum raft_role role);
void print_entry(const struct raft_entry *entry, struct buf *out);
void print_entries(const struct raft_entry *entries, uint32_t count, struct buf *out);
void print_message(const struct raft_message *message, struct buf *out);
void print_append_work(raft_id id, const struct raft_append_work *work, bool with_responses,
                       struct buf *out);
void print_apply_work(raft_id id, const struct raft_apply_work *work, bool with_responses,
                      struct buf *out);
void print_ready(raft_id id, const struct raft_ready *ready, bool is_async, struct buf *out);
#endif
