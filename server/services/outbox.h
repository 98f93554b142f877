/* server/services/outbox.h - the messages of a stream that are made faster than they leave, by any
 * thread: they wait here, in order, and leave one after another. It lives in the call's memory. */
#ifndef SERVER_SERVICES_OUTBOX_H
#define SERVER_SERVICES_OUTBOX_H
#include "server/rpc/rpc.h"
#include "server/services/sending.h"

#define OUTBOX_MESSAGES_MAX 10000U /* that a client does not take */

struct outbox {
    struct rpc_call *call;
    struct inbox inbox; /* of messages */
    atomic_uint count;
    atomic_int turn; /* whether somebody sends, or has ended the call */
    atomic_bool canceled;
    struct sending sending;
    struct inbox_node *next; /* whoever's turn it is */
    bool ending;
    enum rpc_code code; /* of the end */
    const char *text;
};

void outbox_init(struct outbox *outbox, struct rpc_call *call);
/* A copy of the message leaves after those before it; one thread at a time. Errors: ST_TOO_BIG (too
 * many wait), ST_NO_MEMORY. */
CHECKED enum status outbox_send(struct outbox *outbox, struct slice message);
/* Finishes the call when all have left, or at once when its peer has gone: once, after the last
 * message. text is constant. The call may be over when this returns. */
void outbox_end(struct outbox *outbox, enum rpc_code code, const char *text);
void outbox_sent(struct outbox *outbox);   /* for on_sent */
void outbox_cancel(struct outbox *outbox); /* for on_cancel; outbox_end() is still to be called */
#endif
