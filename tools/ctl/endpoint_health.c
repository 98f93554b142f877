/* endpoint health: a read through the cluster by each endpoint, all at once. */
#include "tools/ctl/endpoint.h"

#include "base/clock.h"
#include "base/duration.h"
#include "tools/print/table.h"
#include "tools/print/text.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct health {
    const char *endpoint;
    bool is_healthy;
    char took[DURATION_TEXT_MAX];
    const char *error; /* "" is none */
};

/* Rows in the order in which the endpoints were done. */
struct healths {
    pthread_mutex_t lock; /* of the rest, while threads run */
    struct health *items;
    uint32_t count;
};

/* One endpoint, in its thread, with a ctl of its own. */
struct probe {
    struct ctl ctl;
    char *endpoint;
    struct healths *healths;
    pthread_t thread;
    bool has_thread;
};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

/* A refused read went through consensus all the same. */
static bool is_answer(const struct ctl_answer *answer)
{
    return answer->error == NULL || strcmp(answer->error, "etcdserver: permission denied") == 0;
}

static const char *alarm_text(struct ctl *ctl)
{
    static const struct ctl_method method = {"/etcdserverpb.Maintenance/Alarm",
                                             &etcdserverpb__alarm_response__descriptor,
                                             .unlimited = false};
    Etcdserverpb__AlarmRequest request = ETCDSERVERPB__ALARM_REQUEST__INIT;
    struct ctl_answer answer = ctl_call(ctl, &method, &request.base);
    if (answer.error != NULL)
        return "Unable to fetch the alarm list";
    const Etcdserverpb__AlarmResponse *response = answer.message;
    if (response->n_alarms == 0)
        return "";
    static const char head[] = "Active Alarm(s): ";
    char *out = arena_alloc(&ctl->arena, sizeof(head) + response->n_alarms * 8);
    if (out == NULL)
        return head;
    char *end = stpcpy(out, head);
    for (size_t i = 0; i < response->n_alarms; i++) {
        int alarm = (int)response->alarms[i]->alarm;
        end = stpcpy(end, alarm == 1 ? "NOSPACE " : alarm == 2 ? "CORRUPT " : "UNKNOWN ");
    }
    return out;
}

static struct health ask(struct ctl *ctl, char *endpoint)
{
    static const struct ctl_method method = {
        "/etcdserverpb.KV/Range", &etcdserverpb__range_response__descriptor, .unlimited = false};
    struct health health = {.endpoint = endpoint, .error = ""};
    char *const endpoints[] = {endpoint};
    const char *error = ctl_connect(ctl, endpoints, 1, &ctl->caller);
    if (error != NULL) {
        health.error = error;
        return health;
    }
    Etcdserverpb__RangeRequest request = ETCDSERVERPB__RANGE_REQUEST__INIT;
    request.key = ctl_bytes("health");
    uint64_t began_ns = now_ns();
    struct ctl_answer answer = ctl_call(ctl, &method, &request.base);
    duration_format((int64_t)(now_ns() - began_ns), health.took);
    health.error = is_answer(&answer) ? alarm_text(ctl) : answer.error;
    health.is_healthy = *health.error == '\0';
    return health;
}

static void *run_probe(void *context)
{
    struct probe *probe = context;
    struct health health = ask(&probe->ctl, probe->endpoint);
    pthread_mutex_lock(&probe->healths->lock);
    probe->healths->items[probe->healths->count++] = health;
    pthread_mutex_unlock(&probe->healths->lock);
    return NULL;
}

/* The probes' arenas hold the texts of the rows: they end after the printing. */
static void start_probes(struct ctl *ctl, struct probe *probes, char *const *endpoints,
                         uint32_t count, struct healths *healths)
{
    for (uint32_t i = 0; i < count; i++) {
        probes[i] = (struct probe){.ctl = *ctl, .endpoint = endpoints[i], .healths = healths};
        arena_init(&probes[i].ctl.arena, ctl->arena.bytes_max);
        probes[i].ctl.caller = NULL;
        probes[i].ctl.logger = "client";
        probes[i].has_thread = pthread_create(&probes[i].thread, NULL, run_probe, &probes[i]) == 0;
        if (!probes[i].has_thread)
            run_probe(&probes[i]); /* late, but it is told */
    }
}

/* ---- writers ---- */

