#include "base/assert.h"
#include "server/config/load.h"

#include <sys/utsname.h>

void config_print_help(struct buf *out)
{
    static const char *const states[] = {"", " (no effect here)", " (not yet)"};
    size_t count;
    const struct flag *flags = flag_table(&count);
    enum status st = ST_OK;
    for (size_t i = 0; i < count && st == ST_OK; i++) {
        const struct flag *flag = &flags[i];
        if (flag->section != NULL)
            st = buf_printf(out, "\n%s:\n", flag->section);
        if (st == ST_OK && flag->type == FLAG_ACTION)
            st = buf_printf(out, "  --%s\n    %s\n", flag->name, flag->help);
        else if (st == ST_OK)
            st = buf_printf(out, "  --%s '%s'\n    %s%s\n", flag->name, flag->initial, flag->help,
                            flag->type == FLAG_GONE ? "" : states[flag->state]);
    }
    ASSERT(st == ST_OK || st == ST_NO_MEMORY);
}

void config_print_usage(struct buf *out)
{
    enum status st = buf_printf(out, "Usage:\n\n"
                                     "  cleat [flags]\n    Start a member.\n\n"
                                     "  cleat --version\n    Show the versions.\n\n"
                                     "  cleat -h | --help\n    Show every flag.\n");
    ASSERT(st == ST_OK || st == ST_NO_MEMORY);
}

void config_print_version(struct buf *out)
{
    struct utsname system;
    const char *machine = uname(&system) == 0 ? system.machine : "unknown";
    enum status st = buf_printf(out, "etcd Version: %s\nCleat Version: %s\nOS/Arch: linux/%s\n",
                                CONFIG_API_VERSION, CLEAT_VERSION, machine);
    ASSERT(st == ST_OK || st == ST_NO_MEMORY);
}
