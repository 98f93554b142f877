#include "server/config/config.h"
#include "server/config/flag_table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ARGS(...) ((const char *const[]){"cleat", __VA_ARGS__, NULL})
#define ENV(...) ((const char *const[]){__VA_ARGS__, NULL})

static struct config config;

static int setup(void **state)
{
    (void)state;
    config_init(&config);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    config_free(&config);
    return 0;
}

static enum status load(const char *const *argv, const char *const *environment)
{
    int argc = 0;
    while (argv[argc] != NULL)
        argc++;
    return config_load(&config, argc, argv, environment);
}

static const struct config_note *find_note(const char *msg)
{
    for (const struct config_note *note = config.notes; note != NULL; note = note->next) {
        if (strcmp(note->msg, msg) == 0)
            return note;
    }
    return NULL;
}

/* A mistake that etcd finds in the flags' values: exit code 1, one log line. */
static void assert_refused(const char *const *argv, const char *const *environment, const char *why)
{
    config_free(&config);
    config_init(&config);
    assert_int_equal(load(argv, environment), ST_CANCELED);
    assert_int_equal(config.exit_code, 1);
    const struct config_note *note = find_note("failed to verify flags");
    assert_non_null(note);
    assert_string_equal(note->keys[0], "error");
    assert_string_equal(note->values[0], why);
}

/* A mistake in the command line itself: exit code 2, the text and the usage on stderr. */
static void assert_not_parsed(const char *const *argv, const char *why)
{
    config_free(&config);
    config_init(&config);
    assert_int_equal(load(argv, ENV(NULL)), ST_CANCELED);
    assert_int_equal(config.exit_code, 2);
    assert_null(config.notes);
    assert_true(config.err.len > strlen(why));
    assert_memory_equal(config.err.data, why, strlen(why));
    assert_memory_equal(config.err.data + strlen(why), "\nUsage:", 7);
}

static void test_config_defaults_are_etcds(void **state)
{
    (void)state;
    assert_int_equal(load(ARGS(NULL), ENV("PATH=/bin", "ETCDCTL_API=3")), ST_OK);
    assert_string_equal(config.name, "default");
    assert_string_equal(config.data_dir, "default.etcd");
    assert_string_equal(config.wal_dir, "");
    assert_int_equal(config.listen_client_urls.count, 1);
    assert_string_equal(config.listen_client_urls.texts[0], "http://localhost:2379");
    assert_string_equal(config.initial_cluster, "default=http://localhost:2380");
    assert_string_equal(config.initial_cluster_token, "etcd-cluster");
    assert_int_equal(config.heartbeat_ms, 100);
    assert_int_equal(config.election_ms, 1000);
    assert_int_equal(config.max_txn_ops, 128);
    assert_int_equal(config.max_request_bytes, 1572864);
    assert_int_equal(config.max_concurrent_streams, UINT32_MAX);
    assert_true(config.grpc_keepalive_interval_ns == 7200 * INT64_C(1000000000));
    assert_int_equal(config.log_level, LOG_LEVEL_INFO);
    assert_int_equal(config.log_outputs.count, 1);
    assert_string_equal(config.log_outputs.items[0], "default");
    assert_null(config.notes);
}

static void test_config_takes_every_form_of_a_flag(void **state)
{
    (void)state;
    assert_int_equal(
        load(ARGS("-name", "a", "--data-dir=/d", "--wal-dir", "", "--pre-vote=f",
                  "--strict-reconfig-check", "-heartbeat-interval=0x32", "--quota-backend-bytes",
                  "-1", "--grpc-keepalive-min-time", "1m30s", "--log-outputs=stdout,/tmp/x",
                  "--backend=sqlite", "--max-wals=3", "--snapshot-count", "9", "--"),
             ENV(NULL)),
        ST_OK);
    assert_string_equal(config.name, "a");
    assert_string_equal(config.data_dir, "/d");
    assert_string_equal(config.initial_cluster, "a=http://localhost:2380");
    assert_int_equal(config.heartbeat_ms, 50);
    assert_true(config.quota_backend_bytes == -1);
    assert_true(config.grpc_keepalive_min_ns == 90 * INT64_C(1000000000));
    assert_int_equal(config.log_outputs.count, 2);
    assert_string_equal(config.log_outputs.items[1], "/tmp/x");
    assert_string_equal(config.backend, "sqlite");
    const struct config_note *note = find_note("flags are accepted and have no effect here");
    assert_non_null(note);
    assert_string_equal(note->values[0], "--snapshot-count,--max-wals");
    assert_true(config.strict_reconfig_check);
    assert_false(config.pre_vote);
}

