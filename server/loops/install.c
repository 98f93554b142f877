#include "base/assert.h"
#include "server/loops/snapshots.h"
#include "server/metrics/metrics.h"
#include "server/state/conf_state.h"
#include "server/state/machine.h"

#define WHY_BYTES_MAX 1024U

/* ---- coming in: consensus ---- */

static struct install *install_new(struct loops *loops, struct peer_message *message)
{
    struct install *install = calloc(1, sizeof(*install));
    if (install == NULL)
        return NULL;
    install->loops = loops;
    install->message = message;
    install->meta = *message->message.snapshot;
    buf_init(&install->conf_state, UINT32_MAX);
    buf_init(&install->why, WHY_BYTES_MAX);
    return install;
}

static void set_installing(struct consensus *c, bool installing)
{
    c->installing = installing;
    metrics_set(METRIC_SNAPSHOT_APPLYING, installing);
}

static void discard(struct consensus *c, struct install *install)
{
    install->job.kind = JOB_DISCARD; /* removing files takes the disk's time */
    inbox_push(&c->loops->snapshots.inbox, &install->job.node);
}

/* What is not above our commit index needs no store: the core only answers it. */
static bool is_stale(const struct consensus *c, const struct raft_message *message)
{
    struct raft_status status;
    raft_get_status(c->raft, &status);
    return message->snapshot->last.index <= status.hard_state.commit;
}

void install_begin(struct consensus *c, struct peer_message *message)
{
    const struct raft_message *m = &message->message;
    bool whole = m->snapshot != NULL && message->snapshot_path != NULL;
    struct install *install = whole ? install_new(c->loops, message) : NULL;
    if (install == NULL) {
        consensus_let_go(c->loops, message);
        return;
    }
    if (is_stale(c, m)) {
        enum status ignored = raft_step(c->raft, m);
        (void)ignored; /* what it says is said again by everything that follows */
        discard(c, install);
    } else if (c->installing) {
        discard(c, install); /* one at a time; it is sent again */
    } else {
        set_installing(c, true);
        install->job.kind = JOB_INSTALL;
        inbox_push(&c->loops->snapshots.inbox, &install->job.node);
    }
}

enum status install_answer(struct consensus *c, struct install *install)
{
    enum status st = ST_OK;
    if (install->job.status == ST_OK && !is_stale(c, &install->message->message)) {
        ASSERT(c->prepared == NULL);
        c->prepared = install;
        st = raft_step(c->raft, &install->message->message);
        return st == ST_CORRUPT ? st : ST_OK;
    }
    if (install->job.status == ST_OK)
        st = raft_step(c->raft, &install->message->message); /* only answers by now */
    set_installing(c, false);
    discard(c, install);
    return st == ST_CORRUPT ? st : ST_OK;
}

void install_drop_unwanted(struct consensus *c)
{
    if (c->prepared == NULL)
        return;
    discard(c, c->prepared);
    c->prepared = NULL;
    set_installing(c, false);
}

bool install_is_done(struct consensus *c, struct install *install)
{
    switch ((enum install_state)atomic_load_explicit(&install->state, memory_order_acquire)) {
    case INSTALL_LOADED:
    case INSTALL_LOGGED:
        atomic_store_explicit(&install->state, INSTALL_SWITCHING, memory_order_relaxed);
        inbox_push(&c->loops->applier.installs, &install->node);
        return false;
    case INSTALL_SWITCHING:
    case INSTALL_ADOPTED:
        return false;
    case INSTALL_DONE:
        break;
    }
    set_installing(c, false);
    discard(c, install);
    return true;
}

/* ---- building the store beside the one in use: snapshots actor ---- */

static enum status open_file(struct install *install)
{
    const struct snapshot_options *options = &install->loops->options.snapshots;
    options->store_path(install->loops->options.context, install->meta.last.index, install->path,
                        sizeof(install->path));
    enum status st = options->store->backend->remove(install->path); /* of a try before a crash */
    if (st == ST_OK)
        st = conf_state_encode(&install->meta.conf_state, &install->conf_state);
    if (st == ST_OK)
        st = disk_open(options->disk, install->message->snapshot_path, DISK_READ_ONLY,
                       &install->file);
    if (st != ST_OK)
        return st;
    install->expected = (struct store_mark){.index = install->meta.last.index,
                                            .term = install->meta.last.term,
                                            .conf_state = buf_slice(&install->conf_state)};
    struct dbfile_load_options load = {.file = install->file,
                                       .backend = options->store->backend,
                                       .target = options->store->backend_options,
                                       .expected = &install->expected};
    load.target.path = install->path;
    load.target.create = true;
    load.target.why = &install->why;
    return dbfile_loader_open(&load, &install->loader);
}

