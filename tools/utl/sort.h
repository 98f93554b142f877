/* tools/utl/sort.h - sorts any number of small records in bounded memory: what does not fit goes,
 * sorted, into a temporary file that has no name any more and ends with the process, however that
 * ends. One thread. */
#ifndef TOOLS_UTL_SORT_H
#define TOOLS_UTL_SORT_H
#include "base/slice.h"
#include "base/status.h"

#include <stddef.h>

struct utl_sort;

typedef int (*utl_compare_fn)(struct slice a, struct slice b);

/* memory_bytes: of records held at once; besides it a small buffer for each time that much was
 * reached. The file goes to $TMPDIR or /tmp when it is first needed. Errors: ST_NO_MEMORY. */
CHECKED enum status utl_sort_new(size_t memory_bytes, utl_compare_fn compare,
                                 struct utl_sort **out);
void utl_sort_free(struct utl_sort *sort); /* NULL is fine */

/* Copies the record. Errors: ST_NO_SPACE, ST_IO (of the file), ST_NO_MEMORY, ST_TOO_BIG (over
 * memory_bytes). */
CHECKED enum status utl_sort_add(struct utl_sort *sort, struct slice record);
/* After the last one; then next gives them in order, each borrowed until the next call.
 * ST_NOT_FOUND: no more. Errors as above. */
CHECKED enum status utl_sort_finish(struct utl_sort *sort);
CHECKED enum status utl_sort_next(struct utl_sort *sort, struct slice *out);
#endif
