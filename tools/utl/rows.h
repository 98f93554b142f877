/* tools/utl/rows.h - a list of things in any of the formats, row by row as they come:
 *   simple  cells joined by ", ", a line each
 *   table   a box, printed at the end
 *   json    [{"name":value,...},...], a line each; bytes as base64
 *   fields  "Name" : value lines, an empty line between two rows
 * Cells are given in the order of the columns. */
#ifndef TOOLS_UTL_ROWS_H
#define TOOLS_UTL_ROWS_H
#include "base/buf.h"
#include "tools/print/json.h"
#include "tools/print/table.h"
#include "tools/utl/format.h"

struct utl_column {
    const char *header; /* of a table */
    const char *json;   /* member's name */
    const char *field;
};

struct utl_rows {
    FILE *out;
    enum utl_format format;
    const struct utl_column *columns; /* borrowed */
    uint32_t columns_count, at, rows_count;
    const char *headers[PRINT_TABLE_COLUMNS_MAX];
    struct print_json json;
    struct print_table table;
    struct buf cells; /* of the row, for a table: each ends in a NUL */
    enum status status;
};

void utl_rows_begin(struct utl_rows *rows, FILE *out, enum utl_format format,
                    const struct utl_column *columns, uint32_t count);
/* Errors (of any call since begin): ST_TOO_BIG (a table of over 64 MiB), ST_NO_MEMORY. */
CHECKED enum status utl_rows_end(struct utl_rows *rows);

/* Bytes are quoted as Go's %q does where they are not plain; text is ours and printed as it is. */
void utl_rows_bytes(struct utl_rows *rows, struct slice bytes);
void utl_rows_text(struct utl_rows *rows, const char *text);
void utl_rows_i64(struct utl_rows *rows, int64_t value);
void utl_rows_u64(struct utl_rows *rows, uint64_t value);
void utl_rows_hex(struct utl_rows *rows, uint64_t value); /* json: a number */
void utl_rows_bool(struct utl_rows *rows, bool value);
#endif
