/* tools/print/message.h - any protobuf message as etcdctl's -w json writes it: members named as in
 * the .proto file, those with their default value left out, enums and 64-bit numbers as numbers,
 * bytes as base64. A ResponseOp's choice is wrapped as {"Response":{...}}, Go's name for it. */
#ifndef TOOLS_PRINT_MESSAGE_H
#define TOOLS_PRINT_MESSAGE_H
#include "tools/print/json.h"

#include <protobuf-c/protobuf-c.h>

/* The whole message as one value. */
void print_json_message(struct print_json *json, const char *key, const ProtobufCMessage *message);
/* Only its members, into the object that the caller has begun. */
void print_json_members(struct print_json *json, const ProtobufCMessage *message);
#endif
