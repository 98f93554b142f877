#include "tests/watch/world.h"

#include "base/list.h"
#include "base/lock.h"
#include "base/wire.h"
#include "server/watch/watch_private.h"
#include "tests/fakes/backend_mem.h"
#include "tests/mvcc/key_space.h"

#include <stdarg.h>
#include <stdlib.h>

#define STREAMS 3U
#define WATCHERS_MAX 64U
#define ANSWERS_MAX 256U
#define MESSAGE_BYTES 120U
#define PROGRESS_NS (10 * NS_PER_S)

static const char *world_name;

_Noreturn __attribute__((format(printf, 1, 2))) static void wrong(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "%s: the hub and the model differ: ", world_name);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    abort();
}
#define EXPECT(condition, ...)  \
    do {                        \
        if (!(condition))       \
            wrong(__VA_ARGS__); \
    } while (0)

/* ---- the model ---- */

struct change {
    int64_t revision;
    bool tombstone;
    uint8_t key[4];
    uint32_t key_len;
    uint8_t *record; /* owned */
    size_t record_len;
};

/* What was asked for, as far as answers follow. */
struct answer {
    bool is_create, refused;
    struct watch_create create;
    uint8_t key[2][4];
    int64_t id;
};

struct model_watcher {
    bool live, compacted;
    int64_t id, start; /* the revision of the first event that it wants */
    struct answer asked;
    uint64_t next;     /* of the changes: all before were given or are not wanted */
    bool mid_revision; /* a fragment ended inside one */
    int64_t seen;      /* revision of the last event */
};

struct client {
    struct world *world;
    struct watch_stream stream;
    uint32_t refs;
    bool open, ended, in_flight;
    struct answer answers[ANSWERS_MAX]; /* a ring */
    uint32_t answers_first, answers_count;
    int64_t ids[WATCHERS_MAX]; /* as the hub has them once it has done what was asked */
    uint32_t ids_count;
    int64_t next_id;
    struct model_watcher watchers[WATCHERS_MAX];
    uint32_t progress_asked;
};

/* What was done, to be done again. */
struct deed {
    enum { DEED_PUT, DEED_DELETE, DEED_COMPACT } kind;
    uint8_t key[4], end[4];
    uint32_t key_len, end_len;
    int64_t revision; /* to compact at */
    bool ends;        /* the transaction */
};

struct world {
    struct slice script;
    struct key_space ks;
    struct watch_hub *hub;
    struct change *changes;
    uint64_t changes_count, changes_capacity;
    struct deed *deeds;
    uint64_t deeds_count, deeds_capacity;
    struct client clients[STREAMS];
    struct watch_read *reads[WATCH_READS_MAX];
    uint64_t values; /* every put has its own */
    uint32_t stores;
    bool repeating; /* what was done before */
    struct world_figures figures;
};

static uint32_t draw(struct world *w, uint32_t bound)
{
    if (w->script.len == 0)
        return 0;
    uint32_t value = w->script.data[0];
    w->script = slice_make(w->script.data + 1, w->script.len - 1);
    return value % bound;
}

static int64_t current_of(const struct world *w)
{
    int64_t current, compact;
    mvcc_revisions(w->ks.mvcc, &current, &compact);
    return current;
}

static int64_t compact_of(const struct world *w)
{
    int64_t current, compact;
    mvcc_revisions(w->ks.mvcc, &current, &compact);
    return compact;
}

/* ---- changes ---- */

static void note_change(void *context, struct revision revision, bool tombstone,
                        struct slice record)
{
    struct world *w = context;
    if (w->repeating)
        return;
    if (w->changes_count == w->changes_capacity) {
        w->changes_capacity = w->changes_capacity * 2 + 64;
        w->changes = realloc(w->changes, w->changes_capacity * sizeof(*w->changes));
        EXPECT(w->changes != NULL, "no memory");
    }
    struct change *change = &w->changes[w->changes_count++];
    struct slice key = watch_record_key(record);
    *change = (struct change){.revision = revision.main,
                              .tombstone = tombstone,
                              .key_len = (uint32_t)key.len,
                              .record = malloc(record.len + 1),
                              .record_len = record.len};
    memcpy(change->key, key.data, key.len);
    memcpy(change->record, record.data, record.len);
    w->figures.changes++;
}

