/* server/peers/http1.h - as much of HTTP/1.1 as members speak with each other: heads of requests
 * and answers, bodies with a length, in chunks, or up to the end of the connection. Pure: bytes in,
 * bytes out. */
#ifndef SERVER_PEERS_HTTP1_H
#define SERVER_PEERS_HTTP1_H
#include "base/slice.h"
#include "base/status.h"
#include "server/peers/limits.h"

#include <stdbool.h>
#include <stdint.h>

struct http1_field {
    struct slice name, value;
};

/* A head; everything is borrowed from the bytes it was parsed from. */
struct http1_head {
    struct slice method, target; /* of a request */
    uint32_t status;             /* of an answer */
    uint32_t minor;              /* HTTP/1.minor */
    struct http1_field fields[HEAD_FIELDS_MAX];
    uint32_t fields_count;
    size_t size; /* bytes, with the empty line */
};

/* Errors: ST_TRUNCATED (the empty line has not come), ST_TOO_BIG (over HEAD_BYTES_MAX or
 * HEAD_FIELDS_MAX), ST_INVALID. */
CHECKED enum status http1_parse_request(struct slice in, struct http1_head *out);
CHECKED enum status http1_parse_answer(struct slice in, struct http1_head *out);
/* The first header of that name, in any case; *out is empty if there is none. */
bool http1_find(const struct http1_head *head, const char *name, struct slice *out);
/* True if the comma-separated list of that header holds the word, in any case. */
bool http1_has_word(const struct http1_head *head, const char *name, const char *word);
/* Will the connection take another request? */
bool http1_keeps_alive(const struct http1_head *head);
bool http1_equals(struct slice s, const char *word); /* in any case */

enum http1_framing { HTTP1_LENGTH, HTTP1_CHUNKED, HTTP1_TO_END };

/* A body as it comes. */
struct http1_body {
    enum http1_framing framing;
    uint64_t left;  /* of the length, or of the chunk */
    uint32_t state; /* of the chunk reader */
    uint32_t line;  /* bytes of the current chunk-size line or trailer */
    bool ended;
};

/* How the body of a head is framed. Errors:
 * ST_INVALID (both, neither readable, or another coding). */
CHECKED enum status http1_body_init(struct http1_body *body, const struct http1_head *head,
                                    bool is_answer);
/* Takes bytes off the front of *in: *piece_out is the next run of content, empty when *in is used
 * up or the body has ended. Errors: ST_INVALID. */
CHECKED enum status http1_body_take(struct http1_body *body, struct slice *in,
                                    struct slice *piece_out);
/* The connection ended: ST_OK if the body may end so, else ST_TRUNCATED. */
CHECKED enum status http1_body_end(struct http1_body *body);
#endif
