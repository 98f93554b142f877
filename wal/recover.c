/* wal/recover.c - what a start makes of the files. Segments form a chain, each one's first batch
 * naming where the one before ended; the chain is walked back from the newest, then read forward,
 * every batch checked. Where reading ends before the files do, a later batch that calls the bad one
 * durable makes it damage, and so does a store that has applied more than is left; anything else is
 * a torn tail: never acknowledged, cut, and never looked at again because the next segment says
 * where this one ended.
 *
 * Nothing on disk is changed before the verdict. */
#include "base/assert.h"
#include "base/minmax.h"
#include "wal/wal_private.h"

#include <inttypes.h>
#include <stdarg.h>

#define WAYS_OUT                                                                                   \
    "Nothing was changed. Ways out: remove this member from the cluster and add it again with an " \
    "empty data directory; or, when it is the only one, restore a snapshot ('cleatutl snapshot "   \
    "restore'), make a new cluster of what can be read ('cleatutl recover'), or cut the log "      \
    "there "                                                                                       \
    "('cleatutl log truncate') and lose what follows."

struct found_name {
    enum wal_name_kind kind;
    uint64_t number;
};

struct found {
    struct wal_segment *segment;   /* owned until handed over */
    struct wal_batch_header first; /* of its first batch; len 0: no sound one, an unused file */
    uint64_t end;                  /* on the chain: where its successor says that it ended, or 0 */
    bool on_chain;
};

struct scan {
    struct wal *wal;
    const struct wal_options *options;
    struct wal_report *report;
    struct found_name *names; /* owned */
    uint32_t names_count, names_capacity;
    enum status names_status;
    char foreign[WAL_NAME_BYTES];
    struct found *found; /* owned; by seq */
    uint32_t count;
    struct wal_reader reader;
    raft_term mark_term; /* of the entry at the store's mark, 0: not held */
    struct wal_batch_header last;
};

__attribute__((format(printf, 3, 4))) static enum status refuse(struct scan *scan, enum status st,
                                                                const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(scan->report->text, sizeof(scan->report->text), format, arguments);
    va_end(arguments);
    return st;
}

/* "the log is damaged: <what>. Entries 5 to 7 cannot be trusted. <ways out>" */
static enum status damaged(struct scan *scan, raft_index first, raft_index last, const char *what)
{
    scan->report->damage_first = first;
    scan->report->damage_last = max_u64(first, last);
    char entries[96];
    if (scan->report->damage_last == first)
        snprintf(entries, sizeof(entries), "Entry %" PRIu64 " and what follows cannot be trusted.",
                 first);
    else
        snprintf(entries, sizeof(entries),
                 "Entries %" PRIu64 " to %" PRIu64 " and what follows cannot be trusted.", first,
                 last);
    return refuse(scan, ST_CORRUPT, "the log in '%s' is damaged: %s. %s %s", scan->options->dir,
                  what, entries, WAYS_OUT);
}

/* ---- names ---- */

static void note_name(void *context, const char *name)
{
    struct scan *scan = context;
    struct found_name found = {0};
    found.kind = wal_name_parse(name, &found.number);
    if (found.kind == WAL_NAME_OTHER || scan->names_status != ST_OK)
        return;
    if (found.kind == WAL_NAME_FOREIGN) {
        snprintf(scan->foreign, sizeof(scan->foreign), "%s", name);
        return;
    }
    if (scan->names_count == scan->names_capacity) {
        uint32_t capacity = max_u32(16, scan->names_capacity * 2);
        struct found_name *grown = NULL;
        if (capacity <= WAL_SEGMENTS_MAX)
            grown = realloc(scan->names, capacity * sizeof(*grown));
        if (grown == NULL) {
            scan->names_status = ST_NO_MEMORY;
            return;
        }
        scan->names = grown;
        scan->names_capacity = capacity;
    }
    scan->names[scan->names_count++] = found;
}

