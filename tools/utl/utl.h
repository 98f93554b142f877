/* tools/utl/utl.h - what cleatutl's commands share. */
#ifndef TOOLS_UTL_UTL_H
#define TOOLS_UTL_UTL_H
#include "base/buf.h"
#include "base/status.h"
#include "tools/cli/cli.h"

#define UTL_WHY_BYTES_MAX 65536U /* of the sentences behind one failure */

/* Appends a sentence to *why and gives st back. */
enum status utl_fail(struct buf *why, enum status st, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Ends a command that failed: tells why, or what the status means when why is empty, and returns
 * the exit code. ST_OK gives CLI_EXIT_OK. */
int utl_end(struct cli *cli, enum status st, const struct buf *why);

/* The command's only word, or NULL and a told error: "snapshot restore requires exactly one
 * argument". */
const char *utl_word(struct cli *cli, const char *command);
#endif
