/* server/watch/watch.h - the hub between the changes that apply makes and all who watch. Apply
 * hands over the changes of each revision; the hub finds the watchers of each key, encodes an event
 * once for all of them and gives each stream one message at a time. Who falls behind is served from
 * history, by a reader: what a watcher costs does not grow with how slow it is, and nothing is
 * dropped.
 *
 * The hub is an actor: an inbox and a step function that never waits. Streams are spoken to from
 * any thread, what they say is done in watch_step(), and the callbacks come from there. */
#ifndef SERVER_WATCH_WATCH_H
#define SERVER_WATCH_WATCH_H
#include "base/heap.h"
#include "base/inbox.h"
#include "base/list.h"
#include "base/slice.h"
#include "base/status.h"
#include "server/rpc/rpc.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct mvcc;
struct watch_hub;
struct watch_read;
struct watch_stream;

/* At a time: two of history, one of values before changes, one of those before many changes. */
#define WATCH_READS_MAX 4U
#define WATCH_LONG_READ (WATCH_READS_MAX - 1) /* this one, which may take seconds */

struct watch_hub_options {
    struct mvcc *mvcc;    /* borrowed; outlives the hub. The hub becomes one of its sinks */
    uint32_t reader_slot; /* of the store, for whoever steps the hub; reads what is in memory */
    uint64_t seed;
    uint64_t progress_interval_ns; /* --experimental-watch-progress-notify-interval */
    uint64_t election_ns;          /* how often a stream that wants a leader looks for one */
    size_t message_bytes_max;      /* where a response is split, for who asked for that */
    void (*wake)(void *context);   /* the hub should be stepped; any thread. May be NULL */
    /* Has watch_read_run() called, with a slot of the store's readers, on a thread that may wait
     * for a disk; number is below WATCH_READS_MAX and is in use until then. Nobody else should have
     * to wait for WATCH_LONG_READ. */
    void (*read)(void *context, struct watch_read *read, uint32_t number);
    bool (*has_leader)(void *context);
    void *context;
};

/* Errors: ST_NO_MEMORY. */
CHECKED enum status watch_hub_new(const struct watch_hub_options *options, struct watch_hub **out);
/* No stream is open and nobody applies any more; NULL is fine. */
void watch_hub_free(struct watch_hub *hub);
/* Does what can be done now; returns when to be stepped again at the latest (monotonic). */
uint64_t watch_step(struct watch_hub *hub, uint64_t now_ns);
/* Ends every stream, those that are opened later too; any thread. It is done by the next step. */
void watch_hub_stop(struct watch_hub *hub);
/* Reads what the hub wants, for watch_hub_options.read. */
void watch_read_run(struct watch_read *read, uint32_t reader_slot);

/* ---- streams ---- */

enum watch_end {
    WATCH_END_CLOSED,    /* by watch_stream_close() */
    WATCH_END_NO_LEADER, /* for three looks */
    WATCH_END_STOPPED,   /* the hub */
    WATCH_END_NO_MEMORY, /* or too many answers that nobody takes */
    WATCH_END_BROKEN,    /* the store cannot be read */
};

/* One response, without the fields that the hub knows nothing of. Borrowed for the call. */
struct watch_message {
    int64_t watch_id;
    int64_t revision; /* of the header; 0: left out */
    bool created, canceled, fragment;
    int64_t compact_revision;
    const char *cancel_reason; /* NULL: none */
    /* Encoded events, as they stand in a WatchResponse. What is in front of them may be put into
     * the piece before the first, which is there and empty; NULL: no events. */
    struct rpc_piece *pieces;
    uint32_t pieces_count;
    struct rpc_burst *burst; /* with which it may be held back; the hub ends it in the same step */
};

/* What a stream's owner does. On the hub's thread; must not block. */
struct watch_sink {
    /* ST_OK: the message is on its way, the next comes after watch_stream_sent(). ST_CANCELED: the
     * receiver has gone, and the owner closes the stream. NULL: nothing will ever be asked of the
     * stream, it only wants to know when there is no leader. */
    enum status (*send)(struct watch_stream *stream, const struct watch_message *message);
    /* The last call; every stream ends once. */
    void (*end)(struct watch_stream *stream, enum watch_end why);
    /* There is room for requests: once for each watch_stream_wait(), before the end; any thread.
     * May be NULL for who never waits. */
    void (*room)(struct watch_stream *stream);
    /* Keep the stream's memory; any thread. */
    void (*ref)(struct watch_stream *stream);
    void (*unref)(struct watch_stream *stream);
};