static enum status sync_parent(struct wal *wal)
{
    char parent[WAL_PATH_BYTES];
    snprintf(parent, sizeof(parent), "%s", wal->dir);
    char *slash = strrchr(parent, '/');
    if (slash == NULL)
        return disk_sync_dir(wal->disk, ".");
    slash[slash == parent ? 1 : 0] = '\0';
    return disk_sync_dir(wal->disk, parent);
}

static enum status list_names(struct scan *scan)
{
    struct wal *wal = scan->wal;
    enum status st = disk_list(wal->disk, wal->dir, note_name, scan);
    if (st == ST_NOT_FOUND && scan->options->create) {
        st = disk_make_dir(wal->disk, wal->dir);
        if (st == ST_OK)
            st = sync_parent(wal);
    }
    if (st == ST_NOT_FOUND)
        return refuse(scan, st, "there is no log: the directory '%s' does not exist", wal->dir);
    if (st == ST_OK)
        st = scan->names_status;
    if (st != ST_OK)
        return refuse(scan, st, "cannot list '%s': %s", wal->dir, status_str(st));
    if (scan->foreign[0] != '\0')
        return refuse(scan, ST_INVALID,
                      "'%s' holds '%s', which is another program's log: give this member a data "
                      "directory of its own (etcd's is imported with 'cleatutl import')",
                      wal->dir, scan->foreign);
    return ST_OK;
}

/* ---- opening ---- */

static enum status open_file(struct wal *wal, const char name[WAL_NAME_BYTES],
                             struct wal_segment **out)
{
    *out = wal_segment_new();
    if (*out == NULL)
        return ST_NO_MEMORY;
    memcpy((*out)->name, name, WAL_NAME_BYTES);
    char path[WAL_PATH_BYTES];
    wal_path(wal, name, path);
    enum status st =
        disk_open(wal->disk, path, wal->read_only ? DISK_READ_ONLY : DISK_DIRECT, &(*out)->file);
    uint64_t size = 0;
    if (st == ST_OK)
        st = disk_size((*out)->file, &size);
    (*out)->bytes = size / WAL_BLOCK_BYTES * WAL_BLOCK_BYTES;
    return st;
}

static enum status read_head(struct scan *scan, struct found *found, uint64_t number)
{
    struct wal_segment *segment = found->segment;
    enum status st = wal_reader_open(&scan->reader, segment);
    struct slice block;
    if (st == ST_OK)
        st = wal_reader_view(&scan->reader, 0, WAL_BLOCK_BYTES, &block);
    struct wal_segment_header header = {0};
    if (st == ST_OK)
        st = wal_segment_header_decode(block, &header);
    if (st == ST_OK && (header.seq != number || number == 0 || number == UINT64_MAX))
        st = ST_CORRUPT;
    if (st == ST_NO_MEMORY || st == ST_IO)
        return refuse(scan, st, "cannot read '%s/%s': %s", scan->options->dir, segment->name,
                      status_str(st));
    if (st == ST_UNSUPPORTED)
        return refuse(scan, st, "'%s/%s' was written by a later version of this program",
                      scan->options->dir, segment->name);
    if (st != ST_OK)
        return refuse(scan, ST_CORRUPT,
                      "the log in '%s' is damaged: the first block of '%s' does not read as a "
                      "segment's. The entries in it cannot be trusted. " WAYS_OUT,
                      scan->options->dir, segment->name);
    if (header.life_id != scan->options->life_id && !scan->options->create)
        return refuse(scan, ST_INVALID,
                      "'%s/%s' belongs to another log (life id %016" PRIx64 ", this store's is "
                      "%016" PRIx64 "): the log and the store were not written together",
                      scan->options->dir, segment->name, header.life_id, scan->options->life_id);
    segment->seq = header.seq;
    segment->seed = header.seed;
    struct slice records;
    st = wal_reader_batch(&scan->reader, WAL_BLOCK_BYTES, &found->first, &records);
    if (st == ST_CORRUPT) {
        found->first.len = 0;
        st = ST_OK;
    }
    if (st != ST_OK)
        return refuse(scan, st, "cannot read '%s/%s': %s", scan->options->dir, segment->name,
                      status_str(st));
    return ST_OK;
}

