#include "base/hash.h"
#include "base/minmax.h"
#include "server/state/machine.h"
#include "storage/mvcc.h"
#include "tests/fakes/backend_mem.h"
#include "tests/sim/cluster_private.h"

#include <setjmp.h>
#include <stdarg.h>
/* cmocka.h wants the two above */
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

void cluster_reserve_facts(uint64_t **table, uint64_t *count, uint64_t index)
{
    if (index < *count)
        return;
    uint64_t wanted = (index + 1) * 2;
    uint64_t *grown = realloc(*table, wanted * sizeof(*grown));
    assert_non_null(grown);
    for (uint64_t i = *count; i < wanted; i++)
        grown[i] = 0;
    *table = grown;
    *count = wanted;
}

static struct cluster_history *history_of(struct cluster_member *m)
{
    return &m->cluster->history;
}

static void check_leader(struct cluster_member *m, const struct raft_status *status)
{
    struct cluster_history *history = history_of(m);
    raft_term term = status->hard_state.term;
    if (status->role != RAFT_LEADER)
        return;
    cluster_reserve_facts(&history->leader_of_term, &history->terms_count, term);
    raft_id *leader = &history->leader_of_term[term];
    if (*leader != 0 && *leader != m->id)
        cluster_fail(m->cluster, "two leaders in term %u", (unsigned)term);
    *leader = m->id;
}

/* ---- entries ---- */

static struct cluster_entry *find_entry(const struct cluster_history *history, raft_index index,
                                        raft_term term)
{
    if (index >= history->entries_count)
        return NULL;
    struct cluster_entry *entry = history->entries[index];
    while (entry != NULL && entry->term != term)
        entry = entry->next;
    return entry;
}

static void reserve_entries(struct cluster_history *history, raft_index index)
{
    if (index < history->entries_count)
        return;
    raft_index wanted = (index + 1) * 2;
    struct cluster_entry **grown =
        realloc(history->entries, wanted * sizeof(struct cluster_entry *));
    assert_non_null(grown);
    for (raft_index i = history->entries_count; i < wanted; i++)
        grown[i] = NULL;
    history->entries = grown;
    history->entries_count = wanted;
}

/* Log matching: whoever has an entry of this index and term has the same bytes, after an entry of
 * the same term. term_before 0: not known. */
static void check_entry(struct cluster_member *m, const struct raft_entry *entry,
                        raft_term term_before)
{
    struct cluster_history *history = history_of(m);
    uint64_t hash = hash64_seeded(raft_payload_slice(entry->payload), (uint64_t)entry->type);
    struct cluster_entry *known = find_entry(history, entry->index, entry->term);
    if (known == NULL) {
        reserve_entries(history, entry->index);
        known = calloc(1, sizeof(*known));
        assert_non_null(known);
        *known = (struct cluster_entry){.next = history->entries[entry->index],
                                        .term = entry->term,
                                        .term_before = term_before,
                                        .hash = hash};
        history->entries[entry->index] = known;
        return;
    }
    if (known->hash != hash)
        cluster_fail(m->cluster, "member %u has another entry %llu of term %llu", m->number,
                     (unsigned long long)entry->index, (unsigned long long)entry->term);
    if (known->term_before != 0 && term_before != 0 && known->term_before != term_before)
        cluster_fail(m->cluster, "member %u has entry %llu of term %llu after another one",
                     m->number, (unsigned long long)entry->index, (unsigned long long)entry->term);
    if (known->term_before == 0)
        known->term_before = term_before;
}

static void check_entries(struct cluster_member *m, const struct raft_entry *entries,
                          uint32_t count, raft_term term_before)
{
    for (uint32_t i = 0; i < count; i++) {
        check_entry(m, &entries[i], term_before);
        term_before = entries[i].term;
    }
}

/* State machine safety: one entry of one term at each index. What lies before it follows from log
 * matching. */
static void check_applied_at(struct cluster_member *m, struct raft_log_id applied)
{
    struct cluster_history *history = history_of(m);
    while (applied.index > 0 && applied.term > 0) {
        cluster_reserve_facts(&history->term_of_index, &history->indexes_count, applied.index);
        raft_term *term = &history->term_of_index[applied.index];
        if (*term != 0 && *term != applied.term)
            cluster_fail(m->cluster, "member %u applied entry %llu of term %llu, others of %llu",
                         m->number, (unsigned long long)applied.index,
                         (unsigned long long)applied.term, (unsigned long long)*term);
        if (*term != 0)
            return;
        *term = applied.term;
        const struct cluster_entry *entry = find_entry(history, applied.index, applied.term);
        applied = (struct raft_log_id){applied.index - 1, entry == NULL ? 0 : entry->term_before};
    }
}

