/* The order of a role's permissions: by key. */
#include "server/state/auth_private.h"

void auth_sort_permissions(struct auth_permission *permissions, uint32_t count)
{
    for (uint32_t i = 1; i < count; i++) {
        struct auth_permission moved = permissions[i];
        uint32_t at = i;
        for (; at > 0 && slice_cmp(moved.key, permissions[at - 1].key) < 0; at--)
            permissions[at] = permissions[at - 1];
        permissions[at] = moved;
    }
}
