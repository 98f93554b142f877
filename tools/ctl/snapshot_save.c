/* snapshot save: a member's state as a file, complete or not there at all. */
#include "tools/ctl/ctl.h"

#include "base/clock.h"
#include "base/digest.h"
#include "base/minmax.h"
#include "tools/print/log_line.h"
#include "tools/print/text.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define POLL_MS 100U
#define RETRY_MS 25U
#define SECTOR_BYTES 512 /* etcd tells by it whether a checksum is behind the pages */

/* One download. */
struct download {
    struct ctl ctl;
    const char *path, *part_path;
    int file;
    uint64_t bytes;
    struct sha256 *digest;      /* of all but the last bytes, which are the digest itself */
    uint8_t last[SHA256_BYTES]; /* held back, as it may be those */
    size_t last_len;
    bool is_over;
    struct client_reply end; /* its text is in ctl.arena */
    const char *error;       /* our own: a disk, a message that is none */
};

static void begin_log(struct download *download, struct print_json *json, const char *level,
                      const char *logger, const char *msg)
{
    print_log_begin(json, download->ctl.cli->err, level, logger, "ctl/snapshot_save.c", msg);
}

static void log_plain(struct download *download, const char *logger, const char *msg)
{
    struct print_json json;
    begin_log(download, &json, "info", logger, msg);
    print_log_end(&json);
}

static void log_text(struct download *download, const char *msg, const char *key, const char *value)
{
    struct print_json json;
    begin_log(download, &json, "info", NULL, msg);
    print_json_text(&json, key, value);
    print_log_end(&json);
}

/* The system's words for errno, as Go writes them. */
static const char *reason(struct ctl *ctl)
{
    const char *text = strerror(errno);
    return cli_format(ctl->cli, "%c%s", tolower(text[0]), text + 1);
}

/* ---- what arrives ---- */

static const char *write_all(struct download *download, struct slice bytes)
{
    while (bytes.len > 0) {
        ssize_t written = write(download->file, bytes.data, bytes.len);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return cli_format(download->ctl.cli, "write %s: %s", download->part_path,
                              reason(&download->ctl));
        bytes = slice_make(bytes.data + written, bytes.len - (size_t)written);
    }
    return NULL;
}

/* Digests what is certain not to be among the last bytes, and keeps those. */
static const char *digest(struct download *download, struct slice bytes)
{
    size_t all = download->last_len + bytes.len;
    size_t certain = all > SHA256_BYTES ? all - SHA256_BYTES : 0;
    size_t from_last = min_size(certain, download->last_len);
    enum status st = sha256_add(download->digest, slice_make(download->last, from_last));
    if (st == ST_OK)
        st = sha256_add(download->digest, slice_make(bytes.data, certain - from_last));
    if (st != ST_OK)
        return status_str(st);
    download->last_len -= from_last;
    memmove(download->last, download->last + from_last, download->last_len);
    memcpy(download->last + download->last_len, bytes.data + (certain - from_last),
           bytes.len - (certain - from_last));
    download->last_len = all - certain;
    return NULL;
}

static void on_message(void *context, struct slice body)
{
    struct download *download = context;
    if (download->error != NULL)
        return;
    Etcdserverpb__SnapshotResponse *response =
        etcdserverpb__snapshot_response__unpack(NULL, body.len, body.data);
    if (response == NULL) {
        download->error = "the server's answer is not a message of its type";
        return;
    }
    struct slice blob = ctl_slice(response->blob);
    download->bytes += blob.len;
    if (blob.len > 0)
        download->error = write_all(download, blob);
    if (download->error == NULL && blob.len > 0)
        download->error = digest(download, blob);
    etcdserverpb__snapshot_response__free_unpacked(response, NULL);
}

static void on_ended(void *context, const struct client_reply *reply)
{
    struct download *download = context;
    download->is_over = true;
    download->end.code = reply->code;
    if (arena_copy(&download->ctl.arena, reply->text, &download->end.text) != ST_OK)
        download->end.text = SLICE_EMPTY;
}

/* ---- the stream ---- */

