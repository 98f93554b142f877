#include "bench/report.h"

#include "base/assert.h"

#include <math.h>

struct row *report_row(struct report *report, const char *name)
{
    ASSERT(report->rows_count < REPORT_ROWS_MAX);
    struct row *row = &report->rows[report->rows_count++];
    *row = (struct row){0};
    snprintf(row->name, sizeof(row->name), "%s", name);
    return row;
}

void row_figure(struct row *row, const char *name, double value)
{
    ASSERT(row->figures_count < REPORT_FIGURES_MAX);
    struct figure *figure = &row->figures[row->figures_count++];
    snprintf(figure->name, sizeof(figure->name), "%s", name);
    figure->value = value;
}

double row_get(const struct row *row, const char *name)
{
    for (uint32_t i = 0; i < row->figures_count; i++)
        if (strcmp(row->figures[i].name, name) == 0)
            return row->figures[i].value;
    return NAN;
}

void row_latency(struct row *row, const struct hist *hist, uint64_t elapsed_ns)
{
    row_figure(row, "per_second",
               elapsed_ns == 0 ? 0.0 : (double)row->count * 1e9 / (double)elapsed_ns);
    row_figure(row, "p50_us", (double)hist_permille(hist, 500) / 1e3);
    row_figure(row, "p99_us", (double)hist_permille(hist, 990) / 1e3);
    row_figure(row, "p999_us", (double)hist_permille(hist, 999) / 1e3);
    row_figure(row, "max_us", (double)hist->max_ns / 1e3);
    row_figure(row, "mean_us", (double)hist_mean(hist) / 1e3);
}

struct row *report_timed_row(struct report *report, const char *name, uint64_t count,
                             const struct hist *hist, uint64_t elapsed_ns, uint64_t cpu_ns)
{
    struct row *row = report_row(report, name);
    row->count = count;
    row_latency(row, hist, elapsed_ns);
    if (count > 0)
        row_figure(row, "cpu_us_per_op", (double)cpu_ns / 1e3 / (double)count);
    return row;
}

/* value in units of scale, for each operation of the row. */
static void per_operation(struct row *row, const char *name, uint64_t value, double scale)
{
    if (value != METER_NONE && row->count > 0)
        row_figure(row, name, (double)value / scale / (double)row->count);
}

void row_costs(struct row *row, const struct meter *spent)
{
    per_operation(row, "cpu_us_per_op", spent->cpu_ns, 1e3);
    per_operation(row, "process_bytes_per_op", spent->write_bytes, 1);
    per_operation(row, "device_writes_per_op", spent->device_writes, 1);
    per_operation(row, "device_flushes_per_op", spent->device_flushes, 1);
    per_operation(row, "device_bytes_per_op", spent->device_write_bytes, 1);
    per_operation(row, "syncs_per_op", spent->syncs, 1);
    per_operation(row, "sync_disk_bytes_per_op", spent->sync_disk_bytes, 1);
    per_operation(row, "journal_commits_per_op", spent->journal_commits, 1);
    if (spent->rss_anon_bytes != METER_NONE)
        row_figure(row, "rss_anon_mb", (double)spent->rss_anon_bytes / 1e6);
    if (spent->rss_bytes != METER_NONE)
        row_figure(row, "rss_mb", (double)spent->rss_bytes / 1e6);
}

/* ---- table ---- */

static const char *const latency_names[] = {"per_second", "p50_us", "p99_us", "p999_us", "max_us"};
#define LATENCY_COLUMNS (sizeof(latency_names) / sizeof(latency_names[0]))

static bool is_latency(const char *name)
{
    for (size_t i = 0; i < LATENCY_COLUMNS; i++)
        if (strcmp(name, latency_names[i]) == 0)
            return true;
    return false;
}

static void print_number(double value)
{
    if (isnan(value))
        printf(" %11s", "-");
    else
        printf(" %11.*f", fabs(value) < 100 ? 2 : 0, value);
}

void report_print(const struct report *report)
{
    printf("cleat-bench %s%s%s\n", report->command, report->note[0] == '\0' ? "" : ": ",
           report->note);
    printf("%-44s %9s %7s", "", "count", "failed");
    for (size_t i = 0; i < LATENCY_COLUMNS; i++)
        printf(" %11s", latency_names[i]);
    printf("\n");
    for (uint32_t i = 0; i < report->rows_count; i++) {
        const struct row *row = &report->rows[i];
        printf("%-44s %9llu %7llu", row->name, (unsigned long long)row->count,
               (unsigned long long)row->failed);
        for (size_t c = 0; c < LATENCY_COLUMNS; c++)
            print_number(row_get(row, latency_names[c]));
        printf("\n");
        uint32_t on_line = 0;
        for (uint32_t f = 0; f < row->figures_count; f++) {
            if (is_latency(row->figures[f].name))
                continue;
            printf("%s%s %.6g", on_line % 4 == 0 ? (on_line == 0 ? "    " : "\n    ") : ", ",
                   row->figures[f].name, row->figures[f].value);
            on_line++;
        }
        printf(on_line > 0 ? "\n" : "");
    }
}

