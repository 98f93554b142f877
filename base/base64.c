#include "base/base64.h"

static const char standard[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char for_urls[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

size_t base64_encoded_size(enum base64_kind kind, size_t size)
{
    size_t rest = size % 3;
    if (kind == BASE64_STANDARD)
        return (size / 3 + (rest > 0)) * 4;
    return size / 3 * 4 + (rest > 0 ? rest + 1 : 0);
}

size_t base64_decoded_size_max(size_t len)
{
    return len / 4 * 3 + 3;
}

void base64_encode(enum base64_kind kind, struct slice bytes, uint8_t *out)
{
    const char *letters = kind == BASE64_STANDARD ? standard : for_urls;
    size_t i = 0;
    for (; bytes.len - i >= 3; i += 3) {
        uint32_t bits =
            (uint32_t)bytes.data[i] << 16 | (uint32_t)bytes.data[i + 1] << 8 | bytes.data[i + 2];
        *out++ = (uint8_t)letters[bits >> 18];
        *out++ = (uint8_t)letters[bits >> 12 & 63];
        *out++ = (uint8_t)letters[bits >> 6 & 63];
        *out++ = (uint8_t)letters[bits & 63];
    }
    size_t left = bytes.len - i;
    if (left == 0)
        return;
    uint32_t bits = (uint32_t)bytes.data[i] << 16;
    if (left == 2)
        bits |= (uint32_t)bytes.data[i + 1] << 8;
    for (size_t j = 0; j <= left; j++)
        *out++ = (uint8_t)letters[bits >> (18 - 6 * j) & 63];
    for (size_t j = left; kind == BASE64_STANDARD && j < 3; j++)
        *out++ = '=';
}

static int value_of(enum base64_kind kind, uint8_t letter)
{
    if (letter >= 'A' && letter <= 'Z')
        return letter - 'A';
    if (letter >= 'a' && letter <= 'z')
        return letter - 'a' + 26;
    if (letter >= '0' && letter <= '9')
        return letter - '0' + 52;
    if (letter == (kind == BASE64_STANDARD ? '+' : '-'))
        return 62;
    return letter == (kind == BASE64_STANDARD ? '/' : '_') ? 63 : -1;
}

/* Takes the padding off the end; false where it is not what the length asks for. */
static bool take_padding(struct slice *text)
{
    if (text->len % 4 != 0)
        return false;
    for (uint32_t i = 0; i < 2 && text->len > 0 && text->data[text->len - 1] == '='; i++)
        text->len--;
    return true;
}

enum status base64_decode(enum base64_kind kind, struct slice text, uint8_t *out, size_t *size_out)
{
    if (kind == BASE64_STANDARD && !take_padding(&text))
        return ST_INVALID;
    if (text.len % 4 == 1)
        return ST_INVALID;
    uint32_t bits = 0, count = 0;
    size_t size = 0;
    for (size_t i = 0; i < text.len; i++) {
        int value = value_of(kind, text.data[i]);
        if (value < 0)
            return ST_INVALID;
        bits = bits << 6 | (uint32_t)value;
        count += 6;
        if (count >= 8) {
            count -= 8;
            out[size++] = (uint8_t)(bits >> count);
        }
    }
    *size_out = size;
    return ST_OK;
}
