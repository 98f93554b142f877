/* Entries of any content, applied one after another to a machine over an empty store: a member that
 * meets one it cannot apply must say so and stop, never crash. The input is a list of entries, each
 * headed by its length in two bytes, big-endian. */
#include "base/assert.h"
#include "server/state/auth_private.h"
#include "tests/server_state/harness.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum status apply(struct harness *harness, struct slice data)
{
    const struct raft_entry entry = {
        .term = 2, .index = ++harness->index, .payload = raft_payload_copy(data)};
    struct machine_result result;
    enum status st = machine_apply(harness->machine, &entry, &harness->arena, &result);
    raft_payload_unref(entry.payload);
    ASSERT(st != ST_OK || result.error < API_ERRORS_COUNT);
    ASSERT(st == ST_OK || machine_problem(harness->machine)[0] != '\0');
    return st;
}

static bool is_same_union(const struct auth_union *a, const struct auth_union *b)
{
    bool same = a->count == b->count;
    for (uint32_t i = 0; i < a->count && same; i++)
        same = slice_eq(a->items[i].begin, b->items[i].begin) &&
               slice_eq(a->items[i].end, b->items[i].end);
    return same;
}

static void compare_users(const struct auth_user_node *a, const struct auth_user_node *b)
{
    ASSERT(slice_eq(a->user.name, b->user.name) && slice_eq(a->user.password, b->user.password));
    ASSERT(a->user.no_password == b->user.no_password);
    ASSERT(a->user.roles_count == b->user.roles_count);
    for (uint32_t i = 0; i < a->user.roles_count; i++)
        ASSERT(slice_eq(a->user.roles[i], b->user.roles[i]));
    ASSERT(is_same_union(&a->may[AUTH_READ], &b->may[AUTH_READ]));
    ASSERT(is_same_union(&a->may[AUTH_WRITE], &b->may[AUTH_WRITE]));
}

/* What the changes came to is what the store says, read anew. */
static void check_auth(struct harness *harness)
{
    struct auth_view *applied = machine_auth(harness->machine);
    enum status st = machine_reload(harness->machine, machine_applied(harness->machine));
    ASSERT(st == ST_OK);
    struct auth_view *read = machine_auth(harness->machine);
    ASSERT(applied->enabled == read->enabled && applied->revision == read->revision);
    ASSERT(applied->users_count == read->users_count && applied->roles_count == read->roles_count);
    for (uint32_t i = 0; i < read->users_count; i++)
        compare_users(applied->users[i], read->users[i]);
    for (uint32_t i = 0; i < read->roles_count; i++)
        ASSERT(slice_eq(applied->roles[i]->role.name, read->roles[i]->role.name));
    auth_view_unref(applied);
    auth_view_unref(read);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct harness harness;
    harness_init(&harness);
    enum status st = ST_OK;
    while (size >= 2 && st == ST_OK) {
        size_t len = (size_t)data[0] << 8 | data[1];
        data += 2;
        size -= 2;
        if (len > size)
            len = size;
        st = apply(&harness, slice_make(data, len));
        data += len;
        size -= len;
    }
    if (st == ST_OK)
        check_auth(&harness);
    harness_deinit(&harness);
    return 0;
}
