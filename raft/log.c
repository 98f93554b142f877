#include "raft/log.h"

#include "base/assert.h"
#include "base/bytes.h"
#include "base/minmax.h"
#include "raft/limits.h"

uint64_t raft_entry_bytes(const struct raft_entry *entry)
{
    /* Type, Term and Index are always written, each behind a one-byte tag; Data when present. */
    uint64_t bytes = 1 + 1 + 1 + varint_size(entry->term) + 1 + varint_size(entry->index);
    if (entry->payload != NULL)
        bytes += 1 + varint_size(entry->payload->len) + entry->payload->len;
    return bytes;
}

void log_init(struct raft_log *log, const struct raft_memory *memory,
              struct raft_log_id before_first)
{
    *log = (struct raft_log){
        .memory = memory,
        .before_first = before_first,
        .last = before_first.index,
        .unstable_offset = before_first.index + 1,
        .in_progress_offset = before_first.index + 1,
        .committed = before_first.index,
        .applying = before_first.index,
        .applied = before_first.index,
        .applying_bytes_max = UINT64_MAX,
    };
}

static struct raft_entry *slot(const struct raft_log *log, raft_index index)
{
    ASSERT(log->ring_capacity > 0);
    return &log->ring[index & (log->ring_capacity - 1)];
}

static uint64_t window_count(const struct raft_log *log)
{
    return log->last - log->before_first.index;
}

static void drop_payload(struct raft_log *log, raft_index index)
{
    struct raft_entry *entry = slot(log, index);
    log->window_bytes -= raft_payload_bytes(entry);
    raft_payload_unref(entry->payload);
    entry->payload = NULL;
}

void log_deinit(struct raft_log *log)
{
    for (raft_index i = log_first(log); i <= log->last; i++)
        drop_payload(log, i);
    raft_memory_free(log->memory, log->ring);
    raft_memory_free(log->memory, log->runs);
    log->ring = NULL;
    log->runs = NULL;
    log->last = log->before_first.index;
}

const struct raft_entry *log_at(const struct raft_log *log, raft_index index)
{
    ASSERT(index > log->before_first.index);
    ASSERT(index <= log->last);
    return slot(log, index);
}

bool log_term(const struct raft_log *log, raft_index index, raft_term *out)
{
    *out = 0;
    if (index < log->before_first.index || index > log->last)
        return false;
    *out = index == log->before_first.index ? log->before_first.term : slot(log, index)->term;
    return true;
}

static struct raft_log_id id_at(const struct raft_log *log, raft_index index)
{
    raft_term term;
    bool known = log_term(log, index, &term);
    ASSERT(known);
    return (struct raft_log_id){.index = index, .term = term};
}

struct raft_log_id log_last_id(const struct raft_log *log)
{
    return id_at(log, log->last);
}

bool log_matches(const struct raft_log *log, struct raft_log_id id)
{
    raft_term term;
    return log_term(log, id.index, &term) && term == id.term;
}

bool log_is_up_to_date(const struct raft_log *log, struct raft_log_id id)
{
    struct raft_log_id last = log_last_id(log);
    return id.term > last.term || (id.term == last.term && id.index >= last.index);
}

struct raft_log_id log_find_conflict(const struct raft_log *log, raft_index index, raft_term term)
{
    if (index > log->last)
        return (struct raft_log_id){.index = index, .term = 0};
    for (uint32_t run = log->runs_count; run > 0; run--) {
        const struct term_run *r = &log->runs[run - 1];
        if (r->first > index)
            continue;
        if (r->term <= term)
            return (struct raft_log_id){.index = index, .term = r->term};
        index = r->first - 1;
    }
    if (index == log->before_first.index) {
        if (log->before_first.term <= term)
            return log->before_first;
        index--; /* only index 0 has term 0, so this one is above it */
    }
    return (struct raft_log_id){.index = index, .term = 0};
}

