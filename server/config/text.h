/* server/config/text.h - small texts in an arena. */
#ifndef SERVER_CONFIG_TEXT_H
#define SERVER_CONFIG_TEXT_H
#include "base/arena.h"

#include <stddef.h>

/* What the functions below return over the arena's cap: fit to be shown, told apart by address. */
extern const char text_too_long[];

const char *text_copy(struct arena *arena, const char *text, size_t len);
const char *text_format(struct arena *arena, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* In double quotes, escaped as Go's %q does for ASCII. */
const char *text_quote(struct arena *arena, const char *text);
#endif
