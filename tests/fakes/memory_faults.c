#include "tests/fakes/memory_faults.h"

#include <stdlib.h>
#include <string.h>

/* The linker's names of the wrapped functions and of the real ones. */
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
char *__real_strdup(const char *text);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
char *__wrap_strdup(const char *text);

static uint64_t countdown; /* allocations up to the one that fails; 0: none does */
static bool paused, fired;

void memory_fail_at(uint64_t nth)
{
    countdown = nth;
    paused = fired = false;
}

void memory_faults_pause(void)
{
    paused = true;
}

void memory_faults_resume(void)
{
    paused = false;
}

bool memory_fault_fired(void)
{
    return fired;
}

static bool fails(void)
{
    if (paused || countdown == 0 || --countdown > 0)
        return false;
    fired = true;
    return true;
}

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
    return fails() ? NULL : __real_realloc(old, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    return fails() ? NULL : __real_aligned_alloc(alignment, size);
}

char *__wrap_strdup(const char *text)
{
    return fails() ? NULL : __real_strdup(text);
}
