/* tests/raft/golden.h - the three kinds of golden scripts of etcd's raft. */
#ifndef TESTS_RAFT_GOLDEN_H
#define TESTS_RAFT_GOLDEN_H
#include "tests/raft/datadriven.h"

#include "raft/conf_change.h"
#include "raft/progress.h"

int golden_quorum(const char *path);      /* failures; -1: cannot be read */
int golden_conf_change(const char *path); /* the changer alone */
int golden_interaction(const char *path); /* members, messages and work by hand */

/* Shared by the last two. */
uint32_t golden_parse_changes(char *input, struct conf_change_single *out);
void golden_print_progresses(const struct tracker *tracker, const struct flow_limits *limits,
                             struct buf *out);
#endif
