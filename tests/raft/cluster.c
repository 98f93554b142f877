#include "tests/raft/cluster.h"

#include "base/assert.h"
#include "base/bytes.h"
#include "base/minmax.h"
#include "raft/raft_private.h"

#include <stdlib.h>

static bool chance(struct cluster *c, uint32_t percent)
{
    return rng_below(&c->rng, 100) < percent;
}

static raft_id id_of(const struct cluster *c, const struct cluster_node *n)
{
    return (raft_id)(n - c->nodes) + 1;
}

/* ---- the disk ---- */

static void truncate_disk(struct cluster_node *n, raft_index last)
{
    for (; n->disk_last > last; n->disk_last--)
        raft_payload_unref(n->disk[n->disk_last].payload);
}

static void release_disk(struct cluster_node *n, raft_index index)
{
    while (n->disk_before.index < index) {
        raft_index first = n->disk_before.index + 1;
        n->disk_before = (struct raft_log_id){.index = first, .term = n->disk[first].term};
        raft_payload_unref(n->disk[first].payload);
    }
}

static bool disk_has(const struct cluster_node *n, raft_index index, raft_term term)
{
    if (index <= n->disk_before.index)
        return true;
    return index <= n->disk_last && n->disk[index].term == term;
}

static void write_disk(struct cluster *c, struct cluster_node *n,
                       const struct raft_append_work *work)
{
    if (work->has_hard_state)
        n->disk_hard_state = work->hard_state;
    if (work->snapshot != NULL) {
        ASSERT(work->entries_count == 0);
        truncate_disk(n, n->disk_before.index);
        n->disk_before = work->snapshot->last;
        n->disk_last = n->disk_before.index;
        n->store_applied = n->disk_before.index;
        n->store_conf_state = work->snapshot->conf_state;
    }
    if (work->entries_count > 0) {
        ASSERT(work->entries[0].index > n->disk_before.index);
        ASSERT(work->entries[0].index <= n->disk_last + 1);
        c->truncations += work->entries[0].index <= n->disk_last;
        truncate_disk(n, work->entries[0].index - 1);
    }
    for (uint32_t i = 0; i < work->entries_count; i++) {
        ASSERT(work->entries[i].index == n->disk_last + 1);
        ASSERT(n->disk_last + 1 < CLUSTER_INDEX_MAX);
        n->disk[++n->disk_last] = work->entries[i];
        raft_payload_ref(work->entries[i].payload);
    }
}

/* ---- what must hold ---- */

static uint64_t hash_conf_state(const struct raft_conf_state *cs)
{
    uint64_t h = cs->auto_leave ? 1 : 2;
    const raft_id *lists[] = {cs->voters, cs->learners, cs->voters_outgoing, cs->learners_next};
    uint32_t counts[] = {cs->voters_count, cs->learners_count, cs->voters_outgoing_count,
                         cs->learners_next_count};
    for (uint32_t l = 0; l < 4; l++) {
        h = h * 1000003 + counts[l];
        for (uint32_t i = 0; i < counts[l]; i++)
            h = h * 1000003 + lists[l][i];
    }
    return h;
}

static uint64_t hash_entry(const struct raft_entry *entry)
{
    uint64_t h = entry->term * 1000003 + (uint64_t)entry->type;
    for (uint32_t i = 0; entry->payload != NULL && i < entry->payload->len; i++)
        h = h * 1000003 + entry->payload->data[i] + 1;
    return h | 1;
}

static uint32_t holders(const struct cluster *c, const struct id_set *half, raft_index index,
                        raft_term term)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < half->count; i++) {
        ASSERT(half->ids[i] <= c->nodes_count);
        count += disk_has(&c->nodes[half->ids[i] - 1], index, term);
    }
    return count;
}

/* A newly committed entry is on the synced disks of a majority, of both halves. */
static void check_commit_is_durable(const struct cluster *c, const struct raft *r, raft_index index,
                                    raft_term term)
{
    const struct raft_configuration *conf = &r->tracker.configuration;
    ASSERT(holders(c, &conf->incoming, index, term) > conf->incoming.count / 2);
    if (conf->outgoing.count > 0)
        ASSERT(holders(c, &conf->outgoing, index, term) > conf->outgoing.count / 2);
}

