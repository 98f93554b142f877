#include "base/duration.h"

#include "base/assert.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define US_NS UINT64_C(1000)
#define MS_NS UINT64_C(1000000)
#define S_NS UINT64_C(1000000000)
#define MINUTE_NS (60 * S_NS)
#define HOUR_NS (60 * MINUTE_NS)

/* The digits behind the point of rest / unit, trailing zeros left out; empty when rest is 0. */
static void format_fraction(uint64_t rest, uint64_t unit, char *out)
{
    if (rest != 0)
        *out++ = '.';
    for (uint64_t place = unit / 10; place > 0; place /= 10) {
        if (rest == 0)
            break;
        *out++ = (char)('0' + rest / place);
        rest %= place;
    }
    *out = '\0';
}

const char *duration_format(int64_t ns, char out[DURATION_TEXT_MAX])
{
    uint64_t left = ns < 0 ? 0 - (uint64_t)ns : (uint64_t)ns;
    const char *sign = ns < 0 ? "-" : "";
    char fraction[12];
    int used;
    if (left == 0) {
        used = snprintf(out, DURATION_TEXT_MAX, "0s");
    } else if (left < S_NS) {
        uint64_t unit = left < US_NS ? 1 : left < MS_NS ? US_NS : MS_NS;
        const char *name = left < US_NS ? "ns" : left < MS_NS ? "µs" : "ms";
        format_fraction(left % unit, unit, fraction);
        used = snprintf(out, DURATION_TEXT_MAX, "%s%" PRIu64 "%s%s", sign, left / unit, fraction,
                        name);
    } else {
        uint64_t hours = left / HOUR_NS;
        uint64_t minutes = left % HOUR_NS / MINUTE_NS;
        uint64_t seconds = left % MINUTE_NS / S_NS;
        format_fraction(left % S_NS, S_NS, fraction);
        if (hours > 0)
            used = snprintf(out, DURATION_TEXT_MAX, "%s%" PRIu64 "h%" PRIu64 "m%" PRIu64 "%ss",
                            sign, hours, minutes, seconds, fraction);
        else if (minutes > 0)
            used = snprintf(out, DURATION_TEXT_MAX, "%s%" PRIu64 "m%" PRIu64 "%ss", sign, minutes,
                            seconds, fraction);
        else
            used = snprintf(out, DURATION_TEXT_MAX, "%s%" PRIu64 "%ss", sign, seconds, fraction);
    }
    ASSERT(used > 0 && used < DURATION_TEXT_MAX);
    return out;
}

static bool take_unit(const char **text, uint64_t *unit_out)
{
    static const struct {
        const char *name;
        uint64_t ns;
    } units[] = {
        {"ns", 1},     {"us", US_NS},    {"µs", US_NS}, /* U+00B5 */
        {"μs", US_NS},                                  /* U+03BC */
        {"ms", MS_NS},                                  /* before "m" */
        {"s", S_NS},   {"m", MINUTE_NS}, {"h", HOUR_NS},
    };
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        size_t length = strlen(units[i].name);
        if (strncmp(*text, units[i].name, length) == 0) {
            *text += length;
            *unit_out = units[i].ns;
            return true;
        }
    }
    return false;
}

/* Digits in front of a unit: whole, and behind the point fraction / scale. */
struct number {
    uint64_t whole, fraction, scale;
};

static bool take_number(const char **text, struct number *out)
{
    const char *p = *text;
    bool digits = false;
    *out = (struct number){.scale = 1};
    for (; *p >= '0' && *p <= '9'; p++, digits = true) {
        if (__builtin_mul_overflow(out->whole, UINT64_C(10), &out->whole) ||
            __builtin_add_overflow(out->whole, (uint64_t)(*p - '0'), &out->whole))
            return false;
    }
    if (*p == '.') {
        for (p++; *p >= '0' && *p <= '9'; p++, digits = true) {
            if (out->scale < UINT64_C(1000000000000000)) { /* finer than an hour's ns: dropped */
                out->fraction = out->fraction * 10 + (uint64_t)(*p - '0');
                out->scale *= 10;
            }
        }
    }
    *text = p;
    return digits;
}

/* One number with its unit, added to *total. */
static bool take_term(const char **text, uint64_t *total)
{
    struct number number;
    uint64_t unit;
    if (!take_number(text, &number) || !take_unit(text, &unit))
        return false;
    uint64_t ns;
    uint64_t part = (uint64_t)((__uint128_t)number.fraction * unit / number.scale);
    return !__builtin_mul_overflow(number.whole, unit, &ns) &&
           !__builtin_add_overflow(ns, part, &ns) && !__builtin_add_overflow(*total, ns, total);
}

enum status duration_parse(const char *text, int64_t *out)
{
    bool negative = *text == '-';
    if (*text == '-' || *text == '+')
        text++;
    uint64_t total = 0;
    if (strcmp(text, "0") != 0) {
        do {
            if (!take_term(&text, &total))
                return ST_INVALID;
        } while (*text != '\0');
    }
    if (total > (uint64_t)INT64_MAX + negative)
        return ST_INVALID;
    *out = negative ? (int64_t)(0 - total) : (int64_t)total;
    return ST_OK;
}
