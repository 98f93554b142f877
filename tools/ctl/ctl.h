/* tools/ctl/ctl.h - what the commands of cleatctl share: the connection, one call, and the writers.
 *
 * A command is a row for tools/cli and a function. One that is a single call reads:
 *
 *     static const struct ctl_method list = {"/etcdserverpb.Lease/LeaseLeases",
 *                                            &etcdserverpb__lease_leases_response__descriptor,
 *                                            .unlimited = true};
 *     static const struct ctl_view list_view = {.simple = show_list, .fields = list_fields};
 *
 *     static int run_list(struct cli *cli)
 *     {
 *         Etcdserverpb__LeaseLeasesRequest request = ETCDSERVERPB__LEASE_LEASES_REQUEST__INIT;
 *         return ctl_ask(cli, &list, &request.base, &list_view, NULL);
 *     }
 *
 * and gets its line in the table of main.c. Exit codes are those of tools/cli/cli.h. One thread. */
#ifndef TOOLS_CTL_CTL_H
#define TOOLS_CTL_CTL_H
#include "base/arena.h"
#include "proto/rpc.pb-c.h"
#include "tools/cli/cli.h"
#include "tools/client/caller.h"
#include "tools/print/json.h"

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stdint.h>

#define CTL_VERSION "3.5.15" /* of the etcdctl whose commands and output these are */
#define CTL_API_VERSION "3.5"

/* ---- the connection (connect.c) ---- */

enum ctl_writer { CTL_SIMPLE, CTL_FIELDS, CTL_JSON, CTL_PROTOBUF, CTL_TABLE };

/* The connection flags, read and checked. Texts are borrowed from the cli. */
struct ctl_options {
    char *const *endpoints;
    uint32_t endpoints_count;
    uint64_t dial_timeout_ms, keepalive_time_ms, keepalive_timeout_ms;
    struct client_tls tls;
    bool has_tls;     /* for endpoints that name no scheme */
    const char *user; /* NULL: none; with its password */
    const char *password;
};

struct ctl {
    struct cli *cli;
    struct ctl_options options;
    struct caller *caller;             /* owned; NULL until it is opened */
    const char *logger;                /* in the log lines of failed calls */
    const char *log_target;            /* likewise; NULL: the caller's first endpoint */
    uint32_t connections_per_endpoint; /* 0: one */
    enum ctl_writer writer;
    bool hex;
    bool value_only;     /* simple prints no keys */
    uint64_t timeout_ms; /* --command-timeout; 0: not a moment */
    struct arena arena;  /* of answers; a command with many of them resets it between */
};

/* Set by a signal handler, it ends what waits as canceled; who handles signals resets it. */
extern volatile sig_atomic_t ctl_stop;

/* Reads the environment, the global flags and the writer, and opens the caller; a user is
 * authenticated, else nothing is sent yet. Returns an exit code, errors told. In every case
 * ctl_close() ends *out, which stays where it is until then. */
int ctl_open(struct cli *cli, struct ctl *out);
/* The first half of it: everything but the caller, for commands that open callers of their own. */
int ctl_read_flags(struct cli *cli, struct ctl *out);
/* The endpoints that --discovery-srv names, none if its domain has none; in the cli's arena.
 * Returns an exit code, errors told. */
int ctl_discover(struct cli *cli, char *const **out, uint32_t *count_out);
/* Opens ctl->caller for these endpoints instead of --endpoints. Returns an exit code. */
int ctl_dial(struct ctl *ctl, char *const *endpoints, uint32_t count);
/* Opens a caller by ctl's options, owned: caller_close(), before ctl ends. Returns NULL, or what is
 * wrong, not told yet, in ctl->arena. Uses nothing of the cli but its stderr: threads that have
 * each a ctl of their own may connect at once. */
const char *ctl_connect(struct ctl *ctl, char *const *endpoints, uint32_t count,
                        struct caller **out);
/* Reads the flags cert, key, cacert and insecure-transport with that prefix ("", "dest-") and the
 * files they name. Returns an exit code, errors told. */
int ctl_read_tls(struct cli *cli, const char *prefix, struct ctl_options *out);
/* Likewise user ("name" or "name:password") and password, which is asked for when there is none. */
int ctl_read_user(struct cli *cli, const char *prefix, const char *prompt, struct ctl_options *out);
void ctl_close(struct ctl *ctl);

struct ctl_method {
    const char *path; /* "/etcdserverpb.KV/Put" */
    const ProtobufCMessageDescriptor *response;
    bool unlimited; /* etcdctl sets no deadline for it */
};

/* What came back; in ctl->arena. */
struct ctl_answer {
    const void *message; /* of the method's response type; NULL on an error */
    const char *error;   /* NULL, or the text that etcdctl prints behind "Error: " */
    uint32_t code;       /* enum client_code */
};

/* One call, waited for, to whichever endpoint can be reached. */
struct ctl_answer ctl_call(struct ctl *ctl, const struct ctl_method *method,
                           const ProtobufCMessage *request);
/* The same to this endpoint, over a connection of its own. */
struct ctl_answer ctl_call_at(struct ctl *ctl, const char *endpoint,
                              const struct ctl_method *method, const ProtobufCMessage *request);
