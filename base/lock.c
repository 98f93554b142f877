#include "base/lock.h"

#include "base/assert.h"

#include <pthread.h>

struct lock {
    bool threaded;
    pthread_mutex_t mutex;
};

enum status lock_new(bool threaded, struct lock **out)
{
    *out = NULL;
    struct lock *lock = calloc(1, sizeof(*lock));
    if (lock == NULL)
        return ST_NO_MEMORY;
    lock->threaded = threaded;
    /* Adaptive: holders are gone within a microsecond, so a short spin saves two context switches.
     */
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ADAPTIVE_NP);
    int failed = pthread_mutex_init(&lock->mutex, &attributes);
    pthread_mutexattr_destroy(&attributes);
    if (failed != 0) {
        free(lock);
        return ST_NO_MEMORY;
    }
    *out = lock;
    return ST_OK;
}

void lock_free(struct lock *lock)
{
    if (lock == NULL)
        return;
    pthread_mutex_destroy(&lock->mutex);
    free(lock);
}

void lock_acquire(struct lock *lock)
{
    if (lock->threaded) {
        int failed = pthread_mutex_lock(&lock->mutex);
        ASSERT(failed == 0);
    }
}

void lock_release(struct lock *lock)
{
    if (lock->threaded) {
        int failed = pthread_mutex_unlock(&lock->mutex);
        ASSERT(failed == 0);
    }
}
