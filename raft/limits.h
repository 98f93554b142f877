/* raft/limits.h - the caps of this room. */
#ifndef RAFT_LIMITS_H
#define RAFT_LIMITS_H

#define READS_WAITING_MAX 65536U   /* reads not confirmed yet; more are dropped */
#define BATCHES_KEPT_MAX 8U        /* released ready batches kept for reuse */
#define BATCH_ITEMS_KEPT_MAX 8192U /* of one array of a batch that is kept */
#define CONF_CHANGES_MAX 64U       /* single changes in one ConfChangeV2 */
#define PRINT_BYTES_MAX 256U       /* one configuration or progress in a line of log text */
#define TRACE_BYTES_MAX 1024U      /* one line of log text */
#define LOG_ENTRIES_MAX (UINT32_C(1) << 30) /* in the window: 32 GiB of records, never reached */
#endif
