/* server/run/pages.h - how the HTTP endpoints ask the member. */
#ifndef SERVER_RUN_PAGES_H
#define SERVER_RUN_PAGES_H
#include "server/http/http.h"
#include "server/run/member.h"

#include <stdint.h>

struct pages {
    struct member *member; /* borrowed */
    uint32_t slot;         /* reader slot of the HTTP server's thread */
    uint64_t request_timeout_ns;
};

/* The handlers; pages is borrowed by them. */
void pages_fill(struct pages *pages, struct http_handlers *out);
#endif
