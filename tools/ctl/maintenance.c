/* alarm list and disarm, defrag, move-leader. */
#include "tools/ctl/ctl.h"

#include "tools/ctl/endpoint.h"
#include "tools/ctl/offline.h"
#include "tools/print/text.h"

#include <inttypes.h>

/* ---- alarms ---- */

static const struct ctl_method alarm_method = {"/etcdserverpb.Maintenance/Alarm",
                                               &etcdserverpb__alarm_response__descriptor, false};

static const char *alarm_name(struct ctl *ctl, Etcdserverpb__AlarmType alarm)
{
    switch (alarm) {
    case ETCDSERVERPB__ALARM_TYPE__NONE:
        return "NONE";
    case ETCDSERVERPB__ALARM_TYPE__NOSPACE:
        return "NOSPACE";
    case ETCDSERVERPB__ALARM_TYPE__CORRUPT:
        return "CORRUPT";
    default:
        return cli_format(ctl->cli, "%d", (int)alarm);
    }
}

static void simple_alarms(struct ctl *ctl, const void *message, const void *about)
{
    const Etcdserverpb__AlarmResponse *response = message;
    (void)about;
    for (size_t i = 0; i < response->n_alarms; i++) {
        const Etcdserverpb__AlarmMember *alarm = response->alarms[i];
        if (alarm->memberid != 0)
            fprintf(ctl->cli->out, "memberID:%" PRIu64 " ", alarm->memberid);
        if (alarm->alarm != ETCDSERVERPB__ALARM_TYPE__NONE)
            fprintf(ctl->cli->out, "alarm:%s ", alarm_name(ctl, alarm->alarm));
        fputc('\n', ctl->cli->out);
    }
}

static void fields_alarms(struct ctl *ctl, const void *message, const void *about)
{
    const Etcdserverpb__AlarmResponse *response = message;
    (void)about;
    FILE *out = ctl->cli->out;
    ctl_fields_header(ctl, response->header);
    for (size_t i = 0; i < response->n_alarms; i++) {
        print_field_u64(out, "MemberID", response->alarms[i]->memberid);
        print_field_bare(out, "AlarmType", alarm_name(ctl, response->alarms[i]->alarm));
        fputc('\n', out);
    }
}

static const struct ctl_view alarm_view = {.simple = simple_alarms, .fields = fields_alarms};

static int run_alarm_list(struct cli *cli)
{
    if (cli->words_count != 0)
        return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS, "alarm list command accepts no arguments");
    Etcdserverpb__AlarmRequest request = ETCDSERVERPB__ALARM_REQUEST__INIT;
    return ctl_ask(cli, &alarm_method, &request.base, &alarm_view, NULL);
}

const struct cli_command ctl_alarm_list_command = {
    .name = "list",
    .brief = "Lists the alarms that are raised",
    .run = run_alarm_list,
};

/* Puts out every alarm of found; what the server answers is collected in *out. */
static const char *disarm_each(struct ctl *ctl, const Etcdserverpb__AlarmResponse *found,
                               Etcdserverpb__AlarmResponse *out)
{
    out->alarms = ARENA_ARRAY(&ctl->arena, Etcdserverpb__AlarmMember *, found->n_alarms + 1);
    if (out->alarms == NULL)
        return "out of memory";
    for (size_t i = 0; i < found->n_alarms; i++) {
        Etcdserverpb__AlarmRequest request = ETCDSERVERPB__ALARM_REQUEST__INIT;
        request.action = ETCDSERVERPB__ALARM_REQUEST__ALARM_ACTION__DEACTIVATE;
        request.memberid = found->alarms[i]->memberid;
        request.alarm = found->alarms[i]->alarm;
        struct ctl_answer answer = ctl_call(ctl, &alarm_method, &request.base);
        if (answer.error != NULL)
            return answer.error;
        const Etcdserverpb__AlarmResponse *response = answer.message;
        if (response->n_alarms > 0) /* one at most: that which was asked for */
            out->alarms[out->n_alarms++] = response->alarms[0];
    }
    return NULL;
}

static int disarm(struct ctl *ctl)
{
    Etcdserverpb__AlarmRequest request = ETCDSERVERPB__ALARM_REQUEST__INIT;
    struct ctl_answer answer = ctl_call(ctl, &alarm_method, &request.base);
    if (answer.error != NULL)
        return cli_fail(ctl->cli, CLI_EXIT_ERROR, "%s", answer.error);
    Etcdserverpb__AlarmResponse disarmed = ETCDSERVERPB__ALARM_RESPONSE__INIT;
    const char *error = disarm_each(ctl, answer.message, &disarmed);
    if (error != NULL)
        return cli_fail(ctl->cli, CLI_EXIT_ERROR, "%s", error);
    return ctl_show(ctl, &alarm_view, &disarmed, NULL);
}

static int run_alarm_disarm(struct cli *cli)
{
    if (cli->words_count != 0)
        return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS, "alarm disarm command accepts no arguments");
    struct ctl ctl;
    int code = ctl_open(cli, &ctl);
    if (code == CLI_EXIT_OK)
        code = disarm(&ctl);
    ctl_close(&ctl);
    return code;
}

const struct cli_command ctl_alarm_disarm_command = {
    .name = "disarm",
    .brief = "Puts out all alarms",
    .run = run_alarm_disarm,
};

/* ---- defrag ---- */

