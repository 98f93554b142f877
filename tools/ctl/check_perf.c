/* check perf: does the cluster take so many puts a second? */
#include "tools/ctl/load.h"

#include <inttypes.h>
#include <signal.h>
#include <string.h>

#define SECONDS 60U
#define KEY_BYTES 256U
#define VALUE_BYTES 1024U
#define CLEANUP_MS 30000U
#define SLOWEST_S_MAX 0.5
#define STDDEV_S_MAX 0.1
#define SHARE_MIN 0.9 /* of the rate that was asked for */

static const struct {
    uint32_t per_second, clients;
} models[] = {{150, 50}, {1000, 200}, {8000, 500}, {15000, 1000}};

static void on_signal(int number)
{
    (void)number;
    ctl_stop = 1;
}

/* SIGINT ends the load early; what it wrote is deleted all the same. */
static void catch_signal(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigaction(SIGINT, &action, NULL);
}

static int clean_up(struct ctl *ctl, const char *prefix)
{
    int64_t revision = 0;
    ctl_stop = 0;
    const char *error = load_delete(ctl, prefix, CLEANUP_MS, &revision);
    if (error != NULL)
        fprintf(ctl->cli->out, "FAIL: Cleanup failed during key deletion: ERROR(%s)\n", error);
    return load_tidy(ctl, error == NULL ? revision : 0);
}

static int judge(struct ctl *ctl, const struct load_result *result, uint32_t per_second)
{
    FILE *out = ctl->cli->out;
    bool passed = result->errors_count == 0;
    if (!passed)
        load_print_errors(ctl, result);
    double rate = result->seconds > 0 ? (double)result->count / result->seconds : 0;
    bool fast = rate / per_second > SHARE_MIN, even = result->stddev_s <= STDDEV_S_MAX,
         quick = result->slowest_s <= SLOWEST_S_MAX;
    fprintf(out,
            fast ? "PASS: Throughput is %d writes/s\n" : "FAIL: Throughput too low: %d writes/s\n",
            (int)rate + 1);
    fprintf(out,
            quick ? "PASS: Slowest request took %fs\n" : "Slowest request took too long: %fs\n",
            result->slowest_s);
    fprintf(out, even ? "PASS: Stddev is %fs\n" : "Stddev too high: %fs\n", result->stddev_s);
    passed = passed && fast && even && quick;
    fprintf(out, "%s\n", passed ? "PASS" : "FAIL");
    return passed ? CLI_EXIT_OK : CLI_EXIT_ERROR;
}

static int check(struct ctl *ctl, int model)
{
    struct cli *cli = ctl->cli;
    struct load_options options = {.prefix = cli_string(cli, "prefix"),
                                   .clients = models[model].clients,
                                   .key_bytes = KEY_BYTES,
                                   .value_bytes = VALUE_BYTES,
                                   .seconds = SECONDS,
                                   .per_second = models[model].per_second,
                                   .shows_seconds = true};
    const char *hint = cli_format(cli, "'etcdctl del --prefix %s'", options.prefix);
    int code = load_prepare(ctl, &options, hint);
    if (code != CLI_EXIT_OK)
        return code;
    catch_signal();
    struct load_result result;
    code = load_run(ctl, &options, &result);
    int cleaned = clean_up(ctl, options.prefix);
    if (code == CLI_EXIT_OK)
        code = cleaned;
    return code == CLI_EXIT_OK ? judge(ctl, &result, options.per_second) : code;
}

static int run_perf(struct cli *cli)
{
    int model = load_model(cli_string(cli, "load"));
    if (model < 0)
        return cli_fail(cli, CLI_EXIT_BAD_FEATURE, "unknown load option %s",
                        cli_string(cli, "load"));
    struct ctl ctl;
    int code = ctl_read_flags(cli, &ctl);
    if (code == CLI_EXIT_OK)
        code = check(&ctl, model);
    ctl_close(&ctl);
    return code;
}

static const struct cli_flag flags[] = {
    {.name = "load",
     .kind = CLI_STRING,
     .initial = "s",
     .help = "how much: s(mall), m(edium), l(arge) or xl(xLarge)"},
    {.name = "prefix",
     .kind = CLI_STRING,
     .initial = "/etcdctl-check-perf/",
     .help = "what the keys begin with that are written"},
    LOAD_TIDY_FLAGS,
    {0},
};

const struct cli_command ctl_check_perf_command = {
    .name = "perf",
    .usage = "[options]",
    .brief = "Tells in a minute whether the cluster is fast enough",
    .text = "Passes with 90 % of 150 (s), 1000 (m), 8000 (l) or 15000 (xl) puts a second, none of\n"
            "them slower than 500 ms, and a standard deviation within 100 ms.",
    .flags = flags,
    .run = run_perf,
};
