/* hashkv: etcd's HashKV of a file, to compare with what members answer. */
#include "storage/mvcc.h"
#include "tools/utl/commands.h"
#include "tools/utl/inspect.h"

static const struct utl_column columns[] = {
    {"HASH", "hash", "Hash"},
    {"HASH REVISION", "hashRevision", "Hash revision"},
    {"COMPACT REVISION", "compactRevision", "Compact revision"},
};

struct hashed {
    uint32_t hash;
    int64_t revision, compacted;
};

static void print_json(FILE *out, const struct hashed *hashed)
{
    struct print_json json = print_json_to(out);
    print_json_object(&json, NULL);
    print_json_u64(&json, "hash", hashed->hash);
    print_json_i64(&json, "hashRevision", hashed->revision);
    print_json_i64(&json, "compactRevision", hashed->compacted);
    print_json_object_end(&json);
    fputc('\n', out);
}

static enum status explain(struct inspect *i, enum status st, int64_t asked)
{
    if (st != ST_FUTURE && st != ST_COMPACTED)
        return st;
    enum status said = buf_printf(&i->why, "revision %lld %s", (long long)asked,
                                  st == ST_FUTURE ? "lies in the future" : "has been compacted");
    (void)said; /* the status is what counts */
    return st;
}

static enum status hash(struct inspect *i)
{
    struct hashed hashed = {.revision = cli_int(i->cli, "rev")};
    int64_t current;
    enum status st = mvcc_hash_kv(i->source->mvcc, UTL_SOURCE_READER, hashed.revision, &hashed.hash,
                                  &current, &hashed.compacted);
    utl_source_end_progress(i->source);
    if (st != ST_OK)
        return explain(i, st, hashed.revision);
    if (hashed.revision <= 0)
        hashed.revision = current;
    if (i->format == UTL_JSON) {
        print_json(i->cli->out, &hashed);
        return ST_OK;
    }
    struct utl_rows rows;
    utl_rows_begin(&rows, i->cli->out, i->format, columns, 3);
    utl_rows_u64(&rows, hashed.hash);
    utl_rows_i64(&rows, hashed.revision);
    utl_rows_i64(&rows, hashed.compacted);
    return utl_rows_end(&rows);
}

static int run(struct cli *cli)
{
    return inspect_run(cli, 1, INSPECT_STATE, hash);
}

static const struct cli_flag flags[] = {
    {.name = "rev",
     .kind = CLI_INT,
     .initial = "0",
     .help = "maximum revision to hash (default: 0 for latest revision)"},
    INSPECT_FLAGS,
    {0},
};
const struct cli_command utl_hashkv_command = {
    .name = "hashkv",
    .usage = "<filename or data directory>",
    .brief = "Prints the KV history hash of a given file or directory",
    .flags = flags,
    .run = run};