static int compare_names(const void *a, const void *b)
{
    const struct found_name *x = a, *y = b;
    return x->number < y->number ? -1 : x->number > y->number;
}

static enum status open_segments(struct scan *scan)
{
    if (scan->names_count == 0)
        return ST_OK;
    qsort(scan->names, scan->names_count, sizeof(scan->names[0]), compare_names);
    scan->found = calloc(scan->names_count, sizeof(scan->found[0]));
    if (scan->found == NULL)
        return ST_NO_MEMORY;
    for (uint32_t i = 0; i < scan->names_count; i++) {
        if (scan->names[i].kind != WAL_NAME_SEGMENT)
            continue;
        char name[WAL_NAME_BYTES];
        wal_name_segment(name, scan->names[i].number);
        struct found *found = &scan->found[scan->count++];
        enum status st = open_file(scan->wal, name, &found->segment);
        if (st != ST_OK)
            return refuse(scan, st, "cannot open '%s/%s': %s", scan->options->dir, name,
                          status_str(st));
        st = read_head(scan, found, scan->names[i].number);
        if (st != ST_OK)
            return st;
        scan->wal->preparer.seq_next =
            max_u64(scan->wal->preparer.seq_next, found->segment->seq + 1);
    }
    return ST_OK;
}

/* ---- the chain ---- */

static struct found *find_seq(struct scan *scan, uint64_t seq)
{
    for (uint32_t i = 0; i < scan->count; i++) {
        if (scan->found[i].segment->seq == seq)
            return &scan->found[i];
    }
    return NULL;
}

/* The newest segment with a sound first batch, NULL when none has one. */
static struct found *newest_used(struct scan *scan)
{
    for (uint32_t i = scan->count; i > 0; i--) {
        if (scan->found[i - 1].first.len > 0)
            return &scan->found[i - 1];
    }
    return NULL;
}

static enum status walk_back(struct scan *scan, struct found *tail)
{
    struct found *at = tail, *oldest = tail;
    at->on_chain = true;
    while (at != NULL && at->first.previous.seq != 0) {
        const struct wal_position *previous = &at->first.previous;
        struct found *before = find_seq(scan, previous->seq);
        bool sound = before == NULL || (before->first.len > 0 && !before->on_chain &&
                                        before->segment->seq < at->segment->seq);
        if (!sound)
            return refuse(scan, ST_CORRUPT,
                          "the log in '%s' is damaged: the first batch of '%s' cannot be read, but "
                          "'%s' follows it. Its entries cannot be trusted. " WAYS_OUT,
                          scan->options->dir, before->segment->name, at->segment->name);
        if (before != NULL) {
            before->on_chain = true;
            before->end = previous->offset;
            oldest = before;
        }
        at = before;
    }
    for (uint32_t i = 0; i < scan->count; i++) {
        const struct found *other = &scan->found[i];
        if (!other->on_chain && other->first.len > 0)
            return refuse(scan, ST_CORRUPT,
                          "the log in '%s' is damaged: a segment between '%s' and '%s' is missing. "
                          "Its entries cannot be trusted. " WAYS_OUT,
                          scan->options->dir, other->segment->name, oldest->segment->name);
    }
    scan->wal->end = oldest->first.previous;
    /* A log that begins at its first batch begins at entry 1 (or with a SNAPSHOT). */
    scan->wal->has_base = oldest->first.batch_no == 1;
    return ST_OK;
}

/* ---- replay ---- */

