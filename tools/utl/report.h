/* tools/utl/report.h - what checks found: for each how much was looked at, how many faults there
 * are, and the first of them. */
#ifndef TOOLS_UTL_REPORT_H
#define TOOLS_UTL_REPORT_H
#include "base/status.h"
#include "tools/utl/format.h"

#include <stdint.h>
#include <stdio.h>

#define UTL_CHECKS_MAX 24U
#define UTL_FAULT_BYTES 640U

struct utl_check {
    const char *name;            /* constant */
    uint64_t count;              /* things looked at */
    uint64_t faults;             /* found */
    char first[UTL_FAULT_BYTES]; /* fault; or, without one, a remark */
    bool skipped;                /* could not be done */
};

struct utl_report {
    struct utl_check checks[UTL_CHECKS_MAX];
    uint32_t count;
};

struct utl_check *utl_report_add(struct utl_report *report, const char *name);
void utl_check_fault(struct utl_check *check, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void utl_check_remark(struct utl_check *check, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
uint64_t utl_report_faults(const struct utl_report *report);
/* Errors: ST_NO_MEMORY, ST_TOO_BIG. */
CHECKED enum status utl_report_print(const struct utl_report *report, FILE *out,
                                     enum utl_format format);
#endif
