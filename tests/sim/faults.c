#include "tests/sim/faults.h"

#include "base/minmax.h"
#include "tests/fakes/backend_mem.h"
#include "tests/sim/cluster_private.h"

#include <setjmp.h>
#include <stdarg.h>
/* cmocka.h wants the two above */
#include <cmocka.h>

#include <stdlib.h>

#define LASTS_NS_MAX (6 * NS_PER_S)
#define LASTS_LONG_NS_MAX (30 * NS_PER_S) /* one of many */
#define RATE_PPM_MAX 400000
#define VOTERS_KEPT 3U /* nobody is removed below it */

/* What ends at a time of its own, by member: links count as their sender's. */
enum ending {
    END_DOWN,
    END_CUT,
    END_LINKS,
    END_SLOW,
    END_DISK,
    END_STORE,
    END_CLOCK,
    ENDINGS_COUNT
};

struct faults {
    struct cluster *cluster;
    bool enabled[FAULTS_COUNT];
    uint64_t counts[FAULTS_COUNT];
    uint64_t pause_ns_max; /* between two faults */
    uint64_t next_ns;
    uint64_t ends_ns[CLUSTER_MEMBERS_MAX][ENDINGS_COUNT]; /* 0: not going on */
    struct operation *change; /* of the members, not answered yet; one at a time */
    uint32_t joining;         /* who starts when it is */
    uint32_t next_member;     /* who never was a member */
    uint32_t learner;         /* CLUSTER_MEMBERS_MAX: none */
};

static const char *const names[FAULTS_COUNT] = {
    [FAULT_CRASH] = "crash",
    [FAULT_KILL] = "kill",
    [FAULT_STOP] = "stop",
    [FAULT_ISOLATE] = "isolate",
    [FAULT_PARTITION] = "partition",
    [FAULT_ONE_WAY] = "one-way",
    [FAULT_LOSS] = "loss",
    [FAULT_DELAY] = "delay",
    [FAULT_RESET] = "reset",
    [FAULT_DISK_HANGS] = "disk-hangs",
    [FAULT_DISK_SLOW] = "disk-slow",
    [FAULT_DISK_ERROR] = "disk-error",
    [FAULT_DISK_FULL] = "disk-full",
    [FAULT_STORE_ERROR] = "store-error",
    [FAULT_STORE_FULL] = "store-full",
    [FAULT_PAUSE] = "pause",
    [FAULT_CLOCK_RATE] = "clock-rate",
    [FAULT_WALL_JUMP] = "wall-jump",
    [FAULT_COPY] = "copy",
    [FAULT_MEMBERS] = "members",
    [FAULT_HAND_OVER] = "hand-over",
};

const char *fault_name(enum fault fault)
{
    return names[fault];
}

static uint64_t draw(struct faults *faults, uint64_t bound)
{
    return rng_below(&faults->cluster->rng, bound);
}

static uint64_t draw_length(struct faults *faults)
{
    return 1 + draw(faults, draw(faults, 16) == 0 ? LASTS_LONG_NS_MAX : LASTS_NS_MAX);
}

struct faults *faults_new(struct cluster *cluster)
{
    struct faults *faults = calloc(1, sizeof(*faults));
    assert_non_null(faults);
    faults->cluster = cluster;
    for (uint32_t i = 0; i < FAULTS_COUNT; i++)
        faults->enabled[i] = draw(faults, 2) == 0;
    faults->enabled[FAULT_CRASH] = true; /* none of the others says much without it */
    if (cluster->options.backend != NULL)
        faults->enabled[FAULT_STORE_ERROR] = faults->enabled[FAULT_STORE_FULL] = false;
    if (cluster->options.members_count == 1)
        faults->enabled[FAULT_MEMBERS] = false;
    faults->pause_ns_max = NS_PER_S / 4 + draw(faults, 4 * NS_PER_S);
    faults->next_ns = cluster->now_ns + draw(faults, faults->pause_ns_max);
    faults->next_member = cluster->options.members_count;
    faults->joining = faults->learner = CLUSTER_MEMBERS_MAX;
    return faults;
}

