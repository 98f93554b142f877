/* server/state/corruption.h - do the members hold the same data? Hashes of one revision are
 * compared; who asks for them, and how, is handed in. Runs on a thread that may wait.
 *
 * Two hashes are comparable when both members had compacted to the same revision: what lies below
 * may be gone on one of them. */
#ifndef SERVER_STATE_CORRUPTION_H
#define SERVER_STATE_CORRUPTION_H
#include "base/arena.h"
#include "base/buf.h"
#include "server/state/error.h"
#include "server/state/members.h"

/* A member's answer to "what is your hash at this revision?". */
struct hash_answer {
    raft_id member;
    enum api_error error; /* API_OK: the rest holds; API_FUTURE_REVISION: it is behind;
                             API_COMPACTED: the asker is; else it did not answer */
    uint32_t hash;
    int64_t current_revision, compact_revision; /* the member's when it computed it */
};

/* What the checks need. All may wait; none is called by two threads at once. */
struct corruption_source {
    /* This member's own; revision 0: the current one. */
    enum api_error (*own)(void *context, int64_t revision, struct hash_answer *out);
    /* Asks all other members (GET /members/hashkv), at the same time if it can; gives their number.
     * What cannot be reached has an error. */
    uint32_t (*others)(void *context, int64_t revision, struct hash_answer out[MEMBERS_MAX]);
    /* Returns when everything is applied here that was committed when it was called. */
    enum api_error (*catch_up)(void *context);
    void *context;
};

/* What a check found. */
struct corruption {
    /* Members whose data is not that of the others, each once; 0: it is not known whose. For each a
     * CORRUPT alarm is to be raised. */
    raft_id odd[MEMBERS_MAX + 1];
    uint32_t odd_count;
    uint32_t compared_count; /* other members whose answer could be judged */
    const char *why;         /* constant, of the first; NULL: nothing was found */
};

/* Before a member serves: compares it with those that answer. A member that differs from one of
 * them must not start (etcd: "<id> found data inconsistency with peers"). Errors: of own. */
enum api_error corruption_check_initial(const struct corruption_source *source,
                                        struct corruption *out);
/* From time to time, by the leader. Errors: of own and of catch_up; nothing is judged then. */
enum api_error corruption_check_periodic(const struct corruption_source *source,
                                         struct corruption *out);

/* ---- GET /members/hashkv ---- */

/* {"revision":N}. Errors: ST_INVALID; ST_TOO_BIG (limits.h). */
CHECKED enum status hash_request_encode(int64_t revision, struct buf *out);
CHECKED enum status hash_request_decode(struct slice json, struct arena *arena,
                                        int64_t *revision_out);
/* {"header":{"revision":R},"hash":H,"compact_revision":C}, status 200. Appends. */
CHECKED enum status hash_answer_encode(const struct hash_answer *answer, struct buf *out);
/* The text of an error, status 400: "mvcc: required revision is a future revision" and the like. */
const char *hash_error_text(enum api_error error);
/* Reads either by the status; what is neither is API_UNHEALTHY. member is the caller's to set. */
void hash_answer_decode(uint32_t http_status, struct slice body, struct arena *arena,
                        struct hash_answer *out);
#endif
