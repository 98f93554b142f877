/* Entries are gone through backwards from the store's mark, beside the store's revisions backwards
 * from its newest. A plain put (no lease, nothing taken over from before) made a revision, with
 * that key and value, unless users or alarms may have refused it. Deletions, txns, revocations and
 * other puts may have changed nothing; what they may have made can also be another's. So all the
 * revisions are kept at which the store may have stood before an entry: none left means that store
 * and log do not go together. */
#include "tools/utl/agreement.h"

#include "base/arena.h"
#include "base/lock.h"
#include "base/minmax.h"
#include "server/state/kv_request.h"
#include "storage/mvcc.h"
#include "storage/store.h"
#include "tools/print/text.h"

#include <inttypes.h>
#include <stdlib.h>

#define ENTRIES_MAX 20000U /* the newest ones; they hold references to their payloads */
#define BYTES_MAX (128U << 20)
#define SET_MAX 256U /* beyond it nothing can be told any more */
#define SUBS_MAX 100000
#define ARENA_BYTES_MAX (256U << 20)
#define META_BYTES_MAX 4096U
#define KEY_SHOWN_BYTES 100U

struct agreement {
    struct utl_source *source;
    struct utl_check *check;
    struct store_view *view;
    struct raft_entry *entries; /* owned; the newest that fit */
    uint64_t count, bytes;
    bool is_strict;
    int64_t newest, compacted;
    int64_t set[SET_MAX]; /* where the store may have stood, descending */
    uint32_t set_count;
    struct arena arena;
};

/* ---- collecting ---- */

/* The older half, so that it costs each entry little. */
static void drop_oldest(struct agreement *a)
{
    uint64_t gone = a->count / 2 + 1;
    for (uint64_t i = 0; i < gone; i++) {
        a->bytes -= raft_payload_slice(a->entries[i].payload).len;
        raft_payload_unref(a->entries[i].payload);
    }
    a->count -= gone;
    memmove(a->entries, a->entries + gone, a->count * sizeof(*a->entries));
}

static enum status collect(void *context, const struct raft_entry *entry)
{
    struct agreement *a = context;
    struct slice data = raft_payload_slice(entry->payload);
    while (a->count > 0 && (a->count == ENTRIES_MAX || a->bytes + data.len > BYTES_MAX))
        drop_oldest(a);
    a->entries[a->count] = *entry;
    a->entries[a->count++].payload = raft_payload_ref(entry->payload);
    a->bytes += data.len;
    return ST_OK;
}

static enum status note_newest(void *context, struct revision revision, bool tombstone,
                               struct slice record)
{
    struct agreement *a = context;
    (void)tombstone, (void)record;
    a->newest = max_i64(a->newest, revision.main);
    return ST_OK;
}

static enum status note_any(void *context, struct slice key, struct slice value)
{
    bool *is_strict = context;
    (void)key, (void)value;
    *is_strict = false;
    return ST_OK;
}

static enum status read_compacted(struct agreement *a)
{
    static const char *const names[] = {"scheduledCompactRev", "finishedCompactRev"};
    enum status st = ST_OK;
    for (size_t i = 0; i < 2 && st == ST_OK; i++) {
        struct slice value;
        struct revision revision;
        bool tombstone;
        st = store_get(a->source->store, BUCKET_META, slice_from_str(names[i]), &a->arena, &value);
        if (st == ST_OK && revision_key_decode(value, &revision, &tombstone) == ST_OK)
            a->compacted = max_i64(a->compacted, revision.main);
        st = st == ST_NOT_FOUND ? ST_OK : st;
    }
    return st;
}

static enum status prepare(struct agreement *a)
{
    struct utl_source *s = a->source;
    struct slice enabled;
    lock_acquire(s->lock);
    a->view = store_view_acquire(s->store, UTL_SOURCE_READER);
    lock_release(s->lock);
    enum status st = store_view_each(a->view, (struct revision){0, 0}, note_newest, a);
    if (st == ST_OK)
        st = read_compacted(a);
    a->is_strict = true;
    if (st == ST_OK)
        st = store_each(s->store, BUCKET_ALARM, note_any, &a->is_strict);
    if (st == ST_OK &&
        store_get(s->store, BUCKET_AUTH, SLICE("authEnabled"), &a->arena, &enabled) == ST_OK)
        a->is_strict = a->is_strict && enabled.len == 1 && enabled.data[0] == 0;
    a->entries = calloc(ENTRIES_MAX, sizeof(*a->entries));
    if (a->entries == NULL)
        return ST_NO_MEMORY;
    return st == ST_OK ? utl_source_entries(s, 1, s->mark.index, collect, a) : st;
}

