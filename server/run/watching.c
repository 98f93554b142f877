#include "server/run/watching.h"

#include "base/list.h"
#include "base/clock_real.h"
#include "server/run/log.h"

static void wake(void *context)
{
    struct watching *watching = context;
    thread_wake(&watching->thread);
}

static uint64_t step(void *context, uint64_t now_ns)
{
    struct watching *watching = context;
    return watch_step(watching->hub, now_ns);
}

static bool has_leader(void *context)
{
    const struct watching *watching = context;
    struct loops_status status;
    loops_get_status(watching->loops, &status);
    return status.leader != 0;
}

/* ---- reads ---- */

static void run_read(struct read_request *request, enum api_error error, uint32_t reader)
{
    (void)error; /* a local read is never refused */
    struct watching_read *read = CONTAINER_OF(request, struct watching_read, request);
    watch_read_run(read->read, reader);
}

static void give_read(void *context, struct watch_read *read, uint32_t number)
{
    struct watching *watching = context;
    struct watching_read *slot = &watching->reads[number];
    slot->read = read;
    slot->request = (struct read_request){.ready = run_read};
    if (number == WATCH_LONG_READ)
        loops_read_long(watching->loops, &slot->request);
    else
        loops_read_local(watching->loops, &slot->request);
}

/* ---- life ---- */

#define PROGRESS_NS_DEFAULT (600 * NS_PER_S)
#define PROGRESS_NS_MIN (100 * NS_PER_MS)

static uint64_t progress_interval_ns(uint64_t flag_ns)
{
    if (flag_ns == 0)
        return PROGRESS_NS_DEFAULT;
    if (flag_ns >= PROGRESS_NS_MIN)
        return flag_ns;
    log_warn("adjusting watch progress notify interval to minimum period",
             LOG_DURATION("min-watch-progress-notify-interval", PROGRESS_NS_MIN));
    return PROGRESS_NS_MIN;
}

enum status watching_start(struct watching *watching, const struct watching_options *options)
{
    watching->loops = options->loops;
    const struct watch_hub_options hub = {
        .mvcc = options->mvcc,
        .reader_slot = options->reader_slot,
        .seed = options->seed,
        .progress_interval_ns = progress_interval_ns(options->progress_interval_ns),
        .election_ns = options->election_ns,
        .message_bytes_max = options->message_bytes_max,
        .wake = wake,
        .read = give_read,
        .has_leader = has_leader,
        .context = watching,
    };
    enum status st = thread_init(&watching->thread, "watch", clock_real(), step, watching);
    if (st == ST_OK)
        st = watch_hub_new(&hub, &watching->hub);
    return st == ST_OK ? thread_start(&watching->thread) : st;
}

void watching_end(struct watching *watching)
{
    if (watching->hub != NULL)
        watch_hub_stop(watching->hub);
}

void watching_stop(struct watching *watching)
{
    thread_stop(&watching->thread);
}

void watching_free(struct watching *watching)
{
    watch_hub_free(watching->hub);
    thread_deinit(&watching->thread);
}
