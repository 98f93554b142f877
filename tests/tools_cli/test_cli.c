#include "tools/cli/cli.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* A small program whose commands tell what they were given. */

static int run_put(struct cli *cli)
{
    if (cli->words_count < 1)
        return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS, "put needs a key");
    fprintf(cli->out, "put");
    for (uint32_t i = 0; i < cli->words_count; i++)
        fprintf(cli->out, " [%s]", cli->words[i]);
    fprintf(cli->out, " dash=%d before=%u prev=%d lease=%s limit=%lld size=%llu out=%s given=%d\n",
            cli->dashes, cli->words_before_dashes, cli_bool(cli, "prev-kv"),
            cli_string(cli, "lease"), (long long)cli_int(cli, "limit"),
            (unsigned long long)cli_uint(cli, "size"), cli_string(cli, "write-out"),
            cli_given(cli, "lease"));
    return CLI_EXIT_OK;
}

static int run_env(struct cli *cli)
{
    static const char *const also[] = {"TST_WATCH_KEY", NULL};
    int code = cli_environment(cli, also);
    if (code != CLI_EXIT_OK)
        return code;
    uint32_t count;
    char *const *endpoints = cli_list(cli, "endpoints", &count);
    for (uint32_t i = 0; i < count; i++)
        fprintf(cli->out, "[%s]", endpoints[i]);
    fprintf(cli->out, " %lld %s %d\n", (long long)cli_duration_ns(cli, "dial-timeout"),
            cli_string(cli, "write-out"), cli_given(cli, "write-out"));
    return CLI_EXIT_OK;
}

static int run_restore(struct cli *cli)
{
    fprintf(cli->out, "restore %s\n", cli_string(cli, "data-dir"));
    return CLI_EXIT_OK;
}

static const struct cli_flag put_flags[] = {
    {.name = "prev-kv", .kind = CLI_BOOL, .help = "also the value before"},
    {.name = "lease", .kind = CLI_STRING, .initial = "0", .help = "lease ID"},
    {.name = "limit", .letter = 'l', .kind = CLI_INT, .help = "how many"},
    {.name = "size", .kind = CLI_UINT, .initial = "10", .help = "how much"},
    {.name = "secret", .kind = CLI_BOOL, .hidden = true, .help = "not shown"},
    {0},
};
static const struct cli_command put_command = {.name = "put",
                                               .usage = "[options] <key> <value>",
                                               .brief = "Stores a key",
                                               .text = "Stores it.\n\n.Now",
                                               .flags = put_flags,
                                               .run = run_put};
static const struct cli_command env_command = {
    .name = "env", .brief = "Tells the environment", .run = run_env};
static const struct cli_flag restore_flags[] = {
    {.name = "data-dir", .kind = CLI_STRING, .required = true, .help = "where to"},
    {0},
};
static const struct cli_command restore_command = {.name = "restore",
                                                   .usage = "<file>",
                                                   .brief = "Restores",
                                                   .flags = restore_flags,
                                                   .run = run_restore};
static const struct cli_command status_command = {
    .name = "status", .usage = "<file>", .brief = "Tells", .run = run_restore};
static const struct cli_command *const snapshot_members[] = {&status_command, &restore_command,
                                                             NULL};
static const struct cli_command snapshot_command = {.name = "snapshot",
                                                    .usage = "<subcommand>",
                                                    .brief = "Snapshots",
                                                    .commands = snapshot_members};
static const struct cli_command *const commands[] = {&put_command,      &env_command,
                                                     &snapshot_command, &cli_completion_command,
                                                     &cli_help_command, NULL};
static const struct cli_flag flags[] = {
    {.name = "write-out", .letter = 'w', .kind = CLI_STRING, .initial = "simple", .help = "format"},
    {.name = "endpoints", .kind = CLI_LIST, .initial = "127.0.0.1:2379", .help = "where"},
    {.name = "dial-timeout", .kind = CLI_DURATION, .initial = "2s", .help = "how long"},
    {.name = "debug", .kind = CLI_BOOL, .help = "tell more"},
    {0},
};
static const struct cli_program program = {.name = "tst",
                                           .brief = "A test",
                                           .version = "3.5.15",
                                           .api_version = "3.5",
                                           .commands = commands,
                                           .flags = flags,
                                           .environment = "TST_"};

/* What one run said. */
struct said {
    char *out, *err;
    int code;
};

#define WORDS_MAX 16