/* What is said to the hub about a stream. */
enum watch_note_kind { WATCH_NOTE_OPEN, WATCH_NOTE_REQUEST, WATCH_NOTE_SENT, WATCH_NOTE_CLOSE };
struct watch_note {
    struct inbox_node node;
    struct watch_stream *stream; /* counted while the note is on its way */
    enum watch_note_kind kind;
};

/* Lives in its owner's memory, which must last until the last reference is gone. */
struct watch_stream {
    const struct watch_sink *sink;
    /* The hub's from here on. */
    struct watch_hub *hub;
    struct watch_note opening, sent, closing;
    _Atomic unsigned flags;
    bool wants_leader, failed;
    atomic_bool ended, waits;
    atomic_uint unanswered; /* requests, and answers that have not left */
    struct list_node node;  /* among all streams */
    struct list_node ready; /* may have something to send */
    struct list_node asking;
    struct list_node watchers;
    struct list_node entries; /* to be sent, in order */
    uint32_t watchers_count, unsynced_count, progress_count, controls_count;
    uint32_t values_count; /* watchers that want the values before changes */
    uint32_t looks_without_leader;
    int64_t next_id;
    uint32_t progress_asked;   /* manual requests that wait */
    int64_t progress_revision; /* for the hub to come to this one */
    struct heap_node tick;     /* of progress notifications; its key is their next time */
    uint64_t interval_ns;
};

/* Opens a stream; any thread, like all that follow. Everything said to one stream comes from one
 * thread at a time, and is done in order. wants_leader: it ends when there is none for three
 * election timeouts. */
void watch_stream_open(struct watch_hub *hub, struct watch_stream *stream,
                       const struct watch_sink *sink, bool wants_leader);

enum { WATCH_NO_PUT = 1U, WATCH_NO_DELETE = 2U, WATCH_PREVIOUS = 4U };

/* As in a WatchCreateRequest. */
struct watch_create {
    struct slice key, range_end;
    int64_t start_revision, watch_id;
    unsigned kinds; /* WATCH_NO_PUT, WATCH_NO_DELETE, WATCH_PREVIOUS */
    bool progress_notify, fragment;
    const char *refusal; /* it is answered with this reason; constant. NULL: it may watch */
};
/* create is copied. Errors of these three: ST_NO_MEMORY. */
CHECKED enum status watch_stream_create(struct watch_stream *stream,
                                        const struct watch_create *create);
CHECKED enum status watch_stream_cancel(struct watch_stream *stream, int64_t watch_id);
CHECKED enum status watch_stream_ask_progress(struct watch_stream *stream);
/* So much of it is not answered yet that the next request should not be taken from the client. */
bool watch_stream_is_full(struct watch_stream *stream);
/* Has sink.room() called, at once if there is room by now. */
void watch_stream_wait(struct watch_stream *stream);
/* What sink.send() took has left: from any thread. */
void watch_stream_sent(struct watch_stream *stream);
/* Nothing is said to the stream after it. Also fine after sink.end(). */
void watch_stream_close(struct watch_stream *stream);

/* ---- watching from within the server ---- */

struct watch_event {
    bool is_delete;
    struct slice key, value;                               /* a deletion has no value */
    int64_t create_revision, mod_revision, version, lease; /* a deletion: mod_revision alone */
    int64_t header_revision; /* of the response that it would have come in */
};

/* One watcher. In its owner's memory from watch_local_start() until on_end. The callbacks come on
 * the hub's thread and must not block; events come in order, all of them, once. */
struct watch_local {
    struct slice key, range_end; /* as in a WatchCreateRequest; borrowed until on_end */
    int64_t start_revision;      /* 0: from now on; else its events are the first that come */
    unsigned kinds;              /* WATCH_NO_PUT or WATCH_NO_DELETE */
    bool wants_leader;           /* as that of a stream */
    void (*on_event)(struct watch_local *local, const struct watch_event *event);
    /* ST_CANCELED: by watch_local_stop(); ST_COMPACTED: events from start_revision, or from where
     * it fell behind, are gone; ST_BUSY: there is no leader, and it wants one; ST_DROPPED: the
     * member stops; ST_NO_MEMORY, ST_IO, ST_CORRUPT. */
    void (*on_end)(struct watch_local *local, enum status why);
    /* The hub's. */
    struct watch_stream stream;
    enum status why;
    atomic_bool stopping;
    atomic_uint refs;
};
/* Any thread. */
void watch_local_start(struct watch_hub *hub, struct watch_local *local);
/* Any thread, the callbacks too; once, and not after on_end has begun (as far as the caller knows:
 * whoever stops from another thread keeps the memory until on_end has come). No event comes once
 * on_end has, one more may until then. */
void watch_local_stop(struct watch_local *local);
#endif