enum status log_reserve(struct raft_log *log, uint64_t count, uint32_t terms_count)
{
    uint64_t wanted = window_count(log) + count;
    if (wanted > LOG_ENTRIES_MAX)
        return ST_NO_MEMORY;
    enum status st =
        raft_memory_reserve(log->memory, (void **)&log->runs, &log->runs_capacity,
                            (uint64_t)log->runs_count + terms_count, sizeof(*log->runs));
    if (st != ST_OK || wanted <= log->ring_capacity)
        return st;
    uint32_t capacity = log->ring_capacity == 0 ? 64 : log->ring_capacity;
    while (capacity < wanted)
        capacity *= 2;
    struct raft_entry *ring =
        raft_memory_resize(log->memory, NULL, (size_t)capacity * sizeof(*ring));
    if (ring == NULL)
        return ST_NO_MEMORY;
    for (raft_index i = log_first(log); i <= log->last; i++)
        ring[i & (capacity - 1)] = *slot(log, i);
    raft_memory_free(log->memory, log->ring);
    log->ring = ring;
    log->ring_capacity = capacity;
    return ST_OK;
}

/* Drops everything at or above first; what was durable there no longer counts as such. */
static void truncate_from(struct raft_log *log, raft_index first)
{
    ASSERT(first > log->committed);
    ASSERT(first > log->before_first.index);
    for (raft_index i = log->last; i >= first; i--) {
        if (i >= log->unstable_offset)
            log->unstable_bytes -= raft_payload_bytes(slot(log, i));
        drop_payload(log, i);
    }
    log->last = first - 1;
    while (log->runs_count > 0 && log->runs[log->runs_count - 1].first >= first)
        log->runs_count--;
    log->unstable_offset = min_u64(log->unstable_offset, first);
    log->in_progress_offset = min_u64(log->in_progress_offset, first);
}

void log_append(struct raft_log *log, const struct raft_entry *entries, uint32_t count)
{
    ASSERT(count > 0);
    ASSERT(entries[0].index <= log->last + 1);
    if (entries[0].index <= log->last)
        truncate_from(log, entries[0].index);
    ASSERT(window_count(log) + count <= log->ring_capacity);
    for (uint32_t i = 0; i < count; i++) {
        ASSERT(entries[i].index == log->last + 1);
        ASSERT(entries[i].term >= log_last_id(log).term);
        if (log->runs_count == 0 || log->runs[log->runs_count - 1].term != entries[i].term) {
            ASSERT(log->runs_count < log->runs_capacity);
            log->runs[log->runs_count++] =
                (struct term_run){.first = entries[i].index, .term = entries[i].term};
        }
        *slot(log, entries[i].index) = entries[i];
        raft_payload_ref(entries[i].payload);
        log->last++;
        log->window_bytes += raft_payload_bytes(&entries[i]);
        log->unstable_bytes += raft_payload_bytes(&entries[i]);
    }
}

struct raft_log_id log_durable(const struct raft_log *log)
{
    if (log->installing)
        return (struct raft_log_id){0};
    return id_at(log, log->unstable_offset - 1);
}

void log_accept_in_progress(struct raft_log *log)
{
    log->in_progress_offset = log->last + 1;
}

void log_stable_to(struct raft_log *log, struct raft_log_id id)
{
    if (id.index < log->unstable_offset || id.index > log->last)
        return; /* truncated meanwhile, or known already */
    if (slot(log, id.index)->term != id.term)
        return; /* overwritten meanwhile: the newer write will answer for itself */
    for (raft_index i = log->unstable_offset; i <= id.index; i++)
        log->unstable_bytes -= raft_payload_bytes(slot(log, i));
    log->unstable_offset = id.index + 1;
    log->in_progress_offset = max_u64(log->in_progress_offset, log->unstable_offset);
}

void log_restore(struct raft_log *log, struct raft_log_id id)
{
    ASSERT(id.index > log->committed);
    for (raft_index i = log_first(log); i <= log->last; i++)
        drop_payload(log, i);
    log->runs_count = 0;
    log->unstable_bytes = 0;
    ASSERT(log->window_bytes == 0);
    log->before_first = id;
    log->last = id.index;
    log->unstable_offset = log->in_progress_offset = id.index + 1;
    log->committed = id.index;
    log->installing = true;
    log->install_in_progress = false;
}

void log_installed(struct raft_log *log, raft_index index)
{
    if (!log->installing || log->before_first.index != index)
        return;
    ASSERT(log->install_in_progress);
    log->installing = log->install_in_progress = false;
}

void log_commit_to(struct raft_log *log, raft_index index)
{
    if (index <= log->committed)
        return;
    ASSERT(index <= log->last);
    log->committed = index;
}