static struct slice key_of(const struct change *change)
{
    return slice_make(change->key, change->key_len);
}

static void do_deed(struct world *w, struct key_space *ks, const struct deed *deed, bool *writing)
{
    char value[32];
    int64_t deleted;
    enum status st = ST_OK;
    if (deed->kind == DEED_COMPACT) {
        st = mvcc_compact(ks->mvcc, deed->revision);
        EXPECT(st == ST_OK || st == ST_COMPACTED, "compaction: %s", status_str(st));
        key_space_end_entry(ks);
        return;
    }
    if (!*writing)
        st = mvcc_write_begin(ks->mvcc);
    *writing = true;
    snprintf(value, sizeof(value), "%llu", (unsigned long long)w->values++);
    struct slice key = slice_make(deed->key, deed->key_len);
    const struct mvcc_range range = {key, slice_make(deed->end, deed->end_len)};
    if (deed->kind == DEED_PUT)
        st = mvcc_write_put(ks->mvcc, key, slice_from_str(value), 0, NULL, NULL);
    else
        st = mvcc_write_delete(ks->mvcc, &range, NULL, NULL, &deleted);
    EXPECT(st == ST_OK, "write: %s", status_str(st));
    if (!deed->ends)
        return;
    *writing = false;
    (void)mvcc_write_end(ks->mvcc);
    key_space_end_entry(ks);
}

static void keep_deed(struct world *w, const struct deed *deed)
{
    if (w->deeds_count == w->deeds_capacity) {
        w->deeds_capacity = w->deeds_capacity * 2 + 64;
        w->deeds = realloc(w->deeds, w->deeds_capacity * sizeof(*w->deeds));
        EXPECT(w->deeds != NULL, "no memory");
    }
    w->deeds[w->deeds_count++] = *deed;
}

static uint32_t draw_key(struct world *w, uint8_t key[4])
{
    key[0] = (uint8_t)('a' + draw(w, 4));
    key[1] = (uint8_t)('a' + draw(w, 3));
    return 1 + draw(w, 2);
}

static struct deed draw_write(struct world *w, bool ends)
{
    struct deed deed = {.kind = draw(w, 4) == 0 ? DEED_DELETE : DEED_PUT, .ends = ends};
    deed.key_len = draw_key(w, deed.key);
    if (deed.kind == DEED_DELETE && draw(w, 2) == 0)
        deed.end_len = draw_key(w, deed.end);
    return deed;
}

/* Into ks alone, and remembered. A transaction changes no key twice. */
static void write_some(struct world *w, struct key_space *ks)
{
    uint32_t count = draw(w, 8) == 0 ? 1 + draw(w, 5) : 1;
    bool writing = false;
    for (uint32_t i = 0; i < count; i++) {
        struct deed deed = draw_write(w, i + 1 == count);
        if (count > 1) {
            deed.kind = DEED_PUT;
            deed.key[0] = (uint8_t)('a' + i);
        }
        keep_deed(w, &deed);
        do_deed(w, ks, &deed, &writing);
    }
}

static void write_many(struct world *w)
{
    uint32_t count = 20 + draw(w, 60);
    for (uint32_t i = 0; i < count; i++) {
        struct deed deed = {
            .kind = DEED_PUT, .ends = true, .key = {(uint8_t)('a' + i % 4)}, .key_len = 1};
        bool writing = false;
        keep_deed(w, &deed);
        do_deed(w, &w->ks, &deed, &writing);
    }
}

static void compact(struct world *w)
{
    int64_t low = compact_of(w), high = current_of(w);
    if (high <= low || high < 2)
        return;
    int64_t wanted = high - (int64_t)draw(w, 30);
    struct deed deed = {.kind = DEED_COMPACT, .revision = wanted > 0 ? wanted : 1};
    bool writing = false;
    keep_deed(w, &deed);
    do_deed(w, &w->ks, &deed, &writing);
    if (draw(w, 2) == 0)
        key_space_trim(&w->ks);
}

/* ---- a received state ---- */

