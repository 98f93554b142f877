#include "server/config/load.h"

#include "base/assert.h"
#include "server/config/text.h"
#include "server/config/value.h"

#include <string.h>

#define TEXT_BYTES_MAX (64U << 20) /* of one configuration; a command line ends near 2 MiB */

void config_init(struct config *config)
{
    *config = (struct config){0};
    arena_init(&config->arena, TEXT_BYTES_MAX);
    buf_init(&config->out, TEXT_BYTES_MAX);
    buf_init(&config->err, TEXT_BYTES_MAX);
}

void config_free(struct config *config)
{
    buf_deinit(&config->out);
    buf_deinit(&config->err);
    arena_deinit(&config->arena);
}

void config_note_add(struct config *config, enum log_level level, const char *msg,
                     const char *const fields[4])
{
    struct config_note *note = ARENA_NEW(&config->arena, struct config_note);
    if (note == NULL)
        return;
    *note = (struct config_note){.level = level,
                                 .msg = msg,
                                 .keys = {fields[0], fields[2]},
                                 .values = {fields[1], fields[3]}};
    struct config_note **end = &config->notes;
    while (*end != NULL)
        end = &(*end)->next;
    *end = note;
}

enum status config_refuse(struct config *config, const char *why)
{
    config_note_add(config, LOG_LEVEL_WARN, "failed to verify flags",
                    (const char *const[4]){"error", why});
    config->exit_code = 1;
    return ST_CANCELED;
}

/* Go's flag package: the mistake, then the usage, exit code 2. */
static enum status refuse_command_line(struct config *config, const char *why)
{
    enum status st = buf_printf(&config->err, "%s\n", why);
    if (st == ST_OK)
        config_print_usage(&config->err);
    config->exit_code = 2;
    return ST_CANCELED;
}

bool flag_is_set(const struct flag_marks *marks, const char *name)
{
    size_t count;
    const struct flag *flag = flag_find(name, strlen(name));
    ASSERT(flag != NULL);
    size_t row = (size_t)(flag - flag_table(&count));
    return marks->by_flag[row] || marks->by_env[row];
}

static void set_defaults(struct config *config)
{
    size_t count;
    const struct flag *flags = flag_table(&count);
    for (size_t i = 0; i < count; i++) {
        struct flag_value value;
        const char *why;
        enum status st =
            flag_value_parse(&config->arena, &flags[i], flags[i].initial, &value, &why);
        ASSERT(st == ST_OK);
        flag_value_store(&flags[i], &value, config);
    }
}

/* A flag that is not built yet may still be given its default, as many set-ups do. */
enum status config_set_flag(struct config *config, const struct flag *flag, const char *text,
                            const char **why_out)
{
    struct flag_value value, initial;
    enum status st = flag_value_parse(&config->arena, flag, text, &value, why_out);
    if (st != ST_OK)
        return st;
    if (flag->state == FLAG_NOT_YET) {
        const char *unused;
        st = flag_value_parse(&config->arena, flag, flag->initial, &initial, &unused);
        if (st != ST_OK || !flag_value_eq(flag, &value, &initial))
            return ST_UNSUPPORTED;
    }
    flag_value_store(flag, &value, config);
    return ST_OK;
}

enum status config_refuse_not_yet(struct config *config, const struct flag *flag)
{
    char env[FLAG_ENV_BYTES_MAX];
    return config_refuse(config, text_format(&config->arena,
                                             "--%s (%s) is not supported by this version yet",
                                             flag->name, flag_env_name(flag, env)));
}

static void note_gone(struct config *config, const struct flag *flag)
{
    config_note_add(config, LOG_LEVEL_WARN, "flag is no longer supported - ignoring",
                    (const char *const[4]){"flag-name", flag->name});
}

struct command_line {
    int argc;
    const char *const *argv;
    int next;
};

