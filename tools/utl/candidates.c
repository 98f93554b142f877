#include "tools/utl/candidates.h"

#include "server/state/machine.h"
#include "storage/mvcc.h"
#include "storage/store.h"
#include "tools/utl/utl.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- opening ---- */

/* "<directory>=<log>" where no file has that name as a whole. */
static void split(struct candidate *c, const char **path_out, const char **wal_dir_out)
{
    const char *equals = strchr(c->path, '=');
    *path_out = c->path;
    *wal_dir_out = "";
    if (equals == NULL || access(c->path, F_OK) == 0)
        return;
    c->copy = strdup(c->path);
    if (c->copy == NULL)
        return;
    c->copy[equals - c->path] = '\0';
    *path_out = c->copy;
    *wal_dir_out = c->copy + (equals - c->path) + 1;
}

static enum status read_figures(struct candidate *c)
{
    struct mvcc *mvcc = c->held.source->mvcc;
    struct mvcc_stat stat;
    enum status st = held_last(&c->held, &c->last);
    if (st == ST_OK)
        st = mvcc_hash_kv(mvcc, UTL_SOURCE_READER, 0, &c->hash, &c->revision, &c->compact_revision);
    mvcc_get_stat(mvcc, &stat);
    c->keys_count = stat.keys_count;
    return st;
}

static void open_one(struct candidate *c, const char *path)
{
    *c = (struct candidate){.path = path, .held.lock_fd = -1};
    buf_init(&c->why, UTL_WHY_BYTES_MAX);
    struct held_options options = {.whole_log = true, .even_damaged = true};
    split(c, &options.path, &options.wal_dir);
    c->st = held_open(&options, &c->held, &c->why);
    if (c->st == ST_OK)
        c->st = read_figures(c);
    if (c->st != ST_OK && c->why.len == 0)
        c->st = utl_fail(&c->why, c->st, "%s", status_str(c->st));
}

enum status candidates_open(struct candidates *candidates, char *const *paths, uint32_t count,
                            const char *from, struct buf *why)
{
    candidates->from = from;
    bool is_among = from[0] == '\0';
    if (count > CANDIDATES_MAX)
        return utl_fail(why, ST_TOO_BIG, "at most %u can be looked at together", CANDIDATES_MAX);
    for (uint32_t i = 0; i < count; i++) {
        struct candidate *c = &candidates->all[candidates->count++];
        open_one(c, paths[i]);
        is_among |= strcmp(from, paths[i]) == 0;
        if (c->st == ST_BUSY)
            return utl_fail(why, ST_BUSY, "%.*s", (int)c->why.len, (const char *)c->why.data);
    }
    return is_among ? ST_OK : utl_fail(why, ST_INVALID, "--from '%s' is none of those given", from);
}

void candidates_close(struct candidates *candidates)
{
    for (uint32_t i = 0; i < candidates->count; i++) {
        held_close(&candidates->all[i].held);
        buf_deinit(&candidates->all[i].why);
        free(candidates->all[i].copy);
    }
    candidates->count = 0;
}

uint64_t candidate_cluster_id(const struct candidate *c)
{
    return c->held.source == NULL ? 0 : c->held.source->cluster_id;
}

/* ---- one line each ---- */

