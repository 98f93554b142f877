/* server/peers/limits.h - bounds of the peer port: sizes, queues, times. */
#ifndef SERVER_PEERS_LIMITS_H
#define SERVER_PEERS_LIMITS_H
#include "base/clock.h"

#define FRAME_BYTES_MAX (512ULL << 20)          /* one message; etcd's limit */
#define REQUEST_BODY_BYTES_MAX (4U << 20)       /* of what the owner answers */
#define HEAD_BYTES_MAX 16384U                   /* of a request or an answer */
#define HEAD_FIELDS_MAX 64U                     /* headers in it */
#define PEER_FETCH_BYTES_MAX (4U << 20)         /* an answer that is fetched */
#define READ_BYTES 65536U                       /* one read(2) */
#define READ_TURN_BYTES (1U << 20)              /* of one connection before others have a turn */
#define PEERS_RECEIVED_BYTES_MAX (128ULL << 20) /* in messages that consensus has not released */

#define OUT_CHUNK_BYTES 16384U        /* encoded bytes are collected in chunks of this size */
#define OUT_REFERENCE_BYTES_MIN 4096U /* payloads from here on are sent from where they are */
#define OUT_PIECES_MAX 64             /* of one writev(2) */

#define SEND_MESSAGES_MAX 4096U           /* given to the I/O thread, per member; etcd's queue */
#define STREAM_BYTES_MAX (64ULL << 20)    /* encoded and not sent yet, per stream */
#define PIPELINE_MESSAGES_MAX 64U         /* waiting for a POST, per member; etcd's queue */
#define REMOTES_MAX 16U                   /* senders that the configuration does not have */
#define PEER_URLS_MAX 16U                 /* of one member; more are ignored */
#define URL_BYTES_MAX 300U                /* a longer one is no URL of ours */
#define ADDRESSES_MAX 8U                  /* of one host name */
#define ACCEPTED_MAX 512U                 /* connections that others opened */
#define TRANSFERS_OUT_MAX 16U             /* snapshots leaving at a time; etcd's limit */
#define TRANSFERS_IN_MAX 4U               /* and coming in */
#define TRANSFER_CHUNK_BYTES (256U << 10) /* read from a source, written to a file, at a time */

#define STREAM_SILENCE_NS                                                  \
    (5 * NS_PER_S) /* a stream without a byte, or that takes none, is dead \
                    */
#define LINK_HEARTBEAT_NS (5 * NS_PER_S / 3) /* so a stream that lives is never silent so long */
#define DIAL_SLACK_NS NS_PER_S               /* a dial may take this and an election timeout */
#define DIAL_AGAIN_MIN_NS (100 * NS_PER_MS)  /* after a failed dial; doubles */
#define DIAL_AGAIN_MAX_NS NS_PER_S
#define PIPELINE_ANSWER_NS (5 * NS_PER_S)
#define PIPELINE_IDLE_NS (60 * NS_PER_S)
#define PROBE_EVERY_NS (4 * NS_PER_S)
#define PROBE_DRIFT_WARN_NS NS_PER_S
#define ACCEPTED_IDLE_NS (300 * NS_PER_S)   /* Go's server closes there too */
#define ACCEPTED_READ_NS (30 * NS_PER_S)    /* without a byte in the middle of a request */
#define REMOVED_LINGER_NS (5 * NS_PER_S)    /* for what is queued to a removed member */
#define TRANSFER_SILENCE_NS (30 * NS_PER_S) /* without a byte; the receiver's disk may hang */
#define TRANSFER_ANSWER_NS (300 * NS_PER_S) /* the receiver's sync of the whole file */
#endif
