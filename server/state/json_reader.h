/* server/state/json_reader.h - reads the small JSON texts in which members describe themselves, as
 * Go's encoding/json does. Ids use all 64 bits, which JSON libraries with signed or floating
 * numbers do not read; hence a reader of our own. */
#ifndef SERVER_STATE_JSON_READER_H
#define SERVER_STATE_JSON_READER_H
#include "base/arena.h"
#include "base/slice.h"
#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

struct json_reader {
    const uint8_t *at, *end; /* borrowed */
    struct arena *arena;     /* texts go here */
};

static inline struct json_reader json_reader_of(struct slice json, struct arena *arena)
{
    const uint8_t *end = json.len == 0 ? json.data : json.data + json.len;
    return (struct json_reader){.at = json.data, .end = end, .arena = arena};
}

/* The next character that is not space, or 0 at the end. */
uint8_t json_peek(struct json_reader *r);
/* Takes the character, or the word, if it comes next. */
bool json_take(struct json_reader *r, uint8_t c);
bool json_take_word(struct json_reader *r, const char *word);
bool json_is_at_end(struct json_reader *r);

/* One value. Errors: ST_NO_MEMORY, ST_INVALID (not such a value), ST_TOO_BIG (MEMBER_TEXT_MAX, the
 * arena, too deep). A bool that is null stays as it was. */
CHECKED enum status json_read_u64(struct json_reader *r, uint64_t *out);
CHECKED enum status json_read_i64(struct json_reader *r, int64_t *out);
CHECKED enum status json_read_bool(struct json_reader *r, bool *out);
CHECKED enum status json_read_string(struct json_reader *r, struct slice *out);
CHECKED enum status json_skip(struct json_reader *r);

/* Go matches keys without regard to case. */
bool json_key_is(struct slice key, const char *name);

/* Reads {"key":value,...}; field reads the value of a key, or passes it over with json_skip(). */
typedef enum status (*json_field_fn)(void *context, struct json_reader *r, struct slice key);
CHECKED enum status json_read_object(struct json_reader *r, json_field_fn field, void *context);
#endif
