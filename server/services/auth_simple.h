/* server/services/auth_simple.h - etcd's simple tokens: 16 letters drawn by the member that
 * authenticated the user, a dot, and the index of the entry by which every member learned of it.
 * They live in memory only, for a time after their last use on this member.
 *
 * The table is cut into shards with a lock each, so that calls with different tokens do not meet.
 * It is bounded: a full shard forgets the token that was unused for longest. Any thread. */
#ifndef SERVER_SERVICES_AUTH_SIMPLE_H
#define SERVER_SERVICES_AUTH_SIMPLE_H
#include "base/arena.h"
#include "base/slice.h"
#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

#define SIMPLE_TOKEN_LETTERS 16U
#define SIMPLE_TOKENS_MAX 65536U
#define SIMPLE_TOKEN_TTL_S_DEFAULT 300U

struct simple_tokens;

struct simple_tokens_options {
    uint64_t ttl_ns;
    uint64_t seed; /* of the hashes of tokens: a secret of this process */
    bool threaded; /* false in the simulator */
};

CHECKED enum status simple_tokens_new(const struct simple_tokens_options *options,
                                      struct simple_tokens **out); /* ST_NO_MEMORY */
void simple_tokens_free(struct simple_tokens *tokens);             /* NULL is fine */

/* From now on token stands for user; both are copied. Errors: ST_NO_MEMORY. */
CHECKED enum status simple_tokens_add(struct simple_tokens *tokens, struct slice token,
                                      struct slice user, uint64_t now_ns);
/* Whose token it is, copied into arena; its life begins anew. Errors: ST_NOT_FOUND, ST_TOO_BIG
 * (the arena). */
CHECKED enum status simple_tokens_find(struct simple_tokens *tokens, struct slice token,
                                       uint64_t now_ns, struct arena *arena,
                                       struct slice *user_out);
void simple_tokens_drop_user(struct simple_tokens *tokens, struct slice user);
void simple_tokens_drop_all(struct simple_tokens *tokens);
uint32_t simple_tokens_count(struct simple_tokens *tokens); /* expired ones that nobody met too */

/* What comes before the dot, of that many random bytes. */
void simple_token_letters(const uint8_t random[SIMPLE_TOKEN_LETTERS],
                          char out[SIMPLE_TOKEN_LETTERS]);
/* The index behind the dot. Errors: ST_INVALID (no token has this form). */
CHECKED enum status simple_token_index(struct slice token, uint64_t *index_out);
#endif
