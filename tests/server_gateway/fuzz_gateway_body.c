/* Bodies of requests to the JSON gateway. The first byte chooses the message, of every kind that a
 * method takes or gives. What is decoded must be a message to protobuf-c, too, and encoded again it
 * must decode to the same. With the highest bit set the bytes are a message to be encoded. */
#include "base/assert.h"
#include "server/gateway/decode.h"
#include "server/gateway/encode.h"
#include "server/gateway/routes.h"

#define ROUTES_MAX 64U

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const ProtobufCMessageDescriptor *choose(uint8_t byte)
{
    static struct route routes[ROUTES_MAX];
    static uint32_t count;
    if (count == 0) {
        count = routes_fill(NULL);
        ASSERT(count <= ROUTES_MAX && count * 2 <= 128);
        routes_fill(routes);
    }
    const ProtobufCMethodDescriptor *method = routes[byte % 128 / 2 % count].messages;
    return byte % 2 == 0 ? method->input : method->output;
}

static bool decode(struct slice text, const ProtobufCMessageDescriptor *descriptor, struct buf *out)
{
    struct json_error error;
    struct slice value;
    size_t used;
    enum status st = json_scan_next(text, &value, &used, &error);
    if (st == ST_OK)
        st = gateway_decode(value, descriptor, out, &error);
    ASSERT(st == ST_OK || st == ST_NOT_FOUND || st == ST_INVALID);
    ASSERT(st != ST_INVALID || error.text[0] != '\0');
    return st == ST_OK;
}

/* Decoded bytes are what protobuf-c takes, and come back from their own JSON. */
static void check_message(struct slice wire, const ProtobufCMessageDescriptor *descriptor)
{
    ProtobufCMessage *message = protobuf_c_message_unpack(descriptor, NULL, wire.len, wire.data);
    ASSERT(message != NULL);
    protobuf_c_message_free_unpacked(message, NULL);
    struct buf json, again;
    buf_init(&json, SIZE_MAX);
    buf_init(&again, SIZE_MAX);
    ASSERT(gateway_encode(wire, descriptor, &json) == ST_OK);
    ASSERT(decode(buf_slice(&json), descriptor, &again));
    ASSERT(slice_eq(wire, buf_slice(&again)));
    buf_deinit(&json);
    buf_deinit(&again);
}

/* Whatever can be encoded can be decoded. */
static void check_encoding(struct slice wire, const ProtobufCMessageDescriptor *descriptor)
{
    struct buf json, again;
    buf_init(&json, SIZE_MAX);
    buf_init(&again, SIZE_MAX);
    enum status st = gateway_encode(wire, descriptor, &json);
    ASSERT(st == ST_OK || st == ST_INVALID);
    if (st == ST_OK)
        ASSERT(decode(buf_slice(&json), descriptor, &again));
    buf_deinit(&json);
    buf_deinit(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    const ProtobufCMessageDescriptor *descriptor = choose(data[0]);
    struct slice in = slice_make(data + 1, size - 1);
    if (data[0] >= 128) {
        check_encoding(in, descriptor);
        return 0;
    }
    struct buf wire;
    buf_init(&wire, SIZE_MAX);
    if (decode(in, descriptor, &wire))
        check_message(buf_slice(&wire), descriptor);
    buf_deinit(&wire);
    return 0;
}
