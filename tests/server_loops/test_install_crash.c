/* A member that lags receives a snapshot, as the server does it over real files and each real
 * backend, and its process dies at every single change of a file on the way; then it dies again
 * while it starts. Whatever the moment: it starts, holds the old state whole or the new one, has
 * what it acknowledged, leaves nothing lying about, and takes the snapshot when it comes again. So
 * it does when any one allocation on the way fails. */
#include "base/list.h"
#include "server/loops/transport.h"
#include "base/clock_real.h"
#include "server/run/log.h"
#include "server/run/member_private.h"
#include "server/run/stores.h"
#include "server/state/conf_state.h"
#include "server/state/kv_request.h"
#include "server/state/machine.h"
#include "storage/dbfile/pin_source.h"
#include "storage/dbfile/writer.h"
#include "tests/fakes/dying.h"
#include "tests/fakes/memory_faults.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
/* cmocka.h wants some of the above */
#include <cmocka.h>

#define MEMBERS 3U
#define OWN_ID 0x8e9e05c52164694dU
#define LEADER_ID 0x9e9e05c52164694dU
#define STORED 24U   /* the last entry in the old store */
#define OLD_LAST 30U /* the last one applied before the snapshot comes */
#define OLD_TAIL 33U /* the last one in the log; the cluster never agreed on those above */
#define NEW 80U      /* the snapshot's last entry */
#define LAST 83U
#define OLD_TERM 2U
#define NEW_TERM 3U
#define NEVER UINT64_MAX
#ifdef __SANITIZE_ADDRESS__
#define STRIDE 3U /* the release build dies everywhere */
#else
#define STRIDE 1U
#endif
#define PATIENCE_NS (20 * NS_PER_S)
#define ROOT_BYTES 64U
#define PATH_BYTES 128U

/* In a child that may be anywhere: no cmocka, the parent looks at how it ended. */
#define CHECK(x)                                                    \
    do {                                                            \
        if (!(x)) {                                                 \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x); \
            _exit(1);                                               \
        }                                                           \
    } while (0)

/* What a member said, for the one that judges it after its death. */
struct told {
    raft_index acknowledged;
};

struct host {
    struct member member; /* without the threads and the ports: the actors are stepped here */
    struct transport transport;
    char data_dir[PATH_BYTES];
    struct told *told; /* shared between processes */
};

static char root[ROOT_BYTES];
static struct told *told;
static uint32_t hash_at[LAST + 1]; /* of the whole state, by applied entry */
static const char *backend;

static const char *path_in(const char *folder, const char *name)
{
    static char paths[4][2 * PATH_BYTES];
    static uint32_t turn;
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof(paths[0]), "%s/%s/%s", root, folder, name);
    return path;
}

/* ---- the other members, as far as they are needed ---- */

static void note_sent(struct transport *transport, const struct raft_message *messages,
                      uint32_t count)
{
    struct host *host = CONTAINER_OF(transport, struct host, transport);
    for (uint32_t i = 0; i < count; i++) {
        if (messages[i].type == RAFT_MSG_APP_RESP && !messages[i].reject &&
            messages[i].index > host->told->acknowledged)
            host->told->acknowledged = messages[i].index;
    }
}

static void send_no_snapshot(struct transport *transport, const struct raft_message *message,
                             struct snapshot_source *source)
{
    (void)transport;
    (void)message;
    source->close(source);
}

static void note_peer(struct transport *transport, raft_id id, const struct slice *urls,
                      uint32_t count)
{
    (void)transport;
    (void)id;
    (void)urls;
    (void)count;
}

static void forget_peer(struct transport *transport, raft_id id)
{
    (void)transport;
    (void)id;
}

struct arriving {
    struct peer_message message;
    struct raft_entry entry;
    struct raft_snapshot_meta meta;
    char path[PATH_MAX + 32];
};

static void release(struct peer_message *message)
{
    struct arriving *arriving = CONTAINER_OF(message, struct arriving, message);
    raft_payload_unref(arriving->entry.payload);
    free(arriving);
}

