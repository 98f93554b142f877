/* server/gateway/json_scan.h - where JSON values begin and end, and what is wrong with one, in the
 * words of Go's encoding/json, which users of etcd's gateway know. Nothing is built from it. */
#ifndef SERVER_GATEWAY_JSON_SCAN_H
#define SERVER_GATEWAY_JSON_SCAN_H
#include "base/slice.h"
#include "base/status.h"
#include "server/gateway/limits.h"

#include <stdbool.h>

/* What is wrong with a client's bytes, for the client. */
struct json_error {
    char text[GATEWAY_TEXT_BYTES];
};

/* Checks the first value in in, of a text that goes on, and gives it without the white space around
 * it; *size_out is what it takes of in. Errors: ST_NOT_FOUND (white space only), ST_INVALID. */
CHECKED enum status json_scan_next(struct slice in, struct slice *value_out, size_t *size_out,
                                   struct json_error *error);
/* Checks that in is one value and nothing else. Errors: ST_INVALID. */
CHECKED enum status json_scan_whole(struct slice in, struct slice *value_out,
                                    struct json_error *error);

/* ---- within a value that was checked ---- */

/* Goes through the members of an object or the elements of an array:
 *     struct json_iterator it = json_iterate(value);
 *     while (json_iterate_next(&it)) it.key, it.value */
struct json_iterator {
    struct slice rest;
    bool is_object;
    struct slice key; /* of a member, with its quotes */
    struct slice value;
};
struct json_iterator json_iterate(struct slice value);
bool json_iterate_next(struct json_iterator *it);

/* "object", "array", "string", "number", "bool" or "null". */
const char *json_kind(struct slice value);
#endif
