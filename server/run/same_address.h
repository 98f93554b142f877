/* server/run/same_address.h - whether lists of URLs lead to the same places. Asks the system's
 * resolver and waits for it. */
#ifndef SERVER_RUN_SAME_ADDRESS_H
#define SERVER_RUN_SAME_ADDRESS_H
#include "base/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* For struct url_resolver (server/state/bootstrap.h): host names of both lists are replaced by
 * addresses, both are sorted and compared. */
bool same_addresses(void *context, const struct slice *a, const struct slice *b, uint32_t count,
                    char *why, size_t why_bytes);
#endif