void faults_free(struct faults *faults)
{
    free(faults);
}

const uint64_t *faults_counts(const struct faults *faults)
{
    return faults->counts;
}

/* ---- whom ---- */

/* CLUSTER_MEMBERS_MAX: nobody runs. */
static uint32_t draw_running(struct faults *faults)
{
    uint32_t running[CLUSTER_MEMBERS_MAX], count = 0;
    for (uint32_t i = 0; i < CLUSTER_MEMBERS_MAX; i++) {
        if (faults->cluster->members[i].running)
            running[count++] = i;
    }
    return count == 0 ? CLUSTER_MEMBERS_MAX : running[draw(faults, count)];
}

/* The leader as often as all others together: most rules are about it. */
static uint32_t draw_victim(struct faults *faults)
{
    uint32_t leader = cluster_leader(faults->cluster);
    return leader != CLUSTER_MEMBERS_MAX && draw(faults, 2) == 0 ? leader : draw_running(faults);
}

static void ends_in(struct faults *faults, uint32_t member, enum ending ending, uint64_t length_ns)
{
    uint64_t *end_ns = &faults->ends_ns[member][ending];
    *end_ns = max_u64(*end_ns, faults->cluster->now_ns + length_ns);
}

/* ---- the network ---- */

static void each_link(struct faults *faults, uint32_t member,
                      void (*change)(struct faults *faults, struct network_link *link))
{
    for (uint32_t i = 0; i < CLUSTER_MEMBERS_MAX; i++)
        change(faults, network_link(faults->cluster->network, member, i));
}

static void lose(struct faults *faults, struct network_link *link)
{
    link->loss_permille = (uint32_t)draw(faults, 600);
    link->twice_permille = (uint32_t)draw(faults, 300);
}

static void delay(struct faults *faults, struct network_link *link)
{
    link->delay_ns_max = link->delay_ns_min + draw(faults, 300 * NS_PER_MS);
}

static void restore(struct faults *faults, struct network_link *link)
{
    (void)faults;
    *link = (struct network_link){
        .cut = link->cut, .delay_ns_min = NS_PER_MS / 10, .delay_ns_max = NS_PER_MS / 10};
}

static void join(struct faults *faults, struct network_link *link)
{
    (void)faults;
    link->cut = false;
}

static void part(struct faults *faults, uint64_t length_ns)
{
    uint64_t sides = draw(faults, 1U << CLUSTER_MEMBERS_MAX);
    for (uint32_t i = 0; i < CLUSTER_MEMBERS_MAX; i++) {
        for (uint32_t j = 0; j < CLUSTER_MEMBERS_MAX; j++) {
            if ((sides >> i & 1) != (sides >> j & 1))
                network_link(faults->cluster->network, i, j)->cut = true;
        }
        ends_in(faults, i, END_CUT, length_ns);
    }
}

static void isolate(struct faults *faults, uint32_t victim, uint64_t length_ns)
{
    network_isolate(faults->cluster->network, victim, true);
    for (uint32_t i = 0; i < CLUSTER_MEMBERS_MAX; i++)
        ends_in(faults, i, END_CUT, length_ns);
}

/* ---- the disks ---- */

static void break_disk(struct faults *faults, struct cluster_member *m, uint64_t length_ns)
{
    m->may_fail = true;
    fake_disk_fail_at(m->disk, draw(faults, 30), ST_IO);
    ends_in(faults, m->number, END_DISK, length_ns);
}

static void fill_disk(struct faults *faults, struct cluster_member *m, uint64_t length_ns)
{
    m->may_fail = true;
    fake_disk_set_capacity(m->disk, 1); /* no file grows */
    ends_in(faults, m->number, END_DISK, length_ns);
}

