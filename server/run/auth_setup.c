#include "server/run/auth_setup.h"

#include "base/buf.h"
#include "base/duration.h"
#include "base/minmax.h"
#include "server/run/log.h"
#include "server/state/auth_bcrypt.h"
#include "server/services/auth_jwt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define KEY_BYTES_MAX (1U << 20)
#define WORD_BYTES 4096U
#define TOKEN_TTL_S_MAX (1U << 30)
#define INVALID_TEXT "auth: invalid auth options"

/* jwt,pub-key=...,priv-key=...,sign-method=...,ttl=... */
enum word { WORD_PUBLIC_KEY, WORD_PRIVATE_KEY, WORD_METHOD, WORD_TTL, WORDS_COUNT };
static const char *const word_names[WORDS_COUNT] = {"pub-key", "priv-key", "sign-method", "ttl"};

struct words {
    char text[WORD_BYTES];           /* cut in pieces */
    const char *values[WORDS_COUNT]; /* NULL: not given */
};

static enum status refuse(char *why, size_t why_bytes)
{
    snprintf(why, why_bytes, INVALID_TEXT);
    return ST_INVALID;
}

static enum status take_word(struct words *words, char *pair)
{
    char *value = strchr(pair, '=');
    if (value == NULL || strchr(value + 1, '=') != NULL)
        return ST_INVALID;
    *value++ = '\0';
    for (uint32_t i = 0; i < WORDS_COUNT; i++) {
        if (strcmp(pair, word_names[i]) != 0)
            continue;
        if (words->values[i] != NULL)
            return ST_INVALID;
        words->values[i] = value;
        return ST_OK;
    }
    log_warn("unknown JWT options", LOG_STR("key", pair));
    return ST_OK;
}

/* The words behind the kind of token. */
static enum status take_words(struct words *words, const char *text)
{
    if (snprintf(words->text, sizeof(words->text), "%s", text) >= (int)sizeof(words->text))
        return ST_INVALID;
    char *at = strchr(words->text, ',');
    while (at != NULL) {
        char *pair = at + 1;
        at = strchr(pair, ',');
        if (at != NULL)
            *at = '\0';
        enum status st = take_word(words, pair);
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}

static enum status read_key(const char *path, struct buf *out, char *why, size_t why_bytes)
{
    if (path == NULL)
        return ST_OK;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    enum status st = fd < 0 ? ST_IO : ST_OK;
    ssize_t got = 1;
    while (st == ST_OK && got > 0) {
        uint8_t bytes[4096];
        got = read(fd, bytes, sizeof(bytes));
        if (got > 0)
            st = buf_append(out, slice_make(bytes, (size_t)got));
        else if (got < 0)
            st = ST_IO;
    }
    if (st == ST_IO)
        snprintf(why, why_bytes, "open %s: %s", path, strerror(errno));
    else if (st == ST_TOO_BIG)
        snprintf(why, why_bytes, "%s is too long for a key", path);
    if (fd >= 0)
        close(fd);
    return st;
}

struct keys {
    struct buf public_key, private_key;
};

static enum status read_options(const struct words *words, struct keys *keys,
                                struct jwt_options *out, char *why, size_t why_bytes)
{
    enum status st = read_key(words->values[WORD_PUBLIC_KEY], &keys->public_key, why, why_bytes);
    if (st == ST_OK)
        st = read_key(words->values[WORD_PRIVATE_KEY], &keys->private_key, why, why_bytes);
    if (st != ST_OK)
        return st;
    const char *ttl = words->values[WORD_TTL], *method = words->values[WORD_METHOD];
    *out = (struct jwt_options){.method = method == NULL ? "" : method,
                                .public_key = buf_slice(&keys->public_key),
                                .private_key = buf_slice(&keys->private_key),
                                .ttl_ns = JWT_TTL_NS_DEFAULT};
    if (ttl != NULL && (duration_parse(ttl, &out->ttl_ns) != ST_OK || out->ttl_ns <= 0)) {
        snprintf(why, why_bytes, "time: invalid duration \"%s\"", ttl);
        return ST_INVALID;
    }
    return ST_OK;
}

static enum status open_jwt(struct auth_setup *setup, const struct words *words, char *why,
                            size_t why_bytes)
{
    struct keys keys;
    struct jwt_options options;
    buf_init(&keys.public_key, KEY_BYTES_MAX);
    buf_init(&keys.private_key, KEY_BYTES_MAX);
    enum status st = read_options(words, &keys, &options, why, why_bytes);
    if (st != ST_OK) {
        log_error("problem loading JWT options", LOG_STR("error", why));
        st = st == ST_NO_MEMORY ? st : refuse(why, why_bytes);
    } else {
        st = jwt_new(&options, why, why_bytes, &setup->jwt);
    }
    buf_deinit(&keys.public_key);
    if (keys.private_key.data != NULL)
        explicit_bzero(keys.private_key.data, keys.private_key.capacity);
    buf_deinit(&keys.private_key);
    setup->auth.jwt = setup->jwt;
    return st;
}

static uint32_t cost_of(uint64_t cost)
{
    if (cost >= BCRYPT_COST_MIN && cost <= BCRYPT_COST_MAX)
        return (uint32_t)cost;
    log_warn("use default bcrypt cost instead of the invalid given cost",
             LOG_U64("min-cost", BCRYPT_COST_MIN), LOG_U64("max-cost", BCRYPT_COST_MAX),
             LOG_U64("default-cost", BCRYPT_COST_DEFAULT), LOG_U64("given-cost", cost));
    return BCRYPT_COST_DEFAULT;
}

enum status auth_setup_open(struct auth_setup *setup, const char *auth_token, uint64_t token_ttl_s,
                            uint64_t bcrypt_cost, char *why, size_t why_bytes)
{
    *setup = (struct auth_setup){0};
    setup->auth.token_ttl_s = (uint32_t)min_u64(token_ttl_s, TOKEN_TTL_S_MAX);
    setup->auth.bcrypt_cost = cost_of(bcrypt_cost);
    setup->auth.no_tokens = *auth_token == '\0';
    struct words *words = calloc(1, sizeof(*words));
    if (words == NULL)
        return ST_NO_MEMORY;
    size_t kind = strcspn(auth_token, ",");
    enum status st = ST_OK;
    if (kind == strlen("jwt") && strncmp(auth_token, "jwt", kind) == 0)
        st = take_words(words, auth_token) == ST_OK ? open_jwt(setup, words, why, why_bytes)
                                                    : refuse(why, why_bytes);
    else if (!setup->auth.no_tokens &&
             (kind != strlen("simple") || strncmp(auth_token, "simple", kind) != 0))
        st = refuse(why, why_bytes);
    free(words);
    return st;
}

void auth_setup_close(struct auth_setup *setup)
{
    jwt_free(setup->jwt);
    setup->jwt = NULL;
}
