#include "server/services/outbox.h"

#include "base/list.h"

#include <stdlib.h>

/* Where the message in flight is: CALLING while rpc_send() runs, for it may be over before that
 * returns; then whoever called goes on. */
enum { SEND_NONE, SEND_CALLING, SEND_WAITING, SEND_OVER };

struct outgoing {
    struct inbox_node node;
    size_t size;
    uint8_t bytes[];
};

void outbox_init(struct outbox *outbox, struct rpc_call *call)
{
    *outbox = (struct outbox){.call = call};
    inbox_init(&outbox->inbox, NULL, NULL);
}

static void drop(struct outbox *outbox, struct inbox_node *chain)
{
    for (struct inbox_node *node = chain, *next; node != NULL; node = next) {
        next = node->next;
        free(CONTAINER_OF(node, struct outgoing, node));
        atomic_fetch_sub(&outbox->count, 1);
    }
}

/* False: it is on its way, and on_sent or on_cancel goes on. */
static bool send_one(struct outbox *outbox)
{
    struct outgoing *outgoing = CONTAINER_OF(outbox->next, struct outgoing, node);
    outbox->next = outgoing->node.next;
    outgoing->node.next = NULL;
    atomic_store(&outbox->sending, SEND_CALLING);
    enum status st = rpc_send(outbox->call, slice_make(outgoing->bytes, outgoing->size));
    drop(outbox, &outgoing->node);
    int calling = SEND_CALLING;
    if (st == ST_OK && atomic_compare_exchange_strong(&outbox->sending, &calling, SEND_WAITING))
        return false;
    atomic_store(&outbox->sending, SEND_NONE);
    return true;
}

/* Holds busy. What comes after a cancellation is dropped until the end is told. */
static void run(struct outbox *outbox)
{
    for (;;) {
        bool ending = atomic_load(&outbox->ending);
        if (outbox->next == NULL)
            outbox->next = inbox_take(&outbox->inbox);
        if (atomic_load(&outbox->canceled)) {
            drop(outbox, outbox->next);
            outbox->next = NULL;
        }
        if (outbox->next != NULL) {
            if (!send_one(outbox))
                return;
            continue;
        }
        if (ending) { /* it was told after the last message, and none is left */
            rpc_finish(outbox->call, outbox->code, outbox->text, SLICE_EMPTY);
            return;
        }
        atomic_store(&outbox->busy, false);
        bool is_idle = inbox_is_empty(&outbox->inbox) && !atomic_load(&outbox->ending);
        if (is_idle || atomic_exchange(&outbox->busy, true))
            return;
    }
}

static void go_on(struct outbox *outbox)
{
    if (!atomic_exchange(&outbox->busy, true))
        run(outbox);
}

enum status outbox_send(struct outbox *outbox, struct slice message)
{
    if (atomic_load(&outbox->count) >= OUTBOX_MESSAGES_MAX)
        return ST_TOO_BIG;
    struct outgoing *outgoing = malloc(sizeof(*outgoing) + message.len);
    if (outgoing == NULL)
        return ST_NO_MEMORY;
    outgoing->size = message.len;
    memcpy(outgoing->bytes, message.data, message.len);
    atomic_fetch_add(&outbox->count, 1);
    inbox_push(&outbox->inbox, &outgoing->node);
    go_on(outbox);
    return ST_OK;
}

void outbox_end(struct outbox *outbox, enum rpc_code code, const char *text)
{
    outbox->code = code;
    outbox->text = text;
    atomic_store(&outbox->ending, true);
    go_on(outbox);
}

static void over(struct outbox *outbox)
{
    int waiting = SEND_WAITING, calling = SEND_CALLING;
    if (atomic_compare_exchange_strong(&outbox->sending, &waiting, SEND_NONE))
        run(outbox);
    else
        (void)atomic_compare_exchange_strong(&outbox->sending, &calling, SEND_OVER);
}

void outbox_sent(struct outbox *outbox)
{
    over(outbox);
}

void outbox_cancel(struct outbox *outbox)
{
    atomic_store(&outbox->canceled, true);
    over(outbox);
}
