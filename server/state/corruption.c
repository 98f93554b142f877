#include "server/state/corruption.h"

#include "base/assert.h"
#include "server/state/json_reader.h"

#include <inttypes.h>

/* ---- judging ---- */

static void accuse(struct corruption *out, raft_id member, const char *why)
{
    for (uint32_t i = 0; i < out->odd_count; i++) {
        if (out->odd[i] == member)
            return;
    }
    ASSERT(out->odd_count <= MEMBERS_MAX);
    out->odd[out->odd_count++] = member;
    if (out->why == NULL)
        out->why = why;
}

static bool is_comparable(const struct hash_answer *a, const struct hash_answer *b)
{
    return b->error == API_OK && a->compact_revision == b->compact_revision;
}

/* The hash that more than half of all members have; false: there is none. */
static bool majority_hash(const struct hash_answer *own, const struct hash_answer *others,
                          uint32_t count, uint32_t *hash_out)
{
    for (uint32_t i = 0; i <= count; i++) {
        const struct hash_answer *candidate = i == count ? own : &others[i];
        if (!is_comparable(own, candidate))
            continue;
        uint32_t votes = own->hash == candidate->hash;
        for (uint32_t j = 0; j < count; j++)
            votes += is_comparable(own, &others[j]) && others[j].hash == candidate->hash;
        *hash_out = candidate->hash;
        if (votes > (count + 1) / 2)
            return true;
    }
    return false;
}

/* Compares answers of one revision. Where most members agree, the others are odd; where they do
 * not, nobody can say who is. */
static void compare(const struct hash_answer *own, const struct hash_answer *others, uint32_t count,
                    struct corruption *out)
{
    static const char why[] = "members have different hashes of the same revision";
    uint32_t common = 0;
    bool differs = false;
    for (uint32_t i = 0; i < count; i++)
        differs = differs || (is_comparable(own, &others[i]) && others[i].hash != own->hash);
    if (!differs)
        return;
    if (!majority_hash(own, others, count, &common)) {
        accuse(out, 0, why);
        return;
    }
    if (own->hash != common)
        accuse(out, own->member, why);
    for (uint32_t i = 0; i < count; i++) {
        if (is_comparable(own, &others[i]) && others[i].hash != common)
            accuse(out, others[i].member, why);
    }
}

static void count_compared(const struct hash_answer *own, const struct hash_answer *others,
                           uint32_t count, struct corruption *out)
{
    for (uint32_t i = 0; i < count; i++)
        out->compared_count += is_comparable(own, &others[i]);
}

/* ---- checks ---- */

enum api_error corruption_check_initial(const struct corruption_source *source,
                                        struct corruption *out)
{
    struct hash_answer own = {0}, others[MEMBERS_MAX];
    *out = (struct corruption){0};
    enum api_error error = source->own(source->context, 0, &own);
    if (error != API_OK)
        return error;
    uint32_t count = source->others(source->context, own.current_revision, others);
    count_compared(&own, others, count, out);
    compare(&own, others, count, out);
    return API_OK;
}

/* Nobody is ahead of the leader once it has caught up with what was committed. */
static void check_ahead(const struct hash_answer *now, const struct hash_answer *other,
                        struct corruption *out)
{
    if (other->error != API_OK)
        return;
    if (other->current_revision > now->current_revision)
        accuse(out, other->member, "a follower has a higher revision than the leader");
    if (other->compact_revision > now->compact_revision)
        accuse(out, other->member, "a follower has compacted further than the leader");
}

enum api_error corruption_check_periodic(const struct corruption_source *source,
                                         struct corruption *out)
{
    struct hash_answer own = {0}, now = {0}, others[MEMBERS_MAX];
    *out = (struct corruption){0};
    enum api_error error = source->own(source->context, 0, &own);
    if (error != API_OK)
        return error;
    uint32_t count = source->others(source->context, own.current_revision, others);
    error = source->catch_up(source->context);
    if (error == API_OK)
        error = source->own(source->context, 0, &now);
    if (error != API_OK)
        return error;
    if (now.current_revision == own.current_revision && is_comparable(&own, &now) &&
        now.hash != own.hash)
        accuse(out, own.member, "a member's hash changed while its revision did not");
    for (uint32_t i = 0; i < count; i++)
        check_ahead(&now, &others[i], out);
    count_compared(&own, others, count, out);
    compare(&own, others, count, out);
    return API_OK;
}

