/* Values before changes that are not in memory: the hub asks no backend for them, others get their
 * events meanwhile, and whoever wants them gets all events in order. */
#include "base/list.h"
#include "base/wire.h"
#include "server/watch/watch_private.h"
#include "tests/fakes/backend_mem.h"
#include "tests/mvcc/key_space.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define STORE "watch-values"
#define LARGE_BYTES (300U << 10)

struct client {
    struct watch_stream stream;
    char seen[16384]; /* "2<1@4 ": the value 2 instead of 1 at revision 4; "p4 ": progress */
};

struct fixture {
    struct key_space ks;
    struct watch_hub *hub;
    struct watch_read *reads[WATCH_READS_MAX];
    uint32_t values_reads, history_reads;
    struct client plain, values, other;
};

/* ---- clients ---- */

__attribute__((format(printf, 2, 3))) static void note(struct client *client, const char *format,
                                                       ...)
{
    size_t len = strlen(client->seen);
    va_list args;
    va_start(args, format);
    int more = vsnprintf(client->seen + len, sizeof(client->seen) - len, format, args);
    va_end(args);
    assert_in_range(more, 1, sizeof(client->seen) - len - 1);
}

/* Of a large value the first byte. */
static int shown(const struct mvcc_kv *kv)
{
    return (int)(kv->value.len > 8 ? 1 : kv->value.len);
}

static void note_event(struct client *client, struct slice event)
{
    struct mvcc_kv kv = {0}, before = {0};
    while (event.len > 0) {
        struct wire_field field;
        assert_int_equal(wire_next(&event, &field), ST_OK);
        if (field.number == 2)
            assert_int_equal(mvcc_kv_decode(field.bytes, &kv), ST_OK);
        if (field.number == 3)
            assert_int_equal(mvcc_kv_decode(field.bytes, &before), ST_OK);
    }
    note(client, "%.*s<%.*s@%d ", shown(&kv), (const char *)kv.value.data, shown(&before),
         before.value.len > 0 ? (const char *)before.value.data : "", (int)kv.mod_revision);
}

static enum status see(struct watch_stream *stream, const struct watch_message *message)
{
    struct client *client = CONTAINER_OF(stream, struct client, stream);
    for (uint32_t i = 0; i < message->pieces_count; i++) {
        struct slice part = message->pieces[i].bytes;
        while (part.len > 0) {
            struct wire_field field;
            assert_int_equal(wire_next(&part, &field), ST_OK);
            note_event(client, field.bytes);
        }
    }
    if (message->pieces_count == 0 && !message->created)
        note(client, "p%d ", (int)message->revision);
    watch_stream_sent(stream);
    return ST_OK;
}

static void see_end(struct watch_stream *stream, enum watch_end why)
{
    (void)stream;
    assert_int_equal(why, WATCH_END_STOPPED);
}

static void ignore(struct watch_stream *stream)
{
    (void)stream;
}

static const struct watch_sink sink = {.send = see, .end = see_end, .ref = ignore, .unref = ignore};

static void open_client(struct fixture *f, struct client *client, const char *key, const char *end,
                        unsigned kinds)
{
    const struct watch_create create = {
        .key = slice_from_str(key), .range_end = slice_from_str(end), .kinds = kinds};
    watch_stream_open(f->hub, &client->stream, &sink, /* wants_leader= */ false);
    assert_int_equal(watch_stream_create(&client->stream, &create), ST_OK);
}

/* ---- the hub's surroundings ---- */

static void keep_read(void *context, struct watch_read *read, uint32_t number)
{
    struct fixture *f = context;
    assert_null(f->reads[number]);
    f->reads[number] = read;
    f->values_reads += number >= WATCH_VALUES_READ;
    f->history_reads += number < WATCH_VALUES_READ;
}

static void step(struct fixture *f)
{
    watch_step(f->hub, f->ks.now_ns);
}

/* What a reader thread would do; false: nothing is to be read. */
static bool run_read(struct fixture *f, uint32_t number)
{
    struct watch_read *read = f->reads[number];
    if (read == NULL)
        return false;
    f->reads[number] = NULL;
    watch_read_run(read, /* reader_slot= */ 1);
    step(f);
    return true;
}

static bool read_one(struct fixture *f)
{
    for (uint32_t i = 0; i < WATCH_READS_MAX; i++) {
        if (run_read(f, i))
            return true;
    }
    return false;
}

static void read_all(struct fixture *f)
{
    while (read_one(f))
        ;
}

/* The hub's step may not look in the backend: the first who does fails. */
static void step_without_backend(struct fixture *f)
{
    backend_mem_fail_at(STORE, 1, ST_IO, /* lands= */ false);
    step(f);
    assert_false(backend_mem_fault_fired(STORE));
    backend_mem_fail_at(STORE, 0, ST_OK, false);
}

