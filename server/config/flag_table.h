/* server/config/flag_table.h - every flag of etcd 3.5 and what becomes of it here, and our own: the
 * one place that the parser, --help and docs/flags.md come from. */
#ifndef SERVER_CONFIG_FLAG_TABLE_H
#define SERVER_CONFIG_FLAG_TABLE_H
#include <stddef.h>

#define FLAGS_MAX 192U /* rows; a bound for the parser's own marks */
#define FLAG_NO_FIELD SIZE_MAX
#define FLAG_ENV_BYTES_MAX 96U

enum flag_type {
    FLAG_TEXT,
    FLAG_CHOICE, /* one of choices */
    FLAG_BOOL,
    FLAG_UINT,
    FLAG_UINT32,
    FLAG_INT,
    FLAG_DURATION,
    FLAG_URLS,
    FLAG_ACTION, /* a bool that ends the run: --version */
    FLAG_GONE,   /* valueless, given up by etcd itself: a warning and nothing else */
};

enum flag_state {
    FLAG_WORKS,
    FLAG_NO_EFFECT, /* accepted; there is nothing here that it could change */
    FLAG_NOT_YET,   /* refused by name unless it is given its default */
};

struct flag {
    const char *section; /* NULL: that of the row before */
    const char *name;
    enum flag_type type;
    enum flag_state state;
    const char *initial; /* the default, as one would type it */
    const char *choices; /* of a FLAG_CHOICE, joined by '|' */
    size_t field;        /* offset of the value in struct config, or FLAG_NO_FIELD */
    const char *help;    /* one line */
};

/* The rows in the order of etcd's --help; *count_out of them. */
const struct flag *flag_table(size_t *count_out);
/* The row of that name, or NULL. */
const struct flag *flag_find(const char *name, size_t name_len);
/* "listen-client-urls" as "ETCD_LISTEN_CLIENT_URLS"; returns out. */
const char *flag_env_name(const struct flag *flag, char out[FLAG_ENV_BYTES_MAX]);
#endif
