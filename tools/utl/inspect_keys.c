/* inspect keys, get, history, space: by one pass over the records, in bounded memory. */
#include "base/minmax.h"
#include "storage/mvcc.h"
#include "tools/print/text.h"
#include "tools/utl/inspect.h"
#include "tools/utl/kube.h"
#include "tools/utl/revisions.h"

#include <inttypes.h>
#include <time.h>

#define ARENA_BYTES_MAX (64U << 20)

/* ---- keys and history ---- */

static const struct utl_column key_columns[] = {
    {"KEY", "key", "Key"},
    {"CREATED", "create_revision", "CreateRevision"},
    {"MODIFIED", "mod_revision", "ModRevision"},
    {"VERSION", "version", "Version"},
    {"LEASE", "lease", "Lease"},
    {"VALUE BYTES", "value_bytes", "ValueBytes"},
    {"DELETED", "deleted", "Deleted"},
};
#define COLUMNS_COUNT(columns) ((uint32_t)(sizeof(columns) / sizeof((columns)[0])))

static void put_row(struct utl_rows *rows, const struct utl_revision *r)
{
    utl_rows_bytes(rows, r->key);
    utl_rows_i64(rows, r->create_revision);
    utl_rows_i64(rows, r->revision.main);
    utl_rows_i64(rows, r->version);
    utl_rows_hex(rows, (uint64_t)r->lease);
    utl_rows_u64(rows, r->value_bytes);
    utl_rows_bool(rows, r->tombstone);
}

static enum status list(struct inspect *i, const struct utl_revisions_options *options,
                        bool all_revisions, int64_t limit)
{
    struct utl_revisions *revisions;
    enum status st = utl_revisions_open(i->source, options, &i->why, &revisions);
    if (st != ST_OK)
        return st;
    struct utl_rows rows;
    utl_rows_begin(&rows, i->cli->out, i->format, key_columns, COLUMNS_COUNT(key_columns));
    for (int64_t given = 0; st == ST_OK && (limit <= 0 || given < limit); given++) {
        struct utl_revision revision;
        st = all_revisions ? utl_revisions_next(revisions, &revision)
                           : utl_revisions_next_live(revisions, &revision);
        if (st == ST_OK)
            put_row(&rows, &revision);
    }
    enum status ended = utl_rows_end(&rows);
    utl_revisions_close(revisions);
    return st == ST_NOT_FOUND || st == ST_OK ? ended : st;
}

/* ---- Kubernetes' objects ---- */

static const struct utl_column object_columns[] = {
    {"TYPE", "type", "Type"},
    {"NAMESPACE", "namespace", "Namespace"},
    {"NAME", "name", "Name"},
    {"APIVERSION", "apiVersion", "APIVersion"},
    {"KIND", "kind", "Kind"},
    {"MODIFIED", "mod_revision", "ModRevision"},
    {"VALUE BYTES", "value_bytes", "ValueBytes"},
};

/* A name as text: what Kubernetes allows in one needs no quoting. */
static void put_name(struct utl_rows *rows, struct buf *text, struct slice name)
{
    buf_reset(text);
    enum status st = buf_append(text, name);
    if (st == ST_OK)
        st = buf_append(text, slice_make("", 1));
    bool is_text = st == ST_OK && strlen((const char *)text->data) == name.len;
    utl_rows_text(rows, is_text ? (const char *)text->data : "?");
}

static enum status put_object(struct utl_rows *rows, struct buf *text, struct utl_revisions *from,
                              const struct utl_revision *revision, const struct kube_key *key)
{
    struct arena arena;
    struct slice record;
    struct mvcc_kv kv;
    struct kube_object object;
    enum status st = utl_revisions_record(from, revision->revision, &record);
    if (st == ST_OK)
        st = mvcc_kv_decode(record, &kv);
    if (st != ST_OK)
        return st;
    arena_init(&arena, ARENA_BYTES_MAX);
    if (!kube_object_read(kv.value, &arena, &object))
        object = (struct kube_object){0};
    put_name(rows, text, key->type);
    put_name(rows, text, key->namespace);
    put_name(rows, text, key->name);
    put_name(rows, text, object.api_version);
    put_name(rows, text, object.form == KUBE_ENCRYPTED ? SLICE("(encrypted)") : object.kind);
    utl_rows_i64(rows, revision->revision.main);
    utl_rows_u64(rows, revision->value_bytes);
    arena_deinit(&arena);
    return ST_OK;
}

