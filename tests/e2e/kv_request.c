#include "tests/e2e/kv_request.h"

#include "base/assert.h"
#include "base/bytes.h"

#define TXN_DEPTH_MAX 4U
#define KEY_LETTERS 5U /* keys are of up to three of them */

typedef Etcdserverpb__RangeRequest range_request;
typedef Etcdserverpb__PutRequest put_request;
typedef Etcdserverpb__DeleteRangeRequest delete_request;
typedef Etcdserverpb__TxnRequest txn_request;
typedef Etcdserverpb__RequestOp request_op;
typedef Etcdserverpb__Compare compare;

const char *kv_method_path(enum kv_method method)
{
    static const char *const paths[] = {"/etcdserverpb.KV/Range", "/etcdserverpb.KV/Put",
                                        "/etcdserverpb.KV/DeleteRange", "/etcdserverpb.KV/Txn",
                                        "/etcdserverpb.KV/Compact"};
    return paths[method];
}

const ProtobufCMessageDescriptor *kv_method_response(enum kv_method method)
{
    static const ProtobufCMessageDescriptor *const responses[] = {
        &etcdserverpb__range_response__descriptor, &etcdserverpb__put_response__descriptor,
        &etcdserverpb__delete_range_response__descriptor, &etcdserverpb__txn_response__descriptor,
        &etcdserverpb__compaction_response__descriptor};
    return responses[method];
}

void kv_generator_init(struct kv_generator *generator, uint64_t seed)
{
    *generator = (struct kv_generator){.revision = 1, .compact_revision = -1, .fresh = true};
    rng_seed(&generator->rng, seed);
}

/* ---- choices ---- */

static uint64_t below(struct kv_generator *g, uint64_t bound)
{
    return rng_below(&g->rng, bound);
}

static bool one_in(struct kv_generator *g, uint64_t n)
{
    return below(g, n) == 0;
}

static void *need(void *memory)
{
    ASSERT(memory != NULL); /* the arena's cap fits every request made here */
    return memory;
}

static ProtobufCBinaryData bytes_of(struct arena *arena, const void *data, size_t len)
{
    ProtobufCBinaryData out = {.len = len, .data = need(arena_alloc_raw(arena, len))};
    if (len > 0)
        memcpy(out.data, data, len);
    return out;
}

static ProtobufCBinaryData filled(struct kv_generator *g, struct arena *arena, size_t len)
{
    ProtobufCBinaryData out = {.len = len, .data = need(arena_alloc_raw(arena, len))};
    memset(out.data, (int)('A' + below(g, 26)), len);
    return out;
}

static ProtobufCBinaryData pick_key(struct kv_generator *g, struct arena *arena)
{
    switch (below(g, 40)) {
    case 0:
        return one_in(g, 3) ? (ProtobufCBinaryData){0} : bytes_of(arena, "\0", 1);
    case 1:
        return bytes_of(arena, "\xff\xff", 1 + below(g, 2));
    case 2:
        return filled(g, arena, 500 + below(g, 30)); /* around what some stores take as a key */
    case 3:
        return one_in(g, 8) ? filled(g, arena, 40000) : bytes_of(arena, "a\0b", 3);
    default: {
        uint8_t letters[3];
        size_t len = 1 + below(g, 3);
        for (size_t i = 0; i < len; i++)
            letters[i] = (uint8_t)('a' + below(g, KEY_LETTERS));
        return bytes_of(arena, letters, len);
    }
    }
}

static ProtobufCBinaryData pick_end(struct kv_generator *g, struct arena *arena,
                                    ProtobufCBinaryData key)
{
    switch (below(g, 8)) {
    case 0:
        return bytes_of(arena, "\0", 1);
    case 1:
    case 2:
        return pick_key(g, arena); /* above, below, or equal */
    case 3:
        if (key.len > 0 && key.data[key.len - 1] < 0xff) { /* the prefix's end */
            ProtobufCBinaryData end = bytes_of(arena, key.data, key.len);
            end.data[end.len - 1]++;
            return end;
        }
        return key;
    default:
        return (ProtobufCBinaryData){0};
    }
}

