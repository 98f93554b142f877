#include "tools/utl/founding.h"

#include "server/state/peer_url.h"
#include "tools/utl/console.h"

#include <string.h>

#define ARENA_BYTES_MAX (16U << 20)
#define CALLER "utl/founding.c"

static enum status refuse(struct buf *why, enum status st, const char *text)
{
    if (st == ST_OK || text == NULL)
        return st;
    enum status said = buf_printf(why, "%s", text);
    (void)said; /* the status is what counts */
    return st;
}

static enum status read_advertised(const char *text, struct arena *arena, const struct slice **out,
                                   uint32_t *count_out, const char **why_out)
{
    struct slice texts[MEMBER_URLS_MAX];
    uint32_t count = 0;
    const char *at = text;
    for (bool more = true; more; count++) {
        if (count == MEMBER_URLS_MAX)
            return ST_TOO_BIG;
        const char *comma = strchr(at, ',');
        more = comma != NULL;
        size_t len = more ? (size_t)(comma - at) : strlen(at);
        texts[count] = slice_make(at, len);
        at += len + more;
    }
    *count_out = count;
    return peer_urls_read(texts, count, arena, out, why_out);
}

struct founding_words founding_flags(const struct cli *cli)
{
    return (struct founding_words){.name = cli_string(cli, "name"),
                                   .initial_cluster = cli_string(cli, "initial-cluster"),
                                   .token = cli_string(cli, "initial-cluster-token"),
                                   .advertised = cli_string(cli, "initial-advertise-peer-urls")};
}

bool founding_is_given(const struct cli *cli)
{
    return cli_given(cli, "name") || cli_given(cli, "initial-cluster") ||
           cli_given(cli, "initial-cluster-token") || cli_given(cli, "initial-advertise-peer-urls");
}

/* etcdutl looks names up where texts differ; a rescue host may have nobody to ask. */
static const struct url_resolver by_text_alone;

enum status founding_read(const struct founding_words *words, struct founding *out, struct buf *why)
{
    *out = (struct founding){0};
    arena_init(&out->arena, ARENA_BYTES_MAX);
    out->cluster = ARENA_NEW(&out->arena, struct initial_cluster);
    const struct slice *advertised = NULL;
    const char *problem = NULL;
    uint32_t count = 0;
    struct slice name = slice_from_str(words->name);
    enum status st = out->cluster == NULL ? ST_NO_MEMORY : ST_OK;
    if (st == ST_OK)
        st = initial_cluster_parse(slice_from_str(words->initial_cluster),
                                   slice_from_str(words->token), &out->arena, out->cluster,
                                   &problem);
    if (st == ST_OK)
        st = read_advertised(words->advertised, &out->arena, &advertised, &count, &problem);
    if (st == ST_OK) {
        problem = initial_cluster_check(out->cluster, name, advertised, count, /* is_new= */ true,
                                        &by_text_alone, &out->arena);
        st = problem == NULL ? ST_OK : ST_INVALID;
    }
    if (st == ST_OK)
        out->self = initial_cluster_find(out->cluster, name);
    return refuse(why, st, problem);
}

void founding_deinit(struct founding *founding)
{
    arena_deinit(&founding->arena);
}

static enum status raise_revision(struct maker *maker, uint64_t raise)
{
    struct console line;
    int64_t latest = maker_content(maker).revision, raised;
    enum status st = maker_raise_revision(maker, raise, &raised);
    if (st != ST_OK)
        return st;
    console_begin(&line, "info", CALLER, "bumping latest revision");
    console_i64(&line, "latest-revision", latest);
    console_u64(&line, "bump-amount", raise);
    console_i64(&line, "new-latest-revision", raised);
    console_end(&line);
    console_begin(&line, "info", CALLER, "marking revision compacted");
    console_i64(&line, "revision", raised);
    console_end(&line);
    return ST_OK;
}

/* What everybody who goes on from here has to know about revisions. */
static void warn_of_revisions(const struct maker *maker)
{
    struct console line;
    console_begin(
        &line, "warn", CALLER,
        "revisions go on from the restored one: those that the lost cluster gave out after "
        "it are given out again, to other changes. Watchers and caches that have seen them "
        "(Kubernetes' controllers) silently miss events until they are restarted; with "
        "--bump-revision 1000000000 --mark-compacted they are told, and list everything "
        "anew");
    console_i64(&line, "revision", maker_content(maker).revision);
    console_end(&line);
}

static void tell_members(const struct founding *f)
{
    for (uint32_t i = 0; i < f->cluster->count; i++) {
        const struct member_row *row = &f->cluster->rows[i];
        struct console line;
        console_begin(&line, "info", CALLER, "added member");
        console_hex(&line, "cluster-id", f->cluster->cluster_id);
        console_text(&line, "local-member-id", "0");
        console_hex(&line, "added-peer-id", row->id);
        console_list(&line, "added-peer-peer-urls", row->peer_urls, row->peer_urls_count);
        console_end(&line);
    }
}

enum status founding_finish(const struct founding *f, struct maker *maker, uint64_t raise)
{
    struct console line;
    console_begin(&line, "info", CALLER, "Trimming membership information from the backend...");
    console_end(&line);
    enum status st = maker_set_members(maker, f->cluster->rows, f->cluster->count, NULL, 0);
    if (st == ST_OK && raise > 0)
        st = raise_revision(maker, raise);
    else if (st == ST_OK)
        warn_of_revisions(maker);
    if (st != ST_OK)
        return st;
    tell_members(f);
    struct maker_log log = {
        .snapshot = {.last = {.index = f->cluster->count, .term = 1}},
        .hard_state = {.term = 1, .vote = f->cluster->rows[0].id, .commit = f->cluster->count}};
    struct raft_conf_state *conf = &log.snapshot.conf_state;
    for (uint32_t i = 0; i < f->cluster->count; i++)
        conf->voters[conf->voters_count++] = f->cluster->rows[i].id;
    return maker_finish(maker, &log);
}
