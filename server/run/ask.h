/* server/run/ask.h - what a member asks of others over their peer ports. All of it waits. */
#ifndef SERVER_RUN_ASK_H
#define SERVER_RUN_ASK_H
#include "base/arena.h"
#include "base/slice.h"
#include "base/status.h"
#include "server/state/corruption.h"
#include "server/state/members.h"

#include <stdbool.h>
#include <stdint.h>

/* The members as the first of urls lists them that answers, and the cluster's id; *out is counted.
 * Says in the log which do not answer, unless quiet. Errors: ST_NOT_FOUND (none), ST_NO_MEMORY. */
CHECKED enum status ask_members(const struct slice *urls, uint32_t count, uint32_t timeout_ms,
                                bool quiet, struct members **out, uint64_t *cluster_id_out);

/* A member's versions by its GET /version; "" for what it did not tell. */
struct asked_version {
    struct slice server, cluster; /* in the arena; cluster may be "not_decided" */
};
/* Asks the member at one of its peer URLs after the other. Errors: ST_NOT_FOUND, ST_NO_MEMORY. */
CHECKED enum status ask_version(const struct member_row *row, uint32_t timeout_ms,
                                struct arena *arena, struct asked_version *out);
/* Whether it says that a downgrade is under way. Errors: ST_NOT_FOUND. */
CHECKED enum status ask_downgrade(const struct member_row *row, uint32_t timeout_ms, bool *out);
/* Its hash of a revision, at one of its peer URLs after the other; out->error says how it went. */
void ask_hash(const struct member_row *row, uint64_t cluster_id, int64_t revision,
              uint32_t timeout_ms, struct hash_answer *out);
#endif