static enum status replay_snapshot(struct scan *scan, const struct found *found,
                                   const struct wal_record *record)
{
    struct wal *wal = scan->wal;
    struct raft_conf_state conf_state;
    if (wal_conf_state_decode(record->payload, &conf_state) != ST_OK)
        return ST_CORRUPT;
    wal->snapshot.last = record->id;
    wal->snapshot.conf_state = conf_state;
    wal->snapshot_seq = found->segment->seq;
    if (record->flags & WAL_RECORD_RESTATED)
        return ST_OK;
    wal_extents_cut(wal, 0);
    wal->has_base = true;
    wal->first_index = record->id.index + 1;
    wal->last_index = record->id.index;
    scan->mark_term = 0;
    return ST_OK;
}

static enum status replay_entry(struct scan *scan, const struct wal_record *record, bool is_first)
{
    struct wal *wal = scan->wal;
    raft_index index = record->id.index;
    if (index == 0 || index == UINT64_MAX)
        return ST_CORRUPT;
    bool follows = !wal->has_base || index == wal->last_index + 1;
    bool truncates = is_first && wal->has_base && index <= wal->last_index;
    if (!follows && !truncates)
        return ST_CORRUPT;
    wal->has_base = true;
    wal->last_index = index;
    raft_index mark = scan->options->store_mark.index;
    if (is_first && index <= mark)
        scan->mark_term = 0;
    if (index == mark)
        scan->mark_term = record->id.term;
    return ST_OK;
}

/* Applies a batch whose bytes are sound. ST_CORRUPT: they contradict what came before. */
static enum status replay(struct scan *scan, struct found *found, uint64_t offset,
                          const struct wal_batch_header *header, struct slice records)
{
    struct wal *wal = scan->wal;
    raft_index first = 0, last = 0;
    while (records.len > 0) {
        struct wal_record record;
        if (wal_record_take(&records, &record) != ST_OK)
            return ST_CORRUPT;
        enum status st = ST_CORRUPT;
        if (record.type == WAL_RECORD_ENTRY)
            st = replay_entry(scan, &record, /* is_first= */ first == 0);
        else if (first == 0)
            st = replay_snapshot(scan, found, &record);
        if (st != ST_OK)
            return st;
        if (record.type == WAL_RECORD_ENTRY) {
            first = first == 0 ? record.id.index : first;
            last = record.id.index;
        }
    }
    if (first != header->first_index)
        return ST_CORRUPT;
    scan->report->batches_count++;
    scan->report->bytes += wal_padded(header->len);
    wal->hard_state = header->hard_state;
    wal->end = (struct wal_position){found->segment->seq, offset + wal_padded(header->len),
                                     header->batch_no, header->chain};
    scan->last = *header;
    if (first == 0)
        return ST_OK;
    found->segment->last_index = max_u64(found->segment->last_index, last);
    return wal_extents_add(wal, found->segment, offset, first, last);
}

static bool continues(const struct scan *scan, const struct found *found, uint64_t offset,
                      const struct wal_batch_header *header)
{
    const struct wal_position *end = &scan->wal->end, *previous = &header->previous;
    bool first_of_segment = offset == WAL_BLOCK_BYTES;
    return header->life_id == scan->wal->life_id && header->batch_no == end->batch_no + 1 &&
           previous->seq == end->seq && previous->offset == end->offset &&
           hash128_eq(previous->chain, end->chain) &&
           (first_of_segment || previous->seq == found->segment->seq);
}

/* Reads one segment of the chain from its first batch to its end, or for the newest to the first
 * batch that is not sound: *stopped_out is where. */
