#include "server/peers/peers_private.h"

#include "base/minmax.h"
#include "server/run/log.h"

#include <inttypes.h>

static void make_metrics(struct peer *peer)
{
    const char *const to[] = {"To", peer->hex, NULL};
    const char *const from[] = {"From", peer->hex, NULL};
    const char *const pair[] = {"Local", peer->peers->id_hex, "Remote", peer->hex, NULL};
    peer->sent_bytes = metrics_child(METRIC_PEER_SENT_BYTES, to);
    peer->received_bytes = metrics_child(METRIC_PEER_RECEIVED_BYTES, from);
    peer->sent_failures = metrics_child(METRIC_PEER_SENT_FAILURES, to);
    peer->received_failures = metrics_child(METRIC_PEER_RECEIVED_FAILURES, from);
    peer->active = metrics_child(METRIC_ACTIVE_PEERS, pair);
    peer->disconnected = metrics_child(METRIC_DISCONNECTED_PEERS, pair);
    peer->round_trip = metrics_histogram_child(METRIC_PEER_ROUND_TRIP, to);
}

struct peer *peer_new(struct peers *peers, raft_id id, bool is_remote)
{
    struct peer *peer = calloc(1, sizeof(*peer));
    if (peer == NULL)
        return NULL;
    peer->id = id;
    peer->peers = peers;
    atomic_init(&peer->references, 1);
    atomic_init(&peer->is_remote, is_remote);
    snprintf(peer->hex, sizeof(peer->hex), "%" PRIx64, id);
    list_init(&peer->link);
    list_init(&peer->pipeline);
    for (uint32_t i = 0; i < DIAL_KINDS; i++)
        peer->dialers[i].backoff_ns = DIAL_AGAIN_MIN_NS;
    make_metrics(peer);
    return peer;
}

struct peer *peer_ref(struct peer *peer)
{
    atomic_fetch_add_explicit(&peer->references, 1, memory_order_relaxed);
    return peer;
}

void peer_unref(struct peer *peer)
{
    if (peer != NULL && atomic_fetch_sub(&peer->references, 1) == 1)
        free(peer);
}

struct peer *peers_find(struct peers *peers, raft_id id)
{
    struct peer *found = NULL;
    pthread_mutex_lock(&peers->lock);
    for (uint32_t i = 0; i < peers->known_count && found == NULL; i++) {
        if (peers->known[i]->id == id)
            found = peer_ref(peers->known[i]);
    }
    pthread_mutex_unlock(&peers->lock);
    return found;
}

bool peers_is_removed(struct peers *peers, raft_id id)
{
    bool is_removed = false;
    pthread_mutex_lock(&peers->lock);
    for (uint32_t i = 0; i < peers->removed_count && !is_removed; i++)
        is_removed = peers->removed[i] == id;
    pthread_mutex_unlock(&peers->lock);
    return is_removed;
}

static void split_urls(struct peer *peer, struct slice urls)
{
    while (urls.len > 0 && peer->urls_count < PEER_URLS_MAX) {
        const uint8_t *comma = memchr(urls.data, ',', urls.len);
        size_t len = comma == NULL ? urls.len : (size_t)(comma - urls.data);
        if (len > 0 && len < URL_BYTES_MAX) {
            char *url = peer->urls[peer->urls_count++];
            memcpy(url, urls.data, len);
            url[len] = '\0';
        }
        size_t skip = min_size(len + 1, urls.len);
        urls = slice_make(urls.data + skip, urls.len - skip);
    }
}

void peers_add_remote(struct peers *peers, raft_id id, struct slice urls)
{
    if (id == 0 || id == peers->id || urls.len == 0 || peers_is_removed(peers, id))
        return;
    struct peer *known = peers_find(peers, id);
    if (known != NULL) {
        peer_unref(known);
        return;
    }
    struct peer *peer = peer_new(peers, id, /* is_remote= */ true);
    if (peer == NULL)
        return;
    split_urls(peer, urls);
    pthread_mutex_lock(&peers->lock);
    bool has_room = peers->remotes_count < REMOTES_MAX && peers->known_count < MEMBERS_KNOWN_MAX;
    for (uint32_t i = 0; i < peers->known_count; i++)
        has_room = has_room && peers->known[i]->id != id;
    if (has_room) {
        peers->known[peers->known_count++] = peer_ref(peer);
        peers->remotes_count++;
    }
    pthread_mutex_unlock(&peers->lock);
    if (has_room) {
        list_push_back(&peers->members, &peer->link);
        peer->is_listed = true;
        log_info("added remote peer", LOG_HEX("local-member-id", peers->id),
                 LOG_HEX("remote-peer-id", id));
        peer_ref(peer);
    }
    peer_unref(peer);
}

uint32_t peer_url(struct peer *peer, uint32_t attempt, char out[URL_BYTES_MAX])
{
    pthread_mutex_lock(&peer->peers->lock);
    uint32_t count = peer->urls_count;
    if (count > 0)
        memcpy(out, peer->urls[attempt % count], URL_BYTES_MAX);
    pthread_mutex_unlock(&peer->peers->lock);
    return count;
}

/* ---- messages ---- */

