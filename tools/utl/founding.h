/* tools/utl/founding.h - a member of a new cluster: who belongs to it, by the flags that etcdutl's
 * restore has, and the end of making its directory. */
#ifndef TOOLS_UTL_FOUNDING_H
#define TOOLS_UTL_FOUNDING_H
#include "base/arena.h"
#include "base/buf.h"
#include "server/state/bootstrap.h"
#include "tools/cli/cli.h"
#include "tools/utl/maker.h"

/* Rows for a command's table of flags. */
#define FOUNDING_FLAGS                                                                    \
    {.name = "name",                                                                      \
     .kind = CLI_STRING,                                                                  \
     .initial = "default",                                                                \
     .help = "Human-readable name for this member"},                                      \
        {.name = "initial-cluster",                                                       \
         .kind = CLI_STRING,                                                              \
         .initial = "default=http://localhost:2380",                                      \
         .help = "Initial cluster configuration for restore bootstrap"},                  \
        {.name = "initial-cluster-token",                                                 \
         .kind = CLI_STRING,                                                              \
         .initial = "etcd-cluster",                                                       \
         .help = "Initial cluster token for the etcd cluster during restore bootstrap"},  \
    {                                                                                     \
        .name = "initial-advertise-peer-urls", .kind = CLI_STRING,                        \
        .initial = "http://localhost:2380",                                               \
        .help = "List of this member's peer URLs to advertise to the rest of the cluster" \
    }

struct founding {
    struct arena arena;
    struct initial_cluster *cluster; /* in the arena */
    const struct member_row *self;   /* in cluster */
};

/* What the flags say, as text. */
struct founding_words {
    const char *name, *initial_cluster, *token, *advertised;
};
struct founding_words founding_flags(const struct cli *cli); /* of a command with FOUNDING_FLAGS */
bool founding_is_given(const struct cli *cli);               /* whether any of them is */

/* Errors, with etcd's sentence in why: ST_INVALID, ST_TOO_BIG, ST_NO_MEMORY. founding_deinit() in
 * every case. */
CHECKED enum status founding_read(const struct founding_words *words, struct founding *out,
                                  struct buf *why);
void founding_deinit(struct founding *founding);

/* Gives a filled maker these members, raises its revision (raise > 0), and finishes it: all members
 * of the cluster that do the same begin with the same log. Logs what it does. */
CHECKED enum status founding_finish(const struct founding *founding, struct maker *maker,
                                    uint64_t raise);
#endif