static void test_config_refuses_a_malformed_command_line_as_go_does(void **state)
{
    (void)state;
    assert_not_parsed(ARGS("--x"), "flag provided but not defined: -x");
    assert_not_parsed(ARGS("-nam=y"), "flag provided but not defined: -nam");
    assert_not_parsed(ARGS("--name"), "flag needs an argument: -name");
    assert_not_parsed(ARGS("---name"), "bad flag syntax: ---name");
    assert_not_parsed(ARGS("--=x"), "bad flag syntax: --=x");
    assert_not_parsed(ARGS("--heartbeat-interval", "abc"),
                      "invalid value \"abc\" for flag -heartbeat-interval: parse error");
    assert_not_parsed(ARGS("--heartbeat-interval=-5"),
                      "invalid value \"-5\" for flag -heartbeat-interval: parse error");
    assert_not_parsed(ARGS("--max-txn-ops=18446744073709551616"),
                      "invalid value \"18446744073709551616\" for flag -max-txn-ops: "
                      "value out of range");
    assert_not_parsed(ARGS("--enable-v2=yes"),
                      "invalid boolean value \"yes\" for -enable-v2: parse error");
    assert_not_parsed(ARGS("--listen-client-urls", "foo"),
                      "invalid value \"foo\" for flag -listen-client-urls: URL scheme must be "
                      "http, https, unix, or unixs: foo");
    assert_not_parsed(ARGS("--initial-cluster-state=foo"),
                      "invalid value \"foo\" for flag -initial-cluster-state: invalid value");
    assert_not_parsed(ARGS("--grpc-keepalive-timeout=5"),
                      "invalid value \"5\" for flag -grpc-keepalive-timeout: parse error");
    assert_not_parsed(ARGS("--backend=bolt"),
                      "invalid value \"bolt\" for flag -backend: invalid value");
}

static void test_config_refuses_wrong_values_in_etcds_words(void **state)
{
    (void)state;
    assert_refused(ARGS("x"), ENV(NULL), "'x' is not a valid flag");
    assert_refused(ARGS("--peer-heartbeat-interval", "3"), ENV(NULL), "'3' is not a valid flag");
    assert_refused(ARGS("--heartbeat-interval=0"), ENV(NULL),
                   "--heartbeat-interval must be >0 (set to 0ms)");
    assert_refused(ARGS("--election-timeout=400"), ENV(NULL),
                   "--election-timeout[400ms] should be at least as 5 times as "
                   "--heartbeat-interval[100ms]");
    assert_refused(ARGS("--election-timeout=50001"), ENV(NULL),
                   "--election-timeout[50001ms] is too long, and should be set less than 50000ms");
    assert_refused(ARGS("--heartbeat-interval=18446744073709551615", "--election-timeout=1000"),
                   ENV(NULL),
                   "--election-timeout[1000ms] should be at least as 5 times as "
                   "--heartbeat-interval[18446744073709551615ms]");
    assert_refused(ARGS("--listen-client-urls=http://127.0.0.1:1"), ENV(NULL),
                   "--advertise-client-urls is required when --listen-client-urls is set "
                   "explicitly");
    assert_refused(ARGS("--listen-peer-urls=http://example.com:1"), ENV(NULL),
                   "expected IP in URL for binding (http://example.com:1)");
    assert_refused(ARGS("--auto-compaction-mode=x"), ENV(NULL),
                   "unknown auto-compaction-mode \"x\"");
    assert_refused(ARGS("--logger=capnslog"), ENV(NULL), "--logger=capnslog is removed in v3.5");
    assert_refused(ARGS("--log-outputs=default,stdout"), ENV(NULL),
                   "multi logoutput for \"default\" is not supported yet");
    assert_refused(ARGS("--tls-min-version=foo"), ENV(NULL),
                   "unexpected TLS version \"foo\" (must be one of: TLS1.2, TLS1.3)");
    assert_refused(ARGS("--experimental-compact-hash-check-time=0"), ENV(NULL),
                   "--experimental-compact-hash-check-time must be >0 (set to 0s)");
    assert_refused(ARGS("--experimental-enable-lease-checkpoint-persist"), ENV(NULL),
                   "setting experimental-enable-lease-checkpoint-persist requires "
                   "experimental-enable-lease-checkpoint");
}

static void test_config_unknown_log_level_ends_with_code_2(void **state)
{
    (void)state;
    assert_int_equal(load(ARGS("--log-level=foo"), ENV(NULL)), ST_CANCELED);
    assert_int_equal(config.exit_code, 2);
    assert_true(slice_eq(buf_slice(&config.err), SLICE("unrecognized level: \"foo\"\n")));
}

static void test_config_refuses_by_name_what_is_not_built_yet(void **state)
{
    (void)state;
    assert_refused(ARGS("--auto-tls"), ENV(NULL),
                   "--auto-tls (ETCD_AUTO_TLS) is not supported by this version yet");
    assert_refused(ARGS("--name=a"), ENV("ETCD_DISCOVERY=http://d"),
                   "--discovery (ETCD_DISCOVERY) is not supported by this version yet");
    assert_refused(ARGS("--listen-client-urls=https://127.0.0.1:1",
                        "--advertise-client-urls=https://127.0.0.1:1"),
                   ENV(NULL),
                   "--listen-client-urls: only http:// is supported by this version yet "
                   "(https://127.0.0.1:1)");
}

