#include "server/state/members.h"

#include "base/assert.h"
#include "base/bytes.h"
#include "base/digest.h"

#include <stdatomic.h>
#include <stdlib.h>

_Static_assert(MEMBERS_MAX == RAFT_MEMBERS_MAX, "a member is a row and a raft id");

/* ---- ids ---- */

static int compare_slices(const void *a, const void *b)
{
    return slice_cmp(*(const struct slice *)a, *(const struct slice *)b);
}

static int compare_ids(const void *a, const void *b)
{
    raft_id x = *(const raft_id *)a, y = *(const raft_id *)b;
    return x < y ? -1 : x > y;
}

static size_t append_text(uint8_t *text, size_t len, struct slice s)
{
    if (s.len > 0)
        memcpy(text + len, s.data, s.len);
    return len + s.len;
}

enum status member_id_compute(const struct slice *peer_urls, uint32_t count,
                              struct slice cluster_token, raft_id *out)
{
    if (count == 0 || count > MEMBER_URLS_MAX)
        return ST_INVALID;
    struct slice sorted[MEMBER_URLS_MAX];
    memcpy(sorted, peer_urls, count * sizeof(sorted[0]));
    qsort(sorted, count, sizeof(sorted[0]), compare_slices);
    size_t total = cluster_token.len;
    for (uint32_t i = 0; i < count; i++)
        total += sorted[i].len;
    uint8_t *text = malloc(total + 1);
    if (text == NULL)
        return ST_NO_MEMORY;
    size_t len = 0;
    for (uint32_t i = 0; i < count; i++)
        len = append_text(text, len, sorted[i]);
    len = append_text(text, len, cluster_token);
    uint8_t digest[SHA1_BYTES];
    enum status st = sha1(slice_make(text, len), digest);
    free(text);
    if (st == ST_OK)
        *out = get_be64(digest);
    return st;
}

enum status cluster_id_compute(const raft_id *member_ids, uint32_t count, uint64_t *out)
{
    if (count == 0 || count > MEMBERS_MAX)
        return ST_INVALID;
    raft_id sorted[MEMBERS_MAX];
    memcpy(sorted, member_ids, count * sizeof(sorted[0]));
    qsort(sorted, count, sizeof(sorted[0]), compare_ids);
    uint8_t bytes[MEMBERS_MAX * 8];
    for (uint32_t i = 0; i < count; i++)
        put_be64(bytes + 8 * (size_t)i, sorted[i]);
    uint8_t digest[SHA1_BYTES];
    enum status st = sha1(slice_make(bytes, 8 * (size_t)count), digest);
    if (st == ST_OK)
        *out = get_be64(digest);
    return st;
}

/* ---- the table ---- */

/* One piece of memory: rows, then the arrays of slices, then the texts. */
struct members {
    atomic_uint references;
    uint32_t count;
    struct member_row rows[];
};

/* Where the arrays and texts of a table being built go. */
struct packer {
    struct slice *slices;
    uint8_t *text;
};

static void measure_row(const struct member_row *row, size_t *slices, size_t *text)
{
    *slices += row->peer_urls_count + row->client_urls_count;
    *text += row->name.len;
    for (uint32_t i = 0; i < row->peer_urls_count; i++)
        *text += row->peer_urls[i].len;
    for (uint32_t i = 0; i < row->client_urls_count; i++)
        *text += row->client_urls[i].len;
}

static struct slice pack_text(struct packer *packer, struct slice s)
{
    uint8_t *at = packer->text;
    packer->text += append_text(at, 0, s);
    return slice_make(at, s.len);
}

static const struct slice *pack_urls(struct packer *packer, const struct slice *urls,
                                     uint32_t count)
{
    struct slice *at = packer->slices;
    packer->slices += count;
    for (uint32_t i = 0; i < count; i++)
        at[i] = pack_text(packer, urls[i]);
    return at;
}

static void pack_row(struct packer *packer, const struct member_row *row, struct member_row *out)
{
    *out = *row;
    out->is_promote = false;
    out->name = pack_text(packer, row->name);
    out->peer_urls = pack_urls(packer, row->peer_urls, row->peer_urls_count);
    out->client_urls = pack_urls(packer, row->client_urls, row->client_urls_count);
}

static struct members *pack(const struct member_row *const *rows, uint32_t count)
{
    size_t slices = 0, text = 0;
    for (uint32_t i = 0; i < count; i++)
        measure_row(rows[i], &slices, &text);
    struct members *members = malloc(sizeof(*members) + count * sizeof(members->rows[0]) +
                                     slices * sizeof(struct slice) + text);
    if (members == NULL)
        return NULL;
    atomic_init(&members->references, 1);
    members->count = count;
    struct packer packer = {.slices = (struct slice *)(void *)&members->rows[count]};
    packer.text = (uint8_t *)(packer.slices + slices);
    for (uint32_t i = 0; i < count; i++)
        pack_row(&packer, rows[i], &members->rows[i]);
    return members;
}

enum status members_with(const struct members *from, const struct member_row *row,
                         struct members **out)
{
    const struct member_row *rows[MEMBERS_MAX + 1];
    uint32_t count = 0;
    bool placed = false;
    for (uint32_t i = 0; i < members_count(from); i++) {
        const struct member_row *old = &from->rows[i];
        if (!placed && row->id <= old->id) {
            rows[count++] = row;
            placed = true;
        }
        if (old->id != row->id)
            rows[count++] = old;
    }
    if (!placed)
        rows[count++] = row;
    *out = NULL;
    if (count > MEMBERS_MAX)
        return ST_TOO_BIG;
    *out = pack(rows, count);
    return *out == NULL ? ST_NO_MEMORY : ST_OK;
}

enum status members_without(const struct members *from, raft_id id, struct members **out)
{
    const struct member_row *rows[MEMBERS_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < members_count(from); i++) {
        if (from->rows[i].id != id)
            rows[count++] = &from->rows[i];
    }
    *out = pack(rows, count);
    return *out == NULL ? ST_NO_MEMORY : ST_OK;
}

uint32_t members_count(const struct members *members)
{
    return members == NULL ? 0 : members->count;
}

const struct member_row *members_at(const struct members *members, uint32_t index)
{
    ASSERT(index < members_count(members));
    return &members->rows[index];
}

const struct member_row *members_find(const struct members *members, raft_id id)
{
    for (uint32_t i = 0; i < members_count(members); i++) {
        if (members->rows[i].id == id)
            return &members->rows[i];
    }
    return NULL;
}

const struct member_row *members_find_peer_url(const struct members *members, struct slice url,
                                               raft_id exempt)
{
    for (uint32_t i = 0; i < members_count(members); i++) {
        const struct member_row *row = &members->rows[i];
        for (uint32_t j = 0; row->id != exempt && j < row->peer_urls_count; j++) {
            if (slice_eq(row->peer_urls[j], url))
                return row;
        }
    }
    return NULL;
}

struct members *members_ref(struct members *members)
{
    if (members != NULL)
        atomic_fetch_add_explicit(&members->references, 1, memory_order_relaxed);
    return members;
}

void members_unref(struct members *members)
{
    if (members == NULL)
        return;
    if (atomic_fetch_sub_explicit(&members->references, 1, memory_order_acq_rel) == 1)
        free(members);
}
