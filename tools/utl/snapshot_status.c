#include "tools/print/json.h"
#include "tools/print/table.h"
#include "tools/print/text.h"
#include "tools/utl/commands.h"
#include "tools/utl/format.h"
#include "tools/utl/scan.h"
#include "tools/utl/utl.h"

#include <inttypes.h>

static void print_simple(FILE *out, const struct utl_summary *s)
{
    char size[PRINT_SIZE_TEXT_MAX];
    fprintf(out, "%" PRIx32 ", %" PRId64 ", %" PRIu64 ", %s\n", s->hash, s->revision,
            s->records_count, print_size(s->size_bytes, size));
}

static enum status print_box(FILE *out, const struct utl_summary *s)
{
    static const char *const header[] = {"HASH", "REVISION", "TOTAL KEYS", "TOTAL SIZE"};
    char hash[16], revision[24], keys[24], size[PRINT_SIZE_TEXT_MAX];
    snprintf(hash, sizeof(hash), "%" PRIx32, s->hash);
    snprintf(revision, sizeof(revision), "%" PRId64, s->revision);
    snprintf(keys, sizeof(keys), "%" PRIu64, s->records_count);
    const char *row[] = {hash, revision, keys, print_size(s->size_bytes, size)};
    struct print_table table;
    print_table_init(&table, header, 4);
    enum status st = print_table_add(&table, row);
    if (st == ST_OK)
        print_table_print(&table, out);
    print_table_deinit(&table);
    return st;
}

static void print_json(FILE *out, const struct utl_summary *s)
{
    struct print_json json = print_json_to(out);
    print_json_object(&json, NULL);
    print_json_u64(&json, "hash", s->hash);
    print_json_i64(&json, "revision", s->revision);
    print_json_u64(&json, "totalKey", s->records_count);
    print_json_u64(&json, "totalSize", s->size_bytes);
    print_json_object_end(&json);
    fputc('\n', out);
}

static void print_fields(FILE *out, const struct utl_summary *s)
{
    print_field_u64(out, "Hash", s->hash);
    print_field_i64(out, "Revision", s->revision);
    print_field_u64(out, "Keys", s->records_count);
    print_field_u64(out, "Size", s->size_bytes);
}

static enum status print(FILE *out, enum utl_format format, const struct utl_summary *summary)
{
    switch (format) {
    case UTL_SIMPLE:
        print_simple(out, summary);
        break;
    case UTL_TABLE:
        return print_box(out, summary);
    case UTL_JSON:
        print_json(out, summary);
        break;
    case UTL_FIELDS:
        print_fields(out, summary);
        break;
    }
    return ST_OK;
}

static int run_status(struct cli *cli)
{
    enum utl_format format;
    const char *path = utl_word(cli, "snapshot status");
    if (path == NULL)
        return CLI_EXIT_BAD_ARGUMENTS;
    int code = utl_read_format(cli, &format);
    if (code != CLI_EXIT_OK)
        return code;
    struct buf why;
    struct utl_summary summary;
    buf_init(&why, UTL_WHY_BYTES_MAX);
    enum status st = utl_summarise(path, &summary, &why);
    if (st == ST_OK)
        st = print(cli->out, format, &summary);
    code = utl_end(cli, st, &why);
    buf_deinit(&why);
    return code;
}

const struct cli_command utl_status_command = {
    .name = "status",
    .usage = "<filename>",
    .brief = "Gets backend snapshot status of a given file",
    .text =
        "When --write-out is set to simple, this command prints out comma-separated status "
        "lists for each\nendpoint. The items in the lists are hash, revision, total keys, total "
        "size.",
    .run = run_status};
