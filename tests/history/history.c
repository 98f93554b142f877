#include "tests/history/history.h"

#include "base/assert.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEARCH_STEPS_MAX 5000000U

void history_init(struct history *history, uint32_t keys_count)
{
    *history = (struct history){.keys_count = keys_count};
}

void history_deinit(struct history *history)
{
    free(history->ops);
    *history = (struct history){0};
}

enum status history_call(struct history *history, const struct history_op *op, uint32_t *id_out)
{
    ASSERT(op->keys_count <= HISTORY_OP_KEYS_MAX);
    for (uint32_t i = 0; i < op->keys_count; i++)
        ASSERT(op->keys[i].key < history->keys_count);
    ASSERT(!op->has_guard || op->guard_key < history->keys_count);
    if (history->count == history->capacity) {
        uint32_t capacity = history->capacity == 0 ? 1024 : history->capacity * 2;
        struct history_op *ops = realloc(history->ops, capacity * sizeof(*ops));
        if (ops == NULL)
            return ST_NO_MEMORY;
        history->ops = ops;
        history->capacity = capacity;
    }
    struct history_op *added = &history->ops[history->count];
    *added = *op;
    added->end = HISTORY_NEVER;
    *id_out = history->count++;
    return ST_OK;
}

static struct history_op *open_op(struct history *history, uint32_t id, uint64_t now)
{
    ASSERT(id < history->count);
    struct history_op *op = &history->ops[id];
    ASSERT(op->end == HISTORY_NEVER);
    ASSERT(now >= op->call);
    return op;
}

void history_wrote(struct history *history, uint32_t id, uint64_t now, int64_t revision,
                   bool changed)
{
    struct history_op *op = open_op(history, id, now);
    ASSERT(op->is_write);
    op->end = now;
    op->revision = revision;
    op->changed = changed;
}

void history_read(struct history *history, uint32_t id, uint64_t now, int64_t revision,
                  const struct history_key *seen)
{
    struct history_op *op = open_op(history, id, now);
    ASSERT(!op->is_write);
    op->end = now;
    op->revision = revision;
    for (uint32_t i = 0; i < op->keys_count; i++) {
        ASSERT(seen[i].key == op->keys[i].key);
        op->keys[i] = seen[i];
    }
}

void history_describe(const struct history_op *op, char *text, size_t text_bytes)
{
    char end[32] = "never";
    if (op->end != HISTORY_NEVER)
        snprintf(end, sizeof(end), "%" PRIu64, op->end);
    int used = snprintf(text, text_bytes, "client %u [%" PRIu64 ", %s] %s", op->client, op->call,
                        end, op->is_write ? "write" : "read");
    for (uint32_t i = 0; i < op->keys_count && used >= 0 && (size_t)used < text_bytes; i++)
        used += snprintf(text + used, text_bytes - (size_t)used, " key %u = %" PRIu64,
                         op->keys[i].key, op->keys[i].value);
    if (op->has_guard && used >= 0 && (size_t)used < text_bytes)
        used += snprintf(text + used, text_bytes - (size_t)used, " if key %u = %" PRIu64,
                         op->guard_key, op->guard_value);
    if (op->end != HISTORY_NEVER && used >= 0 && (size_t)used < text_bytes)
        snprintf(text + used, text_bytes - (size_t)used, " at revision %" PRId64 "%s", op->revision,
                 op->is_write && !op->changed ? ", nothing changed" : "");
}

enum status history_check(const struct history *history, enum verdict *out, char *why,
                          size_t why_bytes)
{
    enum status st = history_check_by_revision(history, out, why, why_bytes);
    if (st != ST_OK || *out != HISTORY_UNDECIDED)
        return st;
    return history_check_by_search(history, SEARCH_STEPS_MAX, out, why, why_bytes);
}
