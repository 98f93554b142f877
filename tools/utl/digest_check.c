#include "tools/utl/digest_check.h"

#include "storage/dbfile/reader.h"
#include "wal/disks.h"

#define WHY_BYTES_MAX 4096U

static void *run(void *context)
{
    struct digest_check *check = context;
    check->result = dbfile_check_digest(check->file, &check->why);
    return NULL;
}

enum status digest_check_begin(struct digest_check *check, const char *path)
{
    *check = (struct digest_check){.result = ST_OK};
    buf_init(&check->why, WHY_BYTES_MAX);
    enum status st = disk_open_reading(&check->disk);
    if (st == ST_OK)
        st = disk_open(check->disk, path, DISK_READ_ONLY, &check->file);
    check->result = st;
    if (st != ST_OK)
        return st;
    check->runs = pthread_create(&check->thread, NULL, run, check) == 0;
    if (!check->runs)
        (void)run(check);
    return ST_OK;
}

enum status digest_check_end(struct digest_check *check, struct buf *why)
{
    if (check->runs)
        pthread_join(check->thread, NULL);
    enum status st = check->result, said = ST_OK;
    if (st != ST_OK && st != ST_NOT_FOUND)
        said = buf_append(why, buf_slice(&check->why));
    (void)said; /* the status is what counts */
    disk_close(check->file);
    disk_free(check->disk);
    buf_deinit(&check->why);
    return st;
}
