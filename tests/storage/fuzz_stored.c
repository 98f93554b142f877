/* Decoders of what a damaged or hostile store may hold: sealed values, long keys, marks, headers,
 * revision keys. Nothing may crash, and what decodes must encode to the same bytes. */
#include "base/assert.h"
#include "storage/backend_private.h"
#include "storage/revision.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_sealed(struct slice key, struct slice stored)
{
    struct slice value;
    if (value_unseal(key, stored, &value) == ST_OK) {
        ASSERT(value.len + CHECKSUM_BYTES == stored.len);
        ASSERT(value.len == 0 || value.data == stored.data);
    }
    /* What we seal ourselves always opens, and under no other key of the same length. */
    uint8_t *sealed = malloc(stored.len + CHECKSUM_BYTES);
    if (sealed == NULL)
        return;
    value_seal(key, stored, sealed);
    struct slice whole = slice_make(sealed, stored.len + CHECKSUM_BYTES);
    ASSERT(value_unseal(key, whole, &value) == ST_OK);
    ASSERT(slice_eq(value, stored));
    sealed[key.len % whole.len] ^= 1;
    ASSERT(value_unseal(key, whole, &value) == ST_CORRUPT);
    free(sealed);
}

static void try_long(struct slice stored_key, struct slice payload)
{
    struct slice key, value;
    if (long_value_decode(stored_key, payload, &key, &value) == ST_OK) {
        ASSERT(key_is_long(key.len));
        ASSERT(4 + key.len + value.len == payload.len);
    }
    /* The same payload under the key it stands for. */
    if (payload.len < 4 + LONG_KEY_BYTES_MIN)
        return;
    uint8_t expected[LONG_KEY_BYTES_MIN];
    size_t claimed = payload.data[0] | (size_t)payload.data[1] << 8;
    if (!key_is_long(claimed) || claimed > payload.len - 4)
        return;
    long_key_encode(slice_make(payload.data + 4, claimed), expected);
    enum status st =
        long_value_decode(slice_make(expected, sizeof(expected)), payload, &key, &value);
    ASSERT(st != ST_OK || key.len == claimed);
}

static void try_mark(struct slice payload)
{
    struct store_mark mark;
    if (mark_decode(payload, &mark) != ST_OK)
        return;
    struct buf again;
    buf_init(&again, payload.len + 1);
    enum status st = mark_encode(&mark, &again);
    ASSERT(st != ST_OK || slice_eq(buf_slice(&again), payload));
    buf_deinit(&again);
}

static void try_revision(struct slice key)
{
    struct revision revision;
    bool tombstone;
    if (revision_key_decode(key, &revision, &tombstone) != ST_OK)
        return;
    uint8_t again[TOMBSTONE_KEY_BYTES];
    size_t size = revision_key_encode(revision, tombstone, again);
    ASSERT(slice_eq(slice_make(again, size), key));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* The first two bytes say where the key ends. */
    if (size < 2)
        return 0;
    size_t key_len = data[0] | (size_t)data[1] << 8;
    size -= 2;
    key_len = key_len > size ? size : key_len;
    struct slice key = slice_make(data + 2, key_len);
    struct slice rest = slice_make(data + 2 + key_len, size - key_len);
    try_sealed(key, rest);
    try_long(key, rest);
    try_mark(rest);
    try_revision(key);
    enum status st = header_check(rest, /* life_id= */ 1);
    ASSERT(st != ST_OK || rest.len == HEADER_BYTES);
    return 0;
}
