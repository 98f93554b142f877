#include "server/run/space.h"

#include "server/loops/loops.h"
#include "base/clock_real.h"
#include "server/run/log.h"
#include "storage/store.h"

#define REPEAT_NS (60 * NS_PER_S)

static bool is_full(const struct space_watch *watch, struct store_stat *out)
{
    bool no_room = store_get_stat(watch->store, out) == ST_OK && out->room_bytes == 0;
    return no_room || store_health(watch->store) == ST_NO_SPACE || loops_log_is_full(watch->loops);
}

void space_watch_step(struct space_watch *watch)
{
    struct store_stat stat = {0};
    bool full = is_full(watch, &stat);
    loops_set_room_short(watch->loops, full);
    uint64_t now_ns = clock_monotonic_ns(clock_real());
    if (full && (!watch->is_full || now_ns - watch->said_ns >= REPEAT_NS)) {
        log_warn("the disk is full: writes are refused, reads go on; free space on the disk of the "
                 "data directory, or compact old revisions (etcdctl compaction)",
                 LOG_STR("data-dir", watch->data_dir),
                 LOG_U64("store-bytes", stat.backend.size_bytes),
                 LOG_U64("store-bytes-in-use", stat.backend.in_use_bytes),
                 LOG_BOOL("log-is-full", loops_log_is_full(watch->loops)));
        watch->said_ns = now_ns;
    } else if (!full && watch->is_full) {
        log_info("the disk has room again: writes are taken",
                 LOG_U64("room-bytes", stat.room_bytes));
    }
    watch->is_full = full;
}
