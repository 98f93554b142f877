/* Global flags from the environment, by etcd's rules. */
#include "tools/cli/cli_private.h"

#include "tools/print/log_line.h"

#include <ctype.h>
#include <string.h>
#include <unistd.h>

#define VARIABLE_BYTES_MAX 128U

static const char *variable_of(const struct cli *cli, const struct cli_flag *flag,
                               char out[VARIABLE_BYTES_MAX])
{
    snprintf(out, VARIABLE_BYTES_MAX, "%s%s", cli->program->environment, flag->name);
    for (char *c = out + strlen(cli->program->environment); *c != '\0'; c++)
        *c = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
    return out;
}

static void log_variable(struct cli *cli, const char *level, const char *msg, const char *variable)
{
    struct print_json json;
    print_log_begin(&json, cli->err, level, NULL, "cli/environment.c", msg);
    print_json_text(&json, "environment-variable", variable);
    print_log_end(&json);
}

/* The variable's flag, or NULL. */
static struct cli_value *value_of_variable(struct cli *cli, const char *name, size_t name_len)
{
    for (const struct cli_flag *flag = cli->program->flags; flag->name != NULL; flag++) {
        char variable[VARIABLE_BYTES_MAX];
        variable_of(cli, flag, variable);
        if (strlen(variable) == name_len && memcmp(variable, name, name_len) == 0)
            return cli_value_find(cli, flag->name, strlen(flag->name));
    }
    return NULL;
}

static bool is_named(const char *const *names, const char *name, size_t name_len)
{
    for (; names != NULL && *names != NULL; names++) {
        if (strlen(*names) == name_len && memcmp(*names, name, name_len) == 0)
            return true;
    }
    return false;
}

/* Takes over one variable with the prefix. Returns an exit code. */
static int take(struct cli *cli, const char *const *also, const char *variable)
{
    size_t name_len = strcspn(variable, "=");
    const char *text = variable[name_len] == '=' ? variable + name_len + 1 : "";
    struct cli_value *value = value_of_variable(cli, variable, name_len);
    if (value != NULL && value->given && !value->from_environment) {
        log_variable(cli, "fatal",
                     "conflicting environment variable is shadowed by corresponding command-line "
                     "flag (either unset environment variable or disable flag))",
                     cli_format(cli, "%.*s", (int)name_len, variable));
        return CLI_EXIT_ERROR;
    }
    if (*text == '\0' || (value == NULL && !is_named(also, variable, name_len))) {
        log_variable(cli, "warn", "unrecognized environment variable", variable);
        return CLI_EXIT_OK;
    }
    const char *why;
    if (value == NULL || value->from_environment) /* the first of two of one name counts */
        return CLI_EXIT_OK;
    value->from_environment = cli_value_set(cli, value, text, &why) == ST_OK;
    value->given = value->from_environment;
    /* etcdctl goes on in silence with the default, which then surprises. */
    if (!value->given)
        log_variable(cli, "warn", "environment variable is ignored, its value is invalid",
                     variable);
    return CLI_EXIT_OK;
}

int cli_environment(struct cli *cli, const char *const *also)
{
    const char *prefix = cli->program->environment;
    if (prefix == NULL)
        return CLI_EXIT_OK;
    int code = CLI_EXIT_OK;
    for (char **variable = environ; *variable != NULL && code == CLI_EXIT_OK; variable++) {
        if (strncmp(*variable, prefix, strlen(prefix)) == 0)
            code = take(cli, also, *variable);
    }
    return code;
}
