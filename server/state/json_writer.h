/* server/state/json_writer.h - texts as Go's encoding/json writes them. */
#ifndef SERVER_STATE_JSON_WRITER_H
#define SERVER_STATE_JSON_WRITER_H
#include "base/slice.h"
#include "base/status.h"

struct buf;

/* Appends text in quotes, escaped. Errors: ST_TOO_BIG, ST_NO_MEMORY. */
CHECKED enum status json_put_string(struct buf *out, struct slice text);
#endif