/* Everything again, and more, in a store of its own; then that takes the place of ours. */
static void adopt(struct world *w)
{
    struct key_space other;
    char path[64];
    snprintf(path, sizeof(path), "watch-world-%u", w->stores++);
    key_space_init(&other, w->ks.ops, path);
    other.readers_count = w->ks.readers_count;
    key_space_open(&other);
    mvcc_add_event_sink(other.mvcc, note_change, w);
    uint64_t values = w->values;
    bool writing = false;
    w->values = 0;
    w->repeating = true;
    for (uint64_t i = 0; i < w->deeds_count; i++)
        do_deed(w, &other, &w->deeds[i], &writing);
    w->repeating = false;
    EXPECT(w->values == values, "not the same again");
    for (uint32_t i = 0, count = 1 + draw(w, 6); i < count; i++)
        write_some(w, &other);
    while (other.index <= w->ks.index)
        key_space_end_entry(&other);
    key_space_commit(&other);
    struct lock *own = other.lock;
    mvcc_close(other.mvcc);
    store_close(other.store);
    lock_free(own);
    struct store_options options = {.backend = w->ks.ops,
                                    .backend_options = {.path = path,
                                                        .life_id = KEY_SPACE_LIFE_ID,
                                                        .map_bytes_max = 4ULL << 30},
                                    .lock = w->ks.lock,
                                    .clock = &w->ks.clock,
                                    .readers_count = w->ks.readers_count};
    enum status st = store_open(&options, &other.store);
    struct mvcc_options mvcc = {.store = other.store,
                                .lock = w->ks.lock,
                                .life_id = KEY_SPACE_LIFE_ID,
                                .readers_count = w->ks.readers_count};
    if (st == ST_OK)
        st = mvcc_open(&mvcc, &other.mvcc);
    EXPECT(st == ST_OK, "open: %s", status_str(st));
    w->ks.index = store_opened_at(other.store).index;
    key_space_commit(&w->ks); /* nothing sealed is left */
    mvcc_adopt(w->ks.mvcc, other.mvcc);
    w->figures.adopted++;
}

/* ---- what clients see ---- */

static bool is_wanted(const struct model_watcher *watcher, const struct change *change)
{
    const struct watch_create *create = &watcher->asked.create;
    struct slice key = key_of(change), end = create->range_end;
    if (change->revision < watcher->start)
        return false;
    if (create->kinds & (change->tombstone ? WATCH_NO_DELETE : WATCH_NO_PUT))
        return false;
    if (end.len == 0)
        return slice_eq(key, create->key);
    bool is_open = end.len == 1 && end.data[0] == 0;
    return slice_cmp(key, create->key) >= 0 && (is_open || slice_cmp(key, end) < 0);
}

static const struct change *next_wanted(struct world *w, struct model_watcher *watcher)
{
    while (watcher->next < w->changes_count && !is_wanted(watcher, &w->changes[watcher->next]))
        watcher->next++;
    return watcher->next < w->changes_count ? &w->changes[watcher->next] : NULL;
}

static const struct change *before(const struct world *w, const struct change *change)
{
    const struct change *found = NULL;
    for (const struct change *c = w->changes; c->revision < change->revision; c++) {
        if (slice_eq(key_of(c), key_of(change)))
            found = c;
    }
    return found == NULL || found->tombstone ? NULL : found;
}

struct seen_event {
    bool is_delete;
    struct slice kv, prev_kv;
    bool has_previous;
};

static struct seen_event decode_event(struct slice bytes)
{
    struct seen_event event = {0};
    while (bytes.len > 0) {
        struct wire_field field;
        EXPECT(wire_next(&bytes, &field) == ST_OK, "an event cannot be decoded");
        if (field.number == 1)
            event.is_delete = field.value == 1;
        else if (field.number == 2)
            event.kv = field.bytes;
        else
            event.prev_kv = field.bytes;
        event.has_previous |= field.number == 3;
    }
    return event;
}

static void check_previous(const struct world *w, const struct model_watcher *watcher,
                           const struct change *change, const struct seen_event *event)
{
    bool asked = (watcher->asked.create.kinds & WATCH_PREVIOUS) != 0;
    const struct change *previous = asked ? before(w, change) : NULL;
    if (!event->has_previous)
        EXPECT(previous == NULL || change->revision - 1 < compact_of(w),
               "no value before revision %lld", (long long)change->revision);
    else
        EXPECT(previous != NULL &&
                   slice_eq(event->prev_kv, slice_make(previous->record, previous->record_len)),
               "a wrong value before revision %lld", (long long)change->revision);
}