static void check_commits(struct cluster *c, struct cluster_node *n)
{
    const struct raft *r = n->raft;
    ASSERT(r->log.committed >= n->seen_commit);
    for (raft_index i = max_u64(n->seen_commit, r->log.before_first.index) + 1;
         i <= r->log.committed; i++) {
        raft_term term = log_at(&r->log, i)->term;
        if (c->committed_terms[i] == 0) {
            ASSERT(r->role == RAFT_LEADER || i <= c->options.voters); /* or a founding entry */
            if (i > c->options.voters)
                check_commit_is_durable(c, r, i, term);
            c->committed_terms[i] = term;
            c->commits++;
        }
        ASSERT(c->committed_terms[i] == term);
    }
    n->seen_commit = r->log.committed;
    c->committed = max_u64(c->committed, r->log.committed);
}

static void check_leader(struct cluster *c, struct cluster_node *n)
{
    const struct raft *r = n->raft;
    if (r->role != RAFT_LEADER)
        return;
    ASSERT(r->term < CLUSTER_TERM_MAX);
    ASSERT(c->leaders[r->term] == 0 || c->leaders[r->term] == r->id);
    if (n->seen_leading_term == r->term) {
        ASSERT(r->log.last >= n->seen_last);
        n->seen_last = r->log.last;
        return;
    }
    c->leaders[r->term] = r->id;
    c->elections++;
    n->seen_leading_term = r->term;
    n->seen_last = r->log.last;
    /* It has everything that was ever committed. */
    ASSERT(r->log.last >= c->committed);
    for (raft_index i = log_first(&r->log); i <= c->committed; i++)
        ASSERT(log_at(&r->log, i)->term == c->committed_terms[i]);
}

static void check_durable(const struct cluster_node *n)
{
    struct raft_log_id durable = log_durable(&n->raft->log);
    ASSERT(durable.index == 0 || disk_has(n, durable.index, durable.term));
    for (uint32_t i = 0; i < n->works_count; i++) {
        const struct raft_append_work *work = &n->works[i].ready->append;
        if (n->works[i].append_due && work->entries_count > 0)
            ASSERT(work->entries[0].index > durable.index);
    }
}

static void check_node(struct cluster *c, struct cluster_node *n)
{
    raft_check(n->raft);
    ASSERT(n->raft->quarantine == RAFT_QUARANTINE_NONE);
    ASSERT(n->raft->term >= n->seen_term);
    n->seen_term = n->raft->term;
    check_leader(c, n);
    check_commits(c, n);
    check_durable(n);
}

/* The newest entry two logs share implies that they share all before it. */
static void check_log_matching(const struct cluster *c)
{
    for (uint32_t a = 0; a < c->nodes_count; a++) {
        for (uint32_t b = a + 1; b < c->nodes_count; b++) {
            const struct raft *left = c->nodes[a].raft, *right = c->nodes[b].raft;
            if (left == NULL || right == NULL)
                continue;
            raft_index low = max_u64(log_first(&left->log), log_first(&right->log));
            bool shared = false;
            for (raft_index i = min_u64(left->log.last, right->log.last); i >= low; i--) {
                const struct raft_entry *x = log_at(&left->log, i), *y = log_at(&right->log, i);
                shared = shared || x->term == y->term;
                if (shared)
                    ASSERT(hash_entry(x) == hash_entry(y));
            }
        }
    }
}

static void note_vote(struct cluster *c, const struct raft_message *m)
{
    if (m->type != RAFT_MSG_VOTE_RESP || m->reject)
        return;
    ASSERT(m->term < CLUSTER_TERM_MAX);
    raft_id *vote = &c->votes[m->from - 1][m->term];
    ASSERT(*vote == 0 || *vote == m->to);
    *vote = m->to;
}

/* ---- the network ---- */

static void end_message(struct raft_message *m)
{
    for (uint32_t i = 0; i < m->entries_count; i++)
        raft_payload_unref(m->entries[i].payload);
    free((void *)m->entries);
    free((void *)m->context.data);
    free((void *)m->snapshot);
}

static void *copy_of(const void *data, size_t size)
{
    if (data == NULL || size == 0)
        return NULL;
    void *copy = malloc(size);
    ASSERT(copy != NULL);
    memcpy(copy, data, size);
    return copy;
}

