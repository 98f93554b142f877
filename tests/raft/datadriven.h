/* tests/raft/datadriven.h - reads golden scripts (the language of cockroachdb/datadriven as etcd's
 * raft uses it): blocks of a command, its input and the text it must print. */
#ifndef TESTS_RAFT_DATADRIVEN_H
#define TESTS_RAFT_DATADRIVEN_H
#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

#define SCRIPT_ARGS_MAX 16U
#define SCRIPT_VALUES_MAX 16U

struct script_arg {
    char *key;
    char *values[SCRIPT_VALUES_MAX];
    uint32_t values_count;
};

struct script_command {
    const char *path;
    int line;
    char *name;
    struct script_arg args[SCRIPT_ARGS_MAX];
    uint32_t args_count;
    char *input;
};

/* NULL: not given. */
const struct script_arg *script_arg_find(const struct script_command *command, const char *key);
uint64_t script_number(const char *text);
bool script_flag(const struct script_command *command, const char *key, bool otherwise);
uint64_t script_arg_number(const struct script_command *command, const char *key,
                           uint64_t otherwise);

/* printf into a buffer; a failure aborts the test. */
void emit(struct buf *out, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Runs every block of a file; run prints into out what the command says. Returns the number of
 * blocks that differ (each is shown), or -1 when the file cannot be read. */
typedef void (*script_run)(void *context, const struct script_command *command, struct buf *out);

enum script_mode {
    SCRIPT_EXACT,
    SCRIPT_PROTOCOL, /* lines of log text (INFO and so on) are left out of the comparison */
    SCRIPT_REWRITE,  /* what is printed becomes what is expected */
};
void script_set_mode(enum script_mode mode);
int script_file(const char *path, script_run run, void *context);
#endif
