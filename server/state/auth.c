/* Views of users and roles. A view holds counted nodes; what did not change is shared with the view
 * before. What a user may stands in its node, so a change of a role makes the nodes of those who
 * have it anew. */
#include "server/state/auth.h"

#include "base/assert.h"
#include "server/state/auth_private.h"

#include <stdlib.h>

/* ---- nodes: one piece of memory each ---- */

static struct slice pack(uint8_t **text, struct slice s)
{
    uint8_t *at = *text;
    if (s.len > 0)
        memcpy(at, s.data, s.len);
    *text += s.len;
    return slice_make(at, s.len);
}

/* Nodes of a tree are its sentinel and one for each interval. */
static size_t tree_nodes(const struct auth_union *of)
{
    return (size_t)of->tree.count + 1;
}

static size_t union_bytes(const struct auth_union *of)
{
    size_t bytes = tree_nodes(of) * sizeof(of->tree.nodes[0]) + of->count * sizeof(of->items[0]);
    for (uint32_t i = 0; i < of->count; i++)
        bytes += of->items[i].begin.len + of->items[i].end.len;
    for (uint32_t i = 1; i <= of->tree.count; i++)
        bytes += of->tree.nodes[i].begin.len + of->tree.nodes[i].end.len;
    return bytes;
}

/* Arrays go to room, which is moved behind them, and texts to text. */
static void pack_union(const struct auth_union *of, uint8_t **room, uint8_t **text,
                       struct auth_union *out)
{
    struct auth_tree_node *nodes = (struct auth_tree_node *)(void *)*room;
    struct auth_interval *items = (struct auth_interval *)(void *)(nodes + tree_nodes(of));
    *room = (uint8_t *)(items + of->count);
    *out = (struct auth_union){.items = items, .count = of->count, .tree = of->tree};
    out->tree.nodes = nodes;
    memcpy(nodes, of->tree.nodes, tree_nodes(of) * sizeof(nodes[0]));
    for (uint32_t i = 1; i <= of->tree.count; i++) {
        nodes[i].begin = pack(text, nodes[i].begin);
        nodes[i].end = pack(text, nodes[i].end);
    }
    for (uint32_t i = 0; i < of->count; i++) {
        items[i].begin = pack(text, of->items[i].begin);
        items[i].end = pack(text, of->items[i].end);
    }
}

static struct auth_user_node *user_node_new(const struct auth_user *user,
                                            const struct auth_union may[2])
{
    size_t arrays = sizeof(struct auth_user_node) + user->roles_count * sizeof(struct slice);
    size_t bytes = arrays + user->name.len + user->password.len;
    for (uint32_t i = 0; i < user->roles_count; i++)
        bytes += user->roles[i].len;
    for (int access = AUTH_READ; access <= AUTH_WRITE; access++) {
        bytes += union_bytes(&may[access]);
        arrays += tree_nodes(&may[access]) * sizeof(struct auth_tree_node) +
                  may[access].count * sizeof(struct auth_interval);
    }
    struct auth_user_node *node = malloc(bytes);
    if (node == NULL)
        return NULL;
    atomic_init(&node->references, 1);
    node->user = *user;
    struct slice *roles = (struct slice *)(void *)(node + 1);
    uint8_t *room = (uint8_t *)(roles + user->roles_count), *text = (uint8_t *)node + arrays;
    node->user.name = pack(&text, user->name);
    node->user.password = pack(&text, user->password);
    node->user.roles = roles;
    for (uint32_t i = 0; i < user->roles_count; i++)
        roles[i] = pack(&text, user->roles[i]);
    pack_union(&may[AUTH_READ], &room, &text, &node->may[AUTH_READ]);
    pack_union(&may[AUTH_WRITE], &room, &text, &node->may[AUTH_WRITE]);
    return node;
}

static struct auth_role_node *role_node_new(const struct auth_role *role)
{
    size_t bytes = sizeof(struct auth_role_node) +
                   role->permissions_count * sizeof(struct auth_permission) + role->name.len;
    for (uint32_t i = 0; i < role->permissions_count; i++)
        bytes += role->permissions[i].key.len + role->permissions[i].range_end.len;
    struct auth_role_node *node = malloc(bytes);
    if (node == NULL)
        return NULL;
    atomic_init(&node->references, 1);
    struct auth_permission *permissions = (struct auth_permission *)(void *)(node + 1);
    uint8_t *text = (uint8_t *)(permissions + role->permissions_count);
    node->role = *role;
    node->role.name = pack(&text, role->name);
    node->role.permissions = permissions;
    for (uint32_t i = 0; i < role->permissions_count; i++) {
        permissions[i].type = role->permissions[i].type;
        permissions[i].key = pack(&text, role->permissions[i].key);
        permissions[i].range_end = pack(&text, role->permissions[i].range_end);
    }
    return node;
}

static void *node_ref(void *node, atomic_uint *references)
{
    atomic_fetch_add_explicit(references, 1, memory_order_relaxed);
    return node;
}

static void node_unref(void *node, atomic_uint *references)
{
    if (atomic_fetch_sub_explicit(references, 1, memory_order_acq_rel) == 1)
        free(node);
}

