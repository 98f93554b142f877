/* tools/utl/entry_text.h - what an entry of the log asks for, in a line for people. */
#ifndef TOOLS_UTL_ENTRY_TEXT_H
#define TOOLS_UTL_ENTRY_TEXT_H
#include "base/buf.h"
#include "raft/types.h"

/* Appends the line, without its end: `put "a" (5 bytes, lease 7)`. What is not understood is given
 * as its bytes in hexadecimal, cut short. Errors: ST_TOO_BIG, ST_NO_MEMORY. */
CHECKED enum status utl_entry_text(const struct raft_entry *entry, struct buf *out);
/* "normal", "conf change", "conf change v2". */
const char *utl_entry_type(enum raft_entry_type type);
#endif