/* The value of a flag that stands without '='. NULL: there is none. */
static const char *next_value(struct command_line *line, const struct flag *flag)
{
    if (flag->type == FLAG_BOOL || flag->type == FLAG_ACTION || flag->type == FLAG_GONE)
        return "true";
    return line->next < line->argc ? line->argv[line->next++] : NULL;
}

static enum status print_help(struct config *config)
{
    config_print_usage(&config->err);
    config_print_help(&config->out);
    config->exit_code = 0;
    return ST_CANCELED;
}

/* One argument that begins with '-', after Go's FlagSet.parseOne. *not_yet_out is the first flag
 * that is not built yet: refused only when the whole line is found sound. */
static enum status take_flag(struct config *config, struct command_line *line,
                             struct flag_marks *marks, const struct flag **not_yet_out)
{
    const char *argument = line->argv[line->next++];
    const char *name = argument + (argument[1] == '-' ? 2 : 1);
    struct arena *arena = &config->arena;
    if (*name == '\0' || *name == '-' || *name == '=')
        return refuse_command_line(config, text_format(arena, "bad flag syntax: %s", argument));
    size_t name_len = strcspn(name, "=");
    const struct flag *flag = flag_find(name, name_len);
    if (flag == NULL) {
        if ((name_len == 1 && *name == 'h') || (name_len == 4 && memcmp(name, "help", 4) == 0))
            return print_help(config);
        return refuse_command_line(
            config,
            text_format(arena, "flag provided but not defined: -%.*s", (int)name_len, name));
    }
    const char *value = name[name_len] == '=' ? name + name_len + 1 : next_value(line, flag);
    if (value == NULL)
        return refuse_command_line(config,
                                   text_format(arena, "flag needs an argument: -%s", flag->name));
    size_t count;
    marks->by_flag[flag - flag_table(&count)] = true;
    const char *why;
    enum status st = config_set_flag(config, flag, value, &why);
    if (st == ST_UNSUPPORTED) {
        *not_yet_out = *not_yet_out == NULL ? flag : *not_yet_out;
        return ST_OK;
    }
    if (st != ST_OK)
        return refuse_command_line(
            config, text_format(arena, "invalid %s %s for %s-%s: %s",
                                flag->type == FLAG_BOOL ? "boolean value" : "value",
                                text_quote(arena, value), flag->type == FLAG_BOOL ? "" : "flag ",
                                flag->name, why));
    if (flag->type == FLAG_GONE)
        note_gone(config, flag);
    return ST_OK;
}

static enum status load_command_line(struct config *config, int argc, const char *const *argv,
                                     struct flag_marks *marks)
{
    struct command_line line = {.argc = argc, .argv = argv, .next = 1};
    const struct flag *not_yet = NULL;
    while (line.next < argc && argv[line.next][0] == '-' && argv[line.next][1] != '\0') {
        if (strcmp(argv[line.next], "--") == 0) {
            line.next++;
            break;
        }
        enum status st = take_flag(config, &line, marks, &not_yet);
        if (st != ST_OK)
            return st;
    }
    if (line.next < argc)
        return config_refuse(
            config, text_format(&config->arena, "'%s' is not a valid flag", argv[line.next]));
    if (flag_is_set(marks, "version")) {
        config_print_version(&config->out);
        config->exit_code = 0;
        return ST_CANCELED;
    }
    if (*config->config_file != '\0') /* the flags do not count */
        return ST_OK;
    return not_yet == NULL ? ST_OK : config_refuse_not_yet(config, not_yet);
}

/* The row whose variable this is, or NULL; the value follows the name and '='. */
static const struct flag *find_variable(const char *variable)
{
    size_t count;
    size_t name_len = strcspn(variable, "=");
    const struct flag *flags = flag_table(&count);
    for (size_t i = 0; i < count; i++) {
        char env[FLAG_ENV_BYTES_MAX];
        if (strlen(flag_env_name(&flags[i], env)) == name_len &&
            memcmp(env, variable, name_len) == 0)
            return &flags[i];
    }
    return NULL;
}

