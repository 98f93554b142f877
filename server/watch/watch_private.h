/* server/watch/watch_private.h - the hub's inside.
 *
 * The hub's position P: every change up to revision P was given to all who are synced. A watcher
 * wants the changes from its `next` on; it is synced when next > P, that is, when apply will hand
 * over all it still wants. Else it is behind, and a piece of history brings it from next to where
 * that piece ends. So one rule serves watchers that start in the past, now and in the future, those
 * whose stream is slow, and those who were left behind by a snapshot or by a hub short of memory:
 * the hub may at any time declare a watcher behind, and nothing is lost.
 *
 * Those who want the values before changes may be given less than P: the hub waits for no disk, so
 * revisions whose values are not in memory wait until a reader has them (values.c), and with them
 * what follows for watchers of the same group. They stay synced; others are not held up. */
#ifndef SERVER_WATCH_WATCH_PRIVATE_H
#define SERVER_WATCH_WATCH_PRIVATE_H
#include "server/watch/events.h"
#include "server/watch/groups.h"
#include "server/watch/limits.h"
#include "server/watch/watch.h"

/* ---- what comes in ---- */

enum watch_request_kind { WATCH_REQUEST_CREATE, WATCH_REQUEST_CANCEL, WATCH_REQUEST_PROGRESS };

struct watch_request {
    struct watch_note note;
    enum watch_request_kind kind;
    int64_t watch_id;           /* of a cancellation */
    struct watch_create create; /* its slices lie behind the request */
};

/* The changes of one revision, from apply. */
struct watch_batch {
    struct inbox_node node;
    int64_t revision;
    size_t size; /* of the whole, in memory */
    struct watch_changes changes;
    /* While it waits for values before its changes: */
    struct list_node waiting;
    struct list_node due;    /* to be read now */
    struct list_node shares; /* struct watch_share */
    bool was_due, is_read, is_held;
    struct watch_block *block; /* counted; read and NULL: it is to come from history */
};

/* What a group is to be given of a batch that waits; the batch's. */
struct watch_share {
    struct watch_batch *batch;
    struct watch_group *group; /* counted */
    struct watch_runs runs;
    struct list_node in_batch, in_group;
};

/* ---- watchers ---- */

enum watcher_state {
    WATCHER_SYNCED,
    WATCHER_BEHIND,    /* until history is read for it */
    WATCHER_READING,   /* it is being read */
    WATCHER_COMPACTED, /* it has ended; its client has not canceled it yet */
};

struct watcher {
    struct watch_stream *stream; /* NULL once it is canceled */
    struct watch_group *group;   /* counted */
    int64_t id, next;
    uint32_t refs;    /* its stream's, its entries', a read's */
    uint32_t pending; /* of its entries */
    enum watcher_state state;
    bool progress, fragment;
    bool idle; /* nothing was sent to it since the last tick */
    struct list_node in_stream, in_group;
    struct list_node behind; /* among those for whom history is to be read now */
    struct table_link by_id;
};

/* What waits to be sent: events of one watcher, or an answer. */
struct watch_entry {
    struct list_node node;
    struct watcher *watcher;         /* counted; NULL of an answer */
    struct watch_delivery *delivery; /* counted; NULL of an answer */
    uint32_t first;                  /* event; those before were sent or are not its own */
    struct watch_message answer;
};

/* ---- reads: of history, or of values before changes ---- */

struct watch_read_group {
    struct watch_group *group;
    struct watch_runs runs;
    struct watch_delivery *delivery;
};

struct watch_read {
    struct inbox_node node;
    struct watch_hub *hub;
    uint32_t number;
    bool busy;
    /* Values: the batches whose changes they are before, and what was made of the first of them;
     * NULL: it failed. */
    struct {
        struct watch_batch *batch;
        struct watch_block *block;
    } batches[WATCH_READ_BATCHES];
    uint32_t batches_count, made_count;
    /* History: what is wanted. */
    int64_t from;
    enum watch_form form;
    struct {
        struct watcher *watcher; /* counted */
        int64_t next;
        uint32_t group;
    } watchers[WATCH_READ_WATCHERS];
    uint32_t watchers_count;
    struct watch_read_group groups[WATCH_READ_WATCHERS];
    uint32_t groups_count;
    /* What was found: all up to `through`. */
    enum status status;
    int64_t through, current, compact;
    struct watch_block *block;
    /* On the way. */
    struct buf records;
    struct watch_change *list;
    size_t list_count, list_capacity;
    uint32_t looked, revisions;
    int64_t last_seen, last_kept; /* revisions */
};

#define WATCH_VALUES_READ                                                   \
    2U /* this one and those behind it are of values; the others of history \
        */

/* ---- the hub ---- */

struct watch_hub {
    struct watch_hub_options options;
    struct inbox notes;     /* struct watch_note, from any thread */
    struct inbox batches;   /* struct watch_batch, from apply */
    struct inbox reads;     /* struct watch_read, from readers */
    _Atomic bool listening; /* somebody watches: apply hands over what it does */
    _Atomic int64_t missed; /* up to this revision apply left something out */
    _Atomic uint64_t backlog_bytes;
    _Atomic bool stopping;

