/* By search, after Wing and Gong, "Testing and Verifying Concurrent Objects" (1993), and Lowe,
 * "Testing for linearizability" (2017). The events of one set of connected keys stand in a list by
 * time. Any operation whose call stands before the first return may come next: take it out, go on
 * with the rest; at a return whose operation was not taken, go back. A pair {operations taken,
 * state} that was met before is not tried again. */
#include "tests/history/history.h"

#include "base/assert.h"
#include "base/hash.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct event {
    uint64_t time;
    const struct history_op *op;
    uint32_t number; /* of the operation, in its set */
    bool is_return;
    struct event *previous, *next;
    struct event *partner; /* a call's return; NULL when it never came */
};

struct taken {
    struct event *call;
    uint64_t old[HISTORY_OP_KEYS_MAX]; /* values before */
};

struct search {
    const struct history *history;
    const uint32_t *set_of; /* by key */
    struct event *events;   /* events[0] is the list's head */
    uint32_t events_count;
    uint32_t ops_count, answered_count;
    uint64_t *values; /* by key */
    struct taken *stack;
    uint32_t depth, answered_taken;
    struct hash128 visited; /* of the taken set: order does not matter */
    struct hash128 *memory; /* open addressing; zero is free */
    size_t memory_count, memory_capacity;
    uint64_t steps_left;
    const struct history_op *stuck; /* for the report: the deepest operation that found no place */
    uint32_t stuck_depth;
};

/* ---- sets of keys that operations connect (union-find) ---- */

static uint32_t root_of(uint32_t *parent, uint32_t key)
{
    while (parent[key] != key) {
        parent[key] = parent[parent[key]];
        key = parent[key];
    }
    return key;
}

static uint32_t key_of(const struct history_op *op)
{
    return op->keys_count > 0 ? op->keys[0].key : op->guard_key;
}

static void connect_keys(const struct history *history, uint32_t *parent)
{
    for (uint32_t k = 0; k < history->keys_count; k++)
        parent[k] = k;
    for (uint32_t i = 0; i < history->count; i++) {
        const struct history_op *op = &history->ops[i];
        uint32_t root = root_of(parent, key_of(op));
        for (uint32_t k = 0; k < op->keys_count; k++)
            parent[root_of(parent, op->keys[k].key)] = root;
        if (op->has_guard)
            parent[root_of(parent, op->guard_key)] = root;
    }
    for (uint32_t k = 0; k < history->keys_count; k++)
        parent[k] = root_of(parent, k);
}

/* ---- the list of events ---- */

static int compare_events(const void *a, const void *b)
{
    const struct event *x = a, *y = b;
    if (x->time != y->time)
        return x->time < y->time ? -1 : 1;
    if (x->is_return != y->is_return) /* at one moment calls come first: more orders are allowed */
        return x->is_return ? 1 : -1;
    return x->number < y->number ? -1 : x->number > y->number;
}

static void link_events(struct search *s, struct event **calls)
{
    qsort(s->events + 1, s->events_count, sizeof(*s->events), compare_events);
    struct event *previous = &s->events[0];
    for (uint32_t i = 1; i <= s->events_count; i++) {
        struct event *e = &s->events[i];
        e->previous = previous;
        previous->next = e;
        previous = e;
        if (e->is_return)
            calls[e->number]->partner = e;
        else
            calls[e->number] = e;
    }
}

static enum status make_events(struct search *s, uint32_t set)
{
    s->events_count = s->ops_count = s->answered_count = 0;
    s->events[0] = (struct event){0};
    for (uint32_t i = 0; i < s->history->count; i++) {
        const struct history_op *op = &s->history->ops[i];
        bool is_answered = op->end != HISTORY_NEVER;
        if (s->set_of[key_of(op)] != set || (!op->is_write && !is_answered))
            continue;
        s->events[++s->events_count] =
            (struct event){.time = op->call, .op = op, .number = s->ops_count};
        if (is_answered) {
            s->events[++s->events_count] = (struct event){
                .time = op->end, .op = op, .number = s->ops_count, .is_return = true};
            s->answered_count++;
        }
        s->ops_count++;
    }
    struct event **calls = calloc(s->ops_count + 1, sizeof(struct event *));
    if (calls == NULL)
        return ST_NO_MEMORY;
    link_events(s, calls);
    free(calls);
    return ST_OK;
}

