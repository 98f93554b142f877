/* server/config/config.h - what the operator asked for: etcd's flags and ETCD_* variables, checked,
 * in etcd's words where they are wrong. Nothing here opens a socket or a file (but
 * --config-file) or resolves a name.
 *
 *   config_init(&config);
 *   enum status st = config_load(&config, argc, argv, environ);
 *   if (st == ST_OK) open the log as config.log_level and config.log_outputs say
 *   config_report(&config);            prints and logs what came up, also when st != ST_OK
 *   if (st != ST_OK) return config.exit_code;
 */
#ifndef SERVER_CONFIG_CONFIG_H
#define SERVER_CONFIG_CONFIG_H
#include "base/arena.h"
#include "base/buf.h"
#include "base/status.h"
#include "server/config/url.h"
#include "server/run/log.h"

#include <stdbool.h>
#include <stdint.h>

#define CONFIG_API_VERSION "3.5.15" /* the etcd whose API this is: what clients are told */

struct config_texts {
    const char *const *items;
    uint32_t count;
};

/* Something to log once the log is open. */
struct config_note {
    enum log_level level;
    const char *msg;
    const char *keys[2], *values[2]; /* fields; a NULL key: none */
    struct config_note *next;
};

/* All texts live as long as the config. Durations are in nanoseconds. */
struct config {
    const char *config_file; /* "": none */
    const char *name;
    const char *data_dir; /* never empty */
    const char *wal_dir;  /* "": below data_dir */
    struct config_urls listen_client_urls;
    struct config_urls advertise_client_urls;
    struct config_urls listen_client_http_urls; /* none: the client URLs speak HTTP/1.1, too */
    struct config_urls listen_metrics_urls;
    struct config_urls listen_peer_urls;
    struct config_urls advertise_peer_urls; /* --initial-advertise-peer-urls */
    const char *initial_cluster;
    const char *initial_cluster_state; /* "new", "existing" */
    const char *initial_cluster_token;
    bool strict_reconfig_check, pre_vote, force_new_cluster;
    bool initial_corrupt_check;
    int64_t corrupt_check_time_ns; /* 0: never */
    bool compact_hash_check;
    int64_t compact_hash_check_time_ns;
    int64_t watch_progress_ns; /* between two notifications of an idle watch */
    uint64_t heartbeat_ms, election_ms;
    uint64_t quota_warning_percent, quota_alarm_clear_percent; /* of the quota; 0: not */
    uint64_t auto_compaction_retention; /* revisions or nanoseconds, by the mode; 0: never */
    int64_t warning_apply_ns;
    int64_t quota_backend_bytes; /* 0: etcd's default of 2 GiB; negative: none */
    uint64_t max_txn_ops;
    uint64_t max_request_bytes;
    uint64_t max_concurrent_streams;
    int64_t grpc_keepalive_min_ns, grpc_keepalive_interval_ns, grpc_keepalive_timeout_ns;
    const char *auth_token; /* "simple", "jwt,..." or "" */
    uint64_t auth_token_ttl_s, bcrypt_cost;
    bool enable_gateway;
    const char *cors, *host_whitelist; /* comma-separated; "*" among them: any */
    const char *metrics;               /* "extensive"; all else is "basic", as in etcd */
    enum log_level log_level;
    struct config_texts log_outputs; /* as log_open() takes them */
    const char *backend;             /* "": what is there, LMDB when new; "lmdb", "sqlite" */
    const char *wal_disk;            /* "auto", "io_uring", "pwritev2", "fdatasync" */

    /* As given; the fields above say what they mean. */
    const char *log_level_text, *log_outputs_text, *logger;
    const char *auto_compaction_mode, *auto_compaction_retention_text; /* "periodic", "revision" */
    const char *tls_min_version, *tls_max_version;
    bool lease_checkpoint, lease_checkpoint_persist;

    int exit_code;             /* of the process, when config_load() did not say ST_OK */
    struct buf out, err;       /* text for stdout (help, version) and stderr (usage) */
    struct config_note *notes; /* oldest first */
    struct arena arena;
};

void config_init(struct config *config);
void config_free(struct config *config);

/* Reads the command line and the environment (both borrowed until config_free()). Errors:
 * ST_CANCELED: the process is to end with config->exit_code, after config_report(): help, version,
 * or something was refused; ST_TOO_BIG: the command line is beyond all reason (exit_code is set).
 */
CHECKED enum status config_load(struct config *config, int argc, const char *const *argv,
                                const char *const *environment);
/* Prints out and err and logs the notes. Best called when the log is open. */
void config_report(const struct config *config);
#endif
