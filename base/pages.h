/* base/pages.h - large memory straight from the system, in huge pages where it has them: a page
 * fault for each 4 KiB costs more than what an answer of megabytes is filled with. Any thread.
 * Source: mmap(2), mremap(2), madvise(2). */
#ifndef BASE_PAGES_H
#define BASE_PAGES_H
#include <stddef.h>

/* Less is malloc()'s. */
#define PAGES_BYTES_MIN (4U << 20)

/* Zeroed memory of at least size bytes; NULL: there is none. */
void *pages_alloc(size_t size);
/* The same memory with the size wanted, larger than before, and perhaps elsewhere, but never
 * copied; NULL: there is none, and the memory is as before. */
void *pages_grow(void *memory, size_t size, size_t wanted);
void pages_free(void *memory, size_t size);
#endif
