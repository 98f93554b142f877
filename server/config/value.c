#include "server/config/value.h"

#include "base/duration.h"
#include "server/config/config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char syntax_error[] = "parse error"; /* Go's flag package */
static const char range_error[] = "value out of range";

/* The words of Go's strconv.ParseBool. */
static enum status parse_bool(const char *text, bool *out)
{
    static const char *const words[2][6] = {{"0", "f", "F", "false", "FALSE", "False"},
                                            {"1", "t", "T", "true", "TRUE", "True"}};
    for (size_t value = 0; value < 2; value++) {
        for (size_t i = 0; i < 6; i++) {
            if (strcmp(text, words[value][i]) == 0) {
                *out = value == 1;
                return ST_OK;
            }
        }
    }
    return ST_INVALID;
}

/* What strtoull() would let pass and Go does not: spaces, signs, nothing at all. */
static bool starts_with_digit(const char *text)
{
    return *text >= '0' && *text <= '9';
}

static enum status parse_uint(const char *text, uint64_t max, uint64_t *out, const char **why_out)
{
    char *end;
    errno = 0;
    *out = strtoull(text, &end, 0);
    *why_out = syntax_error;
    if (!starts_with_digit(text) || *end != '\0')
        return ST_INVALID;
    *why_out = range_error;
    return errno == ERANGE || *out > max ? ST_INVALID : ST_OK;
}

static enum status parse_int(const char *text, int64_t *out, const char **why_out)
{
    char *end;
    errno = 0;
    *out = strtoll(text, &end, 0);
    *why_out = syntax_error;
    if (!starts_with_digit(*text == '-' || *text == '+' ? text + 1 : text) || *end != '\0')
        return ST_INVALID;
    *why_out = range_error;
    return errno == ERANGE ? ST_INVALID : ST_OK;
}

static bool is_choice(const char *choices, const char *text)
{
    size_t text_len = strlen(text);
    for (const char *p = choices;; p++) {
        size_t len = strcspn(p, "|");
        if (len == text_len && memcmp(p, text, len) == 0)
            return true;
        p += len;
        if (*p == '\0')
            return false;
    }
}

enum status flag_value_parse(struct arena *arena, const struct flag *flag, const char *text,
                             struct flag_value *out, const char **why_out)
{
    *out = (struct flag_value){.text = text};
    *why_out = syntax_error;
    switch (flag->type) {
    case FLAG_TEXT:
        return ST_OK;
    case FLAG_CHOICE:
        *why_out = "invalid value";
        return is_choice(flag->choices, text) ? ST_OK : ST_INVALID;
    case FLAG_BOOL:
    case FLAG_ACTION:
    case FLAG_GONE:
        return parse_bool(*text == '\0' ? "false" : text, &out->boolean);
    case FLAG_UINT:
        return parse_uint(text, UINT64_MAX, &out->number, why_out);
    case FLAG_UINT32:
        return parse_uint(text, UINT32_MAX, &out->number, why_out);
    case FLAG_INT:
        return parse_int(text, &out->integer, why_out);
    case FLAG_DURATION:
        return duration_parse(text, &out->integer);
    case FLAG_URLS:
        if (*text == '\0' && *flag->initial == '\0')
            return ST_OK; /* none, where none is the default */
        return config_urls_parse(arena, text, &out->urls, why_out);
    }
    return ST_INVALID;
}

bool flag_value_eq(const struct flag *flag, const struct flag_value *a, const struct flag_value *b)
{
    switch (flag->type) {
    case FLAG_TEXT:
    case FLAG_CHOICE:
        return strcmp(a->text, b->text) == 0;
    case FLAG_BOOL:
    case FLAG_ACTION:
    case FLAG_GONE:
        return a->boolean == b->boolean;
    case FLAG_UINT:
    case FLAG_UINT32:
        return a->number == b->number;
    case FLAG_INT:
    case FLAG_DURATION:
        return a->integer == b->integer;
    case FLAG_URLS:
        return config_urls_eq(&a->urls, &b->urls);
    }
    return false;
}

void flag_value_store(const struct flag *flag, const struct flag_value *value,
                      struct config *config)
{
    if (flag->field == FLAG_NO_FIELD)
        return;
    char *field = (char *)config + flag->field;
    switch (flag->type) {
    case FLAG_TEXT:
    case FLAG_CHOICE:
        memcpy(field, &value->text, sizeof(value->text));
        break;
    case FLAG_BOOL:
    case FLAG_ACTION:
    case FLAG_GONE:
        memcpy(field, &value->boolean, sizeof(value->boolean));
        break;
    case FLAG_UINT:
    case FLAG_UINT32:
        memcpy(field, &value->number, sizeof(value->number));
        break;
    case FLAG_INT:
    case FLAG_DURATION:
        memcpy(field, &value->integer, sizeof(value->integer));
        break;
    case FLAG_URLS:
        memcpy(field, &value->urls, sizeof(value->urls));
        break;
    }
}
