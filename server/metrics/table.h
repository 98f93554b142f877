/* server/metrics/table.h - every metric: what it is called here, its kind, etcd's name and help.
 * Included by metrics.h. */
#ifndef SERVER_METRICS_TABLE_H
#define SERVER_METRICS_TABLE_H

#define METRICS_ENUM(id, kind, name, help) METRIC_##id,
#define METRICS_HISTOGRAM_ENUM(id, unit_ns, first_ns, steps, buckets, name, help) METRIC_##id,
#define METRICS_FAMILY_ENUM(id, kind, name, help) METRIC_##id,

/* One value each. */
/* clang-format off */
#define METRICS_SCALARS(X) \
    X(MVCC_RANGES, COUNTER, "etcd_mvcc_range_total", "Total number of ranges seen by this member.") \
    X(MVCC_PUTS, COUNTER, "etcd_mvcc_put_total", "Total number of puts seen by this member.") \
    X(MVCC_DELETES, COUNTER, "etcd_mvcc_delete_total", "Total number of deletes seen by this member.") \
    X(MVCC_TXNS, COUNTER, "etcd_mvcc_txn_total", "Total number of txns seen by this member.") \
    X(MVCC_DB_TOTAL_SIZE, GAUGE, "etcd_mvcc_db_total_size_in_bytes", "Total size of the underlying database physically allocated in bytes.") \
    X(MVCC_DB_IN_USE, GAUGE, "etcd_mvcc_db_total_size_in_use_in_bytes", "Total size of the underlying database logically in use in bytes.") \
    X(MVCC_KEYS, GAUGE, "etcd_debugging_mvcc_keys_total", "Total number of keys.") \
    X(MVCC_DEBUG_RANGES, COUNTER, "etcd_debugging_mvcc_range_total", "Total number of ranges seen by this member.") \
    X(MVCC_PUT_SIZE, GAUGE, "etcd_debugging_mvcc_total_put_size_in_bytes", "The total size of put kv pairs seen by this member.") \
    X(MVCC_CURRENT_REVISION, GAUGE, "etcd_debugging_mvcc_current_revision", "The current revision of store.") \
    X(MVCC_COMPACT_REVISION, GAUGE, "etcd_debugging_mvcc_compact_revision", "The revision of the last compaction in store.") \
    X(WATCH_STREAMS, GAUGE, "etcd_debugging_mvcc_watch_stream_total", "Total number of watch streams.") \
    X(WATCHERS, GAUGE, "etcd_debugging_mvcc_watcher_total", "Total number of watchers.") \
    X(SLOW_WATCHERS, GAUGE, "etcd_debugging_mvcc_slow_watcher_total", "Total number of unsynced slow watchers.") \
    X(WATCH_EVENTS, COUNTER, "etcd_debugging_mvcc_events_total", "Total number of events sent by this member.") \
    X(PENDING_EVENTS, GAUGE, "etcd_debugging_mvcc_pending_events_total", "Total number of pending events to be sent.") \
    X(WAL_WRITE_BYTES, GAUGE, "etcd_disk_wal_write_bytes_total", "Total number of bytes written in WAL.") \
    X(WAL_STALLED, GAUGE, "cleat_disk_wal_stalled_seconds", "How long the log's write in flight has been waiting for the disk, in whole seconds. 0 while none waits for one.") \
    X(WAL_STALLS, COUNTER, "cleat_disk_wal_stalls_total", "Total number of the log's writes that took the disk more than a second.") \
    X(COMPACTION_KEYS, COUNTER, "etcd_debugging_mvcc_db_compaction_keys_total", "Total number of db keys compacted.") \
    X(COMPACTION_LAST, GAUGE, "etcd_debugging_mvcc_db_compaction_last", "The unix time of the last db compaction. Resets to 0 on start.") \
    X(WAL_PREPARED_BYTES, GAUGE, "cleat_disk_wal_prepared_bytes_total", "Total number of bytes written to segments ahead of their use.") \
    X(DEFRAG_INFLIGHT, GAUGE, "etcd_disk_defrag_inflight", "Whether or not defrag is active on the member. 1 means active, 0 means not.") \
    X(CLIENT_SENT_BYTES, COUNTER, "etcd_network_client_grpc_sent_bytes_total", "The total number of bytes sent to grpc clients.") \
    X(CLIENT_RECEIVED_BYTES, COUNTER, "etcd_network_client_grpc_received_bytes_total", "The total number of bytes received from grpc clients.") \
    X(HAS_LEADER, GAUGE, "etcd_server_has_leader", "Whether or not a leader exists. 1 is existence, 0 is not.") \
    X(IS_LEADER, GAUGE, "etcd_server_is_leader", "Whether or not this member is a leader. 1 if is, 0 otherwise.") \
    X(IS_LEARNER, GAUGE, "etcd_server_is_learner", "Whether or not this member is a learner. 1 if is, 0 otherwise.") \
    X(QUARANTINED, GAUGE, "cleat_server_is_quarantined", "Whether or not this member takes no part any more since what it promised is gone. 1 if so, 0 otherwise.") \
    X(LEADER_CHANGES, COUNTER, "etcd_server_leader_changes_seen_total", "The number of leader changes seen.") \
    X(LEARNER_PROMOTIONS, COUNTER, "etcd_server_learner_promote_successes", "The total number of successful learner promotions while this member is leader.") \
    X(HEARTBEAT_SEND_FAILURES, COUNTER, "etcd_server_heartbeat_send_failures_total", "The total number of leader heartbeat send failures (likely overloaded from slow disk).") \
    X(SLOW_APPLIES, COUNTER, "etcd_server_slow_apply_total", "The total number of slow apply requests (likely overloaded from slow disk).") \
    X(SNAPSHOT_APPLYING, GAUGE, "etcd_server_snapshot_apply_in_progress_total", "1 if the server is applying the incoming snapshot. 0 if none.") \
    X(PROPOSALS_COMMITTED, GAUGE, "etcd_server_proposals_committed_total", "The total number of consensus proposals committed.") \
    X(PROPOSALS_APPLIED, GAUGE, "etcd_server_proposals_applied_total", "The total number of consensus proposals applied.") \
    X(PROPOSALS_PENDING, GAUGE, "etcd_server_proposals_pending", "The current number of pending proposals to commit.") \
    X(PROPOSALS_FAILED, COUNTER, "etcd_server_proposals_failed_total", "The total number of failed proposals seen.") \
    X(READ_INDEXES_SLOW, COUNTER, "etcd_server_slow_read_indexes_total", "The total number of pending read indexes not in sync with leader's or timed out read index requests.") \
    X(READ_INDEXES_FAILED, COUNTER, "etcd_server_read_indexes_failed_total", "The total number of failed read indexes seen.") \
    X(OVERLOADED, COUNTER, "cleat_server_requests_refused_total", "The total number of requests answered with \"too many requests\".") \
    X(QUOTA_USED_BYTES, GAUGE, "cleat_server_quota_used_bytes", "Bytes that count towards the quota: in use in the store, and applied and not in it yet.") \
    X(QUOTA_WARNING, GAUGE, "cleat_server_quota_warning", "Whether or not the store is so near to its quota that a warning was logged. 1 if so, 0 otherwise.") \
    X(ALARMS, GAUGE, "cleat_server_alarms", "The number of active alarms in the cluster.") \
    X(LEASES_GRANTED, COUNTER, "etcd_debugging_lease_granted_total", "The total number of granted leases.") \
    X(LEASES_REVOKED, COUNTER, "etcd_debugging_lease_revoked_total", "The total number of revoked leases.") \
    X(LEASES_RENEWED, COUNTER, "etcd_debugging_lease_renewed_total", "The number of renewed leases seen by the leader.") \
    X(LEASES_EXPIRED, COUNTER, "etcd_debugging_server_lease_expired_total", "The total number of expired leases.") \
    X(AUTH_REVISION, GAUGE, "etcd_debugging_auth_revision", "The current revision of auth store.") \
    X(QUOTA_BACKEND_BYTES, GAUGE, "etcd_server_quota_backend_bytes", "Current backend storage quota size in bytes.") \
    X(HEALTH_SUCCESSES, COUNTER, "etcd_server_health_success", "The total number of successful health checks") \
    X(HEALTH_FAILURES, COUNTER, "etcd_server_health_failures", "The total number of failed health checks")