/* Runs a command line whose words are separated by single spaces. */
static struct said run_program(const struct cli_program *which, const char *line)
{
    char text[256];
    assert_true(strlen(line) < sizeof(text));
    memcpy(text, line, strlen(line) + 1);
    char *argv[WORDS_MAX] = {(char *)"tst"};
    int argc = 1;
    for (char *at = text; *line != '\0' && at != NULL;) {
        char *word = strsep(&at, " ");
        assert_true(argc < WORDS_MAX);
        argv[argc++] = word;
    }
    struct said said;
    size_t out_size, err_size;
    FILE *out = open_memstream(&said.out, &out_size);
    FILE *err = open_memstream(&said.err, &err_size);
    said.code = cli_run(which, NULL, argc, argv, out, err);
    fclose(out);
    fclose(err);
    return said;
}

static void said_free(struct said *said)
{
    free(said->out);
    free(said->err);
}

static void assert_says(const char *line, int code, const char *out, const char *err)
{
    struct said said = run_program(&program, line);
    assert_string_equal(said.err, err);
    if (out != NULL)
        assert_string_equal(said.out, out);
    assert_int_equal(said.code, code);
    said_free(&said);
}

static void test_cli_reads_flags_anywhere_before_dashes(void **state)
{
    (void)state;
    assert_says("put a b", 0,
                "put [a] [b] dash=0 before=2 prev=0 lease=0 limit=0 size=10 out=simple given=0\n",
                "");
    assert_says("-w json put --lease 12 a -l5 --prev-kv b --size=0x1f", 0,
                "put [a] [b] dash=0 before=2 prev=1 lease=12 limit=5 size=31 out=json given=1\n",
                "");
    assert_says("put --prev-kv=false a -l=7 -wfields -- --lease -x", 0,
                "put [a] [--lease] [-x] dash=1 before=1 prev=0 lease=0 limit=7 size=10 out=fields "
                "given=0\n",
                "");
    assert_says("--write-out=json put -", 0,
                "put [-] dash=0 before=1 prev=0 lease=0 limit=0 size=10 out=json given=0\n", "");
}

static void test_cli_shortens_names_while_they_are_unambiguous(void **state)
{
    (void)state;
    assert_says("sn res --data-dir d x", 0, "restore d\n", "");
    assert_says("p a", 0, NULL, "");
}

static void test_cli_tells_unknown_commands_and_suggests(void **state)
{
    (void)state;
    assert_says("foo", 1, "",
                "Error: unknown command \"foo\" for \"tst\"\nRun 'tst --help' for usage.\n"
                "Error: unknown command \"foo\" for \"tst\"\n");
    assert_says("putt", 1, "",
                "Error: unknown command \"putt\" for \"tst\"\n\nDid you mean this?\n\tput\n\n"
                "Run 'tst --help' for usage.\n"
                "Error: unknown command \"putt\" for \"tst\"\n\nDid you mean this?\n\tput\n\n");
    /* A flag that is not known takes the next word for its value, as cobra has it. */
    assert_says("--foo put x", 1, "",
                "Error: unknown command \"x\" for \"tst\"\nRun 'tst --help' for usage.\n"
                "Error: unknown command \"x\" for \"tst\"\n");
}

static void assert_usage_error(const char *line, const char *error)
{
    struct said said = run_program(&program, line);
    char expected[512];
    snprintf(expected, sizeof(expected), "Error: %s\n\nError: %s\n", error, error);
    assert_string_equal(said.err, expected);
    assert_memory_equal(said.out, "NAME:\n\t", 7);
    assert_int_equal(said.code, 1);
    said_free(&said);
}

static void test_cli_tells_bad_flags_twice_and_prints_the_usage(void **state)
{
    (void)state;
    assert_usage_error("put --x", "unknown flag: --x");
    assert_usage_error("put --x=1", "unknown flag: --x");
    assert_usage_error("put a -5", "unknown shorthand flag: '5' in -5");
    assert_usage_error("put --lease", "flag needs an argument: --lease");
    assert_usage_error("put -w", "flag needs an argument: 'w' in -w");
    assert_usage_error("---x", "bad flag syntax: ---x");
    assert_usage_error("put --=x", "bad flag syntax: --=x");
    assert_usage_error("put --limit=x a",
                       "invalid argument \"x\" for \"-l, --limit\" flag: strconv.ParseInt: parsing "
                       "\"x\": invalid syntax");
    assert_usage_error("put --size=99999999999999999999 a",
                       "invalid argument \"99999999999999999999\" for \"--size\" flag: "
                       "strconv.ParseUint: parsing \"99999999999999999999\": value out of range");
    assert_usage_error("put --prev-kv=foo a",
                       "invalid argument \"foo\" for \"--prev-kv\" flag: strconv.ParseBool: "
                       "parsing \"foo\": invalid syntax");
    assert_usage_error("put a --dial-timeout=5",
                       "invalid argument \"5\" for \"--dial-timeout\" flag: time: missing unit in "
                       "duration \"5\"");
    assert_usage_error("put a --dial-timeout=x",
                       "invalid argument \"x\" for \"--dial-timeout\" flag: time: invalid duration "
                       "\"x\"");
    assert_usage_error("snapshot restore f", "required flag(s) \"data-dir\" not set");
}

