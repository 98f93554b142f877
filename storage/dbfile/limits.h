/* storage/dbfile/limits.h - every bound of this room, with unit and reason. */
#ifndef STORAGE_DBFILE_LIMITS_H
#define STORAGE_DBFILE_LIMITS_H

#define DBFILE_PAGE_BYTES 4096U         /* of the files we write: what etcd creates */
#define DBFILE_CHUNK_BYTES (256U << 10) /* given out at once, but for a larger record */
#define DBFILE_STEP_RECORDS 4096U       /* read under one view: far below its 100 ms */
#define DBFILE_STEP_BYTES (1U << 20)    /* and of no more than this, but for a larger record */
#define DBFILE_LEVELS_MAX 34U           /* of one tree: each has at most half the pages below */
#define DBFILE_PAGES_MAX (1ULL << 32)   /* of a file: 16 TiB in pages of 4 KiB */

/* A value: as much as the backends hold; a node: one such value with its key. */
#define DBFILE_VALUE_BYTES_MAX (1U << 30)
#define DBFILE_RUN_BYTES_MAX (DBFILE_VALUE_BYTES_MAX + (1U << 20))

/* A configuration as JSON; one of 64 members takes 3 KiB. */
#define DBFILE_META_VALUE_BYTES_MAX 65536U
#define DBFILE_WHY_BYTES_MAX 512U /* of the sentence about what is wrong */

/* Read at once where pages follow each other, so that a page does not cost a system call. */
#define DBFILE_AHEAD_BYTES (128U << 10)

#define DBFILE_LOAD_STEP_BYTES (1U << 20)    /* loaded in one step */
#define DBFILE_LOAD_ITEM_BYTES 64U           /* counted for each record besides its bytes */
#define DBFILE_LOAD_COMMIT_BYTES (16U << 20) /* loaded in one transaction: a flush for each */
#endif
