/* server/run/leader_posts.h - carries questions that only the leader can answer to its peer port. A
 * few threads, each with a connection of its own that it keeps: a leader that hangs holds up only
 * what was asked of it. */
#ifndef SERVER_RUN_LEADER_POSTS_H
#define SERVER_RUN_LEADER_POSTS_H
#include "base/inbox.h"
#include "base/list.h"
#include "server/run/thread.h"

#define LEADER_POSTERS_COUNT 8U

struct leader_post;
struct leader_posts;
struct loops;
struct machine;
struct peer_line;

struct leader_poster {
    struct thread thread;
    struct leader_posts *posts;
    struct inbox inbox;                        /* struct leader_post */
    struct inbox_node *waiting, **waiting_end; /* for another try */
    struct peer_line *line;
    bool is_started;
};

struct leader_posts {
    struct loops *loops; /* borrowed, as the machine */
    struct machine *machine;
    struct leader_poster posters[LEADER_POSTERS_COUNT];
    atomic_uint next;
};

/* Starts the threads. Errors: ST_NO_MEMORY, ST_IO. */
CHECKED enum status leader_posts_start(struct leader_posts *posts, struct loops *loops,
                                       struct machine *machine);
void leader_posts_give(struct leader_posts *posts, struct leader_post *post); /* any thread */
void leader_posts_stop(struct leader_posts *posts); /* answers what waits; zeroed is fine */
#endif