static void check_event(struct world *w, struct model_watcher *watcher, struct slice bytes,
                        int64_t *revision_out)
{
    const struct change *change = next_wanted(w, watcher);
    struct seen_event event = decode_event(bytes);
    struct mvcc_kv kv;
    EXPECT(change != NULL, "watcher %lld: an event too many", (long long)watcher->id);
    EXPECT(mvcc_kv_decode(event.kv, &kv) == ST_OK, "a kv that cannot be decoded");
    EXPECT(event.is_delete == change->tombstone && slice_eq(kv.key, key_of(change)) &&
               kv.mod_revision == change->revision,
           "watcher %lld: %.*s at %lld instead of %.*s at %lld", (long long)watcher->id,
           (int)kv.key.len, (const char *)kv.key.data, (long long)kv.mod_revision,
           (int)change->key_len, (const char *)change->key, (long long)change->revision);
    if (!change->tombstone)
        EXPECT(slice_eq(event.kv, slice_make(change->record, change->record_len)),
               "another record");
    else
        EXPECT(kv.version == 0 && kv.create_revision == 0 && kv.value.len == 0,
               "a deletion says too much");
    check_previous(w, watcher, change, &event);
    *revision_out = change->revision;
    watcher->next++;
    watcher->seen = change->revision;
    w->figures.events++;
}

static struct model_watcher *watcher_by_id(struct client *client, int64_t id)
{
    for (uint32_t i = 0; i < WATCHERS_MAX; i++) {
        if (client->watchers[i].live && client->watchers[i].id == id)
            return &client->watchers[i];
    }
    wrong("a message for watcher %lld, which there is not", (long long)id);
}

static void see_events(struct world *w, struct client *client, const struct watch_message *message)
{
    struct model_watcher *watcher = watcher_by_id(client, message->watch_id);
    int64_t revision = 0, first = 0;
    EXPECT(!watcher->compacted, "events after the end");
    for (uint32_t i = 0; i < message->pieces_count; i++) {
        struct slice part = message->pieces[i].bytes;
        while (part.len > 0) {
            struct wire_field field;
            EXPECT(wire_next(&part, &field) == ST_OK && field.number == 11, "not an event");
            check_event(w, watcher, field.bytes, &revision);
            first = first == 0 ? revision : first;
        }
    }
    const struct change *next = next_wanted(w, watcher);
    bool whole = next == NULL || next->revision != revision;
    EXPECT(message->fragment || whole, "a revision in two messages");
    EXPECT(message->revision >= revision && message->revision <= current_of(w),
           "a header of %lld with events to %lld", (long long)message->revision,
           (long long)revision);
    EXPECT(!message->fragment || watcher->asked.create.fragment, "a fragment nobody asked for");
    w->figures.merged += first != revision;
    w->figures.fragments += message->fragment;
}

/* Everything up to revision was given to it. */
static void check_progress(struct world *w, struct model_watcher *watcher, int64_t revision)
{
    const struct change *next = watcher->compacted ? NULL : next_wanted(w, watcher);
    EXPECT(!watcher->compacted, "progress of a watcher that has ended");
    EXPECT(next == NULL || next->revision > revision,
           "watcher %lld: progress to %lld without the event at %lld", (long long)watcher->id,
           (long long)revision, (long long)next->revision);
}

static void see_progress(struct world *w, struct client *client,
                         const struct watch_message *message)
{
    w->figures.progress++;
    EXPECT(message->revision <= current_of(w), "progress into the future");
    if (message->watch_id != -1 || client->progress_asked == 0) {
        struct model_watcher *watcher = watcher_by_id(client, message->watch_id);
        EXPECT(watcher->asked.create.progress_notify, "progress nobody asked for");
        check_progress(w, watcher, message->revision);
        EXPECT(message->revision >= watcher->seen, "progress to %lld after an event at %lld",
               (long long)message->revision, (long long)watcher->seen);
        return;
    }
    client->progress_asked--;
    for (uint32_t i = 0; i < WATCHERS_MAX; i++) {
        if (client->watchers[i].live)
            check_progress(w, &client->watchers[i], message->revision);
    }
}

