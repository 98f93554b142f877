/* server/run/gauges.h - metrics whose value is the member's, asked for when they are shown. */
#ifndef SERVER_RUN_GAUGES_H
#define SERVER_RUN_GAUGES_H
#include <stdint.h>

struct member;

void gauges_open(struct member *member, uint64_t quota_bytes); /* borrowed until gauges_close() */
void gauges_close(void);
#endif
