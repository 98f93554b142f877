/* tools/client/caller_private.h - what the files of the caller share. */
#ifndef TOOLS_CLIENT_CALLER_PRIVATE_H
#define TOOLS_CLIENT_CALLER_PRIVATE_H
#include "tools/client/caller.h"

/* Why nobody could be reached, in Go's words, from gRPC's; in arena. endpoint: whom, when the text
 * does not tell. */
const char *caller_connect_error_text(struct slice text, const char *endpoint, struct arena *arena);
#endif
