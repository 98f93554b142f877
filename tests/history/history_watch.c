#include "tests/history/history_watch.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

void history_watcher_init(struct history_watcher *watcher, uint32_t key, uint32_t keys_end,
                          int64_t from)
{
    *watcher =
        (struct history_watcher){.key = key, .keys_end = keys_end, .from = from, .upto = from - 1};
}

void history_watcher_deinit(struct history_watcher *watcher)
{
    free(watcher->events);
    *watcher = (struct history_watcher){0};
}

enum status history_saw(struct history_watcher *watcher, const struct history_event *event)
{
    if (watcher->count == watcher->capacity) {
        uint32_t capacity = watcher->capacity == 0 ? 256 : watcher->capacity * 2;
        struct history_event *events =
            realloc(watcher->events, capacity * sizeof(watcher->events[0]));
        if (events == NULL)
            return ST_NO_MEMORY;
        watcher->events = events;
        watcher->capacity = capacity;
    }
    watcher->events[watcher->count++] = *event;
    return ST_OK;
}

void history_saw_upto(struct history_watcher *watcher, int64_t revision)
{
    if (revision > watcher->upto)
        watcher->upto = revision;
}

/* ---- judging ---- */

struct judge {
    const struct history *history;
    const struct history_watcher *watchers;
    uint32_t watchers_count;
    struct history_event *all; /* that anybody saw, each once, by revision and key */
    uint32_t all_count;
    const struct history_op **writers; /* by value; values are small numbers */
    uint64_t values_count;
    const struct history_op **deletes;
    uint32_t deletes_count;
    enum verdict verdict;
    char *why;
    size_t why_bytes;
};

static void broken(struct judge *j, const char *what, const struct history_event *event,
                   uint32_t watcher)
{
    if (j->verdict == HISTORY_BROKEN)
        return;
    j->verdict = HISTORY_BROKEN;
    snprintf(j->why, j->why_bytes,
             "%s: key %u, value %" PRIu64 ", revision %" PRId64 ", watcher %u", what, event->key,
             event->value, event->revision, watcher);
}

static int by_place(const void *a, const void *b)
{
    const struct history_event *x = a, *y = b;
    if (x->revision != y->revision)
        return x->revision < y->revision ? -1 : 1;
    return x->key < y->key ? -1 : x->key > y->key;
}

/* Revisions never go back, and no key comes twice in one. */
static void check_order(struct judge *j)
{
    for (uint32_t w = 0; w < j->watchers_count; w++) {
        const struct history_watcher *watcher = &j->watchers[w];
        for (uint32_t i = 0; i < watcher->count; i++) {
            const struct history_event *event = &watcher->events[i];
            if (event->key < watcher->key || event->key >= watcher->keys_end)
                broken(j, "another's key", event, w);
            if (event->revision < watcher->from)
                broken(j, "from before it began", event, w);
            if (i > 0 && event->revision < event[-1].revision)
                broken(j, "out of order", event, w);
            for (uint32_t k = i; k > 0 && watcher->events[k - 1].revision == event->revision; k--)
                if (watcher->events[k - 1].key == event->key)
                    broken(j, "twice", event, w);
        }
    }
}

/* Puts together what all saw; who saw the same place must have seen the same. */
static void merge(struct judge *j)
{
    uint32_t count = 0;
    for (uint32_t w = 0; w < j->watchers_count; w++)
        for (uint32_t i = 0; i < j->watchers[w].count; i++)
            j->all[count++] = j->watchers[w].events[i];
    qsort(j->all, count, sizeof(j->all[0]), by_place);
    for (uint32_t i = 0; i < count; i++) {
        struct history_event *last = j->all_count == 0 ? NULL : &j->all[j->all_count - 1];
        if (last == NULL || by_place(last, &j->all[i]) != 0)
            j->all[j->all_count++] = j->all[i];
        else if (last->value != j->all[i].value)
            broken(j, "two watchers saw different values", &j->all[i], 0);
    }
}

/* By place: a watcher's own events are in the order of arrival, which within a revision is not that
 * of the keys. */
static bool has_seen(const struct history_watcher *watcher, const struct history_event *event)
{
    uint32_t low = 0, high = watcher->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (watcher->events[middle].revision < event->revision)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < watcher->count && watcher->events[low].revision == event->revision; low++)
        if (watcher->events[low].key == event->key)
            return watcher->events[low].value == event->value;
    return false;
}

static void check_seen_by_all(struct judge *j, const char *what, const struct history_event *event)
{
    for (uint32_t w = 0; w < j->watchers_count; w++) {
        const struct history_watcher *watcher = &j->watchers[w];
        if (event->key >= watcher->key && event->key < watcher->keys_end &&
            event->revision >= watcher->from && event->revision <= watcher->upto &&
            !has_seen(watcher, event))
            broken(j, what, event, w);
    }
}

static void collect_writers(struct judge *j)
{
    for (uint32_t i = 0; i < j->history->count; i++) {
        const struct history_op *op = &j->history->ops[i];
        bool is_delete = false;
        for (uint32_t k = 0; op->is_write && k < op->keys_count; k++) {
            is_delete |= op->keys[k].value == 0;
            j->writers[op->keys[k].value] = op; /* of 0 nobody asks */
        }
        if (is_delete)
            j->deletes[j->deletes_count++] = op;
    }
}

