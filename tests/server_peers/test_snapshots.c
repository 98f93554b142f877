#include "tests/server_peers/fixture.h"

#include "base/minmax.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#define SNAPSHOT_INDEX 0x4d
#define V2_STORE "{\"Root\":{\"Path\":\"/\"}}"

/* A store of any size, each byte from its place; it may fail where asked. */
struct test_source {
    struct snapshot_source source;
    uint64_t at, fail_at;
    uint32_t *closed;
};

static uint8_t byte_at(uint64_t offset)
{
    return (uint8_t)(offset ^ offset >> 8 ^ offset >> 16);
}

static enum status source_read(struct snapshot_source *source, uint8_t *into, size_t capacity,
                               size_t *out)
{
    struct test_source *s = CONTAINER_OF(source, struct test_source, source);
    if (s->at >= s->fail_at)
        return ST_IO;
    size_t size = (size_t)min_u64(capacity, source->size - s->at);
    for (size_t i = 0; i < size; i++)
        into[i] = byte_at(s->at + i);
    s->at += size;
    *out = size;
    return ST_OK;
}

static void source_close(struct snapshot_source *source)
{
    struct test_source *s = CONTAINER_OF(source, struct test_source, source);
    (*s->closed)++;
    free(s);
}

static struct snapshot_source *source_new(uint64_t size, uint64_t fail_at, uint32_t *closed)
{
    struct test_source *s = calloc(1, sizeof(*s));
    assert_non_null(s);
    *s = (struct test_source){.source = {.size = size,
                                         .data = SLICE(V2_STORE),
                                         .read = source_read,
                                         .close = source_close},
                              .fail_at = fail_at,
                              .closed = closed};
    return &s->source;
}

static const struct raft_snapshot_meta meta = {.last = {.index = SNAPSHOT_INDEX, .term = 3},
                                               .conf_state = {.voters = {1, 2}, .voters_count = 2}};

static void send_snapshot(struct node *from, raft_id to, struct snapshot_source *source)
{
    struct raft_message message = {
        .type = RAFT_MSG_SNAP, .to = to, .from = from->id, .term = 3, .snapshot = &meta};
    struct transport *transport = peers_transport(from->peers);
    transport->send_snapshot(transport, &message, source);
}

static void open_two(struct node *a, struct node *b)
{
    node_open(a, 1, CLUSTER_ID, NULL);
    node_open(b, 2, CLUSTER_ID, NULL);
    node_add(a, b);
    node_add(b, a);
    node_start(a);
    node_start(b);
}

static void check_file(const char *path, uint64_t size)
{
    static uint8_t bytes[1 << 20];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    uint64_t at = 0;
    for (;;) {
        ssize_t got = read(fd, bytes, sizeof(bytes));
        assert_true(got >= 0);
        if (got == 0)
            break;
        for (ssize_t i = 0; i < got; i++) {
            if (bytes[i] != byte_at(at + (uint64_t)i))
                fail_msg("byte %llu differs", (unsigned long long)at + (unsigned long long)i);
        }
        at += (uint64_t)got;
    }
    assert_true(at == size);
    close(fd);
}

static uint32_t count_files(const char *path)
{
    DIR *dir = opendir(path);
    assert_non_null(dir);
    uint32_t count = 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        count += entry->d_name[0] != '.';
    closedir(dir);
    return count;
}

static void test_snapshot_arrives_with_its_message(void **state)
{
    (void)state;
    struct node a, b;
    uint32_t closed = 0;
    open_two(&a, &b);
    send_snapshot(&a, 2, source_new(64U << 20, UINT64_MAX, &closed));
    struct peer_message *got = node_take(&b);
    assert_int_equal(got->message.type, RAFT_MSG_SNAP);
    assert_memory_equal(got->message.snapshot, &meta, sizeof(meta));
    assert_true(slice_eq(got->snapshot_data, SLICE(V2_STORE)));
    assert_non_null(got->snapshot_path);
    check_file(got->snapshot_path, 64U << 20);
    assert_int_equal(unlink(got->snapshot_path), 0);
    got->release(got);
    node_wait(&a, &a.sent_well, 1);
    assert_int_equal(closed, 1);
    assert_int_equal(a.sent_badly, 0);
    node_close(&a);
    node_close(&b);
}

/* The link and the disks are the cluster's first. */
static void test_snapshot_leaves_no_faster_than_it_may(void **state)
{
    (void)state;
    struct node a, b;
    uint32_t closed = 0;
    node_open_limited(&a, 1, /* snapshot_bytes_per_s= */ 8U << 20);
    node_open(&b, 2, CLUSTER_ID, NULL);
    node_add(&a, &b);
    node_add(&b, &a);
    node_start(&a);
    node_start(&b);
    uint64_t began_ns = now_ns();
    send_snapshot(&a, 2, source_new(2U << 20, UINT64_MAX, &closed));
    struct peer_message *got = node_take(&b);
    assert_in_range(now_ns() - began_ns, 200 * NS_PER_MS, UINT64_MAX); /* 250, less one chunk */
    check_file(got->snapshot_path, 2U << 20);
    assert_int_equal(unlink(got->snapshot_path), 0);
    got->release(got);
    node_close(&a);
    node_close(&b);
}

