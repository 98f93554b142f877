#include "tools/utl/report.h"

#include "base/assert.h"
#include "tools/utl/rows.h"

#include <stdarg.h>

struct utl_check *utl_report_add(struct utl_report *report, const char *name)
{
    ASSERT(report->count < UTL_CHECKS_MAX);
    struct utl_check *check = &report->checks[report->count++];
    *check = (struct utl_check){.name = name};
    return check;
}

void utl_check_fault(struct utl_check *check, const char *format, ...)
{
    if (check->faults++ > 0)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(check->first, sizeof(check->first), format, args);
    va_end(args);
}

void utl_check_remark(struct utl_check *check, const char *format, ...)
{
    if (check->faults > 0)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(check->first, sizeof(check->first), format, args);
    va_end(args);
}

uint64_t utl_report_faults(const struct utl_report *report)
{
    uint64_t faults = 0;
    for (uint32_t i = 0; i < report->count; i++)
        faults += report->checks[i].faults;
    return faults;
}

static const char *verdict(const struct utl_check *check)
{
    return check->faults > 0 ? "damaged" : check->skipped ? "skipped" : "ok";
}

enum status utl_report_print(const struct utl_report *report, FILE *out, enum utl_format format)
{
    static const struct utl_column columns[] = {
        {"CHECK", "check", "Check"},
        {"VERDICT", "verdict", "Verdict"},
        {"LOOKED AT", "count", "Count"},
        {"FAULTS", "faults", "Faults"},
        {"FIRST FAULT, OR REMARK", "remark", "Remark"},
    };
    struct utl_rows rows;
    utl_rows_begin(&rows, out, format, columns, 5);
    for (uint32_t i = 0; i < report->count; i++) {
        const struct utl_check *check = &report->checks[i];
        utl_rows_text(&rows, check->name);
        utl_rows_text(&rows, verdict(check));
        utl_rows_u64(&rows, check->count);
        utl_rows_u64(&rows, check->faults);
        utl_rows_text(&rows, check->first);
    }
    return utl_rows_end(&rows);
}
