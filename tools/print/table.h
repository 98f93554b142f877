/* tools/print/table.h - the boxes of `-w table`: the header centred and in capitals as given, cells
 * to the right.
 *
 *     const char *header[] = {"ENDPOINT", "HASH"};
 *     struct print_table table;
 *     print_table_init(&table, header, 2);
 *     const char *row[] = {"127.0.0.1:2379", "509133959"};
 *     if (print_table_add(&table, row) != ST_OK) ...
 *     print_table_print(&table, stdout);
 *     print_table_deinit(&table); */
#ifndef TOOLS_PRINT_TABLE_H
#define TOOLS_PRINT_TABLE_H
#include "base/arena.h"
#include "base/status.h"

#include <stdint.h>
#include <stdio.h>

#define PRINT_TABLE_COLUMNS_MAX 16U

struct print_table {
    const char *const *header; /* borrowed until the table ends */
    uint32_t columns;
    char **cells; /* rows times columns */
    uint32_t rows, rows_capacity;
    struct arena arena; /* of the cells' texts */
};

void print_table_init(struct print_table *table, const char *const *header, uint32_t columns);
void print_table_deinit(struct print_table *table);
/* Copies one row. Errors: ST_NO_MEMORY, ST_TOO_BIG (64 MiB of cells). */
CHECKED enum status print_table_add(struct print_table *table, const char *const *cells);
void print_table_print(const struct print_table *table, FILE *out);
#endif
