/* server/metrics/process.h - what the kernel knows of this process. */
#ifndef SERVER_METRICS_PROCESS_H
#define SERVER_METRICS_PROCESS_H
#include "base/buf.h"
#include "base/status.h"

/* Appends os_fd_* and process_*, the lines that dashboards for etcd read. What cannot be read (no
 * /proc) is left out. Errors: buf_append()'s. */
CHECKED enum status process_render(struct buf *out);
#endif