static struct answer take_answer(struct client *client)
{
    EXPECT(client->answers_count > 0, "an answer to nothing");
    struct answer answer = client->answers[client->answers_first];
    client->answers_first = (client->answers_first + 1) % ANSWERS_MAX;
    client->answers_count--;
    answer.create.key.data = answer.key[0];
    answer.create.range_end.data = answer.key[1];
    return answer;
}

static void see_created(struct world *w, struct client *client, const struct watch_message *message)
{
    struct answer answer = take_answer(client);
    EXPECT(answer.is_create, "created instead of canceled");
    EXPECT(answer.refused == message->canceled, "refused: %d", message->canceled);
    EXPECT(message->watch_id == (answer.refused ? -1 : answer.id), "id %lld instead of %lld",
           (long long)message->watch_id, (long long)answer.id);
    if (answer.refused)
        return;
    struct model_watcher *watcher = client->watchers;
    while (watcher->live)
        watcher++;
    *watcher = (struct model_watcher){.live = true, .id = answer.id, .asked = answer};
    watcher->asked.create.key.data = watcher->asked.key[0];
    watcher->asked.create.range_end.data = watcher->asked.key[1];
    int64_t start = answer.create.start_revision;
    watcher->start = start != 0 ? start : message->revision + 1;
    EXPECT(message->revision <= current_of(w), "created in the future");
}

static void see_canceled(struct world *w, struct client *client,
                         const struct watch_message *message)
{
    struct model_watcher *watcher = watcher_by_id(client, message->watch_id);
    if (message->compact_revision != 0) {
        EXPECT(!watcher->compacted && message->revision == 0, "compacted twice");
        EXPECT(watcher->start < message->compact_revision, "compacted at %lld, begun at %lld",
               (long long)message->compact_revision, (long long)watcher->start);
        watcher->compacted = true;
        w->figures.compacted++;
        return;
    }
    struct answer answer = take_answer(client);
    EXPECT(!answer.is_create && answer.id == message->watch_id, "canceled the wrong one");
    watcher->live = false;
}

static enum status see(struct watch_stream *stream, const struct watch_message *message)
{
    struct client *client = CONTAINER_OF(stream, struct client, stream);
    struct world *w = client->world;
    EXPECT(!client->in_flight && !client->ended, "two messages at once");
    client->in_flight = true;
    if (message->created)
        see_created(w, client, message);
    else if (message->canceled)
        see_canceled(w, client, message);
    else if (message->pieces_count > 0)
        see_events(w, client, message);
    else
        see_progress(w, client, message);
    return ST_OK;
}

static void see_end(struct watch_stream *stream, enum watch_end why)
{
    struct client *client = CONTAINER_OF(stream, struct client, stream);
    EXPECT(why == WATCH_END_CLOSED || why == WATCH_END_STOPPED, "the stream ended: %d", why);
    client->ended = true;
}

static void ref_client(struct watch_stream *stream)
{
    CONTAINER_OF(stream, struct client, stream)->refs++;
}

static void unref_client(struct watch_stream *stream)
{
    CONTAINER_OF(stream, struct client, stream)->refs--;
}

static const struct watch_sink sink = {
    .send = see, .end = see_end, .ref = ref_client, .unref = unref_client};

/* ---- what clients do ---- */

static void open_client(struct world *w, struct client *client)
{
    *client = (struct client){.world = w, .open = true};
    watch_stream_open(w->hub, &client->stream, &sink, /* wants_leader= */ false);
}

static struct answer *add_answer(struct client *client)
{
    struct answer *answer =
        &client->answers[(client->answers_first + client->answers_count++) % ANSWERS_MAX];
    *answer = (struct answer){0};
    return answer;
}

static bool has_id(const struct client *client, int64_t id)
{
    for (uint32_t i = 0; i < client->ids_count; i++) {
        if (client->ids[i] == id)
            return true;
    }
    return false;
}