static void test_cli_can_print_the_usage_after_an_error_on_stderr(void **state)
{
    (void)state;
    struct cli_program other = program;
    other.usage_on_stderr = true;
    struct said said = run_program(&other, "put --x");
    assert_string_equal(said.out, "");
    assert_memory_equal(said.err, "Error: unknown flag: --x\nNAME:\n", 30);
    said_free(&said);
}

static void test_cli_prints_help_for_groups_and_when_asked(void **state)
{
    (void)state;
    static const char *const lines[] = {"snapshot", "snapshot foo", "snapshot --help", "snap -h",
                                        "help snap"};
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        assert_says(lines[i], 0,
                    "NAME:\n\tsnapshot - Snapshots\n\nUSAGE:\n\ttst snapshot <subcommand> [flags]\n"
                    "\nAPI VERSION:\n\t3.5\n\n\nCOMMANDS:\n\trestore\tRestores\n\tstatus\tTells\n"
                    "\nOPTIONS:\n  -h, --help[=false]\tprint this help and exit\n"
                    "\nGLOBAL OPTIONS:\n      --debug[=false]\t\t\ttell more\n"
                    "      --dial-timeout=2s\t\t\thow long\n"
                    "      --endpoints=[127.0.0.1:2379]\twhere\n"
                    "  -w, --write-out=\"simple\"\t\tformat\n\n",
                    "");
}

static void test_cli_prints_the_help_of_a_command_without_hidden_flags(void **state)
{
    (void)state;
    struct said said = run_program(&program, "put --help");
    assert_non_null(strstr(said.out, "NAME:\n\tput - Stores a key\n\nUSAGE:\n\ttst put [options] "
                                     "<key> <value> [flags]\n\nDESCRIPTION:\n\tStores it.\n\t\n"
                                     "\t.Now\n\nOPTIONS:\n  -h, --help[=false]\tprint"));
    assert_non_null(strstr(said.out, "  -l, --limit=0\t\thow many\n"));
    assert_null(strstr(said.out, "secret"));
    said_free(&said);
    said = run_program(&program, "");
    assert_non_null(strstr(said.out, "\tsnapshot restore\tRestores\n"));
    assert_non_null(strstr(said.out, "\tput\t\t\tStores a key\n"));
    said_free(&said);
}

static void test_cli_help_tells_an_unknown_topic(void **state)
{
    (void)state;
    struct said said = run_program(&program, "help foo bar");
    assert_int_equal(said.code, 0);
    assert_string_equal(said.err, "Unknown help topic [`foo` `bar`]\n");
    assert_memory_equal(said.out, "NAME:\n\ttst - A test\n", 20);
    said_free(&said);
}

static void test_cli_takes_global_flags_from_the_environment(void **state)
{
    (void)state;
    setenv("TST_ENDPOINTS", "a,b", 1);
    setenv("TST_DIAL_TIMEOUT", "1m", 1);
    setenv("TST_WRITE_OUT", "json", 1);
    setenv("TST_WATCH_KEY", "k", 1);
    assert_says("env", 0, "[a][b] 60000000000 json 1\n", "");
    setenv("TST_FOO", "x", 1);
    struct said said = run_program(&program, "env");
    assert_int_equal(said.code, 0);
    assert_non_null(strstr(said.err, "\"msg\":\"unrecognized environment variable\","
                                     "\"environment-variable\":\"TST_FOO=x\"}\n"));
    said_free(&said);
    unsetenv("TST_FOO");
    said = run_program(&program, "env --endpoints=c,d --endpoints e");
    assert_int_equal(said.code, 1);
    assert_string_equal(said.out, "");
    assert_non_null(strstr(said.err, "{\"level\":\"fatal\","));
    assert_non_null(strstr(said.err, "\"environment-variable\":\"TST_ENDPOINTS\"}\n"));
    said_free(&said);
    unsetenv("TST_ENDPOINTS");
    unsetenv("TST_WRITE_OUT");
    setenv("TST_DIAL_TIMEOUT", "5", 1);
    said = run_program(&program, "env --endpoints=c,d --endpoints e");
    assert_string_equal(said.out, "[c][d][e] 2000000000 simple 0\n");
    assert_non_null(strstr(said.err, "its value is invalid"));
    said_free(&said);
    unsetenv("TST_DIAL_TIMEOUT");
    unsetenv("TST_WATCH_KEY");
}