static void simple(struct ctl *ctl, const void *message, const void *about)
{
    (void)about;
    const struct healths *healths = message;
    for (uint32_t i = 0; i < healths->count; i++) {
        const struct health *health = &healths->items[i];
        if (*health->error == '\0')
            fprintf(ctl->cli->out, "%s is healthy: successfully committed proposal: took = %s\n",
                    health->endpoint, health->took);
        else
            fprintf(ctl->cli->err, "%s is unhealthy: failed to commit proposal: %s\n",
                    health->endpoint, health->error);
    }
}

static void fields(struct ctl *ctl, const void *message, const void *about)
{
    (void)about;
    const struct healths *healths = message;
    FILE *out = ctl->cli->out;
    for (uint32_t i = 0; i < healths->count; i++) {
        print_field_quoted(out, "Endpoint", slice_from_str(healths->items[i].endpoint));
        print_field_bool(out, "Health", healths->items[i].is_healthy);
        print_field_bare(out, "Took", healths->items[i].took);
        print_field_bare(out, "Error", healths->items[i].error);
        fputc('\n', out);
    }
}

static void json(struct ctl *ctl, const void *message, const void *about)
{
    (void)about;
    const struct healths *healths = message;
    struct print_json out = print_json_to(ctl->cli->out);
    print_json_array(&out, NULL);
    for (uint32_t i = 0; i < healths->count; i++) {
        const struct health *health = &healths->items[i];
        print_json_object(&out, NULL);
        print_json_text(&out, "endpoint", health->endpoint);
        print_json_bool(&out, "health", health->is_healthy);
        print_json_text(&out, "took", health->took);
        if (*health->error != '\0')
            print_json_text(&out, "error", health->error);
        print_json_object_end(&out);
    }
    print_json_array_end(&out);
}

static void table(struct ctl *ctl, const void *message, const void *about)
{
    (void)about;
    static const char *const header[] = {"ENDPOINT", "HEALTH", "TOOK", "ERROR"};
    const struct healths *healths = message;
    struct print_table box;
    print_table_init(&box, header, 4);
    enum status st = ST_OK;
    for (uint32_t i = 0; i < healths->count && st == ST_OK; i++) {
        const struct health *health = &healths->items[i];
        const char *cells[] = {health->endpoint, health->is_healthy ? "true" : "false",
                               health->took, health->error};
        st = print_table_add(&box, cells);
    }
    if (st == ST_OK)
        print_table_print(&box, ctl->cli->out);
    else
        fprintf(ctl->cli->err, "%s\n", status_str(st));
    print_table_deinit(&box);
}

/* ---- the command ---- */

static int show(struct ctl *ctl, const struct healths *healths)
{
    static const struct ctl_view view = {.simple = simple,
                                         .fields = fields,
                                         .table = table,
                                         .json = json,
                                         .no_protobuf = "protobuf not supported as output format"};
    int code = ctl_show(ctl, &view, healths, NULL);
    bool all_well = true;
    for (uint32_t i = 0; i < healths->count; i++)
        all_well = all_well && *healths->items[i].error == '\0';
    if (code == CLI_EXIT_OK && !all_well)
        code = cli_fail(ctl->cli, CLI_EXIT_ERROR, "unhealthy cluster");
    return code;
}

static int probe_all(struct ctl *ctl)
{
    char *const *endpoints;
    uint32_t count;
    int code = endpoint_list(ctl, &endpoints, &count);
    if (code != CLI_EXIT_OK)
        return code;
    struct healths healths = {.lock = PTHREAD_MUTEX_INITIALIZER,
                              .items = ARENA_ARRAY(&ctl->arena, struct health, count + 1)};
    struct probe *probes = ARENA_ARRAY(&ctl->arena, struct probe, count + 1);
    if (healths.items == NULL || probes == NULL)
        return cli_fail(ctl->cli, CLI_EXIT_ERROR, "out of memory");
    start_probes(ctl, probes, endpoints, count, &healths);
    for (uint32_t i = 0; i < count; i++) {
        if (probes[i].has_thread)
            pthread_join(probes[i].thread, NULL);
    }
    code = show(ctl, &healths);
    for (uint32_t i = 0; i < count; i++)
        ctl_close(&probes[i].ctl);
    return code;
}

static int run_health(struct cli *cli)
{
    struct ctl ctl;
    int code = ctl_read_flags(cli, &ctl);
    if (code == CLI_EXIT_OK)
        code = probe_all(&ctl);
    ctl_close(&ctl);
    return code;
}

const struct cli_command endpoint_health_command = {
    .name = "health",
    .brief = "Tells whether each endpoint takes part in the cluster's decisions",
    .flags = endpoint_cluster_flags,
    .run = run_health,
};
