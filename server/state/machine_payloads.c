/* server/state/machine_payloads.c - entries that a member proposes for itself, in etcd's bytes. */
#include "base/bytes.h"
#include "base/wire.h"
#include "server/state/kv_request.h"
#include "server/state/machine.h"

#define FIELDS_BYTES_MAX (3 * (1 + VARINT_BYTES_MAX))

/* A message of varints: fields 1, 2, 3; a zero is left out. */
static struct slice encode(uint8_t bytes[FIELDS_BYTES_MAX], const uint64_t values[3])
{
    size_t size = 0;
    for (uint8_t i = 0; i < 3; i++) {
        if (values[i] == 0)
            continue;
        bytes[size++] = (uint8_t)((i + 1) << 3 | WIRE_VARINT);
        size += put_varint(bytes + size, values[i]);
    }
    return slice_make(bytes, size);
}

struct raft_payload *machine_alarm_payload(uint64_t id, enum alarm_action action, raft_id member,
                                           enum alarm_type type)
{
    uint8_t bytes[FIELDS_BYTES_MAX];
    const uint64_t values[3] = {(uint64_t)action, member, (uint64_t)type};
    return internal_request_payload(INTERNAL_ALARM, encode(bytes, values), id);
}

struct raft_payload *machine_compaction_payload(uint64_t id, int64_t revision)
{
    uint8_t bytes[FIELDS_BYTES_MAX];
    const uint64_t values[3] = {(uint64_t)revision};
    return internal_request_payload(INTERNAL_COMPACTION, encode(bytes, values), id);
}
