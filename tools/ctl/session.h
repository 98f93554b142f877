/* tools/ctl/session.h - a lease that is kept alive, and what lock and elect do with it: keys below
 * a name, in the order of their creation. Errors are texts, told to the user by the command; NULL
 * is success. Texts are static or in ctl->arena. */
#ifndef TOOLS_CTL_SESSION_H
#define TOOLS_CTL_SESSION_H
#include "tools/client/keepalive.h"
#include "tools/client/watches.h"
#include "tools/ctl/ctl.h"

struct session {
    struct ctl *ctl; /* borrowed */
    int64_t lease;
    struct keepalive *keepalive;
    struct watches *watches;
    char *prefix;     /* "name/" */
    char *key;        /* ours below it; in the cli's arena, like prefix */
    int64_t revision; /* of our key's creation */
};

/* Grants a lease of that time and begins to keep it alive. In every case session_close() ends
 * *out. */
const char *session_open(struct ctl *ctl, const char *name, int64_t ttl_s, struct session *out);
void session_close(struct session *session); /* does not revoke the lease */

/* From now on SIGINT and SIGTERM set ctl_stop instead of ending the program. */
void session_catch_signals(void);

/* Waits at most timeout_ms, keeping the lease alive. */
const char *session_turn(struct session *session, uint64_t timeout_ms);
/* The lease is gone. */
bool session_is_over(const struct session *session);

/* Puts our key with that value, or finds it there. *out is the answer, its first response the one
 * to the put or the get; with_owner adds a second one: the oldest key below the name. */
const char *session_put_key(struct session *session, const char *value, bool with_owner,
                            const Etcdserverpb__TxnResponse **out);
/* The answer to a transaction's nth request, when that was a range; else NULL. */
const Etcdserverpb__RangeResponse *session_range_answer(const Etcdserverpb__TxnResponse *answer,
                                                        size_t number);
/* Waits until there is no key below the name that is older than ours. */
const char *session_wait_turn(struct session *session);
/* Deletes our key, only as we made it when `exactly`. A signal before this does not hinder it. */
const char *session_delete_key(struct session *session, bool exactly);
/* The key, or the oldest below the name. */
const char *session_get(struct session *session, const Etcdserverpb__RangeResponse **out);
const char *session_get_oldest(struct session *session, const Etcdserverpb__RangeResponse **out);
#endif