static enum status read_segment(struct scan *scan, struct found *found, uint64_t *stopped_out,
                                struct wal_batch_header *bad_out)
{
    enum status st = wal_reader_open(&scan->reader, found->segment);
    uint64_t offset = WAL_BLOCK_BYTES;
    while (st == ST_OK && (found->end == 0 || offset < found->end)) {
        struct wal_batch_header header;
        struct slice records;
        st = wal_reader_batch(&scan->reader, offset, &header, &records);
        if (st == ST_OK && !continues(scan, found, offset, &header))
            st = ST_CORRUPT;
        if (st == ST_CORRUPT) {
            *bad_out = header;
            break;
        }
        if (st == ST_OK)
            st = replay(scan, found, offset, &header, records);
        if (st == ST_CORRUPT) {
            char what[160];
            snprintf(what, sizeof(what),
                     "batch %" PRIu64 " in '%s' at byte %" PRIu64 " contradicts the ones before it",
                     header.batch_no, found->segment->name, offset);
            return damaged(scan, scan->wal->last_index + 1, header.first_index, what);
        }
        offset += wal_padded(header.len);
    }
    *stopped_out = offset;
    if (st == ST_CORRUPT && found->end == 0)
        return ST_OK;
    if (st == ST_OK || st == ST_CORRUPT) {
        if (st == ST_OK && offset == found->end)
            return ST_OK;
        char what[160];
        snprintf(what, sizeof(what),
                 "batch %" PRIu64 " in '%s' at byte %" PRIu64
                 " is not what was written, and a later segment follows it",
                 scan->wal->end.batch_no + 1, found->segment->name, offset);
        return damaged(scan, scan->wal->last_index + 1, 0, what);
    }
    return refuse(scan, st, "cannot read '%s/%s' at byte %" PRIu64 ": %s", scan->options->dir,
                  found->segment->name, offset, status_str(st));
}

/* ---- torn or damaged ---- */

struct evidence {
    uint64_t durable_no;    /* the highest seen behind the bad batch */
    raft_index first_index; /* of the first batch there that has entries */
    bool any;
};

static enum status look_for_evidence(struct scan *scan, const struct found *found, uint64_t from,
                                     struct evidence *evidence)
{
    enum status st = wal_reader_open(&scan->reader, found->segment);
    for (uint64_t offset = from; st == ST_OK && offset < scan->reader.file_bytes;
         offset += WAL_BLOCK_BYTES) {
        struct wal_batch_header header;
        st = wal_reader_header(&scan->reader, offset, &header);
        if (st == ST_CORRUPT) {
            st = ST_OK;
            continue;
        }
        if (st != ST_OK || header.life_id != scan->wal->life_id ||
            header.batch_no <= scan->wal->end.batch_no + 1)
            continue;
        evidence->any = true;
        evidence->durable_no = max_u64(evidence->durable_no, header.durable_no);
        if (evidence->first_index == 0)
            evidence->first_index = header.first_index;
    }
    return st;
}

/* tail is NULL when no segment has a sound batch at all. */
static enum status judge_end(struct scan *scan, const struct found *tail, uint64_t stopped,
                             const struct wal_batch_header *bad)
{
    struct evidence evidence = {0};
    for (uint32_t i = 0; i < scan->count; i++) {
        const struct found *found = &scan->found[i];
        if (tail != NULL && found->segment->seq < tail->segment->seq)
            continue;
        uint64_t from = found == tail ? stopped + WAL_BLOCK_BYTES : WAL_BLOCK_BYTES;
        enum status st = look_for_evidence(scan, found, from, &evidence);
        if (st != ST_OK)
            return refuse(scan, st, "cannot read '%s/%s': %s", scan->options->dir,
                          found->segment->name, status_str(st));
        if (tail == NULL || found->segment->seq > tail->segment->seq)
            scan->report->torn_tail |= found->first.batch_no != 0;
    }
    uint64_t bad_no = scan->wal->end.batch_no + 1;
    if (!evidence.any || evidence.durable_no < bad_no) {
        scan->report->torn_tail |= evidence.any || bad->len != 0;
        return ST_OK;
    }
    char what[224];
    snprintf(what, sizeof(what),
             "batch %" PRIu64 " in '%s' at byte %" PRIu64
             " is not what was written, and a later batch says that it was durable",
             bad_no, tail == NULL ? scan->found[0].segment->name : tail->segment->name, stopped);
    raft_index first = scan->wal->last_index + 1;
    raft_index last = evidence.first_index > first ? evidence.first_index - 1 : first;
    return damaged(scan, first, last, what);
}

