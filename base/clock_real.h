/* base/clock_real.h - the real clock behind base/clock.h: for programs, not for what is tested in
 * virtual time. */
#ifndef BASE_CLOCK_REAL_H
#define BASE_CLOCK_REAL_H
#include "base/clock.h"

const struct clock *clock_real(void); /* static; CLOCK_MONOTONIC and CLOCK_REALTIME */
#endif
