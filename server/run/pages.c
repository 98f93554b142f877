#include "server/run/pages.h"

#include "base/clock_real.h"
#include "server/loops/loops.h"
#include "server/run/thread_list.h"
#include "server/state/machine.h"
#include "storage/mvcc.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#define COMMAND_LINE_BYTES_MAX (64U << 10)

static uint32_t active_alarms(void *context)
{
    struct pages *pages = context;
    struct machine *machine = member_machine(pages->member);
    uint32_t alarms = 0;
    if (machine_has_alarm(machine, ALARM_NOSPACE))
        alarms |= HTTP_ALARM_NOSPACE;
    if (machine_has_alarm(machine, ALARM_CORRUPT))
        alarms |= HTTP_ALARM_CORRUPT;
    return alarms;
}

static bool is_quarantined(void *context)
{
    struct pages *pages = context;
    struct loops_status status;
    loops_get_status(member_loops(pages->member), &status);
    return status.is_quarantined;
}

static bool has_leader(void *context)
{
    struct pages *pages = context;
    struct loops_status status;
    loops_get_status(member_loops(pages->member), &status);
    return status.leader != 0;
}

static enum status ignore_record(void *context, struct slice record)
{
    (void)context;
    (void)record;
    return ST_OK;
}

static const char *serializable_read(void *context)
{
    struct pages *pages = context;
    struct mvcc_query query = {.range = {.key = SLICE("health")}};
    struct mvcc_result result;
    enum status st =
        mvcc_read(member_mvcc(pages->member), pages->slot, &query, ignore_record, NULL, &result);
    return st == ST_OK ? NULL : status_str(st);
}

/* A linearizable read on behalf of /readyz; lives from the question to its answer. */
struct readiness {
    struct read_request read;
    struct http_check *check;
};

static void readiness_answer(struct read_request *read, enum api_error error, uint32_t reader)
{
    (void)reader;
    struct readiness *readiness = CONTAINER_OF(read, struct readiness, read);
    http_check_done(readiness->check, error == API_OK ? NULL : api_error_text(error));
    free(readiness);
}

static void linearizable_read(void *context, struct http_check *check)
{
    struct pages *pages = context;
    struct readiness *readiness = calloc(1, sizeof(*readiness));
    if (readiness == NULL) {
        http_check_done(check, status_str(ST_NO_MEMORY));
        return;
    }
    readiness->check = check;
    readiness->read.request.deadline_ns =
        clock_monotonic_ns(clock_real()) + pages->request_timeout_ns;
    readiness->read.ready = readiness_answer;
    loops_read(member_loops(pages->member), &readiness->read);
}

static bool cluster_version(void *context, char *out, size_t size)
{
    struct pages *pages = context;
    char version[VERSION_TEXT_BYTES];
    machine_cluster_version(member_machine(pages->member), version);
    snprintf(out, size, "%s", version);
    return version[0] != '\0';
}

/* ---- /debug/vars ---- */

/* The arguments, as JSON; only what every reader shows is left as it is. */
static enum status put_command_line(struct buf *out)
{
    static _Thread_local char line[COMMAND_LINE_BYTES_MAX];
    FILE *file = fopen("/proc/self/cmdline", "rb");
    size_t len = file == NULL ? 0 : fread(line, 1, sizeof(line), file);
    if (file != NULL)
        fclose(file);
    enum status st = buf_append(out, SLICE("\"cmdline\": ["));
    for (size_t i = 0; i < len && st == ST_OK; i++) {
        uint8_t c = (uint8_t)line[i];
        bool is_first = i == 0 || line[i - 1] == '\0';
        if (is_first)
            st = buf_append(out, i == 0 ? SLICE("\"") : SLICE(",\""));
        if (st == ST_OK && c == '\0')
            st = buf_append(out, SLICE("\""));
        else if (st == ST_OK && (c < ' ' || c == '"' || c == '\\'))
            st = buf_printf(out, "\\u%04x", c);
        else if (st == ST_OK)
            st = buf_append(out, slice_make(&c, 1));
    }
    return st == ST_OK ? buf_append(out, SLICE("],\n")) : st;
}

/* The heap of this process by the names that Go gives to the like. */
static enum status put_memory(struct buf *out)
{
    struct mallinfo2 heap = mallinfo2();
    return buf_printf(out,
                      "\"memstats\": {\"Alloc\":%zu,\"Sys\":%zu,\"HeapAlloc\":%zu,"
                      "\"HeapSys\":%zu,\"HeapIdle\":%zu},\n",
                      heap.uordblks + heap.hblkhd, heap.arena + heap.hblkhd,
                      heap.uordblks + heap.hblkhd, heap.arena + heap.hblkhd, heap.fordblks);
}

static enum status put_raft(const struct pages *pages, struct buf *out)
{
    struct loops_status status;
    loops_get_status(member_loops(pages->member), &status);
    uint64_t id = machine_member_id(member_machine(pages->member));
    const char *state = status.is_learner     ? "StateLearner"
                        : status.leader == id ? "StateLeader"
                        : status.leader == 0  ? "StateCandidate"
                                              : "StateFollower";
    return buf_printf(out,
                      "\"raft.status\": {\"id\":\"%" PRIx64 "\",\"term\":%" PRIu64
                      ",\"commit\":%" PRIu64 ",\"lead\":\"%" PRIx64
                      "\",\"raftState\":\"%s\",\"applied\":%" PRIu64 "}\n",
                      id, status.term, status.commit, status.leader, state, status.applied);
}

static enum status vars(void *context, struct buf *out)
{
    struct rlimit files = {0};
    (void)getrlimit(RLIMIT_NOFILE, &files);
    enum status st = buf_append(out, SLICE("{\n"));
    if (st == ST_OK)
        st = put_command_line(out);
    if (st == ST_OK)
        st = buf_printf(out, "\"file_descriptor_limit\": %llu,\n",
                        (unsigned long long)files.rlim_cur);
    if (st == ST_OK)
        st = put_memory(out);
    if (st == ST_OK)
        st = put_threads(out);
    if (st == ST_OK)
        st = put_raft(context, out);
    return st == ST_OK ? buf_append(out, SLICE("}\n")) : st;
}

void pages_fill(struct pages *pages, struct http_handlers *out)
{
    *out = (struct http_handlers){.context = pages,
                                  .alarms = active_alarms,
                                  .is_quarantined = is_quarantined,
                                  .has_leader = has_leader,
                                  .serializable_read = serializable_read,
                                  .linearizable_read = linearizable_read,
                                  .cluster_version = cluster_version,
                                  .vars = vars};
}