/* The store must not know more than the log, nor something else. */
static enum status judge_mark(struct scan *scan)
{
    struct wal *wal = scan->wal;
    struct raft_log_id mark = scan->options->store_mark;
    struct raft_log_id snapshot = wal->snapshot.last;
    char what[224];
    raft_index first = wal->has_base ? wal->first_index : 1;
    if (snapshot.index > mark.index)
        return ST_OK; /* a received snapshot is durable in the log before the store is switched */
    if (mark.index > wal->last_index) {
        snprintf(what, sizeof(what),
                 "it ends at entry %" PRIu64 ", but the store has applied entry %" PRIu64,
                 wal->last_index, mark.index);
        return damaged(scan, wal->last_index + 1, mark.index, what);
    }
    bool at_snapshot = mark.index == snapshot.index && mark.index != 0;
    if (first > mark.index + (mark.index == 0 || at_snapshot)) {
        snprintf(what, sizeof(what),
                 "it begins at entry %" PRIu64 ", but the store has applied only up to %" PRIu64,
                 first, mark.index);
        return damaged(scan, mark.index + 1, first - 1, what);
    }
    raft_term term = scan->mark_term == 0 && at_snapshot ? snapshot.term : scan->mark_term;
    if (mark.index == 0 || term == mark.term)
        return ST_OK;
    snprintf(what, sizeof(what),
             "its entry %" PRIu64 " is of term %" PRIu64 ", the one that the store applied of term "
             "%" PRIu64 ": the two have different histories",
             mark.index, term, mark.term);
    return damaged(scan, mark.index, wal->last_index, what);
}

/* ---- handing over ---- */

