/* cleat-bench: measures disks, the log, the store and whole servers, in one format. */
#include "bench/commands.h"
#include "bench/flags.h"

#include <stdio.h>
#include <string.h>

static const struct command commands[] = {
    {"backend", "the stores below the key space: append, commit, read, delete", command_backend},
    {"disk", "durable writes of a disk, with a verdict in words", command_disk},
    {"kv", "drives any etcd endpoint with puts and ranges", command_kv},
    {"lease", "what leases cost any etcd endpoint that are kept alive", command_lease},
    {"mvcc", "the key space: puts, reads, compaction, restart", command_mvcc},
    {"wal", "the log, beside a loop of bare durable writes", command_wal},
    {"watch", "what watches cost any etcd endpoint: memory, time of an event, puts", command_watch},
    {"compare", "compares two result files, row by row", command_compare},
};
#define COMMANDS_COUNT (sizeof(commands) / sizeof(commands[0]))

static void help(FILE *to)
{
    fprintf(to, "usage: cleat-bench COMMAND [OPTIONS]\n\n");
    for (size_t i = 0; i < COMMANDS_COUNT; i++)
        fprintf(to, "  %-8s %s\n", commands[i].name, commands[i].summary);
    fprintf(to, "\n'cleat-bench COMMAND --help' lists the options and says what each figure "
                "means.\n");
}

int main(int argc, char **argv)
{
    for (size_t i = 0; argc >= 2 && i < COMMANDS_COUNT; i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(argc - 2, argv + 2);
    if (argc >= 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0)) {
        help(stdout);
        return 0;
    }
    if (argc >= 2)
        fprintf(stderr, "cleat-bench: no command '%s'\n", argv[1]);
    help(stderr);
    return 2;
}
