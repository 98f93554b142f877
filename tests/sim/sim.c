/* tests/sim/sim.c - runs whole clusters by seed under every kind of fault, and judges them.
 *
 *   sim --seed N [--members N] [--backend mem|lmdb|sqlite]
 *   sim --seeds A-B [--full-seeds A-B] [--hours H] [--twice] [--jobs N] ...
 *
 * Each seed runs in a process of its own; one that fails prints the line that runs it again. With
 * --hours the seeds go on until that many hours of virtual time are simulated. --twice runs every
 * seed a second time and wants the same to happen. --full-seeds replaces --seeds where
 * CLEAT_TEST_FULL is set. Exit code 1: a seed failed. */
#include "base/minmax.h"
#include "tests/sim/actors.h"
#include "tests/sim/faults.h"
#include "tests/sim/leasers.h"
#include "tests/sim/users.h"
#include "tests/sim/watchers.h"

#include <dirent.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHAOS_NS_MIN (10 * NS_PER_S)
#define CHAOS_NS_SPREAD (30 * NS_PER_S)
#define LEASERS 3U
#define USERS 3U
#define JOBS_MAX 64U
#define FAILURES_MAX 5U /* then it stops */
#define NS_PER_HOUR (3600 * NS_PER_S)

struct settings {
    uint64_t first, last;
    uint64_t hours;
    uint32_t members_count; /* 0: by seed */
    const char *backend;
    uint32_t jobs;
    bool twice, only_one;
};

/* What a run tells its parent. */
struct outcome {
    uint64_t hash, steps_count, virtual_ns;
    struct actors_stat clients;
    struct watchers_stat watches;
    struct leasers_stat leases;
    struct users_stat users;
    uint64_t faults[FAULTS_COUNT];
    uint64_t elections, installs, lives;
};

/* ---- one seed ---- */

static const struct backend_ops *backend_of(const struct settings *settings)
{
    if (strcmp(settings->backend, "lmdb") == 0)
        return backend_lmdb();
    return strcmp(settings->backend, "sqlite") == 0 ? backend_sqlite() : NULL;
}

static uint32_t members_of(const struct settings *settings, uint64_t seed)
{
    static const uint32_t by_seed[] = {3, 5, 3, 1, 3, 5, 3, 3};
    return settings->members_count != 0 ? settings->members_count
                                        : by_seed[seed % (sizeof(by_seed) / sizeof(by_seed[0]))];
}

/* Who is there besides the members. */
struct company {
    struct actors *actors;
    struct watchers *watchers;
    struct leasers *leasers;
    struct users *users;
    struct faults *faults;
};

static uint64_t next_ns_of(const struct company *company)
{
    uint64_t next_ns = min_u64(actors_next_ns(company->actors), leasers_next_ns(company->leasers));
    next_ns = min_u64(next_ns, watchers_next_ns(company->watchers));
    next_ns = min_u64(next_ns, users_next_ns(company->users));
    return min_u64(next_ns, faults_next_ns(company->faults));
}

static void disturb_for(struct cluster *cluster, const struct company *company, uint64_t for_ns)
{
    uint64_t until_ns = cluster->now_ns + for_ns;
    while (cluster->now_ns < until_ns) {
        faults_step(company->faults);
        actors_step(company->actors);
        watchers_step(company->watchers);
        leasers_step(company->leasers);
        users_step(company->users);
        cluster_step(cluster, min_u64(next_ns_of(company), until_ns));
    }
}

static void fill_outcome(const struct cluster *cluster, const struct company *company,
                         struct outcome *out)
{
    *out = (struct outcome){
        .hash = cluster->hash, .steps_count = cluster->steps_count, .virtual_ns = cluster->now_ns};
    actors_get_stat(company->actors, &out->clients);
    watchers_get_stat(company->watchers, &out->watches);
    leasers_get_stat(company->leasers, &out->leases);
    users_get_stat(company->users, &out->users);
    memcpy(out->faults, faults_counts(company->faults), sizeof(out->faults));
    for (raft_term term = 0; term < cluster->history.terms_count; term++)
        out->elections += cluster->history.leader_of_term[term] != 0;
    for (uint32_t i = 0; i < CLUSTER_MEMBERS_MAX; i++) {
        out->installs += cluster->members[i].installs_count;
        out->lives += cluster->members[i].lives_count;
    }
}

