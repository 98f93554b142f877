/* By revision: place every operation whose revision is known, or proved by what a read saw, in
 * order; then look whether that order keeps to real time and whether everyone saw what it makes. */
#include "tests/history/history.h"

#include "base/assert.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* An operation in the order: a write at its revision, whatever changed nothing right behind. */
struct place {
    const struct history_op *op;
    uint64_t at; /* 2 * revision for a write, + 1 for the others */
};

/* Who wrote a value; values are unique. */
struct origin {
    uint64_t value;
    const struct history_op *op;
    int64_t revision; /* acknowledged, or seen by a read; 0: unknown */
};

struct key_state {
    uint64_t value;
    int64_t revision;
    bool is_open; /* a write of it has no known outcome and no proof */
};

struct check {
    const struct history *history;
    struct origin *origins; /* by value */
    uint32_t origins_count;
    struct place *places;
    uint32_t places_count;
    struct key_state *state; /* by key */
    uint32_t open_count;     /* writes without outcome and proof */
    enum verdict verdict;
    char *why;
    size_t why_bytes;
};

static void broken(struct check *c, const char *what, const struct history_op *a,
                   const struct history_op *b)
{
    char first[256] = "", second[256] = "";
    history_describe(a, first, sizeof(first));
    if (b != NULL)
        history_describe(b, second, sizeof(second));
    c->verdict = HISTORY_BROKEN;
    snprintf(c->why, c->why_bytes, "%s: %s%s%s", what, first, b != NULL ? "; " : "", second);
}

static int compare_origins(const void *a, const void *b)
{
    const struct origin *x = a, *y = b;
    return x->value < y->value ? -1 : x->value > y->value;
}

static int compare_places(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    if (x->at != y->at)
        return x->at < y->at ? -1 : 1;
    return x->op->call < y->op->call ? -1 : x->op->call > y->op->call;
}

static struct origin *find_origin(struct check *c, uint64_t value)
{
    struct origin key = {.value = value};
    return c->origins_count == 0
               ? NULL
               : bsearch(&key, c->origins, c->origins_count, sizeof(key), compare_origins);
}

static bool is_answered(const struct history_op *op)
{
    return op->end != HISTORY_NEVER;
}

static void collect_origins(struct check *c)
{
    for (uint32_t i = 0; i < c->history->count; i++) {
        const struct history_op *op = &c->history->ops[i];
        for (uint32_t k = 0; op->is_write && k < op->keys_count; k++) {
            if (op->keys[k].value == 0 || (is_answered(op) && !op->changed))
                continue;
            c->origins[c->origins_count++] =
                (struct origin){.value = op->keys[k].value,
                                .op = op,
                                .revision = is_answered(op) ? op->revision : 0};
        }
    }
    qsort(c->origins, c->origins_count, sizeof(*c->origins), compare_origins);
}

/* What reads saw proves that a write happened, and at which revision. */
static void prove_writes(struct check *c)
{
    for (uint32_t i = 0; i < c->history->count && c->verdict == HISTORY_GOOD; i++) {
        const struct history_op *op = &c->history->ops[i];
        for (uint32_t k = 0; !op->is_write && is_answered(op) && k < op->keys_count; k++) {
            if (op->keys[k].value == 0)
                continue;
            struct origin *origin = find_origin(c, op->keys[k].value);
            if (origin == NULL) {
                broken(c, "saw a value that nobody wrote, or whose write was refused", op, NULL);
            } else if (origin->revision == 0) {
                origin->revision = op->keys[k].mod_revision;
            } else if (origin->revision != op->keys[k].mod_revision) {
                broken(c, "saw a write at another revision than it had", op, origin->op);
            }
        }
    }
}

/* The revision of a write, or 0 while nothing tells. */
static int64_t revision_of(struct check *c, const struct history_op *op)
{
    if (is_answered(op))
        return op->revision;
    for (uint32_t k = 0; k < op->keys_count; k++) {
        const struct origin *origin =
            op->keys[k].value != 0 ? find_origin(c, op->keys[k].value) : NULL;
        if (origin != NULL && origin->revision != 0)
            return origin->revision;
    }
    return 0;
}

static void place_all(struct check *c)
{
    for (uint32_t i = 0; i < c->history->count; i++) {
        const struct history_op *op = &c->history->ops[i];
        if (!op->is_write && !is_answered(op))
            continue;
        int64_t revision = op->is_write ? revision_of(c, op) : op->revision;
        if (revision == 0) {
            c->open_count++;
            for (uint32_t k = 0; k < op->keys_count; k++)
                c->state[op->keys[k].key].is_open = true;
            continue;
        }
        bool changes = op->is_write && (!is_answered(op) || op->changed);
        c->places[c->places_count++] =
            (struct place){.op = op, .at = 2 * (uint64_t)revision + (changes ? 0 : 1)};
    }
    qsort(c->places, c->places_count, sizeof(*c->places), compare_places);
}