static void print_one(const struct candidate *c, FILE *out)
{
    const struct utl_source *s = c->held.source;
    if (c->st != ST_OK) {
        fprintf(out, "%s: cannot be read: %.*s\n", c->path, (int)c->why.len,
                (const char *)c->why.data);
        return;
    }
    fprintf(out, "%s: %s, ", c->path, s->kind == UTL_SOURCE_FILE ? "a snapshot" : "a member");
    if (s->member_id != 0)
        fprintf(out, "%" PRIx64 " of cluster %" PRIx64 ", ", s->member_id, s->cluster_id);
    fprintf(out, "entry %" PRIu64, c->last.index);
    if (c->last.term != 0) /* a db file of etcd 3.4 does not say */
        fprintf(out, " of term %" PRIu64, c->last.term);
    if (s->has_log)
        fprintf(out, " (known to be committed: %" PRIu64 ")", s->hard_state.commit);
    fprintf(out, ", revision %" PRId64 ", %" PRIu64 " keys, hash %08" PRIx32 "\n", c->revision,
            c->keys_count, c->hash);
    if (s->format_text.len > 0)
        fprintf(out, "    DAMAGED, what log and store say of themselves counts: %.*s\n",
                (int)s->format_text.len, (const char *)s->format_text.data);
    if (s->has_log && s->log_verdict != ST_OK)
        fprintf(out, "    DAMAGED, only what comes before it counts: %.*s\n", (int)s->log_text.len,
                (const char *)s->log_text.data);
    if (s->apply_text.len > 0)
        fprintf(out, "    NOT ALL of it can be applied: %.*s\n", (int)s->apply_text.len,
                (const char *)s->apply_text.data);
}

void candidates_print(const struct candidates *candidates, FILE *out)
{
    for (uint32_t i = 0; i < candidates->count; i++)
        print_one(&candidates->all[i], out);
    fflush(out);
}

/* ---- the best ---- */

/* Raft's rule of who is up to date. A file that does not say its term is judged by its revision. */
static int compare(const struct candidate *a, const struct candidate *b)
{
    if (a->last.term != 0 && b->last.term != 0) {
        if (a->last.term != b->last.term)
            return a->last.term < b->last.term ? -1 : 1;
        if (a->last.index != b->last.index)
            return a->last.index < b->last.index ? -1 : 1;
        return 0;
    }
    return a->revision < b->revision ? -1 : a->revision > b->revision;
}

/* What `best` holds at other's revision is the same, as far as it can be told. */
static bool is_of_its_past(const struct candidate *best, const struct candidate *other)
{
    uint32_t hash;
    int64_t current, compact;
    if (other->revision > best->revision || other->compact_revision != best->compact_revision)
        return true; /* nothing to compare */
    return mvcc_hash_kv(best->held.source->mvcc, UTL_SOURCE_READER, other->revision, &hash,
                        &current, &compact) != ST_OK ||
           hash == other->hash;
}

/* What can be held against taking `other` and `best` for parts of one history; NULL: nothing. Among
 * members of one cluster Raft's rule decides, and what an old leader could not pass on may differ;
 * but the same last entry leaves the same state. */
static const char *contradiction(const struct candidate *best, const struct candidate *other)
{
    uint64_t one = candidate_cluster_id(best), two = candidate_cluster_id(other);
    if (one != 0 && two != 0 && one != two)
        return "they are of different clusters";
    if (one != 0 && best->held.source->member_id == other->held.source->member_id &&
        other->revision > best->revision)
        return "both say that they are the same member, and the one whose log is ahead has the "
               "older revision: one was restored from the other";
    if ((one == 0 || two == 0) && other->revision > best->revision)
        return "a file does not say of which cluster it is, and the one that ends at the later "
               "entry "
               "has the older revision: one may have been restored from the other";
    bool is_same_entry =
        best->last.index == other->last.index && best->last.term == other->last.term;
    if (is_same_entry && best->revision != other->revision)
        return "they end at the same entry with different revisions";
    if (one != 0 && one == two && !is_same_entry)
        return NULL;
    return is_of_its_past(best, other) ? NULL : "what they hold at the same revision differs";
}

static struct candidate *find_chosen(struct candidates *candidates)
{
    for (uint32_t i = 0; i < candidates->count; i++) {
        if (strcmp(candidates->all[i].path, candidates->from) == 0)
            return &candidates->all[i];
    }
    return NULL;
}