/* One after the other. */
static int defragment_each(struct ctl *ctl, char *const *endpoints, uint32_t count)
{
    static const struct ctl_method method = {"/etcdserverpb.Maintenance/Defragment",
                                             &etcdserverpb__defragment_response__descriptor, false};
    int code = CLI_EXIT_OK;
    for (uint32_t i = 0; i < count; i++) {
        Etcdserverpb__DefragmentRequest request = ETCDSERVERPB__DEFRAGMENT_REQUEST__INIT;
        struct ctl_answer answer = ctl_call_at(ctl, endpoints[i], &method, &request.base);
        if (answer.error == NULL) {
            fprintf(ctl->cli->out, "Finished defragmenting etcd member[%s]\n", endpoints[i]);
            fflush(ctl->cli->out);
            continue;
        }
        fprintf(ctl->cli->err, "Failed to defragment etcd member[%s] (%s)\n", endpoints[i],
                answer.error);
        code = CLI_EXIT_ERROR;
    }
    return code;
}

static int defragment(struct ctl *ctl)
{
    char *const *endpoints;
    uint32_t count;
    int code = endpoint_list(ctl, &endpoints, &count);
    return code == CLI_EXIT_OK ? defragment_each(ctl, endpoints, count) : code;
}

static int run_defrag(struct cli *cli)
{
    if (*cli_string(cli, "data-dir") != '\0')
        return offline_defrag(cli);
    struct ctl ctl;
    int code = ctl_open(cli, &ctl);
    if (code == CLI_EXIT_OK)
        code = defragment(&ctl);
    ctl_close(&ctl);
    return code;
}

static const struct cli_flag defrag_flags[] = {
    {.name = "cluster", .kind = CLI_BOOL, .help = "all members of the cluster, as it lists them"},
    {.name = "data-dir",
     .kind = CLI_STRING,
     .help = "deprecated, see cleatutl defrag: of a member that is stopped"},
    {0},
};

const struct cli_command ctl_defrag_command = {
    .name = "defrag",
    .brief = "Gives unused space of the members' stores back to the disk",
    .flags = defrag_flags,
    .run = run_defrag,
};

/* ---- move-leader ---- */

/* Finds the endpoint that is the leader. Returns an exit code. */
static int find_leader(struct ctl *ctl, const char **endpoint_out, uint64_t *leader_out)
{
    static const struct ctl_method method = {"/etcdserverpb.Maintenance/Status",
                                             &etcdserverpb__status_response__descriptor, false};
    const char *asked = "";
    for (uint32_t i = 0; i < ctl->options.endpoints_count; i++) {
        Etcdserverpb__StatusRequest request = ETCDSERVERPB__STATUS_REQUEST__INIT;
        const char *endpoint = ctl->options.endpoints[i];
        struct ctl_answer answer = ctl_call_at(ctl, endpoint, &method, &request.base);
        if (answer.error != NULL)
            return cli_fail(ctl->cli, CLI_EXIT_ERROR, "%s", answer.error);
        const Etcdserverpb__StatusResponse *status = answer.message;
        if (status->header != NULL && status->header->member_id == status->leader) {
            *endpoint_out = endpoint;
            *leader_out = status->leader;
            return CLI_EXIT_OK;
        }
        asked = cli_format(ctl->cli, "%s%s%s", asked, i > 0 ? " " : "", endpoint);
    }
    return cli_fail(ctl->cli, CLI_EXIT_BAD_ARGUMENTS, "no leader endpoint given at [%s]", asked);
}

static void simple_moved(struct ctl *ctl, const void *message, const void *about)
{
    const uint64_t *leaders = about; /* from, to */
    (void)message;
    fprintf(ctl->cli->out, "Leadership transferred from %" PRIx64 " to %" PRIx64 "\n", leaders[0],
            leaders[1]);
}

static int move_leader(struct ctl *ctl, uint64_t target)
{
    static const struct ctl_method method = {"/etcdserverpb.Maintenance/MoveLeader",
                                             &etcdserverpb__move_leader_response__descriptor,
                                             false};
    static const struct ctl_view view = {.simple = simple_moved};
    const char *endpoint = NULL;
    uint64_t leaders[2] = {0, target};
    int code = find_leader(ctl, &endpoint, &leaders[0]);
    if (code != CLI_EXIT_OK)
        return code;
    Etcdserverpb__MoveLeaderRequest request = ETCDSERVERPB__MOVE_LEADER_REQUEST__INIT;
    request.targetid = target;
    struct ctl_answer answer = ctl_call_at(ctl, endpoint, &method, &request.base);
    if (answer.error != NULL)
        return cli_fail(ctl->cli, CLI_EXIT_ERROR, "%s", answer.error);
    return ctl_show(ctl, &view, answer.message, leaders);
}

static int run_move_leader(struct cli *cli)
{
    if (cli->words_count != 1)
        return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS, "move-leader command needs 1 argument");
    uint64_t target;
    const char *error;
    if (cli_parse_uint(cli, cli->words[0], 16, &target, &error) != ST_OK)
        return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS, "%s", error);
    struct ctl ctl;
    int code = ctl_open(cli, &ctl);
    if (code == CLI_EXIT_OK)
        code = move_leader(&ctl, target);
    ctl_close(&ctl);
    return code;
}

const struct cli_command ctl_move_leader_command = {
    .name = "move-leader",
    .usage = "<transferee-member-id>",
    .brief = "Hands leadership to another member; --endpoints must name the leader",
    .run = run_move_leader,
};
