#include "base/minmax.h"
#include "tools/utl/entry_text.h"
#include "tools/utl/inspect.h"

#include <inttypes.h>

#define LINE_BYTES_MAX (1U << 20)

static const struct utl_column log_columns[] = {
    {"INDEX", "index", "Index"}, {"TERM", "term", "Term"},          {"TYPE", "type", "Type"},
    {"STATE", "state", "State"}, {"REQUEST", "request", "Request"},
};

struct listing {
    const struct utl_source *source;
    struct utl_rows rows;
    struct buf line;
};

/* How far an entry has come, as far as this member's files say. */
static const char *state_of(const struct utl_source *source, raft_index index)
{
    if (index <= source->mark.index)
        return "stored";
    return index <= source->committed ? "committed" : "uncommitted";
}

static enum status put_entry(void *context, const struct raft_entry *entry)
{
    struct listing *listing = context;
    buf_reset(&listing->line);
    enum status st = utl_entry_text(entry, &listing->line);
    if (st == ST_TOO_BIG) /* the head of it says enough */
        listing->line.len = min_size(listing->line.len, LINE_BYTES_MAX - 1);
    else if (st != ST_OK)
        return st;
    st = buf_append(&listing->line, slice_make("", 1));
    if (st != ST_OK)
        return st;
    utl_rows_u64(&listing->rows, entry->index);
    utl_rows_u64(&listing->rows, entry->term);
    utl_rows_text(&listing->rows, utl_entry_type(entry->type));
    utl_rows_text(&listing->rows, state_of(listing->source, entry->index));
    utl_rows_text(&listing->rows, (const char *)listing->line.data);
    return ST_OK;
}

static enum status list_log(struct inspect *i)
{
    struct utl_source *source = i->source;
    uint64_t from = cli_uint(i->cli, "from"), to = cli_uint(i->cli, "to");
    if (!source->has_log)
        return buf_printf(&i->why, "'%s' is a file of the state alone: it has no log",
                          i->cli->words[0]) == ST_OK
                   ? ST_INVALID
                   : ST_NO_MEMORY;
    struct listing listing = {.source = source};
    buf_init(&listing.line, LINE_BYTES_MAX);
    utl_rows_begin(&listing.rows, i->cli->out, i->format, log_columns,
                   (uint32_t)(sizeof(log_columns) / sizeof(log_columns[0])));
    enum status st =
        utl_source_entries(source, from, to == 0 ? UINT64_MAX : to, put_entry, &listing);
    enum status ended = utl_rows_end(&listing.rows);
    buf_deinit(&listing.line);
    return st == ST_OK ? ended : st;
}

static int run_log(struct cli *cli)
{
    return inspect_run(cli, 1, INSPECT_LOG, list_log);
}

static const struct cli_flag log_flags[] = {
    {.name = "from", .kind = CLI_UINT, .initial = "0", .help = "the first index to show"},
    {.name = "to", .kind = CLI_UINT, .initial = "0", .help = "the last one; 0: all"},
    INSPECT_WAL_DIR_FLAG,
    {0},
};
const struct cli_command inspect_log_command = {.name = "log",
                                                .usage = "<source>",
                                                .brief = "Lists the entries of the log, decoded",
                                                .flags = log_flags,
                                                .run = run_log};
