#include "tools/utl/rows.h"

#include "base/assert.h"
#include "tools/print/text.h"

#include <inttypes.h>

#define CELLS_BYTES_MAX (1U << 30)

void utl_rows_begin(struct utl_rows *rows, FILE *out, enum utl_format format,
                    const struct utl_column *columns, uint32_t count)
{
    ASSERT(count <= PRINT_TABLE_COLUMNS_MAX);
    *rows = (struct utl_rows){.out = out,
                              .format = format,
                              .columns = columns,
                              .columns_count = count,
                              .json = print_json_to(out)};
    buf_init(&rows->cells, CELLS_BYTES_MAX);
    for (uint32_t i = 0; i < count; i++)
        rows->headers[i] = columns[i].header;
    print_table_init(&rows->table, rows->headers, count);
    if (format == UTL_JSON)
        fputc('[', out);
}

enum status utl_rows_end(struct utl_rows *rows)
{
    ASSERT(rows->at == 0);
    if (rows->format == UTL_JSON)
        fputs("]\n", rows->out);
    if (rows->format == UTL_TABLE && rows->status == ST_OK)
        print_table_print(&rows->table, rows->out);
    print_table_deinit(&rows->table);
    buf_deinit(&rows->cells);
    return rows->status;
}

static void begin_cell(struct utl_rows *rows)
{
    bool first = rows->at == 0;
    if (first && rows->format == UTL_JSON) {
        if (rows->rows_count > 0)
            fputs(",\n", rows->out);
        rows->json = print_json_to(rows->out);
        print_json_object(&rows->json, NULL);
    } else if (first && rows->format == UTL_FIELDS && rows->rows_count > 0) {
        fputc('\n', rows->out);
    } else if (!first && rows->format == UTL_SIMPLE) {
        fputs(", ", rows->out);
    }
    if (first)
        buf_reset(&rows->cells);
}

static void add_row(struct utl_rows *rows)
{
    const char *cells[PRINT_TABLE_COLUMNS_MAX];
    const char *at = (const char *)rows->cells.data;
    for (uint32_t i = 0; i < rows->columns_count; i++) {
        cells[i] = at;
        at += strlen(at) + 1;
    }
    rows->status = print_table_add(&rows->table, cells);
}

static void end_cell(struct utl_rows *rows)
{
    if (++rows->at < rows->columns_count)
        return;
    rows->at = 0;
    rows->rows_count++;
    if (rows->format == UTL_SIMPLE)
        fputc('\n', rows->out);
    else if (rows->format == UTL_JSON)
        print_json_object_end(&rows->json);
    else if (rows->format == UTL_TABLE && rows->status == ST_OK)
        add_row(rows);
}

static const struct utl_column *column(const struct utl_rows *rows)
{
    return &rows->columns[rows->at];
}

static void add_cell(struct utl_rows *rows, struct slice text)
{
    if (rows->status == ST_OK)
        rows->status = buf_append(&rows->cells, text);
    if (rows->status == ST_OK)
        rows->status = buf_append(&rows->cells, slice_make("", 1));
}

/* In simple lines and boxes: what holds nothing to be quoted stays as it is, so that keys can be
 * copied. */
static bool is_plain(struct slice bytes)
{
    for (size_t i = 0; i < bytes.len; i++) {
        if (bytes.data[i] <= ' ' || bytes.data[i] > '~' || bytes.data[i] == '"' ||
            bytes.data[i] == '\\' || bytes.data[i] == ',')
            return false;
    }
    return bytes.len > 0;
}

static void add_bytes(struct utl_rows *rows, struct slice bytes)
{
    if (is_plain(bytes)) {
        add_cell(rows, bytes);
        return;
    }
    uint8_t *room;
    size_t size = print_quoted_size(bytes);
    if (rows->status == ST_OK)
        rows->status = buf_extend(&rows->cells, size + 1, &room);
    if (rows->status == ST_OK)
        print_quoted_write(bytes, (char *)room);
}

void utl_rows_bytes(struct utl_rows *rows, struct slice bytes)
{
    begin_cell(rows);
    switch (rows->format) {
    case UTL_SIMPLE:
        if (is_plain(bytes))
            print_slice(rows->out, bytes);
        else
            print_quoted(rows->out, bytes);
        break;
    case UTL_TABLE:
        add_bytes(rows, bytes);
        break;
    case UTL_JSON:
        print_json_bytes(&rows->json, column(rows)->json, bytes);
        break;
    case UTL_FIELDS:
        print_field_quoted(rows->out, column(rows)->field, bytes);
        break;
    }
    end_cell(rows);
}

void utl_rows_text(struct utl_rows *rows, const char *text)
{
    begin_cell(rows);
    switch (rows->format) {
    case UTL_SIMPLE:
        fputs(text, rows->out);
        break;
    case UTL_TABLE:
        add_cell(rows, slice_from_str(text));
        break;
    case UTL_JSON:
        print_json_text(&rows->json, column(rows)->json, text);
        break;
    case UTL_FIELDS:
        print_field_quoted(rows->out, column(rows)->field, slice_from_str(text));
        break;
    }
    end_cell(rows);
}

/* A number whose text in lines and boxes is given. */
static void put_number(struct utl_rows *rows, const char *text, uint64_t value, bool is_signed)
{
    begin_cell(rows);
    switch (rows->format) {
    case UTL_SIMPLE:
        fputs(text, rows->out);
        break;
    case UTL_TABLE:
        add_cell(rows, slice_from_str(text));
        break;
    case UTL_JSON:
        if (is_signed)
            print_json_i64(&rows->json, column(rows)->json, (int64_t)value);
        else
            print_json_u64(&rows->json, column(rows)->json, value);
        break;
    case UTL_FIELDS:
        if (is_signed)
            print_field_i64(rows->out, column(rows)->field, (int64_t)value);
        else
            print_field_u64(rows->out, column(rows)->field, value);
        break;
    }
    end_cell(rows);
}

void utl_rows_i64(struct utl_rows *rows, int64_t value)
{
    char text[24];
    snprintf(text, sizeof(text), "%" PRId64, value);
    put_number(rows, text, (uint64_t)value, /* is_signed= */ true);
}

void utl_rows_u64(struct utl_rows *rows, uint64_t value)
{
    char text[24];
    snprintf(text, sizeof(text), "%" PRIu64, value);
    put_number(rows, text, value, /* is_signed= */ false);
}

void utl_rows_hex(struct utl_rows *rows, uint64_t value)
{
    char text[24];
    snprintf(text, sizeof(text), "%" PRIx64, value);
    put_number(rows, text, value, /* is_signed= */ false);
}

void utl_rows_bool(struct utl_rows *rows, bool value)
{
    begin_cell(rows);
    switch (rows->format) {
    case UTL_SIMPLE:
        fputs(value ? "true" : "false", rows->out);
        break;
    case UTL_TABLE:
        add_cell(rows, value ? SLICE("true") : SLICE("false"));
        break;
    case UTL_JSON:
        print_json_bool(&rows->json, column(rows)->json, value);
        break;
    case UTL_FIELDS:
        print_field_bool(rows->out, column(rows)->field, value);
        break;
    }
    end_cell(rows);
}
