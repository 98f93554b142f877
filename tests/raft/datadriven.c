#include "tests/raft/datadriven.h"

#include "base/assert.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void emit(struct buf *out, const char *format, ...)
{
    char text[8192];
    va_list arguments;
    va_start(arguments, format);
    int len = vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    ASSERT(len >= 0 && (size_t)len < sizeof(text));
    enum status st = buf_append(out, slice_make(text, (size_t)len));
    ASSERT(st == ST_OK);
}

const struct script_arg *script_arg_find(const struct script_command *command, const char *key)
{
    for (uint32_t i = 0; i < command->args_count; i++) {
        if (strcmp(command->args[i].key, key) == 0)
            return &command->args[i];
    }
    return NULL;
}

uint64_t script_number(const char *text)
{
    char *end;
    uint64_t number = strtoull(text, &end, 10);
    ASSERT(end != text);
    return number;
}

bool script_flag(const struct script_command *command, const char *key, bool otherwise)
{
    const struct script_arg *arg = script_arg_find(command, key);
    return arg == NULL ? otherwise : strcmp(arg->values[0], "true") == 0;
}

uint64_t script_arg_number(const struct script_command *command, const char *key,
                           uint64_t otherwise)
{
    const struct script_arg *arg = script_arg_find(command, key);
    return arg == NULL ? otherwise : script_number(arg->values[0]);
}

/* ---- the command line, cut in place ---- */

static char *skip_blanks(char *p)
{
    while (*p == ' ' || *p == '\t')
        p++;
    return p;
}

static void add_value(struct script_arg *arg, char *value)
{
    ASSERT(arg->values_count < SCRIPT_VALUES_MAX);
    arg->values[arg->values_count++] = value;
}

/* (v1, v2, ...): p is behind the parenthesis; gives what follows the closing one. */
static char *parse_list(char *p, struct script_arg *arg)
{
    p = skip_blanks(p);
    while (*p != ')') {
        char *value = p;
        while (*p != ',' && *p != ')')
            p++;
        char end = *p;
        *p++ = '\0';
        add_value(arg, value);
        if (end == ')')
            return p;
        p = skip_blanks(p);
    }
    return p + 1;
}

static char *parse_arg(char *p, struct script_arg *arg)
{
    arg->key = p;
    while (*p != '\0' && *p != ' ' && *p != '=')
        p++;
    if (*p != '=') {
        if (*p != '\0')
            *p++ = '\0';
        return p;
    }
    *p++ = '\0';
    if (*p == '(')
        return parse_list(p + 1, arg);
    char *value = p;
    while (*p != '\0' && *p != ' ')
        p++;
    if (*p != '\0')
        *p++ = '\0';
    add_value(arg, value);
    return p;
}

static void parse_command(char *line, struct script_command *command)
{
    command->name = line;
    command->args_count = 0;
    char *p = line + strcspn(line, " ");
    if (*p != '\0')
        *p++ = '\0';
    for (p = skip_blanks(p); *p != '\0'; p = skip_blanks(p)) {
        ASSERT(command->args_count < SCRIPT_ARGS_MAX);
        struct script_arg *arg = &command->args[command->args_count++];
        *arg = (struct script_arg){0};
        p = parse_arg(p, arg);
    }
}

/* ---- comparison ---- */

static enum script_mode mode = SCRIPT_EXACT;

void script_set_mode(enum script_mode wanted)
{
    mode = wanted;
}

static bool is_log_line(const char *line)
{
    static const char *const levels[] = {"DEBUG ", "INFO ", "WARN ", "ERROR "};
    line += strspn(line, " ");
    for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
        if (strncmp(line, levels[i], strlen(levels[i])) == 0)
            return true;
    }
    return false;
}

/* The text as it is compared; nothing left means that nothing is printed: "ok". */
static void normalize(const char *text, struct buf *out)
{
    while (*text != '\0') {
        size_t len = strcspn(text, "\n");
        if (mode != SCRIPT_PROTOCOL || !is_log_line(text))
            emit(out, "%.*s\n", (int)len, text);
        text += len + (text[len] == '\n');
    }
    if (out->len == 0)
        emit(out, "ok\n");
}