static void check_applied(struct cluster_member *m)
{
    struct cluster_history *history = history_of(m);
    struct raft_log_id applied = machine_applied(m->machine);
    assert_true(applied.index >= m->applied_seen.index);
    m->applied_seen = applied;
    check_applied_at(m, applied);
    if (applied.index > history->applied_max.index)
        history->applied_max = applied;
}

/* ---- what is committed ---- */

static bool has_quorum(const struct cluster *cluster, const raft_id *voters, uint32_t count,
                       raft_index index)
{
    uint32_t holders = 0;
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t j = 0; j < CLUSTER_MEMBERS_MAX; j++)
            holders +=
                cluster->members[j].id == voters[i] && cluster->members[j].durable_seen >= index;
    }
    return count == 0 || holders > count / 2;
}

static bool is_on_disks(const struct cluster *cluster, const struct raft_conf_state *conf_state,
                        raft_index index)
{
    return has_quorum(cluster, conf_state->voters, conf_state->voters_count, index) &&
           has_quorum(cluster, conf_state->voters_outgoing, conf_state->voters_outgoing_count,
                      index);
}

/* What a leader calls committed, the disks of a majority have: of the members before or after the
 * step, since it may have changed them in it. */
static void check_commit(struct cluster_member *m, const struct raft_status *status)
{
    const struct cluster_lead *lead = &m->lead;
    raft_index commit = status->hard_state.commit;
    if (!lead->is_leader || status->role != RAFT_LEADER || lead->term != status->hard_state.term ||
        commit <= lead->commit)
        return;
    if (!is_on_disks(m->cluster, &lead->conf_state, commit) &&
        !is_on_disks(m->cluster, raft_conf_state(m->raft), commit))
        cluster_fail(m->cluster, "member %u commits entry %llu without a majority of disks",
                     m->number, (unsigned long long)commit);
}

void cluster_note_lead(struct cluster_member *m)
{
    struct raft_status status;
    raft_get_status(m->raft, &status);
    m->lead.is_leader = status.role == RAFT_LEADER;
    m->lead.term = status.hard_state.term;
    m->lead.commit = status.hard_state.commit;
    if (m->lead.is_leader)
        m->lead.conf_state = *raft_conf_state(m->raft);
}

void cluster_check_step(struct cluster_member *m)
{
    struct raft_status status;
    raft_get_status(m->raft, &status);
    if (m->cluster->steps_count % 16 == 0)
        raft_check(m->raft);
    struct wal_stat log;
    wal_get_stat(m->wal, &log);
    m->durable_seen = log.durable_index;
    check_leader(m, &status);
    check_commit(m, &status);
    cluster_note_lead(m);
    check_applied(m);
    cluster_check_auth(m);
    struct cluster_history *history = history_of(m);
    history->commit_max = max_u64(history->commit_max, status.hard_state.commit);
}

/* The index and the term of the store's newest commit are those of an entry the log has durably.
 * Whether it is this very entry the next start checks. */
void cluster_check_store(struct cluster_member *m)
{
    struct store_stat store;
    struct wal_stat log;
    if (m->fatal || store_get_stat(m->store, &store) != ST_OK)
        return;
    if (store.committed_index == m->committed_seen)
        return;
    m->committed_seen = store.committed_index;
    wal_get_stat(m->wal, &log);
    if (log.durable_index < store.committed_index)
        cluster_fail(m->cluster, "the store of member %u is at entry %llu, its log at %llu",
                     m->number, (unsigned long long)store.committed_index,
                     (unsigned long long)log.durable_index);
}

/* ---- promises ---- */

static bool covers(struct raft_log_id log, struct raft_log_id entry)
{
    return log.term > entry.term || (log.term == entry.term && log.index >= entry.index);
}

