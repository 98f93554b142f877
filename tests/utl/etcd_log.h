/* tests/utl/etcd_log.h - writes etcd's log and .snap files into memory, as etcd does. */
#ifndef TESTS_UTL_ETCD_LOG_H
#define TESTS_UTL_ETCD_LOG_H
#include "base/buf.h"
#include "base/slice.h"

#include <stdint.h>

struct etcd_log {
    struct buf file;
    uint32_t crc; /* running, over file ends */
};

void etcd_log_init(struct etcd_log *log);
void etcd_log_deinit(struct etcd_log *log);
/* Begins a file; what was in the buffer is gone. */
void etcd_log_begin(struct etcd_log *log);
void etcd_log_record(struct etcd_log *log, uint64_t type, struct slice data);
void etcd_log_metadata(struct etcd_log *log, uint64_t node, uint64_t cluster);
void etcd_log_entry(struct etcd_log *log, uint64_t term, uint64_t index, struct slice data);
void etcd_log_change(struct etcd_log *log, uint64_t term, uint64_t index, struct slice data);
void etcd_log_state(struct etcd_log *log, uint64_t term, uint64_t vote, uint64_t commit);
void etcd_log_snapshot(struct etcd_log *log, uint64_t index, uint64_t term);

/* Appends a .snap file with this JSON to out. */
void etcd_snap_file(struct slice json, uint64_t index, uint64_t term, struct buf *out);
#endif
