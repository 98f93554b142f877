/* server/config/file.c - --config-file: etcd's YAML. Keys are the flags' names, but for TLS, which
 * has maps of its own; a duration is a number of nanoseconds. Types are checked as etcd's reader
 * does, with its words. */
#include "server/config/load.h"
#include "server/config/text.h"
#include "server/config/value.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

struct reading {
    struct config *config;
    struct flag_marks *marks;
    yaml_document_t *document;
};

/* Keys that are not their flag's name; map is NULL at the top. */
static const struct alias {
    const char *map, *key, *flag;
} aliases[] = {
    {NULL, "experimental-snapshot-catch-up-entries", "experimental-snapshot-catchup-entries"},
    {"socket-options", "reuse-port", "socket-reuse-port"},
    {"socket-options", "reuse-address", "socket-reuse-address"},
    {"client-transport-security", "cert-file", "cert-file"},
    {"client-transport-security", "key-file", "key-file"},
    {"client-transport-security", "client-cert-file", "client-cert-file"},
    {"client-transport-security", "client-key-file", "client-key-file"},
    {"client-transport-security", "client-cert-auth", "client-cert-auth"},
    {"client-transport-security", "trusted-ca-file", "trusted-ca-file"},
    {"client-transport-security", "auto-tls", "auto-tls"},
    {"client-transport-security", "allowed-hostname", "client-cert-allowed-hostname"},
    {"client-transport-security", "crl-file", "client-crl-file"},
    {"peer-transport-security", "cert-file", "peer-cert-file"},
    {"peer-transport-security", "key-file", "peer-key-file"},
    {"peer-transport-security", "client-cert-file", "peer-client-cert-file"},
    {"peer-transport-security", "client-key-file", "peer-client-key-file"},
    {"peer-transport-security", "client-cert-auth", "peer-client-cert-auth"},
    {"peer-transport-security", "trusted-ca-file", "peer-trusted-ca-file"},
    {"peer-transport-security", "auto-tls", "peer-auto-tls"},
    {"peer-transport-security", "allowed-cn", "peer-cert-allowed-cn"},
    {"peer-transport-security", "allowed-hostname", "peer-cert-allowed-hostname"},
    {"peer-transport-security", "crl-file", "peer-crl-file"},
};
#define ALIASES_COUNT (sizeof(aliases) / sizeof(aliases[0]))

static bool is_map(const char *key)
{
    for (size_t i = 0; i < ALIASES_COUNT; i++) {
        if (aliases[i].map != NULL && strcmp(aliases[i].map, key) == 0)
            return true;
    }
    return false;
}

/* NULL: no flag has this key. */
static const struct flag *flag_of(const char *map, const char *key)
{
    for (size_t i = 0; i < ALIASES_COUNT; i++) {
        bool same_map = map == NULL ? aliases[i].map == NULL
                                    : aliases[i].map != NULL && strcmp(aliases[i].map, map) == 0;
        if (same_map && strcmp(aliases[i].key, key) == 0)
            return flag_find(aliases[i].flag, strlen(aliases[i].flag));
    }
    const struct flag *flag = map == NULL ? flag_find(key, strlen(key)) : NULL;
    bool is_key = flag != NULL && flag->type != FLAG_ACTION && flag->type != FLAG_GONE &&
                  strcmp(key, "config-file") != 0;
    return is_key ? flag : NULL;
}

/* ---- scalars: what a plain one means, in YAML 1.1 ---- */

enum kind { KIND_NULL, KIND_BOOL, KIND_INTEGER, KIND_FLOAT, KIND_STRING };

static bool is_among(const char *text, const char *const *words)
{
    for (; *words != NULL; words++) {
        if (strcmp(text, *words) == 0)
            return true;
    }
    return false;
}

static bool is_true(const char *text)
{
    return is_among(text, (const char *const[]){"y", "Y", "yes", "Yes", "YES", "true", "True",
                                                "TRUE", "on", "On", "ON", NULL});
}

static bool is_false(const char *text)
{
    return is_among(text, (const char *const[]){"n", "N", "no", "No", "NO", "false", "False",
                                                "FALSE", "off", "Off", "OFF", NULL});
}

