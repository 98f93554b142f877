/* The reader of etcd's .snap files on foreign bytes: the input is such a file, or, where its first
 * byte is odd, the JSON of one whose checksum is right. What it gives stays within its limits. */
#include "tests/utl/etcd_log.h"
#include "tools/utl/etcd_snap.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
    if (!ok)
        abort();
}

static size_t sum_of(struct slice s)
{
    size_t sum = 0;
    for (size_t i = 0; i < s.len; i++)
        sum += s.data[i];
    return sum;
}

static size_t touch(const struct member_row *row)
{
    size_t sum = sum_of(row->name);
    must(row->id != 0);
    must(row->peer_urls_count <= MEMBER_URLS_MAX && row->client_urls_count <= MEMBER_URLS_MAX);
    for (uint32_t i = 0; i < row->peer_urls_count; i++)
        sum += sum_of(row->peer_urls[i]);
    for (uint32_t i = 0; i < row->client_urls_count; i++)
        sum += sum_of(row->client_urls[i]);
    return sum;
}

static volatile size_t all;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct etcd_snap snap;
    struct buf file;
    struct slice input = slice_make(data + 1, size - 1);
    buf_init(&file, 1 << 24);
    if (data[0] % 2 == 1) {
        etcd_snap_file(input, /* index= */ 7, /* term= */ 2, &file);
        input = buf_slice(&file);
    }
    etcd_snap_init(&snap);
    enum status st = etcd_snap_decode(input, &snap);
    must(st == ST_OK || st == ST_CORRUPT || st == ST_INVALID || st == ST_TOO_BIG);
    if (st == ST_OK) {
        must(snap.rows_count <= MEMBERS_MAX);
        must(data[0] % 2 == 0 || (snap.last.index == 7 && snap.last.term == 2));
        for (uint32_t i = 0; i < snap.rows_count; i++)
            all += touch(&snap.rows[i]);
        for (uint32_t i = 0; i < snap.removed_count; i++)
            all += snap.removed[i];
    }
    etcd_snap_deinit(&snap);
    buf_deinit(&file);
    return 0;
}