#define MS 1000000ULL
#define S 1000000000ULL
/* Durations. BY_TWO: each bucket is twice the one before; BY_FIVES: 5, 10, 25, 50, 100, 250 and so
 * on, Prometheus' own default. TTLs are counted in whole seconds. */
#define METRICS_HISTOGRAMS(X) \
    X(WAL_FSYNC, S, 1 * MS, BY_TWO, 14, "etcd_disk_wal_fsync_duration_seconds", "The latency distributions of fsync called by WAL.") \
    X(BACKEND_COMMIT, S, 1 * MS, BY_TWO, 14, "etcd_disk_backend_commit_duration_seconds", "The latency distributions of commit called by backend.") \
    X(BACKEND_DEFRAG, S, 100 * MS, BY_TWO, 13, "etcd_disk_backend_defrag_duration_seconds", "The latency distribution of backend defragmentation.") \
    X(BACKEND_SNAPSHOT, S, 10 * MS, BY_TWO, 17, "etcd_disk_backend_snapshot_duration_seconds", "The latency distribution of backend snapshots.") \
    X(MVCC_HASH, S, 10 * MS, BY_TWO, 15, "etcd_mvcc_hash_duration_seconds", "The latency distribution of storage hash operation.") \
    X(MVCC_HASH_REVISION, S, 10 * MS, BY_TWO, 15, "etcd_mvcc_hash_rev_duration_seconds", "The latency distribution of storage hash by revision operation.") \
    X(COMPACTION_TOTAL, MS, 100 * MS, BY_TWO, 14, "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds", "Bucketed histogram of db compaction total duration.") \
    X(LEASE_TTLS, 1, 1, BY_TWO, 24, "etcd_debugging_lease_ttl_total", "Bucketed histogram of lease TTLs.") \
    X(INDEX_COMPACTION_PAUSE, MS, MS / 2, BY_TWO, 14, "etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds", "Bucketed histogram of index compaction pause duration.") \
    X(SNAPSHOT_SAVE, S, 100 * MS, BY_TWO, 10, "etcd_snap_db_save_total_duration_seconds", "The total latency distributions of v3 snapshot save") \
    X(COMPACTION_PAUSE, MS, 1 * MS, BY_TWO, 13, "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds", "Bucketed histogram of db compaction pause duration.")

