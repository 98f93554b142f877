#include "tests/sim/watchers.h"

#include "base/hash.h"
#include "base/list.h"
#include "base/minmax.h"
#include "base/wire.h"
#include "server/watch/watch.h"
#include "tests/history/watch_record.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* cmocka.h wants the three above */
#include <cmocka.h>

#include <stdlib.h>

#define RETRY_NS (100 * NS_PER_MS)
#define CATCH_UP_NS (60 * NS_PER_S)
#define KEY_TEXT_BYTES 8U

struct viewer {
    struct watchers *watchers;
    uint32_t number;
    struct watch_record record;
    char key[KEY_TEXT_BYTES]; /* "": all keys */
    uint64_t slow_ns_max;
    int64_t next;    /* the revision to go on with; 0: from now on */
    bool connected;  /* the stream has not ended */
    bool is_created; /* and the watcher is there */
    bool leaving;    /* the stream is being closed */
    uint32_t member;
    bool in_flight;
    uint64_t due_ns; /* for the next thing it does */
    struct watch_stream stream;
    uint32_t refs;
};

struct watchers {
    struct cluster *cluster;
    struct viewer viewers[WATCHERS_MAX];
    uint32_t count;
    bool is_finishing;
    struct watchers_stat stat;
};

static uint64_t draw(const struct viewer *viewer, uint64_t bound)
{
    return rng_below(&viewer->watchers->cluster->rng, bound);
}

/* ---- what it sees ---- */

static void note(struct viewer *viewer, enum watch_sight_kind kind,
                 const struct watch_change_seen *change)
{
    assert_int_equal(watch_record_add(&viewer->record, kind, change), ST_OK);
}

static void note_revision(struct viewer *viewer, enum watch_sight_kind kind, int64_t revision)
{
    const struct watch_change_seen change = {.revision = revision};
    note(viewer, kind, &change);
}

static uint64_t value_of(struct slice record)
{
    uint64_t hash = hash64_seeded(record, /* seed= */ 0);
    return hash == 0 ? 1 : hash;
}

static void see_event(struct viewer *viewer, struct slice encoded)
{
    struct watch_change_seen change = {0};
    struct slice record = SLICE_EMPTY;
    bool is_delete = false;
    while (encoded.len > 0) {
        struct wire_field field;
        assert_int_equal(wire_next(&encoded, &field), ST_OK);
        if (field.number == 1)
            is_delete = field.value != 0;
        if (field.number == 2)
            record = field.bytes;
        if (field.number == 3) {
            change.has_previous = true;
            change.previous = value_of(field.bytes);
        }
    }
    struct mvcc_kv kv;
    assert_int_equal(mvcc_kv_decode(record, &kv), ST_OK);
    change.revision = kv.mod_revision;
    change.key = hash64(kv.key);
    change.value = is_delete ? 0 : value_of(record);
    note(viewer, WATCH_SIGHT_EVENT, &change);
    viewer->next = kv.mod_revision + 1;
    viewer->watchers->stat.events_count++;
}

static void see_events(struct viewer *viewer, const struct watch_message *message)
{
    for (uint32_t i = 0; i < message->pieces_count; i++) {
        struct slice rest = message->pieces[i].bytes;
        while (rest.len > 0) {
            struct wire_field field;
            assert_int_equal(wire_next(&rest, &field), ST_OK);
            see_event(viewer, field.bytes);
        }
    }
    note_revision(viewer, WATCH_SIGHT_END, 0);
}

static void see_message(struct viewer *viewer, const struct watch_message *message)
{
    if (message->created) {
        viewer->is_created = true;
        if (viewer->next == 0) {
            viewer->next = message->revision + 1;
            note_revision(viewer, WATCH_SIGHT_OPEN, viewer->next);
        }
    } else if (message->canceled) {
        note_revision(viewer, WATCH_SIGHT_COMPACTED, message->compact_revision);
        viewer->next = message->compact_revision;
        viewer->watchers->stat.compacted_count++;
        viewer->leaving = true; /* with the next thing it does */
    } else if (message->pieces_count > 0) {
        see_events(viewer, message);
    } else {
        note_revision(viewer, WATCH_SIGHT_PROGRESS, message->revision);
        viewer->next = max_i64(viewer->next, message->revision + 1);
        viewer->watchers->stat.progress_count++;
    }
}

