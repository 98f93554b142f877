#include "base/assert.h"
#include "base/minmax.h"
#include "server/loops/snapshots.h"
#include "server/state/conf_state.h"
#include "server/state/v2_store.h"

/* ---- what the core asked for ---- */

static void begin_entries(struct consensus *c, const struct raft_fetch *wanted)
{
    struct wal_stat stat;
    wal_get_stat(c->wal, &stat);
    struct entries_fetch *fetch = NULL;
    if (wanted->first <= stat.durable_index)
        fetch = malloc(sizeof(*fetch));
    if (fetch == NULL) { /* as if they were gone */
        enum status ignored =
            raft_entries_read(c->raft, wanted->peer, (struct raft_log_id){0}, NULL, 0);
        (void)ignored;
        return;
    }
    fetch->job.kind = JOB_ENTRIES;
    fetch->peer = wanted->peer;
    fetch->first = wanted->first;
    fetch->last = min_u64(wanted->first + FETCH_ENTRIES_MAX - 1, stat.durable_index);
    fetch->bytes_max = wanted->bytes_max;
    fetch->count = 0;
    inbox_push(&c->loops->snapshots.inbox, &fetch->job.node);
}

static bool take_slot(struct loops *loops, uint32_t *out)
{
    for (uint32_t i = 0; i < LOOPS_SENDS_MAX; i++) {
        if ((atomic_fetch_or(&loops->snapshot_slots, 1U << i) & 1U << i) == 0) {
            *out = i;
            return true;
        }
    }
    return false;
}

static void give_slot(struct loops *loops, uint32_t slot)
{
    atomic_fetch_and(&loops->snapshot_slots, ~(1U << slot));
}

/* There is none now: the core asks again at the member's next answer to a heartbeat. */
static void offer_none(struct consensus *c, raft_id peer)
{
    enum status ignored = raft_snapshot_offer(c->raft, peer, NULL);
    (void)ignored;
}

static void begin_snapshot(struct consensus *c, raft_id peer)
{
    uint32_t slot;
    if (!take_slot(c->loops, &slot)) {
        offer_none(c, peer);
        return;
    }
    struct snapshot_send *send = calloc(1, sizeof(*send));
    if (send == NULL) {
        give_slot(c->loops, slot);
        offer_none(c, peer);
        return;
    }
    send->job.kind = JOB_SEND;
    send->loops = c->loops;
    send->peer = peer;
    send->slot = slot;
    buf_init(&send->members, V2_STORE_BYTES_MAX);
    inbox_push(&c->loops->applier.pins, &send->job.node);
}

void fetch_start(struct consensus *c, const struct raft_fetch *fetch)
{
    if (fetch->kind == RAFT_FETCH_ENTRIES)
        begin_entries(c, fetch);
    else
        begin_snapshot(c, fetch->peer);
}

/* ---- entries ---- */

enum status entries_fetch_step(struct loops *loops, struct entries_fetch *fetch)
{
    /* The one before only says what the others follow. */
    raft_index first = fetch->first > 1 ? fetch->first - 1 : 1;
    return wal_read(loops->options.wal, first, fetch->last, fetch->bytes_max, fetch->entries,
                    &fetch->count);
}

static enum status answer_entries(struct consensus *c, struct entries_fetch *fetch)
{
    struct raft_log_id before = {0};
    const struct raft_entry *entries = fetch->entries;
    uint32_t count = fetch->job.status == ST_OK ? fetch->count : 0;
    if (count > 0 && fetch->first > 1) {
        before = (struct raft_log_id){entries[0].index, entries[0].term};
        entries++;
        count--;
    }
    enum status st = raft_entries_read(c->raft, fetch->peer, before, entries, count);
    return st == ST_INVALID || st == ST_NO_MEMORY ? ST_OK : st;
}

/* ---- a snapshot on its way out ---- */

static void close_source(struct snapshot_source *source)
{
    snapshot_send_free(CONTAINER_OF(source, struct snapshot_send, source));
}

void snapshot_send_free(struct snapshot_send *send)
{
    pinned_file_free(&send->file);
    buf_deinit(&send->members);
    give_slot(send->loops, send->slot);
    free(send);
}

static enum status read_source(struct snapshot_source *source, uint8_t *into, size_t capacity,
                               size_t *out)
{
    struct snapshot_send *send = CONTAINER_OF(source, struct snapshot_send, source);
    struct slice bytes;
    *out = 0;
    enum status st = pinned_file_read(&send->file, capacity, &bytes);
    if (st != ST_OK)
        return st;
    if (bytes.len > 0) /* none at the end */
        memcpy(into, bytes.data, bytes.len);
    *out = bytes.len;
    return ST_OK;
}

static enum status prepare(struct snapshot_send *send)
{
    struct store_mark mark = store_pin_mark(send->file.pin);
    send->meta.last = (struct raft_log_id){mark.index, mark.term};
    enum status st = conf_state_decode(mark.conf_state, &send->meta.conf_state);
    if (st == ST_OK)
        st = v2_store_encode(send->loops->options.machine, mark.index, &send->members);
    return st;
}

/* Apply, between two entries. */
void fetch_pin(struct applier *a, struct snapshot_send *send)
{
    uint32_t reader = a->loops->options.snapshot_slot_first + send->slot;
    enum status st = pinned_file_take(&send->file, a->loops, reader);
    if (st == ST_OK)
        st = prepare(send);
    send->job.status = st;
    if (st == ST_OK)
        inbox_push(&a->loops->snapshots.inbox, &send->job.node);
    else
        inbox_push(&a->loops->consensus.answers, &send->job.node);
}

enum status snapshot_send_step(struct snapshot_send *send)
{
    bool done = false;
    enum status st = dbfile_writer_measure(send->file.writer, &done);
    if (st != ST_OK)
        return st;
    if (!done)
        return ST_CANCELED;
    send->source = (struct snapshot_source){.size = dbfile_writer_size(send->file.writer),
                                            .data = buf_slice(&send->members),
                                            .read = read_source,
                                            .close = close_source};
    return ST_OK;
}

static enum status answer_send(struct consensus *c, struct snapshot_send *send)
{
    bool usable = send->job.status == ST_OK;
    enum status st = raft_snapshot_offer(c->raft, send->peer, usable ? &send->meta : NULL);
    if (usable && st == ST_OK)
        list_push_back(&c->offers, &send->job.turn);
    else
        snapshot_send_free(send);
    return st == ST_INVALID || st == ST_NO_MEMORY ? ST_OK : st;
}

enum status fetch_answer(struct consensus *c, struct job *job)
{
    if (job->kind == JOB_SEND)
        return answer_send(c, CONTAINER_OF(job, struct snapshot_send, job));
    enum status st = answer_entries(c, CONTAINER_OF(job, struct entries_fetch, job));
    job_free(job);
    return st;
}

struct snapshot_send *fetch_take_offer(struct consensus *c, const struct raft_message *message)
{
    LIST_FOREACH(node, &c->offers)
    {
        struct snapshot_send *send = CONTAINER_OF(node, struct snapshot_send, job.turn);
        if (send->peer != message->to || send->meta.last.index != message->snapshot->last.index)
            continue;
        list_remove(node);
        return send;
    }
    return NULL;
}

void fetch_drop_offers(struct consensus *c)
{
    while (!list_is_empty(&c->offers))
        snapshot_send_free(
            CONTAINER_OF(list_pop_front(&c->offers), struct snapshot_send, job.turn));
}