static void expect_id(struct client *client, struct answer *answer)
{
    struct slice end = answer->create.range_end;
    bool is_open = end.len == 1 && end.data[0] == 0;
    answer->refused = (end.len > 0 && !is_open && slice_cmp(answer->create.key, end) >= 0) ||
                      (answer->create.watch_id != 0 && has_id(client, answer->create.watch_id));
    if (answer->refused)
        return;
    answer->id = answer->create.watch_id;
    if (answer->id == 0) {
        while (has_id(client, client->next_id))
            client->next_id++;
        answer->id = client->next_id++;
    }
    client->ids[client->ids_count++] = answer->id;
}

static void create(struct world *w, struct client *client)
{
    if (client->answers_count == ANSWERS_MAX || client->ids_count == WATCHERS_MAX / 2)
        return;
    struct answer *answer = add_answer(client);
    struct watch_create *create = &answer->create;
    answer->is_create = true;
    create->key = slice_make(answer->key[0], draw_key(w, answer->key[0]));
    create->range_end = slice_make(answer->key[1], draw_key(w, answer->key[1]));
    if (draw(w, 2) == 0)
        create->range_end.len = 0;
    else if (draw(w, 3) == 0)
        answer->key[1][0] = 0, create->range_end.len = 1;
    switch (draw(w, 4)) {
    case 0:
        create->start_revision = current_of(w) - (int64_t)draw(w, 60);
        break;
    case 1:
        create->start_revision = current_of(w) + (int64_t)draw(w, 6);
        break;
    case 2:
        create->start_revision = -(int64_t)draw(w, 3);
        break;
    default:
        break;
    }
    if (draw(w, 4) == 0)
        create->watch_id = (int64_t)draw(w, 5) * 2 - 2;
    create->kinds = draw(w, 4) == 0 ? draw(w, 8) : draw(w, 2) * WATCH_PREVIOUS;
    create->fragment = draw(w, 3) == 0;
    create->progress_notify = draw(w, 2) == 0;
    expect_id(client, answer);
    w->figures.creates++;
    EXPECT(watch_stream_create(&client->stream, create) == ST_OK, "no memory");
}

static void cancel(struct world *w, struct client *client)
{
    int64_t id = client->ids_count > 0 ? client->ids[draw(w, client->ids_count)] : 7;
    if (client->answers_count == ANSWERS_MAX)
        return;
    for (uint32_t i = 0; i < client->ids_count; i++) {
        if (client->ids[i] != id)
            continue;
        client->ids[i] = client->ids[--client->ids_count];
        add_answer(client)->id = id;
        break;
    }
    EXPECT(watch_stream_cancel(&client->stream, id) == ST_OK, "no memory");
}

static void ask_progress(struct client *client)
{
    client->progress_asked++;
    EXPECT(watch_stream_ask_progress(&client->stream) == ST_OK, "no memory");
}

static void take_message(struct client *client)
{
    if (!client->in_flight || client->ended)
        return;
    client->in_flight = false;
    watch_stream_sent(&client->stream);
}

/* The stream's place is used again once nobody holds it. */
static void close_client(struct world *w, struct client *client)
{
    watch_stream_close(&client->stream);
    watch_step(w->hub, w->ks.now_ns);
    EXPECT(client->ended && client->refs == 0, "a closed stream is still held");
    open_client(w, client);
}

/* ---- the hub's surroundings ---- */

static void keep_read(void *context, struct watch_read *read, uint32_t number)
{
    struct world *w = context;
    EXPECT(w->reads[number] == NULL, "a read is given twice");
    w->reads[number] = read;
}

static bool run_read(struct world *w, uint32_t number)
{
    struct watch_read *read = w->reads[number];
    if (read == NULL)
        return false;
    w->reads[number] = NULL;
    w->figures.reads++;
    w->figures.values += read->batches_count;
    watch_read_run(read, /* reader_slot= */ 1);
    return true;
}

/* What waits for a watcher is bounded, however slow its client. */
static void check_bounds(const struct world *w)
{
    EXPECT(w->hub->waiting_bytes <= WATCH_WAITING_BYTES, "%zu bytes wait", w->hub->waiting_bytes);
    LIST_FOREACH(s, &w->hub->streams)
    {
        const struct watch_stream *stream = CONTAINER_OF(s, struct watch_stream, node);
        LIST_FOREACH(node, &stream->watchers)
        {
            const struct watcher *watcher = CONTAINER_OF(node, struct watcher, in_stream);
            EXPECT(watcher->pending <= WATCH_PENDING_MAX, "%u entries wait", watcher->pending);
        }
    }
}

