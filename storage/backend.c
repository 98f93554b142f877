#include "storage/backend.h"

#include "base/assert.h"
#include "base/bytes.h"
#include "base/hash.h"
#include "storage/backend_private.h"
#include "storage/revision.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdarg.h>
#include <unistd.h>

#define REPORT_LINE_BYTES_MAX 512U
#define PATH_BYTES_MAX 4096U

_Static_assert(LONG_KEY_HEAD_BYTES + 16 == LONG_KEY_BYTES_MIN, "head and hash");

static const uint8_t header_magic[8] = {'c', 'l', 'e', 'a', 't', ' ', 's', 't'};

const char *backend_bucket_name(enum bucket bucket)
{
    ASSERT(bucket < BUCKETS_COUNT);
    switch (bucket) {
    case BUCKET_ALARM:
        return "alarm";
    case BUCKET_AUTH:
        return "auth";
    case BUCKET_AUTH_ROLES:
        return "authRoles";
    case BUCKET_AUTH_USERS:
        return "authUsers";
    case BUCKET_CLUSTER:
        return "cluster";
    case BUCKET_KEY:
        return "key";
    case BUCKET_LEASE:
        return "lease";
    case BUCKET_MEMBERS:
        return "members";
    case BUCKET_MEMBERS_REMOVED:
        return "members_removed";
    case BUCKET_META:
        return "meta";
    case BUCKETS_COUNT:
        break;
    }
    return NULL; /* not reached */
}

void value_seal(struct slice key, struct slice value, uint8_t *out)
{
    if (value.len > 0)
        memcpy(out, value.data, value.len);
    put_le64(out + value.len, hash64_pair(key, value));
}

enum status value_unseal(struct slice key, struct slice stored, struct slice *out)
{
    if (stored.len < CHECKSUM_BYTES)
        return ST_CORRUPT;
    struct slice value = slice_make(stored.data, stored.len - CHECKSUM_BYTES);
    if (get_le64(stored.data + value.len) != hash64_pair(key, value))
        return ST_CORRUPT;
    *out = value;
    return ST_OK;
}

void long_key_encode(struct slice key, uint8_t out[LONG_KEY_BYTES_MIN])
{
    ASSERT(key_is_long(key.len));
    struct hash128 hash = hash128_seeded(key, 0);
    memcpy(out, key.data, LONG_KEY_HEAD_BYTES);
    put_be64(out + LONG_KEY_HEAD_BYTES, hash.high);
    put_be64(out + LONG_KEY_HEAD_BYTES + 8, hash.low);
}

enum status long_value_decode(struct slice stored_key, struct slice payload, struct slice *key_out,
                              struct slice *value_out)
{
    if (stored_key.len != LONG_KEY_BYTES_MIN || payload.len < 4)
        return ST_CORRUPT;
    uint32_t key_bytes = get_le32(payload.data);
    if (!key_is_long(key_bytes) || key_bytes > BACKEND_KEY_BYTES_MAX || key_bytes > payload.len - 4)
        return ST_CORRUPT;
    struct slice key = slice_make(payload.data + 4, key_bytes);
    uint8_t expected[LONG_KEY_BYTES_MIN];
    long_key_encode(key, expected);
    if (memcmp(expected, stored_key.data, sizeof(expected)) != 0)
        return ST_CORRUPT;
    *key_out = key;
    *value_out = slice_make(payload.data + 4 + key_bytes, payload.len - 4 - key_bytes);
    return ST_OK;
}

enum status mark_encode(const struct store_mark *mark, struct buf *out)
{
    uint8_t head[MARK_BYTES_MIN];
    put_le64(head, mark->index);
    put_le64(head + 8, mark->term);
    enum status st = buf_append(out, slice_make(head, sizeof(head)));
    if (st != ST_OK)
        return st;
    return buf_append(out, mark->conf_state);
}

enum status mark_decode(struct slice payload, struct store_mark *out)
{
    if (payload.len < MARK_BYTES_MIN)
        return ST_CORRUPT;
    out->index = get_le64(payload.data);
    out->term = get_le64(payload.data + 8);
    out->conf_state = slice_make(payload.data + MARK_BYTES_MIN, payload.len - MARK_BYTES_MIN);
    return ST_OK;
}

