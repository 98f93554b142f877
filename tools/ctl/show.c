/* The writers: how an answer is printed. */
#include "tools/ctl/ctl.h"

#include "tools/print/message.h"
#include "tools/print/table.h"
#include "tools/print/text.h"

#include <inttypes.h>
#include <string.h>

static int refuse(struct ctl *ctl, const char *writer)
{
    return cli_fail(ctl->cli, CLI_EXIT_BAD_FEATURE, "%s not supported as output format", writer);
}

static int show_by(struct ctl *ctl, ctl_view_fn view, const char *writer, const void *message,
                   const void *about)
{
    if (view == NULL)
        return refuse(ctl, writer);
    view(ctl, message, about);
    return CLI_EXIT_OK;
}

static int show_json(struct ctl *ctl, const struct ctl_view *view, const void *message,
                     const void *about)
{
    if (view->json != NULL) {
        view->json(ctl, message, about);
    } else {
        struct print_json json = print_json_to(ctl->cli->out);
        print_json_message(&json, NULL, message);
    }
    fputc('\n', ctl->cli->out);
    return CLI_EXIT_OK;
}

static int show_protobuf(struct ctl *ctl, const struct ctl_view *view, const void *message,
                         const void *about)
{
    if (view->no_protobuf != NULL)
        return cli_fail(ctl->cli, CLI_EXIT_BAD_FEATURE, "%s", view->no_protobuf);
    if (view->protobuf != NULL)
        view->protobuf(ctl, message, about);
    else
        ctl_protobuf(ctl, message);
    return CLI_EXIT_OK;
}

int ctl_show(struct ctl *ctl, const struct ctl_view *view, const void *message, const void *about)
{
    switch (ctl->writer) {
    case CTL_SIMPLE:
        break;
    case CTL_FIELDS:
        return show_by(ctl, view->fields, "fields", message, about);
    case CTL_TABLE:
        return show_by(ctl, view->table, "table", message, about);
    case CTL_JSON:
        return show_json(ctl, view, message, about);
    case CTL_PROTOBUF:
        return show_protobuf(ctl, view, message, about);
    }
    view->simple(ctl, message, about);
    return CLI_EXIT_OK;
}

int ctl_ask(struct cli *cli, const struct ctl_method *method, const ProtobufCMessage *request,
            const struct ctl_view *view, const void *about)
{
    struct ctl ctl;
    int code = ctl_open(cli, &ctl);
    if (code == CLI_EXIT_OK) {
        struct ctl_answer answer = ctl_call(&ctl, method, request);
        code = answer.error != NULL ? cli_fail(cli, CLI_EXIT_ERROR, "%s", answer.error)
                                    : ctl_show(&ctl, view, answer.message, about);
    }
    ctl_close(&ctl);
    return code;
}

void ctl_fields_header(struct ctl *ctl, const Etcdserverpb__ResponseHeader *header)
{
    static const Etcdserverpb__ResponseHeader none = ETCDSERVERPB__RESPONSE_HEADER__INIT;
    if (header == NULL)
        header = &none;
    FILE *out = ctl->cli->out;
    print_field_u64(out, "ClusterID", header->cluster_id);
    print_field_u64(out, "MemberID", header->member_id);
    print_field_i64(out, "Revision", header->revision);
    print_field_u64(out, "RaftTerm", header->raft_term);
}

void ctl_fields_kv(struct ctl *ctl, const char *prefix, const Mvccpb__KeyValue *kv)
{
    FILE *out = ctl->cli->out;
    fprintf(out, "\"%sKey\" : ", prefix);
    print_quoted(out, ctl_slice(kv->key));
    fprintf(out, "\n\"%sCreateRevision\" : %" PRId64 "\n", prefix, kv->create_revision);
    fprintf(out, "\"%sModRevision\" : %" PRId64 "\n", prefix, kv->mod_revision);
    fprintf(out, "\"%sVersion\" : %" PRId64 "\n", prefix, kv->version);
    fprintf(out, "\"%sValue\" : ", prefix);
    print_quoted(out, ctl_slice(kv->value));
    fprintf(out, "\n\"%sLease\" : %" PRId64 "\n", prefix, kv->lease);
}

static void simple_line(struct ctl *ctl, ProtobufCBinaryData bytes)
{
    if (ctl->hex)
        print_escaped(ctl->cli->out, ctl_slice(bytes));
    else
        print_slice(ctl->cli->out, ctl_slice(bytes));
    fputc('\n', ctl->cli->out);
}

void ctl_simple_kv(struct ctl *ctl, const Mvccpb__KeyValue *kv)
{
    if (!ctl->value_only)
        simple_line(ctl, kv->key);
    simple_line(ctl, kv->value);
}

void ctl_json_header(struct print_json *json, const Etcdserverpb__ResponseHeader *header)
{
    if (header != NULL)
        print_json_members(json, &header->base);
}

void ctl_protobuf(struct ctl *ctl, const ProtobufCMessage *message)
{
    struct slice bytes;
    if (ctl_pack(ctl, message, &bytes) == ST_OK)
        print_slice(ctl->cli->out, bytes);
    else
        fputs("out of memory\n", ctl->cli->err);
}

void ctl_rows_simple(struct ctl *ctl, const struct print_table *table)
{
    for (uint32_t r = 0; r < table->rows; r++) {
        for (uint32_t i = 0; i < table->columns; i++)
            fprintf(ctl->cli->out, "%s%s", i > 0 ? ", " : "",
                    table->cells[(size_t)r * table->columns + i]);
        fputc('\n', ctl->cli->out);
    }
}

/* Every answer that is only a header has it first, like this one. */
static const Etcdserverpb__ResponseHeader *header_of(const void *message)
{
    const ProtobufCMessage *base = message;
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field_by_name(base->descriptor, "header");
    if (field == NULL)
        return NULL;
    const Etcdserverpb__ResponseHeader *header;
    memcpy(&header, (const char *)message + field->offset, sizeof(header));
    return header;
}

static void simple_about(struct ctl *ctl, const void *message, const void *about)
{
    (void)message;
    fprintf(ctl->cli->out, "%s\n", (const char *)about);
}

static void fields_about(struct ctl *ctl, const void *message, const void *about)
{
    (void)about;
    ctl_fields_header(ctl, header_of(message));
}

const struct ctl_view ctl_header_view = {.simple = simple_about, .fields = fields_about};