static void run_seed(const struct settings *settings, uint64_t seed, const char *dir,
                     struct outcome *out)
{
    struct rng rng;
    rng_seed(&rng, seed);
    const struct cluster_options options = {
        .seed = seed,
        .members_count = members_of(settings, seed),
        .sync_ns_min = NS_PER_MS / 10,
        .sync_ns_max = NS_PER_MS + rng_below(&rng, 20 * NS_PER_MS),
        .window_entries_max = 10 + (uint32_t)rng_below(&rng, 100),
        .backend = backend_of(settings),
        .backend_dir = dir,
    };
    const struct actors_options clients = {
        .clients_count = 4 + (uint32_t)rng_below(&rng, 5),
        .keys_count = 3 + (uint32_t)rng_below(&rng, 10),
        .think_ns_max = NS_PER_MS * (10 + rng_below(&rng, 200)),
        .value_bytes_max = (uint32_t)rng_below(&rng, 3000),
        .compacts = rng_below(&rng, 2) == 0,
    };
    struct cluster *cluster = cluster_new(&options);
    struct company company = {.actors = actors_new(cluster, &clients)};
    company.watchers =
        watchers_new(cluster, 1 + (uint32_t)rng_below(&rng, WATCHERS_MAX), clients.keys_count);
    company.leasers = leasers_new(cluster, LEASERS);
    company.users = users_new(cluster, USERS);
    company.faults = faults_new(cluster);
    disturb_for(cluster, &company, CHAOS_NS_MIN + rng_below(&rng, CHAOS_NS_SPREAD));
    faults_finish(company.faults);
    actors_finish(company.actors);
    leasers_finish(company.leasers);
    users_finish(company.users);
    cluster_settle(cluster);
    actors_judge(company.actors);
    users_judge(company.users);
    leasers_judge(company.leasers);
    watchers_judge(company.watchers);
    fill_outcome(cluster, &company, out);
    faults_free(company.faults);
    cluster_free(cluster);
    actors_free(company.actors);
    leasers_free(company.leasers);
    users_free(company.users);
    watchers_free(company.watchers);
}

/* ---- a process for each ---- */

struct job {
    pid_t pid; /* 0: free */
    uint64_t seed;
    int pipe;
    char dir[64];
};

/* A folder of files only. */
static void remove_dir(const char *path)
{
    DIR *dir = path[0] == '\0' ? NULL : opendir(path);
    if (dir == NULL)
        return;
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        if (entry->d_name[0] != '.' && unlinkat(dirfd(dir), entry->d_name, 0) != 0)
            fprintf(stderr, "sim: cannot remove %s/%s\n", path, entry->d_name);
    }
    closedir(dir);
    if (rmdir(path) != 0)
        fprintf(stderr, "sim: cannot remove %s\n", path);
}

static void child(const struct settings *settings, const struct job *job, int out)
{
    struct outcome outcome, again;
    run_seed(settings, job->seed, job->dir, &outcome);
    if (settings->twice) {
        run_seed(settings, job->seed, job->dir, &again);
        if (again.hash != outcome.hash) {
            fprintf(stderr, "two runs of one seed differ: %" PRIx64 " and %" PRIx64 "\n",
                    outcome.hash, again.hash);
            exit(1);
        }
    }
    if (write(out, &outcome, sizeof(outcome)) != (ssize_t)sizeof(outcome))
        exit(1);
    exit(0);
}

