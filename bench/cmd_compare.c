/* cleat-bench compare: two result files, row by row, in words. */
#include "bench/commands.h"
#include "bench/flags.h"
#include "bench/report.h"

#include <math.h>

static const char help_text[] =
    "usage: cleat-bench compare A.json B.json\n\n"
    "Compares the rows that both files have (by name) and says for every figure how B stands\n"
    "to A: \"1.35 x\" means that B's figure is 1.35 times A's. Behind it stands whether that is\n"
    "better or worse: for rates more is better, for times, bytes, syncs and memory less is.\n"
    "Differences under 5 % are called equal: they are inside the noise of most machines.\n"
    "Only results of one machine and one run of the machine should be compared.\n";

static bool more_is_better(const char *name)
{
    return strcmp(name, "per_second") == 0 || strcmp(name, "ratio_to_bare") == 0;
}

static const char *verdict(const char *name, double ratio)
{
    if (ratio > 0.95 && ratio < 1.05)
        return "equal";
    return (ratio > 1) == more_is_better(name) ? "better" : "worse";
}

static void compare_rows(const struct row *a, const struct row *b)
{
    printf("%s\n", b->name);
    if (a->failed != b->failed)
        printf("  failed: %llu -> %llu\n", (unsigned long long)a->failed,
               (unsigned long long)b->failed);
    for (uint32_t i = 0; i < b->figures_count; i++) {
        const struct figure *figure = &b->figures[i];
        double before = row_get(a, figure->name);
        if (isnan(before))
            continue;
        if (before == 0) {
            printf("  %-24s %12.6g -> %-12.6g\n", figure->name, before, figure->value);
            continue;
        }
        double ratio = figure->value / before;
        printf("  %-24s %12.6g -> %-12.6g %6.2f x, %s\n", figure->name, before, figure->value,
               ratio, verdict(figure->name, ratio));
    }
}

int command_compare(int argc, char **argv)
{
    if (flags_ask_for_help(argc, argv)) {
        fputs(help_text, stdout);
        return 0;
    }
    int files_count = 0;
    if (flags_parse(NULL, 0, argc, argv, &files_count) != ST_OK || files_count != 2) {
        fputs(help_text, stderr);
        return 2;
    }
    static struct report a, b;
    if (report_read_json(argv[0], &a) != ST_OK || report_read_json(argv[1], &b) != ST_OK)
        return 1;
    printf("A: %s (%s)\nB: %s (%s)\n", argv[0], a.note, argv[1], b.note);
    uint32_t matched = 0;
    for (uint32_t i = 0; i < b.rows_count; i++)
        for (uint32_t j = 0; j < a.rows_count; j++)
            if (strcmp(a.rows[j].name, b.rows[i].name) == 0) {
                compare_rows(&a.rows[j], &b.rows[i]);
                matched++;
                break;
            }
    if (matched == 0)
        fprintf(stderr, "no row is in both files\n");
    return matched == 0;
}
