/* server/gateway/routes.h - the paths of etcd 3.5's gateway, and which method each calls. */
#ifndef SERVER_GATEWAY_ROUTES_H
#define SERVER_GATEWAY_ROUTES_H
#include <protobuf-c/protobuf-c.h>
#include <stdint.h>

struct route {
    const char *path;   /* "/v3/kv/put" */
    const char *method; /* "/etcdserverpb.KV/Put" */
    const ProtobufCServiceDescriptor *service;
    const ProtobufCMethodDescriptor *messages; /* filled in by routes_fill() */
};

/* How many there are; fills them into out, which has room for as many, when it is not NULL. */
uint32_t routes_fill(struct route *out);
#endif
