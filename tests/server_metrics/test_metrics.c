#include "server/metrics/metrics.h"

#include "base/clock.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static struct buf text;

static int setup(void **state)
{
    (void)state;
    metrics_reset();
    buf_init(&text, 16U << 20);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    metrics_reset();
    buf_deinit(&text);
    return 0;
}

static void render(void)
{
    buf_reset(&text);
    assert_int_equal(metrics_render(&text), ST_OK);
    assert_int_equal(buf_append(&text, slice_make("", 1)), ST_OK);
}

/* Whole lines, so that a prefix of another name does not count. */
static void assert_line(const char *line)
{
    const char *all = (const char *)text.data;
    size_t len = strlen(line);
    for (const char *at = strstr(all, line); at != NULL; at = strstr(at + 1, line)) {
        if ((at == all || at[-1] == '\n') && at[len] == '\n')
            return;
    }
    fail_msg("no line: %s", line);
}

static void assert_absent(const char *piece)
{
    assert_null(strstr((const char *)text.data, piece));
}

static void *count_thousand(void *context)
{
    (void)context;
    for (int i = 0; i < 1000; i++) {
        metrics_add(METRIC_MVCC_PUTS, 1);
        metrics_add(METRIC_PROPOSALS_PENDING, 1);
        metrics_add(METRIC_PROPOSALS_PENDING, -1);
    }
    return NULL;
}

static void test_metrics_add_sums_what_all_threads_counted(void **state)
{
    (void)state;
    pthread_t threads[12]; /* more than there are shards */
    for (int i = 0; i < 12; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, count_thousand, NULL), 0);
    for (int i = 0; i < 12; i++)
        pthread_join(threads[i], NULL);
    render();
    assert_line("etcd_mvcc_put_total 12000");
    assert_line("etcd_server_proposals_pending 0");
    assert_line("# TYPE etcd_mvcc_put_total counter");
}

static int64_t forty_two(void *context)
{
    return *(const int64_t *)context;
}

static void test_metrics_set_and_callback_show_the_last_value(void **state)
{
    (void)state;
    int64_t value = 42;
    metrics_set(METRIC_HAS_LEADER, 1);
    metrics_set(METRIC_HAS_LEADER, 0);
    metrics_set_callback(METRIC_MVCC_CURRENT_REVISION, forty_two, &value);
    render();
    assert_line("etcd_server_has_leader 0");
    assert_line("# TYPE etcd_server_has_leader gauge");
    assert_line("# HELP etcd_server_has_leader Whether or not a leader exists. 1 is existence, 0 "
                "is not.");
    assert_line("etcd_debugging_mvcc_current_revision 42");
    metrics_set_callback(METRIC_MVCC_CURRENT_REVISION, NULL, NULL);
    render();
    assert_line("etcd_debugging_mvcc_current_revision 0");
}

static void test_metrics_observe_fills_cumulative_buckets_with_inclusive_bounds(void **state)
{
    (void)state;
    metrics_observe(METRIC_WAL_FSYNC, NS_PER_MS);            /* on the first bound */
    metrics_observe(METRIC_WAL_FSYNC, NS_PER_MS + 1);        /* just over it */
    metrics_observe(METRIC_WAL_FSYNC, 8192 * NS_PER_MS);     /* on the last */
    metrics_observe(METRIC_WAL_FSYNC, 10000 * NS_PER_MS);    /* over all */
    metrics_observe(METRIC_COMPACTION_PAUSE, 3 * NS_PER_MS); /* shown in milliseconds */
    render();
    assert_line("etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.001\"} 1");
    assert_line("etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.002\"} 2");
    assert_line("etcd_disk_wal_fsync_duration_seconds_bucket{le=\"4.096\"} 2");
    assert_line("etcd_disk_wal_fsync_duration_seconds_bucket{le=\"8.192\"} 3");
    assert_line("etcd_disk_wal_fsync_duration_seconds_bucket{le=\"+Inf\"} 4");
    assert_line("etcd_disk_wal_fsync_duration_seconds_count 4");
    assert_absent("etcd_disk_wal_fsync_duration_seconds_bucket{le=\"16.384\"}");
    assert_line("etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds_bucket{le=\"4\"} 1");
    assert_line("etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds_sum 3");
}

