/* storage/store_private.h - the store's inside, shared by store.c (apply), store_view.c (readers),
 * store_writer.c and store_defragment.c (backend writer).
 *
 * Life of a change: active generation -> sealed generation -> backend -> a new set of snapshots is
 * published and the sealed generation dropped, both in one hold of the lock. So a reader that takes
 * its view under the lock finds a record in a generation, in its snapshot, or in both, never in
 * neither. A dropped generation is freed once every set published up to then has come back. */
#ifndef STORAGE_STORE_PRIVATE_H
#define STORAGE_STORE_PRIVATE_H
#include "base/buf.h"
#include "base/list.h"
#include "storage/generation.h"
#include "storage/store.h"

#include <stdatomic.h>

/* An open backend. Owned by the writer; ends with the last set that reads it. */
struct store_instance {
    struct backend *backend; /* owned */
    char *path;              /* owned */
    uint32_t sets_count;
    bool replaced; /* its file goes when it closes */
};

/* What one reader slot holds of a set. */
struct store_view {
    struct store_set *set;
    struct backend_snapshot *snapshot;        /* owned by the set */
    const struct generation *sealed, *active; /* as of the newest acquire; sealed may be NULL */
};

/* The snapshots opened after one commit: one per reader, and apply's own. */
struct store_set {
    struct list_node node;  /* in store->retired */
    atomic_uint references; /* one while published, one per loan */
    struct store *store;
    struct store_instance *instance;
    struct generation *dropped;        /* left the store when this set did; owned */
    struct generation *dropped_active; /* likewise, when another store took its place */
    uint32_t views_count;
    struct store_view views[];
};

/* One store_forget(). */
struct forget_batch {
    struct list_node node;
    uint64_t generation; /* deletable with or after the commit of this one */
    size_t count, done;
    struct store_dead dead[];
};

struct store {
    struct store_options options; /* backend_options.path is not used after open */
    struct lock *lock;            /* borrowed */

    /* Under the lock. */
    struct store_set *set;     /* published */
    struct generation *active; /* written by apply; also read by it without the lock */
    struct generation *sealed; /* or NULL */
    uint64_t durable_log_index, durable_log_term;
    struct list_node forget;  /* of forget_batch, oldest first */
    uint64_t adoptions_count; /* how often another store took its place */

    /* Apply. */
    struct store_mark opened_at, applied; /* conf_states in the two buffers */
    struct buf opened_conf_state, applied_conf_state;
    bool in_entry;              /* something was written since the last end */
    bool seal_wanted;           /* a force that could not be done */
    uint64_t forget_generation; /* what the newest deletions wait for; 0: none so far */

    /* Writer. */
    struct store_instance *instance; /* the newest */
    struct list_node retired;        /* sets that are no longer published, oldest first */
    bool unpublished;                /* a commit is done whose set could not be opened yet */
    bool retry;                      /* the newest step failed and is to be repeated */
    bool defragmenting;              /* deletions wait */
    bool deletions_hurry;            /* somebody waits for them */
    uint32_t forget_ops_max;         /* deletions in one commit: less while the disk is full */
    uint64_t committed_generation;   /* number of the newest one in the backend */
    uint64_t last_commit_ns;
    uint64_t commit_times_ns[COMMIT_TIMES_COUNT];
    uint32_t commit_times_count; /* all so far */

    /* Any thread; relaxed unless said otherwise: figures, not hand-overs. */
    _Atomic uint64_t generation_bytes, committed_index, durable_index, forget_pending;
    _Atomic uint64_t seal_interval_ns;
    atomic_int health;      /* enum status */
    atomic_uint pins_count; /* either a deletion sees the pin or the pin sees the deletion: */
    atomic_bool deleting;   /* from before the writer looks for pins until its commit is published,
                               both in one total order */
};

/* ---- store_view.c ---- */
/* Opens snapshots of the instance's newest commit. Errors: the backend's. */
CHECKED enum status store_set_new(struct store *store, struct store_instance *instance,
                                  struct store_set **out);
void store_set_free(struct store_set *set); /* one that nobody has on loan */
/* Makes set the published one; drops the sealed generation with the old one if drop_sealed. */
void store_publish(struct store *store, struct store_set *set, bool drop_sealed);
/* Closes the retired sets that came back; then what they alone kept. Writer. */
void store_reap(struct store *store);
/* Apply's own view. */
struct store_view *store_apply_view(struct store *store);

/* ---- store_writer.c ---- */
CHECKED enum status store_instance_open(struct store *store, const char *path, bool create,
                                        struct store_instance **out);
void store_instance_close(struct store_instance *instance); /* NULL is fine */
void store_wake_writer(struct store *store);
#endif