/* Values by label. */
#define METRICS_FAMILIES(X) \
    X(CLUSTER_VERSION, GAUGE, "etcd_cluster_version", "Which version is running. 1 for 'cluster_version' label with current cluster version") \
    X(SERVER_VERSION, GAUGE, "etcd_server_version", "Which version is running. 1 for 'server_version' label with current version.") \
    X(SERVER_ID, GAUGE, "etcd_server_id", "Server or member ID in hexadecimal format. 1 for 'server_id' label with current ID.") \
    X(WAL_DISK, GAUGE, "cleat_disk_wal_writes_by", "How the log is written. 1 for 'disk' label with the way that was chosen at start.") \
    X(LEARNER_PROMOTIONS_FAILED, COUNTER, "etcd_server_learner_promote_failures", "The total number of failed learner promotions (likely learner not ready) while this member is leader.") \
    X(CLIENT_REQUESTS, COUNTER, "etcd_server_client_requests_total", "The total number of client requests per client version.") \
    X(HEALTHCHECK, GAUGE, "etcd_server_healthcheck", "The result of each kind of healthcheck.") \
    X(HEALTHCHECKS, COUNTER, "etcd_server_healthchecks_total", "The total number of each kind of healthcheck.") \
    X(ACTIVE_PEERS, GAUGE, "etcd_network_active_peers", "The current number of active peer connections.") \
    X(DISCONNECTED_PEERS, COUNTER, "etcd_network_disconnected_peers_total", "The total number of disconnected peers.") \
    X(PEER_SENT_BYTES, COUNTER, "etcd_network_peer_sent_bytes_total", "The total number of bytes sent to peers.") \
    X(PEER_RECEIVED_BYTES, COUNTER, "etcd_network_peer_received_bytes_total", "The total number of bytes received from peers.") \
    X(PEER_SENT_FAILURES, COUNTER, "etcd_network_peer_sent_failures_total", "The total number of send failures from peers.") \
    X(PEER_RECEIVED_FAILURES, COUNTER, "etcd_network_peer_received_failures_total", "The total number of receive failures from peers.") \
    X(SNAPSHOT_SENT, COUNTER, "etcd_network_snapshot_send_success", "Total number of successful snapshot sends") \
    X(SNAPSHOT_SEND_FAILURES, COUNTER, "etcd_network_snapshot_send_failures", "Total number of snapshot send failures") \
    X(SNAPSHOT_SENDING, GAUGE, "etcd_network_snapshot_send_inflights_total", "Total number of inflight snapshot sends") \
    X(SNAPSHOT_RECEIVED, COUNTER, "etcd_network_snapshot_receive_success", "Total number of successful snapshot receives") \
    X(SNAPSHOT_RECEIVE_FAILURES, COUNTER, "etcd_network_snapshot_receive_failures", "Total number of snapshot receive failures") \
    X(SNAPSHOT_RECEIVING, GAUGE, "etcd_network_snapshot_receive_inflights_total", "Total number of inflight snapshot receives") \
    X(RPC_STARTED, COUNTER, "grpc_server_started_total", "Total number of RPCs started on the server.") \
    X(RPC_HANDLED, COUNTER, "grpc_server_handled_total", "Total number of RPCs completed on the server, regardless of success or failure.") \
    X(RPC_RECEIVED, COUNTER, "grpc_server_msg_received_total", "Total number of RPC stream messages received on the server.") \
    X(RPC_SENT, COUNTER, "grpc_server_msg_sent_total", "Total number of gRPC stream messages sent by the server.")

/* Durations by label. */
#define METRICS_HISTOGRAM_FAMILIES(X) \
    X(RPC_HANDLING, S, 5 * MS, BY_FIVES, 11, "grpc_server_handling_seconds", "Histogram of response latency (seconds) of gRPC that had been application-level handled by the server.") \
    X(APPLY_DURATION, S, MS / 10, BY_TWO, 20, "etcd_server_apply_duration_seconds", "The latency distributions of v2 apply called by backend.") \
    X(REQUEST_PHASE, S, MS / 10, BY_TWO, 18, "cleat_request_phase_duration_seconds", "Where the time of writes and reads went, by phase.") \
    X(PEER_ROUND_TRIP, S, MS / 10, BY_TWO, 16, "etcd_network_peer_round_trip_time_seconds", "Round-Trip-Time histogram between peers") \
    X(SNAPSHOT_SEND, S, 100 * MS, BY_TWO, 10, "etcd_network_snapshot_send_total_duration_seconds", "Total latency distributions of v3 snapshot sends") \
    X(SNAPSHOT_RECEIVE, S, 100 * MS, BY_TWO, 10, "etcd_network_snapshot_receive_total_duration_seconds", "Total latency distributions of v3 snapshot receives")
/* clang-format on */
#endif