static int64_t pick_strange(struct kv_generator *g)
{
    static const int64_t strange[] = {INT64_MIN, INT64_MAX, -1, -2, -5, 1, INT32_MAX, 1LL << 40};
    return strange[below(g, sizeof(strange) / sizeof(strange[0]))];
}

/* A revision: most are readable, the rest lie just outside or far off. */
static int64_t pick_revision(struct kv_generator *g)
{
    switch (below(g, 20)) {
    case 0:
        return pick_strange(g);
    case 1:
    case 2:
        return g->revision - 1 + (int64_t)below(g, 4);
    case 3:
    case 4:
        return g->compact_revision - 2 + (int64_t)below(g, 5);
    case 5:
    case 6:
    case 7:
    case 8:
        return g->revision - (int64_t)below(g, (uint64_t)(g->revision - g->compact_revision) + 1);
    default:
        return 0;
    }
}

static int64_t pick_lease(struct kv_generator *g)
{
    if (g->fresh)
        return 77; /* there is no such lease: the put fails */
    return one_in(g, 25) ? pick_strange(g) : 0;
}

static ProtobufCBinaryData pick_value(struct kv_generator *g, struct arena *arena)
{
    if (one_in(g, 4000))
        return filled(g, arena, one_in(g, 2) ? 1700000 : 2200000); /* over the limits */
    if (one_in(g, 100))
        return filled(g, arena, below(g, 100000));
    char text[32];
    int len = snprintf(text, sizeof(text), "%llu", (unsigned long long)below(g, 30));
    return bytes_of(arena, text, one_in(g, 12) ? 0 : (size_t)len);
}

/* ---- operations ---- */

/* A put that keeps the value of a key which an open-ended delete of the same transaction has just
 * removed passes every check of etcd and then ends its process ("unexpected error during txn"). So
 * the two never meet in one request but in make_fatal_txn(). */

static range_request *make_range(struct kv_generator *g, struct arena *arena)
{
    range_request *range = need(ARENA_NEW(arena, range_request));
    etcdserverpb__range_request__init(range);
    range->key = pick_key(g, arena);
    range->range_end = pick_end(g, arena, range->key);
    if (one_in(g, 4)) { /* a wide one, to see the whole state */
        range->key = bytes_of(arena, "\0", 1);
        range->range_end = bytes_of(arena, "\0", 1);
    }
    range->revision = pick_revision(g);
    if (one_in(g, 3))
        range->limit = one_in(g, 12) ? pick_strange(g) : (int64_t)below(g, 12);
    if (one_in(g, 3)) {
        range->sort_order = (Etcdserverpb__RangeRequest__SortOrder)below(g, 3);
        range->sort_target = (Etcdserverpb__RangeRequest__SortTarget)below(g, 5);
        if (one_in(g, 30)) /* no such order: harmless to etcd */
            range->sort_order = (Etcdserverpb__RangeRequest__SortOrder)pick_strange(g);
    }
    if (one_in(g, 600) && !g->spare_subject) {
        g->stops_etcd = true;
        range->sort_target = (Etcdserverpb__RangeRequest__SortTarget)(one_in(g, 2) ? 5 : -1);
    }
    range->serializable = one_in(g, 3);
    range->keys_only = one_in(g, 8);
    range->count_only = one_in(g, 10);
    int64_t *filters[] = {&range->min_mod_revision, &range->max_mod_revision,
                          &range->min_create_revision, &range->max_create_revision};
    for (size_t i = 0; i < 4; i++)
        if (one_in(g, 10))
            *filters[i] = pick_revision(g);
    return range;
}

