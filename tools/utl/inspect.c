#include "tools/utl/inspect.h"

#include "tools/utl/console.h"
#include "tools/utl/utl.h"

#define CALLER "utl/inspect.c"

static const struct cli_command *const members[] = {
    &inspect_keys_command,    &inspect_get_command,
    &inspect_history_command, &inspect_leases_command,
    &inspect_members_command, &inspect_auth_command,
    &inspect_alarms_command,  &inspect_log_command,
    &inspect_space_command,   NULL,
};
const struct cli_command utl_inspect_command = {
    .name = "inspect",
    .brief = "Shows what is in a data directory, a snapshot or a db file, and changes nothing",
    .commands = members,
};

static void warn(const struct buf *text, const char *msg)
{
    if (text->len == 0)
        return;
    struct console line;
    console_begin(&line, "warn", CALLER, msg);
    struct slice value = buf_slice(text);
    console_list(&line, "why", &value, 1);
    console_end(&line);
}

/* A member learns with its next entry on disk what was agreed on: the last entries of an idle one,
 * or of one that was killed, may well be acknowledged. */
static void warn_of_uncommitted(const struct utl_source *s)
{
    if (s->log_last <= s->committed)
        return;
    struct console line;
    console_begin(&line, "warn", CALLER,
                  "the log's last entries are not known to be committed and left out; "
                  "--uncommitted shows them, too");
    console_u64(&line, "known-committed", s->committed);
    console_u64(&line, "last-entry", s->log_last);
    console_end(&line);
}

static enum status open_source(struct inspect *i, enum inspect_need need)
{
    struct utl_source_options options = {.path = i->cli->words[0],
                                         .wal_dir = cli_string(i->cli, "wal-dir"),
                                         .even_without_format = true,
                                         .without_index = need != INSPECT_STATE};
    if (need != INSPECT_LOG) {
        options.without_log = cli_bool(i->cli, "store-only");
        options.whole_log = cli_bool(i->cli, "uncommitted");
    }
    enum status st = utl_source_open(&options, &i->why, &i->source);
    if (st != ST_OK || need != INSPECT_STORE || i->source->committed <= i->source->mark.index)
        return st;
    utl_source_close(i->source);
    options.without_index = false; /* the log's entries are applied with it */
    options.touched_alone = true;
    return utl_source_open(&options, &i->why, &i->source);
}

int inspect_run(struct cli *cli, uint32_t words_count, enum inspect_need need,
                enum status (*fn)(struct inspect *inspect))
{
    struct inspect i = {.cli = cli};
    if (cli->words_count != words_count)
        return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS, "inspect %s needs %s", cli->command->name,
                        cli->command->usage);
    int code = utl_read_format(cli, &i.format);
    if (code != CLI_EXIT_OK)
        return code;
    buf_init(&i.why, UTL_WHY_BYTES_MAX);
    enum status st = open_source(&i, need);
    if (st == ST_OK) {
        warn(&i.source->format_text,
             "FORMAT is not taken; what log and store say of themselves is");
        warn(&i.source->log_text, i.source->log_verdict == ST_CORRUPT
                                      ? "the log is damaged; what comes before is shown"
                                      : "the log ends in a torn tail, as after any crash");
        warn(&i.source->snap_text, "a snapshot of the members is damaged and passed over");
        warn(&i.source->apply_text, "not everything in the log could be applied");
        if (need != INSPECT_LOG) /* which says it of each entry */
            warn_of_uncommitted(i.source);
        buf_reset(&i.why);
        st = fn(&i);
    }
    code = utl_end(cli, st, &i.why);
    utl_source_close(i.source);
    buf_deinit(&i.why);
    return code;
}
