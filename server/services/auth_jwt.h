/* server/services/auth_jwt.h - JSON Web Tokens as etcd makes them: claims username, revision (of
 * the users when it was made: after any change of them the token is old) and exp. Every member that
 * has the key knows a token, also after a restart.
 *
 * One method only is accepted, the one that was configured, whatever a token says of itself: what
 * was signed by HMAC with a public key, or not at all, is no token. Any thread. */
#ifndef SERVER_SERVICES_AUTH_JWT_H
#define SERVER_SERVICES_AUTH_JWT_H
#include "base/arena.h"
#include "base/slice.h"
#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

#define JWT_BYTES_MAX 16384U /* a token that is longer is none */
#define JWT_TTL_NS_DEFAULT (300 * (int64_t)1000000000)

struct jwt;

/* Borrowed for the call. Keys are the bytes of their files: PEM, and of HMAC the secret itself in
 * private_key. */
struct jwt_options {
    const char *method;                   /* RS256, PS384, ES512, HS256 and so on */
    struct slice public_key, private_key; /* len 0: not given */
    int64_t ttl_ns;
};

/* Errors: ST_INVALID (the text in why says what of the options is not right), ST_NO_MEMORY. */
CHECKED enum status jwt_new(const struct jwt_options *options, char *why, size_t why_bytes,
                            struct jwt **out);
void jwt_free(struct jwt *jwt); /* NULL is fine */

/* Whether it has a key to sign with; else it only verifies. */
bool jwt_can_sign(const struct jwt *jwt);
/* now_s: seconds since 1970. The token is in arena. Errors: ST_TOO_BIG (also a token that would be
 * none), ST_NO_MEMORY, ST_INVALID (the library refuses to sign). */
CHECKED enum status jwt_sign(const struct jwt *jwt, struct slice user, uint64_t revision,
                             int64_t now_s, struct arena *arena, struct slice *token_out);
/* The user's name is in arena. Errors: ST_INVALID (not a token of ours, or not valid at now_s),
 * ST_TOO_BIG, ST_NO_MEMORY. */
CHECKED enum status jwt_verify(const struct jwt *jwt, struct slice token, int64_t now_s,
                               struct arena *arena, struct slice *user_out, uint64_t *revision_out);
#endif