static put_request *make_put(struct kv_generator *g, struct arena *arena)
{
    put_request *put = need(ARENA_NEW(arena, put_request));
    etcdserverpb__put_request__init(put);
    put->key = pick_key(g, arena);
    put->value = pick_value(g, arena);
    put->lease = pick_lease(g);
    put->prev_kv = one_in(g, 3);
    put->ignore_value = one_in(g, 8);
    put->ignore_lease = one_in(g, 10);
    if (put->ignore_value && !one_in(g, 4))
        put->value.len = 0;
    if (put->ignore_lease && !g->fresh && !one_in(g, 4))
        put->lease = 0;
    if (g->has_open_delete)
        put->ignore_value = put->ignore_lease = false;
    g->has_keeping_put |= put->ignore_value || put->ignore_lease;
    return put;
}

static delete_request *make_delete(struct kv_generator *g, struct arena *arena)
{
    delete_request *delete = need(ARENA_NEW(arena, delete_request));
    etcdserverpb__delete_range_request__init(delete);
    delete->key = pick_key(g, arena);
    if (one_in(g, 3))
        delete->range_end = pick_end(g, arena, delete->key);
    bool is_open = delete->range_end.len == 1 && delete->range_end.data[0] == 0;
    if (is_open && (!one_in(g, 10) || g->has_keeping_put)) {
        delete->range_end.len = 0; /* deleting nearly everything is done seldom */
        is_open = false;
    }
    g->has_open_delete |= is_open;
    delete->prev_kv = one_in(g, 2);
    return delete;
}

static compare *make_compare(struct kv_generator *g, struct arena *arena)
{
    compare *c = need(ARENA_NEW(arena, compare));
    etcdserverpb__compare__init(c);
    c->key = pick_key(g, arena);
    if (one_in(g, 5))
        c->range_end = pick_end(g, arena, c->key);
    c->result = (Etcdserverpb__Compare__CompareResult)below(g, 4);
    c->target = (Etcdserverpb__Compare__CompareTarget)below(g, 5);
    uint64_t field = (uint64_t)c->target;
    if (one_in(g, 30))
        c->result = (Etcdserverpb__Compare__CompareResult)(one_in(g, 2) ? 4 : -1);
    if (one_in(g, 30))
        c->target = (Etcdserverpb__Compare__CompareTarget)(one_in(g, 2) ? 5 : -1);
    if (one_in(g, 15))
        field = below(g, 6); /* another field than the target's, or none */
    if (field == 5)
        return c;
    c->target_union_case =
        (Etcdserverpb__Compare__TargetUnionCase)(ETCDSERVERPB__COMPARE__TARGET_UNION_VERSION +
                                                 field);
    if (field == 3)
        c->value = pick_value(g, arena);
    else if (field == 0)
        c->version = (int64_t)below(g, 4);
    else if (field == 4)
        c->lease = one_in(g, 4) ? pick_strange(g) : 0;
    else
        c->mod_revision = one_in(g, 2) ? 0 : pick_revision(g);
    return c;
}

static txn_request *make_txn(struct kv_generator *g, struct arena *arena, uint32_t depth);

static request_op *make_op(struct kv_generator *g, struct arena *arena, uint32_t depth,
                           bool read_only)
{
    request_op *op = need(ARENA_NEW(arena, request_op));
    etcdserverpb__request_op__init(op);
    uint64_t choice = read_only ? 0 : below(g, 100);
    if (choice < 35) {
        op->request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_RANGE;
        op->request_range = make_range(g, arena);
        if (!one_in(g, 6)) /* a txn fails as a whole: keep most revisions good */
            op->request_range->revision = 0;
    } else if (choice < 70) {
        op->request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT;
        op->request_put = make_put(g, arena);
    } else if (choice < 84) {
        op->request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_DELETE_RANGE;
        op->request_delete_range = make_delete(g, arena);
    } else if (choice < 99 && depth < TXN_DEPTH_MAX) {
        op->request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_TXN;
        op->request_txn = make_txn(g, arena, depth + 1);
    }
    return op; /* else: an operation without content, which is refused */
}