static struct viewer *viewer_of(struct watch_stream *stream)
{
    return CONTAINER_OF(stream, struct viewer, stream);
}

static enum status take(struct watch_stream *stream, const struct watch_message *message)
{
    struct viewer *viewer = viewer_of(stream);
    assert_false(viewer->in_flight);
    viewer->in_flight = true;
    if (!viewer->leaving) /* what comes later it does not read any more */
        see_message(viewer, message);
    viewer->due_ns = viewer->watchers->cluster->now_ns + draw(viewer, viewer->slow_ns_max + 1);
    return ST_OK;
}

static void end(struct watch_stream *stream, enum watch_end why)
{
    struct viewer *viewer = viewer_of(stream);
    struct watchers *w = viewer->watchers;
    if (why != WATCH_END_CLOSED && why != WATCH_END_STOPPED && why != WATCH_END_NO_LEADER &&
        why != WATCH_END_BROKEN)
        cluster_fail(w->cluster, "the stream of watcher %u ended: %d", viewer->number, why);
    viewer->connected = false;
    viewer->due_ns = w->cluster->now_ns + draw(viewer, RETRY_NS);
}

static void ref_viewer(struct watch_stream *stream)
{
    viewer_of(stream)->refs++;
}

static void unref_viewer(struct watch_stream *stream)
{
    viewer_of(stream)->refs--;
}

static const struct watch_sink sink = {
    .send = take, .end = end, .ref = ref_viewer, .unref = unref_viewer};

/* ---- what it does ---- */

static void connect_to(struct viewer *viewer, struct cluster_member *m)
{
    viewer->connected = true;
    viewer->member = m->number;
    viewer->in_flight = viewer->is_created = viewer->leaving = false;
    viewer->due_ns = UINT64_MAX;
    viewer->watchers->stat.streams_count++;
    const struct watch_create create = {
        .key = viewer->key[0] == '\0' ? SLICE("\0") : slice_from_str(viewer->key),
        .range_end = viewer->key[0] == '\0' ? SLICE("\0") : SLICE_EMPTY,
        .start_revision = viewer->next,
        .kinds = WATCH_PREVIOUS,
        .progress_notify = true};
    if (viewer->next != 0)
        note_revision(viewer, WATCH_SIGHT_OPEN, viewer->next);
    watch_stream_open(m->watch, &viewer->stream, &sink, /* wants_leader= */ draw(viewer, 2) == 0);
    assert_int_equal(watch_stream_create(&viewer->stream, &create), ST_OK);
}

static void try_connect(struct viewer *viewer)
{
    struct cluster *cluster = viewer->watchers->cluster;
    struct cluster_member *m = &cluster->members[draw(viewer, CLUSTER_MEMBERS_MAX)];
    bool is_well = !viewer->watchers->is_finishing || cluster_takes_part(cluster, m->number);
    if (viewer->refs == 0 && m->running && is_well)
        connect_to(viewer, m);
    else
        viewer->due_ns = cluster->now_ns + 1 + draw(viewer, RETRY_NS / 10);
}

static void do_something(struct viewer *viewer)
{
    viewer->due_ns = UINT64_MAX;
    if (!viewer->connected) {
        try_connect(viewer);
        return;
    }
    if (viewer->in_flight) {
        viewer->in_flight = false;
        watch_stream_sent(&viewer->stream);
    }
    if (viewer->leaving || (!viewer->watchers->is_finishing && draw(viewer, 40) == 0)) {
        viewer->leaving = true;
        watch_stream_close(&viewer->stream);
    } else if (draw(viewer, 4) == 0) {
        assert_int_equal(watch_stream_ask_progress(&viewer->stream), ST_OK);
    }
}

void watchers_step(struct watchers *w)
{
    for (uint32_t i = 0; i < w->count; i++) {
        if (w->viewers[i].due_ns <= w->cluster->now_ns)
            do_something(&w->viewers[i]);
    }
}

