/* tests/fakes/memory_faults.h - makes one allocation of the code under test fail. A test that calls
 * cleat_memory_faults() in its CMakeLists.txt has every malloc, calloc, realloc, aligned_alloc and
 * strdup of its own objects and static libraries come here first; what shared libraries allocate
 * is left alone. One thread only. */
#ifndef TESTS_FAKES_MEMORY_FAULTS_H
#define TESTS_FAKES_MEMORY_FAULTS_H
#include <stdbool.h>
#include <stdint.h>

/* The nth allocation counted from now (1: the next) fails, and no other. 0: none does. */
void memory_fail_at(uint64_t nth);
/* Allocations between the two neither count nor fail. */
void memory_faults_pause(void);
void memory_faults_resume(void);
/* Since the last memory_fail_at(). */
bool memory_fault_fired(void);
#endif