static enum kind kind_of(const yaml_node_t *node)
{
    const char *text = (const char *)node->data.scalar.value;
    if (node->data.scalar.style != YAML_PLAIN_SCALAR_STYLE)
        return KIND_STRING;
    if (is_among(text, (const char *const[]){"", "~", "null", "Null", "NULL", NULL}))
        return KIND_NULL;
    if (is_true(text) || is_false(text))
        return KIND_BOOL;
    const char *digits = text + (text[0] == '-' || text[0] == '+');
    if (*digits != '\0' && digits[strspn(digits, "0123456789")] == '\0')
        return KIND_INTEGER;
    char *end;
    (void)strtod(text, &end);
    bool is_number = *end == '\0' && digits[0] != '\0' && strchr("0123456789.", digits[0]) != NULL;
    return is_number ? KIND_FLOAT : KIND_STRING;
}

/* ---- one key ---- */

static const char *type_name(const struct flag *flag)
{
    switch (flag->type) {
    case FLAG_BOOL:
        return "bool";
    case FLAG_UINT:
        return "uint";
    case FLAG_UINT32:
        return "uint32";
    case FLAG_INT:
        return "int64";
    case FLAG_DURATION:
        return "time.Duration";
    default:
        return "string";
    }
}

static enum status refuse_type(struct reading *r, const char *got, const char *key,
                               const char *wanted)
{
    return config_refuse(r->config,
                         text_format(&r->config->arena,
                                     "error unmarshaling JSON: while decoding JSON: json: cannot "
                                     "unmarshal %s into Go struct field configYAML.Config.%s of "
                                     "type %s",
                                     got, key, wanted));
}

static enum status set(struct reading *r, const struct flag *flag, const char *key,
                       const char *text)
{
    const char *why;
    size_t count;
    struct config *config = r->config;
    enum status st = config_set_flag(config, flag, text, &why);
    if (st == ST_UNSUPPORTED)
        return config_refuse_not_yet(config, flag);
    if (st != ST_OK && strcmp(key, "initial-cluster-state") == 0)
        return config_refuse(config, text_format(&config->arena, "unexpected clusterState %s",
                                                 text_quote(&config->arena, text)));
    if (st != ST_OK)
        return config_refuse(
            config, text_format(&config->arena, "unexpected error setting up %s: %s", key, why));
    r->marks->by_flag[flag - flag_table(&count)] = true;
    return ST_OK;
}

static bool wants_number(const struct flag *flag)
{
    return flag->type == FLAG_UINT || flag->type == FLAG_UINT32 || flag->type == FLAG_INT ||
           flag->type == FLAG_DURATION;
}

static enum status set_scalar(struct reading *r, const struct flag *flag, const char *key,
                              const yaml_node_t *node)
{
    struct arena *arena = &r->config->arena;
    enum kind kind = kind_of(node);
    const char *text = text_copy(arena, (const char *)node->data.scalar.value,
                                 strlen((const char *)node->data.scalar.value));
    if (kind == KIND_NULL)
        return ST_OK;
    bool is_unsigned = flag->type == FLAG_UINT || flag->type == FLAG_UINT32;
    bool fits = wants_number(flag)        ? kind == KIND_INTEGER && !(is_unsigned && text[0] == '-')
                : flag->type == FLAG_BOOL ? kind == KIND_BOOL
                                          : kind == KIND_STRING;
    if (!fits) {
        const char *got = kind == KIND_BOOL ? "bool" : kind == KIND_STRING ? "string" : "number";
        if (wants_number(flag) && (kind == KIND_INTEGER || kind == KIND_FLOAT))
            got = text_format(arena, "number %s", text);
        return refuse_type(r, got, key, type_name(flag));
    }
    if (flag->type == FLAG_DURATION)
        text = text_format(arena, "%sns", text);
    else if (flag->type == FLAG_BOOL)
        text = is_true(text) ? "true" : "false";
    return set(r, flag, key, text);
}

static bool is_list(const char *key)
{
    return strcmp(key, "log-outputs") == 0 || strcmp(key, "cipher-suites") == 0;
}

static enum status set_list(struct reading *r, const struct flag *flag, const char *key,
                            const yaml_node_t *node)
{
    const char *joined = "";
    const yaml_node_item_t *items = node->data.sequence.items.start;
    for (const yaml_node_item_t *item = items; item < node->data.sequence.items.top; item++) {
        const yaml_node_t *element = yaml_document_get_node(r->document, *item);
        if (element->type != YAML_SCALAR_NODE || kind_of(element) != KIND_STRING)
            return refuse_type(r, "number", key, "string");
        joined = text_format(&r->config->arena, "%s%s%s", joined, item == items ? "" : ",",
                             (const char *)element->data.scalar.value);
    }
    return set(r, flag, key, joined);
}

