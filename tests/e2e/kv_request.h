/* tests/e2e/kv_request.h - random requests of the KV service, valid and invalid, by a seed. Keys
 * come from a small space so that requests meet; revisions lie around the current and the compacted
 * one. */
#ifndef TESTS_E2E_KV_REQUEST_H
#define TESTS_E2E_KV_REQUEST_H
#include "base/arena.h"
#include "base/rng.h"
#include "base/slice.h"
#include "proto/rpc.pb-c.h"

#include <stdbool.h>
#include <stdint.h>

enum kv_method { KV_RANGE, KV_PUT, KV_DELETE_RANGE, KV_TXN, KV_COMPACT, KV_METHODS_COUNT };

struct kv_generator {
    struct rng rng;
    int64_t revision, compact_revision; /* as the answers tell; kept by the caller */
    bool fresh;                         /* nothing is written yet: no request that would succeed
                                           in writing is made */
    bool spare_subject;                 /* make nothing that ends etcd's process */
    /* Of the request at hand: a delete to the open end, a put that keeps value or lease. */
    bool has_open_delete, has_keeping_put;
    bool stops_etcd; /* the request at hand holds what ends etcd's process */
};

struct kv_request {
    enum kv_method method;
    const ProtobufCMessage *message; /* arena */
    struct slice body;               /* arena: the message encoded, and mangled if so */
    bool mangled;                    /* body may not decode */
    bool stops_etcd;                 /* for cleat alone, which must refuse it */
};

const char *kv_method_path(enum kv_method method);
const ProtobufCMessageDescriptor *kv_method_response(enum kv_method method);

/* Starts at the state of a new store. */
void kv_generator_init(struct kv_generator *generator, uint64_t seed);
/* The next request, in arena, which must be large (16 MiB). The numbers taken from the generator's
 * rng depend on its state, so equal answers give equal runs. */
struct kv_request kv_request_next(struct kv_generator *generator, struct arena *arena);
#endif
