/* Replacing the store's file under a running store: the switch, and the compact copy that uses it.
 * The writer's ordinary steps go on between those of the copy; deletions wait until the switch. */
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

/* Takes instance, also on an error. */
static enum status switch_to(struct store *store, struct store_instance *instance)
{
    struct store_set *set = NULL;
    enum status st = same_mark(store->instance->backend, instance->backend);
    if (st == ST_OK)
        st = store_set_new(store, instance, &set);
    if (st != ST_OK) {
        store_instance_close(instance);
        return st;
    }
    store->instance->replaced = true;
    instance->replaced = false;
    store->instance = instance;
    store_publish(store, set, /* drop_sealed= */ false);
    /* The new file was synced as a whole before it came here. */
    atomic_store_explicit(&store->durable_index,
                          atomic_load_explicit(&store->committed_index, memory_order_relaxed),
                          memory_order_release);
    store_reap(store);
    return ST_OK;
}

enum status store_switch(struct store *store, const char *path)
{
    enum status st = store_health(store);
    if (status_is_fatal(st))
        return st;
    struct store_instance *instance;
    st = store_instance_open(store, path, /* create= */ false, &instance);
    return st == ST_OK ? switch_to(store, instance) : st;
}

/* ---- the copy ---- */

static enum status copy_all(struct store *store, struct backend *to)
{
    struct backend_copy copy = backend_copy_new(store->instance->backend, to);
    enum status st = ST_OK;
    while (st == ST_OK && !copy.at_end) {
        st = backend_copy_step(&copy);
        bool worked;
        if (st == ST_OK && !copy.at_end)
            st = store_writer_step(store, &worked);
    }
    return st;
}

enum status store_defragment(struct store *store, const char *path)
{
    enum status st = store_health(store);
    if (status_is_fatal(st))
        return st;
    struct store_instance *instance;
    st = store_instance_open(store, path, /* create= */ false, &instance);
    store_instance_close(instance);
    if (st != ST_NOT_FOUND)
        return st == ST_NO_MEMORY || st == ST_IO ? st : ST_EXISTS;
    st = store_instance_open(store, path, /* create= */ true, &instance);
    if (st != ST_OK)
        return st;
    instance->replaced = true; /* until it is the store: half made, it goes when it closes */
    store->defragmenting = true;
    st = copy_all(store, instance->backend);
    store->defragmenting = false;
    if (st == ST_OK)
        return switch_to(store, instance);
    store_instance_close(instance);
    return st;
}
