#include "server/config/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char text_too_long[] = "(too long)";

const char *text_copy(struct arena *arena, const char *text, size_t len)
{
    char *copy = arena_alloc(arena, len + 1);
    if (copy == NULL)
        return text_too_long;
    memcpy(copy, text, len);
    return copy;
}

const char *text_format(struct arena *arena, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *out = len < 0 ? NULL : arena_alloc(arena, (size_t)len + 1);
    if (out != NULL)
        (void)vsnprintf(out, (size_t)len + 1, format, again);
    va_end(again);
    return out == NULL ? text_too_long : out;
}

const char *text_quote(struct arena *arena, const char *text)
{
    size_t room = 4 * strlen(text) + 3; /* \xNN each, two quotes, NUL */
    char *out = arena_alloc(arena, room);
    if (out == NULL)
        return text_too_long;
    char *p = out;
    *p++ = '"';
    for (; *text != '\0'; text++) {
        unsigned char byte = (unsigned char)*text;
        if (byte == '"' || byte == '\\')
            p += snprintf(p, 3, "\\%c", byte);
        else if (byte < 0x20 || byte == 0x7f)
            p += snprintf(p, 5, "\\x%02x", byte);
        else
            *p++ = *text;
    }
    *p = '"';
    return out;
}
