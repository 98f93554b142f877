/* server/run/clock.h - the real clock behind base/clock.h. */
#ifndef SERVER_RUN_CLOCK_H
#define SERVER_RUN_CLOCK_H
#include "base/clock.h"

const struct clock *clock_real(void); /* static; CLOCK_MONOTONIC and CLOCK_REALTIME */
#endif
