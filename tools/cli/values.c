#include "tools/cli/cli_private.h"

#include "base/assert.h"
#include "base/duration.h"
#include "tools/print/text.h"

#include <stdarg.h>
#include <string.h>

const struct cli_flag cli_help_flags[] = {
    {.name = "help", .letter = 'h', .kind = CLI_BOOL, .help = "print this help and exit"},
    {0},
};

const char *cli_flag_initial(const struct cli_flag *flag)
{
    if (flag->initial != NULL)
        return flag->initial;
    switch (flag->kind) {
    case CLI_BOOL:
        return "false";
    case CLI_INT:
    case CLI_UINT:
        return "0";
    case CLI_DURATION:
        return "0s";
    case CLI_STRING:
    case CLI_LIST:
        break;
    }
    return "";
}

const char *cli_format(struct cli *cli, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    char *text = size < 0 ? NULL : arena_alloc_raw(&cli->arena, (size_t)size + 1);
    if (text == NULL)
        return "out of memory";
    va_start(arguments, format);
    vsnprintf(text, (size_t)size + 1, format, arguments);
    va_end(arguments);
    return text;
}

/* Go's text for a number that is none. */
static const char *number_error(struct cli *cli, const char *function, const char *text,
                                const char *why)
{
    char *quoted = arena_alloc_raw(&cli->arena, print_quoted_size(slice_from_str(text)) + 1);
    if (quoted == NULL)
        return "out of memory";
    print_quoted_write(slice_from_str(text), quoted);
    return cli_format(cli, "strconv.%s: parsing %s: %s", function, quoted, why);
}

/* With base 0 Go takes the base from the prefix and allows '_' between digits. */
static uint32_t take_prefix(const char **text)
{
    if ((*text)[0] != '0' || (*text)[1] == '\0')
        return 10;
    char letter = (char)((*text)[1] | 0x20);
    uint32_t base = letter == 'x' ? 16 : letter == 'b' ? 2 : 8;
    *text += base == 8 && letter != 'o' ? 1 : 2;
    return base;
}

static uint32_t digit_value(char c)
{
    if (c >= '0' && c <= '9')
        return (uint32_t)(c - '0');
    char lower = (char)(c | 0x20);
    return lower >= 'a' && lower <= 'z' ? (uint32_t)(lower - 'a') + 10 : UINT32_MAX;
}

/* ST_INVALID: no number; ST_TOO_BIG: past 64 bits. */
static enum status read_magnitude(const char *text, uint32_t base, uint64_t *out)
{
    const char *first = text;
    bool underscores = base == 0; /* one at a time, between digits or behind the prefix */
    if (base == 0)
        base = take_prefix(&text);
    uint64_t number = 0;
    bool digits = false, overflow = false;
    for (; *text != '\0'; text++) {
        if (underscores && *text == '_' && text > first && text[-1] != '_' && text[1] != '\0')
            continue;
        uint32_t digit = digit_value(*text);
        if (digit >= base)
            return ST_INVALID;
        digits = true;
        overflow = overflow || __builtin_mul_overflow(number, base, &number) ||
                   __builtin_add_overflow(number, digit, &number);
    }
    *out = number;
    return !digits ? ST_INVALID : overflow ? ST_TOO_BIG : ST_OK;
}

enum status cli_parse_uint(struct cli *cli, const char *text, uint32_t base, uint64_t *out,
                           const char **error_out)
{
    enum status st = read_magnitude(text, base, out);
    if (st == ST_OK)
        return ST_OK;
    *error_out = number_error(cli, "ParseUint", text,
                              st == ST_TOO_BIG ? "value out of range" : "invalid syntax");
    return ST_INVALID;
}

enum status cli_parse_int(struct cli *cli, const char *text, uint32_t base, int64_t *out,
                          const char **error_out)
{
    bool negative = text[0] == '-';
    uint64_t magnitude;
    enum status st = read_magnitude(text + (negative || text[0] == '+'), base, &magnitude);
    if (st == ST_OK && magnitude > (uint64_t)INT64_MAX + negative)
        st = ST_TOO_BIG;
    if (st == ST_OK) {
        *out = negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
        return ST_OK;
    }
    *error_out = number_error(cli, "ParseInt", text,
                              st == ST_TOO_BIG ? "value out of range" : "invalid syntax");
    return ST_INVALID;
}

/* The words that Go's ParseBool knows. */
static enum status parse_bool(struct cli *cli, const char *text, bool *out, const char **error_out)
{
    static const char *const yes[] = {"1", "t", "T", "TRUE", "true", "True"};
    static const char *const no[] = {"0", "f", "F", "FALSE", "false", "False"};
    for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
        if (strcmp(text, yes[i]) == 0 || strcmp(text, no[i]) == 0) {
            *out = strcmp(text, yes[i]) == 0;
            return ST_OK;
        }
    }
    *error_out = number_error(cli, "ParseBool", text, "invalid syntax");
    return ST_INVALID;
}

static enum status parse_duration(struct cli *cli, const char *text, int64_t *out,
                                  const char **error_out)
{
    if (duration_parse(text, out) == ST_OK)
        return ST_OK;
    size_t digits = strspn(text, "+-.0123456789");
    bool bare = digits > 0 && text[digits] == '\0' && strpbrk(text, "0123456789") != NULL;
    *error_out = cli_format(cli, "time: %s \"%s\"",
                            bare ? "missing unit in duration" : "invalid duration", text);
    return ST_INVALID;
}

