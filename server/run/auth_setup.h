/* server/run/auth_setup.h - what --auth-token, --auth-token-ttl and --bcrypt-cost come to. */
#ifndef SERVER_RUN_AUTH_SETUP_H
#define SERVER_RUN_AUTH_SETUP_H
#include "server/services/services.h"

struct jwt;

struct auth_setup {
    struct services_auth auth; /* as the services take it, but for who does the work */
    struct jwt *jwt;           /* owned */
};

/* Reads the option, and the keys that it names. Errors, with etcd's text in why (what is behind it
 * is logged): ST_INVALID, ST_NO_MEMORY. */
CHECKED enum status auth_setup_open(struct auth_setup *setup, const char *auth_token,
                                    uint64_t token_ttl_s, uint64_t bcrypt_cost, char *why,
                                    size_t why_bytes);
void auth_setup_close(struct auth_setup *setup); /* zeroed is fine */
#endif
