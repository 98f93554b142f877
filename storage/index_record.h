/* storage/index_record.h - what the index knows of one key, packed into one heap block. A key's
 * newest revision stands in the record, the superseded ones in the history (index_history.h).
 *
 *   bytes  field
 *   1      flags: 1 tombstone, 2 life, 4 history, 8 wide
 *   1..5   key length, varint
 *   6      main of the newest revision (8 when wide)
 *   2      sub of it (4 when wide)
 *   6      position of the revision before it, with flag history (8 when wide)
 *   6, 4   create revision and version, with flag life (8, 8 when wide); without the flag a live
 *          key is at version 1 and was created by its newest revision
 *   n      key
 *
 * A key of 45 bytes at one revision makes 55 bytes, the most that fits malloc's block of 64. */
#ifndef STORAGE_INDEX_RECORD_H
#define STORAGE_INDEX_RECORD_H
#include "base/slice.h"
#include "storage/revision.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct index_record {
    struct slice key; /* decoded: borrowed from the packed bytes */
    struct revision newest;
    bool tombstone;
    uint64_t previous;                /* position in the history; 0 for none */
    int64_t create_revision, version; /* of the live generation; 0, 0 for a tombstone */
};

size_t index_record_size(const struct index_record *record);
/* Writes exactly index_record_size() bytes; key may not overlap out. */
void index_record_pack(const struct index_record *record, uint8_t *out);
void index_record_unpack(const uint8_t *packed, struct index_record *out);
/* Parts of it, for searches. */
struct slice index_record_key(const uint8_t *packed);
bool index_record_is_live(const uint8_t *packed);
#endif
