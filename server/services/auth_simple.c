#include "server/services/auth_simple.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/list.h"
#include "base/lock.h"

#include <stdlib.h>

#define SHARDS 16U
#define BUCKETS 512U
#define SHARD_TOKENS_MAX (SIMPLE_TOKENS_MAX / SHARDS)
/* A token that was just renewed is not moved again: its shard stays as it is in the caches of other
 * processors. */
#define RENEW_NS NS_PER_S

struct token {
    struct token *next;      /* in its bucket */
    struct list_node by_age; /* the one that expires first is in front */
    uint64_t hash, used_ns;
    uint32_t text_bytes, user_bytes;
    uint8_t bytes[]; /* text, then user */
};

struct shard {
    struct lock *lock; /* guards all of it */
    struct list_node by_age;
    uint32_t count;
    struct token *buckets[BUCKETS];
};

struct simple_tokens {
    uint64_t ttl_ns, seed;
    struct shard shards[SHARDS];
};

static struct token *token_of(struct list_node *node)
{
    return CONTAINER_OF(node, struct token, by_age);
}

static struct slice text_of(const struct token *token)
{
    return slice_make(token->bytes, token->text_bytes);
}

static struct slice user_of(const struct token *token)
{
    return slice_make(token->bytes + token->text_bytes, token->user_bytes);
}

static struct shard *shard_of(struct simple_tokens *tokens, uint64_t hash)
{
    return &tokens->shards[hash % SHARDS];
}

static struct token **bucket_of(struct shard *shard, uint64_t hash)
{
    return &shard->buckets[hash / SHARDS % BUCKETS];
}

static void drop(struct shard *shard, struct token *token)
{
    struct token **at = bucket_of(shard, token->hash);
    while (*at != token)
        at = &(*at)->next;
    *at = token->next;
    list_remove(&token->by_age);
    shard->count--;
    free(token);
}

static void drop_expired(const struct simple_tokens *tokens, struct shard *shard, uint64_t now_ns)
{
    while (!list_is_empty(&shard->by_age)) {
        struct token *oldest = token_of(shard->by_age.next);
        if (now_ns < oldest->used_ns || now_ns - oldest->used_ns < tokens->ttl_ns)
            break;
        drop(shard, oldest);
    }
}

static struct token *find(struct shard *shard, uint64_t hash, struct slice text)
{
    struct token *token = *bucket_of(shard, hash);
    while (token != NULL && (token->hash != hash || !slice_eq(text_of(token), text)))
        token = token->next;
    return token;
}

enum status simple_tokens_new(const struct simple_tokens_options *options,
                              struct simple_tokens **out)
{
    *out = NULL;
    struct simple_tokens *tokens = calloc(1, sizeof(*tokens));
    if (tokens == NULL)
        return ST_NO_MEMORY;
    tokens->ttl_ns = options->ttl_ns;
    tokens->seed = options->seed;
    for (uint32_t i = 0; i < SHARDS; i++)
        list_init(&tokens->shards[i].by_age);
    for (uint32_t i = 0; i < SHARDS; i++) {
        if (lock_new(options->threaded, &tokens->shards[i].lock) != ST_OK) {
            simple_tokens_free(tokens);
            return ST_NO_MEMORY;
        }
    }
    *out = tokens;
    return ST_OK;
}

void simple_tokens_free(struct simple_tokens *tokens)
{
    if (tokens == NULL)
        return;
    for (uint32_t i = 0; i < SHARDS; i++) {
        struct shard *shard = &tokens->shards[i];
        while (!list_is_empty(&shard->by_age))
            drop(shard, token_of(shard->by_age.next));
        lock_free(shard->lock);
    }
    free(tokens);
}

static struct token *token_new(struct slice text, struct slice user)
{
    if (text.len > UINT32_MAX || user.len > UINT32_MAX)
        return NULL;
    struct token *token = malloc(sizeof(*token) + text.len + user.len);
    if (token == NULL)
        return NULL;
    *token = (struct token){.text_bytes = (uint32_t)text.len, .user_bytes = (uint32_t)user.len};
    if (text.len > 0)
        memcpy(token->bytes, text.data, text.len);
    if (user.len > 0)
        memcpy(token->bytes + text.len, user.data, user.len);
    return token;
}

