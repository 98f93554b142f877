/* raft/log.h - the log as consensus sees it: a window in memory over the newest entries, of which
 * the last stretch is not durable yet. Entry i sits in ring[i & (capacity - 1)], so nothing moves
 * when the window slides. Beside it a run-length table of terms, for the search after a conflict.
 *
 *   before_first | first ... unstable_offset-1 | unstable_offset ... in_progress_offset-1 | ...
 * last (compacted)        durable here              handed out for writing           to be handed
 * out
 *
 * Everything here belongs to one struct raft; nothing is thread-safe. */
#ifndef RAFT_LOG_H
#define RAFT_LOG_H
#include "base/status.h"
#include "raft/memory.h"
#include "raft/types.h"

/* A stretch of entries with one term, up to the next run's first or the end of the log. */
struct term_run {
    raft_index first;
    raft_term term;
};

struct raft_log {
    const struct raft_memory *memory; /* borrowed */
    struct raft_log_id before_first;  /* the newest entry below the window */
    raft_index last;                  /* before_first.index: the window is empty */
    struct raft_entry *ring;
    uint32_t ring_capacity; /* a power of two */
    struct term_run *runs;
    uint32_t runs_count, runs_capacity;

    raft_index unstable_offset;            /* first entry not known to be durable */
    raft_index in_progress_offset;         /* first entry not handed out for writing */
    uint64_t window_bytes, unstable_bytes; /* of payloads */

    raft_index committed, applying, applied;
    uint64_t applying_bytes; /* handed out and not applied */
    uint64_t applying_bytes_max;
    bool applying_paused;
    bool apply_unstable; /* hand out committed entries that are not durable here yet */

    /* A snapshot takes the place of everything up to before_first and is not installed yet; applied
     * lags behind until it is. */
    bool installing;
    bool install_in_progress; /* handed out */
};

/* Size of an entry as etcd counts it: encoded as raftpb.Entry. */
uint64_t raft_entry_bytes(const struct raft_entry *entry);
static inline uint64_t raft_payload_bytes(const struct raft_entry *entry)
{
    return entry->payload == NULL ? 0 : entry->payload->len;
}

void log_init(struct raft_log *log, const struct raft_memory *memory,
              struct raft_log_id before_first);
void log_deinit(struct raft_log *log);

static inline raft_index log_first(const struct raft_log *log)
{
    return log->before_first.index + 1;
}

/* first <= index <= last. Borrowed until the next change of the log. */
const struct raft_entry *log_at(const struct raft_log *log, raft_index index);
/* Term of an entry, of the one before the window too. False: compacted, or beyond the end. */
bool log_term(const struct raft_log *log, raft_index index, raft_term *out);
struct raft_log_id log_last_id(const struct raft_log *log);
/* {index, term} is in the log. */
bool log_matches(const struct raft_log *log, struct raft_log_id id);
/* A log ending in id is at least as complete as this one (Raft paper 5.4.1). */
bool log_is_up_to_date(const struct raft_log *log, struct raft_log_id id);
/* The largest index <= the given whose term is <= term, or is unknown (term 0 in the answer): the
 * next guess after a refused append, from either side. */
struct raft_log_id log_find_conflict(const struct raft_log *log, raft_index index, raft_term term);

/* Room for count more entries of at most terms_count terms. Errors: ST_NO_MEMORY (nothing changed).
 */
CHECKED enum status log_reserve(struct raft_log *log, uint64_t count, uint32_t terms_count);
/* Appends consecutive entries, dropping whatever is at or above the first of them; references to
 * the payloads are taken. Room must have been reserved; the first must be above committed. The
 * durable log id falls with a truncation in this same step. */
void log_append(struct raft_log *log, const struct raft_entry *entries, uint32_t count);

/* Last durable entry. Not a maximum: a truncation lowers it. Nothing counts while a snapshot takes
 * the place of all there was. */
struct raft_log_id log_durable(const struct raft_log *log);
/* Entries to be handed out for writing: [in_progress_offset, last]. */
static inline uint64_t log_writable_count(const struct raft_log *log)
{
    return log->last + 1 - log->in_progress_offset;
}
static inline bool log_has_unstable(const struct raft_log *log)
{
    return log->last >= log->unstable_offset;
}
void log_accept_in_progress(struct raft_log *log);
/* The log is durable up to id. Ignored unless that very entry is still waiting for it. */
void log_stable_to(struct raft_log *log, struct raft_log_id id);

/* Replaces the whole log by a snapshot that ends with id, above committed. */
void log_restore(struct raft_log *log, struct raft_log_id id);
/* The snapshot that ends at index is installed: ignored when a later one has taken its place. */
void log_installed(struct raft_log *log, raft_index index);

void log_commit_to(struct raft_log *log, raft_index index); /* never lowers; index <= last */
/* Committed entries to be handed out now: applying + 1 to *last_out; false: none, or paused until
 * what is outstanding has been applied. */
bool log_next_committed(const struct raft_log *log, raft_index *last_out, uint64_t *bytes_out);
void log_accept_applying(struct raft_log *log, raft_index last, uint64_t bytes);
void log_applied_to(struct raft_log *log, raft_index index, uint64_t bytes);
/* An entry above applied, up to last (committed or less), changes the configuration. */
bool log_has_conf_change(const struct raft_log *log, raft_index last);

/* Slides the window: drops entries up to index, but never one that is not durable and applied. */
void log_compact(struct raft_log *log, raft_index index);
void log_check(const struct raft_log *log); /* asserts this file's invariants */
#endif
