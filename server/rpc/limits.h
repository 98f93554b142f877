/* server/rpc/limits.h - bounds of the client port, with their reasons. */
#ifndef SERVER_RPC_LIMITS_H
#define SERVER_RPC_LIMITS_H

#define RPC_POLLERS_MAX 16U   /* pollers share one epoll set; more of them only kick each other */
#define RPC_RESPONDERS_MAX 4U /* a responder writes some 100,000 answers a second */
#define RPC_LISTENERS_MAX 32U /* listening sockets of one acceptor */

/* Requests posted to gRPC per method and poller. They are posted again on arrival, so that more of
 * them measured no difference. */
#define RPC_POSTED_PER_METHOD 2U
/* Idle call objects kept per poller: as many as a poller usually has in flight. */
#define RPC_POOL_CALLS_MAX 1024U
/* The most arena memory an idle call object keeps. */
#define RPC_POOL_ARENA_BYTES_MAX (16U << 10)
/* The most that a poller gives back to the system itself, some 100 us of work. */
#define RPC_FREE_BYTES_MAX (1U << 20)
/* An answer up to this size is copied into gRPC's memory: cheaper than counting a reference. */
#define RPC_COPY_BYTES_MAX 2048U
/* Messages of a burst that a poller sends in one go, some 1.5 ms of work; then it looks at its
 * sockets so many times, unless so much comes to it meanwhile, what was sent among that. */
#define RPC_BURST_PART_MAX 200U
#define RPC_BURST_LOOKS 4U
#define RPC_BURST_EVENTS_MAX 256U
/* What gRPC may hold of requests that are still coming in, on all connections. A message counts
 * from its first byte, long before its size can be refused; over the limit its call is reset. */
#define RPC_MEMORY_BYTES_MAX (512U << 20)
/* Status texts quote the client's own path only so far. */
#define RPC_TEXT_BYTES_MAX 512U
/* "[ipv6%scope]:port" and the NUL. */
#define RPC_PEER_BYTES 72U

/* A connection must show which protocol it speaks within this time. */
#define ACCEPT_PEEK_TIMEOUT_MS 10000U
/* Connections that have not shown it yet; the oldest gives way. */
#define ACCEPT_PEEKING_MAX 1024U
/* Accepted in one go, before the others get their turn. */
#define ACCEPT_BATCH_MAX 64U
/* How long the acceptor rests when the process has no file descriptor left. */
#define ACCEPT_RETRY_MS 100U
#endif