static void report_snapshot(struct cluster *c, const struct raft_message *m, bool delivered)
{
    struct raft *sender = c->nodes[m->from - 1].raft;
    if (m->type == RAFT_MSG_SNAP && sender != NULL)
        raft_report_snapshot(sender, m->to, delivered);
}

static void put_in_flight(struct cluster *c, const struct raft_message *m)
{
    ASSERT(m->to >= 1 && m->to <= c->nodes_count);
    if (c->flight_count == CLUSTER_FLIGHT_MAX) {
        report_snapshot(c, &c->flight[0], /* delivered= */ false);
        end_message(&c->flight[0]);
        c->flight[0] = c->flight[--c->flight_count];
    }
    struct raft_message copy = *m;
    copy.entries = copy_of(m->entries, m->entries_count * sizeof(*m->entries));
    for (uint32_t i = 0; i < m->entries_count; i++)
        raft_payload_ref(copy.entries[i].payload);
    copy.context.data = copy_of(m->context.data, m->context.len);
    copy.snapshot = copy_of(m->snapshot, m->snapshot == NULL ? 0 : sizeof(*m->snapshot));
    c->flight[c->flight_count++] = copy;
}

static void take_ready(struct cluster *c, struct cluster_node *n);

static void step(struct cluster *c, struct cluster_node *n, const struct raft_message *m)
{
    enum status st = raft_step(n->raft, m);
    ASSERT(st == ST_OK || st == ST_NOT_FOUND || st == ST_DROPPED);
    check_node(c, n);
}

static void deliver(struct cluster *c, uint32_t at, bool faulty)
{
    struct raft_message *m = &c->flight[at];
    struct cluster_node *to = &c->nodes[m->to - 1];
    bool lost = to->raft == NULL || c->cut[m->from - 1][m->to - 1] ||
                (faulty && chance(c, c->options.loss_percent));
    if (lost) {
        struct raft *from = c->nodes[m->from - 1].raft;
        if (from != NULL && chance(c, 30))
            raft_report_unreachable(from, m->to);
    } else {
        step(c, to, m);
        if (m->type == RAFT_MSG_SNAP)
            take_ready(c, to); /* the receiver looks at once whether it is wanted */
    }
    m = &c->flight[at];
    report_snapshot(c, m, !lost);
    if (!lost && faulty && chance(c, 5) && m->type != RAFT_MSG_SNAP)
        return; /* it comes again */
    end_message(m);
    /* The order of the others stays when nothing is wrong. */
    memmove(m, m + 1, (--c->flight_count - at) * sizeof(*m));
}

/* ---- batches ---- */

static void note_reads(struct cluster *c, const struct raft_ready *ready)
{
    for (uint32_t i = 0; i < ready->read_states_count; i++) {
        ASSERT(ready->read_states[i].context < c->reads);
        ASSERT(ready->read_states[i].index >= c->read_floors[ready->read_states[i].context]);
        c->reads_answered++;
    }
}

static void take_ready(struct cluster *c, struct cluster_node *n)
{
    if (!raft_has_ready(n->raft) || n->works_count == CLUSTER_WORKS_MAX)
        return;
    struct raft_ready *ready;
    enum status st = raft_ready(n->raft, &ready);
    ASSERT(st == ST_OK);
    for (uint32_t i = 0; i < ready->messages_count; i++) {
        c->snapshots += ready->messages[i].type == RAFT_MSG_SNAP;
        c->transfers += ready->messages[i].type == RAFT_MSG_TIMEOUT_NOW;
        put_in_flight(c, &ready->messages[i]);
    }
    note_reads(c, ready);
    for (uint32_t i = 0; i < ready->fetches_count; i++) {
        if (n->fetches_count < 64)
            n->fetches[n->fetches_count++] = ready->fetches[i];
    }
    n->works[n->works_count++] = (struct cluster_work){
        .ready = ready, .append_due = ready->append.present, .apply_due = true};
    check_node(c, n);
}

static void release_done(struct cluster_node *n)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n->works_count; i++) {
        if (n->works[i].append_due || n->works[i].apply_due)
            n->works[kept++] = n->works[i];
        else
            raft_ready_release(n->works[i].ready);
    }
    n->works_count = kept;
}