static enum status list_objects(struct inspect *i, const struct utl_revisions_options *options,
                                int64_t limit)
{
    struct utl_revisions *revisions;
    struct utl_rows rows;
    struct buf text;
    enum status st = utl_revisions_open(i->source, options, &i->why, &revisions);
    if (st != ST_OK)
        return st;
    buf_init(&text, UINT32_MAX);
    utl_rows_begin(&rows, i->cli->out, i->format, object_columns, COLUMNS_COUNT(object_columns));
    for (int64_t given = 0; st == ST_OK && (limit <= 0 || given < limit);) {
        struct utl_revision revision;
        struct kube_key key;
        st = utl_revisions_next_live(revisions, &revision);
        if (st != ST_OK || !kube_key_read(revision.key, &key))
            continue;
        st = put_object(&rows, &text, revisions, &revision, &key);
        given++;
    }
    enum status ended = utl_rows_end(&rows);
    utl_revisions_close(revisions);
    buf_deinit(&text);
    return st == ST_NOT_FOUND || st == ST_OK ? ended : st;
}

static enum status list_keys(struct inspect *i)
{
    struct cli *cli = i->cli;
    const struct utl_revisions_options options = {
        .prefix = slice_from_str(cli_string(cli, "prefix")), .revision = cli_int(cli, "rev")};
    if (cli_bool(cli, "kubernetes"))
        return list_objects(i, &options, cli_int(cli, "limit"));
    return list(i, &options, cli_bool(cli, "all-revisions"), cli_int(cli, "limit"));
}

static int run_keys(struct cli *cli)
{
    return inspect_run(cli, 1, INSPECT_STORE, list_keys);
}

static enum status list_history(struct inspect *i)
{
    const struct utl_revisions_options options = {.prefix = slice_from_str(i->cli->words[1]),
                                                  .whole_key = true};
    return list(i, &options, /* all_revisions= */ true, /* limit= */ 0);
}

static int run_history(struct cli *cli)
{
    return inspect_run(cli, 2, INSPECT_STORE, list_history);
}

static const struct cli_flag keys_flags[] = {
    {.name = "prefix", .kind = CLI_STRING, .initial = "", .help = "only keys that begin so"},
    {.name = "rev", .kind = CLI_INT, .initial = "0", .help = "as they were at this revision"},
    {.name = "all-revisions",
     .kind = CLI_BOOL,
     .help = "every revision that is kept, deletions too"},
    {.name = "limit", .kind = CLI_INT, .initial = "0", .help = "no more lines than this"},
    {.name = "kubernetes",
     .kind = CLI_BOOL,
     .help = "Kubernetes' objects alone, by type, namespace and name"},
    INSPECT_FLAGS,
    {0},
};
const struct cli_command inspect_keys_command = {
    .name = "keys",
    .usage = "<source>",
    .brief = "Lists keys with their revisions, lease and size of the value",
    .text = "The source is a data directory (Cleat's, running or stopped, or a stopped etcd's), a "
            "snapshot or a db file.",
    .flags = keys_flags,
    .run = run_keys};

static const struct cli_flag history_flags[] = {INSPECT_FLAGS, {0}};
const struct cli_command inspect_history_command = {
    .name = "history",
    .usage = "<source> <key>",
    .brief = "Lists the revisions of a key that are kept",
    .flags = history_flags,
    .run = run_history};

/* ---- get ---- */