    int64_t position;
    struct watch_groups groups;
    struct table watchers; /* by stream and id */
    uint64_t watchers_count;
    struct list_node streams;
    struct list_node ready;  /* streams that may have something to send */
    struct list_node asking; /* streams that asked for progress */
    struct list_node behind; /* struct watcher */
    struct heap ticks;       /* struct watch_stream */
    /* Batches whose events with values before were not given to all yet, in order; owned. */
    struct list_node waiting, due, due_long;
    size_t waiting_bytes;
    struct watch_read read_slots[WATCH_READS_MAX];
    uint64_t next_look_ns; /* for a leader */
    uint64_t now_ns;
    struct rng rng;
    /* Of the revision at hand. */
    struct list_node touched[WATCH_FORMS]; /* struct watch_group */
    struct watch_change *change;
    uint32_t change_index;
    /* Of the message at hand. */
    struct rpc_piece *pieces; /* the first is the sender's */
    size_t pieces_capacity;
    struct rpc_burst burst; /* of all messages that can leave now */
};

/* ---- publish.c: apply's side, and what becomes of it ---- */
void watch_publish_init(struct watch_hub *hub);
void watch_publish_deinit(struct watch_hub *hub);
/* Gives what apply has handed over to all who are synced. */
void watch_take_batches(struct watch_hub *hub);
/* Takes the next group off the list of those that the revision at hand concerns. */
struct watch_group *watch_next_touched(struct watch_hub *hub, enum watch_form form);
/* Gives its part of a block to the group's watchers. block NULL: they read it from history. */
void watch_deliver(struct watch_hub *hub, struct watch_group *group, const struct watch_runs *runs,
                   struct watch_block *block, int64_t revision);
void watch_batch_free(struct watch_hub *hub, struct watch_batch *batch);

/* ---- values.c ---- */
void watch_values_init(struct watch_hub *hub);
void watch_values_deinit(struct watch_hub *hub);
/* Takes the batch for those touched, and its events if they are made (else NULL). False: too much
 * waits, and nothing is taken. Groups that are still touched read it from history. */
CHECKED bool watch_values_wait(struct watch_hub *hub, struct watch_batch *batch,
                               struct watch_block *block);
void watch_values_start(struct watch_hub *hub);
void watch_values_run(struct watch_read *read, uint32_t reader_slot); /* on the reader */
void watch_values_take(struct watch_hub *hub, struct watch_read *read);

/* ---- watchers.c ---- */
void watcher_create(struct watch_hub *hub, struct watch_stream *stream,
                    const struct watch_create *create);
void watcher_cancel(struct watch_hub *hub, struct watch_stream *stream, int64_t id);
/* It is not its stream's any more, and gets nothing more. */
void watcher_remove(struct watch_hub *hub, struct watcher *watcher);
void watcher_unref(struct watcher *watcher);
/* It wants everything from next on, and is synced or not by that. */
void watcher_go_on(struct watch_hub *hub, struct watcher *watcher, int64_t next);
/* A synced watcher gets no more than it was given. */
void watcher_fall_behind(struct watch_hub *hub, struct watcher *watcher);
void watcher_end_compacted(struct watch_hub *hub, struct watcher *watcher, int64_t compact);
/* Its pending entries became fewer. */
void watcher_sent(struct watch_hub *hub, struct watcher *watcher);

/* ---- streams.c ---- */
void stream_open(struct watch_hub *hub, struct watch_stream *stream);
void stream_end(struct watch_hub *hub, struct watch_stream *stream, enum watch_end why);
/* Queues an answer; without memory, or with too many of them, the stream ends. */
void stream_answer(struct watch_hub *hub, struct watch_stream *stream,
                   const struct watch_message *answer);
/* So many requests or answers are done with. */
void stream_answered(struct watch_stream *stream, uint32_t count);
/* Queues events of watcher, from event `first` of the delivery's block on. False: no memory. */
CHECKED bool stream_add(struct watch_hub *hub, struct watcher *watcher,
                        struct watch_delivery *delivery, uint32_t first);
void stream_note_ready(struct watch_hub *hub, struct watch_stream *stream);
/* Its message has left. */
void stream_take_sent(struct watch_hub *hub, struct watch_stream *stream);
/* Sends what can be sent now. */
void streams_flush(struct watch_hub *hub);

/* ---- progress.c ---- */
void progress_ask(struct watch_hub *hub, struct watch_stream *stream);
/* Answers those who asked, where the hub has come to what they could have seen. */
void progress_answer(struct watch_hub *hub);
/* Tells idle watchers, and looks for a leader. When to be called again. */
uint64_t progress_tick(struct watch_hub *hub);
/* Its first progress watcher came, or its last one went. */
void progress_note(struct watch_hub *hub, struct watch_stream *stream);

/* ---- reads.c ---- */
void watch_reads_init(struct watch_hub *hub);
void watch_reads_deinit(struct watch_hub *hub);
void watch_reads_take(struct watch_hub *hub);   /* what was read */
void watch_reads_start(struct watch_hub *hub);  /* reads for those who are behind */
void watch_read_reset(struct watch_read *read); /* what it holds; it can be used again */

static inline enum watch_form watch_group_form(const struct watch_group *group)
{
    return group->kinds & WATCH_PREVIOUS ? WATCH_WITH_VALUES : WATCH_PLAIN;
}

/* Everything up to it was given to those of the group who are synced. */
static inline int64_t watch_given(const struct watch_hub *hub, const struct watch_group *group)
{
    if (list_is_empty(&group->waiting))
        return hub->position;
    return CONTAINER_OF(group->waiting.next, struct watch_share, in_group)->batch->revision - 1;
}

static inline int64_t watch_current_revision(const struct watch_hub *hub)
{
    int64_t current, compact;
    mvcc_revisions(hub->options.mvcc, &current, &compact);
    return current;
}
#endif
