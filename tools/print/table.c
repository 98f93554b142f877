#include "tools/print/table.h"

#include "base/assert.h"
#include "tools/print/text.h"

#include <stdlib.h>

#define TABLE_BYTES_MAX (64U << 20)

void print_table_init(struct print_table *table, const char *const *header, uint32_t columns)
{
    ASSERT(columns > 0 && columns <= PRINT_TABLE_COLUMNS_MAX);
    *table = (struct print_table){.header = header, .columns = columns};
    arena_init(&table->arena, TABLE_BYTES_MAX);
}

void print_table_deinit(struct print_table *table)
{
    free(table->cells);
    arena_deinit(&table->arena);
}

enum status print_table_add(struct print_table *table, const char *const *cells)
{
    if (table->rows == table->rows_capacity) {
        uint32_t capacity = table->rows_capacity == 0 ? 8 : table->rows_capacity * 2;
        char **grown =
            reallocarray(table->cells, (size_t)capacity * table->columns, sizeof(char *));
        if (grown == NULL)
            return ST_NO_MEMORY;
        table->cells = grown;
        table->rows_capacity = capacity;
    }
    for (uint32_t i = 0; i < table->columns; i++) {
        void *copy;
        size_t size = strlen(cells[i]) + 1;
        enum status st = arena_take(&table->arena, size, &copy);
        if (st != ST_OK)
            return st;
        memcpy(copy, cells[i], size);
        table->cells[(size_t)table->rows * table->columns + i] = copy;
    }
    table->rows++;
    return ST_OK;
}

/* Columns that a character takes on a terminal: two in the scripts of East Asia and for pictures,
 * none for marks on the one before. */
static size_t columns_of(uint32_t code)
{
    static const struct {
        uint32_t first, last;
        size_t columns;
    } ranges[] = {
        {0x300, 0x36f, 0},     {0x1100, 0x115f, 2},   {0x200b, 0x200f, 0},   {0x20d0, 0x20ff, 0},
        {0x2e80, 0x303e, 2},   {0x3041, 0x33ff, 2},   {0x3400, 0x4dbf, 2},   {0x4e00, 0xa4cf, 2},
        {0xa960, 0xa97c, 2},   {0xac00, 0xd7a3, 2},   {0xf900, 0xfaff, 2},   {0xfe00, 0xfe0f, 0},
        {0xfe30, 0xfe6f, 2},   {0xff01, 0xff60, 2},   {0xffe0, 0xffe6, 2},   {0x1f300, 0x1f64f, 2},
        {0x1f680, 0x1f6ff, 2}, {0x1f900, 0x1f9ff, 2}, {0x20000, 0x3fffd, 2},
    };
    for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
        if (code >= ranges[i].first && code <= ranges[i].last)
            return ranges[i].columns;
    }
    return 1;
}

static size_t text_width(const char *text)
{
    struct slice left = slice_from_str(text);
    size_t width = 0;
    while (left.len > 0) {
        uint32_t code;
        size_t len = print_utf8_decode(left, &code);
        left = slice_make(left.data + len, left.len - len);
        width += columns_of(code);
    }
    return width;
}

static void repeat(FILE *out, char c, size_t times)
{
    for (size_t i = 0; i < times; i++)
        fputc(c, out);
}

static void print_rule(const struct print_table *table, const size_t *widths, FILE *out)
{
    for (uint32_t i = 0; i < table->columns; i++) {
        fputc('+', out);
        repeat(out, '-', widths[i] + 2);
    }
    fputs("+\n", out);
}

static void print_row(const struct print_table *table, const size_t *widths,
                      const char *const *cells, bool centred, FILE *out)
{
    for (uint32_t i = 0; i < table->columns; i++) {
        size_t gap = widths[i] - text_width(cells[i]);
        size_t before = centred ? gap / 2 : gap;
        fputs("| ", out);
        repeat(out, ' ', before);
        fputs(cells[i], out);
        repeat(out, ' ', gap - before + 1);
    }
    fputs("|\n", out);
}

void print_table_print(const struct print_table *table, FILE *out)
{
    size_t widths[PRINT_TABLE_COLUMNS_MAX];
    for (uint32_t i = 0; i < table->columns; i++) {
        widths[i] = text_width(table->header[i]);
        for (uint32_t r = 0; r < table->rows; r++) {
            size_t width = text_width(table->cells[(size_t)r * table->columns + i]);
            widths[i] = width > widths[i] ? width : widths[i];
        }
    }
    print_rule(table, widths, out);
    print_row(table, widths, table->header, /* centred= */ true, out);
    print_rule(table, widths, out);
    for (uint32_t r = 0; r < table->rows; r++)
        print_row(table, widths, (const char *const *)&table->cells[(size_t)r * table->columns],
                  /* centred= */ false, out);
    print_rule(table, widths, out); /* etcdctl's too has both when there is no row */
}