static int compare(const struct script_command *command, const char *expected, const char *printed)
{
    struct buf want, got;
    buf_init(&want, SIZE_MAX / 2);
    buf_init(&got, SIZE_MAX / 2);
    normalize(expected, &want);
    normalize(printed, &got);
    bool same = slice_eq(buf_slice(&want), buf_slice(&got));
    if (!same)
        fprintf(stderr, "%s:%d: %s\n--- expected\n%.*s--- got\n%.*s\n", command->path,
                command->line, command->name, (int)want.len, (const char *)want.data, (int)got.len,
                (const char *)got.data);
    buf_deinit(&want);
    buf_deinit(&got);
    return !same;
}

/* ---- the file ---- */

struct reader {
    char *next;
    int line;
};

/* Cuts the next line off; NULL at the end. */
static char *take_line(struct reader *reader)
{
    char *line = reader->next;
    if (*line == '\0')
        return NULL;
    size_t len = strcspn(line, "\n");
    reader->next = line + len + (line[len] == '\n');
    line[len] = '\0';
    reader->line++;
    return line;
}

static void take_until(struct reader *reader, const char *end, struct buf *out)
{
    buf_reset(out);
    char *line;
    while ((line = take_line(reader)) != NULL && strcmp(line, end) != 0)
        emit(out, "%s\n", line);
    emit(out, "%c", '\0');
}

static char *read_all(const char *path)
{
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return NULL;
    size_t capacity = 1 << 20;
    char *text = malloc(capacity);
    ASSERT(text != NULL);
    size_t len = fread(text, 1, capacity - 1, file);
    text[len] = '\0';
    fclose(file);
    return text;
}

static void write_all(const char *path, const struct buf *text)
{
    FILE *file = fopen(path, "we");
    ASSERT(file != NULL);
    ASSERT(fwrite(text->data, 1, text->len, file) == text->len);
    fclose(file);
}

struct block {
    struct buf input, expected, printed;
};

/* One block whose command stands in line; what it should look like goes to rewritten. */
static int run_block(struct reader *reader, struct script_command *command, char *line,
                     struct block *b, script_run run, void *context, struct buf *rewritten)
{
    emit(rewritten, "%s\n", line);
    parse_command(line, command);
    take_until(reader, "----", &b->input);
    take_until(reader, "", &b->expected);
    command->input = (char *)b->input.data;
    buf_reset(&b->printed);
    run(context, command, &b->printed);
    emit(&b->printed, "%c", '\0');
    struct buf text;
    buf_init(&text, SIZE_MAX / 2);
    normalize((const char *)b->printed.data, &text);
    emit(rewritten, "%s----\n%.*s\n", (const char *)b->input.data, (int)text.len,
         (const char *)text.data);
    buf_deinit(&text);
    return mode == SCRIPT_REWRITE
               ? 0
               : compare(command, (const char *)b->expected.data, (const char *)b->printed.data);
}

int script_file(const char *path, script_run run, void *context)
{
    char *text = read_all(path);
    if (text == NULL)
        return -1;
    struct reader reader = {.next = text};
    struct block block;
    struct buf rewritten;
    buf_init(&block.input, SIZE_MAX / 2);
    buf_init(&block.expected, SIZE_MAX / 2);
    buf_init(&block.printed, SIZE_MAX / 2);
    buf_init(&rewritten, SIZE_MAX / 2);
    int failures = 0;
    char *line;
    while ((line = take_line(&reader)) != NULL) {
        char *start = skip_blanks(line);
        if (*start == '\0' || *start == '#') {
            emit(&rewritten, "%s\n", line);
            continue;
        }
        struct script_command command = {.path = path, .line = reader.line};
        failures += run_block(&reader, &command, start, &block, run, context, &rewritten);
    }
    while (rewritten.len > 1 && rewritten.data[rewritten.len - 2] == '\n')
        rewritten.len--;
    if (mode == SCRIPT_REWRITE)
        write_all(path, &rewritten);
    buf_deinit(&block.input);
    buf_deinit(&block.expected);
    buf_deinit(&block.printed);
    buf_deinit(&rewritten);
    free(text);
    return failures;
}
