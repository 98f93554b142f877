#include "server/state/response_header.h"

#include "base/assert.h"

static size_t put_field(uint8_t *p, uint8_t tag, uint64_t value)
{
    if (value == 0)
        return 0;
    *p = tag;
    return 1 + put_varint(p + 1, value);
}

/* At most 2 + 4 x 11 bytes, so its length is always one byte. */
size_t response_header_encode(const struct response_header *header,
                              uint8_t p[RESPONSE_HEADER_BYTES_MAX])
{
    size_t len = 2;
    len += put_field(p + len, 0x08, header->cluster_id);
    len += put_field(p + len, 0x10, header->member_id);
    len += put_field(p + len, 0x18, (uint64_t)header->revision);
    len += put_field(p + len, 0x20, header->raft_term);
    p[0] = 0x0a;
    p[1] = (uint8_t)(len - 2);
    ASSERT(len <= RESPONSE_HEADER_BYTES_MAX);
    return len;
}

void wire_put_header(struct wire_out *out, const struct response_header *header)
{
    uint8_t bytes[RESPONSE_HEADER_BYTES_MAX];
    size_t size = response_header_encode(header, bytes);
    uint8_t *p = wire_reserve(out, size);
    if (p != NULL)
        memcpy(p, bytes, size);
}

void wire_prepend_header(struct wire_out *out, const struct response_header *header)
{
    uint8_t bytes[RESPONSE_HEADER_BYTES_MAX];
    size_t size = response_header_encode(header, bytes);
    ASSERT(out->gap >= size);
    if (wire_reserve(out, 0) == NULL)
        return;
    out->gap -= size;
    memcpy(out->data + out->gap, bytes, size);
}
