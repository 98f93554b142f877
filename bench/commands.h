/* bench/commands.h - the subcommands. Each takes the words behind its name and returns the exit
 * code: 0, 1 when something failed, 2 for a wrong command line. */
#ifndef BENCH_COMMANDS_H
#define BENCH_COMMANDS_H

struct command {
    const char *name, *summary;
    int (*run)(int argc, char **argv);
};

int command_kv(int argc, char **argv);
int command_disk(int argc, char **argv);
int command_wal(int argc, char **argv);
int command_backend(int argc, char **argv);
int command_mvcc(int argc, char **argv);
int command_compare(int argc, char **argv);
int command_watch(int argc, char **argv);
int command_lease(int argc, char **argv);

#define BENCH_VALUE_BYTES_MAX (64U << 20) /* more than etcd or cleat take in one request */
#endif