static void apply_entry(struct cluster *c, struct cluster_node *n, const struct raft_entry *entry)
{
    ASSERT(entry->index == n->applied.index + 1);
    ASSERT(c->committed_terms[entry->index] == entry->term);
    uint64_t hash = hash_entry(entry), *known = &c->applied_hashes[entry->index];
    ASSERT(*known == 0 || *known == hash);
    *known = hash;
    n->applied = (struct raft_log_id){.index = entry->index, .term = entry->term};
    if (entry->type == RAFT_ENTRY_NORMAL) {
        if (entry->payload != NULL)
            ASSERT(!c->refused[get_le64(entry->payload->data)]);
        return;
    }
    struct slice change = raft_payload_slice(entry->payload);
    enum status st = raft_apply_conf_change(n->raft, entry->type, &change, &n->conf_state);
    if (st == ST_INVALID) /* an impossible change, the same everywhere: refused */
        st = raft_apply_conf_change(n->raft, entry->type, NULL, &n->conf_state);
    ASSERT(st == ST_OK);
    uint64_t conf_hash = hash_conf_state(&n->conf_state);
    uint64_t *known_conf = &c->conf_hashes[entry->index];
    ASSERT(*known_conf == 0 || *known_conf == conf_hash);
    *known_conf = conf_hash;
    check_node(c, n);
}

static bool finish_apply(struct cluster *c, struct cluster_node *n)
{
    for (uint32_t i = 0; i < n->works_count; i++) {
        if (!n->works[i].apply_due)
            continue;
        const struct raft_ready *ready = n->works[i].ready;
        n->works[i].apply_due = false;
        n->durable = ready->durable;
        for (uint32_t e = 0; e < ready->apply.entries_count; e++)
            apply_entry(c, n, &ready->apply.entries[e]);
        if (ready->apply.entries_count > 0)
            step(c, n, &ready->apply.response);
        release_done(n);
        return true;
    }
    return false;
}

static void respond(struct cluster *c, struct cluster_node *n, const struct raft_append_work *work)
{
    for (uint32_t i = 0; i < work->responses_count; i++) {
        note_vote(c, &work->responses[i]);
        if (work->responses[i].to == id_of(c, n))
            step(c, n, &work->responses[i]);
        else
            put_in_flight(c, &work->responses[i]);
    }
}

static bool finish_append(struct cluster *c, struct cluster_node *n)
{
    uint32_t at = 0;
    while (at < n->works_count && !n->works[at].append_due)
        at++;
    if (at == n->works_count)
        return false;
    const struct raft_append_work *work = &n->works[at].ready->append;
    if (work->snapshot != NULL) {
        /* Apply finishes what came before, then stands on the snapshot. */
        struct raft_ready *ready = n->works[at].ready;
        while (finish_apply(c, n))
            continue;
        at = 0;
        while (n->works[at].ready != ready)
            at++;
        n->applied = work->snapshot->last;
        n->conf_state = work->snapshot->conf_state;
    }
    write_disk(c, n, work);
    n->works[at].append_due = false;
    respond(c, n, work);
    release_done(n);
    return true;
}

/* ---- lives ---- */

static void start(struct cluster *c, struct cluster_node *n)
{
    struct raft_start start = {
        .hard_state = n->disk_hard_state,
        .conf_state = n->store_conf_state,
        .before_first = n->disk_before,
        .entries = &n->disk[n->disk_before.index + 1],
        .entries_count = (uint32_t)(n->disk_last - n->disk_before.index),
        .applied = n->store_applied,
    };
    enum status st = raft_new(&n->config, &start, &n->raft);
    ASSERT(st == ST_OK);
    n->applied.index = n->store_applied;
    n->conf_state = n->store_conf_state;
    n->durable = (struct raft_log_id){0};
    n->seen_commit = 0;
    n->seen_term = n->disk_hard_state.term;
    n->seen_leading_term = 0;
    check_node(c, n);
}

