/* server/rpc/grpc_private.h - what the grpc_*.c files share. */
#ifndef SERVER_RPC_GRPC_PRIVATE_H
#define SERVER_RPC_GRPC_PRIVATE_H
#include "server/rpc/grpc_server.h"
#include "server/rpc/limits.h"
#include "server/rpc/rpc_stats.h"

#include <grpc/grpc.h>
#include <pthread.h>
#include <semaphore.h>

struct poller;

/* What a completion queue gives back; ok is gRPC's success. Runs on the queue's poller. */
struct tag {
    void (*fire)(struct tag *tag, bool ok);
};

/* One registered method. */
struct grpc_method {
    const struct rpc_method *method;
    void *service;
    void *registration; /* gRPC's handle */
    struct rpc_method_stats stats;
    bool watches_close; /* cancellation is learnt early, at the price of one more event a call */
};

enum {
    CALL_SENDING = 1U,   /* a message is in flight */
    CALL_FINISHING = 2U, /* the service has finished */
};

/* A call as gRPC sees it. refs: one for the service until the last batch is through, one for every
 * other operation under way, one for every rpc_ref() and for an answer that is sent from the arena.
 * Before the arrival the object stands in gRPC's queue of posted requests, after its end in its
 * poller's pool. */
struct grpc_rpc {
    struct rpc_call call; /* must be first */
    struct grpc_rpc *next_free;
    struct rpc_server *server;
    struct poller *poller;
    struct grpc_method *method;
    grpc_call *handle;
    grpc_metadata_array metadata;
    gpr_timespec deadline;
    grpc_byte_buffer *payload;  /* the request of a unary call */
    grpc_byte_buffer *received; /* a stream's message */
    grpc_byte_buffer *outgoing; /* the one that is to be sent */
    struct list_node in_burst;  /* until it is */
    struct inbox_node to_poller;
    uint32_t connection; /* its file descriptor; UINT32_MAX: not asked for yet */
    struct arena arena;
    struct tag arrived, closed, message_received, message_sent, finished, again;
    atomic_uint refs;
    atomic_uint flags; /* CALL_*; an exchange orders send, finish and their completions */
    int cancelled;     /* written by gRPC before closed fires */
    bool headers_sent; /* by the sender, ordered by flags */
    bool close_posted;
    enum rpc_code code; /* of the finish, with the next two */
    struct slice answer;
    grpc_slice text;
    char peer[RPC_PEER_BYTES];
};

/* A call to a path nobody registered. */
struct grpc_stranger {
    struct poller *poller;
    grpc_call *handle;
    grpc_call_details details;
    grpc_metadata_array metadata;
    struct tag arrived, finished;
    int cancelled;
};

#define RPC_BURST_GROUPS 64U

struct poller {
    struct rpc_server *server;
    uint32_t number;
    grpc_completion_queue *queue;
    pthread_t thread;
    bool running;
    struct grpc_rpc *pool; /* the poller thread's alone */
    uint32_t pool_count;
    atomic_uint live;    /* calls that arrived and have not ended */
    struct inbox bursts; /* calls with a message to send */
    struct tag bursts_came;
    /* The poller thread's alone: taken from the inbox and not sent yet, by connection. */
    struct list_node to_send[RPC_BURST_GROUPS];
    uint32_t to_send_count, next_group;
};

struct responder {
    struct inbox inbox; /* calls with code, text and answer set */
    sem_t wake;
    pthread_t thread;
    bool running;
    atomic_bool stopping;
};

/* Gives the memory of large answers back to the system, which takes a moment for each megabyte: a
 * poller would keep every other call waiting meanwhile. */
struct reaper {
    struct inbox inbox; /* calls that nobody holds */
    sem_t wake;
    pthread_t thread;
    bool running;
    atomic_bool stopping;
};

