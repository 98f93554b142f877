/* tools/ctl/endpoint.h - what the endpoint commands share. */
#ifndef TOOLS_CTL_ENDPOINT_H
#define TOOLS_CTL_ENDPOINT_H
#include "tools/ctl/ctl.h"

/* --endpoints, or with --cluster what the members advertise; in ctl->arena. Returns an exit code,
 * errors told. */
int endpoint_list(struct ctl *ctl, char *const **out, uint32_t *count_out);

extern const struct cli_command endpoint_health_command;
extern const struct cli_flag endpoint_cluster_flags[];
#endif