void header_encode(uint64_t life_id, uint8_t out[HEADER_BYTES])
{
    memcpy(out, header_magic, sizeof(header_magic));
    put_le32(out + 8, STORE_FORMAT_VERSION);
    put_le64(out + 12, life_id);
}

enum status header_check(struct slice payload, uint64_t life_id)
{
    if (payload.len < 12 || memcmp(payload.data, header_magic, sizeof(header_magic)) != 0)
        return ST_CORRUPT;
    if (get_le32(payload.data + 8) != STORE_FORMAT_VERSION)
        return ST_UNSUPPORTED;
    if (payload.len != HEADER_BYTES)
        return ST_CORRUPT;
    return get_le64(payload.data + 12) == life_id ? ST_OK : ST_INVALID;
}

enum status header_recognise(struct slice payload, const struct backend_options *options)
{
    enum status st = header_check(payload, options->life_id);
    if (options->life_id_out == NULL || (st != ST_OK && st != ST_INVALID))
        return st;
    *options->life_id_out = get_le64(payload.data + 12);
    return ST_OK;
}

bool op_is_legal(const struct backend_op *op)
{
    ASSERT(op->bucket < BUCKETS_COUNT);
    if (op->key.len == 0 || op->key.len > BACKEND_KEY_BYTES_MAX)
        return false;
    if (op->bucket != BUCKET_KEY)
        return true;
    struct revision revision;
    bool tombstone;
    return revision_key_decode(op->key, &revision, &tombstone) == ST_OK;
}

enum status sync_parent(const char *path)
{
    char copy[PATH_BYTES_MAX];
    if (strlen(path) >= sizeof(copy))
        return ST_IO;
    memcpy(copy, path, strlen(path) + 1);
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return ST_IO;
    int failed = fsync(fd);
    close(fd);
    return failed == 0 ? ST_OK : ST_IO;
}

enum status remove_file(const char *path)
{
    return unlink(path) == 0 || errno == ENOENT ? ST_OK : ST_IO;
}

enum status status_from_errno(int error)
{
    switch (error) {
    case 0:
        return ST_OK;
    case ENOENT:
        return ST_NOT_FOUND;
    case ENOMEM:
        return ST_NO_MEMORY;
    case ENOSPC:
    case EDQUOT:
        return ST_NO_SPACE;
    case EAGAIN:
    case EBUSY:
        return ST_BUSY;
    default:
        return ST_IO;
    }
}

enum status open_fails(const struct backend_options *options, enum status st, const char *format,
                       ...)
{
    ASSERT(st != ST_OK);
    if (options->why == NULL)
        return st;
    char line[REPORT_LINE_BYTES_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    /* A sentence that finds no room is lost; the status is what counts. */
    enum status said = buf_printf(options->why, "store '%s': %s", options->path, line);
    (void)said;
    return st;
}

enum status header_verdict(const struct backend_options *options, enum status st)
{
    switch (st) {
    case ST_OK:
        return ST_OK;
    case ST_INVALID:
        return open_fails(options, st, "belongs to another data directory (its life id differs)");
    case ST_UNSUPPORTED:
        return open_fails(options, st, "was written by a later version");
    case ST_NOT_FOUND:
    case ST_CORRUPT:
        return open_fails(options, ST_CORRUPT, "has no valid header: foreign or damaged");
    default:
        return open_fails(options, st, "cannot be read: %s", status_str(st));
    }
}

void fault_add(struct fault_report *report, const char *format, ...)
{
    report->faults_count++;
    if (report->faults_count > REPORT_LINES_MAX)
        return;
    char line[REPORT_LINE_BYTES_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    enum status said = buf_printf(report->out, "%s\n", line);
    (void)said; /* a full report still counts */
}

enum status fault_result(struct fault_report *report)
{
    if (report->faults_count > REPORT_LINES_MAX) {
        enum status said = buf_printf(report->out, "and %llu more\n",
                                      (unsigned long long)report->faults_count - REPORT_LINES_MAX);
        (void)said;
    }
    return report->faults_count == 0 ? ST_OK : ST_CORRUPT;
}
