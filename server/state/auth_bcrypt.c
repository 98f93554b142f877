#include "server/state/auth_bcrypt.h"

#include "base/assert.h"

#include <crypt.h>
#include <stdlib.h>

/* The working memory of one computation. */
struct worker {
    struct crypt_data data;
    char password[BCRYPT_PASSWORD_BYTES_MAX + 1];
    char setting[CRYPT_GENSALT_OUTPUT_SIZE];
};

static enum status take_password(struct worker *worker, struct slice password)
{
    if (password.len > 0 && memchr(password.data, 0, password.len) != NULL)
        return ST_INVALID;
    if (password.len > 0)
        memcpy(worker->password, password.data, password.len);
    worker->password[password.len] = '\0';
    return ST_OK;
}

/* libcrypt reads "$2a$" with a safety measure against a mistake of its own past, by which some
 * passwords hash to something else than anywhere else. "$2b$" is what Go means by either. */
static enum status compute(struct worker *worker, char out[BCRYPT_HASH_BYTES])
{
    const char *hash = crypt_r(worker->password, worker->setting, &worker->data);
    if (hash == NULL || hash[0] == '*' || strlen(hash) != BCRYPT_HASH_BYTES)
        return ST_INVALID;
    memcpy(out, hash, BCRYPT_HASH_BYTES);
    return ST_OK;
}

static void end(struct worker *worker)
{
    if (worker != NULL)
        explicit_bzero(worker, sizeof(*worker));
    free(worker);
}

enum status bcrypt_hash(struct slice password, uint32_t cost, const uint8_t salt[BCRYPT_SALT_BYTES],
                        char out[BCRYPT_HASH_BYTES])
{
    struct worker *worker = calloc(1, sizeof(*worker));
    if (worker == NULL)
        return ST_NO_MEMORY;
    enum status st =
        password.len > BCRYPT_PASSWORD_BYTES_MAX ? ST_TOO_BIG : take_password(worker, password);
    if (st == ST_OK && crypt_gensalt_rn("$2b$", cost, (const char *)salt, BCRYPT_SALT_BYTES,
                                        worker->setting, sizeof(worker->setting)) == NULL)
        st = ST_INVALID;
    if (st == ST_OK)
        st = compute(worker, out);
    if (st == ST_OK)
        out[2] = 'a';
    end(worker);
    return st;
}

/* Length and prefix; what is wrong behind them libcrypt refuses. */
static bool is_bcrypt(struct slice hash)
{
    return hash.len == BCRYPT_HASH_BYTES && memchr(hash.data, 0, hash.len) == NULL &&
           hash.data[0] == '$' && hash.data[1] == '2' &&
           (hash.data[2] == 'a' || hash.data[2] == 'b' || hash.data[2] == 'y') &&
           hash.data[3] == '$';
}

enum status bcrypt_compare(struct slice password, struct slice hash)
{
    if (!is_bcrypt(hash))
        return ST_INVALID;
    struct worker *worker = calloc(1, sizeof(*worker));
    if (worker == NULL)
        return ST_NO_MEMORY;
    char computed[BCRYPT_HASH_BYTES] = "";
    if (password.len > BCRYPT_PASSWORD_BYTES_MAX)
        password.len = BCRYPT_PASSWORD_BYTES_MAX;
    enum status st = take_password(worker, password);
    if (st == ST_OK) {
        memcpy(worker->setting, hash.data, hash.len);
        worker->setting[2] = 'b';
        st = compute(worker, computed);
    }
    uint8_t differs = 0;
    for (size_t i = 3; st == ST_OK && i < BCRYPT_HASH_BYTES; i++)
        differs |= (uint8_t)((uint8_t)computed[i] ^ hash.data[i]);
    end(worker);
    if (st != ST_OK)
        return st;
    return differs == 0 ? ST_OK : ST_INVALID;
}