static void print_time(FILE *out, const char *what, int64_t seconds, struct slice text)
{
    char line[40] = "";
    struct tm utc;
    time_t time = (time_t)seconds;
    if (text.len > 0) {
        fprintf(out, "  %s: %.*s\n", what, (int)text.len, (const char *)text.data);
    } else if (seconds != 0 && gmtime_r(&time, &utc) != NULL &&
               strftime(line, sizeof(line), "%Y-%m-%dT%H:%M:%SZ", &utc) > 0) {
        fprintf(out, "  %s: %s\n", what, line);
    }
}

static void print_line(FILE *out, const char *what, struct slice value)
{
    if (value.len > 0) {
        fprintf(out, "%s: ", what);
        print_quoted(out, value);
        fputc('\n', out);
    }
}

static void print_pairs(FILE *out, const char *what, const struct kube_pair *pairs, uint32_t count)
{
    if (count > 0)
        fprintf(out, "  %s:\n", what);
    for (uint32_t i = 0; i < count; i++) {
        fputs("    ", out);
        print_quoted(out, pairs[i].key);
        fputs(": ", out);
        print_quoted(out, pairs[i].value);
        fputc('\n', out);
    }
}

static void print_object(FILE *out, const struct kube_object *o, size_t bytes)
{
    if (o->form == KUBE_ENCRYPTED) {
        fprintf(out, "(%zu bytes, encrypted by Kubernetes with ", bytes);
        print_slice(out, o->provider);
        fputs(")\n", out);
        return;
    }
    print_line(out, "apiVersion", o->api_version);
    print_line(out, "kind", o->kind);
    fputs("metadata:\n", out);
    print_line(out, "  name", o->name);
    print_line(out, "  generateName", o->generate_name);
    print_line(out, "  namespace", o->namespace);
    print_line(out, "  uid", o->uid);
    if (o->generation != 0)
        fprintf(out, "  generation: %" PRId64 "\n", o->generation);
    print_time(out, "creationTimestamp", o->created_s, o->created);
    print_time(out, "deletionTimestamp", o->deleted_s, o->deleted);
    print_pairs(out, "labels", o->labels, o->labels_count);
    print_pairs(out, "ownerReferences", o->owners, o->owners_count);
    for (uint32_t i = 0; i < o->finalizers_count; i++)
        print_line(out, "  finalizer", o->finalizers[i]);
    if (o->annotations_count > 0)
        fprintf(out, "  annotations: %" PRIu32 "\n", o->annotations_count);
    fprintf(out, "(%zu bytes of %s; --raw gives them as they are)\n", bytes,
            o->form == KUBE_JSON ? "JSON" : "protobuf");
}

static const struct utl_column value_columns[] = {
    {"KEY", "key", "Key"},
    {"CREATED", "create_revision", "CreateRevision"},
    {"MODIFIED", "mod_revision", "ModRevision"},
    {"VERSION", "version", "Version"},
    {"LEASE", "lease", "Lease"},
    {"VALUE", "value", "Value"},
    {"APIVERSION", "api_version", "APIVersion"},
    {"KIND", "kind", "Kind"},
};

static enum status print_rows(struct inspect *i, const struct mvcc_kv *kv,
                              const struct kube_object *object)
{
    struct utl_rows rows;
    utl_rows_begin(&rows, i->cli->out, i->format, value_columns, COLUMNS_COUNT(value_columns));
    utl_rows_bytes(&rows, kv->key);
    utl_rows_i64(&rows, kv->create_revision);
    utl_rows_i64(&rows, kv->mod_revision);
    utl_rows_i64(&rows, kv->version);
    utl_rows_hex(&rows, (uint64_t)kv->lease);
    utl_rows_bytes(&rows, kv->value);
    utl_rows_bytes(&rows, object->api_version);
    utl_rows_bytes(&rows, object->kind);
    return utl_rows_end(&rows);
}