/* ---- a revision of the store ---- */

/* False: there is no such record. A deletion's has a key alone. */
static bool read_record(struct agreement *a, int64_t main, int64_t sub, struct mvcc_kv *out,
                        enum status *st)
{
    bool is_stable;
    struct slice record;
    *st = store_view_get(a->view, (struct revision){main, sub}, &record, &is_stable);
    if (*st == ST_OK)
        *st = mvcc_kv_decode(record, out);
    bool found = *st == ST_OK;
    *st = *st == ST_NOT_FOUND ? ST_OK : *st;
    return found;
}

static bool is_deletion(const struct mvcc_kv *kv)
{
    return kv->version == 0;
}

static bool is_in(struct slice key, struct slice from, struct slice end)
{
    if (end.len == 0)
        return slice_eq(key, from);
    bool is_open = end.len == 1 && end.data[0] == 0;
    return slice_cmp(key, from) >= 0 && (is_open || slice_cmp(key, end) < 0);
}

static bool is_put_of(const struct kv_put *put, const struct mvcc_kv *kv)
{
    return !is_deletion(kv) && slice_eq(kv->key, put->key) &&
           (put->ignore_value || slice_eq(kv->value, put->value)) &&
           (put->ignore_lease || kv->lease == put->lease);
}

static bool ops_explain(const struct kv_ops *ops, const struct mvcc_kv *kv)
{
    for (uint32_t i = 0; i < ops->count; i++) {
        const struct kv_op *op = &ops->items[i];
        if ((op->kind == KV_OP_PUT && is_put_of(op->put, kv)) ||
            (op->kind == KV_OP_DELETE && is_deletion(kv) &&
             is_in(kv->key, op->del->key, op->del->range_end)) ||
            op->kind == KV_OP_TXN)
            return true;
    }
    return false;
}

/* What one entry may make of a record. */
struct maker_of {
    const struct kv_put *put;
    const struct kv_delete *del;
    const struct kv_txn *txn; /* none of them: a revocation, which deletes whatever was attached */
};

static bool may_make(const struct maker_of *maker, const struct mvcc_kv *kv)
{
    if (maker->put != NULL)
        return is_put_of(maker->put, kv);
    if (maker->del != NULL)
        return is_deletion(kv) && is_in(kv->key, maker->del->key, maker->del->range_end);
    if (maker->txn != NULL)
        return ops_explain(&maker->txn->success, kv) || ops_explain(&maker->txn->failure, kv);
    return is_deletion(kv);
}

/* Whether every record of a revision may be the entry's. */
static enum status explains(struct agreement *a, const struct maker_of *maker, int64_t main,
                            bool *out)
{
    enum status st = ST_OK;
    struct mvcc_kv kv;
    int64_t sub = 0;
    *out = true;
    for (; *out && sub < SUBS_MAX && read_record(a, main, sub, &kv, &st); sub++)
        *out = may_make(maker, &kv);
    *out = *out && sub > 0 && st == ST_OK;
    return st;
}

static void add_to(int64_t *set, uint32_t *count, int64_t revision)
{
    if (*count < SET_MAX && (*count == 0 || set[*count - 1] > revision))
        set[(*count)++] = revision;
}

/* From where the store may stand after an entry to where it may have stood before. */
static enum status step(struct agreement *a, const struct maker_of *maker, bool must_make)
{
    int64_t next[SET_MAX] = {0};
    uint32_t count = 0;
    enum status st = ST_OK;
    for (uint32_t i = 0; i < a->set_count && st == ST_OK; i++) {
        bool made;
        if (!must_make)
            add_to(next, &count, a->set[i]);
        st = explains(a, maker, a->set[i], &made);
        if (made)
            add_to(next, &count, a->set[i] - 1);
    }
    if (st != ST_OK)
        return st;
    a->set_count = count;
    memcpy(a->set, next, count * sizeof(next[0]));
    a->check->count++;
    return ST_OK;
}