/* What was read may have been only in the page cache of a killed process. */
static enum status make_durable(struct scan *scan, const struct found *tail)
{
    for (uint32_t i = 0; i < scan->count; i++) {
        struct found *found = &scan->found[i];
        if (found->segment->seq < tail->segment->seq)
            continue;
        enum status st = disk_sync(found->segment->file);
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}

static enum status read_chain(struct scan *scan)
{
    struct found *tail = newest_used(scan);
    struct wal_batch_header bad = {0};
    uint64_t stopped = WAL_BLOCK_BYTES;
    if (tail != NULL) {
        enum status st = walk_back(scan, tail);
        for (uint32_t i = 0; st == ST_OK && i < scan->count; i++) {
            if (scan->found[i].on_chain)
                st = read_segment(scan, &scan->found[i], &stopped, &bad);
        }
        if (st != ST_OK)
            return st;
    }
    enum status st = judge_end(scan, tail, stopped, &bad);
    if (st == ST_OK && !scan->options->mark_is_unknown)
        st = judge_mark(scan);
    if (st == ST_OK && tail != NULL && !scan->wal->read_only)
        st = make_durable(scan, tail);
    return st;
}

static enum status take_over_spares(struct scan *scan)
{
    struct wal *wal = scan->wal;
    struct wal_preparer *p = &wal->preparer;
    for (uint32_t i = 0; i < scan->names_count; i++) {
        const struct found_name *found = &scan->names[i];
        if (found->kind == WAL_NAME_SEGMENT)
            continue;
        p->number_next = max_u64(p->number_next, found->number + 1);
        char name[WAL_NAME_BYTES], path[WAL_PATH_BYTES];
        if (found->kind == WAL_NAME_PART)
            wal_name_part(name, found->number);
        else
            wal_name_spare(name, found->number);
        wal_path(wal, name, path);
        enum status st;
        if (found->kind == WAL_NAME_PART || p->spares_count == WAL_SPARES_MAX) {
            st = disk_remove(wal->disk, path);
        } else {
            struct wal_segment *segment = NULL;
            st = open_file(wal, name, &segment);
            if (st != ST_OK)
                wal_segment_free(segment);
            else
                p->spares[p->spares_count++] = segment;
        }
        if (st != ST_OK)
            return refuse(scan, st, "cannot take over '%s': %s", path, status_str(st));
    }
    return disk_sync_dir(wal->disk, wal->dir);
}

static void hand_over(struct scan *scan)
{
    struct wal *wal = scan->wal;
    for (uint32_t i = 0; i < scan->count; i++) {
        struct found *found = &scan->found[i];
        /* Without any batch one file keeps its number: see take_ready_of(). */
        bool stands_for_all = wal->end.batch_no == 0 && i + 1 == scan->count;
        if (found->on_chain || stands_for_all) {
            list_push_back(&wal->segments, &found->segment->link);
            scan->report->segments_count++;
        } else if (wal->read_only) {
            continue;
        } else {
            wal_preparer_retire(wal, found->segment); /* numbered, but nothing came of it */
        }
        found->segment = NULL;
    }
    wal->durable_no = wal->end.batch_no;
    wal->durable_index = wal->last_index;
    wal->unclosed = scan->last.len > WAL_BATCH_HEADER_BYTES;
    wal->active_ns = clock_monotonic_ns(wal->clock);
}

/* A start goes on in a segment of its own: what lies behind the end of the last one is never
 * written over. A full disk is not a reason to refuse: wal_poll() will tell. */
static enum status first_segment(struct scan *scan)
{
    struct wal *wal = scan->wal;
    struct wal_preparer *p = &wal->preparer;
    atomic_store(&p->starving, true);
    uint64_t reserve_bytes = wal->reserve_bytes;
    wal->reserve_bytes = 0; /* without this segment the store's room is of no use */
    while (atomic_load(&p->ready_count) == 0 && atomic_load(&p->status) == ST_OK)
        wal_preparer_step(wal, clock_monotonic_ns(wal->clock));
    atomic_store(&p->starving, false);
    wal->reserve_bytes = reserve_bytes;
    enum status st = atomic_load(&p->status);
    if (st == ST_OK || (st == ST_NO_SPACE && !scan->options->create))
        return ST_OK;
    return refuse(scan, st, "cannot prepare a segment in '%s': %s", wal->dir, status_str(st));
}

static enum status recover(struct scan *scan)
{
    struct wal *wal = scan->wal;
    wal->preparer.seq_next = 1;
    enum status st = list_names(scan);
    if (st == ST_OK)
        st = open_segments(scan);
    if (st != ST_OK)
        return st;
    if (scan->options->create) {
        if (newest_used(scan) != NULL)
            return refuse(scan, ST_EXISTS, "'%s' holds a log already", wal->dir);
        wal->has_base = true;
    } else if (scan->count == 0) {
        return refuse(scan, ST_NOT_FOUND, "there is no log in '%s'", wal->dir);
    }
    wal->first_index = 1;
    st = scan->options->create ? ST_OK : read_chain(scan);
    if (wal->read_only) {
        hand_over(scan); /* what was read before any damage too */
        return st;
    }
    if (st == ST_OK)
        st = take_over_spares(scan);
    if (st != ST_OK)
        return st;
    hand_over(scan);
    return first_segment(scan);
}

enum status wal_recover(struct wal *wal, const struct wal_options *options,
                        struct wal_recovered *recovered, struct wal_report *report)
{
    struct scan scan = {.wal = wal, .options = options, .report = report};
    wal_reader_init(&scan.reader);
    enum status st = recover(&scan);
    wal_reader_deinit(&scan.reader);
    for (uint32_t i = 0; i < scan.count; i++)
        wal_segment_free(scan.found[i].segment);
    free(scan.found);
    free(scan.names);
    recovered->hard_state = wal->hard_state;
    recovered->hard_state.commit = min_u64(wal->hard_state.commit, wal->last_index);
    recovered->snapshot = wal->snapshot;
    recovered->first_index = wal->has_base ? wal->first_index : 1;
    recovered->last_index = wal->last_index;
    return st;
}
