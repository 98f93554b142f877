/* server/watch/limits.h - every bound of this room, with its reason. */
#ifndef SERVER_WATCH_LIMITS_H
#define SERVER_WATCH_LIMITS_H

/* Messages that wait for one watcher; above it its events come from history, many in one message.
 * Each is some 100 bytes and shares its events with others. */
#define WATCH_PENDING_MAX 32U
/* Revisions in one message of a watcher that is behind; etcd's number. */
#define WATCH_BATCH_REVISIONS 1000U
/* And bytes of events, but for a single revision, which is never split: what a slow client makes us
 * hold is about this. */
#define WATCH_BATCH_BYTES (1U << 20)
/* Changes looked at in one piece of history, while compaction waits for it: some 5 ms. */
#define WATCH_READ_CHANGES 16384U
/* Watchers served by one piece of history. */
#define WATCH_READ_WATCHERS 64U
/* Watchers looked at for those whose history lies together. */
#define WATCH_READ_LOOK 1024U
/* Changes of a revision whose values before the hub itself looks for, in memory: about 1 ms. */
#define WATCH_HUB_CHANGES 1000U
/* Revisions whose values before are read at a time; their events end at WATCH_BATCH_BYTES. */
#define WATCH_READ_BATCHES 64U
/* Changes that wait for values before them, if there is more than one revision of them; above it
 * they are left in history. Half of what follows, so that a slow disk leaves the hub the rest. */
#define WATCH_WAITING_BYTES (16U << 20)
/* With events made of them that not all may be given yet; above it these are made once more. */
#define WATCH_KEPT_BYTES (WATCH_WAITING_BYTES / 2)
/* Changes that apply has handed over and the hub is not done with; above it they are left in
 * history. */
#define WATCH_BACKLOG_BYTES (32U << 20)
/* Messages that are made before the first of them leaves. */
#define WATCH_BURST_MESSAGES 1024U
/* Requests of a stream that are not answered, and answers that its client has not taken; above it
 * no request is read. Each is some 100 bytes. */
#define WATCH_UNANSWERED_MAX 1000U
/* Answers that a client has not taken; above it the stream ends. Notifications of progress are left
 * out above half of it. */
#define WATCH_CONTROLS_MAX 10000U
/* A group's list of runs is kept between revisions up to this. */
#define WATCH_RUNS_KEPT 8U
/* Looks without a leader that end a stream that wants one; etcd's number. */
#define WATCH_LEADERLESS_LOOKS 3U
#endif
