#include "server/run/peer_port.h"

#include "base/buf.h"
#include "base/list.h"
#include "server/config/config.h"
#include "server/peers/peers.h"
#include "base/clock_real.h"
#include "server/run/log.h"
#include "server/run/member_private.h"
#include "server/services/services.h"
#include "server/state/cluster_version.h"
#include "server/state/corruption.h"
#include "server/state/machine.h"
#include "storage/mvcc.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#define ANSWER_BYTES_MAX (8U << 20)
#define QUESTION_ARENA_BYTES_MAX (64U << 10)
#define JSON "application/json"
/* Of one snapshot that leaves: about half of what a gigabit link carries, and what most disks read
 * beside their work. 8 GiB take two minutes. */
#define SNAPSHOT_BYTES_PER_S (64U << 20)

struct peer_port {
    struct member *member;
    struct peers *peers;
};

/* ---- answers ---- */

static void answer(struct peer_request *request, uint32_t status, const char *content_type,
                   struct slice body)
{
    const struct peer_answer answer = {
        .status = status, .content_type = content_type, .body = body};
    peers_answer(request, &answer);
}

/* As Go's http.Error does. */
static void answer_error(struct peer_request *request, uint32_t status, const char *text)
{
    char line[512];
    int len = snprintf(line, sizeof(line), "%s\n", text);
    answer(request, status, NULL, slice_make(line, (size_t)len));
}

static void answer_members(struct peer_request *request, struct machine *machine)
{
    struct members *members = machine_members(machine);
    struct buf body;
    buf_init(&body, ANSWER_BYTES_MAX);
    enum status st = members_json_encode(members, &body);
    if (st == ST_OK)
        st = buf_append(&body, SLICE("\n"));
    if (st == ST_OK)
        answer(request, 200, JSON, buf_slice(&body));
    else
        answer_error(request, 500, status_str(st));
    buf_deinit(&body);
    members_unref(members);
}

static void answer_version(struct peer_request *request, struct machine *machine)
{
    char version[VERSION_TEXT_BYTES], body[128];
    machine_cluster_version(machine, version);
    int len = snprintf(body, sizeof(body), "{\"etcdserver\":\"%s\",\"etcdcluster\":\"%s\"}",
                       CONFIG_API_VERSION, version[0] == '\0' ? "not_decided" : version);
    answer(request, 200, JSON, slice_make(body, (size_t)len));
}

/* ---- questions that take a while ---- */

struct promote_question {
    struct promotion promotion;
    struct peer_request *request;
    struct machine *machine;
};

static void promoted(struct promotion *promotion, enum api_error error)
{
    struct promote_question *question = CONTAINER_OF(promotion, struct promote_question, promotion);
    const char *text;
    uint32_t status = promotion_http_status(error, &text);
    if (error == API_OK)
        answer_members(question->request, question->machine);
    else
        answer_error(question->request, status, text);
    free(question);
}

static void promote(struct peer_port *port, struct peer_request *request)
{
    struct member *m = port->member;
    struct promote_question *question = calloc(1, sizeof(*question));
    if (question == NULL) {
        answer_error(request, 500, status_str(ST_NO_MEMORY));
        return;
    }
    *question =
        (struct promote_question){.promotion = {.id = request->member_id,
                                                .deadline_ns = clock_monotonic_ns(clock_real()) +
                                                               member_request_timeout_ns(m),
                                                .done = promoted},
                                  .request = request,
                                  .machine = m->machine};
    services_promote(m->services, &question->promotion);
}

struct hash_question {
    struct read_request read;
    struct peer_request *request;
    struct mvcc *mvcc;
    int64_t revision;
};

static void answer_hash(struct peer_request *request, const struct hash_answer *hash)
{
    struct buf body;
    buf_init(&body, ANSWER_BYTES_MAX);
    if (hash->error != API_OK)
        answer_error(request, 400, hash_error_text(hash->error));
    else if (hash_answer_encode(hash, &body) != ST_OK)
        answer_error(request, 500, status_str(ST_NO_MEMORY));
    else
        answer(request, 200, JSON, buf_slice(&body));
    buf_deinit(&body);
}

/* On a reader thread, which may take as long as the store is large. */
static void hash_turn(struct read_request *read, enum api_error error, uint32_t reader)
{
    struct hash_question *question = CONTAINER_OF(read, struct hash_question, read);
    struct hash_answer hash = {.error = error};
    if (error == API_OK)
        hash.error =
            api_error_of(mvcc_hash_kv(question->mvcc, reader, question->revision, &hash.hash,
                                      &hash.current_revision, &hash.compact_revision));
    answer_hash(question->request, &hash);
    free(question);
}

static void hash_kv(struct peer_port *port, struct peer_request *request)
{
    struct arena arena;
    arena_init(&arena, QUESTION_ARENA_BYTES_MAX);
    int64_t revision = 0;
    enum status st = hash_request_decode(request->body, &arena, &revision);
    arena_deinit(&arena);
    struct hash_question *question = calloc(1, sizeof(*question));
    if (st != ST_OK || question == NULL) {
        answer_error(request, st != ST_OK ? 400 : 500, "error unmarshalling request");
        free(question);
        return;
    }
    *question = (struct hash_question){.read = {.ready = hash_turn},
                                       .request = request,
                                       .mvcc = port->member->mvcc,
                                       .revision = revision};
    loops_read_whole(port->member->loops, &question->read);
}