/* Some of the writes that were under way reached the disk, in order. */
static void crash(struct cluster *c, struct cluster_node *n, uint64_t written)
{
    for (uint32_t i = 0; i < n->works_count; i++) {
        if (n->works[i].append_due && written > 0) {
            write_disk(c, n, &n->works[i].ready->append);
            written--;
        }
        raft_ready_release(n->works[i].ready);
    }
    n->works_count = n->fetches_count = 0;
    raft_free(n->raft);
    n->raft = NULL;
}

static struct cluster_node *add_process(struct cluster *c)
{
    ASSERT(c->nodes_count < CLUSTER_NODES_MAX);
    struct cluster_node *n = &c->nodes[c->nodes_count++];
    const struct cluster_options *o = &c->options;
    rng_seed(&n->rng, rng_next(&c->rng));
    n->disk = calloc(CLUSTER_INDEX_MAX, sizeof(*n->disk));
    ASSERT(n->disk != NULL);
    n->config = (struct raft_config){
        .id = c->nodes_count,
        .election_ticks = 10,
        .heartbeat_ticks = 1,
        .message_bytes_max = o->message_bytes_max,
        .inflight_messages_max = o->inflight_messages_max,
        .inflight_bytes_max = o->inflight_bytes_max,
        .apply_bytes_max = o->apply_bytes_max,
        .uncommitted_bytes_max = o->uncommitted_bytes_max,
        .window_entries_max = o->window_entries_max,
        .window_bytes_max = 1 << 20,
        .stall_ticks_max = o->stall_ticks_max,
        .check_quorum = o->check_quorum,
        .pre_vote = o->pre_vote,
        .step_down_on_removal = true,
        .apply_unstable = o->apply_unstable,
        .rng = &n->rng,
    };
    start(c, n);
    return n;
}

static void found(struct cluster *c)
{
    struct raft_payload *changes[CLUSTER_NODES_MAX];
    for (uint32_t i = 0; i < c->options.voters; i++) {
        struct conf_change_single change = {.type = CONF_CHANGE_ADD_NODE, .node_id = i + 1};
        changes[i] = conf_change_encode_v1(/* id= */ 0, change, SLICE_EMPTY);
        ASSERT(changes[i] != NULL);
    }
    for (uint32_t i = 0; i < c->options.voters; i++) {
        struct cluster_node *n = add_process(c);
        enum status st = raft_bootstrap(n->raft, changes, c->options.voters);
        ASSERT(st == ST_OK);
    }
    for (uint32_t i = 0; i < c->options.voters; i++) {
        struct cluster_node *n = &c->nodes[i];
        take_ready(c, n); /* a founding member starts for good when this is durable */
        while (finish_append(c, n) || finish_apply(c, n))
            continue;
        raft_payload_unref(changes[i]);
    }
}

struct cluster *cluster_new(uint64_t seed, const struct cluster_options *options)
{
    struct cluster *c = calloc(1, sizeof(*c));
    ASSERT(c != NULL);
    c->refused = calloc(1 << 20, sizeof(*c->refused));
    ASSERT(c->refused != NULL);
    rng_seed(&c->rng, seed);
    c->options = *options;
    found(c);
    return c;
}

void cluster_free(struct cluster *c)
{
    for (uint32_t i = 0; i < c->nodes_count; i++) {
        if (c->nodes[i].raft != NULL)
            crash(c, &c->nodes[i], 0);
        truncate_disk(&c->nodes[i], c->nodes[i].disk_before.index);
        free(c->nodes[i].disk);
    }
    for (uint32_t i = 0; i < c->flight_count; i++)
        end_message(&c->flight[i]);
    free(c->refused);
    free(c);
}

/* ---- what clients and operators do ---- */

static void propose(struct cluster *c, struct cluster_node *n)
{
    struct raft_payload *payloads[4];
    uint32_t count = 1 + (uint32_t)rng_below(&c->rng, 4);
    uint64_t first_number = c->proposals;
    for (uint32_t i = 0; i < count; i++) {
        payloads[i] = raft_payload_new(8 + rng_below(&c->rng, 100));
        ASSERT(payloads[i] != NULL);
        memset(payloads[i]->data, 0, payloads[i]->len);
        put_le64(payloads[i]->data, c->proposals++);
    }
    raft_index first;
    enum status st = raft_propose(n->raft, payloads, count, &first);
    for (uint32_t i = 0; i < count; i++) {
        c->refused[first_number + i] = st != ST_OK;
        raft_payload_unref(payloads[i]);
    }
    check_node(c, n);
}

