/* tools/ctl/load.h - the puts of the checks: many clients, each with one put in flight over a
 * connection of its own, on random keys below a prefix. */
#ifndef TOOLS_CTL_LOAD_H
#define TOOLS_CTL_LOAD_H
#include "tools/ctl/ctl.h"

#define LOAD_KEY_BYTES_MAX 512U
#define LOAD_ERRORS_MAX 32U /* different ones; the rest counts for the last */

/* Rows for a command's table of flags. */
#define LOAD_TIDY_FLAGS                                                                      \
    {.name = "auto-compact", .kind = CLI_BOOL, .help = "compact the history afterwards"},    \
    {                                                                                        \
        .name = "auto-defrag", .kind = CLI_BOOL, .help = "defragment the members afterwards" \
    }

struct load_options {
    const char *prefix;
    uint32_t clients, key_bytes, value_bytes; /* key_bytes come behind the prefix */
    uint64_t puts;                            /* how many; 0: until the time is over */
    uint32_t seconds;    /* how long new ones are begun; 0: until all are done */
    uint32_t per_second; /* at most; 0: as fast as they are answered */
    bool shows_seconds;  /* the progress bar counts these, not puts */
};

struct load_result {
    uint64_t count; /* answered OK; the times are theirs */
    double seconds, slowest_s, stddev_s;
    uint32_t errors_count;
    struct {
        const char *text; /* in the cli's arena */
        uint64_t count;
    } errors[LOAD_ERRORS_MAX];
};

/* Opens ctl->caller with a connection for each client, and makes sure that no key has the prefix.
 * hint: how the command to delete them is named. Returns an exit code, errors told. */
int load_prepare(struct ctl *ctl, const struct load_options *options, const char *hint);
/* Runs the load with its progress bar, until its end or until ctl_stop is set. Returns an exit
 * code. */
int load_run(struct ctl *ctl, const struct load_options *options, struct load_result *out);
void load_print_errors(struct ctl *ctl, const struct load_result *result);

/* What comes afterwards. Deletes the keys; *revision_out is that of the deletion. Returns NULL or
 * what went wrong. timeout_ms 0: none. */
const char *load_delete(struct ctl *ctl, const char *prefix, uint64_t timeout_ms,
                        int64_t *revision_out);
/* What LOAD_TIDY_FLAGS ask for; revision 0: of the keys nothing was deleted. Returns an exit code,
 * errors told. */
int load_tidy(struct ctl *ctl, int64_t revision);

/* "s", "small" and so on: the place in the models, -1 for none of them. */
int load_model(const char *name);
#endif
