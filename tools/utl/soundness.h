/* tools/utl/soundness.h - whether a state makes sense: every record decoded, the revisions of each
 * key against each other, leases, users and members against what refers to them. */
#ifndef TOOLS_UTL_SOUNDNESS_H
#define TOOLS_UTL_SOUNDNESS_H
#include "tools/utl/report.h"
#include "tools/utl/source.h"

/* Adds a check for each of: records, histories, leases, auth, members, meta. The source may be
 * without index. Faults are the report's; errors are ours: ST_NO_MEMORY, ST_NO_SPACE (for sorting),
 * ST_IO. */
CHECKED enum status utl_check_state(struct utl_source *source, struct utl_report *report);
#endif
