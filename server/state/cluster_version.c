#include "server/state/cluster_version.h"

#include <stdio.h>

#define NUMBER_MAX 99999U

static bool take_number(struct slice *s, uint32_t *out)
{
    uint32_t value = 0;
    size_t digits = 0;
    for (; digits < s->len && s->data[digits] >= '0' && s->data[digits] <= '9'; digits++) {
        value = value * 10 + (s->data[digits] - '0');
        if (value > NUMBER_MAX)
            return false;
    }
    if (digits == 0)
        return false;
    *s = slice_make(s->data + digits, s->len - digits);
    *out = value;
    return true;
}

static bool take_point(struct slice *s)
{
    if (s->len == 0 || s->data[0] != '.')
        return false;
    *s = slice_make(s->data + 1, s->len - 1);
    return true;
}

enum status version_parse(struct slice text, struct version *out)
{
    struct slice rest = text;
    if (!take_number(&rest, &out->major) || !take_point(&rest) ||
        !take_number(&rest, &out->minor) || !take_point(&rest) || !take_number(&rest, &out->patch))
        return ST_INVALID;
    return rest.len == 0 || rest.data[0] == '-' || rest.data[0] == '+' ? ST_OK : ST_INVALID;
}

enum status version_parse_target(struct slice text, struct version *out)
{
    struct slice rest = text;
    uint32_t patch;
    *out = (struct version){0};
    if (!take_number(&rest, &out->major) || !take_point(&rest) || !take_number(&rest, &out->minor))
        return ST_INVALID;
    if (rest.len > 0 && (!take_point(&rest) || !take_number(&rest, &patch)))
        return ST_INVALID;
    return rest.len == 0 ? ST_OK : ST_INVALID;
}

static int compare_numbers(uint32_t a, uint32_t b)
{
    return a < b ? -1 : a > b;
}

int version_compare(struct version a, struct version b)
{
    int order = compare_numbers(a.major, b.major);
    if (order == 0)
        order = compare_numbers(a.minor, b.minor);
    return order != 0 ? order : compare_numbers(a.patch, b.patch);
}

/* The lowest; false when one is not known: it might be lower. */
static bool lowest(const struct slice *servers, uint32_t count, struct version *out)
{
    for (uint32_t i = 0; i < count; i++) {
        struct version version;
        if (version_parse(servers[i], &version) != ST_OK)
            return false;
        if (i == 0 || version_compare(version, *out) < 0)
            *out = version;
    }
    return count > 0;
}

bool cluster_version_decide(const struct slice *servers, uint32_t count, const char *current,
                            char out[VERSION_TEXT_BYTES])
{
    struct version decided = {0}, now = {0};
    bool is_known = lowest(servers, count, &decided);
    if (is_known)
        snprintf(out, VERSION_TEXT_BYTES, "%u.%u.0", decided.major, decided.minor);
    if (current[0] == '\0') {
        if (!is_known)
            snprintf(out, VERSION_TEXT_BYTES, "%s", CLUSTER_VERSION_MIN);
        return true;
    }
    if (!is_known || version_parse(slice_from_str(current), &now) != ST_OK ||
        decided.major != now.major)
        return false;
    /* Up at any time; down by one, at the end of a downgrade. */
    return decided.minor > now.minor || decided.minor + 1 == now.minor;
}

bool cluster_version_is_joinable(const struct slice *clusters, uint32_t count, struct version own,
                                 bool downgrade_enabled)
{
    struct version min = {.major = 3}, max = {.major = own.major, .minor = own.minor};
    if (downgrade_enabled) {
        max.minor++;
        min = max;
    }
    bool known = false;
    for (uint32_t i = 0; i < count; i++) {
        struct version version;
        if (version_parse(clusters[i], &version) != ST_OK)
            continue;
        if (version_compare(version, min) < 0 || version_compare(max, version) < 0)
            return false;
        known = true;
    }
    return known;
}