static void test_cli_read_takes_the_flags_of_one_command(void **state)
{
    (void)state;
    struct cli line;
    char *words[] = {(char *)"k", (char *)"--lease=7", (char *)"v"};
    assert_int_equal(cli_read(&put_command, 3, words, &line), ST_OK);
    assert_int_equal(line.words_count, 2);
    assert_string_equal(line.words[1], "v");
    assert_string_equal(cli_string(&line, "lease"), "7");
    cli_deinit(&line);
    char *global[] = {(char *)"k", (char *)"--endpoints=x"};
    assert_int_equal(cli_read(&put_command, 2, global, &line), ST_INVALID);
    assert_string_equal(line.error, "unknown flag: --endpoints");
    cli_deinit(&line);
}

static void test_cli_parses_numbers_as_go_does(void **state)
{
    (void)state;
    struct cli cli;
    assert_int_equal(cli_read(&put_command, 0, NULL, &cli), ST_OK);
    static const struct {
        const char *text;
        uint32_t base;
        int64_t value;
    } good[] = {
        {"0", 10, 0},       {"-12", 10, -12},
        {"+7", 10, 7},      {"1f", 16, 31},
        {"0x1F", 0, 31},    {"017", 0, 15},
        {"0b101", 0, 5},    {"0o17", 0, 15},
        {"1_000", 0, 1000}, {"-9223372036854775808", 10, INT64_MIN},
    };
    const char *error;
    int64_t number;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_int_equal(cli_parse_int(&cli, good[i].text, good[i].base, &number, &error), ST_OK);
        assert_int_equal(number, good[i].value);
    }
    static const char *const bad[] = {"", "-", "x", "1x", "0x", "1_", "_1", "1__0", " 1", "1.5"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(cli_parse_int(&cli, bad[i], 0, &number, &error), ST_INVALID);
    assert_int_equal(cli_parse_int(&cli, "9223372036854775808", 10, &number, &error), ST_INVALID);
    assert_string_equal(error,
                        "strconv.ParseInt: parsing \"9223372036854775808\": value out of range");
    uint64_t big;
    assert_int_equal(cli_parse_uint(&cli, "18446744073709551615", 10, &big, &error), ST_OK);
    assert_int_equal(cli_parse_uint(&cli, "-1", 10, &big, &error), ST_INVALID);
    assert_string_equal(error, "strconv.ParseUint: parsing \"-1\": invalid syntax");
    cli_deinit(&cli);
}

static void test_cli_prints_completion_and_manual_from_the_table(void **state)
{
    (void)state;
    static const char *const shells[] = {"completion bash", "completion zsh", "completion fish"};
    for (size_t i = 0; i < sizeof(shells) / sizeof(shells[0]); i++) {
        struct said said = run_program(&program, shells[i]);
        assert_int_equal(said.code, 0);
        assert_non_null(strstr(said.out, "snapshot/restore"));
        assert_non_null(strstr(said.out, "data-dir"));
        assert_null(strstr(said.out, "secret"));
        said_free(&said);
    }
    struct said said = run_program(&program, "help --man");
    assert_memory_equal(said.out, ".TH \"TST\" \"1\" \"\" \"tst 3.5.15\"\n", 30);
    assert_non_null(strstr(said.out, ".SS \"snapshot restore\"\n"));
    assert_non_null(
        strstr(said.out, "\\fB\\-\\-data\\-dir\\fR=\\fITEXT\\fR\nwhere to (required)\n"));
    assert_non_null(strstr(said.out, "\n\\&.Now\n"));
    assert_null(strstr(said.out, "secret"));
    said_free(&said);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cli_reads_flags_anywhere_before_dashes),
        cmocka_unit_test(test_cli_shortens_names_while_they_are_unambiguous),
        cmocka_unit_test(test_cli_tells_unknown_commands_and_suggests),
        cmocka_unit_test(test_cli_tells_bad_flags_twice_and_prints_the_usage),
        cmocka_unit_test(test_cli_can_print_the_usage_after_an_error_on_stderr),
        cmocka_unit_test(test_cli_prints_help_for_groups_and_when_asked),
        cmocka_unit_test(test_cli_prints_the_help_of_a_command_without_hidden_flags),
        cmocka_unit_test(test_cli_help_tells_an_unknown_topic),
        cmocka_unit_test(test_cli_takes_global_flags_from_the_environment),
        cmocka_unit_test(test_cli_read_takes_the_flags_of_one_command),
        cmocka_unit_test(test_cli_parses_numbers_as_go_does),
        cmocka_unit_test(test_cli_prints_completion_and_manual_from_the_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
