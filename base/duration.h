/* base/duration.h - lengths of time as people write them: Go's syntax ("1.5s", "1h0m0s"), which
 * etcd's flags and logs use. */
#ifndef BASE_DURATION_H
#define BASE_DURATION_H
#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

#define DURATION_TEXT_MAX 32 /* bytes of the longest text, NUL included */

/* Writes ns the way Go prints a Duration ("0s", "250µs", "1m30s") and returns out. */
const char *duration_format(int64_t ns, char out[DURATION_TEXT_MAX]);
/* Reads one: an optional sign, then numbers, fractions allowed, each with a unit of ns, us, µs, ms,
 * s, m or h; or a bare "0". Errors: ST_INVALID (also when it passes 64 bits). */
CHECKED enum status duration_parse(const char *text, int64_t *out);
#endif
