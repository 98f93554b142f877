/* Replacing the store's file under a running store: the switch, and the compact copy that uses it.
 * The writer takes its ordinary steps between those of the copy; deletions wait until the switch.
 */
#include "base/assert.h"
#include "storage/backend_copy.h"
#include "storage/store_private.h"

static enum status read_mark(struct backend *backend, struct store_mark *out)
{
    struct buf conf_state;
    buf_init(&conf_state, CONF_STATE_BYTES_MAX);
    enum status st = backend->ops->mark(backend, out, &conf_state);
    out->conf_state = SLICE_EMPTY;
    buf_deinit(&conf_state);
    return st;
}

static enum status same_mark(struct backend *a, struct backend *b)
{
    struct store_mark of_a, of_b;
    enum status st = read_mark(a, &of_a);
    if (st == ST_OK)
        st = read_mark(b, &of_b);
    if (st != ST_OK)
        return st;
    return of_a.index == of_b.index && of_a.term == of_b.term ? ST_OK : ST_INVALID;
}

/* What can fail of a switch: the other is at the same mark, and its snapshots open. */
static enum status prepare_switch(struct store *store, struct store_instance *instance,
                                  struct store_set **out)
{
    enum status st = same_mark(store->instance->backend, instance->backend);
    return st == ST_OK ? store_set_new(store, instance, out) : st;
}

/* Takes both. */
static void switch_to(struct store *store, struct store_instance *instance, struct store_set *set)
{
    store->instance->replaced = true;
    instance->replaced = false;
    store->instance = instance;
    store_publish(store, set, /* drop_sealed= */ false);
    /* The new file was synced as a whole before it came here. */
    atomic_store_explicit(&store->durable_index,
                          atomic_load_explicit(&store->committed_index, memory_order_relaxed),
                          memory_order_release);
    store_reap(store);
}

enum status store_switch(struct store *store, const char *path)
{
    enum status st = store_health(store);
    if (status_is_fatal(st))
        return st;
    struct store_instance *instance;
    struct store_set *set;
    st = store_instance_open(store, path, /* create= */ false, &instance);
    if (st != ST_OK)
        return st;
    st = prepare_switch(store, instance, &set);
    if (st == ST_OK)
        switch_to(store, instance, set);
    else
        store_instance_close(instance);
    return st;
}

/* ---- the copy ---- */

struct store_copy {
    struct store *store;
    struct store_instance *instance; /* owned */
    struct backend_copy records;
    struct store_set *set; /* owned; once it is whole: its snapshots */
};

static enum status open_copy(struct store *store, const char *path, struct store_instance **out)
{
    enum status st = store_instance_open(store, path, /* create= */ false, out);
    store_instance_close(*out);
    *out = NULL;
    if (st != ST_NOT_FOUND)
        return st == ST_NO_MEMORY || st == ST_IO ? st : ST_EXISTS;
    st = store_instance_open(store, path, /* create= */ true, out);
    if (st == ST_OK)
        (*out)->replaced = true; /* until it is the store: half made, it goes when it closes */
    return st;
}

enum status store_defragment_begin(struct store *store, const char *path, struct store_copy **out)
{
    *out = NULL;
    enum status st = store_health(store);
    if (status_is_fatal(st))
        return st;
    if (strcmp(path, store->instance->path) == 0)
        return ST_EXISTS; /* a library that has a file open must not open it again */
    struct store_copy *copy = calloc(1, sizeof(*copy));
    if (copy == NULL)
        return ST_NO_MEMORY;
    st = open_copy(store, path, &copy->instance);
    if (st != ST_OK) {
        free(copy);
        return st;
    }
    copy->store = store;
    copy->records = backend_copy_new(store->instance->backend, copy->instance->backend);
    store->defragmenting = true;
    *out = copy;
    return ST_OK;
}

enum status store_defragment_step(struct store_copy *copy, bool *done_out)
{
    ASSERT(copy->set == NULL);
    enum status st = backend_copy_step(&copy->records);
    if (st == ST_OK && copy->records.at_end)
        st = prepare_switch(copy->store, copy->instance, &copy->set);
    *done_out = copy->set != NULL;
    return st;
}

void store_defragment_end(struct store_copy *copy)
{
    ASSERT(copy->set != NULL);
    copy->store->defragmenting = false;
    switch_to(copy->store, copy->instance, copy->set);
    free(copy);
}

void store_defragment_cancel(struct store_copy *copy)
{
    if (copy == NULL)
        return;
    copy->store->defragmenting = false;
    if (copy->set != NULL)
        store_set_free(copy->set);
    store_instance_close(copy->instance);
    free(copy);
}