static request_op **make_ops(struct kv_generator *g, struct arena *arena, size_t count,
                             uint32_t depth, bool read_only)
{
    request_op **ops = need(ARENA_ARRAY(arena, request_op *, count));
    for (size_t i = 0; i < count; i++)
        ops[i] = make_op(g, arena, depth, read_only);
    return ops;
}

static txn_request *make_txn(struct kv_generator *g, struct arena *arena, uint32_t depth)
{
    txn_request *txn = need(ARENA_NEW(arena, txn_request));
    etcdserverpb__txn_request__init(txn);
    bool read_only = one_in(g, 4), crowded = one_in(g, 300);
    txn->n_compare = one_in(g, 2) ? 0 : crowded ? 120 + below(g, 15) : below(g, 4);
    txn->n_success = crowded ? 120 + below(g, 15) : below(g, depth == 0 ? 5 : 4);
    txn->n_failure = below(g, 4);
    txn->compare = need(ARENA_ARRAY(arena, compare *, txn->n_compare));
    for (size_t i = 0; i < txn->n_compare; i++)
        txn->compare[i] = make_compare(g, arena);
    /* A crowded one keeps to small operations of one level. */
    txn->success = make_ops(g, arena, txn->n_success, crowded ? TXN_DEPTH_MAX : depth, read_only);
    txn->failure = make_ops(g, arena, txn->n_failure, depth, read_only);
    return txn;
}

/* Transactions one in the other, up to beyond the limit on operations. */
static txn_request *make_deep_txn(struct kv_generator *g, struct arena *arena)
{
    txn_request *txn = make_txn(g, arena, TXN_DEPTH_MAX);
    for (uint64_t depth = below(g, 140); depth > 0; depth--) {
        request_op *op = need(ARENA_NEW(arena, request_op));
        etcdserverpb__request_op__init(op);
        op->request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_TXN;
        op->request_txn = txn;
        txn = need(ARENA_NEW(arena, txn_request));
        etcdserverpb__txn_request__init(txn);
        txn->n_success = 1;
        txn->success = need(ARENA_ARRAY(arena, request_op *, 1));
        txn->success[0] = op;
    }
    return txn;
}

/* What ends etcd's process: whether the key exists or not, the answer is an error. */
static txn_request *make_fatal_txn(struct kv_generator *g, struct arena *arena)
{
    txn_request *txn = need(ARENA_NEW(arena, txn_request));
    etcdserverpb__txn_request__init(txn);
    txn->n_success = 2;
    txn->success = need(ARENA_ARRAY(arena, request_op *, 2));
    for (size_t i = 0; i < 2; i++) {
        txn->success[i] = need(ARENA_NEW(arena, request_op));
        etcdserverpb__request_op__init(txn->success[i]);
    }
    delete_request *delete = need(ARENA_NEW(arena, delete_request));
    etcdserverpb__delete_range_request__init(delete);
    delete->key = bytes_of(arena, "a", 1);
    delete->range_end = bytes_of(arena, "\0", 1);
    txn->success[0]->request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_DELETE_RANGE;
    txn->success[0]->request_delete_range = delete;
    put_request *put = need(ARENA_NEW(arena, put_request));
    etcdserverpb__put_request__init(put);
    put->key = bytes_of(arena, (uint8_t[]){(uint8_t)('a' + below(g, KEY_LETTERS))}, 1);
    put->ignore_value = one_in(g, 2);
    put->ignore_lease = !put->ignore_value;
    txn->success[1]->request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT;
    txn->success[1]->request_put = put;
    return txn;
}

static Etcdserverpb__CompactionRequest *make_compact(struct kv_generator *g, struct arena *arena)
{
    Etcdserverpb__CompactionRequest *compact =
        need(ARENA_NEW(arena, Etcdserverpb__CompactionRequest));
    etcdserverpb__compaction_request__init(compact);
    compact->physical = one_in(g, 4);
    int64_t kept = g->revision - g->compact_revision;
    if (one_in(g, 3) || kept <= 0)
        compact->revision = pick_revision(g);
    else /* leaves history to read */
        compact->revision = g->compact_revision + 1 + (int64_t)below(g, (uint64_t)kept / 2 + 1);
    return compact;
}

