/* server/state/auth_bcrypt.h - passwords as etcd keeps them: bcrypt ("$2a$10$..."), by the
 * system's libcrypt. Both take as long as the cost says (a tenth of a second at 10), so they run
 * where nothing waits for them but their own call. Any thread. */
#ifndef SERVER_STATE_AUTH_BCRYPT_H
#define SERVER_STATE_AUTH_BCRYPT_H
#include "base/slice.h"
#include "base/status.h"

#include <stdint.h>

#define BCRYPT_COST_MIN 4U
#define BCRYPT_COST_MAX 31U
#define BCRYPT_COST_DEFAULT 10U
#define BCRYPT_SALT_BYTES 16U
#define BCRYPT_HASH_BYTES 60U         /* letters */
#define BCRYPT_PASSWORD_BYTES_MAX 72U /* bcrypt takes no more */

/* Errors: ST_TOO_BIG (the password is too long), ST_INVALID (it holds a NUL, which libcrypt would
 * end it at; or a cost out of range), ST_NO_MEMORY. */
CHECKED enum status bcrypt_hash(struct slice password, uint32_t cost,
                                const uint8_t salt[BCRYPT_SALT_BYTES], char out[BCRYPT_HASH_BYTES]);
/* Whether password is the one that was hashed; of one that is too long its first 72 bytes are,
 * since etcd has hashed such ones. The hash may be any bytes. Errors: ST_INVALID (it is not),
 * ST_NO_MEMORY. */
CHECKED enum status bcrypt_compare(struct slice password, struct slice hash);
#endif