static void note_vote(struct cluster_member *m, raft_term term, raft_id vote)
{
    struct cluster_promises *promises = &m->promises;
    if (term == promises->vote_term && vote != promises->vote)
        cluster_fail(m->cluster, "member %u votes twice in term %llu", m->number,
                     (unsigned long long)term);
    if (term > promises->vote_term) {
        promises->vote_term = term;
        promises->vote = vote;
    }
}

static void note_acknowledged(struct cluster_member *m, const struct raft_message *message)
{
    struct cluster_promises *promises = &m->promises;
    if (message->term < promises->acked_term)
        return;
    if (message->term > promises->acked_term)
        promises->acked = (struct raft_log_id){0};
    promises->acked_term = message->term;
    promises->acked.index = max_u64(promises->acked.index, message->index);
}

/* Leader completeness: whatever was applied anywhere in an earlier term is in the log with which
 * this member asked for its votes. */
static void check_leads(struct cluster_member *m, const struct raft_message *message)
{
    const struct cluster_promises *promises = &m->promises;
    struct raft_log_id applied = history_of(m)->applied_max;
    if (promises->asked_term == message->term && applied.term < message->term &&
        !covers(promises->last, applied))
        cluster_fail(m->cluster, "member %u leads term %llu without entry %llu", m->number,
                     (unsigned long long)message->term, (unsigned long long)applied.index);
}

void cluster_check_message(struct cluster_member *m, const struct raft_message *message)
{
    struct cluster_promises *promises = &m->promises;
    switch (message->type) {
    case RAFT_MSG_VOTE:
        promises->asked_term = message->term; /* its own vote counts when it is durable: later */
        promises->last = (struct raft_log_id){message->index, message->log_term};
        return;
    case RAFT_MSG_VOTE_RESP:
        if (!message->reject)
            note_vote(m, message->term, message->to);
        break;
    case RAFT_MSG_APP:
        check_leads(m, message);
        check_entries(m, message->entries, message->entries_count, message->log_term);
        return;
    case RAFT_MSG_HEARTBEAT:
        check_leads(m, message);
        return;
    case RAFT_MSG_APP_RESP:
        if (!message->reject)
            note_acknowledged(m, message);
        break;
    default: /* the others promise nothing, and leave before the disk knows their term */
        return;
    }
    promises->term = max_u64(promises->term, message->term);
}

/* Members whose stores end at the same entry hold the same configuration. */
static void check_configuration(struct cluster_member *m, const struct store_mark *mark)
{
    struct cluster_history *history = history_of(m);
    if (mark->index == 0)
        return;
    cluster_reserve_facts(&history->conf_of_index, &history->confs_count, mark->index);
    uint64_t hash = hash64(mark->conf_state);
    uint64_t *known = &history->conf_of_index[mark->index];
    if (*known != 0 && *known != hash)
        cluster_fail(m->cluster, "member %u has another configuration at entry %llu", m->number,
                     (unsigned long long)mark->index);
    *known = hash;
}

void cluster_check_recovered(struct cluster_member *m, const struct wal_recovered *recovered,
                             const struct raft_entry *entries, uint32_t count)
{
    const struct cluster_promises *promises = &m->promises;
    const struct raft_hard_state *hard_state = &recovered->hard_state;
    check_entries(m, entries, count, /* term_before= */ 0);
    if (hard_state->term < promises->term)
        cluster_fail(m->cluster, "member %u spoke in term %llu and starts in %llu", m->number,
                     (unsigned long long)promises->term, (unsigned long long)hard_state->term);
    if (promises->vote_term == hard_state->term && promises->vote_term != 0 &&
        hard_state->vote != promises->vote)
        cluster_fail(m->cluster, "member %u forgot its vote in term %llu", m->number,
                     (unsigned long long)promises->vote_term);
    /* A leader of a later term may have replaced what it acknowledged before. */
    if (promises->acked_term == hard_state->term && recovered->last_index < promises->acked.index)
        cluster_fail(m->cluster, "member %u acknowledged entry %llu and starts with %llu",
                     m->number, (unsigned long long)promises->acked.index,
                     (unsigned long long)recovered->last_index);
    struct store_mark mark = store_opened_at(m->store);
    check_applied_at(m, (struct raft_log_id){mark.index, mark.term});
    check_configuration(m, &mark);
}

/* ---- what is applied ---- */

