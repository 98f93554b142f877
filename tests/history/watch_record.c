#include "tests/history/watch_record.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void watch_record_init(struct watch_record *record, uint64_t key, bool wants_previous)
{
    *record = (struct watch_record){.key = key, .wants_previous = wants_previous};
}

void watch_record_deinit(struct watch_record *record)
{
    free(record->sights);
}

enum status watch_record_add(struct watch_record *record, enum watch_sight_kind kind,
                             const struct watch_change_seen *change)
{
    if (record->count == record->capacity) {
        size_t capacity = record->capacity * 2 + 64;
        struct watch_sight *grown = realloc(record->sights, capacity * sizeof(*grown));
        if (grown == NULL)
            return ST_NO_MEMORY;
        record->sights = grown;
        record->capacity = capacity;
    }
    record->sights[record->count++] = (struct watch_sight){kind, *change};
    return ST_OK;
}

/* ---- judging ---- */

struct judging {
    const struct watch_record *record;
    const struct watch_truth *truth;
    int64_t next; /* the first revision that may still come */
    size_t at;    /* of the changes: all before were seen, or are not wanted */
    int64_t last; /* revision of the last event */
    bool is_open;
    char *why;
    size_t why_bytes;
};

static bool wrong(struct judging *j, const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool wrong(struct judging *j, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(j->why, j->why_bytes, format, args);
    va_end(args);
    return false;
}

static const struct watch_change_seen *next_of(struct judging *j)
{
    for (; j->at < j->truth->count; j->at++) {
        const struct watch_change_seen *change = &j->truth->changes[j->at];
        if (change->revision >= j->next && (j->record->key == 0 || change->key == j->record->key))
            return change;
    }
    return NULL;
}

static uint64_t value_before(const struct judging *j, const struct watch_change_seen *change)
{
    uint64_t value = 0;
    for (size_t i = 0; i < j->truth->count; i++) {
        const struct watch_change_seen *c = &j->truth->changes[i];
        if (c->revision >= change->revision)
            break;
        if (c->key == change->key)
            value = c->value;
    }
    return value;
}

static bool see_previous(struct judging *j, const struct watch_change_seen *seen)
{
    uint64_t before = value_before(j, seen);
    if (seen->has_previous)
        return (before == seen->previous && before != 0) ||
               wrong(j, "another value before revision %lld", (long long)seen->revision);
    bool may_lack = !j->record->wants_previous || before == 0 ||
                    seen->revision - 1 < j->truth->compact_revision;
    return may_lack || wrong(j, "no value before revision %lld", (long long)seen->revision);
}

static bool see_event(struct judging *j, const struct watch_change_seen *seen)
{
    const struct watch_change_seen *expected = next_of(j);
    if (!j->is_open)
        return wrong(j, "an event at %lld without a watch", (long long)seen->revision);
    if (seen->revision < j->next)
        return wrong(j, "an event at %lld again, or too early; the watch wants %lld",
                     (long long)seen->revision, (long long)j->next);
    if (expected == NULL)
        return wrong(j, "an event at %lld that never happened", (long long)seen->revision);
    if (expected->revision != seen->revision)
        return wrong(j, "an event at %lld where %lld comes next", (long long)seen->revision,
                     (long long)expected->revision);
    if (expected->key != seen->key || expected->value != seen->value)
        return wrong(j, "another event at %lld than happened", (long long)seen->revision);
    j->last = seen->revision;
    j->at++;
    return see_previous(j, seen);
}

static bool see_end(struct judging *j)
{
    const struct watch_change_seen *next = next_of(j);
    if (next != NULL && next->revision == j->last)
        return wrong(j, "revision %lld in two responses", (long long)j->last);
    j->next = j->last + 1;
    return true;
}

static bool see_progress(struct judging *j, int64_t revision)
{
    const struct watch_change_seen *next = next_of(j);
    if (next != NULL && next->revision <= revision)
        return wrong(j, "progress to %lld, but the event at %lld has not come", (long long)revision,
                     (long long)next->revision);
    if (revision >= j->next)
        j->next = revision + 1;
    return true;
}

static bool see_open(struct judging *j, int64_t revision)
{
    if (revision < j->next)
        return wrong(j, "it asks for %lld again", (long long)revision);
    const struct watch_change_seen *next = j->is_open ? next_of(j) : NULL;
    if (next != NULL && next->revision < revision)
        return wrong(j, "it goes on at %lld without the event at %lld", (long long)revision,
                     (long long)next->revision);
    j->is_open = true;
    j->next = revision;
    return true;
}

static bool see_compacted(struct judging *j, int64_t revision)
{
    if (revision <= j->next)
        return wrong(j, "compacted at %lld, it wants no more than %lld", (long long)revision,
                     (long long)j->next);
    if (revision > j->truth->compact_revision)
        return wrong(j, "compacted at %lld, which never was", (long long)revision);
    j->next = revision; /* what lies between is gone */
    return true;
}

static bool see(struct judging *j, const struct watch_sight *sight)
{
    switch (sight->kind) {
    case WATCH_SIGHT_OPEN:
        return see_open(j, sight->change.revision);
    case WATCH_SIGHT_EVENT:
        return see_event(j, &sight->change);
    case WATCH_SIGHT_END:
        return see_end(j);
    case WATCH_SIGHT_PROGRESS:
        return see_progress(j, sight->change.revision);
    case WATCH_SIGHT_COMPACTED:
        break;
    }
    return see_compacted(j, sight->change.revision);
}

bool watch_record_is_true(const struct watch_record *record, const struct watch_truth *truth,
                          bool complete, char *why, size_t why_bytes)
{
    struct judging j = {
        .record = record, .truth = truth, .next = INT64_MIN, .why = why, .why_bytes = why_bytes};
    for (size_t i = 0; i < record->count; i++) {
        if (!see(&j, &record->sights[i]))
            return false;
    }
    const struct watch_change_seen *next = next_of(&j);
    if (complete && j.is_open && next != NULL)
        return wrong(&j, "the event at %lld never came", (long long)next->revision);
    return true;
}