static void break_store(struct faults *faults, struct cluster_member *m, uint64_t length_ns)
{
    m->may_fail = true;
    backend_mem_fail_at(m->store_path, 1 + draw(faults, 50), ST_IO, draw(faults, 2) == 0);
    ends_in(faults, m->number, END_STORE, length_ns);
}

static void fill_store(struct faults *faults, struct cluster_member *m, uint64_t length_ns)
{
    m->may_fail = true;
    backend_mem_set_full(m->store_path, true);
    ends_in(faults, m->number, END_STORE, length_ns);
}

static void repair_disk(struct cluster_member *m)
{
    if (m->disk == NULL)
        return;
    fake_disk_fail_at(m->disk, UINT64_MAX, ST_OK);
    fake_disk_set_capacity(m->disk, UINT64_MAX);
}

static void repair_store(struct cluster_member *m)
{
    if (m->cluster->options.backend != NULL || !m->exists)
        return;
    backend_mem_fail_at(m->store_path, 0, ST_OK, false);
    backend_mem_set_full(m->store_path, false);
}

static void slow_down(struct faults *faults, struct cluster_member *m, uint64_t length_ns)
{
    m->sync_ns_min = draw(faults, 20 * NS_PER_MS);
    m->sync_ns_max = m->sync_ns_min + draw(faults, 200 * NS_PER_MS);
    ends_in(faults, m->number, END_SLOW, length_ns);
}

/* ---- the members ---- */

static const struct raft_conf_state *configuration(struct faults *faults)
{
    uint32_t leader = cluster_leader(faults->cluster);
    return leader == CLUSTER_MEMBERS_MAX ? NULL
                                         : raft_conf_state(faults->cluster->members[leader].raft);
}

static void grow(struct faults *faults, uint32_t through)
{
    struct cluster *cluster = faults->cluster;
    uint32_t member = faults->next_member++;
    bool as_learner = faults->learner == CLUSTER_MEMBERS_MAX && draw(faults, 2) == 0;
    faults->change = as_learner ? cluster_add_learner(cluster, through, member)
                                : cluster_add(cluster, through, member);
    faults->joining = member;
    if (as_learner)
        faults->learner = member;
}

static void change_members(struct faults *faults)
{
    struct cluster *cluster = faults->cluster;
    uint32_t through = draw_running(faults), victim = draw_running(faults);
    const struct raft_conf_state *conf_state = configuration(faults);
    if (faults->change != NULL || conf_state == NULL)
        return;
    switch (draw(faults, 3)) {
    case 0:
        if (faults->next_member < CLUSTER_MEMBERS_MAX)
            grow(faults, through);
        break;
    case 1:
        if (faults->learner != CLUSTER_MEMBERS_MAX) {
            faults->change = cluster_promote(cluster, through, faults->learner);
            faults->learner = CLUSTER_MEMBERS_MAX;
        }
        break;
    default:
        if (conf_state->voters_count > VOTERS_KEPT)
            faults->change = cluster_remove(cluster, through, victim);
        break;
    }
}

/* Answered, one way or the other: an addition may have happened all the same. */
static void follow_change(struct faults *faults)
{
    if (faults->change == NULL || faults->change->state == OPERATION_OPEN)
        return;
    faults->change = NULL;
    if (faults->joining != CLUSTER_MEMBERS_MAX)
        cluster_join(faults->cluster, faults->joining);
    faults->joining = CLUSTER_MEMBERS_MAX;
}

static void hand_over(struct faults *faults)
{
    uint32_t leader = cluster_leader(faults->cluster), to = draw_running(faults);
    if (leader != CLUSTER_MEMBERS_MAX)
        cluster_hand_over(faults->cluster, leader, to);
}

/* ---- one fault ---- */