static void append_event(struct cluster_history *history, const struct cluster_event *event)
{
    if (history->events_count == history->events_capacity) {
        history->events_capacity = history->events_capacity * 2 + 256;
        history->events =
            realloc(history->events, history->events_capacity * sizeof(*history->events));
        assert_non_null(history->events);
    }
    history->events[history->events_count++] = *event;
    if (event->value == 0)
        return;
    cluster_reserve_facts(&history->event_of_value, &history->values_count, event->value);
    history->event_of_value[event->value] = history->events_count;
}

const struct cluster_event *cluster_event_of_value(const struct cluster *cluster, uint64_t value)
{
    const struct cluster_history *history = &cluster->history;
    uint64_t at = value < history->values_count ? history->event_of_value[value] : 0;
    return at == 0 ? NULL : &history->events[at - 1];
}

const struct cluster_event *cluster_event_at(const struct cluster *cluster, struct slice key,
                                             int64_t revision)
{
    const struct cluster_history *history = &cluster->history;
    uint64_t key_hash = hash64(key), after = (uint64_t)revision + 1;
    uint64_t at = after < history->revisions_count ? history->event_of_revision[after] : 0;
    at = at == 0 ? history->events_count : at - 1;
    while (at-- > 0) {
        if (history->events[at].key_hash == key_hash && history->events[at].revision <= revision)
            return &history->events[at];
    }
    return NULL;
}

static struct cluster_event event_of(int64_t revision, bool tombstone, struct slice record)
{
    struct mvcc_kv kv;
    assert_int_equal(mvcc_kv_decode(record, &kv), ST_OK);
    char text[24] = {0}, *end;
    if (kv.value.len > 0)
        memcpy(text, kv.value.data, min_size(kv.value.len, sizeof(text) - 1));
    uint64_t value = strtoull(text, &end, 10);
    return (struct cluster_event){.hash = hash64_seeded(record, tombstone),
                                  .key_hash = hash64(kv.key),
                                  .is_delete = tombstone,
                                  .value = tombstone || *end != ' ' ? 0 : value,
                                  .revision = revision};
}

int64_t cluster_own_revision(const struct cluster *cluster, int64_t revision)
{
    uint64_t low = 0, high = cluster->others_count;
    while (low < high) {
        uint64_t middle = (low + high) / 2;
        if (cluster->others_revisions[middle] <= revision)
            low = middle + 1;
        else
            high = middle;
    }
    return revision - (int64_t)low;
}

static void tell_change(const struct cluster *cluster, int64_t revision, bool tombstone,
                        struct slice record)
{
    struct mvcc_kv kv;
    if (cluster->on_change == NULL)
        return;
    assert_int_equal(mvcc_kv_decode(record, &kv), ST_OK);
    cluster->on_change(cluster->on_change_context, kv.key, tombstone, revision);
}

void cluster_check_event(void *context, struct revision revision, bool tombstone,
                         struct slice record)
{
    struct cluster_member *m = context;
    struct cluster_history *history = history_of(m);
    struct cluster_event event = event_of(revision.main, tombstone, record);
    event.auth_stretch = m->cluster->auth.stretch;
    cluster_reserve_facts(&history->event_of_revision, &history->revisions_count,
                          (uint64_t)revision.main);
    uint64_t *first = &history->event_of_revision[revision.main];
    if (*first == 0)
        *first = history->events_count + 1;
    uint64_t at = *first - 1 + (uint64_t)revision.sub;
    if (at == history->events_count) {
        append_event(history, &event);
        tell_change(m->cluster, revision.main, tombstone, record);
        return;
    }
    if (at > history->events_count || history->events[at].hash != event.hash)
        cluster_fail(m->cluster, "member %u has another change %lld.%lld than others", m->number,
                     (long long)revision.main, (long long)revision.sub);
}

void cluster_free_history(struct cluster_history *history)
{
    for (raft_index i = 0; i < history->entries_count; i++) {
        for (struct cluster_entry *entry = history->entries[i], *next; entry != NULL;
             entry = next) {
            next = entry->next;
            free(entry);
        }
    }
    free(history->entries);
    free(history->events);
    free(history->event_of_revision);
    free(history->event_of_value);
    free(history->conf_of_index);
    free(history->auth_of_index);
    free(history->leader_of_term);
    free(history->term_of_index);
}

/* ---- at rest ---- */

