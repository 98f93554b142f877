/* server/gateway/decode.h - messages from JSON, by their descriptor, as etcd 3.5's gateway (Go's
 * jsonpb) reads them: members by the field's name or its lowerCamelCase, unknown ones passed over,
 * the last of several counts; null is no value; 64-bit numbers also as strings, bytes as base64,
 * enums by name or number. */
#ifndef SERVER_GATEWAY_DECODE_H
#define SERVER_GATEWAY_DECODE_H
#include "base/buf.h"
#include "server/gateway/json_scan.h"

#include <protobuf-c/protobuf-c.h>

/* Appends the message in protobuf's encoding. value was checked by json_scan_next(). Errors:
 * ST_INVALID (error says why), buf_append()'s. */
CHECKED enum status gateway_decode(struct slice value, const ProtobufCMessageDescriptor *descriptor,
                                   struct buf *out, struct json_error *error);
/* Whether messages of this kind, and what they hold, can be decoded and encoded. */
bool gateway_knows(const ProtobufCMessageDescriptor *descriptor);
#endif