/* The store with its index, ready to take the place of the one in use. */
static enum status open_store(struct install *install)
{
    const struct snapshot_options *options = &install->loops->options.snapshots;
    struct store_options store = *options->store;
    store.backend_options.path = install->path;
    store.backend_options.create = false;
    store.wake_writer = NULL;
    store.wake_apply = NULL;
    enum status st = store_open(&store, &install->store);
    if (st != ST_OK)
        return st;
    struct mvcc_options mvcc = *options->mvcc;
    mvcc.store = install->store;
    mvcc.checkpoint_path = NULL;
    return mvcc_open(&mvcc, &install->mvcc);
}

static enum status load_step(struct install *install)
{
    if (install->loader == NULL) {
        enum status st = open_file(install);
        return st == ST_OK ? ST_CANCELED : st;
    }
    bool done = false;
    enum status st = dbfile_loader_step(install->loader, &done);
    if (st != ST_OK)
        return st;
    if (!done)
        return ST_CANCELED;
    dbfile_loader_close(install->loader);
    install->loader = NULL;
    return open_store(install);
}

enum status install_step(struct install *install)
{
    const struct loops_options *options = &install->loops->options;
    enum status st = load_step(install);
    if (st == ST_OK || st == ST_CANCELED)
        return st;
    enum status ignored = buf_append(&install->why, slice_make("", 1));
    (void)ignored;
    if (options->snapshots.failed != NULL)
        options->snapshots.failed(options->context, install->meta.last.index, st,
                                  install->why.len > 0 ? (const char *)install->why.data : "");
    return st == ST_BUSY ? ST_IO : st;
}

void install_free(struct install *install)
{
    const struct snapshot_options *options = &install->loops->options.snapshots;
    bool adopted = atomic_load_explicit(&install->state, memory_order_acquire) >= INSTALL_ADOPTED;
    dbfile_loader_close(install->loader);
    if (!adopted) {
        mvcc_close(install->mvcc);
        store_close(install->store);
    }
    disk_close(install->file);
    enum status ignored = ST_OK;
    if (!adopted && install->path[0] != '\0' &&
        atomic_load_explicit(&install->state, memory_order_relaxed) == INSTALL_LOADED)
        ignored = options->store->backend->remove(install->path);
    ignored = disk_remove(options->disk, install->message->snapshot_path);
    (void)ignored; /* left-overs go at the next start */
    buf_deinit(&install->conf_state);
    buf_deinit(&install->why);
    consensus_let_go(install->loops, install->message);
    free(install);
}

/* ---- the switch: apply and writer ---- */

static enum status end_switch(struct applier *a)
{
    struct install *install = a->install;
    struct loops *loops = a->loops;
    enum status st = machine_reload(loops->options.machine, install->meta.last);
    if (st != ST_OK)
        return st;
    atomic_store_explicit(&loops->applied_index, install->meta.last.index, memory_order_release);
    a->install = NULL;
    atomic_store_explicit(&install->state, INSTALL_DONE, memory_order_release);
    loops_wake(loops, ACTOR_CONSENSUS);
    return ST_OK;
}

void install_take(struct applier *a)
{
    struct inbox_node *node = a->install == NULL ? inbox_take(&a->installs) : NULL;
    if (node == NULL)
        return;
    ASSERT(node->next == NULL); /* the core installs one at a time */
    a->install = CONTAINER_OF(node, struct install, node);
    a->switching = false;
}

enum status install_step_apply(struct applier *a, bool *waits_out)
{
    *waits_out = a->install != NULL;
    if (a->install == NULL)
        return ST_OK;
    if (!a->switching) {
        a->switching = true;
        atomic_store_explicit(&a->loops->adopt_wanted, a->install, memory_order_release);
        loops_wake(a->loops, ACTOR_WRITER);
    }
    int state = atomic_load_explicit(&a->install->state, memory_order_acquire);
    *waits_out = state != INSTALL_ADOPTED;
    return *waits_out ? ST_OK : end_switch(a);
}

enum status install_step_writer(struct loops *loops)
{
    struct install *install = atomic_load_explicit(&loops->adopt_wanted, memory_order_acquire);
    if (install == NULL)
        return ST_OK;
    defragments_begin_again(loops);
    enum status st = loops->options.snapshots.store_chosen(loops->options.context, install->path);
    if (st != ST_OK)
        return st;
    mvcc_adopt(loops->options.mvcc, install->mvcc);
    atomic_store_explicit(&loops->adopt_wanted, NULL, memory_order_relaxed);
    atomic_store_explicit(&install->state, INSTALL_ADOPTED, memory_order_release);
    loops_wake(loops, ACTOR_APPLIER);
    return ST_OK;
}
