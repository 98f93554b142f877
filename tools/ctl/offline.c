/* snapshot status, snapshot restore and defrag --data-dir: deprecated in etcdctl, which had them
 * from etcdutl. They work on files, so cleatutl does them in our place. */
#include "tools/ctl/offline.h"

#include "tools/ctl/ctl.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define PROGRAM "cleatutl"
#define NO_EFFECT "initial-memory-map-size" /* a hint for etcd's store, which we do not have */
#define WORDS_MAX 32U                       /* of its command line; we know every one */

struct words {
    char *items[WORDS_MAX + 1]; /* ended by NULL */
    uint32_t count;
};

static void add(struct words *words, const char *word)
{
    if (words->count < WORDS_MAX)
        words->items[words->count++] = (char *)(uintptr_t)word;
}

/* The flags of the command that were given, as they were given. */
static void add_flags(struct cli *cli, struct words *words)
{
    for (const struct cli_flag *flag = cli->command->flags; flag != NULL && flag->name; flag++) {
        bool unknown = strcmp(flag->name, NO_EFFECT) == 0;
        if (cli_given(cli, flag->name) && !unknown)
            add(words, cli_format(cli, "--%s=%s", flag->name, cli_text(cli, flag->name)));
    }
    if (cli_given(cli, "write-out"))
        add(words, cli_format(cli, "--write-out=%s", cli_text(cli, "write-out")));
}

/* Becomes cleatutl, the one that was installed beside us rather than any other. */
static int become(struct cli *cli, struct words *words)
{
    fflush(cli->out);
    fflush(cli->err);
    char own[4096];
    ssize_t len = readlink("/proc/self/exe", own, sizeof(own) - 1);
    if (len > 0) {
        own[len] = '\0';
        char *slash = strrchr(own, '/');
        if (slash != NULL)
            execv(cli_format(cli, "%.*s/" PROGRAM, (int)(slash - own), own), words->items);
    }
    execvp(PROGRAM, words->items);
    return cli_fail(cli, CLI_EXIT_ERROR, "cannot run '" PROGRAM "', which works on files: %s",
                    strerror(errno));
}

static int run_status(struct cli *cli)
{
    fputs("Deprecated: Use `etcdutl snapshot status` instead.\n\n", cli->err);
    if (cli->words_count != 1)
        return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS,
                        "snapshot status requires exactly one argument");
    struct words words = {0};
    add(&words, PROGRAM);
    add(&words, "snapshot");
    add(&words, "status");
    add_flags(cli, &words);
    add(&words, "--");
    add(&words, cli->words[0]);
    return become(cli, &words);
}

const struct cli_command ctl_snapshot_status_command = {
    .name = "status",
    .usage = "<filename>",
    .brief = "Deprecated, see cleatutl snapshot status",
    .text = "Tells the hash, the revision, the number of keys and the size of a snapshot file.",
    .run = run_status,
};

static int run_restore(struct cli *cli)
{
    fputs("Deprecated: Use `etcdutl snapshot restore` instead.\n\n", cli->err);
    if (cli->words_count != 1)
        return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS,
                        "snapshot restore requires exactly one argument");
    struct words words = {0};
    add(&words, PROGRAM);
    add(&words, "snapshot");
    add(&words, "restore");
    add_flags(cli, &words);
    /* etcdutl wants it, etcdctl makes one up. */
    if (*cli_string(cli, "data-dir") == '\0')
        add(&words, cli_format(cli, "--data-dir=%s.etcd", cli_string(cli, "name")));
    add(&words, "--");
    add(&words, cli->words[0]);
    return become(cli, &words);
}

static const struct cli_flag restore_flags[] = {
    {.name = "data-dir", .kind = CLI_STRING, .help = "where the new data directory goes"},
    {.name = "wal-dir", .kind = CLI_STRING, .help = "where its log goes, if elsewhere"},
    {.name = "initial-cluster",
     .kind = CLI_STRING,
     .initial = "default=http://localhost:2380",
     .help = "the members of the new cluster, name=URL by commas"},
    {.name = "initial-cluster-token",
     .kind = CLI_STRING,
     .initial = "etcd-cluster",
     .help = "tells the new cluster from others"},
    {.name = "initial-advertise-peer-urls",
     .kind = CLI_STRING,
     .initial = "http://localhost:2380",
     .help = "where the other members reach this one"},
    {.name = "name", .kind = CLI_STRING, .initial = "default", .help = "this member's name"},
    {.name = "skip-hash-check", .kind = CLI_BOOL, .help = "take a file without a checksum"},
    {.name = "bump-revision", .kind = CLI_UINT, .help = "raise the revision by so much"},
    {.name = "mark-compacted",
     .kind = CLI_BOOL,
     .help = "call everything before the raised revision compacted; needs --bump-revision"},
    {.name = NO_EFFECT, .kind = CLI_UINT, .help = "has no effect"},
    {0},
};

const struct cli_command ctl_snapshot_restore_command = {
    .name = "restore",
    .usage = "<filename> [options]",
    .brief = "Deprecated, see cleatutl snapshot restore",
    .text = "Makes a data directory from a snapshot file.",
    .flags = restore_flags,
    .run = run_restore,
};

int offline_defrag(struct cli *cli)
{
    fputs("Use `etcdutl defrag` instead. The --data-dir is going to be decomissioned in v3.6.\n\n",
          cli->err);
    struct words words = {0};
    add(&words, PROGRAM);
    add(&words, "defrag");
    add(&words, cli_format(cli, "--data-dir=%s", cli_string(cli, "data-dir")));
    return become(cli, &words);
}