/* Two writes never share a revision, and revisions without a write are no more than the writes
 * whose outcome nobody knows. */
static void check_revisions(struct check *c)
{
    const struct place *last = NULL;
    uint64_t missing = 0;
    for (uint32_t i = 0; i < c->places_count && c->verdict == HISTORY_GOOD; i++) {
        const struct place *p = &c->places[i];
        if (p->at % 2 == 1)
            continue;
        if (last != NULL && last->at == p->at)
            broken(c, "two writes at one revision", last->op, p->op);
        else if (last != NULL)
            missing += (p->at - last->at) / 2 - 1;
        if (missing > c->open_count && !c->history->has_others && c->verdict == HISTORY_GOOD)
            broken(c, "more revisions passed than there were writes", last->op, p->op);
        last = p;
    }
}

/* No operation ended before one that comes earlier in the order was called. */
static void check_real_time(struct check *c)
{
    const struct history_op *first_end = NULL; /* of all at later places */
    uint32_t i = c->places_count;
    while (i > 0 && c->verdict == HISTORY_GOOD) {
        uint32_t group = i;
        while (group > 0 && c->places[group - 1].at == c->places[i - 1].at)
            group--;
        for (uint32_t k = group; k < i && c->verdict == HISTORY_GOOD; k++)
            if (first_end != NULL && first_end->end < c->places[k].op->call)
                broken(c, "a later revision was answered before this was called", first_end,
                       c->places[k].op);
        for (uint32_t k = group; k < i; k++)
            if (first_end == NULL || c->places[k].op->end < first_end->end)
                first_end = c->places[k].op;
        i = group;
    }
}

/* What was seen of a key is not what the order makes of it. */
static void mismatch(struct check *c, const struct history_op *op, uint32_t key, const char *what)
{
    if (c->state[key].is_open) {
        if (c->verdict == HISTORY_GOOD)
            c->verdict = HISTORY_UNDECIDED;
        return;
    }
    const struct origin *origin = find_origin(c, c->state[key].value);
    broken(c, what, op, c->state[key].value != 0 && origin != NULL ? origin->op : NULL);
}

static void replay_read(struct check *c, const struct history_op *op)
{
    for (uint32_t k = 0; k < op->keys_count && c->verdict != HISTORY_BROKEN; k++) {
        const struct history_key *seen = &op->keys[k];
        const struct key_state *state = &c->state[seen->key];
        if (seen->value == state->value &&
            (seen->value == 0 || seen->mod_revision == state->revision))
            continue;
        if (seen->value != 0 && seen->mod_revision < state->revision)
            broken(c, "a stale read", op, NULL);
        else
            mismatch(c, op, seen->key, "a read that does not see the newest write");
    }
}

static void replay_guard(struct check *c, const struct history_op *op)
{
    bool holds = c->state[op->guard_key].value == op->guard_value;
    if (holds != op->changed && is_answered(op))
        mismatch(c, op, op->guard_key,
                 op->changed ? "a guarded write happened although its guard did not hold"
                             : "a guarded write was refused although its guard held");
}

static void replay(struct check *c)
{
    for (uint32_t i = 0; i < c->places_count && c->verdict != HISTORY_BROKEN; i++) {
        const struct history_op *op = c->places[i].op;
        if (!op->is_write) {
            replay_read(c, op);
            continue;
        }
        if (op->has_guard)
            replay_guard(c, op);
        bool changes = !is_answered(op) || op->changed;
        for (uint32_t k = 0; k < op->keys_count && c->verdict != HISTORY_BROKEN; k++) {
            struct key_state *state = &c->state[op->keys[k].key];
            if (changes) {
                state->value = op->keys[k].value;
                state->revision = (int64_t)(c->places[i].at / 2);
            } else if (!op->has_guard && state->value != 0) {
                mismatch(c, op, op->keys[k].key, "a delete found nothing where something was");
            }
        }
    }
}

enum status history_check_by_revision(const struct history *history, enum verdict *out, char *why,
                                      size_t why_bytes)
{
    struct check c = {
        .history = history, .verdict = HISTORY_GOOD, .why = why, .why_bytes = why_bytes};
    why[0] = '\0';
    size_t count = history->count + 1;
    c.origins = calloc(count * HISTORY_OP_KEYS_MAX, sizeof(*c.origins));
    c.places = calloc(count, sizeof(*c.places));
    c.state = calloc(history->keys_count + 1, sizeof(*c.state));
    bool ok = c.origins != NULL && c.places != NULL && c.state != NULL;
    if (ok) {
        collect_origins(&c);
        prove_writes(&c);
        if (c.verdict == HISTORY_GOOD)
            place_all(&c);
        check_revisions(&c);
        check_real_time(&c);
        if (c.verdict == HISTORY_GOOD)
            replay(&c);
    }
    free(c.origins);
    free(c.places);
    free(c.state);
    *out = c.verdict;
    return ok ? ST_OK : ST_NO_MEMORY;
}
