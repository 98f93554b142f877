/* tools/utl/agreement.h - whether the store holds what the log says was put into it, where both
 * reach. */
#ifndef TOOLS_UTL_AGREEMENT_H
#define TOOLS_UTL_AGREEMENT_H
#include "tools/utl/report.h"
#include "tools/utl/source.h"

/* Adds one check. The source is one without index (the store as it is, nothing applied over it) and
 * with a log. Errors: ST_NO_MEMORY. */
CHECKED enum status utl_check_agreement(struct utl_source *source, struct utl_report *report);
#endif