static struct arriving *arriving_new(enum raft_message_type type, raft_term term)
{
    struct arriving *arriving = calloc(1, sizeof(*arriving));
    CHECK(arriving != NULL);
    arriving->message.message =
        (struct raft_message){.type = type, .to = OWN_ID, .from = LEADER_ID, .term = term};
    arriving->message.release = release;
    return arriving;
}

static raft_term term_of(raft_index index)
{
    if (index <= MEMBERS)
        return 1;
    return index <= OLD_LAST ? OLD_TERM : NEW_TERM;
}

static struct raft_payload *put_of(raft_index index)
{
    uint8_t body[] = {0x0a, 2, 'k', (uint8_t)('a' + index % 7), 0x12, 2, 'v', (uint8_t)index};
    struct raft_payload *payload =
        internal_request_payload(INTERNAL_PUT, slice_make(body, sizeof(body)), index);
    CHECK(payload != NULL);
    return payload;
}

/* One entry and how far the cluster has agreed. */
static void receive_entry(struct host *host, raft_index index, raft_term term, raft_index commit)
{
    struct arriving *arriving = arriving_new(RAFT_MSG_APP, term);
    arriving->entry = (struct raft_entry){.term = term, .index = index, .payload = put_of(index)};
    struct raft_message *message = &arriving->message.message;
    message->index = index - 1;
    message->log_term = index - 1 > OLD_LAST && term == OLD_TERM ? OLD_TERM : term_of(index - 1);
    message->commit = commit;
    message->entries = &arriving->entry;
    message->entries_count = 1;
    loops_receive(host->member.loops, &arriving->message);
}

static void receive_heartbeat(struct host *host, raft_index commit)
{
    struct arriving *arriving = arriving_new(RAFT_MSG_HEARTBEAT, NEW_TERM);
    arriving->message.message.commit = commit;
    loops_receive(host->member.loops, &arriving->message);
}

static void copy_file(const char *from, const char *to)
{
    uint8_t bytes[1 << 16];
    FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
    CHECK(in != NULL && out != NULL);
    for (size_t got; (got = fread(bytes, 1, sizeof(bytes), in)) > 0;)
        CHECK(fwrite(bytes, 1, got, out) == got);
    fclose(in);
    CHECK(fclose(out) == 0);
}

/* As server/peers/ leaves it when it came whole. */
static struct arriving *snapshot_new(const struct host *host)
{
    static uint32_t number;
    struct arriving *arriving = arriving_new(RAFT_MSG_SNAP, NEW_TERM);
    snprintf(arriving->path, sizeof(arriving->path), "%s/%016x-%u.part", host->member.datadir.snap,
             NEW, number++);
    copy_file(path_in("source", "snapshot.db"), arriving->path);
    arriving->meta.last = (struct raft_log_id){NEW, NEW_TERM};
    arriving->meta.conf_state = *raft_conf_state(host->member.raft);
    arriving->message.message.snapshot = &arriving->meta;
    arriving->message.snapshot_path = arriving->path;
    return arriving;
}

/* ---- a member in one thread ---- */

static uint64_t step_nothing(void *context, uint64_t now_ns)
{
    (void)context;
    (void)now_ns;
    return UINT64_MAX;
}

static bool may_lack_memory;

static void die(void *context, enum status st, const char *what)
{
    (void)context;
    if (may_lack_memory && st == ST_NO_MEMORY)
        _exit(DYING_EXIT);
    fprintf(stderr, "%s: %s\n", what, status_str(st));
    _exit(1);
}

static void never_quarantined(void *context, const char *why)
{
    (void)context;
    fprintf(stderr, "quarantined: %s\n", why);
    _exit(1);
}