static void begin_read(struct cluster *c, struct cluster_node *n)
{
    if (c->reads == CLUSTER_READS_MAX)
        return;
    c->read_floors[c->reads] = c->committed;
    enum status st = raft_read_index(n->raft, c->reads++);
    ASSERT(st == ST_OK || st == ST_DROPPED);
    check_node(c, n);
}

static size_t put_single(uint8_t *at, uint8_t type, uint8_t id)
{
    const uint8_t bytes[] = {2 << 3 | 2, 4, 1 << 3, type, 2 << 3, id};
    memcpy(at, bytes, sizeof(bytes));
    return sizeof(bytes);
}

/* A change of one or two members, the latter through a joint configuration. Members that were
 * removed do not come back; a new process takes their place. None is taken from two voters: a
 * configuration counts from where it is applied, so the one that stays may need the vote of the one
 * that was removed, whose log may be the longer (etcd's raft says the same). */
static void change_configuration(struct cluster *c, struct cluster_node *n)
{
    const struct raft_configuration *now = &n->raft->tracker.configuration;
    if (n->raft->role != RAFT_LEADER || tracker_is_joint(&n->raft->tracker))
        return;
    uint8_t bytes[32] = {1 << 3, 0};
    size_t len = 2;
    uint64_t kind = rng_below(&c->rng, 4);
    if (kind <= 1 && now->incoming.count > 2)
        len += put_single(bytes + len, CONF_CHANGE_REMOVE_NODE,
                          (uint8_t)now->incoming.ids[rng_below(&c->rng, now->incoming.count)]);
    if (kind == 2 && now->learners.count > 0)
        len += put_single(bytes + len, CONF_CHANGE_ADD_NODE, (uint8_t)now->learners.ids[0]);
    else if (kind >= 1 && c->nodes_count < CLUSTER_NODES_MAX) {
        struct cluster_node *added = add_process(c);
        uint8_t type = kind == 3 ? CONF_CHANGE_ADD_LEARNER : CONF_CHANGE_ADD_NODE;
        len += put_single(bytes + len, type, (uint8_t)id_of(c, added));
    }
    if (len == 2)
        return;
    struct raft_payload *payload = raft_payload_copy(slice_make(bytes, len));
    ASSERT(payload != NULL);
    raft_index index;
    enum status st = raft_propose_conf_change(n->raft, RAFT_ENTRY_CONF_CHANGE_V2, payload, &index);
    ASSERT(st == ST_OK || st == ST_DROPPED || st == ST_BUSY || st == ST_TOO_BIG);
    raft_payload_unref(payload);
    check_node(c, n);
}

static void answer_fetch(struct cluster *c, struct cluster_node *n, bool faulty)
{
    if (n->fetches_count == 0)
        return;
    struct raft_fetch fetch = n->fetches[0];
    memmove(n->fetches, n->fetches + 1, --n->fetches_count * sizeof(fetch));
    struct raft_log_id before = {.index = fetch.first - 1};
    enum status st;
    if (fetch.kind == RAFT_FETCH_SNAPSHOT) {
        struct raft_snapshot_meta meta = {.last = n->applied, .conf_state = n->conf_state};
        meta.last.term = c->committed_terms[meta.last.index];
        st = raft_snapshot_offer(n->raft, fetch.peer, faulty && chance(c, 10) ? NULL : &meta);
        ASSERT(st == ST_OK || st == ST_INVALID); /* applied may be before the peer was added */
    } else if (before.index < n->disk_before.index || (faulty && chance(c, 20))) {
        st = raft_entries_read(n->raft, fetch.peer, before, NULL, 0);
        ASSERT(st == ST_OK);
    } else {
        before.term =
            before.index == n->disk_before.index ? n->disk_before.term : n->disk[before.index].term;
        uint32_t count = (uint32_t)min_u64(n->disk_last - before.index, 1 + rng_below(&c->rng, 8));
        st = raft_entries_read(n->raft, fetch.peer, before, &n->disk[fetch.first], count);
        ASSERT(st == ST_OK);
        c->log_reads += count > 0;
    }
    check_node(c, n);
}