static void unlink_event(struct event *e)
{
    e->previous->next = e->next;
    if (e->next != NULL)
        e->next->previous = e->previous;
}

static void relink_event(struct event *e)
{
    e->previous->next = e;
    if (e->next != NULL)
        e->next->previous = e;
}

/* ---- the store, by values ---- */

static bool is_possible(const struct search *s, const struct history_op *op)
{
    if (op->has_guard) {
        bool holds = s->values[op->guard_key] == op->guard_value;
        return op->end == HISTORY_NEVER ? holds : holds == op->changed;
    }
    for (uint32_t k = 0; k < op->keys_count; k++) {
        uint64_t value = s->values[op->keys[k].key];
        if (!op->is_write && value != op->keys[k].value)
            return false;
        if (op->is_write && op->end != HISTORY_NEVER && !op->changed && value != 0)
            return false; /* a delete that found nothing */
    }
    return true;
}

static void apply(struct search *s, struct taken *t)
{
    const struct history_op *op = t->call->op;
    bool changes = op->is_write && (op->end == HISTORY_NEVER || op->changed);
    for (uint32_t k = 0; k < op->keys_count; k++) {
        t->old[k] = s->values[op->keys[k].key];
        if (changes)
            s->values[op->keys[k].key] = op->keys[k].value;
    }
}

static void unapply(struct search *s, const struct taken *t)
{
    for (uint32_t k = t->call->op->keys_count; k > 0; k--)
        s->values[t->call->op->keys[k - 1].key] = t->old[k - 1];
}

/* ---- what was met before ---- */

static void flip(struct search *s, uint32_t number)
{
    struct hash128 h =
        hash128_seeded(slice_make((const uint8_t *)&number, sizeof(number)), /* seed= */ 1);
    s->visited.low ^= h.low;
    s->visited.high ^= h.high;
}

static void memory_put(struct hash128 *memory, size_t capacity, struct hash128 h)
{
    size_t at = (size_t)h.low & (capacity - 1);
    while (memory[at].low != 0 || memory[at].high != 0)
        at = (at + 1) & (capacity - 1);
    memory[at] = h;
}

static enum status memory_grow(struct search *s)
{
    size_t capacity = s->memory_capacity == 0 ? 4096 : s->memory_capacity * 2;
    struct hash128 *memory = calloc(capacity, sizeof(*memory));
    if (memory == NULL)
        return ST_NO_MEMORY;
    for (size_t i = 0; i < s->memory_capacity; i++)
        if (s->memory[i].low != 0 || s->memory[i].high != 0)
            memory_put(memory, capacity, s->memory[i]);
    free(s->memory);
    s->memory = memory;
    s->memory_capacity = capacity;
    return ST_OK;
}

/* Notes {taken, state}; *is_new false when it was met before. */
static enum status remember(struct search *s, bool *is_new)
{
    if (2 * s->memory_count >= s->memory_capacity && memory_grow(s) != ST_OK)
        return ST_NO_MEMORY;
    struct hash128 h = hash128_seeded(
        slice_make((const uint8_t *)s->values, s->history->keys_count * sizeof(*s->values)),
        /* seed= */ 2);
    h.low ^= s->visited.low;
    h.high ^= s->visited.high;
    size_t at = (size_t)h.low & (s->memory_capacity - 1);
    while (s->memory[at].low != 0 || s->memory[at].high != 0) {
        if (hash128_eq(s->memory[at], h)) {
            *is_new = false;
            return ST_OK;
        }
        at = (at + 1) & (s->memory_capacity - 1);
    }
    s->memory[at] = h;
    s->memory_count++;
    *is_new = true;
    return ST_OK;
}

/* ---- the search ---- */

static void take(struct search *s, struct event *call)
{
    unlink_event(call);
    if (call->partner != NULL) {
        unlink_event(call->partner);
        s->answered_taken++;
    }
    s->depth++;
}

