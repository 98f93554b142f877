/* base/wire.h - protobuf's wire format, where generated code will not do: messages are read
 * in place (texts and bytes are borrowed from the message, nothing is allocated, unknown fields are
 * passed over), answers are written straight into the arena they are sent from.
 *
 * The reader refuses at least what etcd's generated decoders refuse (wrong wire type of a known
 * field, over-long varint, field number 0, end of group, bytes past the end) and groups: so what is
 * accepted here may be put into the log as it came. */
#ifndef BASE_WIRE_H
#define BASE_WIRE_H
#include "base/arena.h"
#include "base/bytes.h"
#include "base/slice.h"
#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

/* ---- reading ---- */

enum wire_type { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

struct wire_field {
    uint32_t number;
    enum wire_type type;
    uint64_t value;     /* WIRE_VARINT */
    struct slice bytes; /* WIRE_BYTES; borrowed from the message */
};

/* Takes one field off the front of *in, which must not be empty. Errors: ST_INVALID. */
CHECKED enum status wire_next(struct slice *in, struct wire_field *out);

/* How fields 1 to slots_count of a flat message lie in a struct; WIRE_SLOT_SKIP: not wanted. */
enum wire_slot_kind {
    WIRE_SLOT_SKIP,
    WIRE_SLOT_BYTES, /* struct slice */
    WIRE_SLOT_INT64, /* int64_t or uint64_t */
    WIRE_SLOT_ENUM,  /* int32_t: the low 32 bits, as Go decodes it */
    WIRE_SLOT_BOOL,
};
struct wire_slot {
    enum wire_slot_kind kind;
    uint16_t offset;
};
/* Puts one field where slots say; a number beyond them is passed over. Errors: ST_INVALID. */
CHECKED enum status wire_store(const struct wire_field *field, const struct wire_slot *slots,
                               uint32_t slots_count, void *out);
/* Decodes a whole flat message into *out, which the caller has zeroed. Errors: ST_INVALID. */
CHECKED enum status wire_decode(struct slice in, const struct wire_slot *slots,
                                uint32_t slots_count, void *out);

/* ---- writing ---- */

/* A message growing in an arena. A failure (the arena's cap) sticks: later writes are dropped and
 * wire_out_finish() tells. */
struct wire_out {
    struct arena *arena;
    uint8_t *data;
    size_t gap; /* unused bytes in front of the message, for what is known last */
    size_t len; /* bytes used of data, the gap included */
    size_t capacity;
    bool failed; /* also set from the start where nobody wants the message */
};

void wire_out_init(struct wire_out *out, struct arena *arena, size_t gap);
/* Room for size more bytes; NULL when failed. */
uint8_t *wire_reserve(struct wire_out *out, size_t size);
/* Fields below 16 only: one byte of tag. Zero values are left out, as proto3 has it. */
void wire_put_varint(struct wire_out *out, uint32_t number, uint64_t value);
void wire_put_bytes(struct wire_out *out, uint32_t number, struct slice bytes); /* empty too */
/* A message within the message: what is written between open and close is its body. */
size_t wire_open(struct wire_out *out, uint32_t number);
void wire_close(struct wire_out *out, size_t mark);
/* Puts encoded fields in front of what was written from mark on (their numbers are lower, but they
 * are known last). */
void wire_insert(struct wire_out *out, size_t mark, struct slice fields);
/* The message; borrowed from the arena. Errors: ST_TOO_BIG. */
CHECKED enum status wire_out_finish(const struct wire_out *out, struct slice *message_out);
#endif