static struct raft_payload *founding_change(uint32_t number)
{
    raft_id id = OWN_ID + number * (LEADER_ID - OWN_ID);
    char json[160];
    int len = snprintf(json, sizeof(json),
                       "{\"id\":%llu,\"peerURLs\":[\"http://127.0.0.1:238%u\"],\"name\":\"m%u\"}",
                       (unsigned long long)id, number, number);
    const struct member_change change = {.node_id = id, .context = slice_make(json, (size_t)len)};
    struct raft_payload *payload = member_change_payload(&change);
    CHECK(payload != NULL);
    return payload;
}

static void make(struct member *m, char *why, size_t why_bytes)
{
    m->bootstrap.changes_count = MEMBERS;
    for (uint32_t i = 0; i < MEMBERS; i++)
        m->bootstrap.changes[i] = founding_change(i);
    enum status st = member_make(m, why, why_bytes);
    bootstrap_end(&m->bootstrap);
    if (st != ST_OK)
        die(NULL, st, why);
}

static void start_loops(struct host *host)
{
    struct member *m = &host->member;
    const struct loops_options options = {.clock = clock_real(),
                                          .raft = m->raft,
                                          .wal = m->wal,
                                          .store = m->store,
                                          .mvcc = m->mvcc,
                                          .machine = m->machine,
                                          .transport = &host->transport,
                                          .applied = store_opened_at(m->store).index,
                                          .member_id = OWN_ID,
                                          .id_start = 1,
                                          .tick_ns = m->options.heartbeat_ms * NS_PER_MS,
                                          .readers_count = 1,
                                          .reader_slot_first = 1,
                                          .snapshot_slot_first = 3,
                                          .snapshots = stores_snapshot_options(m),
                                          .election_ticks = 10,
                                          .wake = member_wake_actor,
                                          .fatal = die,
                                          .quarantined = never_quarantined,
                                          .context = m};
    CHECK(loops_new(&options, &m->loops) == ST_OK);
}

static struct host *host_open(const char *folder)
{
    struct host *host = calloc(1, sizeof(*host));
    CHECK(host != NULL);
    host->told = told;
    host->transport =
        (struct transport){note_sent, send_no_snapshot, note_peer, note_peer, forget_peer};
    struct member *m = &host->member;
    char why[1024] = "";
    snprintf(host->data_dir, sizeof(host->data_dir), "%s/%s", root, folder);
    m->options = (struct member_options){.data_dir = host->data_dir,
                                         .wal_dir = "",
                                         .backend = backend,
                                         .disk = DISK_KIND_FDATASYNC,
                                         .pre_vote = true,
                                         .heartbeat_ms = 100,
                                         .election_ms = 1000,
                                         .pollers_count = 1,
                                         .readers_count = 1};
    m->member_id = OWN_ID;
    m->cluster_id = 1;
    rng_seed(&m->rng, 7);
    CHECK(lock_new(/* threaded= */ true, &m->lock) == ST_OK);
    for (uint32_t i = 0; i < ACTOR_READER_FIRST + 1U; i++)
        CHECK(thread_init(&m->threads[i].thread, "", clock_real(), step_nothing, NULL) == ST_OK);
    enum status st = datadir_open(host->data_dir, "", &m->datadir, why, sizeof(why));
    if (st == ST_OK && !m->datadir.exists)
        make(m, why, sizeof(why));
    if (st == ST_OK)
        st = member_open_disk(m, why, sizeof(why));
    if (st == ST_OK)
        st = member_open_data(m, why, sizeof(why));
    if (st != ST_OK)
        die(NULL, st, why);
    start_loops(host);
    return host;
}

static void host_step(struct host *host)
{
    uint64_t now_ns = clock_monotonic_ns(clock_real());
    for (uint32_t actor = 0; actor < ACTOR_READER_FIRST + 1U; actor++)
        loops_step(host->member.loops, actor, now_ns);
}

