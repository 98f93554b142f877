#include "server/run/compactor.h"

#include "base/assert.h"
#include "base/minmax.h"

#include <stdlib.h>

#define NOTES_IN_INTERVAL 10U /* etcd's */
#define NOTES_MAX (1U << 20)  /* twelve years of six minutes */

enum status compactor_init(struct compactor *c, bool by_revision, uint64_t retention)
{
    ASSERT(retention > 0);
    *c = (struct compactor){.by_revision = by_revision,
                            .retention = retention,
                            .interval_ns = COMPACTOR_REVISION_INTERVAL_NS};
    if (by_revision)
        return ST_OK;
    c->base_ns = retention;
    c->interval_ns = min_u64(retention, COMPACTOR_HOUR_NS) / NOTES_IN_INTERVAL;
    c->interval_ns += c->interval_ns == 0;
    uint64_t notes = retention / c->interval_ns + 1;
    if (notes > NOTES_MAX)
        return ST_TOO_BIG;
    c->revisions_max = (uint32_t)notes;
    c->revisions = calloc(notes, sizeof(c->revisions[0]));
    return c->revisions == NULL ? ST_NO_MEMORY : ST_OK;
}

void compactor_deinit(struct compactor *c)
{
    free(c->revisions);
    c->revisions = NULL;
}

static void take_note(struct compactor *c, int64_t revision)
{
    if (c->count == c->revisions_max) {
        c->first = (c->first + 1) % c->revisions_max;
        c->count--;
    }
    c->revisions[(c->first + c->count) % c->revisions_max] = revision;
    c->count++;
}

static int64_t step_revision(struct compactor *c, int64_t revision, bool is_leader)
{
    if (!c->begun) {
        c->begun = true;
        return 0;
    }
    if (!is_leader || (uint64_t)revision <= c->retention)
        return 0;
    int64_t wanted = revision - (int64_t)c->retention;
    if (wanted == c->compacted)
        return 0;
    c->compacted = wanted;
    return wanted;
}

/* The oldest note, if it is time and there is something to be done. */
static int64_t due(struct compactor *c, uint64_t now_ns, bool is_leader)
{
    if (!is_leader || now_ns - c->done_ns < c->base_ns)
        return 0;
    if (c->base_ns == c->retention)
        c->base_ns = min_u64(c->retention, COMPACTOR_HOUR_NS);
    int64_t wanted = c->revisions[c->first];
    if (wanted != c->compacted) {
        c->compacted = wanted;
        return wanted;
    }
    c->done_ns = now_ns; /* nothing was written meanwhile: etcd proposes it once more in vain */
    return 0;
}

int64_t compactor_step(struct compactor *c, uint64_t now_ns, int64_t revision, bool is_leader)
{
    if (c->by_revision)
        return step_revision(c, revision, is_leader);
    if (!c->begun) {
        c->begun = true;
        c->done_ns = now_ns;
    } else {
        int64_t wanted = due(c, now_ns, is_leader);
        if (wanted != 0)
            return wanted; /* the note is taken when that is done */
    }
    take_note(c, revision);
    return 0;
}

void compactor_done(struct compactor *c, uint64_t now_ns, int64_t revision, bool ok)
{
    if (!ok)
        c->compacted = 0;
    else
        c->done_ns = now_ns;
    if (!c->by_revision)
        take_note(c, revision);
}
