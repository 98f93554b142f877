/* Prints docs/flags.md from the flag table. A ctest compares the two; the target flags_doc_update
 * writes the file anew. */
#include "server/config/flag_table.h"

#include <stdio.h>

static const char head[] =
    "# Flags\n"
    "\n"
    "Every server flag of etcd 3.5 and what becomes of it in Cleat, then Cleat's own. Each flag "
    "is\n"
    "also an environment variable: `ETCD_` and the name in capitals with `_` for `-`. A flag wins "
    "by\n"
    "being alone: set both ways, Cleat stops, as etcd does.\n"
    "\n"
    "* **works**: does what it does in etcd.\n"
    "* **no effect**: accepted and named in one log line; there is nothing here that it could "
    "change.\n"
    "* **not yet**: refused by name at the start, unless it is given its default.\n"
    "\n"
    "Made from the table in `server/config/flag_table.c`.\n";

static void print_row(const struct flag *flag)
{
    static const char *const states[] = {"works", "no effect", "not yet"};
    if (flag->type == FLAG_ACTION || flag->type == FLAG_GONE || *flag->initial == '\0')
        (void)printf("| `--%s` | | %s | %s |\n", flag->name, states[flag->state], flag->help);
    else
        (void)printf("| `--%s` | `%s` | %s | %s |\n", flag->name, flag->initial,
                     states[flag->state], flag->help);
}

int main(void)
{
    size_t count;
    const struct flag *flags = flag_table(&count);
    (void)fputs(head, stdout);
    for (size_t i = 0; i < count; i++) {
        if (flags[i].section != NULL)
            (void)printf("\n## %s\n\n| flag | default | state | meaning |\n|---|---|---|---|\n",
                         flags[i].section);
        print_row(&flags[i]);
    }
    return 0;
}