static void take_down(struct faults *faults, enum fault fault, uint32_t victim, uint64_t length_ns)
{
    struct cluster *cluster = faults->cluster;
    if (fault == FAULT_CRASH)
        cluster_crash(cluster, victim);
    else if (fault == FAULT_KILL)
        cluster_kill(cluster, victim);
    else
        cluster_stop(cluster, victim);
    ends_in(faults, victim, END_DOWN, length_ns);
}

static void change_clock(struct faults *faults, struct cluster_member *m, uint64_t length_ns)
{
    int64_t rate_ppm = (int64_t)draw(faults, 2 * RATE_PPM_MAX) - RATE_PPM_MAX;
    cluster_set_clock_rate(faults->cluster, m->number, rate_ppm);
    ends_in(faults, m->number, END_CLOCK, length_ns);
}

static void disturb_network(struct faults *faults, enum fault fault, uint32_t victim,
                            uint64_t length_ns)
{
    struct cluster *cluster = faults->cluster;
    uint32_t other = (uint32_t)draw(faults, CLUSTER_MEMBERS_MAX);
    switch (fault) {
    case FAULT_ISOLATE:
        isolate(faults, victim, length_ns);
        break;
    case FAULT_PARTITION:
        part(faults, length_ns);
        break;
    case FAULT_ONE_WAY:
        network_link(cluster->network, victim, other)->cut = true;
        ends_in(faults, victim, END_CUT, length_ns);
        break;
    case FAULT_LOSS:
        each_link(faults, victim, lose);
        ends_in(faults, victim, END_LINKS, length_ns);
        break;
    case FAULT_DELAY:
        each_link(faults, victim, delay);
        ends_in(faults, victim, END_LINKS, length_ns);
        break;
    default:
        if (!cluster->members[other].running || other == victim)
            break;
        network_reset(cluster->network, victim, other);
        if (draw(faults, 2) == 0) /* something in between refuses: it is taken for dead */
            loops_peer_gone(cluster->members[victim].loops, cluster->members[other].id);
        break;
    }
}

static void disturb_member(struct faults *faults, enum fault fault, struct cluster_member *m,
                           uint64_t length_ns)
{
    switch (fault) {
    case FAULT_DISK_HANGS:
        cluster_stall_disk(faults->cluster, m->number, length_ns);
        break;
    case FAULT_DISK_SLOW:
        slow_down(faults, m, length_ns);
        break;
    case FAULT_DISK_ERROR:
        break_disk(faults, m, length_ns);
        break;
    case FAULT_DISK_FULL:
        fill_disk(faults, m, length_ns);
        break;
    case FAULT_STORE_ERROR:
        break_store(faults, m, length_ns);
        break;
    case FAULT_STORE_FULL:
        fill_store(faults, m, length_ns);
        break;
    case FAULT_PAUSE:
        cluster_pause(faults->cluster, m->number, length_ns);
        break;
    case FAULT_CLOCK_RATE:
        change_clock(faults, m, length_ns);
        break;
    case FAULT_COPY:
        cluster_defragment(faults->cluster, m->number);
        break;
    default:
        m->time.wall_ahead_ns = (int64_t)draw(faults, 7200 * NS_PER_S) - 3600 * (int64_t)NS_PER_S;
        break;
    }
}

static void disturb(struct faults *faults)
{
    enum fault fault = (enum fault)draw(faults, FAULTS_COUNT);
    uint32_t victim = draw_victim(faults);
    uint64_t length_ns = draw_length(faults);
    if (!faults->enabled[fault] || victim == CLUSTER_MEMBERS_MAX)
        return;
    faults->counts[fault]++;
    cluster_note(faults->cluster, (uint64_t)fault << 32 | victim);
    if (fault <= FAULT_STOP)
        take_down(faults, fault, victim, length_ns);
    else if (fault <= FAULT_RESET)
        disturb_network(faults, fault, victim, length_ns);
    else if (fault <= FAULT_WALL_JUMP)
        disturb_member(faults, fault, &faults->cluster->members[victim], length_ns);
    else if (fault == FAULT_MEMBERS)
        change_members(faults);
    else
        hand_over(faults);
}