static enum status print_value(struct inspect *i, const struct mvcc_kv *kv)
{
    struct arena arena;
    struct kube_object object;
    FILE *out = i->cli->out;
    enum status st = ST_OK;
    arena_init(&arena, ARENA_BYTES_MAX);
    bool is_kube = kube_object_read(kv->value, &arena, &object);
    if (!is_kube)
        object = (struct kube_object){0};
    if (cli_bool(i->cli, "raw")) {
        print_slice(out, kv->value);
    } else if (i->format != UTL_SIMPLE) {
        st = print_rows(i, kv, &object);
    } else {
        print_slice(out, kv->key);
        fputc('\n', out);
        if (is_kube) {
            print_object(out, &object, kv->value.len);
        } else {
            print_slice(out, kv->value);
            fputc('\n', out);
        }
    }
    arena_deinit(&arena);
    return st;
}

static enum status get(struct inspect *i)
{
    const struct utl_revisions_options options = {.prefix = slice_from_str(i->cli->words[1]),
                                                  .whole_key = true,
                                                  .revision = cli_int(i->cli, "rev")};
    struct utl_revisions *revisions;
    struct utl_revision found;
    struct slice record;
    struct mvcc_kv kv;
    enum status st = utl_revisions_open(i->source, &options, &i->why, &revisions);
    if (st != ST_OK)
        return st;
    st = utl_revisions_next_live(revisions, &found);
    if (st == ST_NOT_FOUND)
        st = buf_printf(&i->why, "there is no key '%s' at revision %" PRId64, i->cli->words[1],
                        options.revision > 0 ? options.revision
                                             : utl_revisions_current(revisions)) == ST_OK
                 ? ST_NOT_FOUND
                 : ST_NO_MEMORY;
    if (st == ST_OK)
        st = utl_revisions_record(revisions, found.revision, &record);
    if (st == ST_OK)
        st = mvcc_kv_decode(record, &kv);
    if (st == ST_OK)
        st = print_value(i, &kv);
    utl_revisions_close(revisions);
    return st;
}

static int run_get(struct cli *cli)
{
    return inspect_run(cli, 2, INSPECT_STORE, get);
}

static const struct cli_flag get_flags[] = {
    {.name = "rev", .kind = CLI_INT, .initial = "0", .help = "as it was at this revision"},
    {.name = "raw", .kind = CLI_BOOL, .help = "the value's bytes and nothing else"},
    INSPECT_FLAGS,
    {0},
};
const struct cli_command inspect_get_command = {
    .name = "get",
    .usage = "<source> <key>",
    .brief = "Shows a value; of Kubernetes' objects what they are and their metadata",
    .flags = get_flags,
    .run = run_get};

/* ---- space ---- */

static const struct utl_column space_columns[] = {
    {"PREFIX", "prefix", "Prefix"},
    {"KEYS", "keys", "Keys"},
    {"LIVE BYTES", "live_bytes", "LiveBytes"},
    {"OLD REVISIONS", "old_revisions", "OldRevisions"},
    {"OLD BYTES", "old_bytes", "OldBytes"},
};

struct space {
    struct utl_rows *rows;
    struct buf prefix; /* of the group */
    uint64_t keys, live_bytes, old_count, old_bytes;
    struct utl_revision last; /* not yet counted; its key is not valid any more */
    struct buf last_key;
    bool has_last;
};

/* Up to and with the nth '/' behind a first one; the whole key where there are fewer. */
static struct slice prefix_of(struct slice key, int64_t depth)
{
    int64_t seen = 0;
    for (size_t at = 1; at < key.len; at++) {
        if (key.data[at] == '/' && ++seen == depth)
            return slice_make(key.data, at + 1);
    }
    return seen > 0 ? key : SLICE_EMPTY;
}

static void count_last(struct space *s, bool is_newest)
{
    if (!s->has_last)
        return;
    if (is_newest && !s->last.tombstone) {
        s->keys++;
        s->live_bytes += s->last.record_bytes;
    } else {
        s->old_count++;
        s->old_bytes += s->last.record_bytes;
    }
}