/* Running, and a member by the word of the leader: one that was removed may not know it yet. */
bool cluster_takes_part(struct cluster *cluster, uint32_t number)
{
    uint32_t leader = cluster_leader(cluster);
    const struct cluster_member *m = &cluster->members[number];
    if (!m->running || leader == CLUSTER_MEMBERS_MAX)
        return false;
    const struct raft_conf_state *conf_state = raft_conf_state(cluster->members[leader].raft);
    for (uint32_t i = 0; i < conf_state->voters_count; i++) {
        if (conf_state->voters[i] == m->id)
            return true;
    }
    for (uint32_t i = 0; i < conf_state->learners_count; i++) {
        if (conf_state->learners[i] == m->id)
            return true;
    }
    return false;
}

static bool all_applied_alike(struct cluster *cluster, void *context)
{
    (void)context;
    raft_index index = 0;
    for (uint32_t i = 0; i < CLUSTER_MEMBERS_MAX; i++) {
        if (!cluster_takes_part(cluster, i))
            continue;
        raft_index applied = machine_applied(cluster->members[i].machine).index;
        if (applied == 0 || (index != 0 && applied != index))
            return false;
        index = applied;
    }
    return index != 0;
}

static void compare_states(struct cluster *cluster)
{
    const struct cluster_member *first = NULL;
    uint32_t expected = 0;
    for (uint32_t i = 0; i < CLUSTER_MEMBERS_MAX; i++) {
        struct cluster_member *m = &cluster->members[i];
        if (!cluster_takes_part(cluster, i))
            continue;
        uint32_t hash;
        int64_t current, compact;
        assert_int_equal(mvcc_hash_kv(m->mvcc, 0, 0, &hash, &current, &compact), ST_OK);
        if (first != NULL && hash != expected)
            cluster_fail(cluster, "member %u holds another state", i);
        const struct raft_conf_state *conf_state = raft_conf_state(m->raft);
        if (first != NULL && memcmp(conf_state, raft_conf_state(first->raft), sizeof(*conf_state)))
            cluster_fail(cluster, "member %u has another configuration", i);
        if (first != NULL && m->auth_hash != first->auth_hash)
            cluster_fail(cluster, "member %u holds other users and roles", i);
        cluster_note(cluster, hash);
        cluster_note(cluster, m->auth_hash);
        expected = hash;
        first = m;
        cluster_check_puts(m, UINT64_MAX);
    }
}

/* A client that does not give up: what it is refused it sends again, a moment later. */
static void put_through(struct cluster *cluster, uint32_t member)
{
    uint64_t until_ns = cluster->now_ns + 60 * NS_PER_S;
    while (cluster_takes_part(cluster, member)) {
        struct operation *put = cluster_put(cluster, member);
        while (put->state == OPERATION_OPEN && cluster_step(cluster, until_ns))
            continue;
        if (put->state == OPERATION_DONE)
            return;
        if (cluster->now_ns >= until_ns)
            cluster_fail(cluster, "no put through member %u succeeds: %s", member,
                         api_error_text(put->error));
        cluster_run(cluster, 10 * NS_PER_MS);
    }
}

void cluster_heal(struct cluster *cluster)
{
    for (uint32_t i = 0; i < CLUSTER_MEMBERS_MAX; i++) {
        struct cluster_member *m = &cluster->members[i];
        for (uint32_t j = 0; j < CLUSTER_MEMBERS_MAX; j++) {
            struct network_link *link = network_link(cluster->network, i, j);
            link->cut = false;
            link->loss_permille = 0;
        }
        m->stall_until_ns = 0;
        m->paused_until_ns = 0;
        if (!m->exists)
            continue;
        fake_disk_fail_at(m->disk, UINT64_MAX, ST_OK);
        fake_disk_set_capacity(m->disk, UINT64_MAX);
        if (cluster->options.backend == NULL) {
            backend_mem_fail_at(m->store_path, 0, ST_OK, false);
            backend_mem_set_full(m->store_path, false);
        }
        if (!m->running && !m->removed)
            cluster_start(cluster, i);
    }
}

void cluster_settle(struct cluster *cluster)
{
    cluster_heal(cluster);
    cluster_wait_for_leader(cluster);
    for (uint32_t i = 0; i < CLUSTER_MEMBERS_MAX; i++)
        put_through(cluster, i);
    cluster_until(cluster, all_applied_alike, NULL, 60 * NS_PER_S, "all members apply the same");
    compare_states(cluster);
}