enum status candidates_choose(struct candidates *candidates, struct candidate **out,
                              struct buf *why)
{
    struct candidate *best = find_chosen(candidates);
    if (best != NULL && best->st != ST_OK)
        return utl_fail(why, ST_NOT_FOUND, "'%s' cannot be read", best->path);
    *out = best;
    if (best != NULL)
        return ST_OK;
    for (uint32_t i = 0; i < candidates->count; i++) {
        struct candidate *c = &candidates->all[i];
        if (c->st == ST_OK && (best == NULL || compare(best, c) < 0))
            best = c;
    }
    if (best == NULL)
        return utl_fail(why, ST_NOT_FOUND, "none of them can be read");
    for (uint32_t i = 0; i < candidates->count; i++) {
        const struct candidate *c = &candidates->all[i];
        const char *problem = c == best || c->st != ST_OK ? NULL : contradiction(best, c);
        if (problem != NULL)
            return utl_fail(
                why, ST_INVALID,
                "'%s' and '%s' cannot be taken together: %s. Leave one out, or say with "
                "--from which is to be taken",
                best->path, c->path, problem);
    }
    *out = best;
    return ST_OK;
}

/* ---- the others ---- */

static void compare_one(const struct candidate *best, const struct candidate *c, FILE *out)
{
    int order = compare(best, c);
    if (order == 0 && best->revision == c->revision) {
        fprintf(out, "'%s' holds the same.\n", c->path);
        return;
    }
    if (best->revision > c->revision)
        fprintf(out, "'%s' lacks the last %" PRId64 " revisions of it.\n", c->path,
                best->revision - c->revision);
    if (order > 0 && c->last.index > best->last.index)
        fprintf(out,
                "'%s' ends in entries of an older term that it lacks: the cluster went on without "
                "them, so no majority had them and nobody was told that they are written.\n",
                c->path);
    else if (order < 0 || best->revision < c->revision)
        fprintf(out, "'%s' holds revisions up to %" PRId64 " that it LACKS.\n", c->path,
                c->revision);
}

static bool is_here(const struct candidates *candidates, raft_id id)
{
    bool found = false;
    for (uint32_t i = 0; i < candidates->count; i++) {
        const struct candidate *c = &candidates->all[i];
        found |= c->st == ST_OK && c->held.source->member_id == id && c->held.source->has_log &&
                 c->held.source->log_verdict == ST_OK;
    }
    return found;
}

static bool is_the_last(const struct candidates *candidates, const struct candidate *best)
{
    bool last = true;
    for (uint32_t i = 0; i < candidates->count; i++)
        last &= candidates->all[i].st != ST_OK || compare(best, &candidates->all[i]) >= 0;
    return last;
}

/* Every acknowledged write is on a majority; if fewer than a majority are missing, it is on one of
 * those here, and by the rule of elections in the most up-to-date of them. */
static void tell_losses(const struct candidates *candidates, const struct candidate *best,
                        FILE *out)
{
    struct members *members = machine_members(best->held.source->machine);
    uint32_t voters = 0, here = 0;
    for (uint32_t i = 0; i < members_count(members); i++) {
        const struct member_row *row = members_at(members, i);
        voters += !row->is_learner;
        here += !row->is_learner && is_here(candidates, row->id);
    }
    members_unref(members);
    if (voters == 0)
        return;
    fprintf(out, "The cluster had %" PRIu32 " voting member%s; the files of %" PRIu32 " are here. ",
            voters, voters == 1 ? "" : "s", here);
    if (voters - here < voters / 2 + 1 && is_the_last(candidates, best))
        fprintf(out, "Every acknowledged write is in what was chosen.\n");
    else
        fprintf(out,
                "The last writes before the end may be lost, if those that are missing alone had "
                "acknowledged them; nothing here can tell.\n");
}

void candidates_compare(const struct candidates *candidates, const struct candidate *best,
                        FILE *out)
{
    fprintf(out, "\nThe best is '%s'.\n", best->path);
    for (uint32_t i = 0; i < candidates->count; i++) {
        const struct candidate *c = &candidates->all[i];
        if (c != best && c->st == ST_OK)
            compare_one(best, c, out);
    }
    tell_losses(candidates, best, out);
    fflush(out);
}