static void test_config_accepts_every_flag_at_its_default(void **state)
{
    (void)state;
    size_t count;
    const struct flag *flags = flag_table(&count);
    for (size_t i = 0; i < count; i++) {
        if (flags[i].type == FLAG_ACTION || flags[i].type == FLAG_GONE ||
            strcmp(flags[i].name, "listen-client-urls") == 0)
            continue;
        char flag[512];
        int len = snprintf(flag, sizeof(flag), "--%s=%s", flags[i].name, flags[i].initial);
        assert_in_range(len, 0, sizeof(flag) - 1);
        config_free(&config);
        config_init(&config);
        assert_int_equal(load(ARGS(flag), ENV(NULL)), ST_OK);
        char variable[512];
        char name[FLAG_ENV_BYTES_MAX];
        len = snprintf(variable, sizeof(variable), "%s=%s", flag_env_name(&flags[i], name),
                       flags[i].initial);
        assert_in_range(len, 0, sizeof(variable) - 1);
        config_free(&config);
        config_init(&config);
        assert_int_equal(load(ARGS(NULL), ENV(variable)), ST_OK);
    }
}

static void test_config_takes_variables(void **state)
{
    (void)state;
    assert_int_equal(load(ARGS("--name=a"), ENV("ETCD_DATA_DIR=/d", "ETCD_NONSENSE=1", "ETCD_",
                                                "ETCD_WAL_DIR=", "ETCD_VERSION=9")),
                     ST_OK);
    assert_string_equal(config.data_dir, "/d");
    const struct config_note *note = find_note("recognized and used environment variable");
    assert_string_equal(note->values[0], "ETCD_DATA_DIR");
    assert_string_equal(note->values[1], "/d");
    note = find_note("unrecognized environment variable");
    assert_string_equal(note->values[0], "ETCD_NONSENSE=1");
    assert_non_null(find_note("cannot set special environment variable"));
    assert_refused(ARGS(NULL), ENV("ETCD_HEARTBEAT_INTERVAL=abc"),
                   "invalid value \"abc\" for ETCD_HEARTBEAT_INTERVAL: parse error");
}

static void test_config_refuses_a_variable_beside_its_flag(void **state)
{
    (void)state;
    assert_int_equal(load(ARGS("--name=a"), ENV("ETCD_NAME=a")), ST_CANCELED);
    assert_int_equal(config.exit_code, 1);
    assert_int_equal(config.notes->level, LOG_LEVEL_FATAL);
    assert_string_equal(config.notes->values[0], "ETCD_NAME=a");
}

static void test_config_version_and_help(void **state)
{
    (void)state;
    assert_int_equal(load(ARGS("--version"), ENV(NULL)), ST_CANCELED);
    assert_int_equal(config.exit_code, 0);
    static const char version[] = "etcd Version: " CONFIG_API_VERSION "\nCleat Version: ";
    assert_memory_equal(config.out.data, version, sizeof(version) - 1);
    config_free(&config);
    config_init(&config);
    assert_int_equal(load(ARGS("-h"), ENV(NULL)), ST_CANCELED);
    assert_int_equal(config.exit_code, 0);
    assert_memory_equal(config.out.data, "\nMember:\n", 9);
    assert_memory_equal(config.err.data, "Usage:", 6);
}

static void test_config_flags_given_up_by_etcd_only_warn(void **state)
{
    (void)state;
    assert_int_equal(load(ARGS("--snapshot", "--vv"), ENV(NULL)), ST_OK);
    const struct config_note *note = find_note("flag is no longer supported - ignoring");
    assert_string_equal(note->values[0], "snapshot");
}

#define CONFIG_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CONFIG_TEST(test_config_defaults_are_etcds),
        CONFIG_TEST(test_config_takes_every_form_of_a_flag),
        CONFIG_TEST(test_config_refuses_a_malformed_command_line_as_go_does),
        CONFIG_TEST(test_config_refuses_wrong_values_in_etcds_words),
        CONFIG_TEST(test_config_unknown_log_level_ends_with_code_2),
        CONFIG_TEST(test_config_refuses_by_name_what_is_not_built_yet),
        CONFIG_TEST(test_config_accepts_every_flag_at_its_default),
        CONFIG_TEST(test_config_takes_variables),
        CONFIG_TEST(test_config_refuses_a_variable_beside_its_flag),
        CONFIG_TEST(test_config_version_and_help),
        CONFIG_TEST(test_config_flags_given_up_by_etcd_only_warn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
