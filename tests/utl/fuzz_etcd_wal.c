/* The reader of etcd's log on foreign bytes: the input is one file, or two, cut where its first
 * byte says. It ends in a verdict with words, the same each time, and gives entries without gaps.
 */
#include "tests/fakes/fake_disk.h"
#include "tools/utl/etcd_wal.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
    if (!ok)
        abort();
}

static void read_once(struct disk *disk, raft_index after, struct etcd_wal *wal)
{
    struct buf why;
    buf_init(&why, 4096);
    must(etcd_wal_read(disk, "/wal", after, wal, &why) == ST_OK);
    must(wal->verdict == ST_OK || wal->text.len > 0);
    for (uint32_t i = 0; i < wal->entries_count; i++)
        must(wal->entries[i].index == wal->first_index + i && wal->entries[i].index > after);
    must(wal->entries_count == 0 || wal->last_index == wal->entries[wal->entries_count - 1].index);
    (void)etcd_wal_snapshot(wal);
    buf_deinit(&why);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct fake_disk *disk = fake_disk_new(/* seed= */ 1);
    must(disk_make_dir(fake_disk_base(disk), "/wal") == ST_OK);
    size_t cut = data[0] == 0 ? size - 1 : (size - 1) * data[0] / 256;
    fake_disk_put(disk, "/wal/0000000000000000-0000000000000000.wal", slice_make(data + 1, cut));
    if (data[0] != 0)
        fake_disk_put(disk, "/wal/0000000000000001-0000000000000001.wal",
                      slice_make(data + 1 + cut, size - 1 - cut));
    struct etcd_wal wal, again;
    read_once(fake_disk_base(disk), data[0] % 3, &wal);
    read_once(fake_disk_base(disk), data[0] % 3, &again);
    must(wal.verdict == again.verdict && wal.entries_count == again.entries_count);
    etcd_wal_deinit(&wal);
    etcd_wal_deinit(&again);
    fake_disk_free(disk);
    return 0;
}