/* The store commits what the store rule allows; the log lets go of what the store holds. */
static void commit_store(struct cluster *c, struct cluster_node *n)
{
    if (n->applied.index > n->store_applied && n->durable.index >= n->applied.index) {
        ASSERT(disk_has(n, n->applied.index, c->committed_terms[n->applied.index]));
        n->store_applied = n->applied.index;
        n->store_conf_state = n->conf_state;
    }
    raft_compact(n->raft, n->store_applied);
    if (chance(c, 50))
        release_disk(n, n->store_applied - rng_below(&c->rng, min_u64(n->store_applied, 20) + 1));
    check_node(c, n);
}

static struct cluster_node *find_leader(struct cluster *c)
{
    struct cluster_node *leader = NULL;
    for (uint32_t i = 0; i < c->nodes_count; i++) {
        struct cluster_node *n = &c->nodes[i];
        if (n->raft != NULL && n->raft->role == RAFT_LEADER &&
            (leader == NULL || leader->raft->term < n->raft->term))
            leader = n;
    }
    return leader;
}

static void disturb(struct cluster *c, struct cluster_node *n)
{
    switch (rng_below(&c->rng, 8)) {
    case 0:
    case 1:
        crash(c, n, rng_below(&c->rng, 5));
        c->restarts++;
        if (chance(c, 60))
            start(c, n);
        break;
    case 2: { /* one link, one way */
        bool *link =
            &c->cut[rng_below(&c->rng, c->nodes_count)][rng_below(&c->rng, c->nodes_count)];
        *link = !*link;
        break;
    }
    case 3: /* alone, the leader above all: what it takes in then is in nobody else's log */
        if (find_leader(c) != NULL && chance(c, 70))
            n = find_leader(c);
        for (uint32_t i = 0; i < c->nodes_count; i++)
            c->cut[n - c->nodes][i] = c->cut[i][n - c->nodes] = true;
        break;
    case 4:
    case 5:
        memset(c->cut, 0, sizeof(c->cut));
        break;
    default:
        n->stalled = !n->stalled;
        break;
    }
}

static void start_one_dead(struct cluster *c)
{
    for (uint32_t i = 0; i < c->nodes_count; i++) {
        if (c->nodes[i].raft == NULL && chance(c, 20))
            start(c, &c->nodes[i]);
    }
}

static void something_rare(struct cluster *c, struct cluster_node *n)
{
    uint64_t choice = rng_below(&c->rng, 100);
    if (choice < 30) {
        begin_read(c, n);
    } else if (choice < 55) {
        commit_store(c, n);
    } else if (choice < 85) {
        answer_fetch(c, n, /* faulty= */ true);
    } else if (choice < 91) {
        change_configuration(c, n);
    } else if (choice < 97) {
        enum status st = raft_transfer_leader(n->raft, 1 + rng_below(&c->rng, c->nodes_count));
        (void)st; /* refused as often as not */
    } else if (choice < 98) {
        enum status st = raft_campaign(n->raft);
        (void)st;
    } else {
        check_log_matching(c);
    }
}

/* True once in a while: takes its share of what is left of a draw. */
static bool falls_to(uint64_t *choice, uint32_t weight)
{
    bool falls = *choice < weight;
    *choice -= falls ? 0 : weight;
    return falls;
}

void cluster_step(struct cluster *c)
{
    const struct cluster_options *o = &c->options;
    struct cluster_node *n = &c->nodes[rng_below(&c->rng, c->nodes_count)];
    uint64_t choice = rng_below(&c->rng, o->deliveries + o->readies + o->appends + o->applies +
                                             o->ticks + o->proposals + o->disturbances + 120);
    if (falls_to(&choice, o->deliveries)) {
        if (c->flight_count > 0) /* mostly in order */
            deliver(c, (uint32_t)rng_below(&c->rng, chance(c, 70) ? 1 : c->flight_count),
                    /* faulty= */ true);
    } else if (n->raft == NULL) {
        start_one_dead(c);
    } else if (falls_to(&choice, o->readies)) {
        take_ready(c, n);
    } else if (falls_to(&choice, o->appends)) {
        if (!n->stalled)
            finish_append(c, n);
    } else if (falls_to(&choice, o->applies)) {
        finish_apply(c, n);
    } else if (falls_to(&choice, o->ticks)) {
        raft_tick(n->raft);
        check_node(c, n);
    } else if (falls_to(&choice, o->proposals)) {
        propose(c, n);
    } else if (falls_to(&choice, o->disturbances)) {
        disturb(c, n);
    } else {
        something_rare(c, n);
    }
}

