/* server/services/sending.h - where the message in flight of a stream is. rpc_send() may not have
 * returned yet when on_sent or on_cancel says that the message has left or never will; one of the
 * two threads, and never both, goes on with the stream. */
#ifndef SERVER_SERVICES_SENDING_H
#define SERVER_SERVICES_SENDING_H
#include <stdatomic.h>
#include <stdbool.h>

enum sending_state { SENDING_NONE, SENDING_CALLING, SENDING_WAITING, SENDING_OVER };

struct sending {
    atomic_int state; /* enum sending_state; all zero is none */
};

static inline void sending_begin(struct sending *sending) /* before rpc_send() */
{
    atomic_store(&sending->state, SENDING_CALLING);
}

/* After rpc_send(). True: the message is on its way, and whoever learns that it is over goes on.
 * False: it is over, and the caller goes on. */
static inline bool sending_waits(struct sending *sending, bool is_sent)
{
    int calling = SENDING_CALLING;
    if (is_sent && atomic_compare_exchange_strong(&sending->state, &calling, SENDING_WAITING))
        return true;
    atomic_store(&sending->state, SENDING_NONE);
    return false;
}

/* The message has left or never will; also when there is none. True: the caller goes on. */
static inline bool sending_over(struct sending *sending)
{
    int state = atomic_load(&sending->state);
    while (state == SENDING_CALLING || state == SENDING_WAITING) {
        int next = state == SENDING_CALLING ? SENDING_OVER : SENDING_NONE;
        if (atomic_compare_exchange_weak(&sending->state, &state, next))
            return next == SENDING_NONE;
    }
    return false;
}
#endif
