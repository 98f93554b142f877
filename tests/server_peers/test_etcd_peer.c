/* A real etcd for the other member of a cluster of two: it is elected with the vote of a member
 * that is nothing but our peer port and a few lines of answers, replicates to it, and in the end
 * removes it. Runs when there is an etcd: the one that CLEAT_ETCD_SERVER names, or Debian's. */
#include "tests/server_peers/fixture.h"

#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#define VALUE "from-etcd-to-its-peer" /* and in base64: */
#define VALUE_BASE64 "ZnJvbS1ldGNkLXRvLWl0cy1wZWVy"

struct etcd {
    pid_t pid;
    char dir[64], peer_url[64], client_url[64];
};

/* What a follower has to remember to answer a leader. */
struct follower {
    struct node node;
    raft_id leader;
    raft_index last;
    uint32_t heartbeats, entries;
    bool has_value;
    atomic_bool is_stopping;
};

static const char *etcd_path(void)
{
    const char *named = getenv("CLEAT_ETCD_SERVER");
    const char *path = named != NULL ? named : "/usr/bin/etcd";
    return access(path, X_OK) == 0 ? path : NULL;
}

static void free_url(char url[64])
{
    uint16_t port;
    close(listen_anywhere(&port));
    snprintf(url, 64, "http://127.0.0.1:%u", port);
}

static void etcd_start(struct etcd *etcd, const char *path, const char *other_url)
{
    char cluster[200];
    snprintf(etcd->dir, sizeof(etcd->dir), "/tmp/cleat-etcd-XXXXXX");
    assert_non_null(mkdtemp(etcd->dir));
    free_url(etcd->peer_url);
    free_url(etcd->client_url);
    snprintf(cluster, sizeof(cluster), "a=%s,b=%s", etcd->peer_url, other_url);
    const char *const argv[] = {path,
                                "--name=a",
                                "--data-dir",
                                etcd->dir,
                                "--listen-peer-urls",
                                etcd->peer_url,
                                "--initial-advertise-peer-urls",
                                etcd->peer_url,
                                "--listen-client-urls",
                                etcd->client_url,
                                "--advertise-client-urls",
                                etcd->client_url,
                                "--initial-cluster",
                                cluster,
                                NULL};
    char log[80];
    snprintf(log, sizeof(log), "%s/log", etcd->dir);
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 1, log, O_WRONLY | O_CREAT, 0600);
    posix_spawn_file_actions_adddup2(&files, 1, 2);
    char *environment[] = {"ETCD_UNSUPPORTED_ARCH=arm64", NULL};
    assert_int_equal(
        posix_spawn(&etcd->pid, path, &files, NULL, (char *const *)(uintptr_t)argv, environment),
        0);
    posix_spawn_file_actions_destroy(&files);
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *walk)
{
    (void)info;
    (void)kind;
    (void)walk;
    return remove(path);
}

