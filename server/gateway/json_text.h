/* server/gateway/json_text.h - texts and bytes in JSON: quoted, and in base64, as Go reads and
 * writes them. */
#ifndef SERVER_GATEWAY_JSON_TEXT_H
#define SERVER_GATEWAY_JSON_TEXT_H
#include "base/buf.h"
#include "base/slice.h"
#include "base/status.h"

/* Appends what a checked string, quotes included, stands for. Bytes that are no UTF-8 and halves of
 * surrogates become U+FFFD. Errors: buf_append()'s. */
CHECKED enum status json_unquote(struct slice string, struct buf *out);
/* Appends text as a string. Errors: buf_append()'s. */
CHECKED enum status json_quote(struct slice text, struct buf *out);

/* Appends the bytes that text stands for in base64. Unlike base/base64.h it takes line ends
 * anywhere, and says where Go finds the fault. Errors: ST_INVALID (with *at_out), buf_append()'s.
 */
CHECKED enum status json_decode_base64(struct slice text, struct buf *out, size_t *at_out);
/* Errors: buf_append()'s. */
CHECKED enum status json_put_base64(struct slice bytes, struct buf *out);
#endif
