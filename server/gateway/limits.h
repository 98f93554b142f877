/* server/gateway/limits.h - bounds of the JSON gateway, with their reasons. */
#ifndef SERVER_GATEWAY_LIMITS_H
#define SERVER_GATEWAY_LIMITS_H

/* Open objects and arrays in one value: Go's bound. */
#define JSON_DEPTH_MAX 10000U
/* Messages in messages, which are read by recursion, once more for each level: a transaction in a
 * transaction is two of them. */
#define JSON_MESSAGES_DEPTH_MAX 100U
/* Fields of one message; etcd's largest has 13. */
#define JSON_FIELDS_MAX 40U
/* Error texts quote the client's own bytes only so far. */
#define GATEWAY_TEXT_BYTES 512U
/* Calls under way at one time: as many as the HTTP server has connections. */
#define GATEWAY_CALLS_MAX 1024U
/* JSON a byte of a message may take: base64 is 4/3, the rest is names and white space. */
#define GATEWAY_JSON_FACTOR 2U
/* Bodies of all calls under way. */
#define GATEWAY_BODIES_BYTES_MAX (256U << 20)
/* Memory of one call, as over gRPC, and of its answer as JSON. */
#define GATEWAY_ARENA_BYTES_MAX (1ULL << 30)
#define GATEWAY_ANSWER_BYTES_MAX (2ULL << 30)
/* Pieces of metadata in one call; its bytes are bounded by the head's. */
#define GATEWAY_METADATA_MAX 128U
#endif
