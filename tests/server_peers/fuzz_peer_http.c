/* The HTTP that members speak, on foreign bytes. The first byte chooses request or answer, the
 * second where the bytes are cut: a head must be found in whole or not at all, and a body taken in
 * two runs must be the one that is taken at once. */
#include "base/assert.h"
#include "server/peers/http1.h"
#include "server/peers/window.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum status take(struct http1_body *body, struct slice in, struct window *content)
{
    while (in.len > 0 && !body->ended) {
        struct slice piece;
        enum status st = http1_body_take(body, &in, &piece);
        if (st != ST_OK)
            return st;
        ASSERT(window_append(content, piece) == ST_OK);
    }
    return ST_OK;
}

static void check_body(const struct http1_head *head, bool is_answer, struct slice in, size_t cut)
{
    struct http1_body once, twice;
    if (http1_body_init(&once, head, is_answer) != ST_OK)
        return;
    twice = once;
    struct window whole = {0}, parts = {0};
    enum status st = take(&once, in, &whole);
    enum status again = take(&twice, slice_make(in.data, cut), &parts);
    if (again == ST_OK)
        again = take(&twice, slice_make(in.data + cut, in.len - cut), &parts);
    ASSERT(st == again && once.ended == twice.ended);
    ASSERT(slice_eq(window_slice(&whole), window_slice(&parts)));
    window_deinit(&whole);
    window_deinit(&parts);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    bool is_answer = data[0] % 2 == 1;
    struct slice in = slice_make(data + 2, size - 2);
    struct http1_head head;
    enum status st = is_answer ? http1_parse_answer(in, &head) : http1_parse_request(in, &head);
    if (st != ST_OK)
        return 0;
    ASSERT(head.size <= in.len && head.fields_count <= HEAD_FIELDS_MAX);
    (void)http1_keeps_alive(&head);
    struct slice rest = slice_make(in.data + head.size, in.len - head.size);
    check_body(&head, is_answer, rest, rest.len * data[1] / 256);
    return 0;
}
