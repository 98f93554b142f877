/* server/state/cluster_version.h - the version a cluster runs as: the leader sets it to the lowest
 * of its members' versions, and a member joins only a cluster whose version it can be. */
#ifndef SERVER_STATE_CLUSTER_VERSION_H
#define SERVER_STATE_CLUSTER_VERSION_H
#include "base/slice.h"
#include "base/status.h"
#include "server/state/machine.h"

#include <stdbool.h>
#include <stdint.h>

#define CLUSTER_VERSION_MIN "3.0.0"

struct version {
    uint32_t major, minor, patch;
};

/* "3.5.15", also "3.5.15-rc.1" (what follows the patch is passed over). Errors: ST_INVALID. */
CHECKED enum status version_parse(struct slice text, struct version *out);
/* Of whole versions, by number. */
int version_compare(struct version a, struct version b);

/* What the leader is to propose now. servers: "etcdserver" of every member's GET /version, this
 * one's too; an empty slice: not known. current: the cluster's, "" while it has none. False:
 * nothing. out: "3.5.0". */
bool cluster_version_decide(const struct slice *servers, uint32_t count, const char *current,
                            char out[VERSION_TEXT_BYTES]);

/* Whether a member of version `own` may join a cluster whose members say these cluster versions
 * (an empty or other text: not known, "not_decided"): at least one is known, and none is out of
 * range. While a downgrade is under way only the version above this one is in range. */
bool cluster_version_is_joinable(const struct slice *clusters, uint32_t count, struct version own,
                                 bool downgrade_enabled);

/* A downgrade's target as a client writes it, "3.4" or "3.4.0"; out is {3, 4, 0}. Errors:
 * ST_INVALID. */
CHECKED enum status version_parse_target(struct slice text, struct version *out);
#endif