/* ---- bodies ---- */

/* What no encoder of ours makes: bodies cut short, and fields that are wrong or foreign. */
static struct slice mangle(struct kv_generator *g, struct arena *arena, struct slice body)
{
    static const struct {
        uint8_t bytes[12];
        size_t len;
    } tails[] = {
        {{0x0a, 0x7f, 'x'}, 3},        /* field 1, longer than what follows */
        {{0x0a}, 1},                   /* a tag alone */
        {{0x00, 0x01}, 2},             /* field number 0 */
        {{0x0e, 0x01}, 2},             /* wire type 6 */
        {{0x0f, 0x01}, 2},             /* wire type 7 */
        {{0xc0, 0x3e, 0x05}, 3},       /* a field of a later version, varint */
        {{0xc2, 0x3e, 0x02, 1, 2}, 5}, /* the same, bytes */
        {{0xc5, 0x3e, 1, 2, 3, 4}, 6}, /* the same, 32 bits */
        {{0xc1, 0x3e, 1, 2, 3, 4}, 6}, /* the same, 64 bits, cut */
        {{0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, 12},
        {{0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01}, 12},
    };
    const size_t tails_count = sizeof(tails) / sizeof(tails[0]);
    if (body.len > 0 && one_in(g, 2)) {
        body.len = below(g, body.len);
        return body;
    }
    size_t tail = below(g, tails_count);
    ProtobufCBinaryData out = bytes_of(arena, body.data, body.len + tails[tail].len);
    memcpy(out.data + body.len, tails[tail].bytes, tails[tail].len);
    return slice_make(out.data, out.len);
}

static enum kv_method pick_method(struct kv_generator *g)
{
    uint64_t choice = below(g, 1000);
    if (choice < 340)
        return KV_RANGE;
    if (choice < 620)
        return KV_PUT;
    if (choice < 700)
        return KV_DELETE_RANGE;
    return choice < 985 ? KV_TXN : KV_COMPACT;
}

static const ProtobufCMessage *make_message(struct kv_generator *g, struct arena *arena,
                                            enum kv_method method)
{
    switch (method) {
    case KV_RANGE:
        return &make_range(g, arena)->base;
    case KV_PUT:
        return &make_put(g, arena)->base;
    case KV_DELETE_RANGE:
        return &make_delete(g, arena)->base;
    case KV_TXN:
        if (one_in(g, 300) && !g->spare_subject) {
            g->stops_etcd = true;
            return &make_fatal_txn(g, arena)->base;
        }
        return one_in(g, 200) ? &make_deep_txn(g, arena)->base : &make_txn(g, arena, 0)->base;
    case KV_COMPACT:
        return &make_compact(g, arena)->base;
    case KV_METHODS_COUNT:
        break;
    }
    ASSERT(false);
    return NULL;
}

struct kv_request kv_request_next(struct kv_generator *generator, struct arena *arena)
{
    generator->stops_etcd = false;
    generator->has_open_delete = generator->has_keeping_put = false;
    struct kv_request request = {.method = pick_method(generator)};
    request.message = make_message(generator, arena, request.method);
    size_t len = protobuf_c_message_get_packed_size(request.message);
    /* Room behind the message for mangle() to copy from. */
    uint8_t *bytes = need(arena_alloc(arena, len + 16));
    protobuf_c_message_pack(request.message, bytes);
    request.body = slice_make(bytes, len);
    request.stops_etcd = generator->stops_etcd;
    if (!request.stops_etcd && one_in(generator, 50)) {
        request.mangled = true;
        request.body = mangle(generator, arena, request.body);
    }
    return request;
}