/* Opens the stream. Returns NULL or what is wrong. */
static const char *open_stream(struct download *download, uint64_t timeout_ms,
                               struct client_stream **out)
{
    struct ctl *ctl = &download->ctl;
    struct client_request request = {.method = "/etcdserverpb.Maintenance/Snapshot",
                                     .timeout_ms = timeout_ms};
    struct client_stream_events events = {on_message, on_ended, download};
    struct client_reply reply;
    download->is_over = false;
    enum status st = caller_stream(ctl->caller, &request, 0, &events, &ctl->arena, &reply, out);
    if (st == ST_OK && *out != NULL) {
        st = client_stream_send(*out, SLICE_EMPTY); /* a SnapshotRequest has no fields */
        client_stream_finish(*out);
    }
    if (st != ST_OK)
        return status_str(st);
    if (*out != NULL)
        return NULL;
    struct print_json json;
    begin_log(download, &json, "error", "client", "streamer failed to create ClientStream");
    print_json_text(&json, "error", caller_rpc_error_text(&reply, &ctl->arena));
    print_log_end(&json);
    return ctl_error_text(ctl, &reply);
}

static const char *await_end(struct download *download, struct client_stream *stream)
{
    struct ctl *ctl = &download->ctl;
    while (!download->is_over) {
        if (download->error != NULL)
            client_stream_cancel(stream);
        client_poll(caller_client(ctl->caller), POLL_MS);
    }
    if (download->error != NULL)
        return download->error;
    if (download->end.code == CLIENT_OK) {
        log_plain(download, "client", "completed snapshot read; closing");
        return NULL;
    }
    return ctl_error_text(ctl, &download->end);
}

/* Until a stream has brought something, another one may be begun. */
static bool may_retry(const struct download *download)
{
    return download->error == NULL && download->bytes == 0 &&
           download->end.code == CLIENT_UNAVAILABLE;
}

static const char *receive(struct download *download)
{
    struct ctl *ctl = &download->ctl;
    const char *endpoint = ctl->options.endpoints[0], *error;
    uint64_t timeout_ms = cli_given(ctl->cli, "command-timeout") ? ctl->timeout_ms : 0;
    struct client_stream *stream = NULL;
    error = open_stream(download, timeout_ms, &stream);
    if (error != NULL)
        return error;
    log_plain(download, "client", "opened snapshot stream; downloading");
    log_text(download, "fetching snapshot", "endpoint", endpoint);
    while ((error = await_end(download, stream)) != NULL && may_retry(download)) {
        client_wait(caller_client(ctl->caller), RETRY_MS);
        error = open_stream(download, timeout_ms, &stream);
        if (error != NULL)
            return error;
    }
    if (error == NULL || download->error != NULL)
        return error;
    struct print_json json;
    begin_log(download, &json, "warn", "client", "failed to receive from snapshot stream; closing");
    print_json_text(&json, "error", caller_rpc_error_text(&download->end, &ctl->arena));
    print_log_end(&json);
    return error;
}

/* ---- the file ---- */

static const char *check(struct download *download)
{
    struct cli *cli = download->ctl.cli;
    if (download->bytes % SECTOR_BYTES != SHA256_BYTES)
        return cli_format(cli, "sha256 checksum not found [bytes: %llu]",
                          (unsigned long long)download->bytes);
    uint8_t expected[SHA256_BYTES];
    enum status st = sha256_end(download->digest, expected);
    if (st != ST_OK)
        return status_str(st);
    if (memcmp(expected, download->last, SHA256_BYTES) != 0)
        return "the snapshot was damaged on its way: its sha256 checksum does not match";
    return NULL;
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

/* "now", "3 seconds ago". */
static const char *ago(struct cli *cli, uint64_t began_ns)
{
    static const struct {
        long long seconds;
        const char *name;
    } units[] = {{86400, "day"}, {3600, "hour"}, {60, "minute"}, {1, "second"}};
    long long took = (long long)((now_ns() - began_ns) / NS_PER_S);
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        long long count = took / units[i].seconds;
        if (count > 0)
            return cli_format(cli, "%lld %s%s ago", count, units[i].name, count > 1 ? "s" : "");
    }
    return "now";
}

