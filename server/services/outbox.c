#include "server/services/outbox.h"

#include "base/list.h"

#include <stdlib.h>

/* Whose turn it is: nobody's, somebody's, and then whether he was called once more, or for the last
 * time. One step gives it back, for the call may be over right after that. */
enum { TURN_FREE, TURN_TAKEN, TURN_CALLED, TURN_ENDING };

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
    sending_begin(&outbox->sending);
    enum status st = rpc_send(outbox->call, slice_make(outgoing->bytes, outgoing->size));
    drop(outbox, &outgoing->node);
    return !sending_waits(&outbox->sending, st == ST_OK);
}

/* Has the turn. What comes after a cancellation is dropped until the end is told. */
static void run(struct outbox *outbox)
{
    for (;;) {
        if (atomic_exchange(&outbox->turn, TURN_TAKEN) == TURN_ENDING)
            outbox->ending = true;
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
        if (outbox->ending) { /* it was told after the last message, and none is left */
            rpc_finish(outbox->call, outbox->code, outbox->text, SLICE_EMPTY);
            return;
        }
        int taken = TURN_TAKEN;
        if (atomic_compare_exchange_strong(&outbox->turn, &taken, TURN_FREE))
            return;
    }
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
    if (atomic_exchange(&outbox->turn, TURN_CALLED) == TURN_FREE)
        run(outbox);
    return ST_OK;
}

void outbox_end(struct outbox *outbox, enum rpc_code code, const char *text)
{
    outbox->code = code;
    outbox->text = text;
    if (atomic_exchange(&outbox->turn, TURN_ENDING) == TURN_FREE)
        run(outbox);
}

static void over(struct outbox *outbox)
{
    if (sending_over(&outbox->sending))
        run(outbox);
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