static enum status take_put(struct agreement *a, const struct kv_put *put, raft_index index)
{
    const struct maker_of maker = {.put = put};
    bool may_have_failed = put->lease != 0 || put->ignore_value || put->ignore_lease;
    int64_t newest = a->set[0], oldest = a->set[a->set_count - 1];
    enum status st = step(a, &maker, /* must_make= */ a->is_strict && !may_have_failed);
    if (st != ST_OK || a->set_count > 0)
        return st;
    char key[KEY_SHOWN_BYTES * 4 + 3];
    print_quoted_write(slice_make(put->key.data, min_size(put->key.len, KEY_SHOWN_BYTES)), key);
    utl_check_fault(a->check,
                    "entry %" PRIu64 " of the log puts %s, but revision %" PRId64
                    " of the store, which it made (or one down to %" PRId64
                    "), holds something else",
                    index, key, newest, oldest);
    return ST_EXISTS; /* from here on nothing goes together */
}

/* ---- the walk ---- */

static enum status take_request(struct agreement *a, const struct internal_request *request,
                                raft_index index)
{
    struct kv_put put;
    struct kv_delete del;
    struct kv_txn txn;
    struct maker_of maker = {0};
    switch (request->field) {
    case INTERNAL_PUT:
        return kv_put_decode(request->body, &put) == ST_OK ? take_put(a, &put, index) : ST_OK;
    case INTERNAL_DELETE_RANGE:
        maker.del = &del;
        return kv_delete_decode(request->body, &del) == ST_OK
                   ? step(a, &maker, /* must_make= */ false)
                   : ST_OK;
    case INTERNAL_TXN: {
        arena_reset(&a->arena);
        enum status st = kv_txn_decode(request->body, UINT32_MAX, &a->arena, &txn);
        maker.txn = &txn;
        return st == ST_OK ? step(a, &maker, /* must_make= */ false) : ST_EXISTS;
    }
    case INTERNAL_LEASE_REVOKE:
        return step(a, &maker, /* must_make= */ false);
    default:
        return ST_OK;
    }
}

/* Users and alarms that came and went may have refused what stands in the log. */
static bool is_of_users_or_alarms(uint32_t field)
{
    return field == INTERNAL_ALARM || (field >= 1000 && field < 1300);
}

/* Below the compacted revision records are gone. */
static bool can_go_on(const struct agreement *a)
{
    return a->set_count > 0 && a->set_count < SET_MAX && a->set[a->set_count - 1] > a->compacted;
}

static enum status walk(struct agreement *a)
{
    struct internal_request request;
    for (uint64_t i = 0; i < a->count; i++) {
        if (a->entries[i].type == RAFT_ENTRY_NORMAL &&
            internal_request_decode(raft_payload_slice(a->entries[i].payload), &request) == ST_OK &&
            is_of_users_or_alarms(request.field))
            a->is_strict = false;
    }
    enum status st = ST_OK;
    add_to(a->set, &a->set_count, a->newest);
    for (uint64_t i = a->count; i-- > 0 && st == ST_OK && can_go_on(a);) {
        const struct raft_entry *entry = &a->entries[i];
        struct slice data = raft_payload_slice(entry->payload);
        if (entry->type == RAFT_ENTRY_NORMAL && data.len > 0 &&
            internal_request_decode(data, &request) == ST_OK && !request.is_legacy)
            st = take_request(a, &request, entry->index);
    }
    return st == ST_EXISTS ? ST_OK : st;
}

enum status utl_check_agreement(struct utl_source *source, struct utl_report *report)
{
    struct agreement a = {.source = source,
                          .check = utl_report_add(report, "the store against the log"),
                          .compacted = 1};
    arena_init(&a.arena, ARENA_BYTES_MAX);
    enum status st = prepare(&a);
    if (st == ST_OK)
        st = walk(&a);
    if (st == ST_OK && a.check->count > 0 && a.set_count > 0)
        utl_check_remark(a.check,
                         "%s revisions above %" PRId64 ", up to %" PRId64
                         ", are those of these entries",
                         a.is_strict ? "the" : "as far as can be told, the", a.set[0], a.newest);
    if (a.check->count == 0 && a.check->faults == 0)
        a.check->skipped = true;
    if (a.check->skipped)
        utl_check_remark(a.check, "no revision of the store was made by an entry that the log has");
    if (st != ST_OK && st != ST_NO_MEMORY)
        utl_check_fault(a.check, "it cannot be read: %s", status_str(st));
    for (uint64_t i = 0; i < a.count; i++)
        raft_payload_unref(a.entries[i].payload);
    if (a.view != NULL)
        store_view_release(a.view);
    free(a.entries);
    arena_deinit(&a.arena);
    return st == ST_NO_MEMORY ? st : ST_OK;
}