/* ---- over HTTP ---- */

enum status hash_request_encode(int64_t revision, struct buf *out)
{
    return buf_printf(out, "{\"revision\":%" PRId64 "}", revision);
}

static enum status read_request_field(void *context, struct json_reader *r, struct slice key)
{
    return json_key_is(key, "revision") ? json_read_i64(r, context) : json_skip(r);
}

enum status hash_request_decode(struct slice json, struct arena *arena, int64_t *revision_out)
{
    struct json_reader r = json_reader_of(json, arena);
    *revision_out = 0;
    if (json.len == 0)
        return ST_INVALID;
    enum status st = json_read_object(&r, read_request_field, revision_out);
    return st == ST_OK && !json_is_at_end(&r) ? ST_INVALID : st;
}

/* Go leaves zeros out. */
enum status hash_answer_encode(const struct hash_answer *answer, struct buf *out)
{
    enum status st =
        buf_printf(out, "{\"header\":{\"revision\":%" PRId64 "}", answer->current_revision);
    if (st == ST_OK && answer->hash != 0)
        st = buf_printf(out, ",\"hash\":%" PRIu32, answer->hash);
    if (st == ST_OK && answer->compact_revision != 0)
        st = buf_printf(out, ",\"compact_revision\":%" PRId64, answer->compact_revision);
    return st == ST_OK ? buf_append(out, SLICE("}")) : st;
}

#define FUTURE_TEXT "mvcc: required revision is a future revision"
#define COMPACTED_TEXT "mvcc: required revision has been compacted"

const char *hash_error_text(enum api_error error)
{
    switch (error) {
    case API_FUTURE_REVISION:
        return FUTURE_TEXT;
    case API_COMPACTED:
        return COMPACTED_TEXT;
    default:
        return api_error_text(error);
    }
}

struct answer_fields {
    int64_t revision, hash, compact_revision;
};

static enum status read_header_field(void *context, struct json_reader *r, struct slice key)
{
    struct answer_fields *fields = context;
    return json_key_is(key, "revision") ? json_read_i64(r, &fields->revision) : json_skip(r);
}

static enum status read_answer_field(void *context, struct json_reader *r, struct slice key)
{
    struct answer_fields *fields = context;
    if (json_key_is(key, "header"))
        return json_read_object(r, read_header_field, fields);
    if (json_key_is(key, "hash"))
        return json_read_i64(r, &fields->hash);
    if (json_key_is(key, "compact_revision"))
        return json_read_i64(r, &fields->compact_revision);
    return json_skip(r);
}

static enum api_error read_answer(struct slice body, struct arena *arena, struct hash_answer *out)
{
    struct json_reader r = json_reader_of(body, arena);
    struct answer_fields fields = {0};
    if (body.len == 0 || json_read_object(&r, read_answer_field, &fields) != ST_OK ||
        !json_is_at_end(&r) || fields.hash < 0 || fields.hash > UINT32_MAX)
        return API_UNHEALTHY;
    out->hash = (uint32_t)fields.hash;
    out->current_revision = fields.revision;
    out->compact_revision = fields.compact_revision;
    return API_OK;
}

void hash_answer_decode(uint32_t http_status, struct slice body, struct arena *arena,
                        struct hash_answer *out)
{
    out->error = API_UNHEALTHY;
    if (http_status == 200)
        out->error = read_answer(body, arena, out);
    else if (http_status == 400 && slice_has_prefix(body, SLICE(FUTURE_TEXT)))
        out->error = API_FUTURE_REVISION;
    else if (http_status == 400 && slice_has_prefix(body, SLICE(COMPACTED_TEXT)))
        out->error = API_COMPACTED;
    else if (http_status == 412)
        out->error = API_CLUSTER_ID_MISMATCH;
}
