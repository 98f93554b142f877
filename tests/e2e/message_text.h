/* tests/e2e/message_text.h - a message as text, by its descriptor: to be read, and to be compared.
 * Two messages have one text exactly when they hold the same fields, but for the ids of cluster,
 * member and term, which only say whether they are set. */
#ifndef TESTS_E2E_MESSAGE_TEXT_H
#define TESTS_E2E_MESSAGE_TEXT_H
#include "base/buf.h"
#include "base/status.h"

#include <protobuf-c/protobuf-c.h>

/* Appends. Errors: the buffer's. */
CHECKED enum status message_text(const ProtobufCMessage *message, struct buf *out);
#endif
