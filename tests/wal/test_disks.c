/* The real disks, in a directory of the file system the test runs on. */
#include "wal/disks.h"

#include "base/clock.h"
#include "raft/types.h"
#include "wal/wal.h"

#include <setjmp.h>
#include <stdarg.h>
/* cmocka.h wants the two above */
#include <cmocka.h>

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[] = "test_disks.XXXXXX";
static char wal_dir[64];

static uint64_t real_ns(void *context)
{
    (void)context;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static const struct clock real_clock = {real_ns, real_ns, NULL};

static void remove_file(void *context, const char *name)
{
    (void)context;
    char path[400];
    snprintf(path, sizeof(path), "%s/%s", wal_dir, name);
    unlink(path);
}

static void clear(struct disk *disk)
{
    enum status st = disk_list(disk, wal_dir, remove_file, NULL);
    assert_true(st == ST_OK || st == ST_NOT_FOUND);
    rmdir(wal_dir);
}

/* The preparer as the server runs it: on its own thread, here without ever sleeping for long. */
struct preparer_thread {
    struct wal *wal;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool called, stop; /* under mutex */
};

static void preparer_call(void *context)
{
    struct preparer_thread *p = context;
    pthread_mutex_lock(&p->mutex);
    p->called = true;
    pthread_cond_signal(&p->cond);
    pthread_mutex_unlock(&p->mutex);
}

static void *preparer_main(void *context)
{
    struct preparer_thread *p = context;
    pthread_mutex_lock(&p->mutex);
    while (!p->stop) {
        p->called = false;
        pthread_mutex_unlock(&p->mutex);
        uint64_t due_ns = wal_preparer_step(p->wal, real_ns(NULL));
        pthread_mutex_lock(&p->mutex);
        if (p->called || p->stop || due_ns <= real_ns(NULL))
            continue;
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += (long)NS_PER_MS;
        if (until.tv_nsec >= (long)NS_PER_S) {
            until.tv_sec++;
            until.tv_nsec -= (long)NS_PER_S;
        }
        pthread_cond_timedwait(&p->cond, &p->mutex, &until);
    }
    pthread_mutex_unlock(&p->mutex);
    return NULL;
}

static void preparer_start(struct preparer_thread *p, struct wal *wal)
{
    memset(p, 0, sizeof(*p));
    p->wal = wal;
    pthread_mutex_init(&p->mutex, NULL);
    pthread_cond_init(&p->cond, NULL);
    wal_set_preparer_wake(wal, preparer_call, p);
    assert_int_equal(pthread_create(&p->thread, NULL, preparer_main, p), 0);
}

static void preparer_stop(struct preparer_thread *p)
{
    pthread_mutex_lock(&p->mutex);
    p->stop = true;
    pthread_cond_signal(&p->cond);
    pthread_mutex_unlock(&p->mutex);
    pthread_join(p->thread, NULL);
    wal_set_preparer_wake(p->wal, NULL, NULL);
    pthread_cond_destroy(&p->cond);
    pthread_mutex_destroy(&p->mutex);
}

static void owner_call(void *context)
{
    uint64_t one = 1;
    assert_int_equal(write(*(int *)context, &one, sizeof(one)), sizeof(one));
}

static void append_one(struct wal *wal, raft_index index, uint64_t *ticket_out)
{
    uint8_t bytes[3000];
    memset(bytes, (int)index, sizeof(bytes));
    struct raft_entry entry = {
        .term = 1, .index = index, .payload = raft_payload_copy(slice_make(bytes, sizeof(bytes)))};
    struct wal_append append = {.entries = &entry, .entries_count = 1};
    assert_int_equal(wal_append(wal, &append, ticket_out), ST_OK);
    raft_payload_unref(entry.payload);
}

/* Sleeps on the one eventfd until a ticket is durable. */
static void wait_durable(struct wal *wal, int event_fd, uint64_t ticket)
{
    for (;;) {
        uint64_t durable;
        assert_int_equal(wal_poll(wal, &durable), ST_OK);
        if (durable >= ticket)
            return;
        struct pollfd wanted = {.fd = event_fd, .events = POLLIN};
        assert_int_equal(poll(&wanted, 1, /* timeout_ms= */ 10000), 1);
        uint64_t count;
        assert_int_equal(read(event_fd, &count, sizeof(count)), sizeof(count));
    }
}

static void run_log_on(struct disk *disk)
{
    clear(disk);
    int event_fd = eventfd(0, EFD_CLOEXEC);
    assert_int_equal(disk_set_event_fd(disk, event_fd), ST_OK);
    struct rng rng;
    assert_int_equal(rng_seed_from_system(&rng), ST_OK);
    struct wal_options options = {.disk = disk,
                                  .clock = &real_clock,
                                  .rng = &rng,
                                  .dir = wal_dir,
                                  .life_id = 7,
                                  .create = true,
                                  .segment_bytes_first = 64 << 10,
                                  .segment_bytes_max = 128 << 10};
    struct wal *wal;
    struct wal_recovered recovered;
    struct wal_report report;
    assert_int_equal(wal_open(&options, &wal, &recovered, &report), ST_OK);
    wal_set_owner_wake(wal, owner_call, &event_fd);
    struct preparer_thread preparer;
    preparer_start(&preparer, wal);
    uint64_t ticket = 0;
    for (raft_index i = 1; i <= 300; i++) {
        append_one(wal, i, &ticket);
        if (i % 3 == 0)
            wait_durable(wal, event_fd, ticket);
        wal_release(wal, i / 2);
    }
    preparer_stop(&preparer);
    assert_int_equal(wal_finish(wal), ST_OK);
    wal_close(wal);
    options.create = false;
    options.store_mark = (struct raft_log_id){.index = 150, .term = 1};
    enum status st = wal_open(&options, &wal, &recovered, &report);
    assert_string_equal(report.text, "");
    assert_int_equal(st, ST_OK);
    assert_int_equal(recovered.last_index, 300);
    struct raft_entry entries[150];
    uint32_t count;
    assert_int_equal(wal_read(wal, 151, 300, UINT64_MAX, entries, &count), ST_OK);
    assert_int_equal(count, 150);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(entries[i].payload->data[2999], (uint8_t)(151 + i));
        raft_payload_unref(entries[i].payload);
    }
    wal_close(wal);
    clear(disk);
    close(event_fd);
}

