/* server/config/load.h - what the files of this folder share while a configuration is read. */
#ifndef SERVER_CONFIG_LOAD_H
#define SERVER_CONFIG_LOAD_H
#include "base/status.h"
#include "server/config/config.h"
#include "server/config/flag_table.h"

#include <stdbool.h>

/* Which rows of the table were set, and how. */
struct flag_marks {
    bool by_flag[FLAGS_MAX], by_env[FLAGS_MAX];
};

bool flag_is_set(const struct flag_marks *marks, const char *name);

/* Adds a note; up to two fields, NULL keys for none. Texts are borrowed. */
void config_note_add(struct config *config, enum log_level level, const char *msg,
                     const char *const fields[4]);
/* etcd's way to refuse: logs "failed to verify flags" with why, exit code 1. Always ST_CANCELED. */
CHECKED enum status config_refuse(struct config *config, const char *why);

/* Gives flag the value in text (kept). Errors: ST_UNSUPPORTED (not built yet, and not its default),
 * ST_INVALID with the reason in *why_out, ST_TOO_BIG. */
CHECKED enum status config_set_flag(struct config *config, const struct flag *flag,
                                    const char *text, const char **why_out);
CHECKED enum status config_refuse_not_yet(struct config *config, const struct flag *flag);

/* file.c: reads --config-file. Errors: ST_CANCELED (exit_code and notes say why), ST_NO_MEMORY. */
CHECKED enum status config_load_file(struct config *config, const char *path,
                                     struct flag_marks *marks);

/* Fills in what follows from other flags, then checks what can be checked without looking outside.
 * Errors: ST_CANCELED (exit_code and notes say why). */
CHECKED enum status config_validate(struct config *config, const struct flag_marks *marks);

/* Text of --help, of the usage shown beside it and after a mistake, and of --version. */
void config_print_help(struct buf *out);
void config_print_usage(struct buf *out);
void config_print_version(struct buf *out);
#endif
