#include "base/pages.h"

#include <sys/mman.h>

#define HUGE_PAGE_BYTES (2U << 20)

/* Whole huge pages: then the kernel aligns the memory to them. 0: no address space has that much.
 */
static size_t round_up(size_t size)
{
    size_t rounded;
    if (__builtin_add_overflow(size, HUGE_PAGE_BYTES - 1, &rounded))
        return 0;
    return rounded / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
}

void *pages_alloc(size_t size)
{
    size_t rounded = round_up(size);
    void *memory = mmap(NULL, rounded, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    /* Advice; small pages do as well. */
    (void)madvise(memory, rounded, MADV_HUGEPAGE);
    return memory;
}

void *pages_grow(void *memory, size_t size, size_t wanted)
{
    void *grown = mremap(memory, round_up(size), round_up(wanted), MREMAP_MAYMOVE);
    return grown == MAP_FAILED ? NULL : grown;
}

void pages_free(void *memory, size_t size)
{
    munmap(memory, round_up(size));
}