static void run_kind(enum disk_kind kind, const char *name)
{
    struct disk *disk;
    char why[256];
    enum status st = disk_open_real(kind, dir, &disk, why, sizeof(why));
    if (st == ST_UNSUPPORTED && kind == DISK_KIND_URING) {
        print_message("io_uring does not work here: %s\n", why);
        return;
    }
    assert_int_equal(st, ST_OK);
    assert_string_equal(disk_name(disk), name);
    assert_non_null(strstr(why, "using "));
    run_log_on(disk);
    disk_free(disk);
}

static void test_disk_uring_carries_a_log(void **state)
{
    (void)state;
    run_kind(DISK_KIND_URING, "io_uring");
}

static void test_disk_pwritev2_carries_a_log(void **state)
{
    (void)state;
    run_kind(DISK_KIND_PWRITEV2, "pwritev2");
}

static void test_disk_fdatasync_carries_a_log(void **state)
{
    (void)state;
    run_kind(DISK_KIND_FDATASYNC, "fdatasync");
}

static void test_disk_probe_says_why_a_directory_does_not_do(void **state)
{
    (void)state;
    struct disk *disk;
    char why[256];
    assert_int_equal(disk_open_real(DISK_KIND_AUTO, "/nonexistent", &disk, why, sizeof(why)),
                     ST_NOT_FOUND);
    assert_null(disk);
    assert_non_null(strstr(why, "/nonexistent"));
}

/* What container runtimes do since 2023: io_uring_setup answers EPERM (or ENOSYS, older ones). */
static int refuse_io_uring(uint32_t error)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof(filter) / sizeof(filter[0]), .filter = filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return -1;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

/* Runs in a child, since a filter is for ever; the exit code says what went wrong. */
static int open_under_filter(uint32_t error, const char *error_name)
{
    if (refuse_io_uring(error) != 0)
        return 2;
    struct disk *disk;
    char why[256];
    if (disk_open_real(DISK_KIND_URING, dir, &disk, why, sizeof(why)) != ST_UNSUPPORTED ||
        strstr(why, error_name) == NULL)
        return 3;
    if (disk_open_real(DISK_KIND_AUTO, dir, &disk, why, sizeof(why)) != ST_OK)
        return 4;
    if (strcmp(disk_name(disk), "pwritev2") != 0)
        return 5;
    if (strstr(why, "using pwritev2") == NULL)
        return 6;
    disk_free(disk);
    return 0;
}

static void test_disk_falls_back_where_io_uring_is_refused(void **state)
{
    (void)state;
    const uint32_t errors[] = {EPERM, ENOSYS};
    const char *names[] = {"EPERM", "ENOSYS"};
    for (size_t i = 0; i < 2; i++) {
        fflush(NULL);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0)
            _exit(open_under_filter(errors[i], names[i]));
        int result = 0;
        assert_int_equal(waitpid(child, &result, 0), child);
        assert_true(WIFEXITED(result));
        assert_int_equal(WEXITSTATUS(result), 0);
    }
}

static int set_up(void **state)
{
    (void)state;
    if (mkdtemp(dir) == NULL)
        return -1;
    snprintf(wal_dir, sizeof(wal_dir), "%s/wal", dir);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    char probe[sizeof(dir) + 8];
    snprintf(probe, sizeof(probe), "%s/probe", dir);
    unlink(probe);
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_disk_uring_carries_a_log),
        cmocka_unit_test(test_disk_pwritev2_carries_a_log),
        cmocka_unit_test(test_disk_fdatasync_carries_a_log),
        cmocka_unit_test(test_disk_probe_says_why_a_directory_does_not_do),
        cmocka_unit_test(test_disk_falls_back_where_io_uring_is_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