/* The name in its folder has to be as durable as the bytes. */
static void sync_folder(const char *path)
{
    char *copy = strdup(path);
    if (copy == NULL)
        return;
    int folder = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder >= 0) {
        (void)fsync(folder); /* some file systems cannot; the file itself is synced */
        close(folder);
    }
    free(copy);
}

static const char *put_in_place(struct download *download, uint64_t began_ns)
{
    struct cli *cli = download->ctl.cli;
    const char *path = download->path, *part = download->part_path;
    if (fsync(download->file) != 0)
        return cli_format(cli, "sync %s: %s", part, reason(&download->ctl));
    int closed = close(download->file);
    download->file = -1;
    if (closed != 0)
        return cli_format(cli, "close %s: %s", part, reason(&download->ctl));
    struct print_json json;
    char size[PRINT_SIZE_TEXT_MAX];
    begin_log(download, &json, "info", NULL, "fetched snapshot");
    print_json_text(&json, "endpoint", download->ctl.options.endpoints[0]);
    print_json_text(&json, "size", print_size(download->bytes, size));
    print_json_text(&json, "took", ago(cli, began_ns));
    print_log_end(&json);
    struct stat there;
    errno = stat(path, &there) == 0 && S_ISDIR(there.st_mode) ? EEXIST : 0;
    if (errno == EEXIST || rename(part, path) != 0)
        return cli_format(cli, "could not rename %s to %s (rename %s %s: %s)", part, path, part,
                          path, reason(&download->ctl));
    sync_folder(path);
    log_text(download, "saved", "path", path);
    return NULL;
}

/* ---- the command ---- */

static const char *save(struct download *download)
{
    struct ctl *ctl = &download->ctl;
    const char *error =
        ctl_connect(ctl, ctl->options.endpoints, ctl->options.endpoints_count, &ctl->caller);
    if (error != NULL)
        return error;
    if (sha256_new(&download->digest) != ST_OK)
        return "out of memory";
    download->file = open(download->part_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (download->file < 0)
        return cli_format(ctl->cli, "could not open %s (open %s: %s)", download->part_path,
                          download->part_path, reason(ctl));
    log_text(download, "created temporary db file", "path", download->part_path);
    uint64_t began_ns = now_ns();
    error = receive(download);
    if (error == NULL)
        error = check(download);
    if (error == NULL)
        error = put_in_place(download, began_ns);
    if (error == NULL)
        return NULL;
    unlink(download->part_path);
    return error;
}

static const char *list_text(struct ctl *ctl)
{
    const char *out = "";
    for (uint32_t i = 0; i < ctl->options.endpoints_count; i++)
        out = cli_format(ctl->cli, "%s%s%s", out, i > 0 ? " " : "", ctl->options.endpoints[i]);
    return out;
}

static int run_save(struct cli *cli)
{
    if (cli->words_count != 1)
        return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS, "snapshot save expects one argument");
    struct download download = {.path = cli->words[0], .file = -1};
    download.part_path = cli_format(cli, "%s.part", download.path);
    int code = ctl_read_flags(cli, &download.ctl);
    download.ctl.logger = "client";
    const char *error = NULL;
    if (code == CLI_EXIT_OK && download.ctl.options.endpoints_count != 1)
        error =
            cli_format(cli, "snapshot must be requested to one selected node, not multiple [%s]",
                       list_text(&download.ctl));
    else if (code == CLI_EXIT_OK)
        error = save(&download);
    if (error != NULL)
        code = cli_fail(cli, CLI_EXIT_INTERRUPTED, "%s", error);
    else if (code == CLI_EXIT_OK)
        fprintf(cli->out, "Snapshot saved at %s\n", download.path);
    if (download.file >= 0)
        close(download.file);
    sha256_free(download.digest);
    ctl_close(&download.ctl);
    return code;
}

const struct cli_command ctl_snapshot_save_command = {
    .name = "save",
    .usage = "<filename>",
    .brief = "Stores the state of a member in a file",
    .text = "The file is written beside its name and renamed when it is complete and synced.\n"
            "Name one member by --endpoints.",
    .run = run_save,
};