static void end_group(struct space *s)
{
    if (s->keys == 0 && s->old_count == 0)
        return;
    utl_rows_bytes(s->rows, buf_slice(&s->prefix));
    utl_rows_u64(s->rows, s->keys);
    utl_rows_u64(s->rows, s->live_bytes);
    utl_rows_u64(s->rows, s->old_count);
    utl_rows_u64(s->rows, s->old_bytes);
    s->keys = s->live_bytes = s->old_count = s->old_bytes = 0;
}

static enum status count_revision(struct space *s, const struct utl_revision *r, int64_t depth)
{
    bool is_same_key = s->has_last && slice_eq(r->key, buf_slice(&s->last_key));
    enum status st = ST_OK;
    count_last(s, !is_same_key);
    if (!is_same_key) {
        struct slice prefix = prefix_of(r->key, depth);
        if (!slice_eq(prefix, buf_slice(&s->prefix))) {
            end_group(s);
            buf_reset(&s->prefix);
            st = buf_append(&s->prefix, prefix);
        }
        buf_reset(&s->last_key);
        if (st == ST_OK)
            st = buf_append(&s->last_key, r->key);
    }
    s->last = *r;
    s->has_last = true;
    return st;
}

static enum status count_all(struct inspect *i, struct utl_revisions *revisions)
{
    struct utl_rows rows;
    struct space space = {.rows = &rows};
    int64_t depth = max_i64(cli_int(i->cli, "depth"), 1);
    buf_init(&space.prefix, UINT32_MAX);
    buf_init(&space.last_key, UINT32_MAX);
    utl_rows_begin(&rows, i->cli->out, i->format, space_columns, COLUMNS_COUNT(space_columns));
    enum status st = ST_OK;
    while (st == ST_OK) {
        struct utl_revision revision;
        st = utl_revisions_next(revisions, &revision);
        if (st == ST_OK)
            st = count_revision(&space, &revision, depth);
    }
    count_last(&space, /* is_newest= */ true);
    end_group(&space);
    enum status ended = utl_rows_end(&rows);
    buf_deinit(&space.prefix);
    buf_deinit(&space.last_key);
    return st == ST_NOT_FOUND ? ended : st;
}

static enum status measure(struct inspect *i)
{
    const struct utl_revisions_options options = {.prefix =
                                                      slice_from_str(cli_string(i->cli, "prefix"))};
    struct utl_revisions *revisions;
    enum status st = utl_revisions_open(i->source, &options, &i->why, &revisions);
    if (st != ST_OK)
        return st;
    st = count_all(i, revisions);
    utl_revisions_close(revisions);
    const struct backend_stat *stat = &i->source->stat;
    if (st == ST_OK && i->format == UTL_SIMPLE) {
        char size[PRINT_SIZE_TEXT_MAX], unused[PRINT_SIZE_TEXT_MAX];
        uint64_t free_bytes = stat->size_bytes - min_u64(stat->in_use_bytes, stat->size_bytes);
        fprintf(i->cli->out, "file %s: %s, of which %s in free pages\n", i->source->store_path,
                print_size(stat->size_bytes, size), print_size(free_bytes, unused));
    }
    return st;
}

static int run_space(struct cli *cli)
{
    return inspect_run(cli, 1, INSPECT_STORE, measure);
}

static const struct cli_flag space_flags[] = {
    {.name = "prefix", .kind = CLI_STRING, .initial = "", .help = "only keys that begin so"},
    {.name = "depth",
     .kind = CLI_INT,
     .initial = "2",
     .help = "parts of the key, by '/', that make a prefix"},
    INSPECT_FLAGS,
    {0},
};
const struct cli_command inspect_space_command = {
    .name = "space",
    .usage = "<source>",
    .brief = "Shows the bytes of live values and of old revisions by prefix",
    .flags = space_flags,
    .run = run_space};
