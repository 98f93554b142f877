/* base/assert.h - ASSERT: our own code is wrong. On in every build; never used on bytes from
 * outside. */
#ifndef BASE_ASSERT_H
#define BASE_ASSERT_H

/* Called once before the abort, e.g. to dump a trace ring. Set at start, from one thread. */
typedef void (*assert_hook)(const char *expression, const char *file, int line);
void assert_set_hook(assert_hook hook);

_Noreturn void assert_failed(const char *expression, const char *file, int line);

#define ASSERT(x) ((x) ? (void)0 : assert_failed(#x, __FILE__, __LINE__))
#endif