static raft_index appliable_last(const struct raft_log *log)
{
    if (log->apply_unstable)
        return log->committed;
    return min_u64(log->committed, log->unstable_offset - 1);
}

bool log_next_committed(const struct raft_log *log, raft_index *last_out, uint64_t *bytes_out)
{
    raft_index last = appliable_last(log);
    if (log->installing || log->applying_paused || last <= log->applying)
        return false;
    uint64_t budget = log->applying_bytes_max - log->applying_bytes;
    uint64_t bytes = 0;
    raft_index i = log->applying;
    while (i < last) {
        uint64_t size = raft_entry_bytes(slot(log, i + 1));
        if (i > log->applying && bytes + size > budget)
            break;
        bytes += size;
        i++;
    }
    *last_out = i;
    *bytes_out = bytes;
    return true;
}

void log_accept_applying(struct raft_log *log, raft_index last, uint64_t bytes)
{
    ASSERT(last > log->applying);
    ASSERT(last <= log->committed);
    log->applying = last;
    log->applying_bytes += bytes;
    /* A batch that was cut short also pauses: what comes next does not fit either. */
    log->applying_paused =
        log->applying_bytes >= log->applying_bytes_max || last < appliable_last(log);
}

void log_applied_to(struct raft_log *log, raft_index index, uint64_t bytes)
{
    ASSERT(index >= log->applied);
    ASSERT(index <= log->committed);
    log->applied = index;
    log->applying = max_u64(log->applying, index);
    log->applying_bytes -= min_u64(log->applying_bytes, bytes);
    log->applying_paused = log->applying_bytes >= log->applying_bytes_max;
}

bool log_has_conf_change(const struct raft_log *log, raft_index last)
{
    ASSERT(last <= log->committed);
    ASSERT(!log->installing);
    for (raft_index i = log->applied + 1; i <= last; i++) {
        if (slot(log, i)->type != RAFT_ENTRY_NORMAL)
            return true;
    }
    return false;
}

void log_compact(struct raft_log *log, raft_index index)
{
    index = min_u64(index, min_u64(log->applied, log->unstable_offset - 1));
    if (index <= log->before_first.index)
        return;
    struct raft_log_id id = id_at(log, index);
    for (raft_index i = log_first(log); i <= index; i++)
        drop_payload(log, i);
    log->before_first = id;
    uint32_t gone = 0;
    while (gone + 1 < log->runs_count && log->runs[gone + 1].first <= index + 1)
        gone++;
    if (log->last == index)
        gone = log->runs_count;
    if (gone > 0)
        memmove(log->runs, log->runs + gone, (log->runs_count - gone) * sizeof(*log->runs));
    log->runs_count -= gone;
    if (log->runs_count > 0)
        log->runs[0].first = max_u64(log->runs[0].first, index + 1);
}

void log_check(const struct raft_log *log)
{
    ASSERT(log->committed >= log->applying);
    ASSERT(log->applying >= log->applied);
    ASSERT(log->committed <= log->last);
    ASSERT(log_first(log) <= log->committed + 1);
    ASSERT(log->installing || log->before_first.index <= log->applied);
    ASSERT(log->installing || !log->install_in_progress);
    ASSERT(log->unstable_offset > log->before_first.index);
    ASSERT(log->unstable_offset <= log->in_progress_offset);
    ASSERT(log->in_progress_offset <= log->last + 1);
    uint64_t window_bytes = 0, unstable_bytes = 0;
    uint32_t run = 0;
    raft_term term = log->before_first.term;
    for (raft_index i = log_first(log); i <= log->last; i++) {
        const struct raft_entry *entry = slot(log, i);
        ASSERT(entry->index == i);
        ASSERT(entry->term >= term);
        if (i == log_first(log) || entry->term != term) {
            ASSERT(run < log->runs_count);
            ASSERT(log->runs[run].first == i);
            ASSERT(log->runs[run].term == entry->term);
            run++;
        }
        term = entry->term;
        window_bytes += raft_payload_bytes(entry);
        unstable_bytes += i >= log->unstable_offset ? raft_payload_bytes(entry) : 0;
    }
    ASSERT(run == log->runs_count);
    ASSERT(window_bytes == log->window_bytes);
    ASSERT(unstable_bytes == log->unstable_bytes);
}
