/* storage/store.h - the state machine's memory between apply and the backend. Applied changes live
 * in generations: the active one takes writes, at most one sealed one waits to be committed by the
 * backend writer, and readers look through both before the backend's snapshot. A generation is
 * sealed whole at an entry boundary and committed only when the log on disk contains it ("the store
 * rule", docs/architecture.md): the store on disk is never ahead of, or beside, the log on disk.
 *
 * Who calls what: `apply` verbs - the apply actor only. `writer` verbs - the backend writer only.
 * `view` verbs - any reader, each with its own slot. The published view is guarded by the lock
 * handed in (the index's lock). */
#ifndef STORAGE_STORE_H
#define STORAGE_STORE_H
#include "base/arena.h"
#include "base/clock.h"
#include "base/lock.h"
#include "base/slice.h"
#include "base/status.h"
#include "storage/backend.h"
#include "storage/revision.h"

#include <stdbool.h>
#include <stdint.h>

struct store;
struct store_view;
struct store_pin;

struct store_options {
    const struct backend_ops *backend;
    struct backend_options backend_options;
    struct lock *lock;         /* borrowed; also the index's */
    const struct clock *clock; /* borrowed */
    uint32_t readers_count; /* slots for view readers: one open snapshot each after every publish */
    void (*wake_writer)(
        void *context); /* called by apply when there is work for the writer; may be NULL */
    void (*wake_apply)(void *context); /* called by the writer when a commit is done; may be NULL */
    void *wake_context;
};

/* Opens the backend and its first snapshots. Errors: the backend's. */
CHECKED enum status store_open(const struct store_options *options, struct store **out);
/* Applies nothing more: whatever is not committed is dropped (the log has it). NULL is fine. */
void store_close(struct store *store);
/* The mark found at open; index 0 on a fresh store. Borrowed until store_close(). */
struct store_mark store_opened_at(const struct store *store);

/* ---- apply ---- */

/* Appends one record of BUCKET_KEY; revisions strictly increase. The bytes are copied. Visible to
 * readers at once (but they come here only by way of the index). Errors: ST_NO_MEMORY. */
CHECKED enum status store_append(struct store *store, struct revision revision, bool tombstone,
                                 struct slice record);
/* Small buckets: everything but BUCKET_KEY. Copied. */
CHECKED enum status store_put(struct store *store, enum bucket bucket, struct slice key,
                              struct slice value);
CHECKED enum status store_delete(struct store *store, enum bucket bucket, struct slice key);
/* store_put() of something that belongs to no entry and holds whatever the next one is: it becomes
 * durable with them, and no seal waits for it. */
CHECKED enum status store_note(struct store *store, enum bucket bucket, struct slice key,
                               struct slice value);
/* store_delete() likewise. */
CHECKED enum status store_note_deleted(struct store *store, enum bucket bucket, struct slice key);
/* Looks through the generations and then the backend. *value_out is in arena. ST_NOT_FOUND,
 * ST_TOO_BIG (the arena's cap), ST_NO_MEMORY, ST_CORRUPT, ST_IO. */
CHECKED enum status store_get(struct store *store, enum bucket bucket, struct slice key,
                              struct arena *arena, struct slice *value_out);
/* Calls fn for every record of a small bucket in key order (generations merged over the backend).
 * Stops at the first status other than ST_OK and returns it. The slices are borrowed for the call,
 * and fn changes nothing in this bucket. */
typedef enum status (*store_each_fn)(void *context, struct slice key, struct slice value);
CHECKED enum status store_each(struct store *store, enum bucket bucket, store_each_fn fn,
                               void *context);
/* Schedules the physical deletion of revisions (compaction): given to the writer, in small batches
 * that ride on the next commits, never before what was applied so far is committed, and not while a
 * pin is held. Copied. What is pending is lost with the process: the caller schedules
 * it again after a restart. In ascending order it costs the fewest pages. Errors: ST_BUSY (too many
 * pending: later), ST_NO_MEMORY. */
struct store_dead {
    struct revision revision;
    bool tombstone;
};
CHECKED enum status store_forget(struct store *store, const struct store_dead *dead, size_t count);
/* Deletions scheduled and not yet committed. Any thread. */
uint64_t store_forget_pending_count(const struct store *store);
/* Ends an entry: everything since the last end belongs to mark->index, which is above the last one.
 * conf_state may be empty: as before. Copied. Errors: ST_NO_MEMORY. */
CHECKED enum status store_end_entry(struct store *store, const struct store_mark *mark);
/* What the log has durably, from the consensus actor by way of apply's queue: {index, term}. It may
 * go down. */
void store_set_durable(struct store *store, uint64_t index, uint64_t term);
/* Seals the active generation when it is due (size, age, deletions that wait for it) or force is
 * set. While another one is sealed, or inside an entry, nothing happens, but a force is remembered
 * and done by a later call. Errors: ST_NO_MEMORY. */
CHECKED enum status store_seal(struct store *store, bool force);
/* True when apply must wait for the writer: the generations hold their limit (OVERLAY_BYTES_MAX).
 */
bool store_is_full(const struct store *store);
/* Sticky failure of the writer (ST_IO, ST_CORRUPT) or ST_NO_SPACE while the backend's disk is full,
 * else ST_OK. Any thread. */
enum status store_health(const struct store *store);

/* ---- writer ---- */

/* Commits the sealed generation if the store rule allows it now, plus a slice of scheduled
 * deletions; publishes a new view; closes old views that came back. *worked_out tells whether a
 * commit happened. ST_NO_SPACE, ST_NO_MEMORY, ST_BUSY: all is kept, the next step tries
 * again; ST_IO, ST_CORRUPT: fatal. */