/* ---- JSON: objects without depth, one a line ---- */

static void write_text(FILE *file, const char *text)
{
    fputc('"', file);
    for (const char *p = text; *p != '\0'; p++) {
        if (*p == '"' || *p == '\\')
            fputc('\\', file);
        fputc((unsigned char)*p < ' ' ? ' ' : *p, file);
    }
    fputc('"', file);
}

static void write_row(FILE *file, const struct row *row)
{
    fprintf(file, "{\"row\": ");
    write_text(file, row->name);
    fprintf(file, ", \"count\": %llu, \"failed\": %llu", (unsigned long long)row->count,
            (unsigned long long)row->failed);
    for (uint32_t i = 0; i < row->figures_count; i++) {
        fprintf(file, ", ");
        write_text(file, row->figures[i].name);
        fprintf(file, ": %.9g", row->figures[i].value);
    }
    fprintf(file, "}\n");
}

enum status report_write_json(const struct report *report, const char *path)
{
    FILE *file = fopen(path, "we");
    if (file == NULL) {
        fprintf(stderr, "cannot write %s\n", path);
        return ST_IO;
    }
    fprintf(file, "{\"command\": ");
    write_text(file, report->command);
    fprintf(file, ", \"note\": ");
    write_text(file, report->note);
    fprintf(file, "}\n");
    for (uint32_t i = 0; i < report->rows_count; i++)
        write_row(file, &report->rows[i]);
    bool failed = ferror(file) != 0;
    if (fclose(file) != 0 || failed) {
        fprintf(stderr, "cannot write %s\n", path);
        return ST_IO;
    }
    return ST_OK;
}

enum status report_give(const struct report *report, const char *json_path)
{
    report_print(report);
    return json_path == NULL ? ST_OK : report_write_json(report, json_path);
}

static void skip_space(const char **at)
{
    *at += strspn(*at, " \t\r\n");
}

static bool take_char(const char **at, char wanted)
{
    skip_space(at);
    if (**at != wanted)
        return false;
    (*at)++;
    return true;
}

static bool take_text(const char **at, char *out, size_t out_bytes)
{
    if (!take_char(at, '"'))
        return false;
    size_t len = 0;
    for (; **at != '"'; (*at)++) {
        if (**at == '\\')
            (*at)++;
        if (**at == '\0' || len + 1 >= out_bytes)
            return false;
        out[len++] = **at;
    }
    (*at)++;
    out[len] = '\0';
    return true;
}

static bool take_number(const char **at, double *out)
{
    skip_space(at);
    char *end = NULL;
    *out = strtod(*at, &end);
    bool ok = end != *at;
    *at = end;
    return ok;
}

/* One member of an object. The row's own fields and the run's are known by name, anything else is a
 * figure. */
static bool take_member(const char **at, struct report *report, struct row *row)
{
    char name[40];
    double number = 0;
    if (!take_text(at, name, sizeof(name)) || !take_char(at, ':'))
        return false;
    skip_space(at);
    if (strcmp(name, "row") == 0)
        return take_text(at, row->name, sizeof(row->name));
    if (strcmp(name, "command") == 0)
        return take_text(at, report->command, sizeof(report->command));
    if (strcmp(name, "note") == 0)
        return take_text(at, report->note, sizeof(report->note));
    if (!take_number(at, &number) || row->figures_count == REPORT_FIGURES_MAX)
        return false;
    if (strcmp(name, "count") == 0)
        row->count = (uint64_t)number;
    else if (strcmp(name, "failed") == 0)
        row->failed = (uint64_t)number;
    else
        row_figure(row, name, number);
    return true;
}

static bool take_line(const char *line, struct report *report)
{
    struct row row = {0};
    if (!take_char(&line, '{'))
        return false;
    do {
        if (!take_member(&line, report, &row))
            return false;
    } while (take_char(&line, ','));
    if (!take_char(&line, '}'))
        return false;
    if (row.name[0] == '\0')
        return true;
    if (report->rows_count == REPORT_ROWS_MAX)
        return false;
    report->rows[report->rows_count++] = row;
    return true;
}

enum status report_read_json(const char *path, struct report *out)
{
    *out = (struct report){0};
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        fprintf(stderr, "cannot read %s\n", path);
        return ST_NOT_FOUND;
    }
    char *line = NULL;
    size_t line_bytes = 0;
    enum status st = ST_OK;
    for (uint32_t number = 1; st == ST_OK && getline(&line, &line_bytes, file) >= 0; number++) {
        if (take_line(line, out))
            continue;
        fprintf(stderr, "%s:%u: not a row of cleat-bench's --json\n", path, number);
        st = ST_INVALID;
    }
    free(line);
    fclose(file);
    return st;
}
