/* storage/mvcc_checkpoint.h - the index as a file, so that a start need not read every revision.
 * Written by mvcc_checkpoint.c, read by mvcc_checkpoint_load.c. All integers are little-endian.
 *
 * The file is a row of blocks: 4 bytes length of the payload, the payload, 8 bytes XXH3-64 of the
 * payload seeded with the hash of the block before (0 at first). The payload's first byte is its
 * kind:
 *
 *   'H'  once, first: 8 magic, 8 life id, 8 revision R, 8 trim started, 8 trimmed, 8 position of
 *        the first history item, 8 number of positions
 *   'I'  history items, 24 bytes each: 8 main and flags, 4 sub, 4 age, 4 previous, 4 jump
 *   'K'  keys in order, as of R: varint bytes shared with the key before in this block, varint
 *        length of the rest, the rest, 1 flags (1 tombstone, 2 life, 4 history, 8 fetch), varint
 *        main, varint sub; with history: varint its position; with life: varint create revision,
 *        varint version. Fetch: the key was changed while the file was written; create revision
 *        and version are read from the record in the store
 *   'E'  once, last: 8 number of keys
 *
 * A checkpoint of revision R fits a store when the store reaches R, every deletion of the
 * compactions that had begun to trim is in the store (trim started <= finishedCompactRev), and no
 * compaction above R was scheduled: such a one may have deleted what tells of a key's end. */
#ifndef STORAGE_MVCC_CHECKPOINT_H
#define STORAGE_MVCC_CHECKPOINT_H

#define CHECKPOINT_MAGIC "CLEATIX1"
#define CHECKPOINT_MAGIC_BYTES 8U
#define CHECKPOINT_HEADER_BYTES 57U
#define CHECKPOINT_END_BYTES 9U
#define CHECKPOINT_ITEM_BYTES 24U
#define CHECKPOINT_BLOCK_BYTES (64U << 10)     /* a block is closed when it holds so much */
#define CHECKPOINT_BLOCK_BYTES_MAX (64U << 20) /* more is damage: one key may exceed a block */

enum checkpoint_flags {
    CHECKPOINT_TOMBSTONE = 1 << 0,
    CHECKPOINT_LIFE = 1 << 1,
    CHECKPOINT_HISTORY = 1 << 2,
    CHECKPOINT_FETCH = 1 << 3,
};
#endif