/* As a process that stops without a word to anyone. */
static void host_close(struct host *host)
{
    struct member *m = &host->member;
    loops_free(m->loops);
    raft_free(m->raft);
    wal_close(m->wal);
    machine_close(m->machine);
    mvcc_close(m->mvcc);
    store_close(m->store);
    disk_free(m->disk);
    datadir_close(&m->datadir);
    for (uint32_t i = 0; i < ACTOR_READER_FIRST + 1U; i++)
        thread_deinit(&m->threads[i].thread);
    lock_free(m->lock);
    free(host);
}

typedef bool (*condition)(struct host *host, raft_index index);

static void host_until(struct host *host, condition is_so, raft_index index)
{
    uint64_t until_ns = clock_monotonic_ns(clock_real()) + PATIENCE_NS;
    while (!is_so(host, index)) {
        host_step(host);
        CHECK(clock_monotonic_ns(clock_real()) < until_ns);
    }
}

static raft_index applied_of(const struct host *host)
{
    return machine_applied(host->member.machine).index;
}

static bool has_applied(struct host *host, raft_index index)
{
    return applied_of(host) >= index;
}

static bool has_acknowledged(struct host *host, raft_index index)
{
    return host->told->acknowledged >= index;
}

static bool has_committed(struct host *host, raft_index index)
{
    struct store_stat stat;
    CHECK(store_get_stat(host->member.store, &stat) == ST_OK);
    return stat.committed_index >= index;
}

static uint32_t hash_of(struct host *host)
{
    uint32_t hash;
    int64_t current, compact;
    CHECK(mvcc_hash_kv(host->member.mvcc, 0, 0, &hash, &current, &compact) == ST_OK);
    return hash;
}

/* The leader's term is in the log, and nothing more is to be written. */
static bool is_at_rest(struct host *host, raft_index index)
{
    struct wal_stat log;
    wal_get_stat(host->member.wal, &log);
    return has_applied(host, index) && log.batches_count > 0 && log.in_flight_since_ns == 0;
}

/* ---- what is there before ---- */

static void write_snapshot(struct host *host, const char *path)
{
    struct member *m = &host->member;
    struct store_pin *pin;
    int64_t revision, compact;
    mvcc_revisions(m->mvcc, &revision, &compact);
    CHECK(store_pin(m->store, &pin) == ST_OK);
    const struct dbfile_pin_options pinned = {
        .store = m->store, .lock = m->lock, .reader = 3, .pin = pin, .revision = revision};
    struct dbfile_pin_source records;
    CHECK(dbfile_pin_source_init(&records, &pinned) == ST_OK);
    struct dbfile_source source = dbfile_pin_source(&records);
    struct dbfile_writer *writer;
    CHECK(dbfile_writer_new(&source, 4096, &writer) == ST_OK);
    for (bool done = false; !done;)
        CHECK(dbfile_writer_measure(writer, &done) == ST_OK);
    FILE *out = fopen(path, "wb");
    CHECK(out != NULL);
    struct slice bytes;
    while (dbfile_writer_next(writer, &bytes) == ST_OK)
        CHECK(fwrite(bytes.data, 1, bytes.len, out) == bytes.len);
    CHECK(fclose(out) == 0);
    dbfile_writer_free(writer);
    dbfile_pin_source_deinit(&records);
    store_unpin(m->store, pin);
}

/* The state after each entry, and the snapshot of one of them. */
static void make_source(void)
{
    struct host *host = host_open("source");
    host_until(host, has_applied, MEMBERS);
    for (raft_index i = MEMBERS + 1; i <= LAST; i++) {
        receive_entry(host, i, term_of(i), i);
        host_until(host, has_applied, i);
        hash_at[i] = hash_of(host);
        if (i == NEW)
            write_snapshot(host, path_in("source", "snapshot.db"));
    }
    host_close(host);
}

static bool applied_all(struct host *host, raft_index index)
{
    return has_applied(host, index) && has_acknowledged(host, index);
}