void outgoing_free(struct outgoing *outgoing)
{
    if (outgoing == NULL)
        return;
    for (uint32_t i = 0; i < outgoing->message.entries_count; i++)
        raft_payload_unref(outgoing->entries[i].payload);
    peer_unref(outgoing->peer);
    free(outgoing);
}

void peer_unreachable(struct peer *peer)
{
    peer->peers->owner.unreachable(peer->peers->owner.context, peer->id);
}

static void drop(struct peer *peer, struct outgoing *outgoing)
{
    metrics_child_add(peer->sent_failures, 1);
    peer_unreachable(peer);
    outgoing_free(outgoing); /* and with it, perhaps, the last reference of peer */
}

static void send_by_stream(struct conn *writer, struct peer *peer, struct outgoing *outgoing)
{
    if (writer->out.bytes > STREAM_BYTES_MAX) {
        drop(peer, outgoing);
        return;
    }
    enum status st = frames_put(&writer->frames, &writer->out, &outgoing->message);
    outgoing_free(outgoing);
    if (st != ST_OK)
        conn_fail(writer, status_str(st));
}

void peer_send(struct peer *peer, struct outgoing *outgoing)
{
    struct conn *writer = peer->writers[stream_kind_of(outgoing->message.type)];
    if (writer != NULL) {
        send_by_stream(writer, peer, outgoing);
        return;
    }
    if (peer->pipeline_count == PIPELINE_MESSAGES_MAX ||
        (atomic_load(&peer->is_removed) && !peer->is_listed)) {
        drop(peer, outgoing);
        return;
    }
    list_push_back(&peer->pipeline, &outgoing->link);
    peer->pipeline_count++;
    peers_timer_at(peer->peers, peer->dialers[DIAL_PIPELINE].next_ns);
}

/* ---- reachable or not ---- */

void peer_active(struct peer *peer)
{
    if (atomic_load(&peer->active_since_ns) != 0)
        return;
    atomic_store(&peer->active_since_ns, max_u64(peer->peers->now_ns, 1));
    metrics_child_set(peer->active, 1);
    log_info("peer became active", LOG_STR("peer-id", peer->hex));
}

void peer_inactive(struct peer *peer, const char *why)
{
    uint64_t since = atomic_load(&peer->active_since_ns);
    if (since == 0)
        return;
    atomic_store(&peer->active_since_ns, 0);
    metrics_child_set(peer->active, 0);
    metrics_child_add(peer->disconnected, 1);
    log_warn("peer became inactive (message send to peer failed)", LOG_STR("peer-id", peer->hex),
             LOG_STR("error", why), LOG_DURATION("active-for", peer->peers->now_ns - since));
}

/* ---- what is due ---- */

static bool wants_dial(const struct peer *peer, enum dial_kind dial)
{
    const struct dialer *d = &peer->dialers[dial];
    if (d->conn != NULL || d->is_resolving)
        return false;
    if (dial == DIAL_PIPELINE)
        return peer->pipeline_count > 0;
    return !atomic_load(&peer->is_remote) && !atomic_load(&peer->is_removed);
}

uint64_t peer_timers(struct peer *peer, uint64_t now_ns)
{
    uint64_t next = UINT64_MAX;
    pipeline_pump(peer);
    for (enum dial_kind dial = DIAL_MSGAPP; dial < DIAL_KINDS; dial++) {
        if (!wants_dial(peer, dial))
            continue;
        if (peer->dialers[dial].next_ns <= now_ns)
            dialer_dial(peer, dial);
        if (wants_dial(peer, dial))
            next = min_u64(next, peer->dialers[dial].next_ns);
    }
    struct conn *probe = peer->dialers[DIAL_PROBE].conn;
    if (probe != NULL && probe->state == CONN_WAITING) {
        uint64_t due = probe->asked_ns + PROBE_EVERY_NS;
        if (due <= now_ns) {
            probe_send(probe);
            due = now_ns + PROBE_EVERY_NS;
        }
        next = min_u64(next, due);
    }
    if (peer->removed_ns != 0)
        next = min_u64(next, max_u64(peer->removed_ns + REMOVED_LINGER_NS, now_ns + NS_PER_MS));
    return next;
}

bool peer_is_finished(const struct peer *peer, uint64_t now_ns)
{
    if (peer->removed_ns == 0)
        return false;
    bool is_quiet = peer->pipeline_count == 0 && peer->dialers[DIAL_PIPELINE].conn == NULL;
    for (uint32_t i = 0; i < STREAM_KINDS; i++)
        is_quiet = is_quiet && (peer->writers[i] == NULL || peer->writers[i]->out.bytes == 0);
    return is_quiet || now_ns >= peer->removed_ns + REMOVED_LINGER_NS;
}

void peer_shut(struct peer *peer)
{
    for (uint32_t i = 0; i < STREAM_KINDS; i++) {
        if (peer->writers[i] != NULL)
            conn_close(peer->writers[i]);
    }
    for (uint32_t i = 0; i < DIAL_KINDS; i++) {
        if (peer->dialers[i].conn != NULL)
            conn_close(peer->dialers[i].conn);
    }
    while (!list_is_empty(&peer->pipeline))
        outgoing_free(CONTAINER_OF(list_pop_front(&peer->pipeline), struct outgoing, link));
    peer->pipeline_count = 0;
    peer_inactive(peer, "it was removed");
}