enum status simple_tokens_add(struct simple_tokens *tokens, struct slice text, struct slice user,
                              uint64_t now_ns)
{
    struct token *token = token_new(text, user);
    if (token == NULL)
        return ST_NO_MEMORY;
    token->used_ns = now_ns;
    token->hash = hash64_seeded(text, tokens->seed);
    struct shard *shard = shard_of(tokens, token->hash);
    lock_acquire(shard->lock);
    drop_expired(tokens, shard, now_ns);
    struct token *same = find(shard, token->hash, text);
    if (same != NULL)
        drop(shard, same);
    if (shard->count == SHARD_TOKENS_MAX)
        drop(shard, token_of(shard->by_age.next));
    struct token **bucket = bucket_of(shard, token->hash);
    token->next = *bucket;
    *bucket = token;
    list_push_back(&shard->by_age, &token->by_age);
    shard->count++;
    lock_release(shard->lock);
    return ST_OK;
}

static void renew(struct shard *shard, struct token *token, uint64_t now_ns)
{
    if (now_ns < token->used_ns || now_ns - token->used_ns < RENEW_NS)
        return;
    token->used_ns = now_ns;
    list_remove(&token->by_age);
    list_push_back(&shard->by_age, &token->by_age);
}

enum status simple_tokens_find(struct simple_tokens *tokens, struct slice text, uint64_t now_ns,
                               struct arena *arena, struct slice *user_out)
{
    uint64_t hash = hash64_seeded(text, tokens->seed);
    struct shard *shard = shard_of(tokens, hash);
    enum status st = ST_NOT_FOUND;
    lock_acquire(shard->lock);
    drop_expired(tokens, shard, now_ns);
    struct token *token = find(shard, hash, text);
    if (token != NULL) {
        renew(shard, token, now_ns);
        st = arena_copy(arena, user_of(token), user_out);
    }
    lock_release(shard->lock);
    return st;
}

void simple_tokens_drop_user(struct simple_tokens *tokens, struct slice user)
{
    for (uint32_t i = 0; i < SHARDS; i++) {
        struct shard *shard = &tokens->shards[i];
        lock_acquire(shard->lock);
        for (struct list_node *node = shard->by_age.next, *next; node != &shard->by_age;
             node = next) {
            next = node->next;
            if (slice_eq(user_of(token_of(node)), user))
                drop(shard, token_of(node));
        }
        lock_release(shard->lock);
    }
}

void simple_tokens_drop_all(struct simple_tokens *tokens)
{
    for (uint32_t i = 0; i < SHARDS; i++) {
        struct shard *shard = &tokens->shards[i];
        lock_acquire(shard->lock);
        while (!list_is_empty(&shard->by_age))
            drop(shard, token_of(shard->by_age.next));
        lock_release(shard->lock);
    }
}

uint32_t simple_tokens_count(struct simple_tokens *tokens)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < SHARDS; i++) {
        lock_acquire(tokens->shards[i].lock);
        count += tokens->shards[i].count;
        lock_release(tokens->shards[i].lock);
    }
    return count;
}

/* 256 is no multiple of 52: the first 48 letters are a fifth more likely than the rest, which takes
 * less than a hundredth of a bit off the 5.7 of each. */
void simple_token_letters(const uint8_t random[SIMPLE_TOKEN_LETTERS],
                          char out[SIMPLE_TOKEN_LETTERS])
{
    for (uint32_t i = 0; i < SIMPLE_TOKEN_LETTERS; i++) {
        uint8_t letter = random[i] % 52;
        out[i] = (char)(letter < 26 ? 'a' + letter : 'A' + letter - 26);
    }
}

enum status simple_token_index(struct slice token, uint64_t *index_out)
{
    const uint8_t *dot = token.len == 0 ? NULL : memchr(token.data, '.', token.len);
    if (dot == NULL || dot + 1 == token.data + token.len)
        return ST_INVALID;
    uint64_t index = 0;
    for (const uint8_t *at = dot + 1; at < token.data + token.len; at++) {
        if (*at < '0' || *at > '9')
            return ST_INVALID;
        if (__builtin_mul_overflow(index, 10U, &index) ||
            __builtin_add_overflow(index, (uint64_t)(*at - '0'), &index))
            return ST_INVALID;
    }
    *index_out = index;
    return ST_OK;
}