/* A member whose log goes on above its store, and above what the others agreed on. */
static void make_old(void)
{
    struct host *host = host_open("old");
    host_until(host, has_applied, MEMBERS);
    for (raft_index i = MEMBERS + 1; i <= OLD_TAIL; i++) {
        raft_index commit = i <= OLD_LAST ? i : OLD_LAST;
        receive_entry(host, i, OLD_TERM, commit);
        host_until(host, applied_all, commit);
        if (i == STORED)
            loops_seal(host->member.loops);
        if (i == STORED)
            host_until(host, has_committed, i);
    }
    host_until(host, has_acknowledged, OLD_TAIL);
    host_close(host);
}

/* ---- what lies in the data directory ---- */

static bool has_suffix(const char *name, const char *suffix)
{
    size_t len = strlen(name), suffix_len = strlen(suffix);
    return len >= suffix_len && strcmp(name + len - suffix_len, suffix) == 0;
}

/* Only the store in use, no received file, no half-made FORMAT. */
static uint32_t count_leftovers(const struct host *host)
{
    const char *folders[] = {"store", "snap", "."};
    uint32_t count = 0;
    for (uint32_t i = 0; i < 3; i++) {
        char path[PATH_BYTES + PATH_MAX];
        snprintf(path, sizeof(path), "%s/%s", host->member.datadir.member, folders[i]);
        DIR *dir = opendir(path);
        CHECK(dir != NULL);
        const char *store_name = host->member.datadir.format.store_name;
        for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
            bool is_other_store = i == 0 && entry->d_name[0] != '.' &&
                                  strncmp(entry->d_name, store_name, strlen(store_name)) != 0;
            count += is_other_store || (i == 1 && has_suffix(entry->d_name, ".part")) ||
                     (i == 2 && has_suffix(entry->d_name, ".new"));
        }
        closedir(dir);
    }
    return count;
}

static bool is_clean(struct host *host, raft_index index)
{
    (void)index;
    return count_leftovers(host) == 0;
}

static void run_tool(const char *const *words)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        execvp(words[0], (char *const *)words);
        _exit(127);
    }
    int how = 0;
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFEXITED(how) && WEXITSTATUS(how) == 0);
}

static void remove_folder(const char *path)
{
    const char *const words[] = {"rm", "-rf", path, NULL};
    run_tool(words);
}

static void copy_folder(const char *from, const char *to)
{
    char source[PATH_BYTES], target[PATH_BYTES];
    snprintf(source, sizeof(source), "%s/%s", root, from);
    snprintf(target, sizeof(target), "%s/%s", root, to);
    remove_folder(target);
    const char *const words[] = {"cp", "-r", "--sparse=always", source, target, NULL};
    run_tool(words);
}

/* ---- a life ---- */

static char new_store[PATH_BYTES];

/* The log may name the new store only when that is on the disk, with its name. */
static void watch_log(const char *path)
{
    bool has_named_it = told->acknowledged >= NEW; /* by then it is written again */
    if (!has_named_it && strstr(path, "/wal/0") != NULL && dying_is_unsynced(new_store)) {
        fprintf(stderr, "%s is written while %s is not durable\n", path, new_store);
        _exit(1);
    }
}

static bool knows_the_new(struct host *host, raft_index index)
{
    return has_applied(host, index) && has_acknowledged(host, index) && is_clean(host, index);
}

static void catch_up(struct host *host)
{
    for (raft_index i = NEW + 1; i <= LAST; i++)
        receive_entry(host, i, NEW_TERM, i);
    host_until(host, knows_the_new, LAST);
    CHECK(hash_of(host) == hash_at[LAST]);
}

/* The life in which the snapshot comes. */
static void receive_and_die(uint64_t at)
{
    struct host *host = host_open("run");
    receive_heartbeat(host, OLD_LAST);
    host_until(host, is_at_rest, OLD_LAST);
    struct arriving *snapshot = snapshot_new(host);
    char dir[PATH_BYTES];
    snprintf(dir, sizeof(dir), "%s/run/", root);
    snprintf(new_store, sizeof(new_store), "%s/run/member/store/%016x", root, NEW);
    dying_arm(dir, at);
    dying_watch_writes(watch_log);
    loops_receive(host->member.loops, &snapshot->message);
    host_until(host, knows_the_new, NEW);
    catch_up(host);
    _exit(0);
}