static void put_large(struct fixture *f, char first)
{
    char *value = malloc(LARGE_BYTES + 1);
    assert_non_null(value);
    memset(value, first, LARGE_BYTES);
    value[LARGE_BYTES] = '\0';
    key_space_put(&f->ks, "key", value);
    free(value);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    key_space_init(&f->ks, backend_mem(), STORE);
    f->ks.readers_count = 2;
    key_space_open(&f->ks);
    const struct watch_hub_options options = {.mvcc = f->ks.mvcc,
                                              .reader_slot = 0,
                                              .seed = 1,
                                              .progress_interval_ns = NS_PER_S,
                                              .election_ns = NS_PER_S,
                                              .message_bytes_max = 1 << 20,
                                              .read = keep_read,
                                              .context = f};
    assert_int_equal(watch_hub_new(&options, &f->hub), ST_OK);
    open_client(f, &f->plain, "a", "z", 0);
    open_client(f, &f->values, "a", "z", WATCH_PREVIOUS);
    open_client(f, &f->other, "z", "zz", WATCH_PREVIOUS);
    step(f);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    watch_hub_stop(f->hub);
    read_all(f);
    step(f);
    watch_hub_free(f->hub);
    key_space_deinit(&f->ks);
    backend_mem_clear();
    free(f);
    return 0;
}

/* ---- tests ---- */

static void test_watch_values_in_memory_are_given_at_once(void **state)
{
    struct fixture *f = *state;
    key_space_put(&f->ks, "key", "1");
    key_space_put(&f->ks, "key", "2");
    step_without_backend(f);
    assert_string_equal(f->values.seen, "1<@2 2<1@3 ");
    assert_int_equal(f->values_reads, 0);
}

static void test_watch_values_not_in_memory_hold_up_only_who_wants_them(void **state)
{
    struct fixture *f = *state;
    key_space_put(&f->ks, "key", "1");
    step(f);
    key_space_commit(&f->ks);
    key_space_put(&f->ks, "key", "2");
    step_without_backend(f);
    key_space_put(&f->ks, "key", "3"); /* its value before is in memory */
    step_without_backend(f);
    assert_string_equal(f->plain.seen, "1<@2 2<@3 3<@4 ");
    assert_string_equal(f->values.seen, "1<@2 ");
    read_all(f);
    assert_string_equal(f->values.seen, "1<@2 2<1@3 3<2@4 ");
    assert_int_equal(f->history_reads, 0);
}

static void test_watch_values_progress_is_that_of_the_stream(void **state)
{
    struct fixture *f = *state;
    key_space_put(&f->ks, "key", "1");
    step(f);
    key_space_commit(&f->ks);
    key_space_put(&f->ks, "key", "2");
    assert_int_equal(watch_stream_ask_progress(&f->plain.stream), ST_OK);
    assert_int_equal(watch_stream_ask_progress(&f->values.stream), ST_OK);
    step(f);
    assert_string_equal(f->plain.seen, "1<@2 2<@3 p3 ");
    assert_string_equal(f->values.seen, "1<@2 ");
    read_all(f);
    assert_string_equal(f->values.seen, "1<@2 2<1@3 p3 ");
}

/* Deletes a..b, of which the values are not in memory, under nobody else's eyes. */
static void delete_many(struct fixture *f)
{
    char key[16];
    for (uint32_t i = 0; i <= WATCH_HUB_CHANGES; i++) {
        snprintf(key, sizeof(key), "a%04u", i);
        key_space_put(&f->ks, key, "x");
        step(f);
    }
    key_space_put(&f->ks, "key", "1");
    key_space_put(&f->ks, "z", "1");
    step(f);
    key_space_commit(&f->ks);
    f->plain.seen[0] = f->values.seen[0] = f->other.seen[0] = '\0';
    key_space_delete(&f->ks, "a", "b");
    step(f);
}

static void test_watch_values_of_many_changes_hold_up_nobody_else(void **state)
{
    struct fixture *f = *state;
    delete_many(f);
    key_space_put(&f->ks, "z", "2"); /* its value before is not in memory either */
    key_space_put(&f->ks, "key", "2");
    step_without_backend(f);
    assert_int_equal(watch_stream_ask_progress(&f->other.stream), ST_OK);
    step(f);
    assert_true(run_read(f, WATCH_VALUES_READ));
    assert_string_equal(f->other.seen, "2<1@1006 p1007 ");
    key_space_put(&f->ks, "z", "3");
    step_without_backend(f);
    assert_string_equal(f->other.seen, "2<1@1006 p1007 3<2@1008 ");
    assert_string_equal(f->values.seen, "");
    assert_true(run_read(f, WATCH_LONG_READ));
    read_all(f);
    assert_string_equal(f->other.seen, "2<1@1006 p1007 3<2@1008 ");
    struct client expected = {0};
    for (uint32_t i = 0; i <= WATCH_HUB_CHANGES; i++)
        note(&expected, "<x@1005 ");
    note(&expected, "2<1@1007 ");
    assert_string_equal(f->values.seen, expected.seen);
    assert_int_equal(f->history_reads, 0);
    assert_int_equal(f->hub->waiting_bytes, 0);
}

