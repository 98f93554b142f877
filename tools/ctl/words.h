/* tools/ctl/words.h - lines of txn and of `watch -i`: words in quotes, and comparisons. What comes
 * out is in the cli's arena. */
#ifndef TOOLS_CTL_WORDS_H
#define TOOLS_CTL_WORDS_H
#include "base/slice.h"
#include "base/status.h"
#include "tools/cli/cli.h"

#include <stdint.h>
#include <stdio.h>

/* The next line without the blanks around it. Errors: ST_NOT_FOUND (no whole line is left: one that
 * has no end does not count), ST_TOO_BIG, ST_NO_MEMORY. */
CHECKED enum status words_read_line(struct cli *cli, FILE *in, const char **out);

/* Splits a line at blanks. "..." is one word with Go's escapes taken for what they mean, '...' one
 * as it is. Errors: ST_INVALID (a broken escape, or one for a zero byte, which no argument can
 * hold), ST_NO_MEMORY; *error_out says why. */
CHECKED enum status words_split(struct cli *cli, const char *line, char ***out, uint32_t *count_out,
                                const char **error_out);

#define WORDS_COMPARE_PARTS 3U

/* target("key") operation "value". */
struct words_compare {
    bool bracket; /* there is a "(" */
    struct slice target;
    uint32_t found; /* how many of the other three could be read */
    struct slice key, operation, value;
};
/* Takes a comparison apart, as far as it is one. Errors: ST_NO_MEMORY. */
CHECKED enum status words_read_compare(struct cli *cli, const char *line,
                                       struct words_compare *out);
/* The parts as etcdctl shows what it could read: `; got value("foo") = ""`. */
const char *words_compare_got(struct cli *cli, const struct words_compare *parts);
#endif