/* Undoes the newest; the event to go on with. */
static struct event *untake(struct search *s)
{
    struct taken *t = &s->stack[--s->depth];
    unapply(s, t);
    flip(s, t->call->number);
    if (t->call->partner != NULL) {
        relink_event(t->call->partner);
        s->answered_taken--;
    }
    relink_event(t->call);
    return t->call->next;
}

/* Tries the operation of a call as the next one; *taken_out tells. */
static enum status try_next(struct search *s, struct event *call, bool *taken_out)
{
    *taken_out = false;
    if (!is_possible(s, call->op))
        return ST_OK;
    struct taken *t = &s->stack[s->depth];
    *t = (struct taken){.call = call};
    apply(s, t);
    flip(s, call->number);
    bool is_new = false;
    enum status st = remember(s, &is_new);
    if (st == ST_OK && is_new) {
        take(s, call);
        *taken_out = true;
        return ST_OK;
    }
    flip(s, call->number);
    unapply(s, t);
    return st;
}

static enum status search_set(struct search *s, enum verdict *out)
{
    struct event *e = s->events[0].next;
    *out = HISTORY_GOOD;
    while (s->answered_taken < s->answered_count) {
        ASSERT(e != NULL); /* what is answered and not taken has its return in the list */
        if (s->steps_left-- == 0) {
            *out = HISTORY_UNDECIDED;
            return ST_OK;
        }
        if (!e->is_return) {
            bool is_taken;
            enum status st = try_next(s, e, &is_taken);
            if (st != ST_OK)
                return st;
            e = is_taken ? s->events[0].next : e->next;
            continue;
        }
        if (s->stuck == NULL || s->depth > s->stuck_depth) {
            s->stuck = e->op;
            s->stuck_depth = s->depth;
        }
        if (s->depth == 0) {
            *out = HISTORY_BROKEN;
            return ST_OK;
        }
        e = untake(s);
    }
    return ST_OK;
}

static enum status check_set(struct search *s, uint32_t set, uint64_t steps_max, enum verdict *out)
{
    enum status st = make_events(s, set);
    if (st != ST_OK)
        return st;
    s->depth = s->answered_taken = 0;
    s->visited = (struct hash128){0};
    memset(s->values, 0, s->history->keys_count * sizeof(*s->values));
    if (s->memory != NULL)
        memset(s->memory, 0, s->memory_capacity * sizeof(*s->memory));
    s->memory_count = 0;
    s->steps_left = steps_max;
    s->stuck = NULL;
    s->stuck_depth = 0;
    return search_set(s, out);
}

enum status history_check_by_search(const struct history *history, uint64_t steps_max,
                                    enum verdict *out, char *why, size_t why_bytes)
{
    why[0] = '\0';
    *out = HISTORY_GOOD;
    size_t keys = history->keys_count + (size_t)1, ops = history->count + (size_t)1;
    uint32_t *sets = calloc(keys, sizeof(*sets));
    struct search s = {.history = history,
                       .set_of = sets,
                       .events = calloc(2 * ops, sizeof(*s.events)),
                       .values = calloc(keys, sizeof(*s.values)),
                       .stack = calloc(ops, sizeof(*s.stack))};
    enum status st = sets != NULL && s.events != NULL && s.values != NULL && s.stack != NULL
                         ? ST_OK
                         : ST_NO_MEMORY;
    if (st == ST_OK)
        connect_keys(history, sets);
    for (uint32_t k = 0; st == ST_OK && k < history->keys_count && *out != HISTORY_BROKEN; k++) {
        if (sets[k] != k)
            continue;
        enum verdict verdict;
        st = check_set(&s, k, steps_max, &verdict);
        if (st != ST_OK || verdict == HISTORY_GOOD)
            continue;
        *out = verdict;
        char text[256] = "";
        if (s.stuck != NULL)
            history_describe(s.stuck, text, sizeof(text));
        snprintf(why, why_bytes,
                 verdict == HISTORY_BROKEN ? "no order explains: %s" : "too many orders to try: %s",
                 text);
    }
    free(sets);
    free(s.events);
    free(s.values);
    free(s.stack);
    free(s.memory);
    return st;
}