static void etcd_stop(struct etcd *etcd)
{
    kill(etcd->pid, SIGKILL);
    waitpid(etcd->pid, NULL, 0);
    nftw(etcd->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* Asks until there is an answer with that status; the caller ends *out. */
static void ask(const char *url, const char *method, const char *path, const char *body,
                struct peer_fetched *out)
{
    uint64_t until_ns = now_ns() + WAIT_S_MAX * NS_PER_S;
    for (;;) {
        struct peer_fetch fetch = {.url = url,
                                   .method = method,
                                   .path = path,
                                   .body = slice_from_str(body),
                                   .content_type = body[0] == '\0' ? NULL : "application/json",
                                   .timeout_ms = 5000};
        if (peer_fetch(&fetch, out) == ST_OK) {
            if (out->status == 200)
                return;
            buf_deinit(&out->body);
        }
        assert_true(now_ns() < until_ns);
        uint64_t again_ns = now_ns() + 20 * NS_PER_MS;
        while (now_ns() < again_ns)
            sched_yield();
    }
}

/* The id in front of that URL in [{"id":1,"peerURLs":["http://.."],...},...]. */
static raft_id id_before(struct buf *members, const char *url)
{
    assert_int_equal(buf_append(members, slice_make("", 1)), ST_OK);
    char *text = (char *)members->data, *at = strstr(text, url), *id = NULL;
    assert_non_null(at);
    for (char *next = text; (next = strstr(next, "\"id\":")) != NULL && next < at; next += 5)
        id = next + 5;
    assert_non_null(id);
    return strtoull(id, NULL, 10);
}

static void note_entries(struct follower *f, const struct raft_message *m)
{
    for (uint32_t i = 0; i < m->entries_count; i++) {
        struct slice bytes = raft_payload_slice(m->entries[i].payload);
        f->entries++;
        if (memmem(bytes.data, bytes.len, VALUE, strlen(VALUE)) != NULL)
            f->has_value = true;
    }
}

/* Grants every vote, takes every entry. */
static void answer(struct follower *f, const struct raft_message *m)
{
    struct raft_message reply = {
        .to = m->from, .from = f->node.id, .term = m->term, .context = m->context};
    switch (m->type) {
    case RAFT_MSG_PRE_VOTE:
        reply.type = RAFT_MSG_PRE_VOTE_RESP;
        break;
    case RAFT_MSG_VOTE:
        reply.type = RAFT_MSG_VOTE_RESP;
        break;
    case RAFT_MSG_HEARTBEAT:
        f->heartbeats++;
        reply.type = RAFT_MSG_HEARTBEAT_RESP;
        break;
    case RAFT_MSG_APP:
        note_entries(f, m);
        reply.type = RAFT_MSG_APP_RESP;
        reply.index = m->index + m->entries_count;
        if (m->index > f->last) { /* a gap: say what we have */
            reply.reject = true;
            reply.index = m->index;
            reply.reject_hint = f->last;
            reply.log_term = m->log_term;
        } else
            f->last = reply.index;
        break;
    default:
        return;
    }
    node_send(&f->node, &reply);
}

static void *follow(void *context)
{
    struct follower *f = context;
    for (;;) {
        struct peer_message *message = node_take(&f->node);
        if (atomic_load(&f->is_stopping)) {
            message->release(message);
            return NULL;
        }
        answer(f, &message->message);
        message->release(message);
    }
}

static void test_etcd_takes_us_for_a_member(void **state)
{
    (void)state;
    const char *path = etcd_path();
    if (path == NULL) {
        print_message("no etcd here: skipped\n");
        skip();
    }
    struct etcd etcd;
    struct follower f = {.last = 2}; /* the two founding entries */
    char own_url[64], body[64];
    free_url(own_url);
    etcd_start(&etcd, path, own_url);
    struct peer_fetched got;
    ask(etcd.peer_url, "GET", "/members", "", &got);
    assert_true(got.has_cluster_id);
    f.leader = id_before(&got.body, etcd.peer_url);
    node_open(&f.node, id_before(&got.body, own_url), got.cluster_id, own_url);
    buf_deinit(&got.body);
    node_add_url(&f.node, f.leader, etcd.peer_url);
    pthread_t thread;
    node_start(&f.node);
    assert_int_equal(pthread_create(&thread, NULL, follow, &f), 0);

    /* It answers only when it leads, and it leads only with our vote; the put needs our word, too.
     */
    ask(etcd.client_url, "POST", "/v3/kv/put", "{\"key\":\"a2V5\",\"value\":\"" VALUE_BASE64 "\"}",
        &got);
    buf_deinit(&got.body);
    assert_true(peers_active_since_ns(f.node.peers, f.leader) != 0);
    ask(etcd.peer_url, "GET", "/version", "", &got);
    buf_deinit(&got.body);

    snprintf(body, sizeof(body), "{\"ID\":\"%" PRIu64 "\"}", f.node.id);
    ask(etcd.client_url, "POST", "/v3/cluster/member/remove", body, &got);
    buf_deinit(&got.body);
    node_wait(&f.node, &f.node.removed, 1); /* 410 on the next dial */

    atomic_store(&f.is_stopping, true);
    struct peer_message *last = calloc(1, sizeof(*last)); /* wakes the thread */
    last->release = (void (*)(struct peer_message *))free;
    pthread_mutex_lock(&f.node.lock);
    if (f.node.first == NULL)
        f.node.first = last;
    else
        f.node.last->node.next = &last->node;
    f.node.last = last;
    pthread_cond_broadcast(&f.node.changed);
    pthread_mutex_unlock(&f.node.lock);
    pthread_join(thread, NULL);
    assert_true(f.has_value);
    assert_true(f.entries >= 3 && f.heartbeats > 0);
    node_close(&f.node);
    etcd_stop(&etcd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_etcd_takes_us_for_a_member),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