static enum status list_push(struct cli *cli, struct cli_value *value, const char *item, size_t len)
{
    if (value->items_count == value->items_capacity) {
        uint32_t capacity = value->items_capacity == 0 ? 8 : value->items_capacity * 2;
        char **items = ARENA_ARRAY(&cli->arena, char *, capacity);
        if (items == NULL)
            return ST_NO_MEMORY;
        if (value->items_count > 0)
            memcpy(items, value->items, value->items_count * sizeof(*items));
        value->items = items;
        value->items_capacity = capacity;
    }
    char *copy = arena_alloc(&cli->arena, len + 1);
    if (copy == NULL)
        return ST_NO_MEMORY;
    memcpy(copy, item, len);
    value->items[value->items_count++] = copy;
    return ST_OK;
}

/* The first use replaces the default, later ones add to it. An empty text is an empty list. */
static enum status set_list(struct cli *cli, struct cli_value *value, const char *text)
{
    if (!value->given)
        value->items_count = 0;
    while (*text != '\0') {
        size_t len = strcspn(text, ",");
        enum status st = list_push(cli, value, text, len);
        if (st != ST_OK)
            return st;
        if (text[len] == '\0')
            break;
        text += len + 1;
        if (*text == '\0')
            return list_push(cli, value, text, 0);
    }
    return ST_OK;
}

static enum status set_typed(struct cli *cli, struct cli_value *value, const char *text,
                             const char **error_out)
{
    switch (value->flag->kind) {
    case CLI_BOOL:
        return parse_bool(cli, text, &value->boolean, error_out);
    case CLI_INT:
        return cli_parse_int(cli, text, 0, &value->i64, error_out);
    case CLI_UINT:
        return cli_parse_uint(cli, text, 0, &value->u64, error_out);
    case CLI_DURATION:
        return parse_duration(cli, text, &value->i64, error_out);
    case CLI_LIST:
        return set_list(cli, value, text);
    case CLI_STRING:
        break;
    }
    return ST_OK;
}

enum status cli_value_set(struct cli *cli, struct cli_value *value, const char *text,
                          const char **error_out)
{
    *error_out = "out of memory";
    enum status st = set_typed(cli, value, text, error_out);
    if (st == ST_OK)
        value->text = text;
    return st;
}

enum status cli_values_init(struct cli *cli, const struct cli_flag *const tables[3])
{
    uint32_t count = 0;
    for (uint32_t t = 0; t < 3; t++)
        count += cli_flags_count(tables[t]);
    cli->values = ARENA_ARRAY(&cli->arena, struct cli_value, count + 1);
    if (cli->values == NULL)
        return ST_NO_MEMORY;
    for (uint32_t t = 0; t < 3; t++) {
        for (uint32_t i = 0; i < cli_flags_count(tables[t]); i++) {
            struct cli_value *value = &cli->values[cli->values_count++];
            value->flag = &tables[t][i];
            const char *error = NULL;
            enum status st = cli_value_set(cli, value, cli_flag_initial(value->flag), &error);
            ASSERT(st != ST_INVALID); /* a default of ours is a valid value */
            if (st != ST_OK)
                return st;
        }
    }
    return ST_OK;
}

struct cli_value *cli_value_find(const struct cli *cli, const char *name, size_t name_len)
{
    for (uint32_t i = 0; i < cli->values_count; i++) {
        const char *candidate = cli->values[i].flag->name;
        if (strlen(candidate) == name_len && memcmp(candidate, name, name_len) == 0)
            return &cli->values[i];
    }
    return NULL;
}

static const struct cli_value *value_of(const struct cli *cli, const char *name, enum cli_kind kind)
{
    const struct cli_value *value = cli_value_find(cli, name, strlen(name));
    ASSERT(value != NULL && value->flag->kind == kind);
    return value;
}

bool cli_bool(const struct cli *cli, const char *name)
{
    return value_of(cli, name, CLI_BOOL)->boolean;
}

const char *cli_string(const struct cli *cli, const char *name)
{
    return value_of(cli, name, CLI_STRING)->text;
}

int64_t cli_int(const struct cli *cli, const char *name)
{
    return value_of(cli, name, CLI_INT)->i64;
}

uint64_t cli_uint(const struct cli *cli, const char *name)
{
    return value_of(cli, name, CLI_UINT)->u64;
}

int64_t cli_duration_ns(const struct cli *cli, const char *name)
{
    return value_of(cli, name, CLI_DURATION)->i64;
}

char *const *cli_list(const struct cli *cli, const char *name, uint32_t *count_out)
{
    const struct cli_value *value = value_of(cli, name, CLI_LIST);
    *count_out = value->items_count;
    return value->items;
}

const char *cli_text(const struct cli *cli, const char *name)
{
    const struct cli_value *value = cli_value_find(cli, name, strlen(name));
    ASSERT(value != NULL);
    return value->text;
}

bool cli_given(const struct cli *cli, const char *name)
{
    const struct cli_value *value = cli_value_find(cli, name, strlen(name));
    ASSERT(value != NULL);
    return value->given;
}