/* ---- a view ---- */

static void view_free(struct auth_view *view)
{
    for (uint32_t i = 0; i < view->users_count; i++)
        node_unref(view->users[i], &view->users[i]->references);
    for (uint32_t i = 0; i < view->roles_count; i++)
        node_unref(view->roles[i], &view->roles[i]->references);
    free(view->users);
    free(view->roles);
    free(view);
}

struct auth_view *auth_view_ref(struct auth_view *view)
{
    atomic_fetch_add_explicit(&view->references, 1, memory_order_relaxed);
    return view;
}

void auth_view_unref(struct auth_view *view)
{
    if (view == NULL)
        return;
    if (atomic_fetch_sub_explicit(&view->references, 1, memory_order_acq_rel) == 1)
        view_free(view);
}

bool auth_is_enabled(const struct auth_view *view)
{
    return view->enabled;
}

uint64_t auth_revision(const struct auth_view *view)
{
    return view->revision;
}

/* The place of name among users; the next one's when it is not there. */
static uint32_t user_position(const struct auth_view *view, struct slice name, bool *found_out)
{
    uint32_t low = 0, high = view->users_count;
    *found_out = false;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = slice_cmp(view->users[middle]->user.name, name);
        if (order == 0) {
            *found_out = true;
            return middle;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static uint32_t role_position(const struct auth_view *view, struct slice name, bool *found_out)
{
    uint32_t low = 0, high = view->roles_count;
    *found_out = false;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = slice_cmp(view->roles[middle]->role.name, name);
        if (order == 0) {
            *found_out = true;
            return middle;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const struct auth_user_node *auth_find_node(const struct auth_view *view, struct slice name)
{
    bool found;
    uint32_t at = user_position(view, name, &found);
    return found ? view->users[at] : NULL;
}

const struct auth_user *auth_find_user(const struct auth_view *view, struct slice name)
{
    const struct auth_user_node *node = auth_find_node(view, name);
    return node == NULL ? NULL : &node->user;
}

const struct auth_role *auth_find_role(const struct auth_view *view, struct slice name)
{
    bool found;
    uint32_t at = role_position(view, name, &found);
    return found ? &view->roles[at]->role : NULL;
}

uint32_t auth_users_count(const struct auth_view *view)
{
    return view->users_count;
}

const struct auth_user *auth_user_at(const struct auth_view *view, uint32_t index)
{
    ASSERT(index < view->users_count);
    return &view->users[index]->user;
}

uint32_t auth_roles_count(const struct auth_view *view)
{
    return view->roles_count;
}

const struct auth_role *auth_role_at(const struct auth_view *view, uint32_t index)
{
    ASSERT(index < view->roles_count);
    return &view->roles[index]->role;
}

bool auth_user_has_role(const struct auth_user *user, struct slice role)
{
    for (uint32_t i = 0; i < user->roles_count; i++) {
        if (slice_eq(user->roles[i], role))
            return true;
    }
    return false;
}

bool auth_is_listed(struct slice name)
{
    return name.len > 0 && name.data[0] < 0xff;
}

/* ---- a draft ---- */

/* Room for one more pointer; the array doubles. */
static enum status reserve(void **array, uint32_t count, uint32_t *capacity)
{
    if (count < *capacity)
        return ST_OK;
    if (count > UINT32_MAX / 4)
        return ST_NO_MEMORY;
    uint32_t wanted = count < 8 ? 8 : count * 2;
    void *grown = realloc(*array, wanted * sizeof(void *));
    if (grown == NULL)
        return ST_NO_MEMORY;
    *array = grown;
    *capacity = wanted;
    return ST_OK;
}

enum status auth_draft_begin(const struct auth_view *from, struct auth_draft *out)
{
    *out = (struct auth_draft){.view = calloc(1, sizeof(*out->view))};
    struct auth_view *view = out->view;
    if (view == NULL)
        return ST_NO_MEMORY;
    atomic_init(&view->references, 1);
    view->revision = AUTH_REVISION_FIRST;
    arena_init(&out->scratch, SIZE_MAX / 2);
    if (from == NULL)
        return ST_OK;
    view->enabled = from->enabled;
    view->revision = from->revision;
    out->users_capacity = from->users_count + 1;
    out->roles_capacity = from->roles_count + 1;
    view->users = malloc(out->users_capacity * sizeof(view->users[0]));
    view->roles = malloc(out->roles_capacity * sizeof(view->roles[0]));
    if (view->users == NULL || view->roles == NULL) {
        auth_draft_cancel(out);
        return ST_NO_MEMORY;
    }
    for (; view->users_count < from->users_count; view->users_count++) {
        struct auth_user_node *node = from->users[view->users_count];
        view->users[view->users_count] = node_ref(node, &node->references);
    }
    for (; view->roles_count < from->roles_count; view->roles_count++) {
        struct auth_role_node *node = from->roles[view->roles_count];
        view->roles[view->roles_count] = node_ref(node, &node->references);
    }
    return ST_OK;
}

/* The permissions of all roles of the user that exist. */
static enum status gather(struct auth_draft *draft, const struct auth_user *user,
                          const struct auth_permission ***out, uint32_t *count_out)
{
    uint32_t count = 0, used = 0;
    for (uint32_t i = 0; i < user->roles_count; i++) {
        const struct auth_role *role = auth_find_role(draft->view, user->roles[i]);
        count += role == NULL ? 0 : role->permissions_count;
    }
    const struct auth_permission **all =
        ARENA_ARRAY(&draft->scratch, const struct auth_permission *, count);
    if (all == NULL)
        return ST_NO_MEMORY;
    for (uint32_t i = 0; i < user->roles_count; i++) {
        const struct auth_role *role = auth_find_role(draft->view, user->roles[i]);
        for (uint32_t j = 0; role != NULL && j < role->permissions_count; j++)
            all[used++] = &role->permissions[j];
    }
    ASSERT(used == count);
    *out = all;
    *count_out = count;
    return ST_OK;
}

/* etcd makes permissions of those users alone that it lists. */
static enum status make_node(struct auth_draft *draft, const struct auth_user *user,
                             struct auth_user_node **out)
{
    struct auth_union may[2] = {0};
    const struct auth_permission **permissions;
    uint32_t count;
    enum status st = gather(draft, user, &permissions, &count);
    if (!auth_is_listed(user->name))
        count = 0;
    for (int access = AUTH_READ; access <= AUTH_WRITE && st == ST_OK; access++)
        st = auth_union_make(permissions, count, (enum auth_access)access, &draft->scratch,
                             &may[access]);
    if (st != ST_OK)
        return ST_NO_MEMORY;
    *out = user_node_new(user, may);
    arena_reset(&draft->scratch);
    return *out == NULL ? ST_NO_MEMORY : ST_OK;
}

enum status auth_draft_put_user(struct auth_draft *draft, const struct auth_user *user)
{
    struct auth_view *view = draft->view;
    struct auth_user_node *node;
    void *users = view->users;
    enum status st = reserve(&users, view->users_count, &draft->users_capacity);
    view->users = users;
    if (st == ST_OK)
        st = make_node(draft, user, &node);
    if (st != ST_OK)
        return st;
    bool found;
    uint32_t at = user_position(view, user->name, &found);
    if (found) {
        node_unref(view->users[at], &view->users[at]->references);
    } else {
        memmove(&view->users[at + 1], &view->users[at],
                (view->users_count - at) * sizeof(view->users[0]));
        view->users_count++;
    }
    view->users[at] = node;
    return ST_OK;
}

void auth_draft_drop_user(struct auth_draft *draft, struct slice name)
{
    struct auth_view *view = draft->view;
    bool found;
    uint32_t at = user_position(view, name, &found);
    if (!found)
        return;
    struct auth_user_node *node = view->users[at];
    view->users_count--;
    memmove(&view->users[at], &view->users[at + 1],
            (view->users_count - at) * sizeof(view->users[0]));
    node_unref(node, &node->references);
}

enum status auth_draft_put_role(struct auth_draft *draft, const struct auth_role *role)
{
    struct auth_view *view = draft->view;
    void *roles = view->roles;
    enum status st = reserve(&roles, view->roles_count, &draft->roles_capacity);
    view->roles = roles;
    struct auth_role_node *node = st == ST_OK ? role_node_new(role) : NULL;
    if (node == NULL)
        return ST_NO_MEMORY;
    bool found;
    uint32_t at = role_position(view, role->name, &found);
    if (found) {
        node_unref(view->roles[at], &view->roles[at]->references);
    } else {
        memmove(&view->roles[at + 1], &view->roles[at],
                (view->roles_count - at) * sizeof(view->roles[0]));
        view->roles_count++;
    }
    view->roles[at] = node;
    return ST_OK;
}

void auth_draft_drop_role(struct auth_draft *draft, struct slice name)
{
    struct auth_view *view = draft->view;
    bool found;
    uint32_t at = role_position(view, name, &found);
    if (!found)
        return;
    struct auth_role_node *node = view->roles[at];
    view->roles_count--;
    memmove(&view->roles[at], &view->roles[at + 1],
            (view->roles_count - at) * sizeof(view->roles[0]));
    node_unref(node, &node->references);
}

enum status auth_draft_refresh(struct auth_draft *draft, struct slice role)
{
    struct auth_view *view = draft->view;
    for (uint32_t i = 0; i < view->users_count; i++) {
        struct auth_user_node *before = view->users[i];
        if (!auth_user_has_role(&before->user, role))
            continue;
        enum status st = make_node(draft, &before->user, &view->users[i]);
        if (st != ST_OK) {
            view->users[i] = before;
            return st;
        }
        node_unref(before, &before->references);
    }
    return ST_OK;
}

struct auth_view *auth_draft_end(struct auth_draft *draft)
{
    struct auth_view *view = draft->view;
    draft->view = NULL;
    arena_deinit(&draft->scratch);
    return view;
}

void auth_draft_cancel(struct auth_draft *draft)
{
    if (draft->view != NULL)
        view_free(draft->view);
    draft->view = NULL;
    arena_deinit(&draft->scratch);
}