static void test_metrics_child_appears_with_its_labels_once_made(void **state)
{
    (void)state;
    render();
    assert_absent("etcd_server_client_requests_total");
    const char *const labels[] = {"type", "unary", "client_api_version", "3.5", NULL};
    metrics_child_add(metrics_child(METRIC_CLIENT_REQUESTS, labels), 1);
    metrics_child_add(metrics_child(METRIC_CLIENT_REQUESTS, labels), 1);
    const char *const op[] = {"op", "Put", "success", "true", "version", "v3", NULL};
    metrics_child_observe(metrics_histogram_child(METRIC_APPLY_DURATION, op), NS_PER_MS / 10);
    render();
    assert_line("etcd_server_client_requests_total{type=\"unary\",client_api_version=\"3.5\"} 2");
    assert_line("etcd_server_apply_duration_seconds_bucket{op=\"Put\",success=\"true\",version="
                "\"v3\",le=\"0.0001\"} 1");
    assert_line("etcd_server_apply_duration_seconds_count{op=\"Put\",success=\"true\",version="
                "\"v3\"} 1");
}

static void test_metrics_child_observe_fills_the_default_buckets_of_prometheus(void **state)
{
    (void)state;
    const char *const method[] = {"grpc_method", "Put", NULL};
    struct metric_child put = metrics_histogram_child(METRIC_RPC_HANDLING, method);
    metrics_child_observe(put, 5 * NS_PER_MS); /* on the first bound */
    metrics_child_observe(put, 25 * NS_PER_MS);
    metrics_child_observe(put, 2500 * NS_PER_MS + 1); /* just over one */
    metrics_child_observe(put, 10 * NS_PER_S);        /* on the last */
    metrics_child_observe(put, 10 * NS_PER_S + 1);    /* over all */
    render();
    static const char *const rows[] = {"0.005\"} 1", "0.01\"} 1", "0.025\"} 2", "0.05\"} 2",
                                       "0.1\"} 2",   "0.25\"} 2", "0.5\"} 2",   "1\"} 2",
                                       "2.5\"} 2",   "5\"} 3",    "10\"} 4",    "+Inf\"} 5"};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char line[128];
        snprintf(line, sizeof(line),
                 "grpc_server_handling_seconds_bucket{grpc_method=\"Put\",le=\"%s", rows[i]);
        assert_line(line);
    }
    assert_absent("le=\"25\"");
    assert_line("grpc_server_handling_seconds_count{grpc_method=\"Put\"} 5");
}

static void test_metrics_child_escapes_foreign_label_values(void **state)
{
    (void)state;
    const char *const labels[] = {"type", "unary", "client_api_version", "a\"b\\c\nd", NULL};
    metrics_child_add(metrics_child(METRIC_CLIENT_REQUESTS, labels), 1);
    render();
    assert_line("etcd_server_client_requests_total{type=\"unary\",client_api_version="
                "\"a\\\"b\\\\c\\nd\"} 1");
}

static void test_metrics_child_is_dropped_quietly_when_the_registry_is_full(void **state)
{
    (void)state;
    struct metric_child child = {0};
    for (int i = 0; i < 5000; i++) {
        char number[16];
        snprintf(number, sizeof(number), "%d", i);
        child = metrics_child(METRIC_SERVER_ID, (const char *const[]){"server_id", number, NULL});
        metrics_child_add(child, 1);
    }
    const char *const op[] = {"op", "Put", NULL};
    metrics_child_observe(metrics_histogram_child(METRIC_APPLY_DURATION, op), 1);
    render();
    assert_line("etcd_server_id{server_id=\"7\"} 1");
    assert_absent("server_id=\"4999\"");
}

static void test_metrics_render_shows_the_process(void **state)
{
    (void)state;
    render();
    const char *resident = strstr((const char *)text.data, "\nprocess_resident_memory_bytes ");
    assert_non_null(resident);
    assert_true(strtod(strchr(resident, ' '), NULL) > 100000);
    const char *files = strstr((const char *)text.data, "\nprocess_open_fds ");
    assert_non_null(files);
    assert_in_range((unsigned)strtod(strchr(files, ' '), NULL), 3, 100);
    assert_non_null(strstr((const char *)text.data, "\nos_fd_limit "));
    assert_non_null(strstr((const char *)text.data, "\nprocess_start_time_seconds "));
}

static void test_metrics_render_passes_on_that_the_buffer_is_full(void **state)
{
    (void)state;
    struct buf small;
    buf_init(&small, 1000);
    assert_int_equal(metrics_render(&small), ST_TOO_BIG);
    buf_deinit(&small);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_metrics_add_sums_what_all_threads_counted),
        TEST(test_metrics_set_and_callback_show_the_last_value),
        TEST(test_metrics_observe_fills_cumulative_buckets_with_inclusive_bounds),
        TEST(test_metrics_child_appears_with_its_labels_once_made),
        TEST(test_metrics_child_observe_fills_the_default_buckets_of_prometheus),
        TEST(test_metrics_child_escapes_foreign_label_values),
        TEST(test_metrics_child_is_dropped_quietly_when_the_registry_is_full),
        TEST(test_metrics_render_shows_the_process),
        TEST(test_metrics_render_passes_on_that_the_buffer_is_full),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