struct rpc_server {
    struct rpc_server_options options;
    grpc_server *handle;
    grpc_server_credentials *credentials;
    struct grpc_method *methods;
    uint32_t methods_count;
    struct rpc_versions versions;
    struct poller pollers[RPC_POLLERS_MAX];
    struct responder responders[RPC_RESPONDERS_MAX];
    struct reaper reaper;
    struct tag shut;
    atomic_bool shutting;
    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t changed;
    bool started, abandoned, is_shut;
    char (*peers)[RPC_PEER_BYTES]; /* by file descriptor */
    size_t peers_count;
};

/* grpc_call.c */
extern const struct rpc_transport grpc_transport;
/* Posts one request for method to the poller's queue. */
void grpc_rpc_post(struct poller *poller, struct grpc_method *method);
void grpc_rpc_free(struct grpc_rpc *rpc); /* one that no operation and nobody else holds */
/* Sends what rpc holds as its finish. */
void grpc_rpc_finish_now(struct grpc_rpc *rpc);

/* grpc_stream.c */
void grpc_stream_init(struct grpc_rpc *rpc);
void grpc_stream_begin(struct grpc_rpc *rpc); /* opens it and reads the first message */
void grpc_stream_again(struct grpc_rpc *rpc); /* delivers the message that was held once more */
enum status grpc_stream_send(struct rpc_call *call, struct slice message);
enum status grpc_stream_send_pieces(struct rpc_call *call, const struct rpc_piece *pieces,
                                    uint32_t count, struct rpc_burst *burst);

/* Starts the batch that sends rpc->outgoing. */
void grpc_stream_start_send(struct grpc_rpc *rpc);

/* grpc_burst.c */
/* Keeps rpc->outgoing until the burst ends. */
void grpc_burst_hold(struct rpc_burst *burst, struct grpc_rpc *rpc);
void grpc_burst_end(struct rpc_burst *burst);
void grpc_bursts_init(struct poller *poller);
/* Sends a part of what is to be sent; the poller's thread. */
void grpc_burst_send_part(struct poller *poller);

/* grpc_message.c: gRPC's buffers and ours. */
/* The whole message as one slice: in place, or copied into the arena when gRPC holds it in pieces.
 * On an error *text_out (in the arena or constant) says what is wrong with it. */
CHECKED enum rpc_code grpc_message_read(struct grpc_rpc *rpc, const grpc_byte_buffer *buffer,
                                        struct slice *out, const char **text_out);
/* A buffer for an answer; keeps the call alive while gRPC still needs the bytes. */
grpc_byte_buffer *grpc_message_from_answer(struct grpc_rpc *rpc, struct slice answer);
grpc_byte_buffer *grpc_message_from_copy(struct slice message);
/* Large pieces that are shared are referred to, the others copied. */
grpc_byte_buffer *grpc_message_from_pieces(const struct rpc_piece *pieces, uint32_t count);

/* grpc_stranger.c */
void grpc_stranger_post(struct poller *poller);

/* grpc_threads.c */
/* Starts the thread; it posts requests and polls once its server is started or abandoned. */
CHECKED enum status poller_start(struct poller *poller);
void poller_join(struct poller *poller); /* its queue is shut down */
bool poller_is_current(const struct poller *poller);
CHECKED enum status responder_start(struct responder *responder);
void responder_stop(struct responder *responder);
CHECKED enum status reaper_start(struct reaper *reaper);
void reaper_stop(struct reaper *reaper); /* frees what is left; fine when it never ran */

/* Takes one reference more, or gives one back. */
void grpc_rpc_ref(struct grpc_rpc *rpc);
void grpc_rpc_unref(struct grpc_rpc *rpc);
/* In the completion of a batch that any thread may start: gRPC's queue puts it after all that was
 * done before the batch, and this says so again in words that the thread sanitizer can read. Its
 * other half is a release of refs before the batch: a reference taken, or one of nothing. From
 * there on whoever starts the batch does not look into rpc any more. */
void grpc_rpc_after_batch(const struct grpc_rpc *rpc);
#endif