/* Events are made for who may have them now, and for others that see more kept only while there is
 * room. */
static void test_watch_values_kept_for_others_are_bounded(void **state)
{
    struct fixture *f = *state;
    struct client key = {0};
    put_large(f, 'a');
    delete_many(f);
    open_client(f, &key, "key", "", WATCH_PREVIOUS);
    step(f);
    uint32_t count = WATCH_KEPT_BYTES / (3 * LARGE_BYTES) + 5;
    struct client expected = {0};
    for (uint32_t i = 0; i < count; i++) {
        put_large(f, (char)('b' + i));
        step(f);
        key_space_commit(&f->ks);
        (void)run_read(f, WATCH_VALUES_READ);
        assert_true(f->hub->waiting_bytes <= WATCH_WAITING_BYTES);
        note(&expected, "%c<%c@%u ", 'b' + i, i == 0 ? '1' : 'a' + i, 1007 + i);
    }
    assert_string_equal(key.seen, expected.seen);
    assert_string_equal(f->values.seen, "");
    read_all(f);
    assert_string_equal(key.seen, expected.seen);
    assert_string_equal(f->values.seen + strlen("<x@1006 ") * (WATCH_HUB_CHANGES + 1),
                        expected.seen);
    assert_int_equal(f->history_reads, 0);
    assert_int_equal(f->hub->waiting_bytes, 0);
}

/* As much at a time as a message of history; the rest by the next read. */
static void test_watch_values_that_are_large_take_several_reads(void **state)
{
    struct fixture *f = *state;
    put_large(f, 'a');
    step(f);
    key_space_commit(&f->ks);
    for (char c = 'b'; c <= 'f'; c++)
        put_large(f, c);
    step(f);
    assert_true(read_one(f));
    assert_string_equal(f->values.seen, "a<@2 b<a@3 c<b@4 ");
    read_all(f);
    assert_string_equal(f->values.seen, "a<@2 b<a@3 c<b@4 d<c@5 e<d@6 f<e@7 ");
    assert_int_equal(f->values_reads, 3);
    assert_int_equal(f->history_reads, 0);
}

static void test_watch_values_beyond_what_may_wait_come_from_history(void **state)
{
    struct fixture *f = *state;
    put_large(f, 'a');
    step(f);
    key_space_commit(&f->ks);
    uint32_t count = WATCH_WAITING_BYTES / LARGE_BYTES + 2;
    for (uint32_t i = 0; i < count; i++) {
        put_large(f, (char)('b' + i % 25));
        step(f);
        key_space_commit(&f->ks);
        assert_true(f->hub->waiting_bytes <= WATCH_WAITING_BYTES);
    }
    read_all(f);
    struct client expected = {0};
    note(&expected, "a<@2 ");
    for (uint32_t i = 0; i < count; i++)
        note(&expected, "%c<%c@%u ", 'b' + i % 25, i == 0 ? 'a' : 'b' + (i - 1) % 25, i + 3);
    assert_string_equal(f->values.seen, expected.seen);
    assert_true(f->history_reads > 0);
}

static void test_watch_values_that_cannot_be_read_are_asked_of_history(void **state)
{
    struct fixture *f = *state;
    key_space_put(&f->ks, "key", "1");
    step(f);
    key_space_commit(&f->ks);
    key_space_put(&f->ks, "key", "2");
    step(f);
    backend_mem_fail_at(STORE, 1, ST_IO, /* lands= */ false);
    assert_true(read_one(f));
    assert_true(backend_mem_fault_fired(STORE));
    assert_string_equal(f->values.seen, "1<@2 ");
    read_all(f);
    assert_string_equal(f->values.seen, "1<@2 2<1@3 ");
    assert_int_equal(f->history_reads, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_watch_values_in_memory_are_given_at_once, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_watch_values_not_in_memory_hold_up_only_who_wants_them,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_watch_values_progress_is_that_of_the_stream, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_watch_values_of_many_changes_hold_up_nobody_else,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_watch_values_kept_for_others_are_bounded, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_watch_values_that_are_large_take_several_reads, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_watch_values_beyond_what_may_wait_come_from_history,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_watch_values_that_cannot_be_read_are_asked_of_history,
                                        set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
