/* tests/server_services/fixture.h - the services over a state machine in memory, with actors that
 * answer on the spot. */
#ifndef TESTS_SERVER_SERVICES_FIXTURE_H
#define TESTS_SERVER_SERVICES_FIXTURE_H
#include "base/rng.h"
#include "server/loops/export.h"
#include "server/loops/request.h"
#include "server/rpc/rpc.h"
#include "server/services/services.h"
#include "tests/server_state/harness.h"

#define FAKE_MESSAGES_MAX 16U

#define LONG_READER 3U

/* Proposals and changes are applied at once; reads get reader slot 1; an error set before is the
 * answer to all. */
struct loops {
    struct harness *harness;
    enum api_error refuse;
    bool is_follower, is_learner, is_quarantined;
    raft_index match, leader_match; /* of any member that is in the table */
    uint32_t proposals, reads, local_reads, long_reads, whole_reads, changes, transfers;
    raft_id transferee;
    raft_index applied; /* as it is told; 0: 8 */
    uint64_t ids, deadline_ns;
    uint64_t now_ns;           /* of leases */
    struct slice export_bytes; /* what exports give */
    uint32_t export_parts;     /* then it ends with refuse; 0: whole */
    uint32_t exports_canceled, defragments;
};

struct fake_call {
    struct rpc_call call;
    struct arena arena;
    uint32_t finished;
    bool later;
    enum rpc_code code;
    char text[256];
    struct slice message;
    struct slice sent[FAKE_MESSAGES_MAX]; /* copies in the harness' arena */
    uint32_t sent_count;
    bool in_flight, again;
    uint32_t refs;
};

struct fixture {
    struct harness harness;
    struct loops loops;
    struct services *services;
    enum status health;
    struct watch_hub *watch; /* NULL: none; whose it is steps it, and opens the services anew */
    struct fake_call call;
    bool strict_reconfig;
    const char *connections; /* one character for a member, from id 1: '+' connected well */
    uint32_t forwards;
    enum api_error forward_error; /* what the leader says to a promotion */
    const char *forward_members;
    uint32_t posts, post_status; /* what the leader's peer port says; 0: */
    struct slice post_body;
    enum api_error post_error;
    struct rpc_metadata metadata; /* of the next calls; an empty key: none */
    size_t arena_bytes;           /* that a call may take; 0: plenty */
    struct services_auth auth;    /* passwords are cheap */
    struct rng rng;
};

/* (Re)opens them; 0: the default, not known. */
void open_services(struct fixture *fixture, uint64_t quota_bytes, uint64_t memory_bytes);
void fixture_init(struct fixture *fixture);
void fixture_deinit(struct fixture *fixture);
/* Of a test. */
int fixture_setup(void **state);
int fixture_teardown(void **state);

const struct rpc_method *find_method(const struct fixture *fixture, const char *path,
                                     void **service_out);
/* Calls a method and sees that it is answered exactly once; what it sends in between leaves at
 * once, and who sends is canceled when it has no more to say. A stream of the client is only opened
 * when message has no data. */
struct fake_call *call(struct fixture *fixture, const char *path, struct slice message);
void let_leave(struct fixture *fixture); /* what was sent, and what follows it */
void cancel(struct fixture *fixture);
void assert_error(const struct fake_call *got, enum api_error error);
/* Decodes the last answer into the harness' arena. */
const void *decode(struct fixture *fixture, const ProtobufCMessageDescriptor *descriptor);

#define FIXTURE_TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
#endif