/* ---- in the end ---- */

static void work_off(struct cluster *c)
{
    bool busy = true;
    while (busy) {
        busy = c->flight_count > 0;
        if (busy)
            deliver(c, 0, /* faulty= */ false);
        for (uint32_t i = 0; i < c->nodes_count; i++) {
            struct cluster_node *n = &c->nodes[i];
            if (n->raft == NULL)
                continue;
            busy = raft_has_ready(n->raft) || busy;
            take_ready(c, n);
            busy = finish_append(c, n) || busy;
            busy = finish_apply(c, n) || busy;
            busy = n->fetches_count > 0 || busy;
            answer_fetch(c, n, /* faulty= */ false);
        }
    }
}

/* Whether every member of the leader's configuration has what the leader has, and it is at rest. */
static bool is_settled(struct cluster *c)
{
    struct cluster_node *leader = find_leader(c);
    if (leader == NULL || tracker_is_joint(&leader->raft->tracker))
        return false;
    const struct raft *r = leader->raft;
    if (r->log.committed != r->log.last || r->log.committed < c->committed || r->reads.count > 0)
        return false;
    for (uint32_t i = 0; i < r->tracker.progresses_count; i++) {
        const struct progress *p = &r->tracker.progresses[i];
        const struct cluster_node *n = &c->nodes[p->id - 1];
        if (n->raft == NULL || p->match != r->log.last || p->state != PROGRESS_REPLICATE ||
            p->inflights.count > 0 || n->applied.index != r->log.last ||
            n->raft->log.unstable_bytes > 0 ||
            hash_conf_state(&n->conf_state) != hash_conf_state(&leader->conf_state))
            return false;
    }
    return true;
}

static bool is_member(const struct raft_conf_state *cs, raft_id id)
{
    bool found = false;
    for (uint32_t i = 0; i < cs->voters_count; i++)
        found = found || cs->voters[i] == id;
    for (uint32_t i = 0; i < cs->voters_outgoing_count; i++)
        found = found || cs->voters_outgoing[i] == id;
    for (uint32_t i = 0; i < cs->learners_count; i++)
        found = found || cs->learners[i] == id;
    return found;
}

/* A member that was removed is told so by the others' transport, and stops; without a lease it
 * would call for elections for ever. Not before there is another leader: its vote may be needed by
 * those who do not know of the removal yet. One that is still to be added has applied nothing. */
static void stop_removed(struct cluster *c)
{
    const struct cluster_node *leader = find_leader(c);
    if (leader != NULL && leader->raft->log.committed < c->committed)
        return; /* it is one of them itself, and does not know */
    for (uint32_t i = 0; leader != NULL && i < c->nodes_count; i++) {
        struct cluster_node *n = &c->nodes[i];
        if (n != leader && n->raft != NULL && n->applied.index > 0 &&
            !is_member(&leader->conf_state, i + 1))
            crash(c, n, /* written= */ 0);
    }
}

void cluster_calm(struct cluster *c, uint32_t ticks)
{
    memset(c->cut, 0, sizeof(c->cut));
    for (uint32_t i = 0; i < c->nodes_count; i++) {
        c->nodes[i].stalled = false;
        if (c->nodes[i].raft == NULL)
            start(c, &c->nodes[i]);
    }
    bool proposed = false;
    for (uint32_t t = 0; t < ticks; t++) {
        stop_removed(c);
        for (uint32_t i = 0; i < c->nodes_count; i++) {
            if (c->nodes[i].raft != NULL)
                raft_tick(c->nodes[i].raft);
        }
        work_off(c);
        check_log_matching(c);
        struct cluster_node *leader = find_leader(c);
        if (leader == NULL || leader->raft->transferee != 0)
            continue;
        if (!proposed)
            propose(c, leader);
        else if (is_settled(c))
            return;
        proposed = true;
    }
    ASSERT(is_settled(c));
}
