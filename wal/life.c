/* wal/life.c - whose log it is, by the heads of its segments. */
#include "wal/segment.h"
#include "wal/wal.h"

#include <limits.h>
#include <stdio.h>

struct finding {
    struct disk *disk;   /* borrowed */
    const char *dir;     /* borrowed */
    uint64_t newest_seq; /* whose head is sound; 0: none yet */
    uint64_t life_id;
    enum status st;
};

static enum status read_head(struct finding *f, const char *name, struct wal_segment_header *out)
{
    char path[PATH_MAX];
    uint8_t block[WAL_BLOCK_BYTES];
    struct disk_file *file;
    size_t got = 0;
    int len = snprintf(path, sizeof(path), "%s/%s", f->dir, name);
    if (len < 0 || (size_t)len >= sizeof(path))
        return ST_INVALID;
    enum status st = disk_open(f->disk, path, DISK_READ_ONLY, &file);
    if (st != ST_OK)
        return st;
    st = disk_read(file, 0, block, sizeof(block), &got);
    disk_close(file);
    return st == ST_OK ? wal_segment_header_decode(slice_make(block, got), out) : st;
}

/* A head that cannot be read says nothing; opening the log tells of it. */
static void look_at(void *context, const char *name)
{
    struct finding *f = context;
    struct wal_segment_header header;
    uint64_t seq;
    if (wal_name_parse(name, &seq) != WAL_NAME_SEGMENT || seq <= f->newest_seq)
        return;
    enum status st = read_head(f, name, &header);
    if (st == ST_NO_MEMORY)
        f->st = st;
    if (st != ST_OK || header.seq != seq)
        return;
    f->newest_seq = seq;
    f->life_id = header.life_id;
}

enum status wal_find_life(struct disk *disk, const char *dir, uint64_t *life_id_out)
{
    struct finding f = {.disk = disk, .dir = dir};
    enum status st = disk_list(disk, dir, look_at, &f);
    if (st == ST_OK)
        st = f.st;
    if (st == ST_OK && f.newest_seq == 0)
        st = ST_NOT_FOUND;
    if (st == ST_OK)
        *life_id_out = f.life_id;
    return st;
}
