/* server/services/snapshot.c - Maintenance.Snapshot: the state as etcd's db file in blobs of 32
 * KiB, as etcd sends it, then the SHA-256 of them all as one more. Everything but the first step
 * happens on the snapshots actor; the next blob is made when the last one has left. */
#include "base/assert.h"
#include "base/digest.h"
#include "base/list.h"
#include "server/loops/export.h"
#include "server/metrics/metrics.h"
#include "server/run/log.h"
#include "server/services/services_private.h"

#define BLOB_BYTES_MAX (32U << 10)
#define HEAD_BYTES_MAX 24U /* two tags, a number and a length */

enum { FIELD_REMAINING_BYTES = 2, FIELD_BLOB }; /* SnapshotResponse */

struct snapshot_call {
    struct export_request export;
    atomic_bool cancel_asked;
    struct sha256 *digest;
    uint64_t given_bytes, began_ns;
    uint8_t *blob; /* with room for what goes before it */
    size_t blob_bytes;
};

static struct snapshot_call *snapshot_of(struct export_request *export)
{
    return CONTAINER_OF(export, struct snapshot_call, export);
}

/* ---- the messages ---- */

static uint8_t *put_field(uint8_t *at, uint32_t field, enum wire_type type, uint64_t value)
{
    *at++ = (uint8_t)(field << 3 | type);
    return at + put_varint(at, value);
}

/* No answer: what goes wrong here comes back as a cancellation. */
static void send_blob(struct snapshot_call *snapshot, uint64_t remaining_bytes)
{
    uint8_t head[HEAD_BYTES_MAX], *end = head;
    if (remaining_bytes > 0)
        end = put_field(end, FIELD_REMAINING_BYTES, WIRE_VARINT, remaining_bytes);
    end = put_field(end, FIELD_BLOB, WIRE_BYTES, snapshot->blob_bytes);
    size_t head_bytes = (size_t)(end - head);
    uint8_t *message = snapshot->blob - head_bytes;
    memcpy(message, head, head_bytes);
    struct rpc_call *call = snapshot->export.call;
    enum status st = rpc_send(call, slice_make(message, head_bytes + snapshot->blob_bytes));
    snapshot->blob_bytes = 0;
    if (st != ST_OK && st != ST_CANCELED) /* then on_cancel comes, or came */
        on_snapshot_cancel(call);
}

/* ---- its end: once ---- */

static void log_end(const struct snapshot_call *snapshot, enum api_error error)
{
    const struct rpc_call *call = snapshot->export.call;
    const struct services *services = call->service;
    uint64_t took_ns = clock_monotonic_ns(services->options.clock) - snapshot->began_ns;
    if (error == API_OK) {
        metrics_observe(METRIC_BACKEND_SNAPSHOT, took_ns);
        log_info("successfully sent database snapshot to client",
                 LOG_STR("remote", rpc_peer(snapshot->export.call)),
                 LOG_U64("total-bytes", snapshot->export.size), LOG_DURATION("took", took_ns));
        return;
    }
    log_warn("failed to send database snapshot to client",
             LOG_STR("remote", rpc_peer(snapshot->export.call)),
             LOG_U64("total-bytes", snapshot->export.size),
             LOG_U64("sent-bytes", snapshot->given_bytes), LOG_DURATION("took", took_ns),
             LOG_STR("error", api_error_text(error)));
}

static void end(struct snapshot_call *snapshot, enum api_error error)
{
    log_end(snapshot, error);
    sha256_free(snapshot->digest);
    finish_error(snapshot->export.call, error);
}

/* The status follows once the digest has left. */
static void end_well(struct snapshot_call *snapshot)
{
    enum status st = sha256_end(snapshot->digest, snapshot->blob);
    snapshot->blob_bytes = SHA256_BYTES;
    if (st == ST_OK)
        send_blob(snapshot, /* remaining_bytes= */ 0);
    end(snapshot, api_error_of(st));
}

/* ---- parts ---- */

static void take(struct snapshot_call *snapshot, struct slice bytes)
{
    ASSERT(bytes.len <= BLOB_BYTES_MAX - snapshot->blob_bytes);
    memcpy(snapshot->blob + snapshot->blob_bytes, bytes.data, bytes.len);
    snapshot->blob_bytes += bytes.len;
    snapshot->given_bytes += bytes.len;
    snapshot->export.part_bytes_max = snapshot->blob_bytes == BLOB_BYTES_MAX
                                          ? BLOB_BYTES_MAX
                                          : BLOB_BYTES_MAX - snapshot->blob_bytes;
}

static void give(struct export_request *export, enum api_error error, struct slice bytes)
{
    struct snapshot_call *snapshot = snapshot_of(export);
    if (error != API_OK) {
        end(snapshot, error);
        return;
    }
    if (bytes.len == 0) {
        end_well(snapshot);
        return;
    }
    if (snapshot->given_bytes == 0)
        log_info("sending database snapshot to client", LOG_STR("remote", rpc_peer(export->call)),
                 LOG_U64("total-bytes", export->size));
    take(snapshot, bytes);
    if (sha256_add(snapshot->digest, bytes) != ST_OK)
        on_snapshot_cancel(export->call);
    else if (snapshot->blob_bytes == BLOB_BYTES_MAX || snapshot->given_bytes == export->size)
        send_blob(snapshot, export->size - snapshot->given_bytes);
    else
        loops_export_next(export);
}

void on_snapshot_sent(struct rpc_call *call)
{
    struct snapshot_call *snapshot = call->state;
    loops_export_next(&snapshot->export);
}

void on_snapshot_cancel(struct rpc_call *call)
{
    struct snapshot_call *snapshot = call->state;
    if (snapshot != NULL && !atomic_exchange(&snapshot->cancel_asked, true))
        loops_export_cancel(&snapshot->export);
}

/* Whatever state the cluster is in: a member without a leader, or in quarantine, gives up what it
 * has applied. */
void on_snapshot(struct rpc_call *call)
{
    struct services *services = call->service;
    enum api_error refused = auth_raw(auth_is_root(call));
    if (refused != API_OK) {
        refuse_caller(call, refused);
        return;
    }
    struct snapshot_call *snapshot = ARENA_NEW(call->arena, struct snapshot_call);
    uint8_t *memory =
        snapshot == NULL ? NULL : arena_alloc(call->arena, HEAD_BYTES_MAX + BLOB_BYTES_MAX);
    if (memory == NULL) {
        finish_error(call, API_NO_MEMORY);
        return;
    }
    *snapshot = (struct snapshot_call){
        .export = {.call = call, .part_bytes_max = BLOB_BYTES_MAX, .give = give},
        .began_ns = clock_monotonic_ns(services->options.clock),
        .blob = memory + HEAD_BYTES_MAX};
    enum status st = sha256_new(&snapshot->digest);
    if (st != ST_OK) {
        finish_error(call, api_error_of(st));
        return;
    }
    call->state = snapshot;
    loops_export(services->options.loops, &snapshot->export);
}