uint64_t watchers_next_ns(const struct watchers *w)
{
    uint64_t next_ns = UINT64_MAX;
    for (uint32_t i = 0; i < w->count; i++)
        next_ns = min_u64(next_ns, w->viewers[i].due_ns);
    return next_ns;
}

/* ---- life ---- */

struct watchers *watchers_new(struct cluster *cluster, uint32_t count, uint32_t keys_count)
{
    struct watchers *w = calloc(1, sizeof(*w));
    assert_non_null(w);
    assert_in_range(count, 1, WATCHERS_MAX);
    w->cluster = cluster;
    w->count = count;
    for (uint32_t i = 0; i < count; i++) {
        struct viewer *viewer = &w->viewers[i];
        *viewer = (struct viewer){.watchers = w, .number = i};
        viewer->slow_ns_max = draw(viewer, 3) == 0 ? 3 * NS_PER_S : 5 * NS_PER_MS;
        if (draw(viewer, 2) == 0)
            snprintf(viewer->key, sizeof(viewer->key), "k%03u", (unsigned)draw(viewer, keys_count));
        uint64_t key = viewer->key[0] == '\0' ? 0 : hash64(slice_from_str(viewer->key));
        watch_record_init(&viewer->record, key, /* wants_previous= */ true);
    }
    return w;
}

void watchers_free(struct watchers *w)
{
    for (uint32_t i = 0; i < w->count; i++) {
        assert_int_equal(w->viewers[i].refs, 0);
        watch_record_deinit(&w->viewers[i].record);
    }
    free(w);
}

void watchers_get_stat(const struct watchers *w, struct watchers_stat *out)
{
    *out = w->stat;
}

/* ---- the judgement ---- */

static void judge(const struct watchers *w, const struct watch_truth *truth, bool complete)
{
    char why[256] = "";
    for (uint32_t i = 0; i < w->count; i++) {
        if (!watch_record_is_true(&w->viewers[i].record, truth, complete, why, sizeof(why)))
            cluster_fail(w->cluster, "watcher %u of '%s': %s", i, w->viewers[i].key, why);
    }
}

static struct watch_truth truth_of(const struct cluster *cluster, struct watch_change_seen **owned)
{
    const struct cluster_history *history = &cluster->history;
    struct watch_truth truth = {.count = history->events_count, .compact_revision = -1};
    *owned = calloc(history->events_count + 1, sizeof(**owned));
    assert_non_null(*owned);
    for (uint64_t i = 0; i < history->events_count; i++) {
        const struct cluster_event *event = &history->events[i];
        (*owned)[i] = (struct watch_change_seen){.revision = event->revision,
                                                 .key = event->key_hash,
                                                 .value = event->is_delete ? 0 : event->hash};
    }
    for (uint32_t i = 0; i < CLUSTER_MEMBERS_MAX; i++) {
        int64_t current, compact;
        if (!cluster->members[i].running)
            continue;
        mvcc_revisions(cluster->members[i].mvcc, &current, &compact);
        truth.compact_revision = max_i64(truth.compact_revision, compact);
    }
    truth.changes = *owned;
    return truth;
}

void watchers_judge(struct watchers *w)
{
    struct cluster *cluster = w->cluster;
    uint64_t until_ns = cluster->now_ns + CATCH_UP_NS;
    w->is_finishing = true;
    for (uint32_t i = 0; i < w->count; i++) {
        struct viewer *viewer = &w->viewers[i];
        viewer->slow_ns_max = 0;
        if (viewer->connected && !viewer->leaving && !cluster_takes_part(cluster, viewer->member)) {
            viewer->leaving = true;
            viewer->due_ns = UINT64_MAX;
            watch_stream_close(&viewer->stream);
        }
    }
    while (cluster->now_ns < until_ns) {
        watchers_step(w);
        uint64_t next_ns = watchers_next_ns(w);
        cluster_step(cluster, min_u64(next_ns, until_ns));
    }
    struct watch_change_seen *owned;
    struct watch_truth truth = truth_of(cluster, &owned);
    judge(w, &truth, /* complete= */ true);
    free(owned);
}