static enum status take_variable(struct config *config, const char *variable,
                                 const struct flag *flag, struct flag_marks *marks)
{
    struct arena *arena = &config->arena;
    const char *value = strchr(variable, '=') + 1;
    const char *name = text_copy(arena, variable, (size_t)(value - variable) - 1);
    const char *why;
    size_t count;
    enum status st = config_set_flag(config, flag, value, &why);
    if (st == ST_UNSUPPORTED)
        return config_refuse_not_yet(config, flag);
    if (st != ST_OK)
        return config_refuse(config, text_format(arena, "invalid value %s for %s: %s",
                                                 text_quote(arena, value), name, why));
    marks->by_env[flag - flag_table(&count)] = true;
    config_note_add(config, LOG_LEVEL_INFO, "recognized and used environment variable",
                    (const char *const[4]){"variable-name", name, "variable-value", value});
    if (flag->type == FLAG_GONE)
        note_gone(config, flag);
    return ST_OK;
}

/* A variable beside its flag is a conflict even if both say the same. */
static enum status refuse_conflict(struct config *config, const char *variable)
{
    config_note_add(config, LOG_LEVEL_FATAL,
                    "conflicting environment variable is shadowed by corresponding command-line "
                    "flag (either unset environment variable or disable flag))",
                    (const char *const[4]){"environment-variable", variable});
    config->exit_code = 1;
    return ST_CANCELED;
}

static enum status load_environment(struct config *config, const char *const *environment,
                                    struct flag_marks *marks)
{
    for (const char *const *p = environment; *p != NULL; p++) {
        const char *variable = *p;
        const char *equals = strchr(variable, '=');
        if (equals == NULL || strncmp(variable, "ETCD_", 5) != 0)
            continue;
        size_t count;
        const struct flag *flag = find_variable(variable);
        enum status st = ST_OK;
        if (flag != NULL && flag->type == FLAG_ACTION)
            config_note_add(config, LOG_LEVEL_WARN, "cannot set special environment variable",
                            (const char *const[4]){"key", "ETCD_VERSION", "value", equals + 1});
        else if (flag != NULL && marks->by_flag[flag - flag_table(&count)])
            st = refuse_conflict(config, variable);
        else if (flag != NULL && equals[1] != '\0')
            st = take_variable(config, variable, flag, marks);
        else
            config_note_add(config, LOG_LEVEL_WARN, "unrecognized environment variable",
                            (const char *const[4]){"environment-variable", variable});
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}

/* The path of the configuration file, "" if there is none. */
static const char *file_path(const struct config *config, const char *const *environment)
{
    static const char name[] = "ETCD_CONFIG_FILE=";
    if (*config->config_file != '\0')
        return config->config_file;
    for (const char *const *p = environment; *p != NULL; p++) {
        if (strncmp(*p, name, sizeof(name) - 1) == 0)
            return *p + sizeof(name) - 1;
    }
    return "";
}

/* With a file nothing else counts. */
static enum status load_file(struct config *config, const char *path, struct flag_marks *marks)
{
    *marks = (struct flag_marks){0};
    set_defaults(config);
    config->notes = NULL; /* what they tell of the command line */
    return config_load_file(config, path, marks);
}

enum status config_load(struct config *config, int argc, const char *const *argv,
                        const char *const *environment)
{
    struct flag_marks marks = {0};
    set_defaults(config);
    enum status st = load_command_line(config, argc, argv, &marks);
    const char *path = file_path(config, environment);
    if (st == ST_OK)
        st = *path != '\0' ? load_file(config, path, &marks)
                           : load_environment(config, environment, &marks);
    if (st == ST_OK)
        st = config_validate(config, &marks);
    if (st != ST_OK && st != ST_CANCELED)
        config->exit_code = 1;
    return st;
}