/* ---- what ends ---- */

/* A disk that is full or broken when the member starts is not what is tested: it waits. */
static void start(struct faults *faults, struct cluster_member *m)
{
    repair_store(m);
    fake_disk_fail_at(m->disk, UINT64_MAX, ST_OK);
    if (cluster_try_start(faults->cluster, m->number))
        m->may_fail = faults->ends_ns[m->number][END_DISK] != 0;
    else
        ends_in(faults, m->number, END_DOWN, NS_PER_S);
}

static void end(struct faults *faults, uint32_t member, enum ending ending)
{
    struct cluster *cluster = faults->cluster;
    struct cluster_member *m = &cluster->members[member];
    switch (ending) {
    case END_DOWN:
        if (m->exists && !m->running && !m->removed)
            start(faults, m);
        break;
    case END_CUT:
        each_link(faults, member, join);
        break;
    case END_LINKS:
        each_link(faults, member, restore);
        break;
    case END_SLOW:
        m->sync_ns_min = cluster->options.sync_ns_min;
        m->sync_ns_max = cluster->options.sync_ns_max;
        break;
    case END_DISK:
        repair_disk(m);
        break;
    case END_STORE:
        repair_store(m);
        break;
    case END_CLOCK:
        cluster_set_clock_rate(cluster, member, 0);
        break;
    default:
        break;
    }
}

static void end_what_is_due(struct faults *faults, uint64_t now_ns)
{
    for (uint32_t i = 0; i < CLUSTER_MEMBERS_MAX; i++) {
        const struct cluster_member *m = &faults->cluster->members[i];
        if (m->exists && !m->running && !m->removed && faults->ends_ns[i][END_DOWN] == 0)
            ends_in(faults, i, END_DOWN, draw_length(faults)); /* it ended by itself */
        for (uint32_t j = 0; j < ENDINGS_COUNT; j++) {
            uint64_t *end_ns = &faults->ends_ns[i][j];
            if (*end_ns == 0 || *end_ns > now_ns)
                continue;
            *end_ns = 0;
            end(faults, i, (enum ending)j);
        }
    }
}

void faults_step(struct faults *faults)
{
    uint64_t now_ns = faults->cluster->now_ns;
    follow_change(faults);
    end_what_is_due(faults, now_ns);
    if (faults->next_ns > now_ns)
        return;
    disturb(faults);
    faults->next_ns = faults->cluster->now_ns + draw(faults, faults->pause_ns_max);
}

uint64_t faults_next_ns(const struct faults *faults)
{
    uint64_t next_ns = faults->next_ns;
    for (uint32_t i = 0; i < CLUSTER_MEMBERS_MAX; i++) {
        for (uint32_t j = 0; j < ENDINGS_COUNT; j++) {
            if (faults->ends_ns[i][j] != 0)
                next_ns = min_u64(next_ns, faults->ends_ns[i][j]);
        }
    }
    return next_ns;
}

static bool is_settled(struct cluster *cluster, void *context)
{
    (void)cluster;
    struct faults *faults = context;
    follow_change(faults);
    return faults->change == NULL;
}

void faults_finish(struct faults *faults)
{
    struct cluster *cluster = faults->cluster;
    for (uint32_t i = 0; i < CLUSTER_MEMBERS_MAX; i++) {
        repair_disk(&cluster->members[i]);
        repair_store(&cluster->members[i]);
        for (uint32_t j = END_CUT; j < ENDINGS_COUNT; j++) {
            faults->ends_ns[i][j] = 0;
            end(faults, i, (enum ending)j);
        }
    }
    cluster_heal(cluster);
    cluster_until(cluster, is_settled, faults, 30 * NS_PER_S, "a change of members is answered");
}