/* Logs a failed call that none of these made. */
void ctl_log_failure(struct ctl *ctl, const struct client_reply *reply);
/* The error text of a reply that is none of CLIENT_OK: etcd's own texts bare, others as gRPC's. */
const char *ctl_error_text(struct ctl *ctl, const struct client_reply *reply);
/* Encodes a message into ctl's arena. Errors: ST_TOO_BIG, ST_NO_MEMORY. */
CHECKED enum status ctl_pack(struct ctl *ctl, const ProtobufCMessage *message, struct slice *out);
/* Decodes one into ctl's arena; NULL for what is none. */
ProtobufCMessage *ctl_unpack(struct ctl *ctl, const ProtobufCMessageDescriptor *type,
                             struct slice bytes);

/* ---- writers (show.c) ---- */

/* Prints one message to ctl->cli->out. `about` is what the command knows besides. */
typedef void (*ctl_view_fn)(struct ctl *ctl, const void *message, const void *about);

struct ctl_view {
    ctl_view_fn simple;
    ctl_view_fn fields;      /* NULL: "fields not supported as output format", exit code 4 */
    ctl_view_fn table;       /* NULL: likewise */
    ctl_view_fn json;        /* NULL: the message as it is */
    ctl_view_fn protobuf;    /* NULL: the message as it is */
    const char *no_protobuf; /* instead: why not, exit code 4 */
};

/* Prints a message by --write-out. Returns an exit code. */
int ctl_show(struct ctl *ctl, const struct ctl_view *view, const void *message, const void *about);
/* Opens, calls any endpoint, shows the answer, closes. Returns an exit code. */
int ctl_ask(struct cli *cli, const struct ctl_method *method, const ProtobufCMessage *request,
            const struct ctl_view *view, const void *about);

/* Pieces of writers. A missing header shows as zeros. */
void ctl_fields_header(struct ctl *ctl, const Etcdserverpb__ResponseHeader *header);
void ctl_fields_kv(struct ctl *ctl, const char *prefix, const Mvccpb__KeyValue *kv);
void ctl_simple_kv(struct ctl *ctl, const Mvccpb__KeyValue *kv); /* key line, value line */
/* The four members of a header, as Go shows one that is embedded in another struct. */
void ctl_json_header(struct print_json *json, const Etcdserverpb__ResponseHeader *header);
/* Marshals a message to the output. */
void ctl_protobuf(struct ctl *ctl, const ProtobufCMessage *message);
/* Views for answers that are only a header: simple prints `about`, a whole line without its end. */
extern const struct ctl_view ctl_header_view;
/* The rows that the table has in a box as lines, their cells joined by ", ". */
struct print_table;
void ctl_rows_simple(struct ctl *ctl, const struct print_table *table);

/* ---- arguments ---- */

static inline struct slice ctl_slice(ProtobufCBinaryData bytes)
{
    return slice_make(bytes.data, bytes.len);
}
static inline ProtobufCBinaryData ctl_bytes(const char *text)
{
    return (ProtobufCBinaryData){.len = strlen(text), .data = (uint8_t *)(uintptr_t)text};
}
/* The end of the range of keys that begin with prefix: its last byte below 0xff raised, what
 * follows dropped; a zero byte, "to the end", when there is none. In the cli's arena; empty on
 * ST_NO_MEMORY. */
CHECKED enum status ctl_prefix_end(struct cli *cli, ProtobufCBinaryData prefix,
                                   ProtobufCBinaryData *out);
/* A lease's or member's id in hexadecimal. Returns an exit code, the error told. */
int ctl_lease_argument(struct cli *cli, const char *text, int64_t *out);
int ctl_member_argument(struct cli *cli, const char *text, uint64_t *out);
/* Asks on the terminal (echo off) or reads a line of standard input that is none; at its end the
 * answer is empty. The text is in the cli's arena. Errors: ST_NO_MEMORY. */
CHECKED enum status ctl_ask_password(struct cli *cli, const char *prompt, const char **out);

/* ---- the commands, one group a file ---- */

extern const struct cli_command ctl_put_command, ctl_get_command, ctl_del_command,
    ctl_compaction_command;
extern const struct cli_command ctl_endpoint_command, ctl_watch_command, ctl_lock_command,
    ctl_elect_command, ctl_make_mirror_command, ctl_check_perf_command, ctl_check_datascale_command;
extern const struct cli_command ctl_txn_command;
extern const struct cli_command ctl_lease_grant_command, ctl_lease_revoke_command,
    ctl_lease_timetolive_command, ctl_lease_list_command, ctl_lease_keep_alive_command;
extern const struct cli_command ctl_member_add_command, ctl_member_remove_command,
    ctl_member_update_command, ctl_member_promote_command, ctl_member_list_command;
extern const struct cli_command ctl_alarm_list_command, ctl_alarm_disarm_command,
    ctl_defrag_command, ctl_move_leader_command;
extern const struct cli_command ctl_auth_enable_command, ctl_auth_disable_command,
    ctl_auth_status_command;
extern const struct cli_command ctl_user_add_command, ctl_user_delete_command, ctl_user_get_command,
    ctl_user_list_command, ctl_user_passwd_command, ctl_user_grant_role_command,
    ctl_user_revoke_role_command;
extern const struct cli_command ctl_role_add_command, ctl_role_delete_command, ctl_role_get_command,
    ctl_role_list_command, ctl_role_grant_permission_command, ctl_role_revoke_permission_command;
extern const struct cli_command ctl_snapshot_save_command, ctl_snapshot_restore_command,
    ctl_snapshot_status_command;
#endif
