/* base/lock.h - the one lock of the data path, around the key index and the store's published view.
 * Held for short, bounded work only; never across a system call. A no-op when made single-threaded
 * (simulator). */
#ifndef BASE_LOCK_H
#define BASE_LOCK_H
#include "base/status.h"

#include <stdbool.h>

struct lock; /* opaque, owned by whoever made it */

CHECKED enum status lock_new(bool threaded, struct lock **out); /* ST_NO_MEMORY */
void lock_free(struct lock *lock);                              /* NULL is fine */
void lock_acquire(struct lock *lock);
void lock_release(struct lock *lock);
#endif