static void spawn(const struct settings *settings, struct job *job, uint64_t seed)
{
    int ends[2];
    *job = (struct job){.seed = seed};
    if (backend_of(settings) != NULL) {
        snprintf(job->dir, sizeof(job->dir), "/tmp/cleat-sim-XXXXXX");
        if (mkdtemp(job->dir) == NULL)
            exit(2);
    }
    if (pipe(ends) != 0)
        exit(2);
    fflush(NULL);
    job->pid = fork();
    if (job->pid < 0)
        exit(2);
    if (job->pid == 0) {
        close(ends[0]);
        child(settings, job, ends[1]);
    }
    close(ends[1]);
    job->pipe = ends[0];
}

struct totals {
    struct outcome sum;
    uint64_t seeds_count, failures_count;
};

static void add_outcome(struct totals *totals, const struct outcome *outcome)
{
    uint64_t *sum = (uint64_t *)&totals->sum;
    const uint64_t *one = (const uint64_t *)outcome;
    for (size_t i = 0; i < sizeof(*outcome) / sizeof(*one); i++)
        sum[i] += one[i];
    totals->seeds_count++;
}

static void report_failure(const struct settings *settings, const char *program, uint64_t seed,
                           int status)
{
    printf("FAILED (%s %d), again by: %s --seed %" PRIu64, WIFSIGNALED(status) ? "signal" : "exit",
           WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), program, seed);
    if (settings->members_count != 0)
        printf(" --members %u", settings->members_count);
    printf(" --backend %s%s\n", settings->backend, settings->twice ? " --twice" : "");
    fflush(stdout);
}

static void reap_one(const struct settings *settings, const char *program, struct job *jobs,
                     struct totals *totals)
{
    int status;
    struct outcome outcome;
    pid_t pid = wait(&status);
    for (uint32_t i = 0; i < settings->jobs; i++) {
        struct job *job = &jobs[i];
        if (job->pid != pid)
            continue;
        bool whole = read(job->pipe, &outcome, sizeof(outcome)) == (ssize_t)sizeof(outcome);
        if (status == 0 && whole) {
            add_outcome(totals, &outcome);
        } else {
            report_failure(settings, program, job->seed, status);
            totals->failures_count++;
        }
        close(job->pipe);
        remove_dir(job->dir);
        job->pid = 0;
    }
}

static bool goes_on(const struct settings *settings, uint64_t seed, const struct totals *totals)
{
    if (totals->failures_count >= FAILURES_MAX)
        return false;
    if (settings->hours != 0)
        return totals->sum.virtual_ns < settings->hours * NS_PER_HOUR;
    return seed <= settings->last;
}

static struct job *free_job(const struct settings *settings, struct job *jobs)
{
    for (uint32_t i = 0; i < settings->jobs; i++) {
        if (jobs[i].pid == 0)
            return &jobs[i];
    }
    return NULL;
}

static bool any_runs(const struct settings *settings, const struct job *jobs)
{
    for (uint32_t i = 0; i < settings->jobs; i++) {
        if (jobs[i].pid != 0)
            return true;
    }
    return false;
}

static void run_all(const struct settings *settings, const char *program, struct totals *totals)
{
    struct job jobs[JOBS_MAX] = {0};
    uint64_t seed = settings->first;
    while (goes_on(settings, seed, totals) || any_runs(settings, jobs)) {
        struct job *job = free_job(settings, jobs);
        if (job != NULL && goes_on(settings, seed, totals))
            spawn(settings, job, seed++);
        else
            reap_one(settings, program, jobs, totals);
    }
}

