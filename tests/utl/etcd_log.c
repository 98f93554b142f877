#include "tests/utl/etcd_log.h"

#include "base/bytes.h"
#include "base/hash.h"

#include <stdlib.h>

static void must(enum status st)
{
    if (st != ST_OK)
        abort();
}

static void put_number(struct buf *out, uint32_t number, uint64_t value)
{
    uint8_t bytes[1 + VARINT_BYTES_MAX] = {(uint8_t)(number << 3)};
    must(buf_append(out, slice_make(bytes, 1 + put_varint(bytes + 1, value))));
}

static void put_bytes(struct buf *out, uint32_t number, struct slice value)
{
    uint8_t bytes[1 + VARINT_BYTES_MAX] = {(uint8_t)(number << 3 | 2)};
    must(buf_append(out, slice_make(bytes, 1 + put_varint(bytes + 1, value.len))));
    must(buf_append(out, value));
}

void etcd_log_init(struct etcd_log *log)
{
    *log = (struct etcd_log){0};
    buf_init(&log->file, 1 << 26);
}

void etcd_log_deinit(struct etcd_log *log)
{
    buf_deinit(&log->file);
}

static void put_frame(struct etcd_log *log, uint64_t type, struct slice data)
{
    struct buf record;
    buf_init(&record, 1 << 25);
    put_number(&record, 1, type);
    put_number(&record, 2, log->crc);
    if (data.len > 0)
        put_bytes(&record, 3, data);
    uint64_t pad = (8 - record.len % 8) % 8;
    uint8_t head[8];
    put_le64(head, record.len | (pad > 0 ? (0x80 | pad) << 56 : 0));
    must(buf_append(&log->file, slice_make(head, sizeof(head))));
    must(buf_append(&log->file, buf_slice(&record)));
    must(buf_append(&log->file, slice_make("\0\0\0\0\0\0\0", pad)));
    buf_deinit(&record);
}

void etcd_log_begin(struct etcd_log *log)
{
    buf_reset(&log->file);
    put_frame(log, 4, SLICE_EMPTY);
}

void etcd_log_record(struct etcd_log *log, uint64_t type, struct slice data)
{
    log->crc = crc32c(log->crc, data);
    put_frame(log, type, data);
}

static void put_numbers(struct etcd_log *log, uint64_t type, const uint64_t *values, uint32_t count)
{
    struct buf data;
    buf_init(&data, 1 << 20);
    for (uint32_t i = 0; i < count; i++)
        put_number(&data, i + 1, values[i]);
    etcd_log_record(log, type, buf_slice(&data));
    buf_deinit(&data);
}

void etcd_log_metadata(struct etcd_log *log, uint64_t node, uint64_t cluster)
{
    put_numbers(log, 1, (uint64_t[]){node, cluster}, 2);
}

void etcd_log_state(struct etcd_log *log, uint64_t term, uint64_t vote, uint64_t commit)
{
    put_numbers(log, 3, (uint64_t[]){term, vote, commit}, 3);
}

void etcd_log_snapshot(struct etcd_log *log, uint64_t index, uint64_t term)
{
    put_numbers(log, 5, (uint64_t[]){index, term}, 2);
}

static void put_entry(struct etcd_log *log, uint64_t type, uint64_t term, uint64_t index,
                      struct slice data)
{
    struct buf entry;
    buf_init(&entry, 1 << 25);
    put_number(&entry, 1, type);
    put_number(&entry, 2, term);
    put_number(&entry, 3, index);
    put_bytes(&entry, 4, data);
    etcd_log_record(log, 2, buf_slice(&entry));
    buf_deinit(&entry);
}

void etcd_log_entry(struct etcd_log *log, uint64_t term, uint64_t index, struct slice data)
{
    put_entry(log, 0, term, index, data);
}

void etcd_log_change(struct etcd_log *log, uint64_t term, uint64_t index, struct slice data)
{
    put_entry(log, 1, term, index, data);
}

void etcd_snap_file(struct slice json, uint64_t index, uint64_t term, struct buf *out)
{
    struct buf metadata, snapshot;
    buf_init(&metadata, 1 << 10);
    buf_init(&snapshot, 1 << 25);
    put_bytes(&metadata, 1, SLICE_EMPTY);
    put_number(&metadata, 2, index);
    put_number(&metadata, 3, term);
    put_bytes(&snapshot, 1, json);
    put_bytes(&snapshot, 2, buf_slice(&metadata));
    put_number(out, 1, crc32c(0, buf_slice(&snapshot)));
    put_bytes(out, 2, buf_slice(&snapshot));
    buf_deinit(&metadata);
    buf_deinit(&snapshot);
}
