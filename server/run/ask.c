#include "server/run/ask.h"

#include "server/peers/fetch.h"
#include "server/run/log.h"
#include "server/state/json_reader.h"

#include <stdio.h>

#define ANSWER_ARENA_BYTES_MAX (4U << 20) /* of what a list of members becomes in memory */

/* A GET that counts only when the answer is 200; out is then owned. */
static enum status get(struct slice url, const char *path, uint32_t timeout_ms,
                       struct peer_fetched *out)
{
    char text[MEMBER_TEXT_MAX + 1];
    snprintf(text, sizeof(text), "%.*s", (int)url.len, (const char *)url.data);
    const struct peer_fetch fetch = {
        .url = text, .method = "GET", .path = path, .timeout_ms = timeout_ms};
    enum status st = peer_fetch(&fetch, out);
    if (st == ST_OK && out->status != 200) {
        buf_deinit(&out->body);
        return ST_NOT_FOUND;
    }
    return st;
}

/* ---- members ---- */

static enum status ask_one(struct slice url, uint32_t timeout_ms, struct members **out,
                           uint64_t *cluster_id_out)
{
    struct peer_fetched fetched;
    enum status st = get(url, "/members", timeout_ms, &fetched);
    if (st != ST_OK)
        return st;
    struct arena arena;
    arena_init(&arena, ANSWER_ARENA_BYTES_MAX);
    st = fetched.has_cluster_id ? members_json_decode(buf_slice(&fetched.body), &arena, out)
                                : ST_INVALID;
    if (st == ST_OK && *out == NULL)
        st = ST_NOT_FOUND; /* it has just joined and does not know them yet */
    *cluster_id_out = fetched.cluster_id;
    arena_deinit(&arena);
    buf_deinit(&fetched.body);
    return st;
}

enum status ask_members(const struct slice *urls, uint32_t count, uint32_t timeout_ms, bool quiet,
                        struct members **out, uint64_t *cluster_id_out)
{
    *out = NULL;
    for (uint32_t i = 0; i < count; i++) {
        enum status st = ask_one(urls[i], timeout_ms, out, cluster_id_out);
        if (st == ST_OK || st == ST_NO_MEMORY)
            return st;
        if (!quiet)
            log_warn("failed to get cluster response", LOG_SLICE("address", urls[i]),
                     LOG_STATUS(st));
    }
    return ST_NOT_FOUND;
}

/* ---- versions ---- */

static enum status read_version(void *context, struct json_reader *r, struct slice key)
{
    struct asked_version *out = context;
    if (json_key_is(key, "etcdserver"))
        return json_read_string(r, &out->server);
    if (json_key_is(key, "etcdcluster"))
        return json_read_string(r, &out->cluster);
    return json_skip(r);
}

enum status ask_version(const struct member_row *row, uint32_t timeout_ms, struct arena *arena,
                        struct asked_version *out)
{
    for (uint32_t i = 0; i < row->peer_urls_count; i++) {
        struct peer_fetched fetched;
        *out = (struct asked_version){0};
        enum status st = get(row->peer_urls[i], "/version", timeout_ms, &fetched);
        if (st == ST_OK) {
            struct json_reader r = json_reader_of(buf_slice(&fetched.body), arena);
            st = json_read_object(&r, read_version, out);
            buf_deinit(&fetched.body);
        }
        if (st == ST_OK || st == ST_NO_MEMORY)
            return st;
    }
    *out = (struct asked_version){0};
    return ST_NOT_FOUND;
}

enum status ask_downgrade(const struct member_row *row, uint32_t timeout_ms, bool *out)
{
    for (uint32_t i = 0; i < row->peer_urls_count; i++) {
        struct peer_fetched fetched;
        if (get(row->peer_urls[i], "/downgrade/enabled", timeout_ms, &fetched) != ST_OK)
            continue;
        *out = slice_has_prefix(buf_slice(&fetched.body), SLICE("true"));
        buf_deinit(&fetched.body);
        return ST_OK;
    }
    return ST_NOT_FOUND;
}

/* ---- hashes ---- */

static void ask_hash_at(struct slice url, uint64_t cluster_id, struct slice question,
                        uint32_t timeout_ms, struct hash_answer *out)
{
    char text[MEMBER_TEXT_MAX + 1];
    snprintf(text, sizeof(text), "%.*s", (int)url.len, (const char *)url.data);
    const struct peer_fetch fetch = {.url = text,
                                     .method = "GET",
                                     .path = "/members/hashkv",
                                     .content_type = "application/json",
                                     .body = question,
                                     .cluster_id = cluster_id,
                                     .timeout_ms = timeout_ms};
    struct peer_fetched fetched;
    struct arena arena;
    out->error = API_UNHEALTHY;
    if (peer_fetch(&fetch, &fetched) != ST_OK)
        return;
    arena_init(&arena, ANSWER_ARENA_BYTES_MAX);
    hash_answer_decode(fetched.status, buf_slice(&fetched.body), &arena, out);
    arena_deinit(&arena);
    buf_deinit(&fetched.body);
}

void ask_hash(const struct member_row *row, uint64_t cluster_id, int64_t revision,
              uint32_t timeout_ms, struct hash_answer *out)
{
    struct buf question;
    buf_init(&question, ANSWER_ARENA_BYTES_MAX);
    *out = (struct hash_answer){.member = row->id, .error = API_UNHEALTHY};
    enum status st = hash_request_encode(revision, &question);
    for (uint32_t i = 0; i < row->peer_urls_count && st == ST_OK && out->error == API_UNHEALTHY;
         i++) {
        ask_hash_at(row->peer_urls[i], cluster_id, buf_slice(&question), timeout_ms, out);
        out->member = row->id;
    }
    buf_deinit(&question);
}