/* While one is on its way messages are as quick as without it. */
static void test_snapshot_holds_no_message_up(void **state)
{
    (void)state;
    struct node a, b;
    uint32_t closed = 0;
    open_two(&a, &b);
    node_wait_active(&a, 2);
    send_snapshot(&a, 2, source_new(64U << 20, UINT64_MAX, &closed));
    uint64_t longest = 0;
    bool is_there = false;
    for (uint32_t i = 0; i < 50 || !is_there; i++) {
        uint64_t begin = now_ns();
        node_send(
            &a, &(struct raft_message){.type = RAFT_MSG_HEARTBEAT, .to = 2, .from = 1, .term = 3});
        struct peer_message *got = node_take(&b);
        longest = max_u64(longest, now_ns() - begin);
        if (got->message.type == RAFT_MSG_SNAP) {
            is_there = true;
            unlink(got->snapshot_path);
            got->release(got);
            got = node_take(&b);
        }
        got->release(got);
    }
    assert_true(longest < NS_PER_S);
    node_wait(&a, &a.sent_well, 1);
    node_close(&a);
    node_close(&b);
}

/* A source that breaks off leaves nothing behind, and the next attempt goes through. */
static void test_snapshot_can_be_tried_again(void **state)
{
    (void)state;
    struct node a, b;
    uint32_t closed = 0;
    open_two(&a, &b);
    send_snapshot(&a, 2, source_new(8U << 20, 3U << 20, &closed));
    node_wait(&a, &a.sent_badly, 1);
    assert_int_equal(closed, 1);
    uint64_t until_ns = now_ns() + WAIT_S_MAX * NS_PER_S;
    while (count_files(b.snap_dir) > 0) {
        assert_true(now_ns() < until_ns);
        sched_yield();
    }
    send_snapshot(&a, 2, source_new(8U << 20, UINT64_MAX, &closed));
    struct peer_message *got = node_take(&b);
    check_file(got->snapshot_path, 8U << 20);
    unlink(got->snapshot_path);
    got->release(got);
    node_wait(&a, &a.sent_well, 1);
    assert_int_equal(closed, 2);
    node_close(&a);
    node_close(&b);
}

static void test_snapshot_to_nobody_is_reported(void **state)
{
    (void)state;
    struct node a;
    uint32_t closed = 0;
    node_open(&a, 1, CLUSTER_ID, NULL);
    node_add_url(&a, 2, "http://127.0.0.1:1");
    node_start(&a);
    send_snapshot(&a, 2, source_new(100, UINT64_MAX, &closed)); /* refused */
    node_wait(&a, &a.sent_badly, 1);
    send_snapshot(&a, 7, source_new(100, UINT64_MAX, &closed)); /* not known */
    node_wait(&a, &a.sent_badly, 2);
    assert_int_equal(closed, 2);
    node_close(&a);
}

/* Stopping does not wait for a transfer to end. */
static void test_stop_ends_a_transfer(void **state)
{
    (void)state;
    struct node a, b;
    uint32_t closed = 0;
    open_two(&a, &b);
    send_snapshot(&a, 2, source_new(1ULL << 40, UINT64_MAX, &closed));
    uint64_t until_ns = now_ns() + WAIT_S_MAX * NS_PER_S;
    while (count_files(b.snap_dir) == 0) {
        assert_true(now_ns() < until_ns);
        sched_yield();
    }
    uint64_t begin = now_ns();
    node_close(&a);
    node_close(&b);
    assert_true(now_ns() - begin < 10 * NS_PER_S);
    assert_int_equal(closed, 1);
    assert_int_equal(a.sent_badly, 1);
}

/* What is no snapshot is refused before a file is made. */
static void test_snapshot_port_refuses_what_is_none(void **state)
{
    (void)state;
    struct node a;
    char answer[1024];
    node_open(&a, 1, CLUSTER_ID, NULL);
    node_start(&a);
#define HEAD                                                       \
    "POST /raft/snapshot HTTP/1.1\r\nX-Server-Version: 3.5.15\r\n" \
    "X-Etcd-Cluster-Id: cdf818194e3a8c32\r\n"
    raw_exchange(a.url, SLICE(HEAD "Content-Length: 12\r\n\r\n\0\0\0\0\0\0\0\x04\x08\x08\x10\x01"),
                 answer, sizeof(answer), 0);
    assert_non_null(strstr(answer, "400 Bad Request"));
    assert_non_null(strstr(answer, "wrong raft message type\n"));
    raw_exchange(a.url, SLICE(HEAD "Content-Length: 9\r\n\r\n\0\0\0\0\0\0\0\x01\x08"), answer,
                 sizeof(answer), 0);
    assert_non_null(strstr(answer, "400 Bad Request"));
    raw_exchange(a.url, SLICE(HEAD "Content-Length: 8\r\n\r\n\xff\0\0\0\0\0\0\x01"), answer,
                 sizeof(answer), 0);
    assert_non_null(strstr(answer, "400 Bad Request"));
    raw_exchange(a.url, SLICE("POST /raft/snapshot HTTP/1.1\r\nContent-Length: 0\r\n\r\n"), answer,
                 sizeof(answer), 60);
    assert_non_null(strstr(answer, "412 Precondition Failed"));
    assert_int_equal(count_files(a.snap_dir), 0);
    node_close(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_snapshot_arrives_with_its_message),
        cmocka_unit_test(test_snapshot_leaves_no_faster_than_it_may),
        cmocka_unit_test(test_snapshot_holds_no_message_up),
        cmocka_unit_test(test_snapshot_can_be_tried_again),
        cmocka_unit_test(test_snapshot_to_nobody_is_reported),
        cmocka_unit_test(test_stop_ends_a_transfer),
        cmocka_unit_test(test_snapshot_port_refuses_what_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
