/* bench/report.h - the rows of a run, as a table on stdout and as a JSON file. */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H
#include "base/status.h"
#include "bench/hist.h"
#include "bench/meter.h"

#include <stdint.h>

#define REPORT_ROWS_MAX 64U
#define REPORT_FIGURES_MAX 20U

struct figure {
    char name[40]; /* ends in its unit: "put_ns", "device_bytes_per_op" */
    double value;
};

struct row {
    char name[96]; /* what was done: "put 64 clients 256 B" */
    uint64_t count, failed;
    struct figure figures[REPORT_FIGURES_MAX];
    uint32_t figures_count;
};

struct report {
    char command[24], note[160];
    struct row rows[REPORT_ROWS_MAX];
    uint32_t rows_count;
};

/* Starts a row; borrowed from the report. At most REPORT_ROWS_MAX of them. */
struct row *report_row(struct report *report, const char *name);
void row_figure(struct row *row, const char *name, double value);
/* NAN when there is no such figure. */
double row_get(const struct row *row, const char *name);
/* Rate of row->count in elapsed_ns; mean and percentiles in microseconds. */
void row_latency(struct row *row, const struct hist *hist, uint64_t elapsed_ns);
/* A row of count operations of this process: its latency and CPU. */
struct row *report_timed_row(struct report *report, const char *name, uint64_t count,
                             const struct hist *hist, uint64_t elapsed_ns, uint64_t cpu_ns);
/* Everything that was measured, per operation (row->count of them). */
void row_costs(struct row *row, const struct meter *spent);

void report_print(const struct report *report);
/* Prints it and, unless json_path is NULL, writes it there. Errors: ST_IO, told on stderr. */
CHECKED enum status report_give(const struct report *report, const char *json_path);
/* One JSON object a line: first the run, then the rows. Errors: ST_IO, told on stderr. */
CHECKED enum status report_write_json(const struct report *report, const char *path);
/* Reads what report_write_json() wrote. Errors: ST_INVALID, ST_NOT_FOUND; told on stderr. */
CHECKED enum status report_read_json(const char *path, struct report *out);
#endif
