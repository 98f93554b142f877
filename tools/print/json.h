/* tools/print/json.h - JSON as Go's encoding/json writes it: no spaces, members in the order given,
 * bytes as base64, 64-bit numbers as numbers, and the same characters escaped. Nothing is left out
 * unless the caller leaves it out (Go's "omitempty" is the caller's if).
 *
 *     struct print_json json = print_json_to(stdout);
 *     print_json_object(&json, NULL);
 *     print_json_u64(&json, "revision", 7);
 *     print_json_array(&json, "keys");
 *     print_json_bytes(&json, NULL, SLICE("foo"));
 *     print_json_array_end(&json);
 *     print_json_object_end(&json);
 *     fputc('\n', stdout);                        {"revision":7,"keys":["Zm9v"]}
 *
 * `key` is a member's name within an object and NULL within an array or outside of both. */
#ifndef TOOLS_PRINT_JSON_H
#define TOOLS_PRINT_JSON_H
#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct print_json {
    FILE *out;
    bool comma; /* the next value needs one before it */
};

static inline struct print_json print_json_to(FILE *out)
{
    return (struct print_json){.out = out};
}

void print_json_object(struct print_json *json, const char *key);
void print_json_object_end(struct print_json *json);
void print_json_array(struct print_json *json, const char *key);
void print_json_array_end(struct print_json *json);
void print_json_string(struct print_json *json, const char *key, struct slice value);
void print_json_text(struct print_json *json, const char *key, const char *value);
void print_json_bytes(struct print_json *json, const char *key, struct slice value); /* base64 */
void print_json_u64(struct print_json *json, const char *key, uint64_t value);
void print_json_i64(struct print_json *json, const char *key, int64_t value);
void print_json_hex(struct print_json *json, const char *key, uint64_t value); /* "8e9e.." */
void print_json_bool(struct print_json *json, const char *key, bool value);
void print_json_null(struct print_json *json, const char *key);
#endif
