#include "base/assert.h"

#include <stddef.h>

static assert_hook hook_installed;

void assert_set_hook(assert_hook hook)
{
    hook_installed = hook;
}

void assert_failed(const char *expression, const char *file, int line)
{
    fprintf(stderr, "%s:%d: assertion failed: %s\n", file, line, expression);
    if (hook_installed != NULL)
        hook_installed(expression, file, line);
    abort();
}