CHECKED enum status store_writer_step(struct store *store, bool *worked_out);
/* Monotonic time at which a step is due even if nobody wakes the writer (deletions wait for their
 * turn, a full disk is tried again); UINT64_MAX: none. Writer. */
uint64_t store_writer_deadline_ns(struct store *store);
/* Flushes so that durable index == committed index (clean stop, snapshots, log release). */
CHECKED enum status store_writer_flush(struct store *store);
/* Index of the newest mark that surely survives a power cut: the log below it may go. Any thread.
 */
uint64_t store_durable_index(const struct store *store);

/* ---- view: readers ---- */

/* Must be called with the lock held; gives a counted view for this reader's slot (a slot serves one
 * thread, which may hold several). The view sees every revision appended so far. Give it back
 * within 100 ms: the snapshots of an old view close only then. */
struct store_view *store_view_acquire(struct store *store, uint32_t reader);
void store_view_release(struct store_view *view); /* without the lock */
/* The record (encoded mvccpb.KeyValue, no checksum) at a revision. Borrowed from the view. For as
 * long as the view is held when *stable_out is set, else only until the next call on it.
 * ST_NOT_FOUND: compacted away. */
CHECKED enum status store_view_get(struct store_view *view, struct revision revision,
                                   struct slice *record_out, bool *stable_out);
/* The same where that needs no backend page (it is in a generation), for as long as the view is
 * held; false: it may be in the backend. */
bool store_view_get_in_memory(const struct store_view *view, struct revision revision,
                              struct slice *record_out);

/* Walks BUCKET_KEY in revision order from `from`, generations included. Used by start-up, watch
 * history, hashes, exports. Stops at the first status other than ST_OK. */
typedef enum status (*store_revision_fn)(void *context, struct revision revision, bool tombstone,
                                         struct slice record);
CHECKED enum status store_view_each(struct store_view *view, struct revision from,
                                    store_revision_fn fn, void *context);

/* ---- pins, switch, upkeep ---- */

/* Taken by apply between entries: a consistent state {mark, revision limits are the mvcc's} with
 * copies of all small buckets. Deletion of revisions waits while a pin is held. Errors:
 * ST_NO_MEMORY, ST_IO. */
CHECKED enum status store_pin(struct store *store, struct store_pin **out);
void store_unpin(struct store *store, struct store_pin *pin); /* any thread; NULL is fine */
struct store_mark store_pin_mark(const struct store_pin *pin);
/* False once another store took the place of the pinned one: views show that one's revisions. With
 * the lock held. */
bool store_pin_is_current(const struct store *store, const struct store_pin *pin);
/* While a pin is held: true once the deletions that were under way when it was taken are over. From
 * then on, until the unpin, every view shows the same of the revisions that the pin contains. Any
 * thread. */
bool store_is_settled(const struct store *store);
CHECKED enum status store_pin_each(const struct store_pin *pin, enum bucket bucket,
                                   store_each_fn fn, void *context);

/* Replaces the backend by the one at path, already written, synced, and at exactly the committed
 * mark of the old. Writer only. The old one closes after its last reader (a later step), then its
 * file is removed. Errors: ST_INVALID (another mark), and those of an open; the old one stays. */
CHECKED enum status store_switch(struct store *store, const char *path);
/* incoming takes the place of store, at a higher mark: its backend, its (empty) generations and its
 * marks. What store held in generations is dropped, the old file is removed after its last reader.
 * incoming was opened with the same lock and number of readers, nobody else uses it, and it is
 * closed here. Writer only, while apply waits between two entries. also is called under the lock,
 * for what must change in the same instant. See mvcc_adopt(). */
void store_adopt(struct store *store, struct store *incoming, void (*also)(void *context),
                 void *context);
/* Copies the store record by record to a new one at path and, when it is whole, switches to it.
 * Writer only, and between the steps its ordinary ones; deletions wait. Errors: ST_EXISTS (path),
 * ST_NO_SPACE, and those of an open. */
struct store_copy;
CHECKED enum status store_defragment_begin(struct store *store, const char *path,
                                           struct store_copy **out);
/* A chunk; *done_out: the copy is whole and durable, and at the store's committed mark as long as
 * the writer takes no step: that is the moment to note down its name. Errors: ST_NO_SPACE,
 * ST_NO_MEMORY, ST_CORRUPT (what is to be copied), ST_IO; then it is to be canceled. The store
 * itself is as well as before. */
CHECKED enum status store_defragment_step(struct store_copy *copy, bool *done_out);
/* After the last step. Takes copy. */
void store_defragment_end(struct store_copy *copy);
/* Removes the half-made copy; NULL is fine. Must come before store_close() and store_adopt(). */
void store_defragment_cancel(struct store_copy *copy);

/* From now on scheduled deletions ride on commits of their own, one after another, instead of one
 * in a while: somebody waits for them. Writer. */
void store_hurry_deletions(struct store *store, bool hurry);

struct store_stat {
    struct backend_stat backend;
    uint64_t generation_bytes; /* active and sealed */
    uint64_t room_bytes;       /* for new writes: the rest is for what the generations hold */
    uint64_t committed_index, durable_index;
    uint64_t forget_pending_count;
};
CHECKED enum status store_get_stat(struct store *store, struct store_stat *out); /* any thread */
CHECKED enum status store_check(struct store *store,
                                struct buf *report); /* writer; the backend's check */
#endif