static void act(struct world *w)
{
    struct client *client = &w->clients[draw(w, STREAMS)];
    switch (draw(w, 24)) {
    case 0:
    case 1:
    case 2:
        create(w, client);
        break;
    case 3:
        cancel(w, client);
        break;
    case 4:
        ask_progress(client);
        break;
    case 5:
        if (draw(w, 6) == 0)
            close_client(w, client);
        break;
    case 6:
        write_many(w);
        break;
    case 7:
        compact(w);
        break;
    case 8:
        if (draw(w, 8) == 0)
            adopt(w);
        break;
    case 9:
        w->ks.now_ns += draw(w, 16) * NS_PER_S;
        break;
    case 10:
    case 11:
        run_read(w, draw(w, WATCH_READS_MAX));
        break;
    case 12:
    case 13:
    case 14:
        take_message(client);
        break;
    case 15:
    case 16:
    case 17:
        watch_step(w->hub, w->ks.now_ns);
        check_bounds(w);
        break;
    case 18:
        key_space_commit(&w->ks);
        break;
    default:
        write_some(w, &w->ks);
        break;
    }
}

/* ---- from beginning to end ---- */

static void settle(struct world *w)
{
    for (bool busy = true; busy;) {
        busy = false;
        watch_step(w->hub, w->ks.now_ns);
        for (uint32_t i = 0; i < WATCH_READS_MAX; i++)
            busy |= run_read(w, i);
        for (uint32_t i = 0; i < STREAMS; i++) {
            busy |= w->clients[i].in_flight;
            take_message(&w->clients[i]);
        }
    }
    for (uint32_t i = 0; i < STREAMS; i++) {
        struct client *client = &w->clients[i];
        EXPECT(client->answers_count == 0, "%u answers never came", client->answers_count);
        for (uint32_t j = 0; j < WATCHERS_MAX; j++) {
            struct model_watcher *watcher = &client->watchers[j];
            if (watcher->live && !watcher->compacted)
                EXPECT(next_wanted(w, watcher) == NULL, "watcher %lld never got revision %lld",
                       (long long)watcher->id, (long long)next_wanted(w, watcher)->revision);
        }
    }
}

static void begin(struct world *w, struct slice script)
{
    *w = (struct world){.script = script};
    key_space_init(&w->ks, backend_mem(), "watch-world");
    w->ks.readers_count = 2;
    key_space_open(&w->ks);
    mvcc_add_event_sink(w->ks.mvcc, note_change, w);
    const struct watch_hub_options options = {.mvcc = w->ks.mvcc,
                                              .reader_slot = 0,
                                              .seed = 1,
                                              .progress_interval_ns = PROGRESS_NS,
                                              .election_ns = NS_PER_S,
                                              .message_bytes_max = MESSAGE_BYTES,
                                              .read = keep_read,
                                              .context = w};
    EXPECT(watch_hub_new(&options, &w->hub) == ST_OK, "no memory");
    for (uint32_t i = 0; i < STREAMS; i++)
        open_client(w, &w->clients[i]);
}

static void end(struct world *w)
{
    watch_hub_stop(w->hub);
    watch_step(w->hub, w->ks.now_ns);
    for (uint32_t i = 0; i < STREAMS; i++)
        EXPECT(w->clients[i].ended && w->clients[i].refs == 0, "a stream is left");
    watch_hub_free(w->hub);
    key_space_deinit(&w->ks);
    backend_mem_clear();
    for (uint64_t i = 0; i < w->changes_count; i++)
        free(w->changes[i].record);
    free(w->changes);
    free(w->deeds);
}

void world_run(struct slice script, const char *name, struct world_figures *figures)
{
    static struct world world;
    world_name = name;
    begin(&world, script);
    while (world.script.len > 0)
        act(&world);
    settle(&world);
    end(&world);
    if (figures != NULL)
        *figures = world.figures;
}
