/* server/gateway/encode.h - messages as JSON, by their descriptor, as etcd 3.5's gateway writes
 * them: fields in the order of their numbers by their own names, those with their default value
 * left out; 64-bit numbers as strings, bytes as base64, enums by name; no white space. */
#ifndef SERVER_GATEWAY_ENCODE_H
#define SERVER_GATEWAY_ENCODE_H
#include "base/buf.h"
#include "base/slice.h"
#include "base/status.h"

#include <protobuf-c/protobuf-c.h>

/* Appends the message, which came in protobuf's encoding. Errors: ST_INVALID (it is no such
 * message), buf_append()'s; out then ends in a part of it. */
CHECKED enum status gateway_encode(struct slice message,
                                   const ProtobufCMessageDescriptor *descriptor, struct buf *out);
#endif
