/* tools/print/text.h - pieces of text the way etcd's tools print them: Go's %q, escaped bytes,
 * sizes for people, and the lines of `-w fields`. For durations ("3.876458ms") see base/duration.h.
 * Writers go to a FILE, whose errors the caller looks up once at the end (ferror). */
#ifndef TOOLS_PRINT_TEXT_H
#define TOOLS_PRINT_TEXT_H
#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* Go's %q: in double quotes, printable characters as they are, others as \n, \x00, \u00a0; bytes
 * that are no UTF-8 as \xff. The size is in bytes, quotes in, NUL not; _write ends with a NUL. */
size_t print_quoted_size(struct slice s);
void print_quoted_write(struct slice s, char *out);
void print_quoted(FILE *out, struct slice s);

/* Every byte as \x66: what --hex makes of keys and values. */
void print_escaped(FILE *out, struct slice s);
/* The bytes as they are. */
void print_slice(FILE *out, struct slice s);

#define PRINT_SIZE_TEXT_MAX 16
/* "7 B", "2.1 MB", "37 kB": powers of 1000, one decimal below ten. Returns out. */
const char *print_size(uint64_t bytes, char out[PRINT_SIZE_TEXT_MAX]);

/* Lines of `-w fields`: "Revision" : 2 */
void print_field_u64(FILE *out, const char *name, uint64_t value);
void print_field_i64(FILE *out, const char *name, int64_t value);
void print_field_bool(FILE *out, const char *name, bool value);
void print_field_quoted(FILE *out, const char *name, struct slice value);
void print_field_bare(FILE *out, const char *name, const char *value); /* value without quotes */

/* Decodes the first character of s (len > 0). Returns its bytes, 1 for what is no UTF-8; *code_out
 * is then UINT32_MAX. Surrogates and overlong forms are no UTF-8, as in Go. */
size_t print_utf8_decode(struct slice s, uint32_t *code_out);
#endif
