/* server/services/lease_private.h - what the files about leases share. */
#ifndef SERVER_SERVICES_LEASE_PRIVATE_H
#define SERVER_SERVICES_LEASE_PRIVATE_H
#include "server/loops/leases.h"
#include "server/services/services_private.h"

bool leads(const struct services *services); /* as far as this member knows */

/* ---- lease_forward.c: questions to the leader over its peer port ---- */

#define LEASE_RENEWAL_PATH "/leases"
#define LEASE_TTL_PATH "/leases/internal"

void post_to_leader(const struct services *services, struct leader_post *post);
/* Whether an error here is no answer, since another member may lead. */
bool lease_asks_again(enum api_error error);

/* The questions, in arena. Errors: ST_TOO_BIG (the arena's cap). */
CHECKED enum status lease_ttl_question(lease_id id, bool keys, struct arena *arena,
                                       struct slice *out);
#define LEASE_RENEWAL_BYTES_MAX (1 + VARINT_BYTES_MAX)
size_t lease_renewal_question(lease_id id, uint8_t out[LEASE_RENEWAL_BYTES_MAX]);
/* Reads an answer: false: it is none, ask again. Else *error is API_OK and out is filled (keys are
 * copies in arena), or it is API_LEASE_NOT_FOUND or what became of this member. */
bool lease_ttl_answered(uint32_t status, struct slice body, lease_id id, struct arena *arena,
                        struct lease_view *out, enum api_error *error);
bool lease_renewal_answered(uint32_t status, struct slice body, lease_id id, int64_t *ttl_s_out,
                            enum api_error *error);

/* ---- lease_keep_alive.c ---- */
void on_keep_alive_open(struct rpc_call *call);
void on_keep_alive_message(struct rpc_call *call, struct slice message);
void on_keep_alive_cancel(struct rpc_call *call);
void on_keep_alive_sent(struct rpc_call *call);
#endif
