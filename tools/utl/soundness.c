#include "tools/utl/soundness.h"

#include "base/arena.h"
#include "base/bytes.h"
#include "base/lock.h"
#include "base/minmax.h"
#include "base/wire.h"
#include "server/state/members.h"
#include "storage/index.h"
#include "storage/mvcc.h"
#include "storage/store.h"
#include "tools/print/text.h"
#include "tools/utl/revisions.h"

#include <inttypes.h>
#include <stdlib.h>

#define WHY_BYTES_MAX 8192U
#define ARENA_BYTES_MAX (16U << 20)
#define KEY_SHOWN_BYTES 160U

/* A key for people: quoted, cut short. */
struct shown {
    char text[KEY_SHOWN_BYTES * 4 + 3];
};

static const char *show(struct slice key, struct shown *out)
{
    print_quoted_write(slice_make(key.data, min_size(key.len, KEY_SHOWN_BYTES)), out->text);
    return out->text;
}

/* ---- records, in the order of revisions ---- */

struct records {
    struct utl_check *check;
    int64_t compacted;
    struct revision last;
};

/* Above the compacted revision every change is still there: mains and subs have no gaps. */
static void check_follows(struct records *r, struct revision revision)
{
    if (revision.main <= r->compacted + 1 && r->last.main <= r->compacted) {
        if (revision.main > r->compacted && revision.sub != 0)
            utl_check_fault(r->check,
                            "revision %" PRId64 ".%" PRId64 " is there, its .0 is missing",
                            revision.main, revision.sub);
        return;
    }
    bool follows = (revision.main == r->last.main && revision.sub == r->last.sub + 1) ||
                   (revision.main == r->last.main + 1 && revision.sub == 0);
    if (!follows)
        utl_check_fault(r->check,
                        "between the revisions %" PRId64 ".%" PRId64 " and %" PRId64 ".%" PRId64
                        " something is missing",
                        r->last.main, r->last.sub, revision.main, revision.sub);
}

static enum status check_record(void *context, struct revision revision, bool tombstone,
                                struct slice record)
{
    struct records *r = context;
    struct mvcc_kv kv;
    r->check->count++;
    if (revision_cmp(r->last, revision) >= 0)
        utl_check_fault(r->check, "revision %" PRId64 ".%" PRId64 " is not above the one before",
                        revision.main, revision.sub);
    else
        check_follows(r, revision);
    r->last = revision;
    if (mvcc_kv_decode(record, &kv) != ST_OK)
        utl_check_fault(r->check,
                        "the record of revision %" PRId64 ".%" PRId64 " cannot be decoded",
                        revision.main, revision.sub);
    else if (!tombstone &&
             (kv.mod_revision != revision.main || kv.version < 1 || kv.create_revision < 1 ||
              kv.create_revision > revision.main || revision.main > INDEX_MAIN_MAX))
        utl_check_fault(
            r->check,
            "the record of revision %" PRId64 ".%" PRId64 " calls itself modified at %" PRId64
            ", created at %" PRId64 ", version %" PRId64,
            revision.main, revision.sub, kv.mod_revision, kv.create_revision, kv.version);
    return ST_OK;
}

static enum status read_compacted(struct utl_source *source, int64_t *out)
{
    static const char *const names[] = {"scheduledCompactRev", "finishedCompactRev"};
    struct arena arena;
    enum status st = ST_OK;
    *out = -1;
    arena_init(&arena, ARENA_BYTES_MAX);
    for (size_t i = 0; i < 2 && st == ST_OK; i++) {
        struct slice value;
        struct revision revision;
        bool tombstone;
        st = store_get(source->store, BUCKET_META, slice_from_str(names[i]), &arena, &value);
        if (st == ST_OK && revision_key_decode(value, &revision, &tombstone) == ST_OK)
            *out = max_i64(*out, revision.main);
        st = st == ST_NOT_FOUND ? ST_OK : st;
    }
    arena_deinit(&arena);
    return st;
}

/* A failure of reading is a fault of what was read, unless it is ours. */
static enum status end_check(struct utl_check *check, enum status st, const char *what)
{
    if (st == ST_OK || st == ST_NO_MEMORY || st == ST_NO_SPACE)
        return st;
    utl_check_fault(check, "%s: %s", what, status_str(st));
    return ST_OK;
}