/* What was acknowledged, and what reads saw, was shown. */
static void check_answers(struct judge *j)
{
    for (uint32_t i = 0; i < j->history->count; i++) {
        const struct history_op *op = &j->history->ops[i];
        for (uint32_t k = 0; op->end != HISTORY_NEVER && k < op->keys_count; k++) {
            struct history_event event = {.key = op->keys[k].key, .value = op->keys[k].value};
            event.revision = op->is_write ? op->revision : op->keys[k].mod_revision;
            if (op->is_write && op->changed)
                check_seen_by_all(j, "acknowledged and not shown", &event);
            else if (!op->is_write && event.value != 0)
                check_seen_by_all(j, "read and not shown", &event);
        }
    }
}

/* A deletion of a key at a revision: an answered one, or one whose answer never came. */
static bool may_be_deleted(const struct judge *j, const struct history_event *event)
{
    for (uint32_t i = 0; i < j->deletes_count; i++) {
        const struct history_op *op = j->deletes[i];
        for (uint32_t k = 0; k < op->keys_count; k++)
            if (op->keys[k].key == event->key && op->keys[k].value == 0 &&
                (op->end == HISTORY_NEVER || (op->changed && op->revision == event->revision)))
                return true;
    }
    return false;
}

/* What was shown was written, and when its answer says. */
static void check_shown(struct judge *j)
{
    for (uint32_t i = 0; i < j->all_count; i++) {
        const struct history_event *event = &j->all[i];
        check_seen_by_all(j, "another watcher saw it, this one not", event);
        if (event->value == 0) {
            if (!may_be_deleted(j, event))
                broken(j, "nobody deleted it", event, 0);
            continue;
        }
        const struct history_op *op =
            event->value < j->values_count ? j->writers[event->value] : NULL;
        bool is_of_key = false;
        for (uint32_t k = 0; op != NULL && k < op->keys_count; k++)
            is_of_key |= op->keys[k].key == event->key && op->keys[k].value == event->value;
        if (!is_of_key)
            broken(j, "nobody wrote it", event, 0);
        else if (op->end != HISTORY_NEVER && (!op->changed || op->revision != event->revision))
            broken(j, "its answer says otherwise", event, 0);
    }
}

enum status history_check_watchers(const struct history *history,
                                   const struct history_watcher *watchers, uint32_t watchers_count,
                                   enum verdict *out, char *why, size_t why_bytes)
{
    struct judge j = {.history = history,
                      .watchers = watchers,
                      .watchers_count = watchers_count,
                      .values_count = 1,
                      .verdict = HISTORY_GOOD,
                      .why = why,
                      .why_bytes = why_bytes};
    size_t events = 0;
    for (uint32_t w = 0; w < watchers_count; w++)
        events += watchers[w].count;
    for (uint32_t i = 0; i < history->count; i++)
        for (uint32_t k = 0; history->ops[i].is_write && k < history->ops[i].keys_count; k++)
            if (history->ops[i].keys[k].value >= j.values_count)
                j.values_count = history->ops[i].keys[k].value + 1;
    j.all = calloc(events + 1, sizeof(j.all[0]));
    j.writers = calloc(j.values_count, sizeof(const struct history_op *));
    j.deletes = calloc((size_t)history->count + 1, sizeof(const struct history_op *));
    bool has_memory = j.all != NULL && j.writers != NULL && j.deletes != NULL;
    if (why_bytes > 0)
        why[0] = '\0';
    if (has_memory) {
        check_order(&j);
        merge(&j);
        collect_writers(&j);
        check_answers(&j);
        check_shown(&j);
        *out = j.verdict;
    }
    free(j.all);
    free(j.writers);
    free(j.deletes);
    return has_memory ? ST_OK : ST_NO_MEMORY;
}

/* ---- leases ---- */

enum verdict history_check_lease(const struct history_lease *lease, bool is_over, char *why,
                                 size_t why_bytes)
{
    uint64_t earliest = lease->renewed_call + lease->ttl;
    const char *what = NULL;
    if (lease->gone_revision != 0 && !lease->may_be_revoked && lease->gone_at < earliest)
        what = "its keys went before its time";
    else if (lease->denied_end != 0 && !lease->may_be_revoked && lease->denied_end < earliest)
        what = "it was unknown before its time";
    else if (lease->gone_apart)
        what = "its keys went at more than one revision";
    else if (is_over && lease->gone_count < lease->keys_count)
        what = "a key is left";
    if (why_bytes > 0)
        why[0] = '\0';
    if (what == NULL)
        return HISTORY_GOOD;
    snprintf(why, why_bytes,
             "lease %" PRId64 ": %s: asked for at %" PRIu64 " for %" PRIu64 ", gone at %" PRIu64
             " (revision %" PRId64 ", %u of %u keys), unknown at %" PRIu64,
             lease->id, what, lease->renewed_call, lease->ttl, lease->gone_at, lease->gone_revision,
             lease->gone_count, lease->keys_count, lease->denied_end);
    return HISTORY_BROKEN;
}
