/* tools/utl/digest_check.h - compares the digest of a snapshot file in a thread of its own, while
 * another reads the file for its content: of a second for a gigabyte, half is the digest's. */
#ifndef TOOLS_UTL_DIGEST_CHECK_H
#define TOOLS_UTL_DIGEST_CHECK_H
#include "base/buf.h"
#include "base/disk.h"
#include "base/status.h"

#include <pthread.h>
#include <stdbool.h>

struct digest_check {
    struct disk *disk; /* its own */
    struct disk_file *file;
    struct buf why;
    enum status result;
    pthread_t thread;
    bool runs;
};

/* Begins; where there can be no thread, it is done here and now. Errors: those of opening the file.
 * digest_check_end() in every case. */
CHECKED enum status digest_check_begin(struct digest_check *check, const char *path);
/* Waits for the verdict: as dbfile_check_digest(), a sentence about ST_CORRUPT in why. Once. */
CHECKED enum status digest_check_end(struct digest_check *check, struct buf *why);
#endif