static enum status check_records(struct utl_source *source, struct utl_report *report,
                                 int64_t compacted)
{
    struct records r = {.check = utl_report_add(report, "records"),
                        .compacted = max_i64(compacted, 1),
                        .last = {1, 0}};
    lock_acquire(source->lock);
    struct store_view *view = store_view_acquire(source->store, UTL_SOURCE_READER);
    lock_release(source->lock);
    enum status st = store_view_each(view, (struct revision){0, 0}, check_record, &r);
    store_view_release(view);
    return end_check(r.check, st, "the records cannot be read to their end");
}

/* ---- leases ---- */

struct leases {
    struct utl_check *check;
    int64_t *ids; /* owned; ascending as unsigned numbers, the order of their keys */
    size_t count, capacity;
};

static enum status note_lease(void *context, struct slice key, struct slice value)
{
    struct leases *l = context;
    uint64_t id = 0;
    bool sound = key.len == 8;
    l->check->count++;
    while (value.len > 0 && sound) {
        struct wire_field field;
        sound = wire_next(&value, &field) == ST_OK;
        if (sound && field.number == 1 && field.type == WIRE_VARINT)
            id = field.value;
    }
    if (!sound || id != get_be64(key.data)) {
        utl_check_fault(l->check, "record %" PRIu64 " of bucket 'lease' is no lease",
                        l->check->count);
        return ST_OK;
    }
    if (l->count == l->capacity) {
        size_t capacity = max_size(1024, l->capacity * 2);
        int64_t *grown = reallocarray(l->ids, capacity, sizeof(*grown));
        if (grown == NULL)
            return ST_NO_MEMORY;
        l->ids = grown;
        l->capacity = capacity;
    }
    l->ids[l->count++] = (int64_t)id;
    return ST_OK;
}

