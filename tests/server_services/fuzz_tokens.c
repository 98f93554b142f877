/* Tokens as clients may send them, to both kinds of table. The first byte chooses a method; what
 * follows is a token for it, the claims of one that is signed as it should be, or a simple token.
 * Nothing that was not signed is taken, and what was signed is read as it was written. */
#include "base/assert.h"
#include "base/base64.h"
#include "server/services/auth_jwt.h"
#include "server/services/auth_simple.h"
#include "tests/server_services/jwt_keys.h"

#include <stdlib.h>

#define NOW_S 1795901000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct {
    const char *method, *public_key, *private_key;
} kinds[] = {
    {"HS256", "", hmac_secret}, {"ES256", ec_public, ""},  {"RS256", rsa_public, ""},
    {"PS384", rsa_public, ""},  {"ES256", "", ec_private},
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static struct jwt *jwt_of(size_t kind)
{
    static struct jwt *made[KINDS];
    char why[256];
    const struct jwt_options options = {.method = kinds[kind].method,
                                        .public_key = slice_from_str(kinds[kind].public_key),
                                        .private_key = slice_from_str(kinds[kind].private_key),
                                        .ttl_ns = JWT_TTL_NS_DEFAULT};
    if (made[kind] == NULL)
        ASSERT(jwt_new(&options, why, sizeof(why), &made[kind]) == ST_OK);
    return made[kind];
}

static bool is_of_etcd(struct slice token)
{
    static const char *const known[] = {etcd_hs256, etcd_es256, etcd_rs256, etcd_ps384};
    for (size_t i = 0; i < 4; i++) {
        struct slice etcd = slice_from_str(known[i]);
        /* Some bits of the last letter belong to no byte. */
        if (token.len == etcd.len && memcmp(token.data, etcd.data, etcd.len - 1) == 0)
            return true;
    }
    return false;
}

static void try_foreign(size_t kind, struct slice token, struct arena *arena)
{
    struct slice user;
    uint64_t revision;
    enum status st = jwt_verify(jwt_of(kind), token, NOW_S, arena, &user, &revision);
    ASSERT(st != ST_OK || is_of_etcd(token));
}

static void try_signed(struct slice user, struct arena *arena)
{
    struct slice token, read;
    uint64_t revision = 0;
    enum status st = jwt_sign(jwt_of(0), user, 42, NOW_S, arena, &token);
    if (st != ST_OK)
        return;
    st = jwt_verify(jwt_of(0), token, NOW_S, arena, &read, &revision);
    /* A name that is no UTF-8 does not come back as it was, as in Go. */
    ASSERT(st == ST_TOO_BIG || (st == ST_OK && revision == 42));
}

static void try_simple(struct slice token, struct arena *arena)
{
    struct simple_tokens *tokens;
    struct slice user;
    uint64_t index;
    const struct simple_tokens_options options = {.ttl_ns = 10, .seed = 1};
    ASSERT(simple_tokens_new(&options, &tokens) == ST_OK);
    ASSERT(simple_tokens_find(tokens, token, 0, arena, &user) == ST_NOT_FOUND);
    ASSERT(simple_tokens_add(tokens, token, SLICE("u"), 0) == ST_OK);
    ASSERT(simple_tokens_find(tokens, token, 9, arena, &user) == ST_OK);
    ASSERT(simple_tokens_find(tokens, token, 10, arena, &user) == ST_NOT_FOUND);
    simple_tokens_free(tokens);
    if (simple_token_index(token, &index) == ST_OK)
        ASSERT(memchr(token.data, '.', token.len) != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct arena arena;
    struct slice rest = slice_make(data + 1, size - 1);
    arena_init(&arena, 1U << 20);
    uint8_t what = data[0] % (KINDS + 2);
    if (what < KINDS)
        try_foreign(what, rest, &arena);
    else if (what == KINDS)
        try_signed(rest, &arena);
    else
        try_simple(rest, &arena);
    arena_deinit(&arena);
    return 0;
}
