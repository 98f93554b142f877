/* tools/utl/held.h - a source that nobody else has open, kept so while a command reads it, for the
 * commands that make something of all it holds. */
#ifndef TOOLS_UTL_HELD_H
#define TOOLS_UTL_HELD_H
#include "tools/cli/cli.h"
#include "tools/utl/source.h"

/* Rows for a command's table of flags. */
#define HELD_FLAGS                                                                                 \
    {.name = "data-dir",                                                                           \
     .kind = CLI_STRING,                                                                           \
     .required = true,                                                                             \
     .help = "The stopped member's data directory"},                                               \
        {.name = "wal-dir", .kind = CLI_STRING, .help = "Its log directory, where that is apart"}, \
        {.name = "even-damaged",                                                                   \
         .kind = CLI_BOOL,                                                                         \
         .help = "Take what comes before the damage in its log"},                                  \
    {                                                                                              \
        .name = "dry-run", .kind = CLI_BOOL, .help = "Check everything and change nothing"         \
    }

struct held_options {
    const char *path, *wal_dir;
    bool whole_log;    /* see utl_source_options */
    bool even_damaged; /* a log that ends in damage is not refused, nor is a lost FORMAT */
};

struct held {
    struct utl_source *source; /* owned */
    int lock_fd;               /* a directory's, shared with other readers; -1: none */
};

/* Errors, with a sentence in why: the source's; ST_BUSY (a server has it), ST_CORRUPT (its log is
 * damaged, or holds what cannot be applied, unless even_damaged). held_close() in every case. */
CHECKED enum status held_open(const struct held_options *options, struct held *out,
                              struct buf *why);
void held_close(struct held *held);

/* Two log lines: what it is and how far it goes; what is damaged or left out. */
void held_tell(const struct held *held, const char *msg);

/* The log id that the state ends at, {0, 0} for an empty one. A db file of an etcd before 3.5 does
 * not say the term: then it is 0. Errors: wal_read()'s. */
CHECKED enum status held_last(const struct held *held, struct raft_log_id *out);
#endif
