/* storage/backend_lmdb_pages.h - judges the pages of an LMDB file without LMDB.
 *
 * LMDB trusts its file: a page number beyond the end, or an offset beyond the page, is followed
 * through the map and ends the process by a signal. Here the file is read with pread() and every
 * number is looked at before it is used: what is found sound, LMDB can walk. */
#ifndef STORAGE_BACKEND_LMDB_PAGES_H
#define STORAGE_BACKEND_LMDB_PAGES_H
#include "storage/backend_private.h"

/* What an open needs: the head, the tree of the databases' names, and the database of that name.
 * Cheap, unless the file is shorter than its head says: then all, as below, since LMDB may not have
 * written its last pages, or somebody has cut it. The file may be empty: nothing to judge. */
CHECKED enum status lmdb_file_check_head(int fd, const char *name, struct fault_report *report);
/* All: the trees page by page, order and counts, that no page is used twice, the list of free
 * pages. Nobody may commit meanwhile. Values are not looked at.
 *
 * Both: faults are added to the report. Errors: ST_CORRUPT (there were some), ST_NO_MEMORY, ST_IO.
 */
CHECKED enum status lmdb_file_check(int fd, struct fault_report *report);
#endif