/* A leader says again what was lost for want of memory. */
static void say_again(struct host *host)
{
    memory_faults_pause();
    if (applied_of(host) < NEW)
        loops_receive(host->member.loops, &snapshot_new(host)->message);
    for (raft_index i = NEW + 1; i <= LAST && applied_of(host) >= NEW; i++)
        receive_entry(host, i, NEW_TERM, i);
    memory_faults_resume();
}

#define ENOUGH_MEMORY 4 /* how a process ends that made fewer allocations */
#define SAY_AGAIN_STEPS 300U

/* The nth allocation fails: the member ends for that reason, or goes on. */
static void receive_without_memory(uint64_t at)
{
    struct host *host = host_open("run");
    receive_heartbeat(host, OLD_LAST);
    host_until(host, is_at_rest, OLD_LAST);
    may_lack_memory = true;
    memory_fail_at(at);
    uint64_t until_ns = clock_monotonic_ns(clock_real()) + PATIENCE_NS;
    for (uint32_t i = 0; !has_applied(host, LAST) || !has_acknowledged(host, LAST); i++) {
        if (i % SAY_AGAIN_STEPS == 0)
            say_again(host);
        host_step(host);
        CHECK(clock_monotonic_ns(clock_real()) < until_ns);
    }
    bool fired = memory_fault_fired();
    memory_fail_at(0);
    CHECK(hash_of(host) == hash_at[LAST]);
    _exit(fired ? 0 : ENOUGH_MEMORY);
}

static void check_whole(struct host *host)
{
    const struct member *m = &host->member;
    raft_index mark = store_opened_at(m->store).index;
    CHECK(applied_of(host) == mark);
    CHECK(mark <= OLD_LAST || mark >= NEW);
    CHECK(mark <= LAST);
    CHECK(hash_of(host) == hash_at[mark]);
    CHECK(count_leftovers(host) == 0);
    struct wal_stat log;
    wal_get_stat(m->wal, &log);
    CHECK(log.last_index >= mark || mark == NEW);
    raft_index known = log.last_index > mark ? log.last_index : mark;
    CHECK(known >= told->acknowledged);
    if (told->acknowledged >= NEW)
        CHECK(mark >= NEW);
}

/* The lives after it. at > 0: only starts, and may die in it; 0: goes on to the end. */
static void start_and_die(uint64_t at)
{
    char dir[PATH_BYTES];
    snprintf(dir, sizeof(dir), "%s/run/", root);
    if (at > 0)
        dying_arm(dir, at);
    struct host *host = host_open("run");
    check_whole(host);
    if (at > 0)
        _exit(0);
    if (store_opened_at(host->member.store).index < NEW) {
        receive_heartbeat(host, OLD_LAST);
        host_until(host, has_applied, OLD_LAST);
        CHECK(hash_of(host) == hash_at[OLD_LAST]);
        loops_receive(host->member.loops, &snapshot_new(host)->message);
        host_until(host, knows_the_new, NEW);
    }
    catch_up(host);
    host_close(host);
    host = host_open("run");
    check_whole(host);
    CHECK(store_opened_at(host->member.store).index >= NEW);
    host_close(host);
    _exit(0);
}

static int end_of(void (*life)(uint64_t at), uint64_t at)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        life(at);
    int how = 0;
    assert_int_equal(waitpid(child, &how, 0), child);
    if (!WIFEXITED(how) || WEXITSTATUS(how) == 1)
        fail_msg("%s: change %llu: ended with %s %d", backend, (unsigned long long)at,
                 WIFEXITED(how) ? "status" : "signal",
                 WIFEXITED(how) ? WEXITSTATUS(how) : WTERMSIG(how));
    return WEXITSTATUS(how);
}

