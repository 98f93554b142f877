#include "base/bytes.h"

size_t varint_size(uint64_t value)
{
    size_t size = 1;
    while (value >= 0x80) {
        value >>= 7;
        size++;
    }
    return size;
}

size_t put_varint(uint8_t *p, uint64_t value)
{
    size_t size = 0;
    while (value >= 0x80) {
        p[size++] = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    p[size++] = (uint8_t)value;
    return size;
}

enum status take_varint(struct slice *in, uint64_t *out)
{
    uint64_t value = 0;
    for (size_t i = 0; i < VARINT_BYTES_MAX; i++) {
        if (i == in->len)
            return ST_TRUNCATED;
        uint8_t byte = in->data[i];
        if (i == VARINT_BYTES_MAX - 1 && byte > 1)
            return ST_INVALID;
        value |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (byte < 0x80) {
            *in = slice_make(in->data + i + 1, in->len - i - 1);
            *out = value;
            return ST_OK;
        }
    }
    return ST_INVALID;
}