static enum status set_key(struct reading *r, const char *map, const char *key,
                           const yaml_node_t *node)
{
    const struct flag *flag = flag_of(map, key);
    if (flag == NULL) {
        config_note_add(
            r->config, LOG_LEVEL_WARN, "the configuration file has a key that is unknown",
            (const char *const[4]){"key", text_copy(&r->config->arena, key, strlen(key))});
        return ST_OK;
    }
    if (node->type == YAML_SCALAR_NODE && is_list(key) && kind_of(node) != KIND_NULL)
        return refuse_type(r, "string", key, "[]string");
    if (node->type == YAML_SCALAR_NODE)
        return set_scalar(r, flag, key, node);
    if (node->type == YAML_SEQUENCE_NODE && is_list(key))
        return set_list(r, flag, key, node);
    return refuse_type(r, node->type == YAML_SEQUENCE_NODE ? "array" : "object", key,
                       type_name(flag));
}

/* Maps lie one in the other at most once. */
static enum status set_map(struct reading *r, const char *map, const yaml_node_t *node)
{
    enum status st = ST_OK;
    for (const yaml_node_pair_t *pair = node->data.mapping.pairs.start;
         st == ST_OK && pair < node->data.mapping.pairs.top; pair++) {
        const yaml_node_t *key = yaml_document_get_node(r->document, pair->key);
        const yaml_node_t *value = yaml_document_get_node(r->document, pair->value);
        if (key->type != YAML_SCALAR_NODE)
            return config_refuse(r->config, "a key in the configuration file is not a word");
        const char *name = (const char *)key->data.scalar.value;
        if (map == NULL && is_map(name) && value->type == YAML_MAPPING_NODE)
            st = set_map(r, name, value);
        else if (map == NULL && is_map(name))
            st = value->type == YAML_SCALAR_NODE && kind_of(value) == KIND_NULL
                     ? ST_OK
                     : refuse_type(r, "string", name, "embed.securityConfig");
        else
            st = set_key(r, map, name, value);
    }
    return st;
}

/* ---- the file ---- */

static enum status refuse_root(struct reading *r, const yaml_node_t *root)
{
    const char *got = root->type == YAML_SEQUENCE_NODE ? "array"
                      : kind_of(root) == KIND_STRING   ? "string"
                                                       : "number";
    return config_refuse(r->config,
                         text_format(&r->config->arena,
                                     "error unmarshaling JSON: while decoding JSON: json: cannot "
                                     "unmarshal %s into Go value of type embed.configYAML",
                                     got));
}

static enum status read_document(struct reading *r, yaml_parser_t *parser)
{
    yaml_document_t document;
    if (!yaml_parser_load(parser, &document))
        return config_refuse(
            r->config,
            text_format(&r->config->arena, "error converting YAML to JSON: yaml: line %zu: %s",
                        parser->problem_mark.line + 1,
                        parser->problem == NULL ? "cannot be read" : parser->problem));
    r->document = &document;
    const yaml_node_t *root = yaml_document_get_root_node(&document);
    enum status st = ST_OK;
    if (root != NULL && root->type == YAML_MAPPING_NODE)
        st = set_map(r, NULL, root);
    else if (root != NULL && (root->type != YAML_SCALAR_NODE || kind_of(root) != KIND_NULL))
        st = refuse_root(r, root);
    yaml_document_delete(&document);
    return st;
}

enum status config_load_file(struct config *config, const char *path, struct flag_marks *marks)
{
    struct reading r = {.config = config, .marks = marks};
    yaml_parser_t parser;
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return config_refuse(
            config, text_format(&config->arena, "open %s: %s", path,
                                errno == ENOENT ? "no such file or directory" : strerror(errno)));
    if (!yaml_parser_initialize(&parser)) {
        fclose(file);
        return ST_NO_MEMORY;
    }
    yaml_parser_set_input_file(&parser, file);
    enum status st = read_document(&r, &parser);
    yaml_parser_delete(&parser);
    fclose(file);
    if (st == ST_OK)
        config_note_add(config, LOG_LEVEL_INFO,
                        "loaded server configuration, other configuration command line flags and "
                        "environment variables will be ignored if provided",
                        (const char *const[4]){"path", path});
    return st;
}