/* True: it died where it was told to; false: it came to its end before. */
static bool dies(void (*life)(uint64_t at), uint64_t at)
{
    return end_of(life, at) == DYING_EXIT;
}

static void prepare(const char *which)
{
    backend = which;
    const char *fast = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(root, sizeof(root), "%s/cleat-install-XXXXXX", fast);
    assert_non_null(mkdtemp(root));
    told = mmap(NULL, sizeof(*told), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(told != MAP_FAILED);
    make_source();
    told->acknowledged = 0;
    make_old();
}

static void clean_up(void)
{
    assert_int_equal(munmap(told, sizeof(*told)), 0);
    remove_folder(root);
}

static void begin_again(raft_index acknowledged)
{
    copy_folder("old", "run");
    told->acknowledged = acknowledged;
}

/* FORMAT of the member that died names the old store. */
static bool names_the_old(void)
{
    char text[512] = "";
    FILE *file = fopen(path_in("run/member", "FORMAT"), "r");
    assert_non_null(file);
    size_t len = fread(text, 1, sizeof(text) - 1, file);
    text[len] = '\0';
    fclose(file);
    return strstr(text, "\nstore 0000000000000000.") != NULL;
}

/* It died when only the log knew of the new store, and now at every change of the next start. */
static uint64_t die_at_every_start(uint64_t at, raft_index acknowledged)
{
    uint64_t deaths = 0;
    bool died = true;
    for (uint64_t start_at = 1; died; start_at += STRIDE) {
        begin_again(acknowledged);
        assert_true(dies(receive_and_die, at));
        died = dies(start_and_die, start_at);
        deaths += died;
        assert_false(dies(start_and_die, 0));
    }
    return deaths;
}

static void run_backend(const char *which)
{
    prepare(which);
    raft_index acknowledged = told->acknowledged;
    uint64_t deaths = 0, start_deaths = 0;
    bool died = true;
    for (uint64_t at = 1; died; at += STRIDE) {
        begin_again(acknowledged);
        died = dies(receive_and_die, at);
        deaths += died;
        bool named_the_old = names_the_old();
        assert_false(dies(start_and_die, NEVER));
        bool followed_the_log = named_the_old && !names_the_old();
        assert_false(dies(start_and_die, 0));
        if (followed_the_log && start_deaths == 0)
            start_deaths = die_at_every_start(at, acknowledged);
    }
    print_message("%s: %u deaths on the way, %u while following the log\n", which, (unsigned)deaths,
                  (unsigned)start_deaths);
    assert_in_range(deaths, 20 / STRIDE + 1, 10000);
    if (STRIDE == 1)
        assert_in_range(start_deaths, 10, 1000);
    clean_up();
}

static void test_install_survives_death_at_every_change_lmdb(void **state)
{
    (void)state;
    run_backend("lmdb");
}

static void test_install_survives_death_at_every_change_sqlite(void **state)
{
    (void)state;
    run_backend("sqlite");
}

static void test_install_survives_every_failed_allocation(void **state)
{
    (void)state;
    prepare("lmdb");
    raft_index acknowledged = told->acknowledged;
    uint64_t deaths = 0, at = 1;
    for (int end = 0; end != ENOUGH_MEMORY; at += STRIDE) {
        begin_again(acknowledged);
        end = end_of(receive_without_memory, at);
        deaths += end == DYING_EXIT;
        assert_false(dies(start_and_die, 0));
    }
    print_message("%u allocations, %u of them fatal\n", (unsigned)at, (unsigned)deaths);
    assert_in_range(at, 50, 100000);
    clean_up();
}

int main(void)
{
    const char *nowhere = "/dev/null";
    if (log_open(LOG_LEVEL_ERROR, &nowhere, 1, NULL) != ST_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_install_survives_death_at_every_change_lmdb),
        cmocka_unit_test(test_install_survives_death_at_every_change_sqlite),
        cmocka_unit_test(test_install_survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
