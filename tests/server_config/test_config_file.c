/* --config-file: what etcd's keys become, and what is refused, in its words. */
#include "server/config/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define ENV(...) ((const char *const[]){__VA_ARGS__, NULL})

static struct config config;
static char path[] = "/tmp/cleat-config-XXXXXX";

static int setup(void **state)
{
    (void)state;
    memcpy(path + sizeof(path) - 7, "XXXXXX", 7);
    int fd = mkstemp(path);
    close(fd);
    config_init(&config);
    return fd < 0;
}

static int teardown(void **state)
{
    (void)state;
    config_free(&config);
    return unlink(path);
}

static void write_file(const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
    assert_int_equal(fclose(file), 0);
}

static enum status load_with(const char *text, const char *flag, const char *const *environment)
{
    write_file(text);
    config_free(&config);
    config_init(&config);
    const char *argv[] = {"cleat", "--config-file", path, flag, NULL};
    return config_load(&config, flag == NULL ? 3 : 4, argv, environment);
}

static const char *note_value(const char *msg)
{
    for (const struct config_note *note = config.notes; note != NULL; note = note->next) {
        if (strcmp(note->msg, msg) == 0)
            return note->values[0];
    }
    return NULL;
}

static void assert_refused(const char *text, const char *why)
{
    assert_int_equal(load_with(text, NULL, ENV(NULL)), ST_CANCELED);
    assert_int_equal(config.exit_code, 1);
    assert_non_null(note_value("failed to verify flags"));
    assert_string_equal(note_value("failed to verify flags"), why);
}

static void test_file_sets_every_kind_of_value(void **state)
{
    (void)state;
    assert_int_equal(load_with("name: x\n"
                               "listen-client-urls: http://127.0.0.1:1,http://127.0.0.1:2\n"
                               "advertise-client-urls: http://127.0.0.1:1\n"
                               "heartbeat-interval: 50\n"
                               "election-timeout: 500 # a comment\n"
                               "quota-backend-bytes: -1\n"
                               "grpc-keepalive-min-time: 7000000000\n"
                               "pre-vote: no\n"
                               "auto-compaction-mode: 'revision'\n"
                               "auto-compaction-retention: \"1000\"\n"
                               "log-outputs: [stderr, stdout]\n"
                               "initial-cluster-state: existing\n"
                               "wal-dir:\n",
                               NULL, ENV(NULL)),
                     ST_OK);
    assert_string_equal(config.name, "x");
    assert_int_equal(config.listen_client_urls.count, 2);
    assert_int_equal(config.heartbeat_ms, 50);
    assert_int_equal(config.election_ms, 500);
    assert_int_equal(config.quota_backend_bytes, -1);
    assert_int_equal(config.grpc_keepalive_min_ns, 7000000000);
    assert_false(config.pre_vote);
    assert_int_equal(config.auto_compaction_retention, 1000);
    assert_int_equal(config.log_outputs.count, 2);
    assert_string_equal(config.initial_cluster_state, "existing");
    assert_string_equal(config.wal_dir, "");
    assert_string_equal(config.data_dir, "x.etcd");
    assert_string_equal(note_value("loaded server configuration, other configuration command line "
                                   "flags and environment variables will be ignored if provided"),
                        path);
}

static void test_file_is_all_that_counts(void **state)
{
    (void)state;
    assert_int_equal(load_with("name: x\n", "--name=y", ENV("ETCD_DATA_DIR=z")), ST_OK);
    assert_string_equal(config.name, "x");
    assert_string_equal(config.data_dir, "x.etcd");
    write_file("name: e\n");
    config_free(&config);
    config_init(&config);
    char variable[100];
    snprintf(variable, sizeof(variable), "ETCD_CONFIG_FILE=%s", path);
    const char *argv[] = {"cleat", "--name=y", NULL};
    assert_int_equal(config_load(&config, 2, argv, ENV(variable)), ST_OK);
    assert_string_equal(config.name, "e");
    assert_int_equal(load_with("", "--name=y", ENV(NULL)), ST_OK);
    assert_string_equal(config.name, "default");
}

/* As the sample file has it that comes with etcd: limits of TLS, and no TLS. */
static void test_file_may_limit_a_tls_that_is_off(void **state)
{
    (void)state;
    assert_int_equal(load_with("client-transport-security: {cert-file: , auto-tls: false}\n"
                               "cipher-suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,\n"
                               "  TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384]\n"
                               "tls-min-version: 'TLS1.2'\ntls-max-version: 'TLS1.3'\n",
                               NULL, ENV(NULL)),
                     ST_OK);
    assert_string_equal(note_value("flags are accepted and have no effect here"),
                        "--cipher-suites,--tls-min-version,--tls-max-version");
}