static bool has_lease(const struct leases *l, int64_t id)
{
    size_t low = 0, high = l->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if ((uint64_t)l->ids[middle] < (uint64_t)id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < l->count && l->ids[low] == id;
}

/* ---- histories, in the order of keys ---- */

struct histories {
    struct utl_check *check;
    struct leases *leases;
    int64_t compacted;
    struct buf key;
    struct utl_revision last; /* of that key */
    bool has_last;
};

/* The newest revision of a key was read: it is what clients see. */
static void check_newest(struct histories *h)
{
    struct shown key;
    if (h->has_last && !h->last.tombstone && h->last.lease != 0 &&
        !has_lease(h->leases, h->last.lease))
        utl_check_fault(h->leases->check,
                        "key %s is attached to lease %" PRIx64 ", which is not there",
                        show(buf_slice(&h->key), &key), (uint64_t)h->last.lease);
}

/* What came before it is missing only if it was compacted away. */
static bool may_be_first(const struct histories *h, const struct utl_revision *r)
{
    if (r->tombstone)
        return r->revision.main <= h->compacted;
    if (r->version == 1)
        return r->create_revision == r->revision.main;
    return r->create_revision <= h->compacted && r->create_revision < r->revision.main;
}

static bool follows(const struct utl_revision *last, const struct utl_revision *r)
{
    if (r->tombstone)
        return !last->tombstone;
    if (last->tombstone)
        return r->version == 1 && r->create_revision == r->revision.main;
    return r->version == last->version + 1 && r->create_revision == last->create_revision;
}

static enum status check_revision(struct histories *h, const struct utl_revision *r)
{
    bool is_same_key = h->has_last && slice_eq(r->key, buf_slice(&h->key));
    struct shown key;
    enum status st = ST_OK;
    if (!is_same_key) {
        check_newest(h);
        h->check->count++;
        buf_reset(&h->key);
        st = buf_append(&h->key, r->key);
    }
    if (!(is_same_key ? follows(&h->last, r) : may_be_first(h, r)))
        utl_check_fault(h->check,
                        "key %s: revision %" PRId64 ".%" PRId64 " (created at %" PRId64
                        ", version %" PRId64 "%s) does not go with what is before it",
                        show(r->key, &key), r->revision.main, r->revision.sub, r->create_revision,
                        r->version, r->tombstone ? ", a deletion" : "");
    h->last = *r;
    h->has_last = true;
    return st;
}

static enum status walk_histories(struct histories *h, struct utl_source *source)
{
    struct utl_revisions *revisions;
    struct buf why;
    buf_init(&why, WHY_BYTES_MAX);
    const struct utl_revisions_options options = {0};
    enum status st = utl_revisions_open(source, &options, &why, &revisions);
    if (st != ST_OK && why.len > 0)
        utl_check_fault(h->check, "%.*s", (int)why.len, (const char *)why.data);
    buf_deinit(&why);
    while (st == ST_OK) {
        struct utl_revision revision;
        st = utl_revisions_next(revisions, &revision);
        if (st == ST_OK)
            st = check_revision(h, &revision);
    }
    utl_revisions_close(revisions);
    if (st != ST_NOT_FOUND)
        return st;
    check_newest(h);
    return ST_OK;
}

static enum status check_histories(struct utl_source *source, struct utl_report *report,
                                   int64_t compacted)
{
    struct histories h = {.check = utl_report_add(report, "histories of keys"),
                          .compacted = compacted};
    struct leases leases = {.check = utl_report_add(report, "leases")};
    h.leases = &leases;
    buf_init(&h.key, UINT32_MAX);
    enum status st = store_each(source->store, BUCKET_LEASE, note_lease, &leases);
    st = end_check(leases.check, st, "the leases cannot be read");
    if (st == ST_OK)
        st = end_check(h.check, walk_histories(&h, source), "the keys cannot be read");
    buf_deinit(&h.key);
    free(leases.ids);
    return st;
}

/* ---- auth ---- */

struct auth {
    struct utl_source *source;
    struct utl_check *check;
    struct arena arena;
    bool enabled, root_is_root;
};

static enum status note_setting(void *context, struct slice key, struct slice value)
{
    struct auth *a = context;
    a->check->count++;
    if (slice_eq(key, SLICE("authEnabled")) && value.len != 1)
        utl_check_fault(a->check, "'authEnabled' has %zu bytes, not 1", value.len);
    else if (slice_eq(key, SLICE("authEnabled")))
        a->enabled = value.data[0] == 1;
    else if (slice_eq(key, SLICE("authRevision")) && value.len != 8)
        utl_check_fault(a->check, "'authRevision' has %zu bytes, not 8", value.len);
    return ST_OK;
}

/* A user or a role: field 1 is its name, which is also its key. */
static enum status
check_named(struct auth *a, const char *what, struct slice key, struct slice value,
            enum status (*each)(struct auth *, struct slice, const struct wire_field *))
{
    struct shown shown;
    struct slice name = SLICE_EMPTY;
    enum status st = ST_OK;
    a->check->count++;
    while (value.len > 0 && st == ST_OK) {
        struct wire_field field;
        if (wire_next(&value, &field) != ST_OK) {
            utl_check_fault(a->check, "%s %s cannot be decoded", what, show(key, &shown));
            return ST_OK;
        }
        if (field.number == 1 && field.type == WIRE_BYTES)
            name = field.bytes;
        st = each(a, key, &field);
    }
    if (st == ST_OK && !slice_eq(name, key))
        utl_check_fault(a->check, "%s %s has another name in it", what, show(key, &shown));
    return st;
}

static enum status check_users_field(struct auth *a, struct slice user,
                                     const struct wire_field *field)
{
    struct shown name, role;
    struct slice value;
    if (field->number != 3 || field->type != WIRE_BYTES)
        return ST_OK;
    a->root_is_root =
        a->root_is_root || (slice_eq(user, SLICE("root")) && slice_eq(field->bytes, SLICE("root")));
    enum status st = field->bytes.len == 0 ? ST_NOT_FOUND
                                           : store_get(a->source->store, BUCKET_AUTH_ROLES,
                                                       field->bytes, &a->arena, &value);
    arena_reset(&a->arena);
    if (st == ST_NOT_FOUND) {
        utl_check_fault(a->check, "user %s has the role %s, which is not there", show(user, &name),
                        show(field->bytes, &role));
        return ST_OK;
    }
    return st;
}

static enum status check_user(void *context, struct slice key, struct slice value)
{
    return check_named(context, "user", key, value, check_users_field);
}

static enum status check_roles_field(struct auth *a, struct slice role,
                                     const struct wire_field *field)
{
    struct shown shown;
    struct slice permission = field->bytes;
    if (field->number != 2 || field->type != WIRE_BYTES)
        return ST_OK;
    while (permission.len > 0) {
        struct wire_field part;
        if (wire_next(&permission, &part) == ST_OK)
            continue;
        utl_check_fault(a->check, "role %s has a permission that cannot be decoded",
                        show(role, &shown));
        break;
    }
    return ST_OK;
}

static enum status check_role(void *context, struct slice key, struct slice value)
{
    return check_named(context, "role", key, value, check_roles_field);
}

static enum status check_auth(struct utl_source *source, struct utl_report *report)
{
    struct auth a = {.source = source, .check = utl_report_add(report, "auth")};
    arena_init(&a.arena, ARENA_BYTES_MAX);
    enum status st = store_each(source->store, BUCKET_AUTH, note_setting, &a);
    if (st == ST_OK)
        st = store_each(source->store, BUCKET_AUTH_USERS, check_user, &a);
    if (st == ST_OK)
        st = store_each(source->store, BUCKET_AUTH_ROLES, check_role, &a);
    if (st == ST_OK && a.enabled && !a.root_is_root)
        utl_check_fault(a.check, "authentication is on, but there is no user root with role root");
    arena_deinit(&a.arena);
    return end_check(a.check, st, "users and roles cannot be read");
}

/* ---- members and meta ---- */

struct simple {
    struct utl_check *check;
    struct arena arena;
};

static enum status check_member(void *context, struct slice key, struct slice value)
{
    struct simple *s = context;
    struct member_row row;
    struct shown shown;
    char id[24];
    s->check->count++;
    arena_reset(&s->arena);
    enum status st = member_json_decode(value, &s->arena, &row);
    if (st == ST_NO_MEMORY)
        return st;
    snprintf(id, sizeof(id), "%016" PRIx64, st == ST_OK ? row.id : 0);
    const char *unpadded = id;
    while (*unpadded == '0' && unpadded[1] != '\0')
        unpadded++;
    if (st != ST_OK)
        utl_check_fault(s->check, "member %s cannot be decoded", show(key, &shown));
    else if (!slice_eq(key, slice_from_str(id)) && !slice_eq(key, slice_from_str(unpadded)))
        utl_check_fault(s->check, "member %s has another id in it: %s", show(key, &shown), id);
    return ST_OK;
}

static enum status check_meta(void *context, struct slice key, struct slice value)
{
    struct simple *s = context;
    struct shown shown;
    struct revision revision;
    bool tombstone;
    s->check->count++;
    bool is_revision =
        slice_eq(key, SLICE("scheduledCompactRev")) || slice_eq(key, SLICE("finishedCompactRev"));
    if (is_revision && (revision_key_decode(value, &revision, &tombstone) != ST_OK || tombstone))
        utl_check_fault(s->check, "%s is no revision", show(key, &shown));
    return ST_OK;
}

static enum status check_bucket(struct utl_source *source, struct utl_report *report,
                                const char *name, enum bucket bucket, store_each_fn fn)
{
    struct simple s = {.check = utl_report_add(report, name)};
    arena_init(&s.arena, ARENA_BYTES_MAX);
    enum status st = store_each(source->store, bucket, fn, &s);
    arena_deinit(&s.arena);
    return end_check(s.check, st, "the bucket cannot be read");
}

enum status utl_check_state(struct utl_source *source, struct utl_report *report)
{
    int64_t compacted = -1;
    enum status st = check_bucket(source, report, "meta", BUCKET_META, check_meta);
    if (st == ST_OK) {
        enum status read = read_compacted(source, &compacted);
        st = end_check(&report->checks[report->count - 1], read, "it cannot be read");
    }
    if (st == ST_OK)
        st = check_records(source, report, compacted);
    if (st == ST_OK)
        st = check_histories(source, report, compacted);
    if (st == ST_OK)
        st = check_auth(source, report);
    return st == ST_OK ? check_bucket(source, report, "members", BUCKET_MEMBERS, check_member) : st;
}