static void print_totals(const struct totals *totals, const struct settings *settings)
{
    const struct outcome *sum = &totals->sum;
    printf("%" PRIu64 " seeds good, %" PRIu64 " failed; %.2f virtual hours, %" PRIu64
           " steps, backend %s\n",
           totals->seeds_count, totals->failures_count,
           (double)sum->virtual_ns / (double)NS_PER_HOUR, sum->steps_count, settings->backend);
    printf("clients: %" PRIu64 " writes, %" PRIu64 " reads, %" PRIu64 " local reads, %" PRIu64
           " refused, %" PRIu64 " open\n",
           sum->clients.writes_count, sum->clients.reads_count, sum->clients.local_reads_count,
           sum->clients.refused_count, sum->clients.open_count);
    printf("watchers: %" PRIu64 " events, %" PRIu64 " streams, %" PRIu64
           " notes of progress, %" PRIu64 " compacted\n",
           sum->watches.events_count, sum->watches.streams_count, sum->watches.progress_count,
           sum->watches.compacted_count);
    printf("leases: %" PRIu64 " granted, %" PRIu64 " renewals, %" PRIu64 " with keys ended\n",
           sum->leases.grants_count, sum->leases.renewals_count, sum->leases.ended_count);
    printf("users: %" PRIu64 " changes, %" PRIu64 " refused, %" PRIu64 " looks, %" PRIu64
           " times auth on or off\n",
           sum->users.changes_count, sum->users.refused_count, sum->users.looks_count,
           sum->users.switches_count);
    printf("members: %" PRIu64 " terms led, %" PRIu64 " starts, %" PRIu64 " snapshots installed\n",
           sum->elections, sum->lives, sum->installs);
    printf("faults:");
    for (uint32_t i = 0; i < FAULTS_COUNT; i++)
        printf(" %s %" PRIu64, fault_name((enum fault)i), sum->faults[i]);
    printf("\n");
    if (settings->only_one)
        printf("hash: %016" PRIx64 "\n", sum->hash);
}

/* ---- arguments ---- */

static void usage(const char *why)
{
    fprintf(
        stderr,
        "sim: %s\nusage: sim --seed N | --seeds A-B [--full-seeds A-B] [--hours H] [--members 1-5]"
        " [--backend mem|lmdb|sqlite] [--twice] [--jobs N]\n",
        why);
    exit(2);
}

static void parse_seeds(const char *text, struct settings *settings)
{
    if (sscanf(text, "%" SCNu64 "-%" SCNu64, &settings->first, &settings->last) != 2 ||
        settings->first > settings->last)
        usage("seeds are A-B");
}

static void parse(int argc, char **argv, struct settings *settings)
{
    static const struct option options[] = {{"seed", required_argument, NULL, 's'},
                                            {"seeds", required_argument, NULL, 'S'},
                                            {"full-seeds", required_argument, NULL, 'F'},
                                            {"hours", required_argument, NULL, 'H'},
                                            {"members", required_argument, NULL, 'm'},
                                            {"backend", required_argument, NULL, 'b'},
                                            {"twice", no_argument, NULL, 't'},
                                            {"jobs", required_argument, NULL, 'j'},
                                            {NULL, 0, NULL, 0}};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 's')
            settings->first = settings->last = strtoull(optarg, NULL, 10);
        else if (c == 'S')
            parse_seeds(optarg, settings);
        else if (c == 'F' && getenv("CLEAT_TEST_FULL") != NULL)
            parse_seeds(optarg, settings);
        else if (c == 'H')
            settings->hours = strtoull(optarg, NULL, 10);
        else if (c == 'm')
            settings->members_count = (uint32_t)strtoul(optarg, NULL, 10);
        else if (c == 'b')
            settings->backend = optarg;
        else if (c == 't')
            settings->twice = true;
        else if (c == 'j')
            settings->jobs = (uint32_t)strtoul(optarg, NULL, 10);
        else if (c != 'F')
            usage("unknown option");
    }
}

int main(int argc, char **argv)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    struct settings settings = {
        .first = 1, .last = 1, .backend = "mem", .jobs = processors > 0 ? (uint32_t)processors : 1};
    parse(argc, argv, &settings);
    if (strcmp(settings.backend, "mem") != 0 && backend_of(&settings) == NULL)
        usage("the backend is mem, lmdb or sqlite");
    if (settings.members_count > 5 || settings.jobs == 0 || settings.jobs > JOBS_MAX)
        usage("members are 1 to 5, jobs 1 to 64");
    settings.only_one = settings.first == settings.last && settings.hours == 0;
    struct totals totals = {0};
    run_all(&settings, argv[0], &totals);
    print_totals(&totals, &settings);
    return totals.failures_count != 0;
}