static void test_file_names_what_it_does_not_know(void **state)
{
    (void)state;
    assert_int_equal(load_with("nam: x\nconfig-file: y\n", NULL, ENV(NULL)), ST_OK);
    assert_string_equal(note_value("the configuration file has a key that is unknown"), "nam");
    assert_int_equal(load_with("socket-options: {reuse-address: true, x: 1}\n", NULL, ENV(NULL)),
                     ST_OK);
    assert_string_equal(note_value("the configuration file has a key that is unknown"), "x");
}

#define REFUSED_BY_JSON "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal "

static void test_file_refuses_wrong_types_as_etcd_does(void **state)
{
    (void)state;
    assert_refused("grpc-keepalive-min-time: 5s\n",
                   REFUSED_BY_JSON "string into Go struct field "
                                   "configYAML.Config.grpc-keepalive-min-time of type "
                                   "time.Duration");
    assert_refused("heartbeat-interval: \"100\"\n",
                   REFUSED_BY_JSON "string into Go struct field "
                                   "configYAML.Config.heartbeat-interval of type uint");
    assert_refused("heartbeat-interval: -3\n",
                   REFUSED_BY_JSON "number -3 into Go struct field "
                                   "configYAML.Config.heartbeat-interval of type uint");
    assert_refused("heartbeat-interval: 1.5\n",
                   REFUSED_BY_JSON "number 1.5 into Go struct field "
                                   "configYAML.Config.heartbeat-interval of type uint");
    assert_refused("strict-reconfig-check: \"x\"\n",
                   REFUSED_BY_JSON "string into Go struct field "
                                   "configYAML.Config.strict-reconfig-check of type bool");
    assert_refused("name: 5\n",
                   REFUSED_BY_JSON "number into Go struct field configYAML.Config.name of type "
                                   "string");
    assert_refused("name: [a]\n",
                   REFUSED_BY_JSON "array into Go struct field configYAML.Config.name of type "
                                   "string");
    assert_refused("log-outputs: stderr\n",
                   REFUSED_BY_JSON "string into Go struct field configYAML.Config.log-outputs of "
                                   "type []string");
    assert_refused("abc", REFUSED_BY_JSON "string into Go value of type embed.configYAML");
    assert_refused("initial-cluster-state: foo\n", "unexpected clusterState \"foo\"");
}

static void test_file_refuses_what_it_cannot_read(void **state)
{
    (void)state;
    assert_refused("name: [x\n", "error converting YAML to JSON: yaml: line 2: did not find "
                                 "expected ',' or ']'");
    assert_refused("- a\n", REFUSED_BY_JSON "array into Go value of type embed.configYAML");
    assert_refused("? [a]\n: b\n", "a key in the configuration file is not a word");
    assert_refused("client-transport-security: 3\n",
                   REFUSED_BY_JSON "string into Go struct field "
                                   "configYAML.Config.client-transport-security of type "
                                   "embed.securityConfig");
    const char *argv[] = {"cleat", "--config-file=/nope", NULL};
    config_free(&config);
    config_init(&config);
    assert_int_equal(config_load(&config, 2, argv, ENV(NULL)), ST_CANCELED);
    assert_string_equal(note_value("failed to verify flags"),
                        "open /nope: no such file or directory");
}

/* Whatever is in the file, it is an answer: cut anywhere, and with every byte changed. */
static void test_file_of_any_bytes_gives_an_answer(void **state)
{
    (void)state;
    static const char text[] = "a: &x [*x, {b: \"c\\u0041\"}]\nclient-transport-security: {\n  "
                               "auto-tls: false}\nlog-outputs: [a, b]\nname: !!str |\n  z\n...\n";
    char bytes[sizeof(text)];
    for (size_t at = 0; at < sizeof(text) - 1; at++) {
        memcpy(bytes, text, sizeof(text));
        bytes[at] = '\0';
        (void)!load_with(bytes, NULL, ENV(NULL));
        for (uint8_t flip = 1; flip != 0; flip = (uint8_t)(flip << 1)) {
            memcpy(bytes, text, sizeof(text));
            bytes[at] = (char)(bytes[at] ^ flip);
            (void)!load_with(bytes, NULL, ENV(NULL));
        }
    }
}

#define FILE_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FILE_TEST(test_file_sets_every_kind_of_value),
        FILE_TEST(test_file_is_all_that_counts),
        FILE_TEST(test_file_may_limit_a_tls_that_is_off),
        FILE_TEST(test_file_names_what_it_does_not_know),
        FILE_TEST(test_file_refuses_wrong_types_as_etcd_does),
        FILE_TEST(test_file_refuses_what_it_cannot_read),
        FILE_TEST(test_file_of_any_bytes_gives_an_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