struct lease_turn {
    struct lease_question question;
    struct peer_request *request;
};

static void lease_answered(struct lease_question *question, uint32_t status, struct slice body)
{
    struct lease_turn *turn = CONTAINER_OF(question, struct lease_turn, question);
    answer(turn->request, status, status == 200 ? "application/protobuf" : NULL, body);
    free(turn);
}

static void ask_lease(struct peer_port *port, struct peer_request *request)
{
    struct lease_turn *turn = calloc(1, sizeof(*turn));
    if (turn == NULL) {
        answer_error(request, 500, status_str(ST_NO_MEMORY));
        return;
    }
    *turn =
        (struct lease_turn){.question = {.is_ttl = request->kind == PEER_REQUEST_LEASES_INTERNAL,
                                         .body = request->body,
                                         .done = lease_answered},
                            .request = request};
    services_ask_lease(port->member->services, &turn->question);
}

static void handle(void *context, struct peer_request *request)
{
    struct peer_port *port = context;
    struct machine *machine = port->member->machine;
    switch (request->kind) {
    case PEER_REQUEST_MEMBERS:
        answer_members(request, machine);
        return;
    case PEER_REQUEST_PROMOTE:
        promote(port, request);
        return;
    case PEER_REQUEST_HASHKV:
        hash_kv(port, request);
        return;
    case PEER_REQUEST_LEASES:
    case PEER_REQUEST_LEASES_INTERNAL:
        ask_lease(port, request);
        return;
    case PEER_REQUEST_DOWNGRADE_ENABLED:
        answer(request, 200, NULL,
               machine_downgrade_enabled(machine) ? SLICE("true") : SLICE("false"));
        return;
    case PEER_REQUEST_VERSION:
        answer_version(request, machine);
        return;
    }
}

/* ---- messages ---- */

static void receive(void *context, struct peer_message *chain)
{
    struct peer_port *port = context;
    loops_receive(port->member->loops, chain);
}

static void unreachable(void *context, raft_id id)
{
    struct peer_port *port = context;
    loops_peer_unreachable(port->member->loops, id);
}

static void gone(void *context, raft_id id)
{
    struct peer_port *port = context;
    loops_peer_gone(port->member->loops, id);
}

static void snapshot_sent(void *context, raft_id id, bool succeeded)
{
    struct peer_port *port = context;
    loops_peer_snapshot_sent(port->member->loops, id, succeeded);
}

static void removed(void *context, raft_id by)
{
    struct peer_port *port = context;
    log_error("another member says that this one was removed from the cluster",
              LOG_HEX("remote-peer-id", by));
    loops_removed_from_cluster(port->member->loops);
}

/* ---- life ---- */

enum status peer_port_new(struct member *m, struct peer_port **out)
{
    *out = NULL;
    struct peer_port *port = calloc(1, sizeof(*port));
    if (port == NULL)
        return ST_NO_MEMORY;
    port->member = m;
    for (uint32_t i = 0; i < m->options.peer_listeners_count; i++) {
        if (listen(m->options.peer_listeners[i], SOMAXCONN) != 0) {
            free(port);
            return ST_IO;
        }
    }
    const struct peers_options options = {
        .id = m->member_id,
        .cluster_id = m->cluster_id,
        .version = CONFIG_API_VERSION,
        .min_version = CLUSTER_VERSION_MIN,
        .urls = m->options.peer_urls,
        .urls_count = m->options.peer_urls_count,
        .listen_fds = m->options.peer_listeners,
        .listen_fds_count = m->options.peer_listeners_count,
        .election_timeout_ns = m->options.election_ms * NS_PER_MS,
        .snapshot_bytes_per_s = SNAPSHOT_BYTES_PER_S,
        .clock = clock_real(),
        .snap_dir = m->datadir.snap,
        .owner = {.receive = receive,
                  .unreachable = unreachable,
                  .gone = gone,
                  .snapshot_sent = snapshot_sent,
                  .removed = removed,
                  .handle = handle,
                  .context = port},
    };
    enum status st = peers_new(&options, &port->peers);
    if (st != ST_OK) {
        free(port);
        return st;
    }
    m->options.peer_listeners_count = 0; /* taken */
    *out = port;
    return ST_OK;
}

struct transport *peer_port_transport(struct peer_port *port)
{
    return peers_transport(port->peers);
}

void peer_port_add(struct peer_port *port, const struct members *members)
{
    struct transport *transport = peers_transport(port->peers);
    for (uint32_t i = 0; i < members_count(members); i++) {
        const struct member_row *row = members_at(members, i);
        if (row->id != port->member->member_id)
            transport->add_peer(transport, row->id, row->peer_urls, row->peer_urls_count);
    }
}

enum status peer_port_start(struct peer_port *port)
{
    return peers_start(port->peers);
}

void peer_port_stop(struct peer_port *port)
{
    if (port != NULL)
        peers_stop(port->peers);
}

void peer_port_free(struct peer_port *port)
{
    if (port == NULL)
        return;
    peers_free(port->peers);
    free(port);
}

uint64_t peer_port_active_since_ns(const struct peer_port *port, raft_id id)
{
    return peers_active_since_ns(port->peers, id);
}
